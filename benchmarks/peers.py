"""regdyn and its competitors on one problem: Adam with L2 under Gaussian gradients, in float64.

A variant makes a run for a number of trajectories and steps, compiled and warmed up. A run starts at
theta0 = 1, draws its noise, and returns theta of every trajectory after the last step.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from measure import Run, processors
from numpy.typing import NDArray

import regdyn

LR, BETA1, BETA2, EPS, LAM, SIGMA = 1e-3, 0.9, 0.99, 1e-8, 1e-4, 1e-5

BLOCK = 256
"""Lanes that share a block in the blocked loops below."""

SLICE = 16_384
"""Trajectories that NumPy handles at a time: its five arrays then fit into the second-level cache."""

POOL = ThreadPoolExecutor(processors())


@dataclass(frozen=True)
class Variant:
    """One way to write a competitor: `make` compiles and warms up a run of this size."""

    label: str
    make: Callable[[int, int], Run]


def timed(run: Callable[[int], NDArray]) -> Run:
    """`run` with its seconds, after one run that warms it up."""
    run(0)

    def timed_run(seed: int) -> tuple[float, NDArray]:
        begin = time.perf_counter()
        theta = run(seed)
        return time.perf_counter() - begin, theta

    return timed_run


def factors(steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Adam's step as theta -= size m / (sqrt(v) + eps): size and eps of each step."""
    t = np.arange(1, steps + 1)
    root = np.sqrt(1.0 - BETA2**t)
    return LR * root / (1.0 - BETA1**t), EPS * root


# regdyn, and its seven rules with the numbers of their namesakes in optax.

ADAM = regdyn.Adam(lr=LR, beta1=BETA1, beta2=BETA2, eps=EPS)

RULES: dict[str, Any] = {
    "adam": ADAM,
    "sgd": regdyn.SGD(lr=0.1, momentum=0.9),
    "amsgrad": regdyn.AMSGrad(lr=LR, beta1=BETA1, beta2=BETA2, eps=EPS, max_after_correction=True),
    "adamax": regdyn.AdaMax(lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8),
    "adagrad": regdyn.Adagrad(lr=1e-2, eps=0.0, eps_root=1e-7, initial_accumulator=0.1),
    "adadelta": regdyn.Adadelta(lr=1.0, rho=0.9, eps=1e-6),
    "rmsprop": regdyn.RMSProp(lr=LR, alpha=0.99, eps=1e-8),
}


def optax_rule(name: str) -> Any:
    """The namesake of `RULES[name]`."""
    import optax

    return {
        "adam": lambda: optax.adam(LR, BETA1, BETA2, EPS),
        "sgd": lambda: optax.sgd(0.1, momentum=0.9),
        "amsgrad": lambda: optax.amsgrad(LR, BETA1, BETA2, EPS),
        "adamax": lambda: optax.adamax(2e-3, 0.9, 0.999, 1e-8),
        "adagrad": lambda: optax.adagrad(1e-2, 0.1, 1e-7),
        "adadelta": lambda: optax.adadelta(1.0, 0.9, 1e-6),
        "rmsprop": lambda: optax.rmsprop(LR, 0.99, 1e-8, eps_in_sqrt=False),
    }[name]()


def regdyn_run(trajectories: int, steps: int, rule: Any = ADAM, threads: int | None = None) -> Run:
    """regdyn, its statistics taken after the last step; its seconds leave out compilation.

    First passage and time below the threshold are counted at every step even so. Like the competitors
    it hands over the final weights.
    """

    def run(seed: int) -> tuple[float, NDArray]:
        config = regdyn.ScalarConfig(
            optimizer=rule, lam=LAM, noise=regdyn.Gaussian(SIGMA), theta0=1.0, dtype="float64",
            steps=steps, trajectories=trajectories, seed=seed, times=[steps],
        )  # fmt: skip
        result = config.run(threads=threads)
        return result.seconds, result.final

    return run


# optax


def optax_variant(generator: str, devices: int, rule: str = "adam") -> Variant:
    """lax.scan over the steps, jitted; of several devices each takes a share of the lanes."""
    # Read when jax is first imported: XLA gives one processor to elementwise loops of one device.
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={processors()}")
    import jax
    import optax

    jax.config.update("jax_enable_x64", True)

    def make(trajectories: int, steps: int) -> Run:
        transform = optax.chain(optax.add_decayed_weights(LAM), optax_rule(rule))
        lanes = trajectories // devices

        def simulate(key: Any) -> Any:
            theta = jax.numpy.ones(lanes)

            def step(carry: Any, _: None) -> Any:
                theta, state, key = carry
                key, subkey = jax.random.split(key)
                gradient = SIGMA * jax.random.normal(subkey, (lanes,), theta.dtype)
                update, state = transform.update(gradient, state, theta)
                return (optax.apply_updates(theta, update), state, key), None

            carry = theta, transform.init(theta), key
            return jax.lax.scan(step, carry, length=steps)[0][0]

        one = jax.jit(simulate)
        many = jax.pmap(simulate, devices=jax.devices()[:devices])

        def run(seed: int) -> NDArray:
            key = jax.random.key(seed, impl=generator)
            theta = one(key) if devices == 1 else many(jax.random.split(key, devices))
            return np.asarray(theta).reshape(-1)

        return timed(run)

    return Variant(f"{generator}, {devices} device{'s' * (devices > 1)}", make)


# torch


def torch_variant(threads: int) -> Variant:
    """torch.optim.Adam(fused=True) over one vector, its gradient drawn in place."""
    import torch

    def make(trajectories: int, steps: int) -> Run:
        def run(seed: int) -> NDArray:
            torch.set_num_threads(threads)
            torch.manual_seed(seed)
            theta = torch.nn.Parameter(torch.ones(trajectories, dtype=torch.float64))
            theta.grad = gradient = torch.empty_like(theta)
            optimizer = torch.optim.Adam(
                [theta], lr=LR, betas=(BETA1, BETA2), eps=EPS, weight_decay=LAM, fused=True
            )
            for _ in range(steps):
                # One pass over memory where torch.randn and a product would take two.
                gradient.normal_(0.0, SIGMA)
                optimizer.step()
            return theta.detach().numpy()

        return timed(run)

    return Variant(f"{threads} thread{'s' * (threads > 1)}", make)


# NumPy


def _numpy_slice(theta: NDArray, bits: np.random.BitGenerator, steps: int) -> None:
    draw = np.random.Generator(bits).standard_normal
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    g, work = np.empty_like(theta), np.empty_like(theta)
    for size, eps in zip(*(factor.tolist() for factor in factors(steps))):
        draw(out=g)
        g *= SIGMA
        g += np.multiply(theta, LAM, out=work)
        m *= BETA1
        m += np.multiply(g, 1.0 - BETA1, out=work)
        v *= BETA2
        g *= g
        g *= 1.0 - BETA2
        v += g
        np.sqrt(v, out=work)
        work += eps
        np.divide(m, work, out=work)
        work *= size
        theta -= work


def numpy_plain() -> Variant:
    """Vectorised over all trajectories, in place, with NumPy's default generator."""

    def make(trajectories: int, steps: int) -> Run:
        def run(seed: int) -> NDArray:
            theta = np.ones(trajectories)
            _numpy_slice(theta, np.random.PCG64(seed), steps)
            return theta

        return timed(run)

    return Variant("PCG64, whole arrays", make)


def numpy_tuned(threads: int) -> Variant:
    """Over slices that fit into a cache, on threads (NumPy lets go of the GIL), a faster generator."""

    def make(trajectories: int, steps: int) -> Run:
        def run(seed: int) -> NDArray:
            theta = np.ones(trajectories)
            width = min(SLICE, -(-trajectories // threads))
            parts = [theta[i : i + width] for i in range(0, trajectories, width)]
            bits = [np.random.SFC64(part) for part in np.random.SeedSequence(seed).spawn(len(parts))]
            if threads == 1:
                for part, part_bits in zip(parts, bits):
                    _numpy_slice(part, part_bits, steps)
            else:
                list(POOL.map(_numpy_slice, parts, bits, [steps] * len(parts)))
            return theta

        return timed(run)

    return Variant(f"SFC64, slices, {threads} thread{'s' * (threads > 1)}", make)


# numba


@numba.njit(parallel=True, fastmath=True, error_model="numpy")
def _numba_plain(theta: Any, size: Any, eps: Any) -> None:
    for i in numba.prange(len(theta)):
        x, m, v = theta[i], 0.0, 0.0
        for t in range(len(size)):
            g = np.random.normal(0.0, SIGMA) + LAM * x
            m = BETA1 * m + (1.0 - BETA1) * g
            v = BETA2 * v + (1.0 - BETA2) * (g * g)
            x -= size[t] * m / (math.sqrt(v) + eps[t])
        theta[i] = x


@numba.njit(parallel=True, fastmath=True, error_model="numpy")
def _numba_blocked(theta: Any, size: Any, eps: Any) -> None:
    for block in numba.prange(len(theta) // BLOCK):
        x = theta[block * BLOCK : (block + 1) * BLOCK]
        m, v, z = np.zeros(BLOCK), np.zeros(BLOCK), np.empty(BLOCK)
        for t in range(len(size)):
            for i in range(BLOCK):
                z[i] = np.random.normal(0.0, SIGMA)
            for i in range(BLOCK):
                g = z[i] + LAM * x[i]
                m[i] = BETA1 * m[i] + (1.0 - BETA1) * g
                v[i] = BETA2 * v[i] + (1.0 - BETA2) * (g * g)
                x[i] -= size[t] * m[i] / (math.sqrt(v[i]) + eps[t])


def numba_variant(label: str, kernel: Callable[..., None]) -> Variant:
    """prange over trajectories, or over blocks of them so that the update vectorises."""

    def make(trajectories: int, steps: int) -> Run:
        size, eps = factors(steps)

        def run(_: int) -> NDArray:
            # numba gives each of its threads a generator that the system has seeded.
            theta = np.ones(trajectories)
            kernel(theta, size, eps)
            return theta

        return timed(run)

    return Variant(label, make)


# The limit


@numba.njit(fastmath={"contract", "nsz"}, error_model="numpy", nogil=True)
def _bare_adam(rows: Any, noise: Any, size: Any, eps: Any, first: int, last: int) -> None:
    for block in range(first, last):
        row = rows[block]
        theta, m, v = row[:BLOCK], row[BLOCK : 2 * BLOCK], row[2 * BLOCK :]
        for t in range(len(size)):
            step_size, step_eps = size[t], eps[t]
            for i in range(BLOCK):
                x = theta[i]
                g = SIGMA * noise[i] + LAM * x
                mean = BETA1 * m[i] + (1.0 - BETA1) * g
                square = BETA2 * v[i] + (1.0 - BETA2) * (g * g)
                m[i] = mean
                v[i] = square
                theta[i] = x - step_size * mean / (math.sqrt(square) + step_eps)


def _aligned_zeros(rows: int, columns: int) -> NDArray[np.float64]:
    raw = np.zeros(rows * columns * 8 + 64, dtype=np.uint8)
    offset = -raw.ctypes.data % 64
    return raw[offset : offset + rows * columns * 8].view(np.float64).reshape(rows, columns)


def limit_variant(threads: int) -> Variant:
    """Adam with L2 and nothing else: the noise is one row that stays in the first-level cache."""

    def make(trajectories: int, steps: int) -> Run:
        size, eps = factors(steps)
        noise = _aligned_zeros(1, BLOCK)[0]
        noise[:] = np.random.default_rng(0).standard_normal(BLOCK)
        blocks = trajectories // BLOCK
        edges = np.linspace(0, blocks, min(blocks, 4 * threads) + 1).astype(int)

        def run(_: int) -> NDArray:
            rows = _aligned_zeros(blocks, 3 * BLOCK)
            rows[:, :BLOCK] = 1.0
            if threads == 1:
                _bare_adam(rows, noise, size, eps, 0, blocks)
            else:
                futures = [
                    POOL.submit(_bare_adam, rows, noise, size, eps, int(a), int(b))
                    for a, b in pairwise(edges)
                ]
                for future in futures:
                    future.result()
            return rows[:, :BLOCK].reshape(-1)

        return timed(run)

    return Variant(f"{threads} thread{'s' * (threads > 1)}", make)


def limit_instructions() -> str:
    """The square roots and divisions that the bare loop was compiled to, "vsqrtpd ymm" and the like."""
    assembly = "\n".join(_bare_adam.inspect_asm().values())
    x86 = re.findall(r"\b(v(?:sqrt|div)pd)\s.*%([xyz]mm)\d+\s*$", assembly, re.MULTILINE)
    arm = re.findall(r"\b(f(?:sqrt|div))\s+v\d+\.(2d)", assembly)
    return ", ".join(sorted({" ".join(pair) for pair in x86 + arm})) or "no vector ones: not a limit"


TUNED = ", tuned"
"""Ends the name of a competitor written by somebody who knows the machine."""


def competitors() -> dict[str, list[Variant]]:
    """Every competitor that is installed here: as its documentation has it, and tuned."""
    threads = sorted({1, processors()})
    found = {
        "NumPy": [numpy_plain()],
        f"NumPy{TUNED}": [numpy_tuned(k) for k in threads],
        "numba": [numba_variant("prange over trajectories", _numba_plain)],
        f"numba{TUNED}": [numba_variant("prange over blocks", _numba_blocked)],
    }
    if find_spec("torch"):
        found["torch"] = [torch_variant(k) for k in threads]
    if find_spec("jax") and find_spec("optax"):
        found["optax"] = [optax_variant("threefry2x32", 1)]
        found[f"optax{TUNED}"] = [
            optax_variant(generator, k)
            for generator in ("threefry2x32", "rbg")
            for k in threads
            if (generator, k) != ("threefry2x32", 1)
        ]
    return found

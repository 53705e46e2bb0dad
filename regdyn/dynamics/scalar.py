"""One weight under low-gradient noise and decay: the configuration and its simulation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.dynamics import random
from regdyn.dynamics._scalar_kernel import advance
from regdyn.dynamics.engine import BATCH, Batch, Call, Progress, aligned_empty
from regdyn.dynamics.ensemble import (
    EnsembleConfig,
    EnsembleSystem,
    nothing,
    run_system,
)
from regdyn.dynamics.noise import BurnIn, Gated, Gaussian, Noise, NoNoise, Signal, StudentT, Trace
from regdyn.dynamics.random import CHUNK, LANES, STREAMS, WORDS
from regdyn.dynamics.result import ScalarResult
from regdyn.dynamics.tables import Tables
from regdyn.errors import InvalidParameter
from regdyn.optimizers import Optimizer
from regdyn.parameters import check_number


@dataclass(frozen=True, kw_only=True)
class ScalarConfig(EnsembleConfig):
    """One weight: update rule, decay, gradients, and what to look at.

    At step t = 1 … `steps`, with z_t from `noise` and (l2, before, after) from `regularization`,

        g = sigma_t z_t + h (theta - target) + l2 theta
        theta = after * rule(before * theta, g)

    A weight with |theta| < `threshold` counts as dead (mehta2019: 1e-3).

    Parameters
    ----------
    noise, signal
        The gradient of the loss.
    theta0
        Start of the weight: a number, or an array with one for each trajectory.
    others
        See `EnsembleConfig`.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.
    """

    n_parameters: ClassVar[int] = 1
    n_observables: ClassVar[int] = 1

    noise: Noise = field(default_factory=Gaussian)
    signal: Signal = field(default_factory=Signal)
    theta0: ArrayLike = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        theta0 = self.theta0
        if not isinstance(theta0, (np.ndarray, list, tuple)):
            theta0 = check_number("theta0", theta0, "(-inf, inf)")
        self._store("theta0", self._checked_start("theta0", theta0))
        if not isinstance(self.signal, Signal):
            raise InvalidParameter("signal", "a Signal", self.signal)
        noise_code(self.noise)
        if isinstance(self.noise, Trace):
            self.noise.check_shape(self.steps, self.trajectories)

    def run(
        self,
        *,
        threads: int | None = None,
        batch_size: int = BATCH,
        progress: Progress | None = None,
        notify_compile: Callable[[], None] = nothing,
    ) -> ScalarResult:
        """Simulate the ensemble.

        Neither `threads` nor `batch_size` changes a bit of the result. `progress` is told how many
        trajectory-steps have been done, `notify_compile` is called once if a kernel must be compiled.
        """
        self.check_room()
        system = self.system([self])
        run = run_system(system, self, threads, batch_size, progress, notify_compile)
        return ScalarResult.collect(self, run, **system.leavings())

    def system(self, configs: Sequence[ScalarConfig], width: int = LANES) -> ScalarSystem:
        return ScalarSystem(configs, width)

    @property
    def kernel_key(self) -> Hashable:
        trace = id(self.noise) if isinstance(self.noise, Trace) else None
        return super().kernel_key, noise_code(self.noise), trace


def simulate(optimizer: Optimizer | str = "adam", *, threads: int | None = None,
             progress: Progress | None = None, **config: Any) -> ScalarResult:  # fmt: skip
    """Simulate the decay of one weight: `ScalarConfig(optimizer=…, **config).run(…)`.

    >>> import regdyn
    >>> result = regdyn.simulate("adam", lam=1e-4, steps=2000, trajectories=256)
    >>> result.first_passage.shape
    (256,)
    """
    return ScalarConfig(optimizer=optimizer, **config).run(threads=threads, progress=progress)


def sample_noise(noise: Noise, steps: int, trajectories: int, seed: int = 0) -> NDArray[np.float64]:
    """What `noise` sends to trajectories 0 … trajectories - 1: an array (steps, trajectories).

    The very numbers that a simulation with this seed uses: sigma_t * z_t for steps 1 … `steps`.
    """
    blocks = -(-trajectories // LANES)
    kind, parameter = noise_code(noise)
    values = np.zeros((-(-steps // CHUNK) * CHUNK, blocks * LANES))
    z = np.zeros(CHUNK * LANES)
    words = np.zeros(WORDS, np.uint64)
    streams = np.zeros((blocks, 4 * STREAMS), np.uint64)
    random.start_streams(np.uint64(seed), np.uint64(0), np.uint64(STREAMS), streams)
    trace = trace_rows(noise, 0, steps)
    for block in range(blocks):
        lanes = slice(block * LANES, (block + 1) * LANES)
        for start in range(0, steps, CHUNK):
            random.fill(kind, parameter, streams[block], words, trace, start, block * LANES, z)
            values[start : start + CHUNK, lanes] = z.reshape(CHUNK, LANES)
    t = np.arange(1, steps + 1)
    return values[:steps, :trajectories] * noise_stds(noise)(t)[:, None]


def noise_code(noise: Noise) -> tuple[int, float]:
    """The kernel's number for a gradient model and the one parameter that it takes."""
    if isinstance(noise, Gaussian):
        return random.NOISE_GAUSSIAN, 0.0
    if isinstance(noise, Gated):
        return random.NOISE_GATED, noise.p
    if isinstance(noise, StudentT):
        return random.NOISE_STUDENT, noise.dof
    if isinstance(noise, Trace):
        return random.NOISE_TRACE, 0.0
    if isinstance(noise, NoNoise):
        return random.NOISE_NONE, 0.0
    raise InvalidParameter("noise", "a gradient model of regdyn.dynamics.noise", noise)


def noise_stds(noise: Noise) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """The factor on z_t, a function of the steps t."""
    if isinstance(noise, (Trace, NoNoise)):
        return _UNIT
    return noise.sigma  # type: ignore[return-value]


_UNIT = BurnIn(late=1.0, early=1.0, steps=0)


def trace_rows(noise: Noise, start: int, stop: int) -> NDArray[np.float64]:
    """Steps start + 1 … stop of a trace; a placeholder for the other models."""
    if isinstance(noise, Trace):
        return np.array(noise.values[start:stop], dtype=np.float64, order="C", subok=False)
    return np.zeros((1, 1))


class ScalarSystem(EnsembleSystem):
    """Weights as the driver wants them; see `EnsembleSystem`."""

    def __init__(self, configs: Sequence[ScalarConfig], width: int = LANES) -> None:
        super().__init__(configs, width)
        self._noise = noise_code(configs[0].noise)
        lanes = slice(0, self._first.shape[1])
        for first, config in zip(self._first, configs):
            (start,) = self.start_values(config, lanes)
            first[np.broadcast_to(np.abs(start) < config.threshold, first.shape)] = 0
        self._kept[:1, :, 0] = np.broadcast_to(start, first.shape)[: configs[0].keep]

    def own_numbers(self, config: ScalarConfig) -> tuple[float, ...]:
        return config.signal.strength, config.signal.target, config.threshold

    def start_values(self, config: ScalarConfig, lanes: slice) -> tuple[Any, ...]:
        return (self.of_lanes(config.theta0, lanes),)

    def noise_stds(self, config: ScalarConfig) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
        return noise_stds(config.noise)

    def trace(self, call: Call) -> NDArray[np.float64]:
        return trace_rows(self._configs[0].noise, call.t0, call.t0 + call.length)

    def advance(
        self, batch: Batch, call: Call, tables: Tables, blocks: slice, snapshots: NDArray
    ) -> None:
        number, lanes = self.dtype.type, batch.lanes
        z = aligned_empty((CHUNK * LANES,), self.dtype)
        history = aligned_empty((CHUNK * self.width,), self.dtype)
        words = aligned_empty((WORDS,), np.uint64)
        codes = aligned_empty((self.width,), np.int64)
        advance(
            self.rule, batch.rows, batch.streams, words, z, history, codes, blocks.start, blocks.stop,
            call.t0, call.length, tables.constants, tables.scales, tables.decays, tables.which,
            self._own, *self._noise, tables.trace, batch.first,
            number(self.tiny), number(self.overflow), self._units,
            self._first[:, lanes], self._count[:, lanes], self._diverged[:, lanes],
            self._flushed[:, batch.blocks], call.records, snapshots, self.paths(call)[:, :, 0],
        )  # fmt: skip

    def leavings(self) -> dict[str, Any]:
        """What the trajectories of the only point left behind, as `ScalarResult` names it."""
        real = 0, slice(self._configs[0].trajectories)
        return {
            "final": self._final[0][real],
            "first_passage": self._first[real],
            "steps_below": self._count[real],
            "diverged": self._diverged[real],
            "flushed": int(self.first_flush[0]),
            "paths": self._kept[:, :, 0],
        }

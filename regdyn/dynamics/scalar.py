"""One weight under low-gradient noise and decay: the configuration and its simulation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.dynamics import random
from regdyn.dynamics._jit import on_compile
from regdyn.dynamics._scalar_kernel import advance
from regdyn.dynamics.engine import (
    BATCH,
    Batch,
    Call,
    Progress,
    aligned_empty,
    check_memory,
    compile_kernels,
    drive,
    thread_count,
)
from regdyn.dynamics.noise import Gated, Gaussian, Noise, NoNoise, Signal, StudentT, Trace
from regdyn.dynamics.observables import N_BINS, check_times
from regdyn.dynamics.per_step import non_negative
from regdyn.dynamics.random import CHUNK, LANES, STREAMS, WORDS
from regdyn.dynamics.result import ScalarResult
from regdyn.dynamics.schedules import Constant, Schedule
from regdyn.errors import InvalidParameter
from regdyn.optimizers import REGULARIZATIONS, Optimizer, decay_placement, make_optimizer
from regdyn.parameters import check_choice, check_integer, check_number

MAX_COUNT = 10**12

DTYPES: dict[str, np.dtype[Any]] = {"float64": np.dtype(np.float64), "float32": np.dtype(np.float32)}

# |theta| above this has diverged: its square, which enters v and the std, leaves the type.
OVERFLOW = {"float64": 1e150, "float32": 1e18}

# Numbers below this are set to 0 every CHUNK steps: arithmetic on denormals is 12 times slower.
TINY = {"float64": 2.0**-1000, "float32": 2.0**-120}

_COMPILED: set[tuple[str, str]] = set()


@dataclass(frozen=True, kw_only=True)
class ScalarConfig:
    """One weight: update rule, decay, gradients, and what to look at.

    At step t = 1 … `steps`, with z_t from `noise` and (l2, before, after) from `regularization`,

        g = sigma_t z_t + h (theta - target) + l2 theta
        theta = after * rule(before * theta, g)

    Parameters
    ----------
    optimizer
        The update rule with its hyperparameters, or a name for its defaults.
    lam
        Strength of the decay, lambda >= 0.
    regularization
        Placement of the decay: a key of `regdyn.optimizers.REGULARIZATIONS`.
    schedule
        Factor on the learning rate at each step.
    noise, signal
        The gradient of the loss.
    theta0
        Start of the weight.
    steps, trajectories
        Length and size of the ensemble.
    threshold
        A weight with |theta| < threshold counts as dead (mehta2019: 1e-3).
    times
        Steps at which moments and quantiles are taken; 20 per decade where None.
    keep
        How many of the first trajectories to keep whole, in memory of steps * keep numbers.
    dtype
        "float64" or "float32".
    seed
        Key of the random streams; the same seed gives every configuration the same noise.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.
    """

    optimizer: Optimizer | str = "adam"
    lam: float = 1e-4
    regularization: str = "l2"
    schedule: Schedule = field(default_factory=Constant)
    noise: Noise = field(default_factory=Gaussian)
    signal: Signal = field(default_factory=Signal)
    theta0: float = 1.0
    steps: int = 10_000
    trajectories: int = 4096
    threshold: float = 1e-3
    times: ArrayLike | None = None
    keep: int = 0
    dtype: str = "float64"
    seed: int = 0

    def __post_init__(self) -> None:
        def store(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        if isinstance(self.optimizer, str):
            store("optimizer", make_optimizer(self.optimizer))
        elif not isinstance(self.optimizer, Optimizer):
            raise InvalidParameter("optimizer", "a name or an Optimizer", self.optimizer)
        store("lam", check_number("lam", self.lam, "[0, inf)"))
        store("regularization", check_choice("regularization", self.regularization, REGULARIZATIONS))
        store("theta0", check_number("theta0", self.theta0, "(-inf, inf)"))
        store("steps", check_integer("steps", self.steps, 1, MAX_COUNT))
        store("trajectories", check_integer("trajectories", self.trajectories, 1, MAX_COUNT))
        store("threshold", check_number("threshold", self.threshold, "(0, inf)"))
        store("times", check_times(self.times, self.steps))
        store("keep", check_integer("keep", self.keep, 0, self.trajectories))
        store("dtype", check_choice("dtype", self.dtype, DTYPES))
        store("seed", check_integer("seed", self.seed, 0, 2**64 - 1))
        if abs(self.theta0) > OVERFLOW[self.dtype]:
            raise InvalidParameter("theta0", f"at most {OVERFLOW[self.dtype]:g}", self.theta0)
        if not callable(self.schedule):
            raise InvalidParameter("schedule", "a schedule of regdyn or a function", self.schedule)
        if not isinstance(self.signal, Signal):
            raise InvalidParameter("signal", "a Signal", self.signal)
        noise_code(self.noise)
        if isinstance(self.noise, Trace):
            self.noise.check_shape(self.steps, self.trajectories)

    def memory(self) -> int:
        """Bytes that a run needs at its peak, about."""
        item = DTYPES[self.dtype].itemsize
        lanes = -(-min(self.trajectories, BATCH) // LANES) * LANES
        times = len(np.asarray(self.times))
        per_lane = 5 * item + 4 * 8 + 16 * item + 2 * 32
        whole = (3 * 8 + item) * self.trajectories + item * self.keep * (self.steps + 1)
        return whole + lanes * per_lane + times * (N_BINS + 5) * 8 * 2 + 2**24

    def run(
        self,
        *,
        threads: int | None = None,
        batch_size: int = BATCH,
        progress: Progress | None = None,
        notify_compile: Callable[[], None] = lambda: None,
    ) -> ScalarResult:
        """Simulate the ensemble.

        Neither `threads` nor `batch_size` changes a bit of the result. `progress` is told how many
        trajectory-steps have been done, `notify_compile` is called once if a kernel must be compiled.
        """
        workers = thread_count(threads)
        check_memory(self.memory(), f"{self.trajectories} trajectories x {self.steps} steps")
        system = _ScalarSystem(self)
        begin = time.perf_counter()
        if system.kernels not in _COMPILED:
            with on_compile(notify_compile):
                system.compile()
            _COMPILED.add(system.kernels)
        compiled = time.perf_counter()
        statistics = drive(
            system,
            steps=self.steps,
            trajectories=self.trajectories,
            times=np.asarray(self.times),
            seed=self.seed,
            threads=workers,
            batch_size=batch_size,
            progress=progress,
        )
        return ScalarResult.collect(
            self,
            statistics,
            **system.leavings(),
            seconds=time.perf_counter() - compiled,
            compile_seconds=compiled - begin,
        )


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
    random.start_streams(np.uint64(seed), np.uint64(0), streams)
    trace = trace_rows(noise, 0, steps)
    for block in range(blocks):
        lanes = slice(block * LANES, (block + 1) * LANES)
        for start in range(0, steps, CHUNK):
            random.fill(kind, parameter, streams[block], words, trace, start, block * LANES, z)
            values[start : start + CHUNK, lanes] = z.reshape(CHUNK, LANES)
    t = np.arange(1, steps + 1)
    return values[:steps, :trajectories] * noise_stds(noise, t)[:, None]


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


def noise_stds(noise: Noise, t: NDArray[np.int64]) -> NDArray[np.float64]:
    """The factor on z_t at each step t."""
    if isinstance(noise, (Trace, NoNoise)):
        return np.ones(len(t))
    return np.asarray(noise.sigma(t))  # type: ignore[operator]


def trace_rows(noise: Noise, start: int, stop: int) -> NDArray[np.float64]:
    """Steps start + 1 … stop of a trace; a placeholder for the other models."""
    if isinstance(noise, Trace):
        return np.array(noise.values[start:stop], dtype=np.float64, order="C", subok=False)
    return np.zeros((1, 1))


class _ScalarSystem:
    """A `ScalarConfig` as the driver wants it, with room for what every trajectory leaves behind."""

    def __init__(self, config: ScalarConfig) -> None:
        assert isinstance(config.optimizer, Optimizer)
        self.config = config
        self.rule = config.optimizer
        self.dtype = DTYPES[config.dtype]
        self.n_rows = 1 + len(self.rule.state_names)
        self.overflow = OVERFLOW[config.dtype]
        self._noise = noise_code(config.noise)
        self._units = np.append(2.0 ** np.arange(CHUNK), 0.0).astype(self.dtype)
        blocks = -(-config.trajectories // LANES)
        started_below = abs(config.theta0) < config.threshold
        self._final = np.empty(blocks * LANES, dtype=self.dtype)
        self._first_passage = np.full(blocks * LANES, 0 if started_below else -1, dtype=np.int64)
        self._steps_below = np.zeros(blocks * LANES, dtype=np.int64)
        self._diverged = np.full(blocks * LANES, -1, dtype=np.int64)
        self._flushed = np.full(blocks, -1, dtype=np.int64)
        self._kept = np.empty((config.steps + 1 if config.keep else 0, config.keep), self.dtype)
        if len(self._kept):
            self._kept[0] = config.theta0

    @property
    def kernels(self) -> tuple[str, str]:
        """What the compiled code depends on."""
        return self.rule.name, self.config.dtype

    def start(self, batch: Batch, blocks: slice) -> None:
        rows = batch.rows[blocks]
        for row, number in enumerate((self.config.theta0, *self.rule.initial_state())):
            rows[:, row * LANES : (row + 1) * LANES] = number

    def prepare(self, call: Call) -> None:
        config = self.config
        t = np.arange(call.t0 + 1, call.t0 + call.length + 1)
        lr, scale = self._learning_rates(t)
        system = (
            noise_stds(config.noise, t),
            *decay_placement(config.regularization, config.lam, lr, scale),
        )
        self._constants = self._table(self.rule.constants(t, lr), call.length)
        self._system = self._table(system, call.length)
        self._trace = trace_rows(config.noise, call.t0, call.t0 + call.length)
        self._paths = self._kept[call.t0 + 1 : call.t0 + call.length + 1]

    def _learning_rates(self, t: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Learning rate and factor of each step."""
        wanted = "a function from an array of steps to as many finite factors >= 0"
        scale = non_negative("schedule", self.config.schedule(t), wanted)
        if scale.shape != t.shape:
            raise InvalidParameter("schedule", wanted)
        return self.rule.lr * scale, scale

    def _table(self, columns: tuple[Any, ...], length: int) -> NDArray:
        table = np.empty((length, len(columns)), self.dtype)
        for j, column in enumerate(columns):
            table[:, j] = column
        return table

    def advance(self, batch: Batch, call: Call, blocks: slice, snapshots: NDArray) -> None:
        config, number, lanes = self.config, self.dtype.type, batch.lanes
        history = aligned_empty((CHUNK * LANES,), self.dtype)
        words = aligned_empty((WORDS,), np.uint64)
        codes = aligned_empty((LANES,), np.int64)
        advance(
            self.rule, batch.rows, batch.streams, words, history, codes, blocks.start, blocks.stop,
            call.t0, call.length, self._constants, self._system,
            number(config.signal.strength), number(config.signal.target),
            *self._noise, self._trace, batch.first,
            number(config.threshold), number(TINY[config.dtype]), number(self.overflow), self._units,
            self._first_passage[lanes], self._steps_below[lanes], self._diverged[lanes],
            self._flushed[batch.first // LANES :], call.records, snapshots, self._paths,
        )  # fmt: skip

    def compile(self) -> None:
        """Make sure that the kernels exist, by calls that have no blocks."""
        nothing = Call(0, 1, np.zeros(0, np.int64), 0)
        rows = aligned_empty((0, self.n_rows * LANES), self.dtype)
        batch = Batch(0, rows, aligned_empty((0, 4 * STREAMS), np.uint64))
        self.prepare(nothing)
        self.advance(batch, nothing, slice(0, 0), aligned_empty((0, 0), self.dtype))
        compile_kernels(self.dtype)

    def finish(self, batch: Batch, blocks: slice) -> None:
        final = self._final[batch.lanes].reshape(-1, LANES)
        final[blocks] = batch.rows[blocks, :LANES]

    def leavings(self) -> dict[str, Any]:
        """What the trajectories left behind, as `ScalarResult` names it."""
        real = slice(self.config.trajectories)
        flushed = self._flushed[self._flushed >= 0]
        return {
            "final": self._final[real],
            "first_passage": self._first_passage[real],
            "steps_below": self._steps_below[real],
            "diverged": self._diverged[real],
            "flushed": int(flushed.min()) if len(flushed) else -1,
            "paths": self._kept,
        }

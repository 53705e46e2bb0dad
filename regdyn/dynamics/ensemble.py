"""What the configurations and simulations of all systems have in common."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.dynamics._jit import on_compile
from regdyn.dynamics.engine import (
    BATCH,
    Batch,
    Call,
    Progress,
    Statistics,
    aligned_empty,
    check_memory,
    compile_kernels,
    drive,
    thread_count,
)
from regdyn.dynamics.observables import N_BINS, check_times
from regdyn.dynamics.optimization import DTYPES, MAX_COUNT, TINY, OptimizationConfig
from regdyn.dynamics.random import CHUNK, LANES, STREAMS
from regdyn.errors import InvalidParameter
from regdyn.parameters import check_integer, real_array

# A greater parameter has diverged: its square, which enters v and the std, leaves the type.
OVERFLOW = {"float64": 1e150, "float32": 1e18}

_COMPILED: set[tuple[str, ...]] = set()


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig(OptimizationConfig):
    """The part of a configuration that does not depend on the system.

    Parameters
    ----------
    steps, trajectories
        Length and size of the ensemble.
    threshold
        Below it a weight, or the activation probability of a unit, counts as dead.
    times
        Steps at which the statistics are taken; 20 per decade where None.
    keep
        How many of the first trajectories to keep whole.
    seed
        Key of the random streams; the same seed gives every configuration the same noise.
    others
        See `OptimizationConfig`.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.
    """

    n_parameters: ClassVar[int]
    """Parameters of a trajectory that the rule updates."""

    n_observables: ClassVar[int]
    """Numbers of a trajectory that are recorded."""

    trajectories: int = 4096
    times: ArrayLike | None = None
    keep: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._store("trajectories", check_integer("trajectories", self.trajectories, 1, MAX_COUNT))
        self._store("times", check_times(self.times, self.steps))
        self._store("keep", check_integer("keep", self.keep, 0, self.trajectories))

    def _checked_start(self, name: str, value: ArrayLike) -> float | NDArray[np.float64]:
        """The start of a parameter: a number, or an array with one for each trajectory."""
        wanted = f"a finite number, or {self.trajectories} of them, at most {OVERFLOW[self.dtype]:g}"
        array = real_array(name, value, wanted).astype(float)
        if array.shape not in ((), (self.trajectories,)):
            raise InvalidParameter(name, wanted, f"shape {array.shape}")
        if not np.all(np.abs(array) <= OVERFLOW[self.dtype]):
            raise InvalidParameter(name, wanted)
        return array if array.ndim else float(array)

    def memory(self) -> int:
        """Bytes that a run needs at its peak, about."""
        item = DTYPES[self.dtype].itemsize
        lanes = -(-min(self.trajectories, BATCH) // LANES) * LANES
        rows = self.n_parameters * (1 + len(self.rule.state_names))
        per_lane = (rows + 1) * item + 4 * 8 + 16 * self.n_observables * item + 2 * 32
        per_trajectory = 3 * 8 + self.n_parameters * item
        kept = item * self.keep * self.n_parameters * (self.steps + 1)
        statistics = len(np.asarray(self.times)) * self.n_observables * (N_BINS + 5) * 8 * 2
        return per_trajectory * self.trajectories + kept + lanes * per_lane + statistics + 2**24

    def check_room(self) -> None:
        """Raise InvalidParameter if a run would not fit into memory."""
        check_memory(self.memory(), f"{self.trajectories} trajectories x {self.steps} steps")


class EnsembleSystem(ABC):
    """A configuration as the driver wants it, with room for what every trajectory leaves behind.

    Each parameter of a trajectory has a state of its own under the rule.
    """

    def __init__(self, config: EnsembleConfig) -> None:
        self.n_parameters, self.n_observables = config.n_parameters, config.n_observables
        self.rule = config.rule
        self.dtype = DTYPES[config.dtype]
        self.overflow = OVERFLOW[config.dtype]
        self.tiny = TINY[config.dtype]
        self.n_rows = self.n_parameters * (1 + len(self.rule.state_names))
        self._config = config
        self._units = np.append(2.0 ** np.arange(CHUNK), 0.0).astype(self.dtype)
        blocks = -(-config.trajectories // LANES)
        self._final = np.empty((self.n_parameters, blocks * LANES), dtype=self.dtype)
        self._first = np.full(blocks * LANES, -1, dtype=np.int64)
        self._count = np.zeros(blocks * LANES, dtype=np.int64)
        self._diverged = np.full(blocks * LANES, -1, dtype=np.int64)
        self._flushed = np.full(blocks, -1, dtype=np.int64)
        self._kept = np.empty(
            (config.steps + 1 if config.keep else 0, config.keep, self.n_parameters), self.dtype
        )

    @property
    def kernels(self) -> tuple[str, ...]:
        """What the compiled code depends on."""
        return type(self).__name__, self.rule.name, self._config.dtype

    @abstractmethod
    def start_values(self, lanes: slice) -> tuple[Any, ...]:
        """Start of each parameter: a number, or one for each of the lanes."""

    @abstractmethod
    def noise_scale(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """The factor on the noise at each step t."""

    @abstractmethod
    def advance(self, batch: Batch, call: Call, blocks: slice, snapshots: NDArray) -> None:
        """See `regdyn.dynamics.engine.System`."""

    @staticmethod
    def of_lanes(value: Any, lanes: slice) -> Any:
        """A number, or the part of an array, one for each trajectory, that starts the lanes."""
        if not isinstance(value, np.ndarray):
            return value
        # Lanes after the last trajectory start like it.
        return value[np.minimum(np.arange(lanes.start, lanes.stop), len(value) - 1)]

    def start(self, batch: Batch, blocks: slice) -> None:
        lanes = slice(batch.first + blocks.start * LANES, batch.first + blocks.stop * LANES)
        state = self.rule.initial_state()
        rows = batch.rows[blocks].reshape(-1, self.n_rows, LANES)
        for i, start in enumerate(self.start_values(lanes)):
            row = i * (1 + len(state))
            rows[:, row] = start.reshape(-1, LANES) if isinstance(start, np.ndarray) else start
            for j, number in enumerate(state, start=row + 1):
                rows[:, j] = number

    def prepare(self, call: Call) -> None:
        config = self._config
        t = np.arange(call.t0 + 1, call.t0 + call.length + 1)
        self._constants = config.constants(t)
        self._system = config.table((self.noise_scale(t), *config.decay(t)), call.length)
        self._paths = self._kept[call.t0 + 1 : call.t0 + call.length + 1]

    def compile(self) -> None:
        """Make sure that the kernels exist, by calls that have no blocks."""
        nothing = Call(0, 1, np.zeros(0, np.int64), 0)
        rows = aligned_empty((0, self.n_rows * LANES), self.dtype)
        batch = Batch(0, rows, aligned_empty((0, 4 * STREAMS), np.uint64))
        self.prepare(nothing)
        self.advance(batch, nothing, slice(0, 0), aligned_empty((0, self.n_observables, 0), self.dtype))
        compile_kernels(self.dtype)

    def finish(self, batch: Batch, blocks: slice) -> None:
        rows = batch.rows[blocks].reshape(-1, self.n_rows, LANES)
        stride = 1 + len(self.rule.state_names)
        for i in range(self.n_parameters):
            final = self._final[i, batch.lanes].reshape(-1, LANES)
            final[blocks] = rows[:, i * stride]

    @property
    def first_flush(self) -> int:
        """A step by which a number had been set to 0, -1 if none was."""
        flushed = self._flushed[self._flushed >= 0]
        return int(flushed.min()) if len(flushed) else -1


@dataclass(frozen=True)
class Run:
    """What a run leaves behind besides the system's arrays."""

    statistics: Statistics
    seconds: float
    compile_seconds: float


def run_system(
    system: EnsembleSystem,
    config: EnsembleConfig,
    threads: int | None,
    batch_size: int,
    progress: Progress | None,
    notify_compile: Callable[[], None],
) -> Run:
    """Compile what is missing and drive the system through its steps."""
    begin = time.perf_counter()
    if system.kernels not in _COMPILED:
        with on_compile(notify_compile):
            system.compile()
        _COMPILED.add(system.kernels)
    compiled = time.perf_counter()
    statistics = drive(
        system,
        steps=config.steps,
        trajectories=config.trajectories,
        times=np.asarray(config.times),
        seed=config.seed,
        threads=thread_count(threads),
        batch_size=batch_size,
        progress=progress,
    )
    return Run(statistics, time.perf_counter() - compiled, compiled - begin)


def nothing() -> None:
    """What is called on compilation unless the caller asks for more."""

"""What the configurations and simulations of all systems have in common."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

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
from regdyn.dynamics.optimization import (
    DTYPES,
    MAX_COUNT,
    OVERFLOW,
    TINY,
    OptimizationConfig,
)
from regdyn.dynamics.random import CHUNK, LANES
from regdyn.dynamics.tables import Constants, Decays, Scales, Tables
from regdyn.errors import InvalidParameter
from regdyn.parameters import check_integer, real_array

_COMPILED: set[tuple[str, ...]] = set()


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig(OptimizationConfig, ABC):
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
        if isinstance(value, float) and abs(value) <= OVERFLOW[self.dtype]:
            return value
        array = real_array(name, value, wanted).astype(float)
        if array.shape not in ((), (self.trajectories,)):
            raise InvalidParameter(name, wanted, f"shape {array.shape}")
        if not np.all(np.abs(array) <= OVERFLOW[self.dtype]):
            raise InvalidParameter(name, wanted)
        return array if array.ndim else float(array)

    @property
    def kernel_key(self) -> Hashable:
        """What points of parameter space must agree in to share a call of the kernel and its noise."""
        return type(self), type(self.rule), self.dtype, self.steps, self.trajectories, self.seed

    def varied(self, **checked: Any) -> Self:
        """A copy with other values of some fields, which have been checked as a configuration would."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, **checked)
        return copy

    @abstractmethod
    def system(self, configs: Sequence[Any], width: int = LANES) -> EnsembleSystem:
        """This and other configurations of the same `kernel_key`, in blocks of `width`."""

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


@dataclass(frozen=True)
class Ensembles:
    """What the trajectories of several points left behind.

    Attributes
    ----------
    configs
        The points.
    times
        Recorded steps.
    snapshots
        Observables of each trajectory at these, (times, observables, points, trajectories).
    first_passage
        First step below the threshold, 0 for the start, -1 for never; (points, trajectories), as are
        the next two.
    steps_below
        Number of steps that ended below.
    diverged
        First step out of range, -1 for never.
    flushed
        (points,), see `ScalarResult`.
    """

    configs: Sequence[Any]
    times: NDArray[np.int64]
    snapshots: NDArray
    first_passage: NDArray[np.int64]
    steps_below: NDArray[np.int64]
    diverged: NDArray[np.int64]
    flushed: NDArray[np.int64]


class EnsembleSystem(ABC):
    """Configurations as the driver wants them, with room for what every trajectory leaves behind.

    The configurations, points of parameter space, agree in all that `EnsembleConfig.kernel_key` names.
    Each parameter of a trajectory has a state of its own under the rule.

    Parameters
    ----------
    configs
        The points.
    width
        Trajectories of a block, even and at most LANES.
    """

    def __init__(self, configs: Sequence[EnsembleConfig], width: int = LANES) -> None:
        config = configs[0]
        self.n_parameters, self.n_observables = config.n_parameters, config.n_observables
        self.n_points, self.width = len(configs), width
        self.rule = config.rule
        self.dtype = DTYPES[config.dtype]
        self.overflow = OVERFLOW[config.dtype]
        self.tiny = TINY[config.dtype]
        self.n_rows = self.n_parameters * (1 + len(self.rule.state_names))
        self._configs: Sequence[Any] = configs
        self._units = np.append(2.0 ** np.arange(CHUNK), 0.0).astype(self.dtype)
        self.blocks = -(-config.trajectories // width)
        lanes = self.n_points, self.blocks * width
        self._final = np.empty((self.n_parameters, *lanes), dtype=self.dtype)
        self._first = np.full(lanes, -1, dtype=np.int64)
        self._count = np.zeros(lanes, dtype=np.int64)
        self._diverged = np.full(lanes, -1, dtype=np.int64)
        self._flushed = np.full((self.n_points, self.blocks), -1, dtype=np.int64)
        self._kept = np.empty(
            (config.steps + 1 if config.keep else 0, config.keep, self.n_parameters), self.dtype
        )
        self._constants, self._decays = Constants(configs), Decays(configs)
        self._scales = Scales([self.noise_stds(each) for each in configs], self.dtype)
        self._own = np.array([self.own_numbers(each) for each in configs], dtype=self.dtype)

    @property
    def kernels(self) -> tuple[str, ...]:
        """What the compiled code depends on."""
        return type(self).__name__, self.rule.name, self._configs[0].dtype

    @abstractmethod
    def own_numbers(self, config: Any) -> tuple[float, ...]:
        """What the kernel takes of a point besides the tables."""

    @abstractmethod
    def start_values(self, config: Any, lanes: slice) -> tuple[Any, ...]:
        """Start of each parameter of a point: a number, or one for each of the lanes."""

    @abstractmethod
    def noise_stds(self, config: Any) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
        """The factor on the noise of a point, a function of the steps."""

    @abstractmethod
    def advance(
        self, batch: Batch, call: Call, tables: Tables, blocks: slice, snapshots: NDArray
    ) -> None:
        """See `regdyn.dynamics.engine.System`."""

    @staticmethod
    def of_lanes(value: Any, lanes: slice) -> Any:
        """A number, or the part of an array, one for each trajectory, that starts the lanes."""
        if not isinstance(value, np.ndarray):
            return value
        # Lanes after the last trajectory start like it.
        return value[np.minimum(np.arange(lanes.start, lanes.stop), len(value) - 1)]

    def start(self, batch: Batch, blocks: slice) -> None:
        width = self.width
        lanes = slice(batch.first + blocks.start * width, batch.first + blocks.stop * width)
        for point, config in enumerate(self._configs):
            state = config.rule.initial_state()
            rows = batch.rows[point, blocks].reshape(-1, self.n_rows, width)
            for i, start in enumerate(self.start_values(config, lanes)):
                row = i * (1 + len(state))
                rows[:, row] = start.reshape(-1, width) if isinstance(start, np.ndarray) else start
                for j, number in enumerate(state, start=row + 1):
                    rows[:, j] = number

    def tables(self, call: Call) -> Tables:
        t = np.arange(call.t0 + 1, call.t0 + call.length + 1)
        return Tables.of(
            self._constants.at(t), self._scales.at(t), self._decays.at(t), self.trace(call)
        )  # fmt: skip

    def trace(self, call: Call) -> NDArray[np.float64]:
        """Recorded gradients of the steps of the call, a placeholder where there are none."""
        return np.zeros((1, 1))

    def compile(self) -> None:
        """Make sure that the kernels exist, by calls that have no blocks."""
        nothing = Call(0, 1, np.zeros(0, np.int64), 0)
        batch = Batch.of(self, 0, 0)
        empty = aligned_empty((0, self.n_observables, self.n_points, 0), self.dtype)
        self.advance(batch, nothing, self.tables(nothing), slice(0, 0), empty)
        compile_kernels(self.dtype)

    def finish(self, batch: Batch, blocks: slice) -> None:
        stride = 1 + len(self.rule.state_names)
        rows = batch.rows[:, blocks].reshape(self.n_points, -1, self.n_rows, self.width)
        final = self._final[:, :, batch.lanes]
        for i in range(self.n_parameters):
            final[i].reshape(self.n_points, -1, self.width)[:, blocks] = rows[:, :, i * stride]

    @property
    def first_flush(self) -> NDArray[np.int64]:
        """For each point a step by which a number had been set to 0, -1 if none was."""
        never = np.iinfo(np.int64).max
        first = np.where(self._flushed < 0, never, self._flushed).min(axis=1)
        return np.where(first == never, -1, first)

    def ensembles(self, times: NDArray[np.int64], snapshots: NDArray) -> Ensembles:
        """What the trajectories left behind, without the lanes that hold none."""
        real = slice(self._configs[0].trajectories)
        return Ensembles(
            self._configs, times, snapshots[..., real], self._first[:, real], self._count[:, real],
            self._diverged[:, real], self.first_flush,
        )  # fmt: skip

    def paths(self, call: Call) -> NDArray:
        """Where the kept trajectories stand after the steps of the call."""
        return self._kept[call.t0 + 1 : call.t0 + call.length + 1]


@dataclass(frozen=True)
class Run:
    """What a run leaves behind besides the system's arrays."""

    statistics: Statistics
    seconds: float
    compile_seconds: float


def nothing() -> None:
    """What is called on compilation unless the caller asks for more."""


def compiled(system: EnsembleSystem, notify_compile: Callable[[], None] = nothing) -> None:
    """Make sure that the kernels of a system are there."""
    if system.kernels not in _COMPILED:
        with on_compile(notify_compile):
            system.compile()
        _COMPILED.add(system.kernels)


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
    compiled(system, notify_compile)
    ready = time.perf_counter()
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
    return Run(statistics, time.perf_counter() - ready, ready - begin)

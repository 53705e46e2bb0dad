"""What a sweep is: a system, the grid of its parameters, and what is recorded of each point."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.dynamics.engine import Progress
from regdyn.dynamics.ensemble import EnsembleConfig, compiled
from regdyn.dynamics.many import run_many
from regdyn.dynamics.noise import StdTable
from regdyn.dynamics.observables import check_times
from regdyn.dynamics.optimization import MAX_COUNT
from regdyn.dynamics.result import LEVELS, describe
from regdyn.dynamics.schedules import Table
from regdyn.dynamics.tables import identity
from regdyn.errors import InvalidParameter
from regdyn.files import load_numbers
from regdyn.fingerprint import fingerprint
from regdyn.optimizers import OPTIMIZERS, Optimizer
from regdyn.parameters import check_choice, check_integer, check_number
from regdyn.sweeps.axes import Axis, Chunks, Grid
from regdyn.sweeps.systems import (
    RULE_PARAMETERS,
    SYSTEMS,
    WORDS,
    SweptSystem,
    check_axis,
    check_hyperparameters,
    configurations,
)

CHUNK_STEPS = 5 * 10**8, 4 * 10**9
"""Trajectory-steps of a chunk at least and at most, where points are small: a few seconds."""

CHUNK_COUNT = 64
"""Chunks of a sweep, about, within these bounds: enough for many workers."""

CHUNK_POINTS = 2**14
"""Points of a chunk at most."""

MOST_RULES = 20_000
"""Combinations of hyperparameters that are all made beforehand, to see that they go together."""

TRAJECTORIES = 64
"""Of a point, unless told."""

MOST_TRAJECTORIES = 4096
"""Of a point of a sweep that is refined, unless told."""

TABLES: Mapping[str, Callable[..., Any]] = {"schedule": Table, "sigma": StdTable}
"""Parameters that may be a small file of numbers, one for each step, and what these make."""

MOST_LISTED = 10_000
"""Values of an axis that a description lists."""

BOUNDS = ("low", "high")

SIMULATED = "simulated"
"""The variable that says how many trajectories of a point were simulated."""


@dataclass(frozen=True)
class Plan:
    """A sweep before it runs.

    Attributes
    ----------
    system
        What is simulated.
    grid
        The points.
    fixed
        The parameters that are not axes, by name.
    times
        Recorded steps; a point with fewer steps has NaN after its end.
    chunks
        How the points are cut: a chunk is written whole.
    precision
        Of ln of the median first passage, for a sweep that is refined; see `regdyn.sweeps.refine`.
    most
        Trajectories of a point at most then.
    files
        What is in the small files that are values of an axis, by the parameter and the value.
    """

    system: SweptSystem
    grid: Grid
    fixed: Mapping[str, Any]
    times: NDArray[np.int64]
    chunks: Chunks
    precision: float | None = None
    most: int = MOST_TRAJECTORIES
    files: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    @cached_property
    def extra(self) -> dict[str, list[Any]]:
        """The coordinates of the observables besides those of the grid."""
        return {"step": self.times.tolist(), "level": list(LEVELS), "bound": list(BOUNDS)}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an observable of one point."""
        return tuple(len(self.extra[dim]) for dim in self.system.observables[name].dims)

    @property
    def numbers_per_point(self) -> int:
        """Numbers that are kept of each point, each of eight bytes."""
        return 1 + sum(math.prod(self.shape(name)) for name in self.system.observables)

    @property
    def _follows_steps(self) -> bool:
        return isinstance(self.fixed.get("schedule"), str) and "steps" not in self.fixed

    @property
    def _fixed(self) -> dict[str, Any]:
        return {**self.fixed, "times": self.times}

    @cached_property
    def trajectory_steps(self) -> int:
        """Of all points."""
        return _trajectory_steps(self.grid, self.fixed)

    def chunk_trajectory_steps(self, number: int) -> int:
        """Of the points of a chunk."""
        return _trajectory_steps(self.grid.part(self.chunks.where(number)), self.fixed)

    def task(self, number: int) -> Task:
        """What a worker must know to simulate a chunk."""
        grid = self.grid.part(self.chunks.where(number))
        return self._task(grid.points(), self.fixed)

    def _read(self, name: str, value: Any) -> Any:
        """A value, or what is in the small file that has its name."""
        return self.files.get((name, value), value) if isinstance(value, str) else value

    def interpolates(self, axis: Axis) -> bool:
        """Whether points along an axis can be interpolated: numbers, but not those of chance."""
        numbers = all(isinstance(x, (int, float)) for values in axis.values.values() for x in values)
        return numbers and len(axis) > 2 and not {"seed", "trajectories"} & set(axis.values)

    def steps_of(self, points: Iterable[int]) -> int:
        """Sum of the steps of some points."""
        if "steps" in self.fixed:
            return int(self.fixed["steps"]) * len(list(points))
        return sum(int(self.grid.point(point)["steps"]) for point in points)

    def task_of(self, points: Sequence[int], trajectories: int) -> Task:
        """What a worker must know to simulate some points with so many trajectories."""
        return self._task(map(self.grid.point, points), {**self.fixed, "trajectories": trajectories})

    def _task(self, points: Iterable[Mapping[str, Any]], fixed: Mapping[str, Any]) -> Task:
        if self.files:
            points = (
                {name: self._read(name, value) for name, value in point.items()} for point in points
            )
        return Task(self.system.name, tuple(points), fixed, self.times)

    def _corners(self) -> list[EnsembleConfig]:
        """A configuration for each combination of words: they differ by more than numbers."""
        words = (axis if WORDS & set(axis.values) else axis.part(slice(1)) for axis in self.grid.axes)
        return configurations(self.system, self._fixed, Grid(tuple(words)).points())

    def compile(self, notify_compile: Callable[[str], None]) -> None:
        """Make sure that every kernel is there; told the optimizer of one that must be compiled."""
        for config in self._corners():
            compiled(config.system([config]), partial(notify_compile, config.rule.name))

    def description(self) -> dict[str, Any]:
        """What decides every bit of the result, as plain JSON."""
        return {
            "system": self.system.name,
            "axes": [
                {name: self._listed(name, values) for name, values in axis.values.items()}
                for axis in self.grid.axes
            ],
            "configurations": [describe(config) for config in self._corners()],
            "times": self.times.tolist(),
            "chunk": list(self.chunks.chunk),
            "made_by": fingerprint(),
            # One that follows the steps of each point does not show in the configurations.
            **({"schedule": self.fixed["schedule"]} if self._follows_steps else {}),
            **({} if self.precision is None else {"refine": [self.precision, self.most]}),
        }

    def _listed(self, name: str, values: Sequence[Any]) -> Any:
        """Values as plain JSON; what is in files, arrays and very many values as hashes."""
        described = []
        for value in values:
            read = self._read(name, value)
            # Those of words stand in full in the configurations.
            short = name in WORDS and read is value
            described.append(label(value) if short else describe(read))
        if len(described) <= MOST_LISTED:
            return described
        digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()
        return {"values": len(described), "sha256": digest}


@dataclass(frozen=True)
class Task:
    """Points for a worker, which need not know the rest of the sweep."""

    system: str
    points: tuple[Mapping[str, Any], ...]
    fixed: Mapping[str, Any]
    times: NDArray[np.int64]

    def configs(self) -> list[EnsembleConfig]:
        """The configuration of each point."""
        fixed = {**self.fixed, "times": self.times}
        return configurations(SYSTEMS[self.system], fixed, self.points)

    def run(
        self, threads: int | None = None, progress: Progress | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Every observable and the number of trajectories, each of shape (points, …)."""
        system = SYSTEMS[self.system]
        configs = self.configs()
        results = run_many(configs, system.summarize, threads=threads, progress=progress)
        sizes = {"step": len(self.times), "level": len(LEVELS), "bound": len(BOUNDS)}
        arrays = {SIMULATED: np.array([config.trajectories for config in configs], dtype=float)}
        for name, observable in system.observables.items():
            shape = tuple(sizes[dim] for dim in observable.dims)
            arrays[name] = np.full((len(configs), *shape), np.nan)
            for i, result in enumerate(results):
                if "step" in observable.dims:
                    arrays[name][i, : len(result[name])] = result[name]
                else:
                    arrays[name][i] = result[name]
        return arrays


def make_plan(
    axes: Mapping[str, Sequence[Any] | NDArray],
    *,
    system: str = "scalar",
    zip: Sequence[Sequence[str]] = (),
    times: ArrayLike | None = None,
    chunk: int | None = None,
    refine: float | None = None,
    most_trajectories: int | None = None,
    **fixed: Any,
) -> Plan:
    """A sweep over `axes`, its parameters checked; see `regdyn.sweep`."""
    swept = SYSTEMS[check_choice("system", system, SYSTEMS)]
    for name in (*axes, *fixed):
        check_axis(swept, name)
    for name in axes:
        if name in fixed:
            raise InvalidParameter(name, "either an axis or fixed")
    listed = {name: _values(name, values) for name, values in axes.items()}
    together = {name for group in zip for name in group}
    grid = Grid(_joined({n: v if n in together else _different(v) for n, v in listed.items()}, zip))
    given: dict[str, Any] = {
        "optimizer": _default_optimizer(swept),
        "steps": EnsembleConfig.steps,
        "trajectories": TRAJECTORIES,
    }
    given |= {name: _read(name, value) for name, value in fixed.items() if value is not None}
    given = {name: value for name, value in given.items() if name not in axes}
    counts = {
        name: [check_integer(name, each, 1, MAX_COUNT) for each in listed.get(name, [given.get(name)])]
        for name in ("steps", "trajectories")
    }
    given |= {name: values[0] for name, values in counts.items() if name in given}
    check_hyperparameters(axes, given, listed.get("optimizer", [given.get("optimizer")]))
    ends = sorted(set(counts["steps"]))
    recorded = _sparse_times(ends) if times is None else check_times(times, ends[-1])
    _check_values(swept, grid, given, recorded)
    points = _chunk_points(grid, given) if chunk is None else check_integer("chunk", chunk, 1, 10**9)
    files = {
        (name, value): _read(name, value)
        for name, values in listed.items() if name in TABLES
        for value in values if isinstance(value, str) and value.endswith(".npy")
    }  # fmt: skip
    plan = Plan(swept, grid, given, recorded, Chunks(grid.shape, grid.chunk_shape(points)), files=files)
    if refine is not None:
        return _refined(plan, refine, most_trajectories)
    if most_trajectories is not None:
        raise InvalidParameter("most_trajectories", "used with refine", most_trajectories)
    return plan


def _refined(plan: Plan, refine: float, most_trajectories: int | None) -> Plan:
    """A plan whose map is refined: any point may then have more trajectories."""
    precision = check_number("refine", refine, "(0, 1]")
    if "trajectories" not in plan.fixed:
        raise InvalidParameter("trajectories", "no axis of a sweep that is refined")
    first = plan.fixed["trajectories"]
    most = max(MOST_TRAJECTORIES, first) if most_trajectories is None else most_trajectories
    most = check_integer("most_trajectories", most, first, MAX_COUNT)
    for count in {min(2 * first, most), most}:
        try:
            _check_values(plan.system, plan.grid, {**plan.fixed, "trajectories": count}, plan.times)
        except InvalidParameter as error:
            name = "most_trajectories" if error.name == "trajectories" else error.name
            raise InvalidParameter(name, f"{error.requirement} (--refine)", error.value) from None
    return replace(plan, precision=precision, most=most)


def _read(name: str, value: Any) -> Any:
    """A small file as its numbers, which go to the workers with the task; of a large one, its place."""
    if isinstance(value, str) and value.endswith(".npy"):
        if name in TABLES:
            return TABLES[name](load_numbers(name, value))
        if name == "trace":
            return str(Path(value).absolute())
    return value


def label(value: Any) -> Any:
    """A number or a word as it is, an optimizer by what tells it from its defaults, others in full."""
    if isinstance(value, Optimizer):
        defaults = type(value)().parameters()  # type: ignore[call-arg]
        own = [f"{k}={v:g}" for k, v in value.parameters().items() if v != defaults[k]]
        return f"{value.name}({', '.join(own)})" if own else value.name
    return value if isinstance(value, (str, bool, int, float)) else repr(value)


def _default_optimizer(system: SweptSystem) -> str:
    return "sgd" if system.name == "neuron" else "adam"


def _values(name: str, values: Sequence[Any] | NDArray) -> tuple[Any, ...]:
    """The values of an axis as Python's own numbers."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidParameter(name, "a sequence of values where it is an axis", values)
    listed = list(values)
    listed = [value.item() if isinstance(value, np.generic) else value for value in listed]
    if not listed:
        raise InvalidParameter(name, "given at least one value")
    if name not in WORDS | TABLES.keys():
        for value in listed:
            if isinstance(value, str):
                raise InvalidParameter(name, "numbers where it is an axis", repr(value))
    return tuple(listed)


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Each value once."""
    return tuple({identity(value): value for value in values}.values())


def _joined(values: Mapping[str, tuple[Any, ...]], zip: Sequence[Sequence[str]]) -> tuple[Axis, ...]:
    """An axis for each parameter, or for each group that goes together, where its first one stands."""
    group_of: dict[str, tuple[str, ...]] = {}
    for names in zip:
        for name in names:
            if name not in values:
                raise InvalidParameter("zip", f"of axes ({', '.join(values)})", name)
            if name in group_of:
                raise InvalidParameter("zip", "groups without a common parameter", name)
            group_of[name] = tuple(names)
    groups = dict.fromkeys(group_of.get(name, (name,)) for name in values)
    return tuple(Axis({name: values[name] for name in group}) for group in groups)


def _sparse_times(ends: Sequence[int]) -> NDArray[np.int64]:
    """0, the numbers 1, 2 and 5 of each decade, and the last steps."""
    decades = range(math.ceil(math.log10(ends[-1])) + 1)
    spaced = {digit * 10**decade for decade in decades for digit in (1, 2, 5)}
    return np.asarray(sorted({0, *ends, *(t for t in spaced if t < ends[-1])}), dtype=np.int64)


def _check_values(
    system: SweptSystem, grid: Grid, fixed: Mapping[str, Any], times: NDArray[np.int64]
) -> None:
    """Configure a point for each value of each axis, under each combination of words."""
    rules = math.prod(len(axis) for axis in grid.axes if RULE_PARAMETERS & set(axis.values))
    names = [name for axis in grid.axes for name in axis.values.get("optimizer", ())]
    related = any(
        OPTIMIZERS[name].relates_hyperparameters()
        for name in names or [fixed["optimizer"]] if isinstance(name, str)
    )  # fmt: skip
    if related and rules <= MOST_RULES:
        parts = [
            axis if RULE_PARAMETERS & set(axis.values) else axis.part(slice(1)) for axis in grid.axes
        ]
        configurations(system, {**fixed, "times": times}, Grid(tuple(parts)).points())
    for axis in grid.axes:
        parts = [
            each.part(slice(None) if each is axis or WORDS & set(each.values) else slice(1))
            for each in grid.axes
        ]
        configurations(system, {**fixed, "times": times}, Grid(tuple(parts)).points())
    if not grid.axes:
        configurations(system, {**fixed, "times": times}, [{}])


def _trajectory_steps(grid: Grid, fixed: Mapping[str, Any]) -> int:
    """Of all points of a grid, from the axes that have to do with it."""
    names = {"steps", "trajectories"}
    counted = [axis for axis in grid.axes if names & set(axis.values)]
    others = math.prod(len(axis) for axis in grid.axes if not names & set(axis.values))
    return others * sum(_work(point, fixed) for point in Grid(tuple(counted)).points())


def _work(point: Mapping[str, Any], fixed: Mapping[str, Any]) -> int:
    both = {**fixed, **point}
    return int(float(both["steps"])) * int(float(both["trajectories"]))


def _chunk_points(grid: Grid, fixed: Mapping[str, Any]) -> int:
    total = _trajectory_steps(grid, fixed)
    least, most = CHUNK_STEPS
    wanted = min(max(total // CHUNK_COUNT, least), most)
    return max(1, min(CHUNK_POINTS, wanted * grid.size // total))

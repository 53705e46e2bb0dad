"""Adaptive refinement: trajectories where the interval is wide, points where the map bends.

The quantity is ln of the median first passage. A coarse grid is simulated first, and one with half its
spacing. Then, with half the spacing again and again until every node of the grid has a value, what lies
between is interpolated where that is safe: where the bend, by second differences, promises an error
below the precision, and where interpolation was that good at all nodes around that were simulated
before. It is simulated elsewhere, and where the median ceases to pass. In the end the nodes that were
simulated get more trajectories until the 95 percent interval of their median is as narrow.
"""

from __future__ import annotations

import math
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.engine import check_memory
from regdyn.dynamics.result import LEVELS
from regdyn.errors import InvalidParameter
from regdyn.executors import Executor
from regdyn.executors.base import Tally, Work
from regdyn.files import written_whole
from regdyn.sweeps.plan import Plan
from regdyn.sweeps.store import MARK, Store

COARSE = 8
"""Spacing of the first grid, in nodes; a power of two."""

SAFETY = 2.0
"""How many times the error that second differences promise must fit into the precision."""

ROUNDS = 6
"""Rounds of more trajectories at most."""

JOURNAL = ".refinement"
"""Folder of the batches that have been simulated, until the store is whole."""

_MEDIAN = LEVELS.index(0.5)
_UNKNOWN, _SIMULATED, _INTERPOLATED = range(3)


@dataclass(frozen=True)
class Batch:
    """Points that a worker simulates with the same number of trajectories."""

    number: int
    points: tuple[int, ...]
    trajectories: int


@dataclass(frozen=True)
class Interpolated:
    """A point between others, with the weights of these."""

    point: int
    parents: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass
class Refinement:
    """A map on its way to a precision. Everything in it follows from the plan and what was simulated.

    Attributes
    ----------
    plan
        The sweep, whose `precision` is set.
    rows
        Every variable of each point, NaN where it is not simulated, (points, …).
    interpolated
        The points between others.
    spent
        Trajectory-steps so far.
    status
        Of each point: unknown, simulated or interpolated.
    height
        ln of the median first passage of each point that is known.
    surplus
        How wrong interpolation was at each point that was simulated between others.
    """

    plan: Plan
    rows: dict[str, NDArray] = field(default_factory=dict)
    interpolated: list[Interpolated] = field(default_factory=list)
    spent: int = 0

    def __post_init__(self) -> None:
        size, system = self.plan.grid.size, self.plan.system
        needed = 8 * size * (self.plan.numbers_per_point + 8)
        check_memory(needed, f"a refined map of {size} points", "refine", "left out, or the grid small")
        for name in system.observables:
            self.rows[name] = np.full((size, *self.plan.shape(name)), np.nan)
        self.rows[MARK] = np.zeros(size)
        self.status = np.full(size, _UNKNOWN)
        self.height = np.full(size, np.nan)
        self.surplus = np.zeros(size)
        self._expected: dict[int, float] = {}
        self._strides = [int(np.prod(self.plan.grid.shape[i + 1 :])) for i in range(self._axes)]

    @property
    def precision(self) -> float:
        assert self.plan.precision is not None
        return self.plan.precision

    @property
    def _axes(self) -> int:
        return len(self.plan.grid.axes)

    def _flat(self, index: Sequence[int]) -> int:
        return sum(i * stride for i, stride in zip(index, self._strides))

    def take(self, batch: Batch, arrays: dict[str, NDArray]) -> None:
        """What came of a batch."""
        points = list(batch.points)
        for name, values in arrays.items():
            self.rows[name][points] = values
        self.status[points] = _SIMULATED
        with np.errstate(divide="ignore"):
            self.height[points] = np.log(self.rows["first_passage"][points, _MEDIAN])
        for point in batch.points:
            if point in self._expected:
                expected, found = self._expected.pop(point), self.height[point]
                # Where the median ceases to pass the nodes themselves say so.
                both = math.isfinite(found) and math.isfinite(expected)
                self.surplus[point] = abs(found - expected) if both else 0

    # Points

    def _nodes(self, spacing: int) -> list[list[int]]:
        """Along each axis the nodes of a grid; all of them along an axis that is not interpolated."""
        return [
            sorted({*range(0, len(axis), spacing), len(axis) - 1})
            if self.plan.interpolates(axis) else list(range(len(axis)))
            for axis in self.plan.grid.axes
        ]  # fmt: skip

    def coarse(self) -> list[int]:
        """The points of the first grid."""
        return [self._flat(index) for index in product(*self._nodes(COARSE))]

    def between(self, spacing: int) -> list[int]:
        """Points halfway between the nodes of a grid to be simulated; the others are interpolated."""
        coarse, fine = self._nodes(spacing), self._nodes(spacing // 2)
        wanted = []
        for index in product(*fine):
            point = self._flat(index)
            if self.status[point] != _UNKNOWN:
                continue
            around = [_bracket(nodes, i) for nodes, i in zip(coarse, index)]
            seen = self._surplus_around(around, coarse)
            error = max(self._error(index, around, coarse) * SAFETY, seen)
            if error > self.precision or spacing == COARSE:
                self._expected[point] = self._interpolate(index, around)[2]
                wanted.append(point)
                continue
            parents, weights, height = self._interpolate(index, around)
            self.interpolated.append(Interpolated(point, parents, weights))
            self.status[point] = _INTERPOLATED
            self.height[point], self.surplus[point] = height, seen
        return wanted

    def _surplus_around(self, around: list[tuple[int, ...]], coarse: list[list[int]]) -> float:
        """The greatest surplus of the nodes around a point, and of their neighbours."""
        wider = [(*ends, *_neighbours(nodes, ends[0], ends[-1])) for nodes, ends in zip(coarse, around)]
        return max(float(self.surplus[self._flat(corner)]) for corner in product(*wider))

    def _error(
        self, index: tuple[int, ...], around: list[tuple[int, ...]], coarse: list[list[int]]
    ) -> float:
        """What linear interpolation at a point is wrong by, from second differences of its parents."""
        parents = [self.height[self._flat(corner)] for corner in product(*around)]
        if np.all(np.isposinf(parents)):
            return 0.0
        if not np.all(np.isfinite(parents)):
            return math.inf
        worst = 0.0
        for axis, ends in enumerate(around):
            if len(ends) == 1:
                continue
            a, b = ends
            outer = [*around]
            seen = False
            for c in _neighbours(coarse[axis], a, b):
                outer[axis] = tuple(sorted((a, b, c)))
                for line in product(*(each for i, each in enumerate(outer) if i != axis)):
                    values = []
                    for at in outer[axis]:
                        corner = [*line[:axis], at, *line[axis:]]
                        values.append(self.height[self._flat(corner)])
                    bend = _second_derivative(outer[axis], values)
                    worst = max(worst, abs(bend) * (index[axis] - a) * (b - index[axis]) / 2)
                seen = True
            if not seen:
                return math.inf
        return worst if math.isfinite(worst) else math.inf

    def _interpolate(
        self, index: tuple[int, ...], around: list[tuple[int, ...]]
    ) -> tuple[tuple[int, ...], tuple[float, ...], float]:
        """The points around one, their weights, and the height that follows."""
        shares = [
            (1.0,) if len(ends) == 1 else
            ((ends[1] - i) / (ends[1] - ends[0]), (i - ends[0]) / (ends[1] - ends[0]))
            for ends, i in zip(around, index)
        ]  # fmt: skip
        parents = tuple(self._flat(corner) for corner in product(*around))
        weights = tuple(math.prod(each) for each in product(*shares))
        return parents, weights, float(np.dot(weights, self.height[list(parents)]))

    # Trajectories

    def half_widths(self) -> NDArray[np.float64]:
        """Half the interval of ln of the median of each point; 0 where it surely never passes."""
        low, high = self.rows["first_passage_interval"].T
        with np.errstate(divide="ignore", invalid="ignore"):
            half = (np.log(high) - np.log(np.maximum(low, 1))) / 2
        half[np.isposinf(low)] = 0
        return np.where(self.status == _SIMULATED, half, 0)

    def wider(self) -> dict[int, list[int]]:
        """Points whose interval is too wide, by how many trajectories they should get."""
        found: dict[int, list[int]] = {}
        half = self.half_widths()
        for point in np.flatnonzero(half > self.precision):
            count = int(self.rows[MARK][point])
            times = 4.0 if math.isinf(half[point]) else 1.2 * (half[point] / self.precision) ** 2
            wanted = min(count * 2 ** math.ceil(math.log2(max(2.0, times))), self.plan.most)
            if wanted > count:
                found.setdefault(wanted, []).append(int(point))
        return dict(sorted(found.items()))

    def finish(self) -> dict[str, NDArray]:
        """Every variable of each point, the interpolated ones filled in."""
        observables = self.plan.system.observables
        for each in self.interpolated:
            parents, weights = list(each.parents), np.array(each.weights)
            for name, observable in observables.items():
                if observable.scale is not None:
                    values = self.rows[name][parents]
                    self.rows[name][each.point] = _mean(values, weights, observable.scale == "log")
        return self.rows


def _bracket(nodes: Sequence[int], i: int) -> tuple[int, ...]:
    """The nodes on both sides, or the one that is there."""
    right = bisect_left(nodes, i)
    return (i,) if nodes[right] == i else (nodes[right - 1], nodes[right])


def _neighbours(nodes: Sequence[int], a: int, b: int) -> Iterator[int]:
    """The nodes before a and after b."""
    before, after = bisect_left(nodes, a) - 1, bisect_left(nodes, b) + 1
    if before >= 0:
        yield nodes[before]
    if after < len(nodes):
        yield nodes[after]


def _second_derivative(at: Sequence[int], values: Sequence[float]) -> float:
    """From three values, equally spaced or not; not finite if one of them is not."""
    (p, q, r), (u, v, w) = at, values
    if not (math.isfinite(u) and math.isfinite(v) and math.isfinite(w)):
        return math.inf
    return 2 * ((w - v) / (r - q) - (v - u) / (q - p)) / (r - p)


def _mean(values: NDArray, weights: NDArray, log: bool) -> NDArray:
    """Weighted mean over the first axis, geometric for positive numbers if `log`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if log:
            return np.asarray(np.exp(np.tensordot(weights, np.log(values), 1)))
        return np.asarray(np.tensordot(weights, values, 1))


@dataclass(frozen=True)
class Saving:
    """What a refined map took.

    Attributes
    ----------
    spent
        Trajectory-steps.
    full
        Of the full grid with as many trajectories everywhere as its neediest point got.
    simulated, points
        Points that were simulated, and all.
    most
        Trajectories of that point.
    met
        Share of the simulated points whose interval is as narrow as was asked.
    """

    spent: int
    full: int
    simulated: int
    points: int
    most: int
    met: float

    def __str__(self) -> str:
        return (
            f"{self.simulated} of {self.points} points simulated with up to {self.most} trajectories, "
            f"{self.met:.1%} of them to the precision; {self.spent:.3g} trajectory-steps, the full "
            f"grid with {self.most} everywhere takes {self.full / self.spent:.1f} times as many"
        )


def refine_map(
    store: Store,
    plan: Plan,
    executor: Executor,
    work: Work,
    progress: Callable[[int], None],
) -> Saving:
    """Simulate what the precision of the plan needs, and write the whole map.

    Batches are kept in a journal: an interrupted refinement goes on from them, and ends with the same
    bits.
    """
    state = Refinement(plan)
    journal = store.path / JOURNAL
    with store.explained():
        journal.mkdir(exist_ok=True)
    number = 0
    first = int(plan.fixed["trajectories"])
    chunk_points = math.prod(plan.chunks.chunk)

    def simulate(points_by_count: dict[int, list[int]]) -> None:
        nonlocal number
        batches = []
        for count, points in points_by_count.items():
            size = max(1, chunk_points * first // count)
            for start in range(0, len(points), size):
                batches.append(Batch(number, tuple(points[start : start + size]), count))
                number += 1
        missing = []
        for batch in batches:
            arrays = _load(journal / f"{batch.number:06}.npz", batch)
            if arrays is None:
                missing.append(batch)
            else:
                state.take(batch, arrays)
        tasks = (plan.task_of(batch.points, batch.trajectories) for batch in missing)
        tally = Tally(progress)
        with closing(executor.run(work, tasks, tally.hear)) as results:
            for index, arrays in results:
                batch = missing[index]
                with store.explained():
                    _save(journal / f"{batch.number:06}.npz", batch, arrays)
                state.take(batch, arrays)
                tally.end(index, plan.steps_of(batch.points) * batch.trajectories)
        state.spent += sum(plan.steps_of(batch.points) * batch.trajectories for batch in batches)

    simulate({first: state.coarse()})
    spacing = COARSE
    while spacing > 1:
        simulate({first: state.between(spacing)})
        spacing //= 2
    for _ in range(ROUNDS):
        simulate(state.wider())
    counts = state.rows[MARK]
    most = int(counts.max())
    simulated = counts > 0
    saving = Saving(
        spent=state.spent, full=plan.steps_of(range(plan.grid.size)) * most,
        simulated=int(simulated.sum()), points=plan.grid.size, most=most,
        met=float(np.mean(state.half_widths()[simulated] <= state.precision)),
    )  # fmt: skip
    rows = state.finish()
    for chunk in range(len(plan.chunks)):
        where = np.arange(plan.grid.size).reshape(plan.grid.shape)[plan.chunks.where(chunk)].ravel()
        store.write(chunk, {name: values[where] for name, values in rows.items()})
    remove_journal(store)
    return saving


def remove_journal(store: Store) -> None:
    """The batches of a store that is whole are not needed any more."""
    shutil.rmtree(store.path / JOURNAL, ignore_errors=True)


def _save(path: Any, batch: Batch, arrays: dict[str, NDArray]) -> None:
    with written_whole("out", path, force=True) as temporary, temporary.open("wb") as stream:
        np.savez(stream, points=np.array(batch.points), **arrays)  # type: ignore[arg-type]


def _load(path: Any, batch: Batch) -> dict[str, NDArray] | None:
    """What is there of a batch."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        return None
    same = np.array_equal(arrays.pop("points"), batch.points)
    if not (same and np.all(arrays[MARK] == batch.trajectories)):
        raise InvalidParameter("out", "a store that nobody has changed", path)
    return arrays

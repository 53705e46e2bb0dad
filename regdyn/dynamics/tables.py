"""What is constant within each step of a call: a row for each, or one where nothing moves."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from regdyn.dynamics.noise import BurnIn
from regdyn.dynamics.optimization import DTYPES, OptimizationConfig
from regdyn.optimizers import decay_placement

Steps = NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """Rows, and where those of each point stand.

    Attributes
    ----------
    rows
        (rows, columns).
    where
        (points, 2): the first row of a point, and 1 if there is one for each step, else 0.
    """

    rows: NDArray
    where: NDArray[np.int64]


@dataclass(frozen=True)
class Tables:
    """What the kernels look up at each step.

    Attributes
    ----------
    constants
        The rule's, (rows, constants).
    scales
        The factor on the noise, (rows,).
    decays
        Where the decay acts, (rows, 3): see `regdyn.optimizers.decay_placement`.
    which
        (points, 6): where each point's rows are in each of them, as in `regdyn.dynamics._lanes`.
    trace
        Recorded gradients of the steps.
    """

    constants: NDArray
    scales: NDArray
    decays: NDArray
    which: NDArray[np.int64]
    trace: NDArray[np.float64]

    @classmethod
    def of(cls, constants: Table, scales: Table, decays: Table, trace: NDArray[np.float64]) -> Tables:
        """From the three tables of the same points."""
        which = np.concatenate([constants.where, scales.where, decays.where], axis=1)
        return cls(constants.rows, scales.rows[:, 0], decays.rows, which, trace)


class _Builder:
    """A table that grows by a group of points at a time."""

    def __init__(self, points: int, dtype: DTypeLike) -> None:
        self._parts: list[NDArray] = []
        self._count = 0
        self._where = np.empty((points, 2), dtype=np.int64)
        self._dtype = dtype

    def add(self, members: Sequence[int] | NDArray, steps: int, columns: Sequence[Any]) -> None:
        """The rows of some points: columns are numbers or broadcast to (members, steps)."""
        part = np.empty((len(members), steps, len(columns)), self._dtype)
        for j, column in enumerate(columns):
            part[:, :, j] = column
        self._parts.append(part.reshape(-1, len(columns)))
        self._where[members, 0] = self._count + np.arange(len(members)) * steps
        self._where[members, 1] = steps > 1
        self._count += len(members) * steps

    def table(self) -> Table:
        parts = self._parts
        return Table(parts[0] if len(parts) == 1 else np.concatenate(parts), self._where)


def constants_table(configs: Sequence[OptimizationConfig], t: Steps) -> Table:
    """The constants of an update rule under many configurations."""
    builder = _Builder(len(configs), DTYPES[configs[0].dtype])
    for members in _groups((identity(c.schedule), c.rule.flags) for c in configs):
        first = configs[members[0]]
        _, scale = first.learning_rates(t)
        places = np.array(members)
        moving = np.ones(len(members), dtype=bool)

        def columns(which: NDArray, at: Steps, scale: NDArray, first: Any = first) -> Sequence[Any]:
            stack = first.rule.stacked([configs[i].rule for i in which])
            return stack.constants(at, stack.lr * scale)  # type: ignore[no-any-return]

        if _is_still(scale):
            # Constants are monotone in t then: what is alike at both ends is so throughout.
            ends = [
                np.broadcast_to(x, (len(members), 2)) for x in columns(places, t[[0, -1]], scale[:2])
            ]
            moving = np.any([x[:, 0] != x[:, 1] for x in ends], axis=0)
            still = places[~moving]
            if len(still):
                builder.add(still, 1, [x[~moving, :1] for x in ends])
        if np.any(moving):
            builder.add(places[moving], len(t), columns(places[moving], t, scale))
    return builder.table()


def decays_table(configs: Sequence[OptimizationConfig], t: Steps) -> Table:
    """Where the decay acts under many configurations."""
    builder = _Builder(len(configs), DTYPES[configs[0].dtype])
    for members in _groups((identity(c.schedule), c.regularization) for c in configs):
        first = configs[members[0]]
        _, scale = first.learning_rates(t)
        scale = scale[:1] if _is_still(scale) else scale
        lam, lr = np.array([(configs[i].lam, configs[i].rule.lr) for i in members]).T[:, :, None]
        columns = decay_placement(first.regularization, lam, lr * scale, scale)
        builder.add(members, len(scale), columns)
    return builder.table()


def stds_table(stds: Sequence[Any], t: Steps, dtype: DTypeLike) -> Table:
    """Stds as `BurnIn` or any function of the steps."""
    builder = _Builder(len(stds), dtype)
    simple = [i for i, each in enumerate(stds) if isinstance(each, BurnIn)]
    if simple:
        rows = np.array([(stds[i].early, stds[i].late, stds[i].steps) for i in simple])
        early, late, steps = rows.T[:, :, None]
        moving = ((t[0] <= steps) & (t[-1] > steps))[:, 0]
        places = np.array(simple)
        for chosen, at in ((~moving, t[:1]), (moving, t)):
            if np.any(chosen):
                values = np.where(at <= steps[chosen], early[chosen], late[chosen])
                builder.add(places[chosen], len(at), [values])
    for i, each in enumerate(stds):
        if not isinstance(each, BurnIn):
            row = np.asarray(each(t))
            row = row[:1] if _is_still(row) else row
            builder.add([i], len(row), [row])
    return builder.table()


def of_kinds(keys: Iterable[Hashable], make: Any) -> Table:
    """A table of many points from one of those that differ; `make` takes where they first stand."""
    numbers: dict[Hashable, int] = {}
    firsts: list[int] = []
    which: list[int] = []
    for i, key in enumerate(keys):
        kind = numbers.setdefault(key, len(numbers))
        if kind == len(firsts):
            firsts.append(i)
        which.append(kind)
    table: Table = make(firsts)
    return Table(table.rows, table.where[which])


def identity(what: Any) -> Hashable:
    """Equal for schedules and the like that are equal, or the same where they cannot be compared."""
    return what if isinstance(what, Hashable) else id(what)


def _groups(keys: Iterable[Hashable]) -> list[list[int]]:
    """Where each different key stands."""
    found: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return list(found.values())


def _is_still(values: NDArray) -> bool:
    return bool(np.all(values == values[0]))

"""What is constant within each step of a call: a row for each, or one where nothing moves."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from regdyn.dynamics.noise import BurnIn
from regdyn.dynamics.optimization import DTYPES, OptimizationConfig
from regdyn.optimizers import Optimizer, decay_placement

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
        columns = [np.broadcast_to(column, part.shape[:2]) for column in columns]
        # Whole rows at once for what stands still; one column after the other would be slower.
        part[...] = np.stack([column[:, 0] for column in columns], axis=-1)[:, None]
        for j, column in enumerate(columns):
            if column.strides[1]:
                part[:, :, j] = column
        self._parts.append(part.reshape(-1, len(columns)))
        self._where[members, 0] = self._count + np.arange(len(members)) * steps
        self._where[members, 1] = steps > 1
        self._count += len(members) * steps

    def table(self) -> Table:
        parts = self._parts
        return Table(parts[0] if len(parts) == 1 else np.concatenate(parts), self._where)


class _Kinds:
    """The configurations that differ in a key: each once, and which of them each point has."""

    def __init__(self, keys: Iterable[Hashable]) -> None:
        groups = _groups(keys)
        self.firsts = [members[0] for members in groups]
        self._which = np.empty(sum(map(len, groups)), dtype=np.int64)
        for kind, members in enumerate(groups):
            self._which[members] = kind

    def spread(self, table: Table) -> Table:
        """A table of all points from one of the kinds."""
        return Table(table.rows, table.where[self._which])


class Constants:
    """The constants of an update rule under many configurations."""

    def __init__(self, configs: Sequence[OptimizationConfig]) -> None:
        self._kinds = _Kinds((c.rule, identity(c.schedule)) for c in configs)
        self._configs = [configs[i] for i in self._kinds.firsts]
        groups = _groups((identity(c.schedule), c.rule.flags) for c in self._configs)
        self._groups = [(np.array(members), self._stack(members)) for members in groups]

    def _stack(self, members: Iterable[int]) -> Optimizer:
        rules = [self._configs[i].rule for i in members]
        return rules[0].stacked(rules)

    def at(self, t: Steps) -> Table:
        """The constants within each of the steps."""
        builder = _Builder(len(self._configs), DTYPES[self._configs[0].dtype])
        for places, stack in self._groups:
            _, scale = self._configs[places[0]].learning_rates(t)
            moving = np.ones(len(places), dtype=bool)
            if _is_still(scale):
                # Constants are monotone in t then: what is alike at both ends is so throughout.
                ends = [
                    np.broadcast_to(x, (len(places), 2))
                    for x in stack.constants(t[[0, -1]], stack.lr * scale[:2])
                ]
                moving = np.any([x[:, 0] != x[:, 1] for x in ends], axis=0)
                still = places[~moving]
                if len(still):
                    builder.add(still, 1, [x[~moving, :1] for x in ends])
            if np.any(moving):
                some = stack if np.all(moving) else self._stack(places[moving])
                builder.add(places[moving], len(t), some.constants(t, some.lr * scale))
        return self._kinds.spread(builder.table())


class Decays:
    """Where the decay acts under many configurations."""

    def __init__(self, configs: Sequence[OptimizationConfig]) -> None:
        self._kinds = _Kinds(
            (c.regularization, c.lam, c.rule.lr, identity(c.schedule)) for c in configs
        )
        self._configs = [configs[i] for i in self._kinds.firsts]
        self._strengths = np.array([(c.lam, c.rule.lr) for c in self._configs])
        groups = _groups((identity(c.schedule), c.regularization) for c in self._configs)
        self._groups = [np.array(members) for members in groups]

    def at(self, t: Steps) -> Table:
        """The three numbers of `regdyn.optimizers.decay_placement` at each of the steps."""
        builder = _Builder(len(self._configs), DTYPES[self._configs[0].dtype])
        for places in self._groups:
            first = self._configs[places[0]]
            _, scale = first.learning_rates(t)
            scale = scale[:1] if _is_still(scale) else scale
            lam, lr = self._strengths[places].T[:, :, None]
            columns = decay_placement(first.regularization, lam, lr * scale, scale)
            builder.add(places, len(scale), columns)
        return self._kinds.spread(builder.table())


class Scales:
    """Stds as `BurnIn` or any function of the steps."""

    def __init__(self, stds: Sequence[Any], dtype: DTypeLike) -> None:
        self._kinds = _Kinds(map(identity, stds))
        self._stds = [stds[i] for i in self._kinds.firsts]
        self._dtype = dtype
        simple = [i for i, each in enumerate(self._stds) if isinstance(each, BurnIn)]
        self._simple = np.array(simple, dtype=np.int64)
        rows = [(self._stds[i].early, self._stds[i].late, self._stds[i].steps) for i in simple]
        self._burn_in = np.array(rows).reshape(-1, 3).T[:, :, None]

    def at(self, t: Steps) -> Table:
        """The std at each of the steps."""
        builder = _Builder(len(self._stds), self._dtype)
        early, late, steps = self._burn_in
        moving = ((t[0] <= steps) & (t[-1] > steps))[:, 0]
        for chosen, at in ((~moving, t[:1]), (moving, t)):
            if np.any(chosen):
                values = np.where(at <= steps[chosen], early[chosen], late[chosen])
                builder.add(self._simple[chosen], len(at), [values])
        for i, each in enumerate(self._stds):
            if not isinstance(each, BurnIn):
                row = np.asarray(each(t))
                row = row[:1] if _is_still(row) else row
                builder.add([i], len(row), [row])
        return self._kinds.spread(builder.table())


def identity(what: Any) -> Hashable:
    """Equal for schedules and the like that are equal, or the same where they cannot be compared."""
    try:
        hash(what)
    except TypeError:  # such as a dataclass with an array
        return id(what)
    return what  # type: ignore[no-any-return]


def _groups(keys: Iterable[Hashable]) -> list[list[int]]:
    """Where each different key stands."""
    found: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return list(found.values())


def _is_still(values: NDArray) -> bool:
    return bool(np.all(values == values[0]))

"""The grid of a sweep: which values each parameter takes, and how the points are cut into chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from regdyn.errors import InvalidParameter

MOST_VALUES = 10**7
"""Values of one axis."""

MOST_DIGITS = 20
"""Of a whole number: 2^64 has as many."""

_Refuse = Callable[[int, str], InvalidParameter]
"""refuse(column, reason)."""


def parse_numbers(name: str, text: str, whole: bool = False) -> list[float] | list[int]:
    """The numbers in a list such as "0,1e-7:1e-1:log61", in order.

    FROM:TO:N are N numbers from FROM to TO, equally spaced; FROM:TO:logN in equal ratios. A `whole`
    parameter may also have FROM:TO, every integer but the last, and its ranges are rounded.

    Raises
    ------
    InvalidParameter
        Called `name`, with the column, from 1 on, in which the mistake is.
    """

    def refuse(column: int, reason: str) -> InvalidParameter:
        ranges = f"{'FROM:TO, ' if whole else ''}FROM:TO:N or FROM:TO:logN"
        forms = f"values and ranges {ranges}, separated by commas"
        return InvalidParameter(name, forms, f"{text} (column {column}: {reason})")

    numbers: list[float] = []
    column = 1
    for item in text.split(","):
        start = column + len(item) - len(item.lstrip())
        if not item.strip():
            raise refuse(start, "nothing between commas" if "," in text else "no value")
        numbers += _numbers(item.strip(), start, whole, refuse)
        column += len(item) + 1
    if len(numbers) > MOST_VALUES:
        raise InvalidParameter(name, f"at most {MOST_VALUES} values", len(numbers))
    return [int(number) for number in numbers] if whole and _all_whole(numbers) else numbers


def _all_whole(numbers: list[float]) -> bool:
    return all(number % 1 == 0 for number in numbers)


def _numbers(item: str, column: int, whole: bool, refuse: _Refuse) -> list[float]:
    """One item of the list, which starts in `column`."""
    parts = item.split(":")
    columns = [column + sum(len(part) + 1 for part in parts[:i]) for i in range(len(parts))]
    if len(parts) > 3:
        raise refuse(columns[3] - 1, "a third colon")
    ends = [_number(part, at, whole, refuse) for part, at in zip(parts[:2], columns)]
    if len(parts) == 1:
        return ends
    low, high = ends
    if len(parts) == 2:
        if not whole:
            raise refuse(column + len(item), "N or logN is missing")
        if not low < high or low % 1 or high % 1:
            raise refuse(column, "FROM:TO needs integers with FROM below TO")
        count = int(min(high - low, MOST_VALUES + 1))
        return [low + i for i in range(count)]
    spacing, at = parts[2], columns[2]
    log = spacing.startswith("log")
    digits = spacing.removeprefix("log")
    if not (digits.isascii() and digits.isdigit()):
        raise refuse(at, f"{spacing or 'nothing'} is neither N nor logN")
    count = int(digits) if len(digits) <= MOST_DIGITS else MOST_VALUES + 1
    if not 2 <= count <= MOST_VALUES:
        raise refuse(at, f"N must be in [2, {MOST_VALUES}]")
    if low == high:
        raise refuse(column, "FROM and TO are the same")
    if not math.isfinite(float(high) - float(low)):
        raise refuse(column, "FROM and TO are too far apart")
    if log and not (low > 0 and high > 0):
        where = columns[0] if low <= 0 else columns[1]
        raise refuse(where, "a log range needs FROM and TO above 0")
    spaced = np.geomspace(low, high, count) if log else np.linspace(float(low), float(high), count)
    return [float(round(x)) if whole else float(x) for x in spaced.tolist()]


def _number(part: str, column: int, whole: bool, refuse: _Refuse) -> float:
    if whole and part.isascii() and part.isdigit() and len(part) <= MOST_DIGITS:
        return int(part)  # where a float would round it
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise refuse(column, f"{part or 'nothing'} is not a number")
    return value


@dataclass(frozen=True)
class Axis:
    """A dimension of a sweep: one parameter, or several that take their values together.

    Attributes
    ----------
    values
        The values of each parameter by name, all equally many.
    """

    values: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.values.items()}
        if len(set(lengths.values())) > 1:
            texts = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise InvalidParameter("zip", "of parameters with equally many values", texts)
        if not min(lengths.values(), default=0):
            raise InvalidParameter(next(iter(lengths), "axes"), "given at least one value")

    @property
    def dim(self) -> str:
        """Its name as a dimension."""
        return "_".join(self.values)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def part(self, where: slice) -> Axis:
        """Some of its values."""
        return Axis({name: values[where] for name, values in self.values.items()})


@dataclass(frozen=True)
class Grid:
    """The product of some axes; a point is one value of each.

    Points are counted with the last axis fastest.
    """

    axes: tuple[Axis, ...]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis) for axis in self.axes)

    @cached_property
    def size(self) -> int:
        """Number of points, 1 without an axis."""
        return math.prod(self.shape)

    def points(self) -> Iterator[dict[str, Any]]:
        """The parameters of each point."""
        rows = [
            [dict(zip(axis.values, row)) for row in zip(*axis.values.values())] for axis in self.axes
        ]
        for choice in product(*rows):
            yield {name: value for part in choice for name, value in part.items()}

    def point(self, number: int) -> dict[str, Any]:
        """The parameters of one point."""
        parameters: list[dict[str, Any]] = []
        for axis in reversed(self.axes):
            number, at = divmod(number, len(axis))
            parameters.insert(0, {name: values[at] for name, values in axis.values.items()})
        return {name: value for part in parameters for name, value in part.items()}

    def part(self, where: Sequence[slice]) -> Grid:
        """A rectangle of it."""
        return Grid(tuple(axis.part(each) for axis, each in zip(self.axes, where)))

    def chunk_shape(self, points: int) -> tuple[int, ...]:
        """The largest rectangle of whole trailing axes with at most about so many points."""
        shape: list[int] = []
        room = max(1, points)
        for length in reversed(self.shape):
            # Chunks along the axis that is cut are as equal as possible.
            pieces = -(-length // room)
            taken = -(-length // pieces)
            shape.insert(0, taken)
            room = room // taken if pieces == 1 else 1
        return tuple(shape)


@dataclass(frozen=True)
class Chunks:
    """How a grid is cut into rectangles, counted with the last axis fastest."""

    shape: tuple[int, ...]
    chunk: tuple[int, ...]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(-(-length // size) for length, size in zip(self.shape, self.chunk))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def place(self, number: int) -> tuple[int, ...]:
        """Where a chunk stands among the chunks, along each axis."""
        place: list[int] = []
        for count in reversed(self.counts):
            number, at = divmod(number, count)
            place.insert(0, at)
        return tuple(place)

    def where(self, number: int) -> tuple[slice, ...]:
        """The points of a chunk."""
        return tuple(
            slice(at * size, min((at + 1) * size, length))
            for at, size, length in zip(self.place(number), self.chunk, self.shape)
        )

"""The grid of a sweep: how its axes are written, and how its points are cut into chunks."""

from __future__ import annotations

import math
import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regdyn import InvalidParameter
from regdyn.sweeps.axes import MOST_VALUES, Axis, Chunks, Grid, parse_numbers

# --- Numbers --------------------------------------------------------------------------------------

LISTS: dict[str, list[float]] = {
    "1e-3": [1e-3],
    "0,1e-4,2": [0, 1e-4, 2],
    " 1 , -2,.5 ": [1, -2, 0.5],
    "0:1:5": [0, 0.25, 0.5, 0.75, 1],
    "1:-1:3": [1, 0, -1],
    "1:2:2": [1, 2],
    "2,1,2,1:3:3,0": [2, 1, 2, 1, 2, 3, 0],
    "0,-0": [0, 0],
    "1:1000:log4": [1, 10, 100, 1000],
    "8:1:log4": [8, 4, 2, 1],
    "7,1:4:log3,7": [7, 1, 2, 4, 7],
}


@pytest.mark.parametrize("text", LISTS)
def test_lists_and_ranges(text: str) -> None:
    found = parse_numbers("lam", text)
    assert found == pytest.approx(LISTS[text], rel=1e-14)
    assert all(isinstance(number, float) for number in found)


WHOLE = {
    "3": [3],
    "0:4": [0, 1, 2, 3],
    "3:5,4:7,1": [3, 4, 4, 5, 6, 1],
    "-2:1": [-2, -1, 0],
    "1e3,1e6": [1000, 10**6],
    "100:200:3": [100, 150, 200],
    "1:10:4": [1, 4, 7, 10],
    "1:1000:log4": [1, 10, 100, 1000],
    "1:3:9": [1, 1, 2, 2, 2, 2, 2, 3, 3],
    "1:100:log5": [1, 3, 10, 32, 100],
    "18446744073709551615,9007199254740993": [2**64 - 1, 2**53 + 1],
    "18446744073709551613:18446744073709551615": [2**64 - 3, 2**64 - 2],
    "9007199254740993:9007199254740996": [2**53 + 1, 2**53 + 2, 2**53 + 3],
}


@pytest.mark.parametrize("text", WHOLE)
def test_whole_numbers(text: str) -> None:
    found = parse_numbers("seed", text, whole=True)
    assert found == WHOLE[text]
    assert all(isinstance(number, int) for number in found)


def test_whole_numbers_that_are_none_stay_as_they_are() -> None:
    assert parse_numbers("steps", "1.5,2", whole=True) == [1.5, 2]


MISTAKES = {
    "": "1: no value",
    "  ": "3: no value",
    ",": "1: nothing between commas",
    "1,,2": "3: nothing between commas",
    "1,": "3: nothing between commas",
    "x": "1: x is not a number",
    "1,x": "3: x is not a number",
    "1,  x,2": "5: x is not a number",
    "1e-4;1e-3": "1: 1e-4;1e-3 is not a number",
    "nan": "1: nan is not a number",
    "0,inf": "3: inf is not a number",
    "1e400": "1: 1e400 is not a number",
    "²": "1: ² is not a number",
    ":": "1: nothing is not a number",
    "1:": "3: nothing is not a number",
    ":2:3": "1: nothing is not a number",
    "x:2:3": "1: x is not a number",
    "1:x:3": "3: x is not a number",
    "0,1:nan:log3": "5: nan is not a number",
    "1:2": "4: N or logN is missing",
    "0, 1:22": "8: N or logN is missing",
    "1:2:": "5: nothing is neither N nor logN",
    "1:2:x": "5: x is neither N nor logN",
    "1:2:log": "5: log is neither N nor logN",
    "1:2:logx": "5: logx is neither N nor logN",
    "1:2:lin5": "5: lin5 is neither N nor logN",
    "1:2:-3": "5: -3 is neither N nor logN",
    "1:2:2.5": "5: 2.5 is neither N nor logN",
    "1:2:²": "5: ² is neither N nor logN",
    "0,10:20:1e1": "9: 1e1 is neither N nor logN",
    "1:2:0": r"5: N must be in \[2, 10000000\]",
    "1:2:1": r"5: N must be in \[2, ",
    "1:2:log1": r"5: N must be in \[2, ",
    "1:2:10000001": r"5: N must be in \[2, ",
    "1:2:3:4": "6: a third colon",
    "0,10:20:30:40:50": "11: a third colon",
    "1:1:3": "1: FROM and TO are the same",
    "0,2:2:log3": "3: FROM and TO are the same",
    "0:1:log3": "1: a log range needs FROM and TO above 0",
    "-1:1:log3": "1: a log range needs",
    "0,1:0:log3": "5: a log range needs",
    "10:-1:log3": "4: a log range needs",
}

WHOLE_MISTAKES = {
    "5:1": "1: FROM:TO needs integers with FROM below TO",
    "0,3:3": "3: FROM:TO needs integers",
    "0.5:3": "1: FROM:TO needs integers",
    "0,0:2.5": "3: FROM:TO needs integers",
    "0:x": "3: x is not a number",
    "0:": "3: nothing is not a number",
    "1,,2": "3: nothing between commas",
    "1:2:3:4": "6: a third colon",
}


def check_mistake(text: str, reason: str, whole: bool) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_numbers("lam", text, whole)
    ranges = "FROM:TO, FROM:TO:N or FROM:TO:logN" if whole else "FROM:TO:N or FROM:TO:logN"
    wanted = f"lam must be values and ranges {ranges}, separated by commas, got {text} (column "
    start = re.escape(wanted)
    assert re.match(start + reason, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_have_a_column(text: str) -> None:
    check_mistake(text, MISTAKES[text], whole=False)


@pytest.mark.parametrize("text", WHOLE_MISTAKES)
def test_mistakes_in_whole_numbers(text: str) -> None:
    check_mistake(text, WHOLE_MISTAKES[text], whole=True)


@pytest.mark.parametrize("text", ["0:10000001", "0:6000000,6000000:11000000", "0:1000000000000000000"])
def test_too_many_values(text: str) -> None:
    with pytest.raises(InvalidParameter, match=f"seed must be at most {MOST_VALUES} values, got 1"):
        parse_numbers("seed", text, whole=True)


@pytest.mark.parametrize(
    "text, whole",
    [
        ("9" * 5000, True),
        ("0:1:" + "9" * 5000, False),
        (f"0:{'9' * 400}:3", True),
        ("-1.7e308:1.7e308:3", False),
    ],
    ids=["a number", "N", "an end", "a width"],
)
def test_numbers_beyond_all_bounds(text: str, whole: bool) -> None:
    with pytest.raises(InvalidParameter):
        parse_numbers("lam", text, whole)


WIDE = st.floats(1e-30, 1e30)


@given(low=WIDE, high=WIDE, count=st.integers(2, 200))
def test_log_ranges(low: float, high: float, count: int) -> None:
    if max(low, high) < 1.001 * min(low, high):
        high = 2 * low
    found = np.array(parse_numbers("lam", f"{low!r}:{high!r}:log{count}"))
    assert len(found) == count
    assert (found[0], found[-1]) == (low, high)
    ratio = (high / low) ** (1 / (count - 1))
    np.testing.assert_allclose(found[1:] / found[:-1], ratio, rtol=1e-12)


@given(low=st.floats(-1e9, 1e9), width=st.floats(1e-3, 1e9), count=st.integers(2, 200))
def test_linear_ranges(low: float, width: float, count: int) -> None:
    high = low + width
    found = np.array(parse_numbers("lam", f"{low!r}:{high!r}:{count}"))
    assert (len(found), found[0], found[-1]) == (count, low, high)
    np.testing.assert_allclose(np.diff(found), (high - low) / (count - 1), atol=1e-6 * width + 1e-6)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_are_read_as_they_are_written(numbers: list[float]) -> None:
    assert parse_numbers("lam", ",".join(map(repr, numbers))) == numbers


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_whole_numbers_are_read_exactly(numbers: list[int]) -> None:
    text = ", ".join(map(str, numbers))
    assert parse_numbers("seed", text, whole=True) == numbers


ITEMS = st.sampled_from(["1", " 2e-3", "0:1:3 ", " 1:10:log4", "-.5  "])


@given(before=st.lists(ITEMS, max_size=5), after=st.lists(ITEMS, max_size=5), gap=st.integers(0, 3))
def test_column_of_a_mistake(before: list[str], after: list[str], gap: int) -> None:
    text = ",".join([*before, " " * gap + "here", *after])
    check_mistake(text, f"{text.index('here') + 1}: here is not a number", whole=False)


# --- Axes and grids -------------------------------------------------------------------------------


def test_an_axis_of_several_parameters() -> None:
    axis = Axis({"lam": [1, 2, 3], "sigma": [4, 5, 6]})
    assert (axis.dim, len(axis)) == ("lam_sigma", 3)
    assert axis.part(slice(1, 3)).values == {"lam": [2, 3], "sigma": [5, 6]}


def test_axes_that_do_not_go_together() -> None:
    wanted = r"zip must be of parameters with equally many values, got lam 2, sigma 3$"
    with pytest.raises(InvalidParameter, match=wanted):
        Axis({"lam": [1, 2], "sigma": [1, 2, 3]})
    with pytest.raises(InvalidParameter, match="lam must be given at least one value"):
        Axis({"lam": []})


def test_points_have_the_last_axis_fastest() -> None:
    grid = Grid((Axis({"opt": ["a", "b"]}), Axis({"lam": [1, 2], "sigma": [3, 4]})))
    assert (grid.shape, grid.size) == ((2, 2), 4)
    assert list(grid.points()) == [
        {"opt": "a", "lam": 1, "sigma": 3}, {"opt": "a", "lam": 2, "sigma": 4},
        {"opt": "b", "lam": 1, "sigma": 3}, {"opt": "b", "lam": 2, "sigma": 4},
    ]  # fmt: skip


def test_a_grid_without_axes_is_a_point() -> None:
    grid = Grid(())
    assert (grid.shape, grid.size, list(grid.points()), grid.chunk_shape(5)) == ((), 1, [{}], ())
    chunks = Chunks((), ())
    assert (len(chunks), chunks.where(0), chunks.place(0)) == (1, (), ())


SHAPES = st.lists(st.integers(1, 7), max_size=4)


def grid_of(shape: list[int]) -> Grid:
    return Grid(tuple(Axis({f"p{i}": list(range(n))}) for i, n in enumerate(shape)))


def covered(shape: tuple[int, ...], chunks: Chunks) -> np.ndarray:
    """How many chunks hold each point."""
    count = np.zeros(shape, dtype=int)
    for number in range(len(chunks)):
        count[chunks.where(number)] += 1
    return count


@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), max_size=4))
def test_chunks_of_any_shape_cover_each_point_once(lengths: list[tuple[int, int]]) -> None:
    shape, chunk = tuple(n for n, _ in lengths), tuple(size for _, size in lengths)
    chunks = Chunks(shape, chunk)
    assert np.all(covered(shape, chunks) == 1)
    assert len(chunks) == math.prod(math.ceil(n / size) for n, size in lengths)
    places = [chunks.place(number) for number in range(len(chunks))]
    assert places == list(product(*map(range, chunks.counts)))


@given(SHAPES, st.integers(1, 3000))
def test_shape_of_a_chunk(shape: list[int], points: int) -> None:
    grid = grid_of(shape)
    chunk = grid.chunk_shape(points)
    assert len(chunk) == len(shape) and all(1 <= size <= n for size, n in zip(chunk, shape))
    assert math.prod(chunk) <= points
    assert np.all(covered(grid.shape, Chunks(grid.shape, chunk)) == 1)
    if grid.size <= points:
        assert chunk == grid.shape
    # Axes are whole from the last one up to one that is cut; of those before it a chunk has one value.
    cut = max((i for i, (size, n) in enumerate(zip(chunk, shape)) if size < n), default=0)
    assert chunk[cut + 1 :] == grid.shape[cut + 1 :] and set(chunk[:cut]) <= {1}


@given(SHAPES, st.integers(1, 50))
def test_parts_of_a_grid_are_its_points(shape: list[int], points: int) -> None:
    grid = grid_of(shape)
    chunks = Chunks(grid.shape, grid.chunk_shape(points))
    numbers = np.arange(grid.size).reshape(grid.shape)
    listed = list(grid.points())
    for number in range(len(chunks)):
        where = chunks.where(number)
        part = grid.part(where)
        assert list(part.points()) == [listed[i] for i in numbers[where].ravel()]
        assert part.size == numbers[where].size

"""Schedules against torch and optax, and their short form on the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import SCHEDULES, advance_torch_scheduler, optax_scales, torch_scheduler

import regdyn
from regdyn import Constant, Cosine, CosineRestarts, Step, Table
from regdyn.dynamics import schedules
from regdyn.dynamics.schedules import Schedule, parse_schedule

STEPS = 1500


def scales(schedule: Schedule, steps: int = STEPS) -> np.ndarray:
    return schedule(np.arange(1, steps + 1))


def torch_scales(schedule: Schedule) -> np.ndarray:
    """The learning rates under torch's scheduler from a base of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch_scheduler(schedule, optimizer)
    optimizer.step()
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        advance_torch_scheduler(schedule, scheduler)
    return np.array(rates)


# Short periods as well, which would take optax seconds.
FOR_TORCH = SCHEDULES | {
    CosineRestarts: st.builds(
        CosineRestarts, st.integers(1, 200), st.integers(1, 5), st.floats(0.0, 1.0)
    )
}


def test_every_kind_is_compared() -> None:
    classes = (x for x in vars(schedules).values() if dataclasses.is_dataclass(x))
    kinds = {x for x in classes if x.__module__ == schedules.__name__}
    assert set(SCHEDULES) == set(FOR_TORCH) == kinds


@pytest.mark.parametrize("kind", FOR_TORCH)
@settings(max_examples=50)
@given(data=st.data())
def test_equals_torch(kind: type, data: st.DataObject) -> None:
    schedule = data.draw(FOR_TORCH[kind])
    assert np.max(np.abs(scales(schedule) - torch_scales(schedule))) < 1e-13


@pytest.mark.parametrize("kind", SCHEDULES)
@settings(max_examples=20)
@given(data=st.data())
def test_equals_optax(kind: type, data: st.DataObject) -> None:
    schedule = data.draw(SCHEDULES[kind])
    assert np.max(np.abs(scales(schedule) - optax_scales(schedule, STEPS))) < 1e-13


@pytest.mark.parametrize("kind", FOR_TORCH)
@given(data=st.data(), start=st.integers(0, STEPS - 1))
def test_a_stretch_of_steps_equals_the_whole(kind: type, data: st.DataObject, start: int) -> None:
    schedule = data.draw(FOR_TORCH[kind])
    stretch = schedule(np.arange(start + 1, STEPS + 1))
    assert stretch.dtype == np.float64
    assert np.array_equal(stretch, scales(schedule)[start:])


@pytest.mark.parametrize(
    "schedule, expected",
    [
        (Constant(), [1, 1, 1, 1, 1, 1]),
        (Step((2, 5)), [1, 1, 0.1, 0.1, 0.1, 0.01]),
        (Step([1], 0), [1, 0, 0, 0, 0, 0]),
        (Cosine(2), [1, 0.5, 0, 0, 0, 0]),
        (Cosine(2, 0.2), [1, 0.6, 0.2, 0.2, 0.2, 0.2]),
        (CosineRestarts(2), [1, 0.5, 1, 0.5, 1, 0.5]),
        (CosineRestarts(1, 2), [1, 1, 0.5, 1, 0.5 + 0.5**1.5, 0.5]),
        (CosineRestarts(2, 1, 0.2), [1, 0.6, 1, 0.6, 1, 0.6]),
        (Table([3, 2]), [3, 2, 2, 2, 2, 2]),
        (Table(0.5), [0.5] * 6),
    ],
)
def test_first_steps(schedule: Schedule, expected: list[float]) -> None:
    assert scales(schedule, 6) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Step(()), "boundaries must be increasing step numbers"),
        (lambda: Step((5, 5)), "boundaries must be increasing step numbers"),
        (lambda: Step((8, 4)), "boundaries must be increasing step numbers"),
        (lambda: Step((0,)), r"boundaries must be an integer in \[1, "),
        (lambda: Step((2.5,)), r"boundaries must be an integer in \[1, "),
        (lambda: Step((3,), -1.0), r"factor must be in \[0, inf\), got -1.0"),
        (lambda: Cosine(0), r"period must be an integer in \[1, "),
        (lambda: Cosine(10, 1.5), r"final must be in \[0, 1\], got 1.5"),
        (lambda: CosineRestarts(0), r"period must be an integer in \[1, "),
        (lambda: CosineRestarts(10, 0), r"growth must be an integer in \[1, 1000\]"),
        (lambda: CosineRestarts(10, 2, np.nan), r"final must be in \[0, 1\], got nan"),
        (lambda: Table([]), "schedule must be a non-empty one-dimensional array"),
        (lambda: Table([[1.0]]), "schedule must be a non-empty one-dimensional array"),
        (lambda: Table([1.0, np.nan]), "schedule must be a non-empty one-dimensional array"),
        (lambda: Table([1.0, -1.0]), "schedule must be a non-empty one-dimensional array"),
        (lambda: Table("a"), "schedule must be a non-empty one-dimensional array"),
        (lambda: Table({"a": 1}), "schedule must be a non-empty one-dimensional array"),
        (lambda: Table([[1.0], [1.0, 2.0]]), "schedule must be .* rows of different lengths"),
        (lambda: Table([1 + 1j]), "schedule must be a non-empty one-dimensional array"),
        (lambda: Step(5, "a"), "factor must be a number"),
        (lambda: Step("ab"), r"boundaries must be an integer in \[1, "),
        (lambda: regdyn.StdTable("a"), "sigma must be a non-empty one-dimensional array"),
        (lambda: regdyn.StdTable([[1.0], [1.0, 2.0]]), "sigma must be .* rows of different lengths"),
        (lambda: regdyn.Gaussian([-1.0]), "sigma must be a non-empty one-dimensional array"),
        (lambda: regdyn.Trace([[1.0], [1.0, 2.0]]), "trace must be .* rows of different lengths"),
        (lambda: regdyn.Trace([1 + 1j]), "trace must be numbers of shape"),
        (lambda: regdyn.ScalarConfig(schedule=5), "schedule must be a schedule of regdyn"),
        (lambda: regdyn.ScalarConfig(signal=0.1), "signal must be a Signal"),
        (lambda: regdyn.ScalarConfig(noise="gaussian"), "noise must be a gradient model"),
        (
            lambda: regdyn.ScalarConfig(times=[[1], [1, 2]]),
            "times must be .* rows of different lengths",
        ),
    ],
)
def test_bad_parameters(make: Any, message: str) -> None:
    with pytest.raises(regdyn.InvalidParameter, match=message):
        make()


def test_one_boundary_needs_no_tuple() -> None:
    assert Step(5) == Step((5,))


@pytest.mark.parametrize(
    "function",
    [
        lambda t: np.ones(len(t) + 1),
        lambda t: np.full(len(t), np.nan),
        lambda t: np.full(len(t), -1.0),
        lambda t: "a",
    ],
)
def test_bad_schedules_of_users(function: Any) -> None:
    with pytest.raises(regdyn.InvalidParameter, match="schedule must be a function from"):
        regdyn.simulate("sgd", steps=5, trajectories=1, schedule=function)


@pytest.mark.parametrize(
    "text, schedule",
    [
        ("constant", Constant()),
        ("step:4", Step((4,), 0.1)),
        ("step:4,8", Step((4, 8), 0.1)),
        ("step:4,8:0.5", Step((4, 8), 0.5)),
        ("cosine", Cosine(100)),
        ("cosine:0.1", Cosine(100, 0.1)),
        ("restarts:10", CosineRestarts(10)),
        ("restarts:10:2", CosineRestarts(10, 2)),
    ],
)
def test_short_forms(text: str, schedule: Schedule) -> None:
    assert parse_schedule(text, steps=100) == schedule


def test_short_form_of_a_file(tmp_path: Path) -> None:
    factors = np.array([1.0, 0.5, 0.25])
    np.save(tmp_path / "factors.npy", factors)
    table = parse_schedule(str(tmp_path / "factors.npy"), steps=100)
    assert isinstance(table, Table)
    assert np.array_equal(table.values, factors)
    assert repr(table) == "Table(3 steps)"


@pytest.mark.parametrize(
    "text",
    ["", "Constant", "constant:1", "step", "step:", "step:4,", "step:4:x", "step:4:0.1:2", "step:4.5",
     "cosine:", "cosine:0.1:2", "restarts", "restarts:ten", "restarts:10:2:0.1", "linear:10"],
)  # fmt: skip
def test_unreadable_short_forms(text: str) -> None:
    with pytest.raises(regdyn.InvalidParameter) as caught:
        parse_schedule(text, steps=100)
    assert str(caught.value) == (
        "schedule must be constant, step:B1,B2,…[:FACTOR], cosine[:FINAL], restarts:PERIOD[:GROWTH] "
        f"or a .npy file of factors, got {text}"
    )


@pytest.mark.parametrize(
    "text, reason",
    [
        ("step:8,4", "boundaries must be increasing step numbers"),
        ("step:0", "boundaries must be an integer in"),
        ("step:4:-1", "factor must be in"),
        ("cosine:2", "final must be in"),
        ("cosine:nan", "final must be in"),
        ("restarts:0", "period must be an integer in"),
        ("restarts:10:0", "growth must be an integer in"),
    ],
)
def test_short_forms_with_bad_numbers(text: str, reason: str) -> None:
    with pytest.raises(regdyn.InvalidParameter, match=f"file of factors, where {reason}") as caught:
        parse_schedule(text, steps=100)
    assert caught.value.name == "schedule"


def save(path: Path, content: Any) -> None:
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param(b"factors", id="not numpy"),
        pytest.param(np.array([None, 1.0]), id="pickled"),
        pytest.param(np.array(["a"]), id="text"),
        pytest.param(np.ones((2, 2)), id="two dimensions"),
        pytest.param(-np.ones(3), id="negative"),
        pytest.param(np.array([np.inf]), id="infinite"),
        pytest.param(np.zeros(0), id="no factors"),
        pytest.param(b"", id="empty"),
        pytest.param(np.array([(1, 2.0)], dtype="i4,f8"), id="structured"),
        pytest.param(np.ones(3) + 1j, id="complex"),
    ],
)
def test_bad_files(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "factors.npy"
    save(path, content)
    with pytest.raises(regdyn.InvalidParameter, match=r"schedule must be a (readable \.npy|non-empty)"):
        parse_schedule(str(path), steps=100)

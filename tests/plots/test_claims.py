"""A claim's picture: what is on the axes, and when points make a line."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from regdyn.plots import plot_comparisons
from regdyn.plots.claims import MOST_SERIES
from regdyn.theorems import estimates
from regdyn.theorems.base import Comparison


def comparison(x: list[float], shift: float = 0.0, **more: object) -> Comparison:
    y = np.asarray(x) + 1 + shift
    return Comparison(
        measured=estimates.with_error(y, 0.1, 100), predicted=y, control=2 * y, x=x,
        x_label="step t", y_label="w", **more,
    )  # fmt: skip


def drawn(ax: Axes) -> list[Line2D]:
    return [line for line in ax.lines if len(line.get_xdata()) and line.get_marker() != "o"]


def test_series_of_cases() -> None:
    cases = [{"beta1": 0.9, "lr": 0.1}, {"beta1": 0.5, "lr": 0.1}]
    figure = plot_comparisons([comparison([1, 2, 3]), comparison([1, 2, 3], 1.0)], cases)
    (ax,) = figure.axes
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[:2] == [r"$\beta_1$ 0.9", r"$\beta_1$ 0.5"] and "negative control" in names[-1]
    assert [line.get_linestyle() for line in drawn(ax)] == ["-", ":", "-", ":"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step t", "w")


def test_one_point_each_makes_one_line_over_the_varying_parameter() -> None:
    cases = [{"lam": lam} for lam in (1.0, 2.0, 3.0)]
    (ax,) = plot_comparisons([comparison([case["lam"]]) for case in cases], cases).axes
    predicted, _ = drawn(ax)
    assert predicted.get_xdata().tolist() == [1, 2, 3] and predicted.get_linestyle() == "-"


def test_points_of_unlike_cases_make_no_line() -> None:
    cases = [{"lam": lam, "lr": 1 / lam} for lam in (1.0, 2.0)]
    (ax,) = plot_comparisons([comparison([case["lam"]]) for case in cases], cases).axes
    assert {line.get_linestyle() for line in drawn(ax)} == {"None"}
    (ax,) = plot_comparisons([comparison([1, 1, 2])], [{}]).axes
    assert {line.get_linestyle() for line in drawn(ax)} == {"None"}


@pytest.mark.parametrize("sign, scale", [(1, "log"), (-1, "symlog")])
def test_logarithmic_axes(sign: int, scale: str) -> None:
    y = sign * np.array([1e-3, 1.0])
    both = Comparison(
        measured=estimates.exact(y), predicted=y, control=y, x=[1, 10], x_label="x", y_label="y",
        log_x=True, log_y=True,
    )  # fmt: skip
    (ax,) = plot_comparisons([both], [{}]).axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", scale)


def test_a_long_label_is_folded_and_many_cases_are_counted() -> None:
    cases = [{"lam": float(i)} for i in range(MOST_SERIES + 2)]
    many = [comparison([1, 2]) for _ in cases]
    (ax,) = plot_comparisons(many, cases).axes
    assert ax.get_title(loc="left") == f"{MOST_SERIES} of {MOST_SERIES + 2} parameter sets"
    long = Comparison(
        measured=estimates.exact([1.0]), predicted=[1.0], control=[2.0], x=[1], x_label="x",
        y_label="a very long label that is longer than the axis which it describes",
    )  # fmt: skip
    (ax,) = plot_comparisons([long], [{}]).axes
    assert "\n" in ax.get_ylabel()


def test_infinite_values_are_left_out() -> None:
    y = np.array([1.0, np.inf])
    both = Comparison(
        measured=estimates.exact(y), predicted=[1.0, 2.0], control=[2.0, 4.0], x=[1, 2], x_label="x",
        y_label="y",
    )  # fmt: skip
    figure = plot_comparisons([both], [{}])
    figure.canvas.draw()


def test_named_quantities_stand_side_by_side() -> None:
    """Nothing lies between them, and a control about something else is not drawn."""
    named = Comparison(
        measured=estimates.exact([0.1, 0.2]), predicted=[0.0, 0.0], control=[0.5, 0.5], x=[1, 2],
        x_label="1: Adam, 2: SGD", y_label="share",
    )  # fmt: skip
    (ax,) = plot_comparisons([named], [{}]).axes
    assert ax.get_xticks().tolist() == [1, 2] and ax.get_xlim() == (0.5, 2.5)
    lines = [line for line in ax.lines if len(line.get_xdata()) == 2]
    assert {line.get_linestyle() for line in lines} == {"None"}
    assert any(np.array_equal(line.get_ydata(), [0.5, 0.5]) for line in lines)
    numbers = dataclasses.replace(named, x_label="steps")
    (ax,) = plot_comparisons([numbers], [{}]).axes
    assert ":" in {line.get_linestyle() for line in ax.lines}
    opposite = dataclasses.replace(named, control_measured=estimates.exact([-0.1, -0.2]))
    figure = plot_comparisons([opposite], [{}])
    assert not any(np.array_equal(line.get_ydata(), [0.5, 0.5]) for line in figure.axes[0].lines)
    assert len(figure.legends[0].get_texts()) == 2

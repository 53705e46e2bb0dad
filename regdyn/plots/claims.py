"""A claim beside its simulations: findings in, a Figure out."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from regdyn.plots.common import COLORS, style
from regdyn.theorems.base import Comparison

MOST_SERIES = 7
"""Cases with a colour of their own; the legend of more would hide the picture."""


def plot_comparisons(
    comparisons: Sequence[Comparison],
    cases: Sequence[Mapping[str, Any]],
    *,
    relation: str = "equal to",
    alpha: float = 0.01,
) -> Figure:
    """Measured numbers with intervals over what the claim (line) and its control (dotted) predict.

    Parameters
    ----------
    comparisons, cases
        One comparison for each parameter set.
    relation
        Between measured and predicted, for the legend.
    alpha
        Error probability of each interval.
    """
    with style():
        figure = Figure(figsize=(8.4, 3.7), layout="constrained")
        ax = figure.subplots()
        first = comparisons[0]
        series = _series(comparisons, cases, alpha)
        # Points of cases that differ in more than the abscissa do not make a line.
        apart = len(comparisons) > 1 and len(series) == 1 and len(_varying(cases)) > 1
        places = _places(first)
        apart = apart or places > 0
        for i, (name, columns) in enumerate(series[:MOST_SERIES]):
            _draw(ax, name, columns, COLORS[i % len(COLORS)], apart)
        ax.set_xscale("log" if first.log_x else "linear")
        if first.log_y:
            _log_or_symlog(ax, series[:MOST_SERIES])
        if places:
            ax.set_xticks(range(1, places + 1))
            ax.set_xlim(0.5, places + 0.5)
        # As long as the axis, at most.
        ax.set_xlabel(textwrap.fill(first.x_label, 84))
        ax.set_ylabel(textwrap.fill(first.y_label, 42))
        ax.plot([], [], "o", color="0.3", mfc="white", label="measured, with interval")
        ax.plot([], [], "-", color="0.3", label=f"claimed: {relation} this")
        if first.control_measured is None:
            ax.plot([], [], ":", color="0.3", label="negative control (dotted or pale)")
        figure.legend(loc="outside right upper")
        if len(series) > MOST_SERIES:
            ax.set_title(f"{MOST_SERIES} of {len(series)} parameter sets", loc="left")
    return figure


_SYMBOLS = {
    "alpha": r"$\alpha$", "beta": r"$\beta$", "beta1": r"$\beta_1$", "beta2": r"$\beta_2$",
    "eps": r"$\epsilon$", "gamma": r"$\gamma$", "lam": r"$\lambda$", "lr": r"$\eta$",
    "momentum": r"$\mu$", "sigma": r"$\sigma$", "theta0": r"$\theta_0$", "gamma0": r"$\gamma_0$",
    "beta0": r"$\beta_0$",
}  # fmt: skip
"""Parameters by their usual letters."""

_Columns = tuple[NDArray[np.float64], ...]
"""x, measured, low, high, predicted, control."""


def _places(comparison: Comparison) -> int:
    """How many quantities, named by the label ("1: Adam, 2: SGD"), stand side by side at 1, 2, …

    0 if x is a number that may lie between two points.
    """
    x = np.ravel(np.asarray(comparison.x, dtype=float))
    counted = comparison.x_label.startswith("1: ") and np.array_equal(x, np.arange(1, len(x) + 1))
    return len(x) if counted else 0


def _series(
    comparisons: Sequence[Comparison], cases: Sequence[Mapping[str, Any]], alpha: float
) -> list[tuple[str, _Columns]]:
    """Named curves; comparisons of one point each make one curve."""
    columns = [_columns(comparison, alpha) for comparison in comparisons]
    varying = _varying(cases)
    named = any(isinstance(case[name], str) for case in cases for name in varying)
    if len(columns) > 1 and all(len(c[0]) == 1 for c in columns) and not named:
        return [("", tuple(np.concatenate(part) for part in zip(*columns)))]
    names = [
        ", ".join(f"{_SYMBOLS.get(name, name)} {_text(case[name])}" for name in varying)
        for case in cases
    ]
    return list(zip(names, columns))


def _varying(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in cases[0] if len({repr(case.get(name)) for case in cases}) > 1]


def _columns(comparison: Comparison, alpha: float) -> _Columns:
    measured = comparison.measured
    low, high = measured.interval(alpha)
    # A control about something else that was measured has no place among these.
    control = comparison.control if comparison.control_measured is None else np.nan
    others = (comparison.predicted, control)
    shape = measured.value.shape
    x = np.broadcast_to(np.asarray(comparison.x, dtype=float), shape)
    claimed, wrong = (np.broadcast_to(np.asarray(o, dtype=float), shape) for o in others)
    return x, measured.value, low, high, claimed, wrong


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _draw(ax: Axes, name: str, columns: _Columns, color: str, apart: bool) -> None:
    order = np.argsort(columns[0], kind="stable")
    x, value, low, high, predicted, control = (column[order] for column in columns)
    few = len(x) < 60
    # Several quantities at one place make no line either.
    apart = apart or len(np.unique(x)) < max(len(x), 2)
    marker: dict[str, Any] = {"marker": "_", "markersize": 14, "mew": 1.6} if apart else {}
    solid, dotted = ("none", "none") if apart else ("-", ":")
    ax.plot(x, predicted, ls=solid, color=color, lw=1.4, label=name or None, zorder=2, **marker)
    paler = 0.4 if apart else 0.8
    ax.plot(x, control, ls=dotted, color=color, lw=1.1, alpha=paler, zorder=1.5, **marker)
    finite = np.isfinite(value)
    size = 4 if few else 2
    with np.errstate(invalid="ignore"):
        errors = np.abs(np.stack([value - low, high - value]))[:, finite]
    ax.errorbar(
        x[finite], value[finite], yerr=np.where(np.isfinite(errors), errors, 0), fmt="o",
        color=color, ms=size, mfc="white", mew=1.0, elinewidth=1.0, zorder=3,
    )  # fmt: skip


def _log_or_symlog(ax: Axes, series: Sequence[tuple[str, _Columns]]) -> None:
    shown = np.concatenate([np.concatenate((c[1], c[4])) for _, c in series])
    shown = shown[np.isfinite(shown)]
    if np.all(shown > 0):
        ax.set_yscale("log")
    else:
        least = np.min(np.abs(shown[shown != 0]), initial=1.0)
        ax.set_yscale("symlog", linthresh=max(float(least), 1e-12))

"""The decay of one weight: results in, matplotlib Axes or a Figure out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator
from matplotlib.typing import ColorType

from regdyn.dynamics.noise import BurnIn, Gated, NoNoise, Signal, StdTable, StudentT, Trace
from regdyn.dynamics.observables import HIGH, LOW
from regdyn.dynamics.result import ScalarResult
from regdyn.errors import InvalidParameter
from regdyn.optimizers import OPTIMIZERS
from regdyn.plots.common import (
    COLORS,
    DASHES,
    SINGLE,
    check_results,
    plot_format,
    power,
    save_figure,
    style,
)

DECAYS = {"none": "no decay", "l2": "L2", "decoupled": "decoupled decay", "paper": "paper decay"}

Band = tuple[float, float]


def plot_decay(
    results: Sequence[ScalarResult],
    ax: Axes | None = None,
    *,
    band: Band | None = (0.05, 0.95),
    labels: Sequence[str] | None = None,
    legend: bool = True,
    **line: Any,
) -> Axes:
    """Draw the median of |theta| over the steps and a band between two quantiles, both axes log.

    Colour stands for lambda where the results differ in it, else for the optimizer or the decay; what
    else differs is dashed.

    Parameters
    ----------
    results
        One or several; the title says what they have in common, the legend what differs.
    ax
        Where to draw; a new pyplot figure in regdyn's style where None.
    band
        Levels of the band, None for medians alone.
    labels
        Names in the legend, one per result.
    legend
        Whether to put a legend beside the axes where there are several results.
    line
        Properties of every median line, such as `color` or `linewidth`.

    Raises
    ------
    InvalidParameter
        For no results, a band that is not 0 < low < high < 1, or labels that do not match the results.
    """
    _check(results, band, labels)
    if ax is None:
        import matplotlib.pyplot as plt

        with style():
            _, ax = plt.subplots(figsize=SINGLE, layout="constrained")
            return plot_decay(results, ax, band=band, labels=labels, legend=legend, **line)
    looks = _looks(results, _differing(results))
    for i, (result, look) in enumerate(zip(results, looks)):
        named = {"label": labels[i]} if labels is not None else {}
        _draw(ax, result, band, {**look, **named, **line})
    for threshold in _frame(ax, results):
        _write_on(ax, threshold)
    ax.set_xlabel("step")
    ax.set_ylabel(rf"$|\theta|$  ({_summary(band)})")
    ax.set_title(_caption(results), loc="left")
    if legend and len(results) > 1:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=2.6)
    return ax


def plot_panels(
    panels: Mapping[str, Sequence[ScalarResult]],
    *,
    columns: int,
    band: Band | None = (0.05, 0.95),
    title: str | None = None,
    width: float = 7.2,
    row_height: float = 1.9,
) -> Figure:
    """Small multiples of `plot_decay` with common axes, colours and legend, by panel title.

    Sizes are in inches. `title` is a line above the one that says what all results have in common.
    """
    results = [result for panel in panels.values() for result in panel]
    _check(results, band, None)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(width, rows * row_height + 1.2), layout=ConstrainedLayoutEngine(w_pad=0.1))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    within = {aspect for panel in panels.values() for aspect in _differing(panel)}
    looks = iter(_looks(results, [aspect for aspect in _ASPECTS if aspect in within]))
    handles: dict[str, Line2D] = {}
    for i, (ax, (name, panel)) in enumerate(zip(grid.flat, panels.items())):
        for result in panel:
            look = next(looks)
            handles.setdefault(look["label"], _draw(ax, result, band, look))
        thresholds = _frame(ax, results)
        ax.yaxis.set_major_locator(LogLocator(numticks=max(2, round(3.5 * row_height))))
        ax.set_title(name)
        if i % columns == 0:
            ax.set_ylabel(r"$|\theta|$")
        ax.tick_params(labelbottom=i >= len(panels) - columns)
        if i >= (rows - 1) * columns:
            ax.set_xlabel("step")
    for ax in grid.flat[len(panels) :]:
        ax.remove()
    handles |= {str(line.get_gid()): line for line in thresholds}
    words = filter(None, (title, _caption(results, f"{_summary(band)} of ")))
    figure.suptitle("\n".join(words), x=0.01, ha="left")
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 6)
    )
    return figure


def save_plot(
    results: Sequence[ScalarResult], path: str | os.PathLike[str], force: bool = False
) -> None:
    """Write a picture of the decay to a .png, .pdf or .svg file, atomically.

    One panel, in which colour stands for lambda, else the optimizer, else the decay; where a second
    of these differs too, a panel for each.

    Raises
    ------
    InvalidParameter
        For another suffix, an existing file without `force`, or a place that cannot be written.
    """
    plot_format(path)
    _check(results, None, None)
    with style():
        save_figure(_picture(results), path, force)


def _picture(results: Sequence[ScalarResult]) -> Figure:
    aspects = _differing(results)[1:]
    if not aspects:
        figure = Figure(figsize=SINGLE, layout="constrained")
        plot_decay(results, figure.subplots())
        return figure
    panels: dict[str, list[ScalarResult]] = {}
    for result in results:
        panels.setdefault(", ".join(aspect(result) for aspect in aspects), []).append(result)
    columns = len(panels) if len(panels) <= 3 else math.ceil(len(panels) / math.ceil(len(panels) / 4))
    return plot_panels(panels, columns=columns)


# What may differ between results, in the order in which it claims the colour.


def _lam(result: ScalarResult) -> str:
    return rf"$\lambda$ = {power(result.config.lam)}"


def _optimizer(result: ScalarResult) -> str:
    return type(result.config.optimizer).__name__


def _decay(result: ScalarResult) -> str:
    return DECAYS[result.config.regularization]


_Aspect = Callable[[ScalarResult], str]
_ASPECTS: tuple[_Aspect, ...] = (_lam, _optimizer, _decay)


def _differing(results: Sequence[ScalarResult]) -> list[_Aspect]:
    return [aspect for aspect in _ASPECTS if len({aspect(result) for result in results}) > 1]


def _looks(results: Sequence[ScalarResult], differing: Sequence[_Aspect]) -> list[dict[str, Any]]:
    """Colour, dashes and label of each median line."""
    if not differing and len(results) > 1:
        return [
            {"color": COLORS[i % len(COLORS)], "label": _name(result, _ASPECTS)}
            for i, result in enumerate(results)
        ]
    first = differing[0] if differing else _optimizer
    colors = _lam_colors(results) if first is _lam else _category_colors(results, first)
    dashed = differing[1:] if first is _lam else differing
    kinds = list(dict.fromkeys(_name(result, dashed) for result in results))
    return [
        {
            "color": colors[first(result)],
            "linestyle": DASHES[kinds.index(_name(result, dashed)) % len(DASHES)],
            "label": _name(result, differing or _ASPECTS),
        }
        for result in results
    ]


def _lam_colors(results: Sequence[ScalarResult]) -> dict[str, ColorType]:
    by_lam = {result.config.lam: _lam(result) for result in results}
    # viridis without its yellow, dark for strong decay.
    shades = matplotlib.colormaps["viridis"](np.linspace(0.85, 0.0, len(by_lam)))
    return {by_lam[lam]: tuple(shade) for lam, shade in zip(sorted(by_lam), shades)}


def _category_colors(results: Sequence[ScalarResult], aspect: _Aspect) -> dict[str, ColorType]:
    # An optimizer has the same colour in every picture.
    known = [rule.__name__ for rule in OPTIMIZERS.values()] if aspect is _optimizer else DECAYS.values()
    names = dict.fromkeys([*known, *map(aspect, results)])
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}


def _name(result: ScalarResult, aspects: Sequence[_Aspect]) -> str:
    order = (_optimizer, _decay, _lam)
    idle = result.config.regularization == "none"
    return ", ".join(
        aspect(result) for aspect in order if aspect in aspects and not (idle and aspect is _lam)
    )


def _caption(results: Sequence[ScalarResult], lead: str = "") -> str:
    """What the results have in common, and how many trajectories are missing from them."""
    common = [aspect for aspect in _ASPECTS if aspect not in _differing(results)]
    counts = {result.config.trajectories for result in results}
    noises = {_gradient(result) for result in results}
    first = [_name(results[0], common)] if common else []
    if len(counts) == 1:
        first.append(f"{lead}{counts.pop():,} trajectories" + (" each" if len(results) > 1 else ""))
    lines = [": ".join(first)] if first else []
    if len(noises) == 1:
        lines.append(noises.pop())
    diverged = sum(int(np.sum(result.diverged >= 0)) for result in results)
    if diverged:
        lines.append(f"{diverged:,} diverged and are left out from then on")
    if any(np.any(result.quantiles([0.5]) <= LOW) for result in results):
        lines.append(rf"$|\theta|$ < {power(LOW)} is not resolved and not shown")
    return "\n".join(lines)


def _gradient(result: ScalarResult) -> str:
    """The gradient of the loss in words."""
    noise, signal = result.config.noise, result.config.signal
    if isinstance(noise, NoNoise):
        text = "no gradient noise"
    elif isinstance(noise, Trace):
        text = "recorded gradients"
    else:
        text = {Gated: "gated gradient noise", StudentT: "Student-t gradient noise"}.get(
            type(noise), "Gaussian gradient noise"
        )
        if isinstance(noise, Gated):
            text += f" (on with probability {noise.p:g})"
        elif isinstance(noise, StudentT):
            text += f" ({noise.dof:g} degrees of freedom)"
        text += f", {_stds(noise.sigma)}"
    if signal != Signal() and signal.strength:
        text += f"; pull {signal.strength:g} to {signal.target:g}"
    return text


def _stds(sigma: Any) -> str:
    if isinstance(sigma, BurnIn):
        if not sigma.steps:
            return rf"$\sigma$ = {power(sigma.late)}"
        steps = f"{sigma.steps:,} step" + ("s" if sigma.steps > 1 else "")
        return rf"$\sigma$ = {power(sigma.early)} for {steps}, then {power(sigma.late)}"
    assert isinstance(sigma, StdTable)
    if len(sigma.values) == 1:
        return rf"$\sigma$ = {power(sigma.values[0])}"
    return rf"$\sigma$ from a table of {len(sigma.values):,} steps"


def _summary(band: Band | None) -> str:
    return "median" + (f" and {100 * band[0]:g}–{100 * band[1]:g} % band" if band else "")


def _check(results: Sequence[ScalarResult], band: Band | None, labels: Sequence[str] | None) -> None:
    check_results(results, labels)
    if band is not None and not (len(band) == 2 and 0 < band[0] < band[1] < 1):
        raise InvalidParameter("band", "two levels 0 < low < high < 1, or None", band)


def _draw(ax: Axes, result: ScalarResult, band: Band | None, line: Mapping[str, Any]) -> Any:
    """Median and band of one result; the median's line."""
    shown = result.times >= 1
    steps = result.times[shown]
    low, high = band or (0.5, 0.5)
    quantiles = result.quantiles([low, 0.5, high])[shown].T
    # One point makes no line.
    dot = {"marker": "o", "clip_on": False} if np.isfinite(quantiles[1]).sum() == 1 else {}
    (median,) = ax.plot(steps, quantiles[1], **{**dot, **line})
    if band is not None:
        ax.fill_between(
            steps, quantiles[0], quantiles[2], color=median.get_color(), alpha=0.18, linewidth=0
        )
    return median


def _frame(ax: Axes, results: Sequence[ScalarResult]) -> list[Line2D]:
    """Log axes from step 1 on, around the curves and the thresholds; the lines of new thresholds."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    thresholds = []
    for threshold in sorted({result.config.threshold for result in results}):
        name = f"threshold {power(threshold)}"
        shown = any(line.get_gid() == name for line in ax.lines)
        if not shown and LOW < threshold < HIGH:
            line = ax.axhline(threshold, color="0.35", lw=0.8, ls=(0, (6, 3)), zorder=1.5, gid=name)
            thresholds.append(line)
    ax.set_xlim(1, max(10, ax.dataLim.x1))
    ax.autoscale(axis="y")
    bottom, top = ax.get_ylim()
    # Beyond these |theta| is not resolved: a curve leaves the picture instead of running flat.
    ax.set_ylim(max(bottom, 1.05 * LOW), min(top, HIGH / 1.05))
    return thresholds


def _write_on(ax: Axes, threshold: Line2D) -> None:
    ax.annotate(
        str(threshold.get_gid()), (0.02, float(np.ravel(threshold.get_ydata())[0])), (0, 2),
        xycoords=("axes fraction", "data"), textcoords="offset points",
        va="bottom", fontsize="small", color=threshold.get_color(),
    )  # fmt: skip

"""What training does to the units of a network: results in, a Figure out."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from regdyn.errors import InvalidParameter
from regdyn.nets.sparsity import NORM_THRESHOLD
from regdyn.plots.common import check_results, plot_format, power, save_figure, style
from regdyn.plots.decay import DECAYS
from regdyn.plots.scales import (
    BELOW,
    SIDE_BY_SIDE,
    draw_units,
    fates,
    frame_scales,
    frame_shifts,
    shown_layers,
    write_share,
)

if TYPE_CHECKING:
    from regdyn.nets.run_result import RunResult

Array = NDArray[np.float64]

MOST_RUNS = 6
"""Columns of a picture; more would be too narrow to read."""

SHORT = 8
"""Letters in the name of a layer that stands in a line with what is drawn of it."""

BINS = 20
"""Of the histogram of universality, over [0, 1]."""

# Okabe and Ito (2008).
LAYERS = ("#000000", "#009E73", "#CC79A7")


def plot_training(results: Sequence[RunResult], *, figure: Figure | None = None) -> Figure:
    r"""Draw scales and shifts of the units over training and their universality at its end.

    A column for each run. Rows: for each hidden layer gamma (without normalisation the norm of the
    weights) on an axis that is linear within the threshold and logarithmic beyond it, and beta, a line
    for each unit in the colour of its fate, thick ones the medians of both fates (mehta2019, Fig. 2);
    at the bottom, the share of the units of each layer over their universality, the share of the
    training set that activates them (mehta2019, Fig. 3). A row has the same axis in all columns.

    Parameters
    ----------
    results
        One to `MOST_RUNS`. One that failed is drawn as far as it came.
    figure
        An empty figure to draw on; a new one in regdyn's style where None.

    Raises
    ------
    InvalidParameter
        For no results, or too many.
    """
    check_results(results, None)
    if len(results) > MOST_RUNS:
        raise InvalidParameter("results", f"at most {MOST_RUNS} runs, a column for each", len(results))
    layers = shown_layers(max(len(result.beta) for result in results))
    rows = 2 * len(layers) + 1
    if figure is None:
        with style():
            size = (max(6.0, 1.1 + 2.5 * len(results)), 1.6 + 1.35 * rows)
            return plot_training(results, figure=Figure(figsize=size, layout="constrained"))
    grid = figure.subplots(rows, len(results), sharey="row", squeeze=False)
    for column, result in zip(grid.T, results):
        for axes, layer in zip(column[:-1].reshape(-1, 2), layers):
            last = layer in (layers[-1], len(result.beta) - 1)
            _draw_layer(axes, result, layer, last)
        _draw_universality(column[-1], result, layers)
        column[0].set_title(_title(result, results), loc="left")
    for i, row in enumerate(grid[:-1]):
        _frame(row, results, i % 2 == 0)
    grid[-1, 0].set_ylim(bottom=0)
    for row in grid:
        first = next(ax for ax in row if ax.axison)
        for ax in row:
            ax.tick_params(labelleft=ax is first)
        labels = [ax.get_ylabel() for ax in row]
        for ax, (before, label) in zip(row[1:], pairwise(labels)):
            ax.set_ylabel("" if label == before else label)
    # As long as the figure is wide, at most.
    caption = textwrap.fill(_caption(results), round(14 * figure.get_figwidth()))
    figure.suptitle(caption, x=0.01, ha="left")
    _add_legend(figure, results, layers)
    return figure


def save_training(
    results: Sequence[RunResult], path: str | os.PathLike[str], force: bool = False
) -> None:
    """Write `plot_training(results)` to a .png, .pdf or .svg file, atomically.

    Raises
    ------
    InvalidParameter
        As there, and for another suffix, an existing file without `force`, or a place that cannot be
        written.
    """
    plot_format(path)
    save_figure(plot_training(results), path, force)


def _draw_layer(axes: Sequence[Axes], result: RunResult, layer: int, last: bool) -> None:
    """Gamma, or norms, and beta of one hidden layer, the last one shown or not, over the steps."""
    top, bottom = axes
    if layer >= len(result.beta):
        for ax in axes:
            ax.set_axis_off()
        return
    normalized = result.config.normalized
    dead = result.inactive[layer]
    lines = (result.gamma if normalized else result.norm)[layer], result.beta[layer]
    limit = result.config.threshold if normalized else NORM_THRESHOLD
    top.axhspan(-limit if normalized else 0, limit, color=BELOW, lw=0, zorder=0.5)
    for ax, values in zip(axes, lines):
        draw_units(ax, result.times, values.astype(float), dead)
        ax.set_xlim(0, result.config.steps)
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.tick_params(labelbottom=last and ax is bottom)
    name = result.layer_names[layer]
    # A row is as high as some 15 letters are long.
    name += ":\n" if len(name) > SHORT else ": "
    top.set_ylabel(rf"{name}scale $\gamma$" if normalized else f"{name}norm $||w||$")
    bottom.set_ylabel(rf"{name}shift $\beta$" if normalized else rf"{name}bias $\beta$")
    bottom.set_xlabel("step" if last else "")
    write_share(top, dead)


def _draw_universality(ax: Axes, result: RunResult, layers: Sequence[int]) -> None:
    ax.set_xlim(-0.01, 1.01)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    ax.set_xlabel("universality (% of the training set)")
    ax.set_ylabel("share of units (%)")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    if result.failed:
        ax.text(0.5, 0.5, "failed", transform=ax.transAxes, ha="center", va="center", color="0.35")
        return
    edges = np.linspace(0, 1, BINS + 1)
    for color, layer in zip(LAYERS, layers):
        if layer >= len(result.beta):
            continue
        values = result.universality[layer]
        if values is None:
            continue
        counts = np.histogram(values, edges)[0] / len(values)
        ax.stairs(counts, edges, color=color, lw=1.3, baseline=0, zorder=3)
        ax.stairs(counts, edges, color=color, alpha=0.12, fill=True, lw=0, zorder=2)


def _frame(row: Sequence[Axes], results: Sequence[RunResult], scales: bool) -> None:
    """The common ordinate of a row: around the runs that did not fail, if any."""
    kept = [(ax, result) for ax, result in zip(row, results) if ax.axison]
    sound = [ax for ax, result in kept if not result.failed] or [ax for ax, _ in kept]
    if not scales:
        frame_shifts(row, sound)
        return
    thresholds = [
        result.config.threshold if result.config.normalized else NORM_THRESHOLD for result in results
    ]
    frame_scales(row, sound, min(thresholds))


def _add_legend(figure: Figure, results: Sequence[RunResult], layers: Sequence[int]) -> None:
    entries = fates()
    limits = sorted({(r.config.normalized, r.config.threshold) for r in results})
    words = [rf"$|\gamma|$ < {power(limit)}" for normalized, limit in limits if normalized]
    if not all(normalized for normalized, _ in limits):
        words.append(rf"$||w||$ < {power(NORM_THRESHOLD)}")
    entries["counts as dead: " + ", ".join(words)] = Patch(color=BELOW, lw=0)
    for color, layer in zip(LAYERS, layers):
        names = dict.fromkeys(
            r.layer_names[layer] for r in results
            if not r.failed and layer < len(r.layer_names) and r.universality[layer] is not None
        )  # fmt: skip
        if names:
            entries[f"universality, {' or '.join(names)}"] = Line2D([], [], color=color, lw=1.3)
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower left",
        ncols=2 if len(results) < 3 else min(len(entries), 4),
        handler_map=SIDE_BY_SIDE,
    )  # fmt: skip


# What runs may differ in, besides optimizer and decay, in words.

_Words = Callable[["RunResult"], str]
_ACTIVATIONS = {"relu": "ReLU", "leaky_relu": "leaky ReLU", "elu": "ELU"}


def _kind(result: RunResult) -> str:
    name = _ACTIVATIONS.get(result.config.activation, result.config.activation)
    return f"{name} {'with' if result.config.normalized else 'without'} batch norm"


_REST: tuple[_Words, ...] = (
    lambda r: r.config.data_name,
    lambda r: r.config.network,
    _kind,
    lambda r: f"batch {r.config.batch}",
    lambda r: f"{r.config.steps:,} steps",
    lambda r: f"seed {r.config.seed}",
)


def _caption(results: Sequence[RunResult]) -> str:
    """What the runs have in common."""
    return ", ".join(words(results[0]) for words in _REST if len({words(r) for r in results}) == 1)


def _title(result: RunResult, results: Sequence[RunResult]) -> str:
    config = result.config
    decay = DECAYS[config.regularization]
    if config.regularization != "none":
        decay += rf", $\lambda$ = {power(config.lam)}"
    own = [words(result) for words in _REST if len({words(r) for r in results}) > 1]
    if len({r.config.rule.lr for r in results if r.config.rule.name == config.rule.name}) > 1:
        own.append(rf"$\eta$ = {power(config.rule.lr)}")
    end = "failed" if result.failed else f"test error {100 * result.error:.2g} %"
    return "\n".join([f"{type(config.rule).__name__}, {decay}", *own, end])

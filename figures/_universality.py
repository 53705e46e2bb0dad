"""Histograms of the universality of filters: a row and a colour for a setting, a column for a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray
from _trained import Array, Found, draw_histogram, per_run, percent, sound_run
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

if TYPE_CHECKING:
    from regdyn.cnn.result import CnnResult

COLORS = ("#0072B2", "#E69F00")
DEAD = -0.1
"""Where dead filters are drawn."""

EDGES = np.array([DEAD - 0.05, DEAD + 0.05, *np.linspace(0, 1, 21)])


def universality(found: Found, layers: Sequence[str]) -> xarray.Dataset:
    """Of the filters of each layer at the end, and which are dead; `found` is by row and kind."""
    rows, kinds = (list(dict.fromkeys(each)) for each in zip(*found))
    first = sound_run(found)

    def shaped(of: Callable[[CnnResult], Any], *dims: str) -> tuple[tuple[str, ...], Array]:
        values = per_run(found, of)
        return ("row", "kind", "seed", *dims), values.reshape(len(rows), len(kinds), *values.shape[1:])

    variables = {"test_error": shaped(lambda run: run.error)}
    for name in layers:
        layer, units = first.layer_names.index(name), f"filter_{name}"
        variables[f"universality_{name}"] = shaped(universal(layer), units)
        variables[f"dead_{name}"] = shaped(dead(layer), units)
    return xarray.Dataset(variables, {"row": rows, "kind": kinds, "layer": list(layers)})


def universal(layer: int) -> Callable[[CnnResult], Any]:
    return lambda run: run.universality[layer]


def dead(layer: int) -> Callable[[CnnResult], Any]:
    return lambda run: run.inactive[layer]


def draw_universality(data: xarray.Dataset) -> Figure:
    """Dead filters stand apart: what is left of their activation is constant, and thus universal."""
    rows, layers = data["row"].values, data["layer"].values
    width = 1.5 + (1.25 if len(layers) > 5 else 1.75) * len(layers)
    figure = Figure(figsize=(width, 1.3 + 1.7 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(layers), sharex=True, squeeze=False)
    for axes, row in zip(grid, rows):
        for ax, layer in zip(axes, layers):
            for i, kind in enumerate(data["kind"].values):
                one = data.sel(row=row, kind=kind)
                gone = one[f"dead_{layer}"].values
                values = np.where(gone == 1, DEAD, one[f"universality_{layer}"].values)
                draw_histogram(ax, values, EDGES, color=COLORS[i])
                ax.text(
                    0.5, 0.98 - 0.13 * i, f"dead {percent(gone):.0f} %", color=COLORS[i],
                    transform=ax.transAxes, ha="center", va="top", fontsize="small",
                )  # fmt: skip
            ax.margins(y=0.35)
            ax.set_ylim(bottom=0)
            ax.yaxis.set_major_locator(MaxNLocator(3))
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
        axes[0].set_ylabel(f"{row}\nshare of filters (%)")
    for ax, layer in zip(grid[0], layers):
        ax.set_title(f"{layer} ({data.sizes[f'filter_{layer}']})")
    grid[-1, 0].set_xlim(EDGES[0] - 0.03, 1.03)
    grid[-1, 0].set_xticks((DEAD, 0.5, 1), ("dead", "50", "100"))
    figure.legend(
        [Line2D([], [], color=color) for color in COLORS], data["kind"].values,
        loc="outside lower center", ncols=len(COLORS),
        title="universality: share of the training set that activates the filter (%)",
    )  # fmt: skip
    return figure

"""Histograms of the filters' universality: a row and a colour for each of two settings, a column a layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray
from _trained import Array, Found, per_run, sound, spread
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

COLORS = ("#0072B2", "#E69F00")
EDGES = np.linspace(0, 1, 21)


def universality(found: Found, layers: Sequence[str]) -> xarray.Dataset:
    """Of the filters of each layer at the end, and their peak activation; `found` by row and kind."""
    rows, kinds = (list(dict.fromkeys(each)) for each in zip(*found))
    shape = (len(rows), len(kinds))
    first = next(run for runs in found.values() for run in runs if not run.failed)
    variables = {}
    for name in layers:
        i = first.layer_names.index(name)
        for quantity in ("universality", "peak"):
            values = per_run(found, lambda run: getattr(run.last.activations[i], quantity))
            dims = ("row", "kind", "seed", f"filter_{name}")
            variables[f"{quantity}_{name}"] = dims, values.reshape(*shape, *values.shape[1:])
    error = per_run(found, lambda run: run.error)
    variables["test_error"] = ("row", "kind", "seed"), error.reshape(*shape, -1)
    return xarray.Dataset(variables, {"row": rows, "kind": kinds, "layer": list(layers)})


def draw_universality(data: xarray.Dataset) -> Figure:
    """A line for the mean over the runs, a band from the least to the greatest."""
    rows, layers = data["row"].values, data["layer"].values
    width = 1.5 + (1.25 if len(layers) > 5 else 1.75) * len(layers)
    figure = Figure(figsize=(width, 1.3 + 1.7 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(layers), sharex=True, squeeze=False)
    for axes, row in zip(grid, rows):
        for ax, layer in zip(axes, layers):
            for i, kind in enumerate(data["kind"].values):
                one = data.sel(row=row, kind=kind)
                draw_histogram(ax, one[f"universality_{layer}"].values, COLORS[i])
                dead = sound(one[f"peak_{layer}"].values) <= 1e-12
                ax.text(
                    0.5, 0.98 - 0.13 * i, f"dead {100 * dead.mean():.0f} %", transform=ax.transAxes,
                    color=COLORS[i], ha="center", va="top", fontsize="small",
                )  # fmt: skip
            ax.margins(y=0.35)
            ax.set_ylim(bottom=0)
            ax.yaxis.set_major_locator(MaxNLocator(3))
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
        axes[0].set_ylabel(f"{row}\nshare of filters (%)")
    for ax, layer in zip(grid[0], layers):
        ax.set_title(f"{layer} ({data.sizes[f'filter_{layer}']})")
    grid[-1, 0].set_xlim(-0.03, 1.03)
    grid[-1, 0].set_xticks((0, 0.5, 1))
    grid[-1, 0].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    figure.supxlabel("universality: share of the training set that activates the filter (%)")
    handles = [Line2D([], [], color=color) for color in COLORS]
    figure.legend(handles, data["kind"].values, loc="outside lower center", ncols=len(handles))
    return figure


def draw_histogram(ax: Axes, values: Array, color: str) -> None:
    """Of values in [0, 1], shape (runs, filters)."""
    shares = np.array([
        np.histogram(run, EDGES)[0] / len(run) if len(run) else run for run in sound(values)
    ])  # fmt: skip
    mean, least, greatest = spread(shares)
    ax.stairs(greatest, EDGES, baseline=least, fill=True, color=color, alpha=0.3, lw=0)
    ax.stairs(mean, EDGES, color=color, lw=1.2, baseline=0)

"""yaguchi2018, figure 5: norms of the weights of hidden units, for several slopes of leaky ReLU.

One hidden layer of 1,000 units under Adam with L2, as in table I (yaguchi_tables.py says what of it is
lost and what we take); the paper's slopes are lost, and ours go from 0, which is ReLU, to 0.5. A unit
counts as dead when its norm is below 1e-3.
"""

from __future__ import annotations

import numpy as np
import xarray
from _cnn import Preset, Settings
from _trained import ALIVE, Found, draw_histogram, evenly, per_run, percent, redraw
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from yaguchi_tables import MNIST, PRESETS

from regdyn.nets.sparsity import NORM_THRESHOLD

SLOPES = (0.0, 0.01, 0.1, 0.5)
BINS = 50
LEAST = 1e-6
"""Norms below are drawn as this: the width of the axis has an end."""


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    own = {**MNIST, "activation": "leaky_relu", "times": evenly(5)}
    return {(f"{slope:g}",): {**own, "slope": slope} for slope in SLOPES}


def measured(found: Found) -> xarray.Dataset:
    error = per_run(found, lambda run: run.error)
    return xarray.Dataset(
        {
            "norm": (("slope", "seed", "unit"), per_run(found, lambda run: run.norm[0][-1])),
            "test_error": (("slope", "seed"), error),
        },
        {"slope": list(SLOPES)},
        {"threshold": NORM_THRESHOLD},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(6.4, 1.2 + 1.15 * len(SLOPES)), layout="constrained")
    axes = figure.subplots(len(SLOPES), 1, sharex=True, sharey=True)
    edges = np.geomspace(LEAST, 1.05 * float(data["norm"].max()), BINS + 1)
    for ax, slope in zip(axes, data["slope"].values):
        norms = data["norm"].sel(slope=slope).values
        draw_histogram(ax, np.maximum(norms, LEAST), edges, color=ALIVE)
        ax.axvspan(LEAST, NORM_THRESHOLD, color="0.92", lw=0, zorder=0.5)
        dead = np.where(np.isnan(norms), np.nan, norms < NORM_THRESHOLD)
        error = percent(data["test_error"].sel(slope=slope).values)
        name = "slope 0 (ReLU)" if slope == 0 else f"slope {slope:g}"
        text = f"{name}\n{percent(dead):.0f} % dead\ntest error {error:.1f} %"
        ax.text(0.06, 0.92, text, transform=ax.transAxes, va="top", fontsize="small")
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
        ax.yaxis.set_major_locator(MaxNLocator(3))
    axes[0].set_xscale("log")
    axes[0].set_xlim(edges[0], edges[-1])
    axes[-1].set_xlabel(r"L2 norm of the weights of a unit, $||w||_2$ (grey: counts as dead)")
    figure.supylabel("share of the units (%)")
    return figure


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="yaguchi2018, figure 5: norms of the weights of hidden units, by the slope of leaky ReLU",
        settings=settings, measured=measured, draw=draw,
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""bartoldson2020, figure 1: test accuracy while training, and instability against generalisation.

VGG11 and ResNet18 with smallest, random or largest units of the last four convolutions removed step by
step. Instability is the mean drop of test accuracy at the events. In small BasicNet stands for VGG11,
which needs images of 32x32 pixels, and ResNet-20 for ResNet18, on drawn shapes before clutter.
"""

from __future__ import annotations

import numpy as np
import xarray
from _cnn import Preset, Settings
from _pruned import (
    FRACTIONS,
    RESNET_FRACTIONS,
    TRAINED,
    VGG11,
    curve,
    described,
    instability,
    padded,
    presets,
    pruned,
    test_accuracy,
)
from _trained import Found, per_run, redraw, spread
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regdyn.plots.common import COLORS, DASHES
from regdyn.theorems.estimates import correlation

NETWORKS = {VGG11: ("VGG11", FRACTIONS), "resnet18": ("ResNet18", RESNET_FRACTIONS)}
METHODS = (
    ("smallest", 1, "ebn"), ("smallest", 13, "ebn"), ("random", 13, "ebn"), ("largest", 1, "ebn"),
    ("largest", 13, "ebn"), ("smallest", 13, "l2"),
)  # fmt: skip
UNPRUNED = "not pruned"
MARKERS = "os^vDPX"
PRESETS = presets(smoke=600, digits=4000)


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    wanted: dict[tuple[str, ...], Settings] = {}
    for model, (_, fractions) in NETWORKS.items():
        wanted[model, UNPRUNED] = {**TRAINED, "model": model}
        for method in METHODS:
            prune = pruned(*method, fractions=fractions)
            wanted[model, described(*method)] = {**TRAINED, "model": model, "prune": prune}
    return wanted


def measured(found: Found) -> xarray.Dataset:
    kinds = list(dict.fromkeys(kind for _, kind in found))
    shape = (len(NETWORKS), len(kinds), -1)
    steps, accuracy = padded(found, curve)
    dims = ("model", "kind", "seed")
    points = steps.shape[-1]
    return xarray.Dataset(
        {
            "step": (("model", "kind", "point"), steps.reshape(*shape[:2], points)),
            "accuracy": ((*dims, "point"), accuracy.reshape(*shape, points), {"units": "percent"}),
            "final_accuracy": (
                dims,
                per_run(found, test_accuracy).reshape(shape),
                {"units": "percent"},
            ),
            "instability": (dims, per_run(found, instability).reshape(shape), {"units": "percent"}),
        },
        {
            "model": list(NETWORKS),
            "network": ("model", [found[m, UNPRUNED][0].config.model for m in NETWORKS]),
            "kind": kinds,
        },
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 6.6), layout="constrained")
    grid = figure.subplots(len(NETWORKS), 2, width_ratios=(3, 2), squeeze=False)
    for (left, right), model in zip(grid, data["model"].values):
        one = data.sel(model=model)
        network, own = str(one["network"].values), NETWORKS[model][0]
        left.set_title(own if network == model else f"{network} (for {own})")
        draw_curves(left, one)
        draw_tradeoff(right, one)
    grid[-1, 0].set_xlabel("step")
    grid[-1, 1].set_xlabel("mean instability (percentage points)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def draw_curves(ax: Axes, one: xarray.Dataset) -> None:
    for i, kind in enumerate(one["kind"].values):
        mean = spread(one["accuracy"].sel(kind=kind).values)[0]
        ax.plot(one["step"].sel(kind=kind), mean, color=COLORS[i], ls=DASHES[i], lw=1.1, label=kind)
    ax.set_ylabel("test accuracy (%)")
    lows = np.nanpercentile(one["accuracy"].values, 5)
    ax.set_ylim(bottom=float(lows))


def draw_tradeoff(ax: Axes, one: xarray.Dataset) -> None:
    x, y = (one[name].values for name in ("instability", "final_accuracy"))
    for i, _ in enumerate(one["kind"].values):
        ax.plot(x[i], y[i], MARKERS[i], color=COLORS[i], ms=4.5, mfc="none")
    kept = ~np.isnan(x) & ~np.isnan(y)
    if kept.sum() > 3 and np.ptp(x[kept]) > 0 and np.ptp(y[kept]) > 0:
        estimate = correlation(x[kept], y[kept])
        (low,), (high,) = estimate.interval(0.05)
        ax.set_title(f"r = {estimate.value[0]:.2f} [{low:.2f}, {high:.2f}]")
    ax.set_ylabel("test accuracy at the end (%)")


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="bartoldson2020, figure 1: test accuracy under pruning (left), and at its end against "
        "the mean drop at an event (right, each point a run; Pearson's r, its 95 percent interval)",
        settings=settings, measured=measured, draw=draw,
        shown="Left: means over the seeds. Percent: the most of a layer that goes at one event",
    )  # fmt: skip


if __name__ == "__main__":
    main()

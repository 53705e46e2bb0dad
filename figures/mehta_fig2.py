"""mehta2019, figure 2: scales and shifts of layer C6 over the training, under Adam and SGD with L2.

Top: how gamma of the layer's filters is distributed at each recorded time, the runs together; middle:
the same of beta; bottom: the share of the filters that are dead, |gamma| < 1e-3. In small a run has a
hundredth of the paper's steps, and lambda is greater: without gradient a filter must decay within the
run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import xarray
from _cnn import MEHTA, MEHTA_PRESETS, Preset, Settings
from _trained import DEAD, Array, Found, draw_band, per_run, percent, redraw, sound, sound_run
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from regdyn.plots.common import power

LAYER = "C6"
LAMBDAS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "smoke": {"adam": (1e-3, 1e-2), "sgd": (5e-4, 5e-3)},
    "digits": {"adam": (2e-4, 2e-3), "sgd": (1e-4, 1e-3)},
    "full": {"adam": (1e-5, 1e-4), "sgd": (1e-4, 5e-4)},
}
"""Low and high, by size of the preset. SGD's low one, of figure 3 alone, is lost from our copy."""

PRESETS: Mapping[str, Preset] = {
    **MEHTA_PRESETS,
    "digits": dataclasses.replace(MEHTA_PRESETS["digits"], steps=20_000),
}
BINS = 60
COLORMAP = "viridis_r"
NAMES = {"adam": "Adam", "sgd": "SGD"}


def trained(optimizer: str, lam: float) -> Settings:
    return {**MEHTA, "optimizer": optimizer, "regularization": "l2", "lam": lam}


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    (low, high), (_, sgd) = LAMBDAS[preset.size]["adam"], LAMBDAS[preset.size]["sgd"]
    each = [("adam", low), ("adam", high), ("sgd", sgd)]
    return {(optimizer, f"{lam:g}"): trained(optimizer, lam) for optimizer, lam in each}


def measured(found: Found) -> xarray.Dataset:
    first = sound_run(found)
    layer = first.layer_names.index(LAYER)
    gamma = per_run(found, lambda run: run.gamma[layer])
    beta = per_run(found, lambda run: run.beta[layer])
    dims = ("setting", "seed", "step", "filter")
    return xarray.Dataset(
        {"gamma": (dims, gamma), "beta": (dims, beta)},
        {
            "setting": [" ".join(name) for name in found],
            "optimizer": ("setting", [optimizer for optimizer, _ in found]),
            "lam": ("setting", [float(lam) for _, lam in found]),
            "step": first.times,
        },
        {"layer": LAYER, "threshold": first.config.threshold},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 6.4), layout="constrained")
    grid = figure.subplots(
        3, data.sizes["setting"], sharex=True, sharey="row", height_ratios=(3, 3, 1.4)
    )
    for column, setting in zip(grid.T, data["setting"]):
        one = data.sel(setting=setting)
        top, middle, bottom = column
        name, lam = NAMES[str(one["optimizer"].values)], power(float(one["lam"]))
        top.set_title(rf"{name}, L2, $\lambda$ = {lam}")
        for ax, quantity in ((top, "gamma"), (middle, "beta")):
            edges = np.linspace(*limits(data[quantity].values), BINS + 1)
            image = draw_distribution(ax, data["step"].values, one[quantity].values, edges)
            ax.axhline(0, color="0.4", lw=0.6, ls=(0, (4, 3)), zorder=0.5)
            ax.set_ylim(edges[0], edges[-1])
        dead = np.abs(one["gamma"].values) < data.attrs["threshold"]
        share = np.where(np.isnan(one["gamma"].values).any(axis=-1), np.nan, dead.mean(axis=-1))
        draw_band(bottom, data["step"].values, share, color=DEAD)
        above = one["beta"].values[:, -1][~dead[:, -1]] > 0
        note(top, f"dead at the end: {percent(share[:, -1:]):.0f} %")
        note(middle, rf"$\beta$ > 0 at the end: {100 * above.mean():.0f} % of the others")
        bottom.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        bottom.set_xlabel("step")
        bottom.set_xlim(data["step"].values[[0, -1]])
    grid[0, 0].set_ylabel(rf"{LAYER}: scale $\gamma$")
    grid[1, 0].set_ylabel(rf"{LAYER}: shift $\beta$")
    grid[2, 0].set_ylabel("dead filters (%)")
    grid[2, 0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    grid[2, 0].set_ylim(0, 1)
    bar = figure.colorbar(
        image, ax=grid[:2], label="share of the filters of all seeds (%)", pad=0.01, aspect=40
    )
    bar.outline.set_visible(False)
    return figure


def limits(values: Array) -> tuple[float, float]:
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.03 * (high - low)
    return float(low - margin), float(high + 5 * margin)  # room for a note


def draw_distribution(ax: Axes, steps: Array, values: Array, edges: Array) -> QuadMesh:
    """Shares of the filters over bins of a value, a column of pixels for each time."""
    kept = sound(values)
    counts = np.array([np.histogram(kept[:, i], edges)[0] for i in range(len(steps))])
    shares = 100 * counts / max(1, len(kept) * values.shape[-1])
    return ax.pcolormesh(
        steps, (edges[1:] + edges[:-1]) / 2, np.where(counts, shares, np.nan).T, shading="nearest",
        cmap=COLORMAP, norm=PowerNorm(0.4, 0, 100), rasterized=True,
    )  # fmt: skip


def note(ax: Axes, text: str) -> None:
    ax.text(0.97, 0.95, text, transform=ax.transAxes, ha="right", va="top", fontsize="small")


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title=f"mehta2019, figure 2: scales and shifts of the filters of layer {LAYER} over training",
        settings=settings, measured=measured, draw=draw,
    )  # fmt: skip


if __name__ == "__main__":
    main()

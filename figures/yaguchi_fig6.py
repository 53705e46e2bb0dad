"""yaguchi2018, figure 6: activation rate and norm of filters of the first layer over training.

Under Adam and SGD with momentum. The filters are those whose weights Adam takes to 0 (a norm below
1e-3), and under SGD the same ones, from the same start. The activation rate is the share of the
training images and positions where a filter is active. VGG-16 with the settings of table V
(yaguchi_tables.py). In small the fully connected network of table I stands for it, which needs no
images of 32x32 pixels, and units for filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray
from _cnn import Preset, Settings
from _trained import ALIVE, Array, Found, per_run, percent, redraw, sound_run
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from yaguchi_tables import BETAS, CIFAR, MNIST, PRESETS

from regdyn.nets.sparsity import NORM_THRESHOLD
from regdyn.optimizers import SGD, Adam

if TYPE_CHECKING:
    from regdyn.cnn.result import CnnResult

ADAM, MSGD = ("Adam",), ("momentum SGD",)
SHOWN = 23
"""Filters drawn, as many as in the paper."""

LEAST = 1e-6
"""Norms below are drawn as this: a logarithmic axis has an end."""


def settings(preset: Preset) -> Mapping[tuple[str, ...], Settings]:
    if preset.size == "full":
        return {
            ADAM: {**CIFAR, "optimizer": Adam(lr=5e-4, **BETAS)},
            MSGD: {**CIFAR, "optimizer": SGD(lr=0.1)},
        }
    return {ADAM: MNIST, MSGD: {**MNIST, "optimizer": SGD(lr=0.1)}}


def measured(found: Found) -> xarray.Dataset:
    first = sound_run({ADAM: found[ADAM]})
    dims = ("optimizer", "seed", "step", "filter")

    def rates(run: CnnResult) -> Array:
        first = [record.activations[0] for record in run.records]
        return np.array([each.active_share for each in first if each is not None])

    norm = per_run(found, lambda run: run.norm[0])
    return xarray.Dataset(
        {
            "rate": (dims, per_run(found, rates)),
            "norm": (dims, norm),
            "chosen": (("seed", "filter"), norm[0, :, -1] < NORM_THRESHOLD),
            "test_error": (("optimizer", "seed"), per_run(found, lambda run: run.error)),
        },
        {"optimizer": [name for (name,) in found], "step": first.times},
        {"layer": first.layer_names[0], "threshold": NORM_THRESHOLD},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 5.4), layout="constrained")
    grid = figure.subplots(2, data.sizes["optimizer"], sharex=True, sharey="row")
    chosen = data["chosen"].values.astype(bool)
    steps = data["step"].values
    for (top, bottom), optimizer in zip(grid.T, data["optimizer"].values):
        one = data.sel(optimizer=optimizer)
        top.set_title(f"{optimizer}, test error {percent(one['test_error'].values):.1f} %")
        draw_lines(top, steps, one["rate"].values.transpose(0, 2, 1)[chosen])
        draw_lines(bottom, steps, np.maximum(one["norm"].values.transpose(0, 2, 1)[chosen], LEAST))
        bottom.axhspan(LEAST, NORM_THRESHOLD, color="0.92", lw=0, zorder=0.5)
        bottom.set_xlabel("step")
        bottom.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    grid[0, 0].set_xlim(steps[0], steps[-1])
    grid[0, 0].set_ylim(bottom=0)
    grid[0, 0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    grid[0, 0].set_ylabel("activation rate (%)")
    grid[1, 0].set_yscale("log")
    grid[1, 0].set_ylabel(r"norm $||w||_2$ (grey: dead)")
    figure.supxlabel(f"{chosen.sum():,} of {chosen.size:,} filters of {data.attrs['layer']}")
    return figure


def draw_lines(ax: Axes, steps: Array, values: Array) -> None:
    """A line for each of `SHOWN` filters, evenly chosen, and the mean of all."""
    few = np.unique(np.linspace(0, len(values) - 1, min(len(values), SHOWN)).round().astype(int))
    ax.plot(steps, values[few].T, color=ALIVE, lw=0.7, alpha=0.6)
    if len(values):
        ax.plot(steps, values.mean(axis=0), color="black", lw=2)


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="yaguchi2018, figure 6: activation rate and norm of the filters of the first layer that "
        "Adam takes to 0",
        settings=settings, measured=measured, draw=draw,
        shown=f"Thin: {SHOWN} of these filters, of all seeds; thick: the mean of all of them",
    )  # fmt: skip


if __name__ == "__main__":
    main()

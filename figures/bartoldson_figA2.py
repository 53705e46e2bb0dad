"""bartoldson2020, figure A2: instability of each event while VGG11 trains.

Units of the last four convolutions go by E[BN] or by the L2 norm of their weights, in small or in large
steps. In small BasicNet stands for VGG11, which needs images of 32x32 pixels, on drawn shapes before
clutter.
"""

from __future__ import annotations

import xarray
from _cnn import Preset, Settings
from _pruned import TRAINED, described, events, padded, presets, pruned
from _trained import Found, draw_band, redraw
from matplotlib.figure import Figure

METHODS = (
    ("smallest", 1, "ebn"), ("smallest", 13, "ebn"), ("smallest", 13, "l2"), ("largest", 1, "ebn"),
    ("largest", 13, "ebn"), ("largest", 13, "l2"),
)  # fmt: skip
COLORS = ("#56B4E9", "#0072B2", "#000000", "#E69F00", "#D55E00", "#CC79A7")
PRESETS = presets(smoke=800, digits=4000)


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    return {(described(*each),): {**TRAINED, "prune": pruned(*each)} for each in METHODS}


def measured(found: Found) -> xarray.Dataset:
    steps, instability = padded(found, events)
    kinds = [kind for (kind,) in found]
    return xarray.Dataset(
        {
            "step": (("kind", "event"), steps),
            "instability": (("kind", "seed", "event"), instability, {"units": "percent"}),
        },
        {"kind": kinds},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 5.2), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    for ax, target in zip(axes, ("small", "large")):
        for kind, color in zip(data["kind"].values, COLORS):
            if not kind.startswith(target):
                continue
            one = data.sel(kind=kind).dropna("event", how="all")
            marker = "o" if one.sizes["event"] < 20 else ""
            draw_band(ax, one["step"], one["instability"].values, color=color, marker=marker, ms=3,
                      label=kind)  # fmt: skip
        ax.axhline(0, color="0.6", lw=0.7)
        ax.set_ylabel("instability\n(percentage points)")
        ax.legend(loc="upper right")
    axes[-1].set_xlabel("step")
    return figure


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="bartoldson2020, figure A2: drop of test accuracy at each event",
        settings=settings, measured=measured, draw=draw,
    )  # fmt: skip


if __name__ == "__main__":
    main()

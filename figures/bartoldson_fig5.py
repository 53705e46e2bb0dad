"""bartoldson2020, figure 5: noise in place of pruning, test accuracy while training.

The units of VGG11 with the largest L2 norm are removed, or their weights are set to 0 (left) or get
Gaussian noise (right) once, for 50 and for 1,500 batches, and train on. In small the batches are 5 and
50, about as large a part of the time between two events, BasicNet stands for VGG11, which needs images
of 32x32 pixels, and the data are drawn shapes before clutter.
"""

from __future__ import annotations

import xarray
from _cnn import Preset, Settings
from _pruned import TRAINED, Prune, curve, padded, presets, pruned, test_accuracy
from _trained import Found, per_run, redraw, spread
from matplotlib.figure import Figure

from regdyn.plots.common import COLORS, DASHES

NOISES = {"zeroing": "Zeroing", "gaussian": "Gaussian"}
PRESETS = presets(smoke=800, digits=4000)


def holds(preset: Preset) -> tuple[int, ...]:
    """Batches for which noise lasts."""
    return (0, 50, 1500) if preset.size == "full" else (0, 5, 50)


def noisy(noise: str, hold: int) -> Prune:
    return pruned("largest", 13, "l2", more=f",noise={noise},hold={hold}")


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    both: dict[tuple[str, ...], Settings] = {
        ("not pruned", ""): TRAINED,
        ("pruned", ""): {**TRAINED, "prune": pruned("largest", 13, "l2")},
    }
    return both | {
        (noise, str(hold)): {**TRAINED, "prune": noisy(noise, hold)}
        for noise in NOISES
        for hold in holds(preset)
    }


def measured(found: Found) -> xarray.Dataset:
    steps, accuracy = padded(found, curve)
    final = per_run(found, test_accuracy)
    kinds, batches = zip(*found)
    return xarray.Dataset(
        {
            "step": (("setting", "point"), steps),
            "accuracy": (("setting", "seed", "point"), accuracy, {"units": "percent"}),
            "final_accuracy": (("setting", "seed"), final, {"units": "percent"}),
        },
        {"kind": ("setting", list(kinds)), "hold": ("setting", list(batches))},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 4.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, noise in zip(axes, NOISES):
        shown = [i for i, kind in enumerate(data["kind"].values) if kind not in NOISES or kind == noise]
        for color, dash, i in zip(COLORS, DASHES, shown):
            one = data.isel(setting=i)
            kind, hold = str(one["kind"].values), str(one["hold"].values)
            end = spread(one["final_accuracy"].values)
            name = f"{NOISES[kind]}, {hold} batches" if hold else kind
            label = f"{name}: {end[0]:.1f} ({end[1]:.1f} to {end[2]:.1f})"
            mean = spread(one["accuracy"].values)[0]
            ax.plot(one["step"], mean, color=color, ls=dash, lw=1.1, label=label)
        ax.set_title(f"{NOISES[noise]} noise")
        ax.set_xlabel("step")
        ax.legend(loc="lower right", title="accuracy at the end (range)")
    axes[0].set_ylabel("test accuracy (%)")
    return figure


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="bartoldson2020, figure 5: pruning, and noise on the same units instead",
        settings=settings, measured=measured, draw=draw, shown="Means over the seeds",
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""bartoldson2020, figure 4: instability and test accuracy over the iterative pruning rate.

As many units of the last four convolutions of VGG11 go in many small or in few large steps: the
smallest, the largest, by E[BN] or by the L2 norm of their weights, or random ones. In small BasicNet
stands for VGG11, which needs images of 32x32 pixels, on drawn shapes before clutter.
"""

from __future__ import annotations

import xarray
from _cnn import Preset, Settings
from _pruned import MEASURES, NAMES, RETRAIN, TRAINED, instability, presets, pruned, test_accuracy
from _trained import Found, draw_bars, per_run, redraw
from matplotlib.figure import Figure

KINDS = {
    ("smallest", "ebn"): ("#0072B2", "o", "-"), ("smallest", "l2"): ("#56B4E9", "o", "--"),
    ("random", "ebn"): ("#009E73", "s", "-"), ("largest", "ebn"): ("#D55E00", "^", "-"),
    ("largest", "l2"): ("#E69F00", "^", "--"),
}  # fmt: skip
UNPRUNED = ("not pruned",)
PRESETS = presets(smoke=600, digits=3000)


def label(target: str, importance: str) -> str:
    return "random" if target == "random" else f"{NAMES[target]}, {MEASURES[importance]}"


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    return {UNPRUNED: TRAINED} | {
        (label(*kind), str(rate)): {**TRAINED, "prune": pruned(kind[0], rate, kind[1])}
        for kind in KINDS
        for rate in RETRAIN
    }


def measured(found: Found) -> xarray.Dataset:
    runs = {name: each for name, each in found.items() if name != UNPRUNED}
    dims, shape = ("kind", "rate", "seed"), (len(KINDS), len(RETRAIN), -1)
    percent = {"units": "percent"}
    alone = per_run({UNPRUNED: found[UNPRUNED]}, test_accuracy)[0]
    return xarray.Dataset(
        {
            "instability": (dims, per_run(runs, instability).reshape(shape), percent),
            "accuracy": (dims, per_run(runs, test_accuracy).reshape(shape), percent),
            "accuracy_unpruned": ("seed", alone, percent),
        },
        {"kind": [label(*kind) for kind in KINDS], "rate": list(RETRAIN)},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for ax, quantity in ((left, "instability"), (right, "accuracy")):
        for i, (kind, (color, marker, dash)) in enumerate(zip(data["kind"].values, KINDS.values())):
            # Side by side, so that bars do not hide each other.
            x = data["rate"].values * 1.05 ** (i - 2)
            values = data[quantity].sel(kind=kind).values.T
            draw_bars(ax, x, values, color=color, marker=marker, ls=dash, ms=4, label=kind)
        ax.set_xscale("log")
        ax.set_xticks(list(RETRAIN), [str(rate) for rate in RETRAIN])
        ax.minorticks_off()
        ax.set_xlabel("iterative pruning rate (percent of a layer at an event)")
    alone = data["accuracy_unpruned"].mean()
    right.axhline(float(alone), color="0.4", ls=":", label="not pruned")
    left.set_ylabel("mean instability (percentage points)")
    right.set_ylabel("test accuracy at the end (%)")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="bartoldson2020, figure 4: instability (left) and test accuracy (right) where the same "
        "total goes in many small or in few large steps",
        settings=settings, measured=measured, draw=draw,
    )  # fmt: skip


if __name__ == "__main__":
    main()

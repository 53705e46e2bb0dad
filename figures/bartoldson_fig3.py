"""bartoldson2020, figure 3: test accuracy of ResNet18 under several ways of pruning.

Units of the last four convolutions in small and in large steps and all at once, single weights in large
steps. Epochs and fractions are ours (_pruned.py); all at once is after 246 epochs, as in the paper. In
small ResNet-20 stands for ResNet18, on drawn shapes before clutter.
"""

from __future__ import annotations

import xarray
from _cnn import Preset, Settings
from _pruned import RESNET_FRACTIONS, TRAINED, Prune, at, curve, padded, presets, pruned, test_accuracy
from _trained import Found, per_run, redraw, spread
from matplotlib.figure import Figure

from regdyn.plots.common import COLORS, DASHES

ONCE = 246
PRESETS = presets(smoke=800, digits=4000)


def at_once(steps: int) -> str:
    fractions = "/".join(map(str, RESNET_FRACTIONS))
    when = f"start={at(ONCE, steps)},end={at(ONCE, steps)}"
    return f"largest:importance=ebn,layers=last4,fraction={fractions},{when}"


def single_weights(target: str) -> Prune:
    units = pruned(target, fractions=RESNET_FRACTIONS)
    return lambda steps: units(steps).replace("importance=ebn", "what=weights")


METHODS: dict[str, Prune | None] = {
    "not pruned": None,
    "small units, 1 %": pruned("smallest", 1, fractions=RESNET_FRACTIONS),
    "large units, 1 %": pruned("largest", 1, fractions=RESNET_FRACTIONS),
    "large units, 13 %": pruned("largest", 13, fractions=RESNET_FRACTIONS),
    "small weights, 13 %": single_weights("smallest"),
    "large weights, 13 %": single_weights("largest"),
    "large units at once": at_once,
}


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    own = {**TRAINED, "model": "resnet18"}
    return {
        (name,): own if prune is None else {**own, "prune": prune} for name, prune in METHODS.items()
    }


def measured(found: Found) -> xarray.Dataset:
    steps, accuracy = padded(found, curve)
    final = per_run(found, test_accuracy)
    return xarray.Dataset(
        {
            "step": (("kind", "point"), steps),
            "accuracy": (("kind", "seed", "point"), accuracy, {"units": "percent"}),
            "final_accuracy": (("kind", "seed"), final, {"units": "percent"}),
        },
        {"kind": list(METHODS)},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(7.6, 5.2), layout="constrained")
    ax = figure.subplots()
    for i, kind in enumerate(data["kind"].values):
        one = data.sel(kind=kind)
        end, least, greatest = (float(value) for value in spread(one["final_accuracy"].values))
        label = f"{kind}: {end:.1f} ({least:.1f} to {greatest:.1f})"
        mean = spread(one["accuracy"].values)[0]
        ax.plot(one["step"], mean, color=COLORS[i], ls=DASHES[i], lw=1.1, label=label)
    ax.set_xlabel("step")
    ax.set_ylabel("test accuracy (%)")
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncols=2,
        title="accuracy at the end: mean (least to greatest)",
    )  # fmt: skip
    return figure


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="bartoldson2020, figure 3: test accuracy under structured and unstructured pruning",
        settings=settings, measured=measured, draw=draw,
        shown="Means over the seeds. Percent: the most of a layer that goes at one event",
    )  # fmt: skip


if __name__ == "__main__":
    main()

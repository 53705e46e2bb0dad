"""zhou2020, figure 3: collapsed filters and accuracy over rounds, with BN, leaky ReLU and psBN.

Sparsity is the share of the multiplications that goes with the filters whose |gamma| is below 1e-3
(section 3.2). Three networks, nine rounds of cosine annealing. In small the networks are ResNet-20, a
fully connected one in place of ResNet-56 and BasicNet in place of VGG-16, which needs images of 32x32
pixels; lambda is greater, since the rounds are short and a collapsed gamma takes 1 / lambda steps at
the first learning rate to decay by e.
"""

from __future__ import annotations

import numpy as np
import xarray
from _cnn import Preset, Settings
from _trained import Array, Found, draw_bars, evenly, per_run, redraw
from matplotlib.figure import Figure
from zhou_rounds import EPOCH, NORMS, ZHOU, accuracy, sparsity

ROUNDS = 9
MODELS = {"resnet20": "ResNet-20", "resnet56": "ResNet-56", "vgg16": "VGG-16"}
STYLES = {"BN": ("#000000", "o"), "leaky ReLU": ("#E69F00", "s"), "psBN": ("#0072B2", "^")}
LABELS = {"BN": "BN, ReLU", "leaky ReLU": "BN, leaky ReLU", "psBN": "psBN, ReLU"}

_SMALL = {
    "cifar10": "digits", "resnet56": "mlp:width=128,depth=3", "vgg16": "basicnet:width=0.25",
}  # fmt: skip


def presets(rounds: int) -> dict[str, Preset]:
    """Of so many rounds."""
    return {
        "smoke": Preset(
            size="smoke", instead=_SMALL, steps=200 * rounds, changed={"lam": 2e-2, "batch": 40}
        ),
        "digits": Preset(
            size="digits", instead=_SMALL, steps=1000 * rounds, changed={"lam": 4e-3, "batch": 40}
        ),
        "cifar10": Preset(size="full", instead={}),
        "cifar100": Preset(size="full", instead={"cifar10": "cifar100"}),
    }


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    own = {**ZHOU, "steps": 900 * EPOCH, "rounds": ROUNDS, "times": evenly(ROUNDS)}
    return {
        (model, norm): {**own, **NORMS[norm], "model": model} for model in MODELS for norm in STYLES
    }


def measured(found: Found) -> xarray.Dataset:
    rounds = range(1, ROUNDS + 1)
    shape = (len(MODELS), len(STYLES), -1, ROUNDS)
    dims = ("model", "norm", "seed", "round")
    each = {
        "sparsity": per_run(found, lambda run: [sparsity(i)(run) for i in rounds]),
        "accuracy": per_run(found, lambda run: [accuracy(i)(run) for i in rounds]),
    }
    names = [found[model, "BN"][0].config.model for model in MODELS]
    return xarray.Dataset(
        {name: (dims, values.reshape(shape), {"units": "percent"}) for name, values in each.items()},
        {
            "model": list(MODELS),
            "network": ("model", names),
            "norm": list(STYLES),
            "round": list(rounds),
        },
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 5.0), layout="constrained")
    grid = figure.subplots(2, len(MODELS), sharex=True, sharey="row")
    for column, model in zip(grid.T, data["model"].values):
        one = data.sel(model=model)
        for ax, quantity in zip(column, ("sparsity", "accuracy")):
            for norm, (color, marker) in STYLES.items():
                values: Array = one[quantity].sel(norm=norm).values
                draw_bars(ax, one["round"], values, color=color, marker=marker, label=LABELS[norm])
        network = str(one["network"].values)
        same = network == model
        column[0].set_title(MODELS[model] if same else f"{network}\n(for {MODELS[model]})")
        column[1].set_xlabel("rounds of training")
    grid[0, 0].set_ylabel("sparsity: FLOPs of\ncollapsed filters (%)")
    grid[0, 0].set_ylim(bottom=0)
    grid[1, 0].set_ylabel("test accuracy (%)")
    grid[1, 0].set_xticks(np.arange(1, ROUNDS + 1, 2))
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(STYLES)
    )
    return figure


def main() -> None:
    redraw(
        __file__, __doc__, presets(ROUNDS),
        title="zhou2020, figure 3: sparsity and accuracy after each round of cosine annealing",
        settings=settings, measured=measured, draw=draw,
    )  # fmt: skip


if __name__ == "__main__":
    main()

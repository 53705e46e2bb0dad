"""zhou2020, figure 5: collapsed filters over the initial learning rate and over the initial gamma.

Sparsity is the share of the multiplications that goes with the filters whose |gamma| is below 1e-3,
after one round of cosine annealing: our choice, the paper does not say how many. In small the networks
are those of zhou_fig3.py, and lambda is greater, since the round is short.
"""

from __future__ import annotations

import xarray
from _cnn import Preset, Settings
from _trained import Found, draw_bars, evenly, per_run, redraw
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from zhou_fig3 import MODELS, presets
from zhou_rounds import EPOCH, ZHOU, accuracy, sparsity

from regdyn.optimizers import SGD

RATES = (0.1, 0.2, 0.4, 0.7, 1.0)
GAMMAS = (1.0, 0.5, 0.2, 0.1, 0.05)
STYLES = {"resnet20": ("#000000", "o"), "resnet56": ("#E69F00", "s"), "vgg16": ("#0072B2", "^")}


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    own = {**ZHOU, "steps": 100 * EPOCH, "rounds": 1, "times": evenly(4)}
    rates = {("lr", str(lr)): {"optimizer": SGD(lr=lr), "gamma0": 1.0} for lr in RATES}
    gammas = {("gamma", str(gamma0)): {"optimizer": SGD(lr=0.1), "gamma0": gamma0} for gamma0 in GAMMAS}
    return {
        (model, *name): {**own, **each, "model": model}
        for model in MODELS
        for name, each in (rates | gammas).items()
    }


def measured(found: Found) -> xarray.Dataset:
    names = [found[model, "lr", "0.1"][0].config.model for model in MODELS]
    variables = {}
    for over, values in (("lr", RATES), ("gamma", GAMMAS)):
        part = {name: runs for name, runs in found.items() if name[1] == over}
        for quantity, of in (("sparsity", sparsity(1)), ("accuracy", accuracy(1))):
            shaped = per_run(part, of).reshape(len(MODELS), len(values), -1)
            dims = ("model", over, "seed")
            variables[f"{quantity}_over_{over}"] = dims, shaped, {"units": "percent"}
    return xarray.Dataset(
        variables,
        {"model": list(MODELS), "network": ("model", names), "lr": list(RATES), "gamma": list(GAMMAS)},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    draw_over(left, data, "lr")
    draw_over(right, data, "gamma")
    left.set_title("(a) initial learning rate")
    left.set_xlabel(r"initial learning rate $\eta$ (initial $\gamma$ = 1)")
    left.set_ylabel("sparsity: FLOPs of\ncollapsed filters (%)")
    left.set_ylim(bottom=0)
    right.set_title(r"(b) initial $\gamma$")
    right.set_xlabel(r"initial $\gamma$ ($\eta$ = 0.1)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(MODELS))
    return figure


def draw_over(ax: Axes, data: xarray.Dataset, over: str) -> None:
    for model in data["model"].values:
        one, (color, marker) = data.sel(model=model), STYLES[model]
        network = str(one["network"].values)
        label = MODELS[model] if network == model else f"{network} (for {MODELS[model]})"
        values = one[f"sparsity_over_{over}"].transpose("seed", over).values
        draw_bars(ax, data[over], values, color=color, marker=marker, label=label)
    ax.set_xscale("log")
    ax.set_xticks(data[over].values, [f"{value:g}" for value in data[over].values])
    ax.xaxis.set_minor_locator(NullLocator())


def main() -> None:
    redraw(
        __file__, __doc__, presets(2),
        title="zhou2020, figure 5: sparsity after one round over the initial learning rate and gamma",
        settings=settings, measured=measured, draw=draw,
    )  # fmt: skip


if __name__ == "__main__":
    main()

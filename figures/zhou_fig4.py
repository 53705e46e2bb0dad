"""zhou2020, figure 4: accuracy against multiplications of networks whose collapsed filters are removed.

ResNet-20 whose filters collapse under larger learning rates, under Adam, or over several rounds of
training, beside uniform ablation: as large a share of every layer removed before the first step. The
details are in a supplement that our copy lacks. Ours: 100 epochs of half a cosine or, for as many in
all, of two to five rounds; learning rates of SGD up to 1; Adam with L2 of several strengths. In small
BasicNet on the digits, with a greater lambda, since the runs are short.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray
from _cnn import Preset, Settings
from _trained import Found, evenly, per_run, redraw, spread
from matplotlib.figure import Figure
from zhou_rounds import EPOCH, ZHOU

from regdyn.optimizers import SGD

UNIFORM, RATE, ADAM, RETRAIN = "uniform ablation", "larger learning rate", "Adam", "retrain"
STYLES = {
    UNIFORM: ("#000000", "o"), RATE: ("#D55E00", "s"), ADAM: ("#0072B2", "^"),
    RETRAIN: ("#009E73", "D"),
}  # fmt: skip
KEPT = (1.0, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2)
"""Shares of the multiplications that uniform ablation leaves."""

RATES = (0.2, 0.4, 0.7, 1.0)
ROUNDS = (2, 3, 4, 5)
LAMBDAS = (1e-4, 5e-4, 1e-3, 2e-3)
"""Of L2 under Adam."""

_SMALL = {"cifar10": "digits", "resnet20": "basicnet:width=0.25"}
_CHANGED = {"batch": 40}
PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(size="smoke", instead=_SMALL, steps=1200, changed=_CHANGED),
    "digits": Preset(size="digits", instead=_SMALL, steps=4500, changed=_CHANGED),
    "cifar10": Preset(size="full", instead={}),
}
STRONGER = {"smoke": 20, "digits": 5, "full": 1}
"""Factor on every lambda."""


def ablated(kept: float) -> dict[str, Any]:
    """A share of every layer removed before the first step; nothing for a share of 1."""
    if kept == 1:
        return {}
    return {"prune": lambda steps: f"random:flops={1 - kept:g},start=0,end=0"}


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    stronger = STRONGER[preset.size]
    own = {**ZHOU, "steps": 100 * EPOCH, "rounds": 1, "times": evenly(2)}
    own["lam"] = stronger * ZHOU["lam"]
    wanted: dict[tuple[str, ...], Settings] = {}
    for kept in KEPT:
        wanted[UNIFORM, f"{kept:g}"] = {**own, **ablated(kept)}
    for lr in RATES:
        wanted[RATE, f"{lr:g}"] = {**own, "optimizer": SGD(lr=lr)}
    for lam in LAMBDAS:
        wanted[ADAM, f"{lam:g}"] = {**own, "optimizer": "adam", "lam": stronger * lam}
    for rounds in ROUNDS:
        wanted[RETRAIN, f"{rounds}"] = {**own, "rounds": rounds}
    return wanted


def measured(found: Found) -> xarray.Dataset:
    methods, values = zip(*found)
    kept = per_run(found, lambda run: 100 * (1 - run.last.removed.flops))
    accuracy = per_run(found, lambda run: 100 * (1 - run.error_after_removal))
    return xarray.Dataset(
        {
            "flops": (("setting", "seed"), kept, {"units": "percent"}),
            "accuracy": (("setting", "seed"), accuracy, {"units": "percent"}),
        },
        {"method": ("setting", list(methods)), "value": ("setting", list(values))},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(7.0, 4.8), layout="constrained")
    ax = figure.subplots()
    for method, (color, marker) in STYLES.items():
        one = data.isel(setting=data["method"].values == method)
        means = [[spread(run)[0] for run in one[name].values] for name in ("flops", "accuracy")]
        x, y = (np.array(values, float) for values in means)
        order = np.argsort(x)
        ax.plot(x[order], y[order], color=color, lw=0.8, alpha=0.6)
        ax.plot(one["flops"], one["accuracy"], marker, color=color, ms=3, mfc="none", mew=0.7)
        ax.plot(x, y, marker, color=color, ms=6, label=method)
    ax.set_xlabel("multiplications that are left (%)")
    ax.set_ylabel("test accuracy after removal (%)")
    ax.set_xlim(0, 105)
    ax.legend(loc="lower right")
    return figure


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="zhou2020, figure 4: removing collapsed filters against removing a share of every layer "
        "before training",
        settings=settings, measured=measured, draw=draw,
        shown="Small points are runs, large ones means over the seeds",
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""yaguchi2018, figure 7: accuracy against parameters removed, Adam with L2 beside group lasso.

Each point is a run: Adam with L2 of several strengths, and momentum SGD with a group lasso on the
weights of each unit (Scardapane et al. 2017) of several strengths. Units whose weights have a norm
below 1e-3 are removed. The strengths are lost from our copy; these are ours. In small a network of two
hidden layers on the digits stands for VGG-16, which needs images of 32x32 pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray
from _cnn import Preset, Settings, halved
from _trained import Found, evenly, per_run, redraw
from matplotlib.figure import Figure
from yaguchi_tables import CIFAR

from regdyn.nets.sparsity import inactive_by_norm
from regdyn.optimizers import SGD

if TYPE_CHECKING:
    from regdyn.cnn.result import CnnResult

STYLES = {"Adam with L2": ("#0072B2", "o"), "group lasso": ("#D55E00", "s")}
STRENGTHS = {
    "smoke": ((1e-3, 3e-3, 1e-2, 3e-2), (3e-6, 1e-5, 3e-5, 1e-4)),
    "digits": ((3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (1e-6, 3e-6, 1e-5, 3e-5, 1e-4)),
    "full": ((1e-5, 5e-5, 1e-4, 5e-4, 1e-3), (1e-7, 3e-7, 1e-6, 3e-6, 1e-5)),
}
"""Of L2 and of the lasso, by the size of the preset."""

MODEL = "vgg16:dropout=1"
_SMALL = {"cifar10": "digits", MODEL: "mlp:width=256,depth=2"}
PRESETS = {
    "smoke": Preset(size="smoke", instead=_SMALL, steps=8000, changed={"schedule": halved(3)}),
    "digits": Preset(size="digits", instead=_SMALL, steps=20_000, changed={"schedule": halved(3)}),
    "cifar10": Preset(size="full", instead={}),
}


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    decays, lassos = STRENGTHS[preset.size]
    own = {**CIFAR, "model": MODEL, "times": evenly(2)}
    wanted: dict[tuple[str, ...], Settings] = {}
    for lam in decays:
        wanted["Adam with L2", f"{lam:g}"] = {**own, "lam": lam}
    for strength in lassos:
        wanted["group lasso", f"{strength:g}"] = {
            **own, "optimizer": SGD(lr=0.1), "regularization": "none", "lam": 0.0,
            "penalty": f"group-lasso:{strength:g}",
        }  # fmt: skip
    return wanted


def removed(run: CnnResult) -> float:
    """Percent of the parameters that go with units whose weights have a norm below 1e-3."""
    from regdyn.cnn.metrics import share_removed
    from regdyn.cnn.models import trace_shapes

    marked = [inactive_by_norm(norm[-1]) for norm in run.norm]
    return 100 * share_removed(run.model.layers, trace_shapes(run.model), marked).parameters


def measured(found: Found) -> xarray.Dataset:
    methods, strengths = zip(*found)
    return xarray.Dataset(
        {
            "removed": (("setting", "seed"), per_run(found, removed), {"units": "percent"}),
            "accuracy": (("setting", "seed"), per_run(found, lambda run: 100 * (1 - run.error)),
                         {"units": "percent"}),
        },
        {"method": ("setting", list(methods)), "strength": ("setting", list(map(float, strengths)))},
    )  # fmt: skip


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    ax = figure.subplots()
    for method, (color, marker) in STYLES.items():
        one = data.isel(setting=data["method"].values == method)
        ax.plot(
            one["removed"].values.ravel(), one["accuracy"].values.ravel(), marker, color=color, ms=6,
            mfc="none", label=method,
        )  # fmt: skip
        for strength, x, y in zip(one["strength"].values, one["removed"], one["accuracy"]):
            place = float(np.nanmean(x)), float(np.nanmin(y))
            ax.annotate(f"{strength:g}", place, (0, -11), textcoords="offset points", color=color,
                        ha="center", fontsize="x-small")  # fmt: skip
    ax.set_xlabel("parameters removed (%)")
    ax.set_ylabel("test accuracy (%)")
    ax.margins(y=0.12)
    ax.legend(loc="lower left")
    return figure


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="yaguchi2018, figure 7: accuracy and reduction under Adam with L2 and under group lasso",
        settings=settings, measured=measured, draw=draw,
        shown="Each point is a run; numbers are the strengths",
    )  # fmt: skip


if __name__ == "__main__":
    main()

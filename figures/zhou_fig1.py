"""zhou2020, figure 1: L1 norms of a layer's filters with and without BN, and traces of gamma and beta.

(a) VGG-11 after the second round of cosine annealing; (b) ResNet-20 during the second round, each
filter a line in the plane of its scale and shift. The paper does not say which layers: ours are those
with the most collapsed filters, |gamma| < 1e-3, at the end with BN. In small the data are drawn shapes,
Conv4 stands for VGG-11, which needs images of 32x32 pixels, and lambda is greater, since the rounds are
short.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray
from _cnn import Preset, Settings
from _trained import (
    ALIVE,
    DEAD,
    Array,
    Found,
    draw_histogram,
    per_run,
    percent,
    redraw,
    sound,
    sound_run,
    spread,
)
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from zhou_rounds import EPOCH, ZHOU

if TYPE_CHECKING:
    from regdyn.cnn.result import CnnResult

ROUNDS = 2
BINS = 40
POINTS = 41
"""Of a trace."""

Name = tuple[str, ...]
WITH: Name = ("with BN",)
WITHOUT: Name = ("without BN",)
TRACED: Name = ("traces",)

_SMALL = {"cifar10": "synthetic", "vgg11": "conv4"}
_CHANGED = {"batch": 40, "flip": False, "crop": 0}
PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(size="smoke", instead=_SMALL, steps=2000, changed={**_CHANGED, "lam": 1e-2}),
    "digits": Preset(size="digits", instead=_SMALL, steps=10_000, changed={**_CHANGED, "lam": 2e-3}),
    "cifar10": Preset(size="full", instead={}),
    "cifar100": Preset(size="full", instead={"cifar10": "cifar100"}),
}


def settings(preset: Preset) -> dict[Name, Settings]:
    both = {**ZHOU, "steps": 200 * EPOCH, "rounds": ROUNDS}
    return {
        WITH: {**both, "model": "vgg11", "norm": "batch"},
        WITHOUT: {**both, "model": "vgg11", "norm": "none"},
        TRACED: {**both, "times": second_half},
    }


def second_half(steps: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(np.linspace(steps // 2, steps, POINTS).astype(int).tolist()))


def collapsed(runs: Found) -> tuple[int, str]:
    """The layer with the greatest share of dead filters, and what it is called."""
    shares = per_run(runs, lambda run: [dead.mean() for dead in run.inactive])
    layer = int(np.argmax(spread(shares[0])[0]))
    return layer, sound_run(runs).layer_names[layer]


def lengths(found: Found, layer: int) -> Array:
    """L1 norms of the filters of a layer at the end, shape (settings, seeds, filters)."""
    from regdyn.cnn.metrics import counted, to_numpy

    def of(run: CnnResult) -> Array:
        weights = to_numpy(run.model.weights_of(counted(run.model)[layer]).weight)
        return np.asarray(np.abs(weights).sum(axis=tuple(range(1, weights.ndim)), dtype=float))

    return per_run(found, of)


def measured(found: Found) -> xarray.Dataset:
    compared = {name: found[name] for name in (WITH, WITHOUT)}
    traces = {TRACED: found[TRACED]}
    layer, layer_name = collapsed({WITH: found[WITH]})
    traced, traced_name = collapsed(traces)
    first = sound_run(traces)
    kinds = [each for (each,) in compared]
    return xarray.Dataset(
        {
            "l1": (("kind", "seed", "filter"), lengths(compared, layer)),
            "dead": (("kind", "seed", "filter"), per_run(compared, lambda r: r.inactive[layer])),
            "test_error": (("kind", "seed"), per_run(compared, lambda run: run.error)),
            "gamma": (("seed", "step", "traced"), per_run(traces, lambda r: r.gamma[traced])[0]),
            "beta": (("seed", "step", "traced"), per_run(traces, lambda r: r.beta[traced])[0]),
        },
        {"kind": kinds, "step": first.times},
        {
            "model": found[WITH][0].config.model, "layer": layer_name,
            "traced_model": first.config.model, "traced_layer": traced_name,
            "threshold": first.config.threshold,
        },
    )  # fmt: skip


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_norms(left, data)
    draw_traces(right, data)
    return figure


def draw_norms(ax: Axes, data: xarray.Dataset) -> None:
    edges = np.linspace(0, 1.02 * np.nanmax(data["l1"]), BINS + 1)
    for kind, color in zip(data["kind"].values, (DEAD, ALIVE)):
        one = data.sel(kind=kind)
        label = f"{kind}: {percent(one['dead'].values):.0f} % collapsed, "
        label += f"test error {percent(one['test_error'].values):.1f} %"
        draw_histogram(ax, one["l1"].values, edges, color=color, label=label)
    ax.margins(y=0.3)
    ax.set_ylim(bottom=0)
    ax.set_title(f"(a) {data.attrs['model']}, layer {data.attrs['layer']}, after round {ROUNDS}")
    ax.set_xlabel(r"L1 norm of the weights of a filter, $||w||_1$")
    ax.set_ylabel("share of the filters (%)")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    ax.legend(loc="upper right")


def draw_traces(ax: Axes, data: xarray.Dataset) -> None:
    gamma, beta = (sound(data[name].values) for name in ("gamma", "beta"))
    dead = np.abs(gamma[:, -1]) < data.attrs["threshold"]
    for color, mask, order in ((ALIVE, ~dead, 2), (DEAD, dead, 3)):
        x, y = (values.transpose(0, 2, 1)[mask] for values in (gamma, beta))
        paths = np.stack((x, y), axis=-1)
        ax.add_collection(LineCollection(list(paths), colors=color, lw=0.8, alpha=0.7, zorder=order))
        ax.plot(x[:, 0], y[:, 0], "o", color=color, mfc="white", ms=3.5, mew=0.9, zorder=order)
        ax.plot(x[:, -1], y[:, -1], "o", color=color, ms=3.5, mew=0.9, zorder=order)
    ax.autoscale_view()
    ax.set_title(f"(b) {data.attrs['traced_model']}, layer {data.attrs['traced_layer']}, in round 2")
    ax.set_xlabel(r"scale $\gamma$")
    ax.set_ylabel(r"shift $\beta$")
    handles = {
        f"alive at the end ({100 * (1 - dead.mean()):.0f} %)": Line2D([], [], color=ALIVE),
        f"collapsed at the end ({100 * dead.mean():.0f} %)": Line2D([], [], color=DEAD),
        "start of the round": Line2D([], [], color="0.3", ls="", marker="o", mfc="white"),
        "its end": Line2D([], [], color="0.3", ls="", marker="o"),
    }
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.legend(handles.values(), handles.keys(), loc="outside lower right", ncols=len(handles))


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="zhou2020, figure 1: L1 norms of the filters of a layer, and traces of gamma and beta "
        "during the second round",
        settings=settings, measured=measured, draw=draw,
    )  # fmt: skip


if __name__ == "__main__":
    main()

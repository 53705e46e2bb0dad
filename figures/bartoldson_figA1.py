"""bartoldson2020, figure A1: are normalised activations normal, before and after training?

The inputs of each filter's gamma over training images, normalised by their mean and standard deviation
there, in the last eight convolutions of VGG19; E[BN] takes them to be standard normal. In small in the
seven convolutions of BasicNet. A histogram is over all filters, images and positions of a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray
from _cnn import Preset, Settings
from _pruned import TRAINED, presets
from _trained import ALIVE, DEAD, Array, Found, per_run, redraw, sound_run
from matplotlib.figure import Figure
from scipy.stats import norm

if TYPE_CHECKING:
    from regdyn.cnn import Network
    from regdyn.cnn.result import CnnResult

LAYERS = 8
"""The last so many, or as many as there are."""

IMAGES = 500
EDGES = np.linspace(-4, 4, 41)
NAME = ("trained",)
STATES = {"before": ("before training", DEAD), "after": ("after training", ALIVE)}
PRESETS = presets(smoke=1500, digits=6000)


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    return {NAME: {**TRAINED, "model": "vgg19"}}


def densities(model: Network, run: CnnResult) -> Array:
    """Shape (layers, bins): of the normalised activations of each layer, per unit of their std."""
    import torch

    from regdyn.cnn._run import make_store
    from regdyn.cnn.metrics import evaluating

    images = next(iter(make_store(run.config).train(IMAGES)))[0].cpu()
    layers = [layer for layer in model.layers if layer.counted][-LAYERS:]
    found = []

    def look(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        z = inputs[0].transpose(0, 1).flatten(1).double()
        std, mean = torch.std_mean(z, dim=1, correction=0, keepdim=True)
        # A filter whose output is constant has no distribution.
        xhat = ((z - mean) / std)[std[:, 0] > 0]
        found.append(np.histogram(xhat.numpy(), EDGES)[0] / xhat.numel() / np.diff(EDGES))

    hooks = [model.get_submodule(str(layer.norm)).register_forward_pre_hook(look) for layer in layers]
    with torch.no_grad(), evaluating(model):
        model.cpu()(images)
    for hook in hooks:
        hook.remove()
    return np.array(found)


def started(run: CnnResult) -> Network:
    """The network with which the run began."""
    import torch

    from regdyn.cnn.models import initialize

    config = run.config
    model = config.make_model()
    generator = torch.Generator().manual_seed(config.seed)
    initialize(model, config.init, config.gamma0, config.beta0, generator)
    return model.to(next(run.model.parameters()).dtype)


def measured(found: Found) -> xarray.Dataset:
    first = sound_run(found)
    names = [layer.name for layer in first.model.layers if layer.counted][-LAYERS:]
    dims = ("seed", "layer", "bin")
    return xarray.Dataset(
        {
            "before": (dims, per_run(found, lambda run: densities(started(run), run))[0]),
            "after": (dims, per_run(found, lambda run: densities(run.model, run))[0]),
        },
        {"layer": names, "bin": (EDGES[1:] + EDGES[:-1]) / 2},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 4.8), layout="constrained")
    grid = figure.subplots(2, 4, sharex=True, sharey=True)
    x = np.linspace(EDGES[0], EDGES[-1], 200)
    for ax, layer in zip(grid.flat, data["layer"].values):
        ax.plot(x, norm.pdf(x), color="#000000", lw=1, ls=(0, (4, 2)), label="standard normal")
        for state, (label, color) in STATES.items():
            mean = data[state].sel(layer=layer).mean("seed").values
            ax.stairs(mean, EDGES, color=color, lw=1.3, baseline=None, label=label)
        ax.set_title(f"layer {layer}")
    for ax in grid.flat[data.sizes["layer"] :]:
        ax.set_axis_off()
    figure.supxlabel(r"normalised activation $\hat x$ (standard deviations)")
    figure.supylabel("density")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="bartoldson2020, figure A1: distribution of normalised activations",
        settings=settings, measured=measured, draw=draw, shown="Means over the seeds",
    )  # fmt: skip


if __name__ == "__main__":
    main()

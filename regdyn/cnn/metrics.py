"""What became of a network's filters, by the definitions of `nets/sparsity.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regdyn.cnn.models.base import Layer, LayerShape, Network
from regdyn.nets import sparsity
from regdyn.nets.sparsity import Array, Mask

MEASURED = 2**19
"""Pixels of images that are measured at a time."""

Batches = Iterable[tuple[Tensor, Tensor]]
"""Images (samples, channels, rows, columns) and labels (samples,)."""


@dataclass(frozen=True, eq=False)
class Activations:
    """What is kept of a layer's `ActivationRecord`: arrays of shape (units,)."""

    peak: Array
    active_share: Array
    universality: Array

    @property
    def units(self) -> int:
        return len(self.peak)


def counted(model: Network) -> tuple[Layer, ...]:
    """The layers whose units count."""
    return tuple(layer for layer in model.layers if layer.counted)


def scale_and_shift(model: Network, layer: Layer) -> tuple[Tensor | None, Tensor]:
    """Gamma, None without normalisation, and beta, or the bias, of a layer's units."""
    norm, module = model.norm_of(layer), model.weights_of(layer)
    if norm is not None:
        return norm.weight, norm.bias
    assert module.bias is not None, "a layer has a norm or a bias"
    return None, module.bias


def weight_norms(model: Network, layer: Layer) -> Array:
    """`sparsity.weight_norms` of a layer, shape (units,)."""
    return sparsity.weight_norms(to_numpy(model.weights_of(layer).weight))


def to_numpy(tensor: Tensor) -> NDArray:
    return tensor.detach().cpu().numpy()


# What the units do on data


def measure_activations(
    model: Network, batches: Batches
) -> tuple[tuple[Activations | None, ...], float]:
    """What the training set does to each layer that counts, and the share of it that is wrong.

    In evaluation mode. Maxima and counts are taken on the device, everything else by
    `sparsity.ActivationRecord`. None for a layer without an activation of its own. Raises
    FloatingPointError for activations that are not finite, as weights that still are can make them.
    """
    layers = [layer for layer in counted(model) if layer.activation is not None]
    records: dict[str, sparsity.ActivationRecord] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def look(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
            record = records.setdefault(name, sparsity.ActivationRecord(y.shape[1]))
            if not take_in(record, y):
                raise FloatingPointError(f"activations of {name} are not finite")

        return look

    hooks = [
        model.get_submodule(str(layer.activation)).register_forward_hook(watch(layer.name))
        for layer in layers
    ]
    try:
        error = measure_error(model, batches)
    finally:
        for hook in hooks:
            hook.remove()
    kept = (records.get(layer.name) for layer in counted(model))
    return tuple(None if record is None else what_is_left(record) for record in kept), error


def take_in(record: sparsity.ActivationRecord, y: Tensor) -> bool:
    """Add a batch of activations (samples, units, …) to the record; False, and nothing, if not finite.

    Maxima and counts are taken where the activations are.
    """
    maps = y.flatten(2) if y.ndim > 2 else y[:, :, None]
    pooled = maps.abs().amax(2)
    if not pooled.isfinite().all():
        return False
    record.add_pooled(
        to_numpy(pooled.T),
        peak=to_numpy(pooled.amax(0)),
        active=to_numpy((maps > 0).sum((0, 2))),
        positions=maps.shape[2],
    )
    return True


def what_is_left(record: sparsity.ActivationRecord) -> Activations:
    """What is kept of a record that keeps the pooled activations."""
    universality = record.universality
    assert universality is not None, "the record keeps the pooled activations"
    return Activations(record.peak, record.active_share, universality)


def samples_at_a_time(size: tuple[int, int]) -> int:
    """How many images of that many rows and columns are measured at a time."""
    return max(1, min(1000, MEASURED // math.prod(size)))


@torch.no_grad()
def class_probabilities(model: nn.Module, batches: Batches) -> tuple[NDArray, NDArray[np.int64]]:
    """Softmax outputs (samples, classes) in evaluation mode, and the labels."""
    with evaluating(model):
        pairs = [(to_numpy(model(x).float().softmax(1)), to_numpy(y)) for x, y in batches]
    return np.concatenate([p for p, _ in pairs]), np.concatenate([y for _, y in pairs])


@torch.no_grad()
def measure_error(model: nn.Module, batches: Batches) -> float:
    """Share of the samples whose class is not the greatest logit, in evaluation mode."""
    wrong, total = None, 0
    with evaluating(model):
        for x, y in batches:
            miss = (model(x).argmax(1) != y).sum()
            wrong = miss if wrong is None else wrong + miss
            total += len(y)
    return float(wrong) / total if wrong is not None else float("nan")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode for a while; each of its modules then in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


# Which units are dead, and what goes with them


def inactive(model: Network, threshold: float) -> tuple[Mask, ...]:
    """The units of each layer that counts which are dead: see `nets.mlp.Network.inactive`."""
    masks = []
    for layer in counted(model):
        gamma, _ = scale_and_shift(model, layer)
        if gamma is not None:
            masks.append(sparsity.inactive_by_scale(to_numpy(gamma), threshold))
        else:
            masks.append(sparsity.inactive_by_norm(weight_norms(model, layer)))
    return tuple(masks)


def removable(model: Network, marked: Sequence[Mask]) -> tuple[Mask, ...]:
    """The marked units, but for the strongest one of a layer that would vanish."""
    importance = []
    for layer in counted(model):
        gamma, _ = scale_and_shift(model, layer)
        values = weight_norms(model, layer) if gamma is None else np.abs(to_numpy(gamma))
        importance.append(values)
    return sparsity.spare_one(marked, importance)[0]


@contextmanager
def zeroed(model: Network, marked: Sequence[Mask]) -> Iterator[None]:
    """The model with gamma, without normalisation the weights, of the marked units at 0 for a while."""
    kept: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for layer, mask in zip(counted(model), marked):
            gamma, _ = scale_and_shift(model, layer)
            values = model.weights_of(layer).weight if gamma is None else gamma
            kept.append((values, values.clone()))
            values[torch.tensor(mask, device=values.device)] = 0
    try:
        yield
    finally:
        with torch.no_grad():
            for values, before in kept:
                values.copy_(before)


@dataclass(frozen=True)
class Removed:
    """Shares of a network that go with its dead units.

    Attributes
    ----------
    parameters
        Of all parameters.
    convolutions
        Of the weights of the layers that count (mehta2019, Table 2: "% param pruned").
    flops
        Of the multiplications of a forward pass (zhou2020, section 3.2).
    """

    parameters: float
    convolutions: float
    flops: float


def share_removed(
    layers: Sequence[Layer], shapes: Sequence[LayerShape], marked: Sequence[Mask]
) -> Removed:
    """What goes with the marked units of the layers that count.

    A unit takes its weights, bias, gamma and beta, and the weights that it alone feeds in the layers
    above. A channel of a residual stream, to which several layers add, stays in what reads the stream.
    """
    masks = iter(marked)
    stay = [
        shape.n_out - (int(np.count_nonzero(next(masks))) if layer.counted else 0)
        for layer, shape in zip(layers, shapes)
    ]
    before, after = np.zeros(3), np.zeros(3)
    for layer, shape, units in zip(layers, shapes, stay):
        inputs = shape.n_in if layer.source is None else stay[layer.source]
        before += _sizes(layer, shape, shape.n_in, shape.n_out)
        after += _sizes(layer, shape, inputs, units)
    return Removed(*(1 - after / before).tolist())


def _sizes(layer: Layer, shape: LayerShape, n_in: int, n_out: int) -> Array:
    """Parameters, weights that count and multiplications of a layer with so many units."""
    edges = n_in * n_out * shape.kernel
    parameters = sparsity.layer_parameters(n_in, n_out, positions=shape.kernel, per_unit=shape.per_unit)
    return np.array([parameters, edges if layer.counted else 0, edges * shape.positions], dtype=float)

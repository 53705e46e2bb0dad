"""A network in torch as what prunes sees it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regdyn.cnn import metrics
from regdyn.cnn.models.base import Layer, Network
from regdyn.nets.pruning.choice import Mask
from regdyn.nets.pruning.importance import LayerNumbers


def prunable(model: Network) -> tuple[int, ...]:
    """Which layers can be pruned: hidden ones, but for those that go with the units of another."""
    return tuple(i for i, layer in enumerate(model.layers[:-1]) if layer.partner is None)


class PrunableModel:
    """See `regdyn.nets.pruning.pruner.Prunable`; layers are the `prunable` ones.

    A unit takes the weights that it alone feeds with it, and the unit of a shortcut that is summed with
    it. What else is summed to a residual stream stays.

    Parameters
    ----------
    model
        Changed in place.
    test_error
        Of the model as it is.
    """

    def __init__(self, model: Network, test_error: Callable[[], float]) -> None:
        self.test_error = test_error
        self._model, self._layers = model, prunable(model)
        self._held: dict[int, Mask] = {}
        self._gone: dict[int, Mask] = {}
        # What a parameter is multiplied by: 0 where it is held there.
        self._keep: dict[Tensor, Tensor] = {}

    def numbers(self, layer: int) -> LayerNumbers:
        of = self._model.layers[self._layers[layer]]
        gamma, beta = metrics.scale_and_shift(self._model, of)
        weights = metrics.to_numpy(self._model.weights_of(of).weight)
        scale = None if gamma is None else metrics.to_numpy(gamma)
        return LayerNumbers(weights.reshape(len(weights), -1), scale, metrics.to_numpy(beta))

    def hold(self, layer: int, weights: Mask, units: Mask) -> None:
        at = self._layers[layer]
        self._held[at] = np.array(weights)
        for i, each in enumerate(self._model.layers):
            if at in (i, each.partner):
                self._gone[i] = np.array(units)
                self._mask_units(each, units)
        for i, each in enumerate(self._model.layers):
            if at in (i, each.partner, each.source):
                self._mask_weights(i, each)
        self.apply()

    @torch.no_grad()
    def add(self, layer: int, noise: NDArray[np.float64]) -> None:
        weight = self._model.weights_of(self._model.layers[self._layers[layer]]).weight
        weight += torch.tensor(noise, dtype=weight.dtype, device=weight.device).view(weight.shape)

    @torch.no_grad()
    def apply(self) -> None:
        """Set what is held at 0 back to 0 after a step."""
        if self._keep:
            torch._foreach_mul_(list(self._keep), list(self._keep.values()))

    def _mask_units(self, layer: Layer, units: Mask) -> None:
        norm = self._model.norm_of(layer)
        for parameter in (self._model.weights_of(layer).bias, *(norm.parameters() if norm else ())):
            if parameter is not None:
                self._mask(parameter, units)

    def _mask_weights(self, i: int, layer: Layer) -> None:
        """By what is held of its weights, by its units that are gone, and by those of its source."""
        weight = self._model.weights_of(layer).weight
        mask = np.zeros((len(weight), weight[0].numel()), np.bool_)
        if i in self._held:
            mask |= self._held[i]
        if i in self._gone:
            mask |= self._gone[i][:, None]
        if layer.source in self._gone:
            below = self._gone[layer.source]
            mask |= np.repeat(below, mask.shape[1] // len(below))
        self._mask(weight, mask)

    def _mask(self, parameter: Tensor, held: Mask) -> None:
        if held.any():
            keep = torch.tensor(~held).view(parameter.shape)
            self._keep[parameter] = torch.empty_like(parameter).copy_(keep)
        else:
            self._keep.pop(parameter, None)

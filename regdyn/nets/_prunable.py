"""A run of the NumPy network as what prunes sees it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.random import LANES
from regdyn.nets._mlp_kernel import Arrays
from regdyn.nets.pruning.choice import Mask
from regdyn.nets.pruning.importance import LayerNumbers


class Views(Protocol):
    """Views of one buffer in the shapes of the parameters; scales and shifts of all layers in a row."""

    weights: list[NDArray]
    gammas: NDArray
    betas: NDArray


class PrunableArrays:
    """See `regdyn.nets.pruning.pruner.Prunable`.

    Parameters
    ----------
    theta, keep
        The parameters, and where they are not held at 0.
    arrays
        Of the step.
    normalized
        Whether there are scales.
    test_error
        Of the network as it is.
    """

    def __init__(
        self,
        theta: Views,
        keep: Views,
        arrays: Arrays,
        normalized: bool,
        test_error: Callable[[], float],
    ) -> None:
        self.test_error = test_error
        self._theta, self._keep, self._arrays, self._normalized = theta, keep, arrays, normalized
        edges = np.cumsum([0, *(len(weights) for weights in theta.weights[:-1])]).tolist()
        self._units = [slice(*ends) for ends in pairwise(edges)]
        self._held = [np.zeros(weights.shape, np.bool_) for weights in theta.weights]
        self._gone = [np.zeros(len(weights), np.bool_) for weights in theta.weights]

    def numbers(self, layer: int) -> LayerNumbers:
        here, theta = self._units[layer], self._theta
        gamma = theta.gammas[here] if self._normalized else None
        return LayerNumbers(theta.weights[layer], gamma, theta.betas[here])

    def hold(self, layer: int, weights: Mask, units: Mask) -> None:
        here, theta, keep = self._units[layer], self._theta, self._keep
        self._held[layer][:] = weights
        self._gone[layer][:] = units
        pairs = [(theta.betas[here], keep.betas[here], units)]
        if self._normalized:
            pairs.append((theta.gammas[here], keep.gammas[here], units))
        for i in (layer, layer + 1):
            below = self._gone[i - 1] if i else np.zeros(theta.weights[0].shape[1], np.bool_)
            pairs.append((theta.weights[i], keep.weights[i], self._held[i] | below))
        for values, kept, held in pairs:
            kept[:] = ~held
            values[held] = 0
        self._arrays.masked[:] = ~self._arrays.keep.reshape(-1, LANES).all(axis=1)

    def add(self, layer: int, noise: NDArray[np.float64]) -> None:
        self._theta.weights[layer][:] += noise.astype(self._arrays.theta.dtype)

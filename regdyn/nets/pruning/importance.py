"""How much a unit matters, by what is known without data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regdyn.errors import InvalidParameter
from regdyn.nets import sparsity
from regdyn.nets.pruning.config import Pruning

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LayerNumbers:
    """The parameters of a layer.

    Attributes
    ----------
    weights
        Shape (units, inputs).
    gamma
        Shape (units,); None without normalisation.
    beta
        Shape (units,), or the bias.
    """

    weights: NDArray[np.floating]
    gamma: NDArray[np.floating] | None
    beta: NDArray[np.floating]


@dataclass(frozen=True)
class Importance:
    """A measure of the importance of units.

    Attributes
    ----------
    kind
        "ebn": the modulus of E[BN] (`sparsity.expected_activation`; bartoldson2020, appendix A.1);
        "l1", "l2": the norm of a unit's incoming weights; "gamma": its modulus.
    alpha
        The constant of psBN.
    slope
        Of the activation below 0; only E[BN] asks for it.
    """

    kind: str
    alpha: float = 0.0
    slope: float | None = 0.0

    def __call__(self, layer: LayerNumbers) -> Array:
        """Of each unit, shape (units,), never negative."""
        if self.kind == "l1":
            return np.asarray(np.abs(layer.weights).sum(axis=1, dtype=np.float64))
        if self.kind == "l2":
            return sparsity.weight_norms(layer.weights)
        assert layer.gamma is not None
        if self.kind == "gamma":
            return np.abs(layer.gamma.astype(np.float64))
        assert self.slope is not None
        expected = sparsity.expected_activation(layer.gamma, layer.beta, self.alpha, self.slope)
        return np.abs(expected)


def make_importance(
    pruning: Pruning, *, normalized: bool, alpha: float, slope: float | None
) -> Importance:
    """The measure that `pruning` asks for, of a network whose activation has that slope below 0.

    Raises
    ------
    InvalidParameter
        For "prune": one that is not defined here.
    """
    known = normalized and slope is not None
    kind = pruning.importance or ("ebn" if known else "l2")
    if kind in ("ebn", "gamma") and not normalized:
        raise InvalidParameter("prune", "such that importance is l1 or l2 without normalisation", kind)
    if kind == "ebn" and not known:
        wanted = "such that importance is l1, l2 or gamma where the activation is not linear below 0"
        raise InvalidParameter("prune", wanted, kind)
    return Importance(kind, alpha, slope)

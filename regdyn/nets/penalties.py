r"""Penalties that are added to the loss so that whole units go to 0: what pruning is compared with.

.. math:: L'(\theta) = L(\theta) + s \sum_{l, j} r(\theta_{lj})

over the units j of the hidden layers l. The subgradient of the sum joins the gradient of the loss
before the update rule, wherever the decay acts: with Adam it goes through both moments. The loss and
the statistics of gradients that a run records are those of the data alone.

Steps along a subgradient do not stop at 0: what the penalty takes there swings around it. A scale that
sees nothing else stays within :math:`\eta s` with SGD, :math:`3 \eta s` with a momentum of 0.9, and
:math:`0.15 \eta` with Adam whatever s, since Adam divides by the size of the gradient. Noise of std s
in the data's gradient makes that :math:`5 \eta s`, :math:`50 \eta s` and :math:`3 \eta`. A threshold
finds such units only if it is above the swing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from regdyn.errors import InvalidParameter
from regdyn.parameters import check_choice, check_number

if TYPE_CHECKING:
    from regdyn.nets.mlp import Network

LEAST_NORM = 1e-30
"""A group whose norm is below it counts as one of this norm: no division by what has underflowed."""


@dataclass(frozen=True)
class Penalty(ABC):
    """A penalty of a strength s; see the module.

    Parameters
    ----------
    strength
        s, in [0, inf).

    Raises
    ------
    InvalidParameter
        For another strength.
    """

    name: ClassVar[str]

    strength: float

    def __post_init__(self) -> None:
        try:
            strength = check_number("penalty", self.strength, "[0, inf)")
        except InvalidParameter as error:
            wanted = f"{self.name}:STRENGTH with STRENGTH in [0, inf)"
            raise InvalidParameter("penalty", wanted, error.value) from None
        object.__setattr__(self, "strength", strength)

    def __str__(self) -> str:
        return f"{self.name}:{self.strength:g}"

    @abstractmethod
    def penalized(self, network: Network) -> tuple[NDArray, ...]:
        """The parameters that it acts on, for each hidden layer; a unit to an entry or row."""

    @abstractmethod
    def value(self, parameters: NDArray) -> float:
        """What it adds to the loss for the parameters of one layer."""

    @abstractmethod
    def subgradient(self, parameters: NDArray) -> NDArray:
        """What it adds to the gradient with respect to them, in their shape."""


@dataclass(frozen=True)
class Slimming(Penalty):
    r"""Network slimming: :math:`s \sum |\gamma|` over the scales of the normalisation.

    Its subgradient is :math:`s\,\mathrm{sign}(\gamma)`, 0 at 0. Needs normalisation.

    Liu et al. prune a given share of the scales of all layers, the smallest, and need no threshold.
    The one of 1e-3 on |gamma| (mehta2019) finds them where it is above their swing. On digits, after
    3,000 steps of two layers of 100 units without decay, so many units are below 1e-2, below 1e-3, and
    below 1e-3 after each of the last 200 steps: 42, 29 and 22 percent with SGD (:math:`\eta` = 0.1,
    momentum 0.9) and s = 1e-3; 81, 34 and 4 percent with s = 1e-2, whose :math:`\eta s` is the
    threshold; 47, 34 and 18 percent with Adam (:math:`\eta` = 1e-3) and s = 1e-2.

    Source: Liu et al. 2017, "Learning efficient convolutional networks through network slimming",
    arXiv:1708.06519, Eq. (1).
    """

    name: ClassVar[str] = "slimming"

    def penalized(self, network: Network) -> tuple[NDArray, ...]:
        return network.gamma

    def value(self, parameters: NDArray) -> float:
        return self.strength * float(np.abs(parameters).sum())

    def subgradient(self, parameters: NDArray) -> NDArray:
        return np.asarray(self.strength * np.sign(parameters), parameters.dtype)


@dataclass(frozen=True)
class GroupLasso(Penalty):
    r"""Group lasso: :math:`s \sum_{l, j} \sqrt{n_l} \lVert w_{lj} \rVert_2`, a group to each unit.

    :math:`w_{lj}` are all weights that come into hidden unit j of layer l, a row of a matrix or a whole
    filter, :math:`n_l` their number; biases, gamma, beta and the output layer are free. The subgradient
    is :math:`s \sqrt{n_l} w_{lj} / \lVert w_{lj} \rVert_2`, 0 at 0.

    A normalised layer computes the same with smaller weights, so that with normalisation the norms of
    all units shrink together, at no cost, and few units go; a unit whose weights are gone counts as
    dead by its norm, not by its gamma.

    Source: Wen et al. 2016, "Learning structured sparsity in deep neural networks", arXiv:1608.03665,
    Eq. (2), its term of filters; Scardapane et al. 2017, "Group sparse regularization for deep neural
    networks", arXiv:1607.00485, for the factor :math:`\sqrt{n}`.
    """

    name: ClassVar[str] = "group-lasso"

    def penalized(self, network: Network) -> tuple[NDArray, ...]:
        return network.weights[:-1]

    def value(self, parameters: NDArray) -> float:
        return self._factor(parameters) * float(self._norms(parameters).sum())

    def subgradient(self, parameters: NDArray) -> NDArray:
        norms = np.maximum(self._norms(parameters), LEAST_NORM)
        return np.asarray(self._factor(parameters) * (parameters / norms), parameters.dtype)

    def _factor(self, weights: NDArray) -> float:
        return self.strength * math.sqrt(weights[0].size)

    def _norms(self, weights: NDArray) -> NDArray:
        """In float64, of shape (units, 1, …)."""
        axes = tuple(range(1, weights.ndim))
        return np.asarray(np.sqrt(np.sum(np.square(weights, dtype=float), axis=axes, keepdims=True)))


PENALTIES: Mapping[str, type[Penalty]] = {kind.name: kind for kind in (Slimming, GroupLasso)}


def make_penalty(penalty: str | Penalty | None) -> Penalty | None:
    """A penalty from its short form, "slimming:STRENGTH" or "group-lasso:STRENGTH"; "none" is None.

    Raises
    ------
    InvalidParameter
        For any other text, and for what is no penalty.
    """
    if penalty is None or isinstance(penalty, Penalty):
        return penalty
    if not isinstance(penalty, str):
        raise InvalidParameter("penalty", "a Penalty, its text or None", penalty)
    name, colon, strength = penalty.partition(":")
    check_choice("penalty", name, ["none", *PENALTIES])
    if name == "none":
        if colon:
            raise InvalidParameter("penalty", "none without a strength", penalty)
        return None
    try:
        return PENALTIES[name](strength)  # type: ignore[arg-type]
    except InvalidParameter as error:
        raise InvalidParameter("penalty", error.requirement, penalty) from None


def strength_of(kind: type[Penalty], penalty: Penalty | None) -> float:
    """The strength of a penalty of this kind, 0 for another one and for none."""
    return penalty.strength if isinstance(penalty, kind) else 0.0

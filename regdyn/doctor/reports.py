"""What became of the filters of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regdyn.doctor.layers import NormLayer, Weights
from regdyn.doctor.readings import NEVER_FIRES
from regdyn.doctor.sparkline import decade_counts
from regdyn.nets import sparsity
from regdyn.nets.sparsity import Activity, Array, LayerSparsity, Mask


@dataclass(frozen=True)
class Deaths:
    """Why filters are dead, as numbers of filters, each in one of the first three.

    Attributes
    ----------
    by_decay
        Their scale is below the threshold, though with their beta they would fire.
    silent
        Their scale is not, but they practically never fire.
    both
        They do not fire, and their scale is below the threshold.
    constant
        Of the first, those that pass on a constant, ReLU(beta + alpha), above the threshold: they carry
        no information, but whoever removes them must put the constant elsewhere.
    """

    by_decay: int
    silent: int
    both: int
    constant: int

    @property
    def dead(self) -> int:
        return self.by_decay + self.silent + self.both

    @classmethod
    def total(cls, parts: Sequence[Deaths]) -> Deaths:
        return cls(*(sum(getattr(part, field.name) for part in parts) for field in fields(cls)))


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerReport:
    r"""A layer, filter by filter: arrays of shape (filters,).

    Attributes
    ----------
    name
        Of its normalisation in the file; without normalisation of its weights.
    weights
        Name of the weights that feed it; None where the names do not say.
    gamma, beta
        As they are in the file, float64; None without normalisation.
    norms
        L2 norms of the filters' weights; None where these are not known.
    alpha
        The constant that psBN adds to beta.
    threshold
        Of |gamma|, without normalisation of the norm, below which a filter counts as dead.
    finite
        Filters without NaN or infinity in gamma, beta and weights. The others are in none of what
        follows.
    small
        Filters below the threshold.
    silent
        Filters that practically never fire, :math:`\Phi((\beta + \alpha)/|\gamma|) <` `NEVER_FIRES`;
        without normalisation none is said to.
    sparsity
        Every measure of sparsity; None if no filter is finite.
    """

    name: str
    weights: str | None
    gamma: Array | None
    beta: Array | None
    norms: Array | None
    alpha: float
    threshold: float
    finite: Mask
    small: Mask
    silent: Mask
    sparsity: LayerSparsity | None

    @property
    def filters(self) -> int:
        return len(self.finite)

    @property
    def sizes(self) -> Array:
        """|gamma|, without normalisation the norms, of the finite filters."""
        values = self.norms if self.gamma is None else np.abs(self.gamma)
        assert values is not None, "a layer has scales or weights"
        return values[self.finite]

    @property
    def counts(self) -> NDArray[np.int64]:
        """`decade_counts` of `sizes`."""
        return decade_counts(self.sizes, self.threshold)

    @cached_property
    def deaths(self) -> Deaths:
        by_decay, both = self.small & ~self.silent, self.small & self.silent
        passing_on = np.zeros_like(by_decay)
        if self.beta is not None:
            passing_on[self.finite] = self.beta[self.finite] + self.alpha > self.threshold
        return Deaths(
            by_decay=int(by_decay.sum()),
            silent=int((self.silent & ~self.small).sum()),
            both=int(both.sum()),
            constant=int((by_decay & passing_on).sum()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the numbers of single filters."""
        return {
            "name": self.name,
            "weights": self.weights,
            "filters": self.filters,
            "not_finite": int(np.count_nonzero(~self.finite)),
            "exactly_zero": int(np.count_nonzero(self.sizes == 0)),
            "never_fire": int(np.count_nonzero(self.silent)),
            "dead": self.deaths.dead,
            "deaths": vars(self.deaths),
            "distribution": self.counts.tolist(),
            "sparsity": with_selectivity(self.sparsity),
        }


def with_selectivity(layer: LayerSparsity | None) -> dict[str, Any] | None:
    """`LayerSparsity.to_dict`, and the selectivity of mehta2019."""
    if layer is None:
        return None
    universality = layer.universality
    return layer.to_dict() | {"selectivity": None if universality is None else 1 - universality}


def report_norm(
    layer: NormLayer,
    *,
    threshold: float,
    alpha: float = 0.0,
    slope: float | None = 0.0,
    activity: Activity | None = None,
) -> LayerReport:
    """The report of a batch normalisation.

    Parameters
    ----------
    layer
        Its tensors.
    threshold, alpha
        As in `LayerReport`.
    slope
        Of the activation below 0, None where it is not linear there.
    activity
        What its filters did on data, of all of them.
    """
    weights = None if layer.weights is None else layer.weights.values
    norms = None if weights is None else _norms(weights)
    finite = np.isfinite(layer.gamma) & np.isfinite(layer.beta)
    finite &= True if norms is None else np.isfinite(norms)
    small, silent = np.zeros_like(finite), np.zeros_like(finite)
    measures = None
    if finite.any():
        gamma, beta = layer.gamma[finite], layer.beta[finite]
        small[finite] = sparsity.inactive_by_scale(gamma, threshold)
        silent[finite] = sparsity.activation_probability(gamma, beta, alpha) < NEVER_FIRES
        measures = sparsity.summary(
            layer.name,
            gamma=gamma,
            beta=beta,
            alpha=alpha,
            slope=slope,
            weights=None if weights is None else weights[finite],
            record=activity if finite.all() else None,
        )
    return LayerReport(
        name=layer.name, weights=None if layer.weights is None else layer.weights.name,
        gamma=layer.gamma, beta=layer.beta, norms=norms, alpha=alpha, threshold=threshold,
        finite=finite, small=small, silent=silent, sparsity=measures,
    )  # fmt: skip


def report_weights(weights: Weights, *, activity: Activity | None = None) -> LayerReport:
    """The report of weights without normalisation: dead by norm (yaguchi2018, section II-B)."""
    norms = _norms(weights.values)
    finite, small = np.isfinite(norms), np.zeros(len(norms), dtype=np.bool_)
    measures = None
    if finite.any():
        small[finite] = sparsity.inactive_by_norm(norms[finite])
        measures = sparsity.summary(
            weights.name, weights=weights.values[finite], record=activity if finite.all() else None
        )
    return LayerReport(
        name=weights.name, weights=weights.name, gamma=None, beta=None, norms=norms, alpha=0.0,
        threshold=sparsity.NORM_THRESHOLD, finite=finite, small=small,
        silent=np.zeros_like(small), sparsity=measures,
    )  # fmt: skip


def _norms(weights: NDArray[np.floating]) -> Array:
    """L2 norm of each row; NaN where it has a number that is not finite."""
    finite = np.isfinite(weights.reshape(len(weights), -1)).all(axis=1)
    norms = np.full(len(weights), np.nan)
    if finite.any():
        norms[finite] = sparsity.weight_norms(weights[finite])
    return norms

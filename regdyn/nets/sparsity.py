"""What became of a network's units: the papers' sparsity metrics, and removing dead units for real.

Everything here takes plain arrays, unit-major: (units, inputs) for weights, (units, samples) for
activations, (units, samples, height, width) for feature maps. A filter of a convolution is a unit.
Shares are in [0, 1], where the papers give percent.

>>> import numpy as np
>>> inactive_by_scale(np.array([0.7, -5e-4, 0.02]))
array([False,  True, False])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.errors import InvalidParameter
from regdyn.parameters import check_choice, check_integer, check_number, real_array
from regdyn.theorems import expected_activation as closed_forms

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SCALE_THRESHOLDS = (1e-2, 1e-3, 1e-4)
"""Thresholds on |gamma|: 1e-3 in mehta2019 and zhou2020; 1e-2 gives comparable sparsity (mehta2019)."""

ACTIVATION_THRESHOLDS = (1e-12, 1e-4, 1e-2)
"""Thresholds on the peak activation: 1e-12 in mehta2019, where 1e-4 gives comparable sparsity."""

NORM_THRESHOLD = 1e-3
r"""Threshold on the norm of a unit's weights.

Our choice: yaguchi2018, section II-B, prunes below a small positive constant, whose value in Table I is
lost from our copy of the text. Where Adam with L2 does not take a dead weight to 0, it leaves it
swinging with amplitude :math:`\eta (1 - \beta_1) / (2 (1 + \beta_1))`, 2.6e-5 for the usual 1e-3 and
0.9 (`regdyn.theorems.adam_limit`). The norm of 784 such weights, a dead unit's on MNIST, is 7e-4: a
threshold below that would call the unit alive.
"""

UNIVERSALITY_THRESHOLD = 1e-3
"""Share of a unit's peak that counts as an activation in `universality` (mehta2019, section 3)."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Levels at which `LayerSparsity` gives gamma."""

_SCALE, _ACTIVATION = 1e-3, 1e-12


# Which units are inactive


def inactive_by_scale(gamma: ArrayLike, threshold: float = _SCALE) -> Mask:
    r"""Units with :math:`|\gamma| <` `threshold`.

    Parameters
    ----------
    gamma
        Scales of the batch normalisation, shape (units,).
    threshold
        In [0, inf).

    Returns
    -------
    Shape (units,).

    Raises
    ------
    InvalidParameter
        Unless gamma is a finite vector and the threshold in its range.

    Source: mehta2019, section 2.1; zhou2020, section 3.1.
    """
    limit = check_number("threshold", threshold, "[0, inf)")
    with np.errstate(over="ignore"):  # a limit beyond the type of gamma is infinite there
        return np.asarray(np.abs(_vector("gamma", gamma)) < limit)


def inactive_by_activation(peak: ArrayLike, threshold: float = _ACTIVATION) -> Mask:
    r"""Units whose activation exceeds `threshold` for no sample: :math:`\max |y| \le` `threshold`.

    Parameters
    ----------
    peak
        Greatest absolute activation over the training set, shape (units,): `peak_activation`, or
        `ActivationRecord.peak`.
    threshold
        In [0, inf).

    Returns
    -------
    Shape (units,).

    Raises
    ------
    InvalidParameter
        Unless the peaks are a finite vector, none below 0, and the threshold in its range.

    Source: mehta2019, section 2.1.
    """
    peaks = _not_negative("peak", _vector("peak", peak))
    return np.asarray(peaks <= check_number("threshold", threshold, "[0, inf)"))


def inactive_by_norm(norms: ArrayLike, threshold: float = NORM_THRESHOLD) -> Mask:
    """Units whose weight vector has a norm below `threshold`.

    Parameters
    ----------
    norms
        Of `weight_norms`, shape (units,).
    threshold
        In [0, inf). The paper's is lost: see `NORM_THRESHOLD`.

    Returns
    -------
    Shape (units,).

    Raises
    ------
    InvalidParameter
        Unless the norms are a finite vector, none below 0, and the threshold in its range.

    Source: yaguchi2018, section II-B.
    """
    lengths = _not_negative("norms", _vector("norms", norms))
    return np.asarray(lengths < check_number("threshold", threshold, "[0, inf)"))


def shares_below(values: ArrayLike, thresholds: Sequence[float], *, closed: bool = False) -> Array:
    """Share of the units below each threshold, or at most there.

    Parameters
    ----------
    values
        |gamma|, or peaks, of shape (..., units). One that is NaN is not below.
    thresholds
        Such as `SCALE_THRESHOLDS`, or, closed, `ACTIVATION_THRESHOLDS`.
    closed
        Count the values at the threshold too.

    Returns
    -------
    Shape (..., thresholds).
    """
    rows, limits = np.asarray(values)[..., None, :], np.array(thresholds)[:, None]
    return np.asarray((rows <= limits if closed else rows < limits).mean(axis=-1))


def weight_norms(weights: ArrayLike) -> Array:
    r"""L2 norm :math:`\lVert w_j \rVert_2` of each unit's incoming weights, its bias left out.

    Parameters
    ----------
    weights
        Shape (units, inputs) or (units, channels, height, width).

    Returns
    -------
    Shape (units,), float64, without underflow of the squares.

    Raises
    ------
    InvalidParameter
        Unless the weights are finite and have at least two axes.

    Source: yaguchi2018, section II-B.
    """
    array = _finite("weights", weights, "an array of shape (units, inputs, ...)", least=2)
    rows = array.reshape(len(array), math.prod(array.shape[1:])).astype(np.float64)
    largest = np.abs(rows).max(axis=1, initial=0.0)
    scale = np.where(largest > 0, largest, 1.0)
    return np.asarray(largest * np.sqrt(((rows / scale[:, None]) ** 2).sum(axis=1)))


# What the units do on data


def pooled_activations(activations: ArrayLike, *, positive: bool = False) -> NDArray[np.floating]:
    r"""Greatest absolute activation over the feature plane: :math:`p_{jn} = \max_s |y_{jns}|`.

    Parameters
    ----------
    activations
        Shape (units, samples) or (units, samples, height, width).
    positive
        Pool :math:`\max(y, 0)` instead. A leaky ReLU lets every sample through, and universality tells
        units apart only by the samples with positive activation (mehta2019s, section 1).

    Returns
    -------
    Shape (units, samples), of the activations' type.

    Raises
    ------
    InvalidParameter
        Unless the activations are finite and have at least two axes.

    Source: mehta2019, section 2.1.
    """
    wanted = "an array of shape (units, samples, ...)"
    array = real_array("activations", activations, wanted)
    if array.ndim < 2:
        raise InvalidParameter("activations", wanted, f"shape {array.shape}")
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    rectified = np.maximum(array, 0) if positive else np.abs(array)
    pooled = (
        rectified.max(axis=tuple(range(2, array.ndim)), initial=0.0) if array.ndim > 2 else rectified
    )
    if not np.all(np.isfinite(pooled)):
        raise InvalidParameter("activations", "finite", float(pooled[~np.isfinite(pooled)][0]))
    return np.asarray(pooled)


def peak_activation(activations: ArrayLike) -> Array:
    """Each unit's greatest absolute activation, shape (units,).

    Parameters and errors as for `pooled_activations`; pooled ones may be given again. For a set that
    does not fit in memory there is `ActivationRecord`. Source: mehta2019, section 2.1.
    """
    return np.asarray(pooled_activations(activations).max(axis=1, initial=0.0), dtype=np.float64)


def universality(pooled: ArrayLike, threshold: float = UNIVERSALITY_THRESHOLD) -> Array:
    r"""Share of the samples that activate a unit.

    .. math::
        U_j = \frac{1}{N} \#\Bigl\{n : \frac{p_{jn}}{\max_m p_{jm}} > \theta\Bigr\}

    and 0 for a unit that never activates. The paper gives percent.

    Parameters
    ----------
    pooled
        p of `pooled_activations` over the whole training set, shape (units, samples).
    threshold
        theta, in [0, 1).

    Returns
    -------
    Shape (units,).

    Raises
    ------
    InvalidParameter
        Unless the pooled activations are finite, none below 0, of at least one sample, and the
        threshold in its range.

    Source: mehta2019, section 3, "Quantifying Feature Selectivity".
    """
    wanted = "an array of shape (units, samples) with at least one sample"
    values = _not_negative("pooled", _finite("pooled", pooled, wanted, least=2, most=2))
    if values.shape[1] == 0:
        raise InvalidParameter("pooled", wanted, f"shape {values.shape}")
    limit = check_number("threshold", threshold, "[0, 1)")
    return np.asarray(_counts_above(values, values.max(axis=1), limit) / values.shape[1])


def selectivity(pooled: ArrayLike, threshold: float = UNIVERSALITY_THRESHOLD) -> Array:
    """1 - `universality`, shape (units,): 1 for a unit that never activates.

    Parameters and errors as there. Source: mehta2019, section 3.
    """
    return 1.0 - universality(pooled, threshold)


class ActivationRecord:
    """What the activations of a layer over a set say of its units, taken in batch by batch.

    Universality needs the peak over the whole set before it can count. The record therefore keeps the
    pooled activations, units x samples numbers, which fits a training set of tens of thousands. Where
    it does not, go through the set twice: a first record with `keep=False` finds the peaks, a second
    with `peak=first.pooled_peak` counts as it goes and keeps nothing.

    Parameters
    ----------
    units
        Units of the layer.
    threshold
        Of `universality`, in [0, 1).
    positive
        As for `pooled_activations`. Changes `pooled`, `pooled_peak` and `universality` only.
    keep
        Keep the pooled activations.
    peak
        `pooled_peak` of a first record, shape (units,).

    Raises
    ------
    InvalidParameter
        For parameters out of range, from `add` for activations of another shape or not finite, and
        from what is asked before the first sample.

    Source: mehta2019, sections 2.1 and 3; the share of active positions: yaguchi2018, section V-A.
    """

    def __init__(
        self,
        units: int,
        *,
        threshold: float = UNIVERSALITY_THRESHOLD,
        positive: bool = False,
        keep: bool = True,
        peak: ArrayLike | None = None,
    ) -> None:
        self.units = check_integer("units", units, 1, 2**31)
        self.threshold = check_number("threshold", threshold, "[0, 1)")
        self.positive = positive
        self.samples = 0
        self._known = None if peak is None else _not_negative("peak", _vector("peak", peak, self.units))
        self._kept: list[NDArray[np.floating]] | None = [] if keep and peak is None else None
        self._peak = np.zeros(self.units)
        self._pooled_peak = np.zeros(self.units)
        self._above = np.zeros(self.units, dtype=np.int64)
        self._active = np.zeros(self.units, dtype=np.int64)
        self._positions = 0

    def add(self, activations: ArrayLike) -> None:
        """Take in a batch of shape (units, samples) or (units, samples, height, width)."""
        batch = np.asarray(activations)
        pooled = pooled_activations(batch)
        rest = tuple(range(1, batch.ndim))
        self.add_pooled(
            pooled_activations(batch, positive=True) if self.positive else pooled,
            peak=pooled.max(axis=1, initial=0.0),
            active=np.count_nonzero(batch > 0, axis=rest),
            positions=math.prod(batch.shape[2:]),
        )

    def add_pooled(
        self, pooled: ArrayLike, *, peak: ArrayLike, active: ArrayLike, positions: int
    ) -> None:
        """Take in a batch of which the maxima were taken elsewhere, such as on a GPU.

        Parameters
        ----------
        pooled
            p of `pooled_activations`, of max(y, 0) for `positive`, shape (units, samples).
        peak
            Greatest absolute activation of the batch, shape (units,).
        active
            Number of samples and positions with an activation above 0, shape (units,).
        positions
            Positions of a sample.
        """
        wanted = f"of shape ({self.units}, samples)"
        values = _not_negative("pooled", _finite("pooled", pooled, wanted, least=2, most=2))
        if len(values) != self.units:
            raise InvalidParameter("activations", f"of {self.units} units", len(values))
        self.samples += values.shape[1]
        self._positions += values.shape[1] * positions
        self._active += np.asarray(active)
        np.maximum(self._peak, _vector("peak", peak, self.units), out=self._peak)
        np.maximum(self._pooled_peak, values.max(axis=1, initial=0.0), out=self._pooled_peak)
        if self._known is not None:
            self._above += _counts_above(values, self._known, self.threshold)
        if self._kept is not None:
            self._kept.append(values)

    @property
    def peak(self) -> Array:
        """Greatest absolute activation so far, shape (units,), for `inactive_by_activation`."""
        self._require_samples()
        return self._peak.copy()

    @property
    def pooled_peak(self) -> Array:
        """Greatest pooled activation so far, shape (units,): `peak`, but for `positive`."""
        self._require_samples()
        return self._pooled_peak.copy()

    @property
    def active_share(self) -> Array:
        """Share of the samples and positions with an activation above 0, shape (units,)."""
        self._require_samples()
        return np.asarray(self._active / self._positions)

    @property
    def pooled(self) -> NDArray[np.floating] | None:
        """Pooled activations, shape (units, samples) in the order of the batches; None if not kept."""
        self._require_samples()
        if self._kept is None:
            return None
        if len(self._kept) > 1:
            self._kept = [np.concatenate(self._kept, axis=1)]
        return self._kept[0]

    @property
    def universality(self) -> Array | None:
        """Shape (units,); None on the first of two passes."""
        if self._known is not None:
            self._require_samples()
            return np.asarray(self._above / self.samples)
        pooled = self.pooled
        return None if pooled is None else universality(pooled, self.threshold)

    def _require_samples(self) -> None:
        if self.samples == 0:
            raise InvalidParameter("activations", "added for at least one sample")


class Activity(Protocol):
    """What `summary` needs to know of a layer's activations, such as an `ActivationRecord`."""

    @property
    def units(self) -> int: ...
    @property
    def peak(self) -> Array: ...
    @property
    def active_share(self) -> Array: ...
    @property
    def universality(self) -> Array | None: ...


# What batch normalisation predicts of the units


def activation_probability(gamma: ArrayLike, beta: ArrayLike, alpha: float = 0.0) -> Array:
    r"""Probability that a unit is active on a standard normal input.

    .. math::
        \Phi\left(\frac{\beta + \alpha}{|\gamma|}\right)

    A unit with :math:`\gamma = 0` is constant: 1 for :math:`\beta + \alpha > 0`, otherwise 0. Beside it
    stands the measured `ActivationRecord.active_share`.

    Parameters
    ----------
    gamma, beta
        Scale and bias of the batch normalisation; shapes that broadcast.
    alpha
        The constant that psBN adds.

    Returns
    -------
    Of the shape of both.

    Raises
    ------
    InvalidParameter
        Unless all are finite.

    Source: zhou2020, Eq. (2) and section 5, for either sign of gamma.
    """
    scale, shift = _scale_and_shift(gamma, beta, alpha)
    predicted = closed_forms.activation_probability(gamma=np.where(scale == 0, 1.0, scale), beta=shift)
    return np.asarray(np.where(scale == 0, np.where(shift > 0, 1.0, 0.0), predicted))


def expected_activation(
    gamma: ArrayLike, beta: ArrayLike, alpha: float = 0.0, slope: float = 0.0
) -> Array:
    r"""Mean activation on a standard normal input, the magnitude E[BN] by which bartoldson2020 prunes.

    .. math::
        b u + (1 - b) \bigl(u \Phi(u / |\gamma|) + |\gamma| \varphi(u / |\gamma|)\bigr),
        \qquad u = \beta + \alpha

    with b = 0 for ReLU. For :math:`\gamma = 0` it is the activation of u, for b = 1 (linear) u itself.

    Parameters
    ----------
    gamma, beta, alpha
        As for `activation_probability`.
    slope
        b, the slope of the activation below 0.

    Returns
    -------
    Of the shape of gamma and beta; never negative for ReLU.

    Raises
    ------
    InvalidParameter
        Unless all are finite.

    Source: bartoldson2020, appendix A.1, as restored in `regdyn.theorems.expected_activation`.
    """
    scale, shift = _scale_and_shift(gamma, beta, alpha)
    b = check_number("slope", slope, "(-inf, inf)")
    mean = closed_forms.leaky_mean(gamma=np.where(scale == 0, 1.0, scale), beta=shift, slope=b)
    return np.asarray(np.where(scale == 0, np.where(shift > 0, shift, b * shift), mean))


# Parameters


def layer_parameters(n_in: int, n_out: int, *, positions: int = 1, per_unit: int = 1) -> int:
    r"""Parameters of one layer: :math:`n_{out} (n_{in} k + q)`.

    Parameters
    ----------
    n_in, n_out
        Units (channels) below and in the layer.
    positions
        k, weights from each unit below to each unit here: 1 for dense layers, height times width of the
        kernel for convolutions, the size of the last map for a dense layer on flattened maps.
    per_unit
        q, parameters of a unit besides its weights: 1 for a bias, 2 for gamma and beta, 3 for all.

    Raises
    ------
    InvalidParameter
        Unless all are whole numbers, the first three at least 1.
    """
    most = 2**53
    sizes = (check_integer("n_in", n_in, 1, most), check_integer("n_out", n_out, 1, most))
    kernel = check_integer("positions", positions, 1, most)
    return sizes[1] * (sizes[0] * kernel + check_integer("per_unit", per_unit, 0, most))


def share_removed(
    sizes: Sequence[int],
    marked: Sequence[ArrayLike],
    *,
    positions: Sequence[int] | None = None,
    per_unit: int = 2,
    output_per_unit: int = 1,
) -> float:
    r"""Share of a plain chain's parameters that go with the marked units.

    A marked unit takes its row of weights, its gamma and beta (or bias), and its column of the next
    layer's weights. With m_l the units that stay of the n_l of layer l (the inputs and the outputs all
    stay), k_l the positions and q_l the parameters per unit,

    .. math::
        1 - \frac{\sum_{l=1}^{L} m_l (m_{l-1} k_l + q_l)}{\sum_{l=1}^{L} n_l (n_{l-1} k_l + q_l)}.

    Running statistics do not count. A layer whose units are all marked keeps one, as in `remove_units`.

    Parameters
    ----------
    sizes
        n_0 (inputs), the hidden layers, n_L (outputs): shape (L + 1,).
    marked
        L - 1 masks, one for each hidden layer, of shape (n_l,).
    positions
        k_1 … k_L as for `layer_parameters`; all 1 (dense) where None.
    per_unit, output_per_unit
        q of the hidden layers (2: gamma and beta, weights without bias; 1: bias) and of the outputs.

    Raises
    ------
    InvalidParameter
        For sizes, masks or positions that do not match.
    """
    widths = [check_integer("sizes", size, 1, 2**53) for size in sizes]
    if len(widths) < 2:
        raise InvalidParameter("sizes", "at least the inputs and the outputs", list(sizes))
    kernels = [1] * (len(widths) - 1) if positions is None else list(positions)
    if len(kernels) != len(widths) - 1:
        raise InvalidParameter(
            "positions", f"one number for each layer ({len(widths) - 1})", len(kernels)
        )
    masks = _masks(marked, widths[1:-1])
    stay = [widths[0], *(max(1, int(np.count_nonzero(~mask))) for mask in masks), widths[-1]]

    def parameters(n: list[int]) -> int:
        last = len(n) - 2
        return sum(
            layer_parameters(
                below, here, positions=k, per_unit=output_per_unit if at == last else per_unit
            )
            for at, (below, here, k) in enumerate(zip(n, n[1:], kernels))
        )

    return 1.0 - parameters(stay) / parameters(widths)


# Removing units for real


def spare_one(
    marked: Sequence[ArrayLike], importance: Sequence[ArrayLike]
) -> tuple[tuple[Mask, ...], tuple[int | None, ...]]:
    """The marked units that can go: a layer that would vanish keeps its most important one.

    Parameters
    ----------
    marked
        A mask for each hidden layer, of shape (units,).
    importance
        For each layer, of shape (units,): |gamma|, or the norm of the weights.

    Returns
    -------
    The masks, with one unit fewer where all were marked; and for each layer the unit so spared (the
    first of equals), None where others stay.

    Raises
    ------
    InvalidParameter
        For masks that do not match.
    """
    sizes = [len(_vector("importance", values)) for values in importance]
    masks, spared = [], []
    for mask, values in zip(_masks(marked, sizes), importance):
        kept = int(np.argmax(np.asarray(values))) if np.all(mask) else None
        if kept is not None:
            mask[kept] = False
        masks.append(mask)
        spared.append(kept)
    return tuple(masks), tuple(spared)


@dataclass(frozen=True, kw_only=True, eq=False)
class SlimChain:
    """The arrays of a chain of dense layers without the units that were removed.

    Attributes
    ----------
    weights
        One array of shape (units, inputs) for each layer, the output layer last.
    gamma, beta, running_mean, running_var
        One of shape (units,) for each hidden layer.
    bias
        Of the outputs, shape (outputs,).
    removed
        For each hidden layer, of the units it had: which ones are gone.
    spared
        For each hidden layer the unit, as numbered before, that was marked and stays as it was, because
        all were marked; None elsewhere.
    """

    weights: tuple[NDArray[np.floating], ...]
    gamma: tuple[NDArray[np.floating], ...]
    beta: tuple[NDArray[np.floating], ...]
    bias: NDArray[np.floating]
    running_mean: tuple[NDArray[np.floating], ...]
    running_var: tuple[NDArray[np.floating], ...]
    removed: tuple[Mask, ...]
    spared: tuple[int | None, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each layer that would have vanished."""
        return tuple(
            f"All units of hidden layer {layer} are marked; unit {unit}, the strongest, stays."
            for layer, unit in enumerate(self.spared, start=1)
            if unit is not None
        )


def remove_units(
    weights: Sequence[ArrayLike],
    gamma: Sequence[ArrayLike],
    beta: Sequence[ArrayLike],
    bias: ArrayLike,
    running_mean: Sequence[ArrayLike],
    running_var: Sequence[ArrayLike],
    marked: Sequence[ArrayLike],
    activation_of: Callable[[Array], ArrayLike],
    *,
    alpha: float = 0.0,
    norm: str = "batch",
) -> SlimChain:
    r"""Remove marked units from a chain of dense layers; in evaluation mode the outputs stay.

    With norm "batch" a marked unit is one with :math:`\gamma := 0`, with "none" one with
    :math:`w := 0`. Its activation is then a constant,

    .. math::
        c_j = f(\beta_j + \alpha),

    which the next layer gets as :math:`\delta_i = \sum_j W_{ij} c_j` through columns that go with the
    unit. So the next layer's running mean becomes :math:`\mu_i - \delta_i` (batch normalisation
    subtracts what is missing), without normalisation its :math:`\beta_i` becomes
    :math:`\beta_i + \delta_i`, and so does the bias of the outputs. In training mode the mean over a
    batch does the same by itself.

    Up to rounding the slim network equals the one in which the units of `SlimChain.removed` are set to
    0 in this way, and so the network as it was, if that setting changed nothing. With "none", mark by
    `inactive_by_norm`: the activation of a ReLU unit that never fires is 0, but after :math:`w := 0` it
    is :math:`f(\beta + \alpha)`.

    Parameters
    ----------
    weights
        One array of shape (units, inputs) for each layer, the output layer last.
    gamma, beta, running_mean, running_var
        One of shape (units,) for each hidden layer; with "none" beta is the bias, the others are only
        cut.
    bias
        Of the outputs, shape (outputs,).
    marked
        A mask for each hidden layer, of shape (units,). Of a layer whose units are all marked, that
        with the greatest :math:`|\gamma|` ("none": norm of the weights) stays as it is.
    activation_of
        f, elementwise on a float64 array.
    alpha
        The constant of psBN, added before f with either norm.
    norm
        "batch" or "none".

    Returns
    -------
    Arrays of the same types as those given. Sums are made in float64 and rounded once: in float32 this
    moves outputs of order 1 by less than 1e-7, and summing in another order by 1e-6 at width 256.

    Raises
    ------
    InvalidParameter
        For shapes that do not match, numbers that are not finite, or an unknown norm.

    Source: ours. mehta2019, section 2.1, zeroes the features, and yaguchi2018, section II-B, eliminates
    them: neither mentions the constants, which are 0 for ReLU unless :math:`\beta + \alpha > 0`.
    """
    batch = check_choice("norm", norm, ("batch", "none")) == "batch"
    shift = check_number("alpha", alpha, "(-inf, inf)")
    layers = [
        _finite("weights", w, "arrays of shape (units, inputs)", least=2, most=2) for w in weights
    ]
    if not layers:
        raise InvalidParameter("weights", "at least one layer, the output layer last")
    for below, above in pairwise(layers):
        if above.shape[1] != len(below):
            raise InvalidParameter("weights", f"of {len(below)} inputs here", above.shape[1])
    sizes = [len(layer) for layer in layers[:-1]]
    scales = _vectors("gamma", gamma, sizes)
    shifts = _vectors("beta", beta, sizes)
    means = _vectors("running_mean", running_mean, sizes)
    variances = _vectors("running_var", running_var, sizes)
    output = _vector("bias", bias, len(layers[-1]))
    importance = [np.abs(g) for g in scales] if batch else [weight_norms(w) for w in layers[:-1]]
    removed, spared = spare_one(_masks(marked, sizes), importance)

    # All of them first: what a unit gets from below no longer reaches it once its weights are 0.
    constants = [
        np.asarray(activation_of(b[gone].astype(np.float64) + shift), dtype=np.float64)
        for b, gone in zip(shifts, removed)
    ]
    for at, gone in enumerate(removed):
        above = layers[at + 1]
        passed_on = above[:, gone].astype(np.float64) @ constants[at]
        layers[at + 1] = above[:, ~gone]
        layers[at] = layers[at][~gone]
        if at + 1 == len(removed):
            output = _plus(output, passed_on)
        elif batch:
            means[at + 1] = _plus(means[at + 1], -passed_on)
        else:
            shifts[at + 1] = _plus(shifts[at + 1], passed_on)

    def cut(arrays: list[NDArray[np.floating]]) -> tuple[NDArray[np.floating], ...]:
        return tuple(array[~gone] for array, gone in zip(arrays, removed))

    return SlimChain(
        weights=tuple(layers),
        gamma=cut(scales),
        beta=cut(shifts),
        bias=output,
        running_mean=cut(means),
        running_var=cut(variances),
        removed=removed,
        spared=spared,
    )


# A layer in numbers


@dataclass(frozen=True, kw_only=True)
class LayerSparsity:
    """How sparse a layer is, by every measure; None where what it needs was not given.

    Attributes
    ----------
    name
        Of the layer.
    units
        How many it has.
    by_scale
        Share of the units inactive by scale, for each of `SCALE_THRESHOLDS`.
    by_activation
        Share of the units inactive by activation, for each of `ACTIVATION_THRESHOLDS`.
    by_norm
        Share of the units with a weight norm below `NORM_THRESHOLD`.
    universality
        Mean over the units, inactive ones (0) included.
    active_predicted, active_measured
        Activation probability from gamma and beta, and measured share of active samples; means over
        the units.
    expected_activation
        Mean of |E[BN]| over the units.
    gamma_quantiles
        Of gamma, with its sign, at the levels `QUANTILES`.
    """

    name: str
    units: int
    by_scale: Mapping[float, float] | None = None
    by_activation: Mapping[float, float] | None = None
    by_norm: float | None = None
    universality: float | None = None
    active_predicted: float | None = None
    active_measured: float | None = None
    expected_activation: float | None = None
    gamma_quantiles: Mapping[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON: thresholds and levels become text ("0.001")."""
        return {
            name: {f"{key:g}": share for key, share in value.items()}
            if isinstance(value, Mapping)
            else value
            for name, value in vars(self).items()
        }


def summary(
    name: str = "",
    *,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    alpha: float = 0.0,
    slope: float | None = 0.0,
    weights: ArrayLike | None = None,
    record: Activity | None = None,
) -> LayerSparsity:
    """Everything that can be said of a layer from what is given: a checkpoint has no activations.

    Parameters
    ----------
    name
        Of the layer.
    gamma, beta
        Of the batch normalisation, shape (units,). None for a layer without.
    alpha
        The constant of psBN.
    slope
        Of the activation below 0: 0 for ReLU, 1 for a linear one. None for others, for which the
        expected activation is not known.
    weights
        Shape (units, inputs, ...).
    record
        The layer's activations over the training set.

    Raises
    ------
    InvalidParameter
        If nothing is given, or for different numbers of units.
    """
    sizes = [len(_vector("gamma", gamma))] if gamma is not None else []
    sizes += [len(_vector("beta", beta))] if beta is not None else []
    sizes += [len(weight_norms(weights))] if weights is not None else []
    sizes += [record.units] if record is not None else []
    if not sizes:
        raise InvalidParameter("summary", "given gamma and beta, weights or a record")
    units = sizes[0]
    if units == 0 or set(sizes) != {units}:
        raise InvalidParameter("gamma, beta, weights and record", "of as many units, at least 1", sizes)
    fields: dict[str, Any] = {}
    if gamma is not None:
        scale = _vector("gamma", gamma)
        fields["by_scale"] = {t: _mean(inactive_by_scale(scale, t)) for t in SCALE_THRESHOLDS}
        fields["gamma_quantiles"] = dict(
            zip(QUANTILES, map(float, np.quantile(scale.astype(np.float64), QUANTILES)))
        )
        if beta is not None:
            fields["active_predicted"] = _mean(activation_probability(scale, beta, alpha))
            if slope is not None:
                expected = expected_activation(scale, beta, alpha, slope)
                fields["expected_activation"] = _mean(np.abs(expected))
    if weights is not None:
        fields["by_norm"] = _mean(inactive_by_norm(weight_norms(weights)))
    if record is not None:
        peak, share = record.peak, record.universality
        fields["by_activation"] = {
            t: _mean(inactive_by_activation(peak, t)) for t in ACTIVATION_THRESHOLDS
        }
        fields["active_measured"] = _mean(record.active_share)
        fields["universality"] = None if share is None else _mean(share)
    return LayerSparsity(name=name, units=units, **fields)


def total(layers: Sequence[LayerSparsity], name: str = "total") -> LayerSparsity:
    """All layers as one: means over the units, so that wide layers count for more.

    What is None in one of the layers is None in the total, and so are the quantiles of gamma, which
    those of the parts do not determine.

    Raises
    ------
    InvalidParameter
        Without a layer.
    """
    if not layers:
        raise InvalidParameter("layers", "at least one")
    units = sum(layer.units for layer in layers)

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return math.fsum(value * layer.units for value, layer in zip(known, layers)) / units

    def shares(parts: list[Mapping[float, float] | None]) -> dict[float, float] | None:
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        means = {key: mean([part.get(key) for part in known]) for key in known[0]}
        return {key: value for key, value in means.items() if value is not None}

    return LayerSparsity(
        name=name,
        units=units,
        by_scale=shares([layer.by_scale for layer in layers]),
        by_activation=shares([layer.by_activation for layer in layers]),
        by_norm=mean([layer.by_norm for layer in layers]),
        universality=mean([layer.universality for layer in layers]),
        active_predicted=mean([layer.active_predicted for layer in layers]),
        active_measured=mean([layer.active_measured for layer in layers]),
        expected_activation=mean([layer.expected_activation for layer in layers]),
    )


# Checks


def _finite(
    name: str, value: ArrayLike, wanted: str, *, least: int, most: int = 64
) -> NDArray[np.floating]:
    """`value` as an array of finite floating-point numbers with that many axes."""
    array = real_array(name, value, wanted)
    if not least <= array.ndim <= most:
        raise InvalidParameter(name, wanted, f"shape {array.shape}")
    floats = array if array.dtype.kind == "f" else array.astype(np.float64)
    if not np.all(np.isfinite(floats)):
        raise InvalidParameter(name, "finite", float(floats[~np.isfinite(floats)][0]))
    return np.asarray(floats)


def _vector(name: str, value: ArrayLike, units: int | None = None) -> NDArray[np.floating]:
    wanted = "a vector with a number for each unit" if units is None else f"a vector of {units} numbers"
    array = _finite(name, value, wanted, least=1, most=1)
    if units is not None and len(array) != units:
        raise InvalidParameter(name, wanted, f"shape {array.shape}")
    return array


def _vectors(name: str, values: Sequence[ArrayLike], sizes: list[int]) -> list[NDArray[np.floating]]:
    if len(values) != len(sizes):
        raise InvalidParameter(name, f"one vector for each hidden layer ({len(sizes)})", len(values))
    return [_vector(name, value, size) for value, size in zip(values, sizes)]


def _masks(marked: Sequence[ArrayLike], sizes: list[int]) -> list[Mask]:
    """Copies of the masks, each checked against the size of its layer."""
    if len(marked) != len(sizes):
        raise InvalidParameter("marked", f"one mask for each hidden layer ({len(sizes)})", len(marked))
    masks = [np.array(mask) for mask in marked]
    for mask, size in zip(masks, sizes):
        if mask.dtype != np.bool_ or mask.shape != (size,):
            got = f"{mask.dtype} of shape {mask.shape}"
            raise InvalidParameter("marked", f"a mask of {size} True or False", got)
    return masks


def _not_negative(name: str, array: NDArray[np.floating]) -> NDArray[np.floating]:
    if np.any(array < 0):
        raise InvalidParameter(name, "at least 0", float(array.min()))
    return array


def _scale_and_shift(gamma: ArrayLike, beta: ArrayLike, alpha: float) -> tuple[Array, Array]:
    """gamma and beta + alpha in float64."""
    scale = _finite("gamma", gamma, "an array of numbers", least=0)
    shift = _finite("beta", beta, "an array of numbers", least=0)
    constant = check_number("alpha", alpha, "(-inf, inf)")
    return scale.astype(np.float64), np.asarray(shift.astype(np.float64) + constant)


def _counts_above(pooled: NDArray[np.floating], peak: ArrayLike, threshold: float) -> NDArray[np.int64]:
    # Multiplied rather than divided: a peak of 0 needs no case of its own.
    limits = threshold * np.asarray(peak, dtype=np.float64)[:, None]
    return np.asarray(np.count_nonzero(pooled > limits, axis=1), dtype=np.int64)


def _plus(array: NDArray[np.floating], summand: Array) -> NDArray[np.floating]:
    """The sum in float64, rounded once to the array's type."""
    return np.asarray((array.astype(np.float64) + summand).astype(array.dtype))


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values))

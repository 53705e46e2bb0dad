"""How good predicted probabilities and times of an event are, on plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtri, stdtrit

from regdyn.dynamics.result import finite
from regdyn.errors import InvalidParameter
from regdyn.parameters import check_integer, real_array
from regdyn.theorems import estimates
from regdyn.theorems.estimates import Estimate

Array = NDArray[np.float64]

LEVEL = 0.05
"""Error probability of the intervals that are printed."""


def area_under_curve(
    score: ArrayLike, happened: ArrayLike, groups: ArrayLike | None = None
) -> Estimate:
    r"""Area under the ROC curve: how well a score tells what happens from what does not.

    .. math:: A = P(s_+ > s_-) + \tfrac12 P(s_+ = s_-)

    for the scores s+ and s- of a case where it happened and one where it did not. The interval is
    that of DeLong et al. (1988); with `groups`, cases of a group may depend on each other (Obuchowski
    1997), and Student's t with one degree of freedom less than there are groups is used. It is
    symmetric in logit A. Where A is 0 or 1, no pair is ordered the other way: the interval ends at the
    area under which that would have a probability of alpha / 2 in min(n+, n-) independent pairs.

    Parameters
    ----------
    score
        Shape (n,), finite or infinite; greater where it is likelier.
    happened
        Shape (n,), True or False.
    groups
        Shape (n,), a label for each case; each case is its own group where None.

    Returns
    -------
    Estimate
        One point; NaN where it happened always or never.

    Raises
    ------
    InvalidParameter
        For arrays of different shapes, or a score that is NaN.
    """
    s, plus = _cases("score", score, happened)
    n_plus, n_minus = int(plus.sum()), int((~plus).sum())
    if not n_plus or not n_minus:
        nothing = np.full(1, np.nan)
        return Estimate(nothing, lambda alpha: (nothing, nothing), len(s))
    # Each case's share of right pairs; A is the mean over either kind.
    share = np.empty(len(s))
    share[plus] = _share_below(s[plus], s[~plus])
    share[~plus] = 1 - _share_below(s[~plus], s[plus])
    area = share[plus].mean()
    part = (share - area) / np.where(plus, n_plus, n_minus)
    if groups is None:
        variance = sum(
            (part[kind] ** 2).sum() * n / max(n - 1, 1)
            for kind, n in ((plus, n_plus), (~plus, n_minus))
        )
        freedom = np.inf
    else:
        _, group = np.unique(np.asarray(groups), return_inverse=True)
        sums = np.bincount(group, weights=part)
        freedom = len(sums) - 1
        variance = (sums**2).sum() * len(sums) / max(freedom, 1)

    def interval(alpha: float) -> tuple[Array, Array]:
        least = (alpha / 2) ** (1 / min(n_plus, n_minus))
        if area == 1:
            return np.array([least]), np.ones(1)
        if area == 0:
            return np.zeros(1), np.array([1 - least])
        if freedom < 1:
            return np.zeros(1), np.ones(1)
        z = -ndtri(alpha / 2) if np.isinf(freedom) else stdtrit(freedom, 1 - alpha / 2)
        half = z * np.sqrt(variance) / (area * (1 - area))
        return np.atleast_1d(expit(logit(area) - half)), np.atleast_1d(expit(logit(area) + half))

    return Estimate(np.array([area]), interval, len(s))


def _share_below(x: Array, others: Array) -> Array:
    """Share of the others that are below each x, equal ones counted half."""
    ordered = np.sort(others)
    below, upto = (np.searchsorted(ordered, x, side=side) for side in ("left", "right"))
    return np.asarray((below + upto) / (2 * len(others)))


@dataclass(frozen=True, eq=False)
class Calibration:
    """Whether what is predicted with probability p happens in a share p of the cases.

    Attributes
    ----------
    edges
        Of the bins of predicted probability, shape (bins + 1,).
    count, predicted, observed, low, high
        For each bin: number of cases, mean prediction, share that happened with its 95 percent
        interval (Clopper and Pearson 1934); NaN in empty bins.
    error
        Expected calibration error (Naeini et al. 2015): mean of |predicted - observed| over the cases.
    brier
        Mean square of prediction minus outcome (Brier 1950).
    brier_of_share
        The same for who predicts the overall share of what happened for each case.
    """

    edges: Array
    count: NDArray[np.int64]
    predicted: Array
    observed: Array
    low: Array
    high: Array
    error: float
    brier: float
    brier_of_share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; None where undefined."""
        bins = {name: finite(getattr(self, name)) for name in ("predicted", "observed", "low", "high")}
        return {
            "edges": self.edges.tolist(),
            "count": self.count.tolist(),
            **bins,
            "error": self.error,
            "brier": self.brier,
            "brier_of_share": self.brier_of_share,
        }


def calibrate(probability: ArrayLike, happened: ArrayLike, bins: int = 10) -> Calibration:
    """Compare predicted probabilities with what happened, in `bins` bins of equal width.

    Parameters
    ----------
    probability
        Shape (n,), in [0, 1]; 1 belongs to the last bin.
    happened
        Shape (n,), True or False.

    Raises
    ------
    InvalidParameter
        For arrays of different shapes, numbers outside [0, 1] or less than one bin.
    """
    p, outcome = _cases("probability", probability, happened)
    if np.any((p < 0) | (p > 1)):
        raise InvalidParameter("probability", "in [0, 1]")
    bins = check_integer("bins", bins, 1, 10**6)
    which = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(which, minlength=bins)
    hits = np.bincount(which, weights=outcome, minlength=bins)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(which, weights=p, minlength=bins) / count
        observed = hits / count
    low, high = np.full(bins, np.nan), np.full(bins, np.nan)
    for i in np.flatnonzero(count):
        (low[i],), (high[i],) = estimates.share(hits[i], int(count[i])).interval(LEVEL)
    share = outcome.mean()
    return Calibration(
        edges=np.linspace(0, 1, bins + 1),
        count=count,
        predicted=predicted,
        observed=observed,
        low=low,
        high=high,
        error=float(np.nansum(count * np.abs(predicted - observed)) / len(p)),
        brier=float(np.mean((p - outcome) ** 2)),
        brier_of_share=float(share * (1 - share)),
    )


@dataclass(frozen=True, eq=False)
class TimeError:
    """How far predicted times are off, where it happened and was predicted to.

    Attributes
    ----------
    n
        Number of those cases.
    missed
        Cases where it happened and was not predicted.
    false_alarms
        Cases where it was predicted and did not happen.
    absolute
        Median of |predicted - observed|, in steps.
    ratio
        Median of predicted / observed.
    factor
        Median of the factor, at least 1, between both.
    """

    n: int
    missed: int
    false_alarms: int
    absolute: Estimate
    ratio: Estimate
    factor: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; None where undefined."""
        named = {name: point(getattr(self, name)) for name in ("absolute", "ratio", "factor")}
        return {"n": self.n, "missed": self.missed, "false_alarms": self.false_alarms, **named}


def compare_times(predicted: ArrayLike, observed: ArrayLike) -> TimeError:
    """Compare times > 0 of an event, of shape (n,), infinite where it did or would not happen.

    Raises
    ------
    InvalidParameter
        For arrays of different shapes, or times that are not > 0.
    """
    wanted = "times > 0, infinite for never"
    told, seen = (
        real_array(name, values, wanted).astype(float)
        for name, values in (("predicted", predicted), ("observed", observed))
    )
    if told.ndim != 1 or told.shape != seen.shape:
        raise InvalidParameter(
            "predicted", f"{wanted}, of the shape of observed", f"shape {told.shape}"
        )
    for name, values in (("predicted", told), ("observed", seen)):
        if not np.all(values > 0):
            raise InvalidParameter(name, wanted)
    foreseen, happened = np.isfinite(told), np.isfinite(seen)
    both = foreseen & happened

    def median(values: Array) -> Estimate:
        if len(values):
            return estimates.quantile(values)
        nothing = np.full(1, np.nan)
        return Estimate(nothing, lambda alpha: (nothing, nothing), 0)

    ratio = np.log(told[both] / seen[both])
    return TimeError(
        n=int(both.sum()),
        missed=int((happened & ~foreseen).sum()),
        false_alarms=int((foreseen & ~happened).sum()),
        absolute=median(np.abs(told[both] - seen[both])),
        ratio=median(ratio).map(np.exp),
        factor=median(np.abs(ratio)).map(np.exp),
    )


def point(estimate: Estimate) -> dict[str, float | None]:
    """One point and its 95 percent interval as plain JSON; None where undefined."""
    ends = (end[0] for end in estimate.interval(LEVEL))
    return dict(zip(("value", "low", "high"), finite([estimate.value[0], *ends])))


def _cases(name: str, values: ArrayLike, happened: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    outcome = np.asarray(happened)
    wanted = f"{outcome.shape} numbers, one for each case, none of them NaN"
    x = real_array(name, values, wanted).astype(float)
    if x.shape != outcome.shape or x.ndim != 1 or not len(x) or np.any(np.isnan(x)):
        raise InvalidParameter(name, wanted, f"shape {x.shape}")
    if outcome.dtype != np.bool_:
        raise InvalidParameter("happened", "True or False for each case", f"{outcome.dtype}")
    return x, outcome

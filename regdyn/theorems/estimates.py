"""Measured numbers with their confidence intervals.

Quantiles of distributions come from scipy.special: importing scipy.stats takes two seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri, stdtrit

from regdyn.errors import InvalidParameter

Array = NDArray[np.float64]
Interval = Callable[[float], tuple[Array, Array]]


@dataclass(frozen=True)
class Estimate:
    """Points measured together.

    Attributes
    ----------
    value
        Shape (n,).
    interval
        From an error probability alpha to the ends (low, high) of two-sided intervals, each (n,).
    n
        Sample size behind each point.
    """

    value: Array
    interval: Interval
    n: int

    def map(self, function: Callable[[Array], Array]) -> Estimate:
        """The estimate of an increasing function of the points, applied to each."""

        def interval(alpha: float) -> tuple[Array, Array]:
            low, high = self.interval(alpha)
            return function(low), function(high)

        return Estimate(function(self.value), interval, self.n)


def exact(value: ArrayLike, n: int = 1) -> Estimate:
    """Numbers without statistical error: n deterministic runs."""
    points = np.atleast_1d(np.asarray(value, dtype=float))
    return Estimate(points, lambda alpha: (points, points), n)


def with_error(value: ArrayLike, error: ArrayLike, n: int) -> Estimate:
    """Asymptotically normal estimates with their standard errors; Student's t with n - 1 degrees."""
    points, errors = np.broadcast_arrays(
        np.atleast_1d(np.asarray(value, dtype=float)), np.asarray(error, dtype=float)
    )

    def interval(alpha: float) -> tuple[Array, Array]:
        half = stdtrit(n - 1, 1 - alpha / 2) * errors
        return points - half, points + half

    return Estimate(points, interval, n)


def mean(samples: ArrayLike) -> Estimate:
    """Means over the first axis of samples of shape (n,) or (n, points)."""
    x = np.asarray(samples, dtype=float)
    x = x.reshape(len(x), -1)
    return with_error(x.mean(axis=0), x.std(axis=0, ddof=1) / np.sqrt(len(x)), len(x))


def std(samples: ArrayLike, *, about: float | None = None) -> Estimate:
    """Standard deviations over the first axis of samples of shape (n,) or (n, points).

    The interval is symmetric in ln std, whose error comes from the sample's kurtosis. With `about`,
    the root mean square deviation from that known number.
    """
    x = np.asarray(samples, dtype=float)
    x = x.reshape(len(x), -1)
    n = len(x)
    squares = (x - (x.mean(axis=0) if about is None else about)) ** 2
    variance = squares.mean(axis=0) * (n / (n - 1) if about is None else 1.0)
    root = np.sqrt(variance)
    error = squares.std(axis=0) / np.sqrt(n) / (2 * variance)

    def interval(alpha: float) -> tuple[Array, Array]:
        factor = np.exp(-ndtri(alpha / 2) * error)
        return root / factor, root * factor

    return Estimate(root, interval, n)


def quantile(samples: ArrayLike, level: float = 0.5) -> Estimate:
    """The quantile of one sample of shape (n,), its interval from order statistics.

    Samples may be infinite, such as times of what never happened.
    """
    x = np.sort(np.ravel(np.asarray(samples, dtype=float)))
    n = len(x)
    point = np.atleast_1d(x[min(int(np.ceil(level * n)), n) - 1])

    def interval(alpha: float) -> tuple[Array, Array]:
        half = -ndtri(alpha / 2) * np.sqrt(n * level * (1 - level)) + 1
        low = int(np.clip(np.floor(n * level - half), 0, n - 1))
        high = int(np.clip(np.ceil(n * level + half), 0, n - 1))
        return np.atleast_1d(x[low]), np.atleast_1d(x[high])

    return Estimate(point, interval, n)


def share(successes: ArrayLike, n: int) -> Estimate:
    """Shares of n trials that succeeded, with the intervals of Clopper and Pearson (1934)."""
    k = np.atleast_1d(np.asarray(successes, dtype=float))

    def interval(alpha: float) -> tuple[Array, Array]:
        with np.errstate(invalid="ignore"):
            low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, alpha / 2), 0.0)
            high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - alpha / 2), 1.0)
        return low, high

    return Estimate(k / n, interval, n)


def correlation(x: ArrayLike, y: ArrayLike) -> Estimate:
    r"""Pearson's correlation of pairs, its interval by Fisher's (1921) transformation.

    .. math::
        \tanh\left(\operatorname{artanh} r \pm z_{1 - \alpha / 2} / \sqrt{n - 3}\right)

    Parameters
    ----------
    x, y
        Shape (n,) or (n, points), the pairs along the first axis, n at least 4.

    Raises
    ------
    InvalidParameter
        For other shapes, and for an x or y that does not vary.
    """
    pairs = [np.asarray(values, dtype=float) for values in (x, y)]
    n = len(pairs[0])
    if pairs[0].shape != pairs[1].shape or n < 4:
        wanted = "at least 4 pairs with y, of the same shape"
        raise InvalidParameter("x", wanted, f"shapes {pairs[0].shape} and {pairs[1].shape}")
    centred = [values.reshape(n, -1) - values.reshape(n, -1).mean(axis=0) for values in pairs]
    norms = [np.sqrt((values**2).sum(axis=0)) for values in centred]
    for name, norm in zip("xy", norms):
        if not np.all(norm > 0):
            raise InvalidParameter(name, "varying")
    r = np.clip((centred[0] * centred[1]).sum(axis=0) / (norms[0] * norms[1]), -1, 1)

    def interval(alpha: float) -> tuple[Array, Array]:
        with np.errstate(divide="ignore"):  # all pairs on a line
            z = np.arctanh(r)
        half = -ndtri(alpha / 2) / np.sqrt(n - 3)
        return np.tanh(z - half), np.tanh(z + half)

    return Estimate(r, interval, n)


def joined(*estimates: Estimate) -> Estimate:
    """The points of several estimates, one after the other."""

    def interval(alpha: float) -> tuple[Array, Array]:
        lows, highs = zip(*(estimate.interval(alpha) for estimate in estimates))
        return np.concatenate(lows), np.concatenate(highs)

    value = np.concatenate([estimate.value for estimate in estimates])
    return Estimate(value, interval, min(estimate.n for estimate in estimates))

"""Streaming statistics of an ensemble: their size depends on neither steps nor trajectories."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.dynamics._jit import bits_of, float_of, inlined, summing_kernel, use_wide_vectors
from regdyn.dynamics.random import LANES
from regdyn.errors import InvalidParameter
from regdyn.parameters import check_integer, real_array

LOW, HIGH, BIN_WIDTH = 1e-12, 1e3, 0.01
"""Range and relative width of the bins of |theta|."""

N_BINS = math.ceil(math.log(HIGH / LOW) / math.log1p(BIN_WIDTH))

_LOG_LOW = math.log(LOW)
_PER_BIN = 1.0 / math.log1p(BIN_WIDTH)
_LN2 = math.log(2.0)

_SQRT_HALF_BITS = np.float64(np.sqrt(0.5)).view(np.int64)
_MANTISSA = np.int64((1 << 52) - 1)


def bin_edges() -> NDArray[np.float64]:
    """The N_BINS + 1 edges of the bins of |theta|, geometric from LOW to HIGH (just above it)."""
    return np.asarray(LOW * (1.0 + BIN_WIDTH) ** np.arange(N_BINS + 1))


# The Renard series R20, rounded: smooth in a plot, with the round numbers that a table wants.
_PREFERRED = (
    1.0, 1.12, 1.25, 1.4, 1.6, 1.8, 2.0, 2.24, 2.5, 2.8,
    3.2, 3.6, 4.0, 4.5, 5.0, 5.6, 6.3, 7.1, 8.0, 9.0,
)  # fmt: skip


@cache
def log_times(steps: int) -> NDArray[np.int64]:
    """0, then twenty preferred numbers per decade (1, 2, 5 among them) up to and including `steps`."""
    decades = range(math.ceil(math.log10(steps)) + 1)
    spaced = {int(number * 10**decade) for decade in decades for number in _PREFERRED}
    return read_only(np.asarray(sorted({0, steps} | {t for t in spaced if t < steps}), np.int64))


def check_times(times: ArrayLike | None, steps: int) -> NDArray[np.int64]:
    """`times` as sorted unique steps in [0, steps]; log-spaced ones where None."""
    if times is None:
        return log_times(steps)
    given = np.ravel(real_array("times", times, f"steps in [0, {steps}]"))
    return _checked_times(given.tobytes(), given.dtype, steps)


@lru_cache(maxsize=256)
def _checked_times(numbers: bytes, dtype: np.dtype, steps: int) -> NDArray[np.int64]:
    """`check_times` of an array; a sweep asks for the same one at each of its points."""
    given = np.frombuffer(numbers, dtype)
    values = sorted({check_integer("times", t, 0, steps) for t in given})
    if not values:
        raise InvalidParameter("times", f"at least one step in [0, {steps}]")
    return read_only(np.asarray(values, dtype=np.int64))


def read_only(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """An array that several configurations share."""
    times.flags.writeable = False
    return times


@inlined
def _log(x: Any) -> Any:
    """ln x for a normal float64 x > 0, error below 1e-10; a call of the C library is not vectorised."""
    shifted = np.int64(bits_of(x)) - _SQRT_HALF_BITS
    z = float_of((shifted & _MANTISSA) + _SQRT_HALF_BITS) - 1.0
    # -2 ln(1 + z) / z at Chebyshev nodes, 1 + z in [sqrt(1/2), sqrt(2)]; Estrin's order.
    z2 = z * z
    z4 = z2 * z2
    a = (-2.000000000096024 + 1.0000000061691077 * z) + (
        -0.6666666169256104 + 0.49999873171629633 * z
    ) * z2
    b = (-0.4000033927588508 + 0.3334076730475459 * z) + (
        -0.28567596790540506 + 0.24821771331922843 * z
    ) * z2
    c = (-0.22085472079438018 + 0.21796225155754365 * z) + (
        -0.21273084751159907 + 0.11691342670179275 * z
    ) * z2
    return _LN2 * np.float64(shifted >> 52) - 0.5 * z * (a + (b + c * z4) * z4)


@inlined
def _bin_of(magnitude: Any) -> Any:
    """Index into a histogram row: 0 underflow, 1 … N_BINS, N_BINS + 1 overflow; for finite input."""
    position = (_log(magnitude + 1e-300) - _LOG_LOW) * _PER_BIN
    return np.int64(min(max(position + 1.0, 0.0), N_BINS + 1.0))


@summing_kernel
def accumulate(values: Any, count: Any, limit: Any, bins: Any, moments: Any, histogram: Any) -> None:
    """Add one recorded time of a batch to its moments and histogram.

    Parameters
    ----------
    values
        theta of every lane, shape (blocks * LANES,).
    count
        Lanes that hold a trajectory.
    limit
        Lanes with not |theta| <= limit have diverged and are left out.
    bins
        Scratch of shape (LANES,), int64.
    moments
        (n, mean, sum of squared deviations) of theta, merged block by block (Chan et al. 1983), then
        the least and the greatest |theta|; before the first call (0, 0, 0, inf, 0).
    histogram
        Counts of shape (N_BINS + 2,).
    """
    use_wide_vectors()
    for start in range(0, count, LANES):
        width = min(LANES, count - start)
        block = values[start : start + width]
        n = 0.0
        total = 0.0
        least, greatest = moments[3], moments[4]
        for i in range(width):
            x = np.float64(block[i])
            alive = abs(x) <= limit
            n += 1.0 if alive else 0.0
            total += x if alive else 0.0
            least = min(least, abs(x) if alive else least)
            greatest = max(greatest, abs(x) if alive else greatest)
        moments[3], moments[4] = least, greatest
        if n == 0.0:
            continue
        mean = total / n
        squares = 0.0
        for i in range(width):
            x = np.float64(block[i])
            alive = abs(x) <= limit
            deviation = x - mean if alive else 0.0
            squares += deviation * deviation
            bins[i] = _bin_of(abs(x)) if alive else -1
        for i in range(width):
            if bins[i] >= 0:
                histogram[bins[i]] += 1
        before = moments[0]
        merged = before + n
        delta = mean - moments[1]
        moments[0] = merged
        moments[1] += delta * (n / merged)
        moments[2] += squares + delta * delta * (before * n / merged)


def histogram_quantiles(histogram: NDArray[np.int64], levels: ArrayLike) -> NDArray[np.float64]:
    """Quantiles of |theta| from rows of counts, interpolated geometrically inside a bin.

    Parameters
    ----------
    histogram
        Counts of shape (times, N_BINS + 2), under- and overflow first and last.
    levels
        Levels q in (0, 1), shape (k,).

    Returns
    -------
    Array of shape (times, k), within 1 percent of the exact sample quantile. A quantile below LOW is
    returned as LOW, one above HIGH as HIGH; a row without counts gives NaN.
    """
    levels = np.asarray(levels, dtype=float)
    edges = bin_edges()
    quantiles = np.full((len(histogram), len(levels)), np.nan)
    for row, counts in zip(quantiles, histogram):
        cumulative = np.cumsum(counts)
        if cumulative[-1] == 0:
            continue
        wanted = levels * cumulative[-1]
        index = np.searchsorted(cumulative, wanted, side="left")
        inside = (index >= 1) & (index <= N_BINS)
        row[index < 1] = LOW
        row[index > N_BINS] = HIGH
        i = index[inside]
        share = (wanted[inside] - cumulative[i - 1]) / counts[i]
        row[inside] = edges[i - 1] * (1.0 + BIN_WIDTH) ** share
    return quantiles

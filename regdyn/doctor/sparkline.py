"""A distribution over decades in one line of text."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCKS = "▁▂▃▄▅▆▇█"
"""Heights of a bar; a bin of nothing is a space."""

BELOW, ABOVE = 3, 4
"""Decades that are shown below and above the threshold."""

PER_DECADE = 2
"""Bins in a decade."""

MARK = "│"
"""Stands at the threshold."""


def decade_counts(values: ArrayLike, threshold: float) -> NDArray[np.int64]:
    """How many of `values` >= 0 lie in each bin around the threshold, shape (14,).

    Bins are half decades of value/threshold from 1e-3 to 1e4; what lies beyond, 0 too, counts in the
    first or the last.
    """
    with np.errstate(divide="ignore"):
        decades = np.log10(np.asarray(values, dtype=np.float64)) - np.log10(threshold)
    bins = PER_DECADE * (BELOW + ABOVE)
    place = np.clip(np.floor(PER_DECADE * (decades + BELOW)), 0, bins - 1).astype(np.int64)
    return np.bincount(place, minlength=bins)


def sparkline(counts: ArrayLike) -> str:
    """`decade_counts` as text, the fullest bin the highest, with `MARK` at the threshold.

    >>> sparkline(decade_counts([0, 5e-4, 0.2, 0.3, 0.4, 2], 1e-3))
    '▄    ▄│    █▄▄ '
    """
    numbers = np.asarray(counts)
    most = max(int(numbers.max(initial=0)), 1)
    heights = -(-len(BLOCKS) * numbers // most)
    bars = [BLOCKS[height - 1] if height else " " for height in heights.tolist()]
    place = PER_DECADE * BELOW
    return "".join(bars[:place]) + MARK + "".join(bars[place:])


def range_in_words(threshold: float) -> str:
    """What a sparkline shows: "1e-06 │ 10"."""
    low, high = threshold * 10.0**-BELOW, threshold * 10.0**ABOVE
    return f"{low:.0e} {MARK} {high:g}"

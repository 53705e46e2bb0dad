"""How many units must go for a share of the multiplications."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import floor

Multiplications = Callable[[Sequence[int]], int]
"""Of a forward pass, from the number of units that are removed of each hidden layer."""


def dense_multiplications(sizes: Sequence[int], removed: Sequence[int]) -> int:
    r""":math:`\sum_l n_{l-1} n_l` of a chain of dense layers.

    Parameters
    ----------
    sizes
        Inputs, units of the hidden layers, outputs.
    removed
        Units that are gone of each hidden layer.
    """
    stay = [n - gone for n, gone in zip(sizes, [0, *removed, 0])]
    return sum(below * here for below, here in pairwise(stay))


def share_saved(removed: Sequence[int], multiplications: Multiplications) -> Fraction:
    """Share of the multiplications that goes with so many units of each hidden layer."""
    return 1 - Fraction(multiplications(removed), multiplications([0] * len(removed)))


def uniform_counts(
    flops: Fraction, units: Sequence[int], pruned: Sequence[int], multiplications: Multiplications
) -> list[int] | None:
    r"""Units of each pruned layer that go, where all lose the same share of them.

    The least share q such that the share `flops` of the multiplications goes with
    :math:`\lfloor q n_l + 1/2 \rfloor` units of each, at most all but one. None if that is too few.

    Parameters
    ----------
    flops
        Share of the multiplications, in (0, 1).
    units
        Of each hidden layer.
    pruned
        Which of them are pruned.
    multiplications
        Of the network.
    """

    def counts(share: Fraction) -> list[int]:
        return [min(floor(share * units[i] + Fraction(1, 2)), units[i] - 1) for i in pruned]

    def saved(share: Fraction) -> Fraction:
        removed = [0] * len(units)
        for i, count in zip(pruned, counts(share)):
            removed[i] = count
        return share_saved(removed, multiplications)

    # Where the count of some layer grows by one.
    shares = sorted({Fraction(2 * k - 1, 2 * units[i]) for i in pruned for k in range(1, units[i])})
    at = bisect_left(shares, flops, key=saved)
    return counts(shares[at]) if at < len(shares) else None

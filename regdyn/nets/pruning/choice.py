"""Which of the units, or weights, go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Order = NDArray[np.intp]


def in_order(values: Array, target: str, generator: np.random.Generator) -> Order:
    """All of them in the order in which they would go; equals by their number.

    Parameters
    ----------
    values
        Their importance, shape (n,).
    target
        "smallest", "largest" (downwards), "random", or "decile0" … "decile9": from the bottom of that
        tenth upwards to the end, then downwards from there.
    generator
        Of the order of "random".

    Source: bartoldson2020, section 3.1 and appendix A.3.2, whose D10 is "largest".
    """
    n = len(values)
    if target == "random":
        return generator.permutation(n)
    if target == "largest":
        return np.argsort(-values, kind="stable")
    ascending = np.argsort(values, kind="stable")
    begin = 0 if target == "smallest" else int(target.removeprefix("decile")) * n // 10
    return np.concatenate((ascending[begin:], ascending[:begin][::-1]))


def choose(
    values: Sequence[Array],
    eligible: Sequence[Mask],
    target: str,
    generator: np.random.Generator,
    enough: Callable[[Sequence[int]], bool],
) -> tuple[Mask, ...]:
    """The first in order that are enough, of one ranking over some layers, none of which is emptied.

    Parameters
    ----------
    values
        For each layer the importance of its units (weights), shape (n,).
    eligible
        Those that can be chosen, shape (n,).
    target, generator
        See `in_order`.
    enough
        Whether so many of each layer are enough; with more of any of them they still are. Where it is
        never so, all that can go do.

    Returns
    -------
    Those chosen of each layer, as masks.
    """
    layer = np.repeat(np.arange(len(values)), [np.count_nonzero(mask) for mask in eligible])
    place = np.concatenate([np.flatnonzero(mask) for mask in eligible])
    ranking = in_order(np.concatenate([v[m] for v, m in zip(values, eligible)]), target, generator)
    spared = [of_layer[-1:] for of_layer in (ranking[layer[ranking] == i] for i in range(len(values)))]
    ranking = ranking[~np.isin(ranking, np.concatenate(spared))]

    def counts(first: int) -> list[int]:
        numbers: list[int] = np.bincount(layer[ranking[:first]], minlength=len(values)).tolist()
        return numbers

    low, high = 0, len(ranking)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(counts(middle)) else (middle + 1, high)
    chosen = [np.zeros(len(v), np.bool_) for v in values]
    for i, mask in enumerate(chosen):
        mask[place[ranking[:low]][layer[ranking[:low]] == i]] = True
    return tuple(chosen)

"""Which units go: importance against closed forms and Monte Carlo, targets by definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regdyn.errors import InvalidParameter
from regdyn.nets.pruning.choice import choose, in_order
from regdyn.nets.pruning.config import TARGETS, Pruning
from regdyn.nets.pruning.importance import Importance, LayerNumbers, make_importance

GENERATOR = np.random.default_rng(0)
LAYER = LayerNumbers(
    GENERATOR.normal(size=(9, 4)).astype(np.float32),
    GENERATOR.normal(size=9).astype(np.float32),
    GENERATOR.normal(size=9).astype(np.float32),
)


def generator() -> np.random.Generator:
    return np.random.default_rng(1)


def enough(number: int) -> Any:
    return lambda counts: sum(counts) >= number


# Importance


def test_norms_and_scales() -> None:
    w = LAYER.weights.astype(float)
    np.testing.assert_allclose(Importance("l1")(LAYER), np.abs(w).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(Importance("l2")(LAYER), np.sqrt((w**2).sum(axis=1)), rtol=1e-6)
    assert LAYER.gamma is not None
    np.testing.assert_array_equal(Importance("gamma")(LAYER), np.abs(LAYER.gamma.astype(float)))


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_ebn_is_the_mean_activation(slope: float) -> None:
    n = 200_000
    assert LAYER.gamma is not None
    u = LAYER.gamma[:, None] * generator().normal(size=n) + LAYER.beta[:, None] + 0.3
    y = np.where(u > 0, u, slope * u)
    error = y.std(axis=1) / np.sqrt(n)
    expected = Importance("ebn", alpha=0.3, slope=slope)(LAYER)
    assert np.all(np.abs(expected - np.abs(y.mean(axis=1))) < 5 * error)
    # A wrong shift is noticed.
    assert np.any(np.abs(Importance("ebn", slope=slope)(LAYER) - np.abs(y.mean(axis=1))) > 5 * error)


@pytest.mark.parametrize(
    "asked, normalized, slope, kind",
    [
        (None, True, 0.0, "ebn"), (None, True, None, "l2"), (None, False, 0.0, "l2"),
        ("gamma", True, None, "gamma"), ("l1", False, 0.0, "l1"),
    ],
)  # fmt: skip
def test_the_usual_measure(asked: Any, normalized: bool, slope: Any, kind: str) -> None:
    made = make_importance(Pruning(importance=asked), normalized=normalized, alpha=0.0, slope=slope)
    assert made.kind == kind


@pytest.mark.parametrize(
    "asked, normalized, slope", [("ebn", False, 0), ("gamma", False, 0), ("ebn", True, None)]
)
def test_a_measure_that_is_not_defined(asked: str, normalized: bool, slope: Any) -> None:
    with pytest.raises(InvalidParameter, match="prune must be such that importance is l1"):
        make_importance(Pruning(importance=asked), normalized=normalized, alpha=0.0, slope=slope)


# Choice


def test_orders() -> None:
    values = np.array([3.0, 1.0, 2.0, 1.0, 0.0])
    assert in_order(values, "smallest", generator()).tolist() == [4, 1, 3, 2, 0]
    assert in_order(values, "decile0", generator()).tolist() == [4, 1, 3, 2, 0]
    assert in_order(values, "largest", generator()).tolist() == [0, 2, 1, 3, 4]
    assert in_order(values, "decile5", generator()).tolist() == [3, 2, 0, 1, 4]


@pytest.mark.parametrize("tenth", range(10))
def test_deciles_begin_at_their_percentile(tenth: int) -> None:
    values = generator().permutation(200).astype(float)
    (mask,) = choose([values], [np.ones(200, bool)], f"decile{tenth}", generator(), enough(7))
    assert sorted(values[mask]) == list(range(20 * tenth, 20 * tenth + 7))
    # The last ones of the top tenth only when the tenth itself goes.
    (mask,) = choose([values], [np.ones(200, bool)], "decile9", generator(), enough(25))
    assert sorted(values[mask]) == list(range(175, 200))


def test_random_ones_are_uniform() -> None:
    one = np.random.default_rng(3)
    counts = np.zeros(10)
    for _ in range(2000):
        (mask,) = choose([np.arange(10.0)], [np.ones(10, bool)], "random", one, enough(3))
        counts += mask
    assert counts.sum() == 6000
    # Each is chosen with probability 0.3; 4.5 standard errors.
    assert np.all(np.abs(counts - 600) < 4.5 * np.sqrt(2000 * 0.3 * 0.7))


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.sampled_from(TARGETS),
    st.integers(0, 80),
    st.randoms(use_true_random=False),
)
def test_as_many_as_wanted_of_what_is_there(
    sizes: list[int], target: str, number: int, random: Any
) -> None:
    values = [np.array([random.choice([0.0, 1.0, random.random()]) for _ in range(n)]) for n in sizes]
    eligible = [np.array([random.random() < 0.7 for _ in range(n)]) for n in sizes]
    chosen = choose(values, eligible, target, generator(), enough(number))
    possible = sum(max(0, int(mask.sum()) - 1) for mask in eligible)
    assert sum(mask.sum() for mask in chosen) == min(number, possible)
    for mask, allowed in zip(chosen, eligible):
        assert not np.any(mask & ~allowed)
        assert not allowed.any() or mask.sum() < allowed.sum(), "a layer was emptied"
    if target in ("smallest", "largest") and len(sizes) == 1 and number and chosen[0].any():
        sign = 1 if target == "smallest" else -1
        rest = eligible[0] & ~chosen[0]
        assert (sign * values[0][chosen[0]]).max() <= (sign * values[0][rest]).min()


def test_one_ranking_over_several_layers_empties_none() -> None:
    values = [np.array([0.1, 0.2]), np.array([5.0, 0.3, 6.0])]
    everything = [np.ones(2, bool), np.ones(3, bool)]
    masks = choose(values, everything, "smallest", generator(), enough(2))
    assert [mask.tolist() for mask in masks] == [[True, False], [False, True, False]]
    # Until two of the second are gone.
    masks = choose(values, everything, "largest", generator(), lambda counts: counts[1] >= 2)
    assert [mask.tolist() for mask in masks] == [[False, False], [True, False, True]]

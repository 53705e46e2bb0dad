"""Areas under ROC curves, calibration and errors of times, against counting and known laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr

from regdyn.errors import InvalidParameter
from regdyn.nets.scores import area_under_curve, calibrate, compare_times, point

CASES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, np.inf]), st.booleans()), min_size=1
)


@given(CASES)
def test_the_area_counts_pairs(cases: list[tuple[float, bool]]) -> None:
    score, happened = (np.array(column) for column in zip(*cases))
    plus, minus = score[happened], score[~happened]
    area = area_under_curve(score, happened).value[0]
    if len(plus) and len(minus):
        pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in plus for b in minus]
        assert area == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(area)


def normal_scores(rng: np.random.Generator, shift: float) -> tuple[NDArray, NDArray]:
    happened = rng.random(120) < 0.4
    return rng.normal(shift * happened, 1.0), happened


def coverage(areas: list[Any], truth: float) -> float:
    ends = [(low[0], high[0]) for low, high in (area.interval(0.1) for area in areas)]
    return float(np.mean([low <= truth <= high for low, high in ends]))


def test_its_interval_covers() -> None:
    # P(s+ > s-) = Phi(shift / sqrt 2) for two normals; 300 intervals of 90 percent.
    rng = np.random.default_rng(1)
    areas = [area_under_curve(*normal_scores(rng, 1.0)) for _ in range(300)]
    assert abs(coverage(areas, float(ndtr(1 / np.sqrt(2)))) - 0.9) < 4 * np.sqrt(0.09 / 300)


def test_its_interval_covers_for_groups_and_would_not_without() -> None:
    # Ten groups, each with a common offset of those that happened: pairs are far from independent.
    rng = np.random.default_rng(2)
    truth = float(ndtr(1 / np.sqrt(3)))
    group = np.repeat(np.arange(10), 40)
    drawn = []
    for _ in range(200):
        happened = rng.random(400) < 0.5
        offset = rng.normal(1.0, 1.0, 10)
        drawn.append((rng.normal(offset[group] * happened, 1.0), happened))
    with_groups = coverage([area_under_curve(*case, group) for case in drawn], truth)
    assert abs(with_groups - 0.9) < 0.08
    assert coverage([area_under_curve(*case) for case in drawn], truth) < 0.6


def test_a_perfect_score_is_not_certain() -> None:
    area = area_under_curve([0.1, 0.2, 0.9, 0.8, 0.7], [False, False, True, True, True])
    (low,), (high,) = area.interval(0.05)
    assert area.value[0] == high == 1 and low == pytest.approx(np.sqrt(0.025))
    (low,), (high,) = area_under_curve([1.0, 0.0], [False, True]).interval(0.05)
    assert low == 0 and high == pytest.approx(0.975)


def test_who_knows_the_probabilities_is_calibrated() -> None:
    rng = np.random.default_rng(3)
    p = rng.random(20_000)
    happened = rng.random(20_000) < p
    right = calibrate(p, happened)
    assert right.error < 0.012
    assert np.all((right.low - 0.01 < right.predicted) & (right.predicted < right.high + 0.01))
    assert right.brier == pytest.approx(1 / 6, abs=0.01)
    assert right.brier_of_share == pytest.approx(0.25, abs=0.01)
    assert calibrate(p**3, happened).error > 0.2


def test_bins() -> None:
    c = calibrate([0.0, 0.24, 0.25, 1.0], [False, True, True, True], bins=4)
    assert c.count.tolist() == [2, 1, 0, 1]
    assert c.predicted[0] == pytest.approx(0.12) and c.observed[0] == 0.5 and np.isnan(c.low[2])
    assert c.error == pytest.approx((2 * 0.38 + 0.75 + 0) / 4)
    assert c.to_dict()["observed"] == [0.5, 1.0, None, 1.0]


def test_times() -> None:
    told = np.array([100.0, 300.0, np.inf, 50.0, np.inf])
    seen = np.array([200.0, 150.0, 70.0, np.inf, np.inf])
    error = compare_times(told, seen)
    assert (error.n, error.missed, error.false_alarms) == (2, 1, 1)
    assert error.absolute.value[0] == 100
    assert error.factor.value[0] == pytest.approx(2)
    assert error.ratio.value[0] == pytest.approx(0.5)
    nothing = compare_times(told[2:], seen[2:])
    assert nothing.n == 0 and point(nothing.absolute) == {"value": None, "low": None, "high": None}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: area_under_curve([1.0], [True, False]), "score must be"),
        (lambda: area_under_curve([np.nan, 1.0], [True, False]), "score must be"),
        (lambda: area_under_curve([0.0, 1.0], [0, 1]), "happened must be True or False"),
        (lambda: calibrate([1.1, 0.0], [True, False]), r"probability must be in \[0, 1\]"),
        (lambda: calibrate([], []), "probability must be"),
        (lambda: calibrate([0.5], [True], bins=0), "bins must be"),
        (lambda: compare_times([1.0, 2.0], [1.0]), "predicted must be times > 0"),
        (lambda: compare_times([1.0], [0.0]), "observed must be times > 0"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        call()

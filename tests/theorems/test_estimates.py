"""Intervals cover as often as they say, and say nothing that SciPy would not."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from regdyn import theorems
from regdyn.errors import InvalidParameter, OutsideDomain
from regdyn.theorems import closure, estimates
from regdyn.theorems.base import Assumption, Range, closed_form, require
from regdyn.theorems.estimates import Estimate

SUBJECTS = [subject for subject in theorems._SUBJECTS if subject is not closure]

REPEATS, SIZE = 2000, 400


def coverage(estimate: Callable[[np.ndarray], Estimate], truth: float, alpha: float) -> float:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(REPEATS):
        low, high = estimate(rng.gamma(2.0, 1.0, SIZE)).interval(alpha)
        hits += bool(low[0] <= truth <= high[0])
    return hits / REPEATS


GAMMA = stats.gamma(2.0)
KINDS: dict[str, tuple[Callable[[np.ndarray], Estimate], float]] = {
    "mean": (estimates.mean, 2.0),
    "std": (estimates.std, np.sqrt(2.0)),
    "rms": (lambda x: estimates.std(x, about=0.0), np.sqrt(6.0)),
    "median": (estimates.quantile, GAMMA.median()),
    "quantile": (lambda x: estimates.quantile(x, 0.9), GAMMA.ppf(0.9)),
    "share": (lambda x: estimates.share(np.sum(x < 1.0), SIZE), GAMMA.cdf(1.0)),
}


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_as_stated(kind: str, alpha: float) -> None:
    estimate, truth = KINDS[kind]
    covered = coverage(estimate, truth, alpha)
    error = np.sqrt(alpha * (1 - alpha) / REPEATS)
    # Those of order statistics and of Clopper and Pearson cover a little more; the normal
    # approximation for a std of skewed samples a little less.
    assert 1 - alpha - 4 * error - 0.01 < covered < 1 - alpha + 4 * error + 0.3 * alpha


RHO = 0.6


def correlation_coverage(truth: float, n: int, alpha: float) -> float:
    """Of intervals from n normal pairs of correlation RHO."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(n, 4000))
    y = RHO * x + np.sqrt(1 - RHO**2) * rng.normal(size=(n, 4000))
    low, high = estimates.correlation(x, y).interval(alpha)
    return float(np.mean((low <= truth) & (truth <= high)))


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("n", [12, 60])
def test_intervals_of_correlations_cover_as_stated(n: int, alpha: float) -> None:
    covered = correlation_coverage(RHO, n, alpha)
    assert abs(covered - (1 - alpha)) < 4 * np.sqrt(alpha * (1 - alpha) / 4000) + 0.005
    assert correlation_coverage(0.9, n, alpha) < 0.6, "a wrong value is not covered"


def test_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(20, 2))
    y = x + rng.normal(size=(20, 2))
    estimate = estimates.correlation(x, y)
    low, high = estimate.interval(0.1)
    for i in range(2):
        exact = stats.pearsonr(x[:, i], y[:, i])
        assert np.isclose(estimate.value[i], exact.statistic, rtol=1e-12)
        assert np.allclose((low[i], high[i]), exact.confidence_interval(0.9), rtol=1e-12)
    assert estimates.correlation(x[:, 0], y[:, 0]).value.shape == (1,)
    line = estimates.correlation([1, 2, 3, 4], [2, 4, 6, 8])
    assert line.value[0] == pytest.approx(1) == line.interval(0.05)[0][0]
    for bad in (([1, 2, 3], [1, 2, 3]), ([1, 2, 3, 4], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4])):
        with pytest.raises(InvalidParameter, match="x must be"):
            estimates.correlation(*bad)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_value_is_not_covered(kind: str) -> None:
    estimate, truth = KINDS[kind]
    assert coverage(estimate, 1.25 * truth, 0.05) < 0.3


def test_mean_is_students() -> None:
    x = np.random.default_rng(1).normal(size=(9, 3))
    low, high = estimates.mean(x).interval(0.01)
    expected = stats.t.interval(0.99, 8, x.mean(axis=0), stats.sem(x, axis=0))
    assert np.allclose([low, high], expected, rtol=1e-12)


def test_share_is_clopper_and_pearsons() -> None:
    low, high = estimates.share([0, 3, 10], 10).interval(0.05)
    for k, ends in zip((0, 3, 10), zip(low, high)):
        exact = stats.binomtest(k, 10).proportion_ci(0.95, "exact")
        assert np.allclose(ends, (exact.low, exact.high), rtol=1e-12)


def test_the_median_may_be_infinite() -> None:
    estimate = estimates.quantile([1.0, 2.0, *[np.inf] * 7])
    low, high = estimate.interval(0.05)
    assert estimate.value[0] == np.inf and high[0] == np.inf and low[0] <= 2.0


@given(st.floats(0.001, 0.5), st.floats(0.1, 5))
def test_map_keeps_the_order(alpha: float, power: float) -> None:
    estimate = estimates.with_error([1.0, 2.0], [0.1, 0.05], 50)
    low, high = estimate.map(lambda x: np.maximum(x, 0) ** power).interval(alpha)
    plain = estimate.interval(alpha)
    assert np.allclose(low, np.maximum(plain[0], 0) ** power)
    assert np.all(low <= estimate.value**power) and np.all(estimate.value**power <= high)


def test_joined_and_exact() -> None:
    both = estimates.joined(estimates.exact([1.0, 2.0]), estimates.with_error(3.0, 1.0, 10))
    low, high = both.interval(0.05)
    assert both.value.tolist() == [1.0, 2.0, 3.0] and both.n == 1
    assert low[:2].tolist() == high[:2].tolist() == [1.0, 2.0] and low[2] < 3.0 < high[2]


def test_require_names_the_first_offender() -> None:
    require(True, "x > 0", x=1.0)
    with pytest.raises(OutsideDomain, match=r"^the closed form needs x > 0; got x = -2, y = 5$"):
        require(np.array([True, False, False]), "x > 0", x=np.array([1.0, -2.0, -3.0]), y=5.0)


def test_ranges_and_assumptions() -> None:
    steps = Range(1, 5, integer=True)
    assert 3 in steps and 2.5 not in steps and 6 not in steps
    assert str(steps) == "an integer in [1, 5]" and str(Range(0, 0.5)) == "in [0, 0.5]"
    small = Assumption("a < 1", lambda lr, lam, **_: lr * lam < 1)
    assert small.holds({"lr": 0.5, "lam": 1, "other": 3}) and not small.holds({"lr": 2, "lam": 1})


def test_closed_forms_never_return_nan() -> None:
    @closed_form
    def root(x: float, label: str = "") -> np.ndarray:
        return np.sqrt(np.asarray(x))

    assert root(4.0).tolist() == 2.0
    with pytest.raises(OutsideDomain, match=r"arguments for which it is defined; got x = -1$"):
        root(-1.0, label="a")
    with pytest.raises(OutsideDomain, match=r"got x = nan$"):
        root(np.array([1.0, np.nan]))


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.__name__.split(".")[-1])
def test_every_public_closed_form_is_guarded(subject: ModuleType) -> None:
    public = [
        f for name, f in vars(subject).items()
        if inspect.isfunction(f) and f.__module__ == subject.__name__ and not name.startswith("_")
    ]  # fmt: skip
    assert public and all(hasattr(f, "__wrapped__") for f in public)

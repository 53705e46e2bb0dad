"""Theorem 1 of zhou2020: quadrature, tails, symmetries, limits, and the Monte Carlo's own formulas."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from regdyn.errors import OutsideDomain
from regdyn.theorems import activation_drift as drift

RATIO = st.floats(-8, 8)


rule = cache(np.polynomial.legendre.leggauss)


def gauss(low: float, high: float, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = rule(n)
    return low + (high - low) * (nodes + 1) / 2, (high - low) / 2 * weights


def density(x: np.ndarray) -> np.ndarray:
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("r", [-35.0, -12.0, -3.0, -1.0, 0.0, 0.7, 4.0, 20.0])
def test_tails(r: float) -> None:
    with mpmath.workdps(60):
        z = mpmath.mpf(r)
        density, cdf = mpmath.npdf(z), mpmath.ncdf(z)
        k = (z**4 - 2) * density**2 + (z - z**3) * density * cdf
        assert float(drift.drift_coefficient(r)) == pytest.approx(float(k), rel=1e-12, abs=0)


def test_far_tails_are_zero_not_nan() -> None:
    far = [-np.inf, -1e300, -60.0, 60.0, 1e300, np.inf]
    for f in (
        drift.drift_coefficient,
        drift.next_coefficient,
        drift.crossed_coefficient,
        drift.antiderivative,
    ):
        assert np.all(np.isfinite(f(far)))
    assert np.array_equal(drift.drift_coefficient(far), np.zeros(6))


def test_the_only_sign_change() -> None:
    with mpmath.workdps(40):
        zero = mpmath.findroot(
            lambda z: (z**4 - 2) * mpmath.npdf(z) + (z - z**3) * mpmath.ncdf(z), -1.15
        )
    assert pytest.approx(float(zero), abs=1e-15) == drift.SIGN_CHANGE
    r = np.linspace(-25, 25, 60_001)
    assert np.array_equal(drift.drift_coefficient(r) > 0, r < drift.SIGN_CHANGE)
    assert ndtr(drift.SIGN_CHANGE) == pytest.approx(0.1244, abs=1e-4)


def test_the_even_part_is_negative() -> None:
    r = np.linspace(0, 25, 30_001)
    assert np.all(drift.drift_coefficient(r) + drift.drift_coefficient(-r) < 0)


def test_integral() -> None:
    x, weight = gauss(-12, 12)
    assert np.sum(weight * drift.drift_coefficient(x)) == pytest.approx(drift.INTEGRAL_OF_K, rel=1e-12)
    assert drift.antiderivative(np.inf) == pytest.approx(drift.INTEGRAL_OF_K, rel=1e-15)
    assert drift.antiderivative(-np.inf) == 0


@given(st.floats(-6, 6), st.floats(0.01, 6), st.floats(0.1, 5))
def test_uniform_beta(low: float, width: float, gamma: float) -> None:
    x, weight = gauss(low, low + width)
    mean = np.sum(weight * drift.drift_coefficient(x)) / width
    closed = drift.uniform_beta_coefficient(gamma=-gamma, low=gamma * low, high=gamma * (low + width))
    assert closed == pytest.approx(mean, rel=1e-10, abs=1e-12)


@given(st.floats(-4, 4), st.floats(0.05, 5), st.floats(0.1, 5))
def test_gaussian_beta(mean: float, tau: float, gamma: float) -> None:
    total = 0.0
    for low in np.arange(-9.0, 9.0, 2.0):
        z, weight = gauss(low, low + 2.0, 40)
        total += float(np.sum(weight * density(z) * drift.drift_coefficient(mean + tau * z)))
    closed = drift.gaussian_beta_coefficient(gamma=gamma, tau=gamma * tau, mean=gamma * mean)
    assert closed == pytest.approx(total, rel=1e-10, abs=1e-13)


@given(st.floats(1e-6, 1e6))
def test_gaussian_beta_of_mean_zero(rho: float) -> None:
    closed = -np.polyval([11, 21, 21, 11, 2], rho**2) / (2 * np.pi * (1 + rho**2) ** 2)
    closed /= (1 + 2 * rho**2) ** 2.5
    assert drift.gaussian_beta_coefficient(gamma=1.0, tau=rho) == pytest.approx(closed, rel=1e-12)


@given(RATIO)
def test_a_narrow_law_of_beta_is_a_point(r: float) -> None:
    k = drift.drift_coefficient(r)
    assert drift.gaussian_beta_coefficient(gamma=2.0, tau=0.0, mean=2 * r) == pytest.approx(
        k, abs=1e-14
    )
    assert drift.gaussian_beta_coefficient(gamma=1.0, tau=1e-6, mean=r) == pytest.approx(k, abs=1e-10)
    narrow = drift.uniform_beta_coefficient(gamma=1.0, low=r - 1e-4, high=r + 1e-4)
    assert narrow == pytest.approx(k, abs=1e-7)


def test_a_wide_law_of_beta_sees_the_integral() -> None:
    wide = drift.gaussian_beta_coefficient(gamma=1.0, tau=1e5)
    assert wide * 1e5 * np.sqrt(2 * np.pi) == pytest.approx(drift.INTEGRAL_OF_K, rel=1e-9)
    even = drift.uniform_beta_coefficient(gamma=1.0, low=-1e5, high=1e5)
    assert even * 2e5 == pytest.approx(drift.INTEGRAL_OF_K, rel=1e-12)


def by_thresholds(r: float, u: float) -> float:
    """E Phi(r') with a second normal y: the share of t with y |1 - x t| < r - t, in closed form."""
    total = 0.0
    breaks = [-r, -1, 0, 1, 2, 4, 9 + max(-r, 0), *([1 / r] if r else [])]
    for ends in pairwise(np.unique(np.clip(breaks, -r, None))):
        for x, weight in zip(*gauss(*ends, 40)):
            pole = 1 / x
            points = np.unique(np.clip([*np.arange(-9.0, 10.0), pole, -pole], -9, 9))
            y, inner = (
                np.concatenate(part) for part in zip(*(gauss(*e, 40) for e in pairwise(points)))
            )
            share = np.zeros_like(y)
            # On each side of t = 1/x the condition is linear in t: slope t < bound.
            for sign in (1, -1):
                slope = 1 - sign * y * x
                edge = (r - sign * y) / slope
                low, high = np.where(slope > 0, [-np.inf + 0 * y, edge], [edge, np.inf + 0 * y])
                low, high = (
                    (low, np.minimum(high, pole)) if sign * x > 0 else (np.maximum(low, pole), high)
                )
                share += np.maximum(ndtr(high / u) - ndtr(low / u), 0)
            total += weight * float(density(x)) * np.sum(inner * density(y) * (share - ndtr(r)))
    return total


@pytest.mark.parametrize(
    ("r", "u", "error"), [(0.0, 0.5, 1e-10), (1.5, 1.0, 1e-7), (-1.0, 2.0, 1e-10), (-2.0, 0.4, 1e-10)]
)
def test_quadrature_of_the_exact_change(r: float, u: float, error: float) -> None:
    exact = float(drift.exact_one_step_change(gamma=-2.0, beta=2 * r, lr=u, c=2.0))
    # The reference resolves the kink at x = 1/r, for r > 0 among the active inputs, less well.
    assert exact == pytest.approx(by_thresholds(r, u), abs=error)


@pytest.mark.parametrize("r", [-1.5, 0.0, 2.0])
def test_orders(r: float) -> None:
    """What the second order leaves is u^4, what the fourth leaves u^6."""

    def left(u: float, next_order: bool) -> float:
        at = {"gamma": 1.0, "beta": r, "lr": u, "c": 1.0}
        return float(
            drift.exact_one_step_change(**at) - drift.one_step_change(**at, next_order=next_order)
        )

    for next_order, power in ((False, 4), (True, 6)):
        ratio = left(0.02, next_order) / left(0.01, next_order)
        assert np.log2(ratio) == pytest.approx(power, abs=0.3)


def test_a_large_step_makes_half_of_the_inputs_active() -> None:
    for r in (-1.0, 0.5):
        change = drift.exact_one_step_change(gamma=1.0, beta=r, lr=1e4, c=1.0)
        assert change == pytest.approx(ndtr(r) * (0.5 - ndtr(r)), abs=2e-3)


def test_two_points_of_gradient_have_kurtosis_one() -> None:
    """dL/dy = +-c: the mean over both signs, by quadrature over the input alone."""
    u, r = 0.1, 0.5
    x, weight = gauss(-r, 10, 400)
    both = sum(ndtr((r - s * u) / np.abs(1 - s * u * x)) for s in (1, -1)) / 2
    change = float(np.sum(weight * density(x) * (both - ndtr(r))))
    at = {"gamma": 1.0, "beta": r, "lr": u, "c": 1.0, "next_order": True}
    assert drift.one_step_change(**at, kurtosis=1.0) == pytest.approx(change, rel=1e-3)
    assert drift.one_step_change(**at, kurtosis=3.0) != pytest.approx(change, rel=5e-3)


def test_batches_of_two_gradients() -> None:
    """Both samples of a batch by quadrature, dL/dy = +-c."""
    u, r = 0.1, 0.0
    x, weight = gauss(0, 9, 120)
    weight = weight * density(x)
    total = 0.0
    for s in (1, -1):
        one = ndtr((r - s * u / 2) / np.abs(1 - s * u * x / 2)) - ndtr(r)
        # Exactly one of the samples is active.
        total += 2 * 0.5 * np.sum(weight * one) / 2
        for q in (1, -1):
            gamma = 1 - u / 2 * (s * x[:, None] + q * x)
            after = ndtr((r - u / 2 * (s + q)) / np.abs(gamma)) - ndtr(r)
            total += float(weight @ after @ weight) / 4
    closed = drift.one_step_change(
        gamma=1.0, beta=r, lr=u, c=1.0, batch=2, kurtosis=1.0, next_order=True
    )
    second = drift.one_step_change(gamma=1.0, beta=r, lr=u, c=1.0, batch=2)
    assert abs(closed / total - 1) < 0.1 * abs(second / total - 1) < 0.005


@given(RATIO, st.floats(0.1, 10), st.floats(1e-4, 1), st.floats(0.01, 10))
def test_invariances(r: float, gamma: float, lr: float, c: float) -> None:
    def change(gamma: float, beta: float, lr: float, c: float, **more: float) -> float:
        return float(
            drift.one_step_change(gamma=gamma, beta=beta, lr=lr, c=c, next_order=True, **more)  # type: ignore[arg-type]
        )

    base = change(gamma, r * gamma, lr, c)
    assert change(-gamma, r * gamma, lr, c) == base
    assert change(4 * gamma, 4 * (r * gamma), 4 * lr, c) == base
    assert change(gamma, r * gamma, 2 * lr, c / 2) == base
    assert change(gamma, r * gamma, lr, c, batch=1) == base


@given(RATIO)
def test_spread_of_the_change(r: float) -> None:
    """The std that sizes the experiments, against quadrature."""
    x, weight = gauss(-r, max(-r, 0) + 12)
    weight = weight * density(x)
    q = (2 * r - r**3) * x**2 + 2 * (r**2 - 1) * x - r
    mean, square = float(np.sum(weight * q)), 3 * float(np.sum(weight * q * q))
    if abs(mean) > 1e-3 * np.sqrt(square):
        spread = np.sqrt(square - mean**2) / abs(mean)
        assert drift.relative_spread(r) == pytest.approx(spread, rel=1e-6)


@pytest.mark.parametrize(("r", "limit"), [(0.0, 0.1017), (-2.0, 0.0518), (-1.0, 0.0300)])
def test_range_of_the_expansion(r: float, limit: float) -> None:
    u = drift.largest_relative_step(r)
    assert u == pytest.approx(limit, rel=0.01)
    exact = drift.exact_one_step_change(gamma=1.0, beta=r, lr=u, c=1.0)
    assert abs(drift.one_step_change(gamma=1.0, beta=r, lr=u, c=1.0) / exact - 1) == pytest.approx(
        0.05, rel=0.02
    )


def test_no_range_at_the_zero_of_k() -> None:
    assert drift.largest_relative_step(drift.SIGN_CHANGE) == 0


def test_density_at_zero() -> None:
    """gamma uniform in (0, 1]: eta c times the integral of the change over u^2, for u > eta c."""
    lr = 0.02
    total = 0.0
    edges = [lr, 0.05, 0.1, 0.2, 0.5, 1, 2, 4, 16, 64, 1000]
    for low, high in zip(np.log(edges[:-1]), np.log(edges[1:])):
        s, weight = gauss(low, high, 6)
        u = np.exp(s)
        exact = drift.exact_one_step_change(gamma=1.0, beta=0.0, lr=u, c=1.0, nodes=6)
        total += lr * float(np.sum(weight * exact / u))
    law = drift.change_with_density_at_zero(lr=lr, c=1.0, density=0.5)
    # What theorem 1 says of |gamma| > eta c is the next term.
    assert total == pytest.approx(float(law) + lr**2 / (2 * np.pi), rel=1e-3)


def test_errors() -> None:
    with pytest.raises(OutsideDomain, match="a finite gamma other than 0; got gamma = 0"):
        drift.one_step_change(gamma=[1.0, 0.0], beta=0.0, lr=0.1, c=1.0)
    with pytest.raises(OutsideDomain, match="gamma other than 0"):
        drift.exact_one_step_change(gamma=0.0, beta=0.0, lr=0.1, c=1.0)
    with pytest.raises(OutsideDomain, match="batch >= 1; got batch = 0"):
        drift.one_step_change(gamma=1.0, beta=0.0, lr=0.1, c=1.0, batch=0)
    with pytest.raises(OutsideDomain, match="kurtosis >= 1"):
        drift.one_step_change(gamma=1.0, beta=0.0, lr=0.1, c=1.0, kurtosis=0.5)
    with pytest.raises(OutsideDomain, match="tau >= 0; got tau = -1"):
        drift.gaussian_beta_coefficient(gamma=1.0, tau=-1.0)
    with pytest.raises(OutsideDomain, match="low < high"):
        drift.uniform_beta_coefficient(gamma=1.0, low=1.0, high=1.0)
    with pytest.raises(OutsideDomain, match="a ratio r that is a number"):
        drift.drift_coefficient(np.nan)
    with pytest.raises(OutsideDomain, match="0 < error < 1"):
        drift.largest_relative_step(0.0, error=0.0)
    with pytest.raises(OutsideDomain, match="a finite density >= 0"):
        drift.change_with_density_at_zero(lr=0.1, c=1.0, density=-1.0)

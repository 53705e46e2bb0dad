"""A unit over many steps: series, invariances, a plain simulation, and the grid."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from regdyn.errors import OutsideDomain
from regdyn.theorems import activation_diffusion as diffusion
from regdyn.theorems.activation_drift import drift_coefficient

RATIO = st.floats(-4, 4)
GAMMA = st.floats(0.05, 20)
TIME = st.floats(1e-5, 900)


@pytest.mark.parametrize("r", [-3.0, -1.0, 0.0, 0.6, 2.0])
def test_second_coefficient_by_differentiation(r: float) -> None:
    """L on K(beta/gamma)/gamma^2, its derivatives taken numerically at 30 digits."""
    with mpmath.workdps(30):
        z = mpmath.mpf(r)
        density, cdf = mpmath.npdf(z), mpmath.ncdf(z)

        def inner(gamma: mpmath.mpf, beta: mpmath.mpf) -> mpmath.mpf:
            q = beta / gamma
            p, c = mpmath.npdf(q), mpmath.ncdf(q)
            return ((q**4 - 2) * p**2 + (q - q**3) * p * c) / gamma**2

        second = (
            (cdf - z * density) * mpmath.diff(inner, (1, z), (2, 0))
            + 2 * density * mpmath.diff(inner, (1, z), (1, 1))
            + cdf * mpmath.diff(inner, (1, z), (0, 2))
        )
    assert diffusion.second_coefficient(r) == pytest.approx(float(second), rel=1e-10)


@given(RATIO)
def test_moments_along_and_across_the_ray(r: float) -> None:
    along, across, mixed = diffusion.second_moments(r)
    density = np.exp(-r * r / 2) / np.sqrt(2 * np.pi)
    assert along + across == pytest.approx(2 * ndtr(r) - r * density, rel=1e-12)
    determinant = (ndtr(r) - r * density) * ndtr(r) - density**2
    assert along * across - mixed**2 == pytest.approx(determinant, rel=1e-6, abs=1e-16)
    assert along >= 0 and across >= 0


@given(RATIO, GAMMA, TIME)
def test_invariances(r: float, gamma: float, relative: float) -> None:
    beta = r * gamma
    s = relative * (gamma**2 + beta**2)
    for f in (diffusion.mean_activation, diffusion.share_dead):
        value = f(s, gamma=gamma, beta=beta)
        assert f(s, gamma=-gamma, beta=beta) == value
        assert f(16 * s, gamma=4 * gamma, beta=4 * beta) == value
        assert 0 <= value <= 1


@given(RATIO, GAMMA)
def test_the_start(r: float, gamma: float) -> None:
    unit = {"gamma": gamma, "beta": r * gamma}
    start = ndtr((r * gamma) / gamma)
    assert diffusion.mean_activation(0.0, **unit) == start
    assert diffusion.short_time_mean(0.0, **unit) == start
    assert diffusion.share_dead(0.0, **unit) == (start < 1e-3)


@given(st.floats(-2.5, 3))
def test_short_times(r: float) -> None:
    s = np.array([0.01, 0.05, 0.17])
    series = diffusion.short_time_mean(s, gamma=1.0, beta=r)
    solved = diffusion.mean_activation(s, gamma=1.0, beta=r)
    assert np.all(np.abs(series / solved - 1) < [1e-3, 2e-3, 0.0105])
    slope = (diffusion.mean_activation(1e-5, gamma=1.0, beta=r) - ndtr(r)) / 5e-6
    assert slope == pytest.approx(float(drift_coefficient(r)), abs=1e-4)


def test_units_above_the_sign_change_only_fall_and_those_below_rise_first() -> None:
    s = np.logspace(-2, 2, 60)
    for r in (-1.0, 0.0, 2.0):
        assert np.all(np.diff(diffusion.mean_activation(s, gamma=1.0, beta=r)) < 0)
    low = diffusion.mean_activation(s, gamma=1.0, beta=-2.0)
    assert 5 < s[np.argmax(low)] < 20
    assert low.max() == pytest.approx(0.0533, abs=5e-4)


def test_more_and_more_units_die() -> None:
    s = np.logspace(-1, 2.9, 40)
    for r in (-1.0, 0.0, 1.0):
        dead = diffusion.share_dead(s, gamma=1.0, beta=r)
        assert np.all(np.diff(dead) > -1e-3)
        looser = diffusion.share_dead(s, gamma=1.0, beta=r, threshold=1e-2)
        assert np.all(looser >= dead - 1e-3)


def test_plain_simulation() -> None:
    """The update of zhou2020, Eq. (1), in NumPy."""
    rng = np.random.default_rng(1)
    lr, steps, n = 0.02, 1250, 4000
    gamma, beta = np.ones(n), np.zeros(n)
    for _ in range(steps):
        x, g = rng.standard_normal((2, n))
        g = np.where(gamma * x + beta > 0, g, 0.0)
        gamma, beta = gamma - lr * g * x, beta - lr * g
    active = ndtr(beta / np.abs(gamma))
    mean = diffusion.mean_activation(lr**2 * steps, gamma=1.0, beta=0.0)
    dead = diffusion.share_dead(lr**2 * steps, gamma=1.0, beta=0.0)
    assert active.mean() == pytest.approx(float(mean), abs=4 * active.std() / np.sqrt(n))
    # A step of this size leaves somewhat fewer dead than the limit.
    assert np.mean(active < 1e-3) == pytest.approx(float(dead), abs=0.03)


def test_a_finer_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    s, r = np.array([[0.1], [1.0], [10.0], [100.0]]), np.array([-1.5, -0.5, 0.0, 1.0, 2.0])
    coarse = diffusion.mean_activation(s, gamma=1.0, beta=r), diffusion.share_dead(s, gamma=1.0, beta=r)
    monkeypatch.setattr(diffusion, "_ANGLES", 240)
    monkeypatch.setattr(diffusion, "_PER_FOLD", 13)
    diffusion._solution.cache_clear()
    fine = diffusion.mean_activation(s, gamma=1.0, beta=r), diffusion.share_dead(s, gamma=1.0, beta=r)
    diffusion._solution.cache_clear()
    assert np.allclose(coarse[0], fine[0], rtol=3e-3)
    assert np.allclose(coarse[1], fine[1], atol=3e-3)


def test_errors() -> None:
    unit = {"gamma": 1.0, "beta": 0.0}
    with pytest.raises(OutsideDomain, match="s <= 1000 \\(gamma\\^2 \\+ beta\\^2\\)"):
        diffusion.mean_activation(2000.0, **unit)
    with pytest.raises(OutsideDomain, match="a finite s >= 0; got s = -1"):
        diffusion.short_time_mean(-1.0, **unit)
    with pytest.raises(OutsideDomain, match="gamma other than 0"):
        diffusion.share_dead(1.0, gamma=0.0, beta=0.0)
    with pytest.raises(OutsideDomain, match="0 < threshold < 1"):
        diffusion.share_dead(1.0, **unit, threshold=0.0)
    with pytest.raises(OutsideDomain, match="a finite beta"):
        diffusion.mean_activation(1.0, gamma=1.0, beta=np.nan)

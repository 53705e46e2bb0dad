"""Expected activation behind ReLU and leaky ReLU: quadrature, tails, symmetries, limits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regdyn.errors import OutsideDomain
from regdyn.theorems import expected_activation as ea

GAMMA = st.floats(0.01, 100).flatmap(lambda g: st.sampled_from([g, -g]))
BETA = st.floats(-200, 200)
SLOPE = st.floats(-1, 2)


def quadrature(f: object, gamma: float, beta: float) -> float:
    """The Gaussian mean of f(gamma x + beta), f with a kink at 0, by Gauss-Legendre on either side."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    kink = float(np.clip(-beta / gamma, -12, 12))
    total = 0.0
    for low, high in ((-12.0, kink), (kink, 12.0)):
        x = low + (high - low) * (nodes + 1) / 2
        density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
        total += (high - low) / 2 * float(np.sum(weights * f(gamma * x + beta) * density))  # type: ignore[operator]
    return total


@pytest.mark.parametrize("gamma", [1.0, -0.4, 3.0])
@pytest.mark.parametrize("beta", [-4.0, -1.0, -0.3, 0.0, 0.7, 2.5, 5.0])
@pytest.mark.parametrize("slope", [0.0, 0.01, 0.7, 1.0])
def test_quadrature(gamma: float, beta: float, slope: float) -> None:
    def unit(y: np.ndarray) -> np.ndarray:
        return np.where(y > 0, y, slope * y)

    mean = quadrature(unit, gamma, beta)
    square = quadrature(lambda y: unit(y) ** 2, gamma, beta)
    spread = quadrature(lambda y: (unit(y) - mean) ** 2, gamma, beta)
    at = {"gamma": gamma, "beta": beta, "slope": slope}
    # The quadrature loses relative precision in the tails, where mpmath takes over below.
    assert ea.leaky_mean(**at) == pytest.approx(mean, rel=1e-10, abs=1e-15)
    assert ea.leaky_second_moment(**at) == pytest.approx(square, rel=1e-10, abs=1e-15)
    assert ea.leaky_variance(**at) == pytest.approx(spread, rel=1e-10, abs=1e-15)


@pytest.mark.parametrize("r", [-36.0, -20.0, -9.0, -2.5, -2.4999, -1.0, 0.0, 1.0, 2.5, 9.0, 30.0])
def test_tails(r: float) -> None:
    with mpmath.workdps(500):
        z = mpmath.mpf(r)
        first = z * mpmath.ncdf(z) + mpmath.npdf(z)
        second = (z * z + 1) * mpmath.ncdf(z) + z * mpmath.npdf(z)
        exact = [float(first), float(second), float(second - first**2)]
    shipped = [f(gamma=-1.0, beta=r) for f in (ea.mean, ea.second_moment, ea.variance)]
    assert shipped == pytest.approx(exact, rel=1e-12, abs=0)


@given(GAMMA, BETA)
def test_bounds_and_symmetries(gamma: float, beta: float) -> None:
    mean, square, spread = (f(gamma=gamma, beta=beta) for f in (ea.mean, ea.second_moment, ea.variance))
    assert mean >= max(beta, 0) * (1 - 1e-15)
    assert 0 <= spread <= gamma**2 * (1 + 1e-12)
    assert square >= mean**2 * (1 - 1e-12)
    assert mean == ea.mean(gamma=-gamma, beta=beta)
    assert mean - ea.mean(gamma=gamma, beta=-beta) == pytest.approx(
        beta, abs=1e-12 * (abs(beta) + abs(gamma))
    )
    assert ea.mean(gamma=4 * gamma, beta=4 * beta) == 4 * mean
    assert ea.variance(gamma=4 * gamma, beta=4 * beta) == 16 * spread


@given(GAMMA, BETA, st.floats(0.001, 10))
def test_the_mean_rises_with_beta_and_with_the_scale(gamma: float, beta: float, more: float) -> None:
    mean = ea.mean(gamma=gamma, beta=beta)
    assert ea.mean(gamma=gamma, beta=beta + more) >= mean
    assert ea.mean(gamma=gamma * (1 + more), beta=beta) >= mean * (1 - 1e-14)


@given(GAMMA, BETA, SLOPE)
def test_slopes(gamma: float, beta: float, slope: float) -> None:
    at = {"gamma": gamma, "beta": beta}
    scale = abs(gamma) + abs(beta)
    assert ea.leaky_mean(**at, slope=0.0) == ea.mean(**at)
    assert ea.leaky_second_moment(**at, slope=0.0) == ea.second_moment(**at)
    assert ea.leaky_variance(**at, slope=0.0) == ea.variance(**at)
    assert ea.leaky_mean(**at, slope=1.0) == pytest.approx(beta, abs=1e-13 * scale)
    assert ea.leaky_variance(**at, slope=1.0) == pytest.approx(gamma**2, rel=1e-12)
    difference = ea.leaky_second_moment(**at, slope=slope) - ea.leaky_mean(**at, slope=slope) ** 2
    assert ea.leaky_variance(**at, slope=slope) == pytest.approx(difference, abs=1e-12 * scale**2)
    other = ea.leaky_second_moment(**at, slope=0.0) * (1 - slope**2) + slope**2 * (gamma**2 + beta**2)
    assert ea.leaky_second_moment(**at, slope=slope) == pytest.approx(other, abs=1e-12 * scale**2)


@given(GAMMA, BETA)
def test_raw_gamma(gamma: float, beta: float) -> None:
    form = ea.truncated_normal_form(gamma=gamma, beta=beta)
    if gamma > 0:
        assert form == ea.mean(gamma=gamma, beta=beta)
    else:
        assert form <= 0
        assert form == -ea.mean(gamma=gamma, beta=-beta)


def test_raw_gamma_as_written() -> None:
    for gamma, beta in ((1.0, 0.5), (-1.0, 0.5), (-2.0, -3.0)):
        alpha = -beta / gamma
        active = 1 - float(mpmath.ncdf(alpha))
        written = active * (beta + gamma * float(mpmath.npdf(alpha)) / active)
        assert ea.truncated_normal_form(gamma=gamma, beta=beta) == pytest.approx(written, rel=1e-12)


def test_a_small_gamma_leaves_the_rectified_bias() -> None:
    beta = np.array([-3.0, 0.0, 2.0])
    assert np.allclose(ea.mean(gamma=1e-300, beta=beta), [0, 0, 2], atol=1e-299)
    assert np.array_equal(ea.activation_probability(gamma=5e-324, beta=beta), [0, 0.5, 1])
    assert np.isfinite(ea.variance(gamma=5e-324, beta=beta)).all()


def test_shapes_broadcast() -> None:
    gamma, beta = np.full((4, 1), 0.5), np.linspace(-1, 1, 7)
    assert ea.leaky_variance(gamma=gamma, beta=beta, slope=0.1).shape == (4, 7)
    assert ea.mean(gamma=gamma, beta=beta)[2, 3] == ea.mean(gamma=0.5, beta=beta[3])


FUNCTIONS = [
    ea.mean,
    ea.second_moment,
    ea.variance,
    ea.truncated_normal_form,
    ea.activation_probability,
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_errors(function: object) -> None:
    with pytest.raises(OutsideDomain, match="a finite gamma other than 0; got gamma = 0"):
        function(gamma=[1.0, 0.0], beta=1.0)  # type: ignore[operator]
    with pytest.raises(OutsideDomain, match="gamma = nan"):
        function(gamma=np.nan, beta=1.0)  # type: ignore[operator]
    with pytest.raises(OutsideDomain, match="a finite beta; got beta = inf"):
        function(gamma=1.0, beta=np.inf)  # type: ignore[operator]


def test_errors_of_the_slope() -> None:
    with pytest.raises(OutsideDomain, match="a finite slope"):
        ea.leaky_mean(gamma=1.0, beta=0.0, slope=np.nan)

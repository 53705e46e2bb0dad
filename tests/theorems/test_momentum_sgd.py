"""SGD with momentum: the mean in closed form against its recursion, and the laws under noise."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regdyn.errors import OutsideDomain
from regdyn.theorems.momentum_sgd import (
    critical_momentum,
    first_passage,
    mean,
    moments,
    roots,
    state_moments,
    stationary_covariance,
    stationary_variance,
)


@st.composite
def overdamped(draw: st.DrawFn) -> dict[str, float]:
    """Parameters with real roots, the critical momentum among them."""
    a = 10 ** draw(st.floats(-6, -0.01))
    lr = 10 ** draw(st.floats(-3, 1))
    share = draw(st.one_of(st.just(1.0), st.floats(0.0, 1.0)))
    lam = a / lr
    return dict(lr=lr, momentum=share * float(critical_momentum(lr=lr, lam=lam)), lam=lam)


def recursion(steps: int, *, lr: float, momentum: float, lam: float) -> np.ndarray:
    """w[t+1] = (1 + mu - a) w[t] - mu w[t-1] by its buffer, at 50 digits."""
    path = [mpmath.mpf(1)]
    buffer = mpmath.mpf(0)
    with mpmath.workdps(50):
        for _ in range(steps):
            buffer = mpmath.mpf(momentum) * buffer + mpmath.mpf(lam) * path[-1]
            path.append(path[-1] - mpmath.mpf(lr) * buffer)
    return np.array([float(w) for w in path])


@given(overdamped())
def test_the_mean_is_the_recursion(case: dict[str, float]) -> None:
    steps = 300
    # A double root moves with the square root of what momentum is rounded by.
    assert mean(np.arange(steps + 1), **case) == pytest.approx(
        recursion(steps, **case), rel=1e-10, abs=1e-300
    )


@given(overdamped())
def test_the_mean_falls_monotonically_and_faster_than_without_momentum(case: dict[str, float]) -> None:
    path = mean(np.arange(200), **case)
    assert np.all(path >= 0)
    assert np.all(np.diff(path) <= 0)
    a = case["lr"] * case["lam"]
    assert np.all(path <= (1 - a) ** np.arange(200) * (1 + 1e-12))


@given(overdamped(), st.floats(-12, -0.1), st.floats(0.1, 5))
def test_first_passage_is_the_first(case: dict[str, float], decades: float, theta0: float) -> None:
    threshold = theta0 * 10**decades
    steps = float(first_passage(**case, theta0=-theta0, threshold=threshold))
    assert steps == int(steps) > 0
    assert mean(steps, **case, theta0=theta0) < threshold <= mean(steps - 1, **case, theta0=theta0)


@given(overdamped())
def test_roots_are_ordered(case: dict[str, float]) -> None:
    large, small = roots(**case)
    mu, a = case["momentum"], case["lr"] * case["lam"]
    slack = 1e-12
    assert mu - slack <= small <= np.sqrt(mu) + 1e-7
    assert np.sqrt(mu) - 1e-7 <= large <= 1 - a + slack


def test_the_critical_law() -> None:
    t = np.arange(400)
    mu = critical_momentum(lr=0.1, lam=0.1)
    assert mu == pytest.approx(0.81, rel=1e-15)
    law = np.sqrt(mu) ** t * (1 + 0.1 * t)
    assert mean(t, lr=0.1, momentum=mu, lam=0.1) == pytest.approx(law, rel=1e-12)


def test_limits_of_the_mean() -> None:
    t = np.array([0, 1, 10, 1000])
    assert mean(t, lr=0.1, momentum=0.0, lam=0.2) == pytest.approx(0.98**t, rel=1e-12)
    assert np.all(mean(t, lr=0.1, momentum=0.9, lam=0.0, theta0=3.0) == 3.0)
    assert mean(t, lr=1.0, momentum=0.0, lam=1.0).tolist() == [1.0, 0.0, 0.0, 0.0]
    # a / (1 - mu) per step for tiny a; the cancelling textbook formula gives 0 here.
    assert 1 - roots(lr=1e-3, momentum=0.9, lam=1e-10)[0] == pytest.approx(1e-12, rel=1e-3)
    assert mean(1e12, lr=1e-3, momentum=0.9, lam=1e-10) == pytest.approx(np.exp(-1), rel=1e-9)


def test_first_passage_of_a_hopeless_case_and_of_a_dead_one() -> None:
    far = first_passage(lr=1e-10, momentum=0.9, lam=1e-10, theta0=1.0, threshold=1e-3)
    assert far == pytest.approx(np.log(1e3) * 1e19, rel=1e-6)
    assert first_passage(lr=0.1, momentum=0.0, lam=0.1, theta0=1e-4, threshold=1e-3) == 0


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (dict(lr=0.1, momentum=0.9, lam=1.0), r"real positive roots, .*; got lr = 0.1, momentum = 0.9"),
        (dict(lr=1.0, momentum=0.0, lam=1.5), "real positive roots"),
        (dict(lr=0.1, momentum=1.0, lam=0.0), "0 <= momentum < 1"),
        (dict(lr=0.1, momentum=0.9, lam=-1.0), "lr \\* lam >= 0"),
        (dict(lr=0.1, momentum=0.9, lam=float("nan")), "lr \\* lam >= 0"),
        (dict(lr=float("nan"), momentum=0.9, lam=1.0), "lr \\* lam >= 0"),
    ],
)
def test_outside_the_domain_of_the_mean(case: dict[str, float], message: str) -> None:
    with pytest.raises(OutsideDomain, match=message):
        mean(3, **case)
    with pytest.raises(OutsideDomain):
        first_passage(**case, theta0=1.0, threshold=1e-3)


@pytest.mark.parametrize("lam", [0.0, 38.0, 40.0, float("nan")])
def test_no_stationary_law(lam: float) -> None:
    with pytest.raises(OutsideDomain, match="0 < lr \\* lam < 2"):
        stationary_variance(lr=0.1, momentum=0.9, lam=lam, sigma=1.0)


@given(st.floats(0.0, 0.95), st.floats(0.02, 0.98), st.floats(0.01, 10), st.floats(0.01, 10))
def test_the_recursion_reaches_the_stationary_covariance(
    momentum: float, share: float, lr: float, sigma: float
) -> None:
    case = dict(lr=lr, momentum=momentum, lam=share * 2 * (1 + momentum) / lr)
    _, covariances = state_moments(2000, **case, sigma=sigma, theta0=0.0)
    exact = stationary_covariance(**case, sigma=sigma)
    scale = np.sqrt(np.diag(exact))
    assert covariances[-1] / np.outer(scale, scale) == pytest.approx(
        exact / np.outer(scale, scale), abs=1e-9
    )
    assert exact[0, 0] == pytest.approx(stationary_variance(**case, sigma=sigma), rel=1e-14)


def test_the_mean_of_the_recursion_is_the_closed_form() -> None:
    recursive, variance = moments(500, lr=0.1, momentum=0.6, lam=0.3, sigma=0.0, theta0=-2.0)
    closed = mean(np.arange(501), lr=0.1, momentum=0.6, lam=0.3, theta0=-2.0)
    assert recursive == pytest.approx(closed, rel=1e-11)
    assert np.all(variance == 0)


def test_the_stationary_law_broadcasts_and_grows_with_momentum() -> None:
    variance = stationary_variance(lr=0.1, momentum=np.linspace(0, 0.99, 50), lam=0.5, sigma=1e-3)
    assert variance.shape == (50,)
    assert np.all(np.diff(variance) > 0)
    small_steps = 0.1 * 1e-6 / (2 * 1e-9)
    assert stationary_variance(lr=0.1, momentum=0.0, lam=1e-9, sigma=1e-3) == pytest.approx(
        small_steps, rel=1e-9
    )

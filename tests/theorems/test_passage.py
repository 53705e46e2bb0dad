"""Closed forms of the first passage."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import erf

from regdyn.errors import OutsideDomain
from regdyn.theorems import closure, passage

NOISE: dict[str, Any] = dict(passage.BURN_IN)
FORMS = {
    "sgd": lambda **p: passage.sgd(lr=0.1, momentum=0.9, sigma=1e-5, **p),
    "adam": lambda **p: passage.adam(lr=1e-3, beta1=0.9, beta2=0.99, **NOISE, **p),
    "rmsprop": lambda **p: passage.adam(lr=1e-3, beta2=0.99, **NOISE, **p),
    "adagrad": lambda **p: passage.adagrad(lr=1e-2, **NOISE, **p),
    "amsgrad": lambda **p: passage.amsgrad(lr=1e-3, beta2=0.99, **NOISE, **p),
    "adadelta": lambda **p: passage.adadelta(sigma=1e-5, **p),
    "adamax": lambda **p: passage.adamax(lr=2e-3, beta2=0.999, **NOISE, **p),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("lam", [1e-5, 3e-5])
def test_near_the_closure(name: str, lam: float) -> None:
    """Two roads to one number, for lambda small enough for all of them."""
    stds = np.r_[np.full(100, 1e-3), 1e-5]
    expected = closure.median_passage(closure.decay(name, lam=lam, sigma=stds), 1e-3)
    assert float(FORMS[name](lam=lam)) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("name", FORMS)
def test_broadcasts_and_falls_with_lam(name: str) -> None:
    lam = np.geomspace(1e-6, 3e-4, 12)
    times = FORMS[name](lam=lam)
    assert times.shape == lam.shape
    assert np.all(np.diff(times) < 0)
    assert np.array_equal(times, [FORMS[name](lam=x) for x in lam])
    assert FORMS[name](lam=lam, theta0=np.ones((3, 1))).shape == (3, 12)


@pytest.mark.parametrize("name", FORMS)
@given(theta0=st.floats(0.05, 3), lam=st.floats(1e-6, 1e-4))
@settings(max_examples=15)
def test_longer_from_farther(name: str, theta0: float, lam: float) -> None:
    try:
        near, far = (float(FORMS[name](lam=lam, theta0=x)) for x in (theta0, 1.2 * theta0))
    except OutsideDomain:
        return
    assert 0 < near < far < np.inf


@given(y=st.floats(1e-6, 1e6))
def test_slowed_time_against_mpmath(y: float) -> None:
    with mpmath.workdps(50):
        x = mpmath.mpf(y)
        root = mpmath.sqrt(1 + x * x)
        exact = root + mpmath.log(x / (1 + root))
    # It vanishes near y = 0.66: compare with the terms.
    assert abs(float(passage.slowed_time(y) - exact)) <= 4e-16 * (1 + float(root) + abs(np.log(y)))


@given(low=st.floats(1e-4, 1), ratio=st.floats(1.1, 1e3))
@settings(max_examples=20)
def test_slowed_time_against_quadrature(low: float, ratio: float) -> None:
    brute, _ = quad(lambda y: np.sqrt(1 + y * y), np.log(low), np.log(low * ratio), epsrel=1e-12)
    brute, _ = quad(
        lambda u: np.hypot(1, np.exp(u)), np.log(low), np.log(low * ratio), epsabs=0, epsrel=1e-12
    )
    exact = float(passage.slowed_time(low * ratio) - passage.slowed_time(low))
    assert exact == pytest.approx(brute, rel=1e-10)


@given(beta2=st.floats(0.5, 0.999), ratio=st.floats(0.01, 1e4))
@settings(max_examples=30)
def test_memory_delay_against_quadrature(beta2: float, ratio: float) -> None:
    brute, _ = quad(
        lambda x: 1 - 1 / np.sqrt(1 + (ratio**2 - 1) * np.exp(-x)), 0, 60, epsabs=1e-13, limit=500
    )
    exact = float(passage.memory_delay(beta2=beta2, early=ratio, late=1.0))
    assert exact == pytest.approx(brute / -np.log(beta2), rel=1e-9, abs=1e-9)


def test_memory_delay_limits() -> None:
    assert passage.memory_delay(beta2=0.99, early=1e-3, late=1e-3) == 0
    # beta2 -> 1: the delay is (2/delta) ln((1 + r)/2).
    near = passage.memory_delay(beta2=1 - 1e-9, early=3.0, late=1.0) * 1e-9
    assert near == pytest.approx(2 * np.log(2.0), rel=1e-6)


@given(
    momentum=st.sampled_from([0.0, 0.3, 0.9, 0.99]),
    share=st.floats(1e-6, 0.9),
    theta0=st.floats(0.1, 9),
)
@settings(max_examples=40)
def test_momentum_roots_against_the_recursion(momentum: float, share: float, theta0: float) -> None:
    a = share * (1 - np.sqrt(momentum)) ** 2
    z, c = passage.momentum_roots(lr=a, momentum=momentum, lam=1.0)
    z_minus = momentum / z
    last = now = theta0
    for t in range(1, 60):
        last, now = now, (1 + momentum - a) * now - momentum * last
        assert now == pytest.approx(theta0 * (c * z**t + (1 - c) * z_minus**t), rel=1e-9)


def test_sgd_without_noise_is_the_step_of_the_recursion() -> None:
    lr, momentum, lam = 0.1, 0.9, 0.01
    last = now = 1.0
    steps = 0
    while now >= 1e-3:
        last, now = now, (1 + momentum - lr * lam) * now - momentum * last
        steps += 1
    assert steps - 1 < passage.sgd(lr=lr, momentum=momentum, lam=lam) <= steps


def test_adagrad_is_two_laws() -> None:
    """The decay in the sum against its equation, and the noise in it against its own."""
    lr, lam, s0 = 0.01, 1e-3, 0.01

    def slowness(x: float) -> float:
        return (s0 + lam * (start**2 - x**2) / (4 * lr)) / (lr * lam * x)

    root = 10 * np.hypot(1e-3, lam)
    start = np.exp(-200 * lr * lam / root)
    s0 = root
    brute = 100 + quad(slowness, 1e-3, start, epsrel=1e-12)[0]
    shipped = passage.adagrad(lr=lr, lam=lam, burn_in_sigma=1e-3, burn_in_steps=100)
    assert float(shipped) == pytest.approx(brute, rel=1e-10)


def test_geometric_without_noise() -> None:
    expected = np.log(1000) / -np.log1p(-0.01)
    assert passage.geometric(rate=0.01, theta0=1.0, threshold=1e-3) == pytest.approx(
        expected, rel=1e-12
    )
    assert passage.geometric(rate=1e-12, theta0=1.0, threshold=1e-3) == pytest.approx(
        np.log(1000) * 1e12, rel=1e-9
    )


def test_geometric_is_the_reflection_principle_at_0() -> None:
    k, s = 1e-4, 0.2
    exact = np.log1p((1 / (closure.MEDIAN * s)) ** 2) / -2 / np.log1p(-k)
    assert passage.geometric(rate=k, theta0=1.0, threshold=1e-9, spread=s) == pytest.approx(
        exact, rel=1e-6
    )


@pytest.mark.parametrize("x", [0.05, 0.3, 1.0, 2.0, 4.0])
def test_barrier_against_the_integral_equation(x: float) -> None:
    """Where an Ornstein-Uhlenbeck process from afar stands when half have passed."""
    k = 1e-3
    t = np.concatenate([np.linspace(0, 8000, 200), np.linspace(8000, 14000, 600)[1:]])
    fall = np.exp(-k * t)
    path = closure.Decay(t, 1e5 * fall, np.sqrt(1 - fall**2), fall, np.zeros_like(t), 0.0)
    mean = 1e5 * np.exp(-k * closure.median_passage(path, x))
    assert float(passage.barrier(threshold=x, spread=1.0)) == pytest.approx(mean, rel=0.015)


@given(threshold=st.floats(0, 10), spread=st.floats(0, 10), more=st.floats(0, 5))
def test_barrier_increases(threshold: float, spread: float, more: float) -> None:
    low = passage.barrier(threshold=threshold, spread=spread)
    assert threshold <= low <= threshold + closure.MEDIAN * spread + 1e-12
    assert passage.barrier(threshold=threshold + more, spread=spread) >= low - 1e-12
    assert passage.barrier(threshold=threshold, spread=spread + more) >= low - 1e-12


def test_barrier_limits() -> None:
    assert passage.barrier(threshold=1e-3, spread=0.0) == 1e-3
    assert passage.barrier(threshold=0.0, spread=2.0) == pytest.approx(2 * closure.MEDIAN)
    assert passage.barrier(threshold=1.0, spread=1e-300) == 1.0


@pytest.mark.parametrize("beta2", [0.9, 0.99, 0.999])
def test_largest_gradient_against_the_product(beta2: float) -> None:
    for level in (0.1, 0.5, 0.9):
        x = float(passage.largest_gradient(beta2=beta2, level=level))
        terms = x * beta2 ** -np.arange(0.0, np.ceil(np.log(12 / x) / -np.log(beta2)))
        assert np.exp(np.sum(np.log(erf(terms / np.sqrt(2))))) == pytest.approx(level, abs=0.01)


def test_crossing() -> None:
    """Adam with L2 is first just below, and second just above."""
    lam = passage.crossing()
    assert 2e-3 < lam < 6e-3
    stds = np.r_[np.full(100, 1e-3), 1e-5]

    def lead(x: float) -> float:
        paths = (closure.decay("adam", lam=x, regularization=r, sigma=stds) for r in ("paper", "l2"))
        slow, fast = (closure.median_passage(path, 1e-3) for path in paths)
        return slow - fast

    assert lead(0.97 * lam) > 0 > lead(1.03 * lam)
    assert passage.crossing(other="SGD with L2") > lam


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: passage.sgd(lr=0.1, momentum=0.9, lam=1.0), "0 < lr lam < .1 - sqrt"),
        (lambda: passage.sgd(lr=0.1, momentum=0.9, lam=0.0), "0 < lr lam"),
        (lambda: passage.sgd(lr=0.1, momentum=1.0, lam=0.01), "0 <= momentum < 1"),
        (
            lambda: passage.sgd(lr=0.1, momentum=0.9, lam=0.01, theta0=1e-4),
            "theta0 above the threshold",
        ),
        (lambda: passage.adam(lr=1e-3, beta2=1.0, lam=1e-5, sigma=1e-5), "0 < beta2 < 1"),
        (lambda: passage.adam(lr=1e-3, beta2=0.99, lam=1e-5, sigma=0.0), "lr, lam, sigma > 0"),
        (lambda: FORMS["amsgrad"](lam=0.01), "lam theta0 <= sqrt"),
        (lambda: FORMS["adamax"](lam=0.01), "lam theta0 <= burn_in_sigma"),
        (lambda: FORMS["adadelta"](lam=0.01), "lam theta0 <= 3 sqrt"),
        (lambda: passage.geometric(rate=1.0, theta0=1.0, threshold=1e-3), "0 < rate < 1"),
        (lambda: passage.geometric(rate=0.1, theta0=1e-3, threshold=1e-3), "theta0 > threshold"),
        (lambda: passage.slowed_time(0.0), "y > 0"),
        (lambda: passage.memory_delay(beta2=0.9, early=1.0, late=0.0), "late > 0"),
        (lambda: passage.barrier(threshold=-1.0, spread=1.0), "threshold >= 0"),
        (lambda: passage.largest_gradient(beta2=0.5), "0.9 <= beta2 < 1"),
        (lambda: passage.walk_spread(rate=0.0, step=1.0), "0 < rate < 1"),
        (lambda: passage.crossing(other="magic"), "other ="),
        (lambda: passage.sgd(lr=0.1, momentum=0.9, lam=np.nan), "0 < lr lam"),
    ],
)
def test_outside_the_domain(call: Any, message: str) -> None:
    with pytest.raises(OutsideDomain, match=message):
        call()

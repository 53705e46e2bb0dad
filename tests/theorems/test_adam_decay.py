"""The bound and the law of Adam's decay against recursion, integration and 50 digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from regdyn.errors import OutsideDomain
from regdyn.theorems.adam_decay import (
    alpha,
    bound_begins,
    decay_bound,
    decay_time,
    doubly_exponential_steps,
    gradient_scale,
    log_decay,
    relative_step,
    window,
)
from regdyn.theorems.adam_steps import scaled_path

states = st.fixed_dictionaries(
    dict(
        lr=st.floats(1e-4, 10),
        beta2=st.floats(0.5, 0.99999),
        theta0=st.floats(1e-3, 1e3),
        scale0=st.one_of(st.just(0.0), st.floats(1e-2, 1e4)),
    )
)


# --- The bound ------------------------------------------------------------------------------------


def test_gradient_scale_is_the_root_of_the_second_moment() -> None:
    path = np.array([3.0, 2.0, 1.0])
    expected = [0.0, 0.1 * 9, 0.9 * 0.1 * 9 + 0.1 * 4]
    assert gradient_scale(path, beta2=0.9) == pytest.approx(np.sqrt(expected), rel=1e-14)


@given(st.floats(1e-4, 1.41), st.floats(0.3, 0.999), st.integers(0, 200))
def test_the_bound_is_the_product_within_the_window(step: float, beta2: float, n: int) -> None:
    factors = 1 - step / np.sqrt(2) * beta2 ** (-np.arange(1, n + 1) / 2)
    end = float(window(alpha=step, beta2=beta2))
    bound = decay_bound(n, alpha=step, beta2=beta2)
    if n < end - 1e-6:
        assert np.all(factors > 0)
        assert bound == pytest.approx(np.prod(factors), rel=1e-8)
    elif n > end + 1e-6:
        assert factors[-1] < 0
        assert bound == 0


@given(st.floats(1e-4, 1.41), st.floats(0.3, 0.999))
def test_the_bound_falls_in_n_and_in_alpha(step: float, beta2: float) -> None:
    n = np.arange(300)
    bound = decay_bound(n, alpha=step, beta2=beta2)
    assert bound[0] == 1
    assert np.all(np.diff(bound) <= 0)
    assert np.all(decay_bound(n, alpha=step / 2, beta2=beta2) >= bound)


@given(st.floats(1e-4, 1.41), st.floats(0.3, 0.999), st.floats(-200, 0))
def test_the_number_of_steps_is_enough_for_the_bound(step: float, beta2: float, decades: float) -> None:
    share = 10**decades
    n = np.ceil(doubly_exponential_steps(share, alpha=step, beta2=beta2))
    if n < window(alpha=step, beta2=beta2):
        assert decay_bound(n, alpha=step, beta2=beta2) <= share * (1 + 1e-9)


def test_limits_of_the_bound() -> None:
    # alpha -> 0: nothing is promised. beta2 -> 1: geometric decay, and no end of the window.
    assert decay_bound(50, alpha=1e-12, beta2=0.9) == pytest.approx(1.0, abs=1e-9)
    geometric = (1 - 0.1 / np.sqrt(2)) ** 50
    assert decay_bound(50, alpha=0.1, beta2=1 - 1e-12) == pytest.approx(geometric, rel=1e-9)
    assert window(alpha=0.1, beta2=1 - 1e-12) > 1e12
    assert window(alpha=np.sqrt(2) * (1 - 1e-12), beta2=0.9) == pytest.approx(0.0, abs=1e-10)
    steps = doubly_exponential_steps(1e-3, alpha=0.1, beta2=1 - 1e-10)
    assert steps == pytest.approx(np.log(1e3) * np.sqrt(2) / 0.1, rel=1e-6)
    assert doubly_exponential_steps(1.0, alpha=0.1, beta2=0.9) == 0


@given(st.floats(0.0, 0.99), st.floats(0.9, 0.99), st.floats(3, 300))
def test_adam_obeys_the_bound(beta1: float, beta2: float, ratio: float) -> None:
    path = scaled_path(int(1.2 * ratio + 25 / (1 - beta2)), ratio=ratio, beta1=beta1, beta2=beta2)
    change = int(np.argmax(path <= 0))
    scale = gradient_scale(path, beta2=beta2)
    t = np.arange(1, change)
    begins = bound_begins(t, lr=1.0, beta2=beta2, weight=path[t], scale=scale[t])
    # Not the first step alone, but each from which the theorem applies.
    for tau in t[begins][:: max(1, begins.sum() // 5)]:
        step = float(alpha(tau, lr=1.0, beta2=beta2, scale=scale[tau]))
        n = np.arange(change - tau)
        bound = decay_bound(n, alpha=step, beta2=beta2) * path[tau]
        assert np.all(path[tau:change] <= bound * (1 + 1e-12))
        assert change - tau <= np.ceil(window(alpha=step, beta2=beta2))


def test_the_bound_needs_its_condition() -> None:
    # Early on V is about w: gradients keep coming in, and V does not decay as assumed.
    path = scaled_path(3000, ratio=3000.0, beta1=0.0, beta2=0.99)
    scale = gradient_scale(path, beta2=0.99)
    step = float(alpha(500, lr=1.0, beta2=0.99, scale=scale[500]))
    assert not bound_begins(500, lr=1.0, beta2=0.99, weight=path[500], scale=scale[500])
    assert path[1000] > path[500] * decay_bound(500, alpha=step, beta2=0.99)


@pytest.mark.parametrize("step", [np.sqrt(2.0), 2.0, 0.0, -1.0, float("nan")])
def test_alpha_outside(step: float) -> None:
    for function in (window, lambda **case: decay_bound(3, **case)):
        with pytest.raises(OutsideDomain, match=r"0 < alpha < sqrt\(2\); got alpha"):
            function(alpha=step, beta2=0.9)
    with pytest.raises(OutsideDomain, match=r"0 < alpha < sqrt\(2\)"):
        doubly_exponential_steps(0.1, alpha=step, beta2=0.9)


@pytest.mark.parametrize("beta2", [0.0, 1.0, float("nan")])
def test_beta2_outside(beta2: float) -> None:
    with pytest.raises(OutsideDomain, match="0 < beta2 < 1"):
        window(alpha=0.1, beta2=beta2)
    with pytest.raises(OutsideDomain, match="0 < beta2 < 1"):
        decay_time(0.1, lr=0.1, beta2=beta2, theta0=1.0, scale0=1.0)


# --- The law --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta2", "theta0", "scale0"), [(0.99, 300.0, 290.0), (0.9, 20.0, 5.0), (0.999, 50.0, 700.0)]
)
def test_the_law_solves_its_equations(beta2: float, theta0: float, scale0: float) -> None:
    delta = -np.log(beta2) / 2

    def rates(_: float, y: np.ndarray) -> list[float]:
        ln_w, v = y
        return [-1 / np.sqrt(v), -2 * delta * (v - np.exp(2 * ln_w))]

    state = dict(lr=1.0, beta2=beta2, theta0=theta0, scale0=scale0)
    t = np.linspace(0, float(decay_time(1e-4 * theta0, **state)), 7)
    solution = solve_ivp(
        rates, (0, t[-1]), [np.log(theta0), scale0**2], "DOP853", t, rtol=1e-12, atol=1e-12
    )
    assert log_decay(t, **state) == pytest.approx(solution.y[0] - np.log(theta0), abs=1e-8)
    assert relative_step(t, **state) == pytest.approx(1 / np.sqrt(solution.y[1]), rel=1e-8)


@given(states, st.floats(1e-3, 30))
def test_time_and_decay_are_inverse(state: dict[str, float], e_folds: float) -> None:
    t = decay_time(state["theta0"] * np.exp(-e_folds), **state)
    assume(t >= 1)
    # What t is rounded by, in which a weight without V may fall a lot.
    rounding = (1e-14 / -np.log(state["beta2"]) + 1e-14 * t) * relative_step(t, **state)
    assert log_decay(t, **state) == pytest.approx(-e_folds, abs=1e-9 + float(rounding))


@given(states)
def test_the_weight_falls_faster_and_faster(state: dict[str, float]) -> None:
    end = float(decay_time(state["theta0"] * 1e-20, **state))
    assume(end >= 2)
    t = np.concatenate([[0.0], np.linspace(1, end, 200)])
    path = log_decay(t, **state)
    assert path[0] == 0
    assert np.all(np.isfinite(path))
    assert np.all(np.diff(path) < 0)
    assert np.all(relative_step(t[1:], **state) > 0)


@given(states, st.floats(0.01, 100))
def test_the_law_is_scale_invariant(state: dict[str, float], factor: float) -> None:
    scaled = state | {name: factor * state[name] for name in ("lr", "theta0", "scale0")}
    t = decay_time(0.3 * state["theta0"], **state)
    assert decay_time(0.3 * scaled["theta0"], **scaled) == pytest.approx(t, rel=1e-7)


@settings(max_examples=25)
@given(states, st.floats(-300, -1e-2))
def test_the_time_at_50_digits(state: dict[str, float], ln_share: float) -> None:
    theta = state["theta0"] * float(np.exp(ln_share))
    # kappa I0 cancels 2 x0 / ln(10) digits of K0.
    assume(-np.log(state["beta2"]) / 2 * state["theta0"] / state["lr"] < 50)
    with mpmath.workdps(75):
        lr, beta2 = mpmath.mpf(state["lr"]), mpmath.mpf(state["beta2"])
        theta0, scale0 = mpmath.mpf(state["theta0"]), mpmath.mpf(state["scale0"])
        delta = -mpmath.log(beta2) / 2
        x0, x = delta * theta0 / lr, delta * theta / lr
        inverse = scale0 / theta0
        kappa = (inverse * mpmath.besselk(0, x0) - mpmath.besselk(1, x0)) / (
            inverse * mpmath.besseli(0, x0) + mpmath.besseli(1, x0)
        )
        start, end = (mpmath.besselk(0, z) - kappa * mpmath.besseli(0, z) for z in (x0, x))
        exact = float(mpmath.log(end / start) / delta)
    # Where w falls little, ln F(x) - ln F(x0) is a difference of nearly equal numbers.
    rounding = 1e-13 / float(delta)
    assert decay_time(theta, **state) == pytest.approx(exact, rel=1e-9, abs=rounding)


def test_neither_large_nor_small_arguments_overflow() -> None:
    large = dict(lr=1e-6, beta2=0.5, theta0=1.0, scale0=1.0)
    t = decay_time(0.5, **large)
    # Far from the end Adam takes steps of lr once V follows w.
    assert t == pytest.approx(0.5e6, rel=1e-3)
    assert log_decay(t, **large) == pytest.approx(np.log(0.5), rel=1e-9)
    small = dict(lr=1.0, beta2=0.999, theta0=1e-200, scale0=1.0)
    assert log_decay(10.0, **small) == pytest.approx(-10.0, rel=0.01)
    late = dict(lr=1.0, beta2=0.9, theta0=10.0, scale0=10.0)
    # ln w = -C exp(delta t) is far below the range of floating point.
    assert log_decay(300.0, **late) < -1e5
    assert np.isfinite(relative_step(200.0, **late))


def test_limits_of_the_law() -> None:
    # beta2 -> 1: V stays, and w decays exponentially.
    state = dict(lr=0.01, beta2=1 - 1e-9, theta0=1.0, scale0=1.0)
    assert log_decay(200.0, **state) == pytest.approx(-2.0, rel=1e-5)
    # rho -> infinity is a start without memory.
    without, little = (
        decay_time(1.0, lr=0.1, beta2=0.99, theta0=10.0, scale0=scale0) for scale0 in (0.0, 1e-9)
    )
    assert without == pytest.approx(little, rel=1e-8)


def test_the_law_follows_adam_better_than_without_its_kappa() -> None:
    path = scaled_path(1400, ratio=1000.0, beta1=0.0, beta2=0.99)
    scale = gradient_scale(path, beta2=0.99)
    start, t = 600, np.array([400, 500, 550])
    state = dict(lr=1.0, beta2=0.99, theta0=path[start], scale0=scale[start])
    actual = np.log(path[start + t] / path[start])
    assert relative_step(t, **state).max() < 0.05
    assert log_decay(t, **state) == pytest.approx(actual, rel=0.03)
    assert relative_step(t, **state) == pytest.approx(1 / scale[start + t + 1], rel=0.05)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(lr=0.0), "lr > 0"),
        (dict(theta0=0.0), "theta0 > 0"),
        (dict(theta0=float("nan")), "theta0 > 0"),
        (dict(scale0=-1.0), "scale0 >= 0"),
        (dict(beta2=1.0), "0 < beta2 < 1"),
    ],
)
def test_outside_the_domain_of_the_law(wrong: dict[str, float], message: str) -> None:
    state = dict(lr=0.1, beta2=0.9, theta0=1.0, scale0=1.0) | wrong
    with pytest.raises(OutsideDomain, match=message):
        log_decay(1.0, **state)


def test_times_outside_the_domain_of_the_law() -> None:
    state = dict(lr=0.1, beta2=0.9, theta0=1.0, scale0=1.0)
    with pytest.raises(OutsideDomain, match="0 < theta <= theta0"):
        decay_time(1.5, **state)
    with pytest.raises(OutsideDomain, match="t >= 0"):
        log_decay(-1.0, **state)
    with pytest.raises(OutsideDomain, match="t >= 1 or scale0 > 0; got t = 0"):
        relative_step(0.0, **state | dict(scale0=0.0))
    with pytest.raises(OutsideDomain, match="700"):
        log_decay(1e6, **state)

"""A dead unit under decay: recursion, times, limits, and the rules as plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from regdyn.errors import OutsideDomain
from regdyn.optimizers import make_optimizer
from regdyn.optimizers.base import decay_placement
from regdyn.theorems import unit_decay as decay

GAMMA = st.floats(0.01, 3).flatmap(lambda g: st.sampled_from([g, -g]))
BETA = st.floats(-5, 5)
RATE = st.floats(1e-6, 0.5)
SHIFT = st.floats(1e-3, 1)


@given(GAMMA, BETA, RATE, SHIFT, st.integers(0, 200))
def test_recursion(gamma: float, beta: float, rate: float, alpha: float, t: int) -> None:
    size, shift, ratio = abs(gamma), beta, (beta + alpha) / abs(gamma)
    for _ in range(t):
        ratio += rate / (1 - rate) * alpha / size
        size, shift = size * (1 - rate), shift * (1 - rate)
    closed = decay.ratio_after(t, gamma0=gamma, beta0=beta, rate=rate, alpha=alpha)
    scale = abs(beta / gamma) + alpha / size
    assert closed == pytest.approx(ratio, abs=1e-11 * scale)
    assert closed == pytest.approx((shift + alpha) / size, abs=1e-11 * scale)


@given(GAMMA, BETA, st.floats(0, 0.99), st.floats(0, 1e9))
def test_without_a_shift_the_ratio_stays(gamma: float, beta: float, rate: float, t: float) -> None:
    assert decay.ratio_after(t, gamma0=gamma, beta0=beta, rate=rate) == beta / abs(gamma)


@given(GAMMA, BETA, SHIFT)
def test_without_decay_the_ratio_stays(gamma: float, beta: float, alpha: float) -> None:
    after = decay.ratio_after(1e6, gamma0=gamma, beta0=beta, rate=0.0, alpha=alpha)
    assert after == pytest.approx((beta + alpha) / abs(gamma), rel=1e-12, abs=1e-12 / abs(gamma))


def test_a_long_way_ends_at_infinity() -> None:
    assert decay.ratio_after(1e9, gamma0=0.1, beta0=-1.0, rate=0.1, alpha=0.1) == np.inf


@given(GAMMA, st.floats(-5, -1.1), RATE, SHIFT, st.floats(1e-6, 0.999))
def test_times_invert_the_law(
    gamma: float, beta: float, rate: float, alpha: float, probability: float
) -> None:
    unit = {"gamma0": gamma, "beta0": beta, "rate": rate, "alpha": alpha}
    t = decay.steps_until_active(probability, **unit)
    reached = ndtr(decay.ratio_after(t, **unit))
    if t > 0:
        assert reached == pytest.approx(probability, rel=1e-7)
    else:
        assert reached >= probability
    assert decay.steps_until_ratio(0.0, **unit) == pytest.approx(
        max(np.log(-beta / alpha), 0) / -np.log1p(-rate), rel=1e-12
    )


@given(GAMMA, st.floats(-5, -1.1), RATE, SHIFT, st.floats(1.01, 3))
def test_monotonicities(gamma: float, beta: float, rate: float, alpha: float, more: float) -> None:
    def time(**change: float) -> float:
        unit = {"gamma0": gamma, "beta0": beta, "rate": rate, "alpha": alpha} | change
        return float(decay.steps_until_ratio(-0.01, **unit))

    assert time(alpha=alpha * more) <= time()
    assert time(rate=min(rate * more, 0.9)) <= time()
    assert time(beta0=beta * more) >= time()
    assert time(gamma0=4 * gamma, beta0=4 * beta, alpha=4 * alpha) == pytest.approx(time(), rel=1e-12)


def run(
    name: str, theta: float, steps: int, regularization: str, lam: float, **numbers: float
) -> list[float]:
    rule = make_optimizer(name, **numbers)
    l2, before, after = decay_placement(regularization, lam, rule.lr, 1.0)
    state, path = rule.initial_state(), [theta]
    for t in range(1, steps + 1):
        theta, state = rule.step(before * theta, l2 * theta, state, rule.constants(t, rule.lr))
        theta *= after
        path.append(theta)
    return path


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("regularization", ["l2", "decoupled", "paper"])
def test_sgd_keeps_the_ratio(momentum: float, regularization: str) -> None:
    gamma, beta = (
        np.array(run("sgd", start, 300, regularization, 0.01, lr=0.1, momentum=momentum))
        for start in (0.3, -2.0)
    )
    assert np.allclose(beta / gamma, -2.0 / 0.3, rtol=1e-12)


def test_momentum_beyond_the_critical_decay_wakes_a_dead_unit() -> None:
    """Complex roots: both parameters change their sign in the same step."""
    gamma, beta = (
        np.array(run("sgd", start, 100, "l2", 0.05, lr=0.1, momentum=0.9)) for start in (0.3, -3.0)
    )
    assert np.allclose(beta / gamma, -10, rtol=1e-9)
    ratio = beta / np.abs(gamma)
    assert ratio[0] < -9 and ratio.max() > 9


@pytest.mark.parametrize("eps", [0.0, 1e-8, 1e-3])
def test_adam_takes_the_first_step_as_told(eps: float) -> None:
    gamma, beta = (run("adam", start, 1, "l2", 0.01, lr=2e-3, eps=eps)[1] for start in (-0.05, -1.0))
    closed = decay.adam_first_ratio(gamma0=-0.05, beta0=-1.0, lr=2e-3, lam=0.01, eps=eps)
    assert closed == pytest.approx(beta / abs(gamma), rel=1e-13)


def test_adam_moves_the_ratio_by_the_learning_rate_over_gamma() -> None:
    gamma, beta = (np.array(run("adam", s, 50, "l2", 1e-3, lr=1e-3)) for s in (0.1, -1.0))
    assert (beta / gamma)[50] == pytest.approx(-17.80363897, rel=1e-8)
    t = np.arange(11)
    assert np.allclose((beta / gamma)[:11], (-1 + 1e-3 * t) / (0.1 - 1e-3 * t), rtol=1e-3)


def test_equal_parameters_keep_their_ratio_under_adam() -> None:
    assert decay.adam_first_ratio(gamma0=0.5, beta0=-0.5, lr=0.1, lam=0.01) == -1


@given(GAMMA, BETA)
def test_a_large_eps_makes_adam_like_sgd(gamma: float, beta: float) -> None:
    ratio = decay.adam_first_ratio(gamma0=gamma, beta0=beta, lr=1e-3, lam=1e-3, eps=1e6)
    assert ratio == pytest.approx(beta / abs(gamma), rel=1e-9)


def test_errors() -> None:
    unit = {"gamma0": 0.1, "beta0": -1.0, "rate": 0.1, "alpha": 0.1}
    for change, message in (
        ({"gamma0": 0.0}, "a finite gamma0 other than 0; got gamma0 = 0"),
        ({"rate": 1.0}, "0 <= rate < 1; got rate = 1"),
        ({"alpha": -0.1}, "a finite alpha >= 0"),
        ({"beta0": np.nan}, "a finite beta0"),
    ):
        with pytest.raises(OutsideDomain, match=message):
            decay.ratio_after(1, **(unit | change))
    with pytest.raises(OutsideDomain, match="t >= 0"):
        decay.ratio_after(-1, **unit)
    with pytest.raises(OutsideDomain, match="alpha > 0, without which the ratio never changes"):
        decay.steps_until_ratio(0.0, **(unit | {"alpha": 0.0}))
    with pytest.raises(OutsideDomain, match="rate > 0, without which"):
        decay.steps_until_ratio(0.0, **(unit | {"rate": 0.0}))
    with pytest.raises(OutsideDomain, match="0 < probability < 1; got probability = 1"):
        decay.steps_until_active([0.5, 1.0], **unit)
    with pytest.raises(OutsideDomain, match="a gamma other than 0 after the step"):
        decay.adam_first_ratio(gamma0=0.125, beta0=-1.0, lr=0.125, lam=0.5)

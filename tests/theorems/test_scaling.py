"""The square-root rule and the decay rates against recursions and limits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import regdyn
from regdyn.errors import OutsideDomain
from regdyn.optimizers import OPTIMIZERS, make_optimizer
from regdyn.theorems.scaling import (
    adam_l2_decay_rate,
    decoupled_decay_rate,
    largest_batch_factor,
    square_root_error,
    square_root_rule,
)
from regdyn.theorems.stationary import adam_l2_std, drift_factor

ADAM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "sigma": 1e-5}


@given(k=st.floats(1, 9), eps=st.floats(0, 1e-6), lam=st.floats(1e-6, 1e-3))
def test_what_the_rule_leaves(k: float, eps: float, lam: float) -> None:
    new = square_root_rule(k, eps=eps, **ADAM)
    assert new["lr"] * new["sigma"] == pytest.approx(ADAM["lr"] * ADAM["sigma"], rel=1e-14)
    assert new["lr"] / new["sigma"] == pytest.approx(k * ADAM["lr"] / ADAM["sigma"], rel=1e-14)
    assert new["eps"] / new["sigma"] == pytest.approx(eps / ADAM["sigma"], rel=1e-14)
    assert 1 - new["beta2"] == pytest.approx(k * 0.01, rel=1e-12)
    # The stationary spread follows, up to the error that is promised.
    spreads = [
        adam_l2_std(lam=lam, lr=x["lr"], sigma=x["sigma"], beta1=x["beta1"]) for x in (ADAM, new)
    ]
    error = square_root_error(
        k, lr=ADAM["lr"], lam=lam, sigma=ADAM["sigma"], beta2=ADAM["beta2"], theta0=0.0
    )
    assert abs(spreads[1] / spreads[0] - 1) <= error + 1e-12


def test_one_batch_is_no_change() -> None:
    for name, value in square_root_rule(1, eps=1e-8, **ADAM).items():
        assert value == pytest.approx(1e-8 if name == "eps" else ADAM[name], rel=1e-14)
    assert square_root_error(1, lr=1.0, lam=1.0, sigma=1.0, beta2=0.9, theta0=1.0) == 0


def test_the_last_factor_leaves_no_momentum() -> None:
    assert square_root_rule(10, **ADAM)["beta1"] == pytest.approx(0, abs=1e-12)
    assert square_root_rule(10, **(ADAM | {"beta1": 0.0}))["beta1"] == 0


@pytest.mark.parametrize(
    ("k", "bad", "message"),
    [
        (0.5, {}, "k >= 1"),
        (11, {}, "k \\(1 - beta1\\) <= 1"),
        (200, {"beta1": 0.0}, "k \\(1 - beta2\\) <= 1"),
        (np.nan, {}, "k >= 1"),
    ],
)
def test_outside_the_rule(k: float, bad: dict[str, float], message: str) -> None:
    with pytest.raises(OutsideDomain, match=message):
        square_root_rule(k, **(ADAM | bad))


@given(
    lam=st.floats(1e-7, 1e-2),
    theta0=st.floats(0, 1),
    beta1=st.floats(0.01, 0.99),
    beta2=st.floats(0.9, 0.9999),
    tolerance=st.floats(0.001, 0.5),
)
def test_the_largest_factor_is_where_the_error_meets_the_tolerance(
    lam: float, theta0: float, beta1: float, beta2: float, tolerance: float
) -> None:
    units = {"lr": 1e-3, "lam": lam, "sigma": 1e-3, "beta2": beta2, "theta0": theta0}
    k = largest_batch_factor(beta1=beta1, tolerance=tolerance, **units)
    error = square_root_error(k, **units)
    memory = 1 / max(1 - beta1, 1 - beta2)
    assert 1 <= k <= memory
    if k < memory:
        assert error == pytest.approx(tolerance, rel=1e-9)
    else:
        assert error <= tolerance * (1 + 1e-9)


def test_the_largest_factor_without_momentum_is_set_by_the_second_moment() -> None:
    units = {"lr": 1e-3, "lam": 1e-9, "sigma": 1e-3, "theta0": 0.0}
    k = largest_batch_factor(beta1=0.0, beta2=0.99, tolerance=10.0, **units)
    assert k == pytest.approx(100)


@given(
    strength=st.floats(1e-6, 0.02),
    beta1=st.floats(0, 0.9),
    beta2=st.floats(0.95, 0.9999),
    eps=st.floats(0, 2),
)
def test_the_rate_is_that_of_the_linear_recursion(
    strength: float, beta1: float, beta2: float, eps: float
) -> None:
    a = strength * float(drift_factor(beta1=beta1, beta2=beta2, eps_ratio=eps))
    assume(np.sqrt(a * (1 - beta1)) < 0.9 * (1 - np.sqrt(beta1)))
    matrix = np.array([[1 - a * (1 - beta1), -a * beta1], [1 - beta1, beta1]])
    slow = np.max(np.linalg.eigvals(matrix).real)
    rate = adam_l2_decay_rate(lr=strength, lam=1.0, sigma=1.0, beta1=beta1, beta2=beta2, eps=eps)
    assert rate == pytest.approx(-np.log(slow), rel=1e-7)


@given(power=st.integers(-40, 0), beta1=st.floats(0, 0.99))
def test_tiny_rates(power: int, beta1: float) -> None:
    strength = 10.0**power
    assume(np.sqrt(strength * (1 - beta1)) < 0.5 * (1 - np.sqrt(beta1)))
    beta2 = 1 - 2.0**-40
    with mpmath.workdps(60):
        pull = (1 - mpmath.mpf(beta1)) * strength
        middle = 1 + mpmath.mpf(beta1) - pull
        exact = -mpmath.log((middle + mpmath.sqrt(middle**2 - 4 * mpmath.mpf(beta1))) / 2)
    rate = adam_l2_decay_rate(lr=strength, lam=1.0, sigma=1.0, beta1=beta1, beta2=beta2)
    assert float(rate) == pytest.approx(float(exact), rel=1e-11)


@given(c=st.integers(-40, 40), lam=st.floats(1e-9, 1e-4))
def test_l2_goes_as_one_over_sigma(c: int, lam: float) -> None:
    law = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.99}
    rate = adam_l2_decay_rate(lam=lam, sigma=1e-3, **law)
    assert adam_l2_decay_rate(lam=2.0**c * lam, sigma=2.0**c * 1e-3, **law) == rate
    # To first order in the rate itself.
    ratio = rate / adam_l2_decay_rate(lam=lam, sigma=2e-3, **law)
    assert ratio == pytest.approx(2, rel=20 * rate)


def test_limits_without_decay() -> None:
    law = {"lr": 1e-3, "sigma": 1e-3, "beta1": 0.9, "beta2": 0.99}
    assert adam_l2_decay_rate(lam=0.0, **law) == 0
    assert decoupled_decay_rate(lr=1e-3, lam=0.0) == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"sigma": 0.0}, "sigma > 0"),
        ({"lam": 1.0}, "1 - sqrt\\(beta1\\)"),
        ({"beta2": 1.0}, "beta2 < 1"),
    ],
)
def test_outside_the_l2_rate(bad: dict[str, float], message: str) -> None:
    law = {"lr": 1e-3, "lam": 1e-4, "sigma": 1e-3, "beta1": 0.9, "beta2": 0.99}
    with pytest.raises(OutsideDomain, match=message):
        adam_l2_decay_rate(**(law | bad))


def test_outside_the_decoupled_rate() -> None:
    with pytest.raises(OutsideDomain, match="0 <= lr lam < 1"):
        decoupled_decay_rate(lr=1.0, lam=1.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_decoupled_rate_holds_for_every_rule_and_noise(name: str) -> None:
    """Pairs under the same noise draw nearer at that rate, whatever the noise."""
    optimizer, lam, steps = make_optimizer(name), 0.01, 200
    for sigma in (1e-6, 1e-2):
        up, down = (
            regdyn.simulate(
                optimizer, lam=lam / optimizer.lr, regularization="decoupled",
                noise=regdyn.Gaussian(sigma), theta0=start, steps=steps, trajectories=256, times=[1],
            ).final
            for start in (3.0, 1.0)
        )  # fmt: skip
        rate = -np.log((up - down) / 2) / steps
        assert rate == pytest.approx(float(decoupled_decay_rate(lr=1.0, lam=lam)), rel=1e-10)

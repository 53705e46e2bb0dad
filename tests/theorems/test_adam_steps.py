"""Scale invariance, the largest step and the least time of Adam against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regdyn.errors import OutsideDomain
from regdyn.theorems.adam_steps import (
    largest_step,
    largest_step_limit,
    least_steps,
    quoted_step,
    scaled_path,
    steepest_gradients,
)
from regdyn.verdicts import Laboratory

betas = st.tuples(st.floats(0.0, 0.99), st.floats(0.05, 0.9999))


def last_step(gradients: np.ndarray, beta1: float, beta2: float) -> float:
    """Length of the last step of Adam, lr = 1, from sums instead of the recursion."""
    t = len(gradients)
    age = np.arange(t - 1, -1, -1.0)
    m = (1 - beta1) * np.sum(beta1**age * gradients) / (1 - beta1**t)
    v = (1 - beta2) * np.sum(beta2**age * gradients**2) / (1 - beta2**t)
    return float(abs(m) / np.sqrt(v))


def adam_path(lr: float, lam: float, ratio: float, steps: int, **betas: float) -> np.ndarray:
    result = Laboratory().weight(
        "adam", lr=lr, lam=lam, eps=0.0, theta0=ratio * lr, steps=steps, keep=1, **betas
    )
    return result.paths[:, 0]


# --- Scale invariance -----------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(-20, 5), st.integers(-30, 5), st.floats(0.5, 300), betas)
def test_powers_of_two_change_no_bit(
    lr: int, lam: int, ratio: float, beta: tuple[float, float]
) -> None:
    pair = dict(zip(("beta1", "beta2"), beta))
    scaled = adam_path(2.0**lr, 2.0**lam, ratio, 400, **pair) / 2.0**lr
    assert np.array_equal(scaled, adam_path(1.0, 1.0, ratio, 400, **pair))


def test_epsilon_breaks_the_invariance() -> None:
    case = dict(steps=200, theta0=0.1, lr=1e-3, keep=1)
    paths = [Laboratory().weight("adam", lam=lam, **case).paths for lam in (1e-3, 1e-6)]
    assert np.abs(paths[0] - paths[1]).max() > 1e-3


def test_scaled_path_takes_a_first_step_of_one_and_is_odd() -> None:
    path = scaled_path(50, ratio=7.25, beta1=0.9, beta2=0.99)
    assert path[1] == pytest.approx(6.25, rel=1e-15)
    assert np.array_equal(scaled_path(50, ratio=-7.25, beta1=0.9, beta2=0.99), -path)


# --- The largest step -----------------------------------------------------------------------------


@given(betas, st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_no_gradients_step_further(beta: tuple[float, float], t: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal(t) * np.exp(rng.uniform(-3, 3) * np.arange(t))
    bound = largest_step(t, beta1=beta[0], beta2=beta[1])
    assert last_step(gradients, *beta) <= bound * (1 + 1e-10)


@given(st.floats(0.2, 0.99), st.floats(0.2, 0.9999), st.integers(1, 100))
def test_the_steepest_gradients_reach_the_bound_at_every_step(
    beta1: float, beta2: float, t: int
) -> None:
    gradients = steepest_gradients(100, beta1=beta1, beta2=beta2)[:t]
    bound = largest_step(t, beta1=beta1, beta2=beta2)
    assert last_step(gradients, beta1, beta2) == pytest.approx(bound, rel=1e-9)


def test_without_first_moment_a_gradient_after_nothing_is_the_steepest() -> None:
    gradients = steepest_gradients(50, beta1=0.0, beta2=0.9)
    assert gradients[-1] == 1 and np.all(gradients[:-1] == pytest.approx(1e-140))
    bound = largest_step(50, beta1=0.0, beta2=0.9)
    assert last_step(gradients, 0.0, 0.9) == pytest.approx(bound, rel=1e-12)


@given(betas)
def test_the_first_step_is_lr_and_the_second_is_longer(beta: tuple[float, float]) -> None:
    beta1, beta2 = beta
    assert largest_step(1, beta1=beta1, beta2=beta2) == pytest.approx(1.0, rel=1e-12)
    excess = (beta1 - beta2) ** 2 / (beta2 * (1 + beta1) ** 2)
    assert largest_step(2, beta1=beta1, beta2=beta2) == pytest.approx(np.sqrt(1 + excess), rel=1e-9)


@given(betas)
def test_the_limit(beta: tuple[float, float]) -> None:
    beta1, beta2 = beta
    if beta1**2 < 0.999 * beta2:
        limit = largest_step_limit(beta1=beta1, beta2=beta2)
        assert largest_step(1e7, beta1=beta1, beta2=beta2) == pytest.approx(limit, rel=1e-8)
    else:
        assert largest_step(10**5, beta1=beta1, beta2=beta2) > 30


def test_numbers_in_the_text() -> None:
    assert largest_step_limit(beta1=0.9, beta2=0.99) == pytest.approx(2.345, abs=1e-3)
    assert largest_step_limit(beta1=0.9, beta2=0.999) == pytest.approx(7.270, abs=1e-3)
    assert quoted_step(beta1=0.9, beta2=0.999) == pytest.approx(3.162, abs=1e-3)
    assert quoted_step(beta1=0.9, beta2=0.99) == pytest.approx(1.0)
    two = np.array([1.0, 1.1])
    assert last_step(two, 0.9, 0.99) == pytest.approx(1.00114, abs=1e-5)


def test_without_first_moment_the_quoted_bound_is_the_limit() -> None:
    assert largest_step_limit(beta1=0.0, beta2=0.99) == quoted_step(beta1=0.0, beta2=0.99)


def test_limits_of_beta2() -> None:
    # beta1^2 = beta2: the sum is t. beta2 -> 1: v is the plain mean of squares.
    at = largest_step(40, beta1=0.5, beta2=0.25)
    assert at == pytest.approx(0.5 * np.sqrt(40 / 0.75) / (1 - 0.5**40), rel=1e-12)
    near = largest_step(40, beta1=0.5, beta2=0.25 * (1 + 1e-13))
    assert near == pytest.approx(at, rel=1e-9)
    mean_of_squares = 0.5 * np.sqrt(3 * (1 - 0.25**3) / 0.75) / (1 - 0.5**3)
    assert largest_step(3, beta1=0.5, beta2=1 - 1e-12) == pytest.approx(mean_of_squares, rel=1e-10)


# --- The least time -------------------------------------------------------------------------------


@given(st.floats(0.0, 0.99), st.floats(0.0, 1.0), st.floats(1.0, 300.0))
def test_no_step_towards_zero_is_longer_than_lr(beta1: float, share: float, ratio: float) -> None:
    beta2 = max(beta1 + share * (0.999 - beta1), 0.01)
    path = scaled_path(int(ratio), ratio=ratio, beta1=beta1, beta2=beta2)
    falling = np.argmax(path <= 0) or len(path) - 1
    assert -np.diff(path)[:falling].min() > 0
    assert -np.diff(path)[:falling].max() <= 1 + 1e-12


def test_the_order_of_the_betas_matters() -> None:
    path = scaled_path(60, ratio=50.0, beta1=0.9, beta2=0.5)
    assert np.argmax(path <= 0) == 38
    assert -np.diff(path).min() > 3


def test_least_steps() -> None:
    assert least_steps(lr=1e-3, theta0=-1.0, threshold=1e-3) == pytest.approx(999.0)
    assert least_steps(lr=1e-3, theta0=1e-4, threshold=1e-3) == 0
    assert least_steps(lr=[1e-3, 1e-2], theta0=1.0, threshold=0.0).shape == (2,)


# --- Outside the domain ---------------------------------------------------------------------------


@pytest.mark.parametrize("beta2", [0.0, 1.0, -0.5, float("nan")])
def test_second_beta_outside(beta2: float) -> None:
    with pytest.raises(OutsideDomain, match="0 < beta2 < 1; got beta2"):
        largest_step(3, beta1=0.5, beta2=beta2)
    with pytest.raises(OutsideDomain, match="0 < beta2 < 1"):
        scaled_path(3, ratio=1.0, beta1=0.5, beta2=beta2)


def test_outside_the_domain() -> None:
    with pytest.raises(OutsideDomain, match=r"beta1\^2 < beta2; got beta1 = 0.9, beta2 = 0.81"):
        largest_step_limit(beta1=0.9, beta2=0.81)
    with pytest.raises(OutsideDomain, match="0 <= beta1 < 1"):
        quoted_step(beta1=1.0, beta2=0.9)
    with pytest.raises(OutsideDomain, match="t >= 1"):
        largest_step(0, beta1=0.9, beta2=0.99)
    with pytest.raises(OutsideDomain, match="theta0 / lr other than 0"):
        scaled_path(3, ratio=0.0, beta1=0.9, beta2=0.99)
    with pytest.raises(OutsideDomain, match="lr > 0"):
        least_steps(lr=0.0, theta0=1.0, threshold=0.1)

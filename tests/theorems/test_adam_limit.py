"""The 2-cycle of Adam, its stability and the threshold, against the update rule itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from regdyn.errors import OutsideDomain
from regdyn.optimizers import Adam
from regdyn.theorems import momentum_sgd
from regdyn.theorems.adam_limit import (
    critical_beta1,
    cycle_amplitude,
    cycle_is_stable,
    largest_stable_share,
    rate_near_zero,
    stability_threshold,
    step_at_rest,
)
from regdyn.verdicts import Laboratory

betas = dict(beta1=st.floats(0.0, 0.98), beta2=st.floats(0.01, 0.999))


def late_step(
    rule: Adam, lam: float, w: float, m: float, v: float
) -> tuple[float, float, float]:  # fmt: skip
    """One step so late that both bias corrections are 1."""
    w, (m, v) = rule.step(w, lam * w, (m, v), rule.constants(10**7, rule.lr))
    return w, m, v


def on_cycle(beta1: float, amplitude: float, lam: float) -> np.ndarray:
    """Weight and moments just before a step from +A to -A."""
    return np.array([amplitude, -lam * amplitude * (1 - beta1) / (1 + beta1), (lam * amplitude) ** 2])


def late_path(steps: int, **case: float) -> np.ndarray:
    result = Laboratory().weight("adam", **dict(lr=1.0, lam=1.0, steps=steps, keep=1) | case)
    return np.abs(result.paths[-steps // 2 :, 0])


# --- The 2-cycle ----------------------------------------------------------------------------------


@given(**betas, share=st.floats(0.01, 1.0), lam=st.floats(1e-3, 10), lr=st.floats(1e-3, 10))
def test_the_cycle_solves_the_update_rule(
    beta1: float, beta2: float, share: float, lam: float, lr: float
) -> None:
    eps = lam * (1 - share) * float(cycle_amplitude(lr=lr, beta1=beta1))
    amplitude = float(cycle_amplitude(lr=lr, beta1=beta1, lam=lam, eps=eps))
    assert amplitude == pytest.approx(share * lr * (1 - beta1) / (2 * (1 + beta1)), rel=1e-10)
    rule = Adam(lr=lr, beta1=beta1, beta2=beta2, eps=eps)
    before = on_cycle(beta1, amplitude, lam)
    w, m, v = late_step(rule, lam, *before)
    assert (-w, -m, v) == pytest.approx(tuple(before), rel=1e-9)


@given(**betas, share=st.floats(0.01, 1.0))
def test_stability_is_that_of_the_map(beta1: float, beta2: float, share: float) -> None:
    eps = (1 - share) * float(cycle_amplitude(lr=1.0, beta1=beta1))
    amplitude = float(cycle_amplitude(lr=1.0, beta1=beta1, lam=1.0, eps=eps))
    rule = Adam(lr=1.0, beta1=beta1, beta2=beta2, eps=eps)
    before = on_cycle(beta1, amplitude, 1.0)
    jacobian = np.empty((3, 3))
    for j in range(3):
        change = np.zeros(3)
        change[j] = 1e-5 * abs(before[j])
        up, down = (np.array(late_step(rule, 1.0, *(before + s * change))) for s in (1, -1))
        jacobian[:, j] = (up - down) / (2 * change[j]) * [-1, -1, 1]
    radius = np.abs(np.linalg.eigvals(jacobian)).max()
    assume(abs(radius - 1) > 1e-6)
    stable = cycle_is_stable(lr=1.0, beta1=beta1, beta2=beta2, lam=1.0, eps=eps)
    assert stable == (radius < 1)


@given(st.floats(0.0, 0.9999))
def test_the_critical_beta1_is_where_the_share_is_one(beta2: float) -> None:
    beta1 = critical_beta1(beta2=beta2)
    assert 3 - 2 * np.sqrt(2) - 1e-12 < beta1 <= 1 / 3
    assert largest_stable_share(beta1=beta1, beta2=beta2) == pytest.approx(1.0, rel=1e-12)
    assert cycle_is_stable(lr=1e-3, beta1=beta1 - 1e-9, beta2=beta2)
    assert not cycle_is_stable(lr=1e-3, beta1=beta1 + 1e-9, beta2=beta2)


def test_larger_betas_destabilise() -> None:
    grid = np.linspace(0.01, 0.99, 50)
    assert np.all(np.diff(largest_stable_share(beta1=grid, beta2=0.9)) < 0)
    assert np.all(np.diff(largest_stable_share(beta1=0.5, beta2=grid)) < 0)
    assert np.all(np.diff(critical_beta1(beta2=grid)) < 0)
    assert np.isinf(largest_stable_share(beta1=0.0, beta2=0.9))


@pytest.mark.parametrize(
    ("beta1", "beta2", "ratio", "share"),
    [
        (0.0, 0.99, 2.5, 1.0),
        (0.1, 0.9, 30.0, 1.0),
        (0.15, 0.9, 2.5, 1.0),
        # With momentum only next to the threshold, where A vanishes.
        (0.9, 0.99, 10.0, 0.002),
        (0.5, 0.9, 2.5, 0.1),
    ],
)
def test_adam_ends_in_a_stable_cycle(beta1: float, beta2: float, ratio: float, share: float) -> None:
    eps = (1 - share) * float(cycle_amplitude(lr=1.0, beta1=beta1))
    amplitude = cycle_amplitude(lr=1.0, beta1=beta1, eps=eps)
    assert cycle_is_stable(lr=1.0, beta1=beta1, beta2=beta2, eps=eps)
    late = late_path(30_000, beta1=beta1, beta2=beta2, eps=eps, theta0=ratio)
    assert late == pytest.approx(np.full(len(late), amplitude), rel=1e-6)


@pytest.mark.parametrize(
    ("beta1", "beta2", "greatest"),
    [(0.5, 0.9, 3), (0.9, 0.99, 5), (0.9, 0.999, 9), (0.9, 0.9, 1.5), (0.3, 0.99, 5), (0.5, 0.5, 1.5)],
)
def test_adam_bursts_about_an_unstable_cycle(beta1: float, beta2: float, greatest: float) -> None:
    amplitude = cycle_amplitude(lr=1.0, beta1=beta1)
    assert not cycle_is_stable(lr=1.0, beta1=beta1, beta2=beta2)
    late = late_path(200_000, beta1=beta1, beta2=beta2, eps=0.0, theta0=2.5) / amplitude
    assert greatest < late.max() < 1.3 * greatest + 2
    assert late.min() < 0.1
    # V stays at the edge of stability, and is the running rms of w.
    assert np.sqrt(np.mean(late**2)) == pytest.approx(1.0, abs=0.15)


def test_a_weight_may_underflow_in_a_lull() -> None:
    # beta1 = 0: the 2-cycle is stable, but on the way from afar w falls below what float64 holds.
    case = dict(beta1=0.0, beta2=0.999, eps=0.0)
    assert np.all(late_path(60_000, **case, theta0=300.0) == 0)
    assert late_path(60_000, **case, theta0=2.5)[-1] == pytest.approx(0.5, rel=1e-6)


# --- The threshold --------------------------------------------------------------------------------


@given(
    st.floats(0.0, 0.99), st.floats(1e-3, 1e3), st.floats(1e-3, 10), st.floats(1e-8, 1.0)
)  # fmt: skip
def test_the_rate_is_that_of_the_linear_map(beta1: float, ratio: float, lam: float, eps: float) -> None:
    a = ratio * (1 - beta1)
    matrix = np.array([[1 - a, -ratio * beta1], [1 - beta1, beta1]])
    rate = rate_near_zero(lr=ratio * eps / lam, beta1=beta1, lam=lam, eps=eps)
    assert rate == pytest.approx(np.abs(np.linalg.eigvals(matrix)).max(), rel=1e-6)
    threshold = stability_threshold(beta1=beta1)
    if abs(ratio / threshold - 1) > 1e-9:
        assert (rate < 1) == (ratio < threshold)


def test_near_zero_adam_is_momentum_sgd() -> None:
    rate = rate_near_zero(lr=1e-3, beta1=0.5, lam=1e-6, eps=1e-7)
    slow, _ = momentum_sgd.roots(lr=0.5 * 1e-3 / 1e-7, momentum=0.5, lam=1e-6)
    assert rate == pytest.approx(slow, rel=1e-12)
    path = late_path(4000, lr=1e-3, lam=1e-6, beta1=0.5, beta2=0.9, eps=1e-7, theta0=1e-6)
    assert path[-1] / path[-101] == pytest.approx(rate**100, rel=1e-4)


@pytest.mark.parametrize(("beta1", "expected"), [(0.0, 2.0), (0.9, 38.0), (0.5, 6.0)])
def test_the_threshold(beta1: float, expected: float) -> None:
    assert stability_threshold(beta1=beta1) == pytest.approx(expected, rel=1e-12)
    assert rate_near_zero(lr=expected, beta1=beta1, lam=1.0, eps=1.0) == pytest.approx(1.0, rel=1e-7)


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.5), (0.95, 0.7)])
def test_below_the_threshold_a_large_cycle_may_attract(beta1: float, beta2: float) -> None:
    eps = 1 / (0.98 * stability_threshold(beta1=beta1))
    assert beta1**2 > beta2
    assert late_path(20_000, beta1=beta1, beta2=beta2, eps=eps, theta0=1.0).max() > eps
    # 0 is stable all the same, nearby; the first steps, corrected for bias, lead away from it.
    near = late_path(20_000, beta1=beta1, beta2=beta2, eps=eps, theta0=1e-20 * eps)
    assert near.max() < 1e-20 * eps


# --- The limit ------------------------------------------------------------------------------------


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 10), st.one_of(st.just(0.0), st.floats(1e-12, 1)))
def test_no_weight_but_0_rests(weight: float, lam: float, eps: float) -> None:
    step = step_at_rest(weight=weight, lr=1.0, lam=lam, eps=eps)
    assert 0 < step <= 1
    assert step == step_at_rest(weight=-weight, lr=1.0, lam=lam, eps=eps)
    assert step <= step_at_rest(weight=2 * weight, lr=1.0, lam=lam, eps=eps)
    rule = Adam(lr=1.0, beta1=0.7, beta2=0.9, eps=eps)
    w, _, _ = late_step(rule, lam, weight, lam * weight, (lam * weight) ** 2)
    assert weight - w == pytest.approx(step, rel=1e-6, abs=1e-9 * weight)


def test_limits_of_the_step_at_rest() -> None:
    assert step_at_rest(weight=0.0, lr=1.0, lam=1.0, eps=1e-8) == 0
    assert step_at_rest(weight=1e-300, lr=0.1, lam=1.0, eps=0.0) == 0.1
    near = step_at_rest(weight=1e-12, lr=0.1, lam=1.0, eps=1e-3)
    assert near == pytest.approx(0.1 * 1e-9, rel=1e-8)


def test_an_exceptional_start_converges_without_epsilon() -> None:
    assert np.all(late_path(100, beta1=0.0, beta2=0.9, eps=0.0, theta0=1.0) == 0)


# --- Outside the domain ---------------------------------------------------------------------------


def test_outside_the_domain() -> None:
    with pytest.raises(OutsideDomain, match=r"lr \* lam / eps > 2 .*; got lr = 0.001, beta1 = 0.9"):
        cycle_amplitude(lr=1e-3, beta1=0.9, lam=1e-4, eps=1e-8)
    with pytest.raises(OutsideDomain, match="lam > 0"):
        cycle_amplitude(lr=1e-3, beta1=0.9, lam=0.0)
    with pytest.raises(OutsideDomain, match="eps >= 0"):
        step_at_rest(weight=1.0, lr=1.0, lam=1.0, eps=float("nan"))
    with pytest.raises(OutsideDomain, match="0 <= beta1 < 1"):
        stability_threshold(beta1=1.0)
    with pytest.raises(OutsideDomain, match="0 <= beta2 < 1"):
        critical_beta1(beta2=float("nan"))
    with pytest.raises(OutsideDomain, match="eps > 0"):
        rate_near_zero(lr=1.0, beta1=0.9, lam=1.0, eps=0.0)
    with pytest.raises(OutsideDomain, match="weight != 0 or eps > 0"):
        step_at_rest(weight=0.0, lr=1.0, lam=1.0, eps=0.0)

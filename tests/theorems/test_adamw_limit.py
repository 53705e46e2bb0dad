"""AdamW's limit against the update rule itself."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import regdyn
from regdyn.errors import OutsideDomain
from regdyn.optimizers import make_optimizer
from regdyn.theorems.adamw_limit import adamw_limit, remaining_distance

# Below, products with lam lose digits to underflow.
targets = st.floats(-1e3, 1e3).filter(lambda x: x == 0 or abs(x) > 1e-290)
positive = st.floats(1e-3, 1e3)


@given(target=targets, lam=positive, curvature=positive)
def test_without_eps_it_is_the_clip(target: float, lam: float, curvature: float) -> None:
    limit = adamw_limit(target=target, lam=lam, curvature=curvature)
    assert limit == pytest.approx(np.clip(target, -1 / lam, 1 / lam), rel=1e-14)


@given(target=targets, lam=positive, curvature=positive, eps=st.floats(0, 10))
def test_the_limit_stays_where_it_is(target: float, lam: float, curvature: float, eps: float) -> None:
    with mpmath.workdps(50):
        x, t, decay = (
            mpmath.mpf(float(adamw_limit(target=target, lam=lam, curvature=curvature, eps=eps))),
            mpmath.mpf(target),
            mpmath.mpf(lam),
        )
        g = curvature * (x - t)
        # Counted in what either side is made of, as they may cancel.
        off = decay * x * (abs(g) + eps) + g
        size = decay * abs(x) * (curvature * (abs(x) + abs(t)) + eps) + curvature * (abs(x) + abs(t))
    # Seven roundings in x, each of which enters both of its factors.
    assert abs(off) <= 14 * 2.0**-53 * size


@given(target=targets, lam=positive, eps=st.floats(0, 10), c=st.integers(-20, 20))
def test_symmetries(target: float, lam: float, eps: float, c: int) -> None:
    limit = adamw_limit(target=target, lam=lam, curvature=0.5, eps=eps)
    assert adamw_limit(target=-target, lam=lam, curvature=0.5, eps=eps) == -limit
    scale = 2.0**c
    assert adamw_limit(target=target, lam=lam, curvature=0.5 * scale, eps=eps * scale) == limit
    assert abs(limit) <= min(abs(target), 1 / lam) * (1 + 1e-14)


@given(target=targets)
def test_without_decay_it_is_the_minimum(target: float) -> None:
    assert adamw_limit(target=target, lam=0.0, eps=1.0) == target


@given(lam=positive, a=targets, b=targets)
def test_it_grows_with_the_target(lam: float, a: float, b: float) -> None:
    low, high = adamw_limit(target=sorted((a, b)), lam=lam, eps=1e-3)
    assert low <= high + 1e-12 * abs(high)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"target": np.inf}, "finite target"),
        ({"lam": -1.0}, "lam >= 0"),
        ({"eps": -1.0}, "eps >= 0"),
        ({"curvature": 0.0}, "curvature > 0"),
        ({"lam": np.nan}, "lam >= 0"),
    ],
)
def test_outside(bad: dict[str, float], message: str) -> None:
    with pytest.raises(OutsideDomain, match=message):
        adamw_limit(**({"target": 1.0, "lam": 1.0} | bad))


@pytest.mark.parametrize("target", [0.5, 3.0])
def test_the_plain_rule_ends_there_with_a_large_eps(target: float) -> None:
    """In plain Python: with eps = 0.1 a constant rate is enough, as the limit is stable."""
    rule = make_optimizer("adam", lr=0.01, eps=0.1)
    theta, state, lam = -1.0, rule.initial_state(), 0.7
    for t in range(1, 8001):
        constants = rule.constants(t, rule.lr)
        theta, state = rule.step((1 - rule.lr * lam) * theta, theta - target, state, constants)
    assert theta == pytest.approx(float(adamw_limit(target=target, lam=lam, eps=0.1)), rel=1e-9)


def test_the_way_to_the_bound() -> None:
    """Far from the minimum every step is lr, and what is left of the way to 1 / lam is the product."""
    lr, lam, steps = 0.02, 0.5, 300
    schedule = 0.99 ** np.arange(steps)
    result = regdyn.simulate(
        make_optimizer("adam", lr=lr, eps=0.0), lam=lam, regularization="decoupled",
        noise=regdyn.NoNoise(), signal=regdyn.Signal(1.0, 1e6), schedule=regdyn.Table(schedule),
        theta0=-3.0, steps=steps, trajectories=1, times=[1],
    )  # fmt: skip
    left = (result.final[0] - 1 / lam) / (-3.0 - 1 / lam)
    assert left == pytest.approx(remaining_distance(lr=lr * schedule, lam=lam), rel=1e-4)
    # The sum is finite: the weight stays on its way.
    assert left > 0.3


def test_the_product() -> None:
    rates = np.linspace(0.01, 0.9, 50)
    assert remaining_distance(lr=rates, lam=0.5) == pytest.approx(np.prod(1 - 0.5 * rates), rel=1e-13)
    with pytest.raises(OutsideDomain, match="lr lam < 1"):
        remaining_distance(lr=[0.1, 2.0], lam=0.5)

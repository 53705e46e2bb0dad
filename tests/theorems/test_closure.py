"""The moment closure and the first-passage equation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import regdyn
from regdyn.errors import OutsideDomain
from regdyn.optimizers import OPTIMIZERS
from regdyn.theorems import closure, momentum_sgd

RULES = list(OPTIMIZERS)
NOISE = np.r_[np.full(100, 1e-3), 1e-5]


@pytest.mark.parametrize("name", RULES)
def test_defaults_are_those_of_the_rules(name: str) -> None:
    assert dict(closure.DEFAULTS[name]) == OPTIMIZERS[name]().parameters()


@given(
    lr=st.floats(0.01, 0.5), momentum=st.sampled_from([0.0, 0.5, 0.9]), lam=st.floats(1e-4, 0.02),
    sigma=st.floats(0, 0.01),
)  # fmt: skip
@settings(max_examples=30)
def test_sgd_is_exact(lr: float, momentum: float, lam: float, sigma: float) -> None:
    path = closure.decay("sgd", lr=lr, momentum=momentum, lam=lam, sigma=sigma, theta0=2.0, steps=3000)
    at = path.steps[path.steps <= 3000].astype(int)
    mean, variance = momentum_sgd.moments(
        3000, lr=lr, momentum=momentum, lam=lam, sigma=sigma, theta0=2.0
    )
    inside = slice(0, len(at))
    # A power of the map by squaring rounds a little more than 3000 steps do.
    assert np.allclose(path.mean[inside], mean[at], rtol=1e-8, atol=1e-14)
    assert np.allclose(path.std[inside], np.sqrt(variance[at]), rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("name", [rule for rule in RULES if rule != "amsgrad"])
def test_without_noise_the_mean_is_the_rule(name: str) -> None:
    """For a weight that has not begun to swing, with no noise, the closure is the update rule."""
    run = regdyn.simulate(
        name, lam=1e-2, noise=regdyn.NoNoise(), steps=300, trajectories=1, keep=1, threads=1
    )
    path = closure.decay(name, lam=1e-2, sigma=0.0, stretches=False, steps=300)
    count = min(301, len(path.mean))
    assert np.allclose(path.mean[:count], run.paths[:count, 0], rtol=1e-6)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("regularization", ["l2", "paper"])
def test_stretches_agree_with_single_steps(name: str, regularization: str) -> None:
    given_: dict[str, Any] = dict(lam=3e-3, regularization=regularization, sigma=NOISE)
    fast, slow = (
        closure.median_passage(closure.decay(name, **given_, stretches=s), 1e-3) for s in (True, False)
    )
    assert fast == pytest.approx(slow, rel=0.005, abs=2)


@pytest.mark.parametrize("name", RULES)
def test_decay_scales_with_theta_under_weight_decay(name: str) -> None:
    """Outside the gradient the decay is linear: the mean is theta0 times the same factors."""
    given_: dict[str, Any] = dict(
        lam=1e-3, regularization="paper", sigma=1e-5, threshold=1e-9, steps=100
    )
    one, two = (closure.decay(name, theta0=x, **given_) for x in (1.0, 2.0))
    assert np.interp(100, two.steps, two.mean) == pytest.approx(
        2 * np.interp(100, one.steps, one.mean), rel=1e-12
    )


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad", "adamax"])
def test_gradient_scale_cancels(name: str) -> None:
    """Without eps an adaptive rule does not see the unit of the gradient."""
    zero = {k: 0.0 for k in closure.DEFAULTS[name] if k.startswith("eps")}
    times = [
        closure.median_passage(closure.decay(name, lam=1e-4 * unit, sigma=NOISE * unit, **zero), 1e-3)
        for unit in (1.0, 1000.0)
    ]
    assert times[0] == pytest.approx(times[1], rel=1e-6)


def test_a_schedule_of_one_number_is_another_lr() -> None:
    slow = closure.decay("adam", lam=1e-4, sigma=NOISE, schedule=0.5)
    half = closure.decay("adam", lam=1e-4, sigma=NOISE, lr=5e-4)
    assert np.allclose(slow.mean, half.mean, rtol=1e-12)


def test_nothing_moves_after_the_learning_rate_is_0() -> None:
    schedule = np.r_[np.ones(50), 0.0]
    path = closure.decay("sgd", lam=1e-2, sigma=1e-5, schedule=schedule, steps=500)
    after = path.mean[path.steps >= 51]
    assert len(after) > 2
    assert np.ptp(after) < 1e-12
    assert closure.median_passage(path, 1e-3) == np.inf


def test_reflection_principle() -> None:
    """For a walk without decay, and for an Ornstein-Uhlenbeck process at 0, F = 2 P(theta < 0)."""
    k, s = 1e-3, 1.0
    t = np.arange(0.0, 6001.0, 20.0)
    fall = np.exp(-k * t)
    path = closure.Decay(t, 5.0 * fall, s * np.sqrt(1 - fall**2), fall, np.zeros_like(t), 0.0)
    exact = np.log1p((5.0 / (closure.MEDIAN * s)) ** 2) / (2 * k)
    assert closure.median_passage(path, 1e-9) == pytest.approx(exact, rel=2e-3)

    walk = closure.decay("sgd", lam=0.0, lr=0.1, momentum=0.0, sigma=1e-3, regularization="none",
                         threshold=0.5)  # fmt: skip
    exact = (0.5 / closure.MEDIAN / 1e-4) ** 2
    assert closure.median_passage(walk, 0.5) == pytest.approx(exact, rel=0.01)


def test_distribution_increases_and_starts_with_nothing() -> None:
    path = closure.decay("adam", lam=1e-5, sigma=NOISE)
    t, cdf = closure.passage_distribution(path, 1e-3)
    assert np.all(np.diff(t) > 0)
    assert np.all(np.diff(cdf) >= 0)
    assert cdf[0] < 1e-4
    assert cdf[-1] >= 0.5


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_barrier_shift_against_walks(memory: float) -> None:
    """Survival of simulated walks is erf((L + shift)/sqrt(2 h^2 T)), with a tolerance of 4 errors."""
    generator = np.random.default_rng(0)
    n, barrier = 20_000, 5.0
    h = np.sqrt((1 + memory) / (1 - memory))
    distance = 60.0 if memory else 5.0
    steps = int(1.3 * (distance / h) ** 2)
    v = generator.standard_normal(n)
    # The walk will go on by v memory/(1 - memory) on average.
    x = np.full(n, barrier + distance) - v * memory / (1 - memory)
    for _ in range(steps):
        v = memory * v + np.sqrt(1 - memory**2) * generator.standard_normal(len(v))
        x = x + v
        v, x = v[np.abs(x) >= barrier], x[np.abs(x) >= barrier]
    from scipy.special import erf

    shift = float(closure.barrier_shift(jitter=1.0, memory=memory, threshold=barrier))
    expected = erf((distance + shift) / np.sqrt(2 * steps) / h)
    error = np.sqrt(expected * (1 - expected) / n)
    assert abs(len(x) / n - expected) < 4 * error
    # The test can fail: without the shift, or with a walk's for one with momentum, it does.
    assert abs(len(x) / n - erf(distance / np.sqrt(2 * steps) / h)) > 4 * error


def test_barrier_shift_domain() -> None:
    assert closure.barrier_shift(jitter=0.0, memory=0.9, threshold=1e-3) == 0
    for wrong in ({"jitter": -1.0}, {"memory": 1.0}, {"threshold": 0.0}):
        with pytest.raises(OutsideDomain):
            closure.barrier_shift(**{"jitter": 1.0, "memory": 0.5, "threshold": 1.0, **wrong})


def test_maximum_excess_against_simulation() -> None:
    generator = np.random.default_rng(1)
    v, largest = np.zeros(1000), np.zeros(1000)
    for t in range(1, 4001):
        v = 0.99 * v + 0.01 * generator.standard_normal(1000) ** 2
        largest = np.maximum(largest, v)
        if t in (100, 500, 4000):
            mean, std = 1 - 0.99**t, np.sqrt(2 * 0.01 / 1.99 * (1 - 0.99 ** (2 * t)))
            measured = (np.median(largest) - mean) / std
            assert closure.maximum_excess(0.01 * t) == pytest.approx(measured, abs=0.2)
    ages = np.linspace(0, 100, 401)
    assert np.all(np.diff([closure.maximum_excess(age) for age in ages]) > 0)


@given(
    name=st.sampled_from(RULES),
    regularization=st.sampled_from(["none", "l2", "decoupled", "paper"]),
    lam=st.one_of(st.just(0.0), st.floats(1e-8, 0.5)),
    sigma=st.one_of(st.just(0.0), st.floats(1e-8, 10)),
    theta0=st.floats(-10, 10),
    threshold=st.floats(1e-5, 1),
)
@settings(max_examples=40)
def test_never_nan(
    name: str, regularization: str, lam: float, sigma: float, theta0: float, threshold: float
) -> None:
    try:
        path = closure.decay(
            name, lam=lam, regularization=regularization, sigma=sigma, theta0=theta0,
            threshold=threshold, steps=200,
        )  # fmt: skip
    except OutsideDomain:
        return
    assert all(np.all(np.isfinite(x)) for x in (path.mean, path.std, path.tangent, path.jitter))
    assert closure.median_passage(path, threshold) >= 0
    assert 0 <= closure.share_below(path, threshold, 200) <= 1


def test_passage_is_sooner_for_a_higher_threshold() -> None:
    path = closure.decay("adam", lam=1e-4, sigma=NOISE, threshold=1e-3)
    times = [closure.median_passage(path, b) for b in (1e-3, 3e-3, 1e-2, 0.1, 0.5)]
    assert np.all(np.diff(times) < 0)
    assert closure.median_passage(path, 2.0) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "lion"}, "optimizer in sgd, adam"),
        ({"beta3": 0.5}, "hyperparameters of adam: lr, beta1"),
        ({"beta2": 1.0}, "0 <= beta2 < 1; got beta2 = 1"),
        ({"lam": -1.0}, "0 <= lam < inf; got lam = -1"),
        ({"lam": np.nan}, "0 <= lam < inf"),
        ({"regularization": "l1"}, "regularization in none, l2"),
        ({"sigma": [1.0, np.inf]}, "0 <= sigma < inf"),
        ({"schedule": []}, "one schedule or an array"),
        ({"threshold": 0.0}, "0 < threshold < inf"),
        ({"optimizer": "sgd", "lam": 50.0, "steps": 1000}, "theta does not diverge"),
        ({"regularization": "paper", "lam": 1.5}, "a decay of at most theta per step"),
    ],
)
def test_outside_the_domain(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OutsideDomain, match=message.replace("(", "\\(")):
        closure.decay(**{"optimizer": "adam", "lam": 1e-4, **wrong})


def test_share_below_needs_the_whole_path() -> None:
    path = closure.decay("sgd", lam=1e-2)
    with pytest.raises(OutsideDomain, match="followed for all steps"):
        closure.share_below(path, 1e-3, 10**6)

"""Stationary laws against brute force, limits and simulation."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import erf

import regdyn
from regdyn.errors import InvalidParameter, OutsideDomain
from regdyn.optimizers import OPTIMIZERS, REGULARIZATIONS, SGD, decay_placement, make_optimizer
from regdyn.theorems import momentum_sgd
from regdyn.theorems.stationary import (
    adadelta_rate,
    adam_l2_std,
    adamax_factors,
    adamax_std,
    adamw_std,
    drift_factor,
    equilibrium_ratio,
    largest_second_moment,
    sgd_std,
    share_below,
    stationary_std,
    step_rms,
)

BETAS = [(0.0, 0.95), (0.5, 0.98), (0.9, 0.99), (0.9, 0.999)]
betas1 = st.floats(0.0, 0.99)
decades = st.floats(-12, 12).map(lambda x: 10.0**x)


@given(strength=decades, beta1=betas1, eps=st.floats(0, 10), eps_root=st.floats(0, 10))
def test_the_closure_is_solved(strength: float, beta1: float, eps: float, eps_root: float) -> None:
    std = adam_l2_std(lr=strength, lam=1.0, sigma=1.0, beta1=beta1, eps=eps, eps_root=eps_root)
    q = float(std) ** 2
    # q = largest a / (2 (largest - a)), with the cancelling difference taken from q itself.
    largest = 2 * (1 + beta1) / (1 - beta1)
    a = largest * q / (largest / 2 + q)
    assert a * (np.sqrt(1 + q + eps_root) + eps) == pytest.approx(strength, rel=1e-11)


@given(beta1=betas1, eps=st.floats(0, 1))
def test_strong_noise(beta1: float, eps: float) -> None:
    std = adam_l2_std(lr=1e-9, lam=1.0, sigma=1.0, beta1=beta1, eps=eps)
    assert std == pytest.approx(np.sqrt(1e-9 / (2 * (1 + eps))), rel=1e-6)


@given(beta1=betas1, eps_share=st.floats(0, 0.9))
def test_without_noise_it_is_the_cycle(beta1: float, eps_share: float) -> None:
    lr, lam = 1e-3, 0.1
    amplitude = lr * (1 - beta1) / (2 * (1 + beta1))
    given = {"lr": lr, "lam": lam, "beta1": beta1, "eps": eps_share * amplitude * lam}
    cycle = (1 - eps_share) * amplitude
    assert adam_l2_std(sigma=0.0, **given) == pytest.approx(cycle, rel=1e-12)
    assert adam_l2_std(sigma=1e-12 * amplitude, **given) == pytest.approx(cycle, rel=1e-6)


def test_a_large_eps_ends_the_cycle() -> None:
    assert adam_l2_std(lr=1e-3, lam=1e-4, sigma=0.0, beta1=0.9, eps=1e-3) == 0


@given(lr=decades, lam=decades, sigma=decades, power=st.integers(-30, 30))
def test_scale_invariances_are_exact(lr: float, lam: float, sigma: float, power: int) -> None:
    c = 2.0**power
    std = adam_l2_std(lr=lr, lam=lam, sigma=sigma, beta1=0.9)
    assert adam_l2_std(lr=lr, lam=c * lam, sigma=c * sigma, beta1=0.9) == std
    assert adam_l2_std(lr=c * lr, lam=lam, sigma=c * sigma, beta1=0.9) == c * std


@given(a=decades, b=decades, beta1=betas1)
def test_monotonicities(a: float, b: float, beta1: float) -> None:
    low, high = sorted((a, b))
    rest = {"sigma": 1.0, "beta1": beta1}
    by_lr = adam_l2_std(lr=[low, high], lam=1.0, **rest)
    by_lam = adam_l2_std(lr=1.0, lam=[low, high], **rest)
    by_eps = adam_l2_std(lr=1.0, lam=1.0, eps=[low, high], **rest)
    slack = 1 + 1e-12
    assert by_lr[0] <= by_lr[1] * slack
    assert by_lam[0] * slack >= by_lam[1]
    assert by_eps[0] * slack >= by_eps[1]


def test_arrays_broadcast() -> None:
    lam = np.array([[1e-4], [1e-2]])
    sigma = np.array([0.0, 1e-5, 1e-3])
    table = adam_l2_std(lr=1e-3, lam=lam, sigma=sigma, beta1=0.9, eps=1e-8)
    assert table.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        single = adam_l2_std(lr=1e-3, lam=lam[i, 0], sigma=sigma[j], beta1=0.9, eps=1e-8)
        assert table[i, j] == single


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"lam": 0.0}, "lam > 0"),
        ({"lr": 0.0}, "lr > 0"),
        ({"sigma": -1.0}, "sigma >= 0"),
        ({"beta1": 1.0}, "0 <= beta1 < 1"),
        ({"eps": -1.0}, "eps >= 0"),
        ({"sigma": np.nan}, "sigma >= 0"),
        ({"sigma": 1e-320}, "floating point"),
    ],
)
def test_outside_the_closure(bad: dict[str, float], message: str) -> None:
    with pytest.raises(OutsideDomain, match=message):
        adam_l2_std(**({"lr": 1e-3, "lam": 1e-4, "sigma": 1e-5, "beta1": 0.9} | bad))


def _exact(beta1: float, beta2: float) -> tuple[float, float]:
    """E[1/sqrt v] - E[m n / v^1.5], and E[m^2 / v]: as integrals over s of E[... exp(-s v)]."""
    j = np.arange(int(40 / (1 - beta2)))
    w = (1 - beta2) * beta2**j
    m = (1 - beta1) * beta1**j

    def mean(t: float) -> float:
        return float(np.exp(-0.5 * np.sum(np.log1p(2 * t * t * w))))

    def drift(t: float) -> float:
        overlap = 2 * t * t * np.sum(m * w / (1 + 2 * t * t * w))
        return 2 / np.sqrt(np.pi) * mean(t) * (1 - overlap)

    def square(t: float) -> float:
        return 2 * t * mean(t) * float(np.sum(m**2 / (1 + 2 * t * t * w)))

    integrals = (quad(f, 0, np.inf, epsabs=1e-12, limit=200)[0] for f in (drift, square))
    return next(integrals), next(integrals)


@pytest.mark.parametrize(("beta1", "beta2"), BETAS)
def test_first_order_against_quadrature(beta1: float, beta2: float) -> None:
    drift, square = _exact(beta1, beta2)
    bound = (1 - beta2) ** 2
    assert drift_factor(beta1=beta1, beta2=beta2) == pytest.approx(drift, abs=1.1 * bound)
    step = float(step_rms(lr=1.0, beta1=beta1, beta2=beta2)) ** 2
    assert step / square == pytest.approx(1, abs=2.3 * bound)
    # Without the corrections the agreement is of first order only.
    assert abs(1 / drift - 1) > 10 * abs(drift_factor(beta1=beta1, beta2=beta2) / drift - 1)


def test_the_remainder_is_of_second_order() -> None:
    errors = [float(drift_factor(beta1=0.5, beta2=1 - d)) - _exact(0.5, 1 - d)[0] for d in (0.04, 0.02)]
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.5)


def test_a_case_that_is_exact() -> None:
    """m^2 and v weigh the squares alike if beta1^2 = beta2, and E[m^2 / v] is (1 - b1) / (1 + b1)."""
    beta1 = 0.95
    assert _exact(beta1, beta1**2)[1] == pytest.approx((1 - beta1) / (1 + beta1), rel=1e-9)


@pytest.mark.parametrize(("beta1", "beta2"), BETAS)
@pytest.mark.parametrize("decay", [1e-3, 0.1, 1.0])
def test_adamw_against_the_double_sum(beta1: float, beta2: float, decay: float) -> None:
    """Over lags k and ages j of the first-order autocovariance."""
    rho, d = 1 - decay, 1 - beta2
    w = 2 * d / (1 + beta2)
    n = 400 if beta1 < 0.8 else 700
    j, k = np.arange(n)[:, None], np.arange(n)[None, :]
    term = 1 - d * beta2**j * (1 + beta2**k) + 0.75 * w + 0.25 * w * beta2**k
    covariance = (1 - beta1) ** 2 * (beta1 ** (2.0 * j + k) * term).sum(axis=0)
    weights = np.where(np.arange(n) == 0, 1.0, 2.0) * rho ** np.arange(n)
    brute = np.sqrt(np.sum(weights * covariance) / (1 - rho**2))
    std = adamw_std(lr=1.0, decay=decay, beta1=beta1, beta2=beta2)
    assert std == pytest.approx(brute, rel=1e-10)


@given(beta1=st.floats(0, 0.9), decay=st.floats(1e-12, 0.5))
def test_adamw_without_fluctuations(beta1: float, decay: float) -> None:
    beta2 = 1 - 2.0**-50
    rho = 1 - decay
    exact = (1 - beta1) / (1 + beta1) * (1 + rho * beta1) / (1 - rho * beta1) / (decay * (2 - decay))
    assert adamw_std(lr=1.0, decay=decay, beta1=beta1, beta2=beta2) == pytest.approx(
        np.sqrt(exact), rel=1e-12
    )
    ratio = equilibrium_ratio(decay=decay, beta1=beta1, beta2=beta2)
    assert ratio == pytest.approx(np.sqrt((1 - beta1) / (1 + beta1) / exact), rel=1e-12)


def test_adamw_for_small_decay() -> None:
    std = adamw_std(lr=1e-3, decay=1e-9, beta1=0.9, beta2=1 - 1e-12)
    assert std == pytest.approx(np.sqrt(1e-3 / (2 * 1e-6)), rel=1e-7)
    ratio = equilibrium_ratio(decay=1e-9, beta1=0.9, beta2=1 - 1e-12)
    assert ratio == pytest.approx(np.sqrt(2e-9 * 0.1 / 1.9), rel=1e-7)


@given(c=st.integers(-30, 30))
def test_adamw_depends_on_eps_over_sigma(c: int) -> None:
    law = {"lr": 1e-3, "decay": 1e-4, "beta1": 0.9, "beta2": 0.99}
    here = adamw_std(sigma=1.0, eps=0.25, **law)
    assert adamw_std(sigma=2.0**c, eps=0.25 * 2.0**c, **law) == here
    assert here < adamw_std(sigma=1.0, **law)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"decay": 0.0}, "0 < decay <= 1"),
        ({"decay": 1.5}, "0 < decay <= 1"),
        ({"beta2": 1.0}, "0 <= beta2 < 1"),
        ({"beta2": 0.5}, "beta1\\^2 <= beta2"),
        ({"sigma": 0.0}, "sigma > 0"),
    ],
)
def test_outside_adamw(bad: dict[str, float], message: str) -> None:
    with pytest.raises(OutsideDomain, match=message):
        adamw_std(**({"lr": 1e-3, "decay": 1e-4, "beta1": 0.9, "beta2": 0.99} | bad))


@given(
    momentum=st.floats(0.01, 0.95),
    dampening=st.floats(0, 0.9),
    nesterov=st.booleans(),
    placement=st.sampled_from(["l2", "decoupled"]),
    lam=st.floats(0.01, 1.0),
)
def test_sgd_against_the_covariance_recursion(
    momentum: float, dampening: float, nesterov: bool, placement: str, lam: float
) -> None:
    dampening = 0.0 if nesterov else dampening
    rule = SGD(lr=0.5, momentum=momentum, dampening=dampening, nesterov=nesterov)
    l2, before, _ = decay_placement(placement, lam, rule.lr, 1.0)
    constants = rule.constants(2, rule.lr)

    def step(theta: float, buffer: float, noise: float) -> list[float]:
        new, state = rule.step(before * theta, noise + l2 * theta, (buffer,), constants)
        return [new, state[0]]

    matrix = np.column_stack([step(1.0, 0.0, 0.0), step(0.0, 1.0, 0.0)])
    intake = np.array(step(0.0, 0.0, 1.0))
    covariance = np.linalg.solve(np.eye(4) - np.kron(matrix, matrix), np.outer(intake, intake).ravel())
    law: dict[str, Any] = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
    where = {"l2": lam} if placement == "l2" else {"decay": rule.lr * lam}
    std = sgd_std(lr=rule.lr, sigma=1.0, **law, **where)
    assert std == pytest.approx(np.sqrt(covariance[0]), rel=1e-9)


def test_sgd_is_that_of_momentum_sgd() -> None:
    law = {"lr": 0.1, "momentum": 0.9, "sigma": 1e-5}
    variance = momentum_sgd.stationary_variance(lam=1e-4, **law)
    assert sgd_std(l2=1e-4, **law) ** 2 == pytest.approx(variance, rel=1e-13)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_that_diverges(nesterov: bool) -> None:
    with pytest.raises(OutsideDomain, match="diverges"):
        sgd_std(lr=1.0, sigma=1.0, momentum=0.9, nesterov=nesterov, l2=4.0)
    with pytest.raises(OutsideDomain, match="another decay"):
        sgd_std(lr=1.0, sigma=1.0)


def test_adamax_factors_against_the_product() -> None:
    beta2 = 0.98
    x = np.linspace(0.3, 12, 20_001)
    powers = beta2 ** -np.arange(400.0)[:, None]
    distribution = np.prod(erf(x * powers / np.sqrt(2)), axis=0)
    newest = 2 * np.exp(-x * x / 2) / np.sqrt(2 * np.pi) / erf(x / np.sqrt(2))
    tail = 1 / x[-1]
    drift = np.trapezoid(distribution / x**2 * (1 - x * newest), x) + tail
    spread = np.trapezoid(2 * distribution / x**3 * (1 - x * newest), x) + tail**2
    assert adamax_factors(beta2=beta2) == pytest.approx((drift, spread), rel=3e-4)


@given(beta2=st.floats(0.9, 0.9999))
def test_adamax_factors_fall_with_the_memory_and_with_eps(beta2: float) -> None:
    drift, spread = adamax_factors(beta2=beta2)
    longer = adamax_factors(beta2=1 - (1 - beta2) / 2)
    padded = adamax_factors(beta2=beta2, eps_ratio=0.5)
    below = adamax_factors(beta2=beta2, eps_denominator_ratio=0.5)
    assert 0 < longer[0] < drift < 1 and 0 < longer[1] < spread < 1
    assert padded[0] < drift and below[0] < drift


def test_adamax_with_a_tiny_eps_is_that_without() -> None:
    law = {"lr": 1e-3, "sigma": 1e-5, "beta1": 0.9, "beta2": 0.999, "l2": 1e-3}
    assert adamax_std(eps=1e-14, **law) == pytest.approx(adamax_std(**law), rel=1e-6)


@pytest.mark.parametrize(("beta2", "tolerance"), [(0.9, 0.04), (0.99, 0.01)])
def test_the_largest_second_moment_against_simulation(beta2: float, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    v, largest = np.ones(2000), np.zeros(2000)
    for _ in range(2000):
        v = beta2 * v + (1 - beta2) * rng.standard_normal(2000) ** 2
        np.maximum(largest, v, out=largest)
    predicted = largest_second_moment(steps=2000, beta2=beta2, sigma=[1.0, 2.0])
    assert np.median(largest) == pytest.approx(predicted[0], rel=tolerance)
    assert predicted[1] == 4 * predicted[0]
    assert predicted[0] < largest_second_moment(steps=4000, beta2=beta2)
    with pytest.raises(OutsideDomain, match="steps \\(1 - beta2\\) >= 10"):
        largest_second_moment(steps=9, beta2=beta2)


def test_adamax_whose_memory_is_too_short() -> None:
    with pytest.raises(OutsideDomain, match="for AdaMax"):
        adamax_std(lr=1.0, sigma=1.0, beta1=0.9, beta2=0.94, l2=0.1)


def test_adadelta_is_plain_for_small_gradients_only() -> None:
    assert adadelta_rate(sigma=1e-9, rho=0.9, eps=1e-6) == pytest.approx(1, abs=1e-9)
    assert adadelta_rate(sigma=1e-3, rho=0.9, eps=1.001e-6) < 0.95
    with pytest.raises(OutsideDomain, match="sigma\\^2 <= eps"):
        adadelta_rate(sigma=2e-3, rho=0.9, eps=1e-6)


# lr * lam, or lam where the paper's decay ignores the learning rate: settled in 1000 steps.
SETTINGS: dict[str, dict[str, float]] = {
    "sgd": {"l2": 0.1, "decoupled": 0.2, "paper": 0.02},
    "adam": {"l2": 1e-3, "decoupled": 20, "paper": 0.02},
    "amsgrad": {"l2": 1e-3, "decoupled": 20, "paper": 0.02},
    "adamax": {"l2": 1e-3, "decoupled": 10, "paper": 0.02},
    "adagrad": {"l2": 0.02, "decoupled": 2, "paper": 0.02},
    "adadelta": {"l2": 0.02, "decoupled": 0.02, "paper": 0.02},
    "rmsprop": {"l2": 1e-3, "decoupled": 20, "paper": 0.02},
}
# So large that it stays: AMSGrad's maximum and Adagrad's sum.
HELD = {"amsgrad": 1e-8, "adagrad": 1e-4}


@pytest.mark.parametrize("regularization", [r for r in REGULARIZATIONS if r != "none"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_and_placement_against_simulation(name: str, regularization: str) -> None:
    sigma, lam = 1e-5, SETTINGS[name][regularization]
    extra = {"initial_accumulator": HELD["adagrad"]} if name == "adagrad" else {}
    optimizer = make_optimizer(name, **extra)
    hyperparameters = optimizer.parameters()
    noise: Any = regdyn.Gaussian(sigma)
    if name == "amsgrad":
        # One large gradient, the same for all, sets the maximum.
        gradients = sigma * np.random.default_rng(0).standard_normal((1000, 4096))
        gradients[0] = np.sqrt(HELD["amsgrad"] / (1 - hyperparameters["beta2"]))
        noise = regdyn.Trace(gradients)
    std = stationary_std(
        name, lam=lam, sigma=sigma, regularization=regularization,
        second_moment=HELD.get(name), **hyperparameters,
    )  # fmt: skip
    result = regdyn.simulate(
        optimizer, lam=lam, regularization=regularization, noise=noise, theta0=std,
        steps=1000, trajectories=4096, times=np.arange(700, 1001, 20), seed=1,
    )  # fmt: skip
    measured = np.sqrt(np.mean(result.std**2 + result.mean**2))
    assert measured == pytest.approx(std, rel=0.02)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"regularization": "none"}, "a decay"),
        ({"lam": 0.0}, "a decay"),
        ({"lr": 0.0}, "lr > 0"),
    ],
)
def test_no_stationary_law(given: dict[str, Any], message: str) -> None:
    law = {"lr": 1e-3, "lam": 1e-4, "sigma": 1e-5, "beta1": 0.9, "beta2": 0.99} | given
    with pytest.raises(OutsideDomain, match=message):
        stationary_std("adam", **law)


@pytest.mark.parametrize("name", ["amsgrad", "adagrad"])
def test_what_never_falls_must_be_given(name: str) -> None:
    hyperparameters = make_optimizer(name).parameters()
    with pytest.raises(OutsideDomain, match=f"second moment that {name} holds"):
        stationary_std(name, lam=1e-4, sigma=1e-5, **hyperparameters)


def test_an_unknown_optimizer_lists_the_known() -> None:
    with pytest.raises(InvalidParameter, match="rmsprop"):
        stationary_std("lion", lr=1.0, lam=1.0, sigma=1.0)


@given(threshold=st.floats(1e-9, 20), std=st.floats(0.1, 10))
def test_share_below_is_the_normal_integral(threshold: float, std: float) -> None:
    density = lambda x: np.exp(-0.5 * (x / std) ** 2) / (std * np.sqrt(2 * np.pi))  # noqa: E731
    edge = min(threshold, 40 * std)
    brute = 2 * quad(density, 0, edge, epsabs=0, epsrel=1e-12, points=[min(std, edge / 2)])[0]
    assert share_below(threshold=threshold, std=std) == pytest.approx(brute, rel=1e-10)


def test_share_below_for_tiny_thresholds() -> None:
    with mpmath.workdps(50):
        exact = mpmath.erf(mpmath.mpf(1e-200) / mpmath.sqrt(2))
        assert float(share_below(threshold=1e-200, std=1.0)) == pytest.approx(float(exact), rel=1e-15)
    assert share_below(threshold=0.0, std=1.0) == 0
    with pytest.raises(OutsideDomain, match="std > 0"):
        share_below(threshold=1.0, std=0.0)


def _share(strength: float, steps: int) -> tuple[float, float]:
    """Share of time that Adam with L2 spends below half its rms: simulated, and for a normal law."""
    std = float(adam_l2_std(lr=strength, lam=1.0, sigma=1.0, beta1=0.0))
    result = regdyn.simulate(
        make_optimizer("adam", lr=strength, beta1=0.0, beta2=0.98, eps=0.0),
        lam=1.0, noise=regdyn.Gaussian(1.0), theta0=std, steps=steps, trajectories=8192,
        threshold=std / 2, times=[1], seed=2,
    )  # fmt: skip
    half = regdyn.simulate(
        make_optimizer("adam", lr=strength, beta1=0.0, beta2=0.98, eps=0.0),
        lam=1.0, noise=regdyn.Gaussian(1.0), theta0=std, steps=steps // 2, trajectories=8192,
        threshold=std / 2, times=[1], seed=2,
    )  # fmt: skip
    later = np.mean(result.steps_below - half.steps_below) / (steps - steps // 2)
    return float(later), float(share_below(threshold=0.5, std=1.0))


def test_the_share_of_time_is_that_of_a_normal_law_far_from_the_cycle() -> None:
    measured, normal = _share(0.1, 1000)
    assert measured == pytest.approx(normal, rel=0.03)
    near_the_cycle, _ = _share(100.0, 1000)
    assert near_the_cycle < 0.05 * normal

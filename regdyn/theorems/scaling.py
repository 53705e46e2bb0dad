"""How Adam's decay scales: with the batch (the square-root rule), and with the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.theorems import estimates
from regdyn.theorems.base import Assumption, Claim, Comparison, Lab, Range, Status, closed_form, require
from regdyn.theorems.stationary import drift_factor

Array = NDArray[np.float64]


@closed_form
def square_root_rule(
    k: ArrayLike,
    *,
    lr: ArrayLike,
    beta1: ArrayLike,
    beta2: ArrayLike,
    sigma: ArrayLike,
    eps: ArrayLike = 0.0,
) -> dict[str, Array]:
    r"""Hyperparameters of Adam for a batch k times as large, and the noise that comes with it.

    .. math::
        \eta \to \sqrt k\, \eta, \quad 1 - \beta_i \to k (1 - \beta_i), \quad
        \epsilon \to \epsilon / \sqrt k, \quad \sigma \to \sigma / \sqrt k

    The weight after t / k steps then has about the law that it had after t. For RMSProp set
    :math:`\beta_1 = 0`, which stays 0.

    Returns
    -------
    The scaled numbers by name; all parameters broadcast.

    Raises
    ------
    OutsideDomain
        Unless :math:`k \ge 1` and :math:`k (1 - \beta_i) \le 1`.

    Source: Malladi et al., arXiv:2205.10287.
    """
    k, beta1, beta2 = _arrays(k, beta1, beta2)
    lr, sigma, eps = _arrays(lr, sigma, eps)
    require(k >= 1, "k >= 1", k=k)
    # A rounding error must not bar the last k.
    new1, new2 = np.where(beta1 > 0, 1 - k * (1 - beta1), 0.0), 1 - k * (1 - beta2)
    require(new1 > -1e-9, "k (1 - beta1) <= 1", k=k, beta1=beta1)
    require(new2 > -1e-9, "k (1 - beta2) <= 1", k=k, beta2=beta2)
    root = np.sqrt(k)
    return {
        "lr": lr * root,
        "beta1": np.maximum(new1, 0.0),
        "beta2": np.maximum(new2, 0.0),
        "sigma": sigma / root,
        "eps": eps / root,
    }


@closed_form
def square_root_error(
    k: ArrayLike,
    *,
    lr: ArrayLike,
    lam: ArrayLike,
    sigma: ArrayLike,
    beta2: ArrayLike,
    theta0: ArrayLike,
) -> Array:
    r"""How much the square-root rule may change mean and std of a weight under L2, relatively.

    Up to the time in which the mean falls e-fold,

    .. math::
        (k - 1) \left( \tfrac58 (1 - \beta_2) + 2 R + \tfrac13 y^2 \right), \qquad
        R = \frac{\eta \lambda}{\sigma}, \quad y = \frac{\lambda \theta_0}{\sigma}:

    the fluctuations of v grow (`drift_factor`), so do its share of theta's spread and the length of a
    step, and a gradient that stands out of the smaller noise. In the stationary state the last two
    have 3/4 and 0.22 before R and y^2; 2 and 1/3 cover the start from v = 0 for
    :math:`\beta_1 \le 0.95` and :math:`R \ge 0.002`.

    Source: ours; the constants 2 and 1/3 are fitted to simulations, as bounds.
    """
    (k,) = _arrays(k)
    require(k >= 1, "k >= 1", k=k)
    return np.asarray((k - 1) * _change_per_batch(lr, lam, sigma, beta2, theta0))


@closed_form
def largest_batch_factor(
    *,
    lr: ArrayLike,
    lam: ArrayLike,
    sigma: ArrayLike,
    beta1: ArrayLike,
    beta2: ArrayLike,
    theta0: ArrayLike,
    tolerance: ArrayLike = 0.05,
) -> Array:
    r"""Up to which k the square-root rule changes mean and std by less than `tolerance`.

    .. math::
        \min\left(\frac{1}{1 - \beta_1}, \frac{1}{1 - \beta_2},
        1 + \frac{\text{tolerance}}{\tfrac58 (1 - \beta_2) + 2 R + \tfrac13 y^2}\right)

    with R and y as in `square_root_error`; without the first term for RMSProp, beta1 = 0.

    Source: ours.
    """
    beta1, beta2, tolerance = _arrays(beta1, beta2, tolerance)
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        require((beta >= 0) & (beta < 1), f"0 <= {name} < 1", **{name: beta})
    change = _change_per_batch(lr, lam, sigma, beta2, theta0)
    memory = np.where(beta1 > 0, np.minimum(1 / (1 - beta1), 1 / (1 - beta2)), 1 / (1 - beta2))
    return np.asarray(np.minimum(memory, 1 + tolerance / change))


def _arrays(*numbers: ArrayLike) -> tuple[Array, ...]:
    return tuple(np.asarray(x, dtype=float) for x in numbers)


def _change_per_batch(
    lr: ArrayLike, lam: ArrayLike, sigma: ArrayLike, beta2: ArrayLike, theta0: ArrayLike
) -> Array:
    lr, lam, sigma = _arrays(lr, lam, sigma)
    beta2, theta0 = _arrays(beta2, theta0)
    require(sigma > 0, "sigma > 0", sigma=sigma)
    return 0.625 * (1 - beta2) + 2 * lr * lam / sigma + (lam * theta0 / sigma) ** 2 / 3


@closed_form
def adam_l2_decay_rate(
    *,
    lr: ArrayLike,
    lam: ArrayLike,
    sigma: ArrayLike,
    beta1: ArrayLike,
    beta2: ArrayLike,
    eps: ArrayLike = 0.0,
    eps_root: ArrayLike = 0.0,
) -> Array:
    r"""Rate r of :math:`E\theta_t \propto e^{-r t}` under Adam with L2 while the noise dominates.

    .. math::
        r = -\ln z_+ \approx \frac{\eta \lambda D}{\sigma + \epsilon}

    with D as in `regdyn.theorems.stationary.drift_factor` and :math:`z_+` the slow root of
    :math:`z^2 - (1 + \beta_1 - (1 - \beta_1) a) z + \beta_1`, :math:`a = \eta \lambda D / \sigma`.
    Leaves out terms of relative size R / 4 and :math:`\lambda^2 \theta^2 / (2 \sigma^2)`: within 2
    percent for :math:`R = \eta \lambda / \sigma \le 0.02`, :math:`\lambda \theta \le \sigma / 10`.

    Raises
    ------
    OutsideDomain
        Without noise, or where the mean oscillates: unless :math:`\sqrt{a (1 - \beta_1)} \le 1 -
        \sqrt{\beta_1}`.

    Source: ours.
    """
    sigma, beta1, lr, lam = _arrays(sigma, beta1, lr, lam)
    eps, eps_root = _arrays(eps, eps_root)
    require(sigma > 0, "sigma > 0", sigma=sigma)
    factor = drift_factor(
        beta1=beta1, beta2=beta2, eps_ratio=eps / sigma, eps_root_ratio=eps_root / sigma**2
    )
    pull = (1 - beta1) * lr * lam / sigma * factor
    require(
        np.sqrt(pull) <= 1 - np.sqrt(beta1),
        "sqrt((1 - beta1) lr lam D / sigma) <= 1 - sqrt(beta1)",
        lr=lr, lam=lam, sigma=sigma,
    )  # fmt: skip
    # 1 - z+ without cancellation.
    middle = 1 - beta1 + pull
    return np.asarray(-np.log1p(-2 * pull / (middle + np.sqrt(np.maximum(middle**2 - 4 * pull, 0.0)))))


@closed_form
def decoupled_decay_rate(*, lr: ArrayLike, lam: ArrayLike) -> Array:
    r"""Rate of the mean of a weight under decoupled decay, whatever the noise and the rule.

    .. math::
        r = -\ln(1 - \eta \lambda)

    Exact: the steps do not depend on theta, so that theta_t is :math:`(1 - \eta \lambda)^t \theta_0`
    plus a sum of mean 0.

    Raises
    ------
    OutsideDomain
        Unless :math:`0 \le \eta \lambda < 1`.

    Source: the update rule; Loshchilov and Hutter, arXiv:1711.05101.
    """
    decay = np.asarray(lr, dtype=float) * lam
    require((decay >= 0) & (decay < 1), "0 <= lr lam < 1", lr=lr, lam=lam)
    return np.asarray(-np.log1p(-decay))


def _pair(lab: Lab, theta0: float, **run: Any) -> tuple[Array, Array]:
    """Ends of two ensembles under the same noise from theta0 and -theta0: half the difference, both.

    Half the difference has the mean of the first and nearly none of its spread.
    """
    up, down = (lab.weight("adam", theta0=sign * theta0, times=[1], **run).final for sign in (1, -1))
    return (up - down) / 2, np.concatenate([up, down])


def _log_error(samples: Array) -> tuple[float, float]:
    """A sample's mean and the relative error of that."""
    average = float(samples.mean())
    return average, float(samples.std() / np.sqrt(len(samples)) / abs(average))


def _under_square_root_rule(
    lab: Lab, *, k: int, strength: float, beta1: float, beta2: float, signal: float
) -> Comparison:
    n = lab.size(32_768)
    steps = max(round(1 / strength / k), 1)
    law: dict[str, Any] = {"lr": strength, "beta1": beta1, "beta2": beta2, "sigma": 1.0}
    both = []
    for factor in (1, k):
        scaled = {name: float(x) for name, x in square_root_rule(factor, **law).items()}
        half, ends = _pair(
            lab, signal, lam=1.0, steps=steps * k // factor, trajectories=n, replicate=factor, **scaled
        )
        squares = (ends - np.repeat([ends[:n].mean(), ends[n:].mean()], n)) ** 2
        # The twins share their noise: they count as one.
        both.append([*_log_error(half), *_log_error((squares[:n] + squares[n:]) / 2)])
    (mean, mean_error, square, square_error), changed = both
    ratio = np.array([changed[0] / mean, np.sqrt(changed[2] / square)])
    relative = np.hypot([mean_error, square_error / 2], [changed[1], changed[3] / 2])
    return Comparison(
        measured=estimates.with_error(ratio, ratio * relative, n),
        predicted=[1.0, 1.0],
        # Were lr k the right rule, lr sqrt(k) would be 1 / sqrt(k) too small.
        control=[np.exp(1 - 1 / np.sqrt(k)), k**-0.25],
        x=[1, 2],
        x_label="mean, std",
        y_label="scaled run over original",
    )


def _rates(
    lab: Lab, *, strength: float, beta1: float, beta2: float, signal: float, factor: float
) -> Comparison:
    n = lab.size(2048)
    law: dict[str, Any] = {"lr": strength, "lam": 1.0, "beta1": beta1, "beta2": beta2}
    # Settled moments, but not so late that the mean is lost in what the pairs' difference scatters.
    start = int(np.ceil(min(3 / (1 - beta2) + 3 / (1 - beta1), 3 / strength)))
    rates, rate_errors, predicted, swapped = [], [], [], []
    for placement in ("l2", "decoupled"):
        for sigma in (1.0, factor):
            rate = decoupled_decay_rate(lr=strength, lam=1.0)
            if placement == "l2":
                rate = adam_l2_decay_rate(sigma=sigma, eps=0.0, **law)
            length = int(np.ceil(1 / rate))
            run = {"regularization": placement, "sigma": sigma, "eps": 0.0, "trajectories": n, **law}
            early, late = (_pair(lab, signal, steps=t, **run)[0] for t in (start, start + length))
            averages = early.mean(), late.mean()
            rates.append(np.log(averages[0] / averages[1]) / length)
            error = (early / averages[0] - late / averages[1]).std() / np.sqrt(n)
            rate_errors.append(error / length)
            predicted.append(float(rate))
            swapped.append(float(rate * sigma if placement == "l2" else rate / sigma))
    return Comparison(
        measured=estimates.with_error(rates, rate_errors, n),
        predicted=predicted,
        control=swapped,
        x=[1.0, factor, 1.0, factor],
        x_label="sigma (first two: Adam with L2, last two: AdamW)",
        y_label="decay rate of the mean, per step",
        log_x=True,
        log_y=True,
    )


def _small_error(k: int, strength: float, beta1: float, beta2: float, signal: float) -> bool:
    units = {"lr": strength, "lam": 1.0, "sigma": 1.0, "theta0": signal}
    return bool(k <= largest_batch_factor(beta1=beta1, beta2=beta2, **units) * (1 + 1e-9))


CLAIMS = (
    Claim(
        id="B7",
        paper="Malladi et al. 2022 (arXiv:2205.10287), the square-root scaling rule",
        statement="Under (sqrt(k) lr, 1 - k (1 - b1), 1 - k (1 - b2), sigma / sqrt(k)) Adam with L2 "
        "has after t / k steps the mean and std that it had after t, within 5 percent while "
        "(k - 1) (5/8 (1 - b2) + 2 R + y^2 / 3) <= 0.05 and k (1 - b1) <= 1; "
        "R = lr lam / sigma, y = lam theta0 / sigma.",
        status=Status.LATER,
        printed="The rule, exact in the limit of small steps and dominating noise; until which k it "
        "serves is not printed.",
        finding="It leaves mean and std unchanged to first order. The error grows as k - 1 times the "
        "sum of three: 5/8 (1 - b2), as v then fluctuates more; R, as a decay then takes fewer steps; "
        "and y^2, the weight's own gradient against the noise. With b2 = 0.99 that is 5 percent at "
        "k = 8 however small R and y; with b1 = 0.9 the rule ends at k = 10, where no momentum is "
        "left. For lam theta0 > sigma it fails: Adam then moves lr a step, and t / k steps of "
        "sqrt(k) lr fall short by sqrt(k).",
        equation=r"$(\eta,\,1-\beta_i,\,\sigma,\,t) \to "
        r"(\sqrt{k}\,\eta,\,k(1-\beta_i),\,\sigma/\sqrt{k},\,t/k)$",
        derivation="scaling",
        experiment=_under_square_root_rule,
        control="the linear rule, lr k: if that were right, sqrt(k) lr would decay too slowly",
        cases=(
            {"k": 2, "strength": 0.005, "beta1": 0.9, "beta2": 0.99, "signal": 0.1},
            {"k": 4, "strength": 0.002, "beta1": 0.9, "beta2": 0.999, "signal": 0.05},
        ),
        more_cases=(
            {"k": 8, "strength": 0.002, "beta1": 0.9, "beta2": 0.999, "signal": 0.02},
            {"k": 4, "strength": 0.003, "beta1": 0.0, "beta2": 0.995, "signal": 0.02},
        ),
        domain={
            "k": Range(2, 10, integer=True),
            "strength": Range(0.002, 0.02, log=True),
            "beta1": Range(0.0, 0.95),
            "beta2": Range(0.98, 0.9995),
            "signal": Range(0.01, 0.3, log=True),
        },
        assumptions=(
            Assumption(
                "k <= min(1/(1-b1), 1/(1-b2), 1 + 0.05 / (5/8 (1-b2) + 2 R + y^2/3))", _small_error
            ),
        ),
        tolerance=0.05,
        exact=False,
        recorded="holds",
    ),
    Claim(
        id="B9",
        paper="none in print; compare Loshchilov and Hutter 2019 (arXiv:1711.05101)",
        statement="While the noise dominates, the mean of a weight under Adam with L2 decays at the "
        "rate lr lam D / sigma, D = 1 - 5/8 (1 - b2) about, and under AdamW at -ln(1 - lr lam) "
        "whatever sigma.",
        status=Status.OURS,
        printed="That L2 under Adam is scaled by the gradients' size, and decoupled decay is not.",
        finding="AdamW's rate is exact, for every noise and rule: the steps do not see the weight. "
        "Adam with L2 follows 1 / sigma within 2 percent for R = lr lam / sigma <= 0.02 and "
        "lam theta <= sigma / 10; the factor D, 0.994 at b2 = 0.99, is measured too. The noise ceases "
        "to dominate at lam theta = sigma, above which Adam moves by lr a step.",
        equation=r"$-\frac{d}{dt}\ln E\theta = \frac{\eta\lambda D}{\sigma}$ (L2), "
        r"$-\ln(1-\eta\lambda)$ (decoupled)",
        derivation="scaling",
        experiment=_rates,
        control="swapped: L2's rate independent of sigma, the decoupled one proportional to 1 / sigma",
        cases=(
            {"strength": 0.01, "beta1": 0.9, "beta2": 0.99, "signal": 0.02, "factor": 3.0},
            {"strength": 0.005, "beta1": 0.0, "beta2": 0.95, "signal": 0.02, "factor": 3.0},
        ),
        more_cases=(
            {"strength": 0.002, "beta1": 0.9, "beta2": 0.999, "signal": 0.05, "factor": 2.0},
            {"strength": 0.01, "beta1": 0.5, "beta2": 0.98, "signal": 0.01, "factor": 10.0},
        ),
        domain={
            "strength": Range(0.002, 0.02, log=True),
            "beta1": Range(0.0, 0.9),
            "beta2": Range(0.95, 0.999),
            "signal": Range(0.01, 0.1, log=True),
            "factor": Range(1.5, 10.0, log=True),
        },
        tolerance=0.02,
        exact=False,
        recorded="holds",
    ),
)

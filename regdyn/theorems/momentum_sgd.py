"""SGD with momentum and L2 on one weight: the mean in closed form, mean and covariance under noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.theorems.base import (
    Assumption,
    Claim,
    Comparison,
    Lab,
    Range,
    Relation,
    Status,
    closed_form,
    require,
)
from regdyn.theorems.estimates import exact, joined, std, with_error

Array = NDArray[np.float64]

# Critical momentum computed in floating point may leave a discriminant of the order of the rounding.
_ROUNDING = 1e-15


# --- The mean -------------------------------------------------------------------------------------


@closed_form
def critical_momentum(*, lr: ArrayLike, lam: ArrayLike) -> Array:
    r"""The largest momentum without oscillation, :math:`(1 - \sqrt a)^2` with :math:`a = \eta \lambda`.

    Raises
    ------
    OutsideDomain
        Unless :math:`0 \le a \le 1`.

    Source: yaguchi2018, proposition III.1, reconstructed; derived in theory/momentum_sgd.py.
    """
    a = np.multiply(lr, lam)
    require((a >= 0) & (a <= 1), "0 <= lr * lam <= 1", lr=lr, lam=lam)
    return np.asarray((1.0 - np.sqrt(a)) ** 2)


def _decrements(lr: ArrayLike, momentum: ArrayLike, lam: ArrayLike) -> tuple[Array, Array, Array]:
    """a and 1 - z+, 1 - z-, without cancellation where a is tiny."""
    a, mu = np.broadcast_arrays(np.multiply(lr, lam), np.asarray(momentum, dtype=float))
    require((mu >= 0) & (mu < 1), "0 <= momentum < 1", momentum=mu)
    require(a >= 0, "lr * lam >= 0", lr=lr, lam=lam)
    root = np.sqrt(a)
    discriminant = ((1 - root) ** 2 - mu) * ((1 + root) ** 2 - mu)
    require(
        (discriminant >= -_ROUNDING) & (a <= 1),
        "real positive roots, lr * lam <= (1 - sqrt(momentum))^2",
        lr=lr, momentum=mu, lam=lam,
    )  # fmt: skip
    largest = ((1 - mu + a) + np.sqrt(np.maximum(discriminant, 0.0))) / 2
    return a, a / largest, largest


@closed_form
def roots(*, lr: ArrayLike, momentum: ArrayLike, lam: ArrayLike) -> tuple[Array, Array]:
    r"""Both roots of the recursion of the mean, the larger one first.

    .. math::
        z_\pm = \frac{1 + \mu - a \pm \sqrt{(1 + \mu - a)^2 - 4 \mu}}{2}, \qquad a = \eta \lambda

    Real and positive iff :math:`a \le (1 - \sqrt\mu)^2`; then
    :math:`\mu \le z_- \le \sqrt\mu \le z_+ \le 1 - a` and :math:`z_+ \approx 1 - a / (1 - \mu)`.

    Raises
    ------
    OutsideDomain
        For complex roots, and unless :math:`0 \le \mu < 1`, :math:`a \ge 0`.

    Source: yaguchi2018, appendix VI-A, reconstructed; derived in theory/momentum_sgd.py.
    """
    _, slow, fast = _decrements(lr, momentum, lam)
    return 1 - slow, 1 - fast


@closed_form
def mean(
    t: ArrayLike, *, lr: ArrayLike, momentum: ArrayLike, lam: ArrayLike, theta0: ArrayLike = 1.0
) -> Array:
    r"""Mean of :math:`\theta_t`, which is :math:`\theta_t` itself without noise.

    .. math::
        \theta_0 \left(c_+ z_+^t + (1 - c_+) z_-^t\right), \qquad
        c_+ = \frac{1 - a - z_-}{z_+ - z_-}

    and, where the roots meet at :math:`\mu = (1 - \sqrt a)^2`,
    :math:`\theta_0 \sqrt\mu^t (1 + \sqrt a\, t)`. Written with the divided difference
    :math:`(z_+^t - z_-^t) / (z_+ - z_-)`, so that it is accurate there and for tiny a.

    Parameters
    ----------
    t
        Number of steps, any shape; all arguments broadcast.
    lr, momentum, lam
        :math:`\eta, \mu, \lambda`, with :math:`a = \eta \lambda`.
    theta0
        Start of the weight; the buffer starts at 0, which is :math:`\theta_{-1} = \theta_0`.

    Raises
    ------
    OutsideDomain
        For complex roots, t < 0, and unless :math:`0 \le \mu < 1`, :math:`a \ge 0`.

    Source: yaguchi2018, proposition III.1, reconstructed; derived in theory/momentum_sgd.py.
    """
    steps = np.asarray(t, dtype=float)
    require(steps >= 0, "t >= 0", t=steps)
    _, slow, _ = _decrements(lr, momentum, lam)
    mu = np.asarray(momentum, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ln_plus = np.log1p(-slow)
        # z- = mu / z+ is 0 without momentum, and its logarithm -inf.
        ln_minus = np.log(mu) - ln_plus
        gap = np.minimum(ln_minus - ln_plus, 0.0)
        ratio = np.where(gap == 0, steps, np.expm1(steps * gap) / np.expm1(gap))
        difference = np.exp((steps - 1) * ln_plus) * ratio
        # 1 - a - z- = z+ - mu, as the roots add up to 1 + mu - a.
        unit = np.exp(steps * ln_minus) + ((1 - mu) - slow) * difference
        # z+ = 0 only for a = 1 without momentum: dead after one step.
        unit = np.where(steps == 0, 1.0, np.where(slow == 1, 0.0, unit))
    return np.asarray(theta0 * unit)


@closed_form
def first_passage(
    *, lr: ArrayLike, momentum: ArrayLike, lam: ArrayLike, theta0: ArrayLike, threshold: ArrayLike
) -> Array:
    r"""Number of steps until the mean is below the threshold.

    The smallest whole t with :math:`|\theta_t| < s`, by bisection of :func:`mean`, which falls
    monotonically; :math:`(\ln(|\theta_0| / s) + \ln c_+) / (-\ln z_+)` once :math:`z_-^t` is gone.

    Parameters
    ----------
    lr, momentum, lam
        :math:`\eta, \mu, \lambda`.
    theta0, threshold
        Start :math:`\theta_0` and threshold s > 0.

    Returns
    -------
    Whole numbers as floats, 0 where the start is below the threshold.

    Raises
    ------
    OutsideDomain
        For complex roots, no decay (:math:`\eta \lambda = 0`), or a threshold of 0.

    Source: theory/momentum_sgd.py.
    """
    require(np.multiply(lr, lam) > 0, "lr * lam > 0", lr=lr, lam=lam)
    require(np.asarray(threshold) > 0, "threshold > 0", threshold=threshold)
    require(np.isfinite(theta0), "a finite theta0", theta0=theta0)
    _, slow, _ = _decrements(lr, momentum, lam)
    start = np.abs(np.asarray(theta0, dtype=float))
    level, start, slow = np.broadcast_arrays(np.asarray(threshold, dtype=float), start, slow)
    with np.errstate(divide="ignore"):
        # c+ z+^t is above the mean, and c+ = (1 - a - z-) / (z+ - z-) is at most 1 + t.
        e_folds = np.log(np.maximum(start, level)) - np.log(level) + 1
        high = np.ceil(4 * (e_folds + np.log(e_folds / slow + 1)) / -np.log1p(-slow)) + 2
    low = np.full_like(high, -1.0)
    # Beyond 2^53 steps a float has no whole number between its neighbours.
    while np.any(((middle := np.floor((low + high) / 2)) > low) & (middle < high)):
        weight = mean(np.maximum(middle, 0), lr=lr, momentum=momentum, lam=lam, theta0=start)
        below = weight < level
        high = np.where(below, middle, high)
        low = np.where(below, low, middle)
    return np.asarray(high)


# --- Under noise ----------------------------------------------------------------------------------


@closed_form
def moments(
    steps: int, *, lr: float, momentum: float, lam: float, sigma: ArrayLike, theta0: float
) -> tuple[Array, Array]:
    r"""Mean and variance of :math:`\theta_t` for t = 0 … `steps`: a part of :func:`state_moments`.

    Returns
    -------
    Mean and variance, each of shape (steps + 1,).
    """
    means, covariances = state_moments(
        steps, lr=lr, momentum=momentum, lam=lam, sigma=sigma, theta0=theta0
    )
    return means[:, 0], covariances[:, 0, 0]


@closed_form
def state_moments(
    steps: int, *, lr: float, momentum: float, lam: float, sigma: ArrayLike, theta0: float
) -> tuple[Array, Array]:
    r"""Mean and covariance of :math:`x_t = (\theta_t, b_t)` for t = 0 … `steps`.

    With buffer b (0 at the start) and noise :math:`\xi_t \sim N(0, \sigma_t^2)`,

    .. math::
        b_t = \mu b_{t-1} + \lambda \theta_{t-1} + \xi_t, \qquad
        \theta_t = \theta_{t-1} - \eta b_t,

    is linear in x: with M and q from theory/momentum_sgd.py,

    .. math::
        E x_t = M\, E x_{t-1}, \qquad
        \operatorname{Cov} x_t = M \operatorname{Cov} x_{t-1} M^T + \sigma_t^2 q q^T.

    Parameters
    ----------
    steps
        Number of steps.
    lr, momentum, lam
        :math:`\eta, \mu, \lambda`.
    sigma
        Std of the noise at each step, shape (steps,), or one for all.
    theta0
        Start of the weight.

    Returns
    -------
    Means of shape (steps + 1, 2) and covariances of shape (steps + 1, 2, 2).

    Source: the update rule; yaguchi2018, proposition III.1, is the mean.
    """
    variances = np.broadcast_to(np.asarray(sigma, dtype=float), (steps,)) ** 2
    transition, intake = transition_matrix(lr=lr, momentum=momentum, lam=lam)
    noise = np.outer(intake, intake)
    means, covariances = np.empty((steps + 1, 2)), np.empty((steps + 1, 2, 2))
    means[0], covariances[0] = (theta0, 0.0), 0.0
    for t in range(steps):
        means[t + 1] = transition @ means[t]
        covariances[t + 1] = transition @ covariances[t] @ transition.T + variances[t] * noise
    return means, covariances


@closed_form
def transition_matrix(*, lr: float, momentum: float, lam: float) -> tuple[Array, Array]:
    r"""M and q of :math:`x_t = M x_{t-1} + q \xi_t` for :math:`x = (\theta, b)`."""
    transition = np.array([[1.0 - lr * lam, -lr * momentum], [lam, momentum]])
    return transition, np.array([-lr, 1.0])


@closed_form
def stationary_variance(
    *, lr: ArrayLike, momentum: ArrayLike, lam: ArrayLike, sigma: ArrayLike
) -> Array:
    r"""Variance of :math:`\theta_t` for t to infinity under constant noise.

    .. math::
        \operatorname{Var} \theta
        = \frac{\eta \sigma^2 (1 + \mu)}{\lambda (1 - \mu) (2 (1 + \mu) - \eta \lambda)}

    Raises
    ------
    OutsideDomain
        Unless :math:`0 < \eta \lambda < 2 (1 + \mu)`, without which there is no stationary law.

    Source: Liu, Ziyin and Ueda, arXiv:2012.03636; derived in theory/momentum_sgd.py.
    """
    bracket = _stability_bracket(lr, momentum, lam)
    mu = np.asarray(momentum, dtype=float)
    return np.asarray(np.divide(lr, lam) * np.square(sigma) * (1 + mu) / ((1 - mu) * bracket))


@closed_form
def stationary_covariance(
    *, lr: ArrayLike, momentum: ArrayLike, lam: ArrayLike, sigma: ArrayLike
) -> Array:
    r"""Covariance of :math:`(\theta_t, b_t)` for t to infinity under constant noise.

    .. math::
        \operatorname{Var} b = \frac{2 \sigma^2}{(1 - \mu) (2 (1 + \mu) - \eta \lambda)}, \qquad
        \operatorname{Cov}(\theta, b) = -\frac{\eta}{2} \operatorname{Var} b

    beside :func:`stationary_variance`.

    Returns
    -------
    Shape (..., 2, 2).

    Raises
    ------
    OutsideDomain
        Unless :math:`0 < \eta \lambda < 2 (1 + \mu)`.

    Source: theory/momentum_sgd.py.
    """
    theta = stationary_variance(lr=lr, momentum=momentum, lam=lam, sigma=sigma)
    mu = np.asarray(momentum, dtype=float)
    buffer = 2 * np.square(sigma) / ((1 - mu) * _stability_bracket(lr, momentum, lam))
    theta, buffer, both = np.broadcast_arrays(theta, buffer, -np.asarray(lr) / 2 * buffer)
    return np.stack([np.stack([theta, both], -1), np.stack([both, buffer], -1)], -2)


def _stability_bracket(lr: ArrayLike, momentum: ArrayLike, lam: ArrayLike) -> Array:
    mu = np.asarray(momentum, dtype=float)
    require((mu >= 0) & (mu < 1), "0 <= momentum < 1", momentum=mu)
    a = np.multiply(lr, lam)
    require(
        (a > 0) & (a < 2 * (1 + mu)),
        "a stationary law, 0 < lr * lam < 2 (1 + momentum)",
        lr=lr, momentum=mu, lam=lam,
    )  # fmt: skip
    return np.asarray(2 * (1 + mu) - a)


# --- Claims ---------------------------------------------------------------------------------------


def _recorded_steps(last: float, points: int = 24) -> NDArray[np.int64]:
    return np.unique(np.geomspace(1, last, points).round().astype(np.int64))


def _compare_mean(lab: Lab, lr: float, momentum: float, lam: float) -> Comparison:
    parameters: dict[str, Any] = dict(lr=lr, momentum=momentum, lam=lam)
    last = first_passage(**parameters, theta0=1.0, threshold=1e-9)
    t = _recorded_steps(float(last))
    path = lab.weight("sgd", **parameters, steps=int(t[-1]), keep=1).paths[:, 0]
    return Comparison(
        measured=exact(path[t]),
        predicted=mean(t, **parameters),
        control=(1 - lr * lam) ** t,
        x=t,
        x_label="step t",
        y_label="w[t] / w[0]",
        log_x=True,
        log_y=True,
    )


def _compare_critical(lab: Lab, lr: float, lam: float) -> Comparison:
    momentum = float(critical_momentum(lr=lr, lam=lam))
    root = np.sqrt(momentum)
    t = _recorded_steps(20 / -np.log(root))
    path = lab.weight(
        "sgd", lr=lr, momentum=momentum, lam=lam, steps=int(t[-1]), keep=1
    ).paths[:, 0]  # fmt: skip
    return Comparison(
        measured=exact(path[t]),
        predicted=root**t,
        control=momentum**t,
        x=t,
        x_label="step t",
        y_label="w[t] / w[0]",
        log_x=True,
        log_y=True,
    )


def _compare_moments(lab: Lab, lr: float, momentum: float, lam: float, sigma: float) -> Comparison:
    parameters: dict[str, Any] = dict(lr=lr, momentum=momentum, lam=lam)
    stationary = np.sqrt(stationary_covariance(**parameters, sigma=sigma)[[0, 1], [0, 1]])
    theta0 = 10 * float(stationary[0])
    # By then the variance is within 1e-5 of its limit.
    matrix, _ = transition_matrix(**parameters)
    slowest = max(np.abs(np.linalg.eigvals(matrix)).max(), 0.01)
    last = int(np.ceil(np.log(1e5) / (-2 * np.log(slowest)))) + 4
    t = np.unique([1, 2, max(last // 8, 1), last // 3])
    means, covariances = state_moments(last, **parameters, sigma=sigma, theta0=theta0)
    spread = np.sqrt(covariances[:, 0, 0])
    visible = t[np.abs(means[t, 0]) > 3 * spread[t]]

    n = lab.size(524_288)
    run: dict[str, Any] = dict(
        lr=lr, momentum=momentum, lam=lam, sigma=sigma, theta0=theta0, trajectories=n
    )
    before = lab.weight("sgd", steps=last - 1, times=[last - 1], **run).final
    result = lab.weight("sgd", steps=last, times=[*t, last], **run)
    at = {int(step): i for i, step in enumerate(result.times)}
    spreads = result.std[[at[int(step)] for step in t]]
    measured = joined(
        with_error(spreads, spreads / np.sqrt(2 * n), n),
        std(result.final, about=0.0),
        std((before - result.final) / lr, about=0.0),
        with_error(result.mean[[at[int(step)] for step in visible]], spread[visible] / np.sqrt(n), n),
    )
    small_steps = np.sqrt(1 - lr * lam / (2 * (1 + momentum)))
    predicted = np.concatenate([spread[t], stationary, means[visible, 0]])
    control = np.concatenate([spread[t] * small_steps, stationary * small_steps, means[visible, 0]])
    return Comparison(
        measured=measured,
        predicted=predicted,
        control=control,
        x=np.concatenate([t, [last, last], visible]),
        x_label="step t",
        y_label="std of theta (and, last, of the buffer), mean of theta",
        log_y=True,
    )


CLAIMS = (
    Claim(
        id="A1a",
        paper="yaguchi2018, proposition III.1",
        statement="SGD with momentum and L2 alone: w[t] = w0 (c+ z+^t + (1 - c+) z-^t), c+ = (1 - a - "
        "z-)/(z+ - z-), with real roots for a = lr lambda <= (1 - sqrt mu)^2.",
        status=Status.RECONSTRUCTED,
        printed="A decay rate for momentum SGD below the critical momentum; its formula is lost. "
        "Restored from the recursion in the paper's appendix, w[-1] = w[0].",
        finding="Holds as an identity. The rate per step z+ lies between sqrt(mu) and 1 - a, so that "
        "any mu up to the critical one is faster than plain SGD; z+ = 1 - a/(1 - mu) to first order in "
        "a. Above the critical mu the roots are complex and w oscillates.",
        equation=r"$w_t = w_0 (c_+ z_+^t + (1 - c_+) z_-^t),\quad "
        r"z_\pm = \frac{1}{2}(1 + \mu - a \pm \sqrt{(1 + \mu - a)^2 - 4\mu})$",
        derivation="momentum_sgd",
        experiment=_compare_mean,
        control="plain SGD's (1 - a)^t: no momentum",
        cases=(
            dict(lr=0.1, momentum=0.9, lam=0.01),
            dict(lr=0.1, momentum=0.5, lam=0.5),
            dict(lr=0.1, momentum=0.81, lam=0.1),
        ),
        more_cases=(
            dict(lr=0.01, momentum=0.9, lam=0.01),
            dict(lr=0.5, momentum=0.0, lam=0.3),
            dict(lr=1.0, momentum=0.95, lam=5e-4),
        ),
        domain=dict(
            lr=Range(0.01, 1.0, log=True), momentum=Range(0.0, 0.95), lam=Range(5e-4, 1.0, log=True)
        ),
        assumptions=(
            Assumption(
                "real roots: lr lambda <= (1 - sqrt mu)^2",
                lambda lr, momentum, lam: lr * lam <= (1 - momentum**0.5) ** 2 + 1e-15,
            ),
        ),
        tolerance=1e-9,
        recorded="holds",
    ),
    Claim(
        id="A1b",
        paper="yaguchi2018, proposition III.1",
        statement="At mu = (1 - sqrt a)^2 momentum SGD decays at the rate sqrt(mu): w[t] <= w0 "
        "sqrt(mu)^t = w0 (1 - sqrt a)^t.",
        status=Status.RECONSTRUCTED,
        printed="With the best momentum the weight is said to decay at a rate like Nesterov's; the "
        "formula is lost and read here as the bare geometric law of the double root.",
        finding="The law at the critical mu is w0 sqrt(mu)^t (1 + sqrt(a) t): sqrt(mu) is the limit of "
        "w[t]^(1/t), but w[t] / sqrt(mu)^t grows without bound, so that no constant times sqrt(mu)^t "
        "bounds it. Down to 1e-6 w0 it takes 1.2 times the steps of the bare rate; the gain over plain "
        "SGD, 1/sqrt(a) instead of 1/a steps, remains. A1a contains the right law.",
        counterexample="t = 1, any a in (0, 1): w[1] = (1 - a) w0 > (1 - sqrt a) w0.",
        equation=r"$w_t = w_0 \sqrt{\mu}^{\,t} (1 + \sqrt{a}\, t),\quad \mu = (1 - \sqrt{a})^2$",
        derivation="momentum_sgd",
        experiment=_compare_critical,
        control="mu instead of sqrt(mu)",
        cases=(dict(lr=0.1, lam=0.1), dict(lr=0.1, lam=1e-3), dict(lr=0.5, lam=0.5)),
        more_cases=(dict(lr=0.1, lam=1e-5), dict(lr=0.01, lam=0.01)),
        domain=dict(lr=Range(0.01, 1.0, log=True), lam=Range(1e-5, 0.9, log=True)),
        relation=Relation.AT_MOST,
        recorded="refuted",
    ),
    Claim(
        id="B5",
        paper="Liu, Ziyin and Ueda, arXiv:2012.03636",
        statement="SGD with momentum and L2 under noise N(0, sigma^2): stationary variance lr sigma^2 "
        "(1 + mu) / (lambda (1 - mu)(2 (1 + mu) - lr lambda)), and mean and covariance of (theta, "
        "buffer) at every step from a linear recursion.",
        status=Status.LATER,
        printed="Printed for quadratic losses; L2 on an idle weight is one. The recursion is ours.",
        finding="Holds as an identity for 0 < lr lambda < 2 (1 + mu), for theta and for the buffer, "
        "whose stationary variance is 2 sigma^2 / ((1 - mu)(2 (1 + mu) - lr lambda)).",
        equation=r"$\mathrm{Var}\,\theta = \frac{\eta \sigma^2 (1 + \mu)}"
        r"{\lambda (1 - \mu) (2 (1 + \mu) - \eta \lambda)}$",
        derivation="momentum_sgd",
        experiment=_compare_moments,
        control="the limit of small steps: lr lambda dropped beside 2 (1 + mu)",
        cases=(
            dict(lr=0.1, momentum=0.9, lam=1.0, sigma=1e-3),
            dict(lr=0.5, momentum=0.5, lam=1.0, sigma=0.1),
            dict(lr=1.0, momentum=0.0, lam=0.2, sigma=1e-5),
        ),
        more_cases=(
            dict(lr=0.1, momentum=0.95, lam=0.2, sigma=1e-5),
            dict(lr=1.0, momentum=0.3, lam=1.5, sigma=1.0),
        ),
        domain=dict(
            lr=Range(0.02, 1.0, log=True),
            momentum=Range(0.0, 0.95),
            lam=Range(0.1, 1.5),
            sigma=Range(1e-6, 10.0, log=True),
        ),
        assumptions=(
            Assumption(
                "a stationary law: 0 < lr lambda < 2 (1 + mu)",
                lambda lr, momentum, lam, sigma: 0 < lr * lam < 2 * (1 + momentum),
            ),
        ),
        recorded="holds",
    ),
)

"""How Adam with L2 alone decays before it oscillates: a doubly exponential bound, and a law."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import i0e, i1e, k0e, k1e

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
from regdyn.theorems.estimates import exact

Array = NDArray[np.float64]

_ROOT2 = float(np.sqrt(2.0))


def _check_beta2(beta2: ArrayLike) -> Array:
    b2 = np.asarray(beta2, dtype=float)
    require((b2 > 0) & (b2 < 1), "0 < beta2 < 1", beta2=b2)
    return b2


@closed_form
def gradient_scale(path: ArrayLike, *, beta2: float) -> Array:
    r"""The root of the second moment in units of the weight, :math:`V_t = \sqrt{v_t} / \lambda`.

    .. math::
        V_t^2 = \beta_2 V_{t-1}^2 + (1 - \beta_2) w_{t-1}^2, \qquad V_0 = 0

    Parameters
    ----------
    path
        Weights w_0 … w_T, shape (T + 1,).

    Returns
    -------
    Shape (T + 1,).
    """
    squares = (1 - beta2) * np.square(np.asarray(path, dtype=float)[:-1])
    scale = np.zeros(len(squares) + 1)
    v = 0.0
    for t, square in enumerate(squares, start=1):
        v = beta2 * v + square
        scale[t] = v
    return np.sqrt(scale)


# --- The bound of theorem III.2 -------------------------------------------------------------------


@closed_form
def alpha(tau: ArrayLike, *, lr: ArrayLike, beta2: ArrayLike, scale: ArrayLike) -> Array:
    r"""Relative step at step :math:`\tau`, :math:`\alpha = \eta \sqrt{1 - \beta_2^\tau} / V_\tau`.

    Parameters
    ----------
    tau
        Step, 1 or more.
    lr, beta2
        :math:`\eta, \beta_2`.
    scale
        :math:`V_\tau` of :func:`gradient_scale`.
    """
    b2 = _check_beta2(beta2)
    return np.asarray(np.multiply(lr, np.sqrt(-np.expm1(np.multiply(tau, np.log(b2))))) / scale)


@closed_form
def bound_begins(
    tau: ArrayLike, *, lr: ArrayLike, beta2: ArrayLike, weight: ArrayLike, scale: ArrayLike
) -> NDArray[np.bool_]:
    r"""Whether theorem III.2 applies from step :math:`\tau` on.

    .. math::
        (1 - \beta_2) w_\tau^2 \le V_\tau^2 \left(\beta_2 - (1 - \alpha / \sqrt 2)^2\right), \qquad
        \alpha < \sqrt 2

    Parameters
    ----------
    tau, lr, beta2, scale
        As in :func:`alpha`.
    weight
        :math:`w_\tau > 0`.

    Source: yaguchi2018, appendix VI-B, reconstructed; derived in theory/adam_decay.py.
    """
    b2 = _check_beta2(beta2)
    step = alpha(tau, lr=lr, beta2=b2, scale=scale)
    room = np.square(scale) * (b2 - (1 - step / _ROOT2) ** 2)
    return np.asarray((step < _ROOT2) & ((1 - b2) * np.square(weight) <= room))


def _check_alpha(step: ArrayLike) -> Array:
    a = np.asarray(step, dtype=float)
    require((a > 0) & (a < _ROOT2), "0 < alpha < sqrt(2)", alpha=a)
    return a


@closed_form
def window(*, alpha: ArrayLike, beta2: ArrayLike) -> Array:
    r"""Number of steps after which the bound, and with it the first sign change, has come to an end.

    .. math::
        n^* = \frac{2 \ln(\sqrt 2 / \alpha)}{-\ln \beta_2}

    w changes sign at step :math:`\tau + \lceil n^* \rceil` at the latest.

    Raises
    ------
    OutsideDomain
        Unless :math:`0 < \alpha < \sqrt 2` and :math:`0 < \beta_2 < 1`.

    Source: theory/adam_decay.py.
    """
    return np.asarray(2 * np.log(_ROOT2 / _check_alpha(alpha)) / -np.log(_check_beta2(beta2)))


@closed_form
def decay_bound(n: ArrayLike, *, alpha: float, beta2: float) -> Array:
    r"""Upper bound on :math:`w_{\tau+n} / w_\tau` while w > 0.

    .. math::
        \prod_{i=1}^n \left(1 - \frac{\alpha}{\sqrt 2} \beta_2^{-i/2}\right)

    and 0 from :func:`window` on, where w has changed sign. It holds for every :math:`\beta_1`
    with bias correction and eps = 0, where :func:`bound_begins`.

    Parameters
    ----------
    n
        Whole numbers of steps after :math:`\tau`, any shape.
    alpha
        :func:`alpha` at :math:`\tau`.

    Raises
    ------
    OutsideDomain
        Unless :math:`n \ge 0`, :math:`0 < \alpha < \sqrt 2` and :math:`0 < \beta_2 < 1`.

    Source: yaguchi2018, theorem III.2, reconstructed; derived in theory/adam_decay.py.
    """
    steps = np.asarray(n)
    require(steps >= 0, "n >= 0", n=steps)
    end = float(window(alpha=alpha, beta2=beta2))
    last = int(min(np.max(steps, initial=0), np.ceil(end) - 1))
    i = np.arange(1, last + 1)
    logarithms = np.log1p(-alpha / _ROOT2 * np.exp(-i / 2 * np.log(beta2)))
    products = np.exp(np.concatenate([[0.0], np.cumsum(logarithms)]))
    inside = steps < end
    return np.asarray(np.where(inside, products[np.where(inside, steps, 0).astype(int)], 0.0))


@closed_form
def doubly_exponential_steps(share: ArrayLike, *, alpha: ArrayLike, beta2: ArrayLike) -> Array:
    r"""Steps after :math:`\tau` that the bound allows for :math:`w \le s w_\tau`, O(log log 1/s).

    .. math::
        n(s) = \frac{2}{-\ln \beta_2} \ln\left(1 + (1 - \sqrt{\beta_2})
        \frac{\sqrt 2}{\alpha} \ln \frac 1 s\right),

    from :math:`1 - x \le e^{-x}` in :func:`decay_bound`. Beyond :func:`window` it means nothing.

    Raises
    ------
    OutsideDomain
        Unless :math:`0 < s \le 1`, :math:`0 < \alpha < \sqrt 2` and :math:`0 < \beta_2 < 1`.

    Source: yaguchi2018, theorem III.2, reconstructed; derived in theory/adam_decay.py.
    """
    s, b2 = np.asarray(share, dtype=float), _check_beta2(beta2)
    require((s > 0) & (s <= 1), "0 < share <= 1", share=s)
    rate = (1 - np.sqrt(b2)) * _ROOT2 / _check_alpha(alpha)
    return np.asarray(2 * np.log1p(-rate * np.log(s)) / -np.log(b2))


# --- The law of Bessel functions ------------------------------------------------------------------
#
# With x = delta w / eta and rho = w / V, F(x) = K0(x) - kappa I0(x) grows as exp(delta t).
# Everything is written with exp(x) K(x) and exp(-x) I(x), so that no factor leaves the range:
# F(x) = exp(-x) G(x), G(x) = k0e(x) - q exp(-2 (x0 - x)) i0e(x), q = kappa exp(2 x0).

# Below this ln x, K0(x) = -ln(x/2) - gamma and I0(x) = 1 to double precision.
_SMALL = -40.0


def _start(
    lr: ArrayLike, beta2: ArrayLike, theta0: ArrayLike, scale0: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """delta, x0, q and G(x0), the last by the Wronskian instead of a difference."""
    b2 = _check_beta2(beta2)
    eta, w0 = np.asarray(lr, dtype=float), np.asarray(theta0, dtype=float)
    scale = np.asarray(scale0, dtype=float)
    require(eta > 0, "lr > 0", lr=eta)
    require((w0 > 0) & np.isfinite(w0), "theta0 > 0", theta0=w0)
    require(scale >= 0, "scale0 >= 0", scale0=scale)
    delta = -np.log(b2) / 2
    x0 = delta * w0 / eta
    # Divided by rho, as V0 = 0 is where Adam starts.
    inverse = scale / w0
    below = inverse * i0e(x0) + i1e(x0)
    return delta, x0, (inverse * k0e(x0) - k1e(x0)) / below, 1 / (x0 * below)


def _ln_growth(y: Array, x0: Array, q: Array, g0: Array) -> Array:
    """ln F(x) - ln F(x0) at x = exp(y)."""
    x = np.exp(np.maximum(y, _SMALL))
    k0 = k0e(x) + np.maximum(_SMALL - y, 0.0)
    return np.asarray((x0 - x) + np.log(k0 - q * np.exp(-2 * (x0 - x)) * i0e(x)) - np.log(g0))


@closed_form
def decay_time(
    theta: ArrayLike, *, lr: ArrayLike, beta2: ArrayLike, theta0: ArrayLike, scale0: ArrayLike
) -> Array:
    r"""Steps in which the weight decays from :math:`w_0` to `theta`, before the oscillation.

    .. math::
        t = \frac{1}{\delta} \ln \frac{K_0(x) - \kappa I_0(x)}{K_0(x_0) - \kappa I_0(x_0)}, \qquad
        \kappa = \frac{K_0(x_0) - \rho K_1(x_0)}{I_0(x_0) + \rho I_1(x_0)},

    :math:`\delta = -\frac 1 2 \ln \beta_2,\; x = \delta w / \eta,\; \rho = w_0 / V_0`: the continuous
    limit of Adam with L2 alone without bias correction (or from a late start, where it is 1) and with
    :math:`1 - \beta_1 \gg 1 - \beta_2`, so that m follows the gradient.
    The step in ln w is y + y^2 (1 + beta1) / (2 (1 - beta1)), y = :func:`relative_step`, and the law
    keeps y: that is its relative error.

    Parameters
    ----------
    theta
        Where to, in (0, theta0].
    lr, beta2
        :math:`\eta, \beta_2`.
    theta0, scale0
        State at the start: the weight, and :math:`V_0 = \sqrt{v_0} / \lambda`, which may be 0.

    Returns
    -------
    Steps, not rounded; times far below one step have an absolute error of about 1e-16 / delta.

    Raises
    ------
    OutsideDomain
        Unless :math:`0 < \theta \le \theta_0`, lr > 0, scale0 >= 0 and :math:`0 < \beta_2 < 1`.

    Source: theory/adam_decay.py.
    """
    delta, x0, q, g0 = _start(lr, beta2, theta0, scale0)
    target = np.asarray(theta, dtype=float)
    require((target > 0) & (target <= theta0), "0 < theta <= theta0", theta=target)
    y = np.log(target) - np.log(theta0) + np.log(x0)
    return np.asarray(np.maximum(_ln_growth(y, x0, q, g0), 0.0) / delta)


@closed_form
def log_decay(
    t: ArrayLike, *, lr: ArrayLike, beta2: ArrayLike, theta0: ArrayLike, scale0: ArrayLike
) -> Array:
    r""":math:`\ln(w_t / w_0)` before the oscillation: the inverse of :func:`decay_time`.

    The logarithm, as w may leave the range of floating point.

    Parameters
    ----------
    t
        Steps since the start, >= 0.
    lr, beta2, theta0, scale0
        As in :func:`decay_time`.

    Raises
    ------
    OutsideDomain
        As :func:`decay_time`, and for t so late that :math:`e^{\delta t}` overflows.

    Source: theory/adam_decay.py.
    """
    x0, y = _position(t, lr, beta2, theta0, scale0)[1:3]
    return np.asarray(y - np.log(x0))


@closed_form
def relative_step(
    t: ArrayLike, *, lr: ArrayLike, beta2: ArrayLike, theta0: ArrayLike, scale0: ArrayLike
) -> Array:
    r""":math:`y = \eta / V_t` by the same law: how much of the weight the next step takes.

    .. math::
        y = \delta \rho / x, \qquad
        \rho = \frac{K_0(x) - \kappa I_0(x)}{K_1(x) + \kappa I_1(x)}

    The law ends where y comes near :math:`(1 - \beta_1) / (1 + \beta_1)`, and the oscillation begins.
    Arguments and errors: as :func:`log_decay`, and t >= 1 if scale0 = 0.
    """
    known = (np.asarray(t) >= 1) | (np.asarray(scale0) > 0)
    require(known, "t >= 1 or scale0 > 0", t=t, scale0=scale0)
    delta, x0, y, q = _position(t, lr, beta2, theta0, scale0)
    x = np.exp(np.maximum(y, _SMALL))
    inner = q * np.exp(-2 * (x0 - x))
    above = k0e(x) + np.maximum(_SMALL - y, 0.0) - inner * i0e(x)
    return np.asarray(delta * above / (x * (k1e(x) + inner * i1e(x))))


def _position(
    t: ArrayLike, lr: ArrayLike, beta2: ArrayLike, theta0: ArrayLike, scale0: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """delta, x0, ln x at time t, and q."""
    delta, x0, q, g0 = _start(lr, beta2, theta0, scale0)
    steps = np.asarray(t, dtype=float)
    require(steps >= 0, "t >= 0", t=steps)
    growth = delta * steps
    require(growth - x0 < 700, "-ln(beta2) t / 2 < 700 + x0", t=steps, beta2=beta2)
    growth, x0, q, g0 = np.broadcast_arrays(growth, x0, q, g0)
    # Far down G is linear in ln x.
    linear = np.log(2.0) - np.euler_gamma - q * np.exp(-2 * x0) - g0 * np.exp(growth - x0)
    low = np.minimum(_SMALL - 1, np.log(x0) - 1)
    high = np.log(x0)
    for _ in range(70):
        middle = (low + high) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            later = _ln_growth(middle, x0, q, g0) > growth
        low, high = np.where(later, middle, low), np.where(later, high, middle)
    y = np.where(linear < np.minimum(_SMALL, low), linear, high)
    # With V0 = 0, F is flat at the start, and the bisection ends anywhere within 1e-8.
    return delta, x0, np.where(growth == 0, np.log(x0), y), q


# --- Claims ---------------------------------------------------------------------------------------


def _decay(
    lab: Lab, beta1: float, beta2: float, ratio: float, more: int = 0
) -> tuple[Array, Array, int, float]:
    """Path in units of lr, V, the step tau at which the bound begins, and alpha there."""
    lr = 1e-3
    steps = int(1.2 * ratio + 25 / (1 - beta2)) + more
    path = lab.weight(
        "adam", lr=lr, lam=0.01, beta1=beta1, beta2=beta2, eps=0.0,
        theta0=ratio * lr, steps=steps, keep=1,
    ).paths[:, 0] / lr  # fmt: skip
    scale = gradient_scale(path, beta2=beta2)
    change = _sign_change(path)
    t = np.arange(1, change)
    begins = bound_begins(t, lr=1.0, beta2=beta2, weight=path[t], scale=scale[t])
    require(begins.any(), "a step from which theorem III.2 applies", beta1=beta1, beta2=beta2)
    tau = int(t[np.argmax(begins)])
    return path, scale, tau, float(alpha(tau, lr=1.0, beta2=beta2, scale=scale[tau]))


def _sign_change(path: Array) -> int:
    require((path <= 0).any(), "a sign change within the run", last=path[-1])
    return int(np.argmax(path <= 0))


def _compare_bound(lab: Lab, beta1: float, beta2: float, ratio: float) -> Comparison:
    path, _, tau, step = _decay(lab, beta1, beta2, ratio)
    # The step before the change may be of any size.
    last = max(_sign_change(path) - tau - 1, 1)
    n = np.unique(np.geomspace(1, last, 24).round().astype(int))
    i = np.arange(1, last + 1)
    steeper = np.cumprod(np.maximum(1 - step * beta2 ** (-i / 2), 0.0))
    return Comparison(
        measured=exact(path[tau + n] / path[tau]),
        predicted=decay_bound(n, alpha=step, beta2=beta2),
        control=steeper[n - 1],
        scale=decay_bound(n, alpha=step, beta2=beta2),
        x=n,
        x_label="steps n after tau",
        y_label="w[tau + n] / w[tau]",
        log_y=True,
    )


def _compare_window(lab: Lab, beta1: float, beta2: float, ratio: float) -> Comparison:
    path, _, tau, step = _decay(lab, beta1, beta2, ratio)
    shorter = 2 * np.log(1 / min(step, 1.0)) / -np.log(beta2)
    return Comparison(
        measured=exact(_sign_change(path) - tau),
        predicted=np.ceil(window(alpha=step, beta2=beta2)),
        control=np.ceil(shorter),
        scale=np.ceil(window(alpha=step, beta2=beta2)),
        x=[ratio],
        x_label="w[0] / lr",
        y_label="steps from tau to the sign change",
        log_x=True,
    )


def _compare_wording(lab: Lab, beta1: float, beta2: float, ratio: float) -> Comparison:
    path, _, tau, step = _decay(lab, beta1, beta2, ratio, more=20_000)
    target = 10.0 ** np.array([-1, -2, -4, -8, -16, -32])
    below = np.minimum.accumulate(np.abs(path[tau:]))
    # Where it did not happen, it took longer than the run.
    steps = np.array([np.count_nonzero(below > eps) for eps in target])
    share = target / path[tau]
    return Comparison(
        measured=exact(steps),
        predicted=doubly_exponential_steps(share, alpha=step, beta2=beta2),
        control=doubly_exponential_steps(share, alpha=min(step * _ROOT2, 1.4), beta2=beta2),
        x=target,
        x_label="eps / lr",
        y_label="steps from tau until |w| <= eps",
        log_x=True,
        log_y=True,
    )


_LARGEST_ERROR = 0.05


def _compare_law(lab: Lab, beta1: float, beta2: float, x0: float, bias_correction: bool) -> Comparison:
    delta = -np.log(beta2) / 2
    ratio = x0 / delta
    path = lab.weight(
        "adam", lr=1.0, lam=1.0, beta1=beta1, beta2=beta2, eps=0.0, bias_correction=bias_correction,
        theta0=ratio, steps=int(ratio + 10 / delta), keep=1,
    ).paths[:, 0]  # fmt: skip
    scale = gradient_scale(path, beta2=beta2)
    # From when both moments have forgotten that they started at 0, or m alone.
    memory = 6 / (1 - beta2) if bias_correction else 20 + 6 / (1 - beta1)
    start = int(np.ceil(memory))
    # The relative error of a step, (1 + beta1) / (2 (1 - beta1)) eta / V, stays below the stated one.
    largest = _LARGEST_ERROR * 2 * (1 - beta1) / (1 + beta1)
    stop = start + int(np.argmax((scale[start:] < 1 / largest) | (path[start:] <= 0)))
    ln_decay = np.log(path[start:stop] / path[start])
    first = int(np.argmax(ln_decay < -0.3))
    require(first > 0, "a decay that can be seen before the oscillation", x0=x0, beta2=beta2)
    t = np.unique(np.linspace(first, stop - start - 1, 16).astype(int))
    state = dict(theta0=path[start], scale0=scale[start])
    return Comparison(
        measured=exact(ln_decay[t]),
        predicted=log_decay(t, lr=1.0, beta2=beta2, **state),
        control=log_decay(t, lr=1.0, beta2=beta2**2, **state),
        x=start + t,
        x_label="step t",
        y_label="ln(w[t] / w[start])",
    )


_BOUND_DOMAIN = dict(
    beta1=Range(0.0, 0.95), beta2=Range(0.9, 0.999), ratio=Range(3.0, 1000.0, log=True)
)
_BOUND_ASSUMPTIONS = (
    Assumption(
        "a step tau before the sign change: beta1 <= beta2",
        lambda beta1, beta2, ratio: beta1 <= beta2,
    ),
    Assumption(
        "w does not underflow before the sign change: 1 - beta2 >= 0.009 (1 - beta1)",
        lambda beta1, beta2, ratio: 1 - beta2 >= 0.009 * (1 - beta1),
    ),
)
_BOUND_CASES = (
    dict(beta1=0.9, beta2=0.99, ratio=300.0),
    dict(beta1=0.9, beta2=0.999, ratio=200.0),
    dict(beta1=0.5, beta2=0.99, ratio=300.0),
    dict(beta1=0.0, beta2=0.99, ratio=300.0),
    dict(beta1=0.0, beta2=0.9, ratio=30.0),
)
_MORE_BOUND_CASES = (
    dict(beta1=0.9, beta2=0.9, ratio=1000.0),
    dict(beta1=0.9, beta2=0.99, ratio=1000.0),
    dict(beta1=0.95, beta2=0.99, ratio=10.0),
    dict(beta1=0.0, beta2=0.95, ratio=1000.0),
)

CLAIMS = (
    Claim(
        id="A5a",
        paper="yaguchi2018, theorem III.2",
        statement="From a step tau on with (1 - beta2) w^2 <= V^2 (beta2 - (1 - alpha/sqrt 2)^2) and "
        "alpha = lr sqrt(1 - beta2^tau)/V < sqrt 2, while w > 0: w[tau+n] <= w[tau] prod_{i<=n} (1 - "
        "(alpha/sqrt 2) beta2^(-i/2)).",
        status=Status.RECONSTRUCTED,
        printed="A doubly exponential decay of Adam with L2 alone from some step on; condition and "
        "bound are lost and restored from the appendix.",
        finding="Holds for every beta1, with bias correction and eps = 0: on falling gradients m is at "
        "least the present one, and V decays at least as fast as sqrt 2 beta2^(n/2). Such a tau comes "
        "once w is about lr / (2 (1 - beta2)), or soon after a smaller start. The weight decays faster "
        "than the bound: at (0.9, 0.99) by 8e-6 instead of 1e-2 until the sign change.",
        equation=r"$w_{\tau+n} \leq w_\tau \prod_{i=1}^n "
        r"\left(1 - \frac{\alpha}{\sqrt{2}} \beta_2^{-i/2}\right)$",
        derivation="adam_decay",
        experiment=_compare_bound,
        control="alpha instead of alpha / sqrt 2: V is not allowed to keep new gradients",
        cases=_BOUND_CASES,
        more_cases=_MORE_BOUND_CASES,
        domain=_BOUND_DOMAIN,
        assumptions=_BOUND_ASSUMPTIONS,
        relation=Relation.AT_MOST,
        tolerance=1e-9,
        recorded="holds",
    ),
    Claim(
        id="A5b",
        paper="yaguchi2018, theorem III.2",
        statement="The bound of A5a ends with a sign change: w changes sign at most n* = 2 ln(sqrt "
        "2/alpha) / (-ln beta2) steps, rounded up, after tau.",
        status=Status.OURS,
        printed="The paper says that its bound is for the time before the oscillation, without that "
        "time.",
        finding="Holds. From n* on a factor of the bound is negative, which only a sign change allows. "
        "It comes within a tenth of n* where beta1 = 0, and long before for beta1 = 0.9 (310 of 1018 "
        "steps at (0.9, 0.99)), as momentum carries w across 0.",
        equation=r"$n^* = \frac{2 \ln(\sqrt{2} / \alpha)}{-\ln \beta_2}$",
        derivation="adam_decay",
        experiment=_compare_window,
        control="without the sqrt 2: 2 ln(1/alpha) / (-ln beta2)",
        cases=_BOUND_CASES,
        more_cases=_MORE_BOUND_CASES,
        domain=_BOUND_DOMAIN,
        assumptions=_BOUND_ASSUMPTIONS,
        relation=Relation.AT_MOST,
        tolerance=1e-9,
        recorded="holds",
    ),
    Claim(
        id="A5c",
        paper="yaguchi2018, theorem III.2 and section VI",
        statement="From tau on Adam needs O(log log 1/eps) steps until |w| <= eps, for every eps: "
        "n(eps) = 2 ln(1 + (1 - sqrt beta2)(sqrt 2/alpha) ln(w[tau]/eps)) / (-ln beta2).",
        status=Status.RECONSTRUCTED,
        printed="A weight below eps after O(log log 1/eps) steps; the formula is lost and read here as "
        "what the bound of A5a gives, without its window.",
        finding="Refuted. The bound ends with the sign change (A5b); what w has reached before it "
        "depends on the betas: 0.3 lr at (0.9, 0.9), 4e-4 lr at (0.9, 0.99), 5e-14 lr at (0, 0.9). "
        "Down to there n(eps) is a bound. Beyond, w may go on falling while V does, but then "
        "oscillates again at about lr (1 - beta1)/(2 (1 + beta1)) (A7a): |w| <= eps is reached by "
        "chance or never, and never for good. Neither is n(eps) the time from the start, which is at "
        "least (w0 - eps)/lr (A4).",
        counterexample="beta1 = beta2 = 0.9, w0 = 1000 lr: w changes sign 2 steps after tau. |w| <= "
        "0.1 lr takes 56 steps instead of 22, |w| <= 1e-8 lr more than 20,000 instead of 55.",
        equation=r"$n(\epsilon) = \frac{2}{-\ln \beta_2} \ln\left(1 + (1 - \sqrt{\beta_2}) "
        r"\frac{\sqrt{2}}{\alpha} \ln \frac{w_\tau}{\epsilon}\right)$",
        derivation="adam_decay",
        experiment=_compare_wording,
        control="the same with alpha instead of alpha / sqrt 2",
        cases=(
            dict(beta1=0.9, beta2=0.9, ratio=1000.0),
            dict(beta1=0.9, beta2=0.99, ratio=300.0),
            dict(beta1=0.0, beta2=0.9, ratio=30.0),
        ),
        more_cases=(
            dict(beta1=0.95, beta2=0.99, ratio=10.0),
            dict(beta1=0.9, beta2=0.99, ratio=1000.0),
            dict(beta1=0.0, beta2=0.95, ratio=1000.0),
        ),
        domain=_BOUND_DOMAIN,
        assumptions=_BOUND_ASSUMPTIONS,
        relation=Relation.AT_MOST,
        tolerance=1e-9,
        recorded="refuted",
    ),
    Claim(
        id="A6",
        paper="derived here",
        statement="Before the oscillation Adam with L2 alone follows K0(x_t) - kappa I0(x_t) = "
        "(K0(x_0) - kappa I0(x_0)) e^(delta t), x = delta w/lr, delta = -ln(beta2)/2, kappa = (K0 - "
        "rho K1)/(I0 + rho I1) at x_0, rho = w0/V0.",
        status=Status.OURS,
        printed="Not in the papers.",
        finding="An approximation, in ln w within 5 percent while lr/V < 0.1 (1 - beta1)/(1 + beta1), "
        "for 1 - beta2 <= 0.02 (1 - beta1), without bias correction or once it is over. Its relative "
        "error is about (1 + beta1)/(2 (1 - beta1)) lr/V.",
        equation=r"$K_0(x_t) - \kappa I_0(x_t) = (K_0(x_0) - \kappa I_0(x_0))\,e^{\delta t}$",
        derivation="adam_decay",
        experiment=_compare_law,
        control="delta = -ln(beta2): V taken for V^2",
        cases=(
            dict(beta1=0.0, beta2=0.99, x0=15.0, bias_correction=False),
            dict(beta1=0.0, beta2=0.999, x0=20.0, bias_correction=True),
            dict(beta1=0.9, beta2=0.999, x0=10.0, bias_correction=True),
            dict(beta1=0.5, beta2=0.99, x0=30.0, bias_correction=True),
        ),
        more_cases=(
            dict(beta1=0.9, beta2=0.999, x0=5.0, bias_correction=False),
            dict(beta1=0.0, beta2=0.98, x0=30.0, bias_correction=True),
            dict(beta1=0.9, beta2=0.9995, x0=20.0, bias_correction=True),
        ),
        domain=dict(
            beta1=Range(0.0, 0.9),
            beta2=Range(0.98, 0.9995),
            x0=Range(5.0, 30.0, log=True),
            bias_correction=(False, True),
        ),
        assumptions=(
            Assumption(
                "m follows the gradient: 1 - beta2 <= 0.02 (1 - beta1)",
                lambda beta1, beta2, **_: 1 - beta2 <= 0.02 * (1 - beta1) * (1 + 1e-9),
            ),
        ),
        tolerance=_LARGEST_ERROR,
        exact=False,
        recorded="holds",
    ),
)

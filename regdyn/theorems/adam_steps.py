"""How far Adam can step: scale invariance, the largest step, and the least time to decay."""

from __future__ import annotations

from math import sqrt

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
from regdyn.theorems.estimates import Estimate, exact

Array = NDArray[np.float64]


def _betas(beta1: ArrayLike, beta2: ArrayLike) -> tuple[Array, Array]:
    b1, b2 = np.asarray(beta1, dtype=float), np.asarray(beta2, dtype=float)
    require((b1 >= 0) & (b1 < 1), "0 <= beta1 < 1", beta1=b1)
    require((b2 > 0) & (b2 < 1), "0 < beta2 < 1", beta2=b2)
    return b1, b2


# --- Scale invariance -----------------------------------------------------------------------------


@closed_form
def scaled_path(steps: int, *, ratio: float, beta1: float, beta2: float) -> Array:
    r"""Adam with L2 alone in its own units, :math:`u_t = \theta_t / \eta`, at eps = 0.

    .. math::
        m_t = \beta_1 m_{t-1} + (1 - \beta_1) u_{t-1}, \quad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2) u_{t-1}^2, \quad
        u_t = u_{t-1} - \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)}}

    Neither :math:`\lambda` nor :math:`\eta` occurs.

    Parameters
    ----------
    steps
        Number of steps.
    ratio
        Start, :math:`\theta_0 / \eta`.

    Returns
    -------
    Shape (steps + 1,).

    Raises
    ------
    OutsideDomain
        For betas outside [0, 1) and (0, 1), and a start of 0, from which there is no step.

    Source: theory/adam_steps.py.
    """
    _betas(beta1, beta2)
    require(np.isfinite(ratio) and ratio != 0, "a finite theta0 / lr other than 0", ratio=ratio)
    path = np.empty(steps + 1)
    path[0] = u = ratio
    m = v = 0.0
    for t in range(1, steps + 1):
        m = beta1 * m + (1 - beta1) * u
        v = beta2 * v + (1 - beta2) * u * u
        u -= m / (1 - beta1**t) / sqrt(v / (1 - beta2**t))
        path[t] = u
    return path


# --- The largest step -----------------------------------------------------------------------------


@closed_form
def largest_step(t: ArrayLike, *, beta1: ArrayLike, beta2: ArrayLike) -> Array:
    r"""The largest :math:`|\theta_t - \theta_{t-1}| / \eta` over all gradients, reached by some.

    .. math::
        (1 - \beta_1) \sqrt{\frac{1}{1 - \beta_2} \sum_{j<t} x^j}\;
        \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}, \qquad x = \beta_1^2 / \beta_2,

    by Cauchy-Schwarz between m and v, with bias correction and at eps = 0 (any eps makes steps
    shorter). For x < 1 it tends to :func:`largest_step_limit`; for :math:`x \ge 1` it grows forever.
    The gradients of :func:`steepest_gradients` reach it at every t.

    Parameters
    ----------
    t
        Step, 1 or more; all arguments broadcast.

    Raises
    ------
    OutsideDomain
        For t < 1, and betas outside [0, 1) and (0, 1).

    Source: theory/adam_steps.py.
    """
    b1, b2 = _betas(beta1, beta2)
    steps = np.asarray(t, dtype=float)
    require(steps >= 1, "t >= 1", t=steps)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ln_x = 2 * np.log(b1) - np.log(b2)
        total = np.where(ln_x == 0, steps, np.expm1(steps * ln_x) / np.expm1(ln_x))
        # ln(1 - beta^t) / (1 - beta) without cancellation for beta close to 1.
        second = -np.expm1(steps * np.log(b2)) / (1 - b2)
        first = np.where(b1 == 0, 1.0, -np.expm1(steps * np.log(b1)) / (1 - b1))
    return np.asarray(np.sqrt(total) * np.sqrt(second) / first)


@closed_form
def largest_step_limit(*, beta1: ArrayLike, beta2: ArrayLike) -> Array:
    r"""The largest step in units of :math:`\eta` without bias correction, or late.

    .. math::
        C = \frac{1 - \beta_1}{\sqrt{(1 - \beta_2)(1 - \beta_1^2 / \beta_2)}}

    Raises
    ------
    OutsideDomain
        Unless :math:`\beta_1^2 < \beta_2`, without which steps have no bound.

    Source: theory/adam_steps.py.
    """
    b1, b2 = _betas(beta1, beta2)
    require(b1**2 < b2, "beta1^2 < beta2", beta1=b1, beta2=b2)
    return np.asarray((1 - b1) * np.sqrt(b2 / ((1 - b2) * (b2 - b1**2))))


@closed_form
def quoted_step(*, beta1: ArrayLike, beta2: ArrayLike) -> Array:
    r"""The bound on a step in units of :math:`\eta` quoted since Kingma and Ba (2015), section 2.1.

    .. math::
        \max\left(1, \frac{1 - \beta_1}{\sqrt{1 - \beta_2}}\right)

    The step after gradients of 0. A bound only for :math:`\beta_1 = 0` and for
    :math:`\beta_1 = \beta_2`, see :func:`largest_step`.
    """
    b1, b2 = _betas(beta1, beta2)
    return np.asarray(np.maximum(1.0, (1 - b1) / np.sqrt(1 - b2)))


@closed_form
def steepest_gradients(steps: int, *, beta1: float, beta2: float) -> Array:
    r"""Gradients :math:`g_k \propto (\beta_2 / \beta_1)^k`, which make every step the largest possible.

    Returns
    -------
    Shape (steps,), the largest being 1, and none below 1e-140: at eps = 0 Adam divides by their size.
    """
    _betas(beta1, beta2)
    k = np.arange(steps, dtype=float)
    ln_growth = np.log(beta2 / beta1) if beta1 > 0 else np.inf
    age = steps - 1 - k if ln_growth > 0 else -k
    exponent = np.where(age == 0, 0.0, -ln_growth * np.where(age == 0, 1.0, age))
    return np.asarray(np.exp(np.maximum(exponent, np.log(1e-140))))


# --- The least time -------------------------------------------------------------------------------


@closed_form
def least_steps(*, lr: ArrayLike, theta0: ArrayLike, threshold: ArrayLike) -> Array:
    r"""A lower bound on the number of steps until :math:`|\theta| \le s` under Adam with L2 alone.

    .. math::
        T \ge (|\theta_0| - s) / \eta

    as with bias correction and :math:`\beta_1 \le \beta_2` each step towards 0 is at most
    :math:`\eta`: on falling gradients m weighs the late, small ones more than v does. Any eps.

    Parameters
    ----------
    lr
        :math:`\eta`, or the largest one of a schedule.
    theta0, threshold
        Start and threshold s.

    Raises
    ------
    OutsideDomain
        Unless lr > 0 and threshold >= 0.

    Source: theory/adam_steps.py.
    """
    eta, level = np.asarray(lr, dtype=float), np.asarray(threshold, dtype=float)
    require(eta > 0, "lr > 0", lr=eta)
    require(level >= 0, "threshold >= 0", threshold=level)
    return np.asarray(np.maximum(np.abs(np.asarray(theta0, dtype=float)) - level, 0.0) / eta)


# --- Claims ---------------------------------------------------------------------------------------


def _compare_scaled(
    lab: Lab, beta1: float, beta2: float, ratio: float, lr: float, lam: float
) -> Comparison:
    # Rounding grows where the oscillation is chaotic, hence not far beyond its begin.
    path = scaled_path(int(2 * ratio + 20 / (1 - beta2)), ratio=ratio, beta1=beta1, beta2=beta2)
    first_change = int(np.argmax(path <= 0)) or len(path) - 1
    t = np.unique(np.geomspace(1, first_change + 10, 24).round().astype(int))
    t = t[t < len(path)]
    result = lab.weight(
        "adam", lr=lr, lam=lam, beta1=beta1, beta2=beta2, eps=0.0,
        theta0=ratio * lr, steps=int(t[-1]), keep=1,
    )  # fmt: skip
    return Comparison(
        measured=exact(result.paths[t, 0] / lr),
        predicted=path[t],
        control=scaled_path(int(t[-1]), ratio=2 * ratio, beta1=beta1, beta2=beta2)[t] / 2,
        scale=np.maximum(np.abs(path[t]), 1.0),
        x=t,
        x_label="step t",
        y_label="w[t] / lr",
        log_x=True,
    )


def _measure_steps(lab: Lab, beta1: float, beta2: float, steps: int) -> tuple[NDArray, Estimate]:
    """Lengths of steps, in units of lr, at some times: the longest over several kinds of gradients."""
    rng = lab.generator()
    steepest = steepest_gradients(steps, beta1=beta1, beta2=beta2)[:, None]
    spike = np.full((steps, 1), 1e-6)
    spike[-1] = 1.0
    kinds = [
        steepest,
        spike,
        steepest * np.exp(0.05 * rng.standard_normal((steps, 30))),
        rng.standard_normal((steps, 32)),
        np.exp(3 * rng.standard_normal((steps, 32))) * rng.choice([-1.0, 1.0], (steps, 32)),
        np.exp(np.cumsum(0.2 * rng.standard_normal((steps, 32)), axis=0)),
    ]
    gradients = np.concatenate(kinds, axis=1)
    n = gradients.shape[1]
    paths = lab.weight(
        "adam", lr=1.0, beta1=beta1, beta2=beta2, eps=0.0, regularization="none",
        gradients=gradients, theta0=0.0, steps=steps, trajectories=n, keep=n,
    ).paths  # fmt: skip
    t = np.unique(np.geomspace(1, steps, 16).round().astype(int))
    return t, exact(np.abs(np.diff(paths, axis=0)).max(axis=1)[t - 1], n)


def _compare_quoted(lab: Lab, beta1: float, beta2: float, steps: int) -> Comparison:
    t, measured = _measure_steps(lab, beta1, beta2, steps)
    return Comparison(
        measured=measured,
        predicted=np.full(len(t), quoted_step(beta1=beta1, beta2=beta2)),
        control=np.ones(len(t)),
        x=t,
        x_label="step t",
        y_label="largest |w[t] - w[t-1]| / lr",
        log_x=True,
    )


def _compare_largest(lab: Lab, beta1: float, beta2: float, steps: int) -> Comparison:
    t, measured = _measure_steps(lab, beta1, beta2, steps)
    return Comparison(
        measured=measured,
        predicted=largest_step(t, beta1=beta1, beta2=beta2),
        control=np.full(len(t), quoted_step(beta1=beta1, beta2=beta2)),
        x=t,
        x_label="step t",
        y_label="largest |w[t] - w[t-1]| / lr",
        log_x=True,
    )


def _compare_time(
    lab: Lab, beta1: float, beta2: float, lr: float, lam: float, theta0: float, eps: float
) -> Comparison:
    shares = np.array([0.5, 0.1, 0.01])
    bound = least_steps(lr=lr, theta0=theta0, threshold=shares * theta0)
    steps = int(2 * theta0 / lr + 10 / (1 - beta2))
    measured = []
    for share in shares:
        result = lab.weight(
            "adam", lr=lr, lam=lam, beta1=beta1, beta2=beta2, eps=eps,
            theta0=theta0, threshold=float(share * theta0), steps=steps,
        )  # fmt: skip
        first = int(result.first_passage[0])
        # Where it did not happen, it took longer than the run.
        measured.append(first if first >= 0 else steps)
    return Comparison(
        measured=exact(measured),
        predicted=bound,
        control=2 * bound,
        x=shares,
        x_label="threshold / w[0]",
        y_label="steps until |w| is below the threshold",
        log_x=True,
        log_y=True,
    )


CLAIMS = (
    Claim(
        id="A2",
        paper="derived here",
        statement="Adam with L2 alone and eps = 0: w[t] / lr depends on w0 / lr, beta1, beta2 alone; "
        "lambda cancels.",
        status=Status.OURS,
        printed="Not in the papers.",
        finding="Holds, to the bit where lr and lambda are powers of two, through decay and "
        "oscillation. A weight without loss gradient and noise decays at the same speed for every "
        "lambda; lambda matters only beside noise, or once lambda |w| falls to eps.",
        equation=r"$w_t / \eta = f_t(w_0 / \eta;\ \beta_1, \beta_2)$",
        derivation="adam_steps",
        experiment=_compare_scaled,
        control="w[t] / w0 instead of w[t] / lr is the same for every lr",
        cases=(
            dict(beta1=0.9, beta2=0.99, ratio=300.0, lr=1e-3, lam=1e-4),
            dict(beta1=0.9, beta2=0.99, ratio=300.0, lr=0.1, lam=7.0),
            dict(beta1=0.9, beta2=0.999, ratio=20.0, lr=3e-4, lam=0.01),
            dict(beta1=0.0, beta2=0.9, ratio=100.0, lr=0.01, lam=1e-3),
        ),
        more_cases=(
            dict(beta1=0.5, beta2=0.99, ratio=1000.0, lr=1e-3, lam=1e-5),
            dict(beta1=0.99, beta2=0.9, ratio=50.0, lr=1e-2, lam=1e-2),
        ),
        domain=dict(
            beta1=Range(0.0, 0.99),
            beta2=Range(0.5, 0.999),
            ratio=Range(2.0, 1000.0, log=True),
            lr=Range(1e-5, 1.0, log=True),
            lam=Range(1e-6, 10.0, log=True),
        ),
        tolerance=1e-9,
        recorded="holds",
    ),
    Claim(
        id="A3a",
        paper="Kingma and Ba 2015, section 2.1, quoted since",
        statement="With bias correction no step of Adam is longer than lr max(1, (1 - beta1) / sqrt(1 "
        "- beta2)).",
        status=Status.PRINTED,
        printed="lr (1 - beta1) / sqrt(1 - beta2) where that exceeds lr, reached by a gradient after "
        "zeros; lr otherwise.",
        finding="A bound only for beta1 = 0 and for beta1 = beta2. Gradients that grow by beta2/beta1 "
        "a step make longer steps: 2.3 lr instead of 1 lr at (0.9, 0.99), 7.3 lr instead of 3.2 lr at "
        "(0.9, 0.999). A3b is the bound.",
        counterexample="beta1 = 0.9, beta2 = 0.99, two gradients 1 and 1.1 from the start: the second "
        "step is 1.0011 lr.",
        equation=r"$|\Delta w| \leq \eta \max(1, (1 - \beta_1) / \sqrt{1 - \beta_2})$",
        derivation="adam_steps",
        experiment=_compare_quoted,
        control="no step is longer than lr",
        cases=(dict(beta1=0.9, beta2=0.999, steps=400), dict(beta1=0.9, beta2=0.99, steps=400)),
        more_cases=(dict(beta1=0.5, beta2=0.9, steps=200), dict(beta1=0.0, beta2=0.99, steps=400)),
        domain=dict(
            beta1=Range(0.0, 0.95), beta2=Range(0.3, 0.9999), steps=Range(8, 600, integer=True)
        ),
        relation=Relation.AT_MOST,
        tolerance=1e-9,
        recorded="refuted",
    ),
    Claim(
        id="A3b",
        paper="derived here",
        statement="With bias correction step t of Adam is at most lr C sqrt(1 - beta2^t) / (1 - "
        "beta1^t) sqrt(1 - (beta1^2/beta2)^t), C = (1 - beta1) / sqrt((1 - beta2)(1 - beta1^2/beta2)).",
        status=Status.OURS,
        printed="Not in the papers; replaces the bound of A3a.",
        finding="Holds for all gradients and all beta1, beta2, by Cauchy-Schwarz, and is the best "
        "bound: g[k] ~ (beta2/beta1)^k reaches it at every step. For beta1^2 >= beta2 it grows without "
        "limit.",
        equation=r"$|\Delta w_t| \leq \eta\,(1 - \beta_1) \sqrt{\frac{1 - x^t}{(1 - \beta_2)(1 - "
        r"x)}}\;"
        r"\frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t},\quad x = \beta_1^2 / \beta_2$",
        derivation="adam_steps",
        experiment=_compare_largest,
        control="the quoted bound of A3a",
        cases=(
            dict(beta1=0.9, beta2=0.999, steps=400),
            dict(beta1=0.9, beta2=0.99, steps=400),
            dict(beta1=0.0, beta2=0.99, steps=400),
        ),
        more_cases=(
            dict(beta1=0.5, beta2=0.9, steps=200),
            dict(beta1=0.9, beta2=0.5, steps=100),
            dict(beta1=0.95, beta2=0.9025, steps=300),
        ),
        domain=dict(
            beta1=Range(0.0, 0.95), beta2=Range(0.3, 0.9999), steps=Range(8, 600, integer=True)
        ),
        relation=Relation.AT_MOST,
        tolerance=1e-9,
        recorded="holds",
    ),
    Claim(
        id="A4",
        paper="derived here",
        statement="Adam with L2 alone, bias correction and beta1 <= beta2: it takes at least (w0 - s) "
        "/ lr steps until |w| <= s, whatever lambda.",
        status=Status.OURS,
        printed="Not in the papers; a limit to the speed that yaguchi2018 proves for Adam.",
        finding="Holds for every lambda and eps: while w > 0 each step is at most lr. At Adam's "
        "defaults in mehta2019 the first passage takes 1.0 to 1.4 times as long. For beta1 > beta2 it "
        "fails: (0.9, 0.5), w0 = 50 lr changes sign at step 38.",
        equation=r"$T(s) \geq (w_0 - s) / \eta$",
        derivation="adam_steps",
        experiment=_compare_time,
        control="twice as many steps",
        cases=(
            dict(beta1=0.9, beta2=0.99, lr=1e-3, lam=1e-4, theta0=1.0, eps=1e-8),
            dict(beta1=0.9, beta2=0.999, lr=1e-3, lam=1e-2, theta0=0.2, eps=1e-8),
            dict(beta1=0.0, beta2=0.9, lr=0.01, lam=1e-3, theta0=1.0, eps=0.0),
            dict(beta1=0.5, beta2=0.5, lr=0.01, lam=1.0, theta0=1.0, eps=0.0),
        ),
        more_cases=(
            dict(beta1=0.9, beta2=0.9, lr=1e-3, lam=1e-5, theta0=0.05, eps=1e-8),
            dict(beta1=0.9, beta2=0.99, lr=1e-4, lam=1e-3, theta0=1.0, eps=0.0),
        ),
        domain=dict(
            beta1=Range(0.0, 0.95),
            beta2=Range(0.3, 0.999),
            lr=Range(1e-4, 0.1, log=True),
            lam=Range(1e-6, 1.0, log=True),
            theta0=Range(0.01, 3.0, log=True),
            eps=(0.0, 1e-8),
        ),
        assumptions=(Assumption("beta1 <= beta2", lambda beta1, beta2, **_: beta1 <= beta2),),
        relation=Relation.AT_LEAST,
        tolerance=1e-9,
        recorded="holds",
    ),
)

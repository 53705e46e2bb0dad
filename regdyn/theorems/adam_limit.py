"""Where Adam with L2 alone ends: the 2-cycle and its stability, the threshold of convergence, the "
"limit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.theorems.base import (
    Assumption,
    Claim,
    Comparison,
    Lab,
    Range,
    Status,
    closed_form,
    require,
)
from regdyn.theorems.estimates import exact

Array = NDArray[np.float64]


def _check_beta1(beta1: ArrayLike) -> Array:
    b1 = np.asarray(beta1, dtype=float)
    require((b1 >= 0) & (b1 < 1), "0 <= beta1 < 1", beta1=b1)
    return b1


def _check_beta2(beta2: ArrayLike) -> Array:
    b2 = np.asarray(beta2, dtype=float)
    require((b2 >= 0) & (b2 < 1), "0 <= beta2 < 1", beta2=b2)
    return b2


def _epsilon_in_weights(lam: ArrayLike, eps: ArrayLike) -> Array:
    """eps / lambda: the weight whose decay gradient equals eps."""
    decay, epsilon = np.asarray(lam, dtype=float), np.asarray(eps, dtype=float)
    require(decay > 0, "lam > 0", lam=decay)
    require(epsilon >= 0, "eps >= 0", eps=epsilon)
    return np.asarray(epsilon / decay)


# --- The threshold --------------------------------------------------------------------------------


@closed_form
def stability_threshold(*, beta1: ArrayLike) -> Array:
    r"""Above this :math:`\eta \lambda / \epsilon` the weight does not tend to 0.

    .. math::
        \frac{2 (1 + \beta_1)}{1 - \beta_1}

    38 for :math:`\beta_1 = 0.9`. Near 0 Adam is momentum SGD with the learning rate
    :math:`(1 - \beta_1) \eta / \epsilon`, and a root of :func:`rate_near_zero` passes -1 there.

    Raises
    ------
    OutsideDomain
        Unless :math:`0 \le \beta_1 < 1`.

    Source: Bock and Weiss, arXiv:2210.02070; Cohen et al., arXiv:2207.14484; theory/adam_limit.py.
    """
    b1 = _check_beta1(beta1)
    return np.asarray(2 * (1 + b1) / (1 - b1))


@closed_form
def rate_near_zero(*, lr: ArrayLike, beta1: ArrayLike, lam: ArrayLike, eps: ArrayLike) -> Array:
    r"""Factor on :math:`|w|` per step where :math:`\lambda |w|` and :math:`\sqrt v` are far below eps.

    The larger modulus of the roots of

    .. math::
        z^2 - (1 + \beta_1 - (1 - \beta_1) \eta \lambda / \epsilon) z + \beta_1 = 0

    Raises
    ------
    OutsideDomain
        Unless eps > 0, lam > 0, lr >= 0 and :math:`0 \le \beta_1 < 1`.

    Source: theory/adam_limit.py.
    """
    b1 = _check_beta1(beta1)
    weight = _epsilon_in_weights(lam, eps)
    require(weight > 0, "eps > 0", eps=eps)
    eta = np.asarray(lr, dtype=float)
    require(eta >= 0, "lr >= 0", lr=eta)
    half = (1 + b1 - (1 - b1) * eta / weight) / 2
    discriminant = half**2 - b1
    real = np.abs(half) + np.sqrt(np.maximum(discriminant, 0.0))
    return np.asarray(np.where(discriminant < 0, np.sqrt(b1), real))


# --- The 2-cycle ----------------------------------------------------------------------------------


@closed_form
def cycle_amplitude(
    *, lr: ArrayLike, beta1: ArrayLike, lam: ArrayLike = 1.0, eps: ArrayLike = 0.0
) -> Array:
    r"""Amplitude of the 2-cycle :math:`w_t = (-1)^t A` of Adam with L2 alone.

    .. math::
        A = \frac{\eta (1 - \beta_1)}{2 (1 + \beta_1)} - \frac{\epsilon}{\lambda}

    It solves the update rule for all betas, but attracts only where :func:`cycle_is_stable`. Elsewhere
    w oscillates in bursts about it, whose rms is still near A.

    Raises
    ------
    OutsideDomain
        Where there is none: unless :math:`\eta \lambda / \epsilon` > :func:`stability_threshold`.

    Source: Bock and Weiss, arXiv:2210.02070; derived in theory/adam_limit.py.
    """
    eta, weight = np.asarray(lr, dtype=float), _epsilon_in_weights(lam, eps)
    b1 = _check_beta1(beta1)
    amplitude = eta * (1 - b1) / (2 * (1 + b1)) - weight
    require(
        amplitude > 0,
        "a 2-cycle, lr * lam / eps > 2 (1 + beta1) / (1 - beta1)",
        lr=eta, beta1=b1, lam=lam, eps=eps,
    )  # fmt: skip
    return np.asarray(amplitude)


@closed_form
def largest_stable_share(*, beta1: ArrayLike, beta2: ArrayLike) -> Array:
    r"""The 2-cycle is stable iff :math:`A / (A + \epsilon / \lambda)` is below this.

    .. math::
        \frac{(1 - \beta_1)(1 - \beta_1 \beta_2)}{2 \beta_1 (1 + \beta_2)}

    Above 1 it is stable for every eps, and infinite for :math:`\beta_1 = 0`. The share is 1 for eps = 0
    and 0 at :func:`stability_threshold`.

    Raises
    ------
    OutsideDomain
        For betas outside [0, 1).

    Source: theory/adam_limit.py, by the conditions of Jury on the linearised map.
    """
    b1, b2 = _check_beta1(beta1), _check_beta2(beta2)
    with np.errstate(divide="ignore"):
        return np.asarray((1 - b1) * (1 - b1 * b2) / (2 * b1 * (1 + b2)))


@closed_form
def cycle_is_stable(
    *,
    lr: ArrayLike,
    beta1: ArrayLike,
    beta2: ArrayLike,
    lam: ArrayLike = 1.0,
    eps: ArrayLike = 0.0,
) -> NDArray[np.bool_]:
    """Whether the 2-cycle attracts weights that start near it; see `largest_stable_share`.

    Raises
    ------
    OutsideDomain
        Where there is no 2-cycle.
    """
    amplitude = cycle_amplitude(lr=lr, beta1=beta1, lam=lam, eps=eps)
    share = amplitude / (amplitude + _epsilon_in_weights(lam, eps))
    return np.asarray(share < largest_stable_share(beta1=beta1, beta2=beta2))


@closed_form
def critical_beta1(*, beta2: ArrayLike) -> Array:
    r"""The 2-cycle at eps = 0 is stable iff :math:`\beta_1` is below this.

    .. math::
        \frac{2}{3 (1 + \beta_2) + \sqrt{9 (1 + \beta_2)^2 - 4 \beta_2}},

    from 1/3 at :math:`\beta_2 = 0` to :math:`3 - 2 \sqrt 2 = 0.17` at 1.

    Raises
    ------
    OutsideDomain
        Unless :math:`0 \le \beta_2 < 1`.

    Source: theory/adam_limit.py.
    """
    b2 = _check_beta2(beta2)
    return np.asarray(2 / (3 * (1 + b2) + np.sqrt(9 * (1 + b2) ** 2 - 4 * b2)))


# --- The limit ------------------------------------------------------------------------------------


@closed_form
def step_at_rest(*, weight: ArrayLike, lr: ArrayLike, lam: ArrayLike, eps: ArrayLike = 0.0) -> Array:
    r"""Step towards 0 of a weight that has long been at the same place.

    .. math::
        \frac{\eta \lambda |w|}{\lambda |w| + \epsilon}

    As it is not 0 unless w is, no other place can be a limit.

    Raises
    ------
    OutsideDomain
        Unless lam > 0, eps >= 0, and, for eps = 0, the weight is not 0.

    Source: yaguchi2018, proposition III.3; derived in theory/adam_limit.py.
    """
    size, scale = np.abs(np.asarray(weight, dtype=float)), _epsilon_in_weights(lam, eps)
    require(size + scale > 0, "weight != 0 or eps > 0", weight=weight, eps=eps)
    return np.asarray(np.asarray(lr, dtype=float) * size / (size + scale))


# --- Claims ---------------------------------------------------------------------------------------


def _compare_cycle(lab: Lab, beta1: float, beta2: float, ratio: float, share: float) -> Comparison:
    # In units of lr: eps / lambda is what the share of A leaves of A + eps / lambda.
    eps = (1 - share) * float(cycle_amplitude(lr=1.0, beta1=beta1))
    amplitude = float(cycle_amplitude(lr=1.0, beta1=beta1, lam=1.0, eps=eps))
    path = lab.weight(
        "adam", lr=1.0, lam=1.0, beta1=beta1, beta2=beta2, eps=eps, theta0=ratio,
        steps=int(2 * ratio + 200 / (1 - beta2)), keep=1,
    ).paths[:, 0]  # fmt: skip
    late = np.abs(path[-int(20 / (1 - beta2)) :])
    return Comparison(
        measured=exact([late.min(), late.max()]),
        predicted=[amplitude, amplitude],
        control=[2 * amplitude, 2 * amplitude],
        x=[beta1, beta1],
        x_label="beta1",
        y_label="least and greatest late |w| / lr",
    )


def _compare_threshold(
    lab: Lab, beta1: float, beta2: float, ratio: float, distance: float
) -> Comparison:
    sides = np.array([1 - distance, 1 + distance])
    threshold = float(stability_threshold(beta1=beta1))
    steps = int(2 * ratio + 4000 + 60 / (1 - beta2))
    fates = []
    for side in sides:
        eps = 1 / (side * threshold)
        path = lab.weight(
            "adam", lr=1.0, lam=1.0, beta1=beta1, beta2=beta2, eps=eps,
            theta0=ratio, steps=steps, keep=1,
        ).paths[:, 0]  # fmt: skip
        # Far above where numbers underflow, and far below the amplitude of the 2-cycle.
        fates.append(float(np.abs(path[-steps // 2 :]).max() > 1e-4 * eps))
    return Comparison(
        measured=exact(fates),
        predicted=[0.0, 1.0],
        control=(sides * threshold > 2).astype(float),
        scale=[1.0, 1.0],
        x=sides * threshold,
        x_label="lr lambda / eps",
        y_label="does |w| stay?",
        log_x=True,
    )


def _compare_rest(
    lab: Lab, beta1: float, beta2: float, lr: float, lam: float, eps: float
) -> Comparison:
    # Weights beside eps / lambda, or beside the step.
    weights = np.array([1e-3, 0.1, 1.0, 10.0, 1e3]) * (eps / lam or lr)
    steps = int(20 / (1 - beta2)) + 200
    paths = lab.weight(
        "adam", lr=lr, beta1=beta1, beta2=beta2, eps=eps, regularization="none", theta0=0.0,
        gradients=np.broadcast_to(lam * weights, (steps, len(weights))),
        steps=steps, trajectories=len(weights), keep=len(weights),
    ).paths  # fmt: skip
    return Comparison(
        measured=exact((paths[-2] - paths[-1]) / lr),
        predicted=step_at_rest(weight=weights, lr=lr, lam=lam, eps=eps) / lr,
        control=np.ones(len(weights)),
        x=weights,
        x_label="weight at rest",
        y_label="step / lr",
        log_x=True,
    )


CLAIMS = (
    Claim(
        id="A7a",
        paper="yaguchi2018, figure 4; Bock and Weiss, arXiv:2210.02070",
        statement="After its sign change Adam with L2 alone tends to the 2-cycle w[t] = +-A, A = lr (1 "
        "- beta1)/(2 (1 + beta1)) - eps/lambda.",
        status=Status.LATER,
        printed="The paper shows an oscillation near 0 without an amplitude; later work has the "
        "2-cycle.",
        finding="The 2-cycle exists with that amplitude for all betas, but attracts only if A/(A + "
        "eps/lambda) < (1 - beta1)(1 - beta1 beta2)/(2 beta1 (1 + beta2)): at eps = 0 for beta1 below "
        "3 - 2 sqrt 2 = 0.17 (beta2 near 1) to 1/3 (beta2 near 0). At (0.9, 0.99) and (0.9, 0.999) w "
        "oscillates in bursts of up to 6 A and 10 A between lulls far below A. V stays near A, the "
        "edge of stability, so that the rms of w is A within 15 percent for beta1 <= beta2 and beta2 "
        ">= 0.5. Just below the critical beta1 bursts and the 2-cycle attract different starts. In a "
        "lull w may underflow and stay 0 for ever, which exact numbers would not.",
        counterexample="beta1 = 0.5, beta2 = 0.9, w0 = 2.5 lr, eps = 0: late |w| goes from below 0.1 A "
        "to above 3 A.",
        equation=r"$A = \frac{\eta (1 - \beta_1)}{2 (1 + \beta_1)} - \frac{\epsilon}{\lambda}$",
        derivation="adam_limit",
        experiment=_compare_cycle,
        control="2 A, the distance between its points",
        cases=(
            dict(beta1=0.0, beta2=0.9, ratio=2.5, share=1.0),
            dict(beta1=0.0, beta2=0.99, ratio=2.5, share=0.5),
            dict(beta1=0.1, beta2=0.99, ratio=2.5, share=1.0),
            dict(beta1=0.5, beta2=0.9, ratio=2.5, share=1.0),
            dict(beta1=0.9, beta2=0.99, ratio=100.0, share=1.0),
            dict(beta1=0.9, beta2=0.999, ratio=2.5, share=1.0),
        ),
        more_cases=(
            dict(beta1=0.9, beta2=0.99, ratio=100.0, share=0.002),
            dict(beta1=0.15, beta2=0.9, ratio=30.0, share=1.0),
            dict(beta1=0.3, beta2=0.99, ratio=0.3, share=0.5),
            dict(beta1=0.3, beta2=0.99, ratio=0.3, share=1.0),
        ),
        domain=dict(
            beta1=Range(0.0, 0.95),
            beta2=Range(0.3, 0.999),
            ratio=Range(0.3, 100.0, log=True),
            share=Range(0.002, 1.0),
        ),
        recorded="refuted",
    ),
    Claim(
        id="A7b",
        paper="Bock and Weiss, arXiv:2210.02070; Cohen et al., arXiv:2207.14484",
        statement="Adam with L2 alone and beta1^2 <= beta2 ends at 0 iff lr lambda/eps < 2 (1 + "
        "beta1)/(1 - beta1).",
        status=Status.LATER,
        printed="In the papers a threshold of local stability, 38/lr for beta1 = 0.9; tested here as "
        "the fate of the weight, from starts up to 2 lr.",
        finding="Holds, within 2 percent of the threshold on both sides. beta1^2 <= beta2 is needed: "
        "at (0.9, 0.5) or (0.95, 0.7) a large cycle attracts most starts even 2 percent below the "
        "threshold, where 0 is stable only nearby. From starts far above lr w may underflow before it "
        "returns.",
        equation=r"$w_t \to 0\ \Leftrightarrow\ \frac{\eta \lambda}{\epsilon} < "
        r"\frac{2 (1 + \beta_1)}{1 - \beta_1}$",
        derivation="adam_limit",
        experiment=_compare_threshold,
        control="2, the threshold without first moment",
        cases=(
            dict(beta1=0.9, beta2=0.99, ratio=1.0, distance=0.02),
            dict(beta1=0.9, beta2=0.999, ratio=0.1, distance=0.02),
            dict(beta1=0.0, beta2=0.9, ratio=1.7, distance=0.02),
            dict(beta1=0.5, beta2=0.5, ratio=0.3, distance=0.02),
        ),
        more_cases=(
            dict(beta1=0.9, beta2=0.82, ratio=2.0, distance=0.02),
            dict(beta1=0.2, beta2=0.99, ratio=0.7, distance=0.05),
            dict(beta1=0.95, beta2=0.95, ratio=0.01, distance=0.1),
        ),
        domain=dict(
            beta1=Range(0.0, 0.95),
            beta2=Range(0.3, 0.999),
            ratio=Range(0.01, 2.0, log=True),
            distance=Range(0.02, 0.5),
        ),
        assumptions=(
            Assumption("beta1^2 <= beta2", lambda beta1, beta2, **_: beta1**2 <= beta2),
            Assumption(
                "w does not underflow before it returns: 1 - beta2 >= 0.009 (1 - beta1)",
                lambda beta1, beta2, **_: 1 - beta2 >= 0.009 * (1 - beta1),
            ),
        ),
        recorded="holds",
    ),
    Claim(
        id="A8",
        paper="yaguchi2018, proposition III.3",
        statement="Adam with L2 alone has no limit but 0: at rest at w its step is lr lambda "
        "|w|/(lambda |w| + eps), which is not 0 unless w is.",
        status=Status.RECONSTRUCTED,
        printed="If w converges, its limit is 0; the step of the proof is lost and tested here, on the "
        "gradient of a weight at rest.",
        finding="Holds for all betas, lr, lambda and eps. For eps > 0 there is a limit below the "
        "threshold of A7b. For eps = 0 the proposition is empty but for exceptional starts: 0 repels, "
        "as the step nearby is about lr. (beta1 = 0 and w0 = lr hits 0 at the first step and stays; so "
        "does a weight that underflows.)",
        equation=r"$|\Delta w| \to \frac{\eta \lambda |w_*|}{\lambda |w_*| + \epsilon}$",
        derivation="adam_limit",
        experiment=_compare_rest,
        control="lr at any distance: eps dropped",
        cases=(
            dict(beta1=0.9, beta2=0.99, lr=1e-3, lam=1e-4, eps=1e-8),
            dict(beta1=0.0, beta2=0.9, lr=0.1, lam=1.0, eps=1e-3),
            dict(beta1=0.9, beta2=0.999, lr=1e-3, lam=1e-2, eps=0.0),
        ),
        more_cases=(dict(beta1=0.99, beta2=0.9, lr=0.1, lam=1e-5, eps=1e-8),),
        domain=dict(
            beta1=Range(0.0, 0.99),
            beta2=Range(0.1, 0.999),
            lr=Range(1e-4, 1.0, log=True),
            lam=Range(1e-6, 10.0, log=True),
            eps=(0.0, 1e-12, 1e-8, 1e-3),
        ),
        tolerance=1e-9,
        recorded="holds",
    ),
)

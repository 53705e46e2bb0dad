"""Where AdamW ends on a full-batch loss when its learning rate decays with infinite sum."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.theorems import estimates
from regdyn.theorems.base import Claim, Comparison, Lab, Range, Status, closed_form, require

Array = NDArray[np.float64]


@closed_form
def adamw_limit(
    *, target: ArrayLike, lam: ArrayLike, curvature: ArrayLike = 1.0, eps: ArrayLike = 0.0
) -> Array:
    r"""Limit of AdamW on the loss :math:`\frac h2 (\theta - \theta^*)^2`.

    .. math::
        \theta_\infty = \operatorname{clip}(\theta^*, \pm 1/\lambda)

    for :math:`\epsilon = 0`: the loss decides up to :math:`|\theta| = 1/\lambda` and no further,
    whatever its curvature. With :math:`\epsilon` it is the root between 0 and :math:`\theta^*` of

    .. math::
        \lambda \theta\, (h |\theta - \theta^*| + \epsilon) = h (\theta^* - \theta)

    Parameters
    ----------
    target
        :math:`\theta^*`, the minimum of the loss.
    lam
        :math:`\lambda \ge 0` of the decoupled decay.
    curvature
        :math:`h > 0`.
    eps
        As in the optimizer, >= 0. All parameters broadcast.

    Source: Xie and Li, arXiv:2404.04454; with eps, ours.
    """
    target, lam = np.asarray(target, dtype=float), np.asarray(lam, dtype=float)
    h, eps = np.asarray(curvature, dtype=float), np.asarray(eps, dtype=float)
    require(np.isfinite(target), "a finite target", target=target)
    require((lam >= 0) & (eps >= 0), "lam >= 0 and eps >= 0", lam=lam, eps=eps)
    require(h > 0, "curvature > 0", curvature=h)
    x, floor = lam * np.abs(target), lam * eps / h
    # The smaller root of u^2 - (1 + x + floor) u + x for u = lam theta, free of cancellation.
    spread = np.sqrt((1 - x) ** 2 + 2 * (1 + x) * floor + floor**2)
    return np.asarray(2 * target / (1 + x + floor + spread))


@closed_form
def remaining_distance(*, lr: ArrayLike, lam: float) -> float:
    r"""Share of the way to :math:`\pm 1/\lambda` that is left after steps with the rates `lr`.

    .. math::
        \frac{\theta_t \mp 1/\lambda}{\theta_0 \mp 1/\lambda} = \prod_{i \le t} (1 - \eta_i \lambda)

    while the gradient changes little, so that every step is :math:`\pm \eta_i`. It tends to 0 just
    if the rates have an infinite sum.

    Raises
    ------
    OutsideDomain
        Unless :math:`0 \le \eta_i \lambda < 1`.

    Source: the update rule.
    """
    decay = np.asarray(lr, dtype=float) * lam
    require((decay >= 0) & (decay < 1), "0 <= lr lam < 1", decay=decay)
    return float(np.exp(np.sum(np.log1p(-decay))))


_STEPS = 40_000
_TARGETS = (-5.0, -1.5, -1.1, -0.9, -0.3, 0.3, 0.9, 1.1, 1.5, 5.0)


def _clipped(
    lab: Lab, *, beta1: float, beta2: float, power: float, lam: float, curvature: float, start: float
) -> Comparison:
    schedule = (1 + np.arange(_STEPS) / 100) ** -power
    ends = [
        lab.weight(
            "adam", steps=_STEPS, theta0=start / lam, regularization="decoupled", lam=lam,
            curvature=curvature, target=x / lam, schedule=schedule, times=[1],
            lr=0.1 / lam, beta1=beta1, beta2=beta2, eps=0.0,
        ).final[0] * lam
        for x in _TARGETS
    ]  # fmt: skip
    targets = np.array(_TARGETS)
    return Comparison(
        measured=estimates.exact(ends),
        predicted=lam * adamw_limit(target=targets / lam, lam=lam),
        control=targets * curvature / (curvature + lam),
        x=targets,
        x_label="lam target",
        y_label="lam theta after the run",
        scale=np.ones(len(targets)),
    )


CLAIMS = (
    Claim(
        id="B8",
        paper="Xie and Li 2024 (arXiv:2404.04454), theorem 1.1",
        statement="On a full-batch quadratic loss with minimum target, and with a learning rate that "
        "decays as t^-p, p <= 1, AdamW tends to clip(target, -1/lam, 1/lam).",
        status=Status.LATER,
        printed="If AdamW converges with learning rates that do not grow and have an infinite sum, its "
        "limit satisfies the KKT conditions of min loss subject to |theta| <= 1/lam.",
        finding="It holds within 1 percent of 1/lam after 40,000 steps, whatever the curvature and the "
        "start. Beyond 1/lam the rest is the product of 1 - lr lam: with a finite sum it stays. Below "
        "1/lam the weight oscillates around target by the order of the last learning rate, so a "
        "constant one does not converge. A target of just 1/lam is approached slowly (0.005 / lam is "
        "left after 200,000 steps with b2 = 0.999), and so are those near it with b1 > b2 (0.06 / lam "
        "with b1 = 0.99, b2 = 0.9). With eps the limit moves by the order of lam eps / curvature.",
        equation=r"$\lim_{t \to \infty} \theta_t = \min(\max(\theta^*, -1/\lambda), 1/\lambda)$",
        derivation="adamw_limit",
        experiment=_clipped,
        control="the limit of gradient descent with that decay, curvature target / (curvature + lam)",
        cases=(
            {"beta1": 0.9, "beta2": 0.99, "power": 1.0, "lam": 0.1, "curvature": 1.0, "start": 0.5},
            {"beta1": 0.9, "beta2": 0.999, "power": 0.75, "lam": 1.0, "curvature": 1e-2, "start": -2.0},
        ),
        more_cases=(
            {"beta1": 0.0, "beta2": 0.9, "power": 1.0, "lam": 1.0, "curvature": 1.0, "start": 0.0},
            {"beta1": 0.5, "beta2": 0.95, "power": 0.75, "lam": 1e-3, "curvature": 10.0, "start": 2.0},
        ),
        domain={
            "beta1": Range(0.0, 0.9),
            "beta2": Range(0.9, 0.999),
            "power": Range(0.75, 1.0),
            "lam": Range(1e-3, 10.0, log=True),
            "curvature": Range(1e-3, 1e3, log=True),
            "start": Range(-3.0, 3.0),
        },
        tolerance=0.01,
        exact=False,
        recorded="holds",
    ),
)

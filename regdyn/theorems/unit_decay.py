"""A dead BN+ReLU unit under decay alone: what happens to beta/gamma, and how psBN revives it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from regdyn.theorems import estimates
from regdyn.theorems.base import (
    Array,
    Assumption,
    Claim,
    Comparison,
    Lab,
    Range,
    Status,
    closed_form,
    require,
)


@closed_form
def ratio_after(
    t: ArrayLike, *, gamma0: ArrayLike, beta0: ArrayLike, rate: ArrayLike, alpha: ArrayLike = 0.0
) -> Array:
    r"""C = (beta + alpha)/|gamma| after t steps of decay without gradient.

    .. math::
        C_t = \frac{\beta_0}{|\gamma_0|} + \frac{\alpha}{|\gamma_0| (1 - a)^t}, \qquad
        C_{t+1} = C_t + \frac{a}{1 - a} \frac{\alpha}{|\gamma_t|}

    so that without the shift (:math:`\alpha = 0`) the ratio never changes.

    Parameters
    ----------
    t
        Steps, not negative.
    gamma0, beta0
        Scale and bias at the start.
    rate
        a, the share of itself that a parameter loses in a step: :math:`\eta \lambda` for L2 under plain
        SGD and for decoupled decay, :math:`\lambda` for the weight decay of mehta2019.
    alpha
        Shift of psBN.

    Raises
    ------
    OutsideDomain
        Unless gamma0, beta0, alpha are finite, :math:`\gamma_0 \ne 0`, :math:`\alpha \ge 0`,
        :math:`0 \le a < 1` and :math:`t \ge 0`.

    Source: zhou2020, sections 4.3 and 5; the law after t steps is ours.
    """
    gamma, beta, a, shift = _checked(gamma0, beta0, rate, alpha)
    steps = np.asarray(t, dtype=float)
    require(steps >= 0, "t >= 0", t=steps)
    with np.errstate(over="ignore", divide="ignore"):
        # Without a shift the exponential of minus infinity is 0, whatever the growth.
        shifted = np.exp(np.log(shift) - steps * np.log1p(-a))
        return np.asarray((beta + shifted) / np.abs(gamma))


@closed_form
def steps_until_ratio(
    target: ArrayLike, *, gamma0: ArrayLike, beta0: ArrayLike, rate: ArrayLike, alpha: ArrayLike
) -> Array:
    r"""Steps of decay after which C = (beta + alpha)/|gamma| reaches `target`, not rounded.

    .. math::
        t = \frac{\ln\left((C |\gamma_0| - \beta_0)/\alpha\right)}{-\ln(1 - a)}

    and 0 where it starts at or above it. For C = 0, half of the inputs active,
    :math:`t = \ln(|\beta_0|/\alpha)/(-\ln(1 - a))`.

    Raises
    ------
    OutsideDomain
        As for `ratio_after`, and unless alpha and rate are positive: without them C never moves.

    Other parameters as for `ratio_after`. Source: ours, from zhou2020, section 5.
    """
    gamma, beta, a, shift = _checked(gamma0, beta0, rate, alpha)
    require(shift > 0, "alpha > 0, without which the ratio never changes", alpha=shift)
    require(a > 0, "rate > 0, without which the ratio never changes", rate=a)
    goal = np.asarray(target, dtype=float)
    require(np.isfinite(goal), "a finite target", target=goal)
    growth = np.maximum((goal * np.abs(gamma) - beta) / shift, 1.0)
    return np.asarray(np.log(growth) / -np.log1p(-a))


@closed_form
def steps_until_active(
    probability: ArrayLike, *, gamma0: ArrayLike, beta0: ArrayLike, rate: ArrayLike, alpha: ArrayLike
) -> Array:
    r"""Steps of decay after which a share `probability` of the inputs is active.

    `steps_until_ratio` for :math:`C = \Phi^{-1}(p)`.

    Raises
    ------
    OutsideDomain
        As there, and unless :math:`0 < p < 1`.

    Source: ours, from zhou2020, section 5.
    """
    p = np.asarray(probability, dtype=float)
    require((p > 0) & (p < 1), "0 < probability < 1", probability=p)
    return steps_until_ratio(ndtri(p), gamma0=gamma0, beta0=beta0, rate=rate, alpha=alpha)


@closed_form
def adam_first_ratio(
    *, gamma0: ArrayLike, beta0: ArrayLike, lr: ArrayLike, lam: ArrayLike, eps: ArrayLike = 0.0
) -> Array:
    r"""beta/|gamma| after the first step of Adam with L2 on a dead unit.

    .. math::
        \theta_1 = \theta_0 - \eta \frac{\lambda \theta_0}{\lambda |\theta_0| + \epsilon}

    for :math:`\theta = \gamma, \beta`: with bias correction the first step has the length of the
    learning rate, whatever the parameter. For :math:`\epsilon = 0`

    .. math::
        r_1 = \frac{\beta_0 - \eta\, \mathrm{sign} \beta_0}{|\,|\gamma_0| - \eta\,|}.

    Raises
    ------
    OutsideDomain
        Unless gamma0 and beta0 are finite, :math:`\gamma_0 \ne 0`, lr and eps not negative, lam
        positive, and :math:`\gamma_1 \ne 0`.

    Source: ours; zhou2020, section 4.3, has the ratio constant.
    """
    gamma, beta, _, _ = _checked(gamma0, beta0, 0.0, 0.0)
    rate, strength, damping = (np.asarray(x, dtype=float) for x in (lr, lam, eps))
    require(np.isfinite(rate) & (rate >= 0), "a finite lr >= 0", lr=rate)
    require(np.isfinite(strength) & (strength > 0), "a finite lam > 0", lam=strength)
    require(np.isfinite(damping) & (damping >= 0), "a finite eps >= 0", eps=damping)

    def step(theta: Array) -> Array:
        gradient = strength * theta
        length = np.abs(gradient) + damping
        return np.asarray(theta - rate * gradient / np.where(length > 0, length, 1.0))

    scale = step(gamma)
    require(scale != 0, "a gamma other than 0 after the step", gamma0=gamma, lr=rate)
    return np.asarray(step(beta) / np.abs(scale))


def _checked(
    gamma0: ArrayLike, beta0: ArrayLike, rate: ArrayLike, alpha: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    gamma, beta, a, shift = (np.asarray(x, dtype=float) for x in (gamma0, beta0, rate, alpha))
    require(np.isfinite(gamma) & (gamma != 0), "a finite gamma0 other than 0", gamma0=gamma)
    require(np.isfinite(beta), "a finite beta0", beta0=beta)
    require((a >= 0) & (a < 1), "0 <= rate < 1", rate=a)
    require(np.isfinite(shift) & (shift >= 0), "a finite alpha >= 0", alpha=shift)
    return gamma, beta, a, shift


def _path(lab: Lab, optimizer: str, steps: int, **config: Any) -> tuple[Array, Array]:
    """gamma and beta at steps 0 … steps of one unit that lives under N(0, 1) gradients."""
    unit = lab.unit(optimizer, steps=steps, trajectories=1, times=[steps], keep=1, c=1.0, **config)
    return unit.paths[:, 0, 0].astype(float), unit.paths[:, 0, 1].astype(float)


def _kept_experiment(
    lab: Lab, *, optimizer: str, regularization: str, r: float, lr: float, lam: float
) -> Comparison:
    gamma0, steps = 0.5, np.array([1, 10, 100])
    rate = lam if regularization == "paper" else lr * lam
    gamma, beta = _path(
        lab, optimizer, 100, lr=lr, gamma0=gamma0, beta0=r * gamma0, lam=lam,
        regularization=regularization,
    )  # fmt: skip
    return Comparison(
        measured=estimates.exact(beta[steps] / np.abs(gamma[steps])),
        predicted=np.full(3, r),
        control=r * (1 - rate) ** -steps,
        x=steps,
        x_label="step",
        y_label="beta / |gamma|",
        log_x=True,
    )


def _adaptive_experiment(lab: Lab, *, gamma0: float, beta0: float, lr: float, lam: float) -> Comparison:
    # A short way, before gamma comes near 0.
    last = max(1, int(0.4 * abs(gamma0) / lr))
    steps = np.unique([1, max(1, last // 4), last])
    gamma, beta = _path(
        lab, "adam", last, lr=lr, gamma0=gamma0, beta0=beta0, lam=lam, regularization="l2"
    )
    r = beta0 / abs(gamma0)
    return Comparison(
        measured=estimates.exact(beta[steps] / np.abs(gamma[steps])),
        predicted=np.full(len(steps), r),
        control=r * (1 - lr * lam) ** steps,
        x=steps,
        x_label="step",
        y_label="beta / |gamma|",
        log_x=True,
    )


def _shift_experiment(
    lab: Lab, *, gamma0: float, beta0: float, alpha: float, lr: float, lam: float, regularization: str
) -> Comparison:
    rate = lr * lam
    start = (beta0 + alpha) / abs(gamma0)
    unit = {"gamma0": gamma0, "beta0": beta0, "alpha": alpha, "rate": rate}
    half, first = (
        float(steps_until_active(p, gamma0=gamma0, beta0=beta0, alpha=alpha, rate=rate))
        for p in (0.5, 1e-3)
    )
    last = int(half) + 2
    simulated = lab.unit(
        "sgd", momentum=0.0, lr=lr, lam=lam, regularization=regularization, steps=last,
        trajectories=1, times=[last], keep=1, c=0.0, gamma0=gamma0, beta0=beta0, alpha=alpha,
    )  # fmt: skip
    gamma, beta = simulated.paths[:, 0, 0].astype(float), simulated.paths[:, 0, 1].astype(float)
    ratio = (beta + alpha) / np.abs(gamma)
    middle = last // 2
    crossings = [int(np.argmax(ratio >= c)) for c in (0.0, float(ndtri(1e-3)))]
    return Comparison(
        measured=estimates.exact([ratio[1], ratio[middle], *crossings]),
        predicted=[*ratio_after([1, middle], **unit), np.ceil(half), np.ceil(first)],
        # The shift decays along, or a stands for -ln(1 - a).
        control=[start, start, *np.ceil(np.array([half, first]) * -np.log1p(-rate) / rate)],
        scale=[abs(start), abs(start), np.ceil(half), np.ceil(first)],
        x=[1, middle, np.ceil(half), np.ceil(first)],
        x_label="step: ratio at 1 and halfway; steps to 50 percent and to 0.1 percent active",
        y_label="ratio, or number of steps",
    )


_PAPER = "zhou2020"

CLAIMS = (
    Claim(
        id="C7a",
        paper=f"{_PAPER}, section 4.3",
        statement=(
            "While a unit is dead, SGD with L2 and decoupled decay leave beta/gamma as it is, with "
            "or without momentum"
        ),
        status=Status.PRINTED,
        printed="Under a constant weight decay beta/gamma keeps its value; both parameters go to 0.",
        finding=(
            "Holds, to rounding, where decay multiplies both parameters by the same factor: decoupled "
            "decay and the weight decay of mehta2019 under every rule, L2 under SGD with momentum mu "
            "while eta lambda <= (1 - sqrt(mu))^2. Beyond, gamma and beta swing through 0 together: "
            "beta/gamma stays, but beta/|gamma| changes its sign and the dead unit wakes. Started at "
            "r <= -9 the unit meets no active input, though the gradients are on."
        ),
        equation=r"$\beta_t/\gamma_t = \beta_0/\gamma_0$",
        derivation="unit_decay",
        experiment=_kept_experiment,
        control="decay on gamma alone: the ratio grows by 1/(1 - a) a step",
        cases=(
            {"optimizer": "sgd", "regularization": "l2", "r": -9.0, "lr": 0.1, "lam": 5e-4},
            {"optimizer": "sgd", "regularization": "decoupled", "r": -12.0, "lr": 0.1, "lam": 5e-4},
            {"optimizer": "adam", "regularization": "decoupled", "r": -10.0, "lr": 1e-3, "lam": 0.1},
        ),
        more_cases=(
            {"optimizer": "adagrad", "regularization": "paper", "r": -15.0, "lr": 1e-2, "lam": 1e-3},
        ),
        domain={
            "optimizer": ("sgd", "adam", "adamax", "amsgrad", "rmsprop", "adagrad", "adadelta"),
            "regularization": ("l2", "decoupled", "paper"),
            "r": Range(-20.0, -9.0),
            "lr": Range(1e-3, 1.0, log=True),
            "lam": Range(1e-4, 0.1, log=True),
        },
        assumptions=(
            Assumption(
                "L2 only under SGD",
                lambda optimizer, regularization, **_: optimizer == "sgd" or regularization != "l2",
            ),
            Assumption(
                "under L2 lr lambda <= (1 - sqrt 0.9)^2, or momentum makes both swing through 0",
                lambda regularization, lr, lam, **_: (
                    regularization != "l2" or lr * lam <= (1 - np.sqrt(0.9)) ** 2
                ),
            ),
        ),
        tolerance=1e-9,
        recorded="holds",
    ),
    Claim(
        id="C7b",
        paper=f"{_PAPER}, section 4.3",
        statement="While a unit is dead, Adam with L2 leaves beta/gamma as it is",
        status=Status.PRINTED,
        printed=("The same sentence: it names no optimizer, and the paper trains with Adam too."),
        finding=(
            "Fails. Adam moves gamma and beta by about lr a step each, whatever their size, until "
            "one of them comes near 0: r_t is near (beta0 + lr t)/(gamma0 - lr t), exact for eps = "
            "0 at t = 1. As |beta| > 3 |gamma| in a dead unit, gamma goes first and the ratio runs "
            "to minus infinity: from -10 to -17.8 in 50 steps of 1e-3 from gamma = 0.1, to -43 in "
            "100. AMSGrad, RMSProp, Adagrad and AdaMax do the same, Adadelta by 0.1 percent."
        ),
        counterexample=(
            "gamma = 0.1, beta = -1, lr 1e-3: the first step takes the ratio from -10 to "
            "-0.999/0.099 = -10.09"
        ),
        equation=r"$r_1 = (\beta_0+\eta)/(\gamma_0-\eta)\neq\beta_0/\gamma_0$",
        derivation="unit_decay",
        experiment=_adaptive_experiment,
        control="the ratio falls off like the parameters under SGD, by 1 - eta lambda a step",
        cases=({"gamma0": 0.1, "beta0": -1.0, "lr": 1e-3, "lam": 1e-3},),
        more_cases=({"gamma0": 0.2, "beta0": -3.0, "lr": 1e-3, "lam": 1e-4},),
        domain={
            "gamma0": Range(0.05, 0.3),
            "beta0": Range(-4.0, -1.0),
            "lr": Range(1e-4, 1e-2, log=True),
            "lam": Range(1e-4, 1e-2, log=True),
        },
        assumptions=(
            Assumption(
                "beta0 <= -9 |gamma0|: no input is active",
                lambda gamma0, beta0, **_: beta0 <= -9 * abs(gamma0),
            ),
            Assumption("lr <= |gamma0|/4", lambda gamma0, lr, **_: 4 * lr <= abs(gamma0)),
        ),
        tolerance=1e-9,
        recorded="refuted",
    ),
    Claim(
        id="C8",
        paper=f"{_PAPER}, section 5, Eq. (6)",
        statement=(
            "A dead unit of psBN under decay has C_t = beta0/|gamma0| + alpha/(|gamma0| (1 - a)^t),"
            " and half of its inputs are active after ln(|beta0|/alpha)/(-ln(1 - a)) steps"
        ),
        status=Status.PRINTED,
        printed=(
            "One decay step takes C = (beta + alpha)/|gamma| to C + (a/(1 - a)) alpha/|gamma| with "
            "a = eta lambda, so that the unit revives. The law after t steps and the times are ours."
        ),
        finding=(
            "Holds, for plain SGD with L2 and for decoupled decay. The way back is long: with the "
            "paper's lr 0.1, lambda 5e-4 and alpha 0.1 a unit at gamma = 0.1, beta = -0.5 needs "
            "12,900 steps until 0.1 percent and 32,200 until half of its inputs are active, 33 and "
            "82 epochs of CIFAR-10. Momentum 0.9 with L2 makes a ten times larger."
        ),
        equation=r"$C_t = \frac{\beta_0}{|\gamma_0|}+\frac{\alpha}{|\gamma_0|(1-a)^t}$",
        derivation="unit_decay",
        experiment=_shift_experiment,
        control="a step without the factor: the shift decays along, and a in place of -ln(1 - a)",
        cases=(
            {"gamma0": 0.1, "beta0": -1.0, "alpha": 0.1, "lr": 0.1, "lam": 0.2, "regularization": "l2"},
            {
                "gamma0": 0.2,
                "beta0": -2.0,
                "alpha": 0.05,
                "lr": 0.5,
                "lam": 0.02,
                "regularization": "decoupled",
            },
        ),
        domain={
            "gamma0": Range(0.05, 0.25),
            "beta0": Range(-3.0, -0.5),
            "alpha": Range(0.01, 0.2),
            "lr": Range(0.02, 0.5, log=True),
            "lam": Range(0.01, 0.5, log=True),
            "regularization": ("l2", "decoupled"),
        },
        assumptions=(
            Assumption(
                "(beta0 + alpha)/|gamma0| < -3.1: dead at first",
                lambda gamma0, beta0, alpha, **_: beta0 + alpha < -3.1 * abs(gamma0),
            ),
            Assumption("0.001 <= eta lambda < 1", lambda lr, lam, **_: 0.001 <= lr * lam < 1),
        ),
        tolerance=1e-9,
        recorded="holds",
    ),
)

"""Mean and spread of a batch-normalised unit behind ReLU or leaky ReLU: E[BN] of bartoldson2020."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfcx, ndtr

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

# From here on the continued fraction of `tail_integrals` has converged after so many terms.
_FAR, _TERMS = 2.5, 100

# Ratios beyond this are all the same; infinite ones would give 0 times infinity.
_FLAT = 1e100


@closed_form
def mean(*, gamma: ArrayLike, beta: ArrayLike) -> Array:
    r"""Mean of :math:`\mathrm{ReLU}(\gamma \hat x + \beta)` for :math:`\hat x \sim N(0, 1)`.

    .. math::
        M_1 = \beta \Phi(r) + s \varphi(r), \qquad s = |\gamma|,\; r = \beta / s

    with relative error near rounding for every r, however negative.

    Parameters
    ----------
    gamma, beta
        Scale and bias of the batch normalisation; shapes that broadcast.

    Raises
    ------
    OutsideDomain
        Unless both are finite and :math:`\gamma \ne 0`.

    Source: bartoldson2020, appendix A.1, whose formula is lost from our copy of the text.
    """
    s, _, (_, first, _) = _parts(gamma, beta)
    return np.asarray(np.maximum(beta, 0.0) + s * first)


@closed_form
def second_moment(*, gamma: ArrayLike, beta: ArrayLike) -> Array:
    r"""Second moment of :math:`\mathrm{ReLU}(\gamma \hat x + \beta)`.

    .. math::
        M_2 = (\beta^2 + s^2) \Phi(r) + \beta s \varphi(r)

    Parameters and errors as for `mean`. Source: ours.
    """
    s, r, (_, _, second) = _parts(gamma, beta)
    beta = np.asarray(beta, dtype=float)
    return np.asarray(np.where(r > 0, beta * beta + s * s * (1 - second), s * s * second))


@closed_form
def variance(*, gamma: ArrayLike, beta: ArrayLike) -> Array:
    r"""Variance :math:`M_2 - M_1^2` of :math:`\mathrm{ReLU}(\gamma \hat x + \beta)`.

    Without the cancellation that the difference suffers for large :math:`|r|`. Parameters and errors
    as for `mean`. Source: ours.
    """
    s, r, (_, first, second) = _parts(gamma, beta)
    negative = second - first**2
    # Above 0 the part that ReLU removes is the small one.
    positive = 1 - second - 2 * np.maximum(r, 0.0) * first - first**2
    return np.asarray(s * s * np.where(r > 0, positive, negative))


@closed_form
def leaky_mean(*, gamma: ArrayLike, beta: ArrayLike, slope: ArrayLike) -> Array:
    r"""Mean behind a leaky ReLU of slope b below 0.

    .. math::
        b \beta + (1 - b) M_1

    Parameters and errors as for `mean`; `slope` is b, finite. Source: ours.
    """
    b = _finite_slope(slope)
    return np.asarray(b * np.asarray(beta, dtype=float) + (1 - b) * mean(gamma=gamma, beta=beta))


@closed_form
def leaky_second_moment(*, gamma: ArrayLike, beta: ArrayLike, slope: ArrayLike) -> Array:
    r"""Second moment behind a leaky ReLU of slope b below 0.

    .. math::
        b^2 (\beta^2 + s^2) + (1 - b^2) M_2

    computed as :math:`M_2(\beta) + b^2 M_2(-\beta)`, which adds positive numbers only. Parameters and
    errors as for `leaky_mean`. Source: ours.
    """
    b = _finite_slope(slope)
    above = second_moment(gamma=gamma, beta=beta)
    below = second_moment(gamma=gamma, beta=-np.asarray(beta, dtype=float))
    return np.asarray(above + b * b * below)


@closed_form
def leaky_variance(*, gamma: ArrayLike, beta: ArrayLike, slope: ArrayLike) -> Array:
    r"""Variance behind a leaky ReLU of slope b below 0.

    With P and N the positive and the negative part, of which one is 0,

    .. math::
        \mathrm{Var}(P - b N) = \mathrm{Var} P + b^2 \mathrm{Var} N + 2 b\, E P\, E N.

    Parameters and errors as for `leaky_mean`. Source: ours.
    """
    b = _finite_slope(slope)
    above, below = ({"gamma": gamma, "beta": sign * np.asarray(beta, dtype=float)} for sign in (1, -1))
    crossed = 2 * b * mean(**above) * mean(**below)
    return np.asarray(variance(**above) + b * b * variance(**below) + crossed)


@closed_form
def truncated_normal_form(*, gamma: ArrayLike, beta: ArrayLike) -> Array:
    r"""The mean as written with a truncated normal law and with the sign of gamma left in.

    .. math::
        (1 - \Phi(\alpha)) \left(\beta + \gamma \frac{\varphi(\alpha)}{1 - \Phi(\alpha)}\right),
        \qquad \alpha = -\beta / \gamma

    For :math:`\gamma > 0` it is `mean`. For :math:`\gamma < 0` it is minus the `mean` of
    :math:`-\beta`: the mean of :math:`\min(0, \gamma \hat x + \beta)`, never positive.

    Parameters and errors as for `mean`. Source: bartoldson2020, appendix A.1, reconstructed; the
    authors' code has both forms (github.com/bbartoldson/GeneralizationStabilityTradeoff, models.py,
    the scores "EBN" with the modulus of gamma and "alt" without).
    """
    sign = np.sign(np.asarray(gamma, dtype=float))
    return np.asarray(sign * mean(gamma=gamma, beta=sign * np.asarray(beta, dtype=float)))


@closed_form
def activation_probability(*, gamma: ArrayLike, beta: ArrayLike) -> Array:
    r"""Probability :math:`\Phi(\beta / |\gamma|)` that the unit is active.

    Parameters and errors as for `mean`. Source: zhou2020, Eq. (2), for either sign of gamma.
    """
    _, r = _scale_and_ratio(gamma, beta)
    return np.asarray(ndtr(r))


@closed_form
def tail_integrals(a: ArrayLike) -> tuple[Array, Array, Array]:
    r"""Integrals of the normal law beyond :math:`a \ge 0`, divided by its density there.

    .. math::
        I_k(a) = \int_0^\infty t^k e^{-a t - t^2/2}\, dt, \quad k = 0, 1, 2, \qquad
        E (\hat x - a)_+^k = \varphi(a) I_k(a)

    I_0 is the Mills ratio. The ratios obey :math:`I_k / I_{k-1} = k / (a + I_{k+1} / I_k)`; the
    continued fraction has positive terms only, where the closed forms :math:`1 - a I_0` and
    :math:`(1 + a^2) I_0 - a` lose digits. Near 0 those serve.
    """
    a = np.asarray(a, dtype=float)
    mills = np.sqrt(np.pi / 2) * erfcx(a / np.sqrt(2))
    far = np.maximum(a, _FAR)
    ratio = np.zeros_like(far)
    for k in range(_TERMS, 1, -1):
        ratio = k / (far + ratio)
    near = np.minimum(a, _FAR)
    first = np.where(a < _FAR, 1 - near * mills, mills / (far + ratio))
    second = np.where(a < _FAR, mills - near * first, first * ratio)
    return np.asarray(mills), first, second


def _scale_and_ratio(gamma: ArrayLike, beta: ArrayLike) -> tuple[Array, Array]:
    gamma, beta = np.asarray(gamma, dtype=float), np.asarray(beta, dtype=float)
    require(np.isfinite(gamma) & (gamma != 0), "a finite gamma other than 0", gamma=gamma)
    require(np.isfinite(beta), "a finite beta", beta=beta)
    s = np.abs(gamma)
    with np.errstate(over="ignore"):
        return s, np.clip(beta / s, -_FLAT, _FLAT)


def _parts(gamma: ArrayLike, beta: ArrayLike) -> tuple[Array, Array, tuple[Array, Array, Array]]:
    """|gamma|, r, and E (x - |r|)_+^k for k = 0, 1, 2."""
    s, r = _scale_and_ratio(gamma, beta)
    a = np.abs(r)
    with np.errstate(over="ignore", under="ignore"):
        density = np.exp(-a * a / 2) / np.sqrt(2 * np.pi)
        zeroth, first, second = (density * integral for integral in tail_integrals(a))
    return s, r, (zeroth, first, second)


def _finite_slope(slope: ArrayLike) -> Array:
    b = np.asarray(slope, dtype=float)
    require(np.isfinite(b), "a finite slope", slope=b)
    return b


def _units(lab: Lab, n: int, gamma: float, beta: float) -> Array:
    """gamma x + beta and its twin with -x, shape (2, n)."""
    spread = gamma * lab.normals(lab.size(n))
    return np.stack([beta + spread, beta - spread])


def _mean_experiment(lab: Lab, *, gamma: float, beta: float) -> Comparison:
    active = np.maximum(_units(lab, 2**21, gamma, beta), 0.0).mean(axis=0)
    return Comparison(
        measured=estimates.mean(active),
        predicted=mean(gamma=gamma, beta=beta),
        control=mean(gamma=gamma, beta=beta) - beta * ndtr(beta / abs(gamma)) + max(beta, 0.0),
        x=[beta / abs(gamma)],
        x_label="beta / |gamma|",
        y_label="mean activation",
    )


def _truncated_experiment(lab: Lab, *, gamma: float, beta: float) -> Comparison:
    active = np.maximum(_units(lab, 2**18, gamma, beta), 0.0).mean(axis=0)
    form = truncated_normal_form(gamma=gamma, beta=beta)
    return Comparison(
        measured=estimates.mean(active),
        predicted=form,
        control=form / ndtr(beta / gamma),
        scale=mean(gamma=gamma, beta=beta),
        x=[beta / gamma],
        x_label="beta / gamma",
        y_label="mean activation",
    )


def _second_moment_experiment(lab: Lab, *, gamma: float, beta: float) -> Comparison:
    squares = (np.maximum(_units(lab, 2**21, gamma, beta), 0.0) ** 2).mean(axis=0)
    r = beta / abs(gamma)
    return Comparison(
        measured=estimates.mean(squares),
        predicted=second_moment(gamma=gamma, beta=beta),
        control=(beta**2 + gamma**2) * ndtr(r),
        scale=second_moment(gamma=gamma, beta=beta),
        x=[r],
        x_label="beta / |gamma|",
        y_label="mean squared activation",
    )


def _leaky_experiment(lab: Lab, *, gamma: float, beta: float, slope: float) -> Comparison:
    units = _units(lab, 2**21, gamma, beta)
    active = np.where(units > 0, units, slope * units)
    unit: dict[str, ArrayLike] = {"gamma": gamma, "beta": beta}
    spread = leaky_second_moment(**unit, slope=slope)
    return Comparison(
        measured=estimates.mean(np.stack([active.mean(axis=0), (active**2).mean(axis=0)], axis=1)),
        predicted=[leaky_mean(**unit, slope=slope), spread],
        control=[(1 - slope) * mean(**unit), (1 - slope**2) * second_moment(**unit)],
        # The mean of a leaky unit may be 0.
        scale=[np.sqrt(spread), spread],
        x=[1, 2],
        x_label="moment of the activation: mean, second moment",
        y_label="value",
    )


_PAPER = "bartoldson2020, appendix A.1"
_DOMAIN = {"gamma": Range(-3.0, 3.0), "beta": Range(-3.0, 3.0)}
_MEASURABLE = Assumption(
    "gamma != 0, and beta/|gamma| >= -1.5, below which too few draws are active to measure 1 percent",
    lambda gamma, beta, **_: gamma != 0 and beta >= -1.5 * abs(gamma),
)

CLAIMS = (
    Claim(
        id="D1",
        paper=_PAPER,
        statement="E ReLU(gamma x + beta) = beta Phi(r) + |gamma| phi(r), r = beta/|gamma|",
        status=Status.RECONSTRUCTED,
        printed=(
            "The expected activation of a batch-normalised filter behind ReLU, used as its "
            "importance. The formula is lost from our text; the prose around it (a normal law "
            "truncated at 0) determines it."
        ),
        finding=(
            "Holds for every beta and every gamma other than 0, with |gamma| in place of gamma. The"
            " Monte Carlo reaches 1 percent for r >= -1.5; below, the closed form is held against "
            "mpmath."
        ),
        equation=r"$E\,\mathrm{ReLU}(\gamma\hat{x}+\beta) = \beta\,\Phi(r) + |\gamma|\,\varphi(r)$",
        derivation="expected_activation",
        experiment=_mean_experiment,
        control="Phi(r) replaced by a step: max(beta, 0) + |gamma| phi(r)",
        cases=(
            {"gamma": 1.0, "beta": -1.0},
            {"gamma": -0.5, "beta": -0.25},
            {"gamma": 1.0, "beta": 0.5},
            {"gamma": -2.0, "beta": 2.0},
        ),
        more_cases=({"gamma": 1.0, "beta": -1.5}, {"gamma": 0.1, "beta": 0.05}),
        domain=_DOMAIN,
        assumptions=(_MEASURABLE,),
        recorded="holds",
    ),
    Claim(
        id="D2",
        paper=_PAPER,
        statement=(
            "The truncated-normal form with raw gamma, (1 - Phi(a)) (beta + gamma phi(a)/(1 - "
            "Phi(a))) with a = -beta/gamma, is the mean for either sign of gamma"
        ),
        status=Status.RECONSTRUCTED,
        printed=(
            "The mean as that of a truncated normal law times the share of active inputs, written "
            "with gamma rather than its modulus. The authors' code holds both: the score EBN takes "
            "|gamma|, its variant alt takes gamma as it is."
        ),
        finding=(
            "Right for gamma > 0. For gamma < 0 it is the mean of min(0, gamma x + beta), the part "
            "that ReLU removes: never positive, and the larger in modulus the less active the unit."
            " Put |gamma| for gamma and it holds for both signs."
        ),
        counterexample="gamma = -1, beta = 0: the form gives -0.399, the mean activation is +0.399",
        equation=r"$(1-\Phi(\alpha))\,(\beta+\gamma\frac{\varphi(\alpha)}{1-\Phi(\alpha)}),"
        r"\quad \alpha=-\beta/\gamma$",
        derivation="expected_activation",
        experiment=_truncated_experiment,
        control="the mean of the truncated law alone, not multiplied by the share of active inputs",
        cases=({"gamma": 1.0, "beta": 0.5}, {"gamma": -1.0, "beta": 0.0}, {"gamma": -1.0, "beta": 0.5}),
        domain=_DOMAIN,
        assumptions=(_MEASURABLE,),
        recorded="refuted",
    ),
    Claim(
        id="D3",
        paper=_PAPER,
        statement="E ReLU(gamma x + beta)^2 = (beta^2 + gamma^2) Phi(r) + beta |gamma| phi(r)",
        status=Status.OURS,
        printed="Not in the paper: its E[BN] is the mean alone.",
        finding=(
            "Holds for every beta and every gamma other than 0. The variance, shipped beside it, is"
            " computed without the cancellation of second moment minus squared mean."
        ),
        equation=r"$E\,\mathrm{ReLU}(\gamma\hat{x}+\beta)^2 = (\beta^2+\gamma^2)\,\Phi(r)"
        r"+\beta|\gamma|\,\varphi(r)$",
        derivation="expected_activation",
        experiment=_second_moment_experiment,
        control="without the term beta |gamma| phi(r)",
        cases=(
            {"gamma": 1.0, "beta": -0.75},
            {"gamma": -0.5, "beta": -0.25},
            {"gamma": -1.0, "beta": 1.0},
        ),
        more_cases=({"gamma": 1.0, "beta": -1.0}, {"gamma": 2.0, "beta": 3.0}),
        domain=_DOMAIN,
        assumptions=(_MEASURABLE,),
        recorded="holds",
    ),
    Claim(
        id="D4",
        paper=_PAPER,
        statement=(
            "Behind a leaky ReLU of slope b the mean is b beta + (1 - b) M1 and the second moment "
            "b^2 (beta^2 + gamma^2) + (1 - b^2) M2"
        ),
        status=Status.OURS,
        printed="Not in the paper, which treats ReLU.",
        finding=(
            "Holds for every finite slope. The leak keeps the mean's dependence on beta in dead "
            "units: for r to minus infinity it goes to b beta instead of 0. Effects are counted in "
            "the root mean square of the activation, since the mean can be 0."
        ),
        equation=r"$E y = b\beta+(1-b)M_1,\quad E y^2 = b^2(\beta^2+\gamma^2)+(1-b^2)M_2$",
        derivation="expected_activation",
        experiment=_leaky_experiment,
        control="the negative side forgotten: (1 - b) M1 and (1 - b^2) M2",
        cases=(
            {"gamma": 1.0, "beta": -0.5, "slope": 0.01},
            {"gamma": -1.0, "beta": 0.5, "slope": 0.3},
            {"gamma": 0.5, "beta": -1.0, "slope": 0.5},
        ),
        domain=_DOMAIN | {"slope": Range(0.0, 1.0)},
        assumptions=(
            Assumption("|gamma| >= 0.001", lambda gamma, **_: abs(gamma) >= 1e-3),
            Assumption(
                "slope >= 0.1 or beta/|gamma| >= -1.5, so that enough draws count",
                lambda gamma, beta, slope: slope >= 0.1 or beta >= -1.5 * abs(gamma),
            ),
        ),
        recorded="holds",
    ),
)

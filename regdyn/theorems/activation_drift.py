"""Activation probability of a BN+ReLU unit after one step of SGD on noise: theorem 1 of zhou2020."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfc, erfcx, ndtr, ndtri

from regdyn.theorems import estimates
from regdyn.theorems.base import (
    Array,
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

INTEGRAL_OF_K = -11 / (8 * np.sqrt(np.pi))
"""Integral of K over all r."""

SIGN_CHANGE = -1.1532993544921277
"""The only zero of K: negative above, positive below; an activation probability of 0.12439."""

DENSITY_CONSTANT = 0.16985057214943997
"""Integral over t > 0 of (Phi(1/t) - 1/2) Phi(-t); see `change_with_density_at_zero`."""

# All the functions of r below are 0 in double precision beyond.
_FLAT = 100.0


@closed_form
def drift_coefficient(r: ArrayLike) -> Array:
    r"""K of theorem 1.

    .. math::
        K(r) = (r^4 - 2) \varphi^2(r) + (r - r^3) \varphi(r) \Phi(r), \qquad r = \beta / |\gamma|

    with full relative precision in both tails. Source: zhou2020, Eq. (5).
    """
    return combine(r, (_K_PHI2, _K_PHI))


@closed_form
def next_coefficient(r: ArrayLike) -> Array:
    r"""K_4, the coefficient of the fourth order of one step.

    .. math::
        K_4(r) &= \gamma^4 E[(\hat x \partial_\gamma + \partial_\beta)^4 \Phi(\beta/\gamma)\, H] \\
        &= (r^{10} - 8 r^8 - 31 r^6 + 82 r^4 + 168 r^2 - 36) \varphi^2
        - r (r^2 - 3) (3 r^4 - 30 r^2 + 1) \varphi \Phi

    Source: ours, theory/activation_drift.py.
    """
    return combine(r, (_K4_PHI2, _K4_PHI))


@closed_form
def crossed_coefficient(r: ArrayLike) -> Array:
    r"""The fourth order of two independent samples of a batch.

    .. math::
        M(r) = \gamma^4\, m_{ab} m_{cd}\,
        \partial_a \partial_b \partial_c \partial_d \Phi(\beta/\gamma),
        \qquad m_{ab} = E[v_a v_b H],\; v = (\hat x, 1)

    Source: ours, theory/activation_drift.py.
    """
    return combine(r, (_M_PHI3, _M_PHI2, _M_PHI))


@closed_form
def one_step_change(
    *,
    gamma: ArrayLike,
    beta: ArrayLike,
    lr: ArrayLike,
    c: ArrayLike,
    batch: int = 1,
    kurtosis: float = 3.0,
    next_order: bool = False,
) -> Array:
    r"""Mean change of the activation probability in one step of SGD.

    .. math::
        E \Phi(r_1) - \Phi(r) = \frac{u^2}{2 B} K(r)
        + \frac{u^4}{24} \left(\frac{\kappa}{B^3} K_4(r) + \frac{3 (B - 1)}{B^3} M(r)\right) + O(u^6),
        \qquad u = \eta c / |\gamma|

    Parameters
    ----------
    gamma, beta
        The unit before the step.
    lr, c
        Learning rate :math:`\eta` and std of dL/dy, whose mean is 0.
    batch
        B, samples over which the gradient is averaged.
    kurtosis
        :math:`\kappa = E g^4 / c^4` of dL/dy, at least 1; 3 for a normal law.
    next_order
        Whether to add the term in :math:`u^4`.

    Raises
    ------
    OutsideDomain
        Unless all are finite, :math:`\gamma \ne 0`, :math:`B \ge 1` and :math:`\kappa \ge 1`.

    Source: zhou2020, theorem 1; the term in u^4 is ours. The series is asymptotic: see
    `largest_relative_step` for how far it carries.
    """
    r, u = _ratio_and_step(gamma, beta, lr, c)
    require(batch >= 1, "batch >= 1", batch=batch)
    require(kurtosis >= 1, "kurtosis >= 1", kurtosis=kurtosis)
    change = u**2 / (2 * batch) * drift_coefficient(r)
    if next_order:
        alone, crossed = kurtosis / batch**3, 3 * (batch - 1) / batch**3
        fourth = alone * next_coefficient(r) + crossed * crossed_coefficient(r)
        change = change + u**4 / 24 * fourth
    return np.asarray(change)


@closed_form
def exact_one_step_change(
    *, gamma: ArrayLike, beta: ArrayLike, lr: ArrayLike, c: ArrayLike, nodes: int = 10
) -> Array:
    r"""The same for normal dL/dy and one sample by quadrature, without expansion.

    .. math::
        E\left[\left(\Phi\left(\frac{r - u z}{|1 - u z \hat x|}\right) - \Phi(r)\right)
        [\hat x > -r]\right], \qquad \hat x, z \sim N(0, 1)

    The scale may change its sign in the step. Gauss-Legendre on panels that shrink towards the curve
    where it vanishes; some 0.1 s a point.

    Parameters
    ----------
    nodes
        Per panel and direction.

    Other parameters and errors as for `one_step_change`. Source: the update rule, zhou2020, Eq. (1).
    """
    r, u = _ratio_and_step(gamma, beta, lr, c)
    return np.asarray(np.vectorize(lambda r, u: _quadrature(float(r), float(u), nodes))(r, u))


@closed_form
def largest_relative_step(r: float, error: float = 0.05) -> float:
    r"""The greatest :math:`u = \eta c/|\gamma|` up to which theorem 1 is within `error` of the truth.

    Relative to the exact change for one sample and normal dL/dy. The search ends at u = 10, and returns
    0 where the formula is off from the start: at the zero of K.

    Parameters
    ----------
    r
        beta / |gamma| before the step.
    error
        In (0, 1).

    Raises
    ------
    OutsideDomain
        Unless `error` is in (0, 1) and r is finite.

    Source: ours.
    """
    require(0 < error < 1, "0 < error < 1", error=error)
    require(np.isfinite(r), "a finite r", r=r)

    def excess(u: float) -> float:
        exact = exact_one_step_change(gamma=1.0, beta=r, lr=u, c=1.0, nodes=8)
        return abs(u**2 / 2 * float(drift_coefficient(r) / exact) - 1) - error

    # Where the next order alone makes the error.
    ahead = (
        float(next_coefficient(r) / drift_coefficient(r)) / 4 if drift_coefficient(r) != 0 else np.inf
    )
    low = high = min(0.5 * np.sqrt(error / abs(ahead)), 1.0) if ahead != 0 else 1.0
    if low < 1e-3:
        return 0.0
    while excess(low) > 0:
        low /= 2
        if low < 1e-3:
            return 0.0
    while excess(high) <= 0:
        low, high = high, 1.25 * high
        if high > 10:
            return 10.0
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return (low + high) / 2


@closed_form
def gaussian_beta_coefficient(*, gamma: ArrayLike, tau: ArrayLike, mean: ArrayLike = 0.0) -> Array:
    r"""J of theorem 1 for :math:`\beta \sim N(m, \tau^2)`.

    For m = 0, with :math:`\rho = \tau/|\gamma|`,

    .. math::
        J = E K(\beta/\gamma) = -\frac{11 \rho^8 + 21 \rho^6 + 21 \rho^4 + 11 \rho^2 + 2}
        {2 \pi (1 + \rho^2)^2 (1 + 2 \rho^2)^{5/2}} < 0.

    Parameters
    ----------
    gamma
        Scale of the unit.
    tau, mean
        Std (0 for a point) and mean of beta.

    Raises
    ------
    OutsideDomain
        Unless all are finite, :math:`\gamma \ne 0` and :math:`\tau \ge 0`.

    Source: zhou2020, Eq. (4); the integral is ours.
    """
    m, rho = _ratio_and_step(gamma, mean, tau, 1.0)
    require(rho >= 0, "tau >= 0", tau=tau)
    # phi(r) times the law of r is normal again; so is phi(r)^2 times it.
    v, w = 1 + rho**2, 1 + 2 * rho**2
    p, q = rho**2 / v, rho**2 / w
    m1, m2 = m / v, m / w
    with np.errstate(under="ignore"):
        squared = np.exp(-(m**2) / w) / (2 * np.pi * np.sqrt(w))
        single = np.exp(-(m**2) / (2 * v)) / np.sqrt(2 * np.pi * v)
        spread = 1 + p
        inner = np.exp(-(m1**2) / (2 * spread)) / np.sqrt(2 * np.pi * spread)
    quartic = m2**4 + 6 * m2**2 * q + 3 * q**2
    cdf = ndtr(m1 / np.sqrt(spread))
    first = m1 * cdf + p * inner
    second = m1 * first + p * (cdf + m2 * inner)
    third = m1 * second + p * (2 * first + (q + m2**2) * inner)
    return np.asarray(squared * (quartic - 2) + single * (first - third))


@closed_form
def antiderivative(r: ArrayLike) -> Array:
    r"""Integral of K from minus infinity to r.

    .. math::
        (r^2 + 1) \varphi \Phi - (r^3/2 + r/4) \varphi^2 - \frac{11}{16 \sqrt\pi} (1 + \mathrm{erf}\, r)

    Source: ours.
    """
    x = _ratio(r)
    with np.errstate(under="ignore"):
        density = _density(x)
        rest = (x**2 + 1) * density * ndtr(x) - (x**3 / 2 + x / 4) * density**2
        return np.asarray(rest + INTEGRAL_OF_K / 2 * erfc(-x))


@closed_form
def uniform_beta_coefficient(*, gamma: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
    r"""J of theorem 1 for beta uniform in [low, high].

    Raises
    ------
    OutsideDomain
        Unless all are finite, :math:`\gamma \ne 0` and low < high.

    Source: zhou2020, Eq. (4); the integral is ours.
    """
    a, _ = _ratio_and_step(gamma, low, 1.0, 1.0)
    b, _ = _ratio_and_step(gamma, high, 1.0, 1.0)
    require(np.asarray(high) > np.asarray(low), "low < high", low=low, high=high)
    return np.asarray((antiderivative(b) - antiderivative(a)) / (b - a))


@closed_form
def change_with_density_at_zero(*, lr: ArrayLike, c: ArrayLike, density: ArrayLike) -> Array:
    r"""Leading mean change in one step for beta = 0 where gamma has a density at 0.

    .. math::
        E \Phi(r_1) - \frac12 \approx -2 C p\, \eta\, E|g|, \qquad E|g| = c \sqrt{2/\pi}, \quad
        C = \int_0^\infty (\Phi(1/t) - \tfrac12)\, \Phi(-t)\, dt

    with p the density at 0 of gamma, averaged over both sides: of first order in :math:`\eta c`, where
    theorem 1 would have :math:`\eta^2 c^2 E \gamma^{-2}`, which is infinite.

    Raises
    ------
    OutsideDomain
        Unless lr, c and density are finite and not negative.

    Source: ours, theory/activation_drift.py.
    """
    product = np.asarray(-2 * DENSITY_CONSTANT * np.sqrt(2 / np.pi))
    for name, value in (("lr", lr), ("c", c), ("density", density)):
        factor = np.asarray(value, dtype=float)
        require(np.isfinite(factor) & (factor >= 0), f"a finite {name} >= 0", **{name: factor})
        product = product * factor
    return np.asarray(product)


# Coefficients of phi^2 and phi Phi, or phi^3, phi^2 Phi and phi Phi^2, by falling powers of r.
_K_PHI2, _K_PHI = np.poly1d([1, 0, 0, 0, -2]), np.poly1d([-1, 0, 1, 0])
_K4_PHI2 = np.poly1d([1, 0, -8, 0, -31, 0, 82, 0, 168, 0, -36])
_K4_PHI = np.poly1d([-3, 0, 39, 0, -91, 0, 3, 0])
_M_PHI3 = np.poly1d([-1, 0, 11, 0, -4, 0, -48, 0, -24, 0])
_M_PHI2 = np.poly1d([2, 0, -24, 0, 34, 0, 60, 0, -12])
_M_PHI = np.poly1d([-1, 0, 13, 0, -31, 0, 3, 0])


def _density(r: Array) -> Array:
    return np.asarray(np.exp(-r * r / 2) / np.sqrt(2 * np.pi))


@closed_form
def combine(r: ArrayLike, polynomials: tuple[np.poly1d, ...]) -> Array:
    """phi^n P_0 + phi^(n-1) Phi P_1 + … at r."""
    x = _ratio(r)
    with np.errstate(under="ignore"):
        density = _density(x)
        # Below 0 take phi^n out: Phi / phi stays of the order of 1.
        mills = np.sqrt(np.pi / 2) * erfcx(np.maximum(-x, 0.0) / np.sqrt(2))
        n = len(polynomials)
        below = density**n * sum(p(x) * mills**k for k, p in enumerate(polynomials))
        cdf = ndtr(x)
        above = sum(density ** (n - k) * cdf**k * p(x) for k, p in enumerate(polynomials))
    return np.asarray(np.where(x < 0, below, above))


def _ratio(r: ArrayLike) -> Array:
    x = np.asarray(r, dtype=float)
    require(~np.isnan(x), "a ratio r that is a number", r=x)
    return np.asarray(np.clip(x, -_FLAT, _FLAT))


def _ratio_and_step(
    gamma: ArrayLike, beta: ArrayLike, lr: ArrayLike, c: ArrayLike
) -> tuple[Array, Array]:
    """beta/|gamma| and lr c/|gamma|."""
    scale, shift, rate, std = (np.asarray(x, dtype=float) for x in (gamma, beta, lr, c))
    require(np.isfinite(scale) & (scale != 0), "a finite gamma other than 0", gamma=scale)
    require(np.isfinite(shift), "a finite beta", beta=shift)
    require(np.isfinite(rate) & np.isfinite(std), "a finite step lr * c", lr=rate, c=std)
    return np.asarray(shift / np.abs(scale)), np.asarray(rate * std / np.abs(scale))


def _panels(breaks: Array, nodes: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights between sorted breaks (last axis)."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    low, width = breaks[..., :-1, None], np.diff(breaks, axis=-1)[..., None]
    shape = (*breaks.shape[:-1], -1)
    x = low + width * (points + 1) / 2
    return x.reshape(shape), np.broadcast_to(width * weights / 2, x.shape).reshape(shape)


def _quadrature(r: float, u: float, nodes: int) -> float:
    """E (Phi(r') - Phi(r)) over x > -r and z, both signs of z added first."""
    end, halves = 12.0, 2.0 ** -np.arange(20.0)
    low, high = max(-r, -end), max(-r, 0.0) + end
    breaks = [np.array([low, 0.0, high]), end * halves, -end * halves]
    if r != 0:
        breaks += [1 / r + halves, 1 / r - halves]
    x, weight = _panels(np.unique(np.clip(np.concatenate(breaks), low, high)), nodes)
    weight = weight * _density(x)
    # The scale vanishes at z = +-1/(u x).
    zero = 1 / (u * np.maximum(np.abs(x), 1e-300))[:, None]
    fine = 2.0 ** -np.arange(30.0)
    scale = end * 2.0 ** -np.arange(12.0 + max(0.0, np.ceil(np.log2(u))))
    edges = np.concatenate(
        [zero * (1 - fine), zero * (1 + fine), np.broadcast_to(scale, (len(x), len(scale))), zero],
        axis=1,
    )
    z, inner = _panels(np.sort(np.clip(edges, 0.0, end), axis=1), nodes)
    t, x = u * z, x[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        total = sum(ndtr((r - s) / np.abs(1 - x * s)) for s in (t, -t))
    total = np.nan_to_num(total - 2 * ndtr(r), nan=0.0)
    return float(np.sum(weight * np.sum(inner * _density(z) * total, axis=1)))


@closed_form
def relative_spread(r: float, batch: int = 1) -> float:
    """Std over mean of the change, to second order, averaged over a pair with opposite normal dL/dy."""
    m = _truncated_moments(r)
    hessian = np.array([[2 * r - r**3, r**2 - 1], [r**2 - 1, -r]])
    a, b, c = hessian[0, 0], 2 * hessian[0, 1], hessian[1, 1]
    mean = a * m[2] + b * m[1] + c * m[0]
    square = float(np.dot([c * c, 2 * b * c, b * b + 2 * a * c, 2 * a * b, a * a], m))
    product = hessian @ np.array([[m[2], m[1]], [m[1], m[0]]])
    several = (batch - 1) * (mean**2 + 2 * np.trace(product @ product))
    return float(np.sqrt((3 * square + several) / batch / mean**2 - 1))


def _truncated_moments(r: float) -> Array:
    """E x^k [x > -r] for k = 0 … 4."""
    density, cdf = float(_density(np.asarray(r, dtype=float))), float(ndtr(r))
    return np.array(
        [
            cdf,
            density,
            cdf - r * density,
            (r**2 + 2) * density,
            3 * cdf - (r**3 + 3 * r) * density,
        ]
    )


_CHUNK = 2**22
_LANES = 256
_Z = 4.2


def _trajectories(spread: float, precision: float) -> int:
    """How many make the interval's half-width `precision` of the mean, up to 2^24."""
    return 2 * int(min((_Z * spread / precision) ** 2, 2**23))


def _mean_change(
    lab: Lab, n: int, *, gamma: ArrayLike, beta: ArrayLike, lr: float, c: float, batch: int = 1,
    replicate: int = 0,
) -> estimates.Estimate:  # fmt: skip
    """Mean change of the activation probability in one step over n units, in opposite pairs.

    gamma and beta are numbers, or one for each of `n // 2` pairs.
    """
    total, squares, pairs = 0.0, 0.0, n // 2
    for k, first in enumerate(range(0, n, _CHUNK)):
        size = min(_CHUNK, n - first)
        part = slice(first // 2, (first + size) // 2)
        starts = [_for_both(value, part) for value in (gamma, beta)]
        after = lab.unit(
            "sgd", momentum=0.0, lr=lr, steps=1, times=[1], trajectories=size, gamma0=starts[0],
            beta0=starts[1], c=c, batch=batch, antithetic=True, replicate=100 * replicate + k,
        )  # fmt: skip
        before = ndtr(starts[1] / np.abs(starts[0]))
        change = ndtr(after.beta / np.abs(after.gamma)) - before
        of_pairs = change.reshape(-1, 2, _LANES // 2).mean(axis=1)
        total += float(of_pairs.sum())
        squares += float(np.square(of_pairs).sum())
    mean = total / pairs
    return estimates.with_error(mean, np.sqrt((squares / pairs - mean**2) / pairs), pairs)


def _for_both(value: ArrayLike, part: slice) -> Array:
    """One value per pair, as one per trajectory: the twins of a block follow its first half."""
    array = np.asarray(value, dtype=float)
    if array.ndim == 0:
        return array
    return np.repeat(array[part].reshape(-1, 1, _LANES // 2), 2, axis=1).ravel()


def _theorem_experiment(lab: Lab, *, r: float, gamma: float, lr: float, c: float) -> Comparison:
    n = lab.size(_trajectories(relative_spread(r), 0.006))
    beta = r * abs(gamma)
    predicted = one_step_change(gamma=gamma, beta=beta, lr=lr, c=c)
    return Comparison(
        measured=_mean_change(lab, n, gamma=gamma, beta=beta, lr=lr, c=c),
        predicted=predicted,
        control=2 * predicted,
        x=[r],
        x_label="r = beta / |gamma|",
        y_label="mean change of the activation probability",
    )


def _batch_experiment(lab: Lab, *, r: float, lr: float, batch: int) -> Comparison:
    n = lab.size(_trajectories(relative_spread(r, batch), 0.006))
    predicted = one_step_change(gamma=1.0, beta=r, lr=lr, c=1.0, batch=batch)
    return Comparison(
        measured=_mean_change(lab, n, gamma=1.0, beta=r, lr=lr, c=1.0, batch=batch),
        predicted=predicted,
        control=predicted / batch,
        x=[batch],
        x_label="batch size B",
        y_label="mean change of the activation probability",
        log_x=True,
    )


def _levels(pairs: int) -> Array:
    return np.asarray((np.arange(pairs) + 0.5) / pairs)


_Law = Callable[[Array, float], Array]

_EVEN: dict[str, _Law] = {
    "uniform": lambda p, width: width * (2 * p - 1),
    "normal": lambda p, width: width * ndtri(p),
    "two points": lambda p, width: width * np.sign(p - 0.5),
    "Laplace": lambda p, width: width * np.sign(p - 0.5) * -np.log(1 - np.abs(2 * p - 1)),
}
"""Laws of beta that are even, as quantiles at p for a width."""

_OTHER: dict[str, _Law] = {
    "one point": lambda p, width: np.full_like(p, -width),
    "normal, mean -2": lambda p, width: -2 + width * ndtri(p),
    "-1.2 - exponential": lambda p, width: -1.2 + width * np.log(1 - p),
    "two points, mean 0": lambda p, width: np.where(p < width / (width + 1.6), -1.6, width),
    "exponential": lambda p, width: -width * np.log(1 - p),
}


def _law_experiment(law: _Law, lab: Lab, width: float) -> Comparison:
    lr, n = 0.01, lab.size(2**18)
    beta = law(_levels(n // 2), width)
    coefficient = float(np.mean(drift_coefficient(beta)))
    measured = _mean_change(lab, n, gamma=1.0, beta=beta, lr=lr, c=1.0)
    even = float(np.mean(drift_coefficient(beta) + drift_coefficient(-beta))) / 2
    return Comparison(
        measured=measured.map(lambda change: 2 * change / lr**2),
        predicted=[0.0],
        control=[2 * even],
        scale=[max(abs(coefficient), abs(even))],
        x=[width],
        x_label="width of the law of beta, in |gamma|",
        y_label="J, the mean of K",
    )


def _even_experiment(lab: Lab, *, law: str, width: float) -> Comparison:
    return _law_experiment(_EVEN[law], lab, width)


def _other_experiment(lab: Lab, *, law: str, width: float) -> Comparison:
    return _law_experiment(_OTHER[law], lab, width)


def _sign_experiment(lab: Lab, *, r: float) -> Comparison:
    lr = 0.01
    n = lab.size(_trajectories(relative_spread(r), 0.1))
    coefficient = float(drift_coefficient(r))
    measured = _mean_change(lab, n, gamma=1.0, beta=r, lr=lr, c=1.0)
    return Comparison(
        measured=measured.map(lambda change: 2 * change / lr**2),
        predicted=[0.0],
        control=[-2 * abs(coefficient)],
        scale=[abs(coefficient)],
        x=[r],
        x_label="r = beta / |gamma|",
        y_label="2 (change of the activation probability) / (eta c / gamma)^2",
    )


def _relative_error(estimate: estimates.Estimate) -> Array:
    low, high = estimate.interval(2 * float(ndtr(-1)))
    return np.asarray((high - low) / 2 / np.abs(estimate.value))


def _scale_experiment(lab: Lab, *, gammas: str, lr: float) -> Comparison:
    n = lab.size(2**20)
    gamma = _levels(n // 2) if gammas == "uniform" else 1.0
    one, two = (
        _mean_change(lab, n, gamma=gamma, beta=0.0, lr=rate, c=1.0, replicate=k)
        for k, rate in enumerate((lr, 2 * lr))
    )
    ratio = two.value / one.value
    errors = [_relative_error(x) for x in (one, two)]
    return Comparison(
        measured=estimates.with_error(ratio, ratio * np.hypot(*errors), n // 2),
        predicted=[4.0],
        control=[8.0],
        x=[2 * lr],
        x_label="the greater eta c",
        y_label="drop at eta c over drop at eta c / 2",
        log_x=True,
    )


_PAPER = "zhou2020"


def _small_next_order(r: float, u: float) -> bool:
    """Whether the term in u^4 is below half a percent of that in u^2."""
    # Not u^2, which is 0 for tiny u.
    second, fourth = (abs(float(k(r))) for k in (drift_coefficient, next_coefficient))
    return bool(abs(u) * np.sqrt(fourth) < np.sqrt(0.02 * second))


def _small_batch_term(r: float, u: float, batch: int) -> bool:
    second, both = (
        one_step_change(gamma=1.0, beta=r, lr=u, c=1.0, batch=batch, next_order=more)
        for more in (False, True)
    )
    return abs(float(both / second) - 1) < 0.005


CLAIMS = (
    Claim(
        id="C1",
        paper=f"{_PAPER}, theorem 1",
        statement=(
            "In one step of SGD E Phi(r') = Phi(r) + (eta^2 c^2 / 2 gamma^2) K(r), to second order "
            "in eta c"
        ),
        status=Status.PRINTED,
        printed=(
            "Theorem 1 with Eq. (5) for K, printed as an equality. It is the second order of an "
            "expansion in u = eta c/|gamma|."
        ),
        finding=(
            "K is right. The next order is (u^4/24) kappa K4(r), kappa the kurtosis of dL/dy. For "
            "normal dL/dy theorem 1 is within 5 percent up to u = 0.05 at r = -2, 0.10 at r = -0.5,"
            " 0 and 2, 0.14 at r = 3, 0.030 at r = 4 and -1; near r = -1.153, where K is 0, "
            "nowhere. A step of lr 0.1 on gradients of std 1 leaves that range for |gamma| < 1. "
            "Below r = -1.5 the Monte Carlo does not reach 1 percent, as hardly any input is active "
            "(2 percent at r = -2); there the exact step is known by quadrature."
        ),
        equation=r"$E\,\Phi(r_1) = \Phi(r)+\frac{\eta^2c^2}{2\gamma^2}K(r),\quad "
        r"K=(r^4-2)\varphi^2+(r-r^3)\varphi\Phi$",
        derivation="activation_drift",
        experiment=_theorem_experiment,
        control="without the factor 1/2",
        cases=(
            {"r": 0.0, "gamma": 1.0, "lr": 0.01, "c": 1.0},
            {"r": 2.0, "gamma": -0.5, "lr": 0.1, "c": 0.05},
        ),
        more_cases=(
            {"r": 0.25, "gamma": 2.0, "lr": 0.02, "c": 1.0},
            {"r": -0.5, "gamma": 1.0, "lr": 0.01, "c": 1.0},
            {"r": -1.5, "gamma": 1.0, "lr": 0.005, "c": 1.0},
            {"r": 3.0, "gamma": 1.0, "lr": 0.01, "c": 1.0},
        ),
        domain={
            "r": Range(-2.0, 3.0),
            "gamma": Range(-4.0, 4.0),
            "lr": Range(1e-4, 0.1, log=True),
            "c": Range(0.05, 1.0, log=True),
        },
        assumptions=(
            Assumption("gamma != 0", lambda gamma, **_: gamma != 0),
            Assumption(
                "eta c/|gamma| >= 2e-4, below which rounding blurs the change",
                lambda gamma, lr, c, **_: lr * c >= 2e-4 * abs(gamma),
            ),
            Assumption(
                "u^2 |K4/K| / 4 < 0.005 with u = eta c/|gamma|: the next order counts less than 0.5"
                " percent",
                lambda r, gamma, lr, c: gamma == 0 or _small_next_order(r, lr * c / abs(gamma)),
            ),
        ),
        exact=False,
        recorded="holds",
    ),
    Claim(
        id="C2a",
        paper=f"{_PAPER}, theorem 1, last sentence",
        statement="J = E K(beta/gamma) < 0 for every even law of beta",
        status=Status.PRINTED,
        printed=(
            "If beta follows an even distribution, J is always negative. Even may mean symmetric "
            "about 0 or evenly spread: both are tested."
        ),
        finding=(
            "Holds for every law that is symmetric about 0, at every gamma, as K(r) + K(-r) < 0 for"
            " every r: proved in theory/activation_drift.py. For beta uniform over a wide interval "
            "J goes to -11/(8 sqrt pi) |gamma| times the density of beta. The exact change over a "
            "step of any size, by quadrature, is negative too wherever it was tried (|r| 0.1 to "
            "4.5, eta c/|gamma| 0.01 to 30)."
        ),
        equation=r"$K(r)+K(-r) < 0,\quad \int K\,dr = -\frac{11}{8\sqrt{\pi}}$",
        derivation="activation_drift",
        experiment=_even_experiment,
        control="the drop is at least twice as large: J <= 2 E K",
        cases=(
            {"law": "uniform", "width": 2.0},
            {"law": "normal", "width": 0.5},
            {"law": "two points", "width": 1.2},
            {"law": "Laplace", "width": 2.0},
        ),
        more_cases=(
            {"law": "uniform", "width": 4.0},
            {"law": "normal", "width": 2.0},
            {"law": "two points", "width": 3.0},
        ),
        domain={"law": tuple(_EVEN), "width": Range(0.1, 4.0)},
        relation=Relation.AT_MOST,
        exact=False,
        recorded="holds",
    ),
    Claim(
        id="C2b",
        paper=f"{_PAPER}, sections 2.1 and 4.2",
        statement="J = E K(beta/gamma) < 0 for any other law of beta",
        status=Status.PRINTED,
        printed=(
            "The prose drops theorem 1's condition: the expected activation probability decreases "
            "at each step of learning."
        ),
        finding=(
            "Fails where enough mass lies below r = -1.153: there K > 0 and noise raises the "
            "activation probability. A mean of 0 does not help: beta = -1.6 gamma with probability "
            "0.79, else 6 gamma, gives J = +0.056. For normal beta of mean m and std tau (in "
            "|gamma|) J < 0 if m > -1.16 at tau = 0.1, -1.44 at 0.5, -2.28 at 1, -5.7 at 2."
        ),
        counterexample="beta = -2 gamma for every unit: J = K(-2) = +0.0482",
        equation=r"$J = E\,K(\beta/\gamma) > 0\ \mathrm{for}\ \beta = -2\gamma$",
        derivation="activation_drift",
        experiment=_other_experiment,
        control="J is at most twice that of the law made even",
        cases=(
            {"law": "one point", "width": 2.0},
            {"law": "normal, mean -2", "width": 0.4},
            {"law": "-1.2 - exponential", "width": 0.5},
            {"law": "two points, mean 0", "width": 6.0},
            {"law": "exponential", "width": 1.0},
        ),
        domain={"law": tuple(_OTHER), "width": Range(0.2, 6.0)},
        relation=Relation.AT_MOST,
        exact=False,
        recorded="refuted",
    ),
    Claim(
        id="C3",
        paper=f"{_PAPER}, sections 2.1 and 5",
        statement="K(r) < 0 for every r: noise lowers the activation probability of every unit",
        status=Status.PRINTED,
        printed="Filters always tend to drop to the non-trainable region at large learning rates.",
        finding=(
            "K has exactly one zero, r = -1.1533: an activation probability of 0.1244. Units above "
            "it tend to drop, units below it to rise, most at r = -1.62. The steepest drop is at r "
            "= -0.19. For large steps the zero moves up, towards r = 0 for eta c/|gamma| to "
            "infinity. See C6 for many steps: the mean over units that start below rises at first "
            "and falls later."
        ),
        counterexample="r = -2: the activation probability 0.0228 rises by +0.0241 (eta c/gamma)^2",
        equation=r"$K(r) < 0\ \Leftrightarrow\ r > -1.1533$",
        derivation="activation_drift",
        experiment=_sign_experiment,
        control="every unit drops at least twice as fast as theorem 1 says",
        cases=({"r": -2.5}, {"r": -2.0}, {"r": -1.5}, {"r": -0.5}, {"r": 0.0}, {"r": 2.0}),
        more_cases=({"r": -3.0}, {"r": -1.0}, {"r": 1.0}, {"r": 3.0}),
        domain={"r": Range(-3.0, 3.0)},
        relation=Relation.AT_MOST,
        exact=False,
        recorded="refuted",
    ),
    Claim(
        id="C4",
        paper=f"{_PAPER}, section 4.2, initialization of gamma",
        statement=(
            "For beta = 0 the mean drop is (eta c)^2 E[1/gamma^2] / (2 pi): twice the learning "
            "rate, four times the drop"
        ),
        status=Status.PRINTED,
        printed="With beta = 0, J is a negative constant and the drop is proportional to 1/gamma^2.",
        finding=(
            "Holds where all units have the same gamma and eta c/|gamma| <= 0.1. Where gamma has a "
            "density p at 0, as after training, E[1/gamma^2] is infinite, the expansion fails for "
            "the units with |gamma| < eta c, and these make the drop of first order: 2 C p eta "
            "E|g|, C = int_0^oo (Phi(1/t) - 1/2) Phi(-t) dt = 0.169851, p averaged over both sides;"
            " for normal dL/dy 0.27104 p eta c. If beta too has a density at the origin, the drop "
            "is (11/(8 sqrt pi)) p(0,0) (eta c)^2 ln(1/(eta c)) to leading order."
        ),
        counterexample="gamma uniform in (0, 1], beta = 0: twice the learning rate, twice the drop",
        equation=r"$E\,\Phi(r_1)-\frac{1}{2} = -2Cp\,\eta E|g|,\quad "
        r"C=\int_0^\infty(\Phi(1/t)-\frac{1}{2})\Phi(-t)dt$",
        derivation="activation_drift",
        experiment=_scale_experiment,
        control="proportional to 1/|gamma|^3: eight times the drop",
        cases=({"gammas": "one value", "lr": 0.01}, {"gammas": "uniform", "lr": 0.01}),
        more_cases=({"gammas": "uniform", "lr": 0.001},),
        domain={"gammas": ("one value", "uniform"), "lr": Range(1e-3, 0.02, log=True)},
        tolerance=0.03,
        exact=False,
        recorded="refuted",
    ),
    Claim(
        id="C5",
        paper=f"{_PAPER}, section 4.2, learning rate and gradient noise",
        statement="For gradients averaged over a batch of B samples c^2 becomes c^2/B in theorem 1",
        status=Status.OURS,
        printed=(
            "The drop is proportional to eta^2 c^2, with c once called a variance; small batches "
            "are named as a cause. c^2 is the variance of dL/dy."
        ),
        finding=(
            "Holds to second order for every B. The fourth order is "
            "(u^4/24) (kappa K4/B^3 + 3 (B - 1) M/B^3), so that the range of u grows like sqrt(B)."
        ),
        equation=r"$E\,\Phi(r_1) = \Phi(r)+\frac{\eta^2c^2}{2B\gamma^2}K(r)$",
        derivation="activation_drift",
        experiment=_batch_experiment,
        control="c^2/B^2: the std divided by B instead of its square",
        cases=({"r": 0.0, "lr": 0.03, "batch": 8}, {"r": 2.0, "lr": 0.06, "batch": 32}),
        more_cases=({"r": 0.25, "lr": 0.02, "batch": 3}, {"r": -0.5, "lr": 0.1, "batch": 128}),
        domain={
            "r": Range(-0.5, 3.0),
            "lr": Range(0.001, 0.1, log=True),
            "batch": Range(1, 128, log=True, integer=True),
        },
        assumptions=(
            Assumption(
                "the terms in u^4 count less than 0.5 percent",
                lambda r, lr, batch: _small_batch_term(r, lr, int(batch)),
            ),
        ),
        exact=False,
        recorded="holds",
    ),
)

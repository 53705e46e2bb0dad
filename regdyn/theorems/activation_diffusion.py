"""Activation probability of a BN+ReLU unit over many steps of SGD on noise."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from regdyn.theorems import estimates
from regdyn.theorems.activation_drift import combine, drift_coefficient
from regdyn.theorems.base import Array, Claim, Comparison, Lab, Range, Status, closed_form, require

# Grid of the numerical solution: angles, points per factor e of time, and times over gamma^2 + beta^2.
_ANGLES, _PER_FOLD, _FIRST, _LAST, _TRUSTED = 160, 10, 1e-3, 1e6, 1e3

# Coefficients of phi^3, phi^2 Phi and phi Phi^2 of K_2, by falling powers of r.
_K2 = (
    np.poly1d([-4, 0, 19, 0, 23, 0, -44, 0, -30, 0]),
    np.poly1d([5, 0, -35, 0, 21, 0, 61, 0, -12]),
    np.poly1d([-1, 0, 13, 0, -31, 0, 3, 0]),
)


@closed_form
def second_coefficient(r: ArrayLike) -> Array:
    r"""K_2, the second power of the generator on the activation probability.

    With the generator :math:`\tfrac12 L = \tfrac12 m_{ab} \partial_a \partial_b` of the diffusion of
    (gamma, beta), m the second moments of :math:`(\hat x, 1) H`,

    .. math::
        L \Phi = K(r)/\gamma^2, \qquad L^2 \Phi = K_2(r)/\gamma^4.

    Source: ours, theory/activation_diffusion.py.
    """
    return combine(r, _K2)


@closed_form
def short_time_mean(s: ArrayLike, *, gamma: ArrayLike, beta: ArrayLike) -> Array:
    r"""Mean activation probability after few steps.

    .. math::
        E \Phi(r_t) = \Phi(r) + \frac{s}{2 \gamma^2} K(r) + \frac{s^2}{8 \gamma^4} K_2(r) + O(s^3),
        \qquad s = \eta^2 c^2 t

    for :math:`\eta c \ll |\gamma|`. Within 1 percent for :math:`s \le 0.17 \gamma^2` and
    :math:`-2.5 \le r \le 3`.

    Parameters
    ----------
    s
        Learning rate squared times variance of dL/dy (over the batch size) times steps, not negative.
    gamma, beta
        The unit at the start.

    Raises
    ------
    OutsideDomain
        Unless all are finite, :math:`\gamma \ne 0` and :math:`s \ge 0`.

    Source: ours.
    """
    r, time, _ = _ratio_and_times(s, gamma, beta)
    return np.asarray(ndtr(r) + time / 2 * drift_coefficient(r) + time**2 / 8 * second_coefficient(r))


@closed_form
def mean_activation(s: ArrayLike, *, gamma: ArrayLike, beta: ArrayLike) -> Array:
    r"""Mean activation probability after many small steps, :math:`f(r, s/\gamma^2)`.

    The mean under the diffusion with generator :math:`L/2`, which SGD becomes for
    :math:`\eta c/|\gamma| \to 0` at constant s. It depends on the angle
    :math:`\vartheta = \arctan r` and :math:`\tau = \ln(s/(\gamma^2 + \beta^2))` alone:

    .. math::
        f_\tau = \tfrac12 e^\tau \left(m_{RR} (4 f_{\tau\tau} + 2 f_\tau)
        - 2 m_{R\vartheta} (2 f_{\tau\vartheta} + f_\vartheta)
        + m_{\vartheta\vartheta} (f_{\vartheta\vartheta} - 2 f_\tau)\right)

    solved by finite differences of second order, once (0.6 s); within 0.3 percent up to
    :math:`s = 100 (\gamma^2 + \beta^2)` and 1 percent up to 1000 times. Below 0.001 times the
    short-time law serves.

    Raises
    ------
    OutsideDomain
        As `short_time_mean`, and for :math:`s > 1000 (\gamma^2 + \beta^2)`.

    Parameters as for `short_time_mean`. Source: ours.
    """
    r, time, relative = _ratio_and_times(s, gamma, beta)
    early = ndtr(r) + time / 2 * drift_coefficient(r) + time**2 / 8 * second_coefficient(r)
    return np.asarray(np.where(relative < _FIRST, early, _interpolated(r, relative, None)))


@closed_form
def share_dead(s: ArrayLike, *, gamma: ArrayLike, beta: ArrayLike, threshold: float = 1e-3) -> Array:
    r"""Share of units whose activation probability is below `threshold` after many small steps.

    From the equation of `mean_activation` with another start; within 0.003. Units that die come back
    very slowly, as only active inputs move them.

    Raises
    ------
    OutsideDomain
        As `mean_activation`, and unless 0 < threshold < 1.

    Other parameters as for `short_time_mean`. Source: ours.
    """
    require(0 < threshold < 1, "0 < threshold < 1", threshold=threshold)
    r, _, relative = _ratio_and_times(s, gamma, beta)
    at_first = (r < ndtri(threshold)).astype(float)
    late = np.clip(_interpolated(r, relative, float(threshold)), 0.0, 1.0)
    return np.asarray(np.where(relative < _FIRST, at_first, late))


def _ratio_and_times(s: ArrayLike, gamma: ArrayLike, beta: ArrayLike) -> tuple[Array, Array, Array]:
    """r, s/gamma^2 and s/(gamma^2 + beta^2)."""
    time, scale, shift = (np.asarray(x, dtype=float) for x in (s, gamma, beta))
    require(np.isfinite(scale) & (scale != 0), "a finite gamma other than 0", gamma=scale)
    require(np.isfinite(shift), "a finite beta", beta=shift)
    require(np.isfinite(time) & (time >= 0), "a finite s >= 0", s=time)
    r = shift / np.abs(scale)
    relative = time / (scale**2 + shift**2)
    return np.asarray(r), np.asarray(time / scale**2), np.asarray(relative)


def _interpolated(r: Array, relative: Array, threshold: float | None) -> Array:
    """Cubic in both directions on the grid of the solution."""
    require(relative <= _TRUSTED, "s <= 1000 (gamma^2 + beta^2)", **{"s/(gamma^2 + beta^2)": relative})
    grid = _solution(threshold)
    rows, columns = grid.shape
    angle = (np.arctan(r) / np.pi + 0.5) * columns - 0.5
    tau = np.log(np.maximum(relative, _FIRST) / _FIRST) * _PER_FOLD
    angle, tau = np.broadcast_arrays(angle, tau)
    i, wi = _cubic(tau, rows)
    j, wj = _cubic(angle, columns)
    return np.asarray(np.einsum("k...,l...,kl...->...", wi, wj, grid[i[:, None], j[None]]))


def _cubic(at: Array, size: int) -> tuple[Any, Array]:
    """Indices and Lagrange weights of the four grid points around, each of shape (4, …)."""
    first = np.clip(np.floor(at).astype(int) - 1, 0, size - 4)
    x = at - first
    weights = [(x - 1) * (x - 2) * (x - 3) / -6, x * (x - 2) * (x - 3) / 2]
    weights += [x * (x - 1) * (x - 3) / -2, x * (x - 1) * (x - 2) / 6]
    return first + np.arange(4).reshape(-1, *[1] * first.ndim), np.stack(weights)


@closed_form
def second_moments(r: ArrayLike) -> tuple[Array, Array, Array]:
    r"""m along the ray from the origin through (gamma, beta), across it, and mixed.

    .. math::
        m_{\gamma\gamma} = \Phi - r \varphi,\quad m_{\gamma\beta} = \varphi,\quad m_{\beta\beta} = \Phi

    turned by the angle arctan r. Source: zhou2020, Eq. (1).
    """
    ratio = np.clip(np.asarray(r, dtype=float), -1e3, 1e3)
    density, cdf = np.exp(-ratio * ratio / 2) / np.sqrt(2 * np.pi), ndtr(ratio)
    cos = 1 / np.sqrt(1 + ratio**2)
    sin = ratio * cos
    of_gamma = cdf - ratio * density
    along = cos**2 * of_gamma + 2 * sin * cos * density + sin**2 * cdf
    across = sin**2 * of_gamma - 2 * sin * cos * density + cos**2 * cdf
    mixed = sin * cos * (cdf - of_gamma) + (cos**2 - sin**2) * density
    return np.asarray(along), np.asarray(across), np.asarray(mixed)


@lru_cache(maxsize=8)
def _solution(threshold: float | None) -> Array:
    """The solution on (times, angles), started from Phi, or from [Phi < threshold]."""
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    columns, k, h = _ANGLES, 1 / _PER_FOLD, np.pi / _ANGLES
    rows = int(np.ceil(np.log(_LAST / _FIRST) * _PER_FOLD))
    tau = np.log(_FIRST) + k * np.arange(rows + 1)
    r = np.tan(h * (np.arange(columns) + 0.5) - np.pi / 2)
    along, across, mixed = (sparse.diags(x) for x in second_moments(r))

    def start(time: float) -> Array:
        if threshold is not None:
            return np.asarray((r < ndtri(threshold)).astype(float))
        return short_time_mean(np.exp(time), gamma=1 / np.sqrt(1 + r * r), beta=r / np.sqrt(1 + r * r))

    def differences(n: int, step: float, mirror: bool) -> tuple[Any, Any]:
        """First and second, with a slope of 0 at the end, and at the start with `mirror`."""
        first = sparse.diags([-np.ones(n - 1), np.zeros(n), np.ones(n - 1)], [-1, 0, 1]).tolil()
        second = sparse.diags([np.ones(n - 1), np.full(n, -2.0), np.ones(n - 1)], [-1, 0, 1]).tolil()
        first[-1, -1], second[-1, -1] = 1.0, -1.0
        if mirror:
            first[0, 0], second[0, 0] = -1.0, -1.0
        return first.tocsr() / (2 * step), second.tocsr() / step**2

    # By the symmetry in gamma nothing crosses theta = pi/2; at -pi/2 nothing moves.
    d1, d2 = differences(columns, h, True)
    t1, t2 = differences(rows, k, False)
    # Backward differences carry the solution forward in time while e^tau is small.
    back = [np.full(rows - 2, 0.5), np.full(rows - 1, -2.0), np.full(rows, 1.5)]
    forward = sparse.diags(back, [-2, -1, 0]) / k
    speed = sparse.diags(np.exp(tau[1:]) / 2)
    matrix = (
        sparse.kron(forward, sparse.identity(columns))
        - sparse.kron(speed @ t2, 4 * along)
        - sparse.kron(speed @ t1, 2 * along - 2 * across - 4 * mixed @ d1)
        - sparse.kron(speed, across @ d2 - 2 * mixed @ d1)
    )
    now, before = start(tau[0]), start(tau[0] - k)
    known = np.zeros((rows, columns))
    inflow = 4 * along @ now / k**2 - (2 * along - 2 * across - 4 * mixed @ d1) @ now / (2 * k)
    known[0] = (2 * now - before / 2) / k + np.exp(tau[1]) / 2 * inflow
    known[1] = -now / (2 * k)
    later = spsolve(matrix.tocsc(), known.ravel()).reshape(rows, columns)
    return np.vstack([now, later])


def _diffusion_experiment(lab: Lab, *, r: float, s: float, u: float) -> Comparison:
    gamma, c = 0.5, 2.0
    steps = round(s / u**2)
    times = np.unique([max(1, steps // 5), steps])
    # Short runs are cheap.
    n = lab.size(2**15 * int(np.clip(1 / s**2, 1, 4)))
    result = lab.unit(
        "sgd", momentum=0.0, lr=u * gamma / c, c=c, steps=steps, trajectories=n, gamma0=gamma,
        beta0=r * gamma, times=times, threshold=1e-3,
    )  # fmt: skip
    spread = np.asarray(result.activation_std)[-len(times) :]
    mean = np.asarray(result.activation_mean)[-len(times) :]
    dead = float(np.asarray(result.share_dead)[-1])
    covered = u**2 * times * gamma**2
    unit = {"gamma": gamma, "beta": r * gamma}
    predicted = mean_activation(covered, **unit)
    return Comparison(
        measured=estimates.joined(
            estimates.with_error(mean, spread / np.sqrt(n), n), estimates.share([dead * n], n)
        ),
        predicted=[*predicted, share_dead(covered[-1], **unit)],
        control=[*(ndtr(r) + u**2 * times / 2 * drift_coefficient(r)), 0.0],
        # The share of dead units is counted as such.
        scale=[*predicted, 1.0],
        x=[*(u**2 * times), u**2 * times[-1]],
        x_label="s / gamma0^2 = (eta c / gamma0)^2 t",
        y_label="mean activation probability; share dead at the end",
    )


CLAIMS = (
    Claim(
        id="C6",
        paper="zhou2020, sections 1 and 4.2",
        statement=(
            "Over many steps of SGD E Phi and the share of dead units (Phi < 0.001) depend on r and on "
            "s/gamma0^2 alone, s = eta^2 c^2 t, and follow the diffusion with generator "
            "(1/2) m_ab d_a d_b"
        ),
        status=Status.OURS,
        printed=(
            "Theorem 1 is about one step; from it the paper concludes that a network keeps "
            "sparsifying under strong noise."
        ),
        finding=(
            "Holds to 4 percent of E Phi and 0.04 in the share for eta c <= 0.02 gamma0 and s <= 3 "
            "gamma0^2. From beta = 0 E Phi is 0.386, 0.211, 0.099 and the share dead 0.15, 0.64, "
            "0.85 at s = 1, 10, 100 gamma0^2: nearly all units die in the end, ever more slowly. "
            "From r = -2 E Phi first rises, from 0.023 to 0.053 at s = 10 gamma0^2, and then falls,"
            " though 70 percent are dead by then. Two terms of the short-time series are within 1 "
            "percent up to s = 0.22 gamma0^2 at beta = 0. Larger steps leave fewer dead: 0.117 "
            "instead of 0.150 at eta c = 0.05 gamma0 and s = gamma0^2, 0.134 at 0.02, 0.145 at "
            "0.01. Other rules after 2,500 steps of lr 0.02 from beta = 0, c = 1, where SGD has 14 "
            "percent dead: Adam 34, RMSProp 36, AMSGrad 20, AdaMax, Adagrad and Adadelta none; SGD "
            "with momentum 0.9, whose s is 100 times as large, 78."
        ),
        equation=r"$\partial_s f = \frac{1}{2}m_{ab}\partial_a\partial_b f,\quad "
        r"E\,\Phi = \Phi+\frac{s}{2\gamma^2}K+\frac{s^2}{8\gamma^4}K_2+\ldots$",
        derivation="activation_diffusion",
        experiment=_diffusion_experiment,
        control="theorem 1 with the same drop at every step, and no unit dies",
        cases=({"r": 0.0, "s": 1.0, "u": 0.02}, {"r": -1.5, "s": 0.3, "u": 0.02}),
        more_cases=(
            {"r": 1.0, "s": 1.0, "u": 0.02},
            {"r": 2.0, "s": 3.0, "u": 0.02},
            {"r": -0.5, "s": 1.0, "u": 0.01},
        ),
        domain={
            "r": Range(-1.5, 2.0),
            "s": Range(0.01, 3.0, log=True),
            "u": Range(0.005, 0.02, log=True),
        },
        tolerance=0.04,
        exact=False,
        recorded="holds",
    ),
)

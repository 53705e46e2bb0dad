"""SGD with momentum and L2 under Gaussian noise: exact mean and variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def moments(
    steps: int, *, lr: float, momentum: float, lam: float, sigma: ArrayLike, theta0: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Mean and variance of :math:`\theta_t` for t = 0 … `steps`.

    With buffer b (0 at the start) and noise :math:`\xi_t \sim N(0, \sigma_t^2)`,

    .. math::
        b_t = \mu b_{t-1} + \lambda \theta_{t-1} + \xi_t, \qquad
        \theta_t = \theta_{t-1} - \eta b_t,

    is linear in :math:`x = (\theta, b)`: with M and q from theory/momentum_sgd.py,

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
    Mean and variance, each of shape (steps + 1,).

    Source: the update rule; yaguchi2018, proposition III.1, is the mean.
    """
    stds = np.broadcast_to(np.asarray(sigma, dtype=float), (steps,))
    transition, intake = transition_matrix(lr=lr, momentum=momentum, lam=lam)
    mean = np.array([theta0, 0.0])
    covariance = np.zeros((2, 2))
    means, variances = np.empty(steps + 1), np.empty(steps + 1)
    means[0], variances[0] = theta0, 0.0
    for t, std in enumerate(stds, start=1):
        mean = transition @ mean
        covariance = transition @ covariance @ transition.T + std**2 * np.outer(intake, intake)
        means[t], variances[t] = mean[0], covariance[0, 0]
    return means, variances


def transition_matrix(
    *, lr: float, momentum: float, lam: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""M and q of :math:`x_t = M x_{t-1} + q \xi_t` for :math:`x = (\theta, b)`."""
    transition = np.array([[1.0 - lr * lam, -lr * momentum], [lam, momentum]])
    return transition, np.array([-lr, 1.0])


def stationary_variance(*, lr: float, momentum: float, lam: float, sigma: float) -> float:
    r"""Variance of :math:`\theta_t` for t to infinity under constant noise.

    .. math::
        \frac{\eta \sigma^2 (1 + \mu)}{\lambda (1 - \mu) (2 (1 + \mu) - \eta \lambda)}

    Raises
    ------
    ValueError
        Unless :math:`0 < \eta \lambda < 2 (1 + \mu)`, without which there is no stationary law.

    Source: Liu, Ziyin and Ueda, arXiv:2012.03636; derived in theory/momentum_sgd.py.
    """
    if not 0 < lr * lam < 2 * (1 + momentum):
        raise ValueError("a stationary law needs 0 < lr * lam < 2 (1 + momentum)")
    bracket = 2 * (1 + momentum) - lr * lam
    return lr * sigma**2 * (1 + momentum) / (lam * (1 - momentum) * bracket)

"""The gradient noise of a parameter, read off an optimizer that keeps moments."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.parameters import check_number, real_array

Array = NDArray[np.float64]


def variance_from_moments(
    exp_avg: ArrayLike, exp_avg_sq: ArrayLike, step: float, beta1: float, beta2: float
) -> Array:
    r"""Variance of the gradient, as Adam's moments after `step` steps tell it.

    .. math::
        \hat\sigma^2 = \frac{\hat v - \hat m^2}{1 - s}, \qquad
        \hat m = \frac{m}{1 - \beta_1^t}, \quad \hat v = \frac{v}{1 - \beta_2^t}, \quad
        s = \frac{(1 - \beta_1)(1 + \beta_1^t)}{(1 + \beta_1)(1 - \beta_1^t)}

    For gradients with constant mean :math:`\mu` and independent noise :math:`E \hat m^2` is
    :math:`\mu^2 + s \sigma^2`, so that the expectation of :math:`\hat\sigma^2` is :math:`\sigma^2`
    whatever the mean is. The mean takes with it what L2 adds to the gradient, :math:`\lambda\theta`;
    in :math:`\hat v` alone decay hides the noise of a weight with a small gradient. Of a single weight
    it errs by about :math:`2 |\mu| \sigma \sqrt s`: many weights are needed where the mean is many
    times the noise.

    Parameters
    ----------
    exp_avg, exp_avg_sq
        m and v of one weight or more, of the same shape, as torch's Adam, AdamW, NAdam and RAdam keep
        them.
    step
        t, in [0, inf).
    beta1, beta2
        In [0, 1).

    Returns
    -------
    Of that shape; below 0 by chance. NaN as long as nothing can be said: before the second step, for
    beta1 = 0, and for moments that are not finite.

    Raises
    ------
    InvalidParameter
        For parameters out of their range.

    Source: ours.
    """
    t = check_number("step", step, "[0, inf)")
    b1, b2 = (check_number(n, b, "[0, 1)") for n, b in (("beta1", beta1), ("beta2", beta2)))
    m, v = (
        real_array(name, values, "an array of numbers").astype(np.float64)
        for name, values in (("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq))
    )
    if t < 2 or b1 == 0:
        return np.full(np.broadcast(m, v).shape, np.nan)
    s = (1 - b1) * (1 + b1**t) / ((1 + b1) * (1 - b1**t))
    with np.errstate(invalid="ignore", over="ignore"):
        variance = (v / (1 - b2**t) - (m / (1 - b1**t)) ** 2) / (1 - s)
    return np.asarray(np.where(np.isfinite(variance), variance, np.nan))


def noise_from_moments(
    exp_avg: ArrayLike, exp_avg_sq: ArrayLike, step: float, beta1: float, beta2: float
) -> Array:
    """Std of the gradient: the root of `variance_from_moments`, 0 where that is below 0.

    Of the unit of the gradient: sigma of the simulators. Parameters and errors as there.
    """
    return np.sqrt(np.maximum(variance_from_moments(exp_avg, exp_avg_sq, step, beta1, beta2), 0))

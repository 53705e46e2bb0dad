"""The gradient noise that Adam's moments tell, against gradients that were drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from regdyn.doctor.gradient_noise import noise_from_moments, variance_from_moments
from regdyn.errors import InvalidParameter

COUNT = 20_000


def moments(
    make: Any, mean: float, sigma: float, steps: int, **settings: Any
) -> tuple[NDArray, NDArray]:
    """Of torch's own optimizer after gradients with this mean and std, one row for each weight."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.ones(COUNT, dtype=torch.float64, requires_grad=True)
    optimizer = make([weights], lr=1e-9, **settings)
    for _ in range(steps):
        weights.grad = mean + sigma * torch.randn(COUNT, generator=generator, dtype=torch.float64)
        optimizer.step()
    state = optimizer.state[weights]
    return state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam])
@pytest.mark.parametrize(
    "mean, sigma, steps, betas",
    [(0, 1, 300, (0.9, 0.99)), (2, 1, 3, (0.9, 0.999)), (-3, 0.5, 40, (0.5, 0.99)),
     (1e-3, 1e-4, 2, (0.9, 0.999))],
)  # fmt: skip
def test_the_variance_is_unbiased(
    make: Any, mean: float, sigma: float, steps: int, betas: tuple[float, float]
) -> None:
    m, v = moments(make, mean, sigma, steps, betas=betas)
    estimate = variance_from_moments(m, v, steps, *betas)
    error = estimate.std() / math.sqrt(COUNT)
    assert abs(estimate.mean() - sigma**2) < 4 * error
    # Neither moment alone would do.
    if mean:
        assert abs((v / (1 - betas[1] ** steps)).mean() - sigma**2) > 20 * error


def test_decay_is_not_noise() -> None:
    """With L2 the mean square of the gradient is that of the decay, the variance is not."""
    m, v = moments(torch.optim.Adam, 0, 1e-4, 400, betas=(0.9, 0.99), weight_decay=1e-3)
    variance = variance_from_moments(m, v, 400, 0.9, 0.99)
    assert abs(variance.mean() - 1e-8) < 4 * variance.std() / math.sqrt(COUNT)
    assert np.median(variance) == pytest.approx(1e-8, rel=0.15)
    assert np.median(v / (1 - 0.99**400)) > 50 * np.median(variance)
    # The error of one weight, as the docstring has it.
    assert variance.std() == pytest.approx(2 * 1e-3 * 1e-4 * math.sqrt(0.1 / 1.9), rel=0.1)


def test_before_anything_can_be_said() -> None:
    m, v = np.array([0.1, -2.0]), np.array([0.1, 5.0])
    for step, beta1 in ((0, 0.9), (1, 0.9), (100, 0.0)):
        assert np.isnan(variance_from_moments(m, v, step, beta1, 0.99)).all()
    broken = variance_from_moments([np.nan, 0.0, np.inf], [1.0, np.inf, 1.0], 5, 0.9, 0.99)
    assert np.isnan(broken).all()


def test_the_noise_is_the_root() -> None:
    m, v = np.array([0.1, 0.5, np.nan]), np.array([0.05, 0.001, 1.0])
    variance = variance_from_moments(m, v, 10, 0.9, 0.99)
    assert variance[0] > 0 > variance[1]
    expected = [math.sqrt(variance[0]), 0, math.nan]
    np.testing.assert_array_equal(noise_from_moments(m, v, 10, 0.9, 0.99), expected)


@pytest.mark.parametrize(
    "name, given",
    [("step", (1.0, 1.0, -1, 0.9, 0.99)), ("beta1", (1.0, 1.0, 5, 1.0, 0.99)),
     ("beta2", (1.0, 1.0, 5, 0.9, -0.1)), ("exp_avg", ("a", 1.0, 5, 0.9, 0.99))],
)  # fmt: skip
def test_bad_parameters(name: str, given: Any) -> None:
    with pytest.raises(InvalidParameter, match=f"{name} must be"):
        variance_from_moments(*given)

"""Exact laws of SGD with momentum."""

from __future__ import annotations

import numpy as np
import pytest

from regdyn.theorems.momentum_sgd import moments, stationary_variance


def test_the_recursion_reaches_the_stationary_variance() -> None:
    _, variance = moments(20_000, lr=0.1, momentum=0.9, lam=0.1, sigma=2e-3, theta0=1.0)
    exact = stationary_variance(lr=0.1, momentum=0.9, lam=0.1, sigma=2e-3)
    assert variance[-1] == pytest.approx(exact, rel=1e-10)


def test_without_momentum_the_mean_is_geometric() -> None:
    mean, _ = moments(50, lr=0.1, momentum=0.0, lam=0.2, sigma=0.0, theta0=3.0)
    assert np.allclose(mean, 3.0 * 0.98 ** np.arange(51), rtol=1e-13)


@pytest.mark.parametrize("lam", [0.0, 38.0, 40.0])
def test_no_stationary_law(lam: float) -> None:
    with pytest.raises(ValueError, match="0 < lr \\* lam < 2"):
        stationary_variance(lr=0.1, momentum=0.9, lam=lam, sigma=1.0)

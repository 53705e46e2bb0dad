"""The papers' ways of training, in small."""

from __future__ import annotations

import numpy as np
import pytest

from regdyn import SGD, TrainConfig
from regdyn.findings import setups

STEPS = np.arange(1, 401)


def test_mehta_drops_the_learning_rate_for_the_last_quarter() -> None:
    config = TrainConfig(**setups.mehta(steps=400, width=16, lam=1e-3, beta0=1.0))
    rates, _ = config.learning_rates(STEPS)
    assert rates[[0, 299, 300, 399]] == pytest.approx([3e-3, 3e-3, 3e-4, 3e-4])
    assert (config.rule.name, config.batch, config.hidden, config.beta0) == ("adam", 40, (16, 16), 1.0)
    assert (config.regularization, config.lam) == ("l2", 1e-3)


def test_yaguchi_halves_the_learning_rate_after_each_quarter() -> None:
    config = TrainConfig(**setups.yaguchi(steps=400, hidden=(9,), lam=1e-2, norm="none"))
    rates, _ = config.learning_rates(STEPS)
    assert rates[[99, 100, 200, 300]] == pytest.approx([3e-3, 1.5e-3, 7.5e-4, 3.75e-4])
    assert (config.rule.name, config.batch, config.hidden, config.norm) == ("adam", 64, (9,), "none")
    assert (config.regularization, config.lam) == ("l2", 1e-2)


def test_zhou_lets_it_fall_along_half_a_cosine() -> None:
    config = TrainConfig(**setups.zhou(steps=400, width=16, lam=5e-4, lr=0.2, alpha=0.1))
    rates, _ = config.learning_rates(STEPS)
    assert rates[[0, 200]] == pytest.approx([0.2, 0.1]) and rates[-1] < 1e-5
    assert (config.rule.name, config.batch, config.hidden, config.alpha) == ("sgd", 128, (16, 8), 0.1)
    assert SGD(lr=0.2, momentum=0.9) == config.rule and config.lam == 5e-4


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_few_steps_work(steps: int) -> None:
    mehta = setups.mehta(steps=steps, width=1, lam=1e-3)
    zhou = setups.zhou(steps=steps, width=1, lam=1e-3, lr=0.1)
    for settings in (mehta, zhou):
        assert len(TrainConfig(**settings).learning_rates(STEPS[:steps])[0]) == steps

"""The compiled engine against torch.optim, step by step."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import (
    PLACEMENTS,
    RULES,
    SCHEDULES,
    TORCH,
    UNSHRUNK,
    assert_same_paths,
    configs,
    engine_paths,
    optimizers,
    torch_paths,
)

import regdyn
from regdyn.optimizers import OPTIMIZERS


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", RULES)
@settings(max_examples=2, phases=UNSHRUNK)
@given(data=st.data())
def test_equals_torch(name: str, placement: str, schedule: type, data: st.DataObject) -> None:
    rules = optimizers(OPTIMIZERS[name], TORCH[name].varied)
    config = data.draw(configs(rules, placement, schedule))
    assert_same_paths(engine_paths(config), torch_paths(config), config.optimizer.lr)


def test_dampening_without_momentum() -> None:
    """torch applies no dampening where there is no buffer."""
    config = regdyn.ScalarConfig(
        optimizer=regdyn.SGD(lr=0.1, momentum=0.0, dampening=0.5), steps=10, trajectories=2, keep=2
    )
    assert_same_paths(engine_paths(config), torch_paths(config), 0.1)

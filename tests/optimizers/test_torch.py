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
    assert_same_paths,
    configs,
    engine_paths,
    optimizers,
    torch_paths,
)

from regdyn.optimizers import OPTIMIZERS


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", RULES)
@settings(max_examples=2)
@given(data=st.data())
def test_equals_torch(name: str, placement: str, schedule: str, data: st.DataObject) -> None:
    rules = optimizers(OPTIMIZERS[name], TORCH[name].varied)
    config = data.draw(configs(rules, placement, schedule))
    assert_same_paths(engine_paths(config), torch_paths(config), config.optimizer.lr)

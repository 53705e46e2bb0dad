"""The compiled engine against optax, step by step."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import (
    OPTAX,
    PLACEMENTS,
    RULES,
    SCHEDULES,
    UNSHRUNK,
    assert_same_paths,
    configs,
    engine_paths,
    optax_paths,
    optimizers,
)

from regdyn.optimizers import OPTIMIZERS

# optax subtracts lr * lam * theta, where torch and regdyn multiply by 1 - lr * lam. Rounding that
# factor shifts every step by up to 5e-17 * theta in the same direction; a decay that forgets within 100
# steps keeps the sum of these shifts below the tolerance.
WEAKEST_DECOUPLED = 0.01


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", RULES)
@settings(max_examples=3, phases=UNSHRUNK)
@given(data=st.data())
def test_equals_optax(name: str, placement: str, schedule: type, data: st.DataObject) -> None:
    theirs = OPTAX[name]
    rules = optimizers(OPTIMIZERS[name], theirs.varied, **theirs.fixed).map(theirs.settle)
    config = data.draw(configs(rules, placement, schedule, weakest_decoupled=WEAKEST_DECOUPLED))
    assert_same_paths(engine_paths(config), optax_paths(config), config.optimizer.lr)

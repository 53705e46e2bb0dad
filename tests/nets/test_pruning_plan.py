"""What is to be pruned and when: its text, counts that reach their total exactly, budgets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regdyn.errors import InvalidParameter
from regdyn.nets.pruning.budget import dense_multiplications, uniform_counts
from regdyn.nets.pruning.config import IMPORTANCES, TARGETS, Pruning, make_pruning
from regdyn.nets.pruning.schedule import HiddenLayer, Plan, cumulative, exact, make_plan, rounded

WIDTHS = (12, 7, 30)
HIDDEN = [
    HiddenLayer(name=f"layer {i}", units=units, inputs=5, counted=i != 3)
    for i, units in enumerate(WIDTHS, start=1)
]


def multiplications(removed: Sequence[int]) -> int:
    return dense_multiplications((64, *WIDTHS, 10), removed)


def plan(text: str, steps: int = 1000) -> Plan:
    pruning = make_pruning(text)
    assert pruning is not None
    return make_plan(pruning, HIDDEN, steps, multiplications)


def steps_of(text: str, steps: int = 1000) -> list[int]:
    return [event.step for event in plan(text, steps).events]


# The text


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_alone(target: str) -> None:
    assert make_pruning(target) == Pruning(target=target, fraction=0.5)


def test_every_key() -> None:
    text = "largest:fraction=0.3/0.9,layers=C5 + layer 2,start=1e2,end=400/500,retrain=40,importance=l1"
    made = make_pruning(text)
    assert made == Pruning(
        target="largest", fraction=(0.3, 0.9), layers=("C5", "layer 2"), start=100, end=(400, 500),
        retrain=40, importance="l1",
    )  # fmt: skip
    assert make_pruning("random:what=weights,rate=0.13,scope=global,noise=gaussian,hold=50") == Pruning(
        target="random", what="weights", rate=0.13, scope="global", noise="gaussian", hold=50
    )
    assert make_pruning("smallest:flops=0.4") == Pruning(flops=0.4)
    assert make_pruning("none") is None


@given(
    st.sampled_from(TARGETS),
    st.sampled_from([None, *IMPORTANCES]),
    st.floats(0.001, 0.999) | st.lists(st.floats(0.001, 0.999), min_size=2, max_size=4).map(tuple),
    st.none() | st.integers(0, 10**6) | st.lists(st.integers(0, 99), min_size=2, max_size=4).map(tuple),
    st.none() | st.integers(1, 99),
    st.sampled_from([None, "zeroing", "gaussian"]),
    st.sampled_from([(), ("last4",), ("C1", "block 2.conv1")]),
)
def test_its_own_text_makes_the_same(
    target: str, importance: Any, fraction: Any, start: Any, retrain: Any, noise: Any, layers: Any
) -> None:
    pruning = Pruning(
        target=target, importance=importance, fraction=fraction, start=start, retrain=retrain,
        noise=noise, layers=layers,
    )  # fmt: skip
    assert make_pruning(str(pruning)) == pruning


@pytest.mark.parametrize(
    "text, message",
    [
        ("biggest", "one of smallest, random, largest, decile0, .*none"),
        ("smallest:target=largest", "KEY must be one of what, importance"),
        ("smallest:fraction=1", r"fraction must be in \(0, 1\), got 1"),
        ("smallest:fraction=0.1/x", r"fraction must be a number in \(0, 1\)"),
        ("smallest:fraction=0.1/0.2,scope=global", "single number with scope=global"),
        ("smallest:what=filters", "what must be one of units, weights"),
        ("smallest:what=weights,importance=l1", "importance must be left out with what=weights"),
        ("smallest:importance=l3", "one of ebn, l1, l2, gamma"),
        ("smallest:hold=5", "hold must be used with noise"),
        ("smallest:hold=-1,noise=zeroing", "hold must be an integer in"),
        ("smallest:noise=uniform", "one of zeroing, gaussian"),
        ("smallest:rate=0.1,retrain=3", "rate must be used without retrain"),
        ("smallest:retrain=0", r"retrain must be an integer in \[1, "),
        ("smallest:start=1.5", "start must be an integer"),
        ("smallest:flops=0.3,fraction=0.2", "flops must be used without fraction"),
        ("smallest:flops=0.3,what=weights", "whole units are removed"),
        ("smallest:flops=0.3,rate=0.1", "rate must be used without flops"),
        ("smallest:flops=0", r"flops must be in \(0, 1\)"),
        ("smallest:layers=C1+C1", "names of layers, each once"),
        ("smallest:layers=", "smallest or smallest:KEY=VALUE"),
    ],
)
def test_bad_texts(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message) as caught:
        make_pruning(text)
    assert caught.value.name == "prune" and "\n" not in str(caught.value)


# Events


def test_when() -> None:
    assert steps_of("smallest:start=100,end=350,retrain=100") == [100, 200, 300]
    assert steps_of("smallest:start=100,end=100") == [100]
    assert steps_of("smallest:start=0,end=1000,fraction=0.9,rate=0.3") == [0, 500, 1000]
    assert steps_of("smallest:fraction=0.5,layers=layer3") == [
        100, 172, 244, 317, 389, 461, 533, 606, 678, 750,
    ]  # fmt: skip
    assert steps_of("smallest:layers=layer3,start=990") == [990]
    assert steps_of("smallest:layers=layer3,end=50,retrain=10") == [50]


def test_each_layer_has_its_own() -> None:
    made = plan("smallest:layers=layer1+layer3,start=10/40,end=30/60,retrain=20,fraction=0.5/0.1")
    goals = {event.step: event.goals for event in made.events}
    assert goals == {10: (3, 0), 30: (6, 0), 40: (6, 2), 60: (6, 3)}
    assert made.layers == (0, 2) and made.sizes == (12, 30)


def test_which_layers() -> None:
    assert plan("smallest").layers == (0, 1), "those whose units count"
    assert plan("smallest:layers=last1").layers == (1,)
    assert plan("smallest:layers=layer 3+layer1").layers == (2, 0)
    assert plan("smallest:what=weights").sizes == (60, 35)


def test_halves_are_rounded_up_as_written_in_decimals() -> None:
    assert 0.29 * 50 < 14.5 and rounded(exact(0.29), 50) == 15
    assert cumulative(5, 2) == [3, 5] and cumulative(1, 4) == [0, 1, 1, 1]
    assert 0.28 / 0.04 > 7 and len(steps_of("smallest:fraction=0.28,rate=0.04,layers=layer3")) == 7


@given(st.integers(0, 10**7), st.integers(1, 3000))
def test_cumulative_counts(total: int, events: int) -> None:
    counts = cumulative(total, events)
    assert len(counts) == events and counts[-1] == total and min(counts) >= 0
    for i, count in enumerate(counts, start=1):
        assert abs(count - Fraction(total * i, events)) <= Fraction(1, 2)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.sampled_from(["units", "weights"]),
    st.sampled_from(["layer", "global"]),
    st.floats(0.01, 0.99),
    st.integers(0, 60),
    st.integers(0, 300),
    st.none() | st.integers(1, 90),
)
def test_the_stated_total_is_reached_exactly(
    widths: list[int], what: str, scope: str, fraction: float, start: int, length: int, retrain: Any
) -> None:
    hidden = [HiddenLayer(name=str(i), units=n, inputs=3) for i, n in enumerate(widths)]
    pruning = Pruning(
        what=what, scope=scope, fraction=fraction, start=start, end=start + length, retrain=retrain
    )
    sizes = [n * (1 if what == "units" else 3) for n in widths]
    wanted = [
        min(int(Fraction(str(fraction)) * n + Fraction(1, 2)), n - 1)
        for n in (sizes if scope == "layer" else [sum(sizes)])
    ]
    if scope == "global":
        wanted[0] = min(wanted[0], sum(sizes) - len(sizes))
    if not any(wanted):
        with pytest.raises(InvalidParameter, match="at least one of"):
            make_plan(pruning, hidden, 400, lambda removed: 1)
        return
    events = make_plan(pruning, hidden, 400, lambda removed: 1).events
    assert list(events[-1].goals) == wanted
    assert all(start <= event.step <= start + length for event in events)
    steps = [event.step for event in events]
    assert steps == sorted(set(steps))
    before = (0,) * len(wanted)
    for event in events:
        assert event.goals != before and all(a >= b for a, b in zip(event.goals, before))
        before = event.goals


@pytest.mark.parametrize(
    "text, message",
    [
        ("smallest:layers=layer4", "among layer1, layer2, layer3, or last1 … last2"),
        ("smallest:layers=last3", "at most last2"),
        ("smallest:fraction=0.1/0.2/0.3", "fraction is one number or one for each of 2 layers"),
        ("smallest:start=1/2/3", "start is one number or one for each of 2 layers"),
        ("smallest:end=1001", r"in order and in \[0, 1000\]"),
        ("smallest:start=500,end=400", "in order"),
        ("smallest:start=5,end=6,rate=0.1", "5 events fit into steps 5 to 6"),
        ("smallest:fraction=0.01", "at least one of 19 units goes"),
        ("smallest:flops=0.99", r"flops is at most 0\.\d{4}, what these layers have"),
    ],
)
def test_what_does_not_suit_the_network(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message) as caught:
        plan(text)
    assert caught.value.name == "prune" and "\n" not in str(caught.value)


# Budgets


def test_multiplications_of_a_chain() -> None:
    assert dense_multiplications((4, 3, 2, 5), (0, 0)) == 4 * 3 + 3 * 2 + 2 * 5
    assert dense_multiplications((4, 3, 2, 5), (1, 1)) == 4 * 2 + 2 * 1 + 1 * 5


@given(
    st.lists(st.integers(2, 25), min_size=1, max_size=4),
    st.floats(0.01, 0.95),
    st.data(),
)
def test_the_same_share_of_each_layer_that_just_suffices(
    widths: list[int], flops: float, data: st.DataObject
) -> None:
    pruned = sorted(data.draw(st.sets(st.integers(0, len(widths) - 1), min_size=1)))

    def cost(removed: Sequence[int]) -> int:
        return dense_multiplications((9, *widths, 4), removed)

    def saved(counts: Sequence[int]) -> Fraction:
        removed = [0] * len(widths)
        for i, count in zip(pruned, counts):
            removed[i] = count
        return 1 - Fraction(cost(removed), cost([0] * len(widths)))

    # Every share at which some count changes, tried from below.
    shares = sorted(
        {Fraction(2 * k - 1, 2 * widths[i]) for i in pruned for k in range(1, widths[i] + 1)}
    )
    tried = [[min(rounded(q, widths[i]), widths[i] - 1) for i in pruned] for q in shares]
    suffices = [counts for counts in tried if saved(counts) >= exact(flops)]
    found = uniform_counts(exact(flops), widths, pruned, cost)
    assert found == (suffices[0] if suffices else None)


def test_a_budget_of_multiplications() -> None:
    made = plan("smallest:flops=0.4,start=100,end=200,retrain=50")
    assert [event.step for event in made.events] == [100, 150, 200]
    removed = [*made.events[-1].goals, 0]
    assert 1 - multiplications(removed) / multiplications([0, 0, 0]) >= 0.4
    # A unit fewer of the layer that lost one last does not do.
    assert 1 - multiplications([removed[0] - 1, removed[1], 0]) / multiplications([0, 0, 0]) < 0.4
    by_ranking = plan("smallest:flops=0.4,scope=global,start=100,end=200,retrain=50")
    assert [event.flops for event in by_ranking.events] == [
        Fraction(2 * i, 15) for i in (1, 2, 3)
    ] and not any(event.goals for event in by_ranking.events)


def test_a_pruning_is_checked_like_its_text() -> None:
    for changes in (dict(fraction=(0.1, 2)), dict(fraction=()), dict(layers=(3,)), dict(rate=2)):
        with pytest.raises(InvalidParameter):
            Pruning(**changes)
    assert dataclasses.replace(Pruning(), target="largest") == Pruning(target="largest")

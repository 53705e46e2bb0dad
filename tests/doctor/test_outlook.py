"""Predictions of who dies next against the predictor filter by filter, and against simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import regdyn
from regdyn.doctor import Inspection, inspect
from regdyn.doctor.crossing import Circumstances
from regdyn.dynamics.noise import Gaussian, StdTable
from regdyn.dynamics.schedules import Step
from regdyn.errors import InvalidParameter, OutsideDomain
from regdyn.optimizers import make_optimizer

RANDOM = np.random.default_rng(0)


def network(gamma: Any, beta: Any, alpha: float = 0.0) -> Inspection:
    n = len(gamma)
    tensors = {
        "bn.weight": torch.tensor(gamma, dtype=torch.float64),
        "bn.bias": torch.tensor(beta, dtype=torch.float64),
        "bn.running_mean": torch.zeros(n), "bn.running_var": torch.ones(n),
    }  # fmt: skip
    return inspect(tensors, alpha=alpha)


GAMMA = np.concatenate([10 ** RANDOM.uniform(-5, 0.3, 60), [0.0]]) * RANDOM.choice([-1, 1], 61)
BETA = np.where(RANDOM.random(61) < 0.4, -6 * np.abs(GAMMA), RANDOM.normal(size=61))

CASES: list[tuple[str, dict[str, Any], int]] = [
    ("adam", {"lam": 1e-3}, 300),
    ("adam", {"lam": 1e-2, "regularization": "decoupled", "lr": 1e-2}, 2000),
    ("sgd", {"lam": 5e-4, "sigma": 1e-4}, 10_000),
    ("adagrad", {"lam": 1e-2}, 1000),
]


@pytest.mark.parametrize("name, given, steps", CASES)
def test_filter_by_filter(name: str, given: dict[str, Any], steps: int) -> None:
    found = network(GAMMA, BETA)
    rule = make_optimizer(name, **{k: v for k, v in given.items() if k == "lr"})
    rest = {k: v for k, v in given.items() if k != "lr"}
    (outlook,) = found.look_ahead(rule, steps=steps, **rest).outlooks
    rest_given = {"sigma": 1e-5, **rest, "lr": rule.lr}
    (layer,) = found.layers
    crosses = np.zeros(61, bool)
    below = np.zeros(61)
    for i in np.flatnonzero(np.abs(GAMMA) >= 1e-3):
        each = regdyn.predict(
            name, theta0=abs(GAMMA[i]), steps=steps, **rest_given | {"sigma": [rest_given["sigma"]]}
        )
        crosses[i] = each.median_steps <= steps
        # A Gaussian scale within the threshold, by simulation.
        draws = np.random.default_rng(1).normal(each.mean, each.std, 4000)
        below[i] = np.mean(np.abs(draws) < 1e-3)
    np.testing.assert_array_equal(outlook.by_layer[0], crosses)
    assert 0 < crosses.sum() < np.sum(np.abs(GAMMA) >= 1e-3)
    assert outlook.counts.at_most == crosses.sum()
    assert outlook.counts.idle == (crosses & layer.silent).sum() > 0
    assert outlook.of_all == np.sum(np.abs(GAMMA) >= 1e-3)
    assert outlook.of_idle == (layer.silent & (np.abs(GAMMA) >= 1e-3)).sum()
    assert outlook.reach == np.abs(GAMMA[crosses]).max() and outlook.monotone
    # Interpolated between the scales that the bisection met.
    assert outlook.counts.at_most_below == pytest.approx(below.sum(), abs=1.5)
    assert outlook.counts.idle_below == pytest.approx(below[layer.silent].sum(), abs=1)


def test_against_simulated_trajectories() -> None:
    """Scales that see nothing but noise and decay: as many pass as are predicted to."""
    scales = np.geomspace(2e-3, 1.0, 24)
    found = network(scales, -6 * scales)
    steps = 400
    (outlook,) = found.look_ahead("adam", steps=steps, lam=1e-3).outlooks
    passed, below = 0.0, 0.0
    for seed, scale in enumerate(scales):
        simulated = regdyn.simulate(
            "adam", lam=1e-3, noise=Gaussian(StdTable([1e-5])), theta0=float(scale), steps=steps,
            trajectories=256, seed=seed, threads=1,
        )  # fmt: skip
        passed += simulated.first_passage_quantile(0.5) <= steps
        below += np.mean(np.abs(simulated.final) < 1e-3)
    assert outlook.of_idle == outlook.of_all == 24
    assert abs(outlook.counts.idle - passed) <= 1 and 5 < passed < 24
    assert outlook.counts.idle_below == pytest.approx(below, abs=0.1 * below + 1)


def test_what_would_change_it_is_the_same_prediction_elsewhere() -> None:
    found = network(GAMMA, BETA)
    (outlook,) = found.look_ahead("adam", steps=300, lam=1e-3, sigma=1e-5).outlooks
    others = {
        "decoupled decay": found.look_ahead(
            "adam", steps=300, lam=1e-3, sigma=1e-5, regularization="decoupled"
        ),
        "a tenth of gamma's learning rate": found.look_ahead(
            make_optimizer("adam", lr=1e-4), steps=300, lam=1e-3, sigma=1e-5
        ),
        "batches four times as large (half the noise)": found.look_ahead(
            "adam", steps=300, lam=1e-3, sigma=5e-6
        ),
    }
    assert list(outlook.changes) == list(others)
    for name, other in others.items():
        assert outlook.changes[name] == other.outlooks[0].counts
    assert len({counts.at_most for counts in outlook.changes.values() if counts}) == 3


def test_what_is_not_to_be_changed() -> None:
    found = network(GAMMA, BETA)
    (outlook,) = found.look_ahead("sgd", steps=10, lam=1e-3, sigma=0.0).outlooks
    assert list(outlook.changes) == ["decoupled decay", "a tenth of gamma's learning rate"]
    (outlook,) = found.look_ahead("sgd", steps=10, regularization="decoupled").outlooks
    assert "decoupled decay" not in outlook.changes and len(outlook.changes) == 2
    (outlook,) = found.look_ahead("sgd", steps=10, regularization="none").outlooks
    assert outlook.revived is None and "no decay" in outlook.lines()[0]


def revive(gamma: float, beta: float, rate: float, steps: int, alpha: float = 0.1) -> bool:
    """Step by step: psBN with the same outputs, then nothing but decay, until 0.1 percent is active."""
    beta -= alpha
    for _ in range(steps):
        gamma, beta = gamma * (1 - rate), beta * (1 - rate)
    return (beta + alpha) / abs(gamma) >= -3.090232306167813


@pytest.mark.parametrize(
    "name, given, rate, words",
    [
        ("sgd", {"lam": 5e-3, "momentum": 0.5}, 0.1 * 5e-3 / 0.5, "l2"),
        ("sgd", {"lam": 5e-3, "momentum": 0.5, "regularization": "decoupled"}, 5e-4, "decoupled decay"),
        ("adam", {"lam": 0.5}, 5e-4, "decoupled decay"),
        ("adam", {"lam": 1e-3, "regularization": "paper"}, 1e-3, "paper decay"),
    ],
)
def test_psbn_wakes_filters(name: str, given: dict[str, Any], rate: float, words: str) -> None:
    gamma = np.concatenate([10 ** RANDOM.uniform(-4, -0.5, 30), [0.0]])
    beta = -gamma * RANDOM.uniform(3.5, 12, 31) - 0.01
    found = network(gamma, beta)
    rule = make_optimizer(name, **{k: v for k, v in given.items() if k == "momentum"})
    rest = {k: v for k, v in given.items() if k != "momentum"}
    (outlook,) = found.look_ahead(rule, steps=1500, **rest).outlooks
    wanted = sum(revive(g, b, rate, 1500) for g, b in zip(gamma[:-1], beta[:-1]))
    assert (outlook.revived, outlook.of_silent) == (wanted, 31) and 0 < wanted < 30
    assert outlook.psbn_decay == words
    assert f"psBN (alpha 0.1, {words}) wakes {wanted} of the 31" in outlook.lines()[1]
    (already,) = network(gamma, beta, alpha=0.05).look_ahead(rule, steps=1500, **rest).outlooks
    assert already.revived is None


def test_learning_rates_and_schedules_count() -> None:
    found = network(GAMMA, BETA)
    given: dict[str, Any] = {"lam": 0.02, "sigma": 1e-5}
    (full,) = found.look_ahead("sgd", steps=90, **given).outlooks
    (off,) = found.look_ahead("sgd", steps=90, schedule=Step((30,), 0.0), **given).outlooks
    (listed,) = found.look_ahead("sgd", steps=90, schedule=[1.0] * 30 + [0.0], **given).outlooks
    (short,) = found.look_ahead("sgd", steps=30, **given).outlooks
    assert off.counts == listed.counts and "learning rate 0.1 x 1 to 0," in off.lines()[0]
    assert off.to_dict()["schedule"] == (1, 0) and full.to_dict()["schedule"] is None
    assert full.counts.at_most > off.counts.at_most == short.counts.at_most > 0


def test_nothing_above_the_threshold() -> None:
    (outlook,) = network([1e-5, 0.0], [-1.0, -1.0]).look_ahead(steps=10).outlooks
    assert (outlook.of_all, outlook.counts.at_most, outlook.reach) == (0, 0, None)
    assert outlook.lines()[0].count("no filter above 0.001 is idle") == 1


def test_nothing_crosses() -> None:
    (outlook,) = network([0.5, 1.0], [0.0, -9.0]).look_ahead("sgd", steps=1, lam=1e-9).outlooks
    assert (outlook.counts.at_most, outlook.reach) == (0, None) and not outlook.by_layer[0].any()


def test_without_a_bound_it_is_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor of which only scales in the middle pass."""
    now = Circumstances(
        optimizer=make_optimizer("sgd"), lam=1e-3, regularization="l2", sigma=0.0, schedule=None,
        steps=100, threshold=1e-3,
    )  # fmt: skip

    class Odd:
        def __init__(self, scale: float) -> None:
            self.median_steps = 10.0 * (1 + abs(np.log10(scale) + 1) ** 2 * 100)
            self.threshold, self.mean, self.std = 1e-3, scale, 0.0

    monkeypatch.setattr(Circumstances, "predict", lambda self, scale: Odd(scale))
    scales = np.geomspace(1e-3, 10, 200)
    found = now.crossing(scales)
    wanted = np.array([Odd(scale).median_steps <= 100 for scale in scales])
    assert not found.monotone and 0 < wanted.sum() < 60
    assert np.sum(found.crosses != wanted) <= 2


def test_a_learning_rate_that_diverges() -> None:
    found = network(GAMMA, BETA)
    with pytest.raises(OutsideDomain):
        found.look_ahead(make_optimizer("sgd", lr=1e4), steps=100, lam=1.0)


@pytest.mark.parametrize(
    "name, value",
    [("steps", 0), ("steps", 1.5), ("lam", -1), ("sigma", -1), ("regularization", "l1"),
     ("optimizer", "newton")],
)  # fmt: skip
def test_parameters_out_of_range(name: str, value: Any) -> None:
    given: dict[str, Any] = {"steps": 10, name: value}
    with pytest.raises(InvalidParameter, match=name):
        network(GAMMA, BETA).look_ahead(**given)


def test_as_json() -> None:
    (outlook,) = network(GAMMA, BETA).look_ahead("adam", steps=300, lam=1e-3).outlooks
    shown = outlook.to_dict()
    assert shown["cross"] == vars(outlook.counts) and shown["by_layer"] == [outlook.counts.at_most]
    assert shown["optimizer"] == "adam" and shown["hyperparameters"]["beta2"] == 0.99
    assert shown["psbn"]["never_fire"] == outlook.of_silent
    assert set(shown["changes"]) == set(outlook.changes)

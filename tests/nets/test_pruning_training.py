"""Pruned runs of the NumPy network: against plain rules with masks, and against smaller networks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from networks import random_data
from numpy.typing import NDArray
from scipy.stats import norm as normal

import regdyn
from regdyn.errors import InvalidParameter
from regdyn.nets._run import Run
from regdyn.nets._team import Team
from regdyn.nets.mlp import Network
from regdyn.nets.pruning.config import Pruning, make_pruning
from regdyn.nets.pruning.events import PruningEvent
from regdyn.nets.result import TrainResult
from regdyn.nets.run_result import save_runs
from regdyn.nets.training import TrainConfig, _Casts, train
from regdyn.optimizers import decay_placement

SMALL: dict[str, Any] = dict(data=random_data(), hidden=(6, 5), batch=10, steps=18, dtype="float64")
EVENTS = (5, 9, 13)
WHEN = "start=5,end=13,retrain=4"


def start(config: TrainConfig) -> Run:
    return Run(config, _Casts()(config), Team(1))


def trained(**changes: Any) -> TrainResult:
    (result,) = train([TrainConfig(**SMALL | changes)], threads=1)
    assert not result.failed
    return result


# --- The same by hand -----------------------------------------------------------------------------


def ebn(network: Network, layer: int) -> NDArray:
    """Mean of max(u, 0), u normal with mean beta and std |gamma|."""
    scale, shift = np.abs(network.gamma[layer]), network.beta[layer]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = shift * normal.cdf(shift / scale) + scale * normal.pdf(shift / scale)
    return np.where(scale > 0, mean, np.maximum(shift, 0))


def l2(network: Network, layer: int) -> NDArray:
    return np.sqrt((network.weights[layer] ** 2).sum(axis=1))


def l1(network: Network, layer: int) -> NDArray:
    return np.abs(network.weights[layer]).sum(axis=1)


def scales(network: Network, layer: int) -> NDArray:
    return np.abs(network.gamma[layer])


@dataclasses.dataclass
class ByHand:
    """A run, a number at a time, with masks of everything; `choose` says what goes at each event."""

    config: TrainConfig
    choose: Callable[[ByHand, int], None]

    def __post_init__(self) -> None:
        self.run = start(self.config)
        self.network = self.run.network
        self.masks = [np.ones(w.shape, bool) for w in self.network.weights]
        self.alive = [np.ones(n, bool) for n in self.config.hidden]
        self.held: list[tuple[int, int, NDArray]] = []
        self.accuracies: list[tuple[float, float]] = []

    def remove_units(self, layer: int, units: list[int]) -> None:
        self.alive[layer][units] = False
        self.masks[layer][units] = False
        self.masks[layer + 1][:, units] = False

    def apply(self, t: int) -> None:
        for mask, weights in zip(self.masks, self.network.weights):
            weights *= mask
        for alive, gamma, beta in zip(self.alive, self.network.gamma, self.network.beta):
            beta *= alive
            if self.config.normalized:
                gamma *= alive
        for until, layer, units in self.held:
            if t <= until:
                self.network.weights[layer][units] = 0

    def accuracy(self) -> float:
        data = self.config.dataset
        return 1 - self.network.error(data.x_test, data.y_test)

    def train(self) -> Network:
        config, rule = self.config, self.config.rule
        networks = self.network

        def arrays(of: Any) -> dict[str, list[NDArray]]:
            gamma = list(of.gamma) if config.normalized else []
            return {"w": [*of.weights, of.bias], "g": gamma, "b": list(of.beta)}

        factors = {"w": 1.0, "g": config.gamma_lr, "b": config.beta_lr}
        states = {
            (key, k): [rule.initial_state()] * array.size
            for key, each in arrays(networks).items()
            for k, array in enumerate(each)
        }
        self.event(0)
        for t in range(1, config.steps + 1):
            x, y = self.run._next_batches(1)
            x = x[:, : config.dataset.x_train.shape[1]]
            self.average(x)
            _, gradients = networks.gradients(x, y)
            theirs = arrays(gradients)
            for key, each in arrays(networks).items():
                lr = rule.lr * factors[key]
                c = rule.constants(t, lr)
                before_l2, before, after = decay_placement(config.regularization, config.lam, lr, 1.0)
                for k, array in enumerate(each):
                    theta, g = array.reshape(-1), theirs[key][k].ravel()
                    for i, old in enumerate(theta.copy()):
                        new, states[key, k][i] = rule.step(
                            before * old, g[i] + before_l2 * old, states[key, k][i], c
                        )
                        theta[i] = after * new
            self.apply(t)
            self.event(t)
        return networks

    def average(self, x: NDArray) -> None:
        """Move the running statistics, as torch does."""
        n, y = self.network, x.T
        for i in range(len(n.gamma) if self.config.normalized else 0):
            z = n.weights[i] @ y
            mean, var = z.mean(axis=1), z.var(axis=1, ddof=1)
            n.running_mean[i][:] += 0.1 * (mean - n.running_mean[i])
            n.running_var[i][:] += 0.1 * (var - n.running_var[i])
            z = (z - mean[:, None]) / np.sqrt(z.var(axis=1) + 1e-5)[:, None]
            y = n._activate(i, z)

    def event(self, t: int) -> None:
        if t in EVENTS:
            before = self.accuracy()
            self.choose(self, t)
            self.apply(t)
            self.accuracies.append((before, self.accuracy()))


def units(
    measure: Callable[[Network, int], NDArray],
    pick: Callable[[list[int]], list[int]],
    hold: int | None = None,
) -> Callable[[ByHand, int], None]:
    """A unit of each layer at each event: `pick` of those that are left, ascending by the measure."""

    def choose(by_hand: ByHand, t: int) -> None:
        picked = []
        for layer in (0, 1):
            values = measure(by_hand.network, layer)
            free = by_hand.alive[layer].copy()
            for until, other, which in by_hand.held:
                if other == layer and until > t:
                    free[which] = False
            order = sorted(np.flatnonzero(free), key=lambda j: (values[j], j))
            picked.append([int(j) for j in pick(order)])
        for layer, which in enumerate(picked):
            if hold is None:
                by_hand.remove_units(layer, which)
            else:
                by_hand.held.append((t + hold, layer, which))

    return choose


def whole_ranking(by_hand: ByHand, t: int) -> None:
    """6 of 11 units after three events: 2 each time, of one ranking, but for the last of a layer."""
    values = [(l1(by_hand.network, layer)[j], layer, j) for layer in (0, 1)
              for j in np.flatnonzero(by_hand.alive[layer])]  # fmt: skip
    wanted = sum(alive.sum() for alive in by_hand.alive) - 2
    for _, layer, j in sorted(values):
        if sum(alive.sum() for alive in by_hand.alive) > wanted and by_hand.alive[layer].sum() > 1:
            by_hand.remove_units(layer, [j])


def single_weights(by_hand: ByHand, t: int) -> None:
    """A fifth of the 42 and of the 30 weights: 8 and 6 after three events."""
    for layer, counts in ((0, (3, 2, 3)), (1, (2, 2, 2))):
        w = np.where(by_hand.masks[layer], np.abs(by_hand.network.weights[layer]), -1).ravel()
        largest = np.argsort(-w)[: counts[EVENTS.index(t)]]
        by_hand.masks[layer].reshape(-1)[largest] = False


def first(order: list[int]) -> list[int]:
    return order[:1]


CASES: dict[str, tuple[str, dict[str, Any], Callable[[ByHand, int], None]]] = {
    "smallest": ("smallest", {}, units(ebn, first)),
    "largest": ("largest:importance=l2", dict(optimizer="sgd"), units(l2, lambda o: o[-1:])),
    "decile": (
        "decile6:importance=gamma", dict(regularization="paper", lam=0.02),
        units(scales, lambda o: o[len(o) * 6 // 10 :][:1]),
    ),
    "not normalised": ("smallest", dict(norm="none", activation="tanh"), units(l2, first)),
    "one ranking": ("smallest:scope=global,importance=l1", {}, whole_ranking),
    "weights": (
        "largest:what=weights,fraction=0.2", dict(alpha=0.2, regularization="decoupled"),
        single_weights,
    ),
    "zeroing": ("largest:noise=zeroing,hold=6", {}, units(ebn, lambda o: o[-1:], hold=6)),
    "zeroing once": ("largest:noise=zeroing", {}, units(ebn, lambda o: o[-1:], hold=0)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_equals_the_plain_rules_with_masks(case: str) -> None:
    text, changes, choose = CASES[case]
    separator = "," if ":" in text else ":"
    config = TrainConfig(prune=f"{text}{separator}{WHEN}", **SMALL | dict(lam=0.01) | changes)
    by_hand = ByHand(config, choose)
    expected = by_hand.train()
    (result,) = train([config], threads=1)
    for name in ("weights", "gamma", "beta"):
        for ours, theirs in zip(getattr(result.network, name), getattr(expected, name)):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9, err_msg=name)
            assert np.array_equal(ours == 0, theirs == 0), "what is held at 0 is exactly 0"
    np.testing.assert_allclose(result.network.bias, expected.bias, rtol=0, atol=1e-9)
    events = result.prunings
    assert tuple(event.step for event in events) == EVENTS
    found = [(event.accuracy_before, event.accuracy_after) for event in events]
    np.testing.assert_allclose(found, by_hand.accuracies, rtol=0, atol=1e-12)
    if "noise" in text:
        assert result.pruned == {} and all(event.removed == (0, 0) for event in events)
    elif "weights" in text:
        assert [event.removed for event in events] == [(3, 2), (5, 4), (8, 6)]
        for mask, held in zip(result.pruned.values(), by_hand.masks):
            assert np.array_equal(mask, ~held)
    else:
        for mask, alive in zip(result.pruned.values(), by_hand.alive):
            assert np.array_equal(mask, ~alive)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_pruned_at_the_start_is_a_smaller_network(norm: str, rule: str) -> None:
    """With the same weights from the start, units of zeros take no part in anything."""
    settings = dict(optimizer=rule, norm=norm, lam=0.05, activation="leaky_relu")
    pruned = trained(prune="random:start=0,end=0,fraction=0.4", **settings)
    stay = [np.flatnonzero(~mask) for mask in pruned.pruned.values()]
    assert [len(each) for each in stay] == [4, 3]

    big = start(TrainConfig(**SMALL | settings)).network
    run = start(TrainConfig(**SMALL | settings | dict(hidden=(4, 3))))
    below = [np.arange(big.weights[0].shape[1]), *stay]
    for view, weights, above, inputs in zip(
        run._parameters.weights, big.weights, [*stay, np.arange(4)], below
    ):
        view[:] = weights[np.ix_(above, inputs)]
    small = run.train(0, lambda snapshot: None, np.zeros(1, np.int64))
    x = SMALL["data"].x_test
    np.testing.assert_allclose(pruned.network.logits(x), small.network.logits(x), rtol=0, atol=1e-10)
    np.testing.assert_allclose(pruned.loss[1:], small.loss[1:], rtol=1e-10)
    for layer in (0, 1):
        np.testing.assert_allclose(
            pruned.norm[layer][:, stay[layer]], small.norm[layer], rtol=1e-9, atol=1e-12
        )
    assert pruned.network.without(pruned.inactive).architecture.hidden == (4, 3)
    assert pruned.error == pruned.error_after_removal == small.error


# --- Noise ----------------------------------------------------------------------------------------


def still(prune: str, steps: int = 20) -> list[NDArray]:
    """Weights of the first layer after each step of a run without any step of its own."""
    run = start(
        TrainConfig(
            optimizer=regdyn.SGD(lr=0.0), regularization="none", prune=prune,
            **SMALL | dict(hidden=(40, 5), steps=steps),
        )
    )  # fmt: skip
    seen = [run.network.weights[0]]
    assert run._pruner is not None
    for t in range(steps + 1):
        run._pruner.act(t, run._prunable)
        seen.append(run.network.weights[0])
    return seen


@pytest.mark.parametrize("hold", [0, 4])
def test_gaussian_noise(hold: int) -> None:
    text = f"random:noise=gaussian,hold={hold},start=6,end=6,fraction=0.5,layers=layer1"
    seen = still(text)
    differences = [after - before for before, after in pairwise(seen)]
    noisy = [t for t, difference in enumerate(differences) if difference.any()]
    assert noisy == list(range(6, 7 + hold))
    rows = differences[6].any(axis=1)
    assert rows.sum() == 20
    std = seen[0][~rows].std()
    for t in noisy:
        assert np.array_equal(differences[t].any(axis=1), rows)
        z = differences[t][rows] / std
        n = z.size
        assert abs(z.mean()) < 4 / np.sqrt(n) and abs(z.std() - 1) < 4 / np.sqrt(2 * n)
    if hold:
        # Fresh each time.
        a, b = (differences[t][rows].ravel() for t in noisy[:2])
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(a.size)
    assert all(np.array_equal(a, b) for a, b in zip(seen, still(text))), "it is that of the seed"


def test_noise_on_single_weights() -> None:
    text = "largest:what=weights,noise=gaussian,start=2,end=2,fraction=0.25,layers=layer1"
    before, *_, after = still(text)
    moved = before != after
    assert moved.sum() == 70
    assert np.abs(before[moved]).min() >= np.abs(before[~moved]).max()


def test_what_is_disturbed_is_not_chosen_again_before_it_is_let_go() -> None:
    """Four events in which all smallest ones would be the same."""
    held = trained(
        prune="smallest:noise=zeroing,hold=4,importance=l2,start=2,end=8,retrain=2,fraction=0.8"
    )
    once = trained(prune="smallest:noise=zeroing,importance=l2,start=2,end=8,retrain=1,fraction=0.8")
    assert [sum(event.chosen) for event in held.prunings] == [2, 3, 2, 2]
    assert all(sum(event.chosen) in (1, 2) for event in once.prunings)
    assert held.sparsity == once.sparsity == 0


# --- Runs -----------------------------------------------------------------------------------------


def bits(result: TrainResult) -> bytes:
    n = result.network
    arrays = (
        *n.weights,
        *n.gamma,
        *n.beta,
        *n.running_var,
        n.bias,
        result.loss,
        *result.pruned.values(),
    )
    return b"".join(array.tobytes() for array in arrays) + repr(result.prunings).encode()


@pytest.mark.parametrize(
    "prune", ["largest", "random:what=weights", "random:noise=gaussian,hold=9,scope=global"]
)
def test_same_bits_on_any_number_of_threads(prune: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regdyn.nets._run.SHARE", 100)
    configs = [
        TrainConfig(prune=prune, **SMALL | dict(dtype="float32", hidden=(90, 61), steps=60, seed=seed))
        for seed in (0, 1)
    ]
    alone = [bits(train([config], threads=1)[0]) for config in configs]
    assert alone[0] != alone[1]
    for threads in (2, 7):
        assert [bits(result) for result in train(configs, threads=threads)] == alone
        assert bits(train(configs[:1], threads=threads)[0]) == alone[0]


def test_events_that_take_nothing_change_nothing() -> None:
    """Up to the first event the run is that without pruning, whatever is to go then."""
    plain, pruned = trained(times=[9, 18]), trained(prune="largest:start=10,end=10", times=[9, 18])
    assert plain.loss[0] == pruned.loss[0] and plain.loss[1] != pruned.loss[1]
    assert np.array_equal(plain.gamma[0][0], pruned.gamma[0][0])


def test_a_record_shows_the_network_after_the_event() -> None:
    result = trained(prune="smallest:start=6,end=18,retrain=6", times=[0, 6, 12, 18])
    removed = [0, *(sum(event.removed) for event in result.prunings)]
    assert [np.count_nonzero(np.concatenate(g) == 0) for g in zip(*result.gamma)] == removed
    assert result.test_error[-1] == result.error == 1 - result.prunings[-1].accuracy_after
    assert result.sparsity == 6 / 11


def test_first_passages_include_what_was_pruned() -> None:
    result = trained(
        prune="random:start=0,end=12,retrain=4", times=np.arange(19), threshold=0.05, gamma0=0.07,
        optimizer=regdyn.Adam(lr=0.003),
    )  # fmt: skip
    for layer, gamma in enumerate(result.gamma):
        below = np.abs(gamma) < 0.05
        first = np.where(below.any(axis=0), below.argmax(axis=0), -1)
        assert np.array_equal(result.first_below[layer], first)
        assert np.array_equal(result.steps_below[layer], below.sum(axis=0))
    starts = {int(t) for first in result.first_below for t in first}
    assert {0, 4, 8, 12} <= starts and starts - {0, 4, 8, 12}


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_budget_of_multiplications_is_reached_by_the_ranking(share: float) -> None:
    result = trained(
        prune=f"smallest:flops={share},scope=global,start=4,end=8,retrain=2",
        hidden=(20, 30), gamma0=0.1, optimizer=regdyn.Adam(lr=0.03),
    )  # fmt: skip
    whole = 7 * 20 + 20 * 30 + 30 * 4
    for i, event in enumerate(result.prunings, start=1):
        a, b = 20 - event.removed[0], 30 - event.removed[1]
        assert 1 - (7 * a + a * b + b * 4) / whole >= share * i / 3
        # One unit more of either layer and it would not be reached.
        more = (7 * (a + 1) + (a + 1) * b + b * 4, 7 * a + a * (b + 1) + (b + 1) * 4)
        assert any(1 - cost / whole < share * i / 3 for cost in more)
    assert len({event.removed[0] / 20 - event.removed[1] / 30 for event in result.prunings}) > 1


def test_a_network_that_is_not_finite_ends_at_its_event() -> None:
    (result,) = train(
        [
            TrainConfig(
                optimizer=regdyn.Adam(lr=1e39),
                norm="none",
                prune="smallest:start=1,end=1",
                **SMALL | dict(dtype="float32"),
            )
        ]
    )
    assert result.failed == "the network is no longer finite at step 1" and not result.prunings


# --- What is returned -----------------------------------------------------------------------------


def test_results(tmp_path: Path) -> None:
    pruned, weights, plain = results = [
        trained(prune=make_pruning("largest:retrain=3,start=3,end=9")),
        trained(prune="smallest:what=weights,layers=layer2"),
        trained(),
    ]
    assert pruned.label == "adam, l2 0.001, largest:fraction=0.5,start=3,end=9,retrain=3"
    assert plain.label == "adam, l2 0.001" and plain.mean_instability is None
    assert plain.pruned_share == 0 and plain.remarks() == []
    drops = [event.accuracy_before - event.accuracy_after for event in pruned.prunings]
    assert pruned.mean_instability == pytest.approx(np.mean(drops)) and any(drops)
    assert pruned.generalization_gap == pytest.approx((1 - pruned.train_error) - (1 - pruned.error))
    assert pruned.pruned_share == 6 / 11 and weights.pruned_share == 15 / 30
    assert pruned.remarks() == [
        "Pruned 54.5% of the units of 2 layers in 3 events after steps 3 to 9: mean instability "
        f"{np.mean(drops):.2%}, generalisation gap {pruned.generalization_gap:.2%}."
    ]
    kept = json.loads(json.dumps(pruned.to_dict()))
    assert [PruningEvent.from_dict(event) for event in kept["prunings"]] == list(pruned.prunings)
    assert kept["config"]["prune"]["target"] == "largest"
    assert kept["final"]["mean_instability"] == pruned.mean_instability
    assert json.loads(json.dumps(plain.to_dict()))["prunings"] == []

    save_runs(results, tmp_path / "runs.nc")
    with xarray.open_datatree(tmp_path / "runs.nc", engine="h5netcdf") as tree:
        first, second, third = (tree[f"run_{i}"] for i in range(3))
        assert first["event"].values.tolist() == [3, 6, 9]
        assert first["removed"].sel(pruned_layer="layer 2").values.tolist() == [1, 2, 3]
        np.testing.assert_allclose(first["instability"], drops)
        np.testing.assert_array_equal(first["pruned_1"], pruned.pruned["layer 1"])
        assert second["pruned_2"].dims == ("unit_2", "input_2") and second["pruned_2"].sum() == 15
        assert "event" not in third.variables


def test_a_picture_of_pruned_runs(tmp_path: Path) -> None:
    from regdyn.plots import plot_training

    figure = plot_training([trained(prune="largest"), trained()])
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert any("pruned: largest" in title for title in titles) and any(
        "pruned: none" in t for t in titles
    )
    figure.savefig(tmp_path / "pruned.png")


def test_no_forecast_of_a_pruned_run() -> None:
    with pytest.raises(InvalidParameter, match="without pruning"):
        regdyn.forecast(trained(prune="largest"))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(prune="smallest:layers=C1"), "prune must be such that layers are among layer1, layer2"),
        (dict(prune="smallest:start=19"), r"in order and in \[0, 18\], got smallest:"),
        (dict(prune="smallest", alpha=0.1), r"noise or what=weights: .* silent \(psBN alpha 0.1\)"),
        (dict(prune="smallest:importance=gamma", norm="none"), "l1 or l2 without normalisation"),
        (dict(prune="smallest:importance=ebn", activation="elu"), "not linear below 0, got ebn"),
        (dict(prune=3), "prune must be a Pruning or its text, got 3"),
        (dict(prune="smallest", hidden=(1,)), "at least one of 1 units goes"),
    ],
)
def test_what_cannot_be_pruned(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message) as caught:
        TrainConfig(**SMALL | changes)
    assert caught.value.name == "prune"


def test_what_can_be_pruned_though_units_of_zeros_are_not_silent() -> None:
    for prune in ("smallest:what=weights", "smallest:noise=zeroing"):
        assert trained(prune=prune, alpha=0.1).prunings


def test_a_pruning_is_part_of_the_configuration() -> None:
    config = TrainConfig(prune="random", **SMALL)
    assert config.prune == Pruning(target="random")
    assert dataclasses.replace(config, prune=None).prune is None
    assert TrainConfig(prune="none", **SMALL).prune is None

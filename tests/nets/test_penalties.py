"""Penalties on gamma and on groups of weights: slopes, the compiled step, what they do to units."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from networks import TorchNetwork, make_architecture, random_data, random_network
from numpy.typing import NDArray
from reference import TORCH

import regdyn
from regdyn.errors import InvalidParameter
from regdyn.nets._mlp_kernel import penalize_rows, penalize_scales
from regdyn.nets._run import Run
from regdyn.nets._team import Team
from regdyn.nets.mlp import Network
from regdyn.nets.penalties import GroupLasso, Penalty, Slimming, make_penalty
from regdyn.nets.result import TrainResult
from regdyn.nets.training import TrainConfig, _Casts, train

SMALL: dict[str, Any] = dict(data=random_data(), hidden=(6, 5), batch=10, steps=12, dtype="float64")
KINDS = [Slimming(0.03), GroupLasso(0.02)]


def data_loss(network: Network, x: NDArray, y: NDArray) -> float:
    return network.gradients(x, y)[0]


def written(penalty: Penalty, network: Network) -> float:
    """The penalty, a number at a time."""
    total = 0.0
    for layer in range(len(network.beta)):
        for gamma, row in zip(network.gamma[layer], network.weights[layer]):
            if isinstance(penalty, Slimming):
                total += abs(gamma)
            else:
                total += math.sqrt(len(row)) * math.sqrt(sum(w * w for w in row))
    return penalty.strength * total


# --- What is added --------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", KINDS, ids=lambda p: p.name)
def test_the_subgradient_is_the_slope_of_loss_and_penalty(penalty: Penalty) -> None:
    network = random_network(make_architecture())
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(12, 7)), np.arange(12) % 4
    _, g = network.gradients(x, y)
    added = [penalty.subgradient(each) for each in penalty.penalized(network)]
    assert sum(map(penalty.value, penalty.penalized(network))) == pytest.approx(
        written(penalty, network)
    )

    def total() -> float:
        return data_loss(network, x, y) + written(penalty, network)

    groups = {"weights": (network.weights, list(g.weights)), "gamma": (network.gamma, list(g.gamma))}
    _, ours = groups["gamma" if isinstance(penalty, Slimming) else "weights"]
    for layer, each in enumerate(added):
        ours[layer] = ours[layer] + each
    step = 1e-5
    for arrays, slopes in groups.values():
        for array, slope in zip(arrays, slopes):
            for place in generator.choice(array.size, 4, replace=False):
                flat = array.reshape(-1)
                kept = flat[place]
                flat[place] = kept + step
                above = total()
                flat[place] = kept - step
                slope_here = (above - total()) / (2 * step)
                flat[place] = kept
                assert slope.ravel()[place] == pytest.approx(slope_here, rel=1e-5, abs=1e-7)


def test_groups_of_a_convolution_are_its_filters() -> None:
    weights = np.random.default_rng(0).normal(size=(3, 2, 5, 5))
    penalty = GroupLasso(0.1)
    flat = weights.reshape(3, 50)
    assert penalty.value(weights) == pytest.approx(penalty.value(flat))
    np.testing.assert_allclose(penalty.subgradient(weights).reshape(3, 50), penalty.subgradient(flat))
    lengths = np.linalg.norm(penalty.subgradient(flat), axis=1)
    np.testing.assert_allclose(lengths, 0.1 * math.sqrt(50))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zero_stays_and_tiny_groups_have_a_direction(dtype: str) -> None:
    """Compiled and plain: squares of 1e-25 underflow in float32."""
    generator = np.random.default_rng(2)
    weights = np.zeros((5, 32), dtype)
    weights[1:, :20] = generator.normal(size=(4, 20))
    weights[2] *= np.array(1e-25, dtype)
    weights[3] *= np.array(1e-37, dtype)
    weights[4] *= np.array(1e15, dtype)
    weights[:, 20:] = np.nan  # padding
    d_weights = np.ones_like(weights)
    penalize_rows(weights, 20, weights.dtype.type(0.5), d_weights)
    assert (d_weights[:, 20:] == 1).all()
    added = d_weights[:, :20] - 1
    plain = GroupLasso(0.5).subgradient(weights[:, :20])
    assert plain.dtype == dtype
    tolerance = 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(added, plain, rtol=0, atol=tolerance)
    assert (added[0] == 0).all()
    for row in (1, 2, 4):
        assert np.linalg.norm(added[row]) == pytest.approx(0.5 * math.sqrt(20), rel=20 * tolerance)
    assert np.linalg.norm(plain[3]) < 1e-5, "below the least norm it goes to 0 with the weights"

    gamma = np.array([0.3, 0, -1e-30, -0.0, -2], dtype)
    d_gamma = np.ones_like(gamma)
    penalize_scales(gamma, gamma.dtype.type(0.25), d_gamma)
    assert d_gamma.tolist() == [1.25, 1, 0.75, 1, 0.75]
    assert (Slimming(0.25).subgradient(gamma) == d_gamma - 1).all()


# --- The compiled step ----------------------------------------------------------------------------


def torch_penalty(penalty: Penalty, module: TorchNetwork) -> torch.Tensor:
    """Written down for autograd."""
    parts = []
    for weights, gamma in zip(module.weights, module.gamma):  # no gamma for the outputs
        if isinstance(penalty, Slimming):
            parts.append(gamma.abs().sum())
        else:
            parts.append(math.sqrt(weights.shape[1]) * weights.square().sum(1).sqrt().sum())
    return penalty.strength * torch.stack(parts).sum()


def torch_run(config: TrainConfig, penalty: Penalty | None) -> TorchNetwork:
    """The same training by torch.optim and autograd."""
    run = Run(config, _Casts()(config), Team(1))
    module = TorchNetwork(run.network)
    optimizers = [TORCH[config.rule.name].make(config.rule, p, config.lam) for p in module.parameters()]
    for _ in range(config.steps):
        x, y = run._next_batches(1)
        x = x[:, : config.dataset.x_train.shape[1]]
        module.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(torch.tensor(x), True), torch.tensor(y))
        if penalty is not None:
            loss = loss + torch_penalty(penalty, module)
        torch.autograd.backward(loss)
        for optimizer in optimizers:
            optimizer.step()
    return module


def greatest_difference(result: TrainResult, module: TorchNetwork) -> float:
    network = result.network
    pairs = [*zip(network.weights, module.weights), *zip(network.beta, module.beta)]
    pairs += zip(network.gamma, module.gamma)
    return max(float(np.abs(ours - theirs.detach().numpy()).max()) for ours, theirs in pairs)


@pytest.mark.parametrize("optimizer", [regdyn.SGD(lr=0.05), regdyn.Adam(lr=0.01), regdyn.RMSProp()])
@pytest.mark.parametrize(
    "penalty, norm",
    [(KINDS[0], "batch"), (KINDS[1], "batch"), (KINDS[1], "none")],
    ids=["slimming", "group-lasso", "group-lasso, no norm"],
)
def test_training_equals_autograd(penalty: Penalty, norm: str, optimizer: regdyn.SGD) -> None:
    # 200 inputs are several lines, and 37 units neither a line nor what is computed at once.
    for settings in (SMALL, SMALL | dict(hidden=(37, 200), steps=3)):
        config = TrainConfig(penalty=penalty, norm=norm, optimizer=optimizer, lam=1e-2, **settings)
        (result,) = train([config])
        assert greatest_difference(result, torch_run(config, penalty)) < 1e-9
    # Negative control: without the penalty, or with a little more of it, it is another training.
    assert greatest_difference(result, torch_run(config, None)) > 1e-5
    more = dataclasses.replace(penalty, strength=1.01 * penalty.strength)
    assert greatest_difference(result, torch_run(config, more)) > 1e-8


@pytest.mark.parametrize("regularization", ["none", "decoupled", "paper"])
def test_it_joins_the_gradient_whatever_the_decay(regularization: str) -> None:
    """SGD, one step: theta' = after (before theta - lr (g + s sign(theta)))."""
    settings = SMALL | dict(steps=1, regularization=regularization, lam=0.1, batch=20)
    rule = regdyn.SGD(lr=0.05, momentum=0.0)
    plain, slim = train(
        [TrainConfig(optimizer=rule, penalty=p, **settings) for p in (None, "slimming:0.2")]
    )
    after = float(np.ravel(slim.config.decay(np.array([1]))[2])[0])
    for ours, without in zip(slim.network.gamma, plain.network.gamma):
        np.testing.assert_allclose(ours - without, -after * 0.05 * 0.2, rtol=1e-9)
    for ours, without in zip(slim.network.weights, plain.network.weights):
        np.testing.assert_array_equal(ours, without)


def bits(result: TrainResult) -> bytes:
    network = result.network
    return b"".join(a.tobytes() for a in (*network.weights, *network.gamma, result.loss))


@pytest.mark.parametrize("penalty", KINDS, ids=lambda p: p.name)
def test_same_bits_on_any_number_of_threads(penalty: Penalty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regdyn.nets._run.SHARE", 100)
    settings = SMALL | dict(dtype="float32", hidden=(90, 61), steps=30)
    config = TrainConfig(penalty=penalty, **settings)
    alone = bits(train([config], threads=1)[0])
    for threads in (2, 7):
        assert bits(train([config], threads=threads)[0]) == alone
    assert bits(train([TrainConfig(**settings)])[0]) != alone
    nothing = dataclasses.replace(penalty, strength=0)
    assert bits(train([TrainConfig(penalty=nothing, **settings)])[0]) == bits(
        train([TrainConfig(**settings)])[0]
    )


def test_what_is_recorded_is_of_the_data_alone() -> None:
    config = TrainConfig(penalty="slimming:0.5", times=[1], **SMALL)
    run = Run(config, _Casts()(config), Team(1))
    x, y = run._next_batches(1)
    loss, gradients = run.network.gradients(x[:, :7], y)
    (result,) = train([config])
    assert result.loss[0] == pytest.approx(loss)
    for layer, statistics in enumerate(result.gradients):
        np.testing.assert_allclose(statistics.gamma_mean[0], gradients.gamma[layer], atol=1e-12)


# --- What it does to units ------------------------------------------------------------------------


def digits(penalty: str | None, **settings: Any) -> TrainResult:
    given = dict(hidden=(40,), optimizer=regdyn.SGD(lr=0.1), regularization="none", steps=1500)
    (result,) = train([TrainConfig(penalty=penalty, **given | settings)])
    return result


def test_slimming_makes_scales_sparse_and_group_lasso_units() -> None:
    def small(arrays: tuple[NDArray, ...], limit: float) -> float:
        return float(np.mean(np.abs(np.concatenate(arrays)) < limit))

    plain, slim = digits(None), digits("slimming:1e-2")
    assert small(plain.network.gamma, 0.1) == 0 and small(slim.network.gamma, 1e-2) > 0.3
    assert plain.error < 0.05 and slim.error < 0.1
    free, grouped = (digits(p, norm="none", dtype="float64") for p in (None, "group-lasso:1e-3"))
    assert small((free.norm[0][-1],), 0.1) == 0 and small((grouped.norm[0][-1],), 1e-2) > 0.3
    assert grouped.sparsity > 0.2 and grouped.error < 0.1
    # Neither does what the other one does.
    other = digits("group-lasso:1e-3")
    assert small(other.network.gamma, 1e-2) == 0 == small((slim.norm[0][-1],), 0.1)


def swing(rule: regdyn.SGD | regdyn.Adam, s: float, noise: float = 0.0) -> float:
    """Greatest |theta| of a weight that sees the penalty, and noise of its size, at the end."""
    generator = np.random.default_rng(0)
    theta, state, seen = np.array([0.0123]), rule.initial_state(), []
    for t in range(1, 8001):
        g = float(Slimming(s).subgradient(theta)[0]) + noise * s * generator.normal()
        stepped, state = rule.step(float(theta[0]), g, state, rule.constants(t, rule.lr))
        theta[0] = stepped
        seen.append(abs(stepped))
    return max(seen[-3000:])


@pytest.mark.parametrize(
    "rule, unit, bound, noisy",
    [
        (regdyn.SGD(lr=0.1, momentum=0.0), lambda s: 0.1 * s, 1, 5),
        (regdyn.SGD(lr=0.1, momentum=0.9), lambda s: 0.1 * s, 3, 50),
        (regdyn.Adam(lr=1e-3), lambda s: 1e-3, 0.5, 3),
    ],
    ids=["sgd", "momentum", "adam"],
)
def test_the_swing_around_zero(
    rule: regdyn.SGD, unit: Callable[[float], float], bound: float, noisy: float
) -> None:
    """As the module has it: in units of lr s with SGD, of lr with Adam; an order of magnitude each."""
    for s in (1e-3, 1e-2):
        assert bound / 10 < swing(rule, s) / unit(s) <= bound
        assert noisy / 3 < swing(rule, s, noise=1) / unit(s) < 2 * noisy


# --- As a setting ---------------------------------------------------------------------------------


def test_texts() -> None:
    assert make_penalty("slimming:1e-4") == Slimming(1e-4) != GroupLasso(1e-4)
    assert make_penalty(str(GroupLasso(2.5e-6))) == GroupLasso(2.5e-6)
    assert make_penalty("none") is None is make_penalty(None)
    assert TrainConfig(penalty="slimming:0", **SMALL).penalty == Slimming(0)
    assert TrainConfig(**SMALL).penalty is None


@pytest.mark.parametrize(
    "penalty, message",
    [
        ("sliming:1", r"penalty must be one of none, slimming, group-lasso \(nearest: slimming\)"),
        ("slimming", r"penalty must be slimming:STRENGTH with STRENGTH in \[0, inf\), got slimming$"),
        (
            "group-lasso:x",
            r"must be group-lasso:STRENGTH with STRENGTH in \[0, inf\), got group-lasso:x",
        ),
        ("slimming:-1", r"must be slimming:STRENGTH with STRENGTH in \[0, inf\), got slimming:-1"),
        ("slimming:inf", "got slimming:inf"),
        ("none:1", "penalty must be none without a strength, got none:1"),
        (1e-3, r"penalty must be a Penalty, its text or None, got 0\.001"),
    ],
)
def test_bad_penalties(penalty: Any, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        TrainConfig(penalty=penalty, **SMALL)


def test_slimming_needs_scales() -> None:
    with pytest.raises(InvalidParameter, match="penalty must be none or group-lasso:STRENGTH without"):
        TrainConfig(penalty="slimming:1e-3", norm="none", **SMALL)
    with pytest.raises(InvalidParameter, match="STRENGTH in"):
        Slimming(-1)


def test_it_is_part_of_what_a_run_says_of_itself() -> None:
    (slim,) = train([TrainConfig(penalty="slimming:0.002", **SMALL)])
    (plain,) = train([TrainConfig(**SMALL)])
    assert slim.label == "adam, l2 0.001, slimming:0.002" and slim.label in repr(slim)
    assert plain.label == "adam, l2 0.001"
    assert slim.to_dict()["config"]["penalty"] == {"type": "slimming", "strength": 0.002}
    attributes = slim.to_xarray().attrs
    assert attributes["penalty"] == "slimming:0.002" and plain.to_xarray().attrs["penalty"] == "none"
    assert json.loads(attributes["config"])["penalty"]["type"] == "slimming"
    assert r"slimming:0.002" in slim.plot().axes[0].get_title(loc="left")


def test_a_penalty_on_gamma_cannot_be_forecast() -> None:
    slim, grouped = train([TrainConfig(penalty=p, **SMALL) for p in ("slimming:0.002", KINDS[1])])
    with pytest.raises(InvalidParameter, match="result must be of a run without a penalty on gamma"):
        regdyn.forecast(slim)
    assert len(regdyn.forecast(grouped, replicas=2).probability) == 11

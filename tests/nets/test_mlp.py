"""The network in NumPy and the fused step, against torch, finite differences and each other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from networks import SAMPLES, TorchNetwork, make_architecture, random_data, random_network
from numpy.typing import NDArray

from regdyn.errors import InvalidParameter
from regdyn.nets._run import Run
from regdyn.nets._team import Team
from regdyn.nets.mlp import ACTIVATIONS, INITS, NORMS, Architecture, Gradients, Network
from regdyn.nets.training import TrainConfig, _Casts
from regdyn.optimizers import SGD


def flat(gradients: Gradients, normalized: bool) -> NDArray:
    scales = gradients.gamma if normalized else ()
    parts = (*gradients.weights, *scales, *gradients.beta, gradients.bias)
    return np.concatenate([part.ravel() for part in parts])


VARIANTS = [
    dict(activation=activation, norm=norm, alpha=alpha, hidden=hidden)
    for activation in ACTIVATIONS
    for norm in NORMS
    for alpha, hidden in ((0.0, (9, 6, 5)), (0.3, (8,)))
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_equal_torch(variant: dict) -> None:
    network = random_network(make_architecture(slope=0.2, **variant))
    data = random_data()
    x, y = data.x_train[:SAMPLES], data.y_train[:SAMPLES]
    loss, gradients = network.gradients(x, y)
    other_loss, others = TorchNetwork(network).gradients(x, y)
    normalized = network.architecture.normalized
    assert abs(loss - other_loss) < 1e-12
    np.testing.assert_allclose(
        flat(gradients, normalized), flat(others, normalized), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_equal_finite_differences(variant: dict) -> None:
    network = random_network(make_architecture(**variant), seed=1)
    data = random_data(1)
    x, y = data.x_train[:SAMPLES], data.y_train[:SAMPLES]
    _, gradients = network.gradients(x, y)
    h = 1e-6
    for name in ("weights", "gamma", "beta"):
        if name == "gamma" and not network.architecture.normalized:
            continue
        for layer, array in enumerate(getattr(network, name)):
            index = tuple(s // 2 for s in array.shape)
            losses = []
            for sign in (1, -1):
                moved = array.copy()
                moved[index] += sign * h
                arrays = list(getattr(network, name))
                arrays[layer] = moved
                losses.append(dataclasses.replace(network, **{name: tuple(arrays)}).gradients(x, y)[0])
            slope = (losses[0] - losses[1]) / (2 * h)
            assert abs(slope - getattr(gradients, name)[layer][index]) < 1e-7


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_evaluation_equals_torch(variant: dict) -> None:
    network = random_network(make_architecture(**variant), seed=2)
    x = random_data(2).x_test
    expected = TorchNetwork(network)(torch.tensor(x), False).detach().numpy().T
    np.testing.assert_allclose(network.logits(x), expected, rtol=0, atol=1e-12)


def make_run(threads: int = 1, **settings: object) -> Run:
    """A run with gammas and betas at random, whose step subtracts the gradient from the parameters."""
    defaults: dict = dict(
        data=random_data(), hidden=(9, 6, 5), batch=SAMPLES, steps=1, dtype="float64",
        optimizer=SGD(lr=1), regularization="none",
    )  # fmt: skip
    config = TrainConfig(**defaults | settings)
    run = Run(config, _Casts()(config), Team(threads))
    generator = np.random.default_rng(5)
    if config.architecture.normalized:
        gammas = run._parameters.gammas
        gammas[:] = generator.normal(size=len(gammas))
    run._parameters.betas[:] = generator.normal(size=len(run._parameters.betas))
    return run


def take_step(run: Run) -> tuple[float, NDArray, NDArray]:
    """Its loss, inputs (batch, features) and labels."""
    x, y = run._next_batches(1)
    constants, decay, _ = run._constants(0)
    nothing = np.zeros(1, np.int64)
    (loss,) = run._advance(0, x, y, constants, decay, 0, nothing, nothing)
    return loss, x[:, : run.config.dataset.x_train.shape[1]], y


def parameters(network: Network) -> Gradients:
    return Gradients(network.weights, network.gamma, network.beta, network.bias)


@pytest.mark.parametrize("dtype, atol", [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_compiled_step_equals_numpy(variant: dict, dtype: str, atol: float) -> None:
    run = make_run(slope=0.2, dtype=dtype, **variant)
    before = run.network
    loss, x, y = take_step(run)
    expected_loss, expected = before.gradients(x, y)
    normalized = before.architecture.normalized
    np.testing.assert_allclose(loss, expected_loss, rtol=0, atol=atol)
    moved = flat(parameters(before), normalized) - flat(parameters(run.network), normalized)
    np.testing.assert_allclose(moved, flat(expected, normalized), rtol=0, atol=atol)


def test_running_statistics_equal_torch() -> None:
    run = make_run(optimizer=SGD(lr=1e-300))
    other = TorchNetwork(run.network)
    for _ in range(5):
        _, x, _ = take_step(run)
        other(torch.tensor(x), True)
    ours = (*run.network.running_mean, *run.network.running_var)
    for mine, theirs in zip(ours, (*other.mean, *other.var)):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", [2, 16, 45])
@pytest.mark.parametrize("threads", [2, 5])
def test_teams_compute_the_same_bits(threads: int, batch: int) -> None:
    """More members than some layers have rows of weights to share."""
    settings = dict(hidden=(90, 35, 5), batch=batch)
    runs = [make_run(members, **settings) for members in (1, threads)]
    for _ in range(3):
        for run in runs:
            take_step(run)
        alone, together = (flat(parameters(run.network), True) for run in runs)
        assert np.array_equal(alone, together)


@pytest.mark.parametrize("norm", NORMS)
def test_removal_equals_zeroing(norm: str) -> None:
    network = random_network(make_architecture(norm=norm, activation="elu", alpha=0.2), seed=3)
    marked = [np.arange(n) % 3 == 0 for n in network.architecture.hidden]
    marked[2][:] = True  # its strongest unit must stay
    slim, x = network.without(marked), random_data(3).x_test
    assert slim.architecture.hidden == (6, 4, 1)
    np.testing.assert_allclose(slim.logits(x), network.zeroed(marked).logits(x), rtol=0, atol=1e-12)
    assert np.abs(slim.logits(x) - network.logits(x)).max() > 1e-3
    counts = [
        sum(part.size for part in (*n.weights, *(n.gamma if norm == "batch" else ()), *n.beta, n.bias))
        for n in (slim, network)
    ]
    assert network.share_removed(marked) == pytest.approx(1 - counts[0] / counts[1])


@pytest.mark.parametrize("init", INITS)
def test_initial_weights_keep_the_variance(init: str) -> None:
    a = Architecture(n_inputs=400, n_classes=3, hidden=(400, 400))
    weights = a.initial_weights(init, np.random.default_rng(0))
    assert [w.shape for w in weights] == [(400, 400), (400, 400), (3, 400)]
    assert weights[0].var() == pytest.approx(2 / 400, rel=0.02)
    assert weights[2].var() == pytest.approx(2 / 403 if init == "xavier" else 1 / 400, rel=0.15)


@pytest.mark.parametrize(
    "changes, name",
    [
        (dict(hidden=()), "hidden"),
        (dict(hidden=(0,)), "hidden"),
        (dict(hidden=7), "hidden"),
        (dict(activation="rely"), "activation"),
        (dict(slope=1.5), "slope"),
        (dict(norm="layer"), "norm"),
        (dict(alpha=-1), "alpha"),
    ],
)
def test_bad_architectures(changes: dict, name: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        make_architecture(**changes)
    assert caught.value.name == name

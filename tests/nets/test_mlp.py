"""The network in NumPy and the fused step, against torch, finite differences and each other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from networks import SAMPLES, TorchNetwork, make_architecture, random_data, random_network
from numpy.typing import NDArray

from regdyn.errors import InvalidParameter
from regdyn.nets._pool import Pool
from regdyn.nets._run import Run
from regdyn.nets.mlp import ACTIVATIONS, INITS, NORMS, Architecture, Gradients
from regdyn.nets.training import TrainConfig, _Casts


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
    config = TrainConfig(
        **dict(data=random_data(), hidden=(9, 6, 5), batch=SAMPLES, steps=1, dtype="float64") | settings
    )
    run = Run(config, _Casts()(config), Pool(threads))
    generator = np.random.default_rng(5)
    for gamma, beta in zip(run._theta.gamma, run._theta.beta):
        if config.architecture.normalized:
            gamma[:] = generator.normal(size=len(gamma))
        beta[:] = generator.normal(size=len(beta))
    return run


@pytest.mark.parametrize("dtype, atol", [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_fused_step_equals_numpy(variant: dict, dtype: str, atol: float) -> None:
    run = make_run(slope=0.2, dtype=dtype, **variant)
    before = run.network
    x, y = run._next_batch()
    loss = run.compute_gradients(x, y)
    expected_loss, expected = before.gradients(x.T, y)
    normalized = before.architecture.normalized
    np.testing.assert_allclose(loss, expected_loss, rtol=0, atol=atol)
    np.testing.assert_allclose(
        flat(run.gradients, normalized), flat(expected, normalized), rtol=0, atol=atol
    )


def test_running_statistics_equal_torch() -> None:
    run = make_run()
    other = TorchNetwork(run.network)
    for _ in range(5):
        x, y = run._next_batch()
        run.compute_gradients(x, y)
        other(torch.tensor(x.T), True)
    for ours, theirs in zip((*run._mean, *run._var), (*other.mean, *other.var)):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 3])
def test_wide_layers_in_blocks(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_run()
    monkeypatch.setattr("regdyn.nets._run.BLOCK_BYTES", 100)
    blocks = make_run(threads)
    for run in (whole, blocks):
        run.compute_gradients(*run._next_batch())
    np.testing.assert_allclose(flat(blocks.gradients, True), flat(whole.gradients, True), atol=1e-13)


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

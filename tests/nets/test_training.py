"""Training runs: against the plain rules and torch.optim; what is recorded; threads and failures."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import CLASSES, TorchNetwork, random_data
from numpy.typing import NDArray
from reference import PLACEMENTS, RULES, TORCH, advance_torch_scheduler, torch_scheduler

import regdyn
from regdyn.errors import InvalidParameter
from regdyn.nets import _mlp_kernel
from regdyn.nets._run import Run
from regdyn.nets._team import Team
from regdyn.nets.config import Snapshot
from regdyn.nets.mlp import Network
from regdyn.nets.result import TrainResult
from regdyn.nets.run_result import save_runs
from regdyn.nets.training import TrainConfig, _Casts, train
from regdyn.optimizers import decay_placement, make_optimizer

SMALL: dict[str, Any] = dict(data=random_data(), hidden=(6, 5), batch=10, steps=12, dtype="float64")


def parameters(network: Network) -> dict[str, list[NDArray]]:
    """By the factor on their learning rate."""
    scales = list(network.gamma) if network.architecture.normalized else []
    return {"": [*network.weights, network.bias], "gamma": scales, "beta": list(network.beta)}


def start(config: TrainConfig) -> Run:
    """A run before its first step."""
    return Run(config, _Casts()(config), Team(1))


def next_batch(run: Run) -> tuple[NDArray, NDArray]:
    """What the next step is made with: (batch, features) and labels."""
    x, y = run._next_batches(1)
    return x[:, : run.config.dataset.x_train.shape[1]], y


def plain_run(config: TrainConfig) -> Network:
    """The same training, a number at a time: gradients in NumPy, steps by the undecorated rule."""
    run = start(config)
    network, rule = run.network, config.rule
    factors = {"": 1.0, "gamma": config.gamma_lr, "beta": config.beta_lr}
    states = {
        (group, k): np.array([rule.initial_state()] * array.size)
        for group, arrays in parameters(network).items()
        for k, array in enumerate(arrays)
    }
    for t in range(1, config.steps + 1):
        x, y = next_batch(run)
        _, g = network.gradients(x, y)
        by_group = {"": [*g.weights, g.bias], "gamma": list(g.gamma), "beta": list(g.beta)}
        scale = float(config.schedule(np.array([t]))[0])
        for group, arrays in parameters(network).items():
            lr = rule.lr * scale * factors[group]
            c = rule.constants(t, lr)
            l2, before, after = decay_placement(config.regularization, config.lam, lr, scale)
            for k, (array, gradient) in enumerate(zip(arrays, by_group[group])):
                theta, flat = array.reshape(-1), gradient.ravel()
                for i in range(len(theta)):
                    theta[i], state = rule.step(
                        before * theta[i], flat[i] + l2 * theta[i], tuple(states[group, k][i]), c
                    )
                    theta[i] *= after
                    states[group, k][i] = state
    return network


def assert_same(actual: Network, expected: Network, atol: float) -> None:
    for group, arrays in parameters(actual).items():
        for ours, theirs in zip(arrays, parameters(expected)[group]):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("regularization", PLACEMENTS)
@pytest.mark.parametrize("name", RULES)
def test_training_equals_the_plain_rules(name: str, regularization: str) -> None:
    config = TrainConfig(
        optimizer=name, regularization=regularization, lam=0.01, gamma_lr=0.1, beta_lr=2.0,
        schedule=regdyn.Step((5,)), **SMALL,
    )  # fmt: skip
    (result,) = train([config])
    assert_same(result.network, plain_run(config), 1e-9)


@pytest.mark.parametrize("name", RULES)
def test_training_equals_torch(name: str) -> None:
    config = TrainConfig(
        optimizer=name, lam=0.01, schedule=regdyn.Cosine(12), **SMALL | dict(norm="batch")
    )
    run = start(config)
    module = TorchNetwork(run.network)
    rule = config.rule
    optimizers = [TORCH[name].make(rule, p, config.lam) for p in module.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedulers = [torch_scheduler(config.schedule, o) for o in optimizers]
        for _ in range(config.steps):
            x, y = next_batch(run)
            module.gradients(x, y)
            for optimizer, scheduler in zip(optimizers, schedulers):
                optimizer.step()
                advance_torch_scheduler(config.schedule, scheduler)
    (result,) = train([config])
    for ours, theirs in zip(result.network.weights, module.weights):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-9)
    for ours, theirs in zip(result.network.gamma, module.gamma):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-9)
    x_test = config.dataset.x_test
    expected = module(torch.tensor(x_test), False).detach().numpy().T
    np.testing.assert_allclose(result.network.logits(x_test), expected, rtol=0, atol=1e-8)


def bits(result: TrainResult) -> bytes:
    network = result.network
    arrays = (*network.weights, *network.gamma, *network.beta, *network.running_var, network.bias)
    return b"".join(a.tobytes() for a in (*arrays, result.loss, *result.gamma, *result.first_below))


@pytest.mark.parametrize("share", [2**15, 100])
def test_same_bits_on_any_number_of_threads_and_in_any_batch(
    share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regdyn.nets._run.SHARE", share)
    settings = SMALL | dict(dtype="float32", hidden=(90, 61), steps=40)
    configs = [TrainConfig(optimizer=o, **settings) for o in ("adam", "sgd", "adam")]
    configs[2] = TrainConfig(optimizer="adam", lam=0.1, **settings)
    alone = [train([config], threads=1)[0] for config in configs]
    for threads in (1, 2, 7):
        assert [bits(r) for r in train(configs, threads=threads)] == [bits(r) for r in alone]
    assert bits(train(configs[:1], threads=4)[0]) == bits(alone[0])
    assert bits(alone[0]) != bits(train([TrainConfig(optimizer="adam", **settings | dict(seed=1))])[0])


def test_a_fresh_kernel_computes_the_bits_of_one_from_the_cache(tmp_path: Path) -> None:
    """Which a called function with sums of its own once did not: it was compiled in two ways."""
    code = (
        "import regdyn; (run,) = regdyn.train([regdyn.TrainConfig(optimizer='sgd', steps=40)]); "
        "print(run.loss[1:].tolist(), [w.tobytes().hex() for w in run.network.gamma])"
    )
    environment = os.environ | {"REGDYN_CACHE_DIR": str(tmp_path)}
    fresh, cached = (
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert len(fresh) > 1000 and fresh == cached


def test_every_epoch_is_a_permutation() -> None:
    config = TrainConfig(**SMALL | dict(batch=20))
    run = start(config)
    epochs = [np.concatenate([next_batch(run)[0] for _ in range(3)]) for _ in range(2)]
    x = config.dataset.x_train
    for epoch in epochs:
        assert np.array_equal(np.unique(epoch, axis=0), np.unique(x, axis=0))
    assert not np.array_equal(*epochs)


def test_what_does_not_fill_a_batch_is_left_out() -> None:
    config = TrainConfig(**SMALL | dict(batch=25))
    run = start(config)
    first = [next_batch(run)[0] for _ in range(2)]
    assert np.unique(np.concatenate(first), axis=0).shape == (50, 7)


def test_first_passages_and_windows() -> None:
    """Recorded at every step, the recorded gammas give what the run counted; windows are means."""
    settings = SMALL | dict(
        steps=300, optimizer=regdyn.Adam(lr=0.02), lam=0.1, gamma0=0.5, threshold=0.05
    )
    (fine,) = train([TrainConfig(times=np.arange(301), **settings)])
    (coarse,) = train([TrainConfig(times=[0, 100, 300], **settings)])
    assert any((first > 0).any() for first in fine.first_below)
    for layer, gamma in enumerate(fine.gamma):
        below = np.abs(gamma) < 0.05
        first = np.where(below.any(axis=0), below.argmax(axis=0), -1)
        assert np.array_equal(fine.first_below[layer], first)
        assert np.array_equal(fine.steps_below[layer], below.sum(axis=0))
        steps, windows = fine.gradients[layer], coarse.gradients[layer]
        late = steps.gamma_mean[101:]
        np.testing.assert_allclose(windows.gamma_mean[2], late.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(windows.gamma_std[2], late.std(axis=0), atol=1e-9)
        np.testing.assert_allclose(windows.beta_std[1], steps.beta_mean[1:101].std(axis=0), atol=1e-9)
        np.testing.assert_allclose(windows.active[1], steps.active[1:101].mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(coarse.loss[1], fine.loss[1:101].mean())
    assert np.isnan(fine.loss[0]) and np.isnan(coarse.gradients[0].gamma_mean[0]).all()


def test_window_of_one_step_is_that_gradient() -> None:
    config = TrainConfig(times=[1], **SMALL)
    run = start(config)
    network = run.network
    x, y = next_batch(run)
    _, gradients = network.gradients(x, y)
    (result,) = train([config])
    statistics = result.gradients[1]
    np.testing.assert_allclose(statistics.gamma_mean[0], gradients.gamma[1], atol=1e-12)
    np.testing.assert_allclose(statistics.beta_mean[0], gradients.beta[1], atol=1e-12)
    np.testing.assert_allclose(statistics.gamma_std[0], 0, atol=1e-7)
    # c of zhou2020: the gradient of one sample's own loss at the output, over active samples.
    rows = network.weights[1].shape[0]
    assert statistics.output_rms.shape == (1, rows)


def test_output_rms_is_that_of_single_samples() -> None:
    settings = SMALL | dict(hidden=(6,))
    config = TrainConfig(times=[1], **settings)
    run = start(config)
    module = TorchNetwork(run.network)
    x, y = next_batch(run)
    a = config.architecture
    z = torch.tensor(x) @ module.weights[0].T
    xhat = (z - z.mean(0)) / torch.sqrt(z.var(0, unbiased=False) + 1e-5)
    out = torch.relu(module.gamma[0] * xhat + module.beta[0]).detach().requires_grad_()
    logits = out @ module.weights[1].T + module.bias
    torch.nn.functional.cross_entropy(logits, torch.tensor(y), reduction="sum").backward()
    assert out.grad is not None and a.normalized
    active = (out > 0).double()
    rms = torch.sqrt((out.grad**2 * active).sum(0) / active.sum(0))
    (result,) = train([config])
    np.testing.assert_allclose(result.gradients[0].output_rms[0], rms.numpy(), atol=1e-10)
    np.testing.assert_allclose(result.gradients[0].active[0], active.mean(0).numpy(), atol=1e-12)


def test_digits_are_learned_and_adam_with_l2_kills() -> None:
    settings = dict(data="digits", hidden=(256, 64), steps=4000, seed=3)
    with_l2, without = train(
        [TrainConfig(lam=1e-3, **settings), TrainConfig(regularization="none", **settings)]
    )
    assert without.error < 0.05 and without.sparsity == 0
    assert with_l2.error < 0.05 and with_l2.sparsity > 0.05
    assert with_l2.error_after_removal == pytest.approx(with_l2.error, abs=0.01)
    assert 0 < with_l2.share_removed < 1
    assert with_l2.sparsity_over_time[-1] == with_l2.sparsity
    assert with_l2.total.by_scale is not None and with_l2.total.by_scale[1e-3] == with_l2.sparsity


def test_a_diverged_run_does_not_stop_the_others() -> None:
    wild = TrainConfig(
        optimizer=regdyn.SGD(lr=1e30), norm="none", lam=0, **SMALL | dict(steps=50, times=[0, 50])
    )
    tame = TrainConfig(**SMALL)
    failed, fine = train([wild, tame])
    assert "no longer finite at step" in failed.failed and not fine.failed
    assert len(failed.times) == len(failed.loss) == 1
    assert failed.to_dict()["final"] is None and failed.to_dict()["failed"]
    assert bits(fine) == bits(train([tame])[0])
    assert "failed" in repr(failed)


def test_progress_and_interruption() -> None:
    seen: list[Snapshot] = []
    config = TrainConfig(times=[0, 4, 12], **SMALL)
    train([config, config], progress=seen.append, threads=1)
    assert [(s.run, s.step) for s in seen] == [(0, 4), (0, 12), (1, 4), (1, 12)]

    def interrupt(snapshot: Snapshot) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([config, config], progress=interrupt)


def test_saved_runs(tmp_path: Any) -> None:
    import xarray

    results = train([TrainConfig(**SMALL), TrainConfig(**SMALL | dict(norm="none"))])
    results[0].save(tmp_path / "one.nc")
    save_runs(results, tmp_path / "two.nc")
    save_runs(results, tmp_path / "two.json")
    with xarray.open_dataset(tmp_path / "one.nc") as one:
        np.testing.assert_array_equal(one.gamma_2, results[0].gamma[1])
        np.testing.assert_array_equal(one.weights_3, results[0].network.weights[2])
        assert one.weights_3.dims == ("class", "unit_2")
    with xarray.open_datatree(tmp_path / "two.nc") as tree:
        np.testing.assert_array_equal(tree["run_1"].beta_1, results[1].beta[0])
    with pytest.raises(InvalidParameter, match="new file"):
        save_runs(results, tmp_path / "two.json")
    with pytest.raises(InvalidParameter, match=r"\.nc or \.json"):
        save_runs(results, tmp_path / "two.csv")


@pytest.mark.parametrize(
    "changes, name",
    [
        (dict(batch=1), "batch"),
        (dict(batch=61), "batch"),
        (dict(batch=1.5), "batch"),
        (dict(steps=0), "steps"),
        (dict(hidden=(3, -1)), "hidden"),
        (dict(gamma0=np.nan), "gamma0"),
        (dict(gamma0=0.5, norm="none"), "gamma0"),
        (dict(gamma_lr=0.1, norm="none"), "gamma_lr"),
        (dict(beta_lr=-1), "beta_lr"),
        (dict(init="zeros"), "init"),
        (dict(times=[3, 2]), "times"),
        (dict(times=[13]), "times"),
        (dict(times=[[1], [2, 3]]), "times"),
        (dict(times=["a"]), "times"),
        (dict(data=3), "data"),
        (dict(data="nothing"), "data"),
        (dict(lam=-1), "lam"),
    ],
)
def test_bad_configurations(changes: dict, name: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        TrainConfig(**SMALL | changes)
    assert caught.value.name == name


def test_a_batch_of_one_without_normalisation() -> None:
    (result,) = train([TrainConfig(**SMALL | dict(batch=1, norm="none"))])
    assert not result.failed and result.network.architecture.n_classes == CLASSES


def test_every_optimizer_has_a_name_to_train_by() -> None:
    for name in RULES:
        assert TrainConfig(optimizer=name, **SMALL).rule == make_optimizer(name)


@pytest.mark.parametrize("configs", [TrainConfig(**SMALL), "adam", [3], 3])
def test_only_configurations_are_trained(configs: Any) -> None:
    with pytest.raises(InvalidParameter, match="a sequence of TrainConfig"):
        train(configs)


def test_measures_of_a_failed_run_say_why() -> None:
    (failed,) = train([TrainConfig(optimizer=regdyn.SGD(lr=1e30), norm="none", **SMALL)])
    with pytest.raises(InvalidParameter, match=r"did not fail.*no longer finite"):
        failed.layers  # noqa: B018


def test_a_rule_is_compiled_once_for_each_type() -> None:
    settings = SMALL | dict(optimizer="rmsprop")
    for steps, times in ((5, [5]), (5, [1, 3, 5]), (40, [40])):
        train([TrainConfig(**settings | dict(steps=steps, times=times))])
    kinds = [(types[0], types[2].types[0].dtype) for types in _mlp_kernel.advance.signatures]
    assert len(kinds) == len(set(kinds))

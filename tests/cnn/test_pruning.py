"""Pruning in the torch backend: the same as in the NumPy network, in residual streams, and resumed."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graphs import compute_in_place_of_replaying
from numpy.typing import NDArray

import regdyn
from regdyn.cnn import metrics
from regdyn.cnn._prunable import PrunableModel, prunable
from regdyn.cnn._run import Run, make_store
from regdyn.cnn._turns import torch_settings
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.images import Images, prepare_images
from regdyn.cnn.models import MODELS
from regdyn.cnn.models.base import Network, Setting
from regdyn.cnn.models.resnet import ResNet
from regdyn.cnn.result import CnnResult
from regdyn.cnn.training import train
from regdyn.errors import InvalidParameter
from regdyn.nets import _run as numpy_run
from regdyn.nets._team import Team
from regdyn.nets.config import Snapshot
from regdyn.nets.data import prepare
from regdyn.nets.training import TrainConfig, _Casts


def images(size: int = 8, channels: int = 2) -> Images:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 60, size, size, channels)).astype(np.float32)
    y = np.arange(60) % 4
    x[..., 0, 0, 0] += y
    return prepare_images("random", x[0], y, x[1], y)


IMAGES = images()


def config(**changes: Any) -> CnnConfig:
    given = dict(
        data=IMAGES, model="mlp:width=12,depth=2", lam=1e-2, batch=10, steps=20, times=[0, 8, 20],
        seed=3, device="cpu",
    )  # fmt: skip
    return CnnConfig(**given | changes)


def run(**changes: Any) -> CnnResult:
    (result,) = train([config(**changes)], threads=1)
    assert not result.failed
    return result


def same(a: CnnResult, b: CnnResult) -> bool:
    """Bit for bit, parameters, records and events."""
    ours, theirs = a.model.state_dict(), b.model.state_dict()
    return (
        all(torch.equal(ours[name], theirs[name]) for name in theirs)
        and a.to_xarray().equals(b.to_xarray())
        and a.prunings == b.prunings
    )


# --- Both backends --------------------------------------------------------------------------------


PIXELS = np.random.default_rng(1).normal(size=(2, 60, 5, 1, 1))
LABELS = np.arange(60) % 3


def in_numpy(settings: dict[str, Any]) -> Any:
    """The NumPy network with the weights and the batches of the run in torch."""
    of_torch = Run(torch_config(settings), make_store(torch_config(settings)))
    flat = PIXELS.reshape(2, 60, 5)
    (x_train,), (x_test,) = (
        [x.numpy().reshape(60, 5) for x, _ in each]
        for each in (of_torch.store.train(60), of_torch.store.test(60))
    )
    # Images are standardised by channel, not by pixel.
    data = replace(prepare("pixels", flat[0], LABELS, flat[1], LABELS), x_train=x_train, x_test=x_test)
    made = TrainConfig(data=data, hidden=(12, 12), **settings)
    going = numpy_run.Run(made, _Casts()(made), Team(1))
    for view, layer in zip(going._parameters.weights, of_torch.model.layers):
        view[:] = metrics.to_numpy(of_torch.model.weights_of(layer).weight)

    def next_batches(most: int) -> tuple[NDArray, NDArray]:
        next_batches.t += 1  # type: ignore[attr-defined]
        index = of_torch.order.at(next_batches.t).index.numpy()  # type: ignore[attr-defined]
        return going._samples[index], going._y[index].copy()

    next_batches.t = 0  # type: ignore[attr-defined]
    going._next_batches = next_batches  # type: ignore[method-assign]
    return going.train(0, lambda snapshot: None, np.zeros(1, np.int64))


def torch_config(settings: dict[str, Any]) -> CnnConfig:
    data = prepare_images("pixels", PIXELS[0], LABELS, PIXELS[1], LABELS)
    return CnnConfig(data=data, model="mlp:width=12,depth=2", device="cpu", **settings)


@pytest.mark.parametrize(
    "prune, changes",
    [
        ("smallest", {}),
        ("largest:importance=l2,rate=0.25", dict(optimizer="adam")),
        ("random:scope=global", {}),
        ("decile4:what=weights", dict(norm="none")),
        ("largest:flops=0.3,scope=global,importance=l1", dict(norm="none")),
        ("largest:noise=zeroing,hold=3,fraction=0.3", {}),
        ("random:noise=gaussian,hold=2,fraction=0.3", {}),
        ("random:what=weights,noise=gaussian,fraction=0.1", {}),
    ],
)
def test_both_backends_prune_alike(prune: str, changes: dict[str, Any]) -> None:
    settings: dict[str, Any] = dict(
        optimizer="sgd", lam=1e-2, batch=10, steps=24, dtype="float64", seed=5, norm="batch"
    )
    settings |= changes | dict(prune=prune)
    (ours,) = train([torch_config(settings)], threads=1)
    theirs = in_numpy(settings)
    assert len(ours.prunings) == len(theirs.prunings) > 1
    for a, b in zip(ours.prunings, theirs.prunings):
        assert (a.step, a.chosen, a.removed, a.share) == (b.step, b.chosen, b.removed, b.share)
        assert a.importance == pytest.approx(b.importance, rel=1e-9)
        assert a.accuracy_before == pytest.approx(b.accuracy_before)
        assert a.accuracy_after == pytest.approx(b.accuracy_after)
    assert ours.pruned.keys() == theirs.pruned.keys()
    for name, mask in ours.pruned.items():
        assert np.array_equal(mask, theirs.pruned[name])
    for layer, weights in zip(ours.model.layers, theirs.network.weights):
        w = metrics.to_numpy(ours.model.weights_of(layer).weight)
        np.testing.assert_allclose(w, weights, rtol=0, atol=1e-8)
        assert np.array_equal(w == 0, weights == 0)


# --- Models ---------------------------------------------------------------------------------------


def live_channels(model: Network, path: str) -> NDArray[np.bool_]:
    """Of a module's output on random images, in evaluation mode."""
    seen: list[torch.Tensor] = []
    module = model.get_submodule(path)
    hook = module.register_forward_hook(lambda m, i, y: seen.append(y.detach()))
    with torch.no_grad(), metrics.evaluating(model):
        model(torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(0)))
    hook.remove()
    return seen[0].transpose(0, 1).flatten(1).any(1).numpy()


def test_removed_filters_are_silent_and_stay_so() -> None:
    result = run(model="basicnet:width=0.25", prune="largest", times=[0, 20], optimizer="adam")
    assert list(result.pruned) == [f"C{i}" for i in range(1, 8)]
    for i, (name, mask) in enumerate(result.pruned.items()):
        layer = result.model.layers[i]
        assert mask.sum() == len(mask) / 2
        assert np.array_equal(live_channels(result.model, f"{layer.norm}"), ~mask), name
        above = (
            result.model.weights_of(result.model.layers[i + 1])
            .weight.detach()
            .flatten(2 if i < 6 else 1)
        )
        assert not above[:, mask].any() and above[:, ~mask].any()
    assert [layer.by_scale[1e-4] for layer in result.layers if layer.by_scale] == [0.5] * 7  # type: ignore[index]
    assert result.error_after_removal == result.error and result.sparsity == 0.5


def test_flattened_maps_lose_the_positions_of_a_filter() -> None:
    """conv2_2 of conv4 feeds a linear layer, 2x2 positions of each filter of 12x12 images."""
    result = run(
        data=images(12), model="conv4", prune="smallest:layers=conv2_2+fc1,fraction=0.25/0.5",
        optimizer="adam", times=[20], batch=20,
    )  # fmt: skip
    filters, units = result.pruned["conv2_2"], result.pruned["fc1"]
    assert filters.sum() == 16 and units.sum() == 256
    fc1, output = (result.model.weights_of(layer) for layer in result.model.layers[-2:])
    positions = fc1.weight.shape[1] // 64
    weights = fc1.weight.detach().numpy().reshape(512, 64, positions)
    assert np.array_equal(weights.any(axis=(0, 2)), ~filters)
    assert np.array_equal(weights.any(axis=(1, 2)), ~units)
    assert np.array_equal(output.weight.detach().any(0).numpy(), ~units)
    assert not fc1.bias.detach().numpy()[units].any() and fc1.bias.detach().any()
    # Units of a layer that does not count elsewhere leave with those that do.
    stay = {"conv2_2": 48, "fc1": 256}
    numbers = [(2, 32, 9), (32, 32, 9), (32, 64, 9), (64, stay["conv2_2"], 9)]
    kept = sum(a * b * k + b for a, b, k in numbers)
    kept += stay["conv2_2"] * positions * stay["fc1"] + stay["fc1"] + stay["fc1"] * 4 + 4
    parameters = sum(p.numel() for p in result.model.parameters())
    assert result.share_removed == pytest.approx(1 - kept / parameters)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> str:
    """A ResNet like ResNet-18, of two blocks."""
    build = partial(narrow_resnet, (4, 6), 1)
    monkeypatch.setitem(MODELS, "narrow", (build, "for tests"))  # type: ignore[arg-type]
    return "narrow"


def narrow_resnet(filters: tuple[int, ...], blocks: int, setting: Setting) -> ResNet:
    return ResNet(setting, filters, blocks, projected=True)


def test_a_shortcut_goes_with_the_units_that_it_is_summed_with(narrow: str) -> None:
    result = run(model=narrow, prune="largest:layers=last2,start=2,end=2", optimizer="sgd", gamma0=0.8)
    assert list(result.pruned) == ["block2_1.conv1", "block2_1.conv2"]
    assert result.prunings[0].removed == (3, 3)
    gone = result.pruned["block2_1.conv2"]
    for path in ("block2_1.conv2", "block2_1.shortcut"):
        assert np.array_equal(live_channels(result.model, path), ~gone), path
    assert not (live_channels(result.model, "block2_1") & gone).any()
    shortcut, output = (result.model.weights_of(layer).weight for layer in result.model.layers[-2:])
    assert np.array_equal(shortcut.detach().flatten(1).any(1).numpy(), ~gone)
    assert output.detach().any(0).all(), "what reads the stream keeps all of its inputs"
    assert np.array_equal(result.inactive[-1], gone) and np.array_equal(result.inactive[-2], gone)


def test_the_last_four_are_those_of_the_paper() -> None:
    made = config(model="resnet18", prune="smallest:layers=last4").make_pruner()
    assert made is not None
    assert made.names == ("block4_1.conv1", "block4_1.conv2", "block4_2.conv1", "block4_2.conv2")


@pytest.mark.parametrize("model, number", [("resnet20", 19), ("resnet18", 17), ("basicnet", 8)])
def test_what_can_be_pruned(model: str, number: int) -> None:
    settings = config(model=model, prune="smallest")
    assert len(prunable(settings.blueprint)) == number == len(settings.hidden_layers)
    assert not any("shortcut" in layer.name for layer in settings.hidden_layers)


@pytest.mark.parametrize("model", ["narrow", "basicnet:width=0.25", "conv4"])
def test_multiplications_by_counting_them(model: str, narrow: str) -> None:
    data = images(12)
    settings = config(data=data, model=model)
    generator = np.random.default_rng(2)
    removed = [int(generator.integers(0, layer.units)) for layer in settings.hidden_layers]
    network = settings.make_model()
    site = PrunableModel(network, lambda: 0.0)
    for i, (layer, number) in enumerate(zip(settings.hidden_layers, removed)):
        units = np.arange(layer.units) < number
        site.hold(i, np.broadcast_to(units[:, None], (layer.units, layer.inputs)), units)
    total = 0
    for layer, shape in zip(network.layers, settings.shapes):
        # A weight that is not 0 is multiplied at each position of its unit.
        total += int(network.weights_of(layer).weight.count_nonzero()) * shape.positions
    assert settings.multiplications(removed) == total


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_budget_of_multiplications(scope: str) -> None:
    result = run(model="basicnet:width=0.25", prune=f"smallest:flops=0.4,scope={scope}", times=[20])
    assert 0.4 <= result.last.removed.flops < 0.42
    shares = [mask.mean() for mask in result.pruned.values()]
    assert np.ptp(shares) < 1 / 32 if scope == "layer" else np.ptp(shares) > 0.1


def test_weights_of_filters() -> None:
    result = run(model="basicnet:width=0.25", prune="largest:what=weights,fraction=0.2,layers=C2+C7")
    for name, mask in result.pruned.items():
        weight = result.model.get_submodule(f"{name}.conv.weight".rpartition(".")[0]).weight  # type: ignore[union-attr]
        assert mask.shape == (len(weight), weight[0].numel())  # type: ignore[arg-type,index]
        assert mask.sum() == round(0.2 * mask.size)
        assert np.array_equal(weight.detach().numpy().reshape(mask.shape) == 0, mask)  # type: ignore[union-attr,operator]
    assert result.sparsity == 0


# --- Checkpoints ----------------------------------------------------------------------------------


class Stop(Exception):
    """In place of a kill."""


@pytest.mark.parametrize(
    "changes",
    [
        dict(model="basicnet:width=0.25", prune="random"),
        dict(prune="largest:what=weights,start=0,end=11,retrain=1"),
        dict(prune="smallest:noise=zeroing,hold=5", optimizer="sgd"),
        dict(prune="random:noise=gaussian,hold=4,start=2,end=18,retrain=4"),
        dict(model="basicnet:width=0.25", prune="largest:flops=0.5,scope=global"),
    ],
)
def test_resumes_to_the_same_bits(changes: dict[str, Any], tmp_path: Path) -> None:
    settings = config(times=[0, 8, 11, 20], **changes)
    (whole,) = train([settings], threads=1)
    assert {event.step <= 11 for event in whole.prunings} == {True, False} or "end=11" in str(changes)

    def stop(at: Snapshot) -> None:
        if at.step == 11:
            raise Stop

    with pytest.raises(Stop):
        train([settings], threads=1, checkpoint=tmp_path, progress=stop)
    kept = json.loads((tmp_path / "checkpoint.json").read_text())["prunings"]
    assert [event["step"] for event in kept] == [e.step for e in whole.prunings if e.step <= 11]
    (resumed,) = train([settings], threads=1, checkpoint=tmp_path, resume=True)
    assert same(resumed, whole)
    with pytest.raises(InvalidParameter, match="of this configuration"):
        train([config(times=[0, 8, 11, 20])], threads=1, checkpoint=tmp_path, resume=True)


def test_a_checkpoint_without_pruning_is_that_of_before(tmp_path: Path) -> None:
    """One that was written when there was no pruning goes on."""
    train([config()], threads=1, checkpoint=tmp_path)
    index = tmp_path / "checkpoint.json"
    kept = json.loads(index.read_text())
    assert kept.pop("prunings") == [] and kept["config"].pop("prune") is None
    index.write_text(json.dumps(kept))
    assert same(train([config()], threads=1, checkpoint=tmp_path, resume=True)[0], run())


def test_a_result_goes_between_processes() -> None:
    result = run(prune="random")
    sent = pickle.loads(pickle.dumps(result.with_config(None)))
    assert same(sent.with_config(result.config), result)


# --- CUDA graphs, and what goes wrong ---------------------------------------------------------------


def test_parameters_stay_where_a_graph_finds_them() -> None:
    """A CUDA graph reads addresses: whatever is pruned or disturbed is changed in place."""
    for prune in ("largest", "random:noise=gaussian,hold=2", "smallest:what=weights"):
        settings = config(prune=prune)
        going = Run(settings, make_store(settings))
        before = [(p, p.data_ptr()) for p in going.model.parameters()]
        with torch_settings(1):
            while not going.done:
                going.step()
        after = list(going.model.parameters())
        assert all(p is q and p.data_ptr() == at for (p, at), q in zip(before, after))


def test_an_event_between_replays_of_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a CUDA graph, which computes anew what was recorded."""
    settings = config(model="basicnet:width=0.25", prune="largest:start=0,end=15", times=[20])
    going = Run(settings, make_store(settings))
    compute_in_place_of_replaying(monkeypatch, going)
    with torch_settings(1):
        going.prune()
        going.model.train()
        going._compute = going._captured(going.order.at(1))
        while not going.done:
            going.step()
        going.record()
    assert same(going.result(), train([settings], threads=1)[0])


def test_a_network_that_is_not_finite_ends_at_its_event() -> None:
    settings = config(optimizer=regdyn.SGD(lr=1e39), norm="none", prune="smallest:start=1,end=1")
    (result,) = train([settings], threads=1)
    assert result.failed == "layer 1 is not finite after step 1" and not result.prunings


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(prune="smallest:layers=C1"), "among layer1, layer2, or last1 … last2"),
        (
            dict(prune="smallest:layers=block1_1.shortcut", model="resnet18"),
            "among stem, block1_1.conv1",
        ),
        (dict(prune="smallest", activation="sigmoid"), r"noise or what=weights: .*silent \(sigmoid\)"),
        (dict(prune="smallest", alpha=0.1), r"silent \(psBN alpha 0.1\)"),
        (dict(prune="smallest:flops=0.999"), "flops is at most"),
    ],
)
def test_what_cannot_be_pruned(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message) as caught:
        config(**changes)
    assert caught.value.name == "prune"

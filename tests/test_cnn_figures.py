"""The scripts of the figures of trained networks run, in small, and save the numbers that they draw."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray

from regdyn.cnn.config import CnnConfig
from regdyn.cnn.data import make_images
from regdyn.cnn.images import Images, prepare_images
from regdyn.cnn.result import CnnResult
from regdyn.cnn.training import train
from regdyn.dynamics.schedules import CosineRestarts, Step
from regdyn.optimizers import SGD, Adam

FIGURES = Path(__file__).parent.parent / "figures"
STEPS = 20
FULL = {
    "mehta_fig2": "cifar100", "mehta_fig3": "cifar100", "mehta_supp_fig2": "cifar10",
    "mehta_fig5": "cifar100", "zhou_fig1": "cifar10", "zhou_fig2": "cifar10", "zhou_fig3": "cifar10",
    "zhou_fig5": "cifar100", "yaguchi_fig5": "cifar10", "yaguchi_fig6": "cifar10",
}  # fmt: skip
"""A preset of each script that needs data from a folder."""

Drawn = tuple[dict[str, Any], xarray.Dataset]
Draw = Callable[..., Drawn]


def few(data: str, folder: Path | None = None, random_labels: bool = False) -> Images:
    """The first training images of each class, about 100, and the first 30 test images of a set."""
    whole = make_images(data, folder)
    each = 90 // whole.n_classes + 1
    first = [np.flatnonzero(whole.y_train == label)[:each] for label in range(whole.n_classes)]
    kept = np.sort(np.concatenate(first))
    images = prepare_images(
        whole.name, whole.x_train[kept], whole.y_train[kept], whole.x_test[:30], whole.y_test[:30]
    )
    return images.with_random_labels(0) if random_labels else images


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts can be imported, and train on few images and one thread, with few recorded times."""
    monkeypatch.syspath_prepend(FIGURES)
    monkeypatch.setattr("regdyn.cnn.training.thread_count", lambda threads: 1)
    monkeypatch.setattr(importlib.import_module("_cnn"), "load", few)
    monkeypatch.setattr(CnnConfig, "n_times", 4)


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Draw:
    """Run a script with one seed, its names replaced as told; its note and its data."""

    def run(name: str, *options: str, **replaced: Any) -> Drawn:
        given = ("--preset", "smoke", "--steps", str(STEPS), "--seeds", "1", "--out", str(tmp_path))
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *given, *options])
        script = importlib.import_module(name)
        for each, value in replaced.items():
            monkeypatch.setattr(script, each, value)
        script.main()
        paths = [tmp_path / f"{name}-smoke.{suffix}" for suffix in ("png", "pdf", "nc", "json")]
        assert capsys.readouterr().out.split() == [str(path) for path in paths]
        assert paths[0].read_bytes()[:4] == b"\x89PNG" and paths[1].read_bytes()[:4] == b"%PDF"
        note = json.loads(paths[3].read_text())
        assert note["script"] == f"figures/{name}.py" and note["seeds"] == 1
        assert {"regdyn_version", "matplotlib_version", "machine", "seconds"} <= set(note)
        assert all(run["failed"] is None for run in note["runs"])
        with xarray.open_dataset(paths[2], engine="h5netcdf") as data:
            assert data.attrs["scale"] == note["scale"]
            return note, data.load()

    return run


def trained(**settings: Any) -> CnnResult:
    """A direct run on the same few images."""
    data = settings.pop("data", None) or few("digits")
    return train([CnnConfig(**{"data": data, "device": "cpu", "regularization": "l2", **settings})])[0]


def mehta(**settings: Any) -> CnnResult:
    small = {"model": "basicnet:width=0.25", "steps": STEPS, "schedule": Step((15,)), "batch": 40}
    return trained(**small | settings)


def zhou(rounds: int, **settings: Any) -> CnnResult:
    small = {"optimizer": SGD(lr=0.1), "batch": 40, "schedule": CosineRestarts(STEPS // rounds)}
    return trained(**small | {"steps": STEPS - STEPS % rounds} | settings)


def weights(run: CnnResult, layer: str) -> np.ndarray:
    """Of a layer at the end, a row for each unit."""
    values = run.model.get_submodule(layer).weight.detach().numpy().astype(float)  # type: ignore[operator]
    return values.reshape(len(values), -1)


def test_scales_and_shifts(draw: Draw) -> None:
    note, data = draw("mehta_fig2")
    assert (
        "digits; basicnet:width=0.25; 20 of the paper's 406,250 steps; batch 40; 1 seed"
        == note["scale"]
    )
    assert list(data["setting"].values) == ["adam 0.001", "adam 0.01", "sgd 0.005"]
    direct = mehta(optimizer="sgd", lam=5e-3)
    for name in ("gamma", "beta"):
        ours = data[name].sel(setting="sgd 0.005").isel(seed=0)
        assert np.array_equal(ours, getattr(direct, name)[5])
    assert not np.array_equal(*data["gamma"].values[:2])


def test_universality(draw: Draw) -> None:
    _, data = draw("mehta_fig3")
    direct = mehta(optimizer="adam", lam=1e-2)
    for i in range(7):
        ours = data[f"universality_C{i + 1}"].sel(kind="Adam").isel(row=1, seed=0)
        assert np.array_equal(ours, direct.universality[i])
    assert not data["dead_C7"].any()
    assert data.sizes["filter_C7"] == 128 and list(data["kind"].values) == ["Adam", "SGD"]
    _, same = draw("mehta_supp_fig2")
    assert same.drop_attrs().identical(data.drop_attrs())
    assert "supplement" in same.attrs["title"] and "supplement" not in data.attrs["title"]


def test_tasks(draw: Draw) -> None:
    note, data = draw("mehta_fig5")
    assert data.sizes["row"] == 3 and list(data["kind"].values) == ["batch 10", "batch 40"]
    configs = [run["config"] for run in note["runs"]]
    assert [config["batch"] for config in configs] == [10, 40] * 3
    assert [config["flip"] for config in configs] == [False] * 6
    direct = mehta(optimizer="adam", lam=1e-2, data=few("clean"))
    ours = data["universality_C5"].sel(kind="batch 40").isel(row=1, seed=0)
    assert np.array_equal(ours, direct.universality[4])


def test_norms_and_traces(draw: Draw) -> None:
    note, data = draw("zhou_fig1")
    assert "conv4, resnet20" in note["scale"]
    layer, name = data.attrs["layer"], data.attrs["traced_layer"]
    shapes = few("synthetic")
    plain = zhou(2, model="conv4", norm="none", lam=1e-2, data=shapes)
    ours = data["l1"].sel(kind="without BN").isel(seed=0)
    assert np.allclose(ours, np.abs(weights(plain, f"{layer}.conv")).sum(axis=1))
    assert not np.allclose(ours, data["l1"].sel(kind="with BN").isel(seed=0))
    assert not data["dead"].any()
    traced = zhou(2, model="resnet20", lam=1e-2, data=shapes, times=[10, 15, 20])
    at = traced.layer_names.index(name)
    assert data["step"][0] == 10 and data["step"][-1] == 20
    for quantity in ("gamma", "beta"):
        ours = data[quantity].isel(seed=0).sel(step=[10, 15, 20])
        assert np.array_equal(ours, getattr(traced, quantity)[at])


def test_random_labels(draw: Draw) -> None:
    note, data = draw("zhou_fig2")
    assert "random labels" in note["scale"]
    images = few("digits", random_labels=True)
    direct = zhou(5, lam=4e-3, model="resnet20", data=images, times=list(range(1, 21)))
    assert np.array_equal(data["loss"].isel(seed=0), direct.loss)
    true = zhou(5, lam=4e-3, model="resnet20", times=list(range(1, 21)))
    assert not np.array_equal(data["loss"].isel(seed=0), true.loss)


def test_rounds(draw: Draw) -> None:
    note, data = draw("zhou_fig3")
    assert dict(data.sizes) == {"model": 3, "norm": 3, "seed": 1, "round": 9}
    settings = [(run["config"]["alpha"], run["config"]["activation"]) for run in note["runs"]]
    assert settings == [(0.0, "relu"), (0.0, "leaky_relu"), (0.1, "relu")] * 3
    error = np.array([run["test_error"] for run in note["runs"]])
    assert np.allclose(data["accuracy"].values.reshape(9, 9), 100 * (1 - error))
    assert note["runs"][0]["times"] == [2 * i for i in range(1, 10)]


def test_starts(draw: Draw) -> None:
    _, data = draw("zhou_fig5", RATES=(0.1, 0.4), GAMMAS=(1.0, 5e-4), MODELS={"vgg16": "VGG-16"})
    assert np.array_equal(
        data["accuracy_over_lr"].sel(lr=0.1), data["accuracy_over_gamma"].sel(gamma=1)
    )
    # Of gammas that start below the threshold some stay there.
    assert data["sparsity_over_gamma"].sel(gamma=1).item() == 0
    direct = zhou(1, lam=2e-2, model="basicnet:width=0.25", gamma0=5e-4, times=[20])
    assert direct.sparsity > 0
    ours = data["sparsity_over_gamma"].sel(gamma=5e-4).item()
    assert ours == pytest.approx(100 * direct.last.removed.flops)


def test_slopes(draw: Draw) -> None:
    _, data = draw("yaguchi_fig5", SLOPES=(0.0, 0.3))
    small = {"model": "mlp:width=1000", "batch": 64, "lam": 5e-4, "steps": STEPS}
    adam = Adam(lr=1e-3, beta1=0.9, beta2=0.999)
    halved = Step((5, 10, 15), 0.5)
    for slope, activation in ((0.0, "relu"), (0.3, "leaky_relu")):
        direct = trained(
            **small, optimizer=adam, schedule=halved, activation=activation, slope=slope or 0.01
        )
        ours = data["norm"].sel(slope=slope).isel(seed=0)
        assert np.allclose(ours, np.linalg.norm(weights(direct, "layer1.linear"), axis=1), rtol=1e-6)


def test_first_layer(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    _, data = draw("yaguchi_fig6")
    assert not data["chosen"].any()
    # No unit dies within 20 steps: another threshold chooses some.
    limit = float(data["norm"].sel(optimizer="Adam").isel(step=-1).median())
    _, data = draw("yaguchi_fig6", NORM_THRESHOLD=limit)
    assert data["chosen"].sum() == 500
    direct = trained(
        model="mlp:width=1000", batch=64, lam=5e-4, steps=STEPS, optimizer=SGD(lr=0.1),
        schedule=Step((5, 10, 15), 0.5),
    )  # fmt: skip
    images = few("digits")
    x = torch.tensor((images.x_train - images.mean) / images.std).permute(0, 3, 1, 2)
    outputs: list[torch.Tensor] = []
    module = direct.model.get_submodule("layer1")
    module.register_forward_hook(lambda module, inputs, y: outputs.append(y))
    direct.model.eval()(x.float())
    rate = (outputs[0] > 0).double().mean(0).numpy()
    ours = data["rate"].sel(optimizer="momentum SGD").isel(seed=0, step=-1)
    assert np.allclose(ours, rate, atol=0.011)  # a sample near 0 may fall on the other side


def test_failed_runs_are_left_out() -> None:
    helper = importlib.import_module("_trained")
    good = [SimpleNamespace(failed="", values=[i, 10.0 * i]) for i in (1, 3)]
    bad = SimpleNamespace(failed="the loss is nan")
    found = {("mixed",): [good[0], bad, good[1]], ("none",): [bad, bad, bad]}
    values = helper.per_run(found, lambda run: run.values)
    assert values.shape == (2, 3, 2) and np.isnan(values[0, 1]).all() and np.isnan(values[1]).all()
    assert [list(each) for each in helper.spread(values[0])] == [[2, 20], [1, 10], [3, 30]]
    assert np.isnan(helper.spread(values[1])).all() and len(helper.sound(values[1])) == 0
    mean, least, greatest = helper.spread(np.full((3, 1), 0.1))  # whose mean is rounded up
    assert least <= mean <= greatest


def test_a_network_that_never_trains_is_reported(
    draw: Draw, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module("yaguchi_fig5")
    diverging = {**script.MNIST, "optimizer": SGD(lr=1e30)}
    with pytest.raises(SystemExit) as stopped:
        draw("yaguchi_fig5", MNIST=diverging, SLOPES=(0.0,))
    assert "every run failed" in str(stopped.value)


@pytest.mark.parametrize("name, preset", FULL.items())
def test_missing_data(
    name: str, preset: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options = ["--preset", preset, "--out", str(tmp_path), "--data-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *options])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(name).main()
    printed = capsys.readouterr()
    assert stopped.value.code == 3 and not printed.out
    assert len(printed.err.splitlines()) == 1 and str(tmp_path) in printed.err

"""Runs of the torch backend: against a loop by hand, resumed, side by side, and what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray
from graphs import compute_in_place_of_replaying

import regdyn
from regdyn.cnn import checkpoints, metrics
from regdyn.cnn._batches import Order
from regdyn.cnn._run import Run, make_store
from regdyn.cnn._turns import torch_settings
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.data import make_images
from regdyn.cnn.images import Images, prepare_images
from regdyn.cnn.models import initialize
from regdyn.cnn.result import CnnResult
from regdyn.cnn.training import train
from regdyn.errors import InvalidParameter
from regdyn.nets.config import Snapshot
from regdyn.nets.run_result import save_runs

CPU = torch.device("cpu")


def images(size: int = 8, channels: int = 2) -> Images:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 60, size, size, channels)).astype(np.float32)
    y = np.arange(60) % 4
    x[..., 0, 0, 0] += y
    return prepare_images("random", x[0], y, x[1], y)


IMAGES = images()


def config(**changes: Any) -> CnnConfig:
    given = dict(
        data=IMAGES, model="mlp:width=12", optimizer="adam", lam=1e-2, batch=10, steps=20,
        times=[0, 8, 20], seed=3, device="cpu",
    )  # fmt: skip
    return CnnConfig(**given | changes)


def run(**changes: Any) -> CnnResult:
    (result,) = train([config(**changes)], threads=1)
    return result


def parameters(result: CnnResult) -> dict[str, torch.Tensor]:
    return dict(result.model.state_dict())


def same(a: CnnResult, b: CnnResult) -> bool:
    """Bit for bit, parameters and records."""
    ours, theirs = parameters(a), parameters(b)
    return all(torch.equal(ours[name], theirs[name]) for name in theirs) and a.to_xarray().equals(
        b.to_xarray()
    )


# What a run computes


@pytest.mark.parametrize(
    "changes",
    [
        dict(model="mlp:width=12"),
        dict(model="basicnet:width=0.25", flip=True, crop=1, init="he", gamma0=0.5, beta0=0.1),
        dict(model="basicnet:width=0.25", alpha=0.1, activation="leaky_relu", slope=0.2),
    ],
)
def test_equals_a_loop_by_hand(changes: dict[str, Any]) -> None:
    # Not Adam: divided by the root of its square, a gradient of rounding errors alone is a step.
    settings = config(dtype="float64", times=[7, 20], optimizer=regdyn.SGD(lr=0.05), **changes)
    (result,) = train([settings], threads=1)

    model = settings.make_model()
    initialize(model, settings.init, settings.gamma0, settings.beta0, torch.Generator().manual_seed(3))
    model.double()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)
    order = Order(60, 10, 3, settings.flip, settings.crop, CPU)
    margin, losses = settings.crop, []
    padded = np.pad(IMAGES.x_train, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    for t in range(1, 21):
        choice = order.at(t)
        cuts = [
            padded[i, down : down + 8, right : right + 8][:, :: -1 if flip else 1]
            for i, flip, (down, right) in zip(choice.index, choice.flip, choice.shift.tolist())
        ]
        x = torch.tensor((np.array(cuts) - IMAGES.mean) / IMAGES.std).permute(0, 3, 1, 2)
        loss = F.cross_entropy(model(x.double()), torch.tensor(IMAGES.y_train)[choice.index])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(parameters(result)[name], value, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(result.loss, [np.mean(losses[:7]), np.mean(losses[7:])], rtol=1e-9)
    model.eval()
    x = torch.tensor((IMAGES.x_test - IMAGES.mean) / IMAGES.std).permute(0, 3, 1, 2)
    wrong = (model(x).argmax(1).numpy() != IMAGES.y_test).mean()
    assert result.error == pytest.approx(wrong) and 0 < result.error < 1


def test_the_seed_decides() -> None:
    assert same(run(), run())
    assert not same(run(), run(seed=4))


def test_gamma_and_beta_have_learning_rates_of_their_own() -> None:
    result = run(gamma_lr=0.0, beta_lr=0.0, gamma0=0.7, beta0=-0.2)
    assert np.all(result.gamma[0] == np.float32(0.7)) and np.all(result.beta[0] == np.float32(-0.2))
    assert np.any(run(gamma_lr=0.0).beta[0][-1] != 0)


def test_biases_are_beta_without_normalisation() -> None:
    result = run(norm="none", beta_lr=0.0, beta0=-0.2)
    assert np.all(result.beta[0] == np.float32(-0.2)) and np.all(result.gamma[0] == 1)
    assert not result.config.normalized and result.layers[0].by_scale is None


# What a run records


def test_records_agree_with_the_network() -> None:
    result = run(model="basicnet:width=0.25", steps=30, times=[0, 30], regularization="paper", lam=0.2)
    layers = result.layers
    assert [layer.name for layer in layers] == [f"C{i}" for i in range(1, 8)]
    assert result.sparsity > 0, "decay by a fifth a step kills"
    gammas = [result.model.norm_of(layer).weight for layer in result.model.layers[:7]]  # type: ignore[union-attr]
    dead = np.concatenate([(g.abs() < 1e-3).numpy() for g in gammas])
    assert result.sparsity == dead.mean() == result.sparsity_over_time[-1]
    assert result.total.by_scale is not None and result.total.by_scale[1e-3] == pytest.approx(
        dead.mean()
    )
    assert result.share_removed > 0
    data = result.to_xarray()
    assert dict(data["gamma_C3"].sizes) == {"time": 2, "unit_C3": 32}
    by_scale = data["sparsity_by_scale"].sel(scale_threshold=1e-3, layer="C2").values
    np.testing.assert_allclose(by_scale, (np.abs(data["gamma_C2"]) < 1e-3).mean("unit_C2"))
    by_peak = data["sparsity_by_activation"].sel(activation_threshold=1e-12, layer="C2").values
    np.testing.assert_allclose(by_peak, (data["peak_C2"] <= 1e-12).mean("unit_C2"))
    np.testing.assert_allclose(
        data["norm_C2"][-1], metrics.weight_norms(result.model, result.model.layers[1])
    )
    assert data.attrs["model"] == "basicnet:width=0.25"


def test_results_are_saved_like_those_of_the_numpy_network(tmp_path: Path) -> None:
    results = [run(), run(seed=5)]
    results[0].save(tmp_path / "one.nc")
    with xarray.open_dataset(tmp_path / "one.nc", engine="h5netcdf") as data:
        assert data.attrs["optimizer"] == "adam" and "gamma_layer_1" in data
    save_runs(results, tmp_path / "two.json")
    kept = json.loads((tmp_path / "two.json").read_text())["results"]
    assert [each["config"]["seed"] for each in kept] == [3, 5]
    plain = regdyn.train([regdyn.TrainConfig(hidden=(8,), steps=10, batch=20)])[0].to_dict()
    assert set(plain) <= set(kept[0]) and set(plain["final"]) <= set(kept[0]["final"])
    assert "CnnResult(adam, l2 0.01: random, mlp:width=12" in repr(results[0])


def test_a_picture(tmp_path: Path) -> None:
    assert len(run(model="basicnet:width=0.25").plot().axes) == 7


# Rounds


def test_snapshots_of_rounds_are_averaged() -> None:
    schedule = regdyn.CosineRestarts(6)
    result = run(schedule=schedule, ensemble=2, times=None, steps=20)
    assert set(result.config.rounds) == {6, 12, 18} <= set(result.times.tolist())
    probabilities = []
    for steps in (12, 18):
        part = run(schedule=schedule, steps=steps, times=[steps])
        x = torch.tensor((IMAGES.x_test - IMAGES.mean) / IMAGES.std).permute(0, 3, 1, 2).float()
        probabilities.append(part.model.eval()(x).softmax(1).detach().numpy())
    votes = np.mean(probabilities, axis=0).argmax(1)
    assert result.ensemble_error == pytest.approx((votes != IMAGES.y_test).mean())
    assert run().ensemble_error is None


def test_growing_rounds() -> None:
    assert config(schedule=regdyn.CosineRestarts(3, growth=2), steps=20).rounds == (3, 9)
    assert config().rounds == ()


# Checkpoints


class Stop(Exception):
    """In place of a kill."""


@pytest.mark.parametrize(
    "changes",
    [
        dict(model="basicnet:width=0.25", flip=True, crop=1),
        dict(model="mlp:width=12,dropout=0.5", schedule=regdyn.CosineRestarts(5), ensemble=3),
        dict(model="mlp:width=12", optimizer="sgd", regularization="decoupled"),
        dict(model="mlp:width=12", optimizer="adadelta", schedule=regdyn.Step((9,))),
    ],
)
def test_resumes_to_the_same_bits(changes: dict[str, Any], tmp_path: Path) -> None:
    settings = config(times=[0, 8, 11, 20], **changes)
    (whole,) = train([settings], threads=1)

    def stop(at: Snapshot) -> None:
        if at.step == 11:
            raise Stop

    with pytest.raises(Stop):
        train([settings], threads=1, checkpoint=tmp_path, progress=stop)
    assert checkpoints.load(tmp_path).about["step"] == 11
    seen: list[int] = []
    (resumed,) = train(
        [settings], threads=1, checkpoint=tmp_path, resume=True, progress=lambda s: seen.append(s.step)
    )
    assert seen == [20] and same(resumed, whole) and resumed.ensemble_error == whole.ensemble_error
    # What is finished is not done again.
    (again,) = train([settings], threads=1, checkpoint=tmp_path, resume=True, progress=stop)
    assert same(again, whole)


def test_a_checkpoint_is_not_lost_by_accident(tmp_path: Path) -> None:
    train([config()], threads=1, checkpoint=tmp_path)
    with pytest.raises(InvalidParameter, match="checkpoint must be a folder without a checkpoint"):
        train([config()], threads=1, checkpoint=tmp_path)
    train([config(seed=9)], threads=1, checkpoint=tmp_path, force=True)
    with pytest.raises(InvalidParameter, match=r"of this configuration.* where seed is 9 and not 3"):
        train([config()], threads=1, checkpoint=tmp_path, resume=True)
    changed = config(seed=9, optimizer=regdyn.Adam(beta1=0.8))
    with pytest.raises(InvalidParameter, match="beta1"):
        train([changed], threads=1, checkpoint=tmp_path, resume=True)


def test_other_images_are_another_configuration(tmp_path: Path) -> None:
    train([config()], threads=1, checkpoint=tmp_path)
    other = prepare_images("random", IMAGES.x_train + 1, IMAGES.y_train, IMAGES.x_test, IMAGES.y_test)
    with pytest.raises(InvalidParameter, match="where x_train differs"):
        train([config(data=other)], threads=1, checkpoint=tmp_path, resume=True)


def test_begins_with_a_trained_network(tmp_path: Path) -> None:
    first = run()
    train([config()], threads=1, checkpoint=tmp_path)
    again = run(start=tmp_path, times=[0, 20])
    assert again.test_error[0] == first.error
    np.testing.assert_array_equal(again.gamma[0][0], first.gamma[0][-1])
    shuffled = run(start=tmp_path, shuffle=True, times=[0, 20])
    for before, after in (
        (first.gamma[0][-1], shuffled.gamma[0][0]),
        (first.beta[0][-1], shuffled.beta[0][0]),
    ):
        assert np.array_equal(np.sort(before), np.sort(after)) and not np.array_equal(before, after)
    assert shuffled.test_error[0] > again.test_error[0]
    with pytest.raises(InvalidParameter, match="start must be of the same network"):
        run(start=tmp_path, model="mlp:width=13")


def test_killed_and_resumed(tmp_path: Path) -> None:
    """The command itself, killed in mid-run by a signal that nobody can catch."""
    options = [
        "train", "--backend", "torch", "--model", "mlp:width=30", "--steps", "3000", "--every", "2",
        "--threads", "1", "--json", "--checkpoint",
    ]  # fmt: skip
    command = [sys.executable, "-m", "regdyn", *options, str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    index = tmp_path / "killed" / "checkpoint.json"
    deadline = time.monotonic() + 120
    while not index.exists() or json.loads(index.read_text())["step"] == 0:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < json.loads(index.read_text())["step"] < 3000

    def result(*arguments: str) -> dict[str, Any]:
        done = subprocess.run([*command[:-1], *arguments], check=True, capture_output=True, text=True)
        (kept,) = json.loads(done.stdout)["results"]
        return {name: kept[name] for name in ("times", "loss", "test_error", "sparsity", "final")}

    assert result(str(tmp_path / "killed"), "--resume") == result(str(tmp_path / "whole"))


# Several runs


def test_runs_side_by_side_equal_single_ones(tmp_path: Path) -> None:
    settings = [config(), config(seed=4), config(model="basicnet:width=0.25")]
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    watched: dict[int, list[int]] = {0: [], 1: [], 2: []}
    together = train(
        settings, threads=2, checkpoint=tmp_path,
        progress=lambda s: seen[s.run].append(s.step), watch=lambda i, r: watched[i].append(r.step),
    )  # fmt: skip
    assert all(same(a, train([c], threads=1)[0]) for a, c in zip(together, settings))
    assert [result.config for result in together] == settings
    assert list(seen.values()) == list(watched.values()) == [[0, 8, 20]] * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run_0", "run_1", "run_2"]


@pytest.mark.parametrize("model, batch, threads", [("mlp:width=12", 10, 1), ("basicnet", 40, 3)])
def test_threads_of_a_single_run(
    model: str, batch: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them where a step is large; a small one would wait for them more than it gains."""
    taken: list[int] = []

    def note(configs: Any, folders: Any, threads: int, *rest: Any) -> list[CnnResult]:
        taken.append(threads)
        return []

    monkeypatch.setattr("regdyn.cnn.training.take_turns", note)
    train([config(model=model, batch=batch)], threads=3)
    assert taken == [threads]


def test_finite_weights_with_activations_that_are_not() -> None:
    """float32 overflows where two of them are multiplied."""
    bad = config(model="mlp:width=12,depth=2", norm="none")
    going = Run(bad, make_store(bad))
    with torch.no_grad():
        for parameter in going.model.parameters():
            parameter.mul_(1e30)
    assert going.record() is None and not going.records
    assert "are not finite after step 0" in going.failed and going.done


def test_a_run_that_fails_ends_alone() -> None:
    bad = config(optimizer=regdyn.SGD(lr=1e30), norm="none", times=[0, 10, 20])
    failed, fine = train([bad, config()], threads=1)
    assert "the loss is nan" in failed.failed or "the loss is inf" in failed.failed
    assert failed.times.tolist() == [0] and failed.to_dict()["final"] is None
    assert not fine.failed and fine.times.tolist() == [0, 8, 20]
    assert "failed" in repr(failed)


# What cannot be done


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(model="vgg11"),
            "model must be used with images of at least 32x32 pixels where it is vgg11, got 8x8",
        ),
        (dict(model="basicnett"), "nearest: basicnet"),
        (dict(batch=61), r"batch must be an integer in \[2, 60\] with normalisation, got 61"),
        (dict(crop=9), r"crop must be an integer in \[0, 7\]"),
        (dict(device="tpu"), "device must be one of auto, cpu, cuda"),
        (dict(precision="bfloat16", dtype="float64"), "precision must be full in float64"),
        (dict(ensemble=1), "ensemble must be at most .* rounds of a schedule of restarts .0 here."),
        (dict(shuffle=True), "shuffle must be used with"),
        (dict(norm="layer"), "norm must be one of batch, instance, none"),
        (dict(norm="none", gamma0=0.5), "gamma0 must be 1 without normalisation"),
        (dict(norm="none", alpha=0.1), "alpha must be 0 without batch normalisation"),
        (dict(data=3), "data must be Images or their name"),
        (dict(times=[3, 2]), "times must be increasing integers"),
        (dict(start="/nowhere"), "start must be a folder with a checkpoint"),
    ],
)
def test_bad_configurations(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        train([config(**changes)], threads=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu() -> None:
    with pytest.raises(InvalidParameter, match="device must be cpu or auto: torch finds no GPU"):
        config(device="cuda")
    assert config(device="auto").device == "cpu"


@pytest.mark.parametrize("fits, message", [(5, "at most 5 to fit"), (1, "a smaller model: not even 2")])
def test_out_of_memory_says_which_batch_fits(
    fits: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Run._forward_backward

    def allocate(self: Run, choice: Any) -> None:
        if len(choice.index) > fits:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
        compute(self, choice)

    monkeypatch.setattr(Run, "_forward_backward", allocate)
    with pytest.raises(InvalidParameter, match=f"batch must be .*{message}") as raised:
        train([config(batch=20)], threads=1)
    assert raised.value.name == "batch"


def test_other_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Run, choice: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(Run, "_forward_backward", fail)
    with pytest.raises(RuntimeError, match="something else"):
        train([config()], threads=1)


def test_what_precedes_a_recorded_graph_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warm-up before a CUDA graph, here with a stand-in that computes anew what was recorded."""
    settings = config(model="basicnet:width=0.25")
    going = Run(settings, make_store(settings))
    compute_in_place_of_replaying(monkeypatch, going)
    with torch_settings(1):
        going.model.train()
        going._compute = going._captured(going.order.at(1))
        while not going.done:
            going.step()
        going.record()
    plain = run(model="basicnet:width=0.25")
    assert all(torch.equal(v, parameters(plain)[k]) for k, v in going.model.state_dict().items())
    # Steps 1 to 20 in one window instead of those from 9 on.
    (window,) = train([config(model="basicnet:width=0.25", times=[20])], threads=1)
    assert going.records[-1].loss == window.loss[-1]


def test_the_greatest_seed() -> None:
    assert not same(run(seed=2**64 - 1), run(seed=2**63 - 1))


def test_settings_of_torch_are_restored() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state(), torch.get_num_threads()
    run(model="mlp:width=12,dropout=0.5")
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


def test_random_labels_are_learned_by_heart() -> None:
    """A wide network fits what has no sense (zhou2020, section 3.3), and the test set shows it."""
    data = make_images("digits")
    few = prepare_images("few", data.x_train[:100], data.y_train[:100], data.x_test, data.y_test)
    result = run(
        data=few.with_random_labels(0), model="mlp:width=200", steps=300, lam=0.0, batch=20, times=[300]
    )
    assert result.train_error < 0.05 < 0.8 < result.error

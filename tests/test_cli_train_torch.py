"""`regdyn train --backend torch`: the same command, tables and outputs as for the NumPy network."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import xarray

import regdyn
from regdyn.cli import main
from regdyn.cli.train_runs import _models
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.result import CnnResult
from regdyn.cnn.training import train
from regdyn.errors import InvalidParameter
from regdyn.plots.training import plot_training

SMALL = ["--backend", "torch", "--model", "mlp:width=12", "--steps", "40", "--threads", "1"]
NOTE = "Note: 3 of 64 pixels are constant in the training set, with the same value in the test set\n"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["train", *arguments])
    return code, *capsys.readouterr()


def trained(**settings: Any) -> CnnResult:
    (result,) = train([CnnConfig(**{"steps": 40, "model": "mlp:width=12", **settings})], threads=1)
    return result


def test_a_row_for_each_layer(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", "basicnet:width=0.25", "--gamma0", "1.02e-2"]
    code, out, err = run(capsys, *SMALL, *arguments)
    assert (code, err) == (0, NOTE)
    result = trained(model="basicnet:width=0.25", gamma0=1.02e-2)
    assert result.total.by_scale is not None and 0 < result.total.by_scale[1e-2] < 1
    lines = [line.split() for line in out.splitlines()]
    for name, layer in (*zip(result.layer_names, result.layers), ("total", result.total)):
        (shown,) = [line for line in lines if line and line[0] == name]
        assert layer.by_scale is not None
        assert shown[1:4] == [str(layer.units), *(f"{layer.by_scale[x]:.1%}" for x in (1e-2, 1e-3))]
    removed = result.last.removed
    assert "1438 training and 359 test images of 8x8 pixels" in out
    assert "basicnet:width=0.25, relu, batch normalisation, gamma0 0.0102, xavier\n" in out
    assert (
        f"With them go {removed.convolutions:.1%} of the weights of these layers and "
        f"{removed.flops:.1%} of the multiplications." in out
    )


def test_json_and_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = ["--out", str(tmp_path / "a.nc"), "--plot", str(tmp_path / "a.png")]
    options = ["--opt", "sgd", "--norm", "none", "--flip", "--crop", "1", "--every", "1", "--seed", "3"]
    code, out, _ = run(capsys, *SMALL, *options, *files, "--json")
    (shown,) = json.loads(out)["results"]
    same = trained(optimizer="sgd", norm="none", flip=True, crop=1, seed=3, times=[0, 35, 40]).to_dict()
    assert code == 0
    for name in ("config", "loss", "test_error", "final", "failed", "times"):
        assert shown[name] == json.loads(json.dumps(same[name])), name
    with xarray.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as data:
        assert data["time"].values.tolist() == [0, 35, 40] and data.attrs["data"] == "digits"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_several_runs(capsys: pytest.CaptureFixture[str]) -> None:
    models = "mlp:width=12,depth=2,mlp:width=8"
    several = ["--model", models, "--opt", "adam,sgd", "--seed", "0:2"]
    code, out, _ = run(capsys, *SMALL, *several, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and len(rows) == 8
    assert {row["model"] for row in rows} == {"mlp:width=12,depth=2", "mlp:width=8"}
    assert {(row["width"], row["depth"], row["failed"]) for row in rows} == {("", "", "")}
    row = next(
        r for r in rows if (r["optimizer"], r["model"], r["seed"]) == ("sgd", "mlp:width=8", "1")
    )
    same = trained(optimizer="sgd", model="mlp:width=8", seed=1)
    assert float(row["test_error"]) == same.error and float(row["loss"]) == same.loss[-1]
    code, out, _ = run(capsys, *SMALL, *several)
    lines = [line.split() for line in out.splitlines() if "mlp" in line]
    assert code == 0 and [line[0] for line in lines] == ["adam", "adam", "sgd", "sgd"]
    assert all(line[3] in models and line[4] == "2" for line in lines)


def test_penalties(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    several = ["--penalty", "none,slimming:0.1,group-lasso:0.01", "--out", str(tmp_path / "a.nc")]
    code, out, _ = run(capsys, *SMALL, *several, "--lr", "0.02")
    lines = [line.split() for line in out.splitlines() if line.strip().startswith("adam")]
    assert code == 0 and [line[3] for line in lines] == ["none", "slimming:0.1", "group-lasso:0.01"]
    same = trained(penalty="slimming:0.1", optimizer=regdyn.Adam(lr=0.02))
    assert lines[1][4] == f"{same.loss[-1]:.3g}" != lines[0][4]
    with xarray.open_datatree(tmp_path / "a.nc", engine="h5netcdf") as tree:
        kept = [tree[f"run_{i}"].attrs["penalty"] for i in range(3)]
    assert kept == ["none", "slimming:0.1", "group-lasso:0.01"]

    folder = ["--checkpoint", str(tmp_path / "runs"), "--penalty"]
    assert run(capsys, *SMALL, *folder, "slimming:0.1", "--quiet")[0] == 0
    code, out, err = run(capsys, *SMALL, *folder, "slimming:0.2", "--resume")
    assert (code, out) == (2, "") and "strength is 0.1 and not 0.2" in err
    code, _, err = run(capsys, *SMALL, *folder, "slimming:0.2", "--resume", "--norm", "none")
    assert code == 2 and err.startswith("Error: --penalty must be none or group-lasso:STRENGTH without")


def test_prunings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    several = ["--prune", "none", "--prune", "largest:layers=last1,retrain=10", "--csv"]
    kept = [*several, "--checkpoint", str(tmp_path / "kept")]
    code, out, _ = run(capsys, *SMALL, *kept)
    none, largest = list(csv.DictReader(io.StringIO(out)))
    same = trained(prune="largest:layers=last1,retrain=10")
    assert code == 0 and (none["prune"], none["pruning_events"]) == ("none", "0")
    assert largest["prune"] == "largest:fraction=0.5,layers=last1,retrain=10"
    assert float(largest["mean_instability"]) == same.mean_instability
    assert largest["pruned_share"] == "0.5" and largest["pruning_events"] == "3"

    def numbers(text: str) -> list[dict[str, str]]:
        return [row | {"seconds": ""} for row in csv.DictReader(io.StringIO(text))]

    assert numbers(run(capsys, *SMALL, *kept, "--resume")[1]) == numbers(out)
    code, out, _ = run(capsys, *SMALL, *several[2:4])
    assert code == 0 and "Pruned 50.0% of the units of 1 layer in 3 events after steps 4 to 24" in out


def test_columns_are_those_of_the_numpy_network(capsys: pytest.CaptureFixture[str]) -> None:
    def header(*arguments: str) -> str:
        return run(capsys, *arguments, "--csv")[1].splitlines()[0]

    assert header(*SMALL) == header("--width", "8", "--steps", "20")


def test_models() -> None:
    assert _models("basicnet, vgg11:head=single,bias=1,mlp:depth=2") == [
        "basicnet", "vgg11:head=single,bias=1", "mlp:depth=2",
    ]  # fmt: skip
    with pytest.raises(InvalidParameter, match="model"):
        _models(" ,")


def test_rendered_objects(capsys: pytest.CaptureFixture[str]) -> None:
    data = "objects-cluttered:size=16,n_train=60,n_test=30"
    arguments = ["--data", data, "--model", "basicnet:width=0.25", "--steps", "3", "--batch", "20"]
    code, out, _ = run(capsys, *SMALL, *arguments)
    assert code == 0 and "60 training and 30 test images of 16x16 pixels" in out


def test_random_labels(capsys: pytest.CaptureFixture[str]) -> None:
    def loss(*arguments: str) -> float:
        out = run(capsys, *SMALL, "--steps", "400", *arguments, "--json")[1]
        return float(json.loads(out)["results"][0]["loss"][-1])

    assert loss() < 1 < 2 < loss("--random-labels")


def test_tensorboard(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "board"
    code, _, _ = run(capsys, *SMALL, "--tensorboard", str(folder), "--quiet")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    assert code == 0 and {"loss", "error/test", "dead by scale/layer_1"} <= set(
        events.Tags()["scalars"]
    )
    assert events.Scalars("error/test")[-1].value == pytest.approx(trained().error)
    assert "gamma/layer_1" in events.Tags()["histograms"]

    files = set(folder.iterdir())
    code, _, err = run(capsys, *SMALL, "--tensorboard", str(folder), "--quiet")
    assert code == 2 and set(folder.iterdir()) == files
    assert err.startswith("Error: --tensorboard must be a folder without such files (--resume")
    code, _, _ = run(capsys, *SMALL, "--tensorboard", str(folder), "--quiet", "--force")
    assert code == 0 and len(set(folder.iterdir())) == 1
    taken = tmp_path / "file"
    taken.write_text("")
    code, _, err = run(capsys, *SMALL, "--tensorboard", str(taken), "--quiet")
    assert code == 2 and err.startswith("Error: --tensorboard must be a folder that can be written")


def test_ensemble(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *SMALL, "--schedule", "restarts:20", "--ensemble", "2")
    assert code == 0 and "Ensemble of the last 2 snapshots: test error" in out
    rounds = ["--schedule", "restarts:20", "--ensemble", "2", "--seed", "0:2"]
    _, out, _ = run(capsys, *SMALL, *rounds)
    assert "ensemble error" in out and "ensemble error" not in run(capsys, *SMALL, "--seed", "0:2")[1]
    rows = list(csv.DictReader(io.StringIO(run(capsys, *SMALL, *rounds, "--csv")[1])))
    expected = [
        trained(schedule=regdyn.CosineRestarts(20), ensemble=2, seed=seed).ensemble_error
        for seed in range(2)
    ]
    assert [float(row["ensemble_error"]) for row in rows] == expected
    assert [row["norm"] for row in rows] == ["batch", "batch"]


def test_what_a_run_does_that_is_not_the_usual(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(capsys, *SMALL, "--quiet", "--checkpoint", str(tmp_path))[0] == 0
    more = ["--flip", "--crop", "2", "--precision", "bfloat16", "--start", str(tmp_path), "--shuffle"]
    _, out, _ = run(capsys, *SMALL, *more)
    words = "mirrored at random, shifted by up to 2 pixels, start {}, shuffled, bfloat16 under autocast"
    assert words.format(tmp_path) in out


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--backend", "jax"], 2, "--backend must be one of numpy, torch, got 'jax'"),
        (["--model", "basicnet"], 2, "--model must be used with --backend torch"),
        (["--resume"], 2, "--resume must be used with --backend torch"),
        ([*SMALL, "--width", "3"], 2, "--width must be used with --backend numpy"),
        ([*SMALL, "--model", "vgg16"], 2, "at least 32x32 pixels where it is vgg16"),
        ([*SMALL, "--model", "mlp,vgg16"], 2, "at least 32x32 pixels where it is vgg16"),
        ([*SMALL, "--norm", "instance"], 2, "--norm must be batch or none for mlp, which has no maps"),
        ([*SMALL, "--crop", "8"], 2, "--crop must be an integer in [0, 7], got 8"),
        ([*SMALL, "--model", "nut"], 2, "--model must be one of"),
        ([*SMALL, "--data", "cifar10"], 3, "cifar-10-binary.tar.gz"),
        ([*SMALL, "--data", "cifar10", "--data-dir", "/nowhere"], 3, "needs cifar-10-binary"),
        ([*SMALL, "--batch", "2000"], 2, "[2, 1438] with normalisation, got 2000"),
        ([*SMALL, "--device", "cuda:7"], 2, "--device must be one of auto, cpu, cuda"),
        ([*SMALL, "--every", "0"], 2, "--every must be an integer"),
        ([*SMALL, "--side-by-side", "0"], 2, "--side-by-side must be an integer in [1, 1000]"),
        ([*SMALL, "--start", "/nowhere"], 2, "--start must be a folder with a checkpoint of regdyn"),
        ([*SMALL, "--shuffle"], 2, "--shuffle must be used with"),
        ([*SMALL, "--ensemble", "1"], 2, "--ensemble must be at most the number of rounds"),
        ([*SMALL, "--psbn-alpha", "0.1", "--norm", "none"], 2, "--psbn-alpha must be 0 without"),
        ([*SMALL, "--resume"], 2, "--resume must be used with --checkpoint"),
    ],
)
def test_bad_input(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out, err = run(capsys, *arguments)
    assert (given, out) == (code, "")
    assert message in err and err.startswith("Error: ") and err.count("\n") == 1


def test_pickled_code_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import torch

    torch.save({"x": torch.ones(2)}, tmp_path / "model.pt")
    code, _, err = run(capsys, *SMALL, "--start", str(tmp_path / "model.pt"))
    assert code == 2 and "which may hold pickled code and was not read" in err


def test_a_checkpoint_is_neither_overwritten_nor_taken_for_another(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = ["--checkpoint", str(tmp_path / "kept"), "--quiet"]
    assert run(capsys, *SMALL, *kept)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    code, _, err = run(capsys, *SMALL, *kept)
    assert code == 2 and "--resume goes on from it, --force overwrites it" in err
    code, _, err = run(capsys, *SMALL, *kept, "--resume", "--lam", "0.5")
    assert code == 2 and "lam is 0.001 and not 0.5" in err
    code, _, err = run(capsys, *SMALL, *kept, "--resume", "--data", "clean:seed=1", "--batch", "50")
    assert "where batch is 40 and not 50, data is digits and not clean:seed=1\n" in err
    assert {path: path.read_bytes() for path in (tmp_path / "kept").iterdir()} == before
    assert run(capsys, *SMALL, *kept, "--resume")[0] == 0


@pytest.mark.parametrize("library", ["torch", "safetensors", "tensorboard"])
def test_a_missing_library(library: str, tmp_path: Path) -> None:
    """As it is without the extra, in a process of its own."""
    arguments = ["train", *SMALL, "--tensorboard", str(tmp_path / "board")]
    extra = "tensorboard" if library == "tensorboard" else "torch"
    code = (
        "import sys\n"
        f"sys.modules[{library!r}] = None\n"
        f"from regdyn.cli import main; sys.exit(main({arguments!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = f"Error: {library} is not installed: pip install 'regdyn[{extra}]'\n"
    assert (done.returncode, done.stderr) == (3, expected)


def test_a_missing_library_in_python() -> None:
    code = "import sys; sys.modules['safetensors'] = None; from regdyn.cnn import train"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = "ModuleNotFoundError: safetensors is not installed: pip install 'regdyn[torch]'"
    assert done.stderr.splitlines()[-1] == expected


def test_a_picture_of_residual_layers() -> None:
    """Long names in two lines, and no universality of a layer that shares its activation."""
    figure = plot_training([trained(model="resnet20", steps=2, batch=8)])
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert "universality, stem" in shown and "universality, block3_3.conv2" not in shown
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert "stem: scale $\\gamma$" in labels and "block3_3.conv2:\nscale $\\gamma$" in labels


def start_endless(folder: Path, seeds: str) -> subprocess.Popen[str]:
    """The command at its work, in a session of its own, with a first checkpoint in `folder`."""
    options = ["--model", "mlp:width=30", "--steps", "100000000", "--every", "1000000", "--quiet"]
    threads = ["--threads", "2", "--seed", seeds, "--checkpoint", str(folder)]
    # A shell that starts the tests in the background makes its children ignore Ctrl-C: undo that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from regdyn.cli import script; script()"
    )
    command = [sys.executable, "-c", code, "train", *SMALL, *options, *threads]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    first = folder / ("checkpoint.json" if seeds == "0" else "run_0/checkpoint.json")
    deadline = time.monotonic() + 120
    while not first.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return process


def assert_all_end(process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.parametrize("seeds", ["0", "0:3"])
def test_interrupted_with_a_checkpoint(seeds: str, tmp_path: Path) -> None:
    """The command says how to go on, and leaves no process behind."""
    process = start_endless(tmp_path / "kept", seeds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    line = f"Error: interrupted; with --resume the same command goes on from {tmp_path / 'kept'}\n"
    assert err == line
    assert_all_end(process)


def test_killed(tmp_path: Path) -> None:
    """It leaves no process behind, which would write where the command that resumes does."""
    process = start_endless(tmp_path / "kept", "0:3")
    process.kill()
    process.communicate(timeout=60)  # which the other processes have open too
    assert_all_end(process)

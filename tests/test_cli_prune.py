"""`regdyn prune`: from a file of weights to a slim one, or one clear line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prunable import built, images, randomized
from safetensors.torch import load_file, save_file
from torch import nn

from regdyn.cli import main
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.training import train
from regdyn.doctor import difference, load_slim

FACTORY = """
import torch
from prunable import plain, block, head
def net():
    return plain()
def other():
    return torch.nn.Sequential(block(3, 8), *head(8))
def failing():
    raise RuntimeError("no such thing")
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few and short measurements of latency, on one thread like all the rest."""
    monkeypatch.setattr("regdyn.doctor.cost.ROUNDS", (5, 5))
    monkeypatch.setattr("regdyn.doctor.cost.SHORTEST", 1e-3)
    kept = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(kept)


def network(dead: float = 0.4) -> nn.Module:
    """The one in the files, of random weights."""
    return randomized(built("plain"), seed=1, dead=dead)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights, the code that builds their network, and data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "slim_nets", raising=False)
    (tmp_path / "slim_nets.py").write_text(FACTORY)
    model = network()
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "net.pt")
    generator = np.random.default_rng(0)
    x = generator.normal(2.0, 3.0, size=(24, 5, 5, 3)).astype(np.float32)
    y = np.arange(24) % 4
    np.savez(tmp_path / "data.npz", x_train=x[:12], y_train=y[:12], x_test=x[12:], y_test=y[12:])
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["prune", *arguments])
    return code, *capsys.readouterr()


NET = ["--model", "slim_nets:net"]
OUT = ["--out", "slim.safetensors"]
INPUT = ["--input", "3x5x5"]


@pytest.mark.parametrize("file", ["net.safetensors", "net.pt"])
def test_a_network_of_other_code(file: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (here / file).read_bytes()
    code, out, err = run(capsys, file, *NET, *OUT, *INPUT, "--samples", "40")
    model = network()
    slimmed = load_slim("slim.safetensors", "slim_nets:net")
    assert code == 0 and (here / file).read_bytes() == before
    assert difference(slimmed, model, [images(9)]) < 1e-2
    old, new = (sum(p.numel() for p in each.parameters()) for each in (model, slimmed))
    assert new < old
    lines = [line.split() for line in out.splitlines()]
    assert ["parameters", f"{old:,}", f"{new:,}", f"{new / old:.3f}"] in lines
    (row,) = [line for line in lines if line and line[0] == "0.1"]
    assert row[1] == "8" and int(row[1]) - int(row[3]) == int(row[5]) == len(slimmed[0][1].weight)
    assert "on 40 random inputs of 3x5x5" in out and "ms for a batch of 32" in out
    assert "test error" not in out
    assert all(line.startswith("Note: ") for line in err.splitlines())


@pytest.mark.parametrize("normalized", [True, False])
def test_on_data_with_labels(normalized: bool, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["net.pt", *NET, *OUT, "--data", "data.npz", "--batch", "5", "--json"]
    code, out, _ = run(capsys, *arguments, *([] if normalized else ["--no-normalize"]))
    shown = json.loads(out)
    model = network()
    with np.load("data.npz") as data:
        train_x, x, y = data["x_train"], data["x_test"], data["y_test"]
    if normalized:
        x = (x - train_x.mean((0, 1, 2))) / train_x.std((0, 1, 2))
    with torch.no_grad():
        logits = model(torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32))
    wrong = float((logits.argmax(1).numpy() != y).mean())
    assert code == 0
    assert (shown["error_before"], shown["samples"]) == (pytest.approx(wrong), 12)
    assert shown["compared_on"] == "12 test images of data.npz" and shown["out"] == "slim.safetensors"
    assert 0 < shown["difference"] < 1e-2 and shown["difference_from_zeroed"] < 1e-5
    assert shown["after"]["flops"] < shown["before"]["flops"]
    assert shown["latency"]["batch"] == 5 and shown["latency"]["pairs"] >= 5
    assert sum(len(layer["removed"]) for layer in shown["layers"]) == shown["removed"] > 0


def trained(folder: Path, **settings: Any) -> CnnConfig:
    config = CnnConfig(
        **{"steps": 3, "model": "mlp:width=20", "data": "digits:seed=1", "alpha": 0.1, **settings}
    )
    train([config], threads=1, checkpoint=folder)
    return config


def test_a_checkpoint_needs_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(tmp_path / "run")
    code, out, _ = run(capsys, "run", *OUT, "--threshold", "0.999", "--tolerance", "9")
    assert code == 0 and "on 359 test images of digits" in out and "test error" in out
    slimmed = load_slim("slim.safetensors")
    x = torch.randn(3, 1, 8, 8)
    assert slimmed(x).shape == (3, 10)
    # Slim networks can be pruned again, without code as well.
    code, _, _ = run(capsys, "slim.safetensors", "--out", "again.safetensors", "--input", "1x8x8")
    assert code == 0 and torch.equal(load_slim("again.safetensors")(x), slimmed(x))


def test_a_checkpoint_without_its_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(12, 5, 5)), np.arange(12) % 3
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    trained(tmp_path / "run", data="mine.npz", batch=4)
    (tmp_path / "mine.npz").unlink()
    code, out, err = run(capsys, "run", *OUT)
    assert code == 0 and "on 64 random inputs of 1x5x5" in out
    assert "Note: The network's own data, mine.npz, are not here" in err


def test_nothing_dead(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network(dead=0.0)
    save_file(model.state_dict(), "net.safetensors")
    code, out, err = run(capsys, "net.safetensors", *NET, *OUT, *INPUT)
    assert code == 0 and out.startswith("0 filters removed, 28 left (outputs included).")
    assert err == "Note: No filter can be removed: the slim network is the network as it was\n"
    written = load_file("slim.safetensors")
    assert all(torch.equal(written[name], value) for name, value in model.state_dict().items())


def test_a_layer_that_would_vanish_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network(dead=0.0)
    with torch.no_grad():
        model[1][1].weight.mul_(1e-7)
    strongest = int(model[1][1].weight.abs().argmax())
    save_file(model.state_dict(), "net.safetensors")
    code, _, err = run(capsys, "net.safetensors", *NET, *OUT, *INPUT, "--tolerance", "1")
    assert code == 0
    assert f"Note: All filters of 1.1 are dead; filter {strongest}, the strongest, stays\n" in err


def test_beyond_the_tolerance(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["net.safetensors", *NET, *OUT, *INPUT, "--tolerance", "1e-9"]
    code, out, err = run(capsys, *arguments)
    assert code == 1 and "filters removed" in out
    assert err.splitlines()[-1].startswith("Error: the outputs move by ")
    assert "more than --tolerance 1e-09, and no file was written" in err
    assert not (here / "slim.safetensors").exists()
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 1 and json.loads(out)["out"] is None


def test_quiet(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "net.safetensors", *NET, *OUT, *INPUT, "--quiet") == (0, "", "")


def nan(folder: Path) -> None:
    state = load_file(folder / "net.safetensors")
    state["1.1.weight"][2] = torch.nan
    save_file(state, folder / "net.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.pt", *NET, *INPUT], "--out must be given, the file that the slim network goes to"),
        (["net.pt", *NET, *INPUT, "--out", "net.pt", "--force"],
         "--out must be another file than FILE, which stays as it is, got net.pt"),
        (["net.pt", *NET, *INPUT, "--out", "data.npz"], "--out must be a new file (--force "),
        (["net.pt", *NET, *INPUT, "--out", "no/where"], "--out must be in an existing folder"),
        (["net.pt", *OUT, *INPUT], "--model must be package.module:factory, which builds the network"),
        (["net.pt", *OUT, *NET], "--input must be given, the shape of the network's inputs"),
        (["net.pt", *OUT, *NET, "--input", "3x-1"], "--input must be a shape of one to four lengths"),
        (["net.pt", *OUT, *NET, "--input", "3x5x0"], "--input must be an integer in [1, 100000]"),
        (["net.pt", *OUT, *NET, *INPUT, "--data", "digits"], "--input must be used without --data"),
        (["net.pt", *OUT, *NET, "--data", "digits"],
         "--model must be a network that runs on the example in evaluation mode"),
        (["net.pt", *OUT, *NET, "--data", "nothing"], "--data must be "),
        (["net.pt", *OUT, *NET, *INPUT, "--no-normalize"], "--no-normalize must be used with images"),
        (["net.pt", *OUT, *INPUT, "--model", "slim_nets:failing"],
         "slim_nets:failing (RuntimeError: no such thing)"),
        (["net.pt", *OUT, *INPUT, "--model", "slim_nets:none"], "slim_nets:none (AttributeError"),
        (["net.pt", *OUT, *INPUT, "--model", "slim_nets"], "--model must be package.module:factory"),
        (["net.pt", *OUT, *INPUT, "--model", "slim_nets:other"],
         "--model must be the network whose tensors the file holds"),
        (["data.npz", *OUT, *NET, *INPUT], "FILE must be "),
        (["none.pt", *OUT, *NET, *INPUT], "FILE must be "),
        (["net.pt", *OUT, *NET, *INPUT, "--part", "ema"], "--part must be "),
        (["net.pt", *OUT, *NET, *INPUT, "--threshold", "-1"], "--threshold must be in [0, inf)"),
        (["net.pt", *OUT, *NET, *INPUT, "--norm-threshold", "x"], "--norm-threshold must be a number"),
        (["net.pt", *OUT, *NET, *INPUT, "--tolerance", "nan"], "--tolerance must be in [0, inf)"),
        (["net.pt", *OUT, *NET, *INPUT, "--samples", "0"], "--samples must be an integer in [1, "),
        (["net.pt", *OUT, *NET, *INPUT, "--batch", "0"], "--batch must be an integer in [1, 4096]"),
        (["net.pt", *OUT, *NET, *INPUT, "--threads", "0"], "--threads must be an integer in [1, 1024]"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()}
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ") and err.count("\n") == 1 and message in err
    assert there == {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()}


def test_weights_that_are_not_finite(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nan(here)
    code, _, err = run(capsys, "net.safetensors", *NET, *OUT, *INPUT)
    assert (code, err) == (2, "Error: FILE must be of finite weights, got NaN in 1.1.weight\n")
    assert not (here / "slim.safetensors").exists()


def test_pickled_code_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(nn.Linear(2, 2), here / "whole.pt")
    code, _, err = run(capsys, "whole.pt", *NET, *OUT, *INPUT)
    assert code == 2 and "was not unpickled" in err and err.count("\n") == 1


def test_without_the_library(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules]:
        if name.startswith("regdyn.doctor."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    code, _, err = run(capsys, "net.safetensors", *NET, *OUT, *INPUT)
    assert code == 3
    assert err == "Error: torch_pruning is not installed: pip install 'regdyn[prune]'\n"

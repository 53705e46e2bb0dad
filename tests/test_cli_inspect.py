"""`regdyn inspect` as its users meet it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from safetensors.torch import save_file
from torch import nn
from zoo import ZOO, Unnormalized, randomized

import regdyn
from regdyn.cli import main
from regdyn.cnn import CnnConfig, train
from regdyn.doctor import Inspection, inspect, load_tensors, measure
from regdyn.doctor.sparkline import sparkline

NAME = "torchvision resnet"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["inspect", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def network() -> nn.Module:
    return randomized(ZOO[NAME]())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of all kinds, and a factory of a user in the current folder."""
    model = network()
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "model.pth")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    here = Path(__file__).parent
    (tmp_path / "user_code.py").write_text(
        f"import sys; sys.path.append({str(here)!r})\nimport zoo\nimport torch\n"
        f"def network(): return zoo.ZOO[{NAME!r}]()\n"
        "def other(): return torch.nn.Linear(2, 3)\n"
        "def fails(): raise OSError('no such\\nweights')\n"
    )
    generator = np.random.default_rng(3)
    x = generator.integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
    grey = generator.normal(size=(24, 8, 8)).astype(np.float32)
    y = np.arange(24) % 4
    np.savez(tmp_path / "images.npz", x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])
    np.savez(tmp_path / "grey.npz", x_train=grey, y_train=y, x_test=grey, y_test=y)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "user_code", raising=False)
    return tmp_path


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*") if path.is_file() and "__pycache__" not in str(path)
    }  # fmt: skip


def rows(out: str, found: Inspection) -> dict[str, list[str]]:
    names = {*(layer.name for layer in found.layers), "total"}
    return {line.split()[0]: line.split() for line in out.splitlines() if line.split()[:1] and
            line.split()[0] in names}  # fmt: skip


@pytest.mark.parametrize("file", ["model.pth", "model.safetensors"])
def test_table(capsys: pytest.CaptureFixture[str], folder: Path, file: str) -> None:
    before = digests(folder)
    code, out, err = run(capsys, file)
    found = inspect(file)
    shown = rows(out, found)
    assert code == 0 and list(shown) == [*(layer.name for layer in found.layers), "total"]
    for layer in found.layers:
        measures = layer.sparsity
        assert measures is not None and measures.by_scale is not None
        assert shown[layer.name][1:8] == [
            str(layer.filters), *(f"{measures.by_scale[x]:.1%}" for x in (1e-2, 1e-3, 1e-4)),
            f"{measures.active_predicted:.1%}", str(layer.silent.sum()), str(layer.deaths.dead),
        ]  # fmt: skip
        assert f" {sparkline(layer.counts)} " in out
    assert shown["total"][1] == str(found.filters)
    assert found.why() in out and "half decades of 1e-06 │ 10" in out
    assert err == "".join(f"Note: {line}\n" for line in found.remarks())
    assert max(map(len, out.splitlines()[3:-2])) <= 120 and "…" not in out
    assert digests(folder) == before


def test_json_equals_python(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = run(capsys, "model.pth", "--threshold", "0.05", "--psbn-alpha", "0.1", "--json")
    same = inspect("model.pth", threshold=0.05, alpha=0.1).to_dict()
    assert code == 0 and json.loads(out) == json.loads(json.dumps(same))
    assert same["threshold"] == 0.05 and same["psbn_alpha"] == 0.1


def test_csv(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = run(capsys, "model.pth", "--csv", "--steps", "9", "--opt", "sgd,adagrad")
    shown = list(csv.DictReader(io.StringIO(out)))
    found = inspect("model.pth")
    assert code == 0 and len(shown) == len(found.layers)
    for row, layer in zip(shown, found.layers):
        assert (row["name"], row["weights"]) == (layer.name, layer.weights)
        assert int(row["dead"]) == layer.deaths.dead and int(row["both"]) == layer.deaths.both
        assert layer.sparsity is not None and layer.sparsity.by_scale is not None
        assert float(row["below_0.001"]) == layer.sparsity.by_scale[1e-3]
        assert row["universality"] == ""
    assert {"cross_at_most_0", "cross_at_most_1"} <= set(shown[0])


def test_prediction(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    rule = ["--opt", "sgd", "--momentum", "0.5", "--lr", "0.2", "--lam", "1e-2,0.1"]
    rest = ["--sigma", "1e-4", "--steps", "90", "--schedule", "step:60"]
    code, out, _ = run(capsys, "model.pth", *rule, *rest)
    found = inspect("model.pth")
    for lam in (1e-2, 0.1):
        found = found.look_ahead(
            regdyn.SGD(lr=0.2, momentum=0.5), lam=lam, sigma=1e-4, steps=90,
            schedule=[1.0] * 60 + [0.1] * 30,
        )  # fmt: skip
    assert code == 0
    for outlook in found.outlooks:
        for line in outlook.lines():
            assert line in out
    shown = rows(out, found)
    crosses = [[str(mask.sum()) for mask in outlook.by_layer] for outlook in found.outlooks]
    for i, layer in enumerate(found.layers):
        assert shown[layer.name][-2:] == [crosses[0][i], crosses[1][i]]
    assert out.count("What would change it: decoupled decay ") == 2


def test_measured(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    before = digests(folder)
    options = ["--model", "user_code:network", "--data", "images.npz", "--threads", "1"]
    code, out, _ = run(capsys, "model.pth", *options)
    from regdyn.cnn import make_images

    seen = measure(network(), load_tensors("model.pth"), make_images("images.npz"))
    found = inspect("model.pth", measured=seen)
    assert code == 0 and digests(folder) == before
    assert "Measured on images.npz: 24 training and 8 test images of 8x8 pixels" in out
    assert f"test error {seen.test_error:.2%}" in out
    table = rows(out.partition("Measured on")[2], found)
    measured = [layer for layer in found.layers if layer.name in seen.activations]
    assert list(table) == [*(layer.name for layer in measured), "total"]
    for layer in measured:
        measures = layer.sparsity
        assert measures is not None and measures.universality is not None
        assert table[layer.name][1] == "relu"
        assert table[layer.name][-2:] == [
            f"{measures.universality:.1%}", f"{1 - measures.universality:.1%}"
        ]  # fmt: skip
    code, out, _ = run(capsys, "model.pth", *options, "--no-normalize", "--json")
    raw = measure(network(), load_tensors("model.pth"), make_images("images.npz"), normalize=False)
    assert json.loads(out)["measured"] == json.loads(json.dumps(raw.to_dict()))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    config = CnnConfig(
        model="mlp:width=12,depth=2", optimizer=regdyn.Adam(lr=2e-3, beta1=0.8), lam=2e-2, steps=12,
        batch=20, times=[12], schedule=regdyn.dynamics.schedules.Step((6,)),
    )  # fmt: skip
    train([config], threads=1, checkpoint=place)
    return place


def test_a_checkpoint_says_how_it_was_trained(
    capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    before = digests(checkpoint)
    code, out, err = run(capsys, str(checkpoint), "--steps", "50", "--data", "digits")
    found = inspect(checkpoint)
    assert found.training is not None and found.usual_noise != 1e-5
    (outlook,) = found.look_ahead(steps=50).outlooks
    now = outlook.circumstances
    assert (now.optimizer, now.lam, now.sigma) == (
        regdyn.Adam(lr=2e-3, beta1=0.8), 2e-2, found.usual_noise
    )  # fmt: skip
    assert code == 0 and outlook.lines()[0] in out and "Measured on digits" in out
    assert "Note: the training had a schedule; the prediction takes the learning rate 0.002" in err
    given = ["--lr", "0.01", "--sigma", "1e-3", "--lam", "0.1", "--reg", "decoupled", "--json"]
    code, out, err = run(capsys, str(checkpoint), "--steps", "50", *given)
    (shown,) = json.loads(out)["outlooks"]
    assert (shown["hyperparameters"]["lr"], shown["hyperparameters"]["beta1"]) == (0.01, 0.8)
    assert (shown["lam"], shown["regularization"], shown["sigma"]) == (0.1, "decoupled", 1e-3)
    assert "schedule" not in err
    code, out, _ = run(capsys, str(checkpoint), "--steps", "50", "--opt", "sgd", "--json")
    (shown,) = json.loads(out)["outlooks"]
    assert shown["optimizer"] == "sgd" and shown["hyperparameters"]["lr"] == 0.1
    assert digests(checkpoint) == before


def test_files(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    options = ["--plot", "a.png", "--html", "a.html", "--steps", "9", "--opt", "sgd", "--quiet"]
    code, out, err = run(capsys, "model.pth", "--out", "a.nc", *options)
    found = inspect("model.pth").look_ahead("sgd", steps=9)
    assert (code, out, err) == (0, "", "")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    with xarray.open_dataset("a.nc", engine="h5netcdf") as data:
        assert data.sizes["filter"] == found.filters
    page = Path("a.html").read_text()
    assert f"<p>{found.why().replace('<', '&lt;')}</p>" in page
    assert found.outlooks[0].lines()[1].replace("'", "&#x27;") in page
    assert page.count("<svg") == 1 and "layer2.0.downsample.1" in page
    # Nothing from elsewhere.
    assert not re.search(r'(src|href)="(?!#)', page.replace("xlink:", ""))
    assert f'<td class="bars">{sparkline(found.layers[0].counts)}</td>' in page
    code, _, err = run(capsys, "model.pth", "--out", "a.nc")
    assert code == 2 and "--out must be a new file (--force overwrites)" in err
    assert run(capsys, "model.pth", "--out", "b.json", "--plot", "a.png", "--force", "--quiet")[0] == 0
    assert json.loads(Path("b.json").read_text())["filters"] == found.filters


def test_the_page_with_measurements(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    options = ["--model", "user_code:network", "--data", "images.npz", "--html", "a.html", "--quiet"]
    assert run(capsys, "model.pth", *options)[0] == 0
    page = Path("a.html").read_text()
    assert "<h2>On data</h2>" in page and "selectivity" in page and page.count("<table>") == 2


def test_numbers_that_are_not_finite_end_with_1(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    tensors = network().state_dict()
    tensors["layer1.0.bn1.weight"][2] = float("nan")
    torch.save(tensors, "sick.pt")
    code, out, err = run(capsys, "sick.pt", "--html", "a.html")
    assert code == 1
    assert "Warning: NaN or infinity in layer1.0.bn1.weight (1): such filters are left out" in err
    shown = rows(out, inspect("sick.pt"))
    assert shown["layer1.0.bn1"][1:3] == ["8", "1"] and shown["total"][2] == "1"
    assert "NaN or infinity in layer1.0.bn1.weight (1)" in Path("a.html").read_text()
    assert run(capsys, "sick.pt", "--json")[0] == 1


def test_a_network_without_batch_normalisation(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    model = randomized(Unnormalized())
    torch.save(model.state_dict(), "plain.pt")
    code, out, err = run(capsys, "plain.pt", "--html", "a.html")
    assert code == 0 and "norm" in out and "conv2" in out and "|gamma|" not in out
    assert "Note: There is no batch normalisation with a scale" in err
    assert "There is no batch normalisation" in Path("a.html").read_text()
    (folder / "user_code.py").write_text("from zoo import Unnormalized as network\n")
    options = ["--model", "user_code:network", "--data", "images.npz", "--html", "b.html"]
    code, out, err = run(capsys, "plain.pt", *options)
    assert code == 0 and "Measured on images.npz" in out and "universality" not in out
    assert "<h2>On data</h2>" in Path("b.html").read_text()
    for options in (["--plot", "a.png"], ["--steps", "10"]):
        code, out, err = run(capsys, "plain.pt", *options)
        assert (code, out) == (2, "") and "used with a network that has batch normalisation" in err
    assert not Path("a.png").exists()


def test_a_network_of_nothing_but_nan(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    ruined = {
        name: torch.full_like(value, float("nan")) if value.is_floating_point() else value
        for name, value in network().state_dict().items()
    }
    torch.save(ruined, "ruined.pt")
    code, out, err = run(capsys, "ruined.pt", "--html", "a.html", "--steps", "5")
    assert code == 1 and "–" in out and "Warning: NaN or infinity in conv1.weight (216)" in err
    assert "<svg" not in Path("a.html").read_text()
    code, out, err = run(capsys, "ruined.pt", "--plot", "a.png")
    assert (code, out) == (2, "") and "normalisation with finite numbers" in err


def test_parts_of_a_file(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    both = {"model": network().state_dict(), "model_ema": randomized(ZOO["timm regnet"]()).state_dict()}
    torch.save(both, "both.pt")
    code, out, err = run(capsys, "both.pt")
    assert code == 0 and "layer2.0.bn1" in out
    assert "Note: The weights are those of model; the file also has model_ema (--part)." in err
    code, out, _ = run(capsys, "both.pt", "--part", "model_ema")
    assert code == 0 and "stem.bn" in out and out.startswith("both.pt, model_ema: 3 layers")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("trace"),)


BAD: dict[str, str] = {
    "nothing.pt": r"FILE must be a \.safetensors file.* got nothing\.pt \(No such file or directory\)",
    "evil.pt": r"FILE must be .* got evil\.pt, which holds pickled code or objects \(\S+\) and was not",
    "whole.pt": r"holds a whole module \(torch\.nn\.modules\.linear\.Linear\) and was not unpickled",
    "cut.pt": "FILE .* which is damaged, cut short or no checkpoint",
    "text.pt": "FILE .* which is no checkpoint",
    "empty.pt": "FILE .* which is empty",
    "meta.pt": r"FILE .* which has no numbers for weight and 1 more \(device meta\)",
    "nobody.pt": "FILE .* which holds no tensors by name",
    "vectors.pt": "FILE must be that of a network, with weights of two or more axes",
    ".": r"FILE must be a folder with a checkpoint of regdyn, got \. \(checkpoint\.json: No such file",
    "model.pth --part ema": "--part must be a part of the file that holds tensors",
    "model.pth --threshold 0": r"--threshold must be in \(0, inf\), got 0",
    "model.pth --psbn-alpha -1": r"--psbn-alpha must be in \[0, inf\), got -1",
    "model.pth --steps 0": "--steps must be an integer in",
    "model.pth --steps 5 --sigma -1": r"--sigma must be in \[0, inf\), got -1",
    "model.pth --steps 5 --sigma x": "--sigma must be a number in",
    "model.pth --steps 5 --opt newton": "--opt must be one of sgd, adam",
    "model.pth --steps 5 --lam -1": r"--lam must be in \[0, inf\), got -1",
    "model.pth --steps 5 --reg l1": "--reg must be one of none, l2",
    "model.pth --steps 5 --momentum 0.9": "--momentum must be used with an optimizer that has it",
    "model.pth --steps 5 --schedule warmup": "--schedule must be constant",
    "model.pth --steps 100 --opt sgd --lr 1e4 --lam 1": "the closed form needs a step short enough",
    "model.pth --lam 1e-4": "--lam must be used with --steps",
    "model.pth --no-nesterov": "--nesterov must be used with --steps",
    "model.pth --sigma 1e-4": "--sigma must be used with --steps",
    "model.pth --model user_code:network": "--model must be used with --data",
    "model.pth --data-dir .": "--data-dir must be used with --data",
    "model.pth --no-normalize": "--no-normalize must be used with --data",
    "model.pth --device cpu": "--device must be used with --data",
    "model.pth --data images.npz": "--model must be given with --data",
    "model.pth --data none.npz --model user_code:network": "--data must be a readable",
    "model.pth --data images --model user_code:network": "--data must be one of",
    "model.pth --data grey.npz --model user_code:network":
        r"--data must be images that the network takes, got grey\.npz: .*1 channel.*RuntimeError",
    "model.pth --data images.npz --model user_code:fails": r"\(OSError: no such weights\)",
    "model.pth --data images.npz --model user_code:none": "has no attribute 'none'",
    "model.pth --data images.npz --model user_code": "--model must be package.module:factory",
    "model.pth --data images.npz --model user_code:other":
        r"--model must be the network whose tensors the file holds, got another shape: weight \(8,\)",
    "model.pth --data images.npz --model user_code:network --device tpu":
        "--device must be one of auto",
    "model.pth --threads 2": "--threads must be used with --data",
    "model.pth --data images.npz --model user_code:network --threads 0": "--threads must be an integer",
    "model.pth --json --csv": "--json must be used without --csv",
    "model.pth --out x.csv": "--out must be a file that ends in .nc or .json",
    "model.pth --out no/x.nc": "--out must be in an existing folder",
    "model.pth --plot x.gif": "--plot must be a file that ends in .png, .pdf or .svg",
    "model.pth --html x.txt": "--html must be a file that ends in .html",
    "a.json --out a.json --force": "--out must be another file than what is inspected, got a.json",
    "a.json --out link.json --force": "--out must be another file than what is inspected",
    "a.json --html linked.html --force": "--html must be another file than what is inspected",
    "a.json --frobnicate": "No such option: --frobnicate",
}  # fmt: skip


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input(capsys: pytest.CaptureFixture[str], folder: Path, arguments: str) -> None:
    torch.save({"m": Evil()}, "evil.pt")
    torch.save(nn.Linear(2, 3), "whole.pt")
    torch.save(network().state_dict(), "a.json")
    Path("link.json").symlink_to("a.json")
    Path("linked.html").symlink_to("a.json")
    Path("cut.pt").write_bytes(Path("model.pth").read_bytes()[:-200])
    Path("text.pt").write_text("hello world")
    Path("empty.pt").write_bytes(b"")
    torch.save({"epoch": 3}, "nobody.pt")
    torch.save({"a": torch.ones(3)}, "vectors.pt")
    with torch.device("meta"):
        torch.save(nn.Linear(2, 3).state_dict(), "meta.pt")
    before = digests(folder)
    code, out, err = run(capsys, *shlex.split(arguments))
    assert (code, out) == (2, "")
    assert re.search(BAD[arguments], err) and err.startswith("Error: ")
    assert err.count("\n") == 1 and "Traceback" not in err
    assert digests(folder) == before and not Path("trace").exists()


def test_files_of_a_checkpoint_are_not_written_over(
    capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    before = digests(checkpoint)
    target = checkpoint / "checkpoint.json"
    code, _, err = run(capsys, str(checkpoint), "--out", str(target), "--force")
    assert code == 2 and "--out must be another file than what is inspected" in err
    assert digests(checkpoint) == before


def test_a_missing_library_is_code_3(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from regdyn.cli import main; sys.exit(main(['inspect', 'model.pth']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "Error: torch is not installed: pip install 'regdyn[torch]'\n"


def test_missing_data_are_code_3(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    options = ["--model", "user_code:network", "--data", "cifar10"]
    code, out, err = run(capsys, "model.pth", *options)
    assert (code, out) == (3, "") and "cifar10 needs a folder with cifar-10-binary.tar.gz" in err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "regdyn inspect model.safetensors --plot plane.png" in out
    assert "Ends with 1 if there are NaN or infinities" in out and "code in it is never run" in out

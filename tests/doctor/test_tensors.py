"""Tensors come out of every kind of file, and nothing that is no tensor comes to life."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from regdyn.cnn import CnnConfig, checkpoints, train
from regdyn.doctor import load_tensors
from regdyn.errors import InvalidParameter

WEIGHTS = {
    "conv.weight": torch.arange(54.0).reshape(2, 3, 3, 3),
    "bn.weight": torch.tensor([1.0, 2.0]),
    "bn.num_batches_tracked": torch.tensor(7),
}


def same(tensors: Any, wanted: Any = WEIGHTS) -> bool:
    return set(tensors) == set(wanted) and all(torch.equal(tensors[k], v) for k, v in wanted.items())


def under(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in WEIGHTS.items()}


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InvalidParameter) as raised:
        load_tensors(path, **options)
    message = str(raised.value)
    assert "\n" not in message and raised.value.name in ("file", "part")
    return message


# What can be read


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "m.pth.tar", "m", "old.ckpt"])
def test_formats_are_told_by_their_content(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "m.safetensors":
        save_file(WEIGHTS, path)
    else:
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=name != "old.ckpt")
    before = path.read_bytes()
    saved = load_tensors(path)
    assert same(saved.tensors) and (saved.part, saved.others, saved.notes) == ("", (), ())
    assert saved.ordered == (name != "m.safetensors") and saved.config is None
    assert path.read_bytes() == before


def test_safetensors_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ["layer10.weight", "layer2.weight", "layer2.bias"]
    save_file({name: torch.ones(2) for name in names}, tmp_path / "m.safetensors")
    found = load_tensors(tmp_path / "m.safetensors")
    assert list(found.tensors) == ["layer2.bias", "layer2.weight", "layer10.weight"]


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "anything"])
def test_nested(key: str, tmp_path: Path) -> None:
    content = {
        "epoch": 3,
        "loss": torch.tensor(0.5),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}, "param_groups": [{"lr": 0.1}]},
        "lr_schedulers": {"best": torch.ones(100)},
        key: WEIGHTS,
    }
    torch.save(content, tmp_path / "m.pt")
    saved = load_tensors(tmp_path / "m.pt")
    assert same(saved.tensors) and (saved.part, saved.others) == (key, ())


def test_several_parts(tmp_path: Path) -> None:
    average = {name: value + 1 for name, value in WEIGHTS.items()}
    content = {"model_ema": average, "model": WEIGHTS, "more": {"deep": {"bn.weight": torch.ones(4)}}}
    torch.save(content, tmp_path / "m.pt")
    saved = load_tensors(tmp_path / "m.pt")
    assert same(saved.tensors) and saved.part == "model"
    assert saved.others == ("model_ema", "more.deep")
    assert saved.notes == (
        "The weights are those of model; the file also has model_ema, more.deep (--part)",
    )
    other = load_tensors(tmp_path / "m.pt", "model_ema")
    assert same(other.tensors, average) and other.others == ("model", "more.deep")
    message = refusal(tmp_path / "m.pt", part="ema")
    assert message == (
        "part must be a part of the file that holds tensors (model_ema, model, more.deep), got ema"
    )


def test_without_a_usual_name_the_most_tensors(tmp_path: Path) -> None:
    torch.save({"small": {"w": torch.ones(9)}, "generator": WEIGHTS}, tmp_path / "m.pt")
    assert load_tensors(tmp_path / "m.pt").part == "generator"


@pytest.mark.parametrize(
    "prefix, note",
    [
        ("module.", "Taken off the names: module"),
        ("_orig_mod.", "Taken off the names: _orig_mod"),
        ("_orig_mod.module.", "Taken off the names: _orig_mod and module"),
        ("module._orig_mod.module.", "Taken off the names: _orig_mod and module"),
    ],
)
def test_wrappers(prefix: str, note: str, tmp_path: Path) -> None:
    torch.save(under(prefix), tmp_path / "m.pt")
    saved = load_tensors(tmp_path / "m.pt")
    assert same(saved.tensors) and saved.notes == (note,)


def test_wrappers_of_real_torch(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    averaged = torch.optim.swa_utils.AveragedModel(model)
    torch.save({"model": averaged.state_dict()}, tmp_path / "m.pt")
    assert same(load_tensors(tmp_path / "m.pt").tensors, averaged.module.state_dict())
    torch.save(nn.DataParallel(torch.compile(model, backend="eager")).state_dict(), tmp_path / "m.pt")
    assert same(load_tensors(tmp_path / "m.pt").tensors, model.state_dict())


def test_a_part_of_the_network_called_module(tmp_path: Path) -> None:
    given = {**under("module."), "head.weight": torch.ones(2, 2)}
    torch.save(given, tmp_path / "m.pt")
    assert same(load_tensors(tmp_path / "m.pt").tensors, given)


def test_a_compiled_part(tmp_path: Path) -> None:
    torch.save({"state_dict": under("model._orig_mod.")}, tmp_path / "m.ckpt")
    assert same(load_tensors(tmp_path / "m.ckpt").tensors, under("model."))


def test_arguments_of_a_training_are_no_code(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(lr=0.1), "state_dict": WEIGHTS}, tmp_path / "m.pth")
    assert same(load_tensors(tmp_path / "m.pth").tensors)


def test_tensors_of_a_device_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As saved on a GPU: torch alone would refuse the file on a machine without one."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:3")
    torch.save(WEIGHTS, tmp_path / "m.pt")
    monkeypatch.undo()
    assert b"cuda:3" in (tmp_path / "m.pt").read_bytes()
    saved = load_tensors(tmp_path / "m.pt")
    assert same(saved.tensors)
    assert {value.device.type for value in saved.tensors.values()} == {"cpu"}


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation.*")
def test_other_layouts_and_types(tmp_path: Path) -> None:
    eye = torch.eye(3)
    kinds = {
        "sparse": eye.to_sparse(),
        "quantized": torch.quantize_per_tensor(eye, 0.5, 0, torch.qint8),
        "half": eye.half(),
        "grad": nn.Parameter(eye),
    }
    torch.save(kinds, tmp_path / "m.pt")
    found = load_tensors(tmp_path / "m.pt").tensors
    assert all(np.array_equal(value.float().numpy(), np.eye(3)) for value in found.values())
    assert found["half"].dtype == torch.float16 and not found["grad"].requires_grad


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train([CnnConfig(model="mlp:width=6", steps=3, batch=20)], threads=1, checkpoint=folder)
    return folder


def test_a_checkpoint_of_regdyn(run: Path) -> None:
    wanted = checkpoints.load(run).part("model")
    (file,) = run.glob("*.safetensors")
    for path in (run, run / "checkpoint.json", file):
        saved = load_tensors(path)
        assert same(saved.tensors, wanted) and saved.path == run
        assert saved.config is not None and saved.config["model"] == "mlp:width=6"
        assert {name.split(".")[1] for name in saved.optimizer} == {"exp_avg", "exp_avg_sq", "step"}


# What cannot


class Evil:
    """Would leave a file behind if it were ever unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


class Own(nn.Linear):
    """A network of the user's own."""


def cut(path: Path, **options: Any) -> None:
    torch.save(WEIGHTS, path, **options)
    path.write_bytes(path.read_bytes()[:-300])


def a_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")


def a_flipped_byte(path: Path) -> None:
    torch.save(WEIGHTS, path)
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)


def a_short_safetensors(path: Path) -> None:
    save_file(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-8])


def on_meta(path: Path) -> None:
    with torch.device("meta"):
        torch.save(nn.Linear(2, 3).state_dict(), path)


def scripted(path: Path) -> None:
    # torch says that scripting is on its way out.
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 3), torch.ones(1, 2)), path)


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("hello world " * 9), "is no checkpoint"),
    "other numbers": (lambda path: path.write_bytes(np.ones(9).tobytes()), "is no checkpoint"),
    "a zip": (a_zip, r"is damaged, cut short or no checkpoint \(RuntimeError\)"),
    "cut short": (cut, r"is damaged, cut short or no checkpoint \(RuntimeError\)"),
    "cut short, old": (
        lambda path: cut(path, _use_new_zipfile_serialization=False),
        "is damaged, cut short or no checkpoint",
    ),
    "a flipped byte": (a_flipped_byte, "is damaged"),
    "cut safetensors": (a_short_safetensors, "is damaged or cut short"),
    "a whole module": (
        lambda path: torch.save(nn.Linear(2, 3), path),
        r"holds a whole module \(torch.nn.modules.linear.Linear\) and was not unpickled; save "
        r"model.state_dict\(\) alone",
    ),
    "a module in a dictionary": (
        lambda path: torch.save({"epoch": 1, "model": nn.Linear(2, 3)}, path),
        r"holds a whole module \(torch.nn.modules.linear.Linear\)",
    ),
    "a whole module of the user's": (
        lambda path: torch.save(Own(2, 3), path),
        r"holds pickled code or objects \(\S*Own\) and was not unpickled; save",
    ),
    "arrays of NumPy": (
        lambda path: torch.save({"w": np.ones(3)}, path),
        r"holds pickled code or objects \(numpy\S+\) and was not unpickled",
    ),
    "code of TorchScript": (scripted, "holds code of TorchScript and was not run"),
    "an empty dictionary": (lambda path: torch.save({}, path), "holds no tensors by name"),
    "no tensors": (lambda path: torch.save({"epoch": 3, 4: [1]}, path), "holds no tensors by name"),
    "one tensor": (lambda path: torch.save(torch.ones(3), path), "holds no tensors by name"),
    "a list": (lambda path: torch.save([torch.ones(3)], path), "holds no tensors by name"),
    "numbers alone": (lambda path: torch.save({"x": torch.tensor(1.0)}, path), "holds no tensors"),
    "no safetensors": (lambda path: save_file({}, path), "holds no tensors by name"),
    "on the device meta": (on_meta, r"has no numbers for weight and 1 more \(device meta\)"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_says_why(kind: str, tmp_path: Path) -> None:
    make, why = UNREADABLE[kind]
    path = tmp_path / "m.pt"
    make(path)
    before = path.read_bytes()
    assert re.search(rf"got {re.escape(str(path))}, which {why}", refusal(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("protocol", [None, 2, 4])
def test_pickled_code_is_never_run(protocol: int | None, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "m.pt"
    if protocol is None:
        torch.save({"model": WEIGHTS, "evil": Evil(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(trace), protocol))
    message = refusal(path)
    assert re.search(r"which (holds pickled code or objects \(\S+\)|is damaged or a pickle)", message)
    assert "was not unpickled" in message and not trace.exists()


def test_nothing_is_allowed_afterwards(tmp_path: Path) -> None:
    """What this reader lets through does not become so for the rest of the process."""
    torch.save({"args": argparse.Namespace(lr=0.1), "state_dict": WEIGHTS}, tmp_path / "m.pth")
    before = set(torch.serialization.get_safe_globals())
    load_tensors(tmp_path / "m.pth")
    assert set(torch.serialization.get_safe_globals()) == before
    assert argparse.Namespace not in before


def test_places_without_a_checkpoint(tmp_path: Path, run: Path) -> None:
    assert "got nowhere.pt (No such file or directory)" in refusal(Path("nowhere.pt"))
    assert "(checkpoint.json: No such file or directory)" in refusal(tmp_path)
    (tmp_path / "checkpoint.json").write_text("{")
    assert "checkpoint.json is damaged" in refusal(tmp_path)
    checkpoints.save(tmp_path, under("model."), {"step": 3})
    assert "has no configuration in checkpoint.json" in refusal(tmp_path)
    checkpoints.save(tmp_path, under("other."), {"step": 3, "config": {}})
    assert "holds no tensors by name" in refusal(tmp_path)


def test_a_training_that_failed_is_named(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, under("model."), {"step": 3, "config": {}, "failed": "the loss is nan"})
    assert load_tensors(tmp_path).notes == ("This training failed: the loss is nan",)

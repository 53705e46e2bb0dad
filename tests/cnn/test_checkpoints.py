"""Checkpoints: whole or not there, and nothing in them is code."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regdyn.cnn import checkpoints
from regdyn.errors import InvalidParameter

TENSORS = {
    "model.weight": torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last),
    "model.count": torch.tensor(3),
    "optimizer.0.step": torch.tensor(5.0, dtype=torch.float64),
}


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    checkpoints.save(folder, TENSORS, {"step": 7, "config": {"lam": 0.1}})
    assert checkpoints.exists(folder) and not checkpoints.exists(tmp_path)
    kept = checkpoints.load(folder)
    assert kept.about["step"] == 7 and kept.about["config"] == {"lam": 0.1}
    assert all(torch.equal(kept.tensors[name], value) for name, value in TENSORS.items())
    assert set(kept.part("model")) == {"weight", "count"}


def test_the_next_one_takes_its_place(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, TENSORS, {"step": 7})
    checkpoints.save(tmp_path, {"model.x": torch.ones(2)}, {"step": 9})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint.json",
        "step-000000009.safetensors",
    ]
    assert set(checkpoints.load(tmp_path).tensors) == {"model.x"}


def test_killed_between_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new tensors are there, the index is still the old one: the old checkpoint is whole."""
    checkpoints.save(tmp_path, TENSORS, {"step": 7})

    def killed(*arguments: object, **options: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.json, "dumps", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, {"model.x": torch.ones(2)}, {"step": 9})
    monkeypatch.undo()
    assert (tmp_path / "step-000000009.safetensors").exists()
    assert checkpoints.load(tmp_path).about["step"] == 7
    assert not list(tmp_path.glob(".*"))


def flip_a_bit(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


def cut(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-5])


def remove_tensors(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    file.unlink()


def remove_all(folder: Path) -> None:
    shutil.rmtree(folder)


def spoil_json(folder: Path) -> None:
    (folder / "checkpoint.json").write_text("{")


def drop_key(folder: Path) -> None:
    (folder / "checkpoint.json").write_text('{"format": 1}')


def next_format(folder: Path) -> None:
    index = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps(index | {"format": 2}))


def pickled_tensors(folder: Path) -> None:
    """A checkpoint whose file of tensors is a pickle, with the hash that belongs to it."""
    torch.save({"x": torch.ones(2)}, folder / "evil.safetensors")
    index = json.loads((folder / "checkpoint.json").read_text())
    digest = checkpoints._sha256(folder / "evil.safetensors")
    changed = index | {"tensors": "evil.safetensors", "sha256": digest}
    (folder / "checkpoint.json").write_text(json.dumps(changed))


@pytest.mark.parametrize(
    "damage, message",
    [
        (flip_a_bit, "is damaged"),
        (cut, "is damaged"),
        (remove_tensors, "No such file"),
        (remove_all, "No such file"),
        (spoil_json, "checkpoint.json is damaged"),
        (drop_key, "checkpoint.json is damaged"),
        (next_format, "format 2"),
        (pickled_tensors, "pickled code"),
    ],
)
def test_damage(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    checkpoints.save(folder, TENSORS, {"step": 7})
    damage(folder)
    with pytest.raises(InvalidParameter, match=message) as raised:
        checkpoints.load(folder)
    assert raised.value.name == "checkpoint" and "\n" not in str(raised.value)


class Evil:
    """Would leave a file behind if it were ever unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("new", [True, False])
def test_pickled_code_is_refused(tmp_path: Path, new: bool) -> None:
    trace, file = tmp_path / "trace", tmp_path / "model.pt"
    if new:
        torch.save({"model": Evil(trace)}, file)
    else:
        file.write_bytes(pickle.dumps(Evil(trace)))
    with pytest.raises(InvalidParameter, match="may hold pickled code and was not read"):
        checkpoints.load(file, "start")
    assert not trace.exists()


@pytest.mark.parametrize("pickled", [True, False])
def test_tensors_in_another_format_under_their_checksum(tmp_path: Path, pickled: bool) -> None:
    """Whoever can write the tensors can write the index too."""
    checkpoints.save(tmp_path, TENSORS, {"step": 7})
    trace, file = tmp_path / "trace", tmp_path / "step-000000007.safetensors"
    file.write_bytes(pickle.dumps(Evil(trace)) if pickled else b"nothing")
    index = json.loads((tmp_path / "checkpoint.json").read_text())
    index["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "checkpoint.json").write_text(json.dumps(index))
    kind = "may hold pickled code and was not read" if pickled else "is no safetensors file"
    with pytest.raises(InvalidParameter, match=f"with {file.name}, which {kind}$"):
        checkpoints.load(tmp_path)
    assert not trace.exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidParameter, match="checkpoint must be a folder that can be written"):
        checkpoints.save(tmp_path / "file" / "run", TENSORS, {"step": 1})

"""A slim network comes back from its file as it was, into the code that builds the whole one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from prunable import KINDS, Dense, block, built, head, images, plain, randomized, size_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from regdyn.cnn.models import Setting, make_model
from regdyn.doctor import load_slim, load_tensors, open_network, save_slim, slim
from regdyn.errors import InvalidParameter


def outputs(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        y = model(x)
    return [y["main"], *y["others"]] if isinstance(y, dict) else [y]


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: str, tmp_path: Path) -> None:
    model = randomized(built(kind), seed=1)
    x = images(5, size_of(kind), seed=2)
    slimmed = slim(model, x).model
    save_slim(slimmed, tmp_path / "slim.safetensors")
    again = load_slim(tmp_path / "slim.safetensors", lambda: built(kind, seed=9))
    for ours, theirs in zip(outputs(again, x), outputs(slimmed, x), strict=True):
        assert torch.equal(ours, theirs)
    assert str(again) == str(slimmed)  # what the layers say of their sizes


def test_the_file_is_an_ordinary_one(tmp_path: Path) -> None:
    slimmed = slim(randomized(plain(), seed=1), images(4))
    path = tmp_path / "slim.safetensors"
    save_slim(slimmed.model, path, slimmed.to_dict())
    state = slimmed.model.state_dict()
    tensors = load_tensors(path).tensors
    assert set(tensors) == set(state)
    assert all(torch.equal(tensors[name], value) for name, value in state.items())
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["regdyn.slim"])
    assert about["format"] == 1 and about["removed"] == slimmed.removed
    (first, *_) = about["layers"]
    assert first["name"] == "0.1" and first["before"] - first["after"] == len(first["removed"])


def test_networks_of_regdyn_need_no_code(tmp_path: Path) -> None:
    setting = Setting(channels=3, size=(8, 8), n_classes=4, alpha=0.2)
    model = randomized(make_model("basicnet:width=0.25", setting), seed=1)
    x = images(3, (3, 8, 8))
    slimmed = slim(model, x).model
    about = {"network": {"model": "basicnet:width=0.25", "setting": vars(setting)}}
    save_slim(slimmed, tmp_path / "a.safetensors", about)
    assert torch.equal(load_slim(tmp_path / "a.safetensors")(x), slimmed(x))
    opened = open_network(tmp_path / "a.safetensors")
    assert torch.equal(opened.model(x), slimmed(x)) and opened.about["network"] is not None


def test_a_slim_network_can_be_slimmed_again(tmp_path: Path) -> None:
    model = randomized(plain(), seed=1)
    once = slim(model, images(4)).model
    with torch.no_grad():
        once[1][1].weight[0] = 1e-9
    twice = slim(once, images(4)).model
    save_slim(twice, tmp_path / "a.safetensors")
    again = load_slim(tmp_path / "a.safetensors", plain)
    assert torch.equal(again(images(4)), twice(images(4)))
    assert len(again[1][1].weight) == len(once[1][1].weight) - 1


def test_shared_tensors_are_written_twice(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        model = nn.Sequential(block(3, 8), block(8, 8), block(8, 8), *head(8))
        model[2][0].weight = model[1][0].weight
        return model

    model = randomized(tied(), seed=1)
    save_slim(slim(model, images(4)).model, tmp_path / "a.safetensors")
    again = load_slim(tmp_path / "a.safetensors", tied)
    assert torch.equal(again(images(4)), model(images(4)))


def test_no_file_over_another(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("mine")
    with pytest.raises(InvalidParameter, match="out must be a new file"):
        save_slim(plain(), path)
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]
    save_slim(plain(), path, force=True)
    assert load_file(path)


def wider() -> nn.Module:
    return nn.Sequential(block(3, 4), block(4, 9), block(9, 7), *head(7))


def deeper() -> nn.Module:
    return nn.Sequential(block(3, 8), block(8, 9), block(9, 7), *head(7), nn.Linear(4, 4))


def other() -> nn.Module:
    return nn.Sequential(block(3, 8), Dense(8, 1), *head(9))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, r"model must be given, as the file holds the weights of a network of other code"),
        ("nowhere:f", r"model must be package\.module:factory.*nowhere"),
        (wider, r"model .* 0\.0\.weight has shape \(8, 3, 3, 3\) in the file, \(4, 3, 3, 3\) in the"),
        (deeper, r"6\.weight is missing; 6\.bias is missing$"),
        (other, r"1\.norm\.weight is missing; 1\.norm\.bias is missing; .* and \d+ more$"),
    ],
)
def test_another_network(model: object, message: str, tmp_path: Path) -> None:
    save_slim(randomized(plain(), dead=0), tmp_path / "a.safetensors")
    with pytest.raises(InvalidParameter, match=message):
        load_slim(tmp_path / "a.safetensors", model)  # type: ignore[arg-type]


def test_a_network_that_does_not_fit_stays_as_it_was(tmp_path: Path) -> None:
    save_slim(slim(randomized(plain(), seed=1), images(2)).model, tmp_path / "a.safetensors")
    model = deeper()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InvalidParameter, match="is missing"):
        load_slim(tmp_path / "a.safetensors", model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_files_that_are_no_slim_networks(tmp_path: Path) -> None:
    plain_file, strange = tmp_path / "plain.safetensors", tmp_path / "strange.safetensors"
    save_file(plain().state_dict(), plain_file)
    save_file(plain().state_dict(), strange, {"regdyn.slim": '{"format": 99}'})
    with pytest.raises(InvalidParameter, match="file must be a slim network that regdyn prune wrote"):
        load_slim(plain_file, plain)
    with pytest.raises(InvalidParameter, match="file must be a slim network of regdyn, format 1"):
        load_slim(strange, plain)
    with pytest.raises(InvalidParameter, match=r"file must be .*\(No such file or directory\)"):
        load_slim(tmp_path / "none.safetensors", plain)

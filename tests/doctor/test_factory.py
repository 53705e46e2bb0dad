"""The network of a user's own code, and the weights of a file in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from regdyn.cnn import CnnConfig, train
from regdyn.doctor import load_into, load_tensors, make_model, network_of
from regdyn.errors import InvalidParameter

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)

    @staticmethod
    def make():
        return Net()

def fails():
    raise KeyError("no such depth")

def exits():
    raise SystemExit(3)

def silent():
    raise RuntimeError

def needs(width):
    return Net()

def other():
    return {"a": 1}

instance = Net()
number = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in the current folder, which is not on the path."""
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(Path.cwd()))])
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine_for_tests"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "nets.py").write_text(CODE)
    (folder / "broken.py").write_text("import not_a_library\n")
    (folder / "wrong.py").write_text("def f(:\n")
    (folder / "parses.py").write_text("import argparse\nargparse.ArgumentParser().parse_args(['x'])\n")
    for name in [name for name in sys.modules if name.startswith("mine_for_tests")]:
        monkeypatch.delitem(sys.modules, name)
    return folder


@pytest.mark.parametrize("name", ["Net", "Net.make"])
def test_a_factory_in_the_current_folder(name: str, package: Path) -> None:
    model = make_model(f"mine_for_tests.nets:{name}")
    assert type(model).__name__ == "Net" and isinstance(model, nn.Module)


def test_a_factory_of_a_library() -> None:
    assert isinstance(make_model("torch.nn:Identity"), nn.Identity)


@pytest.mark.parametrize(
    "text, why",
    [
        ("mine_for_tests.nets", "got 'mine_for_tests.nets'"),
        (":Net", "got ':Net'"),
        ("mine_for_tests.nets:", "got 'mine_for_tests.nets:'"),
        ("..:x", "TypeError: "),
        ("mine_for_tests.none:Net", "ModuleNotFoundError: No module named 'mine_for_tests.none'"),
        ("mine_for_tests.nets:Nett", "has no attribute 'Nett'"),
        ("mine_for_tests.nets:number", "which is a int"),
        ("mine_for_tests.nets:instance", "which is a Net"),
        ("mine_for_tests.nets:fails", "(KeyError: 'no such depth')"),
        ("mine_for_tests.nets:exits", "(SystemExit: 3)"),
        ("mine_for_tests.nets:silent", "(RuntimeError)"),
        ("mine_for_tests.nets:needs", "missing 1 required positional argument: 'width'"),
        ("mine_for_tests.nets:other", "which returned a dict"),
        ("mine_for_tests.broken:x", "ModuleNotFoundError: No module named 'not_a_library'"),
        ("mine_for_tests.wrong:f", "SyntaxError: "),
        ("mine_for_tests.parses:f", "SystemExit: 2"),
    ],
)
def test_what_fails_is_one_line(text: str, why: str, package: Path) -> None:
    with pytest.raises(InvalidParameter) as raised:
        make_model(text)
    assert raised.value.name == "model" and why in str(raised.value)
    assert "package.module:factory" in str(raised.value)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def test_weights_are_loaded() -> None:
    source, target = network(), network()
    source[1].running_mean.add_(1)
    assert load_into(target, source.state_dict()) == ""
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_a_name_before_all_names_is_found() -> None:
    """As in checkpoints of Lightning, beside the weights of the loss."""
    source, target = network(), network()
    tensors = {f"model.{name}": value for name, value in source.state_dict().items()}
    assert load_into(target, {"loss.weight": torch.ones(2), **tensors}) == "model."
    assert torch.equal(source[0].weight, target[0].weight)


def test_counts_of_batches_may_be_missing() -> None:
    tensors = {k: v for k, v in network().state_dict().items() if "num_batches" not in k}
    assert load_into(network(), tensors) == ""


def test_what_does_not_fit_is_named_and_nothing_is_loaded() -> None:
    target = network()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    tensors = {name: value + 1 for name, value in before.items()}
    tensors["0.weight"] = torch.ones(4, 3, 5, 5)
    tensors["7.weight"], tensors["8.weight"], tensors["9.weight"] = (torch.ones(1) for _ in range(3))
    del tensors["2.weight"], tensors["2.bias"], tensors["1.bias"]
    with pytest.raises(InvalidParameter) as raised:
        load_into(target, tensors)
    assert str(raised.value) == (
        "model must be the network whose tensors the file holds, got another shape: 0.weight "
        "(4, 3, 5, 5), here (4, 3, 3, 3); not in the file: 1.bias, 2.weight and 1 more; in the file "
        "alone: 7.weight, 8.weight and 1 more"
    )
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize("settings", [{}, {"alpha": 0.1}, {"norm": "none"}, {"activation": "elu"}])
def test_the_network_of_a_checkpoint(settings: dict[str, object], tmp_path: Path) -> None:
    config = CnnConfig(model="mlp:width=6", steps=2, batch=20, **settings)  # type: ignore[arg-type]
    (result,) = train([config], threads=1, checkpoint=tmp_path)
    model = network_of(load_tensors(tmp_path))
    assert model is not None and model.setting == result.model.setting
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.eval()(x), result.model.eval()(x))


def test_a_checkpoint_with_a_damaged_configuration(tmp_path: Path) -> None:
    train([CnnConfig(model="mlp:width=6", steps=2, batch=20)], threads=1, checkpoint=tmp_path)
    saved = load_tensors(tmp_path)
    assert saved.config is not None
    for damage in ({"model": "mlp:width=7"}, {"model": 3}, {"data": {}}, {"norm": "no"}):
        broken = type(saved)(saved.path, saved.tensors, config=saved.config | damage)
        with pytest.raises(InvalidParameter, match=r"^file must be "):
            network_of(broken)
    assert network_of(type(saved)(saved.path, saved.tensors)) is None

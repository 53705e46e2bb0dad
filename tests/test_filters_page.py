"""docs/filters.md: from a trained network to a slim one, by the page's own code and commands."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from regdyn.cli import main

PAGE = (Path(__file__).parent.parent / "docs" / "filters.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^regdyn (.+)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's files, after few steps; decay is hastened by hand."""
    folder = tmp_path_factory.mktemp("page")
    steps = "range(2000)"
    assert CODE[1].count(steps) == 1
    (folder / "net.py").write_text(CODE[0])
    (folder / "train.py").write_text(CODE[1].replace(steps, "range(60)"))
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        sys.modules.pop("net", None)
        torch.set_num_threads(1)
        runpy.run_path("train.py")
        torch.set_num_threads(threads)
        tensors = load_file("model.safetensors")
        for name in ("4.weight", "8.weight"):
            tensors[name][::3] *= 1e-5
            tensors[name.replace("weight", "bias")][:6] = 0.1
        save_file(tensors, "model.safetensors")
    return folder


def test_the_page_has_five_commands() -> None:
    assert [command.split()[0] for command in COMMANDS] == [*["inspect"] * 3, "prune", "inspect"]


def test_from_a_checkpoint_to_a_slim_model(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    monkeypatch.syspath_prepend(str(trained))
    monkeypatch.setattr("regdyn.doctor.cost.ROUNDS", (5, 5))
    monkeypatch.setattr("regdyn.doctor.cost.SHORTEST", 1e-3)
    before = (trained / "model.safetensors").read_bytes()
    printed = []
    for command in COMMANDS:
        assert main(shlex.split(command)) == 0, command
        printed.append(capsys.readouterr().out)
    assert (trained / "model.safetensors").read_bytes() == before
    assert "33 of the 176 filters are dead" in printed[0]
    assert "Within 1,000 further steps of adam, l2 0.01" in printed[1]
    assert "Measured on digits" in printed[2] and "Measured on digits" in printed[4]
    assert (trained / "plane.png").read_bytes()[:4] == b"\x89PNG"
    assert "gamma" in (trained / "report.html").read_text()
    # A filter of each of both layers stays to carry the constants of the others to the borders.
    assert "31 filters removed" in printed[3] and "2 by decay" in printed[4]

    loaded = runpy.run_path(_written("load.py", CODE[2]))["model"]
    whole = runpy.run_path("net.py")["make"]().eval()
    whole.load_state_dict(load_file("model.safetensors"))
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = whole(x)
        assert (loaded(x) - outputs).abs().max() < 1e-3 * outputs.abs().max()
    assert len(loaded[4].weight) == 32 - 10 and len(loaded[8].weight) == 64 - 21


def _written(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name

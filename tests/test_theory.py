"""Every derivation in theory/ runs to its end."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

THEORY = Path(__file__).parent.parent / "theory"


@pytest.mark.parametrize("file", sorted(THEORY.glob("[!_]*.py")), ids=lambda f: f.stem)
def test_derivation(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(file), run_name="__main__")
    assert capsys.readouterr().out.rstrip().endswith("agrees")

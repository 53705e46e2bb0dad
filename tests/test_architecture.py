"""Imports run one way."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "regdyn"

# What a part may import of regdyn besides itself. Anyone may use `COMMON`.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "lazy": set(),
    "parameters": set(),
    "files": set(),
    "optimizers": set(),
    "theorems": set(),
    "dynamics": {"optimizers", "files", "plots"},
    "fingerprint": {"__init__"},
    "executors": {"dynamics"},
    "sweeps": {"dynamics", "executors", "files", "optimizers", "plots", "prediction"},
    "plots": {"dynamics", "files", "nets", "optimizers", "theorems"},
    "nets": {"dynamics", "files", "optimizers", "plots", "theorems"},
    "cnn": {"dynamics", "executors", "files", "nets", "optimizers"},
    "doctor": {
        "cnn", "dynamics", "files", "html", "nets", "optimizers", "plots", "prediction", "theorems",
    },
    "findings": {"nets", "optimizers", "dynamics", "theorems"},
    "verdicts": {"dynamics", "findings", "optimizers", "theorems"},
    "prediction": {"optimizers", "theorems"},
    "html": {"files", "plots"},
    "report": {"files", "html", "plots", "theorems", "verdicts"},
    "cli": {
        "__init__", "cnn", "doctor", "dynamics", "executors", "files", "findings", "html", "nets",
        "optimizers", "plots", "prediction", "report", "sweeps", "theorems", "verdicts",
    },
    "__init__": {
        "dynamics", "executors", "findings", "nets", "optimizers", "prediction", "sweeps", "theorems",
        "verdicts",
    },
    "__main__": {"cli"},
}  # fmt: skip
LOADERS = {"torch.load", "torch.serialization.load"}
COMMON = {"errors", "fingerprint", "lazy", "parameters"}


def imports(file: Path) -> set[str]:
    """Modules that the file imports anywhere, in full."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def part_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_arrows(file: Path) -> None:
    relative = file.relative_to(PACKAGE)
    part = relative.parts[0].removesuffix(".py")
    used = {part_of(module) for module in imports(file) if module.split(".")[0] == "regdyn"}
    assert used <= ALLOWED[part] | COMMON | {part}


def test_nothing_imports_what_stands_outside() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert not {m.split(".")[0] for m in imports(file)} & {
            "theory",
            "figures",
            "tests",
            "benchmarks",
        }


def test_rules_and_theorems_need_no_compiler() -> None:
    for part in ("optimizers", "theorems"):
        for file in (PACKAGE / part).glob("*.py"):
            assert not {m.split(".")[0] for m in imports(file)} & {"numba", "llvmlite", "torch", "jax"}


def test_the_core_needs_no_torch() -> None:
    """Only regdyn/cnn and regdyn/doctor import it, and what reads or draws images there does not."""
    free = {PACKAGE / "cnn" / name for name in ("__init__.py", "data.py", "objects.py")}
    free.add(PACKAGE / "doctor/__init__.py")
    users = {PACKAGE / "cnn", PACKAGE / "doctor"}
    for file in PACKAGE.rglob("*.py"):
        if not users & set(file.parents) or file in free:
            assert "torch" not in {m.split(".")[0] for m in imports(file)}, file


def test_the_core_needs_no_dask() -> None:
    """Nor joblib: what imports them is looked for when it is asked for."""
    for file in PACKAGE.rglob("*.py"):
        if file not in (PACKAGE / "executors/cluster.py", PACKAGE / "executors/loky.py"):
            assert not {m.split(".")[0] for m in imports(file)} & {"dask", "distributed", "joblib"}, (
                file
            )


def test_nothing_is_unpickled() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert "pickle" not in imports(file)
        text = file.read_text()
        assert text.count("np.load(") == text.count("allow_pickle=False")
        assert not re.search(r"from torch(\.serialization)? import .*\bload\b", text)
        nodes = [*ast.walk(ast.parse(text))]
        calls = {node.func: node for node in nodes if isinstance(node, ast.Call)}
        for node in nodes:
            if isinstance(node, ast.Attribute) and ast.unparse(node) in LOADERS:
                assert "weights_only=True" in map(ast.unparse, calls[node].keywords), file

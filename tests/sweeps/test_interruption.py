"""A sweep that is killed, interrupted or out of disk goes on and ends with the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from executors.dask_processes import until
from executors.test_cluster import contents

import regdyn
from regdyn.sweeps import refine
from regdyn.sweeps import store as stores
from regdyn.sweeps.plan import make_plan
from regdyn.sweeps.store import MARK, SESSIONS, Store, open_store

AXES = {"lam": np.geomspace(1e-5, 1e-1, 12).tolist()}
FIXED: dict[str, Any] = {"steps": 200_000, "trajectories": 256, "chunk": 1}
COMMAND = (
    "sweep --lam 1e-5:1e-1:log12 --steps 200000 --trajectories 256 --chunk 1 --out map.zarr --quiet"
)


_SCRIPT = """
import resource, signal, sys
from regdyn.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started the tests
{prepare}
sys.exit(main(sys.argv[1:]))
"""


def start(folder: Path, *more: str, prepare: str = "") -> Any:
    """The command, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT.format(prepare=prepare), *COMMAND.split(), *more],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip


def marks(store: Path) -> list[str]:
    """The chunks that are there."""
    return sorted(file.name for file in (store / MARK).glob("[0-9]*") if file.suffix != ".partial")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store of a sweep that nobody interrupts."""
    out = tmp_path_factory.mktemp("reference") / "map.zarr"
    regdyn.sweep(AXES, out=out, **FIXED)
    return contents(out)


def check_and_finish(store: Path, reference: dict[str, bytes]) -> None:
    """Every chunk that is there is whole, the rest is simulated, and the end is the same."""
    there = marks(store)
    assert 2 <= len(there) < 12
    names = [name for name in reference if name.endswith("/0")]
    for chunk in there:
        for name in names:
            file = name.removesuffix("/0") + f"/{chunk}"
            if file in reference:
                assert (store / file).read_bytes() == reference[file]
    done: list[int] = []
    regdyn.sweep(AXES, out=store, progress=lambda steps, whole: done.append(steps), **FIXED)
    assert sum(done) == (12 - len(there)) * 200_000 * 256
    assert contents(store) == reference


@pytest.mark.parametrize("more", [(), ("--executor", "loky", "--workers", "2"), ("--workers", "1")],
                         ids=["threads", "loky", "dask"])  # fmt: skip
def test_kill(tmp_path: Path, reference: dict[str, bytes], more: tuple[str, ...]) -> None:
    process = start(tmp_path, *more)
    until(lambda: len(marks(tmp_path / "map.zarr")) >= 2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    check_and_finish(tmp_path / "map.zarr", reference)


def test_what_a_killed_command_was_writing_is_removed(
    tmp_path: Path, reference: dict[str, bytes]
) -> None:
    out = tmp_path / "map.zarr"
    regdyn.sweep(AXES, out=out, **FIXED)
    (out / MARK / "3").unlink()
    (out / "mean" / "3.0").write_bytes(b"torn")
    (out / "mean" / "3.0.0123.partial").write_bytes(b"torn")
    regdyn.sweep(AXES, out=out, **FIXED)
    assert contents(out) == reference


@pytest.mark.parametrize("more", [(), ("--executor", "loky", "--workers", "2"), ("--workers", "1")],
                         ids=["threads", "loky", "dask"])  # fmt: skip
def test_ctrl_c(tmp_path: Path, reference: dict[str, bytes], more: tuple[str, ...]) -> None:
    process = start(tmp_path, *more)
    until(lambda: len(marks(tmp_path / "map.zarr")) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    there = len(marks(tmp_path / "map.zarr"))
    message = f"Error: interrupted; {there} of 12 chunks are in map.zarr, and the same command goes on"
    assert err.splitlines() == [f"{message} from them"]
    check_and_finish(tmp_path / "map.zarr", reference)


def test_no_room_left(tmp_path: Path, reference: dict[str, bytes]) -> None:
    # Files of more than so many bytes cannot be written, as on a disk that is full.
    largest = max(len(data) for name, data in reference.items() if name.startswith("abs_quantile/4"))

    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest - 1}, {largest - 1}))"
    regdyn.sweep({"lam": AXES["lam"]}, out=tmp_path / "map.zarr", **FIXED)
    for chunk in ("4", "5", "6"):
        (tmp_path / "map.zarr" / MARK / chunk).unlink()
    (tmp_path / "map.zarr/abs_quantile/4.0.0").unlink()
    (tmp_path / "map.zarr" / SESSIONS).unlink()
    before = marks(tmp_path / "map.zarr")
    process = start(tmp_path, prepare=limit)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("Error: --out must be writable; the chunks in it are whole")
    assert "too large" in line
    assert set(before) <= set(marks(tmp_path / "map.zarr"))
    check_and_finish(tmp_path / "map.zarr", reference)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "regdyn", *COMMAND.replace("map.zarr", "/proc/map.zarr").split()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (process.returncode, process.stdout) == (2, "")
    (line,) = process.stderr.splitlines()
    assert line.startswith("Error: --out must be in a writable folder, got /proc/map.zarr")


def test_a_result_that_does_not_fit_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from regdyn.sweeps.store import needed_bytes

    plan = make_plan(AXES, **FIXED)
    regdyn.sweep(AXES, out=tmp_path / "map.zarr", **FIXED)
    written = sum(len(data) for data in contents(tmp_path / "map.zarr").values())
    assert written < needed_bytes(plan)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed_bytes(plan) - 1))
    with pytest.raises(regdyn.InvalidParameter, match="on a disk with room for it: 12 points take up"):
        regdyn.sweep(AXES, out=tmp_path / "other.zarr", **FIXED)
    assert not (tmp_path / "other.zarr").exists()


def test_two_commands_at_one_store(tmp_path: Path) -> None:
    plan = make_plan(AXES, **FIXED)
    regdyn.sweep(AXES, out=tmp_path / "map.zarr", **FIXED)
    with Store(tmp_path / "map.zarr", plan).locked():
        with pytest.raises(regdyn.InvalidParameter, match="no other command is at work"):
            regdyn.sweep(AXES, out=tmp_path / "map.zarr", **FIXED)


def test_no_store_is_replaced_while_a_command_is_at_work(tmp_path: Path) -> None:
    out = tmp_path / "map.zarr"
    plan, other = (make_plan(AXES, **FIXED, seed=seed) for seed in (0, 1))
    store = open_store(out, plan)
    with store.locked():
        with pytest.raises(regdyn.InvalidParameter, match="no other command is at work"):
            open_store(out, other, force=True)
    open_store(out, other, force=True)
    with pytest.raises(regdyn.InvalidParameter, match="seed is 1 there and 0 here"), store.locked():
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["map.zarr"]


def test_a_store_through_a_link(tmp_path: Path) -> None:
    place = tmp_path / "disk.zarr"
    place.mkdir()
    (tmp_path / "map.zarr").symlink_to(place)
    plan = make_plan({"lam": [0.0, 0.1]}, steps=10)
    for force in (False, True):
        open_store(tmp_path / "map.zarr", plan, force=force)
        assert (tmp_path / "map.zarr").is_symlink() and (place / MARK).is_dir()
        plan = make_plan({"lam": [0.0, 0.2]}, steps=10)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["disk.zarr", "map.zarr"]


def test_two_first_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, other = (make_plan({"lam": [0.0, x]}, steps=10) for x in (0.1, 0.2))
    fill = stores._fill

    def slow(*arguments: Any) -> None:
        fill(*arguments)
        monkeypatch.setattr(stores, "_fill", fill)
        open_store(tmp_path / "map.zarr", other)

    monkeypatch.setattr(stores, "_fill", slow)
    with pytest.raises(regdyn.InvalidParameter, match="out must be in a writable folder"):
        open_store(tmp_path / "map.zarr", plan)
    assert [file.name for file in tmp_path.iterdir()] == ["map.zarr"]
    with open_store(tmp_path / "map.zarr", other).locked():
        pass


def test_a_record_that_was_cut_short(tmp_path: Path) -> None:
    store = open_store(tmp_path / "map.zarr", make_plan({"lam": [0.0, 0.1]}, steps=10))
    store.note(seconds=1.0, trajectory_steps=5)
    with (store.path / SESSIONS).open("a") as stream:
        stream.write('{"seconds": 2.0, "traj')
    store.note(seconds=4.0, trajectory_steps=5)
    sweep = regdyn.Sweep(store.path)
    assert sweep.seconds == 5.0 and len(sweep.sessions) == 2 and "10 trajectory-steps" in repr(sweep)


def test_a_refined_sweep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"lam": np.geomspace(1e-5, 1e-1, 17).tolist()}
    settings: dict[str, Any] = {"steps": 3000, "trajectories": 16, "chunk": 2, "refine": 0.1}
    regdyn.sweep(axes, out=tmp_path / "whole.zarr", **settings)
    saved = refine._save

    for after in (1, 1, 2):
        left = [after]

        def save(*arguments: Any, left: list[int] = left) -> None:
            saved(*arguments)
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(refine, "_save", save)
        with pytest.raises(KeyboardInterrupt):
            regdyn.sweep(axes, out=tmp_path / "map.zarr", **settings)
        assert marks(tmp_path / "map.zarr") == []
    monkeypatch.setattr(refine, "_save", saved)
    regdyn.sweep(axes, out=tmp_path / "map.zarr", **settings)
    assert not (tmp_path / "map.zarr" / refine.JOURNAL).exists()
    assert contents(tmp_path / "map.zarr") == contents(tmp_path / "whole.zarr")
    # Killed before the very last thing.
    (tmp_path / "map.zarr" / refine.JOURNAL).mkdir()
    regdyn.sweep(axes, out=tmp_path / "map.zarr", **settings)
    assert not (tmp_path / "map.zarr" / refine.JOURNAL).exists()

"""Sweeps on dask workers that are processes of their own: killed, late, and of another version."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from executors.dask_processes import cluster, until

import regdyn
from regdyn.executors import cluster as dask_executor
from regdyn.executors import make_executor
from regdyn.executors.cluster import Dask
from regdyn.sweeps.store import SESSIONS

AXES = {"optimizer": ["adam", "sgd"], "lam": np.geomspace(1e-5, 1e-1, 6)}
FIXED: dict[str, Any] = {"steps": 3000, "trajectories": 16, "chunk": 1}


def contents(store: Path) -> dict[str, bytes]:
    """The files of a store whose bits a sweep decides."""
    return {
        str(file.relative_to(store)): file.read_bytes()
        for file in sorted(store.rglob("*"))
        if file.is_file() and file.name not in (SESSIONS, ".lock")
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store as this process makes it."""
    out = tmp_path_factory.mktemp("reference") / "map.zarr"
    regdyn.sweep(AXES, out=out, **FIXED)
    return contents(out)


def test_loky_gives_the_same_bits(tmp_path: Path, reference: dict[str, bytes]) -> None:
    with make_executor("loky", workers=2) as executor:
        regdyn.sweep(AXES, out=tmp_path / "map.zarr", executor=executor, **FIXED)
    assert contents(tmp_path / "map.zarr") == reference


def test_another_seed_gives_other_bits(tmp_path: Path, reference: dict[str, bytes]) -> None:
    regdyn.sweep(AXES, out=tmp_path / "map.zarr", seed=1, **FIXED)
    assert contents(tmp_path / "map.zarr") != reference


def test_a_worker_is_killed_and_another_joins_late(tmp_path: Path, reference: dict[str, bytes]) -> None:
    with cluster(tmp_path) as processes:
        first = processes.worker()
        told = []

        def progress(done: int, whole: int) -> None:
            told.append(done)
            if whole == 2 and first.poll() is None:
                first.send_signal(signal.SIGKILL)
                first.wait()
                # Of what the first one was at, and of all the rest, this one alone can do anything.
                processes.worker()

        with Dask(processes.address) as executor:
            sweep = regdyn.sweep(
                AXES, out=tmp_path / "map.zarr", executor=executor, progress=progress, **FIXED
            )
        assert first.returncode == -signal.SIGKILL
        assert sum(told) == 12 * 3000 * 16
        assert sweep.sessions[0]["executor"] == "dask"
    assert contents(tmp_path / "map.zarr") == reference


def test_a_late_worker_of_another_version_is_sent_away(tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("import regdyn.fingerprint\nregdyn.fingerprint.fingerprint = lambda: 'regdyn 9'\n")

    def work(item: int, threads: int, tell: Any) -> tuple[int, int]:
        import os

        return item, os.getpid()

    with cluster(tmp_path) as processes:
        first = processes.worker()
        late = []
        with Dask(processes.address) as executor:

            def items() -> Any:
                yield 0
                late.append(processes.worker(other))
                until(lambda: executor.description.startswith("2 dask workers"))
                yield from range(1, 20)

            found = dict(executor.run(work, items()))
            assert found == {item: (item, first.pid) for item in range(20)}
            until(lambda: late[0].poll() is not None)


def test_a_worker_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster(tmp_path) as processes:
        processes.worker()
        monkeypatch.setattr(dask_executor, "fingerprint", lambda: "regdyn 9.9")
        with pytest.raises(regdyn.InvalidParameter, match=r"workers with regdyn 9\.9, got .*regdyn 0"):
            Dask(processes.address)


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_executor, "TIMEOUT", 0.5)
    for address, reason in (
        ("tcp://127.0.0.1:9", "no answer within 0.5 s"),
        ("nonsense://x:1", "no such kind of address"),
        ("nonsense", "no such kind of address"),
        ("localhost:port", "no such kind of address"),
        ("tcp://localhost", "no such kind of address"),
        ("", "no such kind of address"),
    ):
        with pytest.raises(regdyn.InvalidParameter, match=reason):
            Dask(address)


def test_ctrl_c_waits_while_processes_start() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    ask = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    reached = []
    try:
        with pytest.raises(KeyboardInterrupt):
            with dask_executor._deaf_to_ctrl_c():
                signal.raise_signal(signal.SIGINT)
                child = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
                reached.append(child.stdout.strip())
        child = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
        reached.append(child.stdout.strip())
        with dask_executor._deaf_to_ctrl_c():
            reached.append("nothing was sent")
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached == ["True", "False", "nothing was sent"]


def test_no_worker_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_executor, "NOBODY", 2.0)
    with cluster(tmp_path) as processes:
        first = processes.worker()
        with Dask(processes.address) as executor:

            def progress(done: int, whole: int) -> None:
                first.kill()

            with pytest.raises(regdyn.WorkerLost, match="for 2 s no worker has been there"):
                regdyn.sweep(
                    AXES, out=tmp_path / "map.zarr", executor=executor, progress=progress, **FIXED
                )


def test_the_last_worker_dies_with_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result lies in the worker until it is fetched."""
    monkeypatch.setattr(dask_executor, "NOBODY", 2.0)
    wait = Dask._next

    with cluster(tmp_path) as processes:
        worker = processes.worker()

        def killed_at_the_end(executor: Dask, ended: Any) -> Any:
            future = wait(executor, ended)
            worker.kill()
            worker.wait()
            return future

        monkeypatch.setattr(Dask, "_next", killed_at_the_end)
        with Dask(processes.address) as executor:
            with pytest.raises(regdyn.WorkerLost, match="for 2 s no worker has been there"):
                regdyn.sweep(AXES, out=tmp_path / "map.zarr", executor=executor, **FIXED)


def test_runs_at_one_scheduler_do_not_hear_each_other(tmp_path: Path) -> None:
    def work(item: str, threads: int, tell: Any) -> str:
        for _ in range(20):
            tell(item)
        return item

    with cluster(tmp_path) as processes:
        processes.worker()
        heard: dict[str, list[Any]] = {"a": [], "b": []}
        with Dask(processes.address) as one, Dask(processes.address) as other:
            runs = [
                executor.run(work, [name] * 3, lambda index, what, name=name: heard[name].append(what))
                for executor, name in ((one, "a"), (other, "b"))
            ]
            for _ in range(3):
                for run in runs:
                    next(run)
            until(lambda: all(heard.values()))
            for run in runs:
                run.close()
    assert {name: set(what) for name, what in heard.items()} == {"a": {"a"}, "b": {"b"}}


def test_loky_leaves_no_thread_behind() -> None:
    def work(item: int, threads: int, tell: Any) -> int:
        tell(item)
        return item

    def listening() -> int:
        return sum("listen" in thread.name for thread in threading.enumerate())

    before = listening()
    with make_executor("loky", workers=2) as executor:
        for _ in range(3):
            assert sorted(executor.run(work, range(3))) == [(i, i) for i in range(3)]
    assert listening() == before


def test_a_scheduler_without_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(tmp_path) as processes:
        monkeypatch.setattr(dask_executor, "TIMEOUT", 1.0)
        with pytest.raises(regdyn.InvalidParameter, match="which has none"):
            Dask(processes.address)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_scheduler_that_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(tmp_path) as processes:
        processes.worker()
        with Dask(processes.address) as executor:
            monkeypatch.setattr(dask_executor, "TIMEOUT", 1.0)

            def progress(done: int, whole: int) -> None:
                processes.scheduler.send_signal(signal.SIGKILL)
                processes.scheduler.wait()

            with pytest.raises(regdyn.WorkerLost, match="the scheduler has gone"):
                regdyn.sweep(
                    AXES, out=tmp_path / "map.zarr", executor=executor, progress=progress, **FIXED
                )
    regdyn.sweep(AXES, out=tmp_path / "map.zarr", **FIXED)


@pytest.mark.parametrize(
    "settings, wanted",
    [
        ({"name": "spark"}, "executor must be one of threads, loky, dask"),
        ({"name": "threads", "workers": 2}, "workers must be used with executor loky or dask"),
        ({"name": "loky", "scheduler": "tcp://x:1"}, "scheduler must be used with executor dask"),
        ({"scheduler": "tcp://x:1", "workers": 2}, "workers must be left out with a scheduler"),
        ({"workers": 0}, r"workers must be an integer in \[1, 1024\]"),
        ({"name": "loky", "workers": 2, "threads": 2}, "threads must be left out with executor loky"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], wanted: str) -> None:
    with pytest.raises(regdyn.InvalidParameter, match=wanted):
        make_executor(**settings)

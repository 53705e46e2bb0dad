"""Runs in other processes: the same bits from every executor, and a GPU for each worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cnn.test_training import config

import regdyn
from regdyn.cnn import _workers
from regdyn.cnn.result import Record
from regdyn.cnn.training import train
from regdyn.executors import make_executor
from regdyn.nets.config import Snapshot

CONFIGS = [config(seed=seed) for seed in range(3)]


@pytest.mark.parametrize("name", ["loky", "dask"])
def test_every_executor_gives_the_same(name: str, tmp_path: Path) -> None:
    told: list[Snapshot] = []
    watched: list[tuple[int, int]] = []

    def watch(run: int, record: Record) -> None:
        watched.append((run, record.step))

    with make_executor(name, workers=2) as executor:
        results = train(
            CONFIGS, executor=executor, progress=told.append, watch=watch, checkpoint=tmp_path
        )
    alone = [train([each], threads=1)[0] for each in CONFIGS]
    for result, single in zip(results, alone):
        assert result.config is not None and result.config.seed == single.config.seed
        assert np.array_equal(result.loss, single.loss, equal_nan=True)
        for a, b in zip(result.gamma, single.gamma):
            assert np.array_equal(a, b)
    assert sorted((each.run, each.step) for each in told) == [
        (i, t) for i in range(3) for t in (0, 8, 20)
    ]
    assert sorted(watched) == [(i, t) for i in range(3) for t in (0, 8, 20)]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run_0", "run_1", "run_2"]


def test_a_run_goes_on_from_its_checkpoint_on_a_worker(tmp_path: Path) -> None:
    train(CONFIGS, threads=1, checkpoint=tmp_path)
    told: list[Snapshot] = []
    with make_executor("loky", workers=2) as executor:
        train(CONFIGS, executor=executor, checkpoint=tmp_path, resume=True, progress=told.append)
        assert told == []  # all of them were at their end
        with pytest.raises(regdyn.InvalidParameter, match="checkpoint must be a folder without"):
            train(CONFIGS, executor=executor, checkpoint=tmp_path)


_CLAIM = """
import sys, time
from regdyn.cnn._workers import _own_gpu
print(_own_gpu(2, sys.argv[1]), flush=True)
sys.stdin.read()
"""


def test_each_process_has_a_gpu_of_its_own(tmp_path: Path) -> None:
    def claim() -> Any:
        return subprocess.Popen(
            [sys.executable, "-c", _CLAIM, str(tmp_path)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    processes = [claim(), claim()]
    try:
        held = [int(process.stdout.readline()) for process in processes]
        assert sorted(held) == [0, 1]
        # None is left: any of them, rather than an error.
        assert _workers._own_gpu(2, str(tmp_path)) in (0, 1)
        processes[0].kill()
        processes[0].wait()
        processes.append(claim())
        assert int(processes[2].stdout.readline()) == held[0]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_worker_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workers.torch.cuda, "device_count", lambda: 0)
    job = _workers.Job(SimpleNamespace(device="cuda"), None, False, False)
    with pytest.raises(regdyn.WorkerLost, match="a worker has no GPU"):
        _workers._train(job, 1, lambda message: None)

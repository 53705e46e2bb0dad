"""No decision of the engine changes a bit of a result."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import regdyn
from regdyn.dynamics import engine
from regdyn.dynamics.engine import CHUNK, SNAPSHOTS_PER_CALL, plan_calls
from regdyn.dynamics.result import ScalarResult

BASE: dict[str, Any] = dict(
    optimizer="adam", lam=1e-3, steps=1003, trajectories=1500, keep=7, threshold=0.05, seed=11
)

NOISES = {
    "gaussian": regdyn.Gaussian(),
    "gated": regdyn.Gated(0.2),
    "student-t": regdyn.StudentT(4.0),
    "trace": regdyn.Trace(np.random.default_rng(0).normal(size=(1003, 1500)) * 1e-4),
    "none": regdyn.NoNoise(),
}


def differences(a: ScalarResult, b: ScalarResult) -> list[str]:
    """Names of the numbers that are not the same bit for bit."""
    skipped = {"config", "seconds", "compile_seconds", "provenance"}
    return [
        field.name
        for field in dataclasses.fields(ScalarResult)
        if field.name not in skipped
        and not np.array_equal(getattr(a, field.name), getattr(b, field.name), equal_nan=True)
    ]


@pytest.mark.parametrize("noise", NOISES)
def test_threads_and_batches_change_nothing(noise: str) -> None:
    config = regdyn.ScalarConfig(**BASE, noise=NOISES[noise])
    reference = config.run(threads=1)
    assert differences(reference, config.run(threads=3)) == []
    assert differences(reference, config.run(threads=2, batch_size=256)) == []
    assert differences(reference, config.run(batch_size=700)) == []


@pytest.mark.parametrize("steps_per_call, snapshots", [(64, 3), (16, 1), (4096, 100)])
def test_calls_change_nothing(
    monkeypatch: pytest.MonkeyPatch, steps_per_call: int, snapshots: int
) -> None:
    config = regdyn.ScalarConfig(**BASE, times=[0, 1, 2, 3, 9, 10, 500, 501, 1002, 1003])
    reference = config.run()
    monkeypatch.setattr(engine, "STEPS_PER_CALL", steps_per_call)
    monkeypatch.setattr(engine, "SNAPSHOTS_PER_CALL", max(snapshots, CHUNK))
    assert differences(reference, config.run()) == []


def test_another_seed_is_seen() -> None:
    a = regdyn.ScalarConfig(**BASE).run()
    b = regdyn.ScalarConfig(**BASE | {"seed": 12}).run()
    assert {"final", "mean", "paths"} <= set(differences(a, b))


@pytest.mark.parametrize("noise", ["gaussian", "gated", "student-t"])
def test_first_trajectories_do_not_depend_on_the_others(noise: str) -> None:
    many = regdyn.ScalarConfig(**BASE, noise=NOISES[noise]).run()
    few = regdyn.ScalarConfig(**BASE | {"trajectories": 300}, noise=NOISES[noise]).run()
    for name in ("final", "first_passage", "steps_below", "diverged"):
        assert np.array_equal(getattr(few, name), getattr(many, name)[:300])
    assert np.array_equal(few.paths, many.paths)


def test_a_shorter_run_is_the_start_of_a_longer_one() -> None:
    long = regdyn.ScalarConfig(**BASE).run()
    short = regdyn.ScalarConfig(**BASE | {"steps": 501}).run()
    assert np.array_equal(short.paths, long.paths[:502])
    assert np.array_equal(short.mean[:20], long.mean[:20])


def test_recorded_times_do_not_disturb_the_run() -> None:
    every = regdyn.ScalarConfig(**BASE, times=np.arange(1004)).run()
    none = regdyn.ScalarConfig(**BASE, times=[1003]).run()
    assert np.array_equal(every.final, none.final)
    assert every.mean[-1] == none.mean[-1]
    assert np.array_equal(every.histogram[-1], none.histogram[-1])


@pytest.mark.parametrize("steps", [1, 7, 8, 4096, 10_001])
@pytest.mark.parametrize("every", [1, 3, 100, 100_000])
def test_calls_cover_every_step_once(steps: int, every: int) -> None:
    times = np.arange(0, steps + 1, every)
    calls = list(plan_calls(steps, times))
    assert [call.t0 for call in calls] == [0, *(c.t0 + c.length for c in calls[:-1])]
    assert calls[-1].t0 + calls[-1].length == steps
    assert all(call.length % CHUNK == 0 for call in calls[:-1])
    assert all(len(call.records) <= SNAPSHOTS_PER_CALL + 1 for call in calls)
    assert np.array_equal(np.concatenate([c.records for c in calls]), times)
    assert all(
        np.array_equal(times[c.first_record : c.first_record + len(c.records)], c.records)
        for c in calls
    )


def test_progress_counts_every_step() -> None:
    done: list[int] = []
    regdyn.ScalarConfig(**BASE).run(progress=done.append, batch_size=512)
    assert sum(done) == 1003 * 1500


def test_too_much_memory_is_refused_beforehand() -> None:
    config = regdyn.ScalarConfig(trajectories=10**12)
    with pytest.raises(regdyn.InvalidParameter, match=r"trajectories must be .* GiB are free"):
        config.run()


@pytest.mark.parametrize("threads", [0, -1, 1.5])
def test_bad_thread_counts(threads: Any) -> None:
    with pytest.raises(regdyn.InvalidParameter, match="threads must be an integer"):
        regdyn.ScalarConfig(**BASE).run(threads=threads)


def test_an_interrupted_run_stops() -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        regdyn.ScalarConfig(**BASE | {"steps": 100_000}).run(progress=interrupt)


FORK = """
import os, signal
import regdyn

config = regdyn.ScalarConfig(steps=100, trajectories=2000)
mean = config.run(threads=2).mean
child = os.fork()
if child == 0:
    signal.alarm(60)  # ends a process that waits for threads which it does not have
    os._exit(not (config.run(threads=2).mean == mean).all())
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_makes_its_own_threads() -> None:
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=False)
    assert run.returncode == 0

"""How much does a grid of small ensembles cost, next to one large ensemble?

    python benchmarks/sweeps.py [--quick] [--out FILE.md]

Every comparison is a ratio of two programs that take turns. What is measured: points of parameter space
in one call of the kernel, the whole way into a store, two dask workers against one, the overhead of a
chunk, and the memory of sweeps of growing size.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import Interference, Paired, Report, Run, cpu_name, processors, take_turns, versions

import regdyn
from regdyn.executors import Executor
from regdyn.executors.cluster import Dask
from regdyn.sweeps.plan import make_plan

SIDE, TRAJECTORIES = 61, 64
POINTS = SIDE * SIDE

GRID_TIMES, BETAS_TIMES = 1.3, 1.6
"""Wanted: a grid takes at most so many times as long as one ensemble of its size."""

STORE_SHARE = 0.9
"""Wanted: throughput of a sweep over that of the bare engine, at least."""

WORKERS_TIMES = 1.7
"""Wanted: two workers with one thread each are so many times as fast as one, at least."""

MEMORY_MIB = 50.0
"""Wanted: a hundred times as many points take at most so much more memory."""


def progress(what: str) -> None:
    print(f"… {what}", file=sys.stderr, flush=True)


def axes_of(names: Sequence[str]) -> dict[str, Any]:
    """Two axes of `SIDE` values."""
    values = {
        "lam": np.geomspace(1e-7, 1e-1, SIDE),
        "sigma": np.geomspace(1e-8, 1e-2, SIDE),
        "beta1": np.linspace(0.5, 0.95, SIDE),
        "beta2": np.linspace(0.9, 0.999, SIDE),
    }
    return {name: values[name] for name in names}


def grid_run(axes: dict[str, Any], steps: int, **fixed: Any) -> Run:
    """All points in one task, without a store; theta is the median at the end."""

    def run(seed: int) -> tuple[float, np.ndarray]:
        begin = time.perf_counter()
        plan = make_plan(axes, steps=steps, seed=seed, chunk=10**6, **fixed)
        arrays = plan.task(0).run()
        return time.perf_counter() - begin, arrays["mean"][:, -1]

    run(0)
    return run


def ensemble_run(steps: int, trajectories: int, **fixed: Any) -> Run:
    """One ensemble, recorded as often as a sweep."""
    times = make_plan({}, steps=steps).times

    def run(seed: int) -> tuple[float, np.ndarray]:
        begin = time.perf_counter()
        result = regdyn.simulate(
            steps=steps, trajectories=trajectories, times=times, seed=seed, **fixed
        )
        return time.perf_counter() - begin, result.final

    run(0)
    return run


def sweep_run(
    folder: str, axes: dict[str, Any], steps: int, executor: Executor | None = None, **fixed: Any
) -> Run:
    """A whole sweep into a store."""

    def run(seed: int) -> tuple[float, np.ndarray]:
        out = Path(folder, "bench.zarr")
        shutil.rmtree(out, ignore_errors=True)
        begin = time.perf_counter()
        regdyn.sweep(axes, out=out, steps=steps, seed=seed, executor=executor, **fixed)
        return time.perf_counter() - begin, np.zeros(1)

    run(0)
    return run


def rate(paired: Paired, which: int, steps: int) -> str:
    """Million trajectory-steps per second of a grid of `POINTS`."""
    return f"{POINTS * TRAJECTORIES * steps / paired.seconds[which] / 1e6:.0f}"


def kernel_calls(report: Report, rounds: int, quick: bool) -> None:
    """Section 1: points in one call of the kernel."""
    report.write(
        "## A grid of small ensembles over one large one",
        "",
        f"{SIDE} x {SIDE} points of {TRAJECTORIES} trajectories, configurations and summaries "
        f"included, over `simulate` with {POINTS * TRAJECTORIES:,} trajectories: seconds over seconds.",
    )
    rows = []
    for optimizer, names, most, steps in (
        ("adam", ("lam", "sigma"), GRID_TIMES, 2000),
        ("adam", ("lam", "sigma"), GRID_TIMES, 20_000),
        ("sgd", ("lam", "sigma"), GRID_TIMES, 20_000),
        ("adam", ("beta1", "beta2"), BETAS_TIMES, 2000),
        ("adam", ("beta1", "beta2"), BETAS_TIMES, 20_000),
    ):
        if quick and steps > 2000:
            continue
        progress(f"{optimizer}, {names}, {steps} steps")
        grid = grid_run(axes_of(names), steps, optimizer=optimizer)
        one = ensemble_run(steps, POINTS * TRAJECTORIES, optimizer=optimizer)
        (pair,) = take_turns([(one, grid)], rounds)
        rows.append([
            optimizer, " x ".join(names), f"{steps:,}", rate(pair, 1, steps), rate(pair, 0, steps),
            f"{pair.median:.2f}", pair.spread,
            *report.want(f"{optimizer}, {' x '.join(names)}, {steps:,} steps", f"≤ {most}",
                         pair.median <= most),
        ])  # fmt: skip
    report.table(
        ["rule", "axes", "steps", "grid, million/s", "ensemble, million/s", "ratio",
         "least – greatest", "wanted", "met"], rows,
    )  # fmt: skip


def stores(report: Report, rounds: int, steps: int) -> None:
    """Section 2: the whole way into a store."""
    progress("sweeps over the bare engine")
    report.write(
        "## A sweep over the bare engine",
        "",
        f"`regdyn.sweep` over lam and sigma into a store, {steps:,} steps, over `simulate` of the same "
        "size: throughput over throughput.",
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for optimizer in ("adam", "sgd", "amsgrad"):
            run = sweep_run(folder, axes_of(("lam", "sigma")), steps, optimizer=optimizer)
            one = ensemble_run(steps, POINTS * TRAJECTORIES, optimizer=optimizer)
            (pair,) = take_turns([(run, one)], rounds)
            rows.append([
                optimizer, rate(pair, 0, steps), rate(pair, 1, steps), f"{pair.median:.2f}",
                pair.spread, *report.want(f"{optimizer}: sweep over engine", f"≥ {STORE_SHARE}",
                             pair.median >= STORE_SHARE),
            ])  # fmt: skip
        report.table(
            ["rule", "sweep, million/s", "engine, million/s", "ratio", "least – greatest", "wanted",
             "met"], rows,
        )  # fmt: skip


def chunks(report: Report, rounds: int) -> None:
    """Section 3: the overhead of a chunk."""
    progress("overhead of a chunk")
    axes = axes_of(("lam", "sigma"))
    with tempfile.TemporaryDirectory() as folder:
        many = sweep_run(folder, axes, 100, chunk=SIDE)
        few = sweep_run(folder, axes, 100, chunk=POINTS)
        (pair,) = take_turns([(few, many)], rounds)
    overheads = [(b[0] - a[0]) / (SIDE - 1) for a, b in zip(pair.a, pair.b)]
    plan = make_plan(axes, steps=20_000)
    report.write(
        "## Overhead of a chunk",
        "",
        f"The same sweep in {SIDE} chunks and in one, per chunk: "
        f"{1e3 * statistics.median(overheads):.0f} ms ({1e3 * min(overheads):.0f} to "
        f"{1e3 * max(overheads):.0f}), with the {len(plan.system.observables) + 1} files of a chunk "
        f"written while the next one is computed. At 20,000 steps such a grid has {len(plan.chunks)} "
        "chunks.",
        "",
    )


def workers(report: Report, rounds: int, steps: int) -> None:
    """Section 4: dask workers with one thread each."""
    progress("dask workers")
    report.write(
        "## Two dask workers over one",
        "",
        f"The sweep of {steps:,} steps on local clusters of one and of two workers with one thread "
        "each, in turns: throughput over throughput.",
    )
    axes = axes_of(("lam", "sigma"))
    with tempfile.TemporaryDirectory() as folder, Dask(workers=1) as one, Dask(workers=2) as two:
        runs = [sweep_run(folder, axes, steps, executor) for executor in (two, one)]
        (pair,) = take_turns([(runs[0], runs[1])], rounds)
    report.table(
        ["two, million/s", "one, million/s", "ratio", "least – greatest", "wanted", "met"],
        [[rate(pair, 0, steps), rate(pair, 1, steps), f"{pair.median:.2f}", pair.spread,
          *report.want("two dask workers over one", f"≥ {WORKERS_TIMES}",
                       pair.median >= WORKERS_TIMES)]],
    )  # fmt: skip


_MEMORY = """
import resource, sys, tempfile, numpy as np, regdyn
count = int(sys.argv[1])
axes = {"lam": np.geomspace(1e-7, 1e-1, count), "sigma": np.geomspace(1e-8, 1e-2, 100)}
with tempfile.TemporaryDirectory() as folder:
    regdyn.sweep(axes, out=folder + "/m.zarr", steps=32, trajectories=16, chunk=1000, times=[32])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def memory(report: Report, quick: bool) -> None:
    """Section 5: peak memory of a process over the number of points."""
    progress("memory")
    report.write(
        "## Memory", "",
        "Peak memory of a process that sweeps so many points of 16 trajectories and 32 steps in chunks "
        "of 1,000.",
    )  # fmt: skip
    counts = (100, 1000) if quick else (100, 1000, 10_000)
    peaks = {
        count: float(subprocess.run(
            [sys.executable, "-c", _MEMORY, str(count)], check=True, capture_output=True, text=True
        ).stdout)
        for count in counts
    }  # fmt: skip
    growth = peaks[counts[-1]] - peaks[counts[0]]
    rows = [[f"{100 * count:,}", f"{peak:.0f} MiB"] for count, peak in peaks.items()]
    report.table(["points", "peak memory"], rows)
    report.want(
        f"memory of {100 * counts[-1]:,} over {100 * counts[0]:,} points: {growth:+.0f} MiB",
        f"≤ {MEMORY_MIB:.0f} MiB", growth <= MEMORY_MIB,
    )  # fmt: skip


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and steps")
    parser.add_argument("--out", type=Path, metavar="FILE.md")
    options = parser.parse_args()
    rounds, steps = (3, 4000) if options.quick else (7, 20_000)
    report, others = Report(), Interference()
    report.write(
        f"# Benchmark of sweeps{' (quick)' if options.quick else ''}", "",
        f"- {cpu_name()}, {processors()} logical processors",
        f"- {versions()}",
        f"- float64; medians of {rounds} pairs", "",
    )  # fmt: skip
    kernel_calls(report, rounds, options.quick)
    stores(report, rounds, steps)
    chunks(report, rounds)
    workers(report, rounds, steps)
    memory(report, options.quick)
    report.finish(others, options.out)


if __name__ == "__main__":
    main()

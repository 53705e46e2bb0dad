"""A sweep: grid x executor x store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from numpy.typing import ArrayLike, NDArray

from regdyn.dynamics.result import provenance
from regdyn.executors import Executor, InProcess
from regdyn.executors.base import Tally, Tell
from regdyn.sweeps.plan import Plan, Task, make_plan
from regdyn.sweeps.refine import refine_map, remove_journal
from regdyn.sweeps.result import Sweep
from regdyn.sweeps.store import Store, open_store

Progress = Callable[[int, int], None]
"""Told trajectory-steps done since the last call, and how many chunks are whole now."""

TELL_EVERY = 0.2
"""Seconds between two messages of a worker."""


def ignore(*told: object) -> None:
    """What is told unless the caller asks for more."""


def sweep(
    axes: Mapping[str, Sequence[Any] | NDArray],
    *,
    out: str | os.PathLike[str],
    system: str = "scalar",
    zip: Sequence[Sequence[str]] = (),
    times: ArrayLike | None = None,
    chunk: int | None = None,
    refine: float | None = None,
    most_trajectories: int | None = None,
    executor: Executor | None = None,
    force: bool = False,
    progress: Progress = ignore,
    notify_compile: Callable[[str], None] = ignore,
    **fixed: Any,
) -> Sweep:
    """Simulate every point of a grid and keep what becomes of it in a zarr store.

    A point is one ensemble: its numbers are those of `regdyn.simulate` (or `simulate_neuron`) with the
    same parameters and seed. All points see the same noise unless `seed` is an axis: they differ by
    their parameters and not by chance.

    Parameters
    ----------
    axes
        Values of each parameter that varies, by name, slowest first: optimizer, regularization, lam, lr
        and any other hyperparameter, schedule, steps, trajectories, threshold, dtype, seed; for the
        scalar system noise, sigma, burn_in_sigma, burn_in_steps, gate_probability, dof, signal, target,
        theta0; for the neuron system gamma0, beta0, c, batch, psbn_alpha, antithetic.
    out
        A folder that ends in .zarr. One that holds part of the same sweep is completed.
    system
        "scalar" (one weight) or "neuron" (one BN+ReLU unit).
    zip
        Groups of axes that take their values together instead of each with each.
    times
        Recorded steps; 0, the numbers 1, 2, 5 of each decade and the last step where None.
    chunk
        Points that are written together, about; a few seconds of work where None.
    refine
        Spend trajectories where the map needs them until ln of the median first passage is known to
        this precision (0.05: to 5 percent): see `regdyn.sweeps.refine`. Interpolated points have 0
        trajectories. The map must fit into memory.
    most_trajectories
        Of a point then, 4,096 unless told.
    executor
        Who does it: see `regdyn.make_executor`. All threads of this process where None.
    force
        Replace the store of another sweep.
    progress
        Told how far it is.
    notify_compile
        Told the optimizer whose kernel must be compiled in this process.
    fixed
        Parameters that do not vary; 64 trajectories a point and 10,000 steps unless told.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used.
    WorkerLost
        When workers died and nobody took their work; what is done is kept.

    >>> import regdyn
    >>> grid = {"lam": [1e-4, 1e-3], "sigma": [1e-6, 1e-5, 1e-4]}
    >>> sweep = regdyn.sweep(grid, out="map.zarr", steps=2000)  # doctest: +SKIP
    """
    plan = make_plan(
        axes, system=system, zip=zip, times=times, chunk=chunk, refine=refine,
        most_trajectories=most_trajectories, **fixed,
    )  # fmt: skip
    store = open_store(out, plan, force)
    with store.locked():
        complete(store, plan, executor or InProcess(), progress, notify_compile)
    return Sweep(store.path)


def complete(
    store: Store,
    plan: Plan,
    executor: Executor,
    progress: Progress = ignore,
    notify_compile: Callable[[str], None] = ignore,
) -> None:
    """Simulate and write what is not there; see `sweep`."""
    missing = store.missing()
    if not missing:
        remove_journal(store)  # of a refinement that was killed at its very end
        return
    begin, started = time.perf_counter(), datetime.now(UTC)
    workers = executor.description
    done = 0

    def count(steps: int, whole: int) -> None:
        nonlocal done
        done += steps
        progress(steps, whole)

    saving = None
    try:
        if isinstance(executor, InProcess):
            # In the caller's thread, which Ctrl-C interrupts.
            plan.compile(notify_compile)
        if plan.precision is None:
            _complete_chunks(store, plan, missing, executor, count)
        else:
            saving = refine_map(store, plan, executor, work, lambda steps: count(steps, 0))
    finally:
        store.note(
            started=f"{started:%Y-%m-%dT%H:%M:%SZ}", seconds=round(time.perf_counter() - begin, 3),
            chunks=len(plan.chunks) - len(store.missing()), trajectory_steps=done,
            executor=executor.name, workers=workers, saving=str(saving or ""),
            **provenance(),
        )  # fmt: skip


def _complete_chunks(
    store: Store,
    plan: Plan,
    missing: Sequence[int],
    executor: Executor,
    progress: Progress,
) -> None:
    """Simulate and write chunks, each as it comes."""
    whole = len(plan.chunks) - len(missing)
    tally = Tally(lambda done: progress(done, whole))
    results = executor.run(work, (plan.task(number) for number in missing), tally.hear)
    with closing(results), _Writer(store) as writer:
        for index, arrays in results:
            writer.write(missing[index], arrays)
            whole += 1
            tally.end(index, plan.chunk_trajectory_steps(missing[index]))


class _Writer:
    """Writes a chunk while the next one is computed; an error comes with the next call."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="regdyn-writer")
        self._last: Future[None] | None = None

    def write(self, number: int, arrays: dict[str, NDArray]) -> None:
        if self._last is not None:
            self._last.result()
        self._last = self._thread.submit(self._store.write, number, arrays)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if self._last is not None and kind is None:
            self._last.result()


def work(task: Task, threads: int | None, tell: Tell) -> dict[str, NDArray]:
    """What a worker does with a task."""
    waiting, last = 0, time.monotonic()

    def progress(done: int) -> None:
        nonlocal waiting, last
        waiting += done
        if time.monotonic() - last > TELL_EVERY:
            tell(waiting)
            waiting, last = 0, time.monotonic()

    return task.run(threads, progress)

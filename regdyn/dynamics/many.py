"""Many points of parameter space in few calls of the kernel.

Points that see the same noise share its making: it is what an ensemble of its own pays most for. The
result of a point is that of its configuration alone, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from threading import Event, Lock

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.engine import (
    STEPS_PER_CALL,
    Batch,
    Progress,
    aligned_empty,
    check_memory,
    in_parallel,
    plan_calls,
    thread_count,
)
from regdyn.dynamics.ensemble import EnsembleConfig, Ensembles, EnsembleSystem, compiled
from regdyn.dynamics.random import LANES

TASK_LANES = 8192
"""Lanes that a task of one thread carries through all steps: their state fits into a core's caches."""

SHARING = 16
"""Points that share noise, at least, where trajectories are many: the noise then costs little."""

MAX_POINTS = 256
"""Points of a task at most."""

SNAPSHOT_BYTES = 2**28
"""What the recorded numbers of the points of a task may take, but for a single point."""

SUMMARY_BYTES = 6 * 8
"""What a summary needs for a while, for each recorded step of a trajectory."""

TABLE_ROWS = 2**17
"""Points times steps for which constants are tabulated at once, at most."""


Summary = Callable[[Ensembles], dict[str, NDArray]]
"""Observables of several points by name, each of shape (points, …)."""


def run_many(
    configs: Sequence[EnsembleConfig],
    summarize: Summary,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[dict[str, NDArray]]:
    """Simulate every configuration and summarise its trajectories.

    Parameters
    ----------
    configs
        Of one system, without kept trajectories. Those that agree in `EnsembleConfig.kernel_key` share
        calls of the kernel.
    summarize
        Makes of `Ensembles` what is wanted of each point.
    threads
        All processors that this process may use where None. They change no bit.
    progress
        Told how many trajectory-steps have been done, by any thread.

    Returns
    -------
    The observables of each configuration, in order.
    """
    count = thread_count(threads)
    cells: dict[Hashable, list[int]] = {}
    for i, config in enumerate(configs):
        times = np.asarray(config.times).tobytes()
        cells.setdefault((config.kernel_key, times), []).append(i)
    groups = [
        group
        for members in cells.values()
        for group in _cut(members, _points_of_a_task(configs[members[0]], len(members), count))
    ]
    parallel = len(groups) >= 2 * count
    _check_memory([configs[i] for i in max(groups, key=len, default=[])], count if parallel else 1)
    for members in cells.values():
        compiled(configs[members[0]].system([configs[members[0]]]))
    results: list[dict[str, NDArray]] = [{} for _ in configs]
    stop, lock = Event(), Lock()

    def tell(done: int) -> None:
        if progress is not None:
            with lock:
                progress(done)

    def run_group(group: list[int], threads: int) -> None:
        found = _run([configs[i] for i in group], summarize, threads, tell, stop)
        for position, i in enumerate(group):
            results[i] = {name: values[position] for name, values in found.items()}

    if parallel:
        in_parallel(count, run_group, [(group, 1) for group in groups], stop)
    else:
        for group in groups:
            run_group(group, count)
    return results


def block_width(trajectories: int) -> int:
    """Trajectories of a block: as equal blocks as possible, of whole wide registers of either type."""
    blocks = -(-trajectories // LANES)
    return -(-trajectories // (16 * blocks)) * 16


def _points_of_a_task(config: EnsembleConfig, points: int, threads: int) -> int:
    """How many points share noise, such that all threads have work and the caches hold it."""
    width = block_width(config.trajectories)
    lanes = -(-config.trajectories // width) * width
    record = 8 * (len(np.asarray(config.times)) * config.n_observables + 8) * lanes
    most = min(max(TASK_LANES // lanes, SHARING), MAX_POINTS, max(1, SNAPSHOT_BYTES // record), points)
    if lanes < TASK_LANES:
        # Four tasks for each of several threads even out threads of unequal speed.
        tasks = 4 * threads if threads > 1 else 1
        most = min(most, max(1, points // tasks))
    return most


def _check_memory(configs: Sequence[EnsembleConfig], at_once: int) -> None:
    """The recorded numbers of tasks must fit, and what their summary copies of them."""
    if not configs:
        return
    config = configs[0]
    numbers = len(configs) * len(np.asarray(config.times)) * config.trajectories
    copies = config.n_observables * (np.dtype(config.dtype).itemsize + 8) + SUMMARY_BYTES
    what = f"{config.trajectories} trajectories x {len(np.asarray(config.times))} recorded steps"
    check_memory(at_once * numbers * copies, what)


def _cut(members: list[int], size: int) -> list[list[int]]:
    """Pieces of nearly equal size, at most `size`."""
    pieces = -(-len(members) // size)
    edges = np.linspace(0, len(members), pieces + 1).astype(int).tolist()
    return [members[a:b] for a, b in pairwise(edges)]


def _run(
    configs: Sequence[EnsembleConfig],
    summarize: Summary,
    threads: int,
    tell: Progress,
    stop: Event,
) -> dict[str, NDArray]:
    """Points that share noise, their blocks on so many threads."""
    config = configs[0]
    times = np.asarray(config.times)
    system = config.system(configs, block_width(config.trajectories))
    batch = Batch.of(system, 0, system.blocks)
    shape = len(times), system.n_observables, system.n_points, system.blocks * system.width
    snapshots = aligned_empty(shape, system.dtype)
    per_call = max(LANES, min(STEPS_PER_CALL, TABLE_ROWS // len(configs)) // LANES * LANES)

    def carry(blocks: slice) -> None:
        """Some of the blocks through all steps."""
        batch.start_streams(config.seed, blocks)
        system.start(batch, blocks)
        lanes = (blocks.stop - blocks.start) * system.width
        real = min(lanes, config.trajectories - blocks.start * system.width)
        for call in plan_calls(config.steps, times, per_call, len(times)):
            if stop.is_set():
                return
            records = snapshots[call.first_record : call.first_record + len(call.records)]
            system.advance(batch, call, system.tables(call), blocks, records)
            tell(real * len(configs) * call.length)
        system.finish(batch, blocks)

    in_parallel(threads, carry, [(part,) for part in _slices(system, threads)], stop)
    if stop.is_set():
        return {}
    return summarize(system.ensembles(times, snapshots))


def _slices(system: EnsembleSystem, threads: int) -> list[slice]:
    """The blocks in pieces of about `TASK_LANES` lanes; one piece for one thread, if they fit."""
    most = max(1, TASK_LANES // (system.n_points * system.width))
    pieces = max(-(-system.blocks // most), min(system.blocks, threads))
    edges = np.linspace(0, system.blocks, pieces + 1).astype(int).tolist()
    return [slice(a, b) for a, b in pairwise(edges)]

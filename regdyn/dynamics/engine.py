"""The driver of every system: batches of trajectories, chunks of steps, blocks on threads.

A system supplies the compiled kernel that carries blocks of lanes through a chunk; this file decides
what is in memory when. None of these decisions changes a bit of the result.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import prod
from threading import Event, Semaphore
from typing import Any, Protocol

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

from regdyn.dynamics.observables import N_BINS, accumulate
from regdyn.dynamics.random import CHUNK, LANES, STREAMS, start_streams
from regdyn.dynamics.tables import Tables
from regdyn.errors import InvalidParameter
from regdyn.parameters import check_integer

BATCH = 2**16
"""Trajectories in memory at once, besides the few numbers that are kept of each."""

STEPS_PER_CALL = 4096
"""Steps for which the per-step constants are tabulated at a time; a multiple of CHUNK."""

SNAPSHOTS_PER_CALL = 16
"""Recorded times, besides the start, whose values wait for the statistics; at least CHUNK."""

Progress = Callable[[int], None]
"""Called with the number of trajectory-steps done since the last call."""


def compile_kernels(dtype: DTypeLike) -> None:
    """Make sure that the compiled parts of this file's work exist, by calls without trajectories."""
    nothing = np.uint64(0)
    start_streams(nothing, nothing, nothing, aligned_empty((0, 4 * STREAMS), np.uint64))
    lanes = np.zeros(LANES, dtype=np.int64)
    accumulate(np.empty(0, dtype), 0, 1.0, lanes, np.zeros(5), np.zeros(N_BINS + 2, dtype=np.int64))


def thread_count(threads: int | str | None) -> int:
    """`threads` checked; the processors that this process may use where None."""
    if threads is not None:
        return check_integer("threads", threads, 1, 4096)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """An uninitialised array that starts on a cache line, so that wide loads never straddle two."""
    size = prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, dtype=np.uint8)
    offset = -raw.ctypes.data % 64
    aligned: NDArray = raw[offset : offset + size].view(dtype).reshape(shape)
    return aligned


def check_memory(needed: int, what: str, name: str = "trajectories", fewer: str = "few") -> None:
    """Raise InvalidParameter for the parameter `name` if `needed` bytes are not free now."""
    free = psutil.virtual_memory().available
    if needed > free:
        raise InvalidParameter(
            name,
            f"{fewer} enough to fit: {what} needs {needed / 2**30:.3g} GiB and "
            f"{free / 2**30:.3g} GiB are free",
        )


@dataclass(frozen=True)
class Call:
    """One stretch of steps t0 + 1 … t0 + length and the times recorded in it, the start among them."""

    t0: int
    length: int
    records: NDArray[np.int64]
    first_record: int


def plan_calls(
    steps: int, times: NDArray[np.int64], longest: int | None = None, most: int | None = None
) -> Iterator[Call]:
    """Cut `steps` into calls that end on multiples of CHUNK.

    Each has at most `longest` steps, a multiple of CHUNK (STEPS_PER_CALL), and about `most` recorded
    times (SNAPSHOTS_PER_CALL).
    """
    longest = STEPS_PER_CALL if longest is None else longest
    most = SNAPSHOTS_PER_CALL if most is None else most
    t0 = record = 0
    while t0 < steps:
        end = min(t0 + longest, steps)
        if record + most < len(times):
            last = int(times[record + most - 1])
            end = min(end, max(t0 + CHUNK, last - last % CHUNK))
        upto = int(np.searchsorted(times, end, side="right"))
        yield Call(t0, end - t0, times[record:upto], record)
        t0, record = end, upto


@dataclass
class Batch:
    """The trajectories in memory, from `first` on: numbers of each point and block, streams of blocks.

    A block is `width` trajectories, the same of every point.
    """

    first: int
    width: int
    rows: NDArray
    streams: NDArray[np.uint64]

    @classmethod
    def of(cls, system: System, first: int, blocks: int) -> Batch:
        """Room for so many blocks, not filled."""
        rows = aligned_empty((system.n_points, blocks, system.n_rows * system.width), system.dtype)
        return cls(first, system.width, rows, aligned_empty((blocks, 4 * STREAMS), np.uint64))

    def start_streams(self, seed: int, blocks: slice) -> None:
        """Put the streams of the blocks at their start."""
        first = (self.first + blocks.start * self.width) // 2
        spacing = np.uint64(self.width // 2)
        start_streams(np.uint64(seed), np.uint64(first), spacing, self.streams[blocks])

    @property
    def lanes(self) -> slice:
        """Where the lanes of the batch stand among those of the run."""
        return slice(self.first, self.first + len(self.streams) * self.width)

    @property
    def blocks(self) -> slice:
        """Where its blocks stand among those of the run."""
        start = self.first // self.width
        return slice(start, start + len(self.streams))


class System(Protocol):
    """What the driver asks of a system."""

    dtype: np.dtype[Any]
    n_points: int
    n_rows: int
    n_observables: int
    width: int
    overflow: float

    def start(self, batch: Batch, blocks: slice) -> None:
        """Write the initial rows of every lane of the blocks."""

    def tables(self, call: Call) -> Tables:
        """Tabulate what is constant within each step of the call."""

    def advance(
        self, batch: Batch, call: Call, tables: Tables, blocks: slice, snapshots: NDArray
    ) -> None:
        """Carry the blocks through the call; runs on several threads at once, without the GIL.

        Writes each recorded time to snapshots, (records, n_observables, points, lanes).
        """

    def finish(self, batch: Batch, blocks: slice) -> None:
        """Keep what the result needs of the blocks, whose rows are then overwritten."""


@dataclass(frozen=True)
class Statistics:
    """Moments (times, observables, 5), histogram (times, observables, N_BINS + 2): see `accumulate`."""

    moments: NDArray[np.float64]
    histogram: NDArray[np.int64]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Worker threads, kept for the next run: to start them takes as long as a small run."""
    return ThreadPoolExecutor(threads, thread_name_prefix="regdyn")


if hasattr(os, "register_at_fork"):
    # A forked process has the pool but none of its threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)


_SLOTS: ContextVar[Semaphore | None] = ContextVar("slots", default=None)


def share_slots(slots: Semaphore) -> None:
    """From now on the caller's work on several threads runs only while it holds one of the slots."""
    _SLOTS.set(slots)


def in_parallel(
    threads: int,
    work: Callable[..., None],
    calls: Sequence[tuple[Any, ...]],
    stop: Event | None = None,
) -> None:
    """work(*call) for every call, on `threads` threads of which the caller's is one.

    When it is left, by an exception or Ctrl-C as well, nothing of the work runs any more. Work that
    takes long looks whether `stop` has been set, as it is when one of the calls fails. Several callers
    may share the threads, see `share_slots`: one that has nothing left to do does not wait for them.
    """
    left = deque(calls)
    slots = (_SLOTS.get() if threads > 1 else None) or nullcontext()

    def take() -> None:
        while True:
            try:
                call = left.popleft()
            except IndexError:
                return
            with slots:
                work(*call)

    helpers = min(threads, len(calls)) - 1
    futures = [_pool(threads - 1).submit(take) for _ in range(helpers)]
    try:
        take()
        for future in futures:
            if not future.cancel():
                future.result()
    except BaseException:
        if stop is not None:
            stop.set()
        raise
    finally:
        left.clear()
        wait([future for future in futures if not future.cancel()])


def drive(
    system: System,
    *,
    steps: int,
    trajectories: int,
    times: NDArray[np.int64],
    seed: int,
    threads: int,
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> Statistics:
    """Run `trajectories` trajectories of the only point of `system` for `steps` steps.

    Parameters
    ----------
    times
        Sorted steps at which the statistics are taken; 0 is the start.
    seed
        Key of the random streams.
    threads
        Worker threads.
    batch_size
        Trajectories in memory at once, rounded up to whole blocks.
    progress
        Told how many trajectory-steps have been done.
    """
    shape = len(times), system.n_observables
    moments = np.tile([0.0, 0.0, 0.0, np.inf, 0.0], (*shape, 1))
    histogram = np.zeros((*shape, N_BINS + 2), dtype=np.int64)
    batch_size = -(-batch_size // LANES) * LANES
    n_snapshots = min(len(times), SNAPSHOTS_PER_CALL + 1)
    bins = np.empty((n_snapshots, system.n_observables, LANES), dtype=np.int64)

    def carry(batch: Batch, call: Call, tables: Tables, part: slice, snapshots: NDArray) -> None:
        """A part of the blocks through a call, with what comes before the first and after the last."""
        if call.t0 == 0:
            batch.start_streams(seed, part)
            system.start(batch, part)
        system.advance(batch, call, tables, part, snapshots)
        if call.t0 + call.length == steps:
            system.finish(batch, part)

    def statistics(record: int, slot: int, observable: int, values: NDArray, count: int) -> None:
        accumulate(
            values, count, system.overflow, bins[slot, observable],
            moments[record, observable], histogram[record, observable],
        )  # fmt: skip

    for first in range(0, trajectories, batch_size):
        count = min(batch_size, trajectories - first)
        blocks = -(-count // LANES)
        batch = Batch.of(system, first, blocks)
        snapshots = aligned_empty((n_snapshots, system.n_observables, 1, blocks * LANES), system.dtype)
        # Many parts per thread even out threads of unequal speed.
        edges = np.linspace(0, blocks, min(blocks, 16 * threads) + 1).astype(int).tolist()
        parts = [slice(a, b) for a, b in pairwise(edges)]
        for call in plan_calls(steps, times):
            tables = system.tables(call)
            in_parallel(threads, carry, [(batch, call, tables, part, snapshots) for part in parts])
            in_parallel(threads, statistics, [
                (call.first_record + i, i, j, snapshots[i, j, 0], count)
                for i in range(len(call.records))
                for j in range(system.n_observables)
            ])  # fmt: skip
            if progress is not None:
                progress(count * call.length)
    return Statistics(moments, histogram)

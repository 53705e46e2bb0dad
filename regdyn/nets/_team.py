"""Threads that share the work of one training run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from regdyn.dynamics._jit import kernel, round_denormals_to_zero
from regdyn.dynamics.engine import aligned_empty

PATIENCE = 2000
"""Looks at the gate before a waiting thread offers its processor to others."""


@kernel
def _prepare_thread() -> None:
    round_denormals_to_zero()


@contextmanager
def thread_arithmetic() -> Iterator[None]:
    """The floating point of a thread that trains: no denormals, no warnings.

    Both are settings of a thread, and that of denormals stays for its life.
    """
    _prepare_thread()
    with np.errstate(all="ignore"):
        yield


class Team:
    """Threads that call one function together, again and again.

    Parameters
    ----------
    size
        Members, the calling thread among them.

    Attributes
    ----------
    gate
        What `meet` counts with.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        # A cache line for the counter alone.
        self.gate: NDArray[np.int64] = aligned_empty((8,), np.int64)
        self.gate[:] = 0
        self._work: SimpleQueue[tuple[Callable[[int], None], int] | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._helpers = [Thread(target=self._help, daemon=True) for _ in range(size - 1)]
        for helper in self._helpers:
            helper.start()

    def _help(self) -> None:
        with thread_arithmetic():
            while (task := self._work.get()) is not None:
                work, rank = task
                try:
                    work(rank)
                    self._done.put(None)
                except BaseException as error:
                    self._done.put(error)

    def call(self, work: Callable[[int], None]) -> None:
        """work(rank) on every member at once; the calling thread has rank 0."""
        for rank in range(1, self.size):
            self._work.put((work, rank))
        failures: list[BaseException | None] = []
        try:
            work(0)
        finally:
            failures = [self._done.get() for _ in self._helpers]
        for failure in failures:
            if failure is not None:
                raise failure

    def close(self) -> None:
        for _ in self._helpers:
            self._work.put(None)
        for helper in self._helpers:
            helper.join()


@intrinsic
def _count_up(typing_context: Any, place: Any) -> Any:
    """The int64 at an address, which is one more afterwards; no other thread comes between."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.IntType(64)(1), "seq_cst")

    return types.int64(types.int64), codegen


@intrinsic
def _look(typing_context: Any, place: Any) -> Any:
    """The int64 at an address, and with it what other threads wrote before they changed it."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(types.int64), codegen


@intrinsic
def _yield_processor(typing_context: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@kernel
def meet(gate: Any, size: Any) -> None:
    """Wait inside compiled code until all `size` members of a team are here."""
    if size == 1:
        return
    place = gate.ctypes.data
    target = (_count_up(place) // size + 1) * size
    looks = 0
    while _look(place) < target:
        looks += 1
        if looks > PATIENCE:
            _yield_processor()

"""Threads that share the work of one training run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from regdyn.nets._mlp_kernel import prepare_thread


def cut(begin: int, end: int, count: int) -> list[tuple[int, int]]:
    """A range cut into `count` parts of about one size."""
    return list(pairwise(begin + (end - begin) * k // count for k in range(count + 1)))


@contextmanager
def thread_arithmetic() -> Iterator[None]:
    """The floating point of a thread that trains: no denormals, no warnings.

    Both are settings of a thread, and that of denormals stays for its life.
    """
    prepare_thread()
    with np.errstate(all="ignore"):
        yield


class Pool:
    """Threads that help one run, waiting for work between two calls of `each`.

    Lighter than an executor: work of a tenth of a millisecond is worth handing over.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._work: SimpleQueue[tuple[Callable[[Any], None], Sequence[Any]] | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._helpers = [Thread(target=self._help, daemon=True) for _ in range(threads - 1)]
        for helper in self._helpers:
            helper.start()

    def _help(self) -> None:
        with thread_arithmetic():
            while (task := self._work.get()) is not None:
                work, items = task
                try:
                    for item in items:
                        work(item)
                    self._done.put(None)
                except BaseException as error:
                    self._done.put(error)

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Do the work for every item."""
        shares = cut(0, len(items), min(self.threads, len(items)))
        for begin, end in shares[1:]:
            self._work.put((work, items[begin:end]))
        failures: list[BaseException | None] = []
        try:
            for item in items[: shares[0][1]]:
                work(item)
        finally:
            failures = [self._done.get() for _ in shares[1:]]
        for failure in failures:
            if failure is not None:
                raise failure

    def close(self) -> None:
        for _ in self._helpers:
            self._work.put(None)
        for helper in self._helpers:
            helper.join()

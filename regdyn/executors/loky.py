"""Processes on this machine, each on one thread."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from threading import Event, Thread
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from regdyn.errors import WorkerLost
from regdyn.executors.base import Executor, Hear, Results, deaf

PATIENCE = 0.5
"""Seconds between two looks at whether the parent is there."""


class Loky(Executor):
    """`workers` processes of joblib's loky; large arrays reach them as memory-mapped files, once."""

    name = "loky"

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, work: Any, items: Iterable[Any], hear: Hear = deaf) -> Results:
        with _listening(hear) as (address, key):
            pool = joblib.Parallel(
                n_jobs=self.workers, backend="loky", inner_max_num_threads=1, batch_size=1,
                pre_dispatch="2 * n_jobs", return_as="generator_unordered",
            )  # fmt: skip
            jobs = (
                joblib.delayed(_do)(work, index, item, address, key) for index, item in enumerate(items)
            )
            finished = False
            try:
                yield from pool(jobs)
                finished = True
            except TerminatedWorkerError:
                raise WorkerLost("a process was killed, perhaps for lack of memory") from None
            finally:
                if not finished:
                    # They would finish what they are at.
                    get_reusable_executor().shutdown(kill_workers=True)

    @property
    def description(self) -> str:
        return f"{self.workers} process{'es' if self.workers > 1 else ''} on this machine"


def _do(work: Any, index: int, item: Any, address: Any, key: bytes) -> tuple[int, Any]:
    """Do the work in a process of its own, which tells the first one how it goes."""
    _end_with_parent()
    with Client(address, authkey=key) as line:
        return index, work(item, 1, lambda message: line.send((index, message)))


@cache
def _end_with_parent() -> None:
    """A process whose parent was killed would go on, and write where the next command does."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PATIENCE)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


@contextmanager
def _listening(hear: Callable[[int, Any], None]) -> Iterator[tuple[Any, bytes]]:
    """Where other processes can say something, and the key that they need for it."""
    key, closed = secrets.token_bytes(32), Event()
    with Listener(authkey=key) as listener:

        def follow(line: Any) -> None:
            try:
                while True:
                    hear(*line.recv())
            except (EOFError, OSError):
                line.close()

        def listen() -> None:
            while not closed.is_set():
                with suppress(OSError, EOFError, AuthenticationError):  # a process that was killed
                    Thread(target=follow, args=(listener.accept(),), daemon=True).start()

        thread = Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield listener.address, key
        finally:
            closed.set()
            with (
                suppress(OSError, EOFError, AuthenticationError),
                Client(listener.address, authkey=key),
            ):
                thread.join()

"""Workers of dask.distributed: on this machine, or on any that a scheduler knows."""

from __future__ import annotations

import logging
import queue
import re
import secrets
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any

import dask
import distributed
from distributed import Client, Future, LocalCluster
from distributed.scheduler import KilledWorker

from regdyn.errors import InvalidParameter, WorkerLost
from regdyn.executors.base import Executor, Hear, Results, deaf
from regdyn.fingerprint import fingerprint

TIMEOUT = 10.0
"""Seconds within which a scheduler must answer, and have a worker."""

PATIENCE = 1.0
"""Seconds between two looks at whether the scheduler is there."""

AHEAD = 3
"""Items that wait or are worked at, for each thread of a worker: none idles, and memory stays flat."""

DEATHS = 5
"""Workers that may die over one item before it is given up."""

NOBODY = 300.0
"""Seconds without any worker after which a run ends; others may join as long."""

_ADDRESS = re.compile(r"(\w+://)?[^/\s]+:\d+")
"""HOST:PORT, perhaps with a protocol."""


class Dask(Executor):
    """The workers of a dask scheduler.

    A worker that dies loses what it was at to another one; one that joins late gets its share; one with
    another version of regdyn, numba or numpy, whose bits would differ, is refused.

    Parameters
    ----------
    scheduler
        Its address, such as "tcp://node1:8786"; None starts a scheduler and workers on this machine.
    workers
        Number of workers then, each a process with one thread.

    Raises
    ------
    InvalidParameter
        For a scheduler that does not answer or has no worker, or a worker with another version.
    """

    name = "dask"
    carries_objects = False

    def __init__(self, scheduler: str | None = None, workers: int | None = None) -> None:
        # A dashboard and log lines are the cluster's own affair.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        for part in ("client", "core", "nanny", "scheduler", "worker"):
            logging.getLogger(f"distributed.{part}").setLevel(logging.CRITICAL)
        if scheduler is not None and not _ADDRESS.fullmatch(scheduler):
            raise _no_scheduler(scheduler, "no such kind of address")
        self._where = scheduler or "this machine"
        with ExitStack() as started:
            if scheduler is None:
                settings = {"distributed.scheduler.allowed-failures": DEATHS}
                with dask.config.set(settings), _deaf_to_ctrl_c():
                    cluster = started.enter_context(
                        LocalCluster(
                            n_workers=workers, threads_per_worker=1, dashboard_address=":0",
                            silence_logs=logging.CRITICAL,
                        )
                    )  # fmt: skip
            try:
                self._client = started.enter_context(
                    Client(scheduler or cluster, timeout=TIMEOUT, set_as_default=False)
                )
            except (OSError, TimeoutError, ValueError, ImportError) as error:
                unknown = isinstance(error, (ValueError, ImportError))
                reason = "no such kind of address" if unknown else f"no answer within {TIMEOUT:g} s"
                raise _no_scheduler(scheduler, reason) from None
            self._check_workers(1 if scheduler else workers or 1)
            self._started = started.pop_all()

    def _check_workers(self, count: int) -> None:
        try:
            self._client.wait_for_workers(count, timeout=TIMEOUT)
        except TimeoutError:
            wanted = "the address of a scheduler that has workers"
            raise InvalidParameter("scheduler", wanted, f"{self._where}, which has none") from None
        # Nested, so that it travels as code: a worker may have no regdyn to look it up in.
        found = self._client.run(_foreign_fingerprint())
        wrong = {address: what for address, what in found.items() if what != fingerprint()}
        for address, what in wrong.items():
            wanted = f"that of workers with {fingerprint()}"
            raise InvalidParameter("scheduler", wanted, f"{address} with {what}")

    @property
    def description(self) -> str:
        nodes = self._client.nthreads()
        threads = sum(nodes.values())
        workers = f"{len(nodes)} dask worker{'s' if len(nodes) > 1 else ''}"
        return f"{workers} with {threads} thread{'s' if threads > 1 else ''} at {self._where}"

    def run(self, work: Any, items: Iterable[Any], hear: Hear = deaf) -> Results:
        ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        waiting: dict[Future, tuple[int, Any]] = {}
        numbered = iter(enumerate(items))
        more = True
        # Other commands, and other runs of this one, have topics of their own.
        topic = f"regdyn-{secrets.token_hex(8)}"

        def submit(index: int, item: Any) -> None:
            future = self._client.submit(
                _do, work, index, item, fingerprint(), topic, pure=False, retries=0
            )
            waiting[future] = index, item
            future.add_done_callback(ended.put)

        def on_event(event: Any) -> None:
            # In the event loop of the client.
            if isinstance(event, tuple) and len(event) == 2:
                hear(*event[1])

        self._client.subscribe_topic(topic, on_event)
        try:
            while more or waiting:
                room = AHEAD * max(1, self._threads())
                while more and len(waiting) < room:
                    try:
                        submit(*next(numbered))
                    except StopIteration:
                        more = False
                if not waiting:
                    continue
                future = self._next(ended)
                index, item = waiting.pop(future)
                result = self._result(future)
                if isinstance(result, _Refusal):
                    self._client.retire_workers([result.worker], close_workers=True)
                    submit(index, item)
                else:
                    yield index, result
        finally:
            # A scheduler that has gone has nothing left to be told.
            with suppress(OSError, TimeoutError):
                self._client.unsubscribe_topic(topic)
                if waiting:
                    self._client.cancel(list(waiting), force=True)

    def _threads(self) -> int:
        """Threads of all workers that are there now."""
        try:
            return sum(self._client.nthreads().values())
        except (OSError, TimeoutError):
            raise WorkerLost("the scheduler has gone") from None

    def _next(self, ended: queue.SimpleQueue[Future]) -> Future:
        """The next future that has ended, as long as somebody is there who could end it."""
        look = self._lookout()
        while True:
            try:
                return ended.get(timeout=PATIENCE)
            except queue.Empty:
                look(PATIENCE)

    def _result(self, future: Future) -> Any:
        """What a future that has ended came to; again somebody's work if its worker died with it."""
        look, patience = self._lookout(), PATIENCE
        while True:
            try:
                return future.result(timeout=patience)
            except KilledWorker:
                raise WorkerLost(f"{DEATHS} workers died over the same work") from None
            except CancelledError:
                raise WorkerLost("the scheduler has gone") from None
            except TimeoutError:
                if future.status == "error":
                    raise
                look(patience)
                # A large result may take longer on its way.
                patience *= 2

    def _lookout(self) -> Callable[[float], None]:
        """Told of seconds in vain, it raises WorkerLost once nobody has been there for too many."""
        lost = alone = 0.0

        def look(waited: float) -> None:
            nonlocal lost, alone
            there = self._client.status == "running"
            lost = 0.0 if there else lost + waited
            alone = 0.0 if there and self._threads() else alone + waited
            if lost > TIMEOUT:
                raise WorkerLost("the scheduler has gone") from None
            if alone > NOBODY:
                raise WorkerLost(f"for {NOBODY:g} s no worker has been there") from None

        return look

    def close(self) -> None:
        self._started.close()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started here leave Ctrl-C to this one, which ends them in order.

    They inherit that the signal is blocked; this one gets it when the block is left.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    # Where it starts, the signal is let through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _no_scheduler(address: str | None, reason: str) -> InvalidParameter:
    wanted = "the address of a dask scheduler that runs, such as tcp://localhost:8786"
    return InvalidParameter("scheduler", wanted, f"{address} ({reason})")


class _Refusal:
    """What a worker of another version gives back."""

    def __init__(self, worker: str) -> None:
        self.worker = worker


def _do(work: Any, index: int, item: Any, wanted: str, topic: str) -> Any:
    """Do the work in a worker, which tells the client how it goes."""
    worker = distributed.get_worker()
    if fingerprint() != wanted:
        return _Refusal(worker.address)
    return work(item, 1, lambda message: worker.log_event(topic, (index, message)))


def _foreign_fingerprint() -> Callable[[], str]:
    def look() -> str:
        try:
            from regdyn.fingerprint import fingerprint
        except ImportError:
            return "no such regdyn"
        return fingerprint()

    return look

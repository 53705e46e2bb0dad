"""What an executor is, and the one that needs no other process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from threading import Event, Lock, Semaphore
from typing import Any

Tell = Callable[[Any], None]
"""What work calls to say how far it is; the message is pickled if it goes to another process."""

Work = Callable[[Any, int | None, Tell], Any]
"""work(item, threads, tell): what is done with an item, on so many threads (None: all)."""

Hear = Callable[[int, Any], None]
"""Gets the number of an item and what its work told; from any thread."""


Results = Generator[tuple[int, Any], None, None]
"""Number of an item and what came of it."""


AT_ONCE = 2
"""Items at which several threads of this process work, so that none idles at the end of one."""


def deaf(index: int, message: Any) -> None:
    """What hears unless the caller wants to."""


class Tally:
    """Adds up how much work on items has done, from what it tells and from its end.

    Parameters
    ----------
    progress
        Told how much was done since the last call, by one thread at a time.
    """

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress = progress
        self._told: dict[int, int] = {}
        self._ended: set[int] = set()
        self._lock = Lock()

    def hear(self, index: int, done: int) -> None:
        """So much more of an item is done."""
        with self._lock:
            # What arrives after the result has been counted with it.
            if index not in self._ended:
                self._told[index] = self._told.get(index, 0) + done
                self._progress(done)

    def end(self, index: int, whole: int) -> None:
        """All of an item, so much, is done."""
        with self._lock:
            self._ended.add(index)
            self._progress(whole - self._told.pop(index, 0))


class Executor(ABC):
    """Does the same work with many items, as many at once as it has workers.

    `run` may be called again; `close`, or leaving the context, ends the workers that it started.
    """

    name: str

    carries_objects = True
    """Whether work may tell any object; else numbers, texts, and lists and dicts of these."""

    @abstractmethod
    def run(self, work: Work, items: Iterable[Any], hear: Hear = deaf) -> Results:
        """Yield (number of the item, result) as results come, in any order.

        Items are taken as workers want them, so that there may be more than fit into memory. When the
        iterator is closed, by an exception or Ctrl-C as well, no work goes on.

        Raises
        ------
        WorkerLost
            When work cannot be finished for lack of workers.
        """

    @property
    @abstractmethod
    def description(self) -> str:
        """Who works, in a few words."""

    def close(self) -> None:  # noqa: B027 (most have nothing to end)
        """End what this executor started."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Closed(Exception):
    """Ends the work that nobody waits for any more."""


class InProcess(Executor):
    """In this process, on `threads` threads in all (None: all processors).

    The next item has begun when the threads run out of work on the one before, so that none idles.
    Whoever closes the results waits until the work tells something the next time.
    """

    name = "threads"

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads

    def run(self, work: Work, items: Iterable[Any], hear: Hear = deaf) -> Results:
        from regdyn.dynamics.engine import share_slots, thread_count

        count, closed = thread_count(self.threads), Event()
        at_once = min(AT_ONCE, count)

        def do(index: int, item: Any) -> Any:
            def tell(message: Any) -> None:
                if closed.is_set():
                    raise _Closed
                hear(index, message)

            return work(item, count, tell)

        numbered = enumerate(items)
        waiting: dict[Future[Any], int] = {}
        pool = ThreadPoolExecutor(
            at_once, "regdyn-item", initializer=share_slots, initargs=(Semaphore(count),)
        )
        with pool:
            try:
                while True:
                    for index, item in islice(numbered, at_once - len(waiting)):
                        waiting[pool.submit(do, index, item)] = index
                    if not waiting:
                        return
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        yield waiting.pop(future), future.result()
            finally:
                closed.set()

    @property
    def description(self) -> str:
        from regdyn.dynamics.engine import thread_count

        count = thread_count(self.threads)
        return f"this process, {count} thread{'s' if count > 1 else ''}"

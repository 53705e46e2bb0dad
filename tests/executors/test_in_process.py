"""Items in this process: the next begins before the last ends, and nothing goes on after the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from threading import Barrier, Event, Lock, active_count
from typing import Any

import pytest

from regdyn.dynamics.engine import in_parallel
from regdyn.executors import InProcess
from regdyn.executors.base import AT_ONCE, Tell

PATIENCE = 30.0


def test_the_next_item_begins_before_the_last_ends() -> None:
    both = Barrier(2, timeout=PATIENCE)

    def work(item: int, threads: int | None, tell: Tell) -> int:
        if item < 2:
            both.wait()
        return item**2

    assert sorted(InProcess().run(work, range(5))) == [(i, i**2) for i in range(5)]


def test_items_are_taken_as_they_are_wanted() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    results = InProcess().run(lambda item, threads, tell: item, items())
    with closing(results):
        for seen, _ in enumerate(results):
            assert len(taken) <= seen + AT_ONCE
            if seen == 5:
                break
    assert len(taken) < 100


def test_what_work_tells_is_heard_with_its_item() -> None:
    heard: list[tuple[int, Any]] = []

    def work(item: int, threads: int | None, tell: Tell) -> int | None:
        tell(item * 10)
        return threads

    found = dict(InProcess(3).run(work, range(4), lambda *said: heard.append(said)))
    assert found == dict.fromkeys(range(4), 3)
    assert sorted(heard) == [(i, 10 * i) for i in range(4)]


def endless(item: int, threads: int | None, tell: Tell) -> None:
    """Work that ends only by being told that nobody waits."""
    if item == 0:
        return
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        tell(1)
        time.sleep(1e-3)
    raise AssertionError("nobody ended this")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_goes_on_after_the_end(error: type[BaseException]) -> None:
    threads, begin = active_count(), time.monotonic()
    with pytest.raises(error), closing(InProcess().run(endless, range(9))) as results:
        for _ in results:
            raise error
    assert active_count() == threads
    assert time.monotonic() - begin < PATIENCE / 2


def test_an_error_ends_the_other_item() -> None:
    def work(item: int, threads: int | None, tell: Tell) -> None:
        if item == 0:
            raise ZeroDivisionError
        endless(item, threads, tell)

    with pytest.raises(ZeroDivisionError):
        list(InProcess().run(work, range(3)))


def test_callers_that_share_threads_do_not_wait_for_one_another() -> None:
    slow, quick = Event(), []
    lock = Lock()

    def hold(i: int) -> None:
        assert slow.wait(PATIENCE)

    def add(i: int) -> None:
        with lock:
            quick.append(i)

    def work(item: int, threads: int | None, tell: Tell) -> int:
        if item == 0:
            in_parallel(2, hold, [(i,) for i in range(2)])
        else:
            in_parallel(2, add, [(i,) for i in range(5)])
            slow.set()
        return item

    # The helper thread is held by the first item until the second one has ended.
    assert sorted(InProcess(2).run(work, range(2))) == [(0, 0), (1, 1)]
    assert sorted(quick) == list(range(5))

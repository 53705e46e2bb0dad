"""Items in this process: the next begins before the last ends, and nothing goes on after the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from threading import Barrier, Event, Lock, Thread, active_count
from typing import Any

import pytest

from regdyn.dynamics.engine import in_parallel
from regdyn.executors import InProcess
from regdyn.executors.base import AT_ONCE, Tally, Tell

PATIENCE = 30.0


def test_the_next_item_begins_before_the_last_ends() -> None:
    both = Barrier(AT_ONCE, timeout=PATIENCE)

    def work(item: int, threads: int | None, tell: Tell) -> int:
        if item < AT_ONCE:
            both.wait()
        return item**2

    assert sorted(InProcess(2).run(work, range(5))) == [(i, i**2) for i in range(5)]


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


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_more_threads_than_asked_for(count: int) -> None:
    lock, now, most = Lock(), 0, 0

    def busy(i: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(2e-3)
        with lock:
            now -= 1

    def work(item: int, threads: int | None, tell: Tell) -> None:
        assert threads == count
        in_parallel(count, busy, [(i,) for i in range(20)])

    list(InProcess(count).run(work, range(4)))
    assert most == count


def test_callers_that_share_threads_do_not_wait_for_one_another() -> None:
    release, held = Event(), Barrier(3, timeout=PATIENCE)

    def hold(i: int) -> None:
        held.wait()
        assert release.wait(PATIENCE)

    other = Thread(target=in_parallel, args=(2, hold, [(0,), (1,)]))
    other.start()
    try:
        held.wait()
        done: list[int] = []
        # The only helper thread is the other caller's.
        in_parallel(2, done.append, [(i,) for i in range(5)])
        assert done == list(range(5))
        assert other.is_alive()
    finally:
        release.set()
        other.join()


def test_what_is_told_late_is_not_counted_twice() -> None:
    told: list[int] = []
    tally = Tally(told.append)
    tally.hear(0, 3)
    tally.hear(1, 2)
    tally.end(0, 10)
    tally.hear(0, 4)
    tally.end(1, 2)
    tally.end(2, 5)
    assert told == [3, 2, 7, 0, 5]

"""The threads of a training run."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from regdyn.nets._team import Team, meet, thread_arithmetic


def products() -> list[float]:
    return [float(np.finfo(dtype).tiny * dtype(0.25)) for dtype in (np.float32, np.float64)]


def test_threads_that_train_have_no_denormals_and_others_keep_theirs() -> None:
    seen: dict[str, list[float]] = {}

    def outside() -> None:
        seen["outside"] = products()

    def inside() -> None:
        with thread_arithmetic():
            seen["inside"] = products()
            team = Team(2)
            team.call(lambda rank: seen.update({("own", "helper")[rank]: products()}))
            team.close()

    for work in (inside, outside):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert all(x > 0 for x in seen.pop("outside"))
    assert seen == {name: [0.0, 0.0] for name in ("inside", "own", "helper")}


def test_what_fails_in_a_helper_reaches_the_caller() -> None:
    team = Team(3)

    def work(rank: int) -> None:
        if rank == 2:
            raise ValueError("two")

    with pytest.raises(ValueError, match="two"):
        team.call(work)
    ranks: list[int] = []
    team.call(ranks.append)
    team.close()
    assert sorted(ranks) == [0, 1, 2]


def test_nobody_leaves_a_meeting_before_all_are_there() -> None:
    """More members than processors, so that some must wait for one that is not running."""
    size, rounds = 5, 200
    team = Team(size)
    seen = np.zeros((rounds, size), np.int64)

    def work(rank: int) -> None:
        for k in range(rounds):
            seen[k, rank] = team.gate[0]
            meet(team.gate, size)

    team.call(work)
    team.close()
    begins = np.arange(rounds)[:, None] * size
    assert np.all(seen >= begins) and np.all(seen < begins + size)

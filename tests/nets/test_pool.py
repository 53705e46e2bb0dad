"""The threads of a training run."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from regdyn.nets._pool import Pool, thread_arithmetic


def products() -> list[float]:
    return [float(np.finfo(dtype).tiny * dtype(0.25)) for dtype in (np.float32, np.float64)]


def test_threads_that_train_have_no_denormals_and_others_keep_theirs() -> None:
    seen: dict[str, list[float]] = {}

    def outside() -> None:
        seen["outside"] = products()

    def inside() -> None:
        with thread_arithmetic():
            seen["inside"] = products()
            pool = Pool(2)
            pool.each(lambda name: seen.update({name: products()}), ["own", "helper"])
            pool.close()

    for work in (inside, outside):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert all(x > 0 for x in seen.pop("outside"))
    assert seen == {name: [0.0, 0.0] for name in ("inside", "own", "helper")}


def test_what_fails_in_a_helper_reaches_the_caller() -> None:
    pool = Pool(2)

    def work(item: int) -> None:
        if item == 1:
            raise ValueError("one")

    with pytest.raises(ValueError, match="one"):
        pool.each(work, [0, 1])
    done: list[int] = []
    pool.each(done.append, [0, 1, 2])
    pool.close()
    assert sorted(done) == [0, 1, 2]

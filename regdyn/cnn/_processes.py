"""Runs side by side in processes of their own, each on one thread.

A narrow network gains little from a second thread, and threads of one process would wait for each
other's interpreter.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from multiprocessing.connection import Client, Listener
from pathlib import Path
from threading import Thread
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor

from regdyn.cnn._turns import Watch, take_turns
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.result import CnnResult
from regdyn.nets.config import Progress

PATIENCE = 0.5
"""Seconds between two looks at whether the parent is there."""


def side_by_side(
    configs: Sequence[CnnConfig],
    folders: Sequence[Path | None],
    processes: int,
    resume: bool,
    progress: Progress,
    watch: Watch,
) -> list[CnnResult]:
    """`regdyn.cnn.training.train` in so many processes."""

    def told(kind: str, index: int, what: Any) -> None:
        if kind == "progress":
            progress(replace(what, run=index))
        else:
            watch(index, what)

    with _listening(told) as (address, key):
        # Arrays go to the processes as memory-mapped files, the images once for all runs.
        run = joblib.Parallel(n_jobs=processes, backend="loky", inner_max_num_threads=1, batch_size=1)
        jobs = (
            joblib.delayed(_train)(config, folder, resume, index, address, key)
            for index, (config, folder) in enumerate(zip(configs, folders))
        )
        try:
            results = run(jobs)
        except BaseException:
            # They would finish what they are at.
            get_reusable_executor().shutdown(kill_workers=True)
            raise
    return [result.with_config(config) for config, result in zip(configs, results)]


def _train(
    config: CnnConfig, folder: Path | None, resume: bool, index: int, address: Any, key: bytes
) -> CnnResult:
    """One run in a process of its own, which tells the first one how it goes."""
    _end_with_parent()
    with Client(address, authkey=key) as line:
        (result,) = take_turns(
            [config], [folder], 1, 1, resume,
            lambda snapshot: line.send(("progress", index, snapshot)),
            lambda _, record: line.send(("record", index, record)),
        )  # fmt: skip
    return result.with_config(None)


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
def _listening(told: Callable[[str, int, Any], None]) -> Iterator[tuple[Any, bytes]]:
    """Where other processes can say something, and the key that they need for it."""
    key = secrets.token_bytes(32)
    with Listener(authkey=key) as listener:

        def hear(line: Any) -> None:
            try:
                while True:
                    told(*line.recv())
            except EOFError:
                line.close()

        def listen() -> None:
            while True:
                try:
                    Thread(target=hear, args=(listener.accept(),), daemon=True).start()
                except OSError:  # closed
                    return

        Thread(target=listen, daemon=True).start()
        yield listener.address, key

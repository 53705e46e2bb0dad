"""Runs in other processes: each on one thread, or on a GPU of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch

from regdyn.cnn._turns import Watch, take_turns
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.result import CnnResult
from regdyn.errors import WorkerLost
from regdyn.executors import Executor
from regdyn.executors.base import Tell
from regdyn.nets.config import Progress, Snapshot


@dataclass(frozen=True)
class Job:
    """A run for a worker."""

    config: CnnConfig
    folder: Path | None
    resume: bool
    watched: bool
    """Whether to tell every record, not only where the run stands."""


def in_workers(
    executor: Executor,
    configs: Sequence[CnnConfig],
    folders: Sequence[Path | None],
    resume: bool,
    progress: Progress,
    watch: Watch,
) -> list[CnnResult]:
    """`regdyn.cnn.training.train` by the workers of an executor."""

    def hear(index: int, message: tuple[str, object]) -> None:
        kind, what = message
        if kind == "progress":
            progress(Snapshot(**{**what, "run": index}))  # type: ignore[dict-item]
        else:
            watch(index, what)  # type: ignore[arg-type]

    jobs = (
        Job(config, folder, resume, executor.carries_objects)
        for config, folder in zip(configs, folders)
    )
    results: dict[int, CnnResult] = {}
    with closing(executor.run(_train, jobs, hear)) as found:
        for index, result in found:
            results[index] = result.with_config(configs[index])
            for record in () if executor.carries_objects else result.records:
                watch(index, record)
    return [results[index] for index in range(len(configs))]


def _train(job: Job, threads: int | None, tell: Tell) -> CnnResult:
    """One run, which tells how it goes."""
    if job.config.device == "cuda":
        gpus = torch.cuda.device_count()
        if not gpus:
            raise WorkerLost("a worker has no GPU, for which --device asks")
        torch.cuda.set_device(_own_gpu(gpus))
    (result,) = take_turns(
        [job.config], [job.folder], threads or 1, 1, job.resume,
        lambda snapshot: tell(("progress", asdict(snapshot))),
        lambda _, record: tell(("record", record)) if job.watched else None,
    )  # fmt: skip
    return result.with_config(None)


_HELD: list[int] = []
"""Locks of this process, open as long as it lives."""


@cache
def _own_gpu(count: int, folder: str | None = None) -> int:
    """A GPU of this machine that no other worker has, as long as there is one.

    A lock on a file for each says who has it, and is gone with its process.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        return os.getpid() % count
    for gpu in range(count):
        name = f"regdyn-{os.getuid()}-gpu-{gpu}.lock"
        handle = os.open(Path(folder or tempfile.gettempdir(), name), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
        else:
            _HELD.append(handle)
            return gpu
    return os.getpid() % count

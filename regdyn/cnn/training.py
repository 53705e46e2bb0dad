"""Training in torch, of one run or of many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from regdyn.cnn import checkpoints
from regdyn.cnn._turns import Watch, take_turns
from regdyn.cnn._workers import in_workers
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.result import CnnResult, Record
from regdyn.dynamics.engine import thread_count
from regdyn.errors import InvalidParameter
from regdyn.executors import Executor, InProcess
from regdyn.nets.config import Progress, nothing

SIDE_BY_SIDE = 8
"""Runs that share a GPU, unless told."""

THREADED = 2 * 10**8
"""Multiplications of a step from which a run takes more than one thread.

With fewer a second one gains a sixth at best, and loses far more where other programs want the
processors: hundreds of times in a step the threads wait for the one that is not running.
"""


def ignore(run: int, record: Record) -> None:
    """What watches a run unless the caller asks for more."""


def train(
    configs: Sequence[CnnConfig],
    *,
    threads: int | None = None,
    progress: Progress = nothing,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    side_by_side: int = SIDE_BY_SIDE,
    watch: Watch = ignore,
    executor: Executor | None = None,
) -> list[CnnResult]:
    """Train one network for each configuration.

    On a processor several runs go side by side, each in a process of its own on one thread; a single
    one takes all threads if its steps are large enough to gain from them. The same configuration on as
    many threads gives the same bits. On a GPU several runs take turns, each on a stream of its own. A
    run whose loss is no longer finite ends there; its result says so in `failed`, and the others go on.

    Parameters
    ----------
    configs
        The runs.
    threads
        All processors that this process may use where None.
    progress
        Called at every recorded time of every run.
    checkpoint
        Folder that gets a checkpoint at every recorded time, of several runs each in a folder of its
        own; none are written where None.
    resume
        Go on from the checkpoints that are there.
    force
        Start anew in a folder that holds checkpoints.
    side_by_side
        Runs that share a GPU.
    watch
        Called at every recorded time with the number of the run and what was measured; by workers that
        cannot send that, when the run has ended.
    executor
        Whose workers do it, each on one thread or on a GPU of its own: see `regdyn.make_executor`.

    Raises
    ------
    InvalidParameter
        For anything but configurations, a checkpoint that is there without `resume` or `force`, or
        belongs to another configuration, and a batch that does not fit into memory.
    """
    if not isinstance(configs, Sequence) or not all(isinstance(c, CnnConfig) for c in configs):
        raise InvalidParameter("configs", "a sequence of CnnConfig")
    folders = checkpoint_folders(configs, checkpoint)
    for folder in folders:
        if folder is not None and checkpoints.exists(folder) and not (resume or force):
            wanted = "a folder without a checkpoint (--resume goes on from it, --force overwrites it)"
            raise InvalidParameter("checkpoint", wanted, folder)
    if executor is not None and not isinstance(executor, InProcess):
        return in_workers(executor, configs, folders, resume, progress, watch)
    count = thread_count(threads if executor is None else executor.threads)
    processes = min(count, len(configs))
    if executor is None and processes > 1 and all(config.device == "cpu" for config in configs):
        from regdyn.executors.loky import Loky

        return in_workers(Loky(processes), configs, folders, resume, progress, watch)
    wide = any(_multiplications(config) >= THREADED for config in configs)
    return take_turns(configs, folders, count if wide else 1, side_by_side, resume, progress, watch)


def _multiplications(config: CnnConfig) -> int:
    """Of a step, forwards."""
    return config.batch * config.multiplications([0] * len(config.hidden_layers))


def checkpoint_folders(configs: Sequence[CnnConfig], folder: Path | str | None) -> list[Path | None]:
    """Where the checkpoints of each run go: several runs get folders run_0, run_1, …"""
    if folder is None:
        return [None] * len(configs)
    place = Path(folder)
    return [place] if len(configs) == 1 else [place / f"run_{i}" for i in range(len(configs))]

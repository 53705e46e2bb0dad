"""Runs that take turns in this process: one at a time on a processor, several on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from regdyn.cnn import checkpoints
from regdyn.cnn._batches import ImageStore
from regdyn.cnn._memory import named_by_batch
from regdyn.cnn._run import Run, channels_last, make_store
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.result import CnnResult, Record
from regdyn.nets.config import Progress

Watch = Callable[[int, Record], None]


def take_turns(
    configs: Sequence[CnnConfig],
    folders: Sequence[Path | None],
    threads: int,
    side_by_side: int,
    resume: bool,
    progress: Progress,
    watch: Watch,
) -> list[CnnResult]:
    """`regdyn.cnn.training.train` on so many threads, in this process."""
    stores = _Stores()
    waiting = list(range(len(configs)))
    going: dict[int, tuple[Run, _Stream]] = {}
    results: dict[int, CnnResult] = {}

    def note(index: int, run: Run) -> None:
        snapshot = run.record()
        run.save()
        if snapshot is not None:
            progress(replace(snapshot, run=index))
            watch(index, run.records[-1])

    def begin(index: int) -> Run:
        run = Run(configs[index], stores(configs[index]), folders[index])
        if resume and run.folder is not None and checkpoints.exists(run.folder):
            run.resume()
            return run
        run.prune()
        if run.due:
            note(index, run)
        return run

    def advance(index: int, run: Run) -> None:
        run.step()
        if run.failed:
            run.save()
        elif run.due:
            note(index, run)

    with torch_settings(threads):
        while waiting or going:
            while waiting and _may_join(configs[waiting[0]], going, side_by_side):
                index = waiting.pop(0)
                stream = _new_stream(configs[index])
                with _explained(configs[index], stores), stream():
                    going[index] = begin(index), stream
            for index, (run, stream) in list(going.items()):
                with _explained(run.config, stores), stream():
                    if not run.done:
                        advance(index, run)
                    if run.done:
                        results[index] = run.result()
                        del going[index]
    return [results[index] for index in range(len(configs))]


_Stream = Callable[[], AbstractContextManager[object]]
"""Makes a block run on a stream of a GPU; on a processor it does nothing."""


def _new_stream(config: CnnConfig) -> _Stream:
    if config.device != "cuda":
        return nullcontext
    # The data were brought there on another stream.
    torch.cuda.synchronize()
    return partial(torch.cuda.stream, torch.cuda.Stream())  # type: ignore[no-untyped-call]


def _may_join(config: CnnConfig, going: Mapping[int, object], most: int) -> bool:
    """Whether a run may begin beside those that are going."""
    return not going or (config.device == "cuda" and len(going) < most)


def _explained(config: CnnConfig, stores: _Stores) -> AbstractContextManager[None]:
    """Out of memory becomes a line that says which batch would fit."""
    return named_by_batch(config, partial(_attempt, config, stores))


def _attempt(config: CnnConfig, stores: _Stores, batch: int) -> None:
    """A step with that batch, of which nothing remains."""
    with _new_stream(config)():
        Run(replace(config, batch=batch, times=[0]), stores(config)).step()


class _Stores:
    """The data of each run on its device, brought there once."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], ImageStore] = {}

    def __call__(self, config: CnnConfig) -> ImageStore:
        key = (id(config.images), config.device, config.dtype, channels_last(config), config.crop)
        if key not in self._made:
            self._made[key] = make_store(config)
        return self._made[key]


@contextmanager
def torch_settings(threads: int) -> Iterator[None]:
    """So many threads, denormals rounded to 0, fast kernels on a GPU; the user's settings restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    # Dying filters and idle states are full of denormals, on which arithmetic is slow.
    torch.set_flush_denormal(True)
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)
        torch.backends.cudnn.benchmark = benchmark

"""Runs as TensorBoard files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regdyn.cnn.config import CnnConfig
from regdyn.cnn.events import open_writer, write_layer
from regdyn.cnn.metrics import counted
from regdyn.cnn.result import Record
from regdyn.cnn.training import checkpoint_folders
from regdyn.errors import InvalidParameter
from regdyn.nets.run_result import variable_name


class Board:
    """Called with the number of a run and what was measured, writes it down.

    Parameters
    ----------
    configs
        The runs.
    folder
        Where the files go: of several runs each into a folder of its own, run_0, run_1, …
    resume
        Add to the files that are there.
    force
        Remove the files that are there.

    Raises
    ------
    InvalidParameter
        For "tensorboard": files that are there without `resume` or `force`, or no folder to be made.
    """

    def __init__(
        self, configs: Sequence[CnnConfig], folder: Path, resume: bool = False, force: bool = False
    ) -> None:
        self._configs = configs
        places = [place for place in checkpoint_folders(configs, folder) if place is not None]
        old = [file for place in places for file in place.glob("events.out.tfevents.*")]
        if old and not (resume or force):
            wanted = "a folder without such files (--resume adds to them, --force removes them)"
            raise InvalidParameter("tensorboard", wanted, folder)
        try:
            for file in () if resume else old:
                file.unlink()
        except OSError as error:
            got = f"{folder} ({error.strerror})"
            raise InvalidParameter("tensorboard", "a folder that can be written", got) from None
        self._writers = [open_writer(place) for place in places]

    def __call__(self, run: int, record: Record) -> None:
        writer, config = self._writers[run], self._configs[run]
        numbers = {
            "loss": record.loss,
            "error/test": record.test_error,
            "error/training": record.train_error,
            "error/without dead filters": record.error_zeroed,
            "removed/parameters": record.removed.parameters,
            "removed/convolutions": record.removed.convolutions,
            "removed/multiplications": record.removed.flops,
        }
        for name, value in numbers.items():
            if np.isfinite(value):
                writer.add_scalar(name, value, record.step)
        for i, layer in enumerate(counted(config.blueprint)):
            name = variable_name(layer.name)
            write_layer(writer, record.step, name, record.gamma[i], record.beta[i], config.threshold)
        writer.flush()

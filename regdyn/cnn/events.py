"""TensorBoard files, and what any training writes there of a normalised layer."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from regdyn.errors import InvalidParameter


def open_writer(folder: str | os.PathLike[str]) -> SummaryWriter:
    """A writer that adds a file to `folder`, which is made if need be.

    Raises
    ------
    InvalidParameter
        For "tensorboard", if that cannot be.
    """
    try:
        return SummaryWriter(str(folder))
    except OSError as error:
        got = f"{folder} ({error.strerror})"
        raise InvalidParameter("tensorboard", "a folder that can be written", got) from None


def write_layer(
    writer: SummaryWriter, step: int, name: str, gamma: NDArray, beta: NDArray, threshold: float
) -> None:
    """The share of units with \\|gamma\\| below the threshold, and what gamma and beta are.

    Numbers that are not finite have no place in a histogram and are left out.
    """
    writer.add_scalar(f"dead by scale/{name}", float(np.mean(np.abs(gamma) < threshold)), step)
    for quantity, values in (("gamma", gamma), ("beta", beta)):
        finite = values[np.isfinite(values)]
        if finite.size:
            writer.add_histogram(f"{quantity}/{name}", finite, step)

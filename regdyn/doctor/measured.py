"""What the filters of any torch model do on images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regdyn.cnn import metrics
from regdyn.cnn._batches import ImageStore
from regdyn.cnn._turns import torch_settings
from regdyn.cnn.config import available_device
from regdyn.cnn.images import Images
from regdyn.cnn.metrics import Activations, Batches
from regdyn.doctor.activations import check_followed, watch_activations
from regdyn.doctor.factory import load_into
from regdyn.doctor.tensors import SavedTensors
from regdyn.dynamics.engine import thread_count
from regdyn.errors import InvalidParameter
from regdyn.nets.sparsity import ActivationRecord


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """What data showed of a network's filters.

    Attributes
    ----------
    data
        The images in words.
    activations
        What each filter did on the training images, by the name of its batch normalisation in the file;
        only of those that an activation of their own follows.
    functions
        For each batch normalisation that ran the function of that activation, such as "relu"; None for
        one without, as where its output goes into a residual sum.
    not_finite
        Those with an activation that is not finite, which are not among `activations`.
    train_error, test_error
        Share of the images whose class is not the greatest output; None if there are not as many
        outputs as classes.
    """

    data: str
    activations: Mapping[str, Activations]
    functions: Mapping[str, str | None]
    not_finite: tuple[str, ...]
    train_error: float | None
    test_error: float | None

    def words(self) -> str:
        """Where it was measured, and the errors."""
        errors = [
            f"{name} error {share:.2%}"
            for name, share in (("training", self.train_error), ("test", self.test_error))
            if share is not None
        ]
        lines = [f"Measured on {self.data}" + "".join(f", {error}" for error in errors)]
        if self.activations:
            lines.append(
                "Share of the filters by their greatest activation over the training set; means of the "
                "share of samples and positions\nwhere they are active, its prediction, universality "
                "and selectivity"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the numbers of single filters."""
        return {
            "data": self.data,
            "activation_functions": dict(self.functions),
            "activations_not_finite": list(self.not_finite),
            "train_error": self.train_error,
            "test_error": self.test_error,
        }


def measure(
    model: nn.Module,
    saved: SavedTensors,
    images: Images,
    *,
    normalize: bool = True,
    device: str = "auto",
    threads: int | str | None = None,
    progress: Callable[[int], object] = lambda images: None,
) -> Measured:
    """Load the tensors into the model and let it see the images, in evaluation mode.

    Activations are those of `watch_activations`: the first activation that gets a normalisation's
    output, be it a module or a function. Definitions are those of `regdyn.nets.sparsity`, over the
    training images.

    Parameters
    ----------
    model
        The network of the tensors. It gets them, and stays in its mode.
    saved
        The tensors.
    images
        What it sees.
    normalize
        Subtract the mean of each channel over the training images and divide by its std, as
        `regdyn train` does; else the images are given as they are.
    device
        "cpu", "cuda", or "auto" for a GPU where there is one.
    threads
        On a processor; all processors where None.
    progress
        Told after each batch how many images it had.

    Raises
    ------
    InvalidParameter
        For "model": the tensors do not fit, or a compiled model. For "data": the model cannot take the
        images; says what it raised. For "device" and "threads": none there.

    Source: mehta2019, sections 2.1 and 3; yaguchi2018, section V-A.
    """
    place = torch.device(available_device(device))
    count = thread_count(threads)
    check_followed(model)
    prefix = load_into(model, saved.tensors)
    # Scripts leave their models in either mode, and on any device.
    model.to(place)
    records: dict[str, ActivationRecord] = {}
    sick: dict[str, None] = {}

    def look(name: str, y: Tensor) -> None:
        if y.ndim >= 2 and name not in sick:
            record = records.setdefault(name, ActivationRecord(y.shape[1]))
            if not metrics.take_in(record, y):
                sick[name] = None

    store = image_store(images, model, place, normalize)
    size = metrics.samples_at_a_time(images.size)
    try:
        with torch_settings(count), torch.no_grad(), metrics.evaluating(model):
            with watch_activations(model, look) as functions:
                train_error = _error(model, store.train(size), images.n_classes, progress)
            test_error = _error(model, store.test(size), images.n_classes, progress)
    except Exception as error:
        # Whatever the user's model raises where it meets images that it was not made for.
        reason = f"{type(error).__name__}: {error}"
        raise InvalidParameter(
            "data", "images that the network takes", f"{images} ({reason})"
        ) from None
    finally:
        model.to("cpu")
    return Measured(
        data=str(images),
        activations={
            prefix + name: metrics.what_is_left(record)
            for name, record in records.items()
            if name not in sick
        },
        functions={prefix + name: function for name, function in functions.items()},
        not_finite=tuple(prefix + name for name in sick),
        train_error=train_error,
        test_error=test_error,
    )


def image_store(images: Images, model: nn.Module, device: torch.device, normalize: bool) -> ImageStore:
    """The images in the type of the model's parameters."""
    if not normalize:
        ones = np.ones(images.channels)
        images = dataclasses.replace(images, mean=0 * ones, std=ones)
    kinds = [value.dtype for value in model.state_dict().values() if value.is_floating_point()]
    dtype = kinds[0] if kinds else torch.float32
    return ImageStore(images, device, dtype, channels_last=False, margin=0)


def _error(
    model: nn.Module, batches: Batches, classes: int, progress: Callable[[int], object]
) -> float | None:
    """Share of the samples that are wrong; None if the outputs are no classes of these images."""
    wrong, total = 0.0, 0
    for x, y in batches:
        outputs = model(x)
        outputs = getattr(outputs, "logits", outputs)
        if isinstance(outputs, Tensor) and outputs.shape == (len(y), classes):
            wrong += float((outputs.argmax(1) != y).sum())
            total += len(y)
        progress(len(y))
    return wrong / total if total else None

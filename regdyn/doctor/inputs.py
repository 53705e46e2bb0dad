"""What two networks are compared on: test images with labels, or random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regdyn.cnn._batches import ImageStore
from regdyn.cnn.images import Images

Batch = tuple[Tensor, Tensor | None]
"""Inputs (samples, ...) and labels (samples,), if there are any."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs for a network, in batches.

    Attributes
    ----------
    source
        Test images, or random inputs themselves.
    samples
        How many there are.
    batch
        How many at a time.
    words
        What they are, for the user.
    """

    source: ImageStore | Tensor
    samples: int
    batch: int
    words: str

    def __iter__(self) -> Iterator[Batch]:
        if isinstance(self.source, ImageStore):
            yield from self.source.test(self.batch)
        else:
            for begin in range(0, self.samples, self.batch):
                yield self.source[begin : begin + self.batch], None

    @property
    def example(self) -> Tensor:
        """The first few."""
        x, _ = next(iter(self))
        return x[:8]


def test_images(images: Images, model: nn.Module, batch: int) -> Inputs:
    """The test set, standardised by channel over the training set, in the type of the weights."""
    like = _like(model)
    store = ImageStore(images, torch.device("cpu"), like.dtype, channels_last=False, margin=0)
    number = len(images.y_test)
    return Inputs(store, number, batch, f"{number} test images of {images.name}")


def random_inputs(
    shape: tuple[int, ...], model: nn.Module, samples: int, batch: int, seed: int
) -> Inputs:
    """Standard normal numbers of shape (samples, *shape), in the type of the weights."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, *shape, generator=generator).to(_like(model).dtype)
    return Inputs(x, samples, batch, f"{samples} random inputs of {'x'.join(map(str, shape))}")


def _like(model: nn.Module) -> Tensor:
    """A tensor of the type of the weights."""
    return next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))

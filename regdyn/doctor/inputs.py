"""What two networks are compared on: test images with labels, or random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regdyn.cnn._batches import ImageStore
from regdyn.cnn.images import Images
from regdyn.doctor.measured import image_store


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs for a network, on the processor; as an iterable, pairs of a batch and its labels or None.

    Attributes
    ----------
    source
        Test images, or random inputs themselves.
    samples
        How many there are.
    batch
        How many at a time.
    classes
        Of the labels; None without.
    words
        What they are, for the user.
    """

    source: ImageStore | Tensor
    samples: int
    batch: int
    classes: int | None
    words: str

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        if isinstance(self.source, ImageStore):
            yield from self.source.test(self.batch)
        else:
            for begin in range(0, self.samples, self.batch):
                yield self.source[begin : begin + self.batch], None

    @property
    def first(self) -> Tensor:
        """The first batch."""
        x, _ = next(iter(self))
        return x


def test_images(images: Images, model: nn.Module, batch: int, *, normalize: bool = True) -> Inputs:
    """The test set in the type of the weights, standardised by channel over the training set or not."""
    store = image_store(images, model, torch.device("cpu"), normalize)
    number = len(images.y_test)
    return Inputs(store, number, batch, images.n_classes, f"{number} test images of {images.name}")


def random_inputs(
    shape: tuple[int, ...], model: nn.Module, samples: int, batch: int, seed: int
) -> Inputs:
    """Standard normal numbers of shape (samples, *shape), in the type of the weights."""
    generator = torch.Generator().manual_seed(seed)
    floating = (p.dtype for p in model.parameters() if p.is_floating_point())
    x = torch.randn(samples, *shape, generator=generator).to(next(floating, torch.float32))
    words = f"{samples} random inputs of {'x'.join(map(str, shape))}"
    return Inputs(x, samples, batch, None, words)

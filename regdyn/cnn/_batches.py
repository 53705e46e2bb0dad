"""Images on the device, and the batches made of them there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regdyn.cnn.images import Images


class ImageStore:
    """A data set on a device, as it is stored; normalised when a batch is taken.

    Parameters
    ----------
    images
        The data.
    device, dtype
        Of the batches.
    channels_last
        Their memory format; else channels first.
    margin
        Black pixels around the training images, for shifted crops.
    """

    def __init__(
        self, images: Images, device: torch.device, dtype: torch.dtype, channels_last: bool, margin: int
    ) -> None:
        self.dtype, self.channels_last, self.margin = dtype, channels_last, margin
        edges = ((0, 0), (margin, margin), (margin, margin), (0, 0))
        self.x_train = torch.tensor(np.pad(images.x_train, edges), device=device)
        self.x_test = torch.tensor(images.x_test, device=device)
        self.y_train = torch.tensor(images.y_train, device=device)
        self.y_test = torch.tensor(images.y_test, device=device)
        self.mean = torch.tensor(images.mean, device=device, dtype=dtype)[:, None, None]
        self.inverse_std = torch.tensor(1 / images.std, device=device, dtype=dtype)[:, None, None]
        rows, columns = images.size
        self._rows = torch.arange(rows, device=device)
        self._columns = torch.arange(columns, device=device)

    def normalized(self, stored: Tensor) -> Tensor:
        """(x - mean) / std by channel, (samples, channels, rows, columns), of images as stored."""
        x = (stored.permute(0, 3, 1, 2).to(self.dtype) - self.mean) * self.inverse_std
        return x if self.channels_last else x.contiguous()

    def crop(self, index: Tensor, flip: Tensor, shift: Tensor) -> Tensor:
        """The training images `index` (samples,), mirrored where `flip`, cut from `shift` on."""
        columns = torch.where(flip[:, None], self._columns.flip(0), self._columns) + shift[:, 1:]
        rows = self._rows + shift[:, :1]
        stored = self.x_train[index[:, None, None], rows[:, :, None], columns[:, None, :]]
        return self.normalized(stored)

    def train(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The training set in its order, without augmentation, `size` images at a time."""
        inner = slice(self.margin, -self.margin or None)
        for part in _parts(len(self.y_train), size):
            yield self.normalized(self.x_train[part, inner, inner]), self.y_train[part]

    def test(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The test set in its order."""
        for part in _parts(len(self.y_test), size):
            yield self.normalized(self.x_test[part]), self.y_test[part]


def _parts(examples: int, size: int) -> Iterator[slice]:
    for begin in range(0, examples, size):
        yield slice(begin, begin + size)


@dataclass(frozen=True)
class Choice:
    """Which images a step takes, and how they are turned."""

    index: Tensor
    flip: Tensor
    shift: Tensor

    def copy_(self, other: Choice) -> None:
        self.index.copy_(other.index)
        self.flip.copy_(other.flip)
        self.shift.copy_(other.shift)

    def clone(self) -> Choice:
        return Choice(self.index.clone(), self.flip.clone(), self.shift.clone())


class Order:
    """What every step takes: each epoch a new random order, the rest that fills no batch left out.

    Depends on the seed and the number of the step alone, so that a run can go on anywhere.

    Parameters
    ----------
    examples, batch
        Training images, and how many a step takes.
    seed
        Of the order and the augmentation.
    flip
        Whether images are mirrored left to right, each with probability 1/2.
    margin
        Images are shifted by up to so many pixels in either direction.
    device
        Where the choices go.
    """

    def __init__(
        self, examples: int, batch: int, seed: int, flip: bool, margin: int, device: torch.device
    ) -> None:
        self.per_epoch = examples // batch
        self._examples, self._batch, self._seed = examples, batch, seed
        self._flip, self._margin, self._device = flip, margin, device
        self._epoch = -1
        self._chosen: Choice | None = None

    def at(self, t: int) -> Choice:
        """What step t = 1, 2, … takes."""
        epoch, place = divmod(t - 1, self.per_epoch)
        if epoch != self._epoch or self._chosen is None:
            self._epoch, self._chosen = epoch, self._draw(epoch)
        part = slice(place * self._batch, (place + 1) * self._batch)
        c = self._chosen
        return Choice(c.index[part], c.flip[part], c.shift[part])

    def _draw(self, epoch: int) -> Choice:
        rng = np.random.default_rng((self._seed, 1, epoch))
        n = self._examples
        index = rng.permutation(n)
        flip = rng.random(n) < 0.5 if self._flip else np.zeros(n, bool)
        shift = rng.integers(0, 2 * self._margin + 1, (n, 2))

        def tensor(array: NDArray) -> Tensor:
            return torch.tensor(array, device=self._device)

        return Choice(tensor(index), tensor(flip), tensor(shift))

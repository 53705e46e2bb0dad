"""Images with labels, as the networks take them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regdyn.errors import InvalidParameter
from regdyn.nets.data import MAX_SEED, check_classes
from regdyn.parameters import check_integer, real_array


@dataclass(frozen=True, eq=False)
class Images:
    """A task of image classification. Made by `prepare_images`, which checks it; arrays are read-only.

    Parameters
    ----------
    name
        What the user calls it.
    x_train, x_test
        Images (n, rows, columns, channels) as they are stored, uint8 or float32, not standardised.
    y_train, y_test
        Labels (n,), 0 … n_classes - 1.
    n_classes
        Number of classes; each has a training image.
    mean, std
        (channels,), over all pixels of the training set in the units of x (divisor n); std is 1 where
        a channel is constant.
    notes
        What the user should know, a sentence each.
    """

    name: str
    x_train: NDArray[np.uint8 | np.float32] = field(repr=False)
    y_train: NDArray[np.int64] = field(repr=False)
    x_test: NDArray[np.uint8 | np.float32] = field(repr=False)
    y_test: NDArray[np.int64] = field(repr=False)
    n_classes: int
    mean: NDArray[np.float64] = field(repr=False)
    std: NDArray[np.float64] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        return int(self.x_train.shape[1]), int(self.x_train.shape[2])

    @property
    def channels(self) -> int:
        """Numbers in each pixel: 1 if the images are grey, 3 if they are in colour."""
        return int(self.x_train.shape[3])

    def __str__(self) -> str:
        rows, columns = self.size
        return (
            f"{self.name}: {len(self.x_train)} training and {len(self.x_test)} test images of "
            f"{rows}x{columns} pixels, {self.channels} channel{'s' * (self.channels > 1)}, "
            f"{self.n_classes} classes"
        )

    def with_random_labels(self, seed: int) -> Images:
        """The same images with the training labels permuted at random, once (zhou2020, section 3.3).

        Each class keeps its number of training images; test images keep their labels.

        Raises
        ------
        InvalidParameter
            If `seed` is not a whole number from 0.
        """
        seed = check_integer("seed", seed, 0, MAX_SEED)
        labels = np.random.default_rng(seed).permutation(self.y_train)
        labels.setflags(write=False)
        name = f"{self.name} with random labels (seed {seed})"
        return dataclasses.replace(self, name=name, y_train=labels)


def prepare_images(name: str, x_train: Any, y_train: Any, x_test: Any, y_test: Any) -> Images:
    """`Images` of arrays, which are checked and copied.

    Parameters
    ----------
    name
        What the user calls it.
    x_train, x_test
        Real numbers (n, rows, columns) or (n, rows, columns, channels). uint8 stays what it is, all
        else becomes float32.
    y_train, y_test
        Whole numbers (n,); the classes are 0 … the greatest training label.

    Raises
    ------
    InvalidParameter
        Named after the argument: images that are empty, not real, not finite in float32 or of different
        shapes in the two sets; labels that differ in number from the images or are not whole numbers
        from 0; fewer than 2 classes or training images, a class without training image, no test image.
    """
    train, test = _pixels("x_train", x_train), _pixels("x_test", x_test)
    if train.shape[1:] != test.shape[1:]:
        wanted = f"images of shape {train.shape[1:]}, as x_train is"
        raise InvalidParameter("x_test", wanted, test.shape[1:])
    labels, test_labels, n_classes, notes = check_classes(y_train, y_test, len(train), len(test))
    mean, std, constant = _channel_statistics(train)
    if constant:
        some = f"{constant} of {len(mean)} channels {'is' if constant == 1 else 'are'}"
        notes = (f"{some} constant in the training set, with std 1 in place of 0", *notes)
    for array in (train, labels, test, test_labels, mean, std):
        array.setflags(write=False)
    return Images(name, train, labels, test, test_labels, n_classes, mean, std, notes)


def _pixels(name: str, value: Any) -> NDArray[np.uint8 | np.float32]:
    """`value` as finite images (n, rows, columns, channels), always a new array in that order."""
    wanted = "real numbers of shape (images, rows, columns) or (images, rows, columns, channels)"
    given = real_array(name, value, wanted)
    if given.ndim not in (3, 4) or 0 in given.shape[1:]:
        raise InvalidParameter(name, wanted, f"shape {given.shape}")
    with np.errstate(over="ignore"):  # beyond float32 becomes inf and is refused below
        dtype = np.uint8 if given.dtype == np.uint8 else np.float32
        array: NDArray[np.uint8 | np.float32] = np.array(given, dtype, order="C")
    if array.dtype != np.uint8:
        bad = np.flatnonzero(~np.isfinite(array).all(axis=tuple(range(1, array.ndim))))
        if len(bad):
            raise InvalidParameter(name, "finite in float32", f"NaN or infinity in image {bad[0]}")
    return array if array.ndim == 4 else array[..., None]


def _channel_statistics(
    x: NDArray[np.uint8 | np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Mean and std of each channel, std 1 where it is constant, and how many are."""
    pixels = x.reshape(-1, x.shape[-1])
    # In pieces: all pixels at once in float64 take eight times the memory of the images.
    pieces = [pixels[begin : begin + 2**16] for begin in range(0, len(pixels), 2**16)]
    mean = np.sum([piece.sum(axis=0, dtype=np.float64) for piece in pieces], axis=0) / len(pixels)
    squares = np.sum([((piece - mean) ** 2).sum(axis=0) for piece in pieces], axis=0)
    constant = pixels.min(axis=0) == pixels.max(axis=0)
    return mean, np.where(constant, 1.0, np.sqrt(squares / len(pixels))), int(constant.sum())

"""Data sets: examples with labels, checked and standardised; one line each in the registry below."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regdyn.errors import InvalidParameter
from regdyn.files import load_arrays
from regdyn.parameters import check_integer, check_number, make_named, real_array

MAX_SEED = 2**63 - 1
MAX_IMAGES = 100_000

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
"""What a .npz file of examples holds."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification task. Made by `prepare`, which checks it; its arrays are read-only.

    Parameters
    ----------
    name
        What the user calls it.
    x_train, x_test
        Features (n, features), standardised by mean and standard deviation of the training set.
    y_train, y_test
        Labels (n,), 0 … n_classes - 1.
    n_classes
        Number of classes; each has a training example.
    notes
        What the user should know, a sentence each.
    image_shape
        Rows and columns if the features are the pixels of a grey image, row by row.
    mean, std
        Of each feature of the training set before it was standardised; std is 0 where it is constant.
    """

    name: str
    x_train: NDArray[np.float64] = field(repr=False)
    y_train: NDArray[np.int64] = field(repr=False)
    x_test: NDArray[np.float64] = field(repr=False)
    y_test: NDArray[np.int64] = field(repr=False)
    n_classes: int
    notes: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1), repr=False)
    std: NDArray[np.float64] = field(default_factory=lambda: np.ones(1), repr=False)

    @property
    def n_features(self) -> int:
        """Number of features, the inputs of a network."""
        return int(self.x_train.shape[1])

    def __str__(self) -> str:
        return (
            f"{self.name}: {len(self.x_train)} training and {len(self.x_test)} test examples of "
            f"{self.n_features} features, {self.n_classes} classes"
        )

    def raw(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The features `x` (n, features) as they were before they were standardised."""
        return np.asarray(x * self.std + self.mean)


def prepare(
    name: str,
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    *,
    image_shape: tuple[int, int] | None = None,
) -> Dataset:
    """A `Dataset` of raw features and labels.

    Each feature becomes (x - mean) / std with mean and standard deviation (divisor n) of the training
    set; one that is constant there becomes 0, in the test set too, and leaves a note.

    Parameters
    ----------
    name
        What the user calls it.
    x_train, x_test
        Real numbers (n, features).
    y_train, y_test
        Whole numbers (n,); the classes are 0 … the greatest training label.
    image_shape
        Rows and columns if the features are the pixels of a grey image, row by row.

    Raises
    ------
    InvalidParameter
        Named after the argument: features that are not two-dimensional, finite and real or differ in
        number between the sets, all constant, or too large to be standardised; labels that differ in
        number from the examples or are not whole numbers from 0; fewer than 2 classes or training
        examples, a class without training example, an empty test set.
    """
    train, test = _features("x_train", x_train), _features("x_test", x_test)
    if train.shape[1] == 0:
        raise InvalidParameter("x_train", "examples of at least 1 feature", f"shape {train.shape}")
    if train.shape[1] != test.shape[1]:
        wanted = f"of {train.shape[1]} features, as x_train is"
        raise InvalidParameter("x_test", wanted, test.shape[1])
    labels, test_labels, n_classes, untested = check_classes(y_train, y_test, len(train), len(test))
    if image_shape is not None and image_shape[0] * image_shape[1] != train.shape[1]:
        raise InvalidParameter("image_shape", f"of {train.shape[1]} pixels", image_shape)

    train, test, mean, std, constant = _standardised(train, test)
    if constant.all():
        raise InvalidParameter("x_train", "varying in at least 1 feature", "constant features only")
    notes = []
    if constant.any():
        some, all_ = int(constant.sum()), len(constant)
        was = "is constant in the training set and is" if some == 1 else (
            "are constant in the training set and are"
        )  # fmt: skip
        notes.append(f"{some} of {all_} features {was} set to 0")
    notes.extend(untested)
    for array in (train, labels, test, test_labels, mean, std):
        array.setflags(write=False)
    return Dataset(
        name, train, labels, test, test_labels, n_classes, tuple(notes), image_shape, mean, std
    )  # fmt: skip


def check_classes(
    y_train: Any, y_test: Any, n_train: int, n_test: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, tuple[str, ...]]:
    """Labels of both sets, new arrays; the number of classes; a note on those that are not tested.

    Parameters
    ----------
    y_train, y_test
        Whole numbers (n,); the classes are 0 … the greatest training label.
    n_train, n_test
        Number of examples in each set.

    Raises
    ------
    InvalidParameter
        Named after the set: fewer than 2 training examples or classes, an empty test set, a class
        without training example; labels that differ in number from the examples or are not whole
        numbers from 0.
    """
    if n_train < 2:
        raise InvalidParameter("x_train", "at least 2 examples", n_train)
    if n_test == 0:
        raise InvalidParameter("x_test", "at least 1 example", 0)
    labels = _labels("y_train", y_train, n_train)
    classes = np.unique(labels)
    if len(classes) < 2 and classes[0] == 0:
        raise InvalidParameter("y_train", "of at least 2 classes", "class 0 alone")
    gaps = np.flatnonzero(classes != np.arange(len(classes)))
    if len(gaps):
        wanted = f"labels of which each of 0 … {classes[-1]} occurs"
        raise InvalidParameter("y_train", wanted, f"no example of class {gaps[0]}")
    test_labels = _labels("y_test", y_test, n_test, len(classes))
    missing = np.setdiff1d(classes, test_labels)
    if not len(missing):
        return labels, test_labels, len(classes), ()
    which = f"class{'es' * (len(missing) > 1)} {_listed(missing)}"
    note = f"the test set has no example of {which}; the test error is over the others"
    return labels, test_labels, len(classes), (note,)


def _listed(numbers: NDArray[np.int64]) -> str:
    """ "3", "3 and 5", "3, 5 and 7", of many the first ones."""
    shown = [str(n) for n in numbers[:10]]
    if len(numbers) > len(shown):
        shown.append(f"{len(numbers) - len(shown)} more")
    return " and ".join(([", ".join(shown[:-1])] if shown[:-1] else []) + shown[-1:])


def _features(name: str, value: Any) -> NDArray[np.float64]:
    """`value` as a two-dimensional array of finite numbers, always a new one."""
    wanted = "real numbers of shape (examples, features)"
    given = real_array(name, value, wanted)
    if given.ndim != 2:
        raise InvalidParameter(name, wanted, f"shape {given.shape}")
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes inf and is refused below
        array = np.array(given, np.float64)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        row, column = bad[0]
        what = "NaN" if np.isnan(array[row, column]) else str(array[row, column])
        raise InvalidParameter(name, "finite", f"{what} at row {row}, column {column}")
    return array


def _labels(name: str, value: Any, examples: int, n_classes: int | None = None) -> NDArray[np.int64]:
    """`value` as labels of so many examples, 0 … n_classes - 1 where that is given."""
    wanted = "whole numbers from 0, one for each example"
    array = real_array(name, value, wanted)
    if array.ndim != 1:
        raise InvalidParameter(name, wanted, f"shape {array.shape}")
    if len(array) != examples:
        which = f"x_{name.removeprefix('y_')}"
        raise InvalidParameter(name, f"as long as {which} ({examples})", len(array))
    array = array.astype(float) if array.dtype.kind == "f" else array
    # Labels above 2^53 cannot be classes of anything that fits into memory.
    fits = (array >= 0) & (array < 2**53) & (array == np.floor(array))
    bad = np.flatnonzero(~fits)
    if len(bad):
        raise InvalidParameter(name, wanted, f"{array[bad[0]]} at row {bad[0]}")
    labels = array.astype(np.int64)
    if n_classes is not None and labels.max() >= n_classes:
        row = int(np.argmax(labels >= n_classes))
        wanted = f"labels of training examples, 0 … {n_classes - 1}"
        raise InvalidParameter(name, wanted, f"{labels[row]} at row {row}")
    return labels


def _standardised(
    train: NDArray[np.float64], test: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Both sets with mean 0 and variance 1 in the training set; mean, std, and which are constant.

    Features are brought to [0, 1] first, so that neither sums of squares nor differences overflow and
    the standard deviation of a feature that varies in its last bit is not 0.
    """
    _, exponent = np.frexp(np.abs(train).max(axis=0))
    train, low = np.ldexp(train, -exponent), np.ldexp(train.min(axis=0), -exponent)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        test = np.ldexp(test, -exponent)
        train, test = train - low, test - low
        span = train.max(axis=0)
        constant = span == 0
        divisor = np.where(constant, 1, span)
        train, test = train / divisor, test / divisor
        mean, std = train.mean(axis=0), train.std(axis=0)
        divisor = np.where(constant, 1, std)
        train, test = (train - mean) / divisor, (test - mean) / divisor
        train[:, constant] = test[:, constant] = 0.0
        bad = np.argwhere(~np.isfinite(test))
        if len(bad):
            row, column = bad[0]
            wanted = "near enough to x_train to be standardised by it"
            raise InvalidParameter("x_test", wanted, f"an overflow at row {row}, column {column}")
        mean = np.ldexp(low + mean * span, exponent)
        std = np.where(constant, 0.0, np.ldexp(std * span, exponent))
    return train, test, mean, std, constant


def digits(seed: int = 0) -> Dataset:
    """Handwritten digits: 1,797 images of 8x8 pixels with grey levels 0 … 16, 10 classes.

    A fifth of each class, 359 images in all, drawn from `seed`, is the test set; 1,438 remain.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998, https://doi.org/10.24432/C50P49, licence CC BY 4.0: the repository's test set, as
    scikit-learn's load_digits has it, stored unchanged as regdyn/nets/digits.npz.

    Raises
    ------
    InvalidParameter
        If `seed` is not a whole number from 0.
    """
    seed = check_integer("seed", seed, 0, MAX_SEED)
    stored = load_arrays("data", Path(__file__).with_name("digits.npz"), ("x", "y"))
    x, y = stored["x"].astype(float), stored["y"].astype(np.int64)
    order = np.argsort(np.random.default_rng(seed).random(len(y)))
    tested = np.zeros(len(y), bool)
    for label in range(10):
        members = order[y[order] == label]
        tested[members[: round(0.2 * len(members))]] = True
    return prepare("digits", x[~tested], y[~tested], x[tested], y[tested], image_shape=(8, 8))


VERTICES, DOTS = 5, 24
"""A class is a path of so many corners; a rendering of it is so many round dots along that path."""

PIECES, PIECE_DOTS = 6, 8
"""Strokes in the background of an image, and dots along each."""

NOISE = 0.05
"""Standard deviation of the noise on every pixel, where an object's grey levels end at 1."""


def synthetic(
    classes: int = 10,
    overlap: float = 0.0,
    clutter: float = 0.0,
    n_train: int = 2000,
    n_test: int = 1000,
    size: int = 12,
    seed: int = 0,
) -> Dataset:
    """Grey images of drawn shapes, whose difficulty is set by `classes`, `overlap` and `clutter`.

    A class is a path of 5 random corners, moved towards one path common to all of them,

        (1 - overlap) own + overlap common.

    An image draws its class with every corner displaced, the whole turned (standard deviation 0.25
    radians), scaled (15 percent) and shifted (by up to 1 pixel of 12); it is

        object + (1 - object) clutter background + noise,

    with object and background in [0, 1) and noise of standard deviation 0.05. The background is 6
    strokes of the classes' own paths, turned and placed at random: pieces of shapes that say nothing of
    the class. Classes are equally frequent, up to one image.

    Objects and noise depend on `seed` but not on `clutter`: two sets that differ in `clutter` alone
    show the same objects before other backgrounds, as the two sets of mehta2019 (section 3) do.

    Parameters
    ----------
    classes
        Number of classes, 2 … 100.
    overlap
        How far the classes have moved together, in [0, 1).
    clutter
        Contrast of the background over that of the object, in [0, 100]; 0 draws none.
    n_train, n_test
        Number of images, `n_train` at least one of each class, each at most 100,000.
    size
        Rows and columns of an image, 6 … 32.
    seed
        Of the paths, objects, backgrounds and noise.

    Raises
    ------
    InvalidParameter
        For an argument outside these ranges.
    """
    classes = check_integer("classes", classes, 2, 100)
    overlap = check_number("overlap", overlap, "[0, 1)")
    clutter = check_number("clutter", clutter, "[0, 100]")
    n_train = check_integer("n_train", n_train, classes, MAX_IMAGES)
    n_test = check_integer("n_test", n_test, 1, MAX_IMAGES)
    size = check_integer("size", size, 6, 32)
    seed = check_integer("seed", seed, 0, MAX_SEED)
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(5)]

    paths = streams[0].uniform(-1, 1, (classes + 1, VERTICES, 2))
    paths -= (paths.max(1, keepdims=True) + paths.min(1, keepdims=True)) / 2
    paths /= np.abs(paths).max((1, 2), keepdims=True)
    paths = (1 - overlap) * paths[:-1] + overlap * paths[-1]

    def images(
        n: int, objects: np.random.Generator, backgrounds: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        labels = np.argsort(objects.random(n)) % classes
        x = _drawn(_object_dots(paths[labels], size, objects), size)
        noise = NOISE * objects.standard_normal(x.shape)
        if clutter > 0:
            x += (1 - x) * clutter * _drawn(_background_dots(paths, n, size, backgrounds), size)
        return x + noise, labels

    train, test = images(n_train, *streams[1:3]), images(n_test, *streams[3:5])
    return prepare("synthetic", *train, *test, image_shape=(size, size))


def _along(corners: NDArray[np.float64], dots: int) -> NDArray[np.float64]:
    """Points (n, dots, 2) on paths with `corners` (n, k, 2), evenly from corner to corner."""
    at = np.linspace(0, corners.shape[1] - 1, dots)
    corner = np.minimum(at.astype(int), corners.shape[1] - 2)
    share = (at - corner)[:, None]
    return np.asarray(corners[:, corner] * (1 - share) + corners[:, corner + 1] * share)


def _turned(points: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (n, k, 2), turned about the origin by `angle` (n,) radians."""
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def _object_dots(
    corners: NDArray[np.float64], size: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Where to draw one object for each of the paths `corners` (n, k, 2), in pixels."""
    n = len(corners)
    corners = corners + 0.12 * rng.standard_normal(corners.shape)
    corners = _turned(corners, 0.25 * rng.standard_normal(n))
    scale = 0.36 * size * np.exp(0.15 * rng.standard_normal((n, 1, 1)))
    shift = size / 12 * rng.uniform(-1, 1, (n, 1, 2))
    return _along(corners * scale, DOTS) + (size - 1) / 2 + shift


def _background_dots(
    paths: NDArray[np.float64], n: int, size: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Where to draw the strokes behind n objects, in pixels: legs of `paths`, turned, anywhere."""
    strokes = n * PIECES
    path, leg = rng.integers(len(paths), size=strokes), rng.integers(VERTICES - 1, size=strokes)
    half = (paths[path, leg + 1] - paths[path, leg])[:, None] / 2
    ends = np.concatenate([-half, half], axis=1)
    dots = _along(_turned(ends, rng.uniform(0, 2 * np.pi, strokes)) * 0.36 * size, PIECE_DOTS)
    dots += rng.uniform(-0.5, size - 0.5, (strokes, 1, 2))
    return dots.reshape(n, PIECES * PIECE_DOTS, 2)


def _drawn(dots: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Images (n, size * size) in [0, 1) of round `dots` (n, k, 2), x and y in pixels.

    A dot is a Gaussian, hence a product of a row and a column: an image is a matrix product.
    """
    n = len(dots)
    drawn = np.empty((n, size, size))
    grid, width = np.arange(size), size / 20
    for begin in range(0, n, 500):  # pieces that stay in the cache
        part = slice(begin, begin + 500)
        bell = np.exp(-0.5 * ((dots[part, :, :, None] - grid) / width) ** 2)
        np.matmul(bell[:, :, 1].transpose(0, 2, 1), bell[:, :, 0], out=drawn[part])
    return np.asarray(-np.expm1(-drawn)).reshape(n, size * size)


def clean(seed: int = 0) -> Dataset:
    """30 classes of shapes on a plain background: the clean set of mehta2019 (section 3) in miniature.

    `synthetic` with 6,000 training and 2,000 test images of 12x12 pixels; InvalidParameter for `seed`.
    """
    return synthetic(classes=30, n_train=6000, n_test=2000, seed=seed)


def cluttered(clutter: float = 0.6, seed: int = 0) -> Dataset:
    """The objects of `clean`, the same to the bit, on a cluttered background (mehta2019, section 3)."""
    return synthetic(classes=30, clutter=clutter, n_train=6000, n_test=2000, seed=seed)


def load_npz(path: str | os.PathLike[str]) -> Dataset:
    """The data set in a .npz file with arrays x_train, y_train, x_test and y_test.

    Examples are along the first axis; images, features of more than one axis, are flattened to
    (n, features). The features are standardised as by `prepare`.

    Raises
    ------
    InvalidParameter
        For "data": the file is missing, not an .npz, lacks an array or holds pickled objects, or
        `prepare` refuses what is in it.
    """
    arrays = load_arrays("data", path, ARRAYS)
    shape, other = arrays["x_train"].shape[1:], arrays["x_test"].shape[1:]
    if shape != other and (len(shape) > 1 or len(other) > 1):
        raise InvalidParameter(
            "data", "examples of one shape", f"{path}: x_train {shape}, x_test {other}"
        )
    for name in ("x_train", "x_test") if len(shape) > 1 else ():
        arrays[name] = arrays[name].reshape(len(arrays[name]), math.prod(shape))
    image_shape = (shape[0], shape[1]) if len(shape) == 2 else None
    try:
        return prepare(Path(path).name, **arrays, image_shape=image_shape)
    except InvalidParameter as error:
        raise InvalidParameter("data", "a set of examples", f"{path}, where {error}") from None


DATASETS: Mapping[str, str] = {
    "digits": "1,797 handwritten digits of 8x8 pixels (UCI, as in scikit-learn)",
    "clean": "drawn shapes of 30 classes, 12x12 pixels, on a plain background",
    "cluttered": "the same shapes on a background of strokes",
    "synthetic": "drawn shapes with a chosen number of classes, overlap and clutter",
}
"""Names for `make_dataset` with what they are."""

_MAKERS: Mapping[str, Callable[..., Dataset]] = {
    "digits": digits, "clean": clean, "cluttered": cluttered, "synthetic": synthetic,
}  # fmt: skip


def make_dataset(text: str) -> Dataset:
    """The data set called `text`: NAME, NAME:KEY=VALUE,…, or the path of a file that ends in .npz.

    Names are the keys of `DATASETS`; the keys are the arguments of the function of that name, such as
    "digits:seed=1" or "synthetic:classes=20,overlap=0.3". The same name gives the same object.

    Raises
    ------
    InvalidParameter
        For "data": an unknown name or key, a bad value, a file that `load_npz` refuses.
    """
    return load_npz(text) if str(text).endswith(".npz") else _named(str(text))


@functools.lru_cache(maxsize=16)
def _named(text: str) -> Dataset:
    """The data set that `make_dataset` makes of a name, made once."""
    made = make_named("data", text, _MAKERS, others=["a path ending in .npz"])
    return dataclasses.replace(made, name=text)

"""Where images come from: published sets in a folder, files, drawn and rendered ones."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import math
import os
import shlex
import struct
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from regdyn.cnn.images import Images, prepare_images
from regdyn.errors import InvalidParameter, MissingData
from regdyn.files import load_arrays
from regdyn.nets.data import ARRAYS, DATASETS, Dataset, make_dataset
from regdyn.parameters import check_choice, make_named

CLUTTER = 1.0
"""Of the set `objects-cluttered` where its text does not say otherwise."""


# Published sets


@dataclass(frozen=True)
class _Published:
    """A file that is offered at `ADDRESS`, where `PAGE` leads to it, and its SHA-256."""

    ADDRESS: ClassVar[str]
    PAGE: ClassVar[str]

    name: str
    sha256: str

    def command(self, folder: str | os.PathLike[str]) -> str:
        """The shell command that puts the file into `folder`."""
        path = shlex.quote(str(Path(folder, self.name)))
        return f"curl -L --create-dirs -o {path} {self.ADDRESS}{self.name}"


@dataclass(frozen=True)
class _Archive(_Published):
    """A tar of records, each `label_bytes` labels, the last of them the class, and an image of CIFAR.

    `train` and `test` say how many records each member has.
    """

    ADDRESS = "https://www.cs.toronto.edu/~kriz/"
    PAGE = f"{ADDRESS}cifar.html"
    SHAPE: ClassVar[tuple[int, ...]] = (3, 32, 32)
    """Channels, rows and columns of an image in the order of its bytes."""

    train: Mapping[str, int]
    test: Mapping[str, int]
    label_bytes: int


@dataclass(frozen=True)
class _Idx(_Published):
    """A gzip file of bytes in an array of `shape` (LeCun's idx format)."""

    ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    PAGE = ADDRESS

    shape: tuple[int, ...]

    @property
    def unpacked(self) -> str:
        """Name of the file without gzip."""
        return self.name.removesuffix(".gz")

    @property
    def header(self) -> bytes:
        """What the unpacked file begins with: type (8 is bytes), number of axes, and their lengths."""
        axes = len(self.shape)
        return struct.pack(f">{1 + axes}I", 0x800 + axes, *self.shape)


# The authors of CIFAR publish MD5 sums. The SHA-256 sums here are those of TensorFlow Datasets
# (url_checksums/cifar10.txt, cifar100.txt and mnist.txt).
_CIFAR: dict[int, _Archive] = {
    10: _Archive(
        "cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        train={f"cifar-10-batches-bin/data_batch_{batch}.bin": 10_000 for batch in range(1, 6)},
        test={"cifar-10-batches-bin/test_batch.bin": 10_000},
        label_bytes=1,
    ),
    100: _Archive(
        "cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        train={"cifar-100-binary/train.bin": 50_000},
        test={"cifar-100-binary/test.bin": 10_000},
        label_bytes=2,
    ),
}

_MNIST: dict[str, _Idx] = {
    "x_train": _Idx(
        "train-images-idx3-ubyte.gz",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        (60_000, 28, 28),
    ),
    "y_train": _Idx(
        "train-labels-idx1-ubyte.gz",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        (60_000,),
    ),
    "x_test": _Idx(
        "t10k-images-idx3-ubyte.gz",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        (10_000, 28, 28),
    ),
    "y_test": _Idx(
        "t10k-labels-idx1-ubyte.gz",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        (10_000,),
    ),
}


def load_cifar(folder: str | os.PathLike[str] | None, classes: int = 10) -> Images:
    """CIFAR-10 or CIFAR-100: 50,000 training and 10,000 test photographs, 32x32 pixels in colour.

    The archive of the binary version is read where it lies, once its checksum is found to be right;
    nothing is unpacked to disk, and the Python version, which is pickled, is never read.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html.

    Parameters
    ----------
    folder
        Where cifar-10-binary.tar.gz or cifar-100-binary.tar.gz lies.
    classes
        10, or 100 for the fine labels of CIFAR-100.

    Raises
    ------
    MissingData
        Without a folder, or if the archive is not in it; says where to get it.
    InvalidParameter
        For "classes", for "data" if the archive is not the published one or not laid out like it.
    """
    if classes not in _CIFAR:
        raise InvalidParameter("classes", "10 or 100", classes)
    name, archive = f"cifar{classes}", _CIFAR[classes]
    place = _given_folder(name, folder, [archive])
    path = place / archive.name
    if not os.path.isfile(path):
        pickled = path.with_name(path.name.replace("binary", "python"))
        remark = f" ({pickled.name} is pickled and never read)" if os.path.isfile(pickled) else ""
        raise _missing(f"{name} needs {path.name} in {place}{remark}", [archive], place)
    with _opened(path) as file:
        _check_sum(file, path, archive)
        contents = _members(file, {**archive.train, **archive.test})
    train, test = (_records(path, contents, archive, part) for part in (archive.train, archive.test))
    return _from_file(name, path, dict(zip(ARRAYS, (*train, *test))))


def _members(file: BufferedReader, wanted: Mapping[str, int]) -> dict[str, bytes]:
    """What the `wanted` members of the gzipped tar hold, as far as it has them."""
    contents = {}
    with tarfile.open(fileobj=file, mode="r|gz") as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.name in wanted else None
            if stream is not None:
                contents[member.name] = stream.read()
    return contents


def _records(
    path: Path, contents: Mapping[str, bytes], archive: _Archive, part: Mapping[str, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (n, rows, columns, channels) and classes of one set, its members one after the other."""
    length = archive.label_bytes + math.prod(archive.SHAPE)
    records = []
    for member, count in part.items():
        wanted = f"an archive with {count} records of {length} bytes in {member}"
        if member not in contents:
            raise InvalidParameter("data", wanted, f"{path} without it")
        if len(contents[member]) != count * length:
            raise InvalidParameter("data", wanted, f"{path} with {len(contents[member])} bytes in it")
        records.append(np.frombuffer(contents[member], np.uint8).reshape(count, length))
    joined = np.concatenate(records)
    images = joined[:, archive.label_bytes :].reshape(-1, *archive.SHAPE)
    return images.transpose(0, 2, 3, 1), joined[:, archive.label_bytes - 1]


def load_mnist(folder: str | os.PathLike[str] | None) -> Images:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28 pixels, grey.

    The four files are read as published or without gzip. Only the former are compared with published
    checksums, which a note says of the latter.

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to Document
    Recognition", Proceedings of the IEEE 86, 1998.

    Parameters
    ----------
    folder
        Where train-images-idx3-ubyte.gz and the three other files lie.

    Raises
    ------
    MissingData
        Without a folder, or if files are not in it; says where to get them.
    InvalidParameter
        For "data" if a file is not the published one.
    """
    place = _given_folder("mnist", folder, list(_MNIST.values()))
    unpacked = [idx for idx in _MNIST.values() if not os.path.isfile(place / idx.name)]
    absent = [idx for idx in unpacked if not os.path.isfile(place / idx.unpacked)]
    if absent:
        raise _missing(f"mnist needs {_names(absent)} in {place}", absent, place)
    arrays = {part: _read_idx(place, idx) for part, idx in _MNIST.items()}
    images = _from_file("mnist", place, arrays)
    if not unpacked:
        return images
    unsure = ", ".join(idx.unpacked for idx in unpacked)
    note = f"no checksum is published for {unsure} without gzip, and none was compared"
    return dataclasses.replace(images, notes=(note, *images.notes))


def _read_idx(folder: Path, idx: _Idx) -> NDArray[np.uint8]:
    """The array in the published file or, where that is not there, in the unpacked one."""
    packed = os.path.isfile(folder / idx.name)
    path = folder / (idx.name if packed else idx.unpacked)
    with _opened(path) as file:
        if packed:
            _check_sum(file, path, idx)
        content = gzip.decompress(file.read()) if packed else file.read()
    size = len(idx.header) + math.prod(idx.shape)
    wanted = f"{idx.unpacked} of MNIST, {size} bytes that begin with {idx.header.hex()}"
    if not content.startswith(idx.header):
        raise InvalidParameter("data", wanted, f"{path}, which begins otherwise")
    if len(content) != size:
        raise InvalidParameter("data", wanted, f"{path}, which has {len(content)}")
    return np.frombuffer(content, np.uint8, offset=len(idx.header)).reshape(idx.shape)


def _given_folder(
    name: str, folder: str | os.PathLike[str] | None, files: Sequence[_Published]
) -> Path:
    """`folder`, in which the files of the set `name` are looked for."""
    if folder is None:
        what = f"{name} needs a folder with {_names(files)} (--data-dir DIR)"
        raise _missing(what, files, "DIR")
    return Path(folder)


def _missing(what: str, files: Sequence[_Published], folder: str | os.PathLike[str]) -> MissingData:
    return MissingData(what, files[0].PAGE, " && ".join(file.command(folder) for file in files))


def _names(files: Sequence[_Published]) -> str:
    return ", ".join(file.name for file in files)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """The file, open; what the system says against reading it becomes one line."""
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise InvalidParameter(
            "data", "a readable file", f"{path} ({error.strerror or error})"
        ) from None


def _check_sum(file: BufferedReader, path: Path, published: _Published) -> None:
    """Read `file` through for its SHA-256, and go back to its start."""
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != published.sha256:
        again = f"damaged or cut short; get it again: {published.command(path.parent)}"
        raise InvalidParameter(
            "data",
            f"the published {published.name} (SHA-256 {published.sha256[:12]}…)",
            f"{path} ({found[:12]}…), {again}",
        )
    file.seek(0)


# Other sets


def load_npz(path: str | os.PathLike[str]) -> Images:
    """The images in a .npz file with arrays x_train, y_train, x_test and y_test.

    Raises
    ------
    InvalidParameter
        For "data": the file is missing, not an .npz, lacks an array or holds pickled objects, or
        `prepare_images` refuses what is in it.
    """
    return _from_file(Path(path).name, path, load_arrays("data", path, ARRAYS))


def _from_file(name: str, path: str | os.PathLike[str], arrays: Mapping[str, NDArray]) -> Images:
    """`prepare_images` of the arrays read from `path`, where an error says that it is there."""
    try:
        return prepare_images(name, **arrays)
    except InvalidParameter as error:
        raise InvalidParameter("data", "a set of images", f"{path}, where {error}") from None


def grey_images(task: Dataset) -> Images:
    """The images of a `Dataset` in the grey levels they had before they were standardised, float32.

    Raises
    ------
    InvalidParameter
        For "data": the features of `task` are not the pixels of an image.
    """
    if task.image_shape is None:
        raise InvalidParameter("data", "a set of images", f"{task.name}, whose features are no pixels")
    shape = task.image_shape
    train, test = (task.raw(x).reshape(-1, *shape) for x in (task.x_train, task.x_test))
    images = prepare_images(task.name, train, task.y_train, test, task.y_test)
    constant = np.count_nonzero(task.std == 0)
    if not constant:
        return images
    some = f"{constant} of {len(task.std)} pixels {'is' if constant == 1 else 'are'}"
    note = f"{some} constant in the training set, with the same value in the test set"
    return dataclasses.replace(images, notes=(note, *images.notes))


# The registry

IMAGES: Mapping[str, str] = {
    "cifar10": "photographs in 10 classes, 32x32 pixels in colour, from a folder",
    "cifar100": "photographs in 100 classes, 32x32 pixels in colour, from a folder",
    "mnist": "handwritten digits, 28x28 pixels, from a folder",
    **DATASETS,
    "objects": "rendered objects in 30 classes on a plain background",
    "objects-cluttered": "the same objects on a cluttered background",
}
"""Names for `make_images` with what they are."""

_FROM_FOLDER: Mapping[str, Callable[[str | os.PathLike[str] | None], Images]] = {
    "cifar10": lambda folder: load_cifar(folder, 10),
    "cifar100": lambda folder: load_cifar(folder, 100),
    "mnist": load_mnist,
}


def make_images(text: str, folder: str | os.PathLike[str] | None = None) -> Images:
    """The images called `text`: NAME, NAME:KEY=VALUE,…, or the path of a file that ends in .npz.

    Names are the keys of `IMAGES`; the keys are the arguments of the functions of `regdyn.nets.data`
    and of `regdyn.cnn.objects.rendered_objects`, such as "digits:seed=1" or "objects:size=32". The
    same name gives the same object, but for sets from a folder and files, which are read anew.

    Parameters
    ----------
    text
        What to make.
    folder
        Where the files of cifar10, cifar100 and mnist lie; the others need none.

    Raises
    ------
    MissingData
        If a set from a folder has no folder or its files are not in it.
    InvalidParameter
        For "data": an unknown name or key, a bad value, a file that cannot be used; for "data_dir": a
        folder that does not exist.
    """
    text = str(text)
    if text.endswith(".npz"):
        return load_npz(text)
    name, colon, _ = text.partition(":")
    check_choice("data", name, [*IMAGES, "a path ending in .npz"])
    if name not in _FROM_FOLDER:
        return _named(text)
    if colon:
        raise InvalidParameter("data", f"{name} without settings", text)
    return _FROM_FOLDER[name](folder)


@functools.lru_cache(maxsize=4)
def _named(text: str) -> Images:
    """The images that `make_images` makes of a name without a folder, made once."""
    if text.partition(":")[0] in DATASETS:
        return grey_images(make_dataset(text))
    # Imported here, since it makes `Images` itself.
    from regdyn.cnn.objects import rendered_objects

    makers: Mapping[str, Callable[..., Images]] = {
        "objects": rendered_objects,
        "objects-cluttered": functools.partial(rendered_objects, clutter=CLUTTER),
    }
    return dataclasses.replace(make_named("data", text, makers), name=text)

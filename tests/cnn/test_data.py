"""Images are read as they were published, checked, and never changed."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import sys
import tarfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from regdyn.cnn import data
from regdyn.cnn.data import IMAGES, grey_images, load_cifar, load_mnist, load_npz, make_images
from regdyn.cnn.images import Images, prepare_images
from regdyn.errors import InvalidParameter, MissingData
from regdyn.nets.data import DATASETS, clean, digits, make_dataset, prepare, synthetic

RNG = np.random.default_rng(0)
RAW = {
    "x_train": RNG.integers(0, 256, (6, 4, 5, 3), np.uint8),
    "y_train": np.array([0, 1, 2, 1, 0, 2]),
    "x_test": RNG.integers(0, 256, (3, 4, 5, 3), np.uint8),
    "y_test": np.array([2, 0, 1]),
}


def raw(**changed: Any) -> Images:
    return prepare_images("mine", **{**RAW, **changed})


def test_images_stay_what_they_are() -> None:
    made = raw()
    for part, given in RAW.items():
        assert np.array_equal(getattr(made, part), given)
    assert made.x_train.dtype == np.uint8 and made.y_train.dtype == np.int64
    pixels = RAW["x_train"].astype(float)
    np.testing.assert_allclose(made.mean, pixels.mean((0, 1, 2)), rtol=1e-14)
    np.testing.assert_allclose(made.std, pixels.std((0, 1, 2)), rtol=1e-14)
    assert (made.size, made.channels, made.n_classes, made.notes) == ((4, 5), 3, 3, ())
    assert str(made) == "mine: 6 training and 3 test images of 4x5 pixels, 3 channels, 3 classes"


def test_grey_images_have_one_channel() -> None:
    made = raw(x_train=RAW["x_train"][..., 0], x_test=RAW["x_test"][..., 0])
    assert np.array_equal(made.x_train, RAW["x_train"][..., :1])
    assert str(made) == "mine: 6 training and 3 test images of 4x5 pixels, 1 channel, 3 classes"


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "longdouble", "i1", "i8", "u2"])
def test_other_types_become_float32(dtype: str) -> None:
    given = {part: (RAW[part] // 2).astype(dtype) for part in ("x_train", "x_test")}
    made = raw(**given)
    assert made.x_train.dtype == made.x_test.dtype == np.float32
    assert np.array_equal(made.x_train, RAW["x_train"] // 2)


def test_mean_and_std_over_more_pixels_than_a_piece() -> None:
    x = (1000 + RNG.random((70, 32, 32, 2))).astype(np.float32)
    made = raw(x_train=x, y_train=np.arange(70) % 3, x_test=x[:3])
    assert x[..., 0].size > 2**16
    np.testing.assert_allclose(made.mean, x.mean((0, 1, 2), dtype=np.float64), rtol=1e-13)
    np.testing.assert_allclose(made.std, x.std((0, 1, 2), dtype=np.float64), rtol=1e-10)


def test_arrays_are_copies_that_stay_as_they_are() -> None:
    x = RAW["x_train"].copy()
    made = raw(x_train=x)
    x[:] = 7
    assert np.array_equal(made.x_train, RAW["x_train"])
    for array in (made.x_train, made.y_train, made.x_test, made.y_test, made.mean, made.std):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert RAW["y_train"].flags.writeable


def test_a_constant_channel_has_std_1_and_a_note() -> None:
    x = RAW["x_train"].astype(np.float32)
    x[..., 1] = 0.1
    made = raw(x_train=x)
    assert made.std[1] == 1 and np.all(made.std[[0, 2]] > 1)
    np.testing.assert_allclose(made.mean[1], 0.1, rtol=1e-7)
    told = "1 of 3 channels is constant in the training set, with std 1 in place of 0"
    assert made.notes == (told,)
    x[..., 0] = 2
    assert raw(x_train=x).notes == (told.replace("1 of 3 channels is", "2 of 3 channels are"),)


def test_a_class_missing_from_the_test_set_is_noted() -> None:
    told = "the test set has no example of class 1; the test error is over the others"
    assert raw(y_test=[0, 2, 0]).notes == (told,)


FLAWED = RAW["x_train"].astype(float)
FLAWED[4, 1, 2, 0] = np.nan
SHAPES = "real numbers of shape (images, rows, columns) or (images, rows, columns, channels)"


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"x_train": FLAWED},
            "x_train must be finite in float32, got NaN or infinity in image 4",
        ),
        (
            {"x_test": np.full((3, 4, 5, 3), 1e39)},
            "x_test must be finite in float32, got NaN or infinity in image 0",
        ),
        ({"x_train": np.ones((6, 20))}, f"x_train must be {SHAPES}, got shape (6, 20)"),
        ({"x_train": np.ones((6, 4, 0))}, f"x_train must be {SHAPES}, got shape (6, 4, 0)"),
        (
            {"x_train": np.ones((6, 4, 5), bool)},
            f"x_train must be {SHAPES}, got bool of shape (6, 4, 5)",
        ),
        (
            {"x_test": np.ones((3, 5, 4, 3))},
            "x_test must be images of shape (4, 5, 3), as x_train is, got (5, 4, 3)",
        ),
        (
            {"x_test": np.ones((3, 4, 5))},
            "x_test must be images of shape (4, 5, 3), as x_train is, got (4, 5, 1)",
        ),
        (
            {"x_train": RAW["x_train"][:1], "y_train": [0]},
            "x_train must be at least 2 examples, got 1",
        ),
        ({"x_test": RAW["x_test"][:0], "y_test": []}, "x_test must be at least 1 example, got 0"),
        ({"y_train": [0, 1, 2]}, "y_train must be as long as x_train (6), got 3"),
        ({"y_train": [0] * 6}, "y_train must be of at least 2 classes, got class 0 alone"),
        (
            {"y_train": [0, 1, 3, 1, 0, 3]},
            "y_train must be labels of which each of 0 … 3 occurs, got no example of class 2",
        ),
        (
            {"y_test": [0, 1, 3]},
            "y_test must be labels of training examples, 0 … 2, got 3 at row 2",
        ),
        (
            {"y_test": [0, 1, 0.5]},
            "y_test must be whole numbers from 0, one for each example, got 0.5 at row 2",
        ),
    ],
)
def test_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        raw(**changed)
    assert str(caught.value) == message


def test_random_labels_are_the_same_ones_at_other_images() -> None:
    true = grey_images(digits())
    made, other = true.with_random_labels(0), true.with_random_labels(1)
    assert np.array_equal(np.bincount(made.y_train), np.bincount(true.y_train))
    assert np.array_equal(made.y_test, true.y_test)
    assert made.x_train is true.x_train and made.x_test is true.x_test
    # Labels that say nothing agree with the true ones as often as chance has it, 1 in 10.
    for labels in (true.y_train, other.y_train):
        assert abs(np.mean(made.y_train == labels) - 0.1) < 5 * np.sqrt(0.09 / len(labels))
    assert np.array_equal(made.y_train, true.with_random_labels(0).y_train)
    assert made.name == "digits with random labels (seed 0)"
    with pytest.raises(ValueError, match="read-only"):
        made.y_train[0] = 1
    with pytest.raises(InvalidParameter, match="seed must be an integer"):
        true.with_random_labels(-1)


# CIFAR

COUNTS = {10: ([10, 11, 12, 13, 14], [10]), 100: ([120], [100])}
"""Records in each training and test member of the small archives here."""


def small_records(count: int, classes: int, rng: np.random.Generator) -> bytes:
    """Records laid out like CIFAR's, with each class in turn."""
    labels = rng.permutation(np.arange(count) % classes).astype(np.uint8)[:, None]
    pixels = rng.integers(0, 256, (count, 3072), np.uint8)
    parts = [labels, pixels] if classes == 10 else [labels // 5, labels, pixels]
    return np.concatenate(parts, axis=1).tobytes()


def pack(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        folder = tarfile.TarInfo(next(iter(members)).split("/")[0])
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@dataclasses.dataclass(frozen=True)
class SmallCifar:
    """An archive like the published one, with fewer records."""

    classes: int
    path: Path
    members: dict[str, bytes]
    expect: Callable[[], None]
    """Makes the archive, as it lies there now, the one that is expected."""

    def load(self) -> Images:
        return load_cifar(self.path.parent, self.classes)


@pytest.fixture(params=[10, 100])
def cifar(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SmallCifar:
    classes = request.param
    published = data._CIFAR[classes]
    train, test = (dict(zip(p, c)) for p, c in zip((published.train, published.test), COUNTS[classes]))
    rng = np.random.default_rng(classes)
    members = {"/".join((next(iter(test)).split("/")[0], "readme.html")): b"<html>"}
    # An archive need not hold its members in order.
    for name, count in reversed({**train, **test}.items()):
        members[name] = small_records(count, classes, rng)
    path = tmp_path / published.name
    pack(path, members)

    def expect() -> None:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        layout = dataclasses.replace(published, sha256=digest, train=train, test=test)
        monkeypatch.setitem(data._CIFAR, classes, layout)

    expect()
    return SmallCifar(classes, path, members, expect)


def decoded(content: bytes, label_bytes: int) -> tuple[NDArray[Any], list[int]]:
    """Images and classes by the page of CIFAR: red, green and blue planes of 1,024, rows of 32."""
    length = label_bytes + 3072
    images, labels = [], []
    for begin in range(0, len(content), length):
        record = content[begin : begin + length]
        labels.append(record[label_bytes - 1])
        images.append(
            [
                [
                    [record[label_bytes + 1024 * plane + 32 * row + column] for plane in range(3)]
                    for column in range(32)
                ]
                for row in range(32)
            ]
        )
    return np.array(images), labels


def test_cifar_is_read_byte_by_byte(cifar: SmallCifar) -> None:
    made = cifar.load()
    label_bytes = {10: 1, 100: 2}[cifar.classes]
    for part, suffix in (("train", "data_batch"), ("test", "test")):
        # In the order of their numbers, which is not that of the archive.
        chosen = sorted(n for n in cifar.members if suffix in n or f"/{part}.bin" in n)
        images, labels = decoded(b"".join(cifar.members[name] for name in chosen), label_bytes)
        assert np.array_equal(getattr(made, f"x_{part}"), images)
        assert np.array_equal(getattr(made, f"y_{part}"), labels)
    assert made.x_train.dtype == np.uint8 and made.x_train.flags.c_contiguous
    assert made.name == f"cifar{cifar.classes}" and made.n_classes == cifar.classes
    assert (made.size, made.channels, made.notes) == ((32, 32), 3, ())
    by_name = make_images(f"cifar{cifar.classes}", cifar.path.parent)
    assert np.array_equal(by_name.x_test, made.x_test)


def test_published_layouts() -> None:
    # Of the page of CIFAR: 50,000 and 10,000 images, files of 30,730,000 bytes in CIFAR-10.
    for archive in data._CIFAR.values():
        assert sum(archive.train.values()) == 50_000 and sum(archive.test.values()) == 10_000
    ten = data._CIFAR[10]
    assert {count * (ten.label_bytes + 3072) for count in ten.train.values()} == {30_730_000}
    # Of LeCun's page: magic numbers 2051 and 2049.
    magic = {part: int.from_bytes(idx.header[:4], "big") for part, idx in data._MNIST.items()}
    assert magic == {"x_train": 2051, "y_train": 2049, "x_test": 2051, "y_test": 2049}
    sums = {file.sha256 for file in (*data._CIFAR.values(), *data._MNIST.values())}
    assert len(sums) == 6 and all(len(bytes.fromhex(each)) == 32 for each in sums)


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("spoil", [flipped, lambda content: content[:-200], lambda content: b""])
def test_a_damaged_archive_is_refused(cifar: SmallCifar, spoil: Callable[[bytes], bytes]) -> None:
    content = cifar.path.read_bytes()
    cifar.path.write_bytes(spoil(content))
    with pytest.raises(InvalidParameter) as caught:
        cifar.load()
    found, wanted = (hashlib.sha256(each).hexdigest()[:12] for each in (spoil(content), content))
    name = cifar.path.name
    assert str(caught.value) == (
        f"data must be the published {name} (SHA-256 {wanted}…), got {cifar.path} ({found}…), "
        f"damaged or cut short; get it again: curl -L --create-dirs -o {cifar.path} "
        f"https://www.cs.toronto.edu/~kriz/{name}"
    )
    cifar.path.write_bytes(content)
    assert cifar.load().n_classes == cifar.classes


def test_another_layout_is_refused(cifar: SmallCifar) -> None:
    last = list(data._CIFAR[cifar.classes].train)[-1]
    records = COUNTS[cifar.classes][0][-1]
    length = {10: 3073, 100: 3074}[cifar.classes]
    wanted = f"data must be an archive with {records} records of {length} bytes in {last}, "
    for spoiled, message in (
        ({last: cifar.members[last][:-1]}, f"with {records * length - 1} bytes in it"),
        ({last: cifar.members[last] + bytes(length)}, f"with {(records + 1) * length} bytes in it"),
        ({f"{last}.old": b""}, "without it"),
    ):
        kept = {name: content for name, content in cifar.members.items() if name != last}
        pack(cifar.path, {**kept, **spoiled})
        cifar.expect()
        with pytest.raises(InvalidParameter) as caught:
            cifar.load()
        assert str(caught.value) == f"{wanted}got {cifar.path} {message}"


def test_labels_that_cannot_be_are_refused(cifar: SmallCifar) -> None:
    member = next(iter(data._CIFAR[cifar.classes].test))
    content = bytearray(cifar.members[member])
    content[{10: 0, 100: 1}[cifar.classes]] = 200
    pack(cifar.path, {**cifar.members, member: bytes(content)})
    cifar.expect()
    with pytest.raises(InvalidParameter) as caught:
        cifar.load()
    assert str(caught.value) == (
        f"data must be a set of images, got {cifar.path}, where y_test must be labels of training "
        f"examples, 0 … {cifar.classes - 1}, got 200 at row 0"
    )


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    page = "https://www.cs.toronto.edu/~kriz/cifar.html"
    command = (
        f"curl -L --create-dirs -o '{folder}/cifar-10-binary.tar.gz' "
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    )
    what = f"cifar10 needs cifar-10-binary.tar.gz in {folder}"
    with pytest.raises(MissingData) as caught:
        load_cifar(folder)
    assert str(caught.value) == f"{what}, from {page}: {command}"
    (folder / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(MissingData) as caught:
        make_images("cifar10", folder)
    remark = "(cifar-10-python.tar.gz is pickled and never read)"
    assert str(caught.value) == f"{what} {remark}, from {page}: {command}"
    with pytest.raises(MissingData) as caught:
        make_images("cifar100")
    assert str(caught.value) == (
        f"cifar100 needs a folder with cifar-100-binary.tar.gz (--data-dir DIR), from {page}: "
        "curl -L --create-dirs -o DIR/cifar-100-binary.tar.gz https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
    )
    with pytest.raises(MissingData, match=r"mnist needs .* in .*nowhere"):
        make_images("mnist", tmp_path / "nowhere")
    with pytest.raises(InvalidParameter, match="classes must be 10 or 100, got 20"):
        load_cifar(folder, 20)


def test_what_the_system_refuses_is_one_line(
    cifar: SmallCifar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    with pytest.raises(InvalidParameter) as caught:
        cifar.load()
    assert str(caught.value) == f"data must be a readable file, got {cifar.path} (Input/output error)"


# MNIST

FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[np.uint8]]:
    """Small arrays, in files like the published ones in `tmp_path`, which are the expected ones."""
    rng = np.random.default_rng(1)
    arrays = {}
    for part, name in FILES.items():
        n = 30 if "train" in part else 10
        shape = (n, 28, 28) if part[0] == "x" else (n,)
        array = rng.integers(0, 256, shape, np.uint8) if part[0] == "x" else np.arange(n) % 10
        arrays[part] = array.astype(np.uint8)
        magic = 2051 if part[0] == "x" else 2049
        content = b"".join(number.to_bytes(4, "big") for number in (magic, *shape))
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress(content + arrays[part].tobytes(), mtime=0))
        assert data._MNIST[part].name == path.name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        small = dataclasses.replace(data._MNIST[part], sha256=digest, shape=shape)
        monkeypatch.setitem(data._MNIST, part, small)
    return arrays


def unpack(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    plain = folder / name
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    return plain


def test_mnist_is_read_with_and_without_gzip(
    tmp_path: Path, mnist: dict[str, NDArray[np.uint8]]
) -> None:
    made = load_mnist(tmp_path)
    assert made.notes == () and made.x_train.shape == (30, 28, 28, 1)
    for name in FILES.values():
        unpack(tmp_path, name)
    plain = make_images("mnist", tmp_path)
    for part, array in mnist.items():
        expected = array[..., None] if part[0] == "x" else array
        assert np.array_equal(getattr(made, part), expected)
        assert np.array_equal(getattr(plain, part), expected)
    names = ", ".join(FILES.values())
    told = f"no checksum is published for {names} without gzip, and none was compared"
    assert plain.notes == (told,)


@pytest.mark.usefixtures("mnist")
def test_damaged_mnist_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(InvalidParameter) as caught:
        load_mnist(tmp_path)
    assert str(caught.value).startswith(f"data must be the published {path.name} (SHA-256 ")
    address = "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz"
    assert str(caught.value).endswith(f"get it again: curl -L --create-dirs -o {path} {address}")


@pytest.mark.usefixtures("mnist")
@pytest.mark.parametrize("part", list(FILES))
@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda content: content[:-1], "which has {short}"),
        (lambda content: content + b"0", "which has {long}"),
        (lambda content: b"\x00\x00\x09" + content[3:], "which begins otherwise"),
        (lambda content: content[:7] + b"\xff" + content[8:], "which begins otherwise"),
        (lambda content: b"", "which begins otherwise"),
    ],
)
def test_other_idx_files_are_refused(
    tmp_path: Path, part: str, spoil: Callable[[bytes], bytes], message: str
) -> None:
    path = unpack(tmp_path, FILES[part])
    size = path.stat().st_size
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InvalidParameter) as caught:
        load_mnist(tmp_path)
    assert str(caught.value).startswith(
        f"data must be {path.name} of MNIST, {size} bytes that begin with"
    )
    got = message.format(short=size - 1, long=size + 1)
    assert str(caught.value).endswith(f"got {path}, {got}")


@pytest.mark.usefixtures("mnist")
def test_mnist_files_that_are_not_there(tmp_path: Path) -> None:
    unpack(tmp_path, FILES["x_train"])
    for part in ("y_train", "y_test"):
        (tmp_path / f"{FILES[part]}.gz").unlink()
    address = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    names = [f"{FILES[part]}.gz" for part in ("y_train", "y_test")]
    with pytest.raises(MissingData) as caught:
        load_mnist(tmp_path)
    assert caught.value.what == f"mnist needs {names[0]}, {names[1]} in {tmp_path}"
    assert caught.value.source == address
    assert caught.value.command == " && ".join(
        f"curl -L --create-dirs -o {tmp_path / name} {address}{name}" for name in names
    )
    with pytest.raises(MissingData, match=r"mnist needs a folder with .*\(--data-dir DIR\)"):
        load_mnist(None)


# Other sets


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **RAW, remark=np.array("not looked at"))
    made = make_images(str(path))
    assert made.name == "mine.npz"
    for part, given in RAW.items():
        assert np.array_equal(getattr(made, part), given)
    grey = {**RAW, "x_train": RAW["x_train"][..., 0] / 255, "x_test": RAW["x_test"][..., 0] / 255}
    np.savez(path, **grey)
    made = load_npz(path)
    assert made.channels == 1 and made.x_train.dtype == np.float32
    assert np.array_equal(made.x_test[..., 0], grey["x_test"].astype(np.float32))


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"x_train": FLAWED},
            "a set of images, got {}, where x_train must be finite in float32, "
            "got NaN or infinity in image 4",
        ),
        (
            {"x_train": np.ones((6, 20))},
            f"a set of images, got {{}}, where x_train must be {SHAPES}, got shape (6, 20)",
        ),
        (
            {"y_train": np.array([0, None, 1, 2])},
            "an .npz without pickled objects, got {}, where y_train holds objects",
        ),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **{**RAW, **changed})
    with pytest.raises(InvalidParameter) as caught:
        load_npz(path)
    assert str(caught.value) == "data must be " + message.format(path)


def test_digits_are_the_raw_pixels_of_the_data_set() -> None:
    task, made = digits(), make_images("digits")
    assert str(made) == (
        "digits: 1438 training and 359 test images of 8x8 pixels, 1 channel, 10 classes"
    )
    for part in ("train", "test"):
        raw_pixels = task.raw(getattr(task, f"x_{part}"))
        images = getattr(made, f"x_{part}")
        assert images.dtype == np.float32
        np.testing.assert_allclose(images.reshape(-1, 64), raw_pixels, rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(images, np.rint(images), atol=1e-6)
        assert np.array_equal(getattr(made, f"y_{part}"), getattr(task, f"y_{part}"))
    assert made.x_train.max() == 16
    told = "3 of 64 pixels are constant in the training set, with the same value in the test set"
    assert made.notes == (told,)


def test_drawn_shapes_come_by_name() -> None:
    plain = make_images("clean")
    expected = clean()
    np.testing.assert_allclose(
        plain.x_test, expected.raw(expected.x_test).reshape(-1, 12, 12, 1), rtol=1e-6, atol=1e-7
    )
    text = "synthetic:classes=3,n_train=30,n_test=6,size=9"
    made, small = make_images(text), synthetic(classes=3, n_train=30, n_test=6, size=9)
    assert made.name == text and made.size == (9, 9) and made.notes == ()
    assert np.array_equal(made.y_train, small.y_train)
    assert make_images(text) is made
    assert not np.array_equal(make_images("digits:seed=1").y_train, make_images("digits").y_train)


def test_features_that_are_no_pixels_are_refused() -> None:
    x = np.arange(8.0).reshape(4, 2)
    with pytest.raises(InvalidParameter) as caught:
        grey_images(prepare("plain", x, [0, 1, 0, 1], x, [0, 1, 0, 1]))
    assert str(caught.value) == "data must be a set of images, got plain, whose features are no pixels"


def test_objects_come_by_name_with_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def rendered_objects(
        *,
        clutter: float = 0.0,
        n_train: int = 6000,
        n_test: int = 2000,
        size: int = 64,
        seed: int = 0,
    ) -> Images:
        asked.append((clutter, n_train, n_test, size, seed))
        return raw()

    stand_in = types.ModuleType("regdyn.cnn.objects")
    monkeypatch.setattr(stand_in, "rendered_objects", rendered_objects, raising=False)
    monkeypatch.setitem(sys.modules, "regdyn.cnn.objects", stand_in)
    data._named.cache_clear()
    try:
        assert make_images("objects:size=32,seed=5").name == "objects:size=32,seed=5"
        assert make_images("objects:size=32,seed=5") is make_images("objects:size=32,seed=5")
        make_images("objects-cluttered")
        make_images("objects-cluttered:clutter=0.5,n_train=60,n_test=30")
        with pytest.raises(InvalidParameter, match="KEY must be one of clutter, n_train"):
            make_images("objects:colour=1")
    finally:
        data._named.cache_clear()
    assert asked == [
        (0.0, 6000, 2000, "32", "5"),
        (data.CLUTTER, 6000, 2000, 64, 0),
        ("0.5", "60", "30", 64, 0),
    ]


CHOICES = (
    "cifar10, cifar100, mnist, digits, clean, cluttered, synthetic, objects, objects-cluttered, "
    "a path ending in .npz"
)


@pytest.mark.parametrize(
    "text, message",
    [
        ("cifr10", f"one of {CHOICES} (nearest: cifar10), got 'cifr10'"),
        ("", f"one of {CHOICES}, got ''"),
        ("cifar10:seed=1", "cifar10 without settings, got cifar10:seed=1"),
        (
            "digits:size=8",
            "digits or digits:KEY=VALUE,…, got digits:size=8, "
            "where KEY must be one of seed (nearest: seed), got 'size'",
        ),
    ],
)
def test_bad_names(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        make_images(text)
    assert str(caught.value) == f"data must be {message}"


def test_every_data_set_of_images_is_there() -> None:
    assert ", ".join(IMAGES) == CHOICES.removesuffix(", a path ending in .npz")
    assert all(make_dataset(name).image_shape for name in DATASETS)

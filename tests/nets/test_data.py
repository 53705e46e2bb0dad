"""Data sets are what they say, standardised and checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from regdyn.errors import InvalidParameter
from regdyn.nets import data
from regdyn.nets.data import (
    DATASETS,
    Dataset,
    clean,
    cluttered,
    digits,
    load_npz,
    make_dataset,
    prepare,
    synthetic,
)

RAW = {
    "x_train": np.array([[0.0, 1.0], [2.0, 1.5], [4.0, 0.0], [6.0, 0.5]]),
    "y_train": np.array([0, 1, 2, 1]),
    "x_test": np.array([[1.0, 1.0], [3.0, 7.0], [3.0, 0.0]]),
    "y_test": np.array([2, 0, 1]),
}


def raw(**changed: Any) -> Dataset:
    return prepare("mine", **{**RAW, **changed})


def test_standardised_by_the_training_set() -> None:
    made = raw()
    mean, std = RAW["x_train"].mean(0), RAW["x_train"].std(0)
    np.testing.assert_allclose(made.x_train, (RAW["x_train"] - mean) / std, atol=1e-14)
    np.testing.assert_allclose(made.x_test, (RAW["x_test"] - mean) / std, atol=1e-14)
    np.testing.assert_allclose((made.mean, made.std), (mean, std), rtol=1e-14)
    np.testing.assert_allclose(made.raw(made.x_test), RAW["x_test"], atol=1e-14)
    assert (made.n_classes, made.n_features, made.notes, made.image_shape) == (3, 2, (), None)
    assert str(made) == "mine: 4 training and 3 test examples of 2 features, 3 classes"
    assert made.y_train.dtype == np.int64 and list(made.y_train) == [0, 1, 2, 1]


def test_arrays_are_copies_that_stay_as_they_are() -> None:
    x = RAW["x_train"].copy()
    made = raw(x_train=x)
    x[:] = 7
    assert abs(made.x_train.mean()) < 1e-14
    for array in (made.x_train, made.y_train, made.x_test, made.y_test, made.mean, made.std):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert RAW["y_train"].flags.writeable


@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(2, 6), st.integers(1, 3)),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    )
)
@settings(max_examples=300, deadline=None)
def test_any_finite_features_become_finite(x: NDArray[np.float64]) -> None:
    labels = np.arange(len(x)) % 2
    constant = np.all(x == x[0], axis=0)
    if constant.all():
        with pytest.raises(InvalidParameter, match="x_train must be varying in at least 1 feature"):
            prepare("any", x, labels, x, labels)
        return
    made = prepare("any", x, labels, x, labels)
    assert np.array_equal(made.x_train, made.x_test)
    np.testing.assert_allclose(made.x_train.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(made.x_train.std(0), np.where(constant, 0, 1), atol=1e-12)
    assert np.all(made.x_train[:, constant] == 0) and np.all(made.std[constant] == 0)
    assert np.all(np.isfinite(made.mean)) and np.all(np.isfinite(made.std))
    order = np.argsort(x, axis=0, kind="stable")
    assert np.all(np.diff(np.take_along_axis(made.x_train, order, 0), axis=0) >= 0)
    rounding = 1e-13 * np.abs(x).max() + 100 * np.finfo(float).smallest_subnormal
    if np.abs(x).max() < 1e308:  # beyond, rounding may end at infinity
        np.testing.assert_allclose(made.raw(made.x_train), x, rtol=0, atol=rounding)


def test_features_that_vary_in_the_last_bit_or_over_all_of_float64() -> None:
    greatest = np.finfo(float).max
    x = np.array([[1.0, -greatest, 0.0], [1.0, greatest, 5e-324], [1 + 2**-52, greatest, 0.0]])
    made = raw(x_train=x, y_train=[0, 1, 1], x_test=x, y_test=[0, 1, 1])
    low, high = -1 / np.sqrt(2), np.sqrt(2)
    wanted = [[low, -high, low], [low, -low, high], [high, -low, low]]
    np.testing.assert_allclose(made.x_train, wanted, atol=1e-12)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "longdouble", "u1", "i1", "i8", "u8"])
def test_any_real_type(dtype: str) -> None:
    given = {name: value.astype(dtype) for name, value in RAW.items()}
    expected = prepare("mine", **{name: value.astype(float) for name, value in given.items()})
    made = prepare("mine", **given)
    assert np.array_equal(made.x_train, expected.x_train)
    assert np.array_equal(made.y_test, RAW["y_test"])


NAN = np.where(np.arange(8).reshape(4, 2) == 5, np.nan, 1.0)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"x_train": NAN}, "x_train must be finite, got NaN at row 2, column 1"),
        (
            {"x_test": np.array([[1.0, -np.inf]]), "y_test": [0]},
            "x_test must be finite, got -inf at row 0, column 1",
        ),
        (
            {"x_train": np.full((4, 2), np.longdouble("1e4000"))},
            "x_train must be finite, got inf at row 0, column 0",
        ),
        (
            {"x_train": np.zeros(4)},
            "x_train must be real numbers of shape (examples, features), got shape (4,)",
        ),
        (
            {"x_train": np.ones((4, 2), complex)},
            "x_train must be real numbers of shape (examples, features), "
            "got complex128 of shape (4, 2)",
        ),
        (
            {"x_test": [[1.0], [1.0, 2.0]]},
            "x_test must be real numbers of shape (examples, features), got rows of different lengths",
        ),
        (
            {"x_test": np.array([["a", "b"]])},
            "x_test must be real numbers of shape (examples, features), got <U1 of shape (1, 2)",
        ),
        ({"x_train": np.ones((1, 2)), "y_train": [0]}, "x_train must be at least 2 examples, got 1"),
        (
            {"x_train": np.ones((4, 0)), "x_test": np.ones((3, 0))},
            "x_train must be examples of at least 1 feature, got shape (4, 0)",
        ),
        ({"x_test": np.ones((0, 2)), "y_test": []}, "x_test must be at least 1 example, got 0"),
        ({"x_test": np.ones((3, 4))}, "x_test must be of 2 features, as x_train is, got 4"),
        ({"y_train": [0, 1, 2]}, "y_train must be as long as x_train (4), got 3"),
        ({"y_test": [0, 1, 2, 0]}, "y_test must be as long as x_test (3), got 4"),
        (
            {"y_train": [[0], [1], [2], [1]]},
            "y_train must be whole numbers from 0, one for each example, got shape (4, 1)",
        ),
        (
            {"y_train": [0, 1, -1, 2]},
            "y_train must be whole numbers from 0, one for each example, got -1 at row 2",
        ),
        (
            {"y_test": [0, 1, 1.5]},
            "y_test must be whole numbers from 0, one for each example, got 1.5 at row 2",
        ),
        (
            {"y_test": [0, np.nan, 1]},
            "y_test must be whole numbers from 0, one for each example, got nan at row 1",
        ),
        (
            {"y_train": np.array([0, 1, 2, 2**64 - 1], np.uint64)},
            "y_train must be whole numbers from 0, one for each example, "
            "got 18446744073709551615 at row 3",
        ),
        (
            {"y_train": ["a", "b", "a", "b"]},
            "y_train must be whole numbers from 0, one for each example, got <U1 of shape (4,)",
        ),
        ({"y_train": [0, 0, 0, 0]}, "y_train must be of at least 2 classes, got class 0 alone"),
        (
            {"y_train": [0, 1, 3, 3]},
            "y_train must be labels of which each of 0 … 3 occurs, got no example of class 2",
        ),
        (
            {"y_train": [1, 1, 1, 10**9]},
            "y_train must be labels of which each of 0 … 1000000000 occurs, got no example of class 0",
        ),
        (
            {"y_test": [0, 1, 3]},
            "y_test must be labels of training examples, 0 … 2, got 3 at row 2",
        ),
        (
            {"x_train": np.ones((4, 2))},
            "x_train must be varying in at least 1 feature, got constant features only",
        ),
        (
            {"x_train": RAW["x_train"] * 1e-300, "x_test": np.full((3, 2), 1e300)},
            "x_test must be near enough to x_train to be standardised by it, "
            "got an overflow at row 0, column 0",
        ),
        ({"image_shape": (2, 2)}, "image_shape must be of 2 pixels, got (2, 2)"),
    ],
)
def test_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        raw(**changed)
    assert str(caught.value) == message


def test_constant_features_are_set_to_0_and_noted() -> None:
    x = np.column_stack([RAW["x_train"], np.full(4, 0.1)])
    x_test = np.column_stack([RAW["x_test"], [0.1, 5.0, -1e300]])
    made = raw(x_train=x, x_test=x_test)
    assert made.notes == ("1 of 3 features is constant in the training set and is set to 0",)
    assert np.all(made.x_train[:, 2] == 0) and np.all(made.x_test[:, 2] == 0)
    assert (made.mean[2], made.std[2]) == (0.1, 0)
    both = raw(x_train=np.column_stack([x, x[:, 2]]), x_test=np.column_stack([x_test, x_test[:, 2]]))
    assert both.notes == ("2 of 4 features are constant in the training set and are set to 0",)


@pytest.mark.parametrize(
    "y_test, which",
    [
        ([0, 2, 0], "class 1"),
        ([2, 2, 2], "classes 0 and 1"),
    ],
)
def test_classes_missing_from_the_test_set_are_noted(y_test: list[int], which: str) -> None:
    told = f"the test set has no example of {which}; the test error is over the others"
    assert raw(y_test=y_test).notes == (told,)


def test_many_missing_classes_are_one_short_sentence() -> None:
    made = synthetic(classes=50, n_train=50, n_test=1)
    assert "and 39 more; the test error" in made.notes[-1]


def test_shipped_digits_are_scikit_learns() -> None:
    theirs = load_digits()
    with np.load(Path(data.__file__).with_name("digits.npz"), allow_pickle=False) as ours:
        assert set(ours.files) == {"x", "y"}
        assert ours["x"].dtype == ours["y"].dtype == np.uint8
        assert np.array_equal(ours["x"], theirs.data)
        assert np.array_equal(ours["y"], theirs.target)


def test_digits_are_split_by_class() -> None:
    theirs = load_digits()
    made = digits()
    assert made.image_shape == (8, 8) and made.n_classes == 10
    assert (len(made.x_train), len(made.x_test)) == (1438, 359)
    counts = np.bincount(theirs.target)
    assert np.array_equal(np.bincount(made.y_test), np.round(0.2 * counts))
    x = np.concatenate([made.raw(made.x_train), made.raw(made.x_test)])
    y = np.concatenate([made.y_train, made.y_test])
    # A pixel that is constant in the training set cannot be told from its 0.
    varies = made.std > 0
    rows = {(*pixels, label) for pixels, label in zip(map(tuple, np.rint(x[:, varies])), y)}
    assert rows == {(*p, t) for p, t in zip(map(tuple, theirs.data[:, varies]), theirs.target)}
    assert len(x) == len(theirs.data)


def test_the_split_comes_from_the_seed() -> None:
    assert np.array_equal(digits(3).x_test, digits(3).x_test)
    assert not np.array_equal(digits(3).x_test, digits(4).x_test)


def error_of_least_squares(task: Dataset) -> float:
    """Test error of a linear classifier: a quick measure of difficulty."""
    x = np.column_stack([task.x_train, np.ones(len(task.x_train))])
    ridge = np.linalg.solve(
        x.T @ x + 10 * np.eye(x.shape[1]), x.T @ np.eye(task.n_classes)[task.y_train]
    )
    scores = np.column_stack([task.x_test, np.ones(len(task.x_test))]) @ ridge
    return float(np.mean(scores.argmax(1) != task.y_test))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "knob, values",
    [
        ("classes", (2, 10, 30)),
        ("overlap", (0, 0.3, 0.6, 0.9)),
        ("clutter", (0, 0.4, 0.8, 1.6)),
    ],
)
def test_each_knob_makes_it_harder(knob: str, values: tuple[Any, ...], seed: int) -> None:
    errors = [error_of_least_squares(synthetic(**{knob: value}, seed=seed)) for value in values]
    assert np.all(np.diff(errors) > 0.02), errors
    assert errors[0] < 0.2


def test_clean_and_cluttered_show_the_same_objects() -> None:
    plain, busy = clean(seed=2), cluttered(seed=2, clutter=0.6)
    assert plain.n_classes == 30 and plain.image_shape == (12, 12)
    assert (len(plain.x_train), len(plain.x_test)) == (6000, 2000)
    for part in ("train", "test"):
        assert np.array_equal(getattr(plain, f"y_{part}"), getattr(busy, f"y_{part}"))
        before = plain.raw(getattr(plain, f"x_{part}"))
        after = busy.raw(getattr(busy, f"x_{part}"))
        # The background shows through where the object is dark, and with its own contrast at most.
        added = after - before
        assert added.min() > -1e-12 and 0.3 < added.max() < 0.6
        bright = before > 1
        assert bright.sum() > 100 and added[bright].max() < 0.25 < added[~bright].max()
        assert added[before < 0.1].mean() > 4 * added[before > 0.8].mean()


def test_the_background_says_nothing_of_the_class() -> None:
    options: dict[str, Any] = {"classes": 2, "n_train": 4000, "n_test": 10}
    plain, busy = synthetic(**options), synthetic(**options, clutter=1.0)
    before, after = plain.raw(plain.x_train), busy.raw(busy.x_train)
    share = (after - before) / np.maximum(1 - before, 0.5)
    where = np.all([before[plain.y_train == c].mean(0) < 0.05 for c in (0, 1)], axis=0)
    one, two = (share[plain.y_train == c][:, where] for c in (0, 1))
    assert where.sum() >= 5
    spread = np.sqrt(one.var(0) / len(one) + two.var(0) / len(two))
    assert np.all(np.abs(one.mean(0) - two.mean(0)) < 5 * spread)


@given(
    classes=st.integers(2, 40),
    overlap=st.floats(0, 1, exclude_max=True),
    clutter=st.floats(0, 100),
    n_train=st.integers(40, 120),
    n_test=st.integers(1, 60),
    size=st.integers(6, 32),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=40, deadline=None)
def test_synthetic_sets_are_what_was_asked_for(**asked: Any) -> None:
    made = synthetic(**asked)
    assert made.x_train.shape == (asked["n_train"], asked["size"] ** 2)
    assert made.x_test.shape == (asked["n_test"], asked["size"] ** 2)
    assert made.n_classes == asked["classes"] and made.image_shape == (asked["size"],) * 2
    for labels in (made.y_train, made.y_test):
        assert np.ptp(np.bincount(labels, minlength=made.n_classes)) <= 1
    again = synthetic(**asked)
    assert np.array_equal(made.x_train, again.x_train) and np.array_equal(made.y_test, again.y_test)
    assert np.all(made.std > 0)


def test_seeds_and_sets_differ() -> None:
    options: dict[str, Any] = {"n_train": 200, "n_test": 200}
    one, two = synthetic(**options), synthetic(**options, seed=1)
    assert not np.array_equal(one.y_train, two.y_train)
    assert not np.array_equal(one.x_train[0], two.x_train[0])
    assert not np.array_equal(one.y_train, one.y_test)
    longer = synthetic(n_train=300, n_test=200)
    np.testing.assert_array_equal(longer.raw(longer.x_test).round(9), one.raw(one.x_test).round(9))


@pytest.mark.parametrize(
    "argument, value, allowed",
    [
        ("classes", 1, "an integer in [2, 100]"),
        ("classes", 2.5, "an integer in [2, 100]"),
        ("overlap", 1, "in [0, 1)"),
        ("overlap", "x", "a number in [0, 1)"),
        ("clutter", -0.1, "in [0, 100]"),
        ("clutter", float("nan"), "in [0, 100]"),
        ("n_train", 9, "an integer in [10, 100000]"),
        ("n_test", 0, "an integer in [1, 100000]"),
        ("size", 40, "an integer in [6, 32]"),
        ("seed", -1, "an integer in [0, 9223372036854775807]"),
    ],
)
def test_synthetic_refuses(argument: str, value: Any, allowed: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        synthetic(**{argument: value})
    assert caught.value.name == argument and caught.value.requirement == allowed


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **RAW, remark=np.array("not looked at"))
    made, expected = load_npz(path), raw()
    assert made.name == "mine.npz" and made.image_shape is None
    assert np.array_equal(made.x_test, expected.x_test)
    assert np.array_equal(make_dataset(str(path)).x_train, expected.x_train)


@pytest.mark.parametrize("shape, image", [((3, 4), (3, 4)), ((3, 4, 2), None)])
def test_images_are_flattened(tmp_path: Path, shape: tuple[int, ...], image: Any) -> None:
    rng = np.random.default_rng(0)
    x_train, x_test = rng.integers(0, 255, (4, *shape), np.uint8), rng.random((3, *shape))
    np.savez(tmp_path / "i.npz", **{**RAW, "x_train": x_train, "x_test": x_test})
    made = load_npz(tmp_path / "i.npz")
    assert made.image_shape == image
    assert np.array_equal(
        made.x_train, raw(x_train=x_train.reshape(4, -1), x_test=x_test.reshape(3, -1)).x_train
    )


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"x_train": NAN},
            "a set of examples, got {}, where x_train must be finite, got NaN at row 2, column 1",
        ),
        (
            {"y_test": [0, 1, 7]},
            "a set of examples, got {}, where y_test must be labels of training examples, 0 … 2, "
            "got 7 at row 2",
        ),
        (
            {"x_test": np.ones((3, 2, 1))},
            "examples of one shape, got {}: x_train (2,), x_test (2, 1)",
        ),
        (
            {"x_train": np.ones((0, 2, 2))},
            "examples of one shape, got {}: x_train (2, 2), x_test (2,)",
        ),
        (
            {"x_train": np.float64(3)},
            "a set of examples, got {}, where x_train must be real numbers of shape (examples, "
            "features), got shape ()",
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


def test_names() -> None:
    assert make_dataset("digits") is make_dataset("digits")
    assert make_dataset("digits:seed=1").name == "digits:seed=1"
    assert np.array_equal(make_dataset("digits:seed=1").x_test, digits(1).x_test)
    made = make_dataset("synthetic: classes = 20, overlap=0.3,clutter=0.5 ,n_train=1e2")
    same = synthetic(classes=20, overlap=0.3, clutter=0.5, n_train=100)
    assert np.array_equal(made.x_train, same.x_train)
    assert list(DATASETS) == ["digits", "clean", "cluttered", "synthetic"]


@pytest.mark.parametrize("make", [digits, clean, cluttered, synthetic])
def test_every_default_can_be_given_by_name(make: Callable[..., Dataset]) -> None:
    defaults = {p.name: p.default for p in inspect.signature(make).parameters.values()}
    text = ",".join(f"{name}={value}" for name, value in defaults.items())
    made = make_dataset(f"{make.__name__}:{text}")
    assert np.array_equal(made.x_test, make_dataset(make.__name__).x_test)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "digts",
            "one of digits, clean, cluttered, synthetic, a path ending in .npz (nearest: digits), "
            "got 'digts'",
        ),
        ("", "one of digits, clean, cluttered, synthetic, a path ending in .npz, got ''"),
        ("digits:", "digits or digits:KEY=VALUE,…, got digits:"),
        ("digits:seed", "digits or digits:KEY=VALUE,…, got digits:seed"),
        ("digits:seed=", "digits or digits:KEY=VALUE,…, got digits:seed="),
        ("digits:seed=1,seed=2", "digits or digits:KEY=VALUE,…, got digits:seed=1,seed=2"),
        (
            "digits:sed=1",
            "digits or digits:KEY=VALUE,…, got digits:sed=1, "
            "where KEY must be one of seed (nearest: seed), got 'sed'",
        ),
        (
            "cluttered:overlap=0.2",
            "cluttered or cluttered:KEY=VALUE,…, got cluttered:overlap=0.2, "
            "where KEY must be one of clutter, seed, got 'overlap'",
        ),
        (
            "synthetic:overlap=1",
            "synthetic or synthetic:KEY=VALUE,…, got synthetic:overlap=1, "
            "where overlap must be in [0, 1), got 1",
        ),
        ("none.npz", "a readable .npz file of real numbers, got none.npz (No such file or directory)"),
    ],
)
def test_unknown_names_and_bad_values(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        make_dataset(text)
    assert str(caught.value) == "data must be " + message

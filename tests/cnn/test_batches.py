"""Batches on the device against cutting the images by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from regdyn.cnn._batches import ImageStore, Order
from regdyn.cnn.images import Images, prepare_images

CPU = torch.device("cpu")


def images(examples: int = 30, rows: int = 6, columns: int = 5, channels: int = 3) -> Images:
    rng = np.random.default_rng(0)
    shape = (examples, rows, columns, channels)
    x = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    y = np.arange(examples) % 4
    return prepare_images("random", x[0], y, x[1], y)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("margin", [0, 2])
def test_crops(margin: int, channels_last: bool) -> None:
    data = images()
    store = ImageStore(data, CPU, torch.float64, channels_last, margin)
    order = Order(30, 8, seed=5, flip=True, margin=margin, device=CPU)
    seen = set()
    for t in (1, 2, 3, 9):
        c = order.at(t)
        x = store.crop(c.index, c.flip, c.shift)
        assert x.is_contiguous(memory_format=torch.channels_last) == channels_last
        padded = np.pad(data.x_train, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        for made, index, flip, (down, right) in zip(x, c.index, c.flip, c.shift.tolist()):
            cut = padded[index, down : down + 6, right : right + 5].astype(float)
            cut = cut[:, ::-1] if flip else cut
            expected = (cut - data.mean) / data.std
            np.testing.assert_allclose(made.permute(1, 2, 0).numpy(), expected, rtol=1e-12)
            seen.add((bool(flip), down, right))
    assert {flip for flip, _, _ in seen} == {False, True}
    assert (len({(down, right) for _, down, right in seen}) > 5) == (margin > 0)


def test_whole_sets() -> None:
    data = images()
    store = ImageStore(data, CPU, torch.float64, True, 2)
    for made, x, y in (
        (store.train(7), data.x_train, data.y_train),
        (store.test(30), data.x_test, data.y_test),
    ):
        parts = list(made)
        whole = torch.cat([part for part, _ in parts]).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(whole, (x - data.mean) / data.std, rtol=1e-12)
        np.testing.assert_array_equal(torch.cat([labels for _, labels in parts]).numpy(), y)
    train = torch.cat([part for part, _ in store.train(30)])
    np.testing.assert_allclose(train.mean((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(train.std((0, 2, 3), correction=0), 1, rtol=1e-12)


def indices(order: Order, first: int, last: int) -> list[int]:
    return [i for t in range(first, last + 1) for i in order.at(t).index.tolist()]


def test_an_epoch_takes_every_image_once() -> None:
    order = Order(30, 10, seed=1, flip=False, margin=0, device=CPU)
    epochs = [indices(order, 3 * e + 1, 3 * e + 3) for e in range(3)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_what_does_not_fill_a_batch_is_left_out() -> None:
    order = Order(30, 7, seed=1, flip=False, margin=0, device=CPU)
    assert order.per_epoch == 4
    assert len(set(indices(order, 1, 4))) == 28
    assert not set(indices(order, 1, 4)).isdisjoint(indices(order, 5, 8))


def test_a_step_depends_on_seed_and_number_alone() -> None:
    def at(t: int, seed: int = 3, warm: int = 0) -> list[object]:
        order = Order(30, 7, seed=seed, flip=True, margin=1, device=CPU)
        if warm:
            order.at(warm)
        choice = order.at(t)
        return [choice.index.tolist(), choice.flip.tolist(), choice.shift.tolist()]

    assert at(11) == at(11, warm=2) == at(11, warm=30)
    assert at(11) != at(11, seed=4) and at(11) != at(12)


def test_choices_are_fair() -> None:
    order = Order(40_000, 40_000, seed=0, flip=True, margin=2, device=CPU)
    choice = order.at(1)
    assert abs(choice.flip.double().mean() - 0.5) < 5 * 0.5 / 200
    shares = np.bincount(choice.shift.flatten().numpy()) / 80_000
    assert len(shares) == 5 and np.all(np.abs(shares - 0.2) < 5 * 0.4 / 80_000**0.5)

"""Thin products against NumPy, for the vectors of every processor."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from regdyn.dynamics.engine import aligned_empty
from regdyn.nets._product import LINE, make_product, register_file


def padded(x: NDArray) -> NDArray:
    """x with zeros up to whole lines in each row."""
    lanes = LINE // x.itemsize
    whole = aligned_empty((len(x), -(-x.shape[1] // lanes) * lanes), x.dtype)
    whole[:] = 0
    whole[:, : x.shape[1]] = x
    return whole


@pytest.mark.parametrize("width, rows", sorted({(64, 8), (32, 4), (16, 8), (16, 4), register_file()}))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_product(dtype: str, width: int, rows: int) -> None:
    product = make_product(width, rows)
    generator = np.random.default_rng(0)
    for m, n, columns in [
        (1, 1, 1),
        (3, 5, 40),
        (8, 64, 8),
        (16, 129, 130),
        (21, 300, 17),
        (8, 40, 250),
    ]:
        a, b = generator.normal(size=(m, n)).astype(dtype), generator.normal(size=(n, columns))
        right = padded(b.astype(dtype))
        expected = a.astype(float) @ right.astype(float)
        for left in (a, np.asfortranarray(a), padded(a)[:, :n], padded(a.T)[:, :m].T):
            out = padded(np.full((m, columns), np.nan, dtype))
            product(left, right, out)
            np.testing.assert_allclose(out, expected, rtol=0, atol=n * np.finfo(dtype).eps * 10)

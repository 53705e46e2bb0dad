"""One number per step, from an array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.errors import InvalidParameter
from regdyn.parameters import real_array


def non_negative(name: str, values: ArrayLike, wanted: str) -> NDArray[np.float64]:
    """`values` as an array of finite numbers >= 0, or InvalidParameter."""
    array = real_array(name, values, wanted).astype(float)
    if not np.all(np.isfinite(array) & (array >= 0)):
        raise InvalidParameter(name, wanted)
    return array


@dataclass(frozen=True, eq=False, repr=False)
class PerStep:
    """Finite numbers >= 0, one for each step; the last one holds after the end of the array.

    Raises
    ------
    InvalidParameter
        For anything but a number or a one-dimensional array of such numbers.
    """

    parameter: ClassVar[str]
    """What the numbers are to a user, for error messages."""

    values: NDArray[np.float64]

    def __init__(self, values: ArrayLike) -> None:
        wanted = "a non-empty one-dimensional array of finite numbers >= 0, or one such number"
        array = np.atleast_1d(non_negative(self.parameter, values, wanted))
        if array.ndim != 1 or not len(array):
            raise InvalidParameter(self.parameter, wanted)
        object.__setattr__(self, "values", array)

    def __call__(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """The number of each step t = 1, 2, …"""
        return np.asarray(self.values[np.minimum(np.asarray(t) - 1, len(self.values) - 1)])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.values)} steps)"

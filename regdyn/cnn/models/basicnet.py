"""BasicNet of mehta2019."""

from __future__ import annotations

from torch import nn

from regdyn.cnn.models.base import Chain, Setting
from regdyn.errors import InvalidParameter

FILTERS: dict[float, tuple[int, ...]] = {
    1.0: (64, 128, 128, 256, 256, 512, 512),
    0.5: (64, 64, 64, 128, 128, 256, 256),
    0.25: (32, 32, 32, 64, 64, 128, 128),
}
"""Filters of C1 … C7 by width: 64-1x, 64-0.5x and 32-0.25x of mehta2019, Table 6."""

HIDDEN = 256
POOLED = (1, 3, 5)


def basicnet(setting: Setting, width: float | str = 1) -> Chain:
    """C1 … C7, 5x5 in C1 and 3x3 in the others, global average pooling, and [256][classes].

    2x2 max pooling follows C1, C3 and C5: our choice, since the paper shows the places in a figure that
    our copy of it has lost. Its 4,649,664 weights of convolutions fit no other kernels.

    Parameters
    ----------
    setting
        Images of at least 8x8 pixels.
    width
        1, 0.5 or 0.25, a key of `FILTERS`. The head stays.

    Raises
    ------
    InvalidParameter
        For another width, or images too small for the network or its norm.

    Source: mehta2019, section 2, Figure 1 and Table 6.
    """
    setting = setting.with_norm("batch")
    setting.check_images(8, "basicnet")
    setting.check_maps(setting.size[0] // 8, setting.size[1] // 8)
    model = Chain(setting)
    for number, filters in enumerate(_filters(width), start=1):
        model.add_convolution(f"C{number}", filters, kernel=5 if number == 1 else 3)
        if number in POOLED:
            model.add_module(f"pool{number}", nn.MaxPool2d(2))
    model.add_average()
    model.add_head(HIDDEN)
    return model


def _filters(width: float | str) -> tuple[int, ...]:
    try:
        return FILTERS[float(width)]
    except (KeyError, TypeError, ValueError):
        raise InvalidParameter("width", "1, 0.5 or 0.25", width) from None

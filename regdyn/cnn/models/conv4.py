"""Conv4 of bartoldson2020."""

from __future__ import annotations

from torch import nn

from regdyn.cnn.models.base import Chain, Setting

FILTERS = (32, 64)
HIDDEN = 512


def conv4(setting: Setting) -> Chain:
    """Twice two 3x3 convolutions, of 32 and of 64 filters, and 2x2 max pooling; [512][classes].

    Of two convolutions the first keeps the size ('same') and the second does not ('valid'): of 32x32
    pixels 6x6 positions are left, which alone gives the paper's 1,250,858 parameters. There is no
    normalisation unless asked for.

    Parameters
    ----------
    setting
        Images of at least 10x10 pixels.

    Raises
    ------
    InvalidParameter
        For images too small.

    Source: bartoldson2020, section 3.2.
    """
    setting = setting.with_norm("none")
    setting.check_images(10, "conv4")
    model = Chain(setting)
    rows, columns = setting.size
    for block, filters in enumerate(FILTERS, start=1):
        model.add_convolution(f"conv{block}_1", filters)
        model.add_convolution(f"conv{block}_2", filters, same=False)
        model.add_module(f"pool{block}", nn.MaxPool2d(2))
        rows, columns = (rows - 2) // 2, (columns - 2) // 2
    model.add_flatten(rows * columns)
    model.add_head(HIDDEN)
    return model

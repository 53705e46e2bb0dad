"""VGG networks for small images."""

from __future__ import annotations

from torch import nn

from regdyn.cnn.models.base import Chain, Setting
from regdyn.parameters import check_choice, check_integer

HEADS: dict[str, tuple[int, ...]] = {"hidden": (512,), "single": ()}
"""Hidden units of the fully connected head."""

FILTERS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each of the five blocks, by depth."""


def vgg(
    depth: int, setting: Setting, head: str = "hidden", bias: int | str = 0, dropout: int | str = 0
) -> Chain:
    """Five blocks of 3x3 convolutions, each ending in 2x2 max pooling, global average pooling, a head.

    Parameters
    ----------
    depth
        A key of `CONVOLUTIONS`.
    setting
        Images of at least 32x32 pixels, for which the average is over a single position.
    head
        "hidden" for [512][classes] (mehta2019), "single" for [classes] (bartoldson2020; VGG-19 in
        mehta2019, as in network slimming).
    bias
        1 for convolutions with a bias besides the normalisation.
    dropout
        1 for dropout between the convolutions of a block, with probability 0.3 in the first and 0.4 in
        the others, and 0.5 before each layer of the head (yaguchi2018, section V-A, after the VGG-16
        of S. Zagoruyko's cifar.torch).

    Raises
    ------
    InvalidParameter
        For a value outside these, or images too small.

    Source: mehta2019, section 3, "Network Architectures"; bartoldson2020, section 3.2.
    """
    setting = setting.with_norm("batch")
    setting.check_images(32, f"vgg{depth}")
    hidden = HEADS[check_choice("head", head, HEADS)]
    biased = check_integer("bias", bias, 0, 1) == 1
    dropped = check_integer("dropout", dropout, 0, 1) == 1
    model = Chain(setting)
    for block, (filters, convolutions) in enumerate(zip(FILTERS, CONVOLUTIONS[depth]), start=1):
        for number in range(1, convolutions + 1):
            model.add_convolution(f"conv{block}_{number}", filters, bias=biased)
            if dropped and number < convolutions:
                model.add_dropout(f"dropout{block}_{number}", 0.3 if block == 1 else 0.4)
        model.add_module(f"pool{block}", nn.MaxPool2d(2))
    model.add_average()
    model.add_head(*hidden, dropout=0.5 if dropped else 0.0)
    return model

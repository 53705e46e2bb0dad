"""Kinds of layers that filters belong to."""

from __future__ import annotations

from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
Norm = (*BATCH_NORMS, *INSTANCE_NORMS)
Mixing = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
Cut = (*Mixing, *Norm, nn.PReLU)
"""Layers that can lose channels."""


def is_depthwise(module: nn.Module) -> bool:
    """Whether a convolution has a filter of its own for each channel."""
    return (
        isinstance(module, (*CONVOLUTIONS, *TRANSPOSED))
        and module.groups > 1
        and module.groups == module.out_channels == module.in_channels
    )


def mixes(module: nn.Module) -> bool:
    """Whether each output of the module sums over inputs of several channels."""
    return isinstance(module, Mixing) and not is_depthwise(module)

"""Residual networks for small images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from regdyn.cnn.models.base import Network, Setting, activation, convolution


class Subsample(nn.Module):
    """Every `stride`-th pixel and maps of zeros up to `n_out`: the shortcut without parameters."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.added = n_out - n_in
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))

    def extra_repr(self) -> str:
        return f"added={self.added}, stride={self.stride}"


class Block(nn.Module):
    """activation(conv2(conv1(x)) + shortcut(x)), the activation of conv1 and the norms included."""

    def __init__(
        self, setting: Setting, n_in: int, n_out: int, *, stride: int, projected: bool
    ) -> None:
        super().__init__()
        self.conv1 = convolution(setting, n_in, n_out, stride=stride)
        self.conv2 = convolution(setting, n_out, n_out, activated=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or n_in != n_out:
            self.shortcut = (
                convolution(setting, n_in, n_out, kernel=1, stride=stride, activated=False)
                if projected
                else Subsample(n_in, n_out, stride)
            )
        self.activation = activation(setting)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.conv2(self.conv1(x)) + self.shortcut(x))
        return y


class ResNet(Network):
    """A 3x3 convolution, stages of blocks, global average pooling, and [classes].

    Each stage but the first halves the maps. The output of the first convolution, of a block's second
    and of a shortcut are summed into the stream that all later layers read.

    Parameters
    ----------
    setting
        Of images that the stages leave at least a pixel of.
    filters
        Of each stage.
    blocks
        In each stage.
    projected
        Shortcuts between stages are 1x1 convolutions with normalisation (option B), else `Subsample`.
    """

    def __init__(
        self, setting: Setting, filters: Sequence[int], blocks: int, *, projected: bool
    ) -> None:
        setting = setting.with_norm("batch")
        halvings = len(filters) - 1
        setting.check_images(2**halvings, "a ResNet")
        # Rounded up, as a convolution with padding and stride 2 does.
        setting.check_maps(*(-(-side // 2**halvings) for side in setting.size))
        super().__init__(setting)
        self.stem = convolution(setting, setting.channels, filters[0])
        self.register_layer("stem", source=None, counted=True)
        n_in = filters[0]
        for stage, n_out in enumerate(filters, start=1):
            for number in range(1, blocks + 1):
                stride = 2 if stage > 1 and number == 1 else 1
                block = Block(setting, n_in, n_out, stride=stride, projected=projected)
                self._add_block(f"block{stage}_{number}", block)
                n_in = n_out
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.output = nn.Linear(n_in, setting.n_classes)
        self.register_layer("output", source=None, counted=False)

    def _add_block(self, path: str, block: Block) -> None:
        self.add_module(path, block)
        self.register_layer(f"{path}.conv1", source=None, counted=True)
        self.register_layer(f"{path}.conv2", source=len(self.layers) - 1, counted=True)
        if isinstance(block.shortcut, nn.Sequential):
            conv2 = len(self.layers) - 1
            self.register_layer(f"{path}.shortcut", source=None, counted=True, partner=conv2)


def resnet(depth: int, setting: Setting) -> ResNet:
    """6 n + 2 layers in three stages of 16, 32 and 64 filters, shortcuts without parameters.

    Parameters
    ----------
    depth
        20, 56 or 110.
    setting
        Images of at least 4x4 pixels.

    Raises
    ------
    InvalidParameter
        For images too small for the network or its norm.

    Source: He et al. 2016, section 4.2; zhou2020, section 3.1.
    """
    return ResNet(setting, (16, 32, 64), (depth - 2) // 6, projected=False)


def resnet18(setting: Setting) -> ResNet:
    """Four stages of two blocks, 64, 128, 256 and 512 filters, shortcuts by 1x1 convolutions.

    The first convolution is 3x3 with stride 1, and no pooling follows, as is usual on CIFAR: with ten
    classes these are the 11,173,962 parameters of bartoldson2020.

    Parameters
    ----------
    setting
        Images of at least 8x8 pixels.

    Raises
    ------
    InvalidParameter
        For images too small for the network or its norm.

    Source: He et al. 2016, Table 1; bartoldson2020, section 3.2.
    """
    return ResNet(setting, (64, 128, 256, 512), 2, projected=True)

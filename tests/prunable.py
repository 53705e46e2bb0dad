"""Small networks of every kind that removal of filters must cope with, with dead filters at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regdyn.cnn.psbn import PsBatchNorm2d

SIZE = (3, 5, 5)
"""Of the images: borders are most of them."""


def images(samples: int = 6, size: tuple[int, ...] = SIZE, seed: int = 0) -> Tensor:
    return torch.randn(samples, *size, generator=torch.Generator().manual_seed(seed))


def randomized(model: nn.Module, seed: int = 0, dead: float = 0.4) -> nn.Module:
    """Every number at random; a share `dead` of the scales below 1e-3, shifts of either sign."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for module in model.modules():
            scaled = isinstance(module, nn.modules.batchnorm._NormBase)
            if scaled and module.weight is not None:
                module.weight.copy_(normal(module.weight) + 0.5 * normal(module.weight).sign())
                low = torch.rand(module.weight.shape, generator=generator) < dead
                module.weight[low] = 9e-4 * torch.rand(int(low.sum()), generator=generator)
                module.bias.copy_(normal(module.bias))
            if scaled and module.running_mean is not None:
                module.running_mean.copy_(normal(module.running_mean))
                module.running_var.copy_(
                    0.5 + torch.rand(module.running_var.shape, generator=generator)
                )
            if isinstance(module, nn.PReLU):
                module.weight.copy_(normal(module.weight))
    return model.eval()


def block(
    n_in: int,
    n_out: int,
    kernel: int = 3,
    activation: Callable[[], nn.Module] = nn.ReLU,
    **options: Any,
) -> nn.Sequential:
    """Convolution, zero-padded to the same size unless told otherwise, normalisation, activation."""
    options = {"padding": kernel // 2, "bias": False, **options}
    return nn.Sequential(nn.Conv2d(n_in, n_out, kernel, **options), nn.BatchNorm2d(n_out), activation())


def head(channels: int, classes: int = 4) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def plain(activation: Callable[[], nn.Module] = nn.ReLU, **options: Any) -> nn.Sequential:
    return nn.Sequential(
        block(3, 8, activation=activation, **options),
        block(8, 9, activation=activation, **options),
        block(9, 7, activation=activation, **options),
        *head(7),
    )


def pooled(pool: nn.Module) -> nn.Sequential:
    return nn.Sequential(block(3, 8), pool, block(8, 7), nn.Flatten(), nn.LazyLinear(4))


class Residual(nn.Module):
    """activation(y + shortcut(x)), the shortcut projected where the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = block(n_in, n_out, stride=stride)
        self.middle = nn.Identity() if middle is None else middle
        self.conv2 = block(n_out, n_out, activation=nn.Identity)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or n_in != n_out:
            self.shortcut = block(n_in, n_out, 1, nn.Identity, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(self.middle(self.conv1(x))) + self.shortcut(x), inplace=True)


class PreActivated(nn.Module):
    """x + conv(relu(norm(x))): the stream itself is not normalised."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(6)
        self.conv1 = nn.Conv2d(channels, 6, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(6, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class Dense(nn.Module):
    """Concatenation of the input of a block with its output, as in DenseNet."""

    def __init__(self, n_in: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(n_in)
        self.conv = nn.Conv2d(n_in, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class Joined(nn.Module):
    """The outputs of two branches, the second first, and optionally the input, side by side."""

    def __init__(self, *branches: nn.Module, with_input: bool = False) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.with_input = with_input

    def forward(self, x: Tensor) -> Tensor:
        parts = [branch(x) for branch in self.branches]
        return torch.cat([x, *parts] if self.with_input else parts[::-1], 1)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class LayerScale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 2, channels)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class UNet(nn.Module):
    """Down, up by a transposed convolution, and the input of the way down beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = block(3, 8)
        self.down = block(8, 10, stride=2)
        self.up = nn.ConvTranspose2d(10, 6, 2, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.last = block(14, 6)
        self.output = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        up = F.relu(self.norm(self.up(self.down(first))))
        y: Tensor = self.output(self.last(torch.cat([first, up], 1)))
        return y


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 8), block(8, 8))
        self.auxiliary = nn.Sequential(block(8, 6), *head(6))
        self.main = nn.Sequential(block(8, 6), *head(6))

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = self.body(x)
        return {"main": self.main(x), "others": [self.auxiliary(x)]}


def inverted(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """Expansion, depthwise convolution, projection, as in MobileNet."""
    return nn.Sequential(
        block(n_in, 12, 1, nn.ReLU6),
        block(12, 12, 3, nn.ReLU6, groups=12, stride=stride),
        block(12, n_out, 1, nn.Identity),
    )


def in_one_dimension() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8), nn.LeakyReLU(0.2), nn.MaxPool1d(2),
        nn.Conv1d(8, 6, 3, padding=1, dilation=1), nn.BatchNorm1d(6), nn.ReLU(), nn.Flatten(),
        nn.Linear(12, 4),
    )  # fmt: skip


def in_three_dimensions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(2, 6, 3, padding=1, bias=False), nn.BatchNorm3d(6), nn.ReLU(),
        nn.Conv3d(6, 5, 3, padding=1, bias=False), nn.BatchNorm3d(5), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(5, 4),
    )  # fmt: skip


def with_norm(norm: Callable[[int], nn.Module], padding: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), norm(8), nn.ReLU(),
        nn.Conv2d(8, 9, 3, padding=padding, bias=False), norm(9), nn.ReLU(), *head(9),
    )  # fmt: skip


def fully_connected() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(75, 12, bias=False), nn.BatchNorm1d(12), nn.ReLU(),
        nn.Linear(12, 10), nn.BatchNorm1d(10), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(10, 4),
    )  # fmt: skip


KINDS: Mapping[str, Callable[[], nn.Module]] = {
    "plain": plain,
    "strided": lambda: plain(stride=2),
    "dilated": lambda: plain(padding=2, dilation=2),
    "wide kernels": lambda: plain(padding=2),
    "half padded": lambda: nn.Sequential(
        block(3, 8, padding=(1, 0)), block(8, 7, padding=(0, 1)), *head(7)
    ),
    "same": lambda: plain(padding="same"),
    "valid": lambda: nn.Sequential(block(3, 8, padding="valid"), block(8, 7, padding=0), *head(7)),
    "biased": lambda: nn.Sequential(
        block(3, 8, padding=0, bias=True), block(8, 7, padding=0, bias=True), *head(7)
    ),
    "reflect": lambda: plain(padding_mode="reflect"),
    "replicate": lambda: plain(padding_mode="replicate"),
    "circular": lambda: plain(padding_mode="circular"),
    "padded by a module": lambda: nn.Sequential(
        block(3, 8), nn.ZeroPad2d((0, 1, 0, 1)), block(8, 7, padding=0, stride=2), *head(7)
    ),
    "padded by a function": lambda: nn.Sequential(
        block(3, 8), Function(lambda x: F.pad(x, (1, 1, 1, 1))), block(8, 7, padding=0), *head(7)
    ),
    "maximum with padding": lambda: pooled(nn.MaxPool2d(3, 2, 1)),
    "mean": lambda: pooled(nn.AvgPool2d(2)),
    "mean with padding": lambda: pooled(nn.AvgPool2d(3, 2, 1)),
    "interpolated": lambda: pooled(nn.Upsample(scale_factor=2, mode="bilinear")),
    "leaky": lambda: plain(lambda: nn.LeakyReLU(0.2)),
    "elu": lambda: plain(nn.ELU),
    "gelu": lambda: plain(nn.GELU),
    "silu in place": lambda: plain(lambda: nn.SiLU(inplace=True)),
    "tanh": lambda: plain(nn.Tanh),
    "prelu": lambda: nn.Sequential(
        block(3, 8, activation=lambda: nn.PReLU(8)), block(8, 7, activation=nn.PReLU), *head(7)
    ),
    "psbn": lambda: with_norm(lambda n: PsBatchNorm2d(n, alpha=0.3)),
    "instance": lambda: with_norm(lambda n: nn.InstanceNorm2d(n, affine=True)),
    "tracked instance": lambda: with_norm(
        lambda n: nn.InstanceNorm2d(n, affine=True, track_running_stats=True), padding=0
    ),
    "batch statistics": lambda: with_norm(
        lambda n: nn.BatchNorm2d(n, track_running_stats=False), padding=0
    ),
    "residual": lambda: nn.Sequential(
        block(3, 8), Residual(8, 8), Residual(8, 10, 2), Residual(10, 10), *head(10)
    ),
    "preactivated": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        PreActivated(8),
        PreActivated(8),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        *head(8),
    ),
    "dense": lambda: nn.Sequential(
        block(3, 6),
        Dense(6, 4),
        Dense(10, 4),
        nn.BatchNorm2d(14),
        nn.ReLU(),
        nn.Conv2d(14, 6, 1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        *head(6),
    ),
    "branches": lambda: nn.Sequential(Joined(block(3, 5), block(3, 6, 1)), block(11, 6), *head(6)),
    "beside the input": lambda: nn.Sequential(
        Joined(block(3, 5), block(3, 6, 1), with_input=True), block(14, 6), *head(6)
    ),
    "depthwise": lambda: nn.Sequential(block(3, 6), inverted(6, 6), inverted(6, 8, 2), *head(8)),
    "depthwise unpadded": lambda: nn.Sequential(
        block(3, 8, 1), block(8, 8, 3, groups=8, padding=0), block(8, 6, 1), *head(6)
    ),
    "grouped": lambda: nn.Sequential(
        block(3, 12), block(12, 12, groups=2), block(12, 8, groups=4), *head(8)
    ),
    "grouped unpadded": lambda: nn.Sequential(
        block(3, 12), block(12, 12, groups=2, padding=0), block(12, 8, 1, groups=2), *head(8)
    ),
    "gated": lambda: nn.Sequential(
        block(3, 8), block(8, 8), SqueezeExcitation(8), block(8, 7), *head(7)
    ),
    "scaled": lambda: nn.Sequential(block(3, 8), LayerScale(8), block(8, 7), *head(7)),
    "transposed": UNet,
    "two outputs": TwoOutputs,
    "flattened": lambda: nn.Sequential(block(3, 8), block(8, 7), nn.Flatten(), nn.Linear(7 * 25, 4)),
    "viewed": lambda: nn.Sequential(
        block(3, 8),
        block(8, 7),
        Function(lambda x: x.view(len(x), -1)),
        nn.Linear(7 * 25, 9),
        nn.BatchNorm1d(9),
        nn.ReLU(),
        nn.Linear(9, 4),
    ),
    "fully connected": fully_connected,
}
"""By name, what takes images of `SIZE`."""


def size_of(kind: str) -> tuple[int, ...]:
    """Images for a kind: what is halved and doubled again is of even size."""
    return (3, 6, 6) if kind == "transposed" else SIZE


def built(kind: str, seed: int = 0) -> nn.Module:
    """A network of the kind as its code builds it."""
    torch.manual_seed(seed)
    model = KINDS[kind]().eval()
    with torch.no_grad():
        model(images(2, size_of(kind)))  # lazy layers get their sizes
    return model

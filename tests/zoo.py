"""Small networks whose tensors are named as in torchvision, timm and elsewhere, parts as made there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def randomized(model: nn.Module, seed: int = 0, dead: float = 0.3) -> nn.Module:
    """Every number at random; a share `dead` of the scales far below 1e-3, half as many never fire."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            values = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                values = values.square() + 0.5
            elif tensor.ndim >= 2:
                values *= (2 / tensor[0].numel()) ** 0.5
            tensor.copy_(values)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
                drawn = torch.rand(module.num_features, generator=generator)
                # A filter of each kind in every layer.
                drawn[:2] = torch.tensor([0.0, dead])
                module.weight.mul_(torch.where(drawn < dead, 1e-5, 1.0))
                silent = (drawn >= dead) & (drawn < 1.5 * dead)
                module.bias.copy_(torch.where(silent, -6 * module.weight.abs(), module.bias))
    return model


def conv(n_in: int, n_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)


class Averaged(nn.Module):
    """Global average pooling and a classifier at the end."""

    def head(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


# torchvision


class BasicBlock(nn.Module):
    """resnet18's, with F.relu in one place and an in-place sum as in torchvision."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(n_in, n_out, stride=stride)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(n_out, n_out)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample: nn.Module | None = None
        if stride > 1 or n_in != n_out:
            self.downsample = nn.Sequential(conv(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return F.relu(out)


class ResNet(Averaged):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 8)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(BasicBlock(8, 8, 1), BasicBlock(8, 8, 1))
        self.layer2 = nn.Sequential(BasicBlock(8, 12, 2))
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(self.head(y))


class Vgg(Averaged):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(6, 9, 3, padding=1), nn.BatchNorm2d(9), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(9, 7), nn.ReLU(True), nn.Dropout(), nn.Linear(7, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.features(x)))


def conv_bn_relu6(n_in: int, n_out: int, kernel: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        conv(n_in, n_out, kernel, groups=groups), nn.BatchNorm2d(n_out), nn.ReLU6(inplace=True)
    )


class InvertedResidual(nn.Module):
    """mobilenet_v2's: expansion, depthwise convolution, projection without an activation."""

    def __init__(self, n_in: int, n_out: int, expansion: int) -> None:
        super().__init__()
        hidden = n_in * expansion
        layers: list[nn.Module] = [conv_bn_relu6(n_in, hidden, 1)] if expansion > 1 else []
        layers += [
            conv_bn_relu6(hidden, hidden, 3, hidden), conv(hidden, n_out, 1), nn.BatchNorm2d(n_out),
        ]  # fmt: skip
        self.conv = nn.Sequential(*layers)
        self.same = n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.same else self.conv(x)


class MobileNet(Averaged):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn_relu6(3, 8, 3), InvertedResidual(8, 6, 1), InvertedResidual(6, 6, 2),
            conv_bn_relu6(6, 10, 1),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(10, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.features(x)))


class DenseLayer(nn.Module):
    """densenet121's: normalisation before the convolution, of everything so far."""

    def __init__(self, n_in: int, growth: int = 4, bottleneck: int = 2) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(n_in)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = conv(n_in, bottleneck * growth, 1)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = conv(bottleneck * growth, growth)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.relu1(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu2(self.norm2(y)))], 1)


class DenseNet(Averaged):
    def __init__(self) -> None:
        super().__init__()
        # The first layer has as many inputs as its bottleneck has filters: names alone mislead there.
        self.features = nn.Sequential()
        self.features.add_module("conv0", conv(3, 8))
        self.features.add_module("norm0", nn.BatchNorm2d(8))
        self.features.add_module("relu0", nn.ReLU(inplace=True))
        block = nn.Sequential()
        for number in range(3):
            block.add_module(f"denselayer{number + 1}", DenseLayer(8 + 4 * number))
        self.features.add_module("denseblock1", block)
        self.features.add_module("norm5", nn.BatchNorm2d(20))
        self.classifier = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(F.relu(self.features(x), inplace=True)))


# timm


class BatchNormAct2d(nn.BatchNorm2d):
    """Normalisation with the activation inside, as timm has it."""

    def __init__(self, units: int, act: bool = True) -> None:
        super().__init__(units)
        self.drop = nn.Identity()
        self.act: nn.Module = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training,
            0.1, self.eps,
        )  # fmt: skip
        return self.act(self.drop(y))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, 2, 1)
        self.conv_expand = nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv_reduce(x.mean((2, 3), keepdim=True)))
        return x * self.conv_expand(y).sigmoid()


class DepthwiseSeparable(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv_dw = conv(n_in, n_in, groups=n_in)
        self.bn1 = BatchNormAct2d(n_in)
        self.se = SqueezeExcite(n_in)
        self.conv_pw = conv(n_in, n_out, 1)
        self.bn2 = BatchNormAct2d(n_out, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(self.se(self.bn1(self.conv_dw(x)))))


class TimmInverted(nn.Module):
    def __init__(self, n_in: int, n_out: int, expansion: int = 2) -> None:
        super().__init__()
        hidden = n_in * expansion
        self.conv_pw = conv(n_in, hidden, 1)
        self.bn1 = BatchNormAct2d(hidden)
        self.conv_dw = conv(hidden, hidden, groups=hidden)
        self.bn2 = BatchNormAct2d(hidden)
        self.se = SqueezeExcite(hidden)
        self.conv_pwl = conv(hidden, n_out, 1)
        self.bn3 = BatchNormAct2d(n_out, act=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))
        return x + self.bn3(self.conv_pwl(self.se(y)))


class EfficientNet(Averaged):
    """Names as of timm's efficientnet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = conv(3, 8)
        self.bn1 = BatchNormAct2d(8)
        self.blocks = nn.Sequential(
            nn.Sequential(DepthwiseSeparable(8, 8)), nn.Sequential(TimmInverted(8, 8))
        )
        self.conv_head = conv(8, 14, 1)
        self.bn2 = BatchNormAct2d(14)
        self.classifier = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(x)))))
        return self.classifier(self.head(y))


class ConvNormAct(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = conv(n_in, n_out)
        self.bn = BatchNormAct2d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class RegNet(Averaged):
    """Names as of timm's regnet: stem.conv and stem.bn."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 6)
        self.s1 = nn.Sequential(ConvNormAct(6, 8), ConvNormAct(8, 8))
        self.head_fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head_fc(self.head(self.s1(self.stem(x))))


# By hand


class PreActivated(Averaged):
    """bn1, conv1, bn2, conv2 of one width: names say the wrong thing, the order of parts the right."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = conv(3, 8)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv1 = conv(8, 8)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv2 = conv(8, 8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0(x)
        y = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return self.fc(self.head(x + y))


class Apart(Averaged):
    """All convolutions first, then all normalisations: the names say which belongs to which."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 8)
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu_()
        return self.fc(self.head(torch.clamp(self.bn2(self.conv2(y)), min=0)))


class Unnormalized(Averaged):
    """Nothing is normalised but for a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3)
        self.conv2 = nn.Conv2d(6, 5, 3)
        self.norm = nn.LayerNorm(5)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        return self.fc(self.norm(self.head(y)))


ZOO: dict[str, Callable[[], nn.Module]] = {
    "torchvision resnet": ResNet,
    "torchvision vgg_bn": Vgg,
    "torchvision mobilenet_v2": MobileNet,
    "torchvision densenet": DenseNet,
    "timm efficientnet": EfficientNet,
    "timm regnet": RegNet,
    "pre-activated": PreActivated,
    "parts apart": Apart,
}
"""Networks with batch normalisation for images of 3 channels and 4 classes."""

FED: dict[str, dict[str, str | None]] = {
    "torchvision resnet": {
        "bn1": "conv1",
        **{f"layer1.{i}.bn{k}": f"layer1.{i}.conv{k}" for i in (0, 1) for k in (1, 2)},
        "layer2.0.bn1": "layer2.0.conv1", "layer2.0.bn2": "layer2.0.conv2",
        "layer2.0.downsample.1": "layer2.0.downsample.0",
    },
    "torchvision vgg_bn": {"features.1": "features.0", "features.5": "features.4"},
    "torchvision mobilenet_v2": {
        "features.0.1": "features.0.0",
        "features.1.conv.0.1": "features.1.conv.0.0", "features.1.conv.2": "features.1.conv.1",
        "features.2.conv.0.1": "features.2.conv.0.0", "features.2.conv.1.1": "features.2.conv.1.0",
        "features.2.conv.3": "features.2.conv.2", "features.3.1": "features.3.0",
    },
    "torchvision densenet": {
        "features.norm0": "features.conv0",
        **{f"features.denseblock1.denselayer{i}.norm1": None for i in (1, 2, 3)},
        **{f"features.denseblock1.denselayer{i}.norm2": f"features.denseblock1.denselayer{i}.conv1"
           for i in (1, 2, 3)},
        "features.norm5": None,
    },
    "timm efficientnet": {
        "bn1": "conv_stem",
        "blocks.0.0.bn1": "blocks.0.0.conv_dw", "blocks.0.0.bn2": "blocks.0.0.conv_pw",
        "blocks.1.0.bn1": "blocks.1.0.conv_pw", "blocks.1.0.bn2": "blocks.1.0.conv_dw",
        "blocks.1.0.bn3": "blocks.1.0.conv_pwl", "bn2": "conv_head",
    },
    "timm regnet": {
        "stem.bn": "stem.conv", "s1.0.bn": "s1.0.conv", "s1.1.bn": "s1.1.conv",
    },
    "pre-activated": {"bn1": "conv0", "bn2": "conv1"},
    "parts apart": {"bn1": "conv1", "bn2": "conv2"},
}  # fmt: skip
"""The weights whose outputs each normalisation gets, in the order of the parts."""

UNORDERED: dict[str, dict[str, str | None]] = {
    # Without an order the names of a network that normalises first cannot be read.
    "torchvision densenet": {
        **FED["torchvision densenet"],
        **{f"features.denseblock1.denselayer{i}.norm2": None for i in (1, 2, 3)},
        "features.norm0": None,
    },
    "pre-activated": {"bn1": "conv1", "bn2": "conv2"},
}
"""The same where the file has no order and the names say something else."""

"""The papers' networks in torch: a file for each family, a line for each name in the registry below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from regdyn.cnn.models.base import (
    Layer,
    LayerShape,
    Network,
    Setting,
    initialize,
    trace_shapes,
)
from regdyn.cnn.models.basicnet import basicnet
from regdyn.cnn.models.conv4 import conv4
from regdyn.cnn.models.mlp import mlp
from regdyn.cnn.models.resnet import resnet, resnet18
from regdyn.cnn.models.vgg import vgg
from regdyn.parameters import make_named

__all__ = [
    "MODELS", "Layer", "LayerShape", "Network", "Setting", "initialize", "make_model", "trace_shapes",
]  # fmt: skip

MODELS: Mapping[str, tuple[Callable[..., Network], str]] = {
    "basicnet": (basicnet, "seven convolutions and a hidden layer (mehta2019)"),
    "vgg11": (partial(vgg, 11), "VGG-11 with batch normalisation for CIFAR"),
    "vgg16": (partial(vgg, 16), "VGG-16 with batch normalisation for CIFAR"),
    "vgg19": (partial(vgg, 19, head="single"), "VGG-19 with batch normalisation for CIFAR"),
    "resnet20": (partial(resnet, 20), "ResNet-20 for CIFAR, 16 to 64 filters"),
    "resnet56": (partial(resnet, 56), "ResNet-56 for CIFAR, 16 to 64 filters"),
    "resnet110": (partial(resnet, 110), "ResNet-110 for CIFAR, 16 to 64 filters"),
    "resnet18": (resnet18, "ResNet-18 for CIFAR, 64 to 512 filters"),
    "conv4": (conv4, "four convolutions and a hidden layer, not normalised (bartoldson2020)"),
    "mlp": (mlp, "fully connected hidden layers (yaguchi2018)"),
}
"""Names for `make_model`, each with its builder and what it is."""


def make_model(text: str, setting: Setting) -> Network:
    """The network called `text`, NAME or NAME:KEY=VALUE,…, with torch's initial weights.

    Names are those of `MODELS`; the keys are the arguments of its builder, such as
    "basicnet:width=0.5" or "vgg11:head=single,bias=1".

    Raises
    ------
    InvalidParameter
        For "model": an unknown name or key, a bad value, images too small. For "norm" or "alpha": one
        that the network cannot have.
    """
    builders = {name: build for name, (build, _) in MODELS.items()}
    return make_named("model", str(text), builders, setting)

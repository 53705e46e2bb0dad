"""What the networks have in common: their setting, their list of layers, blocks, initial weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Any, cast

import torch
from torch import Tensor, nn

from regdyn.cnn.psbn import PsBatchNorm1d, PsBatchNorm2d
from regdyn.errors import InvalidParameter
from regdyn.nets.mlp import ACTIVATIONS, INITS
from regdyn.parameters import check_choice, check_integer, check_number

NORMS = ("batch", "instance", "none")
MAX_CLASSES = MAX_CHANNELS = 10**6
MAX_SIZE = 10**4

Weights = nn.Conv2d | nn.Linear
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d

ACTIVATION_MODULES: Mapping[str, Callable[[float], nn.Module]] = {
    "relu": lambda slope: nn.ReLU(),
    "leaky_relu": lambda slope: nn.LeakyReLU(slope),
    "elu": lambda slope: nn.ELU(),
    "tanh": lambda slope: nn.Tanh(),
    "sigmoid": lambda slope: nn.Sigmoid(),
    "linear": lambda slope: nn.Identity(),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The task of a network, and what may vary in every family.

    Parameters
    ----------
    channels, size, n_classes
        Channels of the images, their (rows, columns), and classes.
    norm
        "batch", "instance" or "none"; None for the family's own. With "instance" fully connected hidden
        layers have batch normalisation: a vector has no instance normalisation.
    alpha
        Of psBN, 0 for plain batch normalisation.
    activation
        A key of `ACTIVATION_MODULES`.
    slope
        Of leaky ReLU at negative inputs, in [0, 1].

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.
    """

    channels: int
    size: tuple[int, int]
    n_classes: int
    norm: str | None = None
    alpha: float = 0.0
    activation: str = "relu"
    slope: float = 0.01

    def __post_init__(self) -> None:
        def store(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        store("channels", check_integer("channels", self.channels, 1, MAX_CHANNELS))
        store("size", _check_size(self.size))
        store("n_classes", check_integer("n_classes", self.n_classes, 2, MAX_CLASSES))
        if self.norm is not None:
            store("norm", check_choice("norm", self.norm, NORMS))
        store("alpha", check_number("alpha", self.alpha, "[0, inf)"))
        if self.alpha > 0 and self.norm not in (None, "batch"):
            raise InvalidParameter("alpha", "0 without batch normalisation", self.alpha)
        store("activation", check_choice("activation", self.activation, ACTIVATION_MODULES))
        store("slope", check_number("slope", self.slope, "[0, 1]"))

    @property
    def gain(self) -> float:
        """Factor on initial weights that keeps the variance through the activation; 1 for sigmoid."""
        return 1.0 if self.activation == "sigmoid" else ACTIVATIONS[self.activation].gain(self.slope)

    def with_norm(self, default: str) -> Setting:
        """The same with the family's own `norm` where none is chosen."""
        return self if self.norm is not None else replace(self, norm=default)

    def check_images(self, least: int, network: str) -> None:
        """InvalidParameter unless the images have at least the rows and columns that it needs."""
        if min(self.size) < least:
            wanted = f"used with images of at least {least}x{least} pixels where it is {network}"
            raise InvalidParameter("model", wanted, "{}x{}".format(*self.size))

    def check_maps(self, rows: int, columns: int) -> None:
        """InvalidParameter if smallest maps of that size cannot be normalised.

        Instance normalisation takes a map of a single pixel to 0, whatever it is.
        """
        if self.norm == "instance" and rows * columns == 1:
            shrunk = "batch or none where {}x{} images shrink to maps of a single pixel"
            raise InvalidParameter("norm", shrunk.format(*self.size), self.norm)


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        rows, columns = size
    except (TypeError, ValueError):
        raise InvalidParameter("size", "the rows and columns of the images", size) from None
    return check_integer("size", rows, 1, MAX_SIZE), check_integer("size", columns, 1, MAX_SIZE)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of weights and what belongs to it, by module path.

    Attributes
    ----------
    name
        What users see.
    weights
        Path of the convolution or linear map.
    norm
        Path of its normalisation, if any.
    activation
        Path of the module whose output are its units' activations. None for the output layer and for a
        convolution that ends a residual branch or a shortcut: what follows the sum is not its own.
    source
        Index of the layer whose units, and nothing else, are its inputs. None where these are the
        network's or a residual stream.
    counted
        Whether its units count in tables of sparsity: convolutions (mehta2019, section 2.1), and the
        hidden layers of a network without any.
    partner
        Index of the layer whose units its own, those of a shortcut, are summed with: they are pruned
        with these. None for a layer that is pruned for itself.
    """

    name: str
    weights: str
    norm: str | None
    activation: str | None
    source: int | None
    counted: bool
    partner: int | None = None


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """A layer in numbers: it has n_out (n_in kernel + per_unit) parameters.

    Attributes
    ----------
    n_in, n_out
        Units below and in the layer. Below are channels, or features where the layer has no source.
    kernel
        Weights from one unit below to one here: rows times columns of a convolution's kernel, positions
        of the map for a linear layer on flattened maps, else 1.
    positions
        Outputs of a unit per sample: rows times columns of its map, 1 for a linear layer.
    per_unit
        Parameters of a unit besides its weights: bias, gamma, beta.
    """

    n_in: int
    n_out: int
    kernel: int
    positions: int
    per_unit: int


class Network(nn.Module):
    """A classifier of images that knows its layers.

    Its modules, one after the other as they were added, take (samples, channels, rows, columns) to
    logits (samples, classes).

    Attributes
    ----------
    setting
        What it is made for, with its norm filled in.
    layers
        In the order of the forward pass, the output layer last.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting
        self.layers: tuple[Layer, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        for module in self.children():
            x = module(x)
        return x

    def weights_of(self, layer: Layer) -> Weights:
        """The module of the layer's weights, and of its bias if it has one."""
        return cast(Weights, self.get_submodule(layer.weights))

    def norm_of(self, layer: Layer) -> Norm | None:
        """The module of the layer's gamma and beta."""
        return None if layer.norm is None else cast(Norm, self.get_submodule(layer.norm))

    def register_layer(
        self,
        path: str,
        *,
        source: int | None,
        counted: bool,
        name: str = "",
        partner: int | None = None,
    ) -> None:
        """Append the block of `convolution` or `fully_connected` at `path`, or the linear map there."""
        block = self.get_submodule(path)

        def member(kind: str) -> str | None:
            return f"{path}.{kind}" if hasattr(block, kind) else None

        layer = Layer(
            name=name or path,
            weights=member("conv") or member("linear") or path,
            norm=member("norm"),
            activation=member("activation"),
            source=source,
            counted=counted,
            partner=partner,
        )
        self.layers = (*self.layers, layer)


class Chain(Network):
    """A network in which the units of a layer are the inputs of the next."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._features = setting.channels

    def add_convolution(self, name: str, filters: int, **options: Any) -> None:
        """A block of `convolution`, called and counted as `name`."""
        block = convolution(self.setting, self._features, filters, **options)
        self._add(name, block, filters, counted=True)

    def add_fully_connected(
        self, path: str, units: int, *, name: str = "", counted: bool = False
    ) -> None:
        """A block of `fully_connected`, on flat features."""
        block = fully_connected(self.setting, self._features, units)
        self._add(path, block, units, name=name, counted=counted)

    def add_average(self) -> None:
        """Global average pooling: a feature of each map."""
        self.add_module("average", nn.AdaptiveAvgPool2d(1))
        self.add_flatten(1)

    def add_flatten(self, positions: int) -> None:
        """Maps of so many positions to flat features."""
        self.add_module("flatten", nn.Flatten())
        self._features *= positions

    def add_head(self, *hidden: int, dropout: float = 0.0) -> None:
        """Fully connected hidden layers that do not count, and the output; dropout before each."""
        for number, units in enumerate(hidden, start=1):
            self.add_dropout(f"dropout_fc{number}", dropout)
            self.add_fully_connected(f"fc{number}", units)
        self.add_dropout("dropout_output", dropout)
        classes = self.setting.n_classes
        self._add("output", nn.Linear(self._features, classes), classes, counted=False)

    def add_dropout(self, path: str, probability: float) -> None:
        """Dropout, unless with probability 0."""
        if probability > 0:
            self.add_module(path, nn.Dropout(probability))

    def _add(self, path: str, block: nn.Module, units: int, *, counted: bool, name: str = "") -> None:
        self.add_module(path, block)
        source = len(self.layers) - 1 if self.layers else None
        self.register_layer(path, source=source, counted=counted, name=name)
        self._features = units


def convolution(
    setting: Setting,
    n_in: int,
    n_out: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    same: bool = True,
    bias: bool = False,
    activated: bool = True,
) -> nn.Sequential:
    """Convolution, normalisation and activation: `conv`, `norm`, `activation`.

    `same` pads so that stride 1 keeps the size. Without normalisation there is a bias in any case.
    """
    conv = nn.Conv2d(
        n_in, n_out, kernel, stride, kernel // 2 if same else 0, bias=bias or setting.norm == "none"
    )
    parts = OrderedDict[str, nn.Module](conv=conv)
    if setting.norm == "instance":
        parts["norm"] = nn.InstanceNorm2d(n_out, affine=True)
    elif setting.norm == "batch":
        parts["norm"] = (
            PsBatchNorm2d(n_out, alpha=setting.alpha) if setting.alpha > 0 else nn.BatchNorm2d(n_out)
        )
    if activated:
        parts["activation"] = activation(setting)
    return nn.Sequential(parts)


def fully_connected(setting: Setting, n_in: int, n_out: int) -> nn.Sequential:
    """Linear map, normalisation and activation: `linear`, `norm`, `activation`.

    The norm is batch normalisation unless it is "none": a vector has no instance normalisation. With
    it there is no bias.
    """
    normalized = setting.norm != "none"
    parts = OrderedDict[str, nn.Module](linear=nn.Linear(n_in, n_out, bias=not normalized))
    if normalized:
        parts["norm"] = (
            PsBatchNorm1d(n_out, alpha=setting.alpha) if setting.alpha > 0 else nn.BatchNorm1d(n_out)
        )
    parts["activation"] = activation(setting)
    return nn.Sequential(parts)


def activation(setting: Setting) -> nn.Module:
    """A new module of the setting's activation."""
    return ACTIVATION_MODULES[setting.activation](setting.slope)


def initialize(
    model: Network, init: str, gamma0: float, beta0: float, generator: torch.Generator
) -> None:
    r"""Draw the weights of every layer and set the rest; running statistics start anew.

    "xavier": uniform within :math:`g \sqrt{6 / (k (n_{in} + n_{out}))}` (Glorot and Bengio 2010); "he":
    normal with std :math:`g / \sqrt{k n_{in}}` (He et al. 2015); k the size of the kernel, the gain g
    that of the activation, 1 for the output. Weights are drawn in float64, layer by layer, and rounded:
    a state of the generator gives the same network in any precision and on any device.

    Parameters
    ----------
    model
        Changed in place.
    init
        "xavier" or "he".
    gamma0, beta0
        Of every normalisation, with psBN too; beta0 also of the biases of hidden layers without one.
        Other biases are 0.
    generator
        On the CPU.

    Raises
    ------
    InvalidParameter
        For an unknown `init`, or gamma0 or beta0 that is not finite.
    """
    check_choice("init", init, INITS)
    scale = check_number("gamma0", gamma0, "(-inf, inf)")
    shift = check_number("beta0", beta0, "(-inf, inf)")
    with torch.no_grad():
        for layer in model.layers:
            hidden = layer is not model.layers[-1]
            module, norm = model.weights_of(layer), model.norm_of(layer)
            gain = model.setting.gain if hidden else 1.0
            module.weight.copy_(_drawn(init, module.weight.shape, gain, generator))
            if module.bias is not None:
                module.bias.fill_(shift if hidden and norm is None else 0.0)
            if norm is not None:
                norm.weight.fill_(scale)
                norm.bias.fill_(shift)
                norm.reset_running_stats()


def _drawn(init: str, shape: torch.Size, gain: float, generator: torch.Generator) -> Tensor:
    weights = torch.empty(shape, dtype=torch.float64)
    if init == "xavier":
        return nn.init.xavier_uniform_(weights, gain, generator=generator)
    return nn.init.normal_(weights, 0.0, gain / sqrt(prod(shape[1:])), generator=generator)


def shuffle_weights(model: nn.Module, generator: torch.Generator) -> None:
    """Shuffle every parameter's entries inside its tensor: what was learned is lost, the sizes stay.

    Source: zhou2020, section 3.6, "Filter selectivity".
    """
    with torch.no_grad():
        for parameter in model.parameters():
            order = torch.randperm(parameter.numel(), generator=generator)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))


def trace_shapes(model: Network) -> tuple[LayerShape, ...]:
    """The shape of each layer, from its parameters and an image of zeros; the model stays as it was."""
    positions: dict[nn.Module, int] = {}

    def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
        positions[module] = prod(output.shape[2:])

    traced = [model.weights_of(layer) for layer in model.layers]
    handles = [module.register_forward_hook(record) for module in traced]
    training = [module for module in model.modules() if module.training]
    like = next(model.parameters())
    image = torch.zeros(
        1, model.setting.channels, *model.setting.size, dtype=like.dtype, device=like.device
    )
    try:
        model.eval()
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
    return tuple(_shape(model, layer, positions[module]) for layer, module in zip(model.layers, traced))


def _shape(model: Network, layer: Layer, positions: int) -> LayerShape:
    module, norm = model.weights_of(layer), model.norm_of(layer)
    n_out, n_in = module.weight.shape[:2]
    kernel = prod(module.weight.shape[2:])
    if isinstance(module, nn.Linear) and layer.source is not None:
        below = len(model.weights_of(model.layers[layer.source]).weight)
        kernel, n_in = n_in // below, below
    besides = [] if module.bias is None else [module.bias]
    besides += [] if norm is None else norm.parameters()
    return LayerShape(
        n_in=n_in, n_out=n_out, kernel=kernel, positions=positions,
        per_unit=sum(each.numel() for each in besides) // n_out,
    )  # fmt: skip

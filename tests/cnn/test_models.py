"""The networks are the papers': counts, shapes, plain references, and what `layers` says of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regdyn.cnn.models import MODELS, Network, Setting, initialize, make_model, trace_shapes
from regdyn.cnn.models.base import ACTIVATION_MODULES, NORMS
from regdyn.cnn.psbn import PostShifted
from regdyn.errors import InvalidParameter
from regdyn.nets.mlp import ACTIVATIONS

VARIANTS = {
    "basicnet:width=0.25": (8, 17),
    "vgg11": (32, 64),
    "resnet20": (9, 8),
    "resnet18": (9, 8),
    "conv4": (10, 13),
    "mlp:width=20,depth=3,dropout=0.2": (3, 5),
}
"""Every family, on small images."""

STRUCTURES = [*VARIANTS, "basicnet", "vgg16:dropout=1,bias=1", "vgg19", "resnet110"]


def setting(**changes: Any) -> Setting:
    return Setting(**{"channels": 3, "size": (32, 32), "n_classes": 10} | changes)


def structure(text: str, **changes: Any) -> Network:
    """A network without numbers."""
    if text.startswith("mlp") and changes.get("norm") == "instance":
        changes["norm"] = "none"
    with torch.device("meta"):
        return make_model(text, setting(**changes))


@functools.cache
def built(text: str, **changes: Any) -> Network:
    """A network in float64 with gamma, beta and biases at random."""
    model = make_model(text, setting(**{"size": VARIANTS[text], "n_classes": 4} | changes)).double()
    initialize(model, "he", 1.0, 0.0, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def images(model: Network, samples: int = 3) -> Tensor:
    shape = (samples, model.setting.channels, *model.setting.size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


# What they are


@pytest.mark.parametrize(
    "text, parameters",
    [
        ("vgg11:head=single,bias=1", 9_231_114),  # bartoldson2020
        ("resnet18", 11_173_962),  # bartoldson2020
        ("conv4", 1_250_858),  # bartoldson2020
        ("resnet20", 269_722),  # 0.27 M in He et al. 2016, Table 6
        ("resnet56", 853_018),  # 0.85 M
        ("resnet110", 1_727_962),  # 1.7 M
        ("vgg16:head=single,bias=1", 14_728_266),
        ("vgg19", 20_035_018),  # 20.04 M in network slimming
    ],
)
def test_parameters(text: str, parameters: int) -> None:
    assert sum(p.numel() for p in structure(text).parameters()) == parameters


@pytest.mark.parametrize(
    "text, millions",
    [("resnet20", 40.55), ("resnet56", 125.49), ("resnet110", 252.89), ("vgg16", 313.46)],
)
def test_multiplications_of_an_image_are_those_usually_reported(text: str, millions: float) -> None:
    shapes = trace_shapes(structure(text))
    count = sum(s.n_in * s.n_out * s.kernel * s.positions for s in shapes)
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize(
    "width, filters",
    [
        ("1", (64, 128, 128, 256, 256, 512, 512)),
        ("0.5", (64, 64, 64, 128, 128, 256, 256)),
        ("0.25", (32, 32, 32, 64, 64, 128, 128)),
    ],
)
def test_basicnet(width: str, filters: tuple[int, ...]) -> None:
    model = structure(f"basicnet:width={width}", n_classes=100)
    assert [layer.name for layer in model.layers] == [*(f"C{i}" for i in range(1, 8)), "fc1", "output"]
    shapes = trace_shapes(model)
    assert tuple(s.n_out for s in shapes) == (*filters, 256, 100)
    assert tuple(s.positions for s in shapes) == (1024, 256, 256, 64, 64, 16, 16, 1, 1)
    assert tuple(s.kernel for s in shapes) == (25, 9, 9, 9, 9, 9, 9, 1, 1)
    assert tuple(s.per_unit for s in shapes) == (2,) * 8 + (1,)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert sum(module.out_channels for module in convolutions) == sum(filters)
    if width == "1":
        assert sum(filters) == 1_856
        assert sum(module.weight.numel() for module in convolutions) == 4_649_664


def test_dropout_of_the_vgg_of_yaguchi2018() -> None:
    model = structure("vgg16:dropout=1")
    found = "".join(
        str(module.p) + " " if isinstance(module, nn.Dropout) else module._get_name()[0]
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Dropout | nn.MaxPool2d | nn.Linear)
    )
    three = "C0.4 C0.4 CM"
    assert found == f"C0.3 CMC0.4 CM{three}{three}{three}0.5 L0.5 L"
    assert not [m for m in structure("vgg16").modules() if isinstance(m, nn.Dropout)]


def test_mlp_of_yaguchi2018() -> None:
    model = structure("mlp:depth=2", channels=1, size=(28, 28))
    assert [(s.n_in, s.n_out, s.kernel, s.per_unit) for s in trace_shapes(model)] == [
        (784, 1000, 1, 2),
        (1000, 1000, 1, 2),
        (1000, 10, 1, 1),
    ]
    assert [(layer.name, layer.counted) for layer in model.layers] == [
        ("layer 1", True),
        ("layer 2", True),
        ("output", False),
    ]


def normalized(state: dict[str, Tensor], path: str, y: Tensor) -> Tensor:
    return F.batch_norm(y, None, None, state[f"{path}.weight"], state[f"{path}.bias"], training=True)


def reference_chain(plan: str, state: dict[str, Tensor], x: Tensor) -> Tensor:
    """A chain in words: names of layers, M for pooling, GAP, and names with ! for 'valid'."""
    for word in plan.split():
        name = word.strip("!")
        if word == "M":
            x = F.max_pool2d(x, 2)
        elif word == "GAP":
            x = x.mean((2, 3))
        elif word == "output":
            x = x.flatten(1) @ state["output.weight"].T + state["output.bias"]
        else:
            if f"{name}.conv.weight" in state:
                weight = state[f"{name}.conv.weight"]
                padding = 0 if "!" in word else weight.shape[-1] // 2
                x = F.conv2d(x, weight, state.get(f"{name}.conv.bias"), padding=padding)
            else:
                x = F.linear(
                    x.flatten(1), state[f"{name}.linear.weight"], state.get(f"{name}.linear.bias")
                )
            x = normalized(state, f"{name}.norm", x) if f"{name}.norm.weight" in state else x
            x = x.clamp(min=0)
    return x


def reference_resnet(
    filters: tuple[int, ...], blocks: int, state: dict[str, Tensor], x: Tensor
) -> Tensor:
    def unit(path: str, y: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{path}.conv.weight"]
        y = F.conv2d(y, weight, stride=stride, padding=weight.shape[-1] // 2)
        return normalized(state, f"{path}.norm", y)

    x = unit("stem", x).clamp(min=0)
    for stage, width in enumerate(filters, start=1):
        for block in range(1, blocks + 1):
            path, stride = f"block{stage}_{block}", 2 if stage > 1 and block == 1 else 1
            y = unit(f"{path}.conv2", unit(f"{path}.conv1", x, stride).clamp(min=0))
            if f"{path}.shortcut.conv.weight" in state:
                x = unit(f"{path}.shortcut", x, stride)
            else:
                short = torch.zeros_like(y)
                short[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
                x = short
            x = (y + x).clamp(min=0)
            assert x.shape[1] == width
    return reference_chain("GAP output", state, x)


REFERENCES: dict[str, Callable[[dict[str, Tensor], Tensor], Tensor]] = {
    "basicnet:width=0.25": functools.partial(
        reference_chain, "C1 M C2 C3 M C4 C5 M C6 C7 GAP fc1 output"
    ),
    "vgg11": functools.partial(
        reference_chain,
        "conv1_1 M conv2_1 M conv3_1 conv3_2 M conv4_1 conv4_2 M conv5_1 conv5_2 M GAP fc1 output",
    ),
    "conv4": functools.partial(reference_chain, "conv1_1 conv1_2! M conv2_1 conv2_2! M fc1 output"),
    "mlp:width=20,depth=3,dropout=0.2": functools.partial(
        reference_chain, "layer1 layer2 layer3 output"
    ),
    "resnet20": functools.partial(reference_resnet, (16, 32, 64), 3),
    "resnet18": functools.partial(reference_resnet, (64, 128, 256, 512), 2),
}


@pytest.mark.parametrize("text", REFERENCES)
@pytest.mark.parametrize("norm", [None, "batch"])
def test_logits_equal_a_plain_reference(text: str, norm: str | None) -> None:
    model = built(text, norm=norm).train()
    for module in model.modules():
        module.training &= not isinstance(module, nn.Dropout)
    x = images(model)
    logits = REFERENCES[text](dict(model.named_parameters()), x)
    assert logits.std() > 0.01
    torch.testing.assert_close(model(x), logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("text", VARIANTS)
def test_every_parameter_learns(text: str) -> None:
    model = built(text, norm="batch").train()
    model.zero_grad()
    logits = model(images(model))
    assert logits.shape == (3, 4)
    F.cross_entropy(logits, torch.tensor([0, 1, 3])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


# What `layers` says


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("text", STRUCTURES)
def test_layers_are_all_there_is_in_the_order_of_the_forward_pass(text: str, norm: str) -> None:
    model = structure(text, norm=norm).eval()
    called: list[nn.Module] = []
    inputs: dict[nn.Module, Tensor] = {}
    outputs: dict[nn.Module, Tensor] = {}

    def record(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        called.append(module)
        inputs[module], outputs[module] = given[0], output

    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(record)
    model(images(model).to("meta", torch.float32))
    assert len(called) == len(set(called))
    weights = [model.get_submodule(layer.weights) for layer in model.layers]
    assert weights == [m for m in called if isinstance(m, nn.Conv2d | nn.Linear)]
    norms = [model.get_submodule(layer.norm) for layer in model.layers if layer.norm]
    assert norms == [m for m in called if isinstance(m, nn.modules.batchnorm._NormBase)]
    assert bool(norms) is (model.setting.norm != "none")
    assert len({layer.name for layer in model.layers}) == len(model.layers)
    for layer, module in zip(model.layers, weights):
        own = outputs[module]
        if layer.norm:
            assert inputs[model.get_submodule(layer.norm)] is own
            own = outputs[model.get_submodule(layer.norm)]
        if layer.activation:
            assert inputs[model.get_submodule(layer.activation)] is own
        else:
            assert layer.name == "output" or layer.name.endswith(("conv2", "shortcut"))
        assert layer.counted is (isinstance(module, nn.Conv2d) or layer.name.startswith("layer"))
        assert layer.counted or not isinstance(module, nn.Conv2d)


@pytest.mark.parametrize("text", VARIANTS)
def test_source_is_what_the_inputs_come_from(text: str) -> None:
    """With a unit of each layer at 0, each its own, a reader lacks the inputs of its source's alone."""
    model = built(text, activation="sigmoid", norm="batch").eval()
    shapes = trace_shapes(model)
    seen: dict[int, Tensor] = {}
    handles = []
    for index, (layer, shape) in enumerate(zip(model.layers, shapes)):

        def keep(module: nn.Module, given: tuple[Tensor, ...], index: int = index) -> None:
            seen[index] = given[0]

        def silence(
            module: nn.Module, given: Any, output: Tensor, unit: int = index % shape.n_out
        ) -> Tensor:
            return output.index_fill(1, torch.tensor(unit), 0.0)

        handles.append(model.weights_of(layer).register_forward_pre_hook(keep))
        if layer.activation:
            handles.append(model.get_submodule(layer.activation).register_forward_hook(silence))
    model(images(model))
    for handle in handles:
        handle.remove()
    for index, (layer, shape) in enumerate(zip(model.layers, shapes)):
        if layer.source is not None:
            source = shapes[layer.source]
            assert layer.source < index and shape.n_in == source.n_out
            units = seen[index].flatten(1).unflatten(1, (shape.n_in, -1))
            dead = torch.arange(shape.n_in) == layer.source % source.n_out
            assert torch.all((units == 0) == dead[:, None])


def test_streams_and_the_input_have_no_source() -> None:
    sources = {layer.name: layer.source for layer in structure("resnet18").layers}
    assert sources["stem"] is sources["block1_1.conv1"] is sources["block2_1.shortcut"] is None
    assert sources["output"] is None
    assert [name for name in sources if sources[name] is not None] == [
        f"block{stage}_{block}.conv2" for stage in range(1, 5) for block in (1, 2)
    ]
    assert list(sources)[sources["block2_1.conv2"] or 0] == "block2_1.conv1"
    for chain in ("basicnet", "vgg16", "conv4", "mlp:depth=3"):
        layers = structure(chain).layers
        assert [layer.source for layer in layers] == [None, *range(len(layers) - 1)]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("text", STRUCTURES)
def test_shapes_count_every_parameter(text: str, norm: str) -> None:
    model = structure(text, norm=norm, size=(32, 35))
    shapes = trace_shapes(model)
    assert sum(s.n_out * (s.n_in * s.kernel + s.per_unit) for s in shapes) == sum(
        p.numel() for p in model.parameters()
    )


def test_shapes_of_conv4() -> None:
    shapes = trace_shapes(structure("conv4"))
    assert [(s.n_in, s.kernel, s.positions, s.per_unit) for s in shapes] == [
        (3, 9, 32 * 32, 1),
        (32, 9, 30 * 30, 1),
        (32, 9, 15 * 15, 1),
        (64, 9, 13 * 13, 1),
        (64, 36, 1, 1),
        (512, 1, 1, 1),
    ]


def test_tracing_leaves_no_trace() -> None:
    model = built("resnet20").train()
    model.get_submodule("stem.norm").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    trace_shapes(model)
    assert [module.training for module in model.modules()] == modes and {*modes} == {True, False}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


# Norms and activations


def test_psbn() -> None:
    for text in STRUCTURES:
        model = structure(text, norm="batch", alpha=0.3)
        norms = [model.norm_of(layer) for layer in model.layers[:-1]]
        assert all(isinstance(norm, PostShifted) and norm.alpha == 0.3 for norm in norms)
    model = make_model("resnet20", setting(alpha=0.3))
    initialize(model, "he", 0.7, -0.2, torch.Generator())
    assert all(torch.all(m.bias == -0.2) for m in model.modules() if isinstance(m, PostShifted))
    plain = structure("basicnet")
    assert not [module for module in plain.modules() if isinstance(module, PostShifted)]


def test_instance_norm_is_of_maps() -> None:
    model = built("basicnet:width=0.25", norm="instance", size=(16, 8)).train()
    kinds = [type(model.norm_of(layer)) for layer in model.layers]
    assert kinds == [nn.InstanceNorm2d] * 7 + [nn.BatchNorm1d, type(None)]
    assert model(images(model)).shape == (3, 4)


def test_biases() -> None:
    def biased(text: str, **changes: Any) -> list[bool]:
        model = structure(text, **changes)
        return [model.weights_of(layer).bias is not None for layer in model.layers]

    assert biased("vgg11") == [False] * 9 + [True]
    assert biased("vgg11:bias=1") == [True] * 8 + [False, True]
    assert biased("vgg11", norm="none") == [True] * 10
    assert biased("conv4", norm="batch") == [False] * 5 + [True]


@pytest.mark.parametrize("name", ACTIVATION_MODULES)
def test_activations_and_gains_are_those_of_the_numpy_network(name: str) -> None:
    chosen = setting(activation=name, slope=0.2)
    model = make_model("mlp:width=8", chosen)
    module = model.get_submodule("layer1.activation")
    u = np.linspace(-3, 3, 13)
    if name == "sigmoid":
        expected, gain = 1 / (1 + np.exp(-u)), 1.0
    else:
        expected, gain = ACTIVATIONS[name].value(u, 0.2), ACTIVATIONS[name].gain(0.2)
    np.testing.assert_allclose(module(torch.tensor(u)).numpy(), expected, rtol=1e-12)
    kept = u.copy()
    module(torch.from_numpy(kept))
    assert np.array_equal(kept, u)
    assert chosen.gain == pytest.approx(gain)
    if name != "elu":
        assert chosen.gain == pytest.approx(nn.init.calculate_gain(name, 0.2))


# Initial weights


@pytest.mark.parametrize("init", ["xavier", "he"])
@pytest.mark.parametrize("activation, gain", [("relu", 2**0.5), ("tanh", 5 / 3), ("sigmoid", 1.0)])
def test_initial_weights(init: str, activation: str, gain: float) -> None:
    model = make_model("basicnet", setting(activation=activation))
    initialize(model, init, 0.5, -0.1, torch.Generator().manual_seed(0))
    for layer, shape in zip(model.layers, trace_shapes(model)):
        weights = model.weights_of(layer).weight.detach().double()
        factor = 1.0 if layer.name == "output" else gain
        fan_in, fan_out = shape.n_in * shape.kernel, shape.n_out * shape.kernel
        if init == "xavier":
            bound = factor * (6 / (fan_in + fan_out)) ** 0.5
            std = bound / 3**0.5
            assert 0.99 * bound < weights.abs().max() <= bound * (1 + 1e-6)
        else:
            std = factor / fan_in**0.5
            assert weights.abs().max() > 2.5 * std
        # Both ends of 5 standard errors; the kurtosis of either is at most 3.
        assert abs(weights.std().item() / std - 1) < 5 * (0.5 / weights.numel()) ** 0.5
        assert abs(weights.mean().item()) < 5 * std / weights.numel() ** 0.5
        norm = model.norm_of(layer)
        if norm is not None:
            assert torch.all(norm.weight == 0.5) and torch.all(norm.bias == -0.1)
    assert torch.all(model.get_submodule("output").bias == 0)


def test_beta0_is_the_bias_of_hidden_layers_without_a_norm() -> None:
    model = make_model("conv4", setting())
    initialize(model, "he", 1.0, 0.25, torch.Generator())
    biases = [model.weights_of(layer).bias for layer in model.layers]
    assert all(torch.all(bias == 0.25) for bias in biases[:-1]) and torch.all(biases[-1] == 0)
    model = make_model("vgg11:bias=1", setting())
    initialize(model, "he", 1.0, 0.25, torch.Generator())
    biases = [model.weights_of(layer).bias for layer in model.layers if layer.name != "fc1"]
    assert all(torch.all(bias == 0) for bias in biases) and len(biases) == 9


def test_a_seed_gives_the_same_network_in_any_precision() -> None:
    def weights(dtype: torch.dtype, seed: int) -> list[Tensor]:
        model = make_model("resnet20", setting()).to(dtype)
        initialize(model, "he", 1.0, 0.0, torch.Generator().manual_seed(seed))
        return [model.weights_of(layer).weight.detach() for layer in model.layers]

    single, double = weights(torch.float32, 3), weights(torch.float64, 3)
    assert all(torch.equal(one, other.float()) for one, other in zip(single, double))
    assert not any(torch.equal(one, other) for one, other in zip(single, weights(torch.float32, 4)))
    # Layer by layer in one stream: the first draws are those of a plain generator.
    plain = torch.empty(16 * 27, dtype=torch.float64)
    plain.normal_(0, (2 / 27) ** 0.5, generator=torch.Generator().manual_seed(3))
    assert torch.equal(double[0].flatten(), plain)


def test_initialising_again_forgets_the_running_statistics() -> None:
    model = make_model("resnet20", setting(size=(4, 4))).double()
    model(images(model))
    initialize(model, "he", 1.0, 0.0, torch.Generator())
    fresh = make_model("resnet20", model.setting).double()
    for (name, ours), theirs in zip(model.named_buffers(), fresh.buffers()):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"init": "glorot"}, "init must be one of xavier, he, got 'glorot'"),
        ({"gamma0": float("nan")}, "gamma0 must be in (-inf, inf), got nan"),
        ({"beta0": "x"}, "beta0 must be a number in (-inf, inf), got 'x'"),
    ],
)
def test_initialisation_refuses(changed: dict[str, Any], message: str) -> None:
    model = make_model("mlp:width=2", setting())
    with pytest.raises(InvalidParameter) as caught:
        initialize(
            model,
            **{"init": "he", "gamma0": 1.0, "beta0": 0.0, "generator": torch.Generator()} | changed,
        )
    assert str(caught.value) == message


# What is refused


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"channels": 0}, "channels must be an integer in [1, 1000000], got 0"),
        ({"size": 32}, "size must be the rows and columns of the images, got 32"),
        ({"size": (32, 0)}, "size must be an integer in [1, 10000], got 0"),
        ({"n_classes": 1}, "n_classes must be an integer in [2, 1000000], got 1"),
        ({"norm": "bach"}, "norm must be one of batch, instance, none (nearest: batch), got 'bach'"),
        ({"alpha": -1}, "alpha must be in [0, inf), got -1"),
        ({"alpha": 0.1, "norm": "none"}, "alpha must be 0 without batch normalisation, got 0.1"),
        ({"alpha": 0.1, "norm": "instance"}, "alpha must be 0 without batch normalisation, got 0.1"),
        (
            {"activation": "rel"},
            "activation must be one of relu, leaky_relu, elu, tanh, sigmoid, linear (nearest: relu), "
            "got 'rel'",
        ),
        ({"slope": 2}, "slope must be in [0, 1], got 2"),
    ],
)
def test_settings_out_of_range(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        setting(**changed)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text, changed, message",
    [
        (
            "basicnet",
            {"size": (8, 7)},
            "model must be used with images of at least 8x8 pixels where it is basicnet, got 8x7",
        ),
        (
            "vgg11",
            {"size": (8, 8)},
            "model must be used with images of at least 32x32 pixels where it is vgg11, got 8x8",
        ),
        (
            "resnet20",
            {"size": (3, 9)},
            "model must be used with images of at least 4x4 pixels where it is a ResNet, got 3x9",
        ),
        (
            "resnet18",
            {"size": (7, 9)},
            "model must be used with images of at least 8x8 pixels where it is a ResNet, got 7x9",
        ),
        (
            "conv4",
            {"size": (9, 9)},
            "model must be used with images of at least 10x10 pixels where it is conv4, got 9x9",
        ),
        (
            "basicnet",
            {"size": (15, 15), "norm": "instance"},
            "norm must be batch or none where 15x15 images shrink to maps of a single pixel, "
            "got instance",
        ),
        (
            "resnet20",
            {"size": (4, 4), "norm": "instance"},
            "norm must be batch or none where 4x4 images shrink to maps of a single pixel, "
            "got instance",
        ),
        (
            "mlp",
            {"norm": "instance"},
            "norm must be batch or none for mlp, which has no maps, got instance",
        ),
        ("conv4", {"alpha": 0.1}, "alpha must be 0 without batch normalisation, got 0.1"),
    ],
)
def test_images_and_norms_that_do_not_fit(text: str, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        make_model(text, setting(**changed))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text, size, norm",
    [
        ("basicnet:width=0.25", (8, 8), "batch"),
        ("basicnet:width=0.25", (8, 16), "instance"),
        ("resnet20", (4, 4), "batch"),
        ("resnet20", (5, 4), "instance"),
        ("resnet18", (8, 9), "instance"),
        ("vgg11", (32, 32), "instance"),
        ("conv4", (10, 10), "instance"),
        ("mlp:width=3", (1, 1), "batch"),
    ],
)
def test_the_smallest_images_that_fit(text: str, size: tuple[int, int], norm: str) -> None:
    model = make_model(text, setting(size=size, norm=norm))
    assert torch.all(torch.isfinite(model(images(model).float())))


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "basicnt",
            "one of basicnet, vgg11, vgg16, vgg19, resnet20, resnet56, resnet110, resnet18, conv4, mlp "
            "(nearest: basicnet), got 'basicnt'",
        ),
        ("vgg16:", "vgg16 or vgg16:KEY=VALUE,…, got vgg16:"),
        ("vgg16:bias", "vgg16 or vgg16:KEY=VALUE,…, got vgg16:bias"),
        ("vgg16:bias=0,bias=1", "vgg16 or vgg16:KEY=VALUE,…, got vgg16:bias=0,bias=1"),
        (
            "vgg16:heads=single",
            "vgg16 or vgg16:KEY=VALUE,…, got vgg16:heads=single, "
            "where KEY must be one of head, bias, dropout (nearest: head), got 'heads'",
        ),
        (
            "vgg16:head=two",
            "vgg16 or vgg16:KEY=VALUE,…, got vgg16:head=two, "
            "where head must be one of hidden, single, got 'two'",
        ),
        (
            "vgg19:dropout=0.5",
            "vgg19 or vgg19:KEY=VALUE,…, got vgg19:dropout=0.5, "
            "where dropout must be an integer in [0, 1], got 0.5",
        ),
        (
            "basicnet:width=2",
            "basicnet or basicnet:KEY=VALUE,…, got basicnet:width=2, "
            "where width must be 1, 0.5 or 0.25, got 2",
        ),
        (
            "mlp:depth=0",
            "mlp or mlp:KEY=VALUE,…, got mlp:depth=0, "
            "where depth must be an integer in [1, 100], got 0",
        ),
        (
            "mlp:dropout=1",
            "mlp or mlp:KEY=VALUE,…, got mlp:dropout=1, where dropout must be in [0, 1), got 1",
        ),
        ("resnet20:depth=56", "resnet20, got resnet20:depth=56"),
    ],
)
def test_unknown_names_and_bad_values(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        make_model(text, setting())
    assert str(caught.value) == "model must be " + message


@pytest.mark.parametrize("name", [name for name in MODELS if name != "resnet110"])
def test_every_default_can_be_given_by_name(name: str) -> None:
    build, described = MODELS[name]
    _, *keys = inspect.signature(build).parameters.values()
    text = f"{name}: " + " , ".join(f"{key.name} = {key.default}" for key in keys) if keys else name
    assert str(structure(text)) == str(structure(name))
    assert described

"""Every batch normalisation is found by its tensors, and the weights before it by names and order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from zoo import FED, UNORDERED, ZOO, Unnormalized, randomized

from regdyn.cnn.models import Setting, make_model
from regdyn.doctor.layers import Layers, find_layers
from regdyn.doctor.tensors import _in_order

IMAGES = dict(channels=3, size=(32, 32), n_classes=4)


def fed(found: Layers) -> dict[str, str | None]:
    return {norm.name: None if norm.weights is None else norm.weights.name for norm in found.norms}


@pytest.mark.parametrize("name", ZOO)
def test_names_of_others(name: str) -> None:
    model = randomized(ZOO[name]())
    tensors = model.state_dict()
    found = find_layers(tensors)
    assert fed(found) == FED[name] and (found.unscaled, found.others) == ((), ())
    norms = {k: m for k, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert [norm.name for norm in found.norms] == list(norms)
    for norm in found.norms:
        np.testing.assert_array_equal(norm.gamma, norms[norm.name].weight.detach().numpy())
        np.testing.assert_array_equal(norm.beta, norms[norm.name].bias.detach().numpy())
        if norm.weights is not None:
            weights = model.get_parameter(f"{norm.weights.name}.weight")
            np.testing.assert_array_equal(norm.weights.values, weights.detach().numpy())
    unordered = find_layers(_in_order(tensors), ordered=False)
    assert fed(unordered) == UNORDERED.get(name, FED[name])


@pytest.mark.parametrize("text", ["basicnet:width=0.25", "vgg11:bias=1", "resnet20", "resnet18", "mlp"])
def test_own_names(text: str) -> None:
    with torch.device("meta"):
        model = make_model(text, Setting(**IMAGES))  # type: ignore[arg-type]
    model = model.to_empty(device="cpu")
    wanted = {layer.norm: layer.weights for layer in model.layers if layer.norm is not None}
    for ordered in (True, False):
        assert fed(find_layers(_in_order(model.state_dict()), ordered=ordered)) == wanted


def test_what_is_no_batch_normalisation_with_a_scale() -> None:
    model = nn.ModuleDict({
        "free": nn.BatchNorm2d(4, affine=False), "layer": nn.LayerNorm(4), "group": nn.GroupNorm(2, 4),
        "instance": nn.InstanceNorm2d(4, affine=True), "rms": nn.RMSNorm(4), "slope": nn.PReLU(4),
        "blind": nn.BatchNorm2d(4, track_running_stats=False), "conv": nn.Conv2d(4, 4, 1),
        "plain": nn.BatchNorm1d(4), "pictures": nn.LayerNorm((4, 3)),
    })  # fmt: skip
    found = find_layers(model.state_dict())
    assert [norm.name for norm in found.norms] == ["plain"]
    assert found.unscaled == ("free",)
    assert found.others == ("layer", "group", "instance", "blind")
    assert [weights.name for weights in found.weights] == ["conv", "pictures"]


def test_weights_of_another_size_do_not_feed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(5))
    assert fed(find_layers(model.state_dict())) == {"1": None, "3": None}


def test_a_layer_without_a_name() -> None:
    found = find_layers(nn.BatchNorm1d(3).state_dict())
    assert fed(found) == {"(top)": None}


def test_weights_are_those_called_so() -> None:
    model = Unnormalized()
    tensors = model.state_dict() | {"table": torch.ones(3, 3), "count": torch.ones(2, 2).long()}
    found = find_layers(tensors)
    assert [weights.name for weights in found.weights] == ["conv1", "conv2", "fc"]
    assert found.norms == () and found.others == ("norm",)
    unnamed = find_layers({"a": torch.ones(2, 3), "b": torch.ones(3)})
    assert [(w.name, w.values.shape) for w in unnamed.weights] == [("a", (2, 3))]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(dtype: torch.dtype) -> None:
    model = randomized(ZOO["torchvision vgg_bn"]()).to(dtype)
    found = find_layers(model.state_dict())
    assert fed(found) == FED["torchvision vgg_bn"]
    gamma = model.get_parameter("features.1.weight").detach().double().numpy()
    np.testing.assert_array_equal(found.norms[0].gamma, gamma)

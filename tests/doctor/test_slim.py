"""A slim network is the zeroed one, at every position, whatever it is made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prunable import KINDS, Function, Residual, block, built, head, images, plain, randomized, size_of
from torch import Tensor, nn
from torch.nn import functional as F

from regdyn.cnn.models import Setting, make_model
from regdyn.cnn.psbn import PostShifted
from regdyn.doctor import Slimmed, difference, slim
from regdyn.doctor.coupling import UNKNOWN
from regdyn.doctor.removal import ALIVE, ALONE, BROKEN, UNEQUAL
from regdyn.errors import InvalidParameter
from regdyn.nets.sparsity import remove_units

EXACT = 1e-5
"""In float32, of the greatest output."""

HAS_SOME_LEFT = {"residual", "preactivated", "dense", "grouped", "grouped unpadded", "gated"}
"""Kinds in which dead filters are coupled to living ones."""


def scale_of(model: nn.Module, path: str) -> Tensor:
    weight = model.get_submodule(path).weight
    assert isinstance(weight, Tensor)
    return weight


def zeroed_by_hand(model: nn.Module, result: Slimmed) -> nn.Module:
    """The original in float64, dead scales (or weights) at 0 where the filter is gone or constant."""
    reference = copy.deepcopy(model).double()
    with torch.no_grad():
        for layer in result.layers:
            weight = scale_of(reference, layer.name)
            size = weight.abs() if layer.criterion == "scale" else weight.flatten(1).norm(dim=1)
            low = (size < 1e-3).numpy()
            assert layer.marked.tolist() == low.tolist()
            weight[torch.tensor(low & (layer.removed | layer.constant))] = 0
    return reference


def count(result: Slimmed, what: str) -> int:
    return sum(int(getattr(layer, what).sum()) for layer in result.layers)


@torch.no_grad()
def gap(model: nn.Module, reference: nn.Module, x: Tensor) -> float:
    """Greatest difference of the outputs, each network in its own type, of the greatest output."""

    def run(each: nn.Module) -> Tensor:
        y: Any = each(x.to(next(each.parameters()).dtype))
        parts = [y["main"], *y["others"]] if isinstance(y, dict) else [y]
        return torch.cat([part.flatten() for part in parts]).double()

    ours, theirs = run(model), run(reference)
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_zeroed_network(kind: str) -> None:
    model = randomized(built(kind), seed=1)
    before = copy.deepcopy(model.state_dict())
    size = size_of(kind)
    result = slim(model, images(4, size))
    assert gap(result.model, zeroed_by_hand(model, result), images(7, size, seed=5)) < EXACT
    assert result.difference < EXACT
    assert count(result, "removed") > 0
    left = {reason for layer in result.layers for reason in layer.stays}
    assert left <= ({ALIVE, UNEQUAL, ALONE} if kind in HAS_SOME_LEFT else {ALONE})
    for layer in result.layers:
        assert len(scale_of(result.model, layer.name)) == layer.after
        done = layer.marked & (layer.removed | layer.constant)
        assert done.sum() + sum(layer.stays.values()) + (layer.spared is not None) == layer.marked.sum()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in result.model.modules())


@pytest.mark.parametrize("kind", ["plain", "strided", "residual", "dense", "mean with padding"])
def test_the_size_of_the_images_does_not_matter(kind: str) -> None:
    model = built(kind)
    if kind == "mean with padding":
        model = nn.Sequential(*list(model)[:3], *head(7))
    model = randomized(model, seed=2)
    result = slim(model, images(2, (3, 5, 5)))
    assert count(result, "constant") > 0
    for size in ((3, 5, 5), (3, 9, 4), (3, 16, 16)):
        assert gap(result.model, zeroed_by_hand(model, result), images(3, size, seed=7)) < EXACT


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: nn.Sequential(
            nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8), nn.LeakyReLU(0.2), nn.MaxPool1d(2),
            nn.Conv1d(8, 6, 3, padding=1), nn.BatchNorm1d(6), nn.ReLU(), nn.Flatten(),
            nn.Linear(12, 4)), (3, 5)),
        (lambda: nn.Sequential(
            nn.Conv3d(2, 6, 3, padding=1, bias=False), nn.BatchNorm3d(6), nn.ReLU(),
            nn.Conv3d(6, 5, 3, padding=1, bias=False), nn.BatchNorm3d(5), nn.ReLU(),
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(5, 4)), (2, 3, 4, 3)),
    ],
    ids=["one dimension", "three dimensions"],
)  # fmt: skip
def test_other_dimensions(make: Callable[[], nn.Module], size: tuple[int, ...]) -> None:
    model = randomized(make(), seed=1)
    result = slim(model, images(4, size))
    assert count(result, "removed") > 0.5 * count(result, "marked")
    assert gap(result.model, zeroed_by_hand(model, result), images(5, size, seed=4)) < EXACT


@pytest.mark.parametrize(
    ("name", "size"),
    [("basicnet:width=0.25", 9), ("resnet20", 7), ("conv4", 12), ("mlp:width=20,depth=3", 6)],
)
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_networks_of_regdyn(name: str, size: int, alpha: float) -> None:
    psbn = 0.0 if name == "conv4" else alpha
    setting = Setting(channels=2, size=(size, size), n_classes=4, alpha=psbn)
    model = randomized(make_model(name, setting), seed=3)
    with torch.no_grad():
        if name == "conv4":
            for module in model.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    module.weight[1::3] *= 1e-7
                    module.bias.normal_(std=1 + alpha)
    x = images(4, (2, size, size))
    result = slim(model, x)
    assert count(result, "removed") > 0.2 * count(result, "marked")
    assert gap(result.model, zeroed_by_hand(model, result), images(6, (2, size, size), 3)) < EXACT
    if name == "resnet20":
        inner = [layer for layer in result.layers if "conv1" in layer.name]
        outer = [layer for layer in result.layers if layer not in inner]
        assert {reason for layer in outer for reason in layer.stays} == {UNKNOWN}
        assert len(inner) == 9
        for layer in inner:
            done = layer.removed.sum() + layer.constant.sum() + layer.stays.get(ALONE, 0)
            assert done == layer.marked.sum() > 0


def test_streams_of_a_residual_network_can_shrink() -> None:
    """Channels that are dead in every branch go from all layers of the stream, and from no other."""
    blocks = [block(3, 8), Residual(8, 8), Residual(8, 8), Residual(8, 10, 2), Residual(10, 10)]
    model = randomized(nn.Sequential(*blocks, *head(10)), seed=5, dead=0.0)
    dead = [1, 4, 6]
    with torch.no_grad():
        for path in ("0.1", "1.conv2.1", "2.conv2.1"):
            scale_of(model, path)[dead] = 1e-5
            model.get_submodule(path).bias[dead] = torch.tensor([1.0, -2.0, 3.0])
        scale_of(model, "2.conv2.1")[7] = 1e-5
    result = slim(model, images(4))
    touched = {
        layer.name: np.flatnonzero(layer.removed | layer.constant).tolist() for layer in result.layers
    }
    assert touched.pop("0.1") == touched.pop("1.conv2.1") == touched.pop("2.conv2.1") == dead
    assert not any(touched.values()) and count(result, "constant") == 3
    assert [layer.stays for layer in result.layers if layer.stays] == [{ALIVE: 1}]
    assert gap(result.model, zeroed_by_hand(model, result), images(5, seed=8)) < EXACT


def test_agrees_with_the_removal_from_arrays() -> None:
    """A chain of dense layers against `nets.sparsity.remove_units`, number by number."""
    layers: list[nn.Module] = []
    for n_in, n_out in ((6, 12), (12, 10)):
        layers += [nn.Linear(n_in, n_out, bias=False), nn.BatchNorm1d(n_out), nn.ELU()]
    torch.manual_seed(0)
    model = randomized(nn.Sequential(*layers, nn.Linear(10, 4)), seed=4).double()
    result = slim(model, images(3, (6,)).double())

    def arrays(each: nn.Module, kind: type[nn.Module], name: str) -> list[Any]:
        found = [getattr(module, name) for module in each.modules() if isinstance(module, kind)]
        return [tensor.detach().numpy() for tensor in found if tensor is not None]

    def everything(each: nn.Module) -> dict[str, Any]:
        norm = nn.BatchNorm1d
        return {
            "weights": arrays(each, nn.Linear, "weight"), "gamma": arrays(each, norm, "weight"),
            "beta": arrays(each, norm, "bias"), "bias": arrays(each, nn.Linear, "bias")[0],
            "running_mean": arrays(each, norm, "running_mean"),
            "running_var": arrays(each, norm, "running_var"),
        }  # fmt: skip

    marked = [layer.marked for layer in result.layers if layer.criterion == "scale"]
    chain = remove_units(
        **everything(model), marked=marked,
        activation_of=lambda u: F.elu(torch.tensor(u)).numpy(),
    )  # fmt: skip
    assert sum(mask.sum() for mask in marked) > 5
    for name, ours in everything(result.model).items():
        for a, b in zip(ours, getattr(chain, name), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12, err_msg=name)


@given(data=st.data())
@settings(max_examples=12)
def test_random_chains(data: st.DataObject) -> None:
    def drawn(strategy: st.SearchStrategy[Any]) -> Any:
        return data.draw(strategy)

    layers: list[nn.Module] = []
    channels = 2
    for _ in range(drawn(st.integers(2, 3))):
        kernel, filters = drawn(st.sampled_from([1, 2, 3])), drawn(st.integers(2, 7))
        layers += [
            nn.Conv2d(
                channels, filters, kernel, stride=drawn(st.sampled_from([1, 2])),
                padding=drawn(st.integers(0, kernel)), bias=drawn(st.booleans()),
                padding_mode=drawn(st.sampled_from(["zeros", "zeros", "replicate"])),
            ),
            drawn(st.sampled_from([nn.BatchNorm2d, lambda n: nn.Identity()]))(filters),
            drawn(st.sampled_from([nn.ReLU, nn.ELU, nn.Tanh]))(),
            drawn(st.sampled_from([nn.Identity(), nn.ZeroPad2d(1), nn.AvgPool2d(2, 1, 1)])),
        ]  # fmt: skip
        channels = filters
    torch.manual_seed(drawn(st.integers(0, 99)))
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3))
    randomized(model, seed=drawn(st.integers(0, 99)), dead=drawn(st.sampled_from([0.3, 0.7, 1.0])))
    result = slim(model, images(2, (2, 6, 5)))
    assert gap(result.model, zeroed_by_hand(model, result), images(3, (2, 6, 5), 1)) < EXACT


# What must not be removed, and what must be caught


def test_what_never_fires_on_random_inputs_is_no_constant() -> None:
    """A dead filter is summed with one that is off for all usual inputs, and lives for a large one."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = block(3, 6, 3, nn.Identity), block(3, 6, 3, nn.Identity)
            self.last = nn.Sequential(block(6, 5), *head(5))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(F.relu(self.one(x) + self.other(x)))
            return y

    model = randomized(Sum(), dead=0.0)
    with torch.no_grad():
        scale_of(model, "one.1")[2] = 1e-5
        scale_of(model, "other.1")[2] = 0.01
        model.other[1].bias[2] = -6.0
    quiet = F.relu(model.one(images(64)) + model.other(images(64)))[:, 2]
    assert quiet.abs().max() == 0
    result = slim(model, images(64))
    assert count(result, "removed") == 0
    assert {layer.name: layer.stays for layer in result.layers if layer.stays} == {"one.1": {ALIVE: 1}}


def bias_only(model: nn.Sequential) -> nn.Sequential:
    """Two blocks without the dead filters of the first, whose constants go to the second's mean."""
    (conv1, norm1, _), (conv2, _, _) = model[0], model[1]
    keep = norm1.weight.abs() >= 1e-3
    done = copy.deepcopy(model)
    first, second = done[0], done[1]
    first[0].weight = nn.Parameter(conv1.weight[keep])
    first[1] = nn.BatchNorm2d(int(keep.sum()))
    first[1].load_state_dict({k: v[keep] if v.ndim else v for k, v in norm1.state_dict().items()})
    second[0].weight = nn.Parameter(conv2.weight[:, keep])
    constants = F.relu(norm1.bias[~keep])
    with torch.no_grad():
        second[1].running_mean -= conv2.weight[:, ~keep].sum((2, 3)) @ constants
    return done.eval()


def test_a_bias_alone_is_wrong_at_padded_borders() -> None:
    """Negative control: the bias does inside the image what the slim network does everywhere."""
    blocks = nn.Sequential(block(3, 8), block(8, 7, activation=nn.Identity))
    model = nn.Sequential(randomized(blocks, seed=1, dead=0.0), *head(7)).eval()
    with torch.no_grad():
        scale_of(model, "0.0.1")[:4] = 1e-9
        model[0][0][1].bias[:4] = torch.tensor([0.5, 1.0, -1.0, 2.0])
    x = images(5, (3, 7, 7), seed=3)
    exact, approximate = slim(model, x).model[0], bias_only(blocks)
    with torch.no_grad():
        wanted, ours, bias = (each(x) for each in (blocks, exact, approximate))
    size = wanted.abs().max()
    assert (ours - wanted).abs().max() < EXACT * size
    inside = (..., slice(1, -1), slice(1, -1))
    assert (bias - wanted)[inside].abs().max() < EXACT * size
    assert (bias - wanted).abs().max() > 1e-2 * size


@pytest.mark.parametrize("kind", ["plain", "valid", "residual"])
def test_a_wrong_removal_is_undone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: without absorption the outputs differ, and what made them differ stays."""
    monkeypatch.setattr("regdyn.doctor.removal.absorb", lambda *arguments: None)
    model = randomized(built(kind), seed=1)
    result = slim(model, images(4))
    assert any(BROKEN in layer.stays for layer in result.layers)
    assert gap(result.model, zeroed_by_hand(model, result), images(7, seed=5)) < EXACT


def test_a_border_taken_for_the_inside_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regdyn.doctor.removal.padded", lambda module: False)
    model = randomized(plain(), seed=1)
    result = slim(model, images(4))
    assert any(BROKEN in layer.stays for layer in result.layers)
    assert gap(result.model, zeroed_by_hand(model, result), images(7, seed=5)) < EXACT


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = block(3, 8), block(8, 8), nn.Sequential(*head(8))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.second(self.second(self.first(x))))
        return y


def tied() -> nn.Module:
    model = nn.Sequential(block(3, 8), block(8, 8), block(8, 8), *head(8))
    model[2][0].weight = model[1][0].weight
    return model


def shuffled(x: Tensor) -> Tensor:
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def between(*modules: nn.Module, channels: int = 8) -> nn.Module:
    return nn.Sequential(block(3, 8), *modules, block(channels, 7), block(7, 6), *head(6))


STUBBORN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "runs twice": (Reused, "second.0 runs more than once"),
    "tied": (tied, "shares parameters"),
    "weight norm": (
        lambda: between(nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1))), "is computed from",
    ),
    "layer norm": (lambda: between(nn.LayerNorm([8, 5, 5])), "a LayerNorm reads them"),
    "group norm": (lambda: between(nn.GroupNorm(2, 8)), "a GroupNorm reads them"),
    "gated halves": (lambda: between(nn.GLU(1), channels=4), "."),
    "mean of channels": (lambda: between(Function(lambda x: x - x.mean(1, keepdim=True))), ALIVE),
    "softmax": (lambda: between(nn.Softmax(1)), ALIVE),
    "turned around": (lambda: between(Function(lambda x: x.flip(1))), "."),
    "shuffled": (lambda: between(Function(shuffled)), "."),
    "rolled": (lambda: between(Function(lambda x: x + x.roll(1, 1))), "."),
    "first six": (lambda: between(Function(lambda x: x[:, :6]), channels=6), BROKEN),
    "split in code": (
        lambda: between(Function(lambda x: torch.split(x, [4, 4], 1)[1]), channels=4), "."
    ),
    "shape in code": (
        lambda: nn.Sequential(block(3, 8), block(8, 7), Function(lambda x: x.view(-1, 175)),
                              nn.Linear(175, 4)), BROKEN,
    ),
    "outputs": (lambda: nn.Sequential(block(3, 8), block(8, 7)), "outputs of the network"),
    "input added": (
        lambda: nn.Sequential(Function(lambda x: x), block(3, 3), block(3, 4), *head(4)), "",
    ),
}  # fmt: skip
"""Networks that cannot lose all of their dead filters, and why they say so ("." for any reason)."""


@pytest.mark.parametrize("kind", STUBBORN)
def test_what_cannot_go_stays_and_says_why(kind: str) -> None:
    make, reason = STUBBORN[kind]
    torch.manual_seed(0)
    model = randomized(make(), seed=1)
    result = slim(model, images(4))
    x = images(7, seed=5)
    if kind != "weight norm":
        assert gap(result.model, zeroed_by_hand(model, result), x) < EXACT
    assert difference(result.model, result.zeroed, [x]) < EXACT
    if reason:
        assert any(reason in why or reason == "." for layer in result.layers for why in layer.stays)
        assert any("Not removed: " in note for note in result.notes)
    else:
        assert count(result, "removed") > 0


def test_a_layer_that_would_vanish_keeps_its_strongest_filter() -> None:
    model = randomized(plain(), dead=0.0)
    with torch.no_grad():
        scale_of(model, "1.1").copy_(torch.linspace(1e-4, 5e-4, 9))
        scale_of(model, "1.1")[3] = -9e-4
        model[1][1].bias.abs_()
    result = slim(model, images(4))
    layer = result.layers[1]
    assert (layer.name, layer.spared, layer.stays) == ("1.1", 3, {})
    assert not layer.removed[3] and scale_of(result.model, "1.1").min().item() == pytest.approx(-9e-4)
    assert "All filters of 1.1 are dead; filter 3, the strongest, stays" in result.notes
    assert gap(result.model, zeroed_by_hand(model, result), images(7, seed=5)) < EXACT


def test_constants_of_nothing_need_no_carrier() -> None:
    model = randomized(plain(), seed=1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.abs_().neg_()
    result = slim(model, images(4))
    assert count(result, "constant") == 0
    assert count(result, "removed") == count(result, "marked") > 0


# The rest of the interface


def test_masks_in_place_of_thresholds() -> None:
    model = randomized(plain(), dead=0.0)
    mask = np.array([True, False] * 4)
    result = slim(model, images(4), marked={"0.1": mask})
    assert [layer.removed.sum() + layer.constant.sum() for layer in result.layers] == [4, 0, 0, 0]
    reference = copy.deepcopy(model).double()
    with torch.no_grad():
        scale_of(reference, "0.1")[::2] = 0
    assert gap(result.model, reference, images(7, seed=5)) < EXACT
    assert gap(result.model, model, images(7, seed=5)) > 1e-2


def test_nothing_to_remove() -> None:
    model = randomized(plain(), dead=0.0)
    result = slim(model, images(4))
    assert (result.removed, result.difference, result.notes) == (0, 0.0, ())
    assert list(result.model.state_dict()) == list(model.state_dict())


def test_type_and_modes_stay() -> None:
    model = randomized(plain(), seed=1).train()
    model[0].eval()
    model[1][0].weight.requires_grad_(False)
    result = slim(model, images(4))
    assert [m.training for m in result.model.modules()] == [m.training for m in model.modules()]
    named = dict(result.model.named_parameters())
    assert [n for n, p in named.items() if not p.requires_grad] == ["1.0.weight"]
    assert slim(model.double(), images(4).double()).difference < 1e-12
    halved = slim(model.bfloat16(), images(4).bfloat16())
    assert halved.model[0][0].weight.dtype == torch.bfloat16 and halved.difference < 5e-2


def test_the_slim_network_trains_on() -> None:
    model = randomized(built("residual"), seed=1).train()
    slimmed = slim(model, images(4)).model
    slimmed(images(8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in slimmed.parameters())


def test_psbn_keeps_its_constant() -> None:
    model = randomized(built("psbn"), seed=1)
    result = slim(model, images(4))
    assert isinstance(result.model[1], PostShifted) and result.model[1].alpha == 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": -1}, r"threshold must be in \[0, inf\), got -1"),
        ({"norm_threshold": "x"}, r"norm_threshold must be a number in \[0, inf\)"),
        ({"marked": {"7.1": [True]}}, r"marked must be masks for layers .*0\.1.*, got 7\.1"),
        ({"marked": {"0.1": [True]}}, r"marked must be a mask of 8 True or False for 0\.1, got bool"),
        ({"marked": {"0.1": np.zeros(8)}}, r"got float64 of shape \(8,\)"),
        ({"example": torch.zeros(2, 4, 5, 5)}, r"model must be a network that runs on the example"),
        ({"example": torch.zeros(0, 3, 5, 5)}, r"example must be a batch of finite floating-point"),
        ({"example": torch.zeros(2, 3, 5, 5, dtype=torch.int64)}, r"example .* got torch\.int64"),
        ({"example": torch.full((2, 3, 5, 5), torch.nan)}, r"example .* got NaN or infinity in it"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        slim(**{"model": randomized(plain()), "example": images(2), **changes})


def test_weights_that_are_not_finite_are_named() -> None:
    model = randomized(plain())
    with torch.no_grad():
        scale_of(model, "1.1")[2] = torch.nan
        model[2][0].weight[0, 0, 0, 0] = torch.inf
    with pytest.raises(InvalidParameter, match=r"NaN in 1\.1\.weight, infinity in 2\.0\.weight"):
        slim(model, images(2))


def test_a_network_of_chance_is_refused() -> None:
    model = nn.Sequential(randomized(plain()), Function(lambda x: F.dropout(x, 0.5, training=True)))
    with pytest.raises(InvalidParameter, match="the same each time"):
        slim(model, images(4))

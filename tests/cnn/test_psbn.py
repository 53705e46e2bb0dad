"""psBN: another parametrisation of the same function, for any torch model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regdyn.cnn.psbn import PostShifted, PsBatchNorm1d, PsBatchNorm2d, PsBatchNorm3d, from_psbn, to_psbn
from regdyn.errors import InvalidParameter

KINDS = [
    (nn.BatchNorm1d, PsBatchNorm1d, (6, 3)),
    (nn.BatchNorm1d, PsBatchNorm1d, (6, 3, 5)),
    (nn.BatchNorm2d, PsBatchNorm2d, (6, 3, 4, 5)),
    (nn.BatchNorm3d, PsBatchNorm3d, (6, 3, 2, 4, 5)),
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"momentum": None},
    {"momentum": 0.3, "eps": 1e-3},
    {"track_running_stats": False},
]
TOLERANCE = {torch.float64: 2e-14, torch.float32: 5e-6}


def drawn(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def randomized(model: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The model with every parameter at random, so that none is where a mistake would not show."""
    model.to(dtype)
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(drawn(tuple(parameter.shape), dtype, seed))
    return model


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    return randomized(
        nn.Sequential(
            nn.Conv2d(2, 5, 3, bias=False),
            nn.BatchNorm2d(5),
            nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 7)),
            nn.BatchNorm1d(7),
            nn.ReLU(),
            nn.BatchNorm1d(7, affine=False),
            nn.Linear(7, 3),
        ),
        dtype,
    )


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    output = model(x)
    (output * drawn(tuple(output.shape), x.dtype, 9)).sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    scale = 1 + theirs.abs().max().item()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE[theirs.dtype] * scale)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("plain, shifted, shape", KINDS)
def test_shifts_the_output_of_torchs_layer(
    plain: type[nn.Module], shifted: type[nn.Module], shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    theirs, ours = plain(3, **options), shifted(3, alpha=0.25, **options)
    for layer in (theirs, ours):
        randomized(layer)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for training in (True, True, True, False):
        x = drawn(shape, seed=3 + training)
        assert_close(ours.train(training)(x), theirs.train(training)(x) + 0.25)
        for one, other in zip(gradients(ours, x), gradients(theirs, x), strict=True):
            assert_close(one, other)
        for name, buffer in theirs.named_buffers():
            assert torch.equal(dict(ours.named_buffers())[name], buffer), name


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_conversion_changes_nothing_but_beta(dtype: torch.dtype) -> None:
    theirs = network(dtype)
    ours = copy.deepcopy(theirs)
    assert to_psbn(ours, 0.1) == 2
    assert isinstance(ours[1], PsBatchNorm2d) and isinstance(ours[3], PsBatchNorm1d)
    assert type(ours[5]) is nn.BatchNorm1d
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        moved = 0.1 if name in ("1.bias", "3.bias") else 0.0
        assert torch.equal(ours.state_dict()[name], value - moved), name
    for training in (True, True, False):
        x = drawn((8, 2, 6, 6), dtype, 20 + training)
        assert_close(ours.train(training)(x), theirs.train(training)(x))
        for one, other in zip(gradients(ours, x), gradients(theirs, x), strict=True):
            assert_close(one, other)
        for one, other in zip(ours.buffers(), theirs.buffers(), strict=True):
            assert_close(one.to(dtype), other.to(dtype))


def test_without_moving_beta_the_outputs_differ() -> None:
    theirs = network().eval()
    ours = copy.deepcopy(theirs)
    to_psbn(ours, 0.1)
    ours.load_state_dict(theirs.state_dict())
    x = drawn((8, 2, 6, 6))
    assert (ours(x) - theirs(x)).abs().max() > 1e-3


def test_an_optimizer_made_before_moves_the_same_parameters_the_same_way() -> None:
    theirs = network()
    ours = copy.deepcopy(theirs)
    before = list(ours.parameters())
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (ours, theirs)]
    to_psbn(ours, 0.2)
    assert all(one is other for one, other in zip(before, ours.parameters(), strict=True))
    x = drawn((8, 2, 6, 6))
    for _ in range(3):
        for model, optimizer in zip((ours, theirs), optimizers):
            gradients(model, x)
            optimizer.step()
    assert_close(ours(x), theirs(x))
    assert (theirs(x) - network()(x)).abs().max() > 1e-3


def test_decay_revives_a_dead_unit_only_with_psbn() -> None:
    """(beta + alpha) / |gamma| grows under decay from below 0; without alpha it stays (zhou2020, 5)."""
    for converted, alive in ((True, True), (False, False)):
        layer = nn.BatchNorm1d(1)
        with torch.no_grad():
            layer.weight.fill_(0.5)
            layer.bias.fill_(-5.0)
        if converted:
            to_psbn(layer)
        x = drawn((50, 1), torch.float32)
        assert layer(x).relu().count_nonzero() == 0
        for _ in range(1000):
            with torch.no_grad():
                layer.weight.mul_(0.99)
                layer.bias.mul_(0.99)
        assert bool(layer(x).relu().count_nonzero() == len(x)) is alive


def test_a_second_conversion_moves_to_the_new_alpha_and_back() -> None:
    theirs = network().eval()
    ours = copy.deepcopy(theirs)
    x = drawn((8, 2, 6, 6))
    for alpha in (0.1, 0.5, 0.5):
        assert to_psbn(ours, alpha) == 2
        assert ours[1].alpha == alpha
        torch.testing.assert_close(ours[1].bias, theirs[1].bias - alpha, rtol=0, atol=1e-15)
        assert_close(ours(x), theirs(x))
    assert from_psbn(ours) == 2 and from_psbn(ours) == 0
    assert [type(m) for m in ours.modules()] == [type(m) for m in theirs.modules()]
    assert "alpha" not in vars(ours[1])
    assert_close(ours(x), theirs(x))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=1e-15)


def test_a_layer_alone_and_a_layer_used_twice() -> None:
    layer = nn.BatchNorm2d(3)
    assert to_psbn(layer) == 1 and type(layer) is PsBatchNorm2d
    assert repr(layer).endswith("track_running_stats=True, alpha=0.1)")
    shared = nn.BatchNorm1d(2)
    assert to_psbn(nn.Sequential(shared, nn.ReLU(), shared), 0.5) == 1
    assert torch.equal(shared.bias, torch.full((2,), -0.5))


def test_statistics_no_longer_tracked_stay() -> None:
    layer = nn.BatchNorm1d(2)
    to_psbn(layer)
    layer.track_running_stats = False
    before = [buffer.clone() for buffer in layer.buffers()]
    x = drawn((9, 2), torch.float32)
    assert_close(layer(x), nn.BatchNorm1d(2)(x))
    assert all(torch.equal(one, other) for one, other in zip(layer.buffers(), before, strict=True))


def test_frozen_parameters_stay_frozen() -> None:
    layer = nn.BatchNorm1d(2).requires_grad_(False)
    to_psbn(layer)
    assert not layer.bias.requires_grad and torch.equal(layer.bias, torch.full((2,), -0.1))


@pytest.mark.parametrize("alpha", [0, -0.1, float("nan"), "x"])
def test_alpha_is_above_0(alpha: Any) -> None:
    model = network()
    for refused in (lambda: to_psbn(model, alpha), lambda: PsBatchNorm1d(2, alpha=alpha)):
        with pytest.raises(InvalidParameter, match=r"^alpha must be .*in \(0, inf\), got"):
            refused()
    assert not any(isinstance(module, PostShifted) for module in model.modules())


class Halved(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


@pytest.mark.parametrize(
    "model, message",
    [
        (
            nn.Sequential(nn.Linear(2, 2), nn.InstanceNorm1d(2, affine=True)),
            "a network with batch normalisation that has a beta, got Sequential",
        ),
        (
            nn.BatchNorm2d(2, affine=False),
            "a network with batch normalisation that has a beta, got BatchNorm2d",
        ),
        (
            nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.SyncBatchNorm(2))),
            "normalised by BatchNorm1d, BatchNorm2d or BatchNorm3d, got layer 1.0, a SyncBatchNorm",
        ),
        (Halved(2), "normalised by BatchNorm1d, BatchNorm2d or BatchNorm3d, got a Halved"),
    ],
)
def test_refused_models_stay_as_they_were(model: nn.Module, message: str) -> None:
    before = copy.deepcopy(model)
    with pytest.raises(InvalidParameter) as caught:
        to_psbn(model)
    assert str(caught.value) == f"model must be {message}"
    assert [type(m) for m in model.modules()] == [type(m) for m in before.modules()]
    for name, value in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)

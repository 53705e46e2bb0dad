"""Penalties on torch's parameters: against autograd, a loop by hand, and the NumPy network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import regdyn
from regdyn.cnn import checkpoints
from regdyn.cnn._batches import Order
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.images import Images, prepare_images
from regdyn.cnn.models import initialize, make_model
from regdyn.cnn.models.base import Network, Setting
from regdyn.cnn.optimizers import ConfiguredOptimizer
from regdyn.cnn.penalties import make_penalty_gradient
from regdyn.cnn.result import CnnResult
from regdyn.cnn.training import train
from regdyn.errors import InvalidParameter
from regdyn.nets._run import Run
from regdyn.nets._team import Team
from regdyn.nets.config import Snapshot
from regdyn.nets.penalties import GroupLasso, Penalty, Slimming
from regdyn.nets.training import TrainConfig, _Casts

KINDS = [Slimming(0.03), GroupLasso(0.002)]


def images() -> Images:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 60, 8, 8, 1)).astype(np.float32)
    y = np.arange(60) % 4
    return prepare_images("random", x[0], y, x[1], y)


IMAGES = images()


def config(**changes: Any) -> CnnConfig:
    given = dict(
        data=IMAGES, model="mlp:width=12", optimizer="adam", lam=1e-2, batch=10, steps=12,
        times=[0, 6, 12], seed=3, device="cpu", dtype="float64",
    )  # fmt: skip
    return CnnConfig(**given | changes)


def written(penalty: Penalty, model: nn.Module) -> torch.Tensor:
    """The penalty by the modules' kinds and names, for autograd."""
    total = torch.zeros((), dtype=torch.float64)
    for name, module in model.named_modules():
        if isinstance(penalty, Slimming):
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d):
                total = total + module.weight.abs().sum()
        elif isinstance(module, nn.Conv2d | nn.Linear) and name != "output":
            for w in module.weight:
                total = total + math.sqrt(w.numel()) * w.square().sum().sqrt()
    return penalty.strength * total


def a_model(name: str, norm: str | None) -> Network:
    setting = Setting(channels=1, size=(16, 16), n_classes=4, norm=norm, alpha=0.1 * (norm is None))
    model = make_model(name, setting).double().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    assert isinstance(model, Network)
    return model


@pytest.mark.parametrize("penalty", KINDS, ids=lambda p: p.name)
@pytest.mark.parametrize(
    "name, norm",
    [("basicnet:width=0.25", None), ("basicnet:width=0.25", "instance"), ("resnet20", None)],
)
def test_equals_autograd(name: str, norm: str | None, penalty: Penalty) -> None:
    model = a_model(name, norm)
    loss = model(torch.ones(2, 1, 16, 16, dtype=torch.float64)).square().sum()
    torch.autograd.backward(loss + written(penalty, model))
    wanted = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    torch.autograd.backward(model(torch.ones(2, 1, 16, 16, dtype=torch.float64)).square().sum())
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    make_penalty_gradient(None, model)()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before))  # type: ignore[arg-type]
    make_penalty_gradient(penalty, model)()
    changed = 0
    for parameter, target, plain in zip(model.parameters(), wanted, before):
        scale = float(plain.abs().max())
        torch.testing.assert_close(parameter.grad, target, rtol=1e-9, atol=1e-12 * scale + 1e-13)
        changed += not torch.equal(plain, parameter.grad)  # type: ignore[arg-type]
    assert 0 < changed < len(wanted)


def test_no_gradient_at_zero_and_a_direction_near_it() -> None:
    model = a_model("mlp:width=5", None).float()
    layer = model.layers[0]
    weight, norm = model.weights_of(layer).weight, model.norm_of(layer)
    assert norm is not None
    with torch.no_grad():
        weight[0], weight[1] = 0, weight[1] * 1e-25
        norm.weight[0], norm.weight[1] = 0, -1e-30
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for penalty in KINDS:
        make_penalty_gradient(penalty, model)()
    assert weight.grad is not None and norm.weight.grad is not None
    lengths = weight.grad.norm(dim=1)
    assert lengths[0] == 0
    torch.testing.assert_close(lengths[1:], torch.full((4,), 0.002 * math.sqrt(256)))
    assert norm.weight.grad[0] == 0 and norm.weight.grad[1] == -torch.tensor(0.03)


# A run


@pytest.mark.parametrize("penalty", KINDS, ids=lambda p: p.name)
@pytest.mark.parametrize("model", ["mlp:width=12", "basicnet:width=0.25"])
def test_a_run_equals_a_loop_by_hand(model: str, penalty: Penalty) -> None:
    settings = config(model=model, penalty=penalty, optimizer=regdyn.SGD(lr=0.02))
    (result,) = train([settings], threads=1)

    def by_hand(penalty: Penalty | None) -> tuple[nn.Module, list[float]]:
        network = settings.make_model()
        initialize(network, "xavier", 1.0, 0.0, torch.Generator().manual_seed(3))
        network.double()
        sgd = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-2)
        order, losses = Order(60, 10, 3, False, 0, torch.device("cpu")), []
        x_all = torch.tensor((IMAGES.x_train - IMAGES.mean) / IMAGES.std).permute(0, 3, 1, 2).double()
        for t in range(1, 13):
            index = order.at(t).index
            loss = F.cross_entropy(network(x_all[index]), torch.tensor(IMAGES.y_train)[index])
            losses.append(loss.item())
            sgd.zero_grad()
            torch.autograd.backward(loss + (written(penalty, network) if penalty else 0))
            sgd.step()
        return network, losses

    network, losses = by_hand(penalty)
    ours = dict(result.model.state_dict())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-8, atol=1e-10)
    # The loss that is recorded is that of the data.
    np.testing.assert_allclose(result.loss[1:], [np.mean(losses[:6]), np.mean(losses[6:])], rtol=1e-9)
    other, _ = by_hand(None)
    assert any(
        not torch.allclose(ours[name], value, rtol=1e-8, atol=1e-10)
        for name, value in other.named_parameters()
    ), "negative control"


@pytest.mark.parametrize("optimizer", [regdyn.SGD(lr=0.05), regdyn.Adam(lr=0.01)])
@pytest.mark.parametrize(
    "penalty, norm",
    [(KINDS[0], "batch"), (KINDS[1], "batch"), (KINDS[1], "none")],
    ids=["slimming", "group-lasso", "group-lasso, no norm"],
)
def test_both_backends_agree_step_by_step(penalty: Penalty, norm: str, optimizer: regdyn.SGD) -> None:
    shared: dict[str, Any] = dict(
        data="digits", penalty=penalty, optimizer=optimizer, norm=norm, lam=1e-2, batch=20, steps=12,
        dtype="float64",
    )  # fmt: skip
    plain = TrainConfig(hidden=(9, 9), times=range(13), **shared)
    (result,) = regdyn.train([plain])
    run = Run(plain, _Casts()(plain), Team(1))

    settings = CnnConfig(model="mlp:width=9,depth=2", device="cpu", **shared)
    model = settings.make_model().double()
    modules, norms = ([f(layer) for layer in model.layers] for f in (model.weights_of, model.norm_of))
    shifts = [module if norm is None else norm for module, norm in zip(modules, norms)]
    scales = [norm.weight for norm in norms if norm is not None]
    with torch.no_grad():
        for module, weights in zip(modules, run.network.weights):
            module.weight.copy_(torch.tensor(weights))
        for shift in shifts:
            shift.bias.zero_()  # type: ignore[union-attr]
    beta = [shift.bias for shift in shifts[:-1]]
    kinds = {id(parameter) for parameter in [*scales, *beta]}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in kinds]
    torch_optimizer = ConfiguredOptimizer(settings, rest, scales, beta)  # type: ignore[arg-type]
    add = make_penalty_gradient(settings.penalty_term, model)
    for t in range(1, 13):
        x, y = run._next_batches(1)
        images = torch.tensor(x[:, :64]).reshape(20, 1, 8, 8)
        model.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(images), torch.tensor(y)))
        add()
        torch_optimizer.step(t)
        for layer in range(2):
            lengths = modules[layer].weight.detach().norm(dim=1).numpy()
            np.testing.assert_allclose(result.norm[layer][t], lengths, rtol=1e-9)
            np.testing.assert_allclose(result.beta[layer][t], beta[layer].detach().numpy(), atol=1e-9)
            if scales:
                gamma = scales[layer].detach().numpy()
                np.testing.assert_allclose(result.gamma[layer][t], gamma, atol=1e-9)
    for module, weights in zip(modules, result.network.weights):
        np.testing.assert_allclose(module.weight.detach().numpy(), weights, atol=1e-9)


def test_it_is_part_of_the_configuration(tmp_path: Path) -> None:
    settings = config(penalty="slimming:0.01")
    (whole,) = train([settings], threads=1)

    class Stop(Exception):
        pass

    def stop(at: Snapshot) -> None:
        if at.step == 6:
            raise Stop

    with pytest.raises(Stop):
        train([settings], threads=1, checkpoint=tmp_path, progress=stop)
    kept = checkpoints.load(tmp_path).about
    assert kept["step"] == 6 and kept["config"]["penalty"] == {"type": "slimming", "strength": 0.01}
    for other, reason in (
        ("slimming:0.02", "strength is 0.01 and not 0.02"),
        ("group-lasso:0.01", "penalty is slimming and not group-lasso"),
        (None, "penalty is .* and not None"),
    ):
        with pytest.raises(InvalidParameter, match=f"of this configuration.* where {reason}"):
            train([config(penalty=other)], threads=1, checkpoint=tmp_path, resume=True)
    (resumed,) = train([settings], threads=1, checkpoint=tmp_path, resume=True)
    ours, theirs = (dict(result.model.state_dict()) for result in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert whole.to_xarray().attrs["penalty"] == "slimming:0.01"
    assert "slimming:0.01" in repr(whole)


def test_a_checkpoint_from_before_there_were_penalties_goes_on(tmp_path: Path) -> None:
    train([config()], threads=1, checkpoint=tmp_path)
    kept = checkpoints.load(tmp_path)
    del kept.about["config"]["penalty"]
    checkpoints.save(tmp_path, kept.tensors, kept.about)
    (result,) = train([config()], threads=1, checkpoint=tmp_path, resume=True)
    assert result.times[-1] == 12
    with pytest.raises(InvalidParameter, match="where penalty differs"):
        train([config(penalty="slimming:1")], threads=1, checkpoint=tmp_path, resume=True)


def test_bfloat16_penalises_in_full_precision() -> None:
    """Under autocast the parameters, and with them the penalty, stay float32."""
    given: dict[str, Any] = dict(
        dtype="float32", precision="bfloat16", steps=1, times=[1], lam=0.0,
        optimizer=regdyn.SGD(lr=1.0, momentum=0.0),
    )  # fmt: skip
    plain, slim = (
        result.gamma[0][-1] for result in train(
            [config(**given), config(penalty="slimming:0.3001", **given)], threads=1
        )
    )  # fmt: skip
    np.testing.assert_allclose(plain - slim, 0.3001, rtol=1e-5)


def test_slimming_needs_scales() -> None:
    with pytest.raises(InvalidParameter, match="penalty must be none or group-lasso:STRENGTH without"):
        config(penalty="slimming:1", norm="none")
    assert config(penalty="group-lasso:1", norm="none").penalty == GroupLasso(1)


def test_both_make_units_small() -> None:
    def final(penalty: str | None) -> CnnResult:
        settings = dict(steps=300, times=None, regularization="none", optimizer=regdyn.SGD(lr=0.1))
        (result,) = train([config(penalty=penalty, **settings)], threads=1)
        return result

    plain, slim, grouped = (final(p) for p in (None, "slimming:0.1", "group-lasso:0.1"))
    assert np.median(np.abs(slim.gamma[0][-1])) < 0.1 < 0.5 < np.median(np.abs(plain.gamma[0][-1]))
    assert np.median(grouped.norm[0][-1]) < 0.3 * np.median(plain.norm[0][-1])
    assert np.median(slim.norm[0][-1]) > 3 * np.median(grouped.norm[0][-1]), "not the weights"

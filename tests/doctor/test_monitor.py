"""The monitor against the same numbers taken by hand in the loop, and the training with and without."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from regdyn.cnn.psbn import to_psbn
from regdyn.doctor import SparsityMonitor
from regdyn.errors import InvalidParameter
from regdyn.nets import sparsity

CLASSES = 4


class Net(nn.Module):
    """A convolution, a residual sum and a hidden layer, with functions for activations."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 9)
        self.bn3 = nn.BatchNorm1d(9)
        self.out = nn.Linear(9, CLASSES)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(x + self.bn2(self.conv2(x)))
        x = F.leaky_relu(self.bn3(self.fc(x.mean((2, 3)))), 0.1)
        return self.out(F.dropout(x, self.dropout, self.training))  # type: ignore[no-any-return]


NORMS = ("bn1", "bn2", "bn3")
UNITS = {"bn1": 6, "bn2": 6, "bn3": 9}


def make_net(seed: int = 0, **options: Any) -> Net:
    """With gamma and beta at random, some of them tiny, so that every count has something to count."""
    torch.manual_seed(seed)
    net = Net(**options)
    with torch.no_grad():
        for name in NORMS:
            layer = net.get_submodule(name)
            layer.weight.copy_(torch.randn(UNITS[name]))  # type: ignore[operator]
            layer.bias.copy_(torch.randn(UNITS[name]))  # type: ignore[operator]
        net.bn1.weight[:3] = torch.tensor([5e-5, -5e-4, 5e-3])
        net.bn1.bias[0] = -1.0
        net.bn3.weight[1] = 0.0
    return net


def batch(number: int, samples: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(samples, 2, 5, 5, generator=generator)
    return x, torch.randint(CLASSES, (samples,), generator=generator)


def make_adam(model: nn.Module, make: Any = torch.optim.Adam, **settings: Any) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = make(
        model.parameters(), **{"lr": 1e-2, "weight_decay": 1e-2} | settings
    )
    return optimizer


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    after: Callable[[int], object] = lambda step: None,
    first: int = 1,
) -> None:
    for step in range(first, first + steps):
        x, y = batch(step)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after(step)


def scales(net: Net) -> dict[str, tuple[NDArray, NDArray]]:
    found = {}
    for name in NORMS:
        weight, bias = net.get_parameter(f"{name}.weight"), net.get_parameter(f"{name}.bias")
        found[name] = weight.detach().numpy().copy(), bias.detach().numpy().copy()
    return found


@pytest.mark.parametrize("attached", [True, False])
def test_gamma_and_beta_of_every_kth_step(attached: bool) -> None:
    net = make_net()
    optimizer = make_adam(net)
    by_hand = {0: scales(net)}
    monitor = SparsityMonitor(net, optimizer if attached else None, every=3)

    def after(step: int) -> None:
        if not attached:
            monitor.step()
        by_hand[step] = scales(net)

    train(net, optimizer, 8, after)
    assert monitor.steps == 8 and monitor.layer_names == NORMS
    assert monitor.times.tolist() == [0, 3, 6]
    monitor.record()
    monitor.record()
    assert monitor.times.tolist() == [0, 3, 6, 8]
    data = monitor.to_xarray()
    for row, step in enumerate(data.time.values.tolist()):
        for name, (gamma, beta) in by_hand[step].items():
            np.testing.assert_array_equal(data[f"gamma_{name}"][row], gamma)
            np.testing.assert_array_equal(data[f"beta_{name}"][row], beta)
            assert data[f"gamma_{name}"].dims == ("time", f"unit_{name}")
    assert not np.array_equal(by_hand[0]["bn1"][0], by_hand[8]["bn1"][0])


def test_what_follows_from_gamma_and_beta() -> None:
    net = make_net()
    monitor = SparsityMonitor(net, every=1)
    data = monitor.to_xarray().isel(time=0)
    dead = never = 0
    for i, (name, (gamma, beta)) in enumerate(scales(net).items()):
        width = np.abs(gamma.astype(float))
        for j, limit in enumerate((1e-2, 1e-3, 1e-4)):
            assert data.sparsity_by_scale[i, j] == np.mean(width < limit)
        safe = np.where(width > 0, width, 1.0)
        phi = np.where(width > 0, norm.cdf(beta / safe), beta > 0)
        mean = np.where(width > 0, beta * phi + safe * norm.pdf(beta / safe), np.maximum(beta, 0))
        assert float(data.active_predicted[i]) == pytest.approx(phi.mean(), rel=1e-12)
        assert float(data.expected_activation[i]) == pytest.approx(np.abs(mean).mean(), rel=1e-9)
        assert data.never_fire[i] == np.count_nonzero(phi < 1e-3)
        assert data.units[i] == UNITS[name]
        dead += np.count_nonzero(width < 1e-3)
        never += np.count_nonzero(phi < 1e-3)
        layer = monitor.layers[i]
        assert (layer.name, layer.units) == (name, UNITS[name])
        assert layer.active_predicted == pytest.approx(phi.mean(), rel=1e-12)
        assert layer.by_scale == {t: np.mean(width < t) for t in (1e-2, 1e-3, 1e-4)}
    assert dead == 3 and never >= 1
    assert float(data.sparsity) == pytest.approx(dead / 21)
    assert list(data.layer.values) == list(NORMS)
    assert monitor.total.units == 21 and monitor.total.by_scale == pytest.approx(
        {1e-2: 4 / 21, 1e-3: 3 / 21, 1e-4: 2 / 21}
    )
    assert "sigma" not in data and "active_measured" not in data and "alpha" not in data
    leaky = SparsityMonitor(net, slope=0.1).to_xarray().expected_activation[0, 2]
    gamma, beta = net.bn3.weight.detach().double(), net.bn3.bias.detach().double()
    expected = sparsity.expected_activation(gamma, beta, slope=0.1)
    assert float(leaky) == pytest.approx(np.abs(expected).mean(), rel=1e-9)


def test_psbn() -> None:
    net = make_net()
    plain = SparsityMonitor(net).to_xarray()
    to_psbn(net, 0.25)
    shifted = SparsityMonitor(net).to_xarray()
    # Another parametrisation of the same function.
    for name in ("active_predicted", "expected_activation"):
        np.testing.assert_allclose(shifted[name], plain[name], rtol=1e-6)
    np.testing.assert_allclose(shifted.beta_bn1, plain.beta_bn1 - 0.25, rtol=1e-6, atol=1e-7)
    assert np.all(shifted.alpha == 0.25)


class ByHand:
    """Activations of `Net`, written out, for the batches that it was called with."""

    def __init__(self) -> None:
        self.first: list[Tensor] = []
        self.last: list[Tensor] = []

    def __call__(self, net: Net, x: Tensor) -> None:
        y = F.relu(net.bn1(net.conv1(x)))
        self.first.append(y.detach())
        y = F.relu(y + net.bn2(net.conv2(y)))
        self.last.append(F.leaky_relu(net.bn3(net.fc(y.mean((2, 3)))), 0.1).detach())


@pytest.mark.parametrize("every", [1, 2])
def test_activations_of_the_steps_that_are_recorded(every: int) -> None:
    net, twin = make_net(), make_net()
    optimizers = make_adam(net), make_adam(twin)
    monitor = SparsityMonitor(net, optimizers[0], every=every, activations=True)
    expected: dict[int, ByHand] = {}
    for step in range(1, 5):
        expected[step] = ByHand()
        for model, optimizer in zip((net, twin), optimizers):
            optimizer.zero_grad()
            # Two batches that are accumulated are one step.
            for part in range(2):
                x, y = batch(10 * step + part, samples=8 - 3 * part)
                if model is twin:
                    with torch.random.fork_rng():
                        state = {k: v.clone() for k, v in twin.state_dict().items()}
                        expected[step](twin, x)
                        twin.load_state_dict(state)
                else:
                    # What is evaluated meanwhile does not count.
                    net.eval()
                    net(100 * x)
                    net.train()
                F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert torch.equal(net.conv1.weight, twin.conv1.weight)
    data = monitor.to_xarray()
    assert "peak_bn2" not in data, "its activation is that of a sum"
    assert np.isnan(data.active_measured.sel(layer="bn2")).all()
    assert np.isnan(data.active_measured[0]).all() and np.isnan(data.peak_bn1[0]).all()
    for row, step in list(enumerate(data.time.values.tolist()))[1:]:
        assert step % every == 0
        maps = [torch.cat([y.flatten(2) for y in expected[step].first]).transpose(0, 1).flatten(1)]
        maps.append(torch.cat(expected[step].last).T)
        for name, values in zip(("bn1", "bn3"), maps):
            share = (values > 0).float().mean(1)
            np.testing.assert_allclose(data[f"active_share_{name}"][row], share, rtol=1e-6)
            np.testing.assert_array_equal(data[f"peak_{name}"][row], values.abs().amax(1))
            measured = data.active_measured.sel(layer=name)[row]
            assert float(measured) == pytest.approx(float(share.mean()), rel=1e-6)
            below = data.sparsity_by_activation.sel(layer=name, activation_threshold=1e-2)[row]
            assert float(below) == np.mean(values.abs().amax(1).numpy() <= 1e-2)
    (layer, none, _) = monitor.layers
    assert layer.active_measured == pytest.approx(float(data.active_measured[-1, 0]))
    assert none.active_measured is None and none.active_predicted is not None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_training_is_the_same_bit_for_bit(precision: str, tmp_path: Path) -> None:
    ends = []
    for monitored in (False, True):
        net = make_net(dropout=0.3)
        optimizer = make_adam(net)
        if monitored:
            monitor = SparsityMonitor(
                net, optimizer, every=1, activations=True, tensorboard=tmp_path / precision
            )
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            train(net, optimizer, 6)
        ends.append([*net.state_dict().values(), *(p.grad for p in net.parameters()), torch.rand(3)])
    assert all(map(torch.equal, *ends))
    monitor.close()
    assert len(monitor.times) == 7 and not torch.equal(ends[0][0], make_net().conv1.weight)
    assert not math.isnan(float(monitor.to_xarray().active_measured[-1, 0]))


def test_sigma_of_adam() -> None:
    for make in (torch.optim.Adam, torch.optim.AdamW):
        net = make_net()
        optimizer = make_adam(net, make, betas=(0.8, 0.95))
        monitor = SparsityMonitor(net, optimizer, every=5)
        train(net, optimizer, 10)
        data = monitor.to_xarray()
        assert np.isnan(data.sigma[0]).all()
        for i, name in enumerate(NORMS):
            state = optimizer.state[net.get_parameter(f"{name}.weight")]
            v = state["exp_avg_sq"].double() / (1 - 0.95**10)
            m = state["exp_avg"].double() / (1 - 0.8**10)
            intake = 0.2 / 1.8 * (1 + 0.8**10) / (1 - 0.8**10)
            variance = float(np.median((v - m**2) / (1 - intake)))
            if variance < 0:
                assert np.isnan(data.sigma[2, i])
            else:
                assert float(data.sigma[2, i]) == pytest.approx(math.sqrt(variance), rel=1e-5)
        assert np.isfinite(data.sigma[2]).any()
        assert "gradient noise of gamma" in repr(monitor)
    # Other rules keep no such moments, and only weights that they train have any.
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    monitor = SparsityMonitor(net, optimizer, every=2)
    train(net, optimizer, 2)
    assert "sigma" not in monitor.to_xarray() and "noise" not in repr(monitor)
    optimizer = torch.optim.Adam(net.bn1.parameters())
    monitor = SparsityMonitor(net, optimizer, every=5)
    train(net, optimizer, 5)
    assert np.isfinite(monitor.to_xarray().sigma[1]).values.tolist() == [True, False, False]


def test_steps_that_are_skipped_do_not_count() -> None:
    net = make_net()
    optimizer = make_adam(net)
    monitor = SparsityMonitor(net, optimizer, every=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for step in range(3):
        x, y = batch(step)
        loss = F.cross_entropy(net(x), y) * (math.inf if step == 1 else 1.0)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert monitor.steps == 2 and monitor.times.tolist() == [0, 1, 2]


class Called(TorchFunctionMode):
    """Names of torch's functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def test_one_transfer_for_a_record_and_nothing_at_other_steps() -> None:
    net = make_net()
    optimizer = make_adam(net)
    train(net, optimizer, 2)
    for activations in (False, True):
        monitor = SparsityMonitor(net, every=3, activations=activations)
        for step in range(1, 7):
            net(batch(0)[0])
            with Called() as called:
                monitor.step()
            if step % 3:
                assert not called.names
            else:
                assert called.names.count("cpu") == 1
                # What would wait for the device besides.
                assert not {"item", "tolist", "__bool__", "__float__", "__int__"} & set(called.names)


def test_records_are_thinned() -> None:
    net = make_net()
    monitor = SparsityMonitor(net, every=2, keep=5)
    for step in range(1, 100):
        with torch.no_grad():
            net.bn1.weight.fill_(step)
        monitor.step()
        assert len(monitor.readings) <= 5 and monitor.times[0] == 0
        assert all(reading.layers[0].gamma[0] == reading.step for reading in monitor.readings[1:])
    assert monitor.every == 32 and monitor.times.tolist() == [0, 32, 64, 96]
    # Records between the steps that are due go first.
    for _ in range(3):
        monitor.step()
        monitor.record()
    assert monitor.times.tolist()[-1] == 102 and len(monitor.readings) <= 5
    # The numbers of a record are no view of more.
    assert all(each.gamma.base is None for reading in monitor.readings for each in reading.layers)


def test_a_training_that_is_resumed(tmp_path: Path) -> None:
    whole, half, rest = make_net(), make_net(), make_net(1)
    optimizers = [make_adam(net) for net in (whole, half, rest)]
    monitors = [
        SparsityMonitor(net, optimizer, every=2, activations=True)
        for net, optimizer in zip((whole, half, rest), optimizers)
    ]
    train(whole, optimizers[0], 9)
    train(half, optimizers[1], 5)
    states = {"net": half, "optimizer": optimizers[1], "monitor": monitors[1]}
    torch.save({name: each.state_dict() for name, each in states.items()}, tmp_path / "half.pt")
    kept = torch.load(tmp_path / "half.pt", weights_only=True)
    rest.load_state_dict(kept["net"])
    optimizers[2].load_state_dict(kept["optimizer"])
    monitors[2].load_state_dict(kept["monitor"])
    assert monitors[2].steps == 5 and monitors[2].times.tolist() == [0, 2, 4]
    train(rest, optimizers[2], 4, first=6)
    xarray.testing.assert_identical(monitors[2].to_xarray(), monitors[0].to_xarray())
    assert "peak_bn1" in monitors[2].to_xarray()
    other = SparsityMonitor(nn.Sequential(nn.BatchNorm2d(6)))
    with pytest.raises(InvalidParameter, match="state must be of a network with the same"):
        other.load_state_dict(kept["monitor"])
    with pytest.raises(InvalidParameter, match="state must be of a monitor"):
        other.load_state_dict(kept["net"])


def test_files(tmp_path: Path) -> None:
    net = make_net()
    optimizer = make_adam(net)
    monitor = SparsityMonitor(net, optimizer, every=2, activations=True)
    train(net, optimizer, 4)
    path = tmp_path / "run.nc"
    monitor.save(path)
    with xarray.open_dataset(path, engine="h5netcdf") as data:
        xarray.testing.assert_equal(data.load(), monitor.to_xarray())
        assert data.attrs["model"] == "Net" and data.attrs["every"] == 2
        assert data.attrs["torch_version"] == torch.__version__
    before = path.read_bytes()
    with pytest.raises(InvalidParameter, match="out must be a new file"):
        monitor.save(path)
    with pytest.raises(InvalidParameter, match=r"out must be a file that ends in \.nc"):
        monitor.save(tmp_path / "run.csv")
    with pytest.raises(InvalidParameter, match="out must be in an existing folder"):
        monitor.save(tmp_path / "none" / "run.nc")
    assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ["run.nc"]
    train(net, optimizer, 2)
    monitor.save(path, force=True)
    with xarray.open_dataset(path, engine="h5netcdf") as data:
        assert data.time.values.tolist() == [0, 2, 4, 6]
    # A layer may be called what a file could not.
    odd = SparsityMonitor(nn.ModuleDict({"a/b c": nn.BatchNorm2d(3)}))
    odd.save(tmp_path / "odd.nc")
    with xarray.open_dataset(tmp_path / "odd.nc", engine="h5netcdf") as data:
        assert data["gamma_a_b_c"].shape == (1, 3) and data.layer.values.tolist() == ["a/b c"]


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
        events = EventAccumulator(str(folder)).Reload()
        tags = events.Tags()
        assert {"gamma/bn1", "beta/bn3"} <= set(tags["histograms"])
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}

    net = make_net()
    optimizer = make_adam(net)
    # Records that are dropped later are in the files all the same; another monitor has them all.
    complete = SparsityMonitor(net, optimizer, every=2, activations=True)
    with SparsityMonitor(
        net, optimizer, every=2, activations=True, keep=2, tensorboard=tmp_path / "own"
    ) as monitor:
        train(net, optimizer, 9)
        assert monitor.times.tolist() == [0, 8]
    kept = complete.to_xarray().sel(time=[0, 2, 4, 8])
    found = scalars(tmp_path / "own")
    steps = [step for step, _ in found["dead by scale/all"]]
    assert steps == kept.time.values.tolist()
    np.testing.assert_allclose([v for _, v in found["dead by scale/all"]], kept.sparsity, rtol=1e-6)
    for i, name in enumerate(NORMS):
        for tag, values in {
            "dead by scale": kept.sparsity_by_scale[:, i, 1],
            "never fire": kept.never_fire[:, i],
            "active, predicted": kept.active_predicted[:, i],
        }.items():
            got = [value for _, value in found[f"{tag}/{name}"]]
            np.testing.assert_allclose(got, values, rtol=1e-6)
    assert [step for step, _ in found["active, measured/bn1"]] == steps[1:]
    got = [value for _, value in found["active, measured/bn3"]]
    np.testing.assert_allclose(got, kept.active_measured[1:, 2], rtol=1e-6)
    assert "active, measured/bn2" not in found
    # A writer of the user's own stays open, and a network that is no longer finite does not stop it.
    writer = SummaryWriter(str(tmp_path / "given"))
    monitor = SparsityMonitor(net, every=1, tensorboard=writer)
    with torch.no_grad():
        net.bn1.weight[0] = math.nan
        net.bn2.weight.fill_(math.inf)
    monitor.step()
    monitor.close()
    writer.add_scalar("after", 1.0)
    writer.close()
    found = scalars(tmp_path / "given")
    assert len(found["active, predicted/bn3"]) == 2 and len(found["active, predicted/bn1"]) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidParameter, match="tensorboard must be a folder that can be written"):
        SparsityMonitor(net, tensorboard=tmp_path / "file" / "folder")


def test_numbers_that_are_not_finite() -> None:
    net = make_net()
    monitor = SparsityMonitor(net, every=1)
    with torch.no_grad():
        net.bn2.weight[1] = math.nan
        net.bn3.bias[0] = math.inf
    monitor.step()
    data = monitor.to_xarray()
    assert np.isfinite(data.active_predicted[0]).all()
    assert np.isnan(data.active_predicted[1]).values.tolist() == [False, True, True]
    assert np.isnan(data.gamma_bn2[1]).sum() == 1 and data.sparsity_by_scale[1, 1, 0] == 0
    assert "not finite: bn2, bn3" in repr(monitor)
    assert [layer.active_predicted is None for layer in monitor.layers] == [False, True, True]


def test_half_precision_and_mixed_types() -> None:
    net = make_net()
    net.bn1.bfloat16()
    net.bn3.double()
    data = SparsityMonitor(net).to_xarray()
    np.testing.assert_array_equal(data.gamma_bn1[0], net.bn1.weight.detach().float())
    np.testing.assert_array_equal(data.gamma_bn3[0], net.bn3.weight.detach())
    bare = SparsityMonitor(net.bfloat16()).to_xarray()
    assert bare.gamma_bn1.dtype == np.float32


def test_wrapped_models() -> None:
    for wrap in (
        lambda net: torch.compile(net, backend="eager"),
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
    ):
        net = make_net()
        wrapped: Any = wrap(net)  # type: ignore[no-untyped-call]
        optimizer = make_adam(wrapped)
        monitor = SparsityMonitor(wrapped, optimizer, every=1)
        assert monitor.layer_names == NORMS and monitor.model_name == "Net"
        train(wrapped, optimizer, 2)
        last = scales(getattr(wrapped, "module", net))["bn1"][0]
        np.testing.assert_array_equal(monitor.readings[-1].layers[0].gamma, last)
    with pytest.raises(
        InvalidParameter, match="must be a model that is not compiled where activations"
    ):
        SparsityMonitor(torch.compile(make_net(), backend="eager"), activations=True)
    parallel = nn.DataParallel(make_net())
    optimizer = make_adam(parallel)
    monitor = SparsityMonitor(parallel, optimizer, every=1, activations=True)
    train(parallel, optimizer, 1)
    assert float(monitor.to_xarray().active_measured[1, 0]) > 0


def test_layers_without_gamma_or_beta() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.BatchNorm1d(3))
    assert SparsityMonitor(model).layer_names == ("1",)
    model[1].register_parameter("bias", None)
    data = SparsityMonitor(model).to_xarray()
    assert data.beta_1.values.tolist() == [[0, 0, 0]] and data.active_predicted.item() == 0.5


def test_letting_go() -> None:
    net = make_net()
    optimizer = make_adam(net)
    hooks = len(optimizer._optimizer_step_post_hooks)
    with (
        pytest.raises(ZeroDivisionError),
        SparsityMonitor(net, optimizer, every=1, activations=True) as monitor,
    ):
        assert len(optimizer._optimizer_step_post_hooks) == hooks + 1
        train(net, optimizer, 2, lambda step: 1 / (2 - step))
    assert len(optimizer._optimizer_step_post_hooks) == hooks
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    train(net, optimizer, 2)
    assert monitor.steps == 2 and monitor.times.tolist() == [0, 1, 2]
    monitor.close()
    loose = SparsityMonitor(net, every=1)
    loose.close()
    loose.step()
    assert loose.steps == 0


def test_nothing_of_a_batch_stays() -> None:
    net = make_net()
    monitor = SparsityMonitor(net, every=1, activations=True)
    kept: list[weakref.ref[Tensor]] = []
    net.bn1.register_forward_hook(lambda m, given, y: kept.append(weakref.ref(y)))
    net.fc.register_forward_hook(lambda m, given, y: kept.append(weakref.ref(y)))
    output = net(batch(0)[0])
    monitor.step()
    del output
    gc.collect()
    assert len(kept) == 2 and all(each() is None for each in kept)


def test_in_words() -> None:
    net = make_net()
    monitor = SparsityMonitor(net, every=10)
    lines = repr(monitor).splitlines()
    assert lines[0] == (
        "SparsityMonitor(Net: 3 batch normalisations, 21 filters; every 10 steps, 1 record, "
        "the last at step 0)"
    )
    assert lines[1] == "  |gamma| < 0.001: 14.3% of the filters (14.3% at step 0)"
    assert lines[2].startswith("  practically never fire: ")
    assert lines[3] == "  most dead: bn1 33.3%, bn3 11.1%"
    assert len(lines) == 4


def test_pictures() -> None:
    net = make_net()
    monitor = SparsityMonitor(net, every=1)
    for step in range(4):
        with torch.no_grad():
            net.bn2.weight.mul_(0.5)
            if step == 3:
                net.bn3.weight[2] = math.nan
        monitor.step()
    figure = monitor.plot()
    assert [ax.get_title(loc="left") for ax in figure.axes][::2] == [f"layer {name}" for name in NORMS]
    labels = {ax.get_ylabel() for ax in figure.axes}
    assert labels == {r"scale $\gamma$", r"shift $\beta$"}
    assert figure.axes[-1].get_xlabel() == "step"
    drawn = figure.axes[2].collections[0].get_paths()  # type: ignore[attr-defined]
    gamma = monitor.to_xarray().gamma_bn2.values
    alive = np.abs(gamma[-1]) >= 1e-3
    assert len(drawn) == alive.sum()
    np.testing.assert_array_equal(np.array([p.vertices[:, 1] for p in drawn]).T, gamma[:, alive])
    (one,) = {ax.get_title(loc="left") for ax in monitor.plot("bn3").axes} - {""}
    assert one == "layer bn3"
    with pytest.raises(InvalidParameter, match="names must be one of bn1, bn2, bn3"):
        monitor.plot("bn4")
    with pytest.raises(InvalidParameter, match="names must be at most 3 layers"):
        monitor.plot("bn1", "bn1", "bn2", "bn3")


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(model=3), "model must be a torch.nn.Module, got int"),
        (
            dict(model=nn.Linear(2, 2)),
            "model must be a network with batch normalisation that has gamma",
        ),
        (dict(model=nn.BatchNorm1d(2, affine=False)), "model must be a network with batch norm"),
        (dict(model=nn.LazyBatchNorm1d()), "model must be one whose lazy layers have seen a batch"),
        (dict(model=nn.BatchNorm1d(2, device="meta")), "model must be on a device with memory"),
        (dict(optimizer="adam"), r"optimizer must be a torch.optim.Optimizer, got str"),
        (dict(every=0), r"every must be an integer in \[1, .*got 0"),
        (dict(every=2.5), r"every must be an integer in \[1, .*got 2.5"),
        (dict(keep=1), r"keep must be an integer in \[2, .*got 1"),
        (dict(slope=math.inf), r"slope must be in \(-inf, inf\), got inf"),
    ],
    ids=str,
)
def test_bad_input(given: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"model": nn.BatchNorm1d(2)} | given
    with pytest.raises(InvalidParameter, match=message) as caught:
        SparsityMonitor(**settings)
    assert "\n" not in str(caught.value)


def test_counting_twice() -> None:
    net = make_net()
    monitor = SparsityMonitor(net, make_adam(net))
    with pytest.raises(InvalidParameter, match="optimizer must be None where step is called"):
        monitor.step()

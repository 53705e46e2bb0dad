"""The activation after each batch normalisation, against the same network written out by hand."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regdyn.cnn.psbn import to_psbn
from regdyn.doctor.activations import batch_norms, watch_activations
from regdyn.errors import InvalidParameter


class Watched:
    """Copies of the activations that were shown, by name."""

    def __init__(self) -> None:
        self.shown: dict[str, list[Tensor]] = {}

    def __call__(self, name: str, activation: Tensor) -> None:
        assert not torch.is_grad_enabled() and not activation.requires_grad
        self.shown.setdefault(name, []).append(activation.clone())


class BasicBlock(nn.Module):
    """As in torchvision: one module of ReLU, in place, for both sums and normalisations."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1, functional: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
            if stride > 1
            else None
        )
        self.functional = functional

    def forward(self, x: Tensor) -> Tensor:
        if self.functional:
            out = F.relu(self.bn1(self.conv1(x)))
            shortcut = x if self.downsample is None else self.downsample(x)
            return F.relu(self.bn2(self.conv2(out)) + shortcut)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)  # type: ignore[no-any-return]


class DenseLayer(nn.Module):
    """Normalised before the convolution, as in DenseNet, the result put beside the input."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(n_in)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(n_in, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv1(self.relu1(self.norm1(x)))], 1)


class NormAct(nn.BatchNorm2d):
    """With its activation inside, as timm has it."""

    def forward(self, x: Tensor) -> Tensor:
        normalized = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training,
            self.momentum or 0.0, self.eps,
        )  # fmt: skip
        return F.relu(normalized, inplace=True)


class Written(nn.Module):
    """One normalisation, and after it what is given."""

    def __init__(self, after: Callable[[Tensor], Tensor], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3) if norm is None else norm
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.bn(x))


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def images(channels: int = 3, samples: int = 5, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, channels, size, size, generator=generator)


def watched(model: nn.Module, *inputs: Tensor) -> tuple[dict[str, list[Tensor]], dict[str, str | None]]:
    look = Watched()
    with watch_activations(model, look) as found:
        model(*inputs)
    return look.shown, dict(found)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("functional", [True, False])
def test_residual_blocks(functional: bool, training: bool) -> None:
    model = nn.Sequential(BasicBlock(3, 4, 2, functional), BasicBlock(4, 4, 1, functional))
    randomized(model).train(training)
    x = images()
    shown, found = watched(model, x)
    # Sums have no activation of their own: neither the last of a block nor that of the shortcut.
    assert found == {
        "0.bn1": "relu", "0.bn2": None, "0.downsample.1": None, "1.bn1": "relu", "1.bn2": None,
    }  # fmt: skip
    assert shown.keys() == {"0.bn1", "1.bn1"}
    first: Any = model[0]
    (activation,) = shown["0.bn1"]
    torch.testing.assert_close(activation, first.bn1(first.conv1(x)).clamp(min=0), rtol=0, atol=0)


def test_a_dense_layer() -> None:
    model = randomized(nn.Sequential(DenseLayer(3), DenseLayer(7), nn.BatchNorm2d(11), nn.ReLU()))
    x = images()
    shown, found = watched(model.eval(), x)
    assert found == {"0.norm1": "relu", "1.norm1": "relu", "2": "relu"}
    layer: Any = model[1]
    expected = layer.norm1(model[0](x)).relu()
    torch.testing.assert_close(shown["1.norm1"][0], expected, rtol=0, atol=0)


RELUS: list[Callable[[Tensor], Tensor]] = [
    F.relu, F.relu_, torch.relu, torch.relu_, lambda x: x.relu(), lambda x: x.relu_(), nn.ReLU(),
    nn.ReLU(inplace=True), lambda x: F.relu(input=x), lambda x: x.clamp(min=0), lambda x: x.clamp_(0),
    lambda x: torch.clamp_min(x, 0), nn.Threshold(0.0, 0.0), nn.Sequential(nn.Identity(), nn.ReLU()),
    lambda x: F.relu(x.contiguous(memory_format=torch.channels_last)), lambda x: F.relu(x.float()),
    lambda x: F.relu(x.clone()), nn.Sequential(nn.Dropout(0.0), nn.ReLU()),
    lambda x: (print(x.shape, x.size(0), x.mean()), F.relu(x))[1],
]  # fmt: skip


@pytest.mark.parametrize("after", RELUS, ids=range(len(RELUS)))
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_however_it_is_written(after: Callable[[Tensor], Tensor], mode: Any) -> None:
    model, x = randomized(Written(after)), images()
    with mode():
        shown, found = watched(model, x)
        expected = model.bn(x).clamp(min=0)  # type: ignore[operator]
    assert found["bn"] in ("relu", "clamp", "clamp_min", "threshold")
    (activation,) = shown["bn"]
    torch.testing.assert_close(activation, expected, rtol=0, atol=0)


MODULES: list[nn.Module] = [
    nn.ReLU6(), nn.Hardtanh(), nn.LeakyReLU(0.1), nn.ELU(), nn.SELU(), nn.CELU(), nn.SiLU(), nn.GELU(),
    nn.Hardswish(), nn.Hardsigmoid(), nn.Tanh(), nn.Sigmoid(), nn.Mish(), nn.Softplus(), nn.PReLU(),
    nn.Softsign(), nn.LogSigmoid(),
]  # fmt: skip


@pytest.mark.parametrize("activation", MODULES, ids=lambda module: type(module).__name__)
def test_other_activations(activation: nn.Module) -> None:
    model, x = Written(activation, randomized(nn.BatchNorm2d(3))), images()
    shown, _ = watched(model, x)
    torch.testing.assert_close(shown["bn"][0], model(x), rtol=0, atol=0)


NONE: list[Callable[[Tensor], Tensor]] = [
    lambda x: F.relu(x + 1), lambda x: x.add_(1).relu_(), lambda x: F.relu(torch.cat([x, x], 1)),
    lambda x: F.relu(x.transpose(1, 2)), lambda x: F.relu(2 * x), nn.Conv2d(3, 3, 1), F.softmax,
    nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU()), nn.Identity(),
    lambda x: F.relu(torch.add(x, 1, out=x)), lambda x: (x.__setitem__(0, 0.0), F.relu(x))[1],
]  # fmt: skip


@pytest.mark.parametrize("after", NONE, ids=range(len(NONE)))
@pytest.mark.filterwarnings("ignore:Implicit dimension choice for softmax")
def test_no_activation_of_its_own(after: Callable[[Tensor], Tensor]) -> None:
    model = randomized(Written(after))
    with torch.no_grad():
        shown, found = watched(model, images())
    assert found["bn"] is None and "bn" not in shown


def test_pooled_before_the_activation() -> None:
    for pool in (nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.MaxPool2d(2, 2, 1)):
        model, x = randomized(Written(nn.Sequential(pool, nn.ReLU()))), images()
        shown, _ = watched(model, x)
        torch.testing.assert_close(shown["bn"][0], model(x), rtol=0, atol=0)
    indices = Written(lambda y: F.relu(F.max_pool2d(y, 2, return_indices=True)[0]))
    assert watched(randomized(indices), images())[1] == {"bn": "relu"}
    flat = Written(lambda y: F.relu(F.adaptive_avg_pool2d(y, 1).flatten(1)))
    assert watched(randomized(flat), images())[0]["bn"][0].shape == (5, 3)


def test_kinds_of_normalisation() -> None:
    mlp = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(2))
    expected = randomized(mlp)[:3](x)  # type: ignore[index]
    torch.testing.assert_close(watched(mlp, x)[0]["1"][0], expected, rtol=0, atol=0)
    volumes = torch.randn(2, 3, 2, 3, 4)
    for norm in (nn.BatchNorm3d(3), nn.BatchNorm3d(3, affine=False), nn.SyncBatchNorm(3)):
        model = Written(F.relu, norm).eval()
        torch.testing.assert_close(watched(model, volumes)[0]["bn"][0], model(volumes))
    # psBN is another parametrisation of the same function, so alpha is in what is shown.
    plain = randomized(Written(F.relu)).eval()
    before = watched(plain, images())[0]["bn"][0]
    assert to_psbn(plain, 0.3) == 1
    torch.testing.assert_close(watched(plain, images())[0]["bn"][0], before)
    assert not watched(Written(F.relu, nn.InstanceNorm2d(3)), images())[1]


def test_an_activation_inside_the_layer() -> None:
    model, x = randomized(Written(nn.Sequential(nn.Sigmoid(), nn.ReLU()), NormAct(3))), images()
    shown, found = watched(model, x)
    assert found == {"bn": "relu"}
    torch.testing.assert_close(shown["bn"], [model.bn(x)], rtol=0, atol=0)  # type: ignore[operator]


def test_layers_that_run_more_than_once() -> None:
    shared = nn.BatchNorm2d(3)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Sigmoid())
    x = images()
    shown, _ = watched(randomized(model), x)
    first = shared(x).relu()
    torch.testing.assert_close(shown["0"], [first, shared(first).sigmoid()])
    look = Watched()
    with watch_activations(model, look):
        model(x)
        model.eval()
        model(x)
    assert len(look.shown["0"]) == 4


def test_any_submodule_is_an_entrance() -> None:
    model = nn.ModuleDict({"body": BasicBlock(3, 3), "other": nn.Linear(2, 2)})
    look = Watched()
    with watch_activations(model, look) as found:
        model["other"](torch.ones(2, 2))
        assert not found
        model["body"](images())
    assert found == {"body.bn1": "relu", "body.bn2": None}


def state(model: nn.Module, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    model(x).square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [each.clone() for each in (*gradients, *model.buffers())]


@pytest.mark.parametrize("functional", [True, False])
def test_the_training_is_the_same_bit_for_bit(functional: bool) -> None:
    plain, model = (randomized(BasicBlock(3, 4, 2, functional)) for _ in range(2))
    x = images()
    expected = state(plain, x)
    with watch_activations(model, lambda name, activation: None):
        got = state(model, x)
    assert len(got) == len(expected) > 9 and all(map(torch.equal, got, expected))


def test_nothing_is_left_behind() -> None:
    model = randomized(BasicBlock(3, 3))
    watched(model, images())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.overrides._len_torch_function_stack() == 0  # type: ignore[attr-defined]


def test_copies_made_meanwhile_are_not_watched() -> None:
    model, look = randomized(BasicBlock(3, 3)), Watched()
    with watch_activations(model, look):
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        for each in copies:
            torch.testing.assert_close(each(images()), model.train()(images()))
    assert len(look.shown["bn1"]) == 2


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
def test_errors_pass_through(error: type[BaseException]) -> None:
    def fail(x: Tensor) -> Tensor:
        raise error("from within")

    model, look = nn.Sequential(Written(nn.ReLU()), Written(fail)), Watched()
    with pytest.raises(error, match="from within"), watch_activations(model, look):
        model(images())
    assert torch.overrides._len_torch_function_stack() == 0  # type: ignore[attr-defined]
    assert list(look.shown) == ["0.bn"]
    # One that the model catches itself ends the layer it was in, not the watch.
    model[1].after = lambda x: F.relu(x)  # type: ignore[assignment]
    with watch_activations(model, look) as found:
        with pytest.raises(ValueError, match="expected 4D"):
            model(torch.ones(2, 2))
        model(images())
    assert found == {"0.bn": "relu", "1.bn": "relu"}


def test_what_looks_may_raise() -> None:
    def refuse(name: str, activation: Tensor) -> None:
        raise FloatingPointError(name)

    model = Written(F.relu)
    with pytest.raises(FloatingPointError, match="bn"), watch_activations(model, refuse):
        model(images())
    assert torch.overrides._len_torch_function_stack() == 0  # type: ignore[attr-defined]


def test_threads_as_those_of_data_parallel() -> None:
    model, look = randomized(BasicBlock(3, 3)).eval(), Watched()
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for _ in range(5):
            model(images())

    with watch_activations(model, look) as found:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {"bn1": "relu", "bn2": None}
    assert len(look.shown["bn1"]) == 20
    assert all(torch.equal(each, look.shown["bn1"][0]) for each in look.shown["bn1"])


def test_autocast() -> None:
    model = randomized(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    with torch.autocast("cpu", torch.bfloat16):
        shown, _ = watched(model, images())
        torch.testing.assert_close(shown["1"][0], model(images()), rtol=0, atol=0)


def test_names_without_wrappers() -> None:
    model = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), nn.BatchNorm2d(3))
    averaged = torch.optim.swa_utils.AveragedModel(model)
    compiled: Any = torch.compile(model, backend="eager")
    inside: Any = nn.Sequential(torch.compile(nn.Sequential(nn.BatchNorm2d(3)), backend="eager"))
    for wrapper in (model, nn.DataParallel(model), averaged, compiled, nn.DataParallel(compiled)):
        assert list(batch_norms(wrapper)) == ["0.0", "1"]
    assert list(batch_norms(inside)) == ["0.0"]
    # A module that a user calls so is none of torch's.
    assert list(batch_norms(nn.ModuleDict({"module": model}))) == ["module.0.0", "module.1"]
    assert watched(nn.DataParallel(model), images())[1] == {"0.0": "relu", "1": None}
    with pytest.raises(InvalidParameter, match=r"not compiled .* got OptimizedModule"):
        watched(nn.DataParallel(compiled), images())
    model.compile(backend="eager")
    with pytest.raises(InvalidParameter, match=r"not compiled .* got Sequential"):
        watched(model, images())
    with pytest.raises(InvalidParameter, match=r"model must be a torch.nn.Module, got int"):
        watched(3, images())  # type: ignore[arg-type]

"""What the filters of any model do on images, against hooks written for each model by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import ZOO, Apart, ResNet, Unnormalized, randomized

from regdyn.cnn import CnnConfig, Images, train
from regdyn.cnn.images import prepare_images
from regdyn.doctor import inspect, load_tensors, measure, network_of
from regdyn.doctor.tensors import SavedTensors
from regdyn.errors import InvalidParameter
from regdyn.nets import sparsity


def some_images(channels: int = 3, size: int = 8, classes: int = 4) -> Images:
    generator = np.random.default_rng(5)
    x = generator.integers(0, 256, (60, size, size, channels)).astype(np.uint8)
    y = np.arange(60) % classes
    return prepare_images("some", x[:40], y[:40], x[40:], y[40:])


def saved(model: nn.Module, prefix: str = "") -> SavedTensors:
    tensors = {prefix + name: value for name, value in model.state_dict().items()}
    return SavedTensors(Path("m.pt"), tensors)


def as_seen(images: Images, stored: NDArray) -> Tensor:
    """Images as the network gets them, worked out anew."""
    x = stored.astype(float)
    x = (x - images.x_train.astype(float).mean((0, 1, 2))) / images.x_train.astype(float).std((0, 1, 2))
    return torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32)


def by_hand(model: nn.Module, x: Tensor, after: dict[str, Any]) -> dict[str, NDArray]:
    """Unit-major activations of the batch normalisations in `after`, which says what each is."""
    kept: dict[str, NDArray] = {}
    hooks = []
    for name, activation in after.items():

        def keep(
            module: nn.Module, given: object, y: Tensor, name: str = name, f: Any = activation
        ) -> None:
            kept[name] = f(y.clone()).transpose(0, 1).numpy()

        hooks.append(model.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return kept


def inside(y: Tensor) -> Tensor:
    return y


AFTER: dict[str, dict[str, Any]] = {
    "torchvision resnet": dict.fromkeys(
        ("bn1", "layer1.0.bn1", "layer1.1.bn1", "layer2.0.bn1"), F.relu
    ),
    "torchvision vgg_bn": dict.fromkeys(("features.1", "features.5"), F.relu),
    "torchvision mobilenet_v2": dict.fromkeys(
        ("features.0.1", "features.1.conv.0.1", "features.2.conv.0.1", "features.2.conv.1.1",
         "features.3.1"), F.relu6,
    ),
    "torchvision densenet": dict.fromkeys(
        ("features.norm0", "features.norm5",
         *(f"features.denseblock1.denselayer{i}.norm{k}" for i in (1, 2, 3) for k in (1, 2))), F.relu,
    ),
    "timm efficientnet": dict.fromkeys(
        ("bn1", "blocks.0.0.bn1", "blocks.1.0.bn1", "blocks.1.0.bn2", "bn2"), inside
    ),
    "timm regnet": dict.fromkeys(("stem.bn", "s1.0.bn", "s1.1.bn"), inside),
    "pre-activated": dict.fromkeys(("bn1", "bn2"), F.relu),
    "parts apart": dict.fromkeys(("bn1", "bn2"), F.relu),
}  # fmt: skip
"""The activation after each normalisation that has one, given the output of its module."""


@pytest.mark.parametrize("name", ZOO)
def test_against_hooks(name: str) -> None:
    images, model = some_images(), randomized(ZOO[name]())
    found = inspect(model.state_dict(), measured=measure(ZOO[name](), saved(model), images))
    assert found.measured is not None
    x = as_seen(images, images.x_train)
    expected = by_hand(model, x, AFTER[name])
    assert set(found.measured.activations) == set(expected)
    functions = found.measured.functions
    assert {n for n, function in functions.items() if function is not None} == set(expected)
    assert set(functions) == {layer.name for layer in found.layers}
    data = found.to_xarray()
    for layer in found.layers:
        measures = layer.sparsity
        assert measures is not None
        if layer.name not in expected:
            assert (measures.universality, measures.by_activation) == (None, None)
            continue
        maps = expected[layer.name]
        pooled = np.abs(maps).max(axis=(2, 3))
        rows = data.isel(filter=(data["layer"] == layer.name).values)
        np.testing.assert_allclose(rows["peak"], pooled.max(axis=1), rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(rows["active_share"], (maps > 0).mean(axis=(1, 2, 3)), atol=1e-3)
        universal = (pooled > 1e-3 * pooled.max(axis=1, keepdims=True)).mean(axis=1)
        np.testing.assert_allclose(rows["universality"], universal, atol=1e-3)
        np.testing.assert_allclose(rows["selectivity"], 1 - universal, atol=1e-3)
        assert measures.universality == pytest.approx(universal.mean(), abs=1e-3)
        assert measures.by_activation is not None
        assert measures.by_activation[1e-12] == pytest.approx((pooled.max(axis=1) <= 1e-12).mean())
    with torch.no_grad():
        for part in ("train", "test"):
            labels = torch.tensor(getattr(images, f"y_{part}"))
            outputs = model(as_seen(images, getattr(images, f"x_{part}"))).argmax(1)
            wrong = float((outputs != labels).double().mean())
            assert getattr(found.measured, f"{part}_error") == pytest.approx(wrong)


def test_the_total_is_over_what_was_measured() -> None:
    images, model = some_images(), randomized(ResNet())
    found = inspect(model.state_dict(), measured=measure(ResNet(), saved(model), images))
    seen = [x.sparsity for x in found.layers if x.sparsity and x.sparsity.universality is not None]
    assert found.total is not None and found.measured_total == sparsity.total(seen)
    assert found.total.universality == found.measured_total.universality  # type: ignore[union-attr]
    assert found.total.by_scale == inspect(model.state_dict()).total.by_scale  # type: ignore[union-attr]
    assert "Without an activation of their own, as where a sum follows: layer1.0.bn2" in " ".join(
        found.remarks()
    )


def test_names_of_the_file_are_kept() -> None:
    images, model = some_images(), randomized(Apart())
    seen = measure(Apart(), saved(model, "net."), images)
    assert set(seen.activations) == {"net.bn1", "net.bn2"}
    assert seen.functions == {"net.bn1": "relu", "net.bn2": "clamp"}


def test_images_as_they_are() -> None:
    images, model = some_images(), randomized(Apart())
    seen = measure(Apart(), saved(model), images, normalize=False)
    x = torch.tensor(images.x_train.transpose(0, 3, 1, 2), dtype=torch.float32)
    maps = by_hand(model, x, {"bn1": torch.relu})["bn1"]
    np.testing.assert_allclose(seen.activations["bn1"].peak, maps.max(axis=(1, 2, 3)), rtol=1e-5)


def test_double_precision_and_progress() -> None:
    images, model = some_images(), randomized(Apart()).double()
    told: list[int] = []
    measure(Apart().double(), saved(model), images, progress=told.append)
    assert sum(told) == 60


def test_a_checkpoint_of_regdyn(tmp_path: Path) -> None:
    config = CnnConfig(model="mlp:width=12,depth=2", steps=3, batch=20, alpha=0.05, times=[3])
    (result,) = train([config], threads=1, checkpoint=tmp_path)
    tensors = load_tensors(tmp_path)
    model = network_of(tensors)
    assert model is not None
    seen = measure(model, tensors, result.config.images)
    for layer, wanted in zip(result.layers, result.last.activations):
        assert wanted is not None
        own = seen.activations[layer.name.replace(" ", "") + ".norm"]
        np.testing.assert_allclose(own.peak, wanted.peak, rtol=1e-5)
        np.testing.assert_allclose(own.universality, wanted.universality, atol=1e-3)
        np.testing.assert_allclose(own.active_share, wanted.active_share, atol=1e-3)
    assert (seen.train_error, seen.test_error) == (result.train_error, result.error)


class Other(Apart):
    """Outputs that are no classes, or not those of the images."""

    def __init__(self, outputs: int | None) -> None:
        super().__init__()
        self.fc = nn.Linear(8, outputs or 3)
        self.nested = outputs is None

    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return {"y": y} if self.nested else y


@pytest.mark.parametrize("outputs", [7, None])
def test_labels_that_do_not_fit(outputs: int | None) -> None:
    model = Other(outputs)
    seen = measure(model, saved(model), some_images())
    assert (seen.train_error, seen.test_error) == (None, None) and len(seen.activations) == 2
    assert "error" not in seen.words()


def test_activations_that_are_not_finite() -> None:
    model = randomized(Apart())
    with torch.no_grad():
        model.conv2.weight[0] = float("inf")  # type: ignore[operator, index]
    found = inspect(model.state_dict(), measured=measure(Apart(), saved(model), some_images()))
    assert found.measured is not None and found.measured.not_finite == ("bn2",)
    assert set(found.measured.activations) == {"bn1"}
    assert "Activations are not finite in bn2." in found.remarks()


def test_a_network_without_batch_normalisation() -> None:
    model = randomized(Unnormalized())
    seen = measure(Unnormalized(), saved(model), some_images())
    assert seen.activations == {} and seen.test_error is not None


@pytest.mark.parametrize(
    "images, message",
    [
        (some_images(channels=1), r"data must be images that the network takes, got some: 40 training"),
        (some_images(size=1), r"data must be images that the network takes.*RuntimeError"),
    ],
)
def test_images_that_do_not_fit(images: Images, message: str) -> None:
    model = ZOO["torchvision vgg_bn"]()
    with pytest.raises(InvalidParameter, match=message):
        measure(model, saved(model), images)


def test_tensors_that_do_not_fit() -> None:
    with pytest.raises(InvalidParameter, match="model must be the network whose tensors"):
        measure(Apart(), saved(ResNet()), some_images())


def test_the_model_is_left_in_its_mode() -> None:
    model = randomized(Apart()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, saved(model), some_images())
    assert model.training and not any(m._forward_hooks for m in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_device_that_is_not_here() -> None:
    with pytest.raises(InvalidParameter, match="device must be"):
        measure(Apart(), saved(Apart()), some_images(), device="tpu")

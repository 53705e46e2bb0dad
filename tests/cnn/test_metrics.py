"""What is measured on the device against the NumPy definitions on the same arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from regdyn.cnn import metrics
from regdyn.cnn.models import Network, Setting, initialize, make_model, trace_shapes
from regdyn.nets import sparsity

SAMPLES, CLASSES = 24, 5


def network(text: str, size: int = 8, **changes: object) -> Network:
    """With parameters at random, so that none is where a mistake would not show."""
    given = dict(channels=2, size=(size, size), n_classes=CLASSES)
    model = make_model(text, Setting(**given | changes)).double()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(3)
    initialize(model, "xavier", 1.0, 0.0, generator)
    with torch.no_grad():
        for layer in model.layers:
            norm, module = model.norm_of(layer), model.weights_of(layer)
            for parameter in (module.bias,) if norm is None else (norm.weight, norm.bias):
                assert parameter is not None
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def data(size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(SAMPLES, 2, size, size, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (SAMPLES,), generator=generator)


def parts(x: Tensor, y: Tensor, size: int = 7) -> Iterator[tuple[Tensor, Tensor]]:
    for begin in range(0, len(y), size):
        yield x[begin : begin + size], y[begin : begin + size]


def activations_of(model: Network, x: Tensor) -> dict[str, NDArray]:
    """Unit-major activations of every layer that counts."""
    kept = {}
    for layer in metrics.counted(model):
        if layer.activation is not None:
            module = model.get_submodule(layer.activation)

            def keep(module: object, given: object, y: Tensor, name: str = layer.name) -> None:
                kept[name] = y.detach().transpose(0, 1).numpy()

            module.register_forward_hook(keep)
    with torch.no_grad():
        model.eval()(x)
    return kept


@pytest.mark.parametrize("text", ["basicnet:width=0.25", "mlp:width=20,depth=2", "resnet20"])
def test_activations(text: str) -> None:
    x, y = data()
    model = network(text)
    measured, error = metrics.measure_activations(model, parts(x, y))
    expected = activations_of(model, x)
    assert any(a is not None for a in measured)
    for layer, activations in zip(metrics.counted(model), measured):
        if layer.activation is None:
            assert activations is None
            continue
        maps = expected[layer.name]
        assert activations is not None
        pooled = sparsity.pooled_activations(maps)
        np.testing.assert_allclose(activations.peak, sparsity.peak_activation(maps), rtol=1e-12)
        np.testing.assert_array_equal(activations.universality, sparsity.universality(pooled))
        rest = tuple(range(1, maps.ndim))
        np.testing.assert_allclose(activations.active_share, (maps > 0).mean(axis=rest), rtol=1e-12)
    wrong = (model.eval()(x).argmax(1) != y).double().mean().item()
    assert error == pytest.approx(wrong) and 0 < wrong < 1


def test_the_model_is_left_as_it_was() -> None:
    x, y = data()
    model = network("basicnet:width=0.25").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    metrics.measure_activations(model, parts(x, y))
    with metrics.zeroed(model, metrics.inactive(model, 0.5)):
        pass
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_probabilities() -> None:
    x, y = data()
    model = network("mlp:width=20")
    probabilities, labels = metrics.class_probabilities(model, parts(x, y))
    np.testing.assert_array_equal(labels, y.numpy())
    expected = F.softmax(model.eval()(x), 1).detach().numpy()
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_inactive_units(norm: str) -> None:
    model = network("basicnet:width=0.25", norm=norm)
    layer = model.layers[2]
    gamma, _ = metrics.scale_and_shift(model, layer)
    values = model.weights_of(layer).weight if gamma is None else gamma
    with torch.no_grad():
        values[[1, 5]] *= 1e-6
    masks = metrics.inactive(model, 1e-3)
    assert len(masks) == 7
    assert [np.flatnonzero(mask).tolist() for mask in masks] == [[], [], [1, 5], [], [], [], []]


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_zeroing(norm: str) -> None:
    """While it lasts, the marked units are constant: gamma at 0, or the weights."""
    x, _ = data()
    model = network("basicnet:width=0.25", norm=norm).eval()
    marked = [np.zeros(layer, bool) for layer in (32, 32, 32, 64, 64, 128, 128)]
    marked[3][[0, 7]] = True
    plain = model(x)
    with metrics.zeroed(model, marked):
        maps = activations_of(model, x)["C4"]
        assert not torch.allclose(model(x), plain)
    others = np.setdiff1d(np.arange(64), (0, 7))
    beta = metrics.scale_and_shift(model, model.layers[3])[1].detach().numpy()[[0, 7], None]
    assert np.ptp(maps[[0, 7]], axis=(1, 2, 3)).max() < 1e-12
    constants = maps[[0, 7]].max(axis=(2, 3))
    np.testing.assert_allclose(constants, np.broadcast_to(np.maximum(beta, 0), constants.shape))
    np.testing.assert_array_equal(maps[others], activations_of(model, x)["C4"][others])
    assert torch.equal(model(x), plain)


def test_a_layer_keeps_its_strongest_unit() -> None:
    model = network("basicnet:width=0.25")
    marked = list(metrics.inactive(model, 1e-9))
    marked[1][:] = True
    gamma, _ = metrics.scale_and_shift(model, model.layers[1])
    assert gamma is not None
    strongest = int(gamma.abs().argmax())
    going = metrics.removable(model, marked)
    assert np.flatnonzero(~going[1]).tolist() == [strongest]


# What goes with dead units


def rebuilt_parameters(keep: tuple[int, ...], n_in: int) -> int:
    """Parameters of a chain of convolutions with so many filters, and its head, counted by hand."""
    total, below = 0, n_in
    for i, filters in enumerate(keep):
        kernel = 25 if i == 0 else 9
        total += filters * (below * kernel + 2)
        below = filters
    return total + 256 * (below + 2) + CLASSES * (256 + 1)


def test_share_of_a_chain() -> None:
    model = network("basicnet:width=0.25")
    filters = (32, 32, 32, 64, 64, 128, 128)
    gone = (3, 0, 32 - 1, 10, 0, 100, 7)
    marked = [np.arange(n) < g for n, g in zip(filters, gone)]
    removed = metrics.share_removed(model.layers, trace_shapes(model), marked)
    keep = tuple(n - g for n, g in zip(filters, gone))
    before = rebuilt_parameters(filters, 2)
    assert before == sum(p.numel() for p in model.parameters())
    assert removed.parameters == pytest.approx(1 - rebuilt_parameters(keep, 2) / before)
    kernels, maps = (25, *[9] * 6), (64, 16, 16, 4, 4, 1, 1)

    def sums(n: tuple[int, ...]) -> tuple[int, int]:
        edges = [a * b * k for a, b, k in zip((2, *n), n, kernels)]
        head = n[-1] * 256 + 256 * CLASSES
        return sum(edges), sum(e * m for e, m in zip(edges, maps)) + head

    for share, old, new in zip((removed.convolutions, removed.flops), sums(filters), sums(keep)):
        assert share == pytest.approx(1 - new / old)
    # Negative control: one more unit takes more.
    marked[4][0] = True
    more = metrics.share_removed(model.layers, trace_shapes(model), marked)
    assert more.parameters > removed.parameters and more.flops > removed.flops


def test_share_agrees_with_the_numpy_network() -> None:
    """On dense layers, where `sparsity.share_removed` counts the same."""
    model = network("mlp:width=20,depth=2")
    marked = [np.arange(20) < 5, np.arange(20) < 11]
    removed = metrics.share_removed(model.layers, trace_shapes(model), marked)
    sizes = (2 * 8 * 8, 20, 20, CLASSES)
    assert removed.parameters == pytest.approx(sparsity.share_removed(sizes, marked))


def test_a_residual_stream_keeps_its_channels() -> None:
    """A filter that adds to the stream goes, but what reads the stream stays as wide."""
    model = network("resnet20")
    shapes = trace_shapes(model)
    inner = next(i for i, layer in enumerate(model.layers) if layer.source is not None)
    counted = [i for i, layer in enumerate(model.layers) if layer.counted]

    def removed(at: int, units: int) -> float:
        marked = [np.zeros(shapes[i].n_out, bool) for i in counted]
        marked[counted.index(at)][:units] = True
        total = sum(p.numel() for p in model.parameters())
        return metrics.share_removed(model.layers, shapes, marked).parameters * total

    # The second convolution of a block, fed by the first alone, ends the branch.
    assert model.layers[inner].activation is None and model.layers[inner - 1].activation is not None
    assert removed(inner, 3) == pytest.approx(3 * (16 * 9 + 2))
    assert removed(inner - 1, 3) == pytest.approx(3 * (16 * 9 + 2) + 3 * 16 * 9)

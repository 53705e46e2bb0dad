"""What an inspection says of a file against the model itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from safetensors.torch import save_file
from scipy.stats import norm as normal
from torch import Tensor, nn
from zoo import ZOO, Unnormalized, randomized

from regdyn.cnn import CnnConfig, Setting, make_model, to_psbn, train
from regdyn.cnn._run import Run, make_store
from regdyn.cnn.result import CnnResult
from regdyn.doctor import Inspection, inspect
from regdyn.doctor.gradient_noise import noise_from_moments
from regdyn.doctor.sparkline import decade_counts, sparkline
from regdyn.errors import InvalidParameter


def own(text: str, **settings: Any) -> nn.Module:
    setting = Setting(channels=3, size=(16, 16), n_classes=4, **settings)
    return randomized(make_model(text, setting))


MODELS = {
    **{name: lambda make=make: randomized(make()) for name, make in ZOO.items()},
    "basicnet": lambda: own("basicnet:width=0.25"),
    "resnet20": lambda: own("resnet20"),
    "psBN": lambda: own("mlp:width=30,depth=2", alpha=0.1),
}


def check_against_model(found: Inspection, model: nn.Module, alpha: float = 0.0) -> None:
    """Every number of the report, worked out on the modules with torch and SciPy."""
    norms = {
        name: module for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }  # fmt: skip
    assert {layer.name for layer in found.layers} == set(norms)
    dead = {"by_decay": 0, "silent": 0, "both": 0, "constant": 0}
    for layer in found.layers:
        gamma = norms[layer.name].weight.detach().double().abs()
        beta = norms[layer.name].bias.detach().double() + alpha
        fires = torch.distributions.Normal(0.0, 1.0).cdf(beta / gamma)
        small, silent = gamma < 1e-3, fires < 1e-3
        dead["by_decay"] += int((small & ~silent).sum())
        dead["silent"] += int((silent & ~small).sum())
        dead["both"] += int((silent & small).sum())
        dead["constant"] += int((small & ~silent & (beta > 1e-3)).sum())
        measures = layer.sparsity
        assert layer.filters == len(gamma) and measures is not None and measures.by_scale is not None
        for limit in (1e-2, 1e-3, 1e-4):
            assert measures.by_scale[limit] == pytest.approx(float((gamma < limit).double().mean()))
        assert measures.active_predicted == pytest.approx(float(fires.mean()))
        np.testing.assert_array_equal(layer.silent, silent.numpy())
        np.testing.assert_array_equal(layer.small, small.numpy())
        # E ReLU(beta + gamma x) by quadrature over a normal x.
        x = np.linspace(-9, 9, 20001)
        y = np.maximum(beta.numpy()[:, None] + gamma.numpy()[:, None] * x, 0) * normal.pdf(x)
        expected = np.trapezoid(y, x).mean()
        assert measures.expected_activation == pytest.approx(expected, rel=1e-6)
        if layer.weights is not None:
            weights = model.get_submodule(layer.weights).weight.detach()
            np.testing.assert_allclose(layer.norms, weights.flatten(1).norm(dim=1), rtol=1e-5)
    assert vars(found.deaths) == dead
    everything = torch.cat([m.weight.detach().abs() for m in norms.values()])
    assert found.filters == len(everything)
    assert found.total is not None and found.total.by_scale is not None
    assert found.total.by_scale[1e-3] == pytest.approx(float((everything < 1e-3).double().mean()))
    np.testing.assert_array_equal(found.counts, decade_counts(everything.numpy(), 1e-3))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_against_the_model(name: str, form: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    path = tmp_path / f"m.{form}"
    if form == "pt":
        torch.save({"epoch": 3, "state_dict": model.state_dict()}, path)
    else:
        save_file(model.state_dict(), path)
    alpha = 0.1 if name == "psBN" else 0.0
    found = inspect(path, alpha=alpha)
    check_against_model(found, model, alpha)
    assert found.deaths.by_decay and found.deaths.both and found.deaths.silent
    assert found.not_finite == {} and found.sickness() == ""


def test_a_model_of_the_user_with_psbn() -> None:
    """Its outputs stay, so does its health: alpha moves beta."""
    model = randomized(ZOO["torchvision resnet"]())
    before = inspect(model.state_dict())
    to_psbn(model, 0.1)
    after = inspect(model.state_dict(), alpha=0.1)
    for a, b in zip(before.layers, after.layers):
        probabilities = [normal.cdf((x.beta + x.alpha) / np.abs(x.gamma)) for x in (a, b)]
        np.testing.assert_allclose(*probabilities, atol=2e-3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CnnResult]:
    folder = tmp_path_factory.mktemp("run")
    config = CnnConfig(
        model="basicnet:width=0.25", lam=1e-2, steps=20, batch=20, times=[20], alpha=0.05, gamma_lr=0.5,
        activation="leaky_relu", slope=0.1,
    )  # fmt: skip
    (result,) = train([config], threads=1, checkpoint=folder)
    return folder, result


def test_a_checkpoint_of_regdyn(trained: tuple[Path, CnnResult]) -> None:
    folder, result = trained
    found = inspect(folder)
    assert [layer.name for layer in found.layers] == [
        *(f"C{i}.norm" for i in range(1, 8)), "fc1.norm"
    ]  # fmt: skip
    assert [layer.weights for layer in found.layers] == [
        *(f"C{i}.conv" for i in range(1, 8)), "fc1.linear"
    ]  # fmt: skip
    for layer, wanted in zip(found.layers, result.layers):
        assert layer.sparsity is not None
        shown, same = layer.sparsity.to_dict(), wanted.to_dict()
        for name in ("by_scale", "by_norm", "active_predicted", "expected_activation"):
            assert shown[name] == same[name], name
    assert found.alpha == 0.05 and found.training is not None
    assert found.training.optimizer.lr == 0.5e-3 and found.training.slope == 0.1
    assert (found.training.lam, found.training.regularization) == (1e-2, "l2")
    assert found.training.constant and found.training.data == "digits"


def test_gradient_noise_of_a_checkpoint(tmp_path: Path) -> None:
    """Against what the optimizer itself keeps for each parameter."""
    config = CnnConfig(model="resnet20", lam=1e-2, steps=4, batch=8)
    run = Run(config, make_store(config), tmp_path)
    for _ in range(4):
        run.step()
    run.save()
    found = inspect(tmp_path)
    assert len(found.noise) == len(found.layers) == 19
    for layer in found.layers:
        gamma = run.model.get_parameter(f"{layer.name}.weight")
        state = run.optimizer.torch.state[gamma]
        np.testing.assert_allclose(
            found.noise[layer.name],
            noise_from_moments(state["exp_avg"].numpy(), state["exp_avg_sq"].numpy(), 4, 0.9, 0.99),
        )
    silent = [found.noise[layer.name][layer.silent] for layer in found.layers]
    every = np.concatenate([*silent] if sum(map(len, silent)) else [*found.noise.values()])
    assert found.usual_noise == float(np.median(every)) > 0


def test_other_rules_keep_no_moments(tmp_path: Path) -> None:
    train([CnnConfig(model="mlp:width=6", optimizer="sgd", steps=2, batch=20)], threads=1,
          checkpoint=tmp_path)  # fmt: skip
    found = inspect(tmp_path)
    assert found.noise == {} and found.usual_noise == 1e-5


def spoiled(**places: Any) -> dict[str, Tensor]:
    tensors = randomized(ZOO["torchvision vgg_bn"]()).state_dict()
    for name, (index, value) in places.items():
        tensors[name][index] = value
    return tensors


def test_numbers_that_are_not_finite_are_reported_and_left_out() -> None:
    tensors = spoiled(**{
        "features.1.weight": (2, float("nan")), "features.1.bias": (slice(2, 4), float("inf")),
        "features.4.weight": ((1, 0, 0, 0), -float("inf")), "classifier.0.bias": (0, float("nan")),
    })  # fmt: skip
    found = inspect(tensors)
    assert found.not_finite == {
        "features.1.weight": 1, "features.1.bias": 2, "features.4.weight": 1, "classifier.0.bias": 1,
    }  # fmt: skip
    first, second = found.layers
    assert first.finite.tolist() == [True, True, False, False, True, True]
    assert np.flatnonzero(~second.finite).tolist() == [1]
    # As if the others were all there is.
    sound = inspect({
        name: value[first.finite] if name.startswith(("features.0", "features.1.")) and value.ndim else
        value for name, value in spoiled().items()
    })  # fmt: skip
    assert first.sparsity == sound.layers[0].sparsity and first.deaths == sound.layers[0].deaths
    assert "NaN or infinity in features.1.weight (1), features.1.bias (2)" in found.sickness()
    assert "1 more" in found.sickness() and found.sickness() in repr(found)
    data = found.to_xarray()
    assert int(np.isnan(data["activation_probability"]).sum()) == 3
    assert int(np.isnan(data["small"]).sum()) == 3
    json.loads(json.dumps(found.to_dict(), allow_nan=False))


def test_a_layer_of_nothing_but_nan() -> None:
    found = inspect(spoiled(**{"features.1.weight": (slice(None), float("nan"))}))
    assert found.layers[0].sparsity is None and not found.layers[0].finite.any()
    assert found.total is not None and found.total.units == found.layers[1].filters
    everything = {
        name: torch.full_like(value, math.nan) if value.is_floating_point() else value
        for name, value in spoiled().items()
    }
    ruined = inspect(everything)
    assert ruined.total is None and ruined.deaths.dead == 0 and "features.1" in repr(ruined)
    json.loads(json.dumps(ruined.to_dict(), allow_nan=False))


def test_a_network_without_batch_normalisation() -> None:
    model = randomized(Unnormalized())
    with torch.no_grad():
        model.conv1.weight[:2] = 0  # type: ignore[operator, index]
        model.conv2.weight[0] *= 1e-5  # type: ignore[operator, index]
    found = inspect(model.state_dict())
    assert not found.normalized and [layer.name for layer in found.layers] == ["conv1", "conv2", "fc"]
    assert [layer.deaths.dead for layer in found.layers] == [2, 1, 0]
    assert [layer.to_dict()["exactly_zero"] for layer in found.layers] == [2, 0, 0]
    assert found.total is not None and found.total.by_norm == pytest.approx(3 / 15)
    assert found.why() == "3 of the 15 filters are dead: their weights have a norm < 0.001."
    assert any("There is no batch normalisation with a scale" in line for line in found.remarks())
    assert any(line.startswith("Not looked at: norm") for line in found.remarks())
    with pytest.raises(InvalidParameter, match="plot must be used with a network that has batch"):
        found.plot()
    with pytest.raises(InvalidParameter, match="steps must be used with a network that has batch"):
        found.look_ahead(steps=10)


def test_no_weights_at_all() -> None:
    with pytest.raises(InvalidParameter, match="file must be that of a network, with weights of two"):
        inspect({"a": torch.ones(3), "b": torch.ones(2, 2).long()})


@pytest.mark.parametrize("name, value", [("threshold", 0), ("threshold", "x"), ("alpha", -1)])
def test_parameters_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(InvalidParameter, match=name):
        inspect(spoiled(), **{name: value})


def one_layer(gamma: list[float], beta: list[float]) -> dict[str, Tensor]:
    n = len(gamma)
    scale, shift = (torch.tensor(values, dtype=torch.float64) for values in (gamma, beta))
    return {
        "bn.weight": scale, "bn.bias": shift,
        "bn.running_mean": torch.zeros(n), "bn.running_var": torch.ones(n),
    }  # fmt: skip


def test_causes_of_death() -> None:
    # Two alive, two by decay, one silent, one both, and gamma = 0 with a constant of 0.5 and of 0.
    gamma = [1.00, -0.002, 5e-4, -5e-4, 0.1, -5e-4, 0.0, 0.0]
    beta = [-3.00, -0.006, 1e-4, 2e-3, -0.32, -2e-3, 0.5, 0.0]
    found = inspect(one_layer(gamma, beta))
    assert vars(found.deaths) == {"by_decay": 3, "silent": 1, "both": 2, "constant": 2}
    assert found.deaths.dead == 6
    assert found.why() == (
        "6 of the 8 filters are dead: 3 by decay (|gamma| < 0.001, though they would fire), 1 because "
        "they practically never fire (beta too far below 0), 2 by both."
    )
    assert found.layers[0].to_dict()["exactly_zero"] == 2
    # alpha wakes all but the one whose gamma is large enough for its beta.
    assert inspect(one_layer(gamma, beta), alpha=0.009).deaths.silent == 1
    assert inspect(one_layer([1.0], [0.0])).why() == "None of the 1 filters is dead."


def test_distribution() -> None:
    values = [0, 1e-12, 1.2e-6, 9e-4, 1.0001e-3, 0.5, 2, 1e9]
    counts = decade_counts(values, 1e-3)
    assert counts.tolist() == [3, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1]
    assert sparkline(counts) == "█    ▃│▃    ▃▃▃"
    assert sparkline(np.zeros(14, int)) == "      │        "
    assert sparkline([0] * 13 + [1000]) == "      │       █"
    # A single one of many is still seen.
    assert sparkline([1] + [0] * 12 + [1000]) == "▁     │       █"
    assert decade_counts([0.4, 0.6, 6.0], 0.5).tolist() == [0] * 5 + [1, 1, 0, 1] + [0] * 5


def test_every_filter_in_a_file(tmp_path: Path) -> None:
    model = randomized(ZOO["torchvision resnet"]())
    found = inspect(model.state_dict())
    found.save(tmp_path / "a.nc")
    with xarray.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as data:
        rows = data.where(data["layer"] == "layer2.0.downsample.1", drop=True)
        norm = model.get_submodule("layer2.0.downsample.1")
        np.testing.assert_array_equal(rows["gamma"], norm.weight.detach())
        np.testing.assert_array_equal(rows["beta"], norm.bias.detach())
        assert rows["unit"].values.tolist() == list(range(12))
        assert int(data["small"].sum()) == found.deaths.by_decay + found.deaths.both
        assert json.loads(data.attrs["summary"]) == json.loads(json.dumps(found.to_dict()))
        assert "universality" not in data
    found.save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads(json.dumps(found.to_dict()))
    with pytest.raises(InvalidParameter, match=r"out must be a new file"):
        found.save(tmp_path / "a.nc")
    with pytest.raises(InvalidParameter, match=r"out must be a file that ends in \.nc or \.json"):
        found.save(tmp_path / "a.txt")


def test_repr() -> None:
    found = inspect(randomized(ZOO["torchvision vgg_bn"]()).state_dict())
    lines = repr(found).splitlines()
    assert lines[0] == "Inspection(tensors: 2 layers, 15 filters)"
    first = found.layers[0]
    assert (
        lines[1]
        == f"  features.1     6 filters, {first.deaths.dead:4} dead [{sparkline(first.counts)}]"
    )
    assert f"  {found.why()}" in lines

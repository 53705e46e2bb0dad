"""One BN+ReLU unit: against plain Python, the engine's invariances, statistics, bad input."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.special import ndtr, ndtri

import regdyn
from regdyn.optimizers import OPTIMIZERS, REGULARIZATIONS, decay_placement

PLAIN_SGD = regdyn.SGD(lr=0.1, momentum=0.0)


def python_paths(config: regdyn.NeuronConfig) -> np.ndarray:
    """A loop over `rule.step`, one unit, one sample and one step at a time."""
    rule, n = config.rule, config.trajectories
    rows = regdyn.sample_noise(regdyn.Gaussian(1.0), 2 * config.batch * config.steps, n, config.seed)
    if config.antithetic:
        lanes = np.arange(n)
        source = np.where(lanes % 256 < 128, lanes, lanes - 128)
        rows = rows[:, source]
        rows[1::2, lanes % 256 >= 128] *= -1
    scales = config.schedule(np.arange(1, config.steps + 1))
    stds = config.c(np.arange(1, config.steps + 1))  # type: ignore[operator]
    paths = np.empty((config.steps + 1, n, 2))
    paths[0, :, 0], paths[0, :, 1] = config.gamma0, config.beta0
    for i in range(n):
        states = [rule.initial_state(), rule.initial_state()]
        for t in range(1, config.steps + 1):
            lr = rule.lr * float(scales[t - 1])
            c = rule.constants(t, lr)
            l2, before, after = decay_placement(
                config.regularization, config.lam, lr, float(scales[t - 1])
            )
            gamma, beta = paths[t - 1, i]
            gradients = np.zeros(2)
            for b in range(config.batch):
                x, g = rows[2 * (config.batch * (t - 1) + b) :, i][:2]
                if gamma * x + (beta + config.alpha) > 0:
                    gradients += [g * x, g]
            gradients *= stds[t - 1] / config.batch
            for j in range(2):
                theta, states[j] = rule.step(
                    before * paths[t - 1, i, j], gradients[j] + l2 * paths[t - 1, i, j], states[j], c
                )
                paths[t, i, j] = after * theta
    return paths


@pytest.mark.parametrize("regularization", REGULARIZATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_engine_equals_plain_python(optimizer: str, regularization: str) -> None:
    config = regdyn.NeuronConfig(
        optimizer=optimizer, regularization=regularization, lam=1e-3, steps=120, trajectories=5, keep=5,
        gamma0=np.linspace(0.5, 2, 5), beta0=np.linspace(-1, 1, 5), c=np.linspace(1, 0.1, 120),
        batch=3, alpha=0.1, schedule=regdyn.Cosine(100, 0.1), seed=4,
    )  # fmt: skip
    expected = python_paths(config)
    error = np.abs(config.run().paths - expected) / np.maximum(np.abs(expected), config.rule.lr)
    assert error.max() < 1e-11


@settings(max_examples=15)
@given(
    batch=st.integers(1, 20), alpha=st.sampled_from([0.0, 0.1, 1.0]), steps=st.integers(1, 40),
    gamma0=st.floats(-2, 2).filter(lambda x: abs(x) > 0.1), beta0=st.floats(-2, 2),
)  # fmt: skip
def test_any_batch_and_shift(batch: int, alpha: float, steps: int, gamma0: float, beta0: float) -> None:
    config = regdyn.NeuronConfig(
        optimizer=PLAIN_SGD, steps=steps, trajectories=3, keep=3, batch=batch, alpha=alpha,
        gamma0=gamma0, beta0=beta0,
    )  # fmt: skip
    assert np.allclose(config.run().paths, python_paths(config), rtol=1e-11, atol=1e-12)


def test_antithetic_twins_have_opposite_gradients() -> None:
    config = regdyn.NeuronConfig(
        optimizer=PLAIN_SGD, steps=20, trajectories=256, keep=256, batch=2, antithetic=True
    )
    result = config.run()
    first, twin = result.paths[1, :128] - [1, 0], result.paths[1, 128:] - [1, 0]
    assert np.abs(first).max() > 0.1 and np.allclose(first, -twin, atol=1e-15)
    assert np.allclose(result.paths, python_paths(config), rtol=1e-11, atol=1e-12)


BASE: dict[str, Any] = dict(
    optimizer=regdyn.Adam(lr=0.01), lam=1e-3, regularization="l2", steps=203, trajectories=1100, keep=7,
    gamma0=0.1, beta0=-0.05, c=0.1, batch=3, threshold=0.01, seed=11,
)  # fmt: skip


def differences(a: regdyn.NeuronResult, b: regdyn.NeuronResult) -> list[str]:
    skipped = {"config", "seconds", "compile_seconds", "provenance"}
    return [
        field.name
        for field in dataclasses.fields(regdyn.NeuronResult)
        if field.name not in skipped
        and not np.array_equal(getattr(a, field.name), getattr(b, field.name), equal_nan=True)
    ]


def test_threads_and_batches_change_nothing() -> None:
    config = regdyn.NeuronConfig(**BASE)
    reference = config.run(threads=1)
    assert differences(reference, config.run(threads=3)) == []
    assert differences(reference, config.run(threads=2, batch_size=256)) == []
    other = regdyn.NeuronConfig(**BASE | {"seed": 12}).run()
    assert {"gamma", "beta", "activation_mean", "paths"} <= set(differences(reference, other))


def test_statistics_equal_those_of_the_paths() -> None:
    n = 701
    config = regdyn.NeuronConfig(**BASE | {"trajectories": n, "keep": n, "times": np.arange(204)})
    result = config.run()
    gamma, beta = np.moveaxis(result.paths, -1, 0)
    ratio = beta / np.abs(gamma)
    p = ndtr(ratio)
    assert np.allclose(result.activation_mean, p.mean(axis=1), rtol=1e-12)
    assert np.allclose(result.activation_std[1:], p.std(axis=1, ddof=1)[1:], rtol=1e-9)
    assert np.allclose(result.gamma_mean, gamma.mean(axis=1), rtol=1e-12)
    assert np.allclose(result.beta_std[1:], beta.std(axis=1, ddof=1)[1:], rtol=1e-9)
    dead = p < config.threshold
    assert 0.05 < dead[-1].mean() < 0.95
    assert np.allclose(result.share_dead, dead.mean(axis=1), rtol=1e-12)
    assert np.array_equal(result.steps_dead, dead[1:].sum(axis=0))
    first = np.where(dead.any(axis=0), dead.argmax(axis=0), -1)
    assert np.array_equal(result.first_death, first)
    assert result.share_died == np.mean(first >= 0)
    assert np.array_equal(result.gamma, gamma[-1]) and np.array_equal(result.beta, beta[-1])
    assert np.allclose(result.activation, p[-1]) and np.allclose(result.ratio, ratio[-1])
    levels = [0.1, 0.5, 0.9]
    exact = np.quantile(ratio, levels, axis=1, method="inverted_cdf").T
    resolved = np.clip(exact, -7.04, 7.04)
    assert np.abs(result.ratio_quantiles(levels) - resolved)[1:].max() < 0.02
    assert np.allclose(result.activation_quantiles(levels), ndtr(result.ratio_quantiles(levels)))


def test_ratio_quantiles_resolve_both_tails() -> None:
    start = np.linspace(-6, 6, 1001)
    result = regdyn.simulate_neuron(
        regdyn.SGD(lr=0.0), steps=1, trajectories=1001, beta0=start, times=[0]
    )
    levels = np.linspace(0.01, 0.99, 50)
    assert np.abs(result.ratio_quantiles(levels)[0] - np.quantile(start, levels)).max() < 0.02


@pytest.mark.parametrize("gamma0, alive", [(2.0, 0.5), (-2.0, 0.5), (0.0, 0.0)])
def test_gamma_may_be_negative_or_zero(gamma0: float, alive: float) -> None:
    result = regdyn.simulate_neuron(
        regdyn.SGD(lr=0.0), steps=1, trajectories=10, gamma0=gamma0, threshold=0.3
    )
    assert result.activation_mean.tolist() == [alive, alive]
    dead = float(alive == 0)
    assert result.share_dead.tolist() == [dead, dead] and result.share_died == dead
    up = regdyn.simulate_neuron(regdyn.SGD(lr=0.0), steps=1, trajectories=10, gamma0=0.0, alpha=0.1)
    assert up.activation_mean.tolist() == [1.0, 1.0] and up.share_dead.tolist() == [0.0, 0.0]


def test_a_dead_start_counts_as_passed_at_step_0() -> None:
    beta0 = np.where(np.arange(600) % 2, -5.0, 1.0)
    result = regdyn.simulate_neuron(regdyn.SGD(lr=0.0), steps=5, trajectories=600, beta0=beta0)
    assert np.array_equal(result.first_death, np.where(beta0 < 0, 0, -1))
    assert np.array_equal(result.steps_dead, np.where(beta0 < 0, 5, 0))
    assert result.share_dead.tolist() == [0.5] * 6
    assert ndtri(result.config.threshold) > -5


def test_one_step_of_sgd_has_the_variance_of_eq_1() -> None:
    """Var dbeta = (lr c)^2 Phi(r) / B and Var dgamma = (lr c)^2 (Phi(r) - r phi(r)) / B."""
    n, r, batch = 200_000, -0.7, 4
    result = regdyn.simulate_neuron(
        PLAIN_SGD, steps=1, trajectories=n, gamma0=2.0, beta0=2 * r, c=0.3, batch=batch
    )
    phi = math.exp(-(r**2) / 2) / math.sqrt(2 * math.pi)
    for change, share in ((result.beta - 2 * r, ndtr(r)), (result.gamma - 2.0, ndtr(r) - r * phi)):
        variance, exact = np.mean(change**2), 0.03**2 * share / batch
        error = np.std(change**2) / math.sqrt(n)
        assert abs(variance - exact) < 4.5 * error < 0.1 * exact
        assert abs(change.mean()) < 4.5 * math.sqrt(variance / n)


def test_a_diverging_unit_is_reported() -> None:
    rule = regdyn.SGD(lr=3.0, momentum=0.0)
    result = regdyn.simulate_neuron(
        rule, lam=1.0, regularization="l2", steps=2000, trajectories=40, times=[2000]
    )
    assert np.all(result.diverged > 100) and result.alive.tolist() == [0]
    assert np.isnan(result.activation_mean[-1])
    assert "40 of 40 units diverged" in repr(result)


def test_single_precision() -> None:
    double = regdyn.NeuronConfig(**BASE).run()
    single = regdyn.NeuronConfig(**BASE | {"dtype": "float32"}).run()
    assert single.gamma.dtype == np.float32
    # A rounding error at a gate sends a few units another way.
    assert np.median(np.abs(single.gamma - double.gamma)) < 1e-5
    assert np.allclose(single.activation_mean, double.activation_mean, atol=0.01)


def test_files_and_picture(tmp_path: Path) -> None:
    result = regdyn.NeuronConfig(**BASE).run()
    result.save(tmp_path / "unit.nc")
    result.save(tmp_path / "unit.json")
    with xarray.open_dataset(tmp_path / "unit.nc", engine="h5netcdf") as data:
        assert data["path"].shape == (204, 7, 2)
        assert np.array_equal(data["activation_mean"].values, result.activation_mean)
    (shown,) = json.loads((tmp_path / "unit.json").read_text())["results"]
    assert shown["config"]["batch"] == 3 and len(shown["decay"]["share_dead"]) == len(result.times)
    with pytest.raises(regdyn.InvalidParameter, match=r"out must be a file that ends in .nc or .json"):
        result.save(tmp_path / "unit.csv")
    with pytest.raises(regdyn.InvalidParameter, match="new file"):
        result.save(tmp_path / "unit.nc")
    ax = result.plot(Figure().subplots())
    assert len(ax.lines) == 2 and ax.get_xlabel() == "step"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "threshold": (dict(threshold=1.0), r"threshold must be in \(0, 1\)"),
    "alpha": (dict(alpha=-0.1), r"alpha must be in \[0, inf\)"),
    "batch": (dict(batch=0), r"batch must be an integer in \[1, "),
    "c": (dict(c=-1.0), "c must be a non-empty one-dimensional array"),
    "c nan": (dict(c=math.nan), "c must be a non-empty one-dimensional array"),
    "gamma0": (dict(gamma0=math.inf), "gamma0 must be a finite number, or 4096 of them"),
    "gamma0 shape": (dict(gamma0=[1.0, 2.0]), r"gamma0 must be .* got shape \(2,\)"),
    "beta0": (dict(beta0="x"), "beta0 must be a finite number"),
    "antithetic": (dict(antithetic=1), "antithetic must be True or False"),
    "pairs": (dict(antithetic=True, trajectories=100), "trajectories must be a multiple of 256"),
    "optimizer": (dict(optimizer="adm"), "nearest: adam"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    config, message = BAD[case]
    with pytest.raises(regdyn.InvalidParameter, match=message):
        regdyn.NeuronConfig(**config)

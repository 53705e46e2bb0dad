"""One weight: exact laws, divergence, underflow, and the gradient models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import regdyn
from regdyn.theorems import momentum_sgd

SGD_CASES: dict[str, dict[str, float]] = {
    "paper": dict(lr=0.1, momentum=0.9, lam=1e-3, theta0=1.0),
    "noise dominates": dict(lr=0.5, momentum=0.5, lam=0.05, theta0=1e-5),
    "underdamped": dict(lr=1.0, momentum=0.95, lam=0.1, theta0=1.0),
    "no momentum": dict(lr=0.1, momentum=0.0, lam=1e-2, theta0=-2.0),
}


def z_scores(case: dict[str, float], **wrong: float) -> tuple[np.ndarray, np.ndarray]:
    """Deviation of mean and variance from theory at the recorded times, in standard errors."""
    n, steps = 20_000, 1000
    rule = regdyn.SGD(lr=case["lr"], momentum=case["momentum"])
    result = regdyn.simulate(
        rule, lam=case["lam"], theta0=case["theta0"], steps=steps, trajectories=n, seed=1
    )
    stds = regdyn.BurnIn()(np.arange(1, steps + 1))
    mean, variance = momentum_sgd.moments(steps, sigma=stds, **case | wrong)
    at = result.times[1:]
    mean_z = (result.mean[1:] - mean[at]) / np.sqrt(variance[at] / n)
    variance_z = (result.std[1:] ** 2 / variance[at] - 1) / np.sqrt(2 / (n - 1))
    return mean_z, variance_z


@pytest.mark.parametrize("name", SGD_CASES)
def test_sgd_moments_equal_the_exact_recursion(name: str) -> None:
    # About 60 correlated z-scores: 4.5 is passed by chance once in 2,000 such tests.
    mean_z, variance_z = z_scores(SGD_CASES[name])
    assert np.max(np.abs(mean_z)) < 4.5
    assert np.max(np.abs(variance_z)) < 4.5


@pytest.mark.parametrize(
    "wrong", [{"lam": 1.01e-3}, {"momentum": 0.905}, {"lr": 0.1005}, {"theta0": 1.001}]
)
def test_a_wrong_recursion_is_refuted(wrong: dict[str, float]) -> None:
    mean_z, variance_z = z_scores(SGD_CASES["paper"], **wrong)
    assert max(np.max(np.abs(mean_z)), np.max(np.abs(variance_z))) > 6


def test_sgd_reaches_the_stationary_variance() -> None:
    case = dict(lr=0.5, momentum=0.9, lam=0.1)
    exact = momentum_sgd.stationary_variance(**case, sigma=1e-3)
    n = 50_000
    result = regdyn.simulate(
        regdyn.SGD(lr=0.5, momentum=0.9), lam=0.1, theta0=0.0, steps=1000, trajectories=n,
        noise=regdyn.Gaussian(1e-3), times=[1000],
    )  # fmt: skip
    assert abs(result.std[0] ** 2 / exact - 1) < 4.5 * np.sqrt(2 / n)


def test_divergence_is_reported_with_its_step_and_poisons_nothing() -> None:
    # lr * lam = 3 without momentum: theta -> -2 theta, above 1e150 at the first t with 2^t > 1e150.
    rule = regdyn.SGD(lr=3.0, momentum=0.0)
    result = regdyn.simulate(rule, lam=1.0, steps=2000, trajectories=5, noise=regdyn.NoNoise())
    expected = int(np.ceil(150 / np.log10(2)))
    assert np.all(result.diverged == expected)
    assert result.alive[result.times < expected].tolist() == [5] * int(np.sum(result.times < expected))
    assert np.all(result.alive[result.times >= expected] == 0)
    assert np.isnan(result.mean[-1])
    assert f"5 of 5 trajectories diverged, the first at step {expected}" in repr(result)


def test_one_diverging_trajectory_leaves_the_others_alone() -> None:
    steps, n = 100, 600
    trace = np.zeros((steps, n))
    trace[37, 123] = 1e200
    rule = regdyn.SGD(lr=0.1, momentum=0.5)
    result = regdyn.simulate(
        rule, lam=1e-2, steps=steps, trajectories=n, noise=regdyn.Trace(trace), keep=n
    )
    calm = regdyn.simulate(
        rule, lam=1e-2, steps=steps, trajectories=n, noise=regdyn.Trace(0 * trace), keep=n
    )
    assert result.diverged[123] == 38
    others = np.arange(n) != 123
    assert np.all(result.diverged[others] == -1)
    assert np.array_equal(result.paths[:, others], calm.paths[:, others])
    assert result.alive[-1] == n - 1
    assert result.mean[-1] == pytest.approx(calm.mean[-1], rel=1e-14)


def test_nan_counts_as_divergence() -> None:
    # 0 / 0 in the first step: no gradient at all and eps = 0.
    result = regdyn.simulate(
        regdyn.Adam(eps=0.0), lam=0.0, noise=regdyn.NoNoise(), steps=20, trajectories=2
    )
    assert np.array_equal(result.diverged, [1, 1])


def test_underflow_is_flushed_and_reported() -> None:
    result = regdyn.simulate(
        regdyn.SGD(lr=0.5, momentum=0.0), lam=1.0, steps=2000, trajectories=3, noise=regdyn.NoNoise()
    )
    # theta = 2^-t falls below 2^-1000 at t = 1001, seen at the end of its chunk of sixteen.
    assert result.flushed == 1008
    assert np.array_equal(result.final, [0.0, 0.0, 0.0])
    assert "were set to 0 from about step 1008" in repr(result)
    assert regdyn.simulate("adam", steps=2000, trajectories=3).flushed == -1


def test_every_trajectory_may_start_elsewhere() -> None:
    starts = np.linspace(-1, 2, 300)
    starts[7] = 5e-4
    setup: dict[str, Any] = dict(lam=1e-3, steps=50, trajectories=300)
    result = regdyn.simulate("adam", theta0=starts, keep=300, **setup)
    assert np.array_equal(result.paths[0], starts)
    assert np.flatnonzero(result.first_passage == 0).tolist() == [7]
    alone = regdyn.simulate("adam", theta0=starts[299], keep=300, **setup)
    assert np.array_equal(result.paths[:, 299], alone.paths[:, 299])
    assert "theta: -1 … 2 -> mean" in repr(result)
    with pytest.raises(regdyn.InvalidParameter, match=r"theta0 must be .* got shape \(2,\)"):
        regdyn.ScalarConfig(theta0=[1.0, 2.0])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_types(dtype: str) -> None:
    result = regdyn.simulate("adam", lam=1e-3, steps=500, trajectories=300, keep=2, dtype=dtype)
    assert result.final.dtype == result.paths.dtype == np.dtype(dtype)


def test_float32_follows_float64() -> None:
    runs = [
        regdyn.simulate("adam", lam=1e-3, steps=300, trajectories=300, keep=300, dtype=dtype)
        for dtype in ("float64", "float32")
    ]
    assert np.max(np.abs(runs[0].paths - runs[1].paths)) < 1e-4


def test_a_trace_is_used_as_it_is(tmp_path: Any) -> None:
    values = np.random.default_rng(2).normal(size=(50, 3))
    np.save(tmp_path / "trace.npy", values)
    rule = regdyn.SGD(lr=1.0, momentum=0.0)
    for trace in (regdyn.Trace(values), regdyn.Trace.load(str(tmp_path / "trace.npy"))):
        run = regdyn.simulate(rule, lam=0.0, steps=50, trajectories=3, keep=3, noise=trace)
        assert np.allclose(run.paths[1:], 1.0 - np.cumsum(values, axis=0), rtol=1e-13)
    shared = regdyn.simulate(
        rule, lam=0.0, steps=50, trajectories=3, keep=3, noise=regdyn.Trace(values[:, 0])
    )
    assert np.array_equal(shared.paths[:, 0], shared.paths[:, 2])


@pytest.mark.parametrize(
    "values, message",
    [
        (np.zeros(9), r"of shape \(10,\) or \(10, 4\)"),
        (np.zeros((10, 3)), r"of shape \(10,\) or \(10, 4\)"),
        (np.zeros((2, 2, 2)), r"numbers of shape \(steps,\)"),
        (np.array(["a"]), "numbers of shape"),
        (np.array([0.0, np.nan]), "finite, got NaN or infinity at step 2"),
    ],
)
def test_bad_traces(values: np.ndarray, message: str) -> None:
    with pytest.raises(regdyn.InvalidParameter, match=message):
        regdyn.simulate("sgd", steps=10, trajectories=4, noise=regdyn.Trace(values))


def test_the_signal_pulls_to_its_target() -> None:
    result = regdyn.simulate(
        "sgd", lam=0.0, steps=2000, trajectories=8, signal=regdyn.Signal(0.1, -3.0)
    )
    assert result.mean[-1] == pytest.approx(-3.0, abs=1e-3)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"lam": -1}, r"lam must be in \[0, inf\), got -1"),
        ({"lam": float("nan")}, r"lam must be in \[0, inf\), got nan"),
        ({"optimizer": "adm"}, "nearest: adam"),
        ({"optimizer": 3}, "optimizer must be a name or an Optimizer"),
        ({"regularization": "l3"}, "nearest: l2"),
        ({"steps": 0}, r"steps must be an integer in \[1, "),
        ({"theta0": 1e151}, "theta0 must be .* at most 1e[+]150"),
        ({"dtype": "float16"}, "dtype must be one of float64, float32"),
        ({"keep": 5, "trajectories": 4}, r"keep must be an integer in \[0, 4\]"),
        ({"seed": -1}, "seed must be an integer"),
        ({"threshold": 0}, r"threshold must be in \(0, inf\)"),
        ({"noise": "gaussian"}, "noise must be a gradient model"),
    ],
)
def test_bad_configurations(config: dict[str, Any], message: str) -> None:
    with pytest.raises(regdyn.InvalidParameter, match=message):
        regdyn.ScalarConfig(**config).run()


def test_quantiles_stay_inside_the_ensemble() -> None:
    """Also where all of it lies in one bin."""
    result = regdyn.simulate("sgd", noise=regdyn.NoNoise(), steps=50, trajectories=300, theta0=-1.0)
    assert np.allclose(result.quantiles(), -result.mean[:, None], rtol=1e-14, atol=0)
    spread = regdyn.simulate("adam", steps=300, trajectories=300, times=[300])
    magnitude = np.abs(spread.final)
    assert (spread.least[0], spread.greatest[0]) == (magnitude.min(), magnitude.max())

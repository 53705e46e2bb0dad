"""Streaming statistics equal those of the whole trajectories."""

from __future__ import annotations

import ast
import inspect
import math
from typing import Any

import numba
import numpy as np
import pytest
from dynamics.chebyshev import chebyshev_interpolation
from mpmath import mp, mpf

import regdyn
from regdyn.dynamics import observables
from regdyn.dynamics.observables import (
    HIGH,
    LOW,
    N_BINS,
    bin_edges,
    check_times,
    histogram_quantiles,
    log_times,
)
from regdyn.dynamics.result import ScalarResult


@pytest.fixture(scope="module")
def whole() -> ScalarResult:
    """A run that keeps every trajectory and crosses the threshold back and forth."""
    return regdyn.simulate(
        "adam", lam=1e-3, steps=2501, trajectories=700, keep=700, threshold=2e-3, seed=5
    )


def test_moments(whole: ScalarResult) -> None:
    paths = whole.paths[whole.times]
    assert np.allclose(whole.mean, paths.mean(axis=1), rtol=1e-12, atol=1e-15)
    assert np.allclose(whole.std, paths.std(axis=1, ddof=1), rtol=1e-9, atol=1e-15)
    assert np.all(whole.alive == 700)


def test_quantiles_are_within_one_percent(whole: ScalarResult) -> None:
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    exact = np.quantile(np.abs(whole.paths[whole.times]), levels, axis=1, method="inverted_cdf").T
    assert np.all(np.abs(np.log(whole.quantiles(levels) / exact)) < np.log(1.01) * 1.001)


def test_first_passage_and_time_below(whole: ScalarResult) -> None:
    below = np.abs(whole.paths) < 2e-3
    first = np.where(below.any(axis=0), below.argmax(axis=0), -1)
    assert np.array_equal(whole.first_passage, first)
    assert np.array_equal(whole.steps_below, below[1:].sum(axis=0))
    assert np.array_equal(whole.final, whole.paths[-1])
    assert whole.share_passed == np.mean(first >= 0)
    assert whole.share_below == pytest.approx(below[1:].mean(), rel=1e-12)
    passed = np.sort(np.where(first < 0, np.inf, first))
    assert whole.first_passage_quantile(0.5) == passed[349]
    assert whole.first_passage_quantile(1.0) == passed[699]


def test_a_start_below_the_threshold_counts_as_step_zero() -> None:
    result = regdyn.simulate("sgd", theta0=1e-4, steps=5, trajectories=3, noise=regdyn.NoNoise())
    assert np.array_equal(result.first_passage, [0, 0, 0])
    assert np.array_equal(result.steps_below, [5, 5, 5])


def test_never_is_infinite() -> None:
    result = regdyn.simulate("sgd", lam=0.0, steps=5, trajectories=3)
    assert result.first_passage_quantile() == float("inf")
    assert np.array_equal(result.first_passage, [-1, -1, -1])


@pytest.mark.parametrize("steps", range(1, 20))
def test_no_step_after_the_end_counts(steps: int) -> None:
    result = regdyn.simulate("sgd", theta0=1e-9, lam=0.0, steps=steps, trajectories=2,
                             noise=regdyn.NoNoise())  # fmt: skip
    assert np.array_equal(result.steps_below, [steps, steps])


def test_bins_cover_the_stated_range() -> None:
    edges = bin_edges()
    assert len(edges) == N_BINS + 1
    assert edges[0] == LOW and edges[-1] >= HIGH
    assert np.allclose(edges[1:] / edges[:-1], 1.01, rtol=1e-12)


@numba.njit
def logs(x: Any) -> Any:
    out = np.empty(len(x))
    for i in range(len(x)):
        out[i] = observables._log(x[i])
    return out


def test_coefficients_of_the_log_interpolate_at_chebyshev_nodes() -> None:
    """The long literals are the rounded coefficients: all of them and nothing else.

    Signs are left out, because a literal may stand behind a minus; the error below depends on them.
    """
    tree = ast.parse(inspect.getsource(observables._log.py_func))
    numbers = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    literals = [x for x in numbers if isinstance(x, float) and len(repr(x)) > 5]
    with mp.workdps(30):
        low, high = mp.sqrt(mpf(1) / 2) - 1, mp.sqrt(2) - 1
        exact = chebyshev_interpolation(lambda z: -2 * mp.log1p(z) / z, low, high, 11)
    assert sorted(literals) == sorted(abs(float(c)) for c in exact)


def test_log_error() -> None:
    """4e-11 from the smallest normal number to the largest, and 1.2e-10 relative to the logarithm."""
    powers = 2.0 ** np.arange(-1022, 1024)
    parts = [np.geomspace(2.3e-308, 1.7e308, 20_001), np.linspace(0.5, 2.0, 20_001)]
    parts += [powers[2:] * math.sqrt(0.5) * (1 + d) for d in (-1e-15, 0.0, 1e-15)]
    parts += [powers, 1 + 2.0 ** -np.arange(1, 53), 1 - 2.0 ** -np.arange(1, 54)]
    x = np.concatenate(parts)
    values, exact = logs(x), np.log(x)
    assert np.abs(values - exact).max() < 1e-10
    assert np.all(np.abs(values - exact) <= 1.5e-10 * np.abs(exact))


def test_values_fall_into_their_bins() -> None:
    values = np.concatenate(([0.0, 1e-13, 5e3, -1e140], np.geomspace(1.001e-12, 0.999e3, 996)))
    trace = np.zeros((1, 1000))
    trace[0] = -values
    result = regdyn.simulate(
        regdyn.SGD(lr=1.0, momentum=0.0), lam=0.0, theta0=0.0, steps=1, trajectories=1000,
        noise=regdyn.Trace(trace), times=[1],
    )  # fmt: skip
    edges = bin_edges()
    counts, _ = np.histogram(np.abs(values), edges)
    shipped = result.histogram[0]
    assert shipped[0] == 2 and shipped[-1] == 2
    assert shipped.sum() == 1000
    # A value within 1e-10 of an edge may fall on either side of it.
    assert np.max(np.abs(np.cumsum(shipped[1:-1]) - np.cumsum(counts))) <= 1


def test_quantiles_of_a_histogram_at_its_ends() -> None:
    counts = np.zeros((3, N_BINS + 2), dtype=np.int64)
    counts[0, 0] = 10
    counts[1, -1] = 10
    quantiles = histogram_quantiles(counts, [0.5])
    assert quantiles[0, 0] == LOW and quantiles[1, 0] == HIGH and np.isnan(quantiles[2, 0])


def test_default_times() -> None:
    assert log_times(1).tolist() == [0, 1]
    times = log_times(10_000)
    assert {0, 1, 2, 5, 10, 1000, 5000, 10_000} <= set(times.tolist())
    assert np.all(np.diff(times) > 0) and times[-1] == 10_000
    assert log_times(777)[-1] == 777


def test_given_times() -> None:
    assert check_times([5, 1, 5], 10).tolist() == [1, 5]
    with pytest.raises(regdyn.InvalidParameter, match=r"times must be an integer in \[0, 10\]"):
        check_times([11], 10)
    with pytest.raises(regdyn.InvalidParameter, match="times must be at least one step"):
        check_times([], 10)


def test_memory_does_not_grow_with_steps() -> None:
    short = regdyn.ScalarConfig(steps=1, trajectories=100_000)
    long = regdyn.ScalarConfig(steps=10**9, trajectories=100_000)
    assert long.memory() - short.memory() < 50e6

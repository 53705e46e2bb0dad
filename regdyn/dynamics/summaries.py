"""What a map keeps of each of its points: the observables of a simulation, each a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from regdyn.dynamics._neuron_kernel import ACTIVATION, BETA, DEAD, GAMMA
from regdyn.dynamics.ensemble import Ensembles
from regdyn.dynamics.optimization import OVERFLOW
from regdyn.dynamics.result import LEVELS

CONFIDENCE = 0.95
"""Of the interval of the median first passage, at least: order statistics come in steps."""


@dataclass(frozen=True)
class Observable:
    """A variable of a map, of float64, NaN where nothing has been simulated.

    Attributes
    ----------
    dims
        Its dimensions after those of the points: "step", "level" or "bound".
    text, units
        What it is.
    scale
        How it is interpolated between points: "log", "linear" or not at all.
    """

    dims: tuple[str, ...]
    text: str
    units: str = "1"
    scale: str | None = "linear"


COMMON = {
    "first_passage": Observable(
        ("level",), "quantile of the first step below the threshold, inf for never", "step", "log"
    ),
    "first_passage_interval": Observable(
        ("bound",), "95 percent interval of the median first passage", "step", "log"
    ),
    "share_passed": Observable((), "share of trajectories ever below the threshold"),
    "share_below": Observable((), "share of all steps that ended below the threshold"),
    "alive": Observable(("step",), "trajectories that have not diverged", scale=None),
    "diverged": Observable((), "trajectories that left the range", scale=None),
    "first_divergence": Observable((), "first step out of range, inf for never", "step", None),
    "flushed": Observable((), "a step by which a number was set to 0, inf for never", "step", None),
}

WEIGHT = {
    **COMMON,
    "mean": Observable(("step",), "mean of theta"),
    "std": Observable(("step",), "standard deviation of theta", scale="log"),
    "abs_quantile": Observable(("step", "level"), "quantile of |theta|", scale="log"),
    "least": Observable(("step",), "least |theta|", scale="log"),
    "greatest": Observable(("step",), "greatest |theta|", scale="log"),
}

UNIT = {
    **COMMON,
    "activation_mean": Observable(("step",), "mean activation probability"),
    "activation_std": Observable(("step",), "standard deviation of the activation probability"),
    "share_dead": Observable(
        ("step",), "share of units with activation probability below the threshold"
    ),
    "gamma_mean": Observable(("step",), "mean of gamma"),
    "gamma_std": Observable(("step",), "standard deviation of gamma"),
    "beta_mean": Observable(("step",), "mean of beta"),
    "beta_std": Observable(("step",), "standard deviation of beta"),
    "ratio_quantile": Observable(("step", "level"), "quantile of (beta + alpha) / |gamma|"),
}


def summarize_weights(ensembles: Ensembles) -> dict[str, NDArray]:
    """The observables in `WEIGHT` of every point."""
    theta = np.moveaxis(ensembles.snapshots[:, 0], 0, 1).astype(float)
    magnitude = np.abs(theta)
    alive = magnitude <= OVERFLOW[ensembles.configs[0].dtype]
    mean, std = _moments(theta, alive)
    ordered = np.sort(np.where(alive, magnitude, np.nan), axis=-1)
    count = alive.sum(axis=-1)
    return _common(ensembles, alive) | {
        "mean": mean,
        "std": std,
        "abs_quantile": _quantiles(ordered, count),
        "least": ordered[..., 0],
        "greatest": _at(ordered, count - 1),
    }


def summarize_units(ensembles: Ensembles) -> dict[str, NDArray]:
    """The observables in `UNIT` of every point."""
    seen = np.moveaxis(ensembles.snapshots, 0, 2).astype(float)
    activation, dead, gamma, beta = seen[[ACTIVATION, DEAD, GAMMA, BETA]]
    alive = ~np.isnan(activation)
    found = {}
    for name, values in (("activation", activation), ("gamma", gamma), ("beta", beta)):
        found[f"{name}_mean"], found[f"{name}_std"] = _moments(values, alive)
    alpha = np.array([config.alpha for config in ensembles.configs])[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = (beta + alpha) / np.abs(gamma)
    # Without a spread and without a shift a unit never fires.
    ratio[np.isnan(ratio) & alive] = -np.inf
    ordered = np.sort(np.where(alive, ratio, np.nan), axis=-1)
    return (
        _common(ensembles, alive)
        | found
        | {
            "share_dead": _moments(dead, alive)[0],
            "ratio_quantile": _quantiles(ordered, alive.sum(axis=-1)),
        }
    )


def median_ranks(count: int) -> tuple[int, int]:
    """Order statistics, from 1 on, that bound the median with `CONFIDENCE`; 0, n + 1 are no bound."""
    low = int(stats.binom.ppf((1 - CONFIDENCE) / 2, count, 0.5))
    return low, count + 1 - low


def _common(ensembles: Ensembles, alive: NDArray[np.bool_]) -> dict[str, NDArray]:
    first, diverged = ensembles.first_passage, ensembles.diverged
    count = first.shape[1]
    ordered = np.sort(np.where(first < 0, np.inf, first), axis=1)
    low, high = median_ranks(count)
    bounds = np.pad(ordered, ((0, 0), (1, 1)), constant_values=((0, 0), (0, np.inf)))
    steps = ensembles.configs[0].steps
    return {
        "first_passage": _quantiles(ordered, np.full(len(first), count)),
        "first_passage_interval": bounds[:, [low, high]],
        "share_passed": np.mean(first >= 0, axis=1),
        "share_below": np.mean(ensembles.steps_below, axis=1) / steps,
        "alive": alive.sum(axis=-1),
        "diverged": np.sum(diverged >= 0, axis=1),
        "first_divergence": np.where(diverged < 0, np.inf, diverged).min(axis=1),
        "flushed": np.where(ensembles.flushed < 0, np.inf, ensembles.flushed),
    }


def _moments(values: NDArray, alive: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Mean and std over the last axis, as in `regdyn.dynamics.result.mean_and_std`."""
    count = alive.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(alive, values, 0).sum(axis=-1) / count
        squares = np.where(alive, values - mean[..., None], 0) ** 2
        std = np.sqrt(squares.sum(axis=-1) / np.maximum(count - 1, 1))
    return mean, np.where(count > 0, std, np.nan)


def _quantiles(ordered: NDArray, count: NDArray[np.int64]) -> NDArray:
    """For each level the order statistic that a share `level` does not exceed; NaN for none."""
    found = [_at(ordered, np.ceil(level * count).astype(np.int64) - 1) for level in LEVELS]
    return np.stack(found, axis=-1)


def _at(ordered: NDArray, index: NDArray[np.int64]) -> NDArray:
    """Entry `index` of each row; the first one, which is NaN then, of a row without numbers."""
    found = np.take_along_axis(ordered, np.maximum(index, 0)[..., None], axis=-1)
    return np.asarray(found[..., 0])

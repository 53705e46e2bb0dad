"""Which units of a trained network die, and when: predicted from their recorded gradients.

Networks on the digits under Adam and SGD; each unit's gamma simulated alone, from the mean and std of
its gradient in 48 windows of the training. Replay: from the start, all windows known. Forecast: from
half of the training on, later windows drawn from those of the quarter before. --steps are those of the
training, --trajectories the runs (seeds) of each optimizer. The .json beside the figure has the scores
of all variants and controls.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import xarray
from _run import Script

from regdyn import plots
from regdyn.nets.forecast import Forecast, forecast
from regdyn.nets.result import TrainResult
from regdyn.nets.scores import point
from regdyn.nets.training import TrainConfig, train
from regdyn.plots.forecast import plot_forecasts

METHODS: dict[str, dict[str, Any]] = {
    "Adam, L2 1e-3": {"optimizer": "adam", "regularization": "l2", "lam": 1e-3},
    "Adam, decoupled 1": {"optimizer": "adam", "regularization": "decoupled", "lam": 1.0},
    "SGD, L2 2e-3": {"optimizer": "sgd", "regularization": "l2", "lam": 2e-3},
}
REPLICAS = 32
WINDOWS = 48
FINE = 240
HALF, QUARTER = WINDOWS // 2, WINDOWS // 4
# Windows of the quarter before half, and of all after half.
BEFORE, AFTER = slice(HALF - QUARTER + 1, HALF + 1), slice(HALF + 1, None)

# Index of the cut among the recorded times, and options.
VARIANTS: dict[str, tuple[int, dict[str, Any]]] = {
    "replay": (0, {}),
    "replay, independent noise": (0, {"noise": "independent"}),
    "replay, neuron": (0, {"model": "neuron"}),
    "replay, shuffled": (0, {"shuffled": True}),
    "half": (HALF, {}),
    "half, force within units": (HALF, {"force": "within"}),
    "half, force between units": (HALF, {"force": "between"}),
    "half, held": (HALF, {"future": "held"}),
    "half, later windows known": (HALF, {"future": "known"}),
    "half, neuron": (HALF, {"model": "neuron"}),
    "half, shuffled": (HALF, {"shuffled": True}),
    "quarter": (QUARTER, {}),
    "quarter, force within units": (QUARTER, {"force": "within"}),
}
DRAWN = {"replay": "replay", "forecast": "half"}


def main() -> None:
    script = Script(__file__, __doc__, steps=6000, trajectories=6)

    def trained(settings: dict[str, Any], windows: int) -> list[TrainResult]:
        times = np.unique(np.linspace(0, script.steps, windows + 1).round().astype(int))
        seeds = range(script.seed, script.seed + script.trajectories)
        return train([
            TrainConfig(steps=script.steps, times=times, seed=seed, **settings) for seed in seeds
        ])  # fmt: skip

    def told_of(runs: list[TrainResult], cut: int = 0, **options: Any) -> Forecast:
        return Forecast.pooled([
            forecast(run, int(run.times[cut]) or None, replicas=REPLICAS, seed=script.seed, **options)
            for run in runs
        ])  # fmt: skip

    told: dict[str, dict[str, Forecast]] = {}
    about: dict[str, dict[str, Any]] = {}
    for name, settings in METHODS.items():
        runs = trained(settings, WINDOWS)
        told[name] = {
            variant: told_of(runs, cut, **options) for variant, (cut, options) in VARIANTS.items()
        }
        fine = told_of(trained(settings, FINE))
        about[name] = {
            "test_error": [run.error for run in runs],
            "sparsity": [run.sparsity for run in runs],
            "scores": {variant: one.summary() for variant, one in told[name].items()},
            f"replay, {FINE} windows": fine.summary(),
            "baselines at half": baselines(told[name]["half"], runs),
            "gradients at half": gradients(told[name]["half"], runs),
        }
    drawn = {
        name: {label: each[variant] for label, variant in DRAWN.items()} for name, each in told.items()
    }
    title = (
        "Death of units, predicted from the mean and std of their gradients\n"
        f"digits, 256-256 units, {script.trajectories} runs each; replay of the whole training, and "
        f"forecasts from step {script.steps // 2:,} on"
    )
    with plots.style():
        figure = plot_forecasts(drawn, title=title, bins=5)
    script.save(figure, dataset(told), replicas=REPLICAS, windows=WINDOWS, methods=about)


def recorded(told: Forecast, values: list[list[np.ndarray]]) -> np.ndarray:
    """For the units of a forecast, what each run has for each layer and unit."""
    places = zip(told.run, told.layer, told.unit)
    return np.array([values[run][layer][unit] for run, layer, unit in places])


def means(told: Forecast, values: list[list[np.ndarray]], windows: slice) -> np.ndarray:
    """As `recorded`, of values with a row for each window."""
    return recorded(told, [[x[windows].mean(axis=0) for x in layers] for layers in values])


def gradients(told: Forecast, runs: list[TrainResult]) -> dict[str, Any]:
    """Medians over the units of each layer and fate, [in the quarter before half, after half].

    Support is the mean gradient as far as it keeps gamma away from 0, distance |gamma| over the
    learning rate. h is the slope of the mean gradient over gamma between the units of a layer, before
    half, its median over the runs.
    """
    sign, lr = np.where(told.gamma < 0, -1.0, 1.0), runs[0].config.rule.lr
    mean, std = (
        [[getattr(layer, name) for layer in run.gradients] for run in runs]
        for name in ("gamma_mean", "gamma_std")
    )
    gamma = [[np.abs(x) for x in run.gamma] for run in runs]
    support, size, noise = (
        [means(told, values, windows) for windows in (BEFORE, AFTER)] for values in (mean, gamma, std)
    )
    support = [-sign * x for x in support]
    numbers = {"support": support, "std": noise, "distance": [x / lr for x in size]}
    shown: dict[str, Any] = {}
    for k in np.unique(told.layer):
        layer: dict[str, Any] = {}
        for fate, died in (("died", told.died), ("lived", ~told.died)):
            units = (told.layer == k) & died
            if units.any():
                layer[fate] = {"units": int(units.sum())} | {
                    name: [float(np.median(x[units])) for x in both] for name, both in numbers.items()
                }
        slopes = []
        for run in np.unique(told.run):
            units = (told.layer == k) & (told.run == run)
            if units.sum() > 2:
                slopes.append(-float(np.polyfit(size[0][units], support[0][units], 1)[0]))
        layer["h"] = float(np.median(slopes)) if slopes else None
        shown[f"layer {k + 1}"] = layer
    return shown


def baselines(told: Forecast, runs: list[TrainResult]) -> dict[str, Any]:
    """Scores of simple predictors at half: std of the gradient; gamma on a straight line."""
    std = means(told, [[layer.gamma_std for layer in run.gradients] for run in runs], BEFORE)
    before = recorded(told, [[gamma[HALF - QUARTER] for gamma in run.gamma] for run in runs])
    fall = (before - told.gamma) / told.horizon * WINDOWS / QUARTER
    with np.errstate(divide="ignore"):
        left = np.where(told.gamma / fall > 0, told.gamma / fall, np.inf)
    time = np.where(told.cut + left <= told.horizon, told.cut + left, np.inf)
    line = dataclasses.replace(
        told, probability=np.isfinite(time).astype(float), predicted_time=time
    ).summary()  # fmt: skip
    return {
        "std of the gradient": {"auc": point(told.auc(-std))},
        "straight line": line | {"auc": point(told.auc(-left))},
        "gamma": {"auc": point(told.auc(-np.abs(told.gamma)))},
    }


def dataset(told: dict[str, dict[str, Forecast]]) -> xarray.Dataset:
    """A row for each unit under each method and variant."""
    each = [one for variants in told.values() for one in variants.values()]
    method, variant = np.divmod(np.arange(len(each)), len(VARIANTS))
    sizes = [len(one.unit) for one in each]
    columns = {"method": np.repeat(method, sizes), "variant": np.repeat(variant, sizes)} | {
        name: np.concatenate([getattr(one, name) for one in each])
        for name in (
            "run", "layer", "unit", "gamma", "probability", "predicted_time", "observed_time",
        )
    }  # fmt: skip
    return xarray.Dataset(
        {name: ("row", values) for name, values in columns.items()},
        attrs={"methods": list(METHODS), "variants": list(VARIANTS)},
    )


if __name__ == "__main__":
    main()

"""Forecasts of dying units, against runs of which every step is known and against the simulators."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from networks import random_data
from numpy.typing import NDArray

import regdyn
from regdyn.errors import InvalidParameter
from regdyn.nets.forecast import Forecast, _Past, _Simulation, forecast
from regdyn.nets.result import GradientStatistics, TrainResult
from regdyn.nets.training import TrainConfig, train
from regdyn.optimizers import OPTIMIZERS, REGULARIZATIONS

DATA = random_data()


def synthetic(
    gradients: NDArray,
    *,
    window: int = 20,
    gamma0: NDArray | float = 1.0,
    signal: Any = None,
    **config: Any,
) -> TrainResult:
    """What a network of units that each see the given gradients, (steps, units), would record."""
    steps, units = gradients.shape
    settings: dict[str, Any] = dict(
        data=DATA, hidden=(units,), batch=10, dtype="float64", steps=steps,
        times=np.arange(0, steps + 1, window),
    ) | config  # fmt: skip
    settings = TrainConfig(**settings)
    (template,) = train([dataclasses.replace(settings, steps=1, times=[0, 1])])
    weight = regdyn.ScalarConfig(
        optimizer=dataclasses.replace(settings.rule, lr=settings.rule.lr * settings.gamma_lr),
        regularization=settings.regularization, lam=settings.lam, schedule=settings.schedule,
        noise=regdyn.Trace(gradients), signal=signal or regdyn.Signal(), theta0=gamma0, steps=steps,
        trajectories=units, keep=units, threshold=settings.threshold,
    ).run()  # fmt: skip
    felt = gradients.copy()
    if signal is not None:
        felt += signal.strength * (weight.paths[:-1] - signal.target)
    cut = felt.reshape(-1, window, units)
    mean, std = (
        np.concatenate((np.full((1, units), np.nan), x)) for x in (cut.mean(axis=1), cut.std(axis=1))
    )
    times = np.asarray(settings.times)
    return dataclasses.replace(
        template,
        config=settings,
        times=times,
        gamma=(weight.paths[times],),
        beta=(np.zeros((len(times), units)),),
        first_below=(weight.first_passage,),
        gradients=(GradientStatistics(mean, std, 0 * mean, 0 * mean, 0 * mean, 0 * mean + 0.5),),
    )


@pytest.mark.parametrize("regularization", REGULARIZATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_replay_of_single_steps_is_the_training(optimizer: str, regularization: str) -> None:
    # Windows of one step have no noise; batches of the whole set none either.
    rule = dataclasses.replace(OPTIMIZERS[optimizer](), lr=0.05)
    lam = 0.5 if regularization == "decoupled" else 0.02
    config = TrainConfig(
        data=DATA, hidden=(7, 5), batch=10, steps=60, optimizer=rule, lam=lam, gamma_lr=1.5,
        regularization=regularization, schedule=regdyn.Cosine(80), times=range(61), threshold=0.5,
        dtype="float64",
    )  # fmt: skip
    (result,) = train([config])
    told = forecast(result, replicas=3)
    assert np.array_equal(told.predicted_time, told.observed_time)
    assert np.array_equal(told.probability, told.died)
    if regularization == "paper":
        assert told.died.any()
    assert told.layer.tolist() == [0] * 7 + [1] * 5
    assert told.unit.tolist() == [*range(7), *range(5)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("regularization", ["l2", "decoupled"])
def test_a_forecast_goes_on_with_the_state_at_the_cut(optimizer: str, regularization: str) -> None:
    # Moments, sums and momentum must be those of the training, or the times are off: gradients fall
    # to a third shortly before the cut.
    pull = np.linspace(0.5, 1.0, 8) * np.where(np.arange(200) < 85, 1.0, 0.3)[:, None]
    for lr in np.geomspace(1e-3, 1e2, 61):
        result = synthetic(
            pull, window=1, threshold=0.3, lam=0.1, regularization=regularization,
            optimizer=dataclasses.replace(OPTIMIZERS[optimizer](), lr=lr),
        )  # fmt: skip
        first = result.first_below[0]
        if np.any(first > 95):
            break
    for future in ("held", "known"):
        told = forecast(result, 90, future=future, windows=1, replicas=2)
        assert np.array_equal(told.predicted_time, told.observed_time)
    assert told.died.sum() == np.sum(first > 90) > 0
    assert len(told.unit) == 8 - np.sum((first >= 0) & (first <= 90))


def test_the_force_is_not_felt_before_the_cut() -> None:
    # Adagrad would remember it for good.
    result = synthetic(
        np.zeros((900, 4)), window=1, gamma0=np.linspace(0.9, 1.2, 4), lam=0.0, threshold=0.3,
        signal=regdyn.Signal(0.5, 0.1), optimizer=regdyn.Adagrad(lr=0.03),
    )  # fmt: skip
    told = forecast(result, 60, force="within", future="held", windows=60, replicas=1)
    assert told.died.all()
    assert np.all(np.abs(told.predicted_time - told.observed_time) < 15)


def drifting(units: int = 300, steps: int = 800, seed: int = 0, **config: Any) -> TrainResult:
    """Units with a constant mean gradient, of which some pull to 0, under SGD."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(0.0, 0.012, units)
    gradients = mean + rng.normal(0.0, 0.1, (steps, units))
    return synthetic(
        gradients, optimizer=regdyn.SGD(lr=0.1, momentum=0.0), lam=1e-3, threshold=0.02, **config
    )


def test_replay_and_control() -> None:
    result = drifting()
    replay, control = forecast(result, replicas=32), forecast(result, shuffled=True, replicas=32)
    assert 40 < replay.died.sum() < 260
    assert replay.auc().value[0] > 0.99
    low, high = control.auc().interval(0.001)
    assert low[0] < 0.5 < high[0] and high[0] < 0.7
    assert replay.calibration().brier < 0.05 < control.calibration().brier
    assert replay.time_error.factor.value[0] < 1.05 < control.time_error.factor.value[0]
    assert np.array_equal(control.gamma, replay.gamma)


def test_a_forecast_in_a_world_of_scalars() -> None:
    # What the forecast assumes is true here; more windows, more of the noise of the mean averaged out.
    result = drifting()
    told = forecast(result, 400, noise="independent", windows=20, replicas=64)
    assert told.auc().value[0] > 0.9
    assert told.calibration().error < 0.12
    assert abs(told.probability.sum() / told.died.sum() - 1) < 0.25
    few = forecast(result, 400, noise="independent", windows=1, replicas=64)
    assert few.calibration().brier > told.calibration().brier + 0.02
    assert forecast(result, 400).method == "model scalar, noise epoch, future redrawn from 10 windows"


def test_noise_of_an_epoch_sums_to_zero() -> None:
    # 60 samples in batches of 10: without the sum of the noise nothing but the mean moves gamma.
    assert len(DATA.y_train) // 10 == 6
    rule = regdyn.SGD(lr=0.1, momentum=0.0)
    still = synthetic(np.zeros((800, 20)), lam=0.0, threshold=0.3, optimizer=rule)
    (g,) = still.gradients
    noisy = dataclasses.replace(still, gradients=(dataclasses.replace(g, gamma_std=g.gamma_std + 0.3),))
    epoch, free = (forecast(noisy, noise=noise) for noise in ("epoch", "independent"))
    # Std of a bridge over 6 steps: at most 0.1 * 0.3 sqrt(1.5); of 800 free steps: 0.85.
    assert epoch.probability.max() == 0
    assert free.probability.mean() == pytest.approx(0.41, abs=0.06)


@pytest.mark.parametrize("window", [1, 4, 20])
def test_gradients_have_the_recorded_mean_and_std(window: int) -> None:
    rng = np.random.default_rng(4)
    result = synthetic(rng.normal(0.1, 0.3, (240, 2)), window=window, lam=0.0)
    (g,) = result.gradients
    simulation = _Simulation(_Past.of(result, 0), "epoch", "redrawn", "none", 1, 2000, 0)
    drawn = simulation._gradients(1, 0.0).reshape(-1, window, 2000)
    assert np.allclose(drawn.mean(axis=1), g.gamma_mean[1:, 1, None])
    if window > 1:
        # A piece of one step, between an end of an epoch and one of a window, has no noise.
        assert np.sqrt(np.mean(drawn.std(axis=1) ** 2)) == pytest.approx(
            np.sqrt(np.mean(g.gamma_std[1:, 1] ** 2)), rel=0.1
        )
    epochs = drawn.reshape(-1, 6, 2000) - np.repeat(g.gamma_mean[1:, 1], window).reshape(-1, 6, 1)
    assert np.allclose(epochs.sum(axis=1), 0, atol=1e-12)


def test_a_restoring_force_is_found_and_used() -> None:
    # Units under a force to 0.35 cross 0.3 for its sake or do not, whatever drift they show early on.
    rng = np.random.default_rng(5)
    start = rng.uniform(0.8, 1.2, 100)
    gradients = rng.normal(0.0, 0.02, (1600, 100))
    result = synthetic(
        gradients, gamma0=start, signal=regdyn.Signal(0.02, 0.35), lam=0.0, threshold=0.2,
        optimizer=regdyn.SGD(lr=0.1, momentum=0.0),
    )  # fmt: skip
    plain, forced = (
        forecast(result, 400, force=force, windows=20, replicas=16) for force in ("none", "within")
    )
    assert plain.died.sum() < 5
    assert plain.probability.mean() > 0.9
    assert forced.probability.mean() < 0.1
    between = forecast(result, 400, force="between", windows=20, replicas=16)
    assert between.probability.mean() < 0.1


def test_a_unit_without_gradients_decays_alike_in_both_models() -> None:
    result = synthetic(
        np.zeros((300, 3)), optimizer=regdyn.SGD(lr=0.1, momentum=0.9), lam=0.02, threshold=0.1
    )
    scalar, neuron = (forecast(result, model=model, replicas=4) for model in ("scalar", "neuron"))
    assert np.array_equal(scalar.predicted_time, scalar.observed_time)
    assert np.array_equal(neuron.predicted_time, scalar.observed_time)
    later = forecast(result, 40, replicas=4)
    assert np.array_equal(later.predicted_time, scalar.observed_time)
    # The momentum at the cut is that of the decay there, not of the larger one before.
    later = forecast(result, 40, model="neuron", replicas=4)
    assert np.all(later.predicted_time - scalar.observed_time <= 4)


def test_the_neuron_feels_the_recorded_c() -> None:
    result = synthetic(np.zeros((200, 40)), optimizer=regdyn.SGD(lr=0.1, momentum=0.0), lam=0.0)
    (g,) = result.gradients
    noisy = dataclasses.replace(
        result, gradients=(dataclasses.replace(g, output_rms=np.full_like(g.output_rms, 3.0)),),
        config=dataclasses.replace(result.config, threshold=0.4),
    )  # fmt: skip
    told = forecast(noisy, model="neuron", replicas=64)
    direct = regdyn.simulate_neuron(
        regdyn.SGD(lr=0.1, momentum=0.0), c=3.0 / np.sqrt(10), steps=200, trajectories=4096, keep=4096
    )
    share = np.mean((np.abs(direct.paths[:, :, 0]) < 0.4).any(axis=0))
    assert 0.1 < share < 0.9
    assert told.probability.mean() == pytest.approx(share, abs=4 * np.sqrt(0.25 / (40 * 64)))
    with pytest.raises(InvalidParameter, match="model must be scalar unless"):
        changed = dataclasses.replace(noisy.config, gamma_lr=0.5)
        forecast(dataclasses.replace(noisy, config=changed), model="neuron")


def test_a_replay_has_no_future() -> None:
    result = drifting(units=40)
    times = [forecast(result, future=future).predicted_time for future in ("redrawn", "held", "known")]
    assert np.array_equal(times[0], times[1]) and np.array_equal(times[0], times[2])


def test_threads_and_seed() -> None:
    result = drifting(units=60)
    told = forecast(result, 400, replicas=8, force="within", threads=1)
    again = forecast(result, 400, replicas=8, force="within", threads=3)
    other = forecast(result, 400, replicas=8, force="within", seed=1)
    assert np.array_equal(told.predicted_time, again.predicted_time)
    assert not np.array_equal(told.probability, other.probability)


def test_pooling_words_and_json() -> None:
    one, two = (forecast(drifting(units=80, seed=s), 400, replicas=8) for s in (1, 2))
    both = Forecast.pooled([one, two])
    three = Forecast.pooled([both, one])
    assert both.runs == 2 and three.runs == 3 and len(three.unit) == len(both.unit) + len(one.unit)
    assert both.died.sum() == one.died.sum() + two.died.sum()
    text = repr(both)
    assert "sgd, l2 0.001: forecast from step 400 to step 800, model scalar" in text
    assert "2 runs, 8 trajectories each" in text and "AUC" in text and "median error" in text
    assert "AUC" not in repr(forecast(synthetic(np.zeros((40, 3)), lam=0.0)))
    plain = json.loads(json.dumps(both.to_dict(), allow_nan=False))
    assert plain["n"] == len(plain["units"]["probability"]) and plain["died"] == both.died.sum()
    assert plain["auc"]["low"] <= plain["auc"]["value"] <= plain["auc"]["high"]
    with pytest.raises(InvalidParameter, match="forecasts must be of one cut"):
        Forecast.pooled([one, forecast(drifting(units=80), 200, windows=10, replicas=8)])
    with pytest.raises(InvalidParameter, match="forecasts must be at least one"):
        Forecast.pooled([])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"cut": 30}, "cut must be a recorded step before the last one, got 30"),
        ({"cut": 0}, "cut must be an integer in"),
        ({"cut": 80}, "cut must be a recorded step before the last one"),
        ({"cut": 20, "force": "within"}, "cut must be after two windows"),
        ({"cut": 40, "windows": 3}, r"windows must be an integer in \[1, 2\], got 3"),
        ({"model": "neuron", "force": "within"}, "force must be none for the neuron"),
        ({"model": "scaler"}, "model must be one of scalar, neuron"),
        ({"noise": "x"}, "noise must be one of"),
        ({"future": "x"}, "future must be one of"),
        ({"force": "x"}, "force must be one of"),
        ({"replicas": 0}, "replicas must be an integer"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        forecast(synthetic(np.zeros((80, 2))), **options)


def test_runs_that_cannot_be_forecast() -> None:
    result = synthetic(np.zeros((80, 2)))
    with pytest.raises(InvalidParameter, match="result must be of a run that did not fail"):
        forecast(dataclasses.replace(result, failed="the loss is no longer finite"))
    plain = dataclasses.replace(result.config, norm="none")
    with pytest.raises(InvalidParameter, match="result must be of a network with batch norm"):
        forecast(dataclasses.replace(result, config=plain))
    dead = dataclasses.replace(result, first_below=(np.zeros(2, np.int64),))
    with pytest.raises(InvalidParameter, match="cut must be a step at which a unit is alive"):
        forecast(dead)
    with pytest.raises(InvalidParameter, match="result must be with a recorded step"):
        forecast(dataclasses.replace(result, times=np.array([0])))

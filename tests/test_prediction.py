"""Predictions and their inverse, as a library."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import regdyn
from regdyn.dynamics.schedules import Constant, Cosine, Step
from regdyn.errors import InvalidParameter, OutsideDomain
from regdyn.optimizers import OPTIMIZERS, make_optimizer
from regdyn.prediction import leaves_alone, predict, prunes

CASES = [(name, place) for name in OPTIMIZERS for place in ("l2", "paper")]


@pytest.mark.parametrize(("name", "place"), CASES)
def test_against_simulation(name: str, place: str) -> None:
    """Within the stated 3 percent, and 4 standard errors of the sample's median."""
    lam, n = 3e-3, 1024
    steps = int(1.5 * predict(name, lam=lam, regularization=place).median_steps) + 10
    result = regdyn.simulate(
        name, lam=lam, regularization=place, steps=steps, trajectories=n, threads=1
    )
    first = np.sort(np.where(result.first_passage < 0, np.inf, result.first_passage))
    margin = 2 * int(np.sqrt(n))
    prediction = predict(name, lam=lam, regularization=place, steps=steps)
    low, high = first[n // 2 - margin], first[n // 2 + margin]
    assert 0.97 * low <= prediction.median_steps <= 1.03 * high
    assert prediction.share_below == pytest.approx(result.steps_below.mean() / steps, abs=0.015)
    assert prediction.std == pytest.approx(result.std[-1], rel=0.15)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("place", ["none", "l2", "decoupled", "paper"])
def test_every_rule_and_placement(name: str, place: str) -> None:
    prediction = predict(name, lam=1e-3, regularization=place)
    assert prediction.median_steps > 0
    assert 0 <= prediction.share_below <= 1
    if prediction.closed_form_steps is not None:
        assert prediction.closed_form_steps == pytest.approx(prediction.median_steps, rel=0.1)
    assert (prediction.stationary_std is None) == (prediction.stationary_share_below is None)
    assert name in repr(prediction)
    json.dumps(prediction.to_dict(), allow_nan=False)


def test_never_is_infinite() -> None:
    still = predict("sgd", lam=0.0, sigma=0.0, burn_in_steps=0)
    assert still.median_steps == math.inf
    assert still.to_dict()["median_steps"] is None
    assert still.mean == 1.0
    assert still.share_below == 0.0


def test_an_optimizer_and_its_name_are_the_same() -> None:
    named = predict("adam", lam=1e-4, beta2=0.999)
    assert predict(make_optimizer("adam", beta2=0.999), lam=1e-4) == named


def test_noise_as_array_is_the_burn_in() -> None:
    array = predict("adam", lam=1e-4, sigma=np.r_[np.full(100, 1e-3), 1e-5])
    assert array.median_steps == predict("adam", lam=1e-4).median_steps
    assert array.closed_form is None


def test_schedules() -> None:
    plain = predict("sgd", lam=1e-3)
    assert predict("sgd", lam=1e-3, schedule=Constant()).median_steps == plain.median_steps
    late = predict("sgd", lam=1e-3, schedule=Step((2000,), 0.1))
    assert late.median_steps == pytest.approx(2000 + 10 * (plain.median_steps - 2000), rel=0.02)
    assert predict("sgd", lam=1e-4, schedule=Cosine(5000), steps=5001).median_steps == math.inf


def test_sign_of_theta0_does_not_matter() -> None:
    assert predict("adam", theta0=-2.0) == predict("adam", theta0=2.0)


@pytest.mark.parametrize(("name", "place"), [*CASES, ("sgd", "decoupled")])
def test_prunes(name: str, place: str) -> None:
    bound = prunes(name, steps=40_000, regularization=place)
    assert bound.lam is not None
    assert bound.prediction is not None
    assert bound.prediction.median_steps == pytest.approx(40_000, rel=1e-3)
    assert predict(name, lam=0.99 * bound.lam, regularization=place).median_steps > 40_000
    json.dumps(bound.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("name", "place"), CASES)
def test_leaves_alone(name: str, place: str) -> None:
    bound = leaves_alone(name, steps=2000, regularization=place, loss=0.1)
    assert bound.lam is not None
    assert bound.prediction is not None
    assert bound.prediction.mean == pytest.approx(0.9, abs=1e-3)
    assert predict(name, lam=1.02 * bound.lam, regularization=place, steps=2000).mean < 0.9


def test_leaves_alone_is_exact_for_weight_decay() -> None:
    bound = leaves_alone("adam", steps=1000, regularization="paper", loss=0.5)
    assert bound.lam == pytest.approx(1 - 0.5 ** (1 / 1000), rel=2e-4)


def test_nothing_prunes_in_a_few_steps_of_adam() -> None:
    bound = prunes("adam", steps=20)
    assert bound.lam is None
    assert bound.prediction is None


def test_caveats() -> None:
    assert any("does not stay" in c for c in predict("adam", lam=1e-4).caveats)
    assert any("maximum" in c for c in predict("amsgrad").caveats)
    assert any("sqrt(eps)" in c for c in predict("adadelta", sigma=0.1).caveats)
    assert any("swings" in c for c in predict("adam", lam=0.1).caveats)
    assert any("band" in c for c in predict("rmsprop", lr=0.05, lam=1e-3).caveats)
    assert predict("sgd", lam=1e-3).caveats == ()


@pytest.mark.parametrize(
    ("call", "wrong", "name"),
    [
        (predict, {"optimizer": "lion"}, "optimizer"),
        (predict, {"momentum": 0.5}, "parameter of adam"),
        (predict, {"lam": -1}, "lam"),
        (predict, {"lam": math.nan}, "lam"),
        (predict, {"steps": 0}, "steps"),
        (predict, {"regularization": "l1"}, "regularization"),
        (predict, {"sigma": [1e-3], "burn_in_steps": 5}, "burn_in_steps"),
        (predict, {"sigma": [-1.0]}, "sigma"),
        (predict, {"schedule": [[1.0]]}, "schedule"),
        (predict, {"threshold": 0}, "threshold"),
        (predict, {"optimizer": make_optimizer("adam"), "lr": 1.0}, "lr"),
        (prunes, {"steps": 100, "regularization": "none"}, "regularization"),
        (leaves_alone, {"steps": 100, "loss": 1.0}, "loss"),
    ],
)
def test_bad_input(call: Any, wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        call(**wrong)
    assert caught.value.name == name


def test_divergence_is_said() -> None:
    with pytest.raises(OutsideDomain, match="diverge"):
        predict("sgd", lam=50.0)

"""Adaptive refinement: as near to the full map as it was asked to be, for less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import regdyn
from regdyn.sweeps import refine
from regdyn.sweeps.plan import make_plan

AXES = {
    "optimizer": ["adam", "sgd"],
    "lam": np.geomspace(1e-6, 1e-1, 33),
    "sigma": np.geomspace(1e-7, 1e-3, 17),
}
PRECISION = 0.1
FIXED: dict[str, Any] = {"steps": 3000, "times": [3000]}


def medians(sweep: regdyn.Sweep) -> np.ndarray:
    return np.log(sweep.to_xarray()["first_passage"].sel(level=0.5).values)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> regdyn.Sweep:
    """Every point, with many trajectories of another seed."""
    out = tmp_path_factory.mktemp("full") / "map.zarr"
    return regdyn.sweep(AXES, out=out, trajectories=512, seed=1, **FIXED)


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> regdyn.Sweep:
    out = tmp_path_factory.mktemp("refined") / "map.zarr"
    return regdyn.sweep(AXES, out=out, refine=PRECISION, trajectories=32, **FIXED)


def wrong(a: regdyn.Sweep, b: regdyn.Sweep) -> float:
    """Share of the points, of those where both medians pass, that differ by more than the precision."""
    x, y = medians(a), medians(b)
    both = np.isfinite(x) & np.isfinite(y)
    assert both.sum() > 300
    return float(np.mean(np.abs(x[both] - y[both]) > PRECISION))


def test_precision(full: regdyn.Sweep, refined: regdyn.Sweep) -> None:
    assert wrong(full, refined) < 0.01
    passes = np.isfinite(medians(full)) != np.isfinite(medians(refined))
    assert passes.mean() < 0.01


def test_without_a_look_at_bend_and_surplus_it_is_wrong(
    full: regdyn.Sweep, refined: regdyn.Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refine, "SAFETY", 1e-9)
    monkeypatch.setattr(refine.Refinement, "_surplus_around", lambda *_: 0.0)
    careless = regdyn.sweep(AXES, out=tmp_path / "map.zarr", refine=PRECISION, trajectories=32, **FIXED)
    assert wrong(full, careless) > 5 * wrong(full, refined) + 0.05


def test_saving(refined: regdyn.Sweep) -> None:
    data = refined.to_xarray()
    counts = data["simulated"].values
    assert refined.simulated + refined.interpolated == refined.points == 2 * 33 * 17
    assert refined.interpolated > refined.points / 3
    (session,) = refined.sessions
    # What was superseded by more trajectories has been spent as well.
    assert session["trajectory_steps"] >= counts.sum() * 3000
    assert session["trajectory_steps"] < counts.max() * counts.size * 3000 / 10
    assert f"{refined.simulated} of {refined.points} points simulated" in session["saving"]
    assert session["saving"] in repr(refined)


def test_intervals_are_as_narrow_as_asked(refined: regdyn.Sweep) -> None:
    data = refined.to_xarray()
    low, high = np.moveaxis(data["first_passage_interval"].values, -1, 0)
    simulated = data["simulated"].values > 0
    narrow = np.isinf(low) | (high <= low * np.exp(2 * PRECISION))
    met = narrow[simulated].mean()
    assert met > 0.95
    assert f"{met:.1%} of them to the precision" in refined.sessions[0]["saving"]


def test_simulated_points_are_those_of_a_simulation(refined: regdyn.Sweep) -> None:
    data = refined.to_xarray()
    counts = data["simulated"].values
    for index in (np.unravel_index(counts.argmax(), counts.shape), (1, 16, 8)):
        assert counts[index] > 0
        point = data.isel(dict(zip(("optimizer", "lam", "sigma"), index)))
        single = regdyn.simulate(
            str(point.optimizer.values), lam=float(point.lam), steps=3000,
            noise=regdyn.Gaussian(regdyn.BurnIn(float(point.sigma))),
            trajectories=int(counts[index]),
        )  # fmt: skip
        assert point.first_passage.sel(level=0.5) == single.first_passage_quantile()


def test_what_is_not_interpolated() -> None:
    plan = make_plan(
        {"optimizer": ["adam", "sgd"], "seed": [0, 1, 2, 3], "lam": np.geomspace(1e-4, 1e-2, 9)},
        refine=0.1,
    )
    assert [plan.interpolates(axis) for axis in plan.grid.axes] == [False, False, True]
    assert len(refine.Refinement(plan).coarse()) == 2 * 4 * 2


@pytest.mark.parametrize(
    "settings, wanted",
    [
        ({"refine": 0}, r"refine must be in \(0, 1\]"),
        ({"refine": 0.1, "most_trajectories": 8}, r"most_trajectories must be an integer in \[64"),
        ({"most_trajectories": 100}, "most_trajectories must be used with refine"),
    ],
)
def test_bad_input(settings: dict[str, Any], wanted: str) -> None:
    with pytest.raises(regdyn.InvalidParameter, match=wanted):
        make_plan({"lam": [1e-4, 1e-3, 1e-2]}, **settings)
    with pytest.raises(regdyn.InvalidParameter, match="trajectories must be no axis"):
        make_plan({"trajectories": [64, 128, 256]}, refine=0.1)

"""Collapse: what the experiments make of given ends, and what they train."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scripted import SEEDS, ScriptedBench, found

from regdyn import FINDINGS
from regdyn.dynamics.schedules import CosineRestarts
from regdyn.findings.base import Bench
from regdyn.findings.collapse import CLAIMS, ROUNDS, SHIFT, never_active
from regdyn.verdicts import HOLDS, REFUTED


@pytest.mark.parametrize("high, verdict, control", [(0.5, HOLDS, REFUTED), (0.1, REFUTED, HOLDS)])
def test_learning_rate(high: float, verdict: str, control: str) -> None:
    rates = {0.1: 0.2, 0.5: high}
    finding = found("F9a", lambda settings: rates[settings["optimizer"].lr])
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


@pytest.mark.parametrize("small, verdict, control", [(0.5, HOLDS, REFUTED), (0.1, REFUTED, HOLDS)])
def test_initial_gamma(small: float, verdict: str, control: str) -> None:
    starts = {1.0: 0.2, 0.1: small}
    finding = found("F9b", lambda settings: starts[settings.get("gamma0", 1.0)])
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


@pytest.mark.parametrize(
    "ends, verdict, control",
    [
        ((0.0, 0.1, 0.2, 0.25, 0.3), HOLDS, REFUTED),
        ((0.0, 0.1, 0.2, 0.25, 0.15), REFUTED, REFUTED),
        ((0.4, 0.1, 0.2, 0.1, 0.1), REFUTED, HOLDS),
    ],
)
def test_rounds(ends: tuple[float, ...], verdict: str, control: str) -> None:
    finding = found("F9c", lambda settings: {"sparsity_over_time": np.array(ends)})
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


@pytest.mark.parametrize(
    "shifted, verdict, control",
    [(0.05, HOLDS, REFUTED), (0.2, REFUTED, REFUTED), (0.7, REFUTED, HOLDS)],
)
def test_shift(shifted: float, verdict: str, control: str) -> None:
    finding = found("F9d", lambda settings: shifted if settings["alpha"] == SHIFT else 0.4)
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


def records(dead: int, units: int = 200) -> dict[str, Any]:
    """A run of two layers with so many units that are never active, all in the first."""
    peaks = [np.r_[np.zeros(dead), np.ones(units - dead)], np.full(units, 1e-9)]
    return {"activation_records": tuple(SimpleNamespace(peak=peak) for peak in peaks)}


@pytest.mark.parametrize(
    "shifted, verdict, control", [(0, HOLDS, REFUTED), (80, REFUTED, HOLDS), (30, REFUTED, REFUTED)]
)
def test_units_come_back(shifted: int, verdict: str, control: str) -> None:
    finding = found("F9e", lambda settings: records(shifted if settings["alpha"] == SHIFT else 80))
    assert finding.verdict == verdict
    assert (finding.control.verdict == REFUTED) == (control == REFUTED)


def test_never_active_counts_units_of_all_runs() -> None:
    runs = [SimpleNamespace(**records(20)), SimpleNamespace(**records(60))]
    share = never_active(runs)  # type: ignore[arg-type]
    assert share.value == pytest.approx([80 / 800]) and share.n == 800


def test_rounds_are_recorded_where_they_end() -> None:
    bench = ScriptedBench(lambda settings: {"sparsity_over_time": np.linspace(0, 0.4, ROUNDS)})
    claim = FINDINGS["F9c"]
    claim.experiment(bench, **{**claim.cases[0], "steps": 503})
    (asked,) = bench.asked
    assert asked["steps"] == 500 and asked["times"] == (100, 200, 300, 400, 500)
    assert asked["schedule"] == CosineRestarts(100)
    assert asked["schedule"](np.array([100, 101]))[1] == 1.0


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])
def test_trains_in_small(claim: Any) -> None:
    comparison = claim.experiment(Bench(), steps=10, width=8, lam=1e-3, lr=0.1)
    assert np.all(np.abs(comparison.measured.value) <= 1)
    assert comparison.measured.n in (SEEDS, SEEDS * 12)

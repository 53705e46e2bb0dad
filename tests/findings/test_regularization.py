"""Regularisation: what the experiments make of given ends, and what they train."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scripted import ScriptedBench, found

from regdyn import FINDINGS
from regdyn.findings.base import Bench
from regdyn.findings.regularization import CLAIMS
from regdyn.findings.shapes import CASE
from regdyn.verdicts import HOLDS, INCONCLUSIVE, REFUTED


@pytest.mark.parametrize(
    "adam, sgd, l2, verdict, control",
    [
        (0.0, 0.0, 0.2, HOLDS, REFUTED),
        (0.1, 0.0, 0.2, REFUTED, REFUTED),
        (0.0, 0.1, 0.2, REFUTED, REFUTED),
        (0.01, 0.0, 0.2, INCONCLUSIVE, REFUTED),
        (0.0, 0.0, 0.0, HOLDS, HOLDS),
    ],
)
def test_without(adam: float, sgd: float, l2: float, verdict: str, control: str) -> None:
    without = {"adam": adam, "sgd": sgd}

    def end(settings: dict[str, Any]) -> float:
        return l2 if settings["regularization"] == "l2" else without[settings["optimizer"]]

    finding = found("F1", lambda settings: [end(settings)] * 2, width=500)
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


def by_strength(**shares: float) -> Any:
    """Shares of dead units by optimizer and percent of the case's lambda, as in adam_10."""

    def end(settings: dict[str, Any]) -> dict[str, float]:
        percent = round(100 * settings["lam"] / CASE["lam"])
        return {"sparsity": shares[f"{settings['optimizer']}_{percent}"]}

    return end


@pytest.mark.parametrize(
    "adam, sgd, verdict, control",
    [
        (0.4, 0.3, HOLDS, REFUTED),
        (0.1, 0.3, REFUTED, REFUTED),
        (0.4, 0.1, REFUTED, REFUTED),
        (0.1, 0.1, REFUTED, HOLDS),
    ],
)
def test_stronger_l2(adam: float, sgd: float, verdict: str, control: str) -> None:
    end = by_strength(adam_10=0.2, adam_100=adam, sgd_100=0.2, sgd_300=sgd)
    finding = found("F1b", end)
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


@pytest.mark.parametrize(
    "weak, strong, verdict, control",
    [(0.1, 0.3, HOLDS, REFUTED), (0.1, 0.0, REFUTED, REFUTED), (0.0, 0.1, HOLDS, HOLDS)],
)
def test_stronger_decay(weak: float, strong: float, verdict: str, control: str) -> None:
    finding = found("F1c", by_strength(adam_100=weak, adam_500=strong))
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


def test_placements() -> None:
    for name, expected in {"F1b": {"l2"}, "F1c": {"paper"}}.items():
        bench = ScriptedBench(lambda settings: {"sparsity": 0.1})
        FINDINGS[name].experiment(bench, **CASE)
        assert {asked["regularization"] for asked in bench.asked} == expected


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])
def test_trains_in_small(claim: Any) -> None:
    comparison = claim.experiment(Bench(), **{**claim.cases[0], "steps": 4, "width": 4})
    assert np.all(np.abs(comparison.measured.value) <= 1)

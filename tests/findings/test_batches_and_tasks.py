"""Batches and tasks: what the experiments make of given ends, and what they train."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scripted import ScriptedBench, found

from regdyn import FINDINGS
from regdyn.findings.base import Bench
from regdyn.findings.batches_and_tasks import CLAIMS
from regdyn.verdicts import HOLDS, REFUTED


def of_batches(twenty: float, forty: float, eighty: float) -> Any:
    shares = {20: twenty, 40: forty, 80: eighty}
    return lambda settings: {"sparsity": shares[settings.get("batch", 40)]}


@pytest.mark.parametrize(
    "shares, verdict, control",
    [
        ((0.3, 0.2, 0.1), HOLDS, REFUTED),
        ((0.3, 0.1, 0.2), HOLDS, REFUTED),
        ((0.3, 0.4, 0.1), REFUTED, REFUTED),
        ((0.1, 0.0, 0.2), REFUTED, REFUTED),
        ((0.0, 0.0, 0.0), HOLDS, HOLDS),
    ],
)
def test_batches(shares: tuple[float, float, float], verdict: str, control: str) -> None:
    finding = found("F4", of_batches(*shares))
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


def test_the_usual_batch_is_the_baseline_of_other_findings() -> None:
    batches, others = ScriptedBench(of_batches(0.3, 0.2, 0.1)), ScriptedBench(lambda settings: 0.1)
    case = FINDINGS["F4"].cases[0]
    FINDINGS["F4"].experiment(batches, **case)
    FINDINGS["F1"].experiment(others, **case)
    (baseline,) = (asked for asked in batches.asked if "batch" not in asked)
    assert baseline in others.asked
    assert [{**asked, "batch": 40} for asked in batches.asked] == [{**baseline, "batch": 40}] * 3


def of_tasks(easy: float, cluttered: float, classes: float, errors: tuple[float, ...]) -> Any:
    def end(settings: dict[str, Any]) -> dict[str, float]:
        data = settings["data"]
        if "clutter" in data:
            return {"sparsity": cluttered, "error": errors[1]}
        hard = "classes=10" in data
        return {"sparsity": classes if hard else easy, "error": errors[2 if hard else 0]}

    return end


@pytest.mark.parametrize(
    "shares, errors, verdict, control",
    [
        ((0.4, 0.3, 0.2), (0.1, 0.2, 0.15), HOLDS, REFUTED),
        ((0.4, 0.5, 0.2), (0.1, 0.2, 0.15), REFUTED, REFUTED),
        ((0.4, 0.3, 0.5), (0.1, 0.2, 0.15), REFUTED, REFUTED),
        ((0.4, 0.3, 0.2), (0.1, 0.05, 0.15), REFUTED, REFUTED),
        ((0.4, 0.3, 0.2), (0.1, 0.2, 0.05), REFUTED, REFUTED),
        ((0.4, 0.5, 0.6), (0.1, 0.05, 0.02), REFUTED, HOLDS),
    ],
)
def test_tasks(
    shares: tuple[float, ...], errors: tuple[float, ...], verdict: str, control: str
) -> None:
    finding = found("F5", of_tasks(*shares, errors))
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


def test_only_the_data_differ() -> None:
    bench = ScriptedBench(of_tasks(0.4, 0.3, 0.2, (0.1, 0.2, 0.15)))
    FINDINGS["F5"].experiment(bench, **FINDINGS["F5"].cases[0])
    data = [asked.pop("data") for asked in bench.asked]
    easy = "synthetic:classes=5,n_test=5000"
    assert data == [easy, f"{easy},clutter=1", easy.replace("=5,", "=10,")]
    assert all(asked == bench.asked[0] for asked in bench.asked)


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])
def test_trains_in_small(claim: Any) -> None:
    comparison = claim.experiment(Bench(), **{**claim.cases[0], "steps": 4, "width": 4})
    assert np.all(np.abs(comparison.measured.value) <= 1)

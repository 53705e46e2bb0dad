"""Remedies: what the experiments make of given ends, and what they train."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scripted import ScriptedBench, found

from regdyn import FINDINGS
from regdyn.findings.base import Bench
from regdyn.findings.remedies import CLAIMS
from regdyn.verdicts import HOLDS, REFUTED


def ends(**shares: float) -> Any:
    """Shares of dead units by what was changed: leaky, slow, beta, or nothing (relu)."""

    def end(settings: dict[str, Any]) -> float:
        if settings.get("activation") == "leaky_relu":
            return shares["leaky"]
        if settings.get("gamma_lr", 1.0) != 1.0:
            return shares["slow"]
        return shares["beta"] if settings.get("beta0", 0.0) else shares["relu"]

    return end


@pytest.mark.parametrize(
    "leaky, verdict, control",
    [(0.45, HOLDS, REFUTED), (0.33, HOLDS, REFUTED), (0.25, REFUTED, REFUTED), (0.1, REFUTED, HOLDS)],
)
def test_leaky_relu(leaky: float, verdict: str, control: str) -> None:
    finding = found("F7a", ends(relu=0.4, leaky=leaky))
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


@pytest.mark.parametrize(
    "slow, verdict, control",
    [(0.1, HOLDS, REFUTED), (0.35, REFUTED, REFUTED), (0.5, REFUTED, HOLDS)],
)
def test_slow_gammas(slow: float, verdict: str, control: str) -> None:
    finding = found("F7b", ends(relu=0.4, leaky=0.3, slow=slow))
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


@pytest.mark.parametrize("beta, verdict, control", [(0.5, HOLDS, REFUTED), (0.3, REFUTED, HOLDS)])
def test_positive_beta(beta: float, verdict: str, control: str) -> None:
    finding = found("F8", ends(relu=0.4, beta=beta))
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


def test_only_the_remedy_differs() -> None:
    for name, changed in {
        "F7a": [{"activation": "leaky_relu"}],
        "F7b": [{"activation": "leaky_relu"}, {"gamma_lr": 0.1}],
        "F8": [{"beta0": 1.0}],
    }.items():
        bench = ScriptedBench(ends(relu=0.4, leaky=0.3, slow=0.1, beta=0.5))
        FINDINGS[name].experiment(bench, **FINDINGS[name].cases[0])
        first, *others = bench.asked
        assert others == [{**first, **more} for more in changed]


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])
def test_trains_in_small(claim: Any) -> None:
    comparison = claim.experiment(Bench(), steps=8, width=8, lam=1e-3)
    assert np.all(np.abs(comparison.measured.value) <= 1)

"""Activation functions: what the experiments make of given ends, and what they train."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scripted import ScriptedBench, found

from regdyn import FINDINGS
from regdyn.findings.activations import CLAIMS, NEAR_ZERO
from regdyn.findings.base import Bench
from regdyn.verdicts import HOLDS, REFUTED


def ends(shares: dict[str, float]) -> Any:
    """Runs whose share of near-zero weights is that of their activation or norm."""

    def end(settings: dict[str, Any]) -> dict[str, Any]:
        share = shares.get(settings["norm"], shares.get(settings["activation"]))
        assert share is not None
        (units,) = settings["hidden"]
        size = np.where(np.arange(units) < round(share * units), 0.9, 1.1) * NEAR_ZERO
        # The norm is over all inputs, of the first layer's weights only.
        weights = np.repeat(size[:, None] / 2, 4, axis=1)
        return {"network": SimpleNamespace(weights=(weights, np.zeros((3, units))))}

    return end


@pytest.mark.parametrize(
    "batch, none, verdict, control",
    [(0.5, 0.4, HOLDS, REFUTED), (0.5, 0.05, REFUTED, REFUTED), (0.04, 0.05, REFUTED, HOLDS)],
)
def test_relu(batch: float, none: float, verdict: str, control: str) -> None:
    finding = found("F10a", ends({"batch": batch, "none": none}))
    assert list(finding.comparisons[0].measured.value) == pytest.approx([batch, none], abs=0.01)
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


@pytest.mark.parametrize(
    "elu, verdict, control",
    [(0.45, HOLDS, REFUTED), (0.35, HOLDS, REFUTED), (0.6, REFUTED, REFUTED), (0.0, REFUTED, HOLDS)],
)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_elu(elu: float, verdict: str, control: str, norm: str) -> None:
    finding = found("F10b", ends({"relu": 0.4, "elu": elu}), norm=norm)
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


@pytest.mark.parametrize(
    "tanh, verdict, control",
    [(0.0, HOLDS, REFUTED), (0.2, REFUTED, REFUTED), (0.5, REFUTED, HOLDS)],
)
def test_tanh(tanh: float, verdict: str, control: str) -> None:
    finding = found("F10c", ends({"relu": 0.4, "tanh": tanh}))
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


def test_the_norm_is_that_of_the_case() -> None:
    for norm in ("batch", "none"):
        bench = ScriptedBench(ends({"relu": 0.4, "tanh": 0.1}))
        claim = FINDINGS["F10c"]
        claim.experiment(bench, **{**claim.cases[0], "norm": norm})
        assert [asked["norm"] for asked in bench.asked] == [norm, norm]


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])
def test_trains_in_small(claim: Any) -> None:
    case = {**claim.cases[0], "steps": 8, "width": 8}
    comparison = claim.experiment(Bench(), **case)
    assert np.all(np.abs(comparison.measured.value) <= 1)

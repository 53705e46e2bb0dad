"""Optimizers and placements of decay: what experiments make of given ends, and what they train."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scripted import ScriptedBench, found

from regdyn import FINDINGS
from regdyn.findings.base import Bench
from regdyn.findings.optimizers import CLAIMS
from regdyn.findings.shapes import CASE
from regdyn.verdicts import HOLDS, REFUTED

LAM = CASE["lam"]


def ends(errors: dict[str, float] | None = None, **shares: float) -> Any:
    """Shares of dead units, and errors, by optimizer, decay and strength, as in adam_paper_2."""

    def end(settings: dict[str, Any]) -> dict[str, float]:
        factor = round(settings["lam"] / LAM)
        name = f"{settings['optimizer']}_{settings['regularization']}_{factor}"
        return {"sparsity": shares[name], "error": (errors or {}).get(name, 0.02)}

    return end


def verdicts(name: str, end: Any) -> tuple[str, str]:
    finding = found(name, end)
    return finding.verdict, finding.control.verdict


@pytest.mark.parametrize(
    "weak, strong, error, expected",
    [
        (0.1, 0.2, 0.02, (HOLDS, REFUTED)),
        (0.1, 0.2, 0.029, (HOLDS, REFUTED)),
        (0.1, 0.2, 0.031, (REFUTED, REFUTED)),
        (0.5, 0.2, 0.02, (REFUTED, REFUTED)),
        (0.1, 0.5, 0.02, (REFUTED, REFUTED)),
        (0.5, 0.5, 0.04, (REFUTED, HOLDS)),
    ],
)
def test_l2_or_decay(weak: float, strong: float, error: float, expected: tuple[str, str]) -> None:
    shares = dict(adam_l2_1=0.4, adam_paper_1=weak, adam_paper_2=strong)
    assert verdicts("F2a", ends({"adam_l2_1": error}, **shares)) == expected


@pytest.mark.parametrize(
    "sgd, error, expected",
    [
        (0.05, 0.02, (HOLDS, REFUTED)),
        (0.05, 0.031, (REFUTED, REFUTED)),
        (0.2, 0.02, (REFUTED, REFUTED)),
        (0.2, 0.031, (REFUTED, HOLDS)),
    ],
)
def test_adam_or_sgd(sgd: float, error: float, expected: tuple[str, str]) -> None:
    shares = dict(adam_paper_1=0.1, sgd_l2_1=sgd)
    assert verdicts("F2b", ends({"adam_paper_1": error}, **shares)) == expected


@pytest.mark.parametrize(
    "sgd, error, expected",
    [
        (0.05, 0.029, (HOLDS, REFUTED)),
        (0.15, 0.029, (REFUTED, REFUTED)),
        (0.05, 0.031, (REFUTED, REFUTED)),
        (0.0, 0.029, (HOLDS, HOLDS)),
    ],
)
def test_adam_or_stronger_sgd(sgd: float, error: float, expected: tuple[str, str]) -> None:
    shares = dict(adam_paper_1=0.1, adam_paper_2=0.2, sgd_l2_3=sgd)
    errors = dict(sgd_l2_3=error, adam_paper_1=0.015, adam_paper_2=0.025)
    assert verdicts("F2c", ends(errors, **shares)) == expected


@pytest.mark.parametrize(
    "amsgrad, error, expected",
    [
        (0.0, 0.02, (HOLDS, REFUTED)),
        (0.09, 0.02, (HOLDS, REFUTED)),
        (0.11, 0.02, (REFUTED, REFUTED)),
        (0.0, 0.031, (REFUTED, REFUTED)),
        (0.16, 0.02, (REFUTED, HOLDS)),
        (0.14, 0.02, (REFUTED, REFUTED)),
    ],
)
def test_amsgrad(amsgrad: float, error: float, expected: tuple[str, str]) -> None:
    shares = dict(adam_l2_1=0.3, amsgrad_l2_1=amsgrad)
    assert verdicts("F3a", ends({"adam_l2_1": error}, **shares)) == expected


@pytest.mark.parametrize(
    "rmsprop, error, expected",
    [
        (0.3, 0.02, (HOLDS, REFUTED)),
        (0.16, 0.011, (HOLDS, REFUTED)),
        (0.59, 0.029, (HOLDS, REFUTED)),
        (0.14, 0.02, (REFUTED, REFUTED)),
        (0.61, 0.02, (REFUTED, REFUTED)),
        (0.3, 0.009, (HOLDS, REFUTED)),
        (0.3, 0.031, (REFUTED, REFUTED)),
        (0.05, 0.02, (REFUTED, HOLDS)),
    ],
)
def test_rmsprop(rmsprop: float, error: float, expected: tuple[str, str]) -> None:
    shares = dict(adam_l2_1=0.3, rmsprop_l2_1=rmsprop)
    assert verdicts("F3b", ends({"rmsprop_l2_1": error}, **shares)) == expected


def test_only_optimizer_and_decay_differ() -> None:
    everything = dict.fromkeys(
        "adam_l2_1 adam_paper_1 adam_paper_2 sgd_l2_1 sgd_l2_3 amsgrad_l2_1 rmsprop_l2_1".split(), 0.1
    )
    shared = []
    for claim in CLAIMS:
        bench = ScriptedBench(ends(**everything))
        claim.experiment(bench, **CASE)
        for asked in bench.asked:
            for name in ("optimizer", "regularization", "lam"):
                del asked[name]
            shared.append(asked)
    assert all(asked == shared[0] for asked in shared)
    assert shared[0]["times"] == [CASE["steps"]] and shared[0]["steps"] == CASE["steps"]


def test_strengths_are_those_of_the_case() -> None:
    bench = ScriptedBench(lambda settings: {"sparsity": 0.1, "error": 0.1})
    FINDINGS["F2c"].experiment(bench, steps=10, width=8, lam=0.01)
    asked = {(a["optimizer"], a["regularization"], round(a["lam"], 9)) for a in bench.asked}
    assert asked == {
        ("adam", "paper", 0.01), ("adam", "paper", 0.02), ("sgd", "l2", 0.03)
    }  # fmt: skip


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])
def test_trains_in_small(claim: Any) -> None:
    comparison = claim.experiment(Bench(), **{**claim.cases[0], "steps": 4, "width": 4})
    assert np.all(np.abs(comparison.measured.value) <= 1)

"""Every finding says what it must, and one is checked in small from end to end."""

from __future__ import annotations

import numpy as np
import pytest

import regdyn
from regdyn import FINDINGS
from regdyn.errors import InvalidParameter
from regdyn.findings.base import SEEDS, Bench, ordered
from regdyn.theorems.base import Claim, Relation
from regdyn.theorems.estimates import Estimate
from regdyn.verdicts import HOLDS, INCONCLUSIVE, REFUTED, check_claim, judge, violations

SMALL = dict(data="digits", hidden=(8,), steps=20, batch=10)


@pytest.mark.parametrize("claim", FINDINGS.values(), ids=list(FINDINGS))
def test_every_finding_is_stated(claim: Claim) -> None:
    assert claim.recorded in (HOLDS, REFUTED, INCONCLUSIVE)
    for text in (claim.paper, claim.statement, claim.printed, claim.finding, claim.control):
        assert text.strip()
    assert claim.statement.endswith(".") and claim.finding.endswith(".")
    assert bool(claim.counterexample) <= (claim.recorded == REFUTED)
    assert {"steps", "width"} <= set(claim.domain)
    for case in (*claim.cases, *claim.more_cases):
        assert set(case) == set(claim.domain)
        assert violations(claim, case) == []


def test_the_ten_findings_are_there() -> None:
    numbers = {int(name[1:].rstrip("abcdefgh")) for name in FINDINGS}
    assert numbers == set(range(1, 11))
    assert next(iter(FINDINGS)).startswith("F1") and list(FINDINGS)[-1].startswith("F10")


def test_a_bench_trains_each_setting_once_for_each_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(seed=7)
    first = bench.runs(**SMALL)
    assert SEEDS >= 5 and [run.config.seed for run in first] == [7 + k for k in range(SEEDS)]
    assert bench.runs(**SMALL) is first
    assert bench.runs(lam=0.1, **SMALL) is not first


def test_a_run_that_fails_is_one_line() -> None:
    with pytest.raises(InvalidParameter, match="no longer finite"):
        Bench().runs(optimizer=regdyn.SGD(lr=1e30), norm="none", **SMALL)


@pytest.mark.parametrize("shift, verdict", [(0.3, HOLDS), (-0.3, REFUTED), (0.0, INCONCLUSIVE)])
def test_orders(shift: float, verdict: str) -> None:
    noise = np.random.default_rng(0).normal(size=8)
    difference = shift + 0.02 * (noise - noise.mean())
    comparison = ordered("1: a less b", difference)
    relation = Relation.AT_LEAST

    def judged(estimate: Estimate) -> str:
        low, high = estimate.interval(1e-3)
        return judge(estimate.value, low, high, relation, 0.0).verdict

    assert judged(comparison.measured) == verdict
    assert comparison.control_measured is not None
    opposite = {HOLDS: REFUTED, REFUTED: HOLDS, INCONCLUSIVE: INCONCLUSIVE}
    assert judged(comparison.control_measured) == opposite[verdict]


def test_without_regularisation_nothing_dies_in_small() -> None:
    claim = FINDINGS["F1"]
    case = {**claim.cases[0], "steps": 1500, "width": 128}
    assert check_claim(claim, Bench(), [case]).verdict == HOLDS

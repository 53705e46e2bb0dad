"""Verdicts: every claim and its control, how often a true claim is refuted, the rules, the command."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser

import regdyn
from regdyn import CLAIMS
from regdyn.cli import main
from regdyn.report import derivation, html
from regdyn.theorems.base import Range, Relation
from regdyn.verdicts import (
    HOLDS,
    INCONCLUSIVE,
    OUTSIDE,
    REFUTED,
    Finding,
    Laboratory,
    check_claim,
    judge,
    violations,
)

ROOT = Path(__file__).parent.parent

IDS = """
A1a A1b A2 A3a A3b A4 A5a A5b A5c A6 A7a A7b A8
B1 B2a B2b B2c B2d B2e B2f B2g B3 B4 B5 B6 B7 B8 B9
C1 C2a C2b C3 C4 C5 C6 C7a C7b C8 D1 D2 D3 D4
""".split()


def test_every_claim_is_registered() -> None:
    assert list(CLAIMS) == IDS


# --- Verdicts -------------------------------------------------------------------------------------


@cache
def finding(claim: str) -> Finding:
    return check_claim(CLAIMS[claim], Laboratory(seed=0))


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_verdict_is_the_one_on_record(claim: str) -> None:
    judgement = finding(claim).judgement
    assert judgement.verdict == CLAIMS[claim].recorded, judgement


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_negative_control_is_refuted(claim: str) -> None:
    judgement = finding(claim).control
    assert judgement.verdict == REFUTED, judgement


@pytest.mark.parametrize("claim", CLAIMS)
def test_numbers_are_numbers(claim: str) -> None:
    shown = finding(claim)
    assert shown.n >= 1 and not math.isnan(shown.judgement.effect)
    for comparison in shown.comparisons:
        points = comparison.measured.value.shape
        for numbers in (comparison.predicted, comparison.control, comparison.x):
            assert not np.any(np.isnan(np.broadcast_to(np.asarray(numbers, dtype=float), points)))


TRUE = [claim for claim in CLAIMS.values() if claim.recorded == HOLDS]


def by_chance(claim: str) -> bool:
    """Whether any number of the claim has an interval with a width."""
    parts = [comparison.measured.interval(0.05) for comparison in finding(claim).comparisons]
    return any(np.any(high > low) for low, high in parts)


SEEDS = 200
RATE = 0.05
"""Stated rate of a single experiment in the test of 200 seeds."""


def refutations(tolerance: float | None) -> tuple[int, int]:
    """How many of how many small experiments over all seeds refute a true claim."""
    refuted = total = 0
    for claim in TRUE:
        if not by_chance(claim.id) or (tolerance is not None and not claim.exact):
            continue
        tested = claim if tolerance is None else dataclasses.replace(claim, tolerance=tolerance)
        for seed in range(1, SEEDS + 1):
            case = claim.cases[seed % len(claim.cases)]
            small = check_claim(tested, Laboratory(seed, scale=1 / 128), [case], RATE)
            refuted += small.verdict == REFUTED
            total += 1
    return refuted, total


def test_true_claims_are_refuted_no_more_often_than_stated() -> None:
    refuted, total = refutations(None)
    assert total >= 1000
    assert refuted <= RATE * total + 3 * math.sqrt(RATE * total)


def test_without_tolerance_intervals_miss_as_often_as_stated() -> None:
    """Identities alone; Bonferroni's intervals of dependent points miss less often than they may."""
    refuted, total = refutations(0.0)
    assert total >= 4 * SEEDS
    assert 0.2 * RATE * total < refuted <= RATE * total + 3 * math.sqrt(RATE * total)


# --- Parameters from the whole domain -------------------------------------------------------------


def drawn(allowed: Range | tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if not isinstance(allowed, Range):
        return st.sampled_from(allowed)
    if allowed.integer:
        return st.integers(int(allowed.low), int(allowed.high))
    if allowed.log:
        ends = math.log(allowed.low), math.log(allowed.high)
        return st.floats(*ends).map(lambda x: min(max(math.exp(x), allowed.low), allowed.high))
    return st.floats(allowed.low, allowed.high)


@pytest.mark.parametrize("claim", TRUE, ids=lambda claim: claim.id)
def test_true_claims_hold_on_their_domain(claim: regdyn.theorems.base.Claim) -> None:
    @settings(max_examples=8, suppress_health_check=[HealthCheck.filter_too_much])
    @given(st.fixed_dictionaries({name: drawn(allowed) for name, allowed in claim.domain.items()}))
    def holds(case: dict[str, Any]) -> None:
        assume(not violations(claim, case))
        judged = check_claim(claim, Laboratory(seed=1, scale=1 / 16), [case], 1e-4).judgement
        assert judged.verdict != REFUTED, judged

    holds()


# --- Claims as data -------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_is_complete(claim: str) -> None:
    stated = CLAIMS[claim]
    assert stated.recorded in (HOLDS, REFUTED, INCONCLUSIVE)
    for text in (stated.paper, stated.statement, stated.printed, stated.finding, stated.control):
        assert text and text == text.strip()
    assert bool(stated.counterexample) == (stated.recorded == REFUTED)
    assert stated.tolerance > 0 and stated.cases
    for case in [*stated.cases, *stated.more_cases]:
        assert violations(stated, case) == []
        assert set(case) == set(stated.domain)


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_formula_can_be_drawn(claim: str) -> None:
    equation = CLAIMS[claim].equation
    assert equation.count("$") in (2, 4)
    MathTextParser("path").parse(equation)


def test_every_derivation_is_recorded() -> None:
    for claim in CLAIMS.values():
        assert (ROOT / "theory" / f"{claim.derivation}.py").is_file()
        assert derivation(claim.derivation).endswith("agrees")


# --- The rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "relation, intervals, verdict, point",
    [
        (Relation.EQUAL, [(-0.005, 0.005), (-0.009, 0.002)], HOLDS, 1),
        (Relation.EQUAL, [(-0.005, 0.005), (-0.011, 0.002)], INCONCLUSIVE, 1),
        (Relation.EQUAL, [(-0.5, 0.5), (0.011, 0.3)], REFUTED, 1),
        (Relation.EQUAL, [(-0.3, -0.02), (0.011, 0.3)], REFUTED, 0),
        (Relation.AT_MOST, [(-5.0, -4.0), (-1.0, 0.009)], HOLDS, 1),
        (Relation.AT_MOST, [(-5.0, -4.0), (-1.0, 0.011)], INCONCLUSIVE, 1),
        (Relation.AT_MOST, [(0.02, 0.03), (-1.0, 9.0)], REFUTED, 0),
        (Relation.AT_LEAST, [(4.0, 5.0), (-0.009, 1.0)], HOLDS, 1),
        (Relation.AT_LEAST, [(-1.0, -0.02), (0.0, 1.0)], REFUTED, 0),
        (Relation.EQUAL, [(math.nan, math.nan)], INCONCLUSIVE, 0),
        (Relation.EQUAL, [(math.inf, math.inf)], REFUTED, 0),
    ],
)
def test_judge(
    relation: Relation, intervals: list[tuple[float, float]], verdict: str, point: int
) -> None:
    low, high = np.array(intervals).T
    judged = judge((low + high) / 2, low, high, relation, 0.01)
    assert (judged.verdict, judged.point) == (verdict, point)


def test_the_verdict_is_computed_and_not_read() -> None:
    claim = CLAIMS["A1a"]
    wrong = dataclasses.replace(claim, recorded=REFUTED)
    judged = check_claim(wrong, Laboratory())
    assert judged.verdict == HOLDS and not judged.as_recorded


def test_parameters_outside_say_so() -> None:
    report = regdyn.check(["A1a"], parameters={"momentum": 0.95, "lam": 0.9, "lr": 1.0})
    (judged,) = report.findings
    assert judged.verdict == OUTSIDE and judged.control.verdict == OUTSIDE and not report.as_recorded
    assert any("lr lambda <= (1 - sqrt mu)^2" in text for text in judged.violated)
    assert judged.to_dict()["effect"] is None


def test_parameters_replace_those_of_the_cases() -> None:
    report = regdyn.check(["A1a"], parameters={"momentum": "0.3", "lam": 0.2, "lr": 0.5})
    assert report.findings[0].cases == [{"momentum": 0.3, "lam": 0.2, "lr": 0.5}]
    assert report.findings[0].verdict == HOLDS


def test_beginnings_of_ids() -> None:
    assert [f.claim.id for f in regdyn.check("a2").findings] == ["A2"]
    report = regdyn.check(["D", "A1a", "A1"])
    assert [f.claim.id for f in report.findings] == ["A1a", "A1b", "D1", "D2", "D3", "D4"]


def test_the_same_seed_gives_the_same_numbers() -> None:
    a, b = (regdyn.check(["D1"], seed=5, threads=n).findings[0].judgement for n in (1, 2))
    assert a == b != regdyn.check(["D1"], seed=6).findings[0].judgement


# --- The command ----------------------------------------------------------------------------------

KEYS = [
    "id", "paper", "statement", "verdict", "recorded", "effect", "ci_low", "ci_high", "tolerance",
    "n", "seed", "seconds", "control",
]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["check", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "A1a", "A1b")
    assert code == 0
    words = [line.split() for line in out.splitlines()]
    assert [row[0] for row in words if row and row[0].startswith("A1")] == ["A1a", "A1b"]
    assert "2 claims, budget quick, seed 0" in out and "Not as on record" not in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "A1", "--json", "--seed", "3")
    shown = json.loads(out)["claims"]
    assert code == 0 and [claim["id"] for claim in shown] == ["A1a", "A1b"]
    assert all(list(claim) == KEYS for claim in shown)
    assert shown[0]["seed"] == 3 and shown[0]["control"] == REFUTED


def test_a_verdict_off_the_record_is_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CLAIMS, "A1a", dataclasses.replace(CLAIMS["A1a"], recorded=REFUTED))
    code, out, _ = run(capsys, "A1a")
    assert code == 1 and "Not as on record: A1a." in out


def test_a_control_that_survives_is_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = CLAIMS["A1a"]

    def harmless(lab: Any, **case: Any) -> Any:
        comparison = claim.experiment(lab, **case)
        return dataclasses.replace(comparison, control=comparison.predicted)

    monkeypatch.setitem(CLAIMS, "A1a", dataclasses.replace(claim, experiment=harmless))
    code, out, _ = run(capsys, "A1a")
    assert code == 1 and "Negative control not refuted: A1a." in out


def test_html(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    assert run(capsys, "A1", "D2", "--html", str(target), "--quiet") == (0, "", "")
    text = target.read_text()
    assert text.count("<section id=") == 3 and text.count("<svg") == 6
    assert not any(f'{attribute}="http' in text for attribute in ("src", "href"))
    assert "regdyn.theorems.momentum_sgd agrees" in text
    ids = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    code, _, err = run(capsys, "A1", "--html", str(target))
    assert code == 2 and "--html must be a new file (--force overwrites)" in err


def test_html_of_parameters_outside() -> None:
    text = html(regdyn.check(["A1a"], parameters={"momentum": 0.99999}))
    assert "outside assumptions" in text and "momentum must be in" in text


BAD = {
    "A9": "CLAIM must be one of A1a, A1b, .*, D4",
    "A1a --budget huge": "--budget must be one of quick, full",
    "A1a --seed -1": "--seed must be an integer",
    "A1a --threads 0": "--threads must be an integer",
    "A1a --set momentum": "--set must be NAME=VALUE, got 'momentum'",
    "A1a --set beta=1": r"--set must be a parameter of A1a \(.*\), got beta",
    "A1a --set lam=x": "--lam must be a number",
    "A1a --html x.txt": "--html must be a file that ends in .html",
    "A1a --html {tmp}/no/x.html": "--html must be in an existing folder",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: str) -> None:
    code, out, err = run(capsys, *shlex.split(arguments.format(tmp=tmp_path)))
    assert (code, out) == (2, "")
    assert re.search(BAD[arguments], err) and err.startswith("Error: ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# --- The pages ------------------------------------------------------------------------------------


def test_the_pages_of_the_docs_are_up_to_date() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("make_claims", ROOT / "docs" / "make_claims.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path, text in module.pages().items():
        assert path.read_text("utf-8") == text, f"run python docs/make_claims.py ({path.name})"
    for name, registry in module.REGISTRIES.items():
        folder = ROOT / "docs" / name
        assert {path.stem for path in folder.glob("*.md")} == set(registry)
        record = json.loads((folder / "record.json").read_text())
        assert {r["id"]: r["verdict"] for r in record["claims"]} == {
            claim.id: claim.recorded for claim in registry.values()
        }

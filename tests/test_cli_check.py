"""`regdyn check --findings` as its users meet it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regdyn.cli import main
from regdyn.cli.check import _about
from regdyn.findings import FINDINGS
from regdyn.findings.base import Bench, ordered
from regdyn.report import html
from regdyn.theorems.base import Claim, Comparison, Relation
from regdyn.verdicts import CheckReport, check

FIRST = next(iter(FINDINGS))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["check", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def quick(bench: Bench, **case: Any) -> Comparison:
    """What training might have measured."""
    noise = np.random.default_rng(bench.seed).normal(0, 0.001, (2, bench.seeds))
    return ordered("1: less without decay, 2: <less> with SGD", 0.2 + noise[0], 0.1 + noise[1])


@pytest.fixture
def finding(monkeypatch: pytest.MonkeyPatch) -> Claim:
    """The first one, with an experiment that takes no time."""
    changed = dataclasses.replace(
        FINDINGS[FIRST], experiment=quick, relation=Relation.AT_LEAST, tolerance=0.0, recorded="holds"
    )
    monkeypatch.setitem(FINDINGS, FIRST, changed)
    return changed


def report() -> CheckReport:
    return check([FIRST], findings=True)


def test_table(capsys: pytest.CaptureFixture[str], finding: Claim) -> None:
    code, out, err = run(capsys, "--findings", FIRST)
    assert (code, err) == (0, "")
    (row,) = [line.split() for line in out.splitlines() if line.strip().startswith(FIRST)]
    assert "holds" in row and row[-1] == "refuted" and str(Bench().seeds) in row
    assert out.splitlines()[1].split()[:2] == ["finding", "paper"]
    assert "1 finding, budget quick" in out and "for a run of all findings." in out
    assert "claims" not in out


def test_json_equals_python(capsys: pytest.CaptureFixture[str], finding: Claim) -> None:
    code, out, _ = run(capsys, "--findings", FIRST, "--json", "--seed", "3")
    (shown,) = json.loads(out)["claims"]
    (same,) = check([FIRST], findings=True, seed=3).to_dict()["claims"]
    seconds = {"seconds": 0.0}
    assert code == 0 and shown | seconds == same | seconds and shown["id"] == FIRST


def test_not_as_on_record(
    capsys: pytest.CaptureFixture[str], finding: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FINDINGS, FIRST, dataclasses.replace(finding, recorded="refuted"))
    code, out, _ = run(capsys, "--findings", FIRST)
    assert code == 1 and f"Not as on record: {FIRST}." in out


def test_html(capsys: pytest.CaptureFixture[str], finding: Claim, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    arguments = ["--findings", FIRST, "--html", str(target), "--quiet"]
    assert run(capsys, *arguments) == (0, "", "")
    text = target.read_text()
    assert "<h1>What the papers report of networks, tested on a small one</h1>" in text
    assert "1 findings: 1 hold" in text
    assert text.count("<svg") == 1, "a picture, and no equation"
    assert "<details>" not in text and "Derivation" not in text and "formula" not in text
    assert f"<dt>paper</dt><dd>{finding.paper}</dd>" in text


def test_html_of_claims_has_equations_and_derivations() -> None:
    text = html(check(["A1a"]))
    assert "<h1>What the papers claim, tested</h1>" in text and text.count("<svg") == 2
    assert "<details><summary>Derivation, as recorded" in text and "<dt>formula</dt>" in text


def test_progress_says_what_a_finding_is_about() -> None:
    assert _about(FIRST) == f" (1 of {len(FINDINGS)}): {FINDINGS[FIRST].statement}"


@pytest.mark.parametrize("claim", ["F1", "f2", "F", "F10a"])
def test_without_the_flag_it_is_asked_for(capsys: pytest.CaptureFixture[str], claim: str) -> None:
    code, out, err = run(capsys, claim)
    assert (code, out, err) == (2, "", f"Error: --findings must be given to check {claim}\n")


def test_theorems_are_no_findings(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--findings", "A1")
    assert (code, out) == (2, "") and err.startswith(f"Error: CLAIM must be one of {FIRST}")
    assert err.count("\n") == 1

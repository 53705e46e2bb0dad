"""Width and depth: what the experiments make of given ends, and one real run in small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import found

from regdyn.findings.base import Bench
from regdyn.findings.width_and_depth import CLAIMS, growth
from regdyn.verdicts import HOLDS, REFUTED

NUMBERS = st.floats(1, 1e4)


@given(narrow=NUMBERS, p=st.floats(-2, 2), factor=st.floats(1.5, 100))
def test_growth_inverts_the_power(narrow: float, p: float, factor: float) -> None:
    wide = narrow * factor**p
    if wide >= 1:
        assert growth(np.array([narrow]), np.array([wide]), factor) == pytest.approx([p], abs=1e-9)


def test_growth_without_survivors() -> None:
    assert growth(np.zeros(1), np.array([4.0]), 4.0) == pytest.approx([1.0])


@pytest.mark.parametrize(
    "shares, verdict, control",
    [
        ({128: 0.4, 64: 0.2, 32: 0.05}, HOLDS, REFUTED),
        ({128: 0.4, 64: 0.2, 32: 0.3}, REFUTED, REFUTED),
        ({128: 0.1, 64: 0.2, 32: 0.3}, REFUTED, HOLDS),
    ],
)
def test_narrower(shares: dict[int, float], verdict: str, control: str) -> None:
    finding = found("F6a", lambda settings: shares[settings["hidden"][0]])
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


@pytest.mark.parametrize(
    "p, verdict, control", [(0.0, HOLDS, REFUTED), (0.5, REFUTED, REFUTED), (1.0, REFUTED, HOLDS)]
)
def test_saturation(p: float, verdict: str, control: str) -> None:
    def dead(settings: dict[str, Any]) -> float:
        (width,) = settings["hidden"]
        return float(1 - 70 * (width / 250) ** p / width)

    finding = found("F6b", dead)
    assert finding.judgement.effect == pytest.approx(p, abs=0.02)
    assert (finding.verdict, finding.control.verdict) == (verdict, control)


@pytest.mark.parametrize("narrow, verdict, control", [(0.0, HOLDS, REFUTED), (0.7, REFUTED, HOLDS)])
def test_narrow_layers_keep_their_units(narrow: float, verdict: str, control: str) -> None:
    finding = found("F6c", lambda settings: narrow if settings["hidden"][0] < 100 else 0.7)
    assert finding.verdict == verdict
    assert (finding.control.verdict == REFUTED) == (control == REFUTED)
    assert np.array_equal(finding.comparisons[0].x, [10, 25])


@pytest.mark.parametrize(
    "three, five, verdict",
    [
        ((0.4, 0.8, 0.1), (0.4, 0.7, 0.8, 0.9, 0.1), HOLDS),
        ((0.4, 0.3, 0.1), (0.4, 0.7, 0.8, 0.9, 0.1), REFUTED),
        ((0.4, 0.8, 0.9), (0.4, 0.7, 0.8, 0.9, 0.1), REFUTED),
        ((0.4, 0.8, 0.1), (0.9, 0.7, 0.8, 0.9, 0.1), REFUTED),
        ((0.4, 0.8, 0.1), (0.4, 0.7, 0.8, 0.9, 0.95), REFUTED),
    ],
)
def test_middle_layers(three: tuple[float, ...], five: tuple[float, ...], verdict: str) -> None:
    finding = found("F10d", lambda settings: {3: three, 5: five}[len(settings["hidden"])])
    assert finding.verdict == verdict
    assert finding.control.verdict == REFUTED


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])
def test_trains_in_small(claim: Any) -> None:
    comparison = claim.experiment(Bench(), steps=8, width=40, lam=1e-3)
    assert np.all(np.abs(comparison.measured.value) <= 1.1)
    low, high = comparison.measured.interval(0.01)
    assert np.all((low <= comparison.measured.value) & (comparison.measured.value <= high))

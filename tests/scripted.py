"""A bench whose runs end as a test says, to see what experiments make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from regdyn import FINDINGS
from regdyn.findings.base import SEEDS
from regdyn.verdicts import Finding, check_claim

Settings = dict[str, Any]


class ScriptedBench:
    """`Bench`, with `end` in place of training: settings to what is known of one run.

    What `end` returns gets the seed's small deviation where it is a share of units.
    """

    seed, seeds = 0, SEEDS

    def __init__(self, end: Callable[[Settings], Any], spread: float = 0.002) -> None:
        self._end, self._spread = end, spread
        self.asked: list[Settings] = []

    def runs(self, **settings: Any) -> list[Any]:
        self.asked.append(settings)
        return [run(self._end(settings), settings, self._deviation(k)) for k in range(SEEDS)]

    def _deviation(self, k: int) -> float:
        return self._spread * (1 if k % 2 else -1)


def run(end: Any, settings: Settings, deviation: float) -> SimpleNamespace:
    """A run of which `end` gives the share of dead units, that of each layer, or attributes."""
    if isinstance(end, dict):
        return SimpleNamespace(**end)
    shares = list(end) if isinstance(end, Sequence) else [end] * len(settings["hidden"])
    dead = [
        np.arange(units) < round(units * np.clip(share + deviation, 0, 1))
        for share, units in zip(shares, settings["hidden"])
    ]
    return SimpleNamespace(inactive=tuple(dead), sparsity=float(np.mean(np.concatenate(dead))))


def found(name: str, end: Callable[[Settings], Any], **case: Any) -> Finding:
    """The verdict on a finding if every run ended so; `case` changes the first of its cases."""
    claim = FINDINGS[name]
    return check_claim(claim, ScriptedBench(end), [{**claim.cases[0], **case}])  # type: ignore[arg-type]

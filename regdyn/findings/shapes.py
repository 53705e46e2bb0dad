"""The drawn shapes on which several findings are tested, and how networks are trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from regdyn.dynamics.schedules import Step
from regdyn.findings.base import DOMAIN, Array, Bench, paired
from regdyn.nets.result import TrainResult
from regdyn.theorems.base import Comparison, Range

N_TEST = 5000
"""So large a test set that the errors of two runs can be told apart to a quarter of a percent."""

CLASSES = 5
"""So few that a network of 2 x 256 units has many to spare."""

DROP = 0.9
"""Share of the steps after which the learning rate falls by 10.

Later than in mehta2019 (section 2.1, after 250 of 325 epochs), whose runs are 70 times as long.
"""

MARGIN = 0.01
"""Test errors that differ by at most this share of the test set are comparable."""

CASE: dict[str, Any] = {"steps": 6000, "width": 256, "lam": 1.5e-3}
"""So many steps that weight decay too brings an idle scale below 1e-3: to exp(-8.2) = 3e-4."""


def domain(low: float, high: float) -> dict[str, Range | tuple[Any, ...]]:
    """That of all findings, with lambda in [low, high] only."""
    return {**{name: DOMAIN[name] for name in ("steps", "width")}, "lam": Range(low, high, log=True)}


def trained(
    bench: Bench,
    optimizer: str,
    regularization: str,
    *,
    lam: float,
    steps: int,
    width: int,
    classes: int = CLASSES,
    clutter: float = 0.0,
) -> list[TrainResult]:
    """Runs on `regdyn.nets.data.synthetic` that record their last step alone."""
    cluttered = f",clutter={clutter:g}" if clutter else ""
    return bench.runs(
        optimizer=optimizer,
        regularization=regularization,
        lam=lam,
        hidden=(width, width),
        steps=steps,
        data=f"synthetic:classes={classes},n_test={N_TEST}{cluttered}",
        schedule=Step((max(1, round(DROP * steps)),)),
        times=[steps],
    )


def against(label: str, differences: Sequence[Array], wrong: Sequence[Array]) -> Comparison:
    """That each difference is at least 0 on average; the negative control says it of each in `wrong`.

    Arrays of shape (seeds,), as many of them in `wrong` as in `differences`.
    """
    points = np.arange(1, len(differences) + 1)
    zero = np.zeros(len(points))
    return Comparison(
        measured=paired(*differences),
        predicted=zero,
        control=zero,
        control_measured=paired(*wrong),
        scale=np.ones(len(points)),
        x=points,
        x_label=label,
        y_label="difference of shares",
    )

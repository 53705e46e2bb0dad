"""Where findings get their training runs, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regdyn.errors import InvalidParameter
from regdyn.nets.result import TrainResult
from regdyn.nets.training import TrainConfig, train
from regdyn.parameters import check_integer
from regdyn.theorems import estimates
from regdyn.theorems.base import Comparison, Range
from regdyn.theorems.estimates import Estimate

Array = NDArray[np.float64]

SEEDS = 8
"""Runs of each setting in the quick budget."""

DOMAIN: dict[str, Range | tuple[Any, ...]] = {
    "steps": Range(1500, 100_000, log=True, integer=True),
    "width": Range(16, 2000, log=True, integer=True),
    "lam": Range(1e-5, 1e-1, log=True),
}
"""For which steps, widths of the hidden layers and strengths of the decay findings are claimed.

An idle scale needs 1 / lr = 1,000 steps to fall from 1 to 0 under Adam.
"""


class Bench:
    """Trains networks, each setting once for each seed; what was trained before is remembered.

    Parameters
    ----------
    seed
        The first of the seeds.
    scale
        Factor on `SEEDS`.
    threads
        As in `regdyn.train`.
    notify_compile
        Told the name of an optimizer if a kernel must be compiled.
    """

    def __init__(
        self,
        seed: int = 0,
        scale: float = 1.0,
        threads: int | None = None,
        notify_compile: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.seed = check_integer("seed", seed, 0, 2**63)
        self.seeds = max(5, round(SEEDS * scale))
        self._threads = threads
        self._notify_compile = notify_compile
        self._known: dict[str, list[TrainResult]] = {}

    def runs(self, **settings: Any) -> list[TrainResult]:
        """One run of `TrainConfig(**settings)` for each seed.

        Raises
        ------
        InvalidParameter
            For settings that cannot be used, or under which a run fails.
        """
        key = repr(sorted(settings.items()))
        if key not in self._known:
            configs = [TrainConfig(seed=self.seed + k, **settings) for k in range(self.seeds)]
            name = configs[0].rule.name
            results = train(
                configs, threads=self._threads, notify_compile=lambda: self._notify_compile(name)
            )
            for result in results:
                if result.failed:
                    raise InvalidParameter("set", "such that training stays finite", result.failed)
            self._known[key] = results
        return self._known[key]


def sparsity(runs: Sequence[TrainResult]) -> Array:
    """Share of dead units of each run."""
    return np.array([run.sparsity for run in runs])


def error(runs: Sequence[TrainResult]) -> Array:
    """Test error of each run."""
    return np.array([run.error for run in runs])


def ordered(x_label: str, *differences: Array) -> Comparison:
    """That each difference between runs of equal seeds, of shape (seeds,), is at least 0 on average.

    The negative control claims the opposite order, and with it that there is a difference at all.
    """
    points = np.arange(1, len(differences) + 1)
    return Comparison(
        measured=paired(*differences),
        predicted=np.zeros(len(points)),
        control=np.zeros(len(points)),
        control_measured=paired(*(-difference for difference in differences)),
        scale=np.ones(len(points)),
        x=points,
        x_label=x_label,
        y_label="difference of shares",
    )


def paired(*differences: Array) -> Estimate:
    """Means of differences between runs of equal seeds, one point for each array of shape (seeds,)."""
    return estimates.mean(np.stack(differences, axis=1))

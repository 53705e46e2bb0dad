"""Which scales fall below the threshold under noise and decay alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from regdyn.nets.sparsity import Array, Mask
from regdyn.optimizers import Optimizer
from regdyn.prediction import Prediction, predict

GRID = 9
"""Scales for which a prediction is made before the largest that passes is looked for."""

FINE = 65
"""Scales between which it is interpolated where there is no such one."""

Schedule = Callable[[NDArray[np.int64]], ArrayLike] | ArrayLike | None


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What the scales live under from now on, the optimizer starting anew.

    Attributes
    ----------
    optimizer
        The rule with its hyperparameters, its learning rate that of gamma.
    lam, regularization
        Strength and placement of the decay of gamma.
    sigma
        Std of the gradient noise of gamma.
    schedule
        Factors on the learning rate, as for `regdyn.predict`; None for a constant one.
    steps
        How many.
    threshold
        Below it a filter counts as dead.
    """

    optimizer: Optimizer
    lam: float
    regularization: str
    sigma: float
    schedule: Schedule
    steps: int
    threshold: float

    @property
    def words(self) -> str:
        """In a few words."""
        decay = "no decay" if self.regularization == "none" else f"{self.regularization} {self.lam:g}"
        factors = "" if self.scheduled is None else " x {:g} to {:g}".format(*self.scheduled)
        return (
            f"{self.optimizer.name}, {decay} (learning rate {self.optimizer.lr:g}{factors}, gradient "
            f"noise {self.sigma:.2g})"
        )

    @property
    def scheduled(self) -> tuple[float, float] | None:
        """Factors on the learning rate at the first and at the last step; None for a constant one."""
        if self.schedule is None:
            return None
        ends = np.array([1, self.steps])
        if callable(self.schedule):
            first, last = np.asarray(self.schedule(ends), dtype=float).tolist()
        else:
            given = np.atleast_1d(np.asarray(self.schedule, dtype=float))
            first, last = given[np.minimum(ends, len(given)) - 1].tolist()
        return first, last

    def predict(self, scale: float) -> Prediction:
        """What becomes of one scale."""
        return predict(
            self.optimizer, lam=self.lam, regularization=self.regularization, sigma=[self.sigma],
            schedule=self.schedule, theta0=scale, threshold=self.threshold, steps=self.steps,
        )  # fmt: skip

    def crossing(self, scales: Array) -> Crossing:
        """What becomes of these scales, all above the threshold.

        Later ones do not pass sooner: the largest that passes is bisected. Where the predictions on a
        grid say otherwise, they are interpolated.

        Raises
        ------
        OutsideDomain
            Where a scale diverges.
        """
        if not len(scales):
            return Crossing(np.zeros(0, dtype=np.bool_), np.zeros(0), True)
        made: dict[float, Prediction] = {}

        def passes(scale: float) -> bool:
            made[scale] = self.predict(scale)
            return made[scale].median_steps <= self.steps

        known = np.unique(scales).tolist()
        places = sorted({round(place) for place in np.linspace(0, len(known) - 1, GRID).tolist()})
        passed = [passes(known[place]) for place in places]
        monotone = passed == sorted(passed, reverse=True)
        if monotone:
            number = passed.count(True)
            inside = places[number - 1] if number else -1
            outside = places[number] if number < len(places) else len(known)
            while outside - inside > 1:
                middle = (inside + outside) // 2
                if passes(known[middle]):
                    inside = middle
                else:
                    outside = middle
            crosses = scales <= known[inside] if inside >= 0 else np.zeros(len(scales), dtype=np.bool_)
        else:
            for scale in np.geomspace(known[0], known[-1], FINE).tolist():
                passes(scale)
        at = sorted(made)
        logs = np.log(scales), np.log(at)
        if not monotone:
            medians = np.clip([made[scale].median_steps for scale in at], 1e-3, 1e15)
            crosses = np.interp(*logs, np.log(medians)) <= math.log(self.steps)
        below = np.interp(*logs, [_below_at_end(made[scale]) for scale in at])
        return Crossing(np.asarray(crosses), np.asarray(below), monotone)


def _below_at_end(prediction: Prediction) -> float:
    """Probability that a Gaussian scale is within the threshold after the last step."""
    edge, mean, std = prediction.threshold, prediction.mean, prediction.std
    if std == 0:
        return float(abs(mean) < edge)
    return float(ndtr((edge - mean) / std) - ndtr((-edge - mean) / std))


@dataclass(frozen=True, eq=False)
class Crossing:
    """What becomes of scales, shape (scales,).

    Attributes
    ----------
    crosses
        Those whose median first passage below the threshold comes within the steps.
    below
        The probability of each to be below the threshold after the last step.
    monotone
        Whether no larger scale crosses than one that does not, as far as was looked.
    """

    crosses: Mask
    below: Array
    monotone: bool

    def count(self, idle: Mask) -> Counts:
        """In numbers, of the scales that are `idle` and of all."""
        crosses, below = self.crosses, self.below
        return Counts(
            idle=int(crosses[idle].sum()),
            at_most=int(crosses.sum()),
            idle_below=float(below[idle].sum()),
            at_most_below=float(below.sum()),
        )


@dataclass(frozen=True)
class Counts:
    """How many filters cross.

    Attributes
    ----------
    idle
        Of those that practically never fire.
    at_most
        Of all: what a filter learns holds it.
    idle_below, at_most_below
        The expected number of the same that are below the threshold after the last step: a scale that
        noise carries there does not stay.
    """

    idle: int
    at_most: int
    idle_below: float
    at_most_below: float

    def words(self) -> str:
        """In short; what is below in the end only where that is another number."""
        words = f"{self.idle:,} and at most {self.at_most:,}"
        if abs(self.at_most_below - self.at_most) > max(1, 0.1 * self.at_most):
            words += f" ({self.idle_below:,.0f} and {self.at_most_below:,.0f} at the end)"
        return words

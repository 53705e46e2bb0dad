"""Claims against simulations: the only place where the two meet."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.parameters import check_integer
from regdyn.theorems.base import Claim, Comparison, Relation, UnitEnsemble, WeightEnsemble

Array = NDArray[np.float64]

ERROR_RATE = 0.01
"""Probability that any of the true claims on record is refuted in one run of all of them."""

BUDGETS = {"quick": 1.0, "full": 4.0}
"""Budgets, and by what each multiplies the sizes of ensembles."""

HOLDS, REFUTED, INCONCLUSIVE, OUTSIDE = "holds", "refuted", "inconclusive", "outside assumptions"

# What an effect may differ from 0 by rounding alone, in claims that are compared without tolerance.
_ROUNDING = 1e-9


class Laboratory:
    """A `regdyn.theorems.base.Lab` on the simulator.

    Parameters
    ----------
    seed
        Key of the random numbers.
    scale
        Factor on the sizes of the ensembles.
    threads
        As in `regdyn.simulate`.
    """

    def __init__(self, seed: int = 0, scale: float = 1.0, threads: int | None = None) -> None:
        self.seed = check_integer("seed", seed, 0, 2**63)
        self._scale = scale
        self._threads = threads

    def size(self, n: int) -> int:
        # Whole blocks of lanes cost what a part of one costs.
        return max(256, 256 * round(n * self._scale / 256))

    def generator(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def normals(self, n: int) -> Array:
        from regdyn.dynamics.noise import Gaussian
        from regdyn.dynamics.scalar import sample_noise

        steps = 256
        columns = -(-n // steps)
        return sample_noise(Gaussian(1.0), steps, columns, self._key(0)).ravel()[:n]

    def _key(self, replicate: int) -> int:
        return (self.seed + replicate * 0x9E3779B97F4A7C15) % 2**64

    def weight(
        self,
        optimizer: str,
        *,
        steps: int,
        trajectories: int = 1,
        theta0: float = 1.0,
        regularization: str = "l2",
        lam: float = 0.0,
        sigma: ArrayLike = 0.0,
        gradients: ArrayLike | None = None,
        schedule: ArrayLike | None = None,
        curvature: float = 0.0,
        target: float = 0.0,
        threshold: float = 1e-3,
        times: ArrayLike | None = None,
        keep: int = 0,
        replicate: int = 0,
        **hyperparameters: Any,
    ) -> WeightEnsemble:
        from regdyn.dynamics.noise import Gaussian, Noise, NoNoise, Signal, Trace
        from regdyn.dynamics.scalar import ScalarConfig
        from regdyn.dynamics.schedules import Constant, Table
        from regdyn.optimizers import make_optimizer

        noise: Noise = NoNoise()
        if gradients is not None:
            noise = Trace(gradients)
        elif np.any(np.asarray(sigma)):
            noise = Gaussian(sigma)
        return ScalarConfig(
            optimizer=make_optimizer(optimizer, **hyperparameters),
            lam=lam,
            regularization=regularization,
            schedule=Constant() if schedule is None else Table(schedule),
            noise=noise,
            signal=Signal(curvature, target),
            theta0=theta0,
            steps=steps,
            trajectories=trajectories,
            threshold=threshold,
            times=times,
            keep=keep,
            seed=self._key(replicate),
        ).run(threads=self._threads)

    def unit(
        self,
        optimizer: str,
        *,
        steps: int,
        trajectories: int,
        gamma0: ArrayLike = 1.0,
        beta0: ArrayLike = 0.0,
        c: ArrayLike = 1.0,
        batch: int = 1,
        alpha: float = 0.0,
        regularization: str = "none",
        lam: float = 0.0,
        schedule: ArrayLike | None = None,
        antithetic: bool = False,
        threshold: float = 1e-3,
        times: ArrayLike | None = None,
        keep: int = 0,
        replicate: int = 0,
        **hyperparameters: Any,
    ) -> UnitEnsemble:
        from regdyn.dynamics.neuron import NeuronConfig
        from regdyn.dynamics.schedules import Constant, Table
        from regdyn.optimizers import make_optimizer

        return NeuronConfig(
            optimizer=make_optimizer(optimizer, **hyperparameters),
            lam=lam,
            regularization=regularization,
            schedule=Constant() if schedule is None else Table(schedule),
            gamma0=gamma0,
            beta0=beta0,
            c=c,
            batch=batch,
            alpha=alpha,
            antithetic=antithetic,
            steps=steps,
            trajectories=trajectories,
            threshold=threshold,
            times=times,
            keep=keep,
            seed=self._key(replicate),
        ).run(threads=self._threads)


@dataclass(frozen=True)
class Judgement:
    """A verdict with the numbers at the point that decided it."""

    verdict: str
    effect: float
    low: float
    high: float
    point: int


def judge(effect: Array, low: Array, high: Array, relation: Relation, tolerance: float) -> Judgement:
    """The verdict on effects with intervals.

    An effect is within the tolerance if |effect| <= tolerance (EQUAL), effect <= tolerance (AT_MOST) or
    effect >= -tolerance (AT_LEAST). The claim is refuted if the interval of any point lies wholly
    outside, holds if those of all points lie wholly inside, and is inconclusive otherwise. The point
    farthest outside is reported, or the one that comes closest to it.
    """
    tolerance = max(tolerance, _ROUNDING)
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    if relation is Relation.EQUAL:
        surely, possibly = np.maximum(low, -high), np.maximum(-low, high)
    elif relation is Relation.AT_MOST:
        surely, possibly = low, high
    else:
        surely, possibly = -high, -low
    if np.any(surely > tolerance):
        verdict, point = REFUTED, int(np.argmax(surely))
    elif np.all(possibly <= tolerance):
        verdict, point = HOLDS, int(np.argmax(possibly))
    else:
        verdict, point = INCONCLUSIVE, int(np.argmax(possibly))
    return Judgement(verdict, float(effect[point]), float(low[point]), float(high[point]), point)


def effects(comparison: Comparison, predicted: ArrayLike, alpha: float) -> tuple[Array, Array, Array]:
    """(measured - predicted) / scale of every point, and the ends of its interval of error alpha."""
    expected = np.broadcast_to(np.asarray(predicted, dtype=float), comparison.measured.value.shape)
    scale = np.abs(expected) if comparison.scale is None else np.asarray(comparison.scale, dtype=float)
    low, high = comparison.measured.interval(alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = (comparison.measured.value - expected) / scale
        return effect, (low - expected) / scale, (high - expected) / scale


@dataclass(frozen=True)
class Finding:
    """What came out for one claim: its verdict, and the comparisons behind it."""

    claim: Claim
    judgement: Judgement
    control: Judgement
    cases: Sequence[Mapping[str, Any]]
    comparisons: Sequence[Comparison]
    violated: Sequence[str]
    n: int
    seed: int
    seconds: float

    @property
    def verdict(self) -> str:
        return self.judgement.verdict

    @property
    def as_recorded(self) -> bool:
        """Whether the verdict is the one on record and the negative control was refuted."""
        return self.verdict == self.claim.recorded and self.control.verdict == REFUTED


def check_claim(
    claim: Claim,
    lab: Laboratory,
    cases: Sequence[Mapping[str, Any]] | None = None,
    error_rate: float = ERROR_RATE,
) -> Finding:
    """Run the experiment of one claim on all cases, the quick budget's where None, and judge it.

    `error_rate` is the probability that the claim is refuted though it holds. It is shared out evenly
    over the points of all cases (Bonferroni), whose intervals hold together.
    """
    begin = time.perf_counter()
    cases = claim.cases if cases is None else cases
    violated = [
        f"{assumption.text} ({', '.join(f'{k} = {v}' for k, v in case.items())})"
        for case in cases
        for assumption in claim.assumptions
        if not assumption.holds(case)
    ]
    if violated:
        nothing = Judgement(OUTSIDE, np.nan, np.nan, np.nan, -1)
        return Finding(
            claim, nothing, nothing, cases, (), violated, 0, lab.seed, time.perf_counter() - begin
        )
    comparisons = [claim.experiment(lab, **case) for case in cases]
    points = sum(len(comparison.measured.value) for comparison in comparisons)
    alpha = error_rate / points

    def verdict_on(predictions: Sequence[ArrayLike]) -> Judgement:
        parts = [effects(c, predicted, alpha) for c, predicted in zip(comparisons, predictions)]
        effect, low, high = (np.concatenate(part) for part in zip(*parts))
        return judge(effect, low, high, claim.relation, claim.tolerance)

    judgement = verdict_on([comparison.predicted for comparison in comparisons])
    control = verdict_on([comparison.control for comparison in comparisons])
    edges = np.cumsum([len(comparison.measured.value) for comparison in comparisons])
    decided = comparisons[int(np.searchsorted(edges, judgement.point, side="right"))]
    return Finding(
        claim, judgement, control, cases, comparisons, (), decided.measured.n, lab.seed,
        time.perf_counter() - begin,
    )  # fmt: skip

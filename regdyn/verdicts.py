"""Claims against simulations: the only place where the two meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.errors import InvalidParameter
from regdyn.parameters import check_choice, check_integer, check_number
from regdyn.theorems import CLAIMS
from regdyn.theorems.base import (
    Claim,
    Comparison,
    Parameters,
    Range,
    Relation,
    UnitEnsemble,
    WeightEnsemble,
)

if TYPE_CHECKING:
    from regdyn.dynamics.ensemble import EnsembleConfig
    from regdyn.findings.base import Bench

Array = NDArray[np.float64]

ERROR_RATE = 0.01
"""Probability that any of the true claims on record is refuted in one run of all of them."""

BUDGETS = {"quick": 1.0, "full": 4.0}
"""Budgets, and by what each multiplies the sizes of ensembles."""

HOLDS, REFUTED, INCONCLUSIVE, OUTSIDE = "holds", "refuted", "inconclusive", "outside assumptions"


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
    notify_compile
        Told the name of an optimizer whose kernel must be compiled.
    """

    def __init__(
        self,
        seed: int = 0,
        scale: float = 1.0,
        threads: int | None = None,
        notify_compile: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.seed = check_integer("seed", seed, 0, 2**63)
        self._scale = scale
        self._threads = threads
        self._notify_compile = notify_compile

    def _running(self, config: EnsembleConfig) -> dict[str, Any]:
        name = config.rule.name
        return {"threads": self._threads, "notify_compile": lambda: self._notify_compile(name)}

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
        config = ScalarConfig(
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
        )
        return config.run(**self._running(config))

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

        config = NeuronConfig(
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
        )
        return config.run(**self._running(config))


@dataclass(frozen=True)
class Judgement:
    """A verdict with the numbers at the point that decided it."""

    verdict: str
    effect: float
    low: float
    high: float
    point: int

    @property
    def interval(self) -> str:
        """The interval in three digits."""
        if self.low == self.high:
            return "exact"
        return f"{self.low:.3g} … {self.high:.3g}"


def judge(effect: Array, low: Array, high: Array, relation: Relation, tolerance: float) -> Judgement:
    """The verdict on effects with intervals.

    An effect is within the tolerance if |effect| <= tolerance (EQUAL), effect <= tolerance (AT_MOST) or
    effect >= -tolerance (AT_LEAST). The claim is refuted if the interval of any point lies wholly
    outside, holds if those of all points lie wholly inside, and is inconclusive otherwise. The point
    farthest outside is reported, or the one that comes closest to it.
    """
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


def effects(
    comparison: Comparison, alpha: float, *, of_control: bool = False
) -> tuple[Array, Array, Array]:
    """(measured - predicted) / scale of every point, and the ends of its interval of error alpha."""
    measured, predicted = comparison.measured, comparison.predicted
    if of_control:
        measured, predicted = comparison.control_measured or measured, comparison.control
    expected = np.broadcast_to(np.asarray(predicted, dtype=float), measured.value.shape)
    scale = np.abs(expected) if comparison.scale is None else np.asarray(comparison.scale, dtype=float)
    low, high = measured.interval(alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = (measured.value - expected) / scale
        return effect, (low - expected) / scale, (high - expected) / scale


@dataclass(frozen=True)
class Finding:
    """What came out for one claim.

    Attributes
    ----------
    claim
        What was tested.
    judgement, control
        Verdicts on the claim and on its negative control, from the same measurements.
    cases, comparisons
        Parameter sets, and what was measured for each of them.
    alpha
        Error probability of each interval.
    violated
        Assumptions that the parameter sets do not fulfil.
    n, seed
        Sample size behind the effect, and key of the random numbers.
    seconds
        Wall time.
    """

    claim: Claim
    judgement: Judgement
    control: Judgement
    cases: Sequence[Parameters]
    comparisons: Sequence[Comparison]
    alpha: float
    violated: Sequence[str]
    n: int
    seed: int
    seconds: float

    @property
    def verdict(self) -> str:
        """holds, refuted, inconclusive or outside assumptions."""
        return self.judgement.verdict

    @property
    def as_recorded(self) -> bool:
        """Whether the verdict is the one on record."""
        return self.verdict == self.claim.recorded

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; None where a number is undefined."""

        def number(x: float) -> float | None:
            return x if np.isfinite(x) else None

        return {
            "id": self.claim.id,
            "paper": self.claim.paper,
            "statement": self.claim.statement,
            "verdict": self.verdict,
            "recorded": self.claim.recorded,
            "effect": number(self.judgement.effect),
            "ci_low": number(self.judgement.low),
            "ci_high": number(self.judgement.high),
            "tolerance": self.claim.tolerance,
            "n": self.n,
            "seed": self.seed,
            "seconds": self.seconds,
            "control": self.control.verdict,
        }


@dataclass(frozen=True)
class CheckReport:
    """The findings of one run of `check`."""

    findings: Sequence[Finding]
    budget: str
    seed: int
    error_rate: float
    seconds: float
    provenance: dict[str, str]

    @property
    def as_recorded(self) -> bool:
        """Whether every verdict is the one on record and every negative control was refuted."""
        return all(
            finding.as_recorded and (finding.control.verdict == REFUTED or finding.verdict == OUTSIDE)
            for finding in self.findings
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "claims": [finding.to_dict() for finding in self.findings],
            "budget": self.budget,
            "seed": self.seed,
            "error_rate": self.error_rate,
            "seconds": self.seconds,
            **self.provenance,
        }

    def __repr__(self) -> str:
        lines = [f"CheckReport({len(self.findings)} claims, {self.budget}, seed {self.seed})"]
        for finding in self.findings:
            effect = finding.judgement
            lines.append(
                f"  {finding.claim.id:4} {finding.verdict:12} effect {effect.effect:.3g} "
                f"[{effect.low:.3g}, {effect.high:.3g}], tolerance {finding.claim.tolerance:g}"
            )
        return "\n".join(lines)


def check(
    claims: str | Iterable[str] | None = None,
    *,
    findings: bool = False,
    budget: str = "quick",
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    threads: int | None = None,
    progress: Callable[[str], None] = lambda claim: None,
    notify_compile: Callable[[str], None] = lambda optimizer: None,
) -> CheckReport:
    """Test claims of the papers against simulations, or their findings on a small trained network.

    Parameters
    ----------
    claims
        Ids ("A1a") or their beginnings ("A1", "C"), or one of these; all claims where None.
    findings
        Test what the papers report of trained networks (F1 … F10), not their theorems.
    budget
        "quick" or "full": more parameter sets and larger ensembles, or more seeds.
    seed
        Key of the random numbers.
    parameters
        Values that replace those of every parameter set of the claims.
    threads
        As in `simulate`.
    progress, notify_compile
        Told the id of each claim before its turn, and optimizers whose kernels must be compiled.

    Returns
    -------
    A report whose verdicts are wrong about any true claim with probability `ERROR_RATE` at most, over
    all theorems, or all findings, on record together.

    Raises
    ------
    InvalidParameter
        For unknown claims or budgets, or a parameter that a claim does not have.
    """
    from regdyn.dynamics.result import provenance

    begin = time.perf_counter()
    check_choice("budget", budget, BUDGETS)
    registry = CLAIMS
    lab: Laboratory | Bench
    if findings:
        from regdyn.findings import FINDINGS
        from regdyn.findings.base import Bench

        registry = FINDINGS
        lab = Bench(seed, BUDGETS[budget], threads, notify_compile)
    else:
        lab = Laboratory(seed, BUDGETS[budget], threads, notify_compile)
    chosen = select(claims, registry)
    planned = [(claim, planned_cases(claim, budget, parameters or {})) for claim in chosen]
    found = []
    for claim, cases in planned:
        progress(claim.id)
        found.append(check_claim(claim, lab, cases, ERROR_RATE / len(registry)))
    return CheckReport(found, budget, lab.seed, ERROR_RATE, time.perf_counter() - begin, provenance())


def select(claims: str | Iterable[str] | None, registry: Mapping[str, Claim] = CLAIMS) -> list[Claim]:
    """The claims with these ids or beginnings of ids, each once, in the order of the registry."""
    if claims is None:
        return list(registry.values())
    wanted: set[str] = set()
    for given in [claims] if isinstance(claims, str) else claims:
        text = str(given)[:1].upper() + str(given)[1:].lower()
        found = (
            [text]
            if text in registry
            else [name for name in registry if text and name.startswith(text)]
        )
        wanted.update(found or [check_choice("claim", text, registry)])
    return [claim for name, claim in registry.items() if name in wanted]


def planned_cases(claim: Claim, budget: str, parameters: Mapping[str, Any]) -> list[Parameters]:
    """The parameter sets of a budget, with `parameters` in place of their own."""
    cases = [*claim.cases, *(claim.more_cases if budget == "full" else ())]
    replaced: dict[str, Any] = {}
    for name, value in parameters.items():
        if name not in claim.domain:
            known = ", ".join(claim.domain)
            raise InvalidParameter("set", f"a parameter of {claim.id} ({known})", name)
        replaced[name] = _parse(name, value, claim.domain[name])
    unique = {repr(sorted(case.items())): case for case in ({**c, **replaced} for c in cases)}
    return list(unique.values())


def _parse(name: str, value: Any, allowed: Range | tuple[Any, ...]) -> Any:
    """`value`, perhaps a text, in the type of what is allowed."""
    if isinstance(allowed, Range):
        number = check_number(name, value, "(-inf, inf)")
        return int(number) if number == int(number) and allowed.integer else number
    for choice in allowed:
        if value == choice or str(value) == str(choice):
            return choice
    return value


def violations(claim: Claim, case: Parameters) -> list[str]:
    """What the parameter set lacks for the claim to say anything about it."""
    outside = [
        f"{name} must be {allowed}, got {case[name]}"
        if isinstance(allowed, Range)
        else f"{name} must be one of {', '.join(map(str, allowed))}, got {case[name]}"
        for name, allowed in claim.domain.items()
        if name in case and case[name] not in allowed
    ]
    if outside:
        return outside
    shown = ", ".join(f"{name} = {value}" for name, value in case.items())
    return [f"{a.text}, got {shown}" for a in claim.assumptions if not a.holds(case)]


def check_claim(
    claim: Claim,
    lab: Laboratory | Bench,
    cases: Sequence[Parameters] | None = None,
    error_rate: float = ERROR_RATE / len(CLAIMS),
) -> Finding:
    """Run the experiment of one claim on all cases, the quick budget's where None, and judge it.

    `error_rate` is the probability that the claim is refuted though it holds, by default an even share
    of `ERROR_RATE`. It is shared out over the points of all cases (Bonferroni), whose intervals hold
    together.
    """
    begin = time.perf_counter()
    cases = claim.cases if cases is None else cases
    violated = list(dict.fromkeys(text for case in cases for text in violations(claim, case)))
    if violated:
        nothing = Judgement(OUTSIDE, np.nan, np.nan, np.nan, -1)
        seconds = time.perf_counter() - begin
        return Finding(claim, nothing, nothing, cases, (), error_rate, violated, 0, lab.seed, seconds)
    comparisons = [claim.experiment(lab, **case) for case in cases]
    points = sum(len(comparison.measured.value) for comparison in comparisons)
    alpha = error_rate / points

    def verdict(of_control: bool) -> Judgement:
        parts = [effects(comparison, alpha, of_control=of_control) for comparison in comparisons]
        effect, low, high = (np.concatenate(part) for part in zip(*parts))
        return judge(effect, low, high, claim.relation, claim.tolerance)

    judgement, control = verdict(False), verdict(True)
    edges = np.cumsum([len(comparison.measured.value) for comparison in comparisons])
    decided = comparisons[int(np.searchsorted(edges, judgement.point, side="right"))]
    return Finding(
        claim, judgement, control, cases, comparisons, alpha, (), decided.measured.n, lab.seed,
        time.perf_counter() - begin,
    )  # fmt: skip

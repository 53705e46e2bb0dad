"""What every claim is made of: what it says, where it applies, and the experiment that could refute it.

A subject's file holds its closed forms and its claims. An experiment asks a `Lab` for simulations,
so that theorems import nothing of the simulator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.errors import OutsideDomain
from regdyn.theorems.estimates import Estimate

Array = NDArray[np.float64]


class Status(StrEnum):
    """Where the formula of a claim comes from."""

    PRINTED = "as printed"
    RECONSTRUCTED = "reconstructed"
    LATER = "from later work"
    OURS = "ours"


class Relation(StrEnum):
    """How the measured numbers stand to the predicted ones if the claim holds."""

    EQUAL = "equal to"
    AT_MOST = "at most"
    AT_LEAST = "at least"


def require(condition: ArrayLike, requirement: str, **got: ArrayLike) -> None:
    """Raise OutsideDomain unless `condition` holds everywhere.

    `requirement` is the condition in words and symbols; `got` names what was given, of which the
    first offending value is shown.
    """
    if condition is True:
        return
    holds = np.asarray(condition)
    if np.all(holds):
        return
    shown = {}
    for name, value in got.items():
        offending = np.broadcast_to(np.asarray(value, dtype=float), holds.shape)[~holds]
        shown[name] = float(np.ravel(offending)[0])
    raise OutsideDomain(requirement, shown)


_P = ParamSpec("_P")
_R = TypeVar("_R")


def closed_form(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A closed form that raises OutsideDomain where it would return NaN."""

    @wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            result = function(*args, **kwargs)
        parts = result if isinstance(result, tuple) else (result,)
        if any(isinstance(x, (float, np.ndarray)) and np.any(np.isnan(x)) for x in parts):
            given = inspect.signature(function).bind(*args, **kwargs).arguments
            numbers = {
                name: np.ravel(np.asarray(value, dtype=float))
                for name, value in given.items()
                if np.asarray(value).dtype.kind in "fiu" and np.size(value)
            }
            wrong = {
                name: x[~np.isfinite(x)][0] for name, x in numbers.items() if not np.all(np.isfinite(x))
            }
            shown = wrong or {name: x[0] for name, x in numbers.items()}
            raise OutsideDomain("arguments for which it is defined", shown)
        return result

    return checked


@dataclass(frozen=True)
class Assumption:
    """A condition on parameters: in symbols, and as a test of given ones."""

    text: str
    test: Callable[..., bool]

    def holds(self, parameters: Mapping[str, Any]) -> bool:
        """Whether the parameters, of which `test` names those that it needs, fulfil it."""
        return bool(self.test(**parameters))


@dataclass(frozen=True)
class Range:
    """Numbers in [low, high], whole ones if `integer`, spread over decades if `log`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and (not self.integer or value == int(value))

    def __str__(self) -> str:
        return f"{'an integer ' if self.integer else ''}in [{self.low:g}, {self.high:g}]"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Measured numbers beside what the claim and its negative control predict for them.

    Attributes
    ----------
    measured
        Estimates with their intervals, n points.
    predicted, control
        By the claim, and by a deliberately wrong variant of it; each of shape (n,).
    x, x_label, y_label
        For a plot: abscissa of the points, and names of both axes with units.
    scale
        What an effect (measured - predicted) / scale is counted in, shape (n,); |predicted| where None.
    log_x, log_y
        Whether the axes are logarithmic.
    control_measured
        What the control predicts, where it is not about `measured`: an order the other way round.
    """

    measured: Estimate
    predicted: ArrayLike
    control: ArrayLike
    x: ArrayLike
    x_label: str
    y_label: str
    scale: ArrayLike | None = None
    log_x: bool = False
    log_y: bool = False
    control_measured: Estimate | None = None


Parameters = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of a paper.

    Attributes
    ----------
    id
        As `regdyn check` names it.
    paper
        Source with the number of the equation or section.
    statement
        What is tested, in a sentence with its formula.
    status
        Where the formula comes from.
    printed
        What the paper says, in our words, and how that became `statement`.
    finding
        What holds and for which parameters: a few sentences.
    counterexample
        The smallest one where the claim fails, else "".
    equation
        The closed form in LaTeX between dollar signs, in what matplotlib's mathtext knows; "" where
        there is none.
    derivation
        File in theory/ that derives it, without suffix, or "".
    experiment
        From a lab and the parameters of a case to a `Comparison`.
    control
        In words: what the negative control has wrong.
    cases
        Parameter sets of the quick budget.
    more_cases
        What the full budget adds.
    domain
        For each parameter of a case the values for which the claim is made: a `Range`, or choices.
        Inside it, and where the assumptions hold, the tolerance is promised.
    assumptions
        Conditions on a case, beyond the domain, without which the claim says nothing.
    relation
        Between measured and predicted.
    tolerance
        On the effect: the claim holds if every effect is within it (EQUAL: on either side).
    exact
        Whether the claim is an identity, so that its effect is 0 but for the noise of the simulation;
        otherwise it is an approximation and `tolerance` its stated error.
    recorded
        The verdict on record: "holds", "refuted" or "inconclusive".
    """

    id: str
    paper: str
    statement: str
    status: Status
    printed: str
    finding: str
    counterexample: str = ""
    equation: str = ""
    derivation: str = ""
    experiment: Callable[..., Comparison]
    control: str
    cases: Sequence[Parameters]
    more_cases: Sequence[Parameters] = ()
    domain: Mapping[str, Range | tuple[Any, ...]]
    assumptions: Sequence[Assumption] = ()
    relation: Relation = Relation.EQUAL
    tolerance: float = 0.01
    exact: bool = True
    recorded: str

    @property
    def allowed(self) -> str:
        """The effects that the tolerance allows."""
        if self.relation is Relation.EQUAL:
            return f"± {self.tolerance:g}"
        if self.relation is Relation.AT_MOST:
            return f"<= {self.tolerance:g}"
        return f">= {0 - self.tolerance:g}"


class WeightEnsemble(Protocol):
    """What a simulation of one weight returns; see `regdyn.ScalarResult`."""

    @property
    def times(self) -> NDArray[np.int64]: ...
    @property
    def mean(self) -> Array: ...
    @property
    def std(self) -> Array: ...
    @property
    def alive(self) -> NDArray[np.int64]: ...
    @property
    def final(self) -> NDArray: ...
    @property
    def first_passage(self) -> NDArray[np.int64]: ...
    @property
    def steps_below(self) -> NDArray[np.int64]: ...
    @property
    def paths(self) -> NDArray: ...


class UnitEnsemble(Protocol):
    """What a simulation of one BN+ReLU unit returns; see `regdyn.NeuronResult`."""

    @property
    def times(self) -> NDArray[np.int64]: ...
    @property
    def activation_mean(self) -> Array: ...
    @property
    def activation_std(self) -> Array: ...
    @property
    def share_dead(self) -> Array: ...
    @property
    def alive(self) -> NDArray[np.int64]: ...
    @property
    def gamma(self) -> NDArray: ...
    @property
    def beta(self) -> NDArray: ...
    @property
    def first_death(self) -> NDArray[np.int64]: ...
    @property
    def steps_dead(self) -> NDArray[np.int64]: ...
    @property
    def paths(self) -> NDArray: ...


class Lab(Protocol):
    """Where experiments get their simulations and their chance from."""

    seed: int

    def size(self, n: int) -> int:
        """How many trajectories to take where the quick budget takes n."""

    def generator(self) -> np.random.Generator:
        """Random numbers for what is not a simulation, the same at every call."""

    def normals(self, n: int) -> Array:
        """n standard normals of the simulator's own generator."""

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
        """One weight under N(0, sigma_t^2) noise, or under the given gradients, as ensemble.

        Parameters
        ----------
        sigma
            Std of the noise, a number or one per step (the last one holds on).
        gradients
            Of shape (steps,) or (steps, trajectories), instead of the noise.
        schedule
            Factors on the learning rate, one per step (the last one holds on).
        curvature, target
            Of a quadratic loss whose gradient is added.
        keep
            How many whole trajectories to return in `paths`, shape (steps + 1, keep).
        replicate
            Independent noise for each number; runs with the same one share it.
        """

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
        """One BN+ReLU unit under Eq. (1) of zhou2020, as ensemble; see `regdyn.NeuronConfig`.

        Parameters
        ----------
        gamma0, beta0
            Start: a number, or one per trajectory.
        c
            Std of dL/dy, a number or one per step (the last one holds on).
        antithetic
            Whether every trajectory has a twin with the same inputs and opposite gradients; the twin
            of trajectory i is i + 128 in every block of 256.
        """

"""When does one weight die, and which decay kills it? From the moment closure and the closed forms.

>>> from regdyn.prediction import predict, prunes
>>> predict("adam", lam=1e-4).median_steps
1914.3...
>>> prunes("adam", steps=5000).lam
1.09...e-05
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.errors import InvalidParameter, OutsideDomain
from regdyn.optimizers import REGULARIZATIONS, Optimizer, make_optimizer
from regdyn.parameters import check_choice, check_integer, check_number, real_array
from regdyn.theorems import closure, passage, stationary

Array = NDArray[np.float64]

CLOSURE = "moment closure"

# Steps for which a schedule given as a function is read, at least and at most.
_READ, _MOST_READ = 10**6, 10**7

# A closed form that is further from the closure does not apply.
_NEAR = 0.1

# Where the inverse looks for lambda: decades below 1, and points per decade.
_DECADES = 9
_PER_DECADE = 2


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What is predicted for one weight.

    Attributes
    ----------
    optimizer
        The rule with its hyperparameters.
    lam, regularization, theta0, threshold, steps
        As given.
    median_steps
        Steps until half of all trajectories have been below the threshold, be that within `steps` or
        not; inf for more than 10^12.
    mean, std
        Of theta after `steps`.
    stationary_std
        Std of theta once it has settled; None where there is no stationary law.
    share_below
        Share of the first `steps` that a trajectory spends with |theta| < threshold.
    stationary_share_below
        The same in the long run; None where there is no stationary law.
    method
        Where `median_steps` comes from.
    closed_form, closed_form_steps
        The closed form that applies, as named in `regdyn.theorems.passage`, and its steps; None where
        there is none or it is more than 10 percent away from the closure.
    caveats
        What may make the prediction worse than its usual 3 percent, or what it does not say.
    """

    optimizer: Optimizer
    lam: float
    regularization: str
    theta0: float
    threshold: float
    steps: int
    median_steps: float
    mean: float
    std: float
    stationary_std: float | None
    share_below: float
    stationary_share_below: float | None
    method: str
    closed_form: str | None
    closed_form_steps: float | None
    caveats: tuple[str, ...]

    def __repr__(self) -> str:
        spread = "none" if self.stationary_std is None else f"{self.stationary_std:.3g}"
        return (
            f"Prediction({self.optimizer.name}, {self.regularization}, lam={self.lam:g}: "
            f"|theta| < {self.threshold:g} after {self.median_steps:.6g} steps (median), "
            f"stationary std {spread}, below for {self.share_below:.2%} of {self.steps} steps)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text; infinite steps are None."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        median = self.median_steps if math.isfinite(self.median_steps) else None
        return {
            **fields,
            "optimizer": self.optimizer.name,
            "hyperparameters": self.optimizer.parameters(),
            "median_steps": median,
            "caveats": list(self.caveats),
        }


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A lambda that does something within so many steps, from `prunes` or `leaves_alone`.

    Attributes
    ----------
    lam
        The bound; None where no lambda that was tried does it.
    steps
        Within how many.
    prediction
        At that lambda; None where there is none.
    monotone
        Whether every lambda that was tried beyond the bound does it as well, and none before it.
    searched
        Least and largest lambda that were tried.
    """

    lam: float | None
    steps: int
    prediction: Prediction | None
    monotone: bool
    searched: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text."""
        return {
            "lam": self.lam,
            "steps": self.steps,
            "prediction": None if self.prediction is None else self.prediction.to_dict(),
            "monotone": self.monotone,
            "searched": list(self.searched),
        }


@dataclass(frozen=True)
class _Weight:
    """The checked parameters of one weight, but for lambda."""

    rule: Optimizer
    regularization: str
    sigma: Array
    burn_in: tuple[float, float, int] | None
    schedule: Array | None
    known: int
    theta0: float
    threshold: float
    steps: int

    @cached_property
    def hyperparameters(self) -> dict[str, Any]:
        return self.rule.parameters()

    def follow(self, lam: float, steps: int | None = None) -> closure.Decay:
        return closure.decay(
            self.rule.name, lam=lam, regularization=self.regularization, sigma=self.sigma,
            theta0=self.theta0, threshold=self.threshold, steps=steps, schedule=self.schedule,
            **self.hyperparameters,
        )  # fmt: skip

    def median(self, lam: float) -> float:
        """Median first passage; inf also where the weight diverges."""
        try:
            return closure.median_passage(self.follow(lam), self.threshold)
        except OutsideDomain:
            return math.inf

    def mean(self, lam: float) -> float:
        """Mean after `steps`; -inf where the weight diverges."""
        try:
            path = self.follow(lam, self.steps)
        except OutsideDomain:
            return -math.inf
        return float(np.interp(self.steps, path.steps, path.mean))


def _checked(
    optimizer: Optimizer | str, regularization: str, sigma: ArrayLike | None,
    burn_in_sigma: Any, burn_in_steps: Any, schedule: Any, theta0: Any, threshold: Any, steps: Any,
    hyperparameters: dict[str, Any],
) -> _Weight:  # fmt: skip
    if isinstance(optimizer, Optimizer):
        if hyperparameters:
            raise InvalidParameter(next(iter(hyperparameters)), "part of the optimizer that is given")
        rule = optimizer
    else:
        rule = make_optimizer(optimizer, **hyperparameters)
    steps = check_integer("steps", steps, 1, closure.HORIZON)
    stds, burn_in = _stds(sigma, burn_in_sigma, burn_in_steps)
    factors, known = _factors(schedule, steps)
    return _Weight(
        rule=rule,
        regularization=check_choice("regularization", regularization, REGULARIZATIONS),
        sigma=stds,
        burn_in=burn_in,
        schedule=factors,
        known=known,
        theta0=abs(check_number("theta0", theta0, "(-inf, inf)")),
        threshold=check_number("threshold", threshold, "(0, inf)"),
        steps=steps,
    )


def _stds(
    sigma: ArrayLike | None, burn_in_sigma: Any, burn_in_steps: Any
) -> tuple[Array, tuple[float, float, int] | None]:
    """Std of each step, and (early, late, steps) where they are a burn-in and then constant."""
    if sigma is not None and np.ndim(sigma) > 0:
        for name, value in (("burn_in_sigma", burn_in_sigma), ("burn_in_steps", burn_in_steps)):
            if value is not None:
                raise InvalidParameter(name, "used with a number for sigma", value)
        return _numbers("sigma", sigma), None
    late = check_number("sigma", 1e-5 if sigma is None else sigma, "[0, inf)")
    early = check_number("burn_in_sigma", 1e-3 if burn_in_sigma is None else burn_in_sigma, "[0, inf)")
    length = check_integer(
        "burn_in_steps", 100 if burn_in_steps is None else burn_in_steps, 0, _MOST_READ
    )
    stds = np.full(length + 1, early)
    stds[-1] = late
    return stds, (early, late, length)


def _factors(schedule: Any, steps: int) -> tuple[Array | None, int]:
    """Factors of the steps, None where they are all 1, and for how many steps they are known."""
    if schedule is None:
        return None, closure.HORIZON
    known = closure.HORIZON
    if callable(schedule):
        known = max(min(steps, _MOST_READ), _READ)
        schedule = schedule(np.arange(1, known + 1))
    factors = _numbers("schedule", schedule)
    # A constant schedule leaves the closed forms in place.
    if np.all(factors == 1):
        return None, closure.HORIZON
    settled = np.all(factors[len(factors) // 2 :] == factors[-1])
    return factors, closure.HORIZON if settled else known


def _numbers(name: str, values: Any) -> Array:
    wanted = "a non-empty one-dimensional array of finite numbers >= 0, or one such number"
    array = np.atleast_1d(np.asarray(real_array(name, values, wanted), dtype=float))
    if array.ndim != 1 or not len(array) or not np.all(np.isfinite(array) & (array >= 0)):
        raise InvalidParameter(name, wanted)
    return array


def predict(
    optimizer: Optimizer | str = "adam",
    *,
    lam: float = 1e-4,
    regularization: str = "l2",
    sigma: ArrayLike | None = None,
    burn_in_sigma: float | None = None,
    burn_in_steps: int | None = None,
    schedule: Callable[[NDArray[np.int64]], ArrayLike] | ArrayLike | None = None,
    theta0: float = 1.0,
    threshold: float = 1e-3,
    steps: int = 10_000,
    **hyperparameters: Any,
) -> Prediction:
    """Predict what `regdyn.simulate` with the same parameters finds, without simulating.

    Parameters
    ----------
    optimizer
        A name, then with its hyperparameters as further keywords, or an `Optimizer`.
    lam, regularization
        Strength and placement of the decay.
    sigma
        Std of the Gaussian noise after the burn-in (1e-5), or one for each step, the last of which
        holds on; then there is no burn-in.
    burn_in_sigma, burn_in_steps
        Std in the first steps (1e-3), and how many they are (100).
    schedule
        Factors on the learning rate, one for each step, the last of which holds on; or a schedule of
        `regdyn.dynamics.schedules`, read for a million steps, or `steps` if that is more; a median
        beyond, where the last factor is held, is named in the caveats.
    theta0, threshold
        Start of the weight, and where it counts as dead.
    steps
        Of the share of time and of the final mean and std. The median first passage has no such limit.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used.
    OutsideDomain
        Where the weight diverges.
    """
    weight = _checked(
        optimizer, regularization, sigma, burn_in_sigma, burn_in_steps, schedule, theta0, threshold,
        steps, hyperparameters,
    )  # fmt: skip
    return _predicted(weight, check_number("lam", lam, "[0, inf)"))


def _predicted(weight: _Weight, lam: float) -> Prediction:
    path = weight.follow(lam, weight.steps)
    median = closure.median_passage(path, weight.threshold)
    spread = _stationary_std(weight, lam)
    long_run = None
    if spread is not None and spread > 0:
        long_run = float(stationary.share_below(threshold=weight.threshold, std=spread))
    name, closed = _closed_form(weight, lam, spread)
    if closed is None or not abs(closed - median) <= _NEAR * median:
        name = closed = None
    return Prediction(
        optimizer=weight.rule,
        lam=lam,
        regularization=weight.regularization,
        theta0=weight.theta0,
        threshold=weight.threshold,
        steps=weight.steps,
        median_steps=median,
        mean=float(np.interp(weight.steps, path.steps, path.mean)),
        std=float(np.interp(weight.steps, path.steps, path.std)),
        stationary_std=spread,
        share_below=closure.share_below(path, weight.threshold, weight.steps),
        stationary_share_below=long_run,
        method=CLOSURE,
        closed_form=name,
        closed_form_steps=closed,
        caveats=_caveats(weight, lam, path, median, long_run),
    )


def _stationary_std(weight: _Weight, lam: float) -> float | None:
    if weight.known < closure.HORIZON:
        return None  # the learning rate goes on changing
    lr = weight.rule.lr * (1.0 if weight.schedule is None else float(weight.schedule[-1]))
    try:
        return stationary.stationary_std(
            weight.rule.name,
            regularization=weight.regularization,
            lam=lam,
            sigma=float(weight.sigma[-1]),
            **{**weight.hyperparameters, "lr": lr},
        )
    except OutsideDomain:
        return None


def _closed_form(weight: _Weight, lam: float, spread: float | None) -> tuple[str | None, float | None]:
    """The closed form for these parameters, if there is one, and its median first passage."""
    if weight.burn_in is None or weight.schedule is not None or weight.regularization == "none":
        return None, None
    early, late, length = weight.burn_in
    name = weight.rule.name
    hyper = weight.hyperparameters
    common: dict[str, Any] = {
        "lam": lam, "sigma": late, "theta0": weight.theta0, "threshold": weight.threshold,
    }  # fmt: skip
    burn_in = {"burn_in_sigma": early, "burn_in_steps": length}
    try:
        if weight.regularization != "l2":
            rate = lam if weight.regularization == "paper" else weight.rule.lr * lam
            if spread is None:
                return None, None
            beta = hyper.get("momentum", hyper.get("beta1", 0.0))
            jitter = spread * math.sqrt(2 * rate * (1 - beta) / (1 + beta))
            steps = passage.geometric(
                rate=rate, theta0=weight.theta0, threshold=weight.threshold, spread=spread,
                jitter=jitter, memory=beta,
            )  # fmt: skip
            keep = hyper.get("beta2", hyper.get("alpha", 0.0))
            if early > late > 0 and length > 0 and keep > 0:
                # The second moment must have forgotten the burn-in.
                fall = math.log(early / late) / -math.log(keep)
                if steps < length + 2 * (1 if name == "adamax" else 2) * fall:
                    return None, None
            return "geometric", float(steps)
        if name == "sgd" and not hyper["nesterov"] and hyper["dampening"] == 0:
            return name, float(passage.sgd(lr=hyper["lr"], momentum=hyper["momentum"], **common))
        if (
            name in ("adam", "rmsprop")
            and lam * weight.theta0 <= 3 * late
            and hyper["eps"] < 0.1 * late
        ):
            beta1, beta2 = (hyper["beta1"], hyper["beta2"]) if name == "adam" else (0, hyper["alpha"])
            steps = passage.adam(lr=hyper["lr"], beta1=beta1, beta2=beta2, **common, **burn_in)
            return "adam", float(steps)
        if name == "amsgrad" and hyper["bias_correction"] and not hyper["max_after_correction"]:
            steps = passage.amsgrad(lr=hyper["lr"], beta2=hyper["beta2"], **common, **burn_in)
            return name, float(steps)
        if name == "adagrad" and hyper["lr_decay"] == hyper["initial_accumulator"] == 0:
            return name, float(passage.adagrad(lr=hyper["lr"], **common, **burn_in))
        if name == "adadelta" and max(early, late) ** 2 <= hyper["eps"]:
            return name, float(passage.adadelta(lr=hyper["lr"], eps=hyper["eps"], **common))
        if name == "adamax" and lam * weight.theta0 <= 30 * late:
            steps = passage.adamax(
                lr=hyper["lr"], beta1=hyper["beta1"], beta2=hyper["beta2"], **common, **burn_in
            )
            return name, float(steps)
    except OutsideDomain:
        pass
    return None, None


def _caveats(
    weight: _Weight, lam: float, path: closure.Decay, median: float, long_run: float | None
) -> tuple[str, ...]:
    """What the closure does not do well here, in sentences."""
    found = []
    if max(median, weight.steps) > weight.known < closure.HORIZON:
        found.append(f"the schedule is read for {weight.known} steps, its last factor held from there")
    name, late = weight.rule.name, float(weight.sigma[-1])
    hyper = weight.hyperparameters
    if math.isfinite(median) and median > 0:
        at = int(np.searchsorted(path.steps, median))
        at = min(max(at, 1), len(path.steps) - 1)
        single = path.steps[at] - path.steps[at - 1] == 1
        if single and path.mean[at - 1] - path.mean[at] > 2 * weight.threshold:
            found.append("at the passage a step is wider than the band: a weight may step over it")
        if path.jitter[at] > 4 * weight.threshold:
            found.append("steps wider than the band (-b, b): the passage may come later")
        if median < 50:
            found.append("a passage within 50 steps: the start is not Gaussian")
    memory = hyper.get("beta2", hyper.get("alpha", hyper.get("rho", 1.0)))
    if name not in ("sgd", "adagrad", "adadelta") and memory <= 0.9:
        found.append(f"a second moment of few gradients ({memory:g}) fluctuates beyond second order")
    if name == "adadelta" and np.max(weight.sigma) ** 2 > 2 * hyper["eps"]:
        found.append("noise beyond sqrt(eps): the two averages of Adadelta fluctuate together")
    strength = weight.rule.lr * lam
    if weight.regularization == "l2" and strength >= 0.5 * late:
        if name in ("adam", "rmsprop"):
            found.append("lr lam > sigma / 2: the late weight swings, and the share is off")
        elif name == "adamax":
            found.append("lr lam > sigma / 2: the weight swings, and passage and share are off")
    pull = lam * weight.theta0 if weight.regularization == "l2" else 0.0
    if name == "adadelta" and pull > 20 * math.sqrt(hyper["eps"]):
        found.append("lam theta0 far beyond sqrt(eps): Adadelta's steps start from nothing")
    if name == "adagrad":
        found.append("no stationary spread: Adagrad's sum grows for ever")
    if name == "amsgrad":
        found.append("no stationary spread: AMSGrad's maximum never falls")
    if long_run is not None and long_run < 0.5 and math.isfinite(median):
        found.append("it passes but does not stay below")
    return tuple(found)


def prunes(
    optimizer: Optimizer | str = "adam",
    *,
    steps: int,
    regularization: str = "l2",
    sigma: ArrayLike | None = None,
    burn_in_sigma: float | None = None,
    burn_in_steps: int | None = None,
    schedule: Callable[[NDArray[np.int64]], ArrayLike] | ArrayLike | None = None,
    theta0: float = 1.0,
    threshold: float = 1e-3,
    **hyperparameters: Any,
) -> Bound:
    """The smallest lambda whose median first passage below the threshold comes within `steps`.

    Looked for at two values per decade in [1e-9, 1] (decoupled: [1e-9, 1] / lr), then bisected to
    1e-4. Larger lambda mostly pass sooner; where one that was tried does not (it diverges, or steps
    over the band), `monotone` is False. The other parameters are those of `predict`.
    """
    weight = _checked(
        optimizer, regularization, sigma, burn_in_sigma, burn_in_steps, schedule, theta0, threshold,
        steps, hyperparameters,
    )  # fmt: skip
    return _bound(weight, lambda lam: weight.median(lam) <= weight.steps, smallest=True)


def leaves_alone(
    optimizer: Optimizer | str = "adam",
    *,
    steps: int,
    loss: float = 0.1,
    regularization: str = "l2",
    sigma: ArrayLike | None = None,
    burn_in_sigma: float | None = None,
    burn_in_steps: int | None = None,
    schedule: Callable[[NDArray[np.int64]], ArrayLike] | ArrayLike | None = None,
    theta0: float = 1.0,
    threshold: float = 1e-3,
    **hyperparameters: Any,
) -> Bound:
    """The largest lambda under which the mean of the weight loses at most the share `loss` in `steps`.

    The mean, which is the median of theta: what noise alone does to the weight is not the decay's.
    Looked for as in `prunes`; the other parameters are those of `predict`.
    """
    weight = _checked(
        optimizer, regularization, sigma, burn_in_sigma, burn_in_steps, schedule, theta0, threshold,
        steps, hyperparameters,
    )  # fmt: skip
    kept = (1 - check_number("loss", loss, "(0, 1)")) * weight.theta0
    return _bound(weight, lambda lam: weight.mean(lam) >= kept, smallest=False)


def _bound(weight: _Weight, does: Callable[[float], bool], smallest: bool) -> Bound:
    """The end of the lambdas that do it: their smallest, or their largest."""
    if weight.regularization == "none":
        raise InvalidParameter("regularization", "a decay: l2, decoupled or paper", "none")
    # A decoupled decay of 1 / lr takes all of the weight in one step.
    top = 1 / weight.rule.lr if weight.regularization == "decoupled" and weight.rule.lr > 0 else 1.0
    grid = top * np.logspace(-_DECADES, 0, _DECADES * _PER_DECADE + 1)
    if not smallest:
        grid = grid[::-1]
    done = [does(float(lam)) for lam in grid]
    searched = (float(grid.min()), float(grid.max()))
    if not any(done):
        return Bound(lam=None, steps=weight.steps, prediction=None, monotone=True, searched=searched)
    first = done.index(True)
    lam = float(grid[first])
    if first > 0:
        outside, inside = math.log(grid[first - 1]), math.log(lam)
        while abs(inside - outside) > 1e-4:
            middle = 0.5 * (inside + outside)
            if does(math.exp(middle)):
                inside = middle
            else:
                outside = middle
        lam = math.exp(inside)
    return Bound(
        lam=lam,
        steps=weight.steps,
        prediction=_predicted(weight, lam),
        monotone=all(done[first:]),
        searched=searched,
    )

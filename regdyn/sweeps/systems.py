"""The systems that can be swept: the names of their parameters, and the simulation of each point."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.ensemble import EnsembleConfig
from regdyn.dynamics.many import Summary
from regdyn.dynamics.neuron import NeuronConfig
from regdyn.dynamics.noise import NOISE_PARAMETERS, Signal, Trace, make_noise
from regdyn.dynamics.optimization import MAX_COUNT
from regdyn.dynamics.scalar import ScalarConfig
from regdyn.dynamics.schedules import parse_schedule
from regdyn.dynamics.summaries import (
    UNIT,
    WEIGHT,
    Observable,
    summarize_units,
    summarize_weights,
)
from regdyn.errors import InvalidParameter
from regdyn.optimizers import OPTIMIZERS, Optimizer, make_optimizers, rule_parameters
from regdyn.parameters import check_choice, check_integer, check_number

WHOLE = {"steps", "trajectories", "seed", "burn_in_steps", "batch"}
"""Parameters that are whole numbers."""

WORDS = {"optimizer", "regularization", "schedule", "noise", "trace", "dtype", "antithetic"}
"""Parameters that are words or switches."""

_HYPERPARAMETERS = ("lr", *rule_parameters())
RULE_PARAMETERS = {"optimizer", *_HYPERPARAMETERS}
"""Parameters of which an optimizer is made."""

_ENSEMBLE = ("lam", "regularization", "threshold", "steps", "trajectories", "dtype", "seed")


@dataclass(frozen=True)
class SweptSystem:
    """What a sweep asks of a system.

    Attributes
    ----------
    parameters
        What an axis may be.
    make
        A configuration from the parameters that are given, with what `Made` has made before.
    observables
        What is kept of each point.
    summarize
        How that comes about.
    """

    name: str
    parameters: tuple[str, ...]
    make: Callable[[Mapping[str, Any], Made], EnsembleConfig]
    observables: Mapping[str, Observable]
    summarize: Summary


class Made:
    """Rules, schedules and gradient models that points share: each is made and checked once.

    Parameters
    ----------
    varying
        The parameters in which the points differ.
    """

    def __init__(self, varying: Iterable[str]) -> None:
        self._varying = frozenset(varying)
        self._names: dict[str, tuple[str, ...]] = {}
        self._made: dict[Any, Any] = {}

    def once(
        self, kind: str, names: Iterable[str], point: Mapping[str, Any], make: Callable[[], Any]
    ) -> Any:
        """What `make` makes of the parameters `names` of a point."""
        if kind not in self._names:
            self._names[kind] = tuple(name for name in names if name in self._varying)
        varying = self._names[kind]
        key = (kind, *[_key(point[name]) for name in varying]) if varying else kind
        try:
            return self._made[key]
        except KeyError:
            return self._made.setdefault(key, make())

    def times(self, point: Mapping[str, Any]) -> NDArray[np.int64] | None:
        """Recorded times up to the last step."""
        times = point.get("times")
        if times is None or "steps" not in point:
            return times

        def until() -> NDArray[np.int64]:
            last = check_integer("steps", point["steps"], 1, MAX_COUNT)
            return np.asarray(times[times <= last])

        return self.once("times", ("steps",), point, until)  # type: ignore[no-any-return]

    def config(
        self,
        point: Mapping[str, Any],
        make: Callable[[Mapping[str, Any], Mapping[str, Any]], EnsembleConfig],
        parts: Mapping[str, Part],
    ) -> EnsembleConfig:
        """The configuration of a point, from parts that have been checked for themselves.

        `make(point, parts)` checks all the rest together, once for each choice of that.
        """
        made = {
            name: self.once(name, part.parameters, point, partial(part.make, point))
            for name, part in parts.items()
        }
        rest = self._varying - {name for part in parts.values() for name in part.parameters}
        rest |= self._varying & {"noise", "trace"}  # a trace has as many steps and trajectories
        config = self.once("config", rest, point, lambda: make(point, made))
        return config.varied(**made)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Part:
    """A field of a configuration, made of some parameters of a point."""

    parameters: tuple[str, ...]
    make: Callable[[Mapping[str, Any]], Any]


def _key(value: Any) -> Any:
    """Equal for equal numbers and words, and for the same object."""
    return value if isinstance(value, (str, int, float, bool, type(None))) else id(value)


def _rule(point: Mapping[str, Any]) -> Optimizer:
    optimizer = point["optimizer"]
    if isinstance(optimizer, Optimizer):
        for name in _HYPERPARAMETERS:
            if point.get(name) is not None:
                raise InvalidParameter(name, "used with the name of an optimizer", optimizer)
        return optimizer
    rule = OPTIMIZERS[check_choice("optimizer", optimizer, OPTIMIZERS)]
    own = {name: point[name] for name in rule.parameter_names() if point.get(name) is not None}
    return rule(**own)


def _schedule(point: Mapping[str, Any]) -> Any:
    schedule = point["schedule"]
    if not isinstance(schedule, str):
        return schedule
    steps = check_integer("steps", point.get("steps", EnsembleConfig.steps), 1, MAX_COUNT)
    return parse_schedule(schedule, steps)


def _lam(point: Mapping[str, Any]) -> float:
    return check_number("lam", point["lam"], "[0, inf)")


def _noise(point: Mapping[str, Any]) -> Any:
    noise = point.get("noise")
    if noise is None or isinstance(noise, str):
        trace = point.get("trace")
        return trace if isinstance(trace, Trace) else make_noise(noise, point)
    for name in NOISE_PARAMETERS:
        if point.get(name) is not None:
            raise InvalidParameter(name, "used with the name of a gradient model", noise)
    return noise


def _signal(point: Mapping[str, Any]) -> Signal:
    return Signal(point.get("signal", Signal.strength), point.get("target", Signal.target))


_RULE = Part(("optimizer", *_HYPERPARAMETERS), _rule)
_LAM = Part(("lam",), _lam)
_NOISE = Part(("noise", *NOISE_PARAMETERS), _noise)
_SIGNAL = Part(("signal", "target"), _signal)


def _rest(point: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The fields that are parameters themselves, the recorded times and the schedule."""
    given = {name: point[name] for name in (*_ENSEMBLE, *names) if name in point}
    if point.get("schedule") is not None:
        given["schedule"] = _schedule(point)
    return {**given, "times": point.get("times")}


def _weight(point: Mapping[str, Any], made: Made) -> EnsembleConfig:
    parts = {"optimizer": _RULE, "noise": _NOISE, "signal": _SIGNAL}
    if "lam" in point:
        parts["lam"] = _LAM
    return made.config(
        point, lambda point, parts: ScalarConfig(**{**_rest(point, ["theta0"]), **parts}), parts
    )


def _unit(point: Mapping[str, Any], made: Made) -> EnsembleConfig:
    parts = {"optimizer": _RULE}
    if "lam" in point:
        parts["lam"] = _LAM
    return made.config(point, _make_unit, parts)


def _make_unit(point: Mapping[str, Any], parts: Mapping[str, Any]) -> NeuronConfig:
    given = _rest(point, ["gamma0", "beta0", "c", "batch", "antithetic"])
    if "psbn_alpha" in point:
        given["alpha"] = point["psbn_alpha"]
    try:
        return NeuronConfig(**{**given, **parts})
    except InvalidParameter as error:
        # The rule, whose own alpha that might be, was checked before.
        name = "psbn_alpha" if error.name == "alpha" else error.name
        raise InvalidParameter(name, error.requirement, error.value) from None


_SHARED = ("optimizer", "schedule", *_HYPERPARAMETERS)

SYSTEMS = {
    system.name: system
    for system in (
        SweptSystem(
            "scalar",
            (*_SHARED, "noise", *NOISE_PARAMETERS, "signal", "target", "theta0", *_ENSEMBLE),
            _weight,
            WEIGHT,
            summarize_weights,
        ),
        SweptSystem(
            "neuron",
            (*_SHARED, "gamma0", "beta0", "c", "batch", "psbn_alpha", "antithetic", *_ENSEMBLE),
            _unit,
            UNIT,
            summarize_units,
        ),
    )
}
"""What can be swept, by name: one weight, or one BN+ReLU unit."""


def configurations(
    system: SweptSystem, fixed: Mapping[str, Any], points: Iterable[Mapping[str, Any]]
) -> list[EnsembleConfig]:
    """The configuration of each point, which adds the same parameters to what is fixed.

    Recorded times after the last step of a point are left out.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used.
    """
    listed = list(points)
    made = Made(listed[0] if listed else ())
    configs = []
    for own in listed:
        point = {**fixed, **own}
        point["times"] = made.times(point)
        configs.append(system.make(point, made))
    return configs


def check_axis(system: SweptSystem, name: str) -> None:
    """Raise InvalidParameter for a parameter that the system does not have."""
    if name in system.parameters:
        return
    others = [each.name for each in SYSTEMS.values() if name in each.parameters]
    if others:
        raise InvalidParameter(name, f"used with system {' or '.join(others)}", system.name)
    check_choice(f"axis of system {system.name}", name, system.parameters)


def check_hyperparameters(
    axes: Iterable[str], fixed: Mapping[str, Any], optimizers: Iterable[Any]
) -> None:
    """Raise InvalidParameter for a hyperparameter that optimizers lack.

    One that is an axis must be all of theirs, one that is fixed somebody's, as in `regdyn simulate`.
    """
    names = [each for each in optimizers if not isinstance(each, Optimizer)]
    rules = [OPTIMIZERS[check_choice("optimizer", name, OPTIMIZERS)] for name in names]
    for name in axes:
        for rule in rules:
            if name in _HYPERPARAMETERS and name not in rule.parameter_names():
                having = [each.name for each in OPTIMIZERS.values() if name in each.parameter_names()]
                wanted = f"varied with optimizers that all have it ({', '.join(having)})"
                raise InvalidParameter(name, wanted, rule.name)
    if names:
        make_optimizers(names, fixed)

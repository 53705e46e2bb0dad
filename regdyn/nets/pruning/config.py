"""What is pruned while a network trains, and the text for it."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from regdyn.errors import InvalidParameter
from regdyn.parameters import check_choice, check_integer, check_number, make_named

TARGETS = ("smallest", "random", "largest", *(f"decile{i}" for i in range(10)))
KINDS = ("units", "weights")
IMPORTANCES = ("ebn", "l1", "l2", "gamma")
SCOPES = ("layer", "global")
NOISES = ("zeroing", "gaussian")

FRACTION = 0.5
"""Share that goes unless told."""

MOST = 10**9


@dataclass(frozen=True, kw_only=True)
class Pruning:
    r"""Iterative magnitude pruning: at each of several steps the least, or greatest, or others go.

    A layer l loses the same number at each event from step :math:`s_l` to :math:`e_l`, r steps apart,
    and in the end the share :math:`p_l` of its units, or weights. One event is one-shot pruning.

    Parameters
    ----------
    target
        What goes, of all in the order of their importance: "smallest", "largest", "random", or
        "decile0" … "decile9": from the bottom of that tenth of what remains upwards.
    what
        "units" (structured: neurons, filters) or "weights" (unstructured; single ones by
        :math:`|w|`).
    importance
        Of a unit: "ebn" (E[BN], appendix A.1), "l1" or "l2" (norm of its incoming weights), "gamma"
        (its modulus). Where None "ebn" where it is known, that is with normalisation before an
        activation that is linear below 0, else "l2".
    fraction
        p, share of the units (weights) of each pruned layer, in (0, 1), one for all or for each.
    flops
        In place of `fraction`: share of the network's multiplications. With scope "layer" every pruned
        layer loses the least share of its units that does it; with "global" as many of the ranking
        go.
    scope
        "layer": each layer has a ranking of its own; "global": there is one over all pruned layers.
        In either no layer is emptied.
    layers
        Names of the pruned layers, or ("last4",) for the last four of those whose units count. All of
        these where empty.
    start, end
        s and e, steps of the first and the last event, one for all or for each layer; an event follows
        its step, 0 is before the first. A tenth and three quarters of the run where None.
    retrain
        r, steps between events.
    rate
        In place of `retrain`: the greatest share of a layer that goes at an event; the events are
        evenly spaced from start to end. With neither there are 10.
    noise
        Disturb instead of removing (section 4.4): "zeroing" sets the weights of those chosen to 0,
        "gaussian" adds noise whose std is that of the layer's undisturbed weights.
    hold
        Steps after the event for which they are held at 0, or get fresh noise after each.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.

    Source: bartoldson2020, sections 3 and 4.4 and appendix A.3.
    """

    target: str = "smallest"
    what: str = "units"
    importance: str | None = None
    fraction: float | tuple[float, ...] | None = None
    flops: float | None = None
    scope: str = "layer"
    layers: tuple[str, ...] = ()
    start: int | tuple[int, ...] | None = None
    end: int | tuple[int, ...] | None = None
    retrain: int | None = None
    rate: float | None = None
    noise: str | None = None
    hold: int = 0

    def __post_init__(self) -> None:
        self._store("target", check_choice("target", self.target, TARGETS))
        self._store("what", check_choice("what", self.what, KINDS))
        if self.importance is not None:
            self._store("importance", check_choice("importance", self.importance, IMPORTANCES))
            if self.what == "weights":
                wanted = "left out with what=weights, which go by their modulus"
                raise InvalidParameter("importance", wanted, self.importance)
        self._store("scope", check_choice("scope", self.scope, SCOPES))
        if self.noise is not None:
            self._store("noise", check_choice("noise", self.noise, NOISES))
        self._store("hold", check_integer("hold", self.hold, 0, MOST))
        if self.hold and self.noise is None:
            raise InvalidParameter("hold", "used with noise", self.hold)
        self._check_amount()
        self._check_times()
        self._store("layers", _names(self.layers))

    def _check_amount(self) -> None:
        if self.flops is not None:
            self._store("flops", check_number("flops", self.flops, "(0, 1)"))
            if self.fraction is not None:
                raise InvalidParameter("flops", "used without fraction", self.flops)
            if self.what != "units" or self.noise is not None:
                raise InvalidParameter("flops", "used where whole units are removed", self.flops)
        elif self.fraction is None:
            self._store("fraction", FRACTION)
        else:
            self._each("fraction", _share)

    def _check_times(self) -> None:
        for name in ("start", "end"):
            if getattr(self, name) is not None:
                self._each(name, _step)
        if self.retrain is not None:
            self._store("retrain", check_integer("retrain", self.retrain, 1, MOST))
        if self.rate is not None:
            self._store("rate", check_number("rate", self.rate, "(0, 1]"))
            if self.retrain is not None:
                raise InvalidParameter("rate", "used without retrain", self.rate)
            if self.flops is not None:
                raise InvalidParameter("rate", "used without flops", self.rate)

    def _each(self, name: str, check: Callable[[str, Any], float]) -> None:
        """Store one number, or one for each layer, given as such or as text with slashes."""
        value = getattr(self, name)
        parts = value.split("/") if isinstance(value, str) else value
        if isinstance(parts, str) or not isinstance(parts, Sequence):
            self._store(name, check(name, parts))
            return
        numbers = tuple(check(name, part) for part in parts)
        if not numbers:
            raise InvalidParameter(name, "a number, or one for each layer", value)
        if len(numbers) > 1 and self.scope == "global":
            raise InvalidParameter(name, "a single number with scope=global", value)
        self._store(name, numbers if len(numbers) > 1 else numbers[0])

    def _store(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def removes(self) -> bool:
        """Whether what is chosen goes for good."""
        return self.noise is None

    @property
    def removes_units(self) -> bool:
        """Whether whole units go for good."""
        return self.removes and self.what == "units"

    def __str__(self) -> str:
        """The text of which `make_pruning` makes the same."""
        settings = [
            f"{field.name}={_text(field.name, getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if field.name != "target" and getattr(self, field.name) != field.default
        ]
        return self.target + (":" + ",".join(settings) if settings else "")


def make_pruning(pruning: str | Pruning | None) -> Pruning | None:
    """A pruning from its text, TARGET or TARGET:KEY=VALUE,…; "none" is None.

    Keys are the other parameters of `Pruning`; several numbers have slashes, names plus signs between
    them: "largest:fraction=0.3/0.3/0.9,layers=C5+C6+C7,retrain=400".

    Raises
    ------
    InvalidParameter
        For "prune": an unknown target or key, a value that cannot be used, and what is no pruning.
    """
    if pruning is None or isinstance(pruning, Pruning):
        return pruning
    if not isinstance(pruning, str):
        raise InvalidParameter("prune", "a Pruning or its text", pruning)
    if pruning == "none":
        return None
    return make_named("prune", pruning, {t: _maker(t) for t in TARGETS}, others=["none"])


def _maker(target: str) -> Callable[..., Pruning]:
    """`Pruning` of that target, whose signature are the keys."""

    def make(**settings: Any) -> Pruning:
        return Pruning(target=target, **settings)

    keys = inspect.signature(Pruning).parameters.values()
    signature = inspect.Signature([key for key in keys if key.name != "target"])
    make.__signature__ = signature  # type: ignore[attr-defined]
    return make


def _share(name: str, value: Any) -> float:
    return check_number(name, value, "(0, 1)")


def _step(name: str, value: Any) -> int:
    return check_integer(name, value, 0, MOST)


def _names(layers: Any) -> tuple[str, ...]:
    parts = layers.split("+") if isinstance(layers, str) else layers
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise InvalidParameter("layers", "names of layers", layers)
    names = tuple(part.strip() for part in parts)
    if not all(names) or len(set(names)) < len(names):
        raise InvalidParameter("layers", "names of layers, each once", layers)
    return names


def last(layers: tuple[str, ...]) -> int | None:
    """4 for ("last4",), None for names."""
    if len(layers) != 1:
        return None
    found = re.fullmatch(r"last([1-9]\d{0,5})", layers[0])
    return int(found[1]) if found else None


def _text(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return ("+" if name == "layers" else "/").join(_text("", part) for part in value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)

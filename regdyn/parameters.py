"""Parameters with a range: declared once, checked in Python, documented on the command line."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from regdyn.errors import InvalidParameter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Made = TypeVar("Made")


@dataclass(frozen=True)
class Interval:
    """A range of real numbers written the usual way: "[0, 1)", "(0, inf)".

    A closed end at infinity ("[0, inf]") does not occur: infinities and NaN are never inside.
    """

    text: str

    @cached_property
    def _ends(self) -> tuple[float, ...]:
        return tuple(float(end) for end in self.text[1:-1].split(","))

    def __contains__(self, value: float) -> bool:
        low, high = self._ends
        if not math.isfinite(value):
            return False
        above = value >= low if self.text[0] == "[" else value > low
        below = value <= high if self.text[-1] == "]" else value < high
        return above and below


_interval = cache(Interval)


def check_number(name: str, value: Any, interval: str) -> float:
    """`value` as a float inside `interval`, or InvalidParameter."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidParameter(name, f"a number in {interval}", repr(value)) from None
    if number not in _interval(interval):
        raise InvalidParameter(name, f"in {interval}", value)
    return number


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """`value`, a whole number or its text ("4096", "1e6"), as an int in [low, high]."""
    try:
        number = int(value) if not isinstance(value, str) or value.isdecimal() else float(value)
        whole = int(number)
        integral = whole == float(value) if abs(whole) < 2**53 else whole == number
    except (TypeError, ValueError, OverflowError):
        integral = False
    if not integral or not low <= whole <= high:
        raise InvalidParameter(name, f"an integer in [{low}, {high}]", value)
    return whole


def real_array(name: str, value: Any, wanted: str) -> NDArray[np.floating | np.integer]:
    """`value` as an array of real numbers, a memory-mapped one as it is, or InvalidParameter."""
    import numpy as np

    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except (TypeError, ValueError):
        raise InvalidParameter(name, wanted, "rows of different lengths") from None
    if array.dtype.kind not in "fiu":
        raise InvalidParameter(name, wanted, f"{array.dtype} of shape {array.shape}")
    return array


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """`value` if it is one of `choices`, or InvalidParameter that names the nearest one."""
    known = list(choices)
    if value in known:
        return str(value)
    near = get_close_matches(str(value).lower(), known, n=1, cutoff=0.5)
    hint = f" (nearest: {near[0]})" if near else ""
    raise InvalidParameter(name, f"one of {', '.join(known)}{hint}", repr(value))


def make_named(
    parameter: str,
    text: str,
    makers: Mapping[str, Callable[..., Made]],
    *given: Any,
    others: Iterable[str] = (),
) -> Made:
    """What one of `makers` makes of `given` and the settings in `text`, NAME or NAME:KEY=VALUE,….

    `others` are more choices to be named where NAME is none of the makers. InvalidParameter, called
    `parameter`, for an unknown name or key and for a value that the maker refuses.
    """
    name, colon, settings = text.partition(":")
    make = makers[check_choice(parameter, name, [*makers, *others])]
    wanted = f"{name} or {name}:KEY=VALUE,…"
    known = list(inspect.signature(make).parameters)[len(given) :]
    if colon and not known:
        raise InvalidParameter(parameter, name, text)
    values: dict[str, str] = {}
    try:
        for setting in settings.split(",") if colon else ():
            key, equals, value = (part.strip() for part in setting.partition("="))
            if not (key and equals and value) or key in values:
                raise InvalidParameter(parameter, wanted, text)
            values[check_choice("KEY", key, known)] = value
        return make(*given, **values)
    except InvalidParameter as error:
        if error.name not in ("KEY", *known):
            raise
        raise InvalidParameter(parameter, wanted, f"{text}, where {error}") from None


def number(default: float, interval: str, doc: str) -> Any:
    """A dataclass field that holds a real number inside `interval`."""
    return dataclasses.field(default=default, metadata={"interval": interval, "doc": doc})


def flag(default: bool, doc: str) -> Any:
    """A dataclass field that holds True or False."""
    return dataclasses.field(default=default, metadata={"doc": doc})


def check_fields(instance: Any) -> None:
    """Check every field made by `number` and `flag`, and store numbers as floats."""
    for name, interval, is_flag in _checked_fields(instance.__class__):
        value = getattr(instance, name)
        if interval is not None:
            value = check_number(name, value, interval)
        elif is_flag and not isinstance(value, bool):
            raise InvalidParameter(name, "True or False", value)
        object.__setattr__(instance, name, value)


@cache
def _checked_fields(cls: type) -> tuple[tuple[str, str | None, bool], ...]:
    """Name, interval and whether it is a flag, of every field of a dataclass."""
    return tuple(
        (field.name, field.metadata.get("interval"), isinstance(field.default, bool))
        for field in dataclasses.fields(cls)
    )

"""Learning-rate schedules: the factor on the base learning rate at step t = 1, 2, …"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.per_step import PerStep
from regdyn.errors import InvalidParameter
from regdyn.files import load_numbers
from regdyn.parameters import check_integer, check_number

MAX_STEPS = 10**12


class Schedule(Protocol):
    """Anything that maps an array of steps, counted from 1, to factors."""

    def __call__(self, t: NDArray[np.int64]) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class Constant:
    """Factor 1 throughout."""

    def __str__(self) -> str:
        return "constant learning rate"

    def __call__(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.ones(len(t))


@dataclass(frozen=True)
class Step:
    """Multiply by `factor` after each of the `boundaries`: step b + 1 is the first scaled one.

    torch's MultiStepLR with milestones `boundaries`, stepped once after each optimizer step.
    """

    boundaries: tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        given = self.boundaries if isinstance(self.boundaries, Iterable) else (self.boundaries,)
        bounds = tuple(check_integer("boundaries", b, 1, MAX_STEPS) for b in given)
        if not bounds or list(bounds) != sorted(set(bounds)):
            raise InvalidParameter("boundaries", "increasing step numbers", self.boundaries)
        object.__setattr__(self, "boundaries", bounds)
        object.__setattr__(self, "factor", check_number("factor", self.factor, "[0, inf)"))

    def __str__(self) -> str:
        return f"learning rate x {self.factor:g} after {', '.join(map(str, self.boundaries))} steps"

    def __call__(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        passed = np.searchsorted(np.asarray(self.boundaries), t, side="left")
        return np.asarray(self.factor**passed, dtype=float)


@dataclass(frozen=True)
class Cosine:
    """Fall from 1 to `final` along half a cosine over `period` steps, then stay there.

    scale(t) = final + (1 - final) (1 + cos(pi min(t - 1, period) / period)) / 2: torch's
    CosineAnnealingLR(T_max=period), optax's cosine_decay_schedule(decay_steps=period).
    """

    period: int
    final: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "period", check_integer("period", self.period, 1, MAX_STEPS))
        object.__setattr__(self, "final", check_number("final", self.final, "[0, 1]"))

    def __str__(self) -> str:
        return f"cosine learning rate x 1 to {self.final:g} over {self.period} steps"

    def __call__(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        done = np.minimum(np.asarray(t) - 1, self.period) / self.period
        return np.asarray(self.final + (1 - self.final) * (1 + np.cos(math.pi * done)) / 2)


@dataclass(frozen=True)
class CosineRestarts:
    """Half a cosine from 1 to `final`, again and again (Loshchilov and Hutter 2017, SGDR).

    Round i lasts `period` * `growth`^i steps: torch's CosineAnnealingWarmRestarts.
    """

    period: int
    growth: int = 1
    final: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "period", check_integer("period", self.period, 1, MAX_STEPS))
        object.__setattr__(self, "growth", check_integer("growth", self.growth, 1, 1000))
        object.__setattr__(self, "final", check_number("final", self.final, "[0, 1]"))

    def __str__(self) -> str:
        longer = f", each {self.growth} times as long as the last" if self.growth > 1 else ""
        return f"cosine learning rate x 1 to {self.final:g} in rounds of {self.period} steps{longer}"

    def __call__(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        done = np.asarray(t) - 1
        if self.growth == 1:
            start, length = done - done % self.period, np.full(done.shape, self.period)
        else:
            starts, lengths = [0], [self.period]
            while len(done) and starts[-1] + lengths[-1] <= done[-1]:
                starts.append(starts[-1] + lengths[-1])
                lengths.append(lengths[-1] * self.growth)
            round_ = np.searchsorted(starts, done, side="right") - 1
            start, length = np.asarray(starts)[round_], np.asarray(lengths)[round_]
        share = (done - start) / length
        return np.asarray(self.final + (1 - self.final) * (1 + np.cos(math.pi * share)) / 2)


class Table(PerStep):
    """One factor per step, from an array; the last one holds after its end."""

    parameter = "schedule"


def parse_schedule(text: str, steps: int) -> Schedule:
    """A schedule from its short form on the command line.

    "constant", "step:4000,8000" or "step:4000,8000:0.1", "cosine" or "cosine:FINAL" over all `steps`,
    "restarts:PERIOD" or "restarts:PERIOD:GROWTH", or the path of a .npy file with a factor per step.
    """
    forms = (
        "constant, step:B1,B2,…[:FACTOR], cosine[:FINAL], restarts:PERIOD[:GROWTH] "
        "or a .npy file of factors"
    )
    if text.endswith(".npy"):
        return Table(load_numbers("schedule", text))
    kind, *arguments = text.split(":")
    try:
        if kind == "constant" and not arguments:
            return Constant()
        if kind == "step" and 1 <= len(arguments) <= 2:
            boundaries = tuple(int(b) for b in arguments[0].split(","))
            return Step(boundaries, *(float(a) for a in arguments[1:]))
        if kind == "cosine" and len(arguments) <= 1:
            return Cosine(steps, *(float(a) for a in arguments))
        if kind == "restarts" and 1 <= len(arguments) <= 2:
            return CosineRestarts(*(int(a) for a in arguments))
    except InvalidParameter as error:
        raise InvalidParameter("schedule", f"{forms}, where {error}", text) from None
    except ValueError:
        pass
    raise InvalidParameter("schedule", forms, text)

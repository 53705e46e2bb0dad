"""When something goes, and how much is gone then: counts that reach their total exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from regdyn.errors import InvalidParameter
from regdyn.nets.pruning.budget import Multiplications, uniform_counts
from regdyn.nets.pruning.config import Pruning, last

EVENTS = 10
"""Events where neither their distance nor their size is given."""


@dataclass(frozen=True, kw_only=True)
class HiddenLayer:
    """A hidden layer that can be pruned.

    Attributes
    ----------
    name
        What users see.
    units
        How many it has.
    inputs
        Weights of a unit.
    counted
        Whether it is pruned unless layers are named.
    """

    name: str
    units: int
    inputs: int
    counted: bool = True

    @property
    def weights(self) -> int:
        return self.units * self.inputs


@dataclass(frozen=True)
class Event:
    """Something goes after a step.

    Attributes
    ----------
    step
        The step.
    goals
        How many of each pruned layer (with scope "global" of all together, a single number) have been
        chosen after this event, those before included.
    flops
        Where there are no goals: the share of the multiplications that is gone after this event.
    """

    step: int
    goals: tuple[int, ...] = ()
    flops: Fraction = Fraction(0)


@dataclass(frozen=True)
class Plan:
    """What a `Pruning` means for a network and a run.

    Attributes
    ----------
    layers
        Which of the hidden layers are pruned.
    sizes
        Units, or weights, of each of them.
    events
        In the order of their steps.
    """

    layers: tuple[int, ...]
    sizes: tuple[int, ...]
    events: tuple[Event, ...]


def make_plan(
    pruning: Pruning, hidden: Sequence[HiddenLayer], steps: int, multiplications: Multiplications
) -> Plan:
    r"""The events of a run.

    Of the n events of a layer, number i leaves :math:`\lfloor N i / n + 1/2 \rfloor` chosen, N the
    share of its size rounded half up, at most all but one. What adds nothing anywhere is no event.

    Parameters
    ----------
    pruning
        What is wanted.
    hidden
        The hidden layers, in order.
    steps
        Of the run.
    multiplications
        Of a forward pass, from the number of units removed of each hidden layer.

    Raises
    ------
    InvalidParameter
        For "prune": layers that are not there, as many numbers as there are layers, events outside the
        run or closer than a step, a share that takes nothing, or more multiplications than can go.

    Source: bartoldson2020, appendix A.3; the rounding is ours.
    """
    layers = _layers(pruning, hidden)
    sizes = tuple(hidden[i].units if pruning.what == "units" else hidden[i].weights for i in layers)
    spans = _spans(pruning, len(layers), steps)
    totals = _totals(pruning, hidden, layers, sizes, multiplications)
    if totals is None:
        assert pruning.flops is not None
        at, share = _times(pruning, *spans[0], None), exact(pruning.flops)
        events = [Event(step, flops=share * (i + 1) / len(at)) for i, step in enumerate(at)]
        return Plan(layers, sizes, tuple(events))
    if not any(totals):
        raise _refused(pruning, f"such that at least one of {sum(sizes)} {pruning.what} goes")
    shares = _per_layer(pruning, "fraction", len(totals))
    reached: list[dict[int, int]] = []
    for span, share, total in zip(spans, shares, totals):
        at = _times(pruning, *span, share)
        reached.append(dict(zip(at, cumulative(total, len(at)))))
    goals = (0,) * len(totals)
    merged = []
    for step in sorted(set().union(*reached)):
        before, goals = goals, tuple(new.get(step, old) for new, old in zip(reached, goals))
        if goals != before:
            merged.append(Event(step, goals))
    return Plan(layers, sizes, tuple(merged))


def exact(share: float) -> Fraction:
    """The share as it is written in decimals: 0.29 of 50 is 14.5, and not a little less."""
    return Fraction(repr(share))


def rounded(share: Fraction, size: int) -> int:
    """share * size, rounded half up."""
    return math.floor(share * size + Fraction(1, 2))


def cumulative(total: int, events: int) -> list[int]:
    """What is gone of the total after each of the events: total * i / events, rounded half up."""
    return [(2 * total * i + events) // (2 * events) for i in range(1, events + 1)]


def _totals(
    pruning: Pruning,
    hidden: Sequence[HiddenLayer],
    layers: Sequence[int],
    sizes: Sequence[int],
    multiplications: Multiplications,
) -> list[int] | None:
    """What goes of each layer, or of all together; None where only the ranking will tell."""
    if pruning.flops is not None:
        counts = uniform_counts(exact(pruning.flops), hidden_units(hidden), layers, multiplications)
        if counts is None:
            everything = [0] * len(hidden)
            for i, size in zip(layers, sizes):
                everything[i] = size - 1
            most = 1 - multiplications(everything) / multiplications([0] * len(hidden))
            raise _refused(pruning, f"such that flops is at most {most:.4f}, what these layers have")
        return None if pruning.scope == "global" else counts
    if pruning.scope == "global":
        (share,) = _per_layer(pruning, "fraction", 1)
        return [min(rounded(exact(share), sum(sizes)), sum(sizes) - len(sizes))]
    shares = _per_layer(pruning, "fraction", len(sizes))
    return [min(rounded(exact(share), size), size - 1) for share, size in zip(shares, sizes)]


def hidden_units(hidden: Sequence[HiddenLayer]) -> list[int]:
    return [layer.units for layer in hidden]


def _layers(pruning: Pruning, hidden: Sequence[HiddenLayer]) -> tuple[int, ...]:
    """Which of the hidden layers are pruned, in their order as named."""
    counted = tuple(i for i, layer in enumerate(hidden) if layer.counted)
    if not pruning.layers:
        return counted
    number = last(pruning.layers)
    if number is not None:
        if number > len(counted):
            raise _refused(pruning, f"such that layers is at most last{len(counted)}")
        return counted[-number:]
    # On a command line a name is best without spaces.
    names = [layer.name.replace(" ", "") for layer in hidden]
    wanted = [name.replace(" ", "") for name in pruning.layers]
    if not set(wanted) <= set(names):
        known = ", ".join(names)
        raise _refused(pruning, f"such that layers are among {known}, or last1 … last{len(counted)}")
    return tuple(names.index(name) for name in wanted)


def _spans(pruning: Pruning, layers: int, steps: int) -> list[tuple[int, int]]:
    """First and last possible step of the events of each layer."""
    starts = _per_layer(pruning, "start", layers, steps // 10)
    ends = _per_layer(pruning, "end", layers, 3 * steps // 4)
    if pruning.end is None:
        ends = [max(start, end) for start, end in zip(starts, ends)]
    if pruning.start is None:
        starts = [min(start, end) for start, end in zip(starts, ends)]
    for start, end in zip(starts, ends):
        if not start <= end <= steps:
            wanted = f"such that start and end are in order and in [0, {steps}]"
            raise _refused(pruning, wanted)
    return list(zip(starts, ends))


def _times(pruning: Pruning, start: int, end: int, fraction: float | None) -> list[int]:
    """The steps of a layer's events."""
    if pruning.retrain is not None:
        return list(range(start, end + 1, pruning.retrain))
    if pruning.rate is None or fraction is None:
        count = min(EVENTS, end - start + 1)
    else:
        count = math.ceil(exact(fraction) / exact(pruning.rate))
    if count > end - start + 1:
        raise _refused(pruning, f"such that {count} events fit into steps {start} to {end}")
    gaps = max(count - 1, 1)
    return [start + (2 * (end - start) * i + gaps) // (2 * gaps) for i in range(count)]


def _per_layer(pruning: Pruning, name: str, layers: int, default: int | None = None) -> list:
    """One number for each layer."""
    value = getattr(pruning, name)
    if not isinstance(value, tuple):
        return [default if value is None else value] * layers
    if len(value) != layers:
        wanted = f"such that {name} is one number or one for each of {layers} layers"
        raise _refused(pruning, wanted)
    return list(value)


def _refused(pruning: Pruning, wanted: str) -> InvalidParameter:
    return InvalidParameter("prune", wanted, str(pruning))

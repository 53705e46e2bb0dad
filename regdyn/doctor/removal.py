"""Which dead filters can go, which must stay to carry constants, and the network without them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regdyn.doctor.compare import EQUAL, difference
from regdyn.doctor.coupling import UNKNOWN, Coupling, Place
from regdyn.doctor.kinds import is_depthwise
from regdyn.doctor.probing import FEW, MANY, SAME, Inputs, probe, zero, zeroed
from regdyn.doctor.surgery import Key, Read, absorb, block_of, padded, remove
from regdyn.nets.sparsity import Array, Mask, spare_one

ALIVE = "living filters are added to them or multiply them"
BROKEN = "without them the network's own code gives something else"
UNEQUAL = "each group of a grouped convolution must lose as many"
ALONE = "their constants reach padded borders, where no other filter's can stand in for them"
UNREAD = "no layer reads them that could take in their constant"


@dataclass(frozen=True, eq=False)
class Site:
    """A layer by which filters are told dead.

    Attributes
    ----------
    criterion
        "scale" or "norm": what `strength` is.
    strength
        |gamma|, or the L2 norm of the weights, shape (filters,).
    unit
        Of each filter, as numbered by `Coupling`; -1 where it has none.
    """

    criterion: str
    strength: Array
    unit: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done.

    Attributes
    ----------
    removed, constant
        Masks of units: those that go, and those that are zeroed and stay.
    spared
        Units that stay as they were since a layer would have vanished.
    reasons
        Why other marked units stay.
    zeroed
        By path, the marked filters of the units that go or are constant.
    reads, carriers
        As for `surgery.absorb`.
    """

    removed: Mask
    constant: Mask
    spared: Sequence[int]
    reasons: Mapping[int, str]
    zeroed: Mapping[str, Mask]
    reads: Mapping[str, Sequence[Read]]
    carriers: Mapping[Key, Read]


class Removal:
    """The removal of marked filters from a network.

    Parameters
    ----------
    base
        In float64 on the processor and in evaluation mode; it stays as it is.
    example
        A batch for it.
    coupling
        Of both.
    sites
        By path.
    marked
        A mask for each site.
    seed
        Of all noise.
    """

    def __init__(
        self,
        base: nn.Module,
        example: Tensor,
        coupling: Coupling,
        sites: Mapping[str, Site],
        marked: Mapping[str, Mask],
        seed: int,
    ) -> None:
        self._base = base
        self._example = example
        self._coupling = coupling
        self._sites = sites
        self._marked = marked
        self._seed = seed
        # Of each unit, that of its strongest marked filter; -1 without any.
        self._strength = np.full(coupling.units, -1.0)
        for path, site in sites.items():
            own = marked[path] & (site.unit >= 0)
            np.maximum.at(self._strength, site.unit[own], site.strength[own])

    def run(self) -> tuple[nn.Module, Plan]:
        """The slim network in float64, and what was done.

        Whether it computes what the zeroed one does is tried; where it does not, the groups of layers
        that are to blame are found by halving, and stay.
        """
        groups = np.unique(self._coupling.group[self._strength >= 0]).tolist()
        done = self._attempt(groups)
        if done is not None:
            return done
        best: list[int] = []
        done = self._attempt(best)
        assert done is not None, "the network equals itself"
        pending = [groups]
        while pending:
            part = pending.pop(0)
            better = self._attempt([*best, *part])
            if better is not None:
                best, done = [*best, *part], better
            elif len(part) > 1:
                half = len(part) // 2
                pending = [part[:half], part[half:], *pending]
        return done

    def _attempt(self, groups: Sequence[int]) -> tuple[nn.Module, Plan] | None:
        """The network without what can go of these groups; None if it computes something else."""
        plan = self._plan(np.isin(self._coupling.group, groups))
        reference = copy.deepcopy(self._base)
        zero(reference, plan.zeroed)
        model = copy.deepcopy(reference)
        generator = torch.Generator().manual_seed(self._seed)
        noise = torch.randn(self._example.shape, generator=generator, dtype=torch.float64)
        try:
            with torch.no_grad():
                absorb(model, self._coupling, plan.removed, plan.reads, plan.carriers)
                remove(model, self._coupling, plan.removed)
            apart = difference(model, reference, [self._example, noise])
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
            return None  # the forward pass of the network asks for the sizes that it had
        return (model, plan) if apart <= EQUAL[torch.float64] else None

    def _plan(self, allowed: Mask) -> Plan:
        """Ever fewer units, until what is left is consistent: one that stays can make others alive."""
        coupling = self._coupling
        dead = self._strength >= 0
        reasons = dict.fromkeys(np.flatnonzero(dead & ~allowed).tolist(), BROKEN)
        reasons |= {unit: why for unit, why in coupling.blocked.items() if dead[unit]}
        spared: list[int] = []
        sure = False
        while True:
            chosen = dead.copy()
            chosen[[*reasons, *spared]] = False
            marked = self._masks(chosen)
            inputs = self._probe(marked, MANY if sure else FEW)
            if alive := self._alive(chosen, inputs):
                reasons |= alive
                continue
            if last := self._last_ones(chosen):
                spared += last
                continue
            reads = self._reads(chosen, inputs)
            carriers = choose_carriers(read for each in reads.values() for read in each)
            constant = np.zeros_like(chosen)
            constant[[read.unit for read in carriers.values()]] = True
            if alone := self._alone(reads, carriers):
                reasons |= alone
                continue
            removed = chosen & ~constant
            if unequal := self._unequal(removed):
                reasons |= unequal
                continue
            if not sure:
                sure = True
                continue
            if lost := coupling.lost(removed):
                members = np.flatnonzero(chosen & np.isin(coupling.group, lost))
                reasons |= dict.fromkeys(members.tolist(), UNKNOWN)
                continue
            return Plan(removed, constant, spared, reasons, marked, reads, carriers)

    def _masks(self, chosen: Mask) -> dict[str, Mask]:
        """The marked filters of the chosen units, by site, where there are any."""
        masks = {}
        for path, site in self._sites.items():
            mask = self._marked[path] & (site.unit >= 0)
            mask[mask] = chosen[site.unit[mask]]
            if mask.any():
                masks[path] = mask
        return masks

    def _probe(self, marked: Mapping[str, Mask], samples: int) -> dict[str, Inputs]:
        if not marked:
            return {}
        paths = [place.path for place in self._coupling.readers]
        with zeroed(self._base, marked):
            return probe(self._base, paths, self._example, samples, self._seed)

    def _columns(self, chosen: Mask, place: Place) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The channels of a place that belong to chosen units, and these units."""
        members = self._coupling.members[place]
        own = chosen[members.unit]
        return members.index[own], members.unit[own]

    def _alive(self, chosen: Mask, inputs: Mapping[str, Inputs]) -> dict[int, str]:
        """Units that are no constant where they are read, or are not read."""
        coupling = self._coupling
        found: dict[int, str] = {}
        read = np.zeros_like(chosen)
        for place in coupling.readers:
            index, unit = self._columns(chosen, place)
            read[unit] = True
            if place.path in inputs:
                unit = unit[~inputs[place.path].fixed.numpy()[index]]
            for each in unit.tolist():
                unsure = place.path not in inputs or coupling.group[each] in coupling.uncertain
                found[each] = UNKNOWN if unsure else ALIVE
        return found | dict.fromkeys(np.flatnonzero(chosen & ~read).tolist(), UNREAD)

    def _last_ones(self, chosen: Mask) -> list[int]:
        """The strongest unit of every layer that would vanish."""
        last: list[int] = []
        for place in self._coupling.members:
            _, unit = self._columns(chosen, place)
            if len(unit) == self._coupling.size(place) and not set(last) & set(unit.tolist()):
                _, (kept,) = spare_one([np.full(len(unit), True)], [self._strength[unit]])
                assert kept is not None
                last.append(int(unit[kept]))
        return last

    def _reads(self, chosen: Mask, inputs: Mapping[str, Inputs]) -> dict[str, list[Read]]:
        """The constants other than 0 of the chosen units, by the layer that reads them."""
        reads: dict[str, list[Read]] = {}
        for place in self._coupling.readers:
            module = self._coupling.get(place.path)
            assert isinstance(module, nn.Module)
            patterns: list[Tensor] = []
            for column, unit in zip(*(each.tolist() for each in self._columns(chosen, place))):
                values = inputs[place.path].maps[column]
                value = values[values.abs().argmax()].item()
                if value == 0:
                    continue
                pattern = values / value
                key = None
                if padded(module) or (pattern - 1).abs().max() > SAME:
                    key = place.path, block_of(module, "in", column), _number(patterns, pattern)
                reads.setdefault(place.path, []).append(Read(column, unit, value, key))
        return reads

    def _alone(
        self, reads: Mapping[str, Sequence[Read]], carriers: Mapping[Key, Read]
    ) -> dict[int, str]:
        """Units that would stay as constants for nobody but themselves."""
        staying = {carrier.unit for carrier in carriers.values()}
        useful = {
            carriers[read.key].unit
            for each in reads.values()
            for read in each
            if read.key is not None and read.unit not in staying
        }
        return dict.fromkeys(staying - useful, ALONE)

    def _unequal(self, removed: Mask) -> dict[int, str]:
        """Units that stay so that each group of a grouped convolution loses as many, the weakest."""
        stay: dict[int, str] = {}
        for place in self._coupling.members:
            module = self._coupling.get(place.path)
            groups = getattr(module, "groups", 1)
            if not isinstance(module, nn.Module) or groups == 1 or is_depthwise(module):
                continue
            index, unit = self._columns(removed, place)
            block = np.array(
                [block_of(module, place.side, at) for at in index.tolist()], dtype=np.int64
            )
            fewest = np.bincount(block, minlength=groups).min()
            for number in range(groups):
                own = unit[block == number]
                by_strength = own[np.argsort(self._strength[own], kind="stable")]
                stay |= dict.fromkeys(by_strength[fewest:].tolist(), UNEQUAL)
        return stay


def _number(patterns: list[Tensor], pattern: Tensor) -> int:
    """The number of the pattern among those that are known, of which it becomes one."""
    for number, known in enumerate(patterns):
        if (known - pattern).abs().max() <= SAME:
            return number
    patterns.append(pattern)
    return len(patterns) - 1


def choose_carriers(reads: Iterable[Read]) -> dict[Key, Read]:
    """For each key one of its reads, of as few units in all as a greedy choice finds."""
    needs: dict[Key, dict[int, Read]] = {}
    for read in reads:
        if read.key is not None:
            needs.setdefault(read.key, {}).setdefault(read.unit, read)
    offers: dict[int, dict[Key, float]] = {}
    for key, by_unit in needs.items():
        greatest = max(abs(read.value) for read in by_unit.values())
        for unit, read in by_unit.items():
            # A tiny constant would take huge weights.
            if abs(read.value) > 1e-3 * greatest:
                offers.setdefault(unit, {})[key] = abs(read.value) / greatest
    carriers: dict[Key, Read] = {}

    def worth(unit: int) -> tuple[int, float, int]:
        shares = [share for key, share in offers[unit].items() if key not in carriers]
        return len(shares), min(shares, default=0.0), -unit

    while len(carriers) < len(needs):
        unit = max(offers, key=worth)
        for key in offers[unit]:
            carriers.setdefault(key, needs[key][unit])
    return carriers

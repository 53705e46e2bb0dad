"""What prunes a network of any backend between its steps, and remembers what is held at 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from regdyn.nets.pruning.budget import Multiplications, share_saved
from regdyn.nets.pruning.choice import Mask, choose
from regdyn.nets.pruning.config import Pruning
from regdyn.nets.pruning.events import PruningEvent
from regdyn.nets.pruning.importance import Array, Importance, LayerNumbers
from regdyn.nets.pruning.schedule import Event, HiddenLayer, make_plan

_STREAM = 3
"""Of the seed; 0 to 2 are those of the weights, the order and dropout."""

_CHOICE, _FIRST_NOISE, _MORE_NOISE = range(3)


class Prunable(Protocol):
    """A network that is being trained. Layers are its hidden ones, by number."""

    def numbers(self, layer: int) -> LayerNumbers:
        """The parameters of a layer as they are."""

    def hold(self, layer: int, weights: Mask, units: Mask) -> None:
        """Set to 0, and keep there in place of what was held of this layer before.

        Parameters
        ----------
        layer
            Whose.
        weights
            Incoming weights, shape (units, inputs).
        units
            Units of which everything goes: gamma, beta (or bias) and outgoing weights too.
        """

    def add(self, layer: int, noise: Array) -> None:
        """Add to the weights of a layer, shape (units, inputs)."""

    def test_error(self) -> float:
        """Share of the test set that is wrong, in evaluation mode."""


class Pruner:
    """Carries out a `Pruning` on a network, between its steps.

    Which things are chosen, and all noise, depends on the network, the seed and the step alone.

    Parameters
    ----------
    pruning
        What is wanted.
    hidden
        The hidden layers of the network.
    steps, seed
        Of the run.
    importance
        Of its units.
    multiplications
        Of a forward pass; see `budget.Multiplications`.

    Attributes
    ----------
    events
        What has happened.
    due
        The step after which there is something to do, 0 for the start; None for none.

    Raises
    ------
    InvalidParameter
        See `make_plan`.
    """

    def __init__(
        self,
        pruning: Pruning,
        hidden: Sequence[HiddenLayer],
        *,
        steps: int,
        seed: int,
        importance: Importance,
        multiplications: Multiplications,
    ) -> None:
        self.pruning, self.importance = pruning, importance
        self.plan = make_plan(pruning, hidden, steps, multiplications)
        self.events: list[PruningEvent] = []
        self._hidden, self._seed, self._multiplications = hidden, seed, multiplications
        self._events = {event.step: i for i, event in enumerate(self.plan.events)}
        # Of the units (weights) of each pruned layer: those gone, the last step for which they are
        # disturbed, -1 for none, and the std of that noise.
        self._gone = [np.zeros(size, np.bool_) for size in self.plan.sizes]
        disturbed = () if pruning.removes else self.plan.sizes
        self._until = [np.full(size, -1, np.int64) for size in disturbed]
        self._std = [np.zeros(size) for size in disturbed]
        self.due = self._after(-1)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the pruned layers."""
        return tuple(self._hidden[i].name for i in self.plan.layers)

    @property
    def removed(self) -> dict[str, Mask]:
        """What is gone, by layer: masks of shape (units,), or (units, inputs) for weights."""
        if not self.pruning.removes:
            return {}
        masks = [gone.copy() for gone in self._gone]
        if self.pruning.what == "weights":
            masks = [mask.reshape(self._shape(i)) for i, mask in zip(self.plan.layers, masks)]
        return dict(zip(self.names, masks))

    def _after(self, t: int) -> int | None:
        """The first step after t after which there is something to do."""
        steps = [step for step in self._events if step > t]
        for until in self._until:
            active = until[until > t]
            if len(active):
                steps.append(t + 1 if self.pruning.noise == "gaussian" else int(active.min()))
        return min(steps, default=None)

    def act(self, t: int, network: Prunable) -> None:
        """Do what is due after step t.

        Raises
        ------
        FloatingPointError
            If something is chosen by numbers that are not finite.
        """
        self._go_on(t, network)
        if t in self._events:
            self._prune(t, self.plan.events[self._events[t]], network)
        self.due = self._after(t)

    def _go_on(self, t: int, network: Prunable) -> None:
        """Noise of earlier events."""
        for i, until in enumerate(self._until):
            if self.pruning.noise == "gaussian" and np.any(until >= t):
                self._add_noise(i, until >= t, t, _MORE_NOISE, network)
            elif self.pruning.noise == "zeroing" and np.any(until == t):
                self._hold(i, until > t, network)

    def _prune(self, t: int, event: Event, network: Prunable) -> None:
        values = [self._values(i, network.numbers(layer)) for i, layer in enumerate(self.plan.layers)]
        chosen = self._choose(t, event, values)
        if not any(mask.any() for mask in chosen):
            return
        before = 1 - network.test_error()
        for i, mask in enumerate(chosen):
            if mask.any():
                self._strike(i, mask, t, network)
        picked = np.concatenate([value[mask] for value, mask in zip(values, chosen)])
        removed = tuple(int(np.count_nonzero(gone)) for gone in self._gone)
        self.events.append(
            PruningEvent(
                step=t,
                layers=self.names,
                chosen=tuple(int(np.count_nonzero(mask)) for mask in chosen),
                removed=removed,
                share=sum(removed) / sum(self.plan.sizes),
                importance=float(picked.mean()),
                accuracy_before=before,
                accuracy_after=1 - network.test_error(),
            )
        )

    def _values(self, i: int, layer: LayerNumbers) -> Array:
        """Importance of each unit (weight) of a pruned layer."""
        parts = [part for part in (layer.weights, layer.gamma, layer.beta) if part is not None]
        if not all(np.isfinite(part).all() for part in parts):
            raise FloatingPointError(f"{self.names[i]} is not finite")
        if self.pruning.what == "units":
            return self.importance(layer)
        return np.abs(layer.weights.ravel().astype(np.float64))

    def _choose(self, t: int, event: Event, values: Sequence[Array]) -> tuple[Mask, ...]:
        """What goes at this event of each pruned layer."""
        eligible = [~gone for gone in self._gone]
        for mask, until in zip(eligible, self._until):
            mask &= until <= t
        at = self._events[t]
        before = self.plan.events[at - 1].goals if at else (0,) * len(event.goals)
        counts = [new - old for new, old in zip(event.goals, before)]
        target = self.pruning.target
        if self.pruning.scope == "global":
            enough = partial(_at_least, counts[0]) if counts else partial(self._saves, event.flops)
            return choose(values, eligible, target, self._generator(_CHOICE, t, 0), enough)
        masks: list[Mask] = []
        for i, (value, mask) in enumerate(zip(values, eligible)):
            generator = self._generator(_CHOICE, t, i)
            masks += choose([value], [mask], target, generator, partial(_at_least, counts[i]))
        return tuple(masks)

    def _saves(self, flops: Fraction, chosen: Sequence[int]) -> bool:
        """Whether that share of the multiplications is gone if so many more units of each layer are."""
        removed = [0] * len(self._hidden)
        for i, gone, more in zip(self.plan.layers, self._gone, chosen):
            removed[i] = int(np.count_nonzero(gone)) + more
        return share_saved(removed, self._multiplications) >= flops

    def _strike(self, i: int, chosen: Mask, t: int, network: Prunable) -> None:
        """Remove or disturb what was chosen of a pruned layer."""
        if self.pruning.removes:
            self._gone[i] |= chosen
            self._hold(i, self._gone[i], network)
            return
        if self.pruning.noise == "gaussian":
            weights = network.numbers(self.plan.layers[i]).weights
            undisturbed = ~self._weights(i, chosen | (self._until[i] > t))
            self._std[i][chosen] = weights[undisturbed].std(dtype=np.float64)
            self._until[i][chosen] = t + self.pruning.hold
            self._add_noise(i, chosen, t, _FIRST_NOISE, network)
            return
        active = self._until[i] > t
        self._hold(i, chosen | active, network)
        self._until[i][chosen] = t + self.pruning.hold
        if not self.pruning.hold:
            self._hold(i, active, network)

    def _hold(self, i: int, mask: Mask, network: Prunable) -> None:
        """Keep units (weights) of a pruned layer at 0, and no others."""
        layer = self.plan.layers[i]
        none = np.zeros(self._hidden[layer].units, np.bool_)
        units = mask if self.pruning.removes_units else none
        network.hold(layer, self._weights(i, mask), units)

    def _add_noise(self, i: int, mask: Mask, t: int, purpose: int, network: Prunable) -> None:
        layer = self.plan.layers[i]
        where = self._weights(i, mask)
        noise = np.zeros(where.shape)
        noise[where] = self._generator(purpose, t, i).standard_normal(np.count_nonzero(where))
        std = self._std[i].reshape(where.shape if self.pruning.what == "weights" else (-1, 1))
        network.add(layer, noise * std)

    def _weights(self, i: int, mask: Mask) -> Mask:
        """The weights of a mask of units or weights of a pruned layer, shape (units, inputs)."""
        shape = self._shape(self.plan.layers[i])
        if self.pruning.what == "weights":
            return mask.reshape(shape)
        return np.broadcast_to(mask[:, None], shape)

    def _shape(self, layer: int) -> tuple[int, int]:
        return self._hidden[layer].units, self._hidden[layer].inputs

    def _generator(self, purpose: int, t: int, i: int) -> np.random.Generator:
        words = (self._seed, _STREAM, purpose, t, i)
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))

    # Checkpoints

    def state(self) -> dict[str, NDArray]:
        """What it has to remember besides its events."""
        return {f"{kind}.{i}": a for kind, each in self._arrays.items() for i, a in enumerate(each)}

    @property
    def _arrays(self) -> dict[str, list[NDArray]]:
        return {"gone": self._gone, "until": self._until, "std": self._std}

    def load(
        self, state: Mapping[str, NDArray], events: Sequence[PruningEvent], t: int, network: Prunable
    ) -> None:
        """Go on from what `state` returned after step t."""
        self.events = list(events)
        for kind, arrays in self._arrays.items():
            arrays[:] = [np.array(state[f"{kind}.{i}"]) for i in range(len(arrays))]
        self.due = self._after(t)
        for i, gone in enumerate(self._gone):
            if self.pruning.removes:
                self._hold(i, gone, network)
            elif self.pruning.noise == "zeroing":
                self._hold(i, self._until[i] > t, network)


def _at_least(number: int, chosen: Sequence[int]) -> bool:
    return sum(chosen) >= number

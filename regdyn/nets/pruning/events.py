"""What is recorded when something is pruned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PruningEvent:
    r"""One event of pruning, or of noise in its place.

    Attributes
    ----------
    step
        After which it happened.
    layers
        Names of the pruned layers.
    chosen
        Units (weights) of each of them that went, or were disturbed, at this event.
    removed
        Units (weights) of each that are gone after it; 0 with noise.
    share
        Share of all units (weights) of these layers that is gone after it.
    importance
        Mean importance of what was chosen, by the measure that chose it.
    accuracy_before, accuracy_after
        Share of the test set that is right, in evaluation mode.
    """

    step: int
    layers: tuple[str, ...]
    chosen: tuple[int, ...]
    removed: tuple[int, ...]
    share: float
    importance: float
    accuracy_before: float
    accuracy_after: float

    @property
    def instability(self) -> float:
        r""":math:`t_{pre} - t_{post}`: how much test accuracy it costs (bartoldson2020, section 3)."""
        return self.accuracy_before - self.accuracy_after

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"instability": self.instability}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> PruningEvent:
        """Of what `to_dict` returned and JSON may have made of it."""
        fields: dict[str, Any] = {name: kept[name] for name in kept if name != "instability"}
        for name in ("layers", "chosen", "removed"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

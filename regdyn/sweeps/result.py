"""What a sweep leaves behind, opened from its store."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regdyn.sweeps.store import MARK, SESSIONS, read_dataset

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure


class Sweep:
    """A store of a sweep, whole or not yet.

    Numbers are read from the disk when they are looked at.

    Parameters
    ----------
    path
        The folder that `regdyn.sweep` wrote.

    Raises
    ------
    InvalidParameter
        For anything else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._dataset = read_dataset(path)

    def to_xarray(self) -> xarray.Dataset:
        """The map: a dimension for each axis, NaN where nothing has been simulated yet.

        `first_passage` is infinite where too few trajectories pass; variables have their own notes.
        """
        return self._dataset

    @cached_property
    def description(self) -> dict[str, Any]:
        """What decides every bit of it: system, axes, configurations, times."""
        return dict(json.loads(self._dataset.attrs["config"]))

    @property
    def points(self) -> int:
        """Points of the grid."""
        return int(self._dataset[MARK].size)

    @property
    def simulated(self) -> int:
        """Points that have been simulated."""
        return int(np.isfinite(self._dataset[MARK]).sum())

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """Of each command that worked at it: when, how long, with whom, and how much it did."""
        try:
            lines = (self.path / SESSIONS).read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    @property
    def seconds(self) -> float:
        """Wall time of all sessions."""
        return float(sum(session["seconds"] for session in self.sessions))

    def plot(self, **options: Any) -> Figure:
        """Draw it; see `regdyn.plots.plot_map`."""
        from regdyn.plots.maps import plot_map

        return plot_map(self._dataset, **options)

    def __repr__(self) -> str:
        shape = " x ".join(f"{n} {name}" for name, n in self._dataset[MARK].sizes.items())
        steps = sum(session["trajectory_steps"] for session in self.sessions)
        lines = [
            f"Sweep({self.path}: {self.description['system']} system, {shape or '1 point'}, "
            f"{self.simulated} of {self.points} points)",
        ]
        if steps:
            lines.append(
                f"  {steps:.3g} trajectory-steps in {self.seconds:.1f} s, "
                f"{steps / self.seconds / 1e6:.0f} million/s"
            )
        return "\n".join(lines)

"""What a sweep leaves behind, opened from its store."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
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
        return int((self._dataset[MARK] > 0).sum())

    @property
    def interpolated(self) -> int:
        """Points of a refined sweep between others."""
        return int((self._dataset[MARK] == 0).sum())

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """Of each command that worked at it: when, how long, with whom, and how much it did."""
        try:
            lines = (self.path / SESSIONS).read_text().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            # A disk that was full may have cut one short.
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    @property
    def seconds(self) -> float:
        """Wall time of all sessions."""
        return float(sum(session["seconds"] for session in self.sessions))

    def summary(self) -> list[dict[str, Any]]:
        """At a glance, for each combination of the axes that are words.

        `points`; `share_dying`, the share of points whose median trajectory passes the threshold;
        `earliest`, the least such median (None: none passes); `share_below`, the mean share of time
        below; `diverged`, the share of trajectories that left the range.
        """
        data = self._dataset
        done = data[MARK].notnull()
        order = [name for axis in self.description["axes"] for name in axis]
        along = {dim: [name for name in order if data[name].dims == (dim,)] for dim in done.dims}
        words = [dim for dim in done.dims if any(data[name].dtype.kind in "UO" for name in along[dim])]
        rows = []
        for index in np.ndindex(*(data.sizes[dim] for dim in words)):
            at = dict(zip(words, index))
            simulated = done.isel(at)
            passage = data["first_passage"].sel(level=0.5).isel(at).where(simulated)
            passing = np.isfinite(passage)
            lost = (data["diverged"].isel(at) / data[MARK].isel(at)).mean()
            rows.append(
                {name: str(data[name].values[i]) for dim, i in at.items() for name in along[dim]}
                | {
                    "points": int(simulated.sum()),
                    "share_dying": float(passing.sum() / max(1, int(simulated.sum()))),
                    "earliest": float(passage.min()) if bool(passing.any()) else None,
                    "share_below": float(data["share_below"].isel(at).mean()),
                    "diverged": float(lost),
                }
            )
        return rows

    def plot(self, *, theory: bool = True, **options: Any) -> Figure:
        """Draw it, beside what `regdyn.predict` says; options of `regdyn.plots.plot_map`."""
        from regdyn.plots.maps import plot_map

        return plot_map(self._dataset, **self._with_theory(theory, options))

    def save_plot(
        self, path: str | os.PathLike[str], *, theory: bool = True, force: bool = False, **options: Any
    ) -> None:
        """Write the picture of `plot` to a .png, .pdf or .svg file, atomically."""
        from regdyn.plots.maps import save_map

        save_map(self._dataset, path, force=force, **self._with_theory(theory, options))

    def _with_theory(self, theory: bool, options: Mapping[str, Any]) -> dict[str, Any]:
        from regdyn.sweeps.theory import predicted_passage

        return {**options, "predicted": predicted_passage if theory else None}

    def __repr__(self) -> str:
        shape = " x ".join(f"{n} {name}" for name, n in self._dataset[MARK].sizes.items())
        steps = sum(session["trajectory_steps"] for session in self.sessions)
        lines = [
            f"Sweep({self.path}: {self.description['system']} system, {shape or '1 point'}, "
            f"{self.simulated} of {self.points} points simulated"
            + (f", {self.interpolated} interpolated)" if self.interpolated else ")"),
        ]
        if steps:
            lines.append(
                f"  {steps:.3g} trajectory-steps in {self.seconds:.1f} s, "
                f"{steps / self.seconds / 1e6:.3g} million/s"
            )
        saving = next((s["saving"] for s in self.sessions if s.get("saving")), "")
        lines += [f"  {saving}"] if saving else []
        return "\n".join(lines)

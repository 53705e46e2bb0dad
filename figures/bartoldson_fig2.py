"""bartoldson2020, figure 2: generalisation gap by the tenth of the weights that is pruned.

A tenth of the first linear layer of Conv4, as single weights and as whole units, taken from the bottom
of each tenth upwards (D0 to D9) or from the very top (D10). Below: the mean magnitude of what went.
Epochs are lost from our copy; ours are events every 2 of 54 epochs from the 1st to the 50th, and the
data are not augmented, with which the paper found the same.
"""

from __future__ import annotations

import numpy as np
import xarray
from _cnn import Preset, Settings
from _pruned import TRAINED, Prune, generalization_gap, presets
from _trained import Found, draw_bars, per_run, redraw, sound_run
from matplotlib.figure import Figure

from regdyn.cnn import CnnResult
from regdyn.dynamics.schedules import Schedule, Step

TARGETS = (*(f"decile{i}" for i in range(10)), "largest")
KINDS = {"weights": "unstructured: single weights", "units": "structured: units"}
EPOCHS = 54
PRESETS = presets(smoke=500, digits=2000)


def falling(steps: int) -> Schedule:
    """A tenth of the learning rate after 40 of 54 epochs."""
    return Step((steps * 40 // EPOCHS,))


def tenth(target: str, what: str) -> Prune:
    def text(steps: int) -> str:
        first, last, between = (max(1, steps * epochs // EPOCHS) for epochs in (1, 50, 2))
        kind = "importance=l2" if what == "units" else "what=weights"
        times = f"start={first},end={last},retrain={between}"
        return f"{target}:{kind},layers=fc1,fraction=0.1,{times}"

    return text


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    own = {**TRAINED, "model": "conv4", "steps": EPOCHS * 390, "schedule": falling}
    return {
        (what, target): {**own, "prune": tenth(target, what)} for what in KINDS for target in TARGETS
    }


def magnitude(run: CnnResult) -> float:
    """Of what went at the event in the middle of the run."""
    event = run.prunings[len(run.prunings) // 2]
    return float("nan") if event.importance is None else event.importance


def measured(found: Found) -> xarray.Dataset:
    dims, shape = ("kind", "target", "seed"), (len(KINDS), len(TARGETS), -1)
    return xarray.Dataset(
        {
            "gap": (dims, per_run(found, generalization_gap).reshape(shape), {"units": "percent"}),
            "magnitude": (dims, per_run(found, magnitude).reshape(shape)),
        },
        {"kind": list(KINDS), "target": list(TARGETS)},
        {"model": sound_run(found).config.model},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 5.0), layout="constrained")
    grid = figure.subplots(2, len(KINDS), sharex=True)
    x = np.arange(len(TARGETS))
    for column, kind in zip(grid.T, data["kind"].values):
        gap, size = (data[name].sel(kind=kind).values.T for name in ("gap", "magnitude"))
        draw_bars(column[0], x, gap, color="#0072B2", marker="o", lw=0, ms=4)
        draw_bars(column[1], x, size, color="#D55E00", marker="s", lw=0, ms=4)
        column[0].set_title(KINDS[kind])
        column[1].set_yscale("log")
        column[1].set_xlabel("tenth that is pruned, from small to large")
        column[1].set_xticks(x, [f"D{i}" for i in x])
    low, high = (end([ax.get_ylim() for ax in grid[0]]) for end in (np.min, np.max))
    for ax in grid[0]:
        ax.set_ylim(low, high)
    grid[0, 0].set_ylabel("test minus training accuracy\n(percentage points)")
    grid[1, 0].set_ylabel(r"mean $|w|$, or $||w||_2$ of a unit," + "\nof what goes")
    return figure


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="bartoldson2020, figure 2: generalisation gap without a tenth of the linear layer",
        settings=settings, measured=measured, draw=draw,
    )  # fmt: skip


if __name__ == "__main__":
    main()

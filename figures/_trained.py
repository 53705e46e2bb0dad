"""What the figures of trained networks have in common: from settings to files, spread over runs."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import xarray
from _cnn import Preset, Script, Settings, describe_runs, one_line_errors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from regdyn import plots
from regdyn.dynamics.result import netcdf_bytes
from regdyn.files import written_whole

if TYPE_CHECKING:
    from regdyn.cnn.result import CnnResult

Array = NDArray[np.float64]

Found = Mapping[tuple[str, ...], Sequence["CnnResult"]]
"""The runs of each setting, one for each seed."""

ALIVE, DEAD = "#0072B2", "#D55E00"

SPREAD = "Means over the seeds, bands and bars from the least to the greatest"

CHARACTERS = 14
"""Of a caption, in an inch of its figure's width."""


def redraw(
    file: str,
    doc: str | None,
    presets: Mapping[str, Preset],
    *,
    title: str,
    settings: Callable[[Preset], Mapping[tuple[str, ...], Settings]],
    measured: Callable[[Found], xarray.Dataset],
    draw: Callable[[xarray.Dataset], Figure],
    shown: str | None = None,
) -> None:
    """The whole script: train, measure, draw what was measured, and save all of it.

    Exits with 2 for an option that cannot be used, 3 for missing data or a missing library.

    Parameters
    ----------
    file, doc, presets
        As for `_cnn.Script`.
    title
        Of the figure; what was run is written below it.
    settings
        What a preset trains, by name.
    measured
        All that is drawn, of the runs.
    draw
        The figure without title, in regdyn's style.
    shown
        How it shows the runs; where None, their means and spread, if there are several seeds.
    """
    with one_line_errors():
        script = Script(file, doc, presets)
        wanted = settings(script.preset)
        begin = time.perf_counter()
        trained = script.train(list(wanted.values()))
        seconds = time.perf_counter() - begin
        found = {name: trained[script.key(each)] for name, each in wanted.items()}
        runs = [run for each in trained.values() for run in each]
        failed = [f"{run.label}, seed {run.config.seed}: {run.failed}" for run in runs if run.failed]
        scale = describe_runs(script, list(wanted.values()), trained)
        if shown is None and script.seeds > 1:
            shown = SPREAD
        lines = [title, f"{scale}. {shown}" if shown else scale]
        lines += ["Failed, and not drawn: " + "; ".join(failed)] if failed else []
        data = measured(found).assign_attrs(title=title, scale=scale)
        with plots.style():
            figure = draw(data)
            width = round(CHARACTERS * figure.get_figwidth())
            figure.suptitle("\n".join(textwrap.fill(line, width) for line in lines), x=0.01, ha="left")
        save(
            script, figure, data,
            title=title, scale=scale, seeds=script.seeds, seconds=round(seconds, 2),
            runs=[run.to_dict() for run in runs],
        )  # fmt: skip


def save(script: Script, figure: Figure, data: xarray.Dataset, **about: Any) -> None:
    """Write the figure, what is drawn in it, and a note of what made it."""
    note = script.save(**about, matplotlib_version=matplotlib.__version__)
    written = [note.with_suffix(suffix) for suffix in (".png", ".pdf", ".nc")]
    with plots.style():
        for path in written[:2]:
            plots.save_figure(figure, path, force=True)
            figure.set_layout_engine("none")  # laid out once, alike in both files
    with written_whole("out", written[2], force=True) as temporary:
        temporary.write_bytes(netcdf_bytes(data))
    for path in (*written, note):
        print(path)


def sound_run(found: Found) -> CnnResult:
    """The first run that did not fail; if all did, the script ends."""
    runs = [run for each in found.values() for run in each]
    for run in runs:
        if not run.failed:
            return run
    sys.exit(f"Error: every run failed; {runs[0].label}: {runs[0].failed}")


def evenly(times: int) -> Callable[[int], tuple[int, ...]]:
    """So many recorded times, the last step among them, and not the start."""
    return lambda steps: tuple(dict.fromkeys(-(-steps * i // times) for i in range(1, times + 1)))


def per_run(found: Found, of: Callable[[CnnResult], Any]) -> Array:
    """What each run says, shape (settings, seeds, …), NaN for one that failed."""
    blank = np.full(np.shape(of(sound_run(found))), np.nan)
    said = [[blank if run.failed else of(run) for run in runs] for runs in found.values()]
    return np.array(said, float)


def sound(values: Array) -> Array:
    """The runs, along the first axis, that did not fail."""
    return values[~np.isnan(values).any(axis=tuple(range(1, values.ndim)))]


def spread(values: Array) -> tuple[Array, Array, Array]:
    """Mean, least and greatest of the runs, along the first axis, that did not fail."""
    kept = sound(values)
    if not len(kept):
        kept = np.full((1, *values.shape[1:]), np.nan)
    least, greatest = kept.min(axis=0), kept.max(axis=0)
    return np.clip(kept.mean(axis=0), least, greatest), least, greatest  # rounding aside


def percent(values: Array) -> float:
    """Mean of shares over everything, the runs along the first axis, in percent."""
    return 100 * float(spread(values)[0].mean())


def draw_bars(ax: Axes, x: ArrayLike, values: Array, **style: Any) -> None:
    """The mean over the runs, shape (runs, points), and bars from the least to the greatest."""
    mean, least, greatest = spread(values)
    ax.errorbar(x, mean, [mean - least, greatest - mean], capsize=2, elinewidth=0.9, **style)


def draw_band(ax: Axes, x: ArrayLike, values: Array, *, color: str, **style: Any) -> None:
    """The mean over the runs, shape (runs, points), and a band from the least to the greatest."""
    mean, least, greatest = spread(values)
    ax.fill_between(x, least, greatest, color=color, alpha=0.2, lw=0)
    ax.plot(x, mean, color=color, **style)


def draw_histogram(ax: Axes, values: Array, edges: Array, *, color: str, **style: Any) -> None:
    """Shares of the units in bins, of values of shape (runs, units), as in `draw_band`."""
    shares = np.array([np.histogram(run, edges)[0] / len(run) for run in values])
    shares[np.isnan(values).any(axis=1)] = np.nan
    mean, least, greatest = spread(shares)
    ax.stairs(greatest, edges, baseline=least, fill=True, color=color, alpha=0.3, lw=0)
    ax.stairs(mean, edges, color=color, lw=1.2, baseline=0, **style)

"""Scales and shifts of the units of normalised layers over training, whatever trained them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from regdyn.errors import InvalidParameter
from regdyn.plots.common import power, style

Array = NDArray[np.float64]

MOST_LAYERS = 3
"""Hidden layers with rows of their own; of a deeper network the first, the last and one between."""

MOST_LINES = 256
"""Units drawn of a layer; of a wider one evenly spaced ones."""

# Okabe and Ito (2008); the medians are darker shades.
ALIVE, DEAD = ("#0072B2", "#003C5E"), ("#D55E00", "#6B2F00")

BELOW = "0.88"
"""Colour of what counts as dead."""

SIDE_BY_SIDE = {tuple: HandlerTuple(ndivide=None, pad=0.2)}
"""How a legend shows two lines that share an entry."""


def plot_scales(
    times: NDArray[np.int64],
    names: Sequence[str],
    gamma: Sequence[NDArray],
    beta: Sequence[NDArray],
    threshold: float,
    *,
    title: str = "",
    figure: Figure | None = None,
) -> Figure:
    r"""Draw gamma and beta of the units of normalised layers over training.

    A row for each layer, gamma on the left on an axis that is linear within the threshold and
    logarithmic beyond it, beta on the right; a line for each unit in the colour of its fate, thick ones
    the medians of both fates (mehta2019, Fig. 2).

    Parameters
    ----------
    times
        Steps, shape (times,).
    names
        Of the layers: at most `MOST_LAYERS` are drawn.
    gamma, beta
        For each layer, shape (times, units).
    threshold
        On :math:`|\gamma|`, below which a unit is dead at the end.
    title
        Above all of it.
    figure
        An empty figure to draw on; a new one in regdyn's style where None.

    Raises
    ------
    InvalidParameter
        Without a layer.
    """
    if not names:
        raise InvalidParameter("names", "at least one layer")
    layers = shown_layers(len(names))
    if figure is None:
        with style():
            size = (7.2, 1.1 + 1.6 * len(layers))
            made = Figure(figsize=size, layout="constrained")
            return plot_scales(times, names, gamma, beta, threshold, title=title, figure=made)
    grid = figure.subplots(len(layers), 2, sharex=True, squeeze=False)
    for row, layer in zip(grid, layers):
        dead = np.abs(gamma[layer][-1]) < threshold
        row[0].axhspan(-threshold, threshold, color=BELOW, lw=0, zorder=0.5)
        for ax, values, word in zip(
            row, (gamma[layer], beta[layer]), (r"scale $\gamma$", r"shift $\beta$")
        ):
            draw_units(ax, times, values.astype(float), dead)
            ax.set_ylabel(word)
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        row[0].set_title(f"layer {names[layer]}", loc="left")
        row[0].set_xlim(times[0], max(times[-1], times[0] + 1))
        write_share(row[0], dead)
        frame_scales(row[:1], row[:1], threshold)
        frame_shifts(row[1:], row[1:])
    for ax in grid[-1]:
        ax.set_xlabel("step")
    below = {rf"counts as dead: $|\gamma|$ < {power(threshold)}": Patch(color=BELOW, lw=0)}
    entries = fates() | below
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower left", ncols=4, handler_map=SIDE_BY_SIDE
    )
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def shown_layers(depth: int) -> list[int]:
    """Hidden layers, from 0, that are drawn."""
    if depth <= MOST_LAYERS:
        return list(range(depth))
    return [round(layer) for layer in np.linspace(0, depth - 1, MOST_LAYERS).tolist()]


def draw_units(ax: Axes, times: NDArray[np.int64], values: Array, dead: NDArray[np.bool_]) -> None:
    """A line for each unit in the colour of its fate, and the median of each fate."""
    values = np.where(np.isfinite(values), values, np.nan)
    units = values.shape[1]
    few = np.unique(np.linspace(0, units - 1, min(units, MOST_LINES)).round().astype(int))
    for (color, dark), mask in ((ALIVE, ~dead), (DEAD, dead)):
        chosen = few[mask[few]]
        if not mask.any() or not len(times):
            continue
        paths = [np.column_stack((times, values[:, unit])) for unit in chosen]
        alpha = float(np.clip(30 / max(len(chosen), 1), 0.3, 0.9))
        ax.add_collection(
            LineCollection(paths, colors=color, linewidths=0.5, alpha=alpha, rasterized=True, zorder=2)
        )
        known = ~np.isnan(values[:, mask]).all(axis=1)
        median = np.full(len(times), np.nan)
        median[known] = np.nanmedian(values[np.ix_(known, mask)], axis=1)
        # One point makes no line.
        marker = "o" if known.sum() == 1 else ""
        halo = [Stroke(linewidth=3.0, foreground="white"), Normal()]
        ax.plot(times, median, color=dark, lw=1.6, path_effects=halo, zorder=3, marker=marker)


def write_share(ax: Axes, dead: NDArray[np.bool_]) -> None:
    """The share of dead units into the lower left corner."""
    ax.annotate(
        f"{100 * dead.mean():.1f} % dead", (0, 0), (4, 3), xycoords="axes fraction",
        textcoords="offset points", ha="left", va="bottom", fontsize="small", zorder=5,
        path_effects=[Stroke(linewidth=2.5, foreground="white"), Normal()],
    )  # fmt: skip


def fates() -> dict[str, Any]:
    """What a legend says of the lines of `draw_units`."""
    return {
        "alive at the end": Line2D([], [], color=ALIVE[0], lw=1.2),
        "dead at the end": Line2D([], [], color=DEAD[0], lw=1.2),
        "their medians": (Line2D([], [], color=ALIVE[1], lw=2), Line2D([], [], color=DEAD[1], lw=2)),
    }


def frame_shifts(row: Sequence[Axes], sound: Sequence[Axes]) -> None:
    """The ordinate that a row of axes has in common, around what is drawn on some of them."""
    low, high = _extent(sound)
    margin = 0.05 * (high - low) or 0.1
    row[0].set_ylim(low - margin, high + margin)


def frame_scales(row: Sequence[Axes], sound: Sequence[Axes], threshold: float) -> None:
    """The same, linear within the threshold and logarithmic beyond it."""
    low, high = _extent(sound)
    # A threshold far from everything that is drawn would leave no room for it.
    linear = float(np.clip(threshold, 1e-8, max(high, -low, 1e-8)))
    for ax in row:
        ax.set_yscale("symlog", linthresh=linear, linscale=0.6)
        ax.yaxis.set_major_locator(FixedLocator(_ticks(linear, low, high)))
        ax.yaxis.set_minor_locator(NullLocator())
    row[0].set_ylim(min(1.6 * low, -0.6 * linear) if low < 0 else 0, max(1.6 * high, 3 * linear))


def _extent(axes: Sequence[Axes]) -> tuple[float, float]:
    """The least and the greatest ordinate of the lines of units, and 0."""
    points = [
        np.asarray(path.vertices)[:, 1]
        for ax in axes
        for collection in ax.collections
        if isinstance(collection, LineCollection)
        for path in collection.get_paths()
    ]
    shown = np.concatenate([*points, [0.0]]) if points else np.zeros(1)
    shown = np.asarray(shown, dtype=float)
    shown = shown[np.isfinite(shown)]
    return float(shown.min()), float(shown.max())


def _ticks(linear: float, low: float, high: float) -> list[float]:
    """0 and powers of ten, at most five on either side."""
    # Between the two ends of the linear part there is no room for 0.
    first = int(np.ceil(np.log10(linear) + (1e-9 if low < -linear else -1e-9)))

    def side(end: float) -> list[float]:
        if end <= linear:
            return []
        last = int(np.floor(np.log10(end) + 1e-9))
        every = max(1, round((last - first) / 3))
        return [10.0**power for power in range(last, first - 1, -every)]

    return [*(-tick for tick in side(-low)), 0.0, *reversed(side(high))]

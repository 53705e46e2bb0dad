"""Predicted deaths of units beside observed ones: forecasts in, a Figure out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regdyn.errors import InvalidParameter
from regdyn.plots.common import COLORS, style

if TYPE_CHECKING:
    from regdyn.nets.forecast import Forecast

MARKERS = "o^sDvP"
NEVER = 1.09
"""Where times that do not come are drawn, in horizons."""


def plot_forecasts(
    panels: Mapping[str, Mapping[str, Forecast]],
    *,
    title: str | None = None,
    bins: int = 10,
    figure: Figure | None = None,
) -> Figure:
    """Draw predicted over observed times of death, and observed over predicted probability.

    A column for each panel, a colour and marker for each forecast in it. Top: a point for each unit
    that died or was predicted to; the margins are for those of which only one is true. Bottom: share
    of the units that died in bins of predicted probability, with intervals of 95 percent; the legend
    gives the area under the ROC curve.

    Parameters
    ----------
    panels
        By title, and then by name, forecasts with the same horizon.
    title
        A line above all panels.
    bins
        Of predicted probability.
    figure
        An empty figure to draw on; a new one in regdyn's style where None.

    Raises
    ------
    InvalidParameter
        For no panels, an empty one, one of more than six forecasts, or different horizons.
    """
    forecasts = [forecast for panel in panels.values() for forecast in panel.values()]
    if not forecasts or not all(0 < len(panel) <= len(MARKERS) for panel in panels.values()):
        raise InvalidParameter("panels", f"one or more, each of 1 to {len(MARKERS)} forecasts")
    horizons = {forecast.horizon for forecast in forecasts}
    if len(horizons) > 1:
        raise InvalidParameter("panels", "forecasts with the same horizon", sorted(horizons))
    if figure is None:
        with style():
            figure = Figure(figsize=(0.6 + 3.0 * len(panels), 6.6), layout="constrained")
            return plot_forecasts(panels, title=title, bins=bins, figure=figure)
    grid = figure.subplots(2, len(panels), sharex="row", sharey="row", squeeze=False)
    for (times, reliability), (name, panel) in zip(grid.T, panels.items()):
        times.set_title(name, loc="left")
        _frame_times(times, forecasts[0].horizon)
        reliability.plot([0, 1], [0, 1], color="0.35", lw=0.8, ls=(0, (6, 3)))
        for i, (label, forecast) in enumerate(panel.items()):
            _draw_times(times, forecast, i)
            _draw_reliability(reliability, forecast, label, i, bins)
        reliability.legend(loc="upper left", fontsize="small", handlelength=1.6)
        reliability.set_xlabel("predicted probability of death")
        times.set_xlabel("observed first step below the threshold")
    grid[0, 0].set_ylabel("predicted median step")
    grid[1, 0].set_ylabel("share that died")
    grid[1, 0].set_xlim(-0.03, 1.03)
    grid[1, 0].set_ylim(-0.03, 1.03)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def _frame_times(ax: Axes, horizon: int) -> None:
    end, margin = horizon, NEVER * horizon
    ax.plot([0, end], [0, end], color="0.35", lw=0.8, ls=(0, (6, 3)))
    for line in (ax.axvline, ax.axhline):
        line(1.03 * end, color="0.7", lw=0.8)
    ticks = np.linspace(0, end, 4).round().astype(int).tolist()
    labels = [f"{tick:,}" for tick in ticks]
    ax.set_xticks([*ticks, margin], [*labels[:-1], "", "never"])
    ax.set_yticks([*ticks, margin], [*labels, "never"])
    ax.set_xlim(-0.02 * end, 1.15 * end)
    ax.set_ylim(-0.02 * end, 1.15 * end)
    ax.set_aspect("equal")


def _draw_times(ax: Axes, forecast: Forecast, i: int) -> None:
    seen, told = forecast.observed_time, forecast.predicted_time
    shown = np.isfinite(seen) | np.isfinite(told)
    x, y = (
        np.where(np.isfinite(times), times, NEVER * forecast.horizon)[shown] for times in (seen, told)
    )
    ax.plot(x, y, MARKERS[i], color=COLORS[_color(i)], ms=2.6, mew=0.5, mfc="none", alpha=0.6)


def _draw_reliability(ax: Axes, forecast: Forecast, label: str, i: int, bins: int) -> None:
    c = forecast.calibration(bins)
    area = forecast.auc().value[0]
    text = f"{label}: no deaths" if np.isnan(area) else f"{label}: AUC {area:.3f}"
    shown = c.count > 0
    x, y = c.predicted[shown], c.observed[shown]
    bars = np.maximum([y - c.low[shown], c.high[shown] - y], 0)
    ax.errorbar(
        x, y, bars, fmt=f"{MARKERS[i]}-", color=COLORS[_color(i)], ms=4, lw=1.1, elinewidth=0.7,
        mfc="white", label=text,
    )  # fmt: skip


def _color(i: int) -> int:
    # Blue, vermilion and black first: the three that differ most.
    return (5, 4, 0, 3, 1, 6)[i]

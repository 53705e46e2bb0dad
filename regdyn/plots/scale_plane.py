"""The plane of scale and shift, where filters die: arrays in, a Figure out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatterSciNotation, SymmetricalLogLocator
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from regdyn.errors import InvalidParameter
from regdyn.plots.common import COLORS, power, style

Array = NDArray[np.float64]
Plane = tuple[str, ArrayLike, ArrayLike]

MOST_NAMED = len(COLORS)
"""Layers with a colour and a name of their own; of more the colour tells the place in the network."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

MANY = 3000
"""Filters from which points get smaller."""

DECADES = 6
"""Decades below the threshold that are drawn; smaller scales stand at the edge."""

REGION = "#f4d9cc"


def plot_scale_plane(
    planes: Sequence[Plane],
    *,
    alpha: float = 0.0,
    threshold: float = 1e-3,
    probability: float = 1e-3,
    figure: Figure | None = None,
) -> Figure:
    r"""Draw every filter at its :math:`|\gamma|` and :math:`\beta + \alpha`.

    The scale is logarithmic, the shift logarithmic beyond the threshold on either side and linear
    within. Shaded is the non-trainable region of zhou2020, :math:`\Phi((\beta + \alpha)/|\gamma|) < p`,
    where a filter practically never fires; the line is the threshold on :math:`|\gamma|`.

    Parameters
    ----------
    planes
        Name, gamma and beta of each layer, from the first to the last; arrays of shape (filters,),
        finite.
    alpha
        The constant of psBN.
    threshold, probability
        On :math:`|\gamma|`, and p.
    figure
        An empty figure to draw on; a new one in regdyn's style where None.

    Raises
    ------
    InvalidParameter
        Without a filter.

    Source: zhou2020, section 3.1 and figure 2, for the plane and the region.
    """
    if figure is None:
        with style():
            return plot_scale_plane(
                planes, alpha=alpha, threshold=threshold, probability=probability,
                figure=Figure(figsize=(6.8, 4.6), layout="constrained"),
            )  # fmt: skip
    scales = [np.abs(np.asarray(gamma, dtype=float)) for _, gamma, _ in planes]
    shifts = [np.asarray(beta, dtype=float) + alpha for _, _, beta in planes]
    if not sum(map(len, scales)):
        raise InvalidParameter("planes", "layers with at least one filter")
    ax = figure.subplots()
    low, high = _limits(np.concatenate(scales), threshold)
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=threshold)
    reach = 3 * max(float(np.abs(np.concatenate(shifts)).max()), 10 * threshold)
    ax.set_xlim(low, high)
    ax.set_ylim(-reach, reach)
    _draw_region(ax, low, high, reach, probability)
    ax.axvline(threshold, color="0.35", lw=1, ls=(0, (4, 2)), zorder=1)
    colors, norm = _colors(len(planes))
    filters, hidden = sum(map(len, scales)), 0
    # As outlines, many thousands would make a file that nothing opens.
    look: dict[str, Any] = {
        "ls": "",
        "mew": 0,
        "alpha": 0.75,
        "zorder": 3,
        "rasterized": filters > MANY,
    }
    size = float(np.clip(3.2 * (MANY / filters) ** 0.5, 1.2, 3.2))
    for number, (scale, shift, marker) in enumerate(zip(scales, shifts, cycle(MARKERS))):
        look["color"] = colors(norm(number))
        tiny = scale < low
        hidden += int(tiny.sum())
        shown = marker if len(planes) <= MOST_NAMED else "o"
        ax.plot(scale[~tiny], shift[~tiny], marker=shown, ms=size, **look)
        edge = np.full(tiny.sum(), low)
        ax.plot(edge, shift[tiny], marker="<", ms=1.6 * size, clip_on=False, **look)
    ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold))
    ax.yaxis.set_major_formatter(LogFormatterSciNotation(linthresh=threshold))
    ax.set_xlabel(r"scale $|\gamma|$")
    ax.set_ylabel(r"shift $\beta$" if alpha == 0 else rf"shift $\beta + \alpha$, $\alpha$ = {alpha:g}")
    rest = f"; {hidden:,} smaller scale{'s' * (hidden > 1)} at the left edge" if hidden else ""
    number = sum(map(len, scales))
    ax.set_title(
        f"{number:,} filters in {len(planes)} layer{'s' * (len(planes) > 1)}{rest}", loc="left"
    )
    _add_legend(figure, ax, planes, colors, norm, threshold, probability, alpha != 0)
    return figure


def _limits(scales: Array, threshold: float) -> tuple[float, float]:
    """The scales that are drawn, with the threshold well inside."""
    floor = threshold * 10.0**-DECADES
    least = float(np.min(scales, where=scales >= floor, initial=threshold))
    return max(floor, min(0.6 * least, 0.1 * threshold)), 1.6 * max(float(scales.max()), 10 * threshold)


def _draw_region(ax: Axes, low: float, high: float, reach: float, probability: float) -> None:
    x = np.geomspace(low, high, 400)
    border = float(ndtri(probability)) * x
    ax.fill_between(x, border, -reach, color=REGION, lw=0, zorder=0)


def _colors(layers: int) -> tuple[Colormap, BoundaryNorm]:
    """A colour for each layer, in the order of the network where they are many."""
    if layers <= MOST_NAMED:
        cmap: Colormap = ListedColormap(list(COLORS[:layers]))
    else:
        # The bright end is lost on white.
        cmap = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, layers)))
    return cmap, BoundaryNorm(np.arange(layers + 1) - 0.5, cmap.N)


def _add_legend(
    figure: Figure,
    ax: Axes,
    planes: Sequence[Plane],
    colors: Colormap,
    norm: BoundaryNorm,
    threshold: float,
    probability: float,
    shifted: bool,
) -> None:
    """What stands for what, beside the plane."""
    shift = r"(\beta + \alpha)" if shifted else r"\beta"
    handles: list[Line2D | Patch] = [
        Patch(color=REGION, label=rf"non-trainable: $\Phi({shift}/|\gamma|)$ < {power(probability)}"),
        Line2D([], [], color="0.35", lw=1, ls=(0, (4, 2)), label=rf"$|\gamma|$ = {power(threshold)}"),
    ]
    if len(planes) <= MOST_NAMED:
        handles += [
            Line2D([], [], ls="", marker=marker, ms=4.5, mew=0, color=colors(norm(number)), label=name)
            for number, ((name, _, _), marker) in enumerate(zip(planes, MARKERS))
        ]
    else:
        bar = figure.colorbar(ScalarMappable(norm, colors), ax=ax, pad=0.02)
        last = len(planes) - 1
        places = sorted({round(place) for place in np.linspace(0, last, 6).tolist()})
        bar.set_ticks(places, labels=[planes[place][0] for place in places])
        bar.ax.minorticks_off()
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.02, -0.13), ncols=3)

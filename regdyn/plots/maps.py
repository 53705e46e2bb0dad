"""Maps of a sweep: for which parameters does a weight die, and when?"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.typing import LineStyleType
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from regdyn.errors import InvalidParameter
from regdyn.optimizers import OPTIMIZERS
from regdyn.parameters import check_choice
from regdyn.plots.common import COLORS, DASHES, SINGLE, plot_format, power, save_figure, style

if TYPE_CHECKING:
    import xarray

MOST_PANELS = 24

TITLE_WIDTH = 24
"""Characters of a line above a panel."""

CAPTION_WIDTH = 14
"""Characters of a line above all panels, per inch."""

TRAINING = {
    "zhou2020, a round": 15_640,
    "zhou2020": 39_100,
    "yaguchi2018": 78_200,
    "mehta2019": 406_250,
}
"""Steps that the papers train on CIFAR's 50,000 images: 40 and 100 epochs with batches of 128, 100
with 64, 325 with 40."""

SYMBOLS = {
    "lam": r"$\lambda$", "sigma": r"gradient noise $\sigma$", "lr": r"learning rate $\eta$",
    "beta1": r"$\beta_1$", "beta2": r"$\beta_2$", "theta0": r"start $\theta_0$",
    "threshold": "threshold", "steps": "steps", "trajectories": "trajectories",
    "c": r"std of $\partial L/\partial y$", "gamma0": r"start $\gamma_0$", "beta0": r"start $\beta_0$",
    "psbn_alpha": r"psBN $\alpha$", "batch": "batch size",
}  # fmt: skip

_PLACEMENTS = {"none": "no decay", "l2": "L2", "decoupled": "decoupled", "paper": r"paper, $1-\lambda$"}

_NEVER, _DIVERGED = "#d9d9d9", "#7f7f7f"

Predicted = Callable[..., "xarray.DataArray | None"]
"""predicted(data, x, y, at, lengths): median first passage over two axes; `regdyn.sweeps.theory`."""


@dataclass(frozen=True)
class Quantity:
    """What a map shows: its label, and its values at a panel.

    `log` says that the colours are, and `passage` that lines of equal passage belong on it.
    """

    label: str
    of: Callable[[xarray.Dataset], xarray.DataArray]
    log: bool
    passage: bool = False


def _last_spread(data: xarray.Dataset) -> xarray.DataArray:
    name = "std" if "std" in data else "activation_std"
    if "steps" not in data:
        return data[name].isel(step=-1)
    return data[name].sel(step=data["steps"], method="pad")


QUANTITIES = {
    "passage": Quantity(
        "median first step\nbelow the threshold",
        lambda data: data["first_passage"].sel(level=0.5),
        log=True,
        passage=True,
    ),
    "below": Quantity(
        "share of all steps\nbelow the threshold", lambda data: data["share_below"], log=False
    ),
    "spread": Quantity("standard deviation\nafter the last step", _last_spread, log=True),
}


def plot_map(
    data: xarray.Dataset,
    *,
    what: str = "passage",
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, Any] | None = None,
    training: Sequence[int] | None = None,
    predicted: Predicted | None = None,
    title: str | None = None,
) -> Figure:
    """Draw a sweep as small multiples: two axes of numbers in each panel, a panel for what else varies.

    Along one axis of numbers only, curves instead.

    Parameters
    ----------
    data
        `Sweep.to_xarray()`.
    what
        A key of `QUANTITIES`.
    x, y
        Axes of numbers: lam along x and sigma along y where they are among them.
    at
        Values of axes that are held, the nearest for numbers.
    training
        Lengths of a training, drawn as lines on which the median passes just then; of the papers'
        (`TRAINING`) those that the simulation reaches, else its last step, where None.
    predicted
        What theory says, drawn dashed; None for nothing.
    title
        A line above the one that says what all panels have in common.

    Raises
    ------
    InvalidParameter
        For an axis or value that the map does not have, or more than 24 panels.
    """
    quantity = QUANTITIES[check_choice("what", what, QUANTITIES)]
    part, held = _held(data, at or {})
    dims = [str(dim) for dim in part["simulated"].dims]
    layout = lay_out([_along(part, dim) for dim in dims], x, y)
    part = part.swap_dims({dim: name for dim, name in zip(dims, layout.names) if dim != name})
    lengths = _lengths(part, training)
    with style():
        if layout.y is None:
            return _curves(part, quantity, layout.x, held, title)
        return _panels(part, quantity, layout.x, layout.y, held, lengths, predicted, title)


def save_map(
    data: xarray.Dataset, path: str | os.PathLike[str], *, force: bool = False, **options: Any
) -> None:
    """Write the picture of `plot_map` to a .png, .pdf or .svg file, atomically."""
    plot_format(path)
    save_figure(plot_map(data, **options), path, force)


@dataclass(frozen=True)
class Layout:
    """How the axes of a map are drawn.

    Attributes
    ----------
    names
        What each axis is called: of parameters that go together one that is a word, else one whose
        numbers differ.
    x, y
        The axes of a panel; without y, of curves.
    """

    names: tuple[str, ...]
    x: str
    y: str | None


def lay_out(
    axes: Sequence[Mapping[str, Sequence[Any]]], x: str | None = None, y: str | None = None
) -> Layout:
    """How to draw axes, each with the values of its parameters.

    Raises
    ------
    InvalidParameter
        Without an axis of numbers, and for more than 24 panels or curves.
    """
    kinds = [{name: _kind(values) for name, values in axis.items()} for axis in axes]
    names = tuple(
        min(kind, key=lambda name: (name not in (x, y), _KINDS.index(kind[name]))) for kind in kinds
    )
    numeric = [name for name, kind in zip(names, kinds) if kind[name] == "numbers"]
    numeric = [name for name in numeric if name != "seed"] or numeric
    if not numeric:
        raise InvalidParameter("x", "an axis of numbers, and this map has none")
    x = check_choice("x", x or _usual(numeric, ("lam", "lr")), numeric)
    others = [name for name in numeric if name != x]
    if others or y is not None:
        y = check_choice("y", y or _usual(others, ("sigma", "c", "lr")), others)
    rest = [name for name in names if name not in (x, y)]
    count = math.prod(len(axis[name]) for name, axis in zip(names, axes) if name in rest)
    if count > MOST_PANELS:
        what = "curves" if y is None else "panels"
        wanted = f"given such that at most {MOST_PANELS} {what} are left ({', '.join(rest)})"
        raise InvalidParameter("at", wanted, count)
    return Layout(names, x, y)


_KINDS = ("words", "numbers", "repeated")


def _kind(values: Sequence[Any]) -> str:
    """Whether the values of a parameter are words, numbers that differ, or numbers that do not."""
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return "words"
    return "numbers" if len(set(values)) == len(values) else "repeated"


def _usual(names: Sequence[str], wanted: Sequence[str]) -> str:
    """The first of `wanted` that is there, else the last name."""
    return next((name for name in wanted if name in names), names[-1] if names else "")


def _along(data: xarray.Dataset, dim: str) -> dict[str, list[Any]]:
    """The values of each parameter along a dimension, in the order of the sweep."""
    order = [name for axis in json.loads(data.attrs["config"])["axes"] for name in axis]
    return {name: data[name].values.tolist() for name in order if data[name].dims == (dim,)}


def _held(data: xarray.Dataset, at: Mapping[str, Any]) -> tuple[xarray.Dataset, dict[str, Any]]:
    """The part of a map at some values of its axes, and these values."""
    held: dict[str, Any] = {}
    for name, wanted in at.items():
        dims = {each: str(dim) for dim in data["simulated"].dims for each in _along(data, str(dim))}
        dim = dims[check_choice("at", name, dims)]
        values = data[name].values
        if values.dtype.kind in "fiu":
            try:
                number = float(wanted)
            except (TypeError, ValueError):
                number = math.nan
            if not math.isfinite(number):
                raise InvalidParameter("at", f"{name}=NUMBER", wanted)
            index = int(np.argmin(np.abs(values - number)))
        else:
            texts = [str(value) for value in values]
            index = texts.index(check_choice("at", str(wanted), texts))
        held |= {each: listed[index] for each, listed in _along(data, dim).items()}
        data = data.isel({dim: index})
    return data, held


def _steps(data: xarray.Dataset) -> int:
    """Steps of the longest trajectories."""
    if "steps" in data:
        return int(data["steps"].max())
    return int(json.loads(data.attrs["config"])["configurations"][0]["steps"])


def _lengths(data: xarray.Dataset, training: Sequence[int] | None) -> dict[str, int]:
    """Lengths of a training by name."""
    if training is not None:
        return {f"{length:,} steps": length for length in training}
    last = _steps(data)
    reached = {f"{n:,} steps ({name})": n for name, n in TRAINING.items() if n <= last}
    return reached or {f"{last:,} steps": last}


def _choices(
    data: xarray.Dataset, dims: Sequence[str]
) -> Iterator[tuple[dict[str, int], dict[str, Any]]]:
    """Each combination along some dimensions: where it is, and its parameters."""
    along = [_along(data, dim) for dim in dims]
    for index in product(*(range(data.sizes[dim]) for dim in dims)):
        parts = [{name: values[i] for name, values in each.items()} for i, each in zip(index, along)]
        yield dict(zip(dims, index)), {name: part[name] for part in parts for name in part}


def _called(name: str, value: Any) -> str:
    """A value of an axis in a title."""
    if name == "optimizer" and value in OPTIMIZERS:
        return OPTIMIZERS[value].__name__
    if name == "regularization":
        return _PLACEMENTS[value]
    if isinstance(value, float):
        return f"{SYMBOLS.get(name, name)} = {power(value)}"
    return f"{SYMBOLS.get(name, name)} = {value}" if not isinstance(value, str) else value


def _name(choice: Mapping[str, Any]) -> str:
    """What tells a panel or a curve from the others, the optimizer first."""
    order = sorted(choice, key=lambda name: name != "optimizer")
    return _in_lines([_called(name, choice[name]) for name in order], TITLE_WIDTH)


def _in_lines(texts: Iterable[str], width: float) -> str:
    """Texts with commas between them, in lines of about `width` characters as they are seen."""
    lines: list[str] = []
    for text in texts:
        longer = f"{lines[-1]}, {text}" if lines else ""
        if lines and len(re.sub(r"\\[a-z]+", "x", re.sub(r"[${}^]", "", longer))) <= width:
            lines[-1] = longer
        else:
            lines.append(text)
    return ",\n".join(lines)


@dataclass(frozen=True)
class _Scale:
    """An axis of numbers as it is drawn: on a log or linear scale, or one place for each value."""

    values: NDArray[np.float64]

    @property
    def kind(self) -> str:
        ordered = np.sort(self.values)
        steps = np.diff(ordered)
        if np.all(ordered > 0):
            ratios = ordered[1:] / ordered[:-1]
            equal = len(ratios) > 1 and np.allclose(ratios, ratios[0], rtol=1e-3)
            if equal or ordered[-1] >= (30 if len(ratios) > 1 else 5) * ordered[0]:
                return "log"
        uneven = len(steps) > 1 and steps.max() > 20 * steps.min()
        return "places" if uneven else "linear"

    def to_drawn(self, values: NDArray) -> NDArray[np.float64]:
        """Where numbers stand: logarithms, themselves, or among the values."""
        if self.kind == "log":
            return np.asarray(np.log10(values))
        if self.kind == "linear":
            return np.asarray(values, dtype=float)
        places = np.interp(values, np.sort(self.values), np.arange(len(self.values)))
        return np.asarray(places)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the cells around the values, in order."""
        at = np.sort(self.to_drawn(self.values))
        middle = (at[1:] + at[:-1]) / 2
        if len(at) == 1:
            return np.array([at[0] - 0.5, at[0] + 0.5])
        return np.concatenate(([2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]))

    def set(self, axis: Any, label: str) -> None:
        """Ticks and label of a matplotlib axis."""
        axis.set_label_text(label)
        if self.kind == "log":
            low, high = self.edges[[0, -1]]
            whole = np.arange(math.ceil(low), math.floor(high) + 1)
            if len(whole) > 2:
                ticks = whole[:: math.ceil(len(whole) / 5)]
                axis.set_ticks(ticks, [rf"$10^{{{tick}}}$" for tick in ticks])
            else:
                decades = 10.0 ** np.arange(math.floor(low), math.floor(high) + 1)
                marks = np.outer(decades, (1, 2, 5)).ravel()
                marks = marks[(np.log10(marks) >= low) & (np.log10(marks) <= high)]
                axis.set_ticks(np.log10(marks), [f"{mark:g}" for mark in marks])
        elif self.kind == "places":
            ordered = np.sort(self.values)
            every = max(1, math.ceil(len(ordered) / 5))
            axis.set_ticks(range(0, len(ordered), every), [f"{v:.3g}" for v in ordered[::every]])


def _panels(
    data: xarray.Dataset,
    quantity: Quantity,
    x: str,
    y: str,
    held: Mapping[str, Any],
    lengths: Mapping[str, int],
    predicted: Predicted | None,
    title: str | None,
) -> Figure:
    dims = [str(dim) for dim in data["simulated"].dims if dim not in (x, y)]
    dims.sort(key=lambda dim: data.sizes[dim])  # the most in a row
    choices = list(_choices(data, dims))
    columns = _columns(data, dims, len(choices))
    rows = math.ceil(len(choices) / columns)
    figure = Figure(
        figsize=(max(4.8, 1.75 * columns + 1.4), max(3.4, 1.9 * rows + 1.2)), layout="constrained"
    )
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    scales = _Scale(data[x].values.astype(float)), _Scale(data[y].values.astype(float))
    values = quantity.of(data)
    norm, colors = _colors(values, quantity)
    drawn: dict[str, Any] = {}
    for i, (ax, (index, choice)) in enumerate(zip(grid.flat, choices)):
        part = data.isel(index)
        cells = values.isel(index).transpose(y, x).values
        _draw_cells(ax, cells, part, scales, norm, colors, (x, y), drawn)
        if quantity.passage:
            found = None
            if predicted is not None:
                found = predicted(data, x, y, {**held, **choice}, list(lengths.values()))
            _draw_lines(ax, part, scales, (x, y), lengths, found, drawn)
        ax.set_title(_name(choice))
        scales[0].set(ax.xaxis, _axis_label(data, x) if i >= (rows - 1) * columns else "")
        scales[1].set(ax.yaxis, _axis_label(data, y) if i % columns == 0 else "")
    for ax in grid.flat[len(choices) :]:
        ax.remove()
    figure.colorbar(
        ScalarMappable(norm, colors),
        ax=list(grid.flat[: len(choices)]),
        label=quantity.label,
        fraction=0.05,
        aspect=30,
    )
    lines = [title, _caption(data, held, figure.get_figwidth())]
    figure.suptitle("\n".join(filter(None, lines)), x=0.01, ha="left")
    if drawn:
        figure.legend(
            drawn.values(), drawn.keys(), loc="outside lower center",
            ncols=min(len(drawn), max(1, int(figure.get_figwidth() / 3.8))), handlelength=2.6,
        )  # fmt: skip
    return figure


def _columns(data: xarray.Dataset, dims: Sequence[str], count: int) -> int:
    """A row for each value of the first dimension, or rows of four."""
    if len(dims) == 2:
        return int(data.sizes[dims[-1]])
    return min(count, 4) if count <= 4 else math.ceil(count / math.ceil(count / 4))


def _colors(values: xarray.DataArray, quantity: Quantity) -> tuple[Normalize, Colormap]:
    finite = values.values[np.isfinite(values.values)]
    colors = matplotlib.colormaps["viridis"]  # white where there is nothing to show
    if not quantity.log:
        return Normalize(0, 1), colors
    finite = finite[finite > 0]
    low, high = (finite.min(), finite.max()) if len(finite) else (1, 10)
    return LogNorm(low, max(high, 1.01 * low)), colors


def _draw_cells(
    ax: Axes,
    values: NDArray,
    part: xarray.Dataset,
    scales: tuple[_Scale, _Scale],
    norm: Normalize,
    colors: Colormap,
    names: tuple[str, str],
    drawn: dict[str, Any],
) -> None:
    """The values of a panel (y, x) as cells; grey where the median never passes or has diverged."""
    order = np.ix_(np.argsort(scales[1].values), np.argsort(scales[0].values))
    edges = scales[0].edges, scales[1].edges
    shown = np.where(np.isfinite(values), values, np.nan)[order]
    if isinstance(norm, LogNorm) and norm.vmin is not None:
        shown = np.maximum(shown, norm.vmin)  # 0 is dead from the start
    ax.pcolormesh(*edges, shown, norm=norm, cmap=colors, rasterized=True)
    x, y = names
    most = _diverges(part.transpose(y, x, ...))[order]
    never = np.isposinf(values)[order] & ~most
    for mask, color, label in (
        (never, _NEVER, "the median never passes"),
        (most, _DIVERGED, "most trajectories diverge"),
    ):
        if mask.any():
            plain = matplotlib.colors.ListedColormap([color])
            ax.pcolormesh(*edges, np.where(mask, 1.0, np.nan), cmap=plain, rasterized=True)
            drawn.setdefault(label, Patch(facecolor=color))


def _diverges(part: xarray.Dataset) -> NDArray[np.bool_]:
    """Where most trajectories diverge; an interpolated point is as the nearest that was simulated."""
    counts = part["simulated"].values
    most = part["diverged"].values > 0.5 * counts
    if not np.any(counts > 0):
        return np.asarray(most)
    nearest = distance_transform_edt(counts == 0, return_distances=False, return_indices=True)
    return np.asarray(most[tuple(nearest)])


_LINES: Mapping[str, tuple[str, LineStyleType]] = {
    "simulated": ("white", "-"),
    "predicted": ("#D55E00", (0, (4, 2))),
}
"""Colour and dashes of the lines of equal passage."""


def _draw_lines(
    ax: Axes,
    part: xarray.Dataset,
    scales: tuple[_Scale, _Scale],
    names: tuple[str, str],
    lengths: Mapping[str, int],
    predicted: xarray.DataArray | None,
    drawn: dict[str, Any],
) -> None:
    """Where the median passes within each length of a training: simulated, and predicted dashed."""
    found = {"simulated": part["first_passage"].sel(level=0.5), "predicted": predicted}
    for kind, values in found.items():
        color, dashes = _LINES[kind]
        look: dict[str, Any] = {
            "color": color, "linestyle": dashes, "linewidth": 1.4,
            "path_effects": [withStroke(linewidth=2.6, foreground="black")],
        }  # fmt: skip
        if values is None:
            continue
        # Nothing is simulated beyond the last step.
        drawn_lengths = (n for n in lengths.values() if kind == "predicted" or n <= _steps(part))
        pieces = [line for length in drawn_lengths for line in _contour(values, scales, names, length)]
        for line in pieces:
            ax.plot(*line.T, scalex=False, scaley=False, **look)
            text = _listed(lengths)
            drawn.setdefault(f"{kind}: median at {text}", Line2D([], [], **look))


def _listed(lengths: Mapping[str, int]) -> str:
    """The lengths in words: the name of a single one, the steps of several."""
    if len(lengths) == 1:
        return next(iter(lengths))
    *most, last = (f"{length:,}" for length in lengths.values())
    return f"{', '.join(most)} and {last} steps"


def _contour(
    found: xarray.DataArray,
    scales: tuple[_Scale, _Scale],
    names: tuple[str, str],
    length: int,
) -> list[NDArray]:
    """Pieces of the line on which `found` is `length`, each (points, 2), as drawn."""
    from contourpy import contour_generator

    if min(found.shape) < 2:
        return []
    across, up = names
    found = found.transpose(up, across)
    x, y = (scale.to_drawn(found[name].values.astype(float)) for scale, name in zip(scales, names))
    order = np.ix_(np.argsort(y), np.argsort(x))
    # Beyond every length all are alike: the line stands where the passage leaves the range.
    # No line where nothing is known.
    height = np.ma.masked_invalid(np.log(np.clip(found.values, 1, 10 * length)))
    generator = contour_generator(np.sort(x), np.sort(y), height[order])
    return [np.asarray(line) for line in generator.lines(math.log(length))]


def _axis_label(data: xarray.Dataset, name: str) -> str:
    """A parameter, and those that go together with it."""
    names = dict.fromkeys((name, *_along(data, name)))
    return ", with ".join(SYMBOLS.get(each, each) for each in names)


def _caption(data: xarray.Dataset, held: Mapping[str, Any], inches: float) -> str:
    """What all panels have in common: what is held, and what a reader must know of the rest."""
    description = json.loads(data.attrs["config"])
    config = description["configurations"][0]
    common: dict[str, Any] = {
        "optimizer": config["optimizer"]["type"],
        "regularization": config["regularization"],
        **held,
        "threshold": held.get("threshold", float(config["threshold"])),
    }
    counts = np.unique(data["simulated"].values[data["simulated"].values > 0])
    known = [name for name in common if name in held or name not in data.coords]
    texts = [_called(name, common[name]) for name in known]
    if description["system"] == "neuron":
        texts.insert(0, "one BN+ReLU unit")
    if len(counts):
        many = f"{counts[0]:,.0f}" if len(counts) == 1 else f"{counts[0]:,.0f} to {counts[-1]:,.0f}"
        length = "" if "steps" in (*data.dims, *held) else f", {_steps(data):,} steps"
        texts.append(f"{many} trajectories a point{length}")
    return _in_lines(texts, CAPTION_WIDTH * inches)


def _curves(
    data: xarray.Dataset,
    quantity: Quantity,
    x: str,
    held: Mapping[str, Any],
    title: str | None,
) -> Figure:
    """One axis of numbers: a curve for what else varies."""
    dims = [str(dim) for dim in data["simulated"].dims if dim != x]
    figure = Figure(figsize=SINGLE, layout="constrained")
    ax = figure.subplots()
    scale = _Scale(data[x].values.astype(float))
    order = np.argsort(scale.values)
    at = scale.to_drawn(scale.values)[order]
    values = quantity.of(data)
    for i, (index, choice) in enumerate(_choices(data, dims)):
        found = values.isel(index).values[order]
        (line,) = ax.plot(
            at, np.where(np.isfinite(found), found, np.nan), color=COLORS[i % len(COLORS)],
            linestyle=DASHES[i % len(DASHES)], marker=".",
            label=_name(choice),
        )  # fmt: skip
        if quantity.passage:
            bounds = data["first_passage_interval"].isel(index).values[order]
            shown = np.isfinite(bounds).all(axis=1) & np.isfinite(found)
            low, high = np.where(shown[:, None], bounds, np.nan).T
            ax.fill_between(at, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    shown = values.values[np.isfinite(values.values)]
    if quantity.log and np.any(shown > 0):
        ax.set_yscale("log")
    if not len(shown):
        never = f"none within {_steps(data):,} steps"
        text = "nothing is simulated yet" if np.all(np.isnan(values.values)) else never
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center")
        ax.set_yticks([])
    scale.set(ax.xaxis, _axis_label(data, x))
    interval = " (band: 95 %)" if quantity.passage else ""
    ax.set_ylabel(quantity.label + interval)
    lines = [title, _caption(data, held, figure.get_figwidth())]
    if quantity.passage and len(shown) and np.any(np.isposinf(values.values)):
        lines.append("no point where the median never passes")
    ax.set_title("\n".join(filter(None, lines)), loc="left")
    if dims:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=2.6)
    return figure

"""What all pictures share: the style, colours, numbers in words, and how files are written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.typing import LineStyleType

from regdyn.errors import InvalidParameter
from regdyn.files import written_whole

STYLE = Path(__file__).with_name("regdyn.mplstyle")

# What a file with this suffix must not contain, so that the same data gives the same bytes.
FORMATS: dict[str, dict[str, None]] = {
    ".png": {},
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
}

# Okabe and Ito (2008) without the yellow, which is lost on white.
COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7")

# Curves may coincide (Adam and RMSProp do), so that colour alone would hide one of them.
DASHES: tuple[LineStyleType, ...] = (
    "-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (9, 2)), (0, (2, 2)),
    (0, (4, 1, 1, 1, 1, 1)),
)  # fmt: skip

SINGLE = (6.4, 4.0)


def style() -> AbstractContextManager[None]:
    """A context in which figures that are made and saved look like regdyn's."""
    return matplotlib.style.context(STYLE)


def save_figure(figure: Figure, path: str | os.PathLike[str], force: bool = False) -> None:
    """Write a figure as `save_plot` does."""
    suffix = plot_format(path)
    with written_whole("plot", path, force) as temporary, style():
        figure.savefig(temporary, format=suffix[1:], metadata=FORMATS[suffix])


def plot_format(path: str | os.PathLike[str], name: str = "plot") -> str:
    """The suffix of `path` if a picture can be saved there, else InvalidParameter called `name`."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in FORMATS:
        *others, last = FORMATS
        raise InvalidParameter(name, f"a file that ends in {', '.join(others)} or {last}", path)
    return suffix


def power(value: float) -> str:
    """A number >= 0 as a power of ten where it is small or large."""
    if value == 0 or 0.1 <= value < 1000:
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    factor = "" if float(mantissa) == 1 else rf"{float(mantissa):g} \times "
    return f"${factor}10^{{{int(exponent)}}}$"


def check_results(results: Sequence[Any], labels: Sequence[str] | None) -> None:
    """Raise InvalidParameter for no results, or labels that do not match them."""
    if not results:
        raise InvalidParameter("results", "at least one result")
    if labels is not None and len(labels) != len(results):
        raise InvalidParameter("labels", f"{len(results)} names, one per result", labels)

"""What theory says of the points of a sweep, without simulating."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics import schedules
from regdyn.errors import InvalidParameter, OutsideDomain
from regdyn.prediction import predict
from regdyn.sweeps.systems import WORDS

if TYPE_CHECKING:
    import xarray

RESOLUTION = 25
"""Values of each axis at which the closure is asked, at most: it is smooth, and takes 10 ms."""

_HELD = ("lam", "regularization", "theta0", "threshold", "steps")
_STDS = {"late": "sigma", "early": "burn_in_sigma", "steps": "burn_in_steps"}


COARSE = 4
"""Of these values, how many apart the closure is asked where no line runs."""


def predicted_passage(
    data: xarray.Dataset, x: str, y: str, at: Mapping[str, Any], lengths: Sequence[float]
) -> xarray.DataArray | None:
    """Median first passage by `regdyn.predict` over two axes of a map, the others held `at` values.

    Shape (y, x), at most `RESOLUTION` values each; infinite where the median never passes, NaN where
    the closure says nothing. Away from the lines on which it is one of `lengths`, a number says only on
    which side of them it is. None where the closure says nothing at all: for units, gradients that are
    not Gaussian, a signal, stds or schedules from a file, and parameters that go together.
    """
    import xarray

    description = json.loads(data.attrs["config"])
    if description["system"] != "scalar" or any(len(axis) > 1 for axis in description["axes"]):
        return None
    held = _parameters(description, {**at, x: data[x].values[0], y: data[y].values[0]})
    if held is None:
        return None
    xs, ys = _some(data[x].values), _some(data[y].values)
    found = _near_lines(
        lambda j, i: _median({**held, x: float(xs[i]), y: float(ys[j])}), (len(ys), len(xs)), lengths
    )
    ordered = xarray.DataArray(found, {y: ys, x: xs}, (y, x))
    return ordered.sel({name: [v for v in data[name].values if v in ordered[name]] for name in (y, x)})


def _near_lines(
    value: Callable[[int, int], float], shape: tuple[int, int], lengths: Sequence[float]
) -> NDArray[np.float64]:
    """A table of values, asked for on a coarse grid and in its cells through which a line runs."""
    found = np.full(shape, np.nan)
    asked: dict[tuple[int, int], float] = {}

    def at(j: int, i: int) -> float:
        if (j, i) not in asked:
            asked[j, i] = value(j, i)
        return asked[j, i]

    def fill(j0: int, j1: int, i0: int, i1: int) -> None:
        corners = [at(j, i) for j in (j0, j1) for i in (i0, i1)]
        sides = {(length, corner <= length) for length in lengths for corner in corners}
        if len(sides) > len(lengths) and (j1 - j0 > 1 or i1 - i0 > 1):
            for a, b in pairwise(sorted({j0, (j0 + j1) // 2, j1})):
                for c, d in pairwise(sorted({i0, (i0 + i1) // 2, i1})):
                    fill(a, b, c, d)
        else:
            # Inside, what is nearest to the lines is on the same side of them as all.
            inside = found[j0 : j1 + 1, i0 : i1 + 1]
            inside[np.isnan(inside)] = np.min(corners)

    def steps(count: int) -> list[int]:
        return sorted({*range(0, count, COARSE), count - 1})

    for j0, j1 in pairwise(steps(shape[0])):
        for i0, i1 in pairwise(steps(shape[1])):
            fill(j0, j1, i0, i1)
    for (j, i), number in asked.items():
        found[j, i] = number
    return found


def _some(values: np.ndarray) -> np.ndarray:
    values = np.sort(values)
    index = np.linspace(0, len(values) - 1, min(len(values), RESOLUTION)).round().astype(int)
    return np.asarray(values[index])


def _median(parameters: Mapping[str, Any]) -> float:
    # What a prediction does not depend on.
    parameters = {k: v for k, v in parameters.items() if k not in ("seed", "trajectories")}
    whole = {name: int(parameters[name]) for name in ("burn_in_steps", "steps")}
    try:
        return predict(**{**parameters, **whole}).median_steps
    except (OutsideDomain, InvalidParameter):  # what can be simulated, not all of it can be predicted
        return float("nan")


def _parameters(description: Mapping[str, Any], at: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `predict` takes for the point `at`, None for what it does not know."""
    if any(at[name] not in values for name, values in _word_axes(description)):
        return None  # an object, which is only known by its description
    config = _corner(description, at)
    noise, schedule = config["noise"], _schedule(config["schedule"])
    if "schedule" in description or {"schedule", "steps"} <= set(at):
        return None  # one that follows the steps of each point
    if noise["type"] != "gaussian" or config["signal"]["strength"] or schedule is None:
        return None
    stds = noise["sigma"]
    if stds["type"] != "BurnIn" or not isinstance(config["theta0"], float):
        return None
    rule = dict(config["optimizer"])
    parameters = {
        "optimizer": rule.pop("type"),
        **rule,
        **{_STDS[name]: stds[name] for name in _STDS},
        **{name: config[name] for name in _HELD},
    }
    if set(at) - {*parameters, *WORDS, "seed", "trajectories"}:
        return None
    numbers = {name: value for name, value in at.items() if name in parameters and name not in WORDS}
    if any(isinstance(value, str) for value in numbers.values()):
        return None  # stds in a file
    constant = isinstance(schedule, schedules.Constant)
    return {**parameters, **numbers, "schedule": None if constant else schedule}


def _corner(description: Mapping[str, Any], at: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that has the words of a point; see `Plan.description`."""
    number = 0
    for name, values in _word_axes(description):
        number = number * len(values) + values.index(at[name])
    return dict(description["configurations"][number])


def _word_axes(description: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """The first parameter of each axis of words, and its values."""
    for axis in description["axes"]:
        if WORDS & set(axis):
            yield next(iter(axis.items()))


def _schedule(described: Any) -> Any:
    """A schedule from its description, None for one that is not described in full."""
    if not isinstance(described, dict):
        return None
    arguments = dict(described)
    kind = arguments.pop("type")
    known = ("Constant", "Step", "Cosine", "CosineRestarts")
    return getattr(schedules, kind)(**arguments) if kind in known else None

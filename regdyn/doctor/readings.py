"""What a monitor keeps of a network at a step, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regdyn.nets import sparsity as measures
from regdyn.nets.mlp import SCALE_THRESHOLD
from regdyn.nets.run_result import variable_name
from regdyn.nets.sparsity import Array

if TYPE_CHECKING:
    import xarray
    from torch.utils.tensorboard import SummaryWriter

NEVER_FIRES = 1e-3
"""Activation probability below which a filter practically never fires: our choice."""


@dataclass(frozen=True, eq=False)
class BatchActivity:
    """What the filters of a layer did on the batches of one step: arrays of shape (filters,).

    Attributes
    ----------
    peak
        Greatest absolute activation.
    active_share
        Share of the samples and positions with an activation above 0.
    """

    peak: NDArray
    active_share: NDArray

    @property
    def units(self) -> int:
        return len(self.peak)

    @property
    def universality(self) -> None:
        """Needs the whole training set."""


@dataclass(frozen=True, eq=False)
class LayerReading:
    """A batch normalisation at one step.

    Attributes
    ----------
    gamma, beta
        Scale and shift, shape (filters,).
    alpha
        The constant that psBN adds to beta, else 0.
    sigma
        Std of the gradient of gamma, by the median over the filters; NaN where it is not known.
    activity
        None where no activation was seen.
    """

    gamma: NDArray
    beta: NDArray
    alpha: float
    sigma: float
    activity: BatchActivity | None

    @property
    def units(self) -> int:
        return len(self.gamma)

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.gamma).all() and np.isfinite(self.beta).all())

    @property
    def probability(self) -> Array:
        """`sparsity.activation_probability` of each filter, NaN where gamma or beta is not finite."""
        predict = partial(measures.activation_probability, alpha=self.alpha)
        return _where_finite(predict, self.gamma, self.beta)

    @property
    def sparsity(self) -> float:
        """Share of the filters with |gamma| below `SCALE_THRESHOLD`."""
        return float(np.mean(np.abs(self.gamma) < SCALE_THRESHOLD))

    @property
    def never_fire(self) -> int:
        """Number of the filters with an activation probability below `NEVER_FIRES`."""
        return int(np.count_nonzero(self.probability < NEVER_FIRES))

    def summary(self, name: str, slope: float) -> measures.LayerSparsity:
        """Every measure of sparsity; none of a layer that is not finite."""
        if not self.finite:
            return measures.LayerSparsity(name=name, units=self.units)
        return measures.summary(
            name, gamma=self.gamma, beta=self.beta, alpha=self.alpha, slope=slope, record=self.activity
        )


@dataclass(frozen=True, eq=False)
class Reading:
    """A network at one step, with an entry for each layer."""

    step: int
    layers: tuple[LayerReading, ...]

    @property
    def units(self) -> int:
        return sum(layer.units for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of all filters with |gamma| below `SCALE_THRESHOLD`."""
        return sum(layer.sparsity * layer.units for layer in self.layers) / self.units

    @property
    def never_fire(self) -> int:
        """Number of the filters with an activation probability below `NEVER_FIRES`."""
        return sum(layer.never_fire for layer in self.layers)


def stack(readings: Sequence[Reading]) -> dict[str, NDArray]:
    """Readings as arrays with the recorded steps in front; `unstack` is the way back."""
    arrays: dict[str, NDArray] = {"step": np.array([reading.step for reading in readings])}
    for i in range(len(readings[0].layers)):
        layers = [reading.layers[i] for reading in readings]
        for name in ("gamma", "beta", "alpha", "sigma"):
            arrays[f"{name}.{i}"] = np.array([getattr(layer, name) for layer in layers])
        if any(layer.activity is not None for layer in layers):
            unknown = BatchActivity(*2 * (np.full(layers[0].units, np.nan, np.float32),))
            for name in ("peak", "active_share"):
                rows = [getattr(layer.activity or unknown, name) for layer in layers]
                arrays[f"{name}.{i}"] = np.array(rows)
    return arrays


def unstack(arrays: Mapping[str, NDArray]) -> list[Reading]:
    """The readings that `stack` made arrays of."""
    layers = sum(name.startswith("gamma.") for name in arrays)

    def activity(layer: int, row: int) -> BatchActivity | None:
        if f"peak.{layer}" not in arrays:
            return None
        peak, share = arrays[f"peak.{layer}"][row], arrays[f"active_share.{layer}"][row]
        # A share is a number wherever an activation was seen; a peak may not be.
        return None if np.isnan(share).any() else BatchActivity(peak, share)

    return [
        Reading(
            int(step),
            tuple(
                LayerReading(
                    arrays[f"gamma.{i}"][row],
                    arrays[f"beta.{i}"][row],
                    float(arrays[f"alpha.{i}"][row]),
                    float(arrays[f"sigma.{i}"][row]),
                    activity(i, row),
                )
                for i in range(layers)
            ),
        )
        for row, step in enumerate(arrays["step"])
    ]


def to_dataset(
    readings: Sequence[Reading], names: Sequence[str], slope: float, attributes: Mapping[str, Any]
) -> xarray.Dataset:
    """Readings and what follows from them; names, dimensions and units as in `CnnResult.to_xarray`."""
    import xarray

    arrays, layers = stack(readings), range(len(names))
    alpha = np.array([arrays[f"alpha.{i}"] for i in layers]).T
    shifts = [arrays[f"beta.{i}"] + arrays[f"alpha.{i}"][:, None] for i in layers]
    scales = [arrays[f"gamma.{i}"] for i in layers]
    probability = [
        _where_finite(measures.activation_probability, *each) for each in zip(scales, shifts)
    ]
    mean = partial(measures.expected_activation, slope=slope)
    expected = [_where_finite(mean, *each) for each in zip(scales, shifts)]

    def of_layers(rows: Sequence[NDArray], text: str, units: str, *dims: str) -> Any:
        return ("time", "layer", *dims), np.stack(rows, axis=1), {"long_name": text, "units": units}

    variables: dict[str, Any] = {
        "sparsity": (
            "time", np.array([reading.sparsity for reading in readings]),
            {"long_name": "share of dead units", "units": "1"},
        ),
        "units": ("layer", [g.shape[1] for g in scales], {"long_name": "filters of the layer"}),
        "sparsity_by_scale": of_layers(
            [measures.shares_below(np.abs(g), measures.SCALE_THRESHOLDS) for g in scales],
            "share of units with |gamma| below the threshold", "1", "scale_threshold",
        ),
        "active_predicted": of_layers(
            [p.mean(axis=1) for p in probability],
            "mean activation probability from gamma and beta", "1",
        ),
        "never_fire": of_layers(
            [np.count_nonzero(p < NEVER_FIRES, axis=1) for p in probability],
            f"number of units with an activation probability below {NEVER_FIRES:g}", "1",
        ),
        "expected_activation": of_layers(
            [np.abs(e).mean(axis=1) for e in expected], "mean magnitude of E[BN]", "1"
        ),
    }  # fmt: skip
    sigma = [arrays[f"sigma.{i}"] for i in layers]
    if np.isfinite(sigma).any():
        text = "std of the gradient of gamma, by the median over the units, from Adam's moments"
        variables["sigma"] = of_layers(sigma, text, "unit of the loss")
    if alpha.any():
        variables["alpha"] = of_layers(list(alpha.T), "constant that psBN adds to beta", "1")
    coordinates: dict[str, Any] = {
        "time": ("time", arrays["step"], {"long_name": "step"}),
        "layer": list(names),
        "scale_threshold": list(measures.SCALE_THRESHOLDS),
    }
    if any(f"peak.{i}" in arrays for i in layers):
        limits = measures.ACTIVATION_THRESHOLDS
        unknown = np.full((len(readings), 1), np.nan)
        peaks = [arrays.get(f"peak.{i}", unknown) for i in layers]
        by_peak = [measures.shares_below(peak, limits, closed=True) for peak in peaks]
        for shares, peak in zip(by_peak, peaks):
            shares[np.isnan(peak).any(axis=1)] = np.nan
        variables["sparsity_by_activation"] = of_layers(
            by_peak,
            "share of units whose activation exceeds the threshold nowhere in the batches of the step",
            "1", "activation_threshold",
        )  # fmt: skip
        variables["active_measured"] = of_layers(
            [arrays.get(f"active_share.{i}", unknown).mean(axis=1) for i in layers],
            "mean share of the samples and positions where a unit is active", "1",
        )  # fmt: skip
        coordinates["activation_threshold"] = list(limits)
    per_unit = {
        "gamma": "scale of the normalisation",
        "beta": "shift of the normalisation",
        "active_share": "share of the samples and positions where the unit is active",
        "peak": "greatest absolute activation in the batches of the step",
    }
    for i, name in enumerate(map(variable_name, names)):
        for quantity, text in per_unit.items():
            if f"{quantity}.{i}" in arrays:
                values = arrays[f"{quantity}.{i}"]
                variables[f"{quantity}_{name}"] = (
                    ("time", f"unit_{name}"),
                    values,
                    {"long_name": text},
                )
    return xarray.Dataset(variables, coordinates, dict(attributes))


def write_reading(writer: SummaryWriter, reading: Reading, names: Sequence[str]) -> None:
    """Everything that a reading holds as scalars and histograms of TensorBoard."""
    from regdyn.cnn.events import write_layer

    def scalar(tag: str, value: float) -> None:
        if np.isfinite(value):
            writer.add_scalar(tag, value, reading.step)

    scalar("dead by scale/all", reading.sparsity)
    scalar("never fire/all", reading.never_fire)
    for layer, name in zip(reading.layers, map(variable_name, names)):
        write_layer(writer, reading.step, name, layer.gamma, layer.beta, SCALE_THRESHOLD)
        scalar(f"never fire/{name}", layer.never_fire)
        scalar(f"active, predicted/{name}", float(layer.probability.mean()))
        scalar(f"gradient noise of gamma/{name}", layer.sigma)
        if layer.activity is not None:
            scalar(f"active, measured/{name}", float(layer.activity.active_share.mean()))


def _where_finite(function: Callable[..., Array], gamma: NDArray, beta: NDArray) -> Array:
    """A function of gamma and beta of each unit, NaN where one of the two is not finite."""
    known = np.isfinite(gamma) & np.isfinite(beta)
    values = np.full(gamma.shape, np.nan)
    values[known] = function(gamma[known], beta[known])
    return values

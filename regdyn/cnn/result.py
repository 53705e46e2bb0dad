"""What a training run of the torch backend returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from regdyn.cnn import metrics
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.metrics import Activations, Removed
from regdyn.cnn.models.base import Network
from regdyn.dynamics.result import provenance
from regdyn.nets import sparsity as measures
from regdyn.nets.pruning.pruner import Pruner
from regdyn.nets.run_result import Array, RunResult, variable_name

if TYPE_CHECKING:
    import xarray

_NUMBERS = ("step", "loss", "test_error", "train_error", "error_zeroed")
_ARRAYS = ("gamma", "beta", "norm")
_ACTIVATIONS = ("peak", "active_share", "universality")


@dataclass(frozen=True, eq=False)
class Record:
    """What is kept of one recorded step; lists have an entry for each layer that counts."""

    step: int
    loss: float
    test_error: float
    train_error: float
    error_zeroed: float
    removed: Removed
    gamma: list[NDArray]
    beta: list[NDArray]
    norm: list[Array]
    activations: list[Activations | None]

    @staticmethod
    def stack(records: Sequence[Record]) -> dict[str, NDArray]:
        """Records as arrays with the recorded times in front; `unstack` is the way back."""
        if not records:
            return {}
        arrays = {name: np.array([getattr(record, name) for record in records]) for name in _NUMBERS}
        arrays["removed"] = np.array([list(asdict(record.removed).values()) for record in records])
        for layer, activations in enumerate(records[0].activations):
            for name in _ARRAYS:
                arrays[f"{name}.{layer}"] = np.array([getattr(r, name)[layer] for r in records])
            for name in () if activations is None else _ACTIVATIONS:
                rows = [getattr(record.activations[layer], name) for record in records]
                arrays[f"{name}.{layer}"] = np.array(rows)
        return arrays


def unstack(arrays: Mapping[str, NDArray], layers: int) -> list[Record]:
    """The records that `Record.stack` made arrays of."""
    if not arrays:
        return []

    def activations(layer: int, row: int) -> Activations | None:
        if f"peak.{layer}" not in arrays:
            return None
        return Activations(*(arrays[f"{name}.{layer}"][row] for name in _ACTIVATIONS))

    def record(row: int) -> Record:
        fields: dict[str, Any] = {name: arrays[name][row].item() for name in _NUMBERS}
        fields |= {name: [arrays[f"{name}.{i}"][row] for i in range(layers)] for name in _ARRAYS}
        fields["removed"] = Removed(*arrays["removed"][row].tolist())
        fields["activations"] = [activations(i, row) for i in range(layers)]
        return Record(**fields)

    return [record(row) for row in range(len(arrays["step"]))]


@dataclass(frozen=True, repr=False, eq=False)
class CnnResult(RunResult):
    """A trained network of the torch backend; what every run has is in `RunResult`.

    Attributes
    ----------
    config
        The `CnnConfig` that was run.
    model
        After the last step, on the processor.
    layer_names
        The layers that count, in the order of the forward pass.
    records
        Everything that was measured at each of `times`.
    ensemble_error
        Test error of the mean probabilities of the snapshots; None without an ensemble.
    """

    config: CnnConfig
    model: Network
    records: tuple[Record, ...]
    ensemble_error: float | None

    @classmethod
    def collect(
        cls, *, config: CnnConfig, model: Network, records: Sequence[Record],
        ensemble_error: float | None, pruner: Pruner | None, failed: str, seconds: float,
    ) -> CnnResult:  # fmt: skip
        """From what a run recorded."""
        layers = metrics.counted(model)

        def over_time(name: str) -> tuple[NDArray, ...]:
            return tuple(np.array([getattr(r, name)[i] for r in records]) for i in range(len(layers)))

        return cls(
            config=config,
            model=model.cpu(),
            records=tuple(records),
            ensemble_error=ensemble_error,
            times=np.array([record.step for record in records], dtype=np.int64),
            loss=np.array([record.loss for record in records], dtype=float),
            test_error=np.array([record.test_error for record in records], dtype=float),
            gamma=over_time("gamma"),
            beta=over_time("beta"),
            norm=over_time("norm"),
            prunings=() if pruner is None else tuple(pruner.events),
            pruned={} if pruner is None else pruner.removed,
            failed=failed,
            seconds=seconds,
            provenance=provenance() | {"torch_version": version("torch"), "device": _device(config)},
        )

    def with_config(self, config: CnnConfig | None) -> CnnResult:
        """The same result with its configuration, or, to be sent between processes, without."""
        return replace(self, config=cast(Any, config))

    @property
    def layer_names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in metrics.counted(self.model))

    @property
    def last(self) -> Record:
        """What was measured last, of a run that did not fail at its end."""
        return self.records[-1]

    @cached_property
    def inactive(self) -> tuple[NDArray[np.bool_], ...]:
        return metrics.inactive(self.model, self.config.threshold)

    @property
    def universality(self) -> tuple[Array | None, ...]:
        return tuple(None if a is None else a.universality for a in self.last.activations)

    @property
    def error(self) -> float:
        return self.last.test_error

    @property
    def train_error(self) -> float:
        return self.last.train_error

    @property
    def error_after_removal(self) -> float:
        """Share of the test set that is wrong with gamma of the dead units at 0."""
        return self.last.error_zeroed

    @property
    def share_removed(self) -> float:
        return self.last.removed.parameters

    @cached_property
    def layers(self) -> tuple[measures.LayerSparsity, ...]:
        summaries = []
        for layer, activations in zip(metrics.counted(self.model), self.last.activations):
            gamma, beta = metrics.scale_and_shift(self.model, layer)
            summaries.append(
                measures.summary(
                    layer.name,
                    gamma=None if gamma is None else metrics.to_numpy(gamma),
                    beta=None if gamma is None else metrics.to_numpy(beta),
                    alpha=self.config.alpha,
                    slope=self.config.slope_below,
                    weights=metrics.to_numpy(self.model.weights_of(layer).weight),
                    record=activations,
                )
            )
        return tuple(summaries)

    def remarks(self) -> list[str]:
        removed = self.last.removed
        lines = [
            f"With them go {removed.convolutions:.1%} of the weights of these layers and "
            f"{removed.flops:.1%} of the multiplications.",
        ]
        if self.ensemble_error is not None:
            lines.append(
                f"Ensemble of the last {self.config.ensemble} snapshots: test error "
                f"{self.ensemble_error:.2%}."
            )
        return [*lines, *super().remarks()]

    def final(self) -> dict[str, Any]:
        return super().final() | {
            "share_of_convolution_weights_removed": self.last.removed.convolutions,
            "share_of_flops_removed": self.last.removed.flops,
            "ensemble_error": self.ensemble_error,
        }

    def to_xarray(self) -> xarray.Dataset:
        """All of it but the weights as a Dataset, one variable per quantity and layer (gamma_C1, …).

        Shares of dead units by layer stand over the thresholds of `nets/sparsity.py`. Configuration and
        provenance as attributes; the weights are in the checkpoint.
        """
        import xarray

        def share(values: Sequence[float], text: str) -> Any:
            return "time", np.array(values, dtype=float), {"long_name": text, "units": "1"}

        records, names = self.records, list(self.layer_names)
        removed = [record.removed for record in records]
        variables: dict[str, Any] = (
            self.curves()
            | self.pruning_variables(variable_name)
            | {
                "train_error": share([r.train_error for r in records], "training error"),
                "error_zeroed": share(
                    [r.error_zeroed for r in records], "test error with gamma of the dead units at 0"
                ),
                "parameters_removed": share(
                    [r.parameters for r in removed], "share of the parameters that goes with dead units"
                ),
                "convolutions_removed": share(
                    [r.convolutions for r in removed], "share of the weights of the layers that count"
                ),
                "flops_removed": share([r.flops for r in removed], "share of the multiplications"),
            }
        )
        by_scale = [
            [measures.shares_below(np.abs(g), measures.SCALE_THRESHOLDS) for g in r.gamma]
            for r in records
        ]
        if self.config.normalized:
            variables["sparsity_by_scale"] = (
                ("time", "layer", "scale_threshold"), np.array(by_scale),
                {"long_name": "share of units with |gamma| below the threshold", "units": "1"},
            )  # fmt: skip
        limits = measures.ACTIVATION_THRESHOLDS
        by_peak = [
            [np.full(len(limits), np.nan) if a is None
             else measures.shares_below(a.peak, limits, closed=True) for a in r.activations]
            for r in records
        ]  # fmt: skip
        variables["sparsity_by_activation"] = (
            ("time", "layer", "activation_threshold"), np.array(by_peak),
            {"long_name": "share of units whose activation never exceeds the threshold", "units": "1"},
        )  # fmt: skip
        per_unit = {
            "gamma": "scale of the normalisation",
            "beta": "shift of the normalisation, or bias",
            "norm": "L2 norm of the weights",
            "universality": "share of the training set that activates the unit",
            "active_share": "share of the samples and positions where the unit is active",
            "peak": "greatest absolute activation over the training set",
        }
        for i, name in enumerate(map(variable_name, names)):
            for quantity, text in per_unit.items():
                if quantity in _ARRAYS:
                    rows = [getattr(record, quantity)[i] for record in records]
                elif records and records[0].activations[i] is None:
                    continue
                else:
                    rows = [getattr(record.activations[i], quantity) for record in records]
                dims = ("time", f"unit_{name}")
                variables[f"{quantity}_{name}"] = (dims, np.array(rows), {"long_name": text})
        coordinates = {
            "time": self.times,
            "layer": names,
            "scale_threshold": list(measures.SCALE_THRESHOLDS),
            "activation_threshold": list(limits),
        }
        attributes = self.attributes() | {"model": self.config.model}
        if self.ensemble_error is not None:
            attributes["ensemble_error"] = self.ensemble_error
        return xarray.Dataset(variables, coordinates, attributes)


def _device(config: CnnConfig) -> str:
    if config.device == "cuda":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"processor, {threads} thread{'s' * (threads > 1)}"

"""What a training run of the NumPy network returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.result import provenance
from regdyn.errors import InvalidParameter
from regdyn.nets import sparsity as measures
from regdyn.nets._mlp_kernel import (
    ACTIVE,
    BETA_GRAD,
    BETA_GRAD2,
    GAMMA_GRAD,
    GAMMA_GRAD2,
    OUTPUT_GRAD2,
)
from regdyn.nets.mlp import Network
from regdyn.nets.pruning.pruner import Pruner
from regdyn.nets.run_result import RunResult

if TYPE_CHECKING:
    import xarray

    from regdyn.nets.training import TrainConfig

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Record:
    """What is kept of one recorded step; per-unit numbers for all hidden layers in a row."""

    loss: float
    error: float
    gamma: NDArray
    beta: NDArray
    norm: NDArray
    sums: Array
    steps: int


@dataclass(frozen=True, eq=False)
class GradientStatistics:
    """The gradients that the loss sent to the units of a layer, decay and penalty left out, by window.

    Window i ends at the i-th recorded time and begins after the one before. Shapes (times, units); NaN
    where a window is empty, as that before step 1 is.

    Attributes
    ----------
    gamma_mean, gamma_std
        Of dL/dgamma over the steps of the window, L the mean loss of a batch.
    beta_mean, beta_std
        Of dL/dbeta.
    output_rms
        Root mean square of the gradient of one sample's loss with respect to the unit's output y, over
        the active samples: c of zhou2020, section 4.1.
    active
        Share of the samples for which the unit is active, y > 0.
    """

    gamma_mean: Array
    gamma_std: Array
    beta_mean: Array
    beta_std: Array
    output_rms: Array
    active: Array

    @classmethod
    def collect(cls, sums: Array, steps: NDArray[np.int64], batch: int) -> GradientStatistics:
        """From sums of shape (times, units, columns) over so many steps each."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums / steps[:, None, None]
            samples = means[:, :, ACTIVE]

            def std(first: int, second: int) -> Array:
                square = means[:, :, second] - means[:, :, first] ** 2
                return np.asarray(np.sqrt(np.maximum(square, 0)))

            return cls(
                means[:, :, GAMMA_GRAD], std(GAMMA_GRAD, GAMMA_GRAD2),
                means[:, :, BETA_GRAD], std(BETA_GRAD, BETA_GRAD2),
                batch * np.sqrt(means[:, :, OUTPUT_GRAD2] / samples), samples / batch,
            )  # fmt: skip


@dataclass(frozen=True, repr=False, eq=False)
class TrainResult(RunResult):
    """A trained network and how it came about; what every run has is in `RunResult`.

    Attributes
    ----------
    config
        The `TrainConfig` that was run.
    network
        After the last step.
    first_below
        For each hidden layer, shape (units,): first step with |gamma| below the threshold, 0 for the
        start, -1 for never.
    steps_below
        Number of recorded steps, of all, after which it was.
    gradients
        For each hidden layer.
    """

    config: TrainConfig
    network: Network
    first_below: tuple[NDArray[np.int64], ...]
    steps_below: tuple[NDArray[np.int64], ...]
    gradients: tuple[GradientStatistics, ...]

    @classmethod
    def collect(
        cls, *, config: TrainConfig, network: Network, records: Sequence[Record],
        first_below: NDArray[np.int64], steps_below: NDArray[np.int64], pruner: Pruner | None,
        failed: str, seconds: float,
    ) -> TrainResult:  # fmt: skip
        """From what a run recorded."""
        edges = np.cumsum(config.hidden)[:-1]

        def layers(name: str) -> tuple[NDArray, ...]:
            rows = np.array([getattr(record, name) for record in records])
            if not len(records):
                rows = np.empty((0, sum(config.hidden)))
            return tuple(np.split(rows, edges, axis=1))

        steps = np.array([record.steps for record in records], dtype=np.int64)
        return cls(
            config=config,
            network=network,
            times=np.asarray(config.times)[: len(records)],
            loss=np.array([record.loss for record in records], dtype=float),
            test_error=np.array([record.error for record in records], dtype=float),
            gamma=layers("gamma"),
            beta=layers("beta"),
            norm=layers("norm"),
            prunings=() if pruner is None else tuple(pruner.events),
            pruned={} if pruner is None else pruner.removed,
            first_below=tuple(np.split(first_below, edges)),
            steps_below=tuple(np.split(steps_below, edges)),
            gradients=tuple(
                GradientStatistics.collect(sums, steps, config.batch) for sums in layers("sums")
            ),
            failed=failed,
            seconds=seconds,
            provenance=provenance(),
        )

    @property
    def layer_names(self) -> tuple[str, ...]:
        return tuple(f"layer {i}" for i in range(1, len(self.config.hidden) + 1))

    @cached_property
    def inactive(self) -> tuple[NDArray[np.bool_], ...]:
        return self.network.inactive(self.config.threshold)

    @cached_property
    def train_error(self) -> float:
        data = self.config.dataset
        return self.network.error(data.x_train, data.y_train)

    @cached_property
    def error(self) -> float:
        data = self.config.dataset
        return self.network.error(data.x_test, data.y_test)

    @cached_property
    def slim(self) -> Network:
        """The final network with its dead units removed for real; see `Network.without`."""
        return self.network.without(self.inactive)

    @cached_property
    def error_after_removal(self) -> float:
        data = self.config.dataset
        return self.slim.error(data.x_test, data.y_test)

    @property
    def share_removed(self) -> float:
        return self.network.share_removed(self.inactive)

    @cached_property
    def activation_records(self) -> tuple[measures.ActivationRecord, ...]:
        """What the training set does to each hidden layer of the final network.

        Raises
        ------
        InvalidParameter
            For a run that failed.
        """
        if self.failed:
            raise InvalidParameter("result", "of a run that did not fail", self.failed)
        records = [measures.ActivationRecord(units) for units in self.config.hidden]
        for record, activations in zip(records, self.network.layers(self.config.dataset.x_train)):
            record.add(activations)
        return tuple(records)

    @property
    def universality(self) -> tuple[Array | None, ...]:
        return tuple(record.universality for record in self.activation_records)

    @cached_property
    def layers(self) -> tuple[measures.LayerSparsity, ...]:
        config, network = self.config, self.network
        return tuple(
            measures.summary(
                name,
                gamma=gamma if config.normalized else None,
                beta=beta if config.normalized else None,
                alpha=config.alpha,
                slope=config.slope_below,
                weights=weights,
                record=record,
            )
            for name, gamma, beta, weights, record in zip(
                self.layer_names, network.gamma, network.beta, network.weights, self.activation_records
            )
        )

    def to_xarray(self) -> xarray.Dataset:
        """All of it as a Dataset, one variable per quantity and layer (gamma_1, gamma_2, …).

        Configuration and provenance as attributes.
        """
        import xarray

        variables: dict[str, Any] = self.curves() | self.pruning_variables(_tag) | {
            "bias": ("class", self.network.bias, {"long_name": "bias of the outputs"}),
        }  # fmt: skip
        last = len(self.network.weights)
        for i, weights in enumerate(self.network.weights, start=1):
            units = f"unit_{i}" if i < last else "class"
            below = f"unit_{i - 1}" if i > 1 else "feature"
            about = {"long_name": "final weights" if i < last else "final weights of the outputs"}
            variables[f"weights_{i}"] = ((units, below), weights, about)
        per_time = {
            "gamma": "scale of batch normalisation",
            "beta": "shift of batch normalisation, or bias",
            "norm": "L2 norm of the weights",
        }
        per_unit = {
            "first_below": "first step with |gamma| below the threshold, -1 for never",
            "steps_below": "steps after which it was",
        }
        moments = {
            "gamma_mean": "mean of dL/dgamma over the window that ends here",
            "gamma_std": "its standard deviation",
            "beta_mean": "mean of dL/dbeta",
            "beta_std": "its standard deviation",
            "output_rms": "root mean square of one sample's gradient at the output, where active",
            "active": "share of active samples",
        }
        for i in range(len(self.config.hidden)):
            unit = f"unit_{i + 1}"
            for name, text in per_time.items():
                values = getattr(self, name)[i]
                variables[f"{name}_{i + 1}"] = (("time", unit), values, {"long_name": text})
            for name, text in per_unit.items():
                variables[f"{name}_{i + 1}"] = (unit, getattr(self, name)[i], {"long_name": text})
            for name, text in moments.items():
                values = getattr(self.gradients[i], name)
                variables[f"grad_{name}_{i + 1}"] = (("time", unit), values, {"long_name": text})
            for name in ("running_mean", "running_var"):
                values = getattr(self.network, name)[i]
                variables[f"{name}_{i + 1}"] = (unit, values, {"long_name": f"final {name}"})
        return xarray.Dataset(variables, {"time": self.times}, self.attributes())


def _tag(layer: str) -> str:
    """The number of a layer."""
    return layer.removeprefix("layer ")

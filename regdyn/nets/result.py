"""What a training run returns."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.result import describe, finite, netcdf_bytes, provenance
from regdyn.errors import InvalidParameter
from regdyn.files import written_whole
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

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

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
    """The gradients that the loss sent to the units of a layer, decay left out, window by window.

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
class TrainResult:
    """A trained network and how it came about.

    Attributes
    ----------
    config
        The `TrainConfig` that was run.
    network
        After the last step.
    times
        Recorded steps, shape (times,); fewer than asked for if the run failed.
    loss
        Mean loss of the batches since the recorded time before, in nats, shape (times,); NaN at step 0.
    test_error
        Share of the test set that is wrong at each recorded time.
    gamma, beta, norm
        For each hidden layer, shape (times, units): scale and shift, and the L2 norm of the weights.
    first_below
        For each hidden layer, shape (units,): first step with |gamma| below the threshold, 0 for the
        start, -1 for never.
    steps_below
        Number of recorded steps, of all, after which it was.
    gradients
        For each hidden layer.
    failed
        Why the run ended early, "" if it did not.
    seconds
        Wall time of its steps, with what is recorded of them.
    """

    config: TrainConfig
    network: Network
    times: NDArray[np.int64]
    loss: Array
    test_error: Array
    gamma: tuple[NDArray, ...]
    beta: tuple[NDArray, ...]
    norm: tuple[NDArray, ...]
    first_below: tuple[NDArray[np.int64], ...]
    steps_below: tuple[NDArray[np.int64], ...]
    gradients: tuple[GradientStatistics, ...]
    failed: str
    seconds: float
    provenance: dict[str, str]

    @classmethod
    def collect(
        cls, *, config: TrainConfig, network: Network, records: Sequence[Record],
        first_below: NDArray[np.int64], steps_below: NDArray[np.int64], failed: str, seconds: float,
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
    def label(self) -> str:
        """Optimizer and decay in a few words."""
        return f"{self.config.rule.name}, {self.config.regularization} {self.config.lam:g}"

    @cached_property
    def inactive(self) -> tuple[NDArray[np.bool_], ...]:
        """The units of each hidden layer that are dead at the end; see `Network.inactive`."""
        return self.network.inactive(self.config.threshold)

    @property
    def sparsity(self) -> float:
        """Share of the hidden units that are dead at the end."""
        return float(np.mean(np.concatenate(self.inactive)))

    @property
    def sparsity_over_time(self) -> Array:
        """That share at each recorded time, shape (times,)."""
        if self.config.architecture.normalized:
            below = np.abs(np.concatenate(self.gamma, axis=1)) < self.config.threshold
        else:
            below = np.concatenate(self.norm, axis=1) < measures.NORM_THRESHOLD
        return np.asarray(below.mean(axis=1))

    @cached_property
    def train_error(self) -> float:
        """Share of the training set that the final network gets wrong."""
        data = self.config.dataset
        return self.network.error(data.x_train, data.y_train)

    @cached_property
    def error(self) -> float:
        """Share of the test set that the final network gets wrong."""
        data = self.config.dataset
        return self.network.error(data.x_test, data.y_test)

    @cached_property
    def slim(self) -> Network:
        """The final network with its dead units removed for real; see `Network.without`."""
        return self.network.without(self.inactive)

    @cached_property
    def error_after_removal(self) -> float:
        """Share of the test set that the slim network gets wrong."""
        data = self.config.dataset
        return self.slim.error(data.x_test, data.y_test)

    @property
    def share_removed(self) -> float:
        """Share of the parameters that the slim network does without."""
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

    @cached_property
    def layers(self) -> tuple[measures.LayerSparsity, ...]:
        """Every measure of sparsity for each hidden layer of the final network."""
        config, network = self.config, self.network
        slopes = {"relu": 0.0, "leaky_relu": config.slope, "linear": 1.0}
        normalized = config.architecture.normalized
        return tuple(
            measures.summary(
                f"layer {i}",
                gamma=gamma if normalized else None,
                beta=beta if normalized else None,
                alpha=config.alpha,
                slope=slopes.get(config.activation),
                weights=weights,
                record=record,
            )
            for i, (gamma, beta, weights, record) in enumerate(
                zip(network.gamma, network.beta, network.weights, self.activation_records), start=1
            )
        )

    @property
    def total(self) -> measures.LayerSparsity:
        """The same over all hidden layers."""
        return measures.total(self.layers)

    def __repr__(self) -> str:
        config = self.config
        widths = "-".join(map(str, config.hidden))
        lines = [
            f"TrainResult({self.label}: {config.dataset.name}, {widths} {config.activation}, batch "
            f"{config.batch}, {config.steps} steps, {config.dtype}, seed {config.seed})",
        ]
        if self.failed:
            lines.append(f"  failed: {self.failed}")
        else:
            lines += [
                f"  test error {self.error:.2%}, training error {self.train_error:.2%}, last loss "
                f"{self.loss[-1]:.3g}",
                f"  dead: {self.sparsity:.1%} of the units; without them {self.share_removed:.1%} "
                f"fewer parameters and a test error of {self.error_after_removal:.2%}",
            ]
        return "\n".join([*lines, f"  {self.seconds:.2f} s"])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: configuration, errors, sparsity by every measure; None where undefined."""
        done = not self.failed
        return {
            "config": describe(self.config),
            "failed": self.failed or None,
            "times": self.times.tolist(),
            "loss": finite(self.loss),
            "test_error": finite(self.test_error),
            "sparsity": finite(self.sparsity_over_time),
            "final": {
                "test_error": self.error,
                "train_error": self.train_error,
                "sparsity": self.sparsity,
                "test_error_after_removal": self.error_after_removal,
                "share_of_parameters_removed": self.share_removed,
                "layers": [layer.to_dict() for layer in self.layers],
                "total": self.total.to_dict(),
            }
            if done
            else None,
            "seconds": self.seconds,
            **self.provenance,
        }

    def to_xarray(self) -> xarray.Dataset:
        """All of it as a Dataset, one variable per quantity and layer (gamma_1, gamma_2, …).

        Configuration and provenance as attributes.
        """
        import xarray

        variables: dict[str, Any] = {
            "loss": ("time", self.loss, {"long_name": "mean training loss since the time before",
                                         "units": "nat"}),
            "test_error": ("time", self.test_error, {"long_name": "test error", "units": "1"}),
            "sparsity": ("time", self.sparsity_over_time, {"long_name": "share of dead units",
                                                           "units": "1"}),
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
        attributes = {
            "config": json.dumps(describe(self.config)),
            "optimizer": self.config.rule.name,
            "regularization": self.config.regularization,
            "lam": self.config.lam,
            "data": self.config.dataset.name,
            "threshold": self.config.threshold,
            "seed": str(self.config.seed),
            "failed": self.failed,
            "seconds": self.seconds,
            **self.provenance,
        }
        return xarray.Dataset(variables, {"time": self.times}, attributes)

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw gamma and beta over training and the universality of the units; see `regdyn.plots`."""
        from regdyn.plots import plot_training

        return plot_training([self], figure=figure)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write this run; see `save_runs`."""
        save_runs([self], path, force=force)


def save_runs(
    results: Sequence[TrainResult], path: str | os.PathLike[str], *, force: bool = False
) -> None:
    """Write runs to .nc (all of it, a group for each run if several) or .json, atomically.

    Raises
    ------
    InvalidParameter
        For another suffix, an existing file without `force`, or a place that cannot be written.
    """
    with written_whole("out", path, force) as temporary:
        if training_format(path) == ".nc":
            if len(results) == 1:
                temporary.write_bytes(netcdf_bytes(results[0].to_xarray()))
                return
            import xarray

            groups = {f"/run_{i}": result.to_xarray() for i, result in enumerate(results)}
            tree = xarray.DataTree.from_dict(groups)
            tree.to_netcdf(temporary, engine="h5netcdf", mode="w")
        else:
            runs = [result.to_dict() for result in results]
            temporary.write_text(json.dumps({"results": runs}, indent=1))


def training_format(path: str | os.PathLike[str]) -> str:
    """The suffix of `path` if runs can be saved there, else InvalidParameter."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".nc", ".json"):
        raise InvalidParameter("out", "a file that ends in .nc or .json", path)
    return suffix

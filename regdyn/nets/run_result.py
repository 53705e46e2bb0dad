"""What every training run returns, whatever trained it, and how runs are saved."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.result import describe, finite, netcdf_bytes
from regdyn.errors import InvalidParameter
from regdyn.files import written_whole
from regdyn.nets import sparsity as measures
from regdyn.nets.config import NetworkConfig
from regdyn.nets.pruning.events import PruningEvent

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class RunResult(ABC):
    """A training run: how it went, and what became of its units.

    Attributes
    ----------
    config
        What was run.
    times
        Recorded steps, shape (times,); fewer than asked for if the run failed.
    loss
        Mean loss of the batches since the recorded time before, in nats, shape (times,); NaN at step 0.
        Without decay and penalty.
    test_error
        Share of the test set that is wrong at each recorded time.
    gamma, beta, norm
        For each layer, shape (times, units): scale and shift, and the L2 norm of the weights.
    prunings
        What was pruned during training, event by event.
    pruned
        What of it is gone, by the name of the layer: masks of shape (units,), or (units, inputs) for
        single weights.
    failed
        Why the run ended early, "" if it did not.
    seconds
        Wall time of its steps, with what is recorded of them.
    provenance
        Versions and machine.
    """

    config: NetworkConfig
    times: NDArray[np.int64]
    loss: Array
    test_error: Array
    gamma: tuple[NDArray, ...]
    beta: tuple[NDArray, ...]
    norm: tuple[NDArray, ...]
    prunings: tuple[PruningEvent, ...]
    pruned: dict[str, NDArray[np.bool_]]
    failed: str
    seconds: float
    provenance: dict[str, str]

    @property
    def label(self) -> str:
        """Optimizer, decay, penalty and pruning in a few words."""
        config = self.config
        more = "".join(f", {word}" for word in (config.penalty, config.prune) if word is not None)
        return f"{config.rule.name}, {config.regularization} {config.lam:g}{more}"

    @property
    @abstractmethod
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers whose units count."""

    @property
    @abstractmethod
    def inactive(self) -> tuple[NDArray[np.bool_], ...]:
        """The units of each layer that are dead at the end, as masks of shape (units,).

        Those with |gamma| below the threshold (mehta2019, section 2.1); without normalisation those
        whose weights have an L2 norm below `sparsity.NORM_THRESHOLD` (yaguchi2018, section II-B).
        """

    @property
    @abstractmethod
    def layers(self) -> tuple[measures.LayerSparsity, ...]:
        """Every measure of sparsity for each layer of the final network."""

    @property
    @abstractmethod
    def universality(self) -> tuple[Array | None, ...]:
        """Of each layer's units at the end, shape (units,); None where the activation is shared."""

    @property
    @abstractmethod
    def error(self) -> float:
        """Share of the test set that the final network gets wrong."""

    @property
    @abstractmethod
    def train_error(self) -> float:
        """Share of the training set that the final network gets wrong."""

    @property
    @abstractmethod
    def error_after_removal(self) -> float:
        """Share of the test set that the network without its dead units gets wrong."""

    @property
    @abstractmethod
    def share_removed(self) -> float:
        """Share of the parameters that go with the dead units."""

    @abstractmethod
    def to_xarray(self) -> xarray.Dataset:
        """All of it as a Dataset, configuration and provenance as attributes."""

    @property
    def sparsity(self) -> float:
        """Share of the units that are dead at the end."""
        return float(np.mean(np.concatenate(self.inactive)))

    @property
    def sparsity_over_time(self) -> Array:
        """That share at each recorded time, shape (times,)."""
        if self.config.normalized:
            below = np.abs(np.concatenate(self.gamma, axis=1)) < self.config.threshold
        else:
            below = np.concatenate(self.norm, axis=1) < measures.NORM_THRESHOLD
        return np.asarray(below.mean(axis=1))

    @property
    def generalization_gap(self) -> float:
        """Accuracy on the training set minus that on the test set, at the end."""
        return self.error - self.train_error

    @property
    def mean_instability(self) -> float | None:
        """Of the events of pruning (bartoldson2020, section 3); None without any."""
        if not self.prunings:
            return None
        return float(np.mean([event.instability for event in self.prunings]))

    @property
    def pruned_share(self) -> float:
        """Share of the units (weights) of the pruned layers that is gone at the end."""
        return self.prunings[-1].share if self.prunings else 0.0

    @cached_property
    def total(self) -> measures.LayerSparsity:
        """Every measure of sparsity over all layers."""
        return measures.total(self.layers)

    def __repr__(self) -> str:
        config = self.config
        lines = [
            f"{type(self).__name__}({self.label}: {config.data_name}, {config.network}, batch "
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
                *(f"  {line[0].lower()}{line[1:-1]}" for line in self._pruning_remarks()),
            ]
        return "\n".join([*lines, f"  {self.seconds:.2f} s"])

    def remarks(self) -> list[str]:
        """What else there is to say of the end, a sentence each."""
        return self._pruning_remarks()

    def _pruning_remarks(self) -> list[str]:
        pruning = self.config.pruning
        if pruning is None or not self.prunings:
            return []
        first, last = self.prunings[0], self.prunings[-1]
        layers = f"{len(first.layers)} layer{'s' * (len(first.layers) > 1)}"
        when = f"in {len(self.prunings)} events after steps {first.step} to {last.step}"
        if first is last:
            when = f"at once after step {first.step}"
        did = f"Pruned {last.share:.1%} of the {pruning.what} of {layers}"
        if not pruning.removes:
            disturbed = sum(sum(event.chosen) for event in self.prunings)
            did = f"Disturbed {disturbed:,} {pruning.what} of {layers}"
        return [
            f"{did} {when}: mean instability {self.mean_instability:.2%}, generalisation gap "
            f"{self.generalization_gap:.2%}."
        ]

    def final(self) -> dict[str, Any]:
        """The numbers of the end, ready for JSON."""
        return {
            "test_error": self.error,
            "train_error": self.train_error,
            "generalization_gap": self.generalization_gap,
            "mean_instability": self.mean_instability,
            "pruned_share": self.pruned_share,
            "sparsity": self.sparsity,
            "test_error_after_removal": self.error_after_removal,
            "share_of_parameters_removed": self.share_removed,
            "layers": [layer.to_dict() for layer in self.layers],
            "total": self.total.to_dict(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: configuration, errors, sparsity by every measure; None where undefined."""
        return {
            "config": describe(self.config),
            "failed": self.failed or None,
            "times": self.times.tolist(),
            "loss": finite(self.loss),
            "test_error": finite(self.test_error),
            "sparsity": finite(self.sparsity_over_time),
            "prunings": [event.to_dict() for event in self.prunings],
            "final": None if self.failed else self.final(),
            "seconds": self.seconds,
            **self.provenance,
        }

    def curves(self) -> dict[str, Any]:
        """Variables of `to_xarray` that every run has, over the recorded times."""
        return {
            "loss": ("time", self.loss, {"long_name": "mean training loss since the time before",
                                         "units": "nat"}),
            "test_error": ("time", self.test_error, {"long_name": "test error", "units": "1"}),
            "sparsity": ("time", self.sparsity_over_time, {"long_name": "share of dead units",
                                                           "units": "1"}),
        }  # fmt: skip

    def pruning_variables(self, tag: Callable[[str], str]) -> dict[str, Any]:
        """Variables of `to_xarray` on the events of pruning, none where there are none.

        `tag` is what stands for the name of a layer in those of variables.
        """
        if not self.prunings:
            return {}

        def over_events(name: str, text: str, **more: str) -> Any:
            values = [getattr(event, name) for event in self.prunings]
            dims = ("event", "pruned_layer") if isinstance(values[0], tuple) else ("event",)
            about = {"long_name": text} | more
            return dims, np.array(values, dtype=float if "units" in more else None), about

        variables: dict[str, Any] = {
            "event": ("event", [e.step for e in self.prunings], {"long_name": "step of the event"}),
            "pruned_layer": ("pruned_layer", list(self.prunings[0].layers)),
            "chosen": over_events("chosen", "units or weights that went or were disturbed"),
            "removed": over_events("removed", "units or weights that are gone"),
            "removed_share": over_events("share", "share that is gone", units="1"),
            "chosen_importance": over_events("importance", "mean importance of what went", units="1"),
            "accuracy_before": over_events("accuracy_before", "test accuracy before", units="1"),
            "accuracy_after": over_events("accuracy_after", "test accuracy after", units="1"),
            "instability": over_events("instability", "loss of test accuracy", units="1"),
        }  # fmt: skip
        for name, mask in self.pruned.items():
            dims = (f"unit_{tag(name)}", f"input_{tag(name)}")[: mask.ndim]
            variables[f"pruned_{tag(name)}"] = (dims, mask, {"long_name": "what is gone"})
        return variables

    def attributes(self) -> dict[str, Any]:
        """Configuration and provenance for `to_xarray`."""
        return {
            "config": json.dumps(describe(self.config)),
            "optimizer": self.config.rule.name,
            "regularization": self.config.regularization,
            "lam": self.config.lam,
            "penalty": str(self.config.penalty or "none"),
            "data": self.config.data_name,
            "threshold": self.config.threshold,
            "seed": str(self.config.seed),
            "failed": self.failed,
            "seconds": self.seconds,
            **self.provenance,
        }

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw gamma and beta over training and the universality of the units; see `regdyn.plots`."""
        from regdyn.plots import plot_training

        return plot_training([self], figure=figure)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write this run; see `save_runs`."""
        save_runs([self], path, force=force)


def save_runs(
    results: Sequence[RunResult], path: str | os.PathLike[str], *, force: bool = False
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


def variable_name(layer: str) -> str:
    """The name of a layer where "/" and blanks would mean something else."""
    return layer.replace(" ", "_").replace("/", "_")


def training_format(path: str | os.PathLike[str]) -> str:
    """The suffix of `path` if runs can be saved there, else InvalidParameter."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".nc", ".json"):
        raise InvalidParameter("out", "a file that ends in .nc or .json", path)
    return suffix

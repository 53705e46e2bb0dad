"""What a simulation of BN+ReLU units returns."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from regdyn.dynamics._neuron_kernel import ACTIVATION, BETA, DEAD, GAMMA, INACTIVATION
from regdyn.dynamics.observables import histogram_quantiles
from regdyn.dynamics.result import (
    LEVELS,
    describe,
    finite,
    first_quantile,
    first_step,
    flush_warnings,
    mean_and_std,
    netcdf_bytes,
    provenance,
)
from regdyn.errors import InvalidParameter
from regdyn.files import written_whole

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

    from regdyn.dynamics.ensemble import Run
    from regdyn.dynamics.neuron import NeuronConfig


@dataclass(frozen=True, repr=False, eq=False)
class NeuronResult:
    """Ensemble statistics of a BN+ReLU unit.

    The activation probability of a unit is Phi(ratio) with ratio = (beta + alpha) / |gamma|.

    Attributes
    ----------
    config
        The `NeuronConfig` that was run.
    times
        Recorded steps, shape (times,).
    alive
        Trajectories that had not diverged at each of them.
    activation_mean, activation_std
        Of the activation probability over those.
    share_dead
        Share of those whose activation probability is below the threshold.
    gamma_mean, gamma_std, beta_mean, beta_std
        Of the parameters over those.
    histogram
        Counts of the activation probability and of its complement in log-spaced bins, shape
        (times, 2, bins + 2).
    gamma, beta
        After the last step, one per trajectory, as are the next three.
    first_death
        First step after which the unit was dead, 0 for the start, -1 for never.
    steps_dead
        Number of steps after which it was.
    diverged
        First step at which |gamma| + |beta| left the type's range, -1 for never.
    flushed
        As in `ScalarResult`.
    paths
        gamma and beta of the first `keep` trajectories at steps 0 … steps, shape (steps + 1, keep, 2).
    seconds, compile_seconds, provenance
        As in `ScalarResult`.
    """

    config: NeuronConfig
    times: NDArray[np.int64]
    alive: NDArray[np.int64]
    activation_mean: NDArray[np.float64]
    activation_std: NDArray[np.float64]
    share_dead: NDArray[np.float64]
    gamma_mean: NDArray[np.float64]
    gamma_std: NDArray[np.float64]
    beta_mean: NDArray[np.float64]
    beta_std: NDArray[np.float64]
    histogram: NDArray[np.int64]
    gamma: NDArray
    beta: NDArray
    first_death: NDArray[np.int64]
    steps_dead: NDArray[np.int64]
    diverged: NDArray[np.int64]
    flushed: int
    paths: NDArray
    seconds: float
    compile_seconds: float
    provenance: dict[str, str]

    @classmethod
    def collect(cls, config: NeuronConfig, run: Run, **rest: Any) -> NeuronResult:
        """From the raw sums of the engine and what the system kept."""
        mean, std = mean_and_std(run.statistics.moments)
        return cls(
            config=config,
            times=np.asarray(config.times),
            alive=run.statistics.moments[:, ACTIVATION, 0].astype(np.int64),
            activation_mean=mean[:, ACTIVATION],
            activation_std=std[:, ACTIVATION],
            share_dead=mean[:, DEAD],
            gamma_mean=mean[:, GAMMA],
            gamma_std=std[:, GAMMA],
            beta_mean=mean[:, BETA],
            beta_std=std[:, BETA],
            histogram=run.statistics.histogram[:, [ACTIVATION, INACTIVATION]],
            seconds=run.seconds,
            compile_seconds=run.compile_seconds,
            provenance=provenance(),
            **rest,
        )

    @property
    def label(self) -> str:
        """Optimizer and decay in a few words."""
        return f"{self.config.rule.name}, {self.config.regularization} {self.config.lam:g}"

    @property
    def ratio(self) -> NDArray[np.float64]:
        """(beta + alpha) / |gamma| after the last step, one per trajectory; infinite for gamma = 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.beta + self.config.alpha) / np.abs(self.gamma), dtype=float)

    @property
    def activation(self) -> NDArray[np.float64]:
        """Activation probability after the last step, one per trajectory."""
        return np.asarray(ndtr(self.ratio))

    def ratio_quantiles(self, levels: Any = LEVELS) -> NDArray[np.float64]:
        """Quantiles of the ratio at the recorded times, shape (times, levels).

        From bins of 1 percent of the smaller of Phi(ratio) and Phi(-ratio), below 1e-12 as there:
        within 0.013 of the exact sample quantile, and within [-7.04, 7.04].
        """
        levels = np.asarray(levels, dtype=float)
        below = histogram_quantiles(self.histogram[:, 0], levels)
        above = histogram_quantiles(self.histogram[:, 1], 1 - levels)
        low, high = ndtri(np.minimum(below, 0.5)), -ndtri(np.minimum(above, 0.5))
        return np.asarray(np.where(below < 0.5, low, high))

    def activation_quantiles(self, levels: Any = LEVELS) -> NDArray[np.float64]:
        """Quantiles of the activation probability at the recorded times, shape (times, levels)."""
        return np.asarray(ndtr(self.ratio_quantiles(levels)))

    def first_death_quantile(self, level: float = 0.5) -> float:
        """The step by which a share `level` of the units has been dead once; inf if fewer ever are."""
        return first_quantile(self.first_death, level)

    @property
    def share_died(self) -> float:
        """Share of the units that were dead after some step."""
        return float(np.mean(self.first_death >= 0))

    @property
    def unit_steps_per_second(self) -> float:
        """Throughput of the run: steps of a unit, each of two parameters and `batch` samples."""
        return self.config.steps * self.config.trajectories / self.seconds

    def warnings(self) -> list[str]:
        """What a reader of the numbers must know, as sentences."""
        sentences = []
        diverged = self.diverged[self.diverged >= 0]
        if len(diverged):
            sentences.append(
                f"{len(diverged)} of {self.config.trajectories} units diverged, the first at step "
                f"{diverged.min()}; the statistics leave them out from then on"
            )
        return sentences + flush_warnings(self.config.dtype, self.flushed)

    def __repr__(self) -> str:
        config, p, death = self.config, self.activation_mean, self.first_death_quantile()
        lines = [
            f"NeuronResult({self.label}: {config.trajectories} units x {config.steps} steps, batch "
            f"{config.batch}, alpha {config.alpha:g}, {config.dtype}, seed {config.seed})",
            f"  activation probability: mean {p[0]:.4g} -> {p[-1]:.4g}, "
            f"std {self.activation_std[-1]:.3g}",
            f"  below {config.threshold:g}: {self.share_dead[-1]:.2%} of the units at the end, "
            f"{self.share_died:.2%} at some step, median first "
            f"{'never' if death == float('inf') else f'after {death:.0f} steps'}",
            f"  {self.seconds:.2f} s, {self.unit_steps_per_second / 1e6:.0f} million unit-steps/s",
        ]
        return "\n".join(lines + [f"  warning: {sentence}" for sentence in self.warnings()])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: configuration, statistics at the recorded times, deaths; None where undefined."""
        quantiles = self.ratio_quantiles()
        series = (
            "activation_mean", "activation_std", "share_dead",
            "gamma_mean", "gamma_std", "beta_mean", "beta_std",
        )  # fmt: skip
        return {
            "config": describe(self.config) | {"times": self.times.tolist()},
            "decay": {
                "step": self.times.tolist(),
                "alive": self.alive.tolist(),
                **{name: finite(getattr(self, name)) for name in series},
                "ratio_quantiles": {
                    f"{level:g}": finite(quantiles[:, j]) for j, level in enumerate(LEVELS)
                },
            },
            "first_death": {
                "threshold": self.config.threshold,
                "share_died": self.share_died,
                **{f"q{level:g}": finite([self.first_death_quantile(level)])[0] for level in LEVELS},
            },
            "share_of_time_dead": float(np.mean(self.steps_dead) / self.config.steps),
            "diverged": int(np.sum(self.diverged >= 0)),
            "first_divergence": first_step(self.diverged),
            "flushed": None if self.flushed < 0 else self.flushed,
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            **self.provenance,
        }

    def to_xarray(self) -> xarray.Dataset:
        """All of it as a Dataset; configuration and provenance as attributes."""
        import xarray

        series = {
            "alive": "units that have not diverged",
            "activation_mean": "mean activation probability",
            "activation_std": "standard deviation of the activation probability",
            "share_dead": "share of units with activation probability below the threshold",
            "gamma_mean": "mean of gamma",
            "gamma_std": "standard deviation of gamma",
            "beta_mean": "mean of beta",
            "beta_std": "standard deviation of beta",
        }
        per_unit = {
            "gamma": ("gamma after the last step", "1"),
            "beta": ("beta after the last step", "1"),
            "first_death": ("first dead step, -1 for never", "step"),
            "steps_dead": ("steps after which the unit was dead", "step"),
            "diverged": ("first step out of range, -1 for never", "step"),
        }
        variables: dict[str, Any] = {
            name: ("step", getattr(self, name), {"long_name": text, "units": "1"})
            for name, text in series.items()
        } | {
            name: ("trajectory", getattr(self, name), {"long_name": text, "units": unit})
            for name, (text, unit) in per_unit.items()
        }
        for name, text in (("ratio", "(beta + alpha) / |gamma|"), ("activation", "Phi(ratio)")):
            values = getattr(self, f"{name}_quantiles")()
            about = {"long_name": f"quantile of {text}", "units": "1"}
            variables[f"{name}_quantile"] = ("step", "level"), values, about
        coordinates: dict[str, Any] = {"step": self.times, "level": list(LEVELS)}
        if self.config.keep:
            variables["path"] = (
                ("path_step", "path_index", "parameter"),
                self.paths,
                {"long_name": "gamma and beta of the first units", "units": "1"},
            )
            coordinates["path_step"] = np.arange(self.config.steps + 1)
            coordinates["parameter"] = ["gamma", "beta"]
        attributes = {
            "config": json.dumps(describe(self.config)),
            "optimizer": self.config.rule.name,
            "regularization": self.config.regularization,
            "lam": self.config.lam,
            "threshold": self.config.threshold,
            "seed": str(self.config.seed),
            "flushed": self.flushed,
            "seconds": self.seconds,
            **self.provenance,
        }
        return xarray.Dataset(variables, coordinates, attributes)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write to .nc (all of it) or .json, atomically.

        Raises
        ------
        InvalidParameter
            For another suffix, an existing file without `force`, or a place that cannot be written.
        """
        suffix = os.path.splitext(path)[1].lower()
        if suffix not in (".nc", ".json"):
            raise InvalidParameter("out", "a file that ends in .nc or .json", path)
        with written_whole("out", path, force) as temporary:
            if suffix == ".nc":
                temporary.write_bytes(netcdf_bytes(self.to_xarray()))
            else:
                temporary.write_text(json.dumps({"results": [self.to_dict()]}, indent=1))

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the activation probability and the share of dead units; see `regdyn.plots`."""
        from regdyn.plots import plot_activation

        return plot_activation([self], ax=ax, **style)

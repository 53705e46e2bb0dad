"""What a simulation of one weight returns."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.observables import LOW, bin_edges, histogram_quantiles
from regdyn.errors import InvalidParameter
from regdyn.files import written_whole

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

    from regdyn.dynamics.ensemble import Run
    from regdyn.dynamics.scalar import ScalarConfig

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Levels of the quantiles of |theta| in tables and files."""


def describe(value: Any) -> Any:
    """A configuration as plain JSON; arrays as their shape and a hash."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": getattr(value, "name", type(value).__name__), **fields}
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": digest}
    if isinstance(value, (tuple, list)):
        return [describe(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return repr(value)


@cache
def provenance() -> dict[str, str]:
    """Versions and machine."""
    packages = ("regdyn", "numpy", "numba")
    return {
        **{f"{package}_version": version(package) for package in packages},
        "python_version": platform.python_version(),
        "machine": f"{platform.machine()} {_processor()}, {os.cpu_count()} logical processors",
    }


def _processor() -> str:
    import llvmlite.binding

    return str(llvmlite.binding.get_host_cpu_name())


def mean_and_std(moments: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From rows (…, 5) of the engine; the std with n - 1, 0 for one trajectory, NaN for none."""
    n, mean, squares = np.moveaxis(moments[..., :3], -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        std = np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1)), np.where(n == 1, 0, np.nan))
    return np.where(n > 0, mean, np.nan), std


def first_quantile(first: NDArray[np.int64], level: float) -> float:
    """The step by which a share `level` of the trajectories got there (-1: never); inf if fewer do."""
    passed = np.sort(first[first >= 0])
    index = int(np.ceil(level * len(first))) - 1
    return float(passed[max(index, 0)]) if index < len(passed) else float("inf")


def flush_warnings(dtype: str, flushed: int) -> list[str]:
    """What a reader must know of numbers that were set to 0, from a step `flushed` on; -1 for never."""
    if flushed < 0:
        return []
    return [f"numbers too small for full {dtype} precision were set to 0 from about step {flushed} on"]


@dataclass(frozen=True, repr=False, eq=False)
class ScalarResult:
    """Ensemble statistics of one weight.

    Attributes
    ----------
    config
        The `ScalarConfig` that was run.
    times
        Recorded steps, shape (times,).
    alive
        Trajectories that had not diverged at each of them.
    mean, std
        Of theta over those, the std with n - 1 (0 for one trajectory, NaN where there are none).
    least, greatest
        Of |theta| over those (NaN where there are none).
    histogram
        Counts of |theta| in log-spaced bins, shape (times, bins + 2); see `bin_edges`.
    final
        theta after the last step, one per trajectory, as are the next three.
    first_passage
        First step with |theta| < threshold, 0 for the start, -1 for never.
    steps_below
        Number of steps 1 … steps that ended with |theta| < threshold.
    diverged
        First step at which |theta| left the type's range (1e150; 1e18 for float32), -1 for never.
    flushed
        A step by which some theta or state had fallen below 2^-1000 (2^-120 for float32) and was set
        to 0, -1 if none had: what happens later on that scale is an artefact.
    paths
        theta of the first `keep` trajectories at steps 0 … steps, shape (steps + 1, keep).
    seconds, compile_seconds
        Wall time of the run, and of compiling or loading its kernels before.
    provenance
        Versions and machine.
    """

    config: ScalarConfig
    times: NDArray[np.int64]
    alive: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    least: NDArray[np.float64]
    greatest: NDArray[np.float64]
    histogram: NDArray[np.int64]
    final: NDArray
    first_passage: NDArray[np.int64]
    steps_below: NDArray[np.int64]
    diverged: NDArray[np.int64]
    flushed: int
    paths: NDArray
    seconds: float
    compile_seconds: float
    provenance: dict[str, str]

    @classmethod
    def collect(cls, config: ScalarConfig, run: Run, **rest: Any) -> ScalarResult:
        """From the raw sums of the engine and what the system kept."""
        moments = run.statistics.moments[:, 0]
        n, _, _, least, greatest = moments.T
        mean, std = mean_and_std(moments)
        return cls(
            config=config,
            times=np.asarray(config.times),
            alive=n.astype(np.int64),
            mean=mean,
            std=std,
            least=np.where(n > 0, least, np.nan),
            greatest=np.where(n > 0, greatest, np.nan),
            histogram=run.statistics.histogram[:, 0],
            seconds=run.seconds,
            compile_seconds=run.compile_seconds,
            provenance=provenance(),
            **rest,
        )

    @property
    def label(self) -> str:
        """Optimizer, decay and its strength in a few words."""
        name = self.config.optimizer.name  # type: ignore[union-attr]
        return f"{name}, {self.config.regularization} {self.config.lam:g}"

    def quantiles(self, levels: Any = LEVELS) -> NDArray[np.float64]:
        """Quantiles of |theta| at the recorded times, shape (times, levels), to within 1 percent."""
        quantiles = histogram_quantiles(self.histogram, levels)
        # A bin may be wider than the whole ensemble; below LOW nothing is resolved.
        least, greatest = np.maximum(self.least, LOW), np.maximum(self.greatest, LOW)
        return np.clip(quantiles, least[:, None], greatest[:, None])

    def first_passage_quantile(self, level: float = 0.5) -> float:
        """The step by which a share `level` of the trajectories has passed; inf if fewer ever do."""
        return first_quantile(self.first_passage, level)

    @property
    def share_passed(self) -> float:
        """Share of the trajectories that were below the threshold at some step."""
        return float(np.mean(self.first_passage >= 0))

    @property
    def share_below(self) -> float:
        """Share of all steps that ended below the threshold: first passage is not staying."""
        return float(np.mean(self.steps_below) / self.config.steps)

    @property
    def trajectory_steps_per_second(self) -> float:
        """Throughput of the run."""
        return self.config.steps * self.config.trajectories / self.seconds

    def warnings(self) -> list[str]:
        """What a reader of the numbers must know, as sentences."""
        sentences = []
        diverged = self.diverged[self.diverged >= 0]
        if len(diverged):
            sentences.append(
                f"{len(diverged)} of {self.config.trajectories} trajectories diverged, the first at "
                f"step {diverged.min()}; mean, std and quantiles leave them out from then on"
            )
        return sentences + flush_warnings(self.config.dtype, self.flushed)

    @property
    def _start(self) -> str:
        theta0 = np.asarray(self.config.theta0)
        return f"{theta0:g}" if theta0.ndim == 0 else f"{theta0.min():g} … {theta0.max():g}"

    def __repr__(self) -> str:
        median = self.quantiles([0.5])[-1, 0]
        passage = self.first_passage_quantile()
        lines = [
            f"ScalarResult({self.label}: {self.config.trajectories} trajectories x "
            f"{self.config.steps} steps, {self.config.dtype}, seed {self.config.seed})",
            f"  theta: {self._start} -> mean {self.mean[-1]:.4g}, std {self.std[-1]:.3g}, "
            f"median |theta| {median:.3g}",
            f"  |theta| < {self.config.threshold:g}: median first passage "
            f"{'never' if passage == float('inf') else f'{passage:.0f} steps'}, "
            f"{self.share_passed:.1%} passed, {self.share_below:.1%} of the time below",
            f"  {self.seconds:.2f} s, {self.trajectory_steps_per_second / 1e6:.0f} million "
            "trajectory-steps per second",
        ]
        return "\n".join(lines + [f"  warning: {sentence}" for sentence in self.warnings()])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: configuration, decay at the recorded times, passage; None where undefined."""
        quantiles = self.quantiles()
        return {
            "config": describe(self.config) | {"times": self.times.tolist()},
            "decay": {
                "step": self.times.tolist(),
                "alive": self.alive.tolist(),
                "mean": finite(self.mean),
                "std": finite(self.std),
                "abs_quantiles": {
                    f"{level:g}": finite(quantiles[:, j]) for j, level in enumerate(LEVELS)
                },
            },
            "first_passage": {
                "threshold": self.config.threshold,
                "share_passed": self.share_passed,
                **{f"q{level:g}": finite([self.first_passage_quantile(level)])[0] for level in LEVELS},
            },
            "share_of_time_below": self.share_below,
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

        edges = bin_edges()
        trajectory = {
            name: ("trajectory", getattr(self, name), {"long_name": text, "units": unit})
            for name, text, unit in (
                ("final", "theta after the last step", "1"),
                ("first_passage", "first step below the threshold, -1 for never", "step"),
                ("steps_below", "steps that ended below the threshold", "step"),
                ("diverged", "first step out of range, -1 for never", "step"),
            )
        }
        variables: dict[str, Any] = {
            "mean": ("step", self.mean, {"long_name": "mean of theta", "units": "1"}),
            "std": ("step", self.std, {"long_name": "standard deviation of theta", "units": "1"}),
            "alive": ("step", self.alive, {"long_name": "trajectories that have not diverged"}),
            "abs_quantile": (
                ("step", "level"),
                self.quantiles(),
                {"long_name": "quantile of |theta|", "units": "1"},
            ),
            "least": ("step", self.least, {"long_name": "least |theta|", "units": "1"}),
            "greatest": ("step", self.greatest, {"long_name": "greatest |theta|", "units": "1"}),
            "histogram": (
                ("step", "bin"),
                self.histogram,
                {"long_name": "count of |theta|; first bin below, last bin above the range"},
            ),
            **trajectory,
        }
        coordinates = {
            "step": self.times,
            "level": list(LEVELS),
            "bin_low": ("bin", np.concatenate(([0.0], edges))),
            "bin_high": ("bin", np.concatenate((edges, [np.inf]))),
        }
        if self.config.keep:
            variables["path"] = (
                ("path_step", "path_index"),
                self.paths,
                {"long_name": "theta of the first trajectories", "units": "1"},
            )
            coordinates["path_step"] = np.arange(self.config.steps + 1)
        attributes = {
            "config": json.dumps(describe(self.config)),
            "optimizer": self.config.optimizer.name,  # type: ignore[union-attr]
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
        """Write to .nc (all of it), .json or .csv (the decay), atomically.

        Raises
        ------
        InvalidParameter
            For another suffix, an existing file without `force`, or a place that cannot be written.
        """
        save_results([self], path, force=force)

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the median of |theta| with its 5 to 95 percent band; see `regdyn.plots.plot_decay`."""
        from regdyn.plots import plot_decay

        return plot_decay([self], ax=ax, **style)


def combined_dataset(results: list[ScalarResult]) -> xarray.Dataset:
    """One Dataset with a new dimension "run" (optimizer, regularization and lam as coordinates)."""
    import xarray

    parts = [result.to_xarray() for result in results]
    if len(parts) == 1:
        return parts[0]
    runs = xarray.concat(
        [part.drop_attrs(deep=False) for part in parts], dim="run", combine_attrs="drop"
    )
    for name in ("optimizer", "regularization", "lam", "flushed", "seconds"):
        runs.coords[name] = ("run", [part.attrs[name] for part in parts])
    runs.attrs = {
        name: value for name, value in parts[0].attrs.items()
        if all(part.attrs.get(name) == value for part in parts)
    }  # fmt: skip
    runs.attrs["config"] = json.dumps([json.loads(part.attrs["config"]) for part in parts])
    return runs


CSV_COLUMNS = (
    "optimizer", "regularization", "lam", "step", "alive", "mean", "std",
    *(f"abs_q{level:g}" for level in LEVELS),
)  # fmt: skip


def csv_rows(results: list[ScalarResult]) -> list[list[Any]]:
    """Rows under `CSV_COLUMNS`, one for each result and recorded time."""
    return [
        [
            result.config.optimizer.name,  # type: ignore[union-attr]
            result.config.regularization,
            result.config.lam,
            *row,
        ]
        for result in results
        for row in zip(
            result.times.tolist(),
            result.alive.tolist(),
            result.mean.tolist(),
            result.std.tolist(),
            *result.quantiles().T.tolist(),
        )
    ]


def table_format(path: str | os.PathLike[str]) -> str:
    """The suffix of `path` if results can be saved there, else InvalidParameter."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".nc", ".json", ".csv"):
        raise InvalidParameter("out", "a file that ends in .nc, .json or .csv", path)
    return suffix


def netcdf_bytes(dataset: xarray.Dataset, encoding: dict[str, Any] | None = None) -> memoryview:
    """A .nc file in memory: where the disk is full, HDF5 itself would end the process."""
    return dataset.to_netcdf(engine="h5netcdf", encoding=encoding)


def save_results(
    results: list[ScalarResult], path: str | os.PathLike[str], *, force: bool = False
) -> None:
    """Write one or several results to one file; the suffix (.nc, .json, .csv) chooses the form."""
    suffix = table_format(path)
    with written_whole("out", path, force) as temporary:
        if suffix == ".nc":
            # Most bins are empty.
            packed = {"histogram": {"zlib": True, "complevel": 1}}
            temporary.write_bytes(netcdf_bytes(combined_dataset(results), packed))
        elif suffix == ".json":
            temporary.write_text(json.dumps({"results": [r.to_dict() for r in results]}, indent=1))
        else:
            with temporary.open("w", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(CSV_COLUMNS)
                writer.writerows(csv_rows(results))


def finite(values: Any) -> list[float | None]:
    return [float(x) if np.isfinite(x) else None for x in values]


def first_step(steps: NDArray[np.int64]) -> int | None:
    happened = steps[steps >= 0]
    return int(happened.min()) if len(happened) else None

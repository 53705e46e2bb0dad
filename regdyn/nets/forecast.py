"""From the recorded gradients of a trained network back to single weights: which units die, and when.

Every unit's scale gamma is simulated alone, by the simulators of `regdyn.dynamics`, with the run's own
update rule, decay and schedule, and compared with what the network did.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.engine import check_memory, thread_count
from regdyn.dynamics.neuron import NeuronConfig
from regdyn.dynamics.noise import Signal, Trace
from regdyn.dynamics.optimization import DTYPES
from regdyn.dynamics.result import finite
from regdyn.dynamics.scalar import ScalarConfig
from regdyn.dynamics.schedules import Table
from regdyn.errors import InvalidParameter
from regdyn.nets import scores
from regdyn.nets.penalties import Slimming
from regdyn.nets.result import TrainResult
from regdyn.nets.scores import Calibration, TimeError
from regdyn.parameters import check_choice, check_integer
from regdyn.theorems.estimates import Estimate

Array = NDArray[np.float64]

MODELS = ("scalar", "neuron")
NOISES = ("epoch", "independent")
FUTURES = ("redrawn", "held", "known")
FORCES = ("none", "within", "between")

TRACE = 2**23
"""Gradients drawn at once by a thread."""


@dataclass(frozen=True, eq=False, repr=False)
class Forecast:
    """Which units die and when, as predicted and as observed; the units of one run or of several.

    A unit is dead at the first step with |gamma| below the run's threshold.

    Attributes
    ----------
    label
        Optimizer and decay of the runs.
    method
        How it was predicted, in words.
    cut
        Step up to which the run was known; 0 for a replay. Units that died by then are left out.
    horizon
        Last step predicted.
    replicas
        Simulated trajectories of each unit.
    run, layer, unit
        Where each unit stands, from 0; shape (units,), as all that follow.
    gamma
        Scale at the cut.
    probability
        Share of the trajectories that died.
    predicted_time
        Step by which half of the trajectories had died, infinite where fewer did.
    observed_time
        Step at which the unit died in the network, infinite where it did not.
    """

    label: str
    method: str
    cut: int
    horizon: int
    replicas: int
    run: NDArray[np.int64]
    layer: NDArray[np.int64]
    unit: NDArray[np.int64]
    gamma: Array
    probability: Array
    predicted_time: Array
    observed_time: Array

    @property
    def died(self) -> NDArray[np.bool_]:
        """Whether each unit died in the network by the horizon."""
        return np.isfinite(self.observed_time)

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(np.unique(self.run))

    def auc(self, score: NDArray | None = None) -> Estimate:
        """How well the probability, or another score, tells the units that died from the others.

        See `regdyn.nets.scores.area_under_curve`; units of a run may depend on each other where there
        are several runs.
        """
        groups = self.run if self.runs > 1 else None
        return scores.area_under_curve(self.probability if score is None else score, self.died, groups)

    def calibration(self, bins: int = 10) -> Calibration:
        """Whether the probabilities are right; see `regdyn.nets.scores.calibrate`."""
        return scores.calibrate(self.probability, self.died, bins)

    @cached_property
    def time_error(self) -> TimeError:
        """How far the predicted times are off, as steps after the cut."""
        return scores.compare_times(self.predicted_time - self.cut, self.observed_time - self.cut)

    @classmethod
    def pooled(cls, forecasts: Sequence[Forecast]) -> Forecast:
        """The units of several runs together.

        Raises
        ------
        InvalidParameter
            For no forecasts, or for such that differ in method, cut or horizon.
        """
        if not forecasts:
            raise InvalidParameter("forecasts", "at least one forecast")
        common = ("label", "method", "cut", "horizon", "replicas")
        for name in common:
            values = {getattr(forecast, name) for forecast in forecasts}
            if len(values) > 1:
                raise InvalidParameter("forecasts", f"of one {name}", values)
        parts: dict[str, list[NDArray]] = {"run": []}
        runs = 0
        for forecast in forecasts:
            _, run = np.unique(forecast.run, return_inverse=True)
            parts["run"].append(run + runs)
            runs += forecast.runs
        for name in (
            "layer", "unit", "gamma", "probability", "predicted_time", "observed_time",
        ):  # fmt: skip
            parts[name] = [getattr(forecast, name) for forecast in forecasts]
        fields: dict[str, Any] = {name: getattr(forecasts[0], name) for name in common}
        fields |= {name: np.concatenate(part) for name, part in parts.items()}
        return cls(**fields)

    def __repr__(self) -> str:
        runs = f", {self.runs} runs" if self.runs > 1 else ""
        what = f"forecast from step {self.cut} to step" if self.cut else "replay to step"
        calibration, error = self.calibration(), self.time_error
        lines = [
            f"Forecast({self.label}: {what} {self.horizon}, {self.method}, "
            f"{len(self.probability)} units{runs}, {self.replicas} trajectories each)",
            f"  died: {self.died.sum()} observed, {self.probability.sum():.1f} predicted",
        ]
        if 0 < self.died.sum() < len(self.died):
            (low,), (high,) = self.auc().interval(scores.LEVEL)
            lines.append(
                f"  which: AUC {self.auc().value[0]:.3f} [{low:.3f}, {high:.3f}], calibration error "
                f"{calibration.error:.3f}, Brier {calibration.brier:.3f} (the overall share: "
                f"{calibration.brier_of_share:.3f})"
            )
        if error.n:
            lines.append(
                f"  when: {error.n} died and were predicted to, {error.missed} missed, "
                f"{error.false_alarms} false alarms; median error {error.absolute.value[0]:.0f} steps, "
                f"factor {error.factor.value[0]:.2f}"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: scores, and every unit; None where undefined or never."""
        return {
            "label": self.label,
            "method": self.method,
            "cut": self.cut,
            "horizon": self.horizon,
            "replicas": self.replicas,
            **self.summary(),
            "units": {
                "run": self.run.tolist(),
                "layer": self.layer.tolist(),
                "unit": self.unit.tolist(),
                "gamma": self.gamma.tolist(),
                "probability": self.probability.tolist(),
                "predicted_time": finite(self.predicted_time),
                "observed_time": finite(self.observed_time),
            },
        }

    def summary(self) -> dict[str, Any]:
        """All that is measured, as plain JSON; None where undefined."""
        return {
            "runs": self.runs,
            "n": len(self.probability),
            "died": int(self.died.sum()),
            "died_predicted": float(self.probability.sum()),
            "auc": scores.point(self.auc()),
            "auc_of_gamma": scores.point(self.auc(-np.abs(self.gamma))),
            "calibration": self.calibration().to_dict(),
            "time_error": self.time_error.to_dict(),
        }


def forecast(
    result: TrainResult,
    cut: int | None = None,
    *,
    model: str = "scalar",
    noise: str = "epoch",
    future: str = "redrawn",
    force: str = "none",
    windows: int | None = None,
    shuffled: bool = False,
    replicas: int = 64,
    seed: int = 0,
    threads: int | None = None,
) -> Forecast:
    r"""Predict for each unit of a trained network whether and when it dies.

    The statistics of dL/dgamma that the run recorded, mean :math:`\mu_w` and std :math:`\sigma_w` of
    each window w between two recorded times, give the gradient of step t in window w:

    .. math:: g_t = \mu_w + \sigma_w z_t + h (\theta_t - \gamma_w), \qquad z_t \sim N(0, 1)

    A replay (`cut` None) starts where the run did and uses all windows. A forecast starts from the
    parameters at `cut` and knows no later window. Its optimizer state is that of a simulation up to
    the cut in which the weight is held at gamma(cut) (learning rate 0) and sees the gradients of the
    windows before, with the decay that gamma had there.

    Parameters
    ----------
    result
        A run with batch normalisation.
    cut
        A recorded step, after the first window and before the last one ends.
    model
        "scalar": the above, by `regdyn.dynamics.scalar`. "neuron": gamma and beta of a unit under the
        pure noise of zhou2020, by `regdyn.dynamics.neuron`: the recorded root mean square c of dL/dy
        is the std of noise of mean 0, of a batch of one with c / sqrt(batch) (claim C5).
    noise
        "epoch": z_t sums to 0 over each epoch, as the gradient noise of sampling without replacement
        does as long as the network stands still, and over each window, whose mean is known. (Where
        an epoch goes on into the next window, over both of its parts.) "independent": it does not.
    future
        What comes after the cut. "redrawn": each later window is one of the last `windows`, drawn
        anew for every trajectory. "held": mean and root mean square of their statistics hold on.
        "known": what was recorded, which shows what a forecast loses by not knowing it. The neuron
        takes "redrawn" as "held".
    force
        What h is. "none": 0. "within": the slope of the window means over the window's gamma, by
        least squares with an intercept for each unit. "between": the slope over the units of their
        means over the windows. One for each layer, from the last `windows` before
        the cut, all of them in a replay.
    windows
        How many; half of those before the cut where None.
    shuffled
        Exchange the statistics of the units at random: a negative control. Each keeps its start.
    replicas
        Trajectories of each unit.
    seed
        Of all that is drawn.
    threads
        All processors that this process may use where None. The result does not depend on it.

    Raises
    ------
    InvalidParameter
        For a run that failed, has no scales or was trained with slimming, a cut that was not recorded,
        no unit alive at it, or an option that cannot be used.
    """
    check_choice("model", model, MODELS)
    check_choice("noise", noise, NOISES)
    check_choice("future", future, FUTURES)
    check_choice("force", force, FORCES)
    replicas = check_integer("replicas", replicas, 1, 10**6)
    seed = check_integer("seed", seed, 0, 2**63)
    if model == "neuron" and force != "none":
        raise InvalidParameter("force", "none for the neuron, which has beta beside gamma", force)
    if not isinstance(result, TrainResult):
        raise InvalidParameter("result", "what regdyn.train returns for one run", result)
    if cut is not None:
        check_integer("cut", cut, 1, 2**63)
    past = _Past.of(result, 0 if cut is None else cut)
    if not len(past.unit):
        raise InvalidParameter("cut", "a step at which a unit is alive", cut)
    if shuffled:
        past = past.shuffled(np.random.default_rng([seed, 0]))
    before = past.n_before or past.n_windows
    least = 2 if force == "within" else 1
    if before < least:
        raise InvalidParameter("cut", "after two windows, of which a slope within units is made", cut)
    if windows is None:
        windows = max(before // 2, least) if past.n_before else before
    windows = check_integer("windows", windows, least, before)
    simulation = _Simulation(past, noise, future, force, windows, replicas, seed)
    died = (simulation.neuron if model == "neuron" else simulation.scalar)(thread_count(threads))
    times = np.where(died >= 0, died, np.inf)
    words = [f"model {model}"]
    if model == "scalar":
        words.append(f"noise {noise}")
    if past.n_before:
        told = "held" if (model, future) == ("neuron", "redrawn") else future
        words.append(f"future {told}" + f" from {windows} windows" * (told != "known"))
    words += [f"force {force}"] * (force != "none") + ["statistics shuffled"] * shuffled
    return Forecast(
        label=result.label,
        method=", ".join(words),
        cut=past.cut,
        horizon=past.horizon,
        replicas=replicas,
        run=np.zeros(len(past.unit), np.int64),
        layer=past.layer,
        unit=past.unit,
        gamma=past.gamma[past.n_before],
        probability=np.mean(died >= 0, axis=1),
        predicted_time=np.sort(times, axis=1)[:, (replicas - 1) // 2],
        observed_time=past.observed_time,
    )


@dataclass(frozen=True, kw_only=True)
class _Past:
    """What a run recorded of the units that are alive at the cut.

    Windows run between `edges`, of which the first is 0; statistics have shape (windows, units),
    gamma and beta (windows + 1, units).
    """

    result: TrainResult
    cut: int
    n_before: int
    edges: NDArray[np.int64]
    layer: NDArray[np.int64]
    unit: NDArray[np.int64]
    gamma: Array
    beta: Array
    middle: Array
    mean: Array
    std: Array
    c: Array
    observed_time: Array

    @classmethod
    def of(cls, result: TrainResult, cut: int) -> _Past:
        config = result.config
        if result.failed:
            raise InvalidParameter("result", "of a run that did not fail", result.failed)
        if not config.architecture.normalized:
            raise InvalidParameter("result", "of a network with batch normalisation")
        if isinstance(config.penalty, Slimming):
            wanted = "of a run without a penalty on gamma, which no single weight is simulated with"
            raise InvalidParameter("result", wanted, config.penalty)
        if config.prune is not None:
            raise InvalidParameter("result", "of a run without pruning", config.prune)
        kept = result.times > 0
        edges = np.concatenate(([0], result.times[kept]))
        if len(edges) < 2:
            raise InvalidParameter("result", "with a recorded step after the start", result.times)
        if cut:
            choices = [int(t) for t in edges[1:-1]]
            if cut not in choices:
                raise InvalidParameter("cut", "a recorded step before the last one", cut)

        def parameters(name: str, start: float) -> Array:
            rows = np.concatenate(getattr(result, name), axis=1)[kept].astype(float)
            return np.concatenate((np.full((1, rows.shape[1]), start), rows))

        def windows(name: str) -> Array:
            return np.concatenate([getattr(g, name) for g in result.gradients], axis=1)[kept]

        first = np.concatenate(result.first_below)
        n_before = int(np.searchsorted(edges, cut))
        alive = ~((first >= 0) & (first <= cut))
        gamma = parameters("gamma", config.gamma0)[:, alive]
        observed = np.where((first > cut) & (first <= edges[-1]), first, np.inf)
        return cls(
            result=result,
            cut=int(cut),
            n_before=n_before,
            edges=edges,
            layer=np.repeat(np.arange(len(config.hidden)), config.hidden)[alive],
            unit=np.concatenate([np.arange(n) for n in config.hidden])[alive],
            gamma=gamma,
            beta=parameters("beta", config.beta0)[:, alive],
            middle=(gamma[1:] + gamma[:-1]) / 2,
            mean=windows("gamma_mean")[:, alive],
            std=windows("gamma_std")[:, alive],
            # Units that no sample activates receive nothing.
            c=np.nan_to_num(windows("output_rms")[:, alive]),
            observed_time=observed[alive],
        )

    @property
    def horizon(self) -> int:
        """The last recorded step."""
        return int(self.edges[-1])

    @property
    def n_windows(self) -> int:
        return len(self.mean)

    def shuffled(self, rng: np.random.Generator) -> _Past:
        """The same with the statistics of the units exchanged."""
        order = rng.permutation(len(self.unit))
        names = ("middle", "mean", "std", "c")
        return dataclasses.replace(self, **{name: getattr(self, name)[:, order] for name in names})


class _Simulation:
    """A run's units as ensembles of the simulators."""

    def __init__(
        self, past: _Past, noise: str, future: str, force: str, windows: int, replicas: int, seed: int
    ) -> None:
        self._past, self._noise, self._future = past, noise, future
        self._replicas, self._seed = replicas, seed
        config = past.result.config
        last = past.n_before or past.n_windows
        self._source = np.arange(last - windows, last)
        t = np.arange(1, past.horizon + 1)
        scale = np.where(t > past.cut, np.asarray(config.schedule(t), dtype=float), 0.0)
        self._lengths = np.diff(past.edges)
        self._forces = [
            _slope(past, self._source, past.layer == k, force) for k in range(len(config.hidden))
        ]
        self._common: dict[str, Any] = dict(
            optimizer=dataclasses.replace(config.rule, lr=config.rule.lr * config.gamma_lr),
            regularization=config.regularization,
            lam=config.lam,
            schedule=Table(scale),
            steps=past.horizon,
            dtype=config.dtype,
            times=[0],
        )

    def scalar(self, threads: int) -> NDArray[np.int64]:
        """First passages of shape (units, replicas), -1 for never."""
        past, replicas = self._past, self._replicas
        at_once = max(1, TRACE // (past.horizon * replicas))
        room = threads * (at_once + 2) * past.horizon * replicas * 8
        check_memory(room, f"{past.horizon} steps x {replicas} trajectories of a unit")
        parts = []
        for h in sorted(set(self._forces)):
            (units,) = np.nonzero(np.array(self._forces)[past.layer] == h)
            parts += [(h, units[i : i + at_once]) for i in range(0, len(units), at_once)]
        first = np.empty((len(past.unit), replicas), np.int64)

        def run(part: tuple[float, NDArray[np.int64]]) -> None:
            h, units = part
            trace = np.concatenate([self._gradients(int(unit), h) for unit in units], axis=1)
            config = ScalarConfig(
                **self._common,
                noise=Trace(trace),
                signal=Signal(h),
                theta0=np.repeat(past.gamma[past.n_before, units], replicas),
                trajectories=trace.shape[1],
                threshold=past.result.config.threshold,
            )
            first[units] = config.run(threads=1).first_passage.reshape(len(units), replicas)

        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(run, parts))
        return first

    def neuron(self, threads: int) -> NDArray[np.int64]:
        """First steps with |gamma| below the threshold, of shape (units, replicas), -1 for never."""
        past, config = self._past, self._past.result.config
        if config.activation != "relu" or config.gamma_lr != config.beta_lr:
            raise InvalidParameter("model", "scalar unless for ReLU with gamma_lr = beta_lr", "neuron")
        first = np.empty((len(past.unit), self._replicas), np.int64)

        def run(unit: int) -> None:
            n, c = past.n_before, past.c[:, unit].copy()
            if n and self._future != "known":
                c[n:] = np.sqrt(np.mean(c[self._source] ** 2))
            paths = NeuronConfig(
                **self._common,
                gamma0=past.gamma[n, unit],
                beta0=past.beta[n, unit],
                c=np.repeat(c, self._lengths) / np.sqrt(config.batch),
                alpha=config.alpha,
                trajectories=self._replicas,
                keep=self._replicas,
                seed=int(self._rng(unit).integers(2**63)),
            ).run(threads=1).paths  # fmt: skip
            below = np.abs(paths[:, :, 0]) < config.threshold
            first[unit] = np.where(below.any(axis=0), below.argmax(axis=0), -1)

        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(run, range(len(past.unit))))
        return first

    def _rng(self, unit: int) -> np.random.Generator:
        past = self._past
        key = [self._seed, 1, int(past.layer[unit]), int(past.unit[unit])]
        return np.random.Generator(np.random.SFC64(key))

    def _gradients(self, unit: int, h: float) -> NDArray:
        """What one unit is sent, of shape (steps, replicas), without what the signal adds."""
        past, rng, n = self._past, self._rng(unit), self._past.n_before
        mean = past.mean[:, unit] - h * past.middle[:, unit]
        std = past.std[:, unit]
        shape = past.n_windows, self._replicas
        means, stds = (np.broadcast_to(x[:, None], shape).copy() for x in (mean, std))
        # Up to the cut the weight stands still: there the signal must not add anything.
        means[:n] = past.mean[:n, unit, None] - h * past.gamma[n, unit]
        if n and self._future == "redrawn":
            drawn = rng.choice(self._source, size=(shape[0] - n, shape[1]))
            means[n:], stds[n:] = mean[drawn], std[drawn]
        elif n and self._future == "held":
            means[n:] = mean[self._source].mean()
            stds[n:] = np.sqrt(np.mean(std[self._source] ** 2))
        g = self._normals(rng)
        g *= np.repeat(stds.astype(g.dtype), self._lengths, axis=0)
        g += np.repeat(means.astype(g.dtype), self._lengths, axis=0)
        if n and self._common["regularization"] == "l2":
            # It stands where gamma will be; the decay was that of where gamma had been.
            was = np.interp(np.arange(past.cut), past.edges[: n + 1], past.gamma[: n + 1, unit])
            g[: past.cut] += (self._common["lam"] * (was - past.gamma[n, unit]))[:, None]
        return g

    def _normals(self, rng: np.random.Generator) -> NDArray:
        """Standard normals of shape (steps, replicas)."""
        dtype = DTYPES[self._common["dtype"]].type
        z: NDArray = rng.standard_normal((self._past.horizon, self._replicas), dtype=dtype)
        if self._noise == "epoch":
            begin, length = self._pieces
            means = np.add.reduceat(z, begin, axis=0) / length[:, None].astype(dtype)
            z -= np.repeat(means, length, axis=0)
            # Of one number nothing is left, which is what a window of one step has of noise.
            z *= np.repeat(np.sqrt(length / np.maximum(length - 1, 1)).astype(dtype), length)[:, None]
        return z

    @cached_property
    def _pieces(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Begin and length of the stretches between ends of epochs and of windows."""
        config, past = self._past.result.config, self._past
        epoch = len(config.dataset.y_train) // config.batch
        ends = np.union1d(past.edges, np.arange(0, past.horizon, epoch))
        return ends[:-1], np.diff(ends)


def _slope(past: _Past, source: NDArray[np.int64], units: NDArray[np.bool_], force: str) -> float:
    """By how much the mean gradient of a layer's units rises with gamma: see `forecast`."""
    if force == "none" or not units.any():
        return 0.0
    # A unit with gamma < 0 is one with gamma > 0 whose xhat has the other sign.
    sign = np.where(past.gamma[past.n_before, units] < 0, -1.0, 1.0)
    mean, gamma = (sign * x[source][:, units] for x in (past.mean, past.middle))
    if force == "between":
        mean, gamma = mean.mean(axis=0), gamma.mean(axis=0)
    mean, gamma = mean - mean.mean(axis=0), gamma - gamma.mean(axis=0)
    spread = np.sum(gamma**2)
    return float(np.sum(mean * gamma) / spread) if spread > 0 else 0.0

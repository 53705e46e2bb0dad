"""One training run: its parameters, its step, and what it records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.engine import aligned_empty
from regdyn.dynamics.optimization import DTYPES
from regdyn.dynamics.random import LANES
from regdyn.nets import _mlp_kernel as kernels
from regdyn.nets._product import LINE
from regdyn.nets._prunable import PrunableArrays
from regdyn.nets._team import Team
from regdyn.nets.config import Progress, Snapshot
from regdyn.nets.mlp import EPS, MOMENTUM, Architecture, Network
from regdyn.nets.penalties import GroupLasso, Slimming, strength_of
from regdyn.nets.result import Record, TrainResult
from regdyn.nets.sparsity import NORM_THRESHOLD

if TYPE_CHECKING:
    from regdyn.nets.training import TrainConfig

TABLE = 4096
"""Steps for which constants are computed at once."""

GRADIENT_BYTES = 2**18
"""Gradients of a layer that are computed before they are used: they stay in a cache."""

SHARE = 160 * 2**10
"""Least bytes of the widest layer's weights for each thread: with fewer, waiting eats up the gain."""


def _up(n: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-n // step) * step


def make_plan(architecture: Architecture, itemsize: int) -> kernels.Plan:
    """Where the parameters of a network and its outputs stand."""
    shapes = architecture.shapes
    units, inputs = (np.array(column, np.int64) for column in zip(*shapes))
    rows = [_up(n, kernels.ROW) for n in inputs.tolist()]
    height = [max(1, GRADIENT_BYTES // (row * itemsize * kernels.ROW)) * kernels.ROW for row in rows]
    hidden = sum(architecture.hidden)
    sizes = [n * row for n, row in zip(units.tolist(), rows)]
    sizes[-1] += architecture.n_classes
    blocks = [-(-size // LANES) for size in (*sizes, hidden, hidden)]
    return kernels.Plan(
        units=units,
        inputs=inputs,
        row=np.array(rows, np.int64),
        height=np.array(height, np.int64),
        first_unit=np.cumsum([0, *architecture.hidden]),
        first_column=np.cumsum([0, *rows[1:]]),
        first_block=np.cumsum([0, *blocks]),
    )


class _Parameters:
    """Views of one buffer of parameters in their shapes."""

    def __init__(self, buffer: NDArray, plan: kernels.Plan) -> None:
        places = (plan.first_block * LANES).tolist()
        layers = list(zip(plan.units.tolist(), plan.inputs.tolist(), plan.row.tolist()))
        self.weights = [
            buffer[place : place + units * row].reshape(units, row)[:, :inputs]
            for place, (units, inputs, row) in zip(places, layers)
        ]
        classes, _, row = layers[-1]
        self.bias = buffer[places[len(layers) - 1] + classes * row :][:classes]
        self.gammas, self.betas = (
            buffer[place : place + plan.first_unit[-1]] for place in places[len(layers) : -1]
        )


def team_size(config: TrainConfig, threads: int) -> int:
    """How many of the threads are worth using for one run."""
    widest = max(units * inputs for units, inputs in config.architecture.shapes)
    return max(1, min(threads, widest * DTYPES[config.dtype].itemsize // SHARE))


class Run:
    """The state of one run and its training step."""

    def __init__(self, config: TrainConfig, data: tuple[NDArray, ...], team: Team) -> None:
        self.config, self._team = config, team
        self._x, self._y, self._x_test, self._y_test = data
        a = self._architecture = config.architecture
        dtype = self._dtype = DTYPES[config.dtype]
        number = dtype.type
        self._numbers = kernels.Numbers(
            activation=a.function.code,
            slope=number(config.slope),
            alpha=number(config.alpha),
            eps=number(EPS),
            momentum=number(MOMENTUM),
            size=number(config.batch),
            threshold=number(config.threshold),
            slimming=number(strength_of(Slimming, config.penalty_term)),
            group_lasso=number(strength_of(GroupLasso, config.penalty_term)),
        )
        self._plan = make_plan(a, dtype.itemsize)
        self._arrays = self._make_arrays()
        init, self._order = (
            np.random.Generator(np.random.Philox(key=[config.seed, stream])) for stream in (0, 1)
        )
        self._parameters = _Parameters(self._arrays.theta, self._plan)
        for view, weights in zip(self._parameters.weights, a.initial_weights(config.init, init)):
            view[:] = weights
        self._parameters.gammas[:] = config.gamma0 if a.normalized else 1
        self._parameters.betas[:] = config.beta0
        # Whole lines, as the rows of the weights have them.
        features = self._x.shape[1]
        self._samples = np.zeros((len(self._x), self._plan.row[0]), dtype)
        self._samples[:, :features] = self._x
        self._epoch_x, self._epoch_y = self._samples, self._y
        self._place = len(self._x)
        self._pruner = config.make_pruner()
        if self._pruner is not None:
            keep = _Parameters(self._arrays.keep, self._plan)
            self._prunable = PrunableArrays(
                self._parameters, keep, self._arrays, a.normalized, self._test_error
            )

    def _make_arrays(self) -> kernels.Arrays:
        plan, dtype = self._plan, self._dtype
        batch = _up(self.config.batch, LINE // dtype.itemsize)
        blocks, tail = plan.first_block[-1], plan.first_block[-1] - plan.first_block[-4]
        units, classes = plan.first_unit[-1], plan.units[-1]
        start = self.config.rule.initial_state()
        state = aligned_empty((blocks, len(start) * LANES), dtype)
        for row, value in enumerate(start):
            state[:, row * LANES : (row + 1) * LANES] = value

        def zeros(*shape: int) -> NDArray:
            array = aligned_empty(shape, dtype)
            array[:] = 0
            return array

        return kernels.Arrays(
            theta=zeros(blocks * LANES),
            state=state,
            keep=np.ones(0 if self.config.prune is None else blocks * LANES, np.bool_),
            masked=np.zeros(blocks, np.bool_),
            gradient=zeros(tail * LANES),
            scratch=zeros(self._team.size, _up(int(np.max(plan.height * plan.row)), LANES)),
            z=zeros(units, batch),
            y=zeros(units, batch),
            delta=zeros(units, batch),
            x_by_feature=zeros(plan.inputs[0], batch),
            # Rows a power of two apart would compete for the same places of the cache.
            y_by_sample=zeros(self.config.batch, plan.first_column[-1] + kernels.ROW),
            logits=zeros(classes, batch),
            d_logits=zeros(classes, batch),
            inverse_std=np.ones(units, dtype),
            mean=np.zeros(units, dtype),
            var=np.ones(units, dtype),
            sums=np.zeros((units, kernels.N_SUMS)),
            first_below=np.full(units, -1, np.int64),
            steps_below=np.zeros(units, np.int64),
        )

    def _next_batches(self, most: int) -> tuple[NDArray, NDArray]:
        """The samples of up to `most` steps, (steps * batch, padded features), and their labels."""
        batch = self.config.batch
        if self._place + batch > len(self._x):
            order = self._order.permutation(len(self._x))
            self._epoch_x, self._epoch_y = self._samples[order], self._y[order]
            self._place = 0
        begin = self._place
        steps = min(most, (len(self._x) - begin) // batch)
        self._place += steps * batch
        return self._epoch_x[begin : self._place], self._epoch_y[begin : self._place]

    def _constants(self, t: int) -> tuple[NDArray, NDArray, int]:
        """Constants and decay of steps t + 1, … as `kernels.advance` takes them, and where they end."""
        config, end = self.config, min(t + TABLE, self.config.steps)
        steps, factors = np.arange(t + 1, end + 1), (1.0, self.config.gamma_lr, self.config.beta_lr)
        constants = np.stack([config.constants(steps, factor) for factor in factors])
        decay = [config.table(config.decay(steps, factor), len(steps)) for factor in factors]
        return constants, np.stack(decay), end

    def _advance(
        self, t: int, x: NDArray, y: NDArray, constants: NDArray, decay: NDArray, first_step: int,
        stop: NDArray[np.int64], status: NDArray[np.int64],
    ) -> NDArray[np.float64]:  # fmt: skip
        """Steps t + 1 … through the batches of x, on all threads; their losses."""
        batch = self.config.batch
        losses = np.full(len(y) // batch, np.nan)

        def work(rank: int) -> None:
            kernels.advance(
                self.config.rule, self._plan, self._arrays, self._numbers,
                self._architecture.normalized, batch, x, y, constants, decay, first_step, t,
                self._team.gate, self._team.size, rank, stop, status, losses,
            )  # fmt: skip

        self._team.call(work)
        return losses

    def train(self, index: int, progress: Progress, stop: NDArray[np.int64]) -> TrainResult:
        """Take all steps; `stop` as in `kernels.advance`."""
        config, arrays = self.config, self._arrays
        status = np.zeros(1, np.int64)
        constants, decay, table_end = self._constants(0)
        # No step at all: what has to be compiled is compiled before the clock starts. A copy, since
        # read-only labels would be another type.
        self._advance(0, self._samples[:0], self._y[:0].copy(), constants, decay, 0, stop, status)
        begin = time.perf_counter()
        times = np.asarray(config.times).tolist()
        total, since = 0.0, 0
        failed = self._prune(0)
        records = [self._record(np.nan, 0)] if times[0] == 0 else []
        if self._architecture.normalized:
            kernels.watch(
                self._parameters.gammas, self._numbers.threshold, 0, arrays.first_below,
                arrays.steps_below,
            )  # fmt: skip
        t = table_begin = 0
        while t < config.steps and not failed:
            if t == table_end:
                table_begin = t
                constants, decay, table_end = self._constants(t)
            until = times[len(records)] if len(records) < len(times) else config.steps
            if self._pruner is not None and self._pruner.due is not None:
                until = min(until, self._pruner.due)
            x, y = self._next_batches(min(until, table_end) - t)
            losses = self._advance(t, x, y, constants, decay, t - table_begin, stop, status)
            if status[0] == kernels.DIVERGED:
                step = t + 1 + int(np.isfinite(losses).argmin())
                failed = f"the loss is no longer finite at step {step}"
            if status[0]:
                break
            t += len(losses)
            total, since = total + losses.sum(), since + len(losses)
            failed = self._prune(t)
            if failed:
                break
            if len(records) < len(times) and t == times[len(records)]:
                records.append(self._record(total / since, since))
                total, since = 0.0, 0
                progress(Snapshot(index, t, records[-1].loss, records[-1].error, self.sparsity))
        seconds = time.perf_counter() - begin
        network = self.network
        if not failed and not status[0] and not self._is_finite(network):
            failed = f"the network is no longer finite at step {t}"
        return TrainResult.collect(
            config=config,
            network=network,
            records=records,
            first_below=arrays.first_below,
            steps_below=arrays.steps_below,
            pruner=self._pruner,
            failed=failed,
            seconds=seconds,
        )

    def _prune(self, t: int) -> str:
        """Do what is due after step t, 0 for the start; why the run cannot go on, "" if it can."""
        if self._pruner is None or self._pruner.due != t:
            return ""
        arrays, gammas = self._arrays, self._parameters.gammas
        alive = np.abs(gammas) >= self._numbers.threshold
        try:
            self._pruner.act(t, self._prunable)
        except FloatingPointError:
            return f"the network is no longer finite at step {t}"
        if self._architecture.normalized and t > 0:
            # `watch` has seen the scales as they were.
            new = alive & (np.abs(gammas) < self._numbers.threshold)
            arrays.steps_below[new] += 1
            arrays.first_below[new & (arrays.first_below < 0)] = t
        return ""

    def _test_error(self) -> float:
        return self.network.error(self._x_test, self._y_test)

    def _is_finite(self, network: Network) -> bool:
        """Whether all of it is, and what it computes: the loss sees no averages and no last step."""
        parts: list[Sequence[NDArray]] = [
            network.weights, network.gamma, network.beta, network.running_mean, network.running_var,
        ]  # fmt: skip
        for x in (self._x, self._x_test):
            layers = network.layers(x)
            parts.append([*layers, network.output(layers[-1])])
        return all(np.isfinite(array).all() for arrays in parts for array in arrays)

    @property
    def network(self) -> Network:
        """A copy of the network as it is."""
        theta, arrays = self._parameters, self._arrays

        def by_layer(array: NDArray) -> tuple[NDArray, ...]:
            return tuple(np.split(array.copy(), self._plan.first_unit[1:-1]))

        return Network(
            self._architecture,
            tuple(w.copy() for w in theta.weights),
            by_layer(theta.gammas),
            by_layer(theta.betas),
            theta.bias.copy(),
            by_layer(arrays.mean),
            by_layer(arrays.var),
        )

    def _norms(self) -> NDArray:
        return np.concatenate([np.linalg.norm(w, axis=1) for w in self._parameters.weights[:-1]])

    @property
    def sparsity(self) -> float:
        """Share of the hidden units that count as dead; see `Network.inactive`."""
        if self._architecture.normalized:
            return float(np.mean(np.abs(self._parameters.gammas) < self.config.threshold))
        return float(np.mean(self._norms() < NORM_THRESHOLD))

    def _record(self, loss: float, steps: int) -> Record:
        """What is kept of this step and of the window of `steps` steps before it, which it ends."""
        record = Record(
            loss=loss,
            error=self._test_error(),
            gamma=self._parameters.gammas.copy(),
            beta=self._parameters.betas.copy(),
            norm=self._norms(),
            sums=self._arrays.sums.copy(),
            steps=steps,
        )
        self._arrays.sums[:] = 0
        return record

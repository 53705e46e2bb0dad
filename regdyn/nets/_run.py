"""One training run: its parameters, its step, and what it records."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.engine import aligned_empty
from regdyn.dynamics.optimization import DTYPES
from regdyn.dynamics.random import LANES
from regdyn.nets import _mlp_kernel as kernels
from regdyn.nets._pool import Pool, cut
from regdyn.nets.mlp import EPS, MOMENTUM, Architecture, Gradients, Network
from regdyn.nets.result import Record, TrainResult
from regdyn.nets.sparsity import NORM_THRESHOLD

if TYPE_CHECKING:
    from regdyn.nets.training import TrainConfig

TABLE = 4096
"""Steps for which constants are computed at once."""

BLOCK_BYTES = 2**18
"""Weights of a layer beyond which it is computed in blocks of units, which threads can share.

Blocks do not depend on the number of threads, because the order of sums depends on them. Smaller ones
would cost more in handing them over than a second thread gains.
"""

MAX_BLOCKS = 4


@dataclass(frozen=True)
class Snapshot:
    """Where a run stands."""

    run: int
    step: int
    loss: float
    test_error: float
    sparsity: float


Progress = Callable[[Snapshot], None]


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Views of what belongs to a block of units of one hidden layer, a row for each unit."""

    weights: NDArray
    d_weights: NDArray
    gamma: NDArray
    d_gamma: NDArray
    beta: NDArray
    d_beta: NDArray
    mean: NDArray
    var: NDArray
    inverse_std: NDArray
    z: NDArray
    y: NDArray
    delta: NDArray
    sums: NDArray
    partial: NDArray | None
    """Where its share of the delta of the layer below goes."""


def _blocks(units: int, inputs: int, itemsize: int) -> list[slice]:
    """The units of a layer in contiguous blocks."""
    count = max(1, min(units * inputs * itemsize // BLOCK_BYTES, MAX_BLOCKS, units))
    return [slice(a, b) for a, b in cut(0, units, count)]


class _Parameters:
    """All parameters in one buffer, so that one kernel updates them; views of it in their shapes.

    Three groups with learning rates of their own: weights and the output's bias, gammas, betas. Each
    fills whole blocks of LANES.
    """

    def __init__(self, architecture: Architecture, dtype: np.dtype) -> None:
        hidden = architecture.hidden
        shapes: list[list[tuple[int, ...]]] = [
            [*architecture.shapes, (architecture.n_classes,)],
            [(units,) for units in hidden],
            [(units,) for units in hidden],
        ]
        counts = [-(-sum(int(np.prod(shape)) for shape in group) // LANES) for group in shapes]
        edges = np.cumsum([0, *counts]).tolist()
        self.groups = list(pairwise(edges))
        self.buffer = aligned_empty((edges[-1] * LANES,), dtype)
        self.buffer[:] = 0
        views: list[list[NDArray]] = []
        for (first, _), group in zip(self.groups, shapes):
            place, row = first * LANES, []
            for shape in group:
                size = int(np.prod(shape))
                row.append(self.buffer[place : place + size].reshape(shape))
                place += size
            views.append(row)
        (*self.weights, self.bias), self.gamma, self.beta = views

    def flat_gamma(self, units: int) -> NDArray:
        """All gammas, layer after layer."""
        begin = self.groups[1][0] * LANES
        return self.buffer[begin : begin + units]


class Run:
    """The state of one run and its training step."""

    def __init__(self, config: TrainConfig, data: tuple[NDArray, ...], pool: Pool) -> None:
        self.config, self._pool = config, pool
        self._x, self._y, self._x_test, self._y_test = data
        a = self._architecture = config.architecture
        dtype = self._dtype = DTYPES[config.dtype]
        number = dtype.type
        self._size, self._slope, self._alpha = (
            number(config.batch),
            number(config.slope),
            number(config.alpha),
        )
        self._eps, self._momentum = number(EPS), number(MOMENTUM)
        self._threshold = number(config.threshold)
        self._code = a.function.code

        init, self._order = (
            np.random.Generator(np.random.Philox(key=[config.seed, stream])) for stream in (0, 1)
        )
        self._theta, self._gradient = _Parameters(a, dtype), _Parameters(a, dtype)
        for view, weights in zip(self._theta.weights, a.initial_weights(config.init, init)):
            view[:] = weights
        for gamma, beta in zip(self._theta.gamma, self._theta.beta):
            gamma[:] = config.gamma0 if a.normalized else 1
            beta[:] = config.beta0
        start = self.config.rule.initial_state()
        self._state = aligned_empty((self._theta.groups[-1][1], (1 + len(start)) * LANES), dtype)
        for row, value in enumerate((0.0, *start)):
            self._state[:, row * LANES : (row + 1) * LANES] = value

        self._mean = [np.zeros(units, dtype) for units in a.hidden]
        self._var = [np.ones(units, dtype) for units in a.hidden]
        self._sums = [np.zeros((units, kernels.N_SUMS)) for units in a.hidden]
        units = sum(a.hidden)
        self._gammas = self._theta.flat_gamma(units)
        self._first_below = np.full(units, -1, np.int64)
        self._steps_below = np.zeros(units, np.int64)
        self._make_layers()
        self._epoch_x, self._epoch_y = self._x, self._y
        self._place = len(self._x)

    def _make_layers(self) -> None:
        a, theta, gradient, dtype = self._architecture, self._theta, self._gradient, self._dtype
        batch = self.config.batch
        self._outputs = [aligned_empty((units, batch), dtype) for units in a.hidden]
        self._deltas = [aligned_empty((units, batch), dtype) for units in a.hidden]
        self._logits, self._d_logits = (aligned_empty((a.n_classes, batch), dtype) for _ in range(2))
        self._layers: list[list[_Block]] = []
        self._partials: list[list[NDArray]] = []
        for i, units in enumerate(a.hidden):
            z, inverse_std = aligned_empty((units, batch), dtype), np.ones(units, dtype)
            blocks = _blocks(*a.shapes[i], dtype.itemsize)
            below = [] if i == 0 else [aligned_empty((a.hidden[i - 1], batch), dtype) for _ in blocks]
            if len(below) == 1:
                below = [self._deltas[i - 1]]
            self._partials.append(below)
            self._layers.append([
                _Block(
                    weights=theta.weights[i][s], d_weights=gradient.weights[i][s],
                    gamma=theta.gamma[i][s], beta=theta.beta[i][s],
                    d_gamma=gradient.gamma[i][s], d_beta=gradient.beta[i][s],
                    mean=self._mean[i][s], var=self._var[i][s], inverse_std=inverse_std[s],
                    z=z[s], y=self._outputs[i][s], delta=self._deltas[i][s], sums=self._sums[i][s],
                    partial=below[k] if below else None,
                )
                for k, s in enumerate(blocks)
            ])  # fmt: skip

    def _next_batch(self) -> tuple[NDArray, NDArray]:
        """Inputs (features, batch) and labels of the next step."""
        begin, end = self._place, self._place + self.config.batch
        if end > len(self._x):
            order = self._order.permutation(len(self._x))
            self._epoch_x, self._epoch_y = self._x[order], self._y[order]
            begin, end = 0, self.config.batch
        self._place = end
        return self._epoch_x[begin:end].T, self._epoch_y[begin:end]

    def _forward(self, below: NDArray, block: _Block) -> None:
        np.matmul(block.weights, below, out=block.z)
        if self._architecture.normalized:
            kernels.forward_normalized(
                block.z, block.gamma, block.beta, self._alpha, self._eps, self._code, self._slope,
                self._size, block.mean, block.var, self._momentum, block.inverse_std, block.y,
            )  # fmt: skip
        else:
            kernels.forward_plain(block.z, block.beta, self._alpha, self._code, self._slope, block.y)

    def _backward(self, below: NDArray, block: _Block) -> None:
        kernels.backward(
            block.delta, block.z, block.y, block.gamma, block.inverse_std,
            self._architecture.normalized, self._code, self._slope, self._size,
            block.d_gamma, block.d_beta, block.sums,
        )  # fmt: skip
        np.matmul(block.delta, below.T, out=block.d_weights)
        if block.partial is not None:
            np.matmul(block.weights.T, block.delta, out=block.partial)

    def compute_gradients(self, x: NDArray, labels: NDArray) -> float:
        """Loss of a batch, its gradients left in the buffer; x of shape (features, batch)."""
        below = [x, *self._outputs]
        for layer, y in zip(self._layers, below):
            self._pool.each(partial(self._forward, y), layer)
        weights, d_weights = self._theta.weights[-1], self._gradient.weights[-1]
        np.matmul(weights, below[-1], out=self._logits)
        loss = kernels.softmax_cross_entropy(
            self._logits, self._theta.bias, labels, self._size, self._d_logits, self._gradient.bias
        )
        np.matmul(self._d_logits, below[-1].T, out=d_weights)
        np.matmul(weights.T, self._d_logits, out=self._deltas[-1])
        for i in range(len(self._layers) - 1, -1, -1):
            self._pool.each(partial(self._backward, below[i]), self._layers[i])
            if len(self._partials[i]) > 1:
                np.add(self._partials[i][0], self._partials[i][1], out=self._deltas[i - 1])
                for share in self._partials[i][2:]:
                    self._deltas[i - 1] += share
        return float(loss)

    def _update(self, constants: Sequence[NDArray], decay: Sequence[NDArray]) -> None:
        def run(part: tuple[int, int, NDArray, NDArray]) -> None:
            first, last, row, where = part
            kernels.update(
                self.config.rule, self._theta.buffer, self._gradient.buffer, self._state,
                first, last, row, where,
            )  # fmt: skip

        parts = []
        for k, (first, last) in enumerate(self._theta.groups):
            if k == 1 and not self._architecture.normalized:
                continue
            size = (last - first) * LANES * self._dtype.itemsize
            count = max(1, min(size // BLOCK_BYTES, self._pool.threads))
            parts += [(a, b, constants[k], decay[k]) for a, b in cut(first, last, count)]
        self._pool.each(run, parts)

    def _watch(self, t: int) -> None:
        if self._architecture.normalized:
            kernels.watch(self._gammas, self._threshold, t, self._first_below, self._steps_below)

    def train(self, index: int, progress: Progress, stop: Callable[[], bool]) -> TrainResult:
        """Take all steps."""
        config = self.config
        begin = time.perf_counter()
        factors = (1.0, config.gamma_lr, config.beta_lr)
        times = np.asarray(config.times).tolist()
        records = [self._record(np.nan, 0)] if times[0] == 0 else []
        self._watch(0)
        failed, total, since = "", 0.0, 0
        for t in range(1, config.steps + 1):
            row = (t - 1) % TABLE
            if row == 0:
                steps = np.arange(t, min(t + TABLE, config.steps + 1))
                tables = [config.constants(steps, factor) for factor in factors]
                decays = [config.table(config.decay(steps, factor), len(steps)) for factor in factors]
            loss = self.compute_gradients(*self._next_batch())
            if not np.isfinite(loss):
                failed = f"the loss is no longer finite at step {t}"
                break
            self._update([c[row : row + 1] for c in tables], [d[row] for d in decays])
            self._watch(t)
            total, since = total + loss, since + 1
            if len(records) < len(times) and t == times[len(records)]:
                records.append(self._record(total / since, since))
                total, since = 0.0, 0
                progress(Snapshot(index, t, records[-1].loss, records[-1].error, self.sparsity))
            if stop():
                break
        network = self.network
        if not failed and not stop() and not self._is_finite(network):
            failed = f"the network is no longer finite at step {t}"
        return TrainResult.collect(
            config=config,
            network=network,
            records=records,
            first_below=self._first_below,
            steps_below=self._steps_below,
            failed=failed,
            seconds=time.perf_counter() - begin,
        )

    def _is_finite(self, network: Network) -> bool:
        """Whether all of it is, and what it computes: the loss sees no averages and no last step."""
        parts: list[Sequence[NDArray]] = [
            network.weights, network.gamma, network.beta, network.running_mean, network.running_var,
        ]  # fmt: skip
        parts += ([*network.layers(x), network.logits(x)] for x in (self._x, self._x_test))
        return all(np.isfinite(array).all() for arrays in parts for array in arrays)

    @property
    def network(self) -> Network:
        """A copy of the network as it is."""
        theta = self._theta
        return Network(
            self._architecture,
            tuple(w.copy() for w in theta.weights),
            tuple(g.copy() for g in theta.gamma),
            tuple(b.copy() for b in theta.beta),
            theta.bias.copy(),
            tuple(m.copy() for m in self._mean),
            tuple(v.copy() for v in self._var),
        )

    @property
    def gradients(self) -> Gradients:
        """A copy of the gradients that `compute_gradients` left."""
        g = self._gradient
        return Gradients(
            tuple(w.copy() for w in g.weights),
            tuple(x.copy() for x in g.gamma),
            tuple(b.copy() for b in g.beta),
            g.bias.copy(),
        )

    @property
    def sparsity(self) -> float:
        """Share of the hidden units that count as dead; see `Network.inactive`."""
        if self._architecture.normalized:
            return float(np.mean(np.abs(self._gammas) < self.config.threshold))
        norms = np.concatenate([np.linalg.norm(w, axis=1) for w in self._theta.weights[:-1]])
        return float(np.mean(norms < NORM_THRESHOLD))

    def _record(self, loss: float, steps: int) -> Record:
        """What is kept of this step and of the window of `steps` steps before it, which it ends."""
        record = Record(
            loss=loss,
            error=self.network.error(self._x_test, self._y_test),
            gamma=self._gammas.copy(),
            beta=np.concatenate(self._theta.beta),
            norm=np.concatenate([np.linalg.norm(w, axis=1) for w in self._theta.weights[:-1]]),
            sums=np.concatenate(self._sums),
            steps=steps,
        )
        for sums in self._sums:
            sums[:] = 0
        return record

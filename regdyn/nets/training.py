"""Training of networks: the configuration, one run, and batches of runs side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from regdyn.dynamics._jit import on_compile
from regdyn.dynamics.engine import aligned_empty, check_memory, thread_count
from regdyn.dynamics.optimization import DTYPES, TINY, OptimizationConfig
from regdyn.dynamics.random import LANES
from regdyn.errors import InvalidParameter
from regdyn.nets import _mlp_kernel as kernels
from regdyn.nets.data import Dataset, make_dataset
from regdyn.nets.mlp import EPS, INITS, MOMENTUM, Architecture, Gradients, Network
from regdyn.nets.result import Record, TrainResult
from regdyn.nets.sparsity import NORM_THRESHOLD
from regdyn.parameters import check_choice, check_integer, check_number, real_array

MAX_STEPS = 10**9
N_TIMES = 50
"""Recorded times of a run, besides step 0, unless told."""

FLUSH_EVERY = 16
"""Steps between two searches for denormals."""

TABLE = 4096
"""Steps for which constants are computed at once."""

BLOCK_BYTES = 2**18
"""Weights of a layer beyond which it is computed in blocks of units, which threads can share.

Blocks do not depend on the number of threads, because the order of sums depends on them. Smaller ones
would cost more in handing them over than a second thread gains.
"""

MAX_BLOCKS = 4


@dataclass(frozen=True, kw_only=True)
class TrainConfig(OptimizationConfig):
    """One training run of a fully connected network.

    Decay acts on every parameter: weights, gamma, beta and biases, as one weight_decay does in torch.
    Every epoch runs through the training set in a new random order; what is left over at its end and
    does not fill a batch is left out.

    Parameters
    ----------
    data
        A `Dataset`, or what `regdyn.nets.data.make_dataset` takes.
    hidden, activation, slope, norm, alpha
        See `Architecture`.
    gamma0, beta0
        Start of every gamma and beta.
    gamma_lr, beta_lr
        Factors on the learning rate of gamma and beta.
    init
        Start of the weights: "xavier" or "he", with the gain of the activation.
    batch
        Samples of a step, at least 2 with batch normalisation.
    threshold
        A unit with |gamma| below it counts as dead (mehta2019, section 2.1).
    times
        Steps at which losses, errors and parameters are recorded; 50 evenly spaced ones where None.
    seed
        Of the initial weights and of the order of the samples.
    others
        See `OptimizationConfig`.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.
    """

    lam: float = 1e-3
    steps: int = 6000
    dtype: str = "float32"
    data: Dataset | str = "digits"
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    slope: float = 0.01
    norm: str = "batch"
    alpha: float = 0.0
    gamma0: float = 1.0
    beta0: float = 0.0
    gamma_lr: float = 1.0
    beta_lr: float = 1.0
    init: str = "xavier"
    batch: int = 40
    times: ArrayLike | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("steps", self.steps, 1, MAX_STEPS)
        if isinstance(self.data, str):
            self._store("data", make_dataset(self.data))
        elif not isinstance(self.data, Dataset):
            raise InvalidParameter("data", "a Dataset or its name", self.data)
        architecture = self.architecture
        for name in ("hidden", "activation", "slope", "norm", "alpha"):
            self._store(name, getattr(architecture, name))
        for name in ("gamma0", "beta0"):
            self._store(name, check_number(name, getattr(self, name), "(-inf, inf)"))
        for name in ("gamma_lr", "beta_lr"):
            self._store(name, check_number(name, getattr(self, name), "[0, inf)"))
        self._store("init", check_choice("init", self.init, INITS))
        least = 2 if architecture.normalized else 1
        self._store("batch", check_integer("batch", self.batch, least, len(self.dataset.y_train)))
        self._store("times", self._checked_times())

    def _checked_times(self) -> NDArray[np.int64]:
        if self.times is None:
            return np.unique(np.linspace(0, self.steps, N_TIMES + 1).round().astype(np.int64))
        wanted = f"increasing integers in [0, {self.steps}]"
        times = np.atleast_1d(real_array("times", self.times, wanted))
        if times.ndim != 1 or times.dtype.kind not in "iu" or not len(times):
            raise InvalidParameter("times", wanted)
        if np.any(np.diff(times) <= 0) or times[0] < 0 or times[-1] > self.steps:
            raise InvalidParameter("times", wanted)
        return times.astype(np.int64)

    @property
    def dataset(self) -> Dataset:
        """The data, which are no longer a name once the configuration is checked."""
        assert isinstance(self.data, Dataset)
        return self.data

    @property
    def architecture(self) -> Architecture:
        """The network that is trained."""
        return Architecture(
            n_inputs=self.dataset.x_train.shape[1],
            n_classes=self.dataset.n_classes,
            hidden=self.hidden,
            activation=self.activation,
            slope=self.slope,
            norm=self.norm,
            alpha=self.alpha,
        )


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
    return [slice(a, b) for a, b in _parts(0, units, count)]


def _parts(begin: int, end: int, count: int) -> list[tuple[int, int]]:
    """A range cut into `count` parts of about one size."""
    return list(pairwise(begin + (end - begin) * k // count for k in range(count + 1)))


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


class _Run:
    """The state of one run and its training step."""

    def __init__(self, config: TrainConfig, data: tuple[NDArray, ...], pool: _Pool) -> None:
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
        self._tiny, self._threshold = number(TINY[config.dtype]), number(config.threshold)
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

    def _update(self, constants: Sequence[NDArray], decay: Sequence[NDArray], flushing: bool) -> None:
        def run(part: tuple[int, int, NDArray, NDArray]) -> None:
            first, last, row, where = part
            kernels.update(
                self.config.rule, self._theta.buffer, self._gradient.buffer, self._state,
                first, last, row, where, self._tiny, flushing,
            )  # fmt: skip

        parts = []
        for k, (first, last) in enumerate(self._theta.groups):
            if k == 1 and not self._architecture.normalized:
                continue
            size = (last - first) * LANES * self._dtype.itemsize
            count = max(1, min(size // BLOCK_BYTES, self._pool.threads))
            parts += [(a, b, constants[k], decay[k]) for a, b in _parts(first, last, count)]
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
        records = [self._record(np.nan, 1)] if times[0] == 0 else []
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
            flushing = t % FLUSH_EVERY == 0
            self._update([c[row : row + 1] for c in tables], [d[row] for d in decays], flushing)
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


class _Pool:
    """Threads that help one run, waiting for work between two calls of `each`.

    Lighter than an executor: work of a tenth of a millisecond is worth handing over.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._work: SimpleQueue[tuple[Callable[[Any], None], Sequence[Any]] | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._helpers = [Thread(target=self._help, daemon=True) for _ in range(threads - 1)]
        for helper in self._helpers:
            helper.start()

    def _help(self) -> None:
        # Floating-point warnings are a thread's own setting.
        with np.errstate(all="ignore"):
            while (task := self._work.get()) is not None:
                work, items = task
                try:
                    for item in items:
                        work(item)
                    self._done.put(None)
                except BaseException as error:
                    self._done.put(error)

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Do the work for every item."""
        shares = _parts(0, len(items), min(self.threads, len(items)))
        for begin, end in shares[1:]:
            self._work.put((work, items[begin:end]))
        failures: list[BaseException | None] = []
        try:
            for item in items[: shares[0][1]]:
                work(item)
        finally:
            failures = [self._done.get() for _ in shares[1:]]
        for failure in failures:
            if failure is not None:
                raise failure

    def close(self) -> None:
        for _ in self._helpers:
            self._work.put(None)
        for helper in self._helpers:
            helper.join()


def nothing(snapshot: Snapshot) -> None:
    """What is called at recorded times unless the caller asks for more."""


def train(
    configs: Sequence[TrainConfig],
    *,
    threads: int | None = None,
    progress: Progress = nothing,
    notify_compile: Callable[[], None] = lambda: None,
) -> list[TrainResult]:
    """Train one network for each configuration, side by side on the threads.

    Results do not depend on the number of threads or on the other runs. A run whose loss is no longer
    finite ends there; its result says so in `failed`, and the others go on. Interrupted (Ctrl-C), all
    runs end after the step that they are taking.

    Parameters
    ----------
    configs
        The runs.
    threads
        All processors that this process may use where None.
    progress
        Called at every recorded time of every run, by one thread at a time.
    notify_compile
        Called once if a kernel must be compiled.

    Raises
    ------
    InvalidParameter
        For networks that do not fit into memory.
    """
    count = thread_count(threads)
    outer = max(1, min(count, len(configs)))
    inner = count // outer
    _check_memory(configs, outer)
    lock, stopped = Lock(), Event()
    cast = _Casts()

    def report(snapshot: Snapshot) -> None:
        with lock:
            progress(snapshot)

    def run(index: int) -> TrainResult:
        config = configs[index]
        pool = _Pool(inner)
        try:
            with np.errstate(all="ignore"):
                return _Run(config, cast(config), pool).train(index, report, stopped.is_set)
        finally:
            pool.close()

    # One thread each for the matrix products: small ones gain nothing from more, runs side by side
    # would fight for them, and the order of their sums would depend on the number of threads.
    with threadpool_limits(1, user_api="blas"):
        with on_compile(notify_compile), ThreadPoolExecutor(outer) as executor:
            futures = [executor.submit(run, index) for index in range(len(configs))]
            try:
                # Not one after the other: what fails first ends the others at once.
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
                return [future.result() for future in futures]
            except BaseException:
                stopped.set()
                for future in futures:
                    future.cancel()
                raise


def _check_memory(configs: Sequence[TrainConfig], side_by_side: int) -> None:
    """Raise InvalidParameter unless the runs fit, so many of them at a time."""
    working, kept = [], 0
    for config in configs:
        a, size = config.architecture, DTYPES[config.dtype].itemsize
        parameters = sum(units * inputs for units, inputs in a.shapes)
        # The network, its gradient, the optimizer's state and a copy; initial weights in float64.
        copies = 4 + len(config.rule.initial_state())
        # Activations of every layer over the training set at the end, and temporary ones.
        activations = len(config.dataset.y_train) * (sum(a.hidden) + 3 * max(a.hidden))
        working.append(parameters * max(copies * size, 3 * size + 8) + activations * size)
        records = len(np.asarray(config.times)) * sum(a.hidden) * (3 * size + 8 * kernels.N_SUMS)
        kept += parameters * size + records
    needed = sum(sorted(working)[-side_by_side:]) + kept
    check_memory(needed, "training", "hidden", "narrow")


class _Casts:
    """The data in the type of each run, cast once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._cast: dict[tuple[int, str], tuple[NDArray, ...]] = {}

    def __call__(self, config: TrainConfig) -> tuple[NDArray, ...]:
        data, dtype = config.dataset, DTYPES[config.dtype]
        with self._lock:
            key = (id(data), config.dtype)
            if key not in self._cast:
                x_train, x_test = (x.astype(dtype) for x in (data.x_train, data.x_test))
                self._cast[key] = (x_train, data.y_train, x_test, data.y_test)
            return self._cast[key]

"""Training of networks: the configuration, one run, and batches of runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from regdyn.dynamics._jit import on_compile
from regdyn.dynamics.engine import check_memory, thread_count
from regdyn.dynamics.optimization import DTYPES
from regdyn.errors import InvalidParameter
from regdyn.nets._mlp_kernel import N_SUMS
from regdyn.nets._run import Run, team_size
from regdyn.nets._team import Team, thread_arithmetic
from regdyn.nets.config import NetworkConfig, Progress, Snapshot, nothing
from regdyn.nets.data import Dataset, make_dataset
from regdyn.nets.mlp import Architecture
from regdyn.nets.pruning.budget import dense_multiplications
from regdyn.nets.pruning.schedule import HiddenLayer
from regdyn.nets.result import TrainResult


@dataclass(frozen=True, kw_only=True)
class TrainConfig(NetworkConfig):
    """One training run of a fully connected network.

    Decay acts on every parameter: weights, gamma, beta and biases, as one weight_decay does in torch.
    Every epoch runs through the training set in a new random order; what is left over at its end and
    does not fill a batch is left out.

    Parameters
    ----------
    data
        A `Dataset`, or what `regdyn.nets.data.make_dataset` takes.
    hidden, norm
        See `Architecture`.
    threshold
        A unit with |gamma| below it counts as dead (mehta2019, section 2.1).
    seed
        Of the initial weights and of the order of the samples.
    others
        See `NetworkConfig` and `OptimizationConfig`.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.
    """

    data: Dataset | str = "digits"
    hidden: tuple[int, ...] = (256, 256)
    norm: str = "batch"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.data, str):
            self._store("data", make_dataset(self.data))
        elif not isinstance(self.data, Dataset):
            raise InvalidParameter("data", "a Dataset or its name", self.data)
        architecture = self.architecture
        for name in ("hidden", "activation", "slope", "norm", "alpha"):
            self._store(name, getattr(architecture, name))
        self._check_scales()
        self._check_batch(len(self.dataset.y_train))
        self._check_pruning()

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

    @property
    def normalized(self) -> bool:
        return self.architecture.normalized

    @property
    def hidden_layers(self) -> tuple[HiddenLayer, ...]:
        return tuple(
            HiddenLayer(name=f"layer {i}", units=units, inputs=inputs)
            for i, (units, inputs) in enumerate(self.architecture.shapes[:-1], start=1)
        )

    def multiplications(self, removed: Sequence[int]) -> int:
        a = self.architecture
        return dense_multiplications((a.n_inputs, *a.hidden, a.n_classes), removed)

    @property
    def task(self) -> str:
        return str(self.dataset)

    @property
    def data_name(self) -> str:
        return self.dataset.name

    @property
    def network(self) -> str:
        first, depth = self.hidden[0], len(self.hidden)
        alike = len(set(self.hidden)) == 1 < depth
        return f"{depth} x {first} units" if alike else f"{'-'.join(map(str, self.hidden))} units"


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
        For anything but configurations, and for networks that do not fit into memory.
    """
    if not isinstance(configs, Sequence) or not all(isinstance(c, TrainConfig) for c in configs):
        raise InvalidParameter("configs", "a sequence of TrainConfig")
    count = thread_count(threads)
    outer = max(1, min(count, len(configs)))
    inner = count // outer
    _check_memory(configs, outer)
    lock, stop = Lock(), np.zeros(1, np.int64)
    cast = _Casts()

    def report(snapshot: Snapshot) -> None:
        with lock:
            progress(snapshot)

    def run(index: int) -> TrainResult:
        config = configs[index]
        team = Team(team_size(config, inner))
        try:
            with thread_arithmetic():
                return Run(config, cast(config), team).train(index, report, stop)
        finally:
            team.close()

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
                stop[0] = 1
                for future in futures:
                    future.cancel()
                raise


def _check_memory(configs: Sequence[TrainConfig], side_by_side: int) -> None:
    """Raise InvalidParameter unless the runs fit, so many of them at a time."""
    working, kept = [], 0
    for config in configs:
        a, size = config.architecture, DTYPES[config.dtype].itemsize
        parameters = sum(units * inputs for units, inputs in a.shapes)
        # The network and a copy, the state of the optimizer; initial weights in float64.
        copies = 2 + len(config.rule.initial_state())
        # The training set once more and in the order of an epoch, activations of every layer over it at
        # the end, and temporary ones.
        numbers = 2 * a.n_inputs + sum(a.hidden) + 3 * max(a.hidden)
        activations = len(config.dataset.y_train) * numbers
        working.append(parameters * max(copies * size, 3 * size + 8) + activations * size)
        if config.pruning is not None:  # masks, and of single weights their importance and ranking
            working[-1] += parameters * (64 if config.pruning.what == "weights" else 4)
        records = len(np.asarray(config.times)) * sum(a.hidden) * (3 * size + 8 * N_SUMS)
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

"""One BN+ReLU unit under noisy gradients: the configuration and its simulation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from regdyn.dynamics._neuron_kernel import N_COLLECTED, N_OBSERVABLES, advance
from regdyn.dynamics.engine import BATCH, Batch, Call, Progress, aligned_empty
from regdyn.dynamics.ensemble import (
    EnsembleConfig,
    EnsembleSystem,
    nothing,
    run_system,
)
from regdyn.dynamics.neuron_result import NeuronResult
from regdyn.dynamics.noise import StdTable
from regdyn.dynamics.random import CHUNK, LANES, WORDS
from regdyn.dynamics.tables import Tables
from regdyn.errors import InvalidParameter
from regdyn.optimizers import Optimizer
from regdyn.parameters import check_integer, check_number

MAX_SAMPLES = 10**6


class GradientStds(StdTable):
    """Std of dL/dy at each step; the last one holds on."""

    parameter = "c"


@dataclass(frozen=True, kw_only=True)
class NeuronConfig(EnsembleConfig):
    r"""One unit y = ReLU(gamma xhat + beta + alpha) behind batch normalisation.

    At step t = 1 … `steps`, with xhat_b ~ N(0, 1) and dL/dy = c_t z_b, z_b ~ N(0, 1), all independent,

        H_b = [gamma xhat_b + beta + alpha > 0]
        g_gamma = (c_t / B) sum_b z_b xhat_b H_b + l2 gamma
        g_beta  = (c_t / B) sum_b z_b H_b        + l2 beta

    and each of gamma and beta takes a step of the rule on its own, with its own state. For B = 1 and
    SGD without momentum this is Eq. (1) of zhou2020; alpha is the shift of its psBN (Eq. 6).

    A unit is dead while its activation probability Phi((beta + alpha) / |gamma|) is below `threshold`.

    Parameters
    ----------
    gamma0, beta0
        Start of scale and bias: a number, or an array with one for each trajectory.
    c
        Std of dL/dy for one sample: a number, or an array with one per step (the last one holds on).
    batch
        Samples B a step, over which the gradient is averaged.
    alpha
        Shift after the normalisation, 0 for plain BN.
    antithetic
        Give trajectory i + 128 of every 256 the inputs of trajectory i and the opposite gradients: the
        mean over such a pair has no noise of first order.
    threshold
        Activation probability in (0, 1) below which a unit counts as dead.
    others
        See `EnsembleConfig`; decay acts on gamma and beta alike.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.
    """

    n_parameters: ClassVar[int] = 2
    n_observables: ClassVar[int] = N_OBSERVABLES

    optimizer: Optimizer | str = "sgd"
    lam: float = 0.0
    gamma0: ArrayLike = 1.0
    beta0: ArrayLike = 0.0
    c: ArrayLike = 1.0
    batch: int = 1
    alpha: float = 0.0
    antithetic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._store("threshold", check_number("threshold", self.threshold, "(0, 1)"))
        for name in ("gamma0", "beta0"):
            self._store(name, self._checked_start(name, getattr(self, name)))
        self._store("c", self.c if isinstance(self.c, GradientStds) else GradientStds(self.c))
        self._store("batch", check_integer("batch", self.batch, 1, MAX_SAMPLES))
        self._store("alpha", check_number("alpha", self.alpha, "[0, inf)"))
        if not isinstance(self.antithetic, bool):
            raise InvalidParameter("antithetic", "True or False", self.antithetic)
        if self.antithetic and self.trajectories % LANES:
            raise InvalidParameter(
                "trajectories", f"a multiple of {LANES} with antithetic pairs", self.trajectories
            )

    def run(
        self,
        *,
        threads: int | None = None,
        batch_size: int = BATCH,
        progress: Progress | None = None,
        notify_compile: Callable[[], None] = nothing,
    ) -> NeuronResult:
        """Simulate the ensemble; see `ScalarConfig.run`."""
        self.check_room()
        system = self.system([self])
        run = run_system(system, self, threads, batch_size, progress, notify_compile)
        return NeuronResult.collect(self, run, **system.leavings())

    def system(self, configs: Sequence[NeuronConfig], width: int = LANES) -> NeuronSystem:
        return NeuronSystem(configs, width)

    @property
    def kernel_key(self) -> Hashable:
        return super().kernel_key, self.batch, self.antithetic


def simulate_neuron(optimizer: Optimizer | str = "sgd", *, threads: int | None = None,
                    progress: Progress | None = None, **config: Any) -> NeuronResult:  # fmt: skip
    """Simulate one BN+ReLU unit: `NeuronConfig(optimizer=…, **config).run(…)`.

    >>> import regdyn
    >>> rule = regdyn.SGD(lr=0.1, momentum=0.0)
    >>> result = regdyn.simulate_neuron(rule, steps=100, trajectories=256)
    >>> bool(result.activation_mean[-1] < result.activation_mean[0])
    True
    """
    return NeuronConfig(optimizer=optimizer, **config).run(threads=threads, progress=progress)


class NeuronSystem(EnsembleSystem):
    """Units as the driver wants them; see `EnsembleSystem`."""

    def __init__(self, configs: Sequence[NeuronConfig], width: int = LANES) -> None:
        super().__init__(configs, width)
        lanes = slice(0, self._first.shape[1])
        for first, config in zip(self._first, configs):
            starts = self.start_values(config, lanes)
            gamma, beta = (np.broadcast_to(x, first.shape) for x in starts)
            shift, size = beta + config.alpha, np.abs(gamma)
            first[(shift < _ratio(config) * size) | ((size == 0) & (shift <= 0))] = 0
        self._steps_wild = np.zeros_like(self._first)
        keep = configs[0].keep
        if keep:
            self._kept[0, :, 0], self._kept[0, :, 1] = gamma[:keep], beta[:keep]

    def own_numbers(self, config: NeuronConfig) -> tuple[float, ...]:
        return config.alpha, _ratio(config)

    def start_values(self, config: NeuronConfig, lanes: slice) -> tuple[Any, ...]:
        return self.of_lanes(config.gamma0, lanes), self.of_lanes(config.beta0, lanes)

    def noise_stds(self, config: NeuronConfig) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
        assert isinstance(config.c, GradientStds)
        return GradientStds(config.c.values / config.batch)

    def advance(
        self, batch: Batch, call: Call, tables: Tables, blocks: slice, snapshots: NDArray
    ) -> None:
        config, number, lanes = self._configs[0], self.dtype.type, batch.lanes
        z = aligned_empty((CHUNK * LANES,), self.dtype)
        collected = aligned_empty((self.n_points, N_COLLECTED, self.width), self.dtype)
        words = aligned_empty((WORDS,), np.uint64)
        codes = aligned_empty((self.width,), np.int64)
        advance(
            self.rule, batch.rows, batch.streams, words, z, collected, codes, blocks.start,
            blocks.stop, call.t0, call.length, tables.constants, tables.scales, tables.decays,
            tables.which, self._own, config.batch, config.antithetic, batch.first,
            number(self.tiny), number(self.overflow), self._units,
            self._first[:, lanes], self._count[:, lanes], self._diverged[:, lanes],
            self._steps_wild[:, lanes], self._flushed[:, batch.blocks], call.records, snapshots,
            self.paths(call),
        )  # fmt: skip

    def leavings(self) -> dict[str, Any]:
        """What the trajectories of the only point left behind, as `NeuronResult` names it."""
        real = 0, slice(self._configs[0].trajectories)
        return {
            "gamma": self._final[0][real],
            "beta": self._final[1][real],
            "first_death": self._first[real],
            "steps_dead": self._count[real],
            "diverged": self._diverged[real],
            "flushed": int(self.first_flush[0]),
            "paths": self._kept,
        }


def _ratio(config: NeuronConfig) -> float:
    """(beta + alpha) / |gamma| below which a unit is dead."""
    return float(ndtri(config.threshold))

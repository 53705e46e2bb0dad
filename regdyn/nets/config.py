"""What every training run is configured with, whatever trains it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.dynamics.optimization import OptimizationConfig
from regdyn.errors import InvalidParameter
from regdyn.nets.mlp import INITS, slope_below
from regdyn.nets.penalties import Penalty, Slimming, make_penalty
from regdyn.nets.pruning.config import Pruning, make_pruning
from regdyn.nets.pruning.importance import make_importance
from regdyn.nets.pruning.pruner import Pruner
from regdyn.nets.pruning.schedule import HiddenLayer
from regdyn.parameters import check_choice, check_integer, check_number, real_array

MAX_STEPS = 10**9


@dataclass(frozen=True)
class Snapshot:
    """Where a run stands."""

    run: int
    step: int
    loss: float
    test_error: float
    sparsity: float


Progress = Callable[[Snapshot], None]


def nothing(snapshot: Snapshot) -> None:
    """What is called at recorded times unless the caller asks for more."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(OptimizationConfig, ABC):
    """The optimization of a network, its units and its batches.

    Parameters
    ----------
    activation, slope, norm, alpha
        Of the hidden units; see `regdyn.nets.mlp.Architecture`.
    gamma0, beta0
        Start of every gamma and beta.
    gamma_lr, beta_lr
        Factors on the learning rate of gamma and beta.
    init
        Start of the weights: "xavier" or "he", with the gain of the activation.
    penalty
        Added to the loss: a `Penalty`, "slimming:STRENGTH", "group-lasso:STRENGTH" or None; see
        `regdyn.nets.penalties`.
    batch
        Samples of a step, at least 2 with normalisation.
    times
        Steps at which the run is recorded; evenly spaced ones where None, step 0 among them.
    prune
        What goes during training: a `Pruning`, or what `make_pruning` takes; None for nothing.
    others
        See `OptimizationConfig`.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.
    """

    n_times: ClassVar[int] = 50
    """Recorded times of a run, besides step 0, unless told."""

    lam: float = 1e-3
    steps: int = 6000
    dtype: str = "float32"
    activation: str = "relu"
    slope: float = 0.01
    norm: str | None = None
    alpha: float = 0.0
    gamma0: float = 1.0
    beta0: float = 0.0
    gamma_lr: float = 1.0
    beta_lr: float = 1.0
    init: str = "xavier"
    penalty: str | Penalty | None = None
    batch: int = 40
    times: ArrayLike | None = None
    prune: Pruning | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("steps", self.steps, 1, MAX_STEPS)
        for name in ("gamma0", "beta0"):
            self._store(name, check_number(name, getattr(self, name), "(-inf, inf)"))
        for name in ("gamma_lr", "beta_lr"):
            self._store(name, check_number(name, getattr(self, name), "[0, inf)"))
        self._store("init", check_choice("init", self.init, INITS))
        self._store("penalty", make_penalty(self.penalty))
        self._store("times", self._checked_times())
        self._store("prune", make_pruning(self.prune))

    def _checked_times(self) -> NDArray[np.int64]:
        if self.times is None:
            return np.unique(np.linspace(0, self.steps, self.n_times + 1).round().astype(np.int64))
        wanted = f"increasing integers in [0, {self.steps}]"
        times = np.atleast_1d(real_array("times", self.times, wanted))
        if times.ndim != 1 or times.dtype.kind not in "iu" or not len(times):
            raise InvalidParameter("times", wanted)
        if np.any(np.diff(times) <= 0) or times[0] < 0 or times[-1] > self.steps:
            raise InvalidParameter("times", wanted)
        return times.astype(np.int64)

    @property
    def penalty_term(self) -> Penalty | None:
        """The penalty, which is no longer a text once the configuration is checked."""
        assert not isinstance(self.penalty, str)
        return self.penalty

    @property
    @abstractmethod
    def normalized(self) -> bool:
        """Whether the hidden units are normalised, and have with it scales gamma."""

    @property
    @abstractmethod
    def task(self) -> str:
        """The data, with their numbers of examples and classes."""

    @property
    @abstractmethod
    def data_name(self) -> str:
        """What the user calls the data."""

    @property
    @abstractmethod
    def network(self) -> str:
        """The network in a few words, without its activation and normalisation."""

    @property
    @abstractmethod
    def hidden_layers(self) -> tuple[HiddenLayer, ...]:
        """The layers that can be pruned."""

    @abstractmethod
    def multiplications(self, removed: Sequence[int]) -> int:
        """Of a forward pass, with so many units of each of the hidden layers removed."""

    @property
    def pruning(self) -> Pruning | None:
        """What goes, which is no longer a text once the configuration is checked."""
        assert not isinstance(self.prune, str)
        return self.prune

    def make_pruner(self) -> Pruner | None:
        """What prunes a run; None where nothing goes."""
        if self.pruning is None:
            return None
        importance = make_importance(
            self.pruning, normalized=self.normalized, alpha=self.alpha, slope=self.slope_below
        )
        return Pruner(
            self.pruning,
            self.hidden_layers,
            steps=self.steps,
            seed=self.seed,
            importance=importance,
            multiplications=self.multiplications,
        )

    def _check_pruning(self) -> None:
        """Whether it suits the network: a unit is gone if all of it is 0 and its activation then is."""
        self.make_pruner()
        silent = self.alpha == 0 and self.activation != "sigmoid"
        if self.pruning is not None and self.pruning.removes_units and not silent:
            why = f"psBN alpha {self.alpha:g}" if self.alpha else self.activation
            wanted = f"used with noise or what=weights: a unit of zeros is not silent ({why})"
            raise InvalidParameter("prune", wanted, self.pruning)

    @property
    def particulars(self) -> tuple[str, ...]:
        """What else one backend does that is not the usual, in words."""
        return ()

    @property
    def slope_below(self) -> float | None:
        """Slope of the activation below 0; None where it is not linear there."""
        return slope_below(self.activation, self.slope)

    def _check_scales(self) -> None:
        """Without normalisation there is no gamma to be set or penalised."""
        for name in () if self.normalized else ("gamma0", "gamma_lr"):
            if getattr(self, name) != 1:
                raise InvalidParameter(name, "1 without normalisation", getattr(self, name))
        if isinstance(self.penalty, Slimming) and not self.normalized:
            wanted = "none or group-lasso:STRENGTH without normalisation, where there is no gamma"
            raise InvalidParameter("penalty", wanted, self.penalty)

    def _check_batch(self, examples: int) -> None:
        least = 2 if self.normalized else 1
        try:
            self._store("batch", check_integer("batch", self.batch, least, examples))
        except InvalidParameter as error:
            why = " with normalisation" if self.normalized else ""
            raise InvalidParameter("batch", error.requirement + why, self.batch) from None

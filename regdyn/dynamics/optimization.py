"""How parameters are optimised: what simulations and networks have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics.per_step import non_negative
from regdyn.dynamics.schedules import Constant, Schedule
from regdyn.errors import InvalidParameter
from regdyn.optimizers import REGULARIZATIONS, Optimizer, decay_placement, make_optimizer
from regdyn.parameters import check_choice, check_integer, check_number

MAX_COUNT = 10**12

DTYPES: dict[str, np.dtype[Any]] = {"float64": np.dtype(np.float64), "float32": np.dtype(np.float32)}

# A greater parameter has diverged: its square, which enters v and the std, leaves the type.
OVERFLOW = {"float64": 1e150, "float32": 1e18}

# Numbers below this are set to 0 every few steps: arithmetic on denormals is 12 times slower.
TINY = {"float64": 2.0**-1000, "float32": 2.0**-120}


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """The optimizer, its decay and its schedule.

    Parameters
    ----------
    optimizer
        The update rule with its hyperparameters, or a name for its defaults.
    lam
        Strength of the decay, lambda >= 0.
    regularization
        Placement of the decay: a key of `regdyn.optimizers.REGULARIZATIONS`.
    schedule
        Factor on the learning rate at each step.
    steps
        Number of steps.
    threshold
        Below it something counts as dead.
    dtype
        "float64" or "float32".
    seed
        Key of the random streams.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.
    """

    optimizer: Optimizer | str = "adam"
    lam: float = 1e-4
    regularization: str = "l2"
    schedule: Schedule = field(default_factory=Constant)
    steps: int = 10_000
    threshold: float = 1e-3
    dtype: str = "float64"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.optimizer, str):
            self._store("optimizer", make_optimizer(self.optimizer))
        elif not isinstance(self.optimizer, Optimizer):
            raise InvalidParameter("optimizer", "a name or an Optimizer", self.optimizer)
        self._store("lam", check_number("lam", self.lam, "[0, inf)"))
        regularization = check_choice("regularization", self.regularization, REGULARIZATIONS)
        self._store("regularization", regularization)
        self._store("steps", check_integer("steps", self.steps, 1, MAX_COUNT))
        self._store("threshold", check_number("threshold", self.threshold, "(0, inf)"))
        self._store("dtype", check_choice("dtype", self.dtype, DTYPES))
        self._store("seed", check_integer("seed", self.seed, 0, 2**64 - 1))
        if not callable(self.schedule):
            raise InvalidParameter("schedule", "a schedule of regdyn or a function", self.schedule)

    def _store(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def rule(self) -> Optimizer:
        """The optimizer, which is no longer a name once the configuration is checked."""
        assert isinstance(self.optimizer, Optimizer)
        return self.optimizer

    def learning_rates(self, t: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Learning rate and factor of each step."""
        wanted = "a function from an array of steps to as many finite factors >= 0"
        scale = non_negative("schedule", self.schedule(t), wanted)
        if scale.shape != t.shape:
            raise InvalidParameter("schedule", wanted)
        return self.rule.lr * scale, scale

    def constants(self, t: NDArray[np.int64], factor: float = 1.0) -> NDArray:
        """What the rule holds constant within each step, its learning rate times `factor`.

        Shape (steps, constants), in the type of the parameters.
        """
        lr, _ = self.learning_rates(t)
        return self.table(self.rule.constants(t, factor * lr), len(t))

    def decay(self, t: NDArray[np.int64], factor: float = 1.0) -> tuple[Any, Any, Any]:
        """The decay around the rule at each step: see `regdyn.optimizers.decay_placement`."""
        lr, scale = self.learning_rates(t)
        return decay_placement(self.regularization, self.lam, factor * lr, scale)

    def table(self, columns: tuple[Any, ...], length: int) -> NDArray:
        """Numbers, or arrays with one per step, as columns of one array."""
        table = np.empty((length, len(columns)), DTYPES[self.dtype])
        for j, column in enumerate(columns):
            table[:, j] = column
        return table

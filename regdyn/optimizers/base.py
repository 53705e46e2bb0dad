"""What every update rule has in common, and where the decay acts around it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, ClassVar, TypeAlias

from regdyn.errors import InvalidParameter
from regdyn.parameters import check_choice, check_fields

Number: TypeAlias = Any
"""A Python float, or a NumPy array that broadcasts like one."""


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """One update rule with its hyperparameters.

    A rule is written once, as a scalar step. The ensemble engine compiles that same method and
    runs it over lanes; called from Python it is the oracle of the tests.

    A subclass sets `name`, `state_names` and the fields, and defines `constants` and `step`.
    `step` may use its arguments and `math` alone: no attribute of `self` and no literal number
    (a literal is float64 and would promote a float32 run); both belong into `constants`.
    """

    name: ClassVar[str]
    state_names: ClassVar[tuple[str, ...]]

    lr: float

    def __post_init__(self) -> None:
        check_fields(self)

    def initial_state(self) -> tuple[float, ...]:
        """The state before the first step, one number for each of `state_names`."""
        return (0.0,) * len(self.state_names)

    def constants(self, t: Number, lr: Number) -> tuple[Number, ...]:
        """What is constant within step t = 1, 2, … under the learning rate of that step.

        Takes numbers, or arrays of one value per step; each entry of the result broadcasts to them, and
        to the hyperparameters of a `stacked` rule, which agree in what is not a number. Under a
        constant lr every entry is monotone in t.
        """
        raise NotImplementedError

    @classmethod
    def relates_hyperparameters(cls) -> bool:
        """Whether it has a check of its own: one hyperparameter may forbid values of another."""
        return cls.__post_init__ is not Optimizer.__post_init__

    @cached_property
    def flags(self) -> tuple[bool, ...]:
        """Its hyperparameters that are no numbers."""
        return tuple(value for value in self.parameters().values() if isinstance(value, bool))

    @classmethod
    def stacked(cls, rules: Sequence[Optimizer]) -> Optimizer:
        """One rule for the `constants` of many: each number is an array of shape (rules, 1).

        The rules are of this class and agree in what is not a number.
        """
        import numpy as np  # here, so that the command line starts without it

        stack = object.__new__(cls)
        for name, first in rules[0].parameters().items():
            values = [getattr(rule, name) for rule in rules]
            if not isinstance(first, bool):
                object.__setattr__(stack, name, np.array(values)[:, None])
            elif values.count(first) == len(values):
                object.__setattr__(stack, name, first)
            else:
                raise ValueError(f"the rules differ in {name}")
        return stack

    def step(
        self,
        theta: float,
        g: float,
        state: tuple[float, ...],
        c: tuple[float, ...],
    ) -> tuple[float, tuple[float, ...]]:
        """The parameter and the state after one step with gradient g and c = constants(t, lr)."""
        raise NotImplementedError

    def torch_equivalent(self) -> tuple[str, dict[str, Any]]:
        """The class of torch.optim that computes this rule, and its arguments without learning rate.

        Raises
        ------
        InvalidParameter
            For a rule that torch does not have, or a hyperparameter that makes it another one.
        """
        raise InvalidParameter("optimizer", "one of torch.optim's", self.name)

    def _torch_needs(self, **values: float | bool) -> None:
        for name, needed in values.items():
            value = getattr(self, name)
            if value != needed:
                raise InvalidParameter(name, f"{needed} with torch, which lacks it", value)

    @classmethod
    @cache
    def parameter_names(cls) -> tuple[str, ...]:
        """Names of the hyperparameters, the learning rate first."""
        return tuple(field.name for field in dataclasses.fields(cls))

    def parameters(self) -> dict[str, float | bool]:
        """The hyperparameters by name."""
        return {name: getattr(self, name) for name in self.parameter_names()}


REGULARIZATIONS: Mapping[str, str] = {
    "none": "no decay",
    "l2": "g += lam * theta, before the update rule sees the gradient",
    "decoupled": "theta *= 1 - lr * lam, before the update (AdamW; torch's order)",
    "paper": "theta *= 1 - lam * schedule scale, after the update (mehta2019)",
}


def decay_placement(
    regularization: str, lam: Number, lr: Number, scale: Number
) -> tuple[Number, Number, Number]:
    """Where the decay acts, as (l2, before, after), each a number or one value per step.

    Every step reads theta' = after * rule(before * theta, g + l2 * theta): a placement is data
    around any rule and needs no code of its own.

    Parameters
    ----------
    regularization
        A key of `REGULARIZATIONS`.
    lam
        Strength of the decay.
    lr
        Learning rate of each step, schedule included.
    scale
        The schedule alone: 1 at the base learning rate.

    Raises
    ------
    InvalidParameter
        For an unknown `regularization`.
    """
    check_choice("regularization", regularization, REGULARIZATIONS)
    l2, before, after = 0.0, 1.0, 1.0
    if regularization == "l2":
        l2 = lam
    elif regularization == "decoupled":
        before = 1.0 - lr * lam
    elif regularization == "paper":
        after = 1.0 - lam * scale
    return l2, before, after

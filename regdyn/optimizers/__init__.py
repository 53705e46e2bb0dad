"""Update rules: one file each, one line each in the registry below."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from regdyn.errors import InvalidParameter
from regdyn.optimizers.adadelta import Adadelta
from regdyn.optimizers.adagrad import Adagrad
from regdyn.optimizers.adam import Adam
from regdyn.optimizers.adamax import AdaMax
from regdyn.optimizers.amsgrad import AMSGrad
from regdyn.optimizers.base import REGULARIZATIONS, Optimizer, decay_placement
from regdyn.optimizers.rmsprop import RMSProp
from regdyn.optimizers.sgd import SGD
from regdyn.parameters import check_choice

OPTIMIZERS: dict[str, type[Optimizer]] = {
    rule.name: rule for rule in (SGD, Adam, AMSGrad, AdaMax, Adagrad, Adadelta, RMSProp)
}

__all__ = [
    "OPTIMIZERS", "REGULARIZATIONS", "SGD", "AMSGrad", "AdaMax", "Adadelta", "Adagrad", "Adam",
    "Optimizer", "RMSProp", "decay_placement", "make_optimizer", "make_optimizers", "rule_parameters",
]  # fmt: skip


def make_optimizer(name: str, **parameters: Any) -> Optimizer:
    """The optimizer called `name` with its defaults replaced by `parameters`.

    Raises
    ------
    InvalidParameter
        For an unknown name, a parameter that the rule does not have or a value outside its range.
    """
    rule = OPTIMIZERS[check_choice("optimizer", name, OPTIMIZERS)]
    for parameter in parameters:
        check_choice(f"parameter of {name}", parameter, rule.parameter_names())
    return rule(**parameters)


@cache
def rule_parameters() -> dict[str, list[tuple[type[Optimizer], dataclasses.Field[Any]]]]:
    """Every hyperparameter of any rule but the learning rate, and the rules that have it."""
    found: dict[str, list[tuple[type[Optimizer], dataclasses.Field[Any]]]] = {}
    for rule in OPTIMIZERS.values():
        for field in dataclasses.fields(rule):
            if field.name != "lr":
                found.setdefault(field.name, []).append((rule, field))
    return found


def make_optimizers(names: Sequence[str], given: Mapping[str, Any]) -> list[Optimizer]:
    """The optimizers with the hyperparameters that are in `given` and not None, each with those it has.

    Raises
    ------
    InvalidParameter
        For an unknown name, a hyperparameter that none of them has or a value outside its range.
    """
    rules = [OPTIMIZERS[check_choice("optimizer", name, OPTIMIZERS)] for name in names]
    known = rule_parameters()
    values = {
        name: value for name, value in given.items()
        if value is not None and (name in known or name == "lr")
    }  # fmt: skip
    for name in values:
        if not any(name in rule.parameter_names() for rule in rules):
            having = ", ".join(rule.name for rule, _ in known[name])
            raise InvalidParameter(name, f"used with an optimizer that has it ({having})", names[0])
    return [rule(**{k: v for k, v in values.items() if k in rule.parameter_names()}) for rule in rules]

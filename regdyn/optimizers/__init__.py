"""Update rules: one file each, one line each in the registry below."""

from __future__ import annotations

from typing import Any

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
    "Optimizer", "RMSProp", "decay_placement", "make_optimizer",
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

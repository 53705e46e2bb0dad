"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from regdyn.errors import InvalidParameter
from regdyn.optimizers.base import Number, Optimizer
from regdyn.parameters import flag, number


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    r"""SGD with heavy-ball or Nesterov momentum.

    .. math::
        b_t &= \mu b_{t-1} + (1 - d) g_t, \qquad b_1 = g_1 \\
        \theta_t &= \theta_{t-1} - \eta_t b_t
        \qquad\text{or}\qquad \theta_{t-1} - \eta_t (g_t + \mu b_t) \text{ (Nesterov)}

    with learning rate :math:`\eta`, momentum :math:`\mu` and dampening :math:`d`.

    The learning rate multiplies the buffer (torch, optax), not the gradient that enters it
    (Sutskever et al. 2013); the two differ when the learning rate changes. As in torch the
    first step is not dampened, and without momentum no step is. Defaults: mehta2019, section 2.1.
    """

    name: ClassVar[str] = "sgd"
    state_names: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    lr: float = number(0.1, "[0, inf)", "learning rate")
    momentum: float = number(0.9, "[0, 1)", "weight of the momentum buffer")
    dampening: float = number(0.0, "[0, 1)", "share of the gradient kept out of the buffer")
    nesterov: bool = flag(False, "look ahead along the buffer")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not (self.momentum > 0 and self.dampening == 0):
            raise InvalidParameter("nesterov", "used with momentum > 0 and dampening 0")

    def constants(self, t: Number, lr: Number) -> tuple[Number, ...]:
        intake = 1.0 - self.dampening * ((t > 1) & (self.momentum > 0))
        ahead, along = (1.0, self.momentum) if self.nesterov else (0.0, 1.0)
        return self.momentum, intake, ahead, along, lr

    def step(
        self, theta: float, g: float, state: tuple[float, ...], c: tuple[float, ...]
    ) -> tuple[float, tuple[float, ...]]:
        (buffer,) = state
        momentum, intake, ahead, along, lr = c
        buffer = momentum * buffer + intake * g
        return theta - lr * (ahead * g + along * buffer), (buffer,)

    def torch_equivalent(self) -> tuple[str, dict[str, Any]]:
        arguments = {name: getattr(self, name) for name in ("momentum", "dampening", "nesterov")}
        return "SGD", arguments

"""Adadelta."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

from regdyn.optimizers.base import Number, Optimizer
from regdyn.parameters import number


@dataclass(frozen=True, kw_only=True)
class Adadelta(Optimizer):
    r"""Adadelta (Zeiler 2012, algorithm 1).

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad
        \Delta_t = \sqrt{\frac{u_{t-1} + \epsilon}{v_t + \epsilon}}\, g_t \\
        u_t &= \rho u_{t-1} + (1 - \rho) \Delta_t^2, \qquad
        \theta_t = \theta_{t-1} - \eta_t \Delta_t

    Both averages start at 0; the one root of the quotient equals the paper's quotient of two roots.
    Paper, torch and optax agree on the place of `eps`. Defaults: mehta2019, section 2.1.
    """

    name: ClassVar[str] = "adadelta"
    state_names: ClassVar[tuple[str, ...]] = ("v", "u")

    lr: float = number(1.0, "[0, inf)", "learning rate")
    rho: float = number(0.9, "[0, 1)", "decay rate of both averages")
    eps: float = number(1e-6, "[0, inf)", "added to both averages inside the roots")

    def constants(self, t: Number, lr: Number) -> tuple[Number, ...]:
        return self.rho, 1.0 - self.rho, lr, self.eps

    def step(
        self, theta: float, g: float, state: tuple[float, ...], c: tuple[float, ...]
    ) -> tuple[float, tuple[float, ...]]:
        v, u = state
        rho, intake, lr, eps = c
        v = rho * v + intake * (g * g)
        delta = sqrt((u + eps) / (v + eps)) * g
        u = rho * u + intake * (delta * delta)
        return theta - lr * delta, (v, u)

    def torch_equivalent(self) -> tuple[str, dict[str, Any]]:
        return "Adadelta", {"rho": self.rho, "eps": self.eps}

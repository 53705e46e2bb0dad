"""Adagrad."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

from regdyn.optimizers.base import Number, Optimizer
from regdyn.parameters import number


@dataclass(frozen=True, kw_only=True)
class Adagrad(Optimizer):
    r"""Adagrad (Duchi et al. 2011).

    .. math::
        s_t = s_{t-1} + g_t^2, \qquad
        \theta_t = \theta_{t-1} - \frac{\eta_t}{1 + (t - 1) \kappa}
        \frac{g_t}{\sqrt{s_t + \epsilon_r} + \epsilon}

    The accumulator starts at `initial_accumulator`: 0 as in torch (optax: 0.1). `eps` stands outside
    the root (torch, 1e-10), `eps_root` inside it (optax, 1e-7). :math:`\kappa` is `lr_decay`.
    Defaults: torch's; the learning rate is that of mehta2019s, figure 3.
    """

    name: ClassVar[str] = "adagrad"
    state_names: ClassVar[tuple[str, ...]] = ("sum",)

    lr: float = number(1e-2, "[0, inf)", "learning rate")
    lr_decay: float = number(0.0, "[0, inf)", "learning rate / (1 + (t - 1) lr_decay)")
    eps: float = number(1e-10, "[0, inf)", "added to the root of the accumulator")
    eps_root: float = number(0.0, "[0, inf)", "added to the accumulator inside the root")
    initial_accumulator: float = number(0.0, "[0, inf)", "start of the accumulator")

    def initial_state(self) -> tuple[float, ...]:
        return (self.initial_accumulator,)

    def constants(self, t: Number, lr: Number) -> tuple[Number, ...]:
        return lr / (1.0 + (t - 1) * self.lr_decay), self.eps_root, self.eps

    def step(
        self, theta: float, g: float, state: tuple[float, ...], c: tuple[float, ...]
    ) -> tuple[float, tuple[float, ...]]:
        (total,) = state
        size, eps_root, eps = c
        total = total + g * g
        return theta - size * g / (sqrt(total + eps_root) + eps), (total,)

    def torch_equivalent(self) -> tuple[str, dict[str, Any]]:
        self._torch_needs(eps_root=0.0)
        return "Adagrad", {
            "lr_decay": self.lr_decay, "eps": self.eps,
            "initial_accumulator_value": self.initial_accumulator,
        }  # fmt: skip

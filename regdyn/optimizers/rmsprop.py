"""RMSProp."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

from regdyn.optimizers.base import Number, Optimizer
from regdyn.parameters import flag, number


@dataclass(frozen=True, kw_only=True)
class RMSProp(Optimizer):
    r"""RMSProp (Tieleman and Hinton 2012), without momentum and without centring.

    .. math::
        v_t = \alpha v_{t-1} + (1 - \alpha) g_t^2, \qquad
        \theta_t = \theta_{t-1} - \eta_t \frac{g_t}{\sqrt{v_t / b_t + \epsilon_r} + \epsilon}

    with :math:`b_t = 1 - \alpha^t` under `bias_correction` and 1 otherwise (torch; optax by default).
    :math:`\alpha` is 0.99 in torch and 0.9 in the lecture and optax. `eps` stands outside the root
    (torch), `eps_root` inside it (optax by default). The average starts at `initial_accumulator`:
    0 in torch and optax, 1 in TensorFlow 1. Defaults: torch's; the learning rate is that of
    mehta2019s, figure 3.
    """

    name: ClassVar[str] = "rmsprop"
    state_names: ClassVar[tuple[str, ...]] = ("v",)

    lr: float = number(1e-3, "[0, inf)", "learning rate")
    alpha: float = number(0.99, "[0, 1)", "decay rate of the second moment")
    eps: float = number(1e-8, "[0, inf)", "added to the root of the second moment")
    eps_root: float = number(0.0, "[0, inf)", "added to the second moment inside the root")
    initial_accumulator: float = number(0.0, "[0, inf)", "start of the second moment")
    bias_correction: bool = flag(False, "divide the second moment by 1 - alpha^t")

    def initial_state(self) -> tuple[float, ...]:
        return (self.initial_accumulator,)

    def constants(self, t: Number, lr: Number) -> tuple[Number, ...]:
        bias = 1.0 - self.alpha**t if self.bias_correction else 1.0
        return self.alpha, 1.0 - self.alpha, lr, 1.0 / bias, self.eps_root, self.eps

    def step(
        self, theta: float, g: float, state: tuple[float, ...], c: tuple[float, ...]
    ) -> tuple[float, tuple[float, ...]]:
        (v,) = state
        alpha, intake, lr, correction, eps_root, eps = c
        v = alpha * v + intake * (g * g)
        return theta - lr * g / (sqrt(v * correction + eps_root) + eps), (v,)

    def torch_equivalent(self) -> tuple[str, dict[str, Any]]:
        self._torch_needs(eps_root=0.0, initial_accumulator=0.0, bias_correction=False)
        return "RMSprop", {"alpha": self.alpha, "eps": self.eps}

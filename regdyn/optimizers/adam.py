"""Adam."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

from regdyn.optimizers.base import Number, Optimizer
from regdyn.parameters import flag, number


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    r"""Adam (Kingma and Ba 2015, algorithm 1).

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \theta_t &= \theta_{t-1} - \eta_t
        \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t) + \epsilon_r} + \epsilon}

    Both moments start at 0. `eps` stands outside the square root (the paper, torch, optax), `eps_root`
    inside it (optax). Without `bias_correction` the two factors :math:`1 - \beta^t` are 1.
    Defaults: mehta2019, section 2.1, which sets :math:`\beta_2 = 0.99` (torch and optax: 0.999).
    """

    name: ClassVar[str] = "adam"
    state_names: ClassVar[tuple[str, ...]] = ("m", "v")

    lr: float = number(1e-3, "[0, inf)", "learning rate")
    beta1: float = number(0.9, "[0, 1)", "decay rate of the first moment")
    beta2: float = number(0.99, "[0, 1)", "decay rate of the second moment")
    eps: float = number(1e-8, "[0, inf)", "added to the root of the second moment")
    eps_root: float = number(0.0, "[0, inf)", "added to the second moment inside the root")
    bias_correction: bool = flag(True, "divide each moment by 1 - beta^t")

    def constants(self, t: Number, lr: Number) -> tuple[Number, ...]:
        bias1 = 1.0 - self.beta1**t if self.bias_correction else 1.0
        bias2 = 1.0 - self.beta2**t if self.bias_correction else 1.0
        return (
            self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2,
            lr / bias1, 1.0 / bias2, self.eps_root, self.eps,
        )  # fmt: skip

    def step(
        self, theta: float, g: float, state: tuple[float, ...], c: tuple[float, ...]
    ) -> tuple[float, tuple[float, ...]]:
        m, v = state
        beta1, intake1, beta2, intake2, size, correction, eps_root, eps = c
        m = beta1 * m + intake1 * g
        v = beta2 * v + intake2 * (g * g)
        return theta - size * m / (sqrt(v * correction + eps_root) + eps), (m, v)

    def torch_equivalent(self) -> tuple[str, dict[str, Any]]:
        self._torch_needs(eps_root=0.0, bias_correction=True)
        return "Adam", {"betas": (self.beta1, self.beta2), "eps": self.eps}

"""AdaMax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from regdyn.optimizers.base import Number, Optimizer
from regdyn.parameters import flag, number


@dataclass(frozen=True, kw_only=True)
class AdaMax(Optimizer):
    r"""AdaMax: Adam under the infinity norm (Kingma and Ba 2015, algorithm 2).

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
        u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon) \\
        \theta_t &= \theta_{t-1} - \frac{\eta_t}{1 - \beta_1^t} \frac{m_t}{u_t + \epsilon_d}

    `eps` stands inside the maximum (torch, optax; the paper has none), `eps_denominator` in the
    denominator (Keras). Defaults: torch's; the learning rate is that of mehta2019s, figure 3.
    """

    name: ClassVar[str] = "adamax"
    state_names: ClassVar[tuple[str, ...]] = ("m", "u")

    lr: float = number(2e-3, "[0, inf)", "learning rate")
    beta1: float = number(0.9, "[0, 1)", "decay rate of the first moment")
    beta2: float = number(0.999, "[0, 1)", "decay rate of the largest gradient")
    eps: float = number(1e-8, "[0, inf)", "added to |g| inside the maximum")
    eps_denominator: float = number(0.0, "[0, inf)", "added to the maximum in the denominator")
    bias_correction: bool = flag(True, "divide the first moment by 1 - beta1^t")

    def constants(self, t: Number, lr: Number) -> tuple[Number, ...]:
        bias1 = 1.0 - self.beta1**t if self.bias_correction else 1.0
        return (
            self.beta1, 1.0 - self.beta1, self.beta2, lr / bias1, self.eps, self.eps_denominator,
        )  # fmt: skip

    def step(
        self, theta: float, g: float, state: tuple[float, ...], c: tuple[float, ...]
    ) -> tuple[float, tuple[float, ...]]:
        m, u = state
        beta1, intake1, beta2, size, eps, eps_denominator = c
        m = beta1 * m + intake1 * g
        u = max(beta2 * u, abs(g) + eps)
        return theta - size * m / (u + eps_denominator), (m, u)

    def torch_equivalent(self) -> tuple[str, dict[str, Any]]:
        self._torch_needs(eps_denominator=0.0, bias_correction=True)
        return "Adamax", {"betas": (self.beta1, self.beta2), "eps": self.eps}

"""AMSGrad."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

from regdyn.optimizers.base import Number, Optimizer
from regdyn.parameters import flag, number


@dataclass(frozen=True, kw_only=True)
class AMSGrad(Optimizer):
    r"""AMSGrad: Adam that divides by the largest second moment so far (Reddi et al. 2018).

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad
        \hat v_t = \max(\hat v_{t-1}, v_t) \\
        \theta_t &= \theta_{t-1} - \eta_t
        \frac{m_t / (1 - \beta_1^t)}{\sqrt{\hat v_t / (1 - \beta_2^t) + \epsilon_r} + \epsilon}

    The maximum is over :math:`v_t` before bias correction (Reddi et al., torch). With
    `max_after_correction` it is over :math:`v_t / (1 - \beta_2^t)` and not corrected again (optax):
    a noisy start then weighs more, and an idle weight takes longer to decay.
    `eps` stands outside the root, `eps_root` inside it. Defaults: as :class:`Adam`; the learning
    rate is that of mehta2019s, figure 3 (which does not state the betas).
    """

    name: ClassVar[str] = "amsgrad"
    state_names: ClassVar[tuple[str, ...]] = ("m", "v", "v_max")

    lr: float = number(1e-3, "[0, inf)", "learning rate")
    beta1: float = number(0.9, "[0, 1)", "decay rate of the first moment")
    beta2: float = number(0.99, "[0, 1)", "decay rate of the second moment")
    eps: float = number(1e-8, "[0, inf)", "added to the root of the second moment")
    eps_root: float = number(0.0, "[0, inf)", "added to the second moment inside the root")
    bias_correction: bool = flag(True, "divide each moment by 1 - beta^t")
    max_after_correction: bool = flag(False, "maximum over the corrected second moment (optax)")

    def constants(self, t: Number, lr: Number) -> tuple[Number, ...]:
        bias1 = 1.0 - self.beta1**t if self.bias_correction else 1.0
        bias2 = 1.0 - self.beta2**t if self.bias_correction else 1.0
        inner, outer = (1.0 / bias2, 1.0) if self.max_after_correction else (1.0, 1.0 / bias2)
        return (
            self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2,
            lr / bias1, inner, outer, self.eps_root, self.eps,
        )  # fmt: skip

    def step(
        self, theta: float, g: float, state: tuple[float, ...], c: tuple[float, ...]
    ) -> tuple[float, tuple[float, ...]]:
        m, v, v_max = state
        beta1, intake1, beta2, intake2, size, inner, outer, eps_root, eps = c
        m = beta1 * m + intake1 * g
        v = beta2 * v + intake2 * (g * g)
        v_max = max(v_max, v * inner)
        return theta - size * m / (sqrt(v_max * outer + eps_root) + eps), (m, v, v_max)

    def torch_equivalent(self) -> tuple[str, dict[str, Any]]:
        self._torch_needs(eps_root=0.0, bias_correction=True, max_after_correction=False)
        return "Adam", {"betas": (self.beta1, self.beta2), "eps": self.eps, "amsgrad": True}

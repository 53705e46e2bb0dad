"""The penalties of `regdyn.nets.penalties` on torch's parameters."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor

from regdyn.cnn.models.base import Network
from regdyn.nets.penalties import LEAST_NORM, GroupLasso, Penalty, Slimming, strength_of


def make_penalty_gradient(penalty: Penalty | None, model: Network) -> Callable[[], None]:
    """What adds the subgradient of the penalty to the gradients that the parameters hold.

    Slimming acts on gamma of every normalisation, group lasso on the filters of every layer but the
    output, shortcuts and fully connected layers among them.
    """
    norms = map(model.norm_of, model.layers)
    gammas: list[Tensor] = [norm.weight for norm in norms if norm is not None]
    weights: list[Tensor] = [model.weights_of(layer).weight for layer in model.layers[:-1]]
    slimming, group_lasso = strength_of(Slimming, penalty), strength_of(GroupLasso, penalty)

    @torch.no_grad()
    def add() -> None:
        if slimming > 0:
            torch._foreach_add_(_gradients(gammas), torch._foreach_sign(gammas), alpha=slimming)
        if group_lasso > 0:
            units = torch._foreach_div(weights, [_norms(w) for w in weights])
            torch._foreach_mul_(units, [group_lasso * sqrt(w[0].numel()) for w in weights])
            torch._foreach_add_(_gradients(weights), units)

    return add


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _norms(weights: Tensor) -> Tensor:
    """L2 norm of each filter, of shape (filters, 1, …).

    Summed in float64: squares of small float32 numbers would underflow.
    """
    axes = tuple(range(1, weights.dim()))
    norms: Tensor = torch.linalg.vector_norm(weights, dim=axes, keepdim=True, dtype=torch.float64)
    return norms.clamp_min(LEAST_NORM).to(weights.dtype)

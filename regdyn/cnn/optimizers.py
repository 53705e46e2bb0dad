"""regdyn's configurations as optimizers of torch.optim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from regdyn.nets.config import NetworkConfig

BLOCK = 4096
"""Steps for which learning rates and decay are computed at once."""


class ConfiguredOptimizer:
    """An optimizer of torch.optim with the decay and the schedule of a configuration.

    Each step reads theta' = after * rule(before * theta, g + l2 * theta), as everywhere in regdyn
    (`regdyn.optimizers.decay_placement`): L2 is torch's own weight_decay, what stands before or after
    the rule a multiplication of all parameters.

    Parameters
    ----------
    config
        The rule, its decay and schedule, and the factors on the learning rate of gamma and beta.
    weights, gamma, beta
        The parameters by kind; any of them may be empty.

    Raises
    ------
    InvalidParameter
        For a rule or a hyperparameter that torch does not have.
    """

    def __init__(
        self,
        config: NetworkConfig,
        weights: Sequence[nn.Parameter],
        gamma: Sequence[nn.Parameter],
        beta: Sequence[nn.Parameter],
    ) -> None:
        self._config = config
        by_factor: dict[float, list[torch.Tensor]] = {}
        # What shares a learning rate shares a group: fewer kernels.
        for factor, parameters in ((1.0, weights), (config.gamma_lr, gamma), (config.beta_lr, beta)):
            by_factor.setdefault(factor, []).extend(parameters)
        self._factors = [factor for factor, parameters in by_factor.items() if parameters]
        self._parameters = [by_factor[factor] for factor in self._factors]
        self.torch = make_torch_optimizer(config, self._parameters)
        self._begin = self._end = 0
        self._rows: list[list[tuple[float, float, float]]] = []

    def step(self, t: int) -> None:
        """Take step t = 1, 2, … with the gradients that the parameters hold."""
        groups = self._at(t)
        for (lr, before, _), group, parameters in zip(
            groups, self.torch.param_groups, self._parameters
        ):
            group["lr"] = lr
            _scale(parameters, before)
        self.torch.step()
        for (_, _, after), parameters in zip(groups, self._parameters):
            _scale(parameters, after)

    def _at(self, t: int) -> list[tuple[float, float, float]]:
        """Learning rate, and what stands before and after the rule, of each group at step t."""
        if not self._begin < t <= self._end:
            self._begin, self._end = t - 1, min(t - 1 + BLOCK, self._config.steps)
            steps = np.arange(t, self._end + 1)
            lr, _ = self._config.learning_rates(steps)
            columns = []
            for factor in self._factors:
                _, before, after = self._config.decay(steps, factor)
                columns.append(np.broadcast_arrays(factor * lr, before, after))
            rows = np.moveaxis(np.array(columns, dtype=float), 2, 0)
            self._rows = [[(a, b, c) for a, b, c in row] for row in rows.tolist()]
        return self._rows[t - 1 - self._begin]

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that the rule remembers, by the number of the parameter and its own name."""
        state = self.torch.state_dict()["state"]
        return {
            f"{number}.{name}": value
            for number, entries in state.items()
            for name, value in entries.items()
            if isinstance(value, torch.Tensor)
        }

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` returned."""
        parameters = [each for group in self._parameters for each in group]
        entries: dict[int, dict[str, Any]] = {}
        for key, value in state.items():
            number, _, name = key.partition(".")
            like = parameters[int(number)]
            # Fused kernels read both as they lie in memory.
            if value.shape == like.shape:
                value = torch.empty_like(like).copy_(value)
            entries.setdefault(int(number), {})[name] = value
        groups = self.torch.state_dict()["param_groups"]
        self.torch.load_state_dict({"state": entries, "param_groups": groups})


def make_torch_optimizer(
    config: NetworkConfig, groups: Sequence[Sequence[torch.Tensor]]
) -> torch.optim.Optimizer:
    """The optimizer of torch.optim that computes the rule of `config`, with its L2 as weight_decay."""
    name, arguments = config.rule.torch_equivalent()
    make = getattr(torch.optim, name)
    l2, _, _ = config.decay(np.arange(1, 2))
    # One kernel for all parameters where torch has it on every device, else one for each operation.
    kernels = "fused" if name in ("Adam", "SGD") else "foreach"
    optimizer: torch.optim.Optimizer = make(
        [{"params": list(group)} for group in groups],
        lr=config.rule.lr,
        weight_decay=float(l2),
        **arguments,
        **{kernels: True},
    )
    return optimizer


def _scale(parameters: list[torch.Tensor], factor: float) -> None:
    if factor != 1:
        with torch.no_grad():
            torch._foreach_mul_(parameters, factor)

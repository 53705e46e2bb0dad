"""torch.optim under regdyn's configuration against the rules themselves, on a small CNN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

import regdyn
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.optimizers import ConfiguredOptimizer
from regdyn.errors import InvalidParameter
from regdyn.optimizers import OPTIMIZERS, REGULARIZATIONS, Optimizer

STEPS = 12
FACTORS = {"weights": 1.0, "gamma": 0.5, "beta": 2.0}


def config(**changes: object) -> CnnConfig:
    given = dict(
        data="digits", model="mlp:width=2", dtype="float64", steps=STEPS, lam=1e-2,
        gamma_lr=FACTORS["gamma"], beta_lr=FACTORS["beta"], schedule=regdyn.Step((4, 8), 0.3),
    )  # fmt: skip
    return CnnConfig(**given | changes)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.norm(self.first(x)).relu()).amax((2, 3))

    def by_kind(self) -> dict[str, list[nn.Parameter]]:
        assert self.second.bias is not None
        weights = [self.first.weight, self.second.weight, self.second.bias]
        return {"weights": weights, "gamma": [self.norm.weight], "beta": [self.norm.bias]}


class ByHand:
    """The undecorated rule, weight by weight."""

    def __init__(self, config: CnnConfig, factor: float, start: NDArray) -> None:
        self.config, self.factor, self.theta = config, factor, start.copy()
        self.state = [np.full(start.shape, value) for value in config.rule.initial_state()]

    def step(self, t: int, g: NDArray) -> None:
        rule = self.config.rule
        steps = np.array([t])
        lr, _ = self.config.learning_rates(steps)
        l2, before, after = (np.ravel(v)[0] for v in self.config.decay(steps, self.factor))
        constants = [np.ravel(c)[0] for c in rule.constants(steps, self.factor * lr)]
        for i in np.ndindex(self.theta.shape):
            theta = self.theta[i]
            state = tuple(values[i] for values in self.state)
            theta, state = rule.step(before * theta, g[i] + l2 * theta, state, constants)
            self.theta[i] = after * theta
            for values, value in zip(self.state, state):
                values[i] = value


def greatest_difference(config: CnnConfig, layout: torch.memory_format, l2: float = 0.0) -> float:
    """Between both, over all weights and steps, each fed the gradients of the network."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    model = Small().double().to(memory_format=layout)
    kinds = model.by_kind()
    hands = {
        kind: [ByHand(config, FACTORS[kind], p.detach().numpy()) for p in parameters]
        for kind, parameters in kinds.items()
    }
    optimizer = ConfiguredOptimizer(config, **kinds)
    worst = 0.0
    for t in range(1, STEPS + 1):
        x = torch.randn(8, 2, 5, 5, generator=generator, dtype=torch.float64)
        y = torch.randint(4, (8,), generator=generator)
        model.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x.contiguous(memory_format=layout)), y))
        gradients = {kind: [p.grad.numpy().copy() for p in kinds[kind]] for kind in kinds}  # type: ignore[union-attr]
        optimizer.step(t)
        for kind, parameters in kinds.items():
            for hand, parameter, g in zip(hands[kind], parameters, gradients[kind]):
                hand.step(t, g + l2 * hand.theta)
                worst = max(worst, float(np.abs(hand.theta - parameter.detach().numpy()).max()))
    return worst


@pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["first", "last"]
)
@pytest.mark.parametrize("placement", REGULARIZATIONS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_the_rule(name: str, placement: str, layout: torch.memory_format) -> None:
    assert greatest_difference(config(optimizer=name, regularization=placement), layout) < 1e-10


@pytest.mark.parametrize(
    "rule",
    [
        regdyn.SGD(lr=0.05, momentum=0.8, nesterov=True),
        regdyn.SGD(lr=0.05, momentum=0.8, dampening=0.3),
        regdyn.SGD(lr=0.05, momentum=0.0),
        regdyn.Adam(beta1=0.8, beta2=0.9, eps=1e-3),
        regdyn.Adagrad(lr_decay=0.1, initial_accumulator=0.2, eps=1e-3),
        regdyn.RMSProp(alpha=0.8, eps=1e-3),
        regdyn.AdaMax(beta1=0.7, beta2=0.8),
        regdyn.Adadelta(rho=0.7, eps=1e-4),
    ],
    ids=lambda rule: rule.name,
)
def test_equals_the_rule_with_other_hyperparameters(rule: Optimizer) -> None:
    assert greatest_difference(config(optimizer=rule), torch.contiguous_format) < 1e-10


def test_a_difference_would_show() -> None:
    """Negative control: decay counted twice in the rule by hand."""
    assert greatest_difference(config(optimizer="adam"), torch.contiguous_format, l2=1e-2) > 1e-6


@pytest.mark.parametrize(
    "rule, parameter",
    [
        (regdyn.Adam(eps_root=1e-3), "eps_root"),
        (regdyn.Adam(bias_correction=False), "bias_correction"),
        (regdyn.AMSGrad(max_after_correction=True), "max_after_correction"),
        (regdyn.RMSProp(bias_correction=True), "bias_correction"),
        (regdyn.Adagrad(eps_root=0.1), "eps_root"),
        (regdyn.AdaMax(eps_denominator=0.1), "eps_denominator"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_what_torch_lacks_is_refused(rule: Optimizer, parameter: str) -> None:
    with pytest.raises(InvalidParameter, match=f"{parameter} must be .* with torch"):
        config(optimizer=rule)


def test_constants_past_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning rates and decay are computed for some steps at once, and then for the next ones."""
    monkeypatch.setattr("regdyn.cnn.optimizers.BLOCK", 5)
    schedule = regdyn.Cosine(STEPS)
    changed = config(optimizer="sgd", regularization="decoupled", schedule=schedule)
    assert greatest_difference(changed, torch.contiguous_format) < 1e-10


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_goes_on_from_its_state(name: str) -> None:
    """A new optimizer with the old one's state takes the same steps, to the bit."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, 2, 2, generator=generator).to(memory_format=torch.channels_last)
    gradients = torch.randn(STEPS, *start.shape, generator=generator)

    def take(optimizer: ConfiguredOptimizer, parameter: nn.Parameter, steps: range) -> None:
        for t in steps:
            parameter.grad = gradients[t - 1].to(memory_format=torch.channels_last)
            optimizer.step(t)

    settings = config(optimizer=name, dtype="float32")
    whole = nn.Parameter(start.clone())
    take(ConfiguredOptimizer(settings, [whole], [], []), whole, range(1, STEPS + 1))

    first = nn.Parameter(start.clone())
    optimizer = ConfiguredOptimizer(settings, [first], [], [])
    take(optimizer, first, range(1, 6))
    kept = {key: value.clone().contiguous() for key, value in optimizer.state().items()}
    second = nn.Parameter(first.detach().clone())
    again = ConfiguredOptimizer(settings, [second], [], [])
    again.load(kept)
    take(again, second, range(6, STEPS + 1))
    assert torch.equal(second, whole)

    fresh = nn.Parameter(first.detach().clone())
    take(ConfiguredOptimizer(settings, [fresh], [], []), fresh, range(6, STEPS + 1))
    assert not torch.equal(fresh, whole)

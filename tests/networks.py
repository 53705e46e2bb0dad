"""Networks to test with: random data and parameters, and the same network on torch's layers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from regdyn.nets.data import Dataset, prepare
from regdyn.nets.mlp import EPS, MOMENTUM, Architecture, Gradients, Network

FEATURES, CLASSES, SAMPLES = 7, 4, 12


def random_data(seed: int = 0, examples: int = 60) -> Dataset:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(2 * examples, FEATURES))
    y = np.concatenate([np.arange(examples) % CLASSES, np.arange(examples) % CLASSES])
    return prepare("random", x[:examples], y[:examples], x[examples:], y[examples:])


def random_network(architecture: Architecture, seed: int = 0) -> Network:
    """Every parameter at random, so that none is where a mistake would not show."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float64]:
        return generator.normal(size=shape)

    hidden = architecture.hidden
    return Network(
        architecture,
        tuple(draw(*shape) for shape in architecture.shapes),
        tuple(draw(n) if architecture.normalized else np.ones(n) for n in hidden),
        tuple(draw(n) for n in hidden),
        draw(architecture.n_classes),
        tuple(draw(n) for n in hidden),
        tuple(draw(n) ** 2 for n in hidden),
    )


def make_architecture(**changes: object) -> Architecture:
    return Architecture(**dict(n_inputs=FEATURES, n_classes=CLASSES, hidden=(9, 6, 5)) | changes)


class TorchNetwork(torch.nn.Module):
    """The same network on torch's own layers."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.architecture = a = network.architecture

        def parameter(values: NDArray) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.tensor(values))

        self.weights = torch.nn.ParameterList(parameter(w) for w in network.weights)
        self.gamma = torch.nn.ParameterList(parameter(g) for g in network.gamma)
        self.beta = torch.nn.ParameterList(parameter(b) for b in network.beta)
        self.bias = parameter(network.bias)
        self.mean = [torch.tensor(m) for m in network.running_mean]
        self.var = [torch.tensor(v) for v in network.running_var]
        self.function = {
            "relu": torch.relu,
            "leaky_relu": lambda u: torch.nn.functional.leaky_relu(u, a.slope),
            "elu": torch.nn.functional.elu,
            "tanh": torch.tanh,
            "linear": lambda u: u,
        }[a.activation]

    def forward(self, x: torch.Tensor, training: bool) -> torch.Tensor:
        for i in range(len(self.beta)):
            x = x @ self.weights[i].T
            if self.architecture.normalized:
                x = torch.nn.functional.batch_norm(
                    x, self.mean[i], self.var[i], self.gamma[i], self.beta[i], training, MOMENTUM, EPS
                )
            else:
                x = x + self.beta[i]
            x = self.function(x + self.architecture.alpha)
        return x @ self.weights[-1].T + self.bias

    def gradients(self, x: NDArray, y: NDArray) -> tuple[float, Gradients]:
        loss = torch.nn.functional.cross_entropy(self(torch.tensor(x), True), torch.tensor(y))
        self.zero_grad()
        loss.backward()

        def arrays(parameters: torch.nn.ParameterList) -> tuple[NDArray, ...]:
            return tuple(
                np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy() for p in parameters
            )

        assert self.bias.grad is not None
        return loss.item(), Gradients(
            arrays(self.weights), arrays(self.gamma), arrays(self.beta), self.bias.grad.numpy().copy()
        )

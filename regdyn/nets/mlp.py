"""A fully connected network with batch normalisation before the activation, in plain NumPy.

This is the readable form: what training computes (`regdyn.nets.training` runs the same arithmetic fused
and in place) and how a trained network is evaluated, with the running statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regdyn.errors import InvalidParameter
from regdyn.nets import sparsity
from regdyn.nets._mlp_kernel import ELU, LEAKY_RELU, LINEAR, RELU, TANH
from regdyn.parameters import check_choice, check_integer, check_number

EPS = 1e-5
"""Added to the batch variance (Ioffe and Szegedy 2015; torch's default)."""

SCALE_THRESHOLD = 1e-3
"""Of |gamma|, below which a unit counts as dead (mehta2019, section 2.1)."""

MOMENTUM = 0.1
"""Weight of a new batch in the running statistics (torch's default)."""

NORMS = ("batch", "none")
INITS = ("xavier", "he")
MAX_WIDTH = 10**6
MAX_DEPTH = 100


@dataclass(frozen=True)
class Activation:
    """An activation function, its derivative as a function of its value, and its code in the kernel.

    `gain` is the factor on the initial weights that keeps the variance (torch's calculate_gain).
    """

    code: int
    value: Callable[[NDArray, float], NDArray]
    derivative: Callable[[NDArray, float], NDArray]
    gain: Callable[[float], float]


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(
        RELU,
        lambda u, slope: np.maximum(u, 0),
        lambda y, slope: (y > 0).astype(y.dtype),
        lambda slope: float(np.sqrt(2)),
    ),
    "leaky_relu": Activation(
        LEAKY_RELU,
        lambda u, slope: np.where(u > 0, u, slope * u).astype(u.dtype),
        lambda y, slope: np.where(y > 0, 1, slope).astype(y.dtype),
        lambda slope: float(np.sqrt(2 / (1 + slope**2))),
    ),
    "elu": Activation(
        ELU,
        lambda u, slope: np.where(u > 0, u, np.expm1(np.minimum(u, 0))),
        lambda y, slope: np.where(y > 0, 1, y + 1).astype(y.dtype),
        lambda slope: 1.0,
    ),
    "tanh": Activation(
        TANH,
        lambda u, slope: np.tanh(u),
        lambda y, slope: 1 - y * y,
        lambda slope: 5 / 3,
    ),
    "linear": Activation(
        LINEAR, lambda u, slope: u, lambda y, slope: np.ones_like(y), lambda slope: 1.0
    ),
}


def slope_below(activation: str, slope: float) -> float | None:
    """Slope of an activation below 0, of leaky ReLU `slope`; None where it is not linear there."""
    return {"relu": 0.0, "leaky_relu": slope, "linear": 1.0}.get(activation)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    r"""Hidden layers z = W x, u = gamma (z - mean) / sqrt(var + eps) + beta + alpha, y = activation(u).

    Mean and (biased) variance are those of the batch while training, running averages afterwards. With
    norm "none", u = z + beta + alpha: beta is then the layer's bias. The output layer is W y + bias.

    Parameters
    ----------
    n_inputs, n_classes
        Features of the data, and classes.
    hidden
        Units of each hidden layer.
    activation
        A key of `ACTIVATIONS`; "elu" has scale 1.
    slope
        Of leaky ReLU at negative u.
    norm
        "batch" or "none".
    alpha
        Shift after the normalisation (psBN, zhou2020, Eq. 6), 0 for plain batch normalisation.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.
    """

    n_inputs: int
    n_classes: int
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    slope: float = 0.01
    norm: str = "batch"
    alpha: float = 0.0

    def __post_init__(self) -> None:
        def store(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        store("hidden", check_hidden(self.hidden))
        store("activation", check_choice("activation", self.activation, ACTIVATIONS))
        store("slope", check_number("slope", self.slope, "[0, 1]"))
        store("norm", check_choice("norm", self.norm, NORMS))
        store("alpha", check_number("alpha", self.alpha, "[0, inf)"))

    @property
    def normalized(self) -> bool:
        """Whether the hidden layers have batch normalisation, and with it scales gamma."""
        return self.norm == "batch"

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape (units, inputs) of every weight matrix, the output layer's last."""
        widths = (self.n_inputs, *self.hidden, self.n_classes)
        return tuple((units, inputs) for inputs, units in pairwise(widths))

    @property
    def function(self) -> Activation:
        return ACTIVATIONS[self.activation]

    def initial_weights(self, init: str, generator: np.random.Generator) -> list[NDArray[np.float64]]:
        """Weights of every layer.

        "xavier": uniform within gain sqrt(6 / (inputs + units)) (Glorot and Bengio 2010); "he": normal
        with std gain / sqrt(inputs) (He et al. 2015); gain that of the activation, 1 for the output.
        """
        check_choice("init", init, INITS)
        weights = []
        for layer, (units, inputs) in enumerate(self.shapes):
            gain = self.function.gain(self.slope) if layer < len(self.hidden) else 1.0
            if init == "xavier":
                bound = gain * np.sqrt(6 / (inputs + units))
                weights.append(generator.uniform(-bound, bound, (units, inputs)))
            else:
                weights.append(generator.normal(0, gain / np.sqrt(inputs), (units, inputs)))
        return weights


def check_hidden(hidden: Sequence[int]) -> tuple[int, ...]:
    """The widths of the hidden layers, at least one."""
    wanted = f"1 to {MAX_DEPTH} integers in [1, {MAX_WIDTH}]"
    try:
        widths = tuple(check_integer("hidden", width, 1, MAX_WIDTH) for width in hidden)
    except TypeError:
        raise InvalidParameter("hidden", wanted, hidden) from None
    if not 1 <= len(widths) <= MAX_DEPTH:
        raise InvalidParameter("hidden", wanted, hidden)
    return widths


@dataclass(frozen=True, eq=False)
class Gradients:
    """dL/dparameter for each parameter of a `Network`, in the same order and shapes."""

    weights: tuple[NDArray, ...]
    gamma: tuple[NDArray, ...]
    beta: tuple[NDArray, ...]
    bias: NDArray


@dataclass(frozen=True, eq=False)
class Network:
    """A network and its parameters.

    Attributes
    ----------
    architecture
        What the numbers belong to.
    weights
        (units, inputs) for each layer, the output layer last.
    gamma, beta
        (units,) for each hidden layer; gamma is 1 with norm "none".
    bias
        (classes,), of the output layer.
    running_mean, running_var
        (units,) for each hidden layer, averages over the batches of training; the variance unbiased.
    """

    architecture: Architecture
    weights: tuple[NDArray, ...]
    gamma: tuple[NDArray, ...]
    beta: tuple[NDArray, ...]
    bias: NDArray
    running_mean: tuple[NDArray, ...]
    running_var: tuple[NDArray, ...]

    def _activate(self, layer: int, xhat: NDArray) -> NDArray:
        a = self.architecture
        u = self.gamma[layer][:, None] * xhat + (self.beta[layer] + a.alpha)[:, None]
        return a.function.value(u.astype(xhat.dtype, copy=False), a.slope)

    def _input(self, x: NDArray) -> NDArray:
        return np.asarray(x, dtype=self.bias.dtype).T

    def layers(self, x: NDArray) -> list[NDArray]:
        """Activations of every hidden layer, (units, samples), for x of shape (samples, features)."""
        outputs = []
        y = self._input(x)
        for i, weights in enumerate(self.weights[:-1]):
            z = weights @ y
            if self.architecture.normalized:
                std = np.sqrt(self.running_var[i] + np.asarray(EPS, z.dtype))
                z = (z - self.running_mean[i][:, None]) / std[:, None]
            y = self._activate(i, z)
            outputs.append(y)
        return outputs

    def output(self, y: NDArray) -> NDArray:
        """Logits, (classes, samples), from the activations y of the last hidden layer."""
        return np.asarray(self.weights[-1] @ y + self.bias[:, None])

    def logits(self, x: NDArray) -> NDArray:
        """(classes, samples) for x of shape (samples, features)."""
        return self.output(self.layers(x)[-1])

    def error(self, x: NDArray, y: NDArray) -> float:
        """Share of the samples whose class is not the greatest logit."""
        return float(np.mean(self.logits(x).argmax(axis=0) != y))

    def loss(self, x: NDArray, y: NDArray) -> float:
        """Mean softmax cross-entropy in nats."""
        return _cross_entropy(self.logits(x), y)[0]

    def inactive(self, threshold: float = SCALE_THRESHOLD) -> tuple[NDArray[np.bool_], ...]:
        """The units of each hidden layer that count as dead, as masks of shape (units,).

        Those with |gamma| below the threshold (mehta2019, section 2.1); without normalisation those
        whose weights have an L2 norm below `sparsity.NORM_THRESHOLD` (yaguchi2018, section II-B).
        """
        if self.architecture.normalized:
            return tuple(sparsity.inactive_by_scale(gamma, threshold) for gamma in self.gamma)
        norms = (sparsity.weight_norms(weights) for weights in self.weights[:-1])
        return tuple(sparsity.inactive_by_norm(norm) for norm in norms)

    def removable(self, marked: Sequence[NDArray[np.bool_]]) -> tuple[NDArray[np.bool_], ...]:
        """The marked units, but for the strongest one of a layer that would vanish."""
        if self.architecture.normalized:
            return sparsity.spare_one(marked, [np.abs(gamma) for gamma in self.gamma])[0]
        return sparsity.spare_one(marked, [sparsity.weight_norms(w) for w in self.weights[:-1]])[0]

    def zeroed(self, marked: Sequence[NDArray[np.bool_]]) -> Network:
        """The network with gamma, without normalisation the weights, of the `removable` units at 0."""
        marked = self.removable(marked)
        if self.architecture.normalized:
            gamma = tuple(np.where(mask, 0, g).astype(g.dtype) for mask, g in zip(marked, self.gamma))
            return replace(self, gamma=gamma)
        hidden = (
            np.where(mask[:, None], 0, w).astype(w.dtype) for mask, w in zip(marked, self.weights)
        )
        return replace(self, weights=(*hidden, self.weights[-1]))

    def without(self, marked: Sequence[NDArray[np.bool_]]) -> Network:
        """The network with the `removable` units removed for real, their constant output absorbed.

        It computes what `zeroed` computes; see `sparsity.remove_units`.
        """
        a = self.architecture
        slim = sparsity.remove_units(
            self.weights, self.gamma, self.beta, self.bias, self.running_mean, self.running_var, marked,
            lambda u: a.function.value(u, a.slope), alpha=a.alpha, norm=a.norm,
        )  # fmt: skip
        return Network(
            replace(a, hidden=tuple(len(beta) for beta in slim.beta)),
            slim.weights, slim.gamma, slim.beta, slim.bias, slim.running_mean, slim.running_var,
        )  # fmt: skip

    def share_removed(self, marked: Sequence[NDArray[np.bool_]]) -> float:
        """Share of the parameters that `without` removes."""
        a = self.architecture
        sizes = (a.n_inputs, *a.hidden, a.n_classes)
        return sparsity.share_removed(sizes, marked, per_unit=2 if a.normalized else 1)

    def gradients(self, x: NDArray, y: NDArray) -> tuple[float, Gradients]:
        """Loss of one batch under its own statistics, and its gradients; nothing is changed."""
        a, n = self.architecture, len(y)
        below, scaled, inverse_stds = [self._input(x)], [], []
        for i, weights in enumerate(self.weights[:-1]):
            z = weights @ below[-1]
            inverse = np.ones(len(z), z.dtype)
            if a.normalized:
                inverse = 1 / np.sqrt(z.var(axis=1) + np.asarray(EPS, z.dtype))
                z = (z - z.mean(axis=1, keepdims=True)) * inverse[:, None]
            scaled.append(z)
            inverse_stds.append(inverse)
            below.append(self._activate(i, z))
        loss, delta = _cross_entropy(self.output(below[-1]), y)
        d_weights, d_gamma, d_beta = [delta @ below[-1].T], [], []
        d_bias = delta.sum(axis=1)
        for i in reversed(range(len(a.hidden))):
            xhat = scaled[i]
            du = (self.weights[i + 1].T @ delta) * a.function.derivative(below[i + 1], a.slope)
            d_gamma.append((du * xhat).sum(axis=1) if a.normalized else np.zeros(len(du), du.dtype))
            d_beta.append(du.sum(axis=1))
            delta = du
            if a.normalized:
                mean, slant = d_beta[-1] / n, d_gamma[-1] / n
                centred = du - mean[:, None] - xhat * slant[:, None]
                delta = (self.gamma[i] * inverse_stds[i])[:, None] * centred
            d_weights.append(delta @ below[i].T)
        return loss, Gradients(
            tuple(reversed(d_weights)), tuple(reversed(d_gamma)), tuple(reversed(d_beta)), d_bias
        )


def _cross_entropy(logits: NDArray, y: NDArray) -> tuple[float, NDArray]:
    """Mean loss, and dL/dlogits."""
    shifted = logits - logits.max(axis=0)
    powers = np.exp(shifted)
    totals = powers.sum(axis=0)
    samples = np.arange(len(y))
    loss = float(np.mean(np.log(totals) - shifted[y, samples]))
    delta = powers / totals
    delta[y, samples] -= 1
    return loss, delta / len(y)

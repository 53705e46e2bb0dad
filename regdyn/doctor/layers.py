"""The layers of a network by its tensors alone: batch normalisation, and the weights that feed it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from regdyn.cnn.metrics import to_numpy

TOP = "(top)"
"""Name of a layer whose tensors have no name before their own."""

_STEMS = ("conv", "linear", "fc", "dense", "convolution")
"""What weights are called beside a "bn" or "norm", in torchvision, timm and transformers."""

# The convolutions of a block of timm whose normalisations are bn1, bn2, …, in their order.
_TIMM = (
    ("conv_pw", "conv_dw", "conv_pwl"), ("conv_exp", "conv_pwl"), ("conv_dw", "conv_pw"),
    ("conv_stem", "conv_head"),
)  # fmt: skip

_NORM = re.compile(r"batch_?norm|normalization|norm|bn", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Weights:
    """A tensor of weights, a row for each unit.

    Attributes
    ----------
    name
        Of the tensor in the file, without ".weight".
    values
        Shape (units, inputs, …), float64, or float32 where that holds them.
    """

    name: str
    values: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class NormLayer:
    """A batch normalisation with a scale and a shift for each of its units.

    Attributes
    ----------
    name
        Of the layer in the file.
    gamma, beta
        Shape (units,), float64.
    weights
        Those that feed it, if the names say which.
    """

    name: str
    gamma: NDArray[np.float64]
    beta: NDArray[np.float64]
    weights: Weights | None


@dataclass(frozen=True, eq=False)
class Layers:
    """What the tensors of a network show of its layers.

    Attributes
    ----------
    norms
        Every batch normalisation with gamma and beta, in the order of the tensors.
    unscaled
        Batch normalisations without gamma or beta.
    others
        What has scale and shift and no running statistics: layer, group or instance normalisation, or
        batch normalisation that keeps none.
    weights
        All tensors of weights with at least two axes.
    """

    norms: tuple[NormLayer, ...]
    unscaled: tuple[str, ...]
    others: tuple[str, ...]
    weights: tuple[Weights, ...]


def find_layers(tensors: Mapping[str, Tensor], *, ordered: bool = True) -> Layers:
    """Find the layers of a network of any architecture.

    Batch normalisation is what has `running_mean` and `running_var` beside a `weight` and a `bias`, all
    vectors of one length. Instance normalisation with running statistics, which is rare, looks the
    same. The weights that feed it are looked for by their names (conv1 for bn1, features.3 for
    features.4, conv_dw for bn1 in a block of timm), else as the last ones before it; they must have as
    many units. Names that fit some layers of the network and not others, as where normalisation comes
    before the convolution, are not trusted at all; if they fit all (such a network of one width, in a
    file without order), the pairing is wrong.

    Parameters
    ----------
    tensors
        By name, such as `SavedTensors.tensors`.
    ordered
        Whether they come in the order in which the network's parts were made.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, leaf = name.rpartition(".")
        parts.setdefault(layer, {})[leaf] = tensor
    scaled: list[str] = []
    unscaled: list[str] = []
    others: list[str] = []
    for layer, own in parts.items():
        if _vectors(own, "running_mean", "running_var"):
            whole = _vectors(own, "running_mean", "running_var", "weight", "bias")
            (scaled if whole else unscaled).append(layer)
        elif _vectors(own, "weight", "bias"):
            others.append(layer)
    feeding = _pair(scaled, parts, ordered)
    norms = [
        NormLayer(
            name=layer or TOP,
            gamma=_numbers(parts[layer]["weight"]).astype(np.float64),
            beta=_numbers(parts[layer]["bias"]).astype(np.float64),
            weights=Weights(at or TOP, _numbers(parts[at]["weight"])) if at is not None else None,
        )
        for layer, at in zip(scaled, feeding)
    ]
    return Layers(tuple(norms), tuple(unscaled), tuple(others), tuple(_all_weights(tensors)))


def _vectors(own: Mapping[str, Tensor], *names: str) -> bool:
    """Whether all of these are there, floating-point vectors of one length."""
    found = [own[name] for name in names if name in own]
    shapes = {tuple(tensor.shape) for tensor in found}
    return (
        len(found) == len(names)
        and len(shapes) == 1
        and all(t.ndim == 1 and len(t) and t.is_floating_point() for t in found)
    )


def _all_weights(tensors: Mapping[str, Tensor]) -> Iterator[Weights]:
    found = {
        name: tensor for name, tensor in tensors.items()
        if tensor.ndim >= 2 and tensor.numel() and tensor.is_floating_point()
    }  # fmt: skip
    # Tables of positions and the like have axes too; where nothing is called weight, all count.
    named = [name for name in found if "weight" in name.rpartition(".")[2]]
    for name in named or found:
        yield Weights(name.removesuffix(".weight"), _numbers(found[name]))


def _numbers(tensor: Tensor) -> NDArray[np.floating]:
    """As NumPy has it: narrow types as float32."""
    wide = tensor if tensor.element_size() >= 4 else tensor.float()
    return np.asarray(to_numpy(wide))


# Which weights feed a normalisation


def _pair(
    norms: Sequence[str], parts: Mapping[str, Mapping[str, Tensor]], ordered: bool
) -> list[str | None]:
    """The layer of weights that feeds each of the normalisations."""
    units = {layer: len(parts[layer]["weight"]) for layer in norms}
    weights = {
        layer: own["weight"].shape[0]
        for layer, own in parts.items()
        if "weight" in own and own["weight"].ndim >= 2
    }
    place = {layer: i for i, layer in enumerate(parts)}
    guessed = {layer: at for layer in norms if (at := _by_name(layer, weights)) is not None}

    def fits(layer: str, at: str) -> bool:
        return weights[at] == units[layer] and (not ordered or place[at] < place[layer])

    wrong = {_pattern(layer) for layer, at in guessed.items() if not fits(layer, at)}
    found: dict[str, str] = {
        layer: at
        for layer, at in guessed.items()
        # Neighbours in a sequence need no other witness.
        if fits(layer, at) and (_pattern(layer) == "#" or _pattern(layer) not in wrong)
    }
    used = set(found.values())
    before: str | None = None
    for layer in parts if ordered else ():
        if layer in weights:
            before = layer
        elif layer in units:
            if layer not in found and before not in used and _inside(before, layer):
                if before is not None and fits(layer, before):
                    found[layer] = before
            # Behind a normalisation begins what feeds the next.
            before = None
    return [found.get(layer) for layer in norms]


def _by_name(norm: str, weights: Mapping[str, int]) -> str | None:
    """The first of the names that weights before a layer called `norm` usually have."""
    parent, dot, leaf = norm.rpartition(".")

    def beside(name: str) -> str:
        return f"{parent}{dot}{name}"

    names: list[str] = []
    if leaf.isdecimal():
        names = [str(int(leaf) - 1)]
    elif _NORM.search(leaf):
        rest = _NORM.sub("", leaf, count=1).strip("_")
        if rest.isdecimal():
            for block in _TIMM:
                if all(beside(name) in weights for name in block) and 0 < int(rest) <= len(block):
                    names.append(block[int(rest) - 1])
                    break
        elif rest:
            names.append(rest)
        names += [stem + rest for stem in _STEMS]
    return next((beside(name) for name in names if beside(name) in weights), None)


def _pattern(norm: str) -> str:
    """Its own name with every number alike."""
    return re.sub(r"\d+", "#", norm.rpartition(".")[2])


def _inside(weights: str | None, norm: str) -> bool:
    """Whether the weights stand beside the normalisation, or in a part that does."""
    parent = norm.rpartition(".")[0]
    if weights is None or not weights.startswith(f"{parent}." if parent else ""):
        return False
    return weights.removeprefix(f"{parent}.").count(".") <= 1

"""Post-shifted batch normalisation (psBN): y = BN(x) + alpha with a constant alpha > 0."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regdyn.errors import InvalidParameter
from regdyn.parameters import check_number

ALPHA = 0.1
"""The constant that zhou2020, section 5, found to work for every task."""

TorchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


class PostShifted:
    r"""Mixin that shifts the output of a batch normalisation by a constant.

    .. math::
        y = \gamma \hat x + \beta + \alpha

    alpha is no parameter, so weight decay, which takes gamma and beta of a dead unit to 0, leaves the
    unit with the activation alpha. It is not in the state dict either: keys are those of torch's layer.
    What reads beta instead of calling the layer (fusing it into a convolution, conversion to
    SyncBatchNorm) does not know of alpha; `from_psbn` comes first then.

    Parameters
    ----------
    num_features
        Units of the layer.
    alpha
        In (0, inf).
    eps, momentum, track_running_stats
        Of torch's layer, which always has gamma and beta here.

    Raises
    ------
    InvalidParameter
        For alpha outside its range.

    Source: zhou2020, Eq. 6.
    """

    alpha: float

    def __init__(
        self,
        num_features: int,
        *,
        alpha: float = ALPHA,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__(  # type: ignore[call-arg]
            num_features, eps=eps, momentum=momentum, track_running_stats=track_running_stats
        )
        self.alpha = _check_alpha(alpha)

    # The arithmetic of torch's layer, written out since alpha goes into its vector of shifts: to add it
    # to the output would be one more pass over the map.
    def forward(self: Any, x: Tensor) -> Tensor:
        self._check_input_dim(x)
        momentum = 0.0 if self.momentum is None else self.momentum
        updates = self.training and self.track_running_stats
        if updates and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        tracked = updates or not self.training
        return F.batch_norm(
            x,
            self.running_mean if tracked else None,
            self.running_var if tracked else None,
            self.weight,
            self.bias + self.alpha,
            self.training or self.running_mean is None,
            momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, alpha={self.alpha:g}"  # type: ignore[misc]


class PsBatchNorm1d(PostShifted, nn.BatchNorm1d):
    """`PostShifted` of (samples, units) or (samples, units, length)."""


class PsBatchNorm2d(PostShifted, nn.BatchNorm2d):
    """`PostShifted` of (samples, units, rows, columns)."""


class PsBatchNorm3d(PostShifted, nn.BatchNorm3d):
    """`PostShifted` of (samples, units, depth, rows, columns)."""


_SHIFTED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: PsBatchNorm1d,
    nn.BatchNorm2d: PsBatchNorm2d,
    nn.BatchNorm3d: PsBatchNorm3d,
}
_PLAIN = {shifted: plain for plain, shifted in _SHIFTED.items()}


def to_psbn(model: nn.Module, alpha: float = ALPHA) -> int:
    r"""Turn every batch normalisation of any torch model into psBN, in place; outputs stay.

    .. math::
        \beta \leftarrow \beta - \alpha

    so that outputs, gradients and running statistics are what they were, up to one rounding of beta;
    decay acts on another beta. Parameters stay the same objects, and an optimizer that holds them stays
    valid. A layer that is psBN already moves to the new alpha.

    Layers without beta cannot be shifted and stay as they are.

    Parameters
    ----------
    model
        A batch normalisation or anything that contains one.
    alpha
        In (0, inf).

    Returns
    -------
    Number of layers that are psBN now.

    Raises
    ------
    InvalidParameter
        For alpha outside its range; for anything but a model with a layer to convert; for one with
        SyncBatchNorm or another kind of batch normalisation whose own forward pass would be lost. The
        model is then as it was.

    Source: zhou2020, section 5.
    """
    shift = _check_alpha(alpha)
    if not isinstance(model, nn.Module):
        raise InvalidParameter("model", "a torch.nn.Module", type(model).__name__)
    layers: list[nn.Module] = []
    for path, module in model.named_modules():
        if not isinstance(module, TorchNorm | nn.SyncBatchNorm) or module.bias is None:
            continue
        if type(module) not in _SHIFTED and type(module) not in _PLAIN:
            kind = f"a {type(module).__name__}"
            got = f"layer {path}, {kind}" if path else kind
            raise InvalidParameter(
                "model", "normalised by BatchNorm1d, BatchNorm2d or BatchNorm3d", got
            )
        layers.append(module)
    if not layers:
        raise InvalidParameter(
            "model", "a network with batch normalisation that has a beta", type(model).__name__
        )
    for layer in layers:
        _turn(layer, _SHIFTED.get(type(layer), type(layer)), shift)
    return len(layers)


def from_psbn(model: nn.Module) -> int:
    r"""The reverse of `to_psbn`: :math:`\beta \leftarrow \beta + \alpha`, and torch's own layers again.

    Returns
    -------
    Number of layers converted, 0 for a model without psBN.
    """
    layers = [module for module in model.modules() if type(module) in _PLAIN]
    for layer in layers:
        _turn(layer, _PLAIN[type(layer)], 0.0)
        del layer.alpha
    return len(layers)


def _turn(layer: nn.Module, kind: type[nn.Module], alpha: float) -> None:
    """Give the layer this class and alpha, and beta the difference."""
    before = layer.alpha if isinstance(layer, PostShifted) else 0.0
    with torch.no_grad():
        cast(Tensor, layer.bias).add_(before - alpha)
    layer.__class__ = kind
    cast(PostShifted, layer).alpha = alpha


def _check_alpha(alpha: float) -> float:
    return check_number("alpha", alpha, "(0, inf)")

"""Whether two networks compute the same, and whether one computes at all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regdyn.cnn.metrics import evaluating
from regdyn.errors import InvalidParameter

EQUAL: Mapping[torch.dtype, float] = {
    torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2,
}  # fmt: skip
"""Greatest `difference` that rounding makes between equal networks, by the type of their weights."""


def tensors_in(output: Any) -> list[Tensor]:
    """The tensors in what a network returns: a tensor, or lists, tuples and dictionaries of them."""
    if isinstance(output, Tensor):
        return [output]
    parts: Iterable[Any] = ()
    if isinstance(output, Mapping):
        parts = output.values()
    elif isinstance(output, (list, tuple)):
        parts = output
    return [tensor for part in parts for tensor in tensors_in(part)]


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The output tensors of a network in evaluation mode."""
    with evaluating(model):
        return tensors_in(model(x))


class Gap:
    r"""How far the outputs of a network are from those of a reference, of the greatest of these.

    .. math::
        \max |y - y_0| / \max |y_0|

    over all samples and outputs that were added; infinite if shapes differ or an output is not finite,
    0 if none differs.
    """

    def __init__(self) -> None:
        self._apart = self._greatest = 0.0

    def add(self, ours: Sequence[Tensor], reference: Sequence[Tensor]) -> None:
        """Take in the outputs of a batch."""
        if [y.shape for y in ours] != [y.shape for y in reference]:
            self._apart = float("inf")
            return
        for y, y0 in zip(ours, reference):
            if y.numel() > 0:
                apart = (y.double() - y0.double()).abs().max().item()
                self._apart = max(self._apart, apart if math.isfinite(apart) else math.inf)
                self._greatest = max(self._greatest, y0.double().abs().max().item())

    @property
    def value(self) -> float:
        """The gap so far."""
        if self._apart == 0:
            return 0.0
        return self._apart / self._greatest if self._greatest > 0 else math.inf


def difference(model: nn.Module, reference: nn.Module, batches: Iterable[Tensor]) -> float:
    """The `Gap` between the outputs of two networks in evaluation mode."""
    gap = Gap()
    for x in batches:
        gap.add(outputs(model, x), outputs(reference, x))
    return gap.value


def check_finite(model: nn.Module, name: str = "model") -> None:
    """InvalidParameter for `name`, naming the tensors, unless every weight is a finite number."""
    wrong = [
        f"{'NaN' if tensor.isnan().any() else 'infinity'} in {name}"
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more tensors" if len(wrong) > 5 else ""
        raise InvalidParameter(name, "of finite weights", ", ".join(wrong[:5]) + more)

"""Whether two networks compute the same, and whether one computes at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from regdyn.cnn.metrics import evaluating
from regdyn.doctor.coupling import tensors_in
from regdyn.errors import InvalidParameter

EQUAL: Mapping[torch.dtype, float] = {
    torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2,
}  # fmt: skip
"""Greatest `difference` that rounding makes between networks that are the same, by type of the weights."""


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The output tensors of a network in evaluation mode."""
    with evaluating(model):
        return tensors_in(model(x))


def difference(model: nn.Module, reference: nn.Module, batches: Iterable[Tensor]) -> float:
    r"""Greatest difference between the outputs of two networks, of the greatest output of the reference.

    .. math::
        \max |y - y_0| / \max |y_0|

    over all batches, samples and outputs, in evaluation mode; infinite if shapes differ or an output of
    the first is not finite, 0 if both are 0 everywhere.
    """
    greatest, moved = 0.0, 0.0
    for x in batches:
        ours, theirs = outputs(model, x), outputs(reference, x)
        if [y.shape for y in ours] != [y.shape for y in theirs]:
            return float("inf")
        for y, y0 in zip(ours, theirs):
            if y.numel() == 0:
                continue
            apart = (y.double() - y0.double()).abs().max().item()
            moved = max(moved, apart) if apart == apart else float("inf")
            greatest = max(greatest, y0.double().abs().max().item())
    if moved == 0:
        return 0.0
    return moved / greatest if greatest > 0 else float("inf")


def check_finite(model: nn.Module) -> None:
    """InvalidParameter unless every weight is a finite number."""
    wrong = [
        f"{'NaN' if tensor.isnan().any() else 'infinity'} in {name}"
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more tensors" if len(wrong) > 5 else ""
        raise InvalidParameter("model", "of finite weights", ", ".join(wrong[:5]) + more)



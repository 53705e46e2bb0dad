"""Cutting units out of the layers of a network, whose readers take in what they passed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from regdyn.doctor.coupling import Coupling, member_at
from regdyn.doctor.kinds import CONVOLUTIONS, INSTANCE_NORMS, TRANSPOSED, is_depthwise
from regdyn.nets.sparsity import Mask

Key = tuple[str, int, int]
"""Path of a layer, group of its convolution, and number of a pattern over positions."""


@dataclass(frozen=True, eq=False)
class Read:
    """A constant that a layer reads.

    Attributes
    ----------
    column
        Of the layer's inputs.
    unit
        Whose constant it is.
    value
        The constant; the greatest one by size where the positions differ.
    key
        Constants of the same key are multiples of each other at every position, and one of them can
        carry all. None for a constant that a bias can replace.
    """

    column: int
    unit: int
    value: float
    key: Key | None


def absorb(
    model: nn.Module,
    coupling: Coupling,
    removed: Mask,
    reads: Mapping[str, Sequence[Read]],
    carriers: Mapping[Key, Read],
) -> None:
    """Give the layers that read removed units what they got from them, in place.

    Parameters
    ----------
    model
        The network that `coupling` is of, with the removed units zeroed.
    removed
        Mask of units.
    reads
        By path of the layer.
    carriers
        For each key the constant that stays.
    """
    for path, each in reads.items():
        module = model.get_submodule(path)
        weight = module.weight
        assert isinstance(weight, Tensor)
        passed_on = weight.new_zeros(outputs_of(module))
        for read in each:
            if not removed[read.unit]:
                continue
            taken = _weights_on(module, weight, read.column)
            if read.key is None:
                _weights_of_rows(module, passed_on, read.column).add_(
                    taken.reshape(len(taken), -1).sum(1), alpha=read.value
                )
            else:
                carrier = carriers[read.key]
                kept = _weights_on(module, weight, carrier.column)
                kept.add_(taken, alpha=read.value / carrier.value)
        if passed_on.any():
            _shift(model, path, coupling.normalized_by.get(path), passed_on)


def remove(model: nn.Module, coupling: Coupling, removed: Mask) -> None:
    """Cut the channels of the removed units out of every layer, in place."""
    for place, members in coupling.members.items():
        index = sorted(members.index[removed[members.unit]].tolist())
        if not index:
            continue
        member = member_at(model, place.path)
        if isinstance(member, nn.Parameter):
            _cut_parameter(model, place.path, member, index)
        elif getattr(member, "groups", 1) > 1 and not is_depthwise(member):
            _cut_grouped(member, place.side, index)
        else:
            _cutter(member, place.side)(member, index)
            if isinstance(member, INSTANCE_NORMS) and member.running_mean is not None:
                assert member.running_var is not None
                keep = _others(len(member.running_mean), index)
                member.running_mean = member.running_mean[keep]
                member.running_var = member.running_var[keep]


def padded(module: nn.Module) -> bool:
    """Whether a constant input gives outputs that differ at the borders."""
    if isinstance(module, TRANSPOSED):
        return True
    if not isinstance(module, CONVOLUTIONS) or module.padding_mode != "zeros":
        return False
    if isinstance(module.padding, str):
        return module.padding == "same" and any(size > 1 for size in module.kernel_size)
    return any(size > 0 for size in module.padding)


def block_of(module: nn.Module, side: str, channel: int) -> int:
    """The group of a convolution that a channel belongs to; 0 for a linear map."""
    return 0 if isinstance(module, nn.Linear) else channel // _block_size(module, side)


def outputs_of(module: Any) -> int:
    """How many channels a convolution or linear map has to the output side."""
    return int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)


def _block_size(module: Any, side: str) -> int:
    return int((module.in_channels if side == "in" else module.out_channels) // module.groups)


def _weights_of_rows(module: nn.Module, rows: Tensor, column: int) -> Tensor:
    """Those of the output channels that read an input channel: a view."""
    if isinstance(module, nn.Linear) or isinstance(module, TRANSPOSED):
        return rows
    outputs = _block_size(module, "out")
    block = block_of(module, "in", column)
    return rows[block * outputs : (block + 1) * outputs]


def _weights_on(module: Any, weight: Tensor, column: int) -> Tensor:
    """The weights on an input channel, (output channels, ...): a view."""
    if isinstance(module, TRANSPOSED):
        return weight[column]
    within = column if isinstance(module, nn.Linear) else column % _block_size(module, "in")
    return _weights_of_rows(module, weight, column)[:, within]


def _shift(model: nn.Module, path: str, norm_path: str | None, constant: Tensor) -> None:
    """Add a constant to the outputs of a layer, in its bias or in the mean that follows."""
    module: Any = model.get_submodule(path)
    norm: Any = None if norm_path is None else model.get_submodule(norm_path)
    if norm is not None and norm.running_mean is None:
        return  # it subtracts the mean of what it gets, and constants with it
    if module.bias is not None:
        module.bias += constant
    elif norm is not None:
        norm.running_mean -= constant
    else:
        module.bias = nn.Parameter(constant)


# Cutting


def _others(size: int, index: Sequence[int]) -> list[int]:
    gone = set(index)
    return [at for at in range(size) if at not in gone]


def _cutter(member: nn.Module, side: str) -> Callable[[nn.Module, list[int]], nn.Module]:
    """torch-pruning's function for a layer."""
    name = "batchnorm"
    if isinstance(member, nn.Linear):
        name = "linear"
    elif isinstance(member, (*CONVOLUTIONS, *TRANSPOSED)):
        name = "depthwise_conv" if is_depthwise(member) else "conv"
    elif isinstance(member, INSTANCE_NORMS):
        name = "instancenorm"
    elif isinstance(member, nn.PReLU):
        name = "prelu"
    cutter: Callable[[nn.Module, list[int]], nn.Module] = getattr(
        torch_pruning, f"prune_{name}_{'in' if side == 'in' else 'out'}_channels"
    )
    return cutter


def _cut_grouped(module: Any, side: str, index: Sequence[int]) -> None:
    """Cut as many channels from each group of a convolution; torch-pruning cuts all alike."""
    size = _block_size(module, side)
    keep = torch.tensor(_others(size * module.groups, index))
    if side == "out":
        module.weight = nn.Parameter(module.weight[keep])
        if module.bias is not None:
            module.bias = nn.Parameter(module.bias[keep])
        module.out_channels = len(keep)
        return
    blocks = module.weight.unflatten(0, (module.groups, -1))
    within = (keep % size).view(module.groups, -1)
    cut = [block[:, columns] for block, columns in zip(blocks, within)]
    module.weight = nn.Parameter(torch.cat(cut))
    module.in_channels = len(keep)


def _cut_parameter(model: nn.Module, path: str, parameter: nn.Parameter, index: Sequence[int]) -> None:
    """Cut a bare parameter along its last axis of more than one number, as torch-pruning counts it."""
    axis = max(at for at, size in enumerate(parameter.shape) if size > 1)
    keep = torch.tensor(_others(parameter.shape[axis], index))
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, nn.Parameter(parameter.index_select(axis, keep)))

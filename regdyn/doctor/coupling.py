"""Which channels of a network go together: torch-pruning's groups, checked and by name.

Source: G. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, as in torch-pruning.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch_pruning
from numpy.typing import NDArray
from torch import Tensor, nn

from regdyn.doctor.compare import tensors_in
from regdyn.doctor.kinds import CONVOLUTIONS, TRANSPOSED, Cut, Mixing, Norm, is_depthwise, mixes
from regdyn.errors import InvalidParameter
from regdyn.nets.sparsity import Mask

Index = NDArray[np.int64]

OUTPUT = "they are outputs of the network"
INPUT = "they are summed or joined with the input"
UNKNOWN = "torch-pruning cannot follow them through the network"


class Place(NamedTuple):
    """A module or bare parameter by path, and its inputs ("in"), outputs ("out") or both ("all")."""

    path: str
    side: str


@dataclass(frozen=True, eq=False)
class Members:
    """The channels of a place that belong to units: `index` in the place, `unit`, of equal length."""

    index: Index
    unit: Index


class Coupling:
    """The units of a network: sets of channels, in several layers, that only go together.

    A unit is an output channel of a convolution or linear map, with the same channel of what normalises
    it, the inputs that read it, and the channels that it is summed with in other layers.

    Attributes
    ----------
    members
        By place.
    group
        Which group of coupled layers each unit belongs to, shape (units,).
    blocked
        Why units can never go, by unit.
    normalized_by
        Path of the normalisation that alone reads the output of a module, by the path of that module.

    Raises
    ------
    InvalidParameter
        If the network does not run on the example, or torch-pruning cannot trace it.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self.members: dict[Place, Members] = {}
        self.blocked: dict[int, str] = {}
        self.normalized_by: dict[str, str] = {}
        self._model = model
        self._paths = {module: path for path, module in model.named_modules()}
        self._parameters = {parameter: path for path, parameter in model.named_parameters()}
        self._calls, self._follows = _watch(model, example)
        self._owners = Counter(
            id(parameter)
            for module in model.modules()
            for parameter in module._parameters.values()
            if parameter is not None
        )
        self._wrapped = _WithStem(model, example)
        self._graph = _trace(self._wrapped, example)
        groups = list(self._graph.get_all_groups())
        sizes = [len(group[0].idxs) for group in groups]
        self.group = np.repeat(np.arange(len(groups)), np.array(sizes, dtype=np.int64))
        self._roots = [group[0].dep for group in groups]
        self._first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._collect(groups)
        self._block_overlaps()
        self._find_norms()

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(self.group)

    @cached_property
    def readers(self) -> tuple[Place, ...]:
        """The inputs of convolutions and linear maps that mix channels."""
        return tuple(place for place in self.members if place.side == "in")

    def size(self, place: Place) -> int:
        """How many channels the place has."""
        return _size(self.get(place.path), place.side)

    def get(self, path: str) -> nn.Module | nn.Parameter:
        """The module or bare parameter at `path` of the network that was traced."""
        return member_at(self._model, path)

    @cached_property
    def uncertain(self) -> frozenset[int]:
        """Groups with layers of which torch-pruning found a part of the channels alone."""
        groups: set[int] = set()
        for place, members in self.members.items():
            if len(np.unique(members.index)) < self.size(place):
                groups |= set(self.group[members.unit].tolist())
        return frozenset(groups)

    def lost(self, units: Mask) -> list[int]:
        """Groups of which torch-pruning would remove more, or other, channels than those of `units`."""
        lost = []
        for number, (first, root) in enumerate(zip(self._first, self._roots)):
            chosen = np.flatnonzero(units & (self.group == number))
            if not len(chosen):
                continue
            removal = self._graph.get_pruning_group(
                root.target.module, root.handler, (chosen - first).tolist()
            )
            found: dict[Place, set[int]] = {}
            for item in removal:
                place = self._place(item.dep)
                if place in self.members:
                    found.setdefault(place, set()).update(item.idxs)
            wanted: dict[Place, set[int]] = {}
            for place, members in self.members.items():
                index = members.index[np.isin(members.unit, chosen)]
                if len(index):
                    wanted[place] = set(index.tolist())
            if found != wanted:
                lost.append(number)
        return lost

    # How it is built

    def _collect(self, groups: list[Any]) -> None:
        found: dict[Place, list[tuple[Index, Index]]] = {}
        for first, group in zip(self._first, groups):
            for item in group:
                unit = first + np.array(item.root_idxs, dtype=np.int64)
                index = np.array(item.idxs, dtype=np.int64)
                place = self._place(item.dep)
                reason = self._reason(item.dep.target)
                if reason:
                    self._block(unit, reason)
                if place is not None:
                    outside = (index < 0) | (index >= _size(item.dep.target.module, place.side))
                    self._block(unit[outside], UNKNOWN)
                    found.setdefault(place, []).append((index[~outside], unit[~outside]))
        for place, parts in found.items():
            index, unit = (np.concatenate(part) for part in zip(*parts))
            self.members[place] = Members(index, unit)

    def _place(self, dependency: Any) -> Place | None:
        """Where the target of a dependency has channels; None where it has nothing to cut."""
        module = dependency.target.module
        if isinstance(module, nn.Parameter):
            path = self._parameters.get(module)
            return None if path is None else Place(path, "all")
        if module not in self._paths or not isinstance(module, Cut):
            return None
        if isinstance(module, nn.PReLU) and module.num_parameters == 1:
            return None
        if not mixes(module):
            return Place(self._paths[module], "all")
        pruner = self._graph.get_pruner_of_module(module)
        side = "in" if dependency.handler == pruner.prune_in_channels else "out"
        return Place(self._paths[module], side)

    def _reason(self, node: Any) -> str:
        """Why no channel of the target of a dependency can go; "" if it can."""
        module = node.module
        if module is self._wrapped.stem:
            return INPUT
        if node.type == torch_pruning.ops.OPTYPE.OUTPUT:
            return OUTPUT
        if isinstance(module, nn.Parameter):
            return "" if self._owners[id(module)] == 1 else UNKNOWN
        if module not in self._paths:
            return ""
        if not isinstance(module, Cut):
            # Layer and group normalisation mix what they normalise; attention its heads.
            return f"a {type(module).__name__} reads them" if _has_parameters(module) else ""
        if self._calls[module] != 1:
            return f"{self._paths[module]} runs more than once"
        for name in ("weight", "bias"):
            if getattr(module, name, None) is not None and name not in module._parameters:
                return f"the {name} of {self._paths[module]} is computed from other parameters"
        if any(self._owners[id(p)] > 1 for p in module._parameters.values() if p is not None):
            return f"{self._paths[module]} shares parameters with another layer"
        grouped = getattr(module, "groups", 1) > 1 and not is_depthwise(module)
        if grouped and (isinstance(module, TRANSPOSED) or module.groups == module.out_channels):
            return f"{self._paths[module]} is a convolution in groups of unequal kinds"
        return ""

    def _block(self, units: Index, reason: str) -> None:
        for unit in units.tolist():
            self.blocked.setdefault(unit, reason)

    def _block_overlaps(self) -> None:
        """A channel in two units shows that torch-pruning has lost its way."""
        for members in self.members.values():
            order = np.argsort(members.index, kind="stable")
            index, unit = members.index[order], members.unit[order]
            same = np.flatnonzero((index[1:] == index[:-1]) & (unit[1:] != unit[:-1]))
            self._block(np.concatenate([unit[same], unit[same + 1]]), UNKNOWN)

    def _find_norms(self) -> None:
        for norm, module in self._follows.items():
            node = self._graph.module2node.get(module)
            alone = node is not None and len({id(reader) for reader in node.outputs}) == 1
            if isinstance(norm, Norm) and self._calls[norm] == 1 and alone:
                self.normalized_by[self._paths[module]] = self._paths[norm]


def member_at(model: nn.Module, path: str) -> nn.Module | nn.Parameter:
    """The module at `path`, or the parameter if there is one."""
    parent, _, name = path.rpartition(".")
    member = getattr(model.get_submodule(parent), name) if path else model
    assert isinstance(member, (nn.Module, nn.Parameter))
    return member


class _WithStem(nn.Module):
    """The network behind a layer that stands for its input, which torch-pruning does not see else."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        super().__init__()
        kinds: dict[int, type[nn.Module]] = {
            2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d
        }  # fmt: skip
        kind = kinds.get(example.ndim)
        self.stem = nn.Identity() if kind is None else kind(example.shape[1])
        self.model = model
        self.to(example.dtype)

    def forward(self, x: Tensor) -> list[Tensor]:
        # Copies: an output that is at once the output of a layer would not be seen as one.
        return [y.clone() for y in tensors_in(self.model(self.stem(x))) if y.requires_grad]


def _trace(wrapped: _WithStem, example: Tensor) -> Any:
    required = [(p, p.requires_grad) for p in wrapped.parameters()]
    try:
        for parameter, _ in required:
            parameter.requires_grad_(True)
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.filterwarnings("ignore", module="torch_pruning")
            return torch_pruning.DependencyGraph().build_dependency(
                wrapped.eval(), (example[:2],), verbose=False
            )
    except Exception as error:
        got = f"{type(wrapped.model).__name__} ({type(error).__name__}: {error})"
        raise InvalidParameter("model", "a network that torch-pruning can trace", got) from None
    finally:
        for parameter, flag in required:
            parameter.requires_grad_(flag)


@torch.no_grad()
def _watch(model: nn.Module, example: Tensor) -> tuple[Counter[nn.Module], dict[nn.Module, nn.Module]]:
    """How often each module runs, and the one whose output it reads as it is, if there is one."""
    calls: Counter[nn.Module] = Counter()
    follows: dict[nn.Module, nn.Module] = {}
    # The tensors are kept, so that no other gets their identity.
    made: dict[int, tuple[Tensor, int, nn.Module]] = {}

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls.update([module])
        x = inputs[0] if inputs else None
        if isinstance(x, Tensor) and id(x) in made:
            _, version, source = made[id(x)]
            if x._version == version:
                follows[module] = source

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and isinstance(module, Mixing):
            made[id(output)] = output, output._version, module

    handles = [module.register_forward_pre_hook(before) for module in model.modules()]
    handles += [module.register_forward_hook(after) for module in model.modules()]
    try:
        model.eval()(example[:2])
    except Exception as error:
        wanted = "a network that runs on the example in evaluation mode, in float64 on the processor"
        reason = f"{type(error).__name__} for a batch of shape {tuple(example[:2].shape)}: {error}"
        raise InvalidParameter("model", wanted, reason) from None
    finally:
        for handle in handles:
            handle.remove()
    return calls, follows


def _has_parameters(module: nn.Module) -> bool:
    return any(parameter is not None for parameter in module._parameters.values())


def _size(member: Any, side: str) -> int:
    """How many channels a module has on a side, or a bare parameter along the axis that is cut."""
    if isinstance(member, nn.Parameter):
        return next((n for n in reversed(member.shape) if n > 1), 1)
    if isinstance(member, nn.Linear):
        return member.in_features if side == "in" else member.out_features
    if isinstance(member, (*CONVOLUTIONS, *TRANSPOSED)):
        return member.in_channels if side == "in" else member.out_channels
    if isinstance(member, nn.PReLU):
        return member.num_parameters
    return int(member.num_features)

"""Removing dead filters from any network for real, without changing what it computes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from regdyn.cnn.metrics import to_numpy
from regdyn.doctor.compare import EQUAL, check_finite, difference, outputs
from regdyn.doctor.coupling import UNKNOWN, Coupling, Place
from regdyn.doctor.kinds import CONVOLUTIONS, Norm, mixes
from regdyn.doctor.probing import zero
from regdyn.doctor.removal import Plan, Removal, Site
from regdyn.errors import CheckFailed, InvalidParameter
from regdyn.nets import sparsity
from regdyn.nets.sparsity import NORM_THRESHOLD, Mask
from regdyn.parameters import check_number

ENOUGH = 4
"""Samples of the example: a network that is another is so for each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SlimLayer:
    """What became of the filters of a layer that has a criterion of its own.

    Attributes
    ----------
    name
        Path of the normalisation, or of a convolution or linear map whose filters have none.
    criterion
        "scale" for |gamma|, "norm" for the L2 norm of the weights.
    marked
        The filters that counted as dead, shape (filters,).
    removed
        Those that are gone: marked themselves, or fed by or read by marked ones alone.
    constant
        Those that stay, zeroed, to carry the constant of the removed ones to the borders of padded
        convolutions.
    spared
        The filter that was marked and stays as it was because the layer would have vanished, else None.
    stays
        How many other marked filters stay as they were, by reason.
    """

    name: str
    criterion: str
    marked: Mask
    removed: Mask
    constant: Mask
    spared: int | None
    stays: Mapping[str, int]

    @property
    def before(self) -> int:
        """Filters before the removal."""
        return len(self.marked)

    @property
    def after(self) -> int:
        """Filters after it."""
        return int(np.count_nonzero(~self.removed))

    def to_dict(self) -> dict[str, Any]:
        """All of it, masks as lists of filters, ready for JSON."""
        return {
            "name": self.name,
            "criterion": self.criterion,
            "before": self.before,
            "after": self.after,
            "marked": np.flatnonzero(self.marked).tolist(),
            "removed": np.flatnonzero(self.removed).tolist(),
            "constant": np.flatnonzero(self.constant).tolist(),
            "spared": self.spared,
            "stays": dict(self.stays),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Slimmed:
    """A network without its dead filters.

    Attributes
    ----------
    model
        The slim network, of ordinary modules, of the type and on the device of the one given.
    zeroed
        The network as it was with the filters that `model` lacks, or keeps as constants, at zero: what
        `model` computes.
    layers
        In the order of the modules.
    difference
        `difference` between the two on the example.
    """

    model: nn.Module
    zeroed: nn.Module
    layers: tuple[SlimLayer, ...]
    difference: float

    @property
    def removed(self) -> int:
        """Filters that are gone, of all layers."""
        return sum(layer.before - layer.after for layer in self.layers)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for all that the user might not expect."""
        notes = [
            f"All filters of {layer.name} are dead; filter {layer.spared}, the strongest, stays"
            for layer in self.layers
            if layer.spared is not None
        ]
        constants = {layer.name: int(np.count_nonzero(layer.constant)) for layer in self.layers}
        if any(constants.values()):
            notes.append(
                f"Kept as constants: {_counted(constants)}, which at the borders of padded "
                "convolutions pass on what all that were removed did"
            )
        reasons = dict.fromkeys(reason for layer in self.layers for reason in layer.stays)
        for reason in reasons:
            stays = {layer.name: layer.stays.get(reason, 0) for layer in self.layers}
            notes.append(f"Not removed: {_counted(stays)}, since {reason}")
        return tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        """What was removed, ready for JSON."""
        return {
            "removed": self.removed,
            "difference_from_zeroed": self.difference,
            "layers": [layer.to_dict() for layer in self.layers],
            "notes": list(self.notes),
        }


def _counted(numbers: Mapping[str, int]) -> str:
    """How many dead filters in which layers, the first few of them by name."""
    some = [f"{number} of {name}" for name, number in numbers.items() if number]
    more = f" and {len(some) - 4} more layers" if len(some) > 5 else ""
    shown = ", ".join(some[:4] if more else some)
    total = sum(numbers.values())
    return f"{total} dead filter{'s' * (total != 1)} ({shown}{more})"


def slim(
    model: nn.Module,
    example: Tensor,
    *,
    threshold: float = 1e-3,
    norm_threshold: float = NORM_THRESHOLD,
    marked: Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
) -> Slimmed:
    r"""Remove the dead filters of a network, which then computes what it did with them zeroed.

    A filter is marked if its batch or instance normalisation has :math:`|\gamma| <` `threshold`, or,
    if it has none, for an L2 norm of its weights below `norm_threshold`. Zeroed (:math:`\gamma := 0`,
    or :math:`w := 0`), it passes on a constant, such as :math:`c_j = \mathrm{ReLU}(\beta_j + \alpha)`;
    where the same channel is summed with living ones, as in a residual stream, it stays. What a layer
    that reads the constants gets from them in evaluation mode,

    .. math::
        \delta_i = \sum_j \sum_k W_{ijk} c_j,

    goes to its bias, or, without one, is subtracted from the running mean of the batch normalisation
    that follows. At the zero-padded borders of a convolution some terms of the sum over the kernel k
    are missing, and no bias does that: there one of the zeroed channels stays as the constant that it
    is, with the weights

    .. math::
        W_{ick} \leftarrow \sum_j W_{ijk} c_j / c_c

    of all of them, exact at every position and for images of any size. Constants are measured in the
    network in which all removed filters are zero, in float64, and everything is rounded once.

    Parameters
    ----------
    model
        Any network with parameters, on one device, whose layers torch-pruning can follow; it stays as
        it was.
    example
        A batch of floating-point inputs (samples, ...), of which the first 4 are used.
    threshold
        For \|gamma\|, in [0, inf).
    norm_threshold
        For the norms of weights that are not normalised, in [0, inf).
    marked
        Masks of shape (filters,) by path of a normalisation, or of a convolution or linear map whose
        filters have none, instead of the thresholds; layers that are not named have no marked filter.
    seed
        Of the noise with which constants are told from functions of the input.

    Returns
    -------
    The slim network and what was removed. Of a layer that would vanish, the filter with the greatest
    \|gamma\| (or norm) stays as it is; channels that torch-pruning loses track of stay too.

    Raises
    ------
    InvalidParameter
        For a model that is not finite, cannot be copied, does not run on the example, or is not the
        same function each time; for an example, threshold or mask that cannot be used.
    CheckFailed
        If rounding moves the outputs by more than `EQUAL` of the greatest one.

    Source: ours; `regdyn.nets.sparsity.remove_units` is the same for a chain of dense layers. Which
    channels belong together: `regdyn.doctor.coupling`.
    """
    limits = {
        "scale": check_number("threshold", threshold, "[0, inf)"),
        "norm": check_number("norm_threshold", norm_threshold, "[0, inf)"),
    }
    _check_example(example)
    check_finite(model)
    base = _copied(model).to(torch.float64).cpu().eval()
    wide = example[:ENOUGH].detach().to(torch.float64).cpu()
    coupling = Coupling(base, wide)
    first, again = (outputs(base, wide) for _ in range(2))
    finite = bool(first) and all(y.isfinite().all() for y in first)
    if not finite or not all(map(torch.equal, first, again)):
        wanted = "a network with finite tensors for outputs, the same each time in evaluation mode"
        raise InvalidParameter("model", wanted, f"a {type(model).__name__} without")
    sites = _find_sites(base, coupling)
    masks = _marks(sites, limits) if marked is None else _given(sites, marked)
    cut, plan = Removal(base, wide, coupling, sites, masks, seed).run()
    # Compared on the processor: a GPU may convolve in TF32.
    after, zeroed = _rounded(cut, model), _copied(model).cpu()
    zero(zeroed, plan.zeroed)
    moved = difference(after, zeroed, [example[:ENOUGH].cpu()])
    allowed = max(EQUAL.get(parameter.dtype, 0.0) for parameter in model.parameters())
    if not moved <= allowed:
        raise CheckFailed(
            f"the slim network differs from the zeroed one by {moved:.2g} of the greatest output, more "
            f"than the {allowed:g} that rounding may do"
        )
    place = next(model.parameters()).device
    return Slimmed(
        model=after.to(place),
        zeroed=zeroed.to(place),
        layers=_report(sites, masks, plan),
        difference=moved,
    )


# What is marked


def _find_sites(model: nn.Module, coupling: Coupling) -> dict[str, Site]:
    """Normalisations with a scale, and layers none of whose filters has one."""
    scaled = np.zeros(coupling.units, dtype=bool)
    for place, members in coupling.members.items():
        module = coupling.get(place.path)
        scaled[members.unit] |= isinstance(module, Norm) and module.weight is not None
    sites = {}
    for path, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is None or not isinstance(module, (*Norm, *CONVOLUTIONS, nn.Linear)):
            continue
        unit = np.full(len(weight), -1, dtype=np.int64)
        own = coupling.members.get(Place(path, "out" if mixes(module) else "all"))
        if own is not None:
            unit[own.index] = own.unit
        if isinstance(module, Norm):
            sites[path] = Site("scale", np.abs(to_numpy(weight)), unit)
        elif not scaled[unit[unit >= 0]].any():
            sites[path] = Site("norm", sparsity.weight_norms(to_numpy(weight)), unit)
    return sites


def _marks(sites: Mapping[str, Site], limits: Mapping[str, float]) -> dict[str, Mask]:
    inactive = {"scale": sparsity.inactive_by_scale, "norm": sparsity.inactive_by_norm}
    return {
        path: inactive[site.criterion](site.strength, limits[site.criterion])
        for path, site in sites.items()
    }


def _given(sites: Mapping[str, Site], marked: Mapping[str, ArrayLike]) -> dict[str, Mask]:
    masks = {path: np.zeros(len(site.unit), dtype=bool) for path, site in sites.items()}
    for path, given in marked.items():
        if path not in sites:
            known = ", ".join([*sites][:8]) + ("…" if len(sites) > 8 else "")
            raise InvalidParameter("marked", f"masks for layers of the network ({known})", path)
        mask = np.asarray(given)
        if mask.dtype != np.bool_ or mask.shape != masks[path].shape:
            wanted = f"a mask of {len(masks[path])} True or False for {path}"
            raise InvalidParameter("marked", wanted, f"{mask.dtype} of shape {mask.shape}")
        masks[path] = mask
    return masks


def _report(sites: Mapping[str, Site], marked: Mapping[str, Mask], plan: Plan) -> tuple[SlimLayer, ...]:
    layers = []
    for path, site in sites.items():
        known = site.unit >= 0

        def of_units(units: Mask, known: Mask = known, site: Site = site) -> Mask:
            mask = known.copy()
            mask[known] = units[site.unit[known]]
            return mask

        removed, constant = of_units(plan.removed), of_units(plan.constant)
        spared: int | None = None
        stays: dict[str, int] = {}
        for channel in np.flatnonzero(marked[path] & ~removed & ~constant).tolist():
            unit = int(site.unit[channel])
            if unit in plan.spared:
                spared = channel
            else:
                reason = plan.reasons.get(unit, UNKNOWN)
                stays[reason] = stays.get(reason, 0) + 1
        layers.append(
            SlimLayer(
                name=path, criterion=site.criterion, marked=marked[path], removed=removed,
                constant=constant, spared=spared, stays=stays,
            )
        )  # fmt: skip
    return tuple(layers)


# Copies


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        got = f"{type(model).__name__} ({type(error).__name__}: {error})"
        raise InvalidParameter("model", "a network that can be copied", got) from None


def _rounded(cut: nn.Module, model: nn.Module) -> nn.Module:
    """The slim network in the types and modes of the one that it was made of."""
    known: dict[str, Tensor] = dict(model.named_buffers(remove_duplicate=False))
    known.update(model.named_parameters(remove_duplicate=False))
    made: dict[Tensor, Tensor] = {}
    for path, module in cut.named_modules():
        module.training = model.get_submodule(path).training
        prefix = f"{path}." if path else ""
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                # A bias that is new is like the weights beside it.
                like = known.get(prefix + name, known.get(f"{prefix}weight"))
                assert like is not None
                if tensor not in made:
                    rounded = tensor.detach().to(like.dtype)
                    parameter = isinstance(tensor, nn.Parameter)
                    made[tensor] = nn.Parameter(rounded, like.requires_grad) if parameter else rounded
                tensors[name] = made[tensor]
    return cut


def _check_example(example: Tensor) -> None:
    wanted = "a batch of finite floating-point numbers (samples, ...)"
    if not isinstance(example, Tensor):
        raise InvalidParameter("example", wanted, type(example).__name__)
    if example.ndim < 2 or len(example) == 0 or not example.is_floating_point():
        raise InvalidParameter("example", wanted, f"{example.dtype} of shape {tuple(example.shape)}")
    if not example.isfinite().all():
        raise InvalidParameter("example", wanted, "NaN or infinity in it")

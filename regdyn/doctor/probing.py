"""What the channels of a network are once some are zeroed: constants, or functions of the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regdyn.doctor.kinds import Mixing, Norm
from regdyn.nets.sparsity import Mask

FEW, MANY = 4, 32
"""Samples of noise for a first look and for the last: a channel that ReLU hides for half of all noise
passes for a constant with probability 2^-32 then."""

AT_ONCE = 8

SCALES = (1e-2, 1e4)
"""Range of the std of the noise, in units of the greatest shift of a normalisation (at least 1)."""

SAME = 1e-9
"""Relative difference up to which float64 results of the same sums in another order are the same."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a convolution or linear map reads in a network with zeroed channels.

    Attributes
    ----------
    fixed
        Whether a channel (of a linear map: a feature) is the same for every input of the network,
        shape (channels,).
    maps
        Its values where it is fixed, shape (channels, positions).
    """

    fixed: Tensor
    maps: Tensor


def zero(model: nn.Module, marked: Mapping[str, Mask]) -> None:
    """Set the scales of marked channels to 0, of a convolution or linear map the weights, in place.

    Parameters
    ----------
    model
        Any network.
    marked
        By path of the module, a mask of its output channels.
    """
    with torch.no_grad():
        for weight, rows in _rows(model, marked):
            weight[rows] = 0


@contextmanager
def zeroed(model: nn.Module, marked: Mapping[str, Mask]) -> Iterator[None]:
    """The model as `zero` makes it for a while."""
    kept = [(weight, rows, weight[rows].clone()) for weight, rows in _rows(model, marked)]
    zero(model, marked)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, rows, values in kept:
                weight[rows] = values


def _rows(model: nn.Module, marked: Mapping[str, Mask]) -> Iterator[tuple[Tensor, Tensor]]:
    for path, mask in marked.items():
        weight = model.get_submodule(path).weight
        assert isinstance(weight, Tensor)
        yield weight, torch.as_tensor(mask, device=weight.device)


def probe(
    model: nn.Module, paths: Sequence[str], example: Tensor, samples: int, seed: int
) -> dict[str, Inputs]:
    r"""What reaches the convolutions and linear maps at `paths`, and whether the input can change it.

    To look at a few inputs would not do: a ReLU that is off for all of them looks like a constant. So
    whatever changes with the input at all is replaced, behind every layer with weights, by noise
    :math:`s_n z`, z standard normal and :math:`\log s_n` uniform over `SCALES` for each sample n, which
    drives every channel that is no constant through the whole range of what reads it.

    Parameters
    ----------
    model
        In evaluation mode and float64, the channels in question zeroed by `zero`.
    paths
        Of modules that read several channels.
    example
        A batch for the network; only its shape and type count.
    samples
        How many of noise, two at least.
    seed
        Of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = _Noise(_greatest_shift(model), generator)
    seen: dict[str, list[Tensor]] = {path: [] for path in paths}

    def watch(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs:
                seen[path].append(_by_channel(module, inputs[0]))

        return look

    handles = [
        module.register_forward_hook(noise)
        for module in model.modules()
        if isinstance(module, (*Mixing, *Norm))
    ]
    handles += [model.get_submodule(path).register_forward_pre_hook(watch(path)) for path in paths]
    fixed: dict[str, Tensor] = {}
    maps: dict[str, Tensor] = {}
    try:
        with torch.no_grad():
            for _ in range(0, samples, AT_ONCE):
                size = min(samples, AT_ONCE)
                model(noise.like(example.new_empty(size, *example.shape[1:])))
                for path, batches in seen.items():
                    for batch in batches:
                        first = maps.setdefault(path, batch[0].clone())
                        same = ~changes(batch, first)
                        fixed[path] = fixed.get(path, same) & same
                    batches.clear()
    finally:
        for handle in handles:
            handle.remove()
    return {path: Inputs(fixed[path], maps[path]) for path in fixed}


def changes(batch: Tensor, first: Tensor) -> Tensor:
    """Which channels of (samples, channels, positions) differ from those of the sample `first`."""
    size = first.abs().amax(1)
    allowed = SAME * size + 1e-3 * SAME * size.nan_to_num(0, 0, 0).max()
    # What is not finite changes.
    return ~((batch - first).abs().amax((0, 2)) <= allowed)


class _Noise:
    """A forward hook that replaces the channels which change from sample to sample."""

    def __init__(self, unit: float, generator: torch.Generator) -> None:
        self._unit = unit
        self._generator = generator

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        values = _by_channel(module, output)
        changing = changes(values, values[0])
        if not changing.any():
            return output
        axis = _channel_axis(module, output)
        shape = [-1 if at == axis else 1 for at in range(output.ndim)]
        return torch.where(changing.view(shape), self.like(output), output)

    def like(self, x: Tensor) -> Tensor:
        """Noise of the shape of x."""
        low, high = (torch.tensor(each * self._unit).log() for each in SCALES)
        drawn = torch.rand(len(x), generator=self._generator, dtype=torch.float64)
        scale = (low + (high - low) * drawn).exp().view(-1, *[1] * (x.ndim - 1))
        return (scale * torch.randn(x.shape, generator=self._generator, dtype=torch.float64)).to(x)


def _greatest_shift(model: nn.Module) -> float:
    shifts = [
        module.bias.abs().max().item()
        for module in model.modules()
        if isinstance(module, Norm) and module.bias is not None and module.bias.numel()
    ]
    return max([1.0, *shifts])


def _channel_axis(module: nn.Module, x: Tensor) -> int:
    return x.ndim - 1 if isinstance(module, nn.Linear) else 1


def _by_channel(module: nn.Module, x: Tensor) -> Tensor:
    """(samples, channels, positions) of what a layer reads or returns."""
    if x.ndim == 1:
        return x[None, :, None]
    moved = x.movedim(_channel_axis(module, x), 1)
    return moved.reshape(*moved.shape[:2], -1)

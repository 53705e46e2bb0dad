"""What removing filters did to a network: its outputs, its errors, its size and its speed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regdyn.doctor.compare import Gap, outputs
from regdyn.doctor.cost import Cost, Latency, compare_latency, network_cost
from regdyn.doctor.inputs import Inputs
from regdyn.doctor.slimming import Slimmed


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A network next to its slim version.

    Attributes
    ----------
    samples
        How many inputs both got.
    difference
        `Gap` between the outputs of the slim network and those of the original.
    difference_from_zeroed
        The same with the dead filters of the original at zero: rounding alone.
    error_before, error_after
        Shares of the samples whose class is not the greatest output; None without labels, or if there
        is not one output for each class.
    before, after
        Costs.
    latency
        Of one batch.
    """

    samples: int
    difference: float
    difference_from_zeroed: float
    error_before: float | None
    error_after: float | None
    before: Cost
    after: Cost
    latency: Latency

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def measure_effect(
    model: nn.Module,
    slimmed: Slimmed,
    inputs: Inputs,
    *,
    threads: int = 1,
    seconds: float = 4.0,
    progress: Callable[[int], object] = lambda samples: None,
) -> Effect:
    """Compare a network with its slim version, in evaluation mode.

    Parameters
    ----------
    model
        The original.
    slimmed
        What `slim` made of it.
    inputs
        What both get; the latency is that of the first batch.
    threads, seconds
        As for `compare_latency`.
    progress
        Told after each batch how many samples it had.

    Raises
    ------
    InvalidParameter
        For threads or seconds out of range.
    """
    from_original, from_zeroed = Gap(), Gap()
    samples = wrong_before = wrong_after = 0
    labelled = inputs.classes is not None
    for x, labels in inputs:
        before, after = outputs(model, x), outputs(slimmed.model, x)
        from_original.add(after, before)
        from_zeroed.add(after, outputs(slimmed.zeroed, x))
        samples += len(x)
        labelled &= [y.shape for y in before] == [(len(x), inputs.classes)]
        if labelled and labels is not None:
            wrong_before += _wrong(before[0], labels)
            wrong_after += _wrong(after[0], labels)
        progress(len(x))
    first = inputs.first
    return Effect(
        samples=samples,
        difference=from_original.value,
        difference_from_zeroed=from_zeroed.value,
        error_before=wrong_before / samples if labelled else None,
        error_after=wrong_after / samples if labelled else None,
        before=network_cost(model, first),
        after=network_cost(slimmed.model, first),
        latency=compare_latency(model, slimmed.model, first, threads=threads, seconds=seconds),
    )


def _wrong(logits: Tensor, labels: Tensor) -> int:
    return int(torch.count_nonzero(logits.argmax(1) != labels))

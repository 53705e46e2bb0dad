"""What removing filters did to a network: its outputs, its errors, its size and its speed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regdyn.doctor.compare import Gap, outputs
from regdyn.doctor.cost import Cost, Latency, compare_latency, network_cost
from regdyn.doctor.inputs import Batch
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
        Shares of the samples whose class is not the greatest output; None without labels.
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
    batches: Iterable[Batch],
    *,
    threads: int = 1,
    seconds: float = 4.0,
) -> Effect:
    """Compare a network with its slim version, in evaluation mode.

    Parameters
    ----------
    model
        The original.
    slimmed
        What `slim` made of it.
    batches
        Inputs (samples, ...), at least one batch, with labels (samples,) or None for all. The first
        batch is what the latency is measured on.
    threads, seconds
        As for `compare_latency`.

    Raises
    ------
    InvalidParameter
        For threads or seconds out of range.
    """
    from_original, from_zeroed = Gap(), Gap()
    samples = wrong_before = wrong_after = 0
    labelled = True
    first: Tensor | None = None
    for x, labels in batches:
        first = x if first is None else first
        before, after = outputs(model, x), outputs(slimmed.model, x)
        from_original.add(after, before)
        from_zeroed.add(after, outputs(slimmed.zeroed, x))
        samples += len(x)
        labelled &= labels is not None and len(before) == 1 and before[0].ndim == 2
        if labelled and labels is not None:
            wrong_before += _wrong(before[0], labels)
            wrong_after += _wrong(after[0], labels)
    assert first is not None, "there is a batch"
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

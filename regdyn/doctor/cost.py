"""What a network costs: parameters, arithmetic, and time next to another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from regdyn.cnn.metrics import evaluating
from regdyn.parameters import check_integer, check_number

ROUNDS = (5, 60)
"""Fewest and most pairs of runs of `compare_latency`."""

SHORTEST = 5e-3
"""Seconds that one of its timings takes at least, so that the clock and Python do not matter."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network costs.

    Attributes
    ----------
    parameters
        How many there are, running statistics not counted.
    flops
        Floating-point operations of a forward pass of one sample: two for each multiplication and
        addition in convolutions and matrix products, padding included, and none for anything else, as
        `torch.utils.flop_counter` counts. Twice the number of multiplications that papers often give.
    """

    parameters: int
    flops: int


def network_cost(model: nn.Module, example: Tensor) -> Cost:
    """Count the parameters and FLOPs of a network; the model stays as it was.

    Parameters
    ----------
    model
        Any network.
    example
        A batch for it (samples, ...), of which the first sample is taken.
    """
    with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(example[:1])
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops=int(counter.get_total_flops()),
    )


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds that two networks take for a batch, measured in turns.

    Attributes
    ----------
    before, after
        Quartiles of the seconds for a batch.
    speedup
        Quartiles of the ratios before / after of the pairs: how many times as fast the second is.
    batch, threads, pairs
        Samples of the batch, threads of torch on a processor, and pairs measured.
    device
        Where it ran.
    """

    before: tuple[float, float, float]
    after: tuple[float, float, float]
    speedup: tuple[float, float, float]
    batch: int
    threads: int
    pairs: int
    device: str

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def compare_latency(
    before: nn.Module, after: nn.Module, batch: Tensor, *, threads: int = 1, seconds: float = 4.0
) -> Latency:
    """Time forward passes of two networks in turns, in evaluation mode.

    Each pair takes its turns in the other order than the last, after some runs that do not count, so
    that a machine that is shared or slows down slows both.

    Parameters
    ----------
    before, after
        On the device of the batch.
    batch
        (samples, ...).
    threads
        Of torch on a processor, in [1, 1024].
    seconds
        After which no new pair begins, in (0, inf); there are at least 5 pairs and at most 60.

    Raises
    ------
    InvalidParameter
        For threads or seconds out of range.
    """
    threads = check_integer("threads", threads, 1, 1024)
    limit = check_number("seconds", seconds, "(0, inf)")
    times: list[tuple[float, float]] = []
    with evaluating(before), evaluating(after), torch.inference_mode(), _threads(threads):
        for _ in range(2):
            once = _seconds(before, batch, 1), _seconds(after, batch, 1)
        repeats = [max(1, round(SHORTEST / each)) for each in once]
        begin = time.perf_counter()
        while len(times) < ROUNDS[0] or (
            len(times) < ROUNDS[1] and time.perf_counter() - begin < limit
        ):
            if len(times) % 2:
                second = _seconds(after, batch, repeats[1])
                times.append((_seconds(before, batch, repeats[0]), second))
            else:
                first = _seconds(before, batch, repeats[0])
                times.append((first, _seconds(after, batch, repeats[1])))
    return Latency(
        before=_quartiles([pair[0] for pair in times]),
        after=_quartiles([pair[1] for pair in times]),
        speedup=_quartiles([pair[0] / pair[1] for pair in times]),
        batch=len(batch),
        threads=threads,
        pairs=len(times),
        device=str(batch.device),
    )


def _seconds(model: nn.Module, batch: Tensor, repeats: int) -> float:
    """Mean seconds of a forward pass."""
    _wait(batch)
    begin = time.perf_counter()
    for _ in range(repeats):
        model(batch)
    _wait(batch)
    return (time.perf_counter() - begin) / repeats


def _wait(batch: Tensor) -> None:
    if batch.device.type == "cuda":
        torch.cuda.synchronize(batch.device)


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


@contextmanager
def _threads(number: int) -> Iterator[None]:
    kept = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(kept)

"""What to say where a batch does not fit into memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from regdyn.cnn.config import CnnConfig
from regdyn.errors import InvalidParameter


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says so, in any of its ways: on a processor it has no error of its own for it."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


@contextmanager
def named_by_batch(config: CnnConfig, attempt: Callable[[int], None]) -> Iterator[None]:
    """Out of memory becomes InvalidParameter for "batch", with the largest half, quarter, … that fits.

    `attempt` takes a step with a batch of that size and may run out of memory as well.
    """
    try:
        yield
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Not in the handler: the error holds on to what was being computed.
    fitting = _largest(config.batch // 2, attempt)
    wanted = f"at most {fitting} to fit into the memory of the device"
    if fitting == 0:
        wanted = "used with a smaller model: not even 2 samples fit into the memory of the device"
    raise InvalidParameter("batch", wanted, config.batch)


def _largest(batch: int, attempt: Callable[[int], None]) -> int:
    while batch >= 2:
        _release()
        try:
            attempt(batch)
            return batch
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        batch //= 2
    return 0


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

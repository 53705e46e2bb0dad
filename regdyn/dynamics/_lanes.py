"""What the kernels of all systems do with a block of lanes."""

from __future__ import annotations

from typing import Any

import numpy as np

from regdyn.dynamics._jit import bits_of, inlined

# Columns of the table of the decay.
L2, BEFORE, AFTER = range(3)

# Columns of the table that says where in the tables of constants, of scales and of decays the steps of
# a point begin, and whether there is a row for each step (1) or one for all (0).
RULE, EACH_RULE, SCALE, EACH_SCALE, DECAY, EACH_DECAY = range(6)


@inlined
def copy(source: Any, target: Any) -> None:
    # Slice assignment in numba allows for overlap and does not vectorise.
    for i in range(len(target)):
        target[i] = source[i]


@inlined
def flush(rows: Any, tiny: Any, zero: Any) -> Any:
    """Set theta and state to 0 below `tiny`; True if any was."""
    found = 0
    for j in range(len(rows)):
        x = rows[j]
        magnitude = abs(x)
        found |= 1 if (magnitude < tiny) & (magnitude > zero) else 0
    if found != 0:
        for j in range(len(rows)):
            if abs(rows[j]) < tiny:
                rows[j] = zero
    return found != 0


@inlined
def read_codes(codes: Any, t: Any, first: Any, count_of: Any) -> None:
    """Count the bits of the codes and find their lowest ones, for steps t + 1 … t + 16."""
    for i in range(len(codes)):
        code = codes[i]
        lowest = np.float64(code & -code)
        step = t + 1 + np.int64(bits_of(lowest) >> np.uint64(52)) - 1023
        if first[i] < 0 and code != 0:
            first[i] = step
        count = code - ((code >> 1) & 0x5555)
        count = (count & 0x3333) + ((count >> 2) & 0x3333)
        count = (count + (count >> 4)) & 0x0F0F
        count_of[i] += (count + (count >> 8)) & 0x1F

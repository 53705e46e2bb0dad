"""The compiled loop of one weight: lanes inside, then points that see the same noise, time outside."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from regdyn.dynamics._jit import inlined, kernel, use_wide_vectors
from regdyn.dynamics._lanes import (
    AFTER,
    BEFORE,
    DECAY,
    EACH_DECAY,
    EACH_RULE,
    EACH_SCALE,
    L2,
    RULE,
    SCALE,
    copy,
    flush,
    read_codes,
)  # fmt: skip
from regdyn.dynamics.random import CHUNK, LANES, NOISE_NONE, fill

# Columns of what is a point's own and does not change with the steps.
STRENGTH, TARGET, THRESHOLD = range(3)

_N_UNITS = CHUNK + 1


@inlined
def weight_step(
    rule: Any, theta: Any, z: Any, state: Any, c: Any,
    sigma: Any, l2: Any, before: Any, after: Any, strength: Any, target: Any, plain: Any,
) -> Any:  # fmt: skip
    """One step of one weight: noise, signal and decay around the update rule.

    `plain` says that strength is 0 and after is 1, and leaves out what then changes nothing.
    """
    g = sigma * z + l2 * theta
    if not plain:
        g += strength * (theta - target)
    theta, state = rule.step(before * theta, g, state, c)
    if not plain:
        theta *= after
    return theta, state


@inlined
def _step_lanes(
    rule: Any, theta: Any, z: Any, after_step: Any, rows: Any, c: Any,
    sigma: Any, l2: Any, before: Any, after: Any, strength: Any, target: Any, one: Any,
) -> None:  # fmt: skip
    """One step of the lanes of a point under the noise z, from `theta` to `after_step`."""
    width = len(after_step)
    # The compiler makes two loops of this one. In the plain one all constants fit into registers,
    # and it is 1.25 times as fast.
    plain = (strength == 0) & (after == one)
    for i in range(width):
        after_step[i], state = weight_step(
            rule, theta[i], z[i], rule.load(rows, width, i), c,
            sigma, l2, before, after, strength, target, plain,
        )  # fmt: skip
        rule.store(rows, width, i, state)


@inlined
def _encode(history: Any, codes: Any, threshold: Any, overflow: Any, units: Any) -> Any:
    """Bit k of codes[lane]: was the lane below the threshold after step k?

    Returns whether any lane was below, and whether any may have left the range.
    """
    width = len(codes)
    below: Any = 0
    wild = 0
    bits = to_fixed_tuple(units, _N_UNITS)
    zero = bits[CHUNK]
    for i in range(width):
        code = zero
        total = zero
        for k in range(CHUNK):
            magnitude = abs(history[k * width + i])
            code += bits[k] if magnitude < threshold else zero
            total += magnitude
        codes[i] = np.int64(code)
        below |= np.int64(code)
        wild |= 0 if total <= overflow else 1
    return below != 0, wild != 0


@inlined
def _find_divergence(history: Any, steps: Any, t: Any, overflow: Any, diverged: Any) -> None:
    width = len(diverged)
    for k in range(steps):
        for i in range(width):
            if not abs(history[k * width + i]) <= overflow and diverged[i] < 0:
                diverged[i] = t + k + 1


@kernel
def advance(
    rule: Any, rows: Any, streams: Any, words: Any, z: Any, history: Any, codes: Any,
    first_block: Any, last_block: Any, t0: Any, length: Any,
    constants: Any, scales: Any, decays: Any, which: Any, own: Any,
    noise_kind: Any, noise_parameter: Any, trace: Any, first_lane: Any,
    tiny: Any, overflow: Any, units: Any,
    first_passage: Any, steps_below: Any, diverged: Any, flushed: Any,
    records: Any, snapshots: Any, paths: Any,
) -> None:  # fmt: skip
    """Carry blocks first_block … last_block - 1 through steps t0 + 1 … t0 + length.

    A block is the same `width` trajectories of every point: they see the same noise.

    Parameters
    ----------
    rows
        (points, blocks, (1 + states) * width): theta, then the state, a row of lanes for each number.
    streams
        (blocks, 4 * STREAMS), the random streams.
    words, z, history, codes
        Scratch of WORDS uint64, of CHUNK * LANES and CHUNK * width numbers and of width int64.
    constants, scales, decays
        Tables of the rule's constants (rows, constants), of the factor on the noise (rows,), and of the
        decay (rows, 3) with the columns L2, BEFORE, AFTER.
    which
        (points, 6): where in these tables a point's steps stand, in columns from RULE to EACH_DECAY.
    own
        (points, 3): the columns STRENGTH, TARGET, THRESHOLD.
    first_lane
        Index of the first trajectory of the batch in the run.
    units
        2^0 … 2^(CHUNK - 1), then 0, in the type of `rows`.
    first_passage, steps_below, diverged
        (points, lanes): first step below the threshold or -1, number of steps below it, first step at
        which |theta| <= overflow failed or -1.
    flushed
        (points, blocks): first step after which a number was set to 0, or -1.
    records, snapshots
        Sorted steps in this call, t0 = 0 among them, and theta of every lane at each of them, shape
        (records, 1, points, lanes).
    paths
        (length, kept) theta of the first trajectories of the only point after every step.
    """
    use_wide_vectors()
    width = len(codes)
    n_paths = paths.shape[1]
    for block in range(first_block, last_block):
        lane0 = block * width
        lanes = slice(lane0, lane0 + width)
        record = 0
        if len(records) > 0 and records[0] == t0:
            for point in range(len(rows)):
                copy(rows[point, block], snapshots[0, 0, point, lanes])
            record = 1
        for start in range(0, length, CHUNK):
            steps = min(CHUNK, length - start)
            t = t0 + start
            if noise_kind == NOISE_NONE:
                z[:] = units[CHUNK]
            else:
                fill(noise_kind, noise_parameter, streams[block], words, trace, start,
                     first_lane + lane0, z)  # fmt: skip
            for point in range(len(rows)):
                row = rows[point, block]
                at = which[point]
                threshold = own[point, THRESHOLD]
                theta = row[:width]
                for k in range(steps):
                    after_step = history[k * width : (k + 1) * width]
                    now = start + k
                    decay = decays[at[DECAY] + at[EACH_DECAY] * now]
                    _step_lanes(
                        rule, theta, z[k * LANES : k * LANES + width], after_step, row,
                        rule.constants_at(constants, at[RULE] + at[EACH_RULE] * now),
                        scales[at[SCALE] + at[EACH_SCALE] * now],
                        decay[L2], decay[BEFORE], decay[AFTER],
                        own[point, STRENGTH], own[point, TARGET], units[0],
                    )  # fmt: skip
                    theta = after_step
                copy(theta, row[:width])
                for k in range(steps, CHUNK):
                    # Steps after the end must not look like steps below the threshold.
                    history[k * width : (k + 1) * width] = threshold
                any_below, any_wild = _encode(history, codes, threshold, overflow, units)
                if any_below:
                    read_codes(codes, t, first_passage[point, lanes], steps_below[point, lanes])
                if any_wild:
                    _find_divergence(history, steps, t, overflow, diverged[point, lanes])
                if flush(row, tiny, units[CHUNK]) and flushed[point, block] < 0:
                    flushed[point, block] = t + steps
                next_record = record
                while next_record < len(records) and records[next_record] <= t + steps:
                    k = records[next_record] - t - 1
                    copy(history[k * width : (k + 1) * width], snapshots[next_record, 0, point, lanes])
                    next_record += 1
                for i in range(min(width, n_paths - first_lane - lane0)):
                    for k in range(steps):
                        paths[start + k, first_lane + lane0 + i] = history[k * width + i]
            while record < len(records) and records[record] <= t + steps:
                record += 1

"""The compiled loop of one weight: lanes inside, time outside."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from regdyn.dynamics._jit import inlined, kernel, use_wide_vectors
from regdyn.dynamics._lanes import AFTER, BEFORE, L2, SIGMA, copy, flush, read_codes
from regdyn.dynamics.random import CHUNK, LANES, NOISE_NONE, fill

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
    rule: Any, theta: Any, z: Any, rows: Any, c: Any,
    sigma: Any, l2: Any, before: Any, after: Any, strength: Any, target: Any, one: Any,
) -> None:  # fmt: skip
    """Replace the noise z of one step by theta after it; `theta` is theta before it."""
    # The compiler makes two loops of this one. In the plain one all constants fit into registers,
    # and it is 1.25 times as fast.
    plain = (strength == 0) & (after == one)
    for i in range(LANES):
        z[i], state = weight_step(
            rule, theta[i], z[i], rule.load(rows, LANES, i), c,
            sigma, l2, before, after, strength, target, plain,
        )  # fmt: skip
        rule.store(rows, LANES, i, state)


@inlined
def _encode(history: Any, codes: Any, threshold: Any, overflow: Any, units: Any) -> Any:
    """Bit k of codes[lane]: was the lane below the threshold after step k?

    Returns whether any lane was below, and whether any may have left the range.
    """
    below: Any = 0
    wild = 0
    bits = to_fixed_tuple(units, _N_UNITS)
    zero = bits[CHUNK]
    for i in range(LANES):
        code = zero
        total = zero
        for k in range(CHUNK):
            magnitude = abs(history[k * LANES + i])
            code += bits[k] if magnitude < threshold else zero
            total += magnitude
        codes[i] = np.int64(code)
        below |= np.int64(code)
        wild |= 0 if total <= overflow else 1
    return below != 0, wild != 0


@inlined
def _find_divergence(history: Any, steps: Any, t: Any, overflow: Any, diverged: Any) -> None:
    for k in range(steps):
        for i in range(LANES):
            if not abs(history[k * LANES + i]) <= overflow and diverged[i] < 0:
                diverged[i] = t + k + 1


@kernel
def advance(
    rule: Any, rows: Any, streams: Any, words: Any, history: Any, codes: Any,
    first_block: Any, last_block: Any, t0: Any, length: Any,
    constants: Any, system: Any, strength: Any, target: Any,
    noise_kind: Any, noise_parameter: Any, trace: Any, first_lane: Any,
    threshold: Any, tiny: Any, overflow: Any, units: Any,
    first_passage: Any, steps_below: Any, diverged: Any, flushed: Any,
    records: Any, snapshots: Any, paths: Any,
) -> None:  # fmt: skip
    """Carry blocks first_block … last_block - 1 through steps t0 + 1 … t0 + length.

    Parameters
    ----------
    rows
        (blocks, (1 + states) * LANES): theta, then the state, a row of lanes for each number.
    streams
        (blocks, 4 * STREAMS), the random streams.
    words, history, codes
        Scratch of WORDS uint64, of CHUNK * LANES numbers and of LANES int64.
    constants, system
        Per step: the rule's constants, and the columns SIGMA, L2, BEFORE, AFTER.
    first_lane
        Index of the first trajectory of the batch in the run.
    units
        2^0 … 2^(CHUNK - 1), then 0, in the type of `rows`.
    first_passage, steps_below, diverged
        Per lane of the batch: first step below the threshold or -1, number of steps below it, first
        step at which |theta| <= overflow failed or -1.
    flushed
        Per block: first step after which a number was set to 0, or -1.
    records, snapshots
        Sorted steps in this call, t0 = 0 among them, and theta of every lane at each of them.
    paths
        (length, kept) theta of the first trajectories of the run after every step.
    """
    use_wide_vectors()
    n_paths = paths.shape[1]
    for block in range(first_block, last_block):
        row = rows[block]
        lane0 = block * LANES
        lanes = slice(lane0, lane0 + LANES)
        next_record = 0
        if len(records) > 0 and records[0] == t0:
            copy(row, snapshots[0, 0, lanes])
            next_record = 1
        for start in range(0, length, CHUNK):
            steps = min(CHUNK, length - start)
            if noise_kind == NOISE_NONE:
                history[:] = units[CHUNK]
            else:
                fill(noise_kind, noise_parameter, streams[block], words, trace, start,
                     first_lane + lane0, history)  # fmt: skip
            theta = row[:LANES]
            for k in range(steps):
                s = system[start + k]
                z = history[k * LANES : (k + 1) * LANES]
                _step_lanes(
                    rule, theta, z, row, rule.constants_at(constants, start + k),
                    s[SIGMA], s[L2], s[BEFORE], s[AFTER], strength, target, units[0],
                )  # fmt: skip
                theta = z
            copy(theta, row)
            for k in range(steps, CHUNK):
                # Steps after the end must not look like steps below the threshold.
                history[k * LANES : (k + 1) * LANES] = threshold
            t = t0 + start
            any_below, any_wild = _encode(history, codes, threshold, overflow, units)
            if any_below:
                read_codes(codes, t, first_passage[lanes], steps_below[lanes])
            if any_wild:
                _find_divergence(history, steps, t, overflow, diverged[lanes])
            if flush(row, tiny, units[CHUNK]) and flushed[block] < 0:
                flushed[block] = t + steps
            while next_record < len(records) and records[next_record] <= t + steps:
                k = records[next_record] - t - 1
                copy(history[k * LANES : (k + 1) * LANES], snapshots[next_record, 0, lanes])
                next_record += 1
            for i in range(min(LANES, n_paths - first_lane - lane0)):
                for k in range(steps):
                    paths[start + k, first_lane + lane0 + i] = history[k * LANES + i]

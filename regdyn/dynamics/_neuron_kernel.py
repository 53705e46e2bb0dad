"""The compiled loop of one BN+ReLU unit: lanes inside, then points, samples and time outside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

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
    flush,
    read_codes,
)  # fmt: skip
from regdyn.dynamics.random import CHUNK, LANES, fill_gaussian

# Rows of what is recorded of every unit.
ACTIVATION, INACTIVATION, GAMMA, BETA, DEAD = range(5)
N_OBSERVABLES = 5

# Columns of what is a point's own and does not change with the steps.
ALPHA, RATIO = range(2)

# Rows of what a lane collects within a step, and within CHUNK steps.
SUM_GAMMA, SUM_BETA, DEATHS, ESCAPES = range(4)
N_COLLECTED = 4

_ROOT_HALF = math.sqrt(0.5)
_TWINS = LANES // 2


@inlined
def _pair_up(z: Any) -> None:
    """Give the second half of the lanes the inputs of the first and the opposite gradients."""
    for row in range(0, CHUNK, 2):
        x, g = row * LANES, (row + 1) * LANES
        for i in range(_TWINS):
            z[x + _TWINS + i] = z[x + i]
            z[g + _TWINS + i] = -z[g + i]


@inlined
def _add_sample(
    gamma: Any, beta: Any, x: Any, g: Any, alpha: Any, zero: Any, sum_gamma: Any, sum_beta: Any
) -> None:
    """Add to the sums over the batch what one sample sends to gamma and beta."""
    for i in range(len(sum_gamma)):
        passed = g[i] if gamma[i] * x[i] + (beta[i] + alpha) > zero else zero
        sum_gamma[i] += passed * x[i]
        sum_beta[i] += passed


@inlined
def _update(
    rule: Any, rows: Any, gradient: Any, c: Any, scale: Any, l2: Any, before: Any, after: Any
) -> None:
    """One step of one parameter: decay around the update rule; rows hold it and its state."""
    width = len(gradient)
    for i in range(width):
        theta = rows[i]
        g = scale * gradient[i] + l2 * theta
        theta, state = rule.step(before * theta, g, rule.load(rows, width, i), c)
        rows[i] = after * theta
        rule.store(rows, width, i, state)


@inlined
def _mark(
    gamma: Any, beta: Any, alpha: Any, ratio: Any, overflow: Any, bit: Any, zero: Any,
    dead: Any, wild: Any,
) -> None:  # fmt: skip
    """Add `bit` to the codes of the units that are dead, and of those that left the range."""
    for i in range(len(dead)):
        size = abs(gamma[i])
        shift = beta[i] + alpha
        # Without a spread a unit fires if its shift is positive.
        gone = (shift < ratio * size) | ((size == zero) & (shift <= zero))
        dead[i] += bit if gone else zero
        wild[i] += zero if size + abs(beta[i]) <= overflow else bit


@inlined
def _observe(gamma: Any, beta: Any, alpha: Any, ratio: Any, overflow: Any, snapshot: Any) -> None:
    for i in range(len(gamma)):
        size, shift = abs(gamma[i]), beta[i] + alpha
        if size + abs(beta[i]) <= overflow:
            # Without a spread every input has the sign of the shift.
            r = shift / size if size > 0 else (math.inf if shift > 0 else -math.inf)
            snapshot[ACTIVATION, i] = 0.5 * math.erfc(-r * _ROOT_HALF)
            snapshot[INACTIVATION, i] = 0.5 * math.erfc(r * _ROOT_HALF)
            gone = (shift < ratio * size) | ((size == 0) & (shift <= 0))
            snapshot[DEAD, i] = 1.0 if gone else 0.0
        else:
            snapshot[ACTIVATION, i] = snapshot[INACTIVATION, i] = snapshot[DEAD, i] = math.nan
        snapshot[GAMMA, i] = gamma[i]
        snapshot[BETA, i] = beta[i]


@inlined
def _read(
    dead: Any, wild: Any, codes: Any, t: Any, zero: Any,
    first_death: Any, steps_dead: Any, diverged: Any, steps_wild: Any,
) -> None:  # fmt: skip
    """Read the codes of steps t + 1 … t + 16 and start them anew."""
    for i in range(len(codes)):
        codes[i] = np.int64(dead[i])
        dead[i] = zero
    read_codes(codes, t, first_death, steps_dead)
    any_wild = 0
    for i in range(len(codes)):
        codes[i] = np.int64(wild[i])
        any_wild |= codes[i]
    if any_wild != 0:
        read_codes(codes, t, diverged, steps_wild)
        wild[:] = zero


@kernel
def advance(
    rule: Any, rows: Any, streams: Any, words: Any, z: Any, collected: Any, codes: Any,
    first_block: Any, last_block: Any, t0: Any, length: Any,
    constants: Any, scales: Any, decays: Any, which: Any, own: Any,
    batch: Any, twins: Any, first_lane: Any, tiny: Any, overflow: Any, units: Any,
    first_death: Any, steps_dead: Any, diverged: Any, steps_wild: Any, flushed: Any,
    records: Any, snapshots: Any, paths: Any,
) -> None:  # fmt: skip
    """Carry blocks first_block … last_block - 1 through steps t0 + 1 … t0 + length.

    A block is the same `width` trajectories of every point: they see the same noise.

    Parameters
    ----------
    rows
        (points, blocks, 2 * (1 + states) * width): gamma and its state, then beta and its state, a row
        of lanes for each number.
    streams
        (blocks, 4 * STREAMS), the random streams: 2 * batch rows of normals a step, input and gradient
        of each sample in turns.
    words, z, collected, codes
        Scratch of WORDS uint64, of CHUNK * LANES and of (points, N_COLLECTED, width) numbers, and of
        width int64.
    constants, scales, decays
        Tables of the rule's constants (rows, constants), of the std of the mean gradient's summands
        (rows,), and of the decay (rows, 3) with the columns L2, BEFORE, AFTER.
    which
        (points, 6): where in these tables a point's steps stand, in columns from RULE to EACH_DECAY.
    own
        (points, 2): the shift of psBN and (beta + alpha) / |gamma| below which a unit is dead.
    batch, twins
        Samples a step, and whether the second half of a block mirrors the first.
    first_lane
        Index of the first trajectory of the batch of trajectories in the run.
    units
        2^0 … 2^(CHUNK - 1), then 0, in the type of `rows`.
    first_death, steps_dead, diverged, steps_wild
        (points, lanes): first dead step or -1, number of dead steps, and the same for having left the
        range.
    flushed
        (points, blocks): first step after which a number was set to 0, or -1.
    records, snapshots
        Sorted steps in this call, t0 = 0 among them, and the observables of every lane at each of them,
        shape (records, N_OBSERVABLES, points, lanes).
    paths
        (length, kept, 2) gamma and beta of the first trajectories of the only point after every step.
    """
    use_wide_vectors()
    width = len(codes)
    n_paths = paths.shape[1]
    zero = units[CHUNK]
    stride = rows.shape[2] // 2
    for block in range(first_block, last_block):
        lane0 = block * width
        lanes = slice(lane0, lane0 + width)
        collected[:] = zero
        step = sample = record = 0
        if len(records) > 0 and records[0] == t0:
            for point in range(len(rows)):
                row = rows[point, block]
                _observe(row[:width], row[stride : stride + width], own[point, ALPHA],
                         own[point, RATIO], overflow, snapshots[0, :, point, lanes])  # fmt: skip
            record = 1
        while step < length:
            fill_gaussian(streams[block], words, z)
            if twins:
                _pair_up(z)
            # Every point takes these samples, from the same one of the same step on.
            k, taken, next_record = step, sample, record
            for point in range(len(rows)):
                k, taken, next_record = step, sample, record
                gammas, betas = rows[point, block, :stride], rows[point, block, stride:]
                gamma, beta = gammas[:width], betas[:width]
                alpha, ratio = own[point, ALPHA], own[point, RATIO]
                sum_gamma, sum_beta = collected[point, SUM_GAMMA], collected[point, SUM_BETA]
                for row in range(0, CHUNK, 2):
                    if k == length:
                        break
                    x = z[row * LANES : row * LANES + width]
                    g = z[(row + 1) * LANES : (row + 1) * LANES + width]
                    _add_sample(gamma, beta, x, g, alpha, zero, sum_gamma, sum_beta)
                    taken += 1
                    if taken < batch:
                        continue
                    at = which[point]
                    c = rule.constants_at(constants, at[RULE] + at[EACH_RULE] * k)
                    scale = scales[at[SCALE] + at[EACH_SCALE] * k]
                    d = decays[at[DECAY] + at[EACH_DECAY] * k]
                    _update(rule, gammas, sum_gamma, c, scale, d[L2], d[BEFORE], d[AFTER])
                    _update(rule, betas, sum_beta, c, scale, d[L2], d[BEFORE], d[AFTER])
                    sum_gamma[:] = zero
                    sum_beta[:] = zero
                    taken = 0
                    dead, wild = collected[point, DEATHS], collected[point, ESCAPES]
                    _mark(gamma, beta, alpha, ratio, overflow, units[k % CHUNK], zero, dead, wild)
                    for i in range(min(width, n_paths - first_lane - lane0)):
                        paths[k, first_lane + lane0 + i, 0] = gamma[i]
                        paths[k, first_lane + lane0 + i, 1] = beta[i]
                    k += 1
                    if next_record < len(records) and records[next_record] == t0 + k:
                        _observe(gamma, beta, alpha, ratio, overflow,
                                 snapshots[next_record, :, point, lanes])  # fmt: skip
                        next_record += 1
                    if k % CHUNK == 0 or k == length:
                        t = t0 + (k - 1) // CHUNK * CHUNK
                        _read(dead, wild, codes, t, zero, first_death[point, lanes],
                              steps_dead[point, lanes], diverged[point, lanes],
                              steps_wild[point, lanes])  # fmt: skip
                        gone = flush(gammas, tiny, zero)
                        gone |= flush(betas, tiny, zero)
                        if gone and flushed[point, block] < 0:
                            flushed[point, block] = t0 + k
            step, sample, record = k, taken, next_record

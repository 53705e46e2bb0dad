"""The compiled loop of one BN+ReLU unit: lanes inside, samples and time outside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from regdyn.dynamics._jit import inlined, kernel, use_wide_vectors
from regdyn.dynamics._lanes import AFTER, BEFORE, L2, SIGMA, flush, read_codes
from regdyn.dynamics.random import CHUNK, LANES, fill_gaussian

# Rows of what is recorded of every unit.
ACTIVATION, INACTIVATION, GAMMA, BETA, DEAD = range(5)
N_OBSERVABLES = 5

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
    for i in range(LANES):
        passed = g[i] if gamma[i] * x[i] + (beta[i] + alpha) > zero else zero
        sum_gamma[i] += passed * x[i]
        sum_beta[i] += passed


@inlined
def _update(
    rule: Any, rows: Any, gradient: Any, c: Any, scale: Any, l2: Any, before: Any, after: Any
) -> None:
    """One step of one parameter: decay around the update rule; rows hold it and its state."""
    for i in range(LANES):
        theta = rows[i]
        g = scale * gradient[i] + l2 * theta
        theta, state = rule.step(before * theta, g, rule.load(rows, LANES, i), c)
        rows[i] = after * theta
        rule.store(rows, LANES, i, state)


@inlined
def _mark(
    gamma: Any, beta: Any, alpha: Any, ratio: Any, overflow: Any, bit: Any, zero: Any,
    dead: Any, wild: Any,
) -> None:  # fmt: skip
    """Add `bit` to the codes of the units that are dead, and of those that left the range."""
    for i in range(LANES):
        size = abs(gamma[i])
        shift = beta[i] + alpha
        # Without a spread a unit fires if its shift is positive.
        gone = (shift < ratio * size) | ((size == zero) & (shift <= zero))
        dead[i] += bit if gone else zero
        wild[i] += zero if size + abs(beta[i]) <= overflow else bit


@inlined
def _observe(
    gamma: Any, beta: Any, alpha: Any, ratio: Any, overflow: Any, first: Any, snapshot: Any
) -> None:
    for i in range(LANES):
        j = first + i
        size, shift = abs(gamma[i]), beta[i] + alpha
        if size + abs(beta[i]) <= overflow:
            # Without a spread every input has the sign of the shift.
            r = shift / size if size > 0 else (math.inf if shift > 0 else -math.inf)
            snapshot[ACTIVATION, j] = 0.5 * math.erfc(-r * _ROOT_HALF)
            snapshot[INACTIVATION, j] = 0.5 * math.erfc(r * _ROOT_HALF)
            gone = (shift < ratio * size) | ((size == 0) & (shift <= 0))
            snapshot[DEAD, j] = 1.0 if gone else 0.0
        else:
            snapshot[ACTIVATION, j] = snapshot[INACTIVATION, j] = snapshot[DEAD, j] = math.nan
        snapshot[GAMMA, j] = gamma[i]
        snapshot[BETA, j] = beta[i]


@kernel
def advance(
    rule: Any, rows: Any, streams: Any, words: Any, z: Any, scratch: Any, codes: Any,
    first_block: Any, last_block: Any, t0: Any, length: Any,
    constants: Any, system: Any, batch: Any, alpha: Any, twins: Any, first_lane: Any,
    ratio: Any, tiny: Any, overflow: Any, units: Any,
    first_death: Any, steps_dead: Any, diverged: Any, steps_wild: Any, flushed: Any,
    records: Any, snapshots: Any, paths: Any,
) -> None:  # fmt: skip
    """Carry blocks first_block … last_block - 1 through steps t0 + 1 … t0 + length.

    Parameters
    ----------
    rows
        (blocks, 2 * (1 + states) * LANES): gamma and its state, then beta and its state, a row of lanes
        for each number.
    streams
        (blocks, 4 * STREAMS), the random streams: 2 * batch rows of normals a step, input and gradient
        of each sample in turns.
    words, z, scratch, codes
        Scratch of WORDS uint64, of CHUNK * LANES and of (4, LANES) numbers, and of LANES int64.
    constants, system
        Per step: the rule's constants, and the columns SIGMA (std of the mean gradient's summands),
        L2, BEFORE, AFTER.
    batch, alpha, twins
        Samples a step, shift of psBN, and whether the second half of a block mirrors the first.
    first_lane
        Index of the first trajectory of the batch of trajectories in the run.
    ratio
        (beta + alpha) / |gamma| below which a unit is dead.
    units
        2^0 … 2^(CHUNK - 1), then 0, in the type of `rows`.
    first_death, steps_dead, diverged, steps_wild
        Per lane: first dead step or -1, number of dead steps, and the same for having left the range.
    flushed
        Per block: first step after which a number was set to 0, or -1.
    records, snapshots
        Sorted steps in this call, t0 = 0 among them, and the observables of every lane at each of them.
    paths
        (length, kept, 2) gamma and beta of the first trajectories of the run after every step.
    """
    use_wide_vectors()
    n_paths = paths.shape[1]
    zero = units[CHUNK]
    stride = rows.shape[1] // 2
    sum_gamma, sum_beta, dead, wild = scratch[0], scratch[1], scratch[2], scratch[3]
    for block in range(first_block, last_block):
        gammas, betas = rows[block, :stride], rows[block, stride:]
        gamma, beta = gammas[:LANES], betas[:LANES]
        lane0 = block * LANES
        lanes = slice(lane0, lane0 + LANES)
        next_record = 0
        if len(records) > 0 and records[0] == t0:
            _observe(gamma, beta, alpha, ratio, overflow, lane0, snapshots[0])
            next_record = 1
        cursor = CHUNK
        for start in range(0, length, CHUNK):
            steps = min(CHUNK, length - start)
            t = t0 + start
            dead[:] = zero
            wild[:] = zero
            for k in range(steps):
                sum_gamma[:] = zero
                sum_beta[:] = zero
                for _ in range(batch):
                    if cursor == CHUNK:
                        fill_gaussian(streams[block], words, z)
                        if twins:
                            _pair_up(z)
                        cursor = 0
                    x = z[cursor * LANES : (cursor + 1) * LANES]
                    g = z[(cursor + 1) * LANES : (cursor + 2) * LANES]
                    _add_sample(gamma, beta, x, g, alpha, zero, sum_gamma, sum_beta)
                    cursor += 2
                s = system[start + k]
                c = rule.constants_at(constants, start + k)
                _update(rule, gammas, sum_gamma, c, s[SIGMA], s[L2], s[BEFORE], s[AFTER])
                _update(rule, betas, sum_beta, c, s[SIGMA], s[L2], s[BEFORE], s[AFTER])
                _mark(gamma, beta, alpha, ratio, overflow, units[k], zero, dead, wild)
                if next_record < len(records) and records[next_record] == t + k + 1:
                    _observe(gamma, beta, alpha, ratio, overflow, lane0, snapshots[next_record])
                    next_record += 1
                for i in range(min(LANES, n_paths - first_lane - lane0)):
                    paths[start + k, first_lane + lane0 + i, 0] = gamma[i]
                    paths[start + k, first_lane + lane0 + i, 1] = beta[i]
            for i in range(LANES):
                codes[i] = np.int64(dead[i])
            read_codes(codes, t, first_death[lanes], steps_dead[lanes])
            any_wild = 0
            for i in range(LANES):
                codes[i] = np.int64(wild[i])
                any_wild |= codes[i]
            if any_wild != 0:
                read_codes(codes, t, diverged[lanes], steps_wild[lanes])
            gone = flush(gammas, tiny, zero)
            gone |= flush(betas, tiny, zero)
            if gone and flushed[block] < 0:
                flushed[block] = t + steps

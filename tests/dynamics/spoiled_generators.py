"""Generators of samples for tests/dynamics/test_random.py: the package's, and spoiled ones.

A spoiled generator differs from the package's in a single, mostly small way, which a test must notice.
Many take the words of the package's streams and spoil these before or after the package's transform.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from regdyn.dynamics import random
from regdyn.dynamics.noise import Gated, Gaussian, StudentT
from regdyn.dynamics.random import CHUNK, LANES, stream_starts
from regdyn.dynamics.scalar import sample_noise

Floats = NDArray[np.float64]
Words = NDArray[np.uint64]
Sampler = Callable[[int, int, int], NDArray]
"""From (seed, steps, trajectories) to an array, mostly of shape (steps, trajectories)."""


@numba.njit
def words_of(starts: Any, count: Any) -> Any:
    """The next `count` words of every stream, shape (count, streams)."""
    words = np.empty((count, len(starts)), np.uint64)
    state = starts.T.copy()
    for k in range(count):
        for i in range(len(starts)):
            word, s0, s1, s2, s3 = random.next_word(state[0, i], state[1, i], state[2, i], state[3, i])
            words[k, i], state[0, i], state[1, i], state[2, i], state[3, i] = word, s0, s1, s2, s3
    return words


@numba.njit
def _normals(radius: Any, direction: Any) -> Any:
    z = np.empty((2 * radius.shape[0], radius.shape[1]))
    for k in range(radius.shape[0]):
        for i in range(radius.shape[1]):
            z[2 * k, i], z[2 * k + 1, i] = random.normal_pair(radius[k, i], direction[k, i])
    return z


@numba.njit
def _student(radius: Any, direction: Any, dof: Any) -> Any:
    t = np.empty(radius.shape)
    for k in range(radius.shape[0]):
        for i in range(radius.shape[1]):
            t[k, i] = random.student_t(radius[k, i], direction[k, i], dof)
    return t


def normals_of(radius: Words, direction: Words) -> Floats:
    """Rows of words to rows of normals, two for one."""
    return _normals(np.ascontiguousarray(radius), np.ascontiguousarray(direction))


def student_of(radius: Words, direction: Words, dof: float) -> Floats:
    return _student(np.ascontiguousarray(radius), np.ascontiguousarray(direction), dof)


def word_rows(seed: int, count: int, trajectories: int) -> Words:
    return words_of(stream_starts(seed, 0, trajectories), count)


def package(seed: int, steps: int, trajectories: int) -> Floats:
    """The standard normals of the package; the generators below differ from it in one point each."""
    return sample_noise(Gaussian(1.0), steps, trajectories, seed)


def from_words(seed: int, steps: int, trajectories: int) -> Floats:
    """The same by way of words, in which some of the generators below interfere."""
    w = word_rows(seed, steps, trajectories)
    return normals_of(w[0::2], w[1::2])


def shifted(seed: int, steps: int, trajectories: int) -> Floats:
    """Mean 0.005."""
    return package(seed, steps, trajectories) + 0.005


def wrong_variance(seed: int, steps: int, trajectories: int) -> Floats:
    """Variance too large by 0.3 percent."""
    return package(seed, steps, trajectories) * math.sqrt(1.003)


def sum_of_twelve(seed: int, steps: int, trajectories: int) -> Floats:
    """Twelve uniforms minus 6, the normal of old libraries."""
    rng = np.random.default_rng(seed)
    return sum(rng.random((steps, trajectories)) for _ in range(12)) - 6.0


def heavy_tails(seed: int, steps: int, trajectories: int) -> Floats:
    """Student's t with 200 degrees of freedom and variance 1."""
    return sample_noise(StudentT(200.0, 1.0), steps, trajectories, seed)


def cut_tails(limit: float, seed: int, steps: int, trajectories: int) -> Floats:
    """What exceeds the limit takes its neighbour's value."""
    z = package(seed, steps, trajectories)
    for row in z:
        (far,) = np.nonzero(np.abs(row) > limit)
        row[far] = np.clip(row[(far + 1) % trajectories], -limit, limit)
    return z


def cut_at_4_5_sigma(seed: int, steps: int, trajectories: int) -> Floats:
    return cut_tails(4.5, seed, steps, trajectories)


def cut_at_4_9_sigma(seed: int, steps: int, trajectories: int) -> Floats:
    return cut_tails(4.9, seed, steps, trajectories)


def twelve_bits(seed: int, steps: int, trajectories: int) -> Floats:
    """Only the upper 12 bits of every word."""
    w = word_rows(seed, steps, trajectories) & np.uint64(0xFFF << 52)
    return normals_of(w[0::2], w[1::2])


def stuck_bit(seed: int, steps: int, trajectories: int) -> Floats:
    """Bit 45 of the radius word is always 0, the 19th from above."""
    w = word_rows(seed, steps, trajectories)
    return normals_of(w[0::2] & ~np.uint64(1 << 45), w[1::2])


def linked_bits(seed: int, steps: int, trajectories: int) -> Floats:
    """Bit 50 of the direction equals bit 50 of the radius: balanced, yet not independent."""
    w = word_rows(seed, steps, trajectories)
    bit = np.uint64(1 << 50)
    return normals_of(w[0::2], (w[1::2] & ~bit) | (w[0::2] & bit))


def common_radius(seed: int, steps: int, trajectories: int) -> Floats:
    """One radius, but two angles for the two normals of a pair: uncorrelated, yet dependent."""
    w = word_rows(seed, steps // 2 * 3, trajectories)
    z = normals_of(w[0::3], w[1::3])
    z[1::2] = normals_of(w[0::3], w[2::3])[1::2]
    return z


def repeated_word(seed: int, steps: int, trajectories: int) -> Floats:
    """One pair in 64 takes its direction from the word of its radius."""
    w = word_rows(seed, steps, trajectories)
    return normals_of(w[0::2], np.where(w[1::2] & np.uint64(63), w[1::2], w[0::2]))


def correlated_pair(seed: int, steps: int, trajectories: int) -> Floats:
    """Correlation 0.005 between the normals of a pair."""
    z = package(seed, steps, trajectories)
    z[1::2] = math.sqrt(1 - 0.005**2) * z[1::2] + 0.005 * z[0::2]
    return z


def moving_average(lag: int, seed: int, steps: int, trajectories: int) -> Floats:
    """Correlation 0.005 at one lag."""
    z = package(seed, steps + lag, trajectories)
    return math.sqrt(1 - 0.005**2) * z[lag:] + 0.005 * z[:-lag]


def correlated_lag_1(seed: int, steps: int, trajectories: int) -> Floats:
    return moving_average(1, seed, steps, trajectories)


def correlated_lag_2(seed: int, steps: int, trajectories: int) -> Floats:
    return moving_average(2, seed, steps, trajectories)


def overlapping_words(seed: int, steps: int, trajectories: int) -> Floats:
    """The direction of a pair is the radius of the next."""
    w = word_rows(seed, steps // 2 + 1, trajectories)
    return normals_of(w[:-1], w[1:])


def forgotten_state(seed: int, steps: int, trajectories: int) -> Floats:
    """One lane in 64 does not store the state of its stream after every other chunk."""
    z = package(seed, steps, trajectories)
    chunks = z.reshape(-1, 2, CHUNK, trajectories)
    chunks[:, 1, :, ::64] = chunks[:, 0, :, ::64]
    return z


def twin_lanes(seed: int, steps: int, trajectories: int) -> Floats:
    """Two neighbouring lanes share a stream."""
    return package(seed, steps, trajectories // 2).repeat(2, axis=1)


def late_twin_lanes(seed: int, steps: int, trajectories: int) -> Floats:
    """Two neighbouring lanes share a stream, the second one two steps ahead."""
    z = package(seed, steps + 2, trajectories // 2)
    return np.stack([z[:-2], z[2:]], axis=2).reshape(steps, trajectories)


def correlated_lanes(seed: int, steps: int, trajectories: int) -> Floats:
    """Correlation 0.005 between neighbouring lanes."""
    z = package(seed, steps, trajectories + 1)
    return math.sqrt(1 - 0.005**2) * z[:, 1:] + 0.005 * z[:, :-1]


def repeated_block(seed: int, steps: int, trajectories: int) -> Floats:
    """One block of lanes in 16 equals the one before it."""
    z = package(seed, steps, trajectories)
    blocks = z.reshape(steps, -1, LANES)
    blocks[:, 1::16] = blocks[:, ::16]
    return z


def unhashed_states(seed: int, steps: int, trajectories: int) -> Words:
    """Starts that differ in a few bits from trajectory to trajectory."""
    starts = stream_starts(seed, 0, 1).repeat(trajectories, axis=0)
    starts[:, 0] ^= np.arange(trajectories, dtype=np.uint64)
    return starts


def unhashed_lanes(seed: int, steps: int, trajectories: int) -> Floats:
    w = words_of(unhashed_states(seed, steps, trajectories), steps)
    return normals_of(w[0::2], w[1::2])


def common_component(seed: int, steps: int, trajectories: int) -> Floats:
    """A hundredth of the std is common to all trajectories of a step: correlation 1e-4."""
    z = package(seed, steps, trajectories + 1)
    return z[:, 1:] + 0.01 * z[:, :1]


def constant_component(seed: int, steps: int, trajectories: int) -> Floats:
    """A fiftieth of the std is common to all steps of a trajectory: correlation 4e-4."""
    z = package(seed, steps + 1, trajectories)
    return z[1:] + 0.02 * z[:1]


def by_seed(seed: int, steps: int, trajectories: int) -> Floats:
    """Four successive seeds."""
    return np.stack([package(seed + i, steps, trajectories) for i in range(4)])


def shifting_seeds(seed: int, steps: int, trajectories: int) -> Floats:
    """Trajectory i + 1 of a seed is trajectory i of the next seed."""
    z = package(seed, steps, trajectories + 3)
    return np.stack([z[:, i : i + trajectories] for i in range(4)])


def unhashed_seeds(seed: int, steps: int, trajectories: int) -> Floats:
    """The seed enters the state of the stream as a few bits, after the hash of the trajectory."""
    samples = []
    for i in range(4):
        starts = stream_starts(0, 0, trajectories)
        starts[:, 0] ^= np.uint64(seed + i)
        w = words_of(starts, steps)
        samples.append(normals_of(w[0::2], w[1::2]))
    return np.stack(samples)


def starts_by_trajectory(seed: int, steps: int, trajectories: int) -> Words:
    return stream_starts(seed, 0, trajectories)


def starts_by_seed(seed: int, steps: int, trajectories: int) -> Words:
    """One trajectory of many seeds."""
    return np.concatenate([stream_starts(seed + i, 0, 1) for i in range(trajectories)])


def starts_of_all(seed: int, seeds: int, trajectories: int) -> Words:
    """Many trajectories of many seeds, which stand in place of the steps."""
    return np.concatenate([stream_starts(seed + i, 0, trajectories) for i in range(seeds)])


def shifting_starts(seed: int, seeds: int, trajectories: int) -> Words:
    """As `shifting_seeds`."""
    return np.concatenate([stream_starts(0, seed + i, trajectories) for i in range(seeds)])


def short_starts(seed: int, seeds: int, trajectories: int) -> Words:
    """A hash of 32 bits: about 8 pairs of 2^18 streams collide."""
    starts = starts_of_all(seed, seeds, trajectories) & np.uint64(0xFFFFFFFF)
    starts[:, 1:] = starts[:, :1]
    return starts


def student(dof: float) -> Sampler:
    """The package's t, in the form of `package`."""

    def sampler(seed: int, steps: int, trajectories: int) -> Floats:
        return sample_noise(StudentT(dof, 1.0), steps, trajectories, seed)

    return sampler


def unscaled_student(dof: float) -> Sampler:
    """The std is not divided out."""

    def unscaled(seed: int, steps: int, trajectories: int) -> Floats:
        return math.sqrt(dof / (dof - 2)) * student(dof)(seed, steps, trajectories)

    return unscaled


def doubled_dof(dof: float) -> Sampler:
    """Twice the degrees of freedom at the right variance."""

    def doubled(seed: int, steps: int, trajectories: int) -> Floats:
        return student(2 * dof)(seed, steps, trajectories)

    return doubled


def cut_student(dof: float) -> Sampler:
    """What exceeds the upper 1e-5 point is clipped there."""
    limit = float(stats.t.isf(0.5e-5, dof, scale=math.sqrt((dof - 2) / dof)))

    def cut(seed: int, steps: int, trajectories: int) -> Floats:
        return np.clip(student(dof)(seed, steps, trajectories), -limit, limit)

    return cut


def coarse_student(dof: float) -> Sampler:
    """Only the upper 12 bits of every word."""

    def coarse(seed: int, steps: int, trajectories: int) -> Floats:
        w = word_rows(seed, 2 * steps, trajectories) & np.uint64(0xFFF << 52)
        return student_of(w[0::2], w[1::2], dof)

    return coarse


def overlapping_student(dof: float) -> Sampler:
    """The direction of a step is the radius of the next."""

    def overlapping(seed: int, steps: int, trajectories: int) -> Floats:
        w = word_rows(seed, steps + 1, trajectories)
        return student_of(w[:-1], w[1:], dof)

    return overlapping


def gated(p: float) -> Sampler:
    """The gated normals of the package, and the same with all gates open."""

    def sampler(seed: int, steps: int, trajectories: int) -> Floats:
        samples = [sample_noise(Gated(q, 1.0), steps, trajectories, seed) for q in (p, 1.0)]
        return np.stack(samples)

    return sampler


def gated_pairs(p: float, radius: Words, direction: Words, gate: Words) -> Floats:
    """As `gated`, from rows of words and with gates from the halves of `gate`."""
    z = normals_of(radius, direction)
    halves = np.stack([gate >> np.uint64(32), gate & np.uint64(0xFFFFFFFF)], axis=1)
    return np.stack([np.where(halves.reshape(z.shape) < p * 2**32, z, 0.0), z])


def gated_from_words(p: float) -> Sampler:
    """`gated` by way of words."""

    def sampler(seed: int, steps: int, trajectories: int) -> Floats:
        w = word_rows(seed, steps // 2 * 3, trajectories)
        return gated_pairs(p, w[0::3], w[1::3], w[2::3])

    return sampler


def coarse_gate(p: float) -> Sampler:
    """Gates decided by 8 bits."""

    def eight_bits(seed: int, steps: int, trajectories: int) -> Floats:
        return gated_from_words(math.ceil(p * 256) / 256)(seed, steps, trajectories)

    return eight_bits


def gate_from_radius(p: float) -> Sampler:
    """The gate is decided by the word of the radius, not by one of its own."""

    def radius(seed: int, steps: int, trajectories: int) -> Floats:
        w = word_rows(seed, steps, trajectories)
        return gated_pairs(p, w[0::2], w[1::2], w[0::2])

    return radius


def gate_of_next_radius(p: float) -> Sampler:
    """The word of a gate serves again as the radius of the next pair."""

    def next_radius(seed: int, steps: int, trajectories: int) -> Floats:
        w = word_rows(seed, steps + 2, trajectories)
        return gated_pairs(p, w[0:-2:2], w[1:-1:2], w[2::2])

    return next_radius


def one_gate_per_pair(p: float) -> Sampler:
    """Odd and even step share a gate in one pair of 64."""

    def shared(seed: int, steps: int, trajectories: int) -> Floats:
        w = word_rows(seed, steps // 2 * 3, trajectories)
        gate = w[2::3]
        low = np.where(gate & np.uint64(63), gate & np.uint64(0xFFFFFFFF), gate >> np.uint64(32))
        gate = (gate >> np.uint64(32) << np.uint64(32)) | low
        return gated_pairs(p, w[0::3], w[1::3], gate)

    return shared

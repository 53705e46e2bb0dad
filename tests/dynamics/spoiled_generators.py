"""Generators of samples for tests/dynamics/test_random.py: the package's, and spoiled ones.

A spoiled generator differs from the package's in a single, mostly small way, which a test must notice.
Many take the numbers of 32 bits that the package draws for each trajectory, a row for each draw, and
spoil these before or after the package's transform.
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
from regdyn.dynamics.random import CHUNK, LANES, STREAMS
from regdyn.dynamics.scalar import sample_noise

Floats = NDArray[np.float64]
Words = NDArray[np.uint64]
Numbers = NDArray[np.uint32]
Sampler = Callable[[int, int, int], NDArray]
"""From (seed, steps, trajectories) to an array, mostly of shape (steps, trajectories)."""

HALF = CHUNK // 2
"""Steps between the two normals of a pair."""


def stream_starts(seed: int, first: int, count: int) -> Words:
    """Starts of streams first … first + count - 1, shape (count, 4)."""
    streams = np.zeros((-(-count // STREAMS), 4 * STREAMS), np.uint64)
    random.start_streams(np.uint64(seed), np.uint64(first), np.uint64(STREAMS), streams)
    return streams.reshape(-1, 4, STREAMS).transpose(0, 2, 1).reshape(-1, 4)[:count]


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


def halves_of(starts: Words, count: int) -> Numbers:
    """The next `count` numbers of 32 bits of two trajectories for every stream."""
    return words_of(starts, count).view(np.dtype("<u4"))


def number_rows(seed: int, count: int, trajectories: int) -> Numbers:
    """The numbers that the package gives to trajectories, shape (count, trajectories)."""
    return halves_of(stream_starts(seed, 0, (trajectories + 1) // 2), count)[:, :trajectories]


@numba.njit
def _pairs(a: Any, b: Any) -> Any:
    z = np.empty((2, len(a)), np.float32)
    for i in range(len(a)):
        z[0, i], z[1, i] = random.normal_pair(a[i], b[i])
    return z


@numba.njit
def _student(a: Any, b: Any, dof: Any, dof_minus_two: Any) -> Any:
    t = np.empty(len(a), np.float32)
    for i in range(len(a)):
        t[i] = random.student_t(a[i], b[i], dof, dof_minus_two)
    return t


def pairs_of(a: Numbers, b: Numbers) -> Floats:
    """Radius and angle numbers to both normals of their pairs, shape (2, *a.shape)."""
    return _pairs(a.ravel(), b.ravel()).reshape(2, *a.shape).astype(float)


def student_of(a: Numbers, b: Numbers, dof: float) -> Floats:
    """Radius and angle numbers to Student's t, with the numbers that the package makes of `dof`."""
    dof = min(dof, 1e20)
    t = _student(a.ravel(), b.ravel(), np.float32(dof), np.float32(dof - 2.0))
    return t.reshape(a.shape).astype(float)


def split(rows: NDArray, parts: int = 2, size: int = HALF) -> list[NDArray]:
    """The parts, `size` rows each, of every `parts * size` rows; of shape (…, size, columns)."""
    return list(rows.reshape(-1, parts, size, rows.shape[1]).swapaxes(0, 1))


def normals_of(a: Numbers, b: Numbers) -> Floats:
    """Radius and angle numbers, as `split` gives them, to the steps that have them."""
    return pairs_of(a, b).swapaxes(0, 1).reshape(-1, a.shape[-1])


def package(seed: int, steps: int, trajectories: int) -> Floats:
    """The standard normals of the package; the generators below differ from it in one point each."""
    return sample_noise(Gaussian(1.0), steps, trajectories, seed)


def from_words(seed: int, steps: int, trajectories: int) -> Floats:
    """The same by way of numbers, in which some of the generators below interfere."""
    return normals_of(*split(number_rows(seed, steps, trajectories)))


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
    """Only the upper 12 bits of every number."""
    return normals_of(*split(number_rows(seed, steps, trajectories) & np.uint32(0xFFF << 20)))


def stuck_bit(seed: int, steps: int, trajectories: int) -> Floats:
    """Bit 13 of the radius number is always 0, the 19th from above."""
    a, b = split(number_rows(seed, steps, trajectories))
    return normals_of(a & ~np.uint32(1 << 13), b)


def stuck_angle_bit(seed: int, steps: int, trajectories: int) -> Floats:
    """The same bit of the angle number."""
    a, b = split(number_rows(seed, steps, trajectories))
    return normals_of(a, b & ~np.uint32(1 << 13))


def linked_bits(seed: int, steps: int, trajectories: int) -> Floats:
    """Bit 18 of the angle equals bit 18 of the radius: balanced, yet not independent."""
    a, b = split(number_rows(seed, steps, trajectories))
    bit = np.uint32(1 << 18)
    return normals_of(a, (b & ~bit) | (a & bit))


def linked_sign(seed: int, steps: int, trajectories: int) -> Floats:
    """The sign is not the lowest bit of the angle number but bit 18, which the angle takes as well."""
    a, b = split(number_rows(seed, steps, trajectories))
    return normals_of(a, (b & ~np.uint32(1)) | (b >> np.uint32(18) & np.uint32(1)))


def common_radius(seed: int, steps: int, trajectories: int) -> Floats:
    """One radius, but two angles for the two normals of a pair: uncorrelated, yet dependent."""
    a, b, c = split(number_rows(seed, steps // 2 * 3, trajectories), 3)
    return np.stack([pairs_of(a, b)[0], pairs_of(a, c)[1]], axis=1).reshape(-1, trajectories)


def repeated_number(seed: int, steps: int, trajectories: int) -> Floats:
    """One pair in 64 takes its angle from the number of its radius."""
    a, b = split(number_rows(seed, steps, trajectories))
    return normals_of(a, np.where(b & np.uint32(63 << 10), b, a))


def correlated_pair(seed: int, steps: int, trajectories: int) -> Floats:
    """Correlation 0.005 between the normals of a pair."""
    x, y = split(package(seed, steps, trajectories))
    y = math.sqrt(1 - 0.005**2) * y + 0.005 * x
    return np.stack([x, y], axis=1).reshape(-1, trajectories)


def moving_average(lag: int, seed: int, steps: int, trajectories: int) -> Floats:
    """Correlation 0.005 at one lag."""
    z = package(seed, steps + lag, trajectories)
    return math.sqrt(1 - 0.005**2) * z[lag:] + 0.005 * z[:-lag]


def correlated_lag_1(seed: int, steps: int, trajectories: int) -> Floats:
    return moving_average(1, seed, steps, trajectories)


def correlated_lag_2(seed: int, steps: int, trajectories: int) -> Floats:
    return moving_average(2, seed, steps, trajectories)


def correlated_lag_8(seed: int, steps: int, trajectories: int) -> Floats:
    return moving_average(8, seed, steps, trajectories)


def overlapping_numbers(seed: int, steps: int, trajectories: int) -> Floats:
    """The angle of a pair is the radius of the next."""
    w = number_rows(seed, steps // 2 + 1, trajectories)
    return normals_of(*split(w[:-1], 1), *split(w[1:], 1))


def forgotten_state(seed: int, steps: int, trajectories: int) -> Floats:
    """One lane in 64 does not store the state of its stream after every other chunk."""
    z = package(seed, steps, trajectories)
    chunks = z.reshape(-1, 2, CHUNK, trajectories)
    chunks[:, 1, :, ::64] = chunks[:, 0, :, ::64]
    return z


def twin_lanes(seed: int, steps: int, trajectories: int) -> Floats:
    """Two neighbouring lanes take the same half of the words of their stream."""
    return package(seed, steps, trajectories)[:, ::2].repeat(2, axis=1)


def rotate_odd(bits: int, seed: int, steps: int, trajectories: int) -> Floats:
    """The odd lane takes the lower half as well, rotated."""
    w = number_rows(seed, steps, trajectories)
    w[:, 1::2] = w[:, ::2] << np.uint32(bits) | w[:, ::2] >> np.uint32(32 - bits)
    return normals_of(*split(w))


def rotated_by_5(seed: int, steps: int, trajectories: int) -> Floats:
    return rotate_odd(5, seed, steps, trajectories)


def rotated_by_13(seed: int, steps: int, trajectories: int) -> Floats:
    return rotate_odd(13, seed, steps, trajectories)


def swapped_lanes(seed: int, steps: int, trajectories: int) -> Floats:
    """The odd lane takes the lower half as well, and the two normals of its pairs change places."""
    x, y = split(twin_lanes(seed, steps, trajectories))
    odd = np.arange(trajectories) % 2 == 1
    pairs = np.stack([np.where(odd, y, x), np.where(odd, x, y)], axis=1)
    return pairs.reshape(-1, trajectories)


def twin_streams(seed: int, steps: int, trajectories: int) -> Floats:
    """Two neighbouring streams are one: lanes 4 k and 4 k + 2 are alike, and so are the next ones."""
    return np.take(package(seed, steps, trajectories), np.arange(trajectories) & ~2, axis=1)


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


def unhashed_states(seed: int, steps: int, streams: int) -> Words:
    """Starts that differ in a few bits from stream to stream."""
    starts = stream_starts(seed, 0, 1).repeat(streams, axis=0)
    starts[:, 0] ^= np.arange(streams, dtype=np.uint64)
    return starts


def unhashed_lanes(seed: int, steps: int, trajectories: int) -> Floats:
    return normals_of(*split(halves_of(unhashed_states(seed, steps, trajectories // 2), steps)))


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
    """Stream i + 1 of a seed is stream i of the next seed."""
    z = package(seed, steps, trajectories + 6)
    return np.stack([z[:, 2 * i : 2 * i + trajectories] for i in range(4)])


def unhashed_seeds(seed: int, steps: int, trajectories: int) -> Floats:
    """The seed enters the state of the stream as a few bits, after the hash of its index."""
    samples = []
    for i in range(4):
        starts = stream_starts(0, 0, trajectories // 2)
        starts[:, 0] ^= np.uint64(seed + i)
        samples.append(normals_of(*split(halves_of(starts, steps))))
    return np.stack(samples)


def starts_by_stream(seed: int, steps: int, streams: int) -> Words:
    return stream_starts(seed, 0, streams)


def starts_by_seed(seed: int, steps: int, streams: int) -> Words:
    """One stream of many seeds."""
    return np.concatenate([stream_starts(seed + i, 0, 1) for i in range(streams)])


def starts_of_all(seed: int, seeds: int, streams: int) -> Words:
    """Many streams of many seeds, which stand in place of the steps."""
    return np.concatenate([stream_starts(seed + i, 0, streams) for i in range(seeds)])


def shifting_starts(seed: int, seeds: int, streams: int) -> Words:
    """As `shifting_seeds`."""
    return np.concatenate([stream_starts(0, seed + i, streams) for i in range(seeds)])


def short_starts(seed: int, seeds: int, streams: int) -> Words:
    """A hash of 32 bits: about 8 pairs of 2^18 streams collide."""
    starts = starts_of_all(seed, seeds, streams) & np.uint64(0xFFFFFFFF)
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


def student_from_words(dof: float) -> Sampler:
    """`student` by way of numbers."""

    def sampler(seed: int, steps: int, trajectories: int) -> Floats:
        a, b = split(number_rows(seed, 2 * steps, trajectories), 2, CHUNK)
        return student_of(a, b, dof).reshape(-1, trajectories)

    return sampler


def coarse_student(dof: float) -> Sampler:
    """Only the upper 12 bits of every number."""

    def coarse(seed: int, steps: int, trajectories: int) -> Floats:
        w = number_rows(seed, 2 * steps, trajectories) & np.uint32(0xFFF << 20)
        return student_of(w[:steps], w[steps:], dof)

    return coarse


def overlapping_student(dof: float) -> Sampler:
    """The angle of a step is the radius of the next."""

    def overlapping(seed: int, steps: int, trajectories: int) -> Floats:
        w = number_rows(seed, steps + 1, trajectories)
        return student_of(w[:-1], w[1:], dof)

    return overlapping


def gated(p: float) -> Sampler:
    """The gated normals of the package, and the same with all gates open."""

    def sampler(seed: int, steps: int, trajectories: int) -> Floats:
        samples = [sample_noise(Gated(q, 1.0), steps, trajectories, seed) for q in (p, 1.0)]
        return np.stack(samples)

    return sampler


def gated_pairs(p: float, numbers: Numbers, gates: Numbers) -> Floats:
    """As `gated`, from the numbers of the normals and those of the gates, one a step."""
    z = normals_of(*split(numbers))
    return np.stack([np.where(gates < p * 2**32, z, 0.0), z])


def gated_rows(seed: int, steps: int, trajectories: int) -> tuple[Numbers, Numbers]:
    """The numbers that the package takes for the normals and for the gates of the steps."""
    numbers, gates = split(number_rows(seed, 2 * steps, trajectories), 2, CHUNK)
    return numbers.reshape(steps, trajectories), gates.reshape(steps, trajectories)


def gated_from_words(p: float) -> Sampler:
    """`gated` by way of numbers."""

    def sampler(seed: int, steps: int, trajectories: int) -> Floats:
        return gated_pairs(p, *gated_rows(seed, steps, trajectories))

    return sampler


def coarse_gate(p: float) -> Sampler:
    """Gates decided by 8 bits."""

    def eight_bits(seed: int, steps: int, trajectories: int) -> Floats:
        return gated_from_words(math.ceil(p * 256) / 256)(seed, steps, trajectories)

    return eight_bits


def wide_gate_of_one_step(p: float) -> Sampler:
    """The gate of the eleventh step of every chunk opens more often by 3 percent of 1 - p."""

    def wide(seed: int, steps: int, trajectories: int) -> Floats:
        numbers, gates = gated_rows(seed, steps, trajectories)
        late = np.arange(steps)[:, None] % CHUNK == 10
        return gated_pairs(
            p, numbers, np.where(late & (gates % np.uint32(33) == 0), np.uint32(0), gates)
        )

    return wide


def gate_from_normal(p: float) -> Sampler:
    """The gates are decided by the numbers of the normals, not by others."""

    def normal(seed: int, steps: int, trajectories: int) -> Floats:
        numbers = number_rows(seed, steps, trajectories)
        return gated_pairs(p, numbers, numbers)

    return normal


def gate_of_next_chunk(p: float) -> Sampler:
    """The numbers of the gates serve again for the normals of the next chunk."""

    def next_chunk(seed: int, steps: int, trajectories: int) -> Floats:
        w = number_rows(seed, steps + CHUNK, trajectories)
        return gated_pairs(p, w[:-CHUNK], w[CHUNK:])

    return next_chunk


def one_gate_per_pair(p: float) -> Sampler:
    """The steps of a pair share a gate in one pair of 64."""

    def shared(seed: int, steps: int, trajectories: int) -> Floats:
        numbers, gates = gated_rows(seed, steps, trajectories)
        first, second = split(gates)
        second = np.where(second & np.uint32(63), second, first)
        return gated_pairs(p, numbers, np.stack([first, second], axis=1).reshape(gates.shape))

    return shared


def late_gate(p: float) -> Sampler:
    """One gate in 64 is the one of the step before."""

    def late(seed: int, steps: int, trajectories: int) -> Floats:
        numbers, gates = gated_rows(seed, steps, trajectories)
        return gated_pairs(
            p, numbers, np.where(gates & np.uint32(63), gates, np.roll(gates, 1, axis=0))
        )

    return late


def twin_gates(p: float) -> Sampler:
    """One odd lane in 64 takes the gates of its neighbour, the other half of the words."""

    def twin(seed: int, steps: int, trajectories: int) -> Floats:
        numbers, gates = gated_rows(seed, steps, trajectories)
        gates[:, 1::64] = gates[:, ::64]
        return gated_pairs(p, numbers, gates)

    return twin

"""The random numbers: words and functions against references, the distribution by tests that can fail.

Every statistical test is a function from a sample to a p-value. The generator of the package must pass
it and at least one generator that is spoiled in a single, small way must be refuted by it, both at
`ALPHA` and with fixed seeds. The table `CASES` joins tests, sizes and spoiled generators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numba
import numpy as np
import pytest
from dynamics import spoiled_generators as gen
from dynamics.chebyshev import chebyshev_interpolation
from dynamics.spoiled_generators import HALF, Floats, Numbers, Sampler, Words, split, stream_starts
from mpmath import mp, mpf
from scipy import special, stats

from regdyn.dynamics import random
from regdyn.dynamics.noise import Gated, Gaussian, StudentT
from regdyn.dynamics.random import CHUNK, LANES, STREAMS
from regdyn.dynamics.scalar import sample_noise

ALPHA = 1e-6
"""Every test fails below this p-value, and every spoiled generator must fall below it."""

FULL = 2**64


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mp.workdps(30):
        yield


# --- References in plain Python ---------------------------------------------------------------------


def philox(counter: int, key: int) -> tuple[int, ...]:
    """Philox4x64-10 (Salmon et al. 2011); words of counter and key are taken low word first."""
    c = [counter >> 64 * i & FULL - 1 for i in range(4)]
    k = [key >> 64 * i & FULL - 1 for i in range(2)]
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * c[0], FULL)
        high1, low1 = divmod(0xCA5A826395121157 * c[2], FULL)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B97F4A7C15) % FULL, (k[1] + 0xBB67AE8584CAA73B) % FULL]
    return tuple(c)


def xoshiro(state: tuple[int, ...]) -> Iterator[int]:
    """The outputs of xoshiro256++ (Blackman and Vigna 2021)."""

    def rotate(x: int, k: int) -> int:
        return (x << k | x >> 64 - k) % FULL

    s0, s1, s2, s3 = state
    while True:
        yield (rotate((s0 + s3) % FULL, 23) + s0) % FULL
        t = s1 << 17
        s2 ^= s0
        s3 ^= s1
        s1 ^= s2
        s0 ^= s3
        s2 = (s2 ^ t) % FULL
        s3 = rotate(s3, 45)


def numbers_of(seed: int, trajectory: int) -> Iterator[int]:
    """The numbers of 32 bits that a trajectory draws, as the module's docstring defines them."""
    for word in xoshiro(philox(trajectory // 2 + 1, seed)):
        yield word >> 32 if trajectory % 2 else word % 2**32


def take(numbers: Iterator[int], count: int) -> Numbers:
    return np.fromiter(islice(numbers, count), np.uint32, count)


def unrounded_uniform(a: Numbers, b: Numbers) -> Floats:
    """The u in (0, 1) that the numbers of a radius and its angle stand for."""
    return ((a >> 1).astype(float) + (b % 2**10 | 1) / 2.0**10) / 2.0**31


def uniform(a: Numbers, b: Numbers) -> Floats:
    """The same in (0, 1], rounded to float32 as in the package."""
    fine = (b % 2**10 | 1).astype(np.float32) / np.float32(2**10)
    return ((a >> 1).astype(np.float32) + fine).astype(float) / 2.0**31


def angle(b: Numbers) -> Floats:
    """In [-pi/2, pi/2)."""
    return b.astype(np.int32) * (math.pi / 2**32)


def sign(b: Numbers) -> Floats:
    """-1 where the lowest bit is set, else 1."""
    return 1.0 - 2.0 * (b % 2)


def exact_radius(a: Numbers, b: Numbers) -> Floats:
    return np.sqrt(-2 * np.log(uniform(a, b)))


def exact_pairs(a: Numbers, b: Numbers) -> Floats:
    """Both normals of every pair, shape (2, *a.shape)."""
    return exact_radius(a, b) * np.stack([sign(b) * np.cos(angle(b)), np.sin(angle(b))])


def exact_radius_t(a: Numbers, b: Numbers, dof: float) -> Floats:
    """Bound of |t| for these numbers: t is it times a cosine."""
    return np.sqrt((dof - 2) * np.expm1(-2 * np.log(uniform(a, b)) / dof))


def gaussian_chunk(numbers: Iterator[int]) -> Floats:
    return exact_pairs(take(numbers, HALF), take(numbers, HALF)).reshape(-1)


def gated_chunk(numbers: Iterator[int], p: float) -> Floats:
    z = gaussian_chunk(numbers)
    return np.where(take(numbers, CHUNK) < p * 2**32, z, 0.0)


def student_chunk(numbers: Iterator[int], dof: float) -> Floats:
    a, b = take(numbers, CHUNK), take(numbers, CHUNK)
    return exact_radius_t(a, b, dof) * sign(b) * np.cos(angle(b))


def column(
    chunk: Callable[..., Floats], seed: int, trajectory: int, steps: int, *parameter: float
) -> Floats:
    """The noise of a trajectory, made of chunks."""
    numbers = numbers_of(seed, trajectory)
    chunks = [chunk(numbers, *parameter) for _ in range(0, steps, CHUNK)]
    return np.concatenate(chunks)[:steps]


# --- The package's functions, compiled over arrays --------------------------------------------------


@numba.njit
def squared_radii(a: Any, b: Any) -> Any:
    out = np.empty(len(a), np.float32)
    for i in range(len(a)):
        out[i] = random._squared_radius(a[i], b[i])
    return out


@numba.njit
def half_circle(b: Any) -> Any:
    out = np.empty((2, len(b)), np.float32)
    for i in range(len(b)):
        out[0, i], out[1, i] = random._half_circle(b[i])
    return out


@numba.njit
def exp_minus_one(x: Any) -> Any:
    out = np.empty(len(x), np.float32)
    for i in range(len(x)):
        out[i] = random._exp_minus_one(x[i])
    return out


def transform_both(a: Any, b: Any, dof: Any) -> Any:
    return random.normal_pair(a, b), random.student_t(a, b, dof, dof)


@numba.njit
def compiled_philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    return random.philox(c0, c1, c2, c3, k0, k1)


# --- Known answers ----------------------------------------------------------------------------------

# The reference code of Blackman and Vigna, ten outputs each.
XOSHIRO_ANSWERS = {
    (0, 0, 0, 1): [
        0x0000000000800000, 0x0000000000800011, 0x0002200000800011, 0x0002200044000020,
        0x00022000448008A1, 0x01102100802208A0, 0x0114002284200880, 0x0402896644A64095,
        0x8A14A0A244ACC891, 0x8C88BA4680B20495,
    ],
    (1, 2, 3, 4): [
        41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205,
        9973669472204895162, 14011001112246962877, 12406186145184390807, 15849039046786891736,
        10450023813501588000,
    ],
}  # fmt: skip

# kat_vectors of Random123, "philox4x64 10": four words of counter, two of key, four of output.
PHILOX_ANSWERS = """
0000000000000000 0000000000000000 0000000000000000 0000000000000000
0000000000000000 0000000000000000
16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b

ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffffffffffff
ffffffffffffffff ffffffffffffffff
87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0

243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89
452821e638d01377 be5466cf34e90c6c
a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6
"""


def philox_answers() -> list[tuple[int, int, tuple[int, ...]]]:
    """Counter, key and output of every vector."""
    answers = []
    for block in PHILOX_ANSWERS.strip().split("\n\n"):
        w = [int(word, 16) for word in block.split()]
        counter = sum(word << 64 * i for i, word in enumerate(w[:4]))
        answers.append((counter, w[4] + (w[5] << 64), tuple(w[6:])))
    return answers


@pytest.mark.parametrize("start", XOSHIRO_ANSWERS)
def test_xoshiro_known_answers(start: tuple[int, ...]) -> None:
    answers = XOSHIRO_ANSWERS[start]
    assert gen.words_of(np.array([start], np.uint64), len(answers))[:, 0].tolist() == answers
    assert list(islice(xoshiro(start), len(answers))) == answers


@pytest.mark.parametrize(("counter", "key", "answer"), philox_answers(), ids=["zeros", "ones", "pi"])
def test_philox_known_answers(counter: int, key: int, answer: tuple[int, ...]) -> None:
    assert philox(counter, key) == answer
    parts = [(counter, i) for i in range(4)] + [(key, i) for i in range(2)]
    words = [np.uint64(number >> 64 * i & FULL - 1) for number, i in parts]
    assert compiled_philox(*words) == answer


@pytest.mark.parametrize("seed", [0, 1, 20260101, 2**32, 2**63, 2**64 - 1])
@pytest.mark.parametrize("first", [0, 255, 2**32 - 1, 2**40, 2**64 - 200])
def test_starts_are_philox_blocks(seed: int, first: int) -> None:
    """Two implementations of Philox besides the package's; the counter is taken modulo 2^64."""
    count = STREAMS + 3
    starts = stream_starts(seed, first, count)
    assert starts.shape == (count, 4) and starts.dtype == np.uint64
    counters = [(first + i + 1) % FULL for i in range(count)]
    assert [tuple(row) for row in starts.tolist()] == [philox(counter, seed) for counter in counters]
    for i in (0, 1, STREAMS - 1, STREAMS, count - 1):
        numpys = np.random.Philox(counter=(counters[i] - 1) % 2**256, key=seed)
        assert starts[i].tolist() == numpys.random_raw(4).tolist()


def test_blocks_of_streams_are_rows_of_words() -> None:
    streams = np.zeros((3, 4 * STREAMS), np.uint64)
    random.start_streams(np.uint64(5), np.uint64(77), np.uint64(STREAMS), streams)
    for block, i in ((0, 0), (0, STREAMS - 1), (1, 0), (2, 31)):
        start = streams[block].reshape(4, STREAMS)[:, i]
        assert tuple(start.tolist()) == philox(77 + block * STREAMS + i + 1, 5)


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
@pytest.mark.parametrize("trajectory", [0, 1, LANES - 2, LANES - 1, LANES, 2 * LANES + 37])
def test_noise_follows_its_definition(seed: int, trajectory: int) -> None:
    """Order of numbers, gates and steps, over several chunks and with an odd end."""
    steps = 2 * CHUNK + 11
    for noise, exact in [
        (Gaussian(1.0), column(gaussian_chunk, seed, trajectory, steps)),
        (Gated(0.3, 1.0), column(gated_chunk, seed, trajectory, steps, 0.3)),
        (StudentT(5.0, 1.0), column(student_chunk, seed, trajectory, steps, 5.0)),
    ]:
        sample = sample_noise(noise, steps, trajectory + 1, seed)[:, trajectory]
        np.testing.assert_allclose(sample, exact, rtol=1e-6, atol=1e-6)


def test_distant_trajectory_follows_its_definition() -> None:
    """Trajectories of a late block, which no table of all columns could hold."""
    first = 2**40 - LANES
    streams = np.zeros((1, 4 * STREAMS), np.uint64)
    random.start_streams(np.uint64(3), np.uint64(first // 2), np.uint64(STREAMS), streams)
    z, words = np.zeros(CHUNK * LANES), np.zeros(random.WORDS, np.uint64)
    random.fill_gaussian(streams[0], words, z)
    for lane in (0, 1, 100, LANES - 1):
        exact = column(gaussian_chunk, 3, first + lane, CHUNK)
        np.testing.assert_allclose(z.reshape(CHUNK, LANES)[:, lane], exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_is_the_same_in_both_types(dtype: type) -> None:
    """The normals are float32 numbers, whatever the type of the update rule."""
    streams = np.zeros((1, 4 * STREAMS), np.uint64)
    random.start_streams(np.uint64(3), np.uint64(0), np.uint64(STREAMS), streams)
    z, words = np.zeros(CHUNK * LANES, dtype), np.zeros(random.WORDS, np.uint64)
    random.fill(random.NOISE_STUDENT, 4.0, streams[0], words, np.zeros((1, 1)), 0, 0, z)
    expected = sample_noise(StudentT(4.0, 1.0), CHUNK, LANES, 3)
    np.testing.assert_array_equal(z.reshape(CHUNK, LANES), expected)
    np.testing.assert_array_equal(expected, expected.astype(np.float32))


# --- The polynomials and their errors ---------------------------------------------------------------

# Docstrings give the largest errors that were seen. The bounds leave room: where the last digit goes
# depends on whether the processor multiplies and adds in one operation.


def polynomials() -> dict[str, tuple[Callable[[mpf], mpf], mpf, mpf, int, float]]:
    """Function, interval, degree and error bound for every tuple of coefficients."""

    def log(z: mpf) -> mpf:
        return -2 * mp.log1p(z) / z

    def sine(y: mpf) -> mpf:
        return mp.sin(mp.pi / 2 * mp.sqrt(y)) / mp.sqrt(y)

    def cosine(y: mpf) -> mpf:
        return mp.cos(mp.pi / 2 * mp.sqrt(y))

    def exp(f: mpf) -> mpf:
        return mp.expm1(f) / f

    zero, one, ln2 = mpf(0), mpf(1), mp.ln2
    return {
        "_LOG": (log, mp.sqrt(one / 2) - 1, mp.sqrt(2) - 1, 8, 1.3e-7),
        "_SINE": (sine, zero, one, 4, 5.6e-8),
        "_COSINE": (cosine, zero, one, 4, 1.1e-7),
        "_EXP": (exp, -ln2 / 2, ln2 / 2, 5, 2.4e-8),
    }


@pytest.mark.parametrize("name", ["_LOG", "_SINE", "_COSINE", "_EXP"])
def test_coefficients_interpolate_at_chebyshev_nodes(name: str) -> None:
    function, low, high, degree, bound = polynomials()[name]
    coefficients = getattr(random, name)
    exact = chebyshev_interpolation(function, low, high, degree)
    assert all(type(c) is np.float32 for c in coefficients)
    assert coefficients == tuple(np.float32(float(c)) for c in exact)
    points = [low + (high - low) * (k + mpf(1) / 3) / 999 for k in range(999)]
    rounded = [mpf(float(c)) for c in reversed(coefficients)]
    assert max(abs(mp.polyval(rounded, x) - function(x)) for x in points) < bound


def sample_numbers(count: int = 2**18) -> Numbers:
    """Numbers of every order of magnitude, from both ends, and the borders of signs and octants."""
    rng = np.random.default_rng(11)
    small = rng.integers(0, 2**32, count, np.uint32) >> rng.integers(0, 32, count, np.uint32)
    octants = [k * 2**29 + d for k in range(8) for d in (-65, -2, -1, 0, 1, 2, 65)]
    borders = np.array([x % 2**32 for x in octants], np.uint32)
    return np.concatenate([rng.integers(0, 2**32, 2 * count, np.uint32), small, ~small, borders])


def number_pairs() -> tuple[Numbers, Numbers]:
    """All of `sample_numbers` in both roles, combined at random but always in the same way."""
    numbers = sample_numbers()
    return numbers, np.random.default_rng(12).permutation(numbers)


def test_transform_stays_in_float32() -> None:
    """A wider type would be right as well, but at half the speed."""
    transform, types = numba.njit(transform_both), numba.types
    transform.compile((types.uint32, types.uint32, types.float32))
    (compiled,) = transform.overloads.values()
    pair = types.UniTuple(types.float32, 2)
    assert compiled.signature.return_type == types.Tuple([pair, types.float32])


def test_radius_error() -> None:
    """1.8e-7 relative to the exact radius of the rounded uniform; exactly 0 at u = 1."""
    a, b = number_pairs()
    # The last digits of u around 2^-k and 2^-k sqrt(1/2), where the logarithm takes another exponent.
    middles = [2.0**k * x for k in range(6, 32) for x in (1.0, math.sqrt(0.5))]
    borders = 2 * np.array([int(x) + d for x in middles for d in range(-32, 0)], np.uint32)
    a, b = np.concatenate([a, borders]), np.concatenate([b, np.zeros_like(borders)])
    squares = squared_radii(a, b)
    exact = exact_radius(a, b)
    assert np.all((squares == 0) == (exact == 0)) and np.all(squares >= 0)
    positive = exact > 0
    assert np.abs(np.sqrt(squares)[positive] / exact[positive] - 1).max() < 2e-7
    assert np.all(squared_radii(np.full(1, 2**32 - 1, np.uint32), b[:1]) == 0)


def test_radius_error_from_rounding_the_uniform() -> None:
    """A uniform is rounded by 65 / 2^31 at most, which a radius feels as it becomes small.

    This does not exceed 1e-6 where the radius is above 0.05 and is 2.5e-4 at most.
    """
    a, b = number_pairs()
    ideal = unrounded_uniform(a, b)
    assert np.abs(uniform(a, b) - ideal).max() <= 65 / 2**31
    radius = np.sqrt(-2 * np.log(ideal))
    error = np.abs(exact_radius(a, b) - radius)
    assert error[radius > 0.05].max() < 1e-6
    assert error.max() < 2.5e-4


def test_half_circle_error() -> None:
    """2.5e-7 for the cosine, 1.9e-7 for the sine; the cosine is above -6e-8."""
    b = sample_numbers()
    cosine, sine = half_circle(b)
    assert np.abs(cosine - np.cos(angle(b))).max() < 2.8e-7
    assert np.abs(sine - np.sin(angle(b))).max() < 2.2e-7
    assert cosine.min() > -1e-7


def test_normal_pair_error() -> None:
    """3e-7 times the radius, hence 1.7e-6 at most; above 1e-6 only once in 1e8 normals."""
    a, b = number_pairs()
    error = np.abs(gen.pairs_of(a, b) - exact_pairs(a, b))
    radius = exact_radius(a, b)
    assert np.all(error <= 3.5e-7 * radius)
    assert np.all(np.hypot(*error) <= radius / 2**21)
    assert error.max() < 2e-6
    a = np.random.default_rng(13).integers(0, 2**32, len(b), np.uint32)
    assert np.abs(gen.pairs_of(a, b) - exact_pairs(a, b)).max() < 1.2e-6


def test_largest_normal() -> None:
    """sqrt(2 * 41 * ln 2) = 7.54, from the smallest uniform, 2^-41."""
    zero, largest = np.zeros(1, np.uint32), math.sqrt(2 * 41 * math.log(2))
    assert uniform(zero, zero)[0] == 2.0**-41
    assert gen.pairs_of(zero, zero)[0, 0] == pytest.approx(largest, abs=2e-6)
    a, b = number_pairs()
    assert np.abs(gen.pairs_of(a // 2**31, b)).max() < largest + 2e-6
    assert np.all(gen.pairs_of(np.full_like(b, 2**32 - 1), b) == 0)


def reflected_strata(start: int, width: int, count: int) -> Floats:
    """Two whole numbers in each of `count` cells, at random but symmetric to the cell's middle."""
    offset = np.random.default_rng(21).integers(0, width, count)
    cells = start + width * np.arange(count)
    return np.concatenate([cells + offset, cells + (width - 1) - offset])


def radius_grid() -> Iterator[tuple[float, Numbers, Numbers]]:
    """Radius and angle numbers that cover all uniforms, in parts with their probabilities.

    The uniforms below 2^-19 are there with all their lower digits, the others in 2^16 cells for every
    power of 2.
    """
    upper, lower = np.divmod(np.arange(2**21), 2**9)
    yield 2.0**-19, (2 * upper).astype(np.uint32), (2 * lower + 1).astype(np.uint32)
    for k in range(12, 31):
        count = min(2**k, 2**16)
        upper = reflected_strata(2**k, 2**k // count, count)
        lower = np.random.default_rng(22).integers(0, 2**10, len(upper))
        yield 2.0 ** (k - 31), (2 * upper).astype(np.uint32), lower.astype(np.uint32)


def test_moments_of_the_transform() -> None:
    """Mean, variance and fourth moment of the normals, free of chance: within 1e-9, 1e-7 and 4e-7."""
    squares = [(p, squared_radii(a, b).astype(float)) for p, a, b in radius_grid()]
    assert sum(p for p, _ in squares) == 1
    second = sum(p * s.mean() for p, s in squares)
    fourth = sum(p * (s * s).mean() for p, s in squares)
    assert second == pytest.approx(2, abs=2e-8)
    assert fourth == pytest.approx(8, abs=1.5e-7)
    c, s = half_circle(reflected_strata(0, 2**10, 2**22).astype(np.uint32)).astype(float)
    # The lowest bit, the sign, makes the mean of the cosine part 0.
    assert s.mean() == pytest.approx(0, abs=1e-9) and (s**3).mean() == pytest.approx(0, abs=1e-9)
    assert (c * s).mean() == pytest.approx(0, abs=1e-9)
    assert (c * c * s * s).mean() == pytest.approx(1 / 8, abs=1e-8)
    assert (c * c + s * s).mean() == pytest.approx(1, abs=2e-9)
    for part in (c, s):
        assert (part**2).mean() == pytest.approx(1 / 2, abs=4e-8)
        assert second * (part**2).mean() == pytest.approx(1, abs=1e-7)
        assert fourth * (part**4).mean() == pytest.approx(3, abs=4e-7)


def test_law_of_the_radius() -> None:
    """P(R > r) is within 1e-7 of exp(-r^2 / 2), because exp(-R^2 / 2) is that close to its uniform."""
    for _, a, b in radius_grid():
        values = np.exp(squared_radii(a, b).astype(float) / -2)
        assert np.abs(values - unrounded_uniform(a, b)).max() < 1e-7


def test_law_of_the_normals() -> None:
    """The errors of the transform move the distribution function by 3e-8.

    At z they move it, in first order, by the density there times the mean error of normals near z.
    Since no density is above 0.4 and hardly an error above 1e-6, it cannot be more than 4e-7.
    """
    rng, bins = np.random.default_rng(23), 512
    a, b = (rng.integers(0, 2**32, 2**21, np.uint32) for _ in range(2))
    density = stats.norm.pdf(special.ndtri((np.arange(bins) + 0.5) / bins))
    for exact, z in zip(exact_pairs(a, b), gen.pairs_of(a, b), strict=True):
        places = (special.ndtr(exact) * bins).astype(np.int64)
        errors = np.bincount(places, z - exact, bins) / np.bincount(places, minlength=bins)
        assert np.abs(density * errors).max() < 4e-8


def test_exp_minus_one_error() -> None:
    """1.5e-7 relative, also where the power of two changes."""
    halves = (np.arange(126) + 0.5) * math.log(2)
    parts = [np.geomspace(1e-37, 87.99, 2**18), np.linspace(0.0, 2.0, 2**18)]
    parts += [halves * (1 + d) for d in (-1e-6, -6e-8, 0.0, 6e-8, 1e-6)]
    x = np.concatenate(parts).astype(np.float32)
    values, exact = exp_minus_one(x), np.expm1(x.astype(float))
    assert np.all((values == 0) == (x == 0))
    assert np.abs(values[x > 0] / exact[x > 0] - 1).max() < 2e-7


STUDENT_BOUNDS = {
    2.0 + 1e-9: 1.5e-6, 2.01: 2.5e-6, 2.5: 1.7e-6, 5.0: 9e-7, 30.0: 3.5e-7, 1e3: 3.5e-7, 1e8: 3.5e-7,
    1e300: 3.5e-7,
}  # fmt: skip


@pytest.mark.parametrize(("dof", "bound"), STUDENT_BOUNDS.items())
def test_student_error(dof: float, bound: float) -> None:
    """Relative to the bound of |t| where that exceeds 1; 2e-6 in the farthest tails of dof near 2."""
    a, b = number_pairs()
    t = gen.student_of(a, b, dof)
    limit = exact_radius_t(a, b, dof)
    error = np.abs(t - limit * sign(b) * np.cos(angle(b))) / np.maximum(limit, 1.0)
    assert np.all(np.isfinite(t)) and error.max() < bound
    a = np.random.default_rng(13).integers(0, 2**32, len(b), np.uint32)
    limit = exact_radius_t(a, b, dof)
    error = np.abs(gen.student_of(a, b, dof) - limit * sign(b) * np.cos(angle(b)))
    assert np.max(error / np.maximum(limit, 1.0)) < 1e-6


def test_generators_from_words_are_the_package() -> None:
    for made, expected in [
        (gen.from_words, gen.package),
        (gen.gated_from_words(0.3), gen.gated(0.3)),
        *((gen.student_from_words(dof), gen.student(dof)) for dof in STUDENT_BOUNDS),
    ]:
        np.testing.assert_allclose(made(8, 32, 301), expected(8, 32, 301), rtol=5e-7, atol=5e-7)


# --- Invariance -------------------------------------------------------------------------------------

NOISES = {
    "gaussian": Gaussian(1.0),
    "gated": Gated(0.4, 1.0),
    "student-t": StudentT(5.0, 1.0),
}
noises = pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)


@noises
@pytest.mark.parametrize("count", [1, 2, 5, LANES - 1, LANES, LANES + 1, 2 * LANES + 51])
def test_fewer_trajectories_are_the_first_columns(noise: Any, count: int) -> None:
    whole = sample_noise(noise, 19, 3 * LANES + 7, seed=5)
    part = sample_noise(noise, 19, count, seed=5)
    assert part.shape == (19, count)
    np.testing.assert_array_equal(part, whole[:, :count])


@noises
@pytest.mark.parametrize("steps", [1, 2, 3, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_fewer_steps_are_the_first_rows(noise: Any, steps: int) -> None:
    whole = sample_noise(noise, 5 * CHUNK + 3, 301, seed=6)
    part = sample_noise(noise, steps, 301, seed=6)
    assert part.shape == (steps, 301)
    np.testing.assert_array_equal(part, whole[:steps])


@noises
def test_repeated_call_gives_the_same(noise: Any) -> None:
    first, second = (sample_noise(noise, 17, 33, seed=9) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@noises
def test_std_is_a_factor(noise: Any) -> None:
    scaled = replace(noise, sigma=[1.0, 0.5, 4.0])
    factors = np.array([1.0, 0.5] + [4.0] * 9)[:, None]
    expected = factors * sample_noise(noise, 11, 13, seed=2)
    np.testing.assert_array_equal(sample_noise(scaled, 11, 13, seed=2), expected)


def test_different_seeds_share_no_pair() -> None:
    """Also where seeds agree in their lower or upper half."""
    seeds = [0, 1, 2, 2**32, 2**32 + 1, 2**63, 2**64 - 1]
    pairs = np.stack([np.stack(split(gen.package(seed, 16, 300))) for seed in seeds])
    assert len(np.unique(pairs[:, 0] + 1j * pairs[:, 1])) == pairs.size // 2


def test_starts_do_not_depend_on_the_first() -> None:
    np.testing.assert_array_equal(stream_starts(4, 700, 9), stream_starts(4, 0, 709)[700:])


# --- Tests of a sample ------------------------------------------------------------------------------


def two_sided(z: Floats | float) -> Floats:
    """p-values of standard normal scores."""
    return special.erfc(np.abs(z) / math.sqrt(2))


def smallest(*p_values: Any) -> float:
    """One p-value out of several (Bonferroni)."""
    p = np.concatenate([np.ravel(x) for x in p_values])
    return float(min(1.0, len(p) * p.min()))


def binomial(count: int, n: int, p: float) -> float:
    """Two-sided p-value of a number of successes."""
    law = stats.binom(n, p)
    return float(min(1.0, 2 * min(law.cdf(count), law.sf(count - 1))))


def uniform_ks(u: Floats) -> float:
    """Kolmogorov-Smirnov for the uniform distribution, by its limit for large samples."""
    u = np.sort(u, axis=None)
    n = len(u)
    i = np.arange(n)
    distance = max(np.max((i + 1) / n - u), np.max(u - i / n))
    return float(stats.kstwobign.sf(distance * math.sqrt(n)))


def kolmogorov_smirnov(z: Floats) -> float:
    return uniform_ks(special.ndtr(z))


def anderson_darling_tail(a2: float) -> float:
    """P(A^2 > a2) for a fully specified distribution and a large a2.

    A^2 tends to the sum of chi^2_j / (j (j + 1)). The first term decides the tail; the others
    contribute the product of (1 - 2 / (j (j + 1)))^(-1/2) over j > 1, which is sqrt(3).
    """
    return min(1.0, math.sqrt(3) * math.erfc(math.sqrt(a2)))


def anderson_darling(z: Floats) -> float:
    z = np.sort(z, axis=None)
    n = len(z)
    logs = np.log(special.ndtr(z)) + np.log(special.ndtr(-z[::-1]))
    return anderson_darling_tail(float(-n - np.sum((2 * np.arange(n) + 1.0) / n * logs)))


def moments(z: Floats) -> float:
    """Means of z, …, z^8 against those of N(0, 1), in units of their standard errors."""
    sums = np.zeros(8)
    for row in z:
        power = np.ones_like(row)
        for k in range(8):
            power *= row
            sums[k] += power.sum()
    order = np.arange(1, 9)
    mean = np.where(order % 2, 0.0, special.factorial2(order - 1))
    variance = special.factorial2(2 * order - 1) - mean**2
    return smallest(two_sided((sums / z.size - mean) / np.sqrt(variance / z.size)))


def tails(z: Floats) -> float:
    """Numbers of values beyond 3, 3.5, … 5 sigma; none at all beyond 5 must be refuted as well."""
    sigmas = (3.0, 3.5, 4.0, 4.5, 5.0)
    counts = np.zeros(len(sigmas), int)
    for row in z:
        counts += [np.count_nonzero(np.abs(row) > sigma) for sigma in sigmas]
    cases = zip(counts.tolist(), sigmas, strict=True)
    return smallest([binomial(n, z.size, 2 * special.ndtr(-sigma)) for n, sigma in cases])


def far_on_both_sides(z: Floats) -> float:
    """1 if there are values beyond 5 sigma and below -5 sigma, else 0."""
    return float(z.max() > 5 and z.min() < -5)


def repeats(z: Floats) -> float:
    """Number of pairs that occur again, both normals alike, against a bound of its mean.

    A pair is within r / 2^21 of the exact transform, r its radius, so that the exact points of equal
    pairs are closer than d = r / 2^20. That has probability 2^-40 / 4, the integral of pi d^2 times the
    squared density of points in the plane. (Uniforms that are equal add 1e-14 to it at most.)
    """
    x, y = (part.astype(np.float32).ravel() + np.float32(0) for part in split(z))
    keys = np.sort(x.view(np.uint32).astype(np.uint64) << np.uint64(32) | y.view(np.uint32))
    bound = len(keys) ** 2 / 2 * 2.0**-40 / 4
    return float(stats.poisson.sf(np.count_nonzero(keys[1:] == keys[:-1]) - 1, bound))


def uniforms_of_pairs(z: Floats) -> tuple[Floats, Floats]:
    """The two uniforms in [0, 1] that Box-Muller took, from its pairs.

    The highest bit of the second one is the sign of the cosine, the others are those of the angle.
    """
    x, y = (part.ravel() for part in split(z))
    half_turns = np.arctan2(y, np.abs(x)) / math.pi % 1.0
    return np.exp((x * x + y * y) / -2), (half_turns + (x < 0)) / 2


def leading_bits(z: Floats) -> float:
    """The upper 20 bits of the uniforms of a pair, in both lanes of a stream: balanced, uncorrelated.

    The float32 pair gives the uniforms to 2^-22 and better.
    """
    uniforms = [u for lane in (z[:, 0::2], z[:, 1::2]) for u in uniforms_of_pairs(lane)]
    digits = [np.minimum(u * 2**20, 2**20 - 1).astype(np.int32) for u in uniforms]
    signs = np.stack([2 * (d >> k & 1) - 1 for d in digits for k in range(20)]).astype(np.float32)
    n = signs.shape[1]
    products = (signs @ signs.T)[np.triu_indices(len(signs), 1)]
    return smallest(two_sided(signs.sum(axis=1) / math.sqrt(n)), two_sided(products / math.sqrt(n)))


def features(z: Floats) -> Floats:
    """z, |z| and z^2 with mean 0 and variance 1, along a new first axis."""
    absolute = (np.abs(z) - math.sqrt(2 / math.pi)) / math.sqrt(1 - 2 / math.pi)
    return np.stack([z, absolute, (z * z - 1) / math.sqrt(2)])


def correlations(a: Floats, b: Floats) -> Floats:
    """p-values of the correlations between the features a and b, nine where both have three."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return two_sided(a @ b.T / math.sqrt(a.shape[1]))


def within_pairs(z: Floats) -> float:
    x, y = split(z)
    return smallest(correlations(features(x), features(y)))


def across_steps(z: Floats) -> float:
    """Neighbouring steps and pairs, the lag of a pair, and that of a chunk, where state is stored."""
    f = features(z)
    return smallest(*(correlations(f[:, :-lag], f[:, lag:]) for lag in (1, 2, HALF, CHUNK)))


def across_lanes(z: Floats) -> float:
    """Lanes of one stream, of neighbouring streams and blocks.

    Each at the same step, two steps later, and as far later as the other normal of a pair.
    """
    f = features(z)
    p_values = []
    for offset in (1, 2, LANES):
        left, right = f[..., :-offset], f[..., offset:]
        p_values.append(correlations(left, right))
        for lag in (2, HALF):
            p_values.append(correlations(left[:, lag:], right[:, :-lag]))
            p_values.append(correlations(left[:, :-lag], right[:, lag:]))
    return smallest(*p_values)


def across_seeds(z: Floats) -> float:
    """Successive seeds (first axis): the same trajectory, and those of its and the next streams."""
    f = features(z)
    a, b = f[:, :-1], f[:, 1:]
    p_values = [correlations(a, b)]
    for offset in (1, 2):
        p_values.append(correlations(a[..., offset:], b[..., :-offset]))
        p_values.append(correlations(a[..., :-offset], b[..., offset:]))
    return smallest(*p_values)


def cells_chi_square(u: Floats, v: Floats, cells: int = 32) -> float:
    """Chi-square of pairs of uniforms over cells * cells equal squares."""
    i, j = (np.minimum(x * cells, cells - 1).astype(np.int64) for x in (u, v))
    counts = np.bincount((i * cells + j).ravel(), minlength=cells * cells)
    expected = u.size / cells**2
    return float(stats.chi2.sf(np.sum((counts - expected) ** 2) / expected, cells**2 - 1))


def pair_cells(z: Floats) -> float:
    """The pair in the plane, over cells of equal probability in both x, y and radius, angle."""
    x, y = split(z)
    cartesian = cells_chi_square(special.ndtr(x), special.ndtr(y))
    return smallest(cartesian, cells_chi_square(*uniforms_of_pairs(z)))


def chi_square(value: float, dof: int) -> float:
    """Two-sided: scatter that is too small is wrong as well."""
    law = stats.chi2(dof)
    return float(min(1.0, 2 * min(law.cdf(value), law.sf(value))))


def sums_over_lanes(z: Floats) -> float:
    """Whether every step's mean over trajectories scatters as independent trajectories would."""
    steps, lanes = z.shape
    return chi_square(float(np.sum(z.sum(axis=1) ** 2)) / lanes, steps)


def sums_over_steps(z: Floats) -> float:
    """Whether the sums along the trajectories scatter as independent steps would."""
    steps, lanes = z.shape
    return chi_square(float(np.sum(z.sum(axis=0) ** 2)) / steps, lanes)


def distinct_starts(starts: Words) -> float:
    """0 if two streams (rows) agree in their first word, else 1; a good hash gives 2e-9 for 2^18."""
    return float(len(np.unique(starts[:, 0])) == len(starts))


def changed_bits(starts: Words) -> float:
    """How many of the 256 bits differ between successive starts: binomial with p = 1/2."""
    changes = np.ascontiguousarray(starts[1:] ^ starts[:-1])
    bits = np.unpackbits(changes.view(np.uint8), axis=1).sum(axis=1, dtype=float)
    scores = (bits - 128) / 8
    return smallest(
        two_sided(scores.sum() / math.sqrt(len(bits))), chi_square(float(np.sum(scores**2)), len(bits))
    )


def student_cdf(z: Floats, dof: float) -> Floats:
    """Of the t with variance 1."""
    return special.stdtr(dof, z * math.sqrt(dof / (dof - 2)))


def student_ks(dof: float) -> Callable[[Floats], float]:
    return lambda z: uniform_ks(student_cdf(z, dof))


def student_tails(dof: float) -> Callable[[Floats], float]:
    """Numbers of values that |t| exceeds with probability 1e-2, … 1e-6."""
    probabilities = 10.0 ** -np.arange(2, 7)
    limits = stats.t.isf(probabilities / 2, dof, scale=math.sqrt((dof - 2) / dof))
    cases = list(zip(probabilities.tolist(), limits.tolist(), strict=True))
    return lambda z: smallest([binomial(int(np.sum(np.abs(z) > x)), z.size, p) for p, x in cases])


def student_steps(dof: float) -> Callable[[Floats], float]:
    """Lags 1 and 2, after a map to normals, because z^2 need have no variance."""

    def p_value(z: Floats) -> float:
        f = features(special.ndtri(student_cdf(z, dof)))
        return smallest(*(correlations(f[:, :-lag], f[:, lag:]) for lag in (1, 2)))

    return p_value


def gate_share(p: float) -> Callable[[Floats], float]:
    """Share of open steps, in all and apart for each step of a chunk; sample[0] is gated."""

    def p_value(sample: Floats) -> float:
        steps = (sample[0] != 0).reshape(-1, CHUNK, sample.shape[2])
        counts = np.count_nonzero(steps, axis=(0, 2))
        apart = [binomial(int(count), steps.size // CHUNK, p) for count in counts]
        return smallest(binomial(int(counts.sum()), steps.size, p), apart)

    return p_value


def gate_independence(p: float) -> Callable[[Floats], float]:
    """Gates against normals and against gates; sample[0] is gated, sample[1] has the same normals."""

    def p_value(sample: Floats) -> float:
        gate = ((sample[:1] != 0) - p) / math.sqrt(p * (1 - p))
        both = np.concatenate([gate, features(sample[1])])
        p_values = [correlations(gate, both[1:])]
        for lag in (1, 2, HALF, CHUNK):
            p_values.append(correlations(gate[:, :-lag], both[:, lag:]))
            p_values.append(correlations(gate[:, lag:], both[1:, :-lag]))
        for offset in (1, 2):
            p_values.append(correlations(gate[..., :-offset], both[..., offset:]))
            p_values.append(correlations(gate[..., offset:], both[1:, :, :-offset]))
        return smallest(*p_values)

    return p_value


def test_anderson_darling_tail() -> None:
    """Upper 5, 2.5 and 1 percent points of A^2 in the literature, which its tail must approach."""
    assert anderson_darling_tail(2.492) == pytest.approx(0.05, rel=0.15)
    assert anderson_darling_tail(3.070) == pytest.approx(0.025, rel=0.1)
    assert anderson_darling_tail(3.857) == pytest.approx(0.01, rel=0.06)


# --- The tests, each with what it refutes -----------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A test, the generator that passes it, those that do not, and the size of the sample."""

    name: str
    p_value: Callable[[Any], float]
    good: Sampler
    spoiled: tuple[Sampler, ...]
    steps: int = 64
    trajectories: int = 2**16
    seed: int = 1

    def p_of(self, sampler: Sampler) -> float:
        return self.p_value(sampler(self.seed, self.steps, self.trajectories))


def case(p_value: Callable[[Any], float], *spoiled: Sampler, **options: Any) -> Case:
    """A case for normals, named after its test."""
    return Case(p_value.__name__, p_value, options.pop("good", gen.package), spoiled, **options)


CASES = [
    case(kolmogorov_smirnov, gen.shifted, gen.sum_of_twelve),
    case(anderson_darling, gen.shifted, gen.sum_of_twelve),
    case(moments, gen.wrong_variance, gen.heavy_tails, steps=256),
    case(tails, gen.cut_at_4_5_sigma, gen.cut_at_4_9_sigma, gen.twelve_bits, steps=512),
    case(far_on_both_sides, gen.cut_at_4_9_sigma, steps=256),
    case(leading_bits, gen.stuck_bit, gen.stuck_angle_bit, gen.linked_bits, gen.linked_sign,
         gen.twelve_bits, gen.rotated_by_13, steps=16),
    case(repeats, gen.twelve_bits, gen.twin_lanes),
    case(within_pairs, gen.common_radius, gen.correlated_pair, gen.correlated_lag_8),
    case(pair_cells, gen.common_radius, gen.repeated_number),
    case(across_steps, gen.correlated_lag_1, gen.correlated_lag_2, gen.correlated_lag_8,
         gen.overlapping_numbers, gen.forgotten_state),
    case(across_lanes, gen.twin_lanes, gen.rotated_by_5, gen.late_twin_lanes, gen.swapped_lanes,
         gen.twin_streams, gen.correlated_lanes, gen.repeated_block, gen.unhashed_lanes),
    case(sums_over_lanes, gen.common_component),
    case(sums_over_steps, gen.constant_component, steps=1024, trajectories=4096),
    case(across_seeds, gen.shifting_seeds, gen.unhashed_seeds, good=gen.by_seed, steps=16),
    case(distinct_starts, gen.shifting_starts, gen.short_starts, good=gen.starts_of_all,
         trajectories=4096),
    case(changed_bits, gen.unhashed_states, good=gen.starts_by_stream),
    Case("changed_bits_by_seed", changed_bits, gen.starts_by_seed, (gen.unhashed_states,),
         trajectories=4096),
]  # fmt: skip
for _dof in (2.5, 5.0, 30.0):
    _good = gen.student(_dof)
    _shapes = (gen.unscaled_student(_dof), gen.doubled_dof(_dof))
    _ends = (gen.cut_student(_dof), gen.coarse_student(_dof))
    CASES += [
        Case(f"student_ks-{_dof:g}", student_ks(_dof), _good, _shapes, steps=32),
        Case(f"student_tails-{_dof:g}", student_tails(_dof), _good, _ends),
    ]
_overlapping = (gen.overlapping_student(5.0),)
CASES.append(Case("student_steps-5", student_steps(5.0), gen.student(5.0), _overlapping, steps=32))
for _p in (0.003, 0.1, 1 / 3):
    _spoiled = (gen.coarse_gate(_p), gen.wide_gate_of_one_step(_p))
    CASES.append(Case(f"gate_share-{_p:.3g}", gate_share(_p), gen.gated(_p), _spoiled))
for _p in (0.1, 1 / 3):
    _spoiled = (gen.gate_from_normal(_p), gen.gate_of_next_chunk(_p), gen.one_gate_per_pair(_p),
                gen.late_gate(_p), gen.twin_gates(_p))  # fmt: skip
    _name = f"gate_independence-{_p:.3g}"
    CASES.append(Case(_name, gate_independence(_p), gen.gated(_p), _spoiled, steps=32))

REFUTATIONS = [
    pytest.param(case, spoiled, id=f"{case.name}-{spoiled.__name__}")
    for case in CASES
    for spoiled in case.spoiled
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_package_passes(case: Case) -> None:
    assert case.p_of(case.good) > ALPHA


@pytest.mark.parametrize(("case", "spoiled"), REFUTATIONS)
def test_the_spoiled_generator_is_refuted(case: Case, spoiled: Sampler) -> None:
    assert case.p_of(spoiled) < ALPHA


@pytest.mark.parametrize("steps", [1, 7, 16])
def test_gate_that_never_and_always_opens(steps: int) -> None:
    assert np.all(sample_noise(Gated(0.0, 1.0), steps, 5001, seed=3) == 0.0)
    assert np.all(sample_noise(Gated(1.0, 1.0), steps, 5001, seed=3) != 0.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("step", [0, 1, HALF, CHUNK - 1])
def test_gate_opens_below_its_probability(seed: int, step: int) -> None:
    """A number g opens a gate exactly if g < p 2^32, also for p between multiples of 2^-32."""
    g = int(take(numbers_of(seed, 0), 2 * CHUNK)[CHUNK + step])
    for p, is_open in ((g, False), (g + 0.25, True), (g + 1, True), (g - 0.5, False)):
        z = sample_noise(Gated(p / 2**32, 1.0), CHUNK, 1, seed)
        assert (z[step, 0] != 0) == is_open


def test_wider_gate_keeps_what_a_narrow_one_lets_through() -> None:
    """The gate decides alone whether a normal is seen, not which one."""
    narrow, wide, whole = (sample_noise(Gated(p, 1.0), 33, 999, seed=4) for p in (0.1, 0.6, 1.0))
    np.testing.assert_array_equal(narrow, np.where(narrow != 0, whole, 0.0))
    np.testing.assert_array_equal(wide, np.where(wide != 0, whole, 0.0))
    assert np.all(wide[narrow != 0] != 0)

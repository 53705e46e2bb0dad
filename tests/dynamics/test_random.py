"""The random numbers: words and functions against references, the distribution by tests that can fail.

Every statistical test is a function from a sample to a p-value. The generator of the package must pass
it and at least one generator that is spoiled in a single, small way must be refuted by it, both at
`ALPHA` and with fixed seeds. The table `CASES` joins tests, sizes and spoiled generators.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import mpmath
import numba
import numpy as np
import pytest
from dynamics import spoiled_generators as gen
from dynamics.spoiled_generators import Floats, Sampler, Words
from mpmath import mp, mpf
from scipy import special, stats

from regdyn.dynamics import random
from regdyn.dynamics.noise import Gated, Gaussian, StudentT
from regdyn.dynamics.random import CHUNK, LANES, stream_starts
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


def stream(seed: int, trajectory: int) -> Iterator[int]:
    """The words that a trajectory draws, as the module's docstring defines them."""
    return xoshiro(philox(trajectory + 1, seed))


def uniform(word: int) -> float:
    """The u in (0, 1] of a radius word, in float64 as in the package."""
    return (float(word >> 1) + 0.5) / 2.0**63


def angle(word: int) -> mpf:
    return mp.pi * (word - FULL if word >= FULL // 2 else word) / mpf(FULL // 2)


def exact_pair(radius_word: int, direction_word: int) -> tuple[mpf, mpf]:
    r = mp.sqrt(-2 * mp.log(uniform(radius_word)))
    return r * mp.cos(angle(direction_word)), r * mp.sin(angle(direction_word))


def exact_radius_t(radius_word: int, dof: float) -> mpf:
    """Bound of |t| for this radius word: t is it times a cosine."""
    square = mp.expm1(-2 * mp.log(uniform(radius_word)) / mpf(dof))
    return mp.sqrt((mpf(dof) - 2) * square)


def gaussian_column(seed: int, trajectory: int, steps: int) -> list[mpf]:
    words = stream(seed, trajectory)
    pairs = (exact_pair(next(words), next(words)) for _ in range(0, steps, 2))
    return [z for pair in pairs for z in pair][:steps]


def gated_column(seed: int, trajectory: int, steps: int, p: float) -> list[mpf]:
    """Upper and lower half of every third word open the gates of the odd and the even step."""
    words, column = stream(seed, trajectory), []
    for _ in range(0, steps, 2):
        pair = exact_pair(next(words), next(words))
        halves = divmod(next(words), 2**32)
        column += [z if half < p * 2**32 else mpf(0) for z, half in zip(pair, halves, strict=True)]
    return column[:steps]


def student_column(seed: int, trajectory: int, steps: int, dof: float) -> list[mpf]:
    words = stream(seed, trajectory)
    return [exact_radius_t(next(words), dof) * mp.cos(angle(next(words))) for _ in range(steps)]


# --- The package's functions, compiled over arrays --------------------------------------------------


@numba.njit
def directions(words: Any) -> Any:
    out = np.empty((2, len(words)))
    for i in range(len(words)):
        out[0, i], out[1, i] = random._direction(words[i])
    return out


@numba.njit
def exp_minus_one(x: Any) -> Any:
    out = np.empty(len(x))
    for i in range(len(x)):
        out[i] = random._exp_minus_one(x[i])
    return out


@numba.njit
def minus_two_log(bits: Any) -> Any:
    out = np.empty(len(bits))
    for i in range(len(bits)):
        out[i] = random.minus_two_log(bits[i])
    return out


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
    """Trajectory i has counter i + 1, so the vector of counter 0 belongs to trajectory -1 mod 2^256."""
    assert tuple(stream_starts(key, (counter - 1) % 2**256, 1)[0].tolist()) == answer
    assert philox(counter, key) == answer


@pytest.mark.parametrize("seed", [0, 1, 20260101, 2**32, 2**64 - 1])
@pytest.mark.parametrize("first", [0, 255, 2**32 - 1, 2**40])
def test_stream_starts_are_philox_blocks(seed: int, first: int) -> None:
    starts = stream_starts(seed, first, 3)
    assert starts.shape == (3, 4) and starts.dtype == np.uint64
    assert [tuple(row) for row in starts.tolist()] == [philox(first + i + 1, seed) for i in range(3)]


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
@pytest.mark.parametrize("trajectory", [0, 1, LANES - 1, LANES, 2 * LANES + 37])
def test_noise_follows_its_definition(seed: int, trajectory: int) -> None:
    """Order of words, gates and steps, over several chunks and with an odd end."""
    steps = 2 * CHUNK + 5
    for noise, exact in [
        (Gaussian(1.0), gaussian_column(seed, trajectory, steps)),
        (Gated(0.3, 1.0), gated_column(seed, trajectory, steps, 0.3)),
        (StudentT(5.0, 1.0), student_column(seed, trajectory, steps, 5.0)),
    ]:
        column = sample_noise(noise, steps, trajectory + 1, seed)[:, trajectory]
        np.testing.assert_allclose(column, np.array(exact, float), rtol=0, atol=2e-10)


def test_distant_trajectory_follows_its_definition() -> None:
    """Trajectories of a late block, which no table of all columns could hold."""
    first = 2**40 - LANES
    state = np.ascontiguousarray(stream_starts(3, first, LANES).T).reshape(-1)
    z = np.zeros(CHUNK * LANES)
    random.fill_gaussian(state, z)
    for lane in (0, 100, LANES - 1):
        exact = np.array(gaussian_column(3, first + lane, CHUNK), float)
        np.testing.assert_allclose(z.reshape(CHUNK, LANES)[:, lane], exact, rtol=0, atol=2e-10)


# --- The polynomials and their errors ---------------------------------------------------------------


def chebyshev_interpolation(
    function: Callable[[mpf], mpf], low: mpf, high: mpf, degree: int
) -> list[mpf]:
    """Coefficients, lowest first, of the polynomial through `function` at the Chebyshev nodes."""
    count = degree + 1
    nodes = [mp.cos((2 * k + 1) * mp.pi / (2 * count)) for k in range(count)]
    nodes = [(low + high + (high - low) * node) / 2 for node in nodes]
    powers = mp.matrix([[node**j for j in range(count)] for node in nodes])
    return list(mp.lu_solve(powers, mp.matrix([function(node) for node in nodes])))


def long_literals(function: Any) -> list[float]:
    """The float constants with more than five characters in the source of a compiled function."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function.py_func)))
    numbers = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [x for x in numbers if isinstance(x, float) and len(repr(x)) > 5]


def polynomials() -> dict[str, tuple[Any, list[mpf]]]:
    """For every function, the coefficients of its polynomials made anew."""

    def log(z: mpf) -> mpf:
        return -2 * mp.log1p(z) / z

    def sine(y: mpf) -> mpf:
        return mp.sin(mp.pi / 4 * mp.sqrt(y)) / mp.sqrt(y)

    def cosine(y: mpf) -> mpf:
        return mp.cos(mp.pi / 4 * mp.sqrt(y))

    def exp(f: mpf) -> mpf:
        return mp.expm1(f) / f

    half, zero, one, ln2 = mpf(1) / 2, mpf(0), mpf(1), mp.ln2
    logs = chebyshev_interpolation(log, mp.sqrt(half) - 1, mp.sqrt(2) - 1, 11)
    sines = chebyshev_interpolation(sine, zero, one, 4)
    cosines = chebyshev_interpolation(cosine, zero, one, 5)
    exps = chebyshev_interpolation(exp, -ln2 / 2, ln2 / 2, 9)
    return {
        "log": (random._log1p_over_z, logs),
        "direction": (random._direction, sines + cosines),
        "exp": (random._exp_minus_one, exps),
    }


@pytest.mark.parametrize("name", ["log", "direction", "exp"])
def test_coefficients_interpolate_at_chebyshev_nodes(name: str) -> None:
    """The literals are the rounded coefficients: all of them and nothing else.

    Signs are left out, because a literal may stand behind a minus; the errors below depend on them.
    """
    function, coefficients = polynomials()[name]
    assert sorted(long_literals(function)) == sorted(abs(float(c)) for c in coefficients)


def sample_words() -> Words:
    """Words of every order of magnitude, from both ends, and the borders of signs and octants."""
    rng = np.random.default_rng(11)
    uniform_words = rng.integers(0, FULL, 1500, dtype=np.uint64)
    small = rng.integers(0, FULL, 500, dtype=np.uint64) >> rng.integers(0, 64, 500, dtype=np.uint64)
    octants = [k * 2**61 + d for k in range(8) for d in (-1025, -1, 0, 1, 1025)]
    borders = np.array([x % FULL for x in octants], np.uint64)
    return np.concatenate([uniform_words, small, ~small, borders])


def word_pairs() -> tuple[Words, Words]:
    """All of `sample_words` in both roles, combined at random but always in the same way."""
    w = sample_words()
    return w, np.random.default_rng(12).permutation(w)


def largest(values: Iterator[mpf]) -> float:
    return float(max(abs(x) for x in values))


def test_minus_two_log_error() -> None:
    """Its root is a radius: error below 2e-10 from 2^-64 up to 1, and exactly 0 at u = 1."""
    x = np.concatenate(
        [
            np.arange(4096) + 0.5,
            np.geomspace(0.5, 2.0**63, 3000),
            2.0**63 * np.linspace(0.25, 1.0, 3001),
            [2.0**63 * (1 - k * 2.0**-53) for k in range(1, 65)],
            [s * 2.0**k * math.sqrt(0.5) for k in range(1, 64) for s in (1 - 1e-15, 1.0, 1 + 1e-15)],
        ]
    )
    values = minus_two_log(x.view(np.uint64))
    assert np.all(values >= 0)
    exact = [-2 * mp.log(mpf(a) / 2**63) for a in x.tolist()]
    assert largest(mp.sqrt(v) - mp.sqrt(e) for v, e in zip(values.tolist(), exact, strict=True)) < 2e-10
    relative = (v / e - 1 for v, e in zip(values.tolist(), exact, strict=True) if e)
    assert largest(relative) < 1.5e-10
    assert minus_two_log(np.array([2.0**63]).view(np.uint64))[0] == 0.0


def test_direction_error() -> None:
    """cos = 1 - 8 s^2 and sin = 4 s c, each within 2e-11: 9.4 times that is below 2e-10."""
    w = sample_words()
    c, s = directions(w)
    angles = [angle(word) for word in w.tolist()]
    cosine, sine = 1.0 - 8.0 * (s * s), 4.0 * (s * c)
    assert largest(a - mp.cos(b) for a, b in zip(cosine.tolist(), angles, strict=True)) < 2e-11
    assert largest(a - mp.sin(b) for a, b in zip(sine.tolist(), angles, strict=True)) < 2e-11


def test_normal_pair_error() -> None:
    """The 2e-10 of the module's docstring, for all sizes of radius."""
    radius, direction = word_pairs()
    z = gen.normals_of(radius[None, :], direction[None, :])
    exact = [exact_pair(*pair) for pair in zip(radius.tolist(), direction.tolist(), strict=True)]
    for row, part in zip(z.tolist(), zip(*exact, strict=True), strict=True):
        assert largest(a - b for a, b in zip(row, part, strict=True)) < 2e-10


def test_radius_error_from_rounding_the_uniform() -> None:
    """float64 rounds u to 2^-53 near 1; a radius feels this only below 1e-6, and by 1.1e-8 at most.

    So small a radius has probability 5e-13.
    """
    w = sample_words()
    z = gen.normals_of(w[None, :], np.zeros((1, len(w)), np.uint64))[0]
    exact = [mp.sqrt(-2 * mp.log((mpf(word >> 1) + 0.5) / 2**63)) for word in w.tolist()]
    errors = [(r, abs(a - r)) for a, r in zip(z.tolist(), exact, strict=True)]
    assert max(e for r, e in errors if r > 1e-6) < 2e-10
    assert max(e for _, e in errors) < 1.1e-8


def test_largest_normal() -> None:
    z = gen.normals_of(np.zeros((1, 1), np.uint64), np.zeros((1, 1), np.uint64))[0, 0]
    assert z == pytest.approx(math.sqrt(2 * 64 * math.log(2)), abs=2e-10)
    ends = np.array([[0, FULL - 1]], np.uint64)
    for direction in (0, 2**61, 2**62, 2**63):
        pair = gen.normals_of(ends, np.full((1, 2), direction, np.uint64))
        assert np.all(np.abs(pair) < z + 2e-10) and np.all(pair[:, 1] == 0.0)


def test_exp_minus_one_error() -> None:
    """The relative error of its docstring, also where the power of two changes."""
    halves = (np.arange(1010) + 0.5) * math.log(2)
    x = np.concatenate(
        [np.geomspace(1e-300, 699.999, 4000), np.linspace(0.0, 2.0, 3000)]
        + [halves * (1 + d) for d in (-1e-9, -2e-16, 0.0, 2e-16, 1e-9)]
    )
    x = x[x < 700]
    values = exp_minus_one(x)
    assert np.all(values[x == 0] == 0)
    exact = [(v, mpmath.expm1(a)) for v, a in zip(values.tolist(), x.tolist(), strict=True) if a]
    assert largest(v / e - 1 for v, e in exact) < 1e-14


@pytest.mark.parametrize("dof", [2.0 + 1e-9, 2.5, 5.0, 30.0, 1e3, 1e8, 1e300])
def test_student_error(dof: float) -> None:
    """Within 2e-10, and relative to the bound of |t| where that exceeds 1."""
    radius, direction = word_pairs()
    t = gen.student_of(radius[None, :], direction[None, :], dof)[0]
    bounds = [exact_radius_t(word, dof) for word in radius.tolist()]
    cosines = [mp.cos(angle(word)) for word in direction.tolist()]
    triples = zip(t.tolist(), bounds, cosines, strict=True)
    assert largest((a - b * c) / max(b, mpf(1)) for a, b, c in triples) < 2e-10


def test_generator_from_words_is_the_package() -> None:
    np.testing.assert_allclose(gen.from_words(8, 24, 300), gen.package(8, 24, 300), rtol=0, atol=1e-14)


def test_gated_from_words_is_the_package() -> None:
    expected = gen.gated(0.3)(8, 24, 300)
    np.testing.assert_allclose(gen.gated_from_words(0.3)(8, 24, 300), expected, rtol=0, atol=1e-14)


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


def test_different_seeds_share_no_number() -> None:
    """Also where seeds agree in their lower or upper half."""
    seeds = [0, 1, 2, 2**32, 2**32 + 1, 2**63, 2**64 - 1]
    z = np.stack([sample_noise(Gaussian(1.0), 16, 300, seed) for seed in seeds])
    assert len(np.unique(z)) == z.size


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
    """Number of equal |z|, against its mean on a grid of 2^-52: float64 is finer for |z| < 1."""
    z = np.sort(np.abs(z), axis=None)
    bound = len(z) ** 2 / 2 * 2.0**-52 / math.sqrt(math.pi)
    return float(stats.poisson.sf(np.count_nonzero(z[1:] == z[:-1]) - 1, bound))


def uniforms_of_pairs(z: Floats) -> tuple[Floats, Floats]:
    """The two uniforms in [0, 1] that Box-Muller took, from its pairs."""
    a, b = z[0::2].ravel(), z[1::2].ravel()
    return np.exp((a * a + b * b) / -2), np.arctan2(b, a) / (2 * math.pi) % 1.0


def leading_bits(z: Floats) -> float:
    """The upper 20 bits of both uniforms of a pair: all balanced and no two correlated."""
    digits = [np.minimum(u * 2**20, 2**20 - 1).astype(np.int32) for u in uniforms_of_pairs(z)]
    signs = np.stack([2 * (d >> k & 1) - 1 for d in digits for k in range(20)]).astype(np.float32)
    n = signs.shape[1]
    products = (signs @ signs.T)[np.triu_indices(40, 1)]
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
    return smallest(correlations(features(z[0::2]), features(z[1::2])))


def across_steps(z: Floats) -> float:
    """Lag 1 from pair to pair, lag 2, and the lag of a chunk, after which the state was stored."""
    f = features(z)
    between = correlations(f[:, 1:-1:2], f[:, 2::2])
    return smallest(between, *(correlations(f[:, :-lag], f[:, lag:]) for lag in (2, CHUNK)))


def across_lanes(z: Floats) -> float:
    """Neighbouring lanes and neighbouring blocks, at the same step and two steps later."""
    f = features(z)
    p_values = []
    for offset in (1, LANES):
        left, right = f[..., :-offset], f[..., offset:]
        p_values.append(correlations(left, right))
        p_values.append(correlations(left[:, 2:], right[:, :-2]))
        p_values.append(correlations(left[:, :-2], right[:, 2:]))
    return smallest(*p_values)


def across_seeds(z: Floats) -> float:
    """Successive seeds (first axis): the same trajectory and its neighbours."""
    f = features(z)
    a, b = f[:, :-1], f[:, 1:]
    return smallest(
        correlations(a, b),
        correlations(a[..., 1:], b[..., :-1]),
        correlations(a[..., :-1], b[..., 1:]),
    )


def cells_chi_square(u: Floats, v: Floats, cells: int = 32) -> float:
    """Chi-square of pairs of uniforms over cells * cells equal squares."""
    i, j = (np.minimum(x * cells, cells - 1).astype(np.int64) for x in (u, v))
    counts = np.bincount((i * cells + j).ravel(), minlength=cells * cells)
    expected = u.size / cells**2
    return float(stats.chi2.sf(np.sum((counts - expected) ** 2) / expected, cells**2 - 1))


def pair_cells(z: Floats) -> float:
    """The pair in the plane, over cells of equal probability in both x, y and radius, angle."""
    cartesian = cells_chi_square(special.ndtr(z[0::2]), special.ndtr(z[1::2]))
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
    """Share of open steps, apart for odd and even steps; sample[0] is gated."""

    def p_value(sample: Floats) -> float:
        halves = sample[0, 0::2], sample[0, 1::2]
        return smallest([binomial(np.count_nonzero(half), half.size, p) for half in halves])

    return p_value


def gate_independence(p: float) -> Callable[[Floats], float]:
    """Gates against normals and against gates; sample[0] is gated, sample[1] has the same normals."""

    def p_value(sample: Floats) -> float:
        gate = ((sample[:1] != 0) - p) / math.sqrt(p * (1 - p))
        both = np.concatenate([gate, features(sample[1])])
        return smallest(
            correlations(gate, both[1:]),
            correlations(gate[:, 0::2], both[:, 1::2]),
            correlations(gate[:, 1::2], both[1:, 0::2]),
            correlations(gate[:, 1:-1:2], both[:, 2::2]),
            correlations(gate[:, :-2], both[:, 2:]),
            correlations(gate[:, 2:], both[1:, :-2]),
            correlations(gate[..., :-1], both[..., 1:]),
            correlations(gate[..., 1:], both[1:, :, :-1]),
        )

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
    case(leading_bits, gen.stuck_bit, gen.linked_bits, gen.twelve_bits, steps=8),
    case(repeats, gen.twelve_bits, gen.twin_lanes),
    case(within_pairs, gen.common_radius, gen.correlated_pair, gen.correlated_lag_1),
    case(pair_cells, gen.common_radius, gen.repeated_word),
    case(across_steps, gen.correlated_lag_1, gen.correlated_lag_2, gen.overlapping_words,
         gen.forgotten_state),
    case(across_lanes, gen.twin_lanes, gen.late_twin_lanes, gen.correlated_lanes, gen.repeated_block,
         gen.unhashed_lanes, steps=32),
    case(sums_over_lanes, gen.common_component),
    case(sums_over_steps, gen.constant_component, steps=1024, trajectories=4096),
    case(across_seeds, gen.shifting_seeds, gen.unhashed_seeds, good=gen.by_seed, steps=16),
    case(distinct_starts, gen.shifting_starts, gen.short_starts, good=gen.starts_of_all,
         trajectories=4096),
    case(changed_bits, gen.unhashed_states, good=gen.starts_by_trajectory),
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
    CASES.append(Case(f"gate_share-{_p:.3g}", gate_share(_p), gen.gated(_p), (gen.coarse_gate(_p),)))
for _p in (0.1, 1 / 3):
    _spoiled = (gen.gate_from_radius(_p), gen.gate_of_next_radius(_p), gen.one_gate_per_pair(_p))
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
def test_gate_opens_below_its_probability(seed: int) -> None:
    """A half word h opens a gate exactly if h < p 2^32, also for p between multiples of 2^-32."""
    _, _, third = islice(stream(seed, 0), 3)
    for row, half in enumerate(divmod(third, 2**32)):
        for p, is_open in ((half, False), (half + 0.25, True), (half + 1, True), (half - 0.5, False)):
            z = sample_noise(Gated(p / 2**32, 1.0), 2, 1, seed)
            assert (z[row, 0] != 0) == is_open


def test_wider_gate_keeps_what_a_narrow_one_lets_through() -> None:
    """The gate decides alone whether a normal is seen, not which one."""
    narrow, wide, whole = (sample_noise(Gated(p, 1.0), 33, 999, seed=4) for p in (0.1, 0.6, 1.0))
    np.testing.assert_array_equal(narrow, np.where(narrow != 0, whole, 0.0))
    np.testing.assert_array_equal(wide, np.where(wide != 0, whole, 0.0))
    assert np.all(wide[narrow != 0] != 0)

"""Random numbers that depend on (seed, trajectory, step) alone, at the speed of the update rules.

Each trajectory owns one xoshiro256++ stream (Blackman and Vigna 2021). Its 256-bit start is block
number `trajectory + 1` of Philox4x64-10 (Salmon et al. 2011) under the key `seed`: a hash, and for
one seed a permutation, so that no two trajectories share a start. Trajectories are filled `LANES` at
a time; which block, thread or process fills a lane changes nothing.

Two words of 64 bits become two independent normals by the transform of Box and Muller, for the steps
2 k + 1 and 2 k + 2. Logarithm, sine and cosine are polynomials (a normal is within 2e-10 of the exact
transform of its float64 uniforms, far below what any sample can show), because a call of the C library
would end vectorisation. The largest normal is sqrt(2 * 64 * ln 2) = 9.4.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regdyn.dynamics._jit import bits_of, float_of, inlined, kernel, use_wide_vectors

LANES = 128
"""Trajectories in a block: its state and its noise stay in the first-level cache, with room."""

CHUNK = 16
"""Steps of noise that a block keeps ready; even, since normals come in pairs."""

NOISE_NONE, NOISE_GAUSSIAN, NOISE_GATED, NOISE_STUDENT, NOISE_TRACE = range(5)

_U = np.uint64
_SQRT_HALF_BITS = _U(np.float64(np.sqrt(0.5)).view(np.uint64))
_EXPONENT_63 = _U(63 << 52)
_MANTISSA = _U((1 << 52) - 1)
_TWO_LN2 = 2.0 * math.log(2.0)
_LOG2_E = 1.0 / math.log(2.0)
_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_TWO_TO_MINUS_63 = 2.0**-63


def stream_starts(seed: int, first: int, count: int) -> NDArray[np.uint64]:
    """Starts of the streams of trajectories first … first + count - 1, shape (count, 4).

    Row i holds the four words of Philox4x64-10 for counter first + i + 1 and key `seed`.
    """
    words = np.random.Philox(counter=first, key=seed).random_raw(4 * count)
    return words.reshape(count, 4)


@inlined
def _rotate_left(x: Any, k: Any) -> Any:
    return (x << _U(k)) | (x >> _U(64 - k))


@inlined
def next_word(s0: Any, s1: Any, s2: Any, s3: Any) -> Any:
    """One output of xoshiro256++ and its next state: (word, s0, s1, s2, s3), all uint64."""
    word = _rotate_left(s0 + s3, 23) + s0
    t = s1 << _U(17)
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= t
    return word, s0, s1, s2, _rotate_left(s3, 45)


# The polynomials interpolate at Chebyshev nodes; tests/dynamics/test_random.py derives them again.


@inlined
def _log1p_over_z(z: Any) -> Any:
    """-2 ln(1 + z) / z for 1 + z in [sqrt(1/2), sqrt(2)], in Estrin's order for short chains."""
    z2 = z * z
    z4 = z2 * z2
    a = (-2.000000000096024 + 1.0000000061691077 * z) + (
        -0.6666666169256104 + 0.49999873171629633 * z
    ) * z2
    b = (-0.4000033927588508 + 0.3334076730475459 * z) + (
        -0.28567596790540506 + 0.24821771331922843 * z
    ) * z2
    c = (-0.22085472079438018 + 0.21796225155754365 * z) + (
        -0.21273084751159907 + 0.11691342670179275 * z
    ) * z2
    return a + (b + c * z4) * z4


@inlined
def minus_two_log(bits: Any) -> Any:
    """-2 ln(x / 2^63) for the bits of a float64 x > 0."""
    shifted = bits - _SQRT_HALF_BITS - _EXPONENT_63
    exponent = np.float64(np.int64(shifted) >> np.int64(52))
    z = float_of((shifted & _MANTISSA) + _SQRT_HALF_BITS) - 1.0
    return z * _log1p_over_z(z) - _TWO_LN2 * exponent


@inlined
def _squared_radius(word: Any) -> Any:
    """-2 ln u for u uniform on (0, 1], from the upper 63 bits."""
    return minus_two_log(bits_of(np.float64(np.int64(word >> _U(1))) + 0.5))


@inlined
def _direction(word: Any) -> Any:
    """A uniform point on the circle as (c, s) with cos = 1 - 8 s^2 and sin = 4 s c.

    Sine and cosine of a quarter of the angle, then doubled twice: cheaper than choosing a quadrant.
    """
    x = np.float64(np.int64(word)) * _TWO_TO_MINUS_63
    y = x * x
    sine = 0.002490393210175957 + y * (-3.657239263067379e-05 + 3.089966866337448e-07 * y)
    sine = 0.78539816339405 + y * (-0.08074551201834942 + y * sine)
    sine = sine * x
    cosine = -0.0003259916875350726 + y * (3.5904755349763954e-06 - 2.426851890411488e-08 * y)
    cosine = -0.3084251375300398 + y * (0.01585434419710652 + y * cosine)
    cosine = 0.9999999999999444 + y * cosine
    return 1.0 - 2.0 * (sine * sine), sine * cosine


@inlined
def normal_pair(radius_word: Any, direction_word: Any) -> Any:
    """Two independent standard normals from two words (Box and Muller 1958)."""
    r = math.sqrt(_squared_radius(radius_word))
    c, s = _direction(direction_word)
    return r * (1.0 - 8.0 * (s * s)), (4.0 * r) * (s * c)


@inlined
def _exp_minus_one(x: Any) -> Any:
    """exp(x) - 1 for 0 <= x < 700, relative error below 1e-14."""
    k = np.floor(x * _LOG2_E + 0.5)
    f = (x - k * _LN2_HIGH) - k * _LN2_LOW
    f2 = f * f
    p = 2.4801521322368692e-05 + 2.7632640675430236e-06 * f + 2.7620075879983367e-07 * f2
    p = 0.008333333367311603 + 0.0013888888917196719 * f + f2 * (0.0001984119064754424 + f * p)
    p = 0.5000000000000001 + 0.16666666666615648 * f + f2 * (0.041666666666624164 + f * p)
    p = f * (1.0000000000000013 + f * p)
    power = float_of(_U(np.int64(k) + np.int64(1023)) << _U(52))
    return power * p + (power - 1.0)


@inlined
def student_t(radius_word: Any, direction_word: Any, dof: Any) -> Any:
    """Student's t with `dof` > 2 degrees of freedom, scaled to variance 1 (Bailey 1994)."""
    excess = _exp_minus_one(_squared_radius(radius_word) / dof)
    _, s = _direction(direction_word)
    return math.sqrt((dof - 2.0) * excess) * (1.0 - 8.0 * (s * s))


@kernel
def fill_gaussian(rng: Any, z: Any) -> None:
    """Standard normals for `CHUNK` steps of one block; z[k * LANES + lane] belongs to step k."""
    use_wide_vectors()
    for k in range(0, len(z), 2 * LANES):
        odd, even = z[k : k + LANES], z[k + LANES : k + 2 * LANES]
        for i in range(LANES):
            s0, s1, s2, s3 = rng[i], rng[LANES + i], rng[2 * LANES + i], rng[3 * LANES + i]
            first, s0, s1, s2, s3 = next_word(s0, s1, s2, s3)
            second, s0, s1, s2, s3 = next_word(s0, s1, s2, s3)
            rng[i], rng[LANES + i], rng[2 * LANES + i], rng[3 * LANES + i] = s0, s1, s2, s3
            a, b = normal_pair(first, second)
            odd[i], even[i] = a, b


@kernel
def fill_gated(rng: Any, z: Any, probability: Any) -> None:
    """As `fill_gaussian`, each normal kept with `probability` (to 2^-32) and 0 otherwise."""
    use_wide_vectors()
    gate = _U(math.ceil(probability * 4294967296.0))
    for k in range(0, len(z), 2 * LANES):
        odd, even = z[k : k + LANES], z[k + LANES : k + 2 * LANES]
        for i in range(LANES):
            s0, s1, s2, s3 = rng[i], rng[LANES + i], rng[2 * LANES + i], rng[3 * LANES + i]
            first, s0, s1, s2, s3 = next_word(s0, s1, s2, s3)
            second, s0, s1, s2, s3 = next_word(s0, s1, s2, s3)
            third, s0, s1, s2, s3 = next_word(s0, s1, s2, s3)
            rng[i], rng[LANES + i], rng[2 * LANES + i], rng[3 * LANES + i] = s0, s1, s2, s3
            a, b = normal_pair(first, second)
            odd[i] = a if (third >> _U(32)) < gate else 0.0
            even[i] = b if (third & _U(0xFFFFFFFF)) < gate else 0.0


@kernel
def fill_student(rng: Any, z: Any, dof: Any) -> None:
    """Student's t of variance 1 for `CHUNK` steps of one block, laid out as in `fill_gaussian`."""
    use_wide_vectors()
    for k in range(0, len(z), LANES):
        row = z[k : k + LANES]
        for i in range(LANES):
            s0, s1, s2, s3 = rng[i], rng[LANES + i], rng[2 * LANES + i], rng[3 * LANES + i]
            first, s0, s1, s2, s3 = next_word(s0, s1, s2, s3)
            second, s0, s1, s2, s3 = next_word(s0, s1, s2, s3)
            rng[i], rng[LANES + i], rng[2 * LANES + i], rng[3 * LANES + i] = s0, s1, s2, s3
            row[i] = student_t(first, second, dof)


@kernel
def fill_trace(trace: Any, first_step: Any, first_lane: Any, z: Any) -> None:
    """Recorded gradients for `CHUNK` steps of one block; a single column serves every lane."""
    steps, columns = trace.shape
    for k in range(CHUNK):
        step = min(first_step + k, steps - 1)
        for i in range(LANES):
            z[k * LANES + i] = trace[step, min(first_lane + i, columns - 1)]


@kernel
def fill(
    kind: Any, parameter: Any, rng: Any, trace: Any, first_step: Any, first_lane: Any, z: Any
) -> None:
    """Noise of one block for the next `CHUNK` steps into z; `parameter` is the gate or the dof."""
    if kind == NOISE_GAUSSIAN:
        fill_gaussian(rng, z)
    elif kind == NOISE_GATED:
        fill_gated(rng, z, parameter)
    elif kind == NOISE_STUDENT:
        fill_student(rng, z, parameter)
    elif kind == NOISE_TRACE:
        fill_trace(trace, first_step, first_lane, z)

"""Random numbers that depend on (seed, trajectory, step) alone, at the speed of the update rules.

Trajectories 2 j and 2 j + 1 share xoshiro256++ stream j (Blackman and Vigna 2021): one takes the lower
and the other the upper 32 bits of each of its words. The 256-bit start of stream j is block j + 1 of
Philox4x64-10 (Salmon et al. 2011) under the key `seed`: a hash, and for one seed a permutation, so that
no two streams share a start. Trajectories are filled `LANES` at a time and steps `CHUNK` at a time;
which block, thread or process fills a lane changes nothing.

Two numbers of 32 bits become two independent normals by the transform of Box and Muller, for steps
`CHUNK` / 2 apart. It is computed in float32, for twice the speed: a normal has 24 significant bits and
is within 4e-7 of its radius of the exact transform. The distribution function differs from that of
N(0, 1) by less than 1e-7, the variance by less than 1e-7 and the fourth moment by less than 4e-7; the
largest normal is sqrt(2 * 41 * ln 2) = 7.5, and both normals of a pair are 0 with probability 2^-25.
The update rules take them as float64. Logarithm, sine and cosine are polynomials, because a call of the
C library would end vectorisation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from regdyn.dynamics._jit import (
    bits_of,
    float_of,
    high_product,
    inlined,
    kernel,
    use_wide_vectors,
)

LANES = 256
"""Trajectories in a block: long rows for the compiler's loops, yet small enough for a core's caches."""

STREAMS = LANES // 2
"""Streams in a block."""

CHUNK = 16
"""Steps of noise that a block keeps ready; even, since normals come in pairs."""

WORDS = 2 * CHUNK * STREAMS
"""Words that a block may draw for a chunk."""

NOISE_NONE, NOISE_GAUSSIAN, NOISE_GATED, NOISE_STUDENT, NOISE_TRACE = range(5)

_U = np.uint64
_I = np.int32
_F = np.float32

_SQRT_HALF_BITS = _I(np.sqrt(_F(0.5)).view(np.int32))
_EXPONENT_31 = _I(31 << 23)
_MANTISSA = _I((1 << 23) - 1)


def _float32s(*numbers: float) -> tuple[np.float32, ...]:
    return tuple(_F(x) for x in numbers)


# Coefficients, lowest first, that interpolate at Chebyshev nodes; tests/dynamics/test_random.py derives
# them again. Rounded as they are, their errors on these intervals are 1.3e-7, 6e-8, 1.1e-7 and 2.4e-8.

# -2 ln(1 + z) / z for 1 + z in [sqrt(1/2), sqrt(2)].
_LOG = _float32s(
    -2.0, 0.99999994, -0.66668385, 0.50002706, -0.39911866, 0.33155987, -0.29954803, 0.28538516,
    -0.17066626,
)  # fmt: skip
# sin(pi x / 2) / x and cos(pi x / 2) as polynomials in x^2 for |x| <= 1.
_SINE = _float32s(1.5707964, -0.6459638, 0.07968992, -0.0046741436, 0.0001516717)
_COSINE = _float32s(0.99999994, -1.2336982, 0.25365067, -0.020810515, 0.0008581345)
# (exp(f) - 1) / f for |f| <= ln(2) / 2.
_EXP = _float32s(1.0, 0.5, 0.16666505, 0.041666467, 0.008369149, 0.0013933642)

_ONE, _HALF = _F(1.0), _F(0.5)
_TWO_LN2 = _F(2.0 * math.log(2.0))
_LOG2_E = _F(1.0 / math.log(2.0))
_LN2_HIGH = _F(float.fromhex("0x1.62e4p-1"))
_LN2_LOW = _F(math.log(2.0) - float.fromhex("0x1.62e4p-1"))
_TWO_TO_MINUS_10, _TWO_TO_MINUS_31 = _F(2.0**-10), _F(2.0**-31)

_PHILOX_MULTIPLIERS = _U(0xD2E7470EE14C6C93), _U(0xCA5A826395121157)
_PHILOX_WEYL = _U(0x9E3779B97F4A7C15), _U(0xBB67AE8584CAA73B)


@inlined
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Philox4x64-10 of a counter of four words under a key of two, all uint64: four words."""
    a, b = _PHILOX_MULTIPLIERS
    for _ in range(10):
        high0, low0 = high_product(a, c0), a * c0
        high1, low1 = high_product(b, c2), b * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += _PHILOX_WEYL[0]
        k1 += _PHILOX_WEYL[1]
    return c0, c1, c2, c3


@kernel
def start_streams(seed: Any, first: Any, spacing: Any, streams: Any) -> None:
    """Put the streams of rows of blocks at their start.

    Parameters
    ----------
    seed
        The key, uint64.
    first
        Index in the run of the first stream, uint64.
    spacing
        Streams from the first of a block to the first of the next one, uint64; STREAMS where every lane
        of a block is used.
    streams
        (blocks, 4 * STREAMS) uint64, for each block a row of lanes for each of the four words.
    """
    for block in range(len(streams)):
        row = streams[block]
        for i in range(STREAMS):
            counter = first + _U(block) * spacing + _U(i) + _U(1)
            (
                row[i],
                row[STREAMS + i],
                row[2 * STREAMS + i],
                row[3 * STREAMS + i],
            ) = philox(counter, _U(0), _U(0), _U(0), seed, _U(0))


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


@kernel
def draw(streams: Any, words: Any) -> None:
    """The next words of the streams of a block; words[n * STREAMS + i] is the nth of stream i."""
    use_wide_vectors()
    for n in range(0, len(words), 2 * STREAMS):
        first, second = words[n : n + STREAMS], words[n + STREAMS : n + 2 * STREAMS]
        for i in range(STREAMS):
            s0, s1 = streams[i], streams[STREAMS + i]
            s2, s3 = streams[2 * STREAMS + i], streams[3 * STREAMS + i]
            a, s0, s1, s2, s3 = next_word(s0, s1, s2, s3)
            b, s0, s1, s2, s3 = next_word(s0, s1, s2, s3)
            first[i], second[i] = a, b
            streams[i], streams[STREAMS + i] = s0, s1
            streams[2 * STREAMS + i], streams[3 * STREAMS + i] = s2, s3


@inlined
def _squared_radius(a: Any, b: Any) -> Any:
    """-2 ln u for u uniform on (0, 1], from 31 bits of `a` and, for small u, 9 lower ones of `b`.

    The angle takes these as its lowest bits: so rare a dependence of so fine digits cannot be seen.
    """
    fine = _F(_I((b & np.uint32(0x3FF)) | np.uint32(1))) * _TWO_TO_MINUS_10
    u = _F(_I(a >> np.uint32(1))) + fine
    shifted = _I(bits_of(u) - _I(_SQRT_HALF_BITS + _EXPONENT_31))
    exponent = _F(_I(shifted >> _I(23)))
    z = float_of(_I(_I(shifted & _MANTISSA) + _SQRT_HALF_BITS)) - _ONE
    # Estrin's order, for short chains of operations.
    z2 = z * z
    z4 = z2 * z2
    low = (_LOG[0] + _LOG[1] * z) + (_LOG[2] + _LOG[3] * z) * z2
    high = (_LOG[4] + _LOG[5] * z) + (_LOG[6] + _LOG[7] * z) * z2
    return z * (low + (high + _LOG[8] * z4) * z4) - _TWO_LN2 * exponent


@inlined
def _half_circle(b: Any) -> Any:
    """cos and sin of an angle uniform on [-pi/2, pi/2); cos >= 0 but for rounding."""
    x = _F(_I(b)) * _TWO_TO_MINUS_31
    y = x * x
    cosine = _COSINE[2] + y * (_COSINE[3] + y * _COSINE[4])
    cosine = _COSINE[0] + y * (_COSINE[1] + y * cosine)
    sine = _SINE[2] + y * (_SINE[3] + y * _SINE[4])
    sine = x * (_SINE[0] + y * (_SINE[1] + y * sine))
    return cosine, sine


@inlined
def _signed(x: Any, b: Any) -> Any:
    """x with the sign that the lowest bit of `b` says."""
    return float_of(_I(bits_of(x) ^ _I(b << np.uint32(31))))


@inlined
def normal_pair(a: Any, b: Any) -> Any:
    """Two independent standard normals, float32, from two uint32 (Box and Muller 1958)."""
    r = math.sqrt(_squared_radius(a, b))
    cosine, sine = _half_circle(b)
    return _signed(r, b) * cosine, r * sine


@inlined
def _exp_minus_one(x: Any) -> Any:
    """exp(x) - 1 for 0 <= x < 88 in float32."""
    k = np.floor(x * _LOG2_E + _HALF)
    f = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = _EXP[3] + f * (_EXP[4] + f * _EXP[5])
    p = f * (_EXP[0] + f * (_EXP[1] + f * (_EXP[2] + f * p)))
    power = float_of(_I(_I(_I(k) + _I(127)) << _I(23)))
    return power * p + (power - _ONE)


@inlined
def student_t(a: Any, b: Any, dof: Any, dof_minus_two: Any) -> Any:
    """Student's t with `dof` > 2 degrees of freedom, scaled to variance 1 (Bailey 1994), float32."""
    excess = _exp_minus_one(_squared_radius(a, b) / dof)
    cosine, _ = _half_circle(b)
    return _signed(math.sqrt(dof_minus_two * excess), b) * cosine


@inlined
def _widen(numbers: Any, z: Any) -> None:
    """float32 numbers, as bits, to the type of z."""
    for i in range(len(z)):
        z[i] = float_of(numbers[i])


@kernel
def fill_gaussian(streams: Any, words: Any, z: Any) -> None:
    """Standard normals for `CHUNK` steps of one block; z[k * LANES + lane] belongs to step k.

    Words 0 … CHUNK / 2 - 1 of the chunk make radii, the others angles.
    """
    use_wide_vectors()
    draw(streams, words[: CHUNK * STREAMS])
    numbers = words.view(np.uint32)
    half = len(z) // 2
    a, b = numbers[:half], numbers[half : 2 * half]
    for i in range(half):
        x, y = normal_pair(a[i], b[i])
        a[i], b[i] = bits_of(x), bits_of(y)
    _widen(numbers, z)


@kernel
def fill_gated(streams: Any, words: Any, z: Any, probability: Any) -> None:
    """As `fill_gaussian`, each normal kept with `probability` (to 2^-32) and 0 otherwise.

    The gates take as many words again, one number of 32 bits for each step and trajectory.
    """
    use_wide_vectors()
    fill_gaussian(streams, words, z)
    draw(streams, words[: CHUNK * STREAMS])
    numbers = words.view(np.uint32)
    gate = np.int64(math.ceil(probability * 4294967296.0))
    zero = abs(z[0] * 0)
    for i in range(len(z)):
        z[i] = z[i] if np.int64(numbers[i]) < gate else zero


@kernel
def fill_student(streams: Any, words: Any, z: Any, dof: Any) -> None:
    """Student's t of variance 1 for `CHUNK` steps of one block, laid out as in `fill_gaussian`.

    Words 0 … CHUNK - 1 of the chunk make radii, the next CHUNK angles.
    """
    use_wide_vectors()
    draw(streams, words)
    numbers = words.view(np.uint32)
    size = len(z)
    a, b = numbers[:size], numbers[size : 2 * size]
    # Beyond 1e20 the law is the normal one to float32, whose range this keeps.
    dof = min(dof, 1e20)
    degrees, degrees_minus_two = _F(dof), _F(dof - 2.0)
    for i in range(size):
        a[i] = bits_of(student_t(a[i], b[i], degrees, degrees_minus_two))
    _widen(a, z)


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
    kind: Any, parameter: Any, streams: Any, words: Any, trace: Any, first_step: Any,
    first_lane: Any, z: Any,
) -> None:  # fmt: skip
    """Noise of one block for the next `CHUNK` steps into z; `parameter` is the gate or the dof.

    `words` is scratch of `WORDS` words.
    """
    if kind == NOISE_GAUSSIAN:
        fill_gaussian(streams, words, z)
    elif kind == NOISE_GATED:
        fill_gated(streams, words, z, parameter)
    elif kind == NOISE_STUDENT:
        fill_student(streams, words, z, parameter)
    elif kind == NOISE_TRACE:
        fill_trace(trace, first_step, first_lane, z)

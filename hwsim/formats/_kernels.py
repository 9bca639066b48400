# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Scalar pieces that the kernels of all families share: bits of floats, rounding, minifloat codes, finiteness."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numba.extending import intrinsic
from numpy.typing import NDArray

_u32, _u64 = np.uint32, np.uint64
CHUNK = 1 << 14
"""Elements a thread takes at a time where rows do not say; they fit the first cache."""
RNE, RTZ, RUP, RDN, RAZ, RNA, RNZ, ROD, STOCHASTIC = range(9)  # indices into rounding.MODES


@njit(cache=True)
def bits32(value):
    """Return the bits of a float32."""
    return np.float32(value).view(np.uint32)


@njit(cache=True)
def from_bits32(bits):
    """Return the float32 of given bits."""
    return _u32(bits).view(np.float32)


@intrinsic
def shift_right(typing_context, value, count):
    """Shift an unsigned integer right by a count of the same type, below its width.

    Numba's own operator widens both to 64 bits, and where the count is no constant LLVM has to follow: half the lanes.
    """

    def codegen(context, builder, signature, args):
        return builder.lshr(args[0], args[1])

    return value(value, value), codegen


@njit(cache=True)
def magnitude_bits(value):
    """Return the bits of a float32 without its sign: ordered as magnitudes are, NaN and Inf last."""
    return _u32(bits32(value) & _u32(0x7FFFFFFF))


@njit(cache=True)
def bits64(value):
    """Return the bits of a float64 as a signed integer."""
    return np.float64(value).view(np.int64)


@njit(cache=True)
def power_of_two(exponent):
    """Return 2**exponent as float64, exponent in float64's normal range."""
    return np.int64((1023 + exponent) << 52).view(np.float64)


@njit(cache=True)
def mix(z):
    """Finalise as SplitMix64 does."""
    z = _u64(_u64(z ^ _u64(z >> _u64(30))) * _u64(0xBF58476D1CE4E5B9))
    z = _u64(_u64(z ^ _u64(z >> _u64(27))) * _u64(0x94D049BB133111EB))
    return _u64(z ^ _u64(z >> _u64(31)))


@njit(cache=True)
def random_bits(seed, index):
    """Return the 32 random bits of an element (`rounding.random_bits`)."""
    state = _u64(mix(_u64(_u64(seed + 1) * _u64(0x9E3779B97F4A7C15))) + _u64(index))
    return np.int64(_u64(mix(_u64(state * _u64(0x9E3779B97F4A7C15))) >> _u64(32)))


@njit(cache=True)
def round_steps(magnitude, negative, mode, random, offset):
    """Round a non-negative float64 to a whole number of steps (`rounding.round_steps`).

    `offset` is added to tell which numbers of steps are even codes.
    """
    low = np.floor(magnitude)
    rest = magnitude - low  # exact
    if mode == RNE:
        up = rest > 0.5 or (rest == 0.5 and (np.int64(low) + offset) & 1)
    elif mode == RTZ:
        up = False
    elif mode == RUP:
        up = rest > 0 and not negative
    elif mode == RDN:
        up = rest > 0 and negative
    elif mode == RAZ:
        up = rest > 0
    elif mode == RNA:
        up = rest >= 0.5
    elif mode == RNZ:
        up = rest > 0.5
    elif mode == ROD:
        up = rest > 0 and (np.int64(low) + offset) & 1 == 0
    else:
        up = np.float64(random) < rest * 4294967296.0
    return low + 1.0 if up else low


@njit(cache=True)
def rounded_code(value, negative, man_bits, bias, subnormals, mode, random):
    """Round a non-negative finite float64 to a magnitude code in any mode, as if the exponent field had no end.

    The quantum is found from the exponent bits (never from a float logarithm); dividing by it is exact, so the rounding
    of the quotient is the only one. "Even" and "odd" are said of codes. Without subnormals, exponent field 0 is a
    normal one, and what lies below its first value is rounded between that value (code 0) and zero (code -1).
    """
    if value == 0:  # has no exponent
        return np.int64(0 if subnormals else -1)
    exponent = ((bits64(value) >> 52) & 0x7FF) - 1023
    field = exponent + bias
    if subnormals:
        field = max(field, 1)
        base = (field - 1) << man_bits
    elif field < 0:
        return np.int64(round_steps(value * power_of_two(bias), negative, mode, random, 0)) - 1
    else:
        base = (field - 1) << man_bits
    return base + np.int64(round_steps(value * power_of_two(man_bits + bias - field), negative, mode, random, base))


@njit(cache=True)
def float_value(code, man_bits, bias):
    """Return what a finite magnitude code with subnormals is worth, exactly, in float64."""
    field = code >> man_bits
    mantissa = code & ((1 << man_bits) - 1)
    if field == 0:
        return mantissa * power_of_two(1 - bias - man_bits)
    return (mantissa + (1 << man_bits)) * power_of_two(field - bias - man_bits)


@njit(cache=True)
def top_bits(x):
    """Return the largest magnitude of a run of float32, as bits: ordered as magnitudes are, NaN and Inf last."""
    top = _u32(0)
    for j in range(x.size):
        magnitude = magnitude_bits(x[j])
        top = magnitude if magnitude > top else top
    return top


@njit(cache=True, parallel=True)
def chunk_tops(x: NDArray[np.float32], tops: NDArray[np.uint32]) -> None:
    """Store the bits of the largest magnitude of each row's chunks of `CHUNK` elements, uint32 [rows, chunks]."""
    chunks = tops.shape[1]
    for piece in prange(x.shape[0] * chunks):
        row, chunk = piece // chunks, piece % chunks
        tops[row, chunk] = top_bits(x[row, chunk * CHUNK : (chunk + 1) * CHUNK])

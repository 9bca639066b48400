# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of progressive formats: INT8 under a channel scale, then 4-bit codes under an integer scale a group.

Decisions on the rounding of quotients compare with exact multiples, or divide where a float64 quotient cannot be taken
for a tie that it is not: numerators have 24 bits (48 with a ratio), denominators 31, and ties 9 bits more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import RNE, float_value, from_bits32, rounded_code, top_bits
from hwsim.formats.families._planes_kernels import odd_sum

TOP = 15
"""Largest code of the second level."""
SCALE, ZERO, RANGE, CHANNEL = 1, 2, 3, 4  # what is wrong with a row


class Rules(NamedTuple):
    """The rules of a format, as kernels know them."""

    limit: int
    ratio: float
    from_values: bool
    include_zero: bool
    int8_safe: bool
    product: bool
    scale_max: int
    man_bits: int
    bias: int
    max_code: int


@njit(cache=True)
def half_even_quotient(n, d):
    """Return n / d rounded to the nearest integer, ties to the even one; d is positive."""
    low = n // d
    rest = 2 * (n - low * d)
    return low + (1 if rest > d or (rest == d and low & 1) else 0)


@njit(cache=True)
def _channel(amax, rules):
    """Return the code of the channel scale, never that of zero: the scale of a channel of zeros is 1."""
    if amax == 0:
        return np.int64(rules.bias) << rules.man_bits
    exact = amax * rules.ratio / np.float64(rules.limit)
    code = rounded_code(exact, False, rules.man_bits, rules.bias, 1, RNE, 0)
    return min(max(code, np.int64(1)), np.int64(rules.max_code))


@njit(cache=True)
def _group_of_integers(q8, rules):
    """Return (scale, zero) of a group of INT8 values."""
    low, high = q8[0], q8[0]
    for j in range(q8.size):
        low, high = min(low, q8[j]), max(high, q8[j])
    if rules.include_zero:
        low, high = min(low, np.int64(0)), max(high, np.int64(0))
    scale = min(max(half_even_quotient(high - low, TOP), np.int64(1)), np.int64(rules.scale_max))
    least, most = (np.int64(0), np.int64(TOP)) if rules.include_zero else (np.int64(-128), np.int64(127))
    return scale, min(max(half_even_quotient(-low, scale), least), most)


@njit(cache=True)
def _group_of_values(x, outer, rules):
    """Return (scale, zero) of a group of float32: that of its real range, in units of the channel scale."""
    low, high = 0.0, 0.0
    for j in range(x.size):
        value = np.float64(x[j])
        low, high = min(low, value), max(high, value)
    spread, unit = odd_sum(high, -low), TOP * outer
    scale = np.floor(spread / unit)
    if scale < rules.scale_max:
        half = (scale + 0.5) * unit  # exact, and a sum rounded to odd lies on its side of it
        if spread > half or (spread == half and np.int64(scale) & 1):
            scale += 1.0
    zero = np.int64(0)
    for k in range(TOP):
        # 15 a / (a + b) against k + 1/2, of a range from -a to b
        here, there = (29 - 2 * k) * -low, (2 * k + 1) * high
        if low < 0 and (here > there or (here == there and k & 1)):
            zero += 1
    return min(max(np.int64(min(scale, 255.0)), np.int64(1)), np.int64(rules.scale_max)), zero


@njit(cache=True, parallel=True)
def encode_progressive(x, block, rules, codes, scales, zeros, channels):
    """Encode float32 rows into codes, group scales, zeros and channel scales."""
    for row in prange(x.shape[0]):
        q8, least, most = np.empty(block, np.int64), np.float64(-rules.limit), np.float64(rules.limit)
        amax = np.float64(from_bits32(top_bits(x[row])))
        code = _channel(amax, rules)
        channels[row] = code
        outer = float_value(code, rules.man_bits, rules.bias)
        for index in range(x.shape[1] // block):
            run, here = x[row, index * block : (index + 1) * block], codes[row, index * block : (index + 1) * block]
            if rules.from_values:
                scale, zero = _group_of_values(run, outer, rules)
                step = np.float64(scale) * outer
                for j in range(block):
                    q8[j] = np.int64(min(max(np.rint(np.float64(run[j]) / step), -256.0), 256.0))
            else:
                for j in range(block):
                    q8[j] = np.int64(min(max(np.rint(np.float64(run[j]) / outer), least), most))
                scale, zero = _group_of_integers(q8, rules)
                for j in range(block):
                    q8[j] = half_even_quotient(q8[j], scale)
            low, high = np.int64(0), np.int64(TOP)
            if rules.int8_safe:
                reach = np.int64(127) // scale
                low, high = max(low, zero - reach), min(high, zero + reach)
            for j in range(block):
                here[j] = min(max(q8[j] + zero, low), high)
            scales[row, index] = scale
            zeros[row, index] = (-zero * scale if rules.product else zero) & 0xFF


@njit(cache=True)
def _integers(codes, scale, stored, rules, values):
    """Write the INT8 values of a group as int64; return what is wrong with it, 0 for nothing."""
    if scale < 1 or scale > rules.scale_max:
        return SCALE
    zero = stored
    if (rules.product or not rules.include_zero) and stored >= 128:
        zero = stored - 256
    if rules.product:
        if zero % scale != 0:
            return ZERO
        zero = -zero // scale
    if rules.include_zero and (zero < 0 or zero > TOP):
        return ZERO
    wrong = 0
    for j in range(codes.size):
        values[j] = (np.int64(codes[j]) - zero) * scale
        wrong |= 1 if values[j] < -128 or values[j] > 127 else 0
    return RANGE if wrong else 0


@njit(cache=True, parallel=True)
def expand(codes, scales, zeros, block, rules, out, bad):
    """Write the INT8 values of rows; `bad` tells what is wrong with a row."""
    for row in prange(codes.shape[0]):
        values = np.empty(block, np.int64)
        for index in range(codes.shape[1] // block):
            here = codes[row, index * block : (index + 1) * block]
            wrong = _integers(here, np.int64(scales[row, index]), np.int64(zeros[row, index]), rules, values)
            if wrong:
                bad[row] = wrong
                break
            for j in range(block):
                out[row, index * block + j] = values[j]


@njit(cache=True, parallel=True)
def decode_progressive(codes, scales, zeros, channels, block, rules, out, bad):
    """Decode rows: an INT8 value times the channel scale, exact in float64; `bad` tells what is wrong with a row."""
    for row in prange(codes.shape[0]):
        values = np.empty(block, np.int64)
        code = np.int64(channels[row])
        if code < 1 or code > rules.max_code:
            bad[row] = CHANNEL
            continue
        outer = float_value(code, rules.man_bits, rules.bias)
        for index in range(codes.shape[1] // block):
            here = codes[row, index * block : (index + 1) * block]
            wrong = _integers(here, np.int64(scales[row, index]), np.int64(zeros[row, index]), rules, values)
            if wrong:
                bad[row] = wrong
                break
            for j in range(block):
                out[row, index * block + j] = np.float32(values[j] * outer)

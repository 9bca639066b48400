# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of twin logarithms: exponents of either sign are integers in units of 2**-frac_bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import bits64, power_of_two
from hwsim.formats.families._progressive_kernels import half_even_quotient

WIDEST = 1000
"""Bound of the exponent of a level; no encoder comes near it."""


class Rules(NamedTuple):
    """The rules of a format, as kernels know them; `levels` are those of one sign."""

    levels: int
    divisor: int
    masked: bool
    frac_bits: int


@njit(cache=True)
def log_code(value, borders, frac_bits):
    """Return the base-2 logarithm of a positive float64, rounded to a multiple of 2**-frac_bits, as an integer."""
    bits = bits64(value)
    mantissa = np.int64((bits & 0xFFFFFFFFFFFFF) | (np.int64(1023) << 52)).view(np.float64)
    low, high = 0, borders.size
    while low < high:
        middle = (low + high) // 2
        if mantissa >= borders[middle]:
            low = middle + 1
        else:
            high = middle
    return (((bits >> 52) - 1023) << frac_bits) + low


@njit(cache=True)
def _level(exponent, table, frac_bits):
    """Return what an exponent is worth; the shift rounds down, so that the rest is that of the table."""
    return table[exponent & (table.size - 1)] * power_of_two(exponent >> frac_bits)


@njit(cache=True)
def _encode_block(x, offset, rules, borders, logs, codes, steps, zeros):
    """Encode a block: codes, and (step, zero) of the positive and of the negative side."""
    low, high, count = np.empty(2, np.int64), np.empty(2, np.int64), np.zeros(2, np.int64)
    low[:], high[:] = np.int64(1) << 40, -(np.int64(1) << 40)
    for j in range(x.size):
        if x[j] != 0:
            side = 1 if x[j] < 0 else 0
            logs[j] = log_code(abs(np.float64(x[j])) + offset, borders, rules.frac_bits)
            low[side], high[side] = min(low[side], logs[j]), max(high[side], logs[j])
            count[side] += 1
    for side in range(2):
        steps[side], zeros[side] = 0, 0
        if count[side]:
            if rules.masked and count[side] < x.size:
                low[side], high[side] = min(low[side], np.int64(0)), max(high[side], np.int64(0))
            steps[side] = max(half_even_quotient(high[side] - low[side], rules.divisor), np.int64(1))
            zeros[side] = half_even_quotient(low[side], steps[side])
    # a side without elements has a zero; else a zero takes the smallest positive level
    of_zero = rules.levels if count[0] and not count[1] else 0
    for j in range(x.size):
        if x[j] == 0:
            codes[j] = of_zero
            continue
        side = 1 if x[j] < 0 else 0
        rank = half_even_quotient(logs[j], steps[side]) - zeros[side]
        codes[j] = min(max(rank, np.int64(0)), np.int64(rules.levels - 1)) + side * rules.levels


@njit(cache=True)
def _value(code, offset, rules, table, steps, zeros):
    """Return what a code is worth, in float64."""
    side = 1 if code >= rules.levels else 0
    if steps[side] == 0:
        return 0.0
    value = _level(steps[side] * (code - side * rules.levels + zeros[side]), table, rules.frac_bits) - offset
    return -value if side else value


@njit(cache=True, parallel=True)
def encode_twinlog(x, block, offset, rules, borders, table, codes, scales, zeros, errors):
    """Encode rows; `errors` are the sums of squared errors of the rows, elements in order."""
    for row in prange(x.shape[0]):
        logs, steps, starts = np.empty(block, np.int64), np.empty(2, np.int64), np.empty(2, np.int64)
        total = 0.0
        for index in range(x.shape[1] // block):
            run, here = x[row, index * block : (index + 1) * block], codes[row, index * block : (index + 1) * block]
            _encode_block(run, offset, rules, borders, logs, here, steps, starts)
            for side in range(2):
                scales[row, index, side], zeros[row, index, side] = steps[side], starts[side] & 0xFFFF
            for j in range(block if errors.size else 0):
                rest = np.float64(run[j]) - _value(np.int64(here[j]), offset, rules, table, steps, starts)
                total += rest * rest
        if errors.size:
            errors[row] = total


@njit(cache=True, parallel=True)
def decode_twinlog(codes, scales, zeros, block, offset, rules, table, out, bad):
    """Decode rows; `bad` tells rows with an exponent that no encoder makes."""
    for row in prange(codes.shape[0]):
        steps, starts = np.empty(2, np.int64), np.empty(2, np.int64)
        for index in range(codes.shape[1] // block):
            for side in range(2):
                zero = np.int64(zeros[row, index, side])
                steps[side], starts[side] = scales[row, index, side], zero - 65536 if zero >= 32768 else zero
                first, last = steps[side] * starts[side], steps[side] * (starts[side] + rules.levels - 1)
                if first < -(WIDEST << rules.frac_bits) or last > (WIDEST << rules.frac_bits):
                    bad[row] = 1
            if bad[row]:
                break
            for j in range(index * block, (index + 1) * block):
                out[row, j] = np.float32(_value(np.int64(codes[row, j]), offset, rules, table, steps, starts))

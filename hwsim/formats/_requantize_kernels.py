# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Kernels of `requantize`: int64 arithmetic on accumulators whose bounds keep every product below 2**63."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

CHUNK = 1 << 14
"""Elements a thread takes at a time; they fit the first cache."""
GEMMLOWP, SINGLE, HALF_EVEN, FLOAT64 = range(4)
_u64 = np.uint64
_INT32_MAX = (1 << 31) - 1


@njit(cache=True)
def _gemmlowp(x, multiplier, left, right):
    """Doubling high multiplication, ties up and saturating, then a rounding shift, ties away from zero."""
    value = min(((x << left) * multiplier + (1 << 30)) >> 31, _INT32_MAX)
    mask = (np.int64(1) << right) - 1
    return (value >> right) + np.int64((value & mask) > (mask >> 1) + np.int64(value < 0))


@njit(cache=True)
def _single(x, multiplier, right):
    """One product and one rounding shift of at least one bit, ties up."""
    return (x * multiplier + (np.int64(1) << (right - 1))) >> right


@njit(cache=True)
def _half_even(x, multiplier, right):
    """One product and one rounding shift of 0 to 63 bits, ties to even."""
    product = x * multiplier
    one = _u64(1) << _u64(right)
    rest, half = _u64(product) & (one - _u64(1)), one >> _u64(1)
    value = product >> right
    tie = (rest == half) & (rest != 0)  # a shift of 0 bits has neither half nor rest
    return value + np.int64((rest > half) | (tie & ((value & 1) == 1)))


@njit(cache=True)
def _float64(x, multiplier, factor, low, high):
    """One float64 product, rounded where it needs more than 53 bits, then half to even; clamped to fit int64."""
    value = np.rint(np.float64(x) * np.float64(multiplier) * factor)
    return np.int64(min(max(value, low), high))


@njit(cache=True)
def _whole(acc, method, multiplier, left, right, factor, low, high, offset, qmin, qmax, out):
    """Requantise a run of one channel; return whether an accumulator lies outside ``low .. high``."""
    bad = False
    for j in range(acc.size):
        bad |= (acc[j] < low) | (acc[j] > high)
    if method == GEMMLOWP:
        for j in range(acc.size):
            out[j] = min(max(_gemmlowp(np.int64(acc[j]), multiplier, left, right) + offset, qmin), qmax)
    elif method == SINGLE:
        for j in range(acc.size):
            out[j] = min(max(_single(np.int64(acc[j]), multiplier, right) + offset, qmin), qmax)
    elif method == HALF_EVEN:
        for j in range(acc.size):
            out[j] = min(max(_half_even(np.int64(acc[j]), multiplier, right) + offset, qmin), qmax)
    else:
        least, most = np.float64(qmin - offset), np.float64(qmax - offset)
        for j in range(acc.size):
            out[j] = _float64(np.int64(acc[j]), multiplier, factor, least, most) + offset
    return bad


@njit(cache=True)
def _columns(acc, method, multiplier, left, right, factor, low, high, offset, qmin, qmax, out):
    """Requantise a run of one element a channel; return whether one lies outside its channel's ``low .. high``."""
    bad = False
    for j in range(acc.size):
        bad |= (acc[j] < low[j]) | (acc[j] > high[j])
    if method == GEMMLOWP:
        for j in range(acc.size):
            value = _gemmlowp(np.int64(acc[j]), multiplier[j], left[j], right[j]) + offset
            out[j] = min(max(value, qmin), qmax)
    elif method == SINGLE:
        for j in range(acc.size):
            out[j] = min(max(_single(np.int64(acc[j]), multiplier[j], right[j]) + offset, qmin), qmax)
    elif method == HALF_EVEN:
        for j in range(acc.size):
            out[j] = min(max(_half_even(np.int64(acc[j]), multiplier[j], right[j]) + offset, qmin), qmax)
    else:
        least, most = np.float64(qmin - offset), np.float64(qmax - offset)
        for j in range(acc.size):
            out[j] = _float64(np.int64(acc[j]), multiplier[j], factor[j], least, most) + offset
    return bad


@njit(cache=True, parallel=True)
def requantize(acc, varies, method, multiplier, left, right, factor, low, high, offset, qmin, qmax, out, bad) -> None:
    """Requantise [rows, k], each row of one channel (its number modulo theirs) or, where `varies`, each column.

    `bad`, one a piece of `CHUNK` columns, tells whether an accumulator lies outside ``low .. high`` of its channel.
    """
    chunks, channels = -(-acc.shape[1] // CHUNK), multiplier.size
    for piece in prange(bad.size):
        row, start = piece // chunks, piece % chunks * CHUNK
        stop = start + CHUNK
        x, y = acc[row, start:stop], out[row, start:stop]
        if varies:
            m, a, b, f = multiplier[start:stop], left[start:stop], right[start:stop], factor[start:stop]
            lo, hi = low[start:stop], high[start:stop]
            bad[piece] = _columns(x, method, m, a, b, f, lo, hi, offset, qmin, qmax, y)
        else:
            c = row % channels
            bad[piece] = _whole(
                x, method, multiplier[c], left[c], right[c], factor[c], low[c], high[c], offset, qmin, qmax, y
            )

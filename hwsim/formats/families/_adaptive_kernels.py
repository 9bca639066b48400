# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of adaptive formats: every block tries each candidate table and keeps the one of least error.

The loops over elements take slices that start at index 0: LLVM then turns each into vector code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import CHUNK, RNE, float_value, from_bits32, rounded_code, top_bits
from hwsim.formats.families._table_kernels import least_float32

_u32 = np.uint32
INFINITY = 0x7F800000
RUN = 128
"""Elements whose errors are summed by halves; the sums of the runs of a block are added in order."""
CRITERIA = ("mse", "mae", "max_abs")
MSE, MAE, MAX_ABS = range(3)
FLOAT, INT = 0, 1


class Scale(NamedTuple):
    """The scale format, as kernels know it."""

    kind: int
    bytes: int
    man_bits: int
    bias: int
    max_code: int


@njit(cache=True)
def block_scale(amax, divisor, scale, outer):
    """Return (code, step) of the scale nearest to ``amax / divisor``, half to even, saturating."""
    value = amax / divisor
    if scale.kind == INT:
        code = np.int64(min(np.rint(value), np.float64(scale.max_code)))
        return code, np.float64(code) * outer
    code = min(rounded_code(value, False, scale.man_bits, scale.bias, 1, RNE, 0), scale.max_code)
    return code, float_value(code, scale.man_bits, scale.bias) * outer


@njit(cache=True)
def errors7(run, t, levels, step, squared, errors):
    """Store the exact errors of a run under a table of at most 8 levels, squared (rounded once) or as magnitudes."""
    t0, t1, t2, t3, t4, t5, t6 = t[0], t[1], t[2], t[3], t[4], t[5], t[6]
    v0, v1, v2, v3, v4, v5, v6, v7 = (
        levels[0], levels[1], levels[2], levels[3], levels[4], levels[5], levels[6], levels[7],
    )  # fmt: skip
    for j in range(errors.size):
        v = run[j]
        level = v1 if v >= t0 else v0
        level = v2 if v >= t1 else level
        level = v3 if v >= t2 else level
        level = v4 if v >= t3 else level
        level = v5 if v >= t4 else level
        level = v6 if v >= t5 else level
        level = v7 if v >= t6 else level
        error = np.float64(v) - np.float64(level) * step
        errors[j] = error * error if squared else abs(error)


@njit(cache=True)
def errors15(run, t, levels, step, squared, errors):
    """Do the same for at most 16 levels."""
    t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
    t8, t9, t10, t11, t12, t13, t14 = t[8], t[9], t[10], t[11], t[12], t[13], t[14]
    v0, v1, v2, v3, v4, v5, v6, v7 = (
        levels[0], levels[1], levels[2], levels[3], levels[4], levels[5], levels[6], levels[7],
    )  # fmt: skip
    v8, v9, v10, v11, v12, v13, v14, v15 = (
        levels[8], levels[9], levels[10], levels[11], levels[12], levels[13], levels[14], levels[15],
    )  # fmt: skip
    for j in range(errors.size):
        v = run[j]
        level = v1 if v >= t0 else v0
        level = v2 if v >= t1 else level
        level = v3 if v >= t2 else level
        level = v4 if v >= t3 else level
        level = v5 if v >= t4 else level
        level = v6 if v >= t5 else level
        level = v7 if v >= t6 else level
        level = v8 if v >= t7 else level
        level = v9 if v >= t8 else level
        level = v10 if v >= t9 else level
        level = v11 if v >= t10 else level
        level = v12 if v >= t11 else level
        level = v13 if v >= t12 else level
        level = v14 if v >= t13 else level
        level = v15 if v >= t14 else level
        error = np.float64(v) - np.float64(level) * step
        errors[j] = error * error if squared else abs(error)


@njit(cache=True)
def halved_sum(errors, count):
    """Sum in place: the second half is added to the first until one number is left."""
    while count > 1:
        half = (count + 1) // 2
        low, high = errors[:half], errors[half:count]
        for i in range(high.size):
            low[i] += high[i]
        count = half
    return errors[0]


@njit(cache=True)
def block_error(x, t, levels, count, step, criterion, errors):
    """Return the error of a block under one candidate."""
    total = 0.0
    for start in range(0, x.size, RUN):
        run = x[start : min(start + RUN, x.size)]
        here = errors[: run.size]
        if count <= 8:
            errors7(run, t, levels, step, criterion == MSE, here)
        else:
            errors15(run, t, levels, step, criterion == MSE, here)
        total = max(total, here.max()) if criterion == MAX_ABS else total + halved_sum(errors, run.size)
    return total


@njit(cache=True)
def block_codes(x, t, order, count, codes):
    """Store the codes of a block: the rank is the number of borders reached."""
    if count <= 8:
        t0, t1, t2, t3, t4, t5, t6 = t[0], t[1], t[2], t[3], t[4], t[5], t[6]
        for j in range(codes.size):
            v = x[j]
            rank = _u32(v >= t0) + _u32(v >= t1) + _u32(v >= t2) + _u32(v >= t3)
            codes[j] = _u32(rank + _u32(v >= t4) + _u32(v >= t5) + _u32(v >= t6))
    else:
        t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
        t8, t9, t10, t11, t12, t13, t14 = t[8], t[9], t[10], t[11], t[12], t[13], t[14]
        for j in range(codes.size):
            v = x[j]
            rank = _u32(v >= t0) + _u32(v >= t1) + _u32(v >= t2) + _u32(v >= t3) + _u32(v >= t4)
            rank += _u32(v >= t5) + _u32(v >= t6) + _u32(v >= t7) + _u32(v >= t8) + _u32(v >= t9)
            rank += _u32(v >= t10) + _u32(v >= t11) + _u32(v >= t12) + _u32(v >= t13) + _u32(v >= t14)
            codes[j] = _u32(rank)
    for j in range(codes.size):
        codes[j] = order[codes[j]]


@njit(cache=True, parallel=True)
def encode_adaptive(
    x, block, borders, strict, levels, counts, order, tops, zero_codes, scale, outer, criterion, codes, scales,
    selectors, bad
):  # fmt: skip
    """Encode float32 [rows, k]: codes [rows, k], bytes of scale codes [rows, blocks, bytes], selectors [rows, blocks].

    Candidates come as rows of `borders` float64 [n, 15], `strict` uint8 [n, 15], `levels` float32 [n, 16], `order`
    uint8 [n, 16], `counts` (levels of each), `tops` (what amax is divided by) and `zero_codes`. `outer` is the
    second-level scale, float64 [1] or [rows]. `bad` uint8 [rows] marks rows that hold NaN or Inf.
    """
    rows, blocks = x.shape[0], x.shape[1] // block
    at_a_time = max(1, CHUNK // block)
    pieces = -(-blocks // at_a_time)
    for piece in prange(rows * pieces):
        row, first = piece // pieces, (piece % pieces) * at_a_time
        second = outer[row if outer.size > 1 else 0]
        errors, t, best_t = np.empty(RUN), np.empty(15, np.float32), np.empty(15, np.float32)
        for index in range(first, min(first + at_a_time, blocks)):
            run = x[row, index * block : (index + 1) * block]
            out = codes[row, index * block : (index + 1) * block]
            top = top_bits(run)
            if top >= _u32(INFINITY):
                bad[row] = 1
                continue
            amax = np.float64(from_bits32(top))
            best, best_code, best_step, least = -1, np.int64(0), 0.0, np.inf
            for candidate in range(counts.size):
                code, step = block_scale(amax, tops[candidate] * second, scale, second)
                least_float32(borders[candidate], strict[candidate], step, t.view(np.uint32))
                error = block_error(run, t, levels[candidate], counts[candidate], step, criterion, errors)
                if best < 0 or error < least:
                    best, best_code, best_step, least = candidate, code, step, error
                    t, best_t = best_t, t
            selectors[row, index] = np.uint8(best)
            for byte in range(scale.bytes):
                scales[row, index, byte] = (best_code >> (8 * byte)) & 0xFF
            if best_step > 0:
                block_codes(run, best_t, order[best], counts[best], out)
            else:
                for j in range(out.size):
                    out[j] = zero_codes[best]


@njit(cache=True, parallel=True)
def decode_adaptive(codes, selectors, tables, steps, block, outer, out):
    """Decode to float32: each block looks up its scaled table, whose entries are exact products rounded once."""
    rows, blocks = codes.shape[0], codes.shape[1] // block
    at_a_time = max(1, CHUNK // block)
    pieces = -(-blocks // at_a_time)
    for piece in prange(rows * pieces):
        row, first = piece // pieces, (piece % pieces) * at_a_time
        second = outer[row if outer.size > 1 else 0]
        scaled = np.empty(16, np.float32)
        for index in range(first, min(first + at_a_time, blocks)):
            table = tables[selectors[row, index]]
            for code in range(table.size):
                scaled[code] = np.float32(table[code] * (steps[row, index] * second))
            run, values = (
                codes[row, index * block : (index + 1) * block], out[row, index * block : (index + 1) * block],
            )  # fmt: skip
            for j in range(values.size):
                values[j] = scaled[run[j]]

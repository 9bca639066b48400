# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of the GGUF encoders that search for a scale: Q4_K, Q6_K, IQ4_NL.

All is float32 in the order of ggml's reference functions, each operation rounded by itself: sums run over elements in
ascending order, and ``w*l*l`` is ``(w*l)*l``. A build of ggml that contracts products and sums finds other bytes.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import bits32, top_bits
from hwsim.formats.families._gguf_kernels import INFINITY, IQ4_NL, Q4_K, half_at, put_half, put_halves, scale_and_min

_f32 = np.float32
LEAST = np.float32(1e-15)
"""Blocks whose largest magnitude (or scale) is below this become zeros (Q6_K, IQ4_NL)."""


@njit(cache=True, error_model="numpy")
def nearest_int(value):
    """Return the nearest integer, half to even, from the low bits of a sum; beyond 2**22 what these bits say."""
    return (np.int64(bits32(value + _f32(12582912.0))) & 0x7FFFFF) - 0x400000


@njit(cache=True, error_model="numpy")
def clamped(value, low, high):
    """Return `nearest_int` within bounds."""
    return max(np.int64(low), min(np.int64(high), nearest_int(value)))


@njit(cache=True, error_model="numpy")
def best_affine(x, codes, trial, weights):
    """Return (scale, minus the minimum) of 32 values for codes 0 .. 15: the best of 22 by a weighted square error."""
    low, high, sum_w, sum_x, squares = x[0], x[0], _f32(0), _f32(0), _f32(0)
    for i in range(32):
        squares += x[i] * x[i]
    mean = np.sqrt(squares / _f32(32))
    for i in range(32):
        weights[i] = mean + abs(x[i])
        low = x[i] if x[i] < low else low
        high = x[i] if x[i] > high else high
        sum_w += weights[i]
        sum_x += weights[i] * x[i]
    low = _f32(0) if low > 0 else low
    if high == low:
        codes[:32] = 0
        return _f32(0), -low
    inverse = _f32(15) / (high - low)
    scale, least = _f32(1) / inverse, _f32(0)
    for i in range(32):
        codes[i] = clamped(inverse * (x[i] - low), 0, 15)
        error = scale * _f32(codes[i]) + low - x[i]
        least += weights[i] * (error * error)
    for step in range(21):
        # the trial codes are taken from the best minimum so far
        inverse = (_f32(-1) + _f32(0.1) * _f32(step) + _f32(15)) / (high - low)
        sum_l, sum_l2, sum_xl = _f32(0), _f32(0), _f32(0)
        for i in range(32):
            trial[i] = clamped(inverse * (x[i] - low), 0, 15)
            level = _f32(trial[i])
            product = weights[i] * level
            sum_l += product
            sum_l2 += product * level
            sum_xl += product * x[i]
        determinant = sum_w * sum_l2 - sum_l * sum_l
        if determinant > 0:
            this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
            this_low = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
            if this_low > 0:
                this_low, this_scale = _f32(0), sum_xl / sum_l2
            total = _f32(0)
            for i in range(32):
                error = this_scale * _f32(trial[i]) + this_low - x[i]
                total += weights[i] * (error * error)
            if total < least:
                codes[:32] = trial[:32]
                least, scale, low = total, this_scale, this_low
    return scale, -low


@njit(cache=True, error_model="numpy")
def q4_k_block(x, codes, trial, weights, scales, lows, out):
    """Encode 256 values to Q4_K; all but `x` and `out` is scratch."""
    top_scale, top_low = _f32(0), _f32(0)
    for j in range(8):
        scales[j], lows[j] = best_affine(x[32 * j : 32 * j + 32], codes[32 * j : 32 * j + 32], trial, weights)
        top_scale = scales[j] if scales[j] > top_scale else top_scale
        top_low = lows[j] if lows[j] > top_low else top_low
    inverse_scale = _f32(63) / top_scale if top_scale > 0 else _f32(0)
    inverse_low = _f32(63) / top_low if top_low > 0 else _f32(0)
    small = out[4:16]
    small[:] = 0
    for j in range(8):
        scale = min(nearest_int(inverse_scale * scales[j]) & 0xFF, np.int64(63))
        low = min(nearest_int(inverse_low * lows[j]) & 0xFF, np.int64(63))
        if j < 4:
            small[j], small[j + 4] = scale, low
        else:
            small[j + 4] = (scale & 15) | ((low & 15) << 4)
            small[j - 4] |= np.uint8((scale >> 4) << 6)
            small[j] |= np.uint8((low >> 4) << 6)
    bad = put_half(top_scale / _f32(63), out, 0)
    bad = put_half(top_low / _f32(63), out, 2) or bad
    for j in range(8):
        scale, low = scale_and_min(small, j)
        step, offset = half_at(out, 0) * _f32(scale), half_at(out, 2) * _f32(low)
        if step != 0:
            for i in range(32 * j, 32 * j + 32):
                codes[i] = clamped((x[i] + offset) / step, 0, 15)
    for j in range(128):
        first = 64 * (j >> 5) + (j & 31)
        out[16 + j] = codes[first] | (codes[first + 32] << 4)
    return bad


@njit(cache=True, error_model="numpy")
def best_scale(x, codes):
    """Return the scale of 16 values for codes -32 .. 31 (stored + 32): the best of 19 by a weighted square error."""
    top, amax = _f32(0), _f32(0)
    for i in range(16):
        if abs(x[i]) > amax:
            amax, top = abs(x[i]), x[i]
    codes[:16] = 0
    if amax < LEAST:
        return _f32(0)
    scale, best = _f32(0), _f32(0)
    for step in range(19):  # first the plain scale, then -9 .. 9 without 0
        shift = 0 if step == 0 else (step - 10 if step < 10 else step - 9)
        inverse = -(_f32(32) + _f32(0.1) * _f32(shift)) / top
        sum_lx, sum_l2 = _f32(0), _f32(0)
        for i in range(16):
            level = _f32(clamped(inverse * x[i], -32, 31))
            weight = x[i] * x[i]
            sum_lx += weight * x[i] * level
            sum_l2 += weight * level * level
        # of NaN (squares that overflow) C's truth of sum_l2 and a comparison differ: the first is what counts at step 0
        if (sum_l2 != 0) if step == 0 else (sum_l2 > 0 and sum_lx * sum_lx > best * sum_l2):
            scale = sum_lx / sum_l2
            best = scale * sum_lx
            for i in range(16):
                codes[i] = clamped(inverse * x[i], -32, 31) + 32
        elif step == 0:
            for i in range(16):
                codes[i] = clamped(inverse * x[i], -32, 31) + 32
    return scale


@njit(cache=True, error_model="numpy")
def q6_k_block(x, codes, scales, out):
    """Encode 256 values to Q6_K; `codes` uint8 [256] and `scales` float32 [16] are scratch."""
    top, amax = _f32(0), _f32(0)
    for j in range(16):
        scales[j] = best_scale(x[16 * j : 16 * j + 16], codes[16 * j : 16 * j + 16])
        if abs(scales[j]) > amax:
            amax, top = abs(scales[j]), scales[j]
    if amax < LEAST:
        out[:] = 0
        # NaN alone is no scale above 0, yet none that zeros stand for
        return np.isnan(scales[:16]).any()
    inverse = _f32(-128) / top
    bad = put_half(_f32(1) / inverse, out, 208)
    for j in range(16):
        level = min(np.int64(127), nearest_int(inverse * scales[j]))
        out[192 + j] = level & 0xFF
        step = half_at(out, 208) * _f32(np.int8(out[192 + j]))
        if step != 0:
            for i in range(16 * j, 16 * j + 16):
                codes[i] = clamped(x[i] / step, -32, 31) + 32
        bad = bad or np.isnan(scales[j])
    for half in range(2):
        part, low, high = codes[128 * half : 128 * half + 128], out[64 * half : 64 * half + 64], out[128 + 32 * half :]
        for j in range(32):
            low[j] = (part[j] & 15) | ((part[j + 64] & 15) << 4)
            low[j + 32] = (part[j + 32] & 15) | ((part[j + 96] & 15) << 4)
            high[j] = (part[j] >> 4) | (part[j + 32] >> 4) << 2 | (part[j + 64] >> 4) << 4 | (part[j + 96] >> 4) << 6
    return bad


@njit(cache=True, error_model="numpy")
def table_index(value, table):
    """Return the index of the nearest level, ties to the upper one: midpoints are compared as exact doubles."""
    twice, index = value + value, 0
    for j in range(1, 16):
        index += 1 if twice >= table[j - 1] + table[j] else 0
    return index


@njit(cache=True, error_model="numpy")
def table_sums(x, inverse, table, codes):
    """Store codes under a scale; return the sums that its best fit comes from, weighted by squares."""
    sum_qx, sum_q2 = _f32(0), _f32(0)
    for j in range(32):
        codes[j] = table_index(inverse * x[j], table)
        level, weight = table[codes[j]], x[j] * x[j]
        sum_qx += weight * level * x[j]
        sum_q2 += weight * level * level
    return sum_qx, sum_q2


@njit(cache=True, error_model="numpy")
def iq4_nl_block(x, table, tries, codes, trial, out):
    """Encode 32 values to IQ4_NL; `tries` is 7 for the search, 0 for the plain reference."""
    top, amax = _f32(0), _f32(0)
    for j in range(32):
        if abs(x[j]) > amax:
            amax, top = abs(x[j]), x[j]
    if amax < LEAST:
        # a search encodes zeros; the plain reference leaves the codes of the block before: zeros are taken here
        out[:] = 0
        put_halves(np.full(32, table_index(_f32(0), table) if tries else 0, np.uint8), out[2:18])
        return False
    first = -top / table[0] if tries else top / table[0]
    sum_qx, sum_q2 = table_sums(x, _f32(1) / first, table, codes)
    step = sum_qx / sum_q2 if sum_q2 > 0 else _f32(0)
    best = step * sum_qx
    if tries:
        for shift in range(-tries, tries + 1):
            sum_qx, sum_q2 = table_sums(x, (_f32(shift) + table[0]) / top, table, trial)
            if sum_q2 > 0 and sum_qx * sum_qx > best * sum_q2:
                step = sum_qx / sum_q2
                best = step * sum_qx
        inverse = _f32(1) / step if step != 0 else _f32(0)
        for j in range(32):
            codes[j] = table_index(inverse * x[j], table)
    put_halves(codes[:32], out[2:18])
    return put_half(step, out, 0)


@njit(cache=True, parallel=True, error_model="numpy")
def search_blocks(x, kind, table, tries, out, bad):
    """Encode float32 [n, block] to bytes [n, bytes]; `bad` is that of `encode_blocks`."""
    blocks, pieces = x.shape[0], bad.size
    at_a_time = -(-blocks // pieces)
    for piece in prange(pieces):
        codes, trial = np.zeros(256, np.uint8), np.zeros(32, np.uint8)
        work = np.zeros(64, np.float32)
        for index in range(piece * at_a_time, min((piece + 1) * at_a_time, blocks)):
            run, here = x[index], out[index]
            if top_bits(run) >= np.uint32(INFINITY):
                bad[piece] = -1 - index if bad[piece] >= 0 else bad[piece]
                continue
            if kind == Q4_K:
                wrong = q4_k_block(run, codes, trial, work[:32], work[32:40], work[40:48], here)
            elif kind == IQ4_NL:
                wrong = iq4_nl_block(run, table, tries, codes, trial, here)
            else:
                wrong = q6_k_block(run, codes, work[:16], here)
            if wrong and bad[piece] == 0:
                bad[piece] = index + 1

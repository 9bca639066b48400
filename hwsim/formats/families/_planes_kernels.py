# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of sums of planes: bit planes, scales found by exact quotients, trit-plane solver, partly binary rows.

Scales are quotients a / d by a whole number d of at most 8 bits, rounded to float64 and then to 24 bits or fewer. That
equals one rounding: let m be a tie, of 25 bits. d * m has at most 33, so a differs from it by nothing or by at least
its own last place, more than 2**-53 of it; and so a / d, unless it is m, rounds to another float64 on its side of m.
Where a is itself a sum, it is rounded to odd (its last bit tells that something was cut off), and stays off d * m.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hwsim.formats.families._ternary_kernels import DIGITS, RUN, add_run, code_value, mean_code


@njit(cache=True)
def _bits(value):
    return np.float64(value).view(np.int64)


@njit(cache=True)
def _odd(value, error):
    """Return the float64 rounded to odd of value + error: value is the nearest float64, error the exact rest."""
    if error == 0.0 or value == 0.0 or _bits(value) & 1:
        return value
    toward_zero = (error < 0.0) == (value > 0.0)
    return np.int64(_bits(value) - (1 if toward_zero else -1)).view(np.float64)


@njit(cache=True)
def odd_sum(a, b):
    """Return a + b rounded to odd (two-sum gives the exact rest)."""
    total = a + b
    part = total - a
    return _odd(total, (a - (total - part)) + (b - part))


@njit(cache=True)
def float_code(value, man_bits, bias, max_code):
    """Round a non-negative float64 half to even to the code of float16 or float32, saturating."""
    field = max(((_bits(value) >> 52) & 0x7FF) - 1023 + bias, np.int64(1))
    # dividing by the quantum is exact, so `rint` is the only rounding
    steps = np.rint(value * np.int64((1023 + man_bits + bias - field) << 52).view(np.float64))
    return min(((field - 1) << man_bits) + np.int64(steps), np.int64(max_code))


@njit(cache=True)
def signed_code(value, man_bits, bias, max_code):
    """Round a float64 as `float_code` does, with its sign above the magnitude."""
    sign = np.int64(1) << (man_bits + (5 if bias == 15 else 8)) if value < 0 else np.int64(0)
    return float_code(abs(value), man_bits, bias, max_code) | sign


@njit(cache=True)
def signed_value(code, man_bits, bias):
    """Return what the code of `signed_code` is worth, in float64."""
    place = man_bits + (5 if bias == 15 else 8)
    value = np.float64(code_value(code & ((np.int64(1) << place) - 1), man_bits, bias))
    return -value if code >> place else value


@njit(cache=True, parallel=True)
def to_planes(codes, planes):
    """Split uint8 [rows, k] into uint32 [bits, rows, k // 32], element 0 of a word in its top bit."""
    for row in prange(codes.shape[0]):
        for word in range(planes.shape[2]):
            for bit in range(planes.shape[0]):
                value = np.int64(0)
                for j in range(32):
                    value |= ((np.int64(codes[row, 32 * word + j]) >> bit) & 1) << (31 - j)
                planes[bit, row, word] = value


@njit(cache=True, parallel=True)
def from_planes(planes, codes):
    """Undo `to_planes`."""
    for row in prange(codes.shape[0]):
        for word in range(planes.shape[2]):
            for j in range(32):
                value = np.int64(0)
                for bit in range(planes.shape[0]):
                    value |= ((np.int64(planes[bit, row, word]) >> (31 - j)) & 1) << bit
                codes[row, 32 * word + j] = value


@njit(cache=True)
def _store_run(codes, planes, row, start):
    """Put the codes of a run, a multiple of 32 from `start` on, into the planes."""
    for word in range(codes.size // 32):
        for bit in range(planes.shape[0]):
            value = np.int64(0)
            for j in range(32):
                value |= ((codes[32 * word + j] >> bit) & 1) << (31 - j)
            planes[bit, row, start // 32 + word] = value


@njit(cache=True, parallel=True)
def encode_unsigned(x, block, divisor, qmax, include_zero, limits, scale, planes, scales, zeros):
    """Encode rows into planes of unsigned codes with a zero point.

    `limits` clamps the scale, `scale` is (man_bits, bias, max_code). Quotients of at most 24 bits by 24 bits are formed
    in float64, where one that lies on a rounding boundary is exact and no other comes near enough to be taken for it.
    """
    man_bits, bias, max_code = scale
    for row in prange(x.shape[0]):
        codes = np.empty(block, np.int64)
        for index in range(x.shape[1] // block):
            start = index * block
            low, high = np.float64(x[row, start]), np.float64(x[row, start])
            for j in range(start, start + block):
                value = np.float64(x[row, j])
                low, high = min(low, value), max(high, value)
            if include_zero:
                low, high = min(low, 0.0), max(high, 0.0)
            spread = min(max(odd_sum(high, -low) / divisor, limits[0]), limits[1])
            code = float_code(spread, man_bits, bias, max_code)
            step = np.float64(code_value(code, man_bits, bias))
            zero = 0.0
            if step > 0:
                zero = np.rint(-low / step)
                zero = min(max(zero, 0.0), qmax) if include_zero else min(max(zero, -10000.0), 10000.0)
            scales[row, index] = code
            zeros[row, index] = np.int64(zero) & 0xFFFF
            for j in range(block):
                quotient = np.rint(np.float64(x[row, start + j]) / step) if step > 0 else 0.0
                codes[j] = np.int64(min(max(quotient + zero, 0.0), qmax))
            _store_run(codes, planes, row, start)


@njit(cache=True, parallel=True)
def encode_bipolar(x, block, bits, ties_even, limits, scale, planes, scales):
    """Encode rows into planes of bipolar codes: the nearest odd integers to x / scale, told by their exact side."""
    man_bits, bias, max_code = scale
    top = (np.int64(1) << bits) - 1
    for row in prange(x.shape[0]):
        codes = np.empty(block, np.int64)
        for index in range(x.shape[1] // block):
            start = index * block
            amax = np.float64(0)
            for j in range(start, start + block):
                amax = max(amax, abs(np.float64(x[row, j])))
            spread = min(max(amax / np.float64(top), limits[0]), limits[1])
            code = float_code(spread, man_bits, bias, max_code)
            step = np.float64(code_value(code, man_bits, bias))
            scales[row, index] = code
            for j in range(block):
                # pairs of even integers enclose an odd one; on an even integer two are as near
                pairs = np.float64(x[row, start + j]) / step * 0.5 if step > 0 else 0.0
                pairs = min(max(pairs, -256.0), 256.0)
                low = np.floor(pairs)
                rank = np.int64(low) + (np.int64(1) << (bits - 1))
                if ties_even and low == pairs and rank & 1:
                    rank -= 1
                codes[j] = min(max(rank, np.int64(0)), top)
            _store_run(codes, planes, row, start)


@njit(cache=True, parallel=True)
def decode_planes(planes, table, steps, zeros, block, out, bad):
    """Decode planes: ``(table[code] - zero) * step``, exact in float64; NaN in the table counts as a wrong code."""
    for row in prange(out.shape[0]):
        wrong = np.int64(0)
        for word in range(planes.shape[2]):
            index = 32 * word // block
            step, zero = np.float64(steps[row, index]), np.float64(zeros[row % zeros.shape[0], index % zeros.shape[1]])
            for j in range(32):
                code = np.int64(0)
                for bit in range(planes.shape[0]):
                    code |= ((np.int64(planes[bit, row, word]) >> (31 - j)) & 1) << bit
                value = table[code]
                wrong += 1 if value != value else 0
                out[row, 32 * word + j] = np.float32((value - zero) * step)
        bad[row] = wrong


@njit(cache=True)
def _search(w, alpha1, alpha2, trits, choice, errors):
    """Choose for each element the first of nine (t1, t2) of least squared error."""
    for c in range(9):
        value = alpha1 * trits[c, 0] + alpha2 * trits[c, 1]
        if c == 0:
            for j in range(w.size):
                errors[j] = (w[j] - value) * (w[j] - value)
                choice[j] = 0
        else:
            for j in range(w.size):
                error = (w[j] - value) * (w[j] - value)
                choice[j] = c if error < errors[j] else choice[j]
                errors[j] = error if error < errors[j] else errors[j]


@njit(cache=True)
def _ridge(w, choice, trits, solver):
    """Return the scales of given planes: the ridge solution, its weight raised while the system is ill-conditioned."""
    weight, most, kappa = solver[0], solver[1], solver[2]
    s11, s22, s12, b1, b2 = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(w.size):
        t1, t2 = trits[choice[j], 0], trits[choice[j], 1]
        s11 += t1 * t1
        s22 += t2 * t2
        s12 += t1 * t2
        b1 += t1 * w[j]
        b2 += t2 * w[j]
    while True:
        a11, a22 = s11 + weight, s22 + weight
        det = a11 * a22 - s12 * s12
        if (a11 * a11 + a22 * a22 + 2.0 * s12 * s12) / det <= kappa or weight >= most:
            return (b1 * a22 - b2 * s12) / det, (b2 * a11 - b1 * s12) / det
        weight = min(weight * 10.0, most)


@njit(cache=True, parallel=True)
def encode_trit_planes(x, block, trits, solver, resolve, scale, codes, scales):
    """Solve W = a1 T1 + a2 T2 for each block; float64 in a fixed order, so results are the same everywhere.

    `trits` [9, 2] lists the pairs in the order that ties prefer, `solver` is (weight, most, kappa, stop, iterations).
    """
    man_bits, bias, max_code = scale
    for row in prange(x.shape[0]):
        w, errors = np.empty(block), np.empty(block)
        choice = np.empty(block, np.int64)
        for index in range(x.shape[1] // block):
            for j in range(block):
                w[j] = x[row, index * block + j]
                # both planes start at the sign
                choice[j] = 8 if w[j] > 0 else (5 if w[j] < 0 else 0)
            alpha1, alpha2 = 1.0, 1.0
            for _ in range(np.int64(solver[4])):
                before1, before2 = alpha1, alpha2
                alpha1, alpha2 = _ridge(w, choice, trits, solver)
                _search(w, alpha1, alpha2, trits, choice, errors)
                move1, move2 = alpha1 - before1, alpha2 - before2
                if np.sqrt(move1 * move1 + move2 * move2) < solver[3]:
                    break
            code1, code2 = signed_code(alpha1, man_bits, bias, max_code), signed_code(alpha2, man_bits, bias, max_code)
            if resolve:
                stored1, stored2 = signed_value(code1, man_bits, bias), signed_value(code2, man_bits, bias)
                _search(w, stored1, stored2, trits, choice, errors)
            scales[row, index, 0], scales[row, index, 1] = code1, code2
            for j in range(block):
                first, second = np.int64(trits[choice[j], 0]) + 1, np.int64(trits[choice[j], 1]) + 1
                codes[row, index * block + j] = first | (second << 2)


@njit(cache=True, parallel=True)
def encode_dual_binary(x, block, flipped, scale, codes, scales):
    """Encode rows as a1 b1 + a2 b2, b in {0, 1}, with a1 = amax and a2 = -amax / 2."""
    man_bits, bias, max_code = scale
    for row in prange(x.shape[0]):
        for index in range(x.shape[1] // block):
            start, amax = index * block, np.float64(0)
            for j in range(start, start + block):
                amax = max(amax, abs(np.float64(x[row, j])))
            code1 = signed_code(amax, man_bits, bias, max_code)
            code2 = signed_code(-amax / 2, man_bits, bias, max_code)
            scales[row, index, 0], scales[row, index, 1] = code1, code2
            alpha1, alpha2 = signed_value(code1, man_bits, bias), signed_value(code2, man_bits, bias)
            # the sums of scales are exact, so the comparisons are
            middle, half = (alpha1 + alpha2) / 2, -alpha2 / 2 if flipped else alpha2 / 2
            for j in range(start, start + block):
                value = np.float64(x[row, j])
                first = 1 if value >= middle else 0
                second = 1 if value <= (alpha1 + half if first else half) else 0
                codes[row, j] = first | (second << 1)


@njit(cache=True, parallel=True)
def decode_pairs(codes, table, scales, block, scale, out, bad):
    """Decode codes of two planes, ``table[code, 0] * a1 + table[code, 1] * a2``: exact in float64 for float16."""
    man_bits, bias = scale
    for row in prange(codes.shape[0]):
        wrong = np.int64(0)
        for index in range(codes.shape[1] // block):
            alpha1 = signed_value(np.int64(scales[row, index, 0]), man_bits, bias)
            alpha2 = signed_value(np.int64(scales[row, index, 1]), man_bits, bias)
            for j in range(index * block, (index + 1) * block):
                value = table[codes[row, j], 0] * alpha1 + table[codes[row, j], 1] * alpha2
                wrong += 1 if value != value else 0
                out[row, j] = np.float32(value)
        bad[row] = wrong


@njit(cache=True, parallel=True)
def column_sums(x, sums):
    """Sum the magnitudes of each column in the order of the rows, in float64."""
    columns, wide = x.shape[1], 256
    for piece in prange((columns + wide - 1) // wide):
        for row in range(x.shape[0]):
            for j in range(piece * wide, min((piece + 1) * wide, columns)):
                sums[j] += abs(np.float64(x[row, j]))


@njit(cache=True, parallel=True)
def encode_partly(x, bits, mask, group, block, scale, codes, scales, salient, salient_scales):
    """Encode rows whose masked columns are INT8 and whose others are signs: codes of each kind lie densely."""
    man_bits, bias, max_code = scale
    for row in prange(x.shape[0]):
        digits, run = np.zeros(DIGITS, np.int64), np.empty(RUN, np.uint32)
        dense, sparse = np.int64(0), np.int64(0)
        for index in range(x.shape[1] // block):
            digits[:] = 0
            filled, count, amax = np.int64(0), np.int64(0), np.float64(0)
            for j in range(index * block, (index + 1) * block):
                if mask[row // group, j]:
                    amax = max(amax, abs(np.float64(x[row, j])))
                    continue
                codes[row, dense] = 1 if x[row, j] >= 0 else 0
                dense += 1
                run[filled] = bits[row, j]
                filled += 1
                if filled == RUN:
                    count += add_run(run, np.int64(-1), digits)
                    filled = 0
            count += add_run(run[:filled], np.int64(-1), digits)
            scales[row, index] = mean_code(digits, 1, max(count, np.int64(1)), man_bits, bias, max_code)
            code = float_code(amax / 127.0, man_bits, bias, max_code)
            step = np.float64(code_value(code, man_bits, bias))
            salient_scales[row, index] = code
            for j in range(index * block, (index + 1) * block):
                if mask[row // group, j]:
                    quotient = np.rint(np.float64(x[row, j]) / step) if step > 0 else 0.0
                    salient[row, sparse] = np.int64(min(max(quotient, -127.0), 127.0)) & 0xFF
                    sparse += 1


@njit(cache=True, parallel=True)
def decode_partly(mask, group, block, steps, salient_steps, codes, salient, out):
    """Undo `encode_partly`: +-step, or an INT8 code times its step, both exact in float64."""
    for row in prange(out.shape[0]):
        dense, sparse = np.int64(0), np.int64(0)
        for index in range(out.shape[1] // block):
            step, wide = steps[row, index], np.float64(salient_steps[row, index])
            for j in range(index * block, (index + 1) * block):
                if mask[row // group, j]:
                    code = np.int64(salient[row, sparse])
                    out[row, j] = np.float32((code - 256 if code >= 128 else code) * wide)
                    sparse += 1
                else:
                    out[row, j] = step if codes[row, dense] else -step
                    dense += 1

# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of ternary and binary formats: exact means of magnitudes, exact medians, codes.

A sum of magnitudes is kept as an integer in units of 2**-149, the smallest float32, in `DIGITS` digits of 32 bits. So
it is exact, and neither order nor threads matter. All integers are int64: no digit reaches 2**63 (a run of 512 elements
adds less than 2**33 to a digit, so 2**39 elements fit).
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

DIGITS = 12
"""24 bits of a significand, 253 of exponents, 36 of a count and a factor: 315 of the 384 bits."""
RUN = 512
_LOW = np.int64(0xFFFFFFFF)
ROUND, TWN, SIGN = 0, 1, 2


@njit(cache=True)
def add_at(value, offset, digits):
    """Add ``value * 2**offset`` (value below 2**62) to a sum."""
    index, rest = offset >> 5, offset & 31
    low, high = (value & _LOW) << rest, (value >> 32) << rest
    digits[index] += low & _LOW
    digits[index + 1] += (low >> 32) + (high & _LOW)
    digits[index + 2] += high >> 32


@njit(cache=True)
def _significand(bits):
    """Return (exponent field, at least 1; significand) of the magnitude bits of a float32."""
    field = bits >> 23
    hidden = np.int64(1) if field > 0 else np.int64(0)
    return max(field, np.int64(1)), (bits & 0x7FFFFF) | (hidden << 23)


@njit(cache=True)
def add_run(bits, above, digits):
    """Add the magnitudes whose bits exceed `above` to a sum, at most `RUN` of them; return how many there are.

    Those within 29 binades of the largest go into one integer; the few below are added one by one.
    """
    top = np.int64(0)
    for j in range(bits.size):
        top = max(top, np.int64(bits[j]) & 0x7FFFFFFF)
    low = max((top >> 23) - 29, np.int64(1))
    total, count, missed = np.int64(0), np.int64(0), np.int64(0)
    for j in range(bits.size):
        magnitude = np.int64(bits[j]) & 0x7FFFFFFF
        keep = np.int64(1) if magnitude > above else np.int64(0)
        field, significand = _significand(magnitude)
        significand *= keep
        shift = field - low
        inside = np.int64(1) if shift >= 0 else np.int64(0)
        total += (significand << max(shift, np.int64(0))) * inside
        missed |= significand * (1 - inside)
        count += keep
    add_at(total, low - 1, digits)
    if missed:
        for j in range(bits.size):
            magnitude = np.int64(bits[j]) & 0x7FFFFFFF
            field, significand = _significand(magnitude)
            if magnitude > above and field < low:
                add_at(significand, field - 1, digits)
    return count


@njit(cache=True)
def add_all(bits, above, digits):
    """Add a row of any length as `add_run` does; return how many magnitudes exceed `above`."""
    count = np.int64(0)
    for start in range(0, bits.size, RUN):
        count += add_run(bits[start : start + RUN], above, digits)
    return count


@njit(cache=True)
def _length(value):
    """Return the bit length of a non-negative integer."""
    length = np.int64(0)
    while value > 0:
        value >>= 1
        length += 1
    return length


@njit(cache=True)
def mean_code(digits, numerator, denominator, man_bits, bias, max_code):
    """Return the code of ``sum * numerator / denominator`` in a float format, rounded once half to even, saturating.

    `numerator` is below 2**16, `denominator` between 1 and 2**36. The top 63 bits of the sum are divided; what lies
    below them and the remainder only decide that a result is no tie.
    """
    carried = np.empty(DIGITS, np.int64)
    carry, top = np.int64(0), np.int64(-1)
    for i in range(DIGITS):
        # split, for a digit times the numerator may not fit
        low = (digits[i] & _LOW) * numerator + carry
        carried[i] = low & _LOW
        carry = (low >> 32) + (digits[i] >> 32) * numerator
        if carried[i]:
            top = i
    if top < 0:
        return np.int64(0)
    # the top 63 bits, and whether any bit below is set
    value, have, sticky = carried[top], _length(carried[top]), False
    length = 32 * top + have
    for i in range(top - 1, -1, -1):
        take = min(np.int64(32), 63 - have)
        value = (value << take) | (carried[i] >> (32 - take))
        sticky |= (carried[i] & ((np.int64(1) << (32 - take)) - 1)) != 0
        have += take
    value <<= 63 - have
    sticky |= value % denominator != 0
    value //= denominator
    unit = length - 63 - 149
    # one rounding to the quantum of the format
    exponent = unit + _length(value) - 1
    normal = exponent >= 1 - bias
    drop = (exponent if normal else np.int64(1 - bias)) - man_bits - unit
    if drop > 63:
        return np.int64(0)
    kept = value >> drop if drop < 63 else np.int64(0)
    rest = value - (kept << drop) if drop < 63 else value
    half = np.int64(1) << (drop - 1)
    up = rest > half or (rest == half and (sticky or kept & 1))
    code = kept + (1 if up else 0) + ((exponent + bias - 1) << man_bits if normal else 0)
    return min(code, np.int64(max_code))


@njit(cache=True, parallel=True)
def piece_sums(bits, above, digits, counts):
    """Sum the magnitudes (above a bound) of equal pieces of a flat tensor: int64 [pieces, DIGITS] and [pieces]."""
    pieces = counts.size
    length = (bits.size + pieces - 1) // pieces
    for piece in prange(pieces):
        counts[piece] = add_all(bits[piece * length : (piece + 1) * length], above, digits[piece])


@njit(cache=True, parallel=True)
def histogram(bits, shift, width, prefix, counts):
    """Count the `width` bits from bit `shift` up of the magnitudes with `prefix` above them: [pieces, 2**width]."""
    pieces, mask = counts.shape[0], np.int64(counts.shape[1] - 1)
    length = (bits.size + pieces - 1) // pieces
    for piece in prange(pieces):
        for j in range(piece * length, min((piece + 1) * length, bits.size)):
            magnitude = np.int64(bits[j]) & 0x7FFFFFFF
            if magnitude >> (shift + width) == prefix:
                counts[piece, (magnitude >> shift) & mask] += 1


@njit(cache=True)
def code_value(code, man_bits, bias):
    """Return what a magnitude code of float16 or float32 is worth, as float32, exactly."""
    field, mantissa = code >> man_bits, code & ((np.int64(1) << man_bits) - 1)
    if field > 0:
        mantissa |= np.int64(1) << man_bits
    exponent = max(field, np.int64(1)) - bias - man_bits
    return np.float32(np.float64(mantissa) * np.int64((1023 + exponent) << 52).view(np.float64))


@njit(cache=True)
def _codes(x, rule, inverse, bound, zero_plus, codes):
    """Write the codes of a run: `bound` is the scale (rounding) or the threshold (TWN)."""
    if rule == SIGN:
        for j in range(x.size):
            codes[j] = 1 if x[j] > 0 or (zero_plus and x[j] == 0) else 0
        return
    # |x| / scale > 1/2, said without a quotient: doubling is exact, and an overflow to Inf is on the right side
    factor, limit = np.float32(2), bound
    if rule == TWN:
        factor = np.float32(1)
    elif bound == 0:  # a scale that underflowed: the codes of zeros
        limit = np.float32(np.inf)
    elif inverse:
        factor, limit = np.float32(1) / bound, np.float32(0.5)
    for j in range(x.size):
        large = abs(x[j]) * factor > limit
        codes[j] = 1 + (1 if large and x[j] > 0 else 0) - (1 if large and x[j] < 0 else 0)


@njit(cache=True, parallel=True)
def encode_rows(x, rule, inverse, bound, zero_plus, codes):
    """Write the codes of rows under one scale or threshold."""
    for row in prange(x.shape[0]):
        _codes(x[row], rule, inverse, bound, zero_plus, codes[row])


@njit(cache=True, parallel=True)
def encode_blocks(x, bits, block, rule, inverse, ratio, floor_code, scale, zero_plus, codes, scales):
    """Encode rows with a scale a block; `ratio` is TWN's factor, `scale` is (man_bits, bias, max_code)."""
    man_bits, bias, max_code = scale
    for row in prange(x.shape[0]):
        digits = np.zeros(DIGITS, np.int64)
        for index in range(x.shape[1] // block):
            start, end = index * block, (index + 1) * block
            digits[:] = 0
            count = add_all(bits[row, start:end], np.int64(-1), digits)
            bound = np.float32(0)
            if rule == TWN:
                threshold = mean_code(digits, ratio[0], count * ratio[1], 23, 127, 0x7F7FFFFF)
                bound = code_value(threshold, 23, 127)
                digits[:] = 0
                count = max(add_all(bits[row, start:end], threshold, digits), np.int64(1))
            code = max(mean_code(digits, 1, count, man_bits, bias, max_code), np.int64(floor_code))
            if rule == ROUND:
                bound = code_value(code, man_bits, bias)
            scales[row, index] = code
            _codes(x[row, start:end], rule, inverse, bound, zero_plus, codes[row, start:end])


@njit(cache=True, parallel=True)
def decode_blocks(codes, table, steps, block, out, bad):
    """Decode codes to ``table[code] * step``, at most three values a block.

    `bad` counts the blocks of a row that hold a code beyond them.
    """
    legal = min(table.size, 3)
    for row in prange(codes.shape[0]):
        wrong = np.int64(0)
        for index in range(codes.shape[1] // block):
            step = steps[row % steps.shape[0], index % steps.shape[1]]
            low, middle, high = table[0] * step, table[1] * step, table[legal - 1] * step
            run, values = codes[row, index * block : (index + 1) * block], out[row, index * block : (index + 1) * block]
            top = np.uint8(0)
            for j in range(values.size):
                code = run[j]
                top = code if code > top else top
                value = middle if code == 1 else low
                values[j] = high if code == 2 else value
            wrong += top >= legal
        bad[row] = wrong

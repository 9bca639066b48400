# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of GGUF blocks: encoders that need no search, and all decoders.

Arithmetic is float32 in the order of ggml's reference functions, each operation rounded by itself. Loops over elements
run to the size of an array: LLVM turns these into vector code, but unrolls those of constant length instead.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import CHUNK, RNE, bits32, from_bits32, rounded_code, top_bits

_u32, _i32, _f32 = np.uint32, np.int32, np.float32
Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q6_K, IQ4_NL, TQ1_0, TQ2_0, MXFP4, NVFP4 = range(12)
INFINITY = 0x7F800000


@njit(cache=True, error_model="numpy")
def half_bits(value):
    """Return the float16 bits of a float32, half to even; Inf beyond the largest, one NaN (0x7E00) for all."""
    bits = bits32(value)
    magnitude, sign = _u32(bits & _u32(0x7FFFFFFF)), _u32((bits >> _u32(16)) & _u32(0x8000))
    if magnitude > _u32(INFINITY):
        return _u32(0x7E00)
    if magnitude < _u32(0x38800000):  # subnormal: 0.5 has the last place 2**-24
        return _u32(sign | _u32(bits32(from_bits32(magnitude) + _f32(0.5)) - _u32(0x3F000000)))
    odd = _u32((magnitude >> _u32(13)) & _u32(1))
    code = _u32(_u32(magnitude - _u32(0x38000000) + _u32(0xFFF) + odd) >> _u32(13))
    return _u32(sign | min(code, _u32(0x7C00)))


@njit(cache=True, error_model="numpy")
def half_at(run, at):
    """Return what the little-endian float16 at a place of the bytes is worth."""
    bits = _u32(run[at]) | _u32(_u32(run[at + 1]) << _u32(8))
    sign, rest = _u32(_u32(bits & _u32(0x8000)) << _u32(16)), _u32(_u32(bits & _u32(0x7FFF)) << _u32(13))
    if rest >= _u32(0x0F800000):
        return from_bits32(sign | _u32(rest + _u32(0x70000000)))
    magnitude = from_bits32(rest) * _f32(5192296858534827628530496329220096.0)  # 2**112, exact
    return from_bits32(sign | bits32(magnitude))


@njit(cache=True, error_model="numpy")
def put_half(value, out, at):
    """Store a float32 as little-endian float16; return whether it is no finite one."""
    code = half_bits(value)
    out[at], out[at + 1] = code & _u32(0xFF), code >> _u32(8)
    return (code & _u32(0x7C00)) == _u32(0x7C00)


@njit(cache=True, error_model="numpy")
def reciprocal(step):
    """Return 1 / step; 0 where that is not finite: there upstream converts Inf or NaN to integers (undefined in C)."""
    inverse = _f32(1) / step if step != 0 else _f32(0)
    return inverse if abs(inverse) < _f32(np.inf) else _f32(0)


@njit(cache=True, error_model="numpy")
def rounded_away(value):
    """Return the nearest integer of a float32 below 2**31, ties away from zero, as roundf does."""
    whole = _i32(value)
    rest = value - _f32(whole)  # exact
    return _i32(whole + _i32(rest >= _f32(0.5)) - _i32(rest <= _f32(-0.5)))


@njit(cache=True, error_model="numpy")
def sign_tops(run):
    """Return the bits of the largest positive element (0 without) and of the largest with sign bit set (-0 without)."""
    high, low = _i32(0), _u32(0x80000000)
    for j in range(run.size):  # integers: comparisons of floats do not vectorise
        bits = bits32(run[j])
        signed = _i32(bits)
        high = signed if signed > high else high
        low = bits if bits > low else low
    return _u32(high), low


@njit(cache=True, error_model="numpy")
def largest(run, high, low, first_zero):
    """Return the element of largest magnitude from `sign_tops`, the first of equals; of zeros +0, or the first."""
    low = _u32(low & _u32(0x7FFFFFFF))
    if high != low:
        return from_bits32(high) if high > low else -from_bits32(low)
    if high == _u32(0) and not first_zero:
        return _f32(0)
    at = 0
    while _u32(bits32(run[at]) & _u32(0x7FFFFFFF)) != high:
        at += 1
    return run[at]


@njit(cache=True, error_model="numpy")
def ordered(bits):
    """Map the bits of a float32 to an int32 of the same order, and back."""
    return _i32(_i32(bits) ^ _i32(_i32(_i32(bits) >> _i32(31)) & _i32(0x7FFFFFFF)))


@njit(cache=True, error_model="numpy")
def ends(run):
    """Return least and largest element; of zeros that are least, the first."""
    low, high = _i32(0x7FFFFFFF), _i32(-0x80000000)
    for j in range(run.size):
        value = ordered(bits32(run[j]))
        low = value if value < low else low
        high = value if value > high else high
    least, most = from_bits32(_u32(ordered(low))), from_bits32(_u32(ordered(high)))
    if least == 0:
        for j in range(run.size):
            if run[j] == 0:
                return run[j], most
    return least, most


@njit(cache=True, error_model="numpy")
def four_bit_codes(run, low, inverse, offset, out):
    """Store trunc((x - low) * inverse + offset), at most 15; the second half of the elements in the high nibbles.

    Codes are joined as floats, all of them small integers: converting once to bytes is twice as fast.
    """
    top, half = _f32(15), run.size // 2
    first, second = run[:half], run[half:]
    for j in range(out.size):
        a, b = (first[j] - low) * inverse + offset, (second[j] - low) * inverse + offset
        a, b = _f32(_i32(a if a < top else top)), _f32(_i32(b if b < top else top))
        out[j] = _i32(a + b * _f32(16))


@njit(cache=True, error_model="numpy")
def five_bit_codes(run, low, inverse, offset, codes, out):
    """Store trunc((x - low) * inverse + offset), at most 31: a word of fifth bits, then nibbles; `codes` is scratch."""
    top, high = _f32(31), _u32(0)
    for j in range(codes.size):
        value = (run[j] - low) * inverse + offset
        codes[j] = _i32(value if value < top else top)
    for j in range(codes.size):
        high |= _u32(_u32(codes[j] >> 4) << _u32(j))
    for byte in range(4):
        out[byte] = (high >> _u32(8 * byte)) & _u32(0xFF)
    put_halves(codes, out[4:20])


@njit(cache=True, error_model="numpy")
def affine_block(run, kind, first_zero, codes, out):
    """Encode 32 values to 4 or 5 bits: Q4_0, Q4_1, Q5_0, Q5_1; `codes` is scratch, uint8 [256]."""
    five, ranged = kind in (Q5_0, Q5_1), kind in (Q4_1, Q5_1)
    low, offset, at, bad = _f32(0), _f32(0.5), 2, False
    if ranged:
        low, most = ends(run)
        step = (most - low) / _f32(31 if five else 15)
        bad, at = put_half(low, out, 2), 4
    else:
        high, minus = sign_tops(run)
        step = largest(run, high, minus, first_zero) / _f32(-16 if five else -8)
        offset = _f32(16.5 if five else 8.5)
    bad = put_half(step, out, 0) or bad
    inverse = reciprocal(step)
    if inverse == 0:  # the range may be Inf, too
        codes[:32] = np.uint8(_i32(offset))
        if five:
            out[at : at + 4] = 0 if ranged else 255
            at += 4
        put_halves(codes[:32], out[at : at + 16])
    elif five:
        five_bit_codes(run, low, inverse, offset, codes[: run.size], out[at:])
    else:
        four_bit_codes(run, low, inverse, offset, out[at : at + run.size // 2])
    return bad


@njit(cache=True, error_model="numpy")
def put_halves(codes, out):
    """Pack nibbles, two a byte of `out`: the second half of the elements in the high ones."""
    low, high = codes[: out.size], codes[out.size :]
    for j in range(out.size):
        out[j] = (low[j] & 15) | (high[j] << 4)


@njit(cache=True, error_model="numpy")
def int8_block(run, out):
    """Encode 32 values to Q8_0."""
    step = from_bits32(top_bits(run)) / _f32(127)
    bad, inverse, codes = put_half(step, out, 0), reciprocal(step), out[2:]
    for j in range(codes.size):
        codes[j] = rounded_away(run[j] * inverse) & 0xFF
    return bad


@njit(cache=True, error_model="numpy")
def ternary_block(run, kind, codes, out):
    """Encode 256 values to TQ1_0 or TQ2_0; `codes` is scratch, uint8 [256]."""
    step = from_bits32(top_bits(run))
    inverse = reciprocal(step)
    for j in range(run.size):
        codes[j] = rounded_away(run[j] * inverse) + 1
    if kind == TQ2_0:
        for half in range(2):
            part, here = codes[128 * half : 128 * half + 128], out[32 * half : 32 * half + 32]
            for j in range(32):
                here[j] = part[j] | (part[j + 32] << 2) | (part[j + 64] << 4) | (part[j + 96] << 6)
        return put_half(step, out, 64)
    for j in range(52):  # 32 bytes of 5 trits 32 apart, 16 of 5 trits 16 apart, 4 of 4 trits 4 apart
        first, stride, count = (j, 32, 5) if j < 32 else ((128 + j, 16, 5) if j < 48 else (192 + j, 4, 4))
        value = _u32(0)
        for n in range(5):
            value = _u32(value * _u32(3) + (_u32(codes[first + n * stride]) if n < count else _u32(0)))
        out[j] = _u32(_u32(value * _u32(256)) + _u32(242)) // _u32(243)
    return put_half(step, out, 52)


@njit(cache=True, error_model="numpy")
def nearest_fp4(x, d, even, codes):
    """Store the E2M1 codes nearest to values in steps of `d` = half the scale, as a search in float32 finds them.

    The first of equal errors wins: ties go toward zero, and so does what lies so far above the largest level that its
    errors round to one number. With `even`, ties go to even codes, and what lies above saturates.
    """
    even = even and d > 0  # with a scale of 0 all levels are equally near: code 0
    limit = _f32(12) * d if even else _f32(np.inf)
    v1, v2, v3, v4, v5, v6, v7 = (
        d, _f32(2) * d, _f32(3) * d, _f32(4) * d, _f32(6) * d, _f32(8) * d, _f32(12) * d,
    )  # fmt: skip
    for j in range(codes.size):
        m = abs(x[j])
        m = m if m < limit else limit
        best, code = m, _u32(0)
        error = abs(v1 - m)
        code, best = (_u32(1), error) if error < best else (code, best)
        error = abs(v2 - m)
        code, best = (_u32(2), error) if error < best or (even and error == best) else (code, best)
        error = abs(v3 - m)
        code, best = (_u32(3), error) if error < best else (code, best)
        error = abs(v4 - m)
        code, best = (_u32(4), error) if error < best or (even and error == best) else (code, best)
        error = abs(v5 - m)
        code, best = (_u32(5), error) if error < best else (code, best)
        error = abs(v6 - m)
        code, best = (_u32(6), error) if error < best or (even and error == best) else (code, best)
        error = abs(v7 - m)
        code = _u32(7) if error < best else code
        sign = _u32(_u32(bits32(x[j]) >> _u32(31)) << _u32(3))
        codes[j] = code | sign if code != _u32(0) else _u32(0)


@njit(cache=True, error_model="numpy")
def exponent_code(top, below):
    """Return the E8M0 code ``floor(log2(amax)) + 125``, at least 0, from the bits of amax.

    `below` int64 [256] tells, by that exponent + 1 + 127, how many float32 below the next power of two have a
    logarithm that rounds up to it.
    """
    if top == _u32(0):
        return np.int64(0)
    field = np.int64(top >> _u32(23))
    if field > 0 and np.int64(0x800000) - (np.int64(top) & 0x7FFFFF) <= below[field + 1]:
        field += 1
    return max(field - 2, np.int64(0))


@njit(cache=True, error_model="numpy")
def ue4m3_code(value):
    """Round a float32 to a UE4M3 code as ggml does: halves up, subnormals up to code 7, 448 from 248 on."""
    if not value > 0:
        return np.int64(0)
    value = min(value, _f32(448))
    bits = np.int64(bits32(value))
    field = (bits >> 23) - 120
    if field <= 0:
        return min(np.int64(value * _f32(512) + _f32(0.5)), np.int64(7))
    code = (field << 3) + ((bits >> 20) & 7) + ((bits >> 19) & 1)
    return code if code < 15 << 3 else np.int64(0x7E)


@njit(cache=True, error_model="numpy")
def fp4_block(run, kind, even, exact_scale, below, halves, codes, out):
    """Encode 32 values to MXFP4 or 64 to NVFP4; `halves` is half the worth of each scale code, float32 [256]."""
    if kind == MXFP4:
        code = exponent_code(top_bits(run), below)
        out[0] = code
        nearest_fp4(run, halves[code], even, codes[: run.size])
        put_halves(codes[: run.size], out[1:])
        return
    for sub in range(4):
        part, here = run[16 * sub : 16 * sub + 16], codes[:16]
        amax = from_bits32(top_bits(part))
        if exact_scale:
            code = min(rounded_code(np.float64(amax) / 6.0, False, 3, 7, 1, RNE, 0), np.int64(0x7E))
        else:
            code = ue4m3_code(amax / _f32(6))
        out[sub] = code
        nearest_fp4(part, halves[code], even, here)
        put_halves(here, out[4 + 8 * sub : 12 + 8 * sub])


@njit(cache=True, parallel=True, error_model="numpy")
def encode_blocks(x, kind, first_zero, even, exact_scale, below, halves, out, bad):
    """Encode float32 [n, block] to bytes [n, bytes].

    `bad` int64 [pieces] gets 1 + the first block whose scale is not finite, or minus that where the input is not.
    """
    blocks, block = x.shape
    at_a_time = max(1, CHUNK // block)
    for piece in prange(bad.size):
        codes = np.empty(256, np.uint8)
        for index in range(piece * at_a_time, min((piece + 1) * at_a_time, blocks)):
            run, here, wrong = x[index], out[index], False
            if top_bits(run) >= _u32(INFINITY):
                bad[piece] = -1 - index if bad[piece] >= 0 else bad[piece]
                continue
            if kind == Q8_0:
                wrong = int8_block(run, here)
            elif kind in (TQ1_0, TQ2_0):
                wrong = ternary_block(run, kind, codes, here)
            elif kind in (MXFP4, NVFP4):
                fp4_block(run, kind, even, exact_scale, below, halves, codes, here)
            else:
                wrong = affine_block(run, kind, first_zero, codes, here)
            if wrong and bad[piece] == 0:
                bad[piece] = index + 1


@njit(cache=True, error_model="numpy")
def scale_and_min(run, j):
    """Return the 6-bit scale and minimum of sub-block j of Q4_K, from its 12 bytes."""
    if j < 4:
        return np.int64(run[j]) & 63, np.int64(run[j + 4]) & 63
    both = np.int64(run[j + 4])
    return (both & 15) | (np.int64(run[j - 4]) >> 6) << 4, (both >> 4) | (np.int64(run[j]) >> 6) << 4


@njit(cache=True, error_model="numpy")
def decode_affine(run, kind, out):
    """Decode Q4_0, Q4_1, Q5_0 or Q5_1."""
    five, ranged = kind in (Q5_0, Q5_1), kind in (Q4_1, Q5_1)
    step, low, at = half_at(run, 0), _f32(0), 2
    if ranged:
        low, at = half_at(run, 2), 4
    middle = _i32(0) if ranged else _i32(16 if five else 8)
    high = _u32(0)
    if five:
        for byte in range(4):
            high |= _u32(_u32(run[at + byte]) << _u32(8 * byte))
        at += 4
    packed, first, second = run[at : at + 16], out[:16], out[16:32]
    for j in range(16):
        a, b = _u32(packed[j] & 15), _u32(packed[j] >> 4)
        a |= _u32(_u32(_u32(high >> _u32(j)) & _u32(1)) << _u32(4))
        b |= _u32(_u32(_u32(high >> _u32(j + 16)) & _u32(1)) << _u32(4))
        first[j] = step * _f32(_i32(a) - middle)
        second[j] = step * _f32(_i32(b) - middle)
    if ranged:
        for j in range(32):
            out[j] += low


@njit(cache=True, error_model="numpy")
def decode_table(packed, table, step, first, second):
    """Decode nibbles by a table of 16 levels: low ones to the first half, high ones to the second."""
    for j in range(packed.size):
        first[j] = step * table[packed[j] & 15]
        second[j] = step * table[packed[j] >> 4]


@njit(cache=True, error_model="numpy")
def decode_k(run, kind, out):
    """Decode Q4_K or Q6_K."""
    if kind == Q4_K:
        d, least = half_at(run, 0), half_at(run, 2)
        for j in range(8):
            scale, minimum = scale_and_min(run[4:16], j)
            step, low = d * _f32(scale), least * _f32(minimum)
            shift = _u32(4 * (j & 1))
            packed, values = run[16 + 32 * (j >> 1) : 48 + 32 * (j >> 1)], out[32 * j : 32 * j + 32]
            for i in range(32):
                values[i] = step * _f32((_u32(packed[i]) >> shift) & _u32(15)) - low
        return
    d = half_at(run, 208)
    for j in range(8):  # runs of 32: nibbles from 64 bytes, low then high; two more bits from 32 bytes
        half, quarter = j >> 2, j & 3
        low = run[64 * half + 32 * (quarter & 1) : 64 * half + 32 * (quarter & 1) + 32]
        high, values = run[128 + 32 * half : 160 + 32 * half], out[32 * j : 32 * j + 32]
        shift, twice = _u32(4 * (quarter >> 1)), _u32(2 * quarter)
        for part in range(2):
            step = d * _f32(np.int8(run[192 + 2 * j + part]))
            for i in range(16 * part, 16 * part + 16):
                code = _u32(_u32(_u32(low[i]) >> shift) & _u32(15))
                code |= _u32(_u32(_u32(_u32(high[i]) >> twice) & _u32(3)) << _u32(4))
                values[i] = step * _f32(_i32(code) - _i32(32))


@njit(cache=True, error_model="numpy")
def decode_ternary(run, kind, out):
    """Decode TQ1_0 or TQ2_0; any byte is decoded, as upstream does."""
    if kind == TQ2_0:
        step = half_at(run, 64)
        for half in range(2):
            for n in range(4):
                packed, values = run[32 * half : 32 * half + 32], out[128 * half + 32 * n : 128 * half + 32 * n + 32]
                for j in range(32):
                    values[j] = step * _f32(_i32((_u32(packed[j]) >> _u32(2 * n)) & _u32(3)) - _i32(1))
        return
    step = half_at(run, 52)
    for j in range(52):
        first, stride, count = (j, 32, 5) if j < 32 else ((128 + j, 16, 5) if j < 48 else (192 + j, 4, 4))
        byte = _u32(run[j])
        for n in range(count):
            out[first + n * stride] = step * _f32(_i32(_u32(byte * _u32(3)) >> _u32(8)) - _i32(1))
            byte = _u32(_u32(byte * _u32(3)) & _u32(0xFF))


@njit(cache=True, parallel=True, error_model="numpy")
def decode_blocks(blocks, kind, table, halves, out):
    """Decode bytes [n, bytes] to float32 [n, block]; `table` is of 16 levels, `halves` as for `encode_blocks`."""
    at_a_time = max(1, CHUNK // out.shape[1])
    for piece in prange(-(-blocks.shape[0] // at_a_time)):
        for index in range(piece * at_a_time, min((piece + 1) * at_a_time, blocks.shape[0])):
            run, values = blocks[index], out[index]
            if kind == Q8_0:
                step, codes = half_at(run, 0), run[2:34]
                for j in range(32):
                    values[j] = _f32(np.int8(codes[j])) * step
            elif kind in (Q4_K, Q6_K):
                decode_k(run, kind, values)
            elif kind in (TQ1_0, TQ2_0):
                decode_ternary(run, kind, values)
            elif kind == IQ4_NL:
                decode_table(run[2:18], table, half_at(run, 0), values[:16], values[16:32])
            elif kind == MXFP4:
                decode_table(run[1:17], table, halves[run[0]], values[:16], values[16:32])
            elif kind == NVFP4:
                for sub in range(4):
                    here = values[16 * sub : 16 * sub + 16]
                    decode_table(run[4 + 8 * sub : 12 + 8 * sub], table, halves[run[sub]], here[:8], here[8:])
            else:
                decode_affine(run, kind, values)

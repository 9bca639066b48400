# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of block formats. Specs enter as numbers and tables: one compilation serves all formats.

The loops over elements take slices that start at index 0: LLVM then turns each into vector code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import (
    CHUNK,
    RNE,
    STOCHASTIC,
    bits32,
    bits64,
    float_value,
    from_bits32,
    magnitude_bits,
    power_of_two,
    random_bits,
    round_steps,
    rounded_code,
    shift_right,
    top_bits,
)
from hwsim.formats.families._table_kernels import guided_blocks, least_float32

_u32 = np.uint32
FLOAT, INT, TABLE = 0, 1, 2
RULES = ("none", "floor", "even", "ceil", "rceil", "tosa", "away_ceil", "amax", "range")
NONE, FLOOR, EVEN, CEIL, RCEIL, TOSA, AWAY_CEIL, AMAX, RANGE = range(9)
ZERO_BLOCKS = ("code_00", "one", "microxcaling", "error")
INFINITY = 0x7F800000
RUN = 1024
"""Elements that share the fate of a doubt."""
MAGIC = 1.5 * 2.0**52  # adding it leaves an integer's two's complement in the low bits, rounded half to even


class Element(NamedTuple):
    """An element format as kernels know it."""

    kind: int
    bits: int
    signed: int
    man_bits: int
    bias: int
    max_code: int
    subnormals: int
    smallest: float  # without subnormals, value of code 1 where code 0 is a zero; else 0
    negative_zero: int
    low: int
    high: int
    frac_bits: int
    inf_code: int  # -1: none
    nan_code: int  # -1: none
    nan_signed: int
    saturate: int
    mode: int
    seed: int
    symmetric: int
    ties: int  # of tables: 0 down, 1 up, 2 even rank
    fast: int  # half to even, saturating: the vector loops serve it
    max_value: float


class Scale(NamedTuple):
    """A scale format, and the rule by which it is found, as kernels know them."""

    rule: int
    kind: int
    bytes: int
    man_bits: int
    bias: int
    max_code: int
    subnormals: int
    nan_code: int
    floor: float  # smallest scale emitted; 0 for none
    level: float  # by which amax is divided
    emax: int  # rules of powers of two: exponent of amax that gives the scale 1,
    carry: int  # one more when the 52 mantissa bits of amax reach this,
    factor: float  # amax multiplied in float32 before (rceil)
    zero_block: int
    exact_quotient: int  # 0: elements are multiplied by the float32 reciprocal of the scale


@njit(cache=True)
def scale_worth(code, scale):
    """Return what a scale code is worth."""
    if scale.kind == INT:
        return np.float64(code)
    if scale.subnormals:
        return float_value(code, scale.man_bits, scale.bias)
    return power_of_two(code - scale.bias)


@njit(cache=True)
def nearest_scale(value, scale):
    """Round a scale half to even into its format, within [floor, largest]."""
    value = max(value, scale.floor)
    if scale.kind == INT:
        return np.int64(min(np.rint(value), np.float64(scale.max_code)))
    return min(rounded_code(value, False, scale.man_bits, scale.bias, scale.subnormals, RNE, 0), scale.max_code)


@njit(cache=True)
def snapped(value):
    """Round a float64 to 45 significant bits.

    A product with a rounded reciprocal is off by less than 2**-51 of itself. Where the true quotient is a border
    between codes, this brings it back onto the border; any other quotient of a float32 and a step of at most 36 bits
    is further than 2**-45 from a border, and stays on its side.
    """
    split = value * 257.0
    return split - (split - value)


@njit(cache=True)
def float32_blocks(x, block, inverses, element, codes):
    """Encode blocks to a minifloat, half to even, saturating: ``|x| * inverse`` is formed in float32.

    Exact for an inverse that is a power of two: only what lies far below the smallest step can underflow. Normal codes
    are rounded on the bits of the float, subnormal ones by adding a power of two whose last place is their step. Blocks
    whose inverse is 0 are left out.
    """
    one, shift = _u32(1), _u32(23 - element.man_bits)
    half = _u32((1 << (22 - element.man_bits)) - 1)
    rebias = _u32((127 - element.bias) << element.man_bits)
    magic_bits = _u32((127 + 1 - element.bias - element.man_bits + 23) << 23)
    magic = from_bits32(magic_bits)
    normal = from_bits32(_u32((127 + 1 - element.bias) << 23))
    limit = np.float32(element.max_value)
    sign_shift, sign_mask = _u32(32 - element.bits), _u32(element.signed << (element.bits - 1))
    sign_of_zero = sign_mask if element.negative_zero else _u32(0)
    for i in range(inverses.size):
        inverse = inverses[i]
        if inverse == 0:
            continue
        run, out = x[i * block : (i + 1) * block], codes[i * block : (i + 1) * block]
        for j in range(out.size):
            magnitude = abs(run[j]) * inverse
            magnitude = magnitude if magnitude < limit else limit
            bits = bits32(magnitude)
            above = _u32(shift_right(_u32(_u32(bits + half) + _u32(shift_right(bits, shift) & one)), shift) - rebias)
            below = _u32(bits32(magnitude + magic) - magic_bits)
            code = below if magnitude < normal else above
            mask = sign_mask if code != _u32(0) else sign_of_zero
            out[j] = _u32(code | _u32(shift_right(bits32(run[j]), sign_shift) & mask))


@njit(cache=True)
def near_float32_run(x, inverses, element, codes):
    """Encode a run to a minifloat by float32 reciprocals of any steps; return whether that left no doubt.

    The product is off by less than 2**-22 of itself: 3 units in its last place. Within 4 of a border between codes
    there is doubt.
    """
    one, shift = _u32(1), _u32(23 - element.man_bits)
    half = _u32((1 << (22 - element.man_bits)) - 1)
    rebias = _u32((127 - element.bias) << element.man_bits)
    magic_bits = _u32((127 + 1 - element.bias - element.man_bits + 23) << 23)
    magic = from_bits32(magic_bits)
    normal = from_bits32(_u32((127 + 1 - element.bias) << 23))
    limit = np.float32(element.max_value)
    sign_shift, sign_mask = _u32(32 - element.bits), _u32(element.signed << (element.bits - 1))
    sign_of_zero = sign_mask if element.negative_zero else _u32(0)
    to_border, fraction = _u32(half + _u32(5)), _u32((1 << (23 - element.man_bits)) - 1)
    half_step = np.float32(0.5) * from_bits32(_u32((127 + 1 - element.bias - element.man_bits) << 23))
    sure = half_step - normal * np.float32(2.0**-20)
    doubt = _u32(0)
    for j in range(codes.size):
        magnitude = abs(x[j]) * inverses[j]
        magnitude = magnitude if magnitude < limit else limit
        bits, low = bits32(magnitude), magnitude + magic
        above = _u32(shift_right(_u32(_u32(bits + half) + _u32(shift_right(bits, shift) & one)), shift) - rebias)
        below = _u32(bits32(low) - magic_bits)
        small = magnitude < normal
        code = below if small else above
        by_bits = _u32(1) if _u32(_u32(bits + to_border) & fraction) < _u32(8) else _u32(0)
        by_rest = _u32(1) if abs(magnitude - (low - magic)) > sure else _u32(0)
        doubt = _u32(doubt | (by_rest if small else by_bits))
        mask = sign_mask if code != _u32(0) else sign_of_zero
        codes[j] = _u32(code | _u32(shift_right(bits32(x[j]), sign_shift) & mask))
    return doubt == _u32(0)


@njit(cache=True)
def float64_run(x, inverse, element, codes):
    """Encode a run to a minifloat, half to even, saturating, for the float64 reciprocal of any step."""
    one, shift = np.int64(1), np.int64(52 - element.man_bits)
    half = (one << (shift - 1)) - 1
    rebias = np.int64(1023 - element.bias) << element.man_bits
    magic_bits = np.int64(1023 + 1 - element.bias - element.man_bits + 52) << 52
    magic = np.int64(magic_bits).view(np.float64)
    normal = power_of_two(1 - element.bias)
    limit = np.float64(element.max_value)
    sign_shift, sign_mask = _u32(32 - element.bits), _u32(element.signed << (element.bits - 1))
    sign_of_zero = sign_mask if element.negative_zero else _u32(0)
    for j in range(codes.size):
        magnitude = snapped(np.float64(abs(x[j])) * inverse)
        magnitude = magnitude if magnitude < limit else limit
        bits = bits64(magnitude)
        above = ((bits + half + ((bits >> shift) & one)) >> shift) - rebias
        below = bits64(magnitude + magic) - magic_bits
        code = _u32(below if magnitude < normal else above)
        mask = sign_mask if code != _u32(0) else sign_of_zero
        codes[j] = _u32(code | _u32(shift_right(bits32(x[j]), sign_shift) & mask))


@njit(cache=True)
def near_int_run(x, inverses, zeros, element, codes):
    """Encode a run to integers by float32 reciprocals of any steps; return whether that left no doubt.

    A quotient within the range is off by 2**-23 of the range at most: that close to a half there is doubt.
    """
    low, high, magic = np.float32(element.low), np.float32(element.high), np.float32(12582912.0)  # 1.5 * 2**23
    factor = np.float32(power_of_two(element.frac_bits))
    # what saturates keeps doing so under any zero point
    end = high - low + np.float32(1)
    mask, sure = _u32((1 << element.bits) - 1), np.float32(0.5) - end * np.float32(1.5 * 2.0**-23)
    farthest = _u32(0)
    for j in range(codes.size):
        quotient = x[j] * (inverses[j] * factor)
        quotient = quotient if quotient < end else end
        quotient = quotient if quotient > -end else -end
        nearest = (quotient + magic) - magic
        distance = magnitude_bits(quotient - nearest)
        farthest = distance if distance > farthest else farthest
        level = nearest + zeros[j]
        level = level if level < high else high
        level = level if level > low else low
        codes[j] = _u32(bits32(level + magic) & mask)
    return farthest < bits32(sure)


@njit(cache=True)
def int_run(x, inverse, zero, element, codes):
    """Encode a run to integers, half to even, saturating; the zero point is added after rounding."""
    low, high, offset = np.float64(element.low), np.float64(element.high), np.float64(zero)
    inverse *= power_of_two(element.frac_bits)
    mask = _u32((1 << element.bits) - 1)
    for j in range(codes.size):
        quotient = snapped(np.float64(x[j]) * inverse)
        # what lies far outside saturates anyway; this keeps it inside the range of the magic sum
        quotient = quotient if quotient < 1048576.0 else 1048576.0
        quotient = quotient if quotient > -1048576.0 else -1048576.0
        level = ((quotient + MAGIC) - MAGIC) + offset
        level = level if level < high else high
        level = level if level > low else low
        codes[j] = _u32(_u32(bits64(level + MAGIC)) & mask)


@njit(cache=True)
def spread(values, block, out):
    """Repeat each value for the elements of its block."""
    for i in range(-(-out.size // block)):
        value, part = np.float32(values[i]), out[i * block : (i + 1) * block]
        for j in range(part.size):
            part[j] = value


@njit(cache=True)
def quotient_blocks(x, block, quick, inverses, zeros, element, codes):
    """Encode blocks by the reciprocals of any steps: in float32, and runs of which that leaves doubt in float64.

    Blocks whose inverse is 0 are left with any codes. A run is several short blocks, which keeps the vector units full,
    or a part of a long one.
    """
    blocks = max(1, RUN // block)
    own = np.zeros((2, min(RUN, blocks * block)), np.float32)
    for first in range(0, inverses.size, blocks):
        stop = min(first + blocks, inverses.size)
        usable = True
        for i in range(first, stop):
            usable = usable and (quick[i] > 0 or inverses[i] == 0)
        count = min(RUN, (stop - first) * block)
        spread(quick[first:stop], block, own[0, :count])
        if element.kind == INT and not element.signed:  # zero points are for unsigned codes
            spread(zeros[first:stop], block, own[1, :count])
        for begin in range(first * block, stop * block, count):
            end = min(begin + count, stop * block)
            run, out = x[begin:end], codes[begin:end]
            if usable and element.kind == FLOAT and near_float32_run(run, own[0, : run.size], element, out):
                continue
            if usable and element.kind == INT and near_int_run(run, own[0, : run.size], own[1], element, out):
                continue
            for i in range(begin // block, -(-end // block)):
                left, right = max(begin, i * block), min(end, (i + 1) * block)
                if inverses[i] == 0:
                    continue
                if element.kind == FLOAT:
                    float64_run(x[left:right], inverses[i], element, codes[left:right])
                else:
                    int_run(x[left:right], inverses[i], zeros[i], element, codes[left:right])


@njit(cache=True)
def int32_blocks(x, block, inverses, element, codes):
    """Encode blocks to integers as `int_run` does, where inverses are powers of two and there is no zero point."""
    low, high, magic = np.float32(element.low), np.float32(element.high), np.float32(12582912.0)  # 1.5 * 2**23
    mask = _u32((1 << element.bits) - 1)
    for i in range(inverses.size):
        inverse = inverses[i] * np.float32(power_of_two(element.frac_bits))
        if inverse == 0:
            continue
        run, out = x[i * block : (i + 1) * block], codes[i * block : (i + 1) * block]
        for j in range(out.size):
            level = run[j] * inverse
            level = level if level < high else high
            level = level if level > low else low
            out[j] = _u32(bits32(level + magic) & mask)


@njit(cache=True)
def strict_borders(element, count):
    """Tell, uint8 [count], which borders of a table must be passed, not only reached, to take the rank above."""
    strict = np.empty(count, np.uint8)
    for i in range(count):
        strict[i] = element.ties == 0 or (element.ties == 2 and i % 2 == 0)
    return strict


@njit(cache=True)
def nibbles(order):
    """Return the codes of at most 16 ranks as two words of eight nibbles each."""
    low = high = _u32(0)
    for rank in range(order.size):
        word = _u32(_u32(order[rank] & 15) << _u32(4 * (rank & 7)))
        low, high = (_u32(low | word), high) if rank < 8 else (low, _u32(high | word))
    return low, high


@njit(cache=True)
def table7_blocks(x, block, steps, borders, order, element, codes):
    """Encode blocks by a sign and at most 8 magnitudes of 4 bits: the rank is the number of borders reached."""
    strict, reached = strict_borders(element, borders.size), np.full(7, 0x7F800000, np.uint32)
    sign_shift, (word, _) = _u32(element.bits - 1), nibbles(order)
    for i in range(steps.size):
        if steps[i] == 0:
            continue
        least_float32(borders, strict, steps[i], reached[: borders.size])
        t = reached.view(np.float32)
        t0, t1, t2, t3, t4, t5, t6 = t[0], t[1], t[2], t[3], t[4], t[5], t[6]
        run, out = x[i * block : (i + 1) * block], codes[i * block : (i + 1) * block]
        for j in range(out.size):
            v = abs(run[j])
            rank = _u32(v >= t0) + _u32(v >= t1) + _u32(v >= t2) + _u32(v >= t3)
            rank = _u32(rank + _u32(v >= t4) + _u32(v >= t5) + _u32(v >= t6))
            code = _u32(shift_right(word, _u32(rank << _u32(2))) & _u32(15))
            out[j] = _u32(code | _u32(shift_right(bits32(run[j]), _u32(31)) << sign_shift))


@njit(cache=True)
def table15_blocks(x, block, steps, borders, order, element, codes):
    """Encode blocks to at most 16 levels of 4 bits, magnitudes below a sign where the table is symmetric."""
    strict, reached = strict_borders(element, borders.size), np.full(15, 0x7F800000, np.uint32)
    low, high = nibbles(order)
    unsigned = _u32(0x7FFFFFFF) if element.symmetric else _u32(0xFFFFFFFF)
    sign_shift, sign_mask = _u32(32 - element.bits), _u32(element.symmetric << (element.bits - 1))
    for i in range(steps.size):
        if steps[i] == 0:
            continue
        least_float32(borders, strict, steps[i], reached[: borders.size])
        t = reached.view(np.float32)
        t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
        t8, t9, t10, t11, t12, t13, t14 = t[8], t[9], t[10], t[11], t[12], t[13], t[14]
        run, out = x[i * block : (i + 1) * block], codes[i * block : (i + 1) * block]
        for j in range(out.size):
            v = from_bits32(bits32(run[j]) & unsigned)
            rank = _u32(_u32(v >= t0) + _u32(v >= t1) + _u32(v >= t2) + _u32(v >= t3) + _u32(v >= t4))
            rank = _u32(rank + _u32(v >= t5) + _u32(v >= t6) + _u32(v >= t7) + _u32(v >= t8) + _u32(v >= t9))
            rank = _u32(rank + _u32(v >= t10) + _u32(v >= t11) + _u32(v >= t12) + _u32(v >= t13) + _u32(v >= t14))
            word = high if rank >= _u32(8) else low
            code = _u32(shift_right(word, _u32(_u32(rank & _u32(7)) << _u32(2))) & _u32(15))
            out[j] = _u32(code | _u32(shift_right(bits32(run[j]), sign_shift) & sign_mask))


@njit(cache=True)
def table_rank(magnitude, step, borders, ties):
    """Return the rank of a value among borders scaled by a step: products are exact, so the comparison is."""
    low, high = 0, borders.size
    while low < high:
        middle = (low + high) // 2
        border = borders[middle] * step
        reached = magnitude > border or (magnitude == border and (ties == 1 or (ties == 2 and middle % 2 == 1)))
        low, high = (middle + 1, high) if reached else (low, middle)
    return low


@njit(cache=True)
def any_code(value, index, step, zero, element, borders, order):
    """Return the code of one value, by any rule."""
    bits = np.int64(bits32(value))
    negative, magnitude_bits = bits >> 31 == 1, bits & 0x7FFFFFFF
    sign = np.int64(negative) << (element.bits - 1)
    if magnitude_bits > INFINITY:
        return element.nan_code | (sign if element.nan_signed else 0)
    if magnitude_bits == INFINITY and not element.saturate:
        return overflow_code(sign, element)
    magnitude = np.float64(abs(value))
    random = random_bits(element.seed, index) if element.mode == STOCHASTIC else 0
    if element.kind == TABLE:
        if element.symmetric:
            return np.int64(order[table_rank(magnitude, step, borders, element.ties)]) | sign
        return np.int64(order[table_rank(-magnitude if negative else magnitude, step, borders, element.ties)])
    quotient = magnitude / step if step > 0 else 0.0
    if element.kind == INT:
        steps = round_steps(
            min(quotient * power_of_two(element.frac_bits), 1048576.0), negative, element.mode, random, 0
        )
        level = np.int64(-steps if negative else steps) + zero
        return min(max(level, element.low), element.high) & ((1 << element.bits) - 1)
    mode = element.mode
    # a quotient beyond twice the largest value rounds as that does; this keeps the integer code small
    quotient = min(quotient, 4.0 * element.max_value) if magnitude_bits < INFINITY else element.max_value
    if quotient < element.smallest:  # the quotient need not be exact: only its place between 0, a half and 1 counts
        code = np.int64(round_steps(quotient / element.smallest, negative, mode, random, 0))
    else:
        code = rounded_code(quotient, negative, element.man_bits, element.bias, element.subnormals, mode, random)
        code = max(code, 0)  # where there is no zero, the smallest value takes its place
    if code > element.max_code:
        toward_zero = mode == 1 or mode == 7 or (mode == 2 and negative) or (mode == 3 and not negative)
        if element.saturate or toward_zero:
            code = element.max_code
        else:
            return overflow_code(sign, element)
    if not element.signed or (code == 0 and not element.negative_zero):
        sign = 0
    return code | sign


@njit(cache=True)
def overflow_code(sign, element):
    """Return the code of an overflow that does not saturate: Inf, or else NaN."""
    if element.inf_code >= 0:
        return element.inf_code | (sign if element.signed else 0)
    return element.nan_code | (sign if element.nan_signed else 0)


@njit(cache=True)
def any_blocks(x, first, block, steps, zeros, done, element, borders, order, zero_rank, codes):
    """Encode, by any rule and element by element, the blocks that are not done; `first` is the index of x[0]."""
    for i in range(steps.size):
        if done[i]:
            continue
        for j in range(i * block, (i + 1) * block):
            if steps[i] > 0:
                codes[j] = any_code(x[j], first + j, steps[i], np.int64(zeros[i]), element, borders, order)
            else:
                codes[j] = zero_code(x[j], np.int64(zeros[i]), element, order, zero_rank)


@njit(cache=True)
def zero_code(value, zero, element, order, zero_rank):
    """Return the code of a zero of the sign of a value, as where the step is 0."""
    if element.kind == INT:
        return min(max(zero, element.low), element.high) & ((1 << element.bits) - 1)
    sign = np.int64(bits32(value) >> _u32(31)) << (element.bits - 1)
    if element.kind == TABLE:
        return np.int64(order[zero_rank]) | (sign if element.symmetric else 0)
    return sign if element.negative_zero else 0


@njit(cache=True)
def block_tops(x, block, scratch, tops):
    """Raise `tops` to the bits of the largest magnitude of each block of a run.

    Short blocks are folded in halves, all at once, which keeps the vector units full.
    """
    if block > 64 or block & (block - 1) or block < 4:
        for i in range(tops.size):
            here = top_bits(x[i * block : (i + 1) * block])
            tops[i] = here if here > tops[i] else tops[i]
        return
    width = x.size // 2
    for j in range(width):
        low, high = magnitude_bits(x[2 * j]), magnitude_bits(x[2 * j + 1])
        scratch[j] = low if low > high else high
    while width > tops.size:
        width //= 2
        for j in range(width):
            low, high = scratch[2 * j], scratch[2 * j + 1]
            scratch[j] = low if low > high else high
    for i in range(tops.size):
        tops[i] = scratch[i] if scratch[i] > tops[i] else tops[i]


@njit(cache=True)
def power_scales(tops, scale, codes, steps, quick):
    """Find the scale codes, the steps and their float32 reciprocals by a rule of powers of two.

    Every such rule is the exponent of amax less `emax`, plus one where the mantissa reaches `carry`. The reciprocal is
    0 where it or the products might leave float32's normal range.
    """
    zero_code = -126 - scale.emax if scale.zero_block == 2 else (0 if scale.zero_block == 1 else -scale.bias)
    zero_code = min(max(zero_code + scale.bias, 0), scale.max_code)
    factor = np.float32(scale.factor)
    for i in range(tops.size):
        bits = bits64(np.float64(from_bits32(tops[i]) * factor))
        carried = np.int64((bits & 0xFFFFFFFFFFFFF) >= scale.carry)
        code = (bits >> 52) - 1023 + carried - scale.emax + scale.bias
        code = code if code < scale.max_code else scale.max_code
        code = code if code > 0 else 0
        code = code if tops[i] > _u32(0) else zero_code
        exponent = code - scale.bias
        codes[i], steps[i] = code, power_of_two(exponent)
        quick[i] = from_bits32((127 - exponent) << 23) if exponent >= -100 and exponent <= 100 else np.float32(0)


@njit(cache=True)
def float_scales(spreads, divisor, scale, codes, steps, outer):
    """Find the scale codes and the steps of blocks by rules amax and range, in a float format with subnormals.

    The same roundings as `float64_run`, but of exact quotients.
    """
    one, shift = np.int64(1), np.int64(52 - scale.man_bits)
    half = (one << (shift - 1)) - 1
    rebias = np.int64(1023 - scale.bias) << scale.man_bits
    magic_bits = np.int64(1023 + 1 - scale.bias - scale.man_bits + 52) << 52
    magic = np.int64(magic_bits).view(np.float64)
    normal = power_of_two(1 - scale.bias)
    limit, floor = float_value(scale.max_code, scale.man_bits, scale.bias), scale.floor
    of_zeros = 1.0 if scale.zero_block == 1 else 0.0
    for i in range(spreads.size):
        value = spreads[i] / divisor if spreads[i] > 0 else of_zeros
        value = value if value < limit else limit
        value = value if value > floor else floor
        bits = bits64(value)
        above = (bits + half + ((bits >> shift) & one)) >> shift
        low = value + magic
        small = value < normal
        codes[i] = bits64(low) - magic_bits if small else above - rebias
        steps[i] = (low - magic if small else np.int64(above << shift).view(np.float64)) * outer


@njit(cache=True)
def int_scales(spreads, divisor, scale, codes, steps, outer):
    """Find the scale codes and the steps of blocks by rules amax and range, in an integer format."""
    for i in range(spreads.size):
        value = spreads[i] / divisor if spreads[i] > 0 else (1.0 if scale.zero_block == 1 else 0.0)
        value = min(max(np.rint(value), scale.floor), np.float64(scale.max_code))
        codes[i], steps[i] = np.int64(value), value * outer


@njit(cache=True)
def ordered(bits):
    """Map the bits of a float32 to an int32 of the same order, and back."""
    return np.int32(np.int32(bits) ^ np.int32(np.int32(np.int32(bits) >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@njit(cache=True)
def block_ranges(x, block, lows, highs):
    """Widen `lows` and `highs` by the least and the largest value of each block of a run."""
    for i in range(lows.size):
        run = x[i * block : (i + 1) * block]
        low, high = np.int32(0), np.int32(0)  # compared as integers, which vectorises
        for j in range(run.size):
            value = ordered(np.float32(run[j]).view(np.int32))
            low = value if value < low else low
            high = value if value > high else high
        least, most = np.int32(ordered(low)).view(np.float32), np.int32(ordered(high)).view(np.float32)
        lows[i] = min(lows[i], np.float64(least))
        highs[i] = max(highs[i], np.float64(most))


@njit(cache=True)
def zero_points(lows, steps, element, zeros):
    """Store the zero point of each block: the integer nearest to ``-min / step``, clamped to the element's range."""
    for i in range(zeros.size):
        if steps[i] > 0:
            zeros[i] = min(max(np.rint(-lows[i] / steps[i]), np.float64(element.low)), np.float64(element.high))
        else:
            zeros[i] = 0.0


@njit(cache=True)
def reciprocals(tops, steps, codes, element, scale, outer, quick, inverses, done):
    """Set what the vector loops multiply by, 0 for the blocks they leave out, and mark in `done` those they serve."""
    special = False
    for i in range(steps.size):
        special = special or tops[i] >= _u32(INFINITY)
    if scale.rule >= AMAX or element.kind == TABLE:  # powers of two have theirs in `quick`
        for i in range(steps.size):
            inverses[i] = 1.0 / steps[i] if steps[i] > 0 else 0.0
    if special:
        for i in range(steps.size):
            if tops[i] >= _u32(INFINITY):
                if scale.rule != NONE:
                    codes[i], steps[i] = scale.nan_code, 0.0
                quick[i], inverses[i] = np.float32(0), 0.0
    if not scale.exact_quotient:
        inverse = np.float32(1.0) / np.float32(outer)
        for i in range(steps.size):
            value = inverse / np.float32(scale_worth(codes[i], scale)) if inverses[i] > 0 else np.float32(0)
            quick[i] = value if value < np.float32(np.inf) else np.float32(0)
    by_float32 = element.kind != TABLE and (scale.rule < AMAX or not scale.exact_quotient)
    # products must stay normal where codes are told apart; what is smaller has the code of a zero either way
    safe = element.kind == INT or scale.rule == NONE or 1 - element.bias - element.man_bits > -25
    if not by_float32 and element.kind != TABLE:
        for i in range(steps.size):
            near = safe and inverses[i] > 2.0**-100 and inverses[i] < 2.0**100
            quick[i] = np.float32(inverses[i]) if near else np.float32(0)
    for i in range(steps.size):
        served = (quick[i] > 0 and safe) if by_float32 else inverses[i] > 0
        done[i] = served and element.fast == 1


@njit(cache=True)
def encode_piece(x, block, steps, inverses, quick, zeros, done, element, scale, borders, order, guide, codes):
    """Encode the blocks of a piece that a vector loop serves; the others lose their mark in `done`."""
    power = scale.rule < AMAX or not scale.exact_quotient
    if not element.fast:
        return
    if element.kind == TABLE:
        if guide.half > 1:
            guided_blocks(x, block, steps, guide, element.symmetric == 1, element.bits, order, done, codes)
        elif element.symmetric and borders.size <= 7:
            table7_blocks(x, block, steps, borders, order, element, codes)
        else:
            table15_blocks(x, block, steps, borders, order, element, codes)
    elif element.kind == FLOAT and power:
        float32_blocks(x, block, quick, element, codes)
    elif power and element.kind == INT:
        int32_blocks(x, block, quick, element, codes)
    else:
        quotient_blocks(x, block, quick, inverses, zeros, element, codes)


@njit(cache=True, parallel=True)
def encode_blocks(
    x, block_rows, block, element, scale, outer, borders, order, zero_rank, guide, propagate, codes, scales, zeros, bad
):
    """Encode float32 [rows, k] into codes [rows, k], bytes of scale codes [groups, blocks, bytes] and zero points.

    `outer` is the second-level scale, float64 [1] for the tensor or [rows]. `bad` uint8 [groups] tells of a group of
    rows that holds NaN or Inf (1), or a block of zeros that the format refuses (2).
    """
    groups, blocks = x.shape[0] // block_rows, x.shape[1] // block
    at_a_time = max(1, CHUNK // (block * block_rows))
    pieces = -(-blocks // at_a_time)
    for piece in prange(groups * pieces):
        group, index = piece // pieces, (piece % pieces) * at_a_time
        count = min(at_a_time, blocks - index)
        start, first_row = index * block, group * block_rows
        second = outer[first_row if outer.size > 1 else 0]
        # one allocation each: a thread takes thousands of pieces
        scratch = np.empty(count + (count * block // 2 if block <= 64 else 0), np.uint32)
        tops, folds = scratch[:count], scratch[count:]
        work = np.zeros((6, count))
        steps, inverses, offsets, spreads, lows = work[0], work[1], work[2], work[3], work[4]
        scale_codes = work[5].view(np.int64)
        marks = np.zeros(5 * count, np.uint8)
        quick, done = marks[: 4 * count].view(np.float32), marks[4 * count :]
        tops[:] = 0
        # 1. largest magnitudes; NaN and Inf lie above all others
        for row in range(first_row, first_row + block_rows):
            block_tops(x[row, start : start + count * block], block, folds, tops)
        if not propagate and tops.max() >= _u32(INFINITY):
            bad[group] = 1
            continue
        if scale.zero_block == 3 and tops.min() == _u32(0):
            bad[group] = 2
        # 2. scales and zero points
        if scale.rule == NONE:
            steps[:], quick[:] = 1.0, np.float32(1)
        elif scale.rule < AMAX:
            power_scales(tops, scale, scale_codes, steps, quick)
        else:
            if scale.rule == RANGE:
                for row in range(first_row, first_row + block_rows):
                    block_ranges(x[row, start : start + count * block], block, lows, spreads)
                for i in range(count):
                    spreads[i] -= lows[i]
            else:
                for i in range(count):
                    spreads[i] = np.float64(from_bits32(tops[i]))
            if scale.kind == FLOAT:
                float_scales(spreads, scale.level * second, scale, scale_codes, steps, second)
            else:
                int_scales(spreads, scale.level * second, scale, scale_codes, steps, second)
            if scale.rule == RANGE:
                zero_points(lows, steps, element, offsets)
                for i in range(count):
                    zeros[group, index + i] = np.uint8(offsets[i])
        reciprocals(tops, steps, scale_codes, element, scale, second, quick, inverses, done)
        for byte in range(scale.bytes):
            for i in range(count):
                scales[group, index + i, byte] = np.uint8((scale_codes[i] >> (8 * byte)) & 0xFF)
        # 3. elements
        for row in range(first_row, first_row + block_rows):
            run, out = x[row, start : start + count * block], codes[row, start : start + count * block]
            encode_piece(run, block, steps, inverses, quick, offsets, done, element, scale, borders, order, guide, out)
            if not done.all():
                any_blocks(
                    run, row * x.shape[1] + start, block, steps, offsets, done, element, borders, order, zero_rank, out
                )


@njit(cache=True)
def lookup_blocks(codes, table, steps, zeros, block, out):
    """Decode blocks of few codes: the table is scaled once a block, then looked up."""
    scaled = np.empty(16, np.float32)
    for i in range(steps.size):
        for code in range(table.size):
            scaled[code] = np.float32((table[code] - zeros[i]) * steps[i])
        run, values = codes[i * block : (i + 1) * block], out[i * block : (i + 1) * block]
        for j in range(values.size):
            values[j] = scaled[run[j] & 15]


@njit(cache=True)
def product_blocks(codes, table, steps, zeros, block, out):
    """Decode blocks by looking each code up and multiplying it; no code reaches beyond the table."""
    last = table.size - 1
    for i in range(steps.size):
        step, zero = steps[i], zeros[i]
        run, values = codes[i * block : (i + 1) * block], out[i * block : (i + 1) * block]
        for j in range(values.size):
            values[j] = np.float32((table[run[j] & last] - zero) * step)


@njit(cache=True, parallel=True)
def decode_blocks(codes, table, scale_table, scales, zeros, block_rows, block, outer, out):
    """Decode to float32: the product is exact in float64 and rounded once.

    `table` holds each code's value; `scales` are codes of `scale_table`, or float32 values where that is empty; no
    `scales` at all means 1.
    """
    groups, blocks = codes.shape[0] // block_rows, codes.shape[1] // block
    at_a_time = max(1, CHUNK // (block * block_rows))
    pieces = -(-blocks // at_a_time)
    for piece in prange(groups * pieces):
        group, index = piece // pieces, (piece % pieces) * at_a_time
        count = min(at_a_time, blocks - index)
        start, first_row = index * block, group * block_rows
        second = outer[first_row if outer.size > 1 else 0]
        steps, offsets = np.empty(count), np.zeros(count)
        for i in range(count):
            if scales.size == 0:
                steps[i] = 1.0
            elif scale_table.size:
                steps[i] = scale_table[np.int64(scales[group, index + i])] * second
            else:
                steps[i] = np.float64(from_bits32(scales[group, index + i])) * second
            if zeros.size:
                offsets[i] = np.float64(zeros[group, index + i])
        for row in range(first_row, first_row + block_rows):
            run, values = codes[row, start : start + count * block], out[row, start : start + count * block]
            if table.size <= 16 and block > 32:
                lookup_blocks(run, table, steps, offsets, block, values)
            else:
                product_blocks(run, table, steps, offsets, block, values)

# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of `_dot` for elements with NaN and Inf, wide sums, and every accumulator but the default one.

Values are float64, in which products of elements and scales are exact, and so are aligned terms and sums of at most 53
bits. NaN and Inf then follow IEEE 754 by themselves. A raw result that float64 cannot hold is rounded to odd first,
after which `round_to` rounds it as it would the exact one. `rule` is (precision, exponent of the subnormals' last
place, largest value, mode, overflow always infinite), as numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hwsim.pe._kernels import bits_of, fma, scale_result
from hwsim.pe.accumulator import ZERO_EXPONENT

CHUNK = 64
"""Outputs of one row a task, of kernels that take one output at a time."""
NO_EXPONENT = -(1 << 20)
"""Exponent of zero codes in tables: any sum with it stays below `ZEROS`."""
ZEROS = -(1 << 18)
EXACT, ALIGNED, SEQUENTIAL = 0, 1, 2
RNE, RTZ, RDN, ROD = 0, 1, 2, 3
MODES = {"rne": RNE, "rtz": RTZ, "rdn": RDN, "rod": ROD}
FLOAT32_RULE = (24, -149, float(np.finfo(np.float32).max), RNE, False)
_MANTISSA = (1 << 52) - 1


@intrinsic
def truncated(typing_context: Any, x: Any) -> Any:
    """Return x rounded toward zero to an integer (the processor's instruction where it has one)."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.trunc", [ir.DoubleType()]), arguments)

    assert x == types.float64
    return types.float64(x), emit


@intrinsic
def of_bits(typing_context: Any, x: Any) -> Any:
    """Return the float64 of bits given as int64."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    assert x == types.int64
    return types.float64(x), emit


@njit(cache=True, inline="always")
def pow2(exponent: int) -> float:
    """Return 2**exponent, within the normal range."""
    return of_bits(np.int64(exponent + 1023) << np.int64(52))


@njit(cache=True)
def round_to(x: float, rule: tuple) -> float:
    """Return a finite float64 that is not zero, rounded to the format; its sign is kept when it becomes zero."""
    precision, lowest, top, mode, infinite = rule
    bits = bits_of(x)
    exponent = (bits >> 52) & 0x7FF
    significand = (bits & _MANTISSA) | (_MANTISSA + 1)
    quantum = max(exponent - 1022 - precision, lowest)
    shift = quantum - (exponent - 1075)
    negative = bits < 0
    size = abs(x)
    if shift > 0:
        if shift > 54:  # all of it lies below half a quantum
            kept, rest, half = np.int64(0), np.int64(1), np.int64(2)
        else:
            kept = significand >> shift
            rest = significand & ((np.int64(1) << shift) - 1)
            half = np.int64(1) << (shift - 1)
        if mode == RNE:
            kept += rest > half or (rest == half and kept & 1 == 1)
        elif mode == RDN:
            kept += negative and rest != 0
        elif mode == ROD:
            kept |= rest != 0
        size = np.float64(kept) * pow2(quantum)
    if size > top:
        largest = mode in (RTZ, ROD) or (mode == RDN and not negative)
        size = top if largest and not infinite else np.inf
    return -size if negative else size


@njit(cache=True)
def to_odd(total: float, lost: float) -> float:
    """Return total with an odd last bit when something was lost (nearest float64 before), else as it is."""
    bits = bits_of(total)
    if lost != 0.0 and bits & 1 == 0:
        # towards the lost part: away from zero when it has the sign of the sum
        bits += 1 if (lost > 0.0) == (total > 0.0) else -1
    return of_bits(bits)


@njit(cache=True)
def add_once(running: float, addend: float, rule: tuple) -> float:
    """Return running + addend with one rounding; an exact zero is +0, NaN and Inf as IEEE 754 has them."""
    return settled(sum_to_odd(running, addend), rule)


@njit(cache=True)
def sum_to_odd(running: float, addend: float) -> float:
    """Return running + addend, rounded to odd where it is finite; an exact zero is +0."""
    total = running + addend
    if not np.isfinite(total) or total == 0.0:
        return total + 0.0
    part = total - running
    lost = (running - (total - part)) + (addend - part)
    return to_odd(total, lost)


@njit(cache=True)
def settled(raw: float, rule: tuple) -> float:
    """Return a step's raw result, exact or rounded to odd, in the format; NaN, Inf and zero as they are."""
    return round_to(raw, rule) if np.isfinite(raw) and raw != 0.0 else raw


@njit(cache=True)
def add_all(terms: NDArray[np.float64], count: int, parts: NDArray[np.float64]) -> float:
    """Return the sum of finite terms, rounded to odd; an exact zero is +0.

    The terms grow an expansion, whose parts do not overlap (J. R. Shewchuk, Adaptive precision floating-point
    arithmetic, 1997); its largest part, made odd where there are others, stands for the sum.
    """
    length = 0
    for index in range(count):
        carry, kept = terms[index], 0
        for place in range(length):
            part = parts[place]
            total = carry + part
            back = total - carry
            lost = (carry - (total - back)) + (part - back)
            carry = total
            if lost != 0.0:
                parts[kept] = lost
                kept += 1
        if carry != 0.0:
            parts[kept] = carry
            kept += 1
        length = kept
    if length == 0:
        return 0.0
    top, lost = parts[length - 1], 0.0
    for place in range(length - 2, -1, -1):
        part = parts[place]
        total = top + part
        lost = part - (total - top)
        top = total
        if lost != 0.0:
            break  # what follows is smaller than the last bit of this
    return to_odd(top, lost)


@njit(cache=True)
def exponent_of(x: float, rule: tuple) -> int:
    """Return the exponent of a number of the accumulator's format in an alignment."""
    if x == 0.0 or not np.isfinite(x):
        return ZERO_EXPONENT
    return max(((bits_of(x) >> 52) & 0x7FF) - 1023, rule[1] + rule[0] - 1)


@njit(cache=True)
def aligned_to_odd(total: float, quantum: int, running: float, inside: bool) -> float:
    """Return the raw result of a step: an aligned sum, in units of 2**quantum, with the accumulator or to add to it."""
    if not np.isfinite(total):
        return total if inside else running + total
    value = total * pow2(quantum) + 0.0
    return value if inside else sum_to_odd(running, value)


@njit(cache=True)
def block_sum(
    a: NDArray[np.uint16], b: NDArray[np.uint16], i: int, j: int, start: int, block: int, a_table: NDArray[np.float64],
    b_table: NDArray[np.float64], sums: NDArray[np.float64],
) -> None:  # fmt: skip
    """Put the exact sum of a block's products into sums[0] + sums[1] + sums[2].

    sums[0] is the sum in float64, sums[1] that of its errors, sums[2] that of the errors of those: of a sum of at most
    128 bits the first loses at most 75, the second 31 bits of 106, and the third loses nothing.
    """
    high = middle = low = 0.0
    for k in range(start, start + block):
        product = a_table[a[i, k]] * b_table[b[j, k]]
        total = high + product
        back = total - high
        lost = (high - (total - back)) + (product - back)
        high = total
        total = middle + lost
        back = total - middle
        low += (middle - (total - back)) + (lost - back)
        middle = total
    sums[0], sums[1], sums[2] = high, middle, low


@njit(cache=True)
def add_block(
    running: float, sums: NDArray[np.float64], scale: float, terms: NDArray[np.float64], parts: NDArray[np.float64],
) -> float:  # fmt: skip
    """Return running + (sums[0] + sums[1] + sums[2]) * scale, rounded to odd where it is finite."""
    whole = running + sums[0] * scale
    if not np.isfinite(whole):
        return whole
    terms[0], count = running, 1
    for index in range(3):
        if sums[index] != 0.0 and scale != 0.0:
            product = sums[index] * scale
            terms[count] = product
            terms[count + 1] = fma(sums[index], scale, -product)
            count += 2
    return add_all(terms, count, parts)


@njit(cache=True)
def aligned_products(
    a: NDArray[np.uint16], b: NDArray[np.uint16], i: int, j: int, start: int, group: int, block: int,
    a_table: NDArray[np.float64], b_table: NDArray[np.float64], a_exponents: NDArray[np.int32],
    b_exponents: NDArray[np.int32], a_scales: NDArray[np.float64], b_scales: NDArray[np.float64],
    a_scale_exponents: NDArray[np.int32], b_scale_exponents: NDArray[np.int32], fraction_bits: int, inside: bool,
    running: float, rule: tuple,
) -> tuple:  # fmt: skip
    """Return the raw result after one group of products, and whether a term lost bits."""
    top = exponent_of(running, rule) if inside else NO_EXPONENT
    for k in range(start, start + group):
        index = k // block
        exponent = a_exponents[a[i, k]] + b_exponents[b[j, k]]
        exponent += a_scale_exponents[i, index] + b_scale_exponents[j, index]
        top = max(top, exponent if exponent > ZEROS else ZERO_EXPONENT)
    factor, total, lost = pow2(fraction_bits - top), 0.0, False
    for k in range(start, start + group):
        index = k // block
        value = a_table[a[i, k]] * b_table[b[j, k]] * (a_scales[i, index] * b_scales[j, index]) * factor
        kept = truncated(value)
        total += kept
        lost |= kept != value
    if inside:
        kept = truncated(running * factor)
        total += kept
        lost |= kept != running * factor
    return aligned_to_odd(total, top - fraction_bits, running, inside), lost


@njit(cache=True)
def aligned_blocks(
    a: NDArray[np.uint16], b: NDArray[np.uint16], i: int, j: int, start: int, group: int, block: int,
    a_table: NDArray[np.float64], b_table: NDArray[np.float64], a_scales: NDArray[np.float64],
    b_scales: NDArray[np.float64], a_scale_exponents: NDArray[np.int32], b_scale_exponents: NDArray[np.int32],
    fraction_bits: int, inside: bool, running: float, terms: NDArray[np.float64], rule: tuple,
) -> tuple:  # fmt: skip
    """Return the raw result after one group of exact block sums under their scales, and whether a term lost bits."""
    top = exponent_of(running, rule) if inside else NO_EXPONENT
    for first in range(start, start + group, block):
        index, total = first // block, 0.0
        for k in range(first, first + block):
            total += a_table[a[i, k]] * b_table[b[j, k]]
        value = total * (a_scales[i, index] * b_scales[j, index])
        exponent = a_scale_exponents[i, index] + b_scale_exponents[j, index]
        top = max(top, exponent if value != 0.0 and exponent > ZEROS else ZERO_EXPONENT)
        terms[(first - start) // block] = value
    factor, total, lost = pow2(fraction_bits - top), 0.0, False
    for place in range(group // block):
        kept = truncated(terms[place] * factor)
        total += kept
        lost |= kept != terms[place] * factor
    if inside:
        kept = truncated(running * factor)
        total += kept
        lost |= kept != running * factor
    return aligned_to_odd(total, top - fraction_bits, running, inside), lost


@njit(cache=True, parallel=True)
def dots(
    kind: int, by_product: bool, a: NDArray[np.uint16], b: NDArray[np.uint16], a_table: NDArray[np.float64],
    b_table: NDArray[np.float64], a_exponents: NDArray[np.int32], b_exponents: NDArray[np.int32],
    a_scales: NDArray[np.float64], b_scales: NDArray[np.float64], a_scale_exponents: NDArray[np.int32],
    b_scale_exponents: NDArray[np.int32], block: int, group: int, fraction_bits: int, inside: bool, promote: int,
    rule: tuple, paired: bool, a_out: NDArray[np.float32], b_out: NDArray[np.float32], out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fill `out` [M, N] with dot products of any kind, one output at a time; [M, 1] when rows are paired.

    `promote` counts products between promotions into FP32, 0 for none; `group` the products of a step. `by_product`
    tells whether scales enter with products, of kinds that have the choice.
    """
    products, columns = a.shape[1], out.shape[1]
    chunks = -(-columns // CHUNK)
    for task in prange(out.shape[0] * chunks):
        i = task // chunks
        sums, terms, parts = np.empty(3), np.empty(256), np.empty(16)
        for n in range(task % chunks * CHUNK, min((task % chunks + 1) * CHUNK, columns)):
            j = i if paired else n
            running = kept = 0.0
            for start in range(0, products, group):
                index = start // block
                if kind == EXACT:
                    block_sum(a, b, i, j, start, block, a_table, b_table, sums)
                    scale = a_scales[i, index] * b_scales[j, index]
                    running = settled(add_block(running, sums, scale, terms, parts), rule)
                elif kind == SEQUENTIAL and not by_product:
                    part = 0.0
                    for k in range(start, start + block):
                        part = add_once(part, a_table[a[i, k]] * b_table[b[j, k]] + 0.0, rule)
                    running = add_once(running, part * (a_scales[i, index] * b_scales[j, index]) + 0.0, rule)
                elif kind == SEQUENTIAL:
                    scale = a_scales[i, index] * b_scales[j, index]
                    running = add_once(running, a_table[a[i, start]] * b_table[b[j, start]] * scale + 0.0, rule)
                elif by_product:
                    raw, _ = aligned_products(
                        a, b, i, j, start, group, block, a_table, b_table, a_exponents, b_exponents, a_scales, b_scales,
                        a_scale_exponents, b_scale_exponents, fraction_bits, inside, running, rule,
                    )  # fmt: skip
                    running = settled(raw, rule)
                else:
                    raw, _ = aligned_blocks(
                        a, b, i, j, start, group, block, a_table, b_table, a_scales, b_scales, a_scale_exponents,
                        b_scale_exponents, fraction_bits, inside, running, terms, rule,
                    )  # fmt: skip
                    running = settled(raw, rule)
                end = start + group
                if promote > 0 and (end % promote == 0 or end == products):
                    kept, running = add_once(kept, running + 0.0, FLOAT32_RULE), 0.0
            out[i, n] = scale_result(np.float32(kept if promote > 0 else running), a_out[i], b_out[j])

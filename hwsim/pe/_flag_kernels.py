# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernel of `_dot_gemm.dots` for results with the IEEE flags raised in them: the steps of `_accumulate_kernels`.

Rounding raises flags by what the raw result, exact or rounded to odd, becomes. Invalid operations are looked for only
where a raw result is not finite: NaN and Inf among a step's terms make it so.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from hwsim.pe._accumulate_kernels import (
    ALIGNED,
    CHUNK,
    EXACT,
    FLOAT32_RULE,
    SEQUENTIAL,
    add_block,
    aligned_blocks,
    aligned_products,
    block_sum,
    pow2,
    round_to,
    settled,
    sum_to_odd,
)
from hwsim.pe._kernels import bits_of
from hwsim.pe.rounding import INEXACT as _INEXACT
from hwsim.pe.rounding import INVALID as _INVALID
from hwsim.pe.rounding import OVERFLOW as _OVERFLOW
from hwsim.pe.rounding import UNDERFLOW as _UNDERFLOW

_FREE = -900
"""Last place of subnormals in a format that has as good as none; no raw result is smaller."""


@njit(cache=True)
def rounded(raw: float, rule: tuple) -> tuple:
    """Return a raw result in the format, and the flags that its rounding raises."""
    precision, lowest, top, mode, infinite = rule
    result = settled(raw, rule)
    if not np.isfinite(raw) or raw == 0.0:
        return result, 0
    # what exceeds the largest value by less than its last place is still rounded to it where rounding cuts off
    limit = 2.0 * pow2(((bits_of(top) >> 52) & 0x7FF) - 1023)
    if np.isinf(result) or abs(raw) >= limit:
        return result, _OVERFLOW | _INEXACT
    if result == raw:
        return result, 0
    normal = pow2(lowest + precision - 1)
    if abs(raw) < normal and abs(round_to(raw, (precision, _FREE, top, mode, infinite))) < normal:
        return result, _UNDERFLOW | _INEXACT
    return result, _INEXACT


@njit(cache=True)
def _product_flags(x: float, y: float) -> int:
    """Return the flags of a product by its class: Inf times zero is invalid."""
    product = x * y
    return _INVALID if product != product and x == x and y == y else 0


@njit(cache=True)
def _sum_flags(x: float, y: float) -> int:
    """Return the flags of a sum by its class: infinities of both signs are invalid."""
    return _INVALID if np.isinf(x) and np.isinf(y) and x != y else 0


@njit(cache=True)
def _classes(
    a: NDArray[np.uint16], b: NDArray[np.uint16], i: int, j: int, start: int, stop: int, size: int, block: int,
    a_table: NDArray[np.float64], b_table: NDArray[np.float64], a_scales: NDArray[np.float64],
    b_scales: NDArray[np.float64], running: float,
) -> int:  # fmt: skip
    """Return the flags of a step's terms, each the sum of `size` products under its scales, and of their sum.

    A sum with a NaN among its terms raises nothing.
    """
    flags = 0
    nan, plus, minus = running != running, running == np.inf, running == -np.inf
    for first in range(start, stop, size):
        own_nan, own_plus, own_minus = False, False, False
        for k in range(first, first + size):
            x, y = a_table[a[i, k]], b_table[b[j, k]]
            product = x * y
            flags |= _product_flags(x, y)
            own_nan |= product != product
            own_plus |= product == np.inf
            own_minus |= product == -np.inf
        if own_plus and own_minus:
            flags |= 0 if own_nan else _INVALID
            own_nan = True
        total = np.nan if own_nan else np.inf if own_plus else -np.inf if own_minus else 0.0
        scale = a_scales[i, first // block] * b_scales[j, first // block]
        flags |= _product_flags(total, scale)
        total *= scale
        nan |= total != total
        plus |= total == np.inf
        minus |= total == -np.inf
    return flags | (_INVALID if plus and minus and not nan else 0)


@njit(cache=True)
def _one_by_one(
    a: NDArray[np.uint16], b: NDArray[np.uint16], i: int, j: int, start: int, block: int,
    a_table: NDArray[np.float64], b_table: NDArray[np.float64], rule: tuple,
) -> tuple:  # fmt: skip
    """Return the rounded sum of a block's products, one after the other, and the flags raised in it."""
    part, flags = 0.0, 0
    for k in range(start, start + block):
        x, y = a_table[a[i, k]], b_table[b[j, k]]
        product = x * y + 0.0
        flags |= _product_flags(x, y) | _sum_flags(part, product)
        part, raised = rounded(sum_to_odd(part, product), rule)
        flags |= raised
    return part, flags


@njit(cache=True)
def _result(x: float, a_out: float, b_out: float) -> tuple:
    """Return a result times its output scales, and the flags raised."""
    flags = 0
    for scale in (a_out, b_out):
        raw = x * scale
        flags |= _product_flags(x, scale)
        x, raised = rounded(raw, FLOAT32_RULE)
        flags |= raised
    return x, flags


@njit(cache=True, parallel=True)
def dots(
    kind: int, by_product: bool, a: NDArray[np.uint16], b: NDArray[np.uint16], a_table: NDArray[np.float64],
    b_table: NDArray[np.float64], a_exponents: NDArray[np.int32], b_exponents: NDArray[np.int32],
    a_scales: NDArray[np.float64], b_scales: NDArray[np.float64], a_scale_exponents: NDArray[np.int32],
    b_scale_exponents: NDArray[np.int32], block: int, group: int, fraction_bits: int, inside: bool, promote: int,
    rule: tuple, a_out: NDArray[np.float32], b_out: NDArray[np.float32], out: NDArray[np.float32],
    flags: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Fill `out` and `flags` [rows] with the dot products of row i of A and row i of B, else as that of the other."""
    rows, products = a.shape
    size = 1 if by_product else block
    for task in prange(-(-rows // CHUNK)):
        sums, terms, parts = np.empty(3), np.empty(256), np.empty(16)
        for i in range(task * CHUNK, min((task + 1) * CHUNK, rows)):
            running = kept = 0.0
            told = 0
            for start in range(0, products, group):
                index, lost, before = start // block, False, running
                scale = a_scales[i, index] * b_scales[i, index]
                if kind == EXACT:
                    block_sum(a, b, i, i, start, block, a_table, b_table, sums)
                    raw = add_block(running, sums, scale, terms, parts)
                elif kind == ALIGNED and by_product:
                    raw, lost = aligned_products(
                        a, b, i, i, start, group, block, a_table, b_table, a_exponents, b_exponents, a_scales, b_scales,
                        a_scale_exponents, b_scale_exponents, fraction_bits, inside, running, rule,
                    )  # fmt: skip
                elif kind == ALIGNED:
                    raw, lost = aligned_blocks(
                        a, b, i, i, start, group, block, a_table, b_table, a_scales, b_scales, a_scale_exponents,
                        b_scale_exponents, fraction_bits, inside, running, terms, rule,
                    )  # fmt: skip
                elif by_product:
                    raw = sum_to_odd(running, a_table[a[i, start]] * b_table[b[i, start]] * scale + 0.0)
                else:
                    part, raised = _one_by_one(a, b, i, i, start, block, a_table, b_table, rule)
                    told |= raised | _product_flags(part, scale) | _sum_flags(running, part * scale)
                    raw = sum_to_odd(running, part * scale + 0.0)
                running, raised = rounded(raw, rule)
                told |= raised
                if np.isfinite(raw):
                    told |= _INEXACT if lost else 0
                elif by_product or kind != SEQUENTIAL:
                    told |= _classes(
                        a, b, i, i, start, start + group, size, block, a_table, b_table, a_scales, b_scales, before
                    )
                end = start + group
                if promote > 0 and (end % promote == 0 or end == products):
                    told |= _sum_flags(kept, running)
                    kept, raised = rounded(sum_to_odd(kept, running + 0.0), FLOAT32_RULE)
                    told |= raised
                    running = 0.0
            result, raised = _result(kept if promote > 0 else running, np.float64(a_out[i]), np.float64(b_out[i]))
            out[i] = result if result == result else np.nan
            flags[i] = told | raised

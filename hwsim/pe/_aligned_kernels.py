# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernel of `_dot_gemm` for accumulators that align the exact sums of blocks: sums as int32, a tile at a time."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from hwsim.pe._accumulate_kernels import (
    FLOAT32_RULE,
    NO_EXPONENT,
    add_once,
    aligned_to_odd,
    exponent_of,
    pow2,
    settled,
    truncated,
)
from hwsim.pe._kernels import band, packed, scale_result
from hwsim.pe._pair_kernels import COLUMNS, ROWS, TILE, add_pairs
from hwsim.pe.accumulator import ZERO_EXPONENT


@njit(cache=True)
def _terms(
    sums: NDArray[np.int32], row_scales: NDArray[np.float64], column_scales: NDArray[np.float64],
    row_exponents: NDArray[np.int32], column_exponents: NDArray[np.int32], index: int, values: NDArray[np.float64],
    tops: NDArray[np.int32],
) -> None:  # fmt: skip
    """Fill `values` with the scaled block sums of a tile, and raise `tops` to their exponents."""
    for row in range(ROWS):
        scale, own = row_scales[index * ROWS + row], row_exponents[index * ROWS + row]
        for n in range(COLUMNS):
            at = row * COLUMNS + n
            value = np.float64(sums[at]) * (scale * column_scales[index * COLUMNS + n])
            exponent = own + column_exponents[index * COLUMNS + n] if value != 0.0 else ZERO_EXPONENT
            values[at] = value
            tops[at] = max(tops[at], exponent)


@njit(cache=True)
def _step(
    values: NDArray[np.float64], tops: NDArray[np.int32], fraction_bits: int, inside: bool, rule: tuple,
    state: NDArray[np.float64],
) -> None:  # fmt: skip
    """Add the terms [count, TILE] of a group to the accumulators of a tile."""
    for at in range(TILE):
        running = state[at]
        top = max(tops[at], exponent_of(running, rule)) if inside else tops[at]
        factor = pow2(fraction_bits - top)
        total = truncated(running * factor) if inside else 0.0
        for place in range(values.shape[0]):
            total += truncated(values[place, at] * factor)
        state[at] = settled(aligned_to_odd(total, top - fraction_bits, running, inside), rule)


@njit(cache=True)
def _take(numbers: NDArray[np.number], first: int, width: int, out: NDArray[np.number]) -> None:
    """Copy [width, blocks] of `numbers` from row `first` to `out`, [blocks, width] in one axis; zeros behind."""
    out[:] = 0
    for row in range(min(width, numbers.shape[0] - first)):
        for index in range(numbers.shape[1]):
            out[index * width + row] = numbers[first + row, index]


@njit(cache=True, parallel=True)
def _gemm(
    a: NDArray[np.int16], b: NDArray[np.int16], pairs: int, count: int, a_scales: NDArray[np.float64],
    b_scales: NDArray[np.float64], a_exponents: NDArray[np.int32], b_exponents: NDArray[np.int32], fraction_bits: int,
    inside: bool, promote: int, rule: tuple, a_out: NDArray[np.float32], b_out: NDArray[np.float32], height: int,
    out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fill `out` [M, N], parallel over panels of columns and bands of `height` row panels.

    `pairs` of integers a block, `count` blocks a group, `promote` blocks between promotions into FP32, 0 for none.
    """
    row_panels, blocks = -(-out.shape[0] // ROWS), a_scales.shape[1]
    bands = -(-row_panels // height)
    for task in prange(-(-out.shape[1] // COLUMNS) * bands):
        j, top = task // bands, task % bands * height
        row_scales, column_scales = np.empty(blocks * ROWS), np.empty(blocks * COLUMNS)
        row_exponents, column_exponents = np.empty(blocks * ROWS, np.int32), np.empty(blocks * COLUMNS, np.int32)
        _take(b_scales, j * COLUMNS, COLUMNS, column_scales)
        _take(b_exponents, j * COLUMNS, COLUMNS, column_exponents)
        sums, tops, values = np.empty(TILE, np.int32), np.empty(TILE, np.int32), np.empty((count, TILE))
        state, kept = np.empty(TILE), np.empty(TILE)
        for i in range(top, min(top + height, row_panels)):
            _take(a_scales, i * ROWS, ROWS, row_scales)
            _take(a_exponents, i * ROWS, ROWS, row_exponents)
            state[:] = 0.0
            kept[:] = 0.0
            for start in range(0, blocks, count):
                tops[:] = NO_EXPONENT
                for place in range(count):
                    index = start + place
                    a_at, b_at = (i * blocks + index) * pairs * 2 * ROWS, (j * blocks + index) * pairs * 2 * COLUMNS
                    sums[:] = 0
                    add_pairs(a, a_at, b, b_at, pairs, sums)
                    _terms(
                        sums, row_scales, column_scales, row_exponents, column_exponents, index, values[place], tops
                    )  # fmt: skip
                _step(values, tops, fraction_bits, inside, rule, state)
                end = start + count
                if promote > 0 and (end % promote == 0 or end == blocks):
                    for at in range(TILE):
                        kept[at] = add_once(kept[at], state[at] + 0.0, FLOAT32_RULE)
                        state[at] = 0.0
            for row in range(min(ROWS, out.shape[0] - i * ROWS)):
                m = i * ROWS + row
                for n in range(min(COLUMNS, out.shape[1] - j * COLUMNS)):
                    at = row * COLUMNS + n
                    total = np.float32(kept[at] if promote > 0 else state[at])
                    out[m, j * COLUMNS + n] = scale_result(total, a_out[m], b_out[j * COLUMNS + n])


def gemm(
    codes: tuple[NDArray[np.uint16], NDArray[np.uint16]],
    tables: tuple[NDArray[np.int64], NDArray[np.int64]],
    scales: tuple[NDArray[np.float64], NDArray[np.float64]],
    exponents: tuple[NDArray[np.int32], NDArray[np.int32]],
    block: int,
    group: int,
    fraction_bits: int,
    inside: bool,
    promote: int,
    rule: tuple,
    a_out: NDArray[np.float32],
    b_out: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [M, N]; operands in pairs, A first: codes [rows, K], the integer of every code within int16.

    Scales [rows, K / block] (A's with the weight of a product's last place), their exponents with `NO_EXPONENT` for
    zeros; `group` products a step, `promote` blocks between promotions into FP32, 0 for none.

    Exactness
    ---------
    Block sums are int32, below 2**31; what follows is as in `_accumulate_kernels`.
    """
    a, b = (packed(*side, None, block, width) for *side, width in zip(codes, tables, (ROWS, COLUMNS), strict=True))
    _gemm(
        a, b, (block + 1) // 2, group // block, *scales, *exponents, fraction_bits, inside, promote, rule, a_out, b_out,
        band(out.shape[0], out.shape[1], ROWS, COLUMNS), out,
    )  # fmt: skip

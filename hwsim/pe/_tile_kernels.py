# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernel of `_dot_gemm.gemm`: the steps of `_accumulate_kernels` over a tile of columns at a time."""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import NDArray

from hwsim.pe._accumulate_kernels import (
    FLOAT32_RULE,
    NO_EXPONENT,
    ZEROS,
    add_once,
    aligned_to_odd,
    exponent_of,
    pow2,
    settled,
    truncated,
)
from hwsim.pe._kernels import fma, scale_result
from hwsim.pe.accumulator import ZERO_EXPONENT

TILE = 128
"""Output columns a tile, the last one filled up."""


@njit(cache=True)
def _load(
    first: int, codes: NDArray[np.uint16], table: NDArray[np.float64], exponents: NDArray[np.int32],
    values: NDArray[np.float64], tops: NDArray[np.int32],
) -> None:  # fmt: skip
    """Decode rows of B from `first` into the columns of a tile, values and tops [K, TILE]."""
    for n in range(min(TILE, codes.shape[0] - first)):
        for k in range(codes.shape[1]):
            values[k, n] = table[codes[first + n, k]]
            tops[k, n] = exponents[codes[first + n, k]]


@njit(cache=True)
def _tile_exponents(
    row: NDArray[np.int32], tops: NDArray[np.int32], start: int, group: int, largest: NDArray[np.int32],
    least: NDArray[np.int32],
) -> None:  # fmt: skip
    """Find the largest and the least exponent of a group's products, in every column."""
    largest[:] = NO_EXPONENT
    least[:] = 0
    for k in range(start, start + group):
        own, column = row[k], tops[k]
        for n in range(TILE):
            exponent = own + column[n]
            largest[n] = max(largest[n], exponent)
            least[n] = min(least[n], exponent)


@njit(cache=True)
def _tile_sums(
    row: NDArray[np.float64], values: NDArray[np.float64], start: int, count: int, factors: NDArray[np.float64],
    totals: NDArray[np.float64],
) -> None:  # fmt: skip
    """Add the products of K steps, times a factor a column and truncated to integers, to the totals of a tile."""
    for k in range(start, start + count):
        own, column = row[k], values[k]
        for n in range(TILE):
            totals[n] += truncated(own * column[n] * factors[n])


@njit(cache=True)
def _tile_products(
    row: NDArray[np.float64], values: NDArray[np.float64], start: int, count: int, totals: NDArray[np.float64]
) -> None:
    """Add the products of K steps to the totals of a tile."""
    for k in range(start, start + count):
        own, column = row[k], values[k]
        for n in range(TILE):
            totals[n] = fma(own, column[n], totals[n])


@njit(cache=True, parallel=True)
def tiles(
    aligned: bool, a: NDArray[np.float64], a_exponents: NDArray[np.int32], b: NDArray[np.uint16],
    b_table: NDArray[np.float64], b_exponents: NDArray[np.int32], a_scales: NDArray[np.float64],
    b_scales: NDArray[np.float64], a_scale_exponents: NDArray[np.int32], b_scale_exponents: NDArray[np.int32],
    block: int, group: int, fraction_bits: int, inside: bool, promote: int, rule: tuple, a_out: NDArray[np.float32],
    b_out: NDArray[np.float32], band: int, out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fill `out` [M, N] as `dots` does, a tile of columns at a time.

    For exact block sums of at most 53 bits with their scales, and for aligned groups of products within a block.
    """
    rows, columns, products = out.shape[0], out.shape[1], a.shape[1]
    bands = -(-rows // band)
    for task in prange(-(-columns // TILE) * bands):
        first = task // bands * TILE
        begin, stop = task % bands * band, min((task % bands + 1) * band, rows)
        width = min(TILE, columns - first)
        values, tops = np.zeros((products, TILE)), np.zeros((products if aligned else 1, TILE), np.int32)
        if aligned:
            _load(first, b, b_table, b_exponents, values, tops)
        else:
            for n in range(width):
                for k in range(products):
                    values[k, n] = b_table[b[first + n, k]]
        running, kept = np.zeros((stop - begin, TILE)), np.zeros((stop - begin if promote > 0 else 1, TILE))
        totals, factors = np.empty(TILE), np.empty(TILE)
        largest, least = np.empty(TILE, np.int32), np.empty(TILE, np.int32)
        for start in range(0, products, group):
            index = start // block
            ends = promote > 0 and ((start + group) % promote == 0 or start + group == products)
            for m in range(begin, stop):
                state = running[m - begin]
                totals[:] = 0.0
                if aligned:
                    _tile_exponents(a_exponents[m], tops, start, group, largest, least)
                    for n in range(width):
                        scale = a_scale_exponents[m, index] + b_scale_exponents[first + n, index]
                        top = largest[n] + scale
                        if top <= ZEROS or (least[n] + scale <= ZEROS and top < ZERO_EXPONENT):
                            top = ZERO_EXPONENT
                        if inside:
                            top = max(top, exponent_of(state[n], rule))
                        largest[n] = top
                        factor = pow2(fraction_bits - top)
                        factors[n] = factor * (a_scales[m, index] * b_scales[first + n, index])
                        if inside:
                            totals[n] = truncated(state[n] * factor)
                    _tile_sums(a[m], values, start, group, factors, totals)
                    for n in range(width):
                        raw = aligned_to_odd(totals[n], largest[n] - fraction_bits, state[n], inside)
                        state[n] = settled(raw, rule)
                else:
                    _tile_products(a[m], values, start, block, totals)
                    for n in range(width):
                        scale = a_scales[m, index] * b_scales[first + n, index]
                        state[n] = add_once(state[n], totals[n] * scale + 0.0, rule)
                if ends:
                    for n in range(width):
                        kept[m - begin, n] = add_once(kept[m - begin, n], state[n] + 0.0, FLOAT32_RULE)
                        state[n] = 0.0
        for m in range(begin, stop):
            for n in range(width):
                result = kept[m - begin, n] if promote > 0 else running[m - begin, n]
                out[m, first + n] = scale_result(np.float32(result), a_out[m], b_out[first + n])


def band(rows: int, columns: int) -> int:
    """Return the rows that `tiles` takes at a time: a share a thread where tiles are too few to keep threads busy."""
    threads = get_num_threads()
    bands = threads if columns < 4 * threads * TILE and rows >= 4 * threads else 1
    return -(-rows // bands)

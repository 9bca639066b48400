# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of `_dot_gemm.gemm` and `_dot_gemm.dots`: exact block sums, then one rounding a block.

`block_gemm` sums in float32 registers, `paired_dots` in integers; both leave rounding to the same functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import get_num_threads, njit, prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

TILE = 192
"""Output columns a tile, the last one filled up: a constant, so that loops over it compile without remainder.

A block's weights (32 x TILE float32) stay in the first-level cache.
"""
ROWS = 2
"""Output rows a pass over a block's weights; with STEPS, what the vector registers hold."""
STEPS = 4
"""K steps a read and write of the sums."""
STRIP = 16
"""K steps transposed at once, so that the cache lines written stay in the first level."""
_EXACT_FLOAT32 = 1 << 24


@intrinsic
def fma(typing_context: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z with one rounding, in the type of the arguments (the processor's instruction where it has one)."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    assert isinstance(x, types.Float) and x == y == z, (x, y, z)
    return x(x, y, z), emit


@intrinsic
def bits_of(typing_context: Any, x: Any) -> Any:
    """Return the bits of a float64 as int64."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    assert x == types.float64
    return types.int64(x), emit


@njit(cache=True)
def add_rounded_once(accumulator: np.float32, addend: float) -> np.float32:
    """Return RNE_float32(accumulator + addend) for a float64 addend, with one rounding.

    The float64 sum is rounded to odd (its last bit records any lost part), after which rounding to float32 is exact.
    """
    x = np.float64(accumulator)
    total = x + addend
    if np.isfinite(total):
        y = total - x
        lost = (x - (total - y)) + (addend - y)
        bits = bits_of(total)
        if lost != 0.0 and bits & 1 == 0:
            # towards the lost part: away from zero when it has the sign of the sum
            bits += 1 if (lost > 0.0) == (total > 0.0) else -1
            total = np.int64(bits).view(np.float64)
    return np.float32(total)


@njit(cache=True)
def add_block(accumulator: np.float32, block_sum: float, scale: float) -> np.float32:
    """Return RNE_float32(accumulator + block_sum * scale) with one rounding; the product is exact in float64."""
    # a zero addend counts as +0 whatever the sign of the scale
    return add_rounded_once(accumulator, np.float64(block_sum) * scale + 0.0)


@njit(cache=True)
def scale_result(total: np.float32, a_out: np.float32, b_out: np.float32) -> np.float32:
    """Return a dot product's result: RNE(RNE(total * a_out) * b_out), every NaN made the canonical one."""
    y = total * a_out
    y = y * b_out
    return y if y == y else np.float32(np.nan)


@njit(cache=True)
def _sum_block(
    a: NDArray[np.float32], m: int, start: int, block: int, weights: NDArray[np.float32], sums: NDArray[np.float32]
) -> None:
    """sums[i] = a[m + i, start : start + block] times weights[start : start + block, :]; exact, so in any order.

    Arrays are passed whole and cut in here: a view handed to a compiled function costs reference counting.
    """
    row0, row1 = a[m], a[m + 1]
    s0, s1 = sums[0], sums[1]
    s0[:] = np.float32(0)
    s1[:] = np.float32(0)
    whole = block - block % STEPS
    for k in range(start, start + whole, STEPS):
        w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        a0, a1, a2, a3 = row0[k], row0[k + 1], row0[k + 2], row0[k + 3]
        b0, b1, b2, b3 = row1[k], row1[k + 1], row1[k + 2], row1[k + 3]
        for n in range(TILE):
            x0, x1, x2, x3 = w0[n], w1[n], w2[n], w3[n]
            s0[n] = fma(a3, x3, fma(a2, x2, fma(a1, x1, fma(a0, x0, s0[n]))))
            s1[n] = fma(b3, x3, fma(b2, x2, fma(b1, x1, fma(b0, x0, s1[n]))))
    for k in range(start + whole, start + block):
        a0, b0, w0 = row0[k], row1[k], weights[k]
        for n in range(TILE):
            s0[n] = fma(a0, w0[n], s0[n])
            s1[n] = fma(b0, w0[n], s1[n])


@njit(cache=True)
def _load_tile(
    first: int,
    codes: NDArray[np.uint8],
    table: NDArray[np.float32],
    scales: NDArray[np.float64],
    zeros: NDArray[np.uint8],
    has_zeros: bool,
    weights: NDArray[np.float32],
    tile_scales: NDArray[np.float64],
    tile_zeros: NDArray[np.float32],
) -> None:
    """Decode rows of B from `first` into the columns of a tile: weights [K, TILE], the others [blocks, TILE]."""
    width = min(TILE, codes.shape[0] - first)
    for start in range(0, codes.shape[1], STRIP):
        for n in range(width):
            for k in range(start, min(start + STRIP, codes.shape[1])):
                weights[k, n] = table[codes[first + n, k]]
    for n in range(width):
        for index in range(scales.shape[1]):
            tile_scales[index, n] = scales[first + n, index]
            if has_zeros:
                tile_zeros[index, n] = np.float32(zeros[first + n, index])


@njit(cache=True)
def _accumulate(
    sums: NDArray[np.float32],
    m: int,
    index: int,
    a_scales: NDArray[np.float64],
    scales: NDArray[np.float64],
    scales32: NDArray[np.float32],
    fused: bool,
    result: NDArray[np.float32],
    at: int,
) -> None:
    """result[at + i] = RNE(result[at + i] + sums[i] * a_scales[m + i, index] * scales[index]), with one rounding."""
    for i in range(ROWS):
        row, total = sums[i], result[at + i]
        if fused:
            a_scale32, row_scales32 = np.float32(a_scales[m + i, index]), scales32[index]
            for n in range(TILE):
                total[n] = fma(row[n], a_scale32 * row_scales32[n], total[n])
        else:
            a_scale, row_scales = a_scales[m + i, index], scales[index]
            for n in range(TILE):
                total[n] = add_block(total[n], row[n], a_scale * row_scales[n])


@njit(cache=True, parallel=True)
def _block_gemm(
    a: NDArray[np.float32],
    a_sums: NDArray[np.float32],
    a_scales: NDArray[np.float64],
    b_codes: NDArray[np.uint8],
    b_table: NDArray[np.float32],
    b_scales: NDArray[np.float64],
    b_zeros: NDArray[np.uint8],
    has_zeros: bool,
    block: int,
    fused: bool,
    a_out: NDArray[np.float32],
    b_out: NDArray[np.float32],
    band: int,
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [M, N], parallel over tiles of columns and bands of rows.

    `a` and `a_scales` have rows of zeros up to a multiple of ROWS; `band` is one too.
    """
    m_count, k_count, n_count = a.shape[0], a.shape[1], b_codes.shape[0]
    blocks = k_count // block
    bands = -(-m_count // band)
    for task in prange(-(-n_count // TILE) * bands):
        first = task // bands * TILE
        start, end = task % bands * band, min((task % bands + 1) * band, m_count)
        weights = np.zeros((k_count, TILE), np.float32)
        scales = np.zeros((blocks, TILE), np.float64)
        zeros = np.zeros((blocks, TILE), np.float32)
        _load_tile(first, b_codes, b_table, b_scales, b_zeros, has_zeros, weights, scales, zeros)
        scales32 = scales.astype(np.float32)
        sums = np.empty((ROWS, TILE), np.float32)
        result = np.zeros((end - start, TILE), np.float32)
        for index in range(blocks):
            for m in range(start, end, ROWS):
                _sum_block(a, m, index * block, block, weights, sums)
                if has_zeros:
                    for i in range(ROWS):
                        for n in range(TILE):
                            sums[i, n] -= zeros[index, n] * a_sums[m + i, index]
                _accumulate(sums, m, index, a_scales, scales, scales32, fused, result, m - start)
        for m in range(start, min(end, out.shape[0])):
            for n in range(min(TILE, n_count - first)):
                out[m, first + n] = scale_result(result[m - start, n], a_out[m], b_out[first + n])


@njit(cache=True)
def paired_dots(
    a_codes: NDArray[np.integer],
    b_codes: NDArray[np.integer],
    a_table: NDArray[np.int32],
    b_table: NDArray[np.int32],
    a_scales: NDArray[np.float64],
    b_scales: NDArray[np.float64],
    b_zeros: NDArray[np.uint8],
    has_zeros: bool,
    block: int,
    a_out: NDArray[np.float32],
    b_out: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [rows] with the dot products of row i of A and row i of B; see `_dot_gemm.dots`."""
    for i in range(out.shape[0]):
        total = np.float32(0)
        for index in range(a_scales.shape[1]):
            block_sum = np.int64(0)
            a_sum = np.int64(0)
            for k in range(index * block, (index + 1) * block):
                x = np.int64(a_table[a_codes[i, k]])
                block_sum += x * b_table[b_codes[i, k]]
                a_sum += x
            if has_zeros:
                block_sum -= np.int64(b_zeros[i, index]) * a_sum
            total = add_block(total, np.float64(block_sum), a_scales[i, index] * b_scales[i, index])
        out[i] = scale_result(total, a_out[i], b_out[i])


def block_gemm(
    a: NDArray[np.float32],
    b_codes: NDArray[np.integer],
    b_table: NDArray[np.float32],
    a_scales: NDArray[np.float64],
    b_scales: NDArray[np.float64],
    b_zeros: NDArray[np.uint8] | None,
    block: int,
    a_out: NDArray[np.float32],
    b_out: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [M, N] with block dot products; see `_dot_gemm.gemm` for the exactness argument.

    `a_out` [M] and `b_out` [N] are ones where the unit has no output scale: a product with 1 changes nothing.
    """
    fill = ((0, -a.shape[0] % ROWS), (0, 0))
    fused = _product_is_exact(a_scales, b_scales)
    a, a_scales = np.pad(a, fill), np.pad(a_scales, fill)
    has_zeros = b_zeros is not None
    a_sums = a.reshape(a.shape[0], -1, block).sum(axis=2) if has_zeros else np.zeros((1, 1), np.float32)
    zeros = b_zeros if b_zeros is not None else np.zeros((1, 1), np.uint8)
    band = _band(a.shape[0], out.shape[1], get_num_threads())
    _block_gemm(
        a, a_sums, a_scales, b_codes, b_table, b_scales, zeros, has_zeros, block, fused, a_out, b_out, band, out,
    )  # fmt: skip


def _band(rows: int, columns: int, threads: int) -> int:
    """Return the rows of a band: all, or a share a thread where tiles are too few to keep the threads busy alike.

    Each band decodes its tile's weights anew, so bands stay few and long.
    """
    bands = threads if columns < 4 * threads * TILE and rows >= 64 * threads else 1
    return -(-rows // (ROWS * bands)) * ROWS


def _product_is_exact(a_scales: NDArray[np.float64], b_scales: NDArray[np.float64]) -> bool:
    """Tell whether every product of two block scales is a normal float32 (or zero), so that the fused path is exact.

    Significands have at most 11 bits (FP16) on one side and 4 (E4M3) on both, so their product fits 24 bits; only the
    exponent range is in question.
    """
    largest = np.abs(a_scales).max() * np.abs(b_scales).max()
    smallest = _least(a_scales) * _least(b_scales)
    # NaN compares false
    return bool(largest < 2.0**127 and smallest >= 2.0**-126)


def _least(scales: NDArray[np.float64]) -> float:
    magnitudes = np.abs(scales)
    return float(magnitudes[magnitudes != 0].min(initial=1.0))


def integer_gemm(
    a: NDArray[np.float32],
    b_codes: NDArray[np.uint8],
    b_table: NDArray[np.float32],
    max_product: int,
    a_out: NDArray[np.float32],
    b_out: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [M, N] with exact integer dot products, rounded once to float32, then scaled by row and by column.

    The matrix units of the machine sum integers in float32, exact below 2**24: K is cut so that no sum can reach it,
    and the pieces are added as integers. Wide integers come as float64, exact below 2**53, which no sum may reach.
    """
    k = a.shape[1]
    chunk = ((_EXACT_FLOAT32 if a.dtype == np.float32 else 1 << 53) - 1) // max_product
    assert chunk > 0, max_product
    total_dtype = np.int32 if k * max_product < 1 << 31 else np.int64
    width = 4096
    for first in range(0, b_codes.shape[0], width):
        columns = slice(first, min(first + width, b_codes.shape[0]))
        weights = b_table[b_codes[columns]]
        view = out[:, columns]
        if k <= chunk:
            np.matmul(a, weights.T, out=view)
        else:
            total = np.zeros(view.shape, total_dtype)
            for start in range(0, k, chunk):
                piece = slice(start, min(start + chunk, k))
                total += (a[:, piece] @ weights[:, piece].T).astype(total_dtype)
            view[...] = total
        with np.errstate(over="ignore", invalid="ignore"):
            view *= a_out[:, None]
            view *= b_out[columns]
        undefined = np.isnan(view)
        if undefined.any():
            view[undefined] = np.float32(np.nan)  # the one canonical NaN

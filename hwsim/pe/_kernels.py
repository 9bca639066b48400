# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of `_dot.gemm`: exact block sums in float32 registers, then one fused multiply-add a block."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

TILE = 128
"""Output columns a tile: the block's weights (block x TILE float32) stay in the first-level cache."""
ROWS = 8
"""K steps a pass over the tile: eight weights rows are read for one read and write of the sums."""
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
def _sum_block(
    a: NDArray[np.float32], row: int, start: int, block: int, weights: NDArray[np.float32], sums: NDArray[np.float32]
) -> None:
    """sums[:] = A[row, start : start + block] times weights[start : start + block, :]; exact, so in any order."""
    sums[:] = np.float32(0)
    whole = block - block % ROWS
    for k in range(start, start + whole, ROWS):
        a0, a1, a2, a3 = a[row, k], a[row, k + 1], a[row, k + 2], a[row, k + 3]
        a4, a5, a6, a7 = a[row, k + 4], a[row, k + 5], a[row, k + 6], a[row, k + 7]
        for n in range(TILE):
            x = fma(a0, weights[k, n], sums[n])
            x = fma(a1, weights[k + 1, n], x)
            x = fma(a2, weights[k + 2, n], x)
            x = fma(a3, weights[k + 3, n], x)
            x = fma(a4, weights[k + 4, n], x)
            x = fma(a5, weights[k + 5, n], x)
            x = fma(a6, weights[k + 6, n], x)
            sums[n] = fma(a7, weights[k + 7, n], x)
    for k in range(start + whole, start + block):
        for n in range(TILE):
            sums[n] = fma(a[row, k], weights[k, n], sums[n])


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
    out: NDArray[np.float32],
) -> None:
    m_count, k_count = a.shape
    n_count, blocks = b_codes.shape[0], k_count // block
    for tile in prange(-(-n_count // TILE)):
        first = tile * TILE
        width = min(TILE, n_count - first)
        weights = np.zeros((k_count, TILE), np.float32)
        scales = np.zeros((blocks, TILE), np.float64)
        scales32 = np.zeros((blocks, TILE), np.float32)
        zeros = np.zeros((blocks, TILE), np.float32)
        for n in range(width):
            for k in range(k_count):
                weights[k, n] = b_table[b_codes[first + n, k]]
            for index in range(blocks):
                scales[index, n] = b_scales[first + n, index]
                scales32[index, n] = np.float32(b_scales[first + n, index])
                if has_zeros:
                    zeros[index, n] = np.float32(b_zeros[first + n, index])
        sums = np.empty(TILE, np.float32)
        result = np.zeros((m_count, TILE), np.float32)
        for index in range(blocks):
            for m in range(m_count):
                _sum_block(a, m, index * block, block, weights, sums)
                if has_zeros:
                    for n in range(TILE):
                        sums[n] -= zeros[index, n] * a_sums[m, index]
                if fused:
                    scale32 = np.float32(a_scales[m, index])
                    for n in range(TILE):
                        result[m, n] = fma(sums[n], scale32 * scales32[index, n], result[m, n])
                else:
                    for n in range(TILE):
                        addend = np.float64(sums[n]) * (a_scales[m, index] * scales[index, n])
                        # a zero addend counts as +0 whatever the sign of the scale
                        result[m, n] = add_rounded_once(result[m, n], addend + 0.0)
        for m in range(m_count):
            for n in range(width):
                y = result[m, n] * a_out[m]
                y = y * b_out[first + n]
                out[m, first + n] = y if y == y else np.float32(np.nan)


def block_gemm(
    a: NDArray[np.float32],
    b_codes: NDArray[np.uint8],
    b_table: NDArray[np.float32],
    a_scales: NDArray[np.float64],
    b_scales: NDArray[np.float64],
    b_zeros: NDArray[np.uint8] | None,
    block: int,
    a_out: NDArray[np.float32],
    b_out: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [M, N] with block dot products; see `_dot.gemm` for the exactness argument.

    `a_out` [M] and `b_out` [N] are ones where the unit has no output scale: a product with 1 changes nothing.
    """
    has_zeros = b_zeros is not None
    a_sums = a.reshape(a.shape[0], -1, block).sum(axis=2) if has_zeros else np.zeros((1, 1), np.float32)
    zeros = b_zeros if b_zeros is not None else np.zeros((1, 1), np.uint8)
    _block_gemm(
        a, a_sums, a_scales, b_codes, b_table, b_scales, zeros, has_zeros, block,
        _product_is_exact(a_scales, b_scales), a_out, b_out, out,
    )  # fmt: skip


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
    and the pieces are added as integers.
    """
    k = a.shape[1]
    chunk = (_EXACT_FLOAT32 - 1) // max_product
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

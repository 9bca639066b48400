# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of `_dot_gemm.gemm` and `_dot_gemm.dots`: exact integer sums, then one rounding a block."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import get_num_threads, njit, prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hwsim.pe._elements import fit_int16
from hwsim.pe._pair_kernels import COLUMNS, ROWS, TILE, add_pairs, add_scaled_pairs, pack

GROUP = 8
"""Panels of columns a task: as many tiles in turn take a panel of A from the first-level cache."""
CHUNK = 512
"""Pairs of K at a time: the panels of a group are GROUP x COLUMNS x CHUNK x 4 bytes of the second-level cache."""
WHOLE, FUSED, ONCE = 0, 1, 2
"""Kinds: one integer sum; float32 fused multiply-adds; rounding once, of float64 sums to odd."""
_INT32_SUMS = 1 << 31
_FLOAT32_SUMS = 1 << 24


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
def _finish(
    totals: NDArray[np.number], i: int, j: int, a_out: NDArray[np.float32], b_out: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Write the results of a tile, scaled, where `out` has a place for them."""
    rows, columns = min(ROWS, out.shape[0] - i * ROWS), min(COLUMNS, out.shape[1] - j * COLUMNS)
    for row in range(rows):
        m = i * ROWS + row
        for n in range(columns):
            total = np.float32(totals[row * COLUMNS + n])
            out[m, j * COLUMNS + n] = scale_result(total, a_out[m], b_out[j * COLUMNS + n])


@njit(cache=True)
def _exchange(tile: NDArray[np.number], i: int, j: int, whole: NDArray[np.number], outward: bool) -> None:
    """Copy a tile to its place in a matrix, or the other way."""
    rows, columns = min(ROWS, whole.shape[0] - i * ROWS), min(COLUMNS, whole.shape[1] - j * COLUMNS)
    for row in range(rows):
        for n in range(columns):
            if outward:
                whole[i * ROWS + row, j * COLUMNS + n] = tile[row * COLUMNS + n]
            else:
                tile[row * COLUMNS + n] = whole[i * ROWS + row, j * COLUMNS + n]


@njit(cache=True, parallel=True)
def _tiles(
    kind: int, a: NDArray[np.int16], b: NDArray[np.int16], pairs: int, blocks: int, chunk: int,
    a_scales: NDArray[np.float64], b_scales: NDArray[np.float64], a_scales32: NDArray[np.float32],
    b_scales32: NDArray[np.float32], a_out: NDArray[np.float32], b_out: NDArray[np.float32], height: int,
    out: NDArray[np.float32], out_sums: NDArray[np.int32],
) -> None:  # fmt: skip
    """Fill `out` [M, N], parallel over groups of columns and bands of `height` row panels.

    `out_sums` is the memory of `out`. `chunk` blocks of K at a time, so that the panels of B of a group stay in the
    second-level cache; between chunks the sums of a tile wait in `out`. `pairs` of integers a block; scales as panels
    like operands, one a block and row.
    """
    row_panels, column_panels = -(-out.shape[0] // ROWS), -(-out.shape[1] // COLUMNS)
    bands = -(-row_panels // height)
    for task in prange(-(-column_panels // GROUP) * bands):
        first, top = task // bands * GROUP, task % bands * height
        sums, totals = np.empty(TILE, np.int32), np.empty(TILE, np.float32)
        for start in range(0, blocks, chunk):
            end = min(start + chunk, blocks)
            for i in range(top, min(top + height, row_panels)):
                for j in range(first, min(first + GROUP, column_panels)):
                    if kind == WHOLE:
                        sums[:] = 0
                        if start > 0:
                            _exchange(sums, i, j, out_sums, False)
                        a_at, b_at = (i * blocks + start) * pairs, (j * blocks + start) * pairs
                        add_pairs(a, a_at * 2 * ROWS, b, b_at * 2 * COLUMNS, (end - start) * pairs, sums)
                        if end < blocks:
                            _exchange(sums, i, j, out_sums, True)
                        else:
                            _finish(sums, i, j, a_out, b_out, out)
                        continue
                    totals[:] = 0.0
                    if start > 0:
                        _exchange(totals, i, j, out, False)
                    for index in range(start, end):
                        a_block, b_block = i * blocks + index, j * blocks + index
                        a_at, b_at = a_block * pairs * 2 * ROWS, b_block * pairs * 2 * COLUMNS
                        if kind == FUSED:
                            add_scaled_pairs(
                                a, a_at, b, b_at, pairs, a_scales32, a_block * ROWS, b_scales32, b_block * COLUMNS,
                                totals,
                            )  # fmt: skip
                            continue
                        sums[:] = 0
                        add_pairs(a, a_at, b, b_at, pairs, sums)
                        for row in range(ROWS):
                            scale = a_scales[a_block * ROWS + row]
                            for n in range(COLUMNS):
                                at = row * COLUMNS + n
                                both = scale * b_scales[b_block * COLUMNS + n]
                                totals[at] = add_block(totals[at], np.float64(sums[at]), both)
                    if end < blocks:
                        _exchange(totals, i, j, out, True)
                    else:
                        _finish(totals, i, j, a_out, b_out, out)


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
    a_codes: NDArray[np.integer],
    a_table: NDArray[np.int64],
    b_codes: NDArray[np.integer],
    b_table: NDArray[np.int64],
    a_scales: NDArray[np.float64],
    b_scales: NDArray[np.float64],
    b_zeros: NDArray[np.uint8] | None,
    block: int,
    max_product: int,
    a_out: NDArray[np.float32],
    b_out: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [M, N] with block dot products.

    Codes [rows, K], the integer of every code (within int16), scales [rows, K / block], zero points too; `max_product`
    is the largest magnitude of a product, zero point applied. `a_out` [M] and `b_out` [N] are ones where the unit has
    no output scale: a product with 1 changes nothing.

    Exactness
    ---------
    No sum of some of a block's products is larger than block * max_product, which has to stay below 2**31: sums are
    int32. Up to 2**24 float32 holds them all, so that one fused multiply-add has the one rounding, if float32 also
    holds the products of the scales. Otherwise products of sums and scales are exact in float64.
    """
    assert fit_int16(a_table) and fit_int16(b_table) and block * max_product < _INT32_SUMS, (block, max_product)
    fused = block * max_product <= _FLOAT32_SUMS and _product_is_exact(a_scales, b_scales)
    kind = FUSED if fused else ONCE
    scales = _panels(a_scales, ROWS), _panels(b_scales, COLUMNS)
    small = tuple(side.astype(np.float32) if kind == FUSED else np.empty(0, np.float32) for side in scales)
    pairs = (block + 1) // 2
    _tiles(
        kind, packed(a_codes, a_table, None, block, ROWS), packed(b_codes, b_table, b_zeros, block, COLUMNS), pairs,
        a_codes.shape[1] // block, max(1, CHUNK // pairs), *scales, *small, a_out, b_out, band(*out.shape), out,
        out.view(np.int32),
    )  # fmt: skip


def packed(
    codes: NDArray[np.integer], table: NDArray[np.int64], zeros: NDArray[np.uint8] | None, block: int, width: int
) -> NDArray[np.int16]:
    """Return the integers of codes in panels of `width` rows, int16; see `_pair_kernels.pack`."""
    blocks, panels = codes.shape[1] // block, -(-codes.shape[0] // width)
    out = np.zeros(panels * width * blocks * (block + block % 2), np.int16)
    given = zeros if zeros is not None else np.zeros((1, 1), np.uint8)
    pack(codes, table.astype(np.int16), given, zeros is not None, block, width, out)
    return out


def _panels(scales: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return scales [rows, blocks] in panels of `width` rows, [panels, blocks, width] in one axis; zeros behind."""
    filled = np.pad(scales, ((0, -scales.shape[0] % width), (0, 0)))
    return np.ascontiguousarray(filled.reshape(-1, width, scales.shape[1]).swapaxes(1, 2)).reshape(-1)


def band(rows: int, columns: int, height: int = ROWS, width: int = GROUP * COLUMNS) -> int:
    """Return the row panels of a band: all, or a share a thread where columns are too few to keep threads busy."""
    threads, panels = get_num_threads(), -(-rows // height)
    bands = threads if columns < 4 * threads * width and panels >= threads else 1
    return -(-panels // bands)


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
    a_codes: NDArray[np.integer],
    a_table: NDArray[np.int64],
    b_codes: NDArray[np.integer],
    b_table: NDArray[np.int64],
    max_product: int,
    a_out: NDArray[np.float32],
    b_out: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [M, N] with exact integer dot products, rounded once to float32, then scaled by row and by column.

    `a_table` and `b_table` hold the integer of every code, `max_product` the largest magnitude of a product.

    Exactness
    ---------
    No sum of some of the products is larger than K * max_product. While that is below 2**31, and the integers fit
    int16, sums are int32; else the machine's matrix units form them in float64, which holds integers up to 2**53: no
    sum may pass that.
    """
    k = a_codes.shape[1]
    if k * max_product < _INT32_SUMS and fit_int16(a_table) and fit_int16(b_table):
        # a pair is a block here, so that the whole is cut into chunks of pairs
        none = np.empty(0, np.float64), np.empty(0, np.float32)
        _tiles(
            WHOLE, packed(a_codes, a_table, None, k, ROWS), packed(b_codes, b_table, None, k, COLUMNS), 1,
            (k + 1) // 2, CHUNK, none[0], none[0], none[1], none[1], a_out, b_out, band(*out.shape), out,
            out.view(np.int32),
        )  # fmt: skip
        return
    a, width = a_table.astype(np.float64)[a_codes], GROUP * COLUMNS
    for first in range(0, out.shape[1], width):
        columns = slice(first, min(first + width, out.shape[1]))
        view = out[:, columns]
        # a sum of zeros times negative numbers is +0
        view[...] = a @ b_table.astype(np.float64)[b_codes[columns]].T + 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            view *= a_out[:, None]
            view *= b_out[columns]
        view[np.isnan(view)] = np.float32(np.nan)  # the one canonical NaN

# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of `bitmod`: all before the group's scale in integers of 64 bits, in units of the finest product.

With e counted from the smallest normal activation, a product is ``significand << e_i``; alignment to the largest e
keeps it down to bit ``e - guard_bits`` (no bit below 0 is ever set), so that it takes no shifter's word, but a mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import get_num_threads, njit, prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hwsim.pe._kernels import add_rounded_once, scale_result

TILE = 64
"""Output columns a tile, the last one filled up: a constant, so that loops over it compile without remainder."""
LANES = 4


@intrinsic
def leading_zeros(typing_context: Any, x: Any) -> Any:
    """Return the leading zeros of the bits of an int64."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    assert x == types.int64
    return types.int64(x), emit


@njit(cache=True)
def align(significand: int, exponent: int, shift: int, sticky: bool) -> int:
    """Return what alignment keeps of a product's magnitude, in units of its last bit."""
    product = significand << exponent
    kept = product >> shift
    return kept | (sticky and (product & ((np.int64(1) << shift) - 1)) != 0)


@njit(cache=True)
def round_to(value: int, bits: int) -> int:
    """Return an integer rounded to so many significant bits, to nearest, ties to even."""
    magnitude = abs(value)
    low = max(64 - leading_zeros(magnitude) - bits, 0)
    # half a unit less one, and one more where the last bit kept is odd; nothing where all bits are kept
    half, odd = ((np.int64(1) << low) - 1) >> 1, (magnitude >> low) & min(low, 1)
    kept = ((magnitude + half + odd) >> low) << low
    return kept if value >= 0 else -kept


@njit(cache=True)
def add_terms(
    total: int,
    e0: int, e1: int, e2: int, e3: int,
    m0: int, m1: int, m2: int, m3: int,
    s0: int, s1: int, s2: int, s3: int,
    bsig: int, guard_bits: int, sticky: bool, acc_bits: int,
) -> int:  # fmt: skip
    """Return a group's accumulator after a cycle: exponents, significands and signs (0: no term) of the four lanes."""
    shift = max(max(max(e0, e1), max(e2, e3)) - guard_bits, 0)
    added = (
        align(m0, e0, shift, sticky) * s0
        + align(m1, e1, shift, sticky) * s1
        + align(m2, e2, shift, sticky) * s2
        + align(m3, e3, shift, sticky) * s3
    )
    return round_to(total + (added << (shift + bsig)), acc_bits)


@njit(cache=True)
def decode(code: int) -> tuple[int, int, int]:
    """Return exponent (from that of the smallest normal number), significand and sign of an FP16 code."""
    field = np.int64(code >> 10) & 31
    significand = (np.int64(code) & 1023) | (min(field, 1) << 10)
    return max(field, 1) - 1, significand, 1 - 2 * np.int64(code >> 15)


@njit(cache=True)
def add_group(total: np.float32, group: int, scale: int, unit: float) -> np.float32:
    """Return RNE_float32(total + group * scale * unit) with one rounding.

    The product, of up to 68 bits, is formed in two halves, each exact in float64; their sum and the next one's leave
    remainders, both multiples of the unit below 2**24 of it, and so add up exactly.
    """
    low = group & 0xFFFFFFFF
    high = np.float64(group - low) * (scale * unit)
    rest = np.float64(low) * (scale * unit)
    product = high + rest  # abs(high) >= rest, or high is 0
    lost = rest - (product - high)
    x = np.float64(total)
    result = x + product
    back = result - x
    lost += (x - (result - back)) + (product - back)
    return add_rounded_once(result, lost)


@njit(cache=True)
def _load_tile(
    first: int,
    codes: NDArray[np.uint8],
    selectors: NDArray[np.uint8],
    group: int,
    exponents: NDArray[np.int8],
    signs: NDArray[np.int8],
    tile_exponents: NDArray[np.int8],
    tile_signs: NDArray[np.int8],
) -> None:
    """Look up the terms of rows of B from `first`: int8 [K, terms, TILE]."""
    for n in range(min(TILE, codes.shape[0] - first)):
        for k in range(codes.shape[1]):
            select, code = selectors[first + n, k // group], codes[first + n, k]
            for t in range(exponents.shape[2]):
                tile_exponents[k, t, n] = exponents[select, code, t]
                tile_signs[k, t, n] = signs[select, code, t]


@njit(cache=True)
def _add_beat(
    codes: NDArray[np.uint16],
    k: int,
    exponents: NDArray[np.int8],
    signs: NDArray[np.int8],
    positions: NDArray[np.int64],
    guard_bits: int,
    sticky: bool,
    acc_bits: int,
    totals: NDArray[np.int64],
) -> None:
    """Add a beat's products to the accumulators of a tile's groups."""
    e0, m0, s0 = decode(codes[k])
    e1, m1, s1 = decode(codes[k + 1])
    e2, m2, s2 = decode(codes[k + 2])
    e3, m3, s3 = decode(codes[k + 3])
    for t in range(positions.shape[0]):
        w0, w1, w2, w3 = exponents[k, t], exponents[k + 1, t], exponents[k + 2, t], exponents[k + 3, t]
        f0, f1, f2, f3 = signs[k, t], signs[k + 1, t], signs[k + 2, t], signs[k + 3, t]
        bsig = positions[t]
        for n in range(TILE):
            totals[n] = add_terms(
                totals[n],
                e0 + w0[n], e1 + w1[n], e2 + w2[n], e3 + w3[n],
                m0, m1, m2, m3,
                s0 * f0[n], s1 * f1[n], s2 * f2[n], s3 * f3[n],
                bsig, guard_bits, sticky, acc_bits,
            )  # fmt: skip


@njit(cache=True, parallel=True)
def _gemm(
    a: NDArray[np.uint16],
    b: NDArray[np.uint8],
    exponents: NDArray[np.int8],
    signs: NDArray[np.int8],
    positions: NDArray[np.int64],
    selectors: NDArray[np.uint8],
    scales: NDArray[np.uint8],
    row_scales: NDArray[np.float32],
    group: int,
    guard_bits: int,
    sticky: bool,
    acc_bits: int,
    unit: float,
    band: int,
    out: NDArray[np.float32],
) -> None:
    rows, k_count, columns = a.shape[0], a.shape[1], b.shape[0]
    bands = -(-rows // band)
    for task in prange(-(-columns // TILE) * bands):
        first, start = task // bands * TILE, task % bands * band
        tile_exponents = np.zeros((k_count, positions.shape[0], TILE), np.int8)
        tile_signs = np.zeros((k_count, positions.shape[0], TILE), np.int8)
        _load_tile(first, b, selectors, group, exponents, signs, tile_exponents, tile_signs)
        totals, results = np.empty(TILE, np.int64), np.empty(TILE, np.float32)
        for m in range(start, min(start + band, rows)):
            codes = a[m]
            results[:] = np.float32(0)
            for index in range(k_count // group):
                totals[:] = 0
                for k in range(index * group, (index + 1) * group, LANES):
                    _add_beat(codes, k, tile_exponents, tile_signs, positions, guard_bits, sticky, acc_bits, totals)
                for n in range(min(TILE, columns - first)):
                    results[n] = add_group(results[n], totals[n], np.int64(scales[first + n, index]), unit)
            for n in range(min(TILE, columns - first)):
                out[m, first + n] = scale_result(results[n], np.float32(1), row_scales[first + n])


@njit(cache=True)
def _dots(
    a: NDArray[np.uint16],
    b: NDArray[np.uint8],
    exponents: NDArray[np.int8],
    signs: NDArray[np.int8],
    positions: NDArray[np.int64],
    selectors: NDArray[np.uint8],
    scales: NDArray[np.uint8],
    row_scales: NDArray[np.float32],
    group: int,
    guard_bits: int,
    sticky: bool,
    acc_bits: int,
    unit: float,
    out: NDArray[np.float32],
) -> None:
    for row in range(a.shape[0]):
        result = np.float32(0)
        for index in range(a.shape[1] // group):
            total, select = np.int64(0), selectors[row, index]
            w, f = exponents[select], signs[select]
            for k in range(index * group, (index + 1) * group, LANES):
                e0, m0, s0 = decode(a[row, k])
                e1, m1, s1 = decode(a[row, k + 1])
                e2, m2, s2 = decode(a[row, k + 2])
                e3, m3, s3 = decode(a[row, k + 3])
                b0, b1, b2, b3 = b[row, k], b[row, k + 1], b[row, k + 2], b[row, k + 3]
                for t in range(positions.shape[0]):
                    total = add_terms(
                        total,
                        e0 + w[b0, t], e1 + w[b1, t], e2 + w[b2, t], e3 + w[b3, t],
                        m0, m1, m2, m3,
                        s0 * f[b0, t], s1 * f[b1, t], s2 * f[b2, t], s3 * f[b3, t],
                        positions[t], guard_bits, sticky, acc_bits,
                    )  # fmt: skip
            result = add_group(result, total, np.int64(scales[row, index]), unit)
        out[row] = scale_result(result, np.float32(1), row_scales[row])


def gemm(
    a: NDArray[np.uint16],
    b: NDArray[np.uint8],
    exponents: NDArray[np.int8],
    signs: NDArray[np.int8],
    positions: NDArray[np.int64],
    selectors: NDArray[np.uint8],
    scales: NDArray[np.uint8],
    row_scales: NDArray[np.float32],
    numbers: tuple[int, int, bool, int, float],
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [M, N]; activations that are not finite give numbers without meaning."""
    # each band looks its tile's terms up anew, so bands stay few: one, unless tiles are too few for the threads
    threads = get_num_threads()
    bands = threads if b.shape[0] < 4 * threads * TILE and a.shape[0] >= 16 * threads else 1
    band = -(-a.shape[0] // bands)
    _gemm(a, b, exponents, signs, positions, selectors, scales, row_scales, *numbers, band, out)


def dots(
    a: NDArray[np.uint16],
    b: NDArray[np.uint8],
    exponents: NDArray[np.int8],
    signs: NDArray[np.int8],
    positions: NDArray[np.int64],
    selectors: NDArray[np.uint8],
    scales: NDArray[np.uint8],
    row_scales: NDArray[np.float32],
    numbers: tuple[int, int, bool, int, float],
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [rows] with the dot products of row i of A and row i of B; see `gemm`."""
    _dots(a, b, exponents, signs, positions, selectors, scales, row_scales, *numbers, out)

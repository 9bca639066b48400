# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernel of `_dot_gemm` for elements whose block sums float64 holds, under the default accumulator.

Sums of a tile of ROWS x COLUMNS outputs stay in registers; NaN and Inf follow IEEE 754 by themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hwsim.pe._kernels import band, scale_result
from hwsim.pe._vector_ir import DOUBLE, FLOAT, INT64, Loop, everywhere, fma, load, pointer, store

ROWS = 8
"""Rows of A in a tile. With COLUMNS, half of 32 vector registers of 8 numbers hold its sums."""
COLUMNS = 16
"""Rows of B, columns of the output, in a tile."""
TILE = ROWS * COLUMNS
GROUP = 16
"""Panels of columns a task."""
CHUNK = 256
"""K at a time: the panels of a group are GROUP x COLUMNS x CHUNK x 8 bytes of the second-level cache."""

_LANES = 8
_VECTORS = COLUMNS // _LANES
_DOUBLES, _FLOATS, _BITS = (ir.VectorType(kind, _LANES) for kind in (DOUBLE, FLOAT, INT64))


def _add_once(builder: Any, running: ir.Value, addend: ir.Value) -> ir.Value:
    """Return RNE_float32(running + addend) of vectors, as `_kernels.add_rounded_once` does."""
    zero, one = ir.Constant(_DOUBLES, [0.0] * _LANES), ir.Constant(_BITS, [1] * _LANES)
    none = ir.Constant(_BITS, [0] * _LANES)
    x = builder.fpext(running, _DOUBLES)
    total = builder.fadd(x, addend)
    y = builder.fsub(total, x)
    lost = builder.fadd(builder.fsub(x, builder.fsub(total, y)), builder.fsub(addend, y))
    bits = builder.bitcast(total, _BITS)
    even = builder.icmp_signed("==", builder.and_(bits, one), none)
    # ordered: false where the total is NaN or Inf, for which the lost part is NaN
    inexact = builder.fcmp_ordered("!=", lost, zero)
    outward = builder.icmp_signed(
        "==", builder.fcmp_ordered(">", lost, zero), builder.fcmp_ordered(">", total, zero)
    )  # fmt: skip
    step = builder.select(outward, one, ir.Constant(_BITS, [-1] * _LANES))
    odd = builder.add(bits, builder.select(builder.and_(even, inexact), step, none))
    return builder.fptrunc(builder.bitcast(odd, _DOUBLES), _FLOATS)


@intrinsic
def add_scaled_block(
    typing_context: Any, a: Any, a_at: Any, b: Any, b_at: Any, count: Any, a_scales: Any, a_scale_at: Any,
    b_scales: Any, b_scale_at: Any, totals: Any,
) -> Any:  # fmt: skip
    """totals[row, column] = RNE_float32(total + sum of `count` (at least 1) products * a_scale * b_scale).

    Operands are float64 panels [K, ROWS] and [K, COLUMNS] in one axis, from a_at and b_at; scales float64, those of the
    tile's rows and columns; totals float32 [TILE]. One rounding, if float64 holds the sum and its scaled value.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        a, a_at, b, b_at, count, a_scales, a_scale_at, b_scales, b_scale_at, totals = arguments
        own = pointer(context, builder, kinds[0], a, a_at, DOUBLE)
        other = pointer(context, builder, kinds[2], b, b_at, _DOUBLES)
        of_rows = pointer(context, builder, kinds[5], a_scales, a_scale_at, DOUBLE)
        of_columns = pointer(context, builder, kinds[7], b_scales, b_scale_at, _DOUBLES)
        to = pointer(context, builder, kinds[9], totals, INT64(0), _FLOATS)
        zero = ir.Constant(_DOUBLES, [0.0] * _LANES)
        loop = Loop(builder, count, [zero] * (ROWS * _VECTORS))
        row, column = builder.mul(loop.index, INT64(ROWS)), builder.mul(loop.index, INT64(_VECTORS))
        columns = [load(builder, other, builder.add(column, INT64(vector))) for vector in range(_VECTORS)]
        sums = []
        for place in range(ROWS):
            factor = everywhere(builder, load(builder, own, builder.add(row, INT64(place))), _LANES)
            for vector in range(_VECTORS):
                sums.append(fma(builder, factor, columns[vector], loop.carried[place * _VECTORS + vector]))
        sums = loop.end(sums)
        columns = [load(builder, of_columns, vector) for vector in range(_VECTORS)]
        for place in range(ROWS):
            row = everywhere(builder, load(builder, of_rows, place), _LANES)
            for vector in range(_VECTORS):
                index = place * _VECTORS + vector
                scaled = builder.fmul(sums[index], builder.fmul(row, columns[vector]))
                # a zero addend counts as +0 whatever the sign of the scale
                addend = builder.fadd(scaled, zero)
                store(builder, _add_once(builder, load(builder, to, index), addend), to, index)
        return context.get_dummy_value()

    signature = types.void(
        a, types.intp, b, types.intp, types.intp, a_scales, types.intp, b_scales, types.intp, totals
    )  # fmt: skip
    return signature, emit


@njit(cache=True)
def _decode(
    codes: NDArray[np.uint16], table: NDArray[np.float64], first: int, start: int, count: int, width: int, at: int,
    out: NDArray[np.float64],
) -> None:  # fmt: skip
    """Put the values of `count` codes of `width` rows from `first` into a panel [count, width] of `out`, from `at`."""
    for row in range(min(width, codes.shape[0] - first)):
        for k in range(count):
            out[at + k * width + row] = table[codes[first + row, start + k]]


@njit(cache=True)
def _take_scales(
    scales: NDArray[np.float64], first: int, start: int, count: int, width: int, at: int, out: NDArray[np.float64]
) -> None:
    """Put the scales of `count` blocks of `width` rows from `first` into a panel [count, width] of `out`, from `at`."""
    for row in range(min(width, scales.shape[0] - first)):
        for index in range(count):
            out[at + index * width + row] = scales[first + row, start + index]


@njit(cache=True, parallel=True)
def _gemm(
    a: NDArray[np.uint16], b: NDArray[np.uint16], a_table: NDArray[np.float64], b_table: NDArray[np.float64],
    a_scales: NDArray[np.float64], b_scales: NDArray[np.float64], block: int, chunk: int, a_out: NDArray[np.float32],
    b_out: NDArray[np.float32], height: int, out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fill `out` [M, N], parallel over groups of columns and bands of `height` row panels, `chunk` blocks at a time."""
    row_panels, column_panels = -(-out.shape[0] // ROWS), -(-out.shape[1] // COLUMNS)
    bands, blocks, depth = -(-row_panels // height), a_scales.shape[1], chunk * block
    for task in prange(-(-column_panels // GROUP) * bands):
        first, top = task // bands * GROUP, task % bands * height
        rows, columns = np.zeros(depth * ROWS), np.zeros(GROUP * depth * COLUMNS)
        row_scales, column_scales = np.zeros(chunk * ROWS), np.zeros(GROUP * chunk * COLUMNS)
        totals = np.empty(TILE, np.float32)
        for start in range(0, blocks, chunk):
            count = min(chunk, blocks - start)
            panels = min(GROUP, column_panels - first)
            for j in range(panels):
                n = (first + j) * COLUMNS
                _decode(b, b_table, n, start * block, count * block, COLUMNS, j * depth * COLUMNS, columns)
                _take_scales(b_scales, n, start, count, COLUMNS, j * chunk * COLUMNS, column_scales)
            for i in range(top, min(top + height, row_panels)):
                _decode(a, a_table, i * ROWS, start * block, count * block, ROWS, 0, rows)
                _take_scales(a_scales, i * ROWS, start, count, ROWS, 0, row_scales)
                row_count = min(ROWS, out.shape[0] - i * ROWS)
                for j in range(panels):
                    left = (first + j) * COLUMNS
                    column_count = min(COLUMNS, out.shape[1] - left)
                    totals[:] = 0.0
                    if start > 0:
                        for row in range(row_count):
                            for n in range(column_count):
                                totals[row * COLUMNS + n] = out[i * ROWS + row, left + n]
                    for index in range(count):
                        add_scaled_block(
                            rows, index * block * ROWS, columns, (j * depth + index * block) * COLUMNS, block,
                            row_scales, index * ROWS, column_scales, (j * chunk + index) * COLUMNS, totals,
                        )  # fmt: skip
                    for row in range(row_count):
                        m = i * ROWS + row
                        for n in range(column_count):
                            total = totals[row * COLUMNS + n]
                            if start + count == blocks:
                                total = scale_result(total, a_out[m], b_out[left + n])
                            out[m, left + n] = total


def gemm(
    codes: tuple[NDArray[np.uint16], NDArray[np.uint16]],
    tables: tuple[NDArray[np.float64], NDArray[np.float64]],
    scales: tuple[NDArray[np.float64], NDArray[np.float64]],
    block: int,
    a_out: NDArray[np.float32],
    b_out: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [M, N] with block dot products; operands in pairs, A first: codes [rows, K], the value of every code.

    Scales [rows, K / block]; `a_out` [M] and `b_out` [N] are ones where the unit has no output scale.

    Exactness
    ---------
    Sums of a block's products on the grid of the smallest one are exact in float64 where they take at most 53 bits, in
    any order, and so are their products with the scales where these take no more.
    """
    height = band(out.shape[0], out.shape[1], ROWS, COLUMNS * GROUP)
    _gemm(*codes, *tables, *scales, block, max(1, CHUNK // block), a_out, b_out, height, out)

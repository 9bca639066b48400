# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Exact sums of products of 16-bit integers, two at a time, in the registers of a tile of ROWS x COLUMNS outputs.

A sum of two products is one instruction where the processor has it (AVX-512 VNNI, AVX2, Arm); LLVM finds it in the
plain vector code emitted here, so that other processors run the same code. Operands are packed first: `pack`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hwsim.pe._vector_ir import FLOAT, INT16, INT32, INT64, Loop, everywhere, fma, load, pointer, store

ROWS = 8
"""Rows of A in a tile. With COLUMNS, half of 32 vector registers of 16 numbers hold its sums."""
COLUMNS = 32
"""Rows of B, columns of the output, in a tile."""
TILE = ROWS * COLUMNS
STRIP = 32
"""Codes of a row that are packed before the next row's, so that the cache lines written stay in the first level."""

_LANES = 16
_VECTORS = COLUMNS // _LANES
_SUMS, _PAIRS = ir.VectorType(INT32, _LANES), ir.VectorType(INT16, 2 * _LANES)
_PRODUCTS, _FLOATS = ir.VectorType(INT32, 2 * _LANES), ir.VectorType(FLOAT, _LANES)


@njit(cache=True, parallel=True)
def pack(
    codes: NDArray[np.integer], table: NDArray[np.int16], zeros: NDArray[np.integer], has_zeros: bool, block: int,
    width: int, out: NDArray[np.int16],
) -> None:  # fmt: skip
    """Fill `out` with the integers of codes [rows, K], less the zero point of their block: panels of `width` rows.

    A panel has pairs of integers, neighbours in K, of all its rows: [panels, K / block, pairs, width, 2]. `out` comes
    as zeros, which stay behind the last row and behind the last integer of a block of odd length.
    """
    half = (block + 1) // 2
    blocks = codes.shape[1] // block
    for panel in prange(-(-codes.shape[0] // width)):
        first = panel * width
        for start in range(0, codes.shape[1], STRIP):
            for row in range(first, min(first + width, codes.shape[0])):
                for k in range(start, min(start + STRIP, codes.shape[1])):
                    index = k // block
                    within = k - index * block
                    value = table[codes[row, k]]
                    if has_zeros:
                        value -= np.int16(zeros[row, index])
                    at = ((panel * blocks + index) * half + within // 2) * width + row - first
                    out[2 * at + within % 2] = value


def _sums(builder: Any, a: ir.Value, b: ir.Value, pairs: ir.Value, start: list[ir.Value]) -> list[ir.Value]:
    """Emit the loop over pairs; return the sums of a tile, row by row, as vectors of int32."""
    even, odd = (ir.Constant(_SUMS, list(range(first, 2 * _LANES, 2))) for first in (0, 1))
    undefined = ir.Constant(_PRODUCTS, ir.Undefined)
    loop = Loop(builder, pairs, start)
    row, column = builder.mul(loop.index, INT64(ROWS)), builder.mul(loop.index, INT64(_VECTORS))
    columns = [
        builder.sext(load(builder, b, builder.add(column, INT64(vector))), _PRODUCTS) for vector in range(_VECTORS)
    ]
    totals = []
    for place in range(ROWS):
        pair = everywhere(builder, load(builder, a, builder.add(row, INT64(place))), _LANES)
        factors = builder.sext(builder.bitcast(pair, _PAIRS), _PRODUCTS)
        for vector in range(_VECTORS):
            products = builder.mul(factors, columns[vector])
            both = (builder.shuffle_vector(products, undefined, half) for half in (even, odd))
            totals.append(builder.add(loop.carried[place * _VECTORS + vector], builder.add(*both)))
    return loop.end(totals)


@intrinsic
def add_pairs(typing_context: Any, a: Any, a_at: Any, b: Any, b_at: Any, pairs: Any, sums: Any) -> Any:
    """sums[row, column] += products of `pairs` (at least 1) pairs of a panel of A from a_at and one of B from b_at.

    All arrays have one axis: a and b are int16 as `pack` leaves them, sums int32 [TILE].
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        a, a_at, b, b_at, pairs, sums = arguments
        own = pointer(context, builder, kinds[0], a, a_at, INT32)
        other = pointer(context, builder, kinds[2], b, b_at, _PAIRS)
        to = pointer(context, builder, kinds[5], sums, INT64(0), _SUMS)
        start = [load(builder, to, index) for index in range(ROWS * _VECTORS)]
        for index, total in enumerate(_sums(builder, own, other, pairs, start)):
            store(builder, total, to, index)
        return context.get_dummy_value()

    return types.void(a, types.intp, b, types.intp, types.intp, sums), emit


@intrinsic
def add_scaled_pairs(
    typing_context: Any, a: Any, a_at: Any, b: Any, b_at: Any, pairs: Any, a_scales: Any, a_scale_at: Any,
    b_scales: Any, b_scale_at: Any, totals: Any,
) -> Any:  # fmt: skip
    """totals[row, column] = fma(sum of products, a_scale * b_scale, total) in float32, the sum as of `add_pairs`.

    One rounding, if float32 holds the sum and the product of the scales. Scales are those of the tile's rows and
    columns, float32 from a_scale_at and b_scale_at; totals float32 [TILE].
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        a, a_at, b, b_at, pairs, a_scales, a_scale_at, b_scales, b_scale_at, totals = arguments
        own = pointer(context, builder, kinds[0], a, a_at, INT32)
        other = pointer(context, builder, kinds[2], b, b_at, _PAIRS)
        of_rows = pointer(context, builder, kinds[5], a_scales, a_scale_at, FLOAT)
        of_columns = pointer(context, builder, kinds[7], b_scales, b_scale_at, _FLOATS)
        to = pointer(context, builder, kinds[9], totals, INT64(0), _FLOATS)
        sums = _sums(builder, own, other, pairs, [ir.Constant(_SUMS, [0] * _LANES)] * (ROWS * _VECTORS))
        columns = [load(builder, of_columns, vector) for vector in range(_VECTORS)]
        for place in range(ROWS):
            row = everywhere(builder, load(builder, of_rows, place), _LANES)
            for vector in range(_VECTORS):
                index = place * _VECTORS + vector
                scale, block_sum = builder.fmul(row, columns[vector]), builder.sitofp(sums[index], _FLOATS)
                store(builder, fma(builder, block_sum, scale, load(builder, to, index)), to, index)
        return context.get_dummy_value()

    signature = types.void(
        a, types.intp, b, types.intp, types.intp, a_scales, types.intp, b_scales, types.intp, totals
    )  # fmt: skip
    return signature, emit

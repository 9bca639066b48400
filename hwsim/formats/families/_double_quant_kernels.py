# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels that compress block scales."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hwsim.formats.families._table_kernels import guided_blocks


@njit(cache=True)
def mean_scale(scales):
    """Return the mean of float32 scales [rows, blocks]: float64 sums, one a row, then of the rows; rounded once."""
    total = 0.0
    for row in range(scales.shape[0]):
        here = 0.0
        for column in range(scales.shape[1]):
            here += np.float64(scales[row, column])
        total += here
    return np.float32(total / scales.size)


@njit(cache=True)
def nearest_rank(value, top, borders, ties):
    """Return the rank of a value among borders times `top`; the products are exact, so the comparison is."""
    low, high = 0, borders.size
    while low < high:
        middle = (low + high) // 2
        border = borders[middle] * np.float64(top)
        reached = value > border or (value == border and (ties == 1 or (ties == 2 and middle % 2 == 1)))
        low, high = (middle + 1, high) if reached else (low, middle)
    return low


@njit(cache=True, parallel=True)
def compress_scales(scales, block, offset, borders, ties, guide, order, zero_rank, codes, outer):
    """Store the codes and outer scales of float32 scales [n] less an offset."""
    for index in prange(outer.size):
        first, last = index * block, min((index + 1) * block, scales.size)
        rest, here = scales[first:last] - offset, codes[first:last]
        top = np.float32(0)
        for i in range(rest.size):
            top = max(top, abs(rest[i]))
        outer[index] = top
        done = np.ones(1, np.uint8)
        guided_blocks(rest, rest.size, np.full(1, np.float64(top)), guide, False, 8, order, done, here)
        if not done[0]:
            for i in range(rest.size):
                rank = nearest_rank(np.float64(rest[i]), top, borders, ties) if top > 0 else zero_rank
                here[i] = order[rank]


@njit(cache=True, parallel=True)
def expand_scales(codes, values, outer, block, offset, out):
    """Decode scales [n]: the product of value and outer scale is rounded to float32, then its sum with the offset."""
    for index in prange(outer.size):
        for i in range(index * block, min((index + 1) * block, codes.size)):
            out[i] = np.float32(values[codes[i]] * np.float64(outer[index])) + offset

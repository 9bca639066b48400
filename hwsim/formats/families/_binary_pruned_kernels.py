# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of binary pruning: bit columns of groups of 8-bit integers, and the integers back."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True)
def _redundant(low, high, most):
    """Return how many columns behind the first of 8 hold its bits, at most `most`; of integers low .. high."""
    spread = max(high, ~low)  # as wide as any of them, but for the sign
    count = 0
    while count < most and spread < 1 << (6 - count):
        count += 1
    return count


@njit(cache=True)
def _average(group, pruned, most, columns):
    """Replace the lowest columns by their mean, ties to even; return redundant columns and the mean."""
    low, high = group.min(), group.max()
    redundant = _redundant(np.int64(low), np.int64(high), most)
    shift = pruned - redundant
    total = np.int64(0)
    for i in range(group.size):
        total += np.int64(group[i]) & ((1 << shift) - 1)
        columns[i] = np.int64(group[i]) >> shift
    return redundant, np.int64(np.rint(total / group.size))


@njit(cache=True)
def _shifted(group, constant, pruned, most, columns):
    """Round the integers less a constant to their upper columns; return redundant columns and the squared error."""
    low, high = np.int64(group.min()) - constant, np.int64(group.max()) - constant
    redundant = _redundant(max(low, -128), min(high, 127), most)
    shift, error = pruned - redundant, np.int64(0)
    half, top = (1 << shift) >> 1, (1 << (7 - pruned)) - 1
    for i in range(group.size):
        moved = min(max(np.int64(group[i]) - constant, -128), 127)
        columns[i] = min((moved + half) >> shift, top)
        rest = (np.int64(columns[i]) << shift) + constant - np.int64(group[i])
        error += rest * rest
    return redundant, error


@njit(cache=True, parallel=True)
def prune_groups(integers, size, pruned, most, average, reach, mask, codes, redundant, constants):
    """Prune groups of int8 [rows, k]: by the rounded average, or by the constant in -reach .. reach - 1 of least error.

    Stores the codes of the columns that are left, and of each group the number of redundant columns and the constant
    (in 2 * reach codes). Of two constants of the same error the lower is taken.
    """
    for row in prange(integers.shape[0]):
        columns = np.empty(size, np.int64)
        for block in range(integers.shape[1] // size):
            group = integers[row, block * size : (block + 1) * size]
            constant = np.int64(0)
            if average:
                found, constant = _average(group, pruned, most, columns)
            else:
                least = np.int64(1) << 62
                for tried in range(-reach, reach):
                    _, error = _shifted(group, tried, pruned, most, columns)
                    if error < least:
                        least, constant = error, np.int64(tried)
                found, _ = _shifted(group, constant, pruned, most, columns)
            redundant[row, block] = found
            constants[row, block] = constant & (2 * reach - 1)
            for i in range(size):
                codes[row, block * size + i] = columns[i] & mask


@njit(cache=True, parallel=True)
def whole_integers(codes, size, bits, pruned, reach, redundant, constants, out):
    """Store the integer of every weight, [rows, k]: its columns in their place, and its group's constant."""
    for row in prange(codes.shape[0]):
        for block in range(codes.shape[1] // size):
            shift = pruned - np.int64(redundant[row, block])
            constant = (np.int64(constants[row, block]) ^ reach) - reach
            for i in range(block * size, (block + 1) * size):
                out[row, i] = (((np.int64(codes[row, i]) ^ (1 << (bits - 1))) - (1 << (bits - 1))) << shift) + constant


@njit(cache=True, parallel=True)
def under_scales(integers, scales, out):
    """Store each integer times the scale of its row, rounded once to float32."""
    for row in prange(integers.shape[0]):
        for i in range(integers.shape[1]):
            out[row, i] = np.float32(np.float64(integers[row, i]) * scales[row])

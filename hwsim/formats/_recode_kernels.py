# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Kernels of `recode`: rows of a table by code, and sums of digits."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

CHUNK = 1 << 13
"""Codes a thread takes at a time."""


@njit(cache=True, parallel=True)
def look_up(codes, table, out) -> None:
    """Store row ``codes[i]`` of `table` in row i of `out`."""
    for piece in prange(-(-codes.size // CHUNK)):
        start = piece * CHUNK
        c, rows = codes[start : start + CHUNK], out[start : start + CHUNK]
        for i in range(c.size):
            code = np.int64(c[i])
            for term in range(table.shape[1]):
                rows[i, term] = table[code, term]


@njit(cache=True, parallel=True)
def add_up(digits, positions, out) -> None:
    """Store the sum over the terms of digit * 2**position; `positions` has one row for all or one a row of `digits`."""
    step = 0 if positions.shape[0] == 1 else 1
    for piece in prange(-(-out.size // CHUNK)):
        for i in range(piece * CHUNK, min(out.size, (piece + 1) * CHUNK)):
            total = np.int64(0)
            for term in range(digits.shape[1]):
                total += np.int64(digits[i, term]) * (np.int64(1) << np.int64(positions[i * step, term]))
            out[i] = total

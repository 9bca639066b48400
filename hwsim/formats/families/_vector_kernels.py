# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernel that vector formats share: the sum of squares of each row."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, parallel=True)
def row_squares(x, out):
    """Store the sums of the squares of float32 [rows, k] in float64, elements in order; every square is exact."""
    for row in prange(x.shape[0]):
        total = 0.0
        for j in range(x.shape[1]):
            value = np.float64(x[row, j])
            total += value * value
        out[row] = total

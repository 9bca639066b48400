# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of sparse formats: sums of squares over blocks, in float64, elements in ascending order."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, parallel=True)
def block_errors(x, y, block, skip, out):
    """Store the sum of (x - y)**2 over each block of rows, one element of each block left out (-1: none).

    x, y : float32 [rows, k]; out : float64 [rows, k // block].
    """
    for row in prange(x.shape[0]):
        for index in range(out.shape[1]):
            total = 0.0
            for j in range(block):
                error = np.float64(x[row, index * block + j]) - np.float64(y[row, index * block + j])
                total += error * error if j != skip else 0.0
            out[row, index] = total

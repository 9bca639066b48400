# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of `fp_fma`: one product a step, one rounding a step, in ascending K."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from hwsim.pe._accumulate_kernels import add_once
from hwsim.pe._kernels import fma

TILE = 64
"""Outputs of a row that take their steps together."""


@njit(cache=True, parallel=True)
def fused(a: NDArray[np.float32], b: NDArray[np.float32], paired: bool, out: NDArray[np.float32]) -> None:
    """Fill `out` [M, N], float32 sums rounded to nearest: the processor's fused multiply-add.

    `b` is [K, N], or [K, M] when row i meets column i alone (`out` is then [1, M] and `a` [K, M]). A product of zero
    counts as +0, so that with a sum of -0 it makes +0.
    """
    rows, columns = out.shape
    tiles = -(-columns // TILE)
    for task in prange(rows * tiles):
        m, first = task // tiles, task % tiles * TILE
        width = min(TILE, columns - first)
        state = np.zeros(TILE, np.float32)
        for k in range(b.shape[0]):
            other = b[k]
            for n in range(width):
                x, y = (a[k, first + n] if paired else a[m, k]), other[first + n]
                total = fma(x, y, state[n])
                state[n] = np.float32(0) if total == 0 and (x == 0 or y == 0) else total
        for n in range(width):
            out[m, first + n] = state[n] if state[n] == state[n] else np.float32(np.nan)


@njit(cache=True, parallel=True)
def general(
    a: NDArray[np.float32], b: NDArray[np.float32], paired: bool, rule: tuple, out: NDArray[np.float32]
) -> None:
    """Fill `out` as `fused` does, with sums of any format and rounding: products are exact in float64."""
    rows, columns = out.shape
    tiles = -(-columns // TILE)
    for task in prange(rows * tiles):
        m, first = task // tiles, task % tiles * TILE
        width = min(TILE, columns - first)
        state = np.zeros(TILE)
        for k in range(b.shape[0]):
            other = b[k]
            for n in range(width):
                x = np.float64(a[k, first + n] if paired else a[m, k])
                state[n] = add_once(state[n], x * np.float64(other[first + n]) + 0.0, rule)
        for n in range(width):
            out[m, first + n] = np.float32(state[n]) if state[n] == state[n] else np.float32(np.nan)

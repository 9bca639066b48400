# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of schedules over the bit columns of a beat's magnitudes."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray


@njit(cache=True, parallel=True)
def columns_in_use(masks: NDArray[np.uint16], out: NDArray[np.int64]) -> None:
    """Fill `out` [beats] with the columns in which some lane of `masks` [beats, lanes] has a one, at least 1."""
    for beat in prange(len(masks)):
        union, count = np.uint32(0), 0
        for lane in range(masks.shape[1]):
            union |= np.uint32(masks[beat, lane])
        while union:
            union &= union - np.uint32(1)
            count += 1
        out[beat] = max(count, 1)


@njit(cache=True, parallel=True)
def fullest_column(masks: NDArray[np.uint16], bits: int, out: NDArray[np.int64]) -> None:
    """Fill `out` [beats] with the most ones of a column of `masks` [beats, lanes], at least 1."""
    for beat in prange(len(masks)):
        most = 1
        for place in range(bits):
            count = 0
            for lane in range(masks.shape[1]):
                count += (masks[beat, lane] >> place) & 1
            most = max(most, count)
        out[beat] = most

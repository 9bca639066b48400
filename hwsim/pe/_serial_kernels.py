# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of serial units' schedules."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray


@njit(cache=True, parallel=True)
def synchronised_oneffsets(masks: NDArray[np.uint32], reach: int, out: NDArray[np.int64]) -> None:
    """Fill `out` [beats] with the cycles in which lanes work off the set bits of their masks [beats, lanes].

    In a cycle each lane takes its lowest bit, if that is less than `reach` places above the lowest of all lanes.
    """
    for beat in prange(len(masks)):
        left = masks[beat].copy()
        cycles = 0
        while True:
            union = np.uint32(0)
            for lane in range(len(left)):
                union |= left[lane]
            if union == 0:
                break
            window = ((union & (~union + np.uint32(1))) << np.uint32(reach)) - np.uint32(1)
            for lane in range(len(left)):
                lowest = left[lane] & (~left[lane] + np.uint32(1))
                if lowest & window:
                    left[lane] ^= lowest
            cycles += 1
        out[beat] = max(cycles, 1)

# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernel of the schedule of `laconic`."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray


@njit(cache=True, parallel=True)
def most_pairs(a_terms: NDArray[np.uint8], b_terms: NDArray[np.uint8], out: NDArray[np.int64]) -> None:
    """Fill `out` [beats] with the largest product, at least 1, of two counts of a lane, each [beats, lanes]."""
    for beat in prange(len(out)):
        most = np.uint8(1)  # at most 8 * 8 terms of 16 bits
        for lane in range(a_terms.shape[1]):
            most = max(most, np.uint8(a_terms[beat, lane] * b_terms[beat, lane]))
        out[beat] = most

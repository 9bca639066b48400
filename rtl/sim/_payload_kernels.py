# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernel of `payload.pack_words`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def add_field(values: NDArray[np.integer], bits: int, offset: int, words: NDArray[np.uint32]) -> None:
    """OR integers [beats, count] of at most 32 bits into words [beats, words], the first one at bit `offset`."""
    for beat in range(values.shape[0]):
        for index in range(values.shape[1]):
            low = offset + index * bits
            word, shift = low >> 5, low & 31
            spread = np.uint64(values[beat, index]) << np.uint64(shift)
            words[beat, word] |= np.uint32(spread & np.uint64(0xFFFFFFFF))
            if shift + bits > 32:
                words[beat, word + 1] |= np.uint32(spread >> np.uint64(32))

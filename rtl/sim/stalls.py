"""Draw when a stream's two sides are willing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WILLING = (0.05, 0.3, 0.7, 1.0)
"""Chances of a cycle, from nearly blocked to free: bursts of each meet full, empty and half-filled pipelines."""
_SEGMENT_CYCLES = (4, 64)


def draw_willing(generator: np.random.Generator, cycles: int) -> NDArray[np.bool_]:
    """Return for each cycle whether a side may start (offer a beat, or take a result), bool [cycles].

    Segments of random length have one of `_WILLING` each. At least one cycle is willing.
    """
    willing = np.empty(cycles, np.bool_)
    start = 0
    while start < cycles:
        end = start + int(generator.integers(*_SEGMENT_CYCLES))
        part = willing[start:end]
        part[:] = generator.random(len(part)) < generator.choice(_WILLING)
        start = end
    willing[generator.integers(cycles)] = True
    return willing

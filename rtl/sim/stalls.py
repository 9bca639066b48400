"""Draw when a stream's two sides are willing, and say when a stalled stream has hung."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtl.sim.job import Willing

_WILLING = (0.05, 0.3, 0.7, 1.0)
"""Chances of a cycle, from nearly blocked to free: bursts of each meet full, empty and half-filled pipelines."""
_SEGMENT_CYCLES = (4, 64)
_PATTERN_CYCLES = 1 << 14
"""Length of a pattern before it repeats."""
_CYCLES_A_TRANSFER = 16
"""Far above the 2 to 4 that two sides take which are each willing in half of all cycles."""
_PATIENCE_CYCLES = 4096


def draw_stalls(generator: np.random.Generator) -> Willing:
    """Return random stalls on both sides."""
    return Willing(*(draw_willing(generator, _PATTERN_CYCLES) for _ in range(2)))


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


def patience_cycles(transfers: int) -> int:
    """Return cycles after which a stream that still has not made its transfers, stalls included, has hung."""
    return _CYCLES_A_TRANSFER * transfers + _PATIENCE_CYCLES

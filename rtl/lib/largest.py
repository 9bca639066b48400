"""Find the largest of several numbers."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal


def largest_of(m: Module, numbers: Sequence[Signal]) -> Signal:
    """Return the largest of numbers of one shape, found in a tree; adds what logic it takes to ``m``.

    Raises
    ------
    ValueError
        If there is no number.
    """
    if not numbers:
        raise ValueError("largest_of needs at least one number, not none")
    level, count = list(numbers), 0
    while len(level) > 1:
        pairs = []
        for left, right in zip(level[::2], level[1::2], strict=False):
            larger = Signal.like(left, name=f"larger_{count}")
            count += 1
            m.d.comb += larger.eq(Mux(left < right, right, left))
            pairs.append(larger)
        level = pairs + ([level[-1]] if len(level) % 2 else [])
    return level[0]

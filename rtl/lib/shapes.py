"""Shapes of integers by their bounds."""

from __future__ import annotations

from amaranth.hdl import Shape, signed, unsigned


def shape_of(low: int, high: int) -> Shape:
    """Return the narrowest shape, of at least one bit, that holds every integer of a span and 0.

    As ``range`` does, but for integers of any size.
    """
    if low < 0:
        return signed(max((-low - 1).bit_length(), max(high, 0).bit_length()) + 1)
    return unsigned(max(high.bit_length(), 1))

"""Find the lowest bit of a word that is set."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value


def lowest_one(m: Module, word: Value, name: str) -> Signal:
    """Return the word with only its lowest set bit left, 0 for 0; adds what logic it takes to ``m``."""
    found = Signal(len(word), name=name)
    m.d.comb += found.eq(word & (~word + 1))
    return found


def place_of(one_hot: Value) -> Value:
    """Return the number of the one bit that is set; 0 for 0."""
    bits = max((len(one_hot) - 1).bit_length(), 1)
    return Cat(Cat(one_hot[place] for place in range(len(one_hot)) if place >> bit & 1).any() for bit in range(bits))

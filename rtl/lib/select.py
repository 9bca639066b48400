"""Choose one of several words by its number."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Mux, Value


def select(words: Sequence[Value], index: Value) -> Value:
    """Return the word of that number, from a tree of multiplexers.

    Parameters
    ----------
    words : sequence of Value
        One or more.
    index : Value
        Unsigned, below their number.

    Returns
    -------
    Value
        An expression. (A switch over registers would become a process that a Verilog simulator may not run before one
        of them changes, and so an unknown value where they all keep the one of their reset.)

    Raises
    ------
    ValueError
        If there is no word.
    """
    if not words:
        raise ValueError("select needs at least one word, not none")
    level, bit = list(words), 0
    while len(level) > 1:
        pairs = [Mux(index[bit], high, low) for low, high in zip(level[::2], level[1::2], strict=False)]
        level, bit = pairs + level[len(level) & ~1 :], bit + 1
    return level[0]

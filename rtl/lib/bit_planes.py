"""Single bits of integers: taken out of many words at once, and counted."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned

from hwsim.pe._dot import AdderTree
from rtl.lib.adder_tree import Tree


def plane(words: Sequence[Value], place: int) -> Value:
    """Return the bit at a place of every word, that of the first word lowest; above a word's bits, its sign (or 0)."""

    def bit(word: Value) -> Value:
        if place < len(word):
            return word[place]
        return word[-1] if word.shape().signed else Const(0, 1)

    return Cat(bit(Value.cast(word)) for word in words)


def popcount(m: Module, kind: AdderTree, bits: Value, name: str) -> Signal:
    """Return how many bits are set, summed in a `Tree` of that kind."""
    return Tree(m, kind, unsigned(len(bits).bit_length()), name).total([bits[place] for place in range(len(bits))])


def highest_in_turn(
    m: Module, *, en: Value, load: Value, new: Value, width: int, name: str, take: int = 1, move: Value | None = None
) -> Value:
    """Return the highest bits of a word, in the step behind those that were next, round and round.

    Parameters
    ----------
    m : Module
        Receives the register.
    en, load : Value
        Move; take the word `new`, whose first bits come in the next step.
    new : Value
        Sign-extended (or filled up with 0) to `width`.
    width : int
    name : str
        Of the register.
    take : int
        Bits a step; divides `width`.
    move : Value, optional
        Whether the step ends; each cycle does, if not given.
    """
    word = Signal(width, name=name)
    after = word.rotate_left(take) if take < width else word
    if move is not None:
        after = Mux(move, after, word)
    extended = Signal(width, name=f"{name}_new")
    m.d.comb += extended.eq(new)
    with m.If(en):
        m.d.sync += word.eq(Mux(load, extended, after))
    return word[width - take :]

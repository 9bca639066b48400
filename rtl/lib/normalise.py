"""Count leading zeros and shift them out."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Normalise(wiring.Component):
    """Shift a word left until its top bit is set, and tell by how much.

    Parameters
    ----------
    width : int
        Bits of the word, at least 1.

    Ports
    -----
    value : In(width)
    count : Out(range(width + 1))
        Leading zeros of ``value``; ``width`` when it is zero.
    normalised : Out(width)
        ``value << count``.

    Hardware
    --------
    Combinational: one OR and one multiplexer for each bit of ``count``, largest step first.
    """

    def __init__(self, width: int) -> None:
        if width < 1:
            raise ValueError(f"width must be at least 1, not {width!r}")
        self.width = width
        super().__init__({"value": In(width), "count": Out(range(width + 1)), "normalised": Out(width)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        word = self.value
        found = []  # bits of the count of a word that is not zero, most significant first
        for step in reversed([1 << bit for bit in range((self.width - 1).bit_length())]):
            empty = Signal(name=f"empty_{step}")
            shifted = Signal(self.width, name=f"shifted_{step}")
            m.d.comb += [
                empty.eq(~word[-step:].any()),
                shifted.eq(Mux(empty, Cat(Const(0, step), word)[: self.width], word)),
            ]
            found.append(empty)
            word = shifted
        m.d.comb += [
            self.normalised.eq(word),
            self.count.eq(Mux(self.value.any(), Cat(reversed(found)), self.width)),
        ]
        return m

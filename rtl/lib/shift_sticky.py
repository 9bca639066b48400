"""Shift right and keep the memory of every bit that fell out."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class ShiftRightSticky(wiring.Component):
    """Shift right; OR the bits that fall out into the lowest bit.

    Parameters
    ----------
    width : int
        Bits of the word.
    max_amount : int
        Largest shift asked for. Shifts of ``width`` and more all leave only the sticky bit.

    Ports
    -----
    value : In(width)
    amount : In(range(max_amount + 1))
    shifted : Out(width)

    Exactness
    ---------
    Let u be the weight of the lowest bit after the shift. The output is the exact quotient where that is a multiple of
    u, and otherwise the odd multiple of u next to it; both then lie strictly between the same even multiples of u.
    Adding any multiple of 2u to both keeps that true, so a later rounding whose half quantum is a multiple of 2u gives
    the same result from the output as from the exact quotient.

    Hardware
    --------
    Combinational: one multiplexer and one OR for each bit of ``amount`` that can leave a bit of the word in place.
    """

    def __init__(self, width: int, max_amount: int) -> None:
        if width < 2 or max_amount < 1:
            raise ValueError(f"width must be at least 2 and max_amount at least 1, not {width!r} and {max_amount!r}")
        self.width = width
        super().__init__({"value": In(width), "amount": In(range(max_amount + 1)), "shifted": Out(width)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        word = self.value
        steps = [(bit, 1 << bit) for bit in range(len(self.amount)) if 1 << bit < self.width]
        for bit, step in steps:
            shifted = Signal(self.width, name=f"shifted_{step}")
            lost = word[: step + 1].any()  # the bits that fall out, and the sticky bit's old place
            m.d.comb += shifted.eq(Mux(self.amount[bit], Cat(lost, word[step + 1 :], Const(0, step)), word))
            word = shifted
        beyond = self.amount[len(steps) :].any() if len(self.amount) > len(steps) else Const(0)
        m.d.comb += self.shifted.eq(Mux(beyond, self.value.any(), word))
        return m

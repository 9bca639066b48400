"""Shift several significands down to the largest of their exponents."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.lib.largest import largest_of
from rtl.lib.shift_sticky import ShiftRightSticky


class AlignTerms(wiring.Component):
    """Align significands to the largest exponent, zeros included, with a few bits kept below.

    Parameters
    ----------
    lanes : int
    width : int
        Bits of a significand.
    max_exponent : int
        Largest exponent; the smallest is 0.
    guard_bits : int
        Bits kept below a significand.
    sticky : bool
        Whether the last of them remembers what was shifted out below it; else that is dropped.

    Ports
    -----
    significand_<i> : In(width)
    negative_<i> : In(1)
    exponent_<i> : In(range(max_exponent + 1))
    aligned_<i> : Out(signed(width + guard_bits + 1))
        In units of ``2**(largest - guard_bits)`` of a significand's last place at exponent 0.
    largest : Out(range(max_exponent + 1))


    Hardware
    --------
    Combinational: a tree of maxima, and a subtraction, a right shifter and a negation a lane.
    """

    def __init__(self, lanes: int, width: int, max_exponent: int, guard_bits: int, sticky: bool) -> None:
        self.lanes, self.width, self.guard_bits, self.sticky = lanes, width, guard_bits, sticky
        self.max_exponent = max_exponent
        exponent = range(max_exponent + 1)
        ports = {"largest": Out(exponent)}
        for lane in range(lanes):
            ports |= {
                f"significand_{lane}": In(width),
                f"negative_{lane}": In(1),
                f"exponent_{lane}": In(exponent),
                f"aligned_{lane}": Out(signed(width + guard_bits + 1)),
            }
        super().__init__(ports)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        exponents = [getattr(self, f"exponent_{lane}") for lane in range(self.lanes)]
        m.d.comb += self.largest.eq(largest_of(m, exponents))
        for lane, exponent in enumerate(exponents):
            word = Cat(Const(0, self.guard_bits), getattr(self, f"significand_{lane}"))
            amount = Signal(range(self.max_exponent + 1), name=f"amount_{lane}")
            kept = Signal(len(word), name=f"kept_{lane}")
            m.d.comb += [amount.eq(self.largest - exponent), kept.eq(self._shifted(m, lane, word, amount))]
            m.d.comb += getattr(self, f"aligned_{lane}").eq(Mux(getattr(self, f"negative_{lane}"), -kept, kept))
        return m

    def _shifted(self, m: Module, lane: int, word: Value, amount: Signal) -> Value:
        if not self.sticky:
            return word >> amount
        m.submodules[f"shift_{lane}"] = shift = ShiftRightSticky(len(word), self.max_exponent)
        m.d.comb += [shift.value.eq(word), shift.amount.eq(amount)]
        return shift.shifted

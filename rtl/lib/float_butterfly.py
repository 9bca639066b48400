"""Add and subtract two floating-point numbers at once, each result with one rounding."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats.spec import FloatSpec
from rtl.lib.element_round import ElementRound
from rtl.lib.float_fields import FloatFields, inf_word, max_exponent, min_exponent, nan_word
from rtl.lib.shift_sticky import ShiftRightSticky

GUARD_BITS = 3
"""Bits kept under the smaller operand: one for a lost leading bit, one for the half quantum, one for the sticky bit."""


class FloatButterfly(wiring.Component):
    """Form ``a + b`` and ``a - b``, both rounded to nearest, ties to even.

    Parameters
    ----------
    element : FloatSpec
        Format of operands and results: IEEE-like, such as FP16.

    Ports
    -----
    a, b : In(element.bits)
    sum, difference : Out(element.bits)
        Subnormals kept, overflow to infinity, every NaN the canonical one; an exact zero is +0 unless both terms are
        zeros of negative sign.

    Exactness
    ---------
    IEEE 754-2019, 5.4.1 addition and subtraction, roundTiesToEven.

    Hardware
    --------
    Combinational. Both results share the swap and the alignment; one of them is the sum of the magnitudes, the other
    their difference.
    """

    def __init__(self, element: FloatSpec) -> None:
        self.element = element
        super().__init__(
            {
                "a": In(element.bits),
                "b": In(element.bits),
                "sum": Out(element.bits),
                "difference": Out(element.bits),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        a, b = FloatFields(m, self.a, self.element, "a"), FloatFields(m, self.b, self.element, "b")
        low, high = min_exponent(self.element), max_exponent(self.element) + 1  # Inf and NaN stand one above
        span = high - low
        precision = len(a.significand)
        width = precision + GUARD_BITS

        # swap and align: equal exponents lose nothing, and of different ones the larger number is normal
        distance = Signal(range(-span, span + 1))
        b_leads, exponent = Signal(), Signal.like(a.exponent)
        large, small = Signal(precision), Signal(precision)
        m.submodules.align = align = ShiftRightSticky(width, span)
        m.d.comb += [
            distance.eq(a.exponent - b.exponent),
            b_leads.eq(distance < 0),
            large.eq(Mux(b_leads, b.significand, a.significand)),
            small.eq(Mux(b_leads, a.significand, b.significand)),
            exponent.eq(Mux(b_leads, b.exponent, a.exponent)),
            align.value.eq(Cat(Const(0, GUARD_BITS), small)),
            align.amount.eq(Mux(b_leads, -distance, distance)),
        ]

        # add and subtract magnitudes
        added, taken, magnitude = Signal(width + 1), Signal(range(-(1 << width), 1 << width)), Signal(width + 1)
        m.d.comb += [
            added.eq(Cat(Const(0, GUARD_BITS), large) + align.shifted),
            taken.eq(Cat(Const(0, GUARD_BITS), large) - align.shifted),
            magnitude.eq(abs(taken)),
        ]
        unlike = Signal()
        m.d.comb += unlike.eq(a.sign ^ b.sign)
        for name, port, flipped in (("add", self.sum, unlike), ("sub", self.difference, ~unlike)):
            m.submodules[name] = rounded = ElementRound(
                self.element, width + 1, low + 1, high + 1, overflow="nonsaturating"
            )
            other = b.sign if name == "add" else ~b.sign
            lead = Mux(b_leads, other, a.sign)
            m.d.comb += [
                rounded.exponent.eq(exponent + 1),
                rounded.significand.eq(Mux(flipped, magnitude, added)),
                rounded.sign.eq(Mux(flipped, taken.any() & (lead ^ (taken < 0)), lead)),
            ]
            invalid = a.is_nan | b.is_nan | (a.is_inf & b.is_inf & flipped)
            infinity = Cat(Const(inf_word(self.element), self.element.bits - 1), Mux(a.is_inf, a.sign, other))
            m.d.comb += port.eq(Mux(invalid, nan_word(self.element), Mux(a.is_inf | b.is_inf, infinity, rounded.code)))
        return m

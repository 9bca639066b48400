"""Decode a block scale into an integer and a power of two."""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats.spec import FloatSpec


class ScaleDecoder(wiring.Component):
    """Take a floating-point code apart: ``value = significand * 2^exponent``.

    Parameters
    ----------
    element : FloatSpec
        Number format of the code; every width and constant follows from its facts.

    Attributes
    ----------
    max_significand : int
        Bound on ``abs(significand)``.
    min_exponent, max_exponent : int
        Range of ``exponent`` over the finite codes.

    Ports
    -----
    code : In(element.bits)
    significand : Out(signed)
        Not normalised: a subnormal has leading zeros, and the exponent of the smallest normal number.
    exponent : Out(signed)
        Weight of the significand's lowest bit, as a power of two.
    is_nan : Out(1)
        The code is not finite (infinities count as NaN: no scale may be one). The other outputs then mean nothing.

    Hardware
    --------
    Combinational.
    """

    def __init__(self, element: FloatSpec) -> None:
        self.element = element
        lowest_field = 1 if element.subnormals else 0
        highest_field = element.max_code >> element.man_bits
        self.max_significand = (2 << element.man_bits) - 1
        self.min_exponent = lowest_field - element.bias - element.man_bits
        self.max_exponent = max(highest_field, lowest_field) - element.bias - element.man_bits
        lowest = -self.max_significand if element.signed else 0
        super().__init__(
            {
                "code": In(element.bits),
                "significand": Out(range(lowest, self.max_significand + 1)),
                # a range of one value would have no bits
                "exponent": Out(range(self.min_exponent, max(self.max_exponent, self.min_exponent + 1) + 1)),
                "is_nan": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        element = self.element
        mantissa = self.code[: element.man_bits]
        field = self.code[element.man_bits : element.man_bits + element.exp_bits]
        magnitude_code = self.code[: element.man_bits + element.exp_bits]

        no_hidden_bit = Signal()
        if element.subnormals:
            m.d.comb += no_hidden_bit.eq(field == 0)
        elif element.has_zero:
            m.d.comb += no_hidden_bit.eq(magnitude_code == 0)
        magnitude = Cat(mantissa, ~no_hidden_bit)
        refused = magnitude_code > element.max_code
        if element.nan_code is not None:  # a NaN in the place of a negative zero lies below the largest code
            refused = refused | (self.code == element.nan_code)
        m.d.comb += [
            self.significand.eq(Mux(self.code[-1], -magnitude, magnitude) if element.signed else magnitude),
            self.exponent.eq(
                (field | (no_hidden_bit if element.subnormals else 0)) - (element.bias + element.man_bits)
            ),
            self.is_nan.eq(refused),
        ]
        return m

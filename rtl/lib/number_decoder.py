"""Decode an element or a block scale into an integer and a power of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats import FloatSpec, IntSpec


@dataclass(frozen=True)
class NumberFacts:
    """Bounds of what a `NumberDecoder` gives.

    Attributes
    ----------
    max_significand : int
        Bound on ``abs(significand)``.
    min_exponent, max_exponent : int
        Range of ``exponent`` over the finite codes.
    frac_bits : int
        Fraction bits of the significand under the exponent that decides alignments: that of a float's hidden bit, 0 for
        integers. So that exponent is ``exponent + frac_bits``.
    """

    max_significand: int
    min_exponent: int
    max_exponent: int
    frac_bits: int

    @classmethod
    def of(cls, element: FloatSpec | IntSpec) -> Self:
        """Return the bounds of an element or scale."""
        if isinstance(element, IntSpec):
            largest = 1 << (element.bits - 1) if element.signed else (1 << element.bits) - 1
            return cls(largest, -element.frac_bits, -element.frac_bits, element.frac_bits)
        lowest, unit = 1 if element.subnormals else 0, element.bias + element.man_bits
        highest = max(element.max_code >> element.man_bits, lowest)
        return cls((2 << element.man_bits) - 1, lowest - unit, highest - unit, element.man_bits)


class NumberDecoder(wiring.Component):
    """Take a code apart: ``value = significand * 2^exponent``.

    Parameters
    ----------
    element : FloatSpec or IntSpec
        Number format of the code; every width and constant follows from its facts.

    Attributes
    ----------
    facts : NumberFacts

    Ports
    -----
    code : In(element.bits)
    significand : Out(signed)
        Not normalised: a subnormal has leading zeros, and the exponent of the smallest normal number.
    exponent : Out(signed)
        Weight of the significand's lowest bit, as a power of two.
    is_nan, is_inf : Out(1)
        The code is not finite. Significand and exponent then mean nothing, but the significand's sign is that of an
        infinity.

    Hardware
    --------
    Combinational.
    """

    def __init__(self, element: FloatSpec | IntSpec) -> None:
        self.element = element
        self.facts = facts = NumberFacts.of(element)
        lowest = -facts.max_significand if element.signed else 0
        super().__init__(
            {
                "code": In(element.bits),
                "significand": Out(range(lowest, facts.max_significand + 1)),
                # a range of one value would have no bits
                "exponent": Out(range(facts.min_exponent, max(facts.max_exponent, facts.min_exponent + 1) + 1)),
                "is_nan": Out(1),
                "is_inf": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        element = self.element
        if isinstance(element, IntSpec):
            m.d.comb += [
                self.significand.eq(self.code.as_signed() if element.signed else self.code),
                self.exponent.eq(self.facts.min_exponent),
            ]
            return m
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
        infinite = magnitude_code == element.inf_code if element.inf_code is not None else Const(0)
        m.d.comb += [
            self.significand.eq(Mux(self.code[-1], -magnitude, magnitude) if element.signed else magnitude),
            self.exponent.eq(
                (field | (no_hidden_bit if element.subnormals else 0)) - (element.bias + element.man_bits)
            ),
            self.is_nan.eq(refused & ~infinite),
            self.is_inf.eq(refused & infinite),
        ]
        return m

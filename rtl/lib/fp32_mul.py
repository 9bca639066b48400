"""Multiply two FP32 numbers."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.lib.fp32 import CANONICAL_NAN, MAX_EXPONENT, MAX_EXPONENT_FIELD, MIN_EXPONENT, PRECISION, Fp32Fields
from rtl.lib.fp32_round import Fp32Round


class Fp32Mul(wiring.Component):
    """Multiply, rounding once to nearest, ties to even.

    Ports
    -----
    x, y : In(32)
    result : Out(32)
        FP32 bits of ``x * y``. NaN in, or infinity times zero: the canonical NaN.

    Exactness
    ---------
    IEEE 754-2019, 5.4.1 multiplication; NaN payloads and signs are not propagated.

    Hardware
    --------
    Combinational.
    """

    def __init__(self) -> None:
        super().__init__({"x": In(32), "y": In(32), "result": Out(32)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        x = Fp32Fields(m, self.x, "x")
        y = Fp32Fields(m, self.y, "y")

        # product: both top bits weigh 2^exponent, so the product's top bit weighs one power more than their sum
        m.submodules.round = rounded = Fp32Round(
            2 * PRECISION, min_exponent=2 * MIN_EXPONENT + 1, max_exponent=2 * (MAX_EXPONENT + 1) + 1
        )
        sign = Signal()
        m.d.comb += [
            sign.eq(x.sign ^ y.sign),
            rounded.sign.eq(sign),
            rounded.exponent.eq(x.exponent + y.exponent + 1),
            rounded.significand.eq(x.significand * y.significand),
        ]

        # special cases
        infinite = x.is_inf | y.is_inf
        with m.If(x.is_nan | y.is_nan | (infinite & (x.is_zero | y.is_zero))):
            m.d.comb += self.result.eq(CANONICAL_NAN)
        with m.Elif(infinite):
            m.d.comb += self.result.eq((sign << 31) | (MAX_EXPONENT_FIELD << (PRECISION - 1)))
        with m.Else():
            m.d.comb += self.result.eq(rounded.result)
        return m

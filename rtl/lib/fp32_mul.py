"""Multiply two FP32 numbers."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe.rounding import FLAG_BITS, FLOAT32
from rtl.lib import float_fields
from rtl.lib.float_fields import FloatFields
from rtl.lib.float_round import FloatRound


class Fp32Mul(wiring.Component):
    """Multiply, rounding once to nearest, ties to even.

    Ports
    -----
    x, y : In(32)
    result : Out(32)
        FP32 bits of ``x * y``. NaN in, or infinity times zero: the canonical NaN.
    flags : Out(4)
        Inexact, underflow, overflow, invalid, least significant first.

    Exactness
    ---------
    IEEE 754-2019, 5.4.1 multiplication; NaN payloads and signs are not propagated.

    Hardware
    --------
    Combinational.
    """

    def __init__(self) -> None:
        super().__init__({"x": In(32), "y": In(32), "result": Out(32), "flags": Out(FLAG_BITS)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        x = FloatFields(m, self.x, FLOAT32, "x")
        y = FloatFields(m, self.y, FLOAT32, "y")

        # product: both top bits weigh 2^exponent, so the product's top bit weighs one power more than their sum
        lowest, highest = float_fields.min_exponent(FLOAT32), float_fields.max_exponent(FLOAT32)
        m.submodules.round = rounded = FloatRound(
            FLOAT32, 2 * (FLOAT32.man_bits + 1), min_exponent=2 * lowest + 1, max_exponent=2 * (highest + 1) + 1
        )
        sign = Signal()
        m.d.comb += [
            sign.eq(x.sign ^ y.sign),
            rounded.sign.eq(sign),
            rounded.exponent.eq(x.exponent + y.exponent + 1),
            rounded.significand.eq(x.significand * y.significand),
        ]

        # special cases
        nan = x.is_nan | y.is_nan
        infinite = x.is_inf | y.is_inf
        invalid = ~nan & infinite & (x.is_zero | y.is_zero)
        infinity = Cat(Const(float_fields.inf_word(FLOAT32), 31), sign)
        word = Mux(nan | invalid, Const(float_fields.nan_word(FLOAT32), 32), infinity)
        m.d.comb += [
            self.result.eq(Mux(nan | infinite, word, rounded.result)),
            self.flags.eq(Mux(nan | infinite, Cat(Const(0, FLAG_BITS - 1), invalid), rounded.flags)),
        ]
        return m

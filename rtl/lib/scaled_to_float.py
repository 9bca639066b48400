"""Round a scaled integer to a float."""

from __future__ import annotations

from typing import Literal

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats import FloatSpec
from hwsim.pe.rounding import FLAG_BITS, FLOAT32
from rtl.lib import special
from rtl.lib.float_fields import FloatFields
from rtl.lib.float_round import FloatRound, min_width
from rtl.lib.shapes import shape_of


class ScaledToFloat(wiring.Component):
    """Form ``value * 2^exponent`` with one rounding: what `FloatFusedAdd` does where its accumulator is always +0.

    Parameters
    ----------
    max_magnitude : int
        Bound on ``abs(value)``.
    min_exponent, max_exponent : int
        Range of ``exponent``.
    fmt : FloatSpec
        Format of the result, IEEE-like.
    rounding, overflow : str
        As for `FloatRound`.

    Ports
    -----
    value : In(signed)
        Exact integer.
    exponent : In(signed)
        Weight of its lowest bit, as a power of two.
    specials : In(4)
        What it met beside numbers, see `rtl.lib.special`.
    result : Out(fmt.bits)
        Zero is +0.
    flags : Out(4)
        Inexact, underflow, overflow, invalid, least significant first.

    Exactness
    ---------
    One rounding, as :func:`hwsim.pe.rounding.add` to +0, bit for bit.

    Hardware
    --------
    Combinational: magnitude, round.
    """

    def __init__(
        self,
        max_magnitude: int,
        min_exponent: int,
        max_exponent: int,
        fmt: FloatSpec = FLOAT32,
        rounding: str = "rne",
        overflow: Literal["ieee", "infinite", "saturate"] = "ieee",
    ) -> None:
        if max_magnitude < 1:
            raise ValueError(f"max_magnitude must be at least 1, not {max_magnitude!r}")
        if min_exponent > max_exponent:
            raise ValueError(f"min_exponent {min_exponent!r} must not exceed max_exponent {max_exponent!r}")
        self.fmt = fmt
        self.magnitude_bits = max_magnitude.bit_length()
        top = self.magnitude_bits - 1
        width = max(self.magnitude_bits, min_width(fmt))
        self.round = FloatRound(fmt, width, min_exponent + top, max_exponent + top, rounding, overflow)
        super().__init__(
            {
                "value": In(shape_of(-max_magnitude, max_magnitude)),
                # at least one bit: Verilog has no ports of none
                "exponent": In(range(min_exponent, max(max_exponent, min_exponent + 1) + 1)),
                "specials": In(special.BITS),
                "result": Out(fmt.bits),
                "flags": Out(FLAG_BITS),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.round = rounded = self.round
        magnitude = abs(self.value)[: self.magnitude_bits]
        m.d.comb += [
            rounded.sign.eq(self.value < 0),
            rounded.exponent.eq(self.exponent + self.magnitude_bits - 1),
            rounded.significand.eq(Cat(Const(0, rounded.width - self.magnitude_bits), magnitude)),
        ]
        zero = FloatFields(m, Const(0, self.fmt.bits), self.fmt, "zero")
        is_special, word, invalid = special.resolve(m, zero, self.specials, self.fmt)
        m.d.comb += [
            self.result.eq(Mux(is_special, word, rounded.result)),
            self.flags.eq(Mux(is_special, Cat(Const(0, FLAG_BITS - 1), invalid), rounded.flags)),
        ]
        return m

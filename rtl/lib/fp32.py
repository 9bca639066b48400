"""Name the fields of an FP32 word (IEEE 754-2019, 3.4, binary32) for the parts that take one apart."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data

PRECISION = 24
"""Bits of a significand, the hidden one counted."""
BIAS = 127
EXPONENT_BITS = 8
MAX_EXPONENT_FIELD = (1 << EXPONENT_BITS) - 1
MIN_EXPONENT = 1 - BIAS
"""Weight (as a power of two) of the leading bit of the smallest normal number, and of every subnormal's hidden zero."""
MAX_EXPONENT = BIAS
CANONICAL_NAN = 0x7FC00000
"""The one NaN that the datapaths produce: quiet, positive, no payload."""

FP32 = data.StructLayout({"fraction": PRECISION - 1, "exponent": EXPONENT_BITS, "sign": 1})


class Fp32Fields:
    """Split an FP32 word into what the operators need; adds its signals to ``m``.

    Parameters
    ----------
    m : Module
        Module that receives the combinational logic.
    word : Value
        FP32 bits, 32 bits.
    name : str
        Prefix of the signals' names.

    Attributes
    ----------
    sign : Value, 1 bit
    significand : Signal, 24 bits
        With the hidden bit, which is 0 for a subnormal: not normalised.
    exponent : Signal, signed
        Weight of the significand's top bit as a power of two: the exponent field less the bias, where a field of 0
        reads as 1 (subnormals share the smallest normal exponent).
    is_nan, is_inf, is_zero : Signal, 1 bit
    """

    def __init__(self, m: Module, word: Value, name: str) -> None:
        view = data.View(FP32, word)
        self.sign = view.sign
        self.significand = Signal(PRECISION, name=f"{name}_significand")
        self.exponent = Signal(range(MIN_EXPONENT, MAX_EXPONENT + 2), name=f"{name}_exponent")
        self.is_nan = Signal(name=f"{name}_is_nan")
        self.is_inf = Signal(name=f"{name}_is_inf")
        self.is_zero = Signal(name=f"{name}_is_zero")
        normal = view.exponent.any()
        special = view.exponent == MAX_EXPONENT_FIELD
        m.d.comb += [
            self.significand.eq(view.fraction | (normal << (PRECISION - 1))),
            self.exponent.eq((view.exponent | ~normal) - BIAS),
            self.is_nan.eq(special & view.fraction.any()),
            self.is_inf.eq(special & ~view.fraction.any()),
            self.is_zero.eq(~normal & ~view.fraction.any()),
        ]

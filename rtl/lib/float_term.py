"""Take a float as a term of a sum."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Value

from hwsim.formats import FloatSpec
from rtl.lib.float_fields import FloatFields, min_exponent


class FloatTerm:
    """Take a word of an IEEE-like format apart: what a sum of integers and powers of two needs of it.

    Parameters
    ----------
    m : Module
        Module that receives the combinational logic.
    word : Value
        Code bits.
    fmt : FloatSpec
    name : str
        Prefix of the signals' names.

    Attributes
    ----------
    integer : Value, signed
        0 for zeros; of no meaning for NaN and Inf.
    low : Value, signed
        Weight of the integer's lowest bit, as a power of two.
    specials : Value, 4 bits
        What it is beside a number, see `rtl.lib.special`.
    """

    def __init__(self, m: Module, word: Value, fmt: FloatSpec, name: str) -> None:
        fields = FloatFields(m, word, fmt, name)
        self.integer = Mux(fields.sign, -fields.significand, fields.significand)
        self.low = fields.exponent - fmt.man_bits
        self.specials = Cat(fields.is_nan, fields.is_inf & ~fields.sign, fields.is_inf & fields.sign, Const(0))


def max_magnitude(fmt: FloatSpec) -> int:
    """Return a bound on the integer of a `FloatTerm`."""
    return (2 << fmt.man_bits) - 1


def low_span(fmt: FloatSpec) -> tuple[int, int]:
    """Return the range of `FloatTerm.low`, NaN and Inf included."""
    lowest = min_exponent(fmt) - fmt.man_bits
    return lowest, lowest + (1 << fmt.exp_bits) - 1

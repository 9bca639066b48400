"""Take a float's word apart, and widen it, for the parts that compute with it."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from hwsim.formats import FloatSpec
from hwsim.pe.rounding import FLOAT32
from rtl.lib.normalise import Normalise


class FloatFields:
    """Split a word of an IEEE-like format into what the operators need; adds its signals to ``m``.

    Parameters
    ----------
    m : Module
        Module that receives the combinational logic.
    word : Value
        Code bits.
    fmt : FloatSpec
        Signed, with subnormals, Inf and NaN.
    name : str
        Prefix of the signals' names.

    Attributes
    ----------
    sign : Value, 1 bit
    significand : Signal
        With the hidden bit, which is 0 for a subnormal: not normalised.
    exponent : Signal, signed
        Weight of the significand's top bit as a power of two: the exponent field less the bias, where a field of 0
        reads as 1 (subnormals share the smallest normal exponent).
    is_nan, is_inf, is_zero : Signal, 1 bit

    Raises
    ------
    ValueError
        If the format is not IEEE-like.
    """

    def __init__(self, m: Module, word: Value, fmt: FloatSpec, name: str) -> None:
        if fmt.special != "ieee" or not fmt.signed or not fmt.subnormals:
            raise ValueError(f"a float's word must be of an IEEE-like format, not {fmt.name}")
        fraction = word[: fmt.man_bits]
        field = word[fmt.man_bits : fmt.man_bits + fmt.exp_bits]
        self.sign = word[fmt.bits - 1]
        self.significand = Signal(fmt.man_bits + 1, name=f"{name}_significand")
        self.exponent = Signal(range(min_exponent(fmt), max_exponent(fmt) + 2), name=f"{name}_exponent")
        self.is_nan = Signal(name=f"{name}_is_nan")
        self.is_inf = Signal(name=f"{name}_is_inf")
        self.is_zero = Signal(name=f"{name}_is_zero")
        normal, special = field.any(), field.all()
        m.d.comb += [
            self.significand.eq(Cat(fraction, normal)),
            self.exponent.eq((field | ~normal) - fmt.bias),
            self.is_nan.eq(special & fraction.any()),
            self.is_inf.eq(special & ~fraction.any()),
            self.is_zero.eq(~normal & ~fraction.any()),
        ]


def min_exponent(fmt: FloatSpec) -> int:
    """Return the weight, as a power of two, of the smallest normal number, and of a subnormal's hidden zero."""
    return 1 - fmt.bias


def max_exponent(fmt: FloatSpec) -> int:
    """Return the weight of the leading bit of the largest number."""
    return (fmt.max_code >> fmt.man_bits) - fmt.bias


def nan_word(fmt: FloatSpec) -> int:
    """Return the one NaN that the datapaths produce: quiet, positive, no payload."""
    assert fmt.nan_code is not None
    return fmt.nan_code


def inf_word(fmt: FloatSpec) -> int:
    """Return the word of +Inf."""
    assert fmt.inf_code is not None
    return fmt.inf_code


def widen(m: Module, word: Value, fmt: FloatSpec) -> Value:
    """Return a word of an IEEE-like format as FP32, which must hold all its numbers; adds what logic it takes to ``m``.

    Formats with FP32's exponent only gain fraction bits. In others subnormals become normal.
    """
    spare = FLOAT32.man_bits - fmt.man_bits
    if fmt.exp_bits == FLOAT32.exp_bits:
        return Cat(Const(0, spare), word)
    fields = FloatFields(m, word, fmt, "narrow")
    m.submodules.widen = normalise = Normalise(fmt.man_bits + 1)
    exponent = Signal(FLOAT32.exp_bits, name="widened_exponent")
    m.d.comb += [
        normalise.value.eq(fields.significand),
        exponent.eq(fields.exponent + FLOAT32.bias - normalise.count),
    ]
    special = fields.is_nan | fields.is_inf
    number = Cat(Const(0, spare), normalise.normalised[: fmt.man_bits], Mux(fields.is_zero, 0, exponent))
    # NaN and Inf keep their fraction under an exponent of ones
    other = Cat(Const(0, spare), word[: fmt.man_bits], Const((1 << FLOAT32.exp_bits) - 1, FLOAT32.exp_bits))
    return Cat(Mux(special, other, number), fields.sign)

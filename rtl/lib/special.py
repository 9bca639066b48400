"""NaN and infinities beside the numbers of a datapath: which of them a sum has met."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from hwsim.formats import FloatSpec
from rtl.lib.float_fields import FloatFields, inf_word, nan_word

BITS = 4
"""Width of a set: NaN, +Inf, -Inf, and whether an invalid operation made the NaN."""
NONE = Const(0, BITS)
"""The set of a finite number."""


class Specials:
    """Name the bits of a set."""

    def __init__(self, bits: Value) -> None:
        self.nan, self.positive, self.negative, self.invalid = bits[0], bits[1], bits[2], bits[3]


def union(sets: Sequence[Value]) -> Value:
    """Return what any of the terms of a sum has met."""
    return reduce(or_, sets, NONE)


def product(a: tuple[Value, Value, Value, Value], b: tuple[Value, Value, Value, Value]) -> Value:
    """Return the set of a product of two factors, each (is_nan, is_inf, is_zero, sign)."""
    nan, inf = a[0] | b[0], a[1] | b[1]
    zero_times_inf = ~nan & inf & (a[2] | b[2])
    sign = a[3] ^ b[3]
    finite_sign = ~nan & inf & ~zero_times_inf
    return Cat(nan | zero_times_inf, finite_sign & ~sign, finite_sign & sign, zero_times_inf)


def less_itself(bits: Value) -> Value:
    """Return the set of a sum that met ``bits``, less a multiple of other terms that met the same, or zero times them.

    So it is with a zero point times the sum of the activations: an infinity leaves NaN, an invalid operation.
    """
    found = Specials(bits)
    infinite = ~found.nan & (found.positive | found.negative)
    return Cat(found.nan | infinite, Const(0, 2), found.invalid | infinite)


def scaled(bits: Value, scale_is_nan: Value, scale_is_zero: Value, scale_sign: Value) -> Value:
    """Return the set of a sum that met ``bits``, times a scale that is NaN or finite."""
    found = Specials(bits)
    opposite = ~found.nan & found.positive & found.negative
    one = ~found.nan & (found.positive ^ found.negative)
    zero_times_inf = one & ~scale_is_nan & scale_is_zero
    keeps = one & ~scale_is_nan & ~scale_is_zero
    return Cat(
        found.nan | scale_is_nan | opposite | zero_times_inf,
        keeps & Mux(scale_sign, found.negative, found.positive),
        keeps & Mux(scale_sign, found.positive, found.negative),
        found.invalid | opposite | zero_times_inf,
    )


def resolve(m: Module, acc: FloatFields, sets: Value, fmt: FloatSpec) -> tuple[Value, Value, Value]:
    """Return (is special, word, invalid) of the sum of an accumulator and terms that met ``sets``."""
    found = Specials(sets)
    nan, positive, negative = Signal(name="any_nan"), Signal(name="any_positive"), Signal(name="any_negative")
    m.d.comb += [
        nan.eq(acc.is_nan | found.nan),
        positive.eq(found.positive | (acc.is_inf & ~acc.sign)),
        negative.eq(found.negative | (acc.is_inf & acc.sign)),
    ]
    opposite = ~nan & positive & negative
    infinity = Cat(Const(inf_word(fmt), fmt.bits - 1), negative)
    word = Mux(nan | opposite, Const(nan_word(fmt), fmt.bits), infinity)
    return nan | positive | negative, word, opposite | found.invalid

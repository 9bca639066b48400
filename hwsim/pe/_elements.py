"""What units need to know of an element or a scale: each code as an integer, an exponent and a class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import ElementSpec, FloatSpec, IntSpec, element, element_values
from hwsim.pe.accumulator import ZERO_EXPONENT

NOT_A_NUMBER, POSITIVE, NEGATIVE = 1, 2, 3
"""Classes of codes, and of sums, that are no finite numbers: NaN, +Inf, -Inf; finite ones have class 0."""


TABLE_BITS = 16
"""Widest codes of which tables are made."""


class Decoded(NamedTuple):
    """One code: `integer` times ``2**-frac_bits`` of its format, or no finite number.

    `exponent` is the weight, as a power of two, of a float's hidden bit (subnormals share the smallest normal one); 0
    for integers. Codes that are not finite have integer 0.
    """

    special: int
    integer: int
    exponent: int


def number_format(name: str) -> FloatSpec | IntSpec:
    """Return an element that a datapath can take apart.

    Raises
    ------
    ValueError
        When it is a table of values, or has more than 32 bits.
    """
    spec = element(name)
    if not isinstance(spec, FloatSpec | IntSpec) or spec.bits > 32:
        raise ValueError(f"element {name}: a datapath takes floats and integers of at most 32 bits")
    return spec


def decode(name: str, codes: Iterable[int]) -> list[Decoded]:
    """Return codes of an element or scale, taken apart."""
    spec = number_format(name)
    if spec.bits > TABLE_BITS:
        return [_decode(spec, code) for code in codes]
    table = decode_table(name)
    return [table[code] for code in codes]


@cache
def decode_table(name: str) -> tuple[Decoded, ...]:
    """Return every code of an element or scale of at most `TABLE_BITS` bits, taken apart."""
    spec = number_format(name)
    assert spec.bits <= TABLE_BITS, name
    return tuple(_decode(spec, code) for code in range(1 << spec.bits))


def _decode(spec: FloatSpec | IntSpec, code: int) -> Decoded:
    if isinstance(spec, IntSpec):
        negative = spec.signed and code >> (spec.bits - 1)
        return Decoded(0, code - (1 << spec.bits) if negative else code, 0)
    magnitude, sign = code & spec.magnitude_mask, spec.signed and code >> (spec.bits - 1)
    if spec.infinite(code):
        return Decoded(NEGATIVE if sign else POSITIVE, 0, ZERO_EXPONENT)
    if magnitude > spec.max_code or code == spec.nan_code:
        return Decoded(NOT_A_NUMBER, 0, ZERO_EXPONENT)
    field, mantissa = magnitude >> spec.man_bits, magnitude & ((1 << spec.man_bits) - 1)
    lowest = 1 if spec.subnormals else 0
    hidden = field > 0 if spec.subnormals else not (spec.has_zero and magnitude == 0)
    significand = (mantissa | hidden << spec.man_bits) << (max(field, lowest) - lowest)
    return Decoded(0, -significand if sign else significand, max(field, lowest) - spec.bias)


@cache
def integers(name: str) -> tuple[int, ...]:
    """Return the integer of every code, in units of ``2**-frac_bits``; 0 for codes that are not finite."""
    return tuple(found.integer for found in decode_table(name))


def fit_int16(numbers: Sequence[int] | NDArray[np.integer]) -> bool:
    """Tell whether int16 holds all of some integers."""
    return bool(np.min(numbers) >= -(1 << 15) and np.max(numbers) < 1 << 15)


@cache
def max_integer(name: str) -> int:
    """Return the largest magnitude of `integers`."""
    spec = number_format(name)
    if isinstance(spec, IntSpec):
        return 1 << (spec.bits - 1) if spec.signed else (1 << spec.bits) - 1
    return abs(_decode(spec, spec.max_code).integer)


@cache
def max_significand(name: str | None) -> Fraction:
    """Return a bound on a code's magnitude over ``2**exponent``: below 2 for floats, the largest value for integers."""
    if name is None:
        return Fraction(1)
    spec = number_format(name)
    if isinstance(spec, IntSpec):
        return Fraction(max_integer(name), 1 << spec.frac_bits)
    return 2 - Fraction(1, 1 << spec.man_bits)


@cache
def significand_bits(name: str | None) -> int:
    """Return the bits of a scale's significand; 0 where there is none but a power of two."""
    if name is None:
        return 0
    spec = element(name)
    if isinstance(spec, IntSpec):
        return spec.bits
    assert isinstance(spec, FloatSpec)
    return spec.man_bits + 1 if spec.man_bits else 0


@cache
def has_specials(name: str) -> bool:
    """Tell whether some code is NaN or Inf."""
    spec: ElementSpec = element(name)
    return isinstance(spec, FloatSpec) and spec.special != "none"


def value_table(name: str) -> NDArray[np.float64]:
    """Return the value of every code, float64 [codes], NaN and Inf included; a zero has no sign."""
    return element_values(element(name)) + 0.0


@cache
def exponent_table(name: str) -> NDArray[np.int32]:
    """Return the exponent of every code, int32 [codes]."""
    return np.array([found.exponent for found in decode_table(name)], np.int32)

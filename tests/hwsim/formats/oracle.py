"""A slow statement of the formats in exact rationals: no float arithmetic, no code of `hwsim.formats`.

It reads only the fields of a spec (widths, bias, rules), and follows the texts that the specs cite: generic minifloats,
OCP MX 6.3 with the `floor` rule, NVFP4 by division, and the integer formats of PyTorch practice. A scale of zero makes
every element zero, and the sign of a zero or of an underflow is kept where the element has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from hwsim.formats import BlockSpec, ElementSpec, FloatSpec

NAN, INFINITY = "nan", "inf"


def power(exponent: int) -> Fraction:
    """Return 2**exponent."""
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def floor_log2(value: Fraction) -> int:
    """Return floor(log2(value)) of a positive rational."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if power(guess) <= value else guess - 1


def half_even(value: Fraction) -> int:
    """Round to the nearest integer, ties to the even one."""
    low = value.numerator // value.denominator
    rest = value - low
    return low + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 1))


def fields(spec: FloatSpec, code: int) -> tuple[int, int, int]:
    """Return (sign, exponent field, mantissa field)."""
    man = code & ((1 << spec.man_bits) - 1)
    exp = (code >> spec.man_bits) & ((1 << spec.exp_bits) - 1)
    return (code >> (spec.man_bits + spec.exp_bits)) & 1 if spec.signed else 0, exp, man


def value(spec: ElementSpec, code: int) -> Fraction | str:
    """Return what a code is worth: a rational, `NAN`, or `INFINITY` (without its sign)."""
    if not isinstance(spec, FloatSpec):
        return Fraction(code - (1 << spec.bits) if spec.signed and code >= 1 << (spec.bits - 1) else code)
    sign, exp, man = fields(spec, code)
    top = exp == (1 << spec.exp_bits) - 1
    if spec.special == "ieee" and top:
        return NAN if man else INFINITY
    if spec.special in ("fn", "all_ones") and top and man == (1 << spec.man_bits) - 1:
        return NAN
    if exp == 0 and spec.subnormals:
        magnitude = Fraction(man, 1 << spec.man_bits) * power(1 - spec.bias)
    else:
        magnitude = (1 + Fraction(man, 1 << spec.man_bits)) * power(exp - spec.bias)
    return -magnitude if sign else magnitude


@cache
def _positive(spec: FloatSpec) -> tuple[tuple[Fraction, int], ...]:
    """Finite non-negative (value, code) in ascending order, found by looking at every code."""
    codes = range(1 << (spec.exp_bits + spec.man_bits))
    return tuple((worth, code) for code in codes if isinstance(worth := value(spec, code), Fraction))


def nearest(spec: FloatSpec, magnitude: Fraction) -> int:
    """Return the code nearest to a non-negative rational: ties to the even code, saturating."""
    if spec.bits == 32:
        return float32_bits(magnitude, saturate=True)
    levels = _positive(spec)
    low, high = 0, len(levels) - 1
    if magnitude >= levels[high][0]:
        return levels[high][1]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if levels[middle][0] <= magnitude else (low, middle)
    below, above = magnitude - levels[low][0], levels[high][0] - magnitude
    if below == above:
        return levels[low][1] if levels[low][1] % 2 == 0 else levels[high][1]
    return levels[low][1] if below < above else levels[high][1]


def float32_bits(exact: Fraction, negative: bool = False, saturate: bool = False) -> int:
    """Return the float32 nearest to a rational, half to even; `negative` is the sign of a zero."""
    sign = 0x80000000 if exact < 0 or (exact == 0 and negative) else 0
    magnitude = abs(exact)
    if magnitude == 0:
        return sign
    quantum = power(max(floor_log2(magnitude), -126) - 23)
    rounded = half_even(magnitude / quantum) * quantum
    if rounded == 0:
        return sign
    exponent = floor_log2(rounded)
    if exponent > 127:
        return sign | (0x7F7FFFFF if saturate else 0x7F800000)
    if exponent < -126:
        return sign | int(rounded / power(-149))
    return sign | ((exponent + 127) << 23) | (int(rounded / power(exponent - 23)) - (1 << 23))


def float32_value(bits: int) -> Fraction:
    """Return what the bits of a finite float32 are worth."""
    field, man = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    assert field != 255
    magnitude = man * power(-149) if field == 0 else (man + (1 << 23)) * power(field - 150)
    return -magnitude if bits >> 31 else magnitude


def levels(spec: ElementSpec) -> list[Fraction]:
    """Return the values that an encoder may emit, ascending, each once."""
    if isinstance(spec, FloatSpec):
        positive = [worth for worth, _ in _positive(spec)]
        return sorted({*positive, *(-worth for worth in positive)} if spec.signed else set(positive))
    top = (1 << (spec.bits - 1)) - 1 if spec.signed else (1 << spec.bits) - 1
    return [Fraction(i) for i in range((-top if spec.narrow else -top - 1) if spec.signed else 0, top + 1)]


@dataclass
class Block:
    """What one block must encode to."""

    codes: list[int]
    scale: int
    zero: int
    step: Fraction


def tensor_scale(spec: BlockSpec, bits: np.ndarray) -> int | None:
    """Return the float32 bits of the second-level scale of a whole tensor: 1.0 for zeros, never zero for others."""
    if spec.tensor_scale == "none":
        return None
    amax = max(abs(float32_value(int(b))) for b in bits.ravel())
    if amax == 0:
        return float32_bits(Fraction(1))
    return max(float32_bits(amax / (Fraction(spec.scale_cap) * levels(spec.element)[-1])), 1)


def encode_block(spec: BlockSpec, bits: list[int], scale_bits: int | None) -> Block:
    """Encode one block of float32 bits by the rules of its format."""
    values = [float32_value(b) for b in bits]
    second = Fraction(1) if scale_bits is None else float32_value(scale_bits)
    top, element = max(abs(v) for v in values), spec.element
    zero = 0
    if spec.scale_rule == "floor":
        assert isinstance(element, FloatSpec)
        emax = floor_log2(levels(element)[-1])
        largest = floor_log2(max(worth for worth, _ in _positive(spec.scale)))
        exponent = min(max(floor_log2(top) - emax, -spec.scale.bias), largest) if top else -spec.scale.bias
        scale, step = exponent + spec.scale.bias, power(exponent)
    else:
        low, high = min(*values, 0), max(*values, 0)
        # the one inexact step that the format's text admits: max - min is a float64
        spread = Fraction(float(high - low)) if spec.scale_rule == "range" else top
        scale = nearest(spec.scale, spread / (levels(element)[-1] * second))
        worth = value(spec.scale, scale)
        assert isinstance(worth, Fraction)
        step = worth * second
        if spec.scale_rule == "range" and step:
            zero = min(max(half_even(-low / step), 0), (1 << element.bits) - 1)
    codes = [_element_code(element, v, b >> 31, step, zero) for v, b in zip(values, bits, strict=True)]
    return Block(codes, scale, zero, step)


def _element_code(element: ElementSpec, exact: Fraction, sign: int, step: Fraction, zero: int) -> int:
    quotient = exact / step if step else Fraction(0)
    if isinstance(element, FloatSpec):
        return nearest(element, abs(quotient)) | sign << (element.bits - 1)
    legal = levels(element)
    clipped = min(max(half_even(quotient) + zero, int(legal[0])), int(legal[-1]))
    return clipped % (1 << element.bits)


def decode_bits(spec: BlockSpec, code: int, scale: int, zero: int, scale_bits: int | None) -> int | None:
    """Return the float32 bits of one element; None for NaN."""
    worth, step = value(spec.element, code), value(spec.scale, scale)
    if isinstance(worth, str) or isinstance(step, str):
        return None
    second = 0x3F800000 if scale_bits is None else scale_bits
    negative = bool(scale >> (spec.scale.bits - 1) if spec.scale.signed else 0) ^ bool(second >> 31)
    is_float = isinstance(spec.element, FloatSpec)
    negative ^= bool(code >> (spec.element.bits - 1)) if is_float else worth < zero
    return float32_bits((worth - zero) * step * float32_value(second), negative)

"""A slow statement of elements and block formats in exact rationals: no float arithmetic, no code of `hwsim.formats`.

It reads only the fields of a spec (widths, bias, rules), and follows the texts that the specs cite. A scale of zero
makes every element zero, and the sign of a zero or of an underflow is kept where the element has one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np

from hwsim.formats import BlockSpec, ElementSpec, FloatSpec, IntSpec, TableSpec

NAN, INFINITY = "nan", "inf"
HALF = Fraction(1, 2)


def power(exponent: int) -> Fraction:
    """Return 2**exponent."""
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def floor_log2(value: Fraction) -> int:
    """Return floor(log2(value)) of a positive rational."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if power(guess) <= value else guess - 1


def ceil_log2(value: Fraction) -> int:
    """Return ceil(log2(value)) of a positive rational."""
    low = floor_log2(value)
    return low + (power(low) != value)


def half_even(value: Fraction) -> int:
    """Round to the nearest integer, ties to the even one."""
    low = value.numerator // value.denominator
    rest = value - low
    return low + (rest > HALF or (rest == HALF and low % 2 == 1))


def random_bits(seed: int, index: int) -> int:
    """Return 32 random bits: the SplitMix64 finaliser on seed + 1 times the golden ratio plus index, taken twice."""
    mask, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return z ^ (z >> 31)

    return mix((mix((seed + 1) * golden & mask) + index) * golden & mask) >> 32


def fields(spec: FloatSpec, code: int) -> tuple[int, int, int]:
    """Return (sign, exponent field, mantissa field)."""
    man = code & ((1 << spec.man_bits) - 1)
    exp = (code >> spec.man_bits) & ((1 << spec.exp_bits) - 1)
    return (code >> (spec.man_bits + spec.exp_bits)) & 1 if spec.signed else 0, exp, man


def value(spec: ElementSpec, code: int) -> Fraction | str:
    """Return what a code is worth: a rational, `NAN`, or `INFINITY` (without its sign)."""
    if isinstance(spec, TableSpec):
        half = len(spec.values)
        worth = spec.values[code % half]
        return NAN if worth is None else Fraction(worth) * (-1 if code >= half else 1)
    if isinstance(spec, IntSpec):
        integer = code - (1 << spec.bits) if spec.signed and code >= 1 << (spec.bits - 1) else code
        return Fraction(integer, 1 << spec.frac_bits)
    sign, exp, man = fields(spec, code)
    ones, magnitude = (1 << spec.exp_bits) - 1, code & ((1 << (spec.exp_bits + spec.man_bits)) - 1)
    last = (1 << (spec.exp_bits + spec.man_bits)) - 1
    if spec.special == "ieee" and exp == ones:
        return NAN if man else INFINITY
    if spec.special in ("fn", "all_ones") and magnitude == last:
        return NAN
    if spec.special in ("fnuz", "extended"):
        if (sign, magnitude) == (1, 0) or (not spec.signed and magnitude == last):
            return NAN
        if spec.special == "extended" and magnitude == last - (not spec.signed):
            return INFINITY
    if exp == 0 and spec.subnormals:
        worth = Fraction(man, 1 << spec.man_bits) * power(1 - spec.bias)
    elif magnitude == 0 and spec.has_zero:
        worth = Fraction(0)
    else:
        worth = (1 + Fraction(man, 1 << spec.man_bits)) * power(exp - spec.bias)
    return -worth if sign else worth


@cache
def positive(spec: FloatSpec) -> tuple[tuple[Fraction, ...], tuple[int, ...]]:
    """Finite non-negative values in ascending order, and their codes, found by looking at every code."""
    codes = range(1 << (spec.exp_bits + spec.man_bits))
    pairs = sorted((worth, code) for code in codes if isinstance(worth := value(spec, code), Fraction))
    return tuple(worth for worth, _ in pairs), tuple(code for _, code in pairs)


def rounds_up(rest: Fraction, low_is_odd: bool, negative: bool, mode: str, random: int) -> bool:
    """Tell whether a magnitude that lies the part `rest` of the way between two neighbours goes to the upper one."""
    return {
        "rne": rest > HALF or (rest == HALF and low_is_odd),
        "rtz": False,
        "rup": rest > 0 and not negative,
        "rdn": rest > 0 and negative,
        "raz": rest > 0,
        "rna": rest >= HALF,
        "rnz": rest > HALF,
        "rod": rest > 0 and not low_is_odd,
        "stochastic": random < rest * (1 << 32),
    }[mode]


def float_code(
    spec: FloatSpec,
    magnitude: Fraction,
    negative: bool = False,
    mode: str = "rne",
    overflow: str = "saturate",
    random: int = 0,
) -> int:
    """Return the code of a rational with a sign, by any rule."""
    if spec.bits == 32:
        return float32_bits(-magnitude if negative else magnitude, negative, saturate=True)
    levels, codes = positive(spec)
    sign = int(negative) << (spec.bits - 1) if spec.signed else 0
    index = bisect_right(levels, magnitude) - 1
    if index < 0:  # below the smallest value of a format without zero
        code = codes[0]
    elif index == len(levels) - 1:
        code = codes[index]
        field = code >> spec.man_bits
        quantum = power((max(field, 1) if spec.subnormals else field) - spec.bias - spec.man_bits)
        rest = (magnitude - levels[index]) / quantum
        up = rest >= 1 or rounds_up(rest, code % 2 == 1, negative, mode, random)
        toward_zero = mode in ("rtz", "rod") or (mode == "rup" and negative) or (mode == "rdn" and not negative)
        if up and not toward_zero and overflow == "nonsaturating":
            return special_code(spec, sign, spec.special in ("ieee", "extended"))
    else:
        rest = (magnitude - levels[index]) / (levels[index + 1] - levels[index])
        code = codes[index + rounds_up(rest, codes[index] % 2 == 1, negative, mode, random)]
    if code == 0 and (spec.special in ("fnuz", "extended") or not spec.signed):
        return 0
    return code | sign


def special_code(spec: FloatSpec, sign: int, infinite: bool) -> int:
    """Return the code of Inf, or of the canonical NaN with the sign that formats with several NaNs keep."""
    last = (1 << (spec.exp_bits + spec.man_bits)) - 1
    if infinite:
        inf = last - (1 << spec.man_bits) + 1 if spec.special == "ieee" else last - (not spec.signed)
        return inf | sign
    if spec.special in ("fnuz", "extended"):
        return 1 << (spec.bits - 1) if spec.signed else last
    if spec.special == "ieee":
        return (last - (1 << spec.man_bits) + 1 + (1 << (spec.man_bits - 1) if spec.man_bits > 1 else 1)) | sign
    return last | sign


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


def float32(exact: Fraction) -> Fraction:
    """Return a rational rounded once to float32."""
    return float32_value(float32_bits(exact))


def float32_or_none(exact: Fraction) -> Fraction | None:
    """Return a rational rounded once to float32, None where that is Inf."""
    bits = float32_bits(exact)
    return None if bits & 0x7FFFFFFF == 0x7F800000 else float32_value(bits)


def float32_value(bits: int) -> Fraction:
    """Return what the bits of a finite float32 are worth."""
    field, man = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    assert field != 255
    magnitude = man * power(-149) if field == 0 else (man + (1 << 23)) * power(field - 150)
    return -magnitude if bits >> 31 else magnitude


@cache
def levels(spec: ElementSpec) -> tuple[Fraction, ...]:
    """Return the values that an encoder may emit, ascending, each once."""
    if isinstance(spec, FloatSpec):
        worths = positive(spec)[0]
        return tuple(sorted({*worths, *(-worth for worth in worths)} if spec.signed else set(worths)))
    if isinstance(spec, TableSpec):
        worths = tuple(Fraction(v) for v in spec.values if v is not None)
        return tuple(sorted({*worths, *(-worth for worth in worths)} if spec.symmetric else set(worths)))
    top = (1 << (spec.bits - 1)) - 1 if spec.signed else (1 << spec.bits) - 1
    low = (-top if spec.narrow else -top - 1) if spec.signed else 0
    return tuple(Fraction(i, 1 << spec.frac_bits) for i in range(low, top + 1))


@dataclass
class Block:
    """What one block must encode to."""

    codes: list[int]
    scale: int
    zero: int
    step: Fraction


@cache
def top_level(spec: BlockSpec) -> Fraction:
    """Return what amax is divided by."""
    if spec.level is not None:
        return Fraction(spec.level)
    return Fraction((1 << spec.element.bits) - 1) if spec.scale_rule == "range" else max(map(abs, levels(spec.element)))


def outer_scale(spec: BlockSpec, bits: np.ndarray) -> int | None:
    """Return the bits of the second-level scale over some values: 1.0 for zeros, never zero for others."""
    if spec.tensor_scale == "none" and spec.row_scale == "none":
        return None
    half = spec.row_scale == "float16"
    amax = max(abs(float32_value(int(b))) for b in bits.ravel())
    exact = amax / (Fraction(spec.scale_cap) * top_level(spec)) if amax else Fraction(1)
    if half:
        return max(float_code(FLOAT16, exact), int(amax > 0))
    return max(float32_bits(exact, saturate=True), int(amax > 0))


FLOAT16 = FloatSpec("half", 5, 10, 15, "IEEE 754", special="ieee")


def outer_value(spec: BlockSpec, bits: int | None) -> Fraction:
    """Return what those bits are worth, 1 for None."""
    if bits is None:
        return Fraction(1)
    if spec.row_scale == "float16":
        worth = value(FLOAT16, bits)
        assert isinstance(worth, Fraction)
        return worth
    return float32_value(bits)


def power_exponent(spec: BlockSpec, amax: Fraction) -> int:
    """Return the exponent of the scale that a power-of-two rule gives, before clamping."""
    element, rule, top = spec.element, spec.scale_rule, top_level(spec)
    emax = floor_log2(max(levels(element)))
    if rule == "floor":
        return floor_log2(amax) - emax
    if rule == "ceil":
        return ceil_log2(amax) - emax
    if rule == "even":
        man_bits = element.man_bits if isinstance(element, FloatSpec) else element.bits - 2
        exponent = floor_log2(amax)
        return exponent + (amax / power(exponent) >= 2 - power(-(man_bits + 1))) - emax
    if rule == "rceil":
        product = float32(amax * float32(1 / top))
        return ceil_log2(product) if product else -(1 << 20)  # underflow: the smallest scale
    if rule == "away_ceil":
        return ceil_log2(amax / top)
    assert rule == "tosa"
    exponent = floor_log2(amax) - emax - 1
    while overflows(element, amax / power(exponent)):
        exponent += 1
    return exponent


def overflows(element: ElementSpec, quotient: Fraction) -> bool:
    """Tell whether a quotient rounds (half to even) to more than the largest value, had the format more codes."""
    if isinstance(element, IntSpec):
        return half_even(quotient * (1 << element.frac_bits)) > element.qmax
    assert isinstance(element, FloatSpec)
    worths, codes = positive(element)
    quantum = power((codes[-1] >> element.man_bits) - element.bias - element.man_bits)
    rest = (quotient - worths[-1]) / quantum
    return rest > 0 and (rest >= 1 or rounds_up(rest, codes[-1] % 2 == 1, False, "rne", 0))


def encode_block(spec: BlockSpec, bits: list[int], outer_bits: int | None, indices: list[int] | None = None) -> Block:
    """Encode one block of float32 bits by the rules of its format; `indices` are those in the tensor."""
    values = [float32_value(b) for b in bits]
    indices = list(range(len(bits))) if indices is None else indices
    outer = outer_value(spec, outer_bits)
    amax, element, scale = max(abs(v) for v in values), spec.element, spec.scale
    zero, code, step, worth = 0, 0, Fraction(1), Fraction(1)
    if spec.scale_rule in ("amax", "range"):
        low, high = min(*values, 0), max(*values, 0)
        # the one inexact step that the format's text admits: max - min is a float64
        spread = Fraction(float(high - low)) if spec.scale_rule == "range" else amax
        exact = spread / (top_level(spec) * outer)
        if spread == 0:
            exact = Fraction(int(spec.zero_block == "one"))
        exact = max(exact, Fraction(spec.scale_floor))
        if isinstance(scale, IntSpec):
            code = min(half_even(exact), scale.qmax)
        else:
            assert isinstance(scale, FloatSpec)
            code = float_code(scale, exact)
        decoded = value(scale, code)
        assert isinstance(decoded, Fraction)
        worth, step = decoded, decoded * outer
        if spec.scale_rule == "range" and step:
            zero = min(max(half_even(-low / step), 0), (1 << element.bits) - 1)
    elif spec.scale_rule != "none":
        assert isinstance(scale, FloatSpec)
        if amax:
            exponent = power_exponent(spec, amax)
        else:
            emax = floor_log2(max(levels(element)))
            exponent = {"code_00": -scale.bias, "one": 0, "microxcaling": -126 - emax}[spec.zero_block]
        code = min(max(exponent + scale.bias, 0), positive(scale)[1][-1])
        step = power(code - scale.bias)
    inverse = None
    if spec.quotient == "fp32_inverse" and step:
        inverse = float32_or_none(1 / outer)
        inverse = None if inverse is None else float32_or_none(inverse / worth) or None
    codes = [
        element_code(
            spec, v, b >> 31, step, zero, inverse, random_bits(spec.seed, i) if spec.rounding == "stochastic" else 0
        )
        for v, b, i in zip(values, bits, indices, strict=True)
    ]
    return Block(codes, code, zero, step)


def element_code(
    spec: BlockSpec, exact: Fraction, sign: int, step: Fraction, zero: int, inverse: Fraction | None, random: int
) -> int:
    """Return the code of one value under a step."""
    element = spec.element
    quotient = exact / step if step else Fraction(0)
    if inverse is not None:
        quotient = float32_value(float32_bits(exact * inverse, saturate=True))
    if spec.rounding == "stochastic":
        quotient = Fraction(float(quotient))  # the rule compares with the quotient rounded to float64
    if isinstance(element, FloatSpec):
        return float_code(element, abs(quotient), bool(sign), spec.rounding, spec.overflow, random)
    if isinstance(element, TableSpec):
        return table_code(element, quotient, sign)
    scaled = abs(quotient) * (1 << element.frac_bits)
    low = scaled.numerator // scaled.denominator
    steps = low + rounds_up(scaled - low, low % 2 == 1, bool(sign), spec.rounding, random)
    legal = [int(level * (1 << element.frac_bits)) for level in (levels(element)[0], levels(element)[-1])]
    clipped = min(max((-steps if sign else steps) + zero, legal[0]), legal[1])
    return clipped % (1 << element.bits)


@cache
def table_ranks(element: TableSpec) -> tuple[tuple[Fraction, ...], tuple[int, ...]]:
    """Return the borders of a table in ascending order, and the code of each rank."""
    worths = sorted({Fraction(v) for v in element.values if v is not None})
    borders = element.thresholds or [(a + b) / 2 for a, b in pairwise(worths)]
    codes = [next(c for c, v in enumerate(element.values) if v is not None and Fraction(v) == w) for w in worths]
    return tuple(map(Fraction, borders)), tuple(codes)


def table_code(element: TableSpec, quotient: Fraction, sign: int) -> int:
    """Return the code of a quotient: that of the level whose borders hold it."""
    borders, codes = table_ranks(element)
    point = abs(quotient) if element.symmetric else quotient
    rank = bisect_left(borders, point)  # borders that lie below
    if rank < len(borders) and borders[rank] == point:
        rank += element.ties == "up" or (element.ties == "even" and rank % 2 == 1)
    return codes[rank] | (sign << (element.bits - 1) if element.symmetric else 0)


def decode_bits(spec: BlockSpec, code: int, scale: int, zero: int, outer_bits: int | None) -> int | None:
    """Return the float32 bits of one element; None for NaN."""
    worth = value(spec.element, code)
    step = value(spec.scale, scale) if spec.scale is not None else Fraction(1)
    if worth == NAN or isinstance(step, str):
        return None
    negative = (
        bool(scale >> (spec.scale.bits - 1)) if isinstance(spec.scale, FloatSpec) and spec.scale.signed else False
    )
    signed_codes = isinstance(spec.element, FloatSpec | TableSpec)
    if isinstance(spec.element, TableSpec) and not spec.element.symmetric:
        signed_codes = False
    if worth == INFINITY:
        assert isinstance(spec.element, FloatSpec)
        infinite = spec.element.signed and code >> (spec.element.bits - 1)
        return None if step == 0 else (0xFF800000 if bool(infinite) ^ negative else 0x7F800000)
    assert isinstance(worth, Fraction)
    has_sign = spec.element.signed if signed_codes else False
    negative ^= bool(code >> (spec.element.bits - 1)) if has_sign else worth < zero
    if outer_bits is not None and spec.row_scale != "float16":
        negative ^= bool(outer_bits >> 31)
    return float32_bits((worth - zero) * step * outer_value(spec, outer_bits), negative)

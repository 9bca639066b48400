"""Say what FP32 arithmetic must give, from IEEE 754 and exact fractions: shares no code with the project."""

from __future__ import annotations

import struct
from fractions import Fraction

NAN, INF = 0x7FC00000, 0x7F800000


def value(bits: int) -> Fraction | None:
    """Return what FP32 bits are worth, or None for NaN and infinities."""
    sign, exponent, fraction = bits >> 31, bits >> 23 & 0xFF, bits & 0x7FFFFF
    if exponent == 0xFF:
        return None
    magnitude = Fraction(2) ** -126 * Fraction(fraction, 1 << 23)
    if exponent:
        magnitude = Fraction(2) ** (exponent - 127) * (1 + Fraction(fraction, 1 << 23))
    return -magnitude if sign else magnitude


def rounded(exact: Fraction, sign_of_zero: int = 0) -> int:
    """Return the FP32 bits nearest to an exact value, ties to even, overflow to infinity (IEEE 754-2019, 4.3.1)."""
    if not exact:
        return sign_of_zero << 31
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > magnitude
    quantum = Fraction(2) ** max(exponent - 23, -149)
    nearest = round(magnitude / quantum) * quantum  # Python rounds fractions half to even
    bits = INF if nearest >= Fraction(2) ** 128 else struct.unpack("<I", struct.pack("<f", float(nearest)))[0]
    return (exact < 0) << 31 | bits


def fused_add(acc: int, addend: int, exponent: int) -> int:
    """Return acc + addend * 2^exponent, rounded once; an exact zero is +0."""
    exact = value(acc)
    if exact is None:
        return NAN if acc & 0x7FFFFF else acc
    return rounded(exact + addend * Fraction(2) ** exponent)


def multiply(x: int, y: int) -> int:
    """Return x * y, rounded once."""
    special = [bits & 0x7FFFFFFF for bits in (x, y)]
    sign = (x ^ y) >> 31
    if max(special) > INF or sorted(special) == [0, INF]:
        return NAN
    if INF in special:
        return sign << 31 | INF
    return rounded(value(x) * value(y), sign_of_zero=sign)


ELEMENTS = {
    # OCP MX v1.0 table 5: sign, then 0 0.5 1 1.5 2 3 4 6
    "float4_e2m1fn": [sign * Fraction(half, 2) for sign in (1, -1) for half in (0, 1, 2, 3, 4, 6, 8, 12)],
    **{
        f"int{n}": [Fraction(code - (code >> (n - 1) << n)) for code in range(1 << n)]
        for n in (2, 3, 4, 5, 6, 8, 9, 16)
    },
    "uint4": [Fraction(code) for code in range(16)],
}


def scale(name: str, code: int) -> Fraction | None:
    """Return what a block scale's code is worth, or None where it is not a number."""
    if name == "float8_e8m0fnu":
        return None if code == 255 else Fraction(2) ** (code - 127)
    exp_bits, man_bits = {"float8_e4m3fn": (4, 3), "float16": (5, 10)}[name]
    sign, exponent = code >> (exp_bits + man_bits), code >> man_bits & (1 << exp_bits) - 1
    mantissa = code & (1 << man_bits) - 1
    top = exponent == (1 << exp_bits) - 1
    if top and (name == "float16" or mantissa == (1 << man_bits) - 1):
        return None
    bias = (1 << (exp_bits - 1)) - 1
    fraction = Fraction(mantissa, 1 << man_bits) + (exponent > 0)
    return (-1) ** sign * fraction * Fraction(2) ** (max(exponent, 1) - bias)


def block_dot(dot: dict, spec) -> int:
    """Return the FP32 bits of a dot product, from the values that the codes stand for."""
    acc = 0
    block, products = spec.block_beats or len(dot["last"]), Fraction(0)
    for beat in range(len(dot["last"])):
        zero = int(dot["b_zero"][beat // block * block]) if spec.zero_bits else 0
        for a, b in zip(dot["a"][beat], dot["b"][beat], strict=True):
            products += ELEMENTS[spec.a_element][a] * (ELEMENTS[spec.b_element][b] - zero)
        if (beat + 1) % block == 0:
            for side, name in (("a_scale", spec.a_scale), ("b_scale", spec.b_scale)):
                factor = scale(name, int(dot[side][beat])) if name else Fraction(1)
                products, acc = (Fraction(0), NAN) if factor is None else (products * factor, acc)
            exact = value(acc)
            acc = acc if exact is None else rounded(exact + products)
            products = Fraction(0)
    for side in ("a_out", "b_out"):
        if side in dot:
            acc = multiply(acc, int(dot[side][-1]))
    return acc

"""Say what FP32 arithmetic must give, from IEEE 754 and exact fractions: shares no code with the project."""

from __future__ import annotations

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
    sign = (1 if exact < 0 else 0) if exact else sign_of_zero
    magnitude = abs(exact)
    if magnitude >= Fraction(2) ** 128 - Fraction(2) ** 103:  # half a step above the largest finite number
        return sign << 31 | INF
    low, high = 0, INF - 1  # bit patterns of positive numbers are in the order of their values
    while low < high:
        middle = (low + high + 1) // 2
        if value(middle) <= magnitude:
            low = middle
        else:
            high = middle - 1
    if low < INF - 1:
        below, above = magnitude - value(low), value(low + 1) - magnitude
        low += above < below or (above == below and low & 1)
    return sign << 31 | low


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

"""Radix-4 Booth digits: an integer as a sum of 0, +-1 or +-2 times powers of four."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Value


class BoothDigit(NamedTuple):
    """One digit: ``(-1)**sign * 2**two`` where `one` is set, else 0, with `sign` and `two` clear."""

    one: Value
    two: Value
    sign: Value


def booth_digit(window: Value) -> BoothDigit:
    """Return the digit of three bits: the two of its place and the one below."""
    one = ~(window.all() | ~window.any())
    return BoothDigit(one, (window == 0b011) | (window == 0b100), window[2] & one)


def booth_windows(word: Value) -> list[Value]:
    """Return the three bits of each digit of an integer, signed or not, that of 4**0 first."""
    signed = word.shape().signed
    digits = (len(word) + (1 if signed else 2)) // 2
    sign = word[-1] if signed else Const(0, 1)
    wide = Cat(Const(0, 1), word, *[sign] * (2 * digits - len(word)))
    return [wide[2 * digit : 2 * digit + 3] for digit in range(digits)]

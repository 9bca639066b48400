"""The one rounding step of the plain references: an exact raw value to the bits of a float32.

Every operator of a unit first forms its exact result as ``(-1)**sign * magnitude * 2**exponent`` with integers of any
size, and then calls `round_float32`. The kernels use the processor's own float32 arithmetic, which the tests hold
against this module.
"""

from __future__ import annotations

NAN = 0x7FC00000
"""The one NaN that units emit (quiet, positive, empty payload)."""
INFINITY = 0x7F800000
_SIGN = 0x80000000


def round_float32(sign: int, magnitude: int, exponent: int) -> int:
    """Round ``(-1)**sign * magnitude * 2**exponent`` half to even to float32 bits, subnormals kept, overflow to Inf.

    Examples
    --------
    >>> hex(round_float32(0, 3, -1)), hex(round_float32(1, 1, -150)), hex(round_float32(0, 1, 128))
    ('0x3fc00000', '0x80000000', '0x7f800000')
    """
    bits = _SIGN if sign else 0
    if magnitude == 0:
        return bits
    # exponent of the last place kept: 23 below the leading one, not under the subnormal quantum
    quantum = max(exponent + magnitude.bit_length() - 24, -149)
    shift = quantum - exponent
    if shift <= 0:
        kept = magnitude << -shift
    else:
        kept, rest, half = magnitude >> shift, magnitude & ((1 << shift) - 1), 1 << (shift - 1)
        kept += rest > half or (rest == half and kept & 1)
    # A normal significand has its leading one at bit 23, the exponent field's lowest bit: adding carries it over.
    return bits | min(((quantum + 149) << 23) + kept, INFINITY)


def split_float32(bits: int) -> tuple[int, int, int]:
    """Return (sign, magnitude, exponent) of a finite float32, worth ``(-1)**sign * magnitude * 2**exponent``."""
    field, mantissa = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    assert field != 255
    return bits >> 31, mantissa | (0x800000 if field else 0), max(field, 1) - 150


def is_nan(bits: int) -> bool:
    """Tell whether float32 bits are a NaN."""
    return bits & 0x7FFFFFFF > INFINITY


def fused_add(accumulator: int, addend: int, exponent: int) -> int:
    """Return RNE(accumulator + addend * 2**exponent) for float32 bits and an integer addend, with one rounding.

    NaN and Inf accumulators stay (the addend is finite). An exact zero result is +0; a zero addend counts as +0.
    """
    if is_nan(accumulator):
        return NAN
    if accumulator & 0x7FFFFFFF == INFINITY:
        return accumulator
    sign, magnitude, own_exponent = split_float32(accumulator)
    base = min(own_exponent, exponent)
    total = (-magnitude if sign else magnitude) << (own_exponent - base)
    total += addend << (exponent - base)
    return round_float32(int(total < 0), abs(total), base)


def multiply(x: int, y: int) -> int:
    """Return RNE(x * y) of float32 bits by IEEE 754, every NaN made `NAN`."""
    sign = (x ^ y) & _SIGN
    magnitudes = sorted((x & 0x7FFFFFFF, y & 0x7FFFFFFF))
    if magnitudes[1] > INFINITY or (magnitudes[1] == INFINITY and magnitudes[0] == 0):
        return NAN
    if magnitudes[1] == INFINITY:
        return sign | INFINITY
    _, x_magnitude, x_exponent = split_float32(x)
    _, y_magnitude, y_exponent = split_float32(y)
    return round_float32(sign >> 31, x_magnitude * y_magnitude, x_exponent + y_exponent)

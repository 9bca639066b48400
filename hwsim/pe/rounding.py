"""The one rounding step of the plain references: an exact raw value to the bits of a float.

Every operator of a unit first forms its exact result as ``(-1)**sign * magnitude * 2**exponent`` with integers of any
size, and then calls `round_float`. The kernels do the same in float64, which the tests hold against this module.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hwsim.formats import FloatSpec
from hwsim.formats.catalog.elements import FLOAT32

Mode = Literal["rne", "rtz", "rdn", "rod"]
MODES: tuple[Mode, ...] = ("rne", "rtz", "rdn", "rod")
"""To nearest, ties to even; toward zero; down; to odd (what is not exact gets the neighbour with an odd last bit)."""

INEXACT, UNDERFLOW, OVERFLOW, INVALID = 1, 2, 4, 8
"""Flags of IEEE 754-2019, section 7; underflow is tininess after rounding, and raised only with inexact."""
FLAG_BITS = 4

NAN = 0x7FC00000
"""The one NaN that units emit (quiet, positive, empty payload)."""
INFINITY = 0x7F800000


class Rounded(NamedTuple):
    """Bits of a float and the flags that its operation raised."""

    bits: int
    flags: int


def round_float(
    sign: int,
    magnitude: int,
    exponent: int,
    fmt: FloatSpec = FLOAT32,
    mode: Mode = "rne",
    overflow: Literal["ieee", "infinite", "saturate"] = "ieee",
) -> Rounded:
    """Round ``(-1)**sign * magnitude * 2**exponent``, with one rounding and subnormals kept.

    Parameters
    ----------
    fmt : FloatSpec
        Any float of the catalogue with subnormals.
    mode : str
        One of `MODES`.
    overflow : {"ieee", "infinite", "saturate"}
        What is too large (its rounding with unbounded exponent exceeds the largest value) becomes: infinity or the
        largest value, by IEEE 754-2019, 7.4 for the mode (``rod``: the largest value); always infinity; always the
        largest value. A format without infinity takes its NaN, one without NaN its largest value.

    Exactness
    ---------
    IEEE 754-2019, 4.3 and 7, and roundToOdd (inexact results get an odd last bit).

    Examples
    --------
    >>> [hex(round_float(*raw).bits) for raw in ((0, 3, -1), (1, 1, -150), (0, 1, 128))]
    ['0x3fc00000', '0x80000000', '0x7f800000']
    >>> round_float(0, 1, -150).flags == INEXACT | UNDERFLOW, hex(round_float(0, 1, 128, mode="rtz").bits)
    (True, '0x7f7fffff')
    """
    sign_bit = (1 << (fmt.bits - 1)) if sign and fmt.signed else 0
    if magnitude == 0:
        return Rounded(sign_bit if fmt.negative_zero else 0, 0)
    lowest = 1 - fmt.bias - fmt.man_bits
    # exponent of the last place kept, as far as precision goes; not under the subnormal quantum
    free = exponent + magnitude.bit_length() - 1 - fmt.man_bits
    quantum = max(free, lowest)
    kept, inexact = _keep(sign, magnitude, exponent - quantum, mode)
    # A normal significand has its leading one at bit man_bits, the exponent field's lowest bit: adding carries it over.
    code = ((quantum - lowest) << fmt.man_bits) + kept
    if code > fmt.max_code:
        return Rounded(_too_large(sign_bit, fmt, mode, overflow), OVERFLOW | INEXACT)
    flags = INEXACT if inexact else 0
    if inexact and free < lowest:
        unbounded, _ = _keep(sign, magnitude, exponent - free, mode)
        tiny = free + unbounded.bit_length() - 1 < 1 - fmt.bias
        flags |= UNDERFLOW if tiny else 0
    if code == 0 and not fmt.negative_zero:
        sign_bit = 0
    return Rounded(sign_bit | code, flags)


def _keep(sign: int, magnitude: int, shift: int, mode: Mode) -> tuple[int, bool]:
    """Return magnitude * 2**shift as an integer rounded by the mode, and whether that was inexact."""
    if shift >= 0:
        return magnitude << shift, False
    kept, rest, half = magnitude >> -shift, magnitude & ((1 << -shift) - 1), 1 << (-shift - 1)
    if mode == "rne":
        kept += rest > half or (rest == half and kept & 1)
    elif mode == "rdn":
        kept += bool(rest) and bool(sign)
    elif mode == "rod":
        kept |= bool(rest)
    return kept, rest != 0


def _too_large(sign_bit: int, fmt: FloatSpec, mode: Mode, overflow: str) -> int:
    largest = overflow == "saturate" or (
        overflow == "ieee" and (mode in ("rtz", "rod") or (mode == "rdn" and not sign_bit))
    )
    if not largest and fmt.inf_code is not None:
        return sign_bit | fmt.inf_code
    if not largest and fmt.nan_code is not None:
        return sign_bit | fmt.nan_code
    return sign_bit | fmt.max_code


def split(bits: int, fmt: FloatSpec = FLOAT32) -> tuple[int, int, int]:
    """Return (sign, magnitude, exponent) of a finite float, worth ``(-1)**sign * magnitude * 2**exponent``."""
    field, mantissa = (bits & fmt.magnitude_mask) >> fmt.man_bits, bits & ((1 << fmt.man_bits) - 1)
    hidden = 1 << fmt.man_bits if field else 0
    return bits >> (fmt.bits - 1), mantissa | hidden, max(field, 1) - fmt.bias - fmt.man_bits


def is_nan(bits: int, fmt: FloatSpec = FLOAT32) -> bool:
    """Tell whether a float of an IEEE-like format is a NaN."""
    assert fmt.inf_code is not None
    return bits & fmt.magnitude_mask > fmt.inf_code


def is_infinite(bits: int, fmt: FloatSpec = FLOAT32) -> bool:
    """Tell whether a float of an IEEE-like format is an infinity."""
    return bits & fmt.magnitude_mask == fmt.inf_code


def add(
    accumulator: int,
    addend: int,
    exponent: int,
    fmt: FloatSpec = FLOAT32,
    mode: Mode = "rne",
    overflow: Literal["ieee", "infinite"] = "ieee",
) -> Rounded:
    """Return accumulator + addend * 2**exponent for a float and an integer addend, with one rounding.

    NaN and Inf accumulators stay (the addend is finite). An exact zero result is +0; a zero addend counts as +0.
    """
    if is_nan(accumulator, fmt):
        assert fmt.nan_code is not None
        return Rounded(fmt.nan_code, 0)
    if is_infinite(accumulator, fmt):
        return Rounded(accumulator, 0)
    sign, magnitude, own_exponent = split(accumulator, fmt)
    base = min(own_exponent, exponent)
    total = (-magnitude if sign else magnitude) << (own_exponent - base)
    total += addend << (exponent - base)
    return round_float(int(total < 0), abs(total), base, fmt, mode, overflow)


def multiply(x: int, y: int) -> Rounded:
    """Return RNE(x * y) of float32 bits by IEEE 754, every NaN made `NAN`; only Inf * 0 is invalid."""
    sign = (x ^ y) >> 31
    if is_nan(x) or is_nan(y):
        return Rounded(NAN, 0)
    magnitudes = sorted((x & FLOAT32.magnitude_mask, y & FLOAT32.magnitude_mask))
    if magnitudes[1] == INFINITY:
        return Rounded(NAN, INVALID) if magnitudes[0] == 0 else Rounded(sign << 31 | INFINITY, 0)
    _, x_magnitude, x_exponent = split(x)
    _, y_magnitude, y_exponent = split(y)
    return round_float(sign, x_magnitude * y_magnitude, x_exponent + y_exponent)


def widen(bits: int, fmt: FloatSpec) -> int:
    """Return the float32 bits of a float of an IEEE-like format that float32 holds exactly; NaN gives `NAN`."""
    if is_nan(bits, fmt):
        return NAN
    sign = bits >> (fmt.bits - 1)
    if is_infinite(bits, fmt):
        return sign << 31 | INFINITY
    found = round_float(*split(bits, fmt))
    assert found.flags == 0
    return found.bits


__all__ = [
    "FLAG_BITS",
    "FLOAT32",
    "INEXACT",
    "INFINITY",
    "INVALID",
    "MODES",
    "NAN",
    "OVERFLOW",
    "UNDERFLOW",
    "Mode",
    "Rounded",
    "add",
    "is_infinite",
    "is_nan",
    "multiply",
    "round_float",
    "split",
    "widen",
]

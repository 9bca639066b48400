"""Element formats as data: frozen descriptions of what one code means, and nothing that computes on arrays."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from itertools import pairwise
from typing import Literal, get_args

SpecialCodes = Literal["none", "ieee", "fn", "all_ones", "fnuz", "extended"]


@dataclass(frozen=True)
class FloatSpec:
    """Describe a binary floating-point element of at most 32 bits, by the facts that decide what each code means.

    Parameters
    ----------
    name : str
        As in ml_dtypes, for example ``float4_e2m1fn``.
    exp_bits, man_bits : int
        Widths of the exponent field and of the stored mantissa (without the hidden bit).
    bias : int
        Exponent bias: a normal code is worth ``2**(e - bias) * (1 + m / 2**man_bits)``.
    signed : bool
        Whether the top bit is a sign.
    subnormals : bool
        Whether exponent field 0 means ``2**(1 - bias) * m / 2**man_bits`` (and so includes zero).
    special : {"none", "ieee", "fn", "all_ones", "fnuz", "extended"}
        Which codes are not finite. ``ieee``: the top exponent holds Inf and NaN; ``fn``: only the magnitude of all ones
        is NaN; ``all_ones``: the same for a format without mantissa (E8M0); ``none``: every code is finite; ``fnuz``:
        NaN is the code of a negative zero (the largest code when unsigned), which then does not exist; ``extended``:
        as ``fnuz``, and the largest magnitude below is Inf (IEEE P3109).
    has_zero : bool
        Without subnormals: whether code 0 means zero instead of the smallest power of two.
    source : str
        Document, section, table.
    witnesses : tuple of str
        Outside tools that the tests compare every code with.
    generator : str
        Name that the members of a family share.

    Raises
    ------
    ValueError
        When the fields make no format of 2 to 32 bits, leave no positive finite value, or give values that are no
        float64 numbers.
    """

    name: str
    exp_bits: int
    man_bits: int
    bias: int
    source: str
    signed: bool = True
    subnormals: bool = True
    special: SpecialCodes = "none"
    has_zero: bool = False
    witnesses: tuple[str, ...] = ()
    generator: str = ""

    def __post_init__(self) -> None:
        if self.subnormals and self.has_zero:
            raise ValueError(f"element {self.name!r}: has_zero is for formats without subnormals, which have a zero")
        if self.exp_bits < int(not self.subnormals) or self.man_bits < 0 or not 1 < self.bits <= 32:
            raise ValueError(
                f"element {self.name!r}: needs exp_bits >= 0 (1 without subnormals), man_bits >= 0 and 2 to 32 bits, "
                f"not exp_bits={self.exp_bits}, man_bits={self.man_bits}"
            )
        if self.special not in get_args(SpecialCodes):
            raise ValueError(
                f"element {self.name!r}: special is one of {', '.join(get_args(SpecialCodes))}, not {self.special!r}"
            )
        if self.max_code < 1:
            raise ValueError(f"element {self.name!r}: special codes {self.special!r} leave no positive finite value")
        lowest = int(self.subnormals) - self.bias - self.man_bits
        if (self.max_code >> self.man_bits) - self.bias > 1023 or lowest < -1074:
            raise ValueError(f"element {self.name!r}: its values with bias {self.bias} are not all float64 numbers")

    @property
    def bits(self) -> int:
        """Width of a code in bits, sign included."""
        return self.exp_bits + self.man_bits + int(self.signed)

    @property
    def max_code(self) -> int:
        """Return the magnitude code (sign bit left out) of the largest finite value."""
        top = self.magnitude_mask
        if self.special == "ieee":
            return top - (1 << self.man_bits)
        if self.special in ("fnuz", "extended"):  # a signed format has its NaN elsewhere
            return top - int(not self.signed) - int(self.special == "extended")
        return top if self.special == "none" else top - 1

    @property
    def magnitude_mask(self) -> int:
        """Bits of a code without its sign."""
        return (1 << (self.exp_bits + self.man_bits)) - 1

    @property
    def negative_zero(self) -> bool:
        """Whether the sign of a zero can be kept."""
        return self.signed and self.special not in ("fnuz", "extended") and (self.subnormals or self.has_zero)

    @property
    def nan_code(self) -> int | None:
        """Code of the canonical NaN (positive and quiet where there are several), None where there is none."""
        if self.special == "ieee":
            quiet = 1 << (self.man_bits - 1) if self.man_bits > 1 else 1
            return self.max_code + 1 + quiet if self.man_bits else None
        if self.special in ("fnuz", "extended"):
            return 1 << (self.bits - 1) if self.signed else self.magnitude_mask
        return None if self.special == "none" else self.magnitude_mask

    @property
    def inf_code(self) -> int | None:
        """Code of +Inf, None where there is none; -Inf is the same with the sign bit."""
        return self.max_code + 1 if self.special in ("ieee", "extended") else None

    @property
    def emax(self) -> int:
        """Exponent of the largest power of two that the format holds (OCP MX section 6.3)."""
        field = self.max_code >> self.man_bits
        return field - self.bias if field else self.max_code.bit_length() - self.man_bits - self.bias

    @property
    def max_value(self) -> float:
        """Largest finite value."""
        value = self.value(self.max_code)
        assert value is not None
        return float(value)

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring codes."""
        if self.subnormals or (self.has_zero and self.man_bits == 0):  # 0 stands in for the first binade
            return 2.0 ** (1 - self.bias - self.man_bits)
        return 2.0 ** (-self.bias - self.man_bits)

    def value(self, code: int) -> Fraction | None:
        """Return what a code is worth, exactly; None for NaN and +-Inf (see `infinite`). A zero has no sign here.

        Raises
        ------
        ValueError
            When the code does not fit the format.
        """
        if not 0 <= code < 1 << self.bits:
            raise ValueError(f"code {code} is out of range for {self.name}: allowed 0 .. {(1 << self.bits) - 1}")
        magnitude = code & self.magnitude_mask
        if magnitude > self.max_code or (code == self.nan_code):
            return None
        if magnitude == 0 and self.has_zero:
            return Fraction(0)
        exponent, mantissa = magnitude >> self.man_bits, magnitude & ((1 << self.man_bits) - 1)
        if exponent == 0 and self.subnormals:
            value = Fraction(mantissa) * Fraction(2) ** (1 - self.bias - self.man_bits)
        else:
            value = Fraction(mantissa + (1 << self.man_bits)) * Fraction(2) ** (exponent - self.bias - self.man_bits)
        return -value if self.signed and code >> (self.bits - 1) else value

    def infinite(self, code: int) -> int:
        """Return 1 or -1 when a code is +Inf or -Inf, else 0."""
        if self.inf_code is None or code & self.magnitude_mask != self.inf_code or code == self.nan_code:
            return 0
        return -1 if self.signed and code >> (self.bits - 1) else 1

    @cached_property
    def frac_bits(self) -> int:
        """Number of fraction bits that make every value of the format an integer (0 when all are integers)."""
        return max(0, self.bias - 1 + self.man_bits if self.subnormals else self.bias + self.man_bits)


@dataclass(frozen=True)
class IntSpec:
    """Describe an integer element: two's complement when signed, plain binary when not.

    ``narrow`` leaves out the most negative code, so that the range is symmetric; encoders never emit it, decoders
    still give its two's-complement value. A code is worth ``integer * 2**-frac_bits``.
    """

    name: str
    bits: int
    source: str
    signed: bool = True
    narrow: bool = True
    frac_bits: int = 0
    witnesses: tuple[str, ...] = ()
    generator: str = ""

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ValueError(f"element {self.name!r}: bits must be 2 to 16, not {self.bits}")

    @property
    def qmax(self) -> int:
        """Largest integer that encoders emit."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def qmin(self) -> int:
        """Smallest integer that encoders emit."""
        if not self.signed:
            return 0
        return -self.qmax if self.narrow else -self.qmax - 1

    @property
    def max_value(self) -> float:
        """Largest value."""
        return self.qmax * 2.0**-self.frac_bits

    @property
    def emax(self) -> int:
        """Exponent of the largest power of two that the format holds."""
        return self.qmax.bit_length() - 1 - self.frac_bits

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring codes."""
        return 2.0**-self.frac_bits

    def value(self, code: int) -> Fraction:
        """Return what a code is worth, exactly.

        Raises
        ------
        ValueError
            When the code does not fit the format.
        """
        if not 0 <= code < 1 << self.bits:
            raise ValueError(f"code {code} is out of range for {self.name}: allowed 0 .. {(1 << self.bits) - 1}")
        negative = self.signed and code >> (self.bits - 1)
        return Fraction(code - (1 << self.bits) if negative else code, 1 << self.frac_bits)


@dataclass(frozen=True)
class TableSpec:
    """Describe an element by the list of its values, encoded by comparing with thresholds.

    Parameters
    ----------
    name, source, witnesses, generator
        As for floats.
    bits : int
        Width of a code, 1 to 8.
    values : tuple of float or None
        Value of each code; None for codes that no encoder emits and that decode to NaN. With `symmetric`, the values of
        the codes of half the width, ascending from the code of 0 or not, and the top bit of a code is its sign.
    symmetric : bool
        Sign and magnitude: the comparison is made on magnitudes, and the sign bit is that of the input.
    thresholds : tuple of float or None
        Borders between neighbouring values in ascending order; None takes their exact midpoints.
    ties : {"down", "up", "even"}
        What lies on a border: takes the lower of its neighbours, the higher, or the one of even rank (in magnitude when
        symmetric).
    """

    name: str
    bits: int
    values: tuple[float | None, ...]
    source: str
    symmetric: bool = False
    thresholds: tuple[float, ...] | None = None
    ties: Literal["down", "up", "even"] = "even"
    witnesses: tuple[str, ...] = ()
    generator: str = ""

    def __post_init__(self) -> None:
        where = f"element {self.name!r}"
        if not 1 <= self.bits <= 8 or len(self.values) != 1 << (self.bits - int(self.symmetric)):
            raise ValueError(
                f"{where}: needs 1 to 8 bits and a value a code (half as many when symmetric), "
                f"not {self.bits} bits and {len(self.values)} values"
            )
        if self.symmetric and min(level for level, _ in self.ranked) < 0:
            raise ValueError(f"{where}: the values of a symmetric table are magnitudes, not {min(self.ranked)[0]}")
        if len(self.ranked) < 2:
            raise ValueError(f"{where}: needs two different values")
        borders, levels = self.borders, [level for level, _ in self.ranked]
        if any(significant_bits(border) > 29 for border in borders):
            raise ValueError(
                f"{where}: thresholds have 29 significant bits at most, so that products with a float32 scale are "
                f"exact in float64; got {next(border for border in borders if significant_bits(border) > 29)!r}"
            )
        if len(borders) != len(levels) - 1 or any(
            not low <= border <= high for low, border, high in zip(levels, borders, levels[1:], strict=False)
        ):
            raise ValueError(f"{where}: each threshold must lie between two neighbouring values; got {borders}")

    @cached_property
    def ranked(self) -> tuple[tuple[float, int], ...]:
        """(value, code) of the values an encoder emits, ascending; of codes of equal value the lowest."""
        first: dict[float, int] = {}
        for code, value in enumerate(self.values):
            if value is not None:
                first.setdefault(value + 0.0, code)
        return tuple(sorted(first.items()))

    @cached_property
    def borders(self) -> tuple[float, ...]:
        """Thresholds between neighbouring ranks, ascending.

        Raises
        ------
        ValueError
            When the midpoint of two values is no float64.
        """
        if self.thresholds is not None:
            return self.thresholds
        levels = [Fraction(level) for level, _ in self.ranked]
        middles = [(low + high) / 2 for low, high in pairwise(levels)]
        if inexact := [middle for middle in middles if Fraction(float(middle)) != middle]:
            raise ValueError(f"element {self.name!r}: the midpoint {float(inexact[0])} is no float64; give thresholds")
        return tuple(float(middle) for middle in middles)

    def rank(self, magnitude: float | Fraction) -> int:
        """Return the rank of the level that a value (a magnitude when symmetric) is encoded to."""
        index = bisect_left(self.borders, magnitude)
        on_border = index < len(self.borders) and self.borders[index] == magnitude
        return index + int(on_border and (self.ties == "up" or (self.ties == "even" and index % 2 == 1)))

    @property
    def signed(self) -> bool:
        """Whether negative values have codes of their own."""
        return self.symmetric or self.ranked[0][0] < 0

    @property
    def max_value(self) -> float:
        """Largest magnitude."""
        return max(abs(level) for level, _ in self.ranked)

    @property
    def emax(self) -> int:
        """Exponent of the largest power of two not above the largest magnitude."""
        return math.frexp(self.max_value)[1] - 1

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring values."""
        levels = [level for level, _ in self.ranked]
        return min(high - low for low, high in pairwise(levels))

    def value(self, code: int) -> Fraction | None:
        """Return what a code is worth, exactly; None for a code that the format does not use.

        Raises
        ------
        ValueError
            When the code does not fit the format.
        """
        if not 0 <= code < 1 << self.bits:
            raise ValueError(f"code {code} is out of range for {self.name}: allowed 0 .. {(1 << self.bits) - 1}")
        half = len(self.values)
        value = self.values[code % half]
        if value is None:
            return None
        return -Fraction(value) if code >= half else Fraction(value)

    @cached_property
    def frac_bits(self) -> int:
        """Number of fraction bits that make every value an integer."""
        return max(Fraction(level).denominator.bit_length() - 1 for level, _ in self.ranked)


def significant_bits(value: float) -> int:
    """Return the number of bits from the first to the last that is set."""
    top = abs(Fraction(value).numerator)
    return (top // (top & -top)).bit_length() if top else 0


ElementSpec = FloatSpec | IntSpec | TableSpec


@cache
def integer_table(spec: ElementSpec) -> tuple[int, ...]:
    """Return the value of every code of an element as an integer, in units of ``2**-spec.frac_bits``.

    Raises
    ------
    ValueError
        When a code is NaN or Inf, which have no place in an integer datapath.
    """
    values = []
    for code in range(1 << spec.bits):
        value = spec.value(code)
        if value is None:
            raise ValueError(f"element {spec.name!r} has codes that are not finite (code {code:#x})")
        scaled = value * (1 << spec.frac_bits)
        assert scaled.denominator == 1
        values.append(int(scaled))
    return tuple(values)

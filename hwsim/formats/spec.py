"""Number formats as data: frozen descriptions of elements and of blocks, and nothing that computes on arrays."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import cache, cached_property
from typing import Any, Literal

SpecialCodes = Literal["none", "ieee", "fn", "all_ones"]


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
    special : {"none", "ieee", "fn", "all_ones"}
        Which codes are not finite. ``ieee``: the top exponent holds Inf and NaN; ``fn``: only the magnitude of all ones
        is NaN; ``all_ones``: the same for a format without mantissa (E8M0); ``none``: every code is finite.
    source : str
        Document, section, table.
    witnesses : tuple of str
        Outside tools that the tests compare every code with.
    """

    name: str
    exp_bits: int
    man_bits: int
    bias: int
    source: str
    signed: bool = True
    subnormals: bool = True
    special: SpecialCodes = "none"
    witnesses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.exp_bits < 1 or self.man_bits < 0 or self.bits > 32:
            raise ValueError(
                f"element {self.name!r}: needs exp_bits >= 1, man_bits >= 0 and at most 32 bits in all, "
                f"not exp_bits={self.exp_bits}, man_bits={self.man_bits}"
            )

    @property
    def bits(self) -> int:
        """Width of a code in bits, sign included."""
        return self.exp_bits + self.man_bits + int(self.signed)

    @property
    def max_code(self) -> int:
        """Return the magnitude code (sign bit left out) of the largest finite value."""
        top = (1 << (self.exp_bits + self.man_bits)) - 1
        if self.special == "ieee":
            return top - (1 << self.man_bits)
        return top if self.special == "none" else top - 1

    @property
    def emax(self) -> int:
        """Exponent of the largest power of two that the format holds (OCP MX section 6.3)."""
        return (self.max_code >> self.man_bits) - self.bias

    @property
    def max_value(self) -> float:
        """Largest finite value."""
        value = self.value(self.max_code)
        assert value is not None
        return float(value)

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring codes."""
        if self.subnormals:
            return 2.0 ** (1 - self.bias - self.man_bits)
        return 2.0 ** (-self.bias - self.man_bits)

    def value(self, code: int) -> Fraction | None:
        """Return what a code is worth, exactly; None for NaN and +-Inf. The sign of a zero is not kept.

        Raises
        ------
        ValueError
            When the code does not fit the format.
        """
        if not 0 <= code < 1 << self.bits:
            raise ValueError(f"code {code} is out of range for {self.name}: allowed 0 .. {(1 << self.bits) - 1}")
        magnitude = code & ((1 << (self.exp_bits + self.man_bits)) - 1)
        if magnitude > self.max_code:
            return None
        exponent, mantissa = magnitude >> self.man_bits, magnitude & ((1 << self.man_bits) - 1)
        if exponent == 0 and self.subnormals:
            value = Fraction(mantissa) * Fraction(2) ** (1 - self.bias - self.man_bits)
        else:
            value = Fraction(mantissa + (1 << self.man_bits)) * Fraction(2) ** (exponent - self.bias - self.man_bits)
        return -value if self.signed and code >> (self.bits - 1) else value

    @cached_property
    def frac_bits(self) -> int:
        """Number of fraction bits that make every value of the format an integer (0 when all are integers)."""
        return max(0, self.bias - 1 + self.man_bits if self.subnormals else self.bias + self.man_bits)


@dataclass(frozen=True)
class IntSpec:
    """Describe an integer element: two's complement when signed, plain binary when not.

    ``narrow`` leaves out the most negative code, so that the range is symmetric; encoders never emit it, decoders
    still give its two's-complement value.
    """

    name: str
    bits: int
    source: str
    signed: bool = True
    narrow: bool = True
    witnesses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"element {self.name!r}: bits must be 2 to 8, not {self.bits}")

    frac_bits: int = field(default=0, init=False)

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
        return float(self.qmax)

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring codes."""
        return 1.0

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
        return Fraction(code - (1 << self.bits) if negative else code)


ElementSpec = FloatSpec | IntSpec


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


@dataclass(frozen=True)
class BlockSpec:
    """Describe a block format: elements that share a scale, with every rule on which public tools disagree.

    A value is ``element * block_scale * tensor_scale`` (the last only where the format has one); with a zero point it
    is ``(code - zero) * block_scale``. Blocks lie along the axis that a dot product sums over.

    Parameters
    ----------
    name, source, witnesses
        As for elements.
    element, scale : ElementSpec, FloatSpec
        Number formats of the elements and of the block scale.
    block_size : int or None
        Elements in a block; None takes the whole axis (one scale a row).
    scale_rule : {"floor", "amax", "range"}
        ``floor``: the power of two ``2**(floor(log2(amax)) - element.emax)``, the logarithm read off the exponent bits
        (OCP MX 6.3). ``amax``: ``amax / element.max_value`` rounded once into the scale format. ``range``:
        ``(max - min) / (2**bits - 1)`` rounded once, with a zero point.
    zero_point : {"none", "include_zero"}
        ``include_zero``: an unsigned zero point of the element's width; the range is widened to hold 0, so that the
        zero point always fits and 0.0 is always exact.
    tensor_scale : {"none", "float32"}
        ``float32``: one second-level scale for the whole tensor, ``amax_tensor / (scale_cap * element.max_value)``; it
        multiplies on decode.
    scale_cap : float or None
        Largest block scale emitted with a tensor scale.
    rounding, overflow, zero_block, nan_policy, nibble_order
        House rules, explicit because tools differ: elements and scales round half to even; overflow saturates; a block
        of zeros has scale code 0; NaN and Inf in the input raise; two 4-bit codes lie low nibble first.
    activation : str
        Name of the format in which the matching unit takes its activations.
    """

    name: str
    element: ElementSpec
    scale: FloatSpec
    block_size: int | None
    scale_rule: Literal["floor", "amax", "range"]
    activation: str
    source: str
    zero_point: Literal["none", "include_zero"] = "none"
    tensor_scale: Literal["none", "float32"] = "none"
    scale_cap: float | None = None
    rounding: Literal["rne"] = "rne"
    overflow: Literal["saturate"] = "saturate"
    zero_block: Literal["code_00"] = "code_00"
    nan_policy: Literal["error"] = "error"
    nibble_order: Literal["low_first"] = "low_first"
    witnesses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"format {self.name!r}"
        if self.block_size is not None and self.block_size < 1:
            raise ValueError(f"{where}: block_size must be at least 1 or None (whole axis), not {self.block_size}")
        if (self.scale_rule == "range") != (self.zero_point == "include_zero"):
            raise ValueError(f"{where}: scale_rule 'range' and zero_point 'include_zero' go together")
        if self.scale_rule == "floor" and not (isinstance(self.element, FloatSpec) and self.scale.man_bits == 0):
            raise ValueError(f"{where}: scale_rule 'floor' needs a float element and a power-of-two scale")
        if (self.tensor_scale == "none") != (self.scale_cap is None):
            raise ValueError(f"{where}: tensor_scale and scale_cap go together")
        if self.scale_cap not in (None, self.scale.max_value):
            raise ValueError(f"{where}: scale_cap must be {self.scale.max_value}, not {self.scale_cap}")
        if self.element.bits > 8:
            raise ValueError(f"{where}: an element code is one byte, {self.element.name} has {self.element.bits} bits")
        if not getattr(self.element, "subnormals", True) or not (self.scale_rule == "floor" or self.scale.subnormals):
            raise ValueError(f"{where}: elements, and scales of rule {self.scale_rule!r}, need subnormals (a zero)")
        # Decoding multiplies in float64; the product must be exact there before its one rounding to float32.
        significand = self.element.bits + self.scale.man_bits + 1 + (24 if self.tensor_scale != "none" else 0)
        assert significand <= 53, where

    def bits_per_element(self, k: int) -> float:
        """Return stored bits an element along an axis of length `k`, scales and zero points included.

        The second-level tensor scale (32 bits a tensor) is left out: it does not depend on `k`.
        """
        block = self.block_size or k
        side = self.scale.bits + (self.element.bits if self.zero_point != "none" else 0)
        return self.element.bits + side / block

    def rules(self) -> dict[str, Any]:
        """Return every field as plain JSON data, as stored in exports and result rows."""
        data = asdict(self)
        for key in ("element", "scale"):
            data[key].pop("witnesses")
        data.pop("witnesses")
        return data

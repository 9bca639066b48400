"""How a unit adds up: which terms meet in one step, how they are aligned, in what format the running sum is kept.

A dot product is a sequence of steps in ascending K. A step has some terms and the running sum, the accumulator, which
starts at +0; it ends in one rounding. What a term is, and what is lost before the rounding, is the accumulator's kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

from hwsim.formats import FloatSpec
from hwsim.formats.catalog.elements import BFLOAT16, FLOAT16, FLOAT32

Kind = Literal["exact", "aligned", "sequential"]
Rounding = Literal["rne", "rtz", "rdn", "rod"]
Format = Literal["float32", "float16", "bfloat16"]
Place = Literal["inside", "outside"]
Scales = Literal["block", "product"]
Overflow = Literal["ieee", "infinite"]

_FORMATS: dict[str, FloatSpec] = {spec.name: spec for spec in (FLOAT32, FLOAT16, BFLOAT16)}
ZERO_EXPONENT = -126
"""Exponent of a term that is zero, in the maximum to which terms are aligned: of a float32 zero, as in MMA-Sim."""

MAX_GROUP = 256
"""Most products that meet in one alignment."""


@dataclass(frozen=True)
class Accumulator:
    """Describe the accumulation of a dot product.

    Parameters
    ----------
    kind : {"exact", "aligned", "sequential"}
        - ``exact``: a step is a block. Its term is the exact sum of the block's products, times the scales;
          ``acc = round(acc + term)``.
        - ``aligned``: a step is a group of products. With e the largest exponent of its terms (and of acc, where that
          is inside), each is truncated toward zero to a multiple of ``2**(e - fraction_bits)``; what is left is summed
          exactly and rounded once. A float's exponent is that of its hidden bit, subnormals share the smallest normal
          one, integers have exponent 0; a product has the sum of its factors' exponents (its significand, in [1, 4), is
          not normalised), a term that is zero has `ZERO_EXPONENT`.
        - ``sequential``: one product after the other, in ascending K, one rounding each. With scales ``product`` a step
          is a product under its scales: ``acc = round(acc + a * b * X_A * X_B)``. With scales ``block`` a block has a
          sum of its own, in the accumulator's format and with its rounding: ``part = round(part + a * b)`` from +0; a
          step is a block: ``acc = round(acc + part * X_A * X_B)``, the product exact, one rounding. That is the order
          of TOSA's MATMUL_T_BLOCK_SCALED, which leaves the last bits to a tolerance.
    format : {"float32", "float16", "bfloat16"}
        Format of the accumulator.
    rounding : {"rne", "rtz", "rdn", "rod"}
        To nearest, ties to even; toward zero; down; to odd. An exact zero is +0 in all of them.
    overflow : {"ieee", "infinite"}
        What a result too large becomes: the format's infinity or largest value as IEEE 754 has it for the rounding, or
        always infinity.
    kept_bits : int, optional
        Fraction bits kept of the format (its exponent range stays); None keeps all.
    group : int
        Products of a step of kind ``aligned``, up to `MAX_GROUP`; 0 for the other kinds. A dot product is filled up to
        whole groups with products that are zero.
    fraction_bits : int
        F of kind ``aligned``; 0 for the other kinds.
    addend : {"inside", "outside"}
        Kind ``aligned``: whether the accumulator is aligned and truncated like a term, or is added exactly.
    scales : {"block", "product"}
        Where block scales enter. ``block``: with the sum of a block, exact but for kind ``sequential``; the term of
        kind ``aligned`` is that sum times the scales' significands, with the scales' exponents alone. ``product``: with
        each product (kinds ``aligned`` and ``sequential``).
    promote_every : int
        Blocks after which the accumulator is added into an FP32 sum (round to nearest even) and starts again at +0; 0:
        never. What is left after the last block is added too.

    Raises
    ------
    ValueError
        When a field has another value, or two contradict each other.
    """

    kind: Kind = "exact"
    format: Format = "float32"
    rounding: Rounding = "rne"
    overflow: Overflow = "ieee"
    kept_bits: int | None = None
    group: int = 0
    fraction_bits: int = 0
    addend: Place = "inside"
    scales: Scales = "block"
    promote_every: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("kind", Kind), ("format", Format), ("rounding", Rounding), ("overflow", Overflow), ("addend", Place),
            ("scales", Scales),
        ):  # fmt: skip
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(
                    f"accumulator: {name} must be one of {', '.join(get_args(allowed))}, not {getattr(self, name)!r}"
                )
        for name in ("group", "fraction_bits", "promote_every"):
            if not _whole(getattr(self, name)) or getattr(self, name) < 0:
                raise ValueError(f"accumulator: {name} must be an integer of 0 or more, not {getattr(self, name)!r}")
        for condition, words in self._objections():
            if condition:
                raise ValueError(f"accumulator: {words}")

    def _objections(self) -> list[tuple[bool, str]]:
        """Return (is it so, what to say) for everything that can be wrong with numbers and combinations."""
        aligned, full = self.kind == "aligned", _FORMATS[self.format].man_bits
        kept = self.kept_bits
        return [
            (
                kept is not None and not (_whole(kept) and 2 <= kept <= full),
                f"kept_bits must be None or 2 to {full}, the fraction bits of {self.format}, not {kept!r}",
            ),
            (
                aligned and not 1 <= self.group <= MAX_GROUP,
                f"kind aligned needs a group of at least 1 product, at most {MAX_GROUP}, not {self.group}",
            ),
            (
                aligned and not 1 <= self.fraction_bits <= 48,
                f"kind aligned needs fraction_bits of 1 to 48, not {self.fraction_bits}",
            ),
            (not aligned and self.group != 0, f"group is for kind aligned; leave it 0, not {self.group}"),
            (
                not aligned and self.fraction_bits != 0,
                f"fraction_bits are for kind aligned; leave them 0, not {self.fraction_bits}",
            ),
            (not aligned and self.addend != "inside", "addend 'outside' is for kind aligned"),
            (self.kind == "exact" and self.scales != "block", "kind exact takes scales 'block', not 'product'"),
        ]

    @cached_property
    def spec(self) -> FloatSpec:
        """Format of the accumulator with the fraction bits that it keeps."""
        full = _FORMATS[self.format]
        if self.kept_bits is None or self.kept_bits == full.man_bits:
            return full
        return replace(full, name=f"{self.format}_kept_{self.kept_bits}", man_bits=self.kept_bits)

    @property
    def by_product(self) -> bool:
        """Whether single products are taken in, and not the exact sums of blocks."""
        return self.scales == "product" or self.kind == "sequential"

    @property
    def sums_in_order(self) -> bool:
        """Whether a block has a rounded sum of its own."""
        return self.scales == "block" and self.kind == "sequential"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Preset:
    """A published accumulation rule.

    Attributes
    ----------
    elements : tuple of str
        Elements for which the source states it.
    accumulator : Accumulator
        With group 0 where the source states no K.
    k : int or None
        K of one operation; None where the source states none.
    splits : int
        Steps in which an operation takes its K.
    source : str
    """

    elements: tuple[str, ...]
    accumulator: Mapping[str, Any]
    k: int | None
    splits: int
    source: str


_MMA_SIM = "MMA-Sim (microsoft/MMA-Sim, simulator/arithmetic.py and nv_ptx.py): {}"
_RULE: dict[str, Any] = {"kind": "aligned", "rounding": "rtz", "overflow": "infinite", "addend": "inside"}
_FP8 = ("float8_e4m3fn", "float8_e5m2")

PRESETS: Mapping[str, Preset] = {
    "ampere": Preset(
        ("float16", "bfloat16"),
        {**_RULE, "fraction_bits": 24, "scales": "product"},
        None,
        2,
        _MMA_SIM.format("Turing, Ampere, Ada: F = 24, FP32 out by RZ; Ampere takes K in halves; K is not stated"),
    ),
    "ada_fp8": Preset(
        _FP8,
        {**_RULE, "fraction_bits": 13, "kept_bits": 13, "scales": "product"},
        32,
        2,
        _MMA_SIM.format("FP8 on Ada: F = 13, output kept to 13 fraction bits, halves of 16"),
    ),
    "hopper_fp8": Preset(
        _FP8,
        {**_RULE, "fraction_bits": 13, "kept_bits": 13, "scales": "product"},
        None,
        1,
        _MMA_SIM.format("FP8 on Hopper: F = 13, output kept to 13 fraction bits; K is not stated"),
    ),
    "blackwell_mx": Preset(
        (*_FP8, "float4_e2m1fn"),
        {**_RULE, "fraction_bits": 25, "scales": "product"},
        32,
        1,
        _MMA_SIM.format("MX, K = 32: F = 25, exponents with those of the scales; FP6 is not modelled"),
    ),
    "mxf4nvf4": Preset(
        ("float4_e2m1fn",),
        {**_RULE, "fraction_bits": 35, "scales": "block"},
        64,
        1,
        _MMA_SIM.format(
            "mxf4nvf4, K = 64: exact sums of 16 products times scale significands, exponents of the scales, F = 35"
        ),
    ),
}
"""Tensor cores, for FP32 results. The width of `mxf4nvf4`'s exact sums, 16, is the block of the unit that takes it."""


def preset(name: str, k: int | None = None) -> Accumulator:
    """Return the accumulator of a published rule.

    Parameters
    ----------
    name : str
        One of `PRESETS`.
    k : int, optional
        K of one operation; needed where the source states none, and refused where it does.

    Raises
    ------
    ValueError
        When there is no such preset, or `k` is missing, or given where the source states another.

    Examples
    --------
    >>> preset("blackwell_mx").group, preset("ampere", k=16).group, preset("ada_fp8").spec.man_bits
    (32, 8, 13)
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    found = PRESETS[name]
    if found.k is None and k is None:
        raise ValueError(f"preset {name!r}: the source states no K; give k, the products of one operation")
    if found.k is not None and k not in (None, found.k):
        raise ValueError(f"preset {name!r}: the source states K = {found.k}, not {k}")
    products = found.k if found.k is not None else k
    if not _whole(products) or products < 1 or products % found.splits:  # type: ignore[operator]
        raise ValueError(f"preset {name!r}: k must be a positive multiple of {found.splits}, not {products!r}")
    assert products is not None
    return Accumulator(**{**found.accumulator, "group": products // found.splits})


def from_fields(fields: Accumulator | Mapping[str, Any]) -> Accumulator:
    """Return an accumulator from its fields as plain data (as `asdict` gives them), or as it is.

    Raises
    ------
    ValueError
        When a field is unknown.
    """
    if isinstance(fields, Accumulator):
        return fields
    known = asdict(Accumulator())
    if unknown := [name for name in fields if name not in known]:
        raise ValueError(f"accumulator: unknown field {unknown[0]!r}; known: {', '.join(known)}")
    return Accumulator(**fields)


__all__ = ["PRESETS", "ZERO_EXPONENT", "Accumulator", "Preset", "from_fields", "preset"]

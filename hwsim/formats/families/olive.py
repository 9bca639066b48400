"""Outlier-victim pairs (OliVe): an outlier takes the place of its neighbour, which becomes 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.format import Format, Part, Parts
from hwsim.formats.spec import FloatSpec, TableSpec, significant_bits

_ALLOWED = {
    "scope": ("channel", "tensor"),
    "reach": ("sigma", "amax"),
    "deviation": ("sample",),
    "ties": ("listed_last",),
    "both_outliers": ("even_wins",),
    "zero_scale": ("code_00",),
    "nibble_order": ("low_first", "high_first"),
}


class _Tables(NamedTuple):
    borders: NDArray[np.float64]
    closed: NDArray[np.uint8]
    levels: NDArray[np.float64]
    outlier: NDArray[np.uint8]
    order: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class OliveSpec(Format):
    """Describe pairs of elements (2i, 2i + 1) that hold two normal values, or one outlier and a 0.

    A value is ``level * scale``. A normal level has a code of `normal`. An outlier is an abfloat, a float without zero
    or subnormals whose exponents start above the normal levels: a sign, `exp_bits` of exponent e and the rest mantissa
    m, worth ``2**(exp_base + e) * (1 + m / 2**man_bits)``; the code of the smallest one (e = m = 0) is not used. The
    other element of its pair, the victim, becomes 0 and holds the identifier, the code of a negative zero (1000b).

    Parts: ``codes`` [..., K]; ``scales`` [...], one a row, or one of the tensor.

    Parameters
    ----------
    normal : TableSpec
        Normal levels: integers of 4 bits, as many of either sign, the identifier's code not used.
    scale : FloatSpec
        Number format of the scale, with subnormals.
    exp_bits, exp_base : int
        Exponent bits of the outliers and the exponent of the (unused) smallest one.
    scope : {"channel", "tensor"}
        What shares a scale: a row, or the whole tensor.
    reach : {"sigma", "amax"}
        Magnitude that the largest normal level stands for. ``sigma``: the larger of ``abs(mean + sigmas * std)`` and
        ``abs(mean - sigmas * std)``; ``amax``: the largest magnitude, so that there are no outliers at 100 percent.
    sigmas : float
        For ``sigma``: 3 as published.
    deviation : {"sample"}
        The standard deviation divides by n - 1 (`torch.std`).
    percents : tuple of int
        Percentages of `reach` that are tried, in order: the first of the least sum of squared errors is taken; a
        single one is taken without a look at errors.
    ties : {"listed_last"}
        Of two equally near levels: an outlier before a normal one, else the higher (the published kernel keeps the last
        of a list that holds the normal levels first, then the outliers, ascending).
    both_outliers : {"even_wins"}
        Of two outliers in a pair the even one stays, and the odd one is the victim.
    zero_scale : {"code_00"}
        Scale of a row (tensor) of zeros: 0; all its codes are those of 0.
    nibble_order : {"low_first", "high_first"}
        Order in which two 4-bit codes lie in a byte.

    Raises
    ------
    ValueError
        When rules do not go together; the message names the format.

    Exactness
    ---------
    Mean, deviation, scales before rounding and errors are defined in float64, operation by operation, sums in the order
    of the elements (``total / n``; squares of differences from that mean; ``reach * percent / (100 * top)``, `top`
    being the largest normal level); the scale is then rounded half to even into its format, at least the smallest
    positive number and at most the largest. Elements are compared with exact borders, the midpoints of levels, times
    the stored scale. Decoding rounds the exact product once to float32, beyond its range to Inf.
    """

    normal: TableSpec
    scale: FloatSpec
    exp_base: int
    exp_bits: int = 2
    scope: Literal["channel", "tensor"] = "channel"
    reach: Literal["sigma", "amax"] = "sigma"
    sigmas: float = 3.0
    deviation: Literal["sample"] = "sample"
    percents: tuple[int, ...] = (100,)
    ties: Literal["listed_last"] = "listed_last"
    both_outliers: Literal["even_wins"] = "even_wins"
    zero_scale: Literal["code_00"] = "code_00"
    nibble_order: Literal["low_first", "high_first"] = "low_first"

    def __post_init__(self) -> None:
        for condition, words in _objections(self):
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    @property
    def identifier(self) -> int:
        """Code of a victim."""
        return 1 << (self.normal.bits - 1)

    def outlier(self, code: int) -> Fraction | None:
        """Return the level of an outlier's code; None for the two codes that are not used."""
        man_bits = self.normal.bits - 1 - self.exp_bits
        magnitude = code & (self.identifier - 1)
        if magnitude == 0:
            return None
        mantissa = (1 << man_bits) + (magnitude & ((1 << man_bits) - 1))
        value = Fraction(mantissa) * Fraction(2) ** (self.exp_base - man_bits + (magnitude >> man_bits))
        return -value if code & self.identifier else value

    def pair(self, even: int, odd: int) -> tuple[Fraction, Fraction] | None:
        """Return the levels of a pair of codes; None where the pair means nothing."""
        if odd == self.identifier:
            level = self.outlier(even)
            return None if level is None else (level, Fraction(0))
        if even == self.identifier:
            level = self.outlier(odd)
            return None if level is None else (Fraction(0), level)
        first, second = self.normal.value(even), self.normal.value(odd)
        return None if first is None or second is None else (first, second)

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last pair."""
        return k % 2

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return codes and scales of a tensor of that shape."""
        k = shape[-1]
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the pairs is empty")
        if k % 2:
            raise ValueError(
                f"format {self.name}: pairs do not divide the axis of {k}; pad it to {k + 1} and record the padding"
            )
        whole = self.scope == "tensor"
        return (
            Part.code("codes", shape, self.normal.bits),
            Part.code("scales", () if whole else shape[:-1], self.scale.bits, by_row=not whole),
        )

    @property
    def max_value(self) -> float:
        """Largest outlier, scale left out."""
        return float(self.outlier(self.identifier - 1) or 0)

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring levels, scale left out."""
        return self.normal.min_step

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes and scales."""
        from hwsim.formats.families import _olive_kernels as kernels

        shape = (1, x.size) if self.scope == "tensor" else x.shape
        scales = np.empty(shape[0], np.int64)
        rules = kernels.Rules(
            self.sigmas if self.reach == "sigma" else -1.0,
            self.normal.max_value,
            self.scale.man_bits,
            self.scale.bias,
            self.scale.max_code,
        )
        kernels.encode_pairs(
            x.reshape(shape),
            np.array(self.percents, np.float64),
            rules,
            self.identifier,
            *_tables(self),
            out["codes"].reshape(shape),
            scales,
        )
        out["scales"][...] = scales.reshape(out["scales"].shape)

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k].

        Raises
        ------
        ValueError
            When a pair of codes means nothing, or a scale is negative or not finite.
        """
        from hwsim.formats.families import _olive_kernels as kernels

        codes = np.atleast_1d(parts["scales"])
        if (wrong := np.flatnonzero(codes > self.scale.max_code)).size:
            raise ValueError(f"format {self.name}: scale {int(wrong[0])} is negative or not finite")
        bad = np.zeros(out.shape[0], np.int64)
        kernels.decode_pairs(parts["codes"], _pairs(self), _values(self.scale, codes), self.normal.bits, out, bad)
        if bad.any():
            row = int(np.argmax(bad > 0))
            raise ValueError(
                f"format {self.name}: row {row} holds a pair that the format does not use: an identifier "
                f"({self.identifier:#x}) beside a code that is no outlier"
            )


def _values(scale: FloatSpec, codes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the worth of non-negative finite scale codes, exactly."""
    field, mantissa = codes.astype(np.int64) >> scale.man_bits, codes.astype(np.int64) & ((1 << scale.man_bits) - 1)
    whole = mantissa + np.where(field > 0, 1 << scale.man_bits, 0)
    return np.ldexp(whole.astype(np.float64), (np.maximum(field, 1) - scale.bias - scale.man_bits).astype(np.int32))


@cache
def _pairs(spec: OliveSpec) -> NDArray[np.float64]:
    """Return the levels of every pair of codes, even code first, float64 [pairs, 2]; NaN where it means nothing."""
    count = 1 << spec.normal.bits
    worth = [spec.pair(even, odd) for even in range(count) for odd in range(count)]
    return np.array([(math.nan, math.nan) if pair is None else (float(pair[0]), float(pair[1])) for pair in worth])


@cache
def _tables(spec: OliveSpec) -> _Tables:
    """Return borders, ties, levels, kinds and codes of all levels by rank."""
    outliers = [(spec.outlier(code), code) for code in range(1 << spec.normal.bits)]
    ranked = sorted(
        [(Fraction(level), False, code) for level, code in spec.normal.ranked]
        + [(level, True, code) for level, code in outliers if level is not None]
    )
    borders = [(low + high) / 2 for (low, _, _), (high, _, _) in pairwise(ranked)]
    # only between the lowest normal level and the outlier below it does a tie go down
    closed = [high or not low for (_, low, _), (_, high, _) in pairwise(ranked)]
    return _Tables(
        np.array([float(border) for border in borders]),
        np.array(closed, np.uint8),
        np.array([float(level) for level, _, _ in ranked]),
        np.array([outlier for _, outlier, _ in ranked], np.uint8),
        np.array([code for _, _, code in ranked], np.uint8),
    )


def _objections(spec: OliveSpec) -> list[tuple[bool, str]]:
    """Return (is it so, what to say) for everything that can be wrong with a format of pairs."""
    normal, half = spec.normal, 1 << (spec.normal.bits - 1)
    levels = [level for level, _ in normal.ranked]
    least = 2.0**spec.exp_base * (1 + 2.0 ** -(normal.bits - 1 - spec.exp_bits))
    return [
        (
            normal.symmetric or normal.bits != 4 or normal.values[half] is not None,
            f"normal must be a signed table of 4 bits that leaves code {half:#x} to the identifier",
        ),
        (
            any(level % 1 for level in levels) or levels != [-level for level in reversed(levels)],
            "normal levels must be integers, as many of either sign",
        ),
        (not spec.scale.subnormals, f"the scale must have subnormals, not {spec.scale.name}"),
        (not 0 < spec.exp_bits < normal.bits, f"exp_bits must be 1 .. {normal.bits - 1}, not {spec.exp_bits}"),
        (
            not 0 <= spec.exp_base <= 16 or least <= normal.max_value,
            f"exp_base must be 0 .. 16 and the smallest outlier above the normal levels, not {spec.exp_base}",
        ),
        (
            not 0 <= spec.sigmas < 2.0**64 or significant_bits(spec.sigmas) > 24,
            f"sigmas must not be negative, of 24 significant bits at most, not {spec.sigmas}",
        ),
        (
            not spec.percents or any(not 1 <= percent <= 10000 for percent in spec.percents),
            f"percents must be one or more of 1 .. 10000, not {spec.percents}",
        ),
        *(
            (getattr(spec, field) not in allowed, f"{field} must be one of {allowed}, not {getattr(spec, field)!r}")
            for field, allowed in _ALLOWED.items()
        ),
    ]

"""Ternary and binary formats: trits or signs under a scale found from a mean or a median of magnitudes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.format import Format, Part, Parts
from hwsim.formats.trits import TritPacking, block_of, pack_trits, packed_length, unpack_trits

FLOATS: dict[str, tuple[int, int, int, int]] = {"float16": (16, 10, 15, 0x7BFF), "float32": (32, 23, 127, 0x7F7FFFFF)}
"""Formats of a scale: bits, mantissa bits, bias, code of the largest finite value."""

_PIECES = 64
"""Parts that a tensor is cut into for threads; sums are integers, so their number changes no result."""


@dataclass(frozen=True, kw_only=True)
class TernarySpec(Format):
    """Describe a format of trits {-1, 0, +1} or signs {-1, +1}; a value is ``trit * scale``.

    Parameters
    ----------
    levels : {"ternary", "binary"}
        Codes are trit + 1 (0, 1, 2), or 1 for +1 and 0 for -1.
    scope : {"tensor", "row", "group"}
        What shares a scale: the whole tensor (part ``tensor_scale``, float32), a row, or `block_size` elements of a row
        (part ``scales``, bit patterns).
    block_size : int, optional
        Elements in a group; None for the other scopes.
    rule : {"round", "twn", "sign"}
        ``round``: scale = the statistic, trit = clamp(half_even(x / scale), -1, 1). ``twn``: a threshold
        D = `threshold` times the mean magnitude, rounded once to float32; trit = sign(x) where abs(x) > D, scale = mean
        magnitude of those. ``sign``: scale = the statistic, and the sign of x; for ``binary``.
    statistic : {"absmean", "absmedian"}
        Mean or lower median (`torch.median`: element ``(n - 1) // 2`` in ascending order) of the magnitudes.
    threshold : (int, int)
        Numerator and denominator of TWN's factor.
    scale_floor : float
        Least scale (rounded to the scale's format), as upstream's ``clamp(min=1e-5)``; 0 for none.
    scale_format : {"float32", "float16"}
        Format of row and group scales; the scale of a tensor is float32. Float16 saturates.
    quotient : {"exact", "fp32_inverse"}
        ``exact``: rounds the true quotient. ``fp32_inverse``: the float32 product ``x * fp32(1 / scale)``, as upstream.
        The value is ``trit * scale`` in both (upstream divides by the float32 inverse again).
    sign_of_zero : {"plus", "minus"}
        Sign that zeros get, of either sign; for ``binary``.
    packing : {"none", "two_bit", "i2_s_avx", "i2_s_neon", "five_in_eight"}
        ``none``: part ``codes``, a trit or sign a byte in memory (2 bits or 1 bit as stored). Otherwise part
        ``packed``, bytes a row, see `hwsim.formats.trits`.

    Raises
    ------
    ValueError
        When rules do not go together; the message names the format.

    Exactness
    ---------
    The mean is that of the exact sum, rounded once half to even: sums are integers in units of 2**-149, so that neither
    order nor threads matter. The median is an element. Codes follow from exact comparisons. Blocks whose scale rounds
    to 0 get the codes of zeros (rule ``round``). Decoding is exact.
    """

    levels: Literal["ternary", "binary"] = "ternary"
    scope: Literal["tensor", "row", "group"] = "tensor"
    block_size: int | None = None
    rule: Literal["round", "twn", "sign"] = "round"
    statistic: Literal["absmean", "absmedian"] = "absmean"
    threshold: tuple[int, int] = (7, 10)
    scale_floor: float = 0.0
    scale_format: Literal["float32", "float16"] = "float32"
    quotient: Literal["exact", "fp32_inverse"] = "exact"
    sign_of_zero: Literal["plus", "minus"] = "plus"
    packing: Literal["none", "two_bit", "i2_s_avx", "i2_s_neon", "five_in_eight"] = "none"

    def __post_init__(self) -> None:
        for condition, words in _objections(self):
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last group."""
        return -k % math.lcm(self.block_size or 1, 1 if self.packing == "none" else block_of(self._order))

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return the codes (or packed bytes) and scales of a tensor of that shape."""
        k = shape[-1]
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the blocks is empty")
        block = self.block_size or k
        if k % block:
            raise ValueError(
                f"format {self.name}: block of {block} does not divide the axis of {k}; pad it to "
                f"{k + self.padding(k)} and record the padding"
            )
        if self.packing == "none":
            codes = Part.code("codes", shape, 2 if self.levels == "ternary" else 1)
        else:
            codes = Part.code("packed", (*shape[:-1], packed_length(k, self.packing)), 8)
        if self.scope == "tensor":
            return codes, Part("tensor_scale", (), 32, np.dtype(np.float32), by_row=False)
        return codes, Part.code("scales", (*shape[:-1], k // block), FLOATS[self.scale_format][0])

    @property
    def max_value(self) -> float:
        """Largest magnitude of a trit or sign."""
        return 1.0

    @property
    def min_step(self) -> float:
        """Smallest distance between two levels, scales left out."""
        return 1.0 if self.levels == "ternary" else 2.0

    def code_points(self) -> NDArray[np.float64]:
        """Return the value of every code, NaN for the 2-bit code 3."""
        return np.array([-1.0, 0.0, 1.0, np.nan] if self.levels == "ternary" else [-1.0, 1.0])

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes (or packed bytes) and scales."""
        if x.size >= 1 << 32:
            raise ValueError(f"format {self.name}: {x.size} elements, allowed below 2**32")
        bound = np.float32(0)
        if self.scope == "tensor":
            scale, bound = self._tensor_scale(x)
            out["tensor_scale"][...] = scale
        if self.packing == "none":
            self._codes(x, bound, out["codes"], out.get("scales"))
            return
        # few rows at a time: their codes take no more room than the packed bytes of all
        step = max(1, x.shape[0] // 8)
        scratch = np.empty((step, x.shape[1]), np.uint8)
        for start in range(0, x.shape[0], step):
            rows = x[start : start + step]
            scales = out["scales"][start : start + step] if "scales" in out else None
            self._codes(rows, bound, scratch[: len(rows)], scales)
            out["packed"][start : start + step] = pack_trits(scratch[: len(rows)], self._order)

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k], exactly.

        Raises
        ------
        ValueError
            On a code that is no trit.
        """
        from hwsim.formats.families import _ternary_kernels as kernels

        rows, k = out.shape
        if self.scope == "tensor":
            steps = np.full((1, 1), parts["tensor_scale"][()], np.float32)
        else:
            scales = parts["scales"]
            steps = scales.view(np.float32) if scales.dtype == np.uint32 else scales.view(np.float16).astype(np.float32)
        table, bad = self.code_points().astype(np.float32), np.zeros(rows, np.int64)
        step = rows if self.packing == "none" else max(1, rows // 8)
        for start in range(0, rows, step):
            piece = slice(start, min(start + step, rows))
            if self.packing == "none":
                codes = parts["codes"][piece]
            else:
                codes = np.ascontiguousarray(unpack_trits(parts["packed"][piece], self._order, k))
            of_rows = steps if self.scope == "tensor" else steps[piece]
            kernels.decode_blocks(codes, table, of_rows, self.block_size or k, out[piece], bad[piece])
        if bad.any():
            row = int(np.argmax(bad > 0))
            raise ValueError(f"format {self.name}: row {row} holds a code that is no trit; allowed 0, 1, 2")

    @property
    def _order(self) -> TritPacking:
        assert self.packing != "none"
        return self.packing

    @property
    def _floor_code(self) -> int:
        dtype: Any = np.float32 if self.scale_format == "float32" else np.float16
        return int(np.array(self.scale_floor, dtype).view(f"u{np.dtype(dtype).itemsize}"))

    def _codes(self, x: NDArray[np.float32], bound: np.float32, codes: NDArray[np.uint8], scales: Any) -> None:
        """Write the codes of rows, and their scales where they have their own."""
        from hwsim.formats.families import _ternary_kernels as kernels

        rule = ("round", "twn", "sign").index(self.rule)
        inverse, plus = self.quotient == "fp32_inverse", self.sign_of_zero == "plus"
        if self.scope == "tensor":
            kernels.encode_rows(x, rule, inverse, bound, plus, codes)
            return
        bits, (block, scale) = x.view(np.uint32), (self.block_size or x.shape[1], FLOATS[self.scale_format][1:])
        kernels.encode_blocks(
            x, bits, block, rule, inverse, self.threshold, self._floor_code, scale, plus, codes, scales
        )

    def _tensor_scale(self, x: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
        """Return the scale of a tensor, and what its codes are compared with (scale or threshold)."""
        bits = x.reshape(-1).view(np.uint32)
        floor, bound = np.float32(self.scale_floor), np.float32(0)
        if self.statistic == "absmedian":
            scale = max(lower_median(bits), floor)
            return scale, scale
        above = -1
        if self.rule == "twn":
            threshold, _ = mean_magnitude(bits, -1, self.threshold)
            bound, above = threshold, int(threshold.view(np.uint32))
        mean, _ = mean_magnitude(bits, above)
        scale = max(mean, floor)
        return scale, bound if self.rule == "twn" else scale


def mean_magnitude(
    bits: NDArray[np.uint32], above: int = -1, ratio: tuple[int, int] = (1, 1)
) -> tuple[np.float32, int]:
    """Return the mean magnitude of finite float32, times a ratio, rounded once half to even, and how many took part.

    Parameters
    ----------
    bits : uint32 [n]
        Bit patterns of the values, n below 2**32.
    above : int
        Only magnitudes whose bits exceed this take part; -1 for all. The mean of none is 0.
    ratio : (int, int)
        Numerator and denominator of a factor.

    Exactness
    ---------
    The sum is an integer in units of 2**-149; independent of order and threads.
    """
    from hwsim.formats.families import _ternary_kernels as kernels

    pieces = max(1, min(_PIECES, bits.size // 4096))
    digits, counts = np.zeros((pieces, kernels.DIGITS), np.int64), np.zeros(pieces, np.int64)
    kernels.piece_sums(bits, above, digits, counts)
    count = int(counts.sum())
    code = kernels.mean_code(digits.sum(axis=0), ratio[0], max(count, 1) * ratio[1], 23, 127, 0x7F7FFFFF)
    return np.uint32(code).view(np.float32), count


def lower_median(bits: NDArray[np.uint32]) -> np.float32:
    """Return the lower median of the magnitudes of finite float32, exactly, from their bits (uint32 [n]).

    Two counts over the bits find it, for magnitudes are ordered as their bits are; nothing is sorted or copied.
    """
    from hwsim.formats.families import _ternary_kernels as kernels

    pieces = max(1, min(8, bits.size >> 15))
    rank, found = (bits.size - 1) // 2, 0
    for shift, width in ((16, 15), (0, 16)):
        counts = np.zeros((pieces, 1 << width), np.int64)
        kernels.histogram(bits, shift, width, found, counts)
        below = counts.sum(axis=0).cumsum()
        index = int(np.searchsorted(below, rank, side="right"))
        rank -= int(below[index - 1]) if index else 0
        found = found << width | index
    return np.uint32(found).view(np.float32)


def _objections(spec: TernarySpec) -> list[tuple[bool, str]]:
    """Return (is it so, what to say) for everything that can be wrong with a ternary format."""
    top, bottom = spec.threshold
    allowed = {
        "levels": ("ternary", "binary"), "scope": ("tensor", "row", "group"), "rule": ("round", "twn", "sign"),
        "statistic": ("absmean", "absmedian"), "scale_format": tuple(FLOATS), "quotient": ("exact", "fp32_inverse"),
        "sign_of_zero": ("plus", "minus"), "packing": ("none", *get_args(TritPacking)),
    }  # fmt: skip
    return [
        *(
            (getattr(spec, field) not in values, f"{field} is {getattr(spec, field)!r}, allowed: {', '.join(values)}")
            for field, values in allowed.items()
        ),
        ((spec.scope == "group") != (spec.block_size is not None), "scope 'group' and block_size go together"),
        (spec.block_size is not None and spec.block_size < 1, f"block_size must be at least 1, not {spec.block_size}"),
        ((spec.levels == "binary") != (spec.rule == "sign"), "levels 'binary' and rule 'sign' go together"),
        (spec.statistic == "absmedian" and spec.scope != "tensor", "the median is that of a whole tensor"),
        (spec.statistic == "absmedian" and spec.rule == "twn", "rule 'twn' is about means"),
        (spec.scope == "tensor" and spec.scale_format != "float32", "the scale of a tensor is float32"),
        (not (1 <= top < 1 << 15 and 1 <= bottom <= 16), f"threshold {top}/{bottom}: positive, denominator <= 16"),
        (not 0 <= spec.scale_floor <= 65504, f"scale_floor must be 0 .. 65504, not {spec.scale_floor}"),
        (spec.quotient != "exact" and spec.rule != "round", "quotient 'fp32_inverse' is for rule 'round'"),
        (spec.packing != "none" and spec.levels == "binary", "packings are of trits; leave packing 'none'"),
    ]  # fmt: skip

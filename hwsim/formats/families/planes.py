"""Formats that are sums of scaled planes: bit planes, trit planes, dual binary planes; and partly binary rows."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.families.ternary import FLOATS
from hwsim.formats.format import Format, Part, Parts
from hwsim.formats.trits import from_planes

_TRITS = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""Pairs of trits in the order that ties of the trit-plane search prefer (the kernel knows the ends of this list)."""


@dataclass(frozen=True, kw_only=True)
class _Grouped(Format):
    """Share what formats with groups along the axis have in common."""

    block_size: int | None = None

    @property
    def quantum(self) -> int:
        """Elements that groups, and words where there are any, both divide; 0 for the whole axis."""
        return self.block_size or 0

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last group."""
        return -k % (self.quantum or 1)

    def _block(self, k: int) -> int:
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the blocks is empty")
        if self.padding(k):
            raise ValueError(
                f"format {self.name}: block of {self.quantum} does not divide the axis of {k}; pad it to "
                f"{k + self.padding(k)} and record the padding"
            )
        return self.block_size or k

    def _object(self, objections: list[tuple[bool, str]]) -> None:
        size = self.block_size
        for condition, words in [
            (size is not None and size < 1, f"block_size must be at least 1, not {size}"),
            *objections,
        ]:
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    def _require(self, bad: NDArray[np.int64]) -> None:
        if bad.any():
            raise ValueError(
                f"format {self.name}: row {int(np.argmax(bad > 0))} holds a code that the format does not use"
            )


def _known(field: str, value: Any, allowed: tuple[Any, ...]) -> tuple[bool, str]:
    return value not in allowed, f"{field} is {value!r}, allowed: {', '.join(map(str, allowed))}"


def _steps(scales: NDArray[Any]) -> NDArray[np.float32]:
    """Return what scale codes, float16 or float32, are worth."""
    return scales.view(np.float32) if scales.dtype == np.uint32 else scales.view(np.float16).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class BitPlaneSpec(_Grouped):
    """Describe integers kept as bit planes, plane-major, 32 elements of the axis a word (`hwsim.formats.trits`).

    Parts: ``planes`` uint32 [bits, ..., K // 32], ``scales`` [..., groups], and for unsigned numbers ``zeros``.

    Parameters
    ----------
    block_size : int, optional
        Elements that share a scale, a multiple of 32; None for the whole axis.
    bits : int
        1 to 8 as the format's name says (the extra level of `balance` takes one plane more).
    numbers : {"unsigned", "bipolar"}
        ``unsigned``: value (code - zero) * scale. ``bipolar``: bits are worth +-1, code u is the odd integer
        ``2 u - (2**bits - 1)``; there is no zero.
    balance : {"none", "extra_level"}
        ``extra_level``: codes 0 .. 2**bits, one more than the bits hold, so that levels lie evenly about the zero point
        (ABQ-LLM's bit balance).
    span : {"include_zero", "plain"}
        ``plain``: the range is max - min, and the zero point, clamped to +-10000, is stored in 16 bits (two's
        complement). ``include_zero``: the range is widened to hold 0, and the zero point is a code.
    ties : {"even", "up"}
        Bipolar codes of values midway between two levels: the even code, or the upper level.
    scale_format : {"float16", "float32"}
        Format of the scales, rounded half to even, saturating.
    scale_floor, scale_cap : float
        Bounds of the scale before it is rounded.

    Raises
    ------
    ValueError
        When rules do not go together; the message names the format.

    Exactness
    ---------
    Scales are the exact ``(max - min) / levels`` or ``amax / (2**bits - 1)`` rounded once; zero points and codes are
    rounded half to even from the exact quotient by the stored scale. Where that is 0, codes are those of zeros.
    Decoding is the exact product rounded once, beyond float32 to Inf.
    """

    bits: int
    numbers: Literal["unsigned", "bipolar"] = "unsigned"
    balance: Literal["none", "extra_level"] = "none"
    span: Literal["include_zero", "plain"] = "plain"
    ties: Literal["even", "up"] = "even"
    scale_format: Literal["float16", "float32"] = "float16"
    scale_floor: float = 0.0
    scale_cap: float = math.inf

    def __post_init__(self) -> None:
        self._object(
            [
                _known("numbers", self.numbers, ("unsigned", "bipolar")),
                _known("balance", self.balance, ("none", "extra_level")),
                _known("span", self.span, ("include_zero", "plain")),
                _known("ties", self.ties, ("even", "up")),
                _known("scale_format", self.scale_format, tuple(FLOATS)),
                (not 1 <= self.bits <= 8 or self.width > 8, f"bits must be 1 to 8 (with balance 7), not {self.bits}"),
                ((self.block_size or 32) % 32 != 0, f"block_size must be a multiple of 32, not {self.block_size}"),
                (self.numbers == "bipolar" and self.balance != "none", "balance is for unsigned numbers"),
                (not 0 <= self.scale_floor <= self.scale_cap, "scale_floor must be between 0 and scale_cap"),
            ]
        )

    @property
    def width(self) -> int:
        """Number of planes."""
        return self.bits + (self.balance == "extra_level")

    @property
    def quantum(self) -> int:
        """Elements that both groups and words divide."""
        return self.block_size or 32

    @property
    def top(self) -> int:
        """Largest code."""
        return (1 << self.bits) - (self.balance == "none")

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return planes, scales and zero points of a tensor of that shape."""
        k = shape[-1]
        blocks = (*shape[:-1], k // self._block(k))
        parts = [
            Part.code("planes", (self.width, *shape[:-1], k // 32), 32, by_row=False),
            Part.code("scales", blocks, FLOATS[self.scale_format][0]),
        ]
        if self.numbers == "unsigned":
            # the 16 bits are two's complement, and so hold every zero point
            zeros = Part("zeros", blocks, 16, np.dtype(np.uint16))
            parts.append(Part.code("zeros", blocks, self.width) if self.span == "include_zero" else zeros)
        return tuple(parts)

    @property
    def max_value(self) -> float:
        """Largest magnitude of an integer, zero point left out."""
        return float(self.top)

    @property
    def min_step(self) -> float:
        """Smallest distance between two integers."""
        return 2.0 if self.numbers == "bipolar" else 1.0

    def code_points(self) -> NDArray[np.float64]:
        """Return the integer that each code stands for, NaN for codes above the extra level."""
        codes = np.arange(1 << self.width, dtype=np.float64)
        return np.where(codes <= self.top, 2 * codes - self.top if self.numbers == "bipolar" else codes, np.nan)

    def codes(self, parts: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
        """Return the codes that the planes hold, uint8 [..., K]."""
        return from_planes(parts["planes"])

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into planes, scales and zero points."""
        from hwsim.formats.families import _planes_kernels as kernels

        block, scale = self._block(x.shape[1]), FLOATS[self.scale_format][1:]
        # bounds as a float32 tensor of the rule's origin would hold them
        limits = (float(np.float32(self.scale_floor)), float(np.float32(self.scale_cap)))
        if self.numbers == "bipolar":
            even = self.ties == "even"
            kernels.encode_bipolar(x, block, self.bits, even, limits, scale, out["planes"], out["scales"])
            return
        divisor, qmax, zero = float(self.top), float(self.top), self.span == "include_zero"
        kernels.encode_unsigned(
            x, block, divisor, qmax, zero, limits, scale, out["planes"], out["scales"], out["zeros"]
        )

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k]; raises ValueError on a code above the extra level."""
        from hwsim.formats.families import _planes_kernels as kernels

        zeros = np.zeros((1, 1), np.int16)
        if "zeros" in parts:
            zeros = parts["zeros"].view(np.int16) if self.span == "plain" else parts["zeros"].astype(np.int16)
        bad, block = np.zeros(out.shape[0], np.int64), self._block(out.shape[1])
        kernels.decode_planes(parts["planes"], self.code_points(), _steps(parts["scales"]), zeros, block, out, bad)
        self._require(bad)


@dataclass(frozen=True, kw_only=True)
class _TwoPlanes(_Grouped):
    """Share what two planes under two float16 scales a group have in common: ``a1 * p1 + a2 * p2``."""

    @property
    @abstractmethod
    def code_bits(self) -> int:
        """Width of a code, both planes together."""

    @property
    @abstractmethod
    def pairs(self) -> NDArray[np.float64]:
        """What each code means, float64 [2**code_bits, 2]; NaN where it is not used."""

    @property
    def max_value(self) -> float:
        """Largest magnitude in a plane."""
        return 1.0

    @property
    def min_step(self) -> float:
        """Smallest distance between two levels of a plane."""
        return 1.0

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return the codes, and the scales [..., groups, 2] as float16 bit patterns."""
        blocks = shape[-1] // self._block(shape[-1])
        return Part.code("codes", shape, self.code_bits), Part.code("scales", (*shape[:-1], blocks, 2), 16)

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k]: the sum is exact in float64, then rounded once."""
        from hwsim.formats.families import _planes_kernels as kernels

        bad, block = np.zeros(out.shape[0], np.int64), self._block(out.shape[1])
        kernels.decode_pairs(parts["codes"], self.pairs, parts["scales"], block, FLOATS["float16"][1:3], out, bad)
        self._require(bad)


@dataclass(frozen=True, kw_only=True)
class TritPlaneSpec(_TwoPlanes):
    """Describe two trit planes, W = a1 T1 + a2 T2, solved group by group (PTQTP).

    A code holds the trit + 1 of plane 1 in bits 1:0 and that of plane 2 in bits 3:2.

    Parameters
    ----------
    block_size : int, optional
        Elements of a group; None for the whole axis.
    ridge, ridge_max : float
        Weight of the ridge, and the bound up to which it is raised tenfold while the condition exceeds `condition_max`.
    condition_max : float
        Bound of the condition number, in the Frobenius norm: ``norm(A) * norm(inverse(A))``.
    stop : float
        The group is done when the scales move less than this (Euclidean, absolute: the result depends on units).
    iterations : int
        At most so many alternations.
    trits : {"resolve", "keep"}
        ``resolve``: after the scales are rounded to float16 the trits are searched once more under the rounded scales;
        ``keep``: they stay as the solver left them.

    Exactness
    ---------
    The solver is defined in float64, operation by operation, sums in the order of the elements; both planes start at
    sign(x), both scales at 1. Ties in the search go to the sparser pair, then to plane 2 before plane 1, then to -1
    before +1. Scales are rounded half to even to float16 with their sign, saturating. Results depend on no thread.
    """

    ridge: float = 1e-8
    ridge_max: float = 1.0
    condition_max: float = 1e6
    stop: float = 1e-4
    iterations: int = 50
    trits: Literal["resolve", "keep"] = "resolve"

    def __post_init__(self) -> None:
        self._object(
            [
                _known("trits", self.trits, ("resolve", "keep")),
                (
                    not 0 < self.ridge <= self.ridge_max,
                    f"ridge must be positive, at most {self.ridge_max}, not {self.ridge}",
                ),
                (not self.condition_max >= 1, f"condition_max must be at least 1, not {self.condition_max}"),
                (not self.stop >= 0, f"stop must not be negative, not {self.stop}"),
                (self.iterations < 1, f"iterations must be at least 1, not {self.iterations}"),
            ]
        )

    @property
    def code_bits(self) -> int:
        """Four bits: two trits of two bits."""
        return 4

    @property
    def pairs(self) -> NDArray[np.float64]:
        """Two trits for each code, NaN where one of the 2-bit codes is 3."""
        trit = np.array([-1.0, 0.0, 1.0, np.nan])
        codes = np.arange(16)
        return np.stack([trit[codes & 3], trit[codes >> 2]], axis=1)

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Solve each group of float32 [rows, k]."""
        from hwsim.formats.families import _planes_kernels as kernels

        solver = (self.ridge, self.ridge_max, self.condition_max, self.stop, float(self.iterations))
        kernels.encode_trit_planes(
            x,
            self._block(x.shape[1]),
            np.array(_TRITS, np.float64),
            solver,
            self.trits == "resolve",
            FLOATS["float16"][1:],
            out["codes"],
            out["scales"],
        )


@dataclass(frozen=True, kw_only=True)
class DualBinarySpec(_TwoPlanes):
    """Describe two binary planes, w = a1 b1 + a2 b2 with b in {0, 1} (DB-LLM's flexible dual binarisation).

    A code holds b1 in bit 0 and b2 in bit 1. Training moves the scales; here they are those it starts from:
    a1 = 2 s, a2 = -s, s = amax / 2, which makes the levels -s, 0, s, 2 s (so negatives beyond -s are clipped).

    Parameters
    ----------
    block_size : int, optional
        Elements of a group; None for the whole axis.
    second_plane : {"grouped", "ungrouped"}
        ``b1 = [w >= (a1 + a2) / 2]``, then ``grouped``: ``b2 = [w - a1 b1 <= a2 / 2]``, the nearest level;
        ``ungrouped``: ``b2 = [w - a1 b1 <= -a2 / 2]``. The public third-party code has both, one a path.

    Exactness
    ---------
    Scales are rounded half to even to float16, saturating; comparisons under the stored scales are exact.
    """

    second_plane: Literal["grouped", "ungrouped"] = "grouped"

    def __post_init__(self) -> None:
        self._object([_known("second_plane", self.second_plane, ("grouped", "ungrouped"))])

    @property
    def code_bits(self) -> int:
        """Two bits, one a plane."""
        return 2

    @property
    def pairs(self) -> NDArray[np.float64]:
        """Bits of the two planes for each code."""
        return np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float64)

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes and scales."""
        from hwsim.formats.families import _planes_kernels as kernels

        block, flipped = self._block(x.shape[1]), self.second_plane == "ungrouped"
        kernels.encode_dual_binary(x, block, flipped, FLOATS["float16"][1:], out["codes"], out["scales"])


@dataclass(frozen=True, kw_only=True)
class PartlyBinarySpec(_Grouped):
    """Describe rows of signs in which whole columns, the salient ones of a group of rows, are kept in INT8.

    Parts: ``mask`` [row groups, K], 1 where a column is salient; ``codes`` [..., K - salient], the signs (1 for +1) of
    the other columns in their order; ``salient`` [..., salient] in two's complement; ``scales`` and ``salient_scales``
    [..., groups].

    Parameters
    ----------
    block_size : int, optional
        Columns that share scales and out of which the salient ones are chosen; None for the whole axis.
    row_group : int, optional
        Rows that share a mask (the last group may be smaller); None for all rows.
    salient_percent : int
        Salient columns of a block: ``block * percent // 100``, which must leave some of either kind.
    saliency : {"l1"}
        Columns of the largest sums of magnitudes over the group of rows, the lower column first among equals. The sum
        runs over the rows in order, in float64.
    scale_format : {"float16", "float32"}
        Format of both scales, rounded half to even, saturating.

    Exactness
    ---------
    The scale of the signs is the exact mean magnitude of what it covers, that of the salient ones is ``amax / 127``,
    each rounded once; zeros have sign +1; INT8 codes are the exact quotients by the stored scale, half to even, within
    +-127. Decoding is the exact product rounded once, beyond float32 to Inf.
    """

    row_group: int | None = None
    salient_percent: int = 10
    saliency: Literal["l1"] = "l1"
    scale_format: Literal["float16", "float32"] = "float16"

    def __post_init__(self) -> None:
        self._object(
            [
                _known("saliency", self.saliency, ("l1",)),
                _known("scale_format", self.scale_format, tuple(FLOATS)),
                (not 1 <= self.salient_percent <= 99, f"salient_percent must be 1 to 99, not {self.salient_percent}"),
                (
                    self.row_group is not None and self.row_group < 1,
                    f"row_group must be at least 1, not {self.row_group}",
                ),
            ]
        )

    def chosen(self, k: int) -> int:
        """Return how many columns of a block are salient; raises ValueError where none or all would be."""
        block = self._block(k)
        count = block * self.salient_percent // 100
        if not 0 < count < block:
            raise ValueError(
                f"format {self.name}: {self.salient_percent} % of a block of {block} are {count} columns; "
                f"allowed 1 .. {block - 1}"
            )
        return count

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return mask, signs, INT8 codes and scales of a tensor of that shape."""
        k, leading, count = shape[-1], shape[:-1], self.chosen(shape[-1])
        blocks, bits = k // self._block(k), FLOATS[self.scale_format][0]
        rows = math.prod(leading)
        return (
            Part.code("mask", (-(-rows // (self.row_group or max(rows, 1))), k), 1, by_row=False),
            Part.code("codes", (*leading, k - blocks * count), 1),
            Part.code("salient", (*leading, blocks * count), 8),
            Part.code("scales", (*leading, blocks), bits),
            Part.code("salient_scales", (*leading, blocks), bits),
        )

    @property
    def max_value(self) -> float:
        """Magnitude of a sign; the INT8 columns have their own scale."""
        return 1.0

    @property
    def min_step(self) -> float:
        """Distance of the two signs."""
        return 2.0

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Choose the salient columns of each group of rows, then encode float32 [rows, k]."""
        from hwsim.formats.families import _planes_kernels as kernels

        rows, k = x.shape
        block, count, group = self._block(k), self.chosen(k), self.row_group or rows
        for index, mask in enumerate(out["mask"]):
            sums = np.zeros(k)
            kernels.column_sums(x[index * group : (index + 1) * group], sums)
            # a stable sort keeps the lower column first among equals
            order = np.argsort(-sums.reshape(-1, block), axis=1, kind="stable")[:, :count]
            mask[:] = 0
            np.put_along_axis(mask.reshape(-1, block), order, 1, axis=1)
        kernels.encode_partly(
            x,
            x.view(np.uint32),
            out["mask"],
            group,
            block,
            FLOATS[self.scale_format][1:],
            out["codes"],
            out["scales"],
            out["salient"],
            out["salient_scales"],
        )

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k]; raises ValueError on a mask of another number of salient columns."""
        from hwsim.formats.families import _planes_kernels as kernels

        rows, k = out.shape
        block, count = self._block(k), self.chosen(k)
        found = parts["mask"].reshape(-1, block).sum(axis=1, dtype=np.int64)
        if (found != count).any():
            raise ValueError(
                f"format {self.name}: the mask marks {int(found[found != count][0])} columns of a block of {block}, "
                f"not {count}"
            )
        steps, salient_steps = _steps(parts["scales"]), _steps(parts["salient_scales"])
        kernels.decode_partly(
            parts["mask"], self.row_group or rows, block, steps, salient_steps, parts["codes"], parts["salient"], out
        )

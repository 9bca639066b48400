"""Adaptive formats: every block picks, among several tables of values, the one that represents it best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.format import Format, Part, Parts, container, first_not_finite, row_amax
from hwsim.formats.spec import FloatSpec, IntSpec, TableSpec, significant_bits
from hwsim.formats.values import element_values

LEVELS = 16
"""Most levels of a candidate."""
_ALLOWED = {
    "criterion": ("mse", "mae", "max_abs"),
    "selection": ("first_least",),
    "zero_block": ("code_00",),
    "row_scale": ("none", "float16", "float32"),
    "nibble_order": ("low_first", "high_first"),
}


@dataclass(frozen=True, kw_only=True)
class AdaptiveSpec(Format):
    """Describe a format whose blocks choose one of several element tables (BitMoD, ANT).

    A value is ``candidates[selector][code] * block_scale * row_scale`` (the last only where the format has one).

    Parameters
    ----------
    candidates : tuple of TableSpec
        Tables of one width, at most 16 levels each, compared as signed values (not `symmetric`).
    scale : FloatSpec or IntSpec
        Number format of the block scale: a float with subnormals, or an unsigned integer under a `row_scale`.
    block_size : int, optional
        Elements that share scale and selector; None takes the whole axis (a channel).
    criterion : {"mse", "mae", "max_abs"}
        Error that the choice makes least: sum of squares, sum of magnitudes, or largest magnitude.
    selection : {"first_least"}
        Of equal errors, the candidate that stands first in the list wins.
    row_scale : {"none", "float16", "float32"}
        Second-level scale of each row, ``amax_row / (scale_cap * least_top)`` where `least_top` is the smallest of the
        candidates' largest magnitudes: no block scale of any candidate then exceeds `scale_cap`.
    scale_cap : float, optional
        Largest block scale that the row scale aims at.
    zero_block : {"code_00"}
        Scale of a block of zeros; its codes are those of zero in the first candidate.
    nibble_order : {"low_first", "high_first"}
        Order in which two 4-bit codes lie in a byte.
    activation : str, optional
        Name of the format in which the matching unit takes its activations; None while no unit takes the format.

    Raises
    ------
    ValueError
        When the fields do not go together; the message names the format.

    Exactness
    ---------
    For each candidate the scale is ``amax / (top * row_scale)``, top being the largest magnitude of its values, rounded
    half to even into the scale format and saturated. Elements are compared with thresholds times the stored scale,
    without rounding. The error ``x - value`` of an element is rounded to float64 (it is exact unless the scale
    saturates), and so is its square. Errors are summed in float64: within runs of 128 elements by halves (the second
    half of the numbers is added to the first, position by position, the first being longer by one where their count is
    odd, until one is left), and the runs of a block in ascending order, starting from 0. Decoding rounds the exact
    product once to float32.
    """

    candidates: tuple[TableSpec, ...]
    scale: FloatSpec | IntSpec
    block_size: int | None = None
    criterion: Literal["mse", "mae", "max_abs"] = "mse"
    selection: Literal["first_least"] = "first_least"
    row_scale: Literal["none", "float16", "float32"] = "none"
    scale_cap: float | None = None
    zero_block: Literal["code_00"] = "code_00"
    nibble_order: Literal["low_first", "high_first"] = "low_first"
    activation: str | None = None

    checks_finite = True

    def __post_init__(self) -> None:
        for condition, words in _objections(self):
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    @property
    def element(self) -> TableSpec:
        """First candidate, for what all have in common."""
        return self.candidates[0]

    @property
    def bits(self) -> int:
        """Width of an element code."""
        return self.element.bits

    @property
    def selector_bits(self) -> int:
        """Width of a selector."""
        return max(1, (len(self.candidates) - 1).bit_length())

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last block."""
        return -k % (self.block_size or k)

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return codes, selectors, scales and row scales of a tensor of that shape."""
        k = shape[-1]
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the blocks is empty")
        block = self.block_size or k
        if k % block:
            raise ValueError(
                f"format {self.name}: block size {block} does not divide the axis of {k}; pad it to "
                f"{k + self.padding(k)} and record the padding"
            )
        blocks = (*shape[:-1], k // block)
        parts = [
            Part.code("codes", shape, self.bits),
            Part.code("scales", blocks, self.scale.bits),
            Part.code("selectors", blocks, self.selector_bits),
        ]
        if self.row_scale != "none":
            parts.append(Part.code("row_scales", shape[:-1], 16 if self.row_scale == "float16" else 32))
        return tuple(parts)

    @property
    def max_value(self) -> float:
        """Largest magnitude of an element of any candidate, scales left out."""
        return max(candidate.max_value for candidate in self.candidates)

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring elements of a candidate, scales left out."""
        return min(candidate.min_step for candidate in self.candidates)

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes, scales, selectors and row scales."""
        from hwsim.formats.families import _adaptive_kernels as kernels

        borders, strict, levels, counts, order, tops, zero_codes = _tables(self)
        bad = np.zeros(x.shape[0], np.uint8)
        scale = kernels.Scale(
            kind=kernels.FLOAT if isinstance(self.scale, FloatSpec) else kernels.INT,
            bytes=container(self.scale.bits).itemsize,
            man_bits=self.scale.man_bits if isinstance(self.scale, FloatSpec) else 0,
            bias=self.scale.bias if isinstance(self.scale, FloatSpec) else 0,
            max_code=self.scale.max_code if isinstance(self.scale, FloatSpec) else self.scale.qmax,
        )
        kernels.encode_adaptive(
            x,
            self.block_size or x.shape[1],
            borders,
            strict,
            levels,
            counts,
            order,
            tops,
            zero_codes,
            scale,
            self._row_scales(x, out),
            kernels.CRITERIA.index(self.criterion),
            out["codes"],
            out["scales"][..., None].view(np.uint8),
            out["selectors"],
            bad,
        )
        if bad.any():
            raise first_not_finite(x, int(np.argmax(bad)))

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k].

        Raises
        ------
        ValueError
            When a selector names no candidate.
        """
        from hwsim.formats.families import _adaptive_kernels as kernels

        selectors = parts["selectors"]
        if selectors.size and int(selectors.max()) >= len(self.candidates):
            raise ValueError(
                f"format {self.name}: selectors hold {int(selectors.max())}, allowed 0 .. {len(self.candidates) - 1}"
            )
        kernels.decode_adaptive(
            parts["codes"],
            selectors,
            np.array([element_values(candidate) for candidate in self.candidates]),
            self.scale_values(parts["scales"]),
            self.block_size or out.shape[1],
            self.row_values(parts),
            out,
        )

    def scale_values(self, scales: NDArray[Any]) -> NDArray[np.float64]:
        """Return the worth of scale codes, exactly; NaN where a code is NaN or Inf."""
        if self.scale.bits == 32:
            values = scales.view(np.float32).astype(np.float64)
            return np.where(np.isfinite(values), values, np.nan)
        values = element_values(self.scale)
        return np.where(np.isinf(values), np.nan, values)[scales]

    def row_values(self, parts: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Return the second-level scales, float64 [rows], or [1] of 1.0 where the format has none."""
        if self.row_scale == "none":
            return np.ones(1)
        return parts["row_scales"].view(np.dtype(self.row_scale)).astype(np.float64)

    def _row_scales(self, x: NDArray[np.float32], out: Parts) -> NDArray[np.float64]:
        """Find the row scales, put them into `out`, and return what they are worth."""
        if self.row_scale == "none":
            return np.ones(1)
        assert self.scale_cap is not None
        kind = np.dtype(self.row_scale).type
        limits = np.finfo(kind)
        amax = row_amax(x).astype(np.float64)
        with np.errstate(over="ignore"):
            scales = (amax / (self.scale_cap * min(c.max_value for c in self.candidates))).astype(kind)
        # a row that is not all zeros keeps a positive scale, however small; zeros have none to find, and 1 decodes them
        scales = np.where(amax > 0, np.clip(scales, limits.smallest_subnormal, limits.max), kind(1))
        out["row_scales"][...] = scales.view(out["row_scales"].dtype)
        return scales.astype(np.float64)


def _step_bits(spec: AdaptiveSpec) -> int:
    scale = spec.scale.bits if isinstance(spec.scale, IntSpec) else spec.scale.man_bits + 1
    return scale + {"float16": 11, "float32": 24}.get(spec.row_scale, 0)


def _objections(spec: AdaptiveSpec) -> list[tuple[bool, str]]:
    """Return (is it so, what to say) for everything that can be wrong with an adaptive format."""
    names = [candidate.name for candidate in spec.candidates]
    numbers = [v for c in spec.candidates for v in (*c.borders, *(level for level, _ in c.ranked))]
    widest = max(map(significant_bits, numbers), default=0)
    scale = spec.scale
    usable = scale.subnormals if isinstance(scale, FloatSpec) else not scale.signed
    # A border times a step, and an error, must be exact in float64.
    return [
        (len(names) < 2, f"a choice needs two candidates at least, not {len(names)}"),
        (len(names) > 256, f"a selector of 8 bits tells 256 candidates apart, not {len(names)}"),
        (len(set(names)) < len(names), f"a candidate is given twice: {names}"),
        (len({c.bits for c in spec.candidates}) > 1, "candidates must have codes of one width"),
        (any(c.symmetric for c in spec.candidates), "candidates are compared as signed values, not symmetric tables"),
        (
            any(len(c.ranked) > LEVELS or c.bits > 4 for c in spec.candidates),
            f"candidates have {LEVELS} levels at most",
        ),
        (
            spec.block_size is not None and spec.block_size < 1,
            f"block_size is at least 1 or None, not {spec.block_size}",
        ),
        (not usable, "the scale must be a float with subnormals or an unsigned integer"),
        (isinstance(scale, IntSpec) and spec.row_scale == "none", "an integer scale needs a row_scale above it"),
        (isinstance(scale, IntSpec) and scale.frac_bits != 0, "an integer scale has no fraction bits"),
        ((spec.row_scale != "none") != (spec.scale_cap is not None), "row_scale and scale_cap go together"),
        (
            spec.scale_cap is not None and not 0 < spec.scale_cap <= scale.max_value,
            f"scale_cap {spec.scale_cap} must be positive and within the scale format",
        ),
        *(
            (getattr(spec, field) not in allowed, f"{field} must be one of {allowed}, not {getattr(spec, field)!r}")
            for field, allowed in _ALLOWED.items()
        ),
        (
            widest > 24 or widest + _step_bits(spec) > 53,
            f"{widest} bits of a level or border times {_step_bits(spec)} of a scale would not be exact (allowed: 53)",
        ),
    ]


def _tables(spec: AdaptiveSpec) -> tuple[NDArray[Any], ...]:
    """Return borders, strictness, levels, counts, codes by rank, top levels and codes of zero of all candidates."""
    n = len(spec.candidates)
    borders, strict = np.full((n, LEVELS - 1), np.inf), np.zeros((n, LEVELS - 1), np.uint8)
    levels, order = np.zeros((n, LEVELS), np.float32), np.zeros((n, LEVELS), np.uint8)
    for i, candidate in enumerate(spec.candidates):
        count = len(candidate.ranked)
        borders[i, : count - 1] = candidate.borders
        for j in range(count - 1):
            strict[i, j] = candidate.ties == "down" or (candidate.ties == "even" and j % 2 == 0)
        levels[i, :count] = [level for level, _ in candidate.ranked]
        order[i, :count] = [code for _, code in candidate.ranked]
    counts = np.array([len(candidate.ranked) for candidate in spec.candidates], np.int64)
    tops = np.array([candidate.max_value for candidate in spec.candidates])
    zeros = np.array([candidate.ranked[candidate.rank(0.0)][1] for candidate in spec.candidates], np.uint8)
    return borders, strict, levels, counts, order, tops, zeros

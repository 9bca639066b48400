"""Double quantisation: block scales that are themselves stored as codes of a table under a second scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.families.block import BlockSpec
from hwsim.formats.format import Format, Part, Parts, word_objections
from hwsim.formats.spec import FloatSpec, TableSpec
from hwsim.formats.values import element_values


@dataclass(frozen=True, kw_only=True)
class DoubleQuantSpec(Format):
    """Describe a block format whose FP32 scales are compressed a second time (QLoRA, bitsandbytes).

    A scale is stored as ``table[code] * outer_scale + offset``: the offset is that of the whole tensor, and an outer
    scale serves `outer_block` neighbouring scales of the tensor in row-major order; its last block may be shorter.

    Parameters
    ----------
    base : BlockSpec
        Format of the elements, with FP32 block scales by rule ``amax`` and no zero point or second level.
    table : TableSpec
        Table of at most 8 bits for the scales, its largest magnitude 1.0; not symmetric.
    outer_block : int
        Scales that share an outer scale.
    offset : {"mean"}
        Subtracted from the scales before: their mean.
    elements : {"first_scale"}
        Elements are encoded with the scale as found, not with the one that is stored (bitsandbytes).
    nibble_order : {"low_first", "high_first", "base"}
        Order in which two 4-bit codes lie in a byte; ``base`` takes that of `base`.

    Raises
    ------
    ValueError
        When the fields do not go together; the message names the format.

    Exactness
    ---------
    Codes are those of `base`. The mean is taken in float64 (scales added in row-major order, each row from 0, then the
    sums of the rows in order from 0; one division) and rounded to float32. Each scale less the offset is rounded to
    float32; the outer scale is the largest magnitude of its block; codes compare the exact quotient with the exact
    thresholds. On decode the product ``table[code] * outer_scale`` is rounded to float32, and so is its sum with the
    offset, as in bitsandbytes; the product of element and scale is then rounded once. bitsandbytes itself adds in an
    unspecified order and multiplies by a rounded reciprocal instead of dividing.
    """

    base: BlockSpec
    table: TableSpec
    outer_block: int = 256
    offset: Literal["mean"] = "mean"
    elements: Literal["first_scale"] = "first_scale"
    nibble_order: Literal["low_first", "high_first", "base"] = "base"

    checks_finite = True

    def __post_init__(self) -> None:
        base, scale = self.base, self.base.scale
        fp32 = isinstance(scale, FloatSpec) and (scale.exp_bits, scale.man_bits) == (8, 23)
        objections = [
            *word_objections(self),
            (not fp32 or base.scale_rule != "amax", "base needs FP32 scales by rule 'amax'"),
            (isinstance(base.block_size, tuple), "base needs blocks along the last axis, not tiles"),
            (base.zero_point != "none", "base must have no zero point"),
            (
                base.tensor_scale != "none" or base.row_scale != "none",
                "base must have no second-level scale of its own",
            ),
            (base.nan_policy != "error", "base must refuse NaN and Inf (nan_policy 'error')"),
            (self.table.symmetric, "the table of the scales must not be symmetric"),
            (self.table.max_value != 1.0, f"the table of the scales must reach 1.0, not {self.table.max_value}"),
            (self.outer_block < 1, f"outer_block must be at least 1, not {self.outer_block}"),
            (self.offset != "mean", f"offset must be 'mean', not {self.offset!r}"),
            (self.elements != "first_scale", f"elements must be 'first_scale', not {self.elements!r}"),
        ]
        for condition, words in objections:
            if condition:
                raise ValueError(f"format {self.name!r}: {words}")

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last block."""
        return self.base.padding(k)

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return codes, scale codes, outer scales (float32 bits) and the offset (float32) of a tensor of that shape."""
        codes, scales = self.base.layout(shape)
        outer = -(-math.prod(scales.shape) // self.outer_block)
        return (
            codes,
            Part.code("scales", scales.shape, self.table.bits, by_row=False),
            Part.code("outer_scales", (outer,), 32, by_row=False),
            Part("offset", (), 32, np.dtype(np.float32), by_row=False),
        )

    @property
    def max_value(self) -> float:
        """Largest magnitude of an element, scales left out."""
        return self.base.max_value

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring elements, scales left out."""
        return self.base.min_step

    def code_points(self) -> NDArray[np.float64] | None:
        """Return the value of every element code."""
        return self.base.code_points()

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into codes, scale codes, outer scales and offset."""
        from hwsim.formats.families import _double_quant_kernels as kernels
        from hwsim.formats.families._table_kernels import guide

        bits = np.empty(out["scales"].shape, np.uint32)
        self.base.encode_rows(x, {"codes": out["codes"], "scales": bits})
        offset = kernels.mean_scale(bits.view(np.float32))
        kernels.compress_scales(
            bits.view(np.float32).reshape(-1),
            self.outer_block,
            np.float32(offset),
            np.array(self.table.borders),
            ("down", "up", "even").index(self.table.ties),
            guide(self.table),
            np.array([code for _, code in self.table.ranked], np.uint8),
            self.table.rank(0.0),
            out["scales"].reshape(-1),
            out["outer_scales"].view(np.float32),
        )
        out["offset"][...] = offset

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k]: scales first, then elements by the base format."""
        scales = self.scale_values(parts)
        self.base.decode_rows({"codes": parts["codes"], "scales": scales.view(np.uint32)}, out)

    def scale_values(self, parts: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the block scales as they decode, float32 [rows, blocks]."""
        from hwsim.formats.families import _double_quant_kernels as kernels

        out = np.empty(parts["scales"].shape, np.float32)
        kernels.expand_scales(
            parts["scales"].reshape(-1),
            element_values(self.table),
            parts["outer_scales"].view(np.float32),
            self.outer_block,
            np.float32(parts["offset"][()]),
            out.reshape(-1),
        )
        return out

"""GGUF blocks: the block types of ggml, as bytes of a GGUF file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.format import Format, Part, Parts, first_not_finite

TYPES: dict[str, tuple[int, int]] = {
    "q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34), "q4_k": (256, 144),
    "q6_k": (256, 210), "iq4_nl": (32, 18), "tq1_0": (256, 54), "tq2_0": (256, 66), "mxfp4": (32, 17),
    "nvfp4": (64, 36),
}  # fmt: skip
"""Elements and bytes of a block; the kernels know the types by their order."""
IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_SEARCHED = ("q4_k", "q6_k", "iq4_nl")
_RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "zero_block": (("ggml", "gguf_py"), ("q4_0", "q5_0")),
    "search": (("best_of", "plain"), ("iq4_nl",)),
    "exponent": (("log2f", "exact"), ("mxfp4",)),
    "scale_rule": (("ggml", "exact"), ("nvfp4",)),
    "element_ties": (("toward_zero", "even"), ("mxfp4", "nvfp4")),
    "overflow": (("error", "ggml"), tuple(TYPES)),
}
"""For each rule its values, the default first, and the types to which it applies."""


@dataclass(frozen=True, kw_only=True)
class GgufSpec(Format):
    """Describe a block type of ggml; its one part holds the bytes of the blocks as they lie in a GGUF file.

    Part ``blocks``: uint8 [..., K / block, bytes]; all numbers in it are little-endian.

    Parameters
    ----------
    block_type : str
        One of `TYPES`.
    zero_block : {"ggml", "gguf_py"}
        Scale of a block of zeros (Q4_0, Q5_0): -0 always, or -0 and +0 after a first element of +0 and -0.
    search : {"best_of", "plain"}
        IQ4_NL: the best of 16 scales, as `quantize_iq4_nl` (which writes files) finds it without an importance matrix,
        or the one fit of `quantize_row_iq4_nl_ref`.
    exponent : {"log2f", "exact"}
        MXFP4: floor of the float32 logarithm, which is one too high for the last floats below many powers of two (taken
        here from the exact count of those whose logarithm rounds up), or of the exact one.
    scale_rule : {"ggml", "exact"}
        NVFP4: block scale by ggml's own UE4M3 rounding (halves up, subnormals up to code 7, all from 248 on 448), or
        half to even, saturating.
    element_ties : {"toward_zero", "even"}
        MXFP4, NVFP4: of two equally near levels the smaller, and of all levels the first of equal float32 errors (so
        that what lies millions of times above the largest becomes 0); or the even code, saturating.
    overflow : {"error", "ggml"}
        A block whose scale or minimum is beyond float16: an error, or Inf (NaN: 7E00h) as upstream stores.

    Raises
    ------
    ValueError
        When the type is unknown, or a rule does not apply to it.

    Exactness
    ---------
    Bytes are those of ggml's reference functions, in which every float32 operation is rounded by itself and sums run
    in ascending order (a build that contracts multiplications and additions differs for Q4_K, Q6_K and IQ4_NL).
    Where upstream's behaviour is undefined a rule holds instead: if the float32 reciprocal of a scale is not finite
    (scales below 2**-128), elements are encoded as zeros are; MXFP4 exponents below the least are code 0; a block that
    the plain IQ4_NL reference leaves as it was is all zero bytes.
    Decoding is exact but for one rounding where a minimum is added (Q4_1, Q5_1, Q4_K). It takes any bytes, as
    upstream does: 2-bit code 3 of TQ2_0 is 2, bytes of TQ1_0 that no five trits give have digits too, the MXFP4
    exponent FFh is 2**128, bit 7 of an NVFP4 scale is ignored, its code 7Fh is 0, Inf and NaN pass through.
    """

    block_type: str
    zero_block: Literal["ggml", "gguf_py"] = "ggml"
    search: Literal["best_of", "plain"] = "best_of"
    exponent: Literal["log2f", "exact"] = "log2f"
    scale_rule: Literal["ggml", "exact"] = "ggml"
    element_ties: Literal["toward_zero", "even"] = "toward_zero"
    overflow: Literal["error", "ggml"] = "error"

    checks_finite = True

    def __post_init__(self) -> None:
        if self.block_type not in TYPES:
            raise ValueError(
                f"format {self.name!r}: block_type is {self.block_type!r}, allowed: {', '.join(map(str, TYPES))}"
            )
        for field, (allowed, types) in _RULES.items():
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(f"format {self.name!r}: {field} is {value!r}, allowed: {', '.join(allowed)}")
            if value != allowed[0] and self.block_type not in types:
                raise ValueError(
                    f"format {self.name!r}: {field} is a rule of {', '.join(types)}, not {self.block_type}"
                )

    @property
    def block_size(self) -> int:
        """Elements of a block."""
        return TYPES[self.block_type][0]

    @property
    def block_bytes(self) -> int:
        """Bytes of a block."""
        return TYPES[self.block_type][1]

    def padding(self, k: int) -> int:
        """Return how many zeros must follow an axis of `k` elements to fill its last block."""
        return -k % self.block_size

    def layout(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """Return the bytes of the blocks of a tensor of that shape."""
        k, block = shape[-1], self.block_size
        if k < 1:
            raise ValueError(f"format {self.name}: the axis of the blocks is empty")
        if k % block:
            raise ValueError(
                f"format {self.name}: block of {block} does not divide the axis of {k}; pad it to "
                f"{k + self.padding(k)} and record the padding"
            )
        return (Part.code("blocks", (*shape[:-1], k // block, self.block_bytes), 8),)

    @property
    def max_value(self) -> float:
        """Largest magnitude of an element, scales and minima left out."""
        return max(map(abs, self._levels))

    @property
    def min_step(self) -> float:
        """Smallest distance between two neighbouring levels, scales left out."""
        levels = sorted(set(self._levels))
        return min(b - a for a, b in pairwise(levels))

    def code_points(self) -> NDArray[np.float64]:
        """Return the value of every element code, scales and minima left out."""
        return np.array(self._levels)

    @property
    def _levels(self) -> tuple[float, ...]:
        if self.block_type == "iq4_nl":
            return tuple(map(float, IQ4_NL))
        if self.block_type in ("mxfp4", "nvfp4"):
            return (*E2M1, *(-level for level in E2M1))
        if self.block_type == "q8_0":
            return (*map(float, range(128)), *map(float, range(-128, 0)))
        least, most = {
            "q4_0": (-8, 7), "q5_0": (-16, 15), "q4_1": (0, 15), "q4_k": (0, 15), "q5_1": (0, 31), "q6_k": (-32, 31),
            "tq1_0": (-1, 1), "tq2_0": (-1, 2),
        }[self.block_type]  # fmt: skip
        return tuple(map(float, range(least, most + 1)))

    def encode_rows(self, x: NDArray[np.float32], out: Parts) -> None:
        """Encode float32 [rows, k] into bytes of blocks.

        Raises
        ------
        ValueError
            When a scale or minimum is beyond float16 (unless `overflow` says otherwise).
        """
        from hwsim.formats._kernels import CHUNK
        from hwsim.formats.families import _gguf_kernels as kernels

        kind, blocks = list(TYPES).index(self.block_type), x.reshape(-1, self.block_size)
        bytes_ = out["blocks"].reshape(len(blocks), self.block_bytes)
        at_a_time = max(1, CHUNK // self.block_size)
        bad = np.zeros(-(-len(blocks) // at_a_time), np.int64)
        if self.block_type in _SEARCHED:
            from hwsim.formats.families import _gguf_search_kernels as search

            search.search_blocks(blocks, kind, _levels16("iq4_nl"), 7 * (self.search == "best_of"), bytes_, bad)
        else:
            kernels.encode_blocks(
                blocks,
                kind,
                self.zero_block == "gguf_py",
                self.element_ties == "even",
                self.scale_rule == "exact",
                logarithms_that_round_up() if self.exponent == "log2f" else np.zeros(256, np.int64),
                half_scales(self.block_type),
                bytes_,
                bad,
            )
        if bad.min() < 0:
            per_row = x.shape[1] // self.block_size
            raise first_not_finite(x, int(-1 - bad[bad < 0].max()) // per_row)
        if self.overflow == "error" and bad.any():
            row, block = divmod(int(bad[bad > 0][0]) - 1, x.shape[1] // self.block_size)
            start = block * self.block_size
            raise ValueError(
                f"format {self.name}: the scale or minimum of block {block} in row {row} (elements {start} .. "
                f"{start + self.block_size - 1}) is beyond float16; with_rules(overflow='ggml') stores Inf"
            )

    def decode_rows(self, parts: Mapping[str, NDArray[Any]], out: NDArray[np.float32]) -> None:
        """Decode into float32 [rows, k]."""
        from hwsim.formats.families import _gguf_kernels as kernels

        kernels.decode_blocks(
            parts["blocks"].reshape(-1, self.block_bytes),
            list(TYPES).index(self.block_type),
            _levels16(self.block_type),
            half_scales(self.block_type),
            out.reshape(-1, self.block_size),
        )


@lru_cache
def _levels16(block_type: str) -> NDArray[np.float32]:
    """Return the table of nibbles: that of IQ4_NL, or twice E2M1 (whose steps are half a scale; code 8 is +0)."""
    if block_type == "iq4_nl":
        return np.array(IQ4_NL, np.float32)
    return np.array([*(2 * v for v in E2M1), 0.0, *(-2 * v for v in E2M1[1:])], np.float32)


@lru_cache
def half_scales(block_type: str) -> NDArray[np.float32]:
    """Return half of what each scale code is worth, float32 [256], of MXFP4 (E8M0) or else of NVFP4 (ggml's UE4M3)."""
    if block_type == "mxfp4":
        return np.ldexp(np.ones(256, np.float32), np.arange(256) - 128)
    values = []
    for code in range(256):
        field, mantissa = code >> 3 & 15, code & 7
        value = math.ldexp(mantissa + 8 * (field > 0), max(field, 1) - 11)
        values.append(0.0 if code == 0x7F else value)
    return np.array(values, np.float32)


@lru_cache
def logarithms_that_round_up() -> NDArray[np.int64]:
    """Return, by e + 127, how many float32 below 2**e have a float32 logarithm (half to even) of e: int64 [256].

    The n-th float below 2**e is ``2**e * (1 - n * 2**-24)``; its logarithm rounds to e while it is no further from it
    than half the distance to the float32 before, 2**(j - 24) where abs(e) is above 2**j (positive e) or from 2**j on.
    """
    counts = np.zeros(256, np.int64)
    for exponent in range(-126, 129):
        if exponent:
            place = (exponent - 1).bit_length() - 1 if exponent > 1 else (-exponent).bit_length() - 1
            place = -1 if exponent == 1 else place
            counts[exponent + 127] = int(-math.expm1(-math.ldexp(math.log(2), place - 24)) * 2**24)
    return counts

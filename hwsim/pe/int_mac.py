"""`int_mac`: integer multiply-accumulate with an exact group sum, scaled into FP32 inside the unit.

INT8 activations (one FP32 scale a row) meet INT8 or INT4 weights. The sum of a group of up to 2**31 / 2**14 products
fits 32 bits. With `block` 0 the group is the whole dot product (its sum is as wide as `MAX_BEATS` beats need):
the sum is exact, is rounded once to FP32, and then takes the scale of its row and of its column. With FP16 group scales
each group's sum enters the FP32 accumulator as ``acc = RNE(acc + S * scale)``, zero points applied to the sum
(``S - zero * sum(a)``), and the result takes the scale of its activation row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded
from hwsim.pe import _dot

NAME = "int_mac"


@dataclass(frozen=True)
class Params:
    """Configure an `int_mac`.

    Parameters
    ----------
    weight : {"int8", "int4", "uint4"}
        Weight element; ``uint4`` goes with `zero_point`.
    lanes : int
        Products a cycle.
    block : int
        Weights that share a group scale; 0: no group scale, the whole dot product is one exact integer sum.
    zero_point : bool
        Whether groups have a zero point of the weight's width.

    Raises
    ------
    ValueError
        When a field or a combination is not one of these.
    """

    weight: str = "int8"
    lanes: int = 32
    block: int = 0
    zero_point: bool = False

    def __post_init__(self) -> None:
        if self.weight not in ("int8", "int4", "uint4"):
            raise ValueError(f"{NAME}: weight must be int8, int4 or uint4, not {self.weight!r}")
        if self.zero_point != (self.weight == "uint4"):
            raise ValueError(
                f"{NAME}: zero_point goes with weight uint4, not zero_point={self.zero_point} {self.weight}"
            )
        if self.zero_point and not self.block:
            raise ValueError(f"{NAME}: zero points need a group scale; block must not be 0")
        if not isinstance(self.lanes, int) or self.lanes < 1:
            raise ValueError(f"{NAME}: lanes must be a positive integer, not {self.lanes!r}")
        if self.block < 0 or self.block % self.lanes:
            raise ValueError(f"{NAME}: block must be 0 or a multiple of lanes = {self.lanes}, not {self.block}")
        if self.datapath.block_sum_bits > 32 and self.block:
            raise ValueError(f"{NAME}: the sum of a block of {self.block} does not fit 32 bits; take a shorter block")

    @cached_property
    def datapath(self) -> _dot.DotSpec:
        """The shared datapath with these widths."""
        return _dot.DotSpec(
            a_element="int8",
            b_element=self.weight,
            lanes=self.lanes,
            block_beats=self.block // self.lanes,
            b_scale="float16" if self.block else None,
            zero_bits=4 if self.zero_point else 0,
            a_out=True,
            b_out=not self.block,
        )


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    if activation.name != "int8" or weight.element.name not in ("int8", "int4", "uint4") or weight.scale is None:
        return None
    if weight.block_size is None:
        return Params(weight.element.name, lanes or Params.lanes) if weight.scale.name == "float32" else None
    if weight.scale.name != "float16" or not isinstance(weight.block_size, int) or weight.row_scale != "none":
        return None
    return Params(weight.element.name, lanes or Params.lanes, weight.block_size, weight.zero_point != "none")


def reference(beats: Mapping[str, NDArray[np.integer]], params: Params) -> int:
    """Return the float32 bits of one dot product in plain Python integers (slow, obviously right)."""
    return _dot.reference(beats, params.datapath)


def gemm(a: Encoded, b: Encoded, params: Params) -> NDArray[np.float32]:
    """Return C[M, N] = A[M, K] B[N, K]^T in float32, each output the bits of `reference`; see `_dot.gemm`."""
    return _dot.gemm(a, b, params.datapath, NAME)


def beats(a: Encoded, b: Encoded, m: int, n: int, params: Params) -> dict[str, NDArray[np.integer]]:
    """Return the beats that the unit takes for row `m` of A and row `n` of B."""
    return _dot.dot_beats(a, b, m, n, params.datapath)


def cycles(m: int, n: int, k: int, params: Params) -> int:
    """Return the cycles of one unit for M x N dot products of length K, without stalls."""
    return _dot.cycles(m, n, k, params.datapath)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    spec = params.datapath
    outputs, blocks = m * n, _dot.block_count(k, spec)
    counts = {
        f"mul_{'int8' if params.weight == 'int8' else 'int4'}_int8": outputs * k,
        "add_int32": outputs * k,
        "add_float32": outputs * blocks,
        "mul_float32": outputs * (int(spec.a_out) + int(spec.b_out)),
    }
    if params.block:
        counts["mul_int32_float16"] = outputs * blocks
    if params.zero_point:
        # the running sum of activations, one product with the zero point and its subtraction a group
        counts["add_int32"] += outputs * (k + blocks)
        counts["mul_int32_uint4"] = outputs * blocks
    return counts

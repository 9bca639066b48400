"""`mx_dot`: block-scaled dot products of FP4 (E2M1) elements with an exact block sum and FP32 accumulation.

Products of two E2M1 values are quarters of integers, so a block's sum is an exact integer. Both block scales (E8M0 for
MXFP4, E4M3 for NVFP4) enter with it: ``acc = RNE(acc + S * X_A * X_B)``, one rounding, blocks in ascending K. With
`out_scale` the result is multiplied by the FP32 tensor scale of A, then by that of B, one rounding each, after the last
block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded
from hwsim.pe import _dot

NAME = "mx_dot"
_ELEMENTS = ("float4_e2m1fn",)
_SCALES = ("float8_e8m0fnu", "float8_e4m3fn")


@dataclass(frozen=True)
class Params:
    """Configure an `mx_dot`.

    Parameters
    ----------
    element : {"float4_e2m1fn"}
        Element of both sides.
    scale : {"float8_e8m0fnu", "float8_e4m3fn"}
        Block scale of both sides.
    block : int
        Elements that share a scale.
    lanes : int
        Products a cycle; divides the block.
    out_scale : bool
        Whether the result is multiplied by two FP32 tensor scales.

    Raises
    ------
    ValueError
        When a field is not one of these.
    """

    element: str = "float4_e2m1fn"
    scale: str = "float8_e8m0fnu"
    block: int = 32
    lanes: int = 32
    out_scale: bool = False

    def __post_init__(self) -> None:
        if self.element not in _ELEMENTS:
            raise ValueError(f"{NAME}: element must be one of {', '.join(_ELEMENTS)}, not {self.element!r}")
        if self.scale not in _SCALES:
            raise ValueError(f"{NAME}: scale must be one of {', '.join(_SCALES)}, not {self.scale!r}")
        if not isinstance(self.lanes, int) or self.lanes < 1:
            raise ValueError(f"{NAME}: lanes must be a positive integer, not {self.lanes!r}")
        if self.block < 1 or self.block % self.lanes:
            raise ValueError(f"{NAME}: block must be a multiple of lanes = {self.lanes}, not {self.block}")
        _ = self.datapath  # checks the bounds of lanes and of beats a block

    @cached_property
    def datapath(self) -> _dot.DotSpec:
        """The shared datapath with these widths."""
        return _dot.DotSpec(
            a_element=self.element,
            b_element=self.element,
            lanes=self.lanes,
            block_beats=self.block // self.lanes,
            a_scale=self.scale,
            b_scale=self.scale,
            a_out=self.out_scale,
            b_out=self.out_scale,
        )


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    same = (weight.element, weight.scale, weight.block_size) == (
        activation.element,
        activation.scale,
        activation.block_size,
    )
    if not same or weight.scale is None or weight.element.name not in _ELEMENTS or weight.scale.name not in _SCALES:
        return None
    if not isinstance(weight.block_size, int) or weight.row_scale != "none":
        return None
    return Params(
        weight.element.name,
        weight.scale.name,
        weight.block_size,
        lanes or weight.block_size,
        weight.tensor_scale != "none",
    )


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
    scale = "e8m0" if _dot.has_power_of_two(params.scale) else "e4m3"
    return {
        "mul_e2m1_e2m1": outputs * k,
        "add_int32": outputs * k,
        f"mul_block_scale_{scale}": outputs * blocks,
        "add_float32": outputs * blocks,
        "mul_float32": outputs * (int(spec.a_out) + int(spec.b_out)),
    }

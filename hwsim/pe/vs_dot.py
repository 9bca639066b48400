"""`vs_dot`: dot products with two levels of scales (VS-Quant): an integer a vector, FP16 a row.

The products of a vector of V elements are summed exactly; that integer times the integer scales of both vectors is an
integer again, T = S * s_A * s_B, and enters the FP32 accumulator with one rounding: ``acc = RNE(acc + T)``, vectors in
ascending K. After the last vector the result takes the FP16 scale of its activation row, then that of its weight row,
both widened to FP32, one rounding to nearest each. Scale products are not shortened (the paper's option to round them
is left out), and vectors meet in FP32, not in a wide integer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded
from hwsim.pe import _dot, _dot_gemm

NAME = "vs_dot"
ELEMENTS = ("int4", "int8")
SCALE = "uint8"
MIN_VECTOR, MAX_VECTOR = 8, 64
MAX_LANES = 64


@dataclass(frozen=True)
class Params:
    """Configure a `vs_dot`.

    Parameters
    ----------
    element : {"int4", "int8"}
        Element of the weights.
    vector : int
        Elements that share an integer scale, V: 8 to 64, a multiple or a divisor of `lanes`.
    lanes : int
        Products a cycle, 1 to 64.
    a_element : str, optional
        Element of the activations; None: as the weights.
    stages : int
        Pipeline stages between multipliers and sum, 0 or 1.

    Raises
    ------
    ValueError
        When a field is not one of these; the message says what is allowed.
    """

    element: str = "int4"
    vector: int = 16
    lanes: int = 16
    a_element: str | None = None
    stages: int = 0

    def __post_init__(self) -> None:
        for name in ("element", "a_element"):
            value = getattr(self, name)
            if value not in ELEMENTS and not (name == "a_element" and value is None):
                raise ValueError(f"{NAME}: {name} must be one of {', '.join(ELEMENTS)}, not {value!r}")
        if not isinstance(self.lanes, int) or not 1 <= self.lanes <= MAX_LANES:
            raise ValueError(f"{NAME}: lanes must be an integer of 1 to {MAX_LANES}, not {self.lanes!r}")
        if not isinstance(self.vector, int) or not MIN_VECTOR <= self.vector <= MAX_VECTOR:
            raise ValueError(f"{NAME}: vector must be an integer of {MIN_VECTOR} to {MAX_VECTOR}, not {self.vector!r}")
        if self.vector % self.lanes and self.lanes % self.vector:
            raise ValueError(f"{NAME}: vector must be a multiple of lanes = {self.lanes} or divide it")
        if self.stages not in (0, 1):
            raise ValueError(f"{NAME}: stages must be 0 or 1, not {self.stages!r}")

    @cached_property
    def datapath(self) -> _dot.DotSpec:
        """The shared datapath with these widths."""
        return _dot.DotSpec(
            a_element=self.element if self.a_element is None else self.a_element,
            b_element=self.element,
            lanes=self.lanes,
            block_beats=max(self.vector // self.lanes, 1),
            a_scale=SCALE,
            b_scale=SCALE,
            a_out=True,
            b_out=True,
            beat_blocks=max(self.lanes // self.vector, 1),
            stages=self.stages,
        )


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    for spec in (weight, activation):
        if spec.element.name not in ELEMENTS or spec.scale is None or spec.scale.name != SCALE:
            return None
        if spec.row_scale != "float16" or spec.zero_point != "none":
            return None
    vector = weight.block_size
    if vector != activation.block_size or not isinstance(vector, int) or not MIN_VECTOR <= vector <= MAX_VECTOR:
        return None
    element, a_element = weight.element.name, activation.element.name
    return Params(element, vector, lanes or min(vector, MAX_LANES), None if a_element == element else a_element)


def reference(beats: Mapping[str, NDArray[np.integer]], params: Params) -> int:
    """Return the float32 bits of one dot product in plain Python integers (slow, obviously right)."""
    return _dot.reference(beats, params.datapath)


def gemm(a: Encoded, b: Encoded, params: Params) -> NDArray[np.float32]:
    """Return C[M, N] = A[M, K] B[N, K]^T in float32, each output the bits of `reference`; see `_dot_gemm.gemm`."""
    return _dot_gemm.gemm(a, b, params.datapath, NAME)


def dots(a: Encoded, b: Encoded, params: Params) -> NDArray[np.unsignedinteger]:
    """Return the float32 bits of the dot products of row i of A and row i of B, each the bits of `reference`."""
    return _dot_gemm.dots(a, b, params.datapath, NAME)


def beats(a: Encoded, b: Encoded, m: int, n: int, params: Params) -> dict[str, NDArray[np.integer]]:
    """Return the beats that the unit takes for row `m` of A and row `n` of B."""
    return _dot.dot_beats(a, b, m, n, params.datapath)


def paired_beats(a: Encoded, b: Encoded, params: Params) -> dict[str, NDArray[np.integer]]:
    """Return the beats that the unit takes for row i of A and row i of B, for every i, one after the other."""
    return _dot.paired_beats(a, b, params.datapath)


def cycles(m: int, n: int, k: int, params: Params) -> int:
    """Return the cycles of one unit for M x N dot products of length K, without stalls."""
    return _dot.cycles(m, n, k, params.datapath)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    spec = params.datapath
    outputs, vectors = m * n, _dot.block_count(k, spec)
    low, high = sorted((spec.a_bits, spec.b_bits))
    return {
        f"mul_int{low}_int{high}": outputs * k,
        "add_int32": outputs * k,
        "mul_block_scale_uint8": outputs * vectors,
        "add_float32": outputs * vectors,
        "mul_float32": outputs * 2,
    }

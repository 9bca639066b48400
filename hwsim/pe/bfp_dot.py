"""`bfp_dot`: dot products of block floating point (MSFP and its kin): sign and magnitude under a shared exponent.

The products of a block are integers; their sum is exact, and the exponents of both blocks shift it once:
``acc = RNE(acc + S * 2**(e_A + e_B))`` in FP32, one rounding, blocks in ascending K. Exponent code FF makes the result
NaN. It is the shared datapath of `mx_dot` with multipliers of magnitudes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, Encoded
from hwsim.pe import _dot, _dot_gemm

NAME = "bfp_dot"
ELEMENTS = ("signmag4", "signmag5", "signmag8")
SCALE = "float8_e8m0fnu"
MIN_BLOCK, MAX_BLOCK = 2, 128
MAX_LANES = 64


@dataclass(frozen=True)
class Params:
    """Configure a `bfp_dot`.

    Parameters
    ----------
    element : str
        Element of the weights, one of `ELEMENTS`: a sign and 3, 4 or 7 bits of magnitude.
    block : int
        Elements that share an exponent: 2 to 128, a multiple or a divisor of `lanes`.
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

    element: str = "signmag4"
    block: int = 16
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
        if not isinstance(self.block, int) or not MIN_BLOCK <= self.block <= MAX_BLOCK:
            raise ValueError(f"{NAME}: block must be an integer of {MIN_BLOCK} to {MAX_BLOCK}, not {self.block!r}")
        if self.block % self.lanes and self.lanes % self.block:
            raise ValueError(f"{NAME}: block must be a multiple of lanes = {self.lanes} or divide it, not {self.block}")
        if self.stages not in (0, 1):
            raise ValueError(f"{NAME}: stages must be 0 or 1, not {self.stages!r}")

    @cached_property
    def datapath(self) -> _dot.DotSpec:
        """The shared datapath with these widths."""
        return _dot.DotSpec(
            a_element=self.element if self.a_element is None else self.a_element,
            b_element=self.element,
            lanes=self.lanes,
            block_beats=max(self.block // self.lanes, 1),
            a_scale=SCALE,
            b_scale=SCALE,
            beat_blocks=max(self.lanes // self.block, 1),
            stages=self.stages,
        )


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    for spec in (weight, activation):
        second = spec.tensor_scale != "none" or spec.row_scale != "none" or spec.zero_point != "none"
        if spec.element.name not in ELEMENTS or spec.scale is None or spec.scale.name != SCALE or second:
            return None
    block = weight.block_size
    if block != activation.block_size or not isinstance(block, int) or not MIN_BLOCK <= block <= MAX_BLOCK:
        return None
    element, a_element = weight.element.name, activation.element.name
    return Params(element, block, lanes or min(block, MAX_LANES), None if a_element == element else a_element)


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
    outputs, blocks = m * n, _dot.block_count(k, spec)
    low, high = sorted((spec.a_bits - 1, spec.b_bits - 1))
    return {
        f"mul_mag{low}_mag{high}": outputs * k,
        "add_int32": outputs * k,
        "mul_block_scale_e8m0": outputs * blocks,
        "add_float32": outputs * blocks,
    }

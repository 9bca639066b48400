"""`vs_dot`: dot products with two levels of scales (VS-Quant): an integer a vector, FP16 a row.

The products of a vector of V elements are summed exactly; that integer times the integer scales of both vectors is an
integer again, T = S * s_A * s_B, and enters the FP32 accumulator with one rounding: ``acc = RNE(acc + T)``, vectors in
ascending K. After the last vector the result takes the FP16 scale of its activation row, then that of its weight row,
both widened to FP32, one rounding to nearest each. Scale products are not shortened (the paper's option to round them
is left out), and vectors meet in FP32, not in a wide integer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from hwsim.formats import BlockSpec
from hwsim.pe import _dot, _unit
from hwsim.pe._unit import beats, cycles, dots, gemm, paired_beats, reference

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
        Pipeline stages beyond the least, 0 to 4: registers at the first so many of `_dot.STAGES`.
    adder_tree : {"binary", "carry_save"}
        How the products of a beat are added up; of no effect on bits and cycles.

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
    adder_tree: _dot.AdderTree = "binary"

    unit: ClassVar[str] = NAME

    def __post_init__(self) -> None:
        for name in ("element", "a_element"):
            _unit.check_choice(self, name, ELEMENTS, optional=name == "a_element")
        _unit.check_range(self, "lanes", 1, MAX_LANES)
        _unit.check_range(self, "vector", MIN_VECTOR, MAX_VECTOR)
        _unit.check_block(self, "vector", self.lanes)
        _unit.check_datapath(self)

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
            adder_tree=self.adder_tree,
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


__all__ = ["NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "paired_beats", "params_for", "reference"]

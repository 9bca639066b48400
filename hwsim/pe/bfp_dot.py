"""`bfp_dot`: dot products of block floating point (MSFP and its kin): sign and magnitude under a shared exponent.

The products of a block are integers; their sum is exact, and the exponents of both blocks shift it once:
``acc = RNE(acc + S * 2**(e_A + e_B))`` in FP32, one rounding, blocks in ascending K. Exponent code FF makes the result
NaN. It is the shared datapath of `mx_dot` with multipliers of magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from hwsim.formats import BlockSpec
from hwsim.pe import _dot, _unit
from hwsim.pe._unit import beats, cycles, dots, gemm, paired_beats, reference

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
        Pipeline stages beyond the least, 0 to 4: registers at the first so many of `_dot.STAGES`.
    adder_tree : {"binary", "carry_save"}
        How the products of a beat are added up; of no effect on bits and cycles.

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
    adder_tree: _dot.AdderTree = "binary"

    unit: ClassVar[str] = NAME

    def __post_init__(self) -> None:
        for name in ("element", "a_element"):
            _unit.check_choice(self, name, ELEMENTS, optional=name == "a_element")
        _unit.check_range(self, "lanes", 1, MAX_LANES)
        _unit.check_range(self, "block", MIN_BLOCK, MAX_BLOCK)
        _unit.check_block(self, "block", self.lanes)
        _unit.check_datapath(self)

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
            adder_tree=self.adder_tree,
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


__all__ = ["NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "paired_beats", "params_for", "reference"]

"""`int_mac`: integer multiply-accumulate with an exact group sum, scaled into FP32 inside the unit.

Signed activations (one FP32 scale a row) meet weights, both of 2 to 16 bits. The sum of a group of up to 2**31 / 2**14
products of INT8 fits 32 bits. With `block` 0 the group is the whole dot product (its sum is as wide as `MAX_BEATS`
beats need): the sum is exact, is rounded once to FP32, and then takes the scale of its row and of its column. With FP16
group scales each group's sum enters the FP32 accumulator as ``acc = RNE(acc + S * scale)``, zero points applied to the
sum (``S - zero * sum(a)``), and the result takes the scale of its activation row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from hwsim.formats import BlockSpec, element
from hwsim.pe import _dot, _unit
from hwsim.pe._unit import beats, cycles, dots, gemm, paired_beats, reference

NAME = "int_mac"
ELEMENTS = tuple(f"int{bits}" for bits in range(2, 17))
MAX_SUM_BITS = 54
"""Widest sum, sign included: float64 holds it exactly."""


@dataclass(frozen=True)
class Params:
    """Configure an `int_mac`.

    Parameters
    ----------
    weight : str
        Weight element, ``int2`` to ``int16`` or ``uint4``; the latter goes with `zero_point`.
    lanes : int
        Products a cycle.
    block : int
        Weights that share a group scale; 0: no group scale, the whole dot product is one exact integer sum.
    zero_point : bool
        Whether groups have a zero point of the weight's width.
    activation : str
        Activation element, ``int2`` to ``int16``.
    stages : int
        Pipeline stages beyond the least, 0 to 4: registers at the first so many of `_dot.STAGES`.
    adder_tree : {"binary", "carry_save"}
        How the products of a beat are added up; of no effect on bits and cycles.

    Raises
    ------
    ValueError
        When a field or a combination is not one of these.
    """

    weight: str = "int8"
    lanes: int = 32
    block: int = 0
    zero_point: bool = False
    activation: str = "int8"
    stages: int = 0
    adder_tree: _dot.AdderTree = "binary"

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = _dot.DotSpec
    """Kind of the datapath; units that multiply the same operands in their own way have another."""

    def __post_init__(self) -> None:
        if self.weight not in (*ELEMENTS, "uint4"):
            raise ValueError(f"{self.unit}: weight must be int2 to int16 or uint4, not {self.weight!r}")
        if self.activation not in ELEMENTS:
            raise ValueError(f"{self.unit}: activation must be int2 to int16, not {self.activation!r}")
        if self.zero_point != (self.weight == "uint4"):
            raise ValueError(
                f"{self.unit}: zero_point goes with weight uint4, not zero_point={self.zero_point} {self.weight}"
            )
        if self.zero_point and not self.block:
            raise ValueError(f"{self.unit}: zero points need a group scale; block must not be 0")
        if not isinstance(self.lanes, int) or self.lanes < 1:
            raise ValueError(f"{self.unit}: lanes must be a positive integer, not {self.lanes!r}")
        if self.block < 0 or self.block % self.lanes:
            raise ValueError(f"{self.unit}: block must be 0 or a multiple of lanes = {self.lanes}, not {self.block}")
        _unit.check_datapath(self)
        bits, allowed = self.datapath.block_sum_bits, MAX_SUM_BITS if self._wide else 32
        if bits > allowed and self.block:
            raise ValueError(
                f"{self.unit}: the sum of a block of {self.block} does not fit {allowed} bits (it takes {bits}); take "
                "a shorter block"
            )
        if bits > MAX_SUM_BITS:
            raise ValueError(
                f"{self.unit}: the sum of {_dot.MAX_BEATS} beats takes {bits} bits, allowed are {MAX_SUM_BITS}; take "
                f"fewer lanes than {self.lanes}"
            )

    @property
    def _wide(self) -> bool:
        return max(element(self.weight).bits, element(self.activation).bits) > 8

    @property
    def sum_words(self) -> int:
        """Words of 32 bits as which an addition of products is counted."""
        return -(-self.datapath.block_sum_bits // 32) if self._wide else 1

    @cached_property
    def datapath(self) -> _dot.DotSpec:
        """The shared datapath with these widths."""
        return self.spec_kind(
            a_element=self.activation,
            b_element=self.weight,
            lanes=self.lanes,
            block_beats=self.block // self.lanes,
            b_scale="float16" if self.block else None,
            zero_bits=4 if self.zero_point else 0,
            a_out=True,
            b_out=not self.block,
            stages=self.stages,
            adder_tree=self.adder_tree,
            **self.spec_fields(),
        )

    def spec_fields(self) -> dict[str, Any]:
        """Return the fields that a datapath of another kind has beside those of `_dot.DotSpec`."""
        return {}


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    return fitting(Params, weight, activation, lanes)


P = TypeVar("P", bound=Params)


def fitting(kind: type[P], weight: BlockSpec, activation: BlockSpec, lanes: int | None) -> P | None:
    """Return Params of a kind that take such operands, or None where there are none."""
    by_row = activation.scale is not None and activation.scale.name == "float32" and activation.block_size is None
    if not by_row or activation.zero_point != "none" or activation.element.name not in ELEMENTS:
        return None
    if weight.element.name not in (*ELEMENTS, "uint4") or weight.scale is None:
        return None
    taken = activation.element.name
    if weight.block_size is None:
        if weight.scale.name != "float32" or weight.zero_point != "none":
            return None
        return kind(weight.element.name, lanes or kind.lanes, activation=taken)
    if weight.scale.name != "float16" or not isinstance(weight.block_size, int) or weight.row_scale != "none":
        return None
    zeros = weight.zero_point != "none"
    if zeros != (weight.element.name == "uint4"):
        return None
    return kind(weight.element.name, lanes or kind.lanes, weight.block_size, zeros, taken)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    spec = params.datapath
    outputs, blocks = m * n, _dot.block_count(k, spec)
    # multipliers are those of 4, 8 or 16 bits
    low, high = sorted(next(bits for bits in (4, 8, 16) if bits >= width) for width in (spec.a_bits, spec.b_bits))
    words = params.sum_words
    counts = {
        f"mul_int{low}_int{high}": outputs * k,
        "add_int32": outputs * k * words,
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


__all__ = ["NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "paired_beats", "params_for", "reference"]

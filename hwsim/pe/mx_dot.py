"""`mx_dot`: dot products of small floats and integers under block scales, with any accumulator.

Both sides may have elements and block scales of their own (W4A8 mixes). By default a block's sum is exact and both
block scales enter with it: ``acc = RNE(acc + S * X_A * X_B)`` in FP32, one rounding, blocks in ascending K; other
orders of summation, alignments, formats and roundings are those of `hwsim.pe.accumulator`. With an output scale on a
side the result is multiplied by that side's FP32 scale (of the tensor or of the row) after the last block, A's before
B's, one rounding to nearest each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from hwsim.formats import BlockSpec
from hwsim.pe import _dot, _unit
from hwsim.pe._unit import beats, cycles, dots, gemm, paired_beats, reference
from hwsim.pe.accumulator import Accumulator, from_fields

NAME = "mx_dot"
GENERAL = True
"""Formats that have a unit of their own go there first, see `hwsim.pe.unit_for`."""
ELEMENTS = (
    "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "float8_e4m3fn", "float8_e5m2", "int8", "mxint8_element", "int6",
    "int4", "float16", "bfloat16",
)  # fmt: skip
SCALES = ("float8_e8m0fnu", "float8_e4m3fn", "ufloat8_e5m3fn", "uint8")
NO_SCALE = "none"
MIN_BLOCK, MAX_BLOCK = 8, 128
MAX_LANES = 64


@dataclass(frozen=True)
class Params:
    """Configure an `mx_dot`.

    Parameters
    ----------
    element : str
        Element of the weights, one of `ELEMENTS`.
    scale : str
        Block scale of the weights, one of `SCALES`, or ``none``.
    block : int
        Elements that share a scale: 8 to 128, a multiple or a divisor of `lanes`. (1 to 7 are taken too, for tests.)
    lanes : int
        Products a cycle, 1 to 64.
    out_scale : bool
        Whether the result is multiplied by an FP32 scale of the weights (tensor or row).
    a_element, a_scale : str, optional
        The same of the activations; None: as the weights.
    a_out_scale : bool, optional
        The same of the activations; None: as the weights.
    accumulator : Accumulator
        How terms are added up; also as a mapping of its fields.
    flags : bool
        Whether the result carries the IEEE flags raised in its dot product: bits 32 to 35 hold inexact, underflow,
        overflow and invalid.
    stages : int
        Pipeline stages beyond the least, 0 to 4: registers at the first so many of `_dot.STAGES`.
    adder_tree : {"binary", "carry_save"}
        How the products of a beat are added up; of no effect on bits and cycles.

    Raises
    ------
    ValueError
        When a field is not one of these, or fields contradict each other; the message says what is allowed. An exact
        sum that is too wide says how many bits it takes.
    """

    element: str = "float4_e2m1fn"
    scale: str = "float8_e8m0fnu"
    block: int = 32
    lanes: int = 32
    out_scale: bool = False
    a_element: str | None = None
    a_scale: str | None = None
    a_out_scale: bool | None = None
    accumulator: Accumulator = field(default_factory=Accumulator)
    flags: bool = False
    stages: int = 0
    adder_tree: _dot.AdderTree = "binary"

    unit: ClassVar[str] = NAME

    def __post_init__(self) -> None:
        for name in ("element", "a_element"):
            _unit.check_choice(self, name, ELEMENTS, optional=name == "a_element")
        for name in ("scale", "a_scale"):
            _unit.check_choice(self, name, (*SCALES, NO_SCALE), optional=name == "a_scale")
        _unit.check_range(self, "lanes", 1, MAX_LANES)
        _unit.check_range(self, "block", 1, MAX_BLOCK)
        _unit.check_block(self, "block", self.lanes)
        object.__setattr__(self, "accumulator", from_fields(self.accumulator))
        _unit.check_datapath(self)

    @cached_property
    def datapath(self) -> _dot.DotSpec:
        """The shared datapath with these widths."""
        scale, a_scale = (
            None if name == NO_SCALE else name
            for name in (self.scale, self.scale if self.a_scale is None else self.a_scale)
        )
        return _dot.DotSpec(
            a_element=self.element if self.a_element is None else self.a_element,
            b_element=self.element,
            lanes=self.lanes,
            block_beats=max(self.block // self.lanes, 1),
            a_scale=a_scale,
            b_scale=scale,
            a_out=self.out_scale if self.a_out_scale is None else self.a_out_scale,
            b_out=self.out_scale,
            beat_blocks=max(self.lanes // self.block, 1),
            accumulator=self.accumulator,
            flags=self.flags,
            stages=self.stages,
            adder_tree=self.adder_tree,
        )


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot.

    Integers under no block scale are left to `int_mac`.
    """
    sides = [_side(operand) for operand in (weight, activation)]
    if None in sides:
        return None
    (element, scale, block, out), (a_element, a_scale, a_block, a_out) = (side for side in sides if side is not None)
    if block is None and a_block is None:
        return None
    if block is not None and a_block is not None and block != a_block:
        return None
    shared = block or a_block
    assert shared is not None
    # fields of the other side stay None where it is the same, so that equal units have equal Params
    return Params(
        element,
        scale,
        shared,
        lanes or min(shared, MAX_LANES),
        out,
        None if a_element == element else a_element,
        None if a_scale == scale else a_scale,
        None if a_out == out else a_out,
    )


def _side(spec: BlockSpec) -> tuple[str, str, int | None, bool] | None:
    """Return element, block scale, block (None without block scale) and whether there is an output scale, or None."""
    if spec.element.name not in ELEMENTS or spec.zero_point != "none":
        return None
    second = spec.tensor_scale != "none" or spec.row_scale != "none"
    if spec.block_size is None:
        by_row = spec.scale is not None and spec.scale.name == "float32"
        if spec.scale is not None and not by_row:
            return None
        return spec.element.name, NO_SCALE, None, by_row
    if spec.scale is None or spec.scale.name not in SCALES or not isinstance(spec.block_size, int):
        return None
    if not MIN_BLOCK <= spec.block_size <= MAX_BLOCK:
        return None
    return spec.element.name, spec.scale.name, spec.block_size, second


_SHORT = {
    "float4_e2m1fn": "e2m1", "float6_e2m3fn": "e2m3", "float6_e3m2fn": "e3m2", "float8_e4m3fn": "e4m3",
    "float8_e5m2": "e5m2", "int8": "int8", "mxint8_element": "int8", "int6": "int6", "int4": "int4",
    "float16": "float16", "bfloat16": "bfloat16", "float8_e8m0fnu": "e8m0", "ufloat8_e5m3fn": "ue5m3", "uint8": "uint8",
}  # fmt: skip
"""Elements and scales in names of actions."""
_ORDER = ("int4", "int6", "int8", "e2m1", "e2m3", "e3m2", "e4m3", "e5m2", "float16", "bfloat16")
"""Order in which the two elements of a product are named."""
_INTEGERS = ("int4", "int6", "int8", "e2m1", "e2m3")
"""Elements that are integers of at most 8 bits; the others are multiplied as significands."""


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    spec, rule = params.datapath, params.accumulator
    outputs, blocks = m * n, _dot.block_count(k, spec)
    elements = sorted((_SHORT[spec.a_element], _SHORT[spec.b_element]), key=_ORDER.index)
    steps = {"exact": blocks, "sequential": k, "aligned": -(-k // rule.group) if rule.group else 0}[rule.kind]
    counts = {f"mul_{elements[0]}_{elements[1]}": outputs * k}
    words = -(-spec.block_sum_bits // 32)  # wider additions count as several
    if not rule.by_product and not set(elements) <= set(_INTEGERS):
        counts["shift_to_grid_int32"] = outputs * k * words
    if rule.kind == "exact":
        counts["add_int32"] = outputs * k * words
    elif rule.kind == "aligned":
        # a comparison of exponents, a shift and an addition a term, the addend's included where it is aligned
        terms = k if rule.by_product else blocks
        counts["align_term"] = outputs * (terms + (steps if rule.addend == "inside" else 0))
        if not rule.by_product:
            counts["add_int32"] = outputs * k * words
    names = sorted((_SHORT[name] if name else "", side) for side, name in (("a", spec.a_scale), ("b", spec.b_scale)))
    kinds = [name for name, _ in names if name]
    if kinds:
        scale = (
            kinds[0]
            if len(kinds) == 2 and kinds[0] == kinds[1]
            else "_".join(kinds if len(kinds) == 2 else [*kinds, "one"])
        )
        counts[f"mul_block_scale_{scale}"] = outputs * blocks
    counts[f"add_{rule.format}"] = outputs * steps
    if rule.sums_in_order:
        counts[f"add_{rule.format}"] += outputs * blocks
    if rule.promote_every:
        promotions = -(-blocks // rule.promote_every)
        counts["add_float32"] = counts.get("add_float32", 0) + outputs * promotions
    counts["mul_float32"] = outputs * (int(spec.a_out) + int(spec.b_out))
    return counts


__all__ = ["NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "paired_beats", "params_for", "reference"]

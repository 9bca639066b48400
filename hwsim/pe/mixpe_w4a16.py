"""`mixpe_w4a16`: shifts and additions in the place of multipliers, 4-bit weights and FP16 activations (MixPE).

The significand of the FP16 activation is shifted by the set bits of the weight, at most four terms added in one cycle,
and the result by its exponent onto the grid of 2**-24. The sum of a group is exact: 52 bits for 128 products. Scale and
zero point are applied once a group: ``acc = RNE(acc + s * (S - z * A))`` in FP32, A the running sum of activations,
groups in ascending K, which in exact arithmetic is dequantising first (see `_shift_add`). Other accumulators take the
exact sums of groups too; weights with zero points go with the default one.

NaN and Inf among the activations follow IEEE 754. With zero points an infinity meets itself in ``S - z * A``, or zero
in ``z * A``, and so makes the result NaN, also where dequantising first would leave the infinity.

Source: MixPE (arXiv 2411.16158) states shifts and additions and the dequantisation a group; widths, exact sums and the
format of scales are choices here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from hwsim.formats import BlockSpec, Encoded
from hwsim.pe import _dot, _shift_add
from hwsim.pe._unit import beats, cycles, dots, gemm, paired_beats, reference
from hwsim.pe.accumulator import Accumulator, from_fields

NAME = "mixpe_w4a16"
ACTIVATION = "float16"


@dataclass(frozen=True)
class Params:
    """Configure a `mixpe_w4a16`.

    Parameters
    ----------
    weight : {"int4", "uint4"}
        Weight element; ``uint4`` has a zero point of 4 bits a group.
    lanes : int
        Products a cycle.
    block : int
        Weights that share a scale, a multiple of `lanes`.
    accumulator : Accumulator
        How the sums of groups are added up, of kind ``exact``; also as a mapping of its fields.
    stages : int
        Pipeline stages beyond the least, 0 to 4: registers at the first so many of `_dot.STAGES`.
    adder_tree : {"binary", "carry_save"}
        How the products of a beat are added up; of no effect on bits and cycles.

    Raises
    ------
    ValueError
        When a field is not one of these, or a group's sum does not fit; the message says how many bits it needs.
    """

    weight: str = "int4"
    lanes: int = 16
    block: int = 128
    accumulator: Accumulator = field(default_factory=Accumulator)
    stages: int = 0
    adder_tree: _dot.AdderTree = "binary"

    unit: ClassVar[str] = NAME
    MAX_SUM_BITS: ClassVar[int] = 54
    """Widest sum of a group, sign included: float64 holds it exactly."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "accumulator", from_fields(self.accumulator))
        if self.accumulator.kind != "exact":
            raise ValueError(
                f"{NAME}: scales are applied to exact sums of groups; the accumulator must be of kind exact, not "
                f"{self.accumulator.kind}"
            )
        _shift_add.check(self)

    @cached_property
    def datapath(self) -> _dot.DotSpec:
        """The shared datapath with these widths."""
        return _dot.DotSpec(
            a_element=ACTIVATION,
            b_element=self.weight,
            lanes=self.lanes,
            block_beats=self.block // self.lanes,
            b_scale=_shift_add.SCALE,
            zero_bits=_shift_add.WEIGHT_BITS if self.weight == "uint4" else 0,
            accumulator=self.accumulator,
            stages=self.stages,
            adder_tree=self.adder_tree,
            shift_add=True,
        )


def activation_for(weight: BlockSpec) -> str:
    """Return the name of the format in which this unit takes activations, whatever goes with the weights elsewhere."""
    return ACTIVATION


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    if activation.element.name != ACTIVATION or activation.scale is not None or not _shift_add.takes_weights(weight):
        return None
    assert isinstance(weight.block_size, int)
    return Params(weight.element.name, lanes or Params.lanes, weight.block_size)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding), every bit of the weights set: an upper count."""
    spec, rule = params.datapath, params.accumulator
    counts = _shift_add.actions(m, n, k, spec, ACTIVATION)
    groups = counts.pop("add_float32")
    counts["shift_to_grid_float16"] = m * n * k
    counts[f"add_{rule.format}"] = groups
    if rule.promote_every:
        promotions = m * n * -(-_dot.block_count(k, spec) // rule.promote_every)
        counts["add_float32"] = counts.get("add_float32", 0) + promotions
    return counts


def operand_actions(a: Encoded, b: Encoded, params: Params) -> dict[str, int]:
    """Return counts of the events of A [M, K] times B [N, K]^T, terms counted by the set bits of these weights."""
    counts = actions(a.shape[0], b.shape[0], b.k, params)
    return _shift_add.operand_actions(a, b, counts, ACTIVATION)


def dequantised_actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return the events of the same GEMM with multipliers, every weight dequantised first."""
    return _shift_add.dequantised_actions(m, n, k, params.datapath, ACTIVATION)


__all__ = [
    "NAME",
    "Params",
    "actions",
    "activation_for",
    "beats",
    "cycles",
    "dequantised_actions",
    "dots",
    "gemm",
    "operand_actions",
    "paired_beats",
    "params_for",
    "reference",
]

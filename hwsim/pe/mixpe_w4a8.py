"""`mixpe_w4a8`: shifts and additions in the place of multipliers, 4-bit weights and INT8 activations (MixPE).

The INT8 activation is shifted by the set bits of the weight, at most four terms added in one cycle; the sum of a group
is an exact integer. Scale and zero point are applied once a group: ``acc = RNE(acc + s * (S - z * A))`` in FP32, A the
running sum of activations, groups in ascending K, which in exact arithmetic is dequantising first (see `_shift_add`).
The result takes the FP32 scale of its activation row. It is the datapath of `int_mac` with other lanes.

Source: MixPE (arXiv 2411.16158) states shifts and additions and the dequantisation a group; widths and the formats of
scales are choices here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from hwsim.formats import BlockSpec, Encoded
from hwsim.pe import _dot, _shift_add
from hwsim.pe._unit import beats, cycles, dots, gemm, paired_beats, reference

NAME = "mixpe_w4a8"
ACTIVATION = "int8"


@dataclass(frozen=True)
class Params:
    """Configure a `mixpe_w4a8`.

    Parameters
    ----------
    weight : {"int4", "uint4"}
        Weight element; ``uint4`` has a zero point of 4 bits a group.
    lanes : int
        Products a cycle.
    block : int
        Weights that share a scale, a multiple of `lanes`.
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
    lanes: int = 32
    block: int = 128
    stages: int = 0
    adder_tree: _dot.AdderTree = "binary"

    unit: ClassVar[str] = NAME
    MAX_SUM_BITS: ClassVar[int] = 32
    """Widest sum of a group, sign included."""

    def __post_init__(self) -> None:
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
            a_out=True,
            stages=self.stages,
            adder_tree=self.adder_tree,
            shift_add=True,
        )


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    by_row = activation.scale is not None and activation.scale.name == "float32" and activation.block_size is None
    if not by_row or activation.zero_point != "none" or activation.element.name != ACTIVATION:
        return None
    if not _shift_add.takes_weights(weight):
        return None
    assert isinstance(weight.block_size, int)
    return Params(weight.element.name, lanes or Params.lanes, weight.block_size)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding), every bit of the weights set: an upper count."""
    counts = _shift_add.actions(m, n, k, params.datapath, ACTIVATION)
    return counts | {"mul_float32": m * n}


def operand_actions(a: Encoded, b: Encoded, params: Params) -> dict[str, int]:
    """Return counts of the events of A [M, K] times B [N, K]^T, terms counted by the set bits of these weights."""
    counts = actions(a.shape[0], b.shape[0], b.k, params)
    return _shift_add.operand_actions(a, b, counts, ACTIVATION)


def dequantised_actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return the events of the same GEMM with multipliers, every weight dequantised first."""
    return _shift_add.dequantised_actions(m, n, k, params.datapath, ACTIVATION) | {"mul_float32": m * n}


__all__ = [
    "NAME",
    "Params",
    "actions",
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

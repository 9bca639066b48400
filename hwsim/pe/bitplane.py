"""`bitplane`: integer dot products as popcounts of planes of single bits of both operands, ANDed, and recovery.

Operands, sums, scales and every bit are those of `int_mac`. The bits of a beat's activations at one place are a plane,
those of its weights at one place another. The ones in which both agree are counted, and the count of planes i and j is
worth ``2**(i + j)``, negative if one of them, and not both, is the highest of two's complement: recovery shifts the
counts and adds them up. `pairs_a_cycle` of the ``Pa * Pw`` pairs of planes are worked off in a cycle, in the order of
the activation's places and, within one, of the weight's, the lowest first.

Source: Zeng et al., ABQ-LLM: Arbitrary-Bit Quantized Inference Acceleration for Large Language Models (AAAI 2025):
products of any widths as products of planes of one bit with AND and popcount, then bit reduction. There it is a GPU
kernel on binary matrix units; open, and chosen here: how many pairs a unit does at once and in which order; signed
operands through a negative highest plane, so that no zero points are needed for signs. (`loom` works off the same
products of single bits by two running sums, without shifts; here the shift of each pair is chosen.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hwsim.formats import BlockSpec
from hwsim.pe import _dot, _unit, int_mac
from hwsim.pe._serial import SerialSpec, cycles, operand_cycles
from hwsim.pe._serial_actions import around_products, beats_of
from hwsim.pe._unit import beats, dots, gemm, paired_beats, reference

NAME = "bitplane"
GENERAL = True
MAX_PAIRS = 256
"""Pairs of planes of two operands of 16 bits."""


@dataclass(frozen=True)
class BitPlaneSpec(SerialSpec):
    """The datapath of `bitplane`; a cycle takes `pairs_a_cycle` pairs of planes, 0 for all."""

    pairs_a_cycle: int = 1

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Places of the activation's and the weight's plane of every pair, in their order."""
        return tuple((a, b) for a in range(self.a_bits) for b in range(self.b_bits))

    @property
    def pairs_at_once(self) -> int:
        """Pairs of a cycle."""
        return self.pairs_a_cycle or len(self.pairs)

    @property
    def most_beat_cycles(self) -> int:
        """Pairs of planes, those of a cycle at once."""
        return -(-len(self.pairs) // self.pairs_at_once)


@dataclass(frozen=True)
class Params(int_mac.Params):
    """Configure a `bitplane`: the fields of `int_mac.Params`, `stages` 0, and those here.

    Parameters
    ----------
    pairs_a_cycle : int
        Pairs of planes that are counted in a cycle, from 1 to those there are; 0 stands for all.
    """

    pairs_a_cycle: int = 1

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = BitPlaneSpec

    def __post_init__(self) -> None:
        _unit.check_range(self, "pairs_a_cycle", 0, MAX_PAIRS)
        super().__post_init__()
        spec = self.datapath
        assert isinstance(spec, BitPlaneSpec)
        if self.pairs_a_cycle > len(spec.pairs):
            raise ValueError(
                f"{self.unit}: pairs_a_cycle must be at most the {len(spec.pairs)} pairs of planes of "
                f"{self.activation} and {self.weight}, not {self.pairs_a_cycle}"
            )

    def spec_fields(self) -> dict[str, Any]:
        """Return what the datapath has beside the fields of `_dot.DotSpec`."""
        return {"pairs_a_cycle": self.pairs_a_cycle}


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    return int_mac.fitting(Params, weight, activation, lanes)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    spec = params.datapath
    assert isinstance(spec, BitPlaneSpec)
    counts = around_products(m, n, k, params)
    counts["count_word"] = -(-m * n * k * len(spec.pairs) // 8)
    recovered = m * n * beats_of(k, params) * len(spec.pairs)
    # a pair's count to its place, where it changes, and into the sum
    if spec.most_beat_cycles > 1:
        counts["shift_word"] = recovered
    counts["add_int32"] += recovered
    return counts


__all__ = [
    "NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "operand_cycles", "paired_beats", "params_for",
    "reference",
]  # fmt: skip

"""`loom`: integer dot products with both operands bit-serial: products of single bits, counted.

Operands, sums, scales and every bit are those of `int_mac`. A beat takes ``ceil(Pa / bits_a_cycle) * Pw`` cycles for
activations of Pa and weights of Pw bits, whatever their values. A bit of every weight stays while the bits of the
activations go by, `bits_a_cycle` of them a cycle; both sides begin with the highest, which is negative in two's
complement. The ones among the lanes' products of two bits are counted; a first sum is shifted by the activation's bits
of the cycle and takes the counts, a second one is doubled for every weight bit and takes the first.

Source: Sharify et al., Loom: Exploiting Weight and Activation Precisions to Accelerate Convolutional Neural Networks
(DAC 2018, arXiv 1706.07853): time of convolutions in proportion to Pa * Pw, variants of 1, 2 and 4 bits a cycle. Open
there, chosen here: the bits taken together are the activation's, and where they do not divide Pa the sign fills up the
first ones. Widths are chosen per layer there, at run time; here they are those of the unit, as an array of units set to
one layer has them. Fully connected layers, whose time is in proportion to Pw alone because weights differ in every
unit, are a matter of the array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hwsim.formats import BlockSpec
from hwsim.pe import _dot, int_mac
from hwsim.pe._serial import SerialSpec, cycles, operand_cycles
from hwsim.pe._serial_actions import around_products, beats_of
from hwsim.pe._unit import beats, dots, gemm, paired_beats, reference

NAME = "loom"
GENERAL = True
BITS_A_CYCLE = (1, 2, 4)


@dataclass(frozen=True)
class LoomSpec(SerialSpec):
    """The datapath of `loom`; a cycle takes `bits_a_cycle` bits of an activation and one of a weight."""

    bits_a_cycle: int = 1

    @property
    def activation_steps(self) -> int:
        """Cycles in which the bits of an activation go by."""
        return -(-self.a_bits // self.bits_a_cycle)

    @property
    def most_beat_cycles(self) -> int:
        """Bits of a weight times the cycles of an activation."""
        return self.activation_steps * self.b_bits


@dataclass(frozen=True)
class Params(int_mac.Params):
    """Configure a `loom`: the fields of `int_mac.Params`, `stages` 0, and those here.

    Parameters
    ----------
    bits_a_cycle : {1, 2, 4}
        Bits of an activation that meet a bit of a weight in a cycle.
    """

    bits_a_cycle: int = 1

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = LoomSpec

    def __post_init__(self) -> None:
        if type(self.bits_a_cycle) is not int or self.bits_a_cycle not in BITS_A_CYCLE:
            raise ValueError(f"{self.unit}: bits_a_cycle must be 1, 2 or 4, not {self.bits_a_cycle!r}")
        super().__post_init__()

    def spec_fields(self) -> dict[str, Any]:
        """Return what the datapath has beside the fields of `_dot.DotSpec`."""
        return {"bits_a_cycle": self.bits_a_cycle}


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    return int_mac.fitting(Params, weight, activation, lanes)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    spec = params.datapath
    assert isinstance(spec, LoomSpec)
    counts = around_products(m, n, k, params)
    counts["count_word"] = -(-m * n * k * spec.a_bits * spec.b_bits // 8)
    # into the first sum every cycle, into the second for every weight bit
    counts["add_int32"] += m * n * beats_of(k, params) * (spec.most_beat_cycles + spec.b_bits)
    return counts


__all__ = [
    "NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "operand_cycles", "paired_beats", "params_for",
    "reference",
]  # fmt: skip

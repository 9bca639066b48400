"""`stripes`: integer dot products with bit-serial activations: one bit of every activation a cycle, weights whole.

Operands, sums, scales and every bit are those of `int_mac`; an activation of p bits takes p cycles a beat, whatever its
value: its bits, from the highest (whose weight is negative), select weights, which are added up; the running sum is
doubled before each bit but the first.

Source: Judd et al., Stripes: Bit-Serial Deep Neural Network Computing (MICRO 2016): time in proportion to the
bits of an activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hwsim.formats import BlockSpec
from hwsim.pe import _dot, int_mac
from hwsim.pe._serial import SerialSpec, cycles, operand_cycles
from hwsim.pe._serial_actions import around_products
from hwsim.pe._unit import beats, dots, gemm, paired_beats, reference

NAME = "stripes"
GENERAL = True


@dataclass(frozen=True)
class StripesSpec(SerialSpec):
    """The datapath of `stripes`."""

    @property
    def most_beat_cycles(self) -> int:
        """Bits of an activation."""
        return self.a_bits


@dataclass(frozen=True)
class Params(int_mac.Params):
    """Configure a `stripes`: the fields of `int_mac.Params`, `stages` 0."""

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = StripesSpec


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    return int_mac.fitting(Params, weight, activation, lanes)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    steps = m * n * k * params.datapath.a_bits
    counts = around_products(m, n, k, params)
    return counts | {"and_word": steps, "add_int32": counts["add_int32"] + steps}


__all__ = [
    "NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "operand_cycles", "paired_beats", "params_for",
    "reference",
]  # fmt: skip

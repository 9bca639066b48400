"""`unpu`: integer dot products with bit-serial weights: one bit of every weight a cycle, activations whole.

Operands, sums, scales and every bit are those of `int_mac`; a weight of p bits takes p cycles a beat, whatever its
value: its bits, from the highest (whose weight is negative in two's complement), select activations, which are added
up; the running sum is doubled before each bit but the first.

Source: Lee et al., UNPU: An Energy-Efficient Deep Neural Network Accelerator With Fully Variable Weight Bit Precision
(JSSC 2019): weights of 1 to 16 bits in series, time in proportion to their bits. Open here, as only its abstract was
read: in which order bits go and how signs are handled; chosen: highest first, two's complement. The paper's unit
reads the sums of activations from tables (see `lut_serial`); this one gates them, which is what a table saves. The
width of weights is chosen per layer there; here it is that of the unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hwsim.formats import BlockSpec
from hwsim.pe import _dot, int_mac
from hwsim.pe._serial import SerialSpec, cycles, operand_cycles
from hwsim.pe._serial_actions import around_products
from hwsim.pe._unit import beats, dots, gemm, paired_beats, reference

NAME = "unpu"
GENERAL = True


@dataclass(frozen=True)
class UnpuSpec(SerialSpec):
    """The datapath of `unpu`."""

    @property
    def most_beat_cycles(self) -> int:
        """Bits of a weight."""
        return self.b_bits


@dataclass(frozen=True)
class Params(int_mac.Params):
    """Configure an `unpu`: the fields of `int_mac.Params`, `stages` 0."""

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = UnpuSpec


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    return int_mac.fitting(Params, weight, activation, lanes)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    steps = m * n * k * params.datapath.b_bits
    counts = around_products(m, n, k, params)
    return counts | {"and_word": steps, "add_int32": counts["add_int32"] + steps}


__all__ = [
    "NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "operand_cycles", "paired_beats", "params_for",
    "reference",
]  # fmt: skip

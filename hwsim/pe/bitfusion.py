"""`bitfusion`: integer dot products from bricks of 2 by 2 bits, fused into the width that operands have.

Operands, sums, scales and every bit are those of `int_mac`. Operands are cut into slices of two bits, the top slice
signed, the others not; a brick multiplies two slices. Operands of up to 2, 4 or 8 bits a side are fused in space:
``(width_a / 2) * (width_w / 2)`` bricks make a product in one cycle, their products shifted and added pairwise, halves
of an operand at a time. An operand of more than 8 bits is 16 wide and goes through in two halves, the high one first:
2 cycles if it is on one side, 4 if on both.

A fusion unit has 16 bricks: one product of 8 by 8 bits a cycle, two of 8 by 4, up to sixteen of 2 by 2. `lanes` counts
fused products, so that a datapath has ``lanes * bricks / 16`` fusion units (the last one partly used where that is no
whole number).

Source: Sharma et al., Bit Fusion: Bit-Level Dynamically Composable Architecture for Accelerating Deep Neural Networks
(ISCA 2018): bricks, spatial fusion up to 8 by 8 bits, 16 bits over 4 cycles. Open there, chosen here: the order of the
halves; widths between those of the fusion extended by their sign to the next; exact sums (32 bits there). Widths are
chosen per layer there, here at construction, which is a fusion unit set to one layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hwsim.formats import BlockSpec
from hwsim.pe import _dot, int_mac
from hwsim.pe._serial import SerialSpec, cycles, operand_cycles
from hwsim.pe._serial_actions import around_products, beats_of
from hwsim.pe._unit import beats, dots, gemm, paired_beats, reference

NAME = "bitfusion"
GENERAL = True
SLICE_BITS = 2
"""Width of a brick."""
SPATIAL_BITS = (2, 4, 8)
"""Widths that are fused in one cycle; wider operands take halves of the widest."""
BRICKS = 16
"""Bricks of a fusion unit."""


def fused_bits(bits: int) -> int:
    """Return the width that an operand of so many bits has in a cycle."""
    return next((width for width in SPATIAL_BITS if bits <= width), SPATIAL_BITS[-1])


@dataclass(frozen=True)
class BitFusionSpec(SerialSpec):
    """The datapath of `bitfusion`."""

    @property
    def a_steps(self) -> int:
        """Halves, or wholes, in which activations go through."""
        return -(-self.a_bits // SPATIAL_BITS[-1])

    @property
    def b_steps(self) -> int:
        """Halves, or wholes, in which weights go through."""
        return -(-self.b_bits // SPATIAL_BITS[-1])

    @property
    def most_beat_cycles(self) -> int:
        """One, doubled for each side of more than 8 bits."""
        return self.a_steps * self.b_steps

    @property
    def product_bricks(self) -> int:
        """Bricks that make a product."""
        return (fused_bits(self.a_bits) // SLICE_BITS) * (fused_bits(self.b_bits) // SLICE_BITS)

    @property
    def fusion_units(self) -> int:
        """Fusion units that the lanes take."""
        return -(-self.lanes * self.product_bricks // BRICKS)


@dataclass(frozen=True)
class Params(int_mac.Params):
    """Configure a `bitfusion`: the fields of `int_mac.Params`, `stages` 0; `lanes` are fused products."""

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = BitFusionSpec


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    return int_mac.fitting(Params, weight, activation, lanes)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding); the names are explained in `hwsim.cost`."""
    spec = params.datapath
    assert isinstance(spec, BitFusionSpec)
    counts = around_products(m, n, k, params)
    steps = spec.most_beat_cycles
    counts["mul_brick"] = m * n * k * spec.product_bricks * steps
    # a product into its tree every cycle, that into the sum of the cycles before
    counts["add_int32"] += m * n * (k * steps + beats_of(k, params) * (steps - 1))
    return counts


__all__ = [
    "NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "operand_cycles", "paired_beats", "params_for",
    "reference",
]  # fmt: skip

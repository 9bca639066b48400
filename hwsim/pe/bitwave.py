"""`bitwave`: integer dot products over the bit columns of weights' magnitudes: columns of zeros take no time (BitWave).

Operands, sums, scales and every bit are those of `int_mac`. A weight is sign and magnitude; the bits of one place of
the magnitudes of a beat's weights are a column. Each cycle takes the lowest column that is left and has a one: the
activations at its ones, each under its weight's sign, are added up and shifted to the column's place. A beat takes as
many cycles as it has columns with a one (one of zeros takes one cycle).

Source: BitWave (M. Shi et al., HPCA 2024): bit columns of groups of weights, stored
as sign and magnitude, of which those of zeros are skipped. Open there and chosen here: the group is the beat; the
lowest column goes first; the sign takes no cycle of its own; widths are those of exact sums; the weights' codes are
those of `int_mac`, which the unit turns into sign and magnitude (the paper stores them so, and an index of columns);
the flips of bits that make more columns zero are a matter of the format, not of the unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec
from hwsim.pe import _dot, int_mac
from hwsim.pe._magnitude import WeightMagnitudeSpec
from hwsim.pe._serial import cycles, operand_cycles
from hwsim.pe._serial_actions import around_products, beats_of
from hwsim.pe._unit import beats, dots, gemm, paired_beats, reference

NAME = "bitwave"
GENERAL = True


@dataclass(frozen=True)
class BitwaveSpec(WeightMagnitudeSpec):
    """The datapath of `bitwave`."""

    @property
    def most_beat_cycles(self) -> int:
        """Columns of a magnitude."""
        return self.magnitude_bits

    def lane_cycles(self, a: NDArray[np.integer] | None, b: NDArray[np.integer] | None) -> NDArray[np.int64]:
        """Return the cycles of beats, int64 [beats], from the weights' codes [beats, lanes]."""
        from hwsim.pe._column_kernels import columns_in_use

        assert b is not None
        out = np.empty(len(b), np.int64)
        columns_in_use(self.masks(b), out)
        return out


@dataclass(frozen=True)
class Params(int_mac.Params):
    """Configure a `bitwave`: the fields of `int_mac.Params`, `stages` 0."""

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = BitwaveSpec


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    return int_mac.fitting(Params, weight, activation, lanes)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding), each column counted as if it had a one."""
    spec = params.datapath
    assert isinstance(spec, BitwaveSpec)
    counts, steps = around_products(m, n, k, params), m * n * k * spec.magnitude_bits
    # a bit gates an activation into the tree; a column's sum is shifted to its place
    shifts = m * n * beats_of(k, params) * spec.magnitude_bits
    return counts | {"and_word": steps, "shift_word": shifts, "add_int32": counts["add_int32"] + steps}


__all__ = [
    "NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "operand_cycles", "paired_beats", "params_for",
    "reference",
]  # fmt: skip

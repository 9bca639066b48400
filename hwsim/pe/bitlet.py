"""`bitlet`: integer dot products with the set bits of weights interleaved: one of each place a cycle (Bitlet).

Operands, sums, scales and every bit are those of `int_mac`. A weight is sign and magnitude. For each place of the
magnitudes, a cycle takes the set bit of the first lane that has one left, whichever it is, and its lane's activation,
under its weight's sign, at that place; all places work at the same time, and their terms are added up. A beat takes as
many cycles as its fullest place has ones in all lanes (one of zeros takes one cycle).

Source: Bitlet (H. Lu et al., Distilling Bit-level Sparsity Parallelism for General Purpose Deep Learning Acceleration,
MICRO 2021), as described in BBS (MICRO 2024): a multiplexer over all lanes in front of each place, bits interleaved.
Open there and chosen here: integers alone, whose places need no alignment of exponents; the lanes are those of the beat
(64 as published); the lowest lane goes first; a beat waits for its fullest place; widths are those of exact sums.
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
from hwsim.pe._serial_actions import around_products
from hwsim.pe._unit import beats, dots, gemm, paired_beats, reference

NAME = "bitlet"
GENERAL = True


@dataclass(frozen=True)
class BitletSpec(WeightMagnitudeSpec):
    """The datapath of `bitlet`."""

    @property
    def most_beat_cycles(self) -> int:
        """Lanes: one place may have a one in each."""
        return self.lanes

    def lane_cycles(self, a: NDArray[np.integer] | None, b: NDArray[np.integer] | None) -> NDArray[np.int64]:
        """Return the cycles of beats, int64 [beats], from the weights' codes [beats, lanes]."""
        from hwsim.pe._column_kernels import fullest_column

        assert b is not None
        out = np.empty(len(b), np.int64)
        fullest_column(self.masks(b), self.magnitude_bits, out)
        return out


@dataclass(frozen=True)
class Params(int_mac.Params):
    """Configure a `bitlet`: the fields of `int_mac.Params`, `stages` 0."""

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = BitletSpec


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    return int_mac.fitting(Params, weight, activation, lanes)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding), each bit of a magnitude counted as if it were set."""
    spec = params.datapath
    assert isinstance(spec, BitletSpec)
    counts, steps = around_products(m, n, k, params), m * n * k * spec.magnitude_bits
    return counts | {"select_word": steps, "add_int32": counts["add_int32"] + steps}


__all__ = [
    "NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "operand_cycles", "paired_beats", "params_for",
    "reference",
]  # fmt: skip

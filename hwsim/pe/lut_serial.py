"""`lut_serial`: integer dot products with bit-serial weights that look up sums of activations in tables.

Operands, sums, scales and every bit are those of `int_mac`; a weight of b bits takes b cycles a beat, whatever its
value. The activations of a beat are taken in groups of `group`; a table holds the sums of a group under signs, half of
them: those in which its last activation is positive, as ``LUT[w] = -LUT[~w]``. A weight q is read as planes of +1 and
-1: with the highest bit of two's complement turned over, its bits are those of an unsigned u, and
``q' = 2 u + 1 - 2**b`` is ``sum(s_i 2**i)`` with ``s_i = 2 u_i - 1``. Each cycle the bits of a group's weights at one
place, the highest first, choose an entry and its sign; entries are added up, and the running sum is doubled before
each place but the first. What the planes leave is put right at the end, exactly, with the sum of the activations, which
is made of entries too: ``sum(a q) = (sum(a q') - sum(a)) / 2`` for signed weights, and
``(sum(a q') + (2**b - 1) sum(a)) / 2`` for unsigned ones.

Source: Mo et al., LUT Tensor Core (ISCA 2025): planes of +1 and -1, tables of 4 activations, half by symmetry, weights
in series; Park et al., FIGLUT (HPCA 2025): groups of 4, 14 additions a table, half tables; Lee et al., UNPU (JSSC
2019). Chosen here where they differ or say nothing: entries are exact (LUT Tensor Core rounds them to INT8) and kept
in registers (as FIGLUT's); a unit makes its own tables, in the cycle that takes the beat, so that they take no time
(both papers make them once for many units, which saves additions: `actions` counts those of a unit alone); the
correction is in the unit, where LUT Tensor Core moves it into the zero point; the last group is smaller if `lanes` are
no multiple of `group`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hwsim.formats import BlockSpec
from hwsim.pe import _dot, _unit, int_mac
from hwsim.pe._serial import SerialSpec, cycles, operand_cycles
from hwsim.pe._serial_actions import around_products, beats_of
from hwsim.pe._unit import beats, dots, gemm, paired_beats, reference

NAME = "lut_serial"
GENERAL = True
MAX_GROUP = 6


@dataclass(frozen=True)
class LutSpec(SerialSpec):
    """The datapath of `lut_serial`; tables are of `group` activations."""

    group: int = 4

    @property
    def most_beat_cycles(self) -> int:
        """Bits of a weight."""
        return self.b_bits

    @property
    def groups(self) -> tuple[int, ...]:
        """Activations of each table."""
        return tuple(min(self.group, self.lanes - first) for first in range(0, self.lanes, self.group))


@dataclass(frozen=True)
class Params(int_mac.Params):
    """Configure a `lut_serial`: the fields of `int_mac.Params`, `stages` 0, and those here.

    Parameters
    ----------
    group : int
        Activations of a table, mu, 1 to `MAX_GROUP`.
    """

    group: int = 4

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = LutSpec

    def __post_init__(self) -> None:
        _unit.check_range(self, "group", 1, MAX_GROUP)
        super().__post_init__()

    def spec_fields(self) -> dict[str, Any]:
        """Return what the datapath has beside the fields of `_dot.DotSpec`."""
        return {"group": self.group}


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    return int_mac.fitting(Params, weight, activation, lanes)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding), with tables made anew for every beat."""
    spec = params.datapath
    assert isinstance(spec, LutSpec)
    counts = around_products(m, n, k, params)
    taken = m * n * beats_of(k, params)
    # a table of g activations from that of g - 1: 2 + 4 + ... + 2**(g - 1) additions
    counts["table_sum"] = taken * sum((1 << size) - 2 for size in spec.groups)
    reads = taken * spec.b_bits * len(spec.groups)
    counts["read_table"] = reads
    # entries into the tree; the sum of activations and its subtraction
    counts["add_int32"] += reads + taken * len(spec.groups)
    return counts


__all__ = [
    "NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "operand_cycles", "paired_beats", "params_for",
    "reference",
]  # fmt: skip

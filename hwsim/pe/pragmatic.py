"""`pragmatic`: integer dot products over the set bits of activations: only "oneffsets" take time.

Operands, sums, scales and every bit are those of `int_mac`. An activation is sign and magnitude; each cycle a lane
shifts its weight by the place of the lowest set bit that is left of its activation. The shift has two steps: all lanes
share one of c, the lowest place left in any lane, and each has its own of less than ``2**first_stage_bits``; a lane
whose lowest bit lies higher waits. The beat ends when no lane has a bit left (one of zeros takes one cycle).

Source: Albericio et al., Bit-Pragmatic Deep Neural Network Computing (MICRO 2017): oneffsets, two-stage shifting with
L = 0 to 4, lanes of a brick in step. The paper's activations are positive; here they have a sign, which turns the
weight's, and lowest bits go first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec
from hwsim.pe import _dot, _unit, int_mac
from hwsim.pe._serial import SerialSpec, cycles, integers, operand_cycles
from hwsim.pe._serial_actions import around_products
from hwsim.pe._unit import beats, dots, gemm, paired_beats, reference

NAME = "pragmatic"
GENERAL = True
MAX_FIRST_STAGE_BITS = 4


@dataclass(frozen=True)
class PragmaticSpec(SerialSpec):
    """The datapath of `pragmatic`; a lane's own shift is less than ``2**first_stage_bits``."""

    first_stage_bits: int = 2

    depends_on: ClassVar = "a"

    @property
    def magnitude_bits(self) -> int:
        """Bits of an activation's magnitude."""
        return max(map(abs, self.a_ints)).bit_length()

    @property
    def most_beat_cycles(self) -> int:
        """Places of a magnitude: in the worst case one bit of one lane a cycle."""
        return self.magnitude_bits

    def lane_cycles(self, a: NDArray[np.integer] | None, b: NDArray[np.integer] | None) -> NDArray[np.int64]:
        """Return the cycles of beats, int64 [beats], from the activations' codes [beats, lanes]."""
        from hwsim.pe._serial_kernels import synchronised_oneffsets

        assert a is not None
        out = np.empty(len(a), np.int64)
        synchronised_oneffsets(np.abs(integers(self.a_element, a)).astype(np.uint32), 1 << self.first_stage_bits, out)
        return out


@dataclass(frozen=True)
class Params(int_mac.Params):
    """Configure a `pragmatic`: the fields of `int_mac.Params`, `stages` 0, and those here.

    Parameters
    ----------
    first_stage_bits : int
        L, bits of a lane's own shift: 0 (all lanes at the same place) to 4.
    """

    first_stage_bits: int = 2

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = PragmaticSpec

    def __post_init__(self) -> None:
        _unit.check_range(self, "first_stage_bits", 0, MAX_FIRST_STAGE_BITS)
        super().__post_init__()

    def spec_fields(self) -> dict[str, Any]:
        """Return what the datapath has beside the fields of `_dot.DotSpec`."""
        return {"first_stage_bits": self.first_stage_bits}


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    return int_mac.fitting(Params, weight, activation, lanes)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding), each bit of a magnitude counted as if it were set."""
    spec = params.datapath
    assert isinstance(spec, PragmaticSpec)
    steps = m * n * k * spec.magnitude_bits
    counts = around_products(m, n, k, params)
    return counts | {"shift_word": steps, "add_int32": counts["add_int32"] + steps}


__all__ = [
    "NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "operand_cycles", "paired_beats", "params_for",
    "reference",
]  # fmt: skip

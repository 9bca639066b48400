"""`laconic`: integer dot products over the Booth terms of both operands: only pairs of terms that are not zero count.

Operands, sums, scales and every bit are those of `int_mac`. Activations and weights are each a sum of radix-4 Booth
terms, signed powers of two. Each cycle a lane multiplies one pair of terms, by adding exponents; it goes through the
terms of its weight for each term of its activation, the lowest first. Lanes begin and end a beat together: it takes the
most that a lane has of products ``terms_a * terms_w`` (one where all are zero). What lanes give in a cycle is counted
by exponent, and the counts are shifted and added up.

Source: Sharify et al., Laconic Deep Learning Inference Acceleration (ISCA 2019), known here from summaries: Booth terms
of both operands, time of a group of lanes the largest product of two counts of terms. Open there, chosen here: the
order of the pairs; that terms are made in the unit (the paper encodes operands before they are sent, which changes
wires, not cycles); that every beat waits for its slowest lane, without queues between beats.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import BlockSpec, recode
from hwsim.pe import _dot, int_mac
from hwsim.pe._serial import SerialSpec, cycles, operand_cycles
from hwsim.pe._serial_actions import around_products, beats_of
from hwsim.pe._unit import beats, dots, gemm, paired_beats, reference

NAME = "laconic"
GENERAL = True


@dataclass(frozen=True)
class LaconicSpec(SerialSpec):
    """The datapath of `laconic`."""

    depends_on: ClassVar = "both"

    @cached_property
    def a_terms(self) -> recode.Table:
        """Booth terms of every activation."""
        return recode.table("booth_radix4", self.a_bits, values=self.a_ints)

    @cached_property
    def b_terms(self) -> recode.Table:
        """Booth terms of every weight."""
        return recode.table("booth_radix4", self.b_bits, values=self.b_ints)

    @property
    def most_beat_cycles(self) -> int:
        """Pairs of terms that two operands can have."""
        return int(self.a_terms.counts.max()) * int(self.b_terms.counts.max())

    @property
    def exponents(self) -> int:
        """Exponents that the product of two terms can have, from 0."""
        largest = (max(map(abs, ints)).bit_length() - 1 for ints in (self.a_ints, self.b_ints))
        unsigned = sum(min(ints) >= 0 for ints in (self.a_ints, self.b_ints))  # a term more than their bits
        return sum(largest) + unsigned + 1

    def lane_cycles(self, a: NDArray[np.integer] | None, b: NDArray[np.integer] | None) -> NDArray[np.int64]:
        """Return the cycles of beats, int64 [beats], from the codes of both sides [beats, lanes]."""
        from hwsim.pe._laconic_kernels import most_pairs

        assert a is not None and b is not None
        out = np.empty(len(a), np.int64)
        most_pairs(self.a_terms.counts[a], self.b_terms.counts[b], out)
        return out


@dataclass(frozen=True)
class Params(int_mac.Params):
    """Configure a `laconic`: the fields of `int_mac.Params`, `stages` 0."""

    unit: ClassVar[str] = NAME
    spec_kind: ClassVar[type[_dot.DotSpec]] = LaconicSpec


def params_for(weight: BlockSpec, activation: BlockSpec, lanes: int | None = None) -> Params | None:
    """Return the Params with which this unit takes such operands, or None when it cannot."""
    return int_mac.fitting(Params, weight, activation, lanes)


def actions(m: int, n: int, k: int, params: Params) -> dict[str, int]:
    """Return counts of the events of a GEMM (K without padding), as if every operand had the most terms."""
    spec = params.datapath
    assert isinstance(spec, LaconicSpec)
    counts = around_products(m, n, k, params)
    counts["pair_terms"] = m * n * k * spec.most_beat_cycles
    # the counts of a cycle, and the running sum
    counts["add_int32"] += m * n * beats_of(k, params) * spec.most_beat_cycles * spec.exponents
    return counts


__all__ = [
    "NAME", "Params", "actions", "beats", "cycles", "dots", "gemm", "operand_cycles", "paired_beats", "params_for",
    "reference",
]  # fmt: skip

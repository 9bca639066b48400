"""Products from bricks of 2 by 2 bits: the hardware of :mod:`hwsim.pe.bitfusion`."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Elaboratable, Module, Signal, Value

from hwsim.pe.bitfusion import SLICE_BITS, SPATIAL_BITS, BitFusionSpec, Params, fused_bits
from rtl.lib.adder_tree import Tree
from rtl.lib.select import select
from rtl.lib.serial_dot import ElasticSerialDot, SerialSteps


class Slices(NamedTuple):
    """Some bits of an operand, and whether the highest is negative."""

    bits: Value
    negative: Value

    def halves(self) -> tuple[Slices, Slices]:
        """Return the high and the low half."""
        half = len(self.bits) // 2
        return Slices(self.bits[half:], self.negative), Slices(self.bits[:half], Const(0, 1))

    def integer(self) -> Value:
        """Return them as an integer, one bit wider."""
        return Cat(self.bits, self.bits[-1] & self.negative).as_signed()


def fused(a: Slices, b: Slices) -> Value:
    """Return the exact product of two operands of 2, 4 or 8 bits, from those of their halves down to bricks."""
    wider = max(len(a.bits), len(b.bits))
    if wider == SLICE_BITS:
        return a.integer() * b.integer()
    half = wider // 2
    if len(a.bits) == wider:
        high, low = (fused(part, b) for part in a.halves())
    else:
        high, low = (fused(a, part) for part in b.halves())
    return (high << half) + low


class BitFusionSteps(SerialSteps):
    """Fused products of the halves in turn, high ones first; one step where no operand has halves."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self.spec
        assert isinstance(spec, BitFusionSpec)
        step = self.counter(m, spec.most_beat_cycles)
        # halves of B in turn for each of A
        order = [(a, b) for a in range(spec.a_steps) for b in range(spec.b_steps)]
        terms = []
        for lane in range(spec.lanes):
            a = self._part(m, "a", lane, spec.a_bits, [place for place, _ in order], step)
            b = self._part(m, "b", lane, spec.b_bits, [place for _, place in order], step)
            terms.append(fused(a, b))
        tree = Tree(m, spec.adder_tree, self.sum_shape, "fused").total(terms)
        low = [spec.a_steps - 1 + spec.b_steps - 1 - a - b for a, b in order]  # halves below those in turn
        shifted = select([tree << SPATIAL_BITS[-1] * places for places in low], step)
        m.d.comb += self.total.eq(self.running(m) + shifted if len(order) > 1 else tree)
        return m

    def _part(self, m: Module, side: str, lane: int, bits: int, places: list[int], step: Value) -> Slices:
        """Return the slices of an operand that are in turn, given which part each step takes, the highest being 0."""
        word = self.side(side)[lane]
        width, parts = fused_bits(bits), max(places) + 1
        wide = Signal(width * parts, name=f"{side}_wide_{lane}")
        m.d.comb += wide.eq(word)
        cut = [wide[width * part : width * (part + 1)] for part in reversed(range(parts))]
        signed = word.shape().signed
        now, negative = Signal(width, name=f"{side}_now_{lane}"), Signal(name=f"{side}_signed_{lane}")
        m.d.comb += [
            now.eq(select([cut[place] for place in places], step)),
            negative.eq(select([Const(int(signed and place == 0), 1) for place in places], step)),
        ]
        return Slices(now, negative)


class BitFusion(ElasticSerialDot):
    """Integer products from fused bricks.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and `rtl.lib.serial_dot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, BitFusionSteps)


COMPONENT = BitFusion

"""Set bits of weights, one of each place a cycle: the hardware of :mod:`hwsim.pe.bitlet`."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal

from hwsim.pe.bitlet import BitletSpec, Params
from rtl.lib.adder_tree import Tree
from rtl.lib.lowest_one import lowest_one
from rtl.lib.serial_dot import ElasticSerialDot, SerialSteps
from rtl.lib.shapes import shape_of
from rtl.lib.sign_magnitude import magnitude_of, under_sign


class BitletSteps(SerialSteps):
    """For each place of the magnitudes the first lane with a one left, and its activation at that place."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self.spec
        assert isinstance(spec, BitletSpec)
        bits, top = spec.magnitude_bits, max(map(abs, spec.a_ints))
        new = [Signal(bits, name=f"new_mask_{lane}") for lane in range(spec.lanes)]
        signed = [Signal(shape_of(-top, top), name=f"signed_{lane}") for lane in range(spec.lanes)]
        m.d.comb += [mask.eq(magnitude_of(b)) for mask, b in zip(new, self.side("new_b"), strict=True)]
        m.d.comb += [
            word.eq(under_sign(a, b)) for word, a, b in zip(signed, self.side("a"), self.side("b"), strict=True)
        ]
        terms, rests = [], []
        for place in range(bits):
            left, after = (Signal(spec.lanes, name=f"{name}_{place}") for name in ("left", "after"))
            first = lowest_one(m, left, f"first_{place}")
            m.d.comb += after.eq(left & ~first)
            rests.append(after)
            with m.If(self.en):
                m.d.sync += left.eq(Mux(self.load, Cat(mask[place] for mask in new), after))
            chosen = Signal(shape_of(-top, top), name=f"chosen_{place}")
            m.d.comb += chosen.eq(reduce(or_, [Mux(bit, word, 0) for bit, word in zip(first, signed, strict=True)]))
            terms.append(chosen << place)
        tree = Tree(m, spec.adder_tree, self.sum_shape, "interleaved").total(terms)
        m.d.comb += [
            self.done.eq(~reduce(or_, rests).any()),
            self.total.eq(self.running(m) + tree),
        ]
        return m


class Bitlet(ElasticSerialDot):
    """Activations chosen, a place at a time, by the set bits of weights.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and `rtl.lib.serial_dot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, BitletSteps)


COMPONENT = Bitlet

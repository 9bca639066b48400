"""Columns of weights' magnitudes, those of zeros skipped: the hardware of :mod:`hwsim.pe.bitwave`."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Elaboratable, Module, Mux, Signal

from hwsim.pe.bitwave import BitwaveSpec, Params
from rtl.lib.adder_tree import Tree
from rtl.lib.lowest_one import lowest_one, place_of
from rtl.lib.serial_dot import ElasticSerialDot, SerialSteps
from rtl.lib.shapes import shape_of
from rtl.lib.sign_magnitude import magnitude_of, under_sign


class BitwaveSteps(SerialSteps):
    """The lowest column left that has a one; its bits gate the activations into one adder tree."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self.spec
        assert isinstance(spec, BitwaveSpec)
        bits, most = spec.magnitude_bits, spec.lanes * max(map(abs, spec.a_ints))
        masks = {side: [Signal(bits, name=f"{side}_mask_{n}") for n in range(spec.lanes)] for side in ("b", "new_b")}
        for side, signals in masks.items():
            m.d.comb += [mask.eq(magnitude_of(b)) for mask, b in zip(signals, self.side(side), strict=True)]
        left, after = Signal(bits), Signal(bits)
        column = lowest_one(m, left, "column")
        m.d.comb += after.eq(left & ~column)
        with m.If(self.en):
            m.d.sync += left.eq(Mux(self.load, reduce(or_, masks["new_b"]), after))
        terms = [
            Mux((mask & column).any(), under_sign(a, b), 0)
            for mask, a, b in zip(masks["b"], self.side("a"), self.side("b"), strict=True)
        ]
        tree = Tree(m, spec.adder_tree, shape_of(-most, most), "gated").total(terms)
        m.d.comb += [
            self.done.eq(~after.any()),
            self.total.eq(self.running(m) + (tree << place_of(column))),
        ]
        return m


class Bitwave(ElasticSerialDot):
    """Activations added up by the columns of the weights' magnitudes that are not zero.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and `rtl.lib.serial_dot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, BitwaveSteps)


COMPONENT = Bitwave

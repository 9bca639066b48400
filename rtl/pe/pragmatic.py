"""Set bits of activations, one a lane and cycle: the hardware of :mod:`hwsim.pe.pragmatic`."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value

from hwsim.pe.pragmatic import Params, PragmaticSpec
from rtl.lib.adder_tree import Tree
from rtl.lib.lowest_one import lowest_one, place_of
from rtl.lib.serial_dot import ElasticSerialDot, SerialSteps


class PragmaticSteps(SerialSteps):
    """The lowest set bit of each lane near enough to the lowest of all; a shift before the tree, one behind."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self.spec
        assert isinstance(spec, PragmaticSpec)
        bits, reach = spec.magnitude_bits, min(1 << spec.first_stage_bits, spec.magnitude_bits)
        masks = [Signal(bits, name=f"mask_{lane}") for lane in range(spec.lanes)]
        common = lowest_one(m, reduce(or_, masks), "common")
        window = Signal(bits)
        m.d.comb += window.eq(reduce(or_, [common << place for place in range(reach)]))
        terms, left = [], []
        for lane, mask in enumerate(masks):
            own = Signal(bits, name=f"own_{lane}")
            m.d.comb += own.eq(lowest_one(m, mask, f"lowest_{lane}") & window)
            after = Signal(bits, name=f"left_{lane}")
            m.d.comb += after.eq(mask & ~own)
            left.append(after)
            with m.If(self.en):
                new = self.side("new_a")[lane]
                m.d.sync += mask.eq(Mux(self.load, Mux(new < 0, -new, new), after))
            terms.append(self._shifted(m, lane, own, common, reach))
        tree = Tree(m, spec.adder_tree, self.sum_shape, "shifted").total(terms)
        m.d.comb += [
            self.done.eq(~reduce(or_, left).any()),
            self.total.eq(self.running(m) + (tree << place_of(common))),
        ]
        return m

    def _shifted(self, m: Module, lane: int, own: Value, common: Value, reach: int) -> Value:
        """Return the lane's weight under the activation's sign, shifted by how far its bit is above the common one."""
        a, b = self.side("a")[lane], self.side("b")[lane]
        signed = Mux(a < 0, -b, b)
        found: list[Value] = []
        for place in range(reach):
            here = Signal(name=f"here_{lane}_{place}")
            m.d.comb += here.eq((own & (common << place)).any())
            found.append(Mux(here, signed << place, 0))
        return reduce(or_, found)


class Pragmatic(ElasticSerialDot):
    """Integer weights shifted by the set bits of activations.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and `rtl.lib.serial_dot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, PragmaticSteps)


COMPONENT = Pragmatic

"""Popcounts of planes of bits: the hardware of :mod:`hwsim.pe.bitplane`."""

from __future__ import annotations

from amaranth.hdl import Const, Elaboratable, Module, Signal, Value

from hwsim.pe.bitplane import BitPlaneSpec, Params
from rtl.lib.adder_tree import Tree
from rtl.lib.bit_planes import plane, popcount
from rtl.lib.select import select
from rtl.lib.serial_dot import ElasticSerialDot, SerialSteps


class BitPlaneSteps(SerialSteps):
    """Some pairs of planes a step: those that agree are counted, the counts shifted to their places."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self.spec
        assert isinstance(spec, BitPlaneSpec)
        step, each = self.counter(m, spec.most_beat_cycles), spec.pairs_at_once
        recovered = [self._slot(m, spec, slot, spec.pairs[slot::each], step) for slot in range(each)]
        tree = Tree(m, spec.adder_tree, self.sum_shape, "recovered").total(recovered)
        m.d.comb += self.total.eq(self.running(m) + tree if spec.most_beat_cycles > 1 else tree)
        return m

    def _slot(self, m: Module, spec: BitPlaneSpec, slot: int, pairs: tuple[tuple[int, int], ...], step: Value) -> Value:
        """Return what one counter gives, which takes a pair a step; 0 in a last step that has none for it."""
        gates: list[Value] = [plane(self.side("a"), a) & plane(self.side("b"), b) for a, b in pairs]
        if len(pairs) < spec.most_beat_cycles:
            gates.append(Const(0, spec.lanes))
        agree = Signal(spec.lanes, name=f"agree_{slot}")
        m.d.comb += agree.eq(select(gates, step))
        count = popcount(m, spec.adder_tree, agree, f"count_{slot}")
        places: list[Value] = [(-count if self._negative(a, b) else count) << a + b for a, b in pairs]
        return select(places + places[-1:] * (len(gates) - len(pairs)), step)

    def _negative(self, a: int, b: int) -> bool:
        """Tell whether one plane of a pair, and not both, is negative."""
        spec = self.spec
        a_top, b_top = min(spec.a_ints) < 0 and a == spec.a_bits - 1, min(spec.b_ints) < 0 and b == spec.b_bits - 1
        return a_top != b_top


class BitPlane(ElasticSerialDot):
    """Integer products from popcounts of planes of bits.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and `rtl.lib.serial_dot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, BitPlaneSteps)


COMPONENT = BitPlane

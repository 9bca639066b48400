"""Both operands bit-serial: the hardware of :mod:`hwsim.pe.loom`."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value

from hwsim.pe.loom import LoomSpec, Params
from rtl.lib.adder_tree import adder_tree
from rtl.lib.bit_planes import highest_in_turn, popcount
from rtl.lib.dot_spans import DotSpans, signal_of
from rtl.lib.serial_dot import ElasticSerialDot, SerialSteps


class LoomSteps(SerialSteps):
    """Bits of the activations go by for each bit of the weights; counts of ones go into two sums, one in the other."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self.spec
        assert isinstance(spec, LoomSpec)
        step = self.counter(m, spec.most_beat_cycles)
        passed = Signal(range(max(spec.activation_steps, 2)))  # of the activations' bits, in steps
        first, last = passed == 0, passed == spec.activation_steps - 1
        inner, outer = signal_of(DotSpans(spec).beat_a_sum, "inner"), Signal(self.sum_shape, name="outer")
        counted = Signal.like(inner, name="inner_after")
        signed = min(spec.b_ints) < 0
        m.d.comb += [
            counted.eq((Mux(first, 0, inner) << spec.bits_a_cycle) + self._counts(m, spec, first, last)),
            self.total.eq((outer << 1) + (Mux(step < spec.activation_steps, -counted, counted) if signed else counted)),
        ]
        with m.If(self.en):
            m.d.sync += [
                passed.eq(Mux(self.load | last, 0, passed + 1)),
                inner.eq(counted),
                outer.eq(Mux(self.load, 0, Mux(last, self.total, outer))),
            ]
        return m

    def _counts(self, m: Module, spec: LoomSpec, first: Value, last: Value) -> Value:
        """Return the sum of the products of a step, of `bits_a_cycle` bits of A and one of B."""
        taken, moving = spec.bits_a_cycle, {"en": self.en, "load": self.load}
        a_bits, b_bits = [], []
        for lane, (a, b) in enumerate(zip(self.side("new_a"), self.side("new_b"), strict=True)):
            width = spec.activation_steps * taken
            a_bits.append(highest_in_turn(m, **moving, new=a, width=width, name=f"a_left_{lane}", take=taken))
            b_bits.append(highest_in_turn(m, **moving, new=b, width=spec.b_bits, name=f"b_left_{lane}", move=last))
        counts: list[Value] = []
        for place in range(taken):
            ones = Cat(a[place] & b for a, b in zip(a_bits, b_bits, strict=True))
            count = popcount(m, spec.adder_tree, ones, f"ones_{place}")
            negative = first if place == taken - 1 and min(spec.a_ints) < 0 else Const(0)
            counts.append(Mux(negative, -count, count) << place)
        return adder_tree(counts)


class Loom(ElasticSerialDot):
    """Integer products from products of single bits, counted.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and `rtl.lib.serial_dot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, LoomSteps)


COMPONENT = Loom

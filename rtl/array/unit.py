"""One unit of an array: a core and its links to the neighbours."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe._dot import DotSpec
from rtl.lib.beat import side_layout
from rtl.lib.block_dot import BlockDot


class ArrayUnit(wiring.Component):
    """Core, forwarding registers, and a place in the column's chain of results.

    Parameters
    ----------
    spec : DotSpec
        Datapath of the core.

    Ports
    -----
    a, b : In(side_layout(spec, ...))
        Operands of this cycle.
    valid, last : In(1)
        There are operands; they are the last of the output tile.
    a_right, b_down, valid_right, last_right : Out
        The same, one cycle later, for the neighbours.
    shift : In(1)
        Take the result of the unit below.
    below : In(32)
    result : Out(32)
        Kept from the end of an output tile until it is shifted away.
    done : Out(1)
        The core has its result in this cycle; ``result`` follows in the next.

    Hardware
    --------
    Operands of cycle t with ``last`` give ``done`` in cycle t + ``spec.latency``. The core always moves.
    """

    def __init__(self, spec: DotSpec) -> None:
        self.spec = spec
        a, b = side_layout(spec, "a"), side_layout(spec, "b")
        super().__init__(
            {
                "a": In(a),
                "b": In(b),
                "valid": In(1),
                "last": In(1),
                "a_right": Out(a),
                "b_down": Out(b),
                "valid_right": Out(1),
                "last_right": Out(1),
                "shift": In(1),
                "below": In(32),
                "result": Out(32),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.core = core = BlockDot(self.spec)
        m.d.comb += [
            core.en.eq(1),
            core.valid.eq(self.valid),
            core.beat.last.eq(self.last),
            self.done.eq(core.out_valid),
        ]
        for side in (self.a, self.b):
            m.d.comb += [core.beat[name].eq(side[name]) for name, _ in side.shape()]
        m.d.sync += [
            self.a_right.eq(self.a),
            self.b_down.eq(self.b),
            self.valid_right.eq(self.valid),
            self.last_right.eq(self.last),
        ]
        with m.If(core.out_valid):
            m.d.sync += self.result.eq(core.y)
        with m.Elif(self.shift):
            m.d.sync += self.result.eq(self.below)
        return m

"""Multiply by an integer a bit a cycle, by shift and add."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class SerialScale(wiring.Component):
    """Multiply an unsigned integer by an unsigned scale, the scale's highest bit first.

    Parameters
    ----------
    width : int
        Bits of the integer.
    scale_bits : int
        Bits of the scale: cycles of a product.

    Ports
    -----
    en : In(1)
        Moves every register.
    start : In(1)
        ``value`` and ``scale`` count in this cycle, the first of ``scale_bits``; a start before the product is done
        throws it away.
    value : In(width)
    scale : In(scale_bits)
    product : Out(width + scale_bits)
    done : Out(1)
        ``product`` is ``value * scale`` in this cycle: ``scale_bits`` enabled cycles after the start.

    Hardware
    --------
    One adder of the product's width; registers for the value, what is left of the scale, and the product.
    """

    def __init__(self, width: int, scale_bits: int) -> None:
        self.width, self.scale_bits = width, scale_bits
        super().__init__(
            {
                "en": In(1),
                "start": In(1),
                "value": In(width),
                "scale": In(scale_bits),
                "product": Out(width + scale_bits),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        value, rest = Signal(self.width), Signal(self.scale_bits)
        steps = Signal(self.scale_bits)  # a one walks up: its place is the number of cycles since the start
        value_now, scale_now = Mux(self.start, self.value, value), Mux(self.start, self.scale, rest)
        product_now = Mux(self.start, 0, self.product)
        with m.If(self.en):
            m.d.sync += [
                value.eq(value_now),
                rest.eq(scale_now << 1),
                self.product.eq(Cat(Const(0, 1), product_now) + Mux(scale_now[-1], value_now, 0)),
                steps.eq(Cat(self.start, Mux(self.start, 0, steps))),
            ]
        m.d.comb += self.done.eq(steps[-1])
        return m

"""Write a weight as a list of signed powers of two, one a cycle: the term encoder of BitMoD."""

from __future__ import annotations

from amaranth.hdl import Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe.bitmod import Datapath
from rtl.lib.booth import booth_digit, booth_windows
from rtl.lib.normalise import Normalise
from rtl.lib.select import select

WINDOW_BITS = 4
"""Bits in which a leading one is looked for."""


class TermEncoder(wiring.Component):
    """Give term number ``term`` of a weight code.

    Parameters
    ----------
    spec : Datapath
        Of :mod:`hwsim.pe.bitmod`; names the weights.

    Ports
    -----
    code : In(spec.b_bits)
    select : In(2)
        Special value of a float; only there for floats.
    term : In(range(spec.terms))
    sign, man : Out(1)
    exp : Out(range(spec.max_exp + 1))
        The term is worth ``(-1)**sign * 2**exp * man * 2**bsig``; bsig is that of `spec.tables`, and the same for all
        weights. All fields are 0 where man is.
    is_zero, is_negative : Out(1)
        Of the weight as a whole.

    Hardware
    --------
    Combinational. Integers: radix-4 Booth strings, three bits of the code a term, the highest first. Floats: sign and
    fixed point I3 I2 I1 I0 . F0, the special value in the place of the code of "-0"; a leading-one detector over
    I3..I0, and one over I2..F0 of what that leaves.
    """

    def __init__(self, spec: Datapath) -> None:
        self.spec = spec
        ports = {"code": In(spec.b_bits), "term": In(range(spec.terms))}
        if spec.has_selector:
            ports["select"] = In(range(len(spec.tables)))
        outputs = {"sign": Out(1), "man": Out(1), "exp": Out(range(spec.max_exp + 1))}
        super().__init__(ports | outputs | {"is_zero": Out(1), "is_negative": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        if self.spec.has_selector:
            self._leading_ones(m)
        else:
            self._booth(m)
        return m

    def _booth(self, m: Module) -> None:
        window = Signal(3)
        digit = booth_digit(window)
        m.d.comb += [
            window.eq(select(booth_windows(self.code.as_signed())[::-1], self.term)),
            self.man.eq(digit.one),
            self.exp.eq(digit.two),
            self.sign.eq(digit.sign),
            self.is_zero.eq(~self.code.any()),
            self.is_negative.eq(self.code[-1]),
        ]

    def _leading_ones(self, m: Module) -> None:
        spec = self.spec
        half = 1 << (spec.b_bits - 1)
        values = [[int(value) for value in table.values] for table in spec.tables]
        magnitude, negative = Signal(WINDOW_BITS + 1), Signal()
        is_special = self.code == half  # the code of "-0"
        ordinary = select([Const(value, WINDOW_BITS + 1) for value in values[0][:half]], self.code[:-1])
        registers = select([Const(abs(table[half]), WINDOW_BITS + 1) for table in values], self.select)
        signs = select([Const(int(table[half] < 0), 1) for table in values], self.select)
        m.d.comb += [
            magnitude.eq(Mux(is_special, registers, ordinary)),
            negative.eq(Mux(is_special, signs, self.code[-1])),
        ]
        first, first_exp = self._detect(m, magnitude[1:], "first")
        rest = magnitude & ~(first << (first_exp + 1))
        second, second_exp = self._detect(m, rest[:WINDOW_BITS], "second")
        m.d.comb += [
            self.man.eq(Mux(self.term, second, first)),
            self.exp.eq(Mux(self.term, second_exp, first_exp)),
            self.sign.eq(negative & self.man),
            self.is_zero.eq(~magnitude.any()),
            self.is_negative.eq(negative),
        ]

    def _detect(self, m: Module, window: Value, name: str) -> tuple[Value, Signal]:
        """Return whether there is a one among four bits, and the place of the highest."""
        m.submodules[name] = leading = Normalise(WINDOW_BITS)
        place = Signal(range(WINDOW_BITS), name=f"{name}_place")
        found = leading.normalised[-1]
        m.d.comb += [leading.value.eq(window), place.eq(Mux(found, WINDOW_BITS - 1 - leading.count, 0))]
        return found, place

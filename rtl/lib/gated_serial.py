"""One operand bit by bit, the other whole: a bit gates a word."""

from __future__ import annotations

from typing import ClassVar, Literal

from amaranth.hdl import Elaboratable, Module, Mux

from rtl.lib.adder_tree import Tree
from rtl.lib.bit_planes import highest_in_turn
from rtl.lib.serial_dot import SerialSteps


class GatedSteps(SerialSteps):
    """One bit of every element of the serial side a step, the sign's first: it gates the others into one adder tree."""

    serial: ClassVar[Literal["a", "b"]]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec, serial, whole = self.spec, self.serial, "b" if self.serial == "a" else "a"
        bits, ints = (spec.a_bits, spec.a_ints) if serial == "a" else (spec.b_bits, spec.b_ints)
        step, running = self.counter(m, bits), self.running(m)
        terms = []
        for lane, (new, word) in enumerate(zip(self.side(f"new_{serial}"), self.side(whole), strict=True)):
            gate = highest_in_turn(m, en=self.en, load=self.load, new=new, width=bits, name=f"left_{lane}")
            terms.append(Mux(gate, word, 0))
        tree = Tree(m, spec.adder_tree, self.sum_shape, "gated").total(terms)
        m.d.comb += self.total.eq((running << 1) + (Mux(step == 0, -tree, tree) if min(ints) < 0 else tree))
        return m

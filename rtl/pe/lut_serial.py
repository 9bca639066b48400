"""Bit-serial weights that choose sums of activations: the hardware of :mod:`hwsim.pe.lut_serial`."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.hdl import signed as signed_shape

from hwsim.pe.lut_serial import LutSpec, Params
from rtl.lib.adder_tree import Tree
from rtl.lib.bit_planes import highest_in_turn
from rtl.lib.dot_spans import DotSpans
from rtl.lib.select import select
from rtl.lib.serial_dot import ElasticSerialDot, SerialSteps
from rtl.lib.shapes import shape_of


def signed_sums(m: Module, terms: Sequence[Value], low: int, high: int, name: str) -> list[Value]:
    """Return the sums of integers of a span under signs, the last one positive: half a table.

    Bit i of an entry's number is set where term i is positive, for all terms but the last. An entry comes from one of
    the table without the last term, or of its mirror image: ``2**n - 2`` additions in all.
    """
    *others, last = terms
    if not others:
        return [last]
    half = signed_sums(m, others, low, high, f"{name}_")
    most = len(terms) * max(abs(low), abs(high))
    negated = [last - entry for entry in reversed(half)]  # the next last term negative: turn all signs over
    sums = []
    for number, entry in enumerate([*negated, *(last + entry for entry in half)]):
        found = Signal(shape_of(-most, most), name=f"{name}_{number}")
        m.d.comb += found.eq(entry)
        sums.append(found)
    return sums


class LutSteps(SerialSteps):
    """A table of each group, made as the beat is taken; a bit of every weight a step reads it."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self.spec
        assert isinstance(spec, LutSpec)
        self.counter(m, spec.b_bits)
        signed = min(spec.b_ints) < 0
        entries, ends, first = [], [], 0
        for number, size in enumerate(spec.groups):
            lanes = range(first, first + size)
            table = self._table(m, number, [self.side("new_a")[lane] for lane in lanes])
            bits = [self._bit(m, lane, signed) for lane in lanes]
            entries.append(self._read(m, number, table, bits))
            ends.append(table[-1])
            first += size
        a_sum = Tree(m, spec.adder_tree, shape_of(*DotSpans(spec).beat_a_sum), "a_sum").total(ends)
        # twice the total, in which steps may wrap: what comes out in the end fits
        doubled = signed_shape(self.sum_shape.width + 1)
        planes = Tree(m, spec.adder_tree, doubled, "planes").total(entries)
        before, after = Signal(doubled, name="before"), Signal(doubled, name="after")
        fresh = Signal(name="fresh")
        # 2**b sum(a), of unsigned weights, is what the sum of activations becomes that is there from the start
        start = 0 if signed else a_sum
        m.d.comb += after.eq((Mux(fresh, start, before) << 1) + planes)
        with m.If(self.en):
            m.d.sync += [fresh.eq(self.load), before.eq(after)]
        corrected = Signal(doubled, name="corrected")
        m.d.comb += [corrected.eq(after - a_sum), self.total.eq(corrected >> 1)]
        return m

    def _table(self, m: Module, number: int, new: list[Value]) -> list[Value]:
        """Return the registers of a group's table."""
        low, high = min(self.spec.a_ints), max(self.spec.a_ints)
        found: list[Value] = []
        for index, entry in enumerate(signed_sums(m, new, low, high, f"sums_{number}")):
            register = Signal(entry.shape(), name=f"table_{number}_{index}")
            with m.If(self.en & self.load):
                m.d.sync += register.eq(entry)
            found.append(register)
        return found

    def _bit(self, m: Module, lane: int, signed: bool) -> Value:
        """Return the bit in turn of a lane's weight, the first one turned over in two's complement."""
        new, bits = self.side("new_b")[lane], self.spec.b_bits
        word = Cat(new[:-1], ~new[-1]) if signed else new
        return highest_in_turn(m, en=self.en, load=self.load, new=word, width=bits, name=f"left_{lane}")

    def _read(self, m: Module, number: int, table: list[Value], bits: list[Value]) -> Value:
        """Return the sum of a group under the signs of its weights' bits."""
        *others, last = bits
        entry = Signal(table[0].shape(), name=f"entry_{number}")
        index = Cat(*[Mux(last, bit, ~bit) for bit in others])
        m.d.comb += entry.eq(select(table, index))
        return Mux(last, entry, -entry)


class LutSerial(ElasticSerialDot):
    """Bit-serial weights that look up sums of activations.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and `rtl.lib.serial_dot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, LutSteps)


COMPONENT = LutSerial

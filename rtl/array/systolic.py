"""Output-stationary systolic array of block-dot units."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe._dot import DotSpec
from rtl.array.edge_buffer import EdgeBuffer
from rtl.array.layout import array_layout
from rtl.array.unit import ArrayUnit

CYCLE_BITS = 32


class SystolicArray(wiring.Component):
    """Multiply matrices on ``rows`` x ``cols`` units, each of which keeps one result of an output tile.

    Parameters
    ----------
    params : Params of a unit whose ``datapath`` is a DotSpec
    rows, cols : int
        Units; row r works on row r of A's tile, column c on row c of B's tile.
    buffer_beats : int
        Depth of one bank of the operand buffers: the longest K tile.

    Ports
    -----
    i : In(stream.Signature(array_layout(...)))
        One beat a step of k. A K tile that reaches ``buffer_beats`` ends there, flagged or not. Rows and columns that a
        ragged tile leaves unused take zero codes with a scale code that is a number.
    o : Out(stream.Signature(data.ArrayLayout(32, cols)))
        FP32 bits of one row of the output tile, row 0 first, ``rows`` transfers an output tile.
    cycles : Out(32)
        Cycles from the first beat taken since reset to the last row of results taken so far, both counted.

    Exactness
    ---------
    Each result equals the unit's, bit for bit.

    Hardware
    --------
    Beats enter one of two banks of the edge buffers while the other streams into the array; row r and column c are
    delayed by r and c cycles, and units pass operands on to the right and down, one register each. K tiles continue the
    same sums. When the far corner has its result, each column shifts its results out at the top. The next output tile
    streams only after the last row has been taken. Without stalls on either side the cycles are those of
    :func:`hwsim.arch.systolic_timing.os_cycles`; that module states the rule as a recurrence.
    """

    def __init__(self, params: Any, rows: int, cols: int, buffer_beats: int) -> None:
        for name, value in {"rows": rows, "cols": cols, "buffer_beats": buffer_beats}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        self.params, self.rows, self.cols, self.buffer_beats = params, rows, cols, buffer_beats
        self.spec: DotSpec = params.datapath
        super().__init__(
            {
                "i": In(stream.Signature(array_layout(self.spec, rows, cols))),
                "o": Out(stream.Signature(data.ArrayLayout(32, cols))),
                "cycles": Out(CYCLE_BITS),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.edge = edge = EdgeBuffer(self.spec, self.rows, self.cols, self.buffer_beats)
        wiring.connect(m, wiring.flipped(self.i), edge.i)
        units = [[ArrayUnit(self.spec) for _ in range(self.cols)] for _ in range(self.rows)]
        for row, line in enumerate(units):
            for col, unit in enumerate(line):
                m.submodules[f"unit_{row}_{col}"] = unit
        self._feed(m, edge, units)
        self._drain(m, edge, units)
        self._count(m)
        return m

    def _feed(self, m: Module, edge: EdgeBuffer, units: list[list[ArrayUnit]]) -> None:
        """Skew the buffers' steps into the first column and row, and link the units."""
        for row, line in enumerate(units):
            first = line[0]
            m.d.comb += [
                first.a.eq(_delay(m, edge.rows[row], row, f"row_{row}")),
                first.valid.eq(_delay(m, edge.valid, row, f"valid_{row}")),
                first.last.eq(_delay(m, edge.last, row, f"last_{row}")),
            ]
            for left, right in pairwise(line):
                m.d.comb += [
                    right.a.eq(left.a_right),
                    right.valid.eq(left.valid_right),
                    right.last.eq(left.last_right),
                ]
        for col in range(self.cols):
            m.d.comb += units[0][col].b.eq(_delay(m, edge.cols[col], col, f"col_{col}"))
            for upper, lower in pairwise(units):
                m.d.comb += lower[col].b.eq(upper[col].b_down)

    def _drain(self, m: Module, edge: EdgeBuffer, units: list[list[ArrayUnit]]) -> None:
        """Shift the results out at the top when the far corner has its own; hold the buffers until that is over."""
        hold, draining = Signal(), Signal()
        rows_out = Signal(range(max(self.rows, 2)))
        taken = Signal()
        m.d.comb += [
            edge.hold.eq(hold),
            self.o.valid.eq(draining),
            taken.eq(draining & self.o.ready),
            self.o.payload.eq(Cat(unit.result for unit in units[0])),
        ]
        with m.If(edge.last_issued):
            m.d.sync += hold.eq(1)
        with m.If(units[-1][-1].done):
            m.d.sync += draining.eq(1)
        with m.If(taken):
            m.d.sync += rows_out.eq(rows_out + 1)
            with m.If(rows_out == self.rows - 1):
                m.d.sync += [rows_out.eq(0), draining.eq(0), hold.eq(0)]
        for upper, lower in zip(units, [*units[1:], None], strict=True):
            for col, unit in enumerate(upper):
                m.d.comb += unit.shift.eq(taken)
                if lower is not None:
                    m.d.comb += unit.below.eq(lower[col].result)

    def _count(self, m: Module) -> None:
        """Count cycles from the first beat taken; show the count at the last row taken."""
        running = Signal()
        count = Signal(CYCLE_BITS)
        now = Signal(CYCLE_BITS)  # of this cycle, counted in
        m.d.comb += now.eq(count + 1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += running.eq(1)
        with m.If(running | (self.i.valid & self.i.ready)):
            m.d.sync += count.eq(now)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += self.cycles.eq(now)


def _delay(m: Module, value: Value, cycles: int, name: str) -> Value:
    """Return ``value`` as it was some cycles ago."""
    for cycle in range(cycles):
        later = Signal.like(value, name=f"{name}_delay_{cycle + 1}")
        m.d.sync += later.eq(value)
        value = later
    return value

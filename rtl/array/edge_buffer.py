"""Operand buffers at the edges of an array, and the sequence in which they stream."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwsim.pe._dot import DotSpec
from rtl.array.layout import array_layout


class EdgeBuffer(wiring.Component):
    """Two banks of operands a side: K tiles load into one while the other streams.

    Parameters
    ----------
    spec : DotSpec
        Datapath of the array's units.
    rows, cols, buffer_beats : int
        As for the array.

    Ports
    -----
    i : In(stream.Signature(array_layout(...)))
        Operands and flags; ready while there is a free bank.
    hold : In(1)
        Do not stream.
    rows : Out(data.ArrayLayout(side a, rows))
    cols : Out(data.ArrayLayout(side b, cols))
    valid, last : Out(1)
        One step of k, all rows and columns at once; it is the last of the output tile.
    last_issued : Out(1)
        An output tile's last step leaves in the next cycle: ``hold`` must follow in the next cycle, and stays up to
        where the next output tile may stream.

    Hardware
    --------
    One beat a cycle in and one out. A tile whose last beat is taken in cycle t can stream from cycle t + 1 on; a step
    appears one cycle after its address. A bank whose last address is read in cycle t can load from cycle t + 1 on.
    """

    def __init__(self, spec: DotSpec, rows: int, cols: int, buffer_beats: int) -> None:
        self.buffer_beats = buffer_beats
        layout = array_layout(spec, rows, cols)
        super().__init__(
            {
                "i": In(stream.Signature(layout)),
                "hold": In(1),
                "rows": Out(layout["rows"].shape),
                "cols": Out(layout["cols"].shape),
                "valid": Out(1),
                "last": Out(1),
                "last_issued": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        payload = self.i.payload
        full, final = Signal(2), Signal(2)  # bit a bank: holds a tile; its tile ends an output tile
        last_index = Signal(data.ArrayLayout(range(max(self.buffer_beats, 2)), 2))

        # fill
        fill = _Position(m, "fill", self.buffer_beats)
        taken = self.i.valid & self.i.ready
        tile_end = payload.tile_last | payload.last | (fill.index == self.buffer_beats - 1)
        fill.advance(m, taken, tile_end)
        m.d.comb += self.i.ready.eq(~full.bit_select(fill.bank, 1))
        with m.If(taken & tile_end):
            m.d.sync += [
                full.bit_select(fill.bank, 1).eq(1),
                final.bit_select(fill.bank, 1).eq(payload.last),
                last_index[fill.bank].eq(fill.index),
            ]

        # stream: never from the bank that is being filled, since that one is not full
        read = _Position(m, "read", self.buffer_beats)
        issue, read_end = Signal(), Signal()
        m.d.comb += [
            issue.eq(full.bit_select(read.bank, 1) & ~self.hold),
            read_end.eq(read.index == last_index[read.bank]),
            self.last_issued.eq(issue & read_end & final.bit_select(read.bank, 1)),
        ]
        read.advance(m, issue, read_end)
        with m.If(issue & read_end):
            m.d.sync += full.bit_select(read.bank, 1).eq(0)
        m.d.sync += [self.valid.eq(issue), self.last.eq(self.last_issued)]

        for side, out in (("rows", self.rows), ("cols", self.cols)):
            self._memory(m, side, out, taken, fill.address, read.address)
        return m

    def _memory(self, m: Module, side: str, out: Value, write: Value, fill: Value, read: Value) -> None:
        """Add one side's memory, both banks in it."""
        shape = self.i.payload[side].shape()
        m.submodules[f"{side}_memory"] = memory = Memory(shape=shape, depth=2 * self.buffer_beats, init=[])
        write_port, read_port = memory.write_port(), memory.read_port()
        m.d.comb += [
            write_port.addr.eq(fill),
            write_port.data.eq(self.i.payload[side]),
            write_port.en.eq(write),
            read_port.addr.eq(read),
            read_port.en.eq(1),
            out.eq(read_port.data),
        ]


class _Position:
    """A bank, and a beat in it."""

    def __init__(self, m: Module, name: str, buffer_beats: int) -> None:
        self.bank = Signal(name=f"{name}_bank")
        self.index = Signal(range(max(buffer_beats, 2)), name=f"{name}_index")
        self.address = Signal(range(2 * buffer_beats), name=f"{name}_address")
        m.d.comb += self.address.eq(Mux(self.bank, buffer_beats, 0) + self.index)

    def advance(self, m: Module, step: Value, end: Value) -> None:
        """Go to the next beat, at the end of a tile to the other bank."""
        with m.If(step):
            m.d.sync += [self.index.eq(Mux(end, 0, self.index + 1)), self.bank.eq(self.bank ^ end)]

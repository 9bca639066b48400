"""Evaluate combinational parts in Icarus: some ten thousand vectors a second."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from amaranth.hdl import Shape
from amaranth.lib import wiring

from rtl.sim.verilog import TOP, write_verilog

_BENCH = """
module bench;
    reg [{width_in}-1:0] vectors [0:{count}-1];
    reg [{width_in}-1:0] now;
    wire [{width_out}-1:0] found;
    integer index, file;
    {top} part ({ports});
    initial begin
        $readmemh("in.hex", vectors);
        file = $fopen("out.hex", "w");
        for (index = 0; index < {count}; index = index + 1) begin
            now = vectors[index];
            #1 $fdisplay(file, "%h", found);
        end
    end
endmodule
"""


def evaluate(part: wiring.Component, vectors: Sequence[dict[str, int]]) -> list[dict[str, int]]:
    """Return the outputs of a combinational part for each vector of inputs; inputs that a vector leaves out are 0."""
    ports = [(path[0], member) for path, member, _ in part.signature.flatten(part)]
    inputs = [(name, Shape.cast(member.shape)) for name, member in ports if member.flow == wiring.In]
    outputs = [(name, Shape.cast(member.shape)) for name, member in ports if member.flow == wiring.Out]
    widths = [sum(shape.width for _, shape in side) for side in (inputs, outputs)]
    wires = [*_slices("now", inputs), *_slices("found", outputs)]
    verilog = write_verilog(part)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.hex").write_text("\n".join(f"{_pack(vector, inputs):x}" for vector in vectors))
        (folder / "bench.v").write_text(
            _BENCH.format(width_in=widths[0], width_out=widths[1], count=len(vectors), top=TOP, ports=", ".join(wires))
        )
        for command in (["iverilog", "-g2012", "-o", "bench.vvp", "bench.v", str(verilog)], ["vvp", "-n", "bench.vvp"]):
            subprocess.run([str(shutil.which(command[0])), *command[1:]], cwd=folder, check=True, capture_output=True)
        lines = (folder / "out.hex").read_text().split()
    assert len(lines) == len(vectors)
    return [_unpack(int(line, 16), outputs) for line in lines]


def _slices(word: str, fields: list[tuple[str, Shape]]) -> list[str]:
    """Return port connections of fields that lie in a word, the first one at its low end."""
    found, low = [], 0
    for name, shape in fields:
        found.append(f".\\{name} ({word}[{low + shape.width - 1}:{low}])")
        low += shape.width
    return found


def _pack(vector: dict[str, int], fields: list[tuple[str, Shape]]) -> int:
    word, low = 0, 0
    assert set(vector) <= {name for name, _ in fields}
    for name, shape in fields:
        number = vector.get(name, 0)
        minimum = -(1 << (shape.width - 1)) if shape.signed else 0
        assert minimum <= number < minimum + (1 << shape.width), f"{name} = {number} does not fit {shape}"
        word |= (number & ((1 << shape.width) - 1)) << low
        low += shape.width
    return word


def _unpack(word: int, fields: list[tuple[str, Shape]]) -> dict[str, int]:
    found = {}
    for name, shape in fields:
        number = word & ((1 << shape.width) - 1)
        found[name] = number - (1 << shape.width) if shape.signed and number >> (shape.width - 1) else number
        word >>= shape.width
    return found

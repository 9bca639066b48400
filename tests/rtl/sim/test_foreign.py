"""Foreign modules: every part of a map in use on a sound unit, and a message that names the port for every bad map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwsim.pe import unit
from hwsim.yaml_file import ConfigError
from rtl.pe import component
from rtl.sim.foreign import joined, read_foreign
from rtl.sim.foreign_map import read_map
from rtl.sim.foreign_run import ForeignBench
from rtl.sim.payload import join_beats
from rtl.sim.run import PASS_NAMES
from rtl.sim.simulators import SimulatorError
from rtl.sim.verilog import write_verilog
from tests.rtl import oracle
from tests.rtl.operands import PROFILES, draw_dot

pytestmark = pytest.mark.rtl

PARAMS = unit("mx_dot").Params(lanes=4, block=8)
EXAMPLE = Path(__file__).parents[3] / "examples" / "check"

# One of our own units behind ports of every kind. BUG 1: a result that waits changes; 2: another NaN; 3: a result that
# is zero never comes.
WRAPPED = """
`include "core.vh"
module wrapped #(parameter BUG = 9, parameter W = 1) (
    input clk, input reset_n, input not_valid, output [1:0] status, input [3:0] a_0, input [3:0] a_1, input [3:0] a_2,
    input [3:0] a_3, input [8*W-1:0] b_high, input [7:0] b_low, input [23:0] side, input mode,
    output [35:0] y, output not_there, input take
);
    wire [31:0] bits;
    wire there, ready;
    reg waited;
    always @(posedge clk) waited <= there & ~take;
    // side: scale of b in bits 8:1, last in bit 0 (low), scale of a in bits 16:9 with another bit above, tied to 5
    `CORE core (
        .clk(clk), .rst(~reset_n), .i__valid(~not_valid & mode), .i__ready(ready), .o__ready(take),
        .i__payload({~side[0], side[8:1], side[16:9], b_low[7:4], b_low[3:0], b_high[7:4], b_high[3:0], a_3, a_2,
                     a_1, a_0}),
        .o__payload(bits), .o__valid(there));
    assign status = {ready, 1'b0};
    assign y = {bits, 4'b0} ^ ((BUG == 1 && waited) || (BUG == 2 && &bits[30:22]) ? 36'h10 : 36'h0);
    assign not_there = ~there | (BUG == 3 && bits == 0);
endmodule
"""
# b lies in two ports, its lanes 0 and 1 highest; a in one port a lane
MAP = """
clock: clk
reset: {port: reset_n, active: low}
input:
  valid: {port: not_valid, active: low}
  ready: {port: status, bit: 1}
  last: {port: side, bit: 0, active: low}
  fields:
    a: {port: "a_{lane}"}
    b: [{port: b_high, count: 2}, {port: b_low, first: 2}]
    a_scale: {port: side, low: 9}
    b_scale: {port: side, low: 1}
output:
  valid: {port: not_there, active: low}
  ready: {port: take}
  result: {port: y, low: 4}
constants: {mode: 1}
parameters: {BUG: 0}
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    core = write_verilog(component("mx_dot")(PARAMS)).read_text()
    assert "module top(" in core
    (folder / "core.vh").write_text("`define CORE our_core\n" + core.replace("module top(", "module our_core("))
    path = folder / "wrapped.v"
    path.write_text(WRAPPED.replace("input [23:0] side", "input [16:0] side"))
    return path


def draw(count: int) -> tuple[dict[str, Any], list[int]]:
    generator = np.random.default_rng(7)
    dots = [
        draw_dot(PARAMS.datapath, int(generator.integers(1, 7)), PROFILES[i % len(PROFILES)], generator)
        for i in range(count)
    ]
    dots[9]["a_scale"][-1] = 255  # NaN
    return join_beats(dots), [oracle.block_dot(dot, PARAMS.datapath) for dot in dots]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    return path


def collected(source: Path, map_file: Path, engine: str = "icarus") -> tuple[dict[str, Any], list[int]]:
    bench = ForeignBench.open(read_foreign([source], "wrapped", map_file, PARAMS.datapath), PARAMS.datapath, engine)
    beats, expected = draw(60)
    return {each.name: each for each in bench.collect(beats, 3)}, expected


def wrong(collected: Any, expected: list[int]) -> int:
    return int((collected.bits != np.array(expected, np.uint64)[collected.numbers]).sum())


@pytest.mark.parametrize("engine", ["icarus", "bulk"])
def test_every_key_of_a_map_on_a_sound_unit(source: Path, tmp_path: Path, engine: str) -> None:
    passes, expected = collected(source, written(tmp_path, MAP), engine)
    assert tuple(passes) == PASS_NAMES
    for each in passes.values():
        assert wrong(each, expected) == each.unsteady == 0
        assert each.came == each.due > 0
    assert passes[PASS_NAMES[0]].latency_cycles == PARAMS.datapath.latency
    assert (passes[PASS_NAMES[0]].numbers == np.arange(60)).all()
    assert passes[PASS_NAMES[1]].span_cycles > 1.5 * passes[PASS_NAMES[0]].span_cycles


def test_faults_of_waiting_of_nan_and_of_coming_are_told_apart(source: Path, tmp_path: Path) -> None:
    passes, expected = collected(source, written(tmp_path, MAP.replace("BUG: 0", "BUG: 1")))
    assert wrong(passes[PASS_NAMES[0]], expected) == passes[PASS_NAMES[0]].unsteady == 0
    assert passes[PASS_NAMES[1]].unsteady > 0 and wrong(passes[PASS_NAMES[1]], expected) > 0
    nan, zero = 0x7FC00000, 0
    passes, expected = collected(source, written(tmp_path, MAP.replace("BUG: 0", "BUG: 2")))
    assert wrong(passes[PASS_NAMES[0]], expected) == expected.count(nan) > 0
    passes, expected = collected(source, written(tmp_path, MAP.replace("BUG: 0", "BUG: 3")))
    assert passes[PASS_NAMES[0]].due - passes[PASS_NAMES[0]].came == expected.count(zero) > 0


def test_a_clock_enable_and_a_latency_make_a_handshake(tmp_path: Path) -> None:
    """The example behind a clock enable: it can be stalled, and the wrapper knows when results come."""
    params = unit("mx_dot").Params()
    text = (EXAMPLE / "fp4_dot.v").read_text().replace("if (full) begin", "if (en & full) begin")
    text = text.replace("input  wire         in_last,", "input wire in_last, input wire en,")
    text = text.replace("        end else begin\n", "        end else if (en) begin\n").replace(
        "else if (full)", "else if (en & full)"
    )
    (tmp_path / "enabled.v").write_text(text)
    map_file = written(tmp_path, "enable: {port: en}\n" + (EXAMPLE / "fp4_dot.yaml").read_text())
    foreign = read_foreign([tmp_path / "enabled.v", EXAMPLE / "round_even.v"], "fp4_dot", map_file, params.datapath)
    generator = np.random.default_rng(1)
    dots = [draw_dot(params.datapath, 1 + i % 3, PROFILES[i % len(PROFILES)], generator) for i in range(24)]
    expected = [oracle.block_dot(dot, params.datapath) for dot in dots]
    passes = ForeignBench.open(foreign, params.datapath, "icarus").collect(join_beats(dots), 0)
    assert [each.name for each in passes] == list(PASS_NAMES)
    assert sum(wrong(each, expected) + each.unsteady for each in passes) == 0
    assert [each.came for each in passes] == [each.due for each in passes]


def test_x_at_the_output_is_said_in_one_line(tmp_path: Path) -> None:
    params = unit("mx_dot").Params()
    map_file = written(tmp_path, (EXAMPLE / "fp4_dot.yaml").read_text().replace("latency: 2", "latency: 1"))
    files = [EXAMPLE / "fp4_dot.v", EXAMPLE / "round_even.v"]
    bench = ForeignBench.open(read_foreign(files, "fp4_dot", map_file, params.datapath), params.datapath, "icarus")
    dot = draw_dot(params.datapath, 1, "plain", np.random.default_rng(0))
    with pytest.raises(SimulatorError, match=r"is X or Z where it counts.*is the latency right"):
        bench.collect(dot, 0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("clock: clk", "clock: clock", "clock: module 'wrapped' has no port 'clock'; it has clk, reset_n"),
        ("clock: clk", "clok: clk", "clok: unknown key; allowed: clock, reset"),
        ("active: low}\ninput", "active: lo}\ninput", "reset.active: .*'high' or 'low', not 'lo'"),
        ("{port: not_valid, active: low}", "{prt: not_valid}", "input.valid.prt: unknown key; allowed: port, bit"),
        ("{port: not_valid, active: low}", "{port: y}", "input.valid: port 'y' is an output; it must be an input"),
        ("{port: take}", "{port: side}", "output.ready: port 'side' has 17 bits; it must have 1, or give its bit"),
        ("bit: 0,", "bit: 17,", "input.last: port 'side' has 17 bits; there is no bit 17"),
        ('a: {port: "a_{lane}"}', "a: {port: b_low}", "port 'b_low' has 8 bits; 4 values of 4 bits need bits 0 to 15"),
        ("    a:", "    c:", "input.fields.c: unknown field; the unit with these Params has a, b, a_scale, b_scale"),
        ("    a_scale: {port: side, low: 9}\n", "", "field 'a_scale' has no port"),
        ("first: 2", "first: 2, count: 1", "input.fields.b: value 3 of 4 is placed 0 times"),
        ("first: 2", "first: 3, count: 2", "input.fields.b.1: takes values 3 to 4; the field has 4"),
        ("count: 2", "count: 2, stride: 3", "input.fields.b.0: a stride of 3 is less than the 4 bits"),
        ("first: 2", "first: 2, lane: up", "input.fields.b.1.lane: unknown key; allowed: port, low, stride, lanes"),
        ("side, low: 1}", "side, low: 2}", "input.fields.b_scale: bit 9 of port 'side' is mapped twice"),
        ("constants: {mode: 1}\n", "", "input 'mode' of module 'wrapped' is mapped to nothing"),
        ("mode: 1", "mode: 2", "constants.mode: port 'mode' has 1 bits; 2 does not fit"),
        ("BUG: 0}", "BUG: 0, W: 2}", "bits 8 to 15 of input 'b_high' \\(16 bits\\) carry nothing"),
        ("BUG: 0}", "BOG: 0}", "BOG"),
        ("y, low: 4", "y, low: 5", "output.result: port 'y' has 36 bits; bits 5 to 36 are wanted"),
        ("y, low: 4}", "y, count: 2}", "output.result: takes port and low only"),
        ("constants", "latency: 2\nconstants", "give either output.valid or latency"),
        ("  last: {port: side, bit: 0, active: low}\n", "", "give input.last, or beats"),
        ("  valid: {port: not_valid, active: low}\n", "", "input.ready needs input.valid"),
        ("clock: clk", "clock: clk\nclock: clk", "duplicate key"),
        ("clock: clk", "enable: {port: mode}\nclock: clk", "enable stalls the whole module"),
        ("constants", "beats: two\nconstants", "beats: .*not 'two'"),
    ],
)  # fmt: skip
def test_a_bad_map_names_what_is_wrong(source: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in MAP
    path = written(tmp_path, MAP.replace(old, new, 1))
    with pytest.raises(ConfigError, match=said) as error:
        read_foreign([source], "wrapped", path, PARAMS.datapath)
    assert (str(path) in str(error.value) or said == "BOG") and "\n" not in str(error.value)


def test_verilog_that_cannot_be_used_is_said_in_one_line(source: Path, tmp_path: Path) -> None:
    path = written(tmp_path, MAP.replace("parameters: {BUG: 0}\n", ""))
    cases = {
        "no module 'nope' in .*there are: .*our_core, wrapped": ([source], "nope"),
        "nowhere.v: cannot be read: No such file": ([tmp_path / "nowhere.v"], "wrapped"),
        "bad.v:3: syntax error, unexpected": ([tmp_path / "bad.v"], "bad"),
        "[Mm]odule .*missing": ([tmp_path / "part.v"], "part"),
        "includes itself": ([tmp_path / "loop.v"], "loop"),
    }
    (tmp_path / "bad.v").write_text(
        "module bad(input clk,\n output reg y);\n always @@(posedge clk) y <= 1;\nendmodule\n"
    )
    (tmp_path / "part.v").write_text("module part(input clk, output y);\n missing sub(.clk(clk), .y(y));\nendmodule\n")
    (tmp_path / "loop.v").write_text('module loop(input clk);\n `include "loop.v"\nendmodule\n')
    for said, (files, top) in cases.items():
        with pytest.raises(ConfigError, match=said) as error:
            read_foreign(files, top, path, PARAMS.datapath)
        assert "\n" not in str(error.value)


def test_a_module_of_the_wrappers_name_is_renamed_or_refused(tmp_path: Path) -> None:
    ours = write_verilog(component("mx_dot")(PARAMS))
    text = (
        "clock: clk\nreset: {port: rst}\ninput:\n  valid: {port: i__valid}\n  ready: {port: i__ready}\n"
        "  last: {port: i__payload, bit: 48}\n  fields:\n    a: {port: i__payload}\n"
        "    b: {port: i__payload, low: 16}\n"
        "    a_scale: {port: i__payload, low: 32}\n    b_scale: {port: i__payload, low: 40}\n"
        "output:\n  valid: {port: o__valid}\n  ready: {port: o__ready}\n  result: {port: o__payload}\n"
    )
    found = read_foreign([ours], "top", written(tmp_path, text), PARAMS.datapath)
    assert found.module != "top" and f"module {found.module}(" in found.text()
    (tmp_path / "above.v").write_text("module above(input clk);\nendmodule\n")
    with pytest.raises(ConfigError, match="a module below 'above' has the name 'top'"):
        read_foreign([tmp_path / "above.v", ours], "above", written(tmp_path, text), PARAMS.datapath)


def test_included_files_are_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "a.v").write_text('x\n`include "sub/b.vh"\n// `include "sub/b.vh"\n`include "none.vh"\ny\n')
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.vh").write_text("inner\n")
    lines = [line for line in joined([tmp_path / "a.v"]).splitlines() if line and not line.startswith("`line")]
    assert lines == ["x", "inner", '// `include "sub/b.vh"', '`include "none.vh"', "y"]


def test_the_map_of_the_example_is_read() -> None:
    found = read_map(EXAMPLE / "fp4_dot.yaml")
    assert (found.latency, found.back_pressure, found.takes_gaps) == (2, False, True)

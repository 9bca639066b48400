"""Serial units in hardware: cycles of whole layers, many dot products of every format, and planted faults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwsim import pe
from hwsim.flow.faults import campaign
from hwsim.flow.operands import chunks, directed_batches
from hwsim.formats import get
from rtl.pe import component
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.bulk_pairs import check_all_pairs
from rtl.sim.faults import plant_faults
from rtl.sim.payload import pack_words
from rtl.sim.run import cosim, plan_passes
from tests.hwsim.pe import oracle
from tests.rtl.operands import draw_dot

pytestmark = pytest.mark.rtl

UNITS = ("stripes", "pragmatic")
FORMATS = ("int8", "int4_g128", "int4_g128_asym")
CASES = [(fmt, name) for name in UNITS for fmt in FORMATS]
IDS = [f"{name}-{fmt}" for fmt, name in CASES]


def stream(unit_name: str, fmt: str, lanes: int, vectors: int) -> BulkCosim:
    """Stream directed operands through the compiled unit, against the kernels; groups are of 32."""
    shorter = get(fmt).with_rules(block_size=32) if get(fmt).block_size else get(fmt)
    model, params = pe.unit_for(shorter, unit_name, lanes)
    bulk = BulkCosim(unit_name, params, seed=1)
    for beats, expected, _ in chunks(directed_batches(shorter, params, vectors, 0), model, params):
        bulk.check(beats, expected)
    return bulk


@pytest.mark.parametrize("unit_name", UNITS)
def test_a_hundred_thousand_vectors(unit_name: str) -> None:
    bulk = stream(unit_name, "int4_g128_asym", 16, 80_000)
    assert bulk.total.ok, bulk.total
    assert bulk.total.vectors > 100_000  # the first chunks with stalls too


@pytest.mark.slow
@pytest.mark.parametrize(("fmt", "unit_name"), CASES, ids=IDS)
def test_ten_million_vectors(fmt: str, unit_name: str) -> None:
    bulk = stream(unit_name, fmt, 16, 10_000_000)
    assert bulk.total.ok, bulk.total
    assert bulk.total.vectors > 10_000_000
    print(unit_name, fmt, bulk.total)


@pytest.mark.parametrize(
    ("fmt", "unit_name"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] == FORMATS[1] else ()) for case in CASES],
)
def test_a_gemm_takes_the_cycles_that_the_model_counts(fmt: str, unit_name: str) -> None:
    """Unstalled, M x N dot products of one pair of operands, a row of zeros; K of int8 ends within a beat."""
    model: Any
    model, params = pe.unit_for(fmt, unit_name, 8)
    a, b = oracle.operands(fmt, 3, 5, 2 * (get(fmt).block_size or 45))
    a.codes[1] = 0
    pairs = list(np.ndindex(3, 5))
    expected = model.gemm(a, b, params).view(np.uint32).reshape(-1)
    result = cosim(unit_name, params, [model.beats(a, b, m, n, params) for m, n in pairs], expected, engine="bulk")
    assert result.ok and result.cycles == model.operand_cycles(a, b, params), result


@pytest.mark.parametrize(
    "first_stage_bits", [0, 2, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (1, 3, 4))]
)
def test_every_pair_of_codes_and_every_first_stage(first_stage_bits: int) -> None:
    """Every weight by every activation, alone in its beat, under each width of a lane's own shift."""
    params = pe.unit("pragmatic").Params("int4", lanes=2, first_stage_bits=first_stage_bits)
    result = check_all_pairs("pragmatic", params)
    assert result.ok and result.vectors == 2 * 16 * 256, result


def test_no_fault_is_planted_on_a_clock() -> None:
    """This choice of places has one on the clock of a register, under which even the sound unit would run wrongly."""
    params = pe.unit("stripes").Params(lanes=2)
    hardware: Any = component("stripes")(params)
    faulty = plant_faults(hardware, 100, seed=2)
    assert len(faulty.faults) == 99 and all(fault.port != "CLK" for fault in faulty.faults)
    dot = draw_dot(params.datapath, 3, "plain", np.random.default_rng(0))
    words = pack_words(dot, hardware.i.payload.shape())
    expected = np.array([pe.unit("stripes").reference(dot, params)], np.uint32)
    (whole,) = plan_passes([2], 0, stalls=False, beat_cycles=params.datapath.beat_cycles(dot))
    verdict = faulty.simulator.check(
        words, *whole, np.array([2]), expected, params.datapath.latency, beat_cycles=params.datapath.beat_cycles(dot)
    ).verdict
    assert verdict.first is None and verdict.cycles == 24 + params.datapath.latency


@pytest.mark.slow
@pytest.mark.parametrize("unit_name", UNITS)
def test_fault_campaign(unit_name: str) -> None:
    params = pe.unit(unit_name).Params("int4", lanes=2, activation="int4")
    report = campaign(unit_name, params, faults=100, seed=1)
    lines = [f"{report.faults} faults: {len(report.caught)} caught, {len(report.harmless)} proved harmless"]
    print(unit_name, "\n".join(lines + [f"left: {verdict}" for verdict in report.survivors]))
    # what is left lies behind the front, in the multiplications by the scales of row and column
    assert len(report.survivors) <= 8, lines
    assert not any("steps" in str(verdict.fault) for verdict in report.survivors), lines

"""What the tests of each serial unit run: bits and cycles in both engines, many vectors, planted faults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hwsim import pe
from hwsim.flow.operands import chunks, directed_batches
from hwsim.formats import get
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.fault_proof import Effort
from rtl.sim.faults import EFFORT, FaultReport, run_campaign
from rtl.sim.payload import join_beats
from rtl.sim.run import CosimResult, cosim
from tests.hwsim.pe.oracle import operands
from tests.rtl import oracle
from tests.rtl.operands import PROFILES, draw_dot

FORMATS = ("int8", "int4_g128", "int4_g128_asym")


def check_bits_and_cycles(unit_name: str, fields: dict[str, Any], count: int = 150) -> None:
    """Drawn and corner dot products through both engines; bits of the model are those of the oracle."""
    model = pe.unit(unit_name)
    params = model.Params(**fields)
    generator = np.random.default_rng(len(str(fields)))
    dots = [
        draw_dot(params.datapath, int(generator.integers(1, 6)), PROFILES[number % len(PROFILES)], generator)
        for number in range(count)
    ]
    expected = [model.reference(dot, params) for dot in dots]
    assert expected == [oracle.block_dot(dot, params.datapath) for dot in dots]
    busy = int(params.datapath.beat_cycles(join_beats(dots)).sum())
    for engine in ("auto", "bulk"):
        result = cosim(unit_name, params, dots, expected, seed=4, engine=engine)
        assert result.ok, result
        assert result.cycles == busy + params.datapath.latency


def stream(unit_name: str, fmt: str, lanes: int, vectors: int, **fields: Any) -> CosimResult:
    """Stream directed operands through the compiled unit, stalled too, against the kernels; groups are of 32."""
    model, params = _shaped(unit_name, fmt, lanes, 32, fields)
    bulk = BulkCosim(unit_name, params, seed=1)
    for beats, expected, _ in chunks(directed_batches(_shorter(fmt, 32), params, vectors, 0), model, params):
        bulk.check(beats, expected)
    return bulk.total


def check_gemm(unit_name: str, fmt: str, lanes: int, **fields: Any) -> None:
    """Unstalled, all dot products of a pair of operands take the cycles of `operand_cycles`; some rows are of zeros."""
    model, params = _shaped(unit_name, fmt, lanes, 32, fields)
    a, b = operands(fmt, 3, 5, 90)
    a.codes[1] = 0
    pairs = list(np.ndindex(3, 5))
    expected = model.gemm(a, b, params).view(np.uint32).reshape(-1)
    result = cosim(unit_name, params, [model.beats(a, b, m, n, params) for m, n in pairs], expected, engine="bulk")
    assert result.ok and result.cycles == model.operand_cycles(a, b, params), result


def campaign(unit_name: str, fmt: str, faults: int = 110, effort: Effort = EFFORT, **fields: Any) -> FaultReport:
    """Plant faults in a unit of two lanes with groups of 8."""
    model, params = _shaped(unit_name, fmt, 2, 8, fields)
    batches = directed_batches(_shorter(fmt, 8), params, 10_000, 0)
    operands = [(beats, expected) for beats, expected, _ in chunks(batches, model, params)]
    report = run_campaign(unit_name, params, operands, faults=faults, seed=2, effort=effort)
    print(
        f"{unit_name} {fmt}: {report.faults} faults, {len(report.caught)} caught, {len(report.harmless)} proved "
        f"harmless, {len(report.bounded)} bounded, {len(report.survivors)} left"
    )
    for verdict in report.survivors:
        print("left:", verdict)
    return report


def _shorter(fmt: str, block: int) -> Any:
    found: Any = get(fmt)
    return found.with_rules(block_size=block) if found.block_size else found


def _shaped(unit_name: str, fmt: str, lanes: int, block: int, fields: dict[str, Any]) -> tuple[Any, Any]:
    model, params = pe.unit_for(_shorter(fmt, block), unit_name, lanes)
    return model, replace(params, **fields)

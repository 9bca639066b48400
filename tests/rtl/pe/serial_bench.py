"""What the tests of serial units run: bits and cycles in both engines, many vectors, planted faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hwsim import pe
from hwsim.flow.operands import chunks, directed_batches
from hwsim.formats import BlockSpec, get
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.fault_proof import Effort
from rtl.sim.faults import EFFORT, FaultReport, run_campaign
from rtl.sim.payload import join_beats
from rtl.sim.run import CosimResult, cosim
from tests.hwsim.pe.oracle import operands
from tests.rtl.operands import PROFILES, draw_dot

Dots = list[dict[str, Any]]
FORMATS = ("int8", "int4_g128", "int4_g128_asym")
PLANTED = 110
"""Faults asked for, so that at least 100 are left without those that would lie on a clock."""
SHORT = Effort(reach_s=6, both_s=4, bound_s=0)
"""Of proofs: most faults that the bench does not find are in the shared FP32 parts, where proofs take long."""


def draw(params: Any, count: int, seed: int) -> Dots:
    """Return dot products of 1 to 8 beats, of every profile."""
    generator = np.random.default_rng(seed)
    return [
        draw_dot(params.datapath, int(generator.integers(1, 9)), PROFILES[number % len(PROFILES)], generator)
        for number in range(count)
    ]


def check_in_both(unit_name: str, params: Any, dots: Dots, expected: Sequence[int]) -> None:
    """Compare bits and cycles in a Verilog simulator and in the bulk engine: plain, stalled, reset."""
    busy = int(params.datapath.beat_cycles(join_beats(dots)).sum())
    for engine in ("auto", "bulk"):
        result = cosim(unit_name, params, dots, list(expected), seed=4, engine=engine)
        assert result.ok, result
        assert result.vectors > 2 * len(dots)
        assert result.cycles == busy + params.datapath.latency


def stream(unit_name: str, fmt: str, lanes: int, vectors: int, **fields: Any) -> CosimResult:
    """Stream directed operands through the compiled unit, stalled too, against the kernels."""
    weights, model, params = shaped(unit_name, fmt, lanes, 32, **fields)
    bulk = BulkCosim(unit_name, params, seed=1)
    for beats, expected, _ in chunks(directed_batches(weights, params, vectors, 0), model, params):
        bulk.check(beats, expected)
    return bulk.total


def check_gemm(unit_name: str, fmt: str, lanes: int, **fields: Any) -> None:
    """Unstalled, all dot products of a pair of operands take the cycles of `operand_cycles`; a row is of zeros."""
    model, params = pe.unit_for(fmt, unit_name, lanes)
    params = replace(params, **fields)
    a, b = operands(fmt, 3, 5, 2 * (getattr(get(fmt), "block_size", None) or 45))
    a.codes[1] = 0
    pairs = list(np.ndindex(3, 5))
    expected = model.gemm(a, b, params).view(np.uint32).reshape(-1)
    result = cosim(unit_name, params, [model.beats(a, b, m, n, params) for m, n in pairs], expected, engine="bulk")
    assert result.ok and result.cycles == pe.operand_cycles(model, a, b, params), result


def campaign(
    unit_name: str, fmt: str, lanes: int, block: int = 8, effort: Effort = EFFORT, **fields: Any
) -> FaultReport:
    """Plant faults, stream directed operands in a format, and print what became of them."""
    weights, model, params = shaped(unit_name, fmt, lanes, block, **fields)
    batches = directed_batches(weights, params, 10_000, 0)
    streamed = [(beats, expected) for beats, expected, _ in chunks(batches, model, params)]
    report = run_campaign(unit_name, params, streamed, faults=PLANTED, seed=2, effort=effort)
    print(
        f"{unit_name} {fmt}: {report.faults} faults, {len(report.caught)} caught, {len(report.harmless)} proved "
        f"harmless, {len(report.bounded)} bounded, {len(report.survivors)} left"
    )
    for verdict in report.survivors:
        print("left:", verdict)
    return report


def shaped(unit_name: str, fmt: str, lanes: int, block: int, **fields: Any) -> tuple[Any, Any, Any]:
    """Return weights' format, unit and Params; groups of integers under a scale are cut to `block`."""
    weights: Any = get(fmt)
    if isinstance(weights, BlockSpec) and weights.block_size:
        weights = weights.with_rules(block_size=block)
    model, params = pe.unit_for(weights, unit_name, lanes)
    return weights, model, replace(params, **fields)

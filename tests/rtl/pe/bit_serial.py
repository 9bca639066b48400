"""Dot products for serial units, their checks in both simulators, and what all of them go through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hwsim import pe
from hwsim.flow.operands import chunks, directed_batches
from hwsim.formats import get
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.fault_proof import Effort
from rtl.sim.faults import FaultReport, run_campaign
from rtl.sim.payload import join_beats
from rtl.sim.run import cosim
from tests.rtl.operands import PROFILES, draw_dot

Dots = list[dict[str, Any]]
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


def stream(unit_name: str, fmt: str, lanes: int, vectors: int) -> BulkCosim:
    """Stream directed operands through the compiled unit, against the kernels; groups under a scale are of 32."""
    weights = get(fmt)
    if fmt.startswith("int") and weights.block_size:
        weights = weights.with_rules(block_size=32)
    model, params = pe.unit_for(weights, unit_name, lanes)
    bulk = BulkCosim(unit_name, params, seed=1)
    for beats, expected, _ in chunks(directed_batches(weights, params, vectors, 0), model, params):
        bulk.check(beats, expected)
    return bulk


def campaign(unit_name: str, fmt: str, params: Any, faults: int = 100) -> FaultReport:
    """Plant faults, stream directed operands in a format, and print what became of them."""
    model, weights = pe.unit(unit_name), get(fmt)
    operands = [
        (beats, expected) for beats, expected, _ in chunks(directed_batches(weights, params, 20_000, 3), model, params)
    ]
    report = run_campaign(unit_name, params, operands, faults=faults, seed=1, effort=SHORT)
    print(f"{report.faults} faults: {len(report.caught)} caught, {len(report.harmless)} proved harmless")
    for fault in report.survivors:
        print(f"left: {fault}")
    return report

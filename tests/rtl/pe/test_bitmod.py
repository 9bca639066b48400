"""The BitMoD unit in hardware against its model: bits and cycles, with and without stalls, and after a reset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwsim.pe import bitmod
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.fault_proof import NO_EFFORT
from rtl.sim.faults import run_campaign
from rtl.sim.run import CosimResult, cosim
from tests.hwsim.pe import bitmod_operands as operands

pytestmark = pytest.mark.rtl

PARAMS: dict[str, dict[str, Any]] = {
    # a group of 16 of these takes exactly the 8 cycles of its scale
    "fp3": {"weight": "bitmod_fp3", "group": 16},
    "fp4 dropped and narrow": {
        "weight": "bitmod_fp4",
        "group": 32,
        "alignment": "rtz",
        "guard_bits": 0,
        "acc_bits": 13,
    },
    "int8": {"weight": "int8", "group": 16},
    "int6": {"weight": "int6", "group": 16, "acc_bits": 24},
    "int5, wide": {"weight": "int5", "group": 16, "guard_bits": 32, "acc_bits": 60},
}
QUICK = ("fp3", "fp4 dropped and narrow", "int8")
WHOLE = ("bitmod_fp3", "bitmod_fp4", "int8", "int6", "int5")


def run(params: bitmod.Params, rows: int, seed: int, spoil: int | None = None, **options: Any) -> CosimResult:
    """Stream dot products of one to three groups of every kind of operand through the unit."""
    dots, expected = [], []
    for kind in operands.KINDS:
        for groups in (1, 2, 3):
            a, b = operands.operands(params, kind, rows, groups, seed)
            dots += [bitmod.beats(a, b, i, i, params) for i in range(rows)]
            expected += bitmod.dots(a, b, params).tolist()
    order = np.random.default_rng(seed).permutation(len(dots))
    expected = [expected[i] for i in order]
    if spoil is not None:
        expected[spoil] ^= 1
    result = cosim("bitmod", params, [dots[i] for i in order], expected, seed=seed, **options)
    beats = sum(len(dots[i]["last"]) for i in order)
    assert result.cycles == beats * params.datapath.terms + params.datapath.latency
    return result


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PARAMS])
def test_unit_equals_model(name: str) -> None:
    params = bitmod.Params(**PARAMS[name])
    rows = 2
    result = run(params, rows, seed=len(name))
    assert result.ok, result
    assert result.vectors > 2 * rows * 3 * len(operands.KINDS)  # all twice, and a part again after a reset


def test_a_wrong_result_is_found() -> None:
    result = run(bitmod.Params("bitmod_fp3", group=16), 1, seed=1, spoil=7)
    assert not result.ok and result.mismatches >= 2 and result.cycle_mismatches == 0
    assert "dot product 7: bits" in str(result.first_mismatch)


def check_many(weight: str, vectors: int, **fields: Any) -> CosimResult:
    """Stream many dot products of every kind through the unit in the bulk engine."""
    params = bitmod.Params(weight, **fields)
    bulk = BulkCosim("bitmod", params, seed=2)
    chunk, done, seed = 4096, 0, 0
    while done < vectors:
        kind = operands.KINDS[seed % len(operands.KINDS)]
        a, b = operands.operands(params, kind, chunk, 1 + seed % 3, seed)
        bulk.check(bitmod.paired_beats(a, b, params), bitmod.dots(a, b, params))
        done, seed = done + chunk, seed + 1
    return bulk.total


@pytest.mark.slow
@pytest.mark.parametrize("weight", WHOLE)
def test_many_dot_products(weight: str) -> None:
    total = check_many(weight, 1_000_000, group=16)
    assert total.ok, total
    assert total.vectors >= 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("weight", WHOLE)
def test_groups_of_the_paper(weight: str) -> None:
    total = check_many(weight, 8192)
    assert total.ok, total


@pytest.mark.slow
def test_planted_faults_are_found() -> None:
    params = bitmod.Params("bitmod_fp3", group=16, guard_bits=2, acc_bits=14)
    chunks = []
    for seed, kind in enumerate(2 * operands.KINDS):
        a, b = operands.operands(params, kind, 1500, 1 + seed % 3, seed)
        chunks.append((bitmod.paired_beats(a, b, params), bitmod.dots(a, b, params)))
    report = run_campaign("bitmod", params, chunks, faults=40, seed=1, effort=NO_EFFORT)
    assert len(report.caught) >= 32, [str(verdict.fault) for verdict in report.unseen]

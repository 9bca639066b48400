"""`bitwave` and `bitlet` in hardware: bits, and cycles that depend on weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwsim import pe
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.bulk_pairs import check_all_pairs
from rtl.sim.run import cosim
from tests.rtl import oracle
from tests.rtl.pe.serial_bench import FORMATS, SHORT, campaign, check_in_both, draw, stream

pytestmark = pytest.mark.rtl

UNITS = ("bitwave", "bitlet")
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "int8": {"lanes": 4},
    "zero points": {"lanes": 3, "weight": "uint4", "block": 6, "zero_point": True, "activation": "int4"},
    "carry save": {"lanes": 5, "weight": "int6", "adder_tree": "carry_save"},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("unit_name", UNITS)
def test_bits_and_cycles_equal_the_model(unit_name: str, name: str) -> None:
    model: Any = pe.unit(unit_name)
    params = model.Params(**CONFIGURATIONS[name])
    dots = draw(params, 120, len(name))
    expected = [oracle.block_dot(dot, params.datapath) for dot in dots]
    assert expected == [model.reference(dot, params) for dot in dots]
    check_in_both(unit_name, params, dots, expected)


@pytest.mark.parametrize("unit_name", UNITS)
def test_all_pairs_of_codes(unit_name: str) -> None:
    result = check_all_pairs(unit_name, pe.unit(unit_name).Params(lanes=1, block=1))
    assert result.ok, result
    assert result.macs == 1 << 16


@pytest.mark.parametrize("unit_name", UNITS)
def test_every_pattern_of_eight_lanes(unit_name: str) -> None:
    """All weights of two bits in the eight lanes; activations of one bit each tell which were added, and how often."""
    params = pe.unit(unit_name).Params("int2", 8)
    numbers = np.arange(1 << 16)
    codes = numbers[:, None] >> 2 * np.arange(8) & 3
    a = np.tile(np.array([1, 2, 4, 8, 16, 32, 64, 128], np.uint8), (len(numbers), 1))
    sums = (np.where(codes > 1, codes - 4, codes) * np.array([1, 2, 4, 8, 16, 32, 64, -128])).sum(axis=1)
    ones = np.full(len(numbers), np.float32(1).view(np.uint32))
    beats = {"a": a, "b": codes.astype(np.uint8), "a_out": ones, "b_out": ones, "last": np.ones(len(numbers), np.uint8)}
    bulk = BulkCosim(unit_name, params, seed=1)
    bulk.check(beats, sums.astype(np.float32).view(np.uint32))
    assert bulk.total.ok, bulk.total


@pytest.mark.parametrize("unit_name", UNITS)
def test_many_dot_products(unit_name: str) -> None:
    total = stream(unit_name, "int8", 8, 30_000)
    assert total.ok, total
    assert total.vectors > 30_000


@pytest.mark.slow
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("unit_name", UNITS)
def test_millions_of_dot_products(unit_name: str, fmt: str) -> None:
    total = stream(unit_name, fmt, 16, 2_000_000)
    assert total.ok, total
    print(unit_name, fmt, total)


@pytest.mark.slow
@pytest.mark.parametrize("unit_name", UNITS)
def test_planted_faults_are_found(unit_name: str) -> None:
    report = campaign(unit_name, "int8", 4, effort=SHORT)
    assert report.faults >= 100
    assert len(report.caught) + len(report.harmless) >= 70


@pytest.mark.parametrize("unit_name", UNITS)
def test_a_schedule_that_is_off_by_a_cycle_is_found(unit_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = pe.unit(unit_name)
    params = model.Params(lanes=4)
    dots = draw(params, 20, 0)
    expected = [model.reference(dot, params) for dot in dots]
    true = type(params.datapath).lane_cycles
    monkeypatch.setattr(type(params.datapath), "lane_cycles", lambda self, a, b: true(self, a, b) + (b.sum(1) % 7 == 0))
    result = cosim(unit_name, params, dots, expected, seed=4, engine="bulk")
    assert result.mismatches == 0 and result.cycle_mismatches > 0

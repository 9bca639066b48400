"""Serial units in hardware: bits, and cycles that depend on operands, in Icarus and in the bulk engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwsim.pe import unit
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.bulk_pairs import check_all_pairs
from rtl.sim.payload import join_beats
from rtl.sim.run import cosim
from tests.rtl import oracle
from tests.rtl.operands import PROFILES, draw_dot

pytestmark = pytest.mark.rtl

CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "stripes": ("stripes", {"lanes": 4}),
    "stripes, zero points": ("stripes", {"lanes": 3, "weight": "uint4", "block": 6, "zero_point": True}),
    "pragmatic": ("pragmatic", {"lanes": 4}),
    "pragmatic, one place": ("pragmatic", {"lanes": 4, "first_stage_bits": 0, "adder_tree": "carry_save"}),
    "pragmatic, groups": ("pragmatic", {"lanes": 8, "weight": "int4", "block": 16, "activation": "int4",
                                        "first_stage_bits": 4}),
}  # fmt: skip


def draw(params: Any, count: int, seed: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    return [
        draw_dot(params.datapath, int(generator.integers(1, 9)), PROFILES[number % len(PROFILES)], generator)
        for number in range(count)
    ]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_bits_and_cycles_equal_the_model(name: str) -> None:
    unit_name, fields = CONFIGURATIONS[name]
    model = unit(unit_name)
    params = model.Params(**fields)
    dots = draw(params, 120, len(name))
    expected = [model.reference(dot, params) for dot in dots]
    assert expected == [oracle.block_dot(dot, params.datapath) for dot in dots]
    spec = params.datapath
    busy = int(spec.beat_cycles(join_beats(dots)).sum())
    for engine in ("auto", "bulk"):
        result = cosim(unit_name, params, dots, expected, seed=4, engine=engine)
        assert result.ok, result
        assert result.cycles == busy + spec.latency


@pytest.mark.parametrize("unit_name", ["stripes", "pragmatic"])
def test_all_pairs_of_codes(unit_name: str) -> None:
    result = check_all_pairs(unit_name, unit(unit_name).Params(lanes=1, block=1))
    assert result.ok, result
    assert result.macs == 1 << 16


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_many_dot_products(name: str) -> None:
    unit_name, fields = CONFIGURATIONS[name]
    model = unit(unit_name)
    params = model.Params(**fields)
    bulk = BulkCosim(unit_name, params, seed=1)
    for seed in range(10):
        dots = draw(params, 2000, seed)
        bulk.check(join_beats(dots), [model.reference(dot, params) for dot in dots])
    assert bulk.total.ok, bulk.total


def test_a_schedule_that_is_off_by_a_cycle_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = unit("pragmatic")
    params = model.Params(lanes=4)
    dots = draw(params, 20, 0)
    expected = [model.reference(dot, params) for dot in dots]
    true = type(params.datapath).lane_cycles

    def late(self: Any, a: Any, b: Any) -> Any:
        found = true(self, a, b)
        found[0] += 1
        return found

    monkeypatch.setattr(type(params.datapath), "lane_cycles", late)
    for engine in ("auto", "bulk"):
        result = cosim("pragmatic", params, dots, expected, seed=4, engine=engine)
        assert result.mismatches == 0 and result.cycle_mismatches > 0

"""Serial units over integers in hardware: bits, and cycles that may depend on operands, in both engines."""

from __future__ import annotations

from typing import Any

import pytest

from hwsim import pe
from rtl.sim.bulk_pairs import check_all_pairs
from rtl.sim.run import cosim
from tests.rtl import oracle
from tests.rtl.pe.serial_bench import FORMATS, campaign, check_gemm, check_in_both, draw, stream

pytestmark = pytest.mark.rtl

CONFIGURATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "stripes": {
        "int8": {"lanes": 4},
        "zero points": {"lanes": 3, "weight": "uint4", "block": 6, "zero_point": True},
    },
    "pragmatic": {
        "int8": {"lanes": 4},
        "one place": {"lanes": 4, "first_stage_bits": 0, "adder_tree": "carry_save"},
        "groups": {"lanes": 8, "weight": "int4", "block": 16, "activation": "int4", "first_stage_bits": 4},
    },
    "unpu": {
        "int8": {"lanes": 4},
        "zero points": {"lanes": 3, "weight": "uint4", "block": 6, "zero_point": True, "adder_tree": "carry_save"},
        "odd widths": {"lanes": 5, "weight": "int3", "activation": "int16"},
    },
    "bitfusion": {
        "int8": {"lanes": 3},
        "zero points": {"lanes": 3, "weight": "uint4", "block": 6, "zero_point": True, "adder_tree": "carry_save"},
        "halves of both": {"lanes": 2, "weight": "int16", "activation": "int16"},
        "halves of one": {"lanes": 2, "weight": "int3", "activation": "int9"},
    },
    "laconic": {
        "int8": {"lanes": 4},
        "zero points": {
            "lanes": 3,
            "weight": "uint4",
            "block": 6,
            "zero_point": True,
            "activation": "int5",
            "adder_tree": "carry_save",
        },
        "one lane, 16 bits": {"lanes": 1, "weight": "int3", "activation": "int16"},
    },
    "loom": {
        "one bit": {"lanes": 4},
        "two bits, which do not divide": {"lanes": 5, "weight": "int3", "activation": "int5", "bits_a_cycle": 2},
        "four bits, zero points": {
            "lanes": 3,
            "weight": "uint4",
            "block": 6,
            "zero_point": True,
            "activation": "int6",
            "bits_a_cycle": 4,
            "adder_tree": "carry_save",
        },
    },
    "lut_serial": {
        "int8": {"lanes": 4},
        "zero points, a smaller last table": {
            "lanes": 6,
            "weight": "uint4",
            "block": 12,
            "zero_point": True,
            "adder_tree": "carry_save",
        },
        "tables of three": {"lanes": 5, "weight": "int3", "activation": "int6", "group": 3},
        "no table": {"lanes": 2, "weight": "int2", "group": 1},
    },
    "bitplane": {
        "one pair": {"lanes": 4},
        "pairs that do not divide": {
            "lanes": 6,
            "weight": "uint4",
            "block": 12,
            "zero_point": True,
            "pairs_a_cycle": 5,
            "adder_tree": "carry_save",
        },
        "all pairs": {"lanes": 5, "weight": "int3", "activation": "int6", "pairs_a_cycle": 0},
    },
}
FIELDS: dict[str, dict[str, Any]] = {"loom": {"bits_a_cycle": 2}, "bitplane": {"pairs_a_cycle": 3}}
"""Of the units whose default takes long, where much is streamed."""
CASES = [(name, configuration) for name, each in CONFIGURATIONS.items() for configuration in each]
every_unit = pytest.mark.parametrize("name", CONFIGURATIONS)


def fields_of(name: str) -> dict[str, Any]:
    return FIELDS.get(name, {})


@pytest.mark.parametrize(("name", "configuration"), CASES)
def test_bits_and_cycles_equal_the_model(name: str, configuration: str) -> None:
    model = pe.unit(name)
    params = model.Params(**CONFIGURATIONS[name][configuration])
    dots = draw(params, 120, len(configuration))
    expected = [model.reference(dot, params) for dot in dots]
    assert expected == [oracle.block_dot(dot, params.datapath) for dot in dots]
    check_in_both(name, params, dots, expected)


@every_unit
def test_every_weight_by_every_activation(name: str) -> None:
    result = check_all_pairs(name, pe.unit(name).Params(lanes=1, block=1, **fields_of(name)))
    assert result.ok and result.vectors == 1 << 16, result


@every_unit
def test_a_gemm_takes_the_cycles_that_the_model_counts(name: str) -> None:
    check_gemm(name, "int8", 4, **fields_of(name))


@every_unit
def test_many_vectors(name: str) -> None:
    result = stream(name, "int4_g128_asym", 4, 10_000, **fields_of(name))
    assert result.ok and result.vectors >= 20_000, result


@pytest.mark.slow
@pytest.mark.parametrize("fmt", FORMATS)
@every_unit
def test_millions_of_vectors(name: str, fmt: str) -> None:
    result = stream(name, fmt, 16, 1_000_000, **fields_of(name))
    assert result.ok and result.vectors >= 1_000_000, result
    print(name, fmt, result)


@pytest.mark.slow
@every_unit
def test_fault_campaign(name: str) -> None:
    report = campaign(name, "int4_g128", 2, **fields_of(name))
    assert report.faults >= 100 and len(report.survivors) <= 15


def test_a_schedule_that_is_off_by_a_cycle_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pe.unit("pragmatic")
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

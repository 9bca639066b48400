"""Energy of counted actions: sums of parts, and the weakest status."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.arch import ConfigError, GemmShape, load_machine, simulate
from hwsim.cost import STATUSES, energy, load_table, table_for

TABLE = load_table("mapped_45nm")
COUNTS = st.dictionaries(st.sampled_from(sorted(TABLE.costs)), st.integers(0, 1 << 62), min_size=1)


@given(COUNTS)
def test_total_is_the_sum_of_parts(actions: dict[str, int]) -> None:
    report = energy(actions, TABLE)
    assert [(part.cost.action, part.count) for part in report.parts] == list(actions.items())
    assert report.total_pj == math.fsum(part.count * part.cost.value_pj for part in report.parts)
    assert math.isclose(report.total_pj, math.fsum(report.by_status_pj.values()), rel_tol=1e-12)
    assert report.total_pj >= 0


@given(COUNTS)
def test_status_is_the_weakest(actions: dict[str, int]) -> None:
    report = energy(actions, TABLE)
    used = {part.cost.status for part in report.parts if part.count}
    if used:
        assert report.status == ("estimated" if "estimated" in used else "published")
    assert report.status in STATUSES


def test_worked_example() -> None:
    # 1000 products at 0.2, 1000 additions at 0.1, 3 FP32 products at 3.7, 10 reads at 100, 64 bits of LPDDR4 at 8
    actions = {
        "mul_int8_int8": 1000,
        "add_int32": 1000,
        "mul_float32": 3,
        "sram_read_64b_1048576": 10,
        "dram_bit_lpddr4": 64,
    }
    report = energy(actions, TABLE)
    assert report.total_pj == pytest.approx(200 + 100 + 11.1 + 1000 + 512, rel=1e-12)
    assert report.status == "published"
    assert energy(actions | {"mul_int4_int8": 1}, TABLE).status == "estimated"
    assert energy(actions | {"mul_int4_int8": 0}, TABLE).status == "published"


@pytest.mark.parametrize("count", [-1, 1.0, True, "3", None])
def test_bad_count(count: object) -> None:
    with pytest.raises(ValueError, match="count of action 'add_int8' must be an integer of 0 or more"):
        energy({"add_int8": count}, TABLE)  # type: ignore[dict-item]


def test_nothing_is_charged_by_default() -> None:
    with pytest.raises(ConfigError, match="no energy for action 'teleport'"):
        energy({"add_int8": 1, "teleport": 1}, TABLE)
    with pytest.raises(ValueError, match="no actions"):
        energy({}, TABLE)


def test_layers_add_up() -> None:
    machine = load_machine("int8_os")
    shapes = [GemmShape(f"l{n}", 7, n, 64, 64, n * 512, 7 * 512, 7 * n * 32) for n in (3, 40)]
    report = simulate(shapes, machine)
    table = table_for(machine)
    whole = energy(report.actions, table).total_pj
    assert whole == pytest.approx(sum(energy(layer.actions, table).total_pj for layer in report.layers), rel=1e-12)

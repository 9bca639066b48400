"""Cost tables: the published numbers, what rests on what, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hwsim import pe
from hwsim.arch import ConfigError, load_machine, machine_names
from hwsim.cost import STATUSES, load_table, table_for, table_names
from hwsim.formats import get

# Horowitz, ISSCC 2014, 45 nm 0.9 V, in pJ
PUBLISHED = {
    "add_int8": 0.03,
    "add_int32": 0.1,
    "mul_int8_int8": 0.2,
    "mul_int32_int32": 3.1,
    "add_float16": 0.4,
    "mul_float16": 1.1,
    "add_float32": 0.9,
    "mul_float32": 3.7,
    "sram_read_64b_8192": 10.0,
    "sram_read_64b_32768": 20.0,
    "sram_read_64b_1048576": 100.0,
}

TABLE = """\
name: mine
description: d
excludes: e
extends: [horowitz_45nm]
entries:
  nop: {value: 0.5, unit: pJ, node_nm: 28, vdd_v: 0.8, status: measured, source: here}
mappings:
  twice: {charged_as: {add_int32: 2}, status: estimated, basis: two additions}
"""

BAD = {
    "unknown_key": (("vdd_v: 0.8", "vdd: 0.8"), "entries.nop.vdd: unknown key; allowed: value, unit, node_nm, vdd_v"),
    "missing_source": ((", source: here", ""), "entries.nop.source: missing key"),
    "empty_source": (("source: here", "source: ''"), "entries.nop.source: string should have at least 1 character"),
    "unit": (("unit: pJ", "unit: fJ"), "entries.nop.unit: input should be 'pJ', not 'fJ'"),
    "negative": (("value: 0.5", "value: -1"), "entries.nop.value: input should be greater than or equal to 0"),
    "not_a_number": (("value: 0.5", "value: .nan"), "entries.nop.value: input should be"),
    "estimated_entry": (("status: measured", "status: estimated"), "entries.nop.status: input should be 'measured' or"),
    "duplicate": (("entries:\n", "entries:\n  nop: 1\n"), "entries.nop: duplicate key"),
    "twice_defined": (("  nop:", "  add_int32:"), "entries.add_int32: action 'add_int32' has an energy already"),
    "unknown_part": (
        ("{add_int32: 2}", "{add_int23: 2}"),
        "mappings.twice.charged_as.add_int23: no entry of that name",
    ),
    "no_parts": (("{add_int32: 2}", "{}"), "mappings.twice.charged_as: dictionary should have at least 1 item"),
    "mixed_nodes": (("{add_int32: 2}", "{add_int32: 2, nop: 1}"), "charged_as: mixes process nodes or voltages"),
    "no_basis": ((", basis: two additions", ""), "mappings.twice.basis: missing key"),
    "unknown_table": (
        ("[horowitz_45nm]", "[horowitz]"),
        "extends: unknown cost table 'horowitz'; known: dram, horowitz_45nm",
    ),
    "itself": (("[horowitz_45nm]", "[mine.yaml]"), "extends: the table extends itself"),
}


def write(folder: Path, text: str = TABLE) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_published_numbers() -> None:
    table = load_table("horowitz_45nm")
    assert {action: cost.value_pj for action, cost in table.costs.items()} == PUBLISHED
    assert {(cost.status, cost.node_nm, cost.vdd_v) for cost in table.costs.values()} == {("published", 45, 0.9)}


@pytest.mark.parametrize("name", table_names())
def test_every_cost_says_what_it_rests_on(name: str) -> None:
    table = load_table(name)
    assert table.name == name
    assert table.excludes
    for action, cost in table.costs.items():
        assert cost.action == action and cost.status in STATUSES and cost.source
        assert (cost.status == "estimated") == bool(cost.basis)


def test_dram_choices() -> None:
    values = {cost.action: cost.value_pj for cost in load_table("dram").costs.values()}
    assert values["dram_bit_lpddr4"] == 8 and values["dram_bit_hbm2"] == 3.9
    assert values["dram_bit_bitmod_ddr4"] * 64 == 1200
    assert (values["dram_bit_horowitz_low"] * 64, values["dram_bit_horowitz_high"] * 64) == (1300, 2600)


@pytest.mark.parametrize("name", pe.formats())
def test_every_action_of_a_format_s_unit_is_covered(name: str) -> None:
    unit, params = pe.unit_for(get(name))
    table = load_table("mapped_45nm")
    for action in unit.actions(4, 4, 256, params):
        assert table.cost(action).value_pj > 0


def test_estimates_are_sums_of_published_parts(tmp_path: Path) -> None:
    table = load_table(write(tmp_path))
    assert table.cost("twice").value_pj == 0.2
    assert table.cost("twice").status == "estimated"
    assert table.cost("twice").source.startswith("2 add_int32: Horowitz")
    assert table.cost("nop").status == "measured"


def test_missing_entry_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match="no energy for action 'mul_int4_int8'; table 'horowitz_45nm' has: add_int8, "
    ):
        load_table("horowitz_45nm").cost("mul_int4_int8")


@pytest.mark.parametrize("case", BAD)
def test_bad_table_names_file_and_key(case: str, tmp_path: Path) -> None:
    (old, new), expected = BAD[case]
    assert TABLE.count(old) == 1
    path = write(tmp_path, TABLE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_table(path)
    assert str(caught.value).startswith(f"{path}: ") and expected in str(caught.value)


@pytest.mark.parametrize("name", machine_names())
def test_machine_s_table_covers_it(name: str) -> None:
    machine = load_machine(name)
    assert table_for(machine).name == machine.spec.cost


@pytest.mark.parametrize(
    ("section", "update", "expected"),
    [
        (
            "buffers",
            {"act": {"size_bytes": 65536, "port_bits": 64}},
            "buffers.act.size_bytes: .* 65536 bytes; sizes that it has: 8192, 32768, 1048576",
        ),
        (
            "dram",
            {"energy": "ddr9"},
            "dram.energy: unknown choice 'ddr9'; table 'mapped_45nm' has: lpddr, lpddr4, ddr3",
        ),
        (None, {"cost": "free"}, "cost: unknown cost table 'free'; known: dram, horowitz_45nm, mapped_45nm"),
    ],
)
def test_machine_that_its_table_does_not_cover(section: str | None, update: dict[str, object], expected: str) -> None:
    machine = load_machine("int8_os")
    data = machine.spec.model_dump()
    (data[section] if section else data).update(update)
    with pytest.raises(ConfigError, match=f"int8_os.yaml: {expected}"):
        table_for(replace(machine, spec=type(machine.spec).model_validate(data)))

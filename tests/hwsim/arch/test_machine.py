"""Machine files: those that come with the package, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwsim import pe
from hwsim.arch import ConfigError, load_machine, machine_names
from hwsim.arch.machine import FOLDER
from hwsim.flow.simulate import check_machine_takes
from hwsim.formats import get

TEXT = (FOLDER / "int4_os.yaml").read_text()


@pytest.mark.parametrize("name", machine_names())
def test_machine_is_what_its_file_is_called(name: str) -> None:
    machine = load_machine(name)
    assert machine.name == name
    assert machine.params == machine.unit.Params(**machine.spec.unit.params)


def test_machines_differ_only_in_units() -> None:
    machines = [load_machine(name) for name in machine_names()]
    assert {machine.macs_per_cycle for machine in machines} == {4096}
    common = {
        (machine.spec.buffers, machine.spec.dram, machine.spec.clock_hz, machine.spec.cost) for machine in machines
    }
    assert len(common) == 1


@pytest.mark.parametrize(
    ("machine", "weights"),
    [
        ("int8_os", "int8"),
        ("int4_os", "int4_g128"),
        ("int4_asym_os", "int4_g128_asym"),
        ("mxfp4_os", "mxfp4"),
        ("nvfp4_os", "nvfp4"),
        ("mxfp8_e4m3_os", "mxfp8_e4m3"),
        ("mxfp8_e5m2_os", "mxfp8_e5m2"),
        ("mxfp6_e2m3_os", "mxfp6_e2m3"),
        ("mxfp6_e3m2_os", "mxfp6_e3m2"),
        ("mxint8_os", "mxint8"),
        ("mxint4_os", "mxint4"),
        ("nvint4_os", "nvint4"),
        ("int4_vsq_os", "int4_g16_vsq"),
        ("int8_vsq_os", "int8_g16_vsq"),
        ("int16_os", "int16"),
        ("float32_os", "float32"),
        ("float16_os", "float16"),
        ("bfloat16_os", "bfloat16"),
        ("float8_e4m3fn_os", "float8_e4m3fn"),
        ("float8_e5m2_os", "float8_e5m2"),
        ("msfp12_os", "msfp12"),
        ("msfp16_os", "msfp16"),
        ("bfp5_os", "bfp5_b32"),
        ("mx9_os", "mx9"),
        ("mx6_os", "mx6"),
        ("mx4_os", "mx4"),
    ],
)
def test_machine_takes_its_format(machine: str, weights: str) -> None:
    loaded = load_machine(machine)
    unit, params = pe.unit_for(get(weights), lanes=loaded.params.lanes)
    assert (unit.NAME, params) == (loaded.unit.NAME, loaded.params)


BAD = {
    "unknown_key": (("clock_hz:", "clock:"), "clock: unknown key; allowed: name, description"),
    "missing_key": (("clock_hz: 1000000000\n", ""), "clock_hz: missing key"),
    "duplicate_key": (("rows: 16,", "rows: 16, rows: 8,"), "array.rows: duplicate key"),
    "wrong_type": (("rows: 16", "rows: '16'"), "array.rows: input should be a valid integer, not '16'"),
    "zero": (("rows: 16", "rows: 0"), "array.rows: input should be greater than 0, not 0"),
    "dataflow": (("dataflow: os", "dataflow: ws"), "array.dataflow: input should be 'os', not 'ws'"),
    "unknown_unit": (
        ("name: int_mac", "name: int_mack"),
        "unit.name: unknown unit 'int_mack'; known: bfp_dot, ",
    ),
    "serial_unit": (("name: int_mac", "name: stripes"), "unit.name: stripes takes several cycles a beat"),
    "unknown_param": (("lanes: 32", "lane: 32"), "unit.params.lane: unknown key; int_mac allows: weight, lanes"),
    "param_type": (("lanes: 32", "lanes: '32'"), "unit.params.lanes: input should be a valid integer, not '32'"),
    "param_float": (("lanes: 32", "lanes: 32.0"), "unit.params.lanes: input should be a valid integer, not 32.0"),
    "param_value": (("weight: int4", "weight: int17"), "unit.params: int_mac: weight must be "),
    "param_pair": (("block: 128", "block: 100"), "unit.params: int_mac: block must be 0 or a multiple of lanes"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_machine_file_names_file_and_key(case: str, tmp_path: Path) -> None:
    (old, new), expected = BAD[case]
    path = tmp_path / "mine.yaml"
    assert TEXT.count(old) == 1
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_machine(path)
    assert f"{path}: " in str(caught.value) and expected in str(caught.value)


def test_unknown_name_lists_the_legal_ones() -> None:
    with pytest.raises(ConfigError, match="unknown machine 'int9_os'; known: " + ", ".join(machine_names())):
        load_machine("int9_os")


def test_an_accumulator_is_read_from_the_file(tmp_path: Path) -> None:
    text = (FOLDER / "mxfp8_e4m3_os.yaml").read_text()
    rule = "accumulator: {kind: aligned, group: 32, fraction_bits: 25, scales: product, rounding: rtz}"
    file = tmp_path / "machine.yaml"
    file.write_text(text.replace("out_scale: false", f"out_scale: false, {rule}"))
    machine = load_machine(file)
    assert machine.params.accumulator.fraction_bits == 25 and machine.params.accumulator.format == "float32"
    check_machine_takes(machine, "mxfp8_e4m3")
    for old, new, words in (
        (
            "kind: aligned",
            "sort: aligned",
            "unit.params.accumulator.sort: unknown key; accumulator allows: kind, format",
        ),
        ("group: 32", "group: '32'", "unit.params.accumulator.group: input should be a valid integer, not '32'"),
        ("rounding: rtz", "rounding: rup", "unit.params.accumulator.rounding: input should be 'rne', 'rtz', 'rdn' or"),
        ("group: 32", "group: 0", "unit.params.accumulator: accumulator: kind aligned needs a group"),
        ("group: 32", "group: 24", "unit.params: mx_dot: the group must divide lanes = 32"),
    ):
        file.write_text(text.replace("out_scale: false", f"out_scale: false, {rule.replace(old, new)}"))
        with pytest.raises(ConfigError, match=words):
            load_machine(file)

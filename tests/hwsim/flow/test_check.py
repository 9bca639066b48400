"""Checks of foreign units: the shipped example, right and with its planted bug; kinds of differences; unknown rules."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwsim import cli, formats, pe
from hwsim.flow import check_rules as rules
from hwsim.flow.check import check_command
from hwsim.flow.check_chunks import fitted
from hwsim.flow.operands import Batch
from hwsim.flow.params import operand_formats, read_params
from hwsim.flow.progress import Reporter

EXAMPLE = Path(__file__).parents[3] / "examples" / "check"
RIGHT, BUG = ([EXAMPLE / "fp4_dot.v", EXAMPLE / f"round_{name}.v"] for name in ("even", "away"))
MX = pe.unit("mx_dot")
SMALL = MX.Params(lanes=4, block=8)
OURS = """
clock: clk
reset: {port: rst}
input:
  valid: {port: i__valid}
  ready: {port: i__ready}
  last: {port: i__payload, bit: 48}
  fields:
    a: {port: i__payload}
    b: {port: i__payload, low: 16}
    a_scale: {port: i__payload, low: 32}
    b_scale: {port: i__payload, low: 40}
output:
  valid: {port: o__valid}
  ready: {port: o__ready}
  result: {port: o__payload}
"""


def check(files: list[Path], waves: Path, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "top": "fp4_dot", "map_file": EXAMPLE / "fp4_dot.yaml", "unit_name": "mx_dot", "params_text": "",
        "bundle_file": None, "against": None, "engine": "icarus", "vectors": 600, "seed": 0,
    }  # fmt: skip
    return check_command(files, waves=waves, reporter=Reporter(quiet=True), **{**arguments, **changes})


@pytest.mark.rtl
@pytest.mark.parametrize("engine", ["icarus", "bulk"])
def test_the_right_example_has_no_difference(engine: str, bundle_file: Path, tmp_path: Path) -> None:
    vectors = 120 if engine == "icarus" else 3000
    found = check(RIGHT, tmp_path, engine=engine, bundle_file=bundle_file, vectors=vectors)
    assert found["ok"] and [row["operands"] for row in found["rows"]] == ["layers", "directed"]
    for row in found["rows"]:
        assert row["vectors"] == vectors and row["differences"] == 0 and row["first_difference"] is None
        assert row["comparisons"] > 2 * vectors and row["latency_cycles"] == 2  # stalled and with a reset, too
    assert list(tmp_path.iterdir()) == []


@pytest.mark.rtl
def test_the_planted_bug_is_found_and_is_one_of_rounding(tmp_path: Path) -> None:
    found = check(BUG, tmp_path, vectors=1200, engine="bulk")
    (row,) = found["rows"]
    assert not found["ok"] and row["rounding"] == row["differences"] > 0
    assert row["explained_by"]["rule"] == "ties away from zero" and row["explained_by"]["contradicted"] == 0
    first = row["first_difference"]
    assert first["kind"] == "rounding" and first["text"].count("codes (hex") == 1
    # the bits that the report shows: half a unit apart from the exact sum, ours even, theirs away from zero
    expected, actual = int(first["expected_bits"], 16), int(first["found_bits"], 16)
    dot = {name: np.array(values) for name, values in first["beats"].items()}
    dot["last"] = np.array([0] * (len(dot["a_scale"]) - 1) + [1])
    assert MX.reference(dot, MX.Params()) == expected and expected % 2 == 0 and actual == expected + 1
    wave = Path(row["waveform"])
    assert wave.parent == tmp_path and wave.suffix == ".vcd"
    assert "$enddefinitions" in wave.read_text() and " a_codes" in wave.read_text()


@pytest.mark.rtl
def test_the_command_exits_with_one_and_shows_the_difference(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["--top", "fp4_dot", "--map", str(EXAMPLE / "fp4_dot.yaml"), "--waves", str(tmp_path), "--quiet"]
    for files, params, code, said in (
        (BUG, "lanes=32,block=32", 1, "first difference (rounding): directed dot product"),
        (RIGHT, "lanes=32,block=16", 2, "b_scale: bit 8 of port 'scales' is mapped twice"),
        (RIGHT, "lanes=32,blok=32", 2, "'blok=32' is no FIELD=VALUE of mx_dot; fields: element, scale, block, lanes"),
    ):
        arguments = [*map(str, files), *common, "--vectors", "1200", "--engine", "bulk", "--params", params]
        monkeypatch.setattr(sys, "argv", ["hwsim", "check", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        assert stop.value.code == code and said in captured.out + captured.err
        assert "Traceback" not in captured.err
    monkeypatch.setattr(sys, "argv", ["hwsim", "check", *map(str, RIGHT), *common, "--vectors", "64", "--json"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0 and json.loads(capsys.readouterr().out)["ok"] is True


def ours(tmp_path: Path, **fields: Any) -> dict[str, Any]:
    """Return the arguments for one of our own units, given as Verilog."""
    from rtl.pe import component
    from rtl.sim.verilog import write_verilog

    (tmp_path / "map.yaml").write_text(OURS)
    verilog = write_verilog(component("mx_dot")(replace(SMALL, **fields)))
    return {"files": [verilog], "top": "top", "map_file": tmp_path / "map.yaml", "params_text": "lanes=4,block=8"}


@pytest.mark.rtl
def test_an_unknown_rule_is_found_and_its_differences_are_of_order(tmp_path: Path) -> None:
    unit = ours(tmp_path, accumulator={"kind": "sequential", "scales": "product"})
    found = check(waves=tmp_path, against="any", vectors=400, **unit)
    assert found["ok"] and found["rows"][0]["name"] == "sequential_fp32"
    assert found["rows"][0]["explained"] == 400 > found["rows"][1]["explained"]
    assert "exact" in {row["name"] for row in found["rows"]}
    (row,) = check(waves=tmp_path, vectors=1000, **unit)["rows"]
    assert row["order"] == row["differences"] > 0 and row["explained_by"]["rule"] == "sequential_fp32"
    named = check(waves=tmp_path, against="exact,aligned:24", vectors=600, **unit)
    assert not named["ok"] and [row["name"] for row in named["rows"]] == ["exact", "aligned:24"]
    assert all(row["explained"] < 600 and row["first_difference"] for row in named["rows"])


@pytest.mark.rtl
def test_the_fraction_bits_of_an_aligned_unit_are_found(tmp_path: Path) -> None:
    rule = {
        "kind": "aligned", "group": 4, "fraction_bits": 13, "rounding": "rtz", "overflow": "infinite",
        "scales": "product",
    }  # fmt: skip
    found = check(waves=tmp_path, against="any", vectors=400, engine="icarus", **ours(tmp_path, accumulator=rule))
    assert found["ok"] and found["rows"][0]["name"] == "aligned:13" and found["rows"][0]["explained"] == 400
    # 13 bits always fit the result: how it is rounded cannot be told
    full = [row["name"] for row in found["rows"] if row["explained"] == row["vectors"]]
    assert set(full) <= {"aligned:13", "aligned:13:rne:inside"}


def test_rules_and_params_that_there_are_not() -> None:
    for text in ("magic", "aligned", "aligned:x", "exact:rtz", "aligned:24:rtz:inside:more"):
        with pytest.raises(ValueError, match=f"unknown rule '{text}'; allowed: any, exact, sequential_fp32"):
            rules.parse_rule(text, SMALL)
    with pytest.raises(ValueError, match="rounding must be one of"):
        rules.parse_rule("aligned:24:up", SMALL)
    with pytest.raises(ValueError, match="this unit has one rule only"):
        rules.parse_rule("exact", pe.unit("int_mac").Params())
    found = read_params(MX, "lanes=8, a_element=float8_e4m3fn,accumulator.rounding=rtz,out_scale=true", MX.Params())
    assert (found.lanes, found.a_element, found.accumulator.rounding, found.out_scale) == (
        8, "float8_e4m3fn", "rtz", True,
    )  # fmt: skip
    for text, said in (("lanes", "no FIELD=VALUE"), ("lanes=4,lanes=8", "given twice"), ("lanes=x", "lanes must be")):
        with pytest.raises(ValueError, match=said):
            read_params(MX, text, MX.Params())


def test_folds_round_as_they_say() -> None:
    one, half = Fraction(1), Fraction(1, 1 << 24)  # half a unit in the last place of 1
    bits = {mode: rules.round_bits(one + half, mode) - 0x3F800000 for mode in ("rne", "rtz", "rdn", "rup", "rmm")}
    assert bits == {"rne": 0, "rtz": 0, "rdn": 0, "rup": 1, "rmm": 1}
    bits = {mode: rules.round_bits(-one - half, mode) - 0xBF800000 for mode in ("rne", "rtz", "rdn", "rup", "rmm")}
    assert bits == {"rne": 0, "rtz": 0, "rdn": 1, "rup": 0, "rmm": 1}
    assert rules.round_bits(Fraction(0), "rup") == 0
    assert rules.round_bits(Fraction(2) ** 128 - Fraction(2) ** 103, "rmm") == 0x7F800000
    terms = [one, half, half]
    found = {order: rules.fold(terms, [], "rne", order) for order in ("ascending", "descending", "pairwise", "whole")}
    assert {order: bits - 0x3F800000 for order, bits in found.items()} == {
        "ascending": 0, "descending": 1, "pairwise": 0, "whole": 1,
    }  # fmt: skip


def test_kinds_of_differences() -> None:
    rule, other = rules.suspects(SMALL)[:2]
    exact = Fraction(3)
    told = [
        (0x7FC00000, 0x7FC00001, None), (0, 0x80000000, Fraction(0)), (1, 0, exact), (0x40400000, 0x40400001, exact),
        (0x40400000, 0x40500000, exact), (0x40400000, 0xC0400000, exact),
    ]  # fmt: skip
    none = [False] * 6
    kinds, best = rules.classify(told, {rule: none, other: [*none[:4], True, False]}, {rule: 0, other: 0})
    assert kinds == ["special values"] * 3 + ["rounding", "order", "other"] and best is None
    every = [*none[:3], True, True, True]
    kinds, best = rules.classify(told, {rule: every, other: every}, {rule: 5, other: 0})
    assert kinds[3:] == [other.kind] * 3 and best is other


def test_dot_products_take_the_length_that_a_unit_has() -> None:
    spec = formats.block("mxfp4")
    rng = np.random.default_rng(0)
    x = formats.encode(rng.standard_normal((5, 96)).astype(np.float32), spec)
    cut = fitted(Batch(x, x, 96), 32, rng)
    assert cut.a.shape == (5, 32) and cut.a.scales.shape == (5, 1)
    for row in range(5):
        at = int(np.flatnonzero((x.codes[row].reshape(3, 32) == cut.a.codes[row]).all(axis=1))[0])
        assert cut.a.scales[row, 0] == x.scales[row, at] and (cut.a.codes[row] == cut.b.codes[row]).all()
    longer = fitted(Batch(x, x, 96), 128, rng)
    assert (longer.a.codes[:, :96] == x.codes).all() and not longer.a.codes[:, 96:].any()
    assert longer.a.scales.shape == (5, 4)


@pytest.mark.parametrize(
    ("params", "weight"),
    [
        (MX.Params(), "mxfp4"),
        (MX.Params(element="int4", scale="float8_e8m0fnu", a_element="float8_e5m2", block=16, lanes=16), "weights"),
        (MX.Params(element="float16", scale="none", lanes=4, block=8, accumulator={"kind": "exact"}), "weights"),
        (pe.unit("int_mac").Params(), "int8"),
    ],
    ids=["catalogue", "mixed", "float16", "int8"],
)
def test_operands_are_made_for_any_params(params: Any, weight: str) -> None:
    found, activation = operand_formats(pe.unit("int_mac" if weight == "int8" else "mx_dot"), params)
    assert found.name == weight
    assert (found.element.name, activation.element.name) == (params.datapath.b_element, params.datapath.a_element)

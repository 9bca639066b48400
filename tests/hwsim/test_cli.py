"""The shell's promises: one JSON document, one-line errors, exit codes, and no half-written files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwsim import cli, formats, pe


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; return (exit code, standard output, standard error)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["hwsim", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    captured = capsys.readouterr()
    code = stop.value.code
    assert isinstance(code, int)
    return code, captured.out, captured.err


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, _ = run(capsys, *arguments, "--json", *([] if "--quiet" in arguments else ["--quiet"]))
    assert code == 0
    return json.loads(out)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("formats", formats.names()),
        ("pe", pe.names()),
        ("models", ("smollm2", "minilm", "efficientnet_lite0")),
    ],
)
def test_lists_are_rows_with_names(capsys: pytest.CaptureFixture[str], command: str, names: tuple[str, ...]) -> None:
    assert [row["name"] for row in document(capsys, command)["rows"]] == list(names)


def test_one_format_prints_and_draws_its_code_points(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for ending, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        path = tmp_path / "new" / f"codes.{ending}"
        shown = document(capsys, "formats", "float4_e2m1fn", "--plot", str(path))
        assert shown["plot"] == str(path) and path.read_bytes().startswith(magic)
    assert [row["value"] for row in shown["rows"]][:8] == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert shown["rows"][9] == {"code": 9, "bits": "1001", "value": -0.5}
    assert [row["value"] for row in document(capsys, "formats", "float8_e4m3fn", "--plot", str(path))["rows"]][
        126:128
    ] == [
        448,
        None,
    ]
    assert sorted(p.name for p in path.parent.iterdir()) == ["codes.pdf", "codes.png", "codes.svg"]


def test_the_list_of_formats_says_where_each_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    for row in document(capsys, "formats")["rows"]:
        assert row["source"] and row["witnesses"][0] == "exact oracle", row["name"]
        assert row["bits_per_element"] > 0 and row["max_element"] > 0 and row["min_step"] > 0, row["name"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["formats", "--plot", "x.png"], "name it"),
        (["formats", "fp5"], "unknown format 'fp5'"),
        (["formats", "mxfp4", "--plot", "x.bmp2"], "bmp2"),
    ],
)
def test_a_drawing_that_cannot_be_made_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code != 0 and said in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_every_command_takes_the_common_options(capsys: pytest.CaptureFixture[str]) -> None:
    commands = (
        "demo", "formats", "pe", "models", "quantize", "simulate", "cosim", "faults", "check", "prove", "eval",
        "validate", "cache",
    )  # fmt: skip
    for command in commands:
        code, out, _ = run(capsys, command, "--help")
        assert code == 0
        for option in ("--json", "--seed", "--quiet"):
            assert option in out, (command, option)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bogus"], "No such command 'bogus'. Commands: formats, pe, models, quantize,"),
        (["formats", "--nope"], "No such option"),
        (["eval", "--model", "smollm2"], "Missing option '--format'"),
        (["eval", "--model", "smollm2", "--format", "fp5"], "unknown format 'fp5'; nearest: "),
        (["eval", "--model", "smollm2", "--format", "int8", "--pe", "mx_dot"], "units that do: int_mac"),
        (["eval", "--model", "smollm2", "--format", "int8", "--pe", "nope"], "unknown unit 'nope'; known: "),
        (["eval", "--model", "smollm2", "--format", "int8", "--method", "magic"], "unknown method 'magic'; known: rtn"),
        (["quantize", "--model", "no_such", "--format", "int8", "--out", "x.safetensors"], "smollm2"),
        (["quantize", "--model", "smollm2", "--format", "int8", "--out", "nowhere/x.safetensors"], "does not exist"),
        (["cosim", "--pe", "nope"], "unknown unit 'nope'; known: "),
        (["cosim", "--pe", "mx_dot", "--vectors", "0"], "--vectors"),
        (["cosim", "--pe", "mx_dot", "--vectors", "1000000000000"], "--vectors"),
        (["quantize", "--model", "smollm2", "--format", "int8", "--out", "."], "is a folder"),
        (["simulate", ".", "--machine", "mxfp4_os"], "is a folder"),
        (["cosim", "--pe", "mx_dot", "--vectors", "10000001"], "at most 10,000,000); take --engine bulk"),
        (["cosim"], "either a unit with '--pe' or a case with '--replay'"),
        (["cosim", "--pe", "mx_dot", "--params", "lanes=8,speed=3"], "'speed=3' is no FIELD=VALUE of mx_dot; fields: "),
        (["cosim", "--pe", "mx_dot", "--params", "lanes=7"], "block must be a multiple of lanes = 7"),
        (["cosim", "--pe", "hadamard", "--params", "lanes=x", "--engine", "bulk"], "lanes must be a power of two"),
        (["cosim", "--replay", "x.json", "--params", "lanes=8"], "a case with '--replay' has its own Params"),
        (["prove", "--pe", "nope"], "unknown unit 'nope'; known: "),
        (["prove", "--pe", "mx_dot", "--vectors", "0"], "--vectors"),
        (["prove", "--record", "."], "Is a directory: '.'"),
        (["cosim", "--replay", "nowhere.json"], "nowhere.json"),
        (["cosim", "--replay", "."], "Is a directory: '.'"),
        (["cosim", "--pe", "mx_dot", "--engine", "modelsim"], "auto, icarus, verilator"),
        (["cosim", "--pe", "mx_dot", "--bundle", "nowhere.safetensors"], "nowhere.safetensors: no such bundle"),
        (["simulate", "nowhere.safetensors", "--machine", "mxfp4_os"], "nowhere.safetensors: no such bundle"),
        (["cache", "burn"], "unknown action 'burn'; allowed: clear"),
    ],
)
def test_bad_input_is_one_line_and_not_zero(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("hwsim: error: ") and err.count("\n") == 1
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_evaluates_three_ways(capsys: pytest.CaptureFixture[str], network_folder: Path) -> None:
    row = document(capsys, "eval", "--model", str(network_folder), "--format", "int4_g128", "--tokens", "1024")
    assert row["name"] == "int4_g128" and row["pe"] == "int_mac" and row["tokens"] == 1024
    assert row["linear_layers"] == 15
    # the unit rounds otherwise than a float GEMM, which tips some of the next layer's activations onto another code
    assert row["float_ppl"] != row["fakequant_ppl"]
    assert row["datapath_ppl"] == pytest.approx(row["fakequant_ppl"], rel=5e-3)
    assert row["datapath_minus_fakequant_ppl"] == row["datapath_ppl"] - row["fakequant_ppl"]


def test_text_file_changes_the_result_and_its_hash(
    capsys: pytest.CaptureFixture[str], network_folder: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("abc " * 400, encoding="utf-8")
    arguments = ("eval", "--model", str(network_folder), "--format", "int8", "--tokens", "1024")
    default, given = document(capsys, *arguments), document(capsys, *arguments, "--text", str(text))
    assert default["text_sha256"] != given["text_sha256"]
    assert default["float_ppl"] != given["float_ppl"]


def test_short_text_says_how_long_it_is(
    capsys: pytest.CaptureFixture[str], network_folder: Path, tmp_path: Path
) -> None:
    text = tmp_path / "short.txt"
    text.write_text("too short", encoding="utf-8")
    code, _, err = run(
        capsys, "eval", "--model", str(network_folder), "--format", "int8", "--text", str(text), "--tokens", "1024"
    )
    assert code == 2 and "short.txt has 9 tokens, fewer than the 1024 asked for" in err


def test_a_network_by_shape_is_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    shell = ("simulate", "--workload", "llama-3-8b", "--machine", "bitmod_lossy", "--context", "256")
    report = document(capsys, *shell, "--phase", "decode", "--attention", "legacy")
    assert report["total_cycles"] == sum(row["cycles"] for row in report["rows"]) == 90099088
    assert (report["phase"], report["batch"], report["attention"]) == ("decode", 1, "legacy")
    for arguments, words in (
        (("simulate", "--machine", "ant"), "name either a bundle or a network with '--workload'"),
        (("simulate", "x.safetensors"), "name a machine with '--machine'"),
        ((*shell, "--rows", "5"), "'--rows' goes with a bundle"),
        (("simulate", "x.safetensors", "--machine", "int8_os", "--batch", "1"), "'--batch' goes with --workload"),
        ((*shell, "--phase", "train"), "phase must be one of prefill, decode, not 'train'"),
        ((*shell, "--attention", "old"), "attention must be one of legacy, corrected, not 'old'"),
        (("validate", "moon"), "nothing is validated under 'moon'; there is: cycles"),
    ):
        code, out, err = run(capsys, *arguments)
        assert code == 2 and not out and words in err and err.count("\n") == 1, err


def test_published_figures_are_held_against_ours(capsys: pytest.CaptureFixture[str]) -> None:
    rows = document(capsys, "validate", "cycles")["rows"]
    assert {row["holds"] for row in rows} == {True, None} and len({row["paper"] for row in rows}) == 4


def test_quantise_then_simulate(capsys: pytest.CaptureFixture[str], network_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "layers.safetensors"
    written = document(
        capsys, "quantize", "--model", str(network_folder), "--format", "nvfp4", "--out", str(file),
        "--layers", "*mlp*", "--rows", "4",
    )  # fmt: skip
    assert [row["k"] for row in written["rows"]] == [48, 48, 80] * 2
    assert written["left_alone"]["lm_head"] == "not in --layers"
    report = document(capsys, "simulate", str(file), "--machine", "nvfp4_os", "--rows", "10")
    assert report["cycles"] == sum(row["cycles"] for row in report["rows"]) > 0
    assert report["macs"] == 2 * 10 * 3 * 48 * 80
    assert report["energy_pj"] == pytest.approx(sum(row["energy_pj"] for row in report["rows"]))
    assert report["status"] in ("measured", "published", "estimated")


@pytest.mark.parametrize(("fmt", "machine"), [("float16", "float16_os"), ("mx9", "mx9_os")])
def test_machines_of_other_units_simulate_their_formats(
    capsys: pytest.CaptureFixture[str], network_folder: Path, tmp_path: Path, fmt: str, machine: str
) -> None:
    file = tmp_path / "layers.safetensors"
    document(
        capsys, "quantize", "--model", str(network_folder), "--format", fmt, "--out", str(file),
        "--layers", "*0.mlp.up*", "--rows", "4",
    )  # fmt: skip
    report = document(capsys, "simulate", str(file), "--machine", machine, "--rows", "10")
    assert report["macs"] == 10 * 48 * 80 and report["cycles"] > 0


def test_machine_refuses_another_units_format(capsys: pytest.CaptureFixture[str], bundle_file: Path) -> None:
    code, _, err = run(capsys, "simulate", str(bundle_file), "--machine", "int8_os")
    assert code == 2 and "does not take format mxfp4" in err
    code, _, err = run(capsys, "simulate", str(bundle_file), "--machine", "nvfp4_os")
    assert code == 2 and "does not take format mxfp4" in err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("clock_hz: 1000000000", "clock_hz: 1000000000\nturbo: 9"), "turbo"),
        (("clock_hz: 1000000000", "clock_hz: 1000000000\nclock_hz: 2"), "clock_hz"),
        (("clock_hz: 1000000000\n", ""), "clock_hz"),
        (("lanes: 32", "lanes: 7"), "lanes"),
        (("clock_hz: 1000000000", "clock_hz: 2020-99-99"), "is no YAML"),
    ],
    ids=["unknown", "duplicate", "missing", "bad params", "no date"],
)
def test_bad_machine_file_names_file_and_key(
    capsys: pytest.CaptureFixture[str], bundle_file: Path, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    import hwsim.arch.machine as machine

    source = (machine.FOLDER / "mxfp4_os.yaml").read_text(encoding="utf-8")
    assert change[0] in source
    file = tmp_path / "mine.yaml"
    file.write_text(source.replace(*change, 1), encoding="utf-8")
    code, _, err = run(capsys, "simulate", str(bundle_file), "--machine", str(file))
    assert code == 2 and err.count("\n") == 1
    assert "mine.yaml" in err and said in err


def test_nan_in_a_weight_names_the_layer_and_leaves_no_file(
    capsys: pytest.CaptureFixture[str], network_folder: Path, tmp_path: Path
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    shutil.copytree(network_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    out = tmp_path / "out"
    out.mkdir()
    code, _, err = run(
        capsys,
        "quantize",
        "--model",
        str(folder),
        "--format",
        "mxfp4",
        "--out",
        str(out / "x.safetensors"),
        "--rows",
        "0",
    )
    assert code == 2 and "model.layers.1.mlp.up_proj" in err and "[3, 5]" in err and "nan" in err
    assert list(out.iterdir()) == []


def test_network_whose_outputs_overflow_has_no_perplexity(
    capsys: pytest.CaptureFixture[str], network_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.evaluate.perplexity", lambda *arguments, **options: float("nan"))
    code, out, err = run(capsys, "eval", "--model", str(network_folder), "--format", "int8", "--tokens", "1024")
    assert (code, out) == (2, "")
    assert "float32, is not finite (nan)" in err


def test_missing_part_says_what_to_install(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "models.load", None)
    code, out, err = run(capsys, "eval", "--model", "smollm2", "--format", "int8", "--quiet")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "models.load" in err and "pip install 'hwsim[rtl,quant,models]'" in err


def test_document_without_a_finite_number_is_still_json(capsys: pytest.CaptureFixture[str]) -> None:
    cli._emit({"rows": [{"name": "x", "weight_sqnr_db": float("inf")}]}, True, {}, "", [])
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["rows"][0]["weight_sqnr_db"] is None


@pytest.mark.rtl
def test_cosim_takes_a_bundle_and_finds_no_difference(capsys: pytest.CaptureFixture[str], bundle_file: Path) -> None:
    rows = document(capsys, "cosim", "--pe", "mx_dot", "--bundle", str(bundle_file), "--vectors", "60", "--seed", "5")[
        "rows"
    ]
    assert len(rows) == 1
    row = rows[0]
    assert (row["vectors"], row["mismatches"], row["cycle_mismatches"], row["seed"]) == (60, 0, 0, 5)
    assert row["comparisons"] > 60 and row["macs"] >= 60 * 48 and row["layers"] == 15


@pytest.mark.rtl
def test_cosim_mismatch_exits_with_one_and_leaves_a_waveform(
    capsys: pytest.CaptureFixture[str], bundle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwsim.flow import operands

    honest = operands.from_bundle

    def planted(*arguments: Any) -> operands.Dots:
        dots = honest(*arguments)
        dots.expected[17] ^= 1
        return dots

    monkeypatch.setattr("hwsim.flow.cosim.from_bundle", planted)
    code, out, _ = run(
        capsys, "cosim", "--pe", "mx_dot", "--bundle", str(bundle_file), "--vectors", "30", "--waves", str(tmp_path),
        "--json", "--quiet",
    )  # fmt: skip
    assert code == 1
    row = json.loads(out)["rows"][0]
    assert row["mismatches"] >= 1 and row["cycle_mismatches"] == 0
    assert Path(row["waveform"]).stat().st_size > 0


@pytest.mark.rtl
def test_bulk_engine_counts_and_times_its_vectors(capsys: pytest.CaptureFixture[str], bundle_file: Path) -> None:
    command = ("cosim", "--pe", "vs_dot", "--engine", "bulk", "--vectors", "20000")
    rows = document(capsys, *command)["rows"]
    assert [row["name"] for row in rows] == ["int4_g16_vsq", "int8_g16_vsq"]
    for row in rows:
        assert (row["vectors"], row["mismatches"], row["cycle_mismatches"]) == (20000, 0, 0)
        assert row["comparisons"] > 40000 and row["vectors_per_s"] > 0 and row["replay"] is None
    assert {**rows[0], "vectors_per_s": 0} == {**document(capsys, *command)["rows"][0], "vectors_per_s": 0}
    on_layers = ("cosim", "--pe", "mx_dot", "--engine", "bulk", "--vectors", "20000", "--bundle", str(bundle_file))
    (row,) = document(capsys, *on_layers)["rows"]
    assert (row["vectors"], row["mismatches"], row["operands"], row["layers"]) == (20000, 0, "layers", 15)


@pytest.mark.rtl
def test_any_params_run_on_operands_of_their_own(capsys: pytest.CaptureFixture[str], bundle_file: Path) -> None:
    custom = ("cosim", "--pe", "mx_dot", "--params", "lanes=4,block=8,a_element=int8,accumulator.rounding=rtz")
    for engine, vectors in (("bulk", "30000"), ("icarus", "40")):
        (row,) = document(capsys, *custom, "--engine", engine, "--vectors", vectors)["rows"]
        assert (row["name"], row["vectors"], row["mismatches"], row["cycle_mismatches"]) == (
            "custom",
            int(vectors),
            0,
            0,
        )
        assert (row["params"]["lanes"], row["params"]["accumulator"]["rounding"]) == (4, "rtz")
    on_layers = ("cosim", "--pe", "mx_dot", "--params", "stages=2", "--vectors", "30", "--bundle", str(bundle_file))
    (row,) = document(capsys, *on_layers)["rows"]
    assert (row["name"], row["operands"], row["params"]["stages"], row["mismatches"]) == ("mxfp4", "layers", 2, 0)
    nested = ("cosim", "--pe", "hadamard_requant", "--params", "hadamard.signs_seed=3", "--vectors", "20")
    (row,) = document(capsys, *nested)["rows"]
    assert (row["params"]["hadamard"]["signs_seed"], row["mismatches"]) == (3, 0)


def test_units_are_listed_with_what_was_proven(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwsim.flow import proof_record

    monkeypatch.setattr(proof_record, "default_file", lambda: tmp_path / "proofs.json")
    record = proof_record.read_record()
    for sources, vectors in ((proof_record.sources_hash("vs_dot"), 70), ("other", 4)):
        record.add(proof_record.Proof("vs_dot", {"sources": sources}, "drawn", vectors, "bulk", 0, sources, ""))
    rows = {row["name"]: row for row in document(capsys, "pe")["rows"]}
    assert (rows["vs_dot"]["vectors_proven"], rows["vs_dot"]["vectors_stale"]) == (70, 4)
    assert (rows["mx_dot"]["vectors_proven"], rows["mx_dot"]["results_per_transaction"]) == (0, 1)
    assert rows["requant"]["results_per_transaction"] == pe.unit("requant").Params().datapath.results
    command = [sys.executable, "-c", "import sys, hwsim.flow.listings as l; l.unit_rows(); print(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"amaranth", "torch", "cocotb"} & set(loaded)


@pytest.mark.rtl
@pytest.mark.parametrize("engine", ["bulk", "icarus"])
def test_units_that_stream_vectors_draw_their_own(
    capsys: pytest.CaptureFixture[str], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwsim import pe

    names = [name for name in pe.names() if not hasattr(pe.unit(name), "params_for")][:1]
    for name in names:
        one = dict([next(iter(pe.unit(name).configurations().items()))])  # each is compiled
        monkeypatch.setattr(pe.unit(name), "configurations", lambda one=one: one)
        rows = document(capsys, "cosim", "--pe", name, "--engine", engine, "--vectors", "30")["rows"]
        assert [row["name"] for row in rows] == list(pe.unit(name).configurations())
        assert all((row["vectors"], row["mismatches"], row["cycle_mismatches"]) == (30, 0, 0) for row in rows)
        code, _, err = run(capsys, "cosim", "--pe", name, "--bundle", "x.safetensors")
        assert code == 2 and "takes no operands from a bundle" in err


@pytest.mark.rtl
def test_bulk_mismatch_leaves_a_case_that_runs_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwsim.pe import mx_dot

    honest = mx_dot.dots

    def planted(*arguments: Any) -> Any:
        bits = honest(*arguments)
        bits[0] ^= 1
        return bits

    monkeypatch.setattr(mx_dot, "dots", planted)
    code, out, _ = run(
        capsys, "cosim", "--pe", "mx_dot", "--engine", "bulk", "--vectors", "300", "--waves", str(tmp_path), "--json",
        "--quiet",
    )  # fmt: skip
    assert code == 1
    row = json.loads(out)["rows"][0]
    assert row["mismatches"] >= 2 and row["cycle_mismatches"] == 0
    assert "smallest case" in row["first_mismatch"] and Path(row["waveform"]).stat().st_size > 0
    for engine in ("bulk", "icarus"):
        code, out, _ = run(capsys, "cosim", "--replay", row["replay"], "--engine", engine, "--json", "--quiet")
        assert code == 1
        again = json.loads(out)["rows"][0]
        assert (again["vectors"], again["mismatches"], again["engine"]) == (1, 1, engine)
    assert run(capsys, "cosim", "--replay", row["replay"])[0] == 1  # as a table


def test_interrupt_has_its_usual_exit_code(network_folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "long.txt"  # far more work than is done before the signal comes, on any machine
    text.write_text("The quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 60_000)
    # as a shell's Ctrl-C: SIGINT once work is under way, which the first progress says
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "hwsim",
            "eval",
            "--model",
            str(network_folder),
            "--format",
            "mxfp4",
            "--text",
            str(text),
            "--tokens",
            "1000000",
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
        cwd=Path(cli.__file__).parent.parent,
    )
    assert process.stderr is not None
    started = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, started + err
    assert "Traceback" not in err
    assert "hwsim: error: interrupted" in err

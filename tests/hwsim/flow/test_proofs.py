"""Proofs in bulk: a million vectors a unit, 1e8 in the slow run; and the record that goes stale with the sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwsim import formats, pe
from hwsim.flow import proof_record, proofs
from hwsim.flow.params import operand_formats, read_params
from hwsim.flow.progress import Reporter
from hwsim.flow.proof_record import Proof, read_record, sources_hash, stripped, unit_sources
from hwsim.flow.proofs import PLAN, Job, Layer, jobs_of, layer_batches, layer_vectors, prove, real_layers, run_job

UNITS = (
    "mx_dot", "int_mac", "fp_fma", "bfp_dot", "vs_dot", "mx9_dot", "hadamard", "requant", "hadamard_requant",
)  # fmt: skip
MILLION = 1_000_000
QUIET = Reporter(quiet=True)


@pytest.fixture
def layers() -> list[Layer]:
    rng = np.random.default_rng(0)

    def drawn(rows: int, k: int) -> np.ndarray:
        return rng.standard_normal((rows, k)).astype(np.float32)

    return [Layer(f"layer{k}", drawn(20, k), drawn(30, k)) for k in (100, 256)]


def proof(unit: str = "mx_dot", vectors: int = 5, **changes: Any) -> Proof:
    given = {"params": {"lanes": 4}, "operands": "drawn", "engine": "bulk", "seed": 0, "netlist": "n"}
    return Proof(unit=unit, vectors=vectors, **{"sources": sources_hash(unit), **given, **changes})


@pytest.mark.rtl
@pytest.mark.parametrize("name", UNITS)
def test_a_million_vectors_of_every_unit(name: str, tmp_path: Path) -> None:
    unit: Any = pe.unit(name)
    params = read_params(unit, PLAN[name][0].params, unit.Params())
    counted: list[int] = []
    total = run_job(Job(name, params, "drawn", MILLION), 0, counted.append, waveform_dir=tmp_path)
    assert total.ok, total.first_mismatch
    assert sum(counted) == MILLION and total.vectors > MILLION * params.datapath.results


@pytest.mark.rtl
@pytest.mark.slow
@pytest.mark.parametrize("name", UNITS)
def test_a_hundred_million_vectors_of_every_unit(name: str, tmp_path: Path) -> None:
    rows = prove([name], read_record(tmp_path / "proofs.json"), waveform_dir=tmp_path, reporter=QUIET)
    assert {row["status"] for row in rows} == {"proven"}, rows
    assert sum(row["vectors"] for row in rows if row["operands"] in ("drawn", "layers")) >= 10**8


@pytest.mark.parametrize("name", UNITS)
def test_the_plan_shares_out_all_vectors(name: str) -> None:
    jobs = [job for bank in jobs_of(name, MILLION) for job in bank]
    counted = [job for job in jobs if job.operands in ("drawn", "layers")]
    assert abs(sum(job.vectors for job in counted) - MILLION) < len(counted)
    assert len({(str(job.params), job.operands) for job in jobs}) == len(jobs)
    assert ("layers" in {job.operands for job in jobs}) == (name not in ("hadamard", "hadamard_requant"))
    for job in counted:
        if hasattr(pe.unit(name), "params_for"):
            operand_formats(pe.unit(name), job.params)


@pytest.mark.rtl
def test_a_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: list[Layer]) -> None:
    monkeypatch.setattr(proofs, "real_layers", lambda: layers)
    monkeypatch.setattr(run_job, "__kwdefaults__", {**run_job.__kwdefaults__, "layers": lambda: layers})
    monkeypatch.setattr(proofs, "code_jobs", lambda name: [])
    one = {"bfp_dot": PLAN["bfp_dot"][:1]}
    monkeypatch.setattr(proofs, "PLAN", one)
    path = tmp_path / "proofs.json"

    def run(vectors: int, **options: Any) -> list[str]:
        rows = prove(["bfp_dot"], read_record(path), vectors=vectors, reporter=QUIET, waveform_dir=tmp_path, **options)
        return [row["status"] for row in rows]

    assert run(3000) == ["proven", "proven"]
    entries = json.loads(path.read_text())["proofs"]
    assert [(entry["operands"], entry["vectors"], entry["mismatches"]) for entry in entries] == [
        ("drawn", 1620, 0), ("layers", 180, 0),
    ]  # fmt: skip
    assert entries[0]["sources"] == sources_hash("bfp_dot") and len(entries[0]["netlist"]) == 32
    assert read_record(path).counts("bfp_dot") == (1800, 0)
    assert run(3000) == run(2000) == ["recorded", "recorded"]
    assert run(3000, anew=True) == run(4000) == run(4000, seed=1) == ["proven", "proven"]
    assert read_record(path).counts("bfp_dot") == (2400, 0)

    honest = pe.unit("bfp_dot").dots
    monkeypatch.setattr(pe.unit("bfp_dot"), "dots", lambda *arguments: honest(*arguments) ^ np.uint32(1))
    rows = prove(["bfp_dot"], read_record(path), vectors=5000, reporter=QUIET, layers=False, waveform_dir=tmp_path)
    assert [row["status"] for row in rows] == ["refuted"] and rows[0]["mismatches"] >= 3000
    assert "smallest case" in rows[0]["first_mismatch"]
    assert read_record(path).counts("bfp_dot") == (2400, 0)


def test_a_record_counts_as_long_as_the_sources_are_the_same(tmp_path: Path) -> None:
    record = read_record(tmp_path / "proofs.json")
    assert record.counts("mx_dot") == (0, 0)
    record.add(proof(vectors=100))
    record.add(proof(vectors=30, operands="layers", sources="0" * 32))
    record.add(proof("int_mac", 7))
    again = read_record(record.path)
    assert again.proofs == record.proofs
    assert (again.counts("mx_dot"), again.counts("int_mac"), again.counts("requant")) == ((100, 30), (7, 0), (0, 0))
    record.add(proof(vectors=40))  # in place of the first
    assert read_record(record.path).counts("mx_dot") == (40, 30)
    assert again.current(proof(vectors=100)) and again.current(proof(vectors=9))
    for change in ({"vectors": 101}, {"seed": 1}, {"netlist": "m"}, {"sources": "1"}, {"params": {"lanes": 8}}):
        assert not again.current(proof(**{"vectors": 100, **change})), change


def test_sources_are_what_a_unit_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set(unit_sources("mx_dot"))
    assert {"hwsim.pe.mx_dot", "hwsim.pe._dot", "hwsim.pe._accumulate_kernels", "hwsim.pe.accumulator"} <= names
    assert {"rtl.pe.mx_dot", "rtl.lib.elastic", "rtl.lib.block_dot", "rtl.lib.lane"} <= names
    assert not names & {"hwsim.pe.requant", "rtl.pe.requant", "rtl.lib.dyadic", "hwsim.pe.int_mac"}
    texts = {
        "hwsim.pe.u": '"""About."""\nfrom hwsim.pe import _part\n\n\ndef f():\n    """Do."""\n    return 1  # one\n',
        "rtl.pe.u": "import hwsim.pe.u\n",
        "hwsim.pe._part": "def g():\n    from rtl.lib.deep import h\n    return h\n",
        "rtl.lib.deep": "h = '#'\n",
        "rtl.lib.other": "x = 1\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(proof_record, "_modules", lambda: {name: tmp_path / name for name in texts})

    def changed(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        proof_record._parsed.cache_clear()
        return sources_hash("u")

    before = changed("rtl.lib.other", "x = 2\n")
    assert sorted(unit_sources("u")) == ["hwsim.pe._part", "hwsim.pe.u", "rtl.lib.deep", "rtl.pe.u"]
    assert changed("hwsim.pe.u", texts["hwsim.pe.u"].replace("# one", "# 1").replace("Do.", "Do so.")) == before
    assert changed("rtl.lib.deep", "h = '#1'\n") != before
    assert changed("rtl.lib.deep", texts["rtl.lib.deep"]) == before
    assert changed("hwsim.pe.u", texts["hwsim.pe.u"].replace("return 1", "return 2")) != before


def test_comments_and_docstrings_do_not_count() -> None:
    import ast

    text = '"""A."""\nx = "# no comment"  # one\n\n\ndef f():\n    """B\n\n    C."""\n    return """D"""\n'
    assert stripped(text, ast.parse(text)) == 'x = "# no comment"\ndef f():\n    return """D"""'


@pytest.mark.parametrize("text", ["[]", "{", '{"version": 2, "proofs": []}', '{"version": 1, "proofs": [{"unit": 1}]}'])
def test_a_file_that_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is no record of proofs"):
        read_record(tmp_path / "x.json")


def test_pieces_of_layers_are_operands(layers: list[Layer]) -> None:
    unit: Any = pe.unit("mx_dot")
    params = unit.Params(lanes=8, block=8)
    weight, activation = operand_formats(unit, params)
    batches = list(layer_batches(layers, weight, activation, 16, 20_000, 1))
    assert sum(batch.rows for batch in batches) == 20_000
    for batch, layer in zip(batches, [*layers, layers[0]], strict=False):
        whole = formats.encode(layer.x[:, : layer.x.shape[1] // 16 * 16], activation).codes.reshape(20, -1, 16)
        known = {piece.tobytes() for piece in whole.reshape(-1, 16)}
        assert {row.tobytes() for row in np.ascontiguousarray(batch.a.codes[:300])} <= known
        assert len({row.tobytes() for row in np.ascontiguousarray(batch.a.codes)}) > 100
    params = pe.unit("requant").Params(format="nvfp4")
    ((beats, fields),) = layer_vectors(pe.unit("requant"), params, layers, 50, 0)
    outputs = np.concatenate([(layer.x @ layer.w.T).reshape(-1) for layer in layers]).view(np.uint32)
    assert np.isin(beats["x"], outputs).all() and len(fields["codes"]) == 50 * params.datapath.results


@pytest.mark.slow
def test_layers_of_networks_have_real_inputs() -> None:
    found = real_layers()
    assert {layer.name.split(".")[0] for layer in found} == {"smollm2", "minilm"} and len(found) == 12
    for layer in found:
        assert layer.x.shape[0] == 64 and layer.x.shape[1] == layer.w.shape[1] and layer.x.std() > 0

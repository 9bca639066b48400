"""The chain end to end on a small network: every file it promises, and figures that hang together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwsim.flow import demo
from hwsim.flow.progress import Reporter
from hwsim.formats.bundle import read_bundle


@pytest.fixture(scope="module")
def outcome(network_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "LAYER_VECTORS", 28)
        patch.setattr(demo, "DIRECTED_VECTORS", 40)
        patch.setattr(demo, "FORMATS", ("int8", "nvfp4"))
        return demo.demo_command(str(network_folder), None, 1024, out, "icarus", 0, Reporter(quiet=True)), out


@pytest.mark.rtl
def test_rows_are_complete_and_confirmed(outcome: tuple[dict[str, Any], Path]) -> None:
    document, _ = outcome
    assert [row["name"] for row in document["rows"]] == ["int8", "nvfp4"]
    for row in document["rows"]:
        assert row["vectors"] == 68
        assert row["mismatches"] == row["cycle_mismatches"] == 0
        assert row["cycles"] > 0 and row["energy_pj"] > 0
        parts = [row[f"energy_{status}_pj"] for status in ("measured", "published", "estimated")]
        assert sum(parts) == pytest.approx(row["energy_pj"])
        assert row["status"] == ("estimated" if parts[2] else "published")
        assert row["datapath_ppl"] == pytest.approx(row["fakequant_ppl"], rel=5e-3)
    int8, nvfp4 = document["rows"]
    assert int8["weight_sqnr_db"] > nvfp4["weight_sqnr_db"] + 10
    assert abs(int8["datapath_ppl"] - int8["float_ppl"]) < abs(nvfp4["datapath_ppl"] - nvfp4["float_ppl"])


@pytest.mark.rtl
def test_files_hold_the_same_rows(outcome: tuple[dict[str, Any], Path]) -> None:
    import pandas as pd

    document, out = outcome
    assert json.loads((out / "results.json").read_text(encoding="utf-8")) == document
    frame = pd.read_parquet(out / "results.parquet")
    for column in ("name", "datapath_ppl", "cycles", "energy_pj", "status", "vectors", "config_sha256"):
        assert frame[column].tolist() == [row[column] for row in document["rows"]]
    for row in document["rows"]:
        bundle = read_bundle(out / f"{row['name']}.safetensors")
        assert len(bundle.layers) == 14 and bundle.meta["text_sha256"] == document["text_sha256"]
    assert not list(out.glob(".*"))


@pytest.mark.rtl
def test_report_is_one_file_that_needs_no_network(outcome: tuple[dict[str, Any], Path]) -> None:
    document, out = outcome
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script src=" not in page and "<link" not in page
    for row in document["rows"]:
        assert f"{row['datapath_ppl']:.4f}" in page
    assert document["weights_note"] in page

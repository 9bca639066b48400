"""Published figures against ours: every one that must agree does, and a wrong one is noticed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from hwsim.flow import validate
from hwsim.flow.workloads import simulate_workload


def test_all_that_must_agree_agrees() -> None:
    rows = validate.validate_cycles()
    assert Counter(row["agreement"] for row in rows) == {"exact": 32, "printed": 4, "information": 3}
    assert all(row["difference"] == 0 for row in rows if row["agreement"] == "exact")
    assert all(row["holds"] for row in rows if row["agreement"] != "information")
    assert all(row["holds"] is None for row in rows if row["agreement"] == "information")


def test_a_figure_that_differs_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (validate.FOLDER / "cycles.yaml").read_text()
    (tmp_path / "cycles.yaml").write_text(text.replace("10175", "10176").replace("1891.827433", "1891.827434"))
    monkeypatch.setattr(validate, "FOLDER", tmp_path)
    broken = [row["entry"] for row in validate.validate_cycles() if row["holds"] is False]
    assert broken == ["gemm:256x128x256 prefill scale_sim_32x32_os", "bert-base prefill fusemax context 1048576"]


def test_totals_are_sums_and_no_less_than_the_bound() -> None:
    for phase in ("prefill", "decode"):
        found = simulate_workload("yi-6b", "bitmod_lossy", phase=phase, context=64, batch=2)
        for total, part in (("total_cycles", "cycles"), ("macs", "macs"), ("dram_bytes", "dram_bytes")):
            assert found[total] == sum(row[part] for row in found["rows"])
        assert found["total_cycles"] >= found["least_cycles"] > 0 and 0 < found["utilisation"] <= 1
        assert set(found["energy_pj"]) == {"array", "dram"} and found["energy_status"] == "published"
    assert simulate_workload("gemm:8x8x8", "tpu_like")["energy_pj"] is None


def test_dram_energy_is_the_published_one() -> None:
    """BitMoD's energies of Llama-2-7B, total less on-chip, in microjoules (energy_plot.ipynb)."""
    from hwsim.arch.conventions import Options

    for machine, phase, published in (
        ("fp16_baseline", "prefill", 15511220 - 2928682), ("ant", "prefill", 7426912 - 2035862),
        ("bitmod_lossy", "decode", 434198 - 52631), ("olive", "decode", 582192 - 115455),
    ):  # fmt: skip
        found = simulate_workload("llama-2-7b", machine, phase=phase, context=256, options=Options(attention="legacy"))
        assert found["energy_pj"]["dram"] * 1e-6 == pytest.approx(published, abs=1)

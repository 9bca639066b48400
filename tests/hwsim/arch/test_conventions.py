"""Rules of publications against figures worked out by hand, and against properties that any count must have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hwsim.arch.conventions import FOLDER, Options, conventions, load_published, published_names
from hwsim.arch.conventions.bit_fusion import products_per_cycle
from hwsim.arch.conventions.fusemax import row_cycles
from hwsim.arch.workload import Attention, MatMul, Workload
from hwsim.yaml_file import ConfigError

ONE = MatMul("one", m=5, n=70, k=9)


def workload(*operations: MatMul | Attention, phase: str = "prefill") -> Workload:
    return Workload("by hand", phase, 8, 1, operations, "by hand")


def test_every_machine_loads_and_names_its_source() -> None:
    for name in published_names():
        machine = load_published(name)
        assert (
            machine.spec.name == name
            and machine.spec.source
            and machine.convention is conventions()[machine.spec.timing]
        )


def test_bitmod_by_hand() -> None:
    (layer,) = load_published("bitmod_lossy").run(workload(ONE))
    # ceil(9/4) * ceil(70/32) * ceil(5/32) tiles of 2 terms
    assert layer.compute_cycles == 3 * 3 * 1 * 2
    # rows of 9 weights of 4.0625 bits take 5 bytes, of 9 inputs 18, of 70 outputs 140
    assert layer.dram_bytes == 70 * 5 + 5 * 18 + 5 * 140
    assert layer.dram_cycles == layer.dram_bytes * 8 // 256 == 35 and layer.cycles == 35
    (decode,) = load_published("bitmod_lossless").run(workload(ONE, phase="decode"))
    assert decode.compute_cycles == 3 * 2 * 1 * 3  # 64 x 16, three terms
    (plain,) = load_published("fp16_baseline").run(workload(replace(ONE, groups=2, repeat=3)))
    assert plain.compute_cycles == 9 * 3 * 1 * 2 * 3 and plain.macs == 5 * 70 * 9 * 6


def test_bitmod_reads_again_what_fits_no_buffer() -> None:
    big = MatMul("big", m=1024, n=1024, k=1024)  # 2 MiB of inputs, weights and outputs each, at 16 bits
    (layer,) = load_published("fp16_baseline").run(workload(big))
    assert layer.dram_bytes == (2 * 4 + 2 + 2) << 20
    # at the least each operand moves once: 6 MiB at 32 bytes a cycle, and 2**30 products on 768 units
    assert layer.least_cycles == max((6 << 20) // 32, -(-(1 << 30) // 768))
    slow = load_published("bitmod_lossy").run(workload(MatMul("one row", m=1, n=1 << 16, k=1 << 14)))[0]
    assert slow.least_cycles == slow.dram_bytes // 32  # inputs fit: nothing is read twice
    (fits,) = load_published("fp16_baseline").run(workload(replace(big, m=256)))
    assert fits.dram_bytes == (2 << 20) + 2 * (512 << 10)


def test_bitmod_attention_has_two_sets_of_shapes() -> None:
    attention = Attention("attention", heads=4, kv_heads=2, head_dim=8, queries=6, keys=6)
    machine = load_published("bitmod_lossy")
    qk, av = machine.run(workload(attention))
    assert qk.macs == av.macs == 4 * 8 * 6 * 6
    assert (
        qk.compute_cycles == 2 * 2 * 1 * 1 * 4
    )  # two key-value heads, ceil(8/4), one tile, keys of 8 bits: four terms
    qk, av = machine.run(workload(attention), Options(attention="legacy"))
    assert qk.macs == 24 * 6 * 32 and av.macs == 6 * 24 * 6
    assert qk.compute_cycles == 8 * 1 * 1 * 2


@pytest.mark.parametrize(
    ("dataflow", "folds", "fold"), [("os", 1 * 3, 9 + 62), ("ws", 1 * 3, 5 + 94), ("is", 1, 70 + 94)]
)
def test_scale_sim_by_hand(dataflow: str, folds: int, fold: int) -> None:
    (layer,) = load_published(f"scale_sim_32x32_{dataflow}").run(workload(ONE))
    assert layer.cycles == folds * fold - 1


def test_fusemax_counts_whole_rows() -> None:
    assert row_cycles(64, 64, 1) == 129 + 73  # 1 + F + F/1 is the longer side
    assert row_cycles(128, 64, 2) == 2 * 129 + 2 * 73
    assert 3 * 138 + 3 * 73 > row_cycles(64, 64, 3) > 3 * (65 + 73)  # a third of 64 is no whole number


def test_bit_fusion_fuses_bricks() -> None:
    assert [products_per_cycle(a, w) for a, w in ((8, 8), (4, 8), (2, 2), (1, 1), (16, 16), (8, 16))] == [
        1, 2, 16, 16, 0.25, 0.5
    ]  # fmt: skip
    (layer,) = load_published("bitfusion").run(workload(ONE), Options(weight_bits=2))
    assert layer.compute_cycles == 5 * 3 * 1  # ceil(70/32), ceil(9 / (16 * 4))


@pytest.mark.parametrize("name", published_names())
def test_counts_are_whole_and_grow_with_the_work(name: str) -> None:
    machine = load_published(name)
    options = Options(weight_bits=4.0) if machine.spec.timing in ("bitmod", "bit_fusion") else Options()
    base = Attention("a", 4, 2, 64, 256, 256) if machine.spec.timing == "fusemax" else ONE
    layers = machine.run(workload(base), options)
    more = machine.run(workload(replace(base, repeat=5)), options)
    for one, five in zip(layers, more, strict=True):
        counts = (one.cycles, one.compute_cycles, one.dram_cycles, one.dram_bytes, one.macs)
        assert all(isinstance(count, int) and count >= 0 for count in counts)
        assert one.cycles >= max(one.compute_cycles, one.dram_cycles)
        assert five.cycles == 5 * one.cycles and five.macs == 5 * one.macs
        assert one.macs <= one.peak_macs_per_cycle * one.least_cycles and 0 < one.least_cycles <= one.cycles


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("dram_bits_per_cycle", "0", "dram_bits_per_cycle: .*greater than 0"),
        ("kv_bits", "8\nkv_bitz: 8", "kv_bitz: unknown key; allowed: "),
        ("kv_bits", "8\nkv_bits: 8", "duplicate key"),
        ("timing", "bitmud", "timing: must be one of bit_fusion, bitmod, fusemax, scale_sim, not 'bitmud'"),
        ("timing", "[bitmod]", "timing: must be one of"),
        ("activation_bits", "16.5", "activation_bits: "),
    ],
)
def test_a_wrong_file_names_the_key(tmp_path: Path, field: str, value: str, words: str) -> None:
    lines = (FOLDER / "bitmod_lossy.yaml").read_text().splitlines()
    changed = [f"{field}: {value}" if line.startswith(f"{field}:") else line for line in lines]
    assert changed != lines
    file = tmp_path / "machine.yaml"
    file.write_text("\n".join(changed))
    with pytest.raises(ConfigError, match=words):
        load_published(file)
    file.write_text("\n".join(line for line in lines if not line.startswith("timing")))
    with pytest.raises(ConfigError, match="timing: missing key"):
        load_published(file)


def test_what_a_rule_does_not_cover_is_refused() -> None:
    attention = Attention("attention", 4, 2, 64, 256, 256)
    for name in ("scale_sim_32x32_os", "bitfusion"):
        with pytest.raises(ValueError, match=f"machine {name}.*attention is not covered"):
            load_published(name).run(workload(attention))
    with pytest.raises(ValueError, match="there is no attention"):
        load_published("fusemax").run(workload(ONE))
    with pytest.raises(ValueError, match="queries must be a multiple of the tile of 256, not 100"):
        load_published("fusemax").run(workload(replace(attention, queries=100)))
    with pytest.raises(ValueError, match=r"in decode for opt-1\.3b, .* only; give weight_bits"):
        load_published("ant").run(workload(ONE, phase="decode"))
    with pytest.raises(ValueError, match="weight_bits must be 1, 2, 4, 8 or 16, not 3"):
        load_published("bitfusion").run(workload(ONE), Options(weight_bits=3))
    for name, options, field in (
        ("scale_sim_32x32_os", Options(weight_bits=4), "weight_bits"), ("fusemax", Options("legacy"), "attention"),
        ("tpu_like", Options("legacy"), "attention"), ("fusemax", Options(weight_bits=4), "weight_bits"),
        ("bitfusion", Options("legacy"), "attention"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"machine {name}.*the rule has no use for {field}"):
            load_published(name).run(workload(attention), options)
    with pytest.raises(ValueError, match="attention must be one of legacy, corrected, not 'old'"):
        Options(attention="old")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weight_bits must be 1 to 64, not 0"):
        Options(weight_bits=0)
    with pytest.raises(ConfigError, match="unknown published machine 'none'; known: ant, "):
        load_published("none")


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="layer 'x': n must be a positive integer, not 0"):
        MatMul("x", 1, 0, 1)
    with pytest.raises(ValueError, match="kv_heads must divide heads = 4, not 3"):
        Attention("x", 4, 3, 8, 1, 1)

"""What a layer costs, worked by hand: the figures that reports rest on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwsim import pe
from hwsim.arch import load_machine
from hwsim.arch.simulate import simulate
from hwsim.cost import load_table
from hwsim.flow.simulate import check_machine_takes, gemm_shape, machine_for, simulate_file
from hwsim.formats import encode
from hwsim.formats.bundle import Bundle, Layer, write_bundle

M, N, K = 40, 24, 256


def with_machine() -> list[str]:
    """Return the formats for which a machine is shipped."""

    def shipped(fmt: str) -> bool:
        try:
            machine_for(fmt)
        except ValueError as error:
            assert f"no shipped machine takes format {fmt}" in str(error)
            return False
        return True

    return [fmt for fmt in pe.formats() if shipped(fmt)]


def test_every_format_of_these_units_has_a_machine() -> None:
    units = {"int_mac", "mx_dot", "fp_fma", "vs_dot", "bfp_dot", "mx9_dot"}
    assert {fmt for fmt in pe.formats() if pe.unit_for(fmt)[0].NAME in units} <= set(with_machine())


@pytest.mark.parametrize("fmt", with_machine())
def test_a_bundle_runs_on_its_machine(fmt: str, tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(size=(24, 256)).astype(np.float32)
    file = tmp_path / "layer.safetensors"
    write_bundle(file, Bundle((Layer("layer", 250, encode(weights, fmt)),)))
    report = simulate_file(file, machine_for(fmt), 40)
    (row,) = report["rows"]
    assert report["macs"] == row["macs"] == 40 * 24 * 250
    assert report["energy_pj"] == pytest.approx(sum(part["energy_pj"] for part in report["energy_parts"]))
    assert report["status"] == "estimated"  # writes to SRAM are, on every machine
    products = [
        part for part in report["energy_parts"] if part["action"].startswith("mul_") and part["count"] == report["macs"]
    ]
    assert len(products) == 1 and products[0]["energy_pj"] > 0


@pytest.mark.parametrize("fmt", ["mx9", "mxfp4", "nf4_bs64"])
def test_a_machine_says_which_format_its_unit_does_not_take(fmt: str) -> None:
    with pytest.raises(ValueError, match="(?s)int_mac.*does not take format " + fmt):
        check_machine_takes(load_machine("int8_os"), fmt)


def test_an_array_whose_operands_are_wider_than_its_ports_waits_for_them() -> None:
    shape = gemm_shape("layer", 512, 512, 4096, 4096, "int16")
    (layer,) = simulate([shape], load_machine("int16_os")).layers
    # 512 / 8 bands of columns read all of A (16 bits an element and a scale a row) through 4608 bits a cycle
    assert layer.sram_cycles == -(-64 * 512 * (4096 * 16 + 32) // 4608) > layer.compute_cycles


@pytest.mark.parametrize("fmt", with_machine())
def test_the_unit_that_is_confirmed_is_the_unit_that_is_timed(fmt: str) -> None:
    machine = load_machine(machine_for(fmt))
    unit, params = pe.unit_for(fmt)
    assert (machine.unit.NAME, machine.params) == (unit.NAME, params)


@pytest.mark.parametrize(
    ("fmt", "weight_bits", "act_bits"),
    [
        ("int8", N * (K * 8 + 32), M * (K * 8 + 32)),
        ("int4_g128", N * (K * 4 + 2 * 16), M * (K * 8 + 32)),
        ("int4_g128_asym", N * (K * 4 + 2 * (16 + 4)), M * (K * 8 + 32)),
        ("mxfp4", N * (K * 4 + 8 * 8), M * (K * 4 + 8 * 8)),
        ("nvfp4", N * (K * 4 + 16 * 8) + 32, M * (K * 4 + 16 * 8) + 32),
    ],
)
def test_stored_bits(fmt: str, weight_bits: int, act_bits: int) -> None:
    shape = gemm_shape("layer", M, N, K - 7, K, fmt)
    assert (shape.weight_bits, shape.act_bits, shape.out_bits) == (weight_bits, act_bits, M * N * 32)
    assert (shape.k, shape.k_stored) == (K - 7, K)


@pytest.mark.parametrize(
    ("fmt", "expected"),
    [
        ("int8", {"mul_int8_int8": 245760, "add_int32": 245760, "add_float32": 960, "mul_float32": 1920}),
        (
            "int4_g128",
            {
                "mul_int4_int8": 245760,
                "add_int32": 245760,
                "mul_int32_float16": 1920,
                "add_float32": 1920,
                "mul_float32": 960,
            },
        ),
        (
            "int4_g128_asym",
            {
                "mul_int4_int8": 245760,
                "add_int32": 245760 + 245760 + 1920,
                "mul_int32_uint4": 1920,
                "mul_int32_float16": 1920,
                "add_float32": 1920,
                "mul_float32": 960,
            },
        ),
        (
            "mxfp4",
            {
                "mul_e2m1_e2m1": 245760,
                "add_int32": 245760,
                "mul_block_scale_e8m0": 7680,
                "add_float32": 7680,
                "mul_float32": 0,
            },
        ),
        (
            "nvfp4",
            {
                "mul_e2m1_e2m1": 245760,
                "add_int32": 245760,
                "mul_block_scale_e4m3": 15360,
                "add_float32": 15360,
                "mul_float32": 1920,
            },
        ),
    ],
)
def test_actions_of_units(fmt: str, expected: dict[str, int]) -> None:
    unit, params = pe.unit_for(fmt)
    assert unit.actions(M, N, K, params) == expected


def test_buffers_are_read_once_a_band_of_the_array() -> None:
    # 16 rows x 8 columns: all of A streams past each of ceil(36 / 8) = 5 bands of columns, all of B past each of
    # ceil(40 / 16) = 3 bands of rows
    machine = load_machine("mxfp4_os")
    assert (machine.spec.array.rows, machine.spec.array.cols) == (16, 8)
    (layer,) = simulate([gemm_shape("layer", 40, 36, K, K, "mxfp4")], machine).layers
    a_bits, b_bits = 40 * (K * 4 + 64), 36 * (K * 4 + 64)
    assert layer.sram_read_bits == {"act": 5 * a_bits, "weight": 3 * b_bits, "out": 40 * 36 * 32}
    assert layer.sram_write_bits == {"act": a_bits, "weight": b_bits, "out": 40 * 36 * 32}
    assert layer.dram_bits == {"act": a_bits, "weight": b_bits, "out": 40 * 36 * 32}


@pytest.mark.parametrize(
    ("action", "energy_pj"),
    [
        ("mul_int8_int8", 0.2),
        ("mul_int4_int8", 0.2),
        ("mul_e2m1_e2m1", 0.2),
        ("add_int32", 0.1),
        ("add_float32", 0.9),
        ("mul_float32", 3.7),
        ("mul_int32_uint4", 3.1),
        ("mul_int32_float16", 3.1 + 0.03),
        ("mul_block_scale_e8m0", 2 * 0.03),
        ("mul_block_scale_e4m3", 3 * 0.2 + 0.1 + 2 * 0.03),
        ("sram_read_64b_32768", 20.0),
        ("sram_write_64b_1048576", 100.0),
        ("dram_bit_lpddr4", 8.0),
    ],
)
def test_energies_behind_the_shipped_machines(action: str, energy_pj: float) -> None:
    assert load_table("mapped_45nm").cost(action).value_pj == pytest.approx(energy_pj)

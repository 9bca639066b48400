"""What a layer costs, worked by hand: the figures that reports rest on."""

from __future__ import annotations

import pytest

from hwsim import pe
from hwsim.arch import load_machine
from hwsim.arch.simulate import simulate
from hwsim.cost import load_table
from hwsim.flow.simulate import gemm_shape, machine_for

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


def test_the_formats_of_the_demo_have_machines() -> None:
    assert {"int8", "int4_g128", "int4_g128_asym", "mxfp4", "nvfp4"} <= set(with_machine())


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

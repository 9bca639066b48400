"""Bits of weights that gate activations: bits and cycles of `unpu` in hardware."""

from __future__ import annotations

from typing import Any

import pytest

from hwsim import pe
from rtl.sim.bulk_pairs import check_all_pairs
from tests.rtl.pe.serial_bench import FORMATS, campaign, check_bits_and_cycles, check_gemm, stream

pytestmark = pytest.mark.rtl

NAME = "unpu"
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "int8": {"lanes": 4},
    "zero points": {"lanes": 3, "weight": "uint4", "block": 6, "zero_point": True, "adder_tree": "carry_save"},
    "odd widths": {"lanes": 5, "weight": "int3", "activation": "int16"},
}  # fmt: skip


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_bits_and_cycles_equal_the_model(configuration: str) -> None:
    check_bits_and_cycles(NAME, CONFIGURATIONS[configuration])


def test_every_weight_by_every_activation() -> None:
    result = check_all_pairs(NAME, pe.unit(NAME).Params(lanes=1, block=1))
    assert result.ok and result.vectors == 1 << 16, result


def test_a_gemm_takes_the_cycles_that_the_model_counts() -> None:
    check_gemm(NAME, "int8", 4)


def test_many_vectors() -> None:
    result = stream(NAME, "int4_g128_asym", 4, 10_000)
    assert result.ok and result.vectors >= 20_000, result


@pytest.mark.slow
@pytest.mark.parametrize("fmt", FORMATS)
def test_millions_of_vectors(fmt: str) -> None:
    result = stream(NAME, fmt, 16, 1_000_000)
    assert result.ok and result.vectors >= 1_000_000, result
    print(NAME, fmt, result)


@pytest.mark.slow
def test_fault_campaign() -> None:
    report = campaign(NAME, "int4_g128")
    assert report.faults >= 100 and len(report.survivors) <= 15

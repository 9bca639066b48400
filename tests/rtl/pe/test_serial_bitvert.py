"""`bitvert` in hardware: whole and pruned weights, every pattern of a column, every code of a group's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwsim.pe import bitvert, int_mac
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.bulk_pairs import check_all_pairs
from tests.rtl import oracle
from tests.rtl.pe.serial_bench import SHORT, Dots, campaign, check_in_both, draw, stream

pytestmark = pytest.mark.rtl

WHOLE: dict[str, dict[str, Any]] = {
    "16 lanes": {},
    "zero points": {"lanes": 3, "weight": "uint4", "block": 6, "zero_point": True, "sub_group": 2},
    "odd sub-groups": {"lanes": 11, "sub_group": 5, "weight": "int4", "activation": "int4", "adder_tree": "carry_save"},
}
PRUNED: dict[str, dict[str, Any]] = {
    "4 columns": {"weight": "int4", "pruned": 4},
    "6 columns": {"lanes": 4, "weight": "int6", "pruned": 2, "sub_group": 3, "adder_tree": "carry_save"},
}
FORMATS = ("bbs_cons_g16", "bbs_mod_g32", "int8", "int4_g128", "int4_g128_asym")
ONE = np.float32(1).view(np.uint32)


def draw_pruned(params: bitvert.Params, count: int, seed: int) -> Dots:
    """Return dot products with numbers of groups, a third of them at their ends."""
    stored = int_mac.Params(params.weight, params.lanes, activation=params.activation)
    rng, found = np.random.default_rng(seed), []
    for number, dot in enumerate(draw(stored, count, seed)):
        beats = len(dot["last"])
        dot["b_redundant"] = rng.integers(0, min(3, params.pruned) + 1, beats)
        dot["b_constant"] = rng.choice([31, 32, 0, 63], beats) if number % 3 == 0 else rng.integers(0, 64, beats)
        found.append(dot)
    return found


def integer(code: int, bits: int) -> int:
    return code - (1 << bits) if code >> (bits - 1) else code


def whole_beats(dot: dict[str, Any], params: bitvert.Params) -> dict[str, Any]:
    """Return the beats with weights as the 9-bit integers that they stand for."""
    bits, found = int(params.weight[3:]), []
    for codes, redundant, constant in zip(dot["b"], dot["b_redundant"], dot["b_constant"], strict=True):
        step = 2 ** (params.pruned - int(redundant))
        found.append([(integer(int(code), bits) * step + integer(int(constant), 6)) % 512 for code in codes])
    return {**dot, "b": np.array(found)}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_weights(name: str) -> None:
    params = bitvert.Params(**WHOLE[name])
    dots = draw(params, 120, len(name))
    expected = [oracle.block_dot(dot, params.datapath) for dot in dots]
    assert expected == [bitvert.reference(dot, params) for dot in dots]
    check_in_both("bitvert", params, dots, expected)


@pytest.mark.parametrize("name", PRUNED)
def test_pruned_weights(name: str) -> None:
    params = bitvert.Params(**PRUNED[name])
    plain = int_mac.Params("int9", params.lanes, activation=params.activation).datapath
    dots = draw_pruned(params, 120, len(name))
    expected = [oracle.block_dot(whole_beats(dot, params), plain) for dot in dots]
    assert expected == [bitvert.reference(dot, params) for dot in dots]
    check_in_both("bitvert", params, dots, expected)


def single_beats(**fields: Any) -> dict[str, Any]:
    """Return dot products of one beat each, scales of one."""
    count = len(fields["b"])
    ones = np.full(count, ONE)
    return {**fields, "a_out": ones, "b_out": ones, "last": np.ones(count, np.uint8)}


def test_every_pattern_of_two_columns() -> None:
    """All weights of two columns in the eight lanes; activations of one bit each tell which were added."""
    params = bitvert.Params("int2", 8)
    numbers = np.arange(1 << 16)
    codes = numbers[:, None] >> 2 * np.arange(8) & 3
    a = np.tile(np.array([1, 2, 4, 8, 16, 32, 64, 128], np.uint8), (len(numbers), 1))
    sums = (np.where(codes > 1, codes - 4, codes) * np.array([1, 2, 4, 8, 16, 32, 64, -128])).sum(axis=1)
    bulk = BulkCosim("bitvert", params, seed=1)
    bulk.check(single_beats(a=a, b=codes.astype(np.uint8)), sums.astype(np.float32).view(np.uint32))
    assert bulk.total.ok, bulk.total


@pytest.mark.parametrize(
    ("activation", "pruned"), [("int4", 4), ("int2", 2), pytest.param("int8", 4, marks=pytest.mark.slow)]
)
def test_every_code_under_every_number(activation: str, pruned: int) -> None:
    """One lane: weight, activation, redundant columns and constant counted through."""
    columns, bits = 8 - pruned, int(activation[3:])
    params = bitvert.Params(f"int{columns}", 1, activation=activation, pruned=pruned)
    shape = (1 << bits, 1 << columns, min(pruned, 3) + 1, 64)
    a, b, redundant, constant = (part.reshape(-1) for part in np.indices(shape))
    stored, added = (
        np.where(part >= half, part - 2 * half, part) for part, half in ((b, shape[1] // 2), (constant, 32))
    )
    sums = np.where(a >= shape[0] // 2, a - shape[0], a) * (stored * 2 ** (pruned - redundant) + added)
    bulk = BulkCosim("bitvert", params, seed=1)
    beats = single_beats(a=a[:, None], b=b[:, None], b_redundant=redundant, b_constant=constant)
    bulk.check(beats, sums.astype(np.float32).view(np.uint32))
    assert bulk.total.ok, bulk.total
    assert bulk.total.vectors >= np.prod(shape)


def test_all_pairs_of_codes() -> None:
    result = check_all_pairs("bitvert", bitvert.Params(lanes=2, block=2))
    assert result.ok, result
    assert result.macs == 2 * 2 << 16


@pytest.mark.parametrize("fmt", FORMATS[:2])
def test_many_dot_products(fmt: str) -> None:
    total = stream("bitvert", fmt, 16, 30_000)
    assert total.ok, total
    assert total.vectors > 30_000


@pytest.mark.slow
@pytest.mark.parametrize("fmt", FORMATS)
def test_millions_of_dot_products(fmt: str) -> None:
    total = stream("bitvert", fmt, 16, 2_000_000)
    assert total.ok, total
    print(fmt, total)


@pytest.mark.slow
@pytest.mark.parametrize("fmt", ["bbs_mod_g16", "int8"])
def test_planted_faults_are_found(fmt: str) -> None:
    report = campaign("bitvert", fmt, 4, effort=SHORT)
    assert report.faults >= 100
    assert len(report.caught) + len(report.harmless) >= 70

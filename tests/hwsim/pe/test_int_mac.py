"""`int_mac`: Params, and sums that only integers hold."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from hwsim.formats import Encoded, element, get
from hwsim.pe import int_mac, unit_for
from tests.hwsim.pe import oracle


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weight": "uint2"}, "weight must be int2 to int16 or uint4, not 'uint2'"),
        ({"zero_point": True}, "zero_point goes with weight uint4"),
        ({"weight": "uint4", "block": 128}, "zero_point goes with weight uint4"),
        ({"weight": "uint4", "zero_point": True}, "block must not be 0"),
        ({"lanes": 0}, "lanes must be a positive integer, not 0"),
        ({"lanes": 2.0}, "lanes must be a positive integer, not 2.0"),
        ({"lanes": 1000}, "lanes.*256.*1000"),
        ({"block": 24}, "multiple of lanes = 32, not 24"),
        ({"block": -16}, "multiple of lanes = 32, not -16"),
        ({"block": 1 << 18}, "int_mac.*block"),  # its sum would not fit 32 bits
    ],
    ids=str,
)
def test_bad_params_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        int_mac.Params(**fields)


def test_params_are_frozen_and_hash_by_value() -> None:
    params = int_mac.Params("int4", 16, 128)
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.lanes = 4  # type: ignore[misc]
    assert {params: 1}[int_mac.Params("int4", 16, 128)] == 1


def int8(codes: np.ndarray, scale: int = 0x3F800000) -> Encoded:
    """Return int8 codes with one scale code for all rows."""
    return Encoded.of(get("int8"), codes=codes.astype(np.uint8), scales=np.full((len(codes), 1), scale, np.uint32))


@pytest.mark.parametrize("sign", [1, -1])
def test_long_sums_at_the_ends_are_exact(sign: int) -> None:
    """K = 4096 of +-127 x 127 is 66,064,384: beyond 2**24, so float32 sums would already have rounded."""
    found, params = unit_for("int8")
    b = np.full((2, 4096), (sign * 127) % 256)
    b[1, 0] = 1
    got = found.gemm(int8(np.full((1, 4096), 127)), int8(b), params)
    assert got.tolist() == [[sign * 66064384.0, float(np.float32(sign * (66064384 - 127 * 127) + 127))]]


def test_the_sum_is_rounded_before_the_scales_and_each_scale_rounds() -> None:
    found, params = unit_for("int8")
    a = np.zeros((1, 2048))
    a[0, :1041], a[0, 1041:1043] = 127, (10, 1)
    b = np.full((1, 2048), 127)
    total = 1041 * 127 * 127 + 11 * 127
    scale_a, scale_b = np.float32(0.1), np.float32(3.3e-5)
    got = found.gemm(int8(a, int(scale_a.view(np.uint32))), int8(b, int(scale_b.view(np.uint32))), params)
    assert total > 1 << 24 and total % 2 == 0
    assert got[0, 0] == np.float32(total) * scale_a * scale_b


SPECIALS = [0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 0x7F812345, 0x00000001, 0x80000000, 0x7F7FFFFF]


@pytest.mark.parametrize("scale", SPECIALS, ids=hex)
def test_any_row_scale_gives_the_bits_of_the_reference(scale: int) -> None:
    found, params = unit_for("int8")
    rng = np.random.default_rng(5)
    a, b = int8(rng.integers(0, 256, (3, 33)), scale), int8(rng.integers(0, 256, (4, 33)))
    b = b.replace_parts(scales=np.array([[0x3F000000], [0x7F000000], [scale], [0]], np.uint32))
    a.codes[0] = 0
    got = found.gemm(a, b, params).view(np.uint32)
    for m, n in np.ndindex(got.shape):
        want = found.reference(found.beats(a, b, m, n, params), params)
        assert got[m, n] == want == oracle.dot(a, b, m, n), (m, n)


def test_the_zero_point_is_taken_off_the_whole_group() -> None:
    """S - z * sum(a), with the largest sums on both sides of the subtraction."""
    found, params = unit_for("int4_g128_asym")
    for a_code, b_code, zero in [(127, 15, 15), (128, 15, 0), (128, 0, 15), (127, 0, 15), (127, 15, 0)]:
        a, b = oracle.operands("int4_g128_asym", 1, 1, 128)
        a.codes[:], b.codes[:], b.zeros[:] = a_code, b_code, zero
        b.scales[:] = 0x3C00
        a.scales[:] = 0x3F800000
        value = 128 * (a_code - 256 * (a_code > 127)) * (b_code - zero)
        assert found.gemm(a, b, params).tolist() == [[float(value)]]
        assert found.reference(found.beats(a, b, 0, 0, params), params) == int(np.float32(value).view(np.uint32))


WIDE = [("int16", "int16"), ("int9", "int2"), ("int8", "int12"), ("int16", "int5"), ("int3", "int8")]


def integers(codes: np.ndarray, bits: int) -> list[list[int]]:
    """Return two's complement codes as Python integers."""
    return [[int(code) - ((int(code) >> (bits - 1)) << bits) for code in row] for row in codes]


@pytest.mark.parametrize(("activation", "weight"), WIDE)
@pytest.mark.parametrize("k", [1, 33, 700])
def test_operands_of_2_to_16_bits_sum_exactly(activation: str, weight: str, k: int) -> None:
    rng, sides = np.random.default_rng(k), []
    for name, rows in ((activation, 4), (weight, 5)):
        bits = int(name.removeprefix("int"))
        codes = rng.integers(0, 1 << bits, (rows, k)).astype(np.uint8 if bits <= 8 else np.uint16)
        codes[0] = 1 << (bits - 1)  # the most negative one, whose products are the largest
        scales = np.ones((rows, 1), np.float32).view(np.uint32)
        sides.append(Encoded.of(get("int8").with_rules(element=element(name)), codes=codes, scales=scales))
    a, b = sides
    params = int_mac.Params(weight, 8, activation=activation)
    assert int_mac.params_for(b.format, a.format, 8) == params
    bits = int_mac.gemm(a, b, params).view(np.uint32)
    pairs = int_mac.dots(a, b.rows(np.arange(4)), params)
    np.testing.assert_array_equal(pairs, bits.diagonal())
    lines = [integers(side.codes, side.format.element.bits) for side in sides]
    for m, n in np.ndindex(bits.shape):
        exact = sum(x * y for x, y in zip(lines[0][m], lines[1][n], strict=True))
        want = oracle.float32_bits(Fraction(exact))
        assert int(bits[m, n]) == want == int_mac.reference(int_mac.beats(a, b, m, n, params), params), (m, n)


def test_wide_groups_are_exact_too() -> None:
    weight = get("int4_g128").with_rules(element=element("int16"), block_size=32)
    activation = get("int16")
    rng = np.random.default_rng(4)
    a, b = oracle.operand(activation, 4, 96, rng), oracle.operand(weight, 5, 96, rng)
    a.codes[0], b.codes[0] = 0x8000, 0x8000
    params = int_mac.params_for(weight, activation, 8)
    assert params == int_mac.Params("int16", 8, 32, activation="int16")
    bits = int_mac.gemm(a, b, params).view(np.uint32)
    np.testing.assert_array_equal(int_mac.dots(a, b.rows(np.arange(4)), params), bits.diagonal())
    for m, n in np.ndindex(bits.shape):
        want = oracle.dot(a, b, m, n)
        assert int(bits[m, n]) == want == int_mac.reference(int_mac.beats(a, b, m, n, params), params), (m, n)


def test_widths_of_wide_sums_and_what_they_cost() -> None:
    params = int_mac.Params("int16", 32, activation="int16")
    assert params.datapath.block_sum_bits == 53
    assert int_mac.actions(1, 1, 64, params)["add_int32"] == 128
    assert int_mac.actions(1, 1, 64, params)["mul_int16_int16"] == 64
    assert "mul_int4_int16" in int_mac.actions(1, 1, 64, int_mac.Params("int3", activation="int9"))
    with pytest.raises(ValueError, match="takes 56 bits, allowed are 54; take fewer lanes than 256"):
        int_mac.Params("int16", 256, activation="int16")
    with pytest.raises(ValueError, match="activation must be int2 to int16, not 'int17'"):
        int_mac.Params(activation="int17")

"""`int_mac`: Params, and sums that only integers hold."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from hwsim.formats import Encoded, get
from hwsim.pe import int_mac, unit_for
from tests.hwsim.pe import oracle


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weight": "int2"}, "weight must be int8, int4 or uint4, not 'int2'"),
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

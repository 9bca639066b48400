"""The kernels under `gemm`: one rounding of a float64 addend, exact integer sums, and when the fused path may run."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hwsim.pe import _kernels as kernels
from tests.hwsim.formats.oracle import float32_value
from tests.hwsim.pe import oracle
from tests.hwsim.pe.test_rounding import FINITE, SPECIAL


def add(acc: int, addend: float) -> int:
    """Return the kernel's sum as bits."""
    return int(np.float32(kernels.add_rounded_once(np.uint32(acc).view(np.float32), addend)).view(np.uint32))


def test_one_rounding_on_random_sums() -> None:
    rng = np.random.default_rng(1)
    bits = [*FINITE, *rng.integers(0, 0x7F800000, 1500).tolist()]
    for acc in bits:
        size = float(abs(float32_value(acc))) or 1e-40
        for addend in (
            rng.normal() * size * 2.0 ** int(rng.integers(-60, 60)),
            rng.integers(-(1 << 24), 1 << 24) * 2.0 ** int(rng.integers(-200, 100)),
        ):
            assert add(acc, float(addend)) == oracle.add(acc, Fraction(float(addend))), (hex(acc), addend)


def test_one_rounding_where_two_would_differ() -> None:
    """The float64 sum rounds onto a tie of float32 that the exact sum lies beside: sticky bits decide."""
    traps = 0
    for exponent in (-149, -126, -60, 0, 60, 103):
        for kept in (0x800000, 0x800001, 0xABCDEF, 0xFFFFFF):
            tie = (2 * kept + 1) * 2.0 ** (exponent - 1)  # 25 bits: half way between two float32
            if not 2.0**-150 < tie < 2.0**127:
                continue
            for sticky in (0x00000001, 0x80000001, 0x00800000, 0x80800000, 0x20000000, 0xA0000000):
                for sign in (1.0, -1.0):
                    exact = Fraction(sign * tie) + float32_value(sticky)
                    got = add(sticky, sign * tie)
                    assert got == oracle.add(sticky, Fraction(sign * tie)), (hex(sticky), tie)
                    twice = np.float32(float(exact))  # Fraction to float64 rounds once, then float32 again
                    traps += int(twice.view(np.uint32)) != got
    assert traps > 50  # without them this test would prove nothing


@pytest.mark.parametrize(
    ("acc", "addend", "bits"),
    [
        (0x7F7FFFFF, 2.0**102, 0x7F7FFFFF),
        (0x7F7FFFFF, 2.0**103, 0x7F800000),
        (0x7F7FFFFF, np.nextafter(2.0**103, 0), 0x7F7FFFFF),
        (0xFF7FFFFF, -(2.0**103), 0xFF800000),
        (0, 2.0**260, 0x7F800000),
        (0xFF800000, 2.0**260, 0xFF800000),
        (0x00000001, -(2.0**-150), 0x00000000),
        (0x00000001, -(2.0**-149), 0x00000000),
        (0x80000000, 0.0, 0x00000000),
        (0x00000000, -(2.0**-160), 0x80000000),
        (0x3F800000, -(2.0**-25), 0x3F800000),
        (0x3F800000, -(2.0**-25) * (1 + 2.0**-30), 0x3F7FFFFF),
    ],
    ids=str,
)
def test_one_rounding_by_hand(acc: int, addend: float, bits: int) -> None:
    assert add(acc, addend) == bits
    assert oracle.add(acc, Fraction(addend)) == bits


@pytest.mark.parametrize("acc", SPECIAL, ids=hex)
def test_nan_and_inf_stay(acc: int) -> None:
    got = add(acc, -5.0)
    assert (oracle.is_nan(got) and oracle.is_nan(acc)) or got == acc
    assert oracle.is_nan(add(0x3F800000, np.nan))


def product(a: np.ndarray, b: np.ndarray, table: np.ndarray | None = None) -> np.ndarray:
    """Return the kernel's integer GEMM of small-integer operands."""
    table = np.arange(256).astype(np.uint8).view(np.int8).astype(np.float32) if table is None else table
    out = np.full((len(a), len(b)), np.nan, np.float32)
    ones = [np.ones(n, np.float32) for n in out.shape]
    kernels.integer_gemm(table[a], b, table, 128 * 128, *ones, out)
    return out


@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (3, 5, 7), (2, 3, 1023), (2, 3, 1024), (3, 2, 2047), (2, 4099, 1100)]
)
def test_integer_sums_are_exact_and_rounded_once(m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(k)
    a, b = (rng.integers(0, 256, (rows, k)).astype(np.uint8) for rows in (m, n))
    exact = a.view(np.int8).astype(np.int64) @ b.view(np.int8).astype(np.int64).T
    np.testing.assert_array_equal(product(a, b).view(np.uint32), exact.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("code", [127, 128, 129], ids=["+127", "-128", "-127"])
@pytest.mark.parametrize("k", [1024, 1025, 4096, 4097, 140_001])
def test_integer_sums_beyond_float32_and_int32(code: int, k: int) -> None:
    """All codes at an end: sums pass 2**24 after 1024 products and 2**31 at the longest K."""
    a = np.full((2, k), code, np.uint8)
    a[1, -1] = 1  # an odd sum, which float32 has to round
    b = np.full((2, k), 127, np.uint8)
    b[1] = 128
    exact = a.view(np.int8).astype(np.int64) @ b.view(np.int8).astype(np.int64).T
    if k > 140_000 and code == 128:
        assert abs(exact).max() > 2**31
    np.testing.assert_array_equal(product(a, b).view(np.uint32), exact.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("k", [1, 2, 16, 40])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 4), (4, 1), (5, 130)])
def test_a_zero_sum_is_plus_zero(m: int, n: int, k: int) -> None:
    """Zeros times negative numbers are -0 in float32; an integer sum has no such thing."""
    zeros, negative = np.zeros((m, k), np.uint8), np.full((n, k), 0xFD, np.uint8)
    assert not product(zeros, negative).view(np.uint32).any()
    assert not product(negative, zeros).view(np.uint32).any()


@pytest.mark.parametrize(
    ("a", "b", "fused"),
    [
        ([1.0], [1.0], True),
        ([2.0**-63], [2.0**-63], True),
        ([2.0**-63], [2.0**-64], False),
        ([2.0**63], [2.0**63], True),
        ([2.0**63], [2.0**64], False),
        ([2.0**-127], [1.0], False),
        ([1.0, np.nan], [1.0], False),
        ([1.0], [np.nan], False),
        ([0.0], [0.0], True),
        ([0.0, 2.0**-63], [2.0**-64, 1.0], False),
        ([-1.5], [-448.0], True),
    ],
    ids=str,
)
def test_the_fused_path_runs_only_where_products_of_scales_are_normal(a: list, b: list, fused: bool) -> None:
    assert kernels._product_is_exact(np.array([a]), np.array([b])) is fused


def test_a_zero_addend_is_plus_zero_whatever_the_signs() -> None:
    """A sum that underflowed to -0 meets a block of zeros with a negative scale: -0 + 0 is +0, as in the reference."""
    a, table = np.array([[-1, 0]], np.float32), np.array([0, 1], np.float32)
    out = np.empty((1, 2), np.float32)
    codes, scales = np.array([[1, 0], [1, 1]], np.uint8), np.array([[1.0, -1.0], [1.0, 1.0]])
    ones = [np.ones(n, np.float32) for n in out.shape]
    kernels.block_gemm(a, codes, table, np.array([[2.0**-200, 1.0]]), scales, None, 1, *ones, out)
    assert out.view(np.uint32).tolist() == [[0, 0]]
    kernels.block_gemm(a[:, :1], codes[:, :1], table, np.array([[2.0**-200]]), scales[:, :1], None, 1, *ones, out)
    assert out.view(np.uint32).tolist() == [[0x80000000, 0x80000000]]

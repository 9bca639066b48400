"""The one rounding step against exact rationals and the processor."""

from __future__ import annotations

import doctest
from fractions import Fraction

import numpy as np
import pytest

from hwsim.pe import rounding
from tests.hwsim.formats.oracle import float32_bits
from tests.hwsim.pe import oracle

CORNERS = [0, 1, 2, 0x400000, 0x7FFFFF, 0x800000, 0x800001, 0xFFFFFF, 0x1000000, 0x33800000, 0x3F7FFFFF, 0x3F800000]
CORNERS += [0x3F800001, 0x40490FDB, 0x4B7FFFFF, 0x4B800000, 0x4B800001, 0x7E800000, 0x7F000000, 0x7F7FFFFE, 0x7F7FFFFF]
FINITE = [*CORNERS, *(code | 0x80000000 for code in CORNERS)]
SPECIAL = [0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF, 0xFF812345]


def draw(count: int, seed: int) -> list[int]:
    """Return random float32 bits, dense in exponents."""
    return np.random.default_rng(seed).integers(0, 1 << 32, count).tolist()


def test_rounding_agrees_with_the_oracle_on_every_shift() -> None:
    rng = np.random.default_rng(1)
    for exponent in range(-230, 140):
        for magnitude in (*rng.integers(0, 1 << 40, 3).tolist(), 1, 3, 0xFFFFFF, 0x1FFFFFF, 0x1000001, 0x1000003):
            for sign in (0, 1):
                exact = Fraction(magnitude) * Fraction(2) ** exponent * (1 - 2 * sign)
                want = float32_bits(exact, negative=bool(sign))
                assert rounding.round_float32(sign, magnitude, exponent) == want, (sign, magnitude, exponent)


def test_rounding_agrees_with_the_processor_on_float64() -> None:
    rng = np.random.default_rng(2)
    x = np.ldexp(rng.uniform(-1, 1, 4000), rng.integers(-160, 132, 4000))
    with np.errstate(over="ignore"):
        want = x.astype(np.float32).view(np.uint32).tolist()
    for value, bits in zip(x.tolist(), want, strict=True):
        ratio = Fraction(value)
        exponent = 1 - ratio.denominator.bit_length()
        assert rounding.round_float32(int(value < 0), abs(ratio.numerator), exponent) == bits


@pytest.mark.parametrize(
    ("magnitude", "exponent", "bits"),
    [
        (1, -149, 1), (1, -150, 0), (3, -150, 2), (5, -150, 2), (0xFFFFFF, -150, 0x800000), (0xFFFFFF, 104, 0x7F7FFFFF),
        (0x1FFFFFF, 103, 0x7F800000), (0x1FFFFFE, 103, 0x7F7FFFFF), (1, 128, 0x7F800000), (0x1000001, 0, 0x4B800000),
        (0x1000003, 0, 0x4B800002), (0, 500, 0), ((1 << 300) + 1, -300, 0x3F800000), (1, 10**4, 0x7F800000),
        (1, -(10**4), 0),
    ],
)  # fmt: skip
def test_rounding_by_hand(magnitude: int, exponent: int, bits: int) -> None:
    assert rounding.round_float32(0, magnitude, exponent) == bits
    assert rounding.round_float32(1, magnitude, exponent) == bits | 0x80000000


@pytest.mark.parametrize("bits", FINITE, ids=hex)
def test_split_is_exact(bits: int) -> None:
    sign, magnitude, exponent = rounding.split_float32(bits)
    assert Fraction(magnitude) * Fraction(2) ** exponent * (1 - 2 * sign) == oracle.float32_value(bits)
    assert sign == bits >> 31


def test_fused_add_rounds_the_exact_sum_once() -> None:
    rng = np.random.default_rng(3)
    for acc in [*FINITE, *draw(1500, 4)]:
        for exponent in (-300, -149, int(rng.integers(-180, 130)), 120):
            addend = int(rng.integers(-(1 << 23), 1 << 23))
            want = oracle.add(acc, addend * Fraction(2) ** exponent)
            assert rounding.fused_add(acc, addend, exponent) == want, (hex(acc), addend, exponent)


def test_fused_add_near_every_tie_of_one() -> None:
    for wide in (25, 26, 40, 60, 100):
        for offset in (-1, 0, 1):
            addend = (1 << (wide - 24)) + offset  # 2**-24, half of the last place of 1, and next to it
            want = 0x3F800001 if offset > 0 else 0x3F800000
            assert rounding.fused_add(0x3F800000, addend, -wide) == want
            assert rounding.fused_add(0x3F800001, addend, -wide) == (0x3F800001 if offset < 0 else 0x3F800002)


@pytest.mark.parametrize("acc", SPECIAL, ids=hex)
@pytest.mark.parametrize("addend", [0, 1, -1, -(1 << 20)])
def test_fused_add_keeps_nan_and_inf(acc: int, addend: int) -> None:
    want = rounding.NAN if oracle.is_nan(acc) else acc
    assert rounding.fused_add(acc, addend, 120) == want


def test_fused_add_has_one_zero_and_keeps_the_sign_of_underflow() -> None:
    assert rounding.fused_add(0x80000000, 0, 0) == 0
    assert rounding.fused_add(0x3F800000, -1, 0) == 0
    assert rounding.fused_add(0, -1, -200) == 0x80000000
    assert rounding.fused_add(0x80000000, -1, -200) == 0x80000000


def test_multiply_is_the_processors_product() -> None:
    corners = [*FINITE, *SPECIAL]
    pairs = [(x, y) for x in corners for y in corners]
    pairs += list(zip(draw(6000, 5), draw(6000, 6), strict=True))
    rng = np.random.default_rng(7)  # products near the subnormals, where random bits seldom fall
    small = rng.integers(0x20000000, 0x30000000, (2000, 2)).tolist()
    pairs += [tuple(pair) for pair in small]
    x, y = (np.array(side, np.uint32).view(np.float32) for side in zip(*pairs, strict=True))
    with np.errstate(all="ignore"):
        product = x * y
    want = np.where(np.isnan(product), np.uint32(rounding.NAN), product.view(np.uint32))
    assert [rounding.multiply(a, b) for a, b in pairs] == want.tolist()
    assert [oracle.multiply(a, b) for a, b in pairs] == want.tolist()


def test_docstring_examples_run() -> None:
    assert doctest.testmod(rounding).failed == 0

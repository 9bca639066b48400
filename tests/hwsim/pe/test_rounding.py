"""The one rounding step against exact rationals and the processor."""

from __future__ import annotations

import doctest
from fractions import Fraction

import numpy as np
import pytest

from hwsim.formats import element
from hwsim.pe import rounding
from tests.hwsim.formats.oracle import float32_bits
from tests.hwsim.pe import accumulation, oracle

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
                assert rounding.round_float(sign, magnitude, exponent).bits == want, (sign, magnitude, exponent)


def test_rounding_agrees_with_the_processor_on_float64() -> None:
    rng = np.random.default_rng(2)
    x = np.ldexp(rng.uniform(-1, 1, 4000), rng.integers(-160, 132, 4000))
    with np.errstate(over="ignore"):
        want = x.astype(np.float32).view(np.uint32).tolist()
    for value, bits in zip(x.tolist(), want, strict=True):
        ratio = Fraction(value)
        exponent = 1 - ratio.denominator.bit_length()
        assert rounding.round_float(int(value < 0), abs(ratio.numerator), exponent).bits == bits


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
    assert rounding.round_float(0, magnitude, exponent).bits == bits
    assert rounding.round_float(1, magnitude, exponent).bits == bits | 0x80000000


@pytest.mark.parametrize("bits", FINITE, ids=hex)
def test_split_is_exact(bits: int) -> None:
    sign, magnitude, exponent = rounding.split(bits)
    assert Fraction(magnitude) * Fraction(2) ** exponent * (1 - 2 * sign) == oracle.float32_value(bits)
    assert sign == bits >> 31


def test_fused_add_rounds_the_exact_sum_once() -> None:
    rng = np.random.default_rng(3)
    for acc in [*FINITE, *draw(1500, 4)]:
        for exponent in (-300, -149, int(rng.integers(-180, 130)), 120):
            addend = int(rng.integers(-(1 << 23), 1 << 23))
            want = oracle.add(acc, addend * Fraction(2) ** exponent)
            assert rounding.add(acc, addend, exponent).bits == want, (hex(acc), addend, exponent)


def test_fused_add_near_every_tie_of_one() -> None:
    for wide in (25, 26, 40, 60, 100):
        for offset in (-1, 0, 1):
            addend = (1 << (wide - 24)) + offset  # 2**-24, half of the last place of 1, and next to it
            want = 0x3F800001 if offset > 0 else 0x3F800000
            assert rounding.add(0x3F800000, addend, -wide).bits == want
            assert rounding.add(0x3F800001, addend, -wide).bits == (0x3F800001 if offset < 0 else 0x3F800002)


@pytest.mark.parametrize("acc", SPECIAL, ids=hex)
@pytest.mark.parametrize("addend", [0, 1, -1, -(1 << 20)])
def test_fused_add_keeps_nan_and_inf(acc: int, addend: int) -> None:
    want = rounding.NAN if oracle.is_nan(acc) else acc
    assert rounding.add(acc, addend, 120).bits == want


def test_fused_add_has_one_zero_and_keeps_the_sign_of_underflow() -> None:
    assert rounding.add(0x80000000, 0, 0).bits == 0
    assert rounding.add(0x3F800000, -1, 0).bits == 0
    assert rounding.add(0, -1, -200).bits == 0x80000000
    assert rounding.add(0x80000000, -1, -200).bits == 0x80000000


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
    assert [rounding.multiply(a, b).bits for a, b in pairs] == want.tolist()
    assert [oracle.multiply(a, b) for a, b in pairs] == want.tolist()


def test_docstring_examples_run() -> None:
    assert doctest.testmod(rounding).failed == 0


def raws(man_bits: int, bias: int) -> list[tuple[int, int, int]]:
    """Return raw results around every border of a format: ties, carries, subnormals, the largest value."""
    rng = np.random.default_rng(man_bits)
    lowest = 1 - bias - man_bits
    exponents = [*range(lowest - 6, lowest + man_bits + 4), -1, 0, 1, *range(bias - 3 * man_bits - 6, bias + 3)]
    magnitudes = [1, 2, 3, *rng.integers(1, 1 << (man_bits + 6), 6).tolist()]
    for places in (0, 1, 2, 3):
        base = ((2 << man_bits) - 1) << places
        magnitudes += [base, base - 1, base + 1, base + (1 << places) // 2]
    return [(sign, magnitude, e) for e in exponents for magnitude in magnitudes for sign in (0, 1)]


@pytest.mark.parametrize("mode", rounding.MODES)
@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "float8_e5m2"])
def test_every_mode_with_flags_against_rationals(name: str, mode: str) -> None:
    fmt = element(name)
    for sign, magnitude, exponent in raws(fmt.man_bits, fmt.bias):
        exact = Fraction(magnitude) * Fraction(2) ** exponent * (1 - 2 * sign)
        for overflow in ("ieee", "infinite"):
            want, flags = accumulation.rounded(exact, fmt.man_bits, fmt.bias, mode, overflow == "infinite")
            found = rounding.round_float(sign, magnitude, exponent, fmt, mode, overflow)
            assert found.flags == flags, (sign, magnitude, exponent)
            assert rounding.widen(found.bits, fmt) == want.bits(), (sign, magnitude, exponent)


@pytest.mark.parametrize("name", ["float16", "float8_e5m2", "float8_e4m3fn"])
def test_nearest_even_is_that_of_other_libraries(name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    fmt, kind = element(name), np.float16 if name == "float16" else getattr(ml_dtypes, name)
    raw = raws(fmt.man_bits, fmt.bias)
    values = np.array([(1 - 2 * sign) * magnitude * 2.0**exponent for sign, magnitude, exponent in raw])
    with np.errstate(over="ignore"):
        want = values.astype(kind).view(np.uint16 if fmt.bits == 16 else np.uint8).tolist()
    assert [rounding.round_float(*each, fmt).bits for each in raw] == want


@pytest.mark.parametrize(
    ("name", "overflow", "bits"),
    [("float8_e4m3fn", "ieee", 0x7F), ("float8_e4m3fn", "saturate", 0x7E), ("float6_e2m3fn", "ieee", 0x1F),
     ("float8_e5m2", "saturate", 0x7B), ("float8_e4m3fnuz", "ieee", 0x80)],
)  # fmt: skip
def test_overflow_where_there_is_no_infinity(name: str, overflow: str, bits: int) -> None:
    found = rounding.round_float(0, 1, 20, element(name), "rne", overflow)
    assert found == (bits, rounding.OVERFLOW | rounding.INEXACT)


def test_flags_by_hand() -> None:
    def flags(*raw: int, mode: str = "rne") -> int:
        return rounding.round_float(*raw, mode=mode).flags

    assert flags(0, 1, -149) == flags(0, 0, 0) == flags(1, 0xFFFFFF, 104) == 0
    assert flags(0, 3, -150) == rounding.INEXACT | rounding.UNDERFLOW
    # (2**25 - 1) * 2**-151 rounds to the smallest normal number, as it would with one more place: not tiny
    assert flags(0, (1 << 25) - 1, -151) == rounding.INEXACT
    assert flags(0, (1 << 25) - 1, -151, mode="rtz") == rounding.INEXACT | rounding.UNDERFLOW
    # 2**-126 less a quarter of the last place: rounded up on the grid, but exact with one more place
    assert flags(0, (1 << 25) - 2, -151) == rounding.INEXACT | rounding.UNDERFLOW
    assert rounding.multiply(0x7F800000, 0x80000000) == (rounding.NAN, rounding.INVALID)
    assert rounding.multiply(0x7FC00000, 0x7F800000) == (rounding.NAN, 0)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_widening_is_exact(name: str) -> None:
    fmt = element(name)
    for code in range(0, 1 << 16, 7):
        value = fmt.value(code)
        got = rounding.widen(code, fmt)
        if value is None:
            infinite = fmt.infinite(code)
            assert got == (rounding.NAN if not infinite else 0x7F800000 | (infinite < 0) << 31)
        else:
            assert oracle.float32_value(got) == value and got >> 31 == code >> 15

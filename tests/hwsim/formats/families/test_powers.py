"""Power codes: powers of two, their sums, logarithms and power functions; by exact rationals and printed sets."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats
from hwsim.formats import TableSpec, decode, encode
from hwsim.formats.catalog.powers import THRESHOLD_BITS, power_function_table, rounded
from tests.hwsim.formats import oracle
from tests.hwsim.formats.families.test_tables import expected_block, hard_rows, levels, worth

NAMES = (
    "pot3", "pot4", "pot5", "apot3", "apot4", "apot5", "log2_3b", "log2_4b", "powerquant_3b", "powerquant_4b",
    "powerquant_8b", "pot4_g128",
)  # fmt: skip


def table(name: str) -> TableSpec:
    element = formats.block(name).element
    assert isinstance(element, TableSpec)
    return element


@pytest.mark.parametrize("name", NAMES)
def test_encode_and_decode_equal_exact_rationals(name: str) -> None:
    fmt = formats.block(name)
    x = hard_rows(table(name), fmt.block_size or 64)
    encoded = encode(x, fmt)
    values = decode(encoded)
    for row in range(len(x)):
        codes, scale, step = expected_block(fmt, [int(b) for b in x[row].view(np.uint32)])
        assert encoded.codes[row].tolist() == codes
        assert encoded.scales[row, 0] == scale
        for column, code in enumerate(codes):
            exact = worth(table(name), code)
            assert exact is not None
            if exact * step:
                assert values[row, column].view(np.uint32) == oracle.float32_bits(exact * step)
            else:
                assert values[row, column] == 0


# APoT build_power_value: the base sets of B = 3, 4, 5 as that file builds them
BASES = {
    3: [[0, 2**-1, 2**-2, 2**-4], [0, 2**-3]],
    4: [[0, 2**-1, 2**-3, 2**-5], [0, 2**-2, 2**-4, 2**-6]],
    5: [[0, 2**-1, 2**-3, 2**-6], [0, 2**-2, 2**-4, 2**-7], [0, 2**-5]],
}


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_apot_levels_are_the_published_sums(bits: int) -> None:
    sums = [Fraction(0)]
    for base in BASES[bits]:
        sums = [total + Fraction(term) for total in sums for term in base]
    got = table(f"apot{bits}")
    assert len(set(sums)) == 1 << bits and got.bits == bits + 1
    assert [v / Fraction(got.max_value) for v, _ in levels(got)] == sorted(s / max(sums) for s in sums)


def test_apot_codes_choose_a_term_each() -> None:
    for bits in (3, 4, 5):
        spec, unit = table(f"apot{bits}"), 2 ** {3: 4, 4: 6, 5: 7}[bits]
        for code in range(1 << bits):
            rest, total = code, Fraction(0)
            for base in BASES[bits]:
                total += Fraction(base[rest % len(base)])
                rest //= len(base)
            assert spec.value(code) == total * unit
            assert spec.value(code | 1 << bits) == -total * unit


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_pot_levels_are_the_published_powers(bits: int) -> None:
    exponents = range(1, 2 ** (bits - 1))
    published = sorted([Fraction(0), *(Fraction(1, 2**e) / Fraction(1, 2) for e in exponents)])
    spec = table(f"pot{bits}")
    assert [v / Fraction(spec.max_value) for v, _ in levels(spec)] == published
    assert [spec.value(code) for code in range(1, 4)] == [1, 2, 4][: 2 ** (bits - 1) - 1]


@pytest.mark.parametrize("bits", [3, 4])
def test_log2_codes_are_rounded_logarithms(bits: int) -> None:
    spec, name = table(f"log2_{bits}b"), f"log2_{bits}b"
    for border, q in zip(spec.borders, range(2**bits - 2, -1, -1), strict=True):
        exact = Fraction(border)
        # nearest of its bits: the true threshold is the root of 2**-(2q + 1)
        step = oracle.power(oracle.floor_log2(exact) - THRESHOLD_BITS + 1)
        root = Fraction(1, 2 ** (2 * q + 1))
        assert (exact - step / 2) ** 2 < root < (exact + step / 2) ** 2
        assert (exact / step).denominator == 1
    rng = np.random.default_rng(0)
    x = np.exp2(-rng.uniform(0, 2**bits + 1, (1, 4000))).astype(np.float32)
    x[0, 0], x[0, 1] = 1.0, 0.0
    codes = encode(x, name).codes[0]
    assert codes[1] == 2**bits - 1  # zero
    logs = -np.log2(np.where(x[0] > 0, x[0], 2.0**-40).astype(np.float64))
    far = np.abs(logs - np.floor(logs) - 0.5) > 1e-6
    assert np.array_equal(codes[far], np.clip(np.rint(logs[far]), 0, 2**bits - 1))
    assert np.array_equal(decode(encode(x, name))[0, codes == 3], np.full((codes == 3).sum(), 0.125, np.float32))


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_power_function_codes_follow_the_formula(bits: int) -> None:
    top = 2 ** (bits - 1) - 1
    spec = table(f"powerquant_{bits}b")
    # a = 1/2: levels (q / Q)**2, thresholds ((2q + 1) / 2Q)**2, both rounded once
    for q in range(top + 1):
        assert spec.value(q) == oracle.float32_value(oracle.float32_bits(Fraction(q, top) ** 2))
    for q, border in enumerate(spec.borders):
        assert Fraction(border) == oracle.float32_value(oracle.float32_bits(Fraction(2 * q + 1, 2 * top) ** 2))
    x = np.random.default_rng(bits).normal(size=(4, 500)).astype(np.float32)
    encoded = encode(x, f"powerquant_{bits}b")
    amax = np.abs(x).max(axis=1, keepdims=True).astype(np.float64)
    steps = top * np.sqrt(np.abs(x) / amax)
    far = np.abs(steps - np.floor(steps) - 0.5) > 1e-4
    assert np.array_equal((encoded.codes & top)[far], np.rint(steps)[far])
    assert np.array_equal(encoded.codes >> (bits - 1), np.signbit(x))
    formula = np.sign(x) * amax * ((encoded.codes & top) / top) ** 2
    assert np.allclose(decode(encoded), formula, rtol=3e-7)


@pytest.mark.parametrize("exponent", ["0.25", "0.37", "0.9", "1"])
def test_power_functions_of_any_exponent(exponent: str) -> None:
    spec, a = power_function_table(4, exponent), float(exponent)
    assert [float(v) for v, _ in levels(spec)] == pytest.approx([(q / 7) ** (1 / a) for q in range(8)], rel=1e-7)
    assert list(spec.borders) == pytest.approx([((q + 0.5) / 7) ** (1 / a) for q in range(7)], rel=1e-7)
    assert exponent in spec.name


@pytest.mark.parametrize("exponent", ["0", "-0.5", "1.5"])
def test_power_functions_refuse_other_exponents(exponent: str) -> None:
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        power_function_table(4, exponent)


@given(numerator=st.integers(1, 10**30), denominator=st.integers(1, 10**30))
@settings(max_examples=25)
def test_rounding_of_thresholds(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    got = Fraction(rounded(exact, 24))
    quantum = oracle.power(oracle.floor_log2(exact) - 23)
    assert got == oracle.half_even(exact / quantum) * quantum


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-20, 20))
def test_monotone_and_free_of_powers_of_two(name: str, seed: int, shift: int) -> None:
    fmt = formats.block(name)
    x = np.random.default_rng(seed).normal(size=(2, fmt.block_size or 40)).astype(np.float32)
    x = np.sort(x if table(name).signed else np.abs(x))
    encoded = encode(x, fmt)
    assert (np.diff(decode(encoded)) >= 0).all()
    if fmt.scale is not None and fmt.scale.bits == 32:
        assert np.array_equal(encode(np.ldexp(x, shift), fmt).codes, encoded.codes)


def test_levels_ascend_and_borders_lie_between() -> None:
    for name in NAMES:
        spec = table(name)
        ranked = levels(spec)
        for border, (low, high) in zip(spec.borders, pairwise(ranked), strict=True):
            assert low[0] < Fraction(border) < high[0]


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"index \[0, 1\].*nan"):
        encode(np.array([[1.0, np.nan]], np.float32), "apot4")
    with pytest.raises(ValueError, match="codes hold 8"):
        formats.Encoded(
            formats.get("pot3"), {"codes": np.full((1, 2), 8, np.uint8), "scales": np.ones((1, 1), np.uint32)}
        )

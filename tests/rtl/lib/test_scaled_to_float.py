"""Rounding a scaled integer against exact fractions, at the corners and at random distances from them."""

from __future__ import annotations

import random

import pytest

from hwsim.formats import element
from hwsim.pe import rounding
from rtl.lib import special
from rtl.lib.scaled_to_float import ScaledToFloat
from tests.rtl import oracle
from tests.rtl.harness import evaluate

pytestmark = pytest.mark.rtl

# (bound of the value, smallest exponent, largest exponent)
SHAPES = {
    "sums of int8": (1 << 34, 0, 0),
    "sums of int16": (1 << 53, 0, 0),
    "few bits": (200, -4, -4),
    "subnormal": (1 << 26, -170, -120),
    "too large": (1 << 26, 90, 110),
    "one bit": (1, -200, 200),
}


def values(shape: str, count: int) -> list[dict[str, int]]:
    """Return operands: ends, values of few and of many bits, and those close to the middle between two floats."""
    bound, low, high = SHAPES[shape]
    rng = random.Random(shape)
    found = [0, 1, bound, bound - 1, bound // 2 + 1, bound & -2]
    for _ in range(count):
        width = rng.randrange(1, bound.bit_length() + 1)
        found.append(rng.getrandbits(width))
        tie = (rng.getrandbits(24) | 1 << 23) << 1 | 1  # a half of the last place
        found.append((tie << max(width - 25, 0)) + rng.choice([-1, 0, 1]))
    return [
        {"value": sign * value, "exponent": rng.randint(low, high)}
        for value in found
        if value <= bound
        for sign in (1, -1)
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_one_exact_rounding(shape: str) -> None:
    operands = values(shape, 150)
    results = evaluate(ScaledToFloat(*SHAPES[shape]), operands)
    for operand, result in zip(operands, results, strict=True):
        expected = oracle.fused_add(acc=0, addend=operand["value"], exponent=operand["exponent"])
        assert result["result"] == expected, operand


@pytest.mark.parametrize("mode", rounding.MODES)
def test_roundings_and_flags_are_those_of_an_addition_to_zero(mode: str) -> None:
    fmt = element("float16")
    bound, low, high = 1 << 20, -30, 5
    rng = random.Random(mode)
    operands = [
        {"value": rng.randint(-bound, bound) >> rng.randrange(20), "exponent": rng.randint(low, high)}
        for _ in range(200)
    ]
    results = evaluate(ScaledToFloat(bound, low, high, fmt, mode), operands)
    expected = [rounding.add(0, each["value"], each["exponent"], fmt, mode) for each in operands]
    assert [(each["result"], each["flags"]) for each in results] == [tuple(map(int, each)) for each in expected]
    assert len({flags for _, flags in expected}) >= 4


def test_special_values() -> None:
    nan, positive, negative, invalid = 1, 2, 4, 8
    sets = {nan: 0x7FC00000, positive: 0x7F800000, negative: 0xFF800000, positive | negative: 0x7FC00000}
    operands = [{"value": 5, "exponent": 0, "specials": each} for each in (*sets, nan | invalid)]
    results = evaluate(ScaledToFloat(10, 0, 0), operands)
    assert [each["result"] for each in results] == [*sets.values(), 0x7FC00000]
    assert [each["flags"] for each in results] == [0, 0, 0, 8, 8]
    assert special.BITS == 4


def test_bad_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="max_magnitude must be at least 1, not 0"):
        ScaledToFloat(0, 0, 0)
    with pytest.raises(ValueError, match="min_exponent 3 must not exceed max_exponent 2"):
        ScaledToFloat(5, 3, 2)

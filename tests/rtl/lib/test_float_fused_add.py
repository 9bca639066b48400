"""The fused addition against exact fractions, on random operands and on those that break adders."""

from __future__ import annotations

import random

import pytest

from hwsim.formats import element
from hwsim.pe import rounding
from rtl.lib.float_fused_add import FloatFusedAdd
from tests.rtl import oracle
from tests.rtl.harness import evaluate

CORNERS = [0, 1, 2, 0x400000, 0x7FFFFF, 0x800000, 0x800001, 0xFFFFFF, 0x1000000, 0x3F7FFFFF, 0x3F800000, 0x3F800001,
           0x4B7FFFFF, 0x4B800000, 0x7F000000, 0x7F7FFFFE, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000]  # fmt: skip
ACCUMULATORS = [sign | bits for bits in CORNERS for sign in (0, 1 << 31)]

# (bound of the addend, smallest exponent, largest exponent), as units have them
SHAPES = {
    "mxfp4": (4608, -256, 252),
    "nvfp4": (144 * 16 * 225, -20, 12),
    "int4_fp16": (1 << 29, -24, 5),
    "int8": (1 << 34, 0, 0),
    "one_bit": (1, -200, 200),
}


def near(acc: int, bound: int, low: int, high: int, rng: random.Random) -> tuple[int, int] | None:
    """Return an addend close to minus the accumulator, or to half its last place: cancellation and ties."""
    exponent = max(acc >> 23 & 0xFF, 1) - 150
    significand = acc & 0x7FFFFF | (0x800000 if acc >> 23 & 0xFF else 0)
    if rng.random() < 0.5:  # the accumulator itself, give or take a little
        shift = rng.randrange(-3, 28)
        addend = (significand >> shift if shift >= 0 else significand << -shift) + rng.randrange(-2, 3)
        exponent += shift
    else:  # half of the last place, give or take one unit far below it
        shift = rng.randrange(1, 30)
        addend, exponent = (1 << shift) + rng.choice([-1, 0, 1]), exponent - 1 - shift
    if not (abs(addend) <= bound and low <= exponent <= high):
        return None
    return addend * rng.choice([-1, 1]), exponent


def vectors(shape: str, count: int) -> list[dict[str, int]]:
    """Return operands: corners with corners, near misses, and random ones at all distances."""
    bound, low, high = SHAPES[shape]
    rng = random.Random(shape)
    addends = [value for value in (0, 1, -1, 2, 3, bound, -bound, bound - 1, bound // 2 + 1) if abs(value) <= bound]
    exponents = [value for value in {low, high, -149, -150, -151, -175, -126, 0, 103, 104, 127} if low <= value <= high]
    found = [(acc, addend, exponent) for acc in ACCUMULATORS for addend in addends for exponent in exponents]
    found = rng.sample(found, min(len(found), count))
    for _ in range(count):
        exponent = rng.randint(low, high)
        addend = rng.randint(-bound, bound) >> rng.randrange(bound.bit_length())
        # accumulators at every distance from the addend, subnormal ones and full words among them
        field = min(max(exponent + addend.bit_length() + 127 + rng.randrange(-60, 60), 0), 254)
        acc = rng.getrandbits(1) << 31 | field << 23 | rng.choice([rng.getrandbits(23), 0, 1, 0x7FFFFF])
        close = near(acc, bound, low, high, rng)
        found += [(acc, addend, exponent), (acc, *(close or (addend, exponent)))]
    return [{"acc": acc, "addend": addend, "exponent": exponent} for acc, addend, exponent in found]


@pytest.mark.rtl
@pytest.mark.parametrize("shape", SHAPES)
def test_fused_add_is_one_exact_rounding(shape: str) -> None:
    operands = vectors(shape, 6000)
    results = evaluate(FloatFusedAdd(*SHAPES[shape]), operands)
    for operand, result in zip(operands, results, strict=True):
        assert result["result"] == oracle.fused_add(**operand), operand


@pytest.mark.rtl
def test_fused_add_makes_nan_of_a_nan_addend() -> None:
    operands = [{"acc": acc, "addend": 1, "exponent": 0, "specials": 1} for acc in ACCUMULATORS]
    results = evaluate(FloatFusedAdd(8, -4, 4), operands)
    assert {result["result"] for result in results} == {oracle.NAN}


@pytest.mark.usefixtures("refused_parts")
@pytest.mark.parametrize(("bound", "low", "high", "word"), [(0, 0, 0, "max_magnitude"), (1, 3, 2, "min_exponent")])
def test_fused_add_refuses_impossible_ranges(bound: int, low: int, high: int, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        FloatFusedAdd(bound, low, high)


@pytest.mark.rtl
@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("mode", ["rne", "rtz", "rdn", "rod"])
def test_every_mode_and_format_with_flags(name: str, mode: str) -> None:
    fmt, rng = element(name), random.Random(name + mode)
    lowest = 1 - fmt.bias - fmt.man_bits
    span = (max(lowest - 12, -160), min(fmt.bias - 8, 120))
    operands = []
    for _ in range(2500):
        exponent = rng.choice([rng.randint(*span), rng.randint(span[0], span[0] + 14), span[1]])
        addend = rng.randint(-(1 << 20), 1 << 20) >> rng.randrange(21)
        # magnitudes close to the addend's, so that bits meet, and any
        field = max(exponent + addend.bit_length() + fmt.bias + rng.randrange(-fmt.man_bits - 4, 6), 0)
        size = min(field << fmt.man_bits | rng.getrandbits(fmt.man_bits), fmt.max_code)
        operands.append({"acc": rng.getrandbits(1) << (fmt.bits - 1) | size, "addend": addend, "exponent": exponent})
    for operand, result in zip(operands, evaluate(FloatFusedAdd(1 << 20, *span, fmt, mode), operands), strict=True):
        want = rounding.add(operand["acc"], operand["addend"], operand["exponent"], fmt, mode)
        assert (result["result"], result["flags"]) == want, operand


@pytest.mark.rtl
def test_infinities_and_invalid() -> None:
    """+Inf with -Inf is NaN and invalid, once; NaN is quiet; what the addend brings is kept."""
    inf, nan = 0x7F800000, oracle.NAN
    cases = [(0, 2, inf, 0), (0, 4, inf | 1 << 31, 0), (inf, 2, inf, 0), (inf, 4, nan, 8), (inf | 1 << 31, 2, nan, 8),
             (nan, 2, nan, 0), (0x7FFFFFFF, 6, nan, 0), (0, 6, nan, 8), (0, 9, nan, 8), (inf, 1, nan, 0)]  # fmt: skip
    vectors = [{"acc": acc, "addend": 0, "exponent": 0, "specials": specials} for acc, specials, _, _ in cases]
    found = evaluate(FloatFusedAdd(8, -4, 4), vectors)
    assert [(each["result"], each["flags"]) for each in found] == [case[2:] for case in cases]

"""The rounding step against exact rationals, in every format, mode and rule of overflow, with its flags."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from hwsim.formats import FloatSpec, element
from rtl.lib.float_round import FloatRound, min_width
from tests.hwsim.pe.accumulation import rounded
from tests.rtl import oracle
from tests.rtl.harness import evaluate

MODES = ("rne", "rtz", "rdn", "rod")


def significands(width: int, kept: int, count: int) -> list[int]:
    """Return significands around ties and carries, their leading one where the lowest bit may be sticky."""
    rng = random.Random(width)
    found = [0, 1 << (width - 1), (1 << width) - 1, (1 << width) - 2, (1 << width) - (1 << (width - kept - 1))]
    while len(found) < count:
        top = rng.randrange(min(kept + 2, width - 1), width)  # leading one
        tail = rng.choice([0, 1, 2, 3, (1 << (top - kept)) - 1, 1 << (top - kept), rng.getrandbits(top - kept + 1)])
        body = rng.choice([0, 1, 2, 3, (1 << (kept - 1)) - 1, (1 << (kept - 1)) - 2, rng.getrandbits(kept - 1)])
        found.append(min(1 << top | body << (top - kept + 1) | tail, (1 << width) - 1))
    return found


def check(fmt: FloatSpec, width: int, low: int, high: int, mode: str, overflow: str, count: int) -> None:
    """Compare result and flags with the oracle."""
    rng = random.Random(width)
    lowest = 1 - fmt.bias - fmt.man_bits
    around = (low, high, lowest - 26, lowest - 2, lowest - 1, lowest, lowest + 1, -fmt.bias, 1 - fmt.bias, 2 - fmt.bias)
    edges = [edge for edge in (*around, fmt.bias - 1, fmt.bias, fmt.bias + 1, 0) if low <= edge <= high]
    vectors = [
        {"sign": rng.getrandbits(1), "exponent": rng.choice([*edges, rng.randint(low, high)]), "significand": word}
        for word in significands(width, fmt.man_bits + 1, count)
    ]
    results = evaluate(FloatRound(fmt, width, low, high, mode, overflow), vectors)
    for vector, result in zip(vectors, results, strict=True):
        exact = vector["significand"] * Fraction(2) ** (vector["exponent"] - width + 1)
        exact = -exact if vector["sign"] else exact
        number, flags = rounded(exact, fmt.man_bits, fmt.bias, mode, overflow == "infinite", bool(vector["sign"]))
        assert result["flags"] == flags, vector
        assert word_value(result["result"], fmt) == (number.value, number.negative), vector


def word_value(word: int, fmt: FloatSpec) -> tuple[Fraction | str, bool]:
    """Return the value and the sign of a word."""
    negative = bool(word >> (fmt.bits - 1))
    field, mantissa = (word & fmt.magnitude_mask) >> fmt.man_bits, word & ((1 << fmt.man_bits) - 1)
    if field == (1 << fmt.exp_bits) - 1:
        assert mantissa == 0
        return "infinite", negative
    size = Fraction(mantissa, 1 << fmt.man_bits) + (field > 0)
    size *= Fraction(2) ** (max(field, 1) - fmt.bias)
    return -size if negative else size, negative


@pytest.mark.rtl
@pytest.mark.parametrize(
    ("width", "low", "high"), [(27, -126, 127), (28, -125, 380), (40, -126, 130), (48, -251, 257), (30, -500, -100)]
)
def test_round_is_nearest_even(width: int, low: int, high: int) -> None:
    check(element("float32"), width, low, high, "rne", "ieee", 4000)


@pytest.mark.rtl
@pytest.mark.parametrize(("mode", "overflow"), [(mode, rule) for mode in MODES for rule in ("ieee", "infinite")])
def test_every_mode(mode: str, overflow: str) -> None:
    check(element("float16"), 18, -40, 20, mode, overflow, 2500)


@pytest.mark.rtl
@pytest.mark.parametrize("mode", ["rdn", "rod"])
@pytest.mark.parametrize("name", ["bfloat16", "float8_e5m2", "float32"])
def test_other_formats(name: str, mode: str) -> None:
    fmt = element(name)
    check(fmt, min_width(fmt) + 3, -fmt.bias - 30, fmt.bias + 3, mode, "ieee", 2000)


@pytest.mark.rtl
@pytest.mark.parametrize(
    ("name", "overflow", "code"),
    [("float8_e4m3fn", "ieee", 0x7F), ("float8_e4m3fn", "saturate", 0x7E), ("float6_e2m3fn", "ieee", 0x1F),
     ("float16", "saturate", 0x7BFF)],
)  # fmt: skip
def test_overflow_in_formats_without_infinity(name: str, overflow: str, code: int) -> None:
    fmt = element(name)
    width = min_width(fmt)
    vectors = [{"sign": s, "exponent": 20, "significand": 1 << (width - 1)} for s in (0, 1)]
    found = evaluate(FloatRound(fmt, width, 0, 20, "rne", overflow), vectors)
    assert [each["result"] for each in found] == [code, code | 1 << (fmt.bits - 1)]
    assert [each["flags"] for each in found] == [5, 5]


@pytest.mark.rtl
def test_the_older_oracle_agrees() -> None:
    vectors = [{"sign": 0, "exponent": e, "significand": w} for e in (-150, -126, 0, 127, 128) for w in (0, 1 << 26, 3)]
    for vector, found in zip(vectors, evaluate(FloatRound(element("float32"), 27, -150, 128), vectors), strict=True):
        assert found["result"] == oracle.rounded(vector["significand"] * Fraction(2) ** (vector["exponent"] - 26))


@pytest.mark.usefixtures("refused_parts")
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("float32", 26, 0, 1), "width must be at least 27, not 26"),
        (("float32", 27, 1, 0), "min_exponent"),
        (("float32", 27, 0, 1, "rup"), "rounding must be one of rne, rtz, rdn, rod, not 'rup'"),
        (("float32", 27, 0, 1, "rne", "wrap"), "overflow must be one of ieee, infinite, saturate, not 'wrap'"),
        (("float8_e8m0fnu", 27, 0, 1), "signed, with subnormals"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_round_refuses_impossible_arguments(arguments: tuple, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        FloatRound(element(arguments[0]), *arguments[1:])

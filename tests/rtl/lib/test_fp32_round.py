"""The rounding step against exact fractions."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from rtl.lib.fp32_round import Fp32Round
from tests.rtl import oracle
from tests.rtl.harness import evaluate


def significands(width: int, count: int) -> list[int]:
    """Return significands around ties and carries, their leading one where the lowest bit may be sticky."""
    rng = random.Random(width)
    found = [0, 1 << (width - 1), (1 << width) - 1, (1 << width) - 2, (1 << width) - (1 << (width - 25))]
    while len(found) < count:
        top = rng.randrange(25, width)  # leading one
        tail = rng.choice([0, 1, 2, 3, (1 << (top - 24)) - 1, 1 << (top - 24), rng.getrandbits(top - 23)])
        kept = rng.choice([0, 1, 2, 3, (1 << 23) - 1, (1 << 23) - 2, rng.getrandbits(23)])
        found.append(min(1 << top | kept << (top - 23) | tail, (1 << width) - 1))
    return found


@pytest.mark.rtl
@pytest.mark.parametrize(
    ("width", "low", "high"), [(26, -126, 127), (28, -125, 380), (40, -126, 130), (48, -251, 257), (30, -500, -100)]
)
def test_round_is_nearest_even(width: int, low: int, high: int) -> None:
    rng = random.Random(width)
    around = (low, high, -175, -151, -150, -149, -148, -127, -126, -125, 126, 127, 128, 0)
    edges = [edge for edge in around if low <= edge <= high]
    vectors = [
        {"sign": rng.getrandbits(1), "exponent": rng.choice([*edges, rng.randint(low, high)]), "significand": word}
        for word in significands(width, 6000)
    ]
    results = evaluate(Fp32Round(width, low, high), vectors)
    for vector, result in zip(vectors, results, strict=True):
        exact = vector["significand"] * Fraction(2) ** (vector["exponent"] - width + 1)
        expected = oracle.rounded(-exact if vector["sign"] else exact, sign_of_zero=vector["sign"])
        assert result["result"] == expected, vector


@pytest.mark.usefixtures("refused_parts")
@pytest.mark.parametrize(("width", "low", "high", "word"), [(25, 0, 1, "width"), (26, 1, 0, "min_exponent")])
def test_round_refuses_impossible_widths(width: int, low: int, high: int, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Fp32Round(width, low, high)

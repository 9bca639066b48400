"""The multiplier against exact fractions, and against the processor's own."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hwsim.pe import rounding
from rtl.lib.fp32_mul import Fp32Mul
from tests.rtl import oracle
from tests.rtl.harness import evaluate

CORNERS = [0, 1, 2, 3, 0x400000, 0x7FFFFF, 0x800000, 0x800001, 0xFFFFFF, 0x1F800000, 0x20000000, 0x33800000, 0x3F000000,
           0x3F7FFFFF, 0x3F800000, 0x3F800001, 0x3FFFFFFF, 0x40000000, 0x5F800000, 0x7F000000, 0x7F7FFFFF, 0x7F800000,
           0x7F800001, 0x7FC00000, 0x7FFFFFFF]  # fmt: skip


def operands() -> list[dict[str, int]]:
    """Return all pairs of corners, full random words, and pairs whose product lies near the ends of the range."""
    rng = random.Random(1)
    words = [sign | bits for bits in CORNERS for sign in (0, 1 << 31)]
    pairs = [(x, y) for x in words for y in words]
    pairs += [(rng.getrandbits(32), rng.getrandbits(32)) for _ in range(8000)]
    for _ in range(16000):  # fields that add up to a product around 2^-150 or 2^128
        field = rng.randrange(255)
        other = min(max(rng.choice([127 - 126, 127 - 149, 127 + 127]) + 127 - field + rng.randrange(-3, 4), 0), 254)
        pairs.append(tuple(rng.getrandbits(1) << 31 | part << 23 | rng.getrandbits(23) for part in (field, other)))
    return [{"x": x, "y": y} for x, y in pairs]


@pytest.mark.rtl
def test_multiply_is_ieee() -> None:
    pairs = operands()
    results = evaluate(Fp32Mul(), pairs)
    found = [result["result"] for result in results]
    for pair, result in zip(pairs, found, strict=True):
        assert result == oracle.multiply(**pair), pair
    for pair, each in list(zip(pairs, results, strict=True))[::3]:
        assert (each["result"], each["flags"]) == rounding.multiply(**pair), pair
    x, y = (np.array([pair[side] for pair in pairs], np.uint32).view(np.float32) for side in "xy")
    with np.errstate(all="ignore"):
        outside = x * y
    bits = np.where(np.isnan(outside), oracle.NAN, outside.view(np.uint32))
    assert (bits == np.array(found, np.uint32)).all()

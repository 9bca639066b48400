"""`laconic`: terms and schedule in plain words, and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.pe import laconic
from tests.hwsim.pe.test_serial_schedules import drawn, signed


def booth_terms(value: int) -> int:
    """Return the digits of a value that are not 0, from a string of bits: overlapping groups of three."""
    text = format(value & 0xFFFFFF, "024b") + "0"
    groups = [text[at : at + 3] for at in range(0, 24, 2)]
    digits = [-2 * int(high) + int(middle) + int(low) for high, middle, low in groups]
    assert sum(digit * 4**place for place, digit in enumerate(reversed(digits))) == value
    return sum(digit != 0 for digit in digits)


def beats_of(a: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    return {"a": a, "b": b, "last": np.zeros(len(a), np.uint8)}


@pytest.mark.parametrize(("activation", "weight"), [(8, 8), (8, 4), (2, 16), (16, 16), (3, 5)])
def test_the_slowest_lane_decides(activation: int, weight: int) -> None:
    params = laconic.Params(f"int{weight}", 5, activation=f"int{activation}")
    a, b = drawn(activation, 300, 5, 1), drawn(weight, 300, 5, 2)
    a[0] = b[1] = 0
    found = params.datapath.beat_cycles(beats_of(a, b))
    assert found is not None and found.dtype == np.int64
    expected = [
        max([1, *(booth_terms(signed(x, activation)) * booth_terms(signed(y, weight)) for x, y in pairs)])
        for pairs in (zip(*rows, strict=True) for rows in zip(a.tolist(), b.tolist(), strict=True))
    ]
    assert found.tolist() == expected
    assert min(expected) == 1 and max(expected) <= params.datapath.most_beat_cycles


@pytest.mark.parametrize(
    ("fields", "most"),
    [({}, 16), ({"weight": "int4"}, 8), ({"weight": "uint4", "block": 32, "zero_point": True}, 12),
     ({"weight": "int16", "activation": "int16"}, 64)],
)  # fmt: skip
def test_most_cycles(fields: dict[str, object], most: int) -> None:
    """Four terms of 8 bits, two of 4; unsigned weights of 4 bits have three (11 is 16 - 4 - 1)."""
    assert laconic.Params(**fields).datapath.most_beat_cycles == most  # type: ignore[arg-type]


def test_by_hand() -> None:
    """0x55 = 64 + 16 + 4 + 1 has four terms, 127 = 128 - 1 two, 64 one: 4 * 2, 2 * 1, none, 1 * 1."""
    a = np.array([[0x55, 64], [127, 0], [0, 0x55], [64, 64]], np.uint8)
    b = np.array([[127, 64], [64, 0x55], [127, 0], [64, 64]], np.uint8)
    found = laconic.Params(lanes=2).datapath.beat_cycles(beats_of(a, b))
    assert found is not None and found.tolist() == [8, 2, 1, 1]


def test_actions_by_hand() -> None:
    """Six outputs of 100 products in 13 beats: at most 16 pairs, whose products have exponents 0 to 14."""
    params = laconic.Params(lanes=8)
    assert params.datapath.exponents == 15
    assert laconic.Params("uint4", 8, 8, True, "int4").datapath.exponents == 8
    assert laconic.actions(2, 3, 100, params) == {
        "pair_terms": 600 * 16, "add_int32": 6 * 13 * (16 * 15 + 1), "add_float32": 6, "mul_float32": 12,
    }  # fmt: skip

"""`loom`: its schedule bit by bit, counts by hand, and Params that it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from hwsim.pe import loom
from tests.hwsim.pe.test_serial_schedules import cycles_of, drawn


@pytest.mark.parametrize("bits_a_cycle", [1, 2, 4])
@pytest.mark.parametrize(("activation", "weight"), [(2, 2), (3, 5), (8, 4), (8, 8), (16, 16), (5, 3)])
def test_cycles_bit_by_bit(activation: int, weight: int, bits_a_cycle: int) -> None:
    """Each weight bit meets every activation bit, so many at a time."""
    taken = 0
    for _ in range(weight):
        left = activation
        while left > 0:
            left, taken = left - bits_a_cycle, taken + 1
    params = loom.Params(f"int{weight}", 3, activation=f"int{activation}", bits_a_cycle=bits_a_cycle)
    assert cycles_of(params, drawn(activation, 20, 3, 0)) == [taken] * 20


def test_published_proportions() -> None:
    """Time in proportion to Pa * Pw; more bits a cycle take as many times less."""

    def taken(activation: str, weight: str, bits: int = 1) -> int:
        return int(loom.Params(weight, activation=activation, bits_a_cycle=bits).datapath.most_beat_cycles)

    assert taken("int16", "int16") == 256 == 4 * taken("int8", "int8") == 16 * taken("int4", "int4")
    assert [taken("int8", "int4", bits) for bits in (1, 2, 4)] == [32, 16, 8]
    assert loom.Params("uint4", block=32, zero_point=True).datapath.most_beat_cycles == 32


def test_actions_by_hand() -> None:
    """Six outputs of 100 products in 13 beats of 8: 64 single bits a product; 64 and 8 additions a beat, and one."""
    assert loom.actions(2, 3, 100, loom.Params(lanes=8)) == {
        "count_word": 6 * 100 * 64 // 8, "add_int32": 6 * 13 * (64 + 8 + 1), "add_float32": 6, "mul_float32": 12,
    }  # fmt: skip


@pytest.mark.parametrize("bits", [0, 3, 8, True, 1.0, "2"])
def test_bits_a_cycle_that_there_are_not(bits: Any) -> None:
    with pytest.raises(ValueError, match=f"loom: bits_a_cycle must be 1, 2 or 4, not {bits!r}"):
        loom.Params(bits_a_cycle=bits)

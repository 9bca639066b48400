"""`unpu`: a cycle a bit of the weight, and counts by hand."""

from __future__ import annotations

import pytest

from hwsim.pe import unpu
from tests.hwsim.pe.test_serial_schedules import cycles_of, drawn


@pytest.mark.parametrize("bits", range(2, 17))
def test_a_cycle_a_bit_of_the_weight(bits: int) -> None:
    assert cycles_of(unpu.Params(f"int{bits}", 3), drawn(8, 50, 3, 0)) == [bits] * 50


def test_unsigned_weights() -> None:
    params = unpu.Params("uint4", 4, 8, True, activation="int16")
    assert cycles_of(params, drawn(16, 50, 4, 0)) == [4] * 50


def test_actions_by_hand() -> None:
    """Six outputs of 100 products in 13 beats of 8 lanes, 4 bits a weight: each a gate and an addition; one a beat."""
    assert unpu.actions(2, 3, 100, unpu.Params("int4", 8)) == {
        "and_word": 2400, "add_int32": 2400 + 6 * 13, "add_float32": 6, "mul_float32": 12,
    }  # fmt: skip

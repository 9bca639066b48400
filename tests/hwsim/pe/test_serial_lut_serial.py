"""`lut_serial`: its schedule, the identity that its planes rest on, counts by hand, and Params that it refuses."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from hwsim.pe import lut_serial
from tests.hwsim.pe.test_serial_schedules import cycles_of, drawn, signed


@pytest.mark.parametrize("bits", range(2, 17))
def test_a_cycle_a_bit_of_the_weight(bits: int) -> None:
    assert cycles_of(lut_serial.Params(f"int{bits}", 3), drawn(8, 50, 3, 0)) == [bits] * 50


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_planes_of_signs_and_what_they_leave(bits: int) -> None:
    """All weights of three lanes: half of what planes give, less or plus the sum of the activations, is the sum."""
    a = [5, -128, 127]
    for codes in product(range(1 << bits), repeat=3):
        turned = [code ^ 1 << (bits - 1) for code in codes]
        for read, unsigned in ((turned, False), (codes, True)):
            planes = sum(
                (1 << place) * sum(x if code >> place & 1 else -x for x, code in zip(a, read, strict=True))
                for place in range(bits)
            )
            weights = codes if unsigned else [signed(code, bits) for code in codes]
            left = (1 << bits) - 1 if unsigned else -1
            assert planes + left * sum(a) == 2 * sum(x * q for x, q in zip(a, weights, strict=True))


def test_groups() -> None:
    assert lut_serial.Params(lanes=32).datapath.groups == (4,) * 8
    assert lut_serial.Params(lanes=10).datapath.groups == (4, 4, 2)
    assert lut_serial.Params(lanes=5, group=1).datapath.groups == (1,) * 5


def test_actions_by_hand() -> None:
    """13 beats of two tables of 4, each of 14 additions as published; 4 readings; a sum of two ends a beat, and one."""
    assert lut_serial.actions(2, 3, 100, lut_serial.Params("int4", 8)) == {
        "table_sum": 6 * 13 * 28, "read_table": 6 * 13 * 8, "add_int32": 6 * 13 * (8 + 2 + 1), "add_float32": 6,
        "mul_float32": 12,
    }  # fmt: skip


@pytest.mark.parametrize("group", [0, 7, True, 4.0, "4"])
def test_groups_that_there_are_not(group: Any) -> None:
    with pytest.raises(ValueError, match=f"lut_serial: group must be an integer of 1 to 6, not {group!r}"):
        lut_serial.Params(group=group)

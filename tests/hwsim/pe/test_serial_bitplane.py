"""`bitplane`: pairs of planes worked off, recovery of every product, counts by hand, and Params that it refuses."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from hwsim.pe import bitplane
from tests.hwsim.pe.test_serial_schedules import cycles_of, drawn, signed


@pytest.mark.parametrize("pairs_a_cycle", [0, 1, 2, 3, 4, 7, 12])
@pytest.mark.parametrize(("activation", "weight"), [(4, 3), (8, 4), (16, 16)])
def test_pairs_are_worked_off(activation: int, weight: int, pairs_a_cycle: int) -> None:
    left, taken = list(product(range(activation), range(weight))), 0
    while left:
        left, taken = left[pairs_a_cycle or len(left) :], taken + 1
    params = bitplane.Params(f"int{weight}", 3, activation=f"int{activation}", pairs_a_cycle=pairs_a_cycle)
    assert cycles_of(params, drawn(activation, 20, 3, 0)) == [taken] * 20
    assert params.datapath.most_beat_cycles == taken


def test_planes_recover_products() -> None:
    """Every pair of places once, and with their signs the products of two's complement."""
    spec = bitplane.Params("int3", activation="int4").datapath
    assert sorted(spec.pairs) == list(product(range(4), range(3)))
    for x, y in product(range(16), range(8)):
        ones = [(-1) ** ((i == 3) + (j == 2)) << i + j for i, j in spec.pairs if x >> i & 1 and y >> j & 1]
        assert sum(ones) == signed(x, 4) * signed(y, 3)


def test_actions_by_hand() -> None:
    """13 beats of 32 pairs of planes, of which each product has one bit: shifts only where they change."""
    counts = {
        "count_word": 600 * 32 // 8, "add_int32": 6 * 13 * (32 + 1), "add_float32": 6, "mul_float32": 12,
    }  # fmt: skip
    assert bitplane.actions(2, 3, 100, bitplane.Params("int4", 8, pairs_a_cycle=0)) == counts
    assert bitplane.actions(2, 3, 100, bitplane.Params("int4", 8)) == counts | {"shift_word": 6 * 13 * 32}


@pytest.mark.parametrize("pairs", [-1, 257, True, 1.0, "all"])
def test_pairs_that_are_no_number(pairs: Any) -> None:
    with pytest.raises(ValueError, match=f"bitplane: pairs_a_cycle must be an integer of 0 to 256, not {pairs!r}"):
        bitplane.Params(pairs_a_cycle=pairs)


def test_more_pairs_than_there_are() -> None:
    with pytest.raises(ValueError, match="bitplane: pairs_a_cycle must be at most the 32 pairs of planes of int8 and"):
        bitplane.Params("int4", pairs_a_cycle=33)

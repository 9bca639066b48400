"""`bitfusion`: cycles, bricks and fusion units of every pair of widths, and counts by hand."""

from __future__ import annotations

import pytest

from hwsim.pe import bitfusion
from tests.hwsim.pe.test_serial_schedules import cycles_of, drawn


@pytest.mark.parametrize("activation", range(2, 17))
@pytest.mark.parametrize("weight", range(2, 17))
def test_cycles_and_bricks(weight: int, activation: int) -> None:
    """Operands take the next of 2, 4, 8 and 16 bits; 16 bits are two halves, of 4 slices."""
    widths = [next(width for width in (2, 4, 8, 16) if bits <= width) for bits in (weight, activation)]
    spec = bitfusion.Params(f"int{weight}", 4, activation=f"int{activation}").datapath
    assert spec.most_beat_cycles == 2 ** widths.count(16)
    assert spec.product_bricks == min(widths[0], 8) // 2 * (min(widths[1], 8) // 2)


def test_published_products_of_a_fusion_unit() -> None:
    """Sixteen bricks: 1, 2, 4, 8 or 16 products a cycle, down to a quarter of one of 16 by 16 bits."""
    pairs = {(8, 8): 1, (8, 4): 2, (4, 4): 4, (8, 2): 4, (4, 2): 8, (2, 2): 16}
    for (activation, weight), products in pairs.items():
        spec = bitfusion.Params(f"int{weight}", 32, activation=f"int{activation}").datapath
        assert spec.fusion_units * products == 32 and spec.most_beat_cycles == 1
    wide = bitfusion.Params("int16", 8, activation="int16").datapath
    assert (wide.fusion_units, wide.most_beat_cycles) == (8, 4)
    assert bitfusion.Params("int2", 9, activation="int4").datapath.fusion_units == 2


def test_beats_do_not_depend_on_operands() -> None:
    assert cycles_of(bitfusion.Params("int4", 3, activation="int16"), drawn(16, 20, 3, 0)) == [2] * 20


def test_actions_by_hand() -> None:
    """Six outputs of 100 products in 25 beats: 16 bricks and one addition a product; 16 by 8 bits, twice over."""
    assert bitfusion.actions(2, 3, 100, bitfusion.Params(lanes=4)) == {
        "mul_brick": 600 * 16, "add_int32": 600 + 6 * 25, "add_float32": 6, "mul_float32": 12,
    }  # fmt: skip
    wide = bitfusion.Params(lanes=4, activation="int16")
    assert wide.sum_words == 2
    counts = bitfusion.actions(2, 3, 100, wide)
    assert (counts["mul_brick"], counts["add_int32"]) == (600 * 32, 600 * 2 + 6 * 25 * (1 + 2))

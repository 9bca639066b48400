"""Packing against Amaranth's own idea of a layout's bits."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.pe import unit
from rtl.lib.beat import beat_layout, side_layout
from rtl.sim.payload import pack_beats
from tests.rtl.operands import draw_dot


@pytest.mark.parametrize(
    ("unit_name", "fields"),
    [("int_mac", {"weight": "uint4", "block": 12, "lanes": 3, "zero_point": True}), ("mx_dot", {"out_scale": True})],
)
def test_pack_beats_as_the_layout_says(unit_name: str, fields: dict) -> None:
    spec = unit(unit_name).Params(**fields).datapath
    layout = beat_layout(spec)
    dots = [draw_dot(spec, 5, "wide", np.random.default_rng(seed)) for seed in range(4)]
    packed = pack_beats(dots, layout)
    words = [int.from_bytes(row.tobytes(), "little") for row in packed]
    beats = [{name: dot[name][beat].tolist() for name in dot} for dot in dots for beat in range(len(dot["last"]))]
    assert words == [layout.const(beat).as_bits() for beat in beats]


def test_sides_share_out_the_beat() -> None:
    spec = unit("int_mac").Params(weight="uint4", lanes=16, block=16, zero_point=True).datapath
    sides = [name for side in "ab" for name, _ in side_layout(spec, side)]
    assert sorted([*sides, "last"]) == sorted(name for name, _ in beat_layout(spec))
    with pytest.raises(ValueError, match="'c'"):
        side_layout(spec, "c")

"""Packing against Amaranth's own idea of a layout's bits."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import unsigned
from amaranth.lib import data

from hwsim.pe import unit
from rtl.lib.beat import beat_layout, side_layout
from rtl.sim.payload import join_beats, pack_beats, pack_words
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
    for row, word in zip(pack_words(join_beats(dots), layout), words, strict=True):
        assert int.from_bytes(row.astype("<u4").tobytes(), "little") == word


def test_fields_of_every_width_meet_the_words_of_a_payload() -> None:
    fields = {"x": 3, "wide": 32, "y": 13, "last": 1, "z": 31, "byte": 8}
    layout = data.StructLayout({name: unsigned(bits) for name, bits in fields.items()})
    generator = np.random.default_rng(1)
    beats = {name: generator.integers(0, 1 << bits, 50) for name, bits in fields.items()}
    for beat, row in enumerate(pack_words(beats, layout)):
        integers = {name: int(values[beat]) for name, values in beats.items()}
        assert int.from_bytes(row.astype("<u4").tobytes(), "little") == layout.const(integers).as_bits()


def test_what_a_payload_cannot_hold_is_refused() -> None:
    layout = data.StructLayout({"x": unsigned(3), "last": unsigned(1)})
    one = np.ones(2, np.int64)
    with pytest.raises(ValueError, match="'x' holds 1 to 8; its codes have 3 bits"):
        pack_words({"x": np.array([1, 8]), "last": one}, layout)
    with pytest.raises(ValueError, match="'x' holds -1 to 1"):
        pack_words({"x": np.array([-1, 1]), "last": one}, layout)
    with pytest.raises(ValueError, match=r"fields \['last'\]; the unit takes \['last', 'x'\]"):
        pack_words({"last": one}, layout)
    with pytest.raises(ValueError, match=r"dot product 1 has fields \['last'\]; the first one has"):
        join_beats([{"x": one, "last": one}, {"last": one}])
    with pytest.raises(ValueError, match="'x' has 40 bits; a payload's fields have at most 32"):
        pack_words({"x": one}, data.StructLayout({"x": unsigned(40)}))


def test_sides_share_out_the_beat() -> None:
    spec = unit("int_mac").Params(weight="uint4", lanes=16, block=16, zero_point=True).datapath
    sides = [name for side in "ab" for name, _ in side_layout(spec, side)]
    assert sorted([*sides, "last"]) == sorted(name for name, _ in beat_layout(spec))
    with pytest.raises(ValueError, match="'c'"):
        side_layout(spec, "c")

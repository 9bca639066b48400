from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwsim import formats, pe
from hwsim.flow.operands import directed, formats_of, from_bundle
from hwsim.formats.bundle import Bundle, read_bundle


@pytest.mark.parametrize("fmt", pe.formats())
def test_directed_operands_are_seeded_and_reach_the_corners(fmt: str) -> None:
    unit, params = pe.unit_for(fmt)
    dots = directed(fmt, unit, params, 400, seed=1)
    assert len(dots.beats) == len(dots.expected) == 400
    assert dots.expected == directed(fmt, unit, params, 400, seed=1).expected
    assert dots.expected != directed(fmt, unit, params, 400, seed=2).expected
    magnitudes = [bits & 0x7FFFFFFF for bits in dots.expected]
    assert 0 in magnitudes or fmt == "int8"
    # a NaN among the scales; FP32 scales of a row are rarely NaN, but overflow to Inf
    worst = 0x7F800000 if fmt == "int8" else 0x7F800001
    assert any(bits >= worst for bits in magnitudes), "no special value among the results"


@pytest.mark.parametrize("fmt", ["mxfp4", "nvfp4"])
def test_all_pairs_of_4_bit_codes_come_first(fmt: str) -> None:
    unit, params = pe.unit_for(fmt)
    dots = directed(fmt, unit, params, 256, seed=0)
    pairs = {(int(beats["a"][0, 0]), int(beats["b"][0, 0])) for beats in dots.beats}
    assert len(pairs) == 256
    values = formats.element_values(formats.element("float4_e2m1fn"))
    for beats, bits in zip(dots.beats, dots.expected, strict=True):
        product = values[beats["a"][0, 0]] * values[beats["b"][0, 0]]
        assert np.uint32(bits).view(np.float32) == product


@pytest.mark.parametrize("fmt", pe.formats())
def test_expected_bits_are_those_of_the_plain_reference(fmt: str) -> None:
    unit, params = pe.unit_for(fmt)
    dots = directed(fmt, unit, params, 330, seed=9)
    for beats, bits in zip(dots.beats, dots.expected, strict=True):
        assert unit.reference(beats, params) == bits


def test_bundle_operands_come_from_every_layer(bundle_file: Path) -> None:
    bundle = read_bundle(bundle_file)
    unit, params = pe.unit_for("mxfp4")
    dots = from_bundle(bundle, unit, params, 30, seed=0)
    assert len(dots.expected) == 30
    assert dots.macs == sum(2 * layer.k for layer in bundle.layers)


def test_bundle_without_activations_is_refused(bundle_file: Path) -> None:
    from dataclasses import replace

    bundle = read_bundle(bundle_file)
    bare = Bundle(tuple(replace(layer, activation=None, reference=None) for layer in bundle.layers))
    unit, params = pe.unit_for("mxfp4")
    with pytest.raises(ValueError, match="no sample activations"):
        from_bundle(bare, unit, params, 3, seed=0)


def test_formats_of_every_unit_cover_the_catalogue() -> None:
    assert sorted(name for unit in pe.names() for name in formats_of(unit)) == sorted(pe.formats())

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwsim import formats, pe
from hwsim.flow import operands
from hwsim.flow.operands import chunks, directed, directed_batches, formats_of, from_bundle
from hwsim.formats.bundle import Bundle, read_bundle


@pytest.mark.parametrize("fmt", pe.formats())
def test_directed_operands_are_seeded_and_reach_the_corners(fmt: str) -> None:
    unit, params = pe.unit_for(fmt)
    dots = directed(fmt, unit, params, 600, seed=1)
    assert len(dots.beats) == len(dots.expected) == 600
    assert dots.expected == directed(fmt, unit, params, 600, seed=1).expected
    assert dots.expected != directed(fmt, unit, params, 600, seed=2).expected
    magnitudes = [bits & 0x7FFFFFFF for bits in dots.expected]
    assert 0 in magnitudes or fmt == "int8"
    # a NaN among the scales; FP32 scales of a row are rarely NaN, but overflow to Inf
    worst = 0x7F800000 if fmt == "int8" else 0x7F800001
    assert any(bits >= worst for bits in magnitudes), "no special value among the results"


@pytest.mark.parametrize(
    ("fmt", "field"), [("int8", "a_out"), ("int8", "b_out"), ("int4_g128", "a_out"), ("nvfp4", "b_out")]
)
def test_output_scales_reach_the_ends_of_fp32(fmt: str, field: str) -> None:
    unit, params = pe.unit_for(fmt)
    joined = [beats[field] for beats, _, _ in chunks(directed_batches(fmt, params, 60000, seed=0), unit, params)]
    magnitudes = np.unique(np.concatenate(joined) & 0x7FFFFFFF)
    assert {0, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000} <= set(magnitudes.tolist())
    assert (magnitudes > 0x7F800000).any()


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


@pytest.mark.parametrize("fmt", ["mxfp4", "nvfp4", "int8"])
def test_chunks_hold_the_same_dot_products(fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unit, params = pe.unit_for(fmt)
    whole = directed(fmt, unit, params, 700, seed=3)
    monkeypatch.setattr(operands, "CHUNK_ROWS", 100)
    parts = list(chunks(directed_batches(fmt, params, 700, seed=3), unit, params))
    assert max(len(expected) for _, expected, _ in parts) < 100 + 256
    assert [bits for _, expected, _ in parts for bits in expected.tolist()] == whole.expected
    assert sum(macs for _, _, macs in parts) == whole.macs
    for name in whole.beats[0]:
        joined = np.concatenate([beats[name] for beats, _, _ in parts])
        np.testing.assert_array_equal(joined, np.concatenate([beats[name] for beats in whole.beats]))


def test_memory_does_not_grow_with_the_number_of_vectors() -> None:
    unit, params = pe.unit_for("mxfp4")
    some = chunks(directed_batches("mxfp4", params, 10**9, seed=0), unit, params)  # never made all at once
    for _ in range(2):
        beats, expected, _ = next(some)
        assert operands.CHUNK_ROWS <= len(expected) <= operands.CHUNK_ROWS + 256
        assert int(beats["last"].sum()) == len(expected)


def test_a_unit_without_paired_functions_is_taken_row_by_row() -> None:
    unit, params = pe.unit_for("nvfp4")

    class Plain:
        gemm, beats = staticmethod(unit.gemm), staticmethod(unit.beats)

    for batch in directed_batches("nvfp4", params, 300, seed=2):
        np.testing.assert_array_equal(batch.expected(Plain(), params), batch.expected(unit, params))
        for name, values in batch.beats(Plain(), params).items():
            np.testing.assert_array_equal(values, batch.beats(unit, params)[name])


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
    assert {name for unit in pe.names() for name in formats_of(unit)} == set(pe.formats())

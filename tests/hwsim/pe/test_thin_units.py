"""`bfp_dot` and `vs_dot`: what their formats leave open; `test_units` holds the formats themselves."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.formats import BlockSpec, Encoded, get
from hwsim.pe import bfp_dot, unit_for, vs_dot
from tests.hwsim.pe import oracle


def agree(a: Encoded, b: Encoded, unit, params) -> np.ndarray:
    """Demand that kernels, plain reference and exact rationals agree; return the bits."""
    bits = unit.gemm(a, b, params).view(np.uint32)
    rows = range(min(len(a.codes), len(b.codes)))
    pairs = unit.dots(a.rows(np.array(rows)), b.rows(np.array(rows)), params)
    np.testing.assert_array_equal(pairs, bits.diagonal()[: len(rows)])
    for m, n in np.ndindex(bits.shape):
        want = oracle.dot(a, b, m, n)
        assert int(bits[m, n]) == want == unit.reference(unit.beats(a, b, m, n, params), params), (m, n)
    return bits


def bfp(element: str, box: int) -> BlockSpec:
    """Return block floating point with any box."""
    base = next(get(name) for name in ("msfp12", "bfp5_b32", "msfp16") if get(name).element.name == element)
    return base.with_rules(block_size=box)


@pytest.mark.parametrize(("a_name", "b_name"), [("signmag4", "signmag8"), ("signmag8", "signmag5")])
@pytest.mark.parametrize(("box", "lanes"), [(2, 2), (8, 16), (16, 4), (128, 32)])
def test_bfp_takes_other_boxes_and_mixed_widths(a_name: str, b_name: str, box: int, lanes: int) -> None:
    rng = np.random.default_rng(box)
    a, b = (oracle.operand(bfp(name, box), 4, 4 * box, rng) for name in (a_name, b_name))
    a.codes[0], b.codes[0] = a.codes.max(), b.codes.max()  # the largest sums
    params = bfp_dot.Params(b_name, box, lanes, a_name)
    agree(a, b, bfp_dot, params)
    assert bfp_dot.params_for(b.format, a.format, lanes) == params


@pytest.mark.parametrize(("vector", "lanes"), [(8, 16), (16, 16), (64, 8)])
def test_vs_mixes_widths_and_reaches_the_largest_terms(vector: int, lanes: int) -> None:
    rng = np.random.default_rng(vector)
    a_fmt, b_fmt = (get(name).with_rules(block_size=vector) for name in ("int8_g16_vsq", "int4_g16_vsq"))
    a, b = (oracle.operand(fmt, 5, 4 * vector, rng, scales=[0, 1, 200, 255]) for fmt in (a_fmt, b_fmt))
    a.codes[0], b.codes[0], a.scales[0], b.scales[0] = 0x80, 8, 255, 255
    a.codes[1, : 2 * vector], b.codes[1, : 2 * vector] = 127, np.repeat([7, 9], vector)  # cancels
    a.scales[1], b.scales[1] = 255, 255
    agree(a, b, vs_dot, vs_dot.Params("int4", vector, lanes, "int8"))


@pytest.mark.parametrize("codes", [[0x7C00], [0xFC00], [0x7E01], [0x0001, 0x8000]], ids=["inf", "-inf", "nan", "tiny"])
def test_row_scales_that_are_special(codes: list[int]) -> None:
    a, b = oracle.operands("int8_g16_vsq", 3, 4, 48, b_scales=[1, 3])
    a.codes[0] = 0
    b.parts["row_scales"][:] = np.resize(codes, 4)
    bits = agree(a, b, vs_dot, vs_dot.Params("int8"))
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    assert set(bits[nan].tolist()) <= {0x7FC00000}
    assert nan[0].all() == (codes[0] & 0x7FFF >= 0x7C00)


def test_widths_are_just_wide_enough() -> None:
    for element, top in (("signmag4", 7), ("signmag5", 15), ("signmag8", 127)):
        spec = bfp_dot.Params(element).datapath
        assert spec.max_product == top * top and spec.frac_bits == 0
        assert spec.block_sum_bits == (16 * top * top).bit_length() + 1
    assert vs_dot.Params("int8").datapath.block_sum_bits == (16 * 128 * 128).bit_length() + 1


def test_actions_and_cycles() -> None:
    params = unit_for("msfp12")[1]
    assert isinstance(params, bfp_dot.Params)
    assert bfp_dot.actions(2, 3, 32, params) == {
        "mul_mag3_mag3": 192, "add_int32": 192, "mul_block_scale_e8m0": 12, "add_float32": 12,
    }  # fmt: skip
    assert bfp_dot.cycles(2, 3, 32, params) == 12 + params.datapath.latency
    unit, params = unit_for("int8_g16_vsq", "vs_dot")
    assert unit.actions(1, 1, 32, params) == {
        "mul_int8_int8": 32, "add_int32": 32, "mul_block_scale_uint8": 2, "add_float32": 2, "mul_float32": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "fields", "words"),
    [
        (bfp_dot, {"element": "int8"}, "bfp_dot: element must be one of signmag4.*not 'int8'"),
        (bfp_dot, {"a_element": "int8"}, "bfp_dot: a_element must be one of"),
        (bfp_dot, {"block": 1}, "bfp_dot: block must be an integer of 2 to 128, not 1"),
        (bfp_dot, {"block": 24}, "bfp_dot: block must be a multiple of lanes = 16 or divide it, not 24"),
        (bfp_dot, {"lanes": 65}, "bfp_dot: lanes must be an integer of 1 to 64, not 65"),
        (bfp_dot, {"stages": 5}, "bfp_dot: stages must be 0 to 4, not 5"),
        (vs_dot, {"element": "signmag4"}, "vs_dot: element must be one of int4, int8, not 'signmag4'"),
        (vs_dot, {"vector": 4}, "vs_dot: vector must be an integer of 8 to 64, not 4"),
        (vs_dot, {"vector": 24}, "vs_dot: vector must be a multiple of lanes = 16 or divide it"),
        (vs_dot, {"lanes": 0}, "vs_dot: lanes must be an integer of 1 to 64, not 0"),
        (vs_dot, {"stages": -1}, "vs_dot: stages must be 0 to 4, not -1"),
    ],
)
def test_bad_params_are_refused(unit, fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        unit.Params(**fields)

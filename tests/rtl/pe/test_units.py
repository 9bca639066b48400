"""Every unit against its model under the bench: bits and cycles, with and without stalls, and after a reset."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from hwsim.pe import names, unit
from hwsim.pe.accumulator import preset
from rtl.pe import component, components
from rtl.sim.bulk_cosim import BulkCosim
from rtl.sim.run import PASS_NAMES, cosim
from tests.hwsim.pe import accumulation
from tests.rtl import oracle
from tests.rtl.operands import PROFILES, draw_dot

pytestmark = pytest.mark.rtl

CONFIGURATIONS = {
    "int8": ("int_mac", {}),
    "int4_g128": ("int_mac", {"weight": "int4", "block": 128}),
    "int4_asym_small": ("int_mac", {"weight": "uint4", "block": 15, "lanes": 3, "zero_point": True}),
    "int4_asym_staged": (
        "int_mac",
        {"weight": "uint4", "block": 18, "lanes": 9, "zero_point": True, "stages": 4, "adder_tree": "carry_save"},
    ),
    "mxfp4": ("mx_dot", {}),
    "mxfp4_narrow": ("mx_dot", {"lanes": 8}),
    "nvfp4": ("mx_dot", {"scale": "float8_e4m3fn", "block": 16, "lanes": 16, "out_scale": True}),
}


def test_every_model_has_hardware() -> None:
    assert components() == names()


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'nothing'.*int_mac, .*mx_dot"):
        component("nothing")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_unit_equals_model_and_oracle(name: str) -> None:
    unit_name, fields = CONFIGURATIONS[name]
    model = unit(unit_name)
    params = model.Params(**fields)
    generator = np.random.default_rng(len(name))
    dots = [
        draw_dot(params.datapath, int(generator.integers(1, 20)), profile, generator)
        for profile in PROFILES
        for _ in range(30)
    ]
    expected = [model.reference(dot, params) for dot in dots]
    assert expected == [oracle.block_dot(dot, params.datapath) for dot in dots]

    result = cosim(unit_name, params, dots, expected, seed=7)

    assert result.ok, result
    assert result.vectors > 2 * len(dots)  # all of them twice, and a part again after a reset
    assert result.cycles == sum(len(dot["last"]) for dot in dots) + params.datapath.latency


ALIGNED = {"kind": "aligned", "scales": "product", "rounding": "rtz"}
E4M3, E5M2, E8M0, UE5M3 = "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "ufloat8_e5m3fn"
WIDER = {
    "e4m3": {"element": E4M3, "block": 8, "lanes": 4},
    "e5m2 x e3m2": {"element": "float6_e3m2fn", "a_element": E5M2, "block": 8, "lanes": 8, "flags": True},
    "fp16 x int4, uint8": {"element": "int4", "scale": "uint8", "a_element": "float16", "a_scale": "none", "block": 8,
                           "lanes": 4, "stages": 1, "flags": True, "adder_tree": "carry_save"},
    "two blocks a beat": {"block": 8, "lanes": 16, "a_element": "mxint8_element", "a_scale": UE5M3, "stages": 3},
    "blocks of two beats, all stages": {"element": E4M3, "block": 16, "lanes": 8, "stages": 4, "out_scale": True,
                                        "adder_tree": "carry_save", "flags": True},
    "fp16 down": {"element": E4M3, "block": 8, "lanes": 4, "flags": True,
                  "accumulator": {"format": "float16", "rounding": "rdn"}},
    "promoted": {"element": E4M3, "block": 8, "lanes": 8, "flags": True, "out_scale": True,
                 "accumulator": {"format": "float16", "rounding": "rod", "promote_every": 2}},
    "sequential": {"element": "bfloat16", "block": 8, "lanes": 2, "flags": True, "stages": 4,
                   "accumulator": {"kind": "sequential", "scales": "product", "format": "bfloat16"}},
    "summed in order": {"element": E4M3, "scale": UE5M3, "block": 8, "lanes": 4, "flags": True, "stages": 2,
                        "accumulator": {"kind": "sequential", "format": "float16", "rounding": "rod"}},
    "summed in order, two blocks a beat": {"element": E5M2, "scale": "uint8", "block": 4, "lanes": 8, "flags": True,
                                           "accumulator": {"kind": "sequential", "promote_every": 2}},
    "group of two beats": {"element": E4M3, "block": 16, "lanes": 4, "flags": True, "stages": 2,
                           "accumulator": {**ALIGNED, "group": 8, "fraction_bits": 25}},
    "group of four beats, two blocks a beat": {"scale": E4M3, "block": 4, "lanes": 8, "flags": True,
                                               "accumulator": {**ALIGNED, "group": 32, "fraction_bits": 20}},
    "group of blocks of two beats": {"scale": E4M3, "block": 8, "lanes": 4, "flags": True, "out_scale": True,
                                     "accumulator": {**ALIGNED, "group": 32, "fraction_bits": 35, "scales": "block",
                                                     "promote_every": 4}},
    "fp8 tensor core": {"element": E4M3, "scale": "none", "block": 8, "lanes": 8, "flags": True,
                        "accumulator": {**ALIGNED, "group": 8, "fraction_bits": 13, "kept_bits": 13}},
    "fp16 tensor core": {"element": "float16", "scale": "none", "block": 8, "lanes": 8, "stages": 2,
                         "accumulator": {**ALIGNED, "group": 4, "fraction_bits": 24, "overflow": "infinite"}},
    "mx tensor core": {"element": E5M2, "block": 8, "lanes": 4, "flags": True, "adder_tree": "carry_save",
                       "accumulator": {**ALIGNED, "group": 4, "fraction_bits": 25, "addend": "outside"}},
    "nvf4 tensor core": {"scale": E4M3, "block": 8, "lanes": 32, "flags": True, "stages": 3, "adder_tree": "carry_save",
                         "accumulator": {**ALIGNED, "group": 32, "fraction_bits": 35, "scales": "block"}},
}  # fmt: skip


@pytest.mark.parametrize("name", WIDER)
def test_elements_scales_and_accumulators_equal_the_model(name: str) -> None:
    """The model is held against exact rationals in its own tests; here the hardware against it, flags included."""
    model = unit("mx_dot")
    params = model.Params(**WIDER[name])
    generator = np.random.default_rng(len(name))
    dots = [
        draw_dot(params.datapath, int(generator.integers(1, 8)), profile, generator)
        for profile in PROFILES
        for _ in range(20)
    ]
    expected = [model.reference(dot, params) for dot in dots]
    assert len(set(expected)) > 30 and any(word >> 32 for word in expected) == params.flags
    result = cosim("mx_dot", params, dots, expected, seed=3)
    assert result.ok, result
    assert result.cycles == sum(len(dot["last"]) for dot in dots) + params.datapath.latency


@pytest.mark.slow
@pytest.mark.parametrize(("stages", "tree"), list(zip(range(5), ["carry_save", "binary"] * 3, strict=False)))
def test_stages_and_trees_change_latency_alone(stages: int, tree: str) -> None:
    """Every number of stages, trees in turn, in the bulk engine, against the kernels."""
    model = unit("mx_dot")
    params = model.Params(E4M3, E8M0, 32, 16, stages=stages, adder_tree=tree)
    assert params.datapath.latency == 3 + stages
    bulk = BulkCosim("mx_dot", params, seed=stages)
    for kind in accumulation.KINDS:
        a, b = accumulation.operands(params, kind, 2000, 2000, 4)
        bulk.check(model.paired_beats(a, b, params), model.dots(a, b, params))
    assert bulk.total.ok, bulk.total
    assert bulk.total.vectors > 20_000


PRESETS = {
    "ampere": {"element": "float16", "scale": "none", "block": 16, "lanes": 16, "accumulator": preset("ampere", k=16)},
    "hopper_fp8": {"element": E4M3, "scale": "none", "accumulator": preset("hopper_fp8", k=32)},
    "blackwell_mx": {"element": E4M3, "accumulator": preset("blackwell_mx")},
    "mxf4nvf4": {"scale": E4M3, "block": 16, "lanes": 64, "out_scale": True, "accumulator": preset("mxf4nvf4")},
    "mxf4nvf4, 16 lanes": {"scale": E4M3, "block": 16, "lanes": 16, "accumulator": preset("mxf4nvf4")},
    "summed in order": {"element": E4M3, "lanes": 8, "accumulator": {"kind": "sequential"}, "stages": 4},
    "e5m2, exact": {"element": E5M2, "adder_tree": "carry_save", "stages": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_many_dot_products_of_full_units(name: str) -> None:
    """Units of full width in the bulk engine, with flags, against the kernels."""
    model = unit("mx_dot")
    params = model.Params(**PRESETS[name], flags=True)
    bulk = BulkCosim("mx_dot", params, seed=1)
    for kind in accumulation.KINDS:
        a, b = accumulation.operands(params, kind, 4000, 4000, 4)
        bulk.check(model.paired_beats(a, b, params), model.dots(a, b, params))
    assert bulk.total.ok, bulk.total
    assert bulk.total.vectors > 40_000


def test_all_products_of_fp4_codes() -> None:
    params = unit("mx_dot").Params(block=1, lanes=1)
    codes = list(product(range(16), repeat=2))
    one = np.array([127])
    dots = [
        {"a": np.array([[a]]), "b": np.array([[b]]), "a_scale": one, "b_scale": one, "last": np.array([1])}
        for a, b in codes
    ]
    values = oracle.ELEMENTS["float4_e2m1fn"]
    result = cosim("mx_dot", params, dots, [oracle.rounded(values[a] * values[b]) for a, b in codes])
    assert result.ok, result
    assert result.macs == 256


@pytest.mark.parametrize(
    ("scale", "codes"), [("float8_e8m0fnu", [0xFF]), ("float8_e4m3fn", [0x7F, 0xFF])], ids=["e8m0", "e4m3"]
)
def test_a_scale_that_is_no_number_sticks_until_the_dot_product_ends(scale: str, codes: list[int]) -> None:
    params = unit("mx_dot").Params(scale=scale, block=16, lanes=16)
    generator = np.random.default_rng(3)
    dots, expected = [], []
    for code, side, beat in product(codes, ("a_scale", "b_scale"), range(4)):
        for spoil in (True, False):  # a sound dot product follows each spoilt one
            dot = draw_dot(params.datapath, 4, "plain", generator)
            if spoil:
                dot[side][beat] = code
                dot["a"][beat] = 0  # even a sum of zero
            dots.append(dot)
            expected.append(oracle.NAN if spoil else oracle.block_dot(dot, params.datapath))
    assert cosim("mx_dot", params, dots, expected, seed=1).ok


def test_a_wrong_result_is_found_and_leaves_a_waveform(tmp_path: Path) -> None:
    model = unit("mx_dot")
    params = model.Params()
    generator = np.random.default_rng(0)
    dots = [draw_dot(params.datapath, 3, "plain", generator) for _ in range(20)]
    expected = [model.reference(dot, params) for dot in dots]
    expected[13] ^= 1
    result = cosim("mx_dot", params, dots, expected, waveform_dir=tmp_path)
    assert not result.ok
    assert result.mismatches >= 2  # unstalled and stalled
    assert result.cycle_mismatches == 0
    assert f"{PASS_NAMES[0]} pass" in result.first_mismatch
    assert "dot product 13: bits" in result.first_mismatch
    assert result.waveform.parent == tmp_path
    assert result.waveform.stat().st_size > 1000


def test_operands_that_do_not_fit_are_refused() -> None:
    params = unit("mx_dot").Params()
    dot = draw_dot(params.datapath, 1, "plain", np.random.default_rng(0))
    with pytest.raises(ValueError, match="not 0 and 0"):
        cosim("mx_dot", params, [], [])
    with pytest.raises(ValueError, match="not 1 and 2"):
        cosim("mx_dot", params, [dot], [0, 0])
    with pytest.raises(ValueError, match="'a' holds 16 to 16; its codes have 4 bits"):
        cosim("mx_dot", params, [dot | {"a": np.full((1, 32), 16)}], [0])
    with pytest.raises(ValueError, match="'b' has 31 values a beat"):
        cosim("mx_dot", params, [dot | {"b": np.zeros((1, 31), int)}], [0])
    with pytest.raises(ValueError, match="the unit takes"):
        cosim("mx_dot", params, [dot | {"b_zero": np.zeros(1, int)}], [0])

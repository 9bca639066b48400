"""The baseline units in Icarus: small instances, corners of operands, stalls, and a reset in mid-stream."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.flow.operands import directed
from hwsim.formats import get
from hwsim.pe import unit, unit_for
from rtl.sim.run import cosim
from tests.rtl.operands import PROFILES, draw_dot

pytestmark = pytest.mark.rtl

FORMATS = {
    "fp32": ("fp_fma", "float32", None),
    "bf16": ("fp_fma", "bfloat16", None),
    "msfp12": ("bfp_dot", "msfp12", 4),
    "int16": ("int_mac", "int16", 4),
    "mx9": ("mx9_dot", "mx9", 4),
    "mx6 of two blocks a beat": ("mx9_dot", "mx6", 32),
    "vsq": ("vs_dot", "int4_g16_vsq", 4),
}
"""By format: operands of every kind, drawn as `hwsim cosim` does."""
PARAMS = {
    "fp16 into fp16": ("fp_fma", {"accumulate": "float16", "flags": True}),
    "e5m2 x e4m3 down": ("fp_fma", {"element": "float8_e4m3fn", "a_element": "float8_e5m2", "rounding": "rdn"}),
    "bf16 to odd": ("fp_fma", {"element": "bfloat16", "rounding": "rod", "flags": True, "stages": 1}),
    "bfp mixed": (
        "bfp_dot",
        {
            "element": "signmag8",
            "a_element": "signmag5",
            "block": 4,
            "lanes": 8,
            "stages": 3,
            "adder_tree": "carry_save",
        },
    ),
    "int9 x int3": ("int_mac", {"weight": "int3", "activation": "int9", "lanes": 4, "block": 8}),
    "vs mixed": ("vs_dot", {"element": "int4", "a_element": "int8", "vector": 8, "lanes": 4}),
}
"""By Params: operands drawn for the datapath."""


@pytest.mark.parametrize("name", FORMATS)
def test_formats_equal_the_model(name: str) -> None:
    unit_name, fmt, lanes = FORMATS[name]
    model, params = unit_for(get(fmt), unit_name, lanes)
    dots = directed(fmt, model, params, 300, seed=len(name))
    result = cosim(unit_name, params, dots.beats, dots.expected, seed=1)
    assert result.ok, result
    assert result.vectors > 600
    assert result.cycles == sum(len(dot["last"]) for dot in dots.beats) + params.datapath.latency


@pytest.mark.parametrize("name", PARAMS)
def test_params_equal_the_model(name: str) -> None:
    unit_name, fields = PARAMS[name]
    model = unit(unit_name)
    params = model.Params(**fields)
    rng = np.random.default_rng(len(name))
    dots = [draw_dot(params.datapath, int(rng.integers(1, 9)), profile, rng) for profile in PROFILES for _ in range(20)]
    expected = [model.reference(dot, params) for dot in dots]
    assert len(set(expected)) > 30
    result = cosim(unit_name, params, dots, expected, seed=2)
    assert result.ok, result

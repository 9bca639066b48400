"""Units that stream vectors against their models: bits and cycles, with and without stalls, and after a reset."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwsim import pe
from hwsim.pe import hadamard, hadamard_requant, requant
from hwsim.pe._stream import split
from rtl.lib.elastic_stream import fields_layout
from rtl.sim.payload import pack_words
from rtl.sim.run import PASS_NAMES, CosimResult, cosim

pytestmark = pytest.mark.rtl

CONFIGURATIONS = {
    f"{name}-{shown}": (name, params)
    for name in pe.names()
    if name not in pe.dot_names()
    for shown, params in pe.vector_unit(name).configurations().items()
}
ONE_LANE = {
    "hadamard-one_lane": ("hadamard", hadamard.Params(lanes=1, shift=1)),
    "requant-one_lane": ("requant", requant.Params(format="nvfp4", lanes=1)),
    "requant-one_beat": ("requant", requant.Params(format="nvint4", lanes=16)),
}
QUICK = (
    "hadamard-int8_32x8", "hadamard-fp16_32x4", "requant-mxint8_even", "requant-nvfp4", "requant-cast_float16",
    "requant-mxfp4_lfsr", "requant-int8_gemmlowp", "requant-int8_hawq_v3", "hadamard_requant-int8_64_mxint8",
)  # fmt: skip
"""What the default run simulates; the others are slow only because they are many."""
CASES = [
    pytest.param(*case, id=name, marks=() if name in QUICK or name in ONE_LANE else pytest.mark.slow)
    for name, case in (CONFIGURATIONS | ONE_LANE).items()
]


def run(
    name: str, params: Any, vectors: int, spoil: int | None = None, zeros: bool = False, **options: Any
) -> CosimResult:
    """Stream vectors that the unit draws through its RTL.

    `spoil` names a result whose expectation is made wrong; `zeros` makes all values zero.
    """
    unit, spec = pe.vector_unit(name), params.datapath
    beats = unit.operands(params, vectors, np.random.default_rng(vectors))
    if zeros:
        beats = beats | {"x": np.zeros_like(beats["x"])}
    words = pack_words(unit.outputs(beats, params), fields_layout(spec.outputs))
    expected = [int.from_bytes(word.astype("<u4").tobytes(), "little") for word in words]
    if spoil is not None:
        expected[spoil] ^= 1
    return cosim(name, params, split(beats, spec.beats), expected, **options)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_unit_equals_model(name: str, params: Any) -> None:
    vectors = max(96 // params.datapath.beats, 12)
    result = run(name, params, vectors, seed=7)
    assert result.ok, result
    assert result.vectors > 2 * vectors * params.datapath.results  # twice, and a part again after a reset
    assert result.cycles == pe.vector_unit(name).cycles(vectors, params)


@pytest.mark.parametrize("name", ["hadamard-int8_32x8", "hadamard-fp16_32x4", "requant-mxint8_even", "requant-nvfp4"])
def test_zeros_right_after_reset_are_known(name: str) -> None:
    """A process of a simulator that has never run would leave unknown values."""
    unit, params = CONFIGURATIONS[name]
    assert run(unit, params, 3, zeros=True).ok


@pytest.mark.slow
@pytest.mark.parametrize("fmt", requant.formats())
def test_every_format_that_is_taken(fmt: str) -> None:
    params = requant.Params(format=fmt, lanes=8)
    assert run("requant", params, 150, engine="bulk").ok


@pytest.mark.slow
@pytest.mark.parametrize("fmt", ["mxfp4", "mxint8", "mxfp8_e5m2", "float8_e4m3fn", "float16"])
def test_every_rounding(fmt: str) -> None:
    for rounding in ("rtz", "rup", "rdn", "raz", "rna", "rnz", "rod", "lfsr"):
        assert run("requant", requant.Params(format=fmt, rounding=rounding), 150, engine="bulk").ok


@pytest.mark.slow
@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "p3109_k8p3se", "bfloat16"])
@pytest.mark.parametrize("rounding", ["rne", "rdn"])
def test_nan_and_inf_pass_through_casts(fmt: str, rounding: str) -> None:
    params = requant.Params(format=fmt, rounding=rounding, overflow="nonsaturating", nan_policy="propagate")
    assert run("requant", params, 400, engine="bulk").ok


@pytest.mark.slow
@pytest.mark.parametrize("fmt", ["mxfp4", "mxint8_even"])
def test_nan_makes_a_block_nan(fmt: str) -> None:
    params = requant.Params(format=fmt, nan_policy="propagate")
    assert run("requant", params, 400, engine="bulk").ok


@pytest.mark.slow
@pytest.mark.parametrize(("name", "params"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_many_vectors(name: str, params: Any) -> None:
    assert run(name, params, 20_000, engine="bulk").ok


def test_a_wrong_result_in_the_middle_of_a_burst_is_found(tmp_path: Path) -> None:
    result = run("requant", requant.Params(), 20, spoil=13, waveform_dir=tmp_path)
    assert not result.ok and result.cycle_mismatches == 0
    assert f"{PASS_NAMES[0]} pass" in result.first_mismatch and " 13: bits" in result.first_mismatch


def test_params_go_through_plain_data() -> None:
    for unit, params in CONFIGURATIONS.values():
        assert pe.vector_unit(unit).Params(**asdict(params)) == params


def test_the_operands_reach_the_corners() -> None:
    params = requant.Params(format="nvfp4")
    beats = requant.operands(params, 3000, np.random.default_rng(0))
    scales = requant.outputs(beats, params)["scale"]
    assert len(np.unique(scales)) == 127
    x = beats["x"].reshape(-1, 16)
    assert (x & 0x7FFFFFFF == 0).all(axis=1).any() and ((x & 0x7F800000 == 0) & (x & 0x7FFFFF != 0)).any()
    fused = hadamard_requant.configurations()["fp16_32_nvfp4"]
    assert hadamard_requant.operands(fused, 50, np.random.default_rng(0))["x"].any()

"""The registry of units, and what importing it costs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from hwsim import pe
from hwsim.formats import element, get


def test_an_unknown_unit_lists_the_legal_ones() -> None:
    with pytest.raises(ValueError, match=f"unknown unit 'tpu'; known: {', '.join(pe.names())}"):
        pe.unit("tpu")
    with pytest.raises(ValueError, match="unknown unit 'tpu'"):
        pe.unit_for("mxfp4", "tpu")


@pytest.mark.parametrize("name", pe.names())
def test_a_unit_offers_the_whole_contract(name: str) -> None:
    found = pe.unit(name)
    assert name == found.NAME and dataclasses.is_dataclass(found.Params)
    assert found.Params.__dataclass_params__.frozen
    assert found.Params() == found.Params() and hash(found.Params()) == hash(found.Params())
    shared = ("reference", "cycles", "actions")
    multiplies = ("params_for", "gemm", "beats")
    streams = ("configurations", "operands", "outputs")
    for function in shared + (multiplies if name in pe.dot_names() else streams):
        assert callable(getattr(found, function))


def test_units_that_stream_vectors_are_told_apart() -> None:
    assert {"int_mac", "mx_dot"} <= set(pe.dot_names()) < set(pe.names())
    assert pe.vector_unit("hadamard").NAME == "hadamard"
    with pytest.raises(ValueError, match="no unit 'mx_dot' streams vectors; those that do: hadamard, "):
        pe.vector_unit("mx_dot")


@pytest.mark.parametrize("fmt", pe.formats())
def test_the_formats_with_a_unit_find_it(fmt: str) -> None:
    found, params = pe.unit_for(fmt)
    assert found.params_for(get(fmt), get(get(fmt).activation)) == params


def test_a_format_goes_to_its_own_unit_before_a_general_one() -> None:
    for name in ("int4_g16_vsq", "int8_g16_vsq"):
        assert pe.unit_for(name)[0].NAME == "vs_dot"
        assert pe.unit_for(name, "mx_dot")[0].NAME == "mx_dot"


def test_a_unit_that_does_not_take_the_format_lists_those_that_do() -> None:
    with pytest.raises(ValueError, match="'int_mac' does not take format mxfp4; units that do: mx_dot"):
        pe.unit_for("mxfp4", "int_mac")
    with pytest.raises(ValueError, match="'mx_dot' does not take format int8; units that do: int_mac"):
        pe.unit_for("int8", "mx_dot")


def test_a_format_that_no_unit_takes_says_so() -> None:
    odd = dataclasses.replace(get("int4_g128"), name="int4_bf", scale=element("float8_e5m2"))
    with pytest.raises(ValueError, match="int4_bf") as error:
        pe.unit_for(odd)
    assert "unit None" not in str(error.value)


def test_lanes_can_be_asked_for() -> None:
    assert pe.unit_for("mxfp4", lanes=8)[1].datapath.block_beats == 4
    assert pe.unit_for("int8", lanes=7)[1].datapath.lanes == 7
    with pytest.raises(ValueError, match="lanes = 24"):
        pe.unit_for("mxfp4", lanes=24)


@pytest.mark.parametrize("package", ["hwsim.pe", "hwsim.formats", "hwsim.formats.bundle"])
def test_importing_pulls_in_no_heavy_package(package: str) -> None:
    heavy = {"numba", "llvmlite", "torch", "amaranth", "cocotb"}
    code = f"import sys, {package}; print(sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

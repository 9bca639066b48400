"""The registry finds every format once, and a new one needs no list."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hwsim.formats import (
    BlockSpec,
    Format,
    activation_of,
    block,
    decode,
    element,
    element_names,
    encode,
    get,
    names,
)
from hwsim.formats.families.trellis import TrellisSpec
from hwsim.formats.registry import bare_element, collect

ROOT = Path(__file__).parents[3]


def test_the_catalogue_holds_the_agreed_formats() -> None:
    assert {"int8", "int4_g128", "int4_g128_asym", "mxfp4", "nvfp4"} <= set(names())
    assert {"float4_e2m1fn", "float8_e4m3fn", "float8_e8m0fnu", "float16", "float32"} <= set(element_names())
    assert {"int8", "int4", "uint4"} <= set(element_names())


def test_there_are_eighty_formats_without_counting_variants() -> None:
    assert len({get(name).generator or name for name in names()}) >= 80


@pytest.mark.parametrize("name", names())
def test_a_format_says_where_it_comes_from_what_it_stores_and_its_rules(name: str) -> None:
    import json

    spec = get(name)
    assert spec.name == name and len(spec.source) > 10
    assert 0 < spec.min_step <= 2 * spec.max_value
    assert 0 < spec.bits_per_element(4096) <= 32
    rules = json.loads(json.dumps(spec.rules()))
    assert rules["name"] == name and rules["family"] == type(spec).__name__
    points = spec.code_points()
    assert points is None or (points.ndim == 1 and points.dtype == np.float64)


@pytest.mark.parametrize("name", names())
def test_every_format_encodes_and_decodes_a_matrix(name: str) -> None:
    """Common to all families: the layout is what is stored, decoding is bounded, blocks lie along the axis."""
    spec = get(name)
    rng = np.random.default_rng(5)
    k = 512 + spec.padding(512)
    rows = 16 if isinstance(spec, TrellisSpec) else 128  # a search over paths takes its time
    x = rng.normal(size=(rows, k)).astype(np.float32)
    x = np.abs(x) if not np.signbit(_least(spec, x)) else x
    encoded = encode(x, spec)
    stored = encoded.stored_bits / x.size
    assert stored <= 32 and encoded.shape == x.shape
    y = decode(encoded)
    assert y.shape == x.shape and y.dtype == np.float32 and np.isfinite(y).all()
    if spec.max_value > 1:  # a bare element of small range saturates
        assert np.linalg.norm(y - x) < np.linalg.norm(x)
    np.testing.assert_array_equal(decode(encoded), y)
    np.testing.assert_array_equal(decode(encode(x, spec)), y)
    along = encode(x.T, spec, axis=0)
    np.testing.assert_array_equal(decode(along), y.T)


def _least(spec: Format, x: np.ndarray) -> float:
    """Return -1 where a format holds negative values, else 0."""
    try:
        encode(x, spec)
    except ValueError as error:
        assert "sign" in str(error) or "negative" in str(error), error
        return 0.0
    return -1.0


@pytest.mark.parametrize("name", [name for name in names() if isinstance(get(name), BlockSpec)])
def test_a_block_format_names_real_parts(name: str) -> None:
    spec = block(name)
    if spec.activation is not None:
        assert activation_of(name).name == spec.activation
    assert element(spec.element.name) == spec.element
    assert spec.scale is None or element(spec.scale.name) == spec.scale


@pytest.mark.parametrize("name", ["fp5", "", "MXFP4", "block:mxfp4"])
def test_an_unknown_format_says_what_is_near_and_where_the_list_is(name: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown format {name!r}; nearest: .*; `hwsim formats` lists all \d+"):
        get(name)


def test_an_unknown_element_lists_the_legal_ones() -> None:
    with pytest.raises(ValueError, match=re.escape(", ".join(element_names()))):
        element("fp5")


def test_a_format_without_a_unit_says_which_have_one() -> None:
    with pytest.raises(ValueError, match=r"no unit takes weights of format 'tfloat32'; there are units for .*mxfp4"):
        activation_of("tfloat32")


def test_one_name_for_two_formats_is_an_error_that_names_both_homes() -> None:
    other = dataclasses.replace(get("mxfp4"), source="another")
    with pytest.raises(ValueError, match=r"'mxfp4' is defined twice: in first\.py and in second\.py"):
        collect([("first.py", get("mxfp4")), ("second.py", other)])


def test_the_same_spec_seen_from_two_modules_is_no_duplicate_and_kinds_do_not_clash() -> None:
    int8 = element("int8")
    found = collect([("a", int8), ("b", int8), ("c", get("int8"))])
    assert list(found.values()) == [int8, get("int8")]


def test_a_floating_point_element_is_a_format_by_itself() -> None:
    spec = bare_element(element("float4_e2m1fn"))
    assert spec == get("float4_e2m1fn")
    x = np.array([0.25, -0.75, 7.0, -0.0], np.float32)
    assert encode(x, spec).codes.tolist() == [0, 10, 7, 8]
    assert decode(encode(x, spec)).tolist() == [0, -1, 6, 0]


MINE = """
from hwsim.formats import BlockSpec, FloatSpec
from hwsim.formats.catalog.elements import FLOAT8_E8M0FNU

MINE = FloatSpec("float5_mine", 2, 2, 2, "a format of my own, bias 2", witnesses=())
MX_MINE = BlockSpec(
    name="mxfp5_mine", element=MINE, scale=FLOAT8_E8M0FNU, block_size=32, scale_rule="floor",
    source="the same in blocks",
)
"""


def test_a_new_format_is_one_entry_and_the_whole_suite_takes_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/hwsim/formats", "-k", "_mine"]
    environment = {**os.environ, "HWSIM_CATALOG": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= 25, done.stdout[-500:]
    listed = [sys.executable, "-m", "hwsim.cli", "formats", "mxfp5_mine", "--json", "--plot", str(tmp_path / "x.svg")]
    shown = subprocess.run(listed, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0 and '"value": 3.5' in shown.stdout, shown.stderr


def test_a_catalogue_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    code = "from hwsim import formats; formats.names()"
    environment = {**os.environ, "HWSIM_CATALOG": str(tmp_path / "nowhere")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0 and "nowhere is no folder" in done.stderr

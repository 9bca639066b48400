"""The registry finds every format once, and a new one needs no list."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwsim.formats import BlockSpec, FloatSpec, IntSpec, decode, element, element_names, encode, get, names
from hwsim.formats.registry import collect
from tests.hwsim.formats import oracle


def test_the_catalogue_holds_the_agreed_formats() -> None:
    assert {"int8", "int4_g128", "int4_g128_asym", "mxfp4", "nvfp4"} <= set(names())
    assert {"float4_e2m1fn", "float8_e4m3fn", "float8_e8m0fnu", "float16", "float32"} <= set(element_names())
    assert {"int8", "int4", "uint4"} <= set(element_names())


@pytest.mark.parametrize("name", names())
def test_a_format_says_where_it_comes_from_and_names_real_parts(name: str) -> None:
    spec = get(name)
    assert spec.name == name and spec.source
    assert get(spec.activation).name == spec.activation
    assert element(spec.element.name) is spec.element and element(spec.scale.name) is spec.scale


@pytest.mark.parametrize("look", [get, element], ids=["get", "element"])
@pytest.mark.parametrize("name", ["fp5", "", "MXFP4", "block:mxfp4"])
def test_an_unknown_name_lists_the_legal_ones(look, name: str) -> None:
    legal = ", ".join(names() if look is get else element_names())
    with pytest.raises(ValueError) as error:
        look(name)
    assert repr(name) in str(error.value) and legal in str(error.value)


def test_one_name_for_two_formats_is_an_error_that_names_both_homes() -> None:
    other = dataclasses.replace(get("mxfp4"), block_size=16)
    with pytest.raises(ValueError, match=r"'mxfp4' is defined twice: in first\.py and in second\.py"):
        collect([("first.py", get("mxfp4")), ("second.py", other)])


def test_the_same_spec_seen_from_two_modules_is_no_duplicate_and_kinds_do_not_clash() -> None:
    int8 = element("int8")
    found = collect([("a", int8), ("b", int8), ("c", get("int8"))])
    assert list(found.values()) == [int8, get("int8")]


def test_a_format_that_no_list_knows_works_from_its_spec_alone() -> None:
    e3m2 = FloatSpec("float6_e3m2fn", 3, 2, 3, "OCP MX v1.0, table 4")
    mine = BlockSpec("mxfp6_test", e3m2, element("float8_e8m0fnu"), 32, "floor", "mxfp6_test", "test")
    assert get(mine) is mine
    x = np.random.default_rng(3).normal(size=(4, 64)).astype(np.float32)
    encoded = encode(x, mine)
    for row in range(4):
        for index in range(2):
            piece = slice(32 * index, 32 * index + 32)
            want = oracle.encode_block(mine, x[row, piece].view(np.uint32).tolist(), None)
            assert encoded.codes[row, piece].tolist() == want.codes
            assert encoded.scales[row, index] == want.scale
    assert np.abs(decode(encoded) - x).max() <= np.abs(x).max() / 8


def test_integers_of_any_width_work_as_elements() -> None:
    mine = BlockSpec(
        "int6_test", IntSpec("int6", 6, "test", narrow=False), element("float32"), None, "amax", "int8", "test"
    )
    x = np.linspace(-4, 4, 37, dtype=np.float32)
    encoded = encode(x, mine)
    want = oracle.encode_block(mine, x.view(np.uint32).tolist(), None)
    assert encoded.codes.tolist() == want.codes and encoded.scales.tolist() == [want.scale]

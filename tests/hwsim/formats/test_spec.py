"""Elements against exact rationals and outside tools, on every code; and what a spec refuses."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from hwsim.formats import BlockSpec, FloatSpec, IntSpec, element, element_names, get, names
from hwsim.formats.codec import element_values
from hwsim.formats.spec import integer_table
from tests.hwsim.formats import oracle

SMALL = [name for name in element_names() if element(name).bits <= 16]


def witness(tool: str, name: str) -> np.ndarray:
    """Return an outside tool's float64 value of every code of an element."""
    bits = element(name).bits
    if tool == "gfloat":
        formats = pytest.importorskip("gfloat.formats")
        decode = pytest.importorskip("gfloat").decode_float
        info = getattr(formats, f"format_info_ocp_{re.sub('^float[0-9]+_|fnu?$', '', name)}")
        return np.array([decode(info, code).fval for code in range(1 << bits)])
    dtype = np.dtype(name if tool == "numpy" else getattr(pytest.importorskip("ml_dtypes"), name))
    with np.errstate(invalid="ignore"):
        return np.arange(1 << bits).astype(f"uint{8 * dtype.itemsize}").view(dtype).astype(np.float64)


@pytest.mark.parametrize("name", SMALL)
def test_every_code_is_worth_the_exact_rational(name: str) -> None:
    spec = element(name)
    for code in range(1 << spec.bits):
        expected = oracle.value(spec, code)
        assert spec.value(code) == (None if isinstance(expected, str) else expected), hex(code)


@pytest.mark.parametrize(
    ("name", "tool"), [(name, tool) for name in SMALL for tool in element(name).witnesses], ids=lambda value: value
)
def test_every_code_agrees_with_the_witness(name: str, tool: str) -> None:
    theirs = witness(tool, name)
    theirs[np.isinf(theirs)] = np.nan  # the table says NaN for whatever is not finite
    ours = element_values(element(name))
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    finite = ~np.isnan(ours)
    np.testing.assert_array_equal(ours[finite].view(np.uint64), theirs[finite].view(np.uint64))


def test_every_element_has_a_witness() -> None:
    assert [name for name in element_names() if not element(name).witnesses] == []


def test_float32_codes_agree_with_numpy_on_random_and_corner_bits() -> None:
    rng = np.random.default_rng(1)
    corners = [0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FFFFFFF]
    corners += [code | 0x80000000 for code in corners]
    for code in [*corners, *rng.integers(0, 1 << 32, 3000).tolist()]:
        theirs = float(np.array(code, np.uint32).view(np.float32))
        assert element("float32").value(code) == (Fraction(theirs) if np.isfinite(theirs) else None), hex(code)


# From the documents: largest value, its code, smallest step, codes that are not finite
FACTS = {
    "float4_e2m1fn": (6, 0x7, 0.5, []),
    "float8_e4m3fn": (448, 0x7E, 2.0**-9, [0x7F, 0xFF]),
    "float8_e8m0fnu": (2.0**127, 0xFE, 2.0**-127, [0xFF]),
    "float16": (65504, 0x7BFF, 2.0**-24, [*range(0x7C00, 0x8000), *range(0xFC00, 0x10000)]),
    "int8": (127, 0x7F, 1, []),
    "int4": (7, 0x7, 1, []),
    "uint4": (15, 0xF, 1, []),
}


@pytest.mark.parametrize("name", FACTS)
def test_published_facts(name: str) -> None:
    top, top_code, step, special = FACTS[name]
    spec = element(name)
    assert (spec.max_value, spec.min_step) == (top, step)
    assert spec.value(top_code) == Fraction(top)
    assert [code for code in range(1 << spec.bits) if spec.value(code) is None] == special
    finite = np.unique(element_values(spec))  # exact in float64, and so are neighbours' differences
    assert np.diff(finite[~np.isnan(finite)]).min() == step


def test_e2m1_is_the_published_table() -> None:
    half = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    table = element_values(element("float4_e2m1fn"))
    assert table.tobytes() == np.array([*half, *(-v for v in map(float, half))]).tobytes()  # -0.0 included


@pytest.mark.parametrize(("name", "emax"), [("float4_e2m1fn", 2), ("float8_e4m3fn", 8), ("float8_e8m0fnu", 127)])
def test_emax_is_that_of_ocp_mx(name: str, emax: int) -> None:
    spec = element(name)
    assert isinstance(spec, FloatSpec)
    assert spec.emax == emax


@pytest.mark.parametrize("name", SMALL)
def test_integer_table_is_every_value_or_refuses_what_is_not_finite(name: str) -> None:
    spec = element(name)
    if any(spec.value(code) is None for code in range(1 << spec.bits)):
        with pytest.raises(ValueError, match=re.escape(name)):
            integer_table(spec)
        return
    table = integer_table(spec)
    assert [Fraction(i, 1 << spec.frac_bits) for i in table] == [oracle.value(spec, c) for c in range(1 << spec.bits)]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("beyond", [-1, 1])
def test_a_code_outside_the_format_is_refused(name: str, beyond: int) -> None:
    code = -1 if beyond < 0 else 1 << element(name).bits
    with pytest.raises(ValueError, match=rf"{code} .*{name}.*0 \.\. {(1 << element(name).bits) - 1}"):
        element(name).value(code)


@pytest.mark.parametrize("bits", [1, 9])
def test_integer_widths_outside_2_to_8_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"'odd'.*2 to 8.*{bits}"):
        IntSpec("odd", bits, "test")


@pytest.mark.parametrize(("exp_bits", "man_bits"), [(0, 3), (8, 24), (4, -1)])
def test_float_widths_are_checked(exp_bits: int, man_bits: int) -> None:
    with pytest.raises(ValueError, match=f"'odd'.*exp_bits={exp_bits}, man_bits={man_bits}"):
        FloatSpec("odd", exp_bits, man_bits, 1, "test")


@pytest.mark.parametrize("qmin", [-8, -7])
def test_narrow_leaves_out_the_most_negative_code_but_decodes_it(qmin: int) -> None:
    spec = IntSpec("i4", 4, "test", narrow=qmin == -7)
    assert (spec.qmin, spec.qmax, spec.value(8)) == (qmin, 7, -8)


def block(**changes: object) -> BlockSpec:
    """Return a small valid block format with some fields replaced."""
    fields = {
        "name": "mine", "element": element("int4"), "scale": element("float16"), "block_size": 8,
        "scale_rule": "amax", "activation": "int8", "source": "test",
    }  # fmt: skip
    return BlockSpec(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"block_size": 0},
        {"block_size": -4},
        {"scale_rule": "range"},
        {"zero_point": "include_zero"},
        {"scale_rule": "floor"},
        {"scale_rule": "floor", "scale": element("float8_e8m0fnu")},
        {"tensor_scale": "float32"},
        {"scale_cap": 448.0},
    ],
    ids=str,
)
def test_block_rules_that_do_not_go_together_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="'mine'"):
        block(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"element": element("float16")},  # a code is one byte
        {"scale": element("float8_e8m0fnu")},  # has no zero and no subnormals: `amax` cannot round into it
        {"tensor_scale": "float32", "scale": element("float8_e4m3fn"), "scale_cap": 256.0},
    ],
    ids=["wide element", "amax into e8m0", "cap below the scale's maximum"],
)
def test_block_rules_that_the_encoder_cannot_follow_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="'mine'"):
        block(**changes)


@pytest.mark.parametrize(
    ("name", "k", "bits"),
    [("int8", 64, 8.5), ("int4_g128", 256, 4.125), ("int4_g128_asym", 128, 4 + 20 / 128), ("mxfp4", 32, 4.25),
     ("nvfp4", 160, 4.5)],
)  # fmt: skip
def test_bits_per_element_by_hand(name: str, k: int, bits: float) -> None:
    assert get(name).bits_per_element(k) == bits


@pytest.mark.parametrize("name", names())
def test_rules_are_plain_data_and_hold_every_house_rule(name: str) -> None:
    import json

    rules = json.loads(json.dumps(get(name).rules()))
    assert rules["name"] == name
    assert {"scale_rule", "rounding", "overflow", "zero_block", "nan_policy", "nibble_order", "tensor_scale"} <= set(
        rules
    )
    assert rules["element"]["name"] == get(name).element.name

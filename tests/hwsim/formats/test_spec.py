"""What element specs say of their codes, from the documents; what they refuse; and the generators."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from hwsim.formats import FloatSpec, IntSpec, element, element_names, element_values, get
from hwsim.formats.exmy import exmy, p3109
from hwsim.formats.spec import integer_table
from tests.hwsim.formats import element_oracle as oracle

SMALL = [
    name
    for name in element_names()
    if isinstance(spec := element(name), FloatSpec | IntSpec) and spec.bits <= 16
]  # fmt: skip
E5M2_SPECIAL = [0x7C, 0x7D, 0x7E, 0x7F, 0xFC, 0xFD, 0xFE, 0xFF]
# From the documents: bias, largest value, its code, smallest normal, smallest step, codes that are not finite
FACTS = {
    "float3_e1m1": (0, 3, 0x3, 2, 1, []),
    "float3_e2m0": (1, 4, 0x3, 1, 1, []),
    "float4_e2m1fn": (1, 6, 0x7, 1, 0.5, []),
    "float6_e2m3fn": (1, 7.5, 0x1F, 1, 2.0**-3, []),
    "float6_e3m2fn": (3, 28, 0x1F, 2.0**-2, 2.0**-4, []),
    "float8_e4m3fn": (7, 448, 0x7E, 2.0**-6, 2.0**-9, [0x7F, 0xFF]),
    "float8_e5m2": (15, 57344, 0x7B, 2.0**-14, 2.0**-16, E5M2_SPECIAL),
    "float8_e4m3fnuz": (8, 240, 0x7F, 2.0**-7, 2.0**-10, [0x80]),
    "float8_e5m2fnuz": (16, 57344, 0x7F, 2.0**-15, 2.0**-17, [0x80]),
    "float8_e4m3b11fnuz": (11, 30, 0x7F, 2.0**-10, 2.0**-13, [0x80]),
    "float8_e4m3": (7, 240, 0x77, 2.0**-6, 2.0**-9, [*range(0x78, 0x80), *range(0xF8, 0x100)]),
    "float8_e3m4": (3, 15.5, 0x6F, 2.0**-2, 2.0**-6, [*range(0x70, 0x80), *range(0xF0, 0x100)]),
    "float8_e3m4fn": (3, 30, 0x7E, 2.0**-2, 2.0**-6, [0x7F, 0xFF]),
    "float8_e8m0fnu": (127, 2.0**127, 0xFE, 2.0**-127, 2.0**-127, [0xFF]),
    "ufloat7_e4m3fn": (7, 448, 0x7E, 2.0**-6, 2.0**-9, [0x7F]),
    "ufloat8_e5m3fn": (15, 114688, 0xFE, 2.0**-14, 2.0**-17, [0xFF]),
    "float16": (15, 65504, 0x7BFF, 2.0**-14, 2.0**-24, [*range(0x7C00, 0x8000), *range(0xFC00, 0x10000)]),
    "bfloat16": (
        127,
        (2 - 2.0**-7) * 2.0**127,
        0x7F7F,
        2.0**-126,
        2.0**-133,
        [*range(0x7F80, 0x8000), *range(0xFF80, 0x10000)],
    ),
    "p3109_k8p3se": (16, 49152, 0x7E, 2.0**-15, 2.0**-17, [0x7F, 0x80, 0xFF]),
    "p3109_k8p4se": (8, 224, 0x7E, 2.0**-7, 2.0**-10, [0x7F, 0x80, 0xFF]),
    "int8": (None, 127, 0x7F, None, 1, []),
    "int4": (None, 7, 0x7, None, 1, []),
    "int2_full": (None, 1, 0x1, None, 1, []),
    "uint4": (None, 15, 0xF, None, 1, []),
}


@pytest.mark.parametrize("name", FACTS)
def test_published_facts(name: str) -> None:
    bias, top, top_code, normal, step, special = FACTS[name]
    spec = element(name)
    assert (spec.max_value, spec.min_step) == (top, step)
    assert spec.value(top_code) == Fraction(top)
    assert [code for code in range(1 << spec.bits) if spec.value(code) is None] == special
    values = element_values(spec)
    finite = np.unique(values[np.isfinite(values)])  # exact in float64, and so are neighbours' differences
    assert np.diff(finite).min() == step
    if isinstance(spec, FloatSpec):
        assert spec.bias == bias
        assert spec.value((1 << spec.man_bits) if spec.subnormals else 0) == Fraction(normal)


@pytest.mark.parametrize("name", [name for name in SMALL if isinstance(element(name), FloatSpec)])
def test_largest_value_and_steps_are_those_of_all_codes(name: str) -> None:
    spec = element(name)
    assert isinstance(spec, FloatSpec)
    values = element_values(spec)
    finite = np.unique(values[np.isfinite(values)])
    assert finite.max() == spec.max_value
    assert np.diff(finite).min() == spec.min_step
    assert 2.0**spec.emax <= spec.max_value < 2.0 ** (spec.emax + 1)


def test_widths_of_the_wide_formats() -> None:
    facts = {"tfloat32": (19, 8, 10), "float32": (32, 8, 23), "bfloat16": (16, 8, 7), "float16": (16, 5, 10)}
    for name, fields in facts.items():
        spec = element(name)
        assert isinstance(spec, FloatSpec)
        assert (spec.bits, spec.exp_bits, spec.man_bits) == fields
    assert element("tfloat32").max_value == (2 - 2.0**-10) * 2.0**127


def test_e2m1_is_the_published_table() -> None:
    half = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    table = element_values(element("float4_e2m1fn"))
    assert table.tobytes() == np.array([*half, *(-v for v in map(float, half))]).tobytes()  # -0.0 included


@pytest.mark.parametrize(
    ("name", "emax"),
    [("float4_e2m1fn", 2), ("float6_e2m3fn", 2), ("float6_e3m2fn", 4), ("float8_e4m3fn", 8), ("float8_e5m2", 15),
     ("float8_e8m0fnu", 127), ("int8", 6)],
)  # fmt: skip
def test_emax_is_that_of_ocp_mx(name: str, emax: int) -> None:
    assert element(name).emax == emax  # of MXINT8, with its 6 fraction bits, it is 0


@pytest.mark.parametrize(
    ("name", "nan", "infinity"),
    [("float8_e4m3fn", 0x7F, None), ("float8_e5m2", 0x7E, 0x7C), ("float8_e4m3fnuz", 0x80, None),
     ("float8_e3m4", 0x78, 0x70), ("float8_e8m0fnu", 0xFF, None), ("float16", 0x7E00, 0x7C00),
     ("float6_e2m3fn", None, None), ("p3109_k8p3se", 0x80, 0x7F), ("p3109_k8p1ue", 0xFF, 0xFE),
     ("p3109_k8p5sf", 0x80, None)],
)  # fmt: skip
def test_codes_of_nan_and_inf(name: str, nan: int | None, infinity: int | None) -> None:
    spec = element(name)
    assert isinstance(spec, FloatSpec)
    assert (spec.nan_code, spec.inf_code) == (nan, infinity)
    if infinity is not None:
        assert spec.infinite(infinity) == 1
        if spec.signed:
            assert spec.infinite(infinity | 1 << (spec.bits - 1)) == -1


@pytest.mark.parametrize("name", SMALL)
def test_integer_table_is_every_value_or_refuses_what_is_not_finite(name: str) -> None:
    spec = element(name)
    if spec.bits > 12:
        pytest.skip("no integer datapath is so wide")
    if any(spec.value(code) is None for code in range(1 << spec.bits)):
        with pytest.raises(ValueError, match=re.escape(name)):
            integer_table(spec)
        return
    table = integer_table(spec)
    assert [Fraction(i, 1 << spec.frac_bits) for i in table] == [oracle.value(spec, c) for c in range(1 << spec.bits)]


@pytest.mark.parametrize("name", [*SMALL, "tfloat32", "float32"])
@pytest.mark.parametrize("beyond", [-1, 1])
def test_a_code_outside_the_format_is_refused(name: str, beyond: int) -> None:
    code = -1 if beyond < 0 else 1 << element(name).bits
    with pytest.raises(ValueError, match=rf"{code} .*{name}.*0 \.\. {(1 << element(name).bits) - 1}"):
        element(name).value(code)


@pytest.mark.parametrize("bits", [1, 17])
def test_integer_widths_outside_2_to_16_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"'odd'.*2 to 16.*{bits}"):
        IntSpec("odd", bits, "test")


@pytest.mark.parametrize(
    ("exp_bits", "man_bits", "changes"),
    [(0, 3, {"subnormals": False}), (8, 24, {}), (4, -1, {}), (-1, 4, {}), (1, 0, {"signed": False})],
)
def test_float_widths_are_checked(exp_bits: int, man_bits: int, changes: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match=f"'odd'.*exp_bits={exp_bits}, man_bits={man_bits}"):
        FloatSpec("odd", exp_bits, man_bits, 1, "test", **changes)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((4, 3, 7, "test", True, True, "ocp"), "none, ieee, fn, all_ones, fnuz, extended, not 'ocp'"),
        ((4, 3, 7, "test", True, True, "none", True), "has_zero is for formats without subnormals"),
        ((1, 0, 0, "test", True, True, "ieee"), "leave no positive finite value"),
        ((0, 2, 0, "test", True, True, "ieee"), "leave no positive finite value"),
        ((1, 0, 0, "test", True, True, "extended"), "leave no positive finite value"),
        ((8, 3, 1073, "test"), "bias 1073 are not all float64"),
        ((8, 3, -769, "test"), "bias -769 are not all float64"),
    ],
    ids=str,
)
def test_rules_that_make_no_format_are_refused(fields: tuple[object, ...], words: str) -> None:
    with pytest.raises(ValueError, match=f"'odd'.*{re.escape(words)}"):
        FloatSpec("odd", *fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [(1, 1, 0, "test", True, True, "ieee"), (1, 1, 0, "test", False, True, "extended"), (8, 3, 1072, "test"),
     (8, 3, -768, "test"), (11, 3, 1024, "test")],
    ids=str,
)  # fmt: skip
def test_what_just_makes_a_format_has_exact_values(fields: tuple[object, ...]) -> None:
    spec = FloatSpec("odd", *fields)  # type: ignore[arg-type]
    assert all(Fraction(float(v)) == v for c in range(1 << spec.bits) if (v := spec.value(c)) is not None)


@pytest.mark.parametrize("qmin", [-8, -7])
def test_narrow_leaves_out_the_most_negative_code_but_decodes_it(qmin: int) -> None:
    spec = IntSpec("i4", 4, "test", narrow=qmin == -7)
    assert (spec.qmin, spec.qmax, spec.value(8)) == (qmin, 7, -8)


def test_fraction_bits_scale_an_integer() -> None:
    spec = IntSpec("i8f6", 8, "test", frac_bits=6)
    assert (spec.max_value, spec.min_step, spec.emax, spec.value(0x80)) == (127 / 64, 1 / 64, 0, -2)


def test_every_element_names_its_source_and_a_witness() -> None:
    for name in element_names():
        spec = element(name)
        if isinstance(spec, FloatSpec | IntSpec):
            assert spec.source, name
        if name in SMALL:
            assert spec.witnesses or spec.generator == "exmy", name


def test_generated_names() -> None:
    assert [
        exmy(2, 3).name,
        exmy(3, 4, special="fn").name,
        exmy(4, 3, special="ieee").name,
        exmy(4, 3, special="fnuz").name,
        exmy(4, 3, bias=11).name,
        exmy(5, 3, signed=False).name,
        exmy(4, 3, subnormals=False).name,
        exmy(4, 3, name="mine").name,
    ] == [
        "float6_e2m3",
        "float8_e3m4fn",
        "float8_e4m3i",
        "float8_e4m3fnuz",
        "float8_e4m3b11",
        "ufloat8_e5m3",
        "float8_e4m3z",
        "mine",
    ]
    assert p3109(16, 8, signed=False, domain="finite").name == "p3109_k16p8uf"


@pytest.mark.parametrize(("exp_bits", "man_bits"), [(1, 0), (8, 8), (5, 11)])
def test_generic_widths_are_checked(exp_bits: int, man_bits: int) -> None:
    with pytest.raises(ValueError, match=rf"3 to 16 bits, not {exp_bits + man_bits + 1}"):
        exmy(exp_bits, man_bits)


def test_p3109_parameters_are_checked() -> None:
    for bits, precision in ((2, 1), (17, 3), (8, 0), (8, 9)):
        with pytest.raises(ValueError, match=f"3 to 16 bits and precision 1 to bits, not {bits} and {precision}"):
            p3109(bits, precision)
    with pytest.raises(ValueError, match="'extended' or 'finite', not 'signed'"):
        p3109(8, 3, domain="signed")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"p3109_k16p4se.*not all float64"):
        p3109(16, 4)


def test_bare_elements_are_formats_and_their_rules_are_plain_data() -> None:
    import json

    for name in element_names():
        spec = element(name)
        if isinstance(spec, FloatSpec):
            fmt = get(name)
            rules = json.loads(json.dumps(fmt.rules()))
            assert rules["element"]["name"] == rules["name"] == name
            assert {"rounding", "seed", "overflow", "nan_policy"} <= set(rules)
            assert fmt.bits_per_element(7) == spec.bits
            assert (fmt.max_value, fmt.min_step) == (spec.max_value, spec.min_step)

"""The shared datapath: its widths hold the worst case, it refuses operands it is not built for, and counts by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from hwsim.formats import element, encode, get
from hwsim.pe import _dot, names, unit, unit_for
from tests.hwsim.pe import oracle

CASES = oracle.cases()
IDS = [f"{fmt}-{name}" for fmt, name in CASES]


def products(spec: _dot.DotSpec, zero: bool) -> tuple[int, int]:
    """Return the smallest and largest a * b, or a * (b - z), over all codes."""
    weights = set(spec.b_ints)
    if zero and spec.zero_bits:
        weights = {b - z for b in weights for z in range(1 << spec.zero_bits)}
    # a product of two ranges is largest and smallest at their ends
    every = [a * b for a in (min(spec.a_ints), max(spec.a_ints)) for b in (min(weights), max(weights))]
    return min(every), max(every)


def fits(low: int, high: int, bits: int) -> bool:
    """Tell whether a two's complement number of that width holds both."""
    return -(1 << (bits - 1)) <= low and high < 1 << (bits - 1)


@pytest.mark.parametrize("lanes", [1, 4, 16, None])
@pytest.mark.parametrize(("fmt", "name"), CASES, ids=IDS)
def test_the_beat_sum_holds_its_worst_case_and_no_narrower_one_would(fmt: str, name: str, lanes: int | None) -> None:
    spec = oracle.params_of(fmt, name, lanes).datapath
    low, high = (spec.lanes * bound for bound in products(spec, zero=False))
    assert fits(low, high, spec.beat_sum_bits)
    assert not fits(low, high, spec.beat_sum_bits - 1)


@pytest.mark.parametrize(("fmt", "name"), CASES, ids=IDS)
def test_the_block_sum_holds_its_worst_case(fmt: str, name: str) -> None:
    spec = oracle.params_of(fmt, name).datapath
    terms = spec.lanes * (spec.block_beats or _dot.MAX_BEATS)
    low, high = (terms * bound for bound in products(spec, zero=True))
    assert fits(low, high, spec.block_sum_bits)
    plain = [terms * bound for bound in products(spec, zero=False)]
    assert fits(*plain, spec.block_sum_bits)  # the sum before the zero point, too
    if not spec.zero_bits:
        assert not fits(low, high, spec.block_sum_bits - 1)


def test_the_largest_product_is_reached() -> None:
    for fmt, name in CASES:
        spec = oracle.params_of(fmt, name).datapath
        assert spec.max_product == max(map(abs, products(spec, zero=False)))


def test_block_sum_widths_are_the_published_ones() -> None:
    """Signed bits of an exact block sum of E2M1 products: 14 for k = 32, 13 for k = 16."""
    assert unit_for("mxfp4")[1].datapath.block_sum_bits == 14
    assert unit_for("nvfp4")[1].datapath.block_sum_bits == 13


@pytest.mark.parametrize(
    ("fmt", "lanes", "fields"),
    [
        ("int8", 4, [("a", 8, 4), ("b", 8, 4), ("a_out", 32, 1), ("b_out", 32, 1), ("last", 1, 1)]),
        ("int4_g128", 4, [("a", 8, 4), ("b", 4, 4), ("b_scale", 16, 1), ("a_out", 32, 1), ("last", 1, 1)]),
        ("int4_g128_asym", 2,
         [("a", 8, 2), ("b", 4, 2), ("b_scale", 16, 1), ("b_zero", 4, 1), ("a_out", 32, 1), ("last", 1, 1)]),
        ("mxfp4", 32, [("a", 4, 32), ("b", 4, 32), ("a_scale", 8, 1), ("b_scale", 8, 1), ("last", 1, 1)]),
        ("nvfp4", 8, [("a", 4, 8), ("b", 4, 8), ("a_scale", 8, 1), ("b_scale", 8, 1), ("a_out", 32, 1),
                      ("b_out", 32, 1), ("last", 1, 1)]),
    ],
)  # fmt: skip
def test_the_layout_of_a_beat(fmt: str, lanes: int, fields: list[tuple[str, int, int]]) -> None:
    params = unit_for(fmt, lanes=lanes)[1]
    assert params.datapath.layout() == tuple(fields)
    assert params.datapath.latency == 3 + sum(name in ("a_out", "b_out") for name, _, _ in fields)


@pytest.mark.parametrize(("fmt", "name"), CASES, ids=IDS)
def test_beats_carry_the_fields_of_the_layout_with_codes_in_range(fmt: str, name: str) -> None:
    params = oracle.params_of(fmt, name)
    a, b = oracle.operands(fmt, 2, 3, 3 * oracle.block_of(fmt))
    beats = unit(name).beats(a, b, 1, 2, params)
    spec = params.datapath
    assert list(beats) == [field for field, _, _ in spec.layout()]
    count = _dot.beats_per_dot(a.k, spec)
    for field, bits, lanes in spec.layout():
        assert beats[field].shape == ((count, lanes) if field in "ab" else (count,))
        assert int(beats[field].min()) >= 0 and int(beats[field].max()) < 1 << bits
    assert beats["last"].tolist() == [0] * (count - 1) + [1]


def test_beats_are_filled_up_with_zero_codes() -> None:
    found, params = unit_for("int8", lanes=16)
    a, b = oracle.operands("int8", 1, 1, 20)
    beats = found.beats(a, b, 0, 0, params)
    assert beats["a"].shape == (2, 16)
    assert beats["a"].ravel()[:20].tolist() == a.codes[0].tolist() and not beats["a"].ravel()[20:].any()
    assert beats["b"].ravel()[:20].tolist() == b.codes[0].tolist() and not beats["b"].ravel()[20:].any()


def test_scales_and_zeros_stay_for_all_beats_of_their_block() -> None:
    found, params = unit_for("int4_g128_asym", lanes=32)
    a, b = oracle.operands("int4_g128_asym", 1, 2, 256)
    beats = found.beats(a, b, 0, 1, params)
    assert beats["b_scale"].tolist() == np.repeat(b.scales[1], 4).tolist()
    assert beats["b_zero"].tolist() == np.repeat(b.zeros[1], 4).tolist()


@pytest.mark.parametrize(("fmt", "name"), oracle.cases())
def test_paired_beats_are_those_of_each_pair(fmt: str, name: str) -> None:
    a, b = oracle.operands(fmt, 5, 5, 2 * (get(fmt).block_size or 45))
    found, params = unit(name), oracle.params_of(fmt, name, None)
    joined = found.paired_beats(a, b, params)
    starts = [0, *(np.flatnonzero(joined["last"]) + 1)]
    assert len(starts) == 6
    for i in range(5):
        each = found.beats(a, b, i, i, params)
        assert list(each) == list(joined)
        for field, values in each.items():
            np.testing.assert_array_equal(values, joined[field][starts[i] : starts[i + 1]])


def test_rows_are_taken_in_pairs() -> None:
    a, b = oracle.operands("mxfp4", 3, 4, 64)
    with pytest.raises(ValueError, match="in pairs; A has 3, B has 4"):
        unit("mx_dot").dots(a, b, unit("mx_dot").Params())


def test_dot_products_longer_than_the_sized_sum_are_refused() -> None:
    spec = unit_for("int8", lanes=1)[1].datapath
    assert _dot.beats_per_dot(_dot.MAX_BEATS, spec) == _dot.MAX_BEATS
    with pytest.raises(ValueError, match=f"K = {_dot.MAX_BEATS + 1}.*1 to {_dot.MAX_BEATS}"):
        _dot.beats_per_dot(_dot.MAX_BEATS + 1, spec)
    with pytest.raises(ValueError, match="K = 0"):
        _dot.beats_per_dot(0, spec)


@pytest.mark.parametrize(
    ("field", "value"), [("lanes", 0), ("lanes", 257), ("lanes", 4.0), ("block_beats", -1), ("block_beats", 1 << 17)]
)
def test_a_datapath_checks_its_numbers(field: str, value: Any) -> None:
    good = {"a_element": "int8", "b_element": "int8", "lanes": 4, "block_beats": 0}
    with pytest.raises(ValueError, match=f"{field}.*{value}"):
        _dot.DotSpec(**{**good, field: value})


def swap(operand: Any, **changes: Any) -> Any:
    """Return an operand whose format differs in some fields."""
    return dataclasses.replace(operand, format=dataclasses.replace(operand.format, **changes))


def mismatches() -> list[tuple[str, str, Any, Any, list[str]]]:
    """Return (id, format whose unit is used, A, B, words of the error)."""
    mx_a, mx_b = oracle.operands("mxfp4", 2, 2, 64)
    nv_a, nv_b = oracle.operands("nvfp4", 2, 2, 64)
    i8_a, _ = oracle.operands("int8", 2, 2, 128)
    i4_a, i4_b = oracle.operands("int4_g128", 2, 2, 128)
    as_a, as_b = oracle.operands("int4_g128_asym", 2, 2, 128)
    flat = encode(np.ones(64, np.float32), "mxfp4")
    other_block = encode(np.ones((2, 64), np.float32), dataclasses.replace(get("mxfp4"), name="b16", block_size=16))
    grouped = dataclasses.replace(get("int8"), name="int8_g64", block_size=64)
    return [
        ("element of A", "mxfp4", i8_a, mx_b, ["operand A", "int8", "float4_e2m1fn"]),
        ("element of B", "int8", i8_a, i4_b, ["operand B", "int4", "int8"]),
        ("scale format", "mxfp4", nv_a, mx_b, ["operand A", "float8_e4m3fn", "float8_e8m0fnu"]),
        ("block", "mxfp4", mx_a, other_block, ["operand B", "16", "32"]),
        ("rank", "mxfp4", flat, mx_b, ["operand A", r"(64,)"]),
        ("k", "mxfp4", mx_a, oracle.operands("mxfp4", 2, 2, 96)[1], ["64", "96"]),
        ("zero points missing", "int4_g128_asym", as_a, swap_uint4(i4_b), ["zero"]),
        ("zero points extra", "int4_g128", i4_a, as_b, ["operand B", "uint4", "int4"]),
        ("k no multiple", "int4_g128", oracle.operands("int8", 2, 2, 64)[0], i4_b, ["64", "128"]),
        ("tensor scale", "nvfp4 without output scale", nv_a, nv_b, ["tensor scale", "output scale"]),
        ("no tensor scale", "mxfp4 with output scale", mx_a, mx_b, ["mxfp4", "scale"]),
        (
            "grouped activations",
            "int4_g128",
            encode(np.ones((2, 128), np.float32), grouped),
            i4_b,
            ["int8_g64", "scale"],
        ),
    ]


def swap_uint4(operand: Any) -> Any:
    """Return a uint4 operand without zero points."""
    spec = dataclasses.replace(operand.format, name="uint4_g128", element=element("uint4"))
    return dataclasses.replace(operand, format=spec)


@pytest.mark.parametrize(("built_for", "a", "b", "words"), [pytest.param(*m[1:], id=m[0]) for m in mismatches()])
def test_operands_the_unit_is_not_built_for_are_refused_by_name(
    built_for: str, a: Any, b: Any, words: list[str]
) -> None:
    found, params = unit_for(built_for.split()[0])
    if "output scale" in built_for:
        params = dataclasses.replace(params, out_scale="without" not in built_for)
    with pytest.raises(ValueError) as error:
        found.gemm(a, b, params)
    for word in words:
        assert word in str(error.value), str(error.value)


@pytest.mark.parametrize(
    ("fmt", "lanes", "shape", "cycles"),
    [
        ("int8", 16, (1, 1, 16), 1 + 5),
        ("int8", 16, (1, 1, 17), 2 + 5),
        ("int8", 16, (2, 3, 40), 2 * 3 * 3 + 5),
        ("int4_g128", 16, (1, 1, 128), 8 + 4),
        ("int4_g128_asym", 32, (2, 2, 256), 4 * 8 + 4),
        ("mxfp4", 32, (1, 1, 32), 1 + 3),
        ("mxfp4", 8, (3, 1, 64), 3 * 8 + 3),
        ("nvfp4", 16, (2, 5, 576), 10 * 36 + 5),
        ("mxfp4", 32, (0, 5, 64), 0),
    ],
)
def test_cycles_by_hand(fmt: str, lanes: int, shape: tuple[int, int, int], cycles: int) -> None:
    found, params = unit_for(fmt, lanes=lanes)
    assert found.cycles(*shape, params) == cycles


@pytest.mark.parametrize(
    ("fmt", "shape", "counts"),
    [
        ("int8", (2, 3, 40), {"mul_int8_int8": 240, "add_int32": 240, "add_float32": 6, "mul_float32": 12}),
        ("int4_g128", (2, 3, 576),
         {"mul_int4_int8": 3456, "add_int32": 3456, "add_float32": 30, "mul_float32": 6, "mul_int32_float16": 30}),
        ("int4_g128_asym", (1, 2, 256),
         {"mul_int4_int8": 512, "add_int32": 512 + 512 + 4, "add_float32": 4, "mul_float32": 2, "mul_int32_float16": 4,
          "mul_int32_uint4": 4}),
        ("mxfp4", (2, 2, 64),
         {"mul_e2m1_e2m1": 256, "add_int32": 256, "mul_block_scale_e8m0": 8, "add_float32": 8, "mul_float32": 0}),
        ("nvfp4", (2, 2, 64),
         {"mul_e2m1_e2m1": 256, "add_int32": 256, "mul_block_scale_e4m3": 16, "add_float32": 16, "mul_float32": 8}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_actions_by_hand(fmt: str, shape: tuple[int, int, int], counts: dict[str, int]) -> None:
    found, params = unit_for(fmt)
    assert found.actions(*shape, params) == counts


@pytest.mark.parametrize(("fmt", "name"), CASES, ids=IDS)
def test_actions_are_counts_that_grow_with_the_outputs(fmt: str, name: str) -> None:
    found, params = unit(name), oracle.params_of(fmt, name)
    one, many = found.actions(1, 1, 256, params), found.actions(3, 5, 256, params)
    assert all(isinstance(count, int) and count >= 0 for count in one.values())
    assert many == {event: 15 * count for event, count in one.items()}
    assert max(one.values()) >= 256  # whatever a unit does instead of multiplying, it does it for each product


def test_the_units_are_those_of_the_folder() -> None:
    assert {"int_mac", "mx_dot"} <= set(names())

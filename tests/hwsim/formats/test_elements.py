"""Every element format: all codes decoded, casts in all rounding modes, by exact arithmetic and by outside tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import (
    BlockSpec,
    Encoded,
    FloatSpec,
    IntSpec,
    decode,
    element,
    element_names,
    element_values,
    encode,
    get,
)
from hwsim.formats.exmy import exmy, p3109
from hwsim.formats.families import block
from hwsim.formats.registry import bare_element
from hwsim.formats.rounding import random_bits
from tests.hwsim.formats import element_oracle as oracle

VECTORS = Path(__file__).parents[2] / "data" / "verifloat.npz"
FLOATS = {name: spec for name in element_names() if isinstance(spec := element(name), FloatSpec)}
SMALL = [name for name, spec in FLOATS.items() if spec.bits <= 16]
INTS = [name for name in element_names() if isinstance(element(name), IntSpec)]
CASTS = [name for name in FLOATS if name != "float32"]
SEED = 3


def with_tool(tool: str, names: list[str]) -> list[str]:
    """Return the names of elements that a tool witnesses."""
    return [name for name in names if tool in element(name).witnesses]


def gfloat_format(spec: FloatSpec | IntSpec) -> Any:
    """Return the description that gfloat has of an element."""
    types = pytest.importorskip("gfloat.types")
    whole = isinstance(spec, IntSpec)
    if whole:
        fields = {"precision": spec.bits, "bias": 2 - spec.bits + spec.frac_bits, "high_nans": 0, "special": "none"}
    else:
        high = {"ieee": (1 << spec.man_bits) - 1, "fn": 1, "all_ones": 1}.get(spec.special, 0)
        if not spec.signed and spec.special in ("fnuz", "extended"):
            high = 1
        fields = {"precision": spec.man_bits + 1, "bias": spec.bias, "high_nans": high, "special": spec.special}
    return types.FormatInfo(
        spec.name,
        spec.bits,
        fields["precision"],
        bias=fields["bias"],
        is_signed=spec.signed,
        domain=types.Domain.Extended if fields["special"] in ("ieee", "extended") else types.Domain.Finite,
        has_nz=not whole and oracle.keeps_negative_zero(spec) and (spec.subnormals or spec.has_zero),
        num_high_nans=fields["high_nans"],
        has_subnormals=whole or spec.subnormals,
        is_twos_complement=whole,
    )


def by_gfloat(name: str, codes: np.ndarray) -> np.ndarray:
    """Return gfloat's values of codes."""
    info = gfloat_format(element(name))
    scalar = pytest.importorskip("gfloat").decode_float
    return np.array([scalar(info, int(code)).fval for code in codes])


def by_numpy(name: str, codes: np.ndarray) -> np.ndarray:
    """Return the values of codes of a dtype of NumPy or ml_dtypes; unsigned integers of odd widths are their codes."""
    base = {"ufloat7_e4m3fn": "float8_e4m3fn"}.get(name, name.removesuffix("_full"))
    if base.startswith("uint") and base not in ("uint2", "uint4"):
        base = "uint8"
    own = hasattr(np, base)
    dtype = np.dtype(base if own else getattr(pytest.importorskip("ml_dtypes"), base))
    with np.errstate(invalid="ignore"):
        return codes.astype(f"uint{8 * dtype.itemsize}").view(dtype).astype(np.float64)


def by_apytypes(name: str, codes: np.ndarray) -> np.ndarray:
    """Return the values of codes of an IEEE-like float, or of two's complement."""
    apytypes, spec = pytest.importorskip("apytypes"), element(name)
    if isinstance(spec, IntSpec):
        return apytypes.APyFixedArray(codes.tolist(), bits=spec.bits, frac_bits=spec.frac_bits).to_numpy()
    assert isinstance(spec, FloatSpec)
    return apytypes.APyFloatArray.from_bits(codes.tolist(), spec.exp_bits, spec.man_bits, spec.bias).to_numpy()


DECODERS: dict[str, Callable[[str, np.ndarray], np.ndarray]] = {
    "gfloat": by_gfloat,
    "numpy": by_numpy,
    "ml_dtypes": by_numpy,
    "apytypes": by_apytypes,
}


def same_values(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Compare bits, but for those of NaN."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    number = ~np.isnan(ours)
    np.testing.assert_array_equal(ours[number].view(np.uint64), theirs[number].view(np.uint64))


def some_codes(spec: FloatSpec | IntSpec, limit: int = 16) -> np.ndarray:
    """Return every code, or a sample with both ends of the range of each sign."""
    if spec.bits <= limit:
        return np.arange(1 << spec.bits)
    half = 1 << (spec.bits - 1)
    ends = [code % (2 * half) for corner in (0, half) for code in range(corner - 40, corner + 40)]
    return np.unique([*ends, *np.random.default_rng(1).integers(0, 2 * half, 4000)])


# Decoding


@pytest.mark.parametrize("name", [*FLOATS, *INTS])
def test_codes_are_worth_the_exact_rational(name: str) -> None:
    spec = element(name)
    codes = some_codes(spec, 12)
    for code in codes.tolist():
        expected = oracle.value(spec, code)
        assert spec.value(code) == (None if isinstance(expected, str) else expected), hex(code)
        if isinstance(spec, FloatSpec):
            assert bool(spec.infinite(code)) == (expected == oracle.INFINITY), hex(code)


@pytest.mark.parametrize("name", SMALL)
def test_every_code_of_the_table_is_worth_the_levels_of_the_oracle(name: str) -> None:
    spec, table = FLOATS[name], element_values(FLOATS[name])
    half, top = 1 << (spec.bits - int(spec.signed)), oracle.top_code(spec)
    levels = oracle.levels64(spec)[: top + 1]
    same_values(table[: top + 1], levels)
    assert not np.isfinite(table[top + 1 : half]).any()
    if spec.signed:
        negative = -levels
        if not oracle.keeps_negative_zero(spec):
            negative[0] = np.nan
        same_values(table[half : half + top + 1], negative)
        assert not np.isfinite(table[half + top + 1 :]).any()


@pytest.mark.parametrize(
    ("name", "tool"),
    [(name, tool) for name in (*FLOATS, *INTS) for tool in element(name).witnesses if tool in DECODERS],
    ids=lambda value: value,
)
def test_every_code_agrees_with_the_witness(name: str, tool: str) -> None:
    spec = element(name)
    codes = some_codes(spec, 16 if tool != "gfloat" else 10)
    theirs = DECODERS[tool](name, codes)
    ours = element_values(spec)[codes] if spec.bits <= 16 else decode(Encoded.of(get(name), codes=wide(spec, codes)))
    if isinstance(spec, IntSpec):
        theirs = theirs + 0.0  # gfloat's two's complement has a sign for zero
    same_values(ours, theirs)


def wide(spec: FloatSpec | IntSpec, codes: np.ndarray) -> np.ndarray:
    """Return codes in the container that the library keeps them in."""
    return codes.astype(f"uint{8 if spec.bits <= 8 else 16 if spec.bits <= 16 else 32}")


def test_no_element_claims_a_witness_that_is_not_asked() -> None:
    known = {*DECODERS, "verifloat", "published values"}
    assert {tool for name in (*FLOATS, *INTS) for tool in element(name).witnesses} == known


@pytest.mark.parametrize("name", FLOATS)
def test_decoding_gives_float32_of_every_code(name: str) -> None:
    spec = FLOATS[name]
    codes = some_codes(spec)
    got = decode(Encoded.of(get(name), codes=wide(spec, codes)))
    exact = [oracle.value(spec, int(code)) for code in codes[:: 1 if spec.bits <= 12 else 37]]
    for value, number in zip(exact, got[:: 1 if spec.bits <= 12 else 37].tolist(), strict=True):
        if value == oracle.NAN:
            assert np.isnan(number)
        elif value == oracle.INFINITY:
            assert np.isinf(number)
        else:
            assert Fraction(number) == value
    if spec.signed and oracle.keeps_negative_zero(spec):
        zero = decode(Encoded.of(get(name), codes=wide(spec, np.array([0, 1 << (spec.bits - 1)]))))
        assert np.signbit(zero).tolist() == [False, True]


# Casts


@cache
def inputs(name: str) -> np.ndarray:
    """Return the float32 that an element is tried on: all bfloat16, all borders (a sample where many), and others."""
    spec = FLOATS[name]
    x = [
        oracle.all_bfloat16(),
        oracle.borders(spec, None if spec.bits <= 10 else 1500),
        oracle.anything(1500, spec.bits),
    ]
    return oracle.allowed(spec, np.concatenate(x))


def rule(name: str, mode: str = "rne", saturate: bool = True) -> BlockSpec:
    """Return the format that casts to an element under some rules."""
    changes: dict[str, Any] = {"rounding": mode, "seed": SEED}
    if not saturate:
        changes["overflow"] = "nonsaturating"
    if FLOATS[name].nan_code is not None:
        changes["nan_policy"] = "propagate"
    fmt = get(name).with_rules(**changes)
    assert isinstance(fmt, BlockSpec)
    return fmt


def overflows(name: str) -> tuple[bool, ...]:
    """Return the overflow rules of an element: saturate, and not where something else has a code."""
    return (True, False) if FLOATS[name].nan_code is not None else (True,)


@cache
def draws(count: int) -> np.ndarray:
    """Return the random bits of a run of elements under the seed."""
    return np.array([random_bits(SEED, index) for index in range(count)], np.int64)


def same_codes(ours: np.ndarray, theirs: np.ndarray, x: np.ndarray, what: object = "") -> None:
    """Compare codes, and show the first input where they differ."""
    differ = np.flatnonzero(ours.astype(np.int64) != theirs.astype(np.int64))
    if differ.size:
        i = int(differ[0])
        raise AssertionError(f"{what}: {differ.size} differ, first {x[i]!r}: {hex(ours[i])}, not {hex(theirs[i])}")


@pytest.mark.parametrize("name", CASTS)
def test_casts_are_those_of_the_oracle_in_every_mode(name: str) -> None:
    x = inputs(name)
    places = oracle.Inputs(FLOATS[name], x)
    for mode in oracle.MODES:
        random = np.resize(draws(20000), x.size) if mode == "stochastic" else None
        for saturate in overflows(name):
            fmt = rule(name, mode, saturate)
            if mode == "stochastic":  # the draws of the first elements, taken again and again
                ours = np.concatenate([encode(part, fmt).codes for part in np.split(x, range(20000, x.size, 20000))])
            else:
                ours = encode(x, fmt).codes
            same_codes(ours, places.cast(mode, saturate, random), x, (mode, saturate))


@pytest.mark.parametrize("name", SMALL)
def test_the_array_oracle_is_the_plain_one(name: str) -> None:
    spec = FLOATS[name]
    rng = np.random.default_rng(spec.bits)
    special = oracle.allowed(spec, np.float32([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45]))
    near = oracle.borders(spec)
    near = oracle.allowed(spec, np.concatenate([near[-12:], rng.choice(near, 60)]))
    x = np.concatenate([special, near, rng.choice(inputs(name), 30)])
    places, random = oracle.Inputs(spec, x), draws(20000)[: x.size]
    for mode in oracle.MODES:
        for saturate in overflows(name):
            plain = [oracle.encode(spec, float(v), mode, saturate, int(r)) for v, r in zip(x, random, strict=True)]
            same_codes(places.cast(mode, saturate, random), np.array(plain), x, (mode, saturate))


@pytest.mark.parametrize("name", [*SMALL, "tfloat32"])
def test_what_a_code_is_worth_is_cast_to_that_code(name: str) -> None:
    spec = FLOATS[name]
    codes = wide(spec, some_codes(spec))
    values = decode(Encoded.of(get(name), codes=codes))
    number = ~np.isnan(values) if spec.nan_code is not None else np.isfinite(values)
    for mode in oracle.MODES:
        fmt = rule(name, mode, saturate=spec.inf_code is None)
        same_codes(encode(values[number], fmt).codes, codes[number], values[number], mode)


@pytest.mark.parametrize("name", CASTS)
def test_the_vector_loops_do_what_the_general_rules_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = inputs(name)
    quick = encode(x, rule(name)).codes
    described = block.kernel_element
    monkeypatch.setattr(block, "kernel_element", lambda *args: described(*args)._replace(fast=0))
    same_codes(quick, encode(x, rule(name)).codes, x)


def test_float32_is_kept_bit_by_bit() -> None:
    bits = np.random.default_rng(8).integers(0, 1 << 32, 20000).astype(np.uint32)
    x = np.concatenate([bits.view(np.float32), oracle.anything(500, 1), np.float32([np.inf, -np.inf])])
    x = x[~np.isnan(x)]
    for mode in oracle.MODES:
        for saturate in (True, False):
            ours = encode(x, rule("float32", mode, saturate)).codes
            kept = np.clip(x, -oracle.float32(3.4028235e38), oracle.float32(3.4028235e38)) if saturate else x
            same_codes(ours, kept.view(np.uint32), x, (mode, saturate))
    assert np.isnan(decode(encode(np.float32([np.nan, -np.nan]), rule("float32")))).all()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=40))
@settings(max_examples=8, deadline=None)
def test_casts_are_monotone(values: list[float]) -> None:
    x = np.sort(np.float32(values))
    for name in ("float8_e4m3fn", "float8_e5m2fnuz", "float4_e2m1fn", "p3109_k6p3se", "float8_e4m3z", "float3_e2m0"):
        for mode in oracle.MODES[:-1]:
            assert (np.diff(decode(encode(x, rule(name, mode)))) >= 0).all(), (name, mode)


@given(st.lists(st.floats(0.015625, 400, width=32), min_size=1, max_size=20), st.integers(-3, 3))
@settings(max_examples=25, deadline=None)
def test_normal_numbers_keep_their_mantissa_under_powers_of_two(values: list[float], shift: int) -> None:
    x = np.clip(np.float32(values), 0.5, 40)
    for mode in oracle.MODES[:-1]:
        fmt = rule("float8_e4m3fn", mode)
        moved = encode(np.ldexp(x, shift), fmt).codes.astype(int)
        assert np.array_equal(moved, encode(x, fmt).codes.astype(int) + 8 * shift)


# Integers: a bare integer is a cast too


@pytest.mark.parametrize("name", [*INTS, "mxint8 element"])
@pytest.mark.parametrize("mode", oracle.MODES)
def test_integers_round_and_saturate_in_every_mode(name: str, mode: str) -> None:
    spec = IntSpec("int8f6", 8, "test", frac_bits=6) if name == "mxint8 element" else element(name)
    assert isinstance(spec, IntSpec)
    unit = oracle.power(-spec.frac_bits)
    grid = np.arange(4 * spec.qmin - 9, 4 * spec.qmax + 10, dtype=np.float32)
    # of wide integers those around zero and around both ends
    near = np.minimum(abs(grid), np.minimum(abs(grid - 4 * spec.qmin), abs(grid - 4 * spec.qmax)))
    grid = grid[near <= 1 << 9] / 4 * float(unit)
    with np.errstate(under="ignore"):
        x = np.concatenate([grid, np.nextafter(grid, np.float32(-9e9)), np.nextafter(grid, np.float32(9e9))])
    x = np.concatenate([x, np.float32([3e38, -3e38, 1e-45, -1e-45, -0.0, 2.5e6, 1048577.0, -1048577.5])])
    x = x[x >= 0] if not spec.signed else x
    ours = encode(x, bare_element(spec).with_rules(rounding=mode, seed=SEED)).codes
    expected = []
    for index, value in enumerate(x.tolist()):
        size = abs(Fraction(value)) / unit
        low = size.numerator // size.denominator
        up = oracle.takes_upper(mode, size - low, low % 2 == 0, value < 0, random_bits(SEED, index))
        whole = -(low + up) if value < 0 else low + up
        expected.append(min(max(whole, spec.qmin), spec.qmax) % (1 << spec.bits))
    same_codes(ours, np.array(expected), x, mode)


@pytest.mark.parametrize("name", [name for name in INTS if element(name).signed])
def test_integer_casts_agree_with_apytypes(name: str) -> None:
    apytypes, spec = pytest.importorskip("apytypes"), element(name)
    assert isinstance(spec, IntSpec)
    units, below = np.arange(-300 * 16, 300 * 16 + 1), spec.frac_bits + 4  # bits below the point
    source = apytypes.APyFixedArray((units % (1 << 20)).tolist(), bits=20, frac_bits=below)
    x = np.ldexp(units, -below).astype(np.float32)
    for mode, theirs in apy_modes(apytypes).items():
        cast = source.cast(
            bits=spec.bits, frac_bits=spec.frac_bits, quantization=theirs, overflow=apytypes.OverflowMode.SAT
        )
        whole = np.ldexp(cast.to_numpy(), spec.frac_bits).astype(int)
        expected = np.maximum(whole, spec.qmin) % (1 << spec.bits)  # ours may be narrow
        same_codes(encode(x, bare_element(spec).with_rules(rounding=mode)).codes, expected, x, mode)


def apy_modes(apytypes: Any) -> dict[str, Any]:
    """Return apytypes' names of our modes."""
    modes = apytypes.QuantizationMode
    return {
        "rne": modes.TIES_EVEN,
        "rtz": modes.TO_ZERO,
        "rup": modes.TO_POS,
        "rdn": modes.TO_NEG,
        "raz": modes.TO_AWAY,
        "rna": modes.TIES_AWAY,
        "rnz": modes.TIES_ZERO,
        "rod": modes.JAM_UNBIASED,
    }


# Outside tools


@pytest.mark.parametrize("name", with_tool("ml_dtypes", SMALL))
def test_casts_agree_with_ml_dtypes(name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    spec, x = FLOATS[name], inputs(name)
    dtype = getattr(ml_dtypes, {"ufloat7_e4m3fn": "float8_e4m3fn"}.get(name, name))
    if name == "float8_e8m0fnu":  # disagreements: ties go up, zero is NaN, and so do subnormals above 2**-127 go up
        mantissa = x.view(np.uint32) & 0x7FFFFF
        x = x[(mantissa != 0x400000) & (x != 0) & ~((x > 2.0**-127) & (x < 2.0**-126))]
    if name == "ufloat7_e4m3fn":
        x = x[~np.isnan(x) | ~np.signbit(x)]
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = x.astype(dtype).view(f"uint{8 * dtype(0).itemsize}")
    if spec.bits < 8:
        theirs = theirs & ((1 << spec.bits) - 1)
    same_codes(encode(x, rule(name, saturate=spec.special == "none")).codes, theirs, x)


def test_ml_dtypes_and_e8m0_disagree_as_known() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.float32([3.0, 0.0, 1.5 * 2.0**127, 1.6 * 2.0**127, 2.0**-128, 1.1 * 2.0**-127, 6.0])
    ours = encode(x, rule("float8_e8m0fnu", saturate=False)).codes
    assert ours.tolist() == [128, 0, 254, 255, 0, 0, 130]  # ties to the even code; no zero, so the smallest
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = x.astype(ml_dtypes.float8_e8m0fnu).view(np.uint8)
    assert theirs.tolist() == [129, 255, 255, 255, 0, 1, 130]
    assert encode(x, rule("float8_e8m0fnu")).codes.tolist() == [128, 0, 254, 254, 0, 0, 130]


def test_float16_casts_agree_with_numpy() -> None:
    x = inputs("float16")
    with np.errstate(over="ignore"):
        theirs = x.astype(np.float16).view(np.uint16)
    number = ~np.isnan(x)
    same_codes(encode(x, rule("float16", saturate=False)).codes[number], theirs[number], x[number])


@pytest.mark.parametrize("name", with_tool("gfloat", SMALL))
def test_casts_agree_with_gfloat(name: str) -> None:
    gfloat, types = pytest.importorskip("gfloat"), pytest.importorskip("gfloat.types")
    spec, info = FLOATS[name], gfloat_format(FLOATS[name])
    x = np.concatenate([inputs(name)[::5], oracle.allowed(spec, oracle.borders(spec, 100))])
    if not spec.subnormals:  # disagreement: gfloat has no least value that takes what lies below
        x = x[(x == 0) | ~(np.abs(x) < oracle.float32(np.array(oracle.levels64(spec)[1 if spec.has_zero else 0])))]
        x = x if spec.has_zero else x[x != 0]
    x = x[~np.isnan(x)]
    modes = {"rne": "TiesToEven", "rtz": "TowardZero", "rup": "TowardPositive", "rdn": "TowardNegative"}
    modes |= {"rna": "TiesToAway", "stochastic": "Stochastic"}
    for mode, theirs in modes.items():
        for saturate in overflows(name):
            if mode == "stochastic":
                x = x[: draws(20000).size]
            extra = {"srbits": (1 << 32) - 1 - draws(20000)[: x.size], "srnumbits": 32} if mode == "stochastic" else {}
            with np.errstate(over="ignore", invalid="ignore"):
                expected = gfloat.round_ndarray(info, x.astype(np.float64), types.RoundMode[theirs], saturate, **extra)
            ours = element_values(spec)[encode(x, rule(name, mode, saturate)).codes]
            if mode == "stochastic":  # gfloat rounds the rest to 32 bits first
                deep = np.abs(x) < spec.min_step * 2.0**-8
                ours, expected = ours[~deep], expected[~deep]
            same_values(ours, expected)


@pytest.mark.parametrize("name", with_tool("apytypes", CASTS))
def test_casts_agree_with_apytypes(name: str) -> None:
    apytypes, spec, x = pytest.importorskip("apytypes"), FLOATS[name], inputs(name)
    x = x[~np.isnan(x)]  # disagreement: its NaN is the one of mantissa 1
    source = apytypes.APyFloatArray.from_bits(x.view(np.uint32), 8, 23)
    for mode, theirs in apy_modes(apytypes).items():
        cast = source.cast(spec.exp_bits, spec.man_bits, spec.bias, theirs)
        same_codes(encode(x, rule(name, mode, saturate=False)).codes, cast.to_bits(numpy=True), x, mode)


@cache
def vectors() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays that tools/verifloat_vectors.py wrote."""
    with np.load(VECTORS) as data:
        return json.loads(str(data["header"])), {key: data[key] for key in data.files if key != "header"}


def test_the_vectors_are_those_of_the_catalogue() -> None:
    header, arrays = vectors()
    assert header["verifloat"] == "0.2.0"
    assert sorted(header["elements"]) == with_tool("verifloat", sorted(FLOATS))
    for name in header["elements"]:
        assert (f"{name}_nonsaturating" in arrays) == (FLOATS[name].nan_code is not None)


@pytest.mark.parametrize("name", with_tool("verifloat", list(FLOATS)))
def test_values_and_casts_agree_with_verifloat(name: str) -> None:
    header, arrays = vectors()
    spec = FLOATS[name]
    codes = wide(spec, arrays[f"{name}_codes"])
    same_values(decode(Encoded.of(get(name), codes=codes)), arrays[f"{name}_values"])
    x = arrays[f"{name}_x"].view(np.float32)
    keep = ~np.isnan(x) | ~np.signbit(x)  # disagreement: its NaN is the positive one, ours keeps the sign
    if name == "float8_e8m0fnu":  # disagreement: zero is NaN there
        keep &= x != 0
    for index, mode in enumerate(header["modes"]):
        for saturate in overflows(name):
            fmt = rule(name, mode, saturate).with_rules(seed=header["seed"])
            theirs = arrays[f"{name}_{'saturate' if saturate else 'nonsaturating'}"][index]
            same_codes(encode(x, fmt).codes[keep], theirs[keep], x[keep], (mode, saturate))


# IEEE P3109


def p3109_formats(widths: range) -> list[FloatSpec]:
    """Return all formats of the family of some widths."""
    return [
        p3109(bits, precision, signed, domain)
        for bits in widths
        for precision in range(1, bits + 1)
        for signed in (True, False)
        for domain in ("extended", "finite")
    ]


@pytest.mark.parametrize("bits", range(3, 9))
def test_p3109_all_codes_of_all_formats_of_a_width(bits: int) -> None:
    formats = pytest.importorskip("gfloat.formats")
    types, decode_all = pytest.importorskip("gfloat.types"), pytest.importorskip("gfloat").decode_ndarray
    for spec in p3109_formats(range(bits, bits + 1)):
        signedness = types.Signedness.Signed if spec.signed else types.Signedness.Unsigned
        domain = types.Domain.Extended if spec.special == "extended" else types.Domain.Finite
        info = formats.format_info_p3109(bits, spec.man_bits + 1, signedness, domain)
        assert info.name == spec.name
        same_values(element_values(spec), decode_all(info, np.arange(1 << bits)))
        for code in range(1 << bits):
            expected = oracle.value(spec, code)
            assert spec.value(code) == (None if isinstance(expected, str) else expected), (spec.name, code)


def sampled_p3109() -> list[FloatSpec]:
    """Return some formats of the family, to 16 bits, with the widest exponents that there are."""
    chosen = [
        (9, 5, True, "extended"),
        (10, 1, True, "finite"),
        (11, 1, False, "extended"),
        (12, 1, True, "extended"),
        (12, 12, False, "finite"),
        (13, 6, False, "extended"),
        (16, 5, True, "extended"),
        (16, 16, True, "finite"),
        (16, 11, True, "extended"),
    ]
    return [p3109(*parameters) for parameters in chosen]  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", sampled_p3109(), ids=lambda spec: spec.name)
def test_p3109_sampled_codes_of_wide_formats(spec: FloatSpec) -> None:
    scalar = pytest.importorskip("gfloat").decode_float
    codes = some_codes(spec, 10)
    theirs = np.array([scalar(gfloat_format(spec), int(code)).fval for code in codes])
    same_values(element_values(spec)[codes], theirs)


@pytest.mark.parametrize(
    "spec",
    [*sampled_p3109(), *p3109_formats(range(3, 7))[::3], *p3109_formats(range(8, 9))[::2]],
    ids=lambda spec: spec.name,
)
def test_p3109_casts_agree_with_gfloat_and_the_oracle(spec: FloatSpec) -> None:
    gfloat, types = pytest.importorskip("gfloat"), pytest.importorskip("gfloat.types")
    x = oracle.allowed(
        spec, np.concatenate([oracle.borders(spec, 300), oracle.anything(300, 2), oracle.all_bfloat16()[::97]])
    )
    info, places = gfloat_format(spec), oracle.Inputs(spec, x)
    number = ~np.isnan(x)
    for mode, theirs in {
        "rne": "TiesToEven",
        "rtz": "TowardZero",
        "rup": "TowardPositive",
        "rna": "TiesToAway",
    }.items():
        for saturate in (True, False):
            fmt = bare_element(spec).with_rules(
                rounding=mode, nan_policy="propagate", overflow="saturate" if saturate else "nonsaturating"
            )
            ours = encode(x, fmt).codes
            same_codes(ours, places.cast(mode, saturate), x, (mode, saturate))
            with np.errstate(over="ignore", invalid="ignore"):
                expected = gfloat.round_ndarray(info, x[number].astype(np.float64), types.RoundMode[theirs], saturate)
            same_values(element_values(spec)[ours[number]], expected)


# Published facts of casting


def cast(values: list[float], name: str, mode: str = "rne", saturate: bool = True) -> list[float]:
    """Return what values become."""
    return decode(encode(np.float32(values), rule(name, mode, saturate))).tolist()


def test_ofp8_overflow_is_judged_after_rounding() -> None:
    """OFP8 section 5.2.2, table 3: saturating and non-saturating narrowing."""
    inf, nan = float("inf"), float("nan")
    below, above = float(np.nextafter(np.float32(464), 0)), float(np.nextafter(np.float32(464), np.float32(500)))
    assert cast([below, 464, above, 1e9, inf, -inf], "float8_e4m3fn") == [448, 448, 448, 448, 448, -448]
    np.testing.assert_array_equal(
        cast([below, 464, -464, above, 1e9, inf, nan], "float8_e4m3fn", saturate=False),
        [448, 448, -448, nan, nan, nan, nan],
    )
    below = float(np.nextafter(np.float32(61440), 0))
    assert cast([below, 61440, -61440, inf], "float8_e5m2") == [57344, 57344, -57344, 57344]
    np.testing.assert_array_equal(
        cast([below, 61440, -61440, inf, -inf, nan], "float8_e5m2", saturate=False), [57344, inf, -inf, inf, -inf, nan]
    )
    codes = encode(np.float32([nan, -nan, 1e9, -1e9]), rule("float8_e4m3fn", saturate=False)).codes
    assert codes.tolist() == [0x7F, 0xFF, 0x7F, 0xFF]
    codes = encode(np.float32([nan, -nan, 1e9, -1e9]), rule("float8_e5m2", saturate=False)).codes
    assert codes.tolist() == [0x7E, 0xFE, 0x7C, 0xFC]


def test_ofp8_directed_modes_stop_at_the_largest_value() -> None:
    inf = float("inf")
    assert cast([1e9, -1e9, inf], "float8_e5m2", "rtz", saturate=False) == [57344, -57344, inf]
    assert cast([1e9, -1e9], "float8_e5m2", "rup", saturate=False) == [inf, -57344]
    assert cast([1e9, -1e9], "float8_e5m2", "rdn", saturate=False) == [57344, -inf]
    assert cast([1e9, -1e9], "float8_e5m2", "rod", saturate=False) == [57344, -57344]
    assert cast([57345.0, -57345.0], "float8_e5m2", "raz", saturate=False) == [inf, -inf]


def test_e2m1_ties() -> None:
    """The ties of FP4 by the rules that tools follow: to even (OCP), away (microxcaling), toward zero (ggml)."""
    ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]
    assert cast(ties, "float4_e2m1fn") == [0, 1, 1, 2, 2, 4, 4]
    assert cast(ties, "float4_e2m1fn", "rna") == [0.5, 1, 1.5, 2, 3, 4, 6]
    assert cast(ties, "float4_e2m1fn", "rnz") == [0, 0.5, 1, 1.5, 2, 3, 4]


def test_e8m0_ties_go_to_the_even_code_and_nothing_is_zero() -> None:
    """Of the modes, `rup` is CUDA's ``cvt.rp.ue8m0``."""
    assert cast([3.0, 6.0, 2.0**-149, 0.0], "float8_e8m0fnu") == [2, 8, 2.0**-127, 2.0**-127]
    assert cast([3.0, 6.0, 2.0**-149, 4.0], "float8_e8m0fnu", "rup") == [4, 8, 2.0**-127, 4]
    assert cast([3.0, 7.9, 3e38], "float8_e8m0fnu", "rtz") == [2, 4, 2.0**127]


def test_signed_zeros() -> None:
    for name, spec in FLOATS.items():
        if spec.signed:
            kept = np.signbit(cast([-0.0, -1e-45 * (name not in ("float32",))], name))
            assert kept.tolist() == [oracle.keeps_negative_zero(spec)] * 2, name


def test_published_values_of_e3m4() -> None:
    """H. Shen et al. (arXiv 2309.14592), table 1: E3M4 has max 30, smallest 2**-6, one NaN magnitude, no infinity."""
    spec = FLOATS["float8_e3m4fn"]
    assert (spec.max_value, spec.min_step, spec.inf_code) == (30, 1.5625e-2, None)
    assert [code for code in range(128) if spec.value(code) is None] == [0x7F]


# A real-valued bias


def test_llm_fp4_bias_is_a_minifloat_under_one_real_scale() -> None:
    """LLM-FP4 (arXiv 2310.16836), fp_linear.py: a real bias b, chosen so that the largest code is worth amax."""
    rng = np.random.default_rng(5)
    for exp_bits, man_bits in ((2, 1), (1, 2), (3, 0), (4, 3)):
        spec = exmy(exp_bits, man_bits)
        for amax in np.exp(rng.uniform(-6, 6, 5)).astype(np.float32).astype(np.float64):
            bias = 2**exp_bits - np.log2(amax) + np.log2(2 - 2.0**-man_bits) - 1
            x = rng.uniform(-1.5 * amax, 1.5 * amax, 500).astype(np.float32).astype(np.float64)
            top = (2 - 2.0**-man_bits) * 2.0 ** (2**exp_bits - 1 - bias)
            assert top == pytest.approx(amax, rel=1e-12)
            clipped = np.clip(x, -top, top)
            step = 2.0 ** (np.maximum(np.floor(np.log2(np.abs(clipped)) + bias), 1) - man_bits - bias)
            theirs = np.rint(clipped / step) * step
            scale = 2.0 ** (spec.bias - bias)
            assert scale == pytest.approx(amax / spec.max_value, rel=1e-12)
            codes = [oracle.encode(spec, float(value), "rne", True) for value in clipped / scale]
            np.testing.assert_allclose(element_values(spec)[codes] * scale, theirs, rtol=1e-12)


# Errors


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_input_is_refused_unless_asked_for(bad: float) -> None:
    x = np.zeros((3, 4), np.float32)
    x[1, 2] = bad
    for name in ("float8_e5m2", "float4_e2m1fn", "float8_e8m0fnu"):
        if name == "float8_e8m0fnu" and bad < 0:
            continue
        with pytest.raises(ValueError, match=rf"{name}.*\[1, 2\].*{bad}"):
            encode(x, name)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("float4_e2m1fn", {"overflow": "nonsaturating"}, "neither Inf nor NaN"),
        ("float6_e3m2fn", {"nan_policy": "propagate"}, "can carry a NaN"),
        ("float8_e5m2", {"rounding": "half_up"}, "rounding must be one of rne, .*, not 'half_up'"),
        ("float8_e5m2", {"block_size": 32}, "bare element has no blocks"),
    ],
)
def test_rules_that_an_element_cannot_follow_are_refused(name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*{words}"):
        get(name).with_rules(**changes)


@pytest.mark.parametrize("name", ["float8_e8m0fnu", "ufloat8_e5m3fn", "uint4"])
def test_negative_input_of_an_unsigned_element_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} has no sign, but the value at \[1\] .* is -2"):
        encode(np.float32([1, -2]), bare_element(element(name)))


def test_codes_that_an_element_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match=r"float6_e3m2fn: codes hold 64, allowed 0 \.\. 63"):
        Encoded.of(get("float6_e3m2fn"), codes=np.array([[1, 64]], np.uint8))
    with pytest.raises(ValueError, match="float8_e5m2: codes must be uint8"):
        Encoded.of(get("float8_e5m2"), codes=np.array([[1, 64]], np.uint16))

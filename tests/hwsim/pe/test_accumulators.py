"""Every accumulator: reference against exact rationals, kernels against the reference; presets; flags; bad Params."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from hwsim.formats import Encoded, get
from hwsim.pe import mx_dot, unit_for
from hwsim.pe.accumulator import PRESETS, Accumulator, from_fields, preset
from hwsim.pe.mx_dot import ELEMENTS, Params
from tests.hwsim.formats import oracle as formats
from tests.hwsim.pe import accumulation

E2M1, E4M3, E5M2, E8M0, UE5M3 = "float4_e2m1fn", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "ufloat8_e5m3fn"
MODES, FORMATS = ("rne", "rtz", "rdn", "rod"), ("float32", "float16", "bfloat16")
BYTES = [name for name in ELEMENTS if name not in ("float16", "bfloat16")]
MIXES = [(E2M1, E4M3), ("int4", "int8"), ("int4", E5M2), ("float6_e3m2fn", "mxint8_element"), ("int6", "float16")]
PLACES = ("inside", "outside")


def aligned(group: int, fraction_bits: int, **fields: Any) -> Accumulator:
    """Return an accumulator of kind aligned, of products unless told otherwise."""
    return Accumulator(
        **{"kind": "aligned", "scales": "product", "group": group, "fraction_bits": fraction_bits, **fields}
    )


def sequential(**fields: Any) -> Accumulator:
    """Return an accumulator of kind sequential."""
    return Accumulator(kind="sequential", scales="product", **fields)


EXACT = {
    **{f"{name}": Params(name, E8M0, 8, 8) for name in BYTES},
    **{f"{b}-{a}": Params(b, E8M0, 8, 8, a_element=a, a_scale="none" if a == "float16" else None) for b, a in MIXES},
    "float16": Params("float16", "none", 16, 16),
    "e4m3-e4m3-scales": Params(E4M3, E4M3, 16, 8, True),
    "e5m2-ue5m3-scales": Params(E5M2, UE5M3, 8, 4),
    "e5m2-e4m3-scales": Params(E5M2, E4M3, 8, 4, True),
    "vsq": Params("int4", "uint8", 16, 16, True),
    "mixed scales": Params(E2M1, E4M3, 16, 16, True, a_element=E4M3, a_scale=E8M0, a_out_scale=False),
    "one scale": Params(E2M1, E4M3, 16, 16, True, a_element=E4M3, a_scale="none", a_out_scale=False),
    "two blocks a beat": Params(E2M1, E8M0, 8, 16),
    "four blocks a beat": Params(E4M3, E8M0, 8, 32),
    "block of 128": Params(E4M3, E8M0, 128, 64),
}
OTHER = {
    f"{fmt}-{mode}-{overflow}-{name}": params
    for fmt, (mode, overflow) in product(FORMATS, [*((mode, "ieee") for mode in MODES), ("rtz", "infinite")])
    for name, params in {
        "exact": Params(E4M3, E8M0, 8, 8, accumulator=Accumulator(format=fmt, rounding=mode, overflow=overflow)),
        "wide": Params(E5M2, E4M3, 8, 8, accumulator=Accumulator(format=fmt, rounding=mode, overflow=overflow)),
        "sequential": Params(
            E5M2, "none", 8, 8, accumulator=sequential(format=fmt, rounding=mode, overflow=overflow)
        ),
        "inside": Params(
            E4M3, E8M0, 8, 8, accumulator=aligned(8, 13, format=fmt, rounding=mode, overflow=overflow)
        ),
        "outside": Params(
            E5M2, "none", 8, 8,
            accumulator=aligned(4, 20, format=fmt, rounding=mode, overflow=overflow, addend="outside"),
        ),
    }.items()
}  # fmt: skip
STEPS = {
    "sequential bfloat16": Params("bfloat16", "none", 8, 8, accumulator=sequential(format="bfloat16")),
    "sequential scaled": Params("int8", UE5M3, 8, 8, accumulator=sequential(rounding="rod")),
    "aligned bfloat16": Params("bfloat16", "none", 8, 8, accumulator=aligned(4, 24)),
    "aligned e4m3 scales": Params(E2M1, E4M3, 16, 16, True, accumulator=aligned(16, 20)),
    "aligned across blocks": Params(E2M1, E4M3, 8, 32, accumulator=aligned(32, 20)),
    "aligned across blocks outside": Params(E2M1, E8M0, 8, 16, accumulator=aligned(16, 20, addend="outside")),
    "aligned integers": Params("int8", E8M0, 8, 8, accumulator=aligned(8, 12)),
    "aligned blocks": Params(E2M1, E4M3, 8, 16, accumulator=aligned(16, 20, scales="block", rounding="rtz")),
    "aligned blocks outside": Params(
        E2M1, "uint8", 8, 4, True, accumulator=aligned(8, 9, scales="block", addend="outside")
    ),
    "kept bits": Params(E4M3, E8M0, 8, 8, accumulator=Accumulator(kept_bits=5, rounding="rdn")),
    "promoted": Params(E4M3, E8M0, 8, 8, accumulator=Accumulator(format="float16", promote_every=2)),
    "promoted aligned": Params(E5M2, "none", 8, 8, accumulator=aligned(8, 13, kept_bits=13, promote_every=2)),
    "promoted sequential": Params(E4M3, "none", 8, 8, accumulator=sequential(format="float16", promote_every=1)),
    "promoted, two blocks a beat": Params(
        E2M1, E8M0, 8, 16, accumulator=Accumulator("exact", "bfloat16", promote_every=2)
    ),
    "ordered": Params(E4M3, E8M0, 16, 8, accumulator=Accumulator("sequential")),
    "ordered, two blocks a beat": Params(
        E2M1, "uint8", 8, 16, True, accumulator=Accumulator("sequential", "float16", "rdn")
    ),
    "ordered bfloat16": Params(
        "bfloat16", "none", 8, 8, a_element=E5M2, a_scale=E8M0, accumulator=Accumulator("sequential", "bfloat16", "rod")
    ),
    "ordered float16": Params(
        "float16", "none", 8, 8, a_element="int8", a_scale=E8M0, accumulator=Accumulator("sequential", promote_every=2)
    ),
    "group of two beats": Params(E4M3, E8M0, 32, 16, accumulator=aligned(32, 25, rounding="rtz")),
    "group of four beats, two blocks a beat": Params(E2M1, E4M3, 8, 16, accumulator=aligned(64, 12)),
    "group of two blocks of two beats": Params(E5M2, E8M0, 16, 8, accumulator=aligned(32, 20, addend="outside")),
    "group of four blocks": Params(E2M1, E4M3, 16, 16, True, accumulator=preset("mxf4nvf4")),
    "group of two blocks of two beats, exact sums": Params(
        E2M1, E4M3, 16, 8, accumulator=aligned(32, 15, scales="block", promote_every=2)
    ),
}
PRESET = {
    "ampere float16": Params("float16", "none", 16, 16, accumulator=preset("ampere", k=16)),
    "ampere bfloat16": Params("bfloat16", "none", 16, 16, accumulator=preset("ampere", k=16)),
    "ada_fp8": Params(E4M3, "none", 32, 32, accumulator=preset("ada_fp8")),
    "hopper_fp8": Params(E5M2, "none", 32, 32, accumulator=preset("hopper_fp8", k=32), a_element=E4M3),
    "blackwell_mx": Params(E4M3, E8M0, 32, 32, accumulator=preset("blackwell_mx")),
    "blackwell_mx e2m1": Params(E2M1, E8M0, 32, 32, a_element=E5M2, accumulator=preset("blackwell_mx")),
    "mxf4nvf4": Params(E2M1, E4M3, 16, 64, True, accumulator=preset("mxf4nvf4")),
    "mxf4nvf4 mx": Params(E2M1, E8M0, 32, 64, accumulator=preset("mxf4nvf4")),
}
ALL = {**EXACT, **OTHER, **STEPS, **PRESET}


@pytest.mark.parametrize("name", ALL)
def test_reference_and_kernels_agree_with_exact_rationals(name: str) -> None:
    """The plain reference with its flags, against rationals; `gemm` and `dots` against the reference."""
    params = ALL[name]
    told = Params(**{**{f: getattr(params, f) for f in asdict(params)}, "flags": True})
    m, n, blocks = 2, 3, 3
    seen = set()
    for kind in accumulation.KINDS:
        a, b = accumulation.operands(params, kind, m, n, blocks)
        pairs = list(np.ndindex(m, n))
        words = [mx_dot.reference(mx_dot.beats(a, b, i, j, told), told) for i, j in pairs]
        want = [word & 0xFFFFFFFF for word in words]
        assert mx_dot.gemm(a, b, params).view(np.uint32).reshape(-1).tolist() == want, kind
        rows = [np.array(side) for side in zip(*pairs, strict=True)]
        assert mx_dot.dots(a.rows(rows[0]), b.rows(rows[1]), params).tolist() == want, kind
        assert mx_dot.dots(a.rows(rows[0]), b.rows(rows[1]), told).tolist() == words, kind
        assert mx_dot.reference(mx_dot.beats(a, b, 0, 0, params), params) == want[0]
        for (i, j), word in list(zip(pairs, words, strict=True))[:: 2 if kind == "special" else 3]:
            assert word == accumulation.dot(a, b, i, j, told), (kind, i, j)
        seen |= set(want)
    assert len(seen) > 8


def in_order(a: Encoded, b: Encoded, m: int, n: int) -> float:
    """Return TOSA's order as numpy's float32 does it: products, the block's sum, and what scales are exact in between.

    (float32 holds products of FP8; scales are powers of two, so that the scaled sum is as exact as the sum.)
    """
    values = [formats_of(x).astype(np.float32)[x.codes[r]] for x, r in ((a, m), (b, n))]
    acc = np.float32(0)
    for start in range(0, a.k, a.format.block_size):
        part = np.float32(0)
        for k in range(start, start + a.format.block_size):
            part = np.float32(part + values[0][k] * values[1][k])
        index = start // a.format.block_size
        shift = int(a.scales[m, index]) + int(b.scales[n, index]) - 254
        acc = np.float32(acc + np.ldexp(part, shift))
    return float(acc)


def formats_of(x: Encoded) -> np.ndarray:
    """Return what every code of an operand's element is worth."""
    return np.array([float(formats.value(x.format.element, code)) for code in range(1 << x.format.element.bits)])


def test_scales_after_a_block_summed_in_order() -> None:
    params = Params(E4M3, E8M0, 16, 8, accumulator=Accumulator("sequential"))
    for kind in ("near", "cancelling"):
        a, b = accumulation.operands(params, kind, 4, 4, 4)
        got = mx_dot.gemm(a, b, params)
        assert [[float(x) for x in row] for row in got] == [[in_order(a, b, i, j) for j in range(4)] for i in range(4)]
    # the two orders differ where a block's sum overflows that its scale would have brought back
    codes = np.zeros((1, 16), np.uint8)
    codes[0, :5] = 0x7E  # 448 * 448 five times: beyond FP16 before a scale of 2**-8
    operand = Encoded.of(
        accumulation.format_of(E4M3, E8M0, 16, False), codes=codes, scales=np.full((1, 1), 119, np.uint8)
    )
    results = {}
    for scales in ("block", "product"):
        rule = Accumulator("sequential", "float16", scales=scales)
        results[scales] = mx_dot.gemm(operand, operand, Params(E4M3, E8M0, 16, 16, accumulator=rule))[0, 0]
    assert results["block"] == np.inf and np.isfinite(results["product"])


def test_a_long_group_is_that_of_a_wide_unit() -> None:
    """A group of 32 on 16 or 8 lanes: the bits of 32 lanes; a dot product of one and a half groups is filled up."""
    rule = preset("mxf4nvf4")
    wide = Params(E2M1, E4M3, 16, 64, accumulator=rule)
    a, b = accumulation.operands(wide, "near", 5, 5, 6)
    for lanes, beats in ((64, 2), (32, 4), (16, 8), (8, 16), (4, 32)):
        narrow = Params(E2M1, E4M3, 16, lanes, accumulator=rule)
        np.testing.assert_array_equal(mx_dot.gemm(a, b, narrow), mx_dot.gemm(a, b, wide))
        assert mx_dot.cycles(1, 1, a.k, narrow) == beats + 3
        assert len(mx_dot.beats(a, b, 0, 0, narrow)["last"]) == beats


def test_many_outputs_of_a_tile_and_a_band() -> None:
    """Shapes over the ends of tiles and bands: every output as when it is computed alone."""
    for params in (PRESET["blackwell_mx"], EXACT[E4M3], PRESET["mxf4nvf4"], STEPS["promoted aligned"]):
        a, b = accumulation.operands(params, "near", 67, 131, 2)
        whole = mx_dot.gemm(a, b, params).view(np.uint32)
        rng = np.random.default_rng(0)
        i, j = rng.integers(0, 67, 300), rng.integers(0, 131, 300)
        np.testing.assert_array_equal(whole[i, j], mx_dot.dots(a.rows(i), b.rows(j), params))


# The tensor-core rules once more, each on its own, as the source words them.


def taken_apart(name: str, code: int) -> tuple[Fraction, int]:
    """Return significand and exponent: significand below 2, subnormals (and zero) at the smallest exponent."""
    spec = get(name).element
    sign, field, mantissa = formats.fields(spec, code)
    significand = Fraction(mantissa, 1 << spec.man_bits) + (field > 0)
    return (-significand if sign else significand), max(field, 1) - spec.bias


def float_parts(value: Fraction) -> tuple[Fraction, int]:
    """Return significand and exponent of a float32."""
    if not value:
        return Fraction(0), -126
    exponent = max(formats.floor_log2(abs(value)), -126)
    return value / formats.power(exponent), exponent


def toward_zero(value: Fraction, fraction_bits: int) -> Fraction:
    """Return a value with that many fraction bits at most, of its own exponent (-126 at least), truncated."""
    if not value:
        return value
    unit = formats.power(max(formats.floor_log2(abs(value)), -126) - fraction_bits)
    return int(value / unit) * unit


def fused(terms: list[tuple[Fraction, int]], fraction_bits: int) -> Fraction:
    """Return the sum of terms, each truncated to so many fraction bits below the largest exponent."""
    largest = max(exponent if significand else -126 for significand, exponent in terms)
    unit = formats.power(largest - fraction_bits)
    return sum(int(significand * formats.power(exponent) / unit) * unit for significand, exponent in terms)


def products(a: Encoded, b: Encoded, names: tuple[str, str], m: int, n: int) -> list[tuple[Fraction, int]]:
    """Return significand and exponent of every product."""
    found = []
    for x, y in zip(a.codes[m].tolist(), b.codes[n].tolist(), strict=True):
        (sx, ex), (sy, ey) = taken_apart(names[0], x), taken_apart(names[1], y)
        found.append((sx * sy, ex + ey))
    return found


@pytest.mark.parametrize("name", ["ampere float16", "ampere bfloat16", "ada_fp8", "hopper_fp8"])
def test_plain_tensor_core_rules(name: str) -> None:
    """Ampere: halves of 8, F = 24, RZ. FP8 on Ada (halves of 16) and Hopper (32): F = 13, kept to 13 fraction bits."""
    params = PRESET[name]
    step, bits, kept = {"ampere": (8, 24, 23), "ada_fp8": (16, 13, 13), "hopper_fp8": (32, 13, 13)}[name.split()[0]]
    for kind in ("near", "sparse", "cancelling", *(() if params.element == "bfloat16" else ("any",))):
        a, b = accumulation.operands(params, kind, 3, 3, 3)
        got = mx_dot.gemm(a, b, params)
        for i, j in np.ndindex(3, 3):
            c, terms = Fraction(0), products(a, b, (params.a_element or params.element, params.element), i, j)
            for start in range(0, len(terms), step):
                c = toward_zero(fused([*terms[start : start + step], float_parts(c)], bits), kept)
            assert c < formats.power(128) and Fraction(float(got[i, j])) == c


@pytest.mark.parametrize("name", ["blackwell_mx", "blackwell_mx e2m1"])
def test_mx_tensor_core_rule(name: str) -> None:
    """K = 32: exponents with those of the scales, F = 25, RZ."""
    params = PRESET[name]
    for kind in ("near", "sparse", "cancelling"):
        a, b = accumulation.operands(params, kind, 3, 3, 3)
        got = mx_dot.gemm(a, b, params)
        for i, j in np.ndindex(3, 3):
            c, terms = Fraction(0), products(a, b, (params.a_element or params.element, params.element), i, j)
            for block in range(3):
                shift = int(a.scales[i, block]) + int(b.scales[j, block]) - 254
                here = [(s, e + shift) for s, e in terms[32 * block : 32 * block + 32]]
                c = toward_zero(fused([*here, float_parts(c)], 25), 23)
            assert Fraction(float(got[i, j])) == c


def test_nvf4_tensor_core_rule() -> None:
    """K = 64: exact sums of 16 times scale significands, exponents of the scales alone, F = 35, RZ."""
    params = Params(E2M1, E4M3, 16, 64, accumulator=preset("mxf4nvf4"))
    for kind in ("any", "near", "sparse", "cancelling"):
        a, b = accumulation.operands(params, kind, 3, 3, 8)
        got = mx_dot.gemm(a, b, params)
        for i, j in np.ndindex(3, 3):
            c, terms = Fraction(0), products(a, b, (E2M1, E2M1), i, j)
            for start in range(0, len(terms), 64):
                sums = []
                for block in range(start // 16, start // 16 + 4):
                    exact = sum(s * formats.power(e) for s, e in terms[16 * block : 16 * block + 16])
                    (sa, ea), (sb, eb) = (taken_apart(E4M3, int(x.scales[r, block])) for x, r in ((a, i), (b, j)))
                    sums.append((exact * sa * sb, ea + eb))
                c = toward_zero(fused([*sums, float_parts(c)], 35), 23)
            assert Fraction(float(got[i, j])) == c


def test_truncation_is_not_rounding_and_order_matters() -> None:
    """A term one place below the quantum is lost inside the alignment, and counts outside of it."""
    codes = np.zeros((1, 8), np.uint8)
    codes[0, :2] = [0x7E, 0x01]  # 448 * 448 and 2**-9 * 2**-9
    operand = Encoded.of(accumulation.format_of(E4M3, "none", 8, False), codes=codes)
    results = {}
    for name, rule in {
        "F = 13": aligned(8, 13), "F = 40": aligned(8, 40), "exact": Accumulator(), "sequential": sequential(),
        "odd": Accumulator(rounding="rod"), "float16": Accumulator(format="float16"),
        "float16 toward zero": Accumulator(format="float16", rounding="rtz"),
    }.items():  # fmt: skip
        results[name] = float(mx_dot.gemm(operand, operand, Params(E4M3, "none", 8, 8, accumulator=rule))[0, 0])
    large = 448.0 * 448
    assert results["F = 13"] == results["F = 40"] == results["exact"] == results["sequential"] == large
    assert results["odd"] == np.nextafter(np.float32(large), np.float32(np.inf))
    assert results["float16"] == np.inf and results["float16 toward zero"] == 65504


def test_w4a8_finds_the_unit() -> None:
    for weight, activation in (("mxfp4", "mxfp8_e4m3"), ("nvfp4", "fp8_e4m3_row"), ("mxint4", "mxint8")):
        found, params = unit_for(get(weight).with_rules(activation=activation), "mx_dot")
        spec = params.datapath
        assert found.NAME == "mx_dot" and params.block == get(weight).block_size
        assert (spec.b_element, spec.a_element) == (get(weight).element.name, get(activation).element.name)
        assert (spec.a_scale is None) == (activation == "fp8_e4m3_row")


def test_different_blocks_do_not_meet() -> None:
    assert mx_dot.params_for(get("mxfp4"), get("nvfp4")) is None
    assert mx_dot.params_for(get("int8"), get("int8")) is None
    assert mx_dot.params_for(get("mxfp8_e4m3_32x32"), get("mxfp8_e4m3")) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "pairwise"}, "kind must be one of exact, aligned, sequential, not 'pairwise'"),
        ({"format": "float64"}, "format must be one of float32, float16, bfloat16, not 'float64'"),
        ({"rounding": "rup"}, "rounding must be one of rne, rtz, rdn, rod, not 'rup'"),
        ({"overflow": "wrap"}, "overflow must be one of ieee, infinite, not 'wrap'"),
        ({"kept_bits": 24}, "kept_bits must be None or 2 to 23, the fraction bits of float32, not 24"),
        ({"promote_every": -1}, "promote_every must be an integer of 0 or more, not -1"),
        ({"promote_every": True}, "promote_every must be an integer of 0 or more, not True"),
        (
            {"kind": "aligned", "fraction_bits": 13},
            "kind aligned needs a group of at least 1 product, at most 256, not 0",
        ),
        ({"kind": "aligned", "fraction_bits": 13, "group": 512}, "at least 1 product, at most 256, not 512"),
        ({"kind": "aligned", "group": 8}, "kind aligned needs fraction_bits of 1 to 48, not 0"),
        ({"group": 8}, "group is for kind aligned; leave it 0, not 8"),
        ({"fraction_bits": 8}, "fraction_bits are for kind aligned; leave them 0, not 8"),
        ({"addend": "outside"}, "addend 'outside' is for kind aligned"),
        ({"scales": "product"}, "kind exact takes scales 'block', not 'product'"),
    ],
    ids=str,
)
def test_bad_accumulators_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Accumulator(**fields)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"lanes": 12, "block": 24, "accumulator": aligned(8, 13)}, "group must divide lanes = 12 .*not 8"),
        (
            {"lanes": 24, "block": 8, "accumulator": aligned(12, 13)},
            "group must divide the block of 8 or be a multiple",
        ),
        (
            {"lanes": 8, "block": 16, "accumulator": aligned(8, 13, scales="block")},
            "must be a multiple of the block of 16, and",
        ),
        ({"lanes": 16, "block": 8, "accumulator": Accumulator(promote_every=1)}, "multiple of the 2 blocks of a beat"),
        (
            {"lanes": 16, "block": 8, "accumulator": aligned(16, 13, promote_every=3)},
            "promote_every must be a multiple",
        ),
        (
            {"accumulator": aligned(32, 48)},
            "aligned sum of 32 terms with 48 fraction bits needs 56 bits; allowed are 54",
        ),
        ({"element": E5M2, "accumulator": aligned(32, 1, scales="block")}, "may have 53 bits, not 69"),
        ({"element": "bfloat16", "a_element": E4M3, "scale": "none"}, "exact sum of 32 products .* needs 2.. bits"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_contradicting_params_are_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        Params(**params)
    assert str(error.value).startswith("mx_dot: ")


def test_exact_widths_are_the_published_ones() -> None:
    """Signed bits of an exact sum of 32 products, as the table of widths has them."""
    widths = {E5M2: 70, E4M3: 42, "float6_e3m2fn": 24, "float6_e2m3fn": 18, E2M1: 14, "mxint8_element": 20}
    found = {name: Params(name, E8M0, 32, 32).datapath.block_sum_bits for name in widths}
    # 80h, worth -2, takes MXINT8 one bit further than its table
    assert found == {**widths, "mxint8_element": found["mxint8_element"]}
    assert found["mxint8_element"] == 21


def test_presets_and_their_errors() -> None:
    assert [preset(name, None if PRESETS[name].k else 16).rounding for name in PRESETS] == ["rtz"] * len(PRESETS)
    assert preset("ada_fp8").group == 16 and preset("ampere", k=16).group == 8 and preset("mxf4nvf4").group == 64
    with pytest.raises(ValueError, match="unknown preset 'volta'; known: ampere"):
        preset("volta")
    with pytest.raises(ValueError, match="preset 'ampere': the source states no K; give k"):
        preset("ampere")
    with pytest.raises(ValueError, match="the source states K = 32, not 64"):
        preset("blackwell_mx", k=64)
    with pytest.raises(ValueError, match="k must be a positive multiple of 2, not 7"):
        preset("ampere", k=7)


def test_an_accumulator_is_its_fields() -> None:
    rule = preset("blackwell_mx")
    assert from_fields(asdict(rule)) == rule
    assert Params(accumulator=asdict(rule)) == Params(accumulator=rule)  # type: ignore[arg-type]
    assert hash(Params(accumulator=rule)) == hash(Params(accumulator=rule))
    with pytest.raises(ValueError, match="unknown field 'groups'; known: kind"):
        from_fields({"groups": 3})


@pytest.mark.parametrize(
    ("params", "latency"),
    [
        (Params(E4M3), 3), (Params(E4M3, stages=1), 4), (Params(E4M3, accumulator=Accumulator(promote_every=4)), 4),
        (Params(E4M3, E4M3, 16, 16, True, accumulator=Accumulator(promote_every=8), stages=1), 7),
        (Params(E2M1, E4M3, 16, 64, True, a_out_scale=False, accumulator=preset("mxf4nvf4")), 4),
    ],
    ids=str,
)  # fmt: skip
def test_cycles_follow_the_stages(params: Params, latency: int) -> None:
    assert params.datapath.latency == latency
    beats = -(-192 // params.lanes)
    assert mx_dot.cycles(2, 3, 192, params) == 6 * beats + latency


@pytest.mark.parametrize(
    ("params", "counts"),
    [
        (Params(E4M3), {"mul_e4m3_e4m3": 256, "shift_to_grid_int32": 512, "add_int32": 512, "mul_block_scale_e8m0": 8,
                        "add_float32": 8}),
        (Params(E2M1, E4M3, 16, 16, True, a_element=E4M3, a_scale="none", a_out_scale=False),
         {"mul_e2m1_e4m3": 256, "shift_to_grid_int32": 256, "add_int32": 256, "mul_block_scale_e4m3_one": 16,
          "add_float32": 16, "mul_float32": 4}),
        (Params("int4", E8M0, 32, 32, a_element="int8", accumulator=sequential(format="float16")),
         {"mul_int4_int8": 256, "mul_block_scale_e8m0": 8, "add_float16": 256}),
        (PRESET["blackwell_mx"],
         {"mul_e4m3_e4m3": 256, "align_term": 264, "mul_block_scale_e8m0": 8, "add_float32": 8}),
        (PRESET["mxf4nvf4"], {"mul_e2m1_e2m1": 256, "add_int32": 256, "align_term": 20, "mul_block_scale_e4m3": 16,
                              "add_float32": 4, "mul_float32": 8}),
        (Params(E4M3, accumulator=Accumulator(format="bfloat16", promote_every=2)),
         {"mul_e4m3_e4m3": 256, "shift_to_grid_int32": 512, "add_int32": 512, "mul_block_scale_e8m0": 8,
          "add_bfloat16": 8, "add_float32": 4}),
    ],
    ids=lambda value: "",
)  # fmt: skip
def test_actions_by_hand(params: Params, counts: dict[str, int]) -> None:
    assert {name: count for name, count in mx_dot.actions(2, 2, 64, params).items() if count} == counts

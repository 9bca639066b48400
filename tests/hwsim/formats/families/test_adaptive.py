"""Adaptive formats (BitMoD, ANT): by exact rationals, plain floats in the stated order, and published level sets."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats
from hwsim.formats import FloatSpec, TableSpec, decode, encode
from hwsim.formats.families.adaptive import AdaptiveSpec
from tests.hwsim.formats import oracle
from tests.hwsim.formats.families.test_tables import levels, table_code, worth


def adaptive(name: str) -> AdaptiveSpec:
    fmt = formats.get(name)
    assert isinstance(fmt, AdaptiveSpec)
    return fmt


CATALOGUE = tuple(n for n in formats.names() if isinstance(formats.get(n), AdaptiveSpec))
VARIANTS = (
    *map(adaptive, CATALOGUE),
    adaptive("bitmod_fp4_g128_fp16").with_rules(criterion="mae", block_size=17),
    adaptive("bitmod_fp3_g128_fp16").with_rules(criterion="max_abs", block_size=16),
    adaptive("bitmod_fp3").with_rules(block_size=300, row_scale="float32"),
    adaptive("ant_4b").with_rules(block_size=1),
    adaptive("bitmod_fp4_g128_fp16").with_rules(
        candidates=tuple(replace(c, ties="even") for c in adaptive("bitmod_fp4_g128_fp16").candidates), block_size=40
    ),
)


def halved(numbers: list[float]) -> float:
    """Sum by halves: the second half is added to the first until one number is left."""
    while len(numbers) > 1:
        half = (len(numbers) + 1) // 2
        numbers = [
            a + b for a, b in zip(numbers[:half], [*numbers[half:], *[0.0] * (2 * half - len(numbers))], strict=True)
        ]
    return numbers[0]


def error_of(differences: list[Fraction], criterion: str) -> float:
    exact = [float(d) for d in differences]  # one rounding
    if criterion == "max_abs":
        return max(map(abs, exact))
    terms = [e * e if criterion == "mse" else abs(e) for e in exact]
    total = 0.0
    for start in range(0, len(terms), 128):
        total += halved(terms[start : start + 128])
    return total


def stored_scale(fmt: AdaptiveSpec, exact: Fraction) -> tuple[int, Fraction]:
    """Round a scale into its format: code and worth."""
    if isinstance(fmt.scale, FloatSpec):
        code = oracle.float_code(fmt.scale, exact)
        step = oracle.float32_value(code) if fmt.scale.bits == 32 else oracle.value(fmt.scale, code)
        assert isinstance(step, Fraction)
        return code, step
    code = min(oracle.half_even(exact), (1 << fmt.scale.bits) - 1)
    return code, Fraction(code)


def row_scale(fmt: AdaptiveSpec, bits: list[int]) -> tuple[int, Fraction]:
    """Return bits and worth of the scale of a row."""
    if fmt.row_scale == "none":
        return 0, Fraction(1)
    element = formats.element(fmt.row_scale)
    assert isinstance(element, FloatSpec)
    amax = max(abs(oracle.float32_value(b)) for b in bits)
    if amax == 0:
        code = oracle.float_code(element, Fraction(1))
    else:
        least = min(max(abs(v) for v, _ in levels(c)) for c in fmt.candidates)
        code = max(oracle.float_code(element, amax / (Fraction(fmt.scale_cap or 0) * least)), 1)
    step = oracle.float32_value(code) if element.bits == 32 else oracle.value(element, code)
    assert isinstance(step, Fraction)
    return code, step


def expected_block(fmt: AdaptiveSpec, bits: list[int], outer: Fraction) -> tuple[list[int], int, int, Fraction]:
    """Encode one block: codes, scale code, selector, step."""
    values = [oracle.float32_value(b) for b in bits]
    amax, best = max(map(abs, values)), None
    for index, table in enumerate(fmt.candidates):
        top = max(abs(v) for v, _ in levels(table))
        scale, worth_of_scale = stored_scale(fmt, amax / (top * outer))
        step = worth_of_scale * outer
        codes = [table_code(table, v / step if step else Fraction(0), False) for v in values]
        error = error_of([v - (worth(table, c) or 0) * step for v, c in zip(values, codes, strict=True)], fmt.criterion)
        if best is None or error < best[0]:
            best = (error, codes, scale, index, step)
    assert best is not None
    return best[1], best[2], best[3], best[4]


def make(kind: str, fmt: AdaptiveSpec, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, len(kind)])
    shape = (4, 2 * fmt.block_size if fmt.block_size else 200)
    x = rng.normal(size=shape)
    if kind == "heavy":
        x = x**3
    elif kind == "skewed":  # one sign dominates: the special values of that side win
        x = np.abs(x) * np.array([1, -1, 1, -1])[:, None] + rng.normal(size=shape) * 0.1
    elif kind == "mirrored":  # the errors of +ER and -ER are one set in another order: only rounding tells them apart
        half = np.abs(rng.normal(size=(8, (fmt.block_size or shape[1] // 2) // 2)))
        whole = np.concatenate([half, -half, np.zeros((8, (fmt.block_size or 0) % 2))], axis=1)
        x = rng.permuted(whole, axis=1).reshape(4, -1)
    elif kind == "grid":  # exact quotients, ties between levels and between candidates
        x = rng.integers(-24, 25, shape) / 2.0
        x[:, ::16] = 24.0
    elif kind == "mixed":
        x = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-140, 127, shape))
    elif kind == "subnormal":
        x = np.ldexp(rng.integers(-40, 41, shape).astype(float), -149)
    elif kind == "huge":
        x = rng.choice([3.4028234663852886e38, -3.4028234663852886e38, 1.0, -65504.0 * 7], shape)
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0], shape)
        x[2, : shape[1] // 2] = 1.5
        x[3] = -1e-30
    return x.astype(np.float32)


@pytest.mark.parametrize("fmt", VARIANTS, ids=lambda f: f.name[:60])
@pytest.mark.parametrize(
    "kind", ["random", "heavy", "skewed", "mirrored", "grid", "mixed", "subnormal", "huge", "zeros"]
)
def test_encode_and_decode_equal_exact_rationals(fmt: AdaptiveSpec, kind: str) -> None:
    x = make(kind, fmt)
    encoded = encode(x, fmt)
    values, block = decode(encoded), fmt.block_size or x.shape[1]
    for row in range(len(x)):
        bits = [int(b) for b in x[row].view(np.uint32)]
        scale_bits, outer = row_scale(fmt, bits)
        if fmt.row_scale != "none":
            assert encoded.parts["row_scales"][row] == scale_bits
        for index in range(x.shape[1] // block):
            part = slice(index * block, (index + 1) * block)
            codes, scale, selector, step = expected_block(fmt, bits[part], outer)
            assert encoded.parts["selectors"][row, index] == selector
            assert encoded.scales[row, index] == scale
            assert encoded.codes[row, part].tolist() == codes
            products = [(worth(fmt.candidates[selector], c) or Fraction(0)) * step for c in codes]
            assert [Fraction(float(v)) for v in values[row, part]] == [
                oracle.float32_value(oracle.float32_bits(p)) for p in products
            ]


def test_every_selector_is_chosen_somewhere() -> None:
    for name in CATALOGUE:
        fmt = adaptive(name)
        chosen = set()
        for kind in ("random", "heavy", "skewed"):
            for seed in range(6):
                chosen |= set(encode(make(kind, fmt, seed), fmt).parts["selectors"].ravel().tolist())
        assert chosen == set(range(len(fmt.candidates))), name


# lists of bitmod_quant/quant_utils/quant_weight.py; those of FP4 hold twice the value
PUBLISHED = {
    "bitmod_fp3_er_pos": ([-4, -2, -1, 0, 1, 2, 3, 4], 1),
    "bitmod_fp3_er_neg": ([-4, -3, -2, -1, 0, 1, 2, 4], 1),
    "bitmod_fp3_ea_pos": ([-4, -2, -1, 0, 1, 2, 4, 6], 1),
    "bitmod_fp3_ea_neg": ([-6, -4, -2, -1, 0, 1, 2, 4], 1),
    "bitmod_fp4_er_pos": ([-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 10, 12], 2),
    "bitmod_fp4_er_neg": ([-12, -10, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12], 2),
    "bitmod_fp4_ea_pos": ([-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12, 16], 2),
    "bitmod_fp4_ea_neg": ([-16, -12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12], 2),
    "ant_int4": (list(range(-7, 8)), 1),
    "flint4": ([-16, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 16], 1),
    "ant_pot4": ([-64, -32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32, 64], 1),
}


def test_levels_are_the_published_ones() -> None:
    used = {c.name: c for name in CATALOGUE for c in adaptive(name).candidates}
    assert set(used) == set(PUBLISHED)
    for name, (listed, unit) in PUBLISHED.items():
        assert [v * unit for v, _ in levels(used[name])] == listed
        spec = used[name]
        if name.startswith("bitmod"):  # sign and magnitude; the special value stands in place of "-0"
            half = len(spec.values) // 2
            plain = [v for i, v in enumerate(spec.values) if i != half]
            assert plain[1:half] == [-(v or 0) for v in plain[half:]]
            assert spec.ties == "down"
    assert [c.name[-6:] for c in adaptive("bitmod_fp4").candidates] == ["er_pos", "er_neg", "ea_pos", "ea_neg"]


@pytest.mark.parametrize("bits", [3, 4])
def test_equals_the_published_search(bits: int) -> None:
    """The published loop in float64, on groups whose scales FP16 holds: top a multiple of 24 steps."""
    rng = np.random.default_rng(bits)
    x = rng.normal(size=(64, 128)).astype(np.float16).astype(np.float32)
    x = np.clip(x, -2.9, 2.9)
    x[np.arange(64), rng.integers(0, 128, 64)] = rng.choice([3.0, -3.0], 64)
    best, least = np.zeros((64, 128)), np.full(64, 1e3)
    for kind in ("er_pos", "er_neg", "ea_pos", "ea_neg"):
        allowed = np.array(PUBLISHED[f"bitmod_fp{bits}_{kind}"][0], float)
        scale = np.abs(x.astype(float)).max(axis=1, keepdims=True) / np.abs(allowed).max()
        if np.abs(allowed).max() in (6, 12):
            assert (scale.astype(np.float16) == scale).all()
        middles = (allowed[:-1] + allowed[1:]) / 2
        got = allowed[np.searchsorted(middles, x / scale, side="left")] * scale  # middle < x <= next middle
        error = ((got - x) ** 2).mean(axis=1)
        better = error < least
        least[better], best[better] = error[better], got[better]
    assert np.array_equal(decode(encode(x, f"bitmod_fp{bits}_g128_fp16")), best.astype(np.float32))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-8, 8))
def test_powers_of_two_and_signs(seed: int, shift: int) -> None:
    x = np.random.default_rng(seed).normal(size=(2, 128)).astype(np.float32)
    first = encode(x, "ant_4b")
    scaled = encode(np.ldexp(x, shift), "ant_4b")
    for part in ("codes", "selectors"):
        assert np.array_equal(first.parts[part], scaled.parts[part])
    # mirrored input, mirrored special values: the same values where nothing lies on a threshold
    plus, minus = encode(x, "bitmod_fp4_g128_fp16"), encode(-x, "bitmod_fp4_g128_fp16")
    assert np.array_equal(decode(plus), -decode(minus))
    again = encode(decode(plus), "bitmod_fp4_g128_fp16")
    assert np.abs(decode(again) - decode(plus)).max() <= np.abs(decode(plus) - x).max()


def test_stored_bits_an_element() -> None:
    assert adaptive("bitmod_fp3").bits_per_element(1024) == 3 + 10 / 128 + 16 / 1024
    assert adaptive("bitmod_fp4_g128_fp16").bits_per_element(1024) == 4 + 18 / 128
    assert adaptive("ant_4b").bits_per_element(1024) == 4 + 34 / 1024


def test_axes_rows_and_padding() -> None:
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    encoded = encode(x, "bitmod_fp3", axis=0, pad=True)
    assert encoded.padding == 56 and decode(encoded).shape == x.shape
    assert np.array_equal(decode(encoded.rows(slice(1, 2))), decode(encoded)[:, 1:2])


BASE = adaptive("bitmod_fp4_g128_fp16")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"candidates": BASE.candidates[:1]}, "two candidates"),
        ({"candidates": BASE.candidates[:1] * 2}, "twice"),
        ({"candidates": (BASE.candidates[0], adaptive("bitmod_fp3").candidates[0])}, "one width"),
        ({"candidates": (BASE.candidates[0], formats.element("fp4_bnb"))}, "not symmetric"),
        ({"candidates": (formats.element("dynamic8"), formats.element("dynamic8_unsigned"))}, "16 levels"),
        (
            {"candidates": (BASE.candidates[0], formats.element("nf4")), "row_scale": "float32", "scale_cap": 1.0},
            "exact",
        ),
        ({"block_size": 0}, "block_size"),
        ({"scale": formats.element("float8_e8m0fnu")}, "subnormals"),
        ({"scale": formats.element("uint4")}, "row_scale above"),
        ({"row_scale": "float16"}, "go together"),
        ({"row_scale": "bfloat16", "scale_cap": 1.0}, "row_scale must be"),
        ({"scale_cap": 1.0}, "go together"),
        ({"scale": formats.element("uint4"), "row_scale": "float16", "scale_cap": 16.0}, "scale_cap"),
        ({"criterion": "rmse"}, "criterion"),
        ({"selection": "last"}, "selection"),
        ({"zero_block": "one"}, "zero_block"),
    ],
)
def test_bad_rules_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BASE.with_rules(**change)


@pytest.mark.parametrize("name", ["bitmod_fp4_g128_fp16", "bitmod_fp4"])
def test_bad_input_is_refused(name: str) -> None:
    x = np.ones((3, 256), np.float32)
    x[1, 200] = -np.inf
    with pytest.raises(ValueError, match=r"index \[1, 200\].*-inf"):
        encode(x, name)
    with pytest.raises(ValueError, match="does not divide"):
        encode(np.ones((1, 130), np.float32), name)
    good = encode(np.ones((1, 128), np.float32), name)
    with pytest.raises(ValueError, match="selectors hold 4"):
        good.replace_parts(selectors=np.full((1, 1), 4, np.uint8))
    three = adaptive("ant_4b")
    broken = encode(np.ones((1, 8), np.float32), three).replace_parts(selectors=np.full((1, 1), 3, np.uint8))
    with pytest.raises(ValueError, match=r"allowed 0 \.\. 2"):
        decode(broken)
    with pytest.raises(ValueError, match="codes hold 16"):
        good.replace_parts(codes=np.full((1, 128), 16, np.uint8))
    assert all(isinstance(c, TableSpec) for c in three.candidates)

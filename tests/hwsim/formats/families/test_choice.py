"""Two-way choices (four-over-six, IF4): by exact rationals, plain floats in the stated order, and fouroversix."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats
from hwsim.formats import ElementSpec, FloatSpec, IntSpec, block, decode, element, encode
from hwsim.formats.families.choice import ChoiceSpec
from tests.hwsim.formats import oracle

VECTORS = Path(__file__).parents[3] / "data" / "fouroversix.npz"


def choice(name: str) -> ChoiceSpec:
    fmt = formats.get(name)
    assert isinstance(fmt, ChoiceSpec)
    return fmt


CATALOGUE = ("nvfp4_46", "if4")
FP6, FP6_OTHER = element("float6_e2m3fn"), element("float6_e3m2fn")
NV = choice("nvfp4_46").base
VARIANTS = (
    *map(choice, CATALOGUE),
    *(choice(name).with_rules(criterion=rule) for name in CATALOGUE for rule in ("mae", "max_abs")),
    choice("nvfp4_46").with_rules(base=replace(NV, scale_cap=448.0)),  # d4 saturates
    choice("nvfp4_46").with_rules(base=replace(NV, block_size=11), criterion="mae"),
    choice("if4").with_rules(base=replace(NV, block_size=128, tensor_scale="none", row_scale="float16")),
    choice("if4").with_rules(base=replace(NV, block_size=None), criterion="max_abs"),
    choice("if4").with_rules(base=replace(NV, block_size=1)),
    choice("if4").with_rules(base=replace(NV, block_size=6, element=FP6), other=FP6_OTHER, other_factor=(1, 4)),
    choice("if4").with_rules(
        base=replace(NV, element=element("int4")), other=element("float4_e2m1fn"), other_factor=(7, 6)
    ),
)  # fmt: skip


def paired(numbers: list[float], largest: bool) -> float:
    """Sum neighbours in pairs (or take the larger) until one number is left; an odd one out is carried on."""
    while len(numbers) > 1:
        pairs = [numbers[i : i + 2] for i in range(0, len(numbers), 2)]
        numbers = [max(p) if largest else p[0] + p[1] if len(p) == 2 else p[0] for p in pairs]
    return numbers[0]


def element_code(spec: ElementSpec, quotient: Fraction, sign: int) -> int:
    """Return the code of a quotient: nearest, half to even, saturating."""
    if isinstance(spec, FloatSpec):
        return oracle.float_code(spec, abs(quotient), bool(sign))
    assert isinstance(spec, IntSpec)
    top = (1 << (spec.bits - 1)) - 1
    count = min(oracle.half_even(abs(quotient)), top)
    return (-count if quotient < 0 else count) % (1 << spec.bits)


def worth(spec: ElementSpec, code: int) -> Fraction:
    exact = oracle.value(spec, code)
    assert isinstance(exact, Fraction)
    return exact


def expected_block(fmt: ChoiceSpec, bits: list[int], outer: Fraction) -> tuple[list[int], int, list[Fraction]]:
    """Encode one block: codes, scale code, exact values."""
    values = [oracle.float32_value(b) for b in bits]
    amax, best = max(map(abs, values)), None
    top = max(map(abs, oracle.levels(fmt.base.element)))
    other = max(map(abs, oracle.levels(fmt.other))) if fmt.other_level is None else Fraction(fmt.other_level)
    factor = Fraction(*fmt.other_factor)
    assert isinstance(fmt.base.scale, FloatSpec)
    for spec, level, times in ((fmt.base.element, top, Fraction(1)), (fmt.other, other * factor, factor)):
        scale = oracle.float_code(fmt.base.scale, amax / (level * outer))
        step = worth(fmt.base.scale, scale) * outer * times
        codes = [
            element_code(spec, v / step if step else Fraction(0), b >> 31) for v, b in zip(values, bits, strict=True)
        ]
        got = [worth(spec, c) * step for c in codes]
        rest = [abs(float((v - g) * fmt.other_factor[1])) for v, g in zip(values, got, strict=True)]  # one rounding
        terms = [r * r for r in rest] if fmt.criterion == "mse" else rest
        error = paired(terms, fmt.criterion == "max_abs")
        if best is None or error < best[0]:
            second = best is not None and fmt.selector == "scale_sign"
            best = (error, codes, scale | (128 if second else 0), got)
    assert best is not None
    return best[1], best[2], best[3]


def make(kind: str, fmt: ChoiceSpec, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, len(kind)])
    size = fmt.base.block_size if isinstance(fmt.base.block_size, int) else 64
    shape = (4, size * max(2, 64 // size))
    x = rng.normal(size=shape)
    if kind == "heavy":
        x = x**3
    elif kind == "unit":  # second-level scale 1, and steps that are exact: ties of elements and of errors
        x = rng.integers(-48, 49, shape) / 4.0
        level = max(map(abs, oracle.levels(fmt.base.element)))
        x[0, 0] = fmt.base.scale_cap * level
    elif kind == "mixed":
        x = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-140, 127, shape))
    elif kind == "faint":  # scales around the smallest, and 0
        x = np.ldexp(rng.uniform(-1, 1, shape), -8 - 2 * np.arange(4)[:, None])
        x[0, 0] = 1000.0
    elif kind == "subnormal":
        x = np.ldexp(rng.integers(-40, 41, shape).astype(float), -149)
    elif kind == "huge":
        x = rng.choice([3.4028234663852886e38, -3.4028234663852886e38, 1e38, -2e38, 1.0], shape)
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0], shape)
        x[2, : shape[1] // 2] = 1.5
        x[3, 0] = -1e-30
    elif kind == "nothing":
        x = rng.choice([0.0, -0.0], shape)
    return x.astype(np.float32)


KINDS = ("random", "heavy", "unit", "mixed", "faint", "subnormal", "huge", "zeros", "nothing")


@pytest.mark.parametrize(
    "fmt, kind",
    [
        pytest.param(fmt, kind, id=f"{fmt.name[:70]}-{kind}")
        for i, fmt in enumerate(VARIANTS)
        for kind in (KINDS if i < len(CATALOGUE) else ("random", "unit", "mixed", "zeros"))
    ],
)
def test_encode_and_decode_equal_exact_rationals(fmt: ChoiceSpec, kind: str) -> None:
    x = make(kind, fmt)
    encoded, bits = encode(x, fmt), x.view(np.uint32)
    values, size = decode(encoded), fmt.base.tile(x.shape[1])[1]
    for row in range(len(x)):
        scale_bits = oracle.outer_scale(fmt.base, bits if fmt.base.tensor_scale != "none" else bits[row])
        if fmt.base.tensor_scale != "none":
            assert np.float32(encoded.tensor_scale).view(np.uint32) == scale_bits
        else:
            assert encoded.parts["row_scales"][row] == scale_bits
        outer = oracle.outer_value(fmt.base, scale_bits)
        for start in range(0, x.shape[1], size):
            part = slice(start, start + size)
            codes, scale, exact = expected_block(fmt, [int(b) for b in bits[row, part]], outer)
            assert encoded.scales[row, start // size] == scale
            assert encoded.codes[row, part].tolist() == codes
            got = [oracle.float32_value(int(b)) for b in values[row, part].view(np.uint32)]
            assert got == [oracle.float32(v) for v in exact]


@pytest.mark.parametrize("criterion", ["mse", "mae", "max_abs"])
def test_both_ways_are_taken(criterion: str) -> None:
    x = make("random", choice("if4"))
    second = choice("if4").second_way(encode(x, choice("if4").with_rules(criterion=criterion)).scales)
    assert 0.1 < second.mean() < 0.95
    six = encode(x, block("nvfp4").with_rules(scale_cap=256.0))
    chosen = encode(x, choice("nvfp4_46").with_rules(criterion=criterion))
    assert 0.1 < (chosen.scales != six.scales).mean() < 0.95


def test_equal_errors_take_the_first_way() -> None:
    """The largest magnitude 6 and one 4: both ways hold these exactly; so do FP4 and scaled integers hold 6 and 0."""
    x = np.zeros((1, 32), np.float32)
    x[0, 0] = 6 * 256.0  # second-level scale 1
    x[0, 16:18] = 12.0
    encoded = encode(x, "nvfp4_46")
    assert encoded.tensor_scale == 1 and encoded.scales.tolist() == [[0x78, 0x40]]  # 256 and 2, not 384 and 3
    integers = encode(x, "if4")
    assert (integers.scales < 128).all() and decode(integers).tolist() == decode(encode(x, "nvfp4")).tolist()


def test_four_is_taken_where_five_is_near() -> None:
    """5 of 6 is in the widest gap of FP4: with 4 as largest, it is 10/3 of 4, and 6 itself stays."""
    x = np.zeros((1, 32), np.float32)
    x[0, 0] = 6 * 256.0
    x[0, 16:20] = [12.0, 9.0, -9.0, 9.0]
    encoded = encode(x, "nvfp4_46")
    assert encoded.scales[0, 1] == 0x44  # 3 = 12 / 4: 9 is 3 of 4
    assert decode(encoded)[0, 16:20].tolist() == [12.0, 9.0, -9.0, 9.0]


def test_integers_are_taken_where_steps_are_even() -> None:
    """Multiples of 6/7 of the scale: integers hold them but for one rounding."""
    x = np.zeros((1, 32), np.float32)
    x[0, 0] = 6 * 448.0
    x[0, 16:24] = [6.0, *(np.float32(6 * q / 7) for q in (-6, 5, -4, 3, -2, 1, 0))]
    encoded = encode(x, "if4")
    assert encoded.scales.tolist() == [[0x7E, 0x80 | 0x38]]
    assert encoded.codes[0, 16:24].tolist() == [7, 10, 5, 12, 3, 14, 1, 0]
    assert decode(encoded)[0, 16:24].tolist() == x[0, 16:24].tolist()
    assert choice("if4").second_way(encoded.scales).tolist() == [[False, True]]


@pytest.mark.parametrize("kind", ["random", "heavy", "spread"])
@pytest.mark.parametrize("name", ["nvfp4", "if4"])
@pytest.mark.parametrize("rule", ["mse", "mae", "abs_max", "static_6"])
def test_equals_fouroversix(kind: str, name: str, rule: str) -> None:
    """Every code and every scale, but where the largest errors of FP4 and integers are equal.

    Both round the largest value of a block to 6 steps. That tool's float32 steps then break the tie.
    """
    if (name, rule) == ("if4", "static_6"):
        return
    with np.load(VECTORS) as data:
        x, codes, scales = (data[f"{kind}.{key}"] for key in ("x", f"{name}.{rule}.codes", f"{name}.{rule}.scales"))
    fmt: formats.Format = block("nvfp4_static6")
    if rule != "static_6":
        criterion = {"abs_max": "max_abs"}.get(rule, rule)
        fmt = choice({"nvfp4": "nvfp4_46"}.get(name, name)).with_rules(criterion=criterion)
    encoded = encode(x, fmt)
    other = (encoded.scales != scales) | (encoded.codes != codes).reshape(*scales.shape, 16).any(axis=-1)
    assert other.mean() <= (0.01 if (name, rule) == ("if4", "abs_max") else 0)
    for row, index in np.argwhere(other):
        assert encoded.scales[row, index] ^ scales[row, index] == 128
        ours, theirs = (decode(e) for e in (encoded, encoded.replace_parts(scales=scales, codes=codes)))
        part = slice(16 * index, 16 * index + 16)
        top = np.argmax(np.abs(x[row, part]))
        errors = [np.abs(y[row, part].astype(float) - x[row, part]) for y in (ours, theirs)]
        assert errors[0][top] == errors[1][top] == errors[0].max() == errors[1].max()


def test_static_six_is_nvfp4_and_four_over_six_decodes_as_nvfp4() -> None:
    x = make("random", choice("nvfp4_46"))
    static, plain = encode(x, "nvfp4_static6"), encode(x, "nvfp4")
    assert all(np.array_equal(static.parts[p], plain.parts[p]) for p in plain.parts)
    chosen = encode(x, "nvfp4_46")
    assert np.array_equal(decode(chosen), decode(replace(chosen, format=plain.format)))
    assert ((decode(chosen) - x) ** 2).sum() < ((decode(plain) - x) ** 2).sum()


def test_every_code_under_every_scale_decodes_exactly() -> None:
    """All 16 x 256 codes of IF4 under a few second-level scales, FP4 or 6/7 of the integer by the sign of the scale."""
    fmt, fp4, int4, e4m3 = choice("if4"), element("float4_e2m1fn"), element("int4"), element("float8_e4m3fn")
    codes = np.broadcast_to(np.arange(16, dtype=np.uint8), (256, 16)).copy()
    scales = np.arange(256, dtype=np.uint8)[:, None]
    for outer in (1.0, 0.1, 3e-39, 1.2345e35):
        outer32 = np.float32(outer)
        values = decode(formats.Encoded.of(fmt, codes=codes, scales=scales, tensor_scale=outer32))
        for scale in range(256):
            step = oracle.value(e4m3, scale % 128)
            if step == oracle.NAN:
                assert np.isnan(values[scale]).all()
                continue
            assert isinstance(step, Fraction)
            step *= oracle.float32_value(int(outer32.view(np.uint32)))
            for code in range(16):
                exact = worth(int4, code) * step * 6 / 7 if scale >= 128 else worth(fp4, code) * step
                negative = code >= 8
                assert values[scale, code].view(np.uint32) == oracle.float32_bits(exact, negative)


def test_quotients_that_are_whole_round_as_such() -> None:
    """Values that end halfway between two float32 after the division go to the even one."""
    rng = np.random.default_rng(5)
    fmt = choice("if4").with_rules(other_level=49 / 8, other_factor=(48, 49))
    codes = np.tile(np.arange(16, dtype=np.uint8), (1, 16))
    scales = np.full((1, 16), 0x80, np.uint8) + rng.integers(8, 0x7F, (1, 16), dtype=np.uint8)
    steps = [float(worth(element("float8_e4m3fn"), int(s) - 128)) for s in scales[0]]
    counts = np.array([float(worth(element("int4"), code)) for code in range(16)])
    halfway = 0
    for whole in rng.integers(1 << 17, 1 << 18, 100):
        encoded = formats.Encoded.of(fmt, codes=codes, scales=scales, tensor_scale=np.float32(49 * int(whole)))
        exact = np.outer(steps, counts) * 48 * int(whole)  # 27 bits
        assert np.array_equal(decode(encoded).reshape(16, 16), exact.astype(np.float32))
        rounded = exact.astype(np.float32)
        halfway += int((np.abs(exact - rounded) * 2 == np.spacing(np.abs(rounded))).sum())
    assert halfway > 100


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-60, 60), name=st.sampled_from(CATALOGUE))
def test_powers_of_two_and_signs_change_no_choice(seed: int, shift: int, name: str) -> None:
    x = np.random.default_rng(seed).normal(size=(3, 64)).astype(np.float32)
    first, scaled, mirrored = encode(x, name), encode(np.ldexp(x, shift), name), encode(-x, name)
    assert np.array_equal(first.codes, scaled.codes) and np.array_equal(first.scales, scaled.scales)
    assert np.array_equal(np.ldexp(decode(first), shift), decode(scaled))
    assert np.array_equal(mirrored.scales, first.scales) and np.array_equal(decode(mirrored), -decode(first))
    plain = encode(x, choice(name).base)
    rest, other = ((decode(e).reshape(3, 4, 16) - x.reshape(3, 4, 16)).astype(float) for e in (first, plain))
    assert ((rest**2).sum(axis=-1) <= (other**2).sum(axis=-1) * (1 + 1e-6)).all()


def test_stored_bits_an_element_and_axes() -> None:
    assert [choice(name).bits_per_element(1024) for name in CATALOGUE] == [4.5, 4.5]
    assert encode(np.ones((4, 32), np.float32), "if4").stored_bits == 4 * 32 * 4 + 8 * 8 + 32
    x = np.random.default_rng(0).normal(size=(100, 3, 2)).astype(np.float32)
    encoded = encode(x, "if4", axis=0, pad=True)
    assert encoded.padding == 12 and decode(encoded).shape == x.shape
    assert choice("nvfp4_46").code_points() is not None and choice("if4").code_points() is None


BASE, FOUR_SIX = choice("if4"), choice("nvfp4_46")


@pytest.mark.parametrize(
    "fmt, change, words",
    [
        (BASE, {"criterion": "rmse"}, "criterion must be"),
        (BASE, {"selection": "last"}, "selection must be"),
        (BASE, {"selector": "sign"}, "selector must be"),
        (BASE, {"selector": "none"}, "need selector 'scale_sign'"),
        (BASE, {"other_factor": (6, 0)}, "other_factor"),
        (BASE, {"other_factor": (6.0, 7)}, "other_factor"),
        (BASE, {"other_factor": (6, 65)}, "other_factor"),
        (BASE, {"other_factor": (5, 7), "other_level": 5.0}, "12 bits at most"),
        (FOUR_SIX, {"other_level": -4.0}, "positive"),
        (FOUR_SIX, {"other_level": 0.1}, "12 bits at most"),
        (BASE, {"other": element("int8")}, "one width"),
        (BASE, {"other": element("nf4")}, "elements are"),
        (BASE, {"other": element("int4_full")}, "elements are"),
        (BASE, {"base": block("mxfp4")}, "float scale"),
        (BASE, {"base": block("nvfp4_16x16")}, "tiles"),
        (BASE, {"base": replace(NV, tensor_scale="none", scale_cap=None)}, "second-level"),
        (BASE, {"base": replace(NV, rounding="rtz")}, "must have the rules"),
        (BASE, {"base": block("nvfp4_torchao")}, "must have the rules"),
        (BASE, {"base": replace(NV, zero_block="one")}, "must have the rules"),
        (BASE, {"base": replace(NV, scale=element("ufloat7_e4m3fn"), scale_cap=448.0)}, "sign bit"),
        (BASE, {"other": FP6_OTHER, "base": replace(NV, element=FP6), "other_factor": (61, 61)}, "steps? of"),
    ],
)  # fmt: skip
def test_bad_rules_are_refused(fmt: ChoiceSpec, change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fmt.with_rules(**change)


@pytest.mark.parametrize("name", CATALOGUE)
def test_bad_input_is_refused(name: str) -> None:
    x = np.ones((3, 64), np.float32)
    x[1, 41] = -np.inf
    with pytest.raises(ValueError, match=rf"{name}.*index \[1, 41\].*-inf"):
        encode(x, name)
    with pytest.raises(ValueError, match=rf"{name}: block of 16 does not divide the axis of 24; pad it to 32"):
        encode(np.ones((1, 24), np.float32), name)
    good = encode(np.ones((1, 16), np.float32), name)
    with pytest.raises(ValueError, match=r"codes hold 16, allowed 0 \.\. 15"):
        good.replace_parts(codes=np.full((1, 16), 16, np.uint8))
    with pytest.raises(ValueError, match="tensor_scale missing"):
        formats.Encoded.of(good.format, codes=good.codes, scales=good.scales)
    with pytest.raises(ValueError, match="choice is not kept"):
        choice("nvfp4_46").second_way(good.scales)

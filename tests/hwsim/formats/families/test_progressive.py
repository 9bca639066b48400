"""Progressive INT8 to INT4 (QServe, DGQ): by exact rationals, by PyTorch as published, and every group within INT8."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats
from hwsim.formats import FloatSpec, decode, encode
from hwsim.formats.families.progressive import ProgressiveSpec
from tests.hwsim.formats import oracle


def progressive(name: str) -> ProgressiveSpec:
    fmt = formats.get(name)
    assert isinstance(fmt, ProgressiveSpec)
    return fmt


QSERVE, DGQ = progressive("qserve_w4_g128"), progressive("dgq_w4_g128")
FLOAT16, FLOAT32 = formats.element("float16"), formats.element("float32")
FORMATS = {
    "qserve": QSERVE.with_rules(block_size=16),
    "qserve_zero": QSERVE.with_rules(block_size=48, zeros="zero", scale=FLOAT32),
    "qserve_plain": QSERVE.with_rules(block_size=8, span="plain"),
    "qserve_plain_zero": QSERVE.with_rules(block_size=4, span="plain", zeros="zero"),
    "qserve_safe": QSERVE.with_rules(block_size=16, limit=127, code_clamp="int8_safe", zeros="zero"),
    "qserve_small_scales": QSERVE.with_rules(block_size=16, scale_max=3, ratio=0.75, limit=100),
    "dgq": DGQ.with_rules(block_size=16),
    "dgq_ratio": DGQ.with_rules(block_size=16, ratio=0.03125, scale=FLOAT16),
    "dgq_row": DGQ.with_rules(block_size=None, limit=60, ratio=1.25, scale=FLOAT32),
}
KINDS = ("random", "heavy", "sided", "grid", "mixed", "subnormal", "huge", "zeros", "pinned", "scale_ties")


def make(kind: str, shape: tuple[int, int] = (4, 48)) -> np.ndarray:
    rng = np.random.default_rng([KINDS.index(kind)])
    x = rng.normal(size=shape)
    if kind == "heavy":
        x = x**5
    elif kind == "sided":  # groups far from zero, on either side
        x = np.repeat(rng.choice([-5.0, 5.0], (shape[0], shape[1] // 8)), 8, axis=1) + rng.uniform(-1, 1, shape)
    elif kind == "grid":  # ties at every level, the channel scale being a power of two: amax 119 * 2 or 127 * 2
        x = rng.integers(-238, 239, shape) / 2.0 * 2.0
        x[:, 0] = np.where(np.arange(shape[0]) % 2, 238, -254)
        x[:, 1::5] = rng.integers(-250, 251, x[:, 1::5].shape) / 4.0
    elif kind == "mixed":
        x = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-140, 127, shape))
    elif kind == "subnormal":
        x = np.ldexp(rng.integers(-900, 901, shape).astype(float), -149)
    elif kind == "huge":
        x = rng.choice([3.4028234663852886e38, -3.4028234663852886e38, 1.0, 65504.0 * 119, -65520.0 * 127], shape)
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0], shape)
        x[1, 3], x[2, 17], x[3, 20:] = 1e-30, -2.5, 3.0
    elif kind == "pinned":  # group ranges whose zero point is a tie: 15 a / (a + b) = k + 1/2
        x[:] = rng.uniform(-0.5, 0.5, shape)
        for row in range(shape[0]):
            for start in range(0, shape[1], 4):
                k = int(rng.integers(0, 15))
                x[row, start], x[row, start + 1] = -(2 * k + 1) / 8, (29 - 2 * k) / 8
    elif kind == "scale_ties":  # group ranges of 15 (k + 1/2) under a scale of 1, and of a hair more or less
        x = rng.uniform(-0.1, 0.1, shape)
        for row in range(shape[0]):
            x[row, 0] = 127 * 2.0**row
            for start in range(16, shape[1], 16):
                k, hair = rng.integers(1, 8), [0.0, -1e-30, 1e-30][int(rng.integers(3))]
                x[row, start], x[row, start + 1] = 7.5 * (2 * k + 1) * 2.0**row, hair
                x[row, start + 2 : start + 16] = np.abs(x[row, start + 2 : start + 16])
    return x.astype(np.float32)


def channel_scale(spec: FloatSpec, exact: Fraction) -> tuple[int, Fraction]:
    """Round a positive number half to even into a float format: at least its smallest, at most its largest."""
    man = spec.man_bits
    quantum = oracle.power(max(oracle.floor_log2(exact), 1 - spec.bias) - man)
    steps = oracle.half_even(exact / quantum)
    field = oracle.floor_log2(quantum) + man + spec.bias - 1
    code = max((field << man) + steps, 1)
    code = min(code, (2 * spec.bias + 1 << man) - 1)
    exponent, mantissa = code >> man, code & ((1 << man) - 1)
    whole = mantissa + (1 << man if exponent else 0)
    return code, whole * oracle.power(max(exponent, 1) - spec.bias - man)


def clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def group(fmt: ProgressiveSpec, values: list[Fraction], outer: Fraction) -> tuple[int, int, list[int]]:
    """Return (scale, zero, codes) of a group."""
    points = values
    if fmt.second_level == "int8":
        points = [Fraction(clamp(oracle.half_even(v / outer), -fmt.limit, fmt.limit)) for v in values]
    low, high = min(points), max(points)
    if fmt.span == "include_zero":
        low, high = min(low, Fraction(0)), max(high, Fraction(0))
    unit = Fraction(1) if fmt.second_level == "int8" else outer
    scale = clamp(oracle.half_even((high - low) / 15 / unit), 1, fmt.scale_max)
    if fmt.second_level == "int8":
        zero = oracle.half_even(-low / scale)
    else:
        zero = oracle.half_even(-low / ((high - low) / 15)) if high > low else 0
    zero = clamp(zero, 0, 15) if fmt.span == "include_zero" else clamp(zero, -128, 127)
    least, most = 0, 15
    if fmt.code_clamp == "int8_safe":
        least, most = max(0, zero - 127 // scale), min(15, zero + 127 // scale)
    return scale, zero, [clamp(oracle.half_even(p / (scale * unit)) + zero, least, most) for p in points]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_encode_and_decode_equal_exact_rationals(name: str, kind: str) -> None:
    fmt, x = FORMATS[name], make(kind)
    encoded, block = encode(x, fmt), fmt.block_size or x.shape[1]
    values, integers = decode(encoded), fmt.integers(encoded.parts)
    for row in range(len(x)):
        exact = [Fraction(float(v)) for v in x[row]]
        amax = max(map(abs, exact))
        code, outer = fmt.scale.bias << fmt.scale.man_bits, Fraction(1)
        if amax:
            code, outer = channel_scale(fmt.scale, amax * Fraction(fmt.ratio) / fmt.limit)
        assert encoded.parts["row_scales"][row] == code
        for index in range(x.shape[1] // block):
            part = slice(index * block, (index + 1) * block)
            scale, zero, codes = group(fmt, exact[part], outer)
            stored = -zero * scale if fmt.zeros == "neg_product" else zero
            assert encoded.scales[row, index] == scale
            assert encoded.parts["zeros"][row, index] == stored % 256
            assert encoded.codes[row, part].tolist() == codes
            eights = [(q - zero) * scale for q in codes]
            assert min(eights) >= -128 and max(eights) <= 127
            assert integers[row, part].tolist() == eights
            bits = {q: oracle.float32_bits(q * outer) for q in set(eights)}
            assert values[row, part].view(np.uint32).tolist() == [bits[q] for q in eights]


@pytest.mark.parametrize("span", ["include_zero", "plain"])
def test_no_group_within_the_protective_range_leaves_int8(span: str) -> None:
    """Every range of INT8 values: rounding is monotone, so the ends of a group bound all its values."""
    fmt = QSERVE.with_rules(block_size=2, span=span)
    ends = np.array([(a, b) for a in range(-119, 120) for b in range(a, 120)], np.float32)
    x = np.concatenate([ends.reshape(-1), [119.0, -119.0]])[None].astype(np.float32)
    encoded = encode(x, fmt)
    assert encoded.parts["row_scales"][0] == 0x3C00  # 1.0
    integers = fmt.integers(encoded.parts).astype(int)
    assert (integers.min(), integers.max()) == (-121, 121)
    scales, stored = encoded.scales.astype(int), encoded.parts["zeros"].view(np.int8).astype(int)
    # what the kernel relies on: 15 * s fits 8 bits, and so do codes times s; -z * s is a multiple that fits INT8
    assert scales.min() == 1 and scales.max() == 16 and (encoded.codes.reshape(-1, 2) * scales.T).max() <= 255
    assert not (stored % scales).any()
    # a scale that was rounded down clips: -113 .. 119 has s = 15 and z = 8, so 119 takes code 15, not 16
    assert np.abs(integers.reshape(-1, 2)[:-1] - ends).max() == 14


def test_the_example_of_the_paper_overflows_without_protection() -> None:
    """QServe section 4.1: a group of -113 .. 120 has s = 16, z = 7, and 120 becomes (15 - 7) * 16 = 128."""
    scale = round((120 + 113) / 15)
    zero = round(113 / scale)
    assert (scale, zero, (min(round(120 / scale) + zero, 15) - zero) * scale) == (16, 7, 128)
    with pytest.raises(ValueError, match="limit of 119 at most"):
        QSERVE.with_rules(limit=120)
    safe = QSERVE.with_rules(limit=120, code_clamp="int8_safe", zeros="zero", block_size=2)
    encoded = encode(np.array([[-113.0, 120.0]], np.float32), safe)
    assert encoded.codes.tolist() == [[0, 14]]
    assert safe.integers(encoded.parts).tolist() == [[-112, 112]]


def test_codes_equal_the_published_steps_in_torch() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(4).normal(size=(32, 512)).astype(np.float32)
    w = torch.from_numpy(x)
    # QServe: by the stored FP16 scale, INT8, then groups
    scale = (w.abs().amax(1, keepdim=True).double() / 119).half()
    eights = torch.clamp(torch.round(w.double() / scale.double()), -119, 119).reshape(-1, 128)
    low, high = eights.amin(1, keepdim=True).clamp(max=0), eights.amax(1, keepdim=True).clamp(min=0)
    inner = torch.round((high - low) / 15).clamp(min=1)
    zero = torch.round(-low / inner)
    codes = torch.clamp(torch.round(eights / inner) + zero, 0, 15)
    encoded = encode(x, QSERVE)
    assert np.array_equal(encoded.codes, codes.reshape(x.shape).numpy())
    assert np.array_equal(encoded.scales, inner.reshape(32, 4).numpy())
    assert np.array_equal(encoded.parts["zeros"].view(np.int8), (-zero * inner).reshape(32, 4).numpy())
    wanted = ((codes - zero) * inner).reshape(x.shape) * scale.double()
    assert np.array_equal(decode(encoded), wanted.float().numpy())
    # DGQ: from real values; ties are met nowhere in these numbers, so float64 serves
    v = w.double().reshape(-1, 128)
    outer = (w.abs().amax(1, keepdim=True).double() / 127).bfloat16().double().repeat_interleave(4, 0)
    low, high = v.amin(1, keepdim=True), v.amax(1, keepdim=True)
    real = (high - low) / 15
    zero, inner = torch.round(-low / real), torch.round(real / outer).clamp(min=1)
    reach = torch.floor(127 / inner)
    codes = torch.round(v / (inner * outer)) + zero
    codes = torch.minimum(torch.maximum(codes, (zero - reach).clamp(min=0)), (zero + reach).clamp(max=15))
    encoded = encode(x, DGQ)
    assert np.array_equal(encoded.codes, codes.reshape(x.shape).numpy())
    assert np.array_equal(encoded.scales, inner.reshape(32, 4).numpy())
    assert np.array_equal(encoded.parts["zeros"], zero.reshape(32, 4).numpy())


@pytest.mark.parametrize("name", ["qserve", "dgq", "qserve_plain"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-6, 8))
def test_powers_of_two_and_a_second_encoding(name: str, seed: int, shift: int) -> None:
    fmt = FORMATS[name]
    x = np.random.default_rng(seed).normal(size=(3, 48)).astype(np.float32)  # no subnormal scales
    first, scaled = encode(x, fmt), encode(np.ldexp(x, shift), fmt)
    for part in ("codes", "scales", "zeros"):
        assert np.array_equal(first.parts[part], scaled.parts[part])
    assert np.array_equal(np.ldexp(decode(first), shift), decode(scaled))
    # codes are monotone within a group
    for row, group_codes in enumerate(first.codes.reshape(-1, fmt.block_size)):
        order = np.argsort(x.reshape(-1, fmt.block_size)[row], kind="stable")
        assert (np.diff(group_codes[order].astype(int)) >= 0).all()


def test_storage_padding_and_axes() -> None:
    assert QSERVE.bits_per_element(4096) == 4 + (8 + 8) / 128 + 16 / 4096
    assert DGQ.bits_per_element(4096) == 4 + (8 + 4) / 128 + 16 / 4096
    x = np.random.default_rng(0).normal(size=(130, 3, 2)).astype(np.float32)
    encoded = encode(x, "qserve_w4_g128", axis=0, pad=True)
    assert encoded.padding == 126 and decode(encoded).shape == x.shape
    assert encoded.scales.shape == (3, 2, 2) and encoded.parts["row_scales"].shape == (3, 2)
    assert QSERVE.integers(encoded.parts).shape == (3, 2, 256)
    one = encoded.format.integers(encode(x[:128, 0, 0], "qserve_w4_g128").parts)
    assert one.shape == (128,)


@pytest.mark.parametrize(
    ("name", "part", "index", "value", "words"),
    [
        ("qserve", "scales", (1, 0), 0, r"row 1 holds a group scale out of range, allowed 1 \.\. 17"),
        ("qserve", "scales", (1, 0), 18, r"a group scale out of range, allowed 1 \.\. 17"),
        ("qserve", "zeros", (2, 1), 1, r"row 2 holds a zero .* -z \* scale with z within 0 \.\. 15"),
        ("qserve", "zeros", (2, 1), 0x10, "row 2 holds a zero"),
        ("dgq", "codes", (0, 3), 15, r"row 0 holds a code whose INT8 value .* not within -128 \.\. 127"),
        ("qserve", "row_scales", (3,), 0, "row 3 holds a channel scale that is not positive and finite"),
        ("qserve", "row_scales", (3,), 0x7C00, "row 3 holds a channel scale"),
        ("qserve", "row_scales", (3,), 0x8400, "row 3 holds a channel scale"),
        ("qserve_plain_zero", "zeros", (0, 0), 0x80, "row 0 holds a code whose INT8 value"),
    ],
)
def test_corrupt_parts_raise(name: str, part: str, index: tuple[int, ...], value: int, words: str) -> None:
    fmt = FORMATS[name]
    x = np.tile(np.array([[-119.0, 119.0] * 24], np.float32), (4, 1)) if name != "dgq" else make("random")
    if name == "dgq":
        x[0] = np.where(np.arange(48) == 0, -1.0, 0.9999)  # z = 8, s = 17: code 15 is within INT8, z = 7 would not be
    encoded = encode(x, fmt)
    broken = encoded.parts[part].copy()
    broken[index] = value
    parts = {part: broken}
    if name == "dgq":
        parts["zeros"] = np.full_like(encoded.parts["zeros"], 7)
        parts["scales"] = np.full_like(encoded.scales, 16)
    bad = encoded.replace_parts(**parts)
    with pytest.raises(ValueError, match=words):
        decode(bad)
    if part != "row_scales":
        with pytest.raises(ValueError, match=words):
            fmt.integers(bad.parts)


@pytest.mark.parametrize("points", [4, pytest.param(36, marks=pytest.mark.slow)])
def test_every_combination_of_scale_zero_and_code_is_judged_alone(points: int) -> None:
    """All parts that can be stored: decoding raises exactly where the text says."""
    for name in ("qserve", "qserve_zero", "qserve_plain_zero"):
        fmt = FORMATS[name].with_rules(block_size=1, zero_channel="one")
        good = encode(np.ones((1, 1), np.float32), fmt)
        width = 256 if fmt.zeros == "neg_product" or fmt.span == "plain" else 16
        for stored in range(0, width, max(1, width // points)):
            for scale in (0, 1, 2, 3, 8, 16, 17, 18, 255):
                signed = stored - 256 if stored >= 128 else stored
                zero = None
                if 1 <= scale <= 17:
                    zero = signed if fmt.zeros == "zero" else (-signed // scale if signed % scale == 0 else None)
                if zero is not None and fmt.span == "include_zero" and not 0 <= zero <= 15:
                    zero = None
                for code in (0, 7, 15):
                    parts = good.replace_parts(
                        codes=np.full((1, 1), code, np.uint8),
                        scales=np.full((1, 1), scale, np.uint8),
                        zeros=np.full((1, 1), stored, np.uint8),
                    ).parts
                    if zero is not None and -128 <= (code - zero) * scale <= 127:
                        assert fmt.integers(parts)[0, 0] == (code - zero) * scale
                    else:
                        with pytest.raises(ValueError, match="row 0 holds"):
                            fmt.integers(parts)


@pytest.mark.parametrize(
    ("base", "change", "words"),
    [
        (QSERVE, {"block_size": 0}, "block_size"),
        (QSERVE, {"scale": formats.element("float8_e8m0fnu")}, "subnormals"),
        (QSERVE, {"limit": 0}, "limit must be"),
        (QSERVE, {"limit": 128}, "limit must be"),
        (QSERVE, {"scale_max": 0}, "scale_max"),
        (QSERVE, {"scale_max": 128}, "scale_max"),
        (QSERVE, {"ratio": 0.0}, "ratio"),
        (QSERVE, {"ratio": 0.1}, "24 significant bits"),
        (QSERVE, {"ratio": float("nan")}, "ratio"),
        (QSERVE, {"second_level": "float"}, "second_level must be"),
        (QSERVE, {"span": "full"}, "span must be"),
        (QSERVE, {"code_clamp": "none"}, "code_clamp must be"),
        (QSERVE, {"zeros": "none"}, "zeros must be"),
        (QSERVE, {"zero_channel": "zero"}, "zero_channel must be"),
        (QSERVE, {"second_level": "values"}, "take 'int8_safe'"),
        (QSERVE, {"limit": 127, "code_clamp": "int8_safe"}, "-z [*] s may not fit"),
        (DGQ, {"span": "plain"}, "needs span 'include_zero'"),
        (DGQ, {"zeros": "neg_product"}, "-z [*] s may not fit"),
    ],
)
def test_bad_rules_are_refused(base: ProgressiveSpec, change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        base.with_rules(**change)


def test_bad_input_is_refused() -> None:
    x = np.ones((3, 256), np.float32)
    x[1, 200] = np.nan
    with pytest.raises(ValueError, match=r"index \[1, 200\].*nan"):
        encode(x, QSERVE)
    with pytest.raises(ValueError, match="does not divide the axis of 130; pad it to 256"):
        encode(np.ones((1, 130), np.float32), QSERVE)
    with pytest.raises(ValueError, match="the axis of the blocks is empty"):
        QSERVE.layout((3, 0))
    with pytest.raises(ValueError, match="codes hold 16"):
        encode(np.ones((1, 128), np.float32), QSERVE).replace_parts(codes=np.full((1, 128), 16, np.uint8))

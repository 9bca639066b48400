"""Ternary and binary formats against exact rationals, PyTorch and their own packings."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import Encoded, decode, encode, get, trits
from hwsim.formats.catalog import ternary as catalogue
from hwsim.formats.families import ternary
from hwsim.formats.families.ternary import TernarySpec

FLOATS = {"float16": (10, 15), "float32": (23, 127)}


@pytest.mark.parametrize(("name", "block"), [("b158_i2_s_avx", 128), ("b158_i2_s_neon", 64)])
def test_padding_fills_the_blocks_of_the_packing(name: str, block: int) -> None:
    x = np.random.default_rng(2).normal(size=(2, 50)).astype(np.float32)
    encoded = encode(x, name, pad=True)
    assert encoded.padding == block - 50
    assert decode(encoded).shape == (2, 50)


def float_bits(value: Fraction, kind: str) -> int:
    """Round a non-negative rational half to even to the bits of a float, saturating."""
    man, bias = FLOATS[kind]
    if value == 0:
        return 0
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > value
    exponent = max(exponent, 1 - bias)
    steps = value / Fraction(2) ** (exponent - man)
    whole, rest = divmod(steps.numerator, steps.denominator)
    whole += 2 * rest > steps.denominator or (2 * rest == steps.denominator and whole % 2 == 1)
    code = (exponent + bias - 1 << man) + whole
    return min(code, (2 * bias + 1 << man) - 1)


def float_value(bits: int, kind: str) -> Fraction:
    """Return what the magnitude bits of a finite float are worth."""
    man, bias = FLOATS[kind]
    field, mantissa = bits >> man, bits & (1 << man) - 1
    return (mantissa + (field > 0) * (1 << man)) * Fraction(2) ** (max(field, 1) - bias - man)


def exact(x: np.ndarray) -> list[Fraction]:
    """Return float32 values as rationals."""
    return [Fraction(float(v)) for v in x.ravel()]


def inputs(kind: str, shape: tuple[int, int] = (4, 96)) -> np.ndarray:
    """Return float32 [rows, k] of a kind that is hard to encode."""
    rng = np.random.default_rng([11, len(kind), ord(kind[0])])
    if kind == "random":
        x = rng.normal(size=shape)
    elif kind == "mixed":  # every exponent in one row
        x = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-140, 127, shape))
    elif kind == "subnormal":
        x = np.ldexp(rng.integers(-3, 4, shape).astype(float), -149)
    elif kind == "huge":
        x = rng.choice([3.4028235e38, -3.4028235e38, 3e38, 1.0, -70000.0], shape)
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0], shape)
        x[1, 3] = -1e-9
    elif kind == "ties":  # mean magnitude 1, many quotients of exactly 1/2, and their neighbours
        x = np.tile([0.5, -1.5, -0.5, 1.5, np.nextafter(np.float32(0.5), 1), -1.5 + 2**-24], (shape[0], shape[1] // 6))
    else:  # "spread": one large value far above many small ones, so that few share an integer
        x = np.ldexp(rng.uniform(-1, 1, shape), -60)
        x[:, 5] = 1.0
    return x.astype(np.float32)


KINDS = ("random", "mixed", "subnormal", "huge", "zeros", "ties", "spread")
SPECS = (
    catalogue.B158,
    catalogue.B158.with_rules(quotient="fp32_inverse"),
    catalogue.B158.with_rules(scope="row", scale_floor=0.0),
    catalogue.B158.with_rules(scope="group", block_size=48, scale_format="float16"),
    catalogue.B158.with_rules(scope="group", block_size=32, scale_format="float16", scale_floor=0.0),
    catalogue.B158_MEDIAN,
    catalogue.TWN,
    catalogue.TWN_G128.with_rules(block_size=32),
    catalogue.TWN.with_rules(scope="row", threshold=(3, 4)),
    catalogue.BINARY_ROW,
    catalogue.BINARY_ROW.with_rules(sign_of_zero="minus", scope="tensor"),
    catalogue.BINARY_G128.with_rules(block_size=24),
)


def oracle(spec: TernarySpec, x: np.ndarray) -> tuple[int, list[int]]:
    """Return (scale bits, codes) of what shares a scale, in exact rationals."""
    values = exact(x)
    sizes = sorted(map(abs, values))
    delta, part = Fraction(0), sizes
    if spec.rule == "twn":
        delta = float_value(float_bits(Fraction(*spec.threshold) * sum(sizes) / len(sizes), "float32"), "float32")
        part = [size for size in sizes if size > delta]
    scale = sum(part) / max(len(part), 1) if spec.statistic == "absmean" else sizes[(len(sizes) - 1) // 2]
    kind = spec.scale_format
    bits = max(float_bits(Fraction(scale), kind), float_bits(Fraction(spec.scale_floor), kind))
    step = float_value(bits, kind)
    if spec.rule == "sign":
        return bits, [int(v > 0 or (v == 0 and spec.sign_of_zero == "plus")) for v in values]
    if spec.rule == "twn":
        return bits, [1 + (v > delta) - (v < -delta) for v in values]
    if step == 0:
        return bits, [1] * len(values)
    quotients = [v / step for v in values]
    if spec.quotient == "fp32_inverse":
        inverse = float_value(float_bits(1 / step, "float32"), "float32")
        quotients = [
            float_value(float_bits(abs(v * inverse), "float32"), "float32") * (1 if v > 0 else -1) for v in values
        ]
    half = Fraction(1, 2)  # rounds to 0, which is even
    return bits, [1 + (q > half) - (q < -half) for q in quotients]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_oracle(spec, kind):
    x = inputs(kind)
    encoded = encode(x, spec)
    out = decode(encoded)
    rows, block = (1, x.size) if spec.scope == "tensor" else (len(x), spec.block_size or x.shape[1])
    codes = encoded.codes.reshape(rows, -1, block)
    whole = np.array([[encoded.parts.get("tensor_scale", 0)]], np.float32).view(np.uint32)
    scales = whole if spec.scope == "tensor" else encoded.scales
    for row, index in np.ndindex(codes.shape[:2]):
        piece = x.reshape(rows, -1, block)[row, index]
        bits, wanted = oracle(spec, piece)
        assert scales[row, index] == bits
        assert codes[row, index].tolist() == wanted
        step = float_value(bits, spec.scale_format)
        levels = [-step, 0, step] if spec.levels == "ternary" else [-step, step]
        assert exact(out.reshape(rows, -1, block)[row, index]) == [levels[c] for c in wanted]
        assert not np.signbit(out.reshape(rows, -1, block)[row, index][np.array(wanted) == 1]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_mean_of_long_runs(kind):
    # several runs of the kernel and several pieces, in any order
    x = inputs(kind, (24, 510)).ravel()
    total = sum(map(abs, exact(x)))
    mean, count = ternary.mean_magnitude(x.view(np.uint32))
    assert count == x.size and int(mean.view(np.uint32)) == float_bits(total / x.size, "float32")
    turned = np.random.default_rng(1).permutation(x)
    assert ternary.mean_magnitude(turned.view(np.uint32))[0] == mean
    above = int(np.float32(abs(x[7])).view(np.uint32))
    part = [v for v in map(abs, exact(x)) if v > abs(Fraction(float(x[7])))]
    mean, count = ternary.mean_magnitude(x.view(np.uint32), above, (7, 10))
    wanted = Fraction(7, 10) * sum(part) / max(len(part), 1)
    assert count == len(part) and int(mean.view(np.uint32)) == float_bits(wanted, "float32")


def test_pieces_change_no_sum(monkeypatch):
    x = inputs("mixed", (64, 1024))
    wanted = encode(x, "b158").tensor_scale, encode(x, "twn").tensor_scale
    monkeypatch.setattr(ternary, "_PIECES", 3)
    assert (encode(x, "b158").tensor_scale, encode(x, "twn").tensor_scale) == wanted


def test_mean_ties_and_sticky_bits():
    # two neighbours whose mean is a tie; a third of the least magnitude decides it
    low = np.float32(1)
    high = np.nextafter(low, np.float32(2))
    for values in ([low, high], [high, np.nextafter(high, np.float32(2))], [low, high, low, high + 2**-23]):
        x = np.array(values, np.float32)
        wanted = float_bits(sum(exact(x)) / x.size, "float32")
        assert int(ternary.mean_magnitude(x.view(np.uint32))[0].view(np.uint32)) == wanted
    x = np.array([1.0, 1.0, 2 + 2**-22, 2**-149], np.float32)  # sum / 4 is a tie but for its last bit
    wanted = float_bits(sum(exact(x)) / x.size, "float32")
    assert int(ternary.mean_magnitude(x.view(np.uint32))[0].view(np.uint32)) == wanted
    assert wanted != float_bits((sum(exact(x)) - Fraction(2) ** -149) / 4, "float32")
    x = np.array([1 + 2**-23] * 3 + [2.0, 1.0, 2**-60], np.float32)  # here the remainder of the division decides
    wanted = float_bits(sum(exact(x)) / x.size, "float32")
    assert int(ternary.mean_magnitude(x.view(np.uint32))[0].view(np.uint32)) == wanted
    assert wanted != float_bits((sum(exact(x)) - Fraction(2) ** -60) / 6, "float32")


def test_quotients_about_a_half():
    # the median is the scale, so that values can be put about its half
    spec, other = catalogue.B158_MEDIAN, catalogue.B158_MEDIAN.with_rules(quotient="fp32_inverse")
    differ = 0
    for scale in np.random.default_rng(9).uniform(1, 2, 20).astype(np.float32):
        half = scale / 2
        for value in (half, np.nextafter(half, np.float32(0)), np.nextafter(half, np.float32(2))):
            x = np.array([[scale, -value, scale]], np.float32)
            codes = [encode(x, rule).codes[0].tolist() for rule in (spec, other)]
            assert codes == [oracle(rule, x)[1] for rule in (spec, other)]
            differ += codes[0] != codes[1]
    assert differ > 0


@pytest.mark.parametrize("size", [1, 2, 3, 4, 97, 98, 70001])
@pytest.mark.parametrize("kind", ["random", "mixed", "subnormal", "equal"])
def test_lower_median(size, kind):
    rng = np.random.default_rng(size)
    x = rng.normal(size=size) if kind == "random" else np.ldexp(rng.uniform(-1, 1, size), rng.integers(-149, 127, size))
    x = rng.choice([1.5, -1.5, 2.0], size) if kind == "equal" else x
    x = (np.ldexp(rng.integers(-3, 4, size), -149) if kind == "subnormal" else x).astype(np.float32)
    assert ternary.lower_median(x.view(np.uint32)) == np.sort(np.abs(x))[(size - 1) // 2]


def test_torch_b158():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(3).normal(size=(64, 96)).astype(np.float32) * np.float32(0.02)
    weight = torch.from_numpy(x)
    for name, scale in (("b158", weight.abs().mean()), ("b158_median", weight.abs().median())):
        spec = get(name).with_rules(quotient="fp32_inverse")
        encoded = encode(x, spec)
        ours = encoded.tensor_scale
        # PyTorch sums in float32; its median is an element
        assert ours == scale.item() if name == "b158_median" else abs(ours - scale.item()) <= 4 * np.spacing(ours)
        # upstream's codes: a product with the float32 inverse
        theirs = (weight * (1.0 / torch.tensor(ours).clamp_(min=1e-5))).round().clamp(-1, 1)
        assert (encoded.codes == theirs.numpy() + 1).all()
    assert encode(np.zeros_like(x), "b158").tensor_scale == torch.zeros(1).clamp_(min=1e-5).item()
    assert encode(x[:1, :4], "b158_median").tensor_scale == weight[:1, :4].abs().median().item()


def test_torch_rules_differ_by_rounding_only():
    x = np.random.default_rng(4).normal(size=(256, 256)).astype(np.float32)
    x[0, :3] = encode(x, "b158").tensor_scale / 2
    a, b = encode(x, "b158"), encode(x, get("b158").with_rules(quotient="fp32_inverse"))
    differ = np.abs(x[a.codes != b.codes] / a.tensor_scale)
    assert a.tensor_scale == b.tensor_scale and (np.abs(differ - 0.5) < 1e-6).all()


def test_torch_binary_row():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(5).normal(size=(16, 96)).astype(np.float32)
    weight = torch.from_numpy(x)
    theirs = torch.where(weight >= 0, 1.0, -1.0) * weight.double().abs().mean(-1, keepdim=True).float()
    assert (decode(encode(x, "binary_row")) == theirs.numpy()).all()


@pytest.mark.parametrize("spec", catalogue.B158_PACKED, ids=lambda spec: spec.name)
def test_packed(spec):
    x = np.random.default_rng(6).normal(size=(21, 256)).astype(np.float32)
    plain, packed = encode(x, "b158"), encode(x, spec)
    assert (packed.parts["packed"] == trits.pack_trits(plain.codes, spec.packing)).all()
    assert (decode(packed) == decode(plain)).all() and packed.tensor_scale == plain.tensor_scale
    assert spec.bits_per_element(1280) == (1.6 if spec.packing == "five_in_eight" else 2)
    rows = spec.with_rules(scope="row")
    assert (decode(encode(x, rows)) == decode(encode(x, catalogue.B158.with_rules(scope="row")))).all()
    wrong = packed.parts["packed"].copy()
    wrong[2, 1] = min(set(range(1, 256)) - set(trits._FIVE_BYTES.tolist())) if "five" in spec.packing else 255
    with pytest.raises(ValueError, match="corrupt trits"):
        decode(packed.replace_parts(packed=wrong))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-60, 60))
def test_properties(seed, power):
    x = np.random.default_rng(seed).normal(size=(3, 128)).astype(np.float32)
    for name in ("twn", "twn_g128", "binary_row", "binary_g128"):
        once = decode(encode(x, name))
        assert (decode(encode(once, name)) == once).all()
    plain = get("b158").with_rules(scale_floor=0.0)
    encoded = encode(x, plain)
    assert (encode(decode(encoded), plain).codes == encoded.codes).all()
    scaled = encode(np.ldexp(x, power), plain)
    assert (scaled.codes == encoded.codes).all() and scaled.tensor_scale == np.ldexp(encoded.tensor_scale, power)
    ascending = np.sort(x, axis=None)[None]
    assert (np.diff(decode(encode(ascending, "twn"))) >= 0).all()


def test_axes_and_floor():
    x = np.random.default_rng(7).normal(size=(2, 256, 3)).astype(np.float32)
    out = decode(encode(x, "twn_g128", axis=1))
    flat = x.swapaxes(1, 2).reshape(6, 256)
    assert (out.swapaxes(1, 2).reshape(6, 256) == decode(encode(flat, "twn_g128"))).all()
    tiny = np.full((1, 8), 1e-6, np.float32)
    assert encode(tiny, "b158").tensor_scale == np.float32(1e-5) and (decode(encode(tiny, "b158")) == 0).all()
    padded = encode(x[0, :200, 0], "twn_g128", pad=True)
    assert padded.padding == 56 and decode(padded).shape == (200,)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"levels": "quaternary"}, "levels is 'quaternary', allowed: ternary, binary"),
        ({"scope": "group"}, "scope 'group' and block_size go together"),
        ({"block_size": 4}, "scope 'group' and block_size go together"),
        ({"scope": "group", "block_size": 0}, "at least 1, not 0"),
        ({"levels": "binary"}, "levels 'binary' and rule 'sign' go together"),
        ({"statistic": "absmedian", "scope": "row"}, "median is that of a whole tensor"),
        ({"statistic": "absmedian", "rule": "twn"}, "'twn' is about means"),
        ({"scale_format": "float16"}, "scale of a tensor is float32"),
        ({"threshold": (7, 100)}, "threshold 7/100"),
        ({"scale_floor": -1.0}, "scale_floor must be"),
        ({"rule": "twn", "quotient": "fp32_inverse"}, "'fp32_inverse' is for rule 'round'"),
        ({"levels": "binary", "rule": "sign", "packing": "two_bit"}, "packings are of trits"),
    ],
)
def test_objections(rules, words):
    with pytest.raises(ValueError, match=words):
        TernarySpec(name="wrong", source="", **rules)


def test_bad_input():
    x = np.ones((2, 96), np.float32)
    with pytest.raises(ValueError, match="block of 128 does not divide the axis of 96; pad it to 128"):
        encode(x, "twn_g128")
    with pytest.raises(ValueError, match="blocks of 128 trits"):
        encode(x, "b158_i2_s_avx")
    x[1, 5] = np.nan
    with pytest.raises(ValueError, match=r"index \[1, 5\]"):
        encode(x, "b158")
    good = encode(np.ones((2, 4), np.float32), "b158")
    codes = good.codes.copy()
    codes[1, 2] = 3
    with pytest.raises(ValueError, match="row 1 holds a code that is no trit"):
        decode(good.replace_parts(codes=codes))
    with pytest.raises(ValueError, match="tensor_scale missing"):
        Encoded(good.format, {"codes": good.codes})

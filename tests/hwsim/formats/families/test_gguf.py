"""GGUF blocks: against gguf-py, ggml's C code (recorded digests), and the rules written out in scalar float32."""

from __future__ import annotations

import hashlib
import warnings
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats
from hwsim.formats import decode, encode
from hwsim.formats.bundle import Bundle, Layer, read_bundle, write_bundle
from hwsim.formats.families.gguf import TYPES, GgufSpec, half_scales, logarithms_that_round_up

F = np.float32
ONE = F(1)


def gguf(block_type: str) -> GgufSpec:
    spec = formats.get(f"gguf_{block_type}")
    assert isinstance(spec, GgufSpec)
    return spec


def blocks_of(spec: GgufSpec, x: np.ndarray) -> np.ndarray:
    return encode(x, spec).parts["blocks"]


# ---- the rules in scalar float32, block by block: bytes of one block


def half(value: Any) -> bytes:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.float16(value).astype("<f2").tobytes()


def halves(codes: list[int]) -> bytes:
    n = len(codes) // 2
    return bytes(codes[i] | codes[i + n] << 4 for i in range(n))


def inverse(step: np.float32) -> np.float32:
    with np.errstate(over="ignore"):
        value = ONE / step if step != 0 else F(0)
    return value if np.isfinite(value) else F(0)


def first_largest(run: np.ndarray) -> np.float32:
    best = F(0)
    for value in run:
        if abs(value) > abs(best):
            best = value
    return best


def away(value: np.float32) -> int:
    exact = Fraction(float(value))
    whole = int(abs(exact) + Fraction(1, 2))
    return whole if exact >= 0 else -whole


def nearest_int(value: np.float32) -> int:
    return (int((value + F(12582912)).view(np.uint32)) & 0x7FFFFF) - 0x400000


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def affine(run: np.ndarray, bits: int, ranged: bool) -> bytes:
    half_code, top = 1 << (bits - 1), (1 << bits) - 1
    if ranged:
        low, high = run[0], run[0]
        for value in run[1:]:
            low, high = (value if value < low else low), (value if value > high else high)
        with np.errstate(over="ignore"):
            step = (high - low) / F(top)
        head, offset = half(step) + half(low), F(0.5)
    else:
        low, step = F(0), first_largest(run) / F(-half_code)
        head, offset = half(step), F(half_code + 0.5)
    scale = inverse(step)
    codes = [min(top, int((v - low) * scale + offset)) if scale else int(offset) for v in run]
    high_bits = sum(c >> 4 << i for i, c in enumerate(codes)).to_bytes(4, "little") if bits == 5 else b""
    return head + high_bits + halves([c & 15 for c in codes])


def ternary(run: np.ndarray, packed_by: int) -> bytes:
    step = max(abs(run))
    trits = [away(v * inverse(step)) + 1 for v in run]
    if packed_by == 4:
        body = bytes(
            sum(trits[128 * h + 32 * n + m] << 2 * n for n in range(4)) for h in range(2) for m in range(32)
        )  # fmt: skip
        return body + half(step)
    body = b""
    for first, bytes_, count in ((0, 32, 5), (160, 16, 5), (240, 4, 4)):
        for m in range(bytes_):
            number = 0
            for n in range(5):
                number = 3 * number + (trits[first + n * bytes_ + m] if n < count else 0)
            body += bytes([-(-256 * number // 243)])
    return body + half(step)


LEVELS = (0, 1, 2, 3, 4, 6, 8, 12)  # E2M1, doubled


def fp4_code(value: np.float32, d: np.float32, even: bool) -> int:
    """Search all 16 codes in float32, or take the exactly nearest with ties to even codes."""
    if even:
        exact = abs(Fraction(float(value)))
        errors = [abs(level * Fraction(float(d)) - exact) for level in LEVELS]
        least = min(i for i, e in enumerate(errors) if e == min(errors))
        code = least + 1 if least % 2 and least < 7 and errors[least + 1] == errors[least] else least
        return code | (8 if value < 0 and code > 0 else 0)
    best, code = None, 0
    for i in range(16):
        level = F(-LEVELS[i & 7] if i & 8 else LEVELS[i])
        with np.errstate(over="ignore"):
            error = abs(level * d - value)
        if best is None or error < best:
            best, code = error, i
    return code


def floor_log2(value: np.float32, by: str) -> int:
    exact = Fraction(float(value))
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    exponent -= exact < Fraction(2) ** exponent
    if by == "log2f" and rounds_up(exact, exponent + 1):
        return exponent + 1
    return exponent


def rounds_up(value: Fraction, exponent: int) -> bool:
    """Return whether the float32 nearest to log2 of a value just below 2**exponent is that exponent."""
    if exponent == 0:
        return False  # floats are dense near 0
    with localcontext() as context:
        context.prec = 60
        logarithm = (Decimal(value.numerator) / Decimal(value.denominator)).ln() / Decimal(2).ln()
        below = float(np.nextafter(F(exponent), F(-np.inf)))
        return logarithm > (Decimal(below) + exponent) / 2


def ue4m3(value: np.float32, exact: bool) -> int:
    """Return the scale code: exactly nearest, halves to even; or halves up, subnormals below code 8, 448 from 248."""
    wanted = Fraction(float(value))
    codes = [
        (c, Fraction(c) / 512 if c < 8 else Fraction(8 + c % 8) * Fraction(2) ** (c // 8 - 10)) for c in range(127)
    ]
    if exact:
        return min(codes, key=lambda item: (abs(item[1] - wanted), item[0] & 1))[0]
    if wanted >= 248:
        return 126
    code = max(c for c, v in codes if v <= wanted)
    if code + 1 < 127 and wanted - codes[code][1] >= (codes[code + 1][1] - codes[code][1]) / 2:
        code += 1
    return 7 if code == 8 and wanted < Fraction(1, 64) else code


def fp4(run: np.ndarray, spec: GgufSpec) -> bytes:
    even = spec.element_ties == "even"
    if spec.block_type == "mxfp4":
        amax = max(abs(run))
        code = max(0, floor_log2(amax, spec.exponent) + 125) if amax else 0
        d = F(2.0 ** (code - 128))
        return bytes([code]) + halves([fp4_code(v, d, even) for v in run])
    scales, body = b"", b""
    for part in run.reshape(4, 16):
        amax = max(abs(part))
        exact = spec.scale_rule == "exact"
        code = ue4m3(F(amax) / F(6), False)
        if exact:  # of the exact quotient
            codes = [(c, Fraction(half_worth(c)) * 2) for c in range(127)]
            code = min(codes, key=lambda item: (abs(item[1] - Fraction(float(amax)) / 6), item[0] & 1))[0]
        scales += bytes([code])
        body += halves([fp4_code(v, F(half_worth(code)), even) for v in part])
    return scales + body


def half_worth(code: int) -> float:
    mantissa, field = code & 7, code >> 3
    return (mantissa / 8 * 2.0**-6 if field == 0 else (1 + mantissa / 8) * 2.0 ** (field - 7)) / 2


def q4_k(run: np.ndarray) -> bytes:
    scales: list[Any] = []
    lows: list[Any] = []
    codes: list[int] = []
    for x in run.reshape(8, 32):
        squares = F(0)
        for v in x:
            squares += v * v
        mean = np.sqrt(squares / F(32))
        weights = [mean + abs(v) for v in x]
        sum_w, sum_x = F(0), F(0)
        for w, v in zip(weights, x, strict=True):
            sum_w, sum_x = sum_w + w, sum_x + w * v
        low, high = min(F(0), min(x)), max(x)
        if high == low:
            scales, lows, codes = [*scales, F(0)], [*lows, -low], [*codes, *[0] * 32]
            continue
        ratio = F(15) / (high - low)
        scale, best = ONE / ratio, F(0)
        kept = [clamp(nearest_int(ratio * (v - low)), 0, 15) for v in x]
        for c, w, v in zip(kept, weights, x, strict=True):
            e = scale * F(c) + low - v
            best += w * (e * e)
        for step in range(21):
            ratio = (F(-1) + F(0.1) * F(step) + F(15)) / (high - low)
            trial = [clamp(nearest_int(ratio * (v - low)), 0, 15) for v in x]
            s1, s2, sx = F(0), F(0), F(0)
            for c, w, v in zip(trial, weights, x, strict=True):
                s1, s2, sx = s1 + w * F(c), s2 + w * F(c) * F(c), sx + w * F(c) * v
            det = sum_w * s2 - s1 * s1
            if not det > 0:
                continue
            this, least = (sum_w * sx - sum_x * s1) / det, (s2 * sum_x - s1 * sx) / det
            if least > 0:
                this, least = sx / s2, F(0)
            error = F(0)
            for c, w, v in zip(trial, weights, x, strict=True):
                e = this * F(c) + least - v
                error += w * (e * e)
            if error < best:
                kept, best, scale, low = trial, error, this, least
        scales, lows, codes = [*scales, scale], [*lows, -low], [*codes, *kept]
    top, deep = max(F(0), *scales), max(F(0), *lows)
    with np.errstate(over="ignore", invalid="ignore"):  # subnormal tops
        six = [min(63, nearest_int((F(63) / top if top > 0 else F(0)) * s) & 255) for s in scales]
    six_low = [min(63, nearest_int((F(63) / deep if deep > 0 else F(0)) * m) & 255) for m in lows]
    head = half(top / F(63)) + half(deep / F(63))
    d, dmin = (F(np.frombuffer(head, "<f2")[i]) for i in range(2))
    for j in range(8):
        d_sub, offset = d * F(six[j]), dmin * F(six_low[j])
        if d_sub:
            codes[32 * j : 32 * j + 32] = [
                clamp(nearest_int((v + offset) / d_sub), 0, 15) for v in run[32 * j : 32 * j + 32]
            ]
    packed = [six[j] | six[j + 4] >> 4 << 6 for j in range(4)] + [
        six_low[j] | six_low[j + 4] >> 4 << 6 for j in range(4)
    ]
    packed += [six[j] & 15 | (six_low[j] & 15) << 4 for j in range(4, 8)]
    return head + bytes(packed) + b"".join(halves(codes[64 * i : 64 * i + 64]) for i in range(4))


def q6_k(run: np.ndarray) -> bytes:
    scales: list[Any] = []
    codes: list[int] = []
    for x in run.reshape(16, 16):
        top = first_largest(x)
        if abs(top) < F(1e-15):
            scales, codes = [*scales, F(0)], [*codes, *[0] * 16]
            continue
        scale = best = F(0)
        kept: list[int] = []
        for shift in (0, *range(-9, 0), *range(1, 10)):
            ratio = -(F(32) + F(0.1) * F(shift)) / top
            trial = [clamp(nearest_int(ratio * v), -32, 31) for v in x]
            sx, s2 = F(0), F(0)
            for c, v in zip(trial, x, strict=True):
                sx, s2 = sx + v * v * v * F(c), s2 + v * v * F(c) * F(c)
            if not kept or (s2 > 0 and sx * sx > best * s2):
                kept, scale = trial, sx / s2 if s2 else F(0)
                best = scale * sx
        scales, codes = [*scales, scale], [*codes, *(c + 32 for c in kept)]
    top = first_largest(np.array(scales))
    if abs(top) < F(1e-15):
        return bytes(210)
    ratio = F(-128) / top
    d = np.float16(ONE / ratio)
    eight = [min(127, nearest_int(ratio * s)) for s in scales]
    for j in range(16):
        step = F(d) * F(eight[j])
        if step:
            codes[16 * j : 16 * j + 16] = [
                clamp(nearest_int(v / step), -32, 31) + 32 for v in run[16 * j : 16 * j + 16]
            ]
    low, high = b"", b""
    for h in range(2):
        part = codes[128 * h : 128 * h + 128]
        low += bytes(part[i] & 15 | (part[i + 64] & 15) << 4 for i in range(64))
        high += bytes(sum(part[i + 32 * n] >> 4 << 2 * n for n in range(4)) for i in range(32))
    return low + high + bytes(e & 255 for e in eight) + half(d)


TABLE = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def table_code(value: np.float32) -> int:
    exact = Fraction(float(value))
    return sum(2 * exact >= a + b for a, b in pairwise(TABLE))


def iq4_nl(run: np.ndarray, plain: bool) -> bytes:
    top = first_largest(run)
    if abs(top) < F(1e-15):
        return half(0) + halves([0 if plain else table_code(F(0))] * 32)

    def fit(ratio: np.float32) -> tuple[list[int], np.float32, np.float32]:
        codes, sx, s2 = [table_code(ratio * v) for v in run], F(0), F(0)
        for c, v in zip(codes, run, strict=True):
            sx, s2 = sx + v * v * F(TABLE[c]) * v, s2 + v * v * F(TABLE[c]) * F(TABLE[c])
        return codes, sx, s2

    codes, sx, s2 = fit(ONE / (top / F(TABLE[0]) if plain else -top / F(TABLE[0])))
    step = sx / s2 if s2 > 0 else F(0)
    best = step * sx
    if not plain:
        for shift in range(-7, 8):
            _, sx, s2 = fit(F(shift + TABLE[0]) / top)
            if s2 > 0 and sx * sx > best * s2:
                step = sx / s2
                best = step * sx
        codes = [table_code((ONE / step if step else F(0)) * v) for v in run]
    return half(step) + halves(codes)


def expected(spec: GgufSpec, run: np.ndarray) -> bytes:
    kind = spec.block_type
    if kind in ("q4_0", "q5_0", "q4_1", "q5_1"):
        return affine(run, int(kind[1]), kind.endswith("1"))
    if kind == "q8_0":
        step = max(abs(run)) / F(127)
        return half(step) + bytes(away(v * inverse(step)) & 255 for v in run)
    if kind in ("tq1_0", "tq2_0"):
        return ternary(run, 5 if kind == "tq1_0" else 4)
    if kind in ("mxfp4", "nvfp4"):
        return fp4(run, spec)
    return {"q4_k": q4_k, "q6_k": q6_k}[kind](run) if kind != "iq4_nl" else iq4_nl(run, spec.search == "plain")


KINDS = ("random", "heavy", "halves", "ranges", "mixed", "subnormal", "below_powers", "far", "least", "zeros")


def make(kind: str, block: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    shape = (max(2, 160 // block), 2 * block)
    x = rng.normal(size=shape) * np.exp2(rng.integers(-3, 4, (shape[0], 1)))
    if kind == "heavy":
        x = x**3
    elif kind == "halves":  # ties of codes and of the largest magnitude
        x = rng.integers(-24, 25, shape) / 4.0
    elif kind == "ranges":
        x = np.abs(x) + rng.choice([0.0, 3.0, -40.0], (shape[0], 1))
    elif kind == "mixed":
        x = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-60, 10, shape))
    elif kind == "subnormal":
        x = np.ldexp(rng.integers(-40, 41, shape).astype(float), rng.choice([-149, -126, -110], (shape[0], 1)))
    elif kind == "below_powers":  # the last floats before a power of two, where float logarithms round up
        tops = np.ldexp(1.0, rng.integers(-14, 16, shape)).astype(F)
        x = (tops.view(np.int32) - rng.integers(0, 5, shape)).astype(np.int32).view(F) * rng.choice([1, -1], shape)
    elif kind == "far":  # beyond the largest NVFP4 scale, within float16 scales
        x = x * 1000
        x[:, 3] = 60000.0
    elif kind == "least":  # where searches give up: 1e-15
        x = rng.uniform(-1, 1, shape) * rng.choice([0.99e-15, 1.0e-15, 1.01e-15, 3e-14], (shape[0], 1))
        x[:, ::16] = np.abs(x).max(axis=1, keepdims=True)
        x[0, ::16] = F(1e-15)
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0], shape)
        x[0, block:] = np.abs(rng.normal(size=block)) * (np.arange(block) > 4)
        x[1, :block] = -7.5
    return x.astype(F)


VARIANTS = (
    *map(gguf, TYPES),
    gguf("mxfp4").with_rules(exponent="exact"),
    gguf("mxfp4").with_rules(element_ties="even"),
    gguf("nvfp4").with_rules(scale_rule="exact", element_ties="even"),
    gguf("iq4_nl").with_rules(search="plain"),
)


@pytest.mark.parametrize("spec", VARIANTS, ids=lambda s: s.name)
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_of_the_rules(spec: GgufSpec, kind: str) -> None:
    x = make(kind, spec.block_size)
    got = blocks_of(spec, x)
    assert got.shape == (len(x), 2, spec.block_bytes) and got.dtype == np.uint8
    for run, block in zip(x.reshape(-1, spec.block_size), got.reshape(-1, spec.block_bytes), strict=True):
        assert block.tobytes() == expected(spec, run)


@pytest.mark.parametrize("block_type", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "tq1_0", "tq2_0", "mxfp4"])
@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("subnormal", "zeros")])
def test_bytes_are_those_of_gguf_py(block_type: str, kind: str) -> None:
    quants = pytest.importorskip("gguf").quants
    kinds = pytest.importorskip("gguf").GGMLQuantizationType
    for seed in range(8):
        x = make(kind, TYPES[block_type][0], seed)
        theirs = quants.quantize(x, getattr(kinds, block_type.upper()))
        assert np.array_equal(blocks_of(gguf(block_type), x).reshape(theirs.shape), theirs)


@pytest.mark.parametrize("block_type", TYPES)
def test_decoding_any_bytes_is_that_of_gguf_py(block_type: str) -> None:
    quants = pytest.importorskip("gguf").quants
    kinds = pytest.importorskip("gguf").GGMLQuantizationType
    block, bytes_ = TYPES[block_type]
    data = np.random.default_rng(1).integers(0, 256, (512, 2, bytes_)).astype(np.uint8)
    if block_type in ("mxfp4", "nvfp4"):  # every scale
        data[:256, :, 0] = np.arange(256)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = quants.dequantize(data.reshape(512, -1), getattr(kinds, block_type.upper()))
    ours = decode(formats.Encoded(gguf(block_type), {"blocks": data}, (512, 2 * block)))
    nan = np.isnan(theirs)  # of Inf and NaN scales; which NaN is nobody's rule
    assert nan.mean() < 0.2 and np.array_equal(nan, np.isnan(ours))
    assert np.array_equal(ours.view(np.uint32)[~nan], theirs.view(np.uint32)[~nan])


def test_every_float16_scale_decodes_exactly() -> None:
    data = np.zeros((1 << 16, 1, 34), np.uint8)
    data[:, 0, :2] = np.arange(1 << 16, dtype="<u2").view(np.uint8).reshape(-1, 2)
    data[:, 0, 2:] = np.arange(1 << 16)[:, None] * 7 + np.arange(32)
    values = decode(formats.Encoded(gguf("q8_0"), {"blocks": data}, (1 << 16, 32)))
    scales = np.arange(1 << 16, dtype="<u2").view("<f2").astype(F)
    finite = np.isfinite(scales)
    wanted = scales[finite, None] * data[finite, 0, 2:].view(np.int8).astype(F)
    assert np.array_equal(values[finite].view(np.uint32), wanted.view(np.uint32))


def digest_input() -> np.ndarray:
    """Return float32 [64, 1024] from integers alone: near normal, rows of 64 scales, some zeros, some outliers."""
    z = np.arange(1 << 16, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    fields = [(z >> np.uint64(15 * i)).astype(np.int64) & 0x7FFF for i in range(4)]
    x = (fields[0] + fields[1] - fields[2] - fields[3]).reshape(64, 1024).astype(float)
    x *= np.where((z % np.uint64(101) == 0).reshape(64, 1024), 6, 1) * (z % np.uint64(17) != 0).reshape(64, 1024)
    return np.ldexp(x, -16 + (np.arange(64)[:, None] % 16) - 8).astype(F)


# SHA-256 of what ggml's C code writes for `digest_input`, all rows: ggml-quants.c of llama.cpp as in the source package
# llama-cpp-python 0.3.36, compiled with gcc -O2 -ffp-contract=off; quantize_row_*_ref, IQ4_NL by quantize_iq4_nl
DIGESTS = {
    "q4_0": "e0dc49e8fb64e1e69abb694af58ceb9325d142b615576ade2be541e3a66a0524",
    "q4_1": "04847911c88e316c5c13b838c16620efeb2014f775d230298a1ead7d77da739f",
    "q5_0": "46d3c83116627e32aba4afdbbb2211055462c08f94e53966d5e16ee41a2af421",
    "q5_1": "0140a753b7803f3a9d317fed7dda8f045653cb73435be7558ca105f42b1fc3e2",
    "q8_0": "9ee4615c880556fd787b1a2b345153139f690a597ca87606138ee758aecaa6c2",
    "q4_k": "9fc444f602ae08413b664f28d4d308e8b84eb4f5b92bdd65a381ea602159305a",
    "q6_k": "8ceca8a9929bb8cbf753e0bf184a36a46ac6ecd7d363f66325aae888fc8c581b",
    "iq4_nl": "9da3a59698b418e0def509b915f7e9dbab5dea6dad2fa433b8e5630271b82007",
    "tq1_0": "1e79c2e62780cdf5f0a4075a07441c92604e5722ad615aa216caa1e36310b8bd",
    "tq2_0": "7549d766f3ce42fe809da26098e4c60224d1a53d18f3da63843e5cbd19d22be7",
    "mxfp4": "31b5ea7503ef4ccd49511c6a0998d2aea84bb122db4b87deb7908379314f9137",
    "nvfp4": "a36d5beef53d3125c9d928ae6f817afd93dfe93428c86e89722c4bfe0515d6a2",
}


@pytest.mark.parametrize("block_type", TYPES)
def test_bytes_are_those_of_the_c_code(block_type: str) -> None:
    blocks = blocks_of(gguf(block_type), digest_input())
    assert hashlib.sha256(blocks.tobytes()).hexdigest() == DIGESTS[block_type]


def test_the_count_of_logarithms_that_round_up_is_exact() -> None:
    counts = logarithms_that_round_up()
    assert counts[3 + 127] == 1 and counts[127 + 127] == 44 and counts[127] == 0
    for exponent in (*range(-125, -60, 9), *range(-9, 10), 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128):
        count = int(counts[exponent + 127])
        for n in (count, count + 1):
            value = Fraction(2) ** exponent * (1 - Fraction(n, 1 << 24))
            assert n == 0 or rounds_up(value, exponent) == (n == count)


@pytest.mark.parametrize("exponent", [-60, -17, -3, 2, 3, 4, 5, 16, 40, 100])
def test_mxfp4_exponents_of_numpy_logarithms_and_exact_ones(exponent: int) -> None:
    top = np.array(2.0**exponent, F).view(np.uint32)
    tops = (top - np.arange(80, dtype=np.uint32)).view(F)
    x = np.zeros((80, 32), F)
    x[:, 5] = tops
    assert blocks_of(gguf("mxfp4"), x)[:, 0, 0].tolist() == (np.floor(np.log2(tops)) + 125).tolist()
    exact = blocks_of(gguf("mxfp4").with_rules(exponent="exact"), x)[:, 0, 0]
    assert exact.tolist() == [exponent + 125, *[exponent + 124] * 79]


def test_mxfp4_under_exact_rules_is_ocp_mxfp4() -> None:
    spec = gguf("mxfp4").with_rules(exponent="exact", element_ties="even")
    x = np.concatenate([make(k, 32) for k in ("random", "heavy", "halves", "mixed", "below_powers")])
    assert np.array_equal(decode(encode(x, spec)), decode(encode(x, "mxfp4")))


def test_the_scale_codes_of_ggml_are_no_e4m3() -> None:
    """From 248 on they are 448, below 2**-6 no more than code 7; 7Fh decodes to 0 and bit 7 is ignored."""
    x = np.zeros((4, 64), F)
    x[:, 0] = np.array([247.9, 248.0, 2.0**-6 - 2.0**-12, 300.0]) * 6
    assert blocks_of(gguf("nvfp4"), x)[:, 0, 0].tolist() == [0x77, 0x7E, 0x07, 0x7E]
    exact = blocks_of(gguf("nvfp4").with_rules(scale_rule="exact"), x)[:, 0, 0]
    assert exact.tolist() == [0x77, 0x78, 0x08, 0x79]
    table = half_scales("nvfp4")
    assert table[0x7F] == 0 and table[0xFF] == 240 and np.array_equal(table[0x80:0xFF], table[:0x7F])


def test_ties_of_levels_and_what_lies_far_above() -> None:
    x = np.zeros((1, 64), F)
    x[0, :8] = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0]
    x[0, 8:16] = -x[0, :8]
    toward_zero, even = (
        decode(encode(x, s))[0] for s in (gguf("nvfp4"), gguf("nvfp4").with_rules(element_ties="even"))
    )
    assert toward_zero[:8].tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert even[:8].tolist() == [0, 1, 1, 2, 2, 4, 4, 6]
    assert np.array_equal(toward_zero[:8], -toward_zero[8:16]) and np.array_equal(even[:8], -even[8:16])
    far = np.full((1, 64), 1e30, F)  # float32 errors of all levels are one number there: the first, 0, wins
    assert not decode(encode(far, gguf("nvfp4"))).any()
    assert (decode(encode(far, gguf("nvfp4").with_rules(element_ties="even"))) == 2688).all()


def test_ties_of_iq4_nl_go_to_the_upper_level() -> None:
    x = np.zeros((1, 32), F)  # the plain reference takes codes under the scale of the largest element: here 1
    x[0, 0] = -127.0
    middles = [F(a + b) / F(2) for a, b in pairwise(TABLE)]
    x[0, 1:16] = middles
    x[0, 16:31] = [np.nextafter(m, F(-200)) for m in middles]
    stored = blocks_of(gguf("iq4_nl").with_rules(search="plain"), x)[0, 0, 2:]
    codes = np.concatenate([stored & 15, stored >> 4])
    assert codes[:16].tolist() == list(range(16)) and codes[16:31].tolist() == list(range(15))


def test_scale_of_a_block_of_zeros_by_either_reference() -> None:
    quants = pytest.importorskip("gguf").quants
    kinds = pytest.importorskip("gguf").GGMLQuantizationType
    x = np.zeros((2, 32), F)
    x[1] = -0.0
    for block_type in ("q4_0", "q5_0"):
        spec = gguf(block_type)
        assert blocks_of(spec, x)[:, 0, 1].tolist() == [0x80, 0x80]
        theirs = quants.quantize(x, getattr(kinds, block_type.upper()))
        assert np.array_equal(blocks_of(spec.with_rules(zero_block="gguf_py"), x)[:, 0], theirs)
        assert not np.array_equal(blocks_of(spec, x)[:, 0], theirs)


@pytest.mark.parametrize("block_type", [t for t in TYPES if t not in ("mxfp4", "nvfp4")])
def test_a_scale_beyond_float16_is_an_error_or_inf(block_type: str) -> None:
    spec, block = gguf(block_type), TYPES[block_type][0]
    x = np.ones((3, 2 * block), F)
    x[1, block:] = np.linspace(-3.4e38, 3.3e38, block)
    with pytest.raises(ValueError, match=rf"gguf_{block_type}: .*block 1 in row 1 \(elements {block} \.\."):
        encode(x, spec)
    stored = blocks_of(spec.with_rules(overflow="ggml"), x)
    assert np.array_equal(stored[0], blocks_of(spec, x[:1])[0])
    with np.errstate(invalid="ignore"):
        values = decode(formats.Encoded(spec, {"blocks": stored}, x.shape))
    assert np.isfinite(values[0]).all()
    if block_type != "q6_k":  # whose scales overflow to NaN, as squares do, and upstream writes zeros
        assert not np.isfinite(values[1, block:]).all()


@pytest.mark.parametrize("block_type", TYPES)
def test_common_properties(block_type: str) -> None:
    spec, (block, bytes_) = gguf(block_type), TYPES[block_type]
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 2, 4 * block)).astype(F)
    encoded = encode(x, spec)
    assert encoded.parts["blocks"].shape == (3, 2, 4, bytes_)
    assert encoded.stored_bits == 8 * x.size * bytes_ // block
    assert spec.bits_per_element(4 * block) == 8 * bytes_ / block
    assert encode(x, spec, out=encoded) is encoded
    rows = encode(x[0], spec)
    assert np.array_equal(decode(rows.rows(np.array([1]))), decode(encoded)[0, 1:])
    short = encode(x[0, :, : block + 5], spec, pad=True)
    assert short.padding == block - 5 and decode(short).shape == (2, block + 5)
    many = rng.normal(size=(5, 40 * block)).astype(F)  # blocks do not depend on where they stand
    alone = np.stack([blocks_of(spec, part) for part in many.reshape(5, 40, block)])
    assert np.array_equal(blocks_of(spec, many), alone[:, :, 0])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-6, 6), kind=st.sampled_from(sorted(TYPES)))
def test_powers_of_two_move_scales_alone(seed: int, shift: int, kind: str) -> None:
    block = TYPES[kind][0]
    x = np.random.default_rng(seed).normal(size=(1, block)).astype(F)
    x[0, 1] = 3.5  # with no logarithm that rounds
    plain, scaled = decode(encode(x, gguf(kind))), decode(encode(np.ldexp(x, shift), gguf(kind)))
    if kind != "nvfp4":  # whose scales have few exponents, and subnormal float16 scales round otherwise
        scales = np.abs(plain).max() > 0
        assert scales and np.allclose(scaled, np.ldexp(plain, shift), rtol=2e-3 if shift < 0 else 0, atol=2.0**-16)
    # a block that is decoded and encoded again keeps its values where the scale is that of its largest element
    if kind in ("q4_0", "q5_0", "q8_0", "mxfp4"):
        again = decode(encode(plain, gguf(kind)))
        assert np.abs(again - plain).max() <= np.abs(plain).max() * 2.0**-9


def test_a_bundle_holds_the_bytes(tmp_path: Path) -> None:
    weight = encode(np.random.default_rng(0).normal(size=(4, 256)).astype(F), "gguf_q4_k")
    layer = Layer("a", 256, weight)
    write_bundle(tmp_path / "b", Bundle((layer,)))
    back = read_bundle(tmp_path / "b").layer("a").weight
    assert np.array_equal(back.parts["blocks"], weight.parts["blocks"]) and back.format == weight.format
    with pytest.raises(ValueError, match="two layers"):
        write_bundle(tmp_path / "c", Bundle((layer, layer)))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"block_type": "q9_0"}, "block_type is 'q9_0', allowed: q4_0"),
        ({"zero_block": "plus"}, "zero_block is 'plus'"),
        ({"exponent": "exact"}, "exponent is a rule of mxfp4, not q4_0"),
        ({"scale_rule": "exact"}, "rule of nvfp4"),
        ({"search": "plain"}, "rule of iq4_nl"),
        ({"element_ties": "even"}, "rule of mxfp4, nvfp4"),
        ({"overflow": "saturate"}, "overflow"),
    ],
)
def test_bad_rules_are_refused(change: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gguf("q4_0").with_rules(**change)


@pytest.mark.parametrize("block_type", TYPES)
def test_bad_input_is_refused(block_type: str) -> None:
    spec, (block, bytes_) = gguf(block_type), TYPES[block_type]
    x = np.ones((70, 2 * block), F)
    x[66, block + 7] = np.nan
    x[69, 0] = np.inf
    with pytest.raises(ValueError, match=rf"index \[66, {block + 7}\].*nan"):
        encode(x, spec)
    with pytest.raises(ValueError, match="does not divide"):
        encode(np.ones((1, block + 1), F), spec)
    with pytest.raises(ValueError, match="blocks must be uint8"):
        formats.Encoded(spec, {"blocks": np.zeros((1, 1, bytes_ + 1), np.uint8)}, (1, block))


def test_float16_is_rounded_half_to_even() -> None:
    """The stored scale of Q8_0, at ties and next to them, subnormal scales too."""
    rng = np.random.default_rng(2)
    steps: list[np.float32] = []
    wanted: list[int] = []
    for code in [*map(int, rng.integers(0, 0x7BFF, 400)), *range(8), 0x3FF, 0x400, 0x7BFE]:
        a, b = (Fraction(float(np.uint16(c).view(np.float16))) for c in (code, code + 1))
        middle = F(float((a + b) / 2))
        steps += [np.nextafter(middle, F(0)), middle, np.nextafter(middle, F(1e9))]
        wanted += [code, code + (code & 1), code + 1]
    x = np.zeros((len(steps), 32), F)
    x[:, 0] = np.array(steps) * F(127)
    found = x[:, 0] / F(127) == steps  # the others have no amax that gives just this step
    assert found.sum() > 700
    got = np.ascontiguousarray(blocks_of(gguf("q8_0"), x)[:, 0, :2]).view("<u2")[:, 0]
    assert np.array_equal(got[found], np.array(wanted)[found])

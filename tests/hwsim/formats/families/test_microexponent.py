"""Shared microexponents: by exact rationals, by AMD Quark's codes, and every code of every exponent and shift."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats
from hwsim.formats import Encoded, decode, encode, pack, unpack
from hwsim.formats.families.microexponent import MicroExponentSpec
from hwsim.formats.rounding import MODES
from tests.hwsim.formats import oracle

VECTORS = Path(__file__).parents[3] / "data" / "quark.npz"
MAGNITUDE_BITS = {"mx9": 7, "mx6": 4, "mx4": 2}


def micro(name: str) -> MicroExponentSpec:
    fmt = formats.get(name)
    assert isinstance(fmt, MicroExponentSpec)
    return fmt


CATALOGUE = tuple(MAGNITUDE_BITS)
VARIANTS = (
    *map(micro, CATALOGUE),
    *(micro("mx6").with_rules(rounding=mode, seed=3) for mode in MODES[1:]),
    micro("mx9").with_rules(rounding="stochastic"),
    micro("mx9").with_rules(shift_bits=2, sub_block=4),
    micro("mx4").with_rules(shift_bits=3, sub_block=1, block_size=12),
    micro("mx6").with_rules(sub_block=3, block_size=9),
    micro("mx6").with_rules(sub_block=16),
    micro("mx9").with_rules(block_size=80, sub_block=80, shift_bits=2),
    micro("mx4").with_rules(block_size=2),
)


def exponent_of(amax: Fraction) -> int:
    """Return the exponent of a block: that of its largest magnitude, not below what the code can tell."""
    return max(oracle.floor_log2(amax), -127) if amax else -127


def expected_block(fmt: MicroExponentSpec, bits: list[int], first: int) -> tuple[int, list[int], list[int]]:
    """Encode one block, its first value element `first` of the tensor: exponent code, shifts, codes."""
    values = [abs(oracle.float32_value(b)) for b in bits]
    magnitude_bits, most = fmt.element.bits - 1, (1 << fmt.shift_bits) - 1
    exponent, shifts, codes = exponent_of(max(values)), [], []
    for start in range(0, len(values), fmt.sub_block):
        top = max(values[start : start + fmt.sub_block])
        if not any(values):
            shift = 0
        else:
            shift = min(exponent - oracle.floor_log2(top), most) if top else most
            shift = max(shift, 0)
        shifts.append(shift)
        step = oracle.power(exponent - shift - (magnitude_bits - 1))
        for j in range(start, start + fmt.sub_block):
            count, negative = values[j] / step, bits[j] >> 31
            low = count.numerator // count.denominator
            random = oracle.random_bits(fmt.seed, first + j)
            low += oracle.rounds_up(count - low, low % 2 == 1, bool(negative), fmt.rounding, random)
            codes.append(min(low, (1 << magnitude_bits) - 1) | negative << magnitude_bits)
    return exponent + 127, shifts, codes


def make(kind: str, fmt: MicroExponentSpec) -> np.ndarray:
    rng = np.random.default_rng(len(kind))
    shape = (4, 3 * fmt.block_size)
    x = rng.normal(size=shape)
    if kind == "mixed":
        x = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-140, 127, shape))
    elif kind == "near":  # sub-blocks some exponents below their block
        x = np.ldexp(rng.uniform(-2, 2, shape), -rng.integers(0, 12, shape))
    elif kind == "subnormal":
        x = np.ldexp(rng.integers(-40, 41, shape).astype(float), -149)
        x[1] *= 2.0**17  # around 2**-127
        x[2] = np.ldexp(rng.choice([-1.0, 1.0, 0.5, 0.75], shape[1]), -126)
        x[3, : shape[1] // 2] = 0
    elif kind == "small":
        x = np.ldexp(rng.uniform(-1, 1, shape), -100 - 9 * np.arange(4)[:, None])
    elif kind == "huge":
        top = float(np.finfo(np.float32).max)
        x = rng.choice([top, -top, top / 2, 3e37, -1e31, 1.0, 0.0], shape)
        x[0] = np.ldexp(x[0], -np.arange(shape[1]) // fmt.block_size * 12)
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0], shape)
        x[1, 1] = 1.5
        x[2] = -1e-30
    elif kind == "ties":  # half steps, quarter steps, and powers of two
        x = rng.integers(-513, 514, shape) / 2.0 ** rng.integers(0, 10, shape)
    elif kind == "edges":  # around what rounds beyond the largest element, and around powers of two
        bits = fmt.element.bits - 1
        points = [2.0, 1.0, 0.5, 2 - 2.0**-bits, 2 - 1.5 * 2.0**-bits, 1 - 2.0 ** -(bits + 1), 1 - 2.0**-bits]
        points = [p for v in points for p in (np.nextafter(np.float32(v), np.float32(0)), v, v * (1 + 2.0**-23))]
        x = rng.choice(points, shape) * rng.choice([-1, 1], shape)
    return x.astype(np.float32)


KINDS = ("random", "mixed", "near", "subnormal", "small", "huge", "zeros", "ties", "edges")


@pytest.mark.parametrize(
    "fmt, kind",
    [
        pytest.param(fmt, kind, id=f"{fmt.name}-{kind}")
        for i, fmt in enumerate(VARIANTS)
        for kind in (KINDS if i < len(CATALOGUE) else ("near", "subnormal", "huge", "ties"))
    ],
)
def test_encode_and_decode_equal_exact_rationals(fmt: MicroExponentSpec, kind: str) -> None:
    x = make(kind, fmt)
    encoded = encode(x, fmt)
    values, block, within = decode(encoded), fmt.block_size, fmt.block_size // fmt.sub_block
    for row in range(len(x)):
        bits = [int(b) for b in x[row].view(np.uint32)]
        for index in range(x.shape[1] // block):
            part = slice(index * block, (index + 1) * block)
            exponent, shifts, codes = expected_block(fmt, bits[part], row * x.shape[1] + index * block)
            assert encoded.scales[row, index] == exponent
            assert encoded.parts["shifts"][row, index * within : (index + 1) * within].tolist() == shifts
            assert encoded.codes[row, part].tolist() == codes
            for j, code in enumerate(codes):
                exact = value_of(fmt, exponent, shifts[j // fmt.sub_block], code)
                negative = bool(code >> (fmt.element.bits - 1))
                assert values[row, index * block + j].view(np.uint32) == oracle.float32_bits(exact, negative)


def value_of(fmt: MicroExponentSpec, exponent: int, shift: int, code: int) -> Fraction:
    magnitude_bits = fmt.element.bits - 1
    magnitude = code % (1 << magnitude_bits) * oracle.power(exponent - 127 - shift - (magnitude_bits - 1))
    return -magnitude if code >> magnitude_bits else magnitude


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_code_under_every_exponent_and_shift_decodes_exactly(name: str) -> None:
    """All of the 2 x 255 x 2**bits combinations; decoded values are exact in float32."""
    fmt = micro(name)
    count = 1 << fmt.element.bits
    codes = np.broadcast_to(np.arange(count, dtype=np.uint8).repeat(16), (2 * 256, 16 * count)).copy()
    scales = np.arange(256, dtype=np.uint8).repeat(2)[:, None].repeat(count, axis=1)
    shifts = np.tile(np.array([0, 1], np.uint8), 256)[:, None].repeat(8 * count, axis=1)
    values = decode(Encoded.of(fmt, codes=codes, scales=scales, shifts=shifts))[:, ::16]
    assert np.isnan(values[-2:]).all()
    magnitude_bits = MAGNITUDE_BITS[name]
    magnitudes = np.arange(count) % (1 << magnitude_bits)
    signs = np.where(np.arange(count) >> magnitude_bits, -1.0, 1.0)
    exponents = np.arange(510) // 2 - 127 - np.arange(510) % 2 - (magnitude_bits - 1)
    exact = np.ldexp(signs * magnitudes, exponents[:, None])  # in float64
    assert np.array_equal(values[:-2].astype(np.float64), exact)
    assert np.array_equal(np.signbit(values[:-2]), np.broadcast_to(signs < 0, exact.shape))


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("kind", ["random", "spread", "grid", "edges", "exponents"])
def test_equals_quark(name: str, kind: str) -> None:
    with np.load(VECTORS) as data:
        x, exponents, shifts, elements = (
            data[f"{kind}.{key}"] for key in ("x", f"{name}.exponents", f"{name}.shifts", f"{name}.elements")
        )
    encoded = encode(x, name)
    assert np.array_equal(encoded.scales.astype(int) - 127, exponents)
    bits = (shifts[..., None] >> np.arange(8)) & 1
    assert np.array_equal(encoded.parts["shifts"], bits.reshape(len(x), -1))
    magnitude = encoded.codes & ((1 << MAGNITUDE_BITS[name]) - 1)
    assert np.array_equal(np.where(x < 0, -magnitude.astype(int), magnitude), elements)


def test_quark_data_reach_every_rule() -> None:
    with np.load(VECTORS) as data:
        assert data["grid.mx9.exponents"].min() == -127 and data["grid.mx9.shifts"][0].max() == 0  # blocks of zeros
        assert {bin(bits).count("1") for bits in data["spread.mx6.shifts"].ravel()} >= {4, 5, 6, 7}
        assert (np.abs(data["edges.mx4.elements"]) == 3).any() and data["edges.mx9.elements"].max() == 127


def test_stored_bits_an_element() -> None:
    assert [micro(name).bits_per_element(1024) for name in CATALOGUE] == [9, 6, 4]
    assert encode(np.ones((4, 32), np.float32), "mx9").stored_bits == 4 * 32 * 9


def test_a_block_by_hand() -> None:
    """Exponent 2 (of 7.99); the second pair fits one exponent lower, 7.99 rounds up and saturates."""
    x = np.zeros((1, 16), np.float32)
    x[0, :4] = [7.99, -4.0, 3.99, -0.0]
    encoded = encode(x, "mx6")
    assert encoded.scales.tolist() == [[129]]
    assert encoded.parts["shifts"].tolist() == [[0, 1, 1, 1, 1, 1, 1, 1]]
    assert encoded.codes[0, :4].tolist() == [15, 24, 15, 16]
    assert decode(encoded)[0, :4].tolist() == [7.5, -4.0, 3.75, -0.0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-90, 100), name=st.sampled_from(CATALOGUE))
def test_encoding_again_and_powers_of_two_change_nothing(seed: int, shift: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    x = np.ldexp(rng.uniform(-1, 1, (3, 64)), rng.integers(-8, 1, (3, 64))).astype(np.float32)
    first, scaled = encode(x, name), encode(np.ldexp(x, shift), name)
    for part in ("codes", "shifts"):
        assert np.array_equal(first.parts[part], scaled.parts[part])
    assert np.array_equal(first.scales.astype(int) + shift, scaled.scales)
    again = encode(decode(first), name)
    assert np.array_equal(decode(again), decode(first))
    mirrored = encode(-x, name)
    assert np.array_equal(mirrored.codes ^ first.codes, np.full(x.shape, 1 << MAGNITUDE_BITS[name], np.uint8))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(CATALOGUE))
def test_parts_pack_and_unpack(seed: int, name: str) -> None:
    encoded = encode(np.random.default_rng(seed).normal(size=(2, 48)).astype(np.float32), name)
    for part in encoded.format.layout(encoded.shape):
        array = encoded.parts[part.name]
        assert np.array_equal(unpack(pack(array, part.bits), part.bits, count=array.shape[-1]), array)


def test_axes_rows_and_padding() -> None:
    x = np.random.default_rng(0).normal(size=(100, 3, 2)).astype(np.float32)
    encoded = encode(x, "mx9", axis=0, pad=True)
    assert encoded.padding == 12 and decode(encoded).shape == x.shape
    matrix = encode(np.ascontiguousarray(x[:96, :, 0].T), "mx9")
    assert np.array_equal(decode(matrix.rows(slice(1, 2))), decode(matrix)[1:2])


BASE = micro("mx9")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"element": formats.element("float4_e2m1fn")}, "sign and magnitude"),
        ({"element": formats.element("signmag8")}, "sign and magnitude"),
        ({"element": replace(BASE.element, man_bits=7)}, "8 bits at most"),
        ({"scale": formats.element("float8_e4m3fn")}, "E8M0"),
        ({"sub_block": 3}, "divide block_size"),
        ({"sub_block": 0}, "divide block_size"),
        ({"block_size": 0}, "divide block_size"),
        ({"shift_bits": 4}, "shift_bits"),
        ({"shift_bits": 0}, "shift_bits"),
        ({"rounding": "nearest"}, "rounding must be"),
        ({"overflow": "nonsaturating"}, "overflow"),
        ({"scale_rule": "even"}, "scale_rule"),
        ({"zero_block": "one"}, "zero_block"),
        ({"nan_policy": "propagate"}, "nan_policy"),
    ],
)
def test_bad_rules_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BASE.with_rules(**change)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_input_is_refused(bad: float) -> None:
    x = np.ones((3, 64), np.float32)
    x[1, 41] = bad
    with pytest.raises(ValueError, match=rf"mx9.*index \[1, 41\].*{bad}"):
        encode(x, "mx9")
    with pytest.raises(ValueError, match=r"mx9: block of 16 does not divide the axis of 24; pad it to 32"):
        encode(np.ones((1, 24), np.float32), "mx9")


def test_bad_parts_are_refused() -> None:
    good = encode(np.ones((1, 16), np.float32), "mx6")
    with pytest.raises(ValueError, match=r"shifts hold 2, allowed 0 \.\. 1"):
        good.replace_parts(shifts=np.full((1, 8), 2, np.uint8))
    with pytest.raises(ValueError, match=r"codes hold 32, allowed 0 \.\. 31"):
        good.replace_parts(codes=np.full((1, 16), 32, np.uint8))
    with pytest.raises(ValueError, match="shifts must be"):
        good.replace_parts(shifts=np.zeros((1, 1), np.uint8))

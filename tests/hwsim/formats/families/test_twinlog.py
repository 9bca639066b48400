"""Twin logarithms (LRQ-DiT): by exact powers of integers, plain floats in the stated order, and PyTorch."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats
from hwsim.formats import decode, encode
from hwsim.formats.families.twinlog import TwinLogSpec, power_of_fraction
from tests.hwsim.formats import oracle


def twinlog(name: str) -> TwinLogSpec:
    fmt = formats.get(name)
    assert isinstance(fmt, TwinLogSpec)
    return fmt


FOUR = twinlog("twinlog_4b")
FORMATS = {
    "3b": twinlog("twinlog_3b"),
    "4b": FOUR,
    "4b_search": twinlog("twinlog_4b_search").with_rules(offsets=(0.5, 0.01, 0.0)),
    "4b_blocks": FOUR.with_rules(block_size=8, divisor="levels"),
    "4b_masked": FOUR.with_rules(extent="masked", offsets=(0.03,)),
    "2b": FOUR.with_rules(bits=2, log_frac_bits=0, residual_bits=1),
    "8b": FOUR.with_rules(bits=8, log_frac_bits=5, residual_bits=23, block_size=20),
}
KINDS = ("random", "one_sided", "small", "mixed", "subnormal", "huge", "zeros", "powers", "large")


def make(kind: str, shape: tuple[int, int] = (5, 40)) -> np.ndarray:
    rng = np.random.default_rng([KINDS.index(kind)])
    x = rng.normal(size=shape)
    if kind == "one_sided":
        x = np.abs(x) * np.array([1, -1, 1, -1, 1])[:, None] * (rng.random(shape) > 0.2)
        x[3:] = np.abs(x[3:]) * 0.1 + 0.01  # no zeros, so no mask
    elif kind == "small":
        x *= 0.02
    elif kind == "mixed":
        x = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-140, 127, shape))
    elif kind == "subnormal":
        x = np.ldexp(rng.integers(-9, 10, shape).astype(float), -149)
    elif kind == "huge":
        x = rng.choice([3.4028234663852886e38, -3.4028234663852886e38, 1.0, -3e30, 2e-45], shape)
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0], shape)
        x[1, 3], x[2, 17], x[3, 20:], x[4, ::2], x[4, 1::4] = 1e-30, -2.5, 3.0, -1.5, 0.25
    elif kind == "powers":  # ties of steps and zeros: logarithms are whole
        x = np.ldexp(rng.choice([-1.0, 1.0], shape), rng.integers(-7, 8, shape))
        x[:, 0], x[:, 1], x[:, 2], x[:, 3] = 2.0**-7, 2.0**7, -(2.0**-5), -(2.0**6)
    elif kind == "large":
        x *= 50
    return x.astype(np.float32)


def log(value: Fraction, frac_bits: int) -> int:
    """Return the base-2 logarithm rounded to units of 2**-frac_bits: from the length of a power of the mantissa."""
    exponent, power = oracle.floor_log2(value), 1 << (frac_bits + 1)
    mantissa = value / oracle.power(exponent)
    halves = oracle.floor_log2(mantissa**power)  # floor of the logarithm in half units
    return (exponent << frac_bits) + (halves + 1) // 2


@cache
def fraction_power(rest: int, frac_bits: int, places: int) -> Fraction:
    """Return 2**(rest / 2**frac_bits), the nearest multiple of 2**-places: found by float, proved by integers."""
    near = round(2.0 ** (rest / (1 << frac_bits) + places))
    for n in (near - 1, near, near + 1):
        low, high = (2 * n - 1) ** (1 << frac_bits), (2 * n + 1) ** (1 << frac_bits)
        if low < 1 << (rest + (places + 1 << frac_bits)) < high:
            return Fraction(n, 1 << places)
    raise AssertionError


def level(fmt: TwinLogSpec, exponent: int) -> Fraction:
    rest = exponent & ((1 << fmt.log_frac_bits) - 1)
    return fraction_power(rest, fmt.log_frac_bits, fmt.residual_bits) * oracle.power(exponent >> fmt.log_frac_bits)


def block(fmt: TwinLogSpec, numbers: list[float], offset: float) -> tuple[list[int], list[int], list[int], list[float]]:
    """Return codes, steps and zeros of both sides, and the float64 values of a block."""
    levels, sides = 1 << (fmt.bits - 1), ([v for v in numbers if v > 0], [v for v in numbers if v < 0])
    steps, zeros = [0, 0], [0, 0]
    for side, members in enumerate(sides):
        logs = [log(Fraction(abs(v) + offset), fmt.log_frac_bits) for v in members]
        if not logs:
            continue
        if fmt.extent == "masked" and len(logs) < len(numbers):
            logs.append(0)
        parts = levels - 1 if fmt.divisor == "steps" else levels
        steps[side] = max(oracle.half_even(Fraction(max(logs) - min(logs), parts)), 1)
        zeros[side] = oracle.half_even(Fraction(min(logs), steps[side]))
    codes, values = [], []
    for v in numbers:
        side, rank = int(v < 0), 0
        if v == 0:
            side = int(bool(sides[0]) and not sides[1])
        else:
            rank = oracle.half_even(Fraction(log(Fraction(abs(v) + offset), fmt.log_frac_bits), steps[side]))
            rank = min(max(rank - zeros[side], 0), levels - 1)
        codes.append(rank + side * levels)
        value = float(level(fmt, steps[side] * (rank + zeros[side]))) - offset if steps[side] else 0.0
        values.append(-value if side else value)
    return codes, steps, zeros, values


def tensor(fmt: TwinLogSpec, x: np.ndarray, offset: float) -> tuple[float, list[list[object]]]:
    """Return the error of a tensor, and its blocks by row."""
    size, total, rows = fmt.block_size or x.shape[1], 0.0, []
    for row in x:
        here, error = [], 0.0
        for start in range(0, len(row), size):
            numbers = [float(v) for v in row[start : start + size]]
            here.append(block(fmt, numbers, offset))
            for v, y in zip(numbers, here[-1][3], strict=True):
                error += (v - y) * (v - y)
        rows.append(here)
        total += error
    return total, rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_encode_and_decode_equal_exact_powers(name: str, kind: str) -> None:
    fmt, x = FORMATS[name], make(kind)
    encoded = encode(x, fmt)
    best = None
    for offset in map(np.float32, fmt.offsets):
        error, rows = tensor(fmt, x, float(offset))
        if best is None or error < best[0]:
            best = (error, offset, rows)
    assert best is not None
    if len(fmt.offsets) > 1:
        assert encoded.parts["offset"] == best[1]
    with np.errstate(over="ignore"):
        values, wanted = decode(encoded), [[np.float32(v) for b in row for v in b[3]] for row in best[2]]
    assert encoded.codes.tolist() == [[code for b in row for code in b[0]] for row in best[2]]
    assert encoded.scales.tolist() == [[b[1] for b in row] for row in best[2]]
    assert encoded.parts["zeros"].view(np.int16).tolist() == [[b[2] for b in row] for row in best[2]]
    assert np.array_equal(values, np.array(wanted))


@pytest.mark.parametrize("frac_bits", range(8))
def test_every_border_of_the_logarithm_and_its_neighbours(frac_bits: int) -> None:
    """Read the logarithm off the step of a block of one: of the float32 about each border, in two binades."""
    fmt = FOUR.with_rules(block_size=1, log_frac_bits=frac_bits)
    points = []
    for j in range(1 << frac_bits):
        middle = np.float32(power_of_fraction(2 * j + 1, frac_bits + 1, 40) * 2.0**-40)
        points += [np.nextafter(middle, np.float32(0)), middle, np.nextafter(middle, np.float32(9))]
    x = np.array([*points, *(p * np.float32(2.0**-140) for p in points), 1.0, 2.0, 1e-45], np.float32)[None]
    encoded = encode(x, fmt)
    assert (encoded.scales[..., 0] == 1).all()  # so the zero is the logarithm
    zeros = encoded.parts["zeros"].view(np.int16)[0, :, 0]
    assert zeros.tolist() == [log(Fraction(float(v)), frac_bits) for v in x[0]]


@pytest.mark.parametrize("frac_bits", [0, 3, 7])
@pytest.mark.parametrize("places", [1, 8, 23])
def test_the_table_of_powers(frac_bits: int, places: int) -> None:
    for rest in range(1 << frac_bits):
        assert Fraction(power_of_fraction(rest, frac_bits, places), 1 << places) == fraction_power(
            rest, frac_bits, places
        )


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_all_codes_decode(bits: int) -> None:
    """Of every code under several steps and zeros: +-2**(step * (q + zero)), and 0 on a side without elements."""
    fmt = FOUR.with_rules(bits=bits, block_size=1 << bits)
    half = 1 << (bits - 1)
    for steps, zeros in (((128, 64), (0, -3)), ((0, 37), (5, 4)), ((90, 0), (-7, -7)), ((1, 200), (-3000, -9))):
        encoded = formats.Encoded.of(
            fmt,
            codes=np.arange(1 << bits, dtype=np.uint8)[None],
            scales=np.array([[steps]], np.uint16),
            zeros=np.array([[zeros]], np.int16).view(np.uint16),
        )
        want = []
        for code in range(1 << bits):
            side, rank = divmod(code, half)
            exponent = steps[side] * (rank + zeros[side])
            value = level(fmt, exponent) * (-1) ** side if steps[side] else Fraction(0)
            want.append(float(np.float32(float(value))) if value < 2**128 and value > -(2**128) else math.inf)
        with np.errstate(over="ignore"):
            got = decode(encoded)[0].tolist()
        assert [abs(v) if math.isinf(v) else v for v in got] == want
        near = [
            2.0 ** (steps[c // half] * (c % half + zeros[c // half]) / 128) if steps[c // half] else 0
            for c in range(1 << bits)
        ]
        assert np.allclose(np.abs(want), np.where(np.array(near) < 2.0**128, near, np.inf), rtol=2.0**-9)


def test_equals_the_published_steps_in_torch() -> None:
    """forward of StaticQuantizer, where a step is a whole number of units and the negative side keeps to our levels."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    sixteenths = rng.integers(1, 128, (6, 200))
    sixteenths += sixteenths % 16 == 8  # no ties of a step of 1
    sixteenths[:, :2] = 128  # the least logarithm of either side is -8, so the step is 1
    signs = rng.choice([-1.0, 1.0], sixteenths.shape)
    signs[:, :2] = 1, -1
    x = (signs * 2.0 ** (-sixteenths / 16)).astype(np.float32)
    fmt = twinlog("twinlog_4b_search").with_rules(offsets=(0.0,), residual_bits=23)
    encoded = encode(x, fmt)
    assert (encoded.scales == 128).all() and (encoded.parts["zeros"].view(np.int16) == -8).all()
    w = torch.from_numpy(x)
    wanted = torch.zeros_like(w)
    for sign, most in ((1, 7), (-1, 8)):
        mask = w * sign > 0
        logs = torch.where(mask, torch.log2(w.abs()), torch.zeros_like(w))
        low, high = logs.amin(1, keepdim=True), logs.amax(1, keepdim=True)
        delta = (high - low) / 8
        zero = torch.round(low / delta)
        ranks = torch.clamp(torch.round(logs / delta) - zero, 0, min(most, 7))
        wanted += sign * 2 ** ((ranks + zero) * delta) * mask
    assert np.array_equal(decode(encoded), wanted.numpy())


def test_the_offsets_of_the_source_lower_the_error() -> None:
    x = (np.random.default_rng(0).normal(size=(16, 512)) * 0.02).astype(np.float32)
    plain, searched = (decode(encode(x, name)) for name in ("twinlog_4b", "twinlog_4b_search"))
    assert np.linalg.norm(searched - x) < np.linalg.norm(plain - x) < np.linalg.norm(x)
    assert float(encode(x, "twinlog_4b_search").parts["offset"]) in [
        float(np.float32(v)) for v in twinlog("twinlog_4b_search").offsets
    ]


def test_zeros_are_exact_where_a_side_is_free() -> None:
    x = np.array([[0.0, 1.0, 2.0, -0.0], [0.0, -1.0, -2.0, -0.0], [0.0, 1.0, -2.0, -0.0], [0, 0, 0, 0]], np.float32)
    encoded = encode(x, FOUR)
    assert encoded.codes[:, 0].tolist() == [8, 0, 0, 0] and (encoded.codes[:, 0] == encoded.codes[:, 3]).all()
    assert decode(encoded)[:, 0].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("name", ["4b", "4b_blocks", "8b"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_codes_are_monotone_and_keep_signs(name: str, seed: int) -> None:
    fmt = FORMATS[name]
    x = np.random.default_rng(seed).normal(size=(3, 40)).astype(np.float32)
    encoded, values = encode(x, fmt), decode(encode(x, fmt))
    assert np.array_equal(np.signbit(x), encoded.codes >> (fmt.bits - 1) == 1)
    assert np.array_equal(np.signbit(x), np.signbit(values))
    for row in range(3):
        for start in range(0, 40, fmt.block_size or 40):
            part = slice(start, start + (fmt.block_size or 40))
            order = np.argsort(x[row, part], kind="stable")
            assert (np.diff(values[row, part][order]) >= 0).all()


def test_storage_padding_and_axes() -> None:
    assert FOUR.bits_per_element(4096) == 4 + 2 * (16 + 16) / 4096
    x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    encoded = encode(x, FORMATS["4b_blocks"], axis=0, pad=True)
    assert encoded.padding == 2 and decode(encoded).shape == x.shape and encoded.scales.shape == (3, 4, 2)
    with pytest.raises(ValueError, match="does not divide the axis of 30; pad it to 32"):
        encode(x.T, FORMATS["4b_blocks"])
    with pytest.raises(ValueError, match="the axis of the blocks is empty"):
        FOUR.layout((3, 0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bits": 1}, r"bits must be 2 \.\. 8"),
        ({"bits": 9}, r"bits must be 2 \.\. 8"),
        ({"block_size": 0}, "block_size"),
        ({"log_frac_bits": 8}, "log_frac_bits"),
        ({"log_frac_bits": -1}, "log_frac_bits"),
        ({"residual_bits": 0}, "residual_bits"),
        ({"residual_bits": 24}, "residual_bits"),
        ({"offsets": ()}, "offsets"),
        ({"offsets": (0.1, 0.1)}, "different numbers"),
        ({"offsets": (-0.1,)}, "offsets"),
        ({"offsets": (math.nan,)}, "offsets"),
        ({"extent": "all"}, "extent must be"),
        ({"divisor": "codes"}, "divisor must be"),
        ({"zero": "exact"}, "zero must be"),
        ({"nibble_order": "halves"}, "nibble_order must be"),
    ],
)
def test_bad_rules_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FOUR.with_rules(**change)


def test_bad_input_and_corrupt_parts_are_refused() -> None:
    x = np.ones((3, 8), np.float32)
    x[2, 1] = -np.inf
    with pytest.raises(ValueError, match=r"index \[2, 1\].*-inf"):
        encode(x, FOUR)
    good = encode(make("random"), FOUR)
    for side, zero in ((0, 30000), (1, -30000)):
        scales, zeros = good.scales.copy(), good.parts["zeros"].copy()
        scales[3, 0, side], zeros[3, 0, side] = 65535, np.int16(zero).view(np.uint16)
        with pytest.raises(ValueError, match=r"row 3 holds a step and a zero .* beyond \+-1000"):
            decode(good.replace_parts(scales=scales, zeros=zeros))
    searched = encode(make("random"), "twinlog_4b_search")
    for offset in (0.25, np.nan):
        with pytest.raises(ValueError, match=f"the offset is {offset}, allowed"):
            decode(searched.replace_parts(offset=np.array(offset, np.float32)))
    with pytest.raises(ValueError, match="codes hold 16"):
        good.replace_parts(codes=np.full((5, 40), 16, np.uint8))

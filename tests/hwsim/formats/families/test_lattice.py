"""E8P and PVQ against the lists that their sources describe, and searches over all points in integers and rationals."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import Encoded, decode, encode, get
from hwsim.formats.families.lattice import (
    E8PSpec,
    PyramidSpec,
    e8p_points,
    pulse_codes,
    pulse_count,
    pulse_vectors,
)
from tests.hwsim.formats.oracle import half_even

BARE = E8PSpec(name="bare", source="", row_scale="none")


def e8p_oracle() -> list[tuple[int, ...]]:
    """Return all points in quarters, by the words of the format: stored rows of eight coordinates, then signs."""
    rows = [row for row in product((1, 3, 5), repeat=8) if sum(v * v for v in row) <= 40]
    assert len(rows) == 227 and rows == sorted(rows)
    threes = [  # where the 29 rows of norm 12 hold 3/2; 1/2 elsewhere
        "04567", "14567", "24567", "34567", "01245", "01246", "01256", "01247", "01257", "01267", "01345", "01346",
        "01356", "01347", "01357", "01367", "02345", "02346", "02356", "02347", "02357", "12367", "12345", "12346",
        "12356", "12347", "12357", "23567", "01456",
    ]  # fmt: skip
    rows += [tuple(3 if str(i) in places else 1 for i in range(8)) for places in threes]
    points = []
    for code in range(1 << 16):
        stored = [rows[code >> 8][i] for i in (0, 2, 4, 6, 1, 3, 5, 7)]
        if sum(stored) // 2 % 2:
            stored[7] = -stored[7]
        parity = bin(code & 255).count("1") % 2
        signs = code & 255 ^ parity
        turned = [-v if signs >> i & 1 else v for i, v in enumerate(stored)]
        points.append(tuple(2 * turned[i] + (-1 if parity else 1) for i in (0, 4, 1, 5, 2, 6, 3, 7)))
    return points


POINTS = np.array(e8p_oracle())
NORMS = (POINTS**2).sum(axis=1)


def test_all_codes_of_e8p_are_the_described_points_of_e8_and_a_quarter() -> None:
    assert (e8p_points() * 4 == POINTS).all()
    assert len({tuple(point) for point in POINTS.tolist()}) == 1 << 16
    # less 1/4, all coordinates are integers or all are half-integers, and their sum is even: that is E8
    shifted = POINTS - 1
    assert (shifted % 2 == 0).all()
    halves = shifted // 2 % 2
    assert (halves == halves[:, :1]).all() and (shifted.sum(axis=1) % 8 == 0).all()
    # squared distances between points of E8 are even: 32 in quarters
    rng = np.random.default_rng(0)
    a, b = POINTS[rng.integers(0, 1 << 16, (2, 5000))]
    assert (((a - b) ** 2).sum(axis=1) % 32 == 0).all()
    codes = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    decoded = decode(Encoded(BARE, {"codes": codes}, (256, 2048)))
    assert (decoded.reshape(-1, 8) * 4 == POINTS).all()
    assert (encode(decoded, BARE).codes == codes).all()


def e8p_code(x: list[float], scale: float) -> int:
    """Return the lowest code of the nearest points, in integers."""
    if scale == 0:
        steps = [0] * 8
    else:  # the quotient in float64, then a multiple of 2**-24
        steps = [max(-(1 << 40), min(1 << 40, half_even(Fraction(v / scale) * (1 << 24)))) for v in x]
    scores = NORMS * (1 << 22) - 2 * (POINTS @ np.array(steps))  # 4 * 2**24 times the squared distance, less a constant
    return int(np.argmin(scores))  # the first of equals


def e8p_inputs() -> np.ndarray:
    """Return vectors near and far, on points, halfway between two, and with many equally near ones."""
    rng = np.random.default_rng(1)
    points = POINTS / 4
    between = (points[rng.integers(0, 1 << 16, 60)] + points[rng.integers(0, 1 << 16, 60)]) / 2
    return np.concatenate(
        [
            rng.normal(size=(120, 8)), rng.normal(size=(40, 8)) * 3, rng.normal(size=(20, 8)) * 1e6, between,
            rng.integers(-8, 9, (80, 8)) / 4, rng.integers(-2, 3, (60, 8)), rng.integers(-3, 4, (40, 8)) / 8,
            np.zeros((1, 8)), -np.zeros((1, 8)), np.full((1, 8), 1e-40), rng.normal(size=(4, 8)) * 1e30,
            np.nextafter(rng.integers(-8, 9, (40, 8)).astype(np.float32) / 4, np.float32(1)),
        ]
    ).astype(np.float32)  # fmt: skip


def test_the_e8p_search_is_that_over_all_points() -> None:
    x = e8p_inputs()
    codes = encode(x, BARE).codes
    assert codes[:, 0].tolist() == [e8p_code(row.tolist(), 1.0) for row in x]
    # many vectors of whole quarters have several nearest points, of which both must take the lowest
    quarters = (x[240:320] * 4).astype(int)
    ties = [np.sum(s == s.min()) > 1 for s in NORMS - 2 * quarters @ POINTS.T]
    assert np.mean(ties) > 0.4


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_e8p_rows_have_scales(kind: str) -> None:
    rng = np.random.default_rng(2)
    spec = get("e8p").with_rules(row_scale=kind)
    x = rng.normal(size=(7, 24)) * np.array([1, 1e-2, 40, 0, 1e-9, 1e30, 1e-44])[:, None]
    x = x.astype(np.float32)
    encoded = encode(x, spec)
    out, limits = decode(encoded), np.finfo(kind)
    for row in range(len(x)):
        total = 0.0
        for v in x[row].tolist():
            total += v * v
        with np.errstate(over="ignore"):
            scale = float(np.dtype(kind).type(math.sqrt(total / 24) / 1.03))
        scale = min(max(scale, float(limits.smallest_subnormal)), float(limits.max)) if total else 0.0
        assert float(encoded.parts["row_scales"][row : row + 1].view(kind)[0]) == scale
        for n in range(3):
            run = slice(8 * n, 8 * n + 8)
            code = e8p_code(x[row, run].tolist(), scale)
            assert encoded.codes[row, n] == code
            assert (out[row, run] == (POINTS[code] / 4 * scale).astype(np.float32)).all()


def test_e8p_quality_size_and_scaling() -> None:
    spec = get("e8p")
    x = np.random.default_rng(3).normal(size=(8, 2048)).astype(np.float32)
    error = ((decode(encode(x, spec)) - x) ** 2).mean()
    assert 0.085 < error < 0.095  # QuIP#, figure 3: about 0.09 for E8P at 2 bits
    assert spec.bits_per_element(4096) == 2 + 32 / 4096
    assert (encode(np.ldexp(x, 9), spec).codes == encode(x, spec).codes).all()
    once = decode(encode(x, BARE))
    assert (decode(encode(once, BARE)) == once).all()


# V(N, K), N and K from 0 to 9, as printed in a comment of celt/cwrs.c
OPUS_V = [
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [1, 2, 2, 2, 2, 2, 2, 2, 2, 2], [1, 4, 8, 12, 16, 20, 24, 28, 32, 36],
    [1, 6, 18, 38, 66, 102, 146, 198, 258, 326], [1, 8, 32, 88, 192, 360, 608, 952, 1408, 1992],
    [1, 10, 50, 170, 450, 1002, 1970, 3530, 5890, 9290], [1, 12, 72, 292, 912, 2364, 5336, 10836, 20256, 35436],
    [1, 14, 98, 462, 1666, 4942, 12642, 28814, 59906, 115598],
    [1, 16, 128, 688, 2816, 9424, 27008, 68464, 157184, 332688],
    [1, 18, 162, 978, 4482, 16722, 53154, 148626, 374274, 864146],
]  # fmt: skip


def test_there_are_as_many_vectors_as_opus_says() -> None:
    assert [[pulse_count(n, k) for k in range(10)] for n in range(10)] == OPUS_V
    for n, k in product(range(1, 7), range(1, 6)):
        assert pulse_count(n, k) == len(pyramid(n, k))


def pyramid(n: int, k: int) -> list[tuple[int, ...]]:
    """Return all vectors in the order of Opus: K, .. 0, then -K, .. -1, element by element."""
    if n == 1:
        return [(k,), (-k,)] if k else [(0,)]
    firsts = [*range(k, -1, -1), *range(-k, 0)]
    return [(first, *rest) for first in firsts for rest in pyramid(n - 1, k - abs(first))]


@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 9), (2, 1), (2, 7), (3, 4), (4, 3), (5, 5), (6, 2), (7, 3), (8, 4)])
def test_indices_and_vectors_are_one_to_one(n: int, k: int) -> None:
    vectors = np.array(pyramid(n, k))
    codes = np.arange(len(vectors), dtype=np.uint64)
    assert (pulse_codes(vectors) == codes).all()
    assert (pulse_vectors(codes, n, k) == vectors).all()


def index_oracle(y: list[int]) -> int:
    """Return Opus' index from counts alone: how many vectors come before."""
    if len(y) == 1:
        return int(y[0] < 0)
    k, n = sum(map(abs, y)), len(y)
    firsts = [*range(k, -1, -1), *range(-k, 0)]
    before = firsts[: firsts.index(y[0])]
    return sum(pulse_count(n - 1, k - abs(first)) for first in before) + index_oracle(y[1:])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=24).filter(any))
def test_large_indices_go_there_and_back(y: list[int]) -> None:
    k, n = sum(map(abs, y)), len(y)
    if pulse_count(n, k) > 1 << 64:
        with pytest.raises(ValueError, match="takes more than 64 bits"):
            pulse_codes(np.array(y))
        return
    code = pulse_codes(np.array([y]))
    assert int(code[0]) == index_oracle(y)
    assert pulse_vectors(code, n, k)[0].tolist() == y


def test_the_largest_indices_of_64_bits() -> None:
    for n, k in ((32, 22), (16, 58), (64, 14), (4, 32767)):
        top = pulse_count(n, k) - 1
        codes = np.array([0, 1, top // 2, top // 2 + 1, top - 1, top], np.uint64)
        vectors = pulse_vectors(codes, n, k)
        assert vectors[0].tolist() == [k] + [0] * (n - 1)
        assert (pulse_codes(vectors) == codes).all()
        with pytest.raises(ValueError, match="has no vector"):
            pulse_vectors(np.array([top + 1], np.uint64), n, k)


def pyramid_oracle(x: list[float], k: int) -> list[int]:
    """Return the point of the pyramid: exact quotients by the float64 sum, remainders in descending order."""
    total = 0.0
    for v in x:
        total += abs(v)
    if total == 0:
        return [k] + [0] * (len(x) - 1)
    shares = [Fraction(abs(v)) * k / Fraction(total) for v in x]
    y = [math.floor(share) for share in shares]
    order = sorted(range(len(x)), key=lambda j: (y[j] - shares[j], j))
    for j in order[: k - sum(y)]:
        y[j] += 1
    return [-q if v < 0 else q for q, v in zip(y, x, strict=True)]


def pvq_inputs(n: int) -> np.ndarray:
    """Return vectors of every kind, [rows, 2 n]."""
    rng = np.random.default_rng(n)
    shape = (8, 2 * n)
    wide = np.ldexp(rng.uniform(-1, 1, shape), rng.integers(-140, 100, shape))
    kinds = [
        rng.normal(size=shape), rng.integers(-3, 4, shape), rng.choice([-1.0, 1.0], shape), wide, wide * 0,
        np.ldexp(rng.integers(-5, 6, shape).astype(float), -149), rng.choice([3e38, -3e38, 0, 1], shape),
        -np.eye(*shape),
    ]  # fmt: skip
    return np.concatenate(kinds).astype(np.float32)


SPECS = (
    PyramidSpec(name="a", source="", vector_size=4, pulses=3),
    PyramidSpec(name="b", source="", vector_size=8, pulses=6, gain_format="float32"),
    PyramidSpec(name="c", source="", vector_size=6, pulses=5, gain_rule="norm"),
    PyramidSpec(name="d", source="", vector_size=32, pulses=22, gain_rule="norm", gain_format="float32"),
    PyramidSpec(name="e", source="", vector_size=1, pulses=1),
    PyramidSpec(name="f", source="", vector_size=3, pulses=300),
)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_pulses_and_gains(spec: PyramidSpec) -> None:
    x, n = pvq_inputs(spec.vector_size), spec.vector_size
    encoded = encode(x, spec)
    out, kind = decode(encoded), np.dtype(spec.gain_format).type
    vectors = pulse_vectors(encoded.codes.astype(np.uint64), n, spec.pulses)
    for row, index in np.ndindex(len(x), 2):
        run = slice(index * n, index * n + n)
        values = x[row, run].tolist()
        y = pyramid_oracle(values, spec.pulses)
        assert vectors[row, index].tolist() == y
        product_, squares, power = 0.0, float(sum(q * q for q in y)), 0.0
        for v, q in zip(values, y, strict=True):
            product_ += v * q
            power += v * v
        raw = math.sqrt(power) if spec.gain_rule == "norm" else product_ / squares
        gain = kind(min(raw if any(values) else 0.0, float(np.finfo(kind).max)))
        assert encoded.parts["gains"][row, index : index + 1].view(kind)[0] == gain
        step = float(gain) / (math.sqrt(squares) if spec.gain_rule == "norm" else 1.0)
        with np.errstate(over="ignore"):
            assert out[row, run].tolist() == [float(np.float32(q * step)) for q in y]


@pytest.mark.parametrize(("n", "k"), [(2, 5), (3, 4), (4, 3), (5, 2)])
def test_the_point_is_the_nearest_of_the_pyramid(n: int, k: int) -> None:
    spec = PyramidSpec(name="near", source="", vector_size=n, pulses=k)
    x = np.random.default_rng(k).integers(-9, 10, (60, n)).astype(np.float32)
    x = x[x.any(axis=1)]
    found = pulse_vectors(encode(x, spec).codes[:, 0].astype(np.uint64), n, k)
    everything = pyramid(n, k)
    for row, y in zip(x.astype(int).tolist(), found.tolist(), strict=True):
        total = sum(map(abs, row))  # distances times the sum: integers
        distances = [sum((k * v - total * q) ** 2 for v, q in zip(row, point, strict=True)) for point in everything]
        assert sum((k * v - total * q) ** 2 for v, q in zip(row, y, strict=True)) == min(distances)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-5, 5))
def test_pyramid_properties(seed: int, power: int) -> None:
    x = np.random.default_rng(seed).normal(size=(2, 64)).astype(np.float32)
    for spec in SPECS[:4]:
        k = x.shape[1] - x.shape[1] % spec.vector_size
        part = x[:, :k].copy()
        once = encode(part, spec)
        assert (encode(decode(once), spec).codes == once.codes).all()
        if spec.gain_format == "float32":
            assert (decode(encode(np.ldexp(part, power), spec)) == np.ldexp(decode(once), power)).all()


def test_pyramid_size_and_quality() -> None:
    assert get("pvq_n16_k12").bits_per_element(4096) == (32 + 16) / 16
    assert get("pvq_n8_k6").bits_per_element(4096) == (15 + 16) / 8
    assert get("pvq_n32_k22").bits_per_element(4096) == (64 + 16) / 32
    x = np.random.default_rng(5).normal(size=(16, 256)).astype(np.float32)
    errors = [((decode(encode(x, name)) - x) ** 2).mean() for name in ("pvq_n8_k6", "pvq_n16_k12", "pvq_n32_k22")]
    assert max(errors) < 0.11


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"vector_size": 0}, "vector_size must be 1 to 1024, not 0"),
        ({"pulses": 0}, "pulses must be 1 to 32767, not 0"),
        ({"vector_size": 16, "pulses": 59}, "an index of 16 elements and 59 pulses takes more than 64 bits"),
        ({"gain_format": "bfloat16"}, "gain_format is 'bfloat16', allowed: float16, float32"),
        ({"gain_rule": "max"}, "gain_rule is 'max', allowed: least_squares, norm"),
        ({"search": "opus"}, "search is 'opus', allowed: projection"),
        ({"row_scale": "float32"}, "row_scale is 'float32', allowed: none"),
    ],
)
def test_rules_that_do_not_go_together_are_refused(rules: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        get("pvq_n16_k12").with_rules(**rules)
    with pytest.raises(ValueError, match="shift is 'minus', allowed: plus_quarter_when_even"):
        get("e8p").with_rules(shift="minus")


def test_bad_input_is_refused() -> None:
    x = np.ones((2, 16), np.float32)
    encoded = encode(x, "pvq_n8_k6")
    with pytest.raises(ValueError, match=r"index 27008 has no vector, allowed 0 \.\. 27007"):
        decode(encoded.replace_parts(codes=np.full((2, 2), 27008, np.uint16)))
    with pytest.raises(ValueError, match="codes hold 32768"):
        encoded.replace_parts(codes=np.full((2, 2), 32768, np.uint16))
    with pytest.raises(ValueError, match=r"gains \[0, 0\] is inf; allowed: finite, 0 or more"):
        decode(encoded.replace_parts(gains=np.full((2, 2), 0x7C00, np.uint16)))
    with pytest.raises(ValueError, match=r"row_scales \[0\] is -1.0; allowed: finite"):
        decode(encode(x, "e8p").replace_parts(row_scales=np.full(2, -1, np.float32).view(np.uint32)))
    with pytest.raises(ValueError, match=r"one positive sum in all vectors, not \[1, 2\]"):
        pulse_codes(np.array([[1, 1], [1, 0]]))
    for name, size in (("e8p", 8), ("pvq_n8_k6", 8)):
        with pytest.raises(ValueError, match=rf"block of {size} does not divide the axis of 13; pad it to 16"):
            encode(x[:, :13].copy(), name)
        assert decode(encode(x[:, :13].copy(), name, pad=True)).shape == (2, 13)
        bad = x.copy()
        bad[1, 2] = -np.inf
        with pytest.raises(ValueError, match=r"index \[1, 2\] .* is -inf"):
            encode(bad, name)

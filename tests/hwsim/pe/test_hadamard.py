"""The Walsh-Hadamard unit against the matrix, against NumPy's binary16 and against its own plain reference."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.pe import hadamard, unit
from hwsim.pe._stream import split

SHAPES = [(16, 16), (16, 1), (32, 8), (64, 16), (128, 128), (128, 4)]


def sylvester(points: int) -> np.ndarray:
    """Return the matrix in natural order by its recursion, int64 [points, points]."""
    matrix = np.ones((1, 1), np.int64)
    while len(matrix) < points:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def fp16_by_numpy(x: np.ndarray) -> np.ndarray:
    """Return the butterflies of ascending stride in NumPy's own binary16 arithmetic."""
    y, stride = x.copy(), 1
    with np.errstate(all="ignore"):
        while stride < y.shape[1]:
            pairs = y.reshape(len(y), -1, 2, stride)
            a, b = pairs[:, :, 0].copy(), pairs[:, :, 1].copy()
            pairs[:, :, 0], pairs[:, :, 1] = a + b, a - b
            stride *= 2
    return y


@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize("points", [16, 32, 64, 128])
def test_integers_are_the_product_with_the_matrix(points: int, seed: int | None) -> None:
    params = hadamard.Params(points=points, signs_seed=seed, in_bits=12)
    x = np.random.default_rng(points).integers(-2048, 2048, (30, points))
    x[0], x[1] = -2048, 2047
    got = hadamard.transform(x, params)
    np.testing.assert_array_equal(got, (x * np.array(params.signs)) @ sylvester(points))
    plain = hadamard.Params(points=points, in_bits=24)
    assert (hadamard.transform(hadamard.transform(x, hadamard.Params(points=points, in_bits=12)), plain)
            == points * x).all()  # fmt: skip


@pytest.mark.parametrize("rounding", ["rne", "rdn"])
@pytest.mark.parametrize("shift", [1, 3, 9])
def test_a_shift_rounds_the_exact_sum(shift: int, rounding: str) -> None:
    params = hadamard.Params(shift=shift, rounding=rounding)
    x = np.random.default_rng(shift).integers(-128, 128, (200, 16))
    exact = x @ sylvester(16)
    got = hadamard.transform(x, params)
    for value, found in zip(exact.ravel().tolist(), got.ravel().tolist(), strict=True):
        quotient = Fraction(value, 1 << shift)
        assert found == (round(quotient) if rounding == "rne" else quotient.__floor__())


@pytest.mark.parametrize("norm", ["none", "rsqrt"])
@pytest.mark.parametrize("points", [16, 32, 128])
def test_fp16_is_numpys_arithmetic_stage_by_stage(points: int, norm: str) -> None:
    params = hadamard.Params(points=points, arithmetic="fp16", in_bits=16, norm=norm, signs_seed=3)
    rng = np.random.default_rng(points)
    x = rng.integers(0, 1 << 16, (200, points)).astype(np.uint16)
    x[:120] &= 0xBBFF  # most rows without Inf and NaN
    x[150:] &= 0x83FF  # subnormals
    x[:2], x[1, 3] = 0, 0x7C00
    x[2:20] = x[2:20] & 0x83FF | 0x7400  # sums overflow
    values = x.view(np.float16)
    with np.errstate(all="ignore"):
        want = fp16_by_numpy(np.where(np.array(params.signs) < 0, -values, values))
        if norm == "rsqrt":
            want = want * np.float16(1 / np.sqrt(points))
    got = hadamard.transform(values, params)
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got.view(np.uint16)[~nan], want.view(np.uint16)[~nan])
    assert nan.any() and np.isinf(want).any()


def test_a_power_of_two_rounds_only_subnormals() -> None:
    params = hadamard.Params(arithmetic="fp16", in_bits=16, shift=5)
    x = np.random.default_rng(0).integers(0, 0x3C00, (300, 16)).astype(np.uint16)
    x[100:] &= 0xFF
    sums = fp16_by_numpy(x.view(np.float16))
    want = (sums.astype(np.float64) / 32).astype(np.float16)
    np.testing.assert_array_equal(hadamard.transform(x.view(np.float16), params).view(np.uint16), want.view(np.uint16))
    assert (want.astype(np.float64) * 32 != sums).any()


@pytest.mark.parametrize("name", hadamard.configurations())
def test_the_kernel_gives_the_bits_of_the_reference(name: str) -> None:
    params = hadamard.configurations()[name]
    beats = hadamard.operands(params, 40, np.random.default_rng(1))
    each = zip(split(beats, params.datapath.beats),
               split(hadamard.outputs(beats, params), params.datapath.results), strict=True)  # fmt: skip
    for vector, results in each:
        np.testing.assert_array_equal(hadamard.reference(vector, params)["y"], results["y"])


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_adding_fp16_is_numpys_addition(a: int, b: int) -> None:
    x, y = np.array([a, b], np.uint16).view(np.float16)
    with np.errstate(all="ignore"):
        want = x + y
    got = hadamard.add_fp16(a, b)
    assert got == (0x7E00 if np.isnan(want) else int(want.view(np.uint16)))


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("bits", [2, 8])
def test_the_width_is_reached_and_never_exceeded(bits: int, seed: int | None) -> None:
    params = hadamard.Params(in_bits=bits, signs_seed=seed)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    signed = sylvester(16) * np.array(params.signs)
    extremes = np.concatenate([np.where(signed > 0, high, low), np.where(signed > 0, low, high)])
    sums = extremes @ signed.T
    assert (sums.min(), sums.max()) == params.bounds
    assert params.out_bits == bits + 4
    got = hadamard.transform(extremes, params)
    assert (int(got.min()), int(got.max())) == params.bounds


@pytest.mark.parametrize(("points", "lanes"), SHAPES)
def test_timing_counts_each_beat_once(points: int, lanes: int) -> None:
    params = hadamard.Params(points=points, lanes=lanes)
    beats = points // lanes
    assert params.datapath.latency == int(np.log2(lanes)) + beats - 1
    assert hadamard.cycles(10, params) == 10 * beats + params.datapath.latency + beats - 1
    assert hadamard.actions(3, params) == {"add_int32": 3 * points * int(np.log2(points))}


def test_signs_are_the_librarys_and_of_both_kinds() -> None:
    signs = hadamard.Params(points=128, signs_seed=5).signs
    assert signs[:16] == hadamard.Params(points=16, signs_seed=5).signs
    assert set(signs) == {1, -1} and signs != hadamard.Params(points=128, signs_seed=6).signs


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"points": 24}, "points must be 16, 32, 64 or 128, not 24"),
        ({"lanes": 3}, "power of two up to points = 16, not 3"),
        ({"lanes": 32}, "power of two up to points = 16, not 32"),
        ({"arithmetic": "bf16"}, "int or fp16, not 'bf16'"),
        ({"in_bits": 25}, "in_bits must be 2 to 24, not 25"),
        ({"arithmetic": "fp16"}, "in_bits must be 16, not 8"),
        ({"signs_seed": -1}, "signs_seed must be None or 0 to"),
        ({"shift": 32}, "shift must be 0 to 31, not 32"),
        ({"rounding": "rtz"}, "rne or rdn, not 'rtz'"),
        ({"arithmetic": "fp16", "in_bits": 16, "rounding": "rdn"}, "rounding must be rne, not 'rdn'"),
        ({"norm": "rsqrt"}, "norm must be none, not 'rsqrt'"),
        ({"arithmetic": "fp16", "in_bits": 16, "norm": "rsqrt", "shift": 1}, "exclude each other"),
    ],
)
def test_bad_params_are_named(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=f"hadamard: .*{words}"):
        unit("hadamard").Params(**fields)


def test_bad_operands_are_named() -> None:
    params = hadamard.Params()
    with pytest.raises(TypeError, match="int takes integers, not float16"):
        hadamard.transform(np.zeros((1, 16), np.float16), params)
    with pytest.raises(ValueError, match=r"must be \[rows, 16\], not \[2, 15\]"):
        hadamard.transform(np.zeros((2, 15), np.int64), params)
    with pytest.raises(ValueError, match=r"integers 0 \.\. 128 do not fit 8 bits"):
        hadamard.transform(np.eye(16, dtype=np.int64) * 128, params)

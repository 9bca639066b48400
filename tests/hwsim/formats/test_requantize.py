"""Requantisation: every rule against its definition in rationals, published values, Vela, and its bounds."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import requantize as module
from hwsim.formats.requantize import (
    METHODS,
    Requant,
    multiply,
    quantize_multiplier,
    requantize,
    requantize_sum,
    to_codes,
)

NAMES = [name for name, rule in METHODS.items() if name == rule.name]
EXACT = [name for name in NAMES if name != "hawq_v3_float64"]
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def half_away(value: Fraction) -> int:
    return half_up(value) if value >= 0 else -half_up(-value)


def half_even(value: Fraction) -> int:
    return round(value)  # of a Fraction: exact, ties to even


def oracle(acc: int, multiplier: int, shift: int, method: str) -> int:
    """State each rule in rationals."""
    power = Fraction(2) ** shift
    if method == "gemmlowp":
        first = half_up(Fraction(acc * multiplier, 1 << 31) * max(power, 1))
        return half_away(min(first, INT32_MAX) * min(power, 1))
    if method == "tflite_single":
        return half_up(Fraction(acc * multiplier, 1 << 31) * power)
    if method == "tflite_reduced":
        reduced = min(half_up(Fraction(multiplier, 1 << 16)), 0x7FFF)
        return half_up(Fraction(acc * reduced, 1 << 15) * power)
    product = acc * multiplier if method == "hawq_v3" else int(float(acc) * float(multiplier))
    return half_even(Fraction(product, 1 << 31) * power)


def clamped(value: int, zero: int, low: int, high: int) -> int:
    return min(max(value + zero, low), high)


def accumulators_for(method: str, multiplier: int, shift: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return ends of the bounds, small numbers, numbers with small results, and ties where there are."""
    low, high = module._bounds(METHODS[method], shift)
    scale = multiplier * 2.0 ** (shift - 31) or 1.0
    near = (rng.integers(-300, 300, count) / 2 / scale).clip(low, high).astype(np.int64)
    any_size = np.ldexp(rng.uniform(-1, 1, count), rng.integers(1, 48, count)).clip(low, high).astype(np.int64)
    small = np.arange(-9, 10).clip(low, high)
    all_kinds = [[low, low + 1, high - 1, high], small, near, any_size, near // 2 * 2, near // 64 * 64]
    return np.concatenate(all_kinds).clip(low, high)


# --- rounding


@pytest.mark.parametrize("name", NAMES)
def test_every_tie_and_its_neighbours_by_the_rule(name: str) -> None:
    """A multiplier of one bit makes every odd multiple of half a step a tie: exhaustive over 2**10 of them."""
    for shift in (-12, -5, -1, 0, 1):
        multiplier = 1 << 30
        step = 1 << (1 - shift) if shift <= 1 else 1  # accumulator of one result step
        acc = np.arange(-512, 513) * max(step // 2, 1)
        acc = np.concatenate([acc - 1, acc, acc + 1]).astype(np.int32)
        want = [oracle(int(a), multiplier, shift, name) for a in acc]
        got = requantize(acc, Requant((multiplier,), (shift,), name, qmin=-(1 << 20), qmax=1 << 20))
        assert got.tolist() == want
        assert [multiply(int(a), multiplier, shift, name) for a in acc] == want


@pytest.mark.parametrize(
    ("name", "ties"),
    [  # -3/2, -1/2, 1/2, 3/2
        ("gemmlowp", {0: [-1, 0, 1, 2], -1: [-2, -1, 1, 2]}),
        ("tflite_single", {0: [-1, 0, 1, 2], -1: [-1, 0, 1, 2]}),
        ("tflite_reduced", {0: [-1, 0, 1, 2], -1: [-1, 0, 1, 2]}),
        ("hawq_v3", {0: [-2, 0, 0, 2], -1: [-2, 0, 0, 2]}),
        ("hawq_v3_float64", {0: [-2, 0, 0, 2], -1: [-2, 0, 0, 2]}),
    ],
)
def test_ties_by_hand(name: str, ties: dict[int, list[int]]) -> None:
    """gemmlowp: the multiplication sends -1/2 to 0, the shift to -1 (fixedpoint.h, run)."""
    for shift, want in ties.items():
        acc = np.array([-3, -1, 1, 3], np.int32) * (1 << -shift)
        assert requantize(acc, Requant((1 << 30,), (shift,), name)).tolist() == want


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("name", NAMES)
def test_random_constants_and_accumulators_up_to_the_bounds(name: str, dtype: type) -> None:
    rng = np.random.default_rng([NAMES.index(name), np.dtype(dtype).itemsize])
    rule, info = METHODS[name], np.iinfo(dtype)
    for _ in range(60):
        shift = int(rng.integers(max(rule.shifts[0], -40), rule.shifts[1] + 1))
        multiplier = int(
            rng.choice([rng.integers(*rule.multipliers), rng.integers(1 << 30, 1 << 31), *rule.multipliers])
        )
        acc = accumulators_for(name, multiplier, shift, rng, 12).clip(info.min, info.max).astype(dtype)
        zero, low = int(rng.integers(-128, 128)), int(rng.integers(-(1 << 20), 0))
        got = requantize(acc, Requant((multiplier,), (shift,), name, zero, low, low + 70_000))
        want = [oracle(int(a), multiplier, shift, name) for a in acc]
        assert [multiply(int(a), multiplier, shift, name) for a in acc] == want
        assert got.tolist() == [clamped(value, zero, low, low + 70_000) for value in want]


def test_a_shift_of_no_bits_rounds_nothing() -> None:
    acc = np.arange(-100, 101, dtype=np.int64)
    for multiplier in (1, 3):
        want = acc * multiplier
        for name in ("hawq_v3", "hawq_v3_float64"):
            got = requantize(acc, Requant((multiplier,), (31,), name, qmin=-1000, qmax=1000))
            np.testing.assert_array_equal(got, want)
            assert [multiply(int(a), multiplier, 31, name) for a in acc] == want.tolist()


def test_the_product_of_two_smallest_numbers_saturates() -> None:
    assert multiply(INT32_MIN, INT32_MIN, 0) == INT32_MAX
    both = np.full(3, INT32_MIN, np.int32)
    assert requantize(both, Requant((INT32_MIN,), (0,), qmin=INT32_MIN, qmax=INT32_MAX)).tolist() == [INT32_MAX] * 3
    assert multiply(INT32_MIN, INT32_MAX, 0) == -INT32_MAX
    assert quantize_multiplier(-1 + 1e-12) == (INT32_MIN, 0)


def test_two_roundings_differ_from_one() -> None:
    """1.49999 steps: first rounded up to a tie, then away from zero."""
    acc, multiplier, shift = 5, (1 << 30) + (1 << 27), -1  # 5 * 0.5625 / 2 = 1.40625; first 2.8125 -> 3, then 1.5 -> 2
    assert multiply(acc, multiplier, shift, "gemmlowp") == 2
    assert multiply(acc, multiplier, shift, "tflite_single") == 1
    assert multiply(acc, multiplier, shift, "hawq_v3") == 1


def test_the_float64_product_of_hawq_differs_where_it_needs_more_than_53_bits() -> None:
    acc, multiplier, shift = 2147077881, 2063831881, -14
    assert acc * multiplier == (125942 << 45) + (1 << 44) + 1  # just above a tie
    exact = [multiply(a, multiplier, shift, "hawq_v3") for a in (acc, -acc)]
    rounded = [multiply(a, multiplier, shift, "hawq_v3_float64") for a in (acc, -acc)]
    assert exact == [125943, -125943]
    assert rounded == [125942, -125942]  # float64 loses the 1, and ties go to even
    for name, want in (("hawq_v3", exact), ("hawq_v3_float64", rounded)):
        got = requantize(
            np.array([acc, -acc], np.int64), Requant((multiplier,), (shift,), name, 0, -(1 << 24), 1 << 24)
        )
        assert got.tolist() == want


def test_hawq_float64_is_its_formula_in_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    acc = rng.integers(-(1 << 31), 1 << 31, 5000)
    for scale in (1e-9, 3.3e-8, 0.7, 1.0, 2.0**-31, 5e-30):
        multiplier, shift = quantize_multiplier(scale, "hawq_v3_float64")
        z, m = torch.from_numpy(acc).double(), torch.tensor(multiplier).double()
        want = torch.clamp(torch.round(z * m / 2.0 ** (31 - shift)).float(), -128, 127).numpy()
        got = requantize(acc, Requant((multiplier,), (shift,), "hawq_v3_float64"))
        np.testing.assert_array_equal(got, want)


# --- outside witnesses


def test_vela_gives_the_same_for_every_sign_shift_and_tie() -> None:
    fp_math = pytest.importorskip("ethosu.vela.fp_math")  # Arm's compiler: gemmlowp in Python
    rng = np.random.default_rng(7)
    for shift in range(-31, 12):
        multiplier = int(rng.integers(1 << 30, 1 << 31))
        acc = accumulators_for("gemmlowp", multiplier, shift, rng, 4)
        want = [int(fp_math.multiply_by_quantized_multiplier(int(a), multiplier, 31 - shift)) for a in acc]
        got = requantize(acc, Requant((multiplier,), (shift,), qmin=INT32_MIN, qmax=INT32_MAX))
        assert got.tolist() == want
    for value in (*range(-40, 41), INT32_MIN, INT32_MAX):
        for exponent in range(6):
            assert module._divide_by_power(value, exponent) == fp_math.rounding_divide_by_pot(value, exponent)
    for multiplier in (1, 0x7FFF, 0x8000, 0x18000, 0x7FFEFFFF, 0x7FFF0000, INT32_MAX):
        assert module._reduced(multiplier) == fp_math.downscale_multiplier_int32_to_int16(multiplier)


def test_vela_splits_the_same_multipliers() -> None:
    scaling = pytest.importorskip("ethosu.vela.scaling")
    for real in [*np.geomspace(1e-9, 1e9, 500), 0.5, 1.0, 0.3, 2.0**-20, 3 * 2.0**-25]:
        multiplier, right = scaling.quantise_scale(float(real))
        assert quantize_multiplier(float(real), "hawq_v3") == (multiplier, 31 - right)
        if multiplier < 1 << 31:  # Vela leaves 2**31 as it is
            assert quantize_multiplier(float(real)) == (multiplier, 31 - right)


def test_multipliers_published_in_tflite() -> None:
    """tensorflow/lite/kernels/internal/quantization_util_test.cc: QuantizeMultiplier, SmallerThanOneExp, Underflow."""
    published = {
        **{0.25: (1 << 30, -1), 0.50 - 5e-9: (2147483627, -1), 0.50 - 1e-10: (1 << 30, 0), 0.50: (1 << 30, 0)},
        **{0.75: (1610612736, 0), 1 - 1e-9: (2147483646, 0), 1 + 1e-11: (1 << 30, 1), 1.25: (1342177280, 1)},
        **{1.5: (1610612736, 1), 1.75: (1879048192, 1), 2 - 1e-9: (2147483647, 1), 2 - 1e-11: (1 << 30, 2)},
        **{-4: (-(1 << 30), 3), -0.125: (-(1 << 30), -2), 0: (0, 0), 0.125: (1 << 30, -2), 4: (1 << 30, 3)},
        **{2.0**-31: (1 << 30, -30), 2.0**-32: (1 << 30, -31), 2.0**-33: (0, 0), 2.0**-34: (0, 0)},
    }
    for real, want in published.items():
        assert quantize_multiplier(real) == want, real
        if real >= 0:
            assert quantize_multiplier(real, "tflite_single") == want


MAX = INT32_MAX
RUY_HIGH_MUL = [
    *[(1000, MAX, 0, 1000), (1000, 1 << 30, 0, 500), (1000, 1 << 29, 0, 250), (1000, (1 << 30) + (1 << 29), 0, 750)],
    *[(1000, (1 << 30) + (1 << 28), 0, 625), (1000, (1 << 30) + (1 << 27), 0, 563)],
    *[(1000, (1 << 30) + (1 << 26), 0, 531), (-1000, MAX, 0, -1000), (-1000, 1 << 30, 0, -500)],
    *[(-1000, 1 << 29, 0, -250), (-1000, (1 << 30) + (1 << 29), 0, -750), (-1000, (1 << 30) + (1 << 28), 0, -625)],
    *[(-1000, (1 << 30) + (1 << 27), 0, -562), (-1000, (1 << 30) + (1 << 26), 0, -531)],
    *[(1000, MAX, 1, 2000), (1000, MAX, 2, 4000), (1000, MAX, 3, 8000)],
    *[(-1000, MAX, 1, -2000), (-1000, MAX, 2, -4000), (-1000, MAX, 3, -8000)],
]
RUY_SHIFT = [(1000, 1, 500), (1000, 2, 250), (1000, 3, 125), (1000, 4, 62), (1000, 5, 31), (1000, 6, 16)]


def test_results_published_in_ruy() -> None:
    """ruy/apply_multiplier_test.cc; ruy rounds once, which shows at 62.5 - 2**-25 and its negative."""
    for acc, multiplier, shift, want in RUY_HIGH_MUL:
        for name in ("gemmlowp", "tflite_single"):
            assert multiply(acc, multiplier, shift, name) == want
    for acc, right, want in RUY_SHIFT:
        for sign in (1, -1):
            assert multiply(sign * acc, MAX, -right, "tflite_single") == sign * want
            assert multiply(sign * acc, MAX, -right, "gemmlowp") == sign * (63 if right == 4 else want)


# --- multipliers


@given(st.floats(2.0**-31, 2.0**29))
@settings(max_examples=25)
def test_a_split_multiplier_is_the_nearest_of_31_bits(real: float) -> None:
    for name in NAMES:
        if real >= 64 and name == "tflite_reduced":
            continue
        multiplier, shift = quantize_multiplier(real, name)
        assert 1 << 30 <= multiplier <= 1 << 31
        assert (multiplier < 1 << 31) or name.startswith("hawq")
        error = abs(Fraction(real) - Fraction(multiplier) * Fraction(2) ** (shift - 31))
        assert error <= Fraction(1, 2) * Fraction(2) ** (math.frexp(real)[1] - 31)


def test_half_a_multiplier_step_goes_up_and_2_to_the_31_is_kept_by_hawq_alone() -> None:
    tie = ((1 << 30) + Fraction(1, 2)) / (1 << 31)
    assert quantize_multiplier(float(tie)) == ((1 << 30) + 1, 0)
    assert quantize_multiplier(-float(tie)) == (-(1 << 30) - 1, 0)
    top = 1 - 2.0**-40
    assert quantize_multiplier(top) == (1 << 30, 1)
    assert quantize_multiplier(top, "hawq_v3") == (1 << 31, 0)
    assert quantize_multiplier(2.0**-40, "hawq_v3") == (1 << 30, -39)
    assert quantize_multiplier(0.0, "hawq_v3") == (0, 0)
    tiny = Requant.from_scale(2.0**-1074, "hawq_v3")
    assert requantize(np.array([INT32_MAX, INT32_MIN], np.int32), tiny).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("real", "method", "words"),
    [
        (math.nan, "gemmlowp", "must be finite, not nan"),
        (math.inf, "hawq_v3", "finite and not negative, not inf"),
        (-0.5, "tflite_single", "finite and not negative, not -0.5"),
        (2.0**30, "tflite_single", "needs a left shift of 31, allowed 30"),
        (128.0, "tflite_reduced", "needs a left shift of 8, allowed 7"),
        (2.0**31, "dyadic", "needs a left shift of 32, allowed 31"),
        (0.5, "exact", "unknown method 'exact'; known: gemmlowp, "),
    ],
)
def test_multipliers_that_a_method_cannot_hold_are_refused(real: float, method: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        quantize_multiplier(real, method)
    with pytest.raises(ValueError, match=words):
        Requant.from_scale(real, method)


# --- tensors


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
@pytest.mark.parametrize("name", NAMES)
def test_channels_lie_on_the_named_axis(name: str, axis: int) -> None:
    rng = np.random.default_rng(axis + 9)
    acc = rng.integers(-20_000, 20_000, (3, 4, 2)).astype(np.int32)
    scales = rng.uniform(0.001, 0.02, acc.shape[axis])
    constants = Requant.from_scale(scales, name, 5, -100, 100, axis)
    got = requantize(acc, constants)
    assert got.dtype == np.int8
    moved, result = np.moveaxis(acc, axis, 0), np.moveaxis(got, axis, 0)
    for channel, (multiplier, shift) in enumerate(zip(constants.multiplier, constants.shift, strict=True)):
        one = requantize(moved[channel], Requant((multiplier,), (shift,), name, 5, -100, 100))
        np.testing.assert_array_equal(result[channel], one)
        want = [clamped(oracle(int(a), multiplier, shift, name), 5, -100, 100) for a in moved[channel].ravel()]
        assert result[channel].ravel().tolist() == want


@pytest.mark.parametrize("shape", [(3, 20_000), (20_000, 3), (1, 40_001), (1,)])
def test_large_tensors_are_cut_in_pieces_without_seams(shape: tuple[int, ...]) -> None:
    acc = np.random.default_rng(1).integers(-(1 << 20), 1 << 20, shape).astype(np.int32)
    for axis in range(len(shape)):
        scales = np.geomspace(1e-5, 1e-3, shape[axis])
        constants = Requant.from_scale(scales, "hawq_v3", axis=axis)
        got = requantize(acc, constants)
        real = np.array(constants.multiplier) * 2.0 ** (np.array(constants.shift) - 31)
        want = acc * real.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        assert np.abs(got - want.clip(-128, 127)).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(
        requantize(acc.T.copy().T, Requant((1 << 30,), (-9,))), requantize(acc, Requant((1 << 30,), (-9,)))
    )


def test_dtypes_follow_the_range_and_codes_are_bit_patterns() -> None:
    acc = np.array([-(10**6), -3, 0, 3, 10**6], np.int64)
    for low, high, dtype in [
        *[(-128, 127, np.int8), (-8, 7, np.int8), (0, 255, np.uint8), (0, 15, np.uint8), (-129, 127, np.int16)],
        *[(-128, 128, np.int16), (0, 256, np.uint16), (-(1 << 15), 5, np.int16), (INT32_MIN, INT32_MAX, np.int32)],
        (0, INT32_MAX, np.uint32),
    ]:
        got = requantize(acc, Requant((1 << 30,), (1,), qmin=low, qmax=high))
        assert got.dtype == dtype
        assert got.tolist() == [min(max(int(a), low), high) for a in acc]
    codes = to_codes(np.arange(-8, 8, dtype=np.int8), 4)
    assert codes.dtype == np.uint8
    assert codes.tolist() == [*range(8, 16), *range(8)]
    assert to_codes(np.array([-1, 5], np.int32), 12).tolist() == [4095, 5]
    assert to_codes(np.array([-128, 127], np.int8), 8).tolist() == [128, 127]
    assert to_codes(np.array([0, 15], np.uint8), 4).tolist() == [0, 15]
    for wrong in (-9, 16):
        with pytest.raises(ValueError, match="do not fit 4 bits"):
            to_codes(np.array([0, wrong], np.int8), 4)


def test_residual_branches_are_rounded_each_and_clamped_once() -> None:
    a, b = np.array([1, 300, -300, 100], np.int32), np.array([1, -200, 100, 100], np.int32)
    one, two = Requant((1 << 30,), (0,), "hawq_v3"), Requant((3 << 29,), (0,), "hawq_v3")  # 0.5 and 0.75
    # 0.5 -> 0 and 0.75 -> 1; 150 - 150; -150 + 75; 50 + 75: only the sum is clamped
    assert requantize_sum([(a, one), (b, two)]).tolist() == [1, 0, -75, 125]
    assert requantize_sum([(a, one), (b, two)], 0, 100).tolist() == [1, 0, 0, 100]
    assert requantize_sum([(a, one)]).tolist() == [0, 127, -128, 50]
    with pytest.raises(ValueError, match="one shape"):
        requantize_sum([(a, one), (b[:2], two)])
    with pytest.raises(ValueError, match="one shape"):
        requantize_sum([])
    with pytest.raises(ValueError, match=r"not be 5 \.\. 4"):
        requantize_sum([(a, one)], 5, 4)


def test_empty_tensors_and_aliases() -> None:
    assert requantize(np.zeros((0, 3), np.int32), Requant.from_scale([0.1, 0.2, 0.3], axis=1)).shape == (0, 3)
    acc = np.arange(-50, 50, dtype=np.int32)
    for alias, name in (("tflite_double", "gemmlowp"), ("dyadic", "hawq_v3")):
        assert METHODS[alias] is METHODS[name]
        np.testing.assert_array_equal(
            requantize(acc, Requant.from_scale(0.25, alias)), requantize(acc, Requant.from_scale(0.25, name))
        )
        assert multiply(7, 1 << 30, 0, alias) == multiply(7, 1 << 30, 0, name)
    assert all(rule.source and rule.rounding for rule in METHODS.values())


def test_the_stated_bounds_keep_int64_from_overflowing() -> None:
    for rule in METHODS.values():
        factor = 0x7FFF if rule.name == "tflite_reduced" else max(abs(m) for m in rule.multipliers)
        nudge = {"gemmlowp": 1 << 30, "tflite_single": 1 << 61, "tflite_reduced": 1 << 45}.get(rule.name, 0)
        assert max(abs(a) for a in rule.accumulators) * factor + nudge < 1 << 63


# --- what is refused


@pytest.mark.parametrize("name", NAMES)
def test_an_accumulator_outside_the_bounds_is_named(name: str) -> None:
    for shift in (0, 5):
        low, high = module._bounds(METHODS[name], shift)
        for bad in (low - 1, high + 1):
            acc = np.zeros((2, 3), np.int64)
            acc[1, 2] = bad
            with pytest.raises(ValueError, match=rf"accumulator {bad} at index \[1, 2\] is outside {low} \.\. {high}"):
                requantize(acc, Requant((1 << 30,), (shift,), name))
            with pytest.raises(ValueError, match=f"accumulator {bad} with shift {shift} is outside"):
                multiply(bad, 1 << 30, shift, name)
            acc[1, 2] = low if bad < 0 else high
            requantize(acc, Requant((1 << 30,), (shift,), name))


def test_bounds_are_those_of_the_channel() -> None:
    constants = Requant((1 << 30, 1 << 30), (0, 20), axis=1)
    with pytest.raises(ValueError, match=r"accumulator 2048 at index \[0, 1\] is outside -2048 \.\. 2047"):
        requantize(np.array([[5000, 2048], [5000, -2048]], np.int32), constants)
    with pytest.raises(ValueError, match=r"accumulator -2049 at index \[1, 1\] is outside -2048 \.\. 2047"):
        requantize(np.array([[5000, 2047], [5000, -2049]], np.int32), constants)
    requantize(np.array([[5000, 2047], [5000, -2048]], np.int32), constants)
    many = Requant((1 << 30,) * 20_000, (0,) * 19_999 + (20,), axis=0)  # in two pieces
    acc = np.full(20_000, 5000, np.int32)
    with pytest.raises(ValueError, match=r"accumulator 5000 at index \[19999\] is outside -2048 \.\. 2047"):
        requantize(acc, many)
    acc[-1] = -2049
    with pytest.raises(ValueError, match=r"accumulator -2049 at index \[19999\]"):
        requantize(acc, many)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"multiplier": (), "shift": ()}, "0 multipliers, 0 shifts"),
        ({"multiplier": (1, 2)}, "2 multipliers, 1 shifts, axis None"),
        ({"multiplier": (1, 2), "shift": (0, 0)}, "2 multipliers, 2 shifts, axis None"),
        ({"multiplier": (1 << 31,)}, "gemmlowp: multiplier 2147483648 is outside"),
        ({"multiplier": (-1,), "method": "hawq_v3"}, "hawq_v3: multiplier -1 is outside 0"),
        ({"shift": (31,)}, r"gemmlowp: shift 31 is outside -31 \.\. 30"),
        ({"shift": (-32,), "method": "tflite_single"}, "tflite_single: shift -32"),
        ({"method": "best"}, "unknown method 'best'"),
        ({"qmin": 3, "qmax": 2}, r"not be 3 \.\. 2"),
        ({"qmax": 1 << 31}, "must lie in -2147483648"),
        ({"qmax": 1 << 25, "method": "hawq_v3_float64"}, "must lie in -16777216"),
        ({"zero_point": 1 << 31}, "zero point 2147483648 does not fit int32"),
    ],
)
def test_constants_that_do_not_fit_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(Requant((1 << 30,), (0,)), **change)


def test_arrays_that_do_not_fit_are_refused() -> None:
    constants = Requant.from_scale([0.1, 0.2], axis=1)
    for shape in ((2,), (2, 3), (4, 4)):
        with pytest.raises(ValueError, match="2 multipliers on axis 1 do not fit accumulators of shape"):
            requantize(np.zeros(shape, np.int32), constants)
    for wrong in (np.zeros(2, np.float32), np.zeros(2, np.int16), [1, 2]):
        with pytest.raises(TypeError, match="int32 or int64 accumulators, not"):
            requantize(wrong, Requant((1 << 30,), (0,)))
    for scale, axis in ((0.5, 0), ([0.5], None), ([[0.5]], 0)):
        with pytest.raises(ValueError, match="do not fit axis"):
            Requant.from_scale(scale, axis=axis)


def test_docstring_examples_run() -> None:
    import doctest

    assert doctest.testmod(module).failed == 0

"""Rounding modes by their definitions, the compiled twin, and the random bits of stochastic rounding."""

from __future__ import annotations

from fractions import Fraction

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import _kernels as kernels
from hwsim.formats import decode, element, encode, get
from hwsim.formats.registry import bare_element
from hwsim.formats.rounding import MODES, random_bits, round_steps
from tests.hwsim.formats import element_oracle

QUARTERS = [Fraction(n, 4) for n in range(17)]
# each mode on 0, 1/4, 1/2 ... 4, for positive values; by hand
TABLE = {
    "rne": [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4],
    "rtz": [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4],
    "rup": [0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4],
    "rdn": [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4],
    "raz": [0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4],
    "rna": [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4],
    "rnz": [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4],
    "rod": [0, 1, 1, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3, 4],
}


def test_the_modes_are_those_of_the_oracle_and_of_the_kernels() -> None:
    assert MODES == element_oracle.MODES
    assert [getattr(kernels, mode.upper()) for mode in MODES] == list(range(len(MODES)))


@pytest.mark.parametrize("mode", TABLE)
def test_each_mode_on_quarters(mode: str) -> None:
    mirror = {"rup": "rdn", "rdn": "rup"}.get(mode, mode)  # of negative values, the magnitude
    assert [round_steps(step, False, mode) for step in QUARTERS] == TABLE[mode]
    assert [round_steps(step, True, mode) for step in QUARTERS] == TABLE[mirror]


def test_stochastic_goes_up_with_the_probability_of_the_rest() -> None:
    for rest, limit in ((Fraction(1, 4), 1 << 30), (Fraction(1, 2), 1 << 31), (Fraction(3, 4), 3 << 30)):
        assert [round_steps(2 + rest, False, "stochastic", draw) for draw in (0, limit - 1, limit)] == [3, 3, 2]
    assert round_steps(Fraction(2), False, "stochastic", 0) == 2  # what is exact stays


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'half_up'.*rne.*stochastic"):
        round_steps(Fraction(1), False, "half_up")


@given(st.integers(0, (1 << 40) - 1), st.booleans(), st.integers(0, (1 << 32) - 1), st.integers(0, 7))
@settings(max_examples=25, deadline=None)
def test_the_kernel_rounds_as_the_definition(numerator: int, negative: bool, random: int, offset: int) -> None:
    exact = Fraction(numerator, 1 << 20)
    for code, mode in enumerate(MODES):
        # an even offset leaves "even" as it is, an odd one turns it round
        shifted = round_steps(exact + offset, negative, mode, random) - offset
        assert kernels.round_steps(float(exact), negative, code, random, offset) == shifted, mode


@given(st.integers(0, (1 << 31) - 1), st.integers(0, (1 << 40) - 1))
@settings(max_examples=25, deadline=None)
def test_the_kernel_draws_the_same_bits(seed: int, index: int) -> None:
    assert kernels.random_bits(seed, index) == random_bits(seed, index)


def test_random_bits_are_fixed_for_ever() -> None:
    """Codes that were stored must be found again by every later version."""
    drawn = [random_bits(seed, index) for seed, index in ((0, 0), (0, 1), (1, 0), (3, 1 << 33))]
    assert drawn == [2446097806, 2251342522, 2048881832, 390841292]


def splitmix(state: int) -> int:
    """Return the 64 bits of SplitMix64's finaliser, as published."""
    mask = (1 << 64) - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_random_bits_are_two_rounds_of_splitmix() -> None:
    mask, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15
    assert splitmix(golden) == 0xE220A8397B1DCDAF  # first output of SplitMix64 from seed 0, as published
    for seed, index in ((0, 5), (7, 0), (123, 456789)):
        assert (
            random_bits(seed, index) == splitmix((splitmix((seed + 1) * golden & mask) + index) * golden & mask) >> 32
        )


def test_random_bits_are_even() -> None:
    draws = np.array([random_bits(seed, index) for seed in range(4) for index in range(4000)], np.uint32)
    ones = (draws[:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)).mean(axis=0)
    assert abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(draws.size)
    counts = np.bincount(draws >> 28, minlength=16)
    assert ((counts - draws.size / 16) ** 2 / (draws.size / 16)).sum() < 45  # chi-squared, 15 degrees of freedom
    # neighbours in index and in seed do not go together
    halves = draws.astype(np.float64).reshape(4, -1) / 2**32 - 0.5
    assert abs((halves[:, 1:] * halves[:, :-1]).mean()) * 12 < 5 / np.sqrt(draws.size)
    assert abs((halves[1:] * halves[:-1]).mean()) * 12 < 5 / np.sqrt(draws.size)


@pytest.mark.parametrize("name", ["float4_e2m1fn", "float8_e4m3fn", "float8_e5m2", "int4"])
def test_stochastic_rounding_keeps_the_mean(name: str) -> None:
    fmt = bare_element(element(name)).with_rules(rounding="stochastic", seed=5)
    rng = np.random.default_rng(2)
    for value in rng.uniform(-3, 3, 6).astype(np.float32):
        got = decode(encode(np.full((100, 200), value, np.float32), fmt)).astype(np.float64)
        levels = np.unique(got)
        assert levels.size <= 2 and levels[0] <= value <= levels[-1]
        width = levels[-1] - levels[0]
        assert abs(got.mean() - value) <= 5 * width * 0.5 / np.sqrt(got.size)


def test_stochastic_rounding_depends_on_seed_and_index_alone() -> None:
    x = np.random.default_rng(3).normal(size=60000).astype(np.float32)
    fmt = get("float8_e4m3fn").with_rules(rounding="stochastic", seed=9)
    whole = encode(x, fmt).codes
    for shape in ((1, 60000), (60, 1000), (2, 100, 300), (60000, 1), (40, 1500)):
        assert np.array_equal(encode(x.reshape(shape), fmt).codes.ravel(), whole), shape
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert np.array_equal(encode(x, fmt).codes, whole)
    finally:
        numba.set_num_threads(threads)
    assert np.array_equal(encode(x[:1234], fmt).codes, whole[:1234])  # what follows has no part in it
    other = encode(x, fmt.with_rules(seed=10)).codes
    assert 0.05 < (other != whole).mean() < 0.6


def test_stochastic_index_counts_with_the_axis_of_blocks_last() -> None:
    x = np.random.default_rng(4).normal(size=(24, 32)).astype(np.float32)
    fmt = get("float8_e5m2").with_rules(rounding="stochastic", seed=1)
    assert np.array_equal(encode(x, fmt, axis=0).codes, encode(np.ascontiguousarray(x.T), fmt).codes)

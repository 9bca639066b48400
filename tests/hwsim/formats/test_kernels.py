"""The scalar kernels under every encode: one minifloat rounding, one minifloat value."""

from __future__ import annotations

import tracemalloc
from bisect import bisect_right
from fractions import Fraction

import numpy as np
import pytest

from hwsim.formats import FloatSpec, decode, element, element_names, encode
from hwsim.formats import _kernels as kernels
from hwsim.formats.format import row_amax
from tests.hwsim.formats import element_oracle as oracle

FLOATS = {
    name: spec
    for name in element_names()
    if isinstance(spec := element(name), FloatSpec) and spec.bits <= 16 and not spec.has_zero
}
RANDOM = 0x5A5A5A5A


def code(spec: FloatSpec, point: float, negative: bool, mode: str) -> int:
    """Return what the kernel rounds to, in a mode."""
    return kernels.rounded_code(
        point, negative, spec.man_bits, spec.bias, spec.subnormals, oracle.MODES.index(mode), RANDOM
    )


def expected(spec: FloatSpec, point: float, negative: bool, mode: str) -> int:
    """Return the same by the definitions; -1 below the smallest value of a format without zero."""
    exact, levels = Fraction(point), oracle.ladder(spec)
    low = bisect_right(levels, exact) - 1
    below, above = levels[low] if low >= 0 else Fraction(0), levels[low + 1]
    return low + oracle.takes_upper(mode, (exact - below) / (above - below), low % 2 == 0, negative, RANDOM)


@pytest.mark.parametrize("name", FLOATS)
def test_every_rounding_boundary_and_its_float64_neighbours(name: str) -> None:
    spec = FLOATS[name]
    top = oracle.top_code(spec)
    rng = np.random.default_rng(0)
    codes = range(top) if top < 20 else {0, 1, 2, top - 1, *rng.integers(0, top, 12).tolist()}
    for low in codes:
        below, above = oracle.magnitude(spec, low), oracle.magnitude(spec, low + 1)
        middle = float((below + above) / 2)
        for point in (float(below), np.nextafter(middle, 0), middle, np.nextafter(middle, np.inf)):
            for mode in oracle.MODES:
                for negative in (False, True):
                    want = expected(spec, point, negative, mode)
                    assert code(spec, point, negative, mode) == want, (low, point, mode, negative)


@pytest.mark.parametrize("name", FLOATS)
def test_the_exponent_has_no_end(name: str) -> None:
    """Encoders judge overflow by the code, so what lies beyond must get codes beyond."""
    spec = FLOATS[name]
    for step in (1, 2, 9, 100):
        exact = oracle.magnitude(spec, spec.max_code + step)
        if exact < 1 << 1000:
            assert code(spec, float(exact), False, "rne") == spec.max_code + step


@pytest.mark.parametrize("name", FLOATS)
def test_what_lies_far_below_the_smallest_value(name: str) -> None:
    spec = FLOATS[name]
    zero = 0 if spec.subnormals else -1
    for point in (0.0, 1e-300, 5e-324):
        assert code(spec, point, False, "rne") == zero
        assert code(spec, point, False, "raz") == zero + (point > 0)


@pytest.mark.parametrize("man_bits", [0, 1, 4])
@pytest.mark.parametrize("bias", [1022, 1023, 1024])
def test_zero_is_zero_under_the_largest_bias(bias: int, man_bits: int) -> None:
    assert kernels.rounded_code(0.0, False, man_bits, bias, True, kernels.RAZ, 0) == 0


@pytest.mark.parametrize("name", [name for name, spec in FLOATS.items() if spec.subnormals])
def test_float_value_is_exact_on_every_finite_code(name: str) -> None:
    spec = FLOATS[name]
    for magnitude in range(0, spec.max_code + 1, 1 if spec.bits <= 8 else 97):
        assert Fraction(kernels.float_value(magnitude, spec.man_bits, spec.bias)) == oracle.magnitude(spec, magnitude)


def test_rounding_to_float16_agrees_with_numpy() -> None:
    rng = np.random.default_rng(6)
    x = np.ldexp(rng.uniform(1, 2, 3000), rng.integers(-27, 15, 3000))
    ours = [kernels.rounded_code(float(p), False, 10, 15, True, kernels.RNE, 0) for p in x]
    assert ours == x.astype(np.float16).view(np.uint16).tolist()


def test_rounding_to_float32_agrees_with_numpy() -> None:
    rng = np.random.default_rng(7)
    x = np.ldexp(rng.uniform(1, 2, 3000), rng.integers(-152, 127, 3000))
    ours = [kernels.rounded_code(float(p), False, 23, 127, True, kernels.RNE, 0) for p in x]
    assert ours == x.astype(np.float32).view(np.uint32).tolist()


@pytest.mark.parametrize("width", [1, 7, kernels.CHUNK, 2 * kernels.CHUNK + 5])
def test_row_amax_finds_the_largest_magnitude_wherever_it_lies(width: int) -> None:
    x = np.random.default_rng(1).normal(size=(3, width)).astype(np.float32)
    x[1, -1] = -77
    x[2] = [-0.0] * width
    assert np.array_equal(row_amax(x), np.abs(x).max(axis=1))


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_row_amax_names_the_row_that_is_not_finite(bad: float) -> None:
    x = np.zeros((4, 5), np.float32)
    x[2, 3] = bad
    with pytest.raises(ValueError, match="row 2"):
        row_amax(x)


@pytest.mark.parametrize(
    "name",
    ["mxfp4", "mxint8", "nvfp4", "int8", "int4_g128_asym", "nf4_bs64", "dynamic8", "float8_e4m3fn", "b158", "mx9",
     "bitmod_fp4", "nvfp4_46", "gguf_q4_0"],
)  # fmt: skip
def test_no_temporary_is_larger_than_the_output(name: str) -> None:
    """What NumPy allocates at its peak; the kernels themselves hold a few thousand elements a thread."""
    x = np.random.default_rng(3).standard_normal((1024, 2048), dtype=np.float32)
    encoded = encode(x[:64], name)  # compiled before anything is counted
    decode(encoded)
    tracemalloc.start()
    try:
        encoded = encode(x, name)
        stored = sum(part.nbytes for part in encoded.parts.values())
        assert tracemalloc.get_traced_memory()[1] <= 2 * stored + 200_000
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        y = decode(encoded)
        assert tracemalloc.get_traced_memory()[1] - before <= 1.05 * y.nbytes + 200_000
    finally:
        tracemalloc.stop()

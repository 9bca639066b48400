"""`fp_fma` against exact rationals, with no code of `hwsim.pe` but the unit itself."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from hwsim import pe
from hwsim.formats import Encoded, element, get
from hwsim.pe import fp_fma

ELEMENTS = {"float8_e4m3fn": (4, 3), "float8_e5m2": (5, 2), "float16": (5, 10), "bfloat16": (8, 7), "float32": (8, 23)}
CONTAINER = {8: np.uint8, 16: np.uint16, 32: np.uint32}


def value(name: str, code: int) -> Fraction | float:
    """Return what a code is worth: a rational, or a float that is NaN or infinite."""
    exp_bits, man_bits = ELEMENTS[name]
    field, mantissa = code >> man_bits & ((1 << exp_bits) - 1), code & ((1 << man_bits) - 1)
    sign = -1 if code >> (exp_bits + man_bits) else 1
    if name == "float8_e4m3fn":
        if field == 15 and mantissa == 7:
            return float("nan")
    elif field == (1 << exp_bits) - 1:
        return float("nan") if mantissa else sign * float("inf")
    whole = mantissa | (1 << man_bits if field else 0)
    bias = (1 << (exp_bits - 1)) - 1
    return sign * whole * Fraction(2) ** (max(field, 1) - bias - man_bits)


def neighbours(size: Fraction, man_bits: int, lowest: int) -> tuple[Fraction, Fraction, bool]:
    """Return the grid points below and above a positive rational, and whether the lower one is even."""
    # within one of the exponent of the top bit; the loop settles it
    exponent = max(lowest, size.numerator.bit_length() - size.denominator.bit_length() - man_bits - 1)
    while size >= Fraction(2) ** (exponent + man_bits + 1):
        exponent += 1
    quantum = Fraction(2) ** exponent
    steps = size // quantum
    return steps * quantum, (steps + (steps * quantum != size)) * quantum, steps % 2 == 0


def rounded(exact: Fraction, name: str, mode: str) -> float:
    """Round a rational that is not zero to FP16 or FP32, as a float."""
    man_bits, bias = (23, 127) if name == "float32" else (10, 15)
    low, high, even = neighbours(abs(exact), man_bits, 1 - bias - man_bits)
    negative = exact < 0
    if mode == "rne":
        middle = (low + high) / 2
        size = low if abs(exact) < middle or (abs(exact) == middle and even) else high
    elif mode == "rtz":
        size = low
    elif mode == "rdn":
        size = high if negative else low
    else:
        size = high if even else low
    top = (2 - Fraction(1, 1 << man_bits)) * 2**bias
    beyond = low > top or size > top
    if beyond:
        to_top = mode in ("rtz", "rod") or (mode == "rdn" and not negative)
        found = float(top) if to_top else float("inf")
    else:
        found = float(size)
    return -found if negative else found


def dot(a: list, b: list, name: str, mode: str) -> int:
    """Return the float32 bits of a dot product of values."""
    acc = 0.0
    for x, y in zip(a, b, strict=True):
        if isinstance(x, float) or isinstance(y, float) or not np.isfinite(acc):
            # every finite rational here is as good as its sign
            acc = acc + _sign(x) * _sign(y)
        else:
            exact = Fraction(acc) + x * y
            acc = rounded(exact, name, mode) if exact else 0.0
    if acc != acc:
        return 0x7FC00000
    return int(np.float32(acc).view(np.uint32))


def _sign(x: Fraction | float) -> float:
    return x if isinstance(x, float) else float((x > 0) - (x < 0))


def codes(name: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw rows of codes: any, around 1, small (subnormals), large, cancelling, and of zeros."""
    exp_bits, man_bits = ELEMENTS[name]
    bias, bits = (1 << (exp_bits - 1)) - 1, 1 + exp_bits + man_bits
    top = (1 << exp_bits) - 1
    kind = rng.integers(6, size=(shape[0], 1))
    field = rng.integers(0, top + 1, shape)
    field = np.where(kind == 1, bias + rng.integers(-3, 4, shape), field)
    field = np.where(kind == 2, rng.integers(0, max(bias // 2, 2), shape), field)
    field = np.where(kind == 3, rng.integers(top - 3, top, shape), field)
    field = np.where(kind == 4, bias + np.arange(shape[1]) // 2 % 3, field)
    mantissa = rng.integers(0, 1 << man_bits, shape)
    mantissa = np.where(rng.integers(4, size=shape) == 0, 0, mantissa)
    mantissa = np.where(kind == 4, np.repeat(mantissa[:, ::2], 2, axis=1)[:, : shape[1]], mantissa)
    sign = rng.integers(0, 2, shape)
    sign = np.where(kind == 4, np.arange(shape[1]) % 2, sign)
    found = np.where(kind == 5, 0, field << man_bits | mantissa) | sign << (bits - 1)
    return found.astype(CONTAINER[bits])


def operands(a_name: str, b_name: str, rows: int, k: int, seed: int) -> tuple[Encoded, Encoded]:
    rng = np.random.default_rng(seed)
    return (
        Encoded.of(get(a_name), codes=codes(a_name, (rows, k), rng)),
        Encoded.of(get(b_name), codes=codes(b_name, (rows, k), rng)),
    )


@pytest.mark.parametrize("mode", fp_fma.ROUNDINGS)
@pytest.mark.parametrize("accumulate", fp_fma.ACCUMULATORS)
@pytest.mark.parametrize("name", ELEMENTS)
def test_gemm_dots_and_reference_equal_exact_rationals(name: str, accumulate: str, mode: str) -> None:
    a, b = operands(name, name, 48, 10, len(name))
    b.codes[:8] = a.codes[:8]  # sums of squares: overflow
    a.codes[9, 3] = np.iinfo(a.codes.dtype).max  # NaN in all of them
    params = fp_fma.Params(name, accumulate=accumulate, rounding=mode)
    bits = fp_fma.gemm(a, b, params).view(np.uint32)
    pairs = fp_fma.dots(a, b, params)
    np.testing.assert_array_equal(pairs, bits.diagonal())
    plain = [fp_fma.reference(fp_fma.beats(a, b, i, i, params), params) for i in range(48)]
    assert plain == pairs.tolist()
    kinds = set()
    for i, j in [*((i, i) for i in range(48)), *((i, 47 - i) for i in range(48))]:
        x, y = ([value(name, int(code)) for code in side.codes[row]] for side, row in ((a, i), (b, j)))
        assert int(bits[i, j]) == dot(x, y, accumulate, mode), (i, j)
        kinds.add((bits[i, j] & 0x7FFFFFFF) > 0x7F800000)
    assert kinds == {False, True}


@pytest.mark.parametrize(("left", "right"), [p for p in product(ELEMENTS, ELEMENTS) if p[0] != p[1]])
def test_factors_may_differ(left: str, right: str) -> None:
    a, b = operands(left, right, 20, 6, 5)
    params = fp_fma.Params(right, left)
    bits = fp_fma.gemm(a, b, params).view(np.uint32)
    for i in range(20):
        x, y = [value(left, int(c)) for c in a.codes[i]], [value(right, int(c)) for c in b.codes[i]]
        assert (
            int(bits[i, i]) == dot(x, y, "float32", "rne") == fp_fma.reference(fp_fma.beats(a, b, i, i, params), params)
        )


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_every_product_of_fp8_codes(name: str) -> None:
    every = np.arange(256, dtype=np.uint8)[:, None]
    a = b = Encoded.of(get(name), codes=every)
    bits = fp_fma.gemm(a, b, fp_fma.Params(name)).view(np.uint32)
    # every product of two codes is a float32 number, and zeros are +0
    values = np.array([float(value(name, code)) for code in range(256)])
    with np.errstate(invalid="ignore"):
        want = (np.multiply.outer(values, values) + 0.0).astype(np.float32)
    np.testing.assert_array_equal(bits, np.where(np.isnan(want), np.uint32(0x7FC00000), want.view(np.uint32)))


def test_zeros_have_the_stated_signs() -> None:
    tiny, minus_tiny, one, minus_zero = 0x00000001, 0x80000001, 0x3F800000, 0x80000000
    cases = [
        ([minus_zero], [one], 0),  # -0 on +0
        ([tiny], [minus_tiny], 0x80000000),  # underflow keeps its sign
        ([tiny, minus_zero], [minus_tiny, one], 0),  # and -0 on -0 is +0
        ([one, one], [one, 0xBF800000], 0),
    ]
    for a_codes, b_codes, want in cases:
        a, b = (Encoded.of(get("float32"), codes=np.array([side], np.uint32)) for side in (a_codes, b_codes))
        params = fp_fma.Params("float32")
        assert fp_fma.gemm(a, b, params).view(np.uint32).tolist() == [[want]]
        assert fp_fma.reference(fp_fma.beats(a, b, 0, 0, params), params) == want


def test_flags_lie_above_the_result() -> None:
    big, one, infinite = 0x7F7FFFFF, 0x3F800000, 0x7F800000
    a = Encoded.of(get("float32"), codes=np.array([[big, one], [infinite, one], [one, one], [1, 0]], np.uint32))
    b = Encoded.of(get("float32"), codes=np.array([[big, one], [0, one], [one, one], [1, one]], np.uint32))
    found = fp_fma.dots(a, b, fp_fma.Params("float32", flags=True))
    assert [int(word) >> 32 for word in found] == [4 | 1, 8, 0, 2 | 1]


def test_cycles_actions_and_the_way_to_the_unit() -> None:
    unit, params = pe.unit_for("bfloat16")
    assert (unit.NAME, params) == ("fp_fma", fp_fma.Params("bfloat16"))
    assert fp_fma.cycles(2, 3, 7, params) == 42 + params.datapath.latency
    assert params.datapath.latency == 3
    assert fp_fma.actions(2, 3, 7, params) == {"mul_bfloat16": 42, "add_float32": 42}
    assert fp_fma.params_for(get("float16"), get("float16"), 8) is None
    assert element("float32").bits == params.datapath.layout()[0][1] * 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"element": "int8"}, "element must be one of float8_e4m3fn.*not 'int8'"),
        ({"a_element": "float64"}, "a_element must be None or one of"),
        ({"accumulate": "bfloat16"}, "accumulate must be one of float32, float16, not 'bfloat16'"),
        ({"rounding": "rup"}, "rounding must be one of rne, rtz, rdn, rod"),
        ({"stages": 5}, "stages must be 0 to 4, not 5"),
        ({"flags": 1}, "flags must be True or False"),
    ],
)
def test_bad_params_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=f"fp_fma: {words}"):
        fp_fma.Params(**fields)


def test_operands_of_other_elements_are_refused() -> None:
    a, b = operands("float16", "bfloat16", 2, 4, 0)
    with pytest.raises(ValueError, match="operand B has elements bfloat16, the unit takes float16"):
        fp_fma.gemm(a, b, fp_fma.Params("float16"))
    with pytest.raises(ValueError, match="rows are taken in pairs"):
        fp_fma.dots(a, a.rows(np.array([0])), fp_fma.Params("float16"))

"""Encode and decode against exact rationals, bit for bit: block formats and bare elements, under every rule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import BlockSpec, Encoded, TableSpec, block, decode, encode, get, names
from tests.hwsim.formats import inputs, oracle


def key(spec: BlockSpec) -> tuple[object, ...]:
    """Return what makes a format's encoder different from another's, block lengths and widths of integers aside."""
    kind = spec.element.name if not hasattr(spec.element, "qmax") else (spec.element.signed, spec.element.frac_bits)
    scale = None if spec.scale is None else spec.scale.name
    size = type(spec.block_size)
    rules = (spec.scale_rule, spec.zero_point, spec.zero_block, spec.scale_floor, spec.quotient)
    return kind, scale, size, spec.tensor_scale, spec.row_scale, *rules


@cache
def representatives() -> tuple[str, ...]:
    """Return a format of each kind; those with a unit, and a user's own, always."""
    chosen: dict[tuple[object, ...], str] = {}
    for name in names():
        spec = get(name)
        if isinstance(spec, BlockSpec) and spec.element.bits <= 16:
            chosen.setdefault(key(spec), name)
            if spec.activation or "_mine" in name:
                chosen[(name,)] = name
    return tuple(sorted(set(chosen.values())))


@cache
def core() -> frozenset[str]:
    """Return representatives that between them show every set of rules and every element under a scale.

    Elements without a scale are cast in all ways in `test_elements`; one of each kind of special codes does here.
    """
    seen: set[object] = set()
    kept = set()
    small = (name for name in representatives() if math.prod(block(name).tile(64)) <= 2048)
    for name in sorted(small, key=lambda name: ("_mine" not in name, not block(name).activation, name)):
        kind, *rules = key(block(name))
        if block(name).scale is None:
            kind = getattr(block(name).element, "special", "none")
        if {("element", kind), ("rules", tuple(rules))} - seen:
            kept.add(name)
        seen |= {("element", kind), ("rules", tuple(rules))}
    return frozenset(kept)


def cases(names: Iterable[str] | None = None) -> list[Any]:
    """Return formats as parameters: the representatives beyond the core are for the long run."""
    chosen = representatives() if names is None else names
    return [pytest.param(name, marks=() if name in core() else pytest.mark.slow) for name in chosen]


SCALED = tuple(name for name in representatives() if block(name).scale is not None)
BARE = tuple(name for name in representatives() if block(name).scale is None)


def expected(x: np.ndarray, spec: BlockSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int | None]]:
    """Return what the oracle makes of a matrix: codes, scales, zeros, bits of the second-level scales."""
    rows, columns = spec.tile(x.shape[1])
    bits = np.ascontiguousarray(x).view(np.uint32)
    outers = [oracle.outer_scale(spec, bits if spec.tensor_scale != "none" else row) for row in bits]
    codes = np.empty(x.shape, np.int64)
    scales = np.empty((x.shape[0] // rows, x.shape[1] // columns), np.int64)
    zeros = np.empty_like(scales)
    indices = np.arange(x.size).reshape(x.shape)
    for r, c in np.ndindex(scales.shape):
        tile = slice(r * rows, r * rows + rows), slice(c * columns, c * columns + columns)
        found = oracle.encode_block(spec, bits[tile].ravel().tolist(), outers[r * rows], indices[tile].ravel().tolist())
        codes[tile] = np.reshape(found.codes, (rows, columns))
        scales[r, c], zeros[r, c] = found.scale, found.zero
    return codes, scales, zeros, outers


def check(x: np.ndarray, spec: BlockSpec) -> Encoded:
    """Demand that the encoder gives the oracle's bits."""
    encoded = encode(x, spec)
    codes, scales, zeros, outers = expected(x, spec)
    if spec.scale is not None:
        np.testing.assert_array_equal(encoded.scales, scales)
    if spec.zero_point == "none":
        assert encoded.zeros is None
    else:
        np.testing.assert_array_equal(encoded.zeros, zeros)
    if spec.row_scale != "none":
        assert encoded.parts["row_scales"].tolist() == outers
    assert (None if encoded.tensor_scale is None else int(encoded.tensor_scale.view(np.uint32))) == (
        outers[0] if spec.tensor_scale != "none" else None
    )
    np.testing.assert_array_equal(encoded.codes, codes)
    return encoded


@pytest.mark.parametrize("kind", inputs.KINDS)
@pytest.mark.parametrize("name", cases())
def test_encode_gives_the_bits_of_the_exact_recipe(name: str, kind: str) -> None:
    check(inputs.make(kind, block(name)), block(name))


@pytest.mark.parametrize(
    "name",
    cases(n for n in representatives() if block(n).row_scale == "none" and not isinstance(block(n).block_size, tuple)),
)
def test_tie_inputs_really_hold_ties(name: str) -> None:
    """Guard the inputs themselves: without exact ties the test above would prove less than it says."""
    spec = block(name)
    x = inputs.make("element_ties", spec)
    second = oracle.outer_scale(spec, x.view(np.uint32))
    middles = {m for m in inputs.borders(spec.element) if Fraction(float(np.float32(float(m)))) == m}
    if spec.element.bits > 8:
        middles = set(list(inputs.borders(spec.element))[:: max(1, len(middles) // 500)])
    if not spec.element.signed and spec.zero_point == "none":
        middles = {middle for middle in middles if middle >= 0}
    hits = set()
    for piece in x.reshape(-1, spec.tile(x.shape[1])[1]):
        found = oracle.encode_block(spec, piece.view(np.uint32).tolist(), second)
        if found.step:
            hits |= middles & {Fraction(float(v)) / found.step + found.zero for v in piece}
    # rule `ceil` leaves room at the top that no value of the block reaches
    assert len(hits) >= (0.45 if spec.scale_rule == "ceil" else 0.9) * len(middles) and hits


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("bits", [1, 3, 0x00400000, 0x00800000, 0x7F7FFFFF], ids=hex)
def test_a_constant_tensor_at_the_edges_of_float32(name: str, bits: int) -> None:
    spec = block(name)
    x = np.full((spec.tile(48)[0], inputs.width(spec)), bits, np.uint32).view(np.float32)
    if spec.element.signed or spec.zero_point != "none":
        x[0, ::3] *= -1
    encoded = check(x, spec)
    assert encoded.tensor_scale is None or encoded.tensor_scale > 0


@pytest.mark.parametrize("name", cases())
def test_a_tensor_of_zeros_decodes_to_zeros(name: str) -> None:
    spec = block(name)
    x = np.zeros((2 * spec.tile(48)[0], inputs.width(spec)), np.float32)
    encoded = check(x, spec)
    if oracle.value(spec.element, 0) == 0:
        assert not encoded.codes.any() and not decode(encoded).view(np.uint32).any()


def test_one_sided_ranges_keep_zero_exact_for_asymmetric_int4() -> None:
    for low, high, zero in ((1.0, 16.0, 0), (-16.0, -1.0, 15), (-1.0, 2.75, 4), (-1e30, 0.0, 15), (-3e38, 3e38, 15)):
        x = np.linspace(low, high, 128, dtype=np.float32)
        x[7] = 0.0
        encoded = check(x[None], block("int4_g128_asym"))
        assert encoded.zeros is not None and encoded.zeros.tolist() == [[zero]]
        assert decode(encoded)[0, 7] == 0.0


def test_the_range_of_a_block_is_a_float64() -> None:
    """15 * (1 + 2**-11) alone is a scale tie, to even 1.0; a negative value beside it decides."""
    x = np.zeros((3, 128), np.float32)
    x[:, 0] = 15 * (1 + 2**-11)
    x[1, 1], x[2, 1] = -(2.0**-40), -(2.0**-60)
    encoded = check(x, block("int4_g128_asym"))
    assert encoded.scales.tolist() == [[0x3C00], [0x3C01], [0x3C00]]


def test_e2m1_ties_go_to_the_even_code() -> None:
    ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]
    x = np.array([6.0, *ties, *(-t for t in ties), *[0.0] * 17], np.float32)
    want = [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
    assert decode(encode(x, "mxfp4"))[1:15].tolist() == [*want, *(-w for w in want)]


def test_nvfp4_is_the_exact_rational_recipe() -> None:
    """g = RNE_fp32(amax_T / (448 * 6)); d = RNE_E4M3(min(amax_b / 6 / g, 448)); q = RNE_E2M1(x / (d * g))."""
    rng = np.random.default_rng(11)
    x = (rng.normal(size=(8, 64)) * np.ldexp(1.0, rng.integers(-9, 9, (8, 1)))).astype(np.float32)
    spec, encoded = block("nvfp4"), encode(x, "nvfp4")
    g = oracle.float32_value(oracle.float32_bits(Fraction(float(np.abs(x).max())) / (448 * 6)))
    assert Fraction(float(encoded.tensor_scale)) == g
    for row, index in np.ndindex(8, 4):
        values = [Fraction(float(v)) for v in x[row, 16 * index : 16 * index + 16]]
        d_code = oracle.float_code(spec.scale, min(max(map(abs, values)) / 6 / g, Fraction(448)))
        assert encoded.scales[row, index] == d_code
        d = oracle.value(spec.scale, d_code)
        for v, code in zip(values, encoded.codes[row, 16 * index : 16 * index + 16], strict=True):
            assert code & 7 == oracle.float_code(spec.element, abs(v) / (d * g) if d else Fraction(0))


def test_mxfp4_agrees_with_gfloat_on_float64_copies() -> None:
    """gfloat takes floor(log2) in float64, which is right for every float32; zero blocks it scales as we do."""
    gfloat = pytest.importorskip("gfloat")
    formats = pytest.importorskip("gfloat.formats")
    info = formats.format_info_mxfp4_e2m1
    for kind in ("random", "powers", "halves", "element_ties"):
        x = inputs.make(kind, block("mxfp4")).reshape(-1, 32)[:40]
        ours = decode(encode(x, "mxfp4"))
        for mine, row in zip(ours, x, strict=True):
            theirs = gfloat.quantize_block(info, row.astype(np.float64), gfloat.compute_scale_amax)
            np.testing.assert_array_equal(mine.view(np.uint32), theirs.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("exponent", [-126, -60, -3, 3, 47, 100, 127])
def test_the_exponent_below_a_power_of_two_is_not_rounded_up(exponent: int) -> None:
    """floor(log2f(x)) is one too large for the last float32 below 2**k in several public tools."""
    below = np.nextafter(np.float32(2.0**exponent), np.float32(0))
    x = np.zeros((2, 32), np.float32)
    x[:, 0] = below, np.float32(2.0**exponent)
    scales = encode(x, "mxfp4").scales[:, 0].tolist()
    assert scales == [max(exponent - 3 + 127, 0), max(exponent - 2 + 127, 0)]


@cache
def random_codes(name: str) -> Encoded:
    """Return legal random codes that no encoder would choose together: every code, every scale code but Inf."""
    spec, rng = block(name), np.random.default_rng(17)
    rows, columns = spec.tile(64)
    parts = {}
    for part in spec.layout((max(8, rows), 4 * columns if spec.block_size else 64)):
        if part.dtype == np.float32:
            parts[part.name] = np.float32(rng.uniform(1, 2))
            continue
        array = rng.integers(0, 1 << part.bits, part.shape, dtype=np.uint64)
        if part.name == "scales":
            top = getattr(spec.scale, "max_code", (1 << part.bits) - 1)
            specials = [0, 1, top, top - 1, 1 << (part.bits - 1)][: array.size]
            array.flat[: len(specials)] = specials
            for index, code in np.ndenumerate(array):
                if oracle.value(spec.scale, int(code)) == oracle.INFINITY:
                    array[index] = 1
        if part.name == "row_scales":
            array %= 0x7C00 if part.bits == 16 else 0x7F800000
        parts[part.name] = array.astype(part.dtype)
    return Encoded.of(spec, **parts)


SECOND = {"odd": 0x3FB504F3, "negative": 0xBFB504F3, "smallest": 0x00000001, "largest": 0x7F7FFFFF}


@pytest.mark.parametrize(
    ("name", "second"),
    [
        pytest.param(*case.values, second, marks=case.marks)
        for case in cases()
        for second in (SECOND if block(case.values[0]).tensor_scale != "none" else ["none"])
    ],
    ids=lambda value: value,
)
def test_decode_is_the_exact_product_rounded_once(name: str, second: str) -> None:
    encoded, second_bits = random_codes(name), SECOND.get(second)
    spec = block(name)
    if second_bits is not None:
        encoded = encoded.replace_parts(tensor_scale=np.asarray(np.uint32(second_bits).view(np.float32)))
    rows, columns = spec.tile(encoded.k)
    got = decode(encoded)
    assert got.dtype == np.float32
    for (row, k), code in np.ndenumerate(encoded.codes):
        index = (row // rows, k // columns)
        zero = 0 if encoded.zeros is None else int(encoded.zeros[index])
        outer = int(encoded.parts["row_scales"][row]) if spec.row_scale != "none" else second_bits
        scale = 0 if spec.scale is None else int(encoded.scales[index])
        want = oracle.decode_bits(spec, int(code), scale, zero, outer)
        if want is None:
            assert np.isnan(got[row, k])
        else:
            assert got.view(np.uint32)[row, k] == want, (row, k)


@pytest.mark.parametrize("name", cases(n for n in SCALED if getattr(block(n).scale, "nan_code", None) is not None))
def test_a_nan_scale_makes_its_whole_block_nan_and_no_other(name: str) -> None:
    spec = block(name)
    rows, columns = spec.tile(inputs.width(spec))
    encoded = encode(np.ones((2 * rows, inputs.width(spec)), np.float32), spec)
    encoded.scales[0, 0] = spec.scale.nan_code
    bad = np.isnan(decode(encoded))
    assert bad[:rows, :columns].all() and bad.sum() == rows * columns
    assert np.isnan(spec.scale_values(encoded.scales)).sum() == 1


@pytest.mark.parametrize("name", cases())
def test_codes_survive_decode_and_encode(name: str) -> None:
    """decode(encode(decode(encode(x)))) = decode(encode(x)), up to one rounding of a floating-point scale."""
    spec = block(name)
    if isinstance(spec.element, TableSpec) and spec.element.signed and not spec.element.symmetric:
        return  # the largest magnitude may lie on the side that does not reach it, and shrink
    x = inputs.make("random", spec)
    once = decode(encode(x, spec))
    again = encode(once, spec)
    twice = decode(again)
    power_of_two = spec.scale is None or spec.scale_rule in ("floor", "even", "ceil", "rceil", "tosa", "away_ceil")
    if power_of_two and spec.scale_rule in ("none", "floor"):
        np.testing.assert_array_equal(twice.view(np.uint32), once.view(np.uint32))
    else:
        step = np.abs(once).max() * max(spec.element.min_step / spec.max_value, 2.0**-10)
        assert np.abs(twice - once).max() <= 2 * step


@pytest.mark.parametrize("kind", inputs.KINDS)
def test_mxfp4_is_idempotent_on_any_input(kind: str) -> None:
    once = decode(encode(inputs.make(kind, block("mxfp4")), "mxfp4"))
    np.testing.assert_array_equal(decode(encode(once, "mxfp4")).view(np.uint32), once.view(np.uint32))


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=15)
@given(st.floats(2.0**-40, 2.0**40, width=32), st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=14))
@pytest.mark.parametrize("name", cases())
def test_order_is_kept_within_a_block(name: str, top: float, parts: list[float]) -> None:
    spec = block(name)
    x = np.zeros((spec.tile(48)[0], inputs.width(spec)), np.float32)
    x[0, 0], x[0, 1] = top, -top  # fix the scale
    x[0, 2 : 2 + len(parts)] = np.sort(np.array(parts, np.float32)) * np.float32(top)
    x = x if spec.element.signed or spec.zero_point != "none" else np.maximum(x, 0)
    y = decode(encode(x, name))[0, 2 : 2 + len(parts)]
    assert (np.diff(y) >= 0).all()


POWERS = tuple(n for n in SCALED if block(n).scale_rule in ("floor", "even", "ceil", "rceil", "tosa", "away_ceil"))


@settings(max_examples=10)
@given(st.lists(st.floats(0.0625, 1024, width=32), min_size=8, max_size=8), st.integers(-80, 90))
@pytest.mark.parametrize("name", cases(POWERS))
def test_a_power_of_two_moves_the_scale_alone(name: str, values: list[float], shift: int) -> None:
    spec = block(name)
    x = np.resize(np.array(values, np.float32), (spec.tile(48)[0], inputs.width(spec)))
    x *= np.resize([1, -1], x.shape).astype(np.float32)
    plain, shifted = encode(x, name), encode(np.ldexp(x, shift).astype(np.float32), name)
    np.testing.assert_array_equal(plain.codes, shifted.codes)
    np.testing.assert_array_equal(shifted.scales.astype(int), plain.scales.astype(int) + shift)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=10)
@given(st.lists(finite, min_size=1, max_size=40))
@pytest.mark.parametrize("name", cases(n for n in representatives() if block(n).element.signed))
def test_a_sign_change_changes_only_signs(name: str, values: list[float]) -> None:
    spec = block(name)
    table = isinstance(spec.element, TableSpec) and not spec.element.symmetric
    if spec.zero_point != "none" or table or getattr(spec.element, "narrow", True) is False:
        return  # these ranges are not symmetric
    x = np.resize(np.array(values, np.float32), (spec.tile(48)[0], inputs.width(spec)))
    np.testing.assert_array_equal(decode(encode(-x, name)), -decode(encode(x, name)))


@pytest.mark.parametrize("name", cases())
def test_rows_do_not_influence_each_other(name: str) -> None:
    spec = block(name)
    rows = spec.tile(48)[0]
    x = inputs.make("random", spec)
    x[0, 0] = 50.0  # pins the tensor scale
    whole, rest = encode(x, spec), encode(x[:rows], spec)
    np.testing.assert_array_equal(whole.codes[:rows], rest.codes)
    if spec.scale is not None:
        np.testing.assert_array_equal(whole.scales[:1], rest.scales)


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_blocks_lie_along_the_axis_asked_for(name: str, ndim: int) -> None:
    spec = block(name)
    rows, k = spec.tile(48)[0], inputs.width(spec)
    if rows > 1 and ndim == 1:
        with pytest.raises(ValueError, match=f"{name}: tiles of {rows} rows"):
            encode(np.zeros(k, np.float32), spec)
        return
    others = [(), (3 * rows,), (2, rows)][ndim - 1]
    last = np.random.default_rng(29).normal(size=(*others, k)).astype(np.float32)
    last = last if spec.element.signed or spec.zero_point != "none" else np.abs(last)
    plain = encode(last, spec)
    for axis in range(-ndim, ndim):
        if rows > 1 and axis % ndim != ndim - 1:
            continue  # the last axis but one would be another
        encoded = encode(np.moveaxis(last, -1, axis), spec, axis=axis)
        for part in plain.parts:
            np.testing.assert_array_equal(encoded.parts[part], plain.parts[part])
        back = decode(encoded)
        assert back.shape == np.moveaxis(last, -1, axis).shape
        np.testing.assert_array_equal(np.moveaxis(back, axis, -1), decode(plain))


@pytest.mark.parametrize("name", ["int8", "mxfp4", "nvfp4_16x16", "float16"])
def test_strided_inputs_encode_the_same_and_stay_as_they_are(name: str) -> None:
    x = np.random.default_rng(31).normal(size=(32, inputs.width(block(name)))).astype(np.float32)
    strided = np.asfortranarray(np.repeat(x, 2, axis=0))[::2]
    before = strided.copy()
    np.testing.assert_array_equal(encode(strided, name).codes, encode(x, name).codes)
    np.testing.assert_array_equal(strided, before)


@pytest.mark.slow  # another compilation of every kernel
def test_read_only_inputs_encode_and_decode_the_same() -> None:
    x = np.random.default_rng(31).normal(size=(3, 64)).astype(np.float32)
    want = encode(x, "mxfp4")
    for array in (x, want.codes, want.scales):
        array.setflags(write=False)
    np.testing.assert_array_equal(encode(x, "mxfp4").codes, want.codes)
    np.testing.assert_array_equal(decode(want), decode(encode(x, "mxfp4")))


@pytest.mark.parametrize("name", cases())
def test_results_do_not_depend_on_the_number_of_threads(name: str) -> None:
    import numba

    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    spec = block(name)
    x = np.random.default_rng(37).normal(size=(2 * spec.tile(48)[0], 48 * inputs.width(spec))).astype(np.float32)
    x = x if spec.element.signed or spec.zero_point != "none" else np.abs(x)
    results = []
    before = numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            encoded = encode(x, spec)
            results.append(({n: p.tobytes() for n, p in encoded.parts.items()}, decode(encoded).tobytes()))
    finally:
        numba.set_num_threads(before)
    assert results[0] == results[1]


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_the_first_value_that_is_not_finite_is_named(name: str, bad: float) -> None:
    spec = block(name)
    if spec.nan_policy == "propagate":
        spec = spec.with_rules(nan_policy="error")
    rows = spec.tile(48)[0]
    x = np.zeros((2, 3 * rows, inputs.width(spec)), np.float32)
    x[1, rows - 1, 5] = x[1, rows - 1, 9] = x[1, 2 * rows, 0] = bad
    unsigned = not spec.element.signed and spec.zero_point == "none"
    if unsigned and bad == -np.inf:
        return  # refused for its sign
    with pytest.raises(ValueError, match=rf"{name}.*\[1, {rows - 1}, 5\].* is {bad}"):
        encode(x, spec)


def test_the_index_of_a_bad_value_is_named_in_one_dimension_and_along_another_axis() -> None:
    x = np.zeros(32, np.float32)
    x[30] = np.nan
    with pytest.raises(ValueError, match=r"\[30\]"):
        encode(x, "mxfp4")
    with pytest.raises(ValueError, match=r"\[0, 30\] \(block axis last\)"):
        encode(x[:, None], "mxfp4", axis=0)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", ">f4"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(TypeError, match=f"float32.*{dtype}"):
        encode(np.zeros(32, dtype), "mxfp4")
    with pytest.raises(TypeError, match="list"):
        encode([0.0] * 32, "mxfp4")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "axis", "words"),
    [
        ((2, 32), 2, "axis 2 is out of range"),
        ((2, 32), -3, "axis -3 is out of range"),
        ((), -1, "axis -1 is out of range"),
        ((0, 32), -1, r"mxfp4.*empty.*\(0, 32\)"),
        ((2, 0), -1, r"mxfp4.*empty.*\(2, 0\)"),
        ((2, 33), -1, "block of 32 does not divide the axis of 33; pad it to 64"),
        ((2, 32), 0, "block of 32 does not divide the axis of 2; pad it to 32"),
    ],
    ids=str,
)
def test_bad_shapes_and_axes_are_refused(shape: tuple[int, ...], axis: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encode(np.zeros(shape, np.float32), "mxfp4", axis=axis)


def parts(name: str) -> dict[str, object]:
    """Return the parts of a good Encoded."""
    return dict(encode(np.ones((2, inputs.width(block(name))), np.float32), name).parts)


@pytest.mark.parametrize(
    ("name", "field", "value", "words"),
    [
        ("mxfp4", "codes", np.full((2, 64), 16, np.uint8), "codes hold 16, allowed 0 .. 15"),
        ("mxfp4", "codes", np.zeros((2, 64), np.int8), "codes must be uint8.*int8"),
        ("mxfp4", "codes", np.zeros((2, 63), np.uint8), "block of 32 does not divide"),
        ("mxfp4", "codes", np.zeros((), np.uint8), r"codes must be \[..., K\]"),
        ("mxfp4", "codes", np.zeros((2, 0), np.uint8), "axis of the blocks is empty"),
        ("mxfp4", "scales", np.zeros((2, 2), np.uint16), r"scales must be uint8 \(2, 2\), not uint16"),
        ("mxfp4", "scales", np.zeros((2, 1), np.uint8), r"scales must be uint8 \(2, 2\), not uint8 \(2, 1\)"),
        ("int8", "scales", np.zeros((2, 1), np.float32), "scales must be uint32.*float32"),
        ("mxfp4", "zeros", np.zeros((2, 2), np.uint8), "zeros given, but the format has none"),
        ("int4_g128_asym", "zeros", None, "zeros missing"),
        ("int4_g128_asym", "zeros", np.zeros((2, 1), np.uint8), "zeros must be uint8"),
        ("int4_g128_asym", "zeros", np.full((2, 2), 16, np.uint8), "zeros hold 16, allowed 0 .. 15"),
        ("mxfp4", "tensor_scale", np.float32(1), "tensor_scale given, but the format has none"),
        ("nvfp4", "tensor_scale", None, "tensor_scale missing"),
    ],
)
def test_an_encoded_that_does_not_fit_its_format_is_refused(name: str, field: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: .*{words}|format {name}: .*{words}"):
        Encoded.of(block(name), **{**parts(name), field: value})


@pytest.mark.parametrize(
    ("name", "bits"),
    [("int8", 2 * 96 * 8 + 2 * 32), ("int4_g128", 2 * 256 * 4 + 4 * 16), ("int4_g128_asym", 2 * 256 * 4 + 4 * 20),
     ("mxfp4", 2 * 64 * 4 + 4 * 8), ("nvfp4", 2 * 32 * 4 + 4 * 8 + 32)],
)  # fmt: skip
def test_stored_bits_by_hand(name: str, bits: int) -> None:
    assert Encoded.of(block(name), **parts(name)).stored_bits == bits


def test_docstring_examples_run() -> None:
    import doctest

    from hwsim.formats import codec, packing

    assert [doctest.testmod(module).failed for module in (codec, packing)] == [0, 0]

"""Encode and decode against exact rationals, bit for bit, for every format of the registry."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import BlockSpec, Encoded, decode, decode_scales, encode, get, names
from tests.hwsim.formats import inputs, oracle

UINT = {8: np.uint8, 16: np.uint16, 32: np.uint32}


def expected(x: np.ndarray, spec: BlockSpec) -> tuple[list[list[int]], list[list[int]], list[list[int]], int | None]:
    """Return what the oracle makes of a matrix: codes, scales, zeros, bits of the tensor scale."""
    block = spec.block_size or x.shape[1]
    bits = np.ascontiguousarray(x).view(np.uint32)
    second = oracle.tensor_scale(spec, bits)
    rows = [
        [oracle.encode_block(spec, row[i : i + block].tolist(), second) for i in range(0, len(row), block)]
        for row in bits
    ]
    return (
        [[code for b in row for code in b.codes] for row in rows],
        [[b.scale for b in row] for row in rows],
        [[b.zero for b in row] for row in rows],
        second,
    )


def check(x: np.ndarray, spec: BlockSpec) -> Encoded:
    """Demand that the encoder gives the oracle's bits."""
    encoded = encode(x, spec)
    codes, scales, zeros, second = expected(x, spec)
    np.testing.assert_array_equal(encoded.scales, scales)
    if spec.zero_point == "none":
        assert encoded.zeros is None
    else:
        np.testing.assert_array_equal(encoded.zeros, zeros)
    assert (None if encoded.tensor_scale is None else int(encoded.tensor_scale.view(np.uint32))) == second
    np.testing.assert_array_equal(encoded.codes, codes)
    return encoded


@pytest.mark.parametrize("kind", inputs.KINDS)
@pytest.mark.parametrize("name", names())
def test_encode_gives_the_bits_of_the_exact_recipe(name: str, kind: str) -> None:
    check(inputs.make(kind, get(name)), get(name))


@pytest.mark.parametrize("name", names())
def test_tie_inputs_really_hold_ties(name: str) -> None:
    """Guard the inputs themselves: without exact ties the test above would prove less than it says."""
    spec = get(name)
    x = inputs.make("element_ties", spec)
    block = spec.block_size or x.shape[1]
    second = oracle.tensor_scale(spec, x.view(np.uint32))
    levels = oracle.levels(spec.element)
    middles = {(a + b) / 2 for a, b in pairwise(levels)}
    hits = set()
    for piece in x.reshape(-1, block):
        found = oracle.encode_block(spec, piece.view(np.uint32).tolist(), second)
        if found.step:
            hits |= middles & {Fraction(float(v)) / found.step + found.zero for v in piece}
    assert len(hits) >= 0.9 * len(middles)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("bits", [1, 3, 0x00400000, 0x00800000, 0x7F7FFFFF], ids=hex)
def test_a_constant_tensor_at_the_edges_of_float32(name: str, bits: int) -> None:
    spec = get(name)
    x = np.full((1, inputs.width(spec)), bits, np.uint32).view(np.float32)
    x[0, ::3] *= -1
    encoded = check(x, spec)
    assert encoded.tensor_scale is None or encoded.tensor_scale > 0


@pytest.mark.parametrize("name", names())
def test_a_tensor_of_zeros_decodes_to_zeros(name: str) -> None:
    x = np.zeros((2, inputs.width(get(name))), np.float32)
    encoded = encode(x, name)
    assert not encoded.codes.any() and not encoded.scales.any()
    assert not decode(encoded).view(np.uint32).any()


def test_one_sided_ranges_keep_zero_exact_for_asymmetric_int4() -> None:
    for low, high, zero in ((1.0, 16.0, 0), (-16.0, -1.0, 15), (-1.0, 2.75, 4), (-1e30, 0.0, 15), (-3e38, 3e38, 15)):
        x = np.linspace(low, high, 128, dtype=np.float32)
        x[7] = 0.0
        encoded = check(x[None], get("int4_g128_asym"))
        assert encoded.zeros is not None and encoded.zeros.tolist() == [[zero]]
        assert decode(encoded)[0, 7] == 0.0


def test_the_range_of_a_block_is_a_float64() -> None:
    """15 * (1 + 2**-11) alone is a scale tie, to even 1.0; a negative value beside it decides."""
    x = np.zeros((3, 128), np.float32)
    x[:, 0] = 15 * (1 + 2**-11)
    x[1, 1], x[2, 1] = -(2.0**-40), -(2.0**-60)
    encoded = check(x, get("int4_g128_asym"))
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
    spec, encoded = get("nvfp4"), encode(x, "nvfp4")
    g = oracle.float32_value(oracle.float32_bits(Fraction(float(np.abs(x).max())) / (448 * 6)))
    assert Fraction(float(encoded.tensor_scale)) == g
    for row, index in np.ndindex(8, 4):
        values = [Fraction(float(v)) for v in x[row, 16 * index : 16 * index + 16]]
        d_code = oracle.nearest(spec.scale, min(max(map(abs, values)) / 6 / g, Fraction(448)))
        assert encoded.scales[row, index] == d_code
        d = oracle.value(spec.scale, d_code)
        for v, code in zip(values, encoded.codes[row, 16 * index : 16 * index + 16], strict=True):
            assert code & 7 == oracle.nearest(spec.element, abs(v) / (d * g) if d else Fraction(0))


def test_mxfp4_agrees_with_gfloat_on_float64_copies() -> None:
    """gfloat takes floor(log2) in float64, which is right for every float32; zero blocks it scales as we do."""
    gfloat = pytest.importorskip("gfloat")
    formats = pytest.importorskip("gfloat.formats")
    info = formats.format_info_mxfp4_e2m1
    for kind in ("random", "powers", "halves", "element_ties"):
        x = inputs.make(kind, get("mxfp4")).reshape(-1, 32)[:40]
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
    spec, rng = get(name), np.random.default_rng(17)
    block = spec.block_size or 64
    shape = (12, 4 * block if spec.block_size else 64)
    blocks = (12, shape[1] // block)
    scales = rng.integers(0, 1 << spec.scale.bits, blocks)
    specials = [0, 1, spec.scale.max_code, spec.scale.max_code - 1, 1 << (spec.scale.bits - 1)]
    scales.flat[: len(specials)] = specials
    for index, code in np.ndenumerate(scales):
        if oracle.value(spec.scale, int(code)) == oracle.INFINITY:
            scales[index] = 1
    return Encoded(
        spec,
        rng.integers(0, 1 << spec.element.bits, shape).astype(np.uint8),
        scales.astype(UINT[spec.scale.bits]),
        rng.integers(0, 1 << spec.element.bits, blocks).astype(np.uint8) if spec.zero_point != "none" else None,
        np.float32(rng.uniform(1, 2)) if spec.tensor_scale != "none" else None,
    )


SECOND = {"odd": 0x3FB504F3, "negative": 0xBFB504F3, "smallest": 0x00000001, "largest": 0x7F7FFFFF}


@pytest.mark.parametrize(
    ("name", "second"),
    [(name, second) for name in names() for second in (SECOND if get(name).tensor_scale != "none" else ["none"])],
    ids=lambda value: value,
)
def test_decode_is_the_exact_product_rounded_once(name: str, second: str) -> None:
    encoded, second_bits = random_codes(name), SECOND.get(second)
    spec = encoded.format
    if second_bits is not None:
        encoded = dataclasses.replace(encoded, tensor_scale=np.uint32(second_bits).view(np.float32))
    block = encoded.k // encoded.scales.shape[1]
    got = decode(encoded)
    assert got.dtype == np.float32
    for (row, k), code in np.ndenumerate(encoded.codes):
        index = (row, k // block)
        zero = 0 if encoded.zeros is None else int(encoded.zeros[index])
        want = oracle.decode_bits(spec, int(code), int(encoded.scales[index]), zero, second_bits)
        if want is None:
            assert np.isnan(got[row, k])
        else:
            assert got.view(np.uint32)[row, k] == want, (row, k)


@pytest.mark.parametrize("name", names())
def test_a_nan_scale_makes_its_whole_block_nan_and_no_other(name: str) -> None:
    spec = get(name)
    nan = next((c for c in range((1 << spec.scale.bits) - 1, 0, -1) if oracle.value(spec.scale, c) == oracle.NAN), None)
    x = np.ones((2, inputs.width(spec)), np.float32)
    encoded = encode(x, spec)
    encoded.scales[0, 0] = nan
    block = encoded.k // encoded.scales.shape[1]
    bad = np.isnan(decode(encoded))
    assert bad[0, :block].all() and bad.sum() == block
    assert np.isnan(decode_scales(encoded)).sum() == 1


def canonical(name: str) -> Encoded:
    """Return codes that decoding and encoding again must give back: every block uses its full range."""
    spec, rng = get(name), np.random.default_rng(23)
    block = spec.block_size or 64
    shape = (16, 2 * block if spec.block_size else 64)
    codes = rng.integers(0, 1 << spec.element.bits, shape).astype(np.uint8)
    if spec.element.name in ("int8", "int4"):
        codes[codes == 1 << (spec.element.bits - 1)] = 0  # narrow range
    full = {"int8": 127, "int4": 7, "uint4": 15, "float4_e2m1fn": 15}[spec.element.name]
    codes[:, ::block] = full
    blocks = (16, shape[1] // block)
    zeros = second = None
    if spec.scale.name == "float32":  # 17 significant bits: 127 * scale is exact
        scales = rng.integers(1, 0x7F00, blocks) << 16
    elif spec.scale.name == "float16":
        scales = rng.integers(0x0400, 0x7000, blocks)  # normal ones: the rounding of the scale moves 7 by little
    elif spec.scale.name == "float8_e4m3fn":
        scales = rng.integers(8, 0x7F, blocks)
        scales[0, 0], second = 0x7E, np.float32(0.0123).view(np.uint32)
        second = np.uint32(second & 0xFFFF8000).view(np.float32)  # 2688 * g is exact
    else:
        scales = rng.integers(0, 253, blocks)
    if spec.zero_point != "none":
        zeros = rng.integers(0, 16, blocks).astype(np.uint8)
        codes[:, 1::block] = 0
    return Encoded(spec, codes, scales.astype(UINT[spec.scale.bits]), zeros, second)


@pytest.mark.parametrize("name", ["int8", "int4_g128", "int4_g128_asym", "mxfp4", "nvfp4"])
def test_canonical_codes_survive_decode_and_encode(name: str) -> None:
    before = canonical(name)
    after = encode(decode(before), name)
    np.testing.assert_array_equal(after.scales, before.scales)
    np.testing.assert_array_equal(after.codes, before.codes)
    assert after.tensor_scale == before.tensor_scale
    if before.zeros is not None:
        np.testing.assert_array_equal(after.zeros, before.zeros)


@pytest.mark.parametrize("kind", inputs.KINDS)
def test_mxfp4_is_idempotent_on_any_input(kind: str) -> None:
    once = decode(encode(inputs.make(kind, get("mxfp4")), "mxfp4"))
    np.testing.assert_array_equal(decode(encode(once, "mxfp4")).view(np.uint32), once.view(np.uint32))


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=25)
@given(st.floats(2.0**-80, 2.0**80, width=32), st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=14))
@pytest.mark.parametrize("name", names())
def test_order_is_kept_within_a_block(name: str, top: float, parts: list[float]) -> None:
    x = np.zeros(inputs.width(get(name)), np.float32)
    x[0], x[1] = top, -top  # fix the scale
    x[2 : 2 + len(parts)] = np.sort(np.array(parts, np.float32)) * np.float32(top)
    y = decode(encode(x, name))[2 : 2 + len(parts)]
    assert (np.diff(y) >= 0).all()


@settings(max_examples=25)
@given(st.lists(st.floats(0.0625, 1024, width=32), min_size=32, max_size=32), st.integers(-110, 110))
def test_mxfp4_follows_a_power_of_two_with_its_scale_alone(values: list[float], shift: int) -> None:
    x = np.array(values, np.float32) * np.tile([1, -1], 16).astype(np.float32)
    plain, shifted = encode(x, "mxfp4"), encode(np.ldexp(x, shift).astype(np.float32), "mxfp4")
    np.testing.assert_array_equal(plain.codes, shifted.codes)
    assert shifted.scales[0] == int(plain.scales[0]) + shift


@settings(max_examples=25)
@given(st.lists(finite, min_size=1, max_size=40))
def test_a_sign_change_changes_only_signs(values: list[float]) -> None:
    x = np.zeros(128, np.float32)
    x[: len(values)] = values
    for name in names():
        if get(name).zero_point == "none":
            np.testing.assert_array_equal(decode(encode(-x, name)), -decode(encode(x, name)))


@pytest.mark.parametrize("name", names())
def test_rows_do_not_influence_each_other(name: str) -> None:
    spec = get(name)
    x = inputs.make("random", spec)
    x[0, 0] = 50.0  # pins the tensor scale
    whole, rest = encode(x, spec), encode(x[:2], spec)
    np.testing.assert_array_equal(whole.codes[:2], rest.codes)
    np.testing.assert_array_equal(whole.scales[:2], rest.scales)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_blocks_lie_along_the_axis_asked_for(name: str, ndim: int) -> None:
    spec = get(name)
    k = inputs.width(spec)
    others = [(), (3,), (2, 3)][ndim - 1]
    last = np.random.default_rng(29).normal(size=(*others, k)).astype(np.float32)
    plain = encode(last, spec)
    for axis in range(-ndim, ndim):
        encoded = encode(np.moveaxis(last, -1, axis), spec, axis=axis)
        np.testing.assert_array_equal(encoded.codes, plain.codes)
        np.testing.assert_array_equal(encoded.scales, plain.scales)
        back = decode(encoded)
        assert back.shape == np.moveaxis(last, -1, axis).shape
        np.testing.assert_array_equal(np.moveaxis(back, axis, -1), decode(plain))


@pytest.mark.parametrize("name", names())
def test_strided_inputs_encode_the_same_and_stay_as_they_are(name: str) -> None:
    x = np.random.default_rng(31).normal(size=(3, inputs.width(get(name)))).astype(np.float32)
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


@pytest.mark.parametrize("name", names())
def test_results_do_not_depend_on_the_number_of_threads(name: str) -> None:
    import numba

    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    x = np.random.default_rng(37).normal(size=(64, inputs.width(get(name)))).astype(np.float32)
    results = []
    before = numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            encoded = encode(x, name)
            results.append((encoded.codes.tobytes(), encoded.scales.tobytes(), decode(encoded).tobytes()))
    finally:
        numba.set_num_threads(before)
    assert results[0] == results[1]


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_the_first_value_that_is_not_finite_is_named(name: str, bad: float) -> None:
    x = np.zeros((2, 3, inputs.width(get(name))), np.float32)
    x[1, 0, 5] = x[1, 0, 9] = x[1, 2, 0] = bad
    with pytest.raises(ValueError, match=rf"{name}.*\[1, 0, 5\].* is {bad}"):
        encode(x, name)


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
    """Return the fields of a good Encoded."""
    encoded = encode(np.ones((2, inputs.width(get(name))), np.float32), name)
    return {f.name: getattr(encoded, f.name) for f in dataclasses.fields(encoded)}


@pytest.mark.parametrize(
    ("name", "field", "value", "words"),
    [
        ("mxfp4", "codes", np.full((2, 64), 16, np.uint8), "codes hold 16, allowed 0 .. 15"),
        ("mxfp4", "codes", np.zeros((2, 64), np.int8), "codes must be uint8.*int8"),
        ("mxfp4", "codes", np.zeros((2, 63), np.uint8), "block of 32 does not divide"),
        ("mxfp4", "codes", np.zeros((), np.uint8), r"codes must be uint8 \[..., K\]"),
        ("mxfp4", "codes", np.zeros((2, 0), np.uint8), "axis of the blocks is empty"),
        ("mxfp4", "scales", np.zeros((2, 2), np.uint16), r"scales must be uint8 \(2, 2\), not uint16"),
        ("mxfp4", "scales", np.zeros((2, 1), np.uint8), r"scales must be uint8 \(2, 2\), not uint8 \(2, 1\)"),
        ("int8", "scales", np.zeros((2, 1), np.float32), "scales must be uint32.*float32"),
        ("mxfp4", "zeros", np.zeros((2, 2), np.uint8), "zero points given, but the format has none"),
        ("int4_g128_asym", "zeros", None, "zero points missing"),
        ("int4_g128_asym", "zeros", np.zeros((2, 1), np.uint8), "zeros must be uint8"),
        ("int4_g128_asym", "zeros", np.full((2, 2), 16, np.uint8), "zeros hold 16, allowed 0 .. 15"),
        ("mxfp4", "tensor_scale", np.float32(1), "tensor_scale is 1.0"),
        ("nvfp4", "tensor_scale", None, "tensor_scale is None"),
    ],
)
def test_an_encoded_that_does_not_fit_its_format_is_refused(name: str, field: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: .*{words}|format {name}: .*{words}"):
        Encoded(**{**parts(name), field: value})


@pytest.mark.parametrize(
    ("name", "bits"),
    [("int8", 2 * 96 * 8 + 2 * 32), ("int4_g128", 2 * 256 * 4 + 4 * 16), ("int4_g128_asym", 2 * 256 * 4 + 4 * 20),
     ("mxfp4", 2 * 64 * 4 + 4 * 8), ("nvfp4", 2 * 32 * 4 + 4 * 8 + 32)],
)  # fmt: skip
def test_stored_bits_by_hand(name: str, bits: int) -> None:
    assert Encoded(**parts(name)).stored_bits == bits


def test_docstring_examples_run() -> None:
    import doctest

    from hwsim.formats import codec, packing

    assert [doctest.testmod(module).failed for module in (codec, packing)] == [0, 0]

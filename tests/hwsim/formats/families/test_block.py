"""Block formats under every named rule, and what they refuse."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwsim.formats import BlockSpec, Encoded, FloatSpec, IntSpec, TableSpec, block, decode, element, encode, get, names
from hwsim.formats.catalog.bfp import bfp
from hwsim.formats.rounding import MODES
from tests.hwsim.formats import inputs, oracle
from tests.hwsim.formats.test_codec import check

BLOCKS = [name for name in names() if isinstance(get(name), BlockSpec) and block(name).scale is not None]


# --- rounding


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e4m3", "mxint8", "nvfp4", "int4_g32_asym", "int8", "float8_e5m2"])
def test_every_rounding_of_elements(name: str, mode: str) -> None:
    spec = block(name).with_rules(rounding=mode, seed=5)
    for kind in ("random", "element_ties", "halves"):
        check(inputs.make(kind, block(name))[:12], spec)


@pytest.mark.parametrize("name", ["mxfp4", "int4_g32", "float8_e4m3fn"])
def test_stochastic_rounding_depends_on_the_place_in_the_tensor_alone_and_has_the_right_mean(name: str) -> None:
    spec = block(name).with_rules(rounding="stochastic", seed=11)
    x = np.full((64, 128), 0.3, np.float32)
    x[:, ::32] = 6  # pins the scale
    whole = decode(encode(x, spec))
    np.testing.assert_array_equal(decode(encode(x, spec)), whole)
    np.testing.assert_array_equal(decode(encode(x[:8], spec)), whole[:8])  # the first rows have the same indices
    assert not np.array_equal(decode(encode(x, spec.with_rules(seed=12))), whole)
    free = whole[:, np.arange(128) % 32 != 0]
    levels = np.unique(free)
    assert len(levels) == 2 and levels[0] < 0.3 < levels[1]
    spread = (levels[1] - levels[0]) / 2 / np.sqrt(free.size)
    assert abs(free.mean() - 0.3) < 5 * spread


def test_the_vector_loops_and_the_general_loop_agree() -> None:
    """The rule `rne` alone has vector loops; an equal rule in another guise takes the general loop."""
    rng = np.random.default_rng(3)
    for name in ("mxfp4", "mxfp8_e5m2", "fp8_e4m3_row", "nvfp4", "float8_e4m3fn"):
        x = (rng.standard_normal((16, 256)) * np.exp2(rng.integers(-3, 3, (16, 1)))).astype(np.float32)
        odd = x.view(np.uint32) | 1  # no exact ties: all modes to nearest agree
        x = odd.view(np.float32)
        want = encode(x, name)
        for mode in ("rna", "rnz"):
            got = encode(x, block(name).with_rules(rounding=mode))
            for part in want.parts:
                np.testing.assert_array_equal(got.parts[part], want.parts[part])


# --- overflow, NaN, zeros


def test_ofp8_conversion_saturates_or_not() -> None:
    """OFP8 table 3: saturating, finite overflow and Inf give the largest value; else E4M3 gives NaN, E5M2 gives Inf."""
    inf, nan = np.inf, np.nan
    x = np.array([448, 464, 464.1, 1e30, inf, -inf, nan, 57344, 61439, 61440, -61440], np.float32)
    spec = block("float8_e4m3fn").with_rules(nan_policy="propagate")
    assert encode(x, spec).codes.tolist() == [0x7E, 0x7E, 0x7E, 0x7E, 0x7E, 0xFE, 0x7F, 0x7E, 0x7E, 0x7E, 0xFE]
    hard = spec.with_rules(overflow="nonsaturating")
    assert encode(x, hard).codes.tolist() == [0x7E, 0x7E, 0x7F, 0x7F, 0x7F, 0xFF, 0x7F, 0x7F, 0x7F, 0x7F, 0xFF]
    wide = block("float8_e5m2").with_rules(nan_policy="propagate", overflow="nonsaturating")
    assert encode(x, wide).codes.tolist() == [0x5F, 0x5F, 0x5F, 0x7C, 0x7C, 0xFC, 0x7E, 0x7B, 0x7B, 0x7C, 0xFC]
    np.testing.assert_array_equal(decode(encode(x, wide))[[3, 4, 5, 6, 9]], [inf, inf, -inf, nan, inf])


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e4m3", "mxint8", "nvfp4", "int4_g32", "fp8_e4m3_row"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_nan_and_inf_make_their_block_nan_where_asked(name: str, bad: float) -> None:
    spec = block(name)
    x = np.random.default_rng(4).normal(size=(3, 2 * spec.tile(64)[1])).astype(np.float32)
    if spec.tensor_scale != "none":
        with pytest.raises(ValueError, match="without a second-level scale"):  # that of the whole tensor would be lost
            spec.with_rules(nan_policy="propagate")
        return
    want = decode(encode(x, spec))
    x[1, 3] = bad
    got = decode(encode(x, spec.with_rules(nan_policy="propagate")))
    columns = spec.tile(x.shape[1])[1]
    assert np.isnan(got[1, :columns]).all()
    got[1, :columns] = want[1, :columns] = 0
    np.testing.assert_array_equal(got, want)


def test_a_block_of_zeros_follows_its_rule() -> None:
    x = np.zeros((1, 64), np.float32)
    x[0, 40] = 1.5
    assert encode(x, "mxfp4").scales.tolist() == [[0, 125]]
    assert encode(x, "mxfp4_microxcaling").scales.tolist() == [[0, 125]]  # -126 - 2 is clamped
    assert encode(x, "mxint8_microxcaling").scales.tolist() == [[1, 127]]
    assert encode(x, block("mxfp4").with_rules(zero_block="one")).scales.tolist() == [[127, 125]]
    with pytest.raises(ValueError, match=r"mxfp4.*: a block of zeros in row \[0\]"):
        encode(x, block("mxfp4").with_rules(zero_block="error"))
    assert decode(encode(x, "nvfp4_modelopt"))[0, 40] == pytest.approx(1.5, rel=1e-6)
    assert encode(x, "nvfp4_modelopt").scales.tolist()[0][0] == 0x38


# --- scale rules, by hand and by outside tools


def test_scale_rules_of_mx_by_hand() -> None:
    """Exponents of the scale of an E2M1 block of largest magnitude amax (largest level 6, emax 2)."""
    table = {  # amax: floor, even, ceil, rceil, tosa, away_ceil
        4.0: (0, 0, 0, 0, 0, 0),
        6.0: (0, 0, 1, 0, 0, 0),
        6.5: (0, 0, 1, 1, 0, 1),
        7.0: (0, 1, 1, 1, 1, 1),
        7.5: (0, 1, 1, 1, 1, 1),
        4.5: (0, 0, 1, 0, 0, 0),
        1.0: (-2, -2, -2, -2, -2, -2),
    }
    for amax, exponents in table.items():
        x = np.zeros((1, 32), np.float32)
        x[0, 9] = -amax
        for rule, exponent in zip(("", "_even", "_ceil", "_rceil", "_tosa", "_away_ceil"), exponents, strict=True):
            assert int(encode(x, f"mxfp4{rule}").scales[0, 0]) - 127 == exponent, (amax, rule)


def test_tosa_and_even_differ_on_e4m3_alone() -> None:
    """Published sweep: they agree on all mantissas but for E4M3 between 1.8125 and 1.9375."""
    mantissas = np.linspace(1, 2, 1024, endpoint=False).astype(np.float32)
    x = np.zeros((1024, 32), np.float32)
    x[:, 0] = mantissas
    for name in ("mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2"):
        differ = mantissas[encode(x, f"{name}_tosa").scales[:, 0] != encode(x, f"{name}_even").scales[:, 0]]
        if name == "mxfp8_e4m3":
            assert 1.8125 < differ.min() < 1.8145 and 1.936 < differ.max() < 1.9375  # at 1.8125 the tie stays
        else:
            assert differ.size == 0, name
    shares = {"mxfp4": 25, "mxfp6_e2m3": 6.25, "mxfp6_e3m2": 12.5, "mxfp8_e4m3": 18.75, "mxfp8_e5m2": 12.5}
    for name, percent in shares.items():  # of a binade on which floor and tosa differ
        differ = encode(x, name).scales[:, 0] != encode(x, f"{name}_tosa").scales[:, 0]
        assert 100 * differ.mean() == pytest.approx(percent, abs=0.11), name


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8_full"])
def test_mx_agrees_with_gfloat_on_float64_copies(name: str) -> None:
    """gfloat takes floor(log2) in float64, right for every float32; it is asked to saturate."""
    gfloat, formats = pytest.importorskip("gfloat"), pytest.importorskip("gfloat.formats")
    info = getattr(formats, f"format_info_{name.removesuffix('_full')}" + {"mxfp4": "_e2m1"}.get(name, ""))
    for kind in ("random", "powers", "element_ties"):
        x = inputs.make(kind, block(name)).reshape(-1, 32)[:40]
        ours = decode(encode(x, name))
        for mine, row in zip(ours, x, strict=True):
            scale = gfloat.compute_scale_amax(block(name).element.emax, row.astype(np.float64))
            elements = gfloat.round_ndarray(info.etype, row.astype(np.float64) / scale, sat=True)
            np.testing.assert_array_equal(mine, (elements * scale).astype(np.float32))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("asym", [False, True], ids=["symmetric", "asymmetric"])
def test_group_integers_agree_with_torch(bits: int, asym: bool) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(bits).standard_normal((8, 128), dtype=np.float32)
    encoded = encode(x, f"int{bits}_g32{'_asym' if asym else ''}")
    scale = torch.from_numpy(encoded.scales.view(np.float16).astype(np.float64)).repeat_interleave(32, 1)
    steps = torch.round(torch.from_numpy(x).double() / scale)  # half to even
    if asym:
        zeros = torch.from_numpy(encoded.zeros.astype(np.float64)).repeat_interleave(32, 1)
        want = torch.clamp(steps + zeros, 0, 2**bits - 1)
    else:
        top = 2 ** (bits - 1) - 1
        want = torch.clamp(steps, -top, top).remainder(2**bits)
    np.testing.assert_array_equal(encoded.codes, want.numpy().astype(np.uint8))


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4_16x16", "fp8_e4m3_128x128", "mxfp8_e4m3_32x32"])
def test_elements_agree_with_ml_dtypes_under_the_scales_found(name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    spec = block(name)
    x = np.random.default_rng(8).standard_normal((128, 256), dtype=np.float32)
    encoded = encode(x, spec)
    rows, columns = spec.tile(256)
    steps = spec.scale_values(encoded.scales) * spec.outer_values(encoded.parts)
    steps = np.repeat(np.repeat(steps, rows, 0), columns, 1)
    dtype = np.dtype(getattr(ml_dtypes, spec.element.name))
    quotients = np.clip(x / steps, -spec.max_value, spec.max_value)
    np.testing.assert_array_equal(encoded.codes, quotients.astype(dtype).view(np.uint8))


def test_a_tile_and_its_transpose_share_their_codes() -> None:
    x = np.random.default_rng(9).standard_normal((64, 96), dtype=np.float32)
    plain, turned = encode(x, "mxfp8_e4m3_32x32"), encode(np.ascontiguousarray(x.T), "mxfp8_e4m3_32x32")
    np.testing.assert_array_equal(plain.codes.T, turned.codes)
    np.testing.assert_array_equal(plain.scales.T, turned.scales)


def test_mxint8_code_80_is_emitted_only_where_asked_and_decodes_as_minus_two() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, :2] = -1.9999, 1.0
    assert encode(x, "mxint8").codes[0, 0] == 0x81
    full = encode(x, "mxint8_full")
    assert full.codes[0, 0] == 0x80 and decode(full)[0, 0] == -2


def test_msfp_and_free_block_floating_point() -> None:
    """MSFP12: 3 magnitude bits in steps of 2**(exponent(amax) - 2)."""
    x = np.zeros((1, 16), np.float32)
    x[0, :5] = 1.0, 0.25, -0.375, 1.9, -0.1
    assert decode(encode(x, "msfp12"))[0, :5].tolist() == [1, 0.25, -0.5, 1.75, -0.0]
    own = bfp("bfp6_b8", 5, 8, "free block floating point")
    assert own.bits_per_element(64) == 7 and block("msfp12").bits_per_element(64) == 4.5
    check(np.random.default_rng(2).standard_normal((4, 64), dtype=np.float32), own)


def test_a_real_valued_bias_is_one_real_scale() -> None:
    """LLM-FP4: b = 2**E - log2(amax) + log2(2 - 2**-M) - 1, step 2**(max(floor(log2|x| + b), 1) - M - b)."""
    x = np.random.default_rng(12).standard_normal((4, 64), dtype=np.float32)
    ours = decode(encode(x, "llm_fp4")).astype(np.float64)
    amax = np.abs(x).max(axis=1, keepdims=True).astype(np.float64)
    bias = 4 - np.log2(amax) + np.log2(1.5) - 1
    steps = 2.0 ** (np.maximum(np.floor(np.log2(np.abs(x).astype(np.float64)) + bias), 1) - 1 - bias)
    np.testing.assert_allclose(np.rint(x / steps) * steps, ours, rtol=1e-6)


# --- padding, buffers


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "int4_g128_asym", "int8"])
@pytest.mark.parametrize("axis", [0, 1])
def test_padding_is_recorded_and_dropped(name: str, axis: int) -> None:
    x = np.random.default_rng(10).standard_normal((50, 70), dtype=np.float32)
    whole = block(name).padding(x.shape[axis])
    encoded = encode(x, name, axis, pad=True)
    assert encoded.padding == whole and encoded.k == x.shape[axis] + whole
    y = decode(encoded)
    assert y.shape == x.shape and np.abs(y - x).max() < np.abs(x).max() / 4
    if whole:
        with pytest.raises(ValueError, match="does not divide the axis"):
            encode(x, name, axis)
        with pytest.raises(ValueError, match="padding 300 does not fit"):
            dataclasses.replace(encoded, padding=300)


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "int4_g128_asym", "float16", "int4_g16_vsq"])
def test_arrays_can_be_written_again(name: str) -> None:
    rng = np.random.default_rng(11)
    x, y = rng.standard_normal((2, 8, 256), dtype=np.float32)
    first = encode(x, name)
    arrays = dict(first.parts)
    again = encode(y, name, out=first)
    assert again is first
    for part, want in encode(y, name).parts.items():
        assert again.parts[part] is arrays[part]
        np.testing.assert_array_equal(again.parts[part], want)
    values = np.empty_like(y)
    assert np.shares_memory(decode(again, out=values), values)
    np.testing.assert_array_equal(values, decode(encode(y, name)))


def test_arrays_that_cannot_be_written_again_are_refused() -> None:
    x = np.ones((4, 64), np.float32)
    out = encode(x, "mxfp4")
    for other, shape in (("mxfp8_e4m3", (4, 64)), ("mxfp4", (2, 64))):
        with pytest.raises(ValueError, match="out holds mxfp4"):
            encode(np.ones(shape, np.float32), other, out=out)
    out.codes.setflags(write=False)
    with pytest.raises(ValueError, match="codes of mxfp4 cannot be written in place"):
        encode(x, "mxfp4", out=out)
    for bad in (np.empty((4, 64)), np.empty((64, 4), np.float32).T, np.empty((2, 64), np.float32)):
        with pytest.raises(ValueError, match="out must be contiguous, writable float32"):
            decode(out, out=bad)  # type: ignore[arg-type]


# --- what is refused


def spec(**changes: object) -> BlockSpec:
    """Return a small valid block format with some fields replaced."""
    fields: dict[str, object] = {
        "name": "mine", "element": element("int4"), "scale": element("float16"), "block_size": 8,
        "scale_rule": "amax", "source": "test",
    }  # fmt: skip
    return BlockSpec(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_size": 0}, "block_size must be at least 1"),
        ({"block_size": -4}, "block_size"),
        ({"block_size": (16, 0)}, "block_size"),
        ({"scale": None}, "scale and scale_rule go together"),
        ({"scale": None, "scale_rule": "none"}, "a bare element has no blocks"),
        ({"scale_rule": "range"}, "go together"),
        ({"zero_point": "include_zero"}, "go together"),
        ({"scale_rule": "range", "zero_point": "include_zero"}, "unsigned integer"),
        ({"scale_rule": "floor"}, "power-of-two scale"),
        ({"scale": element("float8_e8m0fnu")}, "with a zero"),
        ({"scale": element("uint8")}, "needs a tensor_scale or row_scale"),
        ({"tensor_scale": "float32"}, "scale_cap"),
        ({"scale_cap": 448.0}, "scale_cap"),
        ({"tensor_scale": "float32", "scale_cap": 1e9}, "scale_cap"),
        ({"tensor_scale": "float32", "row_scale": "float16", "scale_cap": 1.0}, "exclude each other"),
        ({"element": element("float16")}, "one byte"),
        ({"element": element("float8_e8m0fnu")}, "need subnormals"),
        ({"scale_floor": -1.0}, "scale_floor"),
        ({"quotient": "fp32_inverse"}, "second-level scale"),
        ({"rounding": "up"}, "rounding must be one of rne, .*, not 'up'"),
        ({"overflow": "sat"}, "overflow must be one of saturate, nonsaturating, not 'sat'"),
        ({"quotient": "fp32"}, "quotient must be one of exact, fp32_inverse, not 'fp32'"),
        ({"tensor_scale": "float16"}, "tensor_scale must be one of none, float32, not 'float16'"),
        ({"row_scale": "bfloat16"}, "row_scale must be one of"),
        ({"nan_policy": "ignore"}, "nan_policy must be one of error, propagate, not 'ignore'"),
        ({"nibble_order": "halves"}, "nibble_order must be one of"),
        ({"zero_point": "signed"}, "zero_point must be one of"),
        ({"scale_rule": "flor"}, "scale_rule must be one of"),
        ({"zero_block": "zero"}, "zero_block must be one of"),
        ({"level": 0.0}, "level must be positive and finite"),
        ({"level": float("inf")}, "level must be positive and finite"),
        ({"scale": element("float8_e8m0fnu"), "scale_rule": "floor", "level": 5.0}, "for a scale_rule that divides"),
        ({"scale_floor": 1e30}, "must lie within the scale format"),
        ({"scale_floor": float("nan")}, "must lie within the scale format"),
        ({"seed": -1}, "seed must be an integer"),
        ({"seed": 1 << 63}, "seed must be an integer"),
        ({"element": element("int8"), "nibble_order": "high_first"}, "codes of 4 bits"),
        (
            {"tensor_scale": "float32", "scale_cap": 1.0, "scale": element("float8_e4m3fn"), "nan_policy": "propagate"},
            "without a second-level scale",
        ),
        (
            {
                "element": element("float3_e2m0"),
                "tensor_scale": "float32",
                "scale_cap": 1.0,
                "scale": element("float8_e4m3fn"),
                "quotient": "fp32_inverse",
            },
            "with a mantissa",
        ),
        (
            {
                "scale": FloatSpec("e5m0", 5, 0, 15, "own", signed=False, has_zero=True, subnormals=False),
                "scale_rule": "floor",
            },
            "every code is a power of two",
        ),
        (
            {"scale": element("float32"), "tensor_scale": "float32", "scale_cap": 1.0, "level": 4.0},
            "a step of 48 bits",
        ),
        ({"overflow": "nonsaturating"}, "neither Inf nor NaN"),
        ({"nan_policy": "propagate", "scale": element("ufloat7_e4m3fn")}, None),
        ({"zero_block": "microxcaling"}, "power-of-two"),
        ({"element": element("dynamic8"), "rounding": "rtz"}, "thresholds"),
        (
            {"element": element("int8"), "scale": element("float32"), "tensor_scale": "float32", "scale_cap": 1.0},
            "a step of 48 bits",
        ),
    ],
    ids=str,
)
def test_rules_that_do_not_go_together_are_refused(changes: dict[str, object], words: str | None) -> None:
    if words is None:
        spec(**changes)
        return
    with pytest.raises(ValueError, match=rf"'mine': .*{words}"):
        spec(**changes)


def test_an_earlier_result_along_another_axis_or_padded_otherwise_is_not_written_again() -> None:
    x = np.ones((64, 64), np.float32)
    earlier = encode(x, "mxfp4")
    assert encode(x, "mxfp4", axis=1, out=earlier) is earlier
    with pytest.raises(ValueError, match="out was encoded along axis -1 with padding 0, not along 0 with 0"):
        encode(x, "mxfp4", axis=0, out=earlier)
    with pytest.raises(ValueError, match="with padding 14, not along 1 with 0"):
        encode(x, "mxfp4", out=encode(x[:, :50], "mxfp4", pad=True))


def test_products_too_small_for_float32_are_rounded_once() -> None:
    """An element whose smallest step lies where float32 products are subnormal is left to the general loop."""
    tiny = FloatSpec("e6m1b126", 6, 1, 126, "own")
    fmt = BlockSpec(name="own", element=tiny, scale=element("float8_e8m0fnu"), block_size=4, scale_rule="floor",
                    source="own")  # fmt: skip
    x = np.array([[2.0**30, float.fromhex("0x1.000002p-34"), 0, 0]], np.float32)
    step = oracle.encode_block(fmt, x.view(np.uint32)[0].tolist(), None)
    encoded = encode(x, fmt)
    assert encoded.codes[0].tolist() == step.codes and encoded.scales[0, 0] == step.scale


def test_codes_beyond_a_nibble_are_kept() -> None:
    values = [None] * 100 + [-1.0, 0.0, 1.0] + [None] * 153
    for table, want in (
        (TableSpec("wide", 8, tuple(values), "own"), [102, 101, 100, 101]),
        (TableSpec("wide_signed", 6, (*[None] * 20, 0.0, None, 1.0, *[None] * 9), "own", symmetric=True),
         [22, 20, 54, 20]),
    ):  # fmt: skip
        fmt = BlockSpec(name="own", element=table, scale=element("float32"), scale_rule="amax", source="own")
        assert encode(np.array([[1.0, 0.0, -1.0, 0.1]], np.float32), fmt).codes[0].tolist() == want


def test_a_second_level_scale_that_is_not_finite_is_refused() -> None:
    encoded = encode(np.ones((2, 32), np.float32), "nvfp4")
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=f"nvfp4: a second-level scale is {bad}"):
            decode(encoded.replace_parts(tensor_scale=np.asarray(np.float32(bad))))


def test_int8_full_has_the_scales_of_torch_and_uses_its_lowest_code() -> None:
    torch = pytest.importorskip("torch")
    observers = pytest.importorskip("torch.ao.quantization.observer")
    x = np.random.default_rng(4).standard_normal((16, 500)).astype(np.float32)
    x[:, 3] = -np.abs(x).max(axis=1)
    observer = observers.PerChannelMinMaxObserver(
        dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=-128, quant_max=127
    )
    observer(torch.from_numpy(x))
    scales, _ = observer.calculate_qparams()
    encoded = encode(x, "int8_full")
    np.testing.assert_array_equal(encoded.scales[:, 0].view(np.float32), scales.numpy())
    assert (encoded.codes[:, 3] == 0x80).any()  # a tie at -127.5, where the scale is not rounded up


def test_microxcaling_rounds_ties_away_and_propagates() -> None:
    x = np.zeros((2, 32), np.float32)
    x[0, :8] = [6.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]
    x[1, 5] = np.inf
    y = decode(encode(x, "mxfp4_microxcaling"))
    assert y[0, 1:8].tolist() == [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0] and np.isnan(y[1]).all()


def test_values_below_zero_are_refused_where_there_is_no_sign() -> None:
    x = np.ones((2, 32), np.float32)
    x[1, 7] = -0.5
    with pytest.raises(ValueError, match=r"ufloat8_e5m3fn.*has no sign, but the value at \[1, 7\] .* is -0.5"):
        encode(x, "ufloat8_e5m3fn")
    x[1, 7] = -0.0
    assert encode(x, "ufloat8_e5m3fn").codes[1, 7] == 0


@pytest.mark.parametrize(("shape", "words"), [((32,), "tiles of 16 rows"), ((24, 32), "tiles of 16 rows")])
def test_a_tile_that_does_not_divide_is_refused(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encode(np.zeros(shape, np.float32), "nvfp4_16x16")


def test_rows_of_a_tiled_tensor_are_not_chosen() -> None:
    encoded = encode(np.ones((32, 32), np.float32), "nvfp4_16x16")
    with pytest.raises(ValueError, match="scales do not lie by rows"):
        encoded.rows(slice(0, 16))
    assert encode(np.ones((32, 32), np.float32), "nvfp4").rows(np.array([3, 5])).shape == (2, 32)


@pytest.mark.parametrize("name", BLOCKS)
def test_bits_per_element_are_those_stored(name: str) -> None:
    shape = (128, 1024)
    encoded = encode(np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32), name)
    assert isinstance(encoded, Encoded)
    scalar = 32 if encoded.tensor_scale is not None else 0
    assert encoded.stored_bits == block(name).stored_bits(shape)
    assert (encoded.stored_bits - scalar) / (128 * 1024) == block(name).bits_per_element(1024, rows=128)


def test_float_and_integer_specs_are_what_the_rules_speak_of() -> None:
    assert isinstance(block("mxfp4").element, FloatSpec) and isinstance(block("mxint8").element, IntSpec)
    assert oracle.top_level(block("mxint8")) * 64 == 127

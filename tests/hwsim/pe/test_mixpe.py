"""`mixpe_w4a8` and `mixpe_w4a16`: kernels, plain reference and exact rationals; dequantising first; what is counted."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from hwsim import pe
from hwsim.formats import Encoded, element, encode, get
from hwsim.pe import _dot_gemm, int_mac, mixpe_w4a8, mixpe_w4a16
from tests.hwsim.formats import oracle as numbers
from tests.hwsim.pe import oracle

UNITS = {"mixpe_w4a8": mixpe_w4a8, "mixpe_w4a16": mixpe_w4a16}
FORMATS = ("int4_g128", "int4_g128_asym")
both = pytest.mark.parametrize("fmt", FORMATS)
every_unit = pytest.mark.parametrize("name", UNITS)


def activations(shape: tuple[int, int], seed: int, special: bool = False) -> Encoded:
    """Return any FP16 codes: the first rows with exponents close together, the last ones with NaN and Inf if wanted."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 0x7C00, shape)
    codes[: shape[0] // 2] = rng.integers(0x3800, 0x4400, codes[: shape[0] // 2].shape)
    codes |= rng.integers(0, 2, shape) << 15
    codes[rng.random(shape) < 0.05] &= 0x8000
    if special:
        where = rng.random(shape) < 0.01
        where[: shape[0] // 2] = False
        codes = np.where(where, rng.choice([0x7C00, 0xFC00, 0x7E00, 0xFC01], shape), codes)
    return Encoded.of(get("float16"), codes=codes.astype(np.uint16))


def weights(fmt: str, rows: int, k: int, seed: int, scales: list[int] | None = None, block: int = 128) -> Encoded:
    spec = get(fmt) if block == 128 else get(fmt).with_rules(block_size=block)
    return oracle.operand(spec, rows, k, np.random.default_rng([seed, rows, k]), scales)


def agree(a: Encoded, b: Encoded, unit: Any, params: Any, exact: bool = True) -> np.ndarray:
    """Demand that `gemm`, `dots`, the plain reference and (of finite operands) exact rationals agree on bits."""
    bits = unit.gemm(a, b, params).view(np.uint32)
    for m, n in np.ndindex(bits.shape):
        want = unit.reference(unit.beats(a, b, m, n, params), params)
        assert int(bits[m, n]) == want, (m, n, hex(bits[m, n]), hex(want))
        assert not exact or want == oracle.dot(a, b, m, n), (m, n)
    rows, columns = (side.reshape(-1) for side in np.indices(bits.shape))
    np.testing.assert_array_equal(unit.dots(a.rows(rows), b.rows(columns), params), bits.reshape(-1))
    return bits


@both
@pytest.mark.parametrize("lanes", [1, 16, 128])
def test_float16_activations_equal_the_oracle(fmt: str, lanes: int) -> None:
    unit, params = pe.unit_for(fmt, "mixpe_w4a16", lanes)
    assert pe.activation_for(fmt, "mixpe_w4a16").name == "float16"
    agree(activations((6, 384), lanes), weights(fmt, 5, 384, lanes), unit, params)


@both
@pytest.mark.parametrize(
    "scales", [[0x0001, 0x0002, 0x03FF], [0x7BFF, 0xFBFF, 0x0001], [0x3C00, 0xBC00, 0x8001, 0x0000]], ids=str
)
def test_scales_at_the_ends_of_float16(fmt: str, scales: list[int]) -> None:
    unit, params = pe.unit_for(fmt, "mixpe_w4a16")
    agree(activations((6, 512), 3), weights(fmt, 5, 512, 3, scales), unit, params)


@both
def test_nan_and_inf_among_activations_and_scales(fmt: str) -> None:
    unit, params = pe.unit_for(fmt, "mixpe_w4a16")
    b = weights(fmt, 7, 256, 5, [0x3C00] * 12 + [0x7C00, 0xFE00])
    bits = agree(activations((12, 256), 4, special=True), b, unit, params, exact=False)
    nan, infinite = (bits & 0x7FFFFFFF) > 0x7F800000, (bits & 0x7FFFFFFF) == 0x7F800000
    assert set(bits[nan].tolist()) == {0x7FC00000}
    assert nan.any() and not nan.all()
    assert infinite.any() == (fmt == "int4_g128")  # with zero points an infinity meets itself


def test_one_infinity_under_a_zero_point_is_nan_whatever_the_weight() -> None:
    unit, params = pe.unit_for("int4_g128_asym", "mixpe_w4a16")
    a, b = activations((1, 128), 0), weights("int4_g128_asym", 16 * 16, 128, 0, [0x3C00])
    a.codes[0, 5] = 0x7C00
    b.codes[:, 5], b.zeros[:, 0] = np.arange(256) % 16, np.arange(256) // 16
    assert set(unit.gemm(a, b, params).view(np.uint32).reshape(-1).tolist()) == {0x7FC00000}
    agree(a, b.rows(np.arange(0, 256, 37)), unit, params, exact=False)


@pytest.mark.parametrize("sign", [0, 0x8000])
def test_the_largest_sums_and_their_cancellation(sign: int) -> None:
    """65504 x 15 x 128, the smallest subnormal beside it, and the same taken off again by the zero point."""
    unit, params = pe.unit_for("int4_g128_asym", "mixpe_w4a16")
    a = Encoded.of(get("float16"), codes=np.full((2, 256), 0x7BFF | sign, np.uint16))
    a.codes[1, 128:] ^= 0x8000
    b = weights("int4_g128_asym", 4, 256, 1, [0x3C00])
    b.codes[:], b.zeros[:] = 15, np.array([[0], [15], [0], [7]])
    a.codes[0, 3], b.codes[2, 3] = 0x0001, 1
    bits = agree(a, b, unit, params)
    assert bits[0, 1] == 0 and bits[1, 0] == 0


@pytest.mark.parametrize("neighbour", [-1, 0, 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_group_on_a_tie_of_the_accumulator_and_one_unit_beside_it(neighbour: int, sign: int) -> None:
    """2**30 and half its last place, and 2**-41 in the same group's sum: 72 bits that one rounding must see."""
    unit, params = pe.unit_for("int4_g128", "mixpe_w4a16")
    a = Encoded.of(get("float16"), codes=np.zeros((1, 256), np.uint16))
    b = weights("int4_g128", 1, 256, 1)
    b.codes[:] = 0
    b.scales[0] = [0x7400, 0x0080]  # 2**14, 2**-17
    a.codes[0, 0], b.codes[0, 0] = 0x7800, 2  # 2**15 * 2 * 2**14 = 2**30
    lanes = slice(128, 128 + (64 if sign > 0 else 32))  # below a power of two the last place is half as large
    a.codes[0, lanes], b.codes[0, lanes] = 0x7800, 4 * sign % 16
    a.codes[0, 255], b.codes[0, 255] = 0x0001, neighbour % 16
    bits = agree(a, b, unit, params)
    one = 0x4E800000  # 2**30
    assert int(bits[0, 0]) == one + (sign if neighbour == sign else 0)


def spread_out(total: int) -> tuple[list[int], list[int]]:
    """Return FP16 codes and weights whose products sum to ``total`` in units of 2**-24."""
    codes, factors = [], []
    while total:
        weight = 7 if total >= 7 * 2048 else 1
        part = min(total // weight, 2047 << 29)
        drop = max(part.bit_length() - 11, 0)
        codes.append((part >> drop) + (drop << 10))  # the code of a float counts on from its exponent to its mantissa
        factors.append(weight)
        total -= (part >> drop << drop) * weight
    return codes, factors


def test_products_of_a_sum_and_a_scale_that_float64_rounds_onto_a_tie() -> None:
    """Sums S of 49 bits times 2047, within 2**-53 of half a last place of float32: rounding twice goes wrong."""
    unit, params = pe.unit_for("int4_g128", "mixpe_w4a16")
    rng, found = np.random.default_rng(1), []
    while len(found) < 8:
        tie = (int(rng.integers(1 << 24, 1 << 25)) | 1) << 35
        total = round(Fraction(tie, 2047))
        exact = total * 2047
        twice = np.float32(float(total) * 2047.0)
        if exact != tie and int(twice.view(np.uint32)) != numbers.float32_bits(Fraction(exact)):
            found.append(total)
    a = Encoded.of(get("float16"), codes=np.zeros((len(found), 128), np.uint16))
    b = weights("int4_g128", len(found), 128, 1, [0x3FFF])  # 2047 / 1024
    b.codes[:] = 0
    for row, total in enumerate(found):
        codes, factors = spread_out(total)
        a.codes[row, : len(codes)], b.codes[row, : len(codes)] = codes, factors
    bits = agree(a, b, unit, params).diagonal()
    assert [int(each) for each in bits] == [numbers.float32_bits(Fraction(t * 2047, 1 << 34)) for t in found]


@every_unit
@both
@pytest.mark.parametrize("zeros", ["any", "all codes", "ends"])
def test_applying_scale_and_zero_point_to_sums_is_dequantising_first(name: str, fmt: str, zeros: str) -> None:
    """sum(a * (s * (q - z))) = s * (sum(a * q) - z * sum(a)) in exact rationals, and so are the results' bits."""
    unit, params = pe.unit_for(fmt, name)
    rng = np.random.default_rng(len(zeros))
    a = activations((3, 256), 1)
    if name == "mixpe_w4a8":
        a = oracle.operand(get("int8"), 3, 256, rng)
    b = weights(fmt, 5, 256, 2)
    if zeros == "all codes":
        b.codes[:] = np.arange(256) % 16
    if zeros == "ends" and b.zeros is not None:
        b.zeros[:] = np.array([[0], [15], [0], [15], [15]])
    x, w, z, s = (worths(side) for side in (a, b, b.zeros, b.scales.view(np.float16)))
    bits = unit.gemm(a, b, params).view(np.uint32)
    for m, n in np.ndindex(bits.shape):
        acc = 0
        for group in range(2):
            here = range(group * 128, group * 128 + 128)
            first = sum((x[m][k] * (s[n][group] * (w[n][k] - z[n][group])) for k in here), Fraction(0))
            total, running = sum(x[m][k] * w[n][k] for k in here), sum(x[m][k] for k in here)
            assert first == s[n][group] * (total - z[n][group] * running)
            acc = oracle.add(acc, first)
        scale = oracle.out_scale(a, m)
        assert int(bits[m, n]) == (acc if scale is None else oracle.multiply(acc, scale)), (m, n)


def worths(side: Any) -> list[list[Fraction]]:
    """Return exact values of codes (an operand's), of zero points (zeros where there are none), or of scales."""
    if side is None:
        return [[Fraction(0)] * 2] * 5
    if isinstance(side, Encoded):
        spec = side.format.element
        return [[Fraction(numbers.value(spec, int(code))) for code in row] for row in side.codes]
    return [[Fraction(float(value)) for value in row] for row in side]


@both
def test_int8_activations_give_the_bits_of_the_unit_that_multiplies(fmt: str) -> None:
    a, b = oracle.operands(fmt, 9, 130, 384)
    unit, params = pe.unit_for(fmt, "mixpe_w4a8")
    other, others = pe.unit_for(fmt, "int_mac")
    assert other is not unit and other.NAME == "int_mac"
    np.testing.assert_array_equal(unit.gemm(a, b, params).view(np.uint32), other.gemm(a, b, others).view(np.uint32))


@pytest.mark.parametrize(
    "fields", [{"format": "float16", "rounding": "rdn"}, {"format": "bfloat16", "promote_every": 2}, {"kept_bits": 9}]
)
def test_other_accumulators_take_the_exact_sums_of_groups(fields: dict[str, Any]) -> None:
    params = mixpe_w4a16.Params(accumulator=fields)
    a, b = activations((4, 512), 2), weights("int4_g128", 4, 512, 2, [0x2000, 0x1555])
    bits = agree(a, b, mixpe_w4a16, params, exact=False)
    assert (bits != mixpe_w4a16.gemm(a, b, mixpe_w4a16.Params()).view(np.uint32)).mean() > 0.3
    assert mixpe_w4a16.Params(**asdict(params)) == params


@both
def test_wide_sums_in_pieces_and_for_one_row_or_column(fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unit, params = pe.unit_for(fmt, "mixpe_w4a16")
    a, b = activations((11, 256), 9, special=True), weights(fmt, 23, 256, 9)
    whole = unit.gemm(a, b, params).view(np.uint32)
    monkeypatch.setattr(_dot_gemm, "_WIDE_SUMS", 50)
    np.testing.assert_array_equal(unit.gemm(a, b, params).view(np.uint32), whole)
    for m in range(11):
        row = unit.gemm(a.rows(slice(m, m + 1)), b, params).view(np.uint32)
        np.testing.assert_array_equal(row[0], whole[m])
    np.testing.assert_array_equal(unit.gemm(a, b.rows(slice(4, 5)), params).view(np.uint32)[:, 0], whole[:, 4])


def test_actions_show_what_shifts_and_sums_of_groups_save() -> None:
    params = pe.unit_for("int4_g128_asym", "mixpe_w4a8")[1]
    counts = mixpe_w4a8.actions(2, 3, 256, params)
    assert counts == {
        "add_shifted_int8": 6144, "add_int32": 1536 + 1536 + 12, "mul_int32_float16": 12, "add_float32": 12,
        "mul_int32_uint4": 12, "mul_float32": 6,
    }  # fmt: skip
    first = mixpe_w4a8.dequantised_actions(2, 3, 256, params)
    assert first == {
        "mul_int4_int8": 1536, "mul_int32_float16": 1536, "add_float32": 1536, "add_int8": 1536, "mul_float32": 6,
    }  # fmt: skip
    wide = pe.unit_for("int4_g128", "mixpe_w4a16")[1]
    assert mixpe_w4a16.actions(2, 3, 256, wide) == {
        "add_shifted_float16": 6144, "add_int32": 3072, "mul_int32_float16": 24, "add_float32": 12,
        "shift_to_grid_float16": 1536,
    }  # fmt: skip
    assert "mul_int4_float16" in mixpe_w4a16.dequantised_actions(2, 3, 256, wide)
    promoted = mixpe_w4a16.Params(accumulator={"format": "float16", "promote_every": 2})
    counts = mixpe_w4a16.actions(2, 3, 256, promoted)
    assert counts["add_float16"] == 12 and counts["add_float32"] == 6


@every_unit
def test_terms_are_counted_by_the_set_bits_of_the_weights(name: str) -> None:
    unit, params = pe.unit_for("int4_g128", name)
    key = f"add_shifted_{'int8' if name == 'mixpe_w4a8' else 'float16'}"
    a = encode(np.ones((3, 256), np.float32), pe.activation_for("int4_g128", name))
    b = weights("int4_g128", 5, 256, 8)
    ones = sum(int(code).bit_count() for code in b.codes.reshape(-1))
    counts, most = UNITS[name].operand_actions(a, b, params), unit.actions(3, 5, 256, params)
    assert counts[key] == 3 * ones < most[key] == 3 * 5 * 256 * 4
    assert {k: v for k, v in counts.items() if k != key} == {k: v for k, v in most.items() if k != key}
    b.codes[:] = 15
    assert UNITS[name].operand_actions(a, b, params) == most


@every_unit
def test_cycles_are_a_beat_each_and_the_latency(name: str) -> None:
    unit, params = pe.unit_for("int4_g128", name, 32)
    assert unit.cycles(2, 3, 256, params) == 6 * 8 + params.datapath.latency
    assert params.datapath.latency == 3 + (name == "mixpe_w4a8")


def test_widths_of_sums() -> None:
    assert mixpe_w4a8.Params().datapath.block_sum_bits == (128 * 128 * 8).bit_length() + 1
    assert mixpe_w4a16.Params("uint4").datapath.block_sum_bits == (128 * 15 * (65504 << 24)).bit_length() + 1 == 52
    assert mixpe_w4a16.Params("uint4", 16, 512).datapath.block_sum_bits == 54


@pytest.mark.parametrize(
    ("unit", "fields", "words"),
    [
        (mixpe_w4a8, {"weight": "int8"}, "mixpe_w4a8: weight must be one of int4, uint4, not 'int8'"),
        (mixpe_w4a8, {"lanes": 0}, "mixpe_w4a8: lanes must be a positive integer, not 0"),
        (mixpe_w4a8, {"lanes": 512, "block": 1024}, "mixpe_w4a8: lanes must be 1 to 256, not 512"),
        (mixpe_w4a8, {"block": 24}, "mixpe_w4a8: block must be a multiple of lanes = 32, not 24"),
        (mixpe_w4a8, {"block": True}, "mixpe_w4a8: block must be a positive integer, not True"),
        (mixpe_w4a8, {"block": 1 << 21}, "mixpe_w4a8: the sum of a group of 2097152 needs 33 bits, allowed are 32"),
        (mixpe_w4a8, {"stages": 9}, "mixpe_w4a8: stages must be 0 to 4, not 9"),
        (mixpe_w4a16, {"weight": "int3"}, "mixpe_w4a16: weight must be one of int4, uint4, not 'int3'"),
        (mixpe_w4a16, {"block": 4096}, "mixpe_w4a16: the sum of a group of 4096 needs 56 bits, allowed are 54"),
        (
            mixpe_w4a16,
            {"accumulator": {"kind": "sequential", "scales": "product"}},
            "mixpe_w4a16: scales are applied to exact sums of groups; .* not sequential",
        ),
        (mixpe_w4a16, {"accumulator": {"format": "float8"}}, "accumulator: format must be one of"),
        (
            mixpe_w4a16,
            {"weight": "uint4", "accumulator": {"format": "float16"}},
            "mixpe_w4a16: zero points go with the default accumulator",
        ),
    ],
    ids=str,
)
def test_bad_params_are_refused(unit: Any, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        unit.Params(**fields)


def test_operands_that_do_not_fit_are_refused() -> None:
    unit, params = pe.unit_for("int4_g128", "mixpe_w4a16")
    a, b = activations((2, 256), 1), weights("int4_g128", 2, 256, 1)
    with pytest.raises(ValueError, match="operand A has elements int8, the unit takes float16"):
        unit.gemm(oracle.operand(get("int8"), 2, 256, np.random.default_rng(0)), b, params)
    with pytest.raises(ValueError, match="operand B has elements uint4, the unit takes int4"):
        unit.gemm(a, weights("int4_g128_asym", 2, 256, 1), params)
    with pytest.raises(ValueError, match="operand B has blocks of 64, the unit sums 128"):
        unit.gemm(a, weights("int4_g128", 2, 256, 1, block=64), params)
    with pytest.raises(ValueError, match="K differs: A has 128, B has 256"):
        unit.gemm(activations((2, 128), 1), b, params)
    with pytest.raises(ValueError, match="rows are taken in pairs; A has 2, B has 1"):
        unit.dots(a, b.rows(slice(0, 1)), params)
    with pytest.raises(ValueError, match="'mixpe_w4a8' does not take format mxfp4"):
        pe.unit_for("mxfp4", "mixpe_w4a8")
    with pytest.raises(ValueError, match="'mixpe_w4a16' does not take format int8"):
        pe.unit_for("int8", "mixpe_w4a16")


def test_the_unit_with_multipliers_takes_zero_points_and_wide_activations_too() -> None:
    """INT16 activations under zero points: block sums beyond float32, on the same path as FP16 ones."""
    rng = np.random.default_rng(4)
    weight, activation = get("int4_g128_asym"), get("int16")
    params = int_mac.params_for(weight, activation, 16)
    assert params == int_mac.Params("uint4", 16, 128, True, "int16")
    a, b = oracle.operand(activation, 4, 256, rng), oracle.operand(weight, 5, 256, rng)
    a.codes[0], b.codes[0], b.zeros[0] = 0x8000, 15, 0
    agree(a, b, int_mac, params)
    assert element("int16").bits == 16

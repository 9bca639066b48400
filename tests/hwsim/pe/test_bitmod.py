"""`bitmod` against exact rationals, with no code of `hwsim.pe` but the unit itself."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hwsim import pe
from hwsim.cost import load_table
from hwsim.formats import Encoded, decode, encode, get
from hwsim.pe import _bitmod_kernels as kernels
from hwsim.pe import bitmod
from tests.hwsim.formats.oracle import float32_bits, float32_value
from tests.hwsim.pe import bitmod_operands as operands
from tests.hwsim.pe import oracle

CYCLES = {"int8": 4, "int6": 3, "int5": 3, "bitmod_fp4": 2, "bitmod_fp3": 2}
"""Cycles of four MACs, as the paper has them."""
WIDTHS = {
    "default": {},
    "dropped": {"alignment": "rtz", "acc_bits": 24},
    "narrow": {"guard_bits": 0, "acc_bits": 12},
    "wide": {"guard_bits": 32, "acc_bits": 60},
    "long groups": {"group": 256, "guard_bits": 2, "acc_bits": 17, "acc_exp_bits": 7},
}


def agree(a: Encoded, b: Encoded, params: bitmod.Params, outputs: int = 4) -> np.ndarray:
    """Demand that gemm, dots, reference and the oracle agree on the diagonal; return its bits."""
    bits = bitmod.gemm(a, b, params).view(np.uint32)
    rows = np.arange(min(bits.shape))
    np.testing.assert_array_equal(bitmod.dots(a.rows(rows), b.rows(rows), params), bits.diagonal())
    for i in rows[:outputs].tolist():
        want = operands.dot(a, b, i, i, params)
        assert int(bits[i, i]) == want == bitmod.reference(bitmod.beats(a, b, i, i, params), params), i
    return bits.diagonal()


@pytest.mark.parametrize("kind", operands.KINDS)
@pytest.mark.parametrize("weight", bitmod.WEIGHTS)
def test_gemm_dots_and_reference_equal_exact_rationals(weight: str, kind: str) -> None:
    params = bitmod.Params(weight, group=32)
    a, b = operands.operands(params, kind, 70, 3)
    bits = agree(a, b, params, outputs=70 if kind == "special" else 4)
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    assert nan.any() == (kind in ("special", "row scales"))
    assert set(bits[nan].tolist()) <= {oracle.NAN}
    assert (kind == "special") == bool(np.isin(bits, [0x7F800000, 0xFF800000]).sum() > 2)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("weight", ["bitmod_fp4", "int8"])
def test_other_widths(weight: str, width: str) -> None:
    params = bitmod.Params(weight, **({"group": 16} | WIDTHS[width]))
    for kind in ("ordinary", "any finite", "cancelling"):
        agree(*operands.operands(params, kind, 9, 2, seed=1), params, outputs=3)


@pytest.mark.parametrize("weight", bitmod.WEIGHTS)
def test_a_lone_product_is_exact_for_every_weight_code(weight: str) -> None:
    """Every code under every special value, times activations of all kinds, in every lane."""
    params, rng = bitmod.Params(weight, group=16), np.random.default_rng(0)
    edges = [0, 1, 2, 0x3FF, 0x400, 0x401, 0x3C00, 0x7BFF, 0x7C00, 0x7E00, 0x7C01]
    sample = np.array([*edges, *(code | 0x8000 for code in edges), *rng.integers(0, 1 << 16, 42)], np.uint16)
    selectors = range(4 if weight in operands.FLOATS else 1)
    codes = range(1 << params.datapath.b_bits)
    cases = [(s, code, x) for s in selectors for code in codes for x in sample.tolist()]
    rows = len(cases)
    a_codes, b_codes = np.zeros((2, rows, 16), np.int64)
    b_codes[:] = rng.integers(0, 1 << params.datapath.b_bits, b_codes.shape)  # zero activations times anything
    lane = np.arange(rows) % 16
    a_codes[np.arange(rows), lane] = [x for _, _, x in cases]
    b_codes[np.arange(rows), lane] = [code for _, code, _ in cases]
    parts = {
        "scales": np.ones((rows, 1), np.uint8),
        "row_scales": np.full(rows, 0x3C00, np.uint16),
        "selectors": np.array([[s] for s, _, _ in cases], np.uint8),
    }
    b = operands.weights(weight, b_codes, 16, rng, **parts)
    found = bitmod.dots(operands.activations(a_codes), b, params)
    worth = {(s, code): float(operands.value(weight, s, code)) for s in selectors for code in codes}
    with np.errstate(invalid="ignore"):
        want = np.array([worth[s, code] for s, code, _ in cases]) * np.array([x for _, _, x in cases], np.uint16).view(
            np.float16
        ).astype(np.float64)
    want = np.where(np.isnan(want), np.nan, want + 0.0).astype(np.float32)  # +0 for zeros, one NaN
    np.testing.assert_array_equal(found, want.view(np.uint32))


@pytest.mark.parametrize("alignment", ["rod", "rtz"])
@pytest.mark.parametrize("weight", bitmod.WEIGHTS)
def test_the_distance_from_dequantise_and_multiply_is_bounded(weight: str, alignment: str) -> None:
    """One group under scale 1: what alignment and accumulator lose, and the rounding to FP32."""
    params = bitmod.Params(weight, group=32, guard_bits=1, acc_bits=16, alignment=alignment)
    worst = Fraction(0)
    for kind in ("ordinary", "far apart", "cancelling"):
        a, b = operands.operands(params, kind, 12, 1)
        b.scales[:], b.parts["row_scales"][:] = 1, 0x3C00
        found = bitmod.dots(a, b, params).view(np.float32)
        x, y = decode(a).astype(np.float64), decode(b).astype(np.float64)  # exact: a few bits each
        for i in range(len(found)):
            exact = sum(Fraction(p) * Fraction(q) for p, q in zip(x[i].tolist(), y[i].tolist(), strict=True))
            selector = int(b.parts["selectors"][i, 0]) if "selectors" in b.parts else 0
            numbers = [operands.value(weight, selector, int(code)) for code in b.codes[i]]
            bound = operands.group_sum(a.codes[i].tolist(), numbers, params)[1]
            error = abs(Fraction(float(found[i])) - exact)
            assert error <= bound + abs(Fraction(float(found[i]))) / 2**24
            worst = max(worst, error / bound if bound else Fraction(0))
    assert worst > Fraction(1, 50)  # the bound means something


@pytest.mark.parametrize("weight", bitmod.WEIGHTS)
def test_the_widest_unit_is_exact(weight: str) -> None:
    params = bitmod.Params(weight, group=64, guard_bits=bitmod.MAX_GUARD_BITS, acc_bits=60)
    for kind in ("any finite", "far apart", "cancelling"):
        a, b = operands.operands(params, kind, 8, 2)
        b.parts["row_scales"][:] = 0x3C00
        x = decode(a).astype(np.float64)
        found = bitmod.dots(a, b, params)
        for i in range(8):
            total = 0
            for index in range(2):
                selector = int(b.parts["selectors"][i, index]) if "selectors" in b.parts else 0
                here = range(index * 64, index * 64 + 64)
                exact = sum(Fraction(x[i, k]) * operands.value(weight, selector, int(b.codes[i, k])) for k in here)
                total = oracle.add(total, exact * int(b.scales[i, index]))
            assert int(found[i]) == total


def test_rounding_of_the_accumulator_and_of_fp32_meets_ties() -> None:
    """1 and half a unit in the last place of 12 bits, and of 24."""
    params = bitmod.Params("int8", group=16, acc_bits=12)
    for small, want in ((0x0C00, 1.0), (0x0C01, 1 + 2.0**-11)):  # 2**-12, and a little more, after 1
        codes = np.zeros((1, 16), np.int64)
        codes[0, 0], codes[0, 4] = 0x3C00, small
        b = operands.weights(
            "int8", np.ones((1, 16), np.uint8), 16, np.random.default_rng(0),
            scales=np.ones((1, 1), np.uint8), row_scales=np.full(1, 0x3C00, np.uint16),
        )  # fmt: skip
        assert agree(operands.activations(codes), b, params)[0] == float32_bits(Fraction(want))
    wide = bitmod.Params("int8", group=16, acc_bits=60)
    codes = np.zeros((1, 48), np.int64)
    codes[0, [0, 16, 32]] = 0x3C00, 0x0001, 0x0001  # 2**-24 twice: a tie each time, to even
    b = operands.weights(
        "int8", np.ones((1, 48), np.uint8), 16, np.random.default_rng(0),
        scales=np.ones((1, 3), np.uint8), row_scales=np.full(1, 0x3C00, np.uint16),
    )  # fmt: skip
    assert agree(operands.activations(codes), b, wide)[0] == 0x3F800000
    b.scales[0, 1] = 3
    assert agree(operands.activations(codes), b, wide)[0] == 0x3F800002


def test_groups_of_many_bits_are_added_with_one_rounding() -> None:
    """Products of up to 65 bits on totals that they nearly cancel, and on totals that make ties of them."""
    rng, unit = np.random.default_rng(0), 2.0**-25
    for size in rng.integers(1, 58, 3000).tolist():
        group, scale = int(rng.integers(-(1 << size), 1 << size)), int(rng.integers(256))
        product = Fraction(group * scale) * Fraction(unit)
        near = np.float32(float(-product)) * np.float32(rng.choice([1, 1, 1 + 2.0**-20, 2.0**30, 0]))
        total = float32_value(int(near.view(np.uint32)))  # a multiple of the unit, as all totals are
        if total % Fraction(unit) == 0 and abs(total) < 2**50:
            found = np.float32(kernels.add_group(near, group, scale, unit))  # Numba hands out a Python float
            assert int(found.view(np.uint32)) == oracle.add(int(near.view(np.uint32)), product), (near, group, scale)


def test_a_zero_term_takes_part_in_the_maximum() -> None:
    """The largest activation meets a zero weight, and still shifts the others down."""
    params = bitmod.Params("bitmod_fp3", group=16, guard_bits=0, alignment="rtz")
    codes = np.zeros((1, 16), np.int64)
    codes[0, :2] = 0x7800, 0x3FFF  # 2**15; just below 2
    b_codes = np.zeros((1, 16), np.uint8)
    b_codes[0, 1] = 1
    b = operands.weights(
        "bitmod_fp3", b_codes, 16, np.random.default_rng(0),
        scales=np.ones((1, 1), np.uint8), row_scales=np.full(1, 0x3C00, np.uint16),
    )  # fmt: skip
    assert agree(operands.activations(codes), b, params)[0] == 0


@pytest.mark.parametrize("weight", bitmod.WEIGHTS)
def test_the_formats_quantiser_and_its_decoder_agree_with_the_unit(weight: str) -> None:
    rng, fmt = np.random.default_rng(0), operands.FORMATS[weight]
    unit, params = pe.unit_for(fmt)
    assert unit is pe.unit("bitmod") and params == bitmod.Params(weight)
    x, y = (rng.standard_normal((rows, 256)).astype(np.float32) for rows in (3, 66))
    a, b = encode(x, "float16"), encode(y, fmt)
    if weight in operands.FLOATS:
        assert len(np.unique(b.parts["selectors"])) == 4
    want = decode(a).astype(np.float64) @ decode(b).astype(np.float64).T
    assert np.abs(unit.gemm(a, b, params) - want).max() < 0.1  # half of 2**-13 a term, 512 to 1024 terms
    assert np.abs(want - x @ y.T).max() < {"bitmod_fp3": 15, "bitmod_fp4": 8}.get(weight, 3)


@pytest.mark.parametrize("weight", CYCLES)
def test_cycles_follow_the_paper(weight: str) -> None:
    params = bitmod.Params(weight)
    spec = params.datapath
    assert spec.terms == CYCLES[weight]
    assert bitmod.cycles(2, 3, 640, params) == 6 * 160 * CYCLES[weight] + spec.latency
    assert bitmod.cycles(1, 1, 576, params) == 160 * CYCLES[weight] + spec.latency  # padded to whole groups
    a, b = operands.operands(params, "ordinary", 2, 1)
    beats = bitmod.paired_beats(a, b, params)
    assert spec.beat_cycles(beats).sum() + spec.latency == bitmod.cycles(2, 1, 128, params)
    assert {name for name, _, _ in spec.layout()} == set(beats)


def test_actions_have_a_cost() -> None:
    for weight in bitmod.WEIGHTS:
        params = bitmod.Params(weight)
        counts = bitmod.actions(2, 3, 576, params)
        assert counts == {
            "encode_terms": 6 * 576, "align_term": 6 * 576 * CYCLES[weight],
            "add_int32": 6 * 5 * 8 * 2, "add_float32": 6 * (144 * CYCLES[weight] * 2 + 5), "mul_float32": 6,
        }  # fmt: skip
        table = load_table("mapped_45nm")
        assert all(table.cost(action).value_pj > 0 for action in counts)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weight": "int4"}, "weight must be one of int8, int6, int5, bitmod_fp4, bitmod_fp3, not 'int4'"),
        ({"alignment": "rne"}, "alignment must be one of rod, rtz, not 'rne'"),
        ({"group": 30}, "group must be a multiple of 4, not 30"),
        ({"group": 1024}, "group must be an integer of 4 to 512, not 1024"),
        ({"group": 12}, "a group of 12 weights bitmod_fp3 takes 6 cycles; its scale takes 8"),
        ({"guard_bits": 33}, "guard_bits must be an integer of 0 to 32, not 33"),
        ({"acc_bits": 61}, "acc_bits must be an integer of 12 to 60, not 61"),
        ({"acc_exp_bits": 5}, r"acc_exp_bits = 5 is too narrow: sums of 128 .* reach 2\*\*26, which takes 6 bits"),
        ({"weight": "int8", "group": 512}, r"acc_exp_bits = 6 is too narrow: .* reach 2\*\*33, which takes 7 bits"),
    ],
)
def test_bad_params_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=f"bitmod: {words}"):
        bitmod.Params(**fields)


def test_operands_that_do_not_match_are_refused() -> None:
    params = bitmod.Params("bitmod_fp3", group=32)
    a, b = operands.operands(params, "ordinary", 2, 2)
    other = operands.operands(bitmod.Params("bitmod_fp4", group=32), "ordinary", 2, 2)[1]
    with pytest.raises(ValueError, match=r"operand B \(bitmod_fp4.*\) is not bitmod_fp3 in groups under uint8"):
        bitmod.gemm(a, other, params)
    with pytest.raises(ValueError, match="operand B has groups of 32, the unit takes 64"):
        bitmod.gemm(a, b, bitmod.Params("bitmod_fp3", group=64))
    with pytest.raises(ValueError, match=r"operand A \(int8\) is not float16 without a scale"):
        bitmod.gemm(encode(np.ones((2, 64), np.float32), "int8"), b, params)
    with pytest.raises(ValueError, match="K differs: A has 32, B has 64"):
        bitmod.gemm(operands.activations(a.codes[:, :32]), b, params)
    with pytest.raises(ValueError, match="rows are taken in pairs; A has 1, B has 2"):
        bitmod.dots(operands.activations(a.codes[:1]), b, params)
    with pytest.raises(ValueError, match=r"must be \[rows >= 1, K\]"):
        bitmod.gemm(operands.activations(a.codes[0]), b, params)
    b.parts["selectors"][0, 0] = 4
    with pytest.raises(ValueError, match=r"selectors hold 4, allowed 0 \.\. 3"):
        bitmod.gemm(a, b, params)


def test_formats_that_do_not_fit_find_no_unit() -> None:
    half = get("float16")
    assert bitmod.params_for(get("bitmod_fp3_g128_fp16"), half) is None  # scales of groups in FP16
    assert bitmod.params_for(get("bitmod_fp3"), get("int8")) is None
    assert bitmod.params_for(get("bitmod_fp3"), half, lanes=8) is None
    assert bitmod.params_for(get("int8_g16_vsq"), half) == bitmod.Params("int8", 16)
    assert bitmod.params_for(get("int8_g16_vsq").with_rules(block_size=4), half) is None
    with pytest.raises(ValueError, match="bitmod_fp3_g128_fp16"):
        pe.unit_for("bitmod_fp3_g128_fp16", "bitmod")


@pytest.mark.slow
@pytest.mark.parametrize("weight", bitmod.WEIGHTS)
def test_many_dot_products_equal_exact_rationals(weight: str) -> None:
    for width in ("default", "dropped", "narrow"):
        params = bitmod.Params(weight, **({"group": 32} | WIDTHS[width]))
        for kind in operands.KINDS:
            agree(*operands.operands(params, kind, 150, 2, seed=3), params, outputs=150)

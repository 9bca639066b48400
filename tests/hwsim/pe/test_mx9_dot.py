"""`mx9_dot` against exact rationals, with no code of `hwsim.pe` but the unit itself."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hwsim import pe
from hwsim.formats import Encoded, get
from hwsim.pe import mx9_dot
from tests.hwsim.pe import oracle

MAGNITUDE_BITS = {"mx4": 2, "mx6": 4, "mx9": 7}
SCALES = {
    "ordinary": [100, 127, 150],
    "lowest": [0, 1, 2, 3],
    "highest": [252, 253, 254],
    "both ends": [0, 1, 40, 127, 190, 254],
    "with NaN": [0, 127, 128, 254, *([126] * 8), 255],
}


def dot(a: Encoded, b: Encoded, m: int, n: int) -> int:
    """Return the float32 bits of one dot product; element, block and sub-block are read off the formats."""
    acc = 0
    for start in range(0, a.k, a.format.block_size):
        total, factor = Fraction(0), Fraction(1)
        for k in range(start, start + a.format.block_size):
            product = Fraction(1)
            for side, row in ((a, m), (b, n)):
                bits = MAGNITUDE_BITS[side.format.name.partition("[")[0]]
                code = int(side.codes[row, k])
                size = Fraction(code & ((1 << bits) - 1), 1 << (bits - 1))
                product *= (-size if code >> bits else size) / 2 ** int(
                    side.parts["shifts"][row, k // side.format.sub_block]
                )
            total += product
        for side, row in ((a, m), (b, n)):
            code = int(side.scales[row, start // side.format.block_size])
            factor = None if factor is None or code == 255 else factor * Fraction(2) ** (code - 127)
        acc = oracle.NAN if factor is None else oracle.add(acc, total * factor)
    return acc


def operand(fmt, rows: int, k: int, rng: np.random.Generator, scales: list[int]) -> Encoded:
    """Draw codes, exponents and shifts; row 0 has the largest codes."""
    bits = MAGNITUDE_BITS[fmt.name.partition("[")[0]]
    codes = rng.integers(0, 2 << bits, (rows, k)).astype(np.uint8)
    codes[0] = (1 << bits) - 1
    shifts = rng.integers(0, 2, (rows, k // fmt.sub_block)).astype(np.uint8)
    shifts[0] = 0
    drawn = rng.choice(scales, (rows, k // fmt.block_size)).astype(np.uint8)
    return Encoded(fmt, {"codes": codes, "scales": drawn, "shifts": shifts})


def agree(a: Encoded, b: Encoded, params: mx9_dot.Params) -> np.ndarray:
    bits = mx9_dot.gemm(a, b, params).view(np.uint32)
    rows = np.arange(min(bits.shape))
    np.testing.assert_array_equal(mx9_dot.dots(a.rows(rows), b.rows(rows), params), bits.diagonal())
    for m, n in np.ndindex(bits.shape):
        want = dot(a, b, m, n)
        assert int(bits[m, n]) == want == mx9_dot.reference(mx9_dot.beats(a, b, m, n, params), params), (m, n)
    return bits


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("name", MAGNITUDE_BITS)
def test_gemm_dots_and_reference_equal_exact_rationals(name: str, kind: str) -> None:
    rng, fmt = np.random.default_rng(len(kind)), get(name)
    a, b = operand(fmt, 5, 80, rng, SCALES[kind]), operand(fmt, 6, 80, rng, SCALES[kind])
    # a block and its negative, but for one element
    a.codes[1, 16:32], b.codes[1, 16:32] = a.codes[1, :16], b.codes[1, :16] ^ (1 << MAGNITUDE_BITS[name])
    b.codes[1, 20] = 0
    for side in (a, b):
        side.parts["shifts"][1, 8:16], side.scales[1, 1] = side.parts["shifts"][1, :8], side.scales[1, 0]
    bits = agree(a, b, pe.unit_for(name)[1])
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    assert nan.any() == (kind == "with NaN")
    assert set(bits[nan].tolist()) <= {0x7FC00000}


@pytest.mark.parametrize(("block", "sub_block", "lanes"), [(16, 4, 4), (8, 2, 16), (128, 8, 32), (2, 1, 1)])
def test_other_blocks_and_lanes_and_mixed_elements(block: int, sub_block: int, lanes: int) -> None:
    rng = np.random.default_rng(block)
    a_fmt, b_fmt = (get(name).with_rules(block_size=block, sub_block=sub_block) for name in ("mx9", "mx4"))
    a, b = (operand(fmt, 3, 3 * block, rng, [120, 127]) for fmt in (a_fmt, b_fmt))
    params = mx9_dot.params_for(b_fmt, a_fmt, lanes)
    assert params == mx9_dot.Params("signmag3_q1", block, sub_block, lanes, "signmag8_q6")
    agree(a, b, params)


def test_gemm_follows_the_decoded_operands() -> None:
    from hwsim.formats import decode, encode

    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((rows, 64)).astype(np.float32) for rows in (4, 5))
    a, b = encode(x, "mx9"), encode(y, "mx9")
    got = mx9_dot.gemm(a, b, mx9_dot.Params())
    want = decode(a).astype(np.float64) @ decode(b).astype(np.float64).T
    assert np.abs(got - want).max() < 1e-4
    assert np.abs(got - x @ y.T).max() < 0.3


def test_widths_layout_cycles_and_actions() -> None:
    params = mx9_dot.Params()
    spec = params.datapath
    assert spec.block_sum_bits == (16 * 127 * 127 * 4).bit_length() + 1
    assert spec.layout()[2:-1] == (
        ("a_scale", 8, 1), ("b_scale", 8, 1), ("a_shift", 1, 8), ("b_shift", 1, 8),
    )  # fmt: skip
    assert mx9_dot.cycles(2, 3, 64, params) == 24 + spec.latency
    assert mx9_dot.actions(1, 2, 64, params) == {
        "mul_mag7_mag7": 128, "add_int32": 128, "shift_sub_block": 64, "mul_block_scale_e8m0": 8, "add_float32": 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"element": "signmag8"}, "element must be one of signmag3_q1.*not 'signmag8'"),
        ({"a_element": "int8"}, "a_element must be one of"),
        ({"lanes": 65}, "lanes must be an integer of 1 to 64, not 65"),
        ({"block": 129}, "block must be an integer of 1 to 128, not 129"),
        ({"block": 24}, "block must be a multiple of lanes = 16 or divide it, not 24"),
        ({"sub_block": 3}, "sub_block must divide block = 16 and lanes = 16, not 3"),
        ({"stages": 5}, "stages must be 0 to 4, not 5"),
    ],
)
def test_bad_params_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=f"mx9_dot: {words}"):
        mx9_dot.Params(**fields)


def test_operands_that_do_not_match_are_refused() -> None:
    rng, params = np.random.default_rng(0), mx9_dot.Params()
    a, b = operand(get("mx9"), 2, 32, rng, [127]), operand(get("mx6"), 2, 32, rng, [127])
    with pytest.raises(ValueError, match=r"operand B has element, block, sub-block and shift bits .*signmag5_q3"):
        mx9_dot.gemm(a, b, params)
    with pytest.raises(ValueError, match="K differs: A has 32, B has 48"):
        mx9_dot.gemm(a, operand(get("mx9"), 2, 48, rng, [127]), params)
    with pytest.raises(ValueError, match="rows are taken in pairs; A has 2, B has 3"):
        mx9_dot.dots(a, operand(get("mx9"), 3, 32, rng, [127]), params)
    from hwsim.formats import encode

    with pytest.raises(ValueError, match=r"operand A \(mxfp4\) has no shared microexponents"):
        mx9_dot.gemm(encode(np.ones((2, 32), np.float32), "mxfp4"), a, params)

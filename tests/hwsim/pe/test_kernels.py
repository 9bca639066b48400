"""The kernels under `gemm`: one rounding of a float64 addend, exact integer sums, and when the fused path may run."""

from __future__ import annotations

import operator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from hwsim.formats import Encoded, block
from hwsim.pe import _dot_gemm, mx_dot
from hwsim.pe import _double_kernels as doubles
from hwsim.pe import _kernels as kernels
from hwsim.pe._dot import DotSpec
from hwsim.pe.accumulator import preset
from tests.hwsim.formats.oracle import float32_value
from tests.hwsim.pe import oracle
from tests.hwsim.pe.accumulation import operands
from tests.hwsim.pe.test_rounding import FINITE, SPECIAL


def add(acc: int, addend: float) -> int:
    """Return the kernel's sum as bits."""
    return int(np.float32(kernels.add_rounded_once(np.uint32(acc).view(np.float32), addend)).view(np.uint32))


def add_many(accs: list[int], addends: list[float]) -> list[int]:
    """Return the sums as bits as the kernel of float64 sums forms them: dot products of two blocks of one product."""
    table = np.concatenate([np.array(accs, np.uint32).view(np.float32).astype(np.float64), addends])
    a = np.arange(table.size).reshape(2, -1).T.astype(np.uint16)
    out = np.empty((len(a), 1), np.float32)
    ones = [np.ones(n, np.float32) for n in out.shape]
    codes, tables = (a, np.zeros((1, 2), np.uint16)), (table, np.ones(1))
    doubles.gemm(codes, tables, (np.ones(a.shape), np.ones((1, 2))), 1, *ones, out)
    return out[:, 0].view(np.uint32).tolist()


def random_sums() -> list[tuple[int, float]]:
    rng = np.random.default_rng(1)
    found = []
    for acc in [*FINITE, *rng.integers(0, 0x7F800000, 1500).tolist()]:
        size = float(abs(float32_value(acc))) or 1e-40
        found.append((acc, float(rng.normal() * size * 2.0 ** int(rng.integers(-60, 60)))))
        found.append((acc, float(rng.integers(-(1 << 24), 1 << 24) * 2.0 ** int(rng.integers(-200, 100)))))
    return found


def traps() -> list[tuple[int, float]]:
    """Sums that float64 rounds onto a tie of float32 that the exact sum lies beside: sticky bits decide."""
    found = []
    for exponent in (-149, -126, -60, 0, 60, 103):
        for kept in (0x800000, 0x800001, 0xABCDEF, 0xFFFFFF):
            tie = (2 * kept + 1) * 2.0 ** (exponent - 1)  # 25 bits: half way between two float32
            if 2.0**-150 < tie < 2.0**127:
                for sticky in (0x00000001, 0x80000001, 0x00800000, 0x80800000, 0x20000000, 0xA0000000):
                    found += [(sticky, tie), (sticky, -tie)]
                # three quarters of float64's last place beyond the tie: the float64 sum is odd already, and stays
                beyond = int(np.float32(0.75 * 2.0 ** max(exponent - 29, -147)).view(np.uint32))
                found += [(beyond, tie), (beyond | 0x80000000, -tie)]
    return found


@pytest.mark.parametrize("cases", [random_sums(), traps()], ids=["random", "traps"])
def test_one_rounding(cases: list[tuple[int, float]]) -> None:
    exact = [oracle.add(acc, Fraction(addend)) for acc, addend in cases]
    for (acc, addend), expected in zip(cases, exact, strict=True):
        assert add(acc, addend) == expected, (hex(acc), addend)
    assert add_many(*map(list, zip(*cases, strict=True))) == exact


def test_two_roundings_would_differ_in_the_traps() -> None:
    # Fraction to float64 rounds once, then float32 again
    differ = 0
    for acc, addend in traps():
        twice = np.float32(float(Fraction(addend) + float32_value(acc)))
        differ += int(twice.view(np.uint32)) != oracle.add(acc, Fraction(addend))
    assert differ > 50  # without them the test above would prove nothing


@pytest.mark.parametrize(
    ("acc", "addend", "bits"),
    [
        (0x7F7FFFFF, 2.0**102, 0x7F7FFFFF),
        (0x7F7FFFFF, 2.0**103, 0x7F800000),
        (0x7F7FFFFF, np.nextafter(2.0**103, 0), 0x7F7FFFFF),
        (0xFF7FFFFF, -(2.0**103), 0xFF800000),
        (0, 2.0**260, 0x7F800000),
        (0xFF800000, 2.0**260, 0xFF800000),
        (0x00000001, -(2.0**-150), 0x00000000),
        (0x00000001, -(2.0**-149), 0x00000000),
        (0x80000000, 0.0, 0x00000000),
        (0x00000000, -(2.0**-160), 0x80000000),
        (0x3F800000, -(2.0**-25), 0x3F800000),
        (0x3F800000, -(2.0**-25) * (1 + 2.0**-30), 0x3F7FFFFF),
    ],
    ids=str,
)
def test_one_rounding_by_hand(acc: int, addend: float, bits: int) -> None:
    assert add(acc, addend) == bits
    if acc != 0x80000000:  # a running sum of -0 is no sum of one block
        assert add_many([acc], [addend]) == [bits]
    assert oracle.add(acc, Fraction(addend)) == bits


@pytest.mark.parametrize("acc", SPECIAL, ids=hex)
def test_nan_and_inf_stay(acc: int) -> None:
    got = add(acc, -5.0)
    assert (oracle.is_nan(got) and oracle.is_nan(acc)) or got == acc
    assert oracle.is_nan(add(0x3F800000, np.nan))


BYTES = np.arange(256).astype(np.uint8).view(np.int8).astype(np.int64)
"""Integers of the codes of int8."""


def product(
    a: np.ndarray, b: np.ndarray, a_table: np.ndarray = BYTES, b_table: np.ndarray = BYTES, bound: int = 128 * 128
) -> np.ndarray:
    """Return the kernel's integer GEMM of codes."""
    out = np.full((len(a), len(b)), np.nan, np.float32)
    ones = [np.ones(n, np.float32) for n in out.shape]
    kernels.integer_gemm(a, a_table, b, b_table, bound, *ones, out)
    return out


def exactly(a: np.ndarray, b: np.ndarray) -> list[list[int]]:
    """Return the bits of dot products of integers, in Python's, rounded once."""
    return [[oracle.add(0, Fraction(sum(map(operator.mul, row, other)))) for other in b.tolist()] for row in a.tolist()]


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(1, 1, 1), (3, 5, 7), (8, 32, 2), (9, 33, 1023), (2, 3, 1024), (3, 2, 1025), (17, 5, 2050), (2, 300, 40)],
)
def test_integer_sums_are_exact_and_rounded_once(m: int, n: int, k: int) -> None:
    """Shapes at the edges of tiles, of groups of them and of chunks of K."""
    rng = np.random.default_rng(k)
    a, b = (rng.integers(0, 256, (rows, k)).astype(np.uint8) for rows in (m, n))
    assert product(a, b).view(np.uint32).tolist() == exactly(BYTES[a], BYTES[b])


@pytest.mark.parametrize("code", [127, 128, 129], ids=["+127", "-128", "-127"])
@pytest.mark.parametrize("k", [1024, 1025, 131_071, 131_072])
def test_integer_sums_of_the_largest_codes(code: int, k: int) -> None:
    """All codes at an end: sums pass 2**24 after 1024 products; -128 x -128 reaches 2**31 at the longest K alone.

    There int32 would wrap around, so that the kernel has to form the sum elsewhere.
    """
    a = np.full((2, k), code, np.uint8)
    a[1, -1] = 1  # an odd sum, which float32 has to round
    b = np.full((2, k), 127, np.uint8)
    b[1] = 128
    got = product(a, b).view(np.uint32).tolist()
    assert got == exactly(BYTES[a], BYTES[b])
    if code == 128:
        assert (got[0][1] == 0x4F000000) is (k == 131_072)  # 2**31


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_integer_sums_at_the_edge_of_16_and_32_bits(k: int) -> None:
    """Two products of -2**15 are 2**31, which wraps around in int32; integers of 17 bits do not fit int16 at all."""
    table = np.array([-(1 << 15), (1 << 15) - 1, 1, -1])
    for codes in ([0] * k, [1] * k, [0, 1, 2, 3][:k], [1, 1, 1, 3][:k]):
        a, b = np.array([codes, [0] * k], np.uint8), np.array([[0] * k, [1] * k], np.uint8)
        assert product(a, b, table, table, 1 << 30).view(np.uint32).tolist() == exactly(table[a], table[b])
    wide, narrow = np.array([1 << 15, 3]), np.array([1, -1])
    a, b = np.zeros((1, k), np.uint8), np.ones((2, k), np.uint8)
    assert product(a, b, wide, narrow, 1 << 15).view(np.uint32).tolist() == exactly(wide[a], narrow[b])
    assert product(b, a, narrow, wide, 1 << 15).view(np.uint32).tolist() == exactly(narrow[b], wide[a])


@pytest.mark.parametrize("block", [1023, 1024, 1025, 1040, 131_071])
@pytest.mark.parametrize("code", [127, 128], ids=["+127", "-128"])
def test_block_sums_at_the_edge_of_24_and_31_bits(block: int, code: int) -> None:
    """-128 x -128 reaches 2**24 in a block of 1024, the last whose sums float32 holds, and 2**31 - 2**14 in the last.

    Sums are odd, and those of the last row of B have opposite signs: one that is rounded on its own shows.
    """
    a, b = np.full((2, 2 * block), code, np.uint8), np.full((3, 2 * block), 128, np.uint8)
    a[:, block - 1 :: block], b[:, block - 1 :: block] = 1, 1
    b[2, block:-1] = 127
    a_scales, b_scales = np.array([[1.0, 1.0], [1.5, -(2.0**-20)]]), np.array([[1.0, 3.0], [0.75, 1.0], [1.0, 1.0]])
    out = np.empty((2, 3), np.float32)
    ones = [np.ones(n, np.float32) for n in out.shape]
    kernels.block_gemm(a, BYTES, b, BYTES, a_scales, b_scales, None, block, 1 << 14, *ones, out)
    for m, n in np.ndindex(out.shape):
        acc = 0
        for index in range(2):
            here = slice(index * block, (index + 1) * block)
            total = sum(map(operator.mul, BYTES[a[m, here]].tolist(), BYTES[b[n, here]].tolist()))
            acc = oracle.add(acc, total * Fraction(a_scales[m, index]) * Fraction(b_scales[n, index]))
        assert int(out[m, n].view(np.uint32)) == acc, (m, n)


def test_block_sums_beyond_31_bits_are_not_taken() -> None:
    codes, scales = np.zeros((1, 1 << 17), np.uint8), np.ones((1, 1))
    with pytest.raises(AssertionError, match="131072, 16384"):
        kernels.block_gemm(
            codes, BYTES, codes, BYTES, scales, scales, None, 1 << 17, 1 << 14, np.ones(1), np.ones(1), np.ones((1, 1))
        )


def test_a_sum_with_zero_point_over_all_of_k_ends_at_31_bits() -> None:
    """-2**15 x (15 - 0), 4369 times, is the last sum of a whole row that int32 holds; one more is refused."""
    spec = DotSpec("int16", "uint4", 1, 0, zero_bits=4, a_out=True)
    weights = replace(block("int4_g128_asym"), name="uint4_row_asym", block_size=None)
    one = np.ones((1, 1), np.float32).view(np.uint32)

    def operands_of(k: int) -> tuple[Encoded, Encoded]:
        codes = np.full((1, k), 15, np.uint8)
        zeros = {"scales": np.zeros((1, 1), np.uint16), "zeros": np.zeros((1, 1), np.uint8)}
        a = Encoded(block("int16"), {"codes": np.full((1, k), 0x8000, np.uint16), "scales": one})
        return a, Encoded(weights, {"codes": codes, **zeros})

    exact = np.float32(-(1 << 15) * 15 * 4369)
    assert _dot_gemm.gemm(*operands_of(4369), spec, "unit")[0, 0] == exact
    assert _dot_gemm.dots(*operands_of(4369), spec, "unit").view(np.float32)[0] == exact
    for function in (_dot_gemm.gemm, _dot_gemm.dots):
        with pytest.raises(ValueError, match=r"^unit: a block of 4370 can sum to 2\*\*31 or more"):
            function(*operands_of(4370), spec, "unit")


NVF4 = preset("mxf4nvf4")
TILED = {
    "integers, fused": mx_dot.Params("float6_e3m2fn", block=32),
    "integers, odd blocks": mx_dot.Params("int8", block=5, lanes=5),
    "integers, once": mx_dot.Params("float6_e2m3fn", "ufloat8_e5m3fn", block=16, lanes=16),
    "aligned sums": mx_dot.Params(
        "float4_e2m1fn", "float8_e4m3fn", block=16, lanes=64, accumulator=replace(NVF4, fraction_bits=13)
    ),
    "aligned sums, promoted": mx_dot.Params(
        "int8",
        block=5,
        lanes=10,
        accumulator=replace(NVF4, group=10, fraction_bits=20, addend="outside", promote_every=4),
    ),
    "float64, NaN": mx_dot.Params("float8_e4m3fn", block=32),
    "float64, Inf": mx_dot.Params("float4_e2m1fn", a_element="float8_e5m2", block=16, lanes=16),
}


@pytest.mark.parametrize("kind", ["any", "special"])
@pytest.mark.parametrize("params", TILED.values(), ids=TILED.keys())
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (9, 35, 3), (2, 530, 2), (17, 3, 70)])
def test_shapes_at_the_edges_of_tiles(params: mx_dot.Params, kind: str, m: int, n: int, k: int) -> None:
    """`k` blocks, more than a chunk holds at the longest; rows and columns beyond a panel and a group of them."""
    rng = np.random.default_rng(m)
    a, b = operands(params, kind, m, n, k)
    got = mx_dot.gemm(a, b, params).view(np.uint32)
    rows, columns = np.divmod(np.arange(m * n), n)
    paired = mx_dot.dots(a.rows(rows), b.rows(columns), params)
    assert got.reshape(-1).tolist() == paired.tolist()
    for index in {0, m * n - 1, *rng.integers(0, m * n, 8).tolist()}:
        i, j = divmod(int(index), n)
        assert int(got[i, j]) == mx_dot.reference(mx_dot.beats(a, b, i, j, params), params)


@pytest.mark.parametrize("k", [1, 2, 16, 40])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 4), (4, 1), (5, 130)])
def test_a_zero_sum_is_plus_zero(m: int, n: int, k: int) -> None:
    """Zeros times negative numbers are -0 in float32; an integer sum has no such thing."""
    zeros, negative = np.zeros((m, k), np.uint8), np.full((n, k), 0xFD, np.uint8)
    assert not product(zeros, negative).view(np.uint32).any()
    assert not product(negative, zeros).view(np.uint32).any()


@pytest.mark.parametrize(
    ("a", "b", "fused"),
    [
        ([1.0], [1.0], True),
        ([2.0**-63], [2.0**-63], True),
        ([2.0**-63], [2.0**-64], False),
        ([2.0**63], [2.0**63], True),
        ([2.0**63], [2.0**64], False),
        ([2.0**-127], [1.0], False),
        ([1.0, np.nan], [1.0], False),
        ([1.0], [np.nan], False),
        ([0.0], [0.0], True),
        ([0.0, 2.0**-63], [2.0**-64, 1.0], False),
        ([-1.5], [-448.0], True),
    ],
    ids=str,
)
def test_the_fused_path_runs_only_where_products_of_scales_are_normal(a: list, b: list, fused: bool) -> None:
    assert kernels._product_is_exact(np.array([a]), np.array([b])) is fused


def test_a_zero_addend_is_plus_zero_whatever_the_signs() -> None:
    """A sum that underflowed to -0 meets a block of zeros with a negative scale: -0 + 0 is +0, as in the reference."""
    a, b, ints = np.array([[2, 0]], np.uint16), np.array([[1, 0], [1, 1]], np.uint16), np.array([0, 1, -1])
    a_scales, b_scales = np.array([[2.0**-200, 1.0]]), np.array([[1.0, -1.0], [1.0, 1.0]])
    for blocks, expected in ((2, 0), (1, 0x80000000)):
        of_a, of_b, scales = a[:, :blocks], b[:, :blocks], (a_scales[:, :blocks], b_scales[:, :blocks])
        out, other = np.empty((1, 2), np.float32), np.empty((1, 2), np.float32)
        ones = [np.ones(n, np.float32) for n in out.shape]
        kernels.block_gemm(of_a, ints, of_b, ints, *scales, None, 1, 1, *ones, out)
        doubles.gemm((of_a, of_b), (ints.astype(float), ints.astype(float)), scales, 1, *ones, other)
        assert out.view(np.uint32).tolist() == other.view(np.uint32).tolist() == [[expected] * 2]

"""`gemm` against `reference` against exact rationals, for every unit and every format that it takes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwsim.formats import Encoded, decode, get
from hwsim.pe import _kernels, unit
from tests.hwsim.pe import oracle

CASES = oracle.cases()
IDS = [f"{fmt}-{name}" for fmt, name in CASES]
every_case = pytest.mark.parametrize(("fmt", "name"), CASES, ids=IDS)
BLOCKED = [case for case in CASES if get(case[0]).block_size]
FUSED = [case for case in BLOCKED if not case[0].startswith("mxfp8")]
"""Formats whose block sums are formed in float32, and may be accumulated by fused multiply-add."""
blocked = pytest.mark.parametrize(("fmt", "name"), BLOCKED, ids=["-".join(case) for case in BLOCKED])


def check(a: Encoded, b: Encoded, fmt: str, name: str, lanes: int | None = None, outputs: int = 40) -> np.ndarray:
    """Demand that `gemm`, `dots`, `reference` and the oracle agree on bits; return gemm's bits."""
    found, params = unit(name), oracle.params_of(fmt, name, lanes)
    got = found.gemm(a, b, params)
    assert got.dtype == np.float32 and got.shape == (len(a.codes), len(b.codes))
    bits = got.view(np.uint32)
    where = list(np.ndindex(got.shape))
    if len(where) > outputs:
        picks = np.random.default_rng(0).choice(len(where), outputs - 2, replace=False)
        where = [where[0], where[-1], *(where[i] for i in picks)]
    rows, columns = (np.array(side) for side in zip(*where, strict=True))
    pairs = found.dots(a.rows(rows), b.rows(columns), params)
    assert pairs.dtype == np.uint32
    np.testing.assert_array_equal(pairs, bits[rows, columns])
    for count, (m, n) in enumerate(where):
        want = found.reference(found.beats(a, b, m, n, params), params)
        assert bits[m, n] == want, (m, n, hex(bits[m, n]), hex(want))
        if count < 12:
            assert want == oracle.dot(a, b, m, n), (m, n)
    return bits


@every_case
@pytest.mark.parametrize(
    ("m", "n", "blocks"), [(1, 1, 1), (1, 128, 1), (5, 1, 3), (3, 129, 2), (2, 257, 1), (17, 100, 4)]
)
def test_ragged_shapes(fmt: str, name: str, m: int, n: int, blocks: int) -> None:
    k = blocks * (get(fmt).block_size or 37)
    check(*oracle.operands(fmt, m, n, k), fmt, name)


@every_case
@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_lanes_change_beats_but_no_bit(fmt: str, name: str, lanes: int) -> None:
    k = 2 * (get(fmt).block_size or 45)
    a, b = oracle.operands(fmt, 2, 3, k)
    np.testing.assert_array_equal(check(a, b, fmt, name, lanes), check(a, b, fmt, name))


@pytest.mark.parametrize("k", [1, 2, 15, 16, 17, 1023, 1025, 5000])
def test_any_length_without_blocks(k: int) -> None:
    check(*oracle.operands("int8", 2, 3, k), "int8", "int_mac", outputs=6)


@blocked
def test_a_long_dot_product(fmt: str, name: str) -> None:
    k = 2048 // get(fmt).block_size * get(fmt).block_size
    check(*oracle.operands(fmt, 2, 3, k), fmt, name, outputs=6)


# Scale codes of each scale format at its edges; the first list of each stays in the range of the fused path.
SCALES = {
    "float8_e8m0fnu": {
        "ordinary": [100, 127, 150],
        "lowest": [0, 1, 2, 3],
        "highest": [252, 253, 254],
        "both ends": [0, 1, 126, 127, 253, 254],
        "under and over float32": [0, 1, 40, 60, 127, 190, 220, 254],
        "with NaN": [0, 127, 128, 254, *([126] * 8), 255],
    },
    "float8_e4m3fn": {
        "ordinary": [0x30, 0x38, 0x41],
        "subnormal": [0x00, 0x01, 0x03, 0x07, 0x08],
        "negative": [0x38, 0xB8, 0x81, 0x01, 0x80, 0xFE, 0x7E],
        "with NaN": [0x38, 0xB9, *([0x22] * 8), 0x7F, 0xFF],
    },
    "float16": {
        "ordinary": [0x3C00, 0x3555, 0x2E66],
        "subnormal": [0x0000, 0x0001, 0x0002, 0x03FF, 0x0400],
        "largest": [0x7BFF, 0x7BFE, 0x0001, 0xFBFF],
        "negative": [0x3C00, 0xBC00, 0x8001, 0x8000, 0xB555],
        "with Inf and NaN": [0x3C00, *([0x3000] * 8), 0x7C00, 0xFC00, 0x7E00, 0xFC01],
    },
}
EDGES = [(fmt, name, kind) for fmt, name in CASES for kind in SCALES.get(get(fmt).scale.name, {})]


@pytest.mark.parametrize(("fmt", "name", "kind"), EDGES, ids=[f"{fmt}-{kind}" for fmt, _, kind in EDGES])
def test_scales_at_the_edges_of_their_format(fmt: str, name: str, kind: str) -> None:
    codes = SCALES[get(fmt).scale.name][kind]
    activation = get(get(fmt).activation)
    a_codes = codes if activation.scale is get(fmt).scale else None
    a, b = oracle.operands(fmt, 6, 9, 6 * get(fmt).block_size, a_scales=a_codes, b_scales=codes)
    a.codes[0] = 0  # zero sums meet every scale
    bits = check(a, b, fmt, name)
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    assert set(bits[nan].tolist()) <= {0x7FC00000}
    assert nan.any() == ("NaN" in kind)


@pytest.mark.parametrize(("fmt", "name"), FUSED, ids=["-".join(case) for case in FUSED])
def test_the_general_path_agrees_with_the_fused_one(fmt: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, params = unit(name), oracle.params_of(fmt, name)
    a, b = oracle.operands(fmt, 7, 131, 5 * get(fmt).block_size)
    fused = found.gemm(a, b, params)
    asked = []
    monkeypatch.setattr(_kernels, "_product_is_exact", lambda *_: asked.append(1) or False)
    np.testing.assert_array_equal(found.gemm(a, b, params).view(np.uint32), fused.view(np.uint32))
    assert asked


@pytest.mark.parametrize("product", [2.0**-125, 2.0**-126, 2.0**-127, 2.0**126, 2.0**127])
def test_the_border_between_the_two_paths(product: float) -> None:
    """The scale product, with the quarter of an E2M1 product, crosses the range of normal float32."""
    exponent = int(np.log2(product)) + 2
    codes = [127 + exponent // 2], [127 + exponent - exponent // 2]
    a, b = oracle.operands("mxfp4", 4, 4, 96, a_scales=codes[0], b_scales=codes[1])
    check(a, b, "mxfp4", "mx_dot")


def mx(rows: list[list[tuple[int, int]]]) -> tuple[Encoded, Encoded]:
    """Return operands whose blocks sum to n (up to 36 a lane) in units of 2**e: rows of (n in quarters, exponent)."""
    codes = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 6: 5, 8: 6, 12: 7}
    a = np.zeros((1, 32 * len(rows[0])), np.uint8)
    b = np.zeros((len(rows), a.shape[1]), np.uint8)
    scales = np.zeros((len(rows), len(rows[0])), np.uint8)
    a[:] = 1  # every activation is 0.5: a lane gives half its weight, in quarters the weight's integer
    for n, row in enumerate(rows):
        for index, (quarters, exponent) in enumerate(row):
            rest, lane = abs(quarters), 32 * index
            while rest:
                part = max(level for level in codes if level <= rest)
                b[n, lane] = codes[part] | (8 if quarters < 0 else 0)
                rest, lane = rest - part, lane + 1
            assert lane <= 32 * index + 32
            scales[n, index] = 127 + exponent
    spec = get("mxfp4")
    return Encoded.of(spec, codes=a, scales=np.full((1, len(rows[0])), 127, np.uint8)), Encoded.of(
        spec, codes=b, scales=scales
    )


def test_overflow_sticks_at_inf_and_cancellation_is_exact() -> None:
    rows = [
        [(4, 127), (4, 127), (-4, 127)],  # 2**127 twice is Inf, and stays
        [(4, 126), (4, 126), (-4, 126)],
        [(-4, 127), (-4, 127), (4, 127)],
        [(4, 0), (4, -30), (-4, 0)],  # 2**-30 was lost beside 1
        [(4, 0), (-4, 0), (4, -120)],
        [(4, 0), (-4, 0), (0, 127)],
    ]
    a, b = mx(rows)
    bits = check(a, b, "mxfp4", "mx_dot")[0].tolist()
    assert bits == [0x7F800000, 0x7E800000, 0xFF800000, 0, 0x03800000, 0]


def test_ties_and_sticky_bits_of_the_accumulation() -> None:
    """1 + 2**-24 is a tie, to even; one more unit far below decides it the other way."""
    rows = [
        [(4, 0), (4, -24), (0, 0)],  # tie, to even 1
        [(4, 0), (12, -25), (0, 0)],  # 1.5 of it: up
        [(4, 0), (4, -23), (4, -24)],  # 1 + ulp, then a tie, to even 1 + 2 ulp
        [(-4, 0), (-4, -24), (0, 0)],
        [(4, 0), (-4, -25), (0, 0)],  # below a power of two the last place is half as large: a tie again
        [(4, 0), (-5, -25), (0, 0)],
    ]
    bits = check(*mx(rows), "mxfp4", "mx_dot")[0].tolist()
    assert bits == [0x3F800000, 0x3F800001, 0x3F800002, 0xBF800000, 0x3F800000, 0x3F7FFFFF]


@pytest.mark.parametrize("with_nan", [False, True], ids=["fused path", "general path"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_group_sum_on_a_tie_beside_a_tiny_accumulator(with_nan: bool, sign: int) -> None:
    """24,929 x 673 = 2**24 + 1 is a tie of float32; times 2**5 it spans 54 bits with an accumulator of 2**-24."""
    a, b = oracle.operands("int4_g128", 2, 3, 256)
    a.codes[:], b.codes[:] = 0, 0
    b.codes[:, 0], a.codes[0, 0], a.codes[1, 0] = 1, 1, 255  # first group: +-1 at scale 2**-24
    a.codes[:, 128:156], b.codes[:, 128:156] = 127, 7  # 28 * 889 = 24,892
    a.codes[:, 160], b.codes[:, 160] = 37, 1
    b.scales[:] = [0x0001, 29 << 10 | 2 * 673 - 1024]
    a.scales[:] = 0x3F800000
    b.codes[:, 128:] = (sign * b.codes[:, 128:].astype(int)) % 16
    if with_nan:
        b.scales[2, 0] = 0x7E00
    bits = check(a, b, "int4_g128", "int_mac")[:, 0].tolist()
    group = sign * 24929 * 673 * 32
    assert group + 2.0**-24 == group - 2.0**-24  # float64 alone cannot tell the two apart
    low, high = ([0x4E000000, 0x4E000001], [0xCE000001, 0xCE000000])[sign < 0]
    assert bits == [high, low]


def test_underflow_keeps_its_sign_until_a_zero_is_added() -> None:
    spec = get("mxfp4")
    a, b = mx([[(-1, -100), (0, 0)]])
    a.scales[:] = 0  # 2**-127 * 2**-100 / 4 underflows to -0
    assert check(a, b, "mxfp4", "mx_dot").tolist() == [[0]]
    one = slice(0, 32)
    a1 = Encoded.of(spec, codes=a.codes[:, one], scales=a.scales[:, :1])
    b1 = Encoded.of(spec, codes=b.codes[:, one], scales=b.scales[:, :1])
    assert check(a1, b1, "mxfp4", "mx_dot").tolist() == [[0x80000000]]


@every_case
def test_gemm_follows_the_decoded_operands(fmt: str, name: str) -> None:
    """A coarse outside check: numpy's product of decoded values, within the error of float32 accumulation."""
    k = 4 * (get(fmt).block_size or 64)
    a, b = oracle.operands(fmt, 5, 6, k)
    got = unit(name).gemm(a, b, oracle.params_of(fmt, name))
    x, y = decode(a).astype(np.float64), decode(b).astype(np.float64)
    bound = (np.abs(x) @ np.abs(y).T) * 2.0**-24 * (k + 8)
    assert (np.abs(got - x @ y.T) <= bound).all()


@every_case
def test_results_do_not_depend_on_the_number_of_threads(fmt: str, name: str) -> None:
    import numba

    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread only")
    a, b = oracle.operands(fmt, 9, 400, 2 * (get(fmt).block_size or 64))
    found, params, results = unit(name), oracle.params_of(fmt, name), []
    before = numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            results.append(found.gemm(a, b, params).tobytes())
    finally:
        numba.set_num_threads(before)
    assert results[0] == results[1]


@every_case
def test_operands_stay_as_they_are(fmt: str, name: str) -> None:
    a, b = oracle.operands(fmt, 3, 4, 2 * (get(fmt).block_size or 20))
    before = [(dataclasses.replace(x), x.codes.copy(), x.scales.copy()) for x in (a, b)]
    unit(name).gemm(a, b, oracle.params_of(fmt, name))
    for operand, (_, codes, scales) in zip((a, b), before, strict=True):
        np.testing.assert_array_equal(operand.codes, codes)
        np.testing.assert_array_equal(operand.scales, scales)


ODD = [0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 0x7F812345, 0x00000001, 0x80000000, 0x7F7FFFFF, 0xBF800000]


@pytest.mark.parametrize("scale", ODD, ids=hex)
@pytest.mark.parametrize("fmt", ["int4_g128", "int4_g128_asym", "nvfp4"])
def test_any_output_scale_gives_the_bits_of_the_reference(fmt: str, scale: int) -> None:
    a, b = oracle.operands(fmt, 3, 4, 2 * get(fmt).block_size)
    a.codes[0] = 0  # 0 times Inf
    if a.tensor_scale is not None:
        a = a.replace_parts(tensor_scale=np.asarray(np.uint32(scale).view(np.float32)))
    else:
        a.scales[:2] = scale
    bits = check(a, b, fmt, oracle_unit(fmt))
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    assert set(bits[nan].tolist()) <= {0x7FC00000}
    assert nan[0].all() == (scale & 0x7FFFFFFF >= 0x7F800000)


def oracle_unit(fmt: str) -> str:
    """Return the first unit that takes a format."""
    return next(name for other, name in CASES if other == fmt)


@every_case
def test_bands_of_rows_and_tiles_of_columns_meet(fmt: str, name: str) -> None:
    """Enough rows that threads share them, and columns over a tile's end: every output as in a GEMM of its own row."""
    import numba

    rows, columns = 64 * numba.get_num_threads() + 5, 200
    a, b = oracle.operands(fmt, rows, columns, 2 * (get(fmt).block_size or 64))
    found, params = unit(name), oracle.params_of(fmt, name)
    whole = found.gemm(a, b, params).view(np.uint32)
    for start in range(0, rows, 32):
        part = found.gemm(a.rows(slice(start, start + 32)), b, params).view(np.uint32)
        np.testing.assert_array_equal(whole[start : start + 32], part)
    middle = -(-rows // 2)
    for row in (0, middle - 2, middle - 1, middle, middle + 1, rows - 1):
        for column in (0, 191, 192, 199):
            bits = found.reference(found.beats(a, b, row, column, params), params)
            assert int(whole[row, column]) == bits, (row, column)

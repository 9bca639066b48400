"""Value tables: NF4, FP4 and the dynamic map of bitsandbytes, flint; by exact rationals, and by bitsandbytes itself."""

from __future__ import annotations

import bisect
import dataclasses
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats
from hwsim.formats import BlockSpec, TableSpec, decode, encode
from tests.hwsim.formats import oracle

VECTORS = Path(__file__).parents[3] / "data" / "bitsandbytes.npz"
BLOCKS = ("nf4_bs64", "nf4_bs64_midpoints", "fp4_bnb", "dynamic8", "dynamic8_unsigned", "flint4", "flint4_g128")


@cache
def levels(spec: TableSpec) -> list[tuple[Fraction, int]]:
    """Return (value, code) of every level, ascending; of a symmetric table the magnitudes."""
    pairs = sorted((Fraction(v), c) for c, v in enumerate(spec.values) if v is not None)
    return [pair for i, pair in enumerate(pairs) if i == 0 or pair[0] != pairs[i - 1][0]]


@cache
def exact_borders(spec: TableSpec) -> list[Fraction]:
    """Return the thresholds of a table: as given, or the middles of its levels."""
    if spec.thresholds is not None:
        return [Fraction(t) for t in spec.thresholds]
    return [(a[0] + b[0]) / 2 for a, b in pairwise(levels(spec))]


def table_code(spec: TableSpec, quotient: Fraction, negative: bool) -> int:
    """Return the code of an exact quotient: the nearest by the table's thresholds."""
    ranked, borders = levels(spec), exact_borders(spec)
    point = abs(quotient) if spec.symmetric else quotient
    rank = bisect.bisect_left(borders, point)  # number of borders below
    if rank < len(borders) and borders[rank] == point:
        rank += {"down": False, "up": True, "even": rank % 2 == 1}[spec.ties]
    return ranked[rank][1] | (negative << (spec.bits - 1) if spec.symmetric else 0)


def worth(spec: TableSpec, code: int) -> Fraction | None:
    """Return what a code is worth."""
    half = len(spec.values)
    value = spec.values[code % half]
    return None if value is None else -Fraction(value) if code >= half else Fraction(value)


def expected_block(fmt: BlockSpec, bits: list[int]) -> tuple[list[int], int, Fraction]:
    """Encode one block of float32 bits: codes, scale code, step."""
    assert isinstance(fmt.element, TableSpec) and isinstance(fmt.scale, formats.FloatSpec)
    values = [oracle.float32_value(b) for b in bits]
    top = max(abs(v) for v, _ in levels(fmt.element))
    scale = oracle.float_code(fmt.scale, max(map(abs, values)) / top)
    step = oracle.float32_value(scale) if fmt.scale.bits == 32 else oracle.value(fmt.scale, scale)
    codes = [
        table_code(fmt.element, v / step if step else Fraction(0), bool(b >> 31))
        for v, b in zip(values, bits, strict=True)
    ]
    return codes, scale, step


def hard_rows(element: TableSpec, block: int, seed: int = 0) -> np.ndarray:
    """Return rows [n, block] of hard inputs, non-negative for an unsigned table."""
    rng = np.random.default_rng(seed)
    top = float(max(abs(v) for v, _ in levels(element)))
    borders = [float(b) for b in element.borders]
    rows = [
        rng.normal(size=block),
        rng.normal(size=block) * 2.0**-140,
        np.ldexp(rng.integers(-40, 41, block).astype(float), -149),
        np.ldexp(rng.uniform(-1, 1, block), rng.integers(-140, 127, block)),
        rng.choice([3.4028234663852886e38, -3.4028234663852886e38, 1.0, 0.0], block),
        np.zeros(block),
        -np.zeros(block),
        rng.choice([0.0, -0.0, 1.5, -1e-30], block),
    ]
    for scale in (1.0, 2.0**-70, 0.7331):  # every border, and the float32 on either side of it
        step = float(np.float32(scale))
        points = [np.float32(b * step) for b in borders] + [np.float32(-b * step) for b in borders]
        near = [np.nextafter(p, np.float32(d)) for p in points for d in (-np.inf, np.inf)]
        every = [float(p) for p in [*points, *near]]
        for start in range(0, len(every), block - 1):
            piece = every[start : start + block - 1]
            rows.append(np.array([top * step, *piece, *[0.0] * (block - 1 - len(piece))]))
    x = np.array(rows)
    low, high = np.finfo(np.float32).min, np.finfo(np.float32).max
    x = np.clip(x, low, high).astype(np.float32)
    return x if element.signed else np.abs(x)


@pytest.mark.parametrize("name", BLOCKS)
def test_encode_and_decode_equal_exact_rationals(name: str) -> None:
    fmt = formats.block(name)
    assert isinstance(fmt.element, TableSpec)
    x = hard_rows(fmt.element, fmt.block_size or 64)
    encoded = encode(x, fmt)
    values = decode(encoded)
    for row in range(len(x)):
        codes, scale, step = expected_block(fmt, [int(b) for b in x[row].view(np.uint32)])
        assert encoded.codes[row].tolist() == codes
        assert encoded.scales[row, 0] == scale
        for column, code in enumerate(codes):
            exact = worth(fmt.element, code)
            assert exact is not None
            product = exact * step
            if product != 0:
                assert values[row, column].view(np.uint32) == oracle.float32_bits(product), (row, column)
            else:
                assert values[row, column] == 0


@pytest.mark.parametrize("name", BLOCKS)
def test_every_code_decodes_to_its_value(name: str) -> None:
    fmt = formats.block(name)
    assert isinstance(fmt.element, TableSpec)
    block = fmt.block_size or 256
    codes = np.resize(np.arange(1 << fmt.element.bits, dtype=np.uint8), (1, -(-256 // block) * block))
    one = 0x3C00 if fmt.scale is not None and fmt.scale.bits == 16 else 0x3F800000
    scales = np.full((1, codes.size // block), one, np.uint16 if one == 0x3C00 else np.uint32)
    got = decode(formats.Encoded(fmt, {"codes": codes, "scales": scales}))[0]
    for code, value in zip(codes[0], got, strict=True):
        exact = worth(fmt.element, int(code))
        assert np.isnan(value) if exact is None else Fraction(float(value)) == exact


@pytest.mark.parametrize("name", BLOCKS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-20, 20))
def test_encoding_is_stable_monotone_and_free_of_powers_of_two(name: str, seed: int, shift: int) -> None:
    fmt = formats.block(name)
    assert isinstance(fmt.element, TableSpec)
    x = np.sort(np.random.default_rng(seed).normal(size=(1, fmt.block_size or 64)).astype(np.float32))
    x = x if fmt.element.signed else np.sort(np.abs(x))
    first = encode(x, fmt)
    values = decode(first)
    assert (np.diff(values) >= 0).all()
    # the largest magnitude may round to another scale; the values of the codes stay
    assert np.array_equal(decode(encode(values, fmt)), values) or np.abs(values).max() != np.abs(x).max()
    if fmt.scale is not None and fmt.scale.bits == 32:
        assert np.array_equal(encode(np.ldexp(x, shift), fmt).codes, first.codes)


def test_published_facts_of_the_dynamic_map() -> None:
    values = formats.element("dynamic8").values
    assert len(set(values)) == 256 and values[0] == pytest.approx(-0.99297, abs=1e-5) and values[-1] == 1.0
    nonzero = sorted((abs(v), v) for v in values if v)
    assert [v for _, v in nonzero[:2]] == pytest.approx([-5.5e-7, 5.5e-7], rel=1e-3)
    unsigned = formats.element("dynamic8_unsigned").values
    assert len(set(unsigned)) == 256 and unsigned[0] == 0 and unsigned[-1] == 1.0 and min(unsigned) == 0


def test_published_values_of_nf4_and_fp4() -> None:
    # bitsandbytes functional.py: get_4bit_type("nf4"), and FP4 in twelfths
    nf4 = formats.element("nf4")
    assert isinstance(nf4, TableSpec)
    assert nf4.values[1] == -0.6961928009986877 and nf4.values[7] == 0.0 and nf4.values[14] == 0.7229568362236023
    assert all(np.float32(v) == v for v in nf4.values if v is not None)
    close = [
        abs(t - float((Fraction(a) + Fraction(b)) / 2))
        for t, (a, b) in zip(nf4.borders, pairwise(nf4.values), strict=True)
    ]
    assert 0 < max(close) < 2e-7  # the kernel's literals are not the midpoints, but near
    fp4 = formats.element("fp4_bnb")
    assert isinstance(fp4, TableSpec)
    twelfths = [0, 0.0625, 8, 12, 4, 6, 2, 3]
    assert [float(np.float32(t / 12)) for t in twelfths] == list(fp4.values)


def test_flint_levels_follow_its_rule_and_codes_its_first_one() -> None:
    # ANT flint_value with 3 magnitude bits: exponents -2..1 with shrinking mantissas, then 2**2; in units of 1/4
    bits, rule = 3, {Fraction(0)}
    for i in range(bits):  # negative exponents
        mantissa = bits - (i + 2)
        if mantissa >= 0:
            rule |= {Fraction(1, 2 ** (i + 1)) * (1 + Fraction(j, 2**mantissa)) for j in range(2**mantissa)}
    for i in range(bits - 1):
        mantissa = bits - (i + 2)
        rule |= {Fraction(2) ** i * (1 + Fraction(j, 2**mantissa)) for j in range(2**mantissa)}
    rule.add(Fraction(2) ** (bits - 1))
    flint = formats.element("flint4")
    assert isinstance(flint, TableSpec)
    assert (
        sorted(4 * v for v in rule) == [0, 1, 2, 3, 4, 6, 8, 16] == sorted(v for v in flint.values[:8] if v is not None)
    )
    # ties toward +inf
    x = np.array([[16.0, -16.0, 0.5, -0.5, 5.0, -5.0, 12.0, -12.0]], np.float32)
    assert decode(encode(x, "flint4"))[0].tolist() == [16, -16, 1, 0, 6, -4, 16, -8]


def test_nibbles_lie_high_first() -> None:
    assert formats.block("nf4_bs64").nibble_order == "high_first"


def test_a_table_refuses_thresholds_that_scale_inexactly() -> None:
    with pytest.raises(ValueError, match="29 significant bits"):
        TableSpec("bad", 1, (0.0, 1.0), "none", thresholds=(0.1,))
    with pytest.raises(ValueError, match="between two neighbouring values"):
        TableSpec("bad", 1, (0.0, 1.0), "none", thresholds=(1.5,))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        encode(np.ones((1, 63), np.float32), "nf4_bs64")
    with pytest.raises(ValueError, match=r"index \[1, 3\].*nan"):
        x = np.ones((2, 64), np.float32)
        x[1, 3] = np.nan
        encode(x, "nf4_bs64")
    with pytest.raises(TypeError, match="float32"):
        encode(np.ones((1, 64)), "nf4_bs64")
    codes = np.full((1, 64), 16, np.uint8)
    with pytest.raises(ValueError, match="codes hold 16"):
        formats.Encoded(formats.get("nf4_bs64"), {"codes": codes, "scales": np.ones((1, 1), np.uint32)})


@pytest.mark.parametrize("name", ["dynamic8", "dynamic8_unsigned", "apot5", "powerquant_8b"])
@pytest.mark.parametrize("ties", ["down", "up", "even"])
def test_guided_ranks_equal_exact_rationals(name: str, ties: str) -> None:
    from hwsim.formats.families import _table_kernels as kernels

    element = formats.block(name).element
    assert isinstance(element, TableSpec)
    element = dataclasses.replace(element, ties=ties)
    order = np.array([code for _, code in element.ranked], np.uint8)
    for step in (1.0, 0.7331, 2.0**-99, 3.0 * 2.0**98):
        step = float(np.float32(step))
        x = hard_rows(element, 256)[:8]
        ends = np.array([b * s * step for b in element.borders for s in (1, -1)]).astype(np.float32)
        far = np.array([1e38, -1e38, 0.0, -0.0, 1e-45, -1e-45], np.float32)
        near = np.concatenate(
            [ends, np.nextafter(ends, np.float32(np.inf)), np.nextafter(ends, -np.float32(np.inf)), far]
        )
        x = np.concatenate([x.ravel(), np.resize(near, -(-near.size // 512) * 512)])
        codes, done = np.empty(x.size, np.uint8), np.ones(x.size // 512, np.uint8)
        guide = kernels.guide(element)
        kernels.guided_blocks(
            x, 512, np.full(x.size // 512, step), guide, element.symmetric, element.bits, order, done, codes
        )
        assert done.all()
        exact = [table_code(element, Fraction(float(v)) / Fraction(step), bool(np.signbit(v))) for v in x]
        assert codes.tolist() == exact
    done = np.ones(3, np.uint8)
    kernels.guided_blocks(
        x[:6], 2, np.array([0.0, 2.0**-101, 2.0**101]), guide, element.symmetric, element.bits, order, done, codes[:6]
    )
    assert not done.any()


# bitsandbytes: vectors made by tools/bitsandbytes_vectors.py


@pytest.fixture(scope="module")
def vectors() -> dict[str, np.ndarray]:
    with np.load(VECTORS) as data:
        return dict(data)


@pytest.mark.parametrize("name, signed", [("dynamic8", True), ("dynamic8_unsigned", False)])
def test_dynamic_map_is_that_of_bitsandbytes(vectors: dict[str, np.ndarray], name: str, signed: bool) -> None:
    assert np.array_equal(np.array(formats.element(name).values), vectors["map_signed" if signed else "map_unsigned"])


@pytest.mark.parametrize("name, key", [("nf4_bs64", "nf4"), ("fp4_bnb", "fp4"), ("dynamic8", "dynamic8")])
def test_blocks_equal_bitsandbytes(vectors: dict[str, np.ndarray], name: str, key: str) -> None:
    """Scales and values are the same; codes too where the block's largest magnitude is a power of two.

    Known differences: bitsandbytes multiplies by the float32 reciprocal of absmax, and takes float32 midpoints, so a
    value within 2**-22 of a threshold may fall on its other side; its CPU code gives the zeros of FP4 other signs, and
    the 8-bit codes of a block of zeros are 0 there (0 / 0), which decodes to zero as well.
    """
    fmt = formats.block(name)
    assert isinstance(fmt.element, TableSpec)
    for kind in ("random", "power"):
        x, codes, scales, values = (vectors[f"{key}_{kind}_{part}"] for part in ("x", "codes", "absmax", "values"))
        encoded = encode(x, fmt)
        assert np.array_equal(encoded.scales.view(np.float32), scales)
        ours = decode(encoded)
        steps = np.repeat(np.where(scales > 0, scales, 1), fmt.block_size or 1, axis=1)
        quotient = x.astype(np.float64) / steps
        point = np.abs(quotient) if fmt.element.symmetric else quotient
        gap = np.abs(point[..., None] - np.array(fmt.element.borders)).min(axis=-1)
        near = gap <= 2.0**-22
        assert near.mean() < 0.05
        assert np.array_equal(ours[~near], values[~near])
        if not fmt.element.symmetric:
            same = ~near & np.repeat(scales > 0, fmt.block_size or 1, axis=1)
            assert np.array_equal(encoded.codes[same], codes[same])
        theirs = formats.Encoded(fmt, {"codes": codes, "scales": encoded.scales})
        assert np.array_equal(decode(theirs), values)

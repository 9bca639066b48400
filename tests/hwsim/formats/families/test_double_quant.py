"""Double quantisation of scales: by exact rationals and plain floats, and by bitsandbytes itself."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import formats
from hwsim.formats import TableSpec, decode, encode
from hwsim.formats.families.double_quant import DoubleQuantSpec
from tests.hwsim.formats import oracle
from tests.hwsim.formats.families.test_tables import expected_block, table_code, worth

VECTORS = Path(__file__).parents[3] / "data" / "bitsandbytes.npz"
NF4_DQ = formats.get("nf4_dq")
assert isinstance(NF4_DQ, DoubleQuantSpec)
EIGHTHS = TableSpec("eighths", 5, (*(i / 8 for i in range(-8, 9)), *[None] * 15), "test", ties="down")
FORMATS = (
    NF4_DQ,
    NF4_DQ.with_rules(outer_block=5),
    *(NF4_DQ.with_rules(table=replace(EIGHTHS, ties=ties)) for ties in ("down", "up", "even")),
)


def value_of(bits: int) -> Fraction:
    return oracle.float32_value(bits)


def rounded(exact: Fraction) -> Fraction:
    """Round to float32."""
    return value_of(oracle.float32_bits(exact))


def make(kind: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(7, 192))
    if kind == "spread":
        x = np.ldexp(x, rng.integers(-30, 30, (7, 1)))
    elif kind == "subnormal":
        x = np.ldexp(rng.integers(-9, 10, x.shape).astype(float), -149)
    elif kind == "huge":
        x = rng.choice([3.4e38, -3e30, 1.0], x.shape)
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0], x.shape)
    elif kind == "same":
        x = np.ones_like(x)
    elif kind == "ties":  # the mean is exactly 2, and what is left of some scales lies on thresholds of EIGHTHS
        x = np.zeros_like(x)
        points = np.array([-1, *(np.arange(16) - 7.5) / 8, 1, 0, 0, 0])
        x[:, ::64] = (2 + points).reshape(7, 3)
    return x.astype(np.float32)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.table.name + str(f.outer_block) + f.table.ties)
@pytest.mark.parametrize("kind", ["random", "spread", "subnormal", "huge", "zeros", "same", "ties"])
def test_encode_and_decode_equal_exact_rationals(fmt: DoubleQuantSpec, kind: str) -> None:
    x = make(kind)
    encoded, values = encode(x, fmt), None
    values = decode(encoded)
    # first level: codes and scales of the base format
    blocks = [
        [expected_block(fmt.base, [int(b) for b in row[j : j + 64].view(np.uint32)]) for j in range(0, 192, 64)]
        for row in x
    ]
    assert encoded.codes.tolist() == [[code for codes, _, _ in row for code in codes] for row in blocks]
    # offset: plain float64 sums, one a row
    total = 0.0
    for row in blocks:
        here = 0.0
        for _, bits, _ in row:
            here += float(value_of(bits))
        total += here
    offset = rounded(Fraction(total / 21))
    assert Fraction(float(encoded.parts["offset"])) == offset
    # second level
    rest = [rounded(value_of(bits) - offset) for row in blocks for _, bits, _ in row]
    flat, step = encoded.scales.reshape(-1), fmt.outer_block
    decoded = []
    for index, start in enumerate(range(0, 21, step)):
        top = max(map(abs, rest[start : start + step]))
        assert Fraction(float(encoded.parts["outer_scales"].view(np.float32)[index])) == top
        for i in range(start, min(start + step, 21)):
            code = table_code(fmt.table, rest[i] / top if top else Fraction(0), False)
            assert flat[i] == code
            exact = worth(fmt.table, code)
            assert exact is not None
            decoded.append(rounded(rounded(exact * top) + offset))
    for (row, column), value in np.ndenumerate(values):
        element = worth(fmt.base.element, int(encoded.codes[row, column]))  # type: ignore[arg-type]
        assert element is not None
        product = element * decoded[row * 3 + column // 64]
        assert Fraction(float(value)) == (rounded(product) if product else 0)


def test_equals_bitsandbytes() -> None:
    """Codes of scales, offset and outer scales are the same bits; values too, but for codes at rounded thresholds."""
    with np.load(VECTORS) as data:
        vectors = dict(data)
    encoded = encode(vectors["dq_x"], "nf4_dq")
    assert encoded.parts["offset"] == vectors["dq_offset"]
    assert np.array_equal(encoded.parts["outer_scales"].view(np.float32), vectors["dq_outer"])
    assert np.array_equal(encoded.scales.reshape(-1), vectors["dq_scales"])
    codes = np.stack([vectors["dq_packed"] >> 4, vectors["dq_packed"] & 15], axis=-1).reshape(encoded.codes.shape)
    assert (codes != encoded.codes).mean() < 1e-4
    assert np.array_equal(decode(encoded.replace_parts(codes=codes)), vectors["dq_values"])


def test_stored_bits_an_element() -> None:
    # QLoRA section 3: 8/64 + 32/(64 * 256) bits of scales an element
    assert encode(np.ones((64, 1024), np.float32), "nf4_dq").stored_bits == 65536 * (4 + 8 / 64 + 32 / (64 * 256)) + 32
    assert formats.get("nf4_dq").bits_per_element(1024) == pytest.approx(4 + 8 / 64 + 32 / (64 * 256))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-20, 20))
def test_codes_do_not_depend_on_powers_of_two(seed: int, shift: int) -> None:
    x = np.random.default_rng(seed).normal(size=(3, 128)).astype(np.float32)
    first, scaled = encode(x, NF4_DQ), encode(np.ldexp(x, shift), NF4_DQ)
    assert np.array_equal(first.codes, scaled.codes) and np.array_equal(first.scales, scaled.scales)
    assert np.array_equal(np.ldexp(decode(first), shift), decode(scaled))


def test_axes_and_padding() -> None:
    x = np.random.default_rng(0).normal(size=(100, 3, 2)).astype(np.float32)
    encoded = encode(x, "nf4_dq", axis=0, pad=True)
    assert encoded.padding == 28 and decode(encoded).shape == x.shape
    flat = encode(np.pad(np.moveaxis(x, 0, -1).reshape(6, 100), ((0, 0), (0, 28))), "nf4_dq")
    assert np.array_equal(flat.scales, encoded.scales.reshape(6, 2))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"outer_block": 0}, "outer_block"),
        ({"offset": "none"}, "offset"),
        ({"elements": "stored"}, "elements"),
        ({"table": formats.element("fp4_bnb")}, "symmetric"),
        ({"table": formats.element("flint4")}, "reach 1.0"),
        ({"base": formats.get("flint4_g128")}, "FP32"),
        ({"base": formats.get("mxfp4")}, "FP32"),
    ],
)
def test_bad_rules_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NF4_DQ.with_rules(**change)


def test_bad_input_is_refused() -> None:
    x = np.ones((2, 64), np.float32)
    x[1, 5] = np.inf
    with pytest.raises(ValueError, match=r"index \[1, 5\].*inf"):
        encode(x, "nf4_dq")
    with pytest.raises(ValueError, match="does not divide"):
        encode(np.ones((1, 65), np.float32), "nf4_dq")
    good = encode(np.ones((2, 64), np.float32), "nf4_dq")
    with pytest.raises(ValueError, match="outer_scales must be"):
        good.replace_parts(outer_scales=np.zeros(2, np.uint32))
    with pytest.raises(ValueError, match="do not lie by rows"):
        good.rows(slice(0, 1))
    assert isinstance(NF4_DQ.table, TableSpec)

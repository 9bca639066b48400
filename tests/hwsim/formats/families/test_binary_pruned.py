"""Binary pruning: by lists of bits and plain integers, and every code under every pair of a group's numbers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from hwsim.formats import Encoded, decode, encode, get
from hwsim.formats.families.binary_pruned import BinaryPrunedSpec
from tests.hwsim.formats.oracle import float32_bits, float32_value

NAMES = ("bbs_cons_g16", "bbs_cons_g32", "bbs_mod_g16", "bbs_mod_g32")


def spec(name: str) -> BinaryPrunedSpec:
    found = get(name)
    assert isinstance(found, BinaryPrunedSpec)
    return found


def redundant(group: list[int], most: int) -> int:
    """Return how many columns behind the sign's hold its bits."""
    columns = list(zip(*([value >> place & 1 for place in range(7, -1, -1)] for value in group), strict=True))
    found = 0
    while found < most and columns[found + 1] == columns[0]:
        found += 1
    return found


def averaged(group: list[int], pruned: int) -> tuple[int, int, list[int]]:
    count = redundant(group, pruned)
    low = 1 << (pruned - count)
    mean = round(Fraction(sum(value % low for value in group), len(group)))  # ties to even
    return count, mean, [value // low for value in group]


def shifted(group: list[int], pruned: int) -> tuple[int, int, list[int]]:
    best: tuple[int, int, int, list[int]] | None = None
    for constant in range(-32, 32):
        rest = [min(max(value - constant, -128), 127) for value in group]
        count = redundant(rest, min(pruned, 3))
        step, top = 1 << (pruned - count), (1 << (7 - pruned)) - 1
        columns = [min((2 * value + step) // (2 * step), top) for value in rest]
        error = sum((column * step + constant - value) ** 2 for column, value in zip(columns, group, strict=True))
        if best is None or error < best[0]:
            best = (error, count, constant, columns)
    assert best is not None
    return best[1:]


def integers(fmt: BinaryPrunedSpec, group: tuple[int, int, list[int]]) -> list[int]:
    count, constant, columns = group
    return [(column << (fmt.pruned - count)) + constant for column in columns]


def drawn(size: int, seed: int) -> np.ndarray:
    """Return values whose groups are of all sizes: few redundant columns and many, one sign and both, and the ends."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((8, 12, size)) * np.exp2(rng.integers(-7, 1, (8, 12, 1)))
    x[:, ::5] = np.abs(x[:, ::5])
    x[:, 1] = rng.choice([-1.0, 1.0], (8, size)) * 4
    x[:, 2] = rng.choice([-4.0, 0.0, 4.0, 3.9], (8, size))
    x[:, 3] = 0
    return x.reshape(8, -1).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_groups_follow_the_words_of_the_format(name: str) -> None:
    fmt = spec(name)
    x = drawn(fmt.block_size, len(name))
    encoded, whole = encode(x, fmt), encode(x, "int8")
    prune = averaged if "cons" in name else shifted
    np.testing.assert_array_equal(encoded.scales, whole.scales)
    groups = whole.codes.view(np.int8).reshape(-1, fmt.block_size).tolist()
    codes = encoded.codes.reshape(-1, fmt.block_size).tolist()
    values = fmt.integers(encoded.parts).reshape(-1, fmt.block_size).tolist()
    seen = set()
    for number, group in enumerate(groups):
        found = prune(group, fmt.pruned)
        seen.add(found[0])
        assert encoded.parts["redundant"].reshape(-1)[number] == found[0]
        assert encoded.parts["constants"].reshape(-1)[number] == found[1] % 64
        assert codes[number] == [column % (1 << fmt.element.bits) for column in found[2]]
        assert values[number] == integers(fmt, found)
    assert seen == set(range(min(fmt.pruned, 3) + 1))


@pytest.mark.parametrize("name", NAMES[::2])
def test_every_code_under_every_number_decodes_exactly(name: str) -> None:
    fmt = spec(name).with_rules(block_size=1 << spec(name).element.bits)
    rows = [(count, constant) for count in range(fmt.most_redundant + 1) for constant in range(64)]
    codes = np.tile(np.arange(fmt.block_size, dtype=np.uint8), (len(rows), 1))
    numbers = np.array(rows, np.uint8)
    scale = np.float32(0.0123)
    scales = np.full((len(rows), 1), scale.view(np.uint32))
    encoded = Encoded.of(fmt, codes=codes, redundant=numbers[:, :1], constants=numbers[:, 1:], scales=scales)
    found, exact = decode(encoded).view(np.uint32).tolist(), float32_value(int(scale.view(np.uint32)))
    half = fmt.block_size // 2
    for row, (count, constant) in enumerate(rows):
        signed = constant - 64 if constant >= 32 else constant
        columns = [code - fmt.block_size if code >= half else code for code in range(fmt.block_size)]
        expected = [value * exact for value in integers(fmt, (count, signed, columns))]
        assert found[row] == [float32_bits(value) for value in expected]


def test_pruning_nothing_but_redundant_columns_loses_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-31, 32, (4, 64)).astype(np.float32)
    x[:, 0] = 127  # a group of its own, under a scale of one
    x[:, 1:16] = 127
    encoded = encode(x, "bbs_cons_g16")
    assert (encoded.parts["redundant"][:, 1:] == 2).all()
    np.testing.assert_array_equal(decode(encoded)[:, 16:], x[:, 16:])


def test_bits_of_a_group() -> None:
    assert spec("bbs_mod_g16").bits_per_element(1600) == pytest.approx(4 + 8 / 16 + 32 / 1600)
    assert spec("bbs_cons_g32").bits_per_element(1600) == pytest.approx(6 + 8 / 32 + 32 / 1600)


def test_what_no_format_is() -> None:
    fmt = spec("bbs_mod_g16")
    with pytest.raises(
        ValueError, match="base must be signed integers of 8 bits under an FP32 scale a row, not int4_g128"
    ):
        replace(fmt, base=get("int4_g128"))
    with pytest.raises(ValueError, match="element must be a signed integer of 3 to 7 bits, not int8"):
        replace(fmt, element=fmt.base.element)
    with pytest.raises(ValueError, match="block_size must be a positive integer, not 0"):
        fmt.with_rules(block_size=0)
    with pytest.raises(ValueError, match="strategy must be one of rounded_average, zero_point_shift, not 'none'"):
        fmt.with_rules(strategy="none")
    with pytest.raises(ValueError, match="bbs_mod_g16: group of 16 does not divide the axis of 40; pad it to 48"):
        encode(np.zeros((2, 40), np.float32), fmt)
    with pytest.raises(ValueError, match="bbs_mod_g16: the axis of the groups is empty"):
        fmt.layout((2, 0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named(value: float) -> None:
    x = np.ones((4, 64), np.float32)
    x[2, 50] = value
    with pytest.raises(ValueError, match=r"bbs_cons_g16: the value at index \[2, 50\]"):
        encode(x, "bbs_cons_g16")


def test_more_redundant_columns_than_pruned_ones_are_refused() -> None:
    encoded = encode(np.ones((2, 32), np.float32), "bbs_cons_g16")
    encoded.parts["redundant"][1, 1] = 3
    with pytest.raises(ValueError, match=r"bbs_cons_g16: redundant hold 3, allowed 0 .. 2"):
        decode(encoded)

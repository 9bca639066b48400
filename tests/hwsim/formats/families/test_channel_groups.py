"""Channel groups: by exact rationals, at the borders of groups, and every code of every group."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hwsim.formats import Encoded, decode, element, encode, get
from hwsim.formats.families.channel_groups import ChannelGroupSpec
from tests.hwsim.formats.oracle import float32_bits, float32_value


def tender(bits: int = 8, groups: int = 8) -> ChannelGroupSpec:
    fmt = get(f"tender_int{bits}")
    assert isinstance(fmt, ChannelGroupSpec)
    return fmt if groups == 8 else fmt.with_rules(groups=groups)


def values(x: np.ndarray) -> list[list[Fraction]]:
    return [[float32_value(int(bits)) for bits in row] for row in x.view(np.uint32)]


def half_even(value: Fraction) -> int:
    return round(value)  # of a Fraction: to the nearest integer, ties to even, exactly


def expected(x: np.ndarray, bits: int, groups: int) -> tuple[list[list[int]], list[int], int]:
    """Return codes, groups and scale bits by the words of the format."""
    exact, qmax = values(x), (1 << (bits - 1)) - 1
    tops = [max(abs(row[k]) for row in exact) for k in range(x.shape[1])]
    top = max(tops)
    scale_bits = float32_bits(top / (qmax << (groups - 1)))
    scale, found = float32_value(scale_bits), []
    for each in tops:
        group = 0
        while group < groups - 1 and each * 2 ** (group + 1) <= top:
            group += 1
        found.append(group)
    codes = []
    for row in exact:
        steps = [scale * 2 ** (groups - 1 - group) for group in found]
        pairs = zip(row, steps, strict=True)
        codes.append([max(-qmax, min(qmax, half_even(v / step) if step else 0)) % (1 << bits) for v, step in pairs])
    return codes, found, scale_bits


def check(x: np.ndarray, bits: int, groups: int) -> Encoded:
    encoded = encode(x, tender(bits, groups))
    codes, found, scale = expected(x, bits, groups)
    assert encoded.parts["groups"].tolist() == found
    assert int(encoded.tensor_scale.view(np.uint32)) == scale
    assert encoded.codes.tolist() == codes
    return encoded


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("groups", [1, 2, 8, 16])
def test_random_channels(bits: int, groups: int) -> None:
    rng = np.random.default_rng(groups)
    x = (rng.standard_normal((9, 41)) * np.exp2(rng.integers(-18, 3, 41))).astype(np.float32)
    x[:, 7] = 0
    encoded = check(x, bits, groups)
    assert len(set(encoded.parts["groups"].tolist())) >= min(groups, 8)


@pytest.mark.parametrize("bits", [4, 8])
def test_borders_of_groups_and_ties_of_codes(bits: int) -> None:
    """Channels at the halves of the largest one and one unit in the last place to either side; values on ties."""
    qmax = (1 << (bits - 1)) - 1
    top = np.float32(qmax)
    tops = [top]
    for group in range(1, 9):
        border = np.float32(top / 2**group)
        tops += [border, np.nextafter(border, np.float32(0)), np.nextafter(border, np.float32(1e9))]
    x = np.zeros((6, len(tops)), np.float32)
    x[0] = tops
    x[1] = -x[0]
    for row, tie in enumerate((0.5, 1.5, -2.5, 2.5), 2):  # of the first group's step, which is 1
        x[row, 0] = tie
    x[2:, 1:] = x[2:, :1] / 2**7  # ties of the last group's step, in channels of every group
    x[2:, 1:] = np.clip(x[2:, 1:], -x[0, 1:], x[0, 1:])
    encoded = check(x, bits, 8)
    assert encoded.parts["groups"].tolist()[:4] == [0, 1, 1, 0]
    assert encoded.codes[2:, 0].tolist() == [code % (1 << bits) for code in (0, 2, -2, 2)]


def test_tensors_of_zeros_of_tiny_and_of_huge_values() -> None:
    for value in (0.0, 1e-45, 1e-40, 3.4e38):
        x = np.array([[value, -value / 2, 0]], np.float32)
        encoded = check(x, 8, 8)
        assert np.isfinite(decode(encoded)).all()
    assert encode(np.zeros((2, 3), np.float32), "tender_int8").parts["groups"].tolist() == [7, 7, 7]


@pytest.mark.parametrize("bits", [4, 8])
def test_every_code_of_every_group_decodes_exactly(bits: int) -> None:
    codes = np.repeat(np.arange(1 << bits, dtype=np.uint8)[:, None], 8, axis=1)
    scale = np.float32(0.0123)
    encoded = Encoded.of(tender(bits), codes=codes, groups=np.arange(8, dtype=np.uint8), tensor_scale=scale)
    decoded, exact = decode(encoded).view(np.uint32), float32_value(int(scale.view(np.uint32)))
    for code, group in np.ndindex(decoded.shape):
        integer = code - (1 << bits if code >> (bits - 1) else 0)
        assert int(decoded[code, group]) == float32_bits(integer * exact * 2 ** (7 - group)), (code, group)


def test_the_order_is_that_of_the_groups_and_keeps_channels_in_order() -> None:
    groups = np.array([3, 0, 1, 0, 3, 1], np.uint8)
    assert tender().order(groups).tolist() == [1, 3, 2, 5, 0, 4]


def test_static_groups_give_what_the_tensor_itself_gives_and_saturate_beyond() -> None:
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((20, 33)) * np.exp2(rng.integers(-9, 1, 33))).astype(np.float32)
    own = encode(x, "tender_int8")
    again = tender().encode_static(x, own.parts["groups"], own.tensor_scale)
    np.testing.assert_array_equal(again.codes, own.codes)
    larger = tender().encode_static(x * np.float32(100), own.parts["groups"], own.tensor_scale)
    integers = larger.codes.astype(np.int8)
    # the largest integer of a channel's group is worth at most twice its largest value, but in the last group
    beyond = (np.abs(x) * 50 > np.abs(x).max(axis=0)) & (own.parts["groups"] < 7)
    assert beyond.sum() > 100 and set(np.abs(integers[beyond]).tolist()) == {127}


@pytest.mark.parametrize("index", [np.array([4, 1]), slice(2, 5), np.arange(6) % 2 == 0], ids=["list", "slice", "mask"])
def test_rows_share_groups_and_scale(index: np.ndarray | slice) -> None:
    encoded = encode(np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32), "tender_int4")
    np.testing.assert_array_equal(decode(encoded.rows(index)), decode(encoded)[index])


def test_scaling_by_a_power_of_two_changes_the_scale_alone() -> None:
    x = np.random.default_rng(1).standard_normal((5, 30)).astype(np.float32)
    one, other = encode(x, "tender_int8"), encode(x * np.float32(2.0**-20), "tender_int8")
    np.testing.assert_array_equal(one.codes, other.codes)
    np.testing.assert_array_equal(one.parts["groups"], other.parts["groups"])
    assert one.tensor_scale == other.tensor_scale * np.float32(2.0**20)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(value: float) -> None:
    x = np.ones((4, 300), np.float32)
    x[2, 270] = value
    with pytest.raises(ValueError, match=r"tender_int8: the value at index \[2, 270\]"):
        encode(x, "tender_int8")
    with pytest.raises(ValueError, match="tender_int8: the values hold NaN or Inf"):
        tender().encode_static(x, np.zeros(300, np.uint8), np.float32(1))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"groups": 0}, "groups must be 1 to 16, not 0"),
        ({"groups": 17}, "groups must be 1 to 16, not 17"),
        ({"rounding": "rtz"}, "rounding must be one of rne, not 'rtz'"),
        ({"element": element("uint8")}, "elements are signed integers of at most 8 bits, not uint8"),
        ({"element": element("float16")}, "elements are signed integers of at most 8 bits, not float16"),
    ],
)
def test_rules_that_do_not_go_together_are_refused(rules: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tender().with_rules(**rules)


def test_a_group_that_the_format_does_not_have_is_refused() -> None:
    parts = {"codes": np.ones((1, 2), np.uint8), "groups": np.array([0, 8], np.uint8), "tensor_scale": np.float32(1)}
    with pytest.raises(ValueError, match=r"groups hold 8, allowed 0 \.\. 7"):
        decode(Encoded.of(tender(), **parts))
    with pytest.raises(ValueError, match=r"groups hold 9, allowed 0 \.\. 7"):
        tender().encode_static(np.ones((1, 1), np.float32), np.array([9], np.uint8), np.float32(1))

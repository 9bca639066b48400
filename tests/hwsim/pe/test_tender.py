"""`tender`: kernels, plain reference and exact rationals; its beats and cycles by group sizes; widths of its sum."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from hwsim import pe
from hwsim.formats import BlockSpec, Encoded, decode, element, encode, get
from hwsim.formats.families.channel_groups import ChannelGroupSpec
from hwsim.pe import tender
from tests.hwsim.formats import oracle as numbers
from tests.hwsim.pe import oracle

WIDTHS = [(4, 4), (8, 8), (4, 8), (8, 4)]
"""Bits of activations and of weights."""


def activation_format(bits: int, groups: int = 8) -> ChannelGroupSpec:
    fmt = get(f"tender_int{bits}")
    assert isinstance(fmt, ChannelGroupSpec)
    return fmt if groups == fmt.groups else fmt.with_rules(groups=groups)


def weight_format(bits: int) -> BlockSpec:
    fmt = get("int8")
    assert isinstance(fmt, BlockSpec)
    return fmt if bits == 8 else fmt.with_rules(element=element("int4"))


def operands(
    bits: tuple[int, int], m: int, n: int, k: int, groups: int = 8, seed: int = 0, used: list[int] | None = None
) -> tuple[Encoded, Encoded]:
    """Return any codes, channels in any of the groups used (all of them when None)."""
    rng = np.random.default_rng([*bits, m, n, k, groups, seed])
    a = Encoded.of(
        activation_format(bits[0], groups),
        codes=rng.integers(0, 1 << bits[0], (m, k)).astype(np.uint8),
        groups=rng.choice(list(range(groups)) if used is None else used, k).astype(np.uint8),
        tensor_scale=np.float32(rng.uniform(1e-4, 1e-2)),
    )
    return a, oracle.operand(weight_format(bits[1]), n, k, rng)


def expected(a: Encoded, b: Encoded, m: int, n: int) -> int:
    """Return the bits of one output from the meaning of the formats: an exact sum, then one rounding each."""
    spec = a.format
    total = 0
    for x, group, w in zip(a.codes[m].tolist(), a.parts["groups"].tolist(), b.codes[n].tolist(), strict=True):
        integers = [
            code - (1 << side.element.bits if code >> (side.element.bits - 1) else 0)
            for code, side in ((x, spec), (w, b.format))
        ]
        total += integers[0] * integers[1] * 2 ** (spec.groups - 1 - group)
    bits = numbers.float32_bits(Fraction(total))
    for scale in (int(a.tensor_scale.view(np.uint32)), int(b.scales[n, 0])):
        bits = oracle.multiply(bits, scale)
    return bits


def agree(a: Encoded, b: Encoded, params: tender.Params) -> np.ndarray:
    """Demand that kernels, plain reference and exact sums agree; return the bits."""
    bits = tender.gemm(a, b, params).view(np.uint32)
    for m, n in np.ndindex(bits.shape):
        beats = tender.beats(a, b, m, n, params)
        assert int(bits[m, n]) == expected(a, b, m, n) == tender.reference(beats, params), (m, n)
    rows, columns = (side.reshape(-1) for side in np.indices(bits.shape))
    np.testing.assert_array_equal(tender.dots(a.rows(rows), b.rows(columns), params), bits.reshape(-1))
    return bits


def params_of(bits: tuple[int, int], groups: int = 8, **fields: Any) -> tender.Params:
    return tender.Params(f"int{bits[1]}", f"int{bits[0]}", groups=groups, **fields)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("groups", "lanes", "k"), [(8, 32, 300), (1, 4, 50), (2, 1, 9), (16, 8, 77)])
def test_kernels_reference_and_exact_sums_agree(bits: tuple[int, int], groups: int, lanes: int, k: int) -> None:
    a, b = operands(bits, 4, 5, k, groups)
    agree(a, b, params_of(bits, groups, lanes=lanes, acc_bits=54))


@pytest.mark.parametrize("used", [[0], [7], [0, 7], [3, 4], [1, 2, 6]], ids=str)
def test_groups_without_channels_still_double_the_sum(used: list[int]) -> None:
    a, b = operands((8, 8), 3, 3, 70, used=used)
    params = params_of((8, 8), lanes=16)
    agree(a, b, params)
    beats = tender.beats(a, b, 0, 0, params)
    assert int(beats["rescale"].sum()) == 7 and int(beats["rescale"][0]) == 0


def test_the_largest_sums_of_one_sign_and_of_both() -> None:
    """-128 x -128 x 128 x K, and the same cancelled by the other half."""
    a, b = operands((8, 8), 2, 2, 4096, used=[0])
    a.codes[:], b.codes[:] = 0x80, 0x80
    b.codes[1, ::2] = 0x7F
    params = params_of((8, 8))
    assert tender.sum_bits(tender.group_sizes(a, params), params) == 35
    bits = agree(a.rows(slice(0, 1)), b, params)
    value = np.float32(128 * 128 * 4096 * 128) * a.tensor_scale * b.scales[0].view(np.float32)[0]
    assert bits[0, 0] == np.float32(value).view(np.uint32)


def test_a_sum_beyond_24_bits_is_rounded_once_before_its_scales() -> None:
    a, b = operands((8, 8), 1, 2, 40, used=[0])
    a.codes[:], b.codes[:] = 0, 1
    a.codes[0, :17] = 127
    a.parts["groups"][:] = 0
    a.codes[0, 20], a.parts["groups"][20] = 1, 7
    b.codes[1] = 127
    agree(a, b, params_of((8, 8)))


@pytest.mark.parametrize("scale", [0x00000000, 0x00000001, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0xFF800000], ids=hex)
def test_any_scale_gives_the_bits_of_the_reference(scale: int) -> None:
    a, b = operands((8, 8), 3, 4, 33)
    a = a.replace_parts(tensor_scale=np.array(scale, np.uint32).view(np.float32))
    b = b.replace_parts(scales=np.array([[0x3F000000], [0x7F000000], [scale], [0]], np.uint32))
    a.codes[0] = 0
    params = params_of((8, 8))
    bits = tender.gemm(a, b, params).view(np.uint32)
    for m, n in np.ndindex(bits.shape):
        assert int(bits[m, n]) == tender.reference(tender.beats(a, b, m, n, params), params), (m, n)


@pytest.mark.parametrize("bits", WIDTHS)
def test_results_are_those_of_the_decoded_operands(bits: tuple[int, int]) -> None:
    """No group is dequantised, yet the result is the product of the decoded tensors, but for three roundings."""
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((5, 200)) * np.exp2(rng.integers(-8, 1, 200))).astype(np.float32)
    a, b = (
        encode(x, activation_format(bits[0])),
        encode(rng.standard_normal((6, 200)).astype(np.float32), weight_format(bits[1])),
    )
    unit, params = tender, tender.params_for(b.format, a.format, 16)
    assert params == params_of(bits, lanes=16)
    exact = decode(a).astype(np.float64) @ decode(b).astype(np.float64).T
    sizes = np.abs(decode(a)).astype(np.float64) @ np.abs(decode(b)).astype(np.float64).T
    assert (np.abs(unit.gemm(a, b, params) - exact) <= 2.0**-22 * sizes).all()
    assert len(set(a.parts["groups"].tolist())) >= 7


def test_beats_take_the_channels_in_the_order_of_their_groups_each_group_from_a_beat_of_its_own() -> None:
    a, b = operands((8, 8), 1, 1, 7, groups=4)
    a.codes[0], b.codes[0] = range(1, 8), range(11, 18)
    a.parts["groups"][:] = [3, 0, 1, 0, 3, 1, 1]
    beats = tender.beats(a, b, 0, 0, params_of((8, 8), 4, lanes=2))
    assert beats["a"].tolist() == [[2, 4], [3, 6], [7, 0], [0, 0], [1, 5]]
    assert beats["b"].tolist() == [[12, 14], [13, 16], [17, 0], [0, 0], [11, 15]]
    assert beats["rescale"].tolist() == [0, 1, 0, 1, 1]
    assert beats["last"].tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(("k", "groups", "lanes"), [(5, 3, 2), (6, 2, 3), (2, 3, 4), (7, 2, 1), (6, 1, 4)])
def test_cycles_by_group_sizes_and_the_most_that_any_take(k: int, groups: int, lanes: int) -> None:
    params = params_of((8, 8), groups, lanes=lanes)
    sizes = [each for each in product(range(k + 1), repeat=groups) if sum(each) == k]
    counts = [tender.beats_per_dot(each, params) for each in sizes]
    assert max(counts) == tender.most_beats(k, params)
    assert tender.cycles(2, 3, k, params) == 6 * max(counts) + params.datapath.latency
    a, b = operands((8, 8), 2, 3, k, groups)
    found = tender.operand_cycles(a, b, params)
    assert found == 6 * len(tender.beats(a, b, 0, 0, params)["last"]) + params.datapath.latency
    assert found <= tender.cycles(2, 3, k, params)


def test_widths_of_sums() -> None:
    """By the largest operands of every grouping: the width just holds them."""
    for sizes in ([5], [1, 2], [0, 3, 1]):
        params = params_of((8, 8), len(sizes), lanes=1)
        channels = np.repeat(np.arange(len(sizes)), sizes)
        worst = sum(128 * 128 * 2 ** (len(sizes) - 1 - group) for group in channels)
        needed = tender.sum_bits(sizes, params)
        assert 2 ** (needed - 2) <= worst < 2 ** (needed - 1)


def test_the_formats_and_their_unit_find_each_other() -> None:
    unit, params = pe.unit_for("int8", "tender", 16)
    assert unit.NAME == "tender" and params == tender.Params(lanes=16)
    assert pe.activation_for("int8", "tender").name == "tender_int8"
    assert tender.activation_for(weight_format(4)) == "tender_int4"
    assert pe.activation_for("int8", "int_mac").name == pe.activation_for("int8").name == "int8"
    assert pe.unit_for("int8")[0].NAME == "int_mac"
    with pytest.raises(ValueError, match="'tender' does not take format int4_g128"):
        pe.unit_for("int4_g128", "tender")


def test_actions() -> None:
    assert tender.actions(2, 3, 100, tender.Params(acc_bits=32, lanes=16)) == {
        "mul_int8_int8": 600, "add_int32": 600, "double_int32": 42, "add_float32": 6, "mul_float32": 12,
    }  # fmt: skip
    wide = tender.actions(2, 3, 100, tender.Params("int4", "int8"))
    assert wide["mul_int4_int8"] == 600 and wide["add_int32"] == 1200 and wide["double_int32"] == 84


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weight": "uint4"}, "tender: weight must be one of int4, int8, not 'uint4'"),
        ({"activation": "float16"}, "tender: activation must be one of int4, int8, not 'float16'"),
        ({"lanes": 65}, "tender: lanes must be an integer of 1 to 64, not 65"),
        ({"groups": 17}, "tender: groups must be an integer of 1 to 16, not 17"),
        ({"acc_bits": 55}, "tender: acc_bits must be an integer of 2 to 54, not 55"),
        ({"acc_bits": 27}, "tender: acc_bits = 27 is too narrow for 8 groups of 32 channels, which need 28 bits"),
        ({"stages": 5}, "tender: stages must be 0 to 4, not 5"),
    ],
    ids=str,
)
def test_bad_params_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tender.Params(**fields)


def test_an_accumulator_too_narrow_for_k_says_how_many_bits_it_takes() -> None:
    a, b = operands((8, 8), 1, 1, 1100, used=[0])
    params = tender.Params(acc_bits=32)
    for function in (tender.gemm, tender.dots, tender.paired_beats):
        with pytest.raises(ValueError, match=r"acc_bits = 32 is too narrow for K = 1100 in groups.*need 33 bits"):
            function(a, b, params)
    agree(a, b, tender.Params(acc_bits=33))
    small = a.replace_parts(groups=np.full(1100, 7, np.uint8))
    agree(small, b, params)


def test_operands_that_do_not_fit_are_refused() -> None:
    a, b = operands((8, 8), 2, 3, 20)
    params = tender.Params()
    wrong = [
        (encode(decode(a), "int8"), b, r"operand A \(int8\) is no ChannelGroupSpec"),
        (a, a, r"operand B \(tender_int8\) is no BlockSpec"),
        (operands((4, 8), 2, 3, 20)[0], b, "operand A has elements int4, the unit takes int8"),
        (a, operands((8, 4), 2, 3, 20)[1], "operand B has elements int4, the unit takes int8"),
        (operands((8, 8), 2, 3, 20, 4)[0], b, "operand A has 4 groups, the unit takes 8"),
        (a.replace_parts(groups=np.full(20, 9, np.uint8)), b, "a channel in group 9, allowed are 0 to 7"),
        (a, encode(np.ones((2, 32), np.float32), "int8_g32"), "must have one float32 scale a row"),
        (a, operands((8, 8), 2, 3, 21)[1], "K differs: A has 20, B has 21"),
    ]
    for x, y, words in wrong:
        with pytest.raises(ValueError, match=f"tender: .*{words}"):
            tender.gemm(x, y, params)
    with pytest.raises(ValueError, match="rows are taken in pairs; A has 2, B has 3"):
        tender.dots(a, b, params)
    long = operands((8, 8), 1, 1, 70_000, used=[7])
    with pytest.raises(ValueError, match="takes 70007 beats; allowed are 65536"):
        tender.gemm(*long, tender.Params(lanes=1))

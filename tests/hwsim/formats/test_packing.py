"""Packing is a bijection with element 0 in the low nibble."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hwsim.formats import pack, unpack

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6).map(lambda s: (*s[:-1], 2 * s[-1]))


@given(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 15)))
def test_unpack_undoes_pack_of_nibbles(codes: np.ndarray) -> None:
    packed = pack(codes, 4)
    assert packed.shape == (*codes.shape[:-1], codes.shape[-1] // 2)
    np.testing.assert_array_equal(unpack(packed, 4), codes)


@given(hnp.arrays(np.uint8, SHAPES))
def test_pack_undoes_unpack(packed: np.ndarray) -> None:
    for bits in (4, 8):
        np.testing.assert_array_equal(pack(unpack(packed, bits), bits), packed)


def test_the_low_nibble_comes_first() -> None:
    assert pack(np.array([[1, 15, 2, 0]], np.uint8), 4).tolist() == [[0xF1, 0x02]]
    assert unpack(np.array([0x3A], np.uint8), 4).tolist() == [0xA, 0x3]


@pytest.mark.parametrize(
    ("array", "bits", "words"),
    [
        (np.zeros(4, np.uint8), 6, "4 and 8 bits, not 6"),
        (np.zeros(4, np.int8), 4, "int8"),
        (np.array(3, np.uint8), 4, r"\(\)"),
    ],
)
def test_bad_widths_dtypes_and_ranks_are_refused_both_ways(array: np.ndarray, bits: int, words: str) -> None:
    for way in (pack, unpack):
        with pytest.raises(ValueError, match=words):
            way(array, bits)


def test_odd_lengths_and_wide_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="even last axis, not 3"):
        pack(np.zeros((2, 3), np.uint8), 4)
    with pytest.raises(ValueError, match="code 16 does not fit"):
        pack(np.array([0, 16], np.uint8), 4)

"""Packings of trits and bit planes: every byte, outside layouts, corrupt buffers, dot products of planes."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import trits

RNG = np.random.default_rng(5)


def digits_of(byte: int) -> list[int]:
    """Return five base-3 digits by long division: the first is the most significant of floor(byte * 243 / 256)."""
    n = byte * 243 // 256
    return [n // 3 ** (4 - i) % 3 for i in range(5)]


def test_five_in_eight_every_quintuple():
    every = np.array(list(product(range(3), repeat=5)), np.uint8)
    packed = trits.pack_trits(every, "five_in_eight")
    assert packed.shape == (243, 1)
    for codes, byte in zip(every, packed[:, 0], strict=True):
        number = sum(int(c) * 3 ** (4 - i) for i, c in enumerate(codes))
        assert byte == -(-256 * number // 243)
        assert digits_of(int(byte)) == codes.tolist()
    assert (trits.unpack_trits(packed, "five_in_eight", 5) == every).all()
    used = set(packed[:, 0].tolist())
    assert len(used) == 243
    for byte in sorted(set(range(256)) - used):
        with pytest.raises(ValueError, match=r"element \(0, 0\) is not the code of five trits"):
            trits.unpack_trits(np.array([[byte]], np.uint8), "five_in_eight", 5)


def test_two_bit_every_byte():
    for byte in range(256):
        fields = [byte >> 2 * j & 3 for j in range(4)]
        packed = np.array([byte], np.uint8)
        if 3 in fields:
            with pytest.raises(ValueError, match="holds the 2-bit code 3"):
                trits.unpack_trits(packed, "two_bit", 4)
        else:
            assert trits.unpack_trits(packed, "two_bit", 4).tolist() == fields
            assert trits.pack_trits(np.array(fields, np.uint8), "two_bit").tolist() == [byte]


@pytest.mark.parametrize(("packing", "stride"), [("i2_s_avx", 32), ("i2_s_neon", 16)])
def test_i2_s_orders(packing, stride):
    codes = RNG.integers(0, 3, (3, 8 * stride)).astype(np.uint8)
    packed = trits.pack_trits(codes, packing)
    assert packed.shape == (3, 2 * stride)
    for row, block, p in product(range(3), range(2), range(stride)):
        # the element at p + n * stride of a block of four strides lies at bits 7 - 2n : 6 - 2n of byte p
        expected = sum(int(codes[row, 4 * stride * block + p + n * stride]) << (6 - 2 * n) for n in range(4))
        assert packed[row, stride * block + p] == expected
    assert (trits.unpack_trits(packed, packing, 8 * stride) == codes).all()
    packed[1, 3] |= 0b1100
    with pytest.raises(ValueError, match=rf"element \(1, {3 + 2 * stride}\) holds the 2-bit code 3"):
        trits.unpack_trits(packed, packing, 8 * stride)


def test_bytes_of_gguf():
    quants = pytest.importorskip("gguf.quants")
    codes = RNG.integers(0, 3, (7, 256)).astype(np.uint8)
    codes[:, 0] = 2  # a largest magnitude of 1, so that the scale is 1
    x = codes.astype(np.float32) - 1
    theirs = quants.TQ1_0.quantize_blocks(x)
    # 160 elements with stride 32, 80 with stride 16, then four bytes of four trits with stride 4
    first = codes[:, :160].reshape(7, 5, 32).swapaxes(1, 2).reshape(7, 160)
    second = codes[:, 160:240].reshape(7, 5, 16).swapaxes(1, 2).reshape(7, 80)
    last = np.zeros((7, 4, 5), np.uint8)
    last[..., :4] = codes[:, 240:].reshape(7, 4, 4).swapaxes(1, 2)
    plain = np.concatenate([first, second, last.reshape(7, 20)], axis=1)
    assert (trits.pack_trits(plain, "five_in_eight") == theirs[:, :52]).all()
    # TQ2_0 has the strides of I2_S with the four fields of a byte in opposite order
    theirs = quants.TQ2_0.quantize_blocks(x)
    ours = trits.pack_trits(codes, "i2_s_avx")
    turned = sum((ours >> 2 * n & 3) << (6 - 2 * n) for n in range(4))
    assert (turned == theirs[:, :64]).all()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(trits.PACKINGS), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_packing_is_a_bijection(packing, k, seed):
    k = 128 * (k % 4) if packing.startswith("i2_s") else k
    codes = np.random.default_rng(seed).integers(0, 3, (2, 3, k)).astype(np.uint8)
    packed = trits.pack_trits(codes, packing)
    assert packed.shape == (2, 3, trits.packed_length(k, packing)) and packed.dtype == np.uint8
    assert (trits.unpack_trits(packed, packing, k) == codes).all()


def test_trit_errors():
    good = np.zeros(8, np.uint8)
    with pytest.raises(ValueError, match="unknown packing 'three'; known: two_bit"):
        trits.pack_trits(good, "three")
    with pytest.raises(ValueError, match="0, 1 or 2, not 3"):
        trits.pack_trits(good + np.uint8(3), "two_bit")
    with pytest.raises(ValueError, match="blocks of 128 trits, which do not divide 8"):
        trits.pack_trits(good, "i2_s_avx")
    with pytest.raises(ValueError, match="needs uint8"):
        trits.pack_trits(good.astype(np.int8), "two_bit")
    with pytest.raises(ValueError, match="9 trits take 3 bytes as 'two_bit', not 8"):
        trits.unpack_trits(good, "two_bit", 9)
    with pytest.raises(ValueError, match="filling after element 4 is not 0"):
        trits.unpack_trits(np.array([0, 4], np.uint8), "two_bit", 5)
    with pytest.raises(ValueError, match="filling after element 0 is not 0"):
        trits.unpack_trits(trits.pack_trits(np.array([1, 0, 0, 0, 2], np.uint8), "five_in_eight"), "five_in_eight", 1)


@pytest.mark.parametrize("bits", range(1, 9))
def test_planes(bits):
    codes = RNG.integers(0, 1 << bits, (2, 3, 96)).astype(np.uint8)
    planes = trits.to_planes(codes, bits)
    assert planes.shape == (bits, 2, 3, 3) and planes.dtype == np.uint32
    for bit, i, j, word in product(range(bits), range(2), range(3), range(3)):
        run = codes[i, j, 32 * word : 32 * word + 32]
        assert planes[bit, i, j, word] == int("".join(str(int(c) >> bit & 1) for c in run), 2)
    assert (trits.from_planes(planes) == codes).all()


def test_plane_errors():
    codes = np.zeros((2, 32), np.uint8)
    for call, words in [
        (lambda: trits.to_planes(codes, 9), "1 to 8 planes, not 9"),
        (lambda: trits.to_planes(codes[:, :31], 2), "do not divide 31"),
        (lambda: trits.to_planes(codes + np.uint8(4), 2), "code 4 does not fit 2 planes"),
        (lambda: trits.to_planes(codes.astype(np.uint16), 2), "needs uint8"),
        (lambda: trits.from_planes(codes), "needs uint32"),
        (lambda: trits.from_planes(np.zeros(3, np.uint32)), "1 to 8 planes"),
        (
            lambda: trits.dot_unsigned(np.zeros((1, 2, 3), np.uint32), np.zeros((1, 2, 4), np.uint32)),
            "dot product takes",
        ),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize(("bits", "others"), [(1, 1), (2, 8), (3, 2), (4, 4)])
def test_dot_products(bits, others):
    k = 160
    a = RNG.integers(0, 1 << bits, (5, k)).astype(np.uint8)
    b = RNG.integers(0, 1 << others, (4, k)).astype(np.uint8)
    planes = trits.to_planes(a, bits), trits.to_planes(b, others)
    wide, other = a.astype(np.int64), b.astype(np.int64)
    dot = trits.dot_unsigned(*planes)
    assert (dot == wide @ other.T).all()
    # with zero points, as the docstring has it
    shifted = dot - 3 * other.sum(1) - 2 * wide.sum(1)[:, None] + k * 3 * 2
    assert (shifted == (wide - 3) @ (other - 2).T).all()
    worth = [2 * c - (1 << n) + 1 for c, n in ((wide, bits), (other, others))]
    assert (trits.dot_bipolar(*planes) == worth[0] @ worth[1].T).all()

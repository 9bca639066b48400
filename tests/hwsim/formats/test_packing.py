"""Packing of every width: what lies in which bit, that unpacking undoes it, and that damaged bytes are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.formats import pack, packing, unpack
from hwsim.formats.format import container

WIDTHS = [*range(1, 18), 24, 31, 32, 33, 39, 40, 48, 57, 63, 64]
STREAMS = {"low_first": "little", "high_first": "big"}


def random_codes(bits: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return codes that use the whole width, the first ones the extremes."""
    codes = np.random.default_rng([seed, bits]).integers(0, 1 << bits, shape, np.uint64)
    codes.reshape(-1)[:2] = (1 << bits) - 1, 0
    return codes.astype(container(bits))


def stream(codes: np.ndarray, bits: int, order: str) -> list[int]:
    """Pack one row as a text of bits, byte by byte."""
    texts = [format(int(code), f"0{bits}b") for code in codes]
    low = order == "low_first"
    text = "".join(text[::-1] if low else text for text in texts)
    text += "0" * (-len(text) % 8)
    parts = [text[i : i + 8] for i in range(0, len(text), 8)]
    return [int(part[::-1] if low else part, 2) for part in parts]


@pytest.mark.parametrize("order", STREAMS)
@pytest.mark.parametrize("bits", WIDTHS)
def test_every_bit_lies_where_the_order_says_in_every_width(bits: int, order: packing.Order) -> None:
    for k in (1, 2, 3, 5, 7, 8, 9, 16, 23, 41):
        codes = random_codes(bits, (3, k), k)
        packed = pack(codes, bits, order)
        assert packed.dtype == np.uint8
        assert packed.tolist() == [stream(row, bits, order) for row in codes]
        unpacked = unpack(packed, bits, order, k)
        assert unpacked.dtype == container(bits)
        np.testing.assert_array_equal(unpacked, codes)


@pytest.mark.parametrize("order", STREAMS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 9, 12, 33])
def test_long_rows_in_several_pieces_are_those_of_numpy(bits: int, order: packing.Order) -> None:
    for shape in ((1, 40_003), (2, 16_384), (3, 16_391)):
        codes = random_codes(bits, shape)
        low = STREAMS[order] == "little"
        shifts = np.arange(bits, dtype=np.uint64)[:: 1 if low else -1]
        planes = (codes.astype(np.uint64)[..., None] >> shifts & np.uint64(1)).astype(np.uint8)
        expected = np.packbits(planes.reshape(shape[0], -1), axis=-1, bitorder="little" if low else "big")
        packed = pack(codes, bits, order)
        np.testing.assert_array_equal(packed, expected)
        np.testing.assert_array_equal(unpack(packed, bits, order, shape[1]), codes)


@pytest.mark.parametrize("order", STREAMS)
def test_wider_containers_pack_alike(order: packing.Order) -> None:
    for bits in (1, 3, 4, 7, 8, 12, 16, 20, 32):
        narrow = random_codes(bits, (2, 21))
        for dtype in (np.uint16, np.uint32, np.uint64, ">u4"):
            if np.dtype(dtype).itemsize >= narrow.dtype.itemsize:
                np.testing.assert_array_equal(pack(narrow.astype(dtype), bits, order), pack(narrow, bits, order))


@given(st.data())
@settings(max_examples=25)
def test_unpack_undoes_pack(data: st.DataObject) -> None:
    bits = data.draw(st.sampled_from([2, 3, 4, 6, 8, 13, 64]))
    shape = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple))
    order = data.draw(st.sampled_from(list(STREAMS)))
    codes = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 1 << bits, shape, np.uint64)
    codes = codes.astype(container(bits))
    packed = pack(codes, bits, order)
    assert packed.shape == (*shape[:-1], -(-shape[-1] * bits // 8))
    np.testing.assert_array_equal(unpack(packed, bits, order, shape[-1]), codes)
    np.testing.assert_array_equal(pack(codes.T.copy().T, bits, order), packed)
    if 0 not in shape:  # a view that is not contiguous
        np.testing.assert_array_equal(unpack(packed[..., ::-1][..., ::-1], bits, order, shape[-1]), codes)


def test_the_low_nibble_comes_first_unless_asked_otherwise() -> None:
    codes = np.array([[1, 15, 2, 0]], np.uint8)
    assert pack(codes, 4).tolist() == [[0xF1, 0x02]]
    assert unpack(np.array([0x3A], np.uint8), 4).tolist() == [0xA, 0x3]
    # bitsandbytes csrc/cpu_ops.h: the first element in the high nibble
    assert pack(codes, 4, "high_first").tolist() == [[0x1F, 0x20]]
    # QTIP: a stream from the highest bit of 16-bit words
    assert pack(np.array([1, 2, 3, 4], np.uint8), 4, "high_first").view(">u2").tolist() == [0x1234]
    assert pack(np.array([0b101, 0b001, 0b111, 0b010, 0b110], np.uint8), 3, "high_first").view(">u2").tolist() == [
        0b1010_0111_1010_1100
    ]


def test_whole_containers_are_not_copied() -> None:
    for bits in (8, 16, 32, 64):
        codes = random_codes(bits, (2, 3))
        packed = pack(codes, bits)
        assert np.shares_memory(packed, codes)
        assert packed.tobytes() == codes.astype(codes.dtype.newbyteorder("<")).tobytes()
        unpacked = unpack(packed, bits)
        assert np.shares_memory(unpacked, codes)
        assert unpacked.dtype == codes.dtype
        high = pack(codes, bits, "high_first")
        assert high.tobytes() == codes.astype(codes.dtype.newbyteorder(">")).tobytes()
        np.testing.assert_array_equal(unpack(high, bits, "high_first"), codes)
    eight = random_codes(8, (2, 6))[:, ::2]
    assert pack(eight, 8) is eight
    assert unpack(eight, 8) is eight
    unaligned = np.arange(9, dtype=np.uint8)[1:]
    assert unpack(unaligned, 32).flags.aligned
    assert unpack(unaligned, 32).tolist() == [0x04030201, 0x08070605]


def test_without_a_count_the_bytes_tell_it() -> None:
    for bits in WIDTHS:
        codes = random_codes(bits, (2, 8))  # eight codes fill whole bytes
        np.testing.assert_array_equal(unpack(pack(codes, bits), bits), codes)
    five = np.array([5, 1, 7], np.uint8)  # 9 bits in 2 bytes, which hold five codes
    assert unpack(pack(five, 3), 3).tolist() == [5, 1, 7, 0, 0]
    assert unpack(pack(five, 3), 3, count=4).tolist() == [5, 1, 7, 0]


@pytest.mark.parametrize("block", [2, 4, 32, 256])
def test_halves_put_the_second_half_of_a_block_in_the_high_nibbles(block: int) -> None:
    codes = random_codes(4, (3, 2 * block))
    packed = pack(codes, 4, "halves", block=block)
    for row in range(3):
        for start in (0, block):
            for j in range(block // 2):
                want = int(codes[row, start + j]) | int(codes[row, start + block // 2 + j]) << 4
                assert packed[row, start // 2 + j] == want
    np.testing.assert_array_equal(unpack(packed, 4, "halves", block=block), codes)
    np.testing.assert_array_equal(unpack(packed, 4, "halves", 2 * block, block=block), codes)


@pytest.mark.parametrize(("kind", "scale_bytes"), [("Q4_0", 2), ("MXFP4", 1)])
def test_halves_are_the_blocks_of_gguf(kind: str, scale_bytes: int) -> None:
    gguf = pytest.importorskip("gguf")
    codes = random_codes(4, (5, 64))
    packed = pack(codes, 4, "halves", block=32).reshape(5, 2, 16)
    one = np.array(1, np.float16).tobytes() if kind == "Q4_0" else bytes([128])  # MXFP4: table of doubles, 2^(e-128)
    scales = np.broadcast_to(np.frombuffer(one, np.uint8), (5, 2, scale_bytes))
    raw = np.concatenate([scales, packed], axis=-1).reshape(5, -1)
    values = gguf.quants.dequantize(raw, getattr(gguf.GGMLQuantizationType, kind))
    levels = np.arange(16) - 8 if kind == "Q4_0" else np.array([0, 1, 2, 3, 4, 6, 8, 12] * 2) * np.repeat([1, -1], 8)
    np.testing.assert_array_equal(values, levels[codes])


def test_empty_arrays_pack_to_nothing() -> None:
    for bits in (1, 4, 8, 12, 16, 64):
        for shape in ((0,), (3, 0), (0, 5), (0, 0)):
            codes = np.zeros(shape, container(bits))
            packed = pack(codes, bits)
            assert packed.shape == (*shape[:-1], -(-shape[-1] * bits // 8))
            assert unpack(packed, bits, count=shape[-1]).shape == shape
    assert unpack(pack(np.zeros((0, 32), np.uint8), 4, "halves", block=32), 4, "halves", block=32).shape == (0, 32)


@pytest.mark.parametrize("way", [pack, unpack])
@pytest.mark.parametrize(
    ("array", "bits", "options", "words"),
    [
        (np.zeros(4, np.uint8), 0, {}, "1 to 64 bits, not 0"),
        (np.zeros(4, np.uint8), 65, {}, "1 to 64 bits, not 65"),
        (np.zeros(4, np.int8), 4, {}, "int8"),
        (np.zeros(4, np.float32), 4, {}, "float32"),
        (np.array(3, np.uint8), 4, {}, r"\(\)"),
        (np.zeros(4, np.uint8), 4, {"order": "middle"}, "unknown order 'middle'; known: low_first, high_first, halves"),
        (np.zeros(4, np.uint8), 4, {"block": 4}, "'low_first' has no blocks, but block=4"),
        (np.zeros(4, np.uint8), 4, {"order": "halves"}, "even block, not 4 bits and block=None"),
        (np.zeros(4, np.uint8), 4, {"order": "halves", "block": 3}, "even block, not 4 bits and block=3"),
        (np.zeros(4, np.uint8), 2, {"order": "halves", "block": 4}, "not 2 bits and block=4"),
    ],
)
def test_bad_widths_dtypes_ranks_and_orders_are_refused_both_ways(way, array, bits, options, words) -> None:
    with pytest.raises(ValueError, match=words):
        way(array, bits, **options)


@pytest.mark.parametrize("order", STREAMS)
def test_a_code_too_large_is_refused_wherever_it_stands(order: packing.Order) -> None:
    for bits in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 31, 33, 63):
        for dtype in (np.uint8, np.uint16, np.uint32, np.uint64):
            if 8 * np.dtype(dtype).itemsize <= bits:
                continue
            for k, place in ((1, 0), (9, 8), (11, 3), (16_401, 16_390)):
                codes = np.zeros((2, k), dtype)
                codes[1, place] = (1 << bits) - 1
                pack(codes, bits, order)
                codes[1, place] = 1 << bits
                with pytest.raises(ValueError, match=rf"code {1 << bits} does not fit {bits} bits"):
                    pack(codes, bits, order)
    for place in range(8):
        with pytest.raises(ValueError, match="code 16 does not fit 4 bits"):
            pack(np.uint8(16) * (np.arange(8, dtype=np.uint8) == place), 4, "halves", block=4)
    with pytest.raises(ValueError, match="uint8, not uint16"):
        pack(np.zeros(4, np.uint16), 4, "halves", block=4)
    with pytest.raises(ValueError, match="blocks of 4 do not divide a last axis of 6"):
        pack(np.zeros(6, np.uint8), 4, "halves", block=4)


@pytest.mark.parametrize("order", STREAMS)
def test_a_filling_bit_that_is_set_is_a_corrupt_buffer(order: packing.Order) -> None:
    for bits, count in ((3, 3), (4, 3), (1, 1), (6, 5), (12, 3), (33, 1)):
        packed = pack(random_codes(bits, (2, count)), bits, order)
        used = count * bits % 8
        for bit in range(8):
            damaged = packed.copy()
            damaged[1, -1] ^= 1 << bit if order == "low_first" else 0x80 >> bit
            if bit < used:
                unpack(damaged, bits, order, count)
            else:
                with pytest.raises(ValueError, match=f"corrupt buffer: .* {count} codes of {bits} bits is not zero"):
                    unpack(damaged, bits, order, count)


@pytest.mark.parametrize(
    ("length", "bits", "count"),
    [(1, 12, None), (9, 64, None), (3, 16, None), (2, 4, 5), (2, 4, 2), (3, 3, 5), (0, 4, 1), (4, 4, -1), (2, 8, 1)],
)
def test_a_length_that_is_not_that_of_the_codes_is_refused(length: int, bits: int, count: int | None) -> None:
    with pytest.raises(ValueError, match=f"{length} bytes a row are not those of .* codes of {bits} bits"):
        unpack(np.zeros((2, length), np.uint8), bits, count=count)
    with pytest.raises(ValueError, match="3 bytes a row are not those of 6 codes of 4 bits in blocks of 4"):
        unpack(np.zeros(3, np.uint8), 4, "halves", block=4)


def test_docstring_examples_run() -> None:
    import doctest

    assert doctest.testmod(packing).failed == 0

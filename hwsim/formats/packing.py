"""Pack codes into bytes as they lie in memory, and unpack them."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hwsim.formats.format import container

Order = Literal["low_first", "high_first", "halves"]
"""How codes lie in bytes.

``low_first``: one bit stream a row, filled from the lowest bit of each byte up, the lowest bit of a code first
(torchao, NVIDIA; NumPy's ``bitorder="little"``). ``high_first``: a bit stream filled from the highest bit down, the
highest bit of a code first (bitsandbytes: element 0 in the high nibble; QTIP, whose words are these bytes read as
big-endian uint16; NumPy's ``bitorder="big"``). ``halves``: 4-bit codes in blocks, element j in the low nibble and
element j + block / 2 in the high one (GGUF).
"""


def pack(codes: NDArray[Any], bits: int, order: Order = "low_first", *, block: int | None = None) -> NDArray[np.uint8]:
    """Pack codes of 1 to 64 bits along the last axis, without gaps between them.

    Parameters
    ----------
    codes : uint8, uint16, uint32 or uint64 [..., K]
        One code an entry. An array that is not contiguous is copied first.
    bits : int
        Width of a code.
    order : {"low_first", "high_first", "halves"}
        See `Order`.
    block : int, optional
        Elements of a block, for ``halves`` alone (GGUF: 32): even, and a divisor of K.

    Returns
    -------
    uint8 [..., ceil(K * bits / 8)]
        The bits of the last byte that no code fills are zero. Without copy where the codes already are these bytes:
        for 8 bits in uint8 the array itself, for 16, 32 and 64 bits in their own container, ``low_first``, a view.

    Raises
    ------
    ValueError
        On an unknown order, a width it does not know, a dtype that is not unsigned, an array without axes, a block that
        does not fit, or a code that needs more than `bits` bits.

    Exactness
    ---------
    `unpack` gives back every code.

    Examples
    --------
    >>> pack(np.array([1, 15, 2, 0], np.uint8), 4).tolist()
    [241, 2]
    >>> pack(np.array([1, 15, 2, 0], np.uint8), 4, "high_first").tolist()
    [31, 32]
    >>> pack(np.array([1, 15, 2, 0], np.uint8), 4, "halves", block=4).tolist()
    [33, 15]
    >>> pack(np.array([5, 1, 7], np.uint8), 3).tolist()  # 0b1_11_001_101
    [205, 1]
    """
    _check(codes, bits, order, block)
    if codes.dtype.kind != "u":
        raise ValueError(f"packing needs codes in uint8, uint16, uint32 or uint64, not {codes.dtype}")
    if bits == 8 and codes.dtype == np.uint8:
        return codes
    codes = np.ascontiguousarray(codes)
    if bits == 8 * codes.dtype.itemsize:  # no code can be too large
        return codes.astype(codes.dtype.newbyteorder("<" if order == "low_first" else ">"), copy=False).view(np.uint8)
    k, lead = codes.shape[-1], codes.shape[:-1]
    if block is not None and k % block:
        raise ValueError(f"blocks of {block} do not divide a last axis of {k}")
    packed = np.empty((*lead, _bytes(k, bits)), np.uint8)
    if not packed.size:
        return packed
    if block is not None:
        seen = _pack_halves(codes.reshape(-1, block), packed.reshape(-1, block // 2))
    else:
        rows = 1 if k * bits % 8 == 0 else math.prod(lead)  # rows that end on a byte are one long row
        seen = _pack_rows(codes.reshape(rows, -1), bits, order, packed.reshape(rows, -1))
    if seen >> bits:
        raise ValueError(f"code {int(codes.max())} does not fit {bits} bits")
    return packed


def unpack(
    packed: NDArray[np.uint8],
    bits: int,
    order: Order = "low_first",
    count: int | None = None,
    *,
    block: int | None = None,
) -> NDArray[Any]:
    """Undo `pack`.

    Parameters
    ----------
    packed : uint8 [..., ceil(count * bits / 8)]
        An array that is not contiguous is copied first.
    bits, order, block
        As `pack` was given.
    count : int, optional
        Codes of a row. None takes as many as the bytes hold; below 8 bits that may be more than were packed, for the
        filling bits of the last byte may make room for zero codes.

    Returns
    -------
    [..., count]
        In the smallest unsigned dtype that holds a code. Without copy where `pack` makes none.

    Raises
    ------
    ValueError
        As `pack`; when the bytes are not those of `count` codes; or when a bit that no code fills is not zero.

    Examples
    --------
    >>> unpack(np.array([205, 1], np.uint8), 3).tolist(), unpack(np.array([205, 1], np.uint8), 3, count=3).tolist()
    ([5, 1, 7, 0, 0], [5, 1, 7])
    """
    _check(packed, bits, order, block)
    if packed.dtype != np.uint8:
        raise ValueError(f"unpacking needs uint8 [..., n], not {packed.dtype} {packed.shape}")
    length, lead, dtype = packed.shape[-1], packed.shape[:-1], container(bits)
    if count is None:
        count = 8 * length // bits
    if count < 0 or length != _bytes(count, bits) or (block is not None and count % block):
        blocks = "" if block is None else f" in blocks of {block}"
        raise ValueError(f"{length} bytes a row are not those of {count} codes of {bits} bits{blocks}")
    if bits == 8:
        return packed
    packed = np.ascontiguousarray(packed)
    if bits == 8 * dtype.itemsize:
        stored = packed.view(dtype.newbyteorder("<" if order == "low_first" else ">"))
        return stored.astype(dtype, copy=not stored.flags.aligned)
    if (used := count * bits % 8) and packed.size:
        filling = packed[..., -1] & (0xFF << used & 0xFF if order == "low_first" else 0xFF >> used)
        if filling.any():
            raise ValueError(f"corrupt buffer: a bit after the last of {count} codes of {bits} bits is not zero")
    codes = np.empty((*lead, count), dtype)
    if not codes.size:
        return codes
    if block is not None:
        _unpack_halves(packed.reshape(-1, block // 2), codes.reshape(-1, block))
    else:
        rows = 1 if used == 0 else math.prod(lead)
        _unpack_rows(packed.reshape(rows, -1), bits, order, codes.reshape(rows, -1))
    return codes


def _bytes(count: int, bits: int) -> int:
    return -(-count * bits // 8)


def _check(array: NDArray[Any], bits: int, order: str, block: int | None) -> None:
    if order not in get_args(Order):
        raise ValueError(f"unknown order {order!r}; known: {', '.join(get_args(Order))}")
    if not 1 <= bits <= 64:
        raise ValueError(f"packing knows codes of 1 to 64 bits, not {bits}")
    if array.ndim < 1:
        raise ValueError(f"packing needs an array [..., n], not {array.dtype} {array.shape}")
    if order != "halves":
        if block is not None:
            raise ValueError(f"order {order!r} has no blocks, but block={block} was given")
    elif bits != 4 or block is None or block < 2 or block % 2:
        raise ValueError(f"order 'halves' is for 4 bits and an even block, not {bits} bits and block={block}")


def _pack_rows(codes: NDArray[Any], bits: int, order: str, packed: NDArray[np.uint8]) -> int:
    """Pack [rows, k] and return the OR of all codes."""
    from hwsim.formats import _packing_kernels as kernels

    seen = np.empty(len(codes) * -(-codes.shape[1] // kernels.CHUNK), np.uint64)
    if codes.dtype == np.uint8 and bits < 8:
        kernels.byte_packer(bits, order == "high_first")(codes, packed, seen)
        return int(np.bitwise_or.reduce(np.bitwise_or.reduce(seen).reshape(1).view(np.uint8)))
    native = codes.astype(codes.dtype.newbyteorder("="), copy=False)
    kernels.pack_stream(native, bits, order == "high_first", packed, seen)
    return int(np.bitwise_or.reduce(seen))


def _unpack_rows(packed: NDArray[np.uint8], bits: int, order: str, codes: NDArray[Any]) -> None:
    from hwsim.formats import _packing_kernels as kernels

    if bits < 8:
        kernels.byte_unpacker(bits, order == "high_first")(packed, codes)
    else:
        kernels.unpack_stream(packed, bits, order == "high_first", codes)


def _pack_halves(codes: NDArray[Any], packed: NDArray[np.uint8]) -> int:
    """Pack [blocks, block] and return the OR of all codes."""
    from hwsim.formats import _packing_kernels as kernels

    if codes.dtype != np.uint8:
        raise ValueError(f"order 'halves' packs codes in uint8, not {codes.dtype}")
    seen = np.empty(len(codes), np.uint64)
    kernels.pack_halves(codes, packed, seen)
    return int(np.bitwise_or.reduce(seen))


def _unpack_halves(packed: NDArray[np.uint8], codes: NDArray[Any]) -> None:
    from hwsim.formats import _packing_kernels as kernels

    kernels.unpack_halves(packed, codes)

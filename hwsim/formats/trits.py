"""Trits and bit planes as they lie in memory: packings of ternary codes, plane-major words, dot products of planes."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

TritPacking = Literal["two_bit", "i2_s_avx", "i2_s_neon", "five_in_eight"]
"""Orders in which trits lie in bytes; the code of a trit t is t + 1.

- ``two_bit``: four a byte, element 4i + j in bits 2j + 1 .. 2j of byte i;
- ``i2_s_avx``: blocks of 128 in 32 bytes; byte p holds elements p, p + 32, p + 64, p + 96, the first in bits 7:6
  (microsoft/BitNet:src/ggml-bitnet-mad.cpp, `quantize_i2_s`, x86 with ACT_PARALLEL);
- ``i2_s_neon``: the same with blocks of 64 in 16 bytes, stride 16 (ibid., ARM NEON);
- ``five_in_eight``: five a byte, 1.6 bits each; element 5i is the most significant digit of N in base 3, and the byte
  is ceil(256 N / 243), so that digit n is (((byte * 3**n) mod 256) * 3) >> 8 without any division (the digits of
  ggml's TQ1_0, ggml:src/ggml-quants.c, here in plain order).

Where the last byte of ``two_bit`` or ``five_in_eight`` is not full, the codes that fail are 0.
"""

PACKINGS: tuple[str, ...] = get_args(TritPacking)

_STRIDES = {"i2_s_avx": 32, "i2_s_neon": 16}
_FIVE_BYTES = np.array([(256 * n + 242) // 243 for n in range(243)], np.uint8)
_INVALID = 255
_FIVE_CODES = np.full((256, 5), _INVALID, np.uint8)
for _byte in _FIVE_BYTES:
    _FIVE_CODES[_byte] = [((int(_byte) * 3**n % 256) * 3) >> 8 for n in range(5)]


def block_of(packing: str) -> int:
    """Return the trits that a packing takes together; an axis must be a multiple (1: any axis will do)."""
    _known(packing)
    return 4 * _STRIDES[packing] if packing in _STRIDES else 1


def packed_length(k: int, packing: str) -> int:
    """Return the bytes that `k` trits take.

    Raises
    ------
    ValueError
        On an unknown packing, or a `k` that its blocks do not divide.
    """
    if k % (block := block_of(packing)):
        raise ValueError(f"packing {packing!r} takes blocks of {block} trits, which do not divide {k}")
    return -(-k // (5 if packing == "five_in_eight" else 4))


def pack_trits(codes: NDArray[np.uint8], packing: TritPacking) -> NDArray[np.uint8]:
    """Pack the codes of trits (trit + 1) along the last axis.

    Parameters
    ----------
    codes : uint8 [..., K]
        0, 1, 2 for -1, 0, +1.
    packing : str
        One of `PACKINGS`, see `TritPacking`.

    Returns
    -------
    uint8 [..., packed_length(K)]

    Raises
    ------
    ValueError
        On an unknown packing, another dtype, a code above 2, or a K that the packing's blocks do not divide.

    Examples
    --------
    >>> pack_trits(np.array([2, 1, 0, 2, 1], np.uint8), "two_bit").tolist()
    [134, 1]
    >>> pack_trits(np.array([2, 1, 0, 2, 1], np.uint8), "five_in_eight").tolist()
    [207]
    """
    _check(codes, "packing trits", np.uint8)
    k = codes.shape[-1]
    length = packed_length(k, packing)
    if codes.size and (top := int(codes.max())) > 2:
        raise ValueError(f"the code of a trit is 0, 1 or 2, not {top}")
    leading = codes.shape[:-1]
    if packing in _STRIDES:
        parts = codes.reshape(*leading, -1, 4, _STRIDES[packing])
        packed = parts[..., 0, :] << np.uint8(6)
        for n in (1, 2, 3):
            packed |= parts[..., n, :] << np.uint8(6 - 2 * n)
        return packed.reshape(*leading, length)
    each = 5 if packing == "five_in_eight" else 4
    packed = np.zeros((*leading, length), np.uint8)
    for n in range(each):
        digits = codes[..., n::each]
        if each == 4:
            packed[..., : digits.shape[-1]] |= digits << np.uint8(2 * n)
        else:
            packed *= np.uint8(3)
            packed[..., : digits.shape[-1]] += digits
    return packed if each == 4 else _FIVE_BYTES[packed]


def unpack_trits(packed: NDArray[np.uint8], packing: TritPacking, k: int) -> NDArray[np.uint8]:
    """Undo `pack_trits`: uint8 [..., packed_length(k)] -> codes uint8 [..., k].

    Raises
    ------
    ValueError
        On an unknown packing, another dtype, a length that is not that of `k` trits, or a corrupt buffer: a 2-bit code
        3, a byte that no five trits give, filling that is not 0. The message names the first place.
    """
    _check(packed, "unpacking trits", np.uint8)
    if k < 0 or packed.shape[-1] != packed_length(k, packing):
        raise ValueError(
            f"{k} trits take {packed_length(max(k, 0), packing)} bytes as {packing!r}, not {packed.shape[-1]}"
        )
    leading = packed.shape[:-1]
    if packing == "five_in_eight":
        codes = _FIVE_CODES[packed].reshape(*leading, -1)
        words = "is not the code of five trits"
    elif packing in _STRIDES:
        bits = packed.reshape(*leading, -1, 1, _STRIDES[packing])
        codes = (bits >> np.array([[6], [4], [2], [0]], np.uint8)) & np.uint8(3)
        codes = codes.reshape(*leading, k)
        words = "holds the 2-bit code 3"
    else:
        codes = ((packed[..., None] >> np.array([0, 2, 4, 6], np.uint8)) & np.uint8(3)).reshape(*leading, -1)
        words = "holds the 2-bit code 3"
    if codes.size and codes.max() > 2:
        index = tuple(int(i) for i in np.argwhere(codes > 2)[0])
        raise ValueError(f"corrupt trits: the byte of element {index} {words}")
    if codes[..., k:].any():
        raise ValueError(f"corrupt trits: filling after element {k - 1} is not 0")
    return codes[..., :k]


def to_planes(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint32]:
    """Split codes into bit planes, 32 elements of the last axis a word.

    Parameters
    ----------
    codes : uint8 [..., K]
        Below ``2**bits``; K divided by 32.
    bits : int
        1 to 8.

    Returns
    -------
    uint32 [bits, ..., K // 32]
        Plane 0 holds the least significant bits; element 0 of a word is its most significant bit
        (bytedance/ABQ-LLM:engine/common/pack.cu).

    Raises
    ------
    ValueError
        On another dtype or width, a K that 32 does not divide, or a code that does not fit.

    Examples
    --------
    >>> codes = np.zeros(32, np.uint8)
    >>> codes[:2] = 3, 1
    >>> [hex(word) for word in to_planes(codes, 2)[:, 0]]
    ['0xc0000000', '0x80000000']
    """
    from hwsim.formats.families import _planes_kernels as kernels

    _check(codes, "splitting into planes", np.uint8)
    if not 1 <= bits <= 8:
        raise ValueError(f"codes have 1 to 8 planes, not {bits}")
    if codes.shape[-1] % 32:
        raise ValueError(f"a plane has 32 elements a word, which do not divide {codes.shape[-1]}")
    if codes.size and (top := int(codes.max())) >> bits:
        raise ValueError(f"code {top} does not fit {bits} planes")
    flat = np.ascontiguousarray(codes).reshape(-1, codes.shape[-1])
    planes = np.empty((bits, flat.shape[0], flat.shape[1] // 32), np.uint32)
    kernels.to_planes(flat, planes)
    return planes.reshape(bits, *codes.shape[:-1], codes.shape[-1] // 32)


def from_planes(planes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Undo `to_planes`: uint32 [bits, ..., K // 32] -> uint8 [..., K].

    Raises
    ------
    ValueError
        On another dtype, fewer than two axes, or more than 8 planes.
    """
    from hwsim.formats.families import _planes_kernels as kernels

    _check_planes(planes)
    shape = (*planes.shape[1:-1], planes.shape[-1] * 32)
    flat = np.ascontiguousarray(planes).reshape(planes.shape[0], -1, planes.shape[-1])
    codes = np.empty((flat.shape[1], shape[-1]), np.uint8)
    kernels.from_planes(flat, codes)
    return codes.reshape(shape)


def dot_unsigned(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Multiply two matrices of unsigned codes by their planes: the sum of ``2**(i + j) * popcount(a_i & b_j)``.

    Zero points are the caller's: ``sum (a - za)(b - zb) = dot - za * sum(b) - zb * sum(a) + K * za * zb``.

    Parameters
    ----------
    a, b : uint32 [bits, M, K // 32], uint32 [bits, N, K // 32]
        From `to_planes`; the numbers of planes may differ.

    Returns
    -------
    int64 [M, N], exact.

    Raises
    ------
    ValueError
        On planes of other shapes or dtypes.

    Source
    ------
    ABQ-LLM (arXiv 2408.08554), section 3.4; bytedance/ABQ-LLM:engine.
    """
    return _dot(a, b, False)


def dot_bipolar(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Multiply two matrices of bipolar codes, worth ``sum of 2**i * (2 * bit_i - 1)``, by their planes.

    A product of two planes is ``K - 2 * popcount(a_i ^ b_j)``; with one plane each this is the dot product of +-1.

    Parameters, returns and errors as in `dot_unsigned`.

    Source
    ------
    APT-LLM (arXiv 2409.17870), section 3.
    """
    return _dot(a, b, True)


def _dot(a: NDArray[np.uint32], b: NDArray[np.uint32], bipolar: bool) -> NDArray[np.int64]:
    for planes in (a, b):
        _check_planes(planes)
    if a.ndim != 3 or b.ndim != 3 or a.shape[-1] != b.shape[-1]:
        raise ValueError(f"a dot product takes planes [bits, M, words] and [bits, N, words], not {a.shape}, {b.shape}")
    out = np.zeros((a.shape[1], b.shape[1]), np.int64)
    k = 32 * a.shape[-1]
    for i, plane in enumerate(a):
        for j, other in enumerate(b):
            for row, words in enumerate(plane):
                if bipolar:
                    ones = k - 2 * np.bitwise_count(words ^ other).sum(axis=-1, dtype=np.int64)
                else:
                    ones = np.bitwise_count(words & other).sum(axis=-1, dtype=np.int64)
                out[row] += ones << (i + j)
    return out


def _known(packing: str) -> None:
    if packing not in PACKINGS:
        raise ValueError(f"unknown packing {packing!r}; known: {', '.join(PACKINGS)}")


def _check(array: NDArray[Any], what: str, dtype: type) -> None:
    if array.dtype != dtype or array.ndim < 1:
        raise ValueError(f"{what} needs {np.dtype(dtype)} [..., n], not {array.dtype} {array.shape}")


def _check_planes(planes: NDArray[Any]) -> None:
    _check(planes, "bit planes", np.uint32)
    if planes.ndim < 2 or not 1 <= planes.shape[0] <= 8:
        raise ValueError(f"bit planes are [1 to 8 planes, ..., words], not {planes.shape}")

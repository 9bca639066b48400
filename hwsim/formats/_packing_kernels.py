# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Kernels of `packing`: bit streams of codes, eight codes a machine word where a code is at most seven bits of a byte.

A row is cut into pieces of `CHUNK` codes, which start on whole bytes; each piece is written by one thread.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

_u64 = np.uint64
CHUNK = 1 << 14
"""Codes of a piece, a multiple of 8."""


def _mask(lane: int, start: int, width: int) -> np.uint64:
    """Return the word whose lanes of so many bits each hold `width` ones from bit `start` on."""
    return _u64(sum(1 << i for i in range(64) if start <= i % lane < start + width))


@cache
def byte_packer(bits: int, high_first: bool):
    """Return the kernel that packs uint8 codes of `bits` bits, 1 to 7.

    The width is a constant of the kernel, so that its loops unroll into vector instructions.
    """
    # codes close up in pairs, the pairs in fours, the fours: of two neighbours one stays, the other moves down
    one, two, four = _u64(8 - bits), _u64(16 - 2 * bits), _u64(32 - 4 * bits)
    stay1, stay2, stay4 = _mask(16, 0, bits), _mask(32, 0, 2 * bits), _mask(64, 0, 4 * bits)
    move1, move2, move4 = _mask(16, bits, bits), _mask(32, 2 * bits, 2 * bits), _mask(64, 4 * bits, 4 * bits)

    @njit(cache=True, parallel=True)
    def pack(codes: NDArray[np.uint8], packed: NDArray[np.uint8], seen: NDArray[np.uint64]) -> None:
        """Pack [rows, k]; `seen`, one a piece, gets the OR of its words of eight codes."""
        chunks = -(-codes.shape[1] // CHUNK)
        for piece in prange(seen.size):
            row, start = piece // chunks, piece % chunks * CHUNK
            c, p, every = codes[row, start : start + CHUNK], packed[row, start // 8 * bits :], _u64(0)
            groups, rest = c.size // 8, c.size % 8
            for group in range(groups):
                word = _u64(0)
                for i in range(8):
                    word |= _u64(c[8 * group + i]) << _u64(8 * (7 - i) if high_first else 8 * i)
                every |= word
                word = word & stay1 | word >> one & move1
                word = word & stay2 | word >> two & move2
                word = word & stay4 | word >> four & move4
                for i in range(bits):
                    p[group * bits + i] = word >> _u64(8 * (bits - 1 - i) if high_first else 8 * i) & _u64(255)
            if rest:
                word = _u64(0)
                for i in range(rest):
                    word |= _u64(c[8 * groups + i]) << _u64(8 * (7 - i) if high_first else 8 * i)
                every |= word
                word = word & stay1 | word >> one & move1
                word = word & stay2 | word >> two & move2
                word = word & stay4 | word >> four & move4
                for i in range((rest * bits + 7) // 8):
                    p[groups * bits + i] = word >> _u64(8 * (bits - 1 - i) if high_first else 8 * i) & _u64(255)
            seen[piece] = every

    return pack


@cache
def byte_unpacker(bits: int, high_first: bool):
    """Return the kernel that unpacks codes of `bits` bits, 1 to 7, into uint8."""
    one, two, four = _u64(8 - bits), _u64(16 - 2 * bits), _u64(32 - 4 * bits)
    stay1, stay2, stay4 = _mask(16, 0, bits), _mask(32, 0, 2 * bits), _mask(64, 0, 4 * bits)
    move1, move2, move4 = _mask(16, 8, bits), _mask(32, 16, 2 * bits), _mask(64, 32, 4 * bits)

    @njit(cache=True, parallel=True)
    def unpack(packed: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None:
        chunks = -(-codes.shape[1] // CHUNK)
        for piece in prange(codes.shape[0] * chunks):
            row, start = piece // chunks, piece % chunks * CHUNK
            c, p = codes[row, start : start + CHUNK], packed[row, start // 8 * bits :]
            groups, rest = c.size // 8, c.size % 8
            for group in range(groups):
                word = _u64(0)
                for i in range(bits):
                    word |= _u64(p[group * bits + i]) << _u64(8 * (bits - 1 - i) if high_first else 8 * i)
                word = word & stay4 | word << four & move4
                word = word & stay2 | word << two & move2
                word = word & stay1 | word << one & move1
                for i in range(8):
                    c[8 * group + i] = word >> _u64(8 * (7 - i) if high_first else 8 * i) & _u64(255)
            if rest:
                word = _u64(0)
                for i in range((rest * bits + 7) // 8):
                    word |= _u64(p[groups * bits + i]) << _u64(8 * (bits - 1 - i) if high_first else 8 * i)
                word = word & stay4 | word << four & move4
                word = word & stay2 | word << two & move2
                word = word & stay1 | word << one & move1
                for i in range(rest):
                    c[8 * groups + i] = word >> _u64(8 * (7 - i) if high_first else 8 * i) & _u64(255)

    return unpack


@njit(cache=True, parallel=True)
def pack_stream(codes, bits, high_first, packed, seen) -> None:
    """Pack codes of any container and width; a code of more than 32 bits goes through in two parts.

    So never more than 39 bits wait to be written.
    """
    chunks, k = -(-codes.shape[1] // CHUNK), codes.shape[1]
    low_width, high_width = min(bits, 32), max(bits - 32, 0)
    for piece in prange(seen.size):
        row, start = piece // chunks, piece % chunks * CHUNK
        c, p = codes[row], packed[row]
        at, waiting, fill, every = start // 8 * bits, _u64(0), 0, _u64(0)
        for j in range(start, min(k, start + CHUNK)):
            code = _u64(c[j])
            every |= code
            for part in range(2 if high_width else 1):
                top = high_width > 0 and (part == 0) == high_first
                width = high_width if top else low_width
                bit_field = code >> _u64(32) if top else code & _u64(0xFFFFFFFF)
                if high_first:
                    waiting = waiting << _u64(width) | bit_field
                else:
                    waiting |= bit_field << _u64(fill)
                fill += width
                while fill >= 8:
                    fill -= 8
                    if high_first:
                        p[at] = waiting >> _u64(fill) & _u64(255)
                    else:
                        p[at] = waiting & _u64(255)
                        waiting >>= _u64(8)
                    at += 1
        if fill:
            p[at] = (waiting << _u64(8 - fill) if high_first else waiting) & _u64(255)
        seen[piece] = every


@njit(cache=True, parallel=True)
def unpack_stream(packed, bits, high_first, codes) -> None:
    """Undo `pack_stream`."""
    chunks, k = -(-codes.shape[1] // CHUNK), codes.shape[1]
    low_width, high_width = min(bits, 32), max(bits - 32, 0)
    for piece in prange(codes.shape[0] * chunks):
        row, start = piece // chunks, piece % chunks * CHUNK
        c, p = codes[row], packed[row]
        at, waiting, fill = start // 8 * bits, _u64(0), 0
        for j in range(start, min(k, start + CHUNK)):
            code = _u64(0)
            for part in range(2 if high_width else 1):
                top = high_width > 0 and (part == 0) == high_first
                width = high_width if top else low_width
                while fill < width:
                    byte = _u64(p[at])
                    waiting = waiting << _u64(8) | byte if high_first else waiting | byte << _u64(fill)
                    fill += 8
                    at += 1
                fill -= width
                mask = (_u64(1) << _u64(width)) - _u64(1)
                if high_first:
                    bit_field = waiting >> _u64(fill) & mask
                else:
                    bit_field = waiting & mask
                    waiting >>= _u64(width)
                code |= bit_field << _u64(32) if top else bit_field
            c[j] = code


@njit(cache=True, parallel=True)
def pack_halves(codes: NDArray[np.uint8], packed: NDArray[np.uint8], seen: NDArray[np.uint64]) -> None:
    """Pack 4-bit codes [blocks, block]: element j low, j + block // 2 high; `seen`, one a block, gets their OR."""
    half = packed.shape[1]
    for block in prange(codes.shape[0]):
        c, p, every = codes[block], packed[block], np.uint8(0)
        for j in range(half):
            every |= c[j] | c[half + j]
            p[j] = c[j] | c[half + j] << 4
        seen[block] = every


@njit(cache=True, parallel=True)
def unpack_halves(packed: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None:
    """Undo `pack_halves`."""
    half = packed.shape[1]
    for block in prange(packed.shape[0]):
        c, p = codes[block], packed[block]
        for j in range(half):
            c[j] = p[j] & 15
            c[half + j] = p[j] >> 4

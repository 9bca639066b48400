"""Pack codes into bytes as they lie in memory, and unpack them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack codes of 4 or 8 bits: two 4-bit codes a byte, element 0 in the low nibble.

    Parameters
    ----------
    codes : uint8 [..., K]
        K even when `bits` is 4.

    Returns
    -------
    uint8 [..., K * bits // 8]; for 8 bits the array itself.

    Raises
    ------
    ValueError
        On another width, an odd K, or a code that needs more than `bits` bits.

    Examples
    --------
    >>> pack(np.array([1, 15, 2, 0], np.uint8), 4).tolist()
    [241, 2]
    """
    _check(codes, bits)
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        raise ValueError(f"packing 4-bit codes needs an even last axis, not {codes.shape[-1]}")
    if codes.size and int(codes.max()) > 15:
        raise ValueError(f"code {int(codes.max())} does not fit 4 bits")
    return codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))


def unpack(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Undo `pack`: uint8 [..., K * bits // 8] -> uint8 [..., K].

    Raises
    ------
    ValueError
        On a width other than 4 or 8, or another dtype.
    """
    _check(packed, bits)
    if bits == 8:
        return packed
    codes = np.empty((*packed.shape[:-1], packed.shape[-1] * 2), np.uint8)
    codes[..., 0::2] = packed & 15
    codes[..., 1::2] = packed >> 4
    return codes


def _check(array: NDArray[np.uint8], bits: int) -> None:
    if bits not in (4, 8):
        raise ValueError(f"packing knows codes of 4 and 8 bits, not {bits}")
    if array.dtype != np.uint8 or array.ndim < 1:
        raise ValueError(f"packing needs uint8 [..., n], not {array.dtype} {array.shape}")

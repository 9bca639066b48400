# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of the encoder and decoder; specs enter as integers and tables: one compilation serves all formats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

RULE_FLOOR, RULE_AMAX, RULE_RANGE = 0, 1, 2


@njit(cache=True)
def float_code(value: float, man_bits: int, bias: int, max_code: int) -> int:
    """Round a non-negative finite float64 half to even to the magnitude code of a minifloat, saturating.

    Serves every format with subnormals whose exponents lie inside float64's normal range. The quantum is found from the
    exponent bits (never from a float logarithm); dividing by it is exact, so `rint` is the only rounding.
    """
    exponent = ((np.float64(value).view(np.int64) >> 52) & 0x7FF) - 1023
    field = max(exponent + bias, 1)
    # 2**-(field - bias - man_bits), built from its bits
    inverse_quantum = np.int64((1023 - (field - bias - man_bits)) << 52).view(np.float64)
    steps = np.int64(np.rint(value * inverse_quantum))
    return min(((field - 1) << man_bits) + steps, max_code)


@njit(cache=True)
def float_value(code: int, man_bits: int, bias: int) -> float:
    """Return what a finite magnitude code with subnormals is worth, exactly, in float64."""
    field = code >> man_bits
    mantissa = code & ((1 << man_bits) - 1)
    if field == 0:
        return mantissa * np.int64((1024 - bias - man_bits) << 52).view(np.float64)
    return (mantissa + (1 << man_bits)) * np.int64((1023 + field - bias - man_bits) << 52).view(np.float64)


@njit(cache=True, parallel=True)
def tensor_amax(x: NDArray[np.float32]) -> tuple[float, int]:
    """Return the largest magnitude of a matrix, and the first row that holds a NaN or Inf (-1 when there is none)."""
    rows, k = x.shape
    bits = x.view(np.uint32)
    # magnitudes of floats are ordered as their bits are, NaN and Inf last
    tops = np.zeros(rows, np.uint32)
    for row in prange(rows):
        top = np.uint32(0)
        for j in range(k):
            top = max(top, bits[row, j] & np.uint32(0x7FFFFFFF))
        tops[row] = top
    for row in range(rows):
        if tops[row] >= np.uint32(0x7F800000):
            return 0.0, row
    return np.float64(tops.view(np.float32).max()), -1


@njit(cache=True, parallel=True)
def encode_blocks(
    x: NDArray[np.float32],
    block: int,
    rule: int,
    element: tuple[int, int, int, int, int, int],
    level: float,
    scale: tuple[int, int, int],
    tensor_scale: float,
    codes: NDArray[np.uint8],
    scales: NDArray[np.uint32],
    zeros: NDArray[np.uint8],
) -> None:
    """Encode rows of finite float32 into codes, scale codes and zero points.

    `element` is (is_float, bits, man_bits or qmin, bias or qmax, max_code, emax), `scale` is (man_bits, bias, max_code
    after the cap). Quotients are formed in float64: numerator and denominator are exact there (but for ``max - min``,
    which is rounded where it needs more than 53 bits), a quotient that lies on a rounding boundary is exact too, and no
    other comes so near to one that float64 could take it for it. So each rounding sees the true quotient. Where the
    step of a block is 0, its codes are those of zeros.
    """
    is_float, bits, low, high, max_code, emax = element
    scale_man, scale_bias, scale_max = scale
    signs = x.view(np.uint32)
    for row in prange(x.shape[0]):
        for index in range(x.shape[1] // block):
            start = index * block
            # 1. range of the block
            top, smallest, largest = np.float32(0), np.float32(0), np.float32(0)
            for j in range(start, start + block):
                value = x[row, j]
                top = max(top, abs(value))
                smallest, largest = min(smallest, value), max(largest, value)
            # 2. scale
            zero = 0
            if rule == RULE_FLOOR:
                exponent = ((np.float64(top).view(np.int64) >> 52) & 0x7FF) - 1023 - emax
                scale_code = min(max(exponent + scale_bias, 0), scale_max) if top > 0 else 0
                step = np.int64((1023 + scale_code - scale_bias) << 52).view(np.float64)
            else:
                spread = np.float64(top) if rule == RULE_AMAX else np.float64(largest) - np.float64(smallest)
                scale_code = 0
                if spread > 0:
                    scale_code = float_code(spread / (level * tensor_scale), scale_man, scale_bias, scale_max)
                step = float_value(scale_code, scale_man, scale_bias) * tensor_scale
                if rule == RULE_RANGE and step > 0:
                    # clamped before the cast: under a saturated scale no integer holds the quotient
                    zero = np.int64(min(max(np.rint(-np.float64(smallest) / step), np.float64(low)), np.float64(high)))
            scales[row, index] = scale_code
            zeros[row, index] = zero
            # 3. elements
            for j in range(start, start + block):
                quotient = np.float64(x[row, j]) / step if step > 0 else 0.0
                if is_float:
                    code = float_code(abs(quotient), low, high, max_code)
                    # -0 keeps its sign, as in ml_dtypes
                    sign = np.int64(signs[row, j] >> np.uint32(31)) << (bits - 1)
                    codes[row, j] = np.uint8(code | sign)
                else:
                    clipped = min(max(np.rint(quotient) + zero, np.float64(low)), np.float64(high))
                    codes[row, j] = np.uint8(np.int64(clipped) & ((1 << bits) - 1))


@njit(cache=True, parallel=True)
def decode_blocks(
    codes: NDArray[np.uint8],
    table: NDArray[np.float64],
    steps: NDArray[np.float64],
    zeros: NDArray[np.uint8],
    tensor_scale: float,
    out: NDArray[np.float32],
) -> None:
    """Decode to float32: the product is exact in float64 and rounded once. `table` holds each code's value."""
    block = codes.shape[1] // steps.shape[1]
    for row in prange(codes.shape[0]):
        for index in range(steps.shape[1]):
            step, zero = steps[row, index] * tensor_scale, np.float64(zeros[row, index])
            for j in range(index * block, (index + 1) * block):
                out[row, j] = np.float32((table[codes[row, j]] - zero) * step)


def element_arguments(element: Any) -> tuple[int, int, int, int, int, int]:
    """Return the tuple by which `encode_blocks` knows an element."""
    from hwsim.formats.spec import FloatSpec

    if isinstance(element, FloatSpec):
        return 1, element.bits, element.man_bits, element.bias, element.max_code, element.emax
    return 0, element.bits, element.qmin, element.qmax, 0, 0

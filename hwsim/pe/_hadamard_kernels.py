# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of `hadamard`: butterflies in place over rows, on integers and on values of FP16."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import bits64, power_of_two

_LARGEST = 65504.0


@njit(cache=True)
def to_fp16(value):
    """Round a float64 half to even to a value of FP16, subnormals kept, overflow to Inf."""
    if value == 0.0 or not np.isfinite(value):
        return value
    exponent = ((bits64(value) >> 52) & 0x7FF) - 1023
    magic = 1.5 * power_of_two(max(exponent - 10, -24) + 52)  # its last place is the quantum
    rounded = (abs(value) + magic) - magic
    return np.copysign(rounded if rounded <= _LARGEST else np.inf, value)


@njit(cache=True, parallel=True)
def transform_int(x) -> None:
    """Transform int64 [rows, points] in place; nothing may leave int64."""
    for row in prange(x.shape[0]):
        y, stride = x[row], 1
        while stride < y.size:
            for start in range(0, y.size, 2 * stride):
                for i in range(start, start + stride):
                    a, b = y[i], y[i + stride]
                    y[i], y[i + stride] = a + b, a - b
            stride *= 2


@njit(cache=True, parallel=True)
def transform_fp16(x, factor) -> None:
    """Transform float64 [rows, points], values of FP16, in place; multiply by `factor` where it is not 0.

    Sums and products of two values of FP16 are exact in float64, so each is rounded once.
    """
    for row in prange(x.shape[0]):
        y, stride = x[row], 1
        while stride < y.size:
            for start in range(0, y.size, 2 * stride):
                for i in range(start, start + stride):
                    a, b = y[i], y[i + stride]
                    y[i], y[i + stride] = to_fp16(a + b), to_fp16(a - b)
            stride *= 2
        if factor != 0.0:
            for i in range(y.size):
                y[i] = to_fp16(y[i] * factor)

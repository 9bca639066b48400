# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of `requant`: draws of shift registers, and stochastic rounding by them."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import bits32, bits64, power_of_two

_u32 = np.uint32


@njit(cache=True)
def draws(starts, taps, draw_bits, out) -> None:
    """Store the draws of each lane, uint32 [count, lanes]."""
    mask, feedback, one = _u32((1 << draw_bits) - 1), _u32(taps), _u32(1)
    for lane in range(starts.size):
        state = starts[lane]
        for i in range(out.shape[0]):
            out[i, lane] = state & mask
            for _ in range(draw_bits):
                low = _u32(state & one)
                state = _u32(state >> one)
                if low:
                    state = _u32(state ^ feedback)


@njit(cache=True, parallel=True)
def round_randomly(x, exponents, random, draw_bits, is_float, man_bits, bias, frac_bits, low, high, bits, out) -> None:
    """Encode float32 [rows, k] under scales ``2**exponents[row]``, up where ``random < rest * 2**draw_bits``.

    `high` is the largest magnitude code (or integer), `low` the smallest integer; negative zeros keep their sign.
    """
    for row in prange(x.shape[0]):
        factor = power_of_two(-exponents[row])
        for j in range(x.shape[1]):
            negative = bits32(x[row, j]) >> _u32(31) == 1
            value = np.float64(abs(x[row, j])) * factor  # exact
            base = 0
            if is_float:
                exponent = ((bits64(value) >> 52) & 0x7FF) - 1023
                field = max(exponent + bias, 1)
                base = (field - 1) << man_bits
                steps = value * power_of_two(man_bits + bias - field) if value > 0 else 0.0
            else:
                steps = min(value * power_of_two(frac_bits), 1048576.0)
            whole = np.floor(steps)
            code = base + np.int64(whole)
            if np.float64(random[row, j]) < (steps - whole) * power_of_two(draw_bits):
                code += 1
            if is_float:
                out[row, j] = min(code, high) | (np.int64(negative) << (bits - 1))
            else:
                level = max(-code, low) if negative else min(code, high)
                out[row, j] = level & ((1 << bits) - 1)

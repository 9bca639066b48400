# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of complex units: quadrants by exact comparisons, and exact sums of the components that they keep."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hwsim.formats.families._ternary_kernels import RUN, add_run


@njit(cache=True)
def quadrant(re, im):
    """Return n of the unit i**n in whose quarter re + i im lies: each holds its clockwise border; zero gives 0."""
    if re > 0 and -re <= im < re:
        return 0
    if im > 0 and -im < re <= im:
        return 1
    if re < 0 and re < im <= -re:
        return 2
    if im < 0 and im <= re < -im:
        return 3
    return 0


@njit(cache=True, parallel=True)
def encode(x, step, shift, codes, digits, counts):
    """Write the codes of rows; add up what each axis keeps: int64 [rows, 2, DIGITS] and [rows, 2].

    Pair j has its real part at ``j * step`` and its imaginary part `shift` after it.
    """
    for row in prange(x.shape[0]):
        runs = np.empty((2, RUN), np.uint32)
        filled = np.zeros(2, np.int64)
        for j in range(codes.shape[1]):
            re, im = x[row, j * step], x[row, j * step + shift]
            code = quadrant(re, im)
            codes[row, j] = code
            axis = code & 1
            runs[axis, filled[axis]] = np.float32(im if axis else re).view(np.uint32)
            filled[axis] += 1
            if filled[axis] == RUN:
                counts[row, axis] += add_run(runs[axis], np.int64(-1), digits[row, axis])
                filled[axis] = 0
        for axis in range(2):
            counts[row, axis] += add_run(runs[axis, : filled[axis]], np.int64(-1), digits[row, axis])


@njit(cache=True, parallel=True)
def decode(codes, step, shift, real, imag, out):
    """Undo `encode`: +-real on the real axis, +-imag on the imaginary one, zero elsewhere."""
    for row in prange(codes.shape[0]):
        for j in range(codes.shape[1]):
            code = codes[row, j]
            scale = imag if code & 1 else real
            value = -scale if code & 2 else scale
            out[row, j * step] = np.float32(0) if code & 1 else value
            out[row, j * step + shift] = value if code & 1 else np.float32(0)

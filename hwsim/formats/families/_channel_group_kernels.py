# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of channel groups: the largest magnitude of every channel, codes under a step a channel, and back."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import magnitude_bits

PIECE = 256
"""Channels that a thread takes at a time."""


@njit(cache=True, parallel=True)
def channel_tops(x, tops):
    """Store the bits of the largest magnitude of each column; they exceed those of Inf where there is a NaN."""
    rows, channels = x.shape
    for piece in prange(-(-channels // PIECE)):
        first, end = piece * PIECE, min((piece + 1) * PIECE, channels)
        found = tops[first:end]
        found[:] = 0
        for i in range(rows):
            row = x[i, first:end]
            for k in range(row.size):
                bits = magnitude_bits(row[k])
                found[k] = bits if bits > found[k] else found[k]


@njit(cache=True, parallel=True)
def encode_channels(x, steps, low, high, mask, codes):
    """Store the nearest integer of ``x / step``, ties to even, within low .. high, as a code; a step of 0 gives 0."""
    for i in prange(x.shape[0]):
        row, out = x[i], codes[i]
        for k in range(row.size):
            step = steps[k]
            quotient = np.float64(row[k]) / step if step > 0.0 else 0.0
            out[k] = np.int64(np.rint(min(max(quotient, low), high))) & mask


@njit(cache=True, parallel=True)
def decode_channels(codes, integers, steps, out):
    """Store each code's integer times the step of its channel, rounded once to float32."""
    for i in prange(codes.shape[0]):
        row, values = codes[i], out[i]
        for k in range(row.size):
            values[k] = np.float32(integers[row[k]] * steps[k])

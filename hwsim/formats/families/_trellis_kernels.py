# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of trellis codes: the Viterbi search, and values from a bit stream."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

AT_A_TIME = 4
"""Blocks that share the working memory of a search."""
WORD = 16


@njit(cache=True)
def step_two_bits(old, new, values, x, origin):
    """Advance all costs by an element, two bits a step; `values` [4, states / 4] are those of states 4 q + b by b.

    One loop with four interleaved stores: LLVM makes vector code of it.
    """
    quarter = origin.size
    a, b, c, d = old[:quarter], old[quarter : 2 * quarter], old[2 * quarter : 3 * quarter], old[3 * quarter :]
    v0, v1, v2, v3 = values[0], values[1], values[2], values[3]
    for q in range(quarter):
        low, best = a[q], np.uint8(0)
        best = np.uint8(1) if b[q] < low else best
        low = b[q] if b[q] < low else low
        best = np.uint8(2) if c[q] < low else best
        low = c[q] if c[q] < low else low
        best = np.uint8(3) if d[q] < low else best
        low = d[q] if d[q] < low else low
        origin[q] = best
        e0, e1, e2, e3 = x - v0[q], x - v1[q], x - v2[q], x - v3[q]
        new[4 * q] = low + e0 * e0
        new[4 * q + 1] = low + e1 * e1
        new[4 * q + 2] = low + e2 * e2
        new[4 * q + 3] = low + e3 * e3


@njit(cache=True)
def step(old, new, values, x, bits, best, origin):
    """Advance all costs by an element, any number of bits a step; `values` [states] in the order of states."""
    count = origin.size
    for q in range(count):
        best[q] = old[q]
        origin[q] = 0
    for index in range(1, 1 << bits):
        other = old[index * count : (index + 1) * count]
        for q in range(count):
            less = other[q] < best[q]
            best[q] = other[q] if less else best[q]
            origin[q] = np.uint8(index) if less else origin[q]
    for state in range(new.size):
        error = x - values[state]
        new[state] = best[state >> bits] + error * error


@njit(cache=True)
def viterbi(y, first, fixed, values, by_bits, bits, costs, best, origin, states):
    """Store the states of the best path through a block that is read cyclically from element `first`.

    With ``fixed >= 0`` the upper bits of the first state and the lower bits of the last are that number.
    """
    length, count = y.size, best.size
    old, new = costs[0], costs[1]
    for state in range(old.size):
        error = y[first] - values[state]
        old[state] = error * error if fixed < 0 or state >> bits == fixed else np.float32(np.inf)
    for i in range(1, length):
        x = y[(first + i) % length]
        if bits == 2:
            step_two_bits(old, new, by_bits, x, origin[i])
        else:
            step(old, new, values, x, bits, best, origin[i])
        old, new = new, old
    start, stride = (0, 1) if fixed < 0 else (fixed, count)
    last = start
    for state in range(start, old.size, stride):
        last = state if old[state] < old[last] else last
    for i in range(length - 1, 0, -1):
        states[i] = last
        last = (last >> bits) + np.int64(origin[i, last >> bits]) * count
    states[0] = last


@njit(cache=True)
def write_states(states, state_bits, bits, biting, words):
    """Write the upper bits of each state, and (unless the tail bites) the rest of the last, highest bit first."""
    words[:] = 0
    total = states.size * bits + (0 if biting else state_bits - bits)
    for position in range(total):
        i = min(position // bits, states.size - 1)
        bit = (states[i] >> (state_bits - 1 - (position - i * bits))) & 1
        words[position // WORD] |= np.uint16(bit << (WORD - 1 - position % WORD))


@njit(cache=True, parallel=True)
def encode_trellis(x, scales, values, by_bits, state_bits, bits, biting, stream):
    """Encode float32 [rows, blocks, block] under the scales of the rows into words, uint16 [rows, blocks, words]."""
    rows, blocks, length = x.shape
    total = rows * blocks
    for piece in prange(-(-total // AT_A_TIME)):
        costs = np.empty((2, 1 << state_bits), np.float32)
        best = np.empty(1 << (state_bits - bits), np.float32)
        origin = np.empty((length, best.size), np.uint8)
        y, states = np.empty(length, np.float32), np.empty(length, np.int64)
        for index in range(piece * AT_A_TIME, min((piece + 1) * AT_A_TIME, total)):
            row, block = index // blocks, index % blocks
            scale = scales[row]
            for j in range(length):
                y[j] = x[row, block, j] / scale if scale > 0 else np.float32(0)
            first = (length - length // 2) % length if biting else 0
            viterbi(y, first, -1, values, by_bits, bits, costs, best, origin, states)
            if biting:
                overlap = states[length // 2] >> bits
                viterbi(y, 0, overlap, values, by_bits, bits, costs, best, origin, states)
            write_states(states, state_bits, bits, biting, stream[row, block])


@njit(cache=True, parallel=True)
def decode_trellis(stream, scales, values, state_bits, bits, out):
    """Decode words into float32 [rows, blocks, block]: values of states times the scales of the rows."""
    rows, blocks, length = out.shape
    count, mask, shift = stream.shape[2], np.uint32((1 << state_bits) - 1), np.uint32(32 - state_bits)
    for row in prange(rows):
        pairs = np.empty(count, np.uint32)
        for block in range(blocks):
            words, to, scale = stream[row, block], out[row, block], scales[row]
            for j in range(count):  # each word with the one that follows, the first after the last
                pairs[j] = np.uint32(words[j]) << np.uint32(WORD) | np.uint32(words[j + 1 if j + 1 < count else 0])
            for i in range(length):
                position = i * bits
                pair = pairs[position >> 4]
                to[i] = values[(pair >> (shift - np.uint32(position & 15))) & mask] * scale

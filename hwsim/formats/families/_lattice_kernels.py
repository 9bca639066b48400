# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of lattice codes: nearest points of E8P, and integer points of a pyramid with their indices.

E8P is searched in whole numbers: coordinates in units of 2**-24 (below 2**41), points in units of 1/4, so that every
score is a whole number below 2**53, and float64 holds it exactly.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

GRID = 1 << 24
"""Steps in which scaled coordinates are counted."""
QUARTER = GRID >> 2
LIMIT = float(1 << 40)
LANES = 64
"""Vectors that a search treats side by side."""
_u64 = np.uint64


@njit(cache=True)
def try_row(row, odd, t, parity, bias, best, found, index):
    """Let one row of magnitudes compete, under its best signs, for all vectors of a group.

    Twice the scalar product with ``t`` [8, lanes] (magnitudes) counts for a point, half its norm against it. The signs
    are those of the vector; where their parity is not that of the row, the coordinate that costs least turns over.
    """
    a0, a1, a2, a3, a4, a5, a6, a7 = row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]
    t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
    norm = (a0 * a0 + a1 * a1 + a2 * a2 + a3 * a3 + a4 * a4 + a5 * a5 + a6 * a6 + a7 * a7) * (GRID >> 1)
    for p in range(best.size):
        p0, p1, p2, p3 = a0 * t0[p], a1 * t1[p], a2 * t2[p], a3 * t3[p]
        p4, p5, p6, p7 = a4 * t4[p], a5 * t5[p], a6 * t6[p], a7 * t7[p]
        low = p0 if p0 < p1 else p1
        low = p2 if p2 < low else low
        low = p3 if p3 < low else low
        low = p4 if p4 < low else low
        low = p5 if p5 < low else low
        low = p6 if p6 < low else low
        low = p7 if p7 < low else low
        product = p0 + p1 + p2 + p3 + p4 + p5 + p6 + p7
        product = product - 2.0 * low if parity[p] != odd else product
        score = 2.0 * product - norm + bias[p]
        found[p] = index if score > best[p] else found[p]
        best[p] = score if score > best[p] else best[p]


@njit(cache=True)
def best_signs(row, odd, places, y, half):
    """Return (score without the norm, byte) of the best signs of a row of magnitudes; byte -1 where several are best.

    `half` is 0 for the points shifted by +1/4, 1 for those by -1/4; `places` is the bit of each coordinate.
    """
    lowest, at, twice, product = np.inf, 0, False, 0.0
    byte, parity = half, odd
    for i in range(8):
        t = y[i] - QUARTER if half == 0 else y[i] + QUARTER
        cost = row[i] * abs(t)
        product += cost
        if cost <= lowest:
            twice = cost == lowest
            lowest, at = cost, i
        minus = 1 if t < 0 else 0
        parity ^= minus
        byte ^= (minus ^ (odd if i == 7 else 0)) << places[i]
    if parity:
        product -= 2.0 * lowest
        byte ^= 1 << places[at]
    return product, -1 if lowest == 0 or (parity and twice) else byte


@njit(cache=True)
def lowest_byte(row, odd, places, y, half, product):
    """Return the lowest sign byte whose scalar product is the given one."""
    for byte in range(256):
        parity = byte ^ (byte >> 4)
        parity ^= parity >> 2
        if (parity ^ (parity >> 1)) & 1 != half:
            continue
        total = 0.0
        for i in range(8):
            minus = (((byte ^ half) >> places[i]) & 1) ^ (odd if i == 7 else 0)
            t = y[i] - QUARTER if half == 0 else y[i] + QUARTER
            total += -row[i] * t if minus else row[i] * t
        if total == product:
            return byte
    return 256


@njit(cache=True, parallel=True)
def encode_e8p(x, scales, magnitudes, odd, places, codes):
    """Encode float32 [rows, vectors, 8] under the scales of the rows into uint16 [rows, vectors].

    `magnitudes` float64 [256, 8] in units of 1/2, `odd` [256] tells the rows whose sum is odd.
    """
    rows, vectors = codes.shape
    pieces = -(-vectors // LANES)
    for piece in prange(rows * pieces):
        row, first = piece // pieces, (piece % pieces) * LANES
        count, scale = min(LANES, vectors - first), np.float64(scales[row])
        y, t = np.zeros((LANES, 8)), np.empty((2, 8, LANES))
        parity, bias = np.zeros((2, LANES), np.uint8), np.zeros((2, LANES))
        best, found = np.full(LANES, -np.inf), np.zeros(LANES, np.int64)
        for p in range(LANES):
            for i in range(8):
                if p < count and scale > 0:
                    y[p, i] = min(max(np.rint(np.float64(x[row, first + p, i]) / scale * GRID), -LIMIT), LIMIT)
                bias[0, p] += y[p, i]
                bias[1, p] -= y[p, i]
                for half in range(2):
                    value = y[p, i] - QUARTER if half == 0 else y[p, i] + QUARTER
                    parity[half, p] ^= np.uint8(value < 0)
                    t[half, i, p] = abs(value)
        for index in range(256):
            for half in range(2):
                try_row(magnitudes[index], odd[index], t[half], parity[half], bias[half], best, found, index)
        for p in range(count):
            index, low = found[p], 256
            row_of, is_odd = magnitudes[index], np.int64(odd[index])
            norm = (row_of * row_of).sum() * (GRID >> 1)
            for half in range(2):
                product, byte = best_signs(row_of, is_odd, places, y[p], half)
                if 2.0 * product - norm + bias[half, p] == best[p]:
                    low = min(low, byte if byte >= 0 else lowest_byte(row_of, is_odd, places, y[p], half, product))
            codes[row, first + p] = np.uint16(index << 8 | low)


@njit(cache=True, parallel=True)
def decode_e8p(codes, points, scales, out):
    """Decode uint16 [rows, vectors] into float32 [rows, vectors, 8]: points times the scales of the rows."""
    for row in prange(codes.shape[0]):
        scale = scales[row]
        for n in range(codes.shape[1]):
            point, to = points[codes[row, n]], out[row, n]
            for i in range(8):
                to[i] = point[i] * scale


@njit(cache=True)
def pulse_index(y, table):
    """Return the index of a vector of whole numbers; `table` uint64 [n + 1, pulses + 2] holds U(n, k)."""
    last = y.size - 1
    index, k = _u64(1 if y[last] < 0 else 0), abs(y[last])
    for j in range(last - 1, -1, -1):
        index += table[y.size - j, k]
        k += abs(y[j])
        if y[j] < 0:
            index += table[y.size - j, k + 1]
    return index


@njit(cache=True)
def pulses_of(index, pulses, table, y):
    """Store the vector of an index."""
    k = pulses
    for j in range(y.size):
        row = table[y.size - j]
        negative = index >= row[k + 1]
        if negative:
            index -= row[k + 1]
        before = k
        while row[k] > index:
            k -= 1
        index -= row[k]
        y[j] = k - before if negative else before - k


@njit(cache=True)
def nearest_pulses(x, pulses, rest, y):
    """Store the point of the pyramid nearest to a vector scaled onto it, and return the sum of the magnitudes."""
    total = 0.0
    for j in range(x.size):
        total += abs(np.float64(x[j]))
    if total == 0.0:
        y[:] = 0
        y[0] = pulses
        return total
    missing = pulses
    for j in range(x.size):
        scaled = abs(np.float64(x[j])) * pulses
        rest[j] = np.fmod(scaled, total)  # exact
        y[j] = np.int64(np.rint((scaled - rest[j]) / total))  # a whole number but for rounding
        missing -= y[j]
    for _ in range(missing):
        top = 0
        for j in range(1, x.size):
            top = j if rest[j] > rest[top] else top
        y[top] += 1
        rest[top] = -1.0
    for j in range(x.size):
        y[j] = -y[j] if x[j] < 0 else y[j]
    return total


@njit(cache=True, parallel=True)
def encode_pulses(x, pulses, norm, table, codes, gains):
    """Encode float32 [rows, vectors, n]: indices into `codes`, unrounded gains into float64 `gains` [rows, vectors]."""
    for row in prange(codes.shape[0]):
        rest, y = np.empty(x.shape[2]), np.empty(x.shape[2], np.int64)
        for n in range(codes.shape[1]):
            vector = x[row, n]
            total = nearest_pulses(vector, pulses, rest, y)
            codes[row, n] = pulse_index(y, table)
            product, squares, power = 0.0, 0.0, 0.0
            for j in range(y.size):
                value = np.float64(vector[j])
                product += value * y[j]
                squares += np.float64(y[j] * y[j])
                power += value * value
            if total == 0.0:
                gains[row, n] = 0.0
            else:
                gains[row, n] = np.sqrt(power) if norm else product / squares


@njit(cache=True, parallel=True)
def decode_pulses(codes, pulses, norm, table, gains, out):
    """Decode into float32 [rows, vectors, n]: whole numbers times the gain (over their norm)."""
    for row in prange(codes.shape[0]):
        y = np.empty(out.shape[2], np.int64)
        for n in range(codes.shape[1]):
            pulses_of(codes[row, n], pulses, table, y)
            step = np.float64(gains[row, n])
            if norm:
                squares = 0.0
                for j in range(y.size):
                    squares += np.float64(y[j] * y[j])
                step /= np.sqrt(squares)
            for j in range(y.size):
                out[row, n, j] = np.float32(y[j] * step)

# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of codebooks: nearest centroids of many vectors side by side, means of k-means, sums of centroids.

Centroids come as float64 [books, centroids, v]. All arithmetic is float64, operation by operation.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

LANES = 64
"""Vectors that a search treats side by side."""


@njit(cache=True)
def nearest(y, centroids, distance, best, found):
    """Find the nearest centroid of each vector of ``y`` [v, lanes], of equally near ones the lowest."""
    best[:] = np.inf
    found[:] = 0
    for index in range(centroids.shape[0]):
        distance[:] = 0.0
        for i in range(y.shape[0]):
            part, centre = y[i], centroids[index, i]
            for p in range(distance.size):
                error = part[p] - centre
                distance[p] += error * error
        for p in range(best.size):
            less = distance[p] < best[p]
            found[p] = index if less else found[p]
            best[p] = distance[p] if less else best[p]


@njit(cache=True, parallel=True)
def label(points, centroids, labels):
    """Store the nearest centroids of training vectors, float64 [books, vectors, v], into uint32 [books, vectors]."""
    books, count, size = points.shape
    pieces = -(-count // LANES)
    for piece in prange(books * pieces):
        book, first = piece // pieces, (piece % pieces) * LANES
        y, distance, best = np.zeros((size, LANES)), np.empty(LANES), np.empty(LANES)
        found, here = np.empty(LANES, np.int64), min(LANES, count - first)
        for p in range(here):
            for i in range(size):
                y[i, p] = points[book, first + p, i]
        nearest(y, centroids[book], distance, best, found)
        for p in range(here):
            labels[book, first + p] = found[p]


@njit(cache=True)
def means(points, labels, centroids):
    """Replace every centroid by the mean of its vectors, added in order; a centroid without any stays."""
    books, count, size = points.shape
    for book in range(books):
        sums, members = np.zeros(centroids.shape[1:]), np.zeros(centroids.shape[1], np.int64)
        for p in range(count):
            index = labels[book, p]
            members[index] += 1
            for i in range(size):
                sums[index, i] += points[book, p, i]
        for index in range(members.size):
            if members[index] > 0:
                for i in range(size):
                    centroids[book, index, i] = sums[index, i] / members[index]


@njit(cache=True)
def element(x, size, down, vector, i):
    """Return (row, column) of an element of a vector: vectors follow the axis, or go down the rows of a column."""
    k = x.shape[1]
    if down:
        return vector // k * size + i, vector % k
    return vector * size // k, vector * size % k + i


@njit(cache=True, parallel=True)
def encode_stage(x, scales, down, stages, shifts, stage, codes):
    """Or the index that a stage finds for what the stages before it leave into the merged codes, uint32 [vectors].

    `stages` float64 [stages, books, centroids, v] where a shorter codebook is filled up with Inf, which no vector is
    near to. Vector n belongs to book ``n mod books``; rows past the last hold zeros.
    """
    books, size, count = stages.shape[1], stages.shape[3], codes.size
    pieces = -(-count // (LANES * books))
    for piece in prange(books * pieces):
        book, first = piece % books, piece // books * LANES * books + piece % books
        y, distance, best = np.zeros((size, LANES)), np.empty(LANES), np.empty(LANES)
        found = np.empty(LANES, np.int64)
        here = min(LANES, max(0, -(-(count - first) // books)))
        for p in range(here):
            vector = first + p * books
            for i in range(size):
                row, column = element(x, size, down, vector, i)
                if row < x.shape[0] and scales[row] > 0:
                    y[i, p] = x[row, column] / scales[row]
                for s in range(stage):
                    mask = (np.int64(1) << (shifts[s + 1] - shifts[s])) - 1
                    y[i, p] -= stages[s, book, (np.int64(codes[vector]) >> shifts[s]) & mask, i]
        nearest(y, stages[stage, book], distance, best, found)
        for p in range(here):
            codes[first + p * books] |= np.uint32(found[p] << shifts[stage])


@njit(cache=True, parallel=True)
def decode_stages(codes, scales, down, stages, shifts, out):
    """Decode merged codes into float32 [rows, k]: the sum of the stages' centroids times the scale of the row."""
    books, size = stages.shape[1], stages.shape[3]
    total = codes.size
    pieces = -(-total // 1024)
    for piece in prange(pieces):
        for vector in range(piece * 1024, min((piece + 1) * 1024, total)):
            code, book = np.int64(codes[vector]), vector % books
            for i in range(size):
                row, column = element(out, size, down, vector, i)
                if row < out.shape[0]:
                    value = 0.0
                    for s in range(stages.shape[0]):
                        mask = (np.int64(1) << (shifts[s + 1] - shifts[s])) - 1
                        value += stages[s, book, (code >> shifts[s]) & mask, i]
                    out[row, column] = np.float32(value * scales[row])

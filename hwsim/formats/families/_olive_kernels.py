# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of outlier-victim pairs.

All tables are by rank, the place of a level among those of normals and outliers in ascending order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import RNE, float_value, from_bits32, rounded_code, top_bits


class Rules(NamedTuple):
    """Rules of the scale, as kernels know them: `sigmas` is negative for the largest magnitude."""

    sigmas: float
    top: float
    man_bits: int
    bias: int
    max_code: int


@njit(cache=True)
def _reach(x, rules):
    """Return the magnitude that the largest normal level stands for, before its percentage."""
    amax = np.float64(from_bits32(top_bits(x)))
    if rules.sigmas < 0 or amax == 0:
        return amax
    total = 0.0
    for j in range(x.size):
        total += np.float64(x[j])
    mean, squares = total / x.size, 0.0
    for j in range(x.size):
        rest = np.float64(x[j]) - mean
        squares += rest * rest
    width = rules.sigmas * np.sqrt(squares / (x.size - 1))
    return max(abs(mean + width), abs(mean - width))


@njit(cache=True)
def _rank(value, step, borders, closed):
    """Return the rank of the level nearest to value / step; `closed` tells which borders belong to the level above."""
    low, high = 0, borders.size
    while low < high:
        middle = (low + high) // 2
        border = borders[middle] * step  # exact
        if value > border or (value == border and closed[middle]):
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _error(x, step, borders, closed, levels, outlier):
    """Return the sum of the squares of the errors of pairs, in the order of the elements."""
    total = 0.0
    for j in range(0, x.size, 2):
        even, odd = np.float64(x[j]), np.float64(x[j + 1])
        first, second = _rank(even, step, borders, closed), _rank(odd, step, borders, closed)
        here = 0.0 if outlier[second] and not outlier[first] else levels[first]
        there = 0.0 if outlier[first] else levels[second]
        total += (even - here * step) * (even - here * step)
        total += (odd - there * step) * (odd - there * step)
    return total


@njit(cache=True, parallel=True)
def encode_pairs(x, percents, rules, identifier, borders, closed, levels, outlier, order, codes, scales):
    """Encode rows that have a scale each: the first percentage of the least error is taken."""
    for row in prange(x.shape[0]):
        run, reach = x[row], _reach(x[row], rules)
        best, chosen = np.inf, np.int64(0)
        for i in range(percents.size):
            if reach == 0:
                break
            exact = reach * percents[i] / (100.0 * rules.top)
            code = rounded_code(exact, False, rules.man_bits, rules.bias, 1, RNE, 0)
            code = min(max(code, np.int64(1)), np.int64(rules.max_code))
            if percents.size == 1:
                chosen = code
                break
            error = _error(run, float_value(code, rules.man_bits, rules.bias), borders, closed, levels, outlier)
            if error < best:
                best, chosen = error, code
        scales[row] = chosen
        step = float_value(chosen, rules.man_bits, rules.bias)
        for j in range(0, run.size, 2):
            # a row of zeros has scale 0 and the codes of 0
            first = _rank(np.float64(run[j]), step, borders, closed) if step > 0 else order.size // 2
            second = _rank(np.float64(run[j + 1]), step, borders, closed) if step > 0 else order.size // 2
            codes[row, j] = identifier if outlier[second] and not outlier[first] else order[first]
            codes[row, j + 1] = identifier if outlier[first] else order[second]


@njit(cache=True, parallel=True)
def decode_pairs(codes, table, steps, bits, out, bad):
    """Decode pairs: `table` [pairs, 2] gives the levels of both; NaN counts as wrong, in `bad`."""
    for row in prange(codes.shape[0]):
        wrong, step = np.int64(0), steps[row % steps.size]
        for j in range(0, codes.shape[1], 2):
            pair = (np.int64(codes[row, j]) << bits) | np.int64(codes[row, j + 1])
            even, odd = table[pair, 0], table[pair, 1]
            wrong += 1 if even != even else 0
            out[row, j], out[row, j + 1] = np.float32(even * step), np.float32(odd * step)
        bad[row] = wrong

# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Exact ranks in tables of more than 16 levels: float bits give a guess, an exact comparison settles it."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit

from hwsim.formats._kernels import bits32
from hwsim.formats.spec import TableSpec

_u32 = np.uint32
MARGIN = 2.0**-20
"""Relative width by which a float32 quotient (of a rounded reciprocal) may miss its bucket; 2**-22 would do."""


RUN = 1024
"""Elements whose buckets are held at a time."""


class Guide(NamedTuple):
    """How to rank quotients of a table.

    A quotient's magnitude falls into bucket ``(float32 bits >> shift) - base``, clamped to ``0 .. half - 1``; buckets
    of negative quotients follow those of positive ones. `guess` uint8 holds the number of borders below all values of a
    bucket; at most one more border lies in it. `borders` ends with Inf; `strict` uint8 tells which must be passed.
    """

    guess: np.ndarray
    borders: np.ndarray
    strict: np.ndarray
    shift: int
    base: int
    half: int


NO_GUIDE = Guide(np.zeros(1, np.uint8), np.full(1, np.inf), np.zeros(1, np.uint8), 0, 0, 1)
"""Stands for the guide of an element that needs none, so that kernels see one type."""


@cache
def guide(table: TableSpec) -> Guide:
    """Return the guide of a table, with as few bits of mantissa as tell its borders apart.

    Raises
    ------
    ValueError
        When borders lie closer than 2**-12 of themselves.
    """
    borders = np.array(table.borders, np.float64)
    magnitudes = np.abs(borders[borders != 0] if borders.any() else np.ones(1)).astype(np.float32)
    low, high = (int(top.view(np.int32)) >> 23 for top in (magnitudes.min(), magnitudes.max()))
    for man_bits in range(3, 13):
        base = (low << man_bits) - 1  # one bucket below the smallest border, one above the largest
        half = ((high + 1 - low) << man_bits) + 2
        edges = ((base + np.arange(1, half)) << (23 - man_bits)).astype(np.int32).view(np.float32).astype(np.float64)
        inner, outer = np.append(0.0, edges * (1 - MARGIN)), np.append(edges * (1 + MARGIN), np.inf)
        lows, highs = (inner, outer) if table.symmetric else (np.append(inner, -outer), np.append(outer, -inner))
        guess = np.searchsorted(borders, lows, side="left")
        if (np.searchsorted(borders, highs, side="right") - guess <= 1).all():
            strict = [table.ties == "down" or (table.ties == "even" and i % 2 == 0) for i in range(borders.size)]
            return Guide(guess.astype(np.uint8), np.append(borders, np.inf), np.array([*strict, 0], np.uint8),
                         23 - man_bits, base, half)  # fmt: skip
    raise ValueError(f"element {table.name!r}: borders lie closer than 2**-12 of themselves")


@njit(cache=True)
def least_float32(borders, strict, step, out):
    """Store the bits of the least float32 that lies on or above each border times the step (above, where strict)."""
    for i in range(out.size):
        exact = borders[i] * step
        value = np.float32(exact)
        wide, bits = np.float64(value), bits32(value)
        up = (wide < exact) | ((wide == exact) & (strict[i] == 1))
        after = _u32(bits + _u32(1)) if bits < _u32(0x80000000) else _u32(bits - _u32(1))
        after = _u32(1) if _u32(bits & _u32(0x7FFFFFFF)) == _u32(0) else after
        out[i] = after if up else bits


@njit(cache=True)
def guess_keys(x, inverse, guide, symmetric, keys):
    """Store the bucket of each quotient of a run."""
    shift, base, last = np.int32(guide.shift), np.int32(guide.base), np.int32(guide.half - 1)
    if symmetric:
        for j in range(keys.size):
            key = (np.int32(bits32(x[j] * inverse) & _u32(0x7FFFFFFF)) >> shift) - base
            key = key if key > np.int32(0) else np.int32(0)
            keys[j] = key if key < last else last
    else:
        negative = np.int32(guide.half)
        for j in range(keys.size):
            bits = bits32(x[j] * inverse)
            key = (np.int32(bits & _u32(0x7FFFFFFF)) >> shift) - base
            key = key if key > np.int32(0) else np.int32(0)
            key = key if key < last else last
            keys[j] = key + negative if bits >= _u32(0x80000000) else key


@njit(cache=True)
def settle(x, keys, guess, least, symmetric, sign_shift, order, ascending, codes):
    """Store the codes of a run: its guesses, plus one where the next border is reached."""
    if ascending and not symmetric:  # a rank is its code
        for j in range(codes.size):
            rank = np.uint64(guess[np.uint64(keys[j])])
            codes[j] = rank + np.uint64(x[j] >= least[rank])
    elif symmetric:
        for j in range(codes.size):
            rank = np.uint64(guess[np.uint64(keys[j])])
            rank += np.uint64(abs(x[j]) >= least[rank])
            codes[j] = _u32(order[rank] | _u32(_u32(bits32(x[j]) >> _u32(31)) << sign_shift))
    else:
        for j in range(codes.size):
            rank = np.uint64(guess[np.uint64(keys[j])])
            codes[j] = order[rank + np.uint64(x[j] >= least[rank])]


@njit(cache=True)
def guided_blocks(x, block, steps, guide, symmetric, bits, order, done, codes):
    """Encode blocks to a table of up to 256 levels; `done` is cleared for those that are left to the general loop.

    The guess comes from a float32 quotient, which needs a step within 2**-100 .. 2**100; the comparison that settles it
    is exact for any step whose products with the borders are.
    """
    keys, reached = np.empty(RUN, np.int32), np.empty(guide.borders.size, np.uint32)
    sign_shift, ascending = _u32(bits - 1), True
    for rank in range(order.size):
        ascending = ascending and order[rank] == rank
    for i in range(steps.size):
        if not 2.0**-100 <= steps[i] <= 2.0**100:
            done[i] = 0
            continue
        least_float32(guide.borders, guide.strict, steps[i], reached)
        for start in range(i * block, (i + 1) * block, RUN):
            end = min(start + RUN, (i + 1) * block)
            run, out, here = x[start:end], codes[start:end], keys[: end - start]
            guess_keys(run, np.float32(1.0 / steps[i]), guide, symmetric, here)
            settle(run, here, guide.guess, reached.view(np.float32), symmetric, sign_shift, order, ascending, out)

# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of two-way choices: a block is quantised in two ways, and the one of the smaller error is kept.

Loops run over all elements of a piece at once: a block alone is too short for the vector units.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import CHUNK, bits64, from_bits32, power_of_two
from hwsim.formats.families._block_kernels import (
    FLOAT,
    block_tops,
    float_scales,
    quotient_blocks,
    snapped,
    zero_code,
)

_u32 = np.uint32
RUN = 1 << 11
"""Elements that are chosen for together; with their scratch they stay in the nearest caches."""
CRITERIA = ("mse", "mae", "max_abs")
MSE, MAE, MAX_ABS = range(3)


@njit(cache=True)
def way_errors(x, block, steps, inverses, common, element, criterion, errors):
    """Store the errors of all elements, times `common`, under a step each: squared, or as magnitudes.

    An element is rounded half to even, and saturates, by adding ``1.5 * 2**52`` of its distances between neighbours:
    those of a minifloat grow with its power of two, those of an integer do not. A quotient that lies on the border
    between two codes may come out on either side: both are equally far.
    """
    is_float = element.kind == FLOAT
    least = power_of_two(1 - element.bias) if is_float else 1.0
    shift = power_of_two(52 - element.man_bits) if is_float else power_of_two(52 - element.frac_bits)
    least_magic = 1.5 * (least * shift)
    growth = 1.5 * shift if is_float else 0.0
    limit = element.max_value
    squared = criterion == MSE
    for i in range(steps.size):
        step, inverse = steps[i], inverses[i]
        run, here = x[i * block : (i + 1) * block], errors[i * block : (i + 1) * block]
        for j in range(here.size):
            value = np.float64(abs(run[j]))
            magnitude = value * inverse
            magnitude = magnitude if magnitude < limit else limit
            magic = np.int64(bits64(magnitude) & 0x7FF0000000000000).view(np.float64) * growth
            magic = magic if magic > least_magic else least_magic
            error = value * common - ((magnitude + magic) - magic) * step
            here[j] = error * error if squared else abs(error)


@njit(cache=True)
def block_errors(errors, block, criterion, totals):
    """Sum the errors of each block, or take the largest: neighbours in pairs, then neighbouring sums in pairs.

    Where a number of sums is odd, the last is carried on. Works in place.
    """
    largest = criterion == MAX_ABS
    if block & (block - 1) == 0:
        width = errors.size
        while width > totals.size:
            width //= 2
            if largest:
                for j in range(width):
                    low, high = errors[2 * j], errors[2 * j + 1]
                    errors[j] = low if low > high else high
            else:
                for j in range(width):
                    errors[j] = errors[2 * j] + errors[2 * j + 1]
        totals[:] = errors[: totals.size]
        return
    for i in range(totals.size):
        run, width = errors[i * block : (i + 1) * block], block
        while width > 1:
            for j in range(width // 2):
                low, high = run[2 * j], run[2 * j + 1]
                run[j] = max(low, high) if largest else low + high
            if width % 2:
                run[width // 2] = run[width - 1]
            width = (width + 1) // 2
        totals[i] = run[0]


@njit(cache=True)
def encode_run(x, block, inverses, element, quick, zeros, codes):
    """Encode blocks as block formats do; an inverse of 0 gives zeros of the signs of `x`."""
    for i in range(inverses.size):
        near = inverses[i] > 2.0**-100 and inverses[i] < 2.0**100
        quick[i] = np.float32(inverses[i]) if near else np.float32(0)
    quotient_blocks(x, block, quick, inverses, zeros, element, codes)
    for i in range(inverses.size):
        if inverses[i] == 0:
            run, out = x[i * block : (i + 1) * block], codes[i * block : (i + 1) * block]
            for j in range(out.size):
                out[j] = zero_code(run[j], 0, element, codes[:0], 0)


@njit(cache=True)
def choose(x, block, first, second, factor, scale, levels, mark, criterion, outer, work, codes, scales):
    """Encode a run of blocks; `work` is float64 scratch."""
    count, size = scales.size, codes.size
    errors, tops, folds = work[:size], work[size : size + count].view(np.uint32)[:count], work[:size].view(np.uint32)
    steps, found = work[size + count : size + 2 * count], work[size + 2 * count : size + 4 * count].view(np.int64)
    inverses, totals = work[size + 4 * count : size + 6 * count], work[size + 6 * count : size + 8 * count]
    spreads = work[size + 8 * count : size + 9 * count]
    tops[:] = 0
    block_tops(x, block, folds, tops)
    for i in range(count):
        spreads[i] = np.float64(from_bits32(tops[i]))
    # 1. errors of both ways, times `factor[1]`: a factor such as 6/7 leaves them exact so
    for way in range(2):
        element, times, over = (first, 1.0, 1.0) if way == 0 else (second, factor[0], factor[1])
        part = slice(way * count, (way + 1) * count)
        float_scales(spreads, levels[way] * outer, scale, found[part], steps, outer)
        here = inverses[part]
        for i in range(count):
            here[i] = over / (steps[i] * times) if steps[i] > 0 else 0.0
            steps[i] *= times * (factor[1] / over)
        way_errors(x, block, steps, here, factor[1], element, criterion, errors)
        block_errors(errors, block, criterion, totals[part])
    # 2. the choice
    kept, others = inverses[:count], inverses[count:]
    for i in range(count):
        better = totals[count + i] < totals[i]
        scales[i] = np.uint8(found[count + i] + mark if better else found[i])
        kept[i] = others[i] if better and mark == 0 else kept[i]
        spreads[i] = 1.0 if better and mark else 0.0
    # 3. elements; where the ways differ, both are encoded
    quick, zeros = tops.view(np.float32), totals[:count]
    zeros[:] = 0
    encode_run(x, block, kept, first, quick, zeros, codes)
    if mark:
        spare = folds.view(np.uint8)[:size]
        encode_run(x, block, others, second, quick, zeros, spare)
        for i in range(count):
            if spreads[i] > 0:
                codes[i * block : (i + 1) * block] = spare[i * block : (i + 1) * block]


@njit(cache=True, parallel=True)
def encode_choice(x, block, first, second, factor, scale, levels, mark, criterion, outer, codes, scales):
    """Encode finite float32 [rows, k]: codes [rows, k], scale codes [rows, blocks].

    `first` and `second` are the elements of the two ways, `levels` what amax is divided by for each; elements of the
    second are worth `factor[0] / factor[1]` of themselves. `mark` is added to the scale codes of blocks that take the
    second; without it, both ways have one element. `outer` is the second-level scale, float64 [1] or [rows].
    """
    rows, blocks = x.shape[0], x.shape[1] // block
    at_a_time, together = max(1, CHUNK // block), max(1, RUN // block)
    pieces = -(-blocks // at_a_time)
    for piece in prange(rows * pieces):
        row, start = piece // pieces, (piece % pieces) * at_a_time
        stop = min(start + at_a_time, blocks)
        work = np.empty(together * (block + 9))
        for index in range(start, stop, together):
            last = min(index + together, stop)
            choose(
                x[row, index * block : last * block], block, first, second, factor, scale, levels, mark, criterion,
                outer[row if outer.size > 1 else 0], work, codes[row, index * block : last * block],
                scales[row, index:last],
            )  # fmt: skip


@njit(cache=True, parallel=True)
def decode_marked(codes, tables, factor, scale_table, scales, mark, block, outer, out):
    """Decode to float32: the exact product, over `factor[1]` where the scale code holds `mark`, rounded once.

    A product of at most 36 bits by so small a number lies on a border between two float32, or further from it than
    2**-45 of itself: `snapped` leads to the right side, and so may take the reciprocal.
    """
    rows, blocks = codes.shape[0], codes.shape[1] // block
    at_a_time = max(1, CHUNK // block)
    pieces = -(-blocks // at_a_time)
    for piece in prange(rows * pieces):
        row, start = piece // pieces, (piece % pieces) * at_a_time
        above = outer[row if outer.size > 1 else 0]
        for index in range(start, min(start + at_a_time, blocks)):
            code = np.int64(scales[row, index])
            second = code >= mark
            table = tables[np.int64(second)]
            step = scale_table[code & (mark - 1)] * above * (factor[0] if second else 1.0)
            inverse = 1.0 / factor[1] if second else 1.0
            run, values = (
                codes[row, index * block : (index + 1) * block], out[row, index * block : (index + 1) * block],
            )  # fmt: skip
            for j in range(values.size):
                values[j] = np.float32(snapped(table[run[j]] * step * inverse))

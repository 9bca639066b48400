# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of shared microexponents: a block has an exponent, its sub-blocks have right-shifts below it.

Loops run over all sub-blocks or all elements of a piece at once: a block alone is too short for the vector units.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from hwsim.formats._kernels import bits32, from_bits32, magnitude_bits, power_of_two, shift_right
from hwsim.formats.families._block_kernels import INFINITY, any_blocks, block_tops

_u32 = np.uint32
PIECE = 1 << 12
"""Elements that a thread takes at a time; with their scratch they stay in the nearest caches."""
LARGEST = 230
"""Largest exponent field for which the power of two that is added to round is a float32."""


@njit(cache=True)
def doubled(values, out):
    """Repeat every entry twice."""
    for i in range(values.size):
        out[2 * i] = values[i]
        out[2 * i + 1] = values[i]


@njit(cache=True)
def spread(values, times, scratch, out):
    """Repeat every entry `times` times; `scratch` is as long as `out`."""
    if times & (times - 1) or times > 64:
        for i in range(values.size):
            run = out[i * times : (i + 1) * times]
            for j in range(run.size):
                run[j] = values[i]
        return
    source, size = values, values.size
    # the last doubling must end in `out`
    into_out = times in (2, 8, 32)
    while times > 1:
        target = out[: 2 * size] if into_out else scratch[: 2 * size]
        doubled(source, target)
        source, size, times, into_out = target, 2 * size, times // 2, not into_out
    if source.size == values.size:
        out[:] = values


@njit(cache=True)
def sub_tops(x, sub, scratch, tops):
    """Store the bits of the largest magnitude of each sub-block."""
    if sub == 2:
        for i in range(tops.size):
            low, high = magnitude_bits(x[2 * i]), magnitude_bits(x[2 * i + 1])
            tops[i] = low if low > high else high
        return
    tops[:] = 0
    block_tops(x, sub, scratch, tops)


@njit(cache=True)
def halved(bits, times):
    """Return the bits of a power of two, halved some times; what lies below float32 is 0."""
    for _ in range(times):
        bits = _u32(bits - _u32(1 << 23)) if bits >= _u32(2 << 23) else _u32(bits >> _u32(1))
    return bits


@njit(cache=True)
def sub_shifts(tops, powers, most, shifts):
    """Store by how much the exponent of each sub-block lies below that of its block, at most `most`.

    `powers` are the bits of 2**exponent of the blocks, 0 for blocks of zeros, which have no shifts.
    """
    for i in range(shifts.size):
        shifts[i] = tops[i] < powers[i]
    for step in range(1, most):
        for i in range(shifts.size):
            shifts[i] = np.uint8(shifts[i] + np.uint8(tops[i] < halved(powers[i], step)))


@njit(cache=True)
def rounded_elements(x, magic, element, codes):
    """Round half to even to sign and magnitude, saturating.

    A power of two whose last place is the step is added to the magnitude: its last bits are then the number of steps.
    """
    most, sign_shift, sign = _u32(element.max_code), _u32(32 - element.bits), _u32(1 << (element.bits - 1))
    for j in range(codes.size):
        code = _u32(bits32(abs(x[j]) + from_bits32(magic[j])) - magic[j])
        code = code if code < most else most
        codes[j] = _u32(code | _u32(shift_right(bits32(x[j]), sign_shift) & sign))


@njit(cache=True)
def other_elements(x, first, sub, powers, shifts, element, codes):
    """Encode element by element what `rounded_elements` does not serve: rounding modes, the ends of the exponents."""
    none, order = np.empty(0), np.empty(0, np.uint8)
    steps, zeros, done = np.empty(shifts.size), np.zeros(shifts.size), np.empty(shifts.size, np.uint8)
    for i in range(shifts.size):
        steps[i] = np.float64(from_bits32(powers[i])) * power_of_two(-np.int64(shifts[i]))
        field = powers[i] >> _u32(23)
        done[i] = element.fast == 1 and field <= LARGEST and (field > 0 or powers[i] == 0)
    any_blocks(x, first, sub, steps, zeros, done, element, none, order, 0, codes)


@njit(cache=True, parallel=True)
def encode_micro(x, block, sub, most, element, codes, scales, shifts, bad):
    """Encode float32 [rows, k]: codes [rows, k], exponent fields [rows, blocks], shifts [rows, k // sub].

    `most` is the largest shift. `bad` uint8 [rows] marks rows that hold NaN or Inf.
    """
    rows, blocks, within = x.shape[0], x.shape[1] // block, block // sub
    at_a_time = max(1, PIECE // block)
    pieces = -(-blocks // at_a_time)
    for piece in prange(rows * pieces):
        row, index = piece // pieces, (piece % pieces) * at_a_time
        count = min(at_a_time, blocks - index)
        start, subs, size = index * block, count * within, count * block
        run, out = x[row, start : start + size], codes[row, start : start + size]
        fields, moved = scales[row, index : index + count], shifts[row, index * within : index * within + subs]
        scratch = np.empty(count + 2 * subs + 2 * size, np.uint32)
        heads, tops, powers = scratch[:count], scratch[count : count + subs], scratch[count + subs : count + 2 * subs]
        magic, spare = scratch[count + 2 * subs : count + 2 * subs + size], scratch[count + 2 * subs + size :]
        # 1. largest magnitudes of sub-blocks and blocks
        sub_tops(run, sub, spare, tops)
        heads[:] = 0
        block_tops(tops.view(np.float32), within, spare, heads)
        highest, low = _u32(0), _u32(0)
        for i in range(count):
            highest = heads[i] if heads[i] > highest else highest
            low += _u32(_u32(heads[i] - _u32(1)) < _u32(0x7FFFFF))
        if highest >= _u32(INFINITY):
            bad[row] = 1
            continue
        # 2. exponents: the field of the largest magnitude, 0 standing for -127 and all below
        for i in range(count):
            fields[i] = heads[i] >> _u32(23)
            heads[i] = heads[i] & _u32(INFINITY)
        if low:
            for i in range(count):
                zeros = tops[i * within : (i + 1) * within].max() == 0
                heads[i] = _u32(1 << 22) if heads[i] == 0 and not zeros else heads[i]
        spread(heads, within, spare[:subs], powers)
        # 3. shifts and elements
        sub_shifts(tops, powers, most, moved)
        lift = _u32((23 - element.man_bits) << 23)
        for i in range(subs):
            tops[i] = _u32(powers[i] + lift) - _u32(_u32(moved[i]) << _u32(23))
        if element.fast:
            spread(tops, sub, spare, magic)
            rounded_elements(run, magic, element, out)
        if low or not element.fast or (highest >> _u32(23)) > LARGEST:
            other_elements(run, row * x.shape[1] + start, sub, powers, moved, element, out)


@njit(cache=True, parallel=True)
def decode_micro(codes, scales, shifts, block, sub, bits, out):
    """Decode to float32: the product of an integer and a power of two, which is exact. Exponent field 255 is NaN."""
    rows, blocks, within = codes.shape[0], codes.shape[1] // block, block // sub
    at_a_time = max(1, PIECE // block)
    pieces = -(-blocks // at_a_time)
    mask, to_top, top = _u32((1 << (bits - 1)) - 1), _u32(32 - bits), _u32(1 << 31)
    for piece in prange(rows * pieces):
        row, index = piece // pieces, (piece % pieces) * at_a_time
        count = min(at_a_time, blocks - index)
        start, subs, size = index * block, count * within, count * block
        run, values = codes[row, start : start + size], out[row, start : start + size]
        moved = shifts[row, index * within : index * within + subs]
        scratch = np.empty(count + subs + 2 * size, np.float32)
        heads, steps = scratch[:count], scratch[count : count + subs]
        wide, spare = scratch[count + subs : count + subs + size], scratch[count + subs + size :]
        for i in range(count):
            field = np.int64(scales[row, index + i])
            heads[i] = np.float32(power_of_two(field - 125 - bits)) if field < 255 else np.float32(np.nan)
        spread(heads, within, spare[:subs], steps)
        for i in range(subs):
            steps[i] *= from_bits32(_u32(_u32(127 - moved[i]) << _u32(23)))
        spread(steps, sub, spare, wide)
        for j in range(values.size):
            code = _u32(run[j])
            magnitude = np.float32(np.int32(code & mask)) * wide[j]
            values[j] = from_bits32(bits32(magnitude) | _u32(_u32(code << to_top) & top))

# mypy: ignore-errors
# Numba infers the types here; NumPy's stubs do not describe scalars in compiled code.
"""Numba kernels of `_dot_gemm` for exact block sums that float64 holds but whose product with a scale it does not.

Sums come from the machine's float64 matrix units (`add_blocks`), or are formed here one output at a time (`dots`), with
NaN and Inf as IEEE 754 has them.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from hwsim.pe._accumulate_kernels import CHUNK, of_bits
from hwsim.pe._kernels import bits_of, fma, scale_result


@njit(cache=True, inline="always")
def sum_to_odd(x: float, y: float) -> float:
    """Return x + y rounded to odd (both finite), as `to_odd` without a branch, so that loops over it use vectors."""
    total = x + y
    back = total - x
    lost = (x - (total - back)) + (y - back)
    bits = bits_of(total)
    # one up or down where something was lost and the last bit is even: away from zero if the lost part has its sign
    step = ((bits_of(lost) ^ bits) >> np.int64(63)) | np.int64(1)
    even = (bits & np.int64(1)) - np.int64(1)
    return of_bits(bits + (step & even if lost != 0.0 else np.int64(0)))


@njit(cache=True, inline="always")
def add_scaled(accumulator: np.float32, block_sum: float, scale: float) -> np.float32:
    """Return RNE_float32(accumulator + block_sum * scale) with one rounding.

    The product is high + low, exactly. What accumulator + high loses and low are added to odd, and that to the sum, to
    odd: as the fused multiply-add of S. Boldo and G. Melquiond (Emulation of a FMA and correctly rounded sums: proved
    algorithms using rounding to odd, IEEE Transactions on Computers, 2008), but for the last step, whose 53 bits to odd
    round to float32 as the exact sum does.
    """
    running, high = np.float64(accumulator), block_sum * scale
    total = running + high
    low = fma(block_sum, scale, -high)
    back = total - running
    lost = (running - (total - back)) + (high - back)
    exact = sum_to_odd(total, sum_to_odd(lost, low)) + 0.0
    return np.float32(exact if abs(total) < np.inf else total)


@njit(cache=True, parallel=True)
def add_blocks(
    sums: NDArray[np.float64], a_sums: NDArray[np.float64], a_scales: NDArray[np.float64],
    b_scales: NDArray[np.float64], b_zeros: NDArray[np.float64], first: int, out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Add one block's sums [M, columns], less zero points times a_sums and scaled, to out[:, first : first + columns].

    `a_sums` and `a_scales` [M], `b_scales` and `b_zeros` [columns].
    """
    for i in prange(sums.shape[0]):
        row, total = sums[i], out[i, first : first + sums.shape[1]]
        a_sum, a_scale = a_sums[i], a_scales[i]
        for n in range(row.size):
            total[n] = add_scaled(total[n], row[n] - b_zeros[n] * a_sum, a_scale * b_scales[n])


@njit(cache=True, parallel=True)
def dots(
    a: NDArray[np.uint16], b: NDArray[np.uint16], a_table: NDArray[np.float64], b_table: NDArray[np.float64],
    a_scales: NDArray[np.float64], b_scales: NDArray[np.float64], b_zeros: NDArray[np.float64], has_zeros: bool,
    block: int, paired: bool, a_out: NDArray[np.float32], b_out: NDArray[np.float32], out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fill `out` [M, N] with dot products, one output at a time; [M, 1] when rows are paired."""
    columns = out.shape[1]
    chunks = -(-columns // CHUNK)
    for task in prange(out.shape[0] * chunks):
        i = task // chunks
        for n in range(task % chunks * CHUNK, min((task % chunks + 1) * CHUNK, columns)):
            j = i if paired else n
            total = np.float32(0)
            for index in range(a_scales.shape[1]):
                block_sum = a_sum = 0.0
                for k in range(index * block, (index + 1) * block):
                    x = a_table[a[i, k]]
                    block_sum += x * b_table[b[j, k]]
                    a_sum += x
                if has_zeros:  # an infinity among the activations meets itself here, or a zero point of 0
                    block_sum -= b_zeros[j, index] * a_sum
                total = add_scaled(total, block_sum, a_scales[i, index] * b_scales[j, index])
            out[i, n] = scale_result(total, a_out[i], b_out[j])


@njit(cache=True)
def finish(a_out: NDArray[np.float32], b_out: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Scale results [M, N] by row and by column, in place, and make every NaN the canonical one."""
    for i in range(out.shape[0]):
        for n in range(out.shape[1]):
            out[i, n] = scale_result(out[i, n], a_out[i], b_out[n])

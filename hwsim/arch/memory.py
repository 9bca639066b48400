"""Traffic between DRAM, buffers and array, and the names of the actions it is charged as."""

from __future__ import annotations

SRAM_WORD_BITS = 64
"""Buffers are charged in words of this width, that of the published read energies."""


def sram_action(kind: str, size_bytes: int) -> str:
    """Return the action of reading or writing one 64-bit word of a buffer of a size (`kind`: "read" or "write")."""
    return f"sram_{kind}_{SRAM_WORD_BITS}b_{size_bytes}"


def dram_action(choice: str) -> str:
    """Return the action of moving one bit to or from DRAM, for a named choice of DRAM."""
    return f"dram_bit_{choice}"


def ceil_div(value: int, by: int) -> int:
    """Divide integers, rounding up."""
    return -(-value // by)


def dram_reads_bits(weight_bits: int, act_bits: int, weight_buffer_bits: int, act_buffer_bits: int) -> tuple[int, int]:
    """Return the bits of weights and of activations that a GEMM reads from DRAM.

    An operand that fits its buffer is read once, and so is the other beside it. When neither fits, one is read once and
    the other again for each buffer load of the first, whichever moves fewer bits in all.

    Source
    ------
    BitMoD analytic simulator (HPCA 2025, github.com/abdelfattah-lab/BitMoD-HPCA-25): its rule for two operands that
    both exceed their buffers, with the buffer sizes as parameters.

    Examples
    --------
    >>> dram_reads_bits(100, 30, 50, 20)  # weights once, activations for each of two loads: 160; else 230
    (100, 60)
    """
    if weight_bits <= weight_buffer_bits or act_bits <= act_buffer_bits:
        return weight_bits, act_bits
    weights_again = weight_bits * ceil_div(act_bits, act_buffer_bits)
    acts_again = act_bits * ceil_div(weight_bits, weight_buffer_bits)
    if weights_again + act_bits <= weight_bits + acts_again:
        return weights_again, act_bits
    return weight_bits, acts_again

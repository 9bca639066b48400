"""What an action costs: tables of energies with their sources, and the energy of counted actions.

Names of actions
----------------
``mul_<a>_<b>``
    Exact product of two codes, or of a block sum (``int32``) and a scale or zero point; ``e2m1`` is `float4_e2m1fn`,
    and so on, integers before floats, narrow ones first.
``shift_to_grid_int32``
    Shift of the product of a wide float onto the grid of an exact sum, as many times as that sum has words of 32 bits.
    (E2M1 and E2M3 are small integers, which need none.)
``add_int32``
    Addition in the reduction tree or the block sum, charged at 32 bits if it is narrower; a wider one counts as many
    times as it has words of 32 bits.
``align_term``
    One term of an aligned accumulation: its part in the search for the largest exponent, its shift, its addition.
``encode_terms``
    All terms of one weight: Booth strings, or its leading ones.
``mul_block_scale_e8m0``, ``mul_block_scale_e4m3``, ``mul_block_scale_uint8``, ...
    Both block scales applied to a block sum; ``<a>_<b>`` where they differ, ``<a>_one`` where only a side has one.
``mul_mag<x>_mag<y>``
    Product of two numbers of sign and magnitude, by the bits of the magnitudes, narrow ones first.
``add_shifted_int8``, ``add_shifted_float16``
    Addition of the activation, or its significand, shifted by the place of a set bit of the weight.
``shift_to_grid_float16``
    Shift of a sum of shifted significands by the activation's exponent onto the grid of an exact sum.
``and_word``
    One word, a weight or an activation, gated by one bit of the other operand.
``count_word``
    Eight products of single bits, and their part in the tree that counts them.
``pair_terms``
    Product of two signed powers of two, and its part in the count of those of its exponent.
``mul_brick``
    Product of two numbers of two bits, and its part in the shifts and additions that make wider products of them.
``table_sum``, ``read_table``
    One entry of a table of signed sums of activations; one reading of it, under a sign.
``select_word``
    One of several activations, chosen by a bit of the other operands.
``shift_word``
    Shift of one word, a weight, to the place of one bit of the other operand.
``double_int32``
    Doubling of an integer sum, as many times as it has words of 32 bits.
``shift_sub_block``
    Shift of the sum of a sub-block's products by the microexponents of both sides.
``max_float32``, ``scale_block``, ``scale_block_ratio``
    Search of a block's largest magnitude, a value's part; the block's scale from it: a power of two, or a quotient
    under a tensor scale with the multiples of it that are borders between codes.
``round_float32``, ``compare_border``, ``round_int32``
    Rounding of a value to an element; its comparison with one border between codes, where there is no rounding;
    rounding of a 64-bit product with zero point and clamp.
``mul_float8``, ``mul_float16``, ``mul_bfloat16``
    Exact product of a floating multiply-accumulate, by its wider factor; ``mul_float32`` is that of FP32, or of an FP16
    and a BF16 factor.
``add_float16``, ``add_bfloat16``
    Accumulation in that format.
``add_float32``, ``mul_float32``
    Accumulation across blocks, and scales of rows, columns or tensors on a result.
``sram_read_64b_<bytes>``, ``sram_write_64b_<bytes>``
    One 64-bit word of a buffer of so many bytes.
``dram_bit_<choice>``
    One bit to or from DRAM.
"""

from hwsim.cost.energy import ActionEnergy, EnergyReport, energy
from hwsim.cost.table import STATUSES, Cost, CostTable, load_table, table_for, table_names

__all__ = [
    "STATUSES",
    "ActionEnergy",
    "Cost",
    "CostTable",
    "EnergyReport",
    "energy",
    "load_table",
    "table_for",
    "table_names",
]

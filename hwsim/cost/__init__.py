"""What an action costs: tables of energies with their sources, and the energy of counted actions.

Names of actions
----------------
``mul_<a>_<b>``
    Product of two codes, or of a block sum (``int32``) and a scale or zero point; ``e2m1`` is `float4_e2m1fn`, and so
    on, integers before floats, narrow ones first. A float's product includes its shift onto the grid of an exact sum.
``add_int32``
    Addition in the reduction tree or the block sum, charged at 32 bits if it is narrower; a wider one counts as many
    times as it has words of 32 bits.
``align_term``
    One term of an aligned accumulation: its part in the search for the largest exponent, its shift, its addition.
``mul_block_scale_e8m0``, ``mul_block_scale_e4m3``, ``mul_block_scale_uint8``, ...
    Both block scales applied to a block sum; ``<a>_<b>`` where they differ, ``<a>_one`` where only a side has one.
``mul_mag<x>_mag<y>``
    Product of two numbers of sign and magnitude, by the bits of the magnitudes, narrow ones first.
``shift_sub_block``
    Shift of the sum of a sub-block's products by the microexponents of both sides.
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

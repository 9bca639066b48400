"""What an action costs: tables of energies with their sources, and the energy of counted actions.

Names of actions
----------------
``mul_<a>_<b>``
    Product of two codes, or of a block sum (``int32``) and a scale or zero point; ``e2m1`` is `float4_e2m1fn`.
``add_int32``
    Addition in the reduction tree or the block sum, charged at 32 bits whatever its width.
``mul_block_scale_e8m0``, ``mul_block_scale_e4m3``
    Both block scales applied to a block sum.
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

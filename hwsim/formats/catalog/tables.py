"""Tables of values: NF4, FP4 and the dynamic map of bitsandbytes, flint of ANT."""

from __future__ import annotations

import numpy as np

from hwsim.formats.catalog.elements import FLOAT16, FLOAT32
from hwsim.formats.families.block import BlockSpec
from hwsim.formats.families.double_quant import DoubleQuantSpec
from hwsim.formats.spec import TableSpec

_BNB = "bitsandbytes (commit 95f9af3)"
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
_NF4_THRESHOLDS = (
    -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
    -0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668,
    0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011,
)  # fmt: skip
_FP4_TWELFTHS = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
_FP4_THRESHOLDS = (0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333)


def _float32(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(np.float32(value)) for value in values)


def dynamic_map(signed: bool) -> tuple[float, ...]:
    """Return the 256 values of the 8-bit dynamic map, ascending.

    Decade i = 0..6 spans ``10**(i - 7) .. 10**(i - 6)``; its values are the middles of ``2**i`` equal steps (of twice
    as many when unsigned, and both signs otherwise), and 0 and 1 complete the map.

    Exactness
    ---------
    The float32 steps of bitsandbytes' ``create_dynamic_map``: the grid of a decade is counted from its nearer end with
    one rounding a point (`torch.linspace` with fused multiply-add), its middles and their multiples are rounded each.
    """
    low, values = np.float32(0.1), [0.0, 1.0]
    for decade in range(7):
        count = 1 << (decade + int(not signed))
        step = (np.float32(1) - low) / np.float32(count)
        up = [float(low) + float(step) * j for j in range((count + 1) // 2)]
        down = [1.0 - float(step) * (count - j) for j in range((count + 1) // 2, count + 1)]
        grid = np.array(up + down, np.float32)
        means = (grid[:-1] + grid[1:]) / np.float32(2) * np.float32(10.0 ** (decade - 6))
        values += [float(mean) for mean in means]
        if signed:
            values += [-float(mean) for mean in means]
    return tuple(sorted(values))


NF4 = TableSpec(
    "nf4",
    4,
    _NF4,
    f"{_BNB}: functional.py (values), csrc/kernels.cu dQuantizeNF4 (thresholds, strict >); QLoRA, appendix E",
    thresholds=_float32(_NF4_THRESHOLDS),
    ties="down",
    witnesses=("bitsandbytes", "published values"),
    generator="nf4",
)
NF4_MIDPOINTS = TableSpec(
    "nf4_midpoints",
    4,
    _NF4,
    f"{_BNB}: functional.py; thresholds are the exact midpoints",
    ties="down",
    witnesses=("published values",),
    generator="nf4",
)
FP4_BNB = TableSpec(
    "fp4_bnb",
    4,
    _float32(tuple(value / 12 for value in _FP4_TWELFTHS)),
    f"{_BNB}: functional.py (values), csrc/kernels.cu dQuantizeFP4 (thresholds, strict >); not E2M1",
    symmetric=True,
    thresholds=_float32(_FP4_THRESHOLDS),
    ties="down",
    witnesses=("bitsandbytes", "published values"),
)
DYNAMIC8 = TableSpec(
    "dynamic8",
    8,
    dynamic_map(signed=True),
    f"{_BNB}: functional.py create_dynamic_map(signed=True); thresholds are the exact midpoints",
    ties="down",
    witnesses=("bitsandbytes", "published values"),
    generator="dynamic8",
)
DYNAMIC8_UNSIGNED = TableSpec(
    "dynamic8_unsigned",
    8,
    dynamic_map(signed=False),
    f"{_BNB}: functional.py create_dynamic_map(signed=False); thresholds are the exact midpoints",
    ties="down",
    witnesses=("bitsandbytes", "published values"),
    generator="dynamic8",
)
FLINT4 = TableSpec(
    "flint4",
    4,
    (0.0, 1.0, 2.0, 3.0, 16.0, 8.0, 4.0, 6.0, None, -1.0, -2.0, -3.0, -16.0, -8.0, -4.0, -6.0),
    "ANT (MICRO 2022), clevercool/ANT-Quantization: antquant/quant_modules.py flint_value (values in units of 1/4), "
    "quant/quant_kernel.cu (the last of equally near levels: ties toward +inf); the order "
    "of the codes is that of the paper's first-one encoding, below a sign bit",
    ties="up",
    witnesses=("published values",),
)


def _blocks(name: str, element: TableSpec, block_size: int, source: str) -> BlockSpec:
    return BlockSpec(
        name=name,
        element=element,
        scale=FLOAT32,
        block_size=block_size,
        scale_rule="amax",
        nibble_order="high_first" if element.bits == 4 else "low_first",
        source=source,
        witnesses=element.witnesses,
        generator=element.generator,
    )


NF4_BS64 = _blocks("nf4_bs64", NF4, 64, f"{_BNB}: functional.py quantize_4bit, absmax in FP32 a block of 64")
NF4_BS64_MIDPOINTS = _blocks("nf4_bs64_midpoints", NF4_MIDPOINTS, 64, f"{_BNB}: as nf4_bs64, thresholds at midpoints")
FP4_BNB_BS64 = _blocks("fp4_bnb", FP4_BNB, 64, f"{_BNB}: functional.py quantize_4bit, absmax in FP32 a block of 64")
DYNAMIC8_BS256 = _blocks("dynamic8", DYNAMIC8, 256, f"{_BNB}: functional.py quantize_blockwise, blocks of 256")
DYNAMIC8_UNSIGNED_BS256 = _blocks(
    "dynamic8_unsigned", DYNAMIC8_UNSIGNED, 256, f"{_BNB}: functional.py quantize_blockwise, blocks of 256"
)
NF4_DQ = DoubleQuantSpec(
    name="nf4_dq",
    base=NF4_BS64,
    table=DYNAMIC8,
    outer_block=256,
    source=f"{_BNB}: functional.py quantize_4bit(compress_statistics=True): absmax less its mean in the 8-bit dynamic "
    "map, blocks of 256 with FP32 absmax; QLoRA, section 3 (double quantisation)",
    witnesses=("bitsandbytes",),
    generator="nf4",
)
FLINT4_G128 = BlockSpec(
    name="flint4_g128",
    element=FLINT4,
    scale=FLOAT16,
    block_size=128,
    scale_rule="amax",
    source="flint of ANT in groups of 128, as BitMoD compares it: scale amax/16 in FP16; "
    "abdelfattah-lab/BitMoD-HPCA-25:bitmod_quant/quant_utils/quant_weight.py, FLINT4 (whose ties go down)",
    witnesses=("published values",),
    generator="flint4",
)
FLINT4_CHANNEL = BlockSpec(
    name="flint4",
    element=FLINT4,
    scale=FLOAT32,
    block_size=None,
    scale_rule="amax",
    source=f"{FLINT4.source}; scale amax/16 in FP32 a channel",
    witnesses=("published values",),
    generator="flint4",
)

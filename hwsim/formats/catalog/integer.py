"""Integer formats with a floating-point scale a row or a group."""

from hwsim.formats.catalog.elements import FLOAT16, FLOAT32, INT4, INT8, UINT4
from hwsim.formats.spec import BlockSpec

INT8_ROW = BlockSpec(
    name="int8",
    element=INT8,
    scale=FLOAT32,
    block_size=None,
    scale_rule="amax",
    activation="int8",
    source="symmetric per-channel/per-token INT8: scale amax/127, codes clamped to +-127 (PyTorch, TensorRT practice)",
)
INT4_G128 = BlockSpec(
    name="int4_g128",
    element=INT4,
    scale=FLOAT16,
    block_size=128,
    scale_rule="amax",
    activation="int8",
    source="symmetric group-wise INT4, FP16 scale amax/7, codes clamped to +-7 (GPTQ/AWQ checkpoint practice)",
)
INT4_G128_ASYM = BlockSpec(
    name="int4_g128_asym",
    element=UINT4,
    scale=FLOAT16,
    block_size=128,
    scale_rule="range",
    zero_point="include_zero",
    activation="int8",
    source="asymmetric group-wise INT4: s=(max-min)/15, z=round(-min/s), q=clamp(round(x/s)+z, 0, 15); "
    "BitMoD bitmod_quant/quant_utils/quant_weight.py, with the range widened to hold 0",
)

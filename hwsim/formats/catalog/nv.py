"""NVIDIA block formats: blocks of 16 with an FP8 scale under an FP32 tensor scale, in the recipes that tools use."""

from dataclasses import replace

from hwsim.formats.catalog.elements import FLOAT4_E2M1FN, FLOAT8_E4M3FN, INT4
from hwsim.formats.families.block import BlockSpec

NVFP4 = BlockSpec(
    name="nvfp4",
    element=FLOAT4_E2M1FN,
    scale=FLOAT8_E4M3FN,
    block_size=16,
    scale_rule="amax",
    tensor_scale="float32",
    scale_cap=448.0,
    activation="nvfp4",
    source="NVFP4 by division: g=amax_T/(448*6), d=RNE_E4M3(min(amax_b/6/g, 448)), q=RNE_E2M1(x/(d*g)), no floor; "
    "torchao mx_formats/nvfp4_tensor.py and TensorRT Model Optimizer practice",
)
NVFP4_TORCHAO = replace(
    NVFP4,
    name="nvfp4_torchao",
    scale_floor=2.0**-6,
    quotient="fp32_inverse",
    activation=None,
    source="torchao mx_formats/nvfp4_tensor.py: block scale clamped to [2**-6, 448], elements times fp32((1/g)/d)",
)
NVFP4_MODELOPT = replace(
    NVFP4,
    name="nvfp4_modelopt",
    scale_floor=2.0**-9,
    zero_block="one",
    activation=None,
    source="TensorRT Model Optimizer quantization/qtensor/nvfp4_tensor.py: block scale at least 2**-9, 1 for zeros",
)
NVFP4_TILES = replace(
    NVFP4,
    name="nvfp4_16x16",
    block_size=(16, 16),
    activation=None,
    source="NVFP4 with weights in tiles of 16 x 16 (NVIDIA, Pretraining LLMs with NVFP4, arXiv 2509.25149)",
)
NVINT4 = replace(
    NVFP4,
    name="nvint4",
    element=INT4,
    activation=None,
    source="NVINT4 (INT-vs-FP, arXiv 2510.25602): as NVFP4 with integer codes within +-7, g=amax_T/(448*7)",
)

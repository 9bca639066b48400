"""NVIDIA block formats: blocks of 16 with an FP8 scale under an FP32 tensor scale."""

from hwsim.formats.catalog.elements import FLOAT4_E2M1FN, FLOAT8_E4M3FN
from hwsim.formats.spec import BlockSpec

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

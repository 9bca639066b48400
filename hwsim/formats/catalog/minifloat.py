"""Small floats under a floating-point scale."""

from hwsim.formats.catalog.elements import FLOAT4_E2M1FN, FLOAT6_E3M2FN, FLOAT8_E4M3FN, FLOAT8_E5M2, FLOAT16, FLOAT32
from hwsim.formats.families.block import BlockSpec

LLM_FP4 = BlockSpec(
    name="llm_fp4",
    element=FLOAT4_E2M1FN,
    scale=FLOAT32,
    scale_rule="amax",
    source="LLM-FP4 (nbasyl/LLM-FP4 quant_layers/fp_linear.py): E2M1 whose real-valued bias makes the largest value "
    "amax, which is one real scale a channel",
)
FP8_E4M3_ROW = BlockSpec(
    name="fp8_e4m3_row",
    element=FLOAT8_E4M3FN,
    scale=FLOAT32,
    scale_rule="amax",
    source="FP8 per channel or token: scale amax/448 (vLLM, TensorRT-LLM practice)",
    generator="fp8_row",
)
FP8_E5M2_ROW = BlockSpec(
    name="fp8_e5m2_row",
    element=FLOAT8_E5M2,
    scale=FLOAT32,
    scale_rule="amax",
    source="FP8 per channel or token: scale amax/57344 (gradients in FP8 training, arXiv 2209.05433)",
    generator="fp8_row",
)
FP8_G128 = BlockSpec(
    name="fp8_e4m3_g128",
    element=FLOAT8_E4M3FN,
    scale=FLOAT32,
    block_size=128,
    scale_rule="amax",
    source="DeepSeek-V3 technical report (arXiv 2412.19437), section 3.3.2: activations, tiles of 1 x 128, FP32 scale",
)
FP8_TILES = BlockSpec(
    name="fp8_e4m3_128x128",
    element=FLOAT8_E4M3FN,
    scale=FLOAT32,
    block_size=(128, 128),
    scale_rule="amax",
    source="DeepSeek-V3 technical report (arXiv 2412.19437), section 3.3.2: weights in blocks of 128 x 128, FP32 scale",
)
FP6_LLM = BlockSpec(
    name="fp6_llm",
    element=FLOAT6_E3M2FN,
    scale=FLOAT16,
    scale_rule="amax",
    source="FP6-LLM (H. Xia et al., USENIX ATC 2024, arXiv 2401.14112): E3M2 with an FP16 scale a channel",
)

"""NVIDIA block formats: blocks of 16 with an FP8 scale under an FP32 tensor scale, in the recipes that tools use."""

from dataclasses import replace

from hwsim.formats.catalog.elements import FLOAT4_E2M1FN, FLOAT8_E4M3FN, INT4
from hwsim.formats.families.block import BlockSpec
from hwsim.formats.families.choice import ChoiceSpec

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
    activation="nvint4",
    source="NVINT4 (INT-vs-FP, arXiv 2510.25602): as NVFP4 with integer codes within +-7, g=amax_T/(448*7)",
)

_FOUROVERSIX = "Four Over Six (arXiv 2512.02010), mit-han-lab/fouroversix:src/fouroversix/quantize/pytorch/reference.py"
NVFP4_46 = ChoiceSpec(
    name="nvfp4_46",
    base=replace(
        NVFP4,
        name="nvfp4_cap256",
        scale_cap=256.0,
        activation=None,
        source="the first way of four-over-six: NVFP4 with g=amax_T/(256*6)",
    ),
    other=FLOAT4_E2M1FN,
    other_level=4.0,
    source=f"{_FOUROVERSIX}, select_fouroversix: g=amax_T/(6*256), scales E4M3(amax_b/6/g) or E4M3(1.5*amax_b/6/g), "
    "the second where its square error is strictly smaller; here without that file's float32 steps",
    witnesses=("fouroversix",),
)
NVFP4_STATIC6 = replace(
    NVFP4,
    name="nvfp4_static6",
    activation=None,
    source=f"{_FOUROVERSIX}, scale rule static_6: cap 448 and scales amax_b/6/g alone, the same numbers as nvfp4",
    witnesses=("fouroversix",),
)
IF4 = ChoiceSpec(
    name="if4",
    base=replace(NVFP4, activation=None),
    other=INT4,
    other_factor=(6, 7),
    selector="scale_sign",
    source=f"IF4, {_FOUROVERSIX}, select_intfloat: one scale E4M3(amax_b/6/g), g=amax_T/(6*448); integers within +-7, "
    "worth 6/7 each, where their square error is strictly smaller, told by the sign bit of the scale; of equal errors "
    "FP4 wins, where that file's float32 steps may take either",
    witnesses=("fouroversix",),
)

"""Ternary and binary formats."""

from hwsim.formats.families.ternary import TernarySpec
from hwsim.formats.trits import TritPacking

_BITNET = "microsoft/BitNet:src/ggml-bitnet-mad.cpp, quantize_i2_s"
_PACKED: tuple[tuple[TritPacking, str, tuple[str, ...]], ...] = (
    ("i2_s_avx", f"{_BITNET}, ACT_PARALLEL", ()),
    ("i2_s_neon", f"{_BITNET}, ARM NEON", ()),
    ("five_in_eight", "1.6 bits a trit, bytes as in ggml:src/ggml-quants.c TQ1_0", ("gguf",)),
)

B158 = TernarySpec(
    name="b158",
    scale_floor=1e-5,
    source="BitNet b1.58 (arXiv 2402.17764), section 2; microsoft/BitNet:utils/preprocess-huggingface-bitnet.py, "
    "quant_weight_fp16: scale mean(abs(W)) of the whole tensor, at least 1e-5, codes clamp(round(W/scale), -1, 1)",
    witnesses=("torch",),
    generator="b158",
)
B158_PACKED = tuple(
    TernarySpec(
        name=f"b158_{packing}",
        scale_floor=1e-5,
        packing=packing,
        source=f"as b158; {source}",
        witnesses=witnesses,
        generator="b158",
    )
    for packing, source, witnesses in _PACKED
)
B158_MEDIAN = TernarySpec(
    name="b158_median",
    statistic="absmedian",
    scale_floor=1e-5,
    source="BitNet b1.58 Reloaded (arXiv 2407.09527), section 3; schneiderkamplab/bitlinear:bitlinear/measures.py "
    "AbsMedian (torch.median: the lower one), bitlinear.py, eps 1e-5",
    witnesses=("torch",),
    generator="b158",
)
TWN = TernarySpec(
    name="twn",
    rule="twn",
    source="Ternary Weight Networks (arXiv 1605.04711), equations 3 to 6: threshold 0.7 mean(abs(W)), scale the mean "
    "magnitude above it, a scale a layer",
    generator="twn",
)
TWN_G128 = TernarySpec(
    name="twn_g128",
    rule="twn",
    scope="group",
    block_size=128,
    scale_format="float16",
    source="the rule of Ternary Weight Networks (arXiv 1605.04711) for groups of 128, FP16 scale",
    generator="twn",
)
BINARY_ROW = TernarySpec(
    name="binary_row",
    levels="binary",
    rule="sign",
    scope="row",
    source="XNOR-Net (arXiv 1603.05279), section 3.1, Binary-Weight-Networks: sign(W) with +1 for zero, scale "
    "mean(abs(W)) of each filter",
    witnesses=("torch",),
    generator="binary",
)
BINARY_G128 = TernarySpec(
    name="binary_g128",
    levels="binary",
    rule="sign",
    scope="group",
    block_size=128,
    scale_format="float16",
    source="the rule of XNOR-Net (arXiv 1603.05279), section 3.1, for groups of 128, FP16 scale",
    generator="binary",
)

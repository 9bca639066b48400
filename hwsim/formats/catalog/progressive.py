"""Progressive formats: 4-bit weights that become INT8 before the matrix unit."""

from hwsim.formats.catalog.elements import BFLOAT16, FLOAT16
from hwsim.formats.families.progressive import ProgressiveSpec

QSERVE_W4_G128 = ProgressiveSpec(
    name="qserve_w4_g128",
    scale=FLOAT16,
    zeros="neg_product",
    source="QServe (MLSys 2025, arXiv 2405.04532), section 4.1, progressive group quantisation with the protective "
    "range +-119; zero inside the range of a group and scales of at least 1 as in mit-han-lab/deepcompressor:"
    "deepcompressor/data/range.py; -z * s as stored by mit-han-lab/omniserve:omniserve/modeling/layers/"
    "quantized_linear/w4a8_linear.py, which asserts -128 .. 127 only. Codes are left in row-major order, without the "
    "kernel's interleaving",
    witnesses=("torch", "published values"),
    generator="qserve_w4",
)
DGQ_W4_G128 = ProgressiveSpec(
    name="dgq_w4_g128",
    scale=BFLOAT16,
    limit=127,
    second_level="values",
    code_clamp="int8_safe",
    scale_max=127,
    nibble_order="high_first",
    source="DGQ (arXiv 2310.04836), ilur98/DGQ:dgq/quant/quantizer_helper.py searchquant (s8 = r * amax / 127, "
    "s4 = max(1, round(s / s8)), codes within z +- floor(127 / s4)), quant_linear.py packW4W8 (s8 in BF16, first code "
    "in the high nibble); both ratios that it searches are 1 here, group scales before rounding are exact instead of "
    "BF16, and ours is the range widened to hold 0, so that z is a code",
    witnesses=("torch",),
    generator="dgq_w4",
)

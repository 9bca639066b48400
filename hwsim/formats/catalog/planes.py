"""Formats that are sums of scaled planes."""

from hwsim.formats.families.planes import BitPlaneSpec, DualBinarySpec, PartlyBinarySpec, TritPlaneSpec

PTQTP_G128 = TritPlaneSpec(
    name="ptqtp_g128",
    block_size=128,
    source="PTQTP (arXiv 2509.16989), algorithm 1, groups of 128; start, order of ties and float16 scales with trits "
    "solved again as in matteo-grella/fucina:docs/PTQTP.md, src/ptqtp.zig (solver there in float32 and float64)",
    generator="ptqtp",
)
DBLLM_FDB_G64 = DualBinarySpec(
    name="dbllm_fdb_g64",
    block_size=64,
    source="DB-LLM (arXiv 2402.11960), section 3.1, flexible dual binarisation at its initial scales; sign of the "
    "second threshold as in the grouped path of the public third-party FlexibleDualBinarizer",
    witnesses=("torch",),
    generator="dbllm_fdb",
)
_ABQ = (
    "ABQ-LLM (arXiv 2408.08554); bytedance/ABQ-LLM:algorithm/quantize/quantizer.py UniformAffineQuantizer, "
    "engine/common/pack.cu; scales stored as float16"
)
ABQ_W2_BALANCE_G128 = BitPlaneSpec(
    name="abq_w2_balance_g128",
    block_size=128,
    bits=2,
    balance="extra_level",
    scale_floor=1e-5,
    scale_cap=1e4,
    source=f"{_ABQ}; bit balance: codes 0 .. 4, scale (max - min) / 4",
    witnesses=("torch",),
    generator="abq",
)
ABQ = tuple(
    BitPlaneSpec(
        name=f"abq_w{bits}_g128",
        block_size=128,
        bits=bits,
        scale_floor=1e-5,
        scale_cap=1e4,
        source=_ABQ,
        witnesses=("torch",),
        generator="abq",
    )
    for bits in (3, 4)
)
BIPOLAR = tuple(
    BitPlaneSpec(
        name=f"bipolar_int{bits}_g128",
        block_size=128,
        bits=bits,
        numbers="bipolar",
        source="APT-LLM (arXiv 2409.17870, 2508.19087), bipolar-INT: sum of 2**i * (2 * bit_i - 1); scale "
        "amax / (2**n - 1)",
        generator="bipolar_int",
    )
    for bits in (2, 3, 4)
)
PBLLM_10PCT_R128 = PartlyBinarySpec(
    name="pbllm_10pct_r128",
    row_group=128,
    salient_percent=10,
    source="PB-LLM (arXiv 2310.00034), with its mask structured: hahnyuan/PB-LLM:quant/outlier_column.py takes columns "
    "by their L1 norm; here the 10 % largest of each 128 rows, INT8 as in gptq_pb, the others sign(W) * mean(abs(W))",
    generator="pbllm",
)

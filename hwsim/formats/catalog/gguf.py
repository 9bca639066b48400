"""Block types of GGUF files."""

from hwsim.formats.families.gguf import GgufSpec

_GGML = "ggml-org/llama.cpp:ggml/src/ggml-quants.c"
_LAYOUT = "layout: ggml/src/ggml-common.h, gguf-py quants.py"


def _gguf(block_type: str, function: str, rule: str, generator: str = "") -> GgufSpec:
    return GgufSpec(
        name=f"gguf_{block_type}",
        block_type=block_type,
        source=f"{_GGML}, {function}: {rule}; {_LAYOUT}",
        witnesses=("gguf",),
        generator=generator,
    )


_SIGNED = "scale = (first element of largest magnitude) / -{}, codes trunc(x / scale + {}.5), at most {}"
_RANGED = "scale = (max - min) / {0}, codes trunc((x - min) / scale + 0.5), at most {0}"

GGUF = (
    _gguf("q4_0", "quantize_row_q4_0_ref", _SIGNED.format(8, 8, 15), "gguf_qn_0"),
    _gguf("q5_0", "quantize_row_q5_0_ref", _SIGNED.format(16, 16, 31), "gguf_qn_0"),
    _gguf("q4_1", "quantize_row_q4_1_ref", _RANGED.format(15), "gguf_qn_1"),
    _gguf("q5_1", "quantize_row_q5_1_ref", _RANGED.format(31), "gguf_qn_1"),
    _gguf("q8_0", "quantize_row_q8_0_ref", "scale = amax / 127, codes roundf(x / scale)"),
    _gguf(
        "q4_k",
        "quantize_row_q4_K_ref and make_qkx2_quants",
        "8 sub-blocks of 32 with 6-bit scales and minima; each the best of 22 scales by errors weighted with "
        "rms + abs(x), without an importance matrix",
    ),
    _gguf(
        "q6_k",
        "quantize_row_q6_K_ref and make_qx_quants",
        "16 sub-blocks of 16 with 8-bit scales; each the best of 19 scales by errors weighted with x * x, without an "
        "importance matrix",
    ),
    _gguf(
        "iq4_nl",
        "quantize_iq4_nl",
        "a table of 16 levels; the best of 16 scales by errors weighted with x * x, without an importance matrix",
    ),
    _gguf("tq1_0", "quantize_row_tq1_0_ref", "scale = amax, trits roundf(x / scale), five a byte", "gguf_tq"),
    _gguf("tq2_0", "quantize_row_tq2_0_ref", "scale = amax, trits roundf(x / scale), four a byte", "gguf_tq"),
    _gguf("mxfp4", "quantize_row_mxfp4_ref", "exponent floor(log2f(amax)) - 2, nearest level, ties toward zero"),
    _gguf("nvfp4", "quantize_row_nvfp4_ref", "UE4M3 scale amax / 6 a 16 elements, nearest level, ties toward zero"),
)

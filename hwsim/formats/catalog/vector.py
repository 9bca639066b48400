"""Formats that code several elements at once: codebooks, lattices, pyramids and trellises."""

from typing import Literal

from hwsim.formats.families.codebook import CodebookSpec
from hwsim.formats.families.lattice import E8PSpec, PyramidSpec
from hwsim.formats.families.trellis import TrellisSpec

PQ_M32_N8 = CodebookSpec(
    name="pq_m32_n8",
    vector_size=4,
    books=32,
    index_bits=(8,),
    source="MILLION (arXiv 2504.03661), product quantisation of heads of 128 elements: M = 32 subvectors, each with "
    "its own codebook of 2**8 centroids found by k-means; there float16 caches, codebooks trained offline",
    generator="pq",
)
VPTQ = tuple(
    CodebookSpec(
        name=f"vptq_v8_k{1 << bits[0]}" + (f"_{1 << bits[1]}" if len(bits) > 1 else ""),
        vector_size=8,
        index_bits=bits,
        direction="rows",
        source="VPTQ (arXiv 2409.17066); microsoft/VPTQ:vptq/utils/pack.py (merged index), vectors down the output "
        "channels; here found by plain k-means, without Hessian, permutation, or scale and bias of columns",
        witnesses=("numpy.packbits (words of merged indices)",),
        generator="vptq",
    )
    for bits in ((10,), (8, 8))
)
AQLM_2X8_G8 = CodebookSpec(
    name="aqlm_2x8_g8",
    vector_size=8,
    index_bits=(8, 8),
    row_scale="float16",
    source="AQLM (arXiv 2401.06118); Vahe1994/AQLM:inference_lib/src/aqlm/utils.py _dequantize_weight, groups 1 x 8, "
    "two codebooks of 2**8; here greedy residual k-means instead of beam search and fine-tuning",
    generator="aqlm",
)
E8P = E8PSpec(
    name="e8p",
    source="QuIP# (arXiv 2402.04396), section 4; Cornell-RelaxML/quip-sharp:lib/codebook/latticee8_padded12.py, "
    "E8P12_codebook version 1, opt_scale 1.03; there a scale of the whole matrix after a Hadamard transform",
    witnesses=("QuIP#: 227 rows of norm at most 10; E8: the squared distance between points is an even number",),
    generator="e8p",
)
PVQ = tuple(
    PyramidSpec(
        name=f"pvq_n{n}_k{k}",
        vector_size=n,
        pulses=k,
        source="T. Fischer, A Pyramid Vector Quantizer, IEEE Trans. IT-32 (1986); order of indices: "
        "xiph/opus:celt/cwrs.c icwrs, cwrsi",
        witnesses=("table of V(N,K) in celt/cwrs.c",),
        generator="pvq",
    )
    for n, k in ((8, 6), (16, 12), (32, 22))
)
_QTIP = "QTIP (arXiv 2406.11235); Cornell-RelaxML/qtip:lib/codebook/bitshift.py"
_VALUES: tuple[tuple[Literal["1mad", "3inst"], int, float], ...] = (
    ("1mad", 12, 1.0041),
    ("3inst", 12, 1.2362),
    ("1mad", 16, 1.0001),
    ("3inst", 16, 1.2437),
)
"""Functions of states, bits of a state, and the root mean square of all values."""
QTIP = tuple(
    TrellisSpec(
        name=f"qtip_{values}_l{state_bits}_2b",
        values=values,
        state_bits=state_bits,
        bits=2,
        target_rms=rms,
        source=f"{_QTIP}; blocks of 256 along the axis (there 16 x 16 tiles), scale: RMS of the row over that of the "
        "states' values (there of the whole matrix)",
        witnesses=("value of state 0 in bitshift.py",),
        generator=f"qtip_{values}",
    )
    for values, state_bits, rms in _VALUES
)

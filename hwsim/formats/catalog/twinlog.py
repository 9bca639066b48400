"""Twin-log weights of LRQ-DiT."""

from hwsim.formats.families.twinlog import TwinLogSpec

_PAPER = (
    "LRQ-DiT (arXiv 2508.03485), section 4.1: log2 of magnitudes, a step and a zero for either sign, the power split "
    "into a shift and an integer residual"
)
_OURS = (
    "ours: steps and logarithms in fixed point of 7 fraction bits, 8 fraction bits of the residual (the paper leaves I "
    "open), as many levels of either sign, and the code of a zero"
)
_OFFSETS = (0.001, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Offsets of the published search, in its order."""

TWINLOG = tuple(
    TwinLogSpec(
        name=f"twinlog_{bits}b",
        bits=bits,
        source=f"{_PAPER}; {_OURS}, and a range of the elements of that sign without clipping search",
        generator="twinlog",
    )
    for bits in (3, 4)
)
TWINLOG_SEARCH = tuple(
    TwinLogSpec(
        name=f"twinlog_{bits}b_search",
        bits=bits,
        extent="masked",
        divisor="levels",
        offsets=_OFFSETS,
        source=f"{_PAPER}; yanglianwei/LRQ-DiT:LRQ-DiT/quant_utils/qdiff/base/base_quantizer.py StaticQuantizer: the "
        "range holds the masked zeros and is divided by 2**(b - 1), and an offset is searched; there the negative side "
        "has one level more than codes have room for and zeros are masked; its clipping search, which moves nothing "
        f"while magnitudes are below 1, is left out here; {_OURS}",
        witnesses=("torch",),
        generator="twinlog",
    )
    for bits in (3, 4)
)

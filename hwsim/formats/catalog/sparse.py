"""Dense codes with outliers kept beside them, and group sparsity."""

from hwsim.formats.catalog.elements import FLOAT16
from hwsim.formats.catalog.integer import INT8_ROW, asymmetric
from hwsim.formats.catalog.tables import NF4
from hwsim.formats.families.block import BlockSpec
from hwsim.formats.families.sparse import GroupSparseSpec, SparseSpec

_SPQR = "SpQR (T. Dettmers et al., 2023, arXiv 2306.03078), algorithm 1 and section 4; Vahe1994/SpQR:spqr_engine.py"

SPQR = tuple(
    SparseSpec(
        name=f"spqr_{bits}b",
        base=asymmetric(bits, 16),
        selection="leave_one_out",
        threshold=0.2,
        source=f"{_SPQR}: asymmetric {bits}-bit groups of 16; outliers (FP16, CSR) are weights without which the error "
        "of their group falls by more than 0.2 of the mean square, here of the row and without a Hessian; scales and "
        "zero points are not compressed a second time",
        generator="spqr",
    )
    for bits in (3, 4)
)
KVQUANT_NUQ4 = SparseSpec(
    name="kvquant_nuq4",
    base=BlockSpec(
        name="nf4_row",
        element=NF4,
        scale=FLOAT16,
        scale_rule="amax",
        source="NF4 with one FP16 absmax scale a row",
    ),
    selection="fraction",
    rate=(1, 100),
    source="KVQuant (C. Hooper et al., NeurIPS 2024, arXiv 2401.18079), section 3.4, per-vector dense-and-sparse with "
    "1 % outliers (FP16, CSR): a vector is a channel of the keys or a token of the values (choose by axis); here the "
    "largest magnitudes, and NF4 in place of the calibrated nuq4 levels",
)
LLM_INT8 = SparseSpec(
    name="llm_int8",
    base=INT8_ROW,
    selection="columns",
    threshold=6.0,
    source="LLM.int8() (T. Dettmers et al., NeurIPS 2022, arXiv 2208.07339), section 3.2: feature columns with a "
    "magnitude larger than 6.0 stay FP16, the rest is INT8 with a scale a row; compare='at_least' is the test of "
    "bitsandbytes' code",
    witnesses=("torch",),
)
GQSA_W4_G16_50 = GroupSparseSpec(
    name="gqsa_w4_g16_50",
    base=asymmetric(4, 16),
    group=16,
    keep=(1, 2),
    source="GQSA (C. Zeng et al., 2024, arXiv 2412.17560), section 3: groups of 16 along rows pruned to 50 %, kept in "
    "block sparse rows with asymmetric INT4 a group; here by L2 norm, without the paper's Hessian-based saliency and "
    "tuning",
)

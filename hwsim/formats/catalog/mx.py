"""OCP microscaling (MX) formats: blocks of 32 with a power-of-two scale."""

from hwsim.formats.catalog.elements import FLOAT4_E2M1FN, FLOAT8_E8M0FNU
from hwsim.formats.spec import BlockSpec

MXFP4 = BlockSpec(
    name="mxfp4",
    element=FLOAT4_E2M1FN,
    scale=FLOAT8_E8M0FNU,
    block_size=32,
    scale_rule="floor",
    activation="mxfp4",
    source="OCP Microscaling Formats (MX) v1.0, section 5.2 table 2 and section 6.3",
    witnesses=("gfloat",),
)

"""Block floating point: a shared exponent, elements of sign and magnitude without a hidden bit."""

from hwsim.formats.catalog.elements import FLOAT8_E8M0FNU
from hwsim.formats.exmy import exmy
from hwsim.formats.families.block import BlockSpec
from hwsim.formats.spec import FloatSpec


def sign_magnitude(bits: int) -> FloatSpec:
    """Return sign and magnitude integers as the float that they are: E1M(bits - 2), whose steps are all 1."""
    return exmy(
        1, bits - 2, 3 - bits, name=f"signmag{bits}", source="sign and magnitude: (-1)**s * m", witnesses=("gfloat",)
    )


def bfp(name: str, magnitude_bits: int, box: int, source: str, generator: str = "") -> BlockSpec:
    """Return block floating point: the exponent of a box is that of its largest magnitude (8 bits)."""
    return BlockSpec(
        name=name,
        element=sign_magnitude(magnitude_bits + 1),
        scale=FLOAT8_E8M0FNU,
        block_size=box,
        scale_rule="floor",
        activation=name,
        source=source,
        generator=generator,
    )


_MSFP = (
    "Microsoft Floating Point (B. Rouhani et al., Pushing the Limits of Narrow Precision Inferencing at Cloud Scale "
    "with MSFP, NeurIPS 2020), section 3: box of 16, 8-bit exponent, {} magnitude bits; rounding unspecified, here RNE"
)
SIGN_MAGNITUDE = tuple(sign_magnitude(bits) for bits in (4, 5, 8))
MSFP12 = bfp("msfp12", 3, 16, _MSFP.format(3))
MSFP16 = bfp("msfp16", 7, 16, _MSFP.format(7))
BFP5_B32 = bfp("bfp5_b32", 4, 32, "block floating point by the rule of MSFP, 4 magnitude bits, box of 32", "bfp")

"""Shared microexponents of the ISCA 2023 paper: MX9, MX6, MX4. They are not the OCP MX formats."""

from hwsim.formats.catalog.elements import FLOAT8_E8M0FNU
from hwsim.formats.exmy import exmy
from hwsim.formats.families.microexponent import MicroExponentSpec
from hwsim.formats.spec import FloatSpec

_PAPER = (
    "B. Rouhani et al., With Shared Microexponents, A Little Shifting Goes a Long Way (ISCA 2023, arXiv 2302.08007), "
    "MX9, MX6, MX4: k1=16, k2=2, d1=8, d2=1, m={}; rounding unspecified there, here RNE as in AMD Quark 0.13, "
    "quark/torch/kernel/hw_emulation/hw_emulation_interface.py, which also flushes subnormal inputs"
)


def fixed_magnitude(magnitude_bits: int) -> FloatSpec:
    """Return sign and magnitude with one integer bit as the float that it is: E1M(magnitude_bits - 1) of bias 1."""
    return exmy(
        1,
        magnitude_bits - 1,
        1,
        name=f"signmag{magnitude_bits + 1}_q{magnitude_bits - 1}",
        source=f"sign and magnitude: (-1)**s * m / 2**{magnitude_bits - 1}",
        witnesses=("gfloat",),
    )


def micro(name: str, magnitude_bits: int) -> MicroExponentSpec:
    """Return a format of the paper by its magnitude bits; it takes two bits an element more in all."""
    return MicroExponentSpec(
        name=name,
        element=next(element for element in MAGNITUDES if element.man_bits == magnitude_bits - 1),
        scale=FLOAT8_E8M0FNU,
        activation=name,
        source=_PAPER.format(magnitude_bits),
        # Quark has no data type MX4, but its function takes the width
        witnesses=("AMD Quark",),
    )


MAGNITUDES = tuple(fixed_magnitude(bits) for bits in (2, 4, 7))
MX9 = micro("mx9", 7)
MX6 = micro("mx6", 4)
MX4 = micro("mx4", 2)

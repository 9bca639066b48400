"""OCP microscaling (MX) formats under every named scale rule: blocks of 32 with a power-of-two scale."""

from dataclasses import replace

from hwsim.formats.catalog.elements import (
    FLOAT4_E2M1FN,
    FLOAT6_E2M3FN,
    FLOAT6_E3M2FN,
    FLOAT8_E4M3FN,
    FLOAT8_E5M2,
    FLOAT8_E8M0FNU,
    INT4,
)
from hwsim.formats.families.block import BlockSpec, ScaleRule
from hwsim.formats.spec import ElementSpec, IntSpec

_OCP = "OCP Microscaling Formats (MX) v1.0, section 5.2 table 2 and section 6.3"
_RULES: dict[ScaleRule, str] = {
    "even": "torchao mx_formats/mx_tensor.py, ScaleCalculationMode.EVEN",
    "ceil": "torchao mx_formats/mx_tensor.py, ScaleCalculationMode.CEIL",
    "rceil": "torchao mx_formats/mx_tensor.py, ScaleCalculationMode.RCEIL; cuBLAS block scaling",
    "tosa": "Arm TOSA 1.0, CAST_TO_BLOCK_SCALED (pseudocode/library/numeric_conversion_helpers.tosac)",
    "away_ceil": "INT-vs-FP (manageryzy/INT_vs_FP quant/quant_func.py), 2**ceil(log2(amax / max))",
}
MXINT8_ELEMENT = IntSpec(
    "mxint8_element", 8, f"{_OCP}: two's complement with 6 fraction bits; 80h decoded as -2, never emitted",
    frac_bits=6, witnesses=("gfloat",),
)  # fmt: skip
MXINT8_FULL_ELEMENT = IntSpec(
    "mxint8_full_element", 8, f"{_OCP}: two's complement with 6 fraction bits, 80h emitted (gfloat, Arm TOSA)",
    narrow=False, frac_bits=6, witnesses=("gfloat",),
)  # fmt: skip


def mx(name: str, element: ElementSpec, activation: str | None = None) -> tuple[BlockSpec, ...]:
    """Return an MX type under every scale rule; the plain name is that of OCP's."""
    base = BlockSpec(
        name=name,
        element=element,
        scale=FLOAT8_E8M0FNU,
        block_size=32,
        scale_rule="floor",
        activation=activation,
        source=_OCP,
        witnesses=("gfloat",),
        generator=name,
    )
    others = tuple(
        replace(base, name=f"{name}_{rule}", scale_rule=rule, activation=None, source=source, witnesses=())
        for rule, source in _RULES.items()
    )
    zeros = replace(
        base,
        name=f"{name}_microxcaling",
        zero_block="microxcaling",
        rounding="rna",
        nan_policy="propagate",
        activation=None,
        source="microsoft/microxcaling mx/mx_ops.py, PyTorch path with round='nearest': the floor rule, elements "
        "nearest with ties away from zero, a block of zeros gets 2**(-126 - emax) clamped, a block with NaN or Inf is "
        "NaN; here the exponent is read from the bits and the signs of zeros are kept",
        witnesses=(),
    )
    return (base, *others, zeros)


MXFP8_E4M3 = mx("mxfp8_e4m3", FLOAT8_E4M3FN, "mxfp8_e4m3")
MXFP8_E5M2 = mx("mxfp8_e5m2", FLOAT8_E5M2, "mxfp8_e5m2")
MXFP6_E2M3 = mx("mxfp6_e2m3", FLOAT6_E2M3FN, "mxfp6_e2m3")
MXFP6_E3M2 = mx("mxfp6_e3m2", FLOAT6_E3M2FN, "mxfp6_e3m2")
MXFP4 = mx("mxfp4", FLOAT4_E2M1FN, "mxfp4")
MXINT8 = mx("mxint8", MXINT8_ELEMENT, "mxint8")
MXINT8_FULL = replace(
    MXINT8[0],
    name="mxint8_full",
    element=MXINT8_FULL_ELEMENT,
    activation=None,
    source=f"{_OCP}; 80h emitted (gfloat, TOSA)",
)
MXINT4 = (
    BlockSpec(
        name="mxint4",
        element=INT4,
        scale=FLOAT8_E8M0FNU,
        block_size=32,
        scale_rule="away_ceil",
        activation="mxint4",
        source="INT-vs-FP (manageryzy/INT_vs_FP quant/quant_func.py): X=2**ceil(log2(amax/7)), "
        "q=clamp(round(x/X),-7,7)",
        generator="mxint4",
    ),
    BlockSpec(
        name="mxint4_ocp",
        element=INT4,
        scale=FLOAT8_E8M0FNU,
        block_size=32,
        scale_rule="floor",
        source="INT-vs-FP (manageryzy/INT_vs_FP quant/quant_func.py), option ocp: X=2**(floor(log2(amax))-2)",
        generator="mxint4",
    ),
)
MXFP8_TILES = replace(
    MXFP8_E4M3[0],
    name="mxfp8_e4m3_32x32",
    block_size=(32, 32),
    activation=None,
    source=f"{_OCP}, the block taken as a tile of 32 x 32, so that a matrix and its transpose share their codes",
    witnesses=(),
    generator="mxfp8_tiles",
)

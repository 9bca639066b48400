"""Element formats: what a single code means. Each float is also a format by itself, without a scale."""

from hwsim.formats.exmy import exmy
from hwsim.formats.spec import FloatSpec, IntSpec

_OCP_MX = "OCP Microscaling Formats (MX) v1.0"
_OFP8 = "OCP 8-bit Floating Point Specification (OFP8) v1.0"
_FNUZ = "B. Noune et al., 8-bit Numerical Formats for Deep Neural Networks (arXiv 2206.02915); ml_dtypes"
_IEEE = "IEEE 754-2019, table 3.5"
_IEEE_8 = "IEEE 754 rules at 8 bits; ml_dtypes"
_TWOS = "two's complement; symmetric range as in the MXINT8 and per-channel practice of PyTorch and TensorRT"
_VF = ("gfloat", "verifloat")
_ML = ("ml_dtypes", "gfloat", "verifloat")

FLOAT4_E2M1FN = FloatSpec("float4_e2m1fn", 2, 1, 1, f"{_OCP_MX}, section 5.3.3, table 5", witnesses=_ML)
FLOAT6_E2M3FN = FloatSpec("float6_e2m3fn", 2, 3, 1, f"{_OCP_MX}, section 5.3.2, table 4", witnesses=_ML)
FLOAT6_E3M2FN = FloatSpec("float6_e3m2fn", 3, 2, 3, f"{_OCP_MX}, section 5.3.2, table 3", witnesses=_ML)
FLOAT8_E4M3FN = FloatSpec("float8_e4m3fn", 4, 3, 7, f"{_OFP8}, table 1", special="fn", witnesses=_ML)
FLOAT8_E5M2 = FloatSpec("float8_e5m2", 5, 2, 15, f"{_OFP8}, table 1", special="ieee", witnesses=(*_ML, "apytypes"))
FLOAT8_E4M3FNUZ = FloatSpec("float8_e4m3fnuz", 4, 3, 8, _FNUZ, special="fnuz", witnesses=("ml_dtypes", "gfloat"))
FLOAT8_E5M2FNUZ = FloatSpec("float8_e5m2fnuz", 5, 2, 16, _FNUZ, special="fnuz", witnesses=("ml_dtypes", "gfloat"))
FLOAT8_E4M3B11FNUZ = FloatSpec(
    "float8_e4m3b11fnuz",
    4,
    3,
    11,
    "X. Sun et al., Hybrid 8-bit Floating Point Training and Inference (NeurIPS 2019), bias 11; ml_dtypes",
    special="fnuz",
    witnesses=("ml_dtypes", "gfloat"),
)
FLOAT8_E4M3 = FloatSpec("float8_e4m3", 4, 3, 7, _IEEE_8, special="ieee", witnesses=(*_ML, "apytypes"))
FLOAT8_E3M4 = FloatSpec("float8_e3m4", 3, 4, 3, _IEEE_8, special="ieee", witnesses=(*_ML, "apytypes"))
FLOAT8_E3M4FN = FloatSpec(
    "float8_e3m4fn",
    3,
    4,
    3,
    "H. Shen et al., Efficient Post-training Quantization with FP8 Formats (arXiv 2309.14592), table 1: max 30, "
    "one NaN magnitude",
    special="fn",
    witnesses=("published values", *_VF),
)
FLOAT8_E8M0FNU = FloatSpec(
    "float8_e8m0fnu",
    8,
    0,
    127,
    f"{_OCP_MX}, section 5.4.1, table 7",
    signed=False,
    subnormals=False,
    special="all_ones",
    witnesses=_ML,
)
UFLOAT7_E4M3FN = FloatSpec(
    "ufloat7_e4m3fn",
    4,
    3,
    7,
    "UE4M3: E4M3FN without its sign (NVFP4 block scales in PTX; MMA-Sim simulator/arithmetic.py ignores bit 7)",
    signed=False,
    special="fn",
    witnesses=_ML,
)
UFLOAT8_E5M3FN = FloatSpec(
    "ufloat8_e5m3fn",
    5,
    3,
    15,
    "UE5M3 as proposed for block scales; no public standard: here FN-style, as UE4M3 (max 114688, FF is NaN)",
    signed=False,
    special="fn",
    witnesses=_VF,
)
FLOAT3_E2M0 = FloatSpec(
    "float3_e2m0",
    2,
    0,
    1,
    "ExMy by formula; equals BitMoD's basic FP3 (bitmod_quant/quant_utils/quant_weight.py)",
    witnesses=_VF,
)
FLOAT3_E1M1 = FloatSpec("float3_e1m1", 1, 1, 0, "ExMy by formula with bias 0: sign and magnitude 0 to 3", witnesses=_VF)
FLOAT16 = FloatSpec("float16", 5, 10, 15, f"{_IEEE}, binary16", special="ieee", witnesses=("numpy", *_VF, "apytypes"))
BFLOAT16 = FloatSpec(
    "bfloat16",
    8,
    7,
    127,
    "Intel BFLOAT16 hardware numerics definition (2018)",
    special="ieee",
    witnesses=(*_ML, "apytypes"),
)
TFLOAT32 = FloatSpec(
    "tfloat32",
    8,
    10,
    127,
    "NVIDIA A100 whitepaper (2020): 19 bits, float32's exponent",
    special="ieee",
    witnesses=(*_VF, "apytypes"),
)
FLOAT32 = FloatSpec("float32", 8, 23, 127, f"{_IEEE}, binary32", special="ieee", witnesses=("numpy",))

EXMY = (
    exmy(2, 1, bias=0, witnesses=_VF),
    exmy(3, 0, witnesses=_VF),
    exmy(1, 2, witnesses=_VF),
    exmy(2, 2, witnesses=_VF),
    exmy(3, 1, witnesses=_VF),
    exmy(4, 1, witnesses=_VF),
    exmy(3, 3, witnesses=_VF),
    exmy(4, 2, witnesses=_VF),
    exmy(2, 5, witnesses=_VF),
    exmy(5, 3, special="ieee", witnesses=(*_VF, "apytypes")),
    exmy(4, 5, witnesses=_VF),
    exmy(5, 6, special="ieee", witnesses=(*_VF, "apytypes")),
    exmy(6, 9, witnesses=_VF),
    exmy(4, 3, subnormals=False),
    exmy(3, 2, bias=6, witnesses=_VF),
    exmy(4, 2, signed=False, witnesses=_VF),
)
"""A sample of generic minifloats; `hwsim.formats.exmy.exmy` makes the others."""


def _ints() -> tuple[IntSpec, ...]:
    others = {8: ("numpy",), 4: ("ml_dtypes",), 2: ("ml_dtypes",)}
    signed = {n: (*others.get(n, ()), "gfloat", "apytypes") for n in WIDTHS}
    narrow = tuple(IntSpec(f"int{n}", n, _TWOS, witnesses=signed[n], generator="int") for n in WIDTHS)
    full = tuple(
        IntSpec(
            f"int{n}_full",
            n,
            "two's complement, every code used",
            narrow=False,
            witnesses=signed[n],
            generator="int_full",
        )
        for n in WIDTHS
    )
    plain = tuple(
        IntSpec(
            f"uint{n}",
            n,
            "plain binary",
            signed=False,
            witnesses=others.get(n, ("numpy",)),
            generator="uint",
        )
        for n in WIDTHS
    )
    return narrow + full + plain


WIDE_INTS = tuple(
    IntSpec(f"int{bits}", bits, f"{_TWOS}, at {bits} bits", witnesses=("apytypes",)) for bits in range(9, 17)
)
"""Operands of wide integer multipliers."""
WIDTHS = range(2, 9)
INTS = _ints()
INT8, INT4, UINT4, UINT8 = (
    next(spec for spec in INTS if spec.name == name) for name in ("int8", "int4", "uint4", "uint8")
)

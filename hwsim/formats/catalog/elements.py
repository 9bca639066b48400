"""Element formats: what a single code means."""

from hwsim.formats.spec import FloatSpec, IntSpec

_OCP_MX = "OCP Microscaling Formats (MX) v1.0"
_IEEE = "IEEE 754-2019, table 3.5"
_TWOS = "two's complement; symmetric range as in the MXINT8 and per-channel practice of PyTorch and TensorRT"

FLOAT4_E2M1FN = FloatSpec(
    "float4_e2m1fn", 2, 1, 1, f"{_OCP_MX}, section 5.3.3, table 5", witnesses=("ml_dtypes", "gfloat")
)
FLOAT8_E4M3FN = FloatSpec(
    "float8_e4m3fn",
    4,
    3,
    7,
    "OCP 8-bit Floating Point Specification (OFP8) v1.0, table 1",
    special="fn",
    witnesses=("ml_dtypes", "gfloat"),
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
    witnesses=("ml_dtypes", "gfloat"),
)
FLOAT16 = FloatSpec("float16", 5, 10, 15, f"{_IEEE}, binary16", special="ieee", witnesses=("numpy",))
FLOAT32 = FloatSpec("float32", 8, 23, 127, f"{_IEEE}, binary32", special="ieee", witnesses=("numpy",))

INT8 = IntSpec("int8", 8, _TWOS, witnesses=("numpy",))
INT4 = IntSpec("int4", 4, _TWOS, witnesses=("ml_dtypes",))
UINT4 = IntSpec("uint4", 4, "plain binary", signed=False, witnesses=("ml_dtypes",))

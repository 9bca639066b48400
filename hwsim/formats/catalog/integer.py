"""Integer formats with a floating-point scale a row or a group."""

from hwsim.formats.catalog.elements import FLOAT16, FLOAT32, INT8, INTS, UINT8, WIDE_INTS
from hwsim.formats.families.block import BlockSpec

_ELEMENTS = {spec.name: spec for spec in INTS}
WIDTHS, GROUPS = range(2, 9), (32, 64, 128)
_WITH_UNIT = ("int4_g128", "int4_g128_asym")


def symmetric(bits: int, group: int) -> BlockSpec:
    """Return symmetric group-wise integers of a width, with an FP16 scale."""
    element = _ELEMENTS[f"int{bits}"]
    return BlockSpec(
        name=f"int{bits}_g{group}",
        element=element,
        scale=FLOAT16,
        block_size=group,
        scale_rule="amax",
        activation="int8" if f"int{bits}_g{group}" in _WITH_UNIT else None,
        source=f"symmetric group-wise INT{bits}, FP16 scale amax/{element.qmax}, codes clamped to +-{element.qmax} "
        "(GPTQ/AWQ checkpoint practice)",
        witnesses=("torch",),
        generator="int_g",
    )


def asymmetric(bits: int, group: int) -> BlockSpec:
    """Return asymmetric group-wise integers of a width, with an FP16 scale and a zero point."""
    name = f"int{bits}_g{group}_asym"
    return BlockSpec(
        name=name,
        element=_ELEMENTS[f"uint{bits}"],
        scale=FLOAT16,
        block_size=group,
        scale_rule="range",
        zero_point="include_zero",
        activation="int8" if name in _WITH_UNIT else None,
        source=f"asymmetric group-wise INT{bits}: s=(max-min)/{2**bits - 1}, z=round(-min/s), "
        f"q=clamp(round(x/s)+z, 0, {2**bits - 1}); BitMoD bitmod_quant/quant_utils/quant_weight.py, with the range "
        "widened to hold 0",
        witnesses=("torch",),
        generator="int_g_asym",
    )


SYMMETRIC = tuple(symmetric(bits, group) for bits in WIDTHS for group in GROUPS)
ASYMMETRIC = tuple(asymmetric(bits, group) for bits in WIDTHS for group in GROUPS)
INT8_ROW = BlockSpec(
    name="int8",
    element=INT8,
    scale=FLOAT32,
    scale_rule="amax",
    activation="int8",
    source="symmetric per-channel/per-token INT8: scale amax/127, codes clamped to +-127 (PyTorch, TensorRT practice)",
    witnesses=("torch",),
)
INT16_ROW = BlockSpec(
    name="int16",
    element=WIDE_INTS[-1],
    scale=FLOAT32,
    scale_rule="amax",
    activation="int16",
    source="symmetric per-channel/per-token INT16: scale amax/32767, codes clamped to +-32767 "
    "(TFLite 16x8 activations)",
    witnesses=("torch",),
    generator="int_wide",
)
INT8_FULL_ROW = BlockSpec(
    name="int8_full",
    element=_ELEMENTS["int8_full"],
    scale=FLOAT32,
    scale_rule="amax",
    level=127.5,
    source="symmetric per-channel INT8 with code -128 in use: scale amax/127.5, codes clamped to -128 .. 127 (PyTorch "
    "torch.ao.quantization.PerChannelMinMaxObserver, per_channel_symmetric with quant_min=-128, quant_max=127)",
    witnesses=("torch",),
    generator="int_full",
)
INT8_ROW_ASYM = BlockSpec(
    name="int8_asym",
    element=UINT8,
    scale=FLOAT32,
    scale_rule="range",
    zero_point="include_zero",
    source="asymmetric per-token UINT8: s=(max-min)/255 with the range widened to hold 0 (PyTorch affine quantisation)",
    witnesses=("torch",),
)
TWO_LEVEL = tuple(
    BlockSpec(
        name=f"int{bits}_g{group}_vsq",
        element=_ELEMENTS[f"int{bits}"],
        scale=UINT8,
        block_size=group,
        scale_rule="amax",
        row_scale="float16",
        scale_cap=255.0,
        activation={16: f"int{bits}_g{group}_vsq", 128: "float16"}.get(group),
        source="VS-Quant (S. Dai et al., MLSys 2021, arXiv 2102.04503), two-level: UINT8 a vector, FP16 a channel",
        generator="int_vsq",
    )
    for bits, group in ((4, 16), (4, 64), (8, 16), (8, 128), (6, 128), (5, 128))
)

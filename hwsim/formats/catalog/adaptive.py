"""Formats whose groups choose their own table of values: BitMoD and ANT."""

from hwsim.formats.catalog.elements import FLOAT16, FLOAT32, UINT8
from hwsim.formats.catalog.tables import FLINT4
from hwsim.formats.families.adaptive import AdaptiveSpec
from hwsim.formats.spec import TableSpec

_BITMOD = "BitMoD (HPCA 2025), abdelfattah-lab/BitMoD-HPCA-25:bitmod_quant/quant_utils/quant_weight.py"
_ANT = "ANT (MICRO 2022), clevercool/ANT-Quantization:ant_quantization/antquant/quant_modules.py"
_FP3 = (0.0, 1.0, 2.0, 4.0)
_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def _bitmod(bits: int, magnitudes: tuple[float, ...], kind: str, special: float) -> TableSpec:
    """Return a sign-magnitude table whose code of "-0" means a special value."""
    return TableSpec(
        f"bitmod_fp{bits}_{kind}",
        bits,
        (*magnitudes, special, *(-value for value in magnitudes[1:])),
        f"{_BITMOD}, FP{bits}_{kind.upper()}; ties between levels go to the lower value",
        ties="down",
        witnesses=("published values",),
        generator="bitmod",
    )


BITMOD_FP3 = (
    _bitmod(3, _FP3, "er_pos", 3.0),
    _bitmod(3, _FP3, "er_neg", -3.0),
    _bitmod(3, _FP3, "ea_pos", 6.0),
    _bitmod(3, _FP3, "ea_neg", -6.0),
)
BITMOD_FP4 = (
    _bitmod(4, _FP4, "er_pos", 5.0),
    _bitmod(4, _FP4, "er_neg", -5.0),
    _bitmod(4, _FP4, "ea_pos", 8.0),
    _bitmod(4, _FP4, "ea_neg", -8.0),
)


def _group(bits: int, candidates: tuple[TableSpec, ...]) -> tuple[AdaptiveSpec, AdaptiveSpec]:
    plain = AdaptiveSpec(
        name=f"bitmod_fp{bits}_g128_fp16",
        candidates=candidates,
        scale=FLOAT16,
        block_size=128,
        source=f"{_BITMOD}, search_datatype 'mixed_bitmod': scale amax/top a group, least mean square error, strict <; "
        "scale in FP16, without that file's clamp to [1e-5, 1e4]",
        witnesses=("published values",),
        generator="bitmod",
    )
    two_level = AdaptiveSpec(
        name=f"bitmod_fp{bits}",
        candidates=candidates,
        scale=UINT8,
        block_size=128,
        row_scale="float16",
        scale_cap=255.0,
        activation="float16",
        source="BitMoD (HPCA 2025), section IV: group of 128, 2-bit selector, 8-bit integer group scale under a scale "
        "a channel; here the choice is made with the scales as stored, and one channel scale serves all candidates",
        generator="bitmod",
    )
    return plain, two_level


BITMOD_FP3_G128_FP16, BITMOD_FP3_G128 = _group(3, BITMOD_FP3)
BITMOD_FP4_G128_FP16, BITMOD_FP4_G128 = _group(4, BITMOD_FP4)

ANT_INT4 = TableSpec(
    "ant_int4",
    4,
    (*map(float, range(8)), None, *map(float, range(-7, 0))),
    f"{_ANT}, int_value, in two's complement; the scale makes amax 7, so that -8 is not reached",
    ties="up",
    generator="ant",
)
ANT_POT4 = TableSpec(
    "ant_pot4",
    4,
    (0.0, *(2.0**i for i in range(7)), None, *(-(2.0**i) for i in range(7))),
    f"{_ANT}, pot_value: sign and exponent; the kernel keeps the last of equally near levels",
    ties="up",
    generator="ant",
)
ANT_4B = AdaptiveSpec(
    name="ant_4b",
    candidates=(ANT_INT4, FLINT4, ANT_POT4),
    scale=FLOAT32,
    block_size=None,
    source=f"{_ANT}, search_adaptive_numeric_type 'int-flint-pot': least square error; here chosen a channel "
    "instead of a tensor, with scale amax/top and no search of clipping",
    witnesses=("published values",),
    generator="ant",
)

"""OliVe: 4-bit pairs in which an outlier takes the place of its neighbour."""

from hwsim.formats.catalog.adaptive import ANT_INT4
from hwsim.formats.catalog.elements import FLOAT32
from hwsim.formats.catalog.tables import FLINT4
from hwsim.formats.families.olive import OliveSpec
from hwsim.formats.spec import TableSpec

_OLIVE = (
    "OliVe (ISCA 2023, arXiv 2304.07493), clevercool/ANT-Quantization:olive_quantization/antquant/quant_modules.py "
    "(levels, outlier_value, search_mse, _forward; units there are 1/{unit} of ours); identifier 1000b as in the paper"
)
_SEARCH = tuple(range(75, 250, 2))
"""Percentages of the published scripts (--w_low 75 --w_up 250)."""


def _olive(kind: str, normal: TableSpec, exp_base: int, unit: int) -> tuple[OliveSpec, ...]:
    source = _OLIVE.format(unit=unit)
    return (
        OliveSpec(
            name=f"olive_{kind}",
            normal=normal,
            scale=FLOAT32,
            exp_base=exp_base,
            source=f"{source}; scale a channel from 3 sigma, without the search about it",
            witnesses=("torch", "published values"),
            generator="olive",
        ),
        OliveSpec(
            name=f"olive_{kind}_search",
            normal=normal,
            scale=FLOAT32,
            exp_base=exp_base,
            percents=_SEARCH,
            source=f"{source}; scale a channel of least square error among 75, 77 .. 249 % of 3 sigma; the choice "
            "between int and flint a tensor is left to the caller",
            witnesses=("torch", "published values"),
            generator="olive",
        ),
    )


OLIVE_INT4 = _olive("int4", ANT_INT4, 3, 4)
OLIVE_FLINT4 = _olive("flint4", FLINT4, 4, 2)

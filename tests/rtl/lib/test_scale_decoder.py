"""Scale decoders on all codes, against the catalogue and against outside libraries."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hwsim.formats import FloatSpec, element
from hwsim.formats.registry import element_names
from rtl.lib.scale_decoder import ScaleDecoder
from tests.rtl.harness import evaluate

pytestmark = pytest.mark.rtl
NAMES = [name for name in element_names() if isinstance(element(name), FloatSpec) and element(name).bits <= 16]


def decoded(name: str) -> list[Fraction | None]:
    """Return what the hardware makes of every code."""
    facts = element(name)
    results = evaluate(ScaleDecoder(facts), [{"code": code} for code in range(1 << facts.bits)])
    return [
        None if result["is_nan"] else result["significand"] * Fraction(2) ** result["exponent"] for result in results
    ]


@pytest.mark.parametrize("name", NAMES)
def test_scale_decoder_all_codes(name: str) -> None:
    assert decoded(name) == [element(name).value(code) for code in range(1 << element(name).bits)]


@pytest.mark.parametrize("name", ["float8_e8m0fnu", "float8_e4m3fn", "float16"])
def test_scale_decoder_agrees_with_other_libraries(name: str) -> None:
    codes = np.arange(1 << element(name).bits)
    if name == "float16":
        values = codes.astype(np.uint16).view(np.float16)
    else:
        ml_dtypes = pytest.importorskip("ml_dtypes")
        values = codes.astype(np.uint8).view(getattr(ml_dtypes, name))
    outside = [Fraction(value) if np.isfinite(value) else None for value in values.astype(np.float64).tolist()]
    assert decoded(name) == outside

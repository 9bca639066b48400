"""Decoders of elements and scales on all codes, against the catalogue and against outside libraries."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hwsim.formats import FloatSpec, IntSpec, element
from hwsim.formats.registry import element_names
from rtl.lib.number_decoder import NumberDecoder, NumberFacts
from tests.rtl.harness import evaluate

pytestmark = pytest.mark.rtl
NAMES = [name for name in element_names() if isinstance(element(name), FloatSpec) and element(name).bits <= 16]
INTEGERS = ["int4", "int6", "int8", "uint8", "mxint8_element"]


def decoded(name: str) -> list[Fraction | None]:
    """Return what the hardware makes of every code."""
    facts = element(name)
    results = evaluate(NumberDecoder(facts), [{"code": code} for code in range(1 << facts.bits)])
    return [
        None if result["is_nan"] or result["is_inf"] else result["significand"] * Fraction(2) ** result["exponent"]
        for result in results
    ]


@pytest.mark.parametrize("name", [*NAMES, *INTEGERS])
def test_decoder_all_codes(name: str) -> None:
    assert decoded(name) == [element(name).value(code) for code in range(1 << element(name).bits)]


@pytest.mark.parametrize("name", ["float8_e8m0fnu", "float8_e4m3fn", "float16"])
def test_decoder_agrees_with_other_libraries(name: str) -> None:
    codes = np.arange(1 << element(name).bits)
    if name == "float16":
        values = codes.astype(np.uint16).view(np.float16)
    else:
        ml_dtypes = pytest.importorskip("ml_dtypes")
        values = codes.astype(np.uint8).view(getattr(ml_dtypes, name))
    outside = [Fraction(value) if np.isfinite(value) else None for value in values.astype(np.float64).tolist()]
    assert decoded(name) == outside


@pytest.mark.parametrize("name", ["float8_e5m2", "float16", "bfloat16", "float8_e4m3fn", "float4_e2m1fn"])
def test_infinities_nans_and_bounds(name: str) -> None:
    facts = element(name)
    codes = range(1 << facts.bits)
    found = evaluate(NumberDecoder(facts), [{"code": code} for code in codes])
    assert [each["is_inf"] for each in found] == [abs(facts.infinite(code)) for code in codes]
    signs = [each["significand"] < 0 for code, each in zip(codes, found, strict=True) if each["is_inf"]]
    assert signs == [facts.infinite(code) < 0 for code in codes if facts.infinite(code)]
    numbers = [each for each in found if not each["is_nan"] and not each["is_inf"]]
    bounds = NumberFacts.of(facts)
    assert max(abs(each["significand"]) for each in numbers) == bounds.max_significand
    exponents = [each["exponent"] for each in numbers]
    assert (min(exponents), max(exponents)) == (bounds.min_exponent, bounds.max_exponent)
    assert not isinstance(facts, IntSpec)

"""Rounding into elements, the shared butterfly, and integers made FP32, against exact rationals and NumPy."""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats import FloatSpec, element, get
from rtl.lib.element_round import ROUNDINGS, ElementRound
from rtl.lib.float_butterfly import FloatButterfly
from rtl.lib.int_to_float32 import int_to_float32
from tests.rtl.harness import evaluate

pytestmark = pytest.mark.rtl

ELEMENTS = {name: get(name).element for name in ("mxint8", "mxint8_full", "mxfp4", "mxfp6_e3m2", "mxfp8_e5m2")}
ELEMENTS |= {name: element(name) for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float4_e3m0", "float16")}


@cache
def magnitudes(name: str, top: int) -> list[Fraction]:
    """Return the levels of the magnitude codes up to one."""
    spec = ELEMENTS[name]
    if isinstance(spec, FloatSpec):
        return [spec.value(code) for code in range(top + 1)]
    return [Fraction(code, 1 << spec.frac_bits) for code in range(top + 1)]


def rounded(value: Fraction, negative: bool, name: str, mode: str, overflow: str, part: Fraction) -> int:
    """Return the code of a value by counting the levels below it; `part` is the random draw."""
    spec = ELEMENTS[name]
    floats = isinstance(spec, FloatSpec)
    top = spec.max_code if floats else (-spec.qmin if negative else spec.qmax)
    levels = magnitudes(name, top)
    # one step above the largest, as if the exponent had no end
    step = Fraction(1, 1 << spec.frac_bits)
    if floats:
        step = Fraction(2) ** ((top >> spec.man_bits) - spec.bias - spec.man_bits)
    below = bisect_right(levels, value) - 1
    if value >= levels[top] + step:
        code = top + 1
    else:
        quantum = (levels[below + 1] - levels[below]) if below < top else step
        rest = (value - levels[below]) / quantum
        up = {
            "rne": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1), "rtz": False,
            "rup": rest > 0 and not negative, "rdn": rest > 0 and negative, "raz": rest > 0,
            "rna": rest >= Fraction(1, 2), "rnz": rest > Fraction(1, 2), "rod": rest > 0 and below % 2 == 0,
            "stochastic": part < rest,
        }[mode]  # fmt: skip
        code = below + up
    if code > top:
        inward = mode in ("rtz", "rod") or (mode == "rup" and negative) or (mode == "rdn" and not negative)
        if overflow == "saturate" or inward:
            code = top
        else:
            special = spec.inf_code if spec.inf_code is not None else spec.nan_code
            signed_special = spec.inf_code is not None or spec.special == "fn"
            return special | (negative << (spec.bits - 1) if signed_special else 0)
    if not floats:
        return (-code if negative else code) & ((1 << spec.bits) - 1)
    return code | (negative << (spec.bits - 1) if spec.negative_zero or code else 0)


@pytest.mark.parametrize("name", ELEMENTS)
def test_every_mode_on_values_around_every_code(name: str) -> None:
    spec, rng = ELEMENTS[name], np.random.default_rng(len(name))
    low, high = (1 - spec.bias - spec.man_bits - 4, spec.emax + 3) if isinstance(spec, FloatSpec) else (-10, 4)
    special = isinstance(spec, FloatSpec) and spec.nan_code is not None
    modes = [(mode, "saturate") for mode in ROUNDINGS]
    modes += [(mode, "nonsaturating") for mode in ("rne", "rup", "rdn", "rod")] if special else []
    # all combinations for one element, a few for each of the others
    chosen = modes if name == "float8_e4m3fn" else [modes[i] for i in rng.choice(len(modes), 3, replace=False)]
    for mode, overflow in chosen:
        bits = 3 if mode == "stochastic" else 0
        part = ElementRound(spec, 14, low, high, mode, overflow, bits)
        vectors = []
        for exponent, sign in product(range(low, high + 1), (0, 1)):
            for kept in (14, 13, 8, 4, 1):
                significand = int(rng.integers(1 << kept)) << (14 - kept) >> int(rng.integers(3))
                vectors.append({"exponent": exponent, "sign": sign, "significand": significand})
                if bits:
                    vectors[-1]["random"] = int(rng.integers(1 << bits))
        for vector, found in zip(vectors, evaluate(part, vectors), strict=True):
            value = Fraction(vector["significand"]) * Fraction(2) ** (vector["exponent"] - 13)
            draw = Fraction(vector.get("random", 0), 8)
            want = rounded(value, vector["sign"] == 1, name, mode, overflow, draw)
            assert found["code"] == want, (name, mode, overflow, vector)


def test_both_results_of_the_butterfly_are_numpys() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(1 << 16, size=(3000, 2)).astype(np.uint16)
    codes[:500, 1] = codes[:500, 0] ^ rng.integers(4, size=500).astype(np.uint16) ^ 0x8000  # cancellation
    codes[500:900] &= 0x87FF  # around the subnormals
    codes[900:1100, 0] = rng.choice([0, 0x8000, 0x7C00, 0xFC00, 0x7E00, 0x7BFF, 0xFBFF, 1], 200)
    codes[1000:1100, 1] = rng.choice([0, 0x8000, 0x7C00, 0xFC00, 0x7E00, 0x7BFF, 0xFBFF, 1], 100)
    a, b = codes.view(np.float16).T
    with np.errstate(all="ignore"):
        wants = {"sum": a + b, "difference": a - b}
    spec = element("float16")
    assert isinstance(spec, FloatSpec)
    found = evaluate(FloatButterfly(spec), [{"a": int(x), "b": int(y)} for x, y in codes])
    for port, want in wants.items():
        bits = np.where(np.isnan(want), 0x7E00, want.view(np.uint16))
        np.testing.assert_array_equal([result[port] for result in found], bits)


class Converter(wiring.Component):
    """`int_to_float32` as a part of its own."""

    def __init__(self, bits: int) -> None:
        super().__init__({"value": In(signed(bits)), "word": Out(32)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += self.word.eq(int_to_float32(m, self.value, "value"))
        return m


@pytest.mark.parametrize("bits", [5, 24])
def test_integers_become_fp32(bits: int) -> None:
    half = 1 << (bits - 1)
    values = sorted(
        {*range(-16, 16), -half, half - 1, *np.random.default_rng(bits).integers(-half, half, 200).tolist()}
    )
    found = evaluate(Converter(bits), [{"value": value} for value in values])
    assert [result["word"] for result in found] == np.array(values, np.float32).view(np.uint32).tolist()


def test_bad_arguments_are_refused(refused_parts: None) -> None:
    spec = element("float16")
    with pytest.raises(ValueError, match="signed and have subnormals, not float8_e8m0fnu"):
        ElementRound(element("float8_e8m0fnu"), 8, 0, 1)
    with pytest.raises(ValueError, match="not 'up' and 0"):
        ElementRound(spec, 8, 0, 1, "up")
    with pytest.raises(ValueError, match="not 'stochastic' and 0"):
        ElementRound(spec, 8, 0, 1, "stochastic")
    with pytest.raises(ValueError, match="exponents 2 to 1 are empty"):
        ElementRound(spec, 8, 2, 1)
    with pytest.raises(ValueError, match="of at most 24 bits"):
        Converter(25).elaborate(None)

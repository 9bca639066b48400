"""Rounding with flags in the kernels against the plain one, where a format begins and ends."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from hwsim.formats import Encoded
from hwsim.formats.catalog.elements import BFLOAT16, FLOAT16, FLOAT32
from hwsim.pe import _flag_kernels, mx_dot, rounding
from hwsim.pe._accumulate_kernels import MODES
from hwsim.pe.accumulator import Accumulator
from tests.hwsim.pe import accumulation

FORMATS = {spec.name: spec for spec in (FLOAT32, FLOAT16, BFLOAT16, replace(FLOAT32, name="kept_13", man_bits=13))}


def edges(man_bits: int, bias: int) -> list[float]:
    """Return float64 around the largest value, the smallest normal and the smallest subnormal number, to 53 bits."""
    top = 2.0**bias * (2 - 2.0**-man_bits)
    last = 2.0 ** (bias - man_bits)
    small, least = 2.0 ** (1 - bias), 2.0 ** (1 - bias - man_bits)
    middles = [
        top,
        top + last / 4,
        top + last / 2,
        top + last,
        small,
        small - least / 2,
        small - least / 4,
        small - least,
    ]
    middles += [small - least / 8 * eighth for eighth in (3, 5)]
    middles += [least, least / 2, least * 1.5, least / 4, 1.0, 1 + 2.0**-man_bits / 2, 3 * least]
    found = [value for middle in middles for value in (middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf))]
    return [sign * value for value in found for sign in (1, -1)]


@pytest.mark.parametrize("overflow", ["ieee", "infinite"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FORMATS)
def test_bits_and_flags_at_the_ends_of_a_format(name: str, mode: str, overflow: str) -> None:
    fmt = FORMATS[name]
    rule = (fmt.man_bits + 1, 1 - fmt.bias - fmt.man_bits, fmt.max_value, MODES[mode], overflow == "infinite")
    seen = set()
    for raw in edges(fmt.man_bits, fmt.bias):
        exact = Fraction(raw)
        exponent = -(exact.denominator.bit_length() - 1)
        want = rounding.round_float(int(raw < 0), abs(exact.numerator), exponent, fmt, mode, overflow)
        result, flags = _flag_kernels.rounded(raw, rule)
        sign, magnitude, low = rounding.split(want.bits, fmt)
        infinite = rounding.is_infinite(want.bits, fmt)
        size = np.inf if infinite else float(Fraction(magnitude) * Fraction(2) ** low)
        assert (abs(result), np.signbit(result), flags) == (size, bool(sign), want.flags), (raw, want)
        seen.add(flags)
    assert seen == {0, 1, 3, 5}


E5M2, E4M3 = "float8_e5m2", "float8_e4m3fn"
RULES = {
    "exact": Accumulator(promote_every=1),
    "aligned": Accumulator("aligned", group=4, fraction_bits=20, scales="product"),
    "sequential": Accumulator("sequential", scales="product"),
    "in order": Accumulator("sequential"),
}


@pytest.mark.parametrize("tensor", [1.0, 0.0, np.inf])
@pytest.mark.parametrize("name", RULES)
def test_flags_of_operands_that_are_not_finite(name: str, tensor: float) -> None:
    """Triples of Inf, -Inf, NaN, 0 and 1 in a block, all of A, under scales of 1, 0, -1 and NaN, after Inf or not."""
    params = mx_dot.Params(E5M2, E4M3, 4, 4, True, flags=True, accumulator=RULES[name])
    rng = np.random.default_rng(1)
    triples = np.array(list(product([0x7C, 0xFC, 0x7E, 0x00, 0x3C], repeat=3)), np.uint8)
    fmt = accumulation.format_of(E5M2, E4M3, 4, True)
    sides = []
    for second in (1.0, tensor):
        codes = np.full((4 * len(triples), 8), 0x3C, np.uint8)
        codes[:, 4:7] = np.tile(triples, (4, 1))
        codes[: 2 * len(triples), 0] = np.repeat([0x7C, 0xFC], len(triples))
        scales = rng.choice([0x38, 0x38, 0x00, 0xB8, 0x7F], (len(codes), 2), p=[0.3, 0.3, 0.2, 0.15, 0.05])
        scales[:, 0] = 0x38
        sides.append(Encoded.of(fmt, codes=codes, scales=scales.astype(np.uint8), tensor_scale=np.float32(second)))
        triples = triples[rng.permutation(len(triples))]
        triples[::2] = 0x3C  # half of B's blocks are ones
    a, b = sides
    words = mx_dot.dots(a, b, params)
    for row, word in enumerate(words.tolist()):
        assert word == mx_dot.reference(mx_dot.beats(a, b, row, row, params), params), row
        if row % 7 == 0:
            assert word == accumulation.dot(a, b, row, row, params), row
    assert {word >> 35 for word in words.tolist()} == {0, 1}

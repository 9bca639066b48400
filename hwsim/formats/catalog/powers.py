"""Power codes: powers of two, their sums (APoT), logarithms, and power functions (PowerQuant, NUPES)."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import product

from hwsim.formats.catalog.elements import FLOAT16, FLOAT32
from hwsim.formats.families.block import BlockSpec
from hwsim.formats.spec import TableSpec

_APOT = "APoT (ICLR 2020), yhhhli/APoT_Quantization:models/quant_layer.py build_power_value, weight_quantize_fn"
THRESHOLD_BITS = 24
"""Significant bits of thresholds that no finite number of bits holds; a product with a float32 scale is exact."""
_APOT_SETS: dict[int, tuple[tuple[int, ...], ...]] = {
    3: ((0, 8, 4, 1), (0, 2)),
    4: ((0, 32, 8, 2), (0, 16, 4, 1)),
    5: ((0, 64, 16, 2), (0, 32, 8, 1), (0, 4)),
}


def rounded(value: Decimal | Fraction, bits: int = THRESHOLD_BITS) -> float:
    """Round a positive number to a number of significant bits, half to even; exactly for a Fraction."""
    exact = Fraction(value)
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length() - bits
    scaled = exact / Fraction(2) ** exponent
    if scaled >= 1 << bits:
        exponent, scaled = exponent + 1, scaled / 2
    return math.ldexp(round(scaled), exponent)


def power_of_two_table(bits: int) -> TableSpec:
    """Return 0 and the powers of two of `bits` - 1 magnitude bits, in units of the smallest, below a sign bit.

    Code 0 is zero and code c is ``2**(c - 1)``: the published ``2**-1 .. 2**-(2**B - 1)`` over their largest, times a
    power of two.
    """
    return TableSpec(
        f"pot{bits}",
        bits,
        (0.0, *(2.0**i for i in range((1 << (bits - 1)) - 1))),
        f"{_APOT}, power-of-two sets 0, 2**-1 .. 2**-(2**B - 1) with B = {bits - 1}, divided by their maximum, sign "
        "apart; ties, which depend on the order of a set there, go to the even code",
        symmetric=True,
        witnesses=("published values",),
        generator="pot",
    )


def additive_power_table(bits: int) -> TableSpec:
    """Return the sums of powers of two of APoT with `bits` magnitude bits below a sign bit, as integers.

    The two lowest bits of a magnitude code choose the first term, the next two (or one) the second, and so on. Units
    are the smallest power of two; the published values are these over the largest.
    """
    sets = _APOT_SETS[bits]
    return TableSpec(
        f"apot{bits}",
        bits + 1,
        tuple(float(sum(terms)) for terms in (reversed(choice) for choice in product(*reversed(sets)))),
        f"{_APOT}, B = {bits}, divided by their maximum, sign apart; ties, which depend on the order of a set "
        "there, go to the even rank",
        symmetric=True,
        witnesses=("published values",),
        generator="apot",
    )


def log2_table(bits: int) -> TableSpec:
    """Return the table of ``q = clip(round(-log2(x / s)), 0, 2**bits - 1)``: code q is worth ``2**-q``.

    Thresholds are ``2**-(q + 1/2)``, rounded to `THRESHOLD_BITS` significant bits; a zero takes the largest code.
    """
    count = 1 << bits
    borders = []
    for q in range(count - 2, -1, -1):  # the root of 2**-(2q + 1), 64 bits of it
        borders.append(rounded(Fraction(math.isqrt(1 << 128 + 1), 1 << 64 + 1 + q)))
    return TableSpec(
        f"log2_{bits}b",
        bits,
        tuple(2.0**-q for q in range(count)),
        "FQ-ViT (IJCAI 2022), section 3.3: q = clip(round(-log2(x / s)), 0, 2**b - 1); megvii-research/FQ-ViT:"
        f"models/ptq/quantizer/log2.py; thresholds rounded to {THRESHOLD_BITS} bits; zero takes the largest code, "
        "which that simulation decodes to 0 for magnitudes below 2**-(2**b - 1/2)",
        thresholds=tuple(borders),
        ties="up",
        generator="log2",
    )


def power_function_table(bits: int, exponent: Decimal | str) -> TableSpec:
    """Return the table of ``q = round(Q (|x| / amax)**a)`` below a sign bit, Q = ``2**(bits - 1) - 1``.

    Code q is worth ``(q / Q)**(1 / a)``, rounded to float32; thresholds are ``((q + 1/2) / Q)**(1 / a)`` rounded to
    `THRESHOLD_BITS` significant bits.
    """
    a, top = Decimal(exponent), (1 << (bits - 1)) - 1
    if not 0 < a <= 1:
        raise ValueError(f"the exponent of a power function must lie in (0, 1], not {exponent}")
    with localcontext() as context:
        context.prec = 60
        levels = [rounded((Decimal(q) / top) ** (1 / a), 24) for q in range(1, top + 1)]
        borders = [rounded((Decimal(2 * q + 1) / (2 * top)) ** (1 / a)) for q in range(top)]
    return TableSpec(
        f"powerquant_{bits}b_a{exponent}",
        bits,
        (0.0, *levels),
        f"PowerQuant (ICLR 2023) and NUPES: q = round(Q sgn(x) (|x| / amax)**a), Q = 2**(b - 1) - 1, a = {exponent}; "
        f"sign and magnitude, thresholds rounded to {THRESHOLD_BITS} bits",
        symmetric=True,
        thresholds=tuple(borders),
        generator="powerquant",
    )


def _channel(name: str, element: TableSpec) -> BlockSpec:
    return BlockSpec(
        name=name,
        element=element,
        scale=FLOAT32,
        block_size=None,
        scale_rule="amax",
        source=f"{element.source}; scale amax/top in FP32 a channel",
        witnesses=element.witnesses,
        generator=element.generator,
    )


POT = tuple(power_of_two_table(bits) for bits in (3, 4, 5))
APOT = tuple(additive_power_table(bits) for bits in (3, 4, 5))
LOG2 = tuple(log2_table(bits) for bits in (3, 4))
POWERQUANT = tuple(power_function_table(bits, "0.5") for bits in (3, 4, 8))

POT_CHANNEL = tuple(_channel(element.name, element) for element in POT)
APOT_CHANNEL = tuple(_channel(element.name, element) for element in APOT)
LOG2_CHANNEL = tuple(_channel(element.name, element) for element in LOG2)
POWERQUANT_CHANNEL = tuple(_channel(f"powerquant_{element.bits}b", element) for element in POWERQUANT)
POT4_G128 = BlockSpec(
    name="pot4_g128",
    element=POT[1],
    scale=FLOAT16,
    block_size=128,
    scale_rule="amax",
    source=f"{POT[1].source}; scale amax/64 in FP16 a group of 128",
    witnesses=("published values",),
    generator="pot",
)

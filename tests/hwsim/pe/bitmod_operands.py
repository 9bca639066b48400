"""Operands for `bitmod`, and its contract in exact rationals, with no code of `hwsim.pe`."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from hwsim.formats import Encoded, get
from tests.hwsim.pe import oracle

FORMATS = {
    "bitmod_fp3": "bitmod_fp3",
    "bitmod_fp4": "bitmod_fp4",
    "int8": "int8_g128_vsq",
    "int6": "int6_g128_vsq",
    "int5": "int5_g128_vsq",
}
KINDS = ("ordinary", "any finite", "far apart", "cancelling", "special", "row scales")
FLOATS = {  # magnitudes, and the special values by selector
    "bitmod_fp3": ([0, 1, 2, 4], [3, -3, 6, -6]),
    "bitmod_fp4": ([0, Fraction(1, 2), 1, Fraction(3, 2), 2, 3, 4, 6], [5, -5, 8, -8]),
}
LARGEST, SMALLEST = 0x7BFF, 0x0001
SPECIAL = [*[0x7C00, 0xFC00] * 4, 0x7E00, 0xFC01]


def weight_format(weight: str, group: int):
    """Return the weights' format with groups of another size."""
    spec = get(FORMATS[weight])
    return spec if spec.block_size == group else spec.with_rules(block_size=group)


def weights(weight: str, codes: np.ndarray, group: int, rng: np.random.Generator, **parts: np.ndarray) -> Encoded:
    """Return codes under random scales and selectors, those given apart."""
    fmt = weight_format(weight, group)
    blocks = (codes.shape[0], codes.shape[1] // group)
    drawn = {
        "codes": codes.astype(np.uint8),
        "scales": rng.integers(0, 256, blocks).astype(np.uint8),
        "row_scales": rng.uniform(0.01, 2, codes.shape[0]).astype(np.float16).view(np.uint16),
    }
    if weight in FLOATS:
        drawn["selectors"] = rng.integers(0, 4, blocks).astype(np.uint8)
    return Encoded(fmt, drawn | {name: values for name, values in parts.items() if name in drawn})


def activations(codes: np.ndarray) -> Encoded:
    """Return FP16 codes."""
    return Encoded(get("float16"), {"codes": codes.astype(np.uint16)})


def finite(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return any finite FP16 codes."""
    return rng.integers(0, LARGEST + 1, shape) | rng.integers(0, 2, shape) << 15


def operands(params, kind: str, rows: int, groups: int, seed: int = 0) -> tuple[Encoded, Encoded]:
    """Draw operands for as many dot products of `groups` groups."""
    rng = np.random.default_rng([KINDS.index(kind), rows, groups, seed])
    shape = (rows, groups * params.group)
    bits = params.datapath.b_bits
    b = rng.integers(0, 1 << bits, shape)
    x = rng.standard_normal(shape) * np.exp2(rng.integers(-6, 3, shape) + rng.integers(-6, 6, (rows, 1)))
    a = x.astype(np.float16).view(np.uint16)
    parts: dict[str, np.ndarray] = {}
    if kind == "any finite":
        a = finite(rng, shape)
    elif kind == "far apart":  # the largest beside the smallest numbers, terms of all exponents
        a = np.where(rng.random(shape) < 0.2, LARGEST - rng.integers(0, 3, shape), rng.integers(0, 1100, shape))
        a |= rng.integers(0, 2, shape) << 15
    elif kind == "cancelling":  # every second beat is the one before it, negated but for one bit of one element a row
        a = finite(rng, shape) if seed % 2 else a
        a, b = (side.reshape(rows, -1, 2, 4) for side in (a, b))
        a[:, :, 1], b[:, :, 1] = a[:, :, 0] ^ 0x8000, b[:, :, 0]
        a, b = a.reshape(shape), b.reshape(shape)
        a[np.arange(rows), rng.integers(shape[1], size=rows)] ^= 1
        a = np.where((a & 0x7FFF) > LARGEST, a & 0x83FF, a)
    elif kind == "special":
        some = rng.random(shape) < rng.choice([0.01, 0.02], (rows, 1))
        a = np.where(some, rng.choice(SPECIAL, shape), finite(rng, shape))
        parts["scales"] = np.where(rng.random((rows, groups)) < 0.3, 0, rng.integers(0, 256, (rows, groups)))
        parts["scales"] = parts["scales"].astype(np.uint8)
    elif kind == "row scales":
        parts["row_scales"] = rng.integers(0, 1 << 16, rows).astype(np.uint16)
    return activations(a), weights(params.weight, b, params.group, rng, **parts)


def value(weight: str, selector: int, code: int) -> Fraction:
    """Return what a code is worth."""
    if weight not in FLOATS:
        bits = int(weight[3:])
        return Fraction(code - (1 << bits) if code >> (bits - 1) else code)
    magnitudes, specials = FLOATS[weight]
    negative, index = divmod(code, len(magnitudes))
    if negative and index == 0:
        return Fraction(specials[selector])
    return Fraction(-magnitudes[index] if negative else magnitudes[index])


def terms(weight: str, number: Fraction) -> list[tuple[int, int, int, int]]:
    """Return (sign, exp, man, bsig) in the order of the cycles; those of floats have bsig 0 and -1."""
    if weight not in FLOATS:
        bits = int(weight[3:])
        word = int(number) % (1 << bits)
        wide = word | (word >> (bits - 1) << bits)  # a sign bit more, for odd widths
        found = []
        for low in reversed(range(0, bits, 2)):
            window = (wide << 1) >> low & 7
            digit = (0, 1, 1, 2, -2, -1, -1, 0)[window]
            found.append((int(digit < 0), int(abs(digit) == 2), int(digit != 0), low))
        return found
    rest, found = abs(int(2 * number)), []
    for bsig in (0, -1):
        window = rest >> 1 if bsig == 0 else rest
        assert window < 16
        exp = window.bit_length() - 1 if window else 0
        found.append((int(number < 0) if window else 0, exp, int(window > 0), bsig))
        rest -= (1 << exp) << (1 + bsig) if window else 0
    assert rest == 0
    return found


def activation(code: int) -> tuple[Fraction, int] | None:
    """Return (magnitude, exponent of the hidden bit) of an FP16 code, None where it is not finite."""
    field, fraction = code >> 10 & 31, code & 1023
    if field == 31:
        return None
    exponent = max(field, 1) - 15
    return Fraction(fraction + 1024 * (field > 0), 1024) * Fraction(2) ** exponent, exponent


def significant(number: Fraction, bits: int) -> Fraction:
    """Return a rational to the nearest of so many significant bits, ties to even; any exponent."""
    if not number:
        return number
    exponent = number.numerator.bit_length() - number.denominator.bit_length()
    step = Fraction(2) ** (exponent - bits)
    while abs(number) / step >= 1 << bits:
        step *= 2
    return round(number / step) * step


def group_sum(a: list[int], numbers: list[Fraction], params) -> tuple[Fraction, Fraction]:
    """Return a group's accumulator, and a bound on its distance from the exact sum."""
    total, bound = Fraction(0), Fraction(0)
    for start in range(0, len(a), 4):
        lanes = [(code >> 15, *activation(code)) for code in a[start : start + 4]]
        lists = [terms(params.weight, number) for number in numbers[start : start + 4]]
        for cycle in range(len(lists[0])):
            now = [each[cycle] for each in lists]
            top = max(exponent + exp for (_, _, exponent), (_, exp, _, _) in zip(lanes, now, strict=True))
            quantum = Fraction(2) ** (top - 10 - params.guard_bits)
            added = Fraction(0)
            for (a_sign, magnitude, _), (sign, exp, man, _) in zip(lanes, now, strict=True):
                quotient = magnitude * 2**exp * man / quantum
                kept = quotient.numerator // quotient.denominator
                if params.alignment == "rod" and kept != quotient:
                    kept |= 1
                bound += quantum * Fraction(2) ** now[0][3] * (kept != quotient)
                added += -kept if a_sign ^ sign else kept
            exact = total + added * quantum * Fraction(2) ** now[0][3]
            total = significant(exact, params.acc_bits)
            bound += abs(exact) * Fraction(1, 1 << params.acc_bits) if total != exact else 0
    return total, bound


def dot(a: Encoded, b: Encoded, m: int, n: int, params) -> int:
    """Return the float32 bits of one output."""
    total, met = 0, 0.0
    for index, start in enumerate(range(0, a.k, params.group)):
        codes = [int(code) for code in a.codes[m, start : start + params.group]]
        selector = int(b.parts["selectors"][n, index]) if "selectors" in b.parts else 0
        numbers = [value(params.weight, selector, int(code)) for code in b.codes[n, start : start + params.group]]
        scale = int(b.scales[n, index])
        special = [(code, number) for code, number in zip(codes, numbers, strict=True) if activation(code) is None]
        for code, number in special:
            infinite = np.inf * (-1 if code >> 15 else 1) * int(2 * number) if not code & 0x3FF else np.nan
            met += infinite * scale
        if not special:
            total = oracle.add(total, group_sum(codes, numbers, params)[0] * scale)
    if met:  # an infinity or NaN stays
        total = oracle.NAN if np.isnan(met) else oracle.INFINITY | (oracle.SIGN if met < 0 else 0)
    return oracle.multiply(total, oracle.out_scale(b, n))

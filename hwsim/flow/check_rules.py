"""Accumulation rules that a unit may follow, and what kind of difference a wrong result is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import element, element_values
from hwsim.pe import accumulator, rounding
from hwsim.pe._dot import DotSpec
from hwsim.pe.accumulator import Accumulator

KINDS = ("rounding", "order", "special values", "flags", "stalls or reset", "other")
"""What a difference is: see `classify`; those under stalls or after a reset alone are told by the caller."""
ANY_RULE = "any"
_GRID_FRACTION_BITS = range(8, 37)
_INFINITY = 0x7F800000
_TOO_LARGE = Fraction(2) ** 128

Dot = Mapping[str, NDArray[np.integer]]


@dataclass(frozen=True)
class Rule:
    """An accumulation rule that a unit may follow.

    Attributes
    ----------
    name : str
    kind : {"rounding", "order"}
        What a unit gets wrong that follows it in place of its own.
    params : object or None
        Params of the model under this rule; None for what no model has: see `fold`.
    rounding, order : str
        For `fold`.
    """

    name: str
    kind: str
    params: Any | None
    rounding: str = "rne"
    order: str = "ascending"

    def bits(self, dot: Dot, spec: DotSpec) -> int | None:
        """Return a dot product's float32 bits under a rule that no model has; None where NaN or Inf is among them."""
        found = block_terms(dot, spec)
        return None if found is None else fold(*found, self.rounding, self.order)


def parse_rule(text: str, params: Any) -> Rule:
    """Return the rule that a text names, for a unit with these Params.

    Parameters
    ----------
    text : str
        ``exact`` (a block exactly, one FP32 rounding a block), ``sequential_fp32`` (one rounding a product),
        ``aligned:F`` (terms truncated to F fraction bits, the products of a beat at once, rounded toward zero), or
        with more colons its rounding and whether the accumulator is aligned too: ``aligned:24:rne:outside``; or a
        preset of `hwsim.pe.accumulator`.

    Raises
    ------
    ValueError
        When there is no such rule, or the unit cannot have it.
    """
    name, *rest = text.split(":")
    if not hasattr(params, "accumulator"):
        raise ValueError("rules of accumulation are those of mx_dot; this unit has one rule only")
    if name in ("exact", "sequential_fp32") and not rest:
        fields: dict[str, Any] = {} if name == "exact" else {"kind": "sequential", "scales": "product"}
        return Rule(text, "order", replace(params, accumulator=Accumulator(**fields)))
    if name in accumulator.PRESETS and not rest:
        found = accumulator.PRESETS[name]
        chosen = accumulator.preset(name, None if found.k is not None else params.lanes * found.splits)
        return Rule(text, "order", replace(params, accumulator=chosen))
    if name == "aligned" and 1 <= len(rest) <= 3 and rest[0].isdigit():
        mode, addend = ([*rest[1:], "rtz", "inside"][0], [*rest[2:], "inside"][0])
        return Rule(text, "order", _aligned(params, int(rest[0]), mode, addend))
    raise ValueError(
        f"unknown rule {text!r}; allowed: {ANY_RULE}, exact, sequential_fp32, aligned:F, aligned:F:ROUNDING:ADDEND "
        f"({', '.join(get_args(accumulator.Rounding))}; {', '.join(get_args(accumulator.Place))}), "
        f"{', '.join(accumulator.PRESETS)}"
    )


def _aligned(params: Any, fraction_bits: int, mode: str, addend: str) -> Any:
    rule = Accumulator(
        kind="aligned",
        rounding=mode,  # type: ignore[arg-type]
        overflow="infinite" if mode == "rtz" else "ieee",
        group=params.lanes,
        fraction_bits=fraction_bits,
        addend=addend,  # type: ignore[arg-type]
        scales="product",
    )
    return replace(params, accumulator=rule)


def known_rules(params: Any) -> list[Rule]:
    """Return every rule that is tried on a unit that follows none that is known: those of its model and of `fold`.

    Rules that this unit cannot have, such as sums too wide, are left out.
    """
    rules = []
    if hasattr(params, "accumulator"):
        for mode in get_args(accumulator.Rounding):
            exact = replace(params, accumulator=Accumulator(rounding=mode))
            rules.append(Rule("exact" if mode == "rne" else f"exact:{mode}", "order", exact))
        rules += _possible(params, ["sequential_fp32"])
        rules += _possible(
            params,
            [
                f"aligned:{bits}" + ("" if (mode, addend) == ("rtz", "inside") else f":{mode}:{addend}")
                for bits in _GRID_FRACTION_BITS
                for mode in ("rtz", "rne")
                for addend in ("inside", "outside")
            ],
        )
    return rules + _folded()


def _possible(params: Any, names: Sequence[str]) -> Iterator[Rule]:
    for name in names:
        try:
            yield parse_rule(name, params)
        except ValueError:
            continue


def suspects(params: Any) -> list[Rule]:
    """Return the rules that explain differences of a unit from its model: other roundings first, then other orders."""
    own = getattr(params, "accumulator", None)
    rules = []
    if own is not None:
        rules = [
            Rule(f"{own.kind}, rounding {mode}", "rounding", replace(params, accumulator=replace(own, rounding=mode)))
            for mode in get_args(accumulator.Rounding)
            if mode != own.rounding
        ]
    if own is None or own == Accumulator():
        rules += [
            Rule("ties away from zero", "rounding", None, "rmm"),
            Rule("rounding up", "rounding", None, "rup"),
            *([Rule(f"rounding {mode}", "rounding", None, mode) for mode in ("rtz", "rdn")] if own is None else []),
        ]
    names = ["exact", "sequential_fp32", *accumulator.PRESETS]
    names += [f"aligned:{bits}" for bits in _GRID_FRACTION_BITS]
    if own is not None:
        rules += [rule for rule in _possible(params, names) if rule.params != params]
    return rules + [rule for rule in _folded() if rule.order != "ascending"]


def _folded() -> list[Rule]:
    return [
        Rule("exact:rmm (ties away from zero)", "order", None, "rmm"),
        Rule("exact:rup", "order", None, "rup"),
        Rule("exact, one rounding at the end", "order", None, order="whole"),
        Rule("exact, blocks in descending K", "order", None, order="descending"),
        Rule("exact, blocks added pairwise", "order", None, order="pairwise"),
    ]


def block_terms(dot: Dot, spec: DotSpec) -> tuple[list[Fraction], list[Fraction]] | None:
    """Return the exact sums of a dot product's blocks, scales applied, and its output scales.

    None where a NaN or an infinity is among the factors.
    """
    blocks = len(dot["last"]) * spec.lanes // spec.block if spec.block else 1
    a, b = (np.asarray(dot[side]).reshape(blocks, -1) for side in ("a", "b"))
    for codes, name in ((a, spec.a_element), (b, spec.b_element)):
        if not np.isfinite(element_values(element(name))[codes]).all():
            return None
    # 16-bit floats need more than 64 bits
    kind = np.int64 if spec.block_sum_bits <= 63 else object
    left, right = np.array(spec.a_ints, kind)[a], np.array(spec.b_ints, kind)[b]
    if spec.zero_bits:
        right = right - np.asarray(dot["b_zero"]).reshape(blocks, -1)[:, -1:].astype(kind)
    sums = [Fraction(int(total), 1 << spec.frac_bits) for total in (left * right).sum(axis=1)]
    for field, scale in (("a_scale", spec.a_scale), ("b_scale", spec.b_scale)):
        if scale is None:
            continue
        # a block's scale counts at its last beat; a beat of several blocks has one for each
        codes = np.asarray(dot[field]).reshape(blocks, -1)[:, -1]
        values = element_values(element(scale))[codes]
        if not np.isfinite(values).all():
            return None
        sums = [total * Fraction(float(value)) for total, value in zip(sums, values, strict=True)]
    outer = [int(np.asarray(dot[name])[-1]) for name, there in (("a_out", spec.a_out), ("b_out", spec.b_out)) if there]
    if any(bits & 0x7FFFFFFF >= _INFINITY for bits in outer):
        return None
    return sums, [value_of(bits) for bits in outer]


def fold(terms: Sequence[Fraction], outer: Sequence[Fraction], mode: str, order: str) -> int:
    """Return the float32 bits of a sum of exact terms.

    Parameters
    ----------
    terms, outer : sequence of Fraction
        As `block_terms` gives them.
    mode : str
        ``rne``, ``rtz``, ``rdn``, ``rup`` or ``rmm`` (to nearest, ties away from zero), at every accumulation.
    order : {"ascending", "descending", "pairwise", "whole"}
        ``pairwise``: neighbours first, then their sums; ``whole``: one rounding of the exact sum.
    """
    if order == "whole":
        bits = round_bits(sum(terms, Fraction(0)), mode)
    elif order == "pairwise":
        level = [round_bits(term, mode) for term in terms]
        while len(level) > 1:
            pairs = [_plus(level[i], value_of(level[i + 1]), mode) for i in range(0, len(level) - 1, 2)]
            level = pairs + level[len(level) - len(level) % 2 :]
        bits = level[0]
    else:
        bits = 0
        for term in terms if order == "ascending" else reversed(terms):
            bits = _plus(bits, term, mode)
    for scale in outer:
        bits = rounding.multiply(bits, round_bits(scale, "rne")).bits
    return bits


def _plus(bits: int, term: Fraction, mode: str) -> int:
    return bits if bits & 0x7FFFFFFF >= _INFINITY else round_bits(value_of(bits) + term, mode)


def round_bits(value: Fraction, mode: str) -> int:
    """Return the float32 bits of a dyadic number, in one of the modes of `fold`; zero is +0."""
    if value == 0:
        return 0
    sign, raw = int(value < 0), (abs(value.numerator), 1 - value.denominator.bit_length())
    if mode == "rup":
        return rounding.round_float(1 - sign, *raw, mode="rdn").bits ^ 0x80000000
    if mode != "rmm":
        return rounding.round_float(sign, *raw, mode=mode).bits  # type: ignore[arg-type]
    low = rounding.round_float(0, *raw, mode="rtz").bits
    tie = abs(value) * 2 == value_of(low) + value_of(low + 1)
    return sign << 31 | (low + 1 if tie else rounding.round_float(0, *raw).bits)


def value_of(bits: int) -> Fraction:
    """Return the value of a float32; that of an infinity is what comes after the largest number."""
    magnitude = bits & 0x7FFFFFFF
    if magnitude == _INFINITY:
        return -_TOO_LARGE if bits >> 31 else _TOO_LARGE
    sign, integer, exponent = rounding.split(bits)
    return (-1 if sign else 1) * Fraction(integer) * Fraction(2) ** exponent


def is_special(expected: int, found: int) -> bool:
    """Tell whether a difference is one of special values.

    NaN or infinity on either side, the sign of a zero, or a zero in place of a subnormal number.
    """
    magnitudes = expected & 0x7FFFFFFF, found & 0x7FFFFFFF
    if max(magnitudes) >= _INFINITY:
        return True
    return min(magnitudes) == 0 and max(magnitudes) < 1 << 23


def is_near(expected: int, found: int, exact: Fraction | None) -> bool:
    """Tell whether a result is next to the expected one, or within one unit in the last place of the exact sum."""
    ordered = [-(bits & 0x7FFFFFFF) if bits >> 31 else bits for bits in (expected, found)]
    if abs(ordered[0] - ordered[1]) == 1:
        return True
    if exact is None:
        return False
    low = round_bits(abs(exact), "rtz")
    return low < _INFINITY and abs(value_of(found) - exact) < value_of(low + 1) - value_of(low)


def exact_sum(dot: Dot, spec: DotSpec) -> Fraction | None:
    """Return a dot product's exact value, output scales applied; None where it is no number."""
    found = block_terms(dot, spec)
    if found is None:
        return None
    total = sum(found[0], Fraction(0))
    for scale in found[1]:
        total *= scale
    return total


def classify(
    differences: Sequence[tuple[int, int, Fraction | None]],
    explained: Mapping[Rule, Sequence[bool]],
    contradicted: Mapping[Rule, int],
) -> tuple[list[str], Rule | None]:
    """Return the kind of every difference, and the rule that explains most of them.

    Parameters
    ----------
    differences : sequence of (int, int, Fraction or None)
        Expected and found float32 bits, and the exact sum.
    explained : mapping
        For each of `suspects` whether it gives the bits found. One that explains more than half of what is no matter
        of special values decides for all that it explains; the others are ``special values`` (`is_special`),
        ``rounding`` where the result is near (`is_near`), ``order`` where any other rule gives it, else ``other``.
    contradicted : mapping
        For each of them how many right results it does not give: between equals, the least of these counts.
    """
    special = [is_special(expected, found) for expected, found, _ in differences]
    hits = {
        rule: sum(hit and not s for hit, s in zip(flags, special, strict=True)) for rule, flags in explained.items()
    }
    best = max(hits, key=lambda rule: (hits[rule], -contradicted[rule]), default=None)
    if best is not None and 2 * hits[best] <= special.count(False):
        best = None
    kinds = []
    for number, (expected, found, exact) in enumerate(differences):
        if best is not None and explained[best][number]:
            kinds.append(best.kind)
        elif special[number]:
            kinds.append("special values")
        elif is_near(expected, found, exact):
            kinds.append("rounding")
        elif any(flags[number] for flags in explained.values()):
            kinds.append("order")
        else:
            kinds.append("other")
    return kinds, best


__all__ = ["ANY_RULE", "KINDS", "Rule", "classify", "exact_sum", "known_rules", "parse_rule", "suspects"]

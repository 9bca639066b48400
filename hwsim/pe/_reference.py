"""A dot product step by step in plain Python integers: what the kernels and the hardware must equal, bit for bit.

Special values follow IEEE 754: a NaN among the factors of a term makes it NaN; Inf times zero is NaN and raises
`INVALID`; +Inf and -Inf in one sum are NaN and raise `INVALID`; else the sum is that Inf, or with a zero point, whose
product with the sum of activations is taken off it, NaN and `INVALID`. Once the accumulator is NaN
it stays so, and it is the one canonical NaN. A scale that is Inf counts as NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwsim.formats import FloatSpec
from hwsim.pe import rounding
from hwsim.pe._elements import NEGATIVE, NOT_A_NUMBER, POSITIVE, Decoded, decode, decode_table, number_format
from hwsim.pe.accumulator import ZERO_EXPONENT, Accumulator

if TYPE_CHECKING:
    from hwsim.pe._dot import DotSpec

Beats = Mapping[str, NDArray[np.integer]]


class Term(NamedTuple):
    """One addend of a step: ``integer * 2**low``, or of a class that is not finite.

    `exponent` decides alignment; `flags` were raised in forming the term.
    """

    special: int
    integer: int
    low: int
    exponent: int
    flags: int


class Step(NamedTuple):
    """Terms that meet in one rounding, and whether the accumulator is promoted after it."""

    terms: list[Term]
    promote: bool


def reference(beats: Beats, spec: DotSpec) -> int:
    """Return the float32 bits of one dot product; with ``spec.flags`` its flags lie above them, from bit 32.

    Parameters
    ----------
    beats : mapping
        Arrays by field name as `_dot.dot_beats` gives them.
    spec : DotSpec
        Datapath.
    """
    rule, fmt = spec.accumulator, spec.accumulator.spec
    running, flags, total = 0, 0, 0
    for step in _steps(beats, spec):
        running, raised = _accumulate(running, step.terms, rule)
        flags |= raised
        if step.promote:
            total, raised = _promote(total, running, rule)
            running, flags = 0, flags | raised
    result = total if rule.promote_every else rounding.widen(running, fmt)
    for field, there in (("a_out", spec.a_out), ("b_out", spec.b_out)):
        if there:
            scaled = rounding.multiply(result, int(beats[field][-1]))
            result, flags = scaled.bits, flags | scaled.flags
    return result | (flags << 32 if spec.flags else 0)


def _steps(beats: Beats, spec: DotSpec) -> Iterator[Step]:
    """Yield the steps of a dot product in ascending K."""
    rule, count = spec.accumulator, len(beats["last"])
    assert np.flatnonzero(beats["last"]).tolist() == [count - 1], "the last beat, and it alone, is marked"
    products = count * spec.lanes
    block = spec.block or products
    assert products % block == 0, "the last beat must end a block"
    size = {"exact": block, "aligned": rule.group, "sequential": block if rule.sums_in_order else 1}[rule.kind]
    assert products % size == 0, "the last beat must end a group"
    a, b = (_decoded(beats[side], name) for side, name in (("a", spec.a_element), ("b", spec.b_element)))
    period = rule.promote_every * block
    for start in range(0, products, size):
        end = start + size
        if rule.sums_in_order:
            terms = [_ordered_term(a, b, start, block, beats, spec)]
        elif rule.by_product:
            terms = [_product(a[k], b[k], _scales(beats, k, spec), spec) for k in range(start, end)]
        else:
            terms = [_block_term(a, b, k, block, beats, spec) for k in range(start, end, block)]
        yield Step(terms, bool(period) and (end % period == 0 or end == products))


def _decoded(codes: NDArray[np.integer], name: str) -> list[Decoded]:
    return decode(name, np.asarray(codes).reshape(-1).tolist())


def _scales(beats: Beats, k: int, spec: DotSpec) -> list[tuple[Decoded, int]]:
    """Return the scales of product k (of its beat and block), with the fraction bits of their integers."""
    beat, lane = divmod(k, spec.lanes)
    slot = lane * spec.beat_blocks // spec.lanes
    found = []
    for field, name in (("a_scale", spec.a_scale), ("b_scale", spec.b_scale)):
        if name is not None:
            code = int(np.asarray(beats[field][beat]).reshape(-1)[slot])
            found.append((decode_table(name)[code], number_format(name).frac_bits))
    return found


def _product(a: Decoded, b: Decoded, scales: list[tuple[Decoded, int]], spec: DotSpec) -> Term:
    """Return one product under its scales."""
    special, flags = _times(a, b)
    return _scaled(Term(special, a.integer * b.integer, -spec.frac_bits, a.exponent + b.exponent, flags), scales)


def _ordered_term(a: list[Decoded], b: list[Decoded], start: int, block: int, beats: Beats, spec: DotSpec) -> Term:
    """Return the rounded sum of a block's products, one after the other, under the scales of its last beat."""
    rule, fmt = spec.accumulator, spec.accumulator.spec
    part, flags = 0, 0
    for k in range(start, start + block):
        part, raised = _accumulate(part, [_product(a[k], b[k], [], spec)], rule)
        flags |= raised
    sign, magnitude, low = rounding.split(part, fmt)
    term = Term(_class(part, fmt), -magnitude if sign else magnitude, low, 0, flags)
    return _scaled(term, _scales(beats, start + block - 1, spec))


def _block_term(a: list[Decoded], b: list[Decoded], start: int, block: int, beats: Beats, spec: DotSpec) -> Term:
    """Return the exact sum of a block's products under the block's scales: those of its last beat."""
    special, flags = _sum_class(_times(a[k], b[k]) for k in range(start, start + block))
    total = sum(a[k].integer * b[k].integer << _up(beats, k, spec) for k in range(start, start + block))
    if spec.zero_bits:
        zero = int(beats["b_zero"][(start + block) // spec.lanes - 1])
        total -= zero * sum(a[k].integer for k in range(start, start + block))
        if special in (POSITIVE, NEGATIVE):  # an infinity meets itself in the sum of a, or zero in the zero point
            special, flags = NOT_A_NUMBER, flags | rounding.INVALID
    return _scaled(Term(special, total, -spec.frac_bits, 0, flags), _scales(beats, start + block - 1, spec))


def _up(beats: Beats, k: int, spec: DotSpec) -> int:
    """Return by how much product k is shifted left: up from the grid of the largest shifts, or by what doubles it."""
    if spec.acc_bits:
        return int(np.asarray(beats["rescale"])[k // spec.lanes + 1 :].sum())
    if not spec.sub_block:
        return 0
    sub = k // spec.sub_block
    return 2 * spec.max_shift - sum(int(np.asarray(beats[name]).reshape(-1)[sub]) for name in ("a_shift", "b_shift"))


def _times(a: Decoded, b: Decoded) -> tuple[int, int]:
    """Return the class of a product, and its flags."""
    if NOT_A_NUMBER in (a.special, b.special):
        return NOT_A_NUMBER, 0
    if not (a.special or b.special):
        return 0, 0
    signs = [_sign(side) for side in (a, b)]
    if 0 in signs:
        return NOT_A_NUMBER, rounding.INVALID
    return POSITIVE if signs[0] == signs[1] else NEGATIVE, 0


def _sign(number: Decoded) -> int:
    if number.special:
        return 1 if number.special == POSITIVE else -1
    return (number.integer > 0) - (number.integer < 0)


def _sum_class(terms: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Return the class of a sum of terms of given classes, and its flags."""
    classes, flags = set(), 0
    for special, raised in terms:
        classes.add(special)
        flags |= raised
    if NOT_A_NUMBER in classes:
        return NOT_A_NUMBER, flags
    if {POSITIVE, NEGATIVE} <= classes:
        return NOT_A_NUMBER, flags | rounding.INVALID
    return max(classes & {POSITIVE, NEGATIVE}, default=0), flags


def _scaled(term: Term, scales: list[tuple[Decoded, int]]) -> Term:
    """Return a product or a block's sum times its scales."""
    special, integer, low, exponent, flags = term
    for scale, frac_bits in scales:
        integer, low, exponent = integer * scale.integer, low - frac_bits, exponent + scale.exponent
    if special != NOT_A_NUMBER and any(scale.special for scale, _ in scales):
        special = NOT_A_NUMBER
    if special in (POSITIVE, NEGATIVE):
        signs = [_sign(scale) for scale, _ in scales]
        if 0 in signs:
            special, flags = NOT_A_NUMBER, flags | rounding.INVALID
        elif signs.count(-1) % 2:
            special = NEGATIVE if special == POSITIVE else POSITIVE
    if special:
        integer = 0
    return Term(special, integer, low, exponent if integer else ZERO_EXPONENT, flags)


def _accumulate(running: int, terms: list[Term], rule: Accumulator) -> tuple[int, int]:
    """Return the accumulator after a step, and the flags raised in it."""
    fmt = rule.spec
    assert fmt.nan_code is not None and fmt.inf_code is not None
    own = _class(running, fmt)
    special, flags = _sum_class([(own, 0), *((term.special, term.flags) for term in terms)])
    if special:
        sign = 1 << (fmt.bits - 1) if special == NEGATIVE else 0
        return (fmt.nan_code if special == NOT_A_NUMBER else sign | fmt.inf_code), flags
    if rule.kind == "aligned":
        rounded = _aligned(running, terms, rule)
    else:
        (term,) = terms
        rounded = rounding.add(running, term.integer, term.low, fmt, rule.rounding, rule.overflow)
    return rounded.bits, flags | rounded.flags


def _class(bits: int, fmt: FloatSpec) -> int:
    if rounding.is_nan(bits, fmt):
        return NOT_A_NUMBER
    if not rounding.is_infinite(bits, fmt):
        return 0
    return NEGATIVE if bits >> (fmt.bits - 1) else POSITIVE


def _aligned(running: int, terms: list[Term], rule: Accumulator) -> rounding.Rounded:
    """Return the rounded sum of terms truncated to `fraction_bits` below the largest exponent.

    The flag `INEXACT` is also raised when a term loses bits in its alignment.
    """
    fmt, terms = rule.spec, list(terms)
    if rule.addend == "inside":
        sign, magnitude, low = rounding.split(running, fmt)
        exponent = low + fmt.man_bits if magnitude else ZERO_EXPONENT
        terms.append(Term(0, -magnitude if sign else magnitude, low, exponent, 0))
    quantum = max(term.exponent for term in terms) - rule.fraction_bits
    total, lost = 0, False
    for term in terms:
        shift = term.low - quantum
        kept = abs(term.integer) << shift if shift >= 0 else abs(term.integer) >> -shift
        lost |= shift < 0 and kept << -shift != abs(term.integer)
        total += -kept if term.integer < 0 else kept
    if rule.addend == "inside":
        rounded = rounding.round_float(int(total < 0), abs(total), quantum, fmt, rule.rounding, rule.overflow)
    else:
        rounded = rounding.add(running, total, quantum, fmt, rule.rounding, rule.overflow)
    return rounding.Rounded(rounded.bits, rounded.flags | (rounding.INEXACT if lost else 0))


def _promote(total: int, running: int, rule: Accumulator) -> tuple[int, int]:
    """Return the FP32 sum after the accumulator was added to it, and the flags raised in it."""
    fmt = rule.spec
    special, flags = _sum_class([(_class(total, rounding.FLOAT32), 0), (_class(running, fmt), 0)])
    if special:
        infinity = rounding.INFINITY | (1 << 31 if special == NEGATIVE else 0)
        return (rounding.NAN if special == NOT_A_NUMBER else infinity), flags
    sign, magnitude, low = rounding.split(running, fmt)
    rounded = rounding.add(total, -magnitude if sign else magnitude, low)
    return rounded.bits, flags | rounded.flags

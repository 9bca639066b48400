"""Accumulators in exact rationals, from operands, with no code of `hwsim.pe`; operands of any element and scale."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from hwsim.formats import BlockSpec, Encoded, FloatSpec, IntSpec, element
from hwsim.pe.accumulator import Accumulator
from hwsim.pe.mx_dot import Params
from tests.hwsim.formats import oracle as formats
from tests.hwsim.formats.oracle import floor_log2, power

NAN, INFINITE = "nan", "infinite"
INEXACT, UNDERFLOW, OVERFLOW, INVALID = 1, 2, 4, 8
FORMATS = {"float32": (23, 127), "float16": (10, 15), "bfloat16": (7, 127)}


@dataclass(frozen=True)
class Number:
    """A value with the sign of its zero, or NaN, or an infinity of a sign; `exponent` is that of the alignment."""

    value: Fraction | str
    negative: bool = False
    exponent: int = 0

    @property
    def finite(self) -> bool:
        """Whether it is a number."""
        return isinstance(self.value, Fraction)

    def bits(self) -> int:
        """Return float32 bits, which must hold it exactly."""
        if self.value == NAN:
            return 0x7FC00000
        if self.value == INFINITE:
            return 0x7F800000 | self.negative << 31
        return formats.float32_bits(self.value, negative=self.negative)


@cache
def worth(name: str, code: int) -> Number:
    """Return what a code is worth."""
    spec = element(name)
    value = formats.value(spec, code)
    if value == formats.NAN:
        return Number(NAN)
    if value == formats.INFINITY:
        return Number(INFINITE, bool(code >> (spec.bits - 1)))
    if isinstance(spec, IntSpec):
        return Number(value)
    _, field, _ = formats.fields(spec, code)
    return Number(value, value < 0, (max(field, 1) if spec.subnormals else field) - spec.bias)


def rounded(
    value: Fraction, man_bits: int, bias: int, mode: str, infinite: bool = False, negative: bool = False
) -> tuple[Number, int]:
    """Return a rational rounded to an IEEE format, and its flags; `negative` is the sign of an exact zero."""
    if not value:
        return Number(Fraction(0), negative), 0
    sign, size = value < 0, abs(value)
    top, smallest = floor_log2(size), 1 - bias

    def at(quantum: int) -> Fraction:
        steps = size / power(quantum)
        low = steps.numerator // steps.denominator
        rest = steps - low
        if mode == "rne":
            low += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 1)
        elif mode == "rdn":
            low += bool(rest) and sign
        elif mode == "rod":
            low += bool(rest) and low % 2 == 0
        return low * power(quantum)

    unbounded, result = at(top - man_bits), at(max(top, smallest) - man_bits)
    if result >= power(bias + 1):
        largest = not infinite and (mode in ("rtz", "rod") or (mode == "rdn" and not sign))
        big = power(bias + 1) - power(bias - man_bits)
        found = Number(-big if sign else big, sign) if largest else Number(INFINITE, sign)
        return found, OVERFLOW | INEXACT
    flags = INEXACT if result != size else 0
    if flags and unbounded < power(smallest):
        flags |= UNDERFLOW
    return Number(-result if sign else result, sign), flags


def times(*factors: Number) -> tuple[Number, int]:
    """Return a product by IEEE 754, and its flags."""
    negative = sum(factor.negative for factor in factors) % 2 == 1
    if any(factor.value == NAN for factor in factors):
        # Inf * 0 among the elements, which come first, is invalid even under a scale that is NaN
        pair = factors[:2]
        invalid = all(factor.value != NAN for factor in pair) and {INFINITE, Fraction(0)} <= {f.value for f in pair}
        return Number(NAN), INVALID if invalid else 0
    if any(factor.value == INFINITE for factor in factors):
        if any(factor.value == 0 for factor in factors):
            return Number(NAN), INVALID
        return Number(INFINITE, negative), 0
    value = Fraction(1)
    for factor in factors:
        value *= factor.value
    return Number(value, negative, sum(factor.exponent for factor in factors)), 0


def special_sum(terms: list[Number]) -> tuple[Number | None, int]:
    """Return the sum of terms when it is no finite number, and its flags."""
    if any(term.value == NAN for term in terms):
        return Number(NAN), 0
    signs = {term.negative for term in terms if term.value == INFINITE}
    if len(signs) == 2:
        return Number(NAN), INVALID
    return (Number(INFINITE, signs.pop()) if signs else None), 0


def step(running: Number, terms: list[Number], rule: Accumulator) -> tuple[Number, int]:
    """Return the accumulator after one step, and its flags."""
    man_bits, bias = FORMATS[rule.format]
    man_bits = man_bits if rule.kept_bits is None else rule.kept_bits
    found, flags = special_sum([running, *terms])
    if found is not None:
        return found, flags
    if rule.kind != "aligned":
        total = running.value + sum(term.value for term in terms)
        return rounded(total, man_bits, bias, rule.rounding, rule.overflow == "infinite")
    aligned = [(term.value, term.exponent if term.value else -126) for term in terms]
    if rule.addend == "inside":
        exponent = max(floor_log2(abs(running.value)), 1 - bias) if running.value else -126
        aligned.append((running.value, exponent))
    quantum = power(max(exponent for _, exponent in aligned) - rule.fraction_bits)
    total, lost = Fraction(0), False
    for value, _ in aligned:
        steps = int(value / quantum)  # toward zero
        lost |= steps * quantum != value
        total += steps * quantum
    if rule.addend == "outside":
        total += running.value
    found, flags = rounded(total, man_bits, bias, rule.rounding, rule.overflow == "infinite")
    return found, flags | (INEXACT if lost else 0)


def dot(a: Encoded, b: Encoded, m: int, n: int, params: Params) -> int:
    """Return the float32 bits of one output, with the flags from bit 32."""
    spec, rule, flags = params.datapath, params.accumulator, 0
    whole = max(spec.lanes if params.block < spec.lanes else 1, rule.group)
    k = -(-a.k // whole) * whole
    block, running, total = params.block, Number(Fraction(0)), Number(Fraction(0))
    sides = [(a, m, spec.a_element, spec.a_scale), (b, n, spec.b_element, spec.b_scale)]
    pairs = [
        [worth(name, int(x.codes[row, i])) if i < a.k else Number(Fraction(0)) for x, row, name, _ in sides]
        for i in range(k)
    ]

    def scales(index: int) -> list[Number]:
        filled = index < a.k // block
        return [worth(name, int(x.scales[row, index]) if filled else 0) for x, row, _, name in sides if name]

    def block_term(index: int) -> Number:
        nonlocal flags
        found = [times(*pair) for pair in pairs[index * block : (index + 1) * block]]
        products = [product for product, _ in found]
        for _, raised in found:
            flags |= raised
        if rule.kind == "sequential":
            special = Number(Fraction(0))
            for product in products:
                special, raised = step(special, [product], rule)
                flags |= raised
        else:
            special, raised = special_sum(products)
            flags |= raised
        summed = special or Number(sum((p.value for p in products), Fraction(0)))
        if summed.finite:
            summed = Number(summed.value, summed.value < 0)
        under = scales(index)
        under = [Number(NAN) if scale.value == INFINITE else scale for scale in under]
        term, raised = times(summed, Number(Fraction(1)), *under)
        flags |= raised
        return term

    ordered = rule.kind == "sequential" and rule.scales == "block"
    size = {"exact": block, "aligned": rule.group, "sequential": block if ordered else 1}[rule.kind]
    for start in range(0, k, size):
        if rule.scales == "block":
            terms = [block_term(index) for index in range(start // block, (start + size) // block)]
        else:
            terms = []
            for i in range(start, start + size):
                term, raised = times(*pairs[i], *scales(i // block))
                terms.append(term)
                flags |= raised
        running, raised = step(running, terms, rule)
        flags |= raised
        end = start + size
        if rule.promote_every and (end % (rule.promote_every * block) == 0 or end == k):
            special, raised = special_sum([total, running])
            flags |= raised
            if special is None:
                total, raised = rounded(total.value + running.value, *FORMATS["float32"], "rne")
                flags |= raised
            else:
                total = special
            running = Number(Fraction(0))
    result = total if rule.promote_every else running
    for there, x, row in ((spec.a_out, a, m), (spec.b_out, b, n)):
        if there:
            scale = float32(out_scale(x, row))
            special, raised = times(result, scale)
            flags |= raised
            result = special
            if special.finite:
                result, raised = rounded(special.value, *FORMATS["float32"], "rne", negative=special.negative)
                flags |= raised
    return result.bits() | (flags << 32 if params.flags else 0)


def out_scale(x: Encoded, row: int) -> int:
    """Return the float32 bits that multiply a result."""
    if x.tensor_scale is not None:
        return int(np.float32(x.tensor_scale).view(np.uint32))
    return int(x.scales[row, 0])


def float32(bits: int) -> Number:
    """Return what float32 bits are worth."""
    negative, size = bool(bits >> 31), bits & 0x7FFFFFFF
    if size > 0x7F800000:
        return Number(NAN)
    return Number(INFINITE if size == 0x7F800000 else formats.float32_value(bits), negative)


KINDS = ("any", "near", "sparse", "special", "cancelling")
"""``any``: all finite codes; ``near``: exponents close together; ``sparse``: mostly zeros; ``special``: some codes that
are not finite, of elements and scales; ``cancelling``: the second half of each row is nearly the first one negated."""


def format_of(name: str, scale: str, block: int, out: bool) -> BlockSpec:
    """Return a block format of an element under a scale (``none`` for none), with an FP32 scale above it or not."""
    if scale == "none":
        given = {"scale": element("float32"), "scale_rule": "amax"} if out else {}
        return BlockSpec(name=f"{name}_row", element=element(name), source="test", **given)
    rule = "floor" if scale == "float8_e8m0fnu" else "amax"
    second = {"tensor_scale": "float32", "scale_cap": 100.0} if out else {}
    return BlockSpec(
        name=f"{name}_{scale}", element=element(name), scale=element(scale), block_size=block, scale_rule=rule,
        source="test", **second,
    )  # fmt: skip


def operands(params: Params, kind: str, m: int, n: int, blocks: int, seed: int = 0) -> tuple[Encoded, Encoded]:
    """Return operands [m, blocks * block] and [n, ...] for a unit."""
    spec, rng = params.datapath, np.random.default_rng([seed, KINDS.index(kind), m, n])
    a = _operand(
        format_of(spec.a_element, spec.a_scale or "none", params.block, spec.a_out), m, params, kind, blocks, rng
    )
    b = _operand(
        format_of(spec.b_element, spec.b_scale or "none", params.block, spec.b_out), n, params, kind, blocks, rng
    )
    return a, b


def _operand(fmt: BlockSpec, rows: int, params: Params, kind: str, blocks: int, rng: np.random.Generator) -> Encoded:
    shape = (rows, blocks * params.block)
    parts = {"codes": _codes(fmt.element.name, shape, kind, rng)}
    if kind == "cancelling" and fmt.element.name == params.element:
        half = shape[1] // 2
        flip = 1 << (fmt.element.bits - 1) if isinstance(fmt.element, FloatSpec) else 0
        parts["codes"][:, half : 2 * half] = parts["codes"][:, :half] ^ flip
        parts["codes"][:, -1:] = _codes(fmt.element.name, (rows, 1), kind, rng)
    for part in fmt.layout(shape):
        if part.name == "scales":
            parts["scales"] = _scales(fmt, part.shape, kind, rng)
        elif part.name == "tensor_scale":
            parts["tensor_scale"] = np.float32(rng.normal())
    dtypes = {part.name: part.dtype for part in fmt.layout(shape)}
    return Encoded(fmt, {name: np.asarray(array).astype(dtypes[name]) for name, array in parts.items()})


def _codes(name: str, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> np.ndarray:
    facts = element(name)
    if isinstance(facts, IntSpec):
        codes = rng.integers(0, 1 << facts.bits, shape)
    else:
        one, reach = facts.bias << facts.man_bits, 3 << facts.man_bits
        low, high = (0, facts.max_code) if kind in ("any", "special") else (max(one - reach, 0), one + reach)
        codes = rng.integers(low, min(high, facts.max_code) + 1, shape)
        codes |= rng.integers(0, 2, shape) << (facts.bits - 1)
        if kind == "special":
            refused = np.arange(facts.max_code + 1, facts.magnitude_mask + 1)
            where = (rng.random(shape) < 0.02) if len(refused) else np.zeros(shape, bool)
            codes = np.where(where, rng.choice(refused, shape) if len(refused) else 0, codes & facts.magnitude_mask)
            codes |= rng.integers(0, 2, shape) << (facts.bits - 1)
    return np.where(rng.random(shape) < (0.8 if kind == "sparse" else 0.02), 0, codes)


def _scales(fmt: BlockSpec, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> np.ndarray:
    scale = fmt.scale
    if scale.bits == 32:
        return rng.normal(size=shape).astype(np.float32).view(np.uint32)
    if kind in ("any", "special") or isinstance(scale, IntSpec):
        codes = rng.integers(0, 1 << scale.bits, shape)
        if kind == "any" and isinstance(scale, FloatSpec):
            codes = np.where(codes & scale.magnitude_mask > scale.max_code, 0, codes)
        return codes
    one = scale.bias << scale.man_bits
    return rng.integers(one - (2 << scale.man_bits), one + (2 << scale.man_bits), shape)

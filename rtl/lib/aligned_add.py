"""Add several terms, each truncated to a common quantum below the largest exponent, with one rounding."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe._dot import AdderTree
from hwsim.pe.accumulator import ZERO_EXPONENT, Accumulator
from hwsim.pe.rounding import FLAG_BITS
from rtl.lib import float_fields, special
from rtl.lib.adder_tree import Tree
from rtl.lib.float_fields import FloatFields
from rtl.lib.float_fused_add import FloatFusedAdd
from rtl.lib.float_round import FloatRound, min_width
from rtl.lib.largest import largest_of
from rtl.lib.shapes import shape_of
from rtl.lib.shift_sticky import ShiftRightSticky


class AlignedAdd(wiring.Component):
    """Align, truncate, sum and round: one step of an accumulator of kind ``aligned``.

    Parameters
    ----------
    rule : Accumulator
        Of kind ``aligned``.
    terms : int
        Terms of a step, the accumulator apart.
    max_magnitude : int
        Bound on the magnitude of a term.
    frac_bits : int
        Fraction bits of a term: it is worth ``term * 2^(exponent - frac_bits)``.
    min_exponent, max_exponent : int
        Range of the terms' exponents.
    sum_bits : int
        Signed width that holds the aligned sum.
    tree : {"binary", "carry_save"}
        How aligned terms are added up.

    Ports
    -----
    acc : In(format)
    term_<i> : In(signed)
    exponent_<i> : In(signed)
        Decides the alignment of a term that is not zero.
    specials : In(4)
        What the terms met beside numbers, see `rtl.lib.special`.
    result : Out(format)
    flags : Out(4)
        Inexact (bits lost in the alignment count), underflow, overflow, invalid, least significant first.

    Exactness
    ---------
    As kind ``aligned`` of :class:`hwsim.pe.accumulator.Accumulator`, bit for bit.

    Hardware
    --------
    Combinational: a tree of maxima, a right shifter a term, an adder tree, one rounding.
    """

    def __init__(
        self,
        rule: Accumulator,
        terms: int,
        max_magnitude: int,
        frac_bits: int,
        min_exponent: int,
        max_exponent: int,
        sum_bits: int,
        tree: AdderTree = "binary",
    ) -> None:
        self.rule, self.terms, self.frac_bits, self.sum_bits = rule, terms, frac_bits, sum_bits
        self.max_magnitude, self.tree = max_magnitude, tree
        self.exponents = (min(min_exponent, ZERO_EXPONENT), max(max_exponent, ZERO_EXPONENT + 1))
        exponent = range(min_exponent, max(max_exponent, min_exponent + 1) + 1)
        ports = {
            "acc": In(rule.spec.bits),
            "specials": In(special.BITS),
            "result": Out(rule.spec.bits),
            "flags": Out(FLAG_BITS),
        }
        for index in range(terms):
            ports[f"term_{index}"] = In(shape_of(-max_magnitude, max_magnitude))
            ports[f"exponent_{index}"] = In(exponent)
        super().__init__(ports)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        fmt = self.rule.spec
        acc = FloatFields(m, self.acc, fmt, "acc")
        inside = self.rule.addend == "inside"
        low, high = self.exponents
        if inside:
            low = min(low, float_fields.min_exponent(fmt))
            high = max(high, float_fields.max_exponent(fmt) + 1)

        # (magnitude, is negative, fraction bits, exponent) of every term
        terms: list[tuple[Value, Value, int, Value]] = []
        for index in range(self.terms):
            term, given = getattr(self, f"term_{index}"), getattr(self, f"exponent_{index}")
            magnitude = Signal(self.max_magnitude.bit_length(), name=f"magnitude_{index}")
            m.d.comb += magnitude.eq(abs(term))
            terms.append((magnitude, term[-1], self.frac_bits, Mux(term.any(), given, ZERO_EXPONENT)))
        if inside:
            exponent = Mux(acc.is_zero, ZERO_EXPONENT, acc.exponent)
            terms.append((acc.significand, acc.sign, fmt.man_bits, exponent))

        exponents = [Signal(range(low, high + 1), name=f"own_exponent_{index}") for index in range(len(terms))]
        m.d.comb += [own.eq(term[3]) for own, term in zip(exponents, terms, strict=True)]
        largest = largest_of(m, exponents)
        aligned, lost = self._align(m, terms, exponents, largest, high - low)
        total = Tree(m, self.tree, signed(self.sum_bits), "total").total(aligned)
        inexact = Signal()
        m.d.comb += inexact.eq(lost)
        if inside:
            self._round(m, acc, total, largest, inexact, low, high)
        else:
            self._add(m, total, largest, inexact, low, high)
        return m

    def _align(
        self,
        m: Module,
        terms: list[tuple[Value, Value, int, Value]],
        exponents: list[Signal],
        largest: Signal,
        span: int,
    ) -> tuple[list[Value], Value]:
        """Return the terms as integers in units of the quantum, and whether bits were lost."""
        aligned: list[Value] = []
        lost: Value = Const(0)
        for index, ((magnitude, negative, frac_bits, _), own) in enumerate(zip(terms, exponents, strict=True)):
            # one more bit at the bottom, which the shifter's sticky bit may take
            below = max(self.rule.fraction_bits - frac_bits, 0) + 1
            drop = max(frac_bits - self.rule.fraction_bits, 0) + 1
            word = Cat(Const(0, below), magnitude)
            m.submodules[f"align_{index}"] = shift = ShiftRightSticky(max(len(word), 2), span)
            m.d.comb += [shift.value.eq(word), shift.amount.eq(largest - own)]
            kept = shift.shifted[drop:] if drop < len(shift.shifted) else Const(0)
            aligned.append(Mux(negative, -kept, kept))
            lost = lost | shift.shifted[:drop].any()
        return aligned, lost

    def _round(
        self, m: Module, acc: FloatFields, total: Signal, largest: Signal, inexact: Signal, low: int, high: int
    ) -> None:
        """Round the sum, of which the accumulator is a part."""
        fmt, rule = self.rule.spec, self.rule
        pad = max(min_width(fmt) - len(total), 0)
        top = len(total) - 1 - rule.fraction_bits
        m.submodules.round = rounded = FloatRound(
            fmt, len(total) + pad, low + top, high + top, rule.rounding, rule.overflow
        )
        m.d.comb += [
            rounded.sign.eq(total < 0),
            rounded.exponent.eq(largest + top),
            rounded.significand.eq(Cat(Const(0, pad), abs(total)[: len(total)])),
        ]
        is_special, word, invalid = special.resolve(m, acc, self.specials, fmt)
        flags = rounded.flags | inexact
        m.d.comb += [
            self.result.eq(Mux(is_special, word, rounded.result)),
            self.flags.eq(Mux(is_special, Cat(Const(0, FLAG_BITS - 1), invalid), flags)),
        ]

    def _add(self, m: Module, total: Signal, largest: Signal, inexact: Signal, low: int, high: int) -> None:
        """Add the sum to the accumulator, exactly, and round."""
        fmt, rule = self.rule.spec, self.rule
        low, high = low - rule.fraction_bits, high - rule.fraction_bits
        m.submodules.add = add = FloatFusedAdd(
            (1 << (self.sum_bits - 1)) - 1, low, high, fmt, rule.rounding, rule.overflow
        )
        acc = FloatFields(m, self.acc, fmt, "outer")
        is_special = acc.is_nan | acc.is_inf | self.specials.any()
        m.d.comb += [
            add.acc.eq(self.acc),
            add.addend.eq(total),
            add.exponent.eq(largest - rule.fraction_bits),
            add.specials.eq(self.specials),
            self.result.eq(add.result),
            self.flags.eq(add.flags | (inexact & ~is_special)),
        ]

"""Take the terms of one beat into the accumulator."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Elaboratable, Module, Shape, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe._dot import DotSpec
from hwsim.pe.accumulator import Accumulator
from hwsim.pe.rounding import FLAG_BITS
from rtl.lib import special
from rtl.lib.aligned_add import AlignedAdd
from rtl.lib.float_fused_add import FloatFusedAdd
from rtl.lib.scaled_to_float import ScaledToFloat
from rtl.lib.shapes import shape_of

TERM_FIELDS = ("term", "low", "specials")
"""What there is of each term."""


@dataclass(frozen=True)
class TermShape:
    """Bounds of a term, which is worth ``integer * 2**low``.

    Attributes
    ----------
    max_magnitude : int
        Of the integer.
    min_low, max_low : int
        Range of ``low``.
    frac_bits : int
        ``low + frac_bits`` is the exponent that decides alignments.
    """

    max_magnitude: int
    min_low: int
    max_low: int
    frac_bits: int

    @property
    def field_shapes(self) -> tuple[Shape, ...]:
        """Shapes of `TERM_FIELDS`."""
        return (
            shape_of(-self.max_magnitude, self.max_magnitude),
            Shape.cast(range(self.min_low, max(self.max_low, self.min_low + 1) + 1)),
            Shape.cast(special.BITS),
        )


class Accumulate(wiring.Component):
    """Do the steps of one beat, or of the last beat of a group, one after the other.

    Parameters
    ----------
    rule : Accumulator
    terms : int
        Terms of a beat, or of a group of beats.
    shape : TermShape
    spec : DotSpec
        Datapath, for what a step holds.

    Ports
    -----
    acc : In(format)
        Goes unused where the dot product is one exact sum, the only term.
    term_<i>, low_<i>, specials_<i> : In
        Terms in ascending K.
    result : Out(format)
    flags : Out(4)
        Raised in any of the steps.

    Exactness
    ---------
    As :class:`hwsim.pe.accumulator.Accumulator`, bit for bit.

    Hardware
    --------
    Combinational: a chain as long as a beat has steps; where the dot product is one exact sum, its rounding alone.
    """

    def __init__(self, rule: Accumulator, terms: int, shape: TermShape, spec: DotSpec) -> None:
        self.rule, self.terms, self.shape, self.spec = rule, terms, shape, spec
        ports = {"acc": In(rule.spec.bits), "result": Out(rule.spec.bits), "flags": Out(FLAG_BITS)}
        for index in range(terms):
            ports |= {f"{name}_{index}": In(each) for name, each in zip(TERM_FIELDS, shape.field_shapes, strict=True)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        if self.spec.block_beats == 0 and self.rule.kind == "exact" and self.rule.scales == "block":
            # the one term of a dot product: there is nothing before it
            m.submodules.alone = alone = self._alone(m)
            m.d.comb += [self.result.eq(alone.result), self.flags.eq(alone.flags)]
            return m
        running: Value = self.acc
        flags = []
        step_terms = self.spec.step_terms
        for number, first in enumerate(range(0, self.terms, step_terms)):
            here = range(first, first + step_terms)
            m.submodules[f"step_{number}"] = step = (
                self._aligned(m, here) if self.rule.kind == "aligned" else self._one(m, first)
            )
            m.d.comb += [
                step.acc.eq(running),
                step.specials.eq(special.union([getattr(self, f"specials_{index}") for index in here])),
            ]
            running = step.result
            flags.append(step.flags)
        m.d.comb += [self.result.eq(running), self.flags.eq(special.union(flags))]
        return m

    def _alone(self, m: Module) -> ScaledToFloat:
        """Return the rounding of the first term."""
        rule, shape = self.rule, self.shape
        alone = ScaledToFloat(
            shape.max_magnitude, shape.min_low, shape.max_low, rule.spec, rule.rounding, rule.overflow
        )
        m.d.comb += [
            alone.value.eq(self.term_0),
            alone.exponent.eq(self.low_0),
            alone.specials.eq(self.specials_0),
        ]
        return alone

    def _one(self, m: Module, index: int) -> FloatFusedAdd:
        """Return the fused addition of one term."""
        rule, shape = self.rule, self.shape
        add = FloatFusedAdd(shape.max_magnitude, shape.min_low, shape.max_low, rule.spec, rule.rounding, rule.overflow)
        m.d.comb += [add.addend.eq(getattr(self, f"term_{index}")), add.exponent.eq(getattr(self, f"low_{index}"))]
        return add

    def _aligned(self, m: Module, indices: range) -> AlignedAdd:
        """Return the aligned addition of some terms."""
        rule, shape = self.rule, self.shape
        add = AlignedAdd(
            rule,
            len(indices),
            shape.max_magnitude,
            shape.frac_bits,
            shape.min_low + shape.frac_bits,
            shape.max_low + shape.frac_bits,
            self.spec.aligned_bits,
            self.spec.adder_tree,
        )
        for place, index in enumerate(indices):
            m.d.comb += [
                getattr(add, f"term_{place}").eq(getattr(self, f"term_{index}")),
                getattr(add, f"exponent_{place}").eq(getattr(self, f"low_{index}") + shape.frac_bits),
            ]
        return add

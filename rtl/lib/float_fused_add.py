"""Add a scaled integer to a float with one rounding."""

from __future__ import annotations

from typing import Literal

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats import FloatSpec
from hwsim.pe.rounding import FLAG_BITS, FLOAT32
from rtl.lib import float_fields, special
from rtl.lib.float_fields import FloatFields
from rtl.lib.float_round import FloatRound
from rtl.lib.normalise import Normalise
from rtl.lib.shapes import shape_of
from rtl.lib.shift_sticky import ShiftRightSticky

GUARD_BITS = 3
"""Bits kept under the smaller addend: one for a lost leading bit, one for the half quantum, one for the sticky bit.

Shifted by three or less, the smaller addend loses nothing. Shifted by more, it can take at most one leading bit from
the larger one, which is normalised; the half quantum of the result then still weighs twice the sticky bit, as
`ShiftRightSticky` asks. (A subnormal accumulator is not normalised, but its own last place is the result's quantum, and
of the finer quantum that tells what is tiny, the half still weighs twice the sticky bit.)
"""


class FloatFusedAdd(wiring.Component):
    """Form ``acc + addend * 2^exponent`` exactly and round once.

    Parameters
    ----------
    max_magnitude : int
        Bound on ``abs(addend)``.
    min_exponent, max_exponent : int
        Range of ``exponent``.
    fmt : FloatSpec
        Format of accumulator and result, IEEE-like.
    rounding, overflow : str
        As for `FloatRound`.

    Ports
    -----
    acc : In(fmt.bits)
        Infinity stays; NaN gives the canonical NaN.
    addend : In(signed)
        Exact integer.
    exponent : In(signed)
        Weight of the addend's lowest bit, as a power of two.
    specials : In(4)
        What the addend met beside numbers, see `rtl.lib.special`.
    result : Out(fmt.bits)
        An exact zero is +0, so -0 plus a zero addend is +0.
    flags : Out(4)
        Inexact, underflow, overflow, invalid, least significant first.

    Exactness
    ---------
    One rounding of the exact sum, as :func:`hwsim.pe.rounding.add`, bit for bit.

    Hardware
    --------
    Combinational: normalise the addend, swap, align, add, round.
    """

    def __init__(
        self,
        max_magnitude: int,
        min_exponent: int,
        max_exponent: int,
        fmt: FloatSpec = FLOAT32,
        rounding: str = "rne",
        overflow: Literal["ieee", "infinite", "saturate"] = "ieee",
    ) -> None:
        if max_magnitude < 1:
            raise ValueError(f"max_magnitude must be at least 1, not {max_magnitude!r}")
        if min_exponent > max_exponent:
            raise ValueError(f"min_exponent {min_exponent!r} must not exceed max_exponent {max_exponent!r}")
        self.fmt, self.rounding, self.overflow = fmt, rounding, overflow
        self.magnitude_bits = max_magnitude.bit_length()
        self.top_exponents = (min_exponent, max_exponent + self.magnitude_bits - 1)
        super().__init__(
            {
                "acc": In(fmt.bits),
                "addend": In(shape_of(-max_magnitude, max_magnitude)),
                # at least one bit: Verilog has no ports of none
                "exponent": In(range(min_exponent, max(max_exponent, min_exponent + 1) + 1)),
                "specials": In(special.BITS),
                "result": Out(fmt.bits),
                "flags": Out(FLAG_BITS),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        fmt, precision = self.fmt, self.fmt.man_bits + 1
        lowest, highest = float_fields.min_exponent(fmt), float_fields.max_exponent(fmt) + 1
        width = max(precision, self.magnitude_bits)  # holds either addend exactly, its top bit on top
        acc = FloatFields(m, self.acc, fmt, "acc")
        acc_significand = Cat(Const(0, width - precision), acc.significand)
        addend_significand, addend_exponent = self._normalise_addend(m, width)

        # swap: acc need not be normalised, since below the smallest normal number its grid is the result's grid
        distance = Signal(range(lowest - self.top_exponents[1], highest + 1 - self.top_exponents[0]))
        addend_leads = Signal()
        large = Signal(width)
        small = Signal(width)
        large_exponent = Signal(range(lowest, max(highest, self.top_exponents[1]) + 1))
        m.d.comb += [
            distance.eq(acc.exponent - addend_exponent),
            addend_leads.eq((distance < 0) & addend_significand[-1]),  # a zero addend never leads
            large.eq(Mux(addend_leads, addend_significand, acc_significand)),
            small.eq(Mux(addend_leads, acc_significand, addend_significand)),
            large_exponent.eq(Mux(addend_leads, addend_exponent, acc.exponent)),
        ]

        # align
        m.submodules.align = align = ShiftRightSticky(width + GUARD_BITS, max_amount=1 << (len(distance) - 1))
        m.d.comb += [
            align.value.eq(Cat(Const(0, GUARD_BITS), small)),
            align.amount.eq(Mux(distance < 0, -distance, distance)),
        ]

        # add: the sign of the larger one leads, and flips if the difference turns out negative
        total = Signal(shape_of(-(1 << (width + GUARD_BITS)), (1 << (width + GUARD_BITS + 1)) - 1))
        large_aligned = Cat(Const(0, GUARD_BITS), large)
        subtract = Signal()
        m.d.comb += [
            subtract.eq(acc.sign ^ self.addend[-1]),
            total.eq(Mux(subtract, large_aligned - align.shifted, large_aligned + align.shifted)),
        ]
        self._round(m, acc, total, Mux(addend_leads, self.addend[-1], acc.sign), large_exponent)
        return m

    def _normalise_addend(self, m: Module, width: int) -> tuple[Value, Signal]:
        """Return the addend's magnitude, leading one on top of ``width`` bits, and the weight of that bit."""
        m.submodules.addend = normalise = Normalise(self.magnitude_bits)
        top_exponent = Signal(range(self.top_exponents[0], self.top_exponents[1] + 1))
        m.d.comb += [
            normalise.value.eq(abs(self.addend)),
            # only a zero addend counts more than magnitude_bits - 1 zeros, and a zero addend's exponent goes unused
            top_exponent.eq(self.exponent + (self.magnitude_bits - 1) - normalise.count),
        ]
        return Cat(Const(0, width - self.magnitude_bits), normalise.normalised), top_exponent

    def _round(self, m: Module, acc: FloatFields, total: Signal, leading_sign: Value, exponent: Signal) -> None:
        """Round the exact sum and choose among the special cases."""
        width = len(total) - 1  # a carry above the addends; the sign apart
        highest = max(float_fields.max_exponent(self.fmt) + 1, self.top_exponents[1])
        m.submodules.round = rounded = FloatRound(
            self.fmt, width, float_fields.min_exponent(self.fmt) + 1, highest + 1, self.rounding, self.overflow
        )
        m.d.comb += [
            rounded.sign.eq(total.any() & (leading_sign ^ (total < 0))),
            rounded.exponent.eq(exponent + 1),
            rounded.significand.eq(abs(total)),
        ]
        is_special, word, invalid = special.resolve(m, acc, self.specials, self.fmt)
        m.d.comb += [
            self.result.eq(Mux(is_special, word, rounded.result)),
            self.flags.eq(Mux(is_special, Cat(Const(0, FLAG_BITS - 1), invalid), rounded.flags)),
        ]

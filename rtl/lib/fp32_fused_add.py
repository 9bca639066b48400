"""Add a scaled integer to an FP32 number with one rounding."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.lib.fp32 import CANONICAL_NAN, MAX_EXPONENT, MIN_EXPONENT, PRECISION, Fp32Fields
from rtl.lib.fp32_round import Fp32Round
from rtl.lib.normalise import Normalise
from rtl.lib.shift_sticky import ShiftRightSticky

GUARD_BITS = 3
"""Bits kept under the smaller addend: one for a lost leading bit, one for the half quantum, one for the sticky bit.

Shifted by three or less, the smaller addend loses nothing. Shifted by more, it can take at most one leading bit from
the larger one, which is normalised; the half quantum of a 24-bit result then still weighs twice the sticky bit, as
`ShiftRightSticky` asks. (A subnormal accumulator is not normalised, but its own last place is the result's quantum.)
"""


class Fp32FusedAdd(wiring.Component):
    """Form ``acc + addend * 2^exponent`` exactly and round once to nearest, ties to even.

    Parameters
    ----------
    max_magnitude : int
        Bound on ``abs(addend)``.
    min_exponent, max_exponent : int
        Range of ``exponent``.

    Ports
    -----
    acc : In(32)
        FP32 bits. Infinity stays; NaN gives the canonical NaN.
    addend : In(signed)
        Exact integer.
    exponent : In(signed)
        Weight of the addend's lowest bit, as a power of two.
    addend_is_nan : In(1)
        Makes the result the canonical NaN.
    result : Out(32)
        FP32 bits. An exact zero is +0, so -0 plus a zero addend is +0.

    Exactness
    ---------
    One rounding of the exact sum (IEEE 754-2019, 4.3.1 roundTiesToEven), subnormals kept, overflow to infinity.

    Hardware
    --------
    Combinational: normalise the addend, swap, align, add, round.
    """

    def __init__(self, max_magnitude: int, min_exponent: int, max_exponent: int) -> None:
        if max_magnitude < 1:
            raise ValueError(f"max_magnitude must be at least 1, not {max_magnitude!r}")
        if min_exponent > max_exponent:
            raise ValueError(f"min_exponent {min_exponent!r} must not exceed max_exponent {max_exponent!r}")
        self.magnitude_bits = max_magnitude.bit_length()
        self.top_exponents = (min_exponent, max_exponent + self.magnitude_bits - 1)
        super().__init__(
            {
                "acc": In(32),
                "addend": In(range(-max_magnitude, max_magnitude + 1)),
                # at least one bit: Verilog has no ports of none
                "exponent": In(range(min_exponent, max(max_exponent, min_exponent + 1) + 1)),
                "addend_is_nan": In(1),
                "result": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        width = max(PRECISION, self.magnitude_bits)  # holds either addend exactly, its top bit on top
        acc = Fp32Fields(m, self.acc, "acc")
        acc_significand = Cat(Const(0, width - PRECISION), acc.significand)
        addend_significand, addend_exponent = self._normalise_addend(m, width)

        # swap: acc need not be normalised, since below 2^-126 its grid is the result's grid
        distance = Signal(range(MIN_EXPONENT - self.top_exponents[1], MAX_EXPONENT + 2 - self.top_exponents[0]))
        addend_leads = Signal()
        large = Signal(width)
        small = Signal(width)
        large_exponent = Signal(range(MIN_EXPONENT, max(MAX_EXPONENT + 1, self.top_exponents[1]) + 1))
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
        total = Signal(range(-(1 << (width + GUARD_BITS)), 1 << (width + GUARD_BITS + 1)))
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

    def _round(self, m: Module, acc: Fp32Fields, total: Signal, leading_sign: Value, exponent: Signal) -> None:
        """Round the exact sum and choose among the special cases."""
        width = len(total) - 1  # a carry above the addends; the sign apart
        m.submodules.round = rounded = Fp32Round(
            width, min_exponent=MIN_EXPONENT + 1, max_exponent=max(MAX_EXPONENT + 1, self.top_exponents[1]) + 1
        )
        m.d.comb += [
            rounded.sign.eq(total.any() & (leading_sign ^ (total < 0))),
            rounded.exponent.eq(exponent + 1),
            rounded.significand.eq(abs(total)),
        ]
        with m.If(acc.is_nan | self.addend_is_nan):
            m.d.comb += self.result.eq(CANONICAL_NAN)
        with m.Elif(acc.is_inf):
            m.d.comb += self.result.eq(self.acc)
        with m.Else():
            m.d.comb += self.result.eq(rounded.result)

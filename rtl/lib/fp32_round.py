"""Round an exact raw result to FP32: the only place in the hardware that rounds."""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.lib.fp32 import MAX_EXPONENT_FIELD, MIN_EXPONENT, PRECISION
from rtl.lib.normalise import Normalise
from rtl.lib.shift_sticky import ShiftRightSticky

MIN_WIDTH = PRECISION + 2
"""A significand needs a guard and a sticky bit under the bits that are kept."""


class Fp32Round(wiring.Component):
    """Round sign, exponent and significand to FP32: to nearest, ties to even; subnormals kept; overflow to infinity.

    Parameters
    ----------
    width : int
        Bits of the significand, at least 26 (24 kept, guard, sticky).
    min_exponent, max_exponent : int
        Range of ``exponent``. Where the smallest is not below that of the smallest normal number, no raw result can
        lie wholly under the subnormals' grid, and the right shifter is left out.

    Ports
    -----
    sign : In(1)
    exponent : In(signed)
        Weight of the significand's top bit, as a power of two.
    significand : In(width)
        Need not be normalised. Its lowest bit may be sticky (see `ShiftRightSticky`) if it weighs less than half of
        the result's last place.
    result : Out(32)
        FP32 bits; a zero significand gives a zero of the given sign. Never NaN.

    Exactness
    ---------
    IEEE 754-2019, 4.3.1 roundTiesToEven, and 7.4 (overflow), with gradual underflow.

    Hardware
    --------
    Combinational.
    """

    def __init__(self, width: int, min_exponent: int, max_exponent: int) -> None:
        if width < MIN_WIDTH:
            raise ValueError(f"width must be at least {MIN_WIDTH}, not {width!r}")
        if min_exponent > max_exponent:
            raise ValueError(f"min_exponent {min_exponent!r} must not exceed max_exponent {max_exponent!r}")
        self.width = width
        self.min_exponent = min_exponent
        self.max_exponent = max_exponent
        super().__init__(
            {
                "sign": In(1),
                "exponent": In(range(min_exponent, max_exponent + 1)),
                "significand": In(width),
                "result": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        aligned, biased_less_1 = self._align(m)

        # round: the increment may carry from the fraction into the exponent field, which is what it should do
        kept = aligned[-PRECISION:]
        guard = aligned[-PRECISION - 1]
        sticky = aligned[: -PRECISION - 1].any()
        increment = Signal()
        magnitude = Signal(len(biased_less_1) + PRECISION)
        m.d.comb += [
            increment.eq(guard & (sticky | kept[0])),
            # a normal number's hidden bit adds 1 to the exponent field, a subnormal's missing one adds nothing
            magnitude.eq((biased_less_1 << (PRECISION - 1)) + kept + increment),
        ]

        infinity = MAX_EXPONENT_FIELD << (PRECISION - 1)
        m.d.comb += self.result.eq(Cat(Mux(magnitude > infinity, infinity, magnitude)[:31], self.sign))
        return m

    def _align(self, m: Module) -> tuple[Signal, Signal]:
        """Put the leading one on top, or a subnormal's bits on their grid; return them and exponent field less 1."""
        m.submodules.leading = leading = Normalise(self.width)
        room = Signal(range(self.min_exponent - MIN_EXPONENT, self.max_exponent - MIN_EXPONENT + 1))
        left = Signal(range(self.width + 1))
        aligned = Signal(self.width)
        biased_less_1 = Signal(range(max(self.max_exponent - MIN_EXPONENT, 0) + 1))
        m.d.comb += [
            leading.value.eq(self.significand),
            room.eq(self.exponent - MIN_EXPONENT),  # left shifts that bring the top bit's weight to 2^-126
            left.eq(Mux(leading.count < room, leading.count, room)),
            aligned.eq(self.significand << left),
        ]
        if self.min_exponent < MIN_EXPONENT:
            m.submodules.denormalise = denormalise = ShiftRightSticky(self.width, MIN_EXPONENT - self.min_exponent)
            m.d.comb += [denormalise.value.eq(self.significand), denormalise.amount.eq(-room)]
            with m.If(room < 0):
                m.d.comb += aligned.eq(denormalise.shifted)
        m.d.comb += biased_less_1.eq(Mux(aligned[-1], room - left, 0))
        return aligned, biased_less_1

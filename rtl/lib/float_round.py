"""Round an exact raw result to a float: the only place in the datapaths of dot products that rounds."""

from __future__ import annotations

from typing import Literal

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats import FloatSpec
from hwsim.pe.rounding import FLAG_BITS, MODES
from rtl.lib import float_fields
from rtl.lib.normalise import Normalise
from rtl.lib.shift_sticky import ShiftRightSticky

OVERFLOWS = ("ieee", "infinite", "saturate")


def min_width(fmt: FloatSpec) -> int:
    """Return the least bits of a significand: those that are kept, two guard bits and a sticky bit.

    One guard bit decides the rounding; the other one whether a result is tiny after rounding.
    """
    return fmt.man_bits + 4


class FloatRound(wiring.Component):
    """Round sign, exponent and significand to a float; subnormals are kept.

    Parameters
    ----------
    fmt : FloatSpec
        Signed, with subnormals.
    width : int
        Bits of the significand, at least `min_width`.
    min_exponent, max_exponent : int
        Range of ``exponent``. Where the smallest is not below that of the smallest normal number, no raw result can
        lie wholly under the subnormals' grid, and the right shifter is left out.
    rounding : {"rne", "rtz", "rdn", "rod"}
        To nearest, ties to even; toward zero; down; to odd.
    overflow : {"ieee", "infinite", "saturate"}
        As for :func:`hwsim.pe.rounding.round_float`.

    Ports
    -----
    sign : In(1)
    exponent : In(signed)
        Weight of the significand's top bit, as a power of two.
    significand : In(width)
        Need not be normalised. Its lowest bit may be sticky (see `ShiftRightSticky`) if it weighs less than a quarter
        of the result's last place.
    result : Out(fmt.bits)
        A zero significand gives a zero of the given sign.
    flags : Out(4)
        Inexact, underflow (tininess after rounding), overflow, and 0, least significant first.

    Exactness
    ---------
    As :func:`hwsim.pe.rounding.round_float`, bit for bit (IEEE 754-2019, 4.3 and 7).

    Hardware
    --------
    Combinational.
    """

    def __init__(
        self,
        fmt: FloatSpec,
        width: int,
        min_exponent: int,
        max_exponent: int,
        rounding: str = "rne",
        overflow: Literal["ieee", "infinite", "saturate"] = "ieee",
    ) -> None:
        if width < min_width(fmt):
            raise ValueError(f"width must be at least {min_width(fmt)}, not {width!r}")
        if min_exponent > max_exponent:
            raise ValueError(f"min_exponent {min_exponent!r} must not exceed max_exponent {max_exponent!r}")
        if rounding not in MODES:
            raise ValueError(f"rounding must be one of {', '.join(MODES)}, not {rounding!r}")
        if overflow not in OVERFLOWS:
            raise ValueError(f"overflow must be one of {', '.join(OVERFLOWS)}, not {overflow!r}")
        if not fmt.signed or not fmt.subnormals or fmt.special in ("fnuz", "extended"):
            raise ValueError(f"the format must be signed, with subnormals and zeros of both signs, not {fmt.name}")
        self.fmt = fmt
        self.width = width
        self.min_exponent = min_exponent
        self.max_exponent = max_exponent
        self.rounding = rounding
        self.overflow = overflow
        super().__init__(
            {
                "sign": In(1),
                "exponent": In(range(min_exponent, max(max_exponent, min_exponent + 1) + 1)),
                "significand": In(width),
                "result": Out(fmt.bits),
                "flags": Out(FLAG_BITS),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        precision = self.fmt.man_bits + 1
        aligned, biased_less_1 = self._align(m)

        # round: the increment may carry from the fraction into the exponent field, which is what it should do
        kept = aligned[-precision:]
        increment, inexact = Signal(), Signal()
        magnitude = Signal(len(biased_less_1) + precision)
        m.d.comb += [
            inexact.eq(aligned[:-precision].any()),
            increment.eq(self._increment(kept[0], aligned[-precision - 1], aligned[: -precision - 1].any())),
            # a normal number's hidden bit adds 1 to the exponent field, a subnormal's missing one adds nothing
            magnitude.eq((biased_less_1 << self.fmt.man_bits) + kept + increment),
        ]

        # tiny: below the smallest normal number, even when rounded with one more place, as if exponents went on
        fine = aligned[-precision - 1 : -1]
        rises = self._increment(fine[0], aligned[-precision - 2], aligned[: -precision - 2].any())
        tiny = ~aligned[-1] & ~(fine.all() & rises)

        too_large = Signal()
        m.d.comb += [
            too_large.eq(magnitude > self.fmt.max_code),
            self.result.eq(Cat(Mux(too_large, self._too_large(), magnitude)[: self.fmt.bits - 1], self.sign)),
            self.flags.eq(Cat(inexact | too_large, inexact & tiny & ~too_large, too_large, Const(0))),
        ]
        return m

    def _increment(self, last: Value, guard: Value, sticky: Value) -> Value:
        """Return whether a magnitude is raised in its last place (to odd: that place is set where it is not)."""
        if self.rounding == "rne":
            return guard & (sticky | last)
        if self.rounding == "rdn":
            return self.sign & (guard | sticky)
        return ~last & (guard | sticky) if self.rounding == "rod" else Const(0)

    def _too_large(self) -> Value:
        """Return the magnitude that stands for a result too large."""
        fmt = self.fmt
        beyond = fmt.inf_code if fmt.inf_code is not None else fmt.nan_code
        largest = Const(fmt.max_code, fmt.bits - 1)
        if self.overflow == "saturate" or beyond is None:
            return largest
        infinite = Const(beyond, fmt.bits - 1)
        if self.overflow == "infinite" or self.rounding == "rne":
            return infinite
        return Mux(self.sign, infinite, largest) if self.rounding == "rdn" else largest

    def _align(self, m: Module) -> tuple[Signal, Signal]:
        """Put the leading one on top, or a subnormal's bits on their grid; return them and exponent field less 1."""
        lowest = float_fields.min_exponent(self.fmt)
        m.submodules.leading = leading = Normalise(self.width)
        room = Signal(range(self.min_exponent - lowest, self.max_exponent - lowest + 1))
        left = Signal(range(self.width + 1))
        aligned = Signal(self.width)
        biased_less_1 = Signal(range(max(self.max_exponent - lowest, 0) + 1))
        m.d.comb += [
            leading.value.eq(self.significand),
            room.eq(self.exponent - lowest),  # left shifts that bring the top bit's weight to the smallest normal
            left.eq(Mux(leading.count < room, leading.count, room)),
        ]
        shifted: Value = self.significand << left
        if self.min_exponent < lowest:
            m.submodules.denormalise = denormalise = ShiftRightSticky(self.width, lowest - self.min_exponent)
            m.d.comb += [denormalise.value.eq(self.significand), denormalise.amount.eq(-room)]
            shifted = Mux(room < 0, denormalise.shifted, shifted)
        m.d.comb += [aligned.eq(shifted), biased_less_1.eq(Mux(aligned[-1], room - left, 0))]
        return aligned, biased_less_1

"""Round an exact raw result to a float, with the IEEE flags: what the datapaths of dot products round with."""

from __future__ import annotations

from typing import Literal

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats import FloatSpec
from hwsim.pe.rounding import FLAG_BITS, MODES
from rtl.lib import float_fields
from rtl.lib.rounding import align, rises, too_large

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
        fmt, precision = self.fmt, self.fmt.man_bits + 1
        base = float_fields.min_exponent(fmt)
        aligned, above = align(m, self.significand, self.exponent, self.min_exponent, self.max_exponent, base)

        # round: the increment may carry from the fraction into the exponent field, which is what it should do
        kept, rest = aligned[-precision:], aligned[:-precision]
        magnitude = Signal(max(len(above) + precision, fmt.bits - 1))
        m.d.comb += [
            # a normal number's hidden bit adds 1 to the exponent field, a subnormal's missing one adds nothing
            magnitude.eq((above << fmt.man_bits) + kept + rises(self.rounding, self.sign, kept[0], rest)),
        ]

        # tiny: below the smallest normal number, even when rounded with one more place, as if exponents went on
        fine, finer = aligned[-precision - 1 : -1], aligned[: -precision - 1]
        tiny = ~aligned[-1] & ~(fine.all() & rises(self.rounding, self.sign, fine[0], finer))

        inexact, beyond = Signal(), Signal()
        number = Cat(magnitude[: fmt.bits - 1], self.sign)
        m.d.comb += [
            inexact.eq(rest.any()),
            beyond.eq(magnitude > fmt.max_code),
            self.result.eq(Mux(beyond, too_large(fmt, self.rounding, self.overflow, self.sign), number)),
            self.flags.eq(Cat(inexact | beyond, inexact & tiny & ~beyond, beyond, Const(0))),
        ]
        return m

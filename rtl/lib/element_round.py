"""Round an exact raw result to a code of a narrow format: minifloats with subnormals, and integers."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats.spec import FloatSpec, IntSpec
from rtl.lib import float_fields
from rtl.lib.rounding import align, rises, too_large

ROUNDINGS = ("rne", "rtz", "rup", "rdn", "raz", "rna", "rnz", "rod", "stochastic")
"""Modes of :mod:`hwsim.formats.rounding`; ``stochastic`` takes its random bits from a port."""


class ElementRound(wiring.Component):
    """Round sign, exponent and significand to an element's code.

    Parameters
    ----------
    element : FloatSpec or IntSpec
        Signed; a float has subnormals.
    width : int
        Bits of the significand.
    min_exponent, max_exponent : int
        Range of ``exponent``.
    rounding : str
        One of `ROUNDINGS`.
    overflow : {"saturate", "nonsaturating"}
        As for block formats: the largest value, or Inf (NaN where there is none).
    random_bits : int
        Width of ``random``, for ``stochastic``.

    Ports
    -----
    sign : In(1)
    exponent : In(signed)
        Weight of the significand's top bit, as a power of two.
    significand : In(width)
        Need not be normalised. Its lowest bit may be sticky (see `ShiftRightSticky`) if it weighs less than half of the
        result's last place.
    random : In(random_bits)
        There for ``stochastic``: the magnitude is rounded up where ``random * 2**-random_bits`` is less than the part
        cut off, in units of the last place.
    code : Out(element.bits)

    Exactness
    ---------
    As :func:`hwsim.formats.rounding.round_steps` on the exact value.

    Hardware
    --------
    Combinational. The left shifter is left out where no exponent lies above that of the smallest normal number (of
    integers: of the largest one), the right shifter where none lies below.
    """

    def __init__(
        self,
        element: FloatSpec | IntSpec,
        width: int,
        min_exponent: int,
        max_exponent: int,
        rounding: str = "rne",
        overflow: str = "saturate",
        random_bits: int = 0,
    ) -> None:
        if not element.signed or (isinstance(element, FloatSpec) and not element.subnormals):
            raise ValueError(f"element must be signed and have subnormals, not {element.name}")
        if rounding not in ROUNDINGS or (rounding == "stochastic") != (random_bits > 0):
            raise ValueError(
                f"rounding must be one of {', '.join(ROUNDINGS)}, with random_bits for stochastic alone; "
                f"not {rounding!r} and {random_bits!r}"
            )
        if width < 1 or min_exponent > max_exponent:
            raise ValueError(f"width {width!r} or exponents {min_exponent!r} to {max_exponent!r} are empty")
        self.element, self.rounding, self.overflow = element, rounding, overflow
        self.min_exponent, self.max_exponent, self.random_bits = min_exponent, max_exponent, random_bits
        if isinstance(element, FloatSpec):
            self.kept_bits = element.man_bits + 1
            self.base_exponent = float_fields.min_exponent(element)
        else:
            self.kept_bits = element.bits
            self.base_exponent = element.bits - 1 - element.frac_bits
        """Bits above the rounding, and the weight of the top one of them for subnormals (for any integer)."""
        self.width = max(width, self.kept_bits + max(random_bits, 1) + 1)
        self.extra = self.width - width
        ports = {
            "sign": In(1),
            # at least one bit: Verilog has no ports of none
            "exponent": In(range(min_exponent, max(max_exponent, min_exponent + 1) + 1)),
            "significand": In(width),
            "code": Out(element.bits),
        }
        if random_bits:
            ports["random"] = In(random_bits)
        super().__init__(ports)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        element = self.element
        word = Cat(Const(0, self.extra), self.significand)
        aligned, above = align(m, word, self.exponent, self.min_exponent, self.max_exponent, self.base_exponent)
        kept, rest = aligned[-self.kept_bits :], aligned[: -self.kept_bits]
        man_bits = element.man_bits if isinstance(element, FloatSpec) else self.kept_bits
        below = Signal(len(above) + man_bits + 1)  # the code before rounding
        rounded = Signal(len(below) + 1)
        random = self.random if self.random_bits else None
        m.d.comb += [
            # a normal number's hidden bit adds 1 to the exponent field, a subnormal's missing one adds nothing
            below.eq((above << man_bits) + kept),
            rounded.eq(below + rises(self.rounding, self.sign, below[0], rest, random)),
        ]
        if isinstance(element, FloatSpec):
            m.d.comb += self.code.eq(self._float_code(m, rounded, element))
        else:
            m.d.comb += self.code.eq(self._int_code(m, rounded, element))
        return m

    def _float_code(self, m: Module, rounded: Signal, element: FloatSpec) -> Value:
        """Bring what lies beyond the largest value back, and add the sign."""
        magnitude = Signal(element.bits - 1)
        m.d.comb += magnitude.eq(rounded)
        signed = self.sign if element.negative_zero else self.sign & rounded.any()
        beyond = too_large(element, self.rounding, self.overflow, self.sign)
        return Mux(rounded > element.max_code, beyond, Cat(magnitude, signed))

    def _int_code(self, m: Module, rounded: Signal, element: IntSpec) -> Value:
        """Clamp and make two's complement."""
        limit, level = Signal(range(-element.qmin + 1)), Signal(element.bits)
        m.d.comb += [
            limit.eq(Mux(self.sign, -element.qmin, element.qmax)),
            level.eq(Mux(rounded > limit, limit, rounded)),
        ]
        return Mux(self.sign, -level, level)[: element.bits]

"""Round an exact raw result to a code of a narrow format: minifloats with subnormals, and integers."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats.spec import FloatSpec, IntSpec
from rtl.lib.normalise import Normalise
from rtl.lib.shift_sticky import ShiftRightSticky

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
            self.base_exponent = 1 - element.bias
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
        aligned, above = self._align(m)
        element, kept = self.element, aligned[-self.kept_bits :]
        man_bits = element.man_bits if isinstance(element, FloatSpec) else self.kept_bits
        below = Signal(len(above) + man_bits + 1)  # the code before rounding
        rounded = Signal(len(below) + 1)
        m.d.comb += [
            # a normal number's hidden bit adds 1 to the exponent field, a subnormal's missing one adds nothing
            below.eq((above << man_bits) + kept),
            rounded.eq(below + self._up(aligned, below[0])),
        ]
        if isinstance(element, FloatSpec):
            m.d.comb += self.code.eq(self._float_code(m, rounded))
        else:
            m.d.comb += self.code.eq(self._int_code(m, rounded, element))
        return m

    def _align(self, m: Module) -> tuple[Signal, Value]:
        """Put the leading one on top, or a subnormal's bits on their grid; return them and exponent field less 1."""
        word = Cat(Const(0, self.extra), self.significand)
        base, low, high = self.base_exponent, self.min_exponent, self.max_exponent
        aligned = Signal(self.width)
        room = Signal(range(min(low - base, -1), max(high - base, 0) + 1))  # left shifts that reach the smallest normal
        above: Value = Const(0, 1)
        m.d.comb += [room.eq(self.exponent - base), aligned.eq(word)]
        if high > base:
            m.submodules.leading = leading = Normalise(self.width)
            left = Signal(range(self.width + 1))
            over = Signal(range(high - base + 1))
            m.d.comb += [leading.value.eq(word), left.eq(Mux(leading.count < room, leading.count, room))]
            with m.If(room >= 0):
                m.d.comb += [aligned.eq(word << left), over.eq(Mux(aligned[-1], room - left, 0))]
            above = over
        if low < base:
            m.submodules.denormalise = right = ShiftRightSticky(self.width, base - low)
            m.d.comb += [right.value.eq(word), right.amount.eq(Mux(room < 0, -room, 0))]
            with m.If(room < 0):
                m.d.comb += aligned.eq(right.shifted)
        return aligned, above

    def _up(self, aligned: Signal, odd: Value) -> Value:
        """Tell whether to add one to the magnitude."""
        rest = aligned[: -self.kept_bits]
        guard, sticky = rest[-1], rest[:-1].any()
        if self.rounding == "stochastic":
            part = rest[-self.random_bits :]
            return (self.random < part) | ((self.random == part) & rest[: -self.random_bits].any())
        return {
            "rne": guard & (sticky | odd),
            "rtz": Const(0),
            "rup": rest.any() & ~self.sign,
            "rdn": rest.any() & self.sign,
            "raz": rest.any(),
            "rna": guard,
            "rnz": guard & sticky,
            "rod": rest.any() & ~odd,
        }[self.rounding]

    def _float_code(self, m: Module, rounded: Signal) -> Value:
        """Bring what lies beyond the largest value back, and add the sign."""
        element = self.element
        assert isinstance(element, FloatSpec)
        beyond, magnitude, signed = Signal(), Signal(element.bits - 1), Signal()
        m.d.comb += [
            beyond.eq(rounded > element.max_code),
            magnitude.eq(Mux(beyond, element.max_code, rounded)),
            signed.eq(self.sign if element.negative_zero else self.sign & magnitude.any()),
        ]
        code: Value = Cat(magnitude, signed)
        if self.overflow == "saturate" or self.rounding in ("rtz", "rod"):
            return code
        stays = {"rup": self.sign, "rdn": ~self.sign}.get(self.rounding, Const(0))  # rounded toward zero
        if element.inf_code is not None:
            special: Value = Cat(Const(element.inf_code, element.bits - 1), self.sign)
        else:
            assert element.nan_code is not None
            keeps_sign = element.special in ("ieee", "fn")
            special = Const(element.nan_code, element.bits)
            if keeps_sign:
                special = Cat(special[:-1], self.sign)
        return Mux(beyond & ~stays, special, code)

    def _int_code(self, m: Module, rounded: Signal, element: IntSpec) -> Value:
        """Clamp and make two's complement."""
        limit, level = Signal(range(-element.qmin + 1)), Signal(element.bits)
        m.d.comb += [
            limit.eq(Mux(self.sign, -element.qmin, element.qmax)),
            level.eq(Mux(rounded > limit, limit, rounded)),
        ]
        return Mux(self.sign, -level, level)[: element.bits]

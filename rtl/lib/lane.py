"""Multiply one pair of elements exactly."""

from __future__ import annotations

from amaranth.hdl import Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats import FloatSpec, IntSpec
from hwsim.pe import _elements
from hwsim.pe._dot import DotSpec
from rtl.lib import special
from rtl.lib.element_decoder import decode_element
from rtl.lib.number_decoder import NumberDecoder, NumberFacts
from rtl.lib.shapes import shape_of
from rtl.lib.shift_add import shift_add

TABLE_LIMIT = 256
"""Integers below this come from a table of the element's codes; larger ones from significand and shift."""


class Lane:
    """State the bounds of a lane's product.

    Parameters
    ----------
    spec : DotSpec
        Datapath.

    Attributes
    ----------
    a, b : FloatSpec or IntSpec
        Elements.
    by_product : bool
        Whether the accumulator takes single products, as significand and exponent; else their integers are summed.
    has_specials : bool
        Whether a code of either side is NaN or Inf.
    max_product : int
        Bound on the product's magnitude: of significands, or of integers.
    min_exponent, max_exponent : int
        Range of the exponent of the lowest bit, where the accumulator takes single products.
    frac_bits : int
        Fraction bits of the product of significands, under the exponent that decides alignments.
    """

    def __init__(self, spec: DotSpec) -> None:
        self.spec = spec
        self.a, self.b = _elements.number_format(spec.a_element), _elements.number_format(spec.b_element)
        self.by_product = spec.accumulator.by_product
        self.has_specials = any(_elements.has_specials(name) for name in (spec.a_element, spec.b_element))
        a, b = NumberFacts.of(self.a), NumberFacts.of(self.b)
        self.max_product = a.max_significand * b.max_significand
        self.min_exponent, self.max_exponent = a.min_exponent + b.min_exponent, a.max_exponent + b.max_exponent
        self.frac_bits = a.frac_bits + b.frac_bits


class LaneDecoder(wiring.Component):
    """Decode a pair of elements and multiply them.

    Parameters
    ----------
    lane : Lane
        Elements, and how the accumulator takes their product.
    staged : bool
        Whether there are registers between decoders and multiplier.

    Ports
    -----
    en : In(1)
        Moves the registers, where there are any.
    a, b : In(element.bits)
    product : Out(signed)
        Where the accumulator takes sums, in units of ``2**-frac_bits`` of the datapath: exact; 0 when a code is not
        finite. Else the product of the significands.
    exponent : Out(signed)
        Weight of the lowest bit of a product of significands, as a power of two.
    specials : Out(4)
        What the product is beside a number, see `rtl.lib.special`.
    a_integer : Out(signed)
        The integer of a's element, for zero points (b's is an integer then).

    Hardware
    --------
    Combinational, but for the registers. Small integers come from a table and meet in one multiplier; significands of
    wide floats meet in a narrow one, whose result is shifted left by both exponents. With ``shift_add`` of the datapath
    shifts of a, gated by b's bits, take the multiplier's place.
    """

    def __init__(self, lane: Lane, staged: bool = False) -> None:
        self.lane, self.staged = lane, staged
        spec = lane.spec
        if lane.by_product:
            span = (-lane.max_product, lane.max_product)
        else:
            corners = [x * y for x in _span(spec.a_ints) for y in _span(spec.b_ints)]
            span = (min(*corners, 0), max(*corners, 0))
        integers = _span(spec.a_ints) if spec.zero_bits else (0, 0)
        super().__init__(
            {
                "en": In(1),
                "a": In(lane.a.bits),
                "b": In(lane.b.bits),
                "product": Out(shape_of(*span)),
                "exponent": Out(range(lane.min_exponent, max(lane.max_exponent, lane.min_exponent + 1) + 1)),
                "specials": Out(special.BITS),
                "a_integer": Out(shape_of(*integers)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        lane, spec = self.lane, self.lane.spec
        numbers, shifts, factors = [], [], []
        for side, code, fmt, name in (
            ("a", self.a, lane.a, spec.a_element),
            ("b", self.b, lane.b, spec.b_element),
        ):
            if not lane.by_product and _takes_table(fmt, name):
                numbers.append(decode_element(m, code, _elements.integers(name), side))
                continue
            m.submodules[f"{side}_decoder"] = decoder = NumberDecoder(fmt)
            m.d.comb += decoder.code.eq(code)
            special_code = decoder.is_nan | decoder.is_inf
            number = Signal(decoder.significand.shape(), name=f"{side}_significand")
            m.d.comb += number.eq(Mux(special_code, 0, decoder.significand))
            numbers.append(number)
            if not lane.by_product:
                facts = decoder.facts
                shift = Signal(range(facts.max_exponent - facts.min_exponent + 1), name=f"{side}_shift")
                m.d.comb += shift.eq(decoder.exponent - facts.min_exponent)
                shifts.append(shift)
            factors.append((side, decoder, number))
        if lane.has_specials:
            sets = special.product(*self._factors(numbers, dict((f[0], f[1]) for f in factors)))
            m.d.comb += self.specials.eq(self._held(m, sets, "specials"))
        x, y = (self._held(m, number, f"{side}_number") for side, number in zip("ab", numbers, strict=True))
        shift = self._held(m, sum(shifts[1:], shifts[0]), "shift") if shifts else None
        if spec.zero_bits and shift is not None:
            x, shift = x << shift, None  # once: the sum of the activations takes it on the same grid
        product = shift_add(x, y) if spec.shift_add else x * y
        # only up to the widest product: what is finite never shifts further
        m.d.comb += self.product.eq(product if shift is None else product << shift)
        if spec.zero_bits:
            m.d.comb += self.a_integer.eq(x)
        if lane.by_product:
            exponent = factors[0][1].exponent + factors[1][1].exponent
            m.d.comb += self.exponent.eq(self._held(m, exponent, "exponent"))
        return m

    def _held(self, m: Module, value: Value, name: str) -> Value:
        """Return a decoded value for the multiplier: in a register where there is a stage."""
        if not self.staged:
            return value
        held = Signal(value.shape(), name=f"held_{name}")
        with m.If(self.en):
            m.d.sync += held.eq(value)
        return held

    def _factors(
        self, numbers: list[Value], decoders: dict[str, NumberDecoder]
    ) -> list[tuple[Value, Value, Value, Value]]:
        """Return (is_nan, is_inf, is_zero, sign) of both factors."""
        found: list[tuple[Value, Value, Value, Value]] = []
        for side, number in zip("ab", numbers, strict=True):
            if side in decoders:
                decoder = decoders[side]
                sign = decoder.significand[-1] if decoder.significand.shape().signed else Const(0)
                zero = ~(decoder.is_nan | decoder.is_inf) & ~decoder.significand.any()
                found.append((decoder.is_nan, decoder.is_inf, zero, sign))
            else:
                sign = number[-1] if number.shape().signed else Const(0)
                found.append((Const(0), Const(0), ~number.any(), sign))
        return found


def _takes_table(fmt: FloatSpec | IntSpec, name: str) -> bool:
    return isinstance(fmt, IntSpec) or (not _elements.has_specials(name) and _elements.max_integer(name) < TABLE_LIMIT)


def _span(table: tuple[int, ...]) -> tuple[int, int]:
    return min(table), max(table)

"""Transform vectors by butterflies, some within a beat, the others across beats."""

from __future__ import annotations

import math
from fractions import Fraction

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats import FloatSpec, element
from hwsim.pe.hadamard import Params
from rtl.lib.element_round import ElementRound
from rtl.lib.float_butterfly import FloatButterfly
from rtl.lib.float_fields import FloatFields, max_exponent, min_exponent, nan_word
from rtl.lib.rounding import rises
from rtl.lib.select import select


class WalshHadamard(wiring.Component):
    """Transform vectors at one beat a cycle with a fixed latency.

    Parameters
    ----------
    params : Params
        Of :mod:`hwsim.pe.hadamard`; every width follows from it.

    Ports
    -----
    en : In(1)
        Moves every stage; when low, nothing changes.
    valid : In(1)
        There is a beat.
    last : In(1)
        It is the last one of its vector.
    x : In(lanes codes)
    out_valid : Out(1)
        ``y`` is a result. The first one of a vector comes ``params.datapath.latency`` enabled cycles after its last
        beat, the others follow in the cycles after it.
    y : Out(lanes codes)

    Exactness
    ---------
    As :func:`hwsim.pe.hadamard.reference`, bit for bit.

    Hardware
    --------
    A register after each stage whose stride lies within a beat. A stage of a stride of d beats keeps 2 d beats: it
    waits for the first d, replaces each of them by its sum with one of the second d, keeps the differences beside, and
    sends all of them in the 2 d cycles after the last has come, while the next ones take their places.

    Reset empties the pipeline: the next beat begins a vector.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        self.floats = params.arithmetic == "fp16"
        fp16 = element("float16")
        assert isinstance(fp16, FloatSpec)
        self.fp16 = fp16
        super().__init__(
            {
                "en": In(1),
                "valid": In(1),
                "last": In(1),
                "x": In(data.ArrayLayout(unsigned(params.in_bits), params.lanes)),
                "out_valid": Out(1),
                "y": Out(data.ArrayLayout(unsigned(params.out_bits), params.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        params = self.params
        valid: Value = self.valid
        values = self._signed(m)
        for stage in range(params.stages):
            shape = self._shape(stage + 1)
            if 1 << stage < params.lanes:
                valid, values = self._within(m, stage, shape, valid, values)
            else:
                valid, values = self._across(m, stage, shape, valid, values)
        if params.scaled:
            held = Signal(name="scaled_valid")
            scaled = [Signal(params.out_bits, name=f"scaled_{lane}") for lane in range(params.lanes)]
            results = [self._scale(m, value, lane) for lane, value in enumerate(values)]
            with m.If(self.en):
                m.d.sync += held.eq(valid)
                m.d.sync += [new.eq(result) for new, result in zip(scaled, results, strict=True)]
            valid, values = held, scaled
        m.d.comb += self.out_valid.eq(valid)
        m.d.comb += [self.y[lane].eq(value[: params.out_bits]) for lane, value in enumerate(values)]
        return m

    def _shape(self, stage: int) -> Shape:
        """Shape of a value after so many stages. A negated -2**n needs one bit more."""
        if self.floats:
            return unsigned(16)
        return signed(self.params.in_bits + stage + int(self.params.signs_seed is not None))

    def _signed(self, m: Module) -> list[Value]:
        """Return the values of the beat times their signs."""
        params = self.params
        codes = [Value.cast(self.x[lane]) for lane in range(params.lanes)]
        if params.signs_seed is None:
            return codes if self.floats else [code.as_signed() for code in codes]
        beats = params.points // params.lanes
        position = Signal(range(max(beats, 2)))
        if beats > 1:
            with m.If(self.en & self.valid):
                m.d.sync += position.eq(Mux(self.last, 0, position + 1))
        found: list[Value] = []
        for lane, code in enumerate(codes):
            pattern = sum((params.signs[beat * params.lanes + lane] < 0) << beat for beat in range(beats))
            negative = Const(pattern, beats).bit_select(position, 1) if beats > 1 else Const(pattern, 1)
            value = Signal(self._shape(0), name=f"signed_{lane}")
            if self.floats:
                m.d.comb += value.eq(code ^ (negative << 15))
            else:
                m.d.comb += value.eq(Mux(negative, -code.as_signed(), code.as_signed()))
            found.append(value)
        return found

    def _butterfly(self, m: Module, name: str, a: Value, b: Value) -> tuple[Value, Value]:
        """Return sum and difference."""
        if not self.floats:
            return a + b, a - b
        m.submodules[name] = part = FloatButterfly(self.fp16)
        m.d.comb += [part.a.eq(a), part.b.eq(b)]
        return part.sum, part.difference

    def _within(
        self, m: Module, stage: int, shape: Shape, valid: Value, values: list[Value]
    ) -> tuple[Value, list[Value]]:
        """One stage between lanes."""
        stride = 1 << stage
        held = Signal(name=f"valid_{stage}")
        new: list[Value] = [Signal(shape, name=f"stage_{stage}_{lane}") for lane in range(len(values))]
        for lane in range(len(values)):
            if lane & stride == 0:
                pair = self._butterfly(m, f"butterfly_{stage}_{lane}", values[lane], values[lane + stride])
                with m.If(self.en):
                    m.d.sync += [new[lane].eq(pair[0]), new[lane + stride].eq(pair[1])]
        with m.If(self.en):
            m.d.sync += held.eq(valid)
        return held, new

    def _across(
        self, m: Module, stage: int, shape: Shape, valid: Value, values: list[Value]
    ) -> tuple[Value, list[Value]]:
        """One stage between beats."""
        stride = (1 << stage) // self.params.lanes
        width = shape.width * len(values)
        sums = Array(Signal(width, name=f"sums_{stage}_{i}") for i in range(stride))
        differences = Array(Signal(width, name=f"differences_{stage}_{i}") for i in range(stride))
        come = Signal(range(2 * stride), name=f"come_{stage}")
        gone = Signal(range(2 * stride), name=f"gone_{stage}")
        sending = Signal(name=f"sending_{stage}")

        def place(counter: Signal) -> Value:
            return counter[:-1] if stride > 1 else Const(0, 1)

        def lanes(word: Value) -> list[Value]:
            parts = [word[i * shape.width : (i + 1) * shape.width] for i in range(len(values))]
            return [part.as_signed() for part in parts] if shape.signed else list(parts)

        def widened(lane: int, value: Value) -> Signal:
            wide = Signal(shape, name=f"wide_{stage}_{lane}")
            m.d.comb += wide.eq(value)
            return wide

        new = [widened(lane, value) for lane, value in enumerate(values)]
        kept = Signal(width, name=f"kept_{stage}")
        m.d.comb += kept.eq(select(list(sums), place(come)))
        pairs = [
            self._butterfly(m, f"butterfly_{stage}_{lane}", a, b)
            for lane, (a, b) in enumerate(zip(lanes(kept), new, strict=True))
        ]
        both = [Cat(*(pair[side][: shape.width] for pair in pairs)) for side in range(2)]
        ends = Signal(name=f"ends_{stage}")
        m.d.comb += ends.eq(valid & come.all())
        with m.If(self.en):
            with m.If(valid):
                m.d.sync += come.eq(come + 1)
                with m.If(come[-1]):
                    m.d.sync += [sums[place(come)].eq(both[0]), differences[place(come)].eq(both[1])]
                with m.Else():
                    m.d.sync += sums[place(come)].eq(Cat(*new))
            with m.If(sending):
                m.d.sync += gone.eq(gone + 1)
            m.d.sync += sending.eq(ends | (sending & ~gone.all()))
        word = Signal(width, name=f"word_{stage}")
        m.d.comb += word.eq(Mux(gone[-1], select(list(differences), place(gone)), select(list(sums), place(gone))))
        return sending, lanes(word)

    def _scale(self, m: Module, value: Value, lane: int) -> Value:
        """Shift an integer, or multiply an FP16 number by the factor."""
        params = self.params
        if not self.floats:
            kept = value >> params.shift
            if params.rounding == "rdn":
                return kept
            return kept + rises(params.rounding, value[-1], kept[0], value[: params.shift])
        fields = FloatFields(m, value, self.fp16, f"scale_{lane}")
        factor = Fraction(float(params.factor))
        exponent = math.frexp(factor)[1]
        integer = factor / Fraction(2) ** exponent  # in [1/2, 1)
        bits = integer.denominator.bit_length() - 1
        width = len(fields.significand) + bits
        m.submodules[f"round_{lane}"] = rounded = ElementRound(
            self.fp16,
            width,
            min_exponent(self.fp16) + exponent,
            max_exponent(self.fp16) + 1 + exponent,
            overflow="nonsaturating",
        )
        m.d.comb += [
            rounded.sign.eq(fields.sign),
            # the product's top bit weighs twice as much as that of the significand times the factor in [1/2, 1)
            rounded.exponent.eq(fields.exponent + exponent),
            rounded.significand.eq(fields.significand * integer.numerator),
        ]
        return Mux(fields.is_nan, nan_word(self.fp16), Mux(fields.is_inf, value, rounded.code))

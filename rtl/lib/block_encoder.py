"""Encode streams of FP32 values: bare elements, and blocks under a scale that is found from their largest magnitude."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats.catalog.elements import FLOAT32
from hwsim.formats.families.block import BlockSpec
from hwsim.formats.spec import FloatSpec, IntSpec
from hwsim.pe.requant import Params, quantise, scale_borders
from rtl.lib.element_round import ElementRound
from rtl.lib.float_fields import FloatFields, max_exponent, min_exponent
from rtl.lib.lfsr import draw
from rtl.lib.normalise import Normalise
from rtl.lib.number_decoder import NumberDecoder
from rtl.lib.select import select
from rtl.lib.shift_sticky import ShiftRightSticky

PRECISION = FLOAT32.man_bits + 1
MIN_EXPONENT, MAX_EXPONENT = min_exponent(FLOAT32), max_exponent(FLOAT32)
LOWEST = MIN_EXPONENT - (PRECISION - 1)
"""Exponent of the smallest subnormal FP32 number."""
_INFINITY = FLOAT32.inf_code or 0


class _Encoder(wiring.Component):
    """Ports and parts that all encoders share.

    Parameters
    ----------
    params : Params
        Of :mod:`hwsim.pe.requant`.

    Ports
    -----
    en : In(1)
        Moves every stage; when low, nothing changes.
    valid, last : In(1)
        There is a beat; it is the last one of its block.
    x : In(lanes FP32 words)
    tensor_scale : In(32)
        FP32 bits, positive and finite; there for formats that have one. Counts at the last beat of a block.
    out_valid : Out(1)
    codes : Out(lanes codes)
    scale : Out
        Scale code of the block; there for formats that have one.

    Exactness
    ---------
    As :func:`hwsim.pe.requant.outputs`, bit for bit.
    """

    def __init__(self, params: Params) -> None:
        self.params, self.spec = params, params.spec
        element = self.spec.element
        assert isinstance(element, FloatSpec | IntSpec)
        self.element = element
        ports: dict[str, Any] = {
            "en": In(1),
            "valid": In(1),
            "last": In(1),
            "x": In(data.ArrayLayout(unsigned(32), params.lanes)),
            "out_valid": Out(1),
            "codes": Out(data.ArrayLayout(unsigned(element.bits), params.lanes)),
        }
        if params.has_tensor_scale:
            ports["tensor_scale"] = In(32)
        if self.spec.scale is not None:
            ports["scale"] = Out(self.spec.scale.bits)
        super().__init__(ports)

    def _held(self, m: Module, name: str, value: Value) -> Signal:
        """Return a register of a value that moves with ``en``."""
        register = Signal(value.shape(), name=name)
        with m.If(self.en):
            m.d.sync += register.eq(value)
        return register

    def _send(self, m: Module, valid: Value, codes: list[Value], scale: Value | None) -> None:
        """Hold the results in the last stage's registers."""
        m.d.comb += self.out_valid.eq(self._held(m, "out_valid_held", valid))
        for lane, code in enumerate(codes):
            m.d.comb += self.codes[lane].eq(self._held(m, f"code_{lane}", code[: self.element.bits]))
        if scale is not None:
            m.d.comb += self.scale.eq(self._held(m, "scale_held", scale))

    def _rounder(self, m: Module, lane: int, valid: Value, min_exponent: int, max_exponent: int) -> ElementRound:
        """Return the rounding of a lane, its random bits drawn for each valid beat."""
        params, lfsr = self.params, self.params.lfsr
        rounding = "stochastic" if lfsr is not None else self.spec.rounding
        part = ElementRound(
            self.element, PRECISION, min_exponent, max_exponent, rounding, params.overflow,
            params.random_bits if lfsr is not None else 0,
        )  # fmt: skip
        m.submodules[f"round_{lane}"] = part
        if lfsr is not None:
            m.d.comb += part.random.eq(draw(m, lfsr, lane, self.en & valid))
        return part


class CastEncoder(_Encoder):
    """Round each value by itself.

    Hardware: latency 1 cycle. Parameters, ports and exactness as of `_Encoder`.
    """

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        codes = []
        for lane in range(self.params.lanes):
            x = FloatFields(m, Value.cast(self.x[lane]), FLOAT32, f"x_{lane}")
            part = self._rounder(m, lane, self.valid, MIN_EXPONENT, MAX_EXPONENT + 1)
            m.d.comb += [part.sign.eq(x.sign), part.exponent.eq(x.exponent), part.significand.eq(x.significand)]
            codes.append(self._special(x, part.code) if self.params.nan_policy == "propagate" else part.code)
        self._send(m, self.valid, codes, None)
        return m

    def _special(self, x: FloatFields, code: Value) -> Value:
        """Put the codes of NaN and, without saturation, of Inf in place of what the rounding gives."""
        element = self.element
        assert isinstance(element, FloatSpec) and element.nan_code is not None
        keeps_sign = element.special in ("ieee", "fn")
        nan = Cat(Const(element.nan_code, element.bits)[:-1], x.sign) if keeps_sign else Const(element.nan_code)
        if self.params.overflow == "nonsaturating":
            special = nan if element.inf_code is None else Cat(Const(element.inf_code, element.bits - 1), x.sign)
            code = Mux(x.is_inf, special, code)
        return Mux(x.is_nan, nan, code)


class _BlockEncoder(_Encoder):
    """Keep a block until its scale is known.

    A block of r beats is sent in the r cycles after its last beat, while the next one takes its places.
    """

    def _collect(self, m: Module) -> tuple[Signal, list[Value], Signal, Signal]:
        """Return whether a beat is sent, its words, whether it is the first of its block, and the largest magnitude.

        The largest magnitude (31 bits, ordered as magnitudes are) stands in the cycle of the first beat alone.
        """
        lanes, beats = self.params.lanes, self.params.datapath.beats
        magnitudes: list[Value] = [Value.cast(self.x[lane])[:31] for lane in range(lanes)]
        while len(magnitudes) > 1:
            pairs = zip(magnitudes[::2], magnitudes[1::2], strict=False)
            magnitudes = [Mux(a > b, a, b) for a, b in pairs] + magnitudes[len(magnitudes) & ~1 :]
        top, amax, sending, first = Signal(31), Signal(31), Signal(), Signal()
        kept = Array(Signal(32 * lanes, name=f"kept_{i}") for i in range(beats))
        come, gone = Signal(range(max(beats, 2))), Signal(range(max(beats, 2)))
        m.d.comb += top.eq(magnitudes[0])
        ends = Signal()
        if beats == 1:
            m.d.comb += [ends.eq(self.valid), first.eq(1)]
            fresh: Value = Const(1)
        else:
            m.d.comb += [ends.eq(self.valid & self.last), first.eq(gone == 0)]
            fresh = come == 0
        with m.If(self.en):
            with m.If(self.valid):
                m.d.sync += [
                    kept[come].eq(self.x.as_value()),
                    amax.eq(Mux(fresh | (top > amax), top, amax)),
                    come.eq(Mux(ends, 0, come + 1)),
                ]
            with m.If(sending):
                m.d.sync += gone.eq(Mux(gone == beats - 1, 0, gone + 1))
            m.d.sync += sending.eq(ends | (sending & (gone != beats - 1)))
        word = Signal(32 * lanes, name="word")
        m.d.comb += word.eq(select(list(kept), gone))
        return sending, [word[32 * lane : 32 * (lane + 1)] for lane in range(lanes)], first, amax

    def _zero_scale(self) -> int:
        """Scale code of a block of zeros."""
        x = np.zeros((1, self.params.block), np.float32)
        outer = np.ones(1, np.float32) if self.params.has_tensor_scale else None
        return int(quantise(x, self.params, outer)["scales"][0])

    def _latched(self, m: Module, name: str, first: Value, value: Value) -> Signal:
        """Hold a value of the first beat for the whole block."""
        register = Signal(value.shape(), name=name)
        with m.If(self.en & first):
            m.d.sync += register.eq(value)
        return register


def normalised(m: Module, fields: FloatFields, name: str) -> tuple[Value, Signal]:
    """Return a significand with its leading one on top, and the weight of that bit as a power of two."""
    m.submodules[name] = part = Normalise(PRECISION)
    exponent = Signal(range(LOWEST - 1, MAX_EXPONENT + 2), name=f"{name}_exponent")
    m.d.comb += [part.value.eq(fields.significand), exponent.eq(fields.exponent - part.count)]
    return part.normalised, exponent


class PowerEncoder(_BlockEncoder):
    """Encode blocks under a power-of-two scale.

    Hardware: latency 3 cycles (the block, its scale, its codes). Parameters, ports and exactness as of `_Encoder`.
    """

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec, scale = self.spec, self.spec.scale
        assert isinstance(scale, FloatSpec)
        sending, words, first, amax = self._collect(m)

        # scale: the exponent of the largest magnitude, one more where its mantissa reaches the rule's border
        top = FloatFields(m, Cat(amax, Const(0, 1)), FLOAT32, "amax")
        significand, exponent = normalised(m, top, "amax_normalise")
        emax, border, first_border = scale_borders(spec)
        wide = Signal(range(LOWEST - emax + scale.bias - 1, MAX_EXPONENT + 2 - emax + scale.bias + 1))
        code, reached = Signal(scale.bits), Signal()
        m.d.comb += reached.eq(significand[:-1] >= border)
        if first_border != border:
            with m.If(exponent == emax - scale.bias):
                m.d.comb += reached.eq(significand[:-1] >= first_border)
        m.d.comb += [
            wide.eq(exponent + reached - emax + scale.bias),
            code.eq(Mux(wide < 0, 0, Mux(wide > scale.max_code, scale.max_code, wide))),
        ]
        with m.If(amax == 0):
            m.d.comb += code.eq(self._zero_scale())
        void: Value = Const(0)
        if self.params.nan_policy == "propagate":
            assert scale.nan_code is not None
            void = amax >= _INFINITY
            with m.If(void):
                m.d.comb += code.eq(scale.nan_code)
        code_held = self._latched(m, "block_scale", first & sending, code)
        void_held = self._latched(m, "block_void", first & sending, void)
        valid = self._held(m, "scaled_valid", sending)
        held = [self._held(m, f"scaled_{lane}", word) for lane, word in enumerate(words)]

        # codes: no element lies above the largest power of two of its format by more than its mantissa, which is what
        # the scale is for; a subnormal value that is not normalised stands at 2 times the smallest scale
        step = Signal(range(-scale.bias, (1 << scale.bits) - scale.bias))
        m.d.comb += step.eq(code_held - scale.bias)
        low, high = MIN_EXPONENT - (scale.max_code - scale.bias), max(spec.element.emax, MIN_EXPONENT + scale.bias)
        codes = []
        for lane, word in enumerate(held):
            x = FloatFields(m, word, FLOAT32, f"x_{lane}")
            part = self._rounder(m, lane, valid, low, high)
            m.d.comb += [
                part.sign.eq(x.sign),
                part.exponent.eq(x.exponent - step),
                part.significand.eq(Mux(void_held, 0, x.significand)),
            ]
            codes.append(part.code)
        self._send(m, valid, codes, code_held)
        return m


class RatioEncoder(_BlockEncoder):
    """Encode blocks under a float scale d, which is amax / (level g), rounded; g is a tensor scale, or 1.

    The few bits of d are found by comparing and subtracting; an element's code by comparing its magnitude with the
    borders between codes times d g. There is no divider for elements, and nothing is rounded but d.

    Hardware: latency 4 cycles (the block, its scale, its borders, its codes). Parameters, ports and exactness as of
    `_Encoder`.
    """

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        scale = self.spec.scale
        assert isinstance(scale, FloatSpec)
        sending, words, first, amax = self._collect(m)

        # scale
        g_significand, g_exponent = self._tensor_scale(m)
        code = self._scale_code(m, amax, g_significand, g_exponent)
        starts = first & sending
        d = self._latched(m, "block_scale", starts, code)
        if self.params.has_tensor_scale:
            g_significand = self._latched(m, "block_g", starts, g_significand)
            g_exponent = self._latched(m, "block_g_exponent", starts, g_exponent)
        valid = self._held(m, "scaled_valid", sending)
        held = [self._held(m, f"scaled_{lane}", word) for lane, word in enumerate(words)]

        # borders: odd multiples of d g, of which the others are shifts
        m.submodules.decoder = decoder = NumberDecoder(scale)
        m.d.comb += decoder.code.eq(d)
        step_bits = PRECISION + scale.man_bits + 1
        step = Signal(step_bits)
        lowest = decoder.facts.min_exponent + LOWEST - (PRECISION - 1)
        highest = decoder.facts.max_exponent + MAX_EXPONENT - (PRECISION - 1)
        step_exponent = Signal(range(lowest - 1, highest + 2))
        m.d.comb += [
            step.eq(decoder.significand[: scale.man_bits + 1] * g_significand),
            step_exponent.eq(decoder.exponent + g_exponent - (PRECISION - 1)),
        ]
        borders, fraction_bits = self._borders()
        odd = sorted({border // (border & -border) for border in borders})
        multiples = {n: self._held(m, f"step_{n}", (step * n)[: step_bits + n.bit_length()]) for n in odd}
        step_exponent = self._held(m, "step_exponent_held", step_exponent)
        valid, d = self._held(m, "bordered_valid", valid), self._held(m, "bordered_scale", d)
        held = [self._held(m, f"bordered_{lane}", word) for lane, word in enumerate(held)]

        # codes
        width = step_bits + max(borders).bit_length()
        limits = [
            # of even rank: a tie stays below the border
            Cat(Const(rank % 2 == 0, 1), Const(0, (border & -border).bit_length() - 1), multiples[n])
            for rank, border in enumerate(borders)
            for n in [border // (border & -border)]
        ]
        codes = []
        for lane, word in enumerate(held):
            x = FloatFields(m, word, FLOAT32, f"x_{lane}")
            significand, exponent = normalised(m, x, f"normalise_{lane}")
            # units of the step's lowest bit over 2**fraction_bits, and below them a sticky bit
            m.submodules[f"align_{lane}"] = align = ShiftRightSticky(width + 1, width + highest - LOWEST + 4)
            amount = Signal(range(-(MAX_EXPONENT - lowest + 8), width + highest - LOWEST + 5), name=f"amount_{lane}")
            m.d.comb += [
                amount.eq(width - 1 - fraction_bits + step_exponent - exponent),
                align.value.eq(Cat(Const(0, width + 1 - PRECISION), significand)),
                align.amount.eq(Mux(amount < 0, 0, amount)),
            ]
            above = (amount < 0) & x.significand.any()
            reached = [above | (align.shifted >= limit) for limit in limits]
            rank = Signal(range(len(borders) + 1), name=f"rank_{lane}")
            m.d.comb += rank.eq(Mux(d == 0, 0, sum(reached, Const(0))))
            codes.append(self._code(x.sign, rank))
        self._send(m, valid, codes, d)
        return m

    def _tensor_scale(self, m: Module) -> tuple[Value, Value]:
        """Return g with its leading one on top, and the weight of that bit as a power of two."""
        if not self.params.has_tensor_scale:
            return Const(1 << (PRECISION - 1), PRECISION), Const(0, signed(1))
        g_held = Signal(32, name="g_held")
        with m.If(self.en & self.valid & self.last):
            m.d.sync += g_held.eq(self.tensor_scale)
        return normalised(m, FloatFields(m, g_held, FLOAT32, "g"), "g_normalise")

    def _borders(self) -> tuple[list[int], int]:
        """Return the midpoints between magnitudes as integers, and their fraction bits."""
        element = self.element
        top = element.max_code if isinstance(element, FloatSpec) else element.qmax
        values = [element.value(code) for code in range(top + 1)]
        middles = [(low + high) / 2 for low, high in pairwise(values)]  # type: ignore[operator]
        bits = max(middle.denominator.bit_length() - 1 for middle in middles)
        return [int(middle * 2**bits) for middle in middles], bits

    def _code(self, sign: Value, rank: Signal) -> Value:
        if isinstance(self.element, IntSpec):
            return Mux(sign, -rank, rank)[: self.element.bits]
        return Cat(rank, Const(0, self.element.bits - 1 - len(rank)), sign)

    def _scale_code(self, m: Module, amax: Signal, g: Value, g_exponent: Value) -> Signal:
        """Return RNE(amax / (level g)) as a scale code, at most the largest and at least the smallest allowed."""
        spec, scale = self.spec, self.spec.scale
        assert isinstance(scale, FloatSpec)
        level = Fraction(spec.scale_level)
        odd = level.numerator // (level.numerator & -level.numerator)
        twos = math.frexp(level / odd)[1] - 1
        top = FloatFields(m, Cat(amax, Const(0, 1)), FLOAT32, "amax")
        rest, exponent = normalised(m, top, "amax_normalise")
        # the quotient exceeds 1 / (2 odd): so many bits hold the kept ones and a guard, the rest is sticky
        fraction_bits = scale.man_bits + 3 + odd.bit_length()
        divisor = Signal(PRECISION + odd.bit_length())
        m.d.comb += divisor.eq(g * odd)
        bits: list[Value] = []
        for index in range(fraction_bits + 1):
            fits, left = Signal(name=f"fits_{index}"), Signal(len(divisor) + 1, name=f"left_{index}")
            m.d.comb += [fits.eq(rest >= divisor), left.eq((rest - Mux(fits, divisor, 0)) << 1)]
            bits.append(fits)
            rest = left
        low, high = LOWEST - MAX_EXPONENT - twos - 2, MAX_EXPONENT - LOWEST - twos + 2
        m.submodules.scale_round = rounded = ElementRound(scale, fraction_bits + 2, low, high)
        found, floor = Signal(scale.bits), self._floor_code(scale)
        m.d.comb += [
            rounded.exponent.eq(exponent - g_exponent - twos),
            rounded.significand.eq(Cat(rest.any(), *reversed(bits))),
            found.eq(Mux(rounded.code < floor, floor, rounded.code)),
        ]
        with m.If(amax == 0):
            m.d.comb += found.eq(self._zero_scale())
        return found

    def _floor_code(self, scale: FloatSpec) -> int:
        floor = Fraction(self.spec.scale_floor)
        return next(code for code in range(scale.max_code + 1) if (scale.value(code) or 0) >= floor)


def encoder(params: Params) -> _Encoder:
    """Return the encoder of a format."""
    spec: BlockSpec = params.spec
    if spec.scale is None:
        return CastEncoder(params)
    return RatioEncoder(params) if params.has_ratio else PowerEncoder(params)


__all__ = ["CastEncoder", "PowerEncoder", "RatioEncoder", "encoder", "normalised"]

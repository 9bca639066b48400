"""Requantise integer accumulators by a multiplier and a shift."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe.requant import SHIFT_BITS, Params
from rtl.lib.rounding import rises


class Dyadic(wiring.Component):
    """Multiply, shift, round, add the zero point and clamp, lane by lane.

    Parameters
    ----------
    params : Params
        Of :mod:`hwsim.pe.requant`, with ``source="int32"``.

    Ports
    -----
    en : In(1)
        Moves every stage; when low, nothing changes.
    valid, last : In(1)
    x : In(lanes words)
        Two's complement.
    multiplier : In(32)
        Two's complement for gemmlowp, else plain binary.
    shift : In(6)
        Two's complement: a result is ``x * multiplier * 2**(shift - 31)``, rounded.
    out_valid : Out(1)
    codes : Out(lanes codes)

    Exactness
    ---------
    As :func:`hwsim.formats.requantize.multiply`, within the bounds of the method.

    Hardware
    --------
    Latency 2 cycles: the product, then the rounding shift. No divider and no float.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(
            {
                "en": In(1),
                "valid": In(1),
                "last": In(1),
                "x": In(data.ArrayLayout(unsigned(32), params.lanes)),
                "multiplier": In(32),
                "shift": In(SHIFT_BITS),
                "out_valid": Out(1),
                "codes": Out(data.ArrayLayout(unsigned(params.out_bits), params.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        params = self.params
        shift = self.shift.as_signed()
        multiplier, right, left = self._constants(m, shift)
        valid, right_held = Signal(), Signal.like(right)
        with m.If(self.en):
            m.d.sync += [valid.eq(self.valid), right_held.eq(right), self.out_valid.eq(valid)]
        for lane in range(params.lanes):
            factor, product = Signal(signed(32), name=f"factor_{lane}"), Signal(signed(66), name=f"product_{lane}")
            m.d.comb += factor.eq(Value.cast(self.x[lane]).as_signed() << left)
            result = Signal(params.out_bits, name=f"result_{lane}")
            rounded = self._rounded(m, lane, product, right_held)
            level = Signal(signed(36), name=f"level_{lane}")
            m.d.comb += [
                level.eq(rounded + params.zero_point),
                result.eq(Mux(level < params.qmin, params.qmin, Mux(level > params.qmax, params.qmax, level))),
            ]
            with m.If(self.en):
                m.d.sync += [product.eq(factor * multiplier), self.codes[lane].eq(result)]
        return m

    def _constants(self, m: Module, shift: Value) -> tuple[Value, Signal, Value]:
        """Return multiplier, right shift after the product, and left shift before it."""
        method = self.params.method
        right = Signal(range(64))
        if method == "gemmlowp":
            negative = shift < 0
            m.d.comb += right.eq(Mux(negative, -shift, 0))
            return self.multiplier.as_signed(), right, Mux(negative, 0, shift[: SHIFT_BITS - 1])
        if method == "tflite_reduced":
            short = Signal(15)
            m.d.comb += [
                right.eq(15 - shift),
                short.eq(Mux(self.multiplier >= 0x7FFF0000, 0x7FFF, (self.multiplier + (1 << 15)) >> 16)),
            ]
            return short, right, Const(0)
        m.d.comb += right.eq(31 - shift)
        return self.multiplier, right, Const(0)

    def _rounded(self, m: Module, lane: int, product: Signal, right: Signal) -> Value:
        """Return the product after its rounding shift, at least as wide as any clamp needs."""
        value: Value = product
        if self.params.method == "gemmlowp":  # the product's upper 31 bits first, ties up, saturating
            high = Signal(signed(34), name=f"high_{lane}")
            saturated = Signal(signed(34), name=f"saturated_{lane}")
            m.d.comb += [
                high.eq((product + (1 << 30)) >> 31),
                saturated.eq(Mux(high > (1 << 31) - 1, (1 << 31) - 1, high)),
            ]
            value = saturated
        wide = Cat(Const(0, 1), value).as_signed()  # the guard bit below
        shifted, guard, sticky = Signal(wide.shape(), name=f"shifted_{lane}"), Signal(), Signal()
        lost = ((Const(1, 1) << right) - 1)[: len(wide)]  # bits below the guard bit
        m.d.comb += [shifted.eq(wide >> right), guard.eq(shifted[0]), sticky.eq((wide & lost).any())]
        whole = shifted[1:].as_signed()
        up = {
            "gemmlowp": guard & (sticky | ~value[-1]),
            "tflite_single": guard,
            "tflite_reduced": guard,
            "hawq_v3": rises("rne", value[-1], whole[0], Cat(sticky, guard)),
        }[self.params.method]
        total = Signal(signed(len(wide) + 1), name=f"total_{lane}")
        clamped = Signal(signed(35), name=f"clamped_{lane}")
        limit = 1 << 33
        m.d.comb += [
            total.eq(whole + up),
            clamped.eq(Mux(total > limit, limit, Mux(total < -limit, -limit, total))),
        ]
        return clamped

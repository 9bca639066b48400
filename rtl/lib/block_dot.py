"""Dot products of blocks: products, exact block sums, scales, any accumulator, optional FP32 output scales."""

from __future__ import annotations

from math import prod

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe import _elements
from hwsim.pe._dot import MAX_BEATS, DotSpec
from hwsim.pe.rounding import FLAG_BITS, FLOAT32
from rtl.lib import special
from rtl.lib.accumulate import Accumulate, TermShape
from rtl.lib.adder_tree import adder_tree
from rtl.lib.beat import LANE_FIELDS, beat_layout
from rtl.lib.float_fields import FloatFields, widen
from rtl.lib.float_fused_add import FloatFusedAdd
from rtl.lib.fp32_mul import Fp32Mul
from rtl.lib.lane import Lane, LaneDecoder
from rtl.lib.number_decoder import NumberDecoder, NumberFacts
from rtl.lib.shapes import shape_of

Registers = dict[str, Signal]
"""The registers of one pipeline stage by field name."""


class _Spans:
    """Smallest and largest value of each integer in the datapath, from which its width follows.

    Element tables bound a product; lanes and the beats of a block (`MAX_BEATS` where it has no fixed length) bound its
    sums. So no integer ever wraps.
    """

    def __init__(self, spec: DotSpec) -> None:
        a = (min(spec.a_ints), max(spec.a_ints))
        b = (min(spec.b_ints), max(spec.b_ints))
        zero = (1 << spec.zero_bits) - 1  # the largest zero point; 0 where there is none
        beats, lanes = spec.block_beats or MAX_BEATS, spec.lanes // spec.beat_blocks
        self.product = _times(a, b)
        self.sub_sum = _repeat(self.product, spec.sub_block)  # of the lanes that share a shift
        self.beat_sum = _repeat(self.product, lanes << 2 * spec.max_shift)
        self.beat_a_sum = _repeat(a, lanes)
        self.block_sum = _repeat(self.beat_sum, beats)
        self.block_a_sum = _repeat(self.beat_a_sum, beats)
        # sum(a * b) - zero * sum(a) is sum(a * (b - zero)), term by term
        self.corrected = _repeat(_times(a, (b[0] - zero, b[1])), lanes * beats << 2 * spec.max_shift)
        assert max(map(abs, self.beat_sum)).bit_length() < spec.beat_sum_bits
        assert max(map(abs, self.corrected)).bit_length() < spec.block_sum_bits


def _times(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    corners = [x * y for x in left for y in right]
    return min(corners), max(corners)


def _repeat(span: tuple[int, int], terms: int) -> tuple[int, int]:
    return span[0] * terms, span[1] * terms


def _signal(span: tuple[int, int], name: str) -> Signal:
    """Return a signal for the values of ``span`` and for 0, which registers hold after reset."""
    return Signal(shape_of(*span), name=name)


class BlockDot(wiring.Component):
    """Compute dot products at one beat a cycle with a fixed latency.

    Parameters
    ----------
    spec : DotSpec
        Datapath; every width follows from it.

    Ports
    -----
    en : In(1)
        Moves every stage; when low, nothing changes.
    valid : In(1)
        There is a beat.
    beat : In(beat_layout(spec))
        Block scales and zero point count at the last beat of a block (scales at every beat where the accumulator takes
        single products), output scales at the last beat of the dot product.
    out_valid : Out(1)
        ``y`` is the result of a dot product: ``spec.latency`` enabled cycles after its ``last`` beat.
    y : Out(32)
        FP32 bits.
    flags : Out(4)
        IEEE flags raised in the dot product: inexact, underflow, overflow, invalid; only there with ``spec.flags``.

    Exactness
    ---------
    As :func:`hwsim.pe._reference.reference`, bit for bit.

    Hardware
    --------
    Latency ``spec.latency`` cycles, throughput one beat a cycle. Stages, each ending in registers:

    M  decode, multiply (with ``spec.stages``; else a part of P);
    P  sum the beat's products of each block, where the accumulator takes sums;
    B  sum the block's beats; multiply the block scales;
    A  take off the zero point's share, apply the scales, accumulate (one step after the other where a beat has
       several), round;
    T  add the accumulator to the FP32 sum (with promotion);
    one FP32 multiplication for each output scale, a's before b's.

    Reset empties the pipeline: the next beat begins a dot product.
    """

    def __init__(self, spec: DotSpec) -> None:
        self.spec = spec
        self.by_product = spec.accumulator.by_product
        self.spans = None if self.by_product else _Spans(spec)
        self.lane = Lane(spec)
        self.scales = {
            side: _elements.number_format(name)
            for side, name in (("a_scale", spec.a_scale), ("b_scale", spec.b_scale))
            if name is not None
        }
        ports = {"en": In(1), "valid": In(1), "beat": In(beat_layout(spec)), "out_valid": Out(1), "y": Out(32)}
        if spec.flags:
            ports["flags"] = Out(FLAG_BITS)
        super().__init__(ports)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        block = self._sum_block(m, self._register(m, "p", self._front(m)))
        result = self._accumulate(m, block)
        if self.spec.accumulator.promote_every:
            result = self._promote(m, result)
        else:
            result["y"] = widen(m, result["y"], self.spec.accumulator.spec)
        for side in ("a_out", "b_out"):
            if side in result:
                result = self._scale(m, result, side)
        m.d.comb += [self.out_valid.eq(result["valid"]), self.y.eq(result["y"])]
        if self.spec.flags:
            m.d.comb += self.flags.eq(result["flags"])
        return m

    def _front(self, m: Module) -> dict[str, Value]:
        """Return what a beat contributes: sums of its products, or the products where the accumulator takes them."""
        beat = self._multiply(m)
        if self.spec.stages:
            beat = self._register(m, "m", beat)
        return beat if self.by_product else self._sum_lanes(m, beat)

    def _register(self, m: Module, stage: str, values: dict[str, Value]) -> Registers:
        """Hold ``values`` in registers that move with ``en``."""
        registers = {name: Signal(value.shape(), name=f"{stage}_{name}") for name, value in values.items()}
        with m.If(self.en):
            m.d.sync += [register.eq(values[name]) for name, register in registers.items()]
        return registers

    def _multiply(self, m: Module) -> dict[str, Value]:
        """Return every lane's product, which beats end a block, and what goes with them."""
        spec, beat = self.spec, self.beat
        values: dict[str, Value] = {"valid": self.valid}
        for lane in range(spec.lanes):
            m.submodules[f"lane_{lane}"] = decoder = LaneDecoder(self.lane)
            m.d.comb += [decoder.a.eq(beat.a[lane]), decoder.b.eq(beat.b[lane])]
            values[f"product_{lane}"] = decoder.product
            if self.by_product:
                values[f"exponent_{lane}"] = decoder.exponent
            if self.lane.has_specials:
                values[f"specials_{lane}"] = decoder.specials
            if spec.zero_bits:
                values[f"a_{lane}"] = decoder.a_integer

        values["block_end"] = block_end = Signal()
        ends: Value = Const(1) if spec.block_beats == 1 else beat.last
        if spec.block_beats > 1:
            position = Signal(range(spec.block_beats))
            ends = ends | (position == spec.block_beats - 1)
            with m.If(self.en & self.valid):
                m.d.sync += position.eq(Mux(block_end, 0, position + 1))
        m.d.comb += block_end.eq(ends)

        sideband = {name: Value.cast(beat[name]) for name, _, _ in spec.layout() if name not in LANE_FIELDS}
        return values | sideband

    def _sum_lanes(self, m: Module, beat: dict[str, Value]) -> dict[str, Value]:
        """Return the beat with the exact sum of its products in the place of these, for each of its blocks."""
        spec, spans = self.spec, self.spans
        assert spans is not None
        gone = ("a_shift", "b_shift")
        others = {
            name: value for name, value in beat.items() if not name.rpartition("_")[2].isdigit() and name not in gone
        }
        lanes = spec.lanes // spec.beat_blocks
        for slot in range(spec.beat_blocks):
            here = range(slot * lanes, (slot + 1) * lanes)
            others[f"sum_{slot}"] = total = _signal(spans.beat_sum, f"beat_sum_{slot}")
            products = [beat[f"product_{lane}"] for lane in here]
            m.d.comb += total.eq(adder_tree(self._shift_sub_blocks(m, products, slot, beat)))
            if self.lane.has_specials:
                others[f"specials_{slot}"] = special.union([beat[f"specials_{lane}"] for lane in here])
        if spec.zero_bits:
            others["a_sum"] = _signal(spans.beat_a_sum, "beat_a_sum")
            m.d.comb += others["a_sum"].eq(adder_tree([beat[f"a_{lane}"] for lane in range(spec.lanes)]))
        return others

    def _shift_sub_blocks(self, m: Module, products: list[Value], slot: int, beat: dict[str, Value]) -> list[Value]:
        """Return the sums of the products that share a shift, shifted from the largest one up; without, as they are."""
        spec, spans = self.spec, self.spans
        if not spec.sub_block:
            return products
        assert spans is not None
        found: list[Value] = []
        for first in range(0, len(products), spec.sub_block):
            index = (slot * len(products) + first) // spec.sub_block
            down = sum(beat[f"{side}_shift"].word_select(index, spec.shift_bits) for side in "ab")
            total = _signal(spans.sub_sum, f"sub_sum_{index}")
            up = Signal(range(2 * spec.max_shift + 1), name=f"up_{index}")
            m.d.comb += [
                total.eq(adder_tree(products[first : first + spec.sub_block])),
                up.eq(2 * spec.max_shift - down),
            ]
            found.append(total << up)
        return found

    def _sum_block(self, m: Module, beat: Registers) -> Registers:
        """Stage B: exact sums over the block's beats, and the product of its scales.

        Valid at the end of a block; with each beat where the accumulator takes single products.
        """
        spec, spans = self.spec, self.spans
        kept = ("b_zero", "a_out", "b_out", "last", "block_end")
        values: dict[str, Value] = {name: beat[name] for name in kept if name in beat}
        values |= self._scale_products(m, beat)
        if spans is None:
            lanes = {name: value for name, value in beat.items() if name.startswith(("product_", "exponent_", "spec"))}
            return self._register(m, "b", {"valid": beat["valid"]} | values | lanes)

        widths = {f"sum_{slot}": spans.block_sum for slot in range(spec.beat_blocks)} | {"a_sum": spans.block_a_sum}
        sums = {name: _signal(span, f"next_block_{name}") for name, span in widths.items() if name in beat}
        sets = {name: Signal(special.BITS, name=f"next_{name}") for name in beat if name.startswith("specials_")}
        block = self._register(m, "b", {"valid": beat["valid"] & beat["block_end"]} | sums | sets | values)
        fresh = Signal(init=1)  # the next beat begins a block
        with m.If(self.en & beat["valid"]):
            m.d.sync += fresh.eq(beat["block_end"])
        for name, total in (sums | sets).items():
            if spec.block_beats == 1:
                m.d.comb += total.eq(beat[name])
            else:
                before = Mux(fresh, 0, block[name])
                after = before + beat[name] if name in sums else before | beat[name]
                m.d.comb += total.eq(Mux(beat["valid"], after, block[name]))
        return block

    def _scale_products(self, m: Module, beat: Registers) -> dict[str, Value]:
        """Return for each block of a beat the product of its scales as significand and exponent, and if one is NaN."""
        if not self.scales:
            return {}
        found: dict[str, Value] = {}
        for slot in range(self.spec.beat_blocks):
            decoders = []
            for name, fmt in self.scales.items():
                m.submodules[f"{name}_decoder_{slot}"] = decoder = NumberDecoder(fmt)
                m.d.comb += decoder.code.eq(beat[name].word_select(slot, fmt.bits))
                decoders.append(decoder)
            facts = [decoder.facts for decoder in decoders]
            exponent = _signal(_exponent_span(facts), f"scale_exponent_{slot}")
            m.d.comb += exponent.eq(sum(decoder.exponent for decoder in decoders))
            found[f"scale_exponent_{slot}"] = exponent
            bound = prod(each.max_significand for each in facts)
            if bound > 1:  # powers of two have nothing but an exponent
                significand = _signal((-bound, bound), f"scale_significand_{slot}")
                m.d.comb += significand.eq(prod((decoder.significand for decoder in decoders), start=Const(1)))
                found[f"scale_significand_{slot}"] = significand
            is_nan = special.union([Cat(decoder.is_nan | decoder.is_inf) for decoder in decoders])[0]
            found[f"scale_is_nan_{slot}"] = is_nan
        return found

    def _term(self, m: Module, block: Registers, index: int, slot: int) -> tuple[Value, Value, Value]:
        """Return a term under its scales: integer, exponent of its lowest bit less that of the shape, specials."""
        if self.by_product:
            integer, exponent = block[f"product_{index}"], block[f"exponent_{index}"]
        else:
            integer, exponent = block[f"sum_{index}"], Const(0)
            if "b_zero" in block:
                assert self.spans is not None
                corrected = _signal(self.spans.corrected, "corrected")
                m.d.comb += corrected.eq(integer - block["b_zero"] * block["a_sum"])
                integer = corrected
        sets = block.get(f"specials_{index}", special.NONE)
        if not self.scales:
            return integer, exponent, sets
        significand = block.get(f"scale_significand_{slot}", Const(1))
        exponent = exponent + block[f"scale_exponent_{slot}"]
        sign = significand[-1] if significand.shape().signed else Const(0)
        sets = special.scaled(sets, block[f"scale_is_nan_{slot}"], ~significand.any(), sign)
        return (integer * significand if f"scale_significand_{slot}" in block else integer), exponent, sets

    def _shape(self) -> TermShape:
        """Return the bounds of a term."""
        facts = [NumberFacts.of(fmt) for fmt in self.scales.values()]
        significand = prod(each.max_significand for each in facts)
        low, high = _exponent_span(facts)
        frac_bits = sum(each.frac_bits for each in facts)
        if self.by_product:
            lane = self.lane
            return TermShape(
                max_magnitude=lane.max_product * significand,
                min_low=lane.min_exponent + low,
                max_low=lane.max_exponent + high,
                frac_bits=lane.frac_bits + frac_bits,
            )
        assert self.spans is not None
        return TermShape(
            max_magnitude=max(map(abs, self.spans.corrected)) * significand,
            min_low=low - self.spec.frac_bits,
            max_low=high - self.spec.frac_bits,
            frac_bits=self.spec.frac_bits + frac_bits,
        )

    def _accumulate(self, m: Module, block: Registers) -> dict[str, Value]:
        """Stage A: the accumulator; valid after the last block, and where it is promoted."""
        spec, rule = self.spec, self.spec.accumulator
        terms = spec.lanes if self.by_product else spec.beat_blocks
        m.submodules.accumulate = accumulate = Accumulate(rule, terms, self._shape(), spec)
        offset = 0 if self.by_product else -spec.frac_bits
        for index in range(terms):
            slot = index * spec.beat_blocks // terms
            integer, low, sets = self._term(m, block, index, slot)
            m.d.comb += [
                getattr(accumulate, f"term_{index}").eq(integer),
                getattr(accumulate, f"low_{index}").eq(low + offset),
                getattr(accumulate, f"specials_{index}").eq(sets),
            ]

        accumulator = Signal(rule.spec.bits)
        fresh = Signal(init=1)  # the accumulator starts again
        ends = self._ends(m, block)
        m.d.comb += accumulate.acc.eq(Mux(fresh, 0, accumulator))
        with m.If(self.en & block["valid"]):
            m.d.sync += [accumulator.eq(accumulate.result), fresh.eq(ends)]

        kept = ("a_out", "b_out", "last") if rule.promote_every else ("a_out", "b_out")
        sideband = {name: block[name] for name in kept if name in block}
        result: dict[str, Value] = dict(self._register(m, "acc", {"valid": block["valid"] & ends} | sideband))
        if spec.flags:
            flags = Signal(FLAG_BITS)
            begins = Signal(init=1)
            with m.If(self.en & block["valid"]):
                m.d.sync += [flags.eq(Mux(begins, 0, flags) | accumulate.flags), begins.eq(block["last"])]
            result["flags"] = flags
        return result | {"y": accumulator}

    def _ends(self, m: Module, block: Registers) -> Value:
        """Return whether the accumulator's content leaves it after this beat: the last one, or that of a promotion."""
        beats = self.spec.accumulator.promote_every // self.spec.beat_blocks
        if not self.spec.accumulator.promote_every:
            return block["last"]
        count = Signal(range(beats + 1))
        ends = Signal(name="promotes")
        m.d.comb += ends.eq(block["last"] | (block["block_end"] & (count == beats - 1)))
        with m.If(self.en & block["valid"] & block["block_end"]):
            m.d.sync += count.eq(Mux(ends, 0, count + 1))
        return ends

    def _promote(self, m: Module, result: dict[str, Value]) -> dict[str, Value]:
        """Stage T: add the accumulator to the FP32 sum; valid after the last block."""
        fmt = self.spec.accumulator.spec
        part = FloatFields(m, result["y"], fmt, "part")
        lowest = 1 - fmt.bias - fmt.man_bits
        m.submodules.promote = add = FloatFusedAdd((2 << fmt.man_bits) - 1, lowest, lowest + (1 << fmt.exp_bits) - 1)
        total = Signal(32)
        fresh = Signal(init=1)  # the next promotion begins a dot product
        m.d.comb += [
            add.acc.eq(Mux(fresh, 0, total)),
            add.addend.eq(Mux(part.sign, -part.significand, part.significand)),
            add.exponent.eq(part.exponent - fmt.man_bits),
            add.specials.eq(Cat(part.is_nan, part.is_inf & ~part.sign, part.is_inf & part.sign, Const(0))),
        ]
        with m.If(self.en & result["valid"]):
            m.d.sync += [total.eq(add.result), fresh.eq(result["last"])]
        sideband = {name: result[name] for name in ("a_out", "b_out", "flags") if name in result}
        later: dict[str, Value] = dict(self._register(m, "sum", {"valid": result["valid"] & result["last"]} | sideband))
        if self.spec.flags:
            flags = Signal(FLAG_BITS)
            with m.If(self.en & result["valid"]):
                m.d.sync += flags.eq(Mux(fresh, 0, flags) | add.flags)
            later["flags"] = later["flags"] | flags
        assert FLOAT32.bits == len(total)
        return later | {"y": total}

    def _scale(self, m: Module, result: dict[str, Value], side: str) -> dict[str, Value]:
        """Multiply the result by one output scale."""
        m.submodules[f"{side}_mul"] = multiply = Fp32Mul()
        m.d.comb += [multiply.x.eq(result["y"]), multiply.y.eq(result[side])]
        later = {name: register for name, register in result.items() if name not in ("y", side)} | {
            "y": multiply.result
        }
        if "flags" in result:
            later["flags"] = result["flags"] | multiply.flags
        return dict(self._register(m, side, later))


def _exponent_span(facts: list[NumberFacts]) -> tuple[int, int]:
    """Return the range of the sum of the decoders' exponents."""
    return sum(each.min_exponent for each in facts), sum(each.max_exponent for each in facts)

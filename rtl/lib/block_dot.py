"""Dot products of blocks: products, exact block sums, scales, any accumulator, optional FP32 output scales."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from amaranth.hdl import Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe import _elements
from hwsim.pe._dot import DotSpec
from hwsim.pe.rounding import FLAG_BITS, FLOAT32
from rtl.lib import float_term, special
from rtl.lib.accumulate import TERM_FIELDS, Accumulate, TermShape
from rtl.lib.adder_tree import Tree, levels
from rtl.lib.beat import LANE_FIELDS, beat_layout
from rtl.lib.block_scales import exponent_span, scale_products
from rtl.lib.dot_spans import DotSpans, signal_of
from rtl.lib.float_fields import widen
from rtl.lib.float_fused_add import FloatFusedAdd
from rtl.lib.float_term import FloatTerm
from rtl.lib.fp32_mul import Fp32Mul
from rtl.lib.held_group import held_group
from rtl.lib.lane import Lane, LaneDecoder
from rtl.lib.number_decoder import NumberFacts
from rtl.lib.shapes import shape_of

Registers = Mapping[str, Value]
"""The registers of one pipeline stage by field name."""


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
    ready : Out(1)
        The beat, if there is one, is taken with ``en``; always, but in serial units (`rtl.lib.serial_dot`).
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
    Latency ``spec.latency`` cycles, throughput one beat a cycle. Stages, each ending in registers; those in brackets
    are there as ``spec.stages`` has them, else their work is a part of the next one:

    [D] decode;
    [M] multiply;
    [S] sum the beat's products of each block, where the accumulator takes sums: the first half of the tree's levels;
    P   the other levels;
    B   sum the block's beats (where a block is summed in order, its products, one after the other); multiply the block
        scales;
    [X] take off the zero point's share, apply the scales;
    A   accumulate (one step after the other where a beat has several), round; in the last beat of a group of kind
        ``aligned`` that takes several: the terms of the others wait in registers;
    T   add the accumulator to the FP32 sum (with promotion);
    one FP32 multiplication for each output scale, a's before b's.

    A step of the accumulator needs the sum of the one before, so that no stage can divide A.

    Reset empties the pipeline: the next beat begins a dot product.
    """

    def __init__(self, spec: DotSpec) -> None:
        self.spec = spec
        self.by_product = spec.accumulator.by_product
        self.spans = None if self.by_product else DotSpans(spec)
        self.lane = Lane(spec)
        self.scales = {
            side: _elements.number_format(name)
            for side, name in (("a_scale", spec.a_scale), ("b_scale", spec.b_scale))
            if name is not None
        }
        ports = {
            "en": In(1), "valid": In(1), "ready": Out(1), "beat": In(beat_layout(spec)), "out_valid": Out(1),
            "y": Out(32),
        }  # fmt: skip
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
        if self.spec.has_stage("multiply"):
            beat = self._register(m, "m", beat)
        if not self.by_product:
            beat = self._reduce_lanes(m, beat)
        if self.spec.has_stage("tree"):
            beat = self._register(m, "s", beat)
        return beat if self.by_product else self._sum_lanes(m, beat)

    def _register(self, m: Module, stage: str, values: Mapping[str, Value]) -> dict[str, Value]:
        """Hold ``values`` in registers that move with ``en``."""
        registers = {name: Signal(value.shape(), name=f"{stage}_{name}") for name, value in values.items()}
        with m.If(self.en):
            m.d.sync += [register.eq(values[name]) for name, register in registers.items()]
        return registers

    def _multiply(self, m: Module) -> dict[str, Value]:
        """Return every lane's product, which beats end a block, and what goes with them."""
        spec, beat = self.spec, self.beat
        m.d.comb += self.ready.eq(1)
        block_end = self._block_end(m, self.valid)
        sideband = {name: Value.cast(beat[name]) for name, _, _ in spec.layout() if name not in LANE_FIELDS}
        values: dict[str, Value] = {"valid": self.valid, "block_end": block_end} | sideband
        staged = spec.has_stage("decode")
        if staged:
            values = dict(self._register(m, "d", values))
        for lane in range(spec.lanes):
            m.submodules[f"lane_{lane}"] = decoder = LaneDecoder(self.lane, staged)
            m.d.comb += [decoder.en.eq(self.en), decoder.a.eq(beat.a[lane]), decoder.b.eq(beat.b[lane])]
            values[f"product_{lane}"] = decoder.product
            if self.by_product:
                values[f"exponent_{lane}"] = decoder.exponent
            if self.lane.has_specials:
                values[f"specials_{lane}"] = decoder.specials
            if spec.zero_bits:
                values[f"a_{lane}"] = decoder.a_integer
        return values

    def _block_end(self, m: Module, taken: Value) -> Signal:
        """Return whether the beat at the input ends a block, counted by the beats that are taken."""
        block_end = Signal()
        ends: Value = Const(1) if self.spec.block_beats == 1 else self.beat.last
        if self.spec.block_beats > 1:
            position = Signal(range(self.spec.block_beats))
            ends = ends | (position == self.spec.block_beats - 1)
            with m.If(self.en & taken):
                m.d.sync += position.eq(Mux(block_end, 0, position + 1))
        m.d.comb += block_end.eq(ends)
        return block_end

    def _trees(self, m: Module) -> dict[str, Tree]:
        """Return the tree of every sum that a beat makes: of its products a block, and of its activations."""
        spec, spans = self.spec, self.spans
        assert spans is not None
        sums = {f"sum_{slot}": spans.beat_sum for slot in range(spec.beat_blocks)}
        if spec.zero_bits:
            sums["a_sum"] = spans.beat_a_sum
        return {name: Tree(m, spec.adder_tree, shape_of(*span), f"beat_{name}") for name, span in sums.items()}

    def _reduce_lanes(self, m: Module, beat: dict[str, Value]) -> dict[str, Value]:
        """Return the beat with rows of its sums in the place of its lanes; half the levels where a stage follows."""
        spec, lanes = self.spec, self.spec.lanes // self.spec.beat_blocks
        gone = ("a_shift", "b_shift")
        others = {
            name: value for name, value in beat.items() if not name.rpartition("_")[2].isdigit() and name not in gone
        }
        for name, tree in self._trees(m).items():
            if name == "a_sum":
                terms = [beat[f"a_{lane}"] for lane in range(spec.lanes)]
            else:
                slot = int(name.removeprefix("sum_"))
                here = range(slot * lanes, (slot + 1) * lanes)
                terms = self._shift_sub_blocks(m, [beat[f"product_{lane}"] for lane in here], slot, beat)
                if self.lane.has_specials:
                    others[f"specials_{slot}"] = special.union([beat[f"specials_{lane}"] for lane in here])
            half = levels(spec.adder_tree, len(terms)) // 2 if spec.has_stage("tree") else 0
            others |= {f"{name}_row_{index}": row for index, row in enumerate(tree.reduced(terms, half))}
        return others

    def _sum_lanes(self, m: Module, beat: dict[str, Value]) -> dict[str, Value]:
        """Return the beat with its sums in the place of their rows."""
        others = {name: value for name, value in beat.items() if "_row_" not in name}
        for name, tree in self._trees(m).items():
            others[name] = tree.total([row for key, row in beat.items() if key.startswith(f"{name}_row_")])
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
            tree = Tree(m, spec.adder_tree, shape_of(*spans.sub_sum), f"sub_sum_{index}")
            up = Signal(range(2 * spec.max_shift + 1), name=f"up_{index}")
            m.d.comb += up.eq(2 * spec.max_shift - down)
            found.append(tree.total(products[first : first + spec.sub_block]) << up)
        return found

    def _sum_block(self, m: Module, beat: Registers) -> Registers:
        """Stage B: exact sums over the block's beats, and the product of its scales.

        Valid at the end of a block; with each beat where the accumulator takes single products.
        """
        spec, spans = self.spec, self.spans
        kept = ("b_zero", "a_out", "b_out", "last", "block_end")
        values: dict[str, Value] = {name: beat[name] for name in kept if name in beat}
        values |= scale_products(m, self.scales, beat, spec.beat_blocks)
        if spec.accumulator.sums_in_order:
            return self._sum_in_order(m, beat, values)
        if spans is None:
            lanes = {name: value for name, value in beat.items() if name.startswith(("product_", "exponent_", "spec"))}
            return self._register(m, "b", {"valid": beat["valid"]} | values | lanes)

        widths = {f"sum_{slot}": spans.block_sum for slot in range(spec.beat_blocks)} | {"a_sum": spans.block_a_sum}
        sums = {name: signal_of(span, f"next_block_{name}") for name, span in widths.items() if name in beat}
        sets = {name: Signal(special.BITS, name=f"next_{name}") for name in beat if name.startswith("specials_")}
        block = self._register(m, "b", {"valid": beat["valid"] & beat["block_end"]} | sums | sets | values)
        fresh = self._begins_block(m, beat)
        for name, total in (sums | sets).items():
            if spec.block_beats == 1:
                m.d.comb += total.eq(beat[name])
            else:
                before: Value = Mux(fresh, 0, block[name])
                if spec.acc_bits:
                    before = Mux(beat["rescale"], before << 1, before)
                after = before + beat[name] if name in sums else before | beat[name]
                m.d.comb += total.eq(Mux(beat["valid"], after, block[name]))
        return block

    def _begins_block(self, m: Module, beat: Registers) -> Signal:
        """Return whether the next beat begins a block."""
        fresh = Signal(init=1)
        with m.If(self.en & beat["valid"]):
            m.d.sync += fresh.eq(beat["block_end"])
        return fresh

    def _sum_in_order(self, m: Module, beat: Registers, values: dict[str, Value]) -> Registers:
        """Stage B where a block's products are added one after the other: its rounded sum, and the flags raised in it.

        A beat's products follow each other in a chain of additions.
        """
        spec, rule, lanes = self.spec, self.spec.accumulator, self.spec.lanes // self.spec.beat_blocks
        parts = {f"part_{slot}": Signal(rule.spec.bits, name=f"next_part_{slot}") for slot in range(spec.beat_blocks)}
        flags = Signal(FLAG_BITS, name="next_block_flags")
        valid = beat["valid"] & beat["block_end"]
        block = self._register(m, "b", {"valid": valid, "block_flags": flags} | parts | values)
        fresh = self._begins_block(m, beat)
        raised = [Mux(fresh, 0, block["block_flags"])]
        for slot, (name, part) in enumerate(parts.items()):
            m.submodules[f"in_order_{slot}"] = chain = Accumulate(rule, lanes, self._raw_shape(), spec)
            raised.append(chain.flags)
            m.d.comb += [
                chain.acc.eq(Mux(fresh, 0, block[name])),
                part.eq(Mux(beat["valid"], chain.result, block[name])),
            ]
            for index in range(lanes):
                for field, value in zip(TERM_FIELDS, self._product(beat, slot * lanes + index), strict=True):
                    m.d.comb += getattr(chain, f"{field}_{index}").eq(value)
        m.d.comb += flags.eq(Mux(beat["valid"], special.union(raised), block["block_flags"]))
        return block

    def _product(self, beat: Registers, index: int) -> tuple[Value, Value, Value]:
        """Return a lane's product: integer, weight of its lowest bit, specials."""
        return beat[f"product_{index}"], beat[f"exponent_{index}"], beat.get(f"specials_{index}", special.NONE)

    def _scale_terms(self, m: Module, block: Registers, terms: int) -> Registers:
        """Return the terms that enter the accumulator, and what goes with them; in registers where there is a stage."""
        spec = self.spec
        kept = ("valid", "block_end", "last", "a_out", "b_out", "block_flags")
        values: dict[str, Value] = {name: block[name] for name in kept if name in block}
        shape = self._shape()
        for index in range(terms):
            integer, low, sets = self._term(m, block, index, index * spec.beat_blocks // terms)
            for field, value, field_shape in zip(TERM_FIELDS, (integer, low, sets), shape.field_shapes, strict=True):
                values[f"{field}_{index}"] = named = Signal(field_shape, name=f"scaled_{field}_{index}")
                m.d.comb += named.eq(value)
        return self._register(m, "x", values) if spec.has_stage("scale") else values

    def _term(self, m: Module, block: Registers, index: int, slot: int) -> tuple[Value, Value, Value]:
        """Return a term under its scales: integer, weight of its lowest bit as a power of two, specials."""
        if self.spec.accumulator.sums_in_order:
            part = FloatTerm(m, block[f"part_{index}"], self.spec.accumulator.spec, f"part_{index}")
            integer, low, sets = part.integer, part.low, part.specials
        elif self.by_product:
            integer, low, sets = self._product(block, index)
        else:
            integer, low = block[f"sum_{index}"], Const(-self.spec.frac_bits)
            sets = block.get(f"specials_{index}", special.NONE)
            if "b_zero" in block:
                assert self.spans is not None
                corrected = signal_of(self.spans.corrected, "corrected")
                m.d.comb += corrected.eq(integer - block["b_zero"] * block["a_sum"])
                integer, sets = corrected, special.less_itself(sets)
        if not self.scales:
            return integer, low, sets
        significand = block.get(f"scale_significand_{slot}", Const(1))
        low = low + block[f"scale_exponent_{slot}"]
        sign = significand[-1] if significand.shape().signed else Const(0)
        sets = special.scaled(sets, block[f"scale_is_nan_{slot}"], ~significand.any(), sign)
        return (integer * significand if f"scale_significand_{slot}" in block else integer), low, sets

    def _shape(self) -> TermShape:
        """Return the bounds of a term under its scales."""
        facts = [NumberFacts.of(fmt) for fmt in self.scales.values()]
        significand = prod(each.max_significand for each in facts)
        low, high = exponent_span(facts)
        raw = self._raw_shape()
        if self.spec.accumulator.sums_in_order:
            fmt = self.spec.accumulator.spec
            raw = TermShape(float_term.max_magnitude(fmt), *float_term.low_span(fmt), 0)
        return TermShape(
            max_magnitude=raw.max_magnitude * significand,
            min_low=raw.min_low + low,
            max_low=raw.max_low + high,
            frac_bits=raw.frac_bits + sum(each.frac_bits for each in facts),
        )

    def _raw_shape(self) -> TermShape:
        """Return the bounds of a product, or of a block's exact sum."""
        if self.spans is None:
            lane = self.lane
            return TermShape(lane.max_product, lane.min_exponent, lane.max_exponent, lane.frac_bits)
        low = -self.spec.frac_bits
        return TermShape(max(map(abs, self.spans.corrected)), low, low, self.spec.frac_bits)

    def _accumulate(self, m: Module, block: Registers) -> dict[str, Value]:
        """Stage A: the accumulator; valid after the last block, and where it is promoted."""
        spec, rule = self.spec, self.spec.accumulator
        terms = spec.lanes if rule.scales == "product" else spec.beat_blocks
        block = self._scale_terms(m, block, terms)
        fields = [f"{field}_{index}" for index in range(terms) for field in TERM_FIELDS]
        group, whole = held_group(m, self.en & block["valid"], block, fields, max(spec.step_terms // terms, 1))
        m.submodules.accumulate = accumulate = Accumulate(rule, terms * len(group), self._shape(), spec)
        for number, beat in enumerate(group):
            for index in range(terms):
                for field in TERM_FIELDS:
                    m.d.comb += getattr(accumulate, f"{field}_{number * terms + index}").eq(beat[f"{field}_{index}"])

        accumulator = Signal(rule.spec.bits)
        fresh = Signal(init=1)  # the accumulator starts again
        ends = self._ends(m, block)
        m.d.comb += accumulate.acc.eq(Mux(fresh, 0, accumulator))
        step = block["valid"] & whole
        with m.If(self.en & step):
            m.d.sync += [accumulator.eq(accumulate.result), fresh.eq(ends)]

        kept = ("a_out", "b_out", "last") if rule.promote_every else ("a_out", "b_out")
        sideband = {name: block[name] for name in kept if name in block}
        result: dict[str, Value] = dict(self._register(m, "acc", {"valid": step & ends} | sideband))
        if spec.flags:
            flags = Signal(FLAG_BITS)
            begins = Signal(init=1)
            raised = accumulate.flags | block.get("block_flags", 0)
            with m.If(self.en & step):
                m.d.sync += [flags.eq(Mux(begins, 0, flags) | raised), begins.eq(block["last"])]
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
        part = FloatTerm(m, result["y"], fmt, "part")
        m.submodules.promote = add = FloatFusedAdd(float_term.max_magnitude(fmt), *float_term.low_span(fmt))
        total = Signal(32)
        fresh = Signal(init=1)  # the next promotion begins a dot product
        m.d.comb += [
            add.acc.eq(Mux(fresh, 0, total)),
            add.addend.eq(part.integer),
            add.exponent.eq(part.low),
            add.specials.eq(part.specials),
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

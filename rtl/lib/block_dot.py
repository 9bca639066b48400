"""Dot products of blocks: exact integer block sums, an FP32 accumulator, optional FP32 output scales."""

from __future__ import annotations

from math import prod

from amaranth.hdl import Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats import FloatSpec, element
from hwsim.pe._dot import MAX_BEATS, DotSpec
from rtl.lib.adder_tree import adder_tree
from rtl.lib.beat import LANE_FIELDS, beat_layout
from rtl.lib.element_decoder import decode_element
from rtl.lib.fp32_fused_add import Fp32FusedAdd
from rtl.lib.fp32_mul import Fp32Mul
from rtl.lib.scale_decoder import ScaleDecoder

Registers = dict[str, Signal]
"""The registers of one pipeline stage by field name."""


class _Spans:
    """Smallest and largest value of each integer in the datapath, from which its width follows.

    Element tables bound a product; lanes and the beats of a block (`MAX_BEATS` where it has no fixed length) bound its
    sums. So no integer ever wraps.
    """

    def __init__(self, spec: DotSpec, scales: list[ScaleDecoder]) -> None:
        a = (min(spec.a_ints), max(spec.a_ints))
        b = (min(spec.b_ints), max(spec.b_ints))
        zero = (1 << spec.zero_bits) - 1  # the largest zero point; 0 where there is none
        beats = spec.block_beats or MAX_BEATS
        self.product = _times(a, b)
        self.beat_sum = _repeat(self.product, spec.lanes)
        self.beat_a_sum = _repeat(a, spec.lanes)
        self.block_sum = _repeat(self.beat_sum, beats)
        self.block_a_sum = _repeat(self.beat_a_sum, beats)
        # sum(a * b) - zero * sum(a) is sum(a * (b - zero)), term by term
        self.corrected = _repeat(_times(a, (b[0] - zero, b[1])), spec.lanes * beats)
        assert max(map(abs, self.beat_sum)).bit_length() < spec.beat_sum_bits
        assert max(map(abs, self.corrected)).bit_length() < spec.block_sum_bits
        self.max_significand = prod(scale.max_significand for scale in scales)
        self.max_addend = max(map(abs, self.corrected)) * self.max_significand
        self.exponent = (
            sum(scale.min_exponent for scale in scales) - spec.frac_bits,
            sum(scale.max_exponent for scale in scales) - spec.frac_bits,
        )


def _times(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    corners = [x * y for x in left for y in right]
    return min(corners), max(corners)


def _repeat(span: tuple[int, int], terms: int) -> tuple[int, int]:
    return span[0] * terms, span[1] * terms


def _float_element(name: str) -> FloatSpec:
    facts = element(name)
    if not isinstance(facts, FloatSpec):
        raise ValueError(f"a block scale must be a floating-point element, not {name!r}")
    return facts


def _signal(span: tuple[int, int], name: str) -> Signal:
    """Return a signal for the values of ``span`` and for 0, which registers hold after reset."""
    return Signal(range(min(span[0], 0), max(span[1], 0) + 1), name=name)


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
        Block scales and zero point count at the last beat of a block, output scales at that of the dot product.
    out_valid : Out(1)
        ``y`` is the result of a dot product: ``spec.latency`` enabled cycles after its ``last`` beat.
    y : Out(32)
        FP32 bits.

    Exactness
    ---------
    As :func:`hwsim.pe._dot.reference`, bit for bit.

    Hardware
    --------
    Latency ``spec.latency`` cycles, throughput one beat a cycle. Stages, each ending in registers:

    P  decode, multiply, sum the beat's products;
    B  sum the block's beats; multiply the block scales;
    A  take off the zero point's share, apply the scales, add to the FP32 accumulator, round;
    one FP32 multiplication for each output scale, a's before b's.

    Reset empties the pipeline: the next beat begins a dot product.
    """

    def __init__(self, spec: DotSpec) -> None:
        self.spec = spec
        names = {"a_scale": spec.a_scale, "b_scale": spec.b_scale}
        self.scales = {side: ScaleDecoder(_float_element(name)) for side, name in names.items() if name is not None}
        self.spans = _Spans(spec, list(self.scales.values()))
        super().__init__(
            {"en": In(1), "valid": In(1), "beat": In(beat_layout(spec)), "out_valid": Out(1), "y": Out(32)}
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        products = self._multiply(m)
        block = self._sum_block(m, products)
        result = self._accumulate(m, block)
        for side in ("a_out", "b_out"):
            if side in result:
                result = self._scale(m, result, side)
        m.d.comb += [self.out_valid.eq(result["valid"]), self.y.eq(result["y"])]
        return m

    def _register(self, m: Module, stage: str, values: dict[str, Value]) -> Registers:
        """Hold ``values`` in registers that move with ``en``."""
        registers = {name: Signal(value.shape(), name=f"{stage}_{name}") for name, value in values.items()}
        with m.If(self.en):
            m.d.sync += [register.eq(values[name]) for name, register in registers.items()]
        return registers

    def _multiply(self, m: Module) -> Registers:
        """Stage P: exact sum of the beat's products, and which beats end a block."""
        spec, spans, beat = self.spec, self.spans, self.beat
        a = [decode_element(m, beat.a[lane], spec.a_ints, f"a_{lane}") for lane in range(spec.lanes)]
        b = [decode_element(m, beat.b[lane], spec.b_ints, f"b_{lane}") for lane in range(spec.lanes)]
        products = [_signal(spans.product, f"product_{lane}") for lane in range(spec.lanes)]
        sums = {"beat_sum": _signal(spans.beat_sum, "beat_sum")}
        m.d.comb += [product.eq(x * y) for product, x, y in zip(products, a, b, strict=True)]
        m.d.comb += sums["beat_sum"].eq(adder_tree(products))
        if spec.zero_bits:
            sums["a_sum"] = _signal(spans.beat_a_sum, "beat_a_sum")
            m.d.comb += sums["a_sum"].eq(adder_tree(a))

        block_end = Signal()
        m.d.comb += block_end.eq(1 if spec.block_beats == 1 else beat.last)
        if spec.block_beats > 1:
            position = Signal(range(spec.block_beats))
            with m.If(position == spec.block_beats - 1):
                m.d.comb += block_end.eq(1)
            with m.If(self.en & self.valid):
                m.d.sync += position.eq(Mux(block_end, 0, position + 1))

        sideband = {name: Value.cast(beat[name]) for name, _, _ in spec.layout() if name not in LANE_FIELDS}
        return self._register(m, "p", {"valid": self.valid, "block_end": block_end} | sums | sideband)

    def _sum_block(self, m: Module, beat: Registers) -> Registers:
        """Stage B: exact sum over the block's beats, and the product of its scales; valid at the end of a block."""
        spans = {"beat_sum": self.spans.block_sum, "a_sum": self.spans.block_a_sum}
        sums = {name: _signal(span, f"next_block_{name}") for name, span in spans.items() if name in beat}
        sideband = {name: beat[name] for name in ("b_zero", "a_out", "b_out", "last") if name in beat}
        values = {"valid": beat["valid"] & beat["block_end"]} | sums | self._scale_product(m, beat) | sideband
        block = self._register(m, "b", values)

        fresh = Signal(init=1)  # the next beat begins a block
        with m.If(self.en & beat["valid"]):
            m.d.sync += fresh.eq(beat["block_end"])
        for name, total in sums.items():
            if self.spec.block_beats == 1:
                m.d.comb += total.eq(beat[name])
            else:
                m.d.comb += total.eq(Mux(beat["valid"], Mux(fresh, 0, block[name]) + beat[name], block[name]))
        return block

    def _scale_product(self, m: Module, beat: Registers) -> dict[str, Value]:
        """Return the product of the block scales as significand and exponent, and whether one of them is NaN."""
        if not self.scales:
            return {}
        significand: Value = Const(1)
        exponent: Value = Const(-self.spec.frac_bits)
        is_nan: Value = Const(0)
        for name, decoder in self.scales.items():
            m.submodules[f"{name}_decoder"] = decoder
            m.d.comb += decoder.code.eq(beat[name])
            significand, exponent = significand * decoder.significand, exponent + decoder.exponent
            is_nan = is_nan | decoder.is_nan
        bound = self.spans.max_significand
        product = {"exponent": _signal(self.spans.exponent, "scale_exponent")}
        m.d.comb += product["exponent"].eq(exponent)
        if bound > 1:  # powers of two have nothing but an exponent
            product["significand"] = _signal((-bound, bound), "scale_significand")
            m.d.comb += product["significand"].eq(significand)
        return product | {"scale_is_nan": is_nan}

    def _accumulate(self, m: Module, block: Registers) -> Registers:
        """Stage A: the accumulator; valid after the last block."""
        spans = self.spans
        corrected = _signal(spans.corrected, "corrected")
        zero_share = block["b_zero"] * block["a_sum"] if "b_zero" in block else Const(0)
        m.d.comb += corrected.eq(block["beat_sum"] - zero_share)

        m.submodules.add = add = Fp32FusedAdd(spans.max_addend, *spans.exponent)
        accumulator = Signal(32)
        fresh = Signal(init=1)  # the next block begins a dot product
        m.d.comb += [
            add.acc.eq(Mux(fresh, 0, accumulator)),
            add.addend.eq(corrected * block["significand"] if "significand" in block else corrected),
            add.exponent.eq(block.get("exponent", Const(-self.spec.frac_bits))),
            add.addend_is_nan.eq(block.get("scale_is_nan", Const(0))),
        ]
        with m.If(self.en & block["valid"]):
            m.d.sync += [accumulator.eq(add.result), fresh.eq(block["last"])]

        sideband = {name: block[name] for name in ("a_out", "b_out") if name in block}
        result = self._register(m, "acc", {"valid": block["valid"] & block["last"]} | sideband)
        return result | {"y": accumulator}

    def _scale(self, m: Module, result: Registers, side: str) -> Registers:
        """Multiply the result by one output scale."""
        m.submodules[f"{side}_mul"] = multiply = Fp32Mul()
        m.d.comb += [multiply.x.eq(result["y"]), multiply.y.eq(result[side])]
        later = {name: register for name, register in result.items() if name not in ("y", side)}
        return self._register(m, side, later | {"y": multiply.result})

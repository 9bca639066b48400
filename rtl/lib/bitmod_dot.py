"""The datapath of BitMoD: terms of four weights a cycle against four FP16 activations."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim.formats.catalog.elements import FLOAT16
from hwsim.pe.bitmod import LANES, SCALE_BITS, Datapath
from rtl.lib import float_fields, special
from rtl.lib.adder_tree import adder_tree
from rtl.lib.align_terms import AlignTerms
from rtl.lib.beat import beat_layout
from rtl.lib.float_fields import FloatFields, widen
from rtl.lib.float_fused_add import FloatFusedAdd
from rtl.lib.fp32_mul import Fp32Mul
from rtl.lib.select import select
from rtl.lib.serial_scale import SerialScale
from rtl.lib.shapes import shape_of
from rtl.lib.term_encoder import TermEncoder


class BitmodDot(wiring.Component):
    """Compute dot products, one term of a beat's weights a cycle, with a fixed latency.

    Parameters
    ----------
    spec : Datapath
        Of :mod:`hwsim.pe.bitmod`; every width follows from it.

    Ports
    -----
    en : In(1)
        Moves every stage; when low, nothing changes.
    valid : In(1)
        There is a beat.
    ready : Out(1)
        It is taken, if ``en``: its first term is in turn.
    beat : In(beat_layout(spec))
    out_valid : Out(1)
        ``y`` is the result of a dot product: ``spec.latency`` enabled cycles after the last term of its ``last`` beat.
    y : Out(32)
        FP32 bits.

    Exactness
    ---------
    As :func:`hwsim.pe.bitmod.reference`, bit for bit.

    Hardware
    --------
    A beat that is taken occupies the front for ``spec.terms`` enabled cycles, a term each, the first of them at once.
    Stages, each ending in registers: encode and align; add the four and accumulate; the group's scale, a bit a cycle,
    8 cycles beside the next group's terms (a group has at least 8 cycles); add to the FP32 total; scale of the row.
    """

    def __init__(self, spec: Datapath) -> None:
        self.spec = spec
        super().__init__(
            {
                "en": In(1),
                "valid": In(1),
                "ready": Out(1),
                "beat": In(beat_layout(spec)),
                "out_valid": Out(1),
                "y": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        aligned = self._register(m, "a", self._align(m, *self._hold(m)))
        group = self._register(m, "g", self._accumulate(m, aligned))
        total = self._register(m, "t", self._add_group(m, self._scale_group(m, group)))
        m.submodules.row_scale = scale = Fp32Mul()
        m.d.comb += [scale.x.eq(total["total"]), scale.y.eq(widen(m, total["b_out"], FLOAT16))]
        result = self._register(m, "y", {"valid": total["valid"], "y": scale.result})
        m.d.comb += [self.out_valid.eq(result["valid"]), self.y.eq(result["y"])]
        return m

    def _register(self, m: Module, stage: str, values: dict[str, Value]) -> dict[str, Signal]:
        """Hold ``values`` in registers that move with ``en``."""
        registers = {name: Signal(value.shape(), name=f"{stage}_{name}") for name, value in values.items()}
        with m.If(self.en):
            m.d.sync += [register.eq(values[name]) for name, register in registers.items()]
        return registers

    def _hold(self, m: Module) -> tuple[data.View[data.StructLayout], Signal, Value]:
        """Return the beat in turn, the number of its term, and whether there is one."""
        layout = beat_layout(self.spec)
        term, held, beat = Signal(range(self.spec.terms)), Signal(layout, name="held"), Signal(layout, name="in_turn")
        m.d.comb += self.ready.eq(~term.any())
        valid = ~self.ready | self.valid
        m.d.comb += beat.eq(Mux(self.ready, self.beat.as_value(), held.as_value()))
        with m.If(self.en & valid):
            m.d.sync += [term.eq(Mux(term == self.spec.terms - 1, 0, term + 1)), held.eq(beat)]
        return beat, term, valid

    def _align(self, m: Module, beat: data.View[data.StructLayout], term: Signal, valid: Value) -> dict[str, Value]:
        """Return the four aligned terms, what decides their weight, and what goes with the group."""
        spec, params = self.spec, self.spec.params
        lowest, highest = float_fields.min_exponent(FLOAT16), float_fields.max_exponent(FLOAT16)
        m.submodules.align = align = AlignTerms(
            LANES, FLOAT16.man_bits + 1, highest + 1 - lowest + spec.max_exp, params.guard_bits,
            params.alignment == "rod",
        )  # fmt: skip
        sets = []
        for lane in range(LANES):
            m.submodules[f"encoder_{lane}"] = encoder = TermEncoder(spec)
            a = FloatFields(m, beat.a[lane], FLOAT16, f"a_{lane}")
            m.d.comb += [
                encoder.code.eq(beat.b[lane]),
                encoder.term.eq(term),
                getattr(align, f"significand_{lane}").eq(Mux(encoder.man, a.significand, 0)),
                getattr(align, f"negative_{lane}").eq(a.sign ^ encoder.sign),
                getattr(align, f"exponent_{lane}").eq(a.exponent - lowest + encoder.exp),
            ]
            if spec.has_selector:
                m.d.comb += encoder.select.eq(beat.b_select)
            sets.append(
                special.product(
                    (a.is_nan, a.is_inf, a.is_zero, a.sign),
                    (Const(0), Const(0), encoder.is_zero, encoder.is_negative),
                )
            )
        positions = [Const(int(position)) for position in spec.tables[0].positions]
        found: dict[str, Value] = {f"aligned_{lane}": getattr(align, f"aligned_{lane}") for lane in range(LANES)}
        return found | {
            "largest": align.largest,
            "bsig": select(positions, term),
            "specials": special.union(sets),
            "valid": valid,
            "group_end": self._group_end(m, beat.last, term, valid),
            "b_scale": beat.b_scale,
            "b_out": beat.b_out,
            "last": beat.last,
        }

    def _group_end(self, m: Module, last: Value, term: Signal, valid: Value) -> Value:
        """Return whether a group's last term stands."""
        spec = self.spec
        position = Signal(range(spec.group_beats))
        last_term, last_beat = term == spec.terms - 1, last | (position == spec.group_beats - 1)
        with m.If(self.en & valid & last_term):
            m.d.sync += position.eq(Mux(last_beat, 0, position + 1))
        return last_term & last_beat

    def _accumulate(self, m: Module, terms: dict[str, Signal]) -> dict[str, Value]:
        """Return the group's accumulator with this cycle's terms; valid at the end of a group."""
        spec = self.spec
        low, bsig = spec.low_exponent, int(spec.tables[0].positions.max())
        m.submodules.accumulate = add = FloatFusedAdd(
            spec.max_sum, low, low + (1 << len(terms["largest"])) - 1 + bsig, spec.acc_format
        )
        total = Signal(shape_of(-spec.max_sum, spec.max_sum), name="sum_of_terms")
        accumulator, fresh = Signal(spec.acc_format.bits, name="accumulator"), Signal(init=1, name="group_begins")
        m.d.comb += [
            total.eq(adder_tree([terms[f"aligned_{lane}"] for lane in range(LANES)])),
            add.acc.eq(Mux(fresh, 0, accumulator)),
            add.addend.eq(total),
            add.exponent.eq(terms["largest"] + terms["bsig"] + low),
            add.specials.eq(terms["specials"]),
        ]
        with m.If(self.en & terms["valid"]):
            m.d.sync += [accumulator.eq(add.result), fresh.eq(terms["group_end"])]
        sideband = {name: terms[name] for name in ("b_scale", "b_out", "last")}
        self.accumulator = accumulator  # a register already: the next group begins while the scale's first bit is used
        return {"valid": terms["valid"] & terms["group_end"], **sideband}

    def _scale_group(self, m: Module, group: dict[str, Signal]) -> dict[str, Value]:
        """Return the group's sum times its scale, 8 cycles later: integer, exponent, what it met; valid when done."""
        spec = self.spec
        acc = FloatFields(m, self.accumulator, spec.acc_format, "group")
        m.submodules.scale = scale = SerialScale(spec.acc_format.man_bits + 1, SCALE_BITS)
        m.d.comb += [
            scale.en.eq(self.en),
            scale.start.eq(group["valid"]),
            scale.value.eq(acc.significand),
            scale.scale.eq(group["b_scale"]),
        ]
        infinite = acc.is_inf & ~acc.is_nan
        sets = special.scaled(
            Cat(acc.is_nan, infinite & ~acc.sign, infinite & acc.sign, Const(0)),
            Const(0), ~group["b_scale"].any(), Const(0),
        )  # fmt: skip
        kept = {
            "exponent": acc.exponent, "sign": acc.sign, "specials": sets, "b_out": group["b_out"], "last": group["last"]
        }  # fmt: skip
        held = {name: Signal(Value.cast(value).shape(), name=f"scaled_{name}") for name, value in kept.items()}
        with m.If(self.en & group["valid"]):
            m.d.sync += [register.eq(kept[name]) for name, register in held.items()]
        return {"valid": scale.done, "product": scale.product, **held}

    def _add_group(self, m: Module, group: dict[str, Value]) -> dict[str, Value]:
        """Return the FP32 total with a group in it; valid after the last one."""
        fmt = self.spec.acc_format
        low = float_fields.min_exponent(fmt) - fmt.man_bits
        high = float_fields.max_exponent(fmt) + 1 - fmt.man_bits
        m.submodules.add_group = add = FloatFusedAdd((1 << (fmt.man_bits + 1 + SCALE_BITS)) - 1, low, high)
        product, finite = group["product"], ~reduce(or_, group["specials"])
        m.d.comb += [
            add.addend.eq(Mux(finite, Mux(group["sign"], -product, product), 0)),
            add.exponent.eq(group["exponent"] - fmt.man_bits),
            add.specials.eq(group["specials"]),
        ]
        total, fresh = Signal(32, name="total"), Signal(init=1, name="dot_begins")
        m.d.comb += add.acc.eq(Mux(fresh, 0, total))
        with m.If(self.en & group["valid"]):
            m.d.sync += [total.eq(add.result), fresh.eq(group["last"])]
        return {"valid": group["valid"] & group["last"], "total": add.result, "b_out": group["b_out"]}

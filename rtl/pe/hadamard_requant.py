"""Walsh-Hadamard transform in front of a requantiser: the hardware of :mod:`hwsim.pe.hadamard_requant`."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe.hadamard_requant import Params
from rtl.lib.block_encoder import encoder
from rtl.lib.elastic_stream import ElasticStream
from rtl.lib.float_fields import widen
from rtl.lib.int_to_float32 import int_to_float32
from rtl.lib.walsh_hadamard import WalshHadamard


class RotatingEncoder(wiring.Component):
    """Transform vectors and encode the results.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports: those of :class:`rtl.lib.walsh_hadamard.WalshHadamard` at the input and of an encoder of
    :mod:`rtl.lib.block_encoder` at the output; ``tensor_scale`` counts at the last beat of a transaction.

    Exactness
    ---------
    As :func:`hwsim.pe.hadamard_requant.outputs`, bit for bit.

    Hardware
    --------
    Latency ``params.datapath.latency`` cycles. The conversion to FP32 adds no stage. A tensor scale goes along the
    transform in a shift register.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        spec = params.datapath
        ports: dict[str, Any] = {
            "en": In(1),
            "valid": In(1),
            "last": In(1),
            "x": In(data.ArrayLayout(unsigned(params.hadamard.in_bits), spec.lanes)),
            "out_valid": Out(1),
            "codes": Out(data.ArrayLayout(unsigned(params.requant.out_bits), spec.lanes)),
        }
        if params.requant.has_tensor_scale:
            ports["tensor_scale"] = In(32)
        ports |= {name: Out(bits) for name, bits, _ in spec.outputs if name == "scale"}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        params = self.params
        m.submodules.transform = first = WalshHadamard(params.hadamard)
        m.submodules.encoder = second = encoder(params.requant)
        vector, block = params.hadamard.datapath.beats, params.requant.datapath.beats
        m.d.comb += [
            first.en.eq(self.en),
            first.valid.eq(self.valid),
            first.last.eq(self._each(m, "vector", vector, self.valid)),
            first.x.eq(self.x),
            second.en.eq(self.en),
            second.valid.eq(first.out_valid),
            second.last.eq(self._each(m, "block", block, first.out_valid)),
            self.out_valid.eq(second.out_valid),
            self.codes.eq(second.codes),
        ]
        for lane in range(params.hadamard.lanes):
            value = Value.cast(first.y[lane])
            if params.hadamard.arithmetic == "int":
                word = int_to_float32(m, value.as_signed(), f"y_{lane}")
            else:
                m.submodules[f"widen_{lane}"] = wider = Module()
                word = widen(wider, value, first.fp16)
            m.d.comb += second.x[lane].eq(word)
        if params.requant.spec.scale is not None:
            m.d.comb += self.scale.eq(second.scale)
        if params.requant.has_tensor_scale:
            m.d.comb += second.tensor_scale.eq(self._delayed_scale(m))
        return m

    def _each(self, m: Module, name: str, count: int, valid: Value) -> Value:
        """Mark every so many valid beats."""
        if count == 1:
            return valid
        position = Signal(range(count), name=f"{name}_position")
        with m.If(self.en & valid):
            m.d.sync += position.eq(Mux(position == count - 1, 0, position + 1))
        return position == count - 1

    def _delayed_scale(self, m: Module) -> Value:
        """Return the tensor scale of the transaction whose results the transform sends, from the first of them on."""
        there: Value = self.valid & self.last
        scale: Value = self.tensor_scale
        for stage in range(self.params.hadamard.datapath.latency):
            marks, words = Signal(name=f"scale_there_{stage}"), Signal(32, name=f"scale_{stage}")
            with m.If(self.en):
                m.d.sync += [marks.eq(there), words.eq(scale)]
            there, scale = marks, words
        kept = Signal(32, name="scale_kept")
        with m.If(self.en & there):
            m.d.sync += kept.eq(scale)
        return Mux(there, scale, kept)


class HadamardRequant(ElasticStream):
    """Walsh-Hadamard transform and requantisation behind one handshake.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports: see :class:`rtl.lib.elastic_stream.ElasticStream`; exactness and hardware: `RotatingEncoder`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, RotatingEncoder(params))


COMPONENT = HadamardRequant

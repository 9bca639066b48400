"""Wrap a core that streams vectors in stream ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Elaboratable, Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe._stream import StreamSpec


def fields_layout(fields: Sequence[tuple[str, int, int]]) -> data.StructLayout:
    """Return a payload of the fields (name, bits, count), least significant first; a count above one is an array."""
    return data.StructLayout(
        {name: data.ArrayLayout(unsigned(bits), count) if count > 1 else unsigned(bits) for name, bits, count in fields}
    )


class ElasticStream(wiring.Component):
    """A core with an enable, between a stream of beats and a stream of results.

    Parameters
    ----------
    spec : StreamSpec
        Fields of the streams.
    core : wiring.Component
        With ports ``en``, ``valid``, ``out_valid``, one named as each field of a beat and of a result.

    Ports
    -----
    i : In(stream.Signature(beat))
        Beats; ``last`` marks the last one of a transaction.
    o : Out(stream.Signature(result))

    Hardware
    --------
    The first result stands at the output ``spec.latency`` cycles after the last beat was taken, the others follow, if
    nothing stalls. One enable moves all stages: a result that nobody takes stops the pipeline as a whole, so
    ``i.ready`` equals the enable ``~o.valid | o.ready`` and depends on ``o.ready`` in the same cycle.
    :class:`hwsim.pe.timing.StallPipe` is the same rule in the model.
    """

    def __init__(self, spec: StreamSpec, core: Any) -> None:
        self.spec, self.core = spec, core
        super().__init__(
            {
                "i": In(stream.Signature(fields_layout(spec.layout()))),
                "o": Out(stream.Signature(fields_layout(spec.outputs))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.core = core = self.core
        m.d.comb += [
            core.en.eq(~self.o.valid | self.o.ready),
            core.valid.eq(self.i.valid),
            self.i.ready.eq(core.en),
            self.o.valid.eq(core.out_valid),
        ]
        # a single value is no array in the payload, but may be one in the core
        m.d.comb += [
            getattr(core, name).as_value().eq(self.i.payload[name])
            if hasattr(getattr(core, name), "as_value")
            else getattr(core, name).eq(self.i.payload[name])
            for name, _, _ in self.spec.layout()
        ]
        m.d.comb += [self.o.payload[name].eq(getattr(core, name)) for name, _, _ in self.spec.outputs]
        return m

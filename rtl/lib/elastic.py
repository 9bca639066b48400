"""Wrap the block dot product in streams."""

from __future__ import annotations

from typing import Protocol

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe._dot import DotSpec
from hwsim.pe.rounding import FLAG_BITS
from rtl.lib.beat import Laid, beat_layout
from rtl.lib.block_dot import BlockDot


class Wrapped(Laid, Protocol):
    """What the wrapper asks of a datapath."""

    @property
    def flags(self) -> bool:
        """Whether a result carries IEEE flags."""
        ...


class ElasticDot(wiring.Component):
    """Block dot product with a stream of beats in and a stream of FP32 results out.

    Parameters
    ----------
    spec : DotSpec or another datapath
        With a layout of beats, and whether there are flags; the default core takes a `DotSpec`.

    Ports
    -----
    i : In(stream.Signature(beat_layout(spec)))
        Beats; ``last`` marks the last one of a dot product.
    o : Out(stream.Signature(32))
        FP32 bits, one transfer a dot product; with ``spec.flags`` a struct of those, ``y``, and the IEEE ``flags``
        raised, 4 bits above them.

    Hardware
    --------
    A beat taken in cycle t with ``last`` stands at the output in cycle t + ``spec.latency``, if nothing stalls. One
    enable moves all stages: a result that nobody takes stops the pipeline as a whole, so ``i.ready`` equals the enable
    ``~o.valid | o.ready`` (and, in serial units, that the core is free) and depends on ``o.ready`` in the same cycle.
    :class:`hwsim.pe.timing.StallPipe` is the same rule in the model.
    """

    def __init__(self, spec: Wrapped) -> None:
        self.spec = spec
        result = data.StructLayout({"y": 32, "flags": FLAG_BITS}) if spec.flags else 32
        super().__init__({"i": In(stream.Signature(beat_layout(spec))), "o": Out(stream.Signature(result))})

    def core(self) -> wiring.Component:
        """Return what is wrapped."""
        assert isinstance(self.spec, DotSpec)
        return BlockDot(self.spec)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.core = core = self.core()
        m.d.comb += [
            core.en.eq(~self.o.valid | self.o.ready),
            core.valid.eq(self.i.valid),
            core.beat.eq(self.i.payload),
            self.i.ready.eq(core.en & core.ready),
            self.o.valid.eq(core.out_valid),
        ]
        if self.spec.flags:
            m.d.comb += [self.o.payload.y.eq(core.y), self.o.payload.flags.eq(core.flags)]
        else:
            m.d.comb += self.o.payload.eq(core.y)
        return m

"""Dot products whose beats take several cycles: what holds a beat while a unit's steps work it off."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.pe import _elements
from hwsim.pe._dot import DotSpec
from hwsim.pe._serial import SerialSpec
from rtl.lib.adder_tree import Tree
from rtl.lib.beat import LANE_FIELDS
from rtl.lib.block_dot import BlockDot
from rtl.lib.dot_spans import DotSpans
from rtl.lib.elastic import ElasticDot
from rtl.lib.element_decoder import decode_element
from rtl.lib.shapes import shape_of


class SerialSteps(wiring.Component):
    """Base of what a unit does with a beat: subclasses work it off, step by step.

    Parameters
    ----------
    spec : SerialSpec
        Datapath.

    Ports
    -----
    en : In(1)
        Move.
    load : In(1)
        A beat is taken in this cycle; its steps begin in the next.
    a_<lane>, b_<lane> : In
        Integers of the beat's elements, all through its steps.
    new_a_<lane>, new_b_<lane> : In
        Those of the beat that is taken, in the cycle of `load`.
    done : Out(1)
        This is the last step of the beat. Of no meaning between beats.
    total : Out
        With `done`, the exact sum of the beat's products.
    """

    def __init__(self, spec: SerialSpec) -> None:
        self.spec = spec
        self.sum_shape = shape_of(*DotSpans(spec).beat_sum)
        self.a_shape, self.b_shape = (shape_of(min(ints), max(ints)) for ints in (spec.a_ints, spec.b_ints))
        ports = {"en": In(1), "load": In(1), "done": Out(1), "total": Out(self.sum_shape)}
        for lane in range(spec.lanes):
            for prefix in ("", "new_"):
                ports |= {f"{prefix}a_{lane}": In(self.a_shape), f"{prefix}b_{lane}": In(self.b_shape)}
        super().__init__(ports)

    def side(self, name: str) -> list[Value]:
        """Return the integers of a side (``a``, ``b``, ``new_a``, ``new_b``), lane by lane."""
        return [getattr(self, f"{name}_{lane}") for lane in range(self.spec.lanes)]

    def counter(self, m: Module, steps: int) -> Signal:
        """Return the number of the step, from 0, of beats that take a fixed number; drives `done`."""
        count = Signal(range(max(steps, 2)), name="step")
        with m.If(self.en):
            m.d.sync += count.eq(Mux(self.load, 0, count + 1))
        m.d.comb += self.done.eq(count == steps - 1)
        return count

    def running(self, m: Module) -> Signal:
        """Return the sum of the steps before, 0 in the first one; drive `total` with what it becomes."""
        before = Signal(self.sum_shape, name="running")
        with m.If(self.en):
            m.d.sync += before.eq(Mux(self.load, 0, self.total))
        return before


class ElasticSerialDot(ElasticDot):
    """Wrap a `SerialDot` in streams, as :class:`rtl.lib.elastic.ElasticDot` wraps a `BlockDot`.

    Parameters
    ----------
    spec : SerialSpec
    steps : type of SerialSteps
    """

    def __init__(self, spec: DotSpec, steps: type[SerialSteps]) -> None:
        assert isinstance(spec, SerialSpec)
        self.serial, self.steps = spec, steps
        super().__init__(spec)

    def core(self) -> BlockDot:
        """Return what is wrapped."""
        return SerialDot(self.serial, self.steps)


class SerialDot(BlockDot):
    """Block dot product with a unit's `SerialSteps` in the place of its multipliers.

    Parameters
    ----------
    spec : SerialSpec
    steps : type of SerialSteps

    Hardware
    --------
    A beat waits in registers while its steps run; the next one is taken in the cycle of its last step. So a beat of c
    cycles that is taken in cycle t leaves its sum in cycle t + c, and everything behind is as in `BlockDot`.
    """

    def __init__(self, spec: SerialSpec, steps: type[SerialSteps]) -> None:
        super().__init__(spec)
        self.steps = steps

    def _front(self, m: Module) -> dict[str, Value]:
        spec, beat = self.spec, self.beat
        assert isinstance(spec, SerialSpec) and self.spans is not None
        m.submodules.steps = steps = self.steps(spec)
        busy = Signal()
        take = Signal()
        m.d.comb += [
            self.ready.eq(~busy | steps.done),
            take.eq(self.valid & self.ready),
            steps.en.eq(self.en),
            steps.load.eq(take),
        ]
        with m.If(self.en & self.ready):
            m.d.sync += busy.eq(take)

        taken: dict[str, Value] = {"block_end": self._block_end(m, take)}
        taken |= {name: Value.cast(beat[name]) for name, _, _ in spec.layout() if name not in LANE_FIELDS}
        for lane in range(spec.lanes):
            for side, element in (("a", spec.a_element), ("b", spec.b_element)):
                integer = decode_element(m, beat[side][lane], _elements.integers(element), f"{side}_{lane}")
                taken[f"{side}_{lane}"] = integer
        held = {name: Signal(value.shape(), name=f"held_{name}") for name, value in taken.items()}
        with m.If(self.en & take):
            m.d.sync += [register.eq(taken[name]) for name, register in held.items()]
        for lane in range(spec.lanes):
            for side in "ab":
                name = f"{side}_{lane}"
                m.d.comb += [
                    getattr(steps, name).eq(held[name]),
                    getattr(steps, f"new_{name}").eq(taken[name]),
                ]

        found: dict[str, Value] = {name: value for name, value in held.items() if not name[2:].isdigit()}
        found |= {"valid": busy & steps.done, "sum_0": steps.total}
        if spec.zero_bits:
            tree = Tree(m, spec.adder_tree, shape_of(*self.spans.beat_a_sum), "beat_a_sum")
            found["a_sum"] = tree.total([held[f"a_{lane}"] for lane in range(spec.lanes)])
        return found

"""Pairs of Booth terms, one a lane and cycle: the hardware of :mod:`hwsim.pe.laconic`."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value, signed

from hwsim.pe.laconic import LaconicSpec, Params
from rtl.lib.adder_tree import Tree
from rtl.lib.booth import booth_digit, booth_windows
from rtl.lib.lowest_one import lowest_one, place_of
from rtl.lib.serial_dot import ElasticSerialDot, SerialSteps


class LaconicSteps(SerialSteps):
    """A pair of terms of each lane that has one left; counts of each exponent, positive ones less negative ones."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self.spec
        assert isinstance(spec, LaconicSpec)
        lanes = [self._lane(m, lane, spec.exponents) for lane in range(spec.lanes)]
        counts: list[Value] = []
        shape = signed(spec.lanes.bit_length() + 1)
        for exponent in range(spec.exponents):
            terms = [Cat(here[exponent], here[exponent] & negative).as_signed() for here, negative, _ in lanes]
            counts.append(Tree(m, spec.adder_tree, shape, f"count_{exponent}").total(terms) << exponent)
        tree = Tree(m, spec.adder_tree, self.sum_shape, "aligned").total(counts)
        m.d.comb += [
            self.done.eq(~reduce(or_, [more for _, _, more in lanes])),
            self.total.eq(self.running(m) + tree),
        ]
        return m

    def _lane(self, m: Module, lane: int, exponents: int) -> tuple[Value, Value, Value]:
        """Return the exponent of the lane's pair, one-hot, or 0; whether it is negative; whether others are left."""
        masks: dict[str, Signal] = {}
        places, signs, rests, fresh, every = {}, {}, {}, {}, {}
        for side in "ab":
            windows = booth_windows(self.side(side)[lane])
            digits = [booth_digit(window) for window in windows]
            new = [booth_digit(window).one for window in booth_windows(self.side(f"new_{side}")[lane])]
            masks[side] = mask = Signal(len(digits), name=f"{side}_left_{lane}")
            now = lowest_one(m, mask, f"{side}_now_{lane}")
            rests[side], fresh[side] = mask & ~now, Cat(new)
            every[side] = Cat(digit.one for digit in digits)
            places[side] = Cat((now & Cat(digit.two for digit in digits)).any(), place_of(now))
            signs[side] = (now & Cat(digit.sign for digit in digits)).any()
        # the next term of A when those of B are through
        over = ~rests["b"].any()
        after = Signal.like(masks["a"], name=f"a_after_{lane}")
        m.d.comb += after.eq(Mux(over, rests["a"], masks["a"]))
        with m.If(self.en):
            m.d.sync += [
                masks["a"].eq(Mux(self.load, Mux(fresh["b"].any(), fresh["a"], 0), after)),
                masks["b"].eq(Mux(self.load, fresh["b"], Mux(over, every["b"], rests["b"]))),
            ]
        exponent = Signal(range(exponents), name=f"exponent_{lane}")
        m.d.comb += exponent.eq(places["a"] + places["b"])
        here = Signal(exponents, name=f"here_{lane}")
        m.d.comb += here.eq(masks["a"].any() << exponent)
        return here, signs["a"] ^ signs["b"], after.any()


class Laconic(ElasticSerialDot):
    """Integer products from pairs of Booth terms.

    Parameters
    ----------
    params : Params
        As for the model.

    Ports, exactness and hardware: see :class:`rtl.lib.elastic.ElasticDot` and `rtl.lib.serial_dot`.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        super().__init__(params.datapath, LaconicSteps)


COMPONENT = Laconic
